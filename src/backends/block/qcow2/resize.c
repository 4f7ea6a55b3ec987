/* SPDX-License-Identifier: BSD-3-Clause */
/* Changing the disk's length. The header changes by one write; what the guest will see anew reads as
 * zeroes before, what it will not see any more is freed behind it. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

static uint64_t l1_needed(const struct qcow2 *q, uint64_t length)
{
    uint32_t shift = q->cluster_bits + q->l2_bits;
    return (length >> shift) + ((length & ((UINT64_C(1) << shift) - 1)) != 0);
}

static int write_size(struct qcow2 *q, uint64_t length, uint64_t l1_offset, uint64_t l1_size)
{
    q2_store64(q->head + 24, length);
    q2_store32(q->head + 36, (uint32_t)l1_size);
    q2_store64(q->head + 40, l1_offset);
    if (vmm_q2_head_write(q)) /* which of the two holds is not known */
        return vmm_q2_damaged(q);
    q->header.size = q->size = length;
    q->header.l1_offset = q->l1_offset = l1_offset;
    q->header.l1_size = (uint32_t)l1_size;
    return 0;
}

/* A longer L1 table in another place; the header points to it together with the new length. */
static int longer_l1(struct qcow2 *q, uint64_t entries, uint64_t length)
{
    uint64_t clusters = (entries * 8 + q->cluster_size - 1) >> q->cluster_bits, offset = 0;
    uint64_t old = q->l1_offset >> q->cluster_bits;
    uint64_t old_clusters = ((uint64_t)q->l1_size * 8 + q->cluster_size - 1) >> q->cluster_bits;
    uint64_t *l1 = calloc((size_t)entries + 1, sizeof(*l1));
    uint8_t *dirty = calloc((size_t)entries + 1, 1);
    int rc = l1 && dirty ? vmm_q2_alloc_table(q, clusters, &offset) : -ENOMEM;
    if (!rc) {
        memcpy(l1, q->l1, (size_t)q->l1_size * sizeof(*l1));
        rc = vmm_q2_table_write(q, offset, l1, entries, clusters);
    }
    if (!rc)
        rc = vmm_q2_sync_all(q);
    for (uint64_t i = 0; i < clusters && !rc; i++)
        rc = vmm_q2_set_add(&q->metadata, (offset >> q->cluster_bits) + i);
    if (!rc)
        rc = write_size(q, length, offset, entries);
    if (rc) {
        free(l1);
        free(dirty);
        return rc;
    }
    free(q->l1);
    free(q->l1_dirty);
    q->l1 = l1;
    q->l1_dirty = dirty;
    q->l1_size = (uint32_t)entries;
    for (uint64_t i = 0; i < old_clusters; i++)
        vmm_q2_set_remove(&q->metadata, old + i);
    return old_clusters ? vmm_q2_refcount_add(q, old, old_clusters, -1) : 0;
}

/* What will be seen now must not show what a backing file has there, or the rest of a cluster. */
static int hide(struct qcow2 *q, uint64_t from, uint64_t to)
{
    uint64_t end = q2_min(to, vmm_align_up(from, q->cluster_size));
    if (q->backing && q->backing_length > from)
        end = q2_min(to, vmm_align_up(q->backing_length, q->cluster_size));
    if (end <= from || from >> (q->cluster_bits + q->l2_bits) >= q->l1_size)
        return 0;
    return vmm_q2_zero_guest(q, from, end - from, false);
}

static int grow(struct qcow2 *q, uint64_t length)
{
    uint64_t entries = l1_needed(q, length), before = q->size;
    int rc = 0;
    if (entries * 8 > Q2_L1_MAX)
        return -EFBIG;
    if (q->has_data_file && q->data)
        rc = vmm_q2_ensure_length(q, q->data, length);
    /* First a table that is long enough, with the length as it is: zeroes need entries. */
    if (!rc && entries > q->l1_size) {
        vmm_co_lock(&q->co, &q->allocating);
        rc = longer_l1(q, entries, before);
        vmm_co_unlock(&q->co, &q->allocating);
    }
    if (!rc)
        rc = hide(q, before, length);
    if (!rc)
        rc = vmm_q2_sync_all(q);
    return rc ? rc : write_size(q, length, q->l1_offset, q->l1_size);
}

int vmm_q2_empty(struct qcow2 *q, uint64_t from, uint64_t to)
{
    int rc = 0;
    for (uint64_t at = vmm_align_up(from, q->cluster_size); at < to && !rc;) {
        uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
        struct q2_entry old, none = {0};
        struct q2_slice *s;
        if (!(q->l1[q2_l1_index(q, at)] & Q2_OFFSET_MASK)) {
            at = (at | (span - 1)) + 1;
            continue;
        }
        rc = vmm_q2_entry_load(q, at, &old);
        if (!rc && (old.word || old.bits)) {
            rc = vmm_q2_entry_writable(q, at, &s);
            if (rc)
                return rc;
            vmm_q2_entry_set(q, s, q2_slice_index(q, at), &none);
            vmm_q2_cache_put(s);
            vmm_q2_entry_drop(q, &old);
        }
        at += q->cluster_size;
    }
    return rc;
}

static int shrink(struct qcow2 *q, uint64_t length)
{
    uint64_t before = q->size;
    if (q->snapshot_count)
        return -ENOTSUP;
    int rc = write_size(q, length, q->l1_offset, q->l1_size);
    if (!rc)
        rc = vmm_q2_empty(q, length, before); /* nobody sees that any more */
    if (!rc)
        rc = vmm_q2_sync_all(q);
    return rc ? rc : vmm_q2_free_pending(q);
}

static int change(struct qcow2 *q, void *arg)
{
    uint64_t length = *(const uint64_t *)arg;
    struct q2_op op;
    int rc = vmm_q2_hold_all(q, &op);
    if (!rc && q->broken)
        rc = -EIO;
    if (!rc && length > q->size)
        rc = grow(q, length);
    else if (!rc && length < q->size)
        rc = shrink(q, length);
    vmm_q2_op_unlock(&op);
    return rc;
}

int vmm_q2_resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct qcow2 *q = ctx;
    if (q->flags & VMM_QCOW2_CHECK)
        return vmm_error_set(err, -ENOTSUP, "qcow2: the image is open for checking only");
    if (length == 0 || (q->has_data_file && !q->data))
        return vmm_error_set(err, -EINVAL, "qcow2: a length of 0, or the data file is not open");
    if (q->snapshot_count && (q->header.version < 3 || length < q->size))
        return vmm_error_set(err, -ENOTSUP, "qcow2: %s with snapshots: delete them first",
                             length < q->size ? "an image cannot become shorter"
                                              : "a version 2 image cannot change its length");
    int rc = vmm_q2_call(q, change, &length);
    return rc ? vmm_error_set(err, rc, "qcow2: changing the length: %s", strerror(-rc)) : 0;
}
