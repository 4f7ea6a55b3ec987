/* SPDX-License-Identifier: BSD-3-Clause */
/* The UART against the PC16550D data sheet, and against a backend that takes nothing. */
#include "devices/legacy/serial.h"
#include "test.h"

#include <libvmm/serial.h>

#include <errno.h>
#include <string.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

struct fixture {
    struct vmm_serial *serial;
    struct vmm_chardev *chardev;
    struct vmm_irq_line *line;
    uint32_t level;
    int edges;
    /* the backend */
    size_t room; /* how many bytes it takes before it is full */
    long fail;   /* an error to return instead */
    char out[4096];
    size_t length;
    int writes, accepts;
};

static void set_level(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->edges += level && !f->level;
    f->level = level;
}

static long backend_write(void *ctx, const uint8_t *data, size_t length)
{
    struct fixture *f = ctx;
    f->writes++;
    if (f->fail)
        return f->fail;
    size_t n = length < f->room ? length : f->room;
    assert_true(f->length + n < sizeof(f->out));
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
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->room = SIZE_MAX;
    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    if (vmm_chardev_new(&ops, f, &f->chardev) < 0 ||
        vmm_irq_line_new_callback(set_level, f, &f->line) < 0)
        return -1;
    options.name = "serial0";
    options.chardev = f->chardev;
    options.irq = f->line;
    return vmm_serial_new(&options, &f->serial);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_serial_unref(f->serial);
    vmm_chardev_unref(f->chardev);
    free(f);
    return 0;
}

static uint8_t rd(struct fixture *f, uint32_t reg)
{
    vmm_device_lock(vmm_serial_device(f->serial));
    uint8_t value = (uint8_t)vmm_serial_read(f->serial, reg, 1);
    vmm_device_unlock(vmm_serial_device(f->serial));
    return value;
}

static void wr(struct fixture *f, uint32_t reg, uint8_t value)
{
    vmm_device_lock(vmm_serial_device(f->serial));
    vmm_serial_write(f->serial, reg, 1, value);
    vmm_device_unlock(vmm_serial_device(f->serial));
}

static void type(struct fixture *f, const char *text)
{
    size_t n = strlen(text);
    assert_true(vmm_chardev_can_receive(f->chardev) >= n);
    vmm_chardev_deliver(f->chardev, text, n);
}

static void check_power_on(struct fixture *f)
{
    assert_int_equal(rd(f, IER), 0);
    assert_int_equal(rd(f, IIR), 0x01);
    assert_int_equal(rd(f, LCR), 0);
    assert_int_equal(rd(f, MCR), 0);
    assert_int_equal(rd(f, LSR), 0x60);
    assert_int_equal(rd(f, MSR), 0xb0);
    assert_int_equal(rd(f, SCR), 0);
    assert_int_equal(rd(f, DATA), 0);
    assert_int_equal(f->level, 0);
}

static void registers_after_power_on_and_reset(void **state)
{
    struct fixture *f = *state;
    check_power_on(f);
    wr(f, FCR, 0xc1);
    type(f, "abc");
    for (uint32_t reg = 0; reg < 8; reg++)
        wr(f, reg, 0x5f);
    wr(f, MCR, 0x0b);
    vmm_device_reset(vmm_serial_device(f->serial));
    check_power_on(f);
}

static void plain_registers_keep_the_bits_there_are(void **state)
{
    struct fixture *f = *state;
    wr(f, SCR, 0xa5);
    assert_int_equal(rd(f, SCR), 0xa5);
    wr(f, IER, 0xff);
    assert_int_equal(rd(f, IER), 0x0f);
    wr(f, MCR, 0xff);
    assert_int_equal(rd(f, MCR), 0x1f);
    wr(f, LCR, 0x7f);
    assert_int_equal(rd(f, LCR), 0x7f);
    wr(f, LCR, 0x83);
    wr(f, DATA, 0x34);
    wr(f, IER, 0x12);
    assert_int_equal(rd(f, DATA), 0x34);
    assert_int_equal(rd(f, IER), 0x12);
    wr(f, LCR, 0x03);
    assert_int_equal(rd(f, IER), 0x0f);
    assert_int_equal(f->length, 0); /* the divisor was not sent */
}

