/* SPDX-License-Identifier: BSD-3-Clause */
/* Counting references. What is read is bounded: tables can be entangled in any way. */
#include "backends/block/qcow2/count.h"

#include <stdlib.h>

#define CLUSTERS_MAX (UINT64_C(1) << 28)
#define BUDGET_MIN   (UINT64_C(256) << 20)

int vmm_q2_count_begin(struct qcow2 *q, struct q2_count *c)
{
    *c = (struct q2_count){.q = q, .result = VMM_QCOW2_CHECK_RESULT_INIT};
    c->clusters = (q->file_length + q->cluster_size - 1) >> q->cluster_bits;
    c->budget = q->file_length > BUDGET_MIN ? q->file_length : BUDGET_MIN;
    if (c->clusters > CLUSTERS_MAX)
        return -EFBIG;
    c->counts = calloc((size_t)c->clusters + 1, sizeof(*c->counts));
    return c->counts ? 0 : -ENOMEM;
}

void vmm_q2_count_end(struct q2_count *c)
{
    free(c->counts);
    c->counts = NULL;
}

bool vmm_q2_count_range(struct q2_count *c, uint64_t offset, uint64_t length)
{
    uint32_t bits = c->q->cluster_bits;
    if (!length)
        return true;
    uint64_t first = offset >> bits, last = (offset + length - 1) >> bits;
    if (offset + length < offset || last >= c->clusters)
        return false;
    for (uint64_t i = first; i <= last; i++)
        if (c->counts[i] < UINT32_MAX)
            c->counts[i]++;
    return true;
}

/* Tables --------------------------------------------------------------------------------------- */

int vmm_q2_each_entry(struct qcow2 *q, uint64_t table, void *arg,
                      bool (*fn)(void *arg, uint32_t index, struct q2_entry *entry))
{
    uint8_t *data = vmm_q2_buffer((size_t)q->cluster_size);
    uint32_t count = 1u << q->l2_bits;
    bool changed = false;
    int rc = data ? 0 : -ENOMEM;
    if (!rc)
        rc = vmm_q2_read(q, q->file, table, data, (size_t)q->cluster_size);
    for (uint32_t i = 0; i < count && !rc; i++) {
        uint8_t *at = data + ((size_t)i << q->entry_bits);
        struct q2_entry e = {q2_load64(at), q->extended ? q2_load64(at + 8) : 0};
        if (!fn(arg, i, &e))
            continue;
        q2_store64(at, e.word);
        if (q->extended)
            q2_store64(at + 8, e.bits);
        changed = true;
    }
    if (changed && !rc) {
        vmm_q2_cache_drop(q, table >> q->cluster_bits);
        rc = vmm_q2_write(q, q->file, table, data, (size_t)q->cluster_size);
    }
    free(data);
    return rc;
}

struct table {
    struct q2_count *c;
    uint64_t at; /* the guest's offset of its first entry */
    bool active; /* of the active L1 table, so part of the disk's numbers */
};

static bool entry_ok(struct table *t, uint32_t index, const struct q2_entry *e)
{
    struct q2_count *c = t->c;
    struct qcow2 *q = c->q;
    if (vmm_q2_entry_check(q, t->at + ((uint64_t)index << q->cluster_bits), e))
        return false;
    if (e->word & Q2_COMPRESSED) {
        uint64_t offset, length;
        vmm_q2_packed_place(q, e->word, &offset, &length);
        c->result.compressed_clusters += t->active;
        /* The last sectors may be cut off, but not the first. */
        if (offset >= q->file_length)
            return false;
        return vmm_q2_count_range(c, offset,
                                  q2_min(length, (c->clusters << q->cluster_bits) - offset));
    }
    uint64_t host = e->word & Q2_OFFSET_MASK;
    if (!host || q->has_data_file)
        return true;
    return host >> q->cluster_bits && vmm_q2_count_range(c, host, q->cluster_size);
}

static bool count_entry(void *arg, uint32_t index, struct q2_entry *e)
{
    struct table *t = arg;
    if (!e->word && !e->bits)
        return false;
    bool data = t->c->q->extended ? (e->word & Q2_COMPRESSED) || (uint32_t)e->bits
                                  : !(e->word & Q2_ZERO_FLAG);
    t->c->result.data_clusters += t->active && data;
    if (entry_ok(t, index, e))
        return false;
    t->c->result.errors++;
    if (!t->c->mend)
        return false;
    *e = (struct q2_entry){0};
    return true;
}

/* Can an L2 table or a refcount block be at the offset? */
static bool place_ok(const struct q2_count *c, uint64_t offset)
{
    const struct qcow2 *q = c->q;
    return offset && offset % q->cluster_size == 0 && offset < q->file_length &&
           q->cluster_size <= q->file_length - offset;
}

