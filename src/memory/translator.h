/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the translation cache. */
#ifndef MEMORY_TRANSLATOR_H
#define MEMORY_TRANSLATOR_H

#include "memory/page-format.h"

#include <libvmm/translate.h>

#define VMM_TRANSLATOR_CONTEXTS 16u
/* Pieces of guest memory that are held mapped; a power of two. */
#define VMM_HELD_SLOTS 1024u

/* A cached translation of one 4 KiB page, two cache lines. */
struct vmm_cached {
    uint64_t page;        /* guest-virtual, shifted */
    uint32_t context;     /* a vmm_known_context's id; 0: empty */
    uint32_t allowed;     /* by access: it was checked */
    uint32_t permissions; /* VMM_PAGE_… */
    uint8_t count;        /* table entries */
    bool narrow;          /* they have four bytes */
    const uint8_t *host;  /* of the page; NULL: not memory */
    uint64_t physical;
    const void *places[VMM_PAGE_LEVELS];
    uint64_t values[VMM_PAGE_LEVELS];
    uint64_t own_bits; /* of the values: left out of the comparison */
} __attribute__((aligned(64)));

struct vmm_known_context {
    struct vmm_paging_context context;
    struct vmm_page_plan plan;
    uint64_t used; /* by the translator's clock */
    uint32_t id;
};

/* A piece of guest memory: 1 GiB, 2 MiB or 4 KiB, whatever lies in one backing. */
struct vmm_held {
    uint64_t key; /* address | size, 0: free */
    struct vmm_mapping mapping;
};

struct vmm_translator {
    struct vmm_memory *memory;
    uint64_t generation;
    size_t mask;
    struct vmm_cached *entries;
    struct vmm_known_context *current;
    uint64_t clock;
    uint32_t last_id;
    uint32_t held_count;
    struct vmm_translator_stats stats;
    struct vmm_translation fault;
    struct vmm_known_context contexts[VMM_TRANSLATOR_CONTEXTS];
    struct vmm_held held[VMM_HELD_SLOTS];
    uint16_t held_slots[VMM_HELD_SLOTS]; /* those in use, `held_count` of them */
};

/* The cached page of an address, from the cache or by a walk. 0 or -EFAULT. */
int vmm_translator_find(struct vmm_translator *t, uint64_t address, uint32_t access,
                        struct vmm_cached **out);

/* Host address of guest-physical memory, mapped for reading and held; NULL: there is none. */
const uint8_t *vmm_held_find(struct vmm_translator *t, uint64_t physical);
/* Before one walk's memory is looked up: flush everything if it might not find room. */
void vmm_held_make_room(struct vmm_translator *t);
/* Let go of all. Entries that point there must be gone. */
void vmm_held_drop(struct vmm_translator *t);

#endif
