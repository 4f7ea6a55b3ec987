/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file block.h
 * Disks, the host's side: one asynchronous interface over files, images, networks and filters.
 * They know nothing of guests.
 *
 * A block device belongs to one event loop. Requests are submitted and completed on that loop's
 * thread, so a format driver needs no lock. A request is memory of the caller's: it stays valid
 * until its `done` has been called, exactly once, and never from inside vmm_block_submit().
 *
 * Order: requests complete in any order. A flush makes durable every write that completed before the
 * flush was submitted. After a flush has failed, every later flush fails too until the device is
 * opened anew: a write is never reported durable that is not (the fsync lesson).
 */
#ifndef LIBVMM_BLOCK_H
#define LIBVMM_BLOCK_H

#include <libvmm/loop.h>

#include <sys/uio.h>

VMM_BEGIN_DECLS

struct vmm_block;

#define VMM_BLOCK_READ         0u
#define VMM_BLOCK_WRITE        1u
#define VMM_BLOCK_FLUSH        2u
#define VMM_BLOCK_DISCARD      3u /**< the contents are not needed any more; reads may give anything */
#define VMM_BLOCK_WRITE_ZEROES 4u

#define VMM_BLOCK_FUA       0x1u /**< write: durable when done */
#define VMM_BLOCK_MAY_UNMAP 0x2u /**< write zeroes: giving the space back is fine */

struct vmm_block_request {
    uint32_t op;                /**< VMM_BLOCK_… */
    uint32_t flags;             /**< VMM_BLOCK_FUA, … */
    uint64_t offset;            /**< bytes; a multiple of the device's block_size */
    uint64_t length;            /**< bytes; the same; the sum of the vector for read and write */
    const struct iovec *vector; /**< read, write; stays the caller's until done */
    size_t vector_count;
    /** `result`: 0, or a negative errno (-EIO, -ENOSPC, -EINVAL, -EACCES read-only, -ECANCELED). All
     *  of the request was done, or an unknown part of it. */
    void (*done)(struct vmm_block_request *request, int result);
    void *ctx;            /**< the caller's */
    uint64_t reserved[8]; /**< the device's, while under way */
};

struct vmm_block_info {
    size_t size;
    uint64_t length;            /**< bytes the guest sees */
    uint64_t allocated;         /**< bytes taken on the host, where known; else 0 */
    uint32_t block_size;        /**< the least unit of a request: 512 or 4096 */
    uint32_t optimal_size;      /**< the best unit: the cluster or stripe; 0: not known */
    uint32_t discard_alignment; /**< 0: discards are ignored */
    uint32_t read_only;
    uint32_t zero_is_cheap; /**< writing zeroes does not write data */
    uint32_t reserved;
    char format[16]; /**< "raw", "qcow2", … */
};
#define VMM_BLOCK_INFO_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_block_info), 0, 0, 0, 0, 0, 0, 0, 0,                                     \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

#define VMM_BLOCK_DATA       0x1u /**< allocated, holds data */
#define VMM_BLOCK_ZERO       0x2u /**< reads as zeroes */
#define VMM_BLOCK_BACKING    0x4u /**< not in this image: the backing one answers */
#define VMM_BLOCK_COMPRESSED 0x8u

struct vmm_block_extent {
    uint64_t offset, length; /**< of what the guest sees */
    uint32_t state;          /**< VMM_BLOCK_DATA, … */
    uint32_t reserved;
    uint64_t host_offset; /**< in the image file, for uncompressed data; else 0 */
};

/** A driver: the built-in ones and an embedder's own. All calls on the loop's thread. */
struct vmm_block_ops {
    size_t size;
    /** Begin the request (checked already: range, alignment, read-only, vector length). Complete it
     *  with vmm_block_complete(), now or later. */
    void (*submit)(void *ctx, struct vmm_block_request *request);
    /** Fill in `info`, whose size is set. */
    int (*info)(void *ctx, struct vmm_block_info *info);
    /** What is at `offset` and how far the same holds (at most `length`). NULL: all is data. */
    int (*extent)(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *extent);
    /** Change the length. No request is under way. NULL: -ENOTSUP. */
    int (*resize)(void *ctx, uint64_t length, struct vmm_error *err);
    /** Try to end a request early; it still completes by itself. May be NULL. */
    void (*cancel)(void *ctx, struct vmm_block_request *request);
    /** No request is under way. Write back and free. */
    void (*destroy)(void *ctx);
    /** Wait until nothing touches the vector of a request any more (it may still have to complete).
     *  From any thread. NULL: nothing does once `submit` has returned. */
    void (*quiesce)(void *ctx);
    /** Complete what is finished, without the loop's help. NULL: nothing waits for it. */
    void (*reap)(void *ctx);
    /** Bring every request under way nearer to its end, without the loop's help; called until none is
     *  left. For drivers that have to do more than wait. NULL: `quiesce`, then `reap`. */
    void (*drain)(void *ctx);
    /** More requests follow (1): they may be begun together. No more (0): begin them. May be NULL. */
    void (*plug)(void *ctx, uint32_t on);
};

VMM_API int vmm_block_new(struct vmm_loop *loop, const struct vmm_block_ops *ops, void *ctx,
                          struct vmm_block **out);
VMM_API struct vmm_block *vmm_block_ref(struct vmm_block *block);
/** The last reference waits for requests under way, by dispatching nothing: the caller has seen
 *  them done. On the loop's thread. */
