/* SPDX-License-Identifier: BSD-3-Clause */
/* Keyboard controller, keyboard and mouse, as a driver talks to them; and register walks. */
#include "base/util.h"
#include "test.h"

#include <libvmm/i8042.h>

#include <linux/input-event-codes.h>
#include <stdlib.h>

struct fixture {
    uint32_t irq1, irq12, edges1, resets, leds;
    struct vmm_bus *bus;
    struct vmm_i8042 *c;
};

static void set_irq1(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->edges1 += level > f->irq1;
    f->irq1 = level;
}

static void set_irq12(void *ctx, uint32_t level)
{
    ((struct fixture *)ctx)->irq12 = level;
}

static void on_reset(void *ctx)
{
    ((struct fixture *)ctx)->resets++;
}

static void on_leds(void *ctx, uint32_t leds)
{
    ((struct fixture *)ctx)->leds = leds;
}

static void begin(struct fixture *f)
{
    struct vmm_i8042_options o = VMM_I8042_OPTIONS_INIT;
    *f = (struct fixture){0};
    o.name = "i8042";
    o.reset = on_reset;
    o.leds = on_leds;
    o.ctx = f;
    assert_int_equal(vmm_irq_line_new_callback(set_irq1, f, &o.keyboard_irq), 0);
    assert_int_equal(vmm_irq_line_new_callback(set_irq12, f, &o.mouse_irq), 0);
    assert_int_equal(vmm_i8042_new(&o, &f->c), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->bus), 0);
    assert_int_equal(vmm_i8042_attach(f->c, f->bus, NULL), 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->bus);
    vmm_i8042_unref(f->c);
}

static uint8_t in(struct fixture *f, uint16_t port)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->bus, port, 1, &value), 0);
    return (uint8_t)value;
}

static void out(struct fixture *f, uint16_t port, uint8_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, port, 1, value), 0);
}

/* Exactly these bytes come, and then none. */
static void expect(struct fixture *f, bool mouse, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(in(f, 0x64) & 0x21, mouse ? 0x21 : 0x01);
        assert_int_equal(in(f, 0x60), (uint8_t)bytes[i]);
    }
    assert_int_equal(in(f, 0x64) & 1, 0);
}
#define EXPECT(f, bytes)       expect(f, false, bytes, sizeof(bytes) - 1)
#define EXPECT_MOUSE(f, bytes) expect(f, true, bytes, sizeof(bytes) - 1)

static void mode(struct fixture *f, uint8_t value)
{
    out(f, 0x64, 0x60);
    out(f, 0x60, value);
}

static void to_mouse(struct fixture *f, uint8_t value)
{
    out(f, 0x64, 0xd4);
    out(f, 0x60, value);
}

static void controller_commands(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    out(&f, 0x64, 0xaa);
    EXPECT(&f, "\x55");
    out(&f, 0x64, 0xab);
    EXPECT(&f, "\0");
    out(&f, 0x64, 0xa9);
    EXPECT(&f, "\0");
    out(&f, 0x64, 0xa4);
    EXPECT(&f, "\xf1");
    mode(&f, 0x47);
    out(&f, 0x64, 0x20);
    EXPECT(&f, "\x47");
    assert_int_equal(in(&f, 0x64) & 4, 4);
    out(&f, 0x64, 0xad);
    out(&f, 0x64, 0xa7);
    out(&f, 0x64, 0x20);
    EXPECT(&f, "\x77");
    out(&f, 0x64, 0xae);
    out(&f, 0x64, 0xa8);
    out(&f, 0x64, 0x20);
    EXPECT(&f, "\x47");
    out(&f, 0x64, 0x7f); /* the last byte of its RAM */
    out(&f, 0x60, 0x99);
    out(&f, 0x64, 0x3f);
    EXPECT(&f, "\x99");
    out(&f, 0x64, 0xd2); /* as if the keyboard had sent it */
    out(&f, 0x60, 0x12);
    EXPECT(&f, "\x12");
    out(&f, 0x64, 0xd3);
    out(&f, 0x60, 0x34);
    EXPECT_MOUSE(&f, "\x34");
    out(&f, 0x64, 0xc0);
    EXPECT(&f, "\x80");
    end(&f);
}

