/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing. What is ours alone is written in place; else new clusters are taken, the data and what was
 * around them are written there, and only then does the L2 table in memory point to them. It gets to
 * the file behind the data (sync.c).
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define RUN_MAX 64u /* clusters that are allocated at a time */

/* A run of clusters on their way to new places. */
struct run {
    struct q2_op *op;
    uint64_t at;     /* guest offset of what is written */
    uint64_t length; /* of that */
    uint64_t first;  /* guest offset of the first cluster */
    uint64_t count;  /* clusters */
    uint64_t host;   /* of the first cluster */
    bool fresh;      /* the clusters are new, not the ones that the entries have */
    bool zero;       /* they read as zeroes */
    struct q2_entry old[RUN_MAX];
};

static bool ours(const struct qcow2 *q, const struct q2_entry *e)
{
    if (e->word & Q2_COMPRESSED)
        return false;
    if (q->has_data_file)
        return (e->word & Q2_OFFSET_MASK) || (e->word & Q2_COPIED);
    return (e->word & Q2_OFFSET_MASK) && (e->word & Q2_COPIED);
}

/* The image says that a cluster is the guest's that a table lives in. */
static int check_target(struct qcow2 *q, uint64_t host, uint64_t length)
{
    if (q->has_data_file)
        return 0;
    for (uint64_t c = host >> q->cluster_bits; c <= (host + length - 1) >> q->cluster_bits; c++)
        if (vmm_q2_set_has(&q->metadata, c))
            return vmm_q2_damaged(q);
    return 0;
}

/* What is around the data ----------------------------------------------------------------------- */

/* Does a cluster that goes to a new place take all it holds along? With subclusters, what was never
 * allocated needs not. */
static bool takes_all(const struct qcow2 *q, const struct run *r, const struct q2_entry *e)
{
    if (!r->fresh)
        return false;
    return (e->word & Q2_COMPRESSED) || (uint32_t)e->bits || (!q->extended && !ours(q, e));
}

/* Read [from, to) for copying; nothing where it is zero there already. */
static int read_around(struct qcow2 *q, const struct run *r, uint64_t from, uint64_t to,
                       struct iovec *v)
{
    struct q2_extent e;
    *v = (struct iovec){0};
    if (from == to)
        return 0;
    int rc = vmm_q2_map(q, from, to - from, &e);
    bool backing = q->header.backing_offset || q->backing;
    if (!rc && r->zero && e.length == to - from &&
        (e.type == Q2_ZERO ||
         (e.type == Q2_BACKING && (!backing || (q->backing && from >= q->backing_length)))))
        return 0;
    v->iov_len = (size_t)(to - from);
    v->iov_base = rc ? NULL : vmm_q2_buffer(v->iov_len);
    if (!rc && !v->iov_base)
        rc = -ENOMEM;
    return rc ? rc : vmm_q2_read_guest(q, from, v->iov_base, to - from);
}

static bool unit_is_data(const struct qcow2 *q, const struct run *r, uint64_t at)
{
    const struct q2_entry *e = &r->old[(at - r->first) >> q->cluster_bits];
    uint64_t unit = (at & (q->cluster_size - 1)) >> q->unit_bits;
    return !r->fresh && vmm_q2_unit_type(q, e, (uint32_t)unit) == Q2_DATA;
}

static int write_run(const struct run *r)
{
    struct qcow2 *q = r->op->q;
    uint64_t unit = UINT64_C(1) << q->unit_bits, end = r->at + r->length;
    uint64_t from = r->at & ~(unit - 1), to = vmm_align_up(end, unit);
    struct iovec before = {0}, after = {0};
    struct q2_batch batch;
    if (takes_all(q, r, &r->old[0]))
        from = r->first;
    else if (unit_is_data(q, r, r->at))
        from = r->at;
    if (takes_all(q, r, &r->old[r->count - 1]))
        to = r->first + (r->count << q->cluster_bits);
    else if (unit_is_data(q, r, end - 1))
        to = end;
    int rc = read_around(q, r, from, r->at, &before);
    if (!rc)
        rc = read_around(q, r, end, to, &after);
    vmm_q2_batch_init(&batch, q);
    if (!rc)
        rc = vmm_q2_ensure_length(q, q->data, r->host + (r->count << q->cluster_bits));
    if (!rc)
        rc = vmm_q2_user_io(r->op, &batch, q->data, VMM_BLOCK_WRITE,
                            r->host + (r->at - r->first) - before.iov_len,
                            r->at - r->op->request->offset, r->length, &before, &after);
    int other = vmm_q2_batch_wait(&batch);
    free(before.iov_base);
    free(after.iov_base);
    return rc ? rc : other;
}

/* The tables ----------------------------------------------------------------------------------- */

static uint64_t unit_mask(uint32_t first, uint32_t last)
{
    return (UINT64_C(2) << last) - (UINT64_C(1) << first);
}

static void new_entry(const struct qcow2 *q, const struct run *r, uint64_t i, struct q2_entry *e)
{
    uint64_t cluster = r->first + (i << q->cluster_bits);
    const struct q2_entry *old = &r->old[i];
    e->word = (r->host + (i << q->cluster_bits)) | Q2_COPIED;
    e->bits = 0;
    if (!q->extended)
        return;
    uint64_t from = r->at > cluster ? r->at - cluster : 0;
    uint64_t to = q2_min(r->at + r->length - cluster, q->cluster_size) - 1;
    uint64_t mask = unit_mask((uint32_t)(from >> q->unit_bits), (uint32_t)(to >> q->unit_bits));
    e->bits = takes_all(q, r, old) ? UINT32_MAX : ((old->bits | mask) & ~(mask << 32));
}

