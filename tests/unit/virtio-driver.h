/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver of the MMIO transport for tests: it writes its descriptors by hand, so also wrong ones. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include "test.h"

#include <libvmm/virtio.h>

#include <errno.h>
#include <string.h>

#define RAM_SIZE   0x100000u
#define ROM_AT     0x200000u
#define BASE       0xd0000000u
#define RING_DESC  0x1000u
#define RING_AVAIL 0x3000u /* packed: the driver's event word */
#define RING_USED  0x4000u /* packed: the device's event word */
#define TABLE      0x6000u
#define BUFFER     0x10000u

#define NEXT     1u
#define WRITE    2u
#define INDIRECT 4u

#define OK_STATUS   0x0fu
#define NEEDS_RESET 0x40u

struct driver {
    struct vmm_loop *loop;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_irq_line *line;
    struct vmm_virtio *virtio;
    uint32_t level, edges;
    bool packed;
    uint32_t size;
    uint32_t queue;       /* that these tests use */
    uint16_t avail, used; /* counters; packed: modulo by hand */
};

static void driver_level(void *ctx, uint32_t level)
{
    struct driver *d = ctx;
    d->edges += level && !d->level;
    d->level = level;
}

static uint32_t reg(struct driver *d, uint32_t offset)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(d->bus, BASE + offset, 4, &value), 0);
    return (uint32_t)value;
}

static void set_reg(struct driver *d, uint32_t offset, uint32_t value)
{
    assert_int_equal(vmm_bus_write(d->bus, BASE + offset, 4, value), 0);
}

static void run(struct driver *d)
{
    while (vmm_loop_dispatch(d->loop, 0) > 0)
        ;
}

/* One descriptor in the form of the ring or table that it is in. */
static void put_desc(struct driver *d, uint64_t at, uint64_t address, uint32_t length,
                     uint16_t flags, uint16_t link)
{
    vmm_memory_store_u64(d->memory, at, address);
    vmm_memory_store_u32(d->memory, at + 8, length);
    vmm_memory_store_u16(d->memory, at + 12, d->packed ? link : flags);
    vmm_memory_store_u16(d->memory, at + 14, d->packed ? flags : link);
}

/* The flags that make slot `n` (counted from the first ever) available. */
static inline uint16_t avail_bits(struct driver *d, uint32_t n)
{
    if (!d->packed)
        return 0;
    return n / d->size % 2 ? 0x8000 : 0x0080;
}

/* A ring's descriptor; packed: at the next slot but `n`. Split: number n, linked to the one after. */
static inline void desc(struct driver *d, uint32_t n, uint64_t address, uint32_t length,
                        uint16_t flags)
{
    uint32_t slot = d->packed ? (d->avail + n) % d->size : n;
    put_desc(d, RING_DESC + 16 * slot, address, length,
             (uint16_t)(flags | avail_bits(d, d->avail + n)), (uint16_t)(d->packed ? 7 : n + 1));
}

/* Make `descriptors` ring entries, from number 0, available as one chain and notify. */
static inline void offer(struct driver *d, uint32_t descriptors)
{
    if (d->packed) {
        d->avail = (uint16_t)(d->avail + descriptors);
    } else {
        vmm_memory_store_u16(d->memory, RING_AVAIL + 4 + 2 * (d->avail % d->size), 0);
        vmm_memory_store_u16(d->memory, RING_AVAIL + 2, ++d->avail);
    }
    set_reg(d, 0x50, d->queue);
    run(d);
}

/* Has the device given back a chain of so many descriptors? Its length, or -1. */
static inline int64_t take(struct driver *d, uint32_t descriptors)
{
    uint32_t length = 0;
    uint16_t value;
    if (d->packed) {
        uint64_t at = RING_DESC + 16 * (d->used % d->size);
        vmm_memory_load_u16(d->memory, at + 14, &value);
        bool wrap = d->used / d->size % 2 == 0;
        if (((value & 0x8000) != 0) != wrap || ((value & 0x80) != 0) != wrap)
            return -1;
        vmm_memory_load_u32(d->memory, at + 8, &length);
        d->used = (uint16_t)(d->used + descriptors);
        return length;
    }
    vmm_memory_load_u16(d->memory, RING_USED + 2, &value);
    if (value == d->used)
        return -1;
    vmm_memory_load_u32(d->memory, RING_USED + 4 + 8 * (d->used % d->size) + 4, &length);
    d->used++;
    return length;
}

