/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio disk and the entropy device: requests, their limits, and hostile ones. */
#include "virtio-driver.h"

#include <libvmm/block.h>

#include <unistd.h>

#define SECTORS 64u
#define DATA    (BUFFER + 0x1000)
#define STATUS  (BUFFER + 0x800)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };

struct fixture {
    struct driver d;
    struct vmm_block *block;
    char path[64];
};

static struct vmm_virtio_place place_of(struct fixture *f)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = "disk0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    return place;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_block_raw_options raw = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct vmm_virtio_blk_options o = VMM_VIRTIO_BLK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    strcpy(f->path, "/tmp/libvmm-disk-XXXXXX");
    int fd = mkstemp(f->path);
    assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
    close(fd);
    raw.path = f->path;
    raw.threads = 2;
    assert_int_equal(vmm_block_raw_new(f->d.loop, &raw, &f->block, NULL), 0);
    const struct vmm_virtio_place place = place_of(f);
    o.block = f->block;
    o.serial = "serial-number";
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    start(&f->d, VMM_VIRTIO_FEATURE(9));
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    vmm_block_unref(f->block);
    unlink(f->path);
    free(f);
    return 0;
}

/* Header, data, status: the device's answer, or -1 for none. */
static int request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t length, bool write)
{
    struct driver *d = &f->d;
    uint8_t status = 0xee;
    vmm_memory_store_u32(d->memory, BUFFER, type);
    vmm_memory_store_u64(d->memory, BUFFER + 8, sector);
    vmm_memory_store_u8(d->memory, STATUS, status);
    desc(d, 0, BUFFER, 16, NEXT);
    desc(d, 1, DATA, length, (uint16_t)(NEXT | (write ? 0 : WRITE)));
    desc(d, 2, STATUS, 1, WRITE);
    offer(d, 3);
    for (int i = 0; i < 100 && vmm_block_in_flight(f->block); i++)
        vmm_loop_dispatch(d->loop, 100);
    run(d);
    if (take(d, 3) < 0)
        return -1;
    vmm_memory_load_u8(d->memory, STATUS, &status);
    return status;
}

static void put_range(struct fixture *f, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    vmm_memory_store_u64(f->d.memory, DATA, sector);
    vmm_memory_store_u32(f->d.memory, DATA + 8, sectors);
    vmm_memory_store_u32(f->d.memory, DATA + 12, flags);
}

static void sectors_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512], zero[512] = {0};
    for (uint32_t sector = 0; sector < SECTORS; sector++) {
        vmm_memory_fill(f->d.memory, DATA, (uint8_t)(sector + 1), 512);
        assert_int_equal(request(f, OUT, sector, 512, true), 0);
    }
    assert_int_equal(request(f, FLUSH, 0, 0, true), 0);
    assert_int_equal(request(f, IN, 8, 2048, false), 0);
    for (uint32_t i = 0; i < 4; i++) {
        vmm_memory_read(f->d.memory, DATA + 512 * i, data, 512);
        assert_int_equal(data[0], 9 + i);
        assert_int_equal(data[511], 9 + i);
    }
    put_range(f, 9, 2, 1);
    assert_int_equal(request(f, WRITE_ZEROES, 0, 16, true), 0);
    assert_int_equal(request(f, IN, 10, 512, false), 0);
    vmm_memory_read(f->d.memory, DATA, data, 512);
    assert_memory_equal(data, zero, 512);
    assert_int_equal(request(f, IN, 11, 512, false), 0);
    vmm_memory_read(f->d.memory, DATA, data, 512);
    assert_int_equal(data[0], 12);
    put_range(f, 0, 8, 0);
    assert_int_equal(request(f, DISCARD, 0, 16, true), 0);
}

static void identity(void **state)
{
    struct fixture *f = *state;
    char id[21] = {0};
    assert_int_equal(request(f, GET_ID, 0, 20, false), 0);
    vmm_memory_read(f->d.memory, DATA, id, 20);
    assert_string_equal(id, "serial-number");
    assert_int_equal(request(f, GET_ID, 0, 4, false), 0);
    assert_int_equal(reg(&f->d, 0x100), SECTORS);
}

static void requests_beyond_the_limits(void **state)
{
    struct fixture *f = *state;
    static const uint64_t sectors[] = {
        SECTORS,          SECTORS + 1,          UINT64_MAX,
        UINT64_MAX / 512, UINT64_MAX / 512 + 1, (UINT64_MAX >> 9) - 1};
    for (size_t i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
        assert_int_equal(request(f, IN, sectors[i], 512, false), 1);
        assert_int_equal(request(f, OUT, sectors[i], 512, true), 1);
        put_range(f, sectors[i], 1, 0);
        assert_int_equal(request(f, DISCARD, 0, 16, true), 1);
    }
    assert_int_equal(request(f, IN, SECTORS - 1, 1024, false), 1);
    assert_int_equal(request(f, IN, 0, 511, false), 1);
    assert_int_equal(request(f, 99, 0, 512, false), 2);
    put_range(f, 0, UINT32_MAX, 0);
    assert_int_equal(request(f, WRITE_ZEROES, 0, 16, true), 1);
    put_range(f, 0, 1, 2);
    assert_int_equal(request(f, WRITE_ZEROES, 0, 16, true), 2);
    put_range(f, 0, 1, 1);
    assert_int_equal(request(f, DISCARD, 0, 16, true), 2);
    assert_int_equal(request(f, DISCARD, 0, 15, true), 1);
    assert_int_equal(request(f, IN, 0, 512, false), 0);
}

