/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of requests that fail: the guest is told, or they are kept until the embedder, or the
 * clock, has them tried again. A request that is kept is not under way for the disk below, but is for
 * the device above, so a guest sees it only as slow.
 */
#include "backends/block/filter.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define WORD_RESULT VMM_FILTER_WORD_OWN
#define WORD_RETRY  (VMM_FILTER_WORD_OWN + 1) /* it has been kept before */

struct policy {
    struct vmm_filter filter;
    uint32_t on_error, on_no_space;
    uint64_t retry_ns;
    void (*event)(void *ctx, struct vmm_block *block, uint32_t event,
                  const struct vmm_block_failure *failure);
    void *ctx;
    bool stopped;      /* the embedder has been told, and not yet that it goes on */
    bool draining;     /* what fails now is reported */
    uint32_t retrying; /* kept ones that are below again */
};

static bool is_no_space(int result)
{
    return result == -ENOSPC || result == -EDQUOT;
}

static void clear_vector(const struct vmm_block_request *r)
{
    for (size_t i = 0; r->op == VMM_BLOCK_READ && i < r->vector_count; i++)
        memset(r->vector[i].iov_base, 0, r->vector[i].iov_len);
}

/* Does it go on? Only when nothing is kept, and nothing that was is on its way. */
static void look_for_the_end(struct policy *p)
{
    if (!p->stopped || p->retrying || vmm_filter_held(&p->filter))
        return;
    p->stopped = false;
    p->event(p->ctx, p->filter.self, VMM_BLOCK_GOES_ON, NULL);
}

static void keep(struct policy *p, struct vmm_block_request *r, int result)
{
    struct vmm_block_failure failure = {r->op, result, r->offset, r->length};
    r->reserved[WORD_RESULT] = (uint64_t)(int64_t)result;
    r->reserved[WORD_RETRY] = 1;
    vmm_filter_hold(&p->filter, r);
    if (is_no_space(result) && p->retry_ns)
        vmm_filter_wake_at(&p->filter, vmm_filter_now(&p->filter) + p->retry_ns);
    if (p->stopped)
        return;
    p->stopped = true;
    p->event(p->ctx, p->filter.self, VMM_BLOCK_STOPPED, &failure);
}

static void ended(struct vmm_filter *f, struct vmm_block_request *r, int result)
{
    struct policy *p = (struct policy *)f;
    uint32_t way = is_no_space(result) ? p->on_no_space : p->on_error;
    bool durable = r->op == VMM_BLOCK_FLUSH || (r->flags & VMM_BLOCK_FUA);
    if (r->reserved[WORD_RETRY])
        p->retrying--;
    if (result == 0 || result == -ECANCELED || result == -EINVAL || result == -ENOTSUP) {
        vmm_block_collect(f->self, r, result); /* no trouble of the disk's */
    } else if (way == VMM_BLOCK_ON_ERROR_STOP && !p->draining) {
        keep(p, r, result);
    } else if (way == VMM_BLOCK_ON_ERROR_IGNORE && !durable) {
        clear_vector(r);
        vmm_block_collect(f->self, r, 0);
    } else {
        vmm_block_collect(f->self, r, result);
    }
    look_for_the_end(p);
}

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct policy *p = ctx;
    r->reserved[WORD_RETRY] = 0;
    vmm_filter_forward(&p->filter, r);
}

static void retry(struct policy *p, bool no_space_only)
{
    struct vmm_filter *f = &p->filter;
    struct vmm_block_list rest = {0};
    struct vmm_block_request *r;
    pthread_mutex_lock(&f->lock);
    vmm_block_plug(f->child);
    while ((r = vmm_block_list_pop(&f->held))) {
        if (no_space_only && !is_no_space((int)(int64_t)r->reserved[WORD_RESULT])) {
            vmm_block_list_append(&rest, r);
            continue;
        }
        p->retrying++;
        vmm_filter_forward(f, r);
    }
    f->held = rest;
    vmm_block_unplug(f->child);
    pthread_mutex_unlock(&f->lock);
}

/* Requests may have been dropped too. */
static void wake(struct vmm_filter *f)
{
    struct policy *p = (struct policy *)f;
    if (p->retry_ns)
        retry(p, true);
    look_for_the_end(p);
}

static void let_go(struct vmm_filter *f)
{
    struct policy *p = (struct policy *)f;
    p->draining = true;
    retry(p, false);
    vmm_block_drain(f->child);
    p->draining = false;
}

int vmm_block_policy_retry(struct vmm_block *block)
{
    struct policy *p = block ? vmm_block_driver_of(block, submit) : NULL;
    if (!p)
        return -EINVAL;
    retry(p, false);
    return 0;
}

int vmm_block_policy_give_up(struct vmm_block *block)
{
    struct policy *p = block ? vmm_block_driver_of(block, submit) : NULL;
    struct vmm_block_request *r;
    if (!p)
        return -EINVAL;
    while ((r = vmm_filter_held(&p->filter)))
        vmm_filter_end_held(&p->filter, r, (int)(int64_t)r->reserved[WORD_RESULT]);
    look_for_the_end(p);
    return 0;
}

int vmm_block_policy_kept(const struct vmm_block *block)
{
    struct policy *p = block ? vmm_block_driver_of(block, submit) : NULL;
    int count = 0;
    if (!p)
        return -EINVAL;
    pthread_mutex_lock(&p->filter.lock);
    for (const struct vmm_block_request *r = p->filter.held.first; r; r = vmm_block_list_next(r))
        count++;
    pthread_mutex_unlock(&p->filter.lock);
    return count;
}

static int check(const struct vmm_block_policy_options *o, struct vmm_error *err)
{
    if (o->on_error > VMM_BLOCK_ON_ERROR_IGNORE || o->on_no_space > VMM_BLOCK_ON_ERROR_IGNORE)
        return vmm_error_set(err, -EINVAL, "error policy: there is no such way to treat errors");
    if (!o->event &&
        (o->on_error == VMM_BLOCK_ON_ERROR_STOP || o->on_no_space == VMM_BLOCK_ON_ERROR_STOP))
        return vmm_error_set(err, -EINVAL, "error policy: nobody is there to be told of a stop");
    return 0;
}

int vmm_block_policy_new(struct vmm_block *child, const struct vmm_block_policy_options *options,
                         struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {VMM_FILTER_OPS, .submit = submit};
    struct vmm_block_policy_options o;
    if (!child || !out || !options || vmm_options_copy(&o, sizeof(o), options))
        return vmm_error_set(err, -EINVAL, "error policy: bad options");
    int rc = check(&o, err);
    if (rc)
        return rc;
    struct policy *p = calloc(1, sizeof(*p));
    rc = p ? vmm_filter_init(&p->filter, child) : -ENOMEM;
    if (rc) {
        free(p);
        return vmm_error_set(err, rc, "error policy: %s", strerror(-rc));
    }
    p->on_error = o.on_error;
    p->on_no_space = o.on_no_space;
    p->retry_ns = o.retry_ns;
    p->event = o.event;
    p->ctx = o.ctx;
    p->filter.ended = ended;
    p->filter.wake = wake;
    p->filter.let_go = let_go;
    return vmm_filter_publish(&p->filter, &ops, out, err);
}
