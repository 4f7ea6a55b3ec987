/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests to the files below an image, and its coroutines' dealings with the loop. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define SPARE_PARTS 128u
#define GROW_MIN    (UINT64_C(4) << 20)
#define GROW_MAX    (UINT64_C(1) << 30)

void *vmm_q2_buffer(size_t size)
{
    return aligned_alloc(Q2_BUFFER_ALIGN, (size_t)vmm_align_up(size ? size : 1, Q2_BUFFER_ALIGN));
}

/* Parts and batches ---------------------------------------------------------------------------- */

struct q2_part *vmm_q2_part_new(struct qcow2 *q)
{
    struct q2_part *part = q->spare_parts;
    if (!part)
        return calloc(1, sizeof(*part));
    q->spare_parts = part->next;
    q->spare_part_count--;
    part->heap_vector = NULL;
    return part;
}

void vmm_q2_part_free(struct qcow2 *q, struct q2_part *part)
{
    free(part->heap_vector);
    part->heap_vector = NULL;
    if (q->spare_part_count == SPARE_PARTS) {
        free(part);
        return;
    }
    part->next = q->spare_parts;
    q->spare_parts = part;
    q->spare_part_count++;
}

void vmm_q2_batch_init(struct q2_batch *batch, struct qcow2 *q)
{
    *batch = (struct q2_batch){.q = q, .co = q->co.current};
}

/* While files are drained, who is told would submit more, and it would never end. */
void vmm_q2_deliver(struct qcow2 *q)
{
    if (!q->turning && !q->co.current && q->block)
        vmm_block_deliver(q->block);
}

static void part_done(struct vmm_block_request *request, int result)
{
    struct q2_part *part = request->ctx;
    struct q2_batch *batch = part->batch;
    struct qcow2 *q = batch->q;
    vmm_q2_part_free(q, part);
    if (result && !batch->error)
        batch->error = result;
    if (--batch->pending == 0 && batch->waiting) {
        vmm_co_wake(&q->co, batch->co);
        vmm_q2_deliver(q);
    }
}

void vmm_q2_batch_add(struct q2_batch *batch, struct vmm_block *block, struct q2_part *part)
{
    part->batch = batch;
    part->request.done = part_done;
    part->request.ctx = part;
    batch->pending++;
    vmm_block_submit(block, &part->request);
}

void vmm_q2_batch_io(struct q2_batch *batch, struct vmm_block *block, uint32_t op, uint64_t offset,
                     void *data, size_t length)
{
    struct q2_part *part = vmm_q2_part_new(batch->q);
    if (!part) {
        batch->error = -ENOMEM;
        return;
    }
    part->inline_vector[0] = (struct iovec){data, length};
    part->request = (struct vmm_block_request){.op = op,
                                               .offset = offset,
                                               .length = length,
                                               .vector = part->inline_vector,
                                               .vector_count = 1};
    vmm_q2_batch_add(batch, block, part);
}

int vmm_q2_batch_wait(struct q2_batch *batch)
{
    if (batch->pending) {
        batch->waiting = true;
        vmm_co_sleep(&batch->q->co);
        batch->waiting = false;
    }
    return batch->error;
}

static int one(struct qcow2 *q, struct vmm_block *block, uint32_t op, uint32_t flags,
               uint64_t offset, void *data, size_t length)
{
    struct q2_batch batch;
    struct q2_part *part = vmm_q2_part_new(q);
    if (!part)
        return -ENOMEM;
    vmm_q2_batch_init(&batch, q);
    part->inline_vector[0] = (struct iovec){data, length};
    part->request = (struct vmm_block_request){.op = op,
                                               .flags = flags,
                                               .offset = offset,
                                               .length = length,
                                               .vector = part->inline_vector,
                                               .vector_count = 1};
    vmm_q2_batch_add(&batch, block, part);
    return vmm_q2_batch_wait(&batch);
}

int vmm_q2_read(struct qcow2 *q, struct vmm_block *block, uint64_t offset, void *data,
                size_t length)
{
    return one(q, block, VMM_BLOCK_READ, 0, offset, data, length);
}

