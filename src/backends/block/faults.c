/* SPDX-License-Identifier: BSD-3-Clause */
/* A block device with faults at will, for tests. */
#include "backends/block/filter.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define RULES_MAX 32u

#define WORD_RESULT   VMM_FILTER_WORD_OWN
#define WORD_TORN     (VMM_FILTER_WORD_OWN + 1)
#define WORD_DEADLINE (VMM_FILTER_WORD_OWN + 2)

struct faults {
    struct vmm_filter filter;
    struct vmm_block_fault rules[RULES_MAX];
    uint32_t rule_count;
    uint64_t caught;
    uint32_t block_size;
};

static bool matches(const struct vmm_block_fault *rule, const struct vmm_block_request *r)
{
    if (rule->ops && !(rule->ops & 1u << r->op))
        return false;
    if (rule->length == 0)
        return true;
    return r->op != VMM_BLOCK_FLUSH &&
           vmm_ranges_overlap(rule->offset, rule->length, r->offset, r->length);
}

/* The rule that catches this one, already counted; NULL: none. */
static const struct vmm_block_fault *rule_for(struct faults *f, const struct vmm_block_request *r)
{
    for (uint32_t i = f->rule_count; i-- > 0;) {
        struct vmm_block_fault *rule = &f->rules[i];
        if (!matches(rule, r))
            continue;
        if (rule->skip) {
            rule->skip--;
            continue;
        }
        if (rule->count == UINT64_MAX) /* used up */
            continue;
        if (rule->count && --rule->count == 0)
            rule->count = UINT64_MAX;
        f->caught++;
        return rule;
    }
    return NULL;
}

static void go(struct vmm_filter *f, struct vmm_block_request *r)
{
    int result = (int)(int64_t)r->reserved[WORD_RESULT];
    uint64_t torn = r->reserved[WORD_TORN];
    if (!result)
        vmm_filter_forward(f, r);
    else if (torn && r->op <= VMM_BLOCK_WRITE)
        vmm_filter_forward_part(f, r, torn < r->length ? torn : r->length);
    else
        vmm_block_complete(f->self, r, result);
}

static void ended(struct vmm_filter *f, struct vmm_block_request *r, int result)
{
    int wanted = (int)(int64_t)r->reserved[WORD_RESULT];
    vmm_block_collect(f->self, r, wanted ? wanted : result);
}

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct faults *f = ctx;
    const struct vmm_block_fault *rule = rule_for(f, r);
    r->reserved[WORD_RESULT] = rule ? (uint64_t)(int64_t)rule->result : 0;
    r->reserved[WORD_TORN] = rule ? rule->torn_after : 0;
    if (!rule || !rule->delay_ns) {
        go(&f->filter, r);
        return;
    }
    r->reserved[WORD_DEADLINE] = vmm_filter_now(&f->filter) + rule->delay_ns;
    vmm_filter_hold(&f->filter, r);
    vmm_filter_wake_at(&f->filter, 0); /* finds the earliest */
}

/* Those whose time has come, in their order; the lock keeps them from being dropped meanwhile. */
static void end_delays(struct vmm_filter *f, uint64_t until)
{
    struct vmm_block_list due = {0}, rest = {0};
    struct vmm_block_request *r;
    uint64_t next = UINT64_MAX;
    pthread_mutex_lock(&f->lock);
    while ((r = vmm_block_list_pop(&f->held))) {
        bool now = r->reserved[WORD_DEADLINE] <= until;
        if (!now && r->reserved[WORD_DEADLINE] < next)
            next = r->reserved[WORD_DEADLINE];
        vmm_block_list_append(now ? &due : &rest, r);
    }
    f->held = rest;
    while ((r = vmm_block_list_pop(&due)))
        go(f, r);
    pthread_mutex_unlock(&f->lock);
    if (next != UINT64_MAX)
        vmm_filter_wake_at(f, next);
}

static void wake(struct vmm_filter *f)
{
    end_delays(f, vmm_filter_now(f));
}

static void let_go(struct vmm_filter *f)
{
    end_delays(f, UINT64_MAX);
}

int vmm_block_faults_add(struct vmm_block *block, const struct vmm_block_fault *given)
{
    struct faults *f = block ? vmm_block_driver_of(block, submit) : NULL;
    struct vmm_block_fault rule;
    if (!f || !given || vmm_options_copy(&rule, sizeof(rule), given))
        return -EINVAL;
    if (rule.result > 0 || rule.result < -4095 || rule.torn_after % f->block_size ||
        rule.count == UINT64_MAX || !vmm_range_ok(rule.offset, rule.length))
        return -EINVAL;
    if (f->rule_count == RULES_MAX)
        return -ENOSPC;
    f->rules[f->rule_count++] = rule;
    return 0;
}

int vmm_block_faults_clear(struct vmm_block *block)
{
    struct faults *f = block ? vmm_block_driver_of(block, submit) : NULL;
    if (!f)
        return -EINVAL;
    f->rule_count = 0;
    return 0;
}

uint64_t vmm_block_faults_caught(const struct vmm_block *block)
{
    const struct faults *f = block ? vmm_block_driver_of(block, submit) : NULL;
    return f ? f->caught : 0;
}

int vmm_block_faults_new(struct vmm_block *child, struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {VMM_FILTER_OPS, .submit = submit};
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (!child || !out)
        return vmm_error_set(err, -EINVAL, "fault injector: no device");
    struct faults *f = calloc(1, sizeof(*f));
    int rc = f ? vmm_block_get_info(child, &info) : -ENOMEM;
    if (!rc)
        rc = vmm_filter_init(&f->filter, child);
    if (rc) {
        free(f);
        return vmm_error_set(err, rc, "fault injector: %s", strerror(-rc));
    }
    f->block_size = info.block_size;
    f->filter.ended = ended;
    f->filter.wake = wake;
    f->filter.let_go = let_go;
    return vmm_filter_publish(&f->filter, &ops, out, err);
}
