/* SPDX-License-Identifier: BSD-3-Clause */
/* The page-table walker: one guest-virtual address at a time, format by format. */
#include "base/util.h"
#include "memory/page-format.h"
#include "memory/table-access.h"

/* Walks begun again because the guest changed an entry between its read and its mark. */
#define MARK_RETRIES 16

const struct vmm_page_format *vmm_page_format_find(uint32_t format)
{
    switch (format) {
    case VMM_PAGE_FORMAT_X86_32:
    case VMM_PAGE_FORMAT_X86_PAE:
    case VMM_PAGE_FORMAT_X86_4LEVEL:
    case VMM_PAGE_FORMAT_X86_5LEVEL:
        return &vmm_page_format_x86;
    case VMM_PAGE_FORMAT_ARM64_4K:
    case VMM_PAGE_FORMAT_ARM64_16K:
    case VMM_PAGE_FORMAT_ARM64_64K:
        return &vmm_page_format_arm64;
    default:
        return NULL;
    }
}

const char *vmm_page_format_name(uint32_t format)
{
    static const char *const names[] = {"none",    "32-bit",   "pae",       "4-level",
                                        "5-level", "arm64-4k", "arm64-16k", "arm64-64k"};
    return format < VMM_ARRAY_SIZE(names) ? names[format] : "unknown";
}

const char *vmm_fault_name(uint32_t reason)
{
    static const char *const names[] = {"none",         "address",     "absent", "reserved",
                                        "table",        "user",        "write",  "execute",
                                        "user-execute", "user-access", "key",    "access-flag"};
    return reason < VMM_ARRAY_SIZE(names) ? names[reason] : "unknown";
}

int vmm_page_plan_make(const struct vmm_paging_context *context, struct vmm_page_plan *plan)
{
    struct vmm_paging_context c;
    if (!context)
        return -EINVAL;
    int r = vmm_options_copy(&c, sizeof(c), context);
    if (r < 0)
        return r;
    memset(plan, 0, sizeof(*plan));
    if (c.reserved)
        return -EINVAL;
    plan->flags = c.flags;
    plan->address_bits = c.address_bits;
    plan->user_keys = c.user_keys;
    plan->supervisor_keys = c.supervisor_keys;
    if (c.format == VMM_PAGE_FORMAT_NONE) {
        plan->tree[0].bits = c.virtual_bits ? c.virtual_bits : 32;
        plan->pointer_size = c.virtual_bits > 32 ? 8 : 4;
        return plan->tree[0].bits < 64 ? 0 : -EINVAL;
    }
    plan->format = vmm_page_format_find(c.format);
    return plan->format ? plan->format->prepare(&c, plan) : -EINVAL;
}

bool vmm_page_access_ok(uint32_t access)
{
    if (access & ~VMM_ACCESS_ALL)
        return false;
    if ((access & VMM_ACCESS_ANY) && access != VMM_ACCESS_ANY)
        return false;
    return !((access & VMM_ACCESS_WRITE) && (access & VMM_ACCESS_EXECUTE));
}

static int fault(const struct vmm_page_plan *plan, struct vmm_translation *out, uint32_t reason,
                 uint32_t access)
{
    out->reason = reason;
    out->physical = 0;
    if (plan->format)
        out->code = plan->format->code(plan, reason, out->level, out->permissions, access);
    return -EFAULT;
}

/* Without paging there is no table and nothing is forbidden. */
static void identity(uint64_t address, struct vmm_translation *out)
{
    out->physical = address;
    out->page_size = VMM_PAGE_SIZE;
    out->permissions = VMM_PAGE_NO_RULES;
}

