/* SPDX-License-Identifier: BSD-3-Clause */
/* The iterator over mapped guest-virtual addresses. */
#include "base/util.h"
#include "memory/page-format.h"

#include <stdlib.h>

#define DEFAULT_ENTRY_LIMIT ((uint64_t)16 << 20)

struct scan {
    struct vmm_memory *memory;
    struct vmm_page_plan plan;
    const struct vmm_page_tree *tree; /* of the two, the one being looked at */
    struct vmm_page_range_options options;
    int (*fn)(void *ctx, const struct vmm_page_range *range);
    void *ctx;
    uint64_t entries;            /* looked at so far */
    uint64_t next;               /* where the limit was met */
    bool limited;                /* it was */
    struct vmm_page_range range; /* being joined; length 0: none */
    uint8_t *tables;             /* a copy of the table at each level */
};

static int flush(struct scan *s)
{
    if (s->range.length == 0)
        return 0;
    struct vmm_page_range range = s->range;
    s->range.length = 0;
    return s->fn(s->ctx, &range);
}

static bool joins(const struct scan *s, uint64_t address, uint64_t physical, uint32_t permissions)
{
    const struct vmm_page_range *r = &s->range;
    if (r->length == 0 || r->address + r->length != address)
        return false;
    if ((r->permissions ^ permissions) & s->options.compare)
        return false;
    return !(s->options.flags & VMM_RANGES_CONTIGUOUS) || r->physical + r->length == physical;
}

/* A page, cut to what was asked for. */
static int add_page(struct scan *s, uint64_t address, uint64_t page_size, uint64_t physical,
                    uint32_t permissions)
{
    uint64_t last = address + (page_size - 1);
    if (address < s->options.start) {
        physical += s->options.start - address;
        address = s->options.start;
    }
    if (last > s->options.last)
        last = s->options.last;
    uint64_t length = last - address + 1;
    if (joins(s, address, physical, permissions)) {
        s->range.length += length;
        if (page_size < s->range.page_size)
            s->range.page_size = page_size;
        return 0;
    }
    int r = flush(s);
    s->range = (struct vmm_page_range){.size = sizeof(s->range),
                                       .address = address,
                                       .length = length,
                                       .physical = physical,
                                       .page_size = page_size,
                                       .permissions = permissions};
    return r;
}

static uint64_t table_entry(const struct scan *s, uint32_t level, uint64_t index)
{
    if (s->plan.top_cached && level + 1 == s->tree->levels)
        return s->plan.top[index];
    const uint8_t *table = s->tables + (size_t)level * s->plan.table_size;
    return s->plan.entry_size == 8 ? vmm_load_le64(table + index * 8)
                                   : vmm_load_le32(table + index * 4);
}

/* Copy a table, so that every entry is read once. False: not all of it is memory. */
static bool fetch_table(struct scan *s, uint32_t level, uint64_t table)
{
    if (s->plan.top_cached && level + 1 == s->tree->levels)
        return true;
    size_t size = s->plan.entry_size * vmm_page_entries(&s->plan, s->tree, level);
    return vmm_memory_read(s->memory, table, s->tables + (size_t)level * s->plan.table_size,
                           size) == 0;
}

static int scan_table(struct scan *s, uint32_t level, uint64_t table, uint64_t base,
                      uint32_t rights);

/* `address` is where the entry's stretch begins. */
static int scan_entry(struct scan *s, uint32_t level, uint64_t index, uint64_t address,
                      uint32_t rights)
{
    struct vmm_page_step step;
    s->plan.format->decode(&s->plan, level, table_entry(s, level, index), &step);
    if (step.kind == VMM_ENTRY_LEAF)
        return add_page(s, address, (uint64_t)1 << s->plan.level[level].shift, step.next,
                        (step.permissions & ~VMM_PAGE_RIGHTS) | (step.permissions & rights));
    if (step.kind == VMM_ENTRY_TABLE)
        return scan_table(s, level - 1, step.next, address,
                          s->tree->flat ? rights : rights & step.permissions);
    return 0;
}