static void fifo_control(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rd(f, IIR) & 0xc0, 0);
    wr(f, FCR, 0xc6); /* without the enable bit the others do nothing */
    assert_int_equal(rd(f, IIR) & 0xc0, 0);
    type(f, "a");
    wr(f, FCR, 0x02);
    assert_int_equal(rd(f, LSR) & 1, 1);
    wr(f, FCR, 0x01); /* enabling clears */
    assert_int_equal(rd(f, IIR) & 0xc0, 0xc0);
    assert_int_equal(rd(f, LSR) & 1, 0);
    type(f, "bc");
    wr(f, FCR, 0x81); /* a new trigger level clears nothing */
    assert_int_equal(rd(f, DATA), 'b');
    wr(f, FCR, 0x83);
    assert_int_equal(rd(f, LSR) & 1, 0);
    type(f, "d");
    wr(f, FCR, 0);
    assert_int_equal(rd(f, LSR) & 1, 0);
}

static void output_goes_out_at_once(void **state)
{
    struct fixture *f = *state;
    for (const char *p = "hello"; *p; p++)
        wr(f, DATA, (uint8_t)*p);
    assert_string_equal(f->out, "hello");
    assert_int_equal(f->writes, 5);
    assert_int_equal(rd(f, LSR), 0x60);
    assert_int_equal(f->edges, 0);
}

static void transmitter_interrupt(void **state)
{
    struct fixture *f = *state;
    wr(f, MCR, 0x08);
    wr(f, IER, 0x02); /* empty when enabled: at once */
    assert_int_equal(f->level, 1);
    assert_int_equal(rd(f, IIR), 0x02);
    assert_int_equal(f->level, 0); /* reading IIR took it back */
    assert_int_equal(rd(f, IIR), 0x01);
    wr(f, IER, 0x02); /* enabled already: nothing new */
    assert_int_equal(f->level, 0);
    wr(f, DATA, 'x');
    assert_int_equal(f->level, 1);
    int edges = f->edges;
    for (int i = 0; i < 15; i++)
        wr(f, DATA, 'x'); /* a FIFO's worth in the handler: one edge, no storm */
    assert_int_equal(f->edges, edges);
    assert_int_equal(rd(f, IIR), 0x02);
    wr(f, IER, 0);
    wr(f, IER, 0x02);
    assert_int_equal(f->level, 1); /* what Linux looks for when it starts a port */
}

static void out2_gates_the_interrupt(void **state)
{
    struct fixture *f = *state;
    wr(f, IER, 0x02);
    assert_int_equal(f->level, 0);
    assert_int_equal(rd(f, LSR), 0x60);
    wr(f, MCR, 0x08);
    assert_int_equal(f->level, 1);
    wr(f, MCR, 0x00);
    assert_int_equal(f->level, 0);
}

static void receiver_interrupt_at_each_trigger_level(void **state)
{
    struct fixture *f = *state;
    static const uint8_t levels[] = {1, 4, 8, 14};
    wr(f, MCR, 0x08);
    wr(f, IER, 0x01);
    for (uint8_t i = 0; i < 4; i++) {
        wr(f, FCR, (uint8_t)(i << 6 | 0x03));
        for (int n = 1; n <= 16; n++) {
            type(f, "x");
            assert_int_equal(f->level, 1); /* below the level it is the time-out */
            assert_int_equal(rd(f, IIR), n >= levels[i] ? 0xc4 : 0xcc);
        }
        for (int n = 15; n >= 0; n--) {
            rd(f, DATA);
            assert_int_equal(rd(f, IIR), n == 0 ? 0xc1 : n >= levels[i] ? 0xc4 : 0xcc);
        }
        assert_int_equal(f->level, 0);
    }
}

static void interrupts_come_by_priority(void **state)
{
    struct fixture *f = *state;
    wr(f, MCR, 0x08);
    wr(f, FCR, 0x01);
    wr(f, IER, 0x0f);
    type(f, "a");
    vmm_serial_send_break(f->serial);
    rd(f, DATA); /* now the break is at the top */
    vmm_serial_set_modem_inputs(f->serial, 0);
    assert_int_equal(rd(f, IIR), 0xc6);
    assert_int_equal(rd(f, LSR), 0xf1); /* break, an error in the FIFO, data, transmitter empty */
    assert_int_equal(rd(f, LSR), 0x61);
    assert_int_equal(rd(f, IIR), 0xc4);
    assert_int_equal(rd(f, DATA), 0);
    assert_int_equal(rd(f, IIR), 0xc2);
    assert_int_equal(rd(f, IIR), 0xc0);
    assert_int_equal(rd(f, IIR), 0xc0); /* only reading MSR takes that back */
    assert_int_equal(rd(f, MSR), 0x0b);
    assert_int_equal(rd(f, IIR), 0xc1);
    assert_int_equal(f->level, 0);
}

