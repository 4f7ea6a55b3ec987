/* SPDX-License-Identifier: BSD-3-Clause */
/* The directory of internal snapshots ("Snapshots"): reading and writing it. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define FIXED     40u /* bytes of an entry before its variable parts */
#define EXTRA     16u /* that are known */
#define EXTRA_MAX 1024u
#define TABLE_MAX (UINT64_C(64) << 20)
#define L1_TOTAL  (UINT64_C(1) << 30) /* bytes of all their L1 tables */

void vmm_q2_snapshot_free(struct q2_snapshot *s)
{
    free(s->extra);
    free(s->id);
    free(s->name);
}

void vmm_q2_snapshots_free(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->snapshot_count; i++)
        vmm_q2_snapshot_free(&q->snapshots[i]);
    free(q->snapshots);
    q->snapshots = NULL;
    q->snapshot_count = 0;
}

struct q2_snapshot *vmm_q2_snapshot_find(struct qcow2 *q, const char *name)
{
    for (int by_id = 0; by_id < 2; by_id++) /* a name goes before an id */
        for (uint32_t i = 0; i < q->snapshot_count; i++)
            if (strcmp(by_id ? q->snapshots[i].id : q->snapshots[i].name, name) == 0)
                return &q->snapshots[i];
    return NULL;
}

/* Reading -------------------------------------------------------------------------------------- */

/* The table's bytes, read as they are asked for. */
struct reader {
    struct qcow2 *q;
    uint64_t at; /* in the file */
    uint64_t left;
};

static int take(struct reader *r, void *to, size_t length)
{
    struct qcow2 *q = r->q;
    uint8_t *block = vmm_q2_buffer(q->block_size);
    int rc = block ? 0 : -ENOMEM;
    while (length && !rc) {
        uint64_t start = r->at & ~(uint64_t)(q->block_size - 1), in = r->at - start;
        size_t part = (size_t)q2_min(length, q->block_size - in);
        if (part > r->left || start + q->block_size > q->file_length)
            rc = -EINVAL;
        if (!rc)
            rc = vmm_q2_read(q, q->file, start, block, q->block_size);
        if (!rc && to) {
            memcpy(to, block + in, part);
            to = (uint8_t *)to + part;
        }
        r->at += part;
        r->left -= part;
        length -= part;
    }
    free(block);
    return rc;
}

static int take_text(struct reader *r, size_t length, char **out)
{
    *out = calloc(1, length + 1);
    return *out ? take(r, *out, length) : -ENOMEM;
}

static int take_one(struct reader *r, struct q2_snapshot *s)
{
    uint8_t fixed[FIXED], extra[EXTRA] = {0};
    uint64_t begin = r->at;
    int rc = take(r, fixed, FIXED);
    if (rc)
        return rc;
    s->l1_offset = q2_load64(fixed);
    s->l1_size = q2_load32(fixed + 8);
    s->seconds = q2_load32(fixed + 16);
    s->nanoseconds = q2_load32(fixed + 20);
    s->guest_time = q2_load64(fixed + 24);
    s->vm_state_size = q2_load32(fixed + 32);
    uint32_t extra_length = q2_load32(fixed + 36);
    if (extra_length > EXTRA_MAX)
        return -EINVAL;
    uint32_t known = extra_length < EXTRA ? extra_length : EXTRA;
    rc = take(r, extra, known);
    s->extra_length = extra_length - known;
    s->extra = calloc(1, (size_t)s->extra_length + 1);
    if (!rc)
        rc = s->extra ? take(r, s->extra, s->extra_length) : -ENOMEM;
    if (extra_length >= 8)
        s->vm_state_size = q2_load64(extra);
    s->disk_size = extra_length >= 16 ? q2_load64(extra + 8) : r->q->header.size;
    if (!rc)
        rc = take_text(r, q2_load16(fixed + 12), &s->id);
    if (!rc)
        rc = take_text(r, q2_load16(fixed + 14), &s->name);
    if (!rc && (r->at - begin) % 8)
        rc = take(r, NULL, 8 - (r->at - begin) % 8);
    return rc;
}

static int check_one(const struct qcow2 *q, const struct q2_snapshot *s, uint64_t *total)
{
    uint64_t length = (uint64_t)s->l1_size * 8;
    *total += length;
    if (length > Q2_L1_MAX || *total > L1_TOTAL || *total > q->file_length ||
        s->l1_offset % q->cluster_size || s->l1_offset > q->file_length ||
        length > q->file_length - s->l1_offset || (length && s->l1_offset == 0) ||
        s->disk_size % 512 || s->disk_size > INT64_MAX)
        return -EINVAL;
    uint32_t shift = q->cluster_bits + q->l2_bits;
    return s->disk_size && (s->disk_size - 1) >> shift >= s->l1_size ? -EINVAL : 0;
}

