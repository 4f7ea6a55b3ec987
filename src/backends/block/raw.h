/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw images: what opening (raw.c), the work itself (raw_io.c) and the two engines share. */
#ifndef BACKENDS_BLOCK_RAW_H
#define BACKENDS_BLOCK_RAW_H

#include "backends/block/block-driver.h"

#include <pthread.h>
#include <stdatomic.h>

#define VMM_RAW_THREADS_MAX 64u
#define VMM_RAW_VECTOR_MAX  1024u /* entries that the kernel takes at a time */

/* An engine's words in a request under way. */
#define VMM_RAW_WORD_RESULT 3
#define VMM_RAW_WORD_DONE   4 /* bytes that have been transferred */
#define VMM_RAW_WORD_STAGE  5
#define VMM_RAW_WORD_PIECE  6 /* and 7: an iovec */

struct vmm_raw_uring;

struct vmm_raw {
    struct vmm_block *block;
    int fd;        /* what requests use: with O_DIRECT where that was asked for */
    int cached_fd; /* -1, or the same file without, for requests that are not aligned */
    uint32_t memory_align, offset_align; /* of direct I/O; 1: any */
    bool read_only, block_device, unsafe, locked;
    _Atomic bool flush_failed;
    int event_fd;
    struct vmm_source *source;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work, idle;
    struct vmm_block_list waiting, finished;
    uint32_t busy; /* waiting or being carried out */
    bool ending;
    uint32_t thread_count;
    pthread_t threads[VMM_RAW_THREADS_MAX];
    struct vmm_raw_uring *uring; /* NULL: threads, or none */
};

/* raw_io.c: one step, on the caller's thread -------------------------------------------------- */

/* Where the request stands after `done` bytes: the vector's rest, its first entry cut in `piece`
 * where a transfer ended inside. */
struct vmm_raw_rest {
    const struct iovec *vector;
    uint32_t count;
};
struct vmm_raw_rest vmm_raw_rest(const struct vmm_block_request *request, uint64_t done,
                                 struct iovec *piece);
/* The descriptor for a request: fd or cached_fd. */
int vmm_raw_fd_for(const struct vmm_raw *raw, const struct vmm_block_request *request);
/* The mode of fallocate() for a discard or a write of zeroes. */
int vmm_raw_fallocate_mode(const struct vmm_block_request *request);
/* Does this result of fallocate() mean that the file system cannot? */
bool vmm_raw_cannot_fallocate(int result);
/* Zeroes to write where it cannot. */
struct iovec vmm_raw_zeroes(uint64_t length);
/* A write that must be durable has failed: may later flushes be believed? */
void vmm_raw_note_failure(struct vmm_raw *raw, const struct vmm_block_request *request, int result);
/* All of the request, blocking. 0 or a negative errno. */
int vmm_raw_carry_out(struct vmm_raw *raw, const struct vmm_block_request *request);

/* raw_lock.c: QEMU's image locks --------------------------------------------------------------- */

/* -EBUSY: another program or device has it. 0 also where the file system knows no locks. */
int vmm_raw_lock(int fd, bool read_only);
void vmm_raw_unlock(int fd);

/* raw_uring.c: requests by io_uring ------------------------------------------------------------ */

/* -ENOTSUP and others: use something else. */
int vmm_raw_uring_new(struct vmm_raw *raw, struct vmm_loop *loop);
void vmm_raw_uring_free(struct vmm_raw *raw);
void vmm_raw_uring_submit(struct vmm_raw *raw, struct vmm_block_request *request);
void vmm_raw_uring_plug(struct vmm_raw *raw, bool on);
void vmm_raw_uring_cancel(struct vmm_raw *raw, struct vmm_block_request *request);
/* From any thread: wait for all that is under way; it stands in raw->finished then. */
void vmm_raw_uring_quiesce(struct vmm_raw *raw);
void vmm_raw_uring_reap(struct vmm_raw *raw);

#endif
