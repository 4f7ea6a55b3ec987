/* SPDX-License-Identifier: BSD-3-Clause */
/* Consumers of the dirty log: what they watch, and harvesting. */
#include "base/util.h"
#include "memory/internal.h"

#include <stdlib.h>

/* Entries -------------------------------------------------------------------------------------- */

static void entry_unref(struct vmm_dirty_entry *entry)
{
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) != 1)
        return;
    vmm_dirty_log_give(entry->backing, entry->bit);
    vmm_backing_unref(entry->backing);
    vmm_memory_region_unref(entry->region);
    free(entry);
}

static struct vmm_memory_region *root_of(struct vmm_memory_region *region)
{
    return region->target ? region->target : region;
}

/* Watch a region, an alias by its part of the target. */
static int add_entry(struct vmm_dirty_consumer *c, struct vmm_memory_region *region)
{
    uint64_t page = c->memory->page_size;
    if (c->count == c->room) {
        size_t room = c->room ? c->room * 2 : 8;
        struct vmm_dirty_entry **entries = realloc(c->entries, room * sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        c->entries = entries;
        c->room = room;
    }
    struct vmm_dirty_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    int rc = vmm_dirty_log_take(region->backing, &entry->bit);
    if (rc) {
        free(entry);
        return rc;
    }
    atomic_init(&entry->refs, 1);
    entry->first = region->backing_offset / page;
    entry->count = region->length / page;
    entry->region_page = region->target ? region->target_offset / page : 0;
    entry->backing = vmm_backing_ref(region->backing);
    entry->region = vmm_memory_region_ref(root_of(region));
    c->entries[c->count++] = entry;
    return 0;
}

static bool watches(const struct vmm_dirty_consumer *c, const struct vmm_memory_region *region)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i]->region == region)
            return true;
    return false;
}

static int watch_all(struct vmm_dirty_consumer *c, bool as_written)
{
    const struct vmm_placements *list = &c->memory->placements;
    for (size_t i = 0; i < list->count; i++) {
        struct vmm_memory_region *region = root_of(list->items[i].region);
        if (!region->backing || watches(c, region))
            continue;
        int rc = add_entry(c, region);
        if (rc)
            return rc;
        if (as_written)
            vmm_dirty_log_mark(region->backing, region->backing_offset, region->length);
    }
    return 0;
}

/* Hooks of the map ----------------------------------------------------------------------------- */

bool vmm_dirty_wanted(const struct vmm_memory *memory, const struct vmm_backing *backing)
{
    for (const struct vmm_dirty_consumer *c = memory->dirty.consumers; c; c = c->next)
        for (size_t i = 0; i < c->count; i++)
            if (c->entries[i]->backing == backing)
                return true;
    return false;
}

int vmm_dirty_prepare(struct vmm_memory *memory, struct vmm_error *err)
{
    for (struct vmm_dirty_consumer *c = memory->dirty.consumers; c; c = c->next) {
        int rc = c->all ? watch_all(c, true) : 0;
        if (rc)
            return vmm_error_set(err, rc, "memory: new memory cannot be watched for writes: %s",
                                 strerror(-rc));
    }
    return 0;
}

static bool in_map(const struct vmm_memory *memory, const struct vmm_memory_region *region)
{
    for (size_t i = 0; i < memory->placements.count; i++)
        if (root_of(memory->placements.items[i].region) == region)
            return true;
    return false;
}

void vmm_dirty_settle(struct vmm_memory *memory)
{
    for (struct vmm_dirty_consumer *c = memory->dirty.consumers; c; c = c->next) {
        for (size_t i = 0; c->all && i < c->count;) {
            if (in_map(memory, c->entries[i]->region)) {
                i++;
                continue;
            }
            entry_unref(c->entries[i]);
            c->entries[i] = c->entries[--c->count];
        }
    }
}

/* Consumers ------------------------------------------------------------------------------------ */

static void unlink_consumer(struct vmm_dirty_consumer *c)
{
    struct vmm_dirty_consumer **link = &c->memory->dirty.consumers;
    while (*link && *link != c)
        link = &(*link)->next;
    if (*link)
        *link = c->next;
}