int vmm_q2_snapshots_read(struct qcow2 *q, struct vmm_error *err)
{
    struct reader r = {q, q->header.snapshots_offset, TABLE_MAX};
    uint64_t total = 0;
    int rc = 0;
    q->snapshots = calloc((size_t)q->header.snapshot_count + 1, sizeof(*q->snapshots));
    if (!q->snapshots)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    while (q->snapshot_count < q->header.snapshot_count && !rc) {
        struct q2_snapshot *s = &q->snapshots[q->snapshot_count++];
        rc = take_one(&r, s);
        if (!rc)
            rc = check_one(q, s, &total);
    }
    q->snapshot_table_length = r.at - q->header.snapshots_offset;
    return rc ? vmm_error_set(err, rc, "qcow2: the snapshot table is damaged at entry %u",
                              q->snapshot_count)
              : 0;
}

/* Writing -------------------------------------------------------------------------------------- */

static uint64_t length_of(const struct q2_snapshot *s)
{
    return vmm_align_up(FIXED + EXTRA + s->extra_length + strlen(s->id) + strlen(s->name), 8);
}

static void put_one(const struct q2_snapshot *s, uint8_t *to)
{
    size_t id = strlen(s->id), name = strlen(s->name);
    q2_store64(to, s->l1_offset);
    q2_store32(to + 8, s->l1_size);
    q2_store16(to + 12, (uint16_t)id);
    q2_store16(to + 14, (uint16_t)name);
    q2_store32(to + 16, s->seconds);
    q2_store32(to + 20, s->nanoseconds);
    q2_store64(to + 24, s->guest_time);
    q2_store32(to + 32, s->vm_state_size > UINT32_MAX ? 0 : (uint32_t)s->vm_state_size);
    q2_store32(to + 36, EXTRA + s->extra_length);
    q2_store64(to + 40, s->vm_state_size);
    q2_store64(to + 48, s->disk_size);
    to += FIXED + EXTRA;
    memcpy(to, s->extra, s->extra_length);
    memcpy(to + s->extra_length, s->id, id);
    memcpy(to + s->extra_length + id, s->name, name);
}

static int write_table(struct qcow2 *q, const struct q2_snapshot *table, uint32_t count,
                       uint64_t length, uint64_t *offset)
{
    uint64_t clusters = (length + q->cluster_size - 1) >> q->cluster_bits, at = 0;
    *offset = 0;
    if (!count)
        return 0;
    if (length > TABLE_MAX)
        return -E2BIG;
    uint8_t *data = vmm_q2_buffer((size_t)(clusters << q->cluster_bits));
    int rc = data ? vmm_q2_alloc_table(q, clusters, offset) : -ENOMEM;
    if (!rc) {
        memset(data, 0, (size_t)(clusters << q->cluster_bits));
        for (uint32_t i = 0; i < count; at += length_of(&table[i++]))
            put_one(&table[i], data + at);
        rc = vmm_q2_write(q, q->file, *offset, data, (size_t)(clusters << q->cluster_bits));
    }
    if (!rc)
        rc = vmm_q2_sync_all(q); /* the table's own refcounts too */
    free(data);
    return rc;
}

int vmm_q2_snapshots_write(struct qcow2 *q, const struct q2_snapshot *table, uint32_t count)
{
    uint64_t length = 0, offset, old = q->header.snapshots_offset;
    for (uint32_t i = 0; i < count; i++)
        length += length_of(&table[i]);
    int rc = write_table(q, table, count, length, &offset);
    if (rc)
        return rc;
    q2_store32(q->head + 60, count);
    q2_store64(q->head + 64, offset);
    rc = vmm_q2_head_write(q);
    if (rc) /* which of the two tables is valid is not known */
        return vmm_q2_damaged(q);
    uint64_t old_clusters = (q->snapshot_table_length + q->cluster_size - 1) >> q->cluster_bits;
    if (q->header.snapshot_count)
        rc = vmm_q2_refcount_add(q, old >> q->cluster_bits, old_clusters, -1);
    q->header.snapshot_count = count;
    q->header.snapshots_offset = offset;
    q->snapshot_table_length = length;
    return rc;
}
