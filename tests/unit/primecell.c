/* SPDX-License-Identifier: BSD-3-Clause */
/* The PrimeCells against their manuals: ARM DDI 0183 (PL011), 0224 (PL031), 0190 (PL061). */
#include "test.h"

#include <libvmm/primecell.h>

#include <errno.h>
#include <string.h>

#define BASE 0x9000000u

struct fixture {
    struct vmm_bus *bus;
    struct vmm_loop *loop;
    struct vmm_chardev *chardev;
    struct vmm_irq_line *line;
    uint32_t level;
    uint64_t now, real; /* of the loop, of the clock; nanoseconds */
    size_t room;        /* how many bytes the backend takes before it is full */
    char out[256];
    size_t length;
    int accepts, changes;
    uint8_t pins, levels;
};

static void set_level(void *ctx, uint32_t level)
{
    ((struct fixture *)ctx)->level = level;
}

static uint64_t loop_now(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static uint64_t real_now(void *ctx)
{
    return ((struct fixture *)ctx)->real;
}

static long backend_write(void *ctx, const uint8_t *data, size_t length)
{
    struct fixture *f = ctx;
    size_t n = length < f->room ? length : f->room;
    assert_true(f->length + n <= sizeof(f->out));
    memcpy(f->out + f->length, data, n);
    f->length += n;
    f->room -= n;
    return (long)n;
}

static void backend_accept(void *ctx)
{
    ((struct fixture *)ctx)->accepts++;
}

static int set_up(void **state)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), backend_write, backend_accept, NULL};
    struct vmm_loop_options o = VMM_LOOP_OPTIONS_INIT;
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->room = SIZE_MAX;
    o.now = loop_now;
    o.now_ctx = f;
    if (vmm_bus_new("memory", 64, &f->bus) < 0 || vmm_loop_new(&o, &f->loop) < 0 ||
        vmm_chardev_new(&ops, f, &f->chardev) < 0)
        return -1;
    return vmm_irq_line_new_callback(set_level, f, &f->line);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_bus_unref(f->bus);
    vmm_loop_unref(f->loop);
    vmm_chardev_unref(f->chardev);
    free(f);
    return 0;
}

static uint32_t rd(struct fixture *f, uint32_t reg)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->bus, BASE + reg, 4, &value), 0);
    return (uint32_t)value;
}

static void wr(struct fixture *f, uint32_t reg, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, BASE + reg, 4, value), 0);
}

static void check_id(struct fixture *f, uint32_t part)
{
    static const uint8_t cell[] = {0x0d, 0xf0, 0x05, 0xb1};
    assert_int_equal(rd(f, 0xfe0) | (rd(f, 0xfe4) & 0xf) << 8, part);
    assert_int_equal(rd(f, 0xfe4) >> 4 | (rd(f, 0xfe8) & 0xf) << 4, 0x41); /* ARM */
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(rd(f, 0xff0 + 4 * i), cell[i]);
}

/* A device's state, with one number in it changed: refused or not. */
static int load_changed(struct vmm_device *device, const char *name, uint32_t value)
{
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *data;
    size_t length;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, &length), 0);
    vmm_state_writer_free(w);
    if (name) { /* the property's value follows its name's offset; look for it by reading it first */
        bool found = false;
        for (size_t i = 0; i + 16 <= length && !found; i += 4) {
            uint32_t was;
            memcpy(&was, (char *)data + i, 4);
            if (was != htobe32(value ^ UINT32_MAX))
                continue;
            was = htobe32(value);
            memcpy((char *)data + i, &was, 4);
            found = true;
        }
        assert_true(found);
    }
    assert_int_equal(vmm_state_reader_new(data, length, &r, NULL), 0);
    int rc = vmm_device_load(device, r, NULL);
    vmm_state_reader_free(r);
    free(data);
    return rc;
}

/* PL011 ---------------------------------------------------------------------------------------- */

enum { DR = 0, RSR = 4, FR = 0x18, LCR_H = 0x2c, CR = 0x30, IFLS = 0x34, IMSC = 0x38, RIS = 0x3c };
enum { MIS = 0x40, ICR = 0x44, FBRD = 0x28 };
enum { RXFE = 0x10, TXFF = 0x20, RXFF = 0x40, TXFE = 0x80, FEN = 0x10, ON = 0x301, LBE = 0x80 };
enum { INT_RX = 0x10, INT_TX = 0x20, INT_RT = 0x40, INT_OE = 0x400 };

