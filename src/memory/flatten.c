/* SPDX-License-Identifier: BSD-3-Clause */
/* From regions with priorities to a sorted list of pieces that do not overlap. */
#include "base/util.h"
#include "memory/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* A piece under construction; unlike the flat map it keeps holes, which hide what is below. */
struct build {
    struct vmm_flat *pieces; /* sorted */
    size_t count, room;
};

static uint64_t last_of(const struct vmm_placement *p)
{
    return p->address + (p->region->length - 1);
}

static int check_overlap(const struct vmm_placements *list, struct vmm_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct vmm_placement *a = &list->items[i];
        for (size_t j = i + 1; a->enabled && j < list->count; j++) {
            const struct vmm_placement *b = &list->items[j];
            if (!b->enabled || a->priority != b->priority || a->address > last_of(b) ||
                b->address > last_of(a))
                continue;
            return vmm_error_set(err, -EEXIST,
                                 "memory: \"%s\" at 0x%" PRIx64 "-0x%" PRIx64
                                 " overlaps \"%s\" at 0x%" PRIx64 "-0x%" PRIx64
                                 " with the same priority %d",
                                 b->region->name, b->address, last_of(b), a->region->name,
                                 a->address, last_of(a), a->priority);
        }
    }
    return 0;
}

/* The highest priority first; equal ones do not overlap, so their order does not matter. */
static int by_priority(const void *a, const void *b)
{
    const struct vmm_placement *const *x = a, *const *y = b;
    return ((*x)->priority < (*y)->priority) - ((*x)->priority > (*y)->priority);
}

static int insert(struct build *build, size_t at, const struct vmm_placement *p, uint64_t start,
                  uint64_t last)
{
    if (build->count == build->room) {
        size_t room = build->room ? build->room * 2 : 32;
        struct vmm_flat *pieces = realloc(build->pieces, room * sizeof(*pieces));
        if (!pieces)
            return -ENOMEM;
        build->pieces = pieces;
        build->room = room;
    }
    struct vmm_flat *piece = &build->pieces[at];
    memmove(piece + 1, piece, (build->count - at) * sizeof(*piece));
    build->count++;
    struct vmm_memory_region *region = p->region;
    uint64_t offset = start - p->address;
    *piece =
        (struct vmm_flat){.start = start, .last = last, .placed = region, .placed_offset = offset};
    piece->writable = !p->read_only && !region->read_only;
    if (region->target) {
        offset += p->alias_base;
        region = region->target;
        piece->writable = piece->writable && !region->read_only;
    }
    piece->region = region;
    piece->region_offset = offset;
    if (region->backing) {
        piece->backing = region->backing;
        piece->offset = region->backing_offset + offset;
        piece->host = region->backing->data + piece->offset;
    }
    return 0;
}

/* Put a placement into the gaps that those above it have left. */
static int place(struct build *build, const struct vmm_placement *p)
{
    uint64_t start = p->address, last = last_of(p);
    size_t i = 0;
    while (i < build->count && build->pieces[i].last < start)
        i++;
    for (;;) {
        bool gap_to_end = i == build->count || build->pieces[i].start > last;
        uint64_t gap_last = gap_to_end ? last : build->pieces[i].start - 1;
        if (gap_to_end || build->pieces[i].start > start) {
            int rc = insert(build, i++, p, start, gap_last);
            if (rc || gap_to_end)
                return rc;
        }
        if (build->pieces[i].last >= last)
            return 0;
        start = build->pieces[i++].last + 1;
    }
}

static void destroy(struct vmm_snapshot *snapshot)
{
    struct vmm_flat_map *map = (struct vmm_flat_map *)snapshot;
    for (size_t i = 0; i < map->count; i++)
        vmm_memory_region_unref(map->pieces[i].placed);
    free(map);
}

static struct vmm_flat_map *new_map(size_t room)
{
    struct vmm_flat_map *map = calloc(1, sizeof(*map) + room * sizeof(map->pieces[0]));
    if (map)
        vmm_snapshot_init(&map->head, destroy);
    return map;
}

struct vmm_flat_map *vmm_flat_map_empty(void)
{
    return new_map(0);
}

struct vmm_flat_map *vmm_flat_map_clone(const struct vmm_flat_map *map)
{
    struct vmm_flat_map *copy = new_map(map->count);
    for (size_t i = 0; copy && i < map->count; i++) {
        copy->pieces[i] = map->pieces[i];
        vmm_memory_region_ref(copy->pieces[i].placed);
        copy->count++;
    }
    return copy;
}

static struct vmm_flat_map *finish(const struct build *build)
{
    struct vmm_flat_map *map = new_map(build->count);
    for (size_t i = 0; map && i < build->count; i++) {
        if (!build->pieces[i].host)
            continue;
        map->pieces[map->count] = build->pieces[i];
        vmm_memory_region_ref(map->pieces[map->count++].placed);
    }
    return map;
}

int vmm_flatten(const struct vmm_placements *list, struct vmm_flat_map **out, struct vmm_error *err)
{
    struct build build = {0};
    int rc = check_overlap(list, err);
    if (rc)
        return rc;
    const struct vmm_placement **order = calloc(list->count + 1, sizeof(*order));
    if (!order)
        return vmm_error_set(err, -ENOMEM, "memory: out of memory");
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].enabled)
            order[count++] = &list->items[i];
    qsort(order, count, sizeof(*order), by_priority);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = place(&build, order[i]);
    *out = rc == 0 ? finish(&build) : NULL;
    free(order);
    free(build.pieces);
    return *out ? 0 : vmm_error_set(err, -ENOMEM, "memory: out of memory");
}