static int link_run(const struct run *r)
{
    struct qcow2 *q = r->op->q;
    uint64_t i = 0;
    int rc = 0;
    q->unsynced = true;
    for (; i < r->count; i++) {
        uint64_t at = r->first + (i << q->cluster_bits);
        struct q2_slice *s;
        struct q2_entry e;
        rc = vmm_q2_entry_writable(q, at, &s);
        if (rc)
            break;
        new_entry(q, r, i, &e);
        vmm_q2_entry_set(q, s, q2_slice_index(q, at), &e);
        vmm_q2_cache_put(s);
        if (r->fresh)
            vmm_q2_entry_drop(q, &r->old[i]);
    }
    if (rc && r->fresh && !q->has_data_file)
        vmm_q2_free_unused(q, r->host + (i << q->cluster_bits), r->count - i);
    return rc;
}

/* Choosing ------------------------------------------------------------------------------------- */

static bool needs_new(const struct qcow2 *q, const struct q2_entry *e)
{
    return !ours(q, e);
}

/* The clusters from `first` on that go to new places together. */
static int gather(struct qcow2 *q, struct run *r, uint64_t rest)
{
    uint64_t clusters = (r->at - r->first + rest + q->cluster_size - 1) >> q->cluster_bits;
    int rc = 0;
    for (r->count = 0; r->count < clusters && r->count < RUN_MAX; r->count++) {
        struct q2_entry *e = &r->old[r->count];
        rc = vmm_q2_entry_load(q, r->first + (r->count << q->cluster_bits), e);
        if (rc || (r->count && (!r->fresh || !needs_new(q, e))))
            break;
        r->fresh = needs_new(q, e);
    }
    return r->count ? 0 : rc;
}

static int place(struct qcow2 *q, struct run *r)
{
    if (!r->fresh) {
        r->host = r->old[0].word & Q2_OFFSET_MASK;
        return check_target(q, r->host, q->cluster_size);
    }
    if (q->has_data_file) {
        r->host = r->first;
        return vmm_q2_ensure_length(q, q->data, r->first + (r->count << q->cluster_bits));
    }
    return vmm_q2_alloc(q, r->count, &r->host, &r->count, &r->zero);
}

/* Clusters that change their mapping: *written bytes from `at` on. */
static int write_new(struct q2_op *op, uint64_t at, uint64_t rest, uint64_t *written)
{
    struct qcow2 *q = op->q;
    struct run *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->op = op;
    r->at = at;
    r->first = at & ~(q->cluster_size - 1);
    int rc = gather(q, r, rest);
    if (!rc)
        rc = place(q, r);
    if (!rc) {
        r->length = q2_min(rest, r->first + (r->count << q->cluster_bits) - at);
        *written = r->length;
        rc = write_run(r);
        if (rc && r->fresh && !q->has_data_file)
            vmm_q2_free_unused(q, r->host, r->count);
        if (!rc)
            rc = link_run(r);
    }
    free(r);
    return rc;
}

int vmm_q2_write_clusters(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    const struct vmm_block_request *r = op->request;
    struct q2_batch batch;
    int rc = q->broken ? -EIO : q->data ? 0 : -ENOTSUP;
    vmm_q2_batch_init(&batch, q);
    for (uint64_t done = 0; done < r->length && !rc;) {
        struct q2_extent e;
        uint64_t n = 0;
        rc = vmm_q2_map(q, r->offset + done, r->length - done, &e);
        if (!rc && e.type == Q2_DATA && (e.copied || q->has_data_file)) {
            n = e.length;
            rc = check_target(q, e.host, n);
            if (!rc)
                rc = vmm_q2_ensure_length(q, q->data, e.host + n);
            if (!rc)
                rc = vmm_q2_user_io(op, &batch, q->data, VMM_BLOCK_WRITE, e.host, done, n, NULL,
                                    NULL);
        } else if (!rc) {
            rc = write_new(op, r->offset + done, r->length - done, &n);
        }
        done += n;
    }
    int other = vmm_q2_batch_wait(&batch);
    return rc ? rc : other;
}

/* Requests ------------------------------------------------------------------------------------- */

/* Does nothing but data change? */
static int in_place(struct q2_op *op, bool *yes)
{
    struct qcow2 *q = op->q;
    const struct vmm_block_request *r = op->request;
    int rc = 0;
    *yes = true;
    for (uint64_t done = 0; done < r->length && *yes && !rc;) {
        struct q2_extent e;
        rc = vmm_q2_map(q, r->offset + done, r->length - done, &e);
        *yes = !rc && e.type == Q2_DATA && (e.copied || q->has_data_file);
        done += e.length;
    }
    return rc;
}

int vmm_q2_do_write(struct q2_op *op)
{
    const struct vmm_block_request *r = op->request;
    uint32_t bits = op->q->cluster_bits;
    uint64_t first = r->offset >> bits, last = (r->offset + r->length - 1) >> bits;
    bool yes = false;
    vmm_q2_op_lock(op, first, last, false);
    int rc = in_place(op, &yes);
    if (rc)
        return rc;
    if (!yes) {
        vmm_q2_op_unlock(op);
        vmm_q2_op_lock(op, first, last, true);
    }
    return vmm_q2_write_clusters(op);
}

int vmm_q2_write_guest(struct qcow2 *q, uint64_t at, const void *data, uint64_t length)
{
    struct iovec v = {(void *)(uintptr_t)data, (size_t)length};
    struct vmm_block_request request = {
        .op = VMM_BLOCK_WRITE, .offset = at, .length = length, .vector = &v, .vector_count = 1};
    struct q2_op op = {.request = &request, .q = q, .epoch = Q2_EPOCH_OWN};
    return length ? vmm_q2_write_clusters(&op) : 0;
}