static void requests_without_room(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    static const struct {
        uint32_t header, status;
    } cases[] = {{15, 1}, {0, 1}, {16, 0}};
    for (size_t i = 0; i < 3; i++) {
        desc(d, 0, BUFFER, cases[i].header, NEXT);
        desc(d, 1, STATUS, cases[i].status, WRITE);
        offer(d, 2);
        assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        start(d, VMM_VIRTIO_FEATURE(9));
        assert_int_equal(request(f, IN, 0, 512, false), 0);
    }
}

/* The driver resets with reads under way: afterwards the device writes no byte of their memory. */
static void reset_in_flight(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    uint8_t data[4096];
    for (int round = 0; round < 200; round++) {
        vmm_memory_store_u32(d->memory, BUFFER, IN);
        vmm_memory_store_u64(d->memory, BUFFER + 8, 0);
        desc(d, 0, BUFFER, 16, NEXT);
        desc(d, 1, DATA, 4096, NEXT | WRITE);
        desc(d, 2, STATUS, 1, WRITE);
        vmm_memory_store_u16(d->memory, RING_AVAIL + 2, ++d->avail);
        set_reg(d, 0x50, 0);
        vmm_loop_dispatch(d->loop, 0);
        set_reg(d, 0x70, 0);
        vmm_memory_fill(d->memory, DATA, 0x55, 4096);
        vmm_memory_fill(d->memory, STATUS, 0x55, 1);
        while (vmm_block_in_flight(f->block))
            vmm_loop_dispatch(d->loop, 10);
        vmm_memory_read(d->memory, DATA, data, 4096);
        for (size_t i = 0; i < 4096; i++)
            assert_int_equal(data[i], 0x55);
        vmm_memory_read(d->memory, STATUS, data, 1);
        assert_int_equal(data[0], 0x55);
        start(d, VMM_VIRTIO_FEATURE(9));
    }
    assert_int_equal(request(f, IN, 0, 512, false), 0);
}

static void resize_tells_the_driver(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_virtio_blk_resize(f->d.virtio, SECTORS * 1024, NULL), 0);
    assert_int_equal(reg(&f->d, 0x60) & 2, 2);
    assert_int_equal(reg(&f->d, 0x100), 2 * SECTORS);
    assert_int_equal(request(f, IN, 2 * SECTORS - 1, 512, false), 0);
    assert_int_equal(vmm_virtio_blk_resize(f->d.virtio, 100, NULL), -EINVAL);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = place_of(f);
    struct vmm_virtio_blk_options o = VMM_VIRTIO_BLK_OPTIONS_INIT;
    struct vmm_virtio *v;
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &v, NULL), -EINVAL);
    o.block = f->block;
    o.queues = 65;
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &v, NULL), -EINVAL);
    o.queues = 1;
    o.serial = "more than twenty characters";
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &v, NULL), -EINVAL);
    o.serial = NULL;
    assert_int_equal(vmm_virtio_blk_new(NULL, &o, &v, NULL), -EINVAL);
    place.name = "Bad";
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &v, NULL), -EINVAL);
}

static void random_numbers(void **state)
{
    struct driver d;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    uint64_t first, second;
    (void)state;
    driver_open(&d);
    place.name = "rng0";
    place.memory = d.memory;
    place.loop = d.loop;
    assert_int_equal(vmm_virtio_rng_new(&place, &virtio, NULL), 0);
    driver_attach(&d, virtio);
    start(&d, 0);
    desc(&d, 0, BUFFER, 100, NEXT | WRITE);
    desc(&d, 1, BUFFER + 0x1000, 1000, WRITE);
    offer(&d, 2);
    assert_int_equal(take(&d, 2), 1100);
    vmm_memory_load_u64(d.memory, BUFFER, &first);
    vmm_memory_load_u64(d.memory, BUFFER + 0x1000 + 992, &second);
    assert_true(first != 0 && second != 0 && first != second);
    desc(&d, 0, 0x8000, 0x80000, WRITE); /* more than is given at a time */
    offer(&d, 1);
    assert_int_equal(take(&d, 1), 65536);
    driver_close(&d);
}

#define DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISK(sectors_are_written_and_read),
        DISK(identity),
        DISK(requests_beyond_the_limits),
        DISK(requests_without_room),
        DISK(reset_in_flight),
        DISK(resize_tells_the_driver),
        DISK(bad_options),
        cmocka_unit_test(random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