static struct vmm_pl011 *uart_of(struct fixture *f)
{
    struct vmm_pl011_options o = VMM_PL011_OPTIONS_INIT;
    struct vmm_pl011 *u;
    o.name = "serial0";
    o.chardev = f->chardev;
    o.irq = f->line;
    assert_int_equal(vmm_pl011_new(&o, &u), 0);
    assert_int_equal(vmm_pl011_attach(u, f->bus, BASE, NULL), 0);
    return u;
}

static void type(struct fixture *f, const char *text)
{
    vmm_chardev_deliver(f->chardev, text, strlen(text));
}

static void pl011_after_power_on(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    check_id(f, 0x011);
    assert_int_equal(rd(f, CR), 0x300);
    assert_int_equal(rd(f, IFLS), 0x12);
    assert_int_equal(rd(f, FR) & (RXFE | TXFE | TXFF | RXFF), RXFE | TXFE);
    assert_int_equal(rd(f, RIS), 0);
    assert_int_equal(rd(f, DR), 0);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0); /* it is off */
    wr(f, IMSC, UINT32_MAX);
    assert_int_equal(rd(f, IMSC), 0x7ff);
    wr(f, FBRD, UINT32_MAX);
    assert_int_equal(rd(f, FBRD), 0x3f);
    vmm_device_reset(vmm_pl011_device(u));
    assert_int_equal(rd(f, IMSC), 0);
    vmm_pl011_unref(u);
}

static void pl011_transmits(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    wr(f, IMSC, INT_TX);
    assert_int_equal(f->level, 0);
    wr(f, DR, 'a'); /* before anybody has enabled it: a kernel's early messages */
    assert_int_equal(f->level, 1);
    wr(f, ICR, INT_TX);
    assert_int_equal(f->level, 0);
    wr(f, LCR_H, FEN);
    f->room = 2;
    for (int i = 0; i < 20; i++)
        wr(f, DR, '0' + (uint32_t)i);
    assert_int_equal(rd(f, FR) & (TXFF | TXFE), TXFF);
    assert_int_equal(f->level, 0);
    f->room = SIZE_MAX;
    vmm_chardev_writable(f->chardev);
    assert_int_equal(rd(f, FR) & (TXFF | TXFE), TXFE);
    assert_int_equal(f->level, 1);
    assert_int_equal(f->length, 1 + 2 + 16); /* what came with the FIFO full is lost */
    assert_memory_equal(f->out, "a0123456789:;<=>?@A", 19);
    vmm_pl011_unref(u);
}

static void pl011_receives(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    wr(f, CR, ON);
    assert_int_equal(f->accepts, 1); /* the backend was turned away before */
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 1);
    wr(f, LCR_H, FEN);
    wr(f, IMSC, INT_RX | INT_RT);
    type(f, "a");
    assert_int_equal(rd(f, MIS), INT_RT);
    assert_int_equal(f->level, 1);
    type(f, "bcdefgh"); /* half full */
    assert_int_equal(rd(f, MIS), INT_RT | INT_RX);
    assert_int_equal(rd(f, DR), 'a');
    assert_int_equal(rd(f, MIS), INT_RT);
    type(f, "ijklmnopq");
    assert_int_equal(rd(f, FR) & RXFF, RXFF);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(rd(f, DR), 'b' + i);
    assert_int_equal(f->level, 0);
    assert_int_equal(f->accepts, 2);
    vmm_pl011_unref(u);
}

static void pl011_loops_back_and_overruns(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    wr(f, CR, ON | LBE);
    wr(f, DR, 'x');
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    wr(f, DR, 'y'); /* one place without FIFOs */
    assert_int_equal(rd(f, RIS) & INT_OE, INT_OE);
    assert_int_equal(rd(f, RSR), 8);
    assert_int_equal(rd(f, DR), 0x800 | 'x');
    assert_int_equal(rd(f, RSR), 0);
    wr(f, DR, 'z');
    wr(f, LCR_H, FEN); /* flushes */
    assert_int_equal(rd(f, FR) & RXFE, RXFE);
    assert_int_equal(f->length, 0);
    vmm_pl011_unref(u);
}

static void pl011_is_saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    struct vmm_device *d = vmm_pl011_device(u);
    wr(f, LCR_H, FEN);
    wr(f, CR, ON);
    wr(f, IMSC, INT_RT);
    type(f, "abc");
    assert_int_equal(load_changed(d, NULL, 0), 0);
    assert_int_equal(f->level, 1);
    assert_int_equal(rd(f, DR), 'a');
    wr(f, IMSC, 0x7fe);
    assert_int_equal(load_changed(d, "imsc", ~0x7feu), -ERANGE);
    assert_int_equal(rd(f, IMSC), 0x7fe);
    assert_int_equal(rd(f, DR), 'b');
    vmm_pl011_unref(u);
}

