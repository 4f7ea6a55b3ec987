/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory map that a guest is shown. */
#include "base/util.h"

#include <libvmm/memmap.h>

#include <stdlib.h>

struct pieces {
    struct vmm_memory_map_entry *list;
    size_t count;
    bool full;
};

/* The higher counts where pieces overlap: what must not be used goes before what may be. */
static uint32_t rank(uint32_t type)
{
    static const uint32_t rising[] = {VMM_MEMORY_MAP_RAM, VMM_MEMORY_MAP_PMEM, VMM_MEMORY_MAP_ACPI,
                                      VMM_MEMORY_MAP_NVS};
    if (type == VMM_MEMORY_MAP_UNUSABLE)
        return 7;
    if (type == VMM_MEMORY_MAP_RESERVED)
        return 6;
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(rising); i++)
        if (type == rising[i])
            return i + 1;
    return 5;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The piece that counts at an address, or NULL. */
static const struct vmm_memory_map_entry *at(const struct pieces *p, uint64_t address)
{
    const struct vmm_memory_map_entry *best = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const struct vmm_memory_map_entry *e = &p->list[i];
        if (e->length == 0 || address < e->address || address - e->address >= e->length)
            continue;
        if (!best || rank(e->type) > rank(best->type))
            best = e;
    }
    return best;
}

/* Where pieces begin, and the byte after each: between two of those nothing changes. A piece that
 * ends at 2^64 has its end in the number of the bounds, not among them. Returns how many. */
static size_t collect_bounds(const struct pieces *p, uint64_t *bounds)
{
    size_t n = 0, unique = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct vmm_memory_map_entry *e = &p->list[i];
        if (e->length == 0)
            continue;
        bounds[n++] = e->address;
        if (e->address + e->length != 0)
            bounds[n++] = e->address + e->length;
    }
    qsort(bounds, n, sizeof(*bounds), compare);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || bounds[i] != bounds[i - 1])
            bounds[unique++] = bounds[i];
    return unique;
}

/* Add a stretch to the map, or join it to the last one. */
static int append(struct vmm_memory_map_entry *out, size_t room, size_t *n, uint64_t address,
                  uint64_t length, uint32_t type)
{
    struct vmm_memory_map_entry *last = *n ? &out[*n - 1] : NULL;
    if (last && last->type == type && last->address + last->length == address) {
        last->length += length;
        return 0;
    }
    if (*n == room)
        return -ENOSPC;
    out[(*n)++] = (struct vmm_memory_map_entry){address, length, type, 0};
    return 0;
}

static int sweep(const struct pieces *p, const uint64_t *bounds, size_t count,
                 struct vmm_memory_map_entry *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct vmm_memory_map_entry *e = at(p, bounds[i]);
        if (!e)
            continue;
        uint64_t end = i + 1 < count ? bounds[i + 1] : 0; /* 0: up to 2^64 */
        int rc = append(out, room, &n, bounds[i], end - bounds[i], e->type);
        if (rc)
            return rc;
    }
    return (int)n;
}

static int check(const struct vmm_memory_map_entry *pieces, size_t count, struct vmm_error *err)
{
    if (count > VMM_MEMORY_MAP_MAX || (count && !pieces))
        return vmm_error_set(err, -EINVAL, "memory map: %zu pieces, at most %u are possible", count,
                             VMM_MEMORY_MAP_MAX);
    for (size_t i = 0; i < count; i++)
        if (!vmm_range_ok(pieces[i].address, pieces[i].length))
            return vmm_error_set(err, -EINVAL, "memory map: the piece at 0x%llx wraps around",
                                 (unsigned long long)pieces[i].address);
    return 0;
}

static int build(const struct pieces *p, struct vmm_memory_map_entry *out, size_t room,
                 struct vmm_error *err)
{
    uint64_t *bounds = calloc(p->count * 2 + 1, sizeof(*bounds));
    if (!bounds)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = sweep(p, bounds, collect_bounds(p, bounds), out, room);
    free(bounds);
    return rc == -ENOSPC
               ? vmm_error_set(err, rc, "memory map: more than the %zu entries there is room for",
                               room)
               : rc;
}

int vmm_memory_map_build(const struct vmm_memory_map_entry *pieces, size_t count,
                         struct vmm_memory_map_entry *out, size_t room, struct vmm_error *err)
{
    int rc = check(pieces, count, err);
    if (rc)
        return rc;
    struct pieces p = {.list = calloc(count + 1, sizeof(*p.list)), .count = count};
    if (!p.list)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    if (count)
        memcpy(p.list, pieces, count * sizeof(*pieces));
    rc = build(&p, out, room, err);
    free(p.list);
    return rc;
}

static int take_ram(void *ctx, const struct vmm_memory_info *info)
{
    struct pieces *p = ctx;
    if (info->type != VMM_MEMORY_RAM || !info->writable)
        return 0;
    if (p->count == 2 * VMM_MEMORY_MAP_MAX) {
        p->full = true;
        return 1;
    }
    p->list[p->count++] =
        (struct vmm_memory_map_entry){info->address, info->length, VMM_MEMORY_MAP_RAM, 0};
    return 0;
}

int vmm_memory_map_of(struct vmm_memory *memory, const struct vmm_memory_map_entry *pieces,
                      size_t count, struct vmm_memory_map_entry *out, size_t room,
                      struct vmm_error *err)
{
    int rc = check(pieces, count, err);
    if (rc)
        return rc;
    struct pieces p = {.list = calloc(2 * VMM_MEMORY_MAP_MAX, sizeof(*p.list)), .count = count};
    if (!p.list)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    if (count)
        memcpy(p.list, pieces, count * sizeof(*pieces));
    (void)vmm_memory_foreach(memory, take_ram, &p);
    rc = p.full ? vmm_error_set(err, -EINVAL, "memory map: more than %u pieces of RAM",
                                VMM_MEMORY_MAP_MAX)
                : build(&p, out, room, err);
    free(p.list);
    return rc;
}
