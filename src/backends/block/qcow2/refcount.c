/* SPDX-License-Identifier: BSD-3-Clause */
/* Refcounts of host clusters, and taking and giving back clusters ("Host cluster management"). */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

/* Values --------------------------------------------------------------------------------------- */

uint64_t vmm_q2_refcount_peek(const uint8_t *data, uint32_t order, uint64_t index)
{
    switch (order) {
    case 6:
        return q2_load64(data + index * 8);
    case 5:
        return q2_load32(data + index * 4);
    case 4:
        return q2_load16(data + index * 2);
    case 3:
        return data[index];
    default: {
        uint32_t width = 1u << order, bit = (uint32_t)(index << order & 7);
        return data[index << order >> 3] >> bit & ((1u << width) - 1);
    }
    }
}

void vmm_q2_refcount_poke(uint8_t *data, uint32_t order, uint64_t index, uint64_t value)
{
    switch (order) {
    case 6:
        q2_store64(data + index * 8, value);
        return;
    case 5:
        q2_store32(data + index * 4, (uint32_t)value);
        return;
    case 4:
        q2_store16(data + index * 2, (uint16_t)value);
        return;
    case 3:
        data[index] = (uint8_t)value;
        return;
    default: {
        uint32_t width = 1u << order, bit = (uint32_t)(index << order & 7);
        uint8_t *byte = &data[index << order >> 3];
        uint32_t mask = ((1u << width) - 1) << bit;
        *byte = (uint8_t)((*byte & ~mask) | (uint32_t)value << bit);
    }
    }
}

static uint64_t refcount_max(const struct qcow2 *q)
{
    uint32_t width = 1u << q->header.refcount_order;
    return width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
}

int vmm_q2_damaged(struct qcow2 *q)
{
    q->broken = true;
    return -EIO;
}

/* Blocks --------------------------------------------------------------------------------------- */

/* The log of how many refcounts a slice holds. */
static uint32_t slice_entry_bits(const struct qcow2 *q)
{
    return (uint32_t)__builtin_ctz(q->slice_size) + 3 - q->header.refcount_order;
}

/* The pinned slice of the cluster's refcount. *out is NULL where there is no block: all are 0. */
static int refcount_slice(struct qcow2 *q, uint64_t cluster, struct q2_slice **out)
{
    uint64_t block = cluster >> q->rb_bits;
    *out = NULL;
    if (block >= q->rt_size || q->rt[block] == 0)
        return 0;
    if (q->rt[block] & ~Q2_RT_MASK || q->rt[block] & (q->cluster_size - 1))
        return vmm_q2_damaged(q);
    uint64_t in_block = cluster & ((UINT64_C(1) << q->rb_bits) - 1);
    uint64_t slice = in_block >> slice_entry_bits(q);
    return vmm_q2_cache_get(q, q->rt[block] + slice * q->slice_size, false, 0, out);
}

int vmm_q2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
    struct q2_slice *s;
    int rc = refcount_slice(q, cluster, &s);
    *value = 0;
    if (rc || !s)
        return rc;
    uint64_t index = cluster & ((UINT64_C(1) << slice_entry_bits(q)) - 1);
    *value = vmm_q2_refcount_peek(s->data, q->header.refcount_order, index);
    vmm_q2_cache_put(s);
    return 0;
}

static int add_to_slice(struct qcow2 *q, struct q2_slice *s, uint64_t index, uint64_t count,
                        uint64_t first, int delta)
{
    uint32_t order = q->header.refcount_order;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = vmm_q2_refcount_peek(s->data, order, index + i);
        if (delta > 0 && value == refcount_max(q)) {
            while (i--) /* all or nothing of a slice */
                vmm_q2_refcount_poke(s->data, order, index + i,
                                     vmm_q2_refcount_peek(s->data, order, index + i) - 1);
            return -EMLINK;
        }
        if (delta < 0 && value == 0)
            return vmm_q2_damaged(q);
        value = delta > 0 ? value + 1 : value - 1;
        vmm_q2_refcount_poke(s->data, order, index + i, value);
        if (value == 0 && first + i < q->free_hint)
            q->free_hint = first + i;
    }
    vmm_q2_cache_dirty(q, s);
    return 0;
}

