/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arm64 page tables: VMSAv8-64 stage 1 of the EL1&0 regime, with granules of 4, 16 and 64 KiB (Arm ARM, DDI 0487
 * chapter D8). Not the 52-bit variant of the smaller granules (TCR_EL1.DS), whose entries look different.
 * Level 0 here is the lowest; the architecture calls that one 3.
 */
#include "memory/page-format.h"

#include <errno.h>

/* D8.3: descriptors. */
#define VALID      0x1u
#define TABLE      0x2u /* of an entry above the lowest level; at the lowest a page has it too */
#define ATTR(n)    ((uint64_t)((n)&7u) << 2)
#define ATTR_OF(e) ((uint32_t)((e) >> 2) & 7u)
#define AP_USER    0x40u
#define AP_READ    0x80u /* AP[2]: read-only */
#define INNER      0x300u
#define AF         0x400u
#define NG         0x800u
#define DBM        ((uint64_t)1 << 51)
#define PXN        ((uint64_t)1 << 53)
#define UXN        ((uint64_t)1 << 54)
#define PXN_TABLE  ((uint64_t)1 << 59)
#define UXN_TABLE  ((uint64_t)1 << 60)
#define NO_USER    ((uint64_t)1 << 61) /* APTable[0] */
#define NO_WRITE   ((uint64_t)1 << 62) /* APTable[1] */

/* D17.2.37: ESR_EL1. */
#define EC_FETCH_EL0  0x20u
#define EC_DATA_EL0   0x24u
#define EC_SAME_LEVEL 1u /* added: from EL1 */
#define ESR_IL        0x2000000u
#define ESR_WRITE     0x40u
#define FSC_SIZE      0x00u /* each with the level added */
#define FSC_ABSENT    0x04u
#define FSC_FLAG      0x08u
#define FSC_RIGHTS    0x0cu
#define FSC_EXTERNAL  0x14u

static uint64_t ones(uint32_t low, uint32_t end)
{
    return (((uint64_t)1 << end) - 1) & (UINT64_MAX << low);
}

static uint32_t granule_shift(const struct vmm_page_plan *plan)
{
    return plan->level[0].shift;
}

/* With 64 KiB, bits 51 to 48 of an address are in bits 15 to 12 of an entry (D8.3.1). */
static bool wide(const struct vmm_page_plan *plan)
{
    return plan->address_bits > 48;
}

static uint64_t address_of(const struct vmm_page_plan *plan, uint32_t shift, uint64_t entry)
{
    uint64_t address = entry & ones(shift, 48);
    return wide(plan) ? address | (entry >> 12 & 15) << 48 : address;
}

static uint64_t put_address(const struct vmm_page_plan *plan, uint64_t address)
{
    uint64_t entry = address & ones(granule_shift(plan), 48);
    return wide(plan) ? entry | (address >> 48 & 15) << 12 : entry;
}

/* D8.2.4: the top table is as large as its entries need, 64 bytes at least. */
static int set_tree(struct vmm_page_plan *plan, struct vmm_page_tree *tree, uint64_t root,
                    uint32_t bits)
{
    uint32_t page = granule_shift(plan), step = page - 3;
    tree->bits = bits;
    if (bits == 0)
        return 0;
    if (bits < 16 || bits <= page || bits > (page == 16 ? 52u : 48u))
        return -EINVAL;
    tree->levels = (bits - page + step - 1) / step;
    uint32_t entries = bits - plan->level[tree->levels - 1].shift; /* as a power of two */
    uint32_t align = entries + 3 < 6 ? 6 : entries + 3;
    tree->root = root & ones(align, 48);
    if (wide(plan))
        tree->root |= (root >> 2 & 15) << 48;
    return 0;
}

static bool has_blocks(const struct vmm_page_plan *plan, uint32_t level)
{
    switch (granule_shift(plan)) {
    case 12:
        return level == 1 || level == 2;
    case 16:
        return level == 1 || (level == 2 && wide(plan));
    default:
        return level == 1;
    }
}

static int set_levels(struct vmm_page_plan *plan, uint32_t shift)
{
    uint32_t most = shift == 16 ? 52 : 48;
    if (plan->address_bits == 0)
        plan->address_bits = 48;
    if (plan->address_bits < 32 || plan->address_bits > most)
        return -EINVAL;
    plan->entry_size = plan->pointer_size = 8;
    plan->table_size = 1u << shift;
    for (uint32_t i = 0; i < VMM_PAGE_LEVELS - 1; i++) {
        struct vmm_page_level *l = &plan->level[i];
        l->bits = shift - 3;
        l->shift = shift + i * l->bits;
    }
    for (uint32_t i = 0; i < VMM_PAGE_LEVELS - 1; i++)
        plan->level[i].leaf = has_blocks(plan, i);
    return 0;
}

