/* SPDX-License-Identifier: BSD-3-Clause */
/* x86 page tables in all their modes: SDM volume 3 chapter 4, APM volume 2 chapter 5. */
#include "memory/page-format.h"

#include <errno.h>

#define P   0x1u
#define RW  0x2u
#define US  0x4u
#define PWT 0x8u
#define PCD 0x10u
#define A   0x20u
#define D   0x40u
#define PS  0x80u
#define G   0x100u
#define XD  ((uint64_t)1 << 63)

#define PAT_4K    0x80u
#define PAT_LARGE 0x1000u
#define KEY_SHIFT 59u

/* Error code of #PF (SDM 3, 4.7). */
#define PF_P    0x1u
#define PF_W    0x2u
#define PF_U    0x4u
#define PF_RSVD 0x8u
#define PF_I    0x10u
#define PF_PK   0x20u

/* Bits low to high, both inclusive; none when high is below low. */
static uint64_t bits(uint32_t low, uint32_t high)
{
    if (high < low)
        return 0;
    return (UINT64_MAX >> (63 - high)) & (UINT64_MAX << low);
}

static bool is_32bit(const struct vmm_page_plan *plan)
{
    return plan->entry_size == 4;
}

/* The top entries of PAE are not like the others. */
static bool is_pdpte(const struct vmm_page_plan *plan, uint32_t level)
{
    return plan->tree[0].levels == 3 && level == 2;
}

static void set_tree(struct vmm_page_plan *plan, uint32_t levels, uint32_t virtual_bits,
                     uint64_t root_bits)
{
    plan->tree[0].levels = levels;
    plan->tree[0].bits = virtual_bits;
    plan->tree[0].root &= root_bits;
}

/* Table 4-4 to 4-6 of the SDM. The page's bits 39:32 are in bits 20:13 of a 4 MiB entry. */
static void prepare_32bit(struct vmm_page_plan *plan)
{
    uint32_t width = plan->address_bits > 40 ? 40 : plan->address_bits;
    if (!(plan->flags & VMM_PAGING_PSE36))
        width = 32;
    plan->entry_size = plan->pointer_size = 4;
    set_tree(plan, 2, 32, bits(12, 31));
    plan->level[0] = (struct vmm_page_level){.shift = 12, .bits = 10};
    plan->level[1] = (struct vmm_page_level){.shift = 22,
                                             .bits = 10,
                                             .leaf = (plan->flags & VMM_PAGING_PSE) != 0,
                                             .leaf_reserved = bits(width - 19, 21)};
}

static void prepare_low_levels(struct vmm_page_plan *plan, uint64_t high)
{
    plan->entry_size = 8;
    plan->level[0] = (struct vmm_page_level){
        .shift = 12, .bits = 9, .table_reserved = high, .leaf_reserved = high};
    plan->level[1] = (struct vmm_page_level){.shift = 21,
                                             .bits = 9,
                                             .leaf = true,
                                             .table_reserved = high,
                                             .leaf_reserved = high | bits(13, 20)};
}

/* Tables 4-8 to 4-11. A PDPTE has no rights, no accessed bit and reserves their places. */
static void prepare_pae(const struct vmm_paging_context *context, struct vmm_page_plan *plan)
{
    uint64_t high = bits(plan->address_bits, 62);
    if (!(plan->flags & VMM_PAGING_NX))
        high |= XD;
    plan->pointer_size = 4;
    set_tree(plan, 3, 32, bits(5, 31));
    prepare_low_levels(plan, high);
    plan->level[2] = (struct vmm_page_level){.shift = 30,
                                             .bits = 2,
                                             .table_reserved = bits(1, 2) | bits(5, 8) |
                                                               bits(plan->address_bits, 63)};
    plan->top_cached = (plan->flags & VMM_PAGING_TOP_CACHED) != 0;
    for (unsigned i = 0; i < 4; i++)
        plan->top[i] = context->top_entries[i];
}

/* Tables 4-14 to 4-20. */
static void prepare_long(struct vmm_page_plan *plan, uint32_t levels)
{
    uint64_t high = bits(plan->address_bits, 51);
    if (!(plan->flags & VMM_PAGING_NX))
        high |= XD;
    plan->pointer_size = 8;
    set_tree(plan, levels, levels == 5 ? 57 : 48, bits(12, 51));
    plan->sign_extended = true;
    plan->has_keys = true;
    prepare_low_levels(plan, high);
    bool giant = (plan->flags & VMM_PAGING_PAGES_1G) != 0;
    plan->level[2] = (struct vmm_page_level){.shift = 30,
                                             .bits = 9,
                                             .leaf = giant,
                                             .table_reserved = giant ? high : high | PS,
                                             .leaf_reserved = high | bits(13, 29)};
    uint64_t top = high | PS | (plan->flags & VMM_PAGING_AMD ? G : 0);
    plan->level[3] = (struct vmm_page_level){.shift = 39, .bits = 9, .table_reserved = top};
    plan->level[4] = (struct vmm_page_level){.shift = 48, .bits = 9, .table_reserved = top};
}

