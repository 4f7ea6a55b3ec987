/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file backing.h
 * What guest memory is made of on the host: anonymous pages, a memfd, a file, the caller's own.
 *
 * A backing becomes visible to a guest when a region of the map (memory.h) uses it. One backing may
 * serve several regions, also of several VMs. All functions are thread-safe.
 *
 * Memory that the library maps has inaccessible pages before and after it, and is aligned so that
 * the host can use huge pages. A file that is cut short while it is mapped makes the process fault
 * (SIGBUS) when those pages are used: seal memfds, and do not hand out files that others may cut.
 */
#ifndef LIBVMM_BACKING_H
#define LIBVMM_BACKING_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_backing;

#define VMM_BACKING_ANONYMOUS 0u /**< private anonymous memory */
#define VMM_BACKING_MEMFD     1u /**< a memfd of its own, to be shared with other processes */
#define VMM_BACKING_FILE      2u /**< the file at `path` */
#define VMM_BACKING_FD        3u /**< the caller's descriptor, which is duplicated */
#define VMM_BACKING_HOST      4u /**< the caller's own mapping at `host` */

/* Flags */
#define VMM_BACKING_SHARED    (1u << 0) /**< FILE, FD: writes reach the file; else copy on write */
#define VMM_BACKING_READ_ONLY (1u << 1) /**< FILE, FD, HOST: never written; for ROM only */
#define VMM_BACKING_THP       (1u << 2) /**< ask for transparent huge pages */
#define VMM_BACKING_NO_THP    (1u << 3) /**< refuse them */
#define VMM_BACKING_SEAL      (1u << 4) /**< MEMFD: its size can never change again */
#define VMM_BACKING_RESERVE   (1u << 5) /**< count against the host's commit limit */
#define VMM_BACKING_NO_DUMP   (1u << 6) /**< keep out of core dumps */
#define VMM_BACKING_MERGE     (1u << 7) /**< let the kernel merge equal pages (KSM) */

/* How `numa_nodes` is meant. */
#define VMM_NUMA_BIND       0u /**< only from these nodes */
#define VMM_NUMA_PREFERRED  1u /**< from the lowest of these if it has room */
#define VMM_NUMA_INTERLEAVE 2u /**< page by page from each */

struct vmm_backing_options {
    size_t size;
    uint32_t kind;    /**< VMM_BACKING_ANONYMOUS, … */
    uint32_t flags;   /**< VMM_BACKING_SHARED, … */
    uint64_t length;  /**< bytes; a multiple of the page size */
    const char *name; /**< MEMFD: its name in /proc; NULL: "vmm" */
    const char *path; /**< FILE */
    int32_t fd;       /**< FD */
    uint32_t numa_policy;
    uint64_t offset;     /**< FILE, FD: where in the file; a multiple of the page size */
    uint64_t page_size;  /**< ANONYMOUS, MEMFD: 2 MiB or 1 GiB for hugetlb pages; 0: usual pages */
    uint64_t numa_nodes; /**< a bit a node; 0: wherever the host likes */
    void *host;          /**< HOST */
    /** Called when the last user is gone and the memory is no longer touched (any thread; HOST: it
     *  may be unmapped now). May be NULL. */
    void (*release)(void *ctx);
    void *ctx;
};
#define VMM_BACKING_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_backing_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                  \
    }

/**
 * Make a backing. Nothing is touched: pages appear when they are used. Errors with a text: -EINVAL
 * (length, alignment, flags that do not go together), -ENOMEM (also: too few huge pages), -ENOENT,
 * -EACCES, -ENXIO (the file ends before offset + length), what the host said else.
 * `release` is not called when this fails.
 */
VMM_API int vmm_backing_new(const struct vmm_backing_options *options, struct vmm_backing **out,
                            struct vmm_error *err);
VMM_API struct vmm_backing *vmm_backing_ref(struct vmm_backing *backing);
VMM_API struct vmm_backing *vmm_backing_unref(struct vmm_backing *backing);
VMM_API uint64_t vmm_backing_length(const struct vmm_backing *backing);
/** The size of the host's pages in it: the usual one, or that of hugetlb. */
VMM_API uint64_t vmm_backing_page_size(const struct vmm_backing *backing);
/** The descriptor to share it by, owned by the backing, and where it begins in it; -1: none. */
VMM_API int vmm_backing_fd(const struct vmm_backing *backing, uint64_t *offset);

/**
 * Have the host allocate the pages now. May block for long.
 * @param threads   how many to use; 0 and 1: the caller's own, no other is started
 * @param progress  NULL, or called now and then on the caller's thread with the bytes done and the
 *                  total; a non-zero return cancels (-ECANCELED)
 * -EINVAL: not a page-aligned part of it; -ENOMEM: the host has no more.
 */
VMM_API int vmm_backing_prefault(struct vmm_backing *backing, uint64_t offset, uint64_t length,
                                 uint32_t threads,
                                 int (*progress)(void *ctx, uint64_t done, uint64_t total),
                                 void *ctx);
/**
 * Give pages back to the host; their content is then zeros (private files: the file's). A hole is
 * punched where the memory is a file. Pages that are only partly in the range are kept.
 * -EINVAL: outside of the backing; -EROFS.
 */
VMM_API int vmm_backing_discard(struct vmm_backing *backing, uint64_t offset, uint64_t length);
/** Bytes of it that are in the host's memory now (mincore). */
VMM_API int vmm_backing_resident(const struct vmm_backing *backing, uint64_t *bytes);

VMM_END_DECLS

#endif