static int prepare(const struct vmm_paging_context *c, struct vmm_page_plan *plan)
{
    static const uint32_t shifts[] = {12, 14, 16};
    int rc = set_levels(plan, shifts[c->format - VMM_PAGE_FORMAT_ARM64_4K]);
    if (rc)
        return rc;
    plan->split = true;
    struct vmm_page_tree *lower = &plan->tree[0], *upper = &plan->tree[1];
    rc = set_tree(plan, lower, c->root, c->virtual_bits);
    if (!rc)
        rc = set_tree(plan, upper, c->upper_root, c->upper_bits);
    lower->flat = (c->flags & VMM_PAGING_FLAT_LOWER) != 0;
    upper->flat = (c->flags & VMM_PAGING_FLAT_UPPER) != 0;
    lower->tagged = (c->flags & VMM_PAGING_TAGS_LOWER) != 0;
    upper->tagged = (c->flags & VMM_PAGING_TAGS_UPPER) != 0;
    lower->closed = (c->flags & VMM_PAGING_CLOSED_LOWER) != 0;
    upper->closed = (c->flags & VMM_PAGING_CLOSED_UPPER) != 0;
    plan->own_bits = c->flags & VMM_PAGING_HA ? AF : 0;
    return rc;
}

/* D8.4: what a table takes away. */
static uint32_t table_rights(uint64_t entry)
{
    return (entry & NO_WRITE ? 0 : VMM_PAGE_WRITE) | (entry & NO_USER ? 0 : VMM_PAGE_USER) |
           (entry & PXN_TABLE ? 0 : VMM_PAGE_EXECUTE) |
           (entry & UXN_TABLE ? 0 : VMM_PAGE_USER_EXECUTE);
}

/* D8.4 and, for the dirty state, D8.5.2: a page with DBM that is read-only is one that can be written and is clean. */
static uint32_t leaf_permissions(const struct vmm_page_plan *plan, uint64_t entry)
{
    bool managed = (plan->flags & VMM_PAGING_HD) && (entry & DBM);
    uint32_t permissions = VMM_PAGE_CACHE(ATTR_OF(entry));
    if (!(entry & AP_READ) || managed)
        permissions |= VMM_PAGE_WRITE;
    if (!(entry & AP_READ) && managed)
        permissions |= VMM_PAGE_DIRTY;
    return permissions | (entry & AP_USER ? VMM_PAGE_USER : 0) |
           (entry & PXN ? 0 : VMM_PAGE_EXECUTE) | (entry & UXN ? 0 : VMM_PAGE_USER_EXECUTE) |
           (entry & NG ? 0 : VMM_PAGE_GLOBAL) | (entry & AF ? VMM_PAGE_ACCESSED : 0);
}

static void decode(const struct vmm_page_plan *plan, uint32_t level, uint64_t entry,
                   struct vmm_page_step *step)
{
    bool table = level != 0 && (entry & TABLE);
    bool leaf = level == 0 ? (entry & TABLE) != 0 : !table && plan->level[level].leaf;
    *step = (struct vmm_page_step){.kind = VMM_ENTRY_ABSENT};
    if (!(entry & VALID) || (!table && !leaf))
        return;
    step->next = address_of(plan, leaf ? plan->level[level].shift : granule_shift(plan), entry);
    /* An address size fault (D8.2.3). */
    if (step->next >> plan->address_bits) {
        *step = (struct vmm_page_step){.kind = VMM_ENTRY_RESERVED};
        return;
    }
    step->kind = leaf ? VMM_ENTRY_LEAF : VMM_ENTRY_TABLE;
    step->permissions = leaf ? leaf_permissions(plan, entry) : table_rights(entry);
}

/* PAN (D8.4.7): is the page the user's, as far as the supervisor's data accesses are concerned? */
static bool is_users(const struct vmm_page_plan *plan, uint32_t permissions)
{
    return (permissions & VMM_PAGE_USER) ||
           ((plan->flags & VMM_PAGING_EPAN) && (permissions & VMM_PAGE_USER_EXECUTE));
}

static uint32_t fetch_fault(const struct vmm_page_plan *plan, uint32_t permissions, bool user)
{
    uint32_t right = user ? VMM_PAGE_USER_EXECUTE : VMM_PAGE_EXECUTE;
    bool written = (permissions & VMM_PAGE_WRITE) != 0;
    if (!(permissions & right))
        return VMM_FAULT_EXECUTE;
    if (!user && written && (permissions & VMM_PAGE_USER))
        return VMM_FAULT_USER_EXECUTE; /* D8.4.6: what EL0 can write EL1 does not execute */
    /* What EL0 cannot write is not made its no-execute. */
    if (user)
        written = written && (permissions & VMM_PAGE_USER);
    return written && (plan->flags & VMM_PAGING_WXN) ? VMM_FAULT_EXECUTE : VMM_FAULT_NONE;
}

