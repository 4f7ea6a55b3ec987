/* SPDX-License-Identifier: BSD-3-Clause */
/* An access to a region that is not of a width it takes: in pieces. */
#include "devices/bus/region.h"

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
        return region->ops.read(region->ctx, offset, width) & region_mask(width);
    uint64_t start = offset & ~(uint64_t)(least - 1);
    uint64_t whole = region->ops.read(region->ctx, start, least);
    return (whole >> ((offset - start) * 8)) & region_mask(width);
}

static void write_piece(struct vmm_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    uint32_t least = region->ops.min_width;
    if (width >= least) {
        region->ops.write(region->ctx, offset, width, value & region_mask(width));
        return;
    }
    uint64_t start = offset & ~(uint64_t)(least - 1);
    region->ops.write(region->ctx, start, least,
                      (value & region_mask(width)) << ((offset - start) * 8));
}

uint32_t region_direct_widths(const struct vmm_region_ops *ops)
{
    uint32_t widths = 0;
    for (uint32_t width = ops->min_width; width <= ops->max_width; width *= 2)
        widths |= 1u << width;
    return widths;
}

uint64_t region_read_pieces(struct vmm_region *region, uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t done = 0; done < width;) {
        uint32_t piece = piece_width(region, width - done);
        value |= read_piece(region, offset + done, piece) << (done * 8);
        done += piece;
    }
    return value;
}

void region_write_pieces(struct vmm_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    for (uint32_t done = 0; done < width;) {
        uint32_t piece = piece_width(region, width - done);
        write_piece(region, offset + done, piece, value >> (done * 8));
        done += piece;
    }
}
