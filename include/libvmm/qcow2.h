/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file qcow2.h
 * QEMU's image format, versions 2 and 3 (QEMU, docs/interop/qcow2.txt), as a block device, and what
 * is done to images as a whole.
 *
 * An image is opened over a file of its own. Other files that it names (its backing file, an
 * external data file) are opened only when the caller asks for it, by flag or by giving them opened;
 * formats are named, never probed.
 *
 * Power cuts: at every instant the file is a consistent image, in which at most space is lost (clusters
 * that are counted and not used), and every byte that a flush has confirmed is there.
 *
 * All calls on the loop's thread, and not from a request's `done`. They may block for as long as the
 * disk takes, and wait for requests under way.
 */
#ifndef LIBVMM_QCOW2_H
#define LIBVMM_QCOW2_H

#include <libvmm/block.h>

VMM_BEGIN_DECLS

/* Opening ------------------------------------------------------------------------------------- */

#define VMM_QCOW2_READ_ONLY 0x1u
/** Open the backing file and the data file that the image names. Relative names count from the folder
 *  of the image. Names of protocols ("nbd:", "json:") are refused. */
#define VMM_QCOW2_FOLLOW 0x2u
/** Open neither: for information, check and snapshots. Requests are -ENOTSUP where they would need
 *  the other file. */
#define VMM_QCOW2_ALONE 0x4u
/** Open for vmm_qcow2_check(): also what is marked corrupt, and without repairing it first. The
 *  image's requests are refused. */
#define VMM_QCOW2_CHECK 0x8u
/** Open the backing file for writing: for vmm_qcow2_commit(). */
#define VMM_QCOW2_WRITE_BACKING 0x10u

/** The most images in a chain, where the options do not say. */
#define VMM_QCOW2_CHAIN_LIMIT 32u

struct vmm_qcow2_options {
    size_t size;
    const char *path; /**< the image; with `file`, what relative names count from (may be NULL) */
    struct vmm_block *file;      /**< the image's bytes; held. NULL: `path` is opened */
    struct vmm_block *backing;   /**< in place of the backing file it names; held. May be NULL */
    struct vmm_block *data_file; /**< in place of the data file it names; held. May be NULL */
    /** "raw" or "qcow2": the backing file's format. NULL: what the image says; it is -EINVAL where
     *  the image does not. Holds for this image's backing file only. */
    const char *backing_format;
    const char
        *snapshot;       /**< an internal snapshot's name or id: its contents, read-only. Or NULL */
    uint64_t cache_size; /**< bytes of tables kept in memory, at least 64 KiB; 0: 16 MiB at most */
    uint32_t flags;      /**< VMM_QCOW2_… */
    uint32_t threads;    /**< for every file that is opened by name: see vmm_block_raw_options */
    uint32_t chain_limit; /**< images in the chain with this one; 0: VMM_QCOW2_CHAIN_LIMIT */
    uint32_t reserved;
};
#define VMM_QCOW2_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_qcow2_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                          \
    }

/**
 * Open an image. One that was not closed cleanly with lazy refcounts has them counted anew first when
 * it is opened for writing.
 * Errors: -EINVAL the file is not such an image, or damaged in its header; -ENOTSUP encryption, a
 * feature that is not known, or a compression this library was built without; -EPERM it names
 * another file and neither VMM_QCOW2_FOLLOW nor that file was given; -ELOOP the chain is too long or
 * comes back to itself; -EBUSY in use; -EROFS marked corrupt, so only for reading; what the host said.
 */
VMM_API int vmm_block_qcow2_new(struct vmm_loop *loop, const struct vmm_qcow2_options *options,
                                struct vmm_block **out, struct vmm_error *err);

/* Making -------------------------------------------------------------------------------------- */

#define VMM_QCOW2_ZLIB 0u
#define VMM_QCOW2_ZSTD 1u