static void break_is_told_with_its_character(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 0x01);
    type(f, "a");
    vmm_serial_send_break(f->serial);
    type(f, "b");
    assert_int_equal(rd(f, LSR), 0xe1); /* somewhere in the FIFO */
    assert_int_equal(rd(f, DATA), 'a');
    assert_int_equal(rd(f, LSR), 0xf1);
    assert_int_equal(rd(f, DATA), 0);
    assert_int_equal(rd(f, LSR), 0x61);
    assert_int_equal(rd(f, DATA), 'b');
    wr(f, FCR, 0x00);
    vmm_serial_send_break(f->serial); /* without FIFOs: at once, and bit 7 is always 0 */
    assert_int_equal(rd(f, LSR), 0x71);
}

static void overrun(void **state)
{
    struct fixture *f = *state;
    vmm_chardev_deliver(f->chardev, "a", 1); /* a backend that asks nobody */
    vmm_chardev_deliver(f->chardev, "b", 1);
    assert_int_equal(rd(f, LSR), 0x63);
    assert_int_equal(rd(f, LSR), 0x61);
    assert_int_equal(rd(f, DATA), 'b'); /* the register holds the last */
    wr(f, FCR, 0x01);
    vmm_chardev_deliver(f->chardev, "0123456789abcdefgh", 18);
    assert_int_equal(rd(f, LSR), 0x63);
    for (int i = 0; i < 16; i++)
        assert_int_equal(rd(f, DATA), "0123456789abcdef"[i]); /* the FIFO holds the first */
    assert_int_equal(rd(f, LSR), 0x60);
}

static void input_stops_and_goes_on(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 1);
    wr(f, FCR, 0x01);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 16);
    type(f, "0123456789abcdef");
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    int accepts = f->accepts;
    for (int i = 0; i < 15; i++)
        rd(f, DATA);
    assert_int_equal(f->accepts, accepts); /* not for each byte */
    rd(f, DATA);
    assert_int_equal(f->accepts, accepts + 1);
    type(f, "0123456789abcdef");
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    wr(f, FCR, 0x03);
    assert_int_equal(f->accepts, accepts + 2);
    /* Input that comes while the guest looks at itself is turned away, and then asked for. */
    wr(f, MCR, 0x10);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    wr(f, MCR, 0x00);
    assert_int_equal(f->accepts, accepts + 3);
    type(f, "x");
    vmm_device_reset(vmm_serial_device(f->serial));
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 1);
}

static void loopback(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 0x01);
    wr(f, MCR, 0x10);
    wr(f, DATA, 'L');
    assert_int_equal(f->length, 0);
    assert_int_equal(rd(f, LSR), 0x61);
    assert_int_equal(rd(f, DATA), 'L');
    static const uint8_t wiring[][2] = {{0x1, 0x20}, {0x2, 0x10}, {0x4, 0x40}, {0x8, 0x80}};
    for (int i = 0; i < 4; i++) {
        wr(f, MCR, (uint8_t)(0x10 | wiring[i][0]));
        assert_int_equal(rd(f, MSR) & 0xf0, wiring[i][1]);
    }
    wr(f, MCR, 0x10);
    rd(f, MSR);
    wr(f, MCR, 0x14); /* RI: its delta comes when it goes away */
    assert_int_equal(rd(f, MSR), 0x40);
    wr(f, MCR, 0x10);
    assert_int_equal(rd(f, MSR), 0x04);
    wr(f, MCR, 0x1b);
    assert_int_equal(rd(f, MSR), 0xbb);
    assert_int_equal(rd(f, MSR), 0xb0); /* deltas are cleared by reading */
    wr(f, IER, 0x03);                   /* interrupts work, through OUT2 */
    wr(f, DATA, 'M');
    assert_int_equal(f->level, 1);
    assert_int_equal(rd(f, IIR), 0xc4);
    vmm_serial_send_break(f->serial); /* the line is not connected */
    assert_int_equal(rd(f, DATA), 'M');
    assert_int_equal(rd(f, LSR), 0x60);
    for (int i = 0; i < 20; i++)
        wr(f, DATA, (uint8_t)i);
    assert_int_equal(rd(f, LSR), 0x63);
}

