/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon: what is given back, what the embedder and the driver tell each other. */
#include "virtio-driver.h"

#define PAGE      4096u
#define STATS     VMM_VIRTIO_FEATURE(1)
#define REPORTING VMM_VIRTIO_FEATURE(5)

static int set_up(void **state)
{
    struct driver *d = calloc(1, sizeof(*d));
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    *state = d;
    driver_open(d);
    place.name = "balloon0";
    place.memory = d->memory;
    place.loop = d->loop;
    assert_int_equal(vmm_virtio_balloon_new(&place, &virtio, NULL), 0);
    driver_attach(d, virtio);
    return 0;
}

static int tear_down(void **state)
{
    driver_close(*state);
    free(*state);
    return 0;
}

static void fill_page(struct driver *d, uint32_t page)
{
    assert_int_equal(vmm_memory_fill(d->memory, (uint64_t)page * PAGE, 0xaa, PAGE), 0);
}

static uint8_t byte_of(struct driver *d, uint32_t page)
{
    uint8_t value = 1;
    assert_int_equal(vmm_memory_load_u8(d->memory, (uint64_t)page * PAGE + 5, &value), 0);
    return value;
}

static void inflated_pages_are_zeros(void **state)
{
    struct driver *d = *state;
    /* Up, down, alone, twice, and what is no memory. */
    static const uint32_t pages[] = {0x20, 0x21,  0x22,    0x31,       0x30,           0x40,
                                     0x40, 0x100, 0xd0000, UINT32_MAX, UINT32_MAX - 1, 0x50};
    start(d, 0);
    for (uint32_t page = 0x1f; page < 0x60; page++)
        fill_page(d, page);
    for (uint32_t i = 0; i < 12; i++)
        vmm_memory_store_u32(d->memory, BUFFER + 4 * i, pages[i]);
    desc(d, 0, BUFFER, 48 + 3, 0); /* three bytes are no page */
    offer(d, 1);
    assert_int_equal(take(d, 1), 0);
    assert_int_equal(reg(d, 0x70), OK_STATUS);
    for (uint32_t page = 0x1f; page < 0x60; page++) {
        bool given = (page >= 0x20 && page <= 0x22) || page == 0x30 || page == 0x31 ||
                     page == 0x40 || page == 0x50;
        assert_int_equal(byte_of(d, page), given ? 0 : 0xaa);
    }
}

static void reported_pages_are_zeros(void **state)
{
    struct driver *d = *state;
    for (uint32_t queue = 2; queue <= 3; queue++) { /* without and with statistics before it */
        d->queue = queue;
        start(d, REPORTING | (queue == 3 ? STATS : 0));
        for (uint32_t page = 0x40; page < 0x48; page++)
            fill_page(d, page);
        desc(d, 0, 0x41 * PAGE, 2 * PAGE, NEXT | WRITE);
        desc(d, 1, 0x45 * PAGE, PAGE, WRITE);
        offer(d, 2);
        assert_int_equal(take(d, 2), 0);
        for (uint32_t page = 0x40; page < 0x48; page++)
            assert_int_equal(byte_of(d, page),
                             page == 0x41 || page == 0x42 || page == 0x45 ? 0 : 0xaa);
    }
}

static void target_and_actual(void **state)
{
    struct driver *d = *state;
    struct vmm_balloon_stats stats = VMM_BALLOON_STATS_INIT;
    start(d, 0);
    assert_int_equal(vmm_balloon_set_target(d->virtio, 16 * PAGE), 0);
    assert_int_equal(reg(d, 0x60), 2);
    assert_int_equal(reg(d, 0x100), 16);
    set_reg(d, 0x104, 9);
    set_reg(d, 0x100, 77); /* not the driver's to write */
    assert_int_equal(reg(d, 0x100), 16);
    assert_int_equal(vmm_balloon_get_stats(d->virtio, &stats), 0);
    assert_int_equal(stats.target, 16 * PAGE);
    assert_int_equal(stats.actual, 9 * PAGE);
    assert_int_equal(stats.known, 0);
    assert_int_equal(vmm_balloon_set_target(d->virtio, UINT64_MAX), -EINVAL);
}