/** Clusters in 32 parts that are allocated one by one; clusters of 16 KiB or more, version 3. */
#define VMM_QCOW2_EXTENDED_L2 0x1u
/** Refcounts are written when the image is closed; after a crash they are counted anew. Version 3. */
#define VMM_QCOW2_LAZY_REFCOUNTS 0x2u
/** The data file is a raw image of the disk at every instant. With `data_file`. */
#define VMM_QCOW2_DATA_FILE_RAW 0x4u

struct vmm_qcow2_create_options {
    size_t size;
    uint64_t length;        /**< of the disk in bytes: a multiple of 512, not 0 */
    uint32_t version;       /**< 2 or 3; 0: 3 */
    uint32_t cluster_size;  /**< 512 to 2 MiB, a power of two; 0: 64 KiB */
    uint32_t refcount_bits; /**< 1, 2, 4, … 64; 0: 16; version 2 has 16 */
    uint32_t compression;   /**< VMM_QCOW2_ZLIB, VMM_QCOW2_ZSTD (version 3) */
    uint32_t flags;         /**< VMM_QCOW2_EXTENDED_L2, … */
    uint32_t reserved;
    const char *backing;        /**< the backing file's name as it shall be in the image, or NULL */
    const char *backing_format; /**< with `backing`, always */
    const char
        *data_file; /**< the data file's name as it shall be in the image, or NULL; made where
                                it does not exist */
    struct vmm_block *file; /**< write the image here, from the begin; `path` may be NULL then */
};
#define VMM_QCOW2_CREATE_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_qcow2_create_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                   \
    }

/** Make an image and flush it. The file must not exist. Errors: -EEXIST, -EINVAL, -E2BIG, -EFBIG
 *  (not possible with clusters of that size), what the host said. */
VMM_API int vmm_qcow2_create(struct vmm_loop *loop, const char *path,
                             const struct vmm_qcow2_create_options *options, struct vmm_error *err);

struct vmm_qcow2_info {
    size_t size;
    uint64_t length; /**< of the disk */
    uint32_t version;
    uint32_t cluster_size;
    uint32_t refcount_bits;
    uint32_t compression; /**< VMM_QCOW2_ZLIB, VMM_QCOW2_ZSTD */
    uint32_t flags;       /**< VMM_QCOW2_EXTENDED_L2, … */
    uint32_t snapshots;
    uint32_t dirty;     /**< not closed cleanly: its clusters are counted anew when it is written */
    uint32_t corrupt;   /**< marked as damaged */
    char backing[1024]; /**< as it is in the image; "": none */
    char backing_format[32];
    char data_file[1024];
};
#define VMM_QCOW2_INFO_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_qcow2_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0},                        \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/** What an image's header says. -ENOTSUP: not a qcow2 image's block device. */
VMM_API int vmm_qcow2_get_info(struct vmm_block *block, struct vmm_qcow2_info *info);

/* Chains -------------------------------------------------------------------------------------- */

/**
 * Put all that the image holds into its backing file, which becomes as long as the image where it is
 * shorter, and empty the image. The backing file must have been opened for writing
 * (VMM_QCOW2_WRITE_BACKING, or given so): -EACCES. -ENOENT: there is none. When it fails nothing is
 * lost: it can be done again.
 */
VMM_API int vmm_qcow2_commit(struct vmm_block *block, struct vmm_error *err);

struct vmm_qcow2_rebase_options {
    size_t size;
    const char *backing; /**< the new name as it shall be in the image; NULL: none from now on */
    const char *backing_format; /**< with `backing`, always */
    struct vmm_block *file;     /**< the new backing file, opened; held. With `backing` */
    /** Non-zero: change the name only. For a file that was moved or replaced by an equal one; else the
     *  disk's contents change. */
    uint32_t only_name;
    uint32_t reserved;
};
#define VMM_QCOW2_REBASE_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_qcow2_rebase_options), 0, 0, 0, 0, 0                                     \
    }

