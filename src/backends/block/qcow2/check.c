/* SPDX-License-Identifier: BSD-3-Clause */
/* Checking an image against what it counts, and repairing what differs. */
#include "backends/block/qcow2/count.h"

#include <stdlib.h>

int vmm_q2_hold_all(struct qcow2 *q, struct q2_op *op)
{
    *op = (struct q2_op){.q = q, .epoch = Q2_EPOCH_OWN};
    vmm_q2_op_lock(op, 0, UINT64_MAX, true);
    int rc = 0;
    if (!q->read_only && !(q->flags & VMM_QCOW2_CHECK)) {
        rc = vmm_q2_sync_all(q);
        if (!rc)
            rc = vmm_q2_free_pending(q);
        if (!rc)
            rc = vmm_q2_sync_all(q);
    }
    return rc;
}

/* Counts --------------------------------------------------------------------------------------- */

/* `set`: make it what was counted. */
static int compare_one(struct q2_count *c, uint64_t cluster, bool set)
{
    struct qcow2 *q = c->q;
    uint64_t recorded, counted = c->counts[cluster];
    int rc = vmm_q2_refcount_get(q, cluster, &recorded);
    c->result.used_clusters += counted != 0;
    if (rc || recorded == counted)
        return rc;
    *(recorded > counted ? &c->result.leaks : &c->result.errors) += 1;
    if (!set)
        return 0;
    rc = vmm_q2_refcount_set(q, cluster, counted);
    c->result.repaired += rc == 0;
    return rc;
}

/* A count that is too low, in a place that has no refcount block: new tables are needed. */
static bool has_block(const struct qcow2 *q, uint64_t cluster)
{
    uint64_t block = cluster >> q->rb_bits;
    return block < q->rt_size && q->rt[block];
}

static int compare(struct q2_count *c, uint32_t repair)
{
    struct qcow2 *q = c->q;
    int rc = 0;
    for (uint64_t i = 0; i < c->clusters && !rc; i++) {
        uint64_t recorded = 0;
        if (!has_block(q, i)) {
            if (c->counts[i]) {
                c->refcounts_bad = true;
                c->result.errors++;
            }
            continue;
        }
        rc = vmm_q2_refcount_get(q, i, &recorded);
        bool set = recorded > c->counts[i] ? repair & VMM_QCOW2_REPAIR_LEAKS
                                           : repair & VMM_QCOW2_REPAIR_ERRORS;
        if (!rc && (recorded != c->counts[i] || recorded))
            rc = compare_one(c, i, set);
    }
    return rc;
}

/* Marks ---------------------------------------------------------------------------------------- */

struct marks {
    struct q2_count *c;
    bool mend;
};

/* "refcount is exactly one": wrongly there, it costs a snapshot its data. */
static bool mark_ok(struct marks *m, uint64_t *word, uint64_t offset)
{
    bool one = m->c->counts[offset >> m->c->q->cluster_bits] == 1;
    if (one == (*word >> 63))
        return true;
    *(one ? &m->c->result.unmarked : &m->c->result.errors) += 1;
    if (m->mend) {
        *word ^= Q2_COPIED;
        m->c->result.repaired++;
    }
    return !m->mend;
}

static bool check_mark(void *arg, uint32_t index, struct q2_entry *e)
{
    struct marks *m = arg;
    struct qcow2 *q = m->c->q;
    uint64_t host = e->word & Q2_OFFSET_MASK;
    (void)index;
    if ((e->word & Q2_COMPRESSED) || !host || q->has_data_file || host % q->cluster_size ||
        host >> q->cluster_bits >= m->c->clusters)
        return false;
    return !mark_ok(m, &e->word, host);
}

static int check_marks(struct q2_count *c, bool mend)
{
    struct qcow2 *q = c->q;
    struct marks m = {c, mend};
    bool changed = false;
    int rc = 0;
    for (uint32_t i = 0; i < q->l1_size && !rc; i++) {
        uint64_t table = q->l1[i] & Q2_OFFSET_MASK;
        if (!table || table % q->cluster_size || table > q->file_length ||
            q->file_length - table < q->cluster_size)
            continue;
        changed |= !mark_ok(&m, &q->l1[i], table);
        rc = vmm_q2_each_entry(q, table, &m, check_mark);
    }
    if (changed && !rc)
        rc =
            vmm_q2_table_write(q, q->l1_offset, q->l1, q->l1_size,
                               ((uint64_t)q->l1_size * 8 + q->cluster_size - 1) >> q->cluster_bits);
    return rc;
}

