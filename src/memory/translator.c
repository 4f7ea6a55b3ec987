/* SPDX-License-Identifier: BSD-3-Clause */
/* The translation cache. libvmm/translate.h says how it stays correct. */
#include "memory/translator.h"
#include "base/util.h"
#include "memory/internal.h"
#include "memory/table-access.h"

#include <stdlib.h>

#define DEFAULT_ENTRIES 4096u
#define MOST_ENTRIES    (1u << 20)

static size_t entry_index(const struct vmm_translator *t, uint64_t page)
{
    uint64_t h = (page ^ ((uint64_t)t->current->id << 40)) * 0x9e3779b97f4a7c15ull;
    return (size_t)(h >> 32) & t->mask;
}

static uint64_t changed64(const struct vmm_cached *e, uint32_t i)
{
    return le64toh(__atomic_load_n((const uint64_t *)e->places[i], __ATOMIC_RELAXED)) ^
           e->values[i];
}

static uint64_t changed32(const struct vmm_cached *e, uint32_t i)
{
    return le32toh(__atomic_load_n((const uint32_t *)e->places[i], __ATOMIC_RELAXED)) ^
           e->values[i];
}

/* Have the table entries still the values that led to this translation? The loads do not wait for
 * one another. */
static bool still_true(const struct vmm_cached *e)
{
    uint64_t changed = 0;
    if (e->count == 4)
        changed = changed64(e, 0) | changed64(e, 1) | changed64(e, 2) | changed64(e, 3);
    else if (e->narrow)
        for (uint32_t i = 0; i < e->count; i++)
            changed |= changed32(e, i);
    else
        for (uint32_t i = 0; i < e->count; i++)
            changed |= changed64(e, i);
    return (changed & ~e->own_bits) == 0;
}

static int faulted(struct vmm_translator *t, const struct vmm_translation *why)
{
    t->fault = *why;
    t->stats.faults++;
    return -EFAULT;
}

/* Remember a walk. A table that cannot be held makes the entry unusable, not wrong. */
static void remember(struct vmm_translator *t, struct vmm_cached *e, uint64_t page,
                     const struct vmm_translation *tr, const struct vmm_page_trace *trace)
{
    e->context = 0;
    e->page = page;
    e->physical = tr->physical & ~(uint64_t)(VMM_PAGE_SIZE - 1);
    e->permissions = tr->permissions;
    e->allowed = 0;
    e->count = (uint8_t)trace->count;
    e->own_bits = t->current->plan.own_bits;
    e->narrow = t->current->plan.entry_size == 4;
    for (uint32_t i = 0; i < trace->count; i++) {
        e->places[i] = vmm_held_find(t, trace->entries[i].address);
        e->values[i] = trace->entries[i].entry;
        if (!e->places[i])
            return;
    }
    e->host = vmm_held_find(t, e->physical);
    e->context = t->current->id;
}

/* May the cached page be used so? Asked of the format once for each kind of access. */
static int permit(struct vmm_translator *t, struct vmm_cached *e, uint32_t access)
{
    const struct vmm_page_plan *plan = &t->current->plan;
    struct vmm_translation why = {.size = sizeof(why), .permissions = e->permissions};
    if (plan->format && access != VMM_ACCESS_ANY)
        why.reason = plan->format->check(plan, e->permissions, access);
    if (why.reason != VMM_FAULT_NONE) {
        /* Walk, for all that the report should say. */
        int r = vmm_page_walk(t->memory, plan, e->page << VMM_PAGE_SHIFT, access, &why, NULL);
        return r < 0 ? faulted(t, &why) : -EAGAIN;
    }
    e->allowed |= 1u << access;
    return 0;
}

static int miss(struct vmm_translator *t, struct vmm_cached *e, uint64_t address, uint32_t access)
{
    struct vmm_translation tr;
    struct vmm_page_trace trace;
    trace.count = 0;
    if (vmm_page_walk(t->memory, &t->current->plan, address, access, &tr, &trace) < 0) {
        e->context = 0;
        return faulted(t, &tr);
    }
    vmm_held_make_room(t);
    remember(t, e, address >> VMM_PAGE_SHIFT, &tr, &trace);
    e->allowed |= 1u << access;
    return 0;
}

int vmm_translator_find(struct vmm_translator *t, uint64_t address, uint32_t access,
                        struct vmm_cached **out)
{
    uint64_t page = address >> VMM_PAGE_SHIFT;
    uint64_t generation = vmm_snapshot_generation(&t->memory->cell);
    if (generation != t->generation) {
        vmm_translator_flush(t);
        t->generation = generation;
    }
    struct vmm_cached *e = &t->entries[entry_index(t, page)];
    *out = e;
    if (e->page == page && e->context == t->current->id) {
        if (still_true(e)) {
            int r = e->allowed >> access & 1 ? 0 : permit(t, e, access);
            t->stats.hits += r == 0;
            if (r != -EAGAIN)
                return r;
        }
        t->stats.stale++;
    } else {
        t->stats.misses++;
    }
    return miss(t, e, address, access);
}

static bool access_ok(uint32_t access)
{
    return vmm_page_access_ok(access) && !(access & VMM_ACCESS_MARK);
}