int vmm_q2_refcount_add(struct qcow2 *q, uint64_t first, uint64_t count, int delta)
{
    uint64_t per_slice = UINT64_C(1) << slice_entry_bits(q);
    uint64_t done = 0;
    int rc = vmm_q2_before_change(q);
    while (done < count && !rc) {
        struct q2_slice *s;
        uint64_t index = (first + done) & (per_slice - 1);
        uint64_t part = q2_min(count - done, per_slice - index);
        rc = refcount_slice(q, first + done, &s);
        if (!rc && !s && delta > 0) {
            rc = vmm_q2_refblock_new(q, first + done);
            continue;
        }
        if (!rc && !s)
            rc = vmm_q2_damaged(q);
        if (rc)
            break;
        rc = add_to_slice(q, s, index, part, first + done, delta);
        vmm_q2_cache_put(s);
        if (!rc)
            done += part;
    }
    if (rc && delta > 0 && done) /* what is taken back cannot fail: it was just there */
        (void)vmm_q2_refcount_add(q, first, done, -1);
    return rc;
}

int vmm_q2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    struct q2_slice *s;
    uint64_t index = cluster & ((UINT64_C(1) << slice_entry_bits(q)) - 1);
    if (value > refcount_max(q))
        return -EMLINK;
    int rc = vmm_q2_before_change(q);
    if (!rc)
        rc = refcount_slice(q, cluster, &s);
    if (!rc && !s)
        rc = vmm_q2_damaged(q);
    if (rc)
        return rc;
    vmm_q2_refcount_poke(s->data, q->header.refcount_order, index, value);
    if (value == 0 && cluster < q->free_hint)
        q->free_hint = cluster;
    vmm_q2_cache_dirty(q, s);
    vmm_q2_cache_put(s);
    return 0;
}

/* With lazy refcounts they are written when the image is closed; until then it is marked as one
 * whose refcounts must be counted anew. */
int vmm_q2_before_change(struct qcow2 *q)
{
    if (q->broken)
        return -EIO;
    if (!q->lazy || q->marked_dirty)
        return 0;
    int rc = vmm_q2_incompatible(q, Q2_INCOMPATIBLE_DIRTY, 0);
    if (!rc)
        q->marked_dirty = true;
    return rc;
}

/* Taking --------------------------------------------------------------------------------------- */

/* Free clusters in a row within one slice, from `index` on. */
static uint64_t free_run(const struct qcow2 *q, const struct q2_slice *s, uint64_t *index,
                         uint64_t wanted)
{
    uint64_t per_slice = UINT64_C(1) << slice_entry_bits(q), n = 0;
    uint32_t order = q->header.refcount_order;
    while (*index < per_slice && vmm_q2_refcount_peek(s->data, order, *index))
        ++*index;
    while (n < wanted && *index + n < per_slice &&
           vmm_q2_refcount_peek(s->data, order, *index + n) == 0)
        n++;
    return n;
}

/* Free by its refcount and yet a table: whatever we wrote there would destroy the image. */
static int check_free(struct qcow2 *q, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (vmm_q2_set_has(&q->metadata, first + i))
            return vmm_q2_damaged(q);
    return 0;
}

static int take_run(struct qcow2 *q, struct q2_slice *s, uint64_t index, uint64_t first,
                    uint64_t count)
{
    int rc = check_free(q, first, count);
    if (!rc && (first + count) << q->cluster_bits > Q2_HOST_END)
        rc = -EFBIG;
    if (!rc)
        rc = add_to_slice(q, s, index, count, first, 1);
    if (!rc)
        q->free_hint = first + count;
    return rc;
}

/* What lies beyond all that was ever written needs no zeroes. */
static bool take_zero(struct qcow2 *q, uint64_t offset, uint64_t end)
{
    bool zero = offset >= q->zero_from;
    if (end > q->zero_from)
        q->zero_from = end;
    return zero;
}