static void put_byte(struct driver *d, uint32_t offset, uint8_t value)
{
    assert_int_equal(vmm_bus_write(d->bus, BASE + offset, 1, value), 0);
}

static uint64_t actual_of(struct driver *d)
{
    struct vmm_balloon_stats stats = VMM_BALLOON_STATS_INIT;
    assert_int_equal(vmm_balloon_get_stats(d->virtio, &stats), 0);
    return stats.actual / PAGE;
}

/* As legacy drivers do (VIRTIO 1.2 §4.1.4.8 leaves the width to them). */
static void actual_byte_by_byte(void **state)
{
    struct driver *d = *state;
    start(d, 0);
    for (uint32_t i = 0; i < 4; i++)
        put_byte(d, 0x104 + i, (uint8_t)(0x11 * (i + 1)));
    assert_int_equal(actual_of(d), 0x44332211);
    put_byte(d, 0x105, 0);
    assert_int_equal(actual_of(d), 0x44330011);
    put_byte(d, 0x100, 1);
    assert_int_equal(reg(d, 0x100), 0);
    assert_int_equal(actual_of(d), 0x44330011);
}

static void saved_and_loaded(void **state)
{
    struct driver *d = *state;
    struct vmm_device *device = vmm_virtio_device(d->virtio);
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    start(d, 0);
    assert_int_equal(vmm_balloon_set_target(d->virtio, 16 * PAGE), 0);
    set_reg(d, 0x104, 9);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    vmm_device_reset(device);
    assert_int_equal(actual_of(d), 0);
    assert_int_equal(vmm_balloon_set_target(d->virtio, 0), 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, &err), 0);
    if (vmm_device_load(device, r, &err))
        fail_msg("%s", err.text);
    vmm_state_reader_free(r);
    free(blob);
    assert_int_equal(actual_of(d), 9);
    assert_int_equal(reg(d, 0x100), 16);
}

static void put_stat(struct driver *d, uint32_t n, uint16_t tag, uint64_t value)
{
    vmm_memory_store_u16(d->memory, BUFFER + 10 * n, tag);
    vmm_memory_store_u64(d->memory, BUFFER + 10 * n + 2, value);
}

static void statistics(void **state)
{
    struct driver *d = *state;
    struct vmm_balloon_stats stats = VMM_BALLOON_STATS_INIT;
    d->queue = 2;
    start(d, STATS);
    put_stat(d, 0, 4, 123456);
    put_stat(d, 1, 0xffff, 1); /* unknown */
    put_stat(d, 2, 5, 99);
    desc(d, 0, BUFFER, 30, 0);
    offer(d, 1);
    assert_int_equal(take(d, 1), -1); /* kept until they are asked for */
    assert_int_equal(vmm_balloon_get_stats(d->virtio, &stats), 0);
    assert_int_equal(stats.known, 1u << 4 | 1u << 5);
    assert_int_equal(stats.value[4], 123456);
    assert_int_equal(stats.value[5], 99);
    assert_int_equal(stats.updates, 1);
    assert_int_equal(take(d, 1), 0);
    put_stat(d, 0, 4, 7);
    offer(d, 1);
    assert_int_equal(vmm_balloon_get_stats(d->virtio, &stats), 0);
    assert_int_equal(stats.value[4], 7);
    desc(d, 0, BUFFER, 10, 0);
    offer(d, 1); /* out when the device is reset and then freed */
    start(d, STATS);
    offer(d, 1);
}

#define BALLOON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BALLOON(inflated_pages_are_zeros), BALLOON(reported_pages_are_zeros),
        BALLOON(target_and_actual),        BALLOON(actual_byte_by_byte),
        BALLOON(saved_and_loaded),         BALLOON(statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
