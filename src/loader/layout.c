/* SPDX-License-Identifier: BSD-3-Clause */
/* Which guest RAM is free, and who has taken the rest: nothing is loaded over something else. */
#include "loader/layout.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LEGACY_HOLE     0xa0000ull
#define LEGACY_HOLE_END 0x100000ull

static uint64_t last_of(uint64_t start, uint64_t length)
{
    return start + (length - 1);
}

static int compare_spans(const void *a, const void *b)
{
    const struct vmm_span *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Take [start, last] out of every span. There is room for one more span a call. */
static void subtract(struct vmm_layout *layout, uint64_t start, uint64_t last)
{
    size_t n = layout->ram_count;
    size_t kept = 0;
    struct vmm_span right = {0, 0};
    for (size_t i = 0; i < n; i++) {
        struct vmm_span s = layout->ram[i];
        uint64_t s_last = last_of(s.start, s.length);
        if (last < s.start || start > s_last) {
            layout->ram[kept++] = s;
            continue;
        }
        /* Spans do not overlap, so only one of them can stick out on both sides. */
        bool left_part = s.start<start, right_part = s_last> last;
        if (left_part)
            layout->ram[kept++] = (struct vmm_span){s.start, start - s.start};
        if (right_part && left_part)
            right = (struct vmm_span){last + 1, s_last - last};
        else if (right_part)
            layout->ram[kept++] = (struct vmm_span){last + 1, s_last - last};
    }
    layout->ram_count = kept;
    if (right.length)
        layout->ram[layout->ram_count++] = right;
}

/* Sort, and join spans that touch or overlap. */
static void normalize(struct vmm_layout *layout)
{
    if (layout->ram_count == 0)
        return;
    qsort(layout->ram, layout->ram_count, sizeof(layout->ram[0]), compare_spans);
    size_t kept = 0;
    for (size_t i = 1; i < layout->ram_count; i++) {
        struct vmm_span *to = &layout->ram[kept], *s = &layout->ram[i];
        uint64_t to_last = last_of(to->start, to->length), s_last = last_of(s->start, s->length);
        if (to_last == UINT64_MAX || s->start <= to_last + 1) {
            if (s_last > to_last)
                to->length = s_last - to->start + 1;
        } else {
            layout->ram[++kept] = *s;
        }
    }
    layout->ram_count = kept + 1;
}

/* How much RAM there is from address 0 on, by asking the memory. */
static uint64_t probe_ram(struct vmm_memory *memory)
{
    uint64_t low = 0, high = 1ull << 40; /* in pages */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (vmm_memory_valid(memory, 0, middle << 12, true))
            low = middle;
        else
            high = middle - 1;
    }
    return low << 12;
}

static int probe_map(struct vmm_layout *layout, struct vmm_error *err)
{
    uint64_t length = probe_ram(layout->memory);
    if (length == 0)
        return vmm_error_set(err, -ENOMEM,
                             "memory map: none was given, and there is no RAM at address 0");
    uint64_t low = length < LEGACY_HOLE ? length : LEGACY_HOLE;
    layout->map[layout->map_count++] = (struct vmm_memory_map_entry){0, low, VMM_MEMORY_MAP_RAM, 0};
    if (length > LEGACY_HOLE)
        layout->map[layout->map_count++] = (struct vmm_memory_map_entry){
            LEGACY_HOLE, LEGACY_HOLE_END - LEGACY_HOLE, VMM_MEMORY_MAP_RESERVED, 0};
    if (length > LEGACY_HOLE_END)
        layout->map[layout->map_count++] = (struct vmm_memory_map_entry){
            LEGACY_HOLE_END, length - LEGACY_HOLE_END, VMM_MEMORY_MAP_RAM, 0};
    return 0;
}

static int copy_map(struct vmm_layout *layout, const struct vmm_memory_map_entry *map, size_t count,
                    struct vmm_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (map[i].length == 0 || !vmm_range_ok(map[i].address, map[i].length))
            return vmm_error_set(
                err, -EINVAL, "memory map: entry %zu (0x%llx, 0x%llx bytes) is empty or wraps", i,
                (unsigned long long)map[i].address, (unsigned long long)map[i].length);
        layout->map[layout->map_count++] = map[i];
    }
    return 0;
}