static void free_consumer(struct vmm_dirty_consumer *c)
{
    for (size_t i = 0; i < c->count; i++)
        entry_unref(c->entries[i]);
    vmm_memory_unref(c->memory);
    free(c->entries);
    free(c);
}

static int start(struct vmm_dirty_consumer *c, struct vmm_memory_region *region,
                 struct vmm_error *err)
{
    struct vmm_memory *memory = c->memory;
    int rc = region ? add_entry(c, region) : watch_all(c, false);
    if (rc)
        return vmm_error_set(err, rc, "dirty log: %s",
                             rc == -ENOSPC ? "a backing has all its consumers" : strerror(-rc));
    vmm_dirty_kvm_prepare(memory);
    c->next = memory->dirty.consumers;
    memory->dirty.consumers = c;
    rc = vmm_memory_refresh(memory, err);
    if (rc)
        unlink_consumer(c);
    return rc;
}

int vmm_dirty_consumer_new(struct vmm_memory *memory, struct vmm_memory_region *region,
                           struct vmm_dirty_consumer **out, struct vmm_error *err)
{
    if (!memory || !out || (region && !region->backing))
        return vmm_error_set(err, -EINVAL, "dirty log: no memory to watch");
    struct vmm_dirty_consumer *c = calloc(1, sizeof(*c));
    if (!c)
        return vmm_error_set(err, -ENOMEM, "dirty log: out of memory");
    c->memory = vmm_memory_ref(memory);
    c->all = !region;
    pthread_mutex_lock(&memory->lock);
    int rc = start(c, region, err);
    pthread_mutex_unlock(&memory->lock);
    if (rc) {
        free_consumer(c);
        return rc;
    }
    /* Writes that began before the log was on are visible when this returns. */
    vmm_snapshot_synchronize(&memory->cell);
    *out = c;
    return 0;
}

struct vmm_dirty_consumer *vmm_dirty_consumer_free(struct vmm_dirty_consumer *consumer)
{
    if (!consumer)
        return NULL;
    struct vmm_memory *memory = consumer->memory;
    pthread_mutex_lock(&memory->lock);
    unlink_consumer(consumer);
    /* If KVM refuses to stop logging, that costs time but is not wrong. */
    (void)vmm_memory_refresh(memory, NULL);
    pthread_mutex_unlock(&memory->lock);
    free_consumer(consumer);
    return NULL;
}

uint64_t vmm_dirty_generation(const struct vmm_dirty_consumer *consumer)
{
    return consumer->generation;
}

/* Harvest -------------------------------------------------------------------------------------- */

struct harvest {
    const struct vmm_flat_map *map; /* to say where the guest sees a page */
    const struct vmm_dirty_entry *entry;
    uint64_t page_size;
    uint64_t start, end; /* the run of pages not yet reported */
    int (*fn)(void *ctx, const struct vmm_dirty_range *range);
    void *ctx;
};

/* Where the guest sees an offset of a region, and how many bytes of `length` continue there. */
static uint64_t address_of(const struct vmm_flat_map *map, const struct vmm_memory_region *region,
                           uint64_t offset, uint64_t *length)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct vmm_flat *piece = &map->pieces[i];
        uint64_t last = piece->region_offset + (piece->last - piece->start);
        if (piece->region != region || offset > last)
            continue;
        if (offset >= piece->region_offset) {
            if (*length > last - offset + 1)
                *length = last - offset + 1;
            return piece->start + (offset - piece->region_offset);
        }
    }
    /* Hidden: up to where something of it is visible again. */
    for (size_t i = 0; i < map->count; i++) {
        const struct vmm_flat *piece = &map->pieces[i];
        if (piece->region == region && piece->region_offset > offset &&
            piece->region_offset - offset < *length)
            *length = piece->region_offset - offset;
    }
    return UINT64_MAX;
}

static int report(struct harvest *h)
{
    const struct vmm_dirty_entry *e = h->entry;
    int rc = 0;
    while (h->start < h->end) {
        struct vmm_dirty_range range = {.size = sizeof(range), .region = e->region};
        range.offset = (h->start - e->first + e->region_page) * h->page_size;
        range.length = (h->end - h->start) * h->page_size;
        range.address = address_of(h->map, e->region, range.offset, &range.length);
        h->start += range.length / h->page_size;
        rc = h->fn(h->ctx, &range);
        if (rc)
            break;
    }
    return rc;
}