/* All of it ------------------------------------------------------------------------------------ */

/* Make new refcount tables; the old ones are not used by anything then. */
static int renew(struct q2_count *c)
{
    uint64_t found = c->result.errors + c->result.leaks;
    int rc = vmm_q2_count_all(c);
    if (!rc)
        rc = vmm_q2_rebuild(c);
    if (!rc)
        c->result.repaired += found;
    return rc;
}

static int examine(struct q2_count *c, uint32_t repair)
{
    struct qcow2 *q = c->q;
    c->mend = repair & VMM_QCOW2_REPAIR_ERRORS;
    int rc = vmm_q2_count_all(c);
    if (!rc && c->mend)
        c->result.repaired += c->result.errors;
    if (!rc)
        rc = vmm_q2_count_refcounts(c);
    if (!rc && !c->refcounts_bad)
        rc = compare(c, repair);
    if (!rc && c->refcounts_bad && c->mend) {
        struct vmm_qcow2_check_result before = c->result;
        rc = renew(c);
        uint64_t repaired = c->result.repaired;
        c->result = before;
        c->result.repaired = repaired;
    }
    if (!rc && repair)
        rc = vmm_q2_sync_all(q);
    if (!rc)
        rc = check_marks(c, c->mend);
    if (!rc && repair)
        rc = vmm_q2_flush(q, q->file);
    return rc;
}

struct check_call {
    uint32_t repair;
    struct vmm_qcow2_check_result result;
};

static int check(struct qcow2 *q, void *arg)
{
    struct check_call *call = arg;
    struct q2_count c;
    struct q2_op op;
    int rc = vmm_q2_hold_all(q, &op);
    if (!rc)
        rc = vmm_q2_count_begin(q, &c);
    if (!rc) {
        rc = examine(&c, call->repair);
        c.result.clusters = c.clusters;
        call->result = c.result;
        if (!rc && call->repair && c.result.repaired >= c.result.errors) {
            q->marked_dirty = false;
            rc = vmm_q2_incompatible(q, 0, Q2_INCOMPATIBLE_DIRTY | Q2_INCOMPATIBLE_CORRUPT);
        }
        vmm_q2_count_end(&c);
        vmm_q2_cache_drop_all(q);
    }
    vmm_q2_op_unlock(&op);
    return rc;
}

int vmm_qcow2_check(struct vmm_block *block, uint32_t repair, struct vmm_qcow2_check_result *result,
                    struct vmm_error *err)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct check_call call = {repair, VMM_QCOW2_CHECK_RESULT_INIT};
    if (!q || q->by_snapshot)
        return vmm_error_set(err, -ENOTSUP, "not a qcow2 image's block device");
    if (!result || (repair & ~(VMM_QCOW2_REPAIR_LEAKS | VMM_QCOW2_REPAIR_ERRORS)))
        return vmm_error_set(err, -EINVAL, "qcow2: no place for the result, or unknown flags");
    if (repair && q->read_only)
        return vmm_error_set(err, -EACCES, "qcow2: the image is read-only: nothing to repair in");
    int rc = vmm_q2_call(q, check, &call);
    if (rc)
        return vmm_error_set(err, rc, "qcow2: the check did not come to its end: %s",
                             strerror(-rc));
    rc = vmm_info_copy(result, &call.result, sizeof(call.result));
    return rc ? vmm_error_set(err, rc, "qcow2: the result's size") : 0;
}

int vmm_q2_count_anew(struct qcow2 *q, struct vmm_error *err)
{
    struct q2_count c;
    bool lazy = q->lazy;
    q->lazy = false; /* what is counted now is written now */
    int rc = vmm_q2_count_begin(q, &c);
    if (!rc)
        rc = examine(&c, VMM_QCOW2_REPAIR_LEAKS | VMM_QCOW2_REPAIR_ERRORS);
    if (!rc)
        rc = vmm_q2_incompatible(q, 0, Q2_INCOMPATIBLE_DIRTY);
    vmm_q2_count_end(&c);
    vmm_q2_cache_drop_all(q);
    q->lazy = lazy;
    return rc ? vmm_error_set(err, rc,
                              "qcow2: counting the clusters of an image that was not "
                              "closed cleanly: %s",
                              strerror(-rc))
              : 0;
}