static void derive_ram(struct vmm_layout *layout)
{
    for (size_t i = 0; i < layout->map_count; i++)
        if (layout->map[i].type == VMM_MEMORY_MAP_RAM)
            layout->ram[layout->ram_count++] =
                (struct vmm_span){layout->map[i].address, layout->map[i].length};
    normalize(layout);
    for (size_t i = 0; i < layout->map_count; i++)
        if (layout->map[i].type != VMM_MEMORY_MAP_RAM)
            subtract(layout, layout->map[i].address,
                     last_of(layout->map[i].address, layout->map[i].length));
    normalize(layout);
}

int vmm_layout_init(struct vmm_layout *layout, struct vmm_memory *memory,
                    const struct vmm_memory_map_entry *map, size_t map_count, struct vmm_error *err)
{
    memset(layout, 0, sizeof(*layout));
    layout->memory = memory;
    if (map_count > VMM_LAYOUT_MAP_MAX)
        return vmm_error_set(err, -E2BIG, "memory map: %zu entries, at most %u", map_count,
                             VMM_LAYOUT_MAP_MAX);
    if (map_count && !map)
        return vmm_error_set(err, -EINVAL, "memory map: %zu entries but no table", map_count);
    layout->map = calloc(map_count + 3, sizeof(*layout->map));
    layout->ram = calloc(map_count + 4, sizeof(*layout->ram));
    int rc = 0;
    if (!layout->map || !layout->ram)
        rc = vmm_error_set(err, -ENOMEM, "out of memory");
    else if (map_count)
        rc = copy_map(layout, map, map_count, err);
    else
        rc = probe_map(layout, err);
    if (rc)
        vmm_layout_fini(layout);
    else
        derive_ram(layout);
    return rc;
}

void vmm_layout_fini(struct vmm_layout *layout)
{
    free(layout->map);
    free(layout->ram);
    free(layout->claims);
    memset(layout, 0, sizeof(*layout));
}

uint64_t vmm_layout_ram_at(const struct vmm_layout *layout, uint64_t address)
{
    for (size_t i = 0; i < layout->ram_count; i++) {
        const struct vmm_span *s = &layout->ram[i];
        if (address >= s->start && address - s->start < s->length)
            return s->length - (address - s->start);
    }
    return 0;
}

static const struct vmm_claim *overlapping(const struct vmm_layout *layout, uint64_t address,
                                           uint64_t length)
{
    for (size_t i = 0; i < layout->claim_count; i++) {
        const struct vmm_claim *c = &layout->claims[i];
        if (vmm_ranges_overlap(address, length, c->start, c->length))
            return c;
    }
    return NULL;
}

static bool is_ram(const struct vmm_layout *layout, uint64_t address, uint64_t length)
{
    return length && vmm_layout_ram_at(layout, address) >= length &&
           vmm_memory_valid(layout->memory, address, length, true);
}

bool vmm_layout_free(const struct vmm_layout *layout, uint64_t address, uint64_t length)
{
    return is_ram(layout, address, length) && !overlapping(layout, address, length);
}

static int record(struct vmm_layout *layout, const struct vmm_claim *claim, struct vmm_error *err)
{
    if (layout->claim_count == VMM_LAYOUT_CLAIMS_MAX)
        return vmm_error_set(err, -E2BIG, "%s: more than %u things to place in memory", claim->name,
                             VMM_LAYOUT_CLAIMS_MAX);
    if (layout->claim_count == layout->claim_room) {
        size_t room = layout->claim_room ? layout->claim_room * 2 : 16;
        struct vmm_claim *claims = realloc(layout->claims, room * sizeof(*claims));
        if (!claims)
            return vmm_error_set(err, -ENOMEM, "out of memory");
        layout->claims = claims;
        layout->claim_room = room;
    }
    layout->claims[layout->claim_count++] = *claim;
    return 0;
}