static int count_l1(struct q2_count *c, uint64_t *l1, uint64_t entries, bool active, bool *changed)
{
    struct qcow2 *q = c->q;
    int rc = 0;
    *changed = false;
    for (uint64_t i = 0; i < entries && !rc; i++) {
        uint64_t offset = l1[i] & Q2_OFFSET_MASK;
        if (!offset)
            continue;
        if (!place_ok(c, offset) || !vmm_q2_count_range(c, offset, q->cluster_size)) {
            c->result.errors++;
            if (c->mend) {
                l1[i] = 0;
                *changed = true;
            }
            continue;
        }
        if (c->budget < q->cluster_size)
            return -EFBIG;
        c->budget -= q->cluster_size;
        struct table t = {c, i << (q->cluster_bits + q->l2_bits), active};
        rc = vmm_q2_each_entry(q, offset, &t, count_entry);
    }
    return rc;
}

static void count_table(struct q2_count *c, uint64_t offset, uint64_t length)
{
    if (!vmm_q2_count_range(c, offset, length))
        c->result.errors++;
}

static int count_snapshots(struct q2_count *c)
{
    struct qcow2 *q = c->q;
    int rc = 0;
    if (q->snapshot_count)
        count_table(c, q->header.snapshots_offset, q->snapshot_table_length);
    for (uint32_t i = 0; i < q->snapshot_count && !rc; i++) {
        const struct q2_snapshot *s = &q->snapshots[i];
        uint64_t *l1;
        bool changed;
        count_table(c, s->l1_offset, (uint64_t)s->l1_size * 8);
        rc = vmm_q2_table_read(q, s->l1_offset, s->l1_size, &l1);
        if (rc)
            return rc;
        rc = count_l1(c, l1, s->l1_size, false, &changed);
        if (!rc && changed)
            rc = vmm_q2_table_write(q, s->l1_offset, l1, s->l1_size,
                                    ((uint64_t)s->l1_size * 8 + q->cluster_size - 1) >>
                                        q->cluster_bits);
        free(l1);
    }
    return rc;
}

/* Bitmaps: not used here, but their clusters are taken ("Bitmaps"). */
static int count_bitmaps(struct q2_count *c)
{
    struct qcow2 *q = c->q;
    const struct q2_header *h = &q->header;
    uint64_t *directory = NULL, left = h->bitmaps_size / 8, at = 0;
    if (!h->bitmap_count)
        return 0;
    if (h->bitmaps_size > (UINT64_C(64) << 20) || h->bitmaps_offset % q->cluster_size ||
        !vmm_q2_count_range(c, h->bitmaps_offset, h->bitmaps_size)) {
        c->result.errors++;
        return 0;
    }
    int rc = vmm_q2_table_read(q, h->bitmaps_offset, left, &directory);
    for (uint32_t i = 0; i < h->bitmap_count && !rc && left - at >= 3; i++) {
        uint64_t offset = directory[at], entries = directory[at + 1] >> 32, *table = NULL;
        uint64_t last = directory[at + 2]; /* type 8, granularity 8, name 16, extra 32 */
        uint64_t length = 24 + (last >> 32 & 0xffff) + (last & 0xffffffff);
        if (entries * 8 > c->budget || !vmm_q2_count_range(c, offset, entries * 8)) {
            c->result.errors++;
            break;
        }
        c->budget -= entries * 8;
        rc = vmm_q2_table_read(q, offset, entries, &table);
        for (uint64_t j = 0; j < entries && !rc; j++)
            if (table[j] & Q2_OFFSET_MASK)
                count_table(c, table[j] & Q2_OFFSET_MASK, q->cluster_size);
        free(rc ? NULL : table);
        at += q2_min(left - at, (length + 7) / 8);
    }
    free(directory);
    return rc;
}

int vmm_q2_count_all(struct q2_count *c)
{
    struct qcow2 *q = c->q;
    bool changed = false;
    memset(c->counts, 0, (size_t)c->clusters * sizeof(*c->counts));
    count_table(c, 0, 1);
    count_table(c, q->l1_offset, (uint64_t)q->l1_size * 8);
    int rc = count_l1(c, q->l1, q->l1_size, true, &changed);
    if (!rc && changed)
        rc =
            vmm_q2_table_write(q, q->l1_offset, q->l1, q->l1_size,
                               ((uint64_t)q->l1_size * 8 + q->cluster_size - 1) >> q->cluster_bits);
    if (!rc)
        rc = count_snapshots(c);
    return rc ? rc : count_bitmaps(c);
}

/* A refcount block lives alone: what shares its cluster would be overwritten. */
int vmm_q2_count_refcounts(struct q2_count *c)
{
    struct qcow2 *q = c->q;
    uint64_t first = q->header.rt_offset >> q->cluster_bits;
    for (uint64_t i = 0; i < q->header.rt_clusters; i++) {
        bool there = vmm_q2_count_range(c, (first + i) << q->cluster_bits, 1);
        if (!there || c->counts[first + i] > 1)
            c->refcounts_bad = true;
    }
    for (uint64_t i = 0; i < q->rt_size; i++) {
        if (!q->rt[i])
            continue;
        bool ok = !(q->rt[i] & ~Q2_RT_MASK) && place_ok(c, q->rt[i]) &&
                  vmm_q2_count_range(c, q->rt[i], q->cluster_size);
        if (!ok || c->counts[q->rt[i] >> q->cluster_bits] > 1)
            c->refcounts_bad = true;
    }
    c->result.errors += c->refcounts_bad;
    return 0;
}