static int prepare(const struct vmm_paging_context *context, struct vmm_page_plan *plan)
{
    if (plan->address_bits == 0)
        plan->address_bits = 52;
    if (plan->address_bits < 32 || plan->address_bits > 52)
        return -EINVAL;
    plan->table_size = VMM_PAGE_SIZE;
    plan->tree[0].root = context->root;
    switch (context->format) {
    case VMM_PAGE_FORMAT_X86_32:
        prepare_32bit(plan);
        break;
    case VMM_PAGE_FORMAT_X86_PAE:
        prepare_pae(context, plan);
        break;
    case VMM_PAGE_FORMAT_X86_4LEVEL:
    case VMM_PAGE_FORMAT_X86_5LEVEL:
        prepare_long(plan, context->format == VMM_PAGE_FORMAT_X86_5LEVEL ? 5 : 4);
        break;
    default:
        return -EINVAL;
    }
    /* Above the leaves the processor ignores the dirty bit. PDPTEs of PAE reserve both. */
    plan->own_bits = plan->tree[0].levels == 3 && !plan->top_cached ? 0 : A | D;
    return 0;
}

static uint32_t leaf_attributes(const struct vmm_page_plan *plan, uint32_t level, uint64_t entry)
{
    uint32_t cache = (entry & PWT ? 1u : 0) | (entry & PCD ? 2u : 0);
    if (entry & (level == 0 ? PAT_4K : PAT_LARGE))
        cache |= 4;
    uint32_t permissions = VMM_PAGE_CACHE(cache);
    if (entry & G)
        permissions |= VMM_PAGE_GLOBAL;
    if (entry & A)
        permissions |= VMM_PAGE_ACCESSED;
    if (entry & D)
        permissions |= VMM_PAGE_DIRTY;
    if (plan->has_keys)
        permissions |= VMM_PAGE_KEY(entry >> KEY_SHIFT);
    return permissions;
}

static uint64_t leaf_address(const struct vmm_page_plan *plan, uint32_t level, uint64_t entry)
{
    if (!is_32bit(plan))
        return entry & bits(plan->level[level].shift, 51);
    if (level == 0)
        return entry & bits(12, 31);
    return (entry & bits(22, 31)) | (entry & bits(13, 20)) << 19;
}

static void decode(const struct vmm_page_plan *plan, uint32_t level, uint64_t entry,
                   struct vmm_page_step *step)
{
    const struct vmm_page_level *l = &plan->level[level];
    step->permissions = 0;
    step->next = 0;
    if (!(entry & P)) {
        step->kind = VMM_ENTRY_ABSENT;
        return;
    }
    bool leaf = level == 0 || (l->leaf && (entry & PS));
    if (entry & (leaf ? l->leaf_reserved : l->table_reserved)) {
        step->kind = VMM_ENTRY_RESERVED;
        return;
    }
    bool pdpte = is_pdpte(plan, level);
    if (pdpte || (entry & RW))
        step->permissions |= VMM_PAGE_WRITE;
    if (pdpte || (entry & US))
        step->permissions |= VMM_PAGE_USER;
    if (is_32bit(plan) || !(entry & XD))
        step->permissions |= VMM_PAGE_EXECUTE;
    if (leaf) {
        step->kind = VMM_ENTRY_LEAF;
        step->permissions |= leaf_attributes(plan, level, entry);
        step->next = leaf_address(plan, level, entry);
    } else {
        step->kind = VMM_ENTRY_TABLE;
        step->next = entry & bits(12, is_32bit(plan) ? 31 : 51);
    }
}

static uint32_t access_code(const struct vmm_page_plan *plan, uint32_t access)
{
    uint32_t code = 0;
    if (access & VMM_ACCESS_WRITE)
        code |= PF_W;
    if (access & VMM_ACCESS_USER)
        code |= PF_U;
    bool nx = (plan->flags & VMM_PAGING_NX) && !is_32bit(plan);
    if ((access & VMM_ACCESS_EXECUTE) && (nx || (plan->flags & VMM_PAGING_SMEP)))
        code |= PF_I;
    return code;
}

/* SDM 3, 4.6.2: does the page's key forbid the access? */
static bool key_forbids(const struct vmm_page_plan *plan, uint32_t permissions, uint32_t access)
{
    if (!plan->has_keys || (access & VMM_ACCESS_EXECUTE))
        return false;
    bool user_page = (permissions & VMM_PAGE_USER) != 0;
    if (!(plan->flags & (user_page ? VMM_PAGING_PKU : VMM_PAGING_PKS)))
        return false;
    uint32_t keys = user_page ? plan->user_keys : plan->supervisor_keys;
    uint32_t rule = keys >> (2 * VMM_PAGE_KEY_OF(permissions));
    if (rule & 1)
        return true;
    bool obeys =
        (plan->flags & VMM_PAGING_WP) != 0 || (user_page && (access & VMM_ACCESS_USER) != 0);
    return (rule & 2) && (access & VMM_ACCESS_WRITE) && obeys;
}

