/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internal snapshots. Each operation first counts what will be shared, makes that durable, and then
 * switches by one write of the header; what is not shared any more is uncounted behind it. Between the
 * two, counts are too high: space is lost at worst. Version 3 says so by the dirty bit, for those who
 * take a count of two with a mark "used once" for an error.
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct snapshot_call {
    const char *name;
    struct vmm_error *err;
};

static uint64_t l1_clusters(const struct qcow2 *q, uint64_t entries)
{
    return (entries * 8 + q->cluster_size - 1) >> q->cluster_bits;
}

/* Everything is held and marked; ended by end(). */
static int begin(struct qcow2 *q, struct q2_op *op)
{
    int rc = vmm_q2_hold_all(q, op);
    vmm_co_lock(&q->co, &q->allocating);
    return rc ? rc : vmm_q2_incompatible(q, Q2_INCOMPATIBLE_DIRTY, 0);
}

static int end(struct qcow2 *q, struct q2_op *op, int rc)
{
    if (!q->broken && !q->marked_dirty) {
        int other = vmm_q2_sync_all(q);
        if (!other)
            other = vmm_q2_incompatible(q, 0, Q2_INCOMPATIBLE_DIRTY);
        rc = rc ? rc : other;
    }
    vmm_co_unlock(&q->co, &q->allocating);
    vmm_q2_op_unlock(op);
    return rc;
}

/* What tables in memory say of clusters may be wrong now. */
static int forget(struct qcow2 *q)
{
    int rc = vmm_q2_sync_all(q);
    vmm_q2_cache_drop_all(q);
    vmm_q2_unpacked_free(q);
    if (!rc)
        rc = vmm_q2_note_metadata(q);
    return rc ? rc : vmm_q2_walk_marks(q);
}

/* Create --------------------------------------------------------------------------------------- */

static int describe(struct qcow2 *q, struct q2_snapshot *s, const char *name)
{
    unsigned long highest = 0;
    char id[24];
    struct timespec now;
    for (uint32_t i = 0; i < q->snapshot_count; i++) {
        unsigned long n = strtoul(q->snapshots[i].id, NULL, 10);
        highest = n > highest && n < UINT32_MAX ? n : highest;
    }
    (void)snprintf(id, sizeof(id), "%lu", highest + 1);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    s->seconds = (uint32_t)now.tv_sec;
    s->nanoseconds = (uint32_t)now.tv_nsec;
    s->disk_size = q->size;
    s->l1_size = q->l1_size;
    s->id = strdup(id);
    s->name = strdup(name);
    s->extra = calloc(1, 1);
    return s->id && s->name && s->extra ? 0 : -ENOMEM;
}

/* The copy of the active L1 table: what it points to is shared. */
static int keep(struct qcow2 *q, struct q2_snapshot *s)
{
    int rc = q->l1_size ? vmm_q2_alloc_table(q, l1_clusters(q, q->l1_size), &s->l1_offset) : 0;
    if (rc)
        return rc;
    rc = vmm_q2_walk_count(q, q->l1, q->l1_size, 1);
    if (!rc) {
        rc = vmm_q2_sync_all(q);
        vmm_q2_cache_drop_all(q);
        if (!rc)
            rc = vmm_q2_walk_marks(q);
        if (!rc)
            rc = vmm_q2_table_write(q, s->l1_offset, q->l1, q->l1_size, l1_clusters(q, q->l1_size));
        if (!rc)
            rc = vmm_q2_snapshots_write(q, q->snapshots, q->snapshot_count + 1);
        if (rc && !q->broken) { /* the marks come back by forget() */
            (void)vmm_q2_walk_count(q, q->l1, q->l1_size, -1);
        }
    }
    if (rc && !q->broken && q->l1_size)
        (void)vmm_q2_refcount_add(q, s->l1_offset >> q->cluster_bits, l1_clusters(q, q->l1_size),
                                  -1);
    return rc;
}

