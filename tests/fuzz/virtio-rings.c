/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The disk, the balloon, the source of random numbers and persistent memory, with a driver that puts
 * anything into its rings, split and packed ones: bad addresses, tables, loops, requests that nearly are
 * right, memory that goes while it is in use. Checked: nothing waits for ever, requests come to an end,
 * and the state saves and loads.
 */
#include "virtio-driver.h"

#include <libvmm/block-filters.h>

#include <string.h>
#include <unistd.h>

#define PMEM_AT     0x40000000u
#define PMEM_LENGTH 0x200000u
#define SECTORS     64u

static char pmem_path[64];

static void forget(void)
{
    unlink(pmem_path);
}

static void make_file(void)
{
    strcpy(pmem_path, "/dev/shm/libvmm-fuzz-XXXXXX");
    int fd = mkstemp(pmem_path);
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, PMEM_LENGTH) == 0);
    close(fd);
    atexit(forget);
}

struct target {
    struct fuzz_driver d;
    struct vmm_block *block; /* a disk's */
    uint64_t features;
};

static struct vmm_virtio *make_disk(struct target *t, const struct vmm_virtio_place *place)
{
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_virtio_blk_options o = VMM_VIRTIO_BLK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    m.length = SECTORS * 512;
    FUZZ_CHECK(vmm_block_memory_new(t->d.loop, &m, &t->block, NULL) == 0);
    o.block = t->block;
    o.queues = 2;
    FUZZ_CHECK(vmm_virtio_blk_new(place, &o, &virtio, NULL) == 0);
    t->d.rings = 2;
    return virtio;
}

static struct vmm_virtio *make_pmem(const struct vmm_virtio_place *place)
{
    struct vmm_virtio_pmem_options o = VMM_VIRTIO_PMEM_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    if (!pmem_path[0])
        make_file();
    o.path = pmem_path;
    o.address = PMEM_AT;
    FUZZ_CHECK(vmm_virtio_pmem_new(place, &o, &virtio, NULL) == 0);
    return virtio;
}

static struct vmm_virtio *make(struct target *t, uint8_t kind)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    place.name = "device";
    place.memory = t->d.memory;
    place.loop = t->d.loop;
    t->d.rings = 1;
    switch (kind & 3) {
    case 0:
        return make_disk(t, &place);
    case 1:
        FUZZ_CHECK(vmm_virtio_balloon_new(&place, &virtio, NULL) == 0);
        t->d.rings = 4;
        return virtio;
    case 2:
        FUZZ_CHECK(vmm_virtio_rng_new(&place, &virtio, NULL) == 0);
        return virtio;
    default:
        return make_pmem(&place);
    }
}

/* A disk's request that is nearly right, in one or two buffers. */
static void put_request(struct fuzz_driver *d, struct fuzz_input *in, uint32_t ring)
{
    uint8_t data[64] = {fuzz_u8(in) & 15};
    data[8] = fuzz_u8(in);
    for (uint32_t i = 16; i < 24; i++)
        data[i] = fuzz_u8(in);
    fuzz_post(d, in, ring, data, 1 + fuzz_u8(in) % sizeof(data));
}

/* Bytes of a ring: descriptors, indexes, events. */
static void put_bytes(struct fuzz_driver *d, struct fuzz_input *in, uint32_t ring)
{
    static const uint32_t parts[] = {0, 0x400, 0x800, 0x10};
    uint8_t where = fuzz_u8(in), count = fuzz_u8(in) & 31;
    uint64_t at = RING_SPACE * (uint64_t)ring + parts[where & 3] + (where >> 2);
    for (uint32_t i = 0; i < count; i++)
        vmm_memory_store_u8(d->memory, at + i, fuzz_u8(in));
}

static void put_descriptor(struct fuzz_driver *d, struct fuzz_input *in, uint32_t ring)
{
    uint8_t slot = fuzz_u8(in), kind = fuzz_u8(in);
    uint64_t at = RING_SPACE * (uint64_t)ring + 16 * (slot % RING_SIZE);
    uint64_t address = (uint64_t)fuzz_u8(in) << (slot >> 3);
    vmm_memory_store_u64(d->memory, at, kind & 0x40 ? RAM_SIZE - address : DATA_AT + address);
    vmm_memory_store_u32(d->memory, at + 8, kind & 0x80 ? fuzz_u32(in) : 16u * (kind & 15));
    vmm_memory_store_u16(d->memory, at + 12, (uint16_t)(kind >> 4 & 7));
    vmm_memory_store_u16(d->memory, at + 14, (uint16_t)(fuzz_u8(in) << 8 | fuzz_u8(in)));
}

static void step(struct target *t, struct fuzz_input *in)
{
    struct fuzz_driver *d = &t->d;
    uint8_t op = fuzz_u8(in);
    uint32_t ring = (op >> 4) % d->rings;
    uint64_t value;
    switch (op & 15) {
    case 0:
    case 1:
    case 2:
        put_request(d, in, ring);
        break;
    case 3:
        put_bytes(d, in, ring);
        break;
    case 4:
    case 5:
        put_descriptor(d, in, ring);
        break;
    case 6:
        fuzz_set(d, 0x50, fuzz_u8(in));
        break;
    case 7:
        (void)vmm_bus_read(d->bus, BASE + 0x100 + fuzz_u8(in), 1, &value);
        break;
    case 8:
        (void)vmm_bus_write(d->bus, BASE + 0x100 + fuzz_u8(in), 4, fuzz_u32(in));
        break;
    case 9:
        (void)vmm_balloon_set_target(d->virtio, (uint64_t)fuzz_u8(in) << 12);
        break;
    case 10: /* one queue is switched off */
        fuzz_set(d, 0x30, ring);
        fuzz_set(d, 0xc0, 1);
        break;
    case 11:
        fuzz_start(d, t->features);
        break;
    case 12:
        fuzz_save_and_load(d);
        break;
    default:
        fuzz_run(d);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t layouts[] = {0, 1ull << 34, 1ull << 29 | 1ull << 28,
                                       1ull << 34 | 1ull << 29 | 1ull << 28};
    struct fuzz_input in = {data, size};
    struct target t = {.block = NULL};
    uint8_t kind = fuzz_u8(&in), layout = fuzz_u8(&in);
    fuzz_open(&t.d);
    struct vmm_virtio *virtio = make(&t, kind);
    fuzz_attach(&t.d, virtio, t.d.rings);
    fuzz_set(&t.d, 0x14, 0);
    uint64_t offered = 0;
    FUZZ_CHECK(vmm_bus_read(t.d.bus, BASE + 0x10, 4, &offered) == 0);
    t.features = layouts[layout & 3] | 1ull << 40 | (layout & 4 ? offered & 0xffffff : 0);
    fuzz_start(&t.d, t.features);
    while (in.left > 0)
        step(&t, &in);
    fuzz_run(&t.d);
    if (t.block)
        FUZZ_CHECK(vmm_block_in_flight(t.block) == 0);
    fuzz_save_and_load(&t.d);
    fuzz_close(&t.d);
    vmm_block_unref(t.block);
    return 0;
}