/* Every register with many values, whatever the width: nothing to see but that it holds. */
static void pl011_takes_anything(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011 *u = uart_of(f);
    uint64_t value, random = 88172645463325252u;
    for (int i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint32_t offset = (uint32_t)(random >> 8) % (random & 64 ? 0x50 : 0xff8);
        f->length = 0;
        f->room = random >> 60;
        if (random & 1)
            (void)vmm_bus_write(f->bus, BASE + offset, 1u << (random >> 1 & 3), random >> 32);
        else
            (void)vmm_bus_read(f->bus, BASE + offset, 1u << (random >> 1 & 3), &value);
        if (random & 0x100)
            vmm_chardev_deliver(f->chardev, "0123456789abcdef",
                                vmm_chardev_can_receive(f->chardev) % 17);
        assert_int_equal(f->level, rd(f, MIS) != 0);
    }
    vmm_pl011_unref(u);
}

/* PL031 ---------------------------------------------------------------------------------------- */

enum { RTC_DR = 0, RTC_MR = 4, RTC_LR = 8, RTC_CR = 12, RTC_IMSC = 16, RTC_RIS = 20, RTC_ICR = 28 };
#define S UINT64_C(1000000000)

static struct vmm_pl031 *clock_of(struct fixture *f)
{
    struct vmm_pl031_options o = VMM_PL031_OPTIONS_INIT;
    struct vmm_pl031 *c;
    f->real = 1000000 * S + S / 4;
    o.name = "rtc";
    o.irq = f->line;
    assert_int_equal(vmm_pl031_new(&o, &c), -EINVAL); /* no loop for the alarm */
    o.loop = f->loop;
    o.clock = real_now;
    o.clock_ctx = f;
    assert_int_equal(vmm_pl031_new(&o, &c), 0);
    assert_int_equal(vmm_pl031_attach(c, f->bus, BASE, NULL), 0);
    return c;
}

static void pass(struct fixture *f, uint64_t ns)
{
    f->now += ns;
    f->real += ns;
    while (vmm_loop_dispatch(f->loop, 0) > 0)
        ;
}

static void pl031_counts_seconds(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl031 *c = clock_of(f);
    check_id(f, 0x031);
    assert_int_equal(rd(f, RTC_CR), 1);
    assert_int_equal(rd(f, RTC_DR), 1000000);
    pass(f, S);
    assert_int_equal(rd(f, RTC_DR), 1000001);
    wr(f, RTC_LR, 0xfffffffe); /* another time, and over the end of 32 bits */
    assert_int_equal(rd(f, RTC_DR), 0xfffffffe);
    pass(f, 3 * S);
    assert_int_equal(rd(f, RTC_DR), 1);
    vmm_device_reset(vmm_pl031_device(c)); /* a battery keeps it */
    assert_int_equal(rd(f, RTC_DR), 1);
    assert_int_equal(rd(f, RTC_LR), 0);
    vmm_pl031_unref(c);
}

static void pl031_has_an_alarm(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl031 *c = clock_of(f);
    wr(f, RTC_MR, 1000010);
    pass(f, 20 * S); /* not enabled: nothing waits */
    assert_int_equal(rd(f, RTC_RIS), 0);
    wr(f, RTC_MR, 1000030);
    wr(f, RTC_IMSC, 1);
    pass(f, 9 * S);
    assert_int_equal(f->level, 0);
    pass(f, S);
    assert_int_equal(f->level, 1);
    assert_int_equal(load_changed(vmm_pl031_device(c), NULL, 0), 0);
    assert_int_equal(f->level, 1);
    wr(f, RTC_ICR, 1);
    assert_int_equal(f->level, 0);
    wr(f, RTC_MR, 1000040);
    f->real += 5 * S; /* somebody sets the host's clock: the alarm follows it at its next look */
    pass(f, 10 * S);
    assert_int_equal(f->level, 0);
    vmm_pl031_unref(c);
}

/* PL061 ---------------------------------------------------------------------------------------- */

enum { DIR = 0x400, IS = 0x404, IBE = 0x408, IEV = 0x40c, IE = 0x410, G_RIS = 0x414, IC = 0x41c };
#define DATA(mask) ((mask) << 2)

static void changed(void *ctx, uint8_t pins, uint8_t levels)
{
    struct fixture *f = ctx;
    f->changes++;
    f->pins = pins;
    f->levels = levels;
}

