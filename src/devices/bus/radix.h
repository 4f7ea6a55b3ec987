/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From an address to the region that holds it: an immutable tree with eight address bits a level,
 * as page tables have nine. A region that covers a whole entry is found at that level; smaller
 * ones lie below. The number of steps depends on the width of the space in use, never on the
 * number of regions.
 */
#ifndef BUS_RADIX_H
#define BUS_RADIX_H

#include "base/snapshot.h"

#include <stddef.h>

struct vmm_region;

#define RADIX_BITS    8u
#define RADIX_ENTRIES (1u << RADIX_BITS)

struct radix_node {
    uint32_t entry[RADIX_ENTRIES]; /* 0: nothing; RADIX_CHILD | node; else region number + 1 */
};
#define RADIX_CHILD 0x80000000u

struct radix {
    struct vmm_snapshot head;
    uint64_t serial;    /* no two trees of a bus have the same */
    uint32_t top_shift; /* address bits that the root's index is shifted by */
    uint32_t node_count;
    uint32_t node_room;
    struct radix_node *nodes; /* the root is the first */
    size_t region_count;
    struct vmm_region *regions[]; /* by address */
};

/* `regions` is sorted and does not overlap. NULL: out of memory. */
struct radix *radix_build(struct vmm_region *const *regions, size_t count);

static inline struct vmm_region *radix_find(const struct radix *radix, uint64_t address)
{
    uint32_t shift = radix->top_shift;
    if (shift + RADIX_BITS < 64 && (address >> (shift + RADIX_BITS)) != 0)
        return NULL;
    const struct radix_node *node = radix->nodes;
    for (;;) {
        uint32_t entry = node->entry[(address >> shift) % RADIX_ENTRIES];
        if (!(entry & RADIX_CHILD))
            return entry ? radix->regions[entry - 1] : NULL;
        node = &radix->nodes[entry & ~RADIX_CHILD];
        shift -= RADIX_BITS;
    }
}

#endif
