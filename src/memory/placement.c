/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of what is where, before it is flattened. */
#include "base/util.h"
#include "memory/internal.h"

#include <stdlib.h>

void vmm_placements_clear(struct vmm_placements *list)
{
    for (size_t i = 0; i < list->count; i++)
        vmm_memory_region_unref(list->items[i].region);
    free(list->items);
    *list = (struct vmm_placements){0};
}

int vmm_placements_copy(struct vmm_placements *to, const struct vmm_placements *from)
{
    *to = (struct vmm_placements){0};
    if (from->count == 0)
        return 0;
    to->items = calloc(from->count, sizeof(*to->items));
    if (!to->items)
        return -ENOMEM;
    memcpy(to->items, from->items, from->count * sizeof(*to->items));
    to->count = to->room = from->count;
    for (size_t i = 0; i < to->count; i++)
        vmm_memory_region_ref(to->items[i].region);
    return 0;
}

struct vmm_placement *vmm_placements_find(struct vmm_placements *list,
                                          const struct vmm_memory_region *region)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].region == region)
            return &list->items[i];
    return NULL;
}

int vmm_placements_add(struct vmm_placements *list, const struct vmm_placement *placement)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 16;
        struct vmm_placement *items = realloc(list->items, room * sizeof(*items));
        if (!items)
            return -ENOMEM;
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = *placement;
    vmm_memory_region_ref(placement->region);
    return 0;
}

void vmm_placements_remove(struct vmm_placements *list, struct vmm_placement *placement)
{
    vmm_memory_region_unref(placement->region);
    *placement = list->items[--list->count];
}