static void full_backend_keeps_the_transmitter_full(void **state)
{
    struct fixture *f = *state;
    wr(f, MCR, 0x08);
    wr(f, FCR, 0x01);
    f->room = 2;
    wr(f, DATA, 'a');
    wr(f, DATA, 'b');
    assert_int_equal(rd(f, LSR), 0x60);
    wr(f, IER, 0x02);
    rd(f, IIR);
    for (int i = 0; i < 16; i++) {
        wr(f, DATA, (uint8_t)('c' + i));
        assert_int_equal(rd(f, LSR), 0x00);
        assert_int_equal(f->level, 0);
    }
    for (int i = 0; i < 100000; i++) /* a guest that does not look: no more than the FIFO is kept */
        wr(f, DATA, '!');
    assert_int_equal(f->length, 2);
    f->room = 5;
    vmm_chardev_writable(f->chardev);
    assert_int_equal(f->level, 0); /* not empty yet */
    assert_int_equal(rd(f, LSR), 0x00);
    f->room = SIZE_MAX;
    vmm_chardev_writable(f->chardev);
    assert_int_equal(f->level, 1);
    assert_int_equal(rd(f, IIR), 0xc2);
    assert_int_equal(rd(f, LSR), 0x60);
    assert_string_equal(f->out, "abcdefghijklmnopqr");
    vmm_chardev_writable(f->chardev); /* out of the blue: no interrupt from nothing */
    assert_int_equal(f->level, 0);
}

static void without_fifo_one_character_waits(void **state)
{
    struct fixture *f = *state;
    f->room = 0;
    wr(f, DATA, 'a');
    wr(f, DATA, 'b');
    assert_int_equal(rd(f, LSR), 0x00);
    f->room = SIZE_MAX;
    vmm_chardev_writable(f->chardev);
    assert_string_equal(f->out, "a");
}

static void clearing_the_transmitter_drops_what_waits(void **state)
{
    struct fixture *f = *state;
    wr(f, FCR, 0x01);
    f->room = 0;
    wr(f, DATA, 'a');
    wr(f, FCR, 0x05);
    assert_int_equal(rd(f, LSR), 0x60);
    f->room = SIZE_MAX;
    vmm_chardev_writable(f->chardev);
    assert_int_equal(f->length, 0);
}

static void failing_or_closed_backend_does_not_stop_the_guest(void **state)
{
    struct fixture *f = *state;
    f->fail = -EIO;
    wr(f, DATA, 'a');
    assert_int_equal(rd(f, LSR), 0x60);
    f->fail = 0;
    f->room = 0;
    wr(f, DATA, 'b');
    assert_int_equal(rd(f, LSR), 0x00);
    f->room = SIZE_MAX; /* a backend without a peer takes all and drops it */
    vmm_chardev_event(f->chardev, VMM_CHARDEV_CLOSED);
    assert_int_equal(rd(f, LSR), 0x60);
    vmm_chardev_event(f->chardev, VMM_CHARDEV_OPENED);
}

static void works_without_backend_and_line(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    options.name = "serial1";
    assert_int_equal(vmm_serial_new(&options, &f.serial), 0);
    wr(&f, IER, 0x0f);
    wr(&f, MCR, 0x08);
    for (int i = 0; i < 100; i++)
        wr(&f, DATA, 'x');
    assert_int_equal(rd(&f, LSR), 0x60);
    wr(&f, MCR, 0x10);
    wr(&f, DATA, 'x');
    assert_int_equal(rd(&f, DATA), 'x');
    wr(&f, MCR, 0);
    wr(&f, FCR, 0x07);
    vmm_serial_unref(f.serial);
    assert_null(vmm_serial_unref(NULL));
}

static void making_one_checks_its_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_serial *s = NULL;
    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    assert_int_equal(vmm_serial_new(NULL, &s), -EINVAL);
    assert_int_equal(vmm_serial_new(&options, &s), -EINVAL); /* no name */
    options.name = "Serial 0";
    assert_int_equal(vmm_serial_new(&options, &s), -EINVAL);
    options.name = "serial1";
    assert_int_equal(vmm_serial_new(&options, NULL), -EINVAL);
    options.chardev = f->chardev;
    options.irq = f->line; /* stays ours when it fails */
    assert_int_equal(vmm_serial_new(&options, &s), -EBUSY);
    assert_null(s);
    wr(f, MCR, 0x08);
    wr(f, IER, 0x02);
    assert_int_equal(f->level, 1);
}