/* SDM 3, 4.6.1, without the keys. */
static uint32_t rights_fault(const struct vmm_page_plan *plan, uint32_t permissions,
                             uint32_t access)
{
    bool user = (access & VMM_ACCESS_USER) != 0;
    bool execute = (access & VMM_ACCESS_EXECUTE) != 0;
    bool user_page = (permissions & VMM_PAGE_USER) != 0;
    if (user && !user_page)
        return VMM_FAULT_USER;
    if ((access & VMM_ACCESS_WRITE) && !(permissions & VMM_PAGE_WRITE) &&
        (user || (plan->flags & VMM_PAGING_WP)))
        return VMM_FAULT_WRITE;
    if (execute && !(permissions & VMM_PAGE_EXECUTE))
        return VMM_FAULT_EXECUTE;
    if (user || !user_page)
        return VMM_FAULT_NONE;
    if (execute)
        return plan->flags & VMM_PAGING_SMEP ? VMM_FAULT_USER_EXECUTE : VMM_FAULT_NONE;
    if ((plan->flags & VMM_PAGING_SMAP) && !(access & VMM_ACCESS_AC))
        return VMM_FAULT_USER_ACCESS;
    return VMM_FAULT_NONE;
}

static uint32_t check(const struct vmm_page_plan *plan, uint32_t permissions, uint32_t access)
{
    uint32_t reason = rights_fault(plan, permissions, access);
    if (reason == VMM_FAULT_NONE && key_forbids(plan, permissions, access))
        reason = VMM_FAULT_KEY;
    return reason;
}

static uint32_t fault_code(const struct vmm_page_plan *plan, uint32_t reason, uint32_t level,
                           uint32_t permissions, uint32_t access)
{
    uint32_t code = access_code(plan, access);
    (void)level;
    switch (reason) {
    case VMM_FAULT_ADDRESS:
        return 0;
    case VMM_FAULT_ABSENT:
    case VMM_FAULT_TABLE:
        return code;
    case VMM_FAULT_RESERVED:
        return code | PF_RSVD | PF_P;
    default:
        /* The key's bit is set whenever the key forbids, whatever else does too (SDM 3, 4.7). */
        return code | PF_P | (key_forbids(plan, permissions, access) ? PF_PK : 0);
    }
}

static uint64_t mark(const struct vmm_page_plan *plan, uint32_t level, bool leaf, uint64_t entry,
                     uint32_t access)
{
    if (is_pdpte(plan, level))
        return entry;
    return entry | A | (leaf && (access & VMM_ACCESS_WRITE) ? D : 0);
}

/* Tables give every right; the leaves decide. */
static uint64_t encode_table(const struct vmm_page_plan *plan, uint32_t level, uint64_t address)
{
    if (is_pdpte(plan, level))
        return address | P;
    return address | P | RW | US;
}

static uint64_t encode_leaf(const struct vmm_page_plan *plan, uint32_t level, uint64_t address,
                            uint32_t permissions)
{
    uint64_t entry = address | P;
    if (is_32bit(plan))
        entry = (address & bits(12, 31)) | (address >> 19 & bits(13, 20)) | P;
    uint32_t cache = VMM_PAGE_CACHE_OF(permissions);
    entry |= (permissions & VMM_PAGE_WRITE ? RW : 0) | (permissions & VMM_PAGE_USER ? US : 0);
    entry |= (permissions & VMM_PAGE_GLOBAL ? G : 0) | (permissions & VMM_PAGE_ACCESSED ? A : 0);
    entry |= (permissions & VMM_PAGE_DIRTY ? D : 0) | (cache & 1 ? PWT : 0) | (cache & 2 ? PCD : 0);
    if (cache & 4)
        entry |= level == 0 ? PAT_4K : PAT_LARGE;
    if (level != 0)
        entry |= PS;
    if (!(permissions & VMM_PAGE_EXECUTE))
        entry |= XD;
    return entry | (uint64_t)VMM_PAGE_KEY_OF(permissions) << KEY_SHIFT;
}

static bool expressible(const struct vmm_page_plan *plan, uint32_t permissions)
{
    if (!(permissions & VMM_PAGE_EXECUTE) && (is_32bit(plan) || !(plan->flags & VMM_PAGING_NX)))
        return false;
    return !(permissions & VMM_PAGE_USER_EXECUTE) &&
           (plan->has_keys || VMM_PAGE_KEY_OF(permissions) == 0);
}

const struct vmm_page_format vmm_page_format_x86 = {
    .prepare = prepare,
    .decode = decode,
    .check = check,
    .code = fault_code,
    .mark = mark,
    .encode_table = encode_table,
    .encode_leaf = encode_leaf,
    .expressible = expressible,
};
