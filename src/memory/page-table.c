/* SPDX-License-Identifier: BSD-3-Clause */
/* The builder of guest page tables. */
#include "base/util.h"
#include "memory/page-format.h"
#include "memory/table-access.h"

#include <stdlib.h>

struct vmm_page_table {
    struct vmm_memory *memory;
    struct vmm_page_plan plan;
    const struct vmm_page_tree *tree; /* of the plan's, the one being made */
    struct vmm_page_table_options options;
    uint64_t used;
};

/* One call of map: the same walk is done twice, first to check, then to write. */
struct job {
    struct vmm_page_table *table;
    uint64_t address;
    uint64_t last;  /* inclusive */
    uint64_t delta; /* physical minus virtual, modulo 2^64 */
    uint64_t max_page;
    uint64_t tables; /* to be made, counted by the first walk until it is above `room` */
    uint64_t room;
    uint32_t permissions;
    bool write;
};

static uint64_t level_size(const struct job *job, uint32_t level)
{
    return (uint64_t)1 << job->table->plan.level[level].shift;
}

/* May the whole entry be one page? */
static bool takes_page(const struct job *job, uint32_t level, uint64_t address, uint64_t last)
{
    uint64_t size = level_size(job, level);
    if (level == 0)
        return true;
    return job->table->plan.level[level].leaf && size <= job->max_page &&
           (address & (size - 1)) == 0 && last - address == size - 1 &&
           ((address + job->delta) & (size - 1)) == 0;
}

/* Take the next page of the tables' memory and clear it. */
static int allocate(struct vmm_page_table *t, uint64_t *address)
{
    if (t->options.table_length - t->used < t->plan.table_size)
        return -ENOSPC;
    int r = vmm_memory_fill(t->memory, t->options.table_start + t->used, 0, t->plan.table_size);
    if (r < 0)
        return r;
    *address = t->options.table_start + t->used;
    t->used += t->plan.table_size;
    return 0;
}

/* How many new tables the part [address, last] of an absent table of `level` needs below it. */
static uint64_t tables_below(const struct job *job, uint32_t level, uint64_t address, uint64_t last)
{
    if (level == 0)
        return 0;
    uint64_t size = level_size(job, level), count = 0;
    for (;;) {
        uint64_t end = address | (size - 1);
        uint64_t part = end < last ? end : last;
        if (!takes_page(job, level, address, part))
            count += 1 + tables_below(job, level - 1, address, part);
        if (part == last || job->tables + count > job->room)
            return count;
        address = part + 1;
    }
}

/* Would a page's entry say what it was made from? Not if the physical address is too wide. */
static bool encodable(const struct job *job, uint32_t level, uint64_t address)
{
    const struct vmm_page_plan *plan = &job->table->plan;
    uint64_t physical = (address & ~(level_size(job, level) - 1)) + job->delta;
    struct vmm_page_step step;
    plan->format->decode(plan, level,
                         plan->format->encode_leaf(plan, level, physical, job->permissions), &step);
    return step.kind == VMM_ENTRY_LEAF && step.next == physical;
}

/* The first walk at an absent entry. The widths that levels can hold differ in the 32-bit format
 * only, where the level below is the lowest; so it stands for all that are below. */
static int count_absent(struct job *job, uint32_t level, uint64_t address, uint64_t last)
{
    bool page = takes_page(job, level, address, last);
    if (!encodable(job, page ? level : 0, last))
        return -ERANGE;
    if (!page)
        job->tables += 1 + tables_below(job, level - 1, address, last);
    return job->tables > job->room ? -ENOSPC : 0;
}

static int visit(struct job *job, uint32_t level, uint64_t table, uint64_t address, uint64_t last);

static int store(struct job *job, uint64_t where, uint64_t entry)
{
    return vmm_table_store(job->table->memory, where, job->table->plan.entry_size, entry);
}

/* An entry that is not present: count, or write the page or a table and go on below it. */
static int visit_absent(struct job *job, uint32_t level, uint64_t where, uint64_t address,
                        uint64_t last)
{
    const struct vmm_page_plan *plan = &job->table->plan;
    uint64_t below;
    if (!job->write)
        return count_absent(job, level, address, last);
    if (takes_page(job, level, address, last))
        return store(
            job, where,
            plan->format->encode_leaf(plan, level, address + job->delta, job->permissions));
    int r = allocate(job->table, &below);
    if (r == 0)
        r = visit(job, level - 1, below, address, last);
    /* Hung in last: a failure leaves no half-made branch behind. */
    return r == 0 ? store(job, where, plan->format->encode_table(plan, level, below)) : r;
}

