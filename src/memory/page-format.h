/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the walker, the iterator, the builder and the translation cache know of a page-table
 * format. They are the same for every format; a format is one `struct vmm_page_format`.
 */
#ifndef MEMORY_PAGE_FORMAT_H
#define MEMORY_PAGE_FORMAT_H

#include <libvmm/paging.h>

#define VMM_PAGE_LEVELS 5u
#define VMM_PAGE_SHIFT  12u
#define VMM_PAGE_SIZE   4096u

#define VMM_ACCESS_ALL                                                                             \
    (VMM_ACCESS_WRITE | VMM_ACCESS_EXECUTE | VMM_ACCESS_USER | VMM_ACCESS_AC | VMM_ACCESS_ANY |    \
     VMM_ACCESS_MARK)

/* Rights that hold only if every level gives them. */
#define VMM_PAGE_RIGHTS (VMM_PAGE_WRITE | VMM_PAGE_USER | VMM_PAGE_EXECUTE | VMM_PAGE_USER_EXECUTE)
/* Of every address without paging. */
#define VMM_PAGE_NO_RULES (VMM_PAGE_WRITE | VMM_PAGE_USER | VMM_PAGE_EXECUTE)

enum vmm_page_kind { VMM_ENTRY_ABSENT, VMM_ENTRY_RESERVED, VMM_ENTRY_TABLE, VMM_ENTRY_LEAF };

struct vmm_page_level {
    uint32_t shift; /* an entry maps 1 << shift bytes */
    uint32_t bits;  /* a table has 1 << bits entries */
    bool leaf;      /* an entry may be a large page (the lowest level: always a page) */
    uint64_t table_reserved;
    uint64_t leaf_reserved;
};

struct vmm_page_format;

/* x86 has one; arm64 has one for each end of the address space. */
struct vmm_page_tree {
    uint64_t root;
    uint32_t levels;
    uint32_t bits; /* of the addresses that it translates; 0: none */
    bool flat;     /* the tables on the way to a leaf say nothing about rights */
    bool tagged;   /* bits 63 to 56 of the address mean nothing */
    bool closed;   /* to the user */
};

/* A context, checked and worked out. Level 0 is the lowest. */
struct vmm_page_plan {
    const struct vmm_page_format *format; /* NULL: paging is off */
    uint32_t entry_size;
    uint32_t table_size;
    uint32_t pointer_size;
    uint32_t flags;
    uint32_t address_bits;
    bool sign_extended; /* the highest bit of the one tree's addresses fills the rest */
    bool split;         /* two trees, chosen by bit 55 */
    bool has_keys;
    bool top_cached;
    uint64_t own_bits; /* of an entry at any level: those the processor itself sets */
    uint32_t user_keys;
    uint32_t supervisor_keys;
    uint64_t top[4];
    struct vmm_page_tree tree[2];
    struct vmm_page_level level[VMM_PAGE_LEVELS];
};

struct vmm_page_step {
    enum vmm_page_kind kind;
    uint32_t permissions;
    uint64_t next; /* the next table's or the page's address */
};

struct vmm_page_format {
    /* Check the format's part of a context and work out geometry and masks. 0 or -EINVAL. */
    int (*prepare)(const struct vmm_paging_context *context, struct vmm_page_plan *plan);
    void (*decode)(const struct vmm_page_plan *plan, uint32_t level, uint64_t entry,
                   struct vmm_page_step *step);
    /* May `access` use a page of these permissions? VMM_FAULT_…. */
    uint32_t (*check)(const struct vmm_page_plan *plan, uint32_t permissions, uint32_t access);
    /* What the processor says of a fault. `level` is the entry's, `permissions` only a page's that was found. */
    uint32_t (*code)(const struct vmm_page_plan *plan, uint32_t reason, uint32_t level,
                     uint32_t permissions, uint32_t access);
    /* The entry as `access` leaves it. */
    uint64_t (*mark)(const struct vmm_page_plan *plan, uint32_t level, bool leaf, uint64_t entry,
                     uint32_t access);
    uint64_t (*encode_table)(const struct vmm_page_plan *plan, uint32_t level, uint64_t address);
    uint64_t (*encode_leaf)(const struct vmm_page_plan *plan, uint32_t level, uint64_t address,
                            uint32_t permissions);
    /* Can the format express the permissions? */
    bool (*expressible)(const struct vmm_page_plan *plan, uint32_t permissions);
};

extern const struct vmm_page_format vmm_page_format_x86;
extern const struct vmm_page_format vmm_page_format_arm64;

/* The format of a VMM_PAGE_FORMAT_…; NULL where there is none (NONE too). */
const struct vmm_page_format *vmm_page_format_find(uint32_t format);

/* Copy and check a caller's context. 0, -EINVAL, -E2BIG. */
int vmm_page_plan_make(const struct vmm_paging_context *context, struct vmm_page_plan *plan);

/* The tree that translates the address; NULL: none does. */
static inline const struct vmm_page_tree *vmm_page_tree_of(const struct vmm_page_plan *plan,
                                                           uint64_t address)
{
    const struct vmm_page_tree *tree = &plan->tree[0];
    if (plan->split) {
        bool upper = address >> 55 & 1;
        tree = &plan->tree[upper];
        address ^= upper ? UINT64_MAX : 0;
        address &= tree->tagged ? UINT64_MAX >> 8 : UINT64_MAX;
        return tree->bits && address >> tree->bits == 0 ? tree : NULL;
    }
    if (!plan->sign_extended)
        return address >> tree->bits == 0 ? tree : NULL;
    uint64_t top = address >> (tree->bits - 1);
    return top == 0 || top == UINT64_MAX >> (tree->bits - 1) ? tree : NULL;
}

/* The top table of a tree may have fewer entries than others. */
static inline uint64_t vmm_page_entries(const struct vmm_page_plan *plan,
                                        const struct vmm_page_tree *tree, uint32_t level)
{
    const struct vmm_page_level *l = &plan->level[level];
    uint32_t left = tree->bits - l->shift;
    return (uint64_t)1 << (left < l->bits ? left : l->bits);
}

static inline uint64_t vmm_page_index(const struct vmm_page_plan *plan,
                                      const struct vmm_page_tree *tree, uint32_t level,
                                      uint64_t address)
{
    return (address >> plan->level[level].shift) & (vmm_page_entries(plan, tree, level) - 1);
}

/* One entry that a walk used. */
struct vmm_page_trace_entry {
    uint64_t address;
    uint64_t entry;
};

struct vmm_page_trace {
    uint32_t count;
    struct vmm_page_trace_entry entries[VMM_PAGE_LEVELS];
};

/* The walk itself. `out` is zero-filled by it; `trace` may be NULL. 0, -EFAULT, -EAGAIN. */
int vmm_page_walk(struct vmm_memory *memory, const struct vmm_page_plan *plan, uint64_t address,
                  uint32_t access, struct vmm_translation *out, struct vmm_page_trace *trace);

/* Is it a combination of VMM_ACCESS_… that makes sense? */
bool vmm_page_access_ok(uint32_t access);

#endif