/* Down the tables to the leaf. Fills in the trace, and everything of `out` but the verdict. */
static int descend(struct vmm_memory *memory, const struct vmm_page_plan *plan,
                   const struct vmm_page_tree *tree, uint64_t address, uint32_t access,
                   struct vmm_translation *out, struct vmm_page_trace *trace)
{
    uint64_t table = tree->root;
    uint32_t rights = VMM_PAGE_RIGHTS;
    for (uint32_t level = tree->levels; level-- > 0;) {
        const struct vmm_page_level *l = &plan->level[level];
        uint64_t index = vmm_page_index(plan, tree, level, address);
        out->level = level + 1;
        if (plan->top_cached && level + 1 == tree->levels) {
            out->entry = plan->top[index];
        } else {
            out->entry_address = table + index * plan->entry_size;
            out->entry = 0;
            if (!vmm_table_load(memory, out->entry_address, plan->entry_size, &out->entry))
                return fault(plan, out, VMM_FAULT_TABLE, access);
            trace->entries[trace->count++] =
                (struct vmm_page_trace_entry){out->entry_address, out->entry};
        }
        struct vmm_page_step step;
        plan->format->decode(plan, level, out->entry, &step);
        if (step.kind == VMM_ENTRY_ABSENT)
            return fault(plan, out, VMM_FAULT_ABSENT, access);
        if (step.kind == VMM_ENTRY_RESERVED)
            return fault(plan, out, VMM_FAULT_RESERVED, access);
        if (step.kind == VMM_ENTRY_LEAF || !tree->flat)
            rights &= step.permissions;
        table = step.next;
        if (step.kind == VMM_ENTRY_LEAF) {
            out->page_size = (uint64_t)1 << l->shift;
            out->physical = step.next | (address & (out->page_size - 1));
            out->permissions = rights | (step.permissions & ~VMM_PAGE_RIGHTS);
            return 0;
        }
    }
    /* The lowest level decodes to a leaf or a fault. */
    return fault(plan, out, VMM_FAULT_RESERVED, access);
}

/* Set accessed and dirty bits, top first as the processor does. False: an entry has changed. */
static bool mark(struct vmm_memory *memory, const struct vmm_page_plan *plan, uint32_t access,
                 struct vmm_translation *out, const struct vmm_page_trace *trace)
{
    uint32_t level = out->level + trace->count - 1;
    for (uint32_t i = 0; i < trace->count; i++, level--) {
        const struct vmm_page_trace_entry *e = &trace->entries[i];
        bool leaf = i + 1 == trace->count;
        uint64_t want = plan->format->mark(plan, level - 1, leaf, e->entry, access);
        if (want != e->entry &&
            !vmm_table_exchange(memory, e->address, plan->entry_size, e->entry, want))
            return false;
        if (leaf) {
            struct vmm_page_step step;
            plan->format->decode(plan, level - 1, want, &step);
            out->entry = want;
            out->permissions |= step.permissions & (VMM_PAGE_ACCESSED | VMM_PAGE_DIRTY);
        }
    }
    return true;
}

int vmm_page_walk(struct vmm_memory *memory, const struct vmm_page_plan *plan, uint64_t address,
                  uint32_t access, struct vmm_translation *out, struct vmm_page_trace *trace)
{
    struct vmm_page_trace own;
    if (!trace)
        trace = &own;
    for (int attempt = 0; attempt < MARK_RETRIES; attempt++) {
        trace->count = 0;
        memset(out, 0, sizeof(*out));
        out->size = sizeof(*out);
        out->entry_address = UINT64_MAX;
        const struct vmm_page_tree *tree = vmm_page_tree_of(plan, address);
        if (!tree || (tree->closed && (access & VMM_ACCESS_USER)))
            return fault(plan, out, VMM_FAULT_ADDRESS, access);
        if (!plan->format) {
            identity(address, out);
            return 0;
        }
        int r = descend(memory, plan, tree, address, access, out, trace);
        if (r < 0)
            return r;
        uint32_t reason = VMM_FAULT_NONE;
        if (!(access & VMM_ACCESS_ANY))
            reason = plan->format->check(plan, out->permissions, access);
        if (reason != VMM_FAULT_NONE)
            return fault(plan, out, reason, access);
        if (!(access & VMM_ACCESS_MARK) || mark(memory, plan, access, out, trace))
            return 0;
    }
    return -EAGAIN;
}

int vmm_paging_translate(struct vmm_memory *memory, const struct vmm_paging_context *context,
                         uint64_t address, uint32_t access, struct vmm_translation *out)
{
    struct vmm_page_plan plan;
    struct vmm_translation full;
    if (!memory || !out || !vmm_page_access_ok(access))
        return -EINVAL;
    int r = vmm_page_plan_make(context, &plan);
    if (r < 0)
        return r;
    int walked = vmm_page_walk(memory, &plan, address, access, &full, NULL);
    r = vmm_info_copy(out, &full, sizeof(full));
    return r < 0 ? r : walked;
}