static int visit(struct job *job, uint32_t level, uint64_t table, uint64_t address, uint64_t last)
{
    const struct vmm_page_plan *plan = &job->table->plan;
    uint64_t size = level_size(job, level);
    for (;;) {
        uint64_t index = vmm_page_index(plan, job->table->tree, level, address);
        uint64_t where = table + index * plan->entry_size;
        uint64_t end = address | (size - 1);
        uint64_t part = end < last ? end : last;
        uint64_t entry = 0;
        if (!vmm_table_load(job->table->memory, where, plan->entry_size, &entry))
            return -EFAULT;
        struct vmm_page_step step;
        plan->format->decode(plan, level, entry, &step);
        int r = -EEXIST;
        if (step.kind == VMM_ENTRY_ABSENT)
            r = visit_absent(job, level, where, address, part);
        else if (step.kind == VMM_ENTRY_TABLE)
            r = visit(job, level - 1, step.next, address, part);
        if (r < 0 || part == last)
            return r;
        address = part + 1;
    }
}

static int check(const struct job *job, uint64_t physical, uint64_t length, struct vmm_error *err)
{
    const struct vmm_page_plan *plan = &job->table->plan;
    const uint32_t known = VMM_PAGE_RIGHTS | VMM_PAGE_GLOBAL | VMM_PAGE_ACCESSED | VMM_PAGE_DIRTY |
                           VMM_PAGE_CACHE(7) | VMM_PAGE_KEY(15);
    uint64_t page = level_size(job, 0);
    if (length == 0 || (job->address | physical | length) & (page - 1))
        return vmm_error_set(err, -EINVAL, "page table: empty or not a multiple of %llu bytes",
                             (unsigned long long)page);
    if (!vmm_range_ok(job->address, length) || !vmm_range_ok(physical, length))
        return vmm_error_set(err, -EINVAL, "page table: %#llx bytes wrap around",
                             (unsigned long long)length);
    /* Both ends canonical and in the same half. */
    if (vmm_page_tree_of(plan, job->address) != job->table->tree ||
        vmm_page_tree_of(plan, job->last) != job->table->tree ||
        (plan->sign_extended && (job->address ^ job->last) >> 63))
        return vmm_error_set(err, -EINVAL, "page table: %#llx to %#llx are not all canonical",
                             (unsigned long long)job->address, (unsigned long long)job->last);
    if ((job->permissions & ~known) || !plan->format->expressible(plan, job->permissions))
        return vmm_error_set(err, -EINVAL,
                             "page table: the format cannot express permissions %#x (no-execute "
                             "needs VMM_PAGING_NX, keys need x86's four levels, dirty pages "
                             "VMM_PAGING_HD on arm64)",
                             job->permissions);
    if (job->max_page < page)
        return vmm_error_set(err, -EINVAL, "page table: the largest page is below %llu bytes",
                             (unsigned long long)page);
    return 0;
}

static int explain(int code, const struct job *job, struct vmm_error *err)
{
    unsigned long long from = job->address, to = job->last;
    if (code == -EEXIST)
        return vmm_error_set(err, code, "page table: part of %#llx to %#llx is mapped already",
                             from, to);
    if (code == -ENOSPC)
        return vmm_error_set(err, code,
                             "page table: mapping %#llx to %#llx needs more than the %llu tables "
                             "that there is room for",
                             from, to, (unsigned long long)job->room);
    if (code == -ERANGE)
        return vmm_error_set(err, -EINVAL,
                             "page table: %#llx to %#llx: the physical address is beyond what an "
                             "entry can hold",
                             from, to);
    return vmm_error_set(err, code, "page table: the memory for tables is not RAM");
}

int vmm_page_table_map(struct vmm_page_table *table, uint64_t address, uint64_t physical,
                       uint64_t length, uint32_t permissions, uint64_t max_page,
                       struct vmm_error *err)
{
    if (!table)
        return vmm_error_set(err, -EINVAL, "page table: none given");
    struct job job = {.table = table,
                      .address = address,
                      .last = address + (length - 1),
                      .delta = physical - address,
                      .max_page = max_page ? max_page : UINT64_MAX,
                      .room = (table->options.table_length - table->used) / table->plan.table_size,
                      .permissions = permissions};
    int r = check(&job, physical, length, err);
    if (r < 0)
        return r;
    uint32_t top = table->tree->levels - 1;
    r = visit(&job, top, table->tree->root, job.address, job.last);
    if (r == 0 && !vmm_memory_valid(table->memory, table->options.table_start + table->used,
                                    job.tables * table->plan.table_size, true))
        r = -EFAULT;
    if (r < 0)
        return explain(r, &job, err);
    job.write = true;
    r = visit(&job, top, table->tree->root, job.address, job.last);
    return r < 0 ? explain(r, &job, err) : 0;
}