static void a20_and_reset(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    assert_int_equal(in(&f, 0x92), 2);
    out(&f, 0x64, 0xd1);
    out(&f, 0x60, 0xdd);
    assert_int_equal(in(&f, 0x92), 0);
    out(&f, 0x64, 0xd0);
    EXPECT(&f, "\x01");
    out(&f, 0x92, 2);
    out(&f, 0x64, 0xd0);
    EXPECT(&f, "\x03");
    out(&f, 0x64, 0xdd);
    assert_int_equal(in(&f, 0x92), 0);
    out(&f, 0x64, 0xdf);
    assert_int_equal(in(&f, 0x92), 2);
    assert_int_equal(f.resets, 0);
    out(&f, 0x64, 0xfe);
    assert_int_equal(f.resets, 1);
    out(&f, 0x64, 0xff); /* pulses nothing */
    assert_int_equal(f.resets, 1);
    out(&f, 0x92, 1);
    assert_int_equal(f.resets, 2);
    out(&f, 0x64, 0xd1);
    out(&f, 0x60, 0x02);
    assert_int_equal(f.resets, 3);
    end(&f);
}

static void keyboard_commands(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    mode(&f, 0x00); /* no translation */
    out(&f, 0x60, 0xff);
    EXPECT(&f, "\xfa\xaa");
    out(&f, 0x60, 0xf2);
    EXPECT(&f, "\xfa\xab\x83");
    out(&f, 0x60, 0xee);
    EXPECT(&f, "\xee");
    out(&f, 0x60, 0xed);
    EXPECT(&f, "\xfa");
    out(&f, 0x60, 5);
    EXPECT(&f, "\xfa");
    assert_int_equal(f.leds, VMM_I8042_LED_CAPS | VMM_I8042_LED_SCROLL);
    out(&f, 0x60, 0xf0);
    EXPECT(&f, "\xfa");
    out(&f, 0x60, 0);
    EXPECT(&f, "\xfa\x02");
    out(&f, 0x60, 0xf0);
    EXPECT(&f, "\xfa");
    out(&f, 0x60, 3); /* not supported */
    EXPECT(&f, "\xfe");
    out(&f, 0x60, 0xfe); /* again */
    EXPECT(&f, "\xfe");
    out(&f, 0x60, 0x01); /* nonsense */
    EXPECT(&f, "\xfe");
    out(&f, 0x60, 0xf5);
    EXPECT(&f, "\xfa");
    assert_int_equal(vmm_i8042_key(f.c, KEY_A, 1), -EAGAIN);
    out(&f, 0x60, 0xf4);
    EXPECT(&f, "\xfa");
    assert_int_equal(vmm_i8042_key(f.c, KEY_A, 1), 0);
    EXPECT(&f, "\x1c");
    end(&f);
}