static int create(struct qcow2 *q, void *arg)
{
    struct snapshot_call *c = arg;
    struct q2_op op;
    if (vmm_q2_snapshot_find(q, c->name))
        return vmm_error_set(c->err, -EEXIST, "qcow2: there is a snapshot \"%s\"", c->name);
    if (q->snapshot_count >= Q2_SNAPSHOT_MAX)
        return vmm_error_set(c->err, -E2BIG, "qcow2: there are 65536 snapshots");
    struct q2_snapshot *larger =
        realloc(q->snapshots, ((size_t)q->snapshot_count + 2) * sizeof(*larger));
    if (!larger)
        return vmm_error_set(c->err, -ENOMEM, "out of memory");
    q->snapshots = larger;
    struct q2_snapshot *s = &larger[q->snapshot_count];
    *s = (struct q2_snapshot){0};
    int rc = begin(q, &op);
    if (!rc)
        rc = describe(q, s, c->name);
    if (!rc)
        rc = keep(q, s);
    if (!rc)
        q->snapshot_count++;
    else
        vmm_q2_snapshot_free(s);
    int other = q->broken ? -EIO : forget(q);
    return end(q, &op, rc ? rc : other);
}

/* Delete --------------------------------------------------------------------------------------- */

static int drop_table(struct qcow2 *q, const uint64_t *l1, uint64_t offset, uint64_t entries)
{
    int rc = vmm_q2_walk_count(q, l1, entries, -1);
    if (!rc && entries)
        rc = vmm_q2_refcount_add(q, offset >> q->cluster_bits, l1_clusters(q, entries), -1);
    return rc;
}

static int delete (struct qcow2 *q, void *arg)
{
    struct snapshot_call *c = arg;
    struct q2_snapshot *s = vmm_q2_snapshot_find(q, c->name), gone;
    struct q2_op op;
    uint64_t *l1 = NULL;
    if (!s)
        return vmm_error_set(c->err, -ENOENT, "qcow2: there is no snapshot \"%s\"", c->name);
    size_t index = (size_t)(s - q->snapshots), behind = q->snapshot_count - index - 1;
    gone = *s;
    int rc = begin(q, &op);
    if (!rc)
        rc = vmm_q2_table_read(q, gone.l1_offset, gone.l1_size, &l1);
    if (!rc) {
        memmove(s, s + 1, behind * sizeof(*s));
        rc = vmm_q2_snapshots_write(q, q->snapshots, q->snapshot_count - 1);
        if (rc) {
            memmove(s + 1, s, behind * sizeof(*s));
            *s = gone;
        } else {
            q->snapshot_count--;
            rc = drop_table(q, l1, gone.l1_offset, gone.l1_size);
            vmm_q2_snapshot_free(&gone);
        }
    }
    free(l1);
    int other = q->broken ? -EIO : forget(q);
    return end(q, &op, rc ? rc : other);
}

/* Revert --------------------------------------------------------------------------------------- */

/* The header points to the new active table in one write. */
static int switch_l1(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t size)
{
    q2_store64(q->head + 24, size);
    q2_store32(q->head + 36, (uint32_t)entries);
    q2_store64(q->head + 40, offset);
    if (vmm_q2_head_write(q))
        return vmm_q2_damaged(q);
    q->header.size = q->size = size;
    q->header.l1_offset = offset;
    q->header.l1_size = (uint32_t)entries;
    return 0;
}

static int adopt(struct qcow2 *q, const struct q2_snapshot *s, uint64_t *l1, uint8_t *dirty)
{
    uint64_t offset = q->l1_offset, old_offset = q->l1_offset;
    uint32_t old_size = q->l1_size;
    int rc = vmm_q2_walk_count(q, l1, s->l1_size, 1);
    if (rc)
        return rc;
    if (s->l1_size)
        rc = vmm_q2_alloc_table(q, l1_clusters(q, s->l1_size), &offset);
    for (uint32_t i = 0; i < s->l1_size; i++)
        l1[i] &= ~Q2_COPIED;
    if (!rc)
        rc = vmm_q2_table_write(q, offset, l1, s->l1_size, l1_clusters(q, s->l1_size));
    if (!rc)
        rc = vmm_q2_sync_all(q);
    if (!rc)
        rc = switch_l1(q, offset, s->l1_size, s->disk_size);
    if (rc) {
        if (!q->broken)
            (void)vmm_q2_walk_count(q, l1, s->l1_size, -1);
        return rc;
    }
    uint64_t *old = q->l1;
    free(q->l1_dirty);
    q->l1 = l1;
    q->l1_dirty = dirty;
    q->l1_size = s->l1_size;
    q->l1_offset = offset;
    rc = drop_table(q, old, old_offset, old_size);
    free(old);
    return rc;
}

