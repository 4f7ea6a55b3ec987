/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing tables to the file in an order that leaves a consistent image at every instant:
 *
 *   1. the guest's data (written by then), refcounts that have grown, L2 tables that no L1 table in
 *      the file points to yet; flush;
 *   2. L2 tables that are pointed to, L1 entries; flush;
 *   3. only now is free what those tables pointed to before: its refcounts go down in memory, and to
 *      the file some later time.
 *
 * So a table in the file never points to what is not there or not counted. All is copied at the
 * begin: what changes meanwhile belongs to the next turn.
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define STAGES 3u

/* A copy of a slice (or, without one, of a block of the L1 table) on its way to the file. */
struct piece {
    struct piece *next;
    struct q2_slice *slice;
    uint64_t offset;
    size_t length;
    uint32_t first_entry; /* of the L1 table's */
    uint32_t stage;
    uint8_t *data;
};

struct turn {
    struct qcow2 *q;
    struct piece *pieces;
    uint32_t stages; /* a bit each: there is something to write in it */
    struct q2_ranges freed;
};

static struct piece *add_piece(struct turn *t, uint64_t offset, size_t length)
{
    struct piece *p = calloc(1, sizeof(*p));
    uint8_t *data = vmm_q2_buffer(length);
    if (!p || !data) {
        free(p);
        free(data);
        return NULL;
    }
    p->offset = offset;
    p->length = length;
    p->data = data;
    p->next = t->pieces;
    t->pieces = p;
    return p;
}

/* After a failure it is not known what of the last turn is in the file: then one thing at a time. */
static uint32_t l2_stage(const struct qcow2 *q, const struct q2_slice *s)
{
    if (!s->l2)
        return 0;
    return q->sync_failed || !q->l1_dirty[s->l1_index];
}

static int copy_slices(struct turn *t, bool refcounts)
{
    struct qcow2 *q = t->q;
    struct q2_slice *s = q->cache.dirty, *next;
    for (; s; s = next) {
        next = s->dirty_next;
        if (!s->l2 && !refcounts)
            continue;
        struct piece *p = add_piece(t, s->offset, q->slice_size);
        if (!p)
            return -ENOMEM;
        memcpy(p->data, s->data, q->slice_size);
        p->slice = s;
        p->stage = l2_stage(q, s);
        t->stages |= 1u << p->stage;
        s->pins++;
        vmm_q2_cache_clean(q, s);
    }
    return 0;
}

static int copy_l1(struct turn *t)
{
    struct qcow2 *q = t->q;
    uint32_t per_block = q->block_size / 8;
    if (!q->l1_any_dirty)
        return 0;
    for (uint32_t first = 0; first < q->l1_size; first += per_block) {
        uint32_t count = (uint32_t)q2_min(per_block, q->l1_size - first);
        if (!memchr(q->l1_dirty + first, 1, count))
            continue;
        struct piece *p = add_piece(t, q->l1_offset + (uint64_t)first * 8, q->block_size);
        if (!p)
            return -ENOMEM;
        memset(p->data, 0, p->length);
        for (uint32_t i = 0; i < count; i++)
            q2_store64(p->data + (size_t)i * 8, q->l1[first + i]);
        p->first_entry = first;
        p->stage = q->sync_failed ? 2 : 1;
        t->stages |= 1u << p->stage;
    }
    /* The flags stay until L2 slices have been sorted by them: forgotten here, all at once. */
    memset(q->l1_dirty, 0, q->l1_size);
    q->l1_any_dirty = false;
    return 0;
}

static int write_stage(struct turn *t, uint32_t stage)
{
    struct q2_batch batch;
    vmm_q2_batch_init(&batch, t->q);
    for (struct piece *p = t->pieces; p; p = p->next)
        if (p->stage == stage)
            vmm_q2_batch_io(&batch, t->q->file, VMM_BLOCK_WRITE, p->offset, p->data, p->length);
    return vmm_q2_batch_wait(&batch);
}

static int write_all(struct turn *t)
{
    struct qcow2 *q = t->q;
    int rc = q->data && q->data != q->file ? vmm_q2_flush(q, q->data) : 0;
    for (uint32_t stage = 0; stage < STAGES && !rc; stage++) {
        if (stage > 0 && !(t->stages >> stage & 1))
            continue;
        rc = write_stage(t, stage);
        if (!rc)
            rc = vmm_q2_flush(q, q->file);
    }
    return rc;
}

/* Not written: it is dirty again, with what has changed since. */
static void put_back(struct qcow2 *q, const struct piece *p)
{
    if (p->slice) {
        vmm_q2_cache_dirty(q, p->slice);
        return;
    }
    /* Which of the block's entries were dirty is not known any more: all are. */
    for (uint32_t i = p->first_entry; i < q->l1_size && i < p->first_entry + p->length / 8; i++)
        q->l1_dirty[i] = 1;
    q->l1_any_dirty = true;
}

static void finish(struct turn *t, int rc)
{
    struct qcow2 *q = t->q;
    while (t->pieces) {
        struct piece *p = t->pieces;
        t->pieces = p->next;
        if (p->slice)
            vmm_q2_cache_put(p->slice);
        if (rc)
            put_back(q, p);
        free(p->data);
        free(p);
    }
    struct q2_ranges *to = rc ? &q->freed : &q->freeable;
    for (size_t i = 0; i < t->freed.count; i++) /* out of memory: they are lost until a repair */
        (void)vmm_q2_ranges_add(to, t->freed.items[i].first, t->freed.items[i].count);
    free(t->freed.items);
    q->sync_failed = rc != 0;
    if (rc)
        q->unsynced = true;
}

static int one_turn(struct qcow2 *q, bool refcounts)
{
    struct turn t = {.q = q};
    int rc = copy_slices(&t, refcounts);
    if (!rc)
        rc = copy_l1(&t);
    t.freed = q->freed;
    q->freed = (struct q2_ranges){0};
    if (!rc) {
        q->unsynced = false;
        rc = write_all(&t);
    }
    finish(&t, rc);
    return rc;
}

bool vmm_q2_needs_sync(const struct qcow2 *q)
{
    /* While a turn is under way, what it has copied is clean here and not yet in the file. */
    return q->syncing || q->unsynced || q->cache.dirty_l2 || q->l1_any_dirty || q->freed.count ||
           (q->cache.dirty_refcounts && !q->lazy);
}

/* One at a time; who comes while one is under way waits for the next, which serves all of them. */
static int turn(struct qcow2 *q, bool all)
{
    uint64_t want = q->syncs_begun + 1;
    if (q->broken)
        return -EIO;
    for (;;) {
        if (q->syncs_ended >= want && !all)
            return q->sync_result;
        if (!q->syncing)
            break;
        vmm_co_wait(&q->co, &q->sync_waiting);
    }
    q->syncing = true;
    q->syncs_begun++;
    int rc = one_turn(q, all || !q->lazy);
    q->syncs_ended = q->syncs_begun;
    q->sync_result = rc;
    q->syncing = false;
    vmm_co_wake_all(&q->co, &q->sync_waiting);
    return rc;
}

int vmm_q2_sync(struct qcow2 *q)
{
    return turn(q, false);
}

int vmm_q2_sync_all(struct qcow2 *q)
{
    return turn(q, true);
}
