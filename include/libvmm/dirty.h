/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file dirty.h
 * Which pages of guest memory were written: by the guest, by KVM, by the VMM and its devices.
 *
 * A consumer sees each page that was written since it last asked; several consumers (a display, a
 * migration) do not disturb each other. The guest's writes come from KVM's log, a bitmap for each
 * slot or, where it was enabled, a ring for each vCPU; writes by memory.h are noted by the library.
 * Somebody who writes by a pointer of their own (vhost, another process) says so with
 * vmm_memory_mark_dirty(). Logging costs the guest a fault for each page and harvest, and only
 * where there is a consumer. Pages are the host's (4 KiB on x86).
 *
 * No write is ever missed, but a page may be reported that did not change: after changes of the map
 * that make KVM drop a log, all pages of that part are.
 */
#ifndef LIBVMM_DIRTY_H
#define LIBVMM_DIRTY_H

#include <libvmm/memory.h>

VMM_BEGIN_DECLS

struct vmm_dirty_consumer;

/** Consumers of one backing at most. */
#define VMM_DIRTY_CONSUMERS_MAX 16u

/**
 * Watch a region, or with NULL all memory of the map: regions that are added later are watched from
 * then on and begin as written to. An alias is its part of the target, as it was made. Everything
 * written after the return of this call is seen. Waits for accesses under way: not from inside
 * vmm_memory_foreach(). Not inside a transaction (-EBUSY). Thread-safe.
 * -ENOSPC: VMM_DIRTY_CONSUMERS_MAX are there; -EINVAL: a hole; -ENOMEM; what KVM said.
 */
VMM_API int vmm_dirty_consumer_new(struct vmm_memory *memory, struct vmm_memory_region *region,
                                   struct vmm_dirty_consumer **out, struct vmm_error *err);
/** Stop watching. NULL is fine; returns NULL. Not while it is harvested. */
VMM_API struct vmm_dirty_consumer *vmm_dirty_consumer_free(struct vmm_dirty_consumer *consumer);

struct vmm_dirty_range {
    size_t size;
    struct vmm_memory_region *region; /**< never an alias or a hole. Valid during the call */
    uint64_t offset;                  /**< in the region */
    uint64_t length;                  /**< whole pages */
    uint64_t address;                 /**< where the guest sees it (of aliases the lowest), or
                                           UINT64_MAX: nowhere now */
};

/**
 * Take all pages that were written since the last time. `fn` is called for each range, as long as
 * it returns 0; ranges not reported stay for the next time. Read the memory inside `fn` or after:
 * what is written from now on is reported again. Pages held by vmm_memory_map() for writing are
 * reported after their release. Blocks for KVM's calls. One thread a consumer at a time; map
 * changes and other consumers go on meanwhile.
 * 0, what `fn` returned, or a negative errno.
 */
VMM_API int vmm_dirty_harvest(struct vmm_dirty_consumer *consumer,
                              int (*fn)(void *ctx, const struct vmm_dirty_range *range), void *ctx);
/** How many times it was harvested. */
VMM_API uint64_t vmm_dirty_generation(const struct vmm_dirty_consumer *consumer);

/** Take over what KVM has logged without reporting it: after VMM_EXIT_DIRTY_RING, or so that a ring
 *  does not fill. Thread-safe. */
VMM_API int vmm_dirty_sync(struct vmm_memory *memory);

/** Note a write that was made by other means. -EFAULT: not all of it memory. Thread-safe. */
VMM_API int vmm_memory_mark_dirty(struct vmm_memory *memory, uint64_t address, uint64_t length);

/**
 * Use KVM's dirty ring, one for each vCPU, instead of its bitmaps: the cost follows the pages
 * written, not the size of memory. Before the first vCPU and consumer.
 * @param entries  of each ring: a power of two; 0: 4096. Full rings stop the vCPU with
 *                 VMM_EXIT_DIRTY_RING.
 * -EOPNOTSUPP: the host has none; -EBUSY: too late; -EINVAL.
 */
VMM_API int vmm_dirty_ring_enable(struct vmm_memory *memory, uint32_t entries,
                                  struct vmm_error *err);
/** The number of entries, 0: KVM's bitmaps are used. */
VMM_API uint32_t vmm_dirty_ring_entries(const struct vmm_memory *memory);
/** Have the ring of a vCPU harvested; vmm_vcpu_new() does so. For embedders who make vCPUs
 *  themselves. 0 where rings are not used. */
VMM_API int vmm_dirty_ring_attach(struct vmm_memory *memory, int vcpu_fd, struct vmm_error *err);
/** Take over what is left in it and forget it, before the vCPU goes. */
VMM_API void vmm_dirty_ring_detach(struct vmm_memory *memory, int vcpu_fd);

struct vmm_dirty_stats {
    size_t size;
    uint64_t syncs;        /**< times that KVM's log was taken over */
    uint64_t kvm_pages;    /**< pages that were in it */
    uint64_t ring_entries; /**< those that came by rings */
};
#define VMM_DIRTY_STATS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_dirty_stats), 0, 0, 0                                                    \
    }
/** Thread-safe. */
VMM_API int vmm_dirty_get_stats(struct vmm_memory *memory, struct vmm_dirty_stats *stats);

VMM_END_DECLS

#endif