VMM_API struct vmm_block *vmm_block_unref(struct vmm_block *block);
VMM_API struct vmm_loop *vmm_block_loop(const struct vmm_block *block);

/** Begin a request. Errors of any kind come by `done`. On the loop's thread. */
VMM_API void vmm_block_submit(struct vmm_block *block, struct vmm_block_request *request);
/** Between the two, requests may be collected, to be begun together. They nest. On the loop's thread.
 *  What is submitted from `done` is collected by itself. */
VMM_API void vmm_block_plug(struct vmm_block *block);
VMM_API void vmm_block_unplug(struct vmm_block *block);
VMM_API void vmm_block_cancel(struct vmm_block *block, struct vmm_block_request *request);
/** For drivers: the request is finished. `done` is called by the loop, soon, in order. */
VMM_API void vmm_block_complete(struct vmm_block *block, struct vmm_block_request *request,
                                int result);
/** For drivers: the same, without waking the loop. vmm_block_deliver() follows in the same callback, or
 *  the call comes from `reap` or `drain`. Spares a timer where requests finish in a callback anyway. */
VMM_API void vmm_block_collect(struct vmm_block *block, struct vmm_block_request *request,
                               int result);
/** For drivers: call `done` of what is finished now. From a callback of the loop, never from inside
 *  `submit`, `plug` or `drain`. */
VMM_API void vmm_block_deliver(struct vmm_block *block);
/** Wait until nothing touches the vector of any request any more; they are not done by that. For a
 *  device that is reset. Thread-safe; nothing may be submitted meanwhile. May block for as long as
 *  the host's disk takes. */
VMM_API void vmm_block_quiesce(struct vmm_block *block);
/** Wait until all requests are done, without the loop. On its thread, not from `done`. */
VMM_API void vmm_block_drain(struct vmm_block *block);
/** Requests submitted and not done. */
VMM_API uint32_t vmm_block_in_flight(const struct vmm_block *block);

VMM_API int vmm_block_get_info(struct vmm_block *block, struct vmm_block_info *info);
VMM_API int vmm_block_extent_at(struct vmm_block *block, uint64_t offset, uint64_t length,
                                struct vmm_block_extent *extent);
VMM_API int vmm_block_resize(struct vmm_block *block, uint64_t length, struct vmm_error *err);

/* For tools and tests: submit and dispatch the loop until it is done. Not from a callback. */
VMM_API int vmm_block_read(struct vmm_block *block, uint64_t offset, void *data, size_t length);
VMM_API int vmm_block_write(struct vmm_block *block, uint64_t offset, const void *data,
                            size_t length);
VMM_API int vmm_block_flush(struct vmm_block *block);
/** VMM_BLOCK_DISCARD and VMM_BLOCK_WRITE_ZEROES. */
VMM_API int vmm_block_range(struct vmm_block *block, uint32_t op, uint32_t flags, uint64_t offset,
                            uint64_t length);

/* Raw images ---------------------------------------------------------------------------------- */

#define VMM_BLOCK_ENGINE_AUTO     0u /**< io_uring where the host has it, else threads */
#define VMM_BLOCK_ENGINE_IO_URING 1u /**< -ENOTSUP where the library or the host lacks it */
#define VMM_BLOCK_ENGINE_THREADS  2u

#define VMM_BLOCK_CACHE_WRITEBACK 0u /**< the host's page cache; flushes reach the disk */
#define VMM_BLOCK_CACHE_NONE      1u /**< direct I/O, past the page cache */
#define VMM_BLOCK_CACHE_UNSAFE    2u /**< flushes and FUA do nothing: for data that may be lost */

struct vmm_block_raw_options {
    size_t size;
    const char *path;   /**< a file or a block device */
    int32_t fd;         /**< where `path` is NULL; duplicated */
    uint32_t read_only; /**< non-zero: never written */
    /** That carry out requests where io_uring does not, at most 64; 0: the loop's own thread. */
    uint32_t threads;
    uint32_t engine; /**< VMM_BLOCK_ENGINE_… */
    /** VMM_BLOCK_CACHE_…. NONE: requests that the host cannot do directly (memory or offset not aligned
     *  as its disk wants) go through the page cache; -EINVAL where the file system has no direct I/O. */
    uint32_t cache;
    uint32_t unlocked; /**< non-zero: take no locks; the caller keeps other writers away */
};
#define VMM_BLOCK_RAW_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_block_raw_options), 0, -1, 0, 0, 0, 0, 0                                 \
    }

/** A file whose bytes are the disk's. The image is locked as QEMU does it, so that one of ours or of
 *  QEMU's refuses to open (-EBUSY) what another writes; readers go together. -EINVAL: its length is
 *  zero or not a multiple of 512; -EACCES, -ENOENT, what the host said else. With io_uring the kernel
 *  cancels what is under way when the thread that submitted it ends (-ECANCELED). */
VMM_API int vmm_block_raw_new(struct vmm_loop *loop, const struct vmm_block_raw_options *options,
                              struct vmm_block **out, struct vmm_error *err);
/** What carries out its requests: VMM_BLOCK_ENGINE_IO_URING or _THREADS (with none: the loop's own).
 *  -EINVAL: not a raw image. */
VMM_API int vmm_block_raw_engine(const struct vmm_block *block);

VMM_END_DECLS

#endif
