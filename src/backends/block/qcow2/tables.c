/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables that are kept in memory whole: L1 and refcount table; and where metadata is. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define PIECE ((size_t)1 << 20)

int vmm_q2_table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out)
{
    uint64_t length = entries * 8;
    uint64_t *table = calloc((size_t)entries + 1, sizeof(uint64_t));
    uint8_t *piece = vmm_q2_buffer(PIECE);
    int rc = table && piece ? 0 : -ENOMEM;
    if (!rc && (offset % q->block_size || offset > q->file_length))
        rc = -EIO;
    for (uint64_t at = 0; at < length && !rc; at += PIECE) {
        uint64_t part = q2_min(PIECE, vmm_align_up(length - at, q->block_size));
        /* The file may end within the table's last cluster. */
        uint64_t there = q2_min(part, q->file_length - q2_min(q->file_length, offset + at));
        memset(piece, 0, (size_t)part);
        if (there)
            rc = vmm_q2_read(q, q->file, offset + at, piece, (size_t)there);
        for (uint64_t i = 0; i * 8 < part && at / 8 + i < entries && !rc; i++)
            table[at / 8 + i] = q2_load64(piece + i * 8);
    }
    free(piece);
    if (rc) {
        free(table);
        return rc;
    }
    *out = table;
    return 0;
}

/* All of the table's clusters are written: nothing old shows behind its end. */
int vmm_q2_table_write(struct qcow2 *q, uint64_t offset, const uint64_t *table, uint64_t entries,
                       uint64_t clusters)
{
    uint64_t length = clusters << q->cluster_bits;
    uint8_t *piece = vmm_q2_buffer(PIECE);
    int rc = piece ? 0 : -ENOMEM;
    for (uint64_t at = 0; at < length && !rc; at += PIECE) {
        uint64_t part = q2_min(PIECE, length - at);
        memset(piece, 0, (size_t)part);
        for (uint64_t i = 0; i * 8 < part && at / 8 + i < entries; i++)
            q2_store64(piece + i * 8, table[at / 8 + i]);
        rc = vmm_q2_write(q, q->file, offset + at, piece, (size_t)part);
    }
    free(piece);
    return rc;
}

/* Two tables in one place: whoever writes one destroys the other. */
static int add_cluster(struct qcow2 *q, uint64_t cluster)
{
    if (vmm_q2_set_has(&q->metadata, cluster) && !(q->flags & VMM_QCOW2_CHECK))
        return -EINVAL;
    return vmm_q2_set_add(&q->metadata, cluster);
}

static int add_range(struct qcow2 *q, uint64_t offset, uint64_t length)
{
    int rc = 0;
    for (uint64_t at = 0; at < length && !rc; at += q->cluster_size)
        rc = add_cluster(q, (offset + at) >> q->cluster_bits);
    return rc;
}

/* Offsets that cannot be are left out here; who uses them finds out. */
static int add_entries(struct qcow2 *q, const uint64_t *table, uint64_t entries, uint64_t mask)
{
    int rc = 0;
    for (uint64_t i = 0; i < entries && !rc; i++) {
        uint64_t offset = table[i] & mask;
        if (offset && offset % q->cluster_size == 0)
            rc = add_cluster(q, offset >> q->cluster_bits);
    }
    return rc;
}

int vmm_q2_note_metadata(struct qcow2 *q)
{
    const struct q2_header *h = &q->header;
    free(q->metadata.slots);
    q->metadata = (struct q2_set){0};
    int rc = add_range(q, q->l1_offset, (uint64_t)q->l1_size * 8);
    if (!rc)
        rc = add_range(q, h->rt_offset, (uint64_t)h->rt_clusters << q->cluster_bits);
    if (!rc)
        rc = add_entries(q, q->l1, q->l1_size, Q2_OFFSET_MASK);
    if (!rc)
        rc = add_entries(q, q->rt, q->rt_size, Q2_RT_MASK);
    for (uint32_t i = 0; i < q->snapshot_count && !rc; i++)
        rc = add_range(q, q->snapshots[i].l1_offset, (uint64_t)q->snapshots[i].l1_size * 8);
    return rc;
}

int vmm_q2_tables_read(struct qcow2 *q, struct vmm_error *err)
{
    const struct q2_header *h = &q->header;
    q->l1_size = h->l1_size;
    q->l1_offset = h->l1_offset;
    q->rt_size = (uint32_t)(((uint64_t)h->rt_clusters << q->cluster_bits) / 8);
    int rc = vmm_q2_table_read(q, h->l1_offset, h->l1_size, &q->l1);
    if (!rc)
        rc = vmm_q2_table_read(q, h->rt_offset, q->rt_size, &q->rt);
    q->l1_dirty = calloc((size_t)q->l1_size + 1, 1);
    if (!rc && !q->l1_dirty)
        rc = -ENOMEM;
    if (rc)
        return vmm_error_set(err, rc, "qcow2: reading the tables: %s", strerror(-rc));
    rc = vmm_q2_snapshots_read(q, err);
    if (!rc && !q->read_only && (rc = vmm_q2_note_metadata(q)))
        (void)vmm_error_set(err, rc,
                            rc == -ENOMEM ? "qcow2: out of memory"
                                          : "qcow2: the image's tables overlap: it can be "
                                            "read, or repaired, but not written");
    return rc;
}
