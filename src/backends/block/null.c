/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that forgets what is written, for measuring what lies above it. */
#include "backends/block/block-driver.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define WORD_DEADLINE 3

struct null {
    struct vmm_block *block;
    uint64_t length, latency_ns;
    bool leave_reads;
    struct vmm_timer *timer;
    struct vmm_block_list waiting; /* by deadline: the latency is the same for all */
};

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct null *n = ctx;
    for (size_t i = 0; r->op == VMM_BLOCK_READ && !n->leave_reads && i < r->vector_count; i++)
        memset(r->vector[i].iov_base, 0, r->vector[i].iov_len);
    if (!n->latency_ns) {
        vmm_block_complete(n->block, r, 0);
        return;
    }
    r->reserved[WORD_DEADLINE] = vmm_loop_now(vmm_block_loop(n->block)) + n->latency_ns;
    if (!n->waiting.first)
        (void)vmm_timer_set(n->timer, r->reserved[WORD_DEADLINE]);
    vmm_block_list_append(&n->waiting, r);
}

static void complete_until(struct null *n, uint64_t now)
{
    while (n->waiting.first && n->waiting.first->reserved[WORD_DEADLINE] <= now)
        vmm_block_complete(n->block, vmm_block_list_pop(&n->waiting), 0);
}

static void time_is_up(void *ctx)
{
    struct null *n = ctx;
    complete_until(n, vmm_loop_now(vmm_block_loop(n->block)));
    if (n->waiting.first)
        (void)vmm_timer_set(n->timer, n->waiting.first->reserved[WORD_DEADLINE]);
    vmm_block_deliver(n->block);
}

/* Nothing is touched once submit has returned: so only the wait is cut short. */
static void drain(void *ctx)
{
    complete_until(ctx, UINT64_MAX);
}

static void cancel(void *ctx, struct vmm_block_request *r)
{
    struct null *n = ctx;
    if (vmm_block_list_remove(&n->waiting, r))
        vmm_block_complete(n->block, r, -ECANCELED);
}

static int info(void *ctx, struct vmm_block_info *out)
{
    out->length = ((struct null *)ctx)->length;
    out->block_size = 512;
    out->discard_alignment = 512;
    out->zero_is_cheap = 1;
    memcpy(out->format, "null", 5);
    return 0;
}

static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    (void)ctx;
    (void)offset;
    (void)length;
    out->state = VMM_BLOCK_ZERO;
    return 0;
}

static int resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    (void)err;
    ((struct null *)ctx)->length = length;
    return 0;
}

static void destroy(void *ctx)
{
    struct null *n = ctx;
    vmm_timer_free(n->timer);
    free(n);
}

int vmm_block_null_new(struct vmm_loop *loop, const struct vmm_block_null_options *given,
                       struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = submit,
        .info = info,
        .extent = extent,
        .resize = resize,
        .cancel = cancel,
        .drain = drain,
        .destroy = destroy,
    };
    struct vmm_block_null_options o;
    if (!loop || !out || !given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "null disk: bad options");
    if (o.length == 0 || o.length % 512 || o.length > INT64_MAX)
        return vmm_error_set(err, -EINVAL, "null disk: %llu bytes are no multiple of 512",
                             (unsigned long long)o.length);
    struct null *n = calloc(1, sizeof(*n));
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    n->length = o.length;
    n->latency_ns = o.latency_ns;
    n->leave_reads = o.leave_reads != 0;
    int rc = vmm_timer_new(loop, time_is_up, n, &n->timer);
    if (!rc)
        rc = vmm_block_new(loop, &ops, n, &n->block);
    if (rc) {
        destroy(n);
        return vmm_error_set(err, rc, "null disk: %s", strerror(-rc));
    }
    *out = n->block;
    return 0;
}
