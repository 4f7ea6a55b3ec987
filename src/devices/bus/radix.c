/* SPDX-License-Identifier: BSD-3-Clause */
/* Building the look-up tree of a bus; the tree is explained in the header. */
#include "devices/bus/radix.h"
#include "devices/bus/region.h"

#include <stdlib.h>
#include <string.h>

static void radix_destroy(struct vmm_snapshot *snapshot)
{
    struct radix *radix = (struct radix *)snapshot;
    free(radix->nodes);
    free(radix);
}

/* A zeroed node's number, or UINT32_MAX. */
static uint32_t new_node(struct radix *radix)
{
    if (radix->node_count == radix->node_room) {
        uint32_t room = radix->node_room * 2;
        struct radix_node *nodes = realloc(radix->nodes, room * sizeof(*nodes));
        if (!nodes)
            return UINT32_MAX;
        radix->nodes = nodes;
        radix->node_room = room;
    }
    memset(&radix->nodes[radix->node_count], 0, sizeof(struct radix_node));
    return radix->node_count++;
}

/* Enter [first, last] (addresses relative to the node's start) as `value` at the node and below. */
static bool insert(struct radix *radix, uint32_t node, uint32_t shift, uint64_t first,
                   uint64_t last, uint32_t value)
{
    uint64_t low_mask = ((uint64_t)1 << shift) - 1;
    for (uint64_t i = first >> shift; i <= last >> shift; i++) {
        uint64_t entry_first = i == first >> shift ? first & low_mask : 0;
        uint64_t entry_last = i == last >> shift ? last & low_mask : low_mask;
        if (entry_first == 0 && entry_last == low_mask) {
            radix->nodes[node].entry[i] = value;
            continue;
        }
        uint32_t child = radix->nodes[node].entry[i] & ~RADIX_CHILD;
        if (!(radix->nodes[node].entry[i] & RADIX_CHILD)) {
            child = new_node(radix);
            if (child == UINT32_MAX)
                return false;
            radix->nodes[node].entry[i] = RADIX_CHILD | child;
        }
        if (!insert(radix, child, shift - RADIX_BITS, entry_first, entry_last, value))
            return false;
    }
    return true;
}

struct radix *radix_build(struct vmm_region *const *regions, size_t count)
{
    struct radix *radix = calloc(1, sizeof(*radix) + count * sizeof(radix->regions[0]));
    if (!radix)
        return NULL;
    vmm_snapshot_init(&radix->head, radix_destroy);
    radix->node_room = 4;
    radix->nodes = malloc(radix->node_room * sizeof(*radix->nodes));
    bool ok = radix->nodes && new_node(radix) == 0;
    if (ok && count > 0) {
        uint64_t highest = regions[count - 1]->address + (regions[count - 1]->length - 1);
        while (radix->top_shift + RADIX_BITS < 64 && highest >> (radix->top_shift + RADIX_BITS))
            radix->top_shift += RADIX_BITS;
    }
    radix->region_count = count;
    for (size_t i = 0; ok && i < count; i++) {
        radix->regions[i] = regions[i];
        ok = insert(radix, 0, radix->top_shift, regions[i]->address,
                    regions[i]->address + (regions[i]->length - 1), (uint32_t)i + 1);
    }
    if (!ok) {
        radix_destroy(&radix->head);
        return NULL;
    }
    return radix;
}
