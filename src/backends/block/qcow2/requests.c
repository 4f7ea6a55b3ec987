/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The user's requests: those that need one request to one file below and nothing else go there on the
 * spot; all others are carried out by coroutines, of which there is a limited number.
 *
 * A request holds the guest's clusters that it touches: exclusively where their mapping changes. Who
 * comes later and conflicts waits, in the order of coming, so nobody waits in a circle.
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define RUNNING_MAX 64u
#define SPARE_OPS   128u
#define OP          2 /* in a request's reserved words: those below are the core's */
#define NEXT        3

/* Holding clusters ----------------------------------------------------------------------------- */

static bool conflict(const struct q2_op *a, uint64_t first, uint64_t last, bool exclusive)
{
    return (a->exclusive || exclusive) && a->first <= last && first <= a->last;
}

static void enlist(struct q2_op *op, uint64_t first, uint64_t last, bool exclusive)
{
    struct qcow2 *q = op->q;
    op->first = first;
    op->last = last;
    op->exclusive = exclusive;
    op->locked = true;
    op->next = NULL;
    op->prev = q->last_op;
    *(q->last_op ? &q->last_op->next : &q->ops) = op;
    q->last_op = op;
    q->exclusive_ops += exclusive;
}

static bool enlist_now(struct q2_op *op, uint64_t first, uint64_t last)
{
    if (op->q->exclusive_ops)
        for (struct q2_op *o = op->q->ops; o; o = o->next)
            if (conflict(o, first, last, false))
                return false;
    enlist(op, first, last, false);
    return true;
}

void vmm_q2_op_lock(struct q2_op *op, uint64_t first, uint64_t last, bool exclusive)
{
    struct q2_op *o;
    enlist(op, first, last, exclusive);
    for (o = op->q->ops; o != op;) {
        if (!conflict(o, first, last, exclusive)) {
            o = o->next;
            continue;
        }
        vmm_co_wait(&op->q->co, &o->waiting);
        o = op->q->ops;
    }
}

void vmm_q2_op_unlock(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    if (!op->locked)
        return;
    op->locked = false;
    *(op->prev ? &op->prev->next : &q->ops) = op->next;
    *(op->next ? &op->next->prev : &q->last_op) = op->prev;
    q->exclusive_ops -= op->exclusive;
    vmm_co_wake_all(&q->co, &op->waiting);
}

/* The vector ----------------------------------------------------------------------------------- */

int vmm_q2_touch_begin(struct q2_op *op)
{
    pthread_mutex_lock(&op->q->vector_lock);
    if (op->epoch == op->q->epoch || op->epoch == Q2_EPOCH_OWN)
        return 0;
    pthread_mutex_unlock(&op->q->vector_lock);
    return -ECANCELED;
}

void vmm_q2_touch_end(struct q2_op *op)
{
    pthread_mutex_unlock(&op->q->vector_lock);
}

/* From any thread: what is below finishes, what has not gone below never will. */
void vmm_q2_quiesce(void *ctx)
{
    struct qcow2 *q = ctx;
    pthread_mutex_lock(&q->vector_lock);
    q->epoch++;
    pthread_mutex_unlock(&q->vector_lock);
    vmm_block_quiesce(q->file);
    if (q->data && q->data != q->file)
        vmm_block_quiesce(q->data);
    if (q->backing)
        vmm_block_quiesce(q->backing);
}

void vmm_q2_cancel(void *ctx, struct vmm_block_request *request)
{
    struct qcow2 *q = ctx;
    struct q2_op *op = (struct q2_op *)(uintptr_t)request->reserved[OP];
    pthread_mutex_lock(&q->vector_lock);
    if (op)
        op->epoch = 0; /* no epoch: they begin with 1 */
    pthread_mutex_unlock(&q->vector_lock);
}

/* Put the entries of [skip, skip + length) at `to`, or only count them (`to` NULL). */
static size_t cut_vector(const struct vmm_block_request *r, uint64_t skip, uint64_t length,
                         struct iovec *to)
{
    size_t n = 0;
    for (size_t i = 0; i < r->vector_count && length; i++) {
        uint64_t size = r->vector[i].iov_len;
        if (skip >= size) {
            skip -= size;
            continue;
        }
        uint64_t part = q2_min(size - skip, length);
        if (to)
            to[n] = (struct iovec){(uint8_t *)r->vector[i].iov_base + skip, (size_t)part};
        n++;
        length -= part;
        skip = 0;
    }
    return n;
}

