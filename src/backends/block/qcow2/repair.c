/* SPDX-License-Identifier: BSD-3-Clause */
/* New refcount tables from counted references, behind the end of the file; the header points to them in
 * one write. */
#include "backends/block/qcow2/count.h"

#include <stdlib.h>

struct rebuild {
    struct q2_count *c;
    uint64_t first;  /* of the new clusters: blocks, then the table */
    uint64_t blocks; /* refcount blocks */
    uint64_t table;  /* clusters of the refcount table */
    uint64_t *rt;
};

static int plan(struct rebuild *r)
{
    struct qcow2 *q = r->c->q;
    uint64_t per_block = UINT64_C(1) << q->rb_bits, per_cluster = q->cluster_size / 8;
    r->first = r->c->clusters;
    r->blocks = r->table = 1;
    for (int turns = 0; turns < 64; turns++) {
        uint64_t total = r->first + r->blocks + r->table;
        uint64_t blocks = (total + per_block - 1) / per_block;
        uint64_t table = (blocks + per_cluster - 1) / per_cluster;
        if (table << q->cluster_bits > Q2_RT_MAX)
            return -EFBIG;
        if (blocks == r->blocks && table == r->table)
            return 0;
        r->blocks = blocks > r->blocks ? blocks : r->blocks;
        r->table = table > r->table ? table : r->table;
    }
    return -EFBIG;
}

static uint64_t count_of(const struct rebuild *r, uint64_t cluster)
{
    if (cluster < r->c->clusters)
        return r->c->counts[cluster];
    return cluster < r->first + r->blocks + r->table;
}

static int write_block(struct rebuild *r, uint64_t index, uint8_t *data)
{
    struct qcow2 *q = r->c->q;
    uint64_t per_block = UINT64_C(1) << q->rb_bits, host = (r->first + index) << q->cluster_bits;
    uint32_t width = 1u << q->header.refcount_order;
    memset(data, 0, (size_t)q->cluster_size);
    for (uint64_t i = 0; i < per_block; i++) {
        uint64_t value = count_of(r, index * per_block + i);
        if (width < 64 && value >> width)
            return -EMLINK;
        vmm_q2_refcount_poke(data, q->header.refcount_order, i, value);
    }
    r->rt[index] = host;
    return vmm_q2_write(q, q->file, host, data, (size_t)q->cluster_size);
}

static int write_tables(struct rebuild *r)
{
    struct qcow2 *q = r->c->q;
    uint64_t entries = r->table * (q->cluster_size / 8);
    uint8_t *data = vmm_q2_buffer((size_t)q->cluster_size);
    r->rt = calloc((size_t)entries, sizeof(*r->rt));
    int rc = data && r->rt ? 0 : -ENOMEM;
    if (!rc)
        rc = vmm_q2_ensure_length(q, q->file, (r->first + r->blocks + r->table) << q->cluster_bits);
    for (uint64_t i = 0; i < r->blocks && !rc; i++)
        rc = write_block(r, i, data);
    if (!rc)
        rc = vmm_q2_table_write(q, (r->first + r->blocks) << q->cluster_bits, r->rt, entries,
                                r->table);
    free(data);
    return rc ? rc : vmm_q2_flush(q, q->file);
}

int vmm_q2_rebuild(struct q2_count *c)
{
    struct qcow2 *q = c->q;
    struct rebuild r = {.c = c};
    int rc = plan(&r);
    if (!rc)
        rc = write_tables(&r);
    if (!rc) {
        q2_store64(q->head + 48, (r.first + r.blocks) << q->cluster_bits);
        q2_store32(q->head + 56, (uint32_t)r.table);
        rc = vmm_q2_head_write(q);
    }
    if (rc) {
        free(r.rt);
        return rc;
    }
    for (uint32_t i = 0; i < q->header.rt_clusters; i++)
        vmm_q2_set_remove(&q->metadata, (q->header.rt_offset >> q->cluster_bits) + i);
    for (uint32_t i = 0; i < q->rt_size; i++)
        vmm_q2_set_remove(&q->metadata, q->rt[i] >> q->cluster_bits);
    free(q->rt);
    q->rt = r.rt;
    q->rt_size = (uint32_t)(r.table * (q->cluster_size / 8));
    q->header.rt_offset = (r.first + r.blocks) << q->cluster_bits;
    q->header.rt_clusters = (uint32_t)r.table;
    for (uint64_t i = 0; i < r.blocks + r.table && !rc; i++)
        rc = vmm_q2_set_add(&q->metadata, r.first + i);
    vmm_q2_cache_drop_all(q);
    q->free_hint = 0;
    return rc;
}
