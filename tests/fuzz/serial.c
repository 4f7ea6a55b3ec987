/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The UART between a guest that does anything to its registers and a backend that takes and gives as
 * it likes. Checked: output of a guest that looks at THRE arrives whole and in order, at most a
 * FIFO is kept, and a saved state loads into another UART and saves as the same again.
 */
#include "devices/legacy/serial.h"
#include "fuzz.h"

#include <libvmm/serial.h>

#include <stdlib.h>
#include <string.h>

enum { DATA, IER, FCR, LCR, MCR, LSR };

struct world {
    struct vmm_serial *serial, *twin;
    struct vmm_chardev *chardev;
    size_t room;
    long error;
    uint8_t next_out; /* of the numbers that the polite guest sends */
    uint8_t next_in;
    bool polite; /* until something drops output on purpose */
};

static long backend_write(void *ctx, const uint8_t *data, size_t length)
{
    struct world *w = ctx;
    if (w->error) {
        w->polite = false;
        return w->error;
    }
    size_t n = length < w->room ? length : w->room;
    w->room -= n;
    for (size_t i = 0; i < n && w->polite; i++)
        FUZZ_CHECK(data[i] == w->next_in++);
    return (long)n;
}

static uint8_t rd(struct world *w, uint32_t reg)
{
    vmm_device_lock(vmm_serial_device(w->serial));
    uint64_t value = vmm_serial_read(w->serial, reg, 1);
    vmm_device_unlock(vmm_serial_device(w->serial));
    FUZZ_CHECK(value <= 0xff);
    return (uint8_t)value;
}

static void wr(struct world *w, uint32_t reg, uint8_t value)
{
    vmm_device_lock(vmm_serial_device(w->serial));
    vmm_serial_write(w->serial, reg, 1, value);
    vmm_device_unlock(vmm_serial_device(w->serial));
}

/* As drivers do: a FIFO's worth when the transmitter is empty. */
static void send_politely(struct world *w, uint8_t most)
{
    if ((rd(w, LCR) & 0x80) || (rd(w, MCR) & 0x10) || !(rd(w, LSR) & 0x20))
        return;
    int count = (rd(w, FCR) & 0xc0) ? most % 16 + 1 : 1;
    while (count-- > 0)
        wr(w, DATA, w->next_out++);
}

/* Let everything out, and begin to count anew. */
static void settle(struct world *w)
{
    w->error = 0;
    w->room = SIZE_MAX;
    vmm_chardev_writable(w->chardev);
    FUZZ_CHECK(rd(w, LSR) & 0x20);
    FUZZ_CHECK(!w->polite || w->next_in == w->next_out);
    w->next_in = w->next_out;
    w->polite = true;
    w->room = 0;
}

static void *save(struct vmm_serial *serial, size_t *length)
{
    struct vmm_state_writer *writer;
    void *blob;
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    FUZZ_CHECK(vmm_device_save(vmm_serial_device(serial), writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, &blob, length) == 0);
    vmm_state_writer_free(writer);
    return blob;
}

static int load(struct vmm_serial *serial, const void *blob, size_t length)
{
    struct vmm_state_reader *reader;
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &reader, NULL) == 0);
    int ret = vmm_device_load(vmm_serial_device(serial), reader, NULL);
    vmm_state_reader_free(reader);
    return ret;
}

/* Through a twin that has no backend, unless output waits: the twin would send it. */
static void save_and_load(struct world *w)
{
    size_t length, twin_length;
    bool waits = !(rd(w, LSR) & 0x20);
    void *blob = save(w->serial, &length);
    FUZZ_CHECK(load(w->twin, blob, length) == 0);
    void *again = save(w->twin, &twin_length);
    if (!waits)
        FUZZ_CHECK(length == twin_length && memcmp(blob, again, length) == 0);
    FUZZ_CHECK(load(w->serial, blob, length) == 0);
    free(again);
    free(blob);
}

static void deliver(struct world *w, struct fuzz_input *in)
{
    uint8_t data[32];
    size_t room = vmm_chardev_can_receive(w->chardev);
    size_t n = fuzz_u8(in) % sizeof(data);
    FUZZ_CHECK(room <= 16);
    memset(data, fuzz_u8(in), sizeof(data));
    vmm_chardev_deliver(w->chardev, data, n); /* now and then more than there is room for */
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in), arg = fuzz_u8(in);
    uint32_t reg = op & 7;
    switch (op >> 3 & 15) {
    case 0:
    case 1:
        (void)rd(w, reg);
        break;
    case 2:
    case 3:
        if (reg == DATA || reg == FCR)
            w->polite = false;
        wr(w, reg, arg);
        break;
    case 4:
        deliver(w, in);
        break;
    case 5:
        w->room = arg % 20;
        vmm_chardev_writable(w->chardev);
        break;
    case 6:
        w->error = arg % 8 == 1 ? -5 : 0;
        vmm_chardev_event(w->chardev, arg % 3);
        break;
    case 7:
        vmm_serial_send_break(w->serial);
        break;
    case 8:
        vmm_serial_set_modem_inputs(w->serial, arg);
        break;
    case 9:
        save_and_load(w);
        break;
    case 10:
        w->polite = false;
        vmm_device_reset(vmm_serial_device(w->serial));
        break;
    case 11:
        settle(w);
        break;
    default:
        send_politely(w, arg);
        break;
    }
}

static void set_level(void *ctx, uint32_t level)
{
    (void)ctx;
    FUZZ_CHECK(level <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), backend_write, NULL, NULL};
    struct world w = {.polite = true};
    struct fuzz_input in = {data, size};
    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    FUZZ_CHECK(vmm_chardev_new(&ops, &w, &w.chardev) == 0);
    FUZZ_CHECK(vmm_irq_line_new_callback(set_level, NULL, &options.irq) == 0);
    options.name = "serial0";
    options.chardev = w.chardev;
    FUZZ_CHECK(vmm_serial_new(&options, &w.serial) == 0);
    options.chardev = NULL;
    options.irq = NULL;
    FUZZ_CHECK(vmm_serial_new(&options, &w.twin) == 0);
    if (fuzz_u8(&in) & 1)
        wr(&w, FCR, 1);
    while (in.left > 0)
        step(&w, &in);
    settle(&w);
    vmm_serial_unref(w.serial);
    vmm_serial_unref(w.twin);
    vmm_chardev_unref(w.chardev);
    return 0;
}