static uint32_t check(const struct vmm_page_plan *plan, uint32_t permissions, uint32_t access)
{
    bool user = (access & VMM_ACCESS_USER) != 0;
    if (!(permissions & VMM_PAGE_ACCESSED) && !(plan->flags & VMM_PAGING_HA))
        return VMM_FAULT_ACCESS_FLAG;
    if (access & VMM_ACCESS_EXECUTE)
        return fetch_fault(plan, permissions, user);
    if (user && !(permissions & VMM_PAGE_USER))
        return VMM_FAULT_USER;
    if ((access & VMM_ACCESS_WRITE) && !(permissions & VMM_PAGE_WRITE))
        return VMM_FAULT_WRITE;
    bool pan = (plan->flags & VMM_PAGING_SMAP) && !(access & VMM_ACCESS_AC);
    return !user && pan && is_users(plan, permissions) ? VMM_FAULT_USER_ACCESS : VMM_FAULT_NONE;
}

static uint32_t fault_status(uint32_t reason, uint32_t level)
{
    uint32_t depth = level ? 4 - level : 0; /* as the architecture counts */
    switch (reason) {
    case VMM_FAULT_ADDRESS: /* D8.2.2: a translation fault of level 0 */
        return FSC_ABSENT;
    case VMM_FAULT_ABSENT:
        return FSC_ABSENT + depth;
    case VMM_FAULT_RESERVED:
        return FSC_SIZE + depth;
    case VMM_FAULT_TABLE:
        return FSC_EXTERNAL + depth;
    case VMM_FAULT_ACCESS_FLAG:
        return FSC_FLAG + depth;
    default:
        return FSC_RIGHTS + depth;
    }
}

static uint32_t code(const struct vmm_page_plan *plan, uint32_t reason, uint32_t level,
                     uint32_t permissions, uint32_t access)
{
    uint32_t class = access & VMM_ACCESS_EXECUTE ? EC_FETCH_EL0 : EC_DATA_EL0;
    (void)plan;
    (void)permissions;
    if (!(access & VMM_ACCESS_USER))
        class += EC_SAME_LEVEL;
    return class << 26 | ESR_IL | (access & VMM_ACCESS_WRITE ? ESR_WRITE : 0) |
           fault_status(reason, level);
}

/* D8.5: only a leaf has them. */
static uint64_t mark(const struct vmm_page_plan *plan, uint32_t level, bool leaf, uint64_t entry,
                     uint32_t access)
{
    (void)level;
    if (!leaf || !(plan->flags & VMM_PAGING_HA))
        return entry;
    if ((access & VMM_ACCESS_WRITE) && (plan->flags & VMM_PAGING_HD) && (entry & DBM))
        entry &= ~(uint64_t)AP_READ;
    return entry | AF;
}

static uint64_t encode_table(const struct vmm_page_plan *plan, uint32_t level, uint64_t address)
{
    (void)level;
    return put_address(plan, address) | TABLE | VALID;
}

/* Inner shareable, as memory is that several processors use; devices' attributes leave that out. */
static uint64_t encode_leaf(const struct vmm_page_plan *plan, uint32_t level, uint64_t address,
                            uint32_t permissions)
{
    uint64_t entry = put_address(plan, address) | VALID | (level == 0 ? TABLE : 0) | INNER;
    bool write = (permissions & VMM_PAGE_WRITE) != 0;
    bool managed = write && (plan->flags & VMM_PAGING_HD);
    if ((permissions & VMM_PAGE_ACCESSED) || !(plan->flags & VMM_PAGING_HA))
        entry |= AF;
    if (managed)
        entry |= DBM;
    if (!write || (managed && !(permissions & VMM_PAGE_DIRTY)))
        entry |= AP_READ;
    return entry | ATTR(VMM_PAGE_CACHE_OF(permissions)) |
           (permissions & VMM_PAGE_USER ? AP_USER : 0) | (permissions & VMM_PAGE_GLOBAL ? 0 : NG) |
           (permissions & VMM_PAGE_EXECUTE ? 0 : PXN) |
           (permissions & VMM_PAGE_USER_EXECUTE ? 0 : UXN);
}

static bool expressible(const struct vmm_page_plan *plan, uint32_t permissions)
{
    bool dirty = (permissions & VMM_PAGE_DIRTY) != 0;
    if (dirty && (!(plan->flags & VMM_PAGING_HD) || !(permissions & VMM_PAGE_WRITE)))
        return false;
    return VMM_PAGE_KEY_OF(permissions) == 0;
}

const struct vmm_page_format vmm_page_format_arm64 = {
    .prepare = prepare,
    .decode = decode,
    .check = check,
    .code = code,
    .mark = mark,
    .encode_table = encode_table,
    .encode_leaf = encode_leaf,
    .expressible = expressible,
};
