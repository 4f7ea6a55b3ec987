/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets and lists of host clusters. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

static uint64_t place_of(const struct q2_set *set, uint64_t cluster)
{
    return (cluster * UINT64_C(0x9e3779b97f4a7c15) >> 20) & set->mask;
}

static int grow(struct q2_set *set)
{
    struct q2_set larger = {.mask = set->mask ? set->mask * 2 + 1 : 63};
    larger.slots = calloc((size_t)larger.mask + 1, sizeof(uint64_t));
    if (!larger.slots)
        return -ENOMEM;
    for (uint64_t i = 0; set->slots && i <= set->mask; i++)
        if (set->slots[i])
            (void)vmm_q2_set_add(&larger, set->slots[i]);
    free(set->slots);
    *set = larger;
    return 0;
}

int vmm_q2_set_add(struct q2_set *set, uint64_t cluster)
{
    if (!set->slots || set->used * 2 > set->mask) {
        int rc = grow(set);
        if (rc)
            return rc;
    }
    uint64_t at = place_of(set, cluster);
    while (set->slots[at] && set->slots[at] != cluster)
        at = (at + 1) & set->mask;
    set->used += set->slots[at] == 0;
    set->slots[at] = cluster;
    return 0;
}

bool vmm_q2_set_has(const struct q2_set *set, uint64_t cluster)
{
    if (cluster == 0)
        return true; /* the header */
    if (!set->slots)
        return false;
    for (uint64_t at = place_of(set, cluster); set->slots[at]; at = (at + 1) & set->mask)
        if (set->slots[at] == cluster)
            return true;
    return false;
}

/* Open addressing without tombstones: what follows moves up. */
void vmm_q2_set_remove(struct q2_set *set, uint64_t cluster)
{
    if (cluster == 0 || !vmm_q2_set_has(set, cluster))
        return;
    uint64_t at = place_of(set, cluster);
    while (set->slots[at] != cluster)
        at = (at + 1) & set->mask;
    set->slots[at] = 0;
    set->used--;
    for (at = (at + 1) & set->mask; set->slots[at]; at = (at + 1) & set->mask) {
        uint64_t moved = set->slots[at];
        set->slots[at] = 0;
        set->used--;
        (void)vmm_q2_set_add(set, moved); /* there is room: one was removed */
    }
}

int vmm_q2_ranges_add(struct q2_ranges *ranges, uint64_t first, uint64_t count)
{
    struct q2_range *last = ranges->count ? &ranges->items[ranges->count - 1] : NULL;
    if (last && last->first + last->count == first) {
        last->count += count;
        return 0;
    }
    if (ranges->count == ranges->room) {
        size_t room = ranges->room ? ranges->room * 2 : 64;
        struct q2_range *items = realloc(ranges->items, room * sizeof(*items));
        if (!items)
            return -ENOMEM;
        ranges->items = items;
        ranges->room = room;
    }
    ranges->items[ranges->count++] = (struct q2_range){first, count};
    return 0;
}
