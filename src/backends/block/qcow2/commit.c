/* SPDX-License-Identifier: BSD-3-Clause */
/* Committing: what the image holds goes into its backing file; only when it is durable there are the
 * image's own clusters given up. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define PIECE (UINT64_C(1) << 20)

static int commit_extent(struct qcow2 *q, uint64_t at, const struct q2_extent *e, uint8_t *buffer)
{
    if (e->type == Q2_BACKING)
        return 0;
    if (e->type == Q2_ZERO)
        return vmm_q2_range(q, q->backing, VMM_BLOCK_WRITE_ZEROES, VMM_BLOCK_MAY_UNMAP, at,
                            e->length);
    int rc = vmm_q2_read_guest(q, at, buffer, e->length);
    return rc ? rc : vmm_q2_write(q, q->backing, at, buffer, (size_t)e->length);
}

static int commit(struct qcow2 *q, void *arg)
{
    struct q2_op op;
    (void)arg;
    uint8_t *buffer = vmm_q2_buffer((size_t)PIECE);
    int rc = vmm_q2_hold_all(q, &op);
    if (!rc && !buffer)
        rc = -ENOMEM;
    for (uint64_t at = 0; at < q->size && !rc;) {
        struct q2_extent e;
        rc = vmm_q2_map(q, at, q2_min(PIECE, q->size - at), &e);
        if (!rc)
            rc = commit_extent(q, at, &e, buffer);
        at += e.length;
    }
    if (!rc)
        rc = vmm_q2_flush(q, q->backing);
    if (!rc)
        rc = vmm_q2_empty(q, 0, q->size);
    if (!rc)
        rc = vmm_q2_sync_all(q);
    if (!rc)
        rc = vmm_q2_free_pending(q);
    free(buffer);
    vmm_q2_op_unlock(&op);
    return rc;
}

int vmm_qcow2_commit(struct vmm_block *block, struct vmm_error *err)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (!q || (q->flags & VMM_QCOW2_CHECK))
        return vmm_error_set(err, -ENOTSUP, "not a qcow2 image's block device, or for checking");
    if (!q->backing)
        return vmm_error_set(err, -ENOENT,
                             "qcow2: the image has no backing file, or it is not "
                             "open");
    int rc = vmm_block_get_info(q->backing, &info);
    if (rc)
        return vmm_error_set(err, rc, "qcow2: %s", strerror(-rc));
    if (q->read_only || info.read_only)
        return vmm_error_set(err, -EACCES, "qcow2: %s is read-only",
                             q->read_only ? "the image" : "the backing file");
    if (info.length < q->size) {
        rc = vmm_block_resize(q->backing, q->size, err);
        if (rc) {
            vmm_error_prefix(err, "qcow2: the backing file");
            return rc;
        }
        q->backing_length = q->size;
    }
    rc = vmm_q2_call(q, commit, NULL);
    return rc ? vmm_error_set(err, rc, "qcow2: commit: %s", strerror(-rc)) : 0;
}
