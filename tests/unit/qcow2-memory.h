/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file in memory for qcow2 tests. It finishes its requests later and in a random order, and can
 * write a log of what it was asked, fail, and answer what a file would hold after a power cut.
 */
#ifndef TESTS_QCOW2_MEMORY_H
#define TESTS_QCOW2_MEMORY_H

#include "test.h"

#include <libvmm/block.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define MEMORY_QUEUE  16384
#define MEMORY_RESIZE 100 /* an op of the log only */

struct record {
    uint32_t op;
    uint32_t flags;
    uint64_t offset, length;
    uint64_t at; /* of the data in the log's bytes */
};

struct memory {
    struct vmm_block *block;
    struct vmm_timer *timer;
    uint8_t *data;
    uint64_t length, room;
    struct vmm_block_request *queue[MEMORY_QUEUE];
    uint32_t count;
    uint64_t random;
    uint32_t fail_after; /* requests until the next write or flush fails once; 0: never */
    int fail_with;
    bool fail_only_data; /* and a flush does not */
    bool flush_fails;    /* each, with -EIO */
    uint64_t length_max; /* 0: none */
    /* The log. */
    bool logging;
    struct record *records;
    size_t record_count, record_room;
    uint8_t *bytes;
    uint64_t byte_count, byte_room;
};

static inline uint64_t memory_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void memory_log(struct memory *m, const struct vmm_block_request *r)
{
    if (!m->logging)
        return;
    if (m->record_count == m->record_room) {
        m->record_room = m->record_room ? m->record_room * 2 : 1024;
        m->records = realloc(m->records, m->record_room * sizeof(*m->records));
        assert_non_null(m->records);
    }
    m->records[m->record_count++] = (struct record){.op = r->op,
                                                    .flags = r->flags,
                                                    .offset = r->offset,
                                                    .length = r->length,
                                                    .at = m->byte_count};
    if (r->op != VMM_BLOCK_WRITE)
        return;
    while (m->byte_count + r->length > m->byte_room) {
        m->byte_room = m->byte_room ? m->byte_room * 2 : 1u << 20;
        m->bytes = realloc(m->bytes, m->byte_room);
        assert_non_null(m->bytes);
    }
    for (size_t i = 0; i < r->vector_count; i++) {
        memcpy(m->bytes + m->byte_count, r->vector[i].iov_base, r->vector[i].iov_len);
        m->byte_count += r->vector[i].iov_len;
    }
}

static inline int memory_perform(struct memory *m, struct vmm_block_request *r)
{
    uint64_t at = r->offset;
    if (r->op == VMM_BLOCK_FLUSH && m->flush_fails)
        return -EIO;
    if (r->op != VMM_BLOCK_READ && (r->op != VMM_BLOCK_FLUSH || !m->fail_only_data) &&
        m->fail_after && --m->fail_after == 0)
        return m->fail_with;
    memory_log(m, r);
    for (size_t i = 0; r->op <= VMM_BLOCK_WRITE && i < r->vector_count; i++) {
        if (r->op == VMM_BLOCK_READ)
            memcpy(r->vector[i].iov_base, m->data + at, r->vector[i].iov_len);
        else
            memcpy(m->data + at, r->vector[i].iov_base, r->vector[i].iov_len);
        at += r->vector[i].iov_len;
    }
    if (r->op == VMM_BLOCK_DISCARD) /* anything may be there */
        memset(m->data + r->offset, 0xdd, r->length);
    if (r->op == VMM_BLOCK_WRITE_ZEROES)
        memset(m->data + r->offset, 0, r->length);
    return 0;
}

static inline void memory_one(struct memory *m)
{
    uint32_t i = (uint32_t)(memory_random(&m->random) % m->count);
    struct vmm_block_request *r = m->queue[i];
    m->queue[i] = m->queue[--m->count];
    vmm_block_complete(m->block, r, memory_perform(m, r));
}

/* Some of what waits, in any order. */
static inline void memory_tick(void *ctx)
{
    struct memory *m = ctx;
    uint32_t n = (uint32_t)(memory_random(&m->random) % 4) + 1;
    while (m->count && n--)
        memory_one(m);
    if (m->count)
        (void)vmm_timer_set(m->timer, 0);
}

static inline void memory_submit(void *ctx, struct vmm_block_request *r)
{
    struct memory *m = ctx;
    assert_true(m->count < MEMORY_QUEUE);
    m->queue[m->count++] = r;
    (void)vmm_timer_set(m->timer, 0);
}

static inline void memory_reap(void *ctx)
{
    struct memory *m = ctx;
    while (m->count)
        memory_one(m);
}

static inline int memory_info(void *ctx, struct vmm_block_info *info)
{
    struct memory *m = ctx;
    info->length = m->length;
    info->block_size = 512;
    info->discard_alignment = 512;
    return 0;
}

static inline int memory_resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct memory *m = ctx;
    const struct vmm_block_request record = {.op = MEMORY_RESIZE, .length = length};
    (void)err;
    if (m->length_max && length > m->length_max)
        return -ENOSPC;
    memory_log(m, &record);
    if (length > m->room) {
        m->room = length * 2;
        m->data = realloc(m->data, m->room);
        assert_non_null(m->data);
    }
    if (length > m->length)
        memset(m->data + m->length, 0, length - m->length);
    m->length = length;
    return 0;
}

static inline void memory_destroy(void *ctx)
{
    struct memory *m = ctx;
    vmm_timer_free(m->timer);
}

/* The structure outlives the block device: its bytes can be looked at afterwards. */
static inline struct vmm_block *memory_open(struct vmm_loop *loop, struct memory *m)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = memory_submit,
        .info = memory_info,
        .resize = memory_resize,
        .destroy = memory_destroy,
        .reap = memory_reap,
    };
    if (!m->random)
        m->random = 88172645463325252u;
    if (!m->room) {
        m->room = m->length = 512;
        m->data = calloc(1, m->room);
    }
    assert_int_equal(vmm_timer_new(loop, memory_tick, m, &m->timer), 0);
    assert_int_equal(vmm_block_new(loop, &ops, m, &m->block), 0);
    return m->block;
}

static inline void memory_free(struct memory *m)
{
    free(m->data);
    free(m->records);
    free(m->bytes);
    *m = (struct memory){0};
}

#endif