int vmm_q2_user_io(struct q2_op *op, struct q2_batch *batch, struct vmm_block *block, uint32_t io,
                   uint64_t offset, uint64_t skip, uint64_t length, const struct iovec *before,
                   const struct iovec *after)
{
    struct q2_part *part = vmm_q2_part_new(op->q);
    if (!part)
        return -ENOMEM;
    size_t n = cut_vector(op->request, skip, length, NULL) + 2, at = 0;
    struct iovec *v = part->inline_vector;
    if (n > Q2_INLINE_VECTOR)
        v = part->heap_vector = calloc(n, sizeof(*v));
    int rc = v ? vmm_q2_touch_begin(op) : -ENOMEM;
    if (rc) {
        vmm_q2_part_free(op->q, part);
        return rc;
    }
    if (before && before->iov_len)
        v[at++] = *before;
    at += cut_vector(op->request, skip, length, v + at);
    if (after && after->iov_len)
        v[at++] = *after;
    length += (before ? before->iov_len : 0) + (after ? after->iov_len : 0);
    part->request = (struct vmm_block_request){
        .op = io, .offset = offset, .length = length, .vector = v, .vector_count = at};
    vmm_q2_batch_add(batch, block, part);
    vmm_q2_touch_end(op);
    return 0;
}

int vmm_q2_user_fill(struct q2_op *op, uint64_t skip, const uint8_t *data, uint64_t length)
{
    const struct vmm_block_request *r = op->request;
    int rc = vmm_q2_touch_begin(op);
    if (rc)
        return rc;
    for (size_t i = 0; i < r->vector_count && length; i++) {
        uint64_t size = r->vector[i].iov_len;
        if (skip >= size) {
            skip -= size;
            continue;
        }
        uint64_t part = q2_min(size - skip, length);
        uint8_t *to = (uint8_t *)r->vector[i].iov_base + skip;
        if (data) {
            memcpy(to, data, (size_t)part);
            data += part;
        } else {
            memset(to, 0, (size_t)part);
        }
        length -= part;
        skip = 0;
    }
    vmm_q2_touch_end(op);
    return 0;
}

int vmm_q2_user_zero(struct q2_op *op, uint64_t skip, uint64_t length)
{
    return vmm_q2_user_fill(op, skip, NULL, length);
}

/* Life of a request ---------------------------------------------------------------------------- */

static struct q2_op *op_new(struct qcow2 *q, struct vmm_block_request *request)
{
    struct q2_op *op = q->spare_ops;
    if (op) {
        q->spare_ops = op->next;
        q->spare_op_count--;
    } else {
        op = calloc(1, sizeof(*op));
        if (!op)
            return NULL;
        op->q = q;
    }
    op->request = request;
    op->locked = false;
    op->waiting = (struct vmm_co_list){0};
    pthread_mutex_lock(&q->vector_lock);
    op->epoch = q->epoch;
    pthread_mutex_unlock(&q->vector_lock);
    request->reserved[OP] = (uintptr_t)op;
    return op;
}

static void finish(struct q2_op *op, int result)
{
    struct qcow2 *q = op->q;
    struct vmm_block_request *request = op->request;
    request->reserved[OP] = 0;
    vmm_block_complete(q->block, request, result);
    vmm_q2_op_unlock(op);
    if (q->spare_op_count == SPARE_OPS) {
        free(op);
        return;
    }
    op->next = q->spare_ops;
    q->spare_ops = op;
    q->spare_op_count++;
}

/* The quick way -------------------------------------------------------------------------------- */

static void quick_done(struct vmm_block_request *request, int result)
{
    struct q2_op *op = request->ctx;
    struct qcow2 *q = op->q;
    finish(op, result);
    vmm_q2_deliver(q);
}

static int pass_down(struct q2_op *op, struct vmm_block *block, uint64_t offset)
{
    const struct vmm_block_request *r = op->request;
    int rc = vmm_q2_touch_begin(op);
    if (rc)
        return rc;
    op->part.request = (struct vmm_block_request){.op = r->op,
                                                  .flags = r->flags,
                                                  .offset = offset,
                                                  .length = r->length,
                                                  .vector = r->vector,
                                                  .vector_count = r->vector_count,
                                                  .done = quick_done,
                                                  .ctx = op};
    vmm_block_submit(block, &op->part.request);
    vmm_q2_touch_end(op);
    return 0;
}

static bool may_write(struct qcow2 *q, const struct q2_extent *e, uint64_t length, uint32_t flags)
{
    if (!e->copied || q->broken || ((flags & VMM_BLOCK_FUA) && vmm_q2_needs_sync(q)))
        return false;
    uint64_t last = (e->host + length - 1) >> q->cluster_bits;
    for (uint64_t c = e->host >> q->cluster_bits; !q->has_data_file && c <= last; c++)
        if (vmm_q2_set_has(&q->metadata, c))
            return false;
    return true;
}

