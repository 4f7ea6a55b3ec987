/* SPDX-License-Identifier: BSD-3-Clause */
/* Which guest RAM is free, and who has taken the rest: nothing is loaded over something else. */
#ifndef LOADER_LAYOUT_H
#define LOADER_LAYOUT_H

#include <libvmm/loader.h>

#define VMM_LAYOUT_MAP_MAX    1024u
#define VMM_LAYOUT_CLAIMS_MAX 1024u

struct vmm_span {
    uint64_t start;
    uint64_t length; /* never 0 */
};

struct vmm_claim {
    uint64_t start;
    uint64_t length;
    char name[48];
};

struct vmm_layout {
    struct vmm_memory *memory;
    struct vmm_memory_map_entry *map; /* as the guest is told */
    size_t map_count;
    struct vmm_span *ram; /* rising, not touching each other */
    size_t ram_count;
    struct vmm_claim *claims;
    size_t claim_count;
    size_t claim_room;
};

/* `map` may be empty: see vmm_kernel_options. */
int vmm_layout_init(struct vmm_layout *layout, struct vmm_memory *memory,
                    const struct vmm_memory_map_entry *map, size_t map_count,
                    struct vmm_error *err);
void vmm_layout_fini(struct vmm_layout *layout);

/* Take a range that must be free RAM. -ENOMEM: it is not RAM; -EEXIST: taken, by the one that the
 * text names. */
int vmm_layout_claim(struct vmm_layout *layout, uint64_t address, uint64_t length,
                     struct vmm_error *err, const char *name, ...) VMM_PRINTF(5, 6);

/* Would vmm_layout_claim() work? */
bool vmm_layout_free(const struct vmm_layout *layout, uint64_t address, uint64_t length);

struct vmm_place {
    uint64_t length;
    uint64_t align; /* a power of two */
    uint64_t low;   /* the first address allowed */
    uint64_t high;  /* the last address allowed, inclusive */
    bool top;       /* the highest place, not the lowest */
};

/* Find free RAM and take it. -ENOMEM: none. */
int vmm_layout_find(struct vmm_layout *layout, const struct vmm_place *place, uint64_t *address,
                    struct vmm_error *err, const char *name, ...) VMM_PRINTF(5, 6);

/* Bytes of RAM without a gap from `address`. */
uint64_t vmm_layout_ram_at(const struct vmm_layout *layout, uint64_t address);

#endif
