/* SPDX-License-Identifier: BSD-3-Clause */
/* Input devices: what they say of themselves, frames that come whole or not at all, what drivers send. */
#include "virtio-rings.h"

#include <libvmm/input.h>

#include <linux/input.h>
#include <stdlib.h>

struct fixture {
    struct driver d;
    struct test_ring rings[2];
    struct vmm_input_event last;
    uint32_t statuses;
};

static void status(void *ctx, const struct vmm_input_event *event)
{
    struct fixture *f = ctx;
    f->last = *event;
    f->statuses++;
}

static int set_up_kind(void **state, uint32_t kind)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_input_options o = VMM_VIRTIO_INPUT_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    place.name = "input0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    o.kind = kind;
    o.serial = "seat-1";
    o.status = status;
    o.ctx = f;
    assert_int_equal(vmm_virtio_input_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    return 0;
}

static int set_up_keyboard(void **state)
{
    return set_up_kind(state, VMM_INPUT_KEYBOARD);
}

static int set_up_tablet(void **state)
{
    return set_up_kind(state, VMM_INPUT_TABLET);
}

static int set_up_mouse(void **state)
{
    return set_up_kind(state, VMM_INPUT_MOUSE);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    free(f);
    return 0;
}

static uint8_t get(struct fixture *f, uint32_t offset)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->d.bus, BASE + 0x100 + offset, 1, &value), 0);
    return (uint8_t)value;
}

static uint32_t query(struct fixture *f, uint8_t select, uint8_t subsel, uint8_t *answer)
{
    assert_int_equal(vmm_bus_write(f->d.bus, BASE + 0x100, 1, select), 0);
    assert_int_equal(vmm_bus_write(f->d.bus, BASE + 0x101, 1, subsel), 0);
    assert_int_equal(get(f, 0), select);
    assert_int_equal(get(f, 1), subsel);
    uint32_t size = get(f, 2);
    assert_in_range(size, 0, 128);
    for (uint32_t i = 0; i < 128; i++) {
        uint8_t byte = get(f, 8 + i);
        if (answer)
            answer[i] = byte;
        if (i >= size)
            assert_int_equal(byte, 0); /* §5.8.5.2 */
    }
    return size;
}

static bool has(const uint8_t *bits, uint32_t code)
{
    return bits[code / 8] >> code % 8 & 1;
}

static void keyboard_configuration(void **state)
{
    struct fixture *f = *state;
    uint8_t a[129] = {0};
    assert_int_equal(query(f, 0, 0, a), 0);
    assert_int_equal(query(f, 1, 0, a), 15);
    assert_string_equal((char *)a, "libvmm keyboard");
    assert_int_equal(query(f, 2, 0, a), 6);
    assert_string_equal((char *)a, "seat-1");
    assert_int_equal(query(f, 3, 0, a), 8);
    assert_int_equal(a[0], BUS_VIRTUAL);
    assert_int_equal(query(f, 0x10, 0, a), 0);
    assert_true(query(f, 0x11, EV_KEY, a) > 0);
    assert_true(has(a, KEY_ESC) && has(a, KEY_A) && has(a, KEY_F12) && has(a, KEY_VOLUMEUP));
    assert_false(has(a, KEY_RESERVED) || has(a, BTN_LEFT));
    assert_int_equal(query(f, 0x11, EV_LED, a), 1);
    assert_int_equal(a[0], 7);
    assert_int_equal(query(f, 0x11, EV_REP, a), 1);
    assert_int_equal(query(f, 0x11, EV_REL, a), 0);
    assert_int_equal(query(f, 0x11, EV_ABS, a), 0);
    assert_int_equal(query(f, 0x12, ABS_X, a), 0);
}

static void pointer_configuration(void **state)
{
    struct fixture *f = *state;
    uint8_t a[129] = {0};
    assert_true(query(f, 0x11, EV_KEY, a) > 0);
    assert_true(has(a, BTN_LEFT) && has(a, BTN_RIGHT) && has(a, BTN_MIDDLE));
    assert_false(has(a, KEY_A));
    assert_int_equal(query(f, 0x11, EV_ABS, a), 1);
    assert_int_equal(a[0], 3);
    for (uint8_t axis = 0; axis < 2; axis++) {
        assert_int_equal(query(f, 0x12, axis, a), 20);
        assert_int_equal(a[0] | a[1] | a[2] | a[3], 0);
        assert_int_equal(a[4] | a[5] << 8 | a[6] << 16 | a[7] << 24, VMM_INPUT_ABS_MAX);
    }
    assert_int_equal(query(f, 0x12, 2, a), 0);
    assert_int_equal(query(f, 0x11, EV_REL, a), 2);
    assert_true(has(a, REL_WHEEL));
    assert_false(has(a, REL_X));
}