/* On a bus ------------------------------------------------------------------------------------- */

static void registers_on_buses(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_bus *ports, *mmio;
    assert_int_equal(vmm_bus_new("port", 16, &ports), 0);
    assert_int_equal(vmm_bus_new("mmio", 64, &mmio), 0);
    assert_int_equal(vmm_serial_attach(f->serial, ports, 0x3f8, 4, &err), -EINVAL);
    assert_int_equal(vmm_serial_attach(f->serial, ports, 0x3f8, 0, &err), 0);
    assert_int_equal(vmm_serial_attach(f->serial, mmio, 0x1000, 2, &err), -EBUSY);
    assert_int_equal(vmm_serial_attach(f->serial, ports, 0x3ff, 0, &err), -EEXIST);
    uint64_t value;
    assert_int_equal(vmm_bus_write(ports, 0x3ff, 1, 0x42), 0);
    assert_int_equal(vmm_bus_read(ports, 0x3fe, 2, &value), 0); /* split: MSR and SCR */
    assert_int_equal(value, 0x42b0);
    assert_int_equal(vmm_bus_read(ports, 0x400, 1, &value), -ENOENT);
    vmm_bus_unref(ports);

    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    struct vmm_serial *s;
    options.name = "serial-mmio";
    assert_int_equal(vmm_serial_new(&options, &s), 0);
    assert_int_equal(vmm_serial_attach(s, mmio, 0x1000, 2, &err), 0);
    vmm_serial_unref(s); /* the bus holds it */
    assert_int_equal(vmm_bus_write(mmio, 0x101c, 4, 0x11223344), 0);
    assert_int_equal(vmm_bus_read(mmio, 0x101c, 4, &value), 0);
    assert_int_equal(value, 0x44);
    assert_int_equal(vmm_bus_write(mmio, 0x101d, 1, 0x55), 0); /* between two registers */
    assert_int_equal(vmm_bus_read(mmio, 0x101d, 1, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(vmm_bus_read(mmio, 0x101c, 1, &value), 0);
    assert_int_equal(value, 0x44);
    vmm_bus_unref(mmio);
}

/* State ---------------------------------------------------------------------------------------- */

static void *save_blob(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_serial_device(f->serial), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static int load_blob(struct fixture *f, const void *blob, size_t length, struct vmm_error *err)
{
    struct vmm_state_reader *r;
    int ret = vmm_state_reader_new(blob, length, &r, err);
    if (ret == 0) {
        ret = vmm_device_load(vmm_serial_device(f->serial), r, err);
        vmm_state_reader_free(r);
    }
    return ret;
}

static void save_and_load_keep_every_field(void **state)
{
    struct fixture *f = *state;
    wr(f, LCR, 0x83);
    wr(f, DATA, 0x01);
    wr(f, IER, 0x02);
    wr(f, LCR, 0x1b);
    wr(f, FCR, 0x81);
    wr(f, MCR, 0x0b);
    wr(f, SCR, 0x77);
    vmm_serial_set_modem_inputs(f->serial, VMM_SERIAL_DSR | VMM_SERIAL_RI);
    type(f, "r1");
    vmm_serial_send_break(f->serial);
    type(f, "r2");
    f->room = 0;
    wr(f, DATA, 't');
    wr(f, DATA, 'u');
    wr(f, IER, 0x0d);
    size_t length, again_length;
    void *blob = save_blob(f, &length);

    vmm_device_reset(vmm_serial_device(f->serial));
    vmm_serial_set_modem_inputs(f->serial, 0);
    f->length = 0;
    assert_int_equal(f->level, 0);
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(load_blob(f, blob, length, &err), 0);
    assert_string_equal(err.text, "");
    assert_int_equal(f->level, 1);
    void *again = save_blob(f, &again_length);
    assert_int_equal(length, again_length);
    assert_memory_equal(blob, again, length);
    free(again);

    assert_int_equal(rd(f, IER), 0x0d);
    assert_int_equal(rd(f, LCR), 0x1b);
    assert_int_equal(rd(f, MCR), 0x0b);
    assert_int_equal(rd(f, MSR), 0x69);
    assert_int_equal(rd(f, SCR), 0x77);
    assert_int_equal(rd(f, LSR), 0x81);
    assert_int_equal(rd(f, DATA), 'r');
    assert_int_equal(rd(f, DATA), '1');
    assert_int_equal(rd(f, LSR), 0x91);
    assert_int_equal(rd(f, DATA), 0);
    assert_int_equal(rd(f, DATA), 'r');
    assert_int_equal(rd(f, DATA), '2');
    f->room = SIZE_MAX;
    vmm_chardev_writable(f->chardev);
    assert_memory_equal(f->out, "tu", 2);
    wr(f, LCR, 0x80);
    assert_int_equal(rd(f, DATA), 0x01);
    assert_int_equal(rd(f, IER), 0x02);
    free(blob);
}

/* A state with one field changed. */
static int load_with(struct fixture *f, const char *name, uint32_t value, struct vmm_error *err)
{
    static const char *const fields[] = {"ier",      "fcr", "lcr",     "mcr",    "lsr-errors",
                                         "msr",      "scr", "divisor", "inputs", "thre-interrupt",
                                         "rx-breaks"};
    struct vmm_state_writer *w;
    void *blob;
    size_t length;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    vmm_state_begin(w, "serial0", 1);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        vmm_state_put_u32(w, fields[i], strcmp(fields[i], name) == 0 ? value : 0);
    uint8_t bytes[17] = {0};
    vmm_state_put_bytes(w, "rx", bytes, strcmp("rx", name) == 0 ? value : 0);
    vmm_state_put_bytes(w, "tx", bytes, strcmp("tx", name) == 0 ? value : 0);
    vmm_state_end(w);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    int ret = load_blob(f, blob, length, err);
    free(blob);
    return ret;
}

static void forged_state_is_refused_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        uint32_t value;
        int code;
    } forged[] = {
        {"ier", 0x10, -ERANGE},        {"fcr", 0x06, -EINVAL},     {"fcr", 0xc0, -EINVAL},
        {"fcr", 0x100, -ERANGE},       {"lcr", 0x100, -ERANGE},    {"mcr", 0x20, -ERANGE},
        {"lsr-errors", 0x20, -ERANGE}, {"lsr-errors", 4, -EINVAL}, {"msr", 0x100, -ERANGE},
        {"divisor", 0x10000, -ERANGE}, {"inputs", 0x01, -EINVAL},  {"thre-interrupt", 2, -ERANGE},
        {"rx-breaks", 1, -EINVAL},     {"rx", 2, -EINVAL},         {"tx", 17, -EINVAL},
    };
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(load_with(f, "none", 0, &err), 0);
    wr(f, SCR, 0x99);
    wr(f, FCR, 0x01);
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        assert_int_equal(load_with(f, forged[i].name, forged[i].value, &err), forged[i].code);
        assert_non_null(strstr(err.text, forged[i].name));
        assert_int_equal(rd(f, SCR), 0x99);
        assert_int_equal(rd(f, IIR), 0xc1);
    }
}