/* What was not reported is marked again. */
static void put_back(struct harvest *h)
{
    uint64_t page = h->page_size;
    if (h->start < h->end)
        vmm_dirty_log_mark(h->entry->backing, h->start * page, (h->end - h->start) * page);
}

static uint64_t take_word(const struct vmm_dirty_entry *e, _Atomic uint64_t *bits, uint64_t word)
{
    uint64_t mask = UINT64_MAX, last = e->first + e->count - 1;
    if (word == e->first / 64)
        mask &= UINT64_MAX << (e->first % 64);
    if (word == last / 64)
        mask &= UINT64_MAX >> (63 - last % 64);
    if ((atomic_load_explicit(&bits[word], memory_order_relaxed) & mask) == 0)
        return 0;
    return atomic_fetch_and(&bits[word], ~mask) & mask;
}

static int harvest_word(struct harvest *h, uint64_t word, uint64_t set, _Atomic uint64_t *bits)
{
    while (set) {
        unsigned low = (unsigned)__builtin_ctzll(set);
        uint64_t rest = ~(set >> low);
        unsigned length = rest ? (unsigned)__builtin_ctzll(rest) : 64;
        uint64_t run = length == 64 ? UINT64_MAX : (((uint64_t)1 << length) - 1) << low;
        if (h->end != word * 64 + low) {
            int rc = report(h);
            if (rc) {
                atomic_fetch_or(&bits[word], set);
                return rc;
            }
            h->start = word * 64 + low;
        }
        h->end = word * 64 + low + length;
        set &= ~run;
    }
    return 0;
}

static int harvest_entry(struct harvest *h)
{
    const struct vmm_dirty_entry *e = h->entry;
    _Atomic uint64_t *bits = atomic_load(&e->backing->log.bits[e->bit]);
    uint64_t last = (e->first + e->count - 1) / 64;
    int rc = 0;
    h->start = h->end = e->first;
    for (uint64_t word = e->first / 64; word <= last && rc == 0; word++) {
        uint64_t set = take_word(e, bits, word);
        if (set)
            rc = harvest_word(h, word, set, bits);
    }
    if (rc == 0)
        rc = report(h);
    put_back(h);
    return rc;
}

int vmm_dirty_harvest(struct vmm_dirty_consumer *consumer,
                      int (*fn)(void *ctx, const struct vmm_dirty_range *range), void *ctx)
{
    struct vmm_memory *memory = consumer->memory;
    if (!fn)
        return -EINVAL;
    pthread_mutex_lock(&memory->lock);
    int rc = vmm_dirty_kvm_sync(memory);
    size_t count = consumer->count;
    /* A copy: regions may come and go while the ranges are reported. */
    struct vmm_dirty_entry **entries = calloc(count + 1, sizeof(struct vmm_dirty_entry *));
    for (size_t i = 0; entries && i < count; i++) {
        entries[i] = consumer->entries[i];
        atomic_fetch_add_explicit(&entries[i]->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&memory->lock);
    if (!entries)
        return -ENOMEM;
    uint64_t generation;
    struct vmm_snapshot *map = vmm_snapshot_hold(&memory->cell, &generation);
    struct harvest h = {
        .map = (struct vmm_flat_map *)map, .page_size = memory->page_size, .fn = fn, .ctx = ctx};
    for (size_t i = 0; i < count; i++) {
        h.entry = entries[i];
        if (rc == 0)
            rc = harvest_entry(&h);
        entry_unref(entries[i]);
    }
    vmm_snapshot_unref(map);
    free(entries);
    consumer->generation++;
    return rc;
}

int vmm_dirty_sync(struct vmm_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    int rc = vmm_dirty_kvm_sync(memory);
    pthread_mutex_unlock(&memory->lock);
    return rc;
}

int vmm_dirty_get_stats(struct vmm_memory *memory, struct vmm_dirty_stats *stats)
{
    if (!stats)
        return -EINVAL;
    pthread_mutex_lock(&memory->lock);
    struct vmm_dirty_stats now = memory->dirty.stats;
    pthread_mutex_unlock(&memory->lock);
    now.size = sizeof(now);
    return vmm_info_copy(stats, &now, sizeof(now));
}