/** Give the image another backing file, or none: what differs is copied into the image first. -ENOSPC:
 *  the name does not fit in the first cluster. */
VMM_API int vmm_qcow2_rebase(struct vmm_block *block,
                             const struct vmm_qcow2_rebase_options *options, struct vmm_error *err);

/* Checking ------------------------------------------------------------------------------------ */

#define VMM_QCOW2_REPAIR_LEAKS  0x1u /**< give back clusters that are counted and not used */
#define VMM_QCOW2_REPAIR_ERRORS 0x2u /**< all else; table entries that point nowhere are emptied */

struct vmm_qcow2_check_result {
    size_t size;
    uint64_t
        errors; /**< what can cost data, or has: counts too low, entries that point nowhere, … */
    uint64_t leaks; /**< clusters that are counted more often than used: lost space, harmless */
    /** Clusters used once that are not marked so: harmless, they are copied when written. */
    uint64_t unmarked;
    uint64_t repaired;      /**< of all these */
    uint64_t clusters;      /**< in the file */
    uint64_t used_clusters; /**< of those */
    uint64_t data_clusters; /**< of the disk that are in the image, compressed ones too */
    uint64_t compressed_clusters;
};
#define VMM_QCOW2_CHECK_RESULT_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_qcow2_check_result), 0, 0, 0, 0, 0, 0, 0, 0                              \
    }

/**
 * Count every reference and compare; repair what `repair` (VMM_QCOW2_REPAIR_…) allows. An image that is
 * damaged, or was not closed cleanly, is opened with VMM_QCOW2_CHECK for this, and opened anew behind
 * it. Returns 0 where the check was done, whatever it found; -EFBIG the image is too large or too
 * entangled to be checked (2^28 clusters); -EACCES a repair of a read-only one; -ENOTSUP not a qcow2
 * image.
 */
VMM_API int vmm_qcow2_check(struct vmm_block *block, uint32_t repair,
                            struct vmm_qcow2_check_result *result, struct vmm_error *err);

/* Internal snapshots -------------------------------------------------------------------------- */

struct vmm_qcow2_snapshot {
    size_t size;
    uint64_t length;        /**< of the disk then, in bytes */
    uint64_t time_ns;       /**< when it was taken: since 1970 */
    uint64_t guest_time_ns; /**< how long the guest had run */
    uint64_t vm_state_size; /**< bytes that another program has put behind the disk; 0: none */
    char id[64];            /**< unique; cut off where longer, as the name */
    char name[256];
};
#define VMM_QCOW2_SNAPSHOT_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_qcow2_snapshot), 0, 0, 0, 0, {0},                                        \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/** How many there are; -ENOTSUP: not a qcow2 image's block device. */
VMM_API int vmm_qcow2_snapshot_count(struct vmm_block *block);
/** The one at `index`, in the order of their making. -ENOENT. */
VMM_API int vmm_qcow2_snapshot_get(struct vmm_block *block, uint32_t index,
                                   struct vmm_qcow2_snapshot *snapshot);
/* The next three take a name or an id (a name goes first), and are -EACCES on a read-only image,
 * -ENOTSUP with a data file. When they fail the disk is as before, or -EIO for good. */
/** Keep the disk's contents under a new name (1 to 255 bytes). -EEXIST; -EMLINK: refcounts are too
 *  narrow; -E2BIG: 65536 are there. */
VMM_API int vmm_qcow2_snapshot_create(struct vmm_block *block, const char *name,
                                      struct vmm_error *err);
/** Make the disk what it was; what it is now is lost. Its length may change. -ENOENT. */
VMM_API int vmm_qcow2_snapshot_revert(struct vmm_block *block, const char *name,
                                      struct vmm_error *err);
/** -ENOENT. */
VMM_API int vmm_qcow2_snapshot_delete(struct vmm_block *block, const char *name,
                                      struct vmm_error *err);

VMM_END_DECLS

#endif