/* Where the whole request can go as it is. */
static struct vmm_block *quick_target(struct qcow2 *q, const struct vmm_block_request *r,
                                      uint64_t *offset)
{
    struct q2_extent e;
    if (vmm_q2_map_now(q, r->offset, r->length, &e) || e.length != r->length)
        return NULL;
    *offset = e.host;
    if (e.type == Q2_DATA && q->data) {
        uint64_t end = q->data == q->file ? q->file_length : q->data_length;
        if (e.host > end || r->length > end - e.host)
            return NULL;
        return r->op == VMM_BLOCK_READ || may_write(q, &e, r->length, r->flags) ? q->data : NULL;
    }
    *offset = r->offset;
    if (e.type == Q2_BACKING && q->backing && r->op == VMM_BLOCK_READ &&
        r->offset < q->backing_length && r->length <= q->backing_length - r->offset)
        return q->backing;
    return NULL;
}

static bool quick(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    const struct vmm_block_request *r = op->request;
    uint64_t offset = 0;
    int rc;
    if (r->op == VMM_BLOCK_FLUSH) {
        if (q->read_only || vmm_q2_needs_sync(q) || q->data != q->file || q->broken)
            return false;
        rc = pass_down(op, q->file, 0);
    } else {
        if (r->op > VMM_BLOCK_WRITE)
            return false;
        struct vmm_block *block = quick_target(q, r, &offset);
        if (!block || !enlist_now(op, r->offset >> q->cluster_bits,
                                  (r->offset + r->length - 1) >> q->cluster_bits))
            return false;
        rc = pass_down(op, block, offset);
    }
    if (rc)
        finish(op, rc);
    return true;
}

/* The long way --------------------------------------------------------------------------------- */

static int do_flush(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    int rc = 0;
    if (q->read_only)
        return 0;
    if (q->broken || vmm_q2_needs_sync(q))
        return vmm_q2_sync(q);
    if (q->data && q->data != q->file)
        rc = vmm_q2_flush(q, q->data);
    return rc ? rc : vmm_q2_flush(q, q->file);
}

static int carry_out_one(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    int rc;
    switch (op->request->op) {
    case VMM_BLOCK_READ:
        return vmm_q2_do_read(op);
    case VMM_BLOCK_WRITE:
        rc = vmm_q2_do_write(op);
        break;
    case VMM_BLOCK_DISCARD:
        rc = vmm_q2_do_discard(op);
        break;
    case VMM_BLOCK_WRITE_ZEROES:
        rc = vmm_q2_do_zeroes(op);
        break;
    default:
        rc = do_flush(op);
        break;
    }
    vmm_q2_op_unlock(op);
    if (!rc && (op->request->flags & VMM_BLOCK_FUA) && op->request->op != VMM_BLOCK_FLUSH)
        rc = do_flush(op);
    /* So much waits to be freed that it is worth a turn of its own. */
    if (!rc && q->freed.count > 4096)
        rc = vmm_q2_sync(q);
    (void)vmm_q2_free_pending(q); /* at worst clusters are leaked */
    return rc;
}

static void carry_out(void *ctx)
{
    struct q2_op *op = ctx;
    struct qcow2 *q = op->q;
    for (;;) {
        finish(op, carry_out_one(op));
        struct vmm_block_request *next = q->backlog;
        if (!next)
            break;
        q->backlog = (struct vmm_block_request *)(uintptr_t)next->reserved[NEXT];
        if (!q->backlog)
            q->last_backlog = NULL;
        op = (struct q2_op *)(uintptr_t)next->reserved[OP];
    }
    q->running--;
}

static void put_off(struct qcow2 *q, struct vmm_block_request *request)
{
    request->reserved[NEXT] = 0;
    if (q->last_backlog)
        q->last_backlog->reserved[NEXT] = (uintptr_t)request;
    else
        q->backlog = request;
    q->last_backlog = request;
}

void vmm_q2_submit(void *ctx, struct vmm_block_request *request)
{
    struct qcow2 *q = ctx;
    struct q2_op *op;
    if (q->flags & VMM_QCOW2_CHECK) {
        vmm_block_complete(q->block, request, -ENOTSUP);
        return;
    }
    op = op_new(q, request);
    if (!op) {
        vmm_block_complete(q->block, request, -ENOMEM);
        return;
    }
    if (quick(op))
        return;
    if (q->running == RUNNING_MAX) {
        put_off(q, request);
        return;
    }
    q->running++;
    int rc = vmm_co_start(&q->co, carry_out, op);
    if (rc) {
        q->running--;
        finish(op, rc);
    }
}

void vmm_q2_drain(void *ctx)
{
    struct qcow2 *q = ctx;
    while (q->running)
        vmm_q2_turn(q);
    vmm_q2_turn(q); /* the quick ones */
}

void vmm_q2_pause(struct qcow2 *q)
{
    (void)vmm_timer_set(q->timer, 0);
    vmm_co_wait(&q->co, &q->growing);
}
