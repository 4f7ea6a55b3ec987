/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading: pieces in parallel, each from where it is. */
#include "backends/block/qcow2/qcow2.h"

/* How much of [offset, offset + length) a file has: beyond its end there are zeroes. */
static uint64_t within(uint64_t file_length, uint64_t offset, uint64_t length)
{
    return offset < file_length ? q2_min(length, file_length - offset) : 0;
}

static int pick(const struct qcow2 *q, const struct q2_extent *e, uint64_t at,
                struct vmm_block **block, uint64_t *offset, uint64_t *there)
{
    *there = 0;
    if (e->type == Q2_DATA) {
        *block = q->data;
        *offset = e->host;
        *there = within(q->data == q->file ? q->file_length : q->data_length, e->host, e->length);
        return q->data ? 0 : -ENOTSUP;
    }
    if (e->type == Q2_BACKING && (q->backing || q->header.backing_offset)) {
        *block = q->backing;
        *offset = at;
        *there = within(q->backing_length, at, e->length);
        return q->backing ? 0 : -ENOTSUP;
    }
    return 0;
}

static int read_extent(struct q2_op *op, struct q2_batch *batch, const struct q2_extent *e,
                       uint64_t at, uint64_t skip)
{
    struct qcow2 *q = op->q;
    struct vmm_block *block = NULL;
    uint64_t offset = 0, there;
    if (e->type == Q2_PACKED) {
        const uint8_t *data;
        int rc = vmm_q2_unpack(q, e->word, &data);
        return rc ? rc : vmm_q2_user_fill(op, skip, data + (at & (q->cluster_size - 1)), e->length);
    }
    int rc = pick(q, e, at, &block, &offset, &there);
    if (!rc && there)
        rc = vmm_q2_user_io(op, batch, block, VMM_BLOCK_READ, offset, skip, there, NULL, NULL);
    if (!rc && there < e->length)
        rc = vmm_q2_user_zero(op, skip + there, e->length - there);
    return rc;
}

int vmm_q2_do_read(struct q2_op *op)
{
    struct qcow2 *q = op->q;
    const struct vmm_block_request *r = op->request;
    struct q2_batch batch;
    int rc = 0;
    vmm_q2_op_lock(op, r->offset >> q->cluster_bits, (r->offset + r->length - 1) >> q->cluster_bits,
                   false);
    vmm_q2_batch_init(&batch, q);
    for (uint64_t done = 0; done < r->length && !rc;) {
        struct q2_extent e;
        rc = vmm_q2_map(q, r->offset + done, r->length - done, &e);
        if (!rc)
            rc = read_extent(op, &batch, &e, r->offset + done, done);
        done += e.length;
    }
    int other = vmm_q2_batch_wait(&batch);
    return rc ? rc : other;
}

int vmm_q2_read_guest(struct qcow2 *q, uint64_t at, void *data, uint64_t length)
{
    int rc = 0;
    for (uint64_t done = 0; done < length && !rc;) {
        struct vmm_block *block = NULL;
        struct q2_extent e;
        uint8_t *to = (uint8_t *)data + done;
        const uint8_t *unpacked;
        uint64_t offset = 0, there = 0;
        rc = vmm_q2_map(q, at + done, length - done, &e);
        if (rc)
            return rc;
        if (e.type == Q2_PACKED) {
            rc = vmm_q2_unpack(q, e.word, &unpacked);
            if (!rc)
                memcpy(to, unpacked + ((at + done) & (q->cluster_size - 1)), (size_t)e.length);
        } else {
            rc = pick(q, &e, at + done, &block, &offset, &there);
            if (!rc && there)
                rc = vmm_q2_read(q, block, offset, to, (size_t)there);
            memset(to + there, 0, (size_t)(e.length - there));
        }
        done += e.length;
    }
    return rc;
}

int vmm_q2_read_backing(struct qcow2 *q, uint64_t at, void *data, uint64_t length)
{
    uint64_t there = q->backing ? within(q->backing_length, at, length) : 0;
    memset((uint8_t *)data + there, 0, (size_t)(length - there));
    return there ? vmm_q2_read(q, q->backing, at, data, (size_t)there) : 0;
}
