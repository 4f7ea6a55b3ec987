/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New refcount blocks and longer refcount tables. A new block counts itself, so that what is written
 * to link it is one table entry, or the header: never two places that must change together. These
 * are rare (a block of 64 KiB counts 2 GiB), so each step is flushed on the spot.
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

/* Write the block of the refcount table that has entry `index`. */
static int write_rt_entry(struct qcow2 *q, uint64_t index)
{
    uint8_t *data = vmm_q2_buffer(q->block_size);
    uint64_t per_block = q->block_size / 8, first = index & ~(per_block - 1);
    if (!data)
        return -ENOMEM;
    memset(data, 0, q->block_size);
    for (uint64_t i = 0; i < per_block && first + i < q->rt_size; i++)
        q2_store64(data + i * 8, q->rt[first + i]);
    int rc = vmm_q2_write(q, q->file, q->header.rt_offset + first * 8, data, q->block_size);
    free(data);
    return rc ? rc : vmm_q2_flush(q, q->file);
}

/* A new refcount block: its first `ones` clusters are counted once. */
static int write_block(struct qcow2 *q, uint64_t offset, uint64_t ones)
{
    uint8_t *data = vmm_q2_buffer((size_t)q->cluster_size);
    if (!data)
        return -ENOMEM;
    memset(data, 0, (size_t)q->cluster_size);
    for (uint64_t i = 0; i < ones; i++)
        vmm_q2_refcount_poke(data, q->header.refcount_order, i, 1);
    vmm_q2_cache_drop(q, offset >> q->cluster_bits);
    int rc = vmm_q2_write(q, q->file, offset, data, (size_t)q->cluster_size);
    free(data);
    return rc;
}

/* The clusters around have no block, so all of them are free: the block takes the first. */
int vmm_q2_refblock_new(struct qcow2 *q, uint64_t cluster)
{
    uint64_t index = cluster >> q->rb_bits, first = index << q->rb_bits, unused;
    if (first > Q2_HOST_END >> q->cluster_bits)
        return -EFBIG;
    if (index >= q->rt_size)
        return vmm_q2_area_new(q, 0, &unused);
    if (vmm_q2_set_has(&q->metadata, first))
        return vmm_q2_damaged(q);
    int rc = vmm_q2_set_add(&q->metadata, first);
    if (!rc)
        rc = write_block(q, first << q->cluster_bits, 1);
    if (!rc)
        rc = vmm_q2_flush(q, q->file);
    if (!rc) {
        q->rt[index] = first << q->cluster_bits;
        rc = write_rt_entry(q, index);
        /* Written or not is not known: nothing can be built on it. */
        if (rc)
            (void)vmm_q2_damaged(q);
    }
    if (rc)
        vmm_q2_set_remove(&q->metadata, first);
    return rc;
}

/* An area: `count` clusters for the caller, `table` for a new refcount table, `blocks` for the
 * refcount blocks that count all three. */
struct area {
    uint64_t index; /* the first block's in the refcount table */
    uint64_t first; /* cluster */
    uint64_t count, table, blocks;
    uint64_t rt_size;
};

static int plan(const struct qcow2 *q, uint64_t count, struct area *a)
{
    uint64_t per_block = UINT64_C(1) << q->rb_bits, per_cluster = q->cluster_size / 8;
    *a = (struct area){.count = count, .rt_size = q->rt_size, .blocks = 1};
    for (a->index = q->rt_size; a->index > 0 && q->rt[a->index - 1] == 0; a->index--)
        ;
    a->first = a->index << q->rb_bits;
    for (int turns = 0; turns < 64; turns++) {
        uint64_t blocks = (a->count + a->table + a->blocks + per_block - 1) / per_block;
        if (blocks < a->blocks)
            blocks = a->blocks;
        uint64_t needed = a->index + blocks;
        if (needed > a->rt_size) { /* half as much again, so that it is rare */
            a->rt_size = (needed + needed / 2 + per_cluster) & ~(per_cluster - 1);
            if (a->rt_size * 8 > Q2_RT_MAX)
                a->rt_size = Q2_RT_MAX / 8;
            a->table = a->rt_size / per_cluster;
        }
        if (needed > a->rt_size)
            return -EFBIG;
        if (blocks == a->blocks)
            return (a->first + a->count + a->table + blocks) << q->cluster_bits > Q2_HOST_END
                       ? -EFBIG
                       : 0;
        a->blocks = blocks;
    }
    return -EFBIG;
}

