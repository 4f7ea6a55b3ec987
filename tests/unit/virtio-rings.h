/* SPDX-License-Identifier: BSD-3-Clause */
/* Several split rings of one device at the same time, beside virtio-driver.h: each descriptor is a chain
 * of its own, with its number as its buffer's place. */
#ifndef TESTS_UNIT_VIRTIO_RINGS_H
#define TESTS_UNIT_VIRTIO_RINGS_H

#include "virtio-driver.h"

#define RINGS_AT   0x40000u
#define RING_SPACE 0x1000u
#define RING_SIZE  16u
#define DATA_AT    0x60000u /* of each ring 16 buffers of 0x800 */
#define DATA_SPACE 0x800u

struct test_ring {
    struct driver *d;
    uint32_t queue;
    uint16_t avail, used;
    uint16_t next; /* descriptor */
};

static inline uint64_t ring_at(const struct test_ring *r)
{
    return RINGS_AT + RING_SPACE * r->queue;
}

static inline uint64_t ring_buffer(const struct test_ring *r, uint32_t n)
{
    return DATA_AT + (uint64_t)DATA_SPACE * (RING_SIZE * r->queue + n % RING_SIZE);
}

/* Negotiate and enable the rings; the loop has run. */
static inline void rings_start(struct driver *d, uint64_t features, struct test_ring *rings,
                               uint32_t count)
{
    negotiate(d, features);
    assert_int_equal(reg(d, 0x70), 0xb);
    vmm_memory_fill(d->memory, RINGS_AT, 0, RING_SPACE * count);
    for (uint32_t i = 0; i < count; i++) {
        rings[i] = (struct test_ring){.d = d, .queue = i};
        d->queue = i;
        uint64_t at = ring_at(&rings[i]);
        set_queue(d, RING_SIZE, at, at + 0x400, at + 0x800);
    }
    set_reg(d, 0x70, 0xf);
    run(d);
    assert_int_equal(reg(d, 0x70), OK_STATUS);
}

/* Make the next buffer available: `length` bytes of data for the device, or room for so many. */
static inline void ring_post(struct test_ring *r, const void *data, uint32_t length, uint16_t flags)
{
    struct driver *d = r->d;
    uint32_t n = r->next++ % RING_SIZE;
    if (data)
        assert_int_equal(vmm_memory_write(d->memory, ring_buffer(r, n), data, length), 0);
    put_desc(d, ring_at(r) + 16 * n, ring_buffer(r, n), length, flags, 0);
    vmm_memory_store_u16(d->memory, ring_at(r) + 0x404 + 2 * (r->avail % RING_SIZE), (uint16_t)n);
    vmm_memory_store_u16(d->memory, ring_at(r) + 0x402, ++r->avail);
}

static inline void ring_kick(struct test_ring *r)
{
    set_reg(r->d, 0x50, r->queue);
    run(r->d);
}

static inline void ring_send(struct test_ring *r, const void *data, uint32_t length)
{
    ring_post(r, data, length, 0);
    ring_kick(r);
}

/* The next used buffer: how many bytes the device wrote, or -1; they are put into `data`. */
static inline int64_t ring_take(struct test_ring *r, void *data, uint32_t room)
{
    struct driver *d = r->d;
    uint16_t index;
    uint32_t id, length;
    vmm_memory_load_u16(d->memory, ring_at(r) + 0x802, &index);
    if (index == r->used)
        return -1;
    uint64_t at = ring_at(r) + 0x804 + 8 * (uint64_t)(r->used++ % RING_SIZE);
    vmm_memory_load_u32(d->memory, at, &id);
    vmm_memory_load_u32(d->memory, at + 4, &length);
    assert_in_range(length, 0, room);
    if (length)
        assert_int_equal(vmm_memory_read(d->memory, ring_buffer(r, id), data, length), 0);
    return length;
}

#endif