/* Entries of the upper half of the top table belong to the upper, sign-extended addresses. */
static uint64_t entry_base(const struct scan *s, uint64_t base, uint32_t level, uint64_t index)
{
    uint64_t address = base + (index << s->plan.level[level].shift);
    if (s->plan.sign_extended && (address >> (s->tree->bits - 1)) & 1)
        address |= UINT64_MAX << s->tree->bits;
    return address;
}

static int scan_table(struct scan *s, uint32_t level, uint64_t table, uint64_t base,
                      uint32_t rights)
{
    const struct vmm_page_level *l = &s->plan.level[level];
    if (!fetch_table(s, level, table))
        return 0;
    for (uint64_t i = 0; i < vmm_page_entries(&s->plan, s->tree, level); i++) {
        uint64_t address = entry_base(s, base, level, i);
        if (address + (((uint64_t)1 << l->shift) - 1) < s->options.start)
            continue;
        if (address > s->options.last)
            return 0;
        if (s->entries++ >= s->options.entry_limit) {
            s->next = address > s->options.start ? address : s->options.start;
            s->limited = true;
            return -EOVERFLOW;
        }
        int r = scan_entry(s, level, i, address, rights);
        if (r != 0)
            return r;
    }
    return 0;
}

static int scan_all(struct scan *s)
{
    if (!s->plan.format)
        return add_page(s, 0, (uint64_t)1 << s->plan.tree[0].bits, 0, VMM_PAGE_NO_RULES);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(s->plan.tree); i++) {
        s->tree = &s->plan.tree[i];
        if (s->tree->bits == 0)
            continue;
        uint64_t base = i ? UINT64_MAX << s->tree->bits : 0;
        int r = scan_table(s, s->tree->levels - 1, s->tree->root, base, VMM_PAGE_RIGHTS);
        if (r != 0)
            return r;
    }
    return 0;
}

static int take_options(struct scan *s, const struct vmm_page_range_options *options)
{
    struct vmm_page_range_options none = VMM_PAGE_RANGE_OPTIONS_INIT;
    int r = vmm_options_copy(&s->options, sizeof(s->options), options ? options : &none);
    if (r < 0)
        return r;
    if (s->options.last == 0)
        s->options.last = UINT64_MAX;
    if (s->options.compare == 0)
        s->options.compare = VMM_PAGE_RIGHTS;
    if (s->options.entry_limit == 0)
        s->options.entry_limit = DEFAULT_ENTRY_LIMIT;
    if (s->options.last < s->options.start || (s->options.flags & ~VMM_RANGES_CONTIGUOUS))
        return -EINVAL;
    /* With less a scan that is taken up again would not get on. */
    return s->options.entry_limit < VMM_PAGE_LEVELS ? -EINVAL : 0;
}

int vmm_paging_ranges(struct vmm_memory *memory, const struct vmm_paging_context *context,
                      const struct vmm_page_range_options *options,
                      int (*fn)(void *ctx, const struct vmm_page_range *range), void *ctx,
                      uint64_t *next)
{
    struct scan s = {.memory = memory, .fn = fn, .ctx = ctx};
    if (!memory || !fn)
        return -EINVAL;
    int r = take_options(&s, options);
    if (r == 0)
        r = vmm_page_plan_make(context, &s.plan);
    if (r < 0)
        return r;
    if (!s.plan.format && s.options.start >> s.plan.tree[0].bits != 0)
        return 0;
    s.tables = malloc(VMM_PAGE_LEVELS * (s.plan.format ? s.plan.table_size : 1));
    if (!s.tables)
        return -ENOMEM;
    r = scan_all(&s);
    free(s.tables);
    if (r != 0 && !s.limited)
        return r;
    int flushed = flush(&s);
    if (flushed != 0)
        return flushed;
    if (s.limited && next)
        *next = s.next;
    return r;
}
