/* SPDX-License-Identifier: BSD-3-Clause */
/* The 9P device: messages by a driver's descriptors, with and without a worker. */
#include "virtio-driver.h"

#include <libvmm/share.h>

#include <stdlib.h>
#include <unistd.h>

#define REPLY (BUFFER + 0x8000)

struct fixture {
    struct driver d;
    char folder[64];
};

static int set_up_with(void **state, uint32_t worker)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_share_options s = VMM_SHARE_OPTIONS_INIT;
    struct vmm_virtio_9p_options o = VMM_VIRTIO_9P_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    strcpy(f->folder, "/tmp/libvmm-9p-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    s.path = f->folder;
    assert_int_equal(vmm_share_new(&s, &o.share, NULL), 0);
    o.tag = "the-tag";
    o.worker = worker;
    place.name = "share0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &virtio, NULL), 0);
    vmm_share_unref(o.share);
    driver_attach(&f->d, virtio);
    start(&f->d, 0);
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 0);
}

static int set_up_worker(void **state)
{
    return set_up_with(state, 1);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    assert_int_equal(rmdir(f->folder), 0);
    free(f);
    return 0;
}

static const uint8_t version[] = {21, 0, 0,   0,   100, 1,   0,   0,   0,   1,  0,
                                  8,  0, '9', 'P', '2', '0', '0', '0', '.', 'L'};
static const uint8_t attach[] = {23,  0,   0,   0, 104, 2, 0, 1, 0, 0, 0, 255,
                                 255, 255, 255, 0, 0,   0, 0, 0, 0, 0, 0};

static void put_message(struct driver *d, const uint8_t *message, uint32_t length, uint32_t room)
{
    vmm_memory_write(d->memory, BUFFER, message, length);
    desc(d, 0, BUFFER, 5, NEXT); /* in two parts each */
    desc(d, 1, BUFFER + 5, length - 5, NEXT);
    desc(d, 2, REPLY, 6, NEXT | WRITE);
    desc(d, 3, REPLY + 6, room - 6, WRITE);
}

/* The answer's type, or -1: none came. */
static int request(struct driver *d, const uint8_t *message, uint32_t length)
{
    uint8_t type;
    int64_t written = -1;
    put_message(d, message, length, 1000);
    offer(d, 4);
    for (int i = 0; i < 1000 && written < 0; i++) {
        written = take(d, 4);
        if (written < 0)
            usleep(1000);
    }
    vmm_memory_load_u8(d->memory, REPLY + 4, &type);
    return written < 0 ? -1 : type;
}

static void messages_and_answers(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    char tag[8] = {0};
    assert_int_equal(reg(d, 0x8), 9);
    assert_int_equal(reg(d, 0x100) & 0xffff, 7);
    for (uint32_t i = 0; i < 7; i++) {
        uint64_t value;
        assert_int_equal(vmm_bus_read(d->bus, BASE + 0x102 + i, 1, &value), 0);
        tag[i] = (char)value;
    }
    assert_string_equal(tag, "the-tag");
    assert_int_equal(request(d, version, sizeof(version)), 101);
    assert_int_equal(request(d, attach, sizeof(attach)), 105);
    assert_int_equal(request(d, attach, sizeof(attach)), 7); /* the fid is taken */
    /* A reset forgets the session. */
    start(d, 0);
    assert_int_equal(request(d, attach, sizeof(attach)), 7);
    assert_int_equal(request(d, version, sizeof(version)), 101);
    assert_int_equal(request(d, attach, sizeof(attach)), 105);
}

static void messages_without_room(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    for (int i = 0; i < 2; i++) {
        put_message(d, version, i ? 6 : sizeof(version), i ? 100 : 10);
        offer(d, 4);
        for (int j = 0; j < 1000 && !(reg(d, 0x70) & NEEDS_RESET); j++)
            usleep(1000);
        assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        start(d, 0);
    }
    assert_int_equal(request(d, version, sizeof(version)), 101);
}

/* The driver resets with messages under way: afterwards no byte of its memory is written. */
static void reset_in_flight(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    uint8_t data[256];
    for (int round = 0; round < 300; round++) {
        put_message(d, version, sizeof(version), 200);
        vmm_memory_store_u16(d->memory, RING_AVAIL + 2, ++d->avail);
        set_reg(d, 0x50, 0);
        vmm_loop_dispatch(d->loop, 0);
        if (round % 3 == 0)
            usleep(50);
        set_reg(d, 0x70, 0);
        vmm_memory_fill(d->memory, REPLY, 0x55, sizeof(data));
        vmm_loop_dispatch(d->loop, 0);
        usleep(50);
        vmm_memory_read(d->memory, REPLY, data, sizeof(data));
        for (size_t i = 0; i < sizeof(data); i++)
            assert_int_equal(data[i], 0x55);
        start(d, 0);
    }
    assert_int_equal(request(d, version, sizeof(version)), 101);
}

static void state_is_saved_and_loaded(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    assert_int_equal(request(d, version, sizeof(version)), 101);
    assert_int_equal(request(d, attach, sizeof(attach)), 105);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(d->virtio), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    set_reg(d, 0x70, 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(d->virtio), r, NULL), 0);
    vmm_state_reader_free(r);
    free(blob);
    run(d);
    assert_int_equal(request(d, attach, sizeof(attach)), 7); /* attached it is */
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_share_options s = VMM_SHARE_OPTIONS_INIT;
    struct vmm_virtio_9p_options o = VMM_VIRTIO_9P_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *v;
    char tag[200];
    place.name = "share0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &v, NULL), -EINVAL);
    s.path = f->folder;
    assert_int_equal(vmm_share_new(&s, &o.share, NULL), 0);
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &v, NULL), -EINVAL);
    o.tag = "";
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &v, NULL), -EINVAL);
    memset(tag, 'x', sizeof(tag));
    tag[129] = '\0';
    o.tag = tag;
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &v, NULL), -EINVAL);
    tag[128] = '\0';
    assert_int_equal(vmm_virtio_9p_new(NULL, &o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_9p_new(&place, NULL, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_9p_new(&place, &o, &v, NULL), 0);
    vmm_virtio_unref(v);
    vmm_share_unref(o.share);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                      \
        cmocka_unit_test_setup_teardown(test, set_up_worker, tear_down)

int main(void)
{
    if (TEST_UNDER_TSAN) /* guest memory has no locks between its two sides */
        TEST_SKIP("the driver of this test shares guest memory with the device by barriers only");
    const struct CMUnitTest tests[] = {
        BOTH(messages_and_answers),      BOTH(messages_without_room), BOTH(reset_in_flight),
        BOTH(state_is_saved_and_loaded), BOTH(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