static void set_name(struct vmm_claim *claim, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void set_name(struct vmm_claim *claim, const char *format, va_list args)
{
    (void)vsnprintf(claim->name, sizeof(claim->name), format, args);
}

int vmm_layout_claim(struct vmm_layout *layout, uint64_t address, uint64_t length,
                     struct vmm_error *err, const char *name, ...)
{
    struct vmm_claim claim = {address, length, ""};
    va_list args;
    va_start(args, name);
    set_name(&claim, name, args);
    va_end(args);
    unsigned long long at = address, bytes = length;
    if (length == 0 || !vmm_range_ok(address, length))
        return vmm_error_set(err, -ENOEXEC, "%s: 0x%llx bytes at 0x%llx are empty or wrap",
                             claim.name, bytes, at);
    if (vmm_layout_ram_at(layout, address) < length)
        return vmm_error_set(
            err, -ENOMEM,
            "%s: 0x%llx bytes at guest address 0x%llx are not all RAM in the memory map; "
            "give the guest more memory or load elsewhere",
            claim.name, bytes, at);
    if (!vmm_memory_valid(layout->memory, address, length, true))
        return vmm_error_set(
            err, -ENOMEM,
            "%s: the memory map says RAM for 0x%llx bytes at guest address 0x%llx, "
            "but the VM has none there",
            claim.name, bytes, at);
    const struct vmm_claim *other = overlapping(layout, address, length);
    if (other)
        return vmm_error_set(err, -EEXIST,
                             "%s: 0x%llx bytes at guest address 0x%llx overlap %s (0x%llx bytes at "
                             "0x%llx)",
                             claim.name, bytes, at, other->name, (unsigned long long)other->length,
                             (unsigned long long)other->start);
    return record(layout, &claim, err);
}

/* The lowest place in one span; false: none. */
static bool lowest_in(const struct vmm_layout *layout, const struct vmm_span *span,
                      const struct vmm_place *p, uint64_t *address)
{
    uint64_t first = span->start > p->low ? span->start : p->low;
    uint64_t last = last_of(span->start, span->length);
    if (p->high < last)
        last = p->high;
    for (;;) { /* each turn goes past one more claim */
        if (first > UINT64_MAX - (p->align - 1))
            return false;
        first = vmm_align_up(first, p->align);
        if (first > last || last - first < p->length - 1)
            return false;
        const struct vmm_claim *c = overlapping(layout, first, p->length);
        if (!c) {
            *address = first;
            return true;
        }
        if (last_of(c->start, c->length) == UINT64_MAX)
            return false;
        first = c->start + c->length;
    }
}

/* The highest place in one span; false: none. */
static bool highest_in(const struct vmm_layout *layout, const struct vmm_span *span,
                       const struct vmm_place *p, uint64_t *address)
{
    uint64_t first = span->start > p->low ? span->start : p->low;
    uint64_t last = last_of(span->start, span->length);
    if (p->high < last)
        last = p->high;
    for (;;) { /* each turn goes below one more claim */
        if (last < p->length - 1)
            return false;
        uint64_t start = (last - (p->length - 1)) & ~(p->align - 1);
        if (start < first)
            return false;
        const struct vmm_claim *c = overlapping(layout, start, p->length);
        if (!c) {
            *address = start;
            return true;
        }
        if (c->start == 0)
            return false;
        last = c->start - 1;
    }
}

int vmm_layout_find(struct vmm_layout *layout, const struct vmm_place *place, uint64_t *address,
                    struct vmm_error *err, const char *name, ...)
{
    struct vmm_claim claim = {0, place->length, ""};
    va_list args;
    va_start(args, name);
    set_name(&claim, name, args);
    va_end(args);
    bool found = false;
    for (size_t i = 0; place->length && i < layout->ram_count && !found; i++) {
        const struct vmm_span *span = &layout->ram[place->top ? layout->ram_count - 1 - i : i];
        found = place->top ? highest_in(layout, span, place, &claim.start)
                           : lowest_in(layout, span, place, &claim.start);
        /* A map that promises what the VM has not: try the next span. */
        if (found && !vmm_memory_valid(layout->memory, claim.start, claim.length, true))
            found = false;
    }
    if (!found)
        return vmm_error_set(err, -ENOMEM,
                             "%s: no room for 0x%llx bytes of RAM between 0x%llx and 0x%llx; give "
                             "the guest more memory",
                             claim.name, (unsigned long long)place->length,
                             (unsigned long long)place->low, (unsigned long long)place->high);
    *address = claim.start;
    return record(layout, &claim, err);
}