static void set_queue(struct driver *d, uint32_t size, uint64_t desc_at, uint64_t avail_at,
                      uint64_t used_at)
{
    set_reg(d, 0x30, d->queue);
    set_reg(d, 0x38, size);
    set_reg(d, 0x80, (uint32_t)desc_at);
    set_reg(d, 0x84, (uint32_t)(desc_at >> 32));
    set_reg(d, 0x90, (uint32_t)avail_at);
    set_reg(d, 0x94, (uint32_t)(avail_at >> 32));
    set_reg(d, 0xa0, (uint32_t)used_at);
    set_reg(d, 0xa4, (uint32_t)(used_at >> 32));
    set_reg(d, 0x44, 1);
}

static void negotiate(struct driver *d, uint64_t features)
{
    features |= VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1);
    if (d->packed)
        features |= VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED);
    set_reg(d, 0x70, 0);
    set_reg(d, 0x70, 1);
    set_reg(d, 0x70, 3);
    for (uint32_t i = 0; i < 2; i++) {
        set_reg(d, 0x24, i);
        set_reg(d, 0x20, (uint32_t)(features >> (32 * i)));
    }
    set_reg(d, 0x70, 0xb);
    vmm_memory_fill(d->memory, RING_DESC, 0, TABLE - RING_DESC + 0x1000);
    d->avail = d->used = 0;
}

static inline void start(struct driver *d, uint64_t features)
{
    negotiate(d, features);
    assert_int_equal(reg(d, 0x70), 0xb);
    set_queue(d, d->size, RING_DESC, RING_AVAIL, RING_USED);
    assert_int_equal(reg(d, 0x44), 1);
    set_reg(d, 0x70, 0xf);
    run(d);
    assert_int_equal(reg(d, 0x70), OK_STATUS);
}

/* Everything but the device. `backing`: what RAM is made of; NULL: anything. */
static void driver_open_on(struct driver *d, struct vmm_backing *backing)
{
    memset(d, 0, sizeof(*d));
    d->size = 8;
    struct vmm_memory_region_options ram = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region_options rom = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *region;
    ram.type = VMM_MEMORY_RAM;
    ram.length = RAM_SIZE;
    ram.backing = backing;
    rom.type = VMM_MEMORY_ROM;
    rom.length = 0x1000;
    assert_int_equal(vmm_loop_new(NULL, &d->loop), 0);
    assert_int_equal(vmm_memory_new(NULL, &d->memory, NULL), 0);
    assert_int_equal(vmm_memory_region_new(&ram, &region, NULL), 0);
    assert_int_equal(vmm_memory_add(d->memory, region, 0, 0, NULL), 0);
    vmm_memory_region_unref(region);
    assert_int_equal(vmm_memory_region_new(&rom, &region, NULL), 0);
    assert_int_equal(vmm_memory_add(d->memory, region, ROM_AT, 0, NULL), 0);
    vmm_memory_region_unref(region);
    assert_int_equal(vmm_bus_new("memory", 64, &d->bus), 0);
    assert_int_equal(vmm_irq_line_new_callback(driver_level, d, &d->line), 0);
}

static inline void driver_open(struct driver *d)
{
    driver_open_on(d, NULL);
}

static void driver_attach(struct driver *d, struct vmm_virtio *virtio)
{
    d->virtio = virtio;
    assert_int_equal(vmm_virtio_mmio_attach(virtio, d->bus, BASE, d->line, NULL), 0);
}

static void driver_close(struct driver *d)
{
    vmm_bus_unref(d->bus);
    vmm_virtio_unref(d->virtio);
    vmm_memory_unref(d->memory);
    vmm_loop_unref(d->loop);
}

#endif