static int revert(struct qcow2 *q, void *arg)
{
    struct snapshot_call *c = arg;
    struct q2_snapshot *s = vmm_q2_snapshot_find(q, c->name);
    struct q2_op op;
    uint64_t *l1 = NULL;
    if (!s)
        return vmm_error_set(c->err, -ENOENT, "qcow2: there is no snapshot \"%s\"", c->name);
    uint8_t *dirty = calloc((size_t)s->l1_size + 1, 1);
    int rc = begin(q, &op);
    if (!rc && !dirty)
        rc = -ENOMEM;
    if (!rc)
        rc = vmm_q2_table_read(q, s->l1_offset, s->l1_size, &l1);
    if (!rc)
        rc = adopt(q, s, l1, dirty);
    if (q->l1 != l1) {
        free(l1);
        free(dirty);
    }
    int other = q->broken ? -EIO : forget(q);
    return end(q, &op, rc ? rc : other);
}

/* Calls ---------------------------------------------------------------------------------------- */

int vmm_qcow2_snapshot_count(struct vmm_block *block)
{
    struct qcow2 *q = vmm_q2_of(block);
    return q ? (int)q->snapshot_count : -ENOTSUP;
}

static void copy_text(char *to, size_t room, const char *from)
{
    size_t length = strlen(from);
    length = length < room ? length : room - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

int vmm_qcow2_snapshot_get(struct vmm_block *block, uint32_t index,
                           struct vmm_qcow2_snapshot *snapshot)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct vmm_qcow2_snapshot out = VMM_QCOW2_SNAPSHOT_INIT;
    if (!q)
        return -ENOTSUP;
    if (!snapshot)
        return -EINVAL;
    if (index >= q->snapshot_count)
        return -ENOENT;
    const struct q2_snapshot *s = &q->snapshots[index];
    out.length = s->disk_size;
    out.time_ns = (uint64_t)s->seconds * 1000000000 + s->nanoseconds;
    out.guest_time_ns = s->guest_time;
    out.vm_state_size = s->vm_state_size;
    copy_text(out.id, sizeof(out.id), s->id);
    copy_text(out.name, sizeof(out.name), s->name);
    return vmm_info_copy(snapshot, &out, sizeof(out));
}

static int call(struct vmm_block *block, const char *name, int (*fn)(struct qcow2 *q, void *arg),
                struct vmm_error *err)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct snapshot_call c = {name, err};
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (!q || q->has_data_file)
        return vmm_error_set(err, -ENOTSUP,
                             "not a qcow2 image that can have snapshots (one with "
                             "a data file cannot)");
    if (!name || !name[0] || strlen(name) > 255)
        return vmm_error_set(err, -EINVAL, "qcow2: a snapshot's name has 1 to 255 bytes");
    if (q->read_only || (q->flags & VMM_QCOW2_CHECK))
        return vmm_error_set(err, -EACCES, "qcow2: the image is read-only");
    int rc = vmm_q2_call(q, fn, &c);
    if (rc == -EMLINK)
        return vmm_error_set(err, rc, "qcow2: refcounts of %u bits do not count another snapshot",
                             1u << q->header.refcount_order);
    if (rc && rc != -ENOENT && rc != -EEXIST && rc != -E2BIG)
        return vmm_error_set(err, rc, "qcow2: snapshot \"%s\": %s", name, strerror(-rc));
    (void)vmm_block_get_info(block, &info); /* the length that requests are checked against */
    return rc;
}

int vmm_qcow2_snapshot_create(struct vmm_block *block, const char *name, struct vmm_error *err)
{
    return call(block, name, create, err);
}

int vmm_qcow2_snapshot_revert(struct vmm_block *block, const char *name, struct vmm_error *err)
{
    return call(block, name, revert, err);
}

int vmm_qcow2_snapshot_delete(struct vmm_block *block, const char *name, struct vmm_error *err)
{
    return call(block, name, delete, err);
}
