/* SPDX-License-Identifier: BSD-3-Clause */
/* One access to a region: the device's lock, and the widths that it takes. */
#include "devices/bus/region.h"

static uint64_t mask_of(uint32_t width)
{
    return width >= 8 ? UINT64_MAX : ((uint64_t)1 << (width * 8)) - 1;
}

/* The widest piece that the device takes at `offset`: a power of two, at most what is left. */
static uint32_t piece_width(const struct vmm_region *region, uint32_t left)
{
    uint32_t width = region->ops.max_width;
    while (width > left)
        width /= 2;
    return width;
}

/* A piece narrower than the device's least: read the aligned whole, cut the wanted bytes out. */
static uint64_t read_piece(struct vmm_region *region, uint64_t offset, uint32_t width)
{
    uint32_t least = region->ops.min_width;
    if (width >= least)
        return region->ops.read(region->ctx, offset, width) & mask_of(width);
    uint64_t start = offset & ~(uint64_t)(least - 1);
    uint64_t whole = region->ops.read(region->ctx, start, least);
    return (whole >> ((offset - start) * 8)) & mask_of(width);
}

static void write_piece(struct vmm_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    uint32_t least = region->ops.min_width;
    if (width >= least) {
        region->ops.write(region->ctx, offset, width, value & mask_of(width));
        return;
    }
    uint64_t start = offset & ~(uint64_t)(least - 1);
    region->ops.write(region->ctx, start, least,
                      (value & mask_of(width)) << ((offset - start) * 8));
}

/* Only the thread that holds the device's lock counts, so no locked instruction is needed. */
static void count(const struct vmm_region *region, _Atomic uint64_t *counter)
{
    if (region->device)
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

uint64_t region_read(struct vmm_region *region, uint64_t offset, uint32_t width)
{
    if (region->device)
        vmm_device_lock(region->device);
    count(region, &region->reads);
    uint64_t value = 0;
    for (uint32_t done = 0; done < width;) {
        uint32_t piece = piece_width(region, width - done);
        value |= read_piece(region, offset + done, piece) << (done * 8);
        done += piece;
    }
    if (region->device)
        vmm_device_unlock(region->device);
    return value;
}

void region_write(struct vmm_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    if (region->device)
        vmm_device_lock(region->device);
    count(region, &region->writes);
    for (uint32_t done = 0; done < width;) {
        uint32_t piece = piece_width(region, width - done);
        write_piece(region, offset + done, piece, value >> (done * 8));
        done += piece;
    }
    if (region->device)
        vmm_device_unlock(region->device);
}