static struct vmm_pl061 *gpio_of(struct fixture *f)
{
    struct vmm_pl061_options o = VMM_PL061_OPTIONS_INIT;
    struct vmm_pl061 *g;
    o.name = "gpio";
    o.irq = f->line;
    o.output = changed;
    o.ctx = f;
    assert_int_equal(vmm_pl061_new(&o, &g), 0);
    assert_int_equal(vmm_pl061_attach(g, f->bus, BASE, NULL), 0);
    return g;
}

static void pl061_drives_and_reads_pins(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl061 *g = gpio_of(f);
    check_id(f, 0x061);
    wr(f, DIR, 0x0f);
    wr(f, DATA(0x03u), 0xff); /* the address masks */
    assert_int_equal(rd(f, DATA(0xffu)), 0x03);
    assert_int_equal(f->changes, 1);
    assert_int_equal(f->pins, 0x0f);
    assert_int_equal(f->levels, 0x03);
    assert_int_equal(vmm_pl061_set_input(g, 7, 1), 0);
    assert_int_equal(vmm_pl061_set_input(g, 1, 0), 0); /* an output: the guest's level stays */
    assert_int_equal(rd(f, DATA(0xffu)), 0x83);
    assert_int_equal(rd(f, DATA(0x80u)), 0x80);
    assert_int_equal(vmm_pl061_set_input(g, 8, 1), -EINVAL);
    assert_int_equal(vmm_pl061_set_input(NULL, 0, 1), -EINVAL);
    vmm_device_reset(vmm_pl061_device(g));
    assert_int_equal(rd(f, DIR), 0);
    assert_int_equal(rd(f, DATA(0xffu)), 0x80);
    vmm_pl061_unref(g);
}

static void pl061_interrupts(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl061 *g = gpio_of(f);
    wr(f, IE, 0xff);
    wr(f, IEV, 0x01); /* pin 0: rising edge; pin 1: falling; pin 2: both; pin 3: high level */
    wr(f, IBE, 0x04);
    for (uint32_t pin = 0; pin < 3; pin++)
        (void)vmm_pl061_set_input(g, pin, 1);
    assert_int_equal(rd(f, G_RIS), 0x05);
    assert_int_equal(f->level, 1);
    wr(f, IC, 0x05);
    assert_int_equal(f->level, 0);
    for (uint32_t pin = 0; pin < 3; pin++)
        (void)vmm_pl061_set_input(g, pin, 0);
    assert_int_equal(rd(f, G_RIS), 0x06);
    assert_int_equal(load_changed(vmm_pl061_device(g), NULL, 0), 0);
    assert_int_equal(rd(f, G_RIS), 0x06);
    wr(f, IC, 0xff);
    wr(f, IEV, 0x08);
    wr(f, IS, 0x08);
    (void)vmm_pl061_set_input(g, 3, 1);
    assert_int_equal(f->level, 1);
    wr(f, IC, 0xff); /* a level cannot be cleared */
    assert_int_equal(f->level, 1);
    (void)vmm_pl061_set_input(g, 3, 0);
    assert_int_equal(f->level, 0);
    vmm_pl061_unref(g);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_pl011_options u = VMM_PL011_OPTIONS_INIT;
    struct vmm_pl031_options c = VMM_PL031_OPTIONS_INIT;
    struct vmm_pl061_options g = VMM_PL061_OPTIONS_INIT;
    struct vmm_pl011 *uart;
    struct vmm_pl031 *clock;
    struct vmm_pl061 *gpio;
    assert_int_equal(vmm_pl011_new(NULL, &uart), -EINVAL);
    assert_int_equal(vmm_pl031_new(NULL, &clock), -EINVAL);
    assert_int_equal(vmm_pl061_new(NULL, &gpio), -EINVAL);
    u.name = c.name = g.name = "No Such Name";
    assert_int_equal(vmm_pl011_new(&u, &uart), -EINVAL);
    assert_int_equal(vmm_pl031_new(&c, &clock), -EINVAL);
    assert_int_equal(vmm_pl061_new(&g, &gpio), -EINVAL);
    u.name = "serial0";
    u.chardev = f->chardev;
    struct vmm_pl011 *first;
    assert_int_equal(vmm_pl011_new(&u, &first), 0);
    assert_int_equal(vmm_pl011_new(&u, &uart), -EBUSY);
    vmm_pl011_unref(first);
    vmm_irq_line_free(f->line);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(pl011_after_power_on),
        TEST(pl011_transmits),
        TEST(pl011_receives),
        TEST(pl011_loops_back_and_overruns),
        TEST(pl011_is_saved_and_loaded),
        TEST(pl011_takes_anything),
        TEST(pl031_counts_seconds),
        TEST(pl031_has_an_alarm),
        TEST(pl061_drives_and_reads_pins),
        TEST(pl061_interrupts),
        TEST(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
