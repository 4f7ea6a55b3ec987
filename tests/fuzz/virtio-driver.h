/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver for fuzz targets: split rings of a device on the MMIO transport, set up as they have to be; the
 * input says what is put into them. */
#ifndef TESTS_FUZZ_VIRTIO_DRIVER_H
#define TESTS_FUZZ_VIRTIO_DRIVER_H

#include "fuzz.h"

#include <libvmm/virtio.h>

#include <stdlib.h>

#define BASE       0xd0000000u
#define RAM_SIZE   0x40000u
#define RING_SPACE 0x1000u
#define RING_SIZE  8u
#define RINGS_MAX  8u
#define DATA_AT    0x20000u
#define DATA_SPACE 0x400u

struct fuzz_driver {
    struct vmm_loop *loop;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_virtio *virtio;
    uint32_t rings;
    uint16_t avail[RINGS_MAX];
};

static inline void fuzz_set(struct fuzz_driver *d, uint32_t offset, uint32_t value)
{
    FUZZ_CHECK(vmm_bus_write(d->bus, BASE + offset, 4, value) == 0);
}

static inline void fuzz_run(struct fuzz_driver *d)
{
    /* Timers of the host's clock may fire, but nothing goes on without end. */
    for (int turns = 0; vmm_loop_dispatch(d->loop, 0) > 0; turns++)
        FUZZ_CHECK(turns < 10000);
}

static inline void fuzz_start(struct fuzz_driver *d, uint64_t features)
{
    features |= VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1);
    for (uint32_t status = 0; status < 4; status = status * 2 + 1)
        fuzz_set(d, 0x70, status);
    for (uint32_t i = 0; i < 2; i++) {
        fuzz_set(d, 0x24, i);
        fuzz_set(d, 0x20, (uint32_t)(features >> (32 * i)));
    }
    fuzz_set(d, 0x70, 0xb);
    vmm_memory_fill(d->memory, 0, 0, RING_SPACE * d->rings);
    for (uint32_t i = 0; i < d->rings; i++) {
        uint32_t at = RING_SPACE * i;
        d->avail[i] = 0;
        fuzz_set(d, 0x30, i);
        fuzz_set(d, 0x38, RING_SIZE);
        fuzz_set(d, 0x80, at);
        fuzz_set(d, 0x90, at + 0x400);
        fuzz_set(d, 0xa0, at + 0x800);
        fuzz_set(d, 0x44, 1);
    }
    fuzz_set(d, 0x70, 0xf);
}

/* Everything but the device, which then goes on the bus. */
static inline void fuzz_open(struct fuzz_driver *d)
{
    *d = (struct fuzz_driver){0};
    FUZZ_CHECK(vmm_loop_new(NULL, &d->loop) == 0);
    FUZZ_CHECK(vmm_memory_new(NULL, &d->memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(d->memory, "ram", 0, RAM_SIZE, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &d->bus) == 0);
}

static inline void fuzz_attach(struct fuzz_driver *d, struct vmm_virtio *virtio, uint32_t rings)
{
    d->virtio = virtio;
    d->rings = rings;
    FUZZ_CHECK(vmm_virtio_mmio_attach(virtio, d->bus, BASE, NULL, NULL) == 0);
}

static inline void fuzz_close(struct fuzz_driver *d)
{
    vmm_bus_unref(d->bus);
    vmm_virtio_unref(d->virtio);
    vmm_memory_unref(d->memory);
    vmm_loop_unref(d->loop);
}

/* A chain of one or two buffers; their lengths and directions are the input's. */
static inline void fuzz_post(struct fuzz_driver *d, struct fuzz_input *in, uint32_t ring,
                             const void *data, uint32_t length)
{
    uint8_t shape = fuzz_u8(in);
    uint32_t slot = d->avail[ring] % RING_SIZE;
    uint64_t at = RING_SPACE * (uint64_t)ring, buffer = DATA_AT + DATA_SPACE * (uint64_t)slot;
    uint32_t first = shape & 2 ? fuzz_u8(in) % (length + 1) : length;
    if (first == 0)
        first = length;
    vmm_memory_write(d->memory, buffer, data, length);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t part = i ? length - first : first, n = (slot + i) % RING_SIZE;
        uint16_t flags = (uint16_t)((shape & 1 ? 2 : 0) | (i == 0 && first < length ? 1 : 0));
        vmm_memory_store_u64(d->memory, at + 16 * n, buffer + (i ? first : 0));
        vmm_memory_store_u32(d->memory, at + 16 * n + 8, part);
        vmm_memory_store_u16(d->memory, at + 16 * n + 12, flags);
        vmm_memory_store_u16(d->memory, at + 16 * n + 14, (uint16_t)((n + 1) % RING_SIZE));
        if (first == length)
            break;
    }
    vmm_memory_store_u16(d->memory, at + 0x404 + 2 * slot, (uint16_t)slot);
    vmm_memory_store_u16(d->memory, at + 0x402, ++d->avail[ring]);
    fuzz_set(d, 0x50, ring);
}

/* The state saves, and loads into the same device. */
static inline void fuzz_save_and_load(struct fuzz_driver *d)
{
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    FUZZ_CHECK(vmm_state_writer_new(&w) == 0);
    FUZZ_CHECK(vmm_device_save(vmm_virtio_device(d->virtio), w) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(w, &blob, &length) == 0);
    vmm_state_writer_free(w);
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &r, NULL) == 0);
    FUZZ_CHECK(vmm_device_load(vmm_virtio_device(d->virtio), r, NULL) == 0);
    vmm_state_reader_free(r);
    free(blob);
}

#endif