static int check_area(struct qcow2 *q, const struct area *a)
{
    for (uint64_t i = 0; i < a->count + a->table + a->blocks; i++)
        if (vmm_q2_set_has(&q->metadata, a->first + i))
            return vmm_q2_damaged(q);
    return 0;
}

static int write_blocks(struct qcow2 *q, const struct area *a, uint64_t *rt)
{
    uint64_t per_block = UINT64_C(1) << q->rb_bits, left = a->count + a->table + a->blocks;
    int rc = 0;
    for (uint64_t i = 0; i < a->blocks && !rc; i++) {
        uint64_t cluster = a->first + a->count + a->table + i;
        uint64_t ones = q2_min(left, per_block);
        rc = write_block(q, cluster << q->cluster_bits, ones);
        rt[a->index + i] = cluster << q->cluster_bits;
        left -= ones;
    }
    return rc;
}

/* The header points to the new table in one write. */
static int switch_table(struct qcow2 *q, const struct area *a)
{
    uint64_t offset = (a->first + a->count) << q->cluster_bits;
    q2_store64(q->head + 48, offset);
    q2_store32(q->head + 56, (uint32_t)a->table);
    int rc = vmm_q2_head_write(q);
    if (rc) /* which of the two tables is valid is not known */
        return vmm_q2_damaged(q);
    uint64_t old = q->header.rt_offset >> q->cluster_bits, count = q->header.rt_clusters;
    q->header.rt_offset = offset;
    q->header.rt_clusters = (uint32_t)a->table;
    for (uint64_t i = 0; i < count; i++)
        vmm_q2_set_remove(&q->metadata, old + i);
    /* No table in the file points there any more. */
    vmm_q2_free_later(q, old, count);
    return 0;
}

static void forget_area(struct qcow2 *q, const struct area *a)
{
    for (uint64_t i = 0; i < a->table + a->blocks; i++)
        vmm_q2_set_remove(&q->metadata, a->first + a->count + i);
}

static int note_area(struct qcow2 *q, const struct area *a)
{
    int rc = 0;
    for (uint64_t i = 0; i < a->table + a->blocks && !rc; i++)
        rc = vmm_q2_set_add(&q->metadata, a->first + a->count + i);
    if (rc)
        forget_area(q, a);
    return rc;
}

/* Everything is in the file but for what points to it. */
static int link_area(struct qcow2 *q, const struct area *a, uint64_t *rt)
{
    int rc = 0;
    if (a->table)
        rc = switch_table(q, a);
    free(q->rt);
    q->rt = rt;
    q->rt_size = (uint32_t)a->rt_size;
    for (uint64_t i = 0; i < a->blocks && !a->table && !rc; i++)
        rc = write_rt_entry(q, a->index + i) ? vmm_q2_damaged(q) : 0;
    return rc;
}

static int write_area(struct qcow2 *q, const struct area *a, uint64_t *rt)
{
    uint64_t end = a->first + a->count + a->table + a->blocks;
    int rc = vmm_q2_ensure_length(q, q->file, end << q->cluster_bits);
    if (!rc)
        rc = write_blocks(q, a, rt);
    if (!rc && a->table)
        rc = vmm_q2_table_write(q, (a->first + a->count) << q->cluster_bits, rt, a->rt_size,
                                a->table);
    return rc ? rc : vmm_q2_flush(q, q->file);
}

int vmm_q2_area_new(struct qcow2 *q, uint64_t count, uint64_t *offset)
{
    struct area a;
    int rc = plan(q, count, &a);
    if (!rc)
        rc = check_area(q, &a);
    if (rc)
        return rc;
    uint64_t *rt = calloc((size_t)a.rt_size, sizeof(*rt));
    if (!rt)
        return -ENOMEM;
    memcpy(rt, q->rt, (size_t)q->rt_size * sizeof(*rt));
    rc = write_area(q, &a, rt);
    if (!rc)
        rc = note_area(q, &a);
    if (rc) {
        free(rt);
        return rc;
    }
    *offset = a.first << q->cluster_bits;
    return link_area(q, &a, rt);
}
