/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing zeroes and discarding: by the tables where whole clusters or subclusters are meant. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define PIECE       (UINT64_C(1) << 20)
#define PAUSE_AFTER 8192u /* clusters */

static bool has_backing(const struct qcow2 *q, uint64_t at)
{
    if (q->backing)
        return at < q->backing_length;
    return q->header.backing_offset != 0;
}

static int write_zero_data(struct qcow2 *q, uint64_t at, uint64_t length)
{
    uint64_t size = q2_min(PIECE, length);
    void *zeroes = size ? calloc(1, (size_t)size) : NULL;
    int rc = size && !zeroes ? -ENOMEM : 0;
    for (uint64_t done = 0; done < length && !rc; done += size)
        rc = vmm_q2_write_guest(q, at + done, zeroes, q2_min(size, length - done));
    free(zeroes);
    return rc;
}

/* A part of a unit: nothing to do where it reads as zeroes. */
static int zero_part(struct qcow2 *q, uint64_t at, uint64_t length)
{
    int rc = 0;
    while (length && !rc) {
        struct q2_extent e;
        rc = vmm_q2_map(q, at, length, &e);
        if (rc)
            return rc;
        if (e.type != Q2_ZERO && !(e.type == Q2_BACKING && !has_backing(q, at)))
            rc = write_zero_data(q, at, e.length);
        at += e.length;
        length -= e.length;
    }
    return rc;
}

/* Can the tables say "zero" here? */
static bool by_table(const struct qcow2 *q, uint64_t at)
{
    if (q->data_raw)
        return false;
    return q->header.version >= 3 || !has_backing(q, at);
}

/* The entry that reads as zeroes in units `mask` (extended ones; else all of the cluster). */
static void zero_entry(const struct qcow2 *q, struct q2_entry *e, uint32_t mask, bool unmap)
{
    bool keep = !(e->word & Q2_COMPRESSED) && !unmap && ((e->word & Q2_COPIED) || q->has_data_file);
    if (q->header.version < 3) {
        *e = (struct q2_entry){0};
    } else if (!q->extended) {
        e->word = (keep ? e->word & (Q2_OFFSET_MASK | Q2_COPIED) : 0) | Q2_ZERO_FLAG;
    } else if (mask == UINT32_MAX) {
        e->word = keep ? e->word & (Q2_OFFSET_MASK | Q2_COPIED) : 0;
        e->bits = (uint64_t)UINT32_MAX << 32;
    } else {
        e->bits = (e->bits | (uint64_t)mask << 32) & ~(uint64_t)mask;
    }
}

static bool same_place(const struct q2_entry *a, const struct q2_entry *b)
{
    return !(a->word & Q2_COMPRESSED) && (a->word & Q2_OFFSET_MASK) == (b->word & Q2_OFFSET_MASK);
}

static int zero_cluster(struct qcow2 *q, uint64_t at, uint32_t mask, bool unmap)
{
    struct q2_entry old, new;
    struct q2_slice *s;
    int rc = vmm_q2_entry_load(q, at, &old);
    if (rc)
        return rc;
    bool nothing = !(old.word & Q2_COMPRESSED) && !(old.word & Q2_OFFSET_MASK) && !old.bits &&
                   !(old.word & (Q2_ZERO_FLAG | Q2_COPIED));
    if (nothing && !has_backing(q, at))
        return 0;
    if (mask != UINT32_MAX && (old.word & Q2_COMPRESSED)) {
        uint32_t first = (uint32_t)__builtin_ctz(mask);
        uint64_t length = (uint64_t)__builtin_popcount(mask) << q->unit_bits;
        return write_zero_data(q, at + ((uint64_t)first << q->unit_bits), length);
    }
    new = old;
    zero_entry(q, &new, mask, unmap);
    if (new.word == old.word &&new.bits == old.bits)
        return 0;
    rc = vmm_q2_entry_writable(q, at, &s);
    if (rc)
        return rc;
    vmm_q2_entry_set(q, s, q2_slice_index(q, at), &new);
    vmm_q2_cache_put(s);
    if (!same_place(&old, &new))
        vmm_q2_entry_drop(q, &old);
    return 0;
}

/* No L2 table and nothing behind it: all of its span reads as zeroes. */
static uint64_t empty_span(const struct qcow2 *q, uint64_t at)
{
    uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits), index = q2_l1_index(q, at);
    if (index < q->l1_size && !(q->l1[index] & Q2_OFFSET_MASK) && !has_backing(q, at))
        return span - (at & (span - 1));
    return 0;
}

/* Whole units. */
static int zero_units(struct qcow2 *q, uint64_t at, uint64_t end, bool unmap)
{
    int rc = 0;
    for (uint32_t n = 1; at < end && !rc; n++) {
        uint64_t cluster = at & ~(q->cluster_size - 1);
        uint64_t next = q2_min(end, cluster + q->cluster_size), skip = empty_span(q, at);
        if (skip) {
            at += q2_min(skip, end - at);
            continue;
        }
        uint32_t mask = UINT32_MAX;
        if (q->extended && next - at < q->cluster_size) {
            uint32_t first = (uint32_t)((at - cluster) >> q->unit_bits);
            uint32_t count = (uint32_t)((next - at) >> q->unit_bits);
            mask = ((1u << count) - 1) << first;
        }
        if (by_table(q, at))
            rc = zero_cluster(q, cluster, mask, unmap);
        else
            rc = zero_part(q, at, q2_min(next, q->size) - at);
        at = next;
        if (n % PAUSE_AFTER == 0)
            vmm_q2_pause(q);
    }
    return rc;
}

int vmm_q2_zero_guest(struct qcow2 *q, uint64_t at, uint64_t length, bool unmap)
{
    uint64_t unit = UINT64_C(1) << q->unit_bits, end = at + length;
    uint64_t first = vmm_align_up(at, unit), last = end & ~(unit - 1);
    if (end == q->size) /* nobody sees what is behind */
        last = vmm_align_up(end, unit);
    if (q->broken)
        return -EIO;
    if (!q->data)
        return -ENOTSUP;
    if (first >= last)
        return zero_part(q, at, length);
    int rc = zero_part(q, at, first - at);
    if (!rc)
        rc = zero_units(q, first, last, unmap);
    if (!rc && last < end)
        rc = zero_part(q, last, end - last);
    return rc;
}

static void hold(struct q2_op *op)
{
    const struct vmm_block_request *r = op->request;
    uint32_t bits = op->q->cluster_bits;
    vmm_q2_op_lock(op, r->offset >> bits, (r->offset + r->length - 1) >> bits, true);
}

int vmm_q2_do_zeroes(struct q2_op *op)
{
    const struct vmm_block_request *r = op->request;
    hold(op);
    return vmm_q2_zero_guest(op->q, r->offset, r->length, r->flags & VMM_BLOCK_MAY_UNMAP);
}

/* Discarded clusters read as zeroes, never as what a backing file has. A hint: what cannot be said by
 * the tables stays. */
int vmm_q2_do_discard(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    const struct vmm_block_request *r = op->request;
    uint64_t end = r->offset + r->length;
    uint64_t first = vmm_align_up(r->offset, q->cluster_size), last = end & ~(q->cluster_size - 1);
    hold(op);
    if (end == q->size)
        last = vmm_align_up(end, q->cluster_size);
    if (q->broken)
        return -EIO;
    if (first >= last || q->data_raw || (q->header.version < 3 && has_backing(q, first)))
        return 0;
    return zero_units(q, first, last, true);
}
