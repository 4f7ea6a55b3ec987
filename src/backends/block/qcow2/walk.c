/* SPDX-License-Identifier: BSD-3-Clause */
/* Everything that an L1 table reaches: what snapshots share is counted by these walks. */
#include "backends/block/qcow2/count.h"

#include <stdlib.h>

struct walk {
    struct qcow2 *q;
    int delta, rc;
    uint64_t steps; /* that were done */
    uint64_t limit; /* steps to do */
};

static void step(struct walk *w, uint64_t first, uint64_t count)
{
    if (w->rc || w->steps == w->limit)
        return;
    if ((first + count - 1) << w->q->cluster_bits >= w->q->file_length) {
        w->rc = -EIO; /* an entry that points nowhere */
        return;
    }
    w->rc = vmm_q2_refcount_add(w->q, first, count, w->delta);
    w->steps += !w->rc;
}

static bool walk_entry(void *arg, uint32_t index, struct q2_entry *e)
{
    struct walk *w = arg;
    uint32_t bits = w->q->cluster_bits;
    (void)index;
    if (e->word & Q2_COMPRESSED) {
        uint64_t offset, length;
        vmm_q2_packed_place(w->q, e->word, &offset, &length);
        step(w, offset >> bits, ((offset + length - 1) >> bits) - (offset >> bits) + 1);
    } else if (e->word & Q2_OFFSET_MASK) {
        step(w, (e->word & Q2_OFFSET_MASK) >> bits, 1);
    }
    return false;
}

static int walk(struct walk *w, const uint64_t *l1, uint64_t entries)
{
    struct qcow2 *q = w->q;
    for (uint64_t i = 0; i < entries && !w->rc && w->steps < w->limit; i++) {
        uint64_t table = l1[i] & Q2_OFFSET_MASK;
        if (!table)
            continue;
        if (table & (q->cluster_size - 1) || table > q->file_length ||
            q->file_length - table < q->cluster_size)
            return -EIO;
        /* The entries before the table: until they are read its cluster must not be free. */
        int rc = vmm_q2_each_entry(q, table, w, walk_entry);
        if (rc)
            return rc;
        step(w, table >> q->cluster_bits, 1);
    }
    return w->rc;
}

int vmm_q2_walk_count(struct qcow2 *q, const uint64_t *l1, uint64_t entries, int delta)
{
    struct walk w = {.q = q, .delta = delta, .limit = UINT64_MAX};
    int rc = walk(&w, l1, entries);
    if (rc && delta > 0) {
        struct walk back = {.q = q, .delta = -1, .limit = w.steps};
        (void)walk(&back, l1, entries); /* at worst they are leaked */
    }
    return rc;
}

/* Marks ---------------------------------------------------------------------------------------- */

static bool set_mark(struct walk *w, uint64_t *word)
{
    uint64_t count = 0;
    int rc = vmm_q2_refcount_get(w->q, (*word & Q2_OFFSET_MASK) >> w->q->cluster_bits, &count);
    w->rc = w->rc ? w->rc : rc;
    if (rc || (count == 1) == (*word >> 63))
        return false;
    *word ^= Q2_COPIED;
    return true;
}

static bool mark_entry(void *arg, uint32_t index, struct q2_entry *e)
{
    struct walk *w = arg;
    (void)index;
    if ((e->word & Q2_COMPRESSED) || !(e->word & Q2_OFFSET_MASK))
        return false;
    return set_mark(w, &e->word);
}

int vmm_q2_walk_marks(struct qcow2 *q)
{
    struct walk w = {.q = q};
    bool changed = false;
    int rc = 0;
    for (uint32_t i = 0; i < q->l1_size && !rc && !w.rc; i++) {
        uint64_t table = q->l1[i] & Q2_OFFSET_MASK;
        if (!table)
            continue;
        changed |= set_mark(&w, &q->l1[i]);
        if (!w.rc)
            rc = vmm_q2_each_entry(q, table, &w, mark_entry);
    }
    rc = rc ? rc : w.rc;
    if (changed && !rc)
        rc =
            vmm_q2_table_write(q, q->l1_offset, q->l1, q->l1_size,
                               ((uint64_t)q->l1_size * 8 + q->cluster_size - 1) >> q->cluster_bits);
    return rc ? rc : vmm_q2_flush(q, q->file);
}
