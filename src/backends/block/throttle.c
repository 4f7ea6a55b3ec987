/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A block device at a limited rate: two leaky buckets, one for requests and one for bytes. What passes
 * is poured in, each bucket leaks at its rate, and a request may pass while neither is over its
 * burst. The level is counted before the request is poured in, so that a large one passes too.
 */
#include "backends/block/filter.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define SECOND 1e9

struct bucket {
    double rate; /* units a second; 0: no limit */
    double burst, level;
};

struct throttle {
    struct vmm_filter filter;
    struct bucket requests, bytes;
    uint64_t then; /* when the levels were right */
};

static void leak(struct bucket *b, double seconds)
{
    b->level -= b->rate * seconds;
    if (b->level < 0)
        b->level = 0;
}

/* Seconds until a request of `cost` may pass; 0: now. */
static double wait_for(const struct bucket *b, double cost)
{
    if (b->rate == 0 || b->level == 0 || b->level + cost <= b->burst)
        return 0;
    double above = b->level + cost - b->burst;
    return (above < b->level ? above : b->level) / b->rate;
}

static double bytes_of(const struct vmm_block_request *r)
{
    return r->op <= VMM_BLOCK_WRITE ? (double)r->length : 0;
}

/* Nanoseconds to wait; 0: it has been counted and may go. */
static uint64_t count(struct throttle *t, const struct vmm_block_request *r)
{
    uint64_t now = vmm_filter_now(&t->filter);
    double seconds = (double)(now - t->then) / SECOND;
    double bytes = bytes_of(r);
    t->then = now;
    leak(&t->requests, seconds);
    leak(&t->bytes, seconds);
    double a = wait_for(&t->requests, 1), b = wait_for(&t->bytes, bytes);
    double longest = a > b ? a : b;
    if (longest > 0)
        return (uint64_t)(longest * SECOND) + 1;
    t->requests.level += 1;
    t->bytes.level += bytes;
    return 0;
}

static void pass_held(struct vmm_filter *f)
{
    struct throttle *t = (struct throttle *)f;
    struct vmm_block_request *r;
    vmm_block_plug(f->child);
    while ((r = vmm_filter_held(f))) {
        uint64_t wait = count(t, r);
        if (wait) {
            vmm_filter_wake_at(f, t->then + wait);
            break;
        }
        vmm_filter_release(f, r);
    }
    vmm_block_unplug(f->child);
}

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct throttle *t = ctx;
    struct vmm_filter *f = &t->filter;
    if (r->op == VMM_BLOCK_FLUSH) {
        vmm_filter_forward(f, r);
        return;
    }
    if (!vmm_filter_held(f)) {
        uint64_t wait = count(t, r);
        if (!wait) {
            vmm_filter_forward(f, r);
            return;
        }
        vmm_filter_wake_at(f, t->then + wait);
    }
    vmm_filter_hold(f, r);
}

static void set_bucket(struct bucket *b, uint64_t rate, uint64_t burst)
{
    b->rate = (double)rate;
    b->burst = burst ? (double)burst : (double)rate / 10;
    if (b->burst < 1)
        b->burst = 1;
    b->level = 0;
}

static int set(struct throttle *t, const struct vmm_block_throttle_options *given)
{
    struct vmm_block_throttle_options o;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return -EINVAL;
    t->then = vmm_filter_now(&t->filter);
    set_bucket(&t->requests, o.iops, o.iops_burst);
    set_bucket(&t->bytes, o.bandwidth, o.bandwidth_burst);
    return 0;
}

int vmm_block_throttle_set(struct vmm_block *block,
                           const struct vmm_block_throttle_options *options)
{
    struct throttle *t = block ? vmm_block_driver_of(block, submit) : NULL;
    int rc = t ? set(t, options) : -EINVAL;
    if (!rc)
        vmm_filter_wake_at(&t->filter, 0);
    return rc;
}

int vmm_block_throttle_new(struct vmm_block *child,
                           const struct vmm_block_throttle_options *options, struct vmm_block **out,
                           struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {VMM_FILTER_OPS, .submit = submit};
    struct throttle *t = child && out ? calloc(1, sizeof(*t)) : NULL;
    if (!t)
        return vmm_error_set(err, child && out ? -ENOMEM : -EINVAL,
                             "throttle: no device or memory");
    int rc = vmm_filter_init(&t->filter, child);
    if (rc) {
        free(t);
        return vmm_error_set(err, rc, "throttle: %s", strerror(-rc));
    }
    rc = set(t, options);
    if (rc) {
        vmm_filter_destroy(t);
        return vmm_error_set(err, rc, "throttle: bad options");
    }
    t->filter.wake = pass_held;
    return vmm_filter_publish(&t->filter, &ops, out, err);
}