int vmm_q2_write(struct qcow2 *q, struct vmm_block *block, uint64_t offset, const void *data,
                 size_t length)
{
    int rc = vmm_q2_ensure_length(q, block, offset + length);
    if (block == q->file && offset + length > q->zero_from)
        q->zero_from = vmm_align_up(offset + length, q->cluster_size);
    return rc ? rc : one(q, block, VMM_BLOCK_WRITE, 0, offset, (void *)(uintptr_t)data, length);
}

int vmm_q2_range(struct qcow2 *q, struct vmm_block *block, uint32_t op, uint32_t flags,
                 uint64_t offset, uint64_t length)
{
    return one(q, block, op, flags, offset, NULL, length);
}

int vmm_q2_flush(struct qcow2 *q, struct vmm_block *block)
{
    return one(q, block, VMM_BLOCK_FLUSH, 0, 0, NULL, 0);
}

/* Growing -------------------------------------------------------------------------------------- */

static int grow_one(struct vmm_block *block, uint64_t *length, uint64_t *wanted)
{
    int rc = 0;
    if (*wanted > *length)
        rc = vmm_block_resize(block, *wanted, NULL);
    if (!rc && *wanted > *length)
        *length = *wanted;
    *wanted = 0;
    /* A block device, or a file of a fixed length, is full at its end. */
    return rc == -ENOTSUP ? -ENOSPC : rc;
}

/* Resizing a file waits for its requests, which may wake coroutines: so it is done outside of them. */
void vmm_q2_grow_now(void *ctx)
{
    struct qcow2 *q = ctx;
    if (!q->growing.first)
        return;
    q->turning++;
    uint64_t before = q->file_length;
    q->grow_error = grow_one(q->file, &q->file_length, &q->file_wanted);
    q->grew |= q->file_length > before;
    if (q->data_wanted) {
        int rc = grow_one(q->data, &q->data_length, &q->data_wanted);
        q->grow_error = q->grow_error ? q->grow_error : rc;
    }
    vmm_co_wake_all(&q->co, &q->growing);
    q->turning--;
}

/* In steps, so that it is rare (the file's requests must all end first); what is too much is given back
 * when the image is closed. */
static uint64_t grown(const struct qcow2 *q, uint64_t end)
{
    uint64_t step = q->file_length / 2;
    step = step < GROW_MIN ? GROW_MIN : step > GROW_MAX ? GROW_MAX : step;
    uint64_t length = end > q->file_length + step ? end : q->file_length + step;
    return vmm_align_up(length, q->cluster_size);
}

int vmm_q2_ensure_length(struct qcow2 *q, struct vmm_block *block, uint64_t end)
{
    bool file = block == q->file;
    uint64_t *length = file ? &q->file_length : &q->data_length;
    if (!file && block != q->data)
        return 0;
    for (int tries = 0; end > *length; tries++) {
        uint64_t *wanted = file ? &q->file_wanted : &q->data_wanted;
        uint64_t want = file && tries == 0 ? grown(q, end) : vmm_align_up(end, q->block_size);
        if (tries > 1)
            return q->grow_error;
        if (want > *wanted)
            *wanted = want;
        (void)vmm_timer_set(q->timer, 0);
        vmm_co_wait(&q->co, &q->growing);
    }
    return 0;
}

/* Without the loop ----------------------------------------------------------------------------- */

void vmm_q2_turn(struct qcow2 *q)
{
    q->turning++;
    vmm_q2_grow_now(q);
    vmm_block_drain(q->file);
    if (q->data && q->data != q->file)
        vmm_block_drain(q->data);
    if (q->backing)
        vmm_block_drain(q->backing);
    if (q->other)
        vmm_block_drain(q->other);
    q->turning--;
}

struct call {
    struct qcow2 *q;
    int (*fn)(struct qcow2 *q, void *arg);
    void *arg;
    int result;
    bool done;
};

static void carry_out(void *ctx)
{
    struct call *call = ctx;
    call->result = call->fn(call->q, call->arg);
    call->done = true;
}

int vmm_q2_call(struct qcow2 *q, int (*fn)(struct qcow2 *q, void *arg), void *arg)
{
    struct call call = {.q = q, .fn = fn, .arg = arg};
    int rc = vmm_co_start(&q->co, carry_out, &call);
    if (rc)
        return rc;
    while (!call.done)
        vmm_q2_turn(q);
    return call.result;
}