static void scan_codes(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    mode(&f, 0x00);
    (void)vmm_i8042_key(f.c, KEY_A, 1);
    (void)vmm_i8042_key(f.c, KEY_A, 0);
    (void)vmm_i8042_key(f.c, KEY_F7, 1);
    (void)vmm_i8042_key(f.c, KEY_RIGHTCTRL, 1);
    (void)vmm_i8042_key(f.c, KEY_RIGHTCTRL, 0);
    EXPECT(&f, "\x1c\xf0\x1c\x83\xe0\x14\xe0\xf0\x14");
    (void)vmm_i8042_key(f.c, KEY_PAUSE, 1);
    (void)vmm_i8042_key(f.c, KEY_PAUSE, 0);
    EXPECT(&f, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77");
    (void)vmm_i8042_key(f.c, KEY_SYSRQ, 1);
    (void)vmm_i8042_key(f.c, KEY_SYSRQ, 0);
    EXPECT(&f, "\xe0\x12\xe0\x7c\xe0\xf0\x7c\xe0\xf0\x12");
    mode(&f, 0x40); /* the same, translated */
    (void)vmm_i8042_key(f.c, KEY_A, 1);
    (void)vmm_i8042_key(f.c, KEY_A, 0);
    (void)vmm_i8042_key(f.c, KEY_F7, 1);
    (void)vmm_i8042_key(f.c, KEY_F12, 1);
    (void)vmm_i8042_key(f.c, KEY_RIGHTCTRL, 1);
    (void)vmm_i8042_key(f.c, KEY_RIGHTCTRL, 0);
    (void)vmm_i8042_key(f.c, KEY_UP, 1);
    EXPECT(&f, "\x1e\x9e\x41\x58\xe0\x1d\xe0\x9d\xe0\x48");
    (void)vmm_i8042_key(f.c, KEY_PAUSE, 1);
    EXPECT(&f, "\xe1\x1d\x45\xe1\x9d\xc5");
    mode(&f, 0x00);
    out(&f, 0x60, 0xf0);
    EXPECT(&f, "\xfa");
    out(&f, 0x60, 1); /* set 1 by the keyboard itself */
    EXPECT(&f, "\xfa");
    (void)vmm_i8042_key(f.c, KEY_A, 0);
    (void)vmm_i8042_key(f.c, KEY_DELETE, 1);
    EXPECT(&f, "\x9e\xe0\x53");
    assert_int_equal(vmm_i8042_key(f.c, KEY_RESERVED, 1), -EINVAL);
    assert_int_equal(vmm_i8042_key(f.c, KEY_BRIGHTNESSUP, 1), -EINVAL);
    assert_int_equal(vmm_i8042_key(f.c, UINT32_MAX, 1), -EINVAL);
    end(&f);
}

/* Every key that there is: translated it is what set 1 says. */
static void translation_is_set_1(void **state)
{
    struct fixture f, g;
    (void)state;
    begin(&f);
    begin(&g);
    mode(&f, 0x40);
    mode(&g, 0x00);
    out(&g, 0x60, 0xf0);
    out(&g, 0x60, 1);
    EXPECT(&g, "\xfa\xfa");
    uint32_t keys = 0;
    for (uint32_t code = 0; code < 256; code++)
        for (uint32_t down = 0; down < 2; down++) {
            int rc = vmm_i8042_key(f.c, code, down);
            assert_int_equal(vmm_i8042_key(g.c, code, down), rc);
            keys += rc == 0;
            while (in(&g, 0x64) & 1) {
                assert_int_equal(in(&f, 0x64) & 1, 1);
                assert_int_equal(in(&f, 0x60), in(&g, 0x60));
            }
            assert_int_equal(in(&f, 0x64) & 1, 0);
        }
    assert_int_equal(keys,
                     2 * (83 + 3 + 26 + 2)); /* plain, 102ND to F12, others, SysRq and Pause */
    end(&f);
    end(&g);
}

static void a_full_queue_drops_whole_keys(void **state)
{
    struct fixture f;
    uint32_t taken = 0, bytes = 0;
    (void)state;
    begin(&f);
    mode(&f, 0x00);
    while (vmm_i8042_key(f.c, KEY_RIGHTCTRL, 0) == 0)
        taken++;
    assert_true(taken >= 16 && taken < 64);
    while (in(&f, 0x64) & 1) {
        static const uint8_t pattern[] = {0xe0, 0xf0, 0x14};
        assert_int_equal(in(&f, 0x60), pattern[bytes++ % 3]);
    }
    assert_int_equal(bytes, 3 * taken);
    end(&f);
}

static void interrupts(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    mode(&f, 0x43);
    (void)vmm_i8042_key(f.c, KEY_B, 1);
    (void)vmm_i8042_key(f.c, KEY_B, 0);
    assert_int_equal(f.irq1, 1);
    assert_int_equal(f.edges1, 1);
    assert_int_equal(in(&f, 0x60), 0x30);
    assert_int_equal(f.edges1, 2); /* an edge for each byte */
    assert_int_equal(in(&f, 0x60), 0xb0);
    assert_int_equal(f.irq1, 0);
    to_mouse(&f, 0xf4);
    assert_int_equal(f.irq12, 1);
    EXPECT_MOUSE(&f, "\xfa");
    assert_int_equal(f.irq12, 0);
    mode(&f, 0x40);
    (void)vmm_i8042_key(f.c, KEY_B, 1);
    assert_int_equal(f.irq1, 0);
    mode(&f, 0x41);
    assert_int_equal(f.irq1, 1);
    end(&f);
}

static void knock(struct fixture *f, uint8_t a, uint8_t b, uint8_t c)
{
    const uint8_t rates[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        to_mouse(f, 0xf3);
        EXPECT_MOUSE(f, "\xfa");
        to_mouse(f, rates[i]);
        EXPECT_MOUSE(f, "\xfa");
    }
}

static void mouse_protocols(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    mode(&f, 0x00);
    to_mouse(&f, 0xff);
    EXPECT_MOUSE(&f, "\xfa\xaa\x00");
    to_mouse(&f, 0xf2);
    EXPECT_MOUSE(&f, "\xfa\x00");
    vmm_i8042_mouse_move(f.c, 5, 5); /* not reporting: forgotten */
    to_mouse(&f, 0xf4);
    EXPECT_MOUSE(&f, "\xfa");
    vmm_i8042_mouse_move(f.c, 3, -2);
    EXPECT_MOUSE(&f, "\x08\x03\x02");
    vmm_i8042_mouse_move(f.c, -3, 2);
    EXPECT_MOUSE(&f, "\x38\xfd\xfe");
    assert_int_equal(vmm_i8042_mouse_button(f.c, BTN_RIGHT, 1), 0);
    EXPECT_MOUSE(&f, "\x0a\0\0");
    assert_int_equal(vmm_i8042_mouse_button(f.c, BTN_RIGHT, 0), 0);
    EXPECT_MOUSE(&f, "\x08\0\0");
    vmm_i8042_mouse_wheel(f.c, 1); /* no wheel yet */
    EXPECT_MOUSE(&f, "");
    knock(&f, 200, 100, 80);
    to_mouse(&f, 0xf2);
    EXPECT_MOUSE(&f, "\xfa\x03");
    vmm_i8042_mouse_wheel(f.c, -1);
    EXPECT_MOUSE(&f, "\x08\0\0\x01");
    knock(&f, 200, 200, 80);
    to_mouse(&f, 0xf2);
    expect(&f, true, "\xfa\x04", 2);
    assert_int_equal(vmm_i8042_mouse_button(f.c, BTN_EXTRA, 1), 0);
    EXPECT_MOUSE(&f, "\x08\0\0\x20");
    to_mouse(&f, 0xe9);
    EXPECT_MOUSE(&f, "\xfa\x20\x02\x50");
    assert_int_equal(vmm_i8042_mouse_button(f.c, BTN_LEFT - 1, 1), -EINVAL);
    assert_int_equal(vmm_i8042_mouse_button(f.c, BTN_EXTRA + 1, 1), -EINVAL);
    end(&f);
}

/* Far motion comes in several packets, and adds up. */
static void motion_adds_up(void **state)
{
    struct fixture f;
    int x = 0, y = 0;
    (void)state;
    begin(&f);
    mode(&f, 0x00);
    to_mouse(&f, 0xf4);
    EXPECT_MOUSE(&f, "\xfa");
    vmm_i8042_mouse_move(f.c, 1000, 700);
    vmm_i8042_mouse_move(f.c, -300, 1);
    while (in(&f, 0x64) & 1) {
        uint8_t head = in(&f, 0x60);
        x += in(&f, 0x60) - (head & 0x10 ? 256 : 0);
        y += in(&f, 0x60) - (head & 0x20 ? 256 : 0);
    }
    assert_int_equal(x, 700);
    assert_int_equal(y, -701);
    for (int i = 0; i < 100; i++)
        vmm_i8042_mouse_move(f.c, INT32_MAX, INT32_MIN);
    end(&f);
}

static int load_blob(struct fixture *f, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_device_load(vmm_i8042_device(f->c), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void *save_blob(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_i8042_device(f->c), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static void state_goes_to_another(void **state)
{
    struct fixture f, g;
    size_t length, again_length;
    (void)state;
    begin(&f);
    begin(&g);
    mode(&f, 0x43);
    to_mouse(&f, 0xf4);
    (void)in(&f, 0x60);
    (void)vmm_i8042_key(f.c, KEY_C, 1);
    (void)vmm_i8042_key(f.c, KEY_C, 0);
    vmm_i8042_mouse_move(f.c, 1, 1);
    void *blob = save_blob(&f, &length);
    assert_int_equal(load_blob(&g, blob, length), 0);
    assert_int_equal(g.irq1, 1);
    void *again = save_blob(&g, &again_length);
    assert_int_equal(length, again_length);
    assert_memory_equal(blob, again, length);
    assert_int_equal(in(&g, 0x60), 0x2e);
    assert_int_equal(in(&g, 0x60), 0xae);
    EXPECT_MOUSE(&g, "\x28\x01\xff");
    /* A byte of the state after the other changed: refused or taken, never out of bounds. */
    for (size_t i = 0; i < length; i++) {
        uint8_t *changed = malloc(length);
        memcpy(changed, blob, length);
        changed[i] ^= 0xff;
        struct vmm_state_reader *r;
        if (vmm_state_reader_new(changed, length, &r, NULL) == 0) {
            (void)vmm_device_load(vmm_i8042_device(g.c), r, NULL);
            vmm_state_reader_free(r);
            for (int n = 0; n < 300; n++)
                (void)in(&g, 0x60);
        }
        free(changed);
    }
    free(blob);
    free(again);
    end(&f);
    end(&g);
}

/* Each command with each data byte, then it answers its self-test as ever. */
static void every_command_with_every_value(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    for (uint32_t command = 0; command < 256; command++)
        for (uint32_t value = 0; value < 256; value++) {
            out(&f, 0x64, (uint8_t)command);
            out(&f, 0x60, (uint8_t)value);
            to_mouse(&f, (uint8_t)command);
            to_mouse(&f, (uint8_t)value);
            out(&f, 0x60, (uint8_t)command);
            out(&f, 0x60, (uint8_t)value);
            out(&f, 0x92, (uint8_t)value);
            (void)in(&f, 0x60);
            (void)in(&f, 0x92);
            vmm_i8042_mouse_move(f.c, (int)value, (int)command);
            (void)vmm_i8042_key(f.c, value, command & 1);
        }
    vmm_device_reset(vmm_i8042_device(f.c));
    out(&f, 0x64, 0xaa);
    EXPECT(&f, "\x55");
    end(&f);
}

static void bad_options(void **state)
{
    struct vmm_i8042_options o = VMM_I8042_OPTIONS_INIT;
    struct vmm_i8042 *c;
    (void)state;
    assert_int_equal(vmm_i8042_new(NULL, &c), -EINVAL);
    assert_int_equal(vmm_i8042_new(&o, &c), -EINVAL); /* no name */
    o.size = 1;
    assert_true(vmm_i8042_new(&o, &c) < 0);
    assert_null(vmm_i8042_unref(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controller_commands),
        cmocka_unit_test(a20_and_reset),
        cmocka_unit_test(keyboard_commands),
        cmocka_unit_test(scan_codes),
        cmocka_unit_test(translation_is_set_1),
        cmocka_unit_test(a_full_queue_drops_whole_keys),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(mouse_protocols),
        cmocka_unit_test(motion_adds_up),
        cmocka_unit_test(state_goes_to_another),
        cmocka_unit_test(every_command_with_every_value),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