/* The whole space of questions: no answer is longer than its room, and wrong ones have none. */
static void every_question(void **state)
{
    struct fixture *f = *state;
    for (uint32_t select = 0; select < 256; select++)
        for (uint32_t subsel = 0; subsel < 256; subsel += select < 0x20 ? 1 : 51) {
            uint32_t size = query(f, (uint8_t)select, (uint8_t)subsel, NULL);
            if ((select >= 1 && select <= 3 && subsel) || select == 0 || select > 0x12)
                assert_int_equal(size, 0);
        }
    set_reg(&f->d, 0x100, 0x00001101); /* both at once, and bytes that are not the driver's */
    assert_int_equal(get(f, 0), 1);
    assert_int_equal(get(f, 1), 0x11);
    set_reg(&f->d, 0x104, 0xffffffff);
    assert_int_equal(get(f, 4), 0);
    set_reg(&f->d, 0x108 + 124, 0xffffffff);
    set_reg(&f->d, 0x108 + 128, 0xffffffff); /* past its end */
}

static void start_with(struct fixture *f, int buffers)
{
    rings_start(&f->d, 0, f->rings, 2);
    for (int i = 0; i < buffers; i++)
        ring_post(&f->rings[0], NULL, 8, WRITE);
    ring_kick(&f->rings[0]);
}

static void expect(struct fixture *f, uint16_t type, uint16_t code, int32_t value)
{
    struct vmm_input_event e;
    assert_int_equal(ring_take(&f->rings[0], &e, sizeof(e)), 8);
    assert_int_equal(e.type, type);
    assert_int_equal(e.code, code);
    assert_int_equal(e.value, value);
}

static void keys(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 1), -EAGAIN); /* no driver */
    start_with(f, 5);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 1), 0);
    expect(f, EV_KEY, KEY_A, 1);
    expect(f, EV_SYN, SYN_REPORT, 0);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 0), 0);
    expect(f, EV_KEY, KEY_A, 0);
    expect(f, EV_SYN, SYN_REPORT, 0);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_B, 1), -EAGAIN); /* one is too few */
    assert_int_equal(ring_take(&f->rings[0], NULL, 0), -1);
    ring_post(&f->rings[0], NULL, 8, WRITE);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_C, 1), 0);
    expect(f, EV_KEY, KEY_C, 1); /* nothing of what was dropped */
    expect(f, EV_SYN, SYN_REPORT, 0);
    assert_int_equal(vmm_input_key(f->d.virtio, BTN_LEFT, 1), -EINVAL);
    assert_int_equal(vmm_input_key(f->d.virtio, 0, 1), -EINVAL);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 3), -EINVAL);
    assert_int_equal(vmm_input_key(f->d.virtio, 0x10000 + KEY_A, 1), -EINVAL);
    assert_int_equal(vmm_input_move(f->d.virtio, 1, 1), -EINVAL);
    assert_int_equal(vmm_input_position(f->d.virtio, 1, 1), -EINVAL);
}

static void positions(void **state)
{
    struct fixture *f = *state;
    start_with(f, 6);
    assert_int_equal(vmm_input_position(f->d.virtio, 0, VMM_INPUT_ABS_MAX), 0);
    expect(f, EV_ABS, ABS_X, 0);
    expect(f, EV_ABS, ABS_Y, VMM_INPUT_ABS_MAX);
    expect(f, EV_SYN, SYN_REPORT, 0);
    assert_int_equal(vmm_input_position(f->d.virtio, VMM_INPUT_ABS_MAX + 1, 0), -EINVAL);
    assert_int_equal(vmm_input_position(f->d.virtio, 0, UINT32_MAX), -EINVAL);
    assert_int_equal(vmm_input_move(f->d.virtio, 1, 1), -EINVAL);
    assert_int_equal(vmm_input_key(f->d.virtio, BTN_LEFT, 1), 0);
}