static void waiting_output_goes_out_after_a_load(void **state)
{
    struct fixture *f = *state;
    wr(f, MCR, 0x08);
    wr(f, FCR, 0x01);
    wr(f, IER, 0x02);
    f->room = 0;
    rd(f, IIR);
    wr(f, DATA, 'w');
    size_t length;
    void *blob = save_blob(f, &length);
    vmm_device_reset(vmm_serial_device(f->serial));
    f->room = SIZE_MAX;
    f->length = 0;
    assert_int_equal(load_blob(f, blob, length, NULL), 0);
    assert_string_equal(f->out, "w");
    assert_int_equal(f->level, 1); /* and the guest learns that it is out */
    free(blob);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_after_power_on_and_reset),
        TEST(plain_registers_keep_the_bits_there_are),
        TEST(fifo_control),
        TEST(output_goes_out_at_once),
        TEST(transmitter_interrupt),
        TEST(out2_gates_the_interrupt),
        TEST(receiver_interrupt_at_each_trigger_level),
        TEST(interrupts_come_by_priority),
        TEST(break_is_told_with_its_character),
        TEST(overrun),
        TEST(input_stops_and_goes_on),
        TEST(loopback),
        TEST(full_backend_keeps_the_transmitter_full),
        TEST(without_fifo_one_character_waits),
        TEST(clearing_the_transmitter_drops_what_waits),
        TEST(failing_or_closed_backend_does_not_stop_the_guest),
        cmocka_unit_test(works_without_backend_and_line),
        TEST(making_one_checks_its_options),
        TEST(registers_on_buses),
        TEST(save_and_load_keep_every_field),
        TEST(forged_state_is_refused_and_changes_nothing),
        TEST(waiting_output_goes_out_after_a_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
