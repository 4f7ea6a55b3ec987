/* SPDX-License-Identifier: BSD-3-Clause */
/* A place on a bus, and one access to it. */
#ifndef BUS_REGION_H
#define BUS_REGION_H

#include <libvmm/bus.h>

#include <stdatomic.h>

struct vmm_region {
    _Atomic uint64_t address;
    _Atomic bool enabled; /* claims its range */
    uint32_t direct;      /* region_direct_widths() */
    uint64_t length;
    struct vmm_region_ops ops;
    void *ctx;
    struct vmm_device *device;
    _Atomic uint64_t reads, writes; /* accesses by the guest, before splitting */
    struct vmm_region *next_dead;
    char name[32];
};

/* The widths that `ops` takes in one piece, a bit each. */
uint32_t region_direct_widths(const struct vmm_region_ops *ops);

/* Any other access, piece by piece. The device's lock is held. */
uint64_t region_read_pieces(struct vmm_region *region, uint64_t offset, uint32_t width);
void region_write_pieces(struct vmm_region *region, uint64_t offset, uint32_t width,
                         uint64_t value);

static inline uint64_t region_mask(uint32_t width)
{
    return UINT64_MAX >> (64 - 8 * width);
}

/* Only the thread that holds the device's lock counts, so no locked instruction is needed. */
static inline void region_count(const struct vmm_region *region, _Atomic uint64_t *counter)
{
    if (region->device)
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* The whole access lies inside the region; `width` is 1 to 8, and so wide is the value. Takes the device's
 * lock. */
static inline uint64_t region_read(struct vmm_region *region, uint64_t offset, uint32_t width)
{
    if (region->device)
        vmm_device_lock(region->device);
    region_count(region, &region->reads);
    uint64_t value = region->direct >> width & 1
                         ? region->ops.read(region->ctx, offset, width) & region_mask(width)
                         : region_read_pieces(region, offset, width);
    if (region->device)
        vmm_device_unlock(region->device);
    return value;
}

static inline void region_write(struct vmm_region *region, uint64_t offset, uint32_t width,
                                uint64_t value)
{
    if (region->device)
        vmm_device_lock(region->device);
    region_count(region, &region->writes);
    if (region->direct >> width & 1)
        region->ops.write(region->ctx, offset, width, value);
    else
        region_write_pieces(region, offset, width, value);
    if (region->device)
        vmm_device_unlock(region->device);
}

#endif