int vmm_translator_lookup(struct vmm_translator *translator, uint64_t address, uint32_t access,
                          struct vmm_lookup *out)
{
    struct vmm_cached *e;
    if (!translator || !out || out->size < sizeof(*out) || !access_ok(access))
        return -EINVAL;
    int r = vmm_translator_find(translator, address, access, &e);
    if (r < 0)
        return r;
    uint64_t offset = address & (VMM_PAGE_SIZE - 1);
    out->data = e->host ? e->host + offset : NULL;
    out->length = VMM_PAGE_SIZE - (size_t)offset;
    out->physical = e->physical + offset;
    return 0;
}

/* Contexts and life ----------------------------------------------------------------------------- */

/* An id that no entry has. After four billion of them all entries are cleared. */
static uint32_t new_id(struct vmm_translator *t)
{
    if (++t->last_id == 0) {
        for (size_t i = 0; i <= t->mask; i++)
            t->entries[i].context = 0;
        for (size_t i = 0; i < VMM_ARRAY_SIZE(t->contexts); i++)
            if (t->contexts[i].id != 0)
                t->contexts[i].id = ++t->last_id;
        t->last_id++;
    }
    return t->last_id;
}

/* A new context in the place of the one used longest ago. */
static struct vmm_known_context *replace_context(struct vmm_translator *t,
                                                 const struct vmm_paging_context *context,
                                                 const struct vmm_page_plan *plan)
{
    struct vmm_known_context *oldest = &t->contexts[0];
    for (size_t i = 1; i < VMM_ARRAY_SIZE(t->contexts); i++)
        if (t->contexts[i].used < oldest->used)
            oldest = &t->contexts[i];
    oldest->context = *context;
    oldest->plan = *plan;
    oldest->id = new_id(t);
    return oldest;
}

int vmm_translator_set_context(struct vmm_translator *translator,
                               const struct vmm_paging_context *context)
{
    struct vmm_paging_context c;
    struct vmm_page_plan plan;
    if (!translator || !context)
        return -EINVAL;
    int r = vmm_options_copy(&c, sizeof(c), context);
    if (r == 0)
        r = vmm_page_plan_make(&c, &plan);
    if (r < 0)
        return r;
    struct vmm_known_context *known = NULL;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(translator->contexts) && !known; i++) {
        struct vmm_known_context *k = &translator->contexts[i];
        if (k->id != 0 && memcmp(&k->context, &c, sizeof(c)) == 0)
            known = k;
    }
    if (!known)
        known = replace_context(translator, &c, &plan);
    known->used = ++translator->clock;
    translator->current = known;
    return 0;
}

static int take_options(const struct vmm_translator_options *given, uint32_t *entries)
{
    struct vmm_translator_options o = VMM_TRANSLATOR_OPTIONS_INIT;
    int r = given ? vmm_options_copy(&o, sizeof(o), given) : 0;
    if (r < 0)
        return r;
    uint32_t want = o.entries ? o.entries : DEFAULT_ENTRIES;
    if (want > MOST_ENTRIES || o.reserved)
        return -EINVAL;
    *entries = 1;
    while (*entries < want)
        *entries *= 2;
    return 0;
}

int vmm_translator_new(struct vmm_memory *memory, const struct vmm_translator_options *options,
                       struct vmm_translator **out)
{
    const struct vmm_paging_context off = VMM_PAGING_CONTEXT_INIT;
    uint32_t entries;
    if (!memory || !out)
        return -EINVAL;
    int r = take_options(options, &entries);
    if (r < 0)
        return r;
    struct vmm_translator *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->mask = entries - 1;
    t->entries = aligned_alloc(64, entries * sizeof(*t->entries));
    if (!t->entries) {
        free(t);
        return -ENOMEM;
    }
    memset(t->entries, 0, entries * sizeof(*t->entries));
    t->memory = vmm_memory_ref(memory);
    t->generation = vmm_snapshot_generation(&memory->cell);
    (void)vmm_translator_set_context(t, &off);
    *out = t;
    return 0;
}

struct vmm_translator *vmm_translator_free(struct vmm_translator *translator)
{
    if (translator) {
        vmm_held_drop(translator);
        vmm_memory_unref(translator->memory);
        free(translator->entries);
        free(translator);
    }
    return NULL;
}

void vmm_translator_flush(struct vmm_translator *translator)
{
    if (!translator)
        return;
    /* New ids for the contexts: every entry belongs to none. */
    for (size_t i = 0; i < VMM_ARRAY_SIZE(translator->contexts); i++)
        if (translator->contexts[i].id != 0)
            translator->contexts[i].id = new_id(translator);
    vmm_held_drop(translator);
    translator->stats.flushes++;
}

int vmm_translator_fault(const struct vmm_translator *translator, struct vmm_translation *out)
{
    if (!translator || !out)
        return -EINVAL;
    return vmm_info_copy(out, &translator->fault, sizeof(translator->fault));
}

int vmm_translator_get_stats(const struct vmm_translator *translator,
                             struct vmm_translator_stats *stats)
{
    if (!translator || !stats)
        return -EINVAL;
    return vmm_info_copy(stats, &translator->stats, sizeof(translator->stats));
}