static void moves(void **state)
{
    struct fixture *f = *state;
    struct vmm_input_event e[VMM_INPUT_FRAME_MAX + 1];
    start_with(f, 16);
    assert_int_equal(vmm_input_move(f->d.virtio, -5, 7), 0);
    expect(f, EV_REL, REL_X, -5);
    expect(f, EV_REL, REL_Y, 7);
    expect(f, EV_SYN, SYN_REPORT, 0);
    for (size_t i = 0; i <= VMM_INPUT_FRAME_MAX; i++)
        e[i] = (struct vmm_input_event){EV_REL, REL_WHEEL, 1};
    assert_int_equal(vmm_input_send(f->d.virtio, e, 0), -EINVAL);
    assert_int_equal(vmm_input_send(f->d.virtio, NULL, 1), -EINVAL);
    assert_int_equal(vmm_input_send(f->d.virtio, e, VMM_INPUT_FRAME_MAX + 1), -EINVAL);
    assert_int_equal(vmm_input_send(f->d.virtio, e, VMM_INPUT_FRAME_MAX), -EAGAIN);
    assert_int_equal(vmm_input_send(f->d.virtio, e, 12),
                     0); /* with the report all 13 that are left */
    for (int i = 0; i < 12; i++)
        expect(f, EV_REL, REL_WHEEL, 1);
    expect(f, EV_SYN, SYN_REPORT, 0);
    e[0] = (struct vmm_input_event){EV_SYN, SYN_REPORT, 0};
    assert_int_equal(vmm_input_send(f->d.virtio, e, 1), -EINVAL);
}

static void many_turns(void **state)
{
    struct fixture *f = *state;
    start_with(f, 0);
    for (int i = 0; i < 200; i++) { /* more than a ring, without a notification between */
        ring_post(&f->rings[0], NULL, 8, WRITE);
        ring_post(&f->rings[0], NULL, 8, WRITE);
        assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, i & 1), 0);
        expect(f, EV_KEY, KEY_A, i & 1);
        expect(f, EV_SYN, SYN_REPORT, 0);
    }
}

static void status_queue(void **state)
{
    struct fixture *f = *state;
    const struct vmm_input_event e = {EV_LED, LED_CAPSL, 1};
    start_with(f, 0);
    ring_send(&f->rings[1], &e, 8);
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), 0);
    assert_int_equal(f->statuses, 1);
    assert_int_equal(f->last.code, LED_CAPSL);
    assert_int_equal(f->last.value, 1);
    ring_send(&f->rings[1], &e, 7);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
    assert_int_equal(f->statuses, 1);
    start_with(f, 0);
    ring_post(&f->rings[0], NULL, 8, WRITE);
    ring_post(&f->rings[0], NULL, 7, WRITE);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 1), -EAGAIN);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
    start_with(f, 0);
    ring_post(&f->rings[0], "abcdefgh", 8, 0); /* readable */
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 1), -EAGAIN);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
}

static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct vmm_device *device = vmm_virtio_device(f->d.virtio);
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    start_with(f, 4);
    (void)query(f, 0x11, EV_KEY, NULL);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 1), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    vmm_device_reset(device);
    assert_int_equal(get(f, 0), 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(device, r, NULL), 0);
    vmm_state_reader_free(r);
    assert_int_equal(get(f, 0), 0x11);
    assert_int_equal(get(f, 1), EV_KEY);
    expect(f, EV_KEY, KEY_A, 1);
    expect(f, EV_SYN, SYN_REPORT, 0);
    assert_int_equal(vmm_input_key(f->d.virtio, KEY_A, 0), 0);
    expect(f, EV_KEY, KEY_A, 0);
    void *mouse;
    set_up_mouse(&mouse);
    struct fixture *m = mouse;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(m->d.virtio), r, NULL), -EINVAL);
    vmm_state_reader_free(r);
    tear_down(&mouse);
    free(blob);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_input_options o = VMM_VIRTIO_INPUT_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    char serial[129];
    place.name = "input1";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_virtio_input_new(&place, NULL, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_input_new(&place, &o, &virtio, NULL), -EINVAL);
    o.kind = 4;
    assert_int_equal(vmm_virtio_input_new(&place, &o, &virtio, NULL), -EINVAL);
    o.kind = VMM_INPUT_MOUSE;
    memset(serial, 's', 128);
    serial[128] = '\0';
    o.serial = serial;
    assert_int_equal(vmm_virtio_input_new(&place, &o, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_rng_new(&place, &virtio, NULL), 0);
    assert_int_equal(vmm_input_key(virtio, KEY_A, 1), -EINVAL); /* no input device */
    vmm_virtio_unref(virtio);
}

#define WITH(kind, test) cmocka_unit_test_setup_teardown(test, set_up_##kind, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(keyboard, keyboard_configuration),
        WITH(tablet, pointer_configuration),
        WITH(keyboard, every_question),
        WITH(tablet, every_question),
        WITH(mouse, every_question),
        WITH(keyboard, keys),
        WITH(tablet, positions),
        WITH(mouse, moves),
        WITH(keyboard, many_turns),
        WITH(keyboard, status_queue),
        WITH(keyboard, saved_and_loaded),
        WITH(keyboard, bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