int vmm_page_table_identity(struct vmm_page_table *table, uint64_t length, uint32_t permissions,
                            struct vmm_error *err)
{
    return vmm_page_table_map(table, 0, 0, length, permissions, 0, err);
}

static int check_options(const struct vmm_page_table_options *o, struct vmm_error *err)
{
    bool small = o->format == VMM_PAGE_FORMAT_X86_32;
    if (o->reserved || o->reserved2 || o->table_length == 0 ||
        ((o->table_start | o->table_length) & (VMM_PAGE_SIZE - 1)) ||
        !vmm_range_ok(o->table_start, o->table_length))
        return vmm_error_set(err, -EINVAL,
                             "page table: the memory for tables must be whole pages of 4096 bytes");
    bool low_root = small || o->format == VMM_PAGE_FORMAT_X86_PAE;
    if ((low_root && o->table_start >> 32) ||
        (small && (o->table_start + (o->table_length - 1)) >> 32))
        return vmm_error_set(err, -EINVAL, "page table: %s tables must be below 4 GiB",
                             vmm_page_format_name(o->format));
    return 0;
}

/* The table entries must be able to hold the tables' addresses. */
static bool tables_reachable(const struct vmm_page_table *t)
{
    uint64_t last = t->options.table_start + (t->options.table_length - 1);
    return last >> t->plan.address_bits == 0;
}

static int make(struct vmm_page_table *t, struct vmm_memory *memory,
                const struct vmm_page_table_options *options, struct vmm_error *err)
{
    int r = vmm_options_copy(&t->options, sizeof(t->options), options);
    if (r == 0)
        r = check_options(&t->options, err);
    if (r < 0)
        return r;
    struct vmm_paging_context context = VMM_PAGING_CONTEXT_INIT;
    context.format = t->options.format;
    context.flags = t->options.flags & ~VMM_PAGING_TOP_CACHED;
    context.address_bits = t->options.address_bits;
    bool upper = (t->options.flags & VMM_PAGING_UPPER) != 0;
    uint32_t bits = t->options.virtual_bits ? t->options.virtual_bits : 48;
    context.root = context.upper_root = t->options.table_start;
    *(upper ? &context.upper_bits : &context.virtual_bits) = bits;
    r = vmm_page_plan_make(&context, &t->plan);
    t->tree = &t->plan.tree[upper];
    if (r < 0 || !t->plan.format || t->tree->bits == 0)
        return vmm_error_set(err, -EINVAL, "page table: no such format, or a bad address width");
    if ((t->options.table_start | t->options.table_length) & (t->plan.table_size - 1))
        return vmm_error_set(err, -EINVAL, "page table: tables of %s are multiples of %u bytes",
                             vmm_page_format_name(t->options.format), t->plan.table_size);
    if (!tables_reachable(t))
        return vmm_error_set(err, -EINVAL, "page table: the tables lie above %u address bits",
                             t->plan.address_bits);
    uint64_t root;
    t->memory = memory;
    r = allocate(t, &root);
    return r < 0 ? vmm_error_set(err, r, "page table: the memory for tables is not RAM") : 0;
}

int vmm_page_table_new(struct vmm_memory *memory, const struct vmm_page_table_options *options,
                       struct vmm_page_table **out, struct vmm_error *err)
{
    if (!memory || !options || !out)
        return vmm_error_set(err, -EINVAL, "page table: memory, options or result missing");
    struct vmm_page_table *t = calloc(1, sizeof(*t));
    if (!t)
        return vmm_error_set(err, -ENOMEM, "page table: out of memory");
    int r = make(t, memory, options, err);
    if (r < 0) {
        free(t);
        return r;
    }
    (void)vmm_memory_ref(memory);
    *out = t;
    return 0;
}

struct vmm_page_table *vmm_page_table_free(struct vmm_page_table *table)
{
    if (table) {
        vmm_memory_unref(table->memory);
        free(table);
    }
    return NULL;
}

uint64_t vmm_page_table_root(const struct vmm_page_table *table)
{
    return table->tree->root;
}

uint64_t vmm_page_table_used(const struct vmm_page_table *table)
{
    return table->used;
}

int vmm_page_table_context(const struct vmm_page_table *table, struct vmm_paging_context *context)
{
    struct vmm_paging_context c = {.size = sizeof(c),
                                   .format = table->options.format,
                                   .flags = table->plan.flags,
                                   .root = table->plan.tree[0].root,
                                   .address_bits = table->plan.address_bits};
    if (table->plan.split) {
        c.virtual_bits = table->plan.tree[0].bits;
        c.upper_bits = table->plan.tree[1].bits;
        c.upper_root = table->plan.tree[1].root;
    }
    return context ? vmm_info_copy(context, &c, sizeof(c)) : -EINVAL;
}
