/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest memory that a translator holds mapped, so that its host pointers stay good. Pieces are
 * as large as the backing allows: a few of them cover a guest.
 */
#include "base/util.h"
#include "memory/translator.h"

static const uint64_t piece_sizes[] = {(uint64_t)1 << 30, (uint64_t)1 << 21, VMM_PAGE_SIZE};

/* One walk needs the page and its tables, each in at most three tries. */
#define NEEDED_BY_WALK ((VMM_PAGE_LEVELS + 1) * VMM_ARRAY_SIZE(piece_sizes))

/* Where the key is or would be. The table is never full. */
static struct vmm_held *slot_of(struct vmm_translator *t, uint64_t key)
{
    size_t i = (size_t)((key * 0x9e3779b97f4a7c15ull) >> 32);
    for (;; i++) {
        struct vmm_held *h = &t->held[i & (VMM_HELD_SLOTS - 1)];
        if (h->key == key || h->key == 0)
            return h;
    }
}

const uint8_t *vmm_held_find(struct vmm_translator *t, uint64_t physical)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(piece_sizes); i++) {
        uint64_t size = piece_sizes[i];
        uint64_t start = physical & ~(size - 1);
        struct vmm_held *h = slot_of(t, start | size >> 1);
        if (h->key == 0) {
            h->key = start | size >> 1;
            t->held_slots[t->held_count++] = (uint16_t)(h - t->held);
            /* A failure is remembered too: no data. */
            if (vmm_memory_map(t->memory, start, (size_t)size, VMM_MAP_READ, &h->mapping) < 0)
                h->mapping.data = NULL;
        }
        if (h->mapping.data)
            return (const uint8_t *)h->mapping.data + (physical - start);
    }
    return NULL;
}

void vmm_held_make_room(struct vmm_translator *t)
{
    if (t->held_count + NEEDED_BY_WALK > VMM_HELD_SLOTS * 3 / 4)
        vmm_translator_flush(t);
}

void vmm_held_drop(struct vmm_translator *t)
{
    for (uint32_t i = 0; i < t->held_count; i++) {
        struct vmm_held *h = &t->held[t->held_slots[i]];
        if (h->mapping.data)
            vmm_memory_unmap(t->memory, &h->mapping);
        h->key = 0;
        h->mapping.data = NULL;
    }
    t->held_count = 0;
}