int vmm_q2_alloc_held(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got, bool *zero)
{
    uint64_t per_slice = UINT64_C(1) << slice_entry_bits(q);
    int rc = vmm_q2_before_change(q);
    while (!rc) {
        struct q2_slice *s;
        uint64_t at = q->free_hint, index = at & (per_slice - 1);
        rc = refcount_slice(q, at, &s);
        if (!rc && !s)
            rc = vmm_q2_refblock_new(q, at);
        if (rc || !s)
            continue;
        uint64_t n = free_run(q, s, &index, wanted), first = (at & ~(per_slice - 1)) + index;
        if (n)
            rc = take_run(q, s, index, first, n);
        else
            q->free_hint = (at | (per_slice - 1)) + 1;
        vmm_q2_cache_put(s);
        if (n && !rc) {
            *offset = first << q->cluster_bits;
            *got = n;
            *zero = take_zero(q, *offset, (first + n) << q->cluster_bits);
            rc = vmm_q2_ensure_length(q, q->file, (first + n) << q->cluster_bits);
            if (rc)
                (void)vmm_q2_refcount_add(q, first, n, -1);
            return rc;
        }
    }
    return rc;
}

int vmm_q2_alloc(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got, bool *zero)
{
    vmm_co_lock(&q->co, &q->allocating);
    int rc = vmm_q2_alloc_held(q, wanted, offset, got, zero);
    vmm_co_unlock(&q->co, &q->allocating);
    return rc;
}

/* For tables, which are few: first among what is counted already, then beyond it. */
int vmm_q2_alloc_table(struct qcow2 *q, uint64_t count, uint64_t *offset)
{
    uint64_t first = q->free_hint, run = 0, value;
    int rc = vmm_q2_before_change(q);
    for (uint64_t at = first; !rc && at >> q->rb_bits < q->rt_size; at++) {
        if (q->rt[at >> q->rb_bits] == 0)
            break;
        rc = vmm_q2_refcount_get(q, at, &value);
        run = value ? 0 : run + 1;
        if (rc || run < count)
            continue;
        first = at + 1 - count;
        *offset = first << q->cluster_bits;
        rc = check_free(q, first, count);
        if (!rc)
            rc = vmm_q2_ensure_length(q, q->file, (first + count) << q->cluster_bits);
        return rc ? rc : vmm_q2_refcount_add(q, first, count, 1);
    }
    return rc ? rc : vmm_q2_area_new(q, count, offset);
}

/* Giving back ---------------------------------------------------------------------------------- */

void vmm_q2_free_unused(struct qcow2 *q, uint64_t offset, uint64_t count)
{
    vmm_co_lock(&q->co, &q->allocating);
    (void)vmm_q2_refcount_add(q, offset >> q->cluster_bits, count, -1); /* at worst it is leaked */
    vmm_co_unlock(&q->co, &q->allocating);
}

void vmm_q2_free_later(struct qcow2 *q, uint64_t first, uint64_t count)
{
    if (vmm_q2_ranges_add(&q->freed, first, count))
        q->unsynced = true; /* out of memory: leaked until a repair */
}

/* Clusters that are about to be free: their space goes back to the host while nobody can take them. */
static int free_range(struct qcow2 *q, uint64_t first, uint64_t count)
{
    uint64_t value = 0;
    int rc = 0;
    for (uint64_t n; count && !rc; first += n, count -= n) {
        bool last = false;
        for (n = 0; n < count && !rc; n++) {
            rc = vmm_q2_refcount_get(q, first + n, &value);
            if (n > 0 && (value == 1) != last)
                break;
            last = value == 1;
        }
        if (!rc && last) /* a hint: it may fail */
            (void)vmm_q2_range(q, q->file, VMM_BLOCK_DISCARD, 0, first << q->cluster_bits,
                               n << q->cluster_bits);
        if (!rc)
            rc = vmm_q2_refcount_add(q, first, n, -1);
    }
    return rc;
}

int vmm_q2_free_pending(struct qcow2 *q)
{
    int rc = 0;
    if (!q->freeable.count)
        return 0;
    vmm_co_lock(&q->co, &q->allocating);
    struct q2_ranges ranges = q->freeable;
    q->freeable = (struct q2_ranges){0};
    for (size_t i = 0; i < ranges.count && !rc; i++)
        rc = free_range(q, ranges.items[i].first, ranges.items[i].count);
    free(ranges.items);
    vmm_co_unlock(&q->co, &q->allocating);
    return rc;
}
