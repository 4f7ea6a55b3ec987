/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 16550A UART. Register and bit names are those of the PC16550D data sheet (National, 1995).
 *
 * Differences from the chip, none of which software can tell but by a clock: characters take no
 * time, so a received character below the FIFO's trigger level makes the time-out interrupt at
 * once, and the transmitter is empty again when the backend has taken the character. When the
 * backend takes none, the transmitter stays full until it does: nothing is lost, and no more than
 * the FIFO is kept.
 */
#include "devices/legacy/serial.h"
#include "base/util.h"

#include <libvmm/serial.h>

#include <stdlib.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDA  0x01u
#define IER_THRE 0x02u
#define IER_RLS  0x04u
#define IER_MSI  0x08u
#define IER_MASK 0x0fu

#define IIR_NONE    0x01u
#define IIR_MSI     0x00u
#define IIR_THRE    0x02u
#define IIR_RDA     0x04u
#define IIR_RLS     0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFOS   0xc0u

#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_CLEAR_TX 0x04u
#define FCR_KEPT     0xc9u /* enable, DMA mode, trigger level */

#define LCR_DLAB 0x80u

#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu

#define LSR_DR     0x01u
#define LSR_OE     0x02u
#define LSR_PE     0x04u
#define LSR_FE     0x08u
#define LSR_BI     0x10u
#define LSR_THRE   0x20u
#define LSR_TEMT   0x40u
#define LSR_ERRORS (LSR_OE | LSR_PE | LSR_FE | LSR_BI)

#define MSR_DCTS 0x01u
#define MSR_DDSR 0x02u
#define MSR_TERI 0x04u
#define MSR_DDCD 0x08u
#define MSR_CTS  0x10u
#define MSR_DSR  0x20u
#define MSR_RI   0x40u
#define MSR_DCD  0x80u
/* A cable with a peer that is always there. */
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

#define FIFO_SIZE 16u

struct fifo {
    uint8_t data[FIFO_SIZE];
    uint32_t head, count;
};

struct vmm_serial {
    struct vmm_device *device;
    struct vmm_chardev *chardev;
    struct vmm_irq_line *irq;
    uint32_t shift;
    struct fifo rx, tx;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t lsr_errors; /* LSR_OE: cleared by reading LSR */
    uint8_t divisor[2];
    bool thre_interrupt; /* the transmitter has become empty and nobody has been told */
    bool rx_stopped;     /* the backend was told that there is no room */
};

static void fifo_push(struct fifo *f, uint8_t byte)
{
    f->data[(f->head + f->count) % FIFO_SIZE] = byte;
    f->count++;
}

static uint8_t fifo_pop(struct fifo *f)
{
    uint8_t byte = f->data[f->head];
    f->head = (f->head + 1) % FIFO_SIZE;
    f->count--;
    return byte;
}

static uint32_t rx_room(const struct vmm_serial *s)
{
    uint32_t size = s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
    return s->rx.count < size ? size - s->rx.count : 0;
}

static uint32_t rx_trigger(const struct vmm_serial *s)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* Interrupts ----------------------------------------------------------------------------------- */

/* The cause of the highest priority (data sheet, table IV). */
static uint8_t interrupt_cause(const struct vmm_serial *s)
{
    if ((s->ier & IER_RLS) && s->lsr_errors)
        return IIR_RLS;
    if ((s->ier & IER_RDA) && s->rx.count >= rx_trigger(s))
        return IIR_RDA;
    if ((s->ier & IER_RDA) && s->rx.count > 0)
        return IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_interrupt)
        return IIR_THRE;
    if ((s->ier & IER_MSI) && (s->msr & 0x0f))
        return IIR_MSI;
    return IIR_NONE;
}

/* On PCs the interrupt pin is connected through OUT2; looped back, that output has no meaning. */
static void update_irq(struct vmm_serial *s)
{
    bool connected = s->mcr & (MCR_OUT2 | MCR_LOOP);
    (void)vmm_irq_line_set(s->irq, connected && interrupt_cause(s) != IIR_NONE);
}

/* Transmitter ---------------------------------------------------------------------------------- */

static void receive_byte(struct vmm_serial *s, uint8_t byte)
{
    if (rx_room(s) > 0)
        fifo_push(&s->rx, byte);
    else
        s->lsr_errors |= LSR_OE;
}

/* Give the backend what it takes. A backend that fails loses the bytes, as an open cable does. */
static void drain_tx(struct vmm_serial *s)
{
    while (s->tx.count > 0) {
        uint32_t run = FIFO_SIZE - s->tx.head;
        run = run < s->tx.count ? run : s->tx.count;
        long taken = s->chardev ? vmm_chardev_write(s->chardev, &s->tx.data[s->tx.head], run) : run;
        if (taken == 0)
            return;
        if (taken < 0 || (unsigned long)taken > run)
            taken = (long)run;
        s->tx.head = (s->tx.head + (uint32_t)taken) % FIFO_SIZE;
        s->tx.count -= (uint32_t)taken;
    }
    s->thre_interrupt = true;
}

static void transmit(struct vmm_serial *s, uint8_t byte)
{
    if (s->mcr & MCR_LOOP) {
        receive_byte(s, byte);
        s->thre_interrupt = true;
        return;
    }
    s->thre_interrupt = false;
    if (s->tx.count == (s->fcr & FCR_ENABLE ? FIFO_SIZE : 1))
        return; /* the guest did not look at THRE: the chip loses it too */
    fifo_push(&s->tx, byte);
    drain_tx(s);
}

/* Registers ------------------------------------------------------------------------------------ */

static uint8_t read_rbr(struct vmm_serial *s)
{
    if (s->rx.count == 0)
        return 0;
    uint8_t byte = fifo_pop(&s->rx);
    if (s->rx_stopped) {
        s->rx_stopped = false;
        if (s->chardev)
            vmm_chardev_accept(s->chardev);
    }
    return byte;
}

/* Reading IIR takes back the transmitter's interrupt if that is the one it shows. */
static uint8_t read_iir(struct vmm_serial *s)
{
    uint8_t cause = interrupt_cause(s);
    if (cause == IIR_THRE)
        s->thre_interrupt = false;
    return cause | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct vmm_serial *s)
{
    uint8_t lsr = s->lsr_errors;
    s->lsr_errors = 0;
    if (s->rx.count > 0)
        lsr |= LSR_DR;
    if (s->tx.count == 0)
        lsr |= LSR_THRE | LSR_TEMT;
    return lsr;
}

static uint8_t read_msr(struct vmm_serial *s)
{
    uint8_t msr = s->msr;
    s->msr &= 0xf0;
    return msr;
}

/* New levels of the modem inputs, and what has changed since MSR was read. RI counts when it goes
 * from active to inactive. */
static void set_modem_inputs(struct vmm_serial *s, uint8_t levels)
{
    uint8_t changed = (uint8_t)((s->msr ^ levels) & 0xf0);
    uint8_t deltas = s->msr & 0x0f;
    if (changed & MSR_CTS)
        deltas |= MSR_DCTS;
    if (changed & MSR_DSR)
        deltas |= MSR_DDSR;
    if ((changed & MSR_RI) && !(levels & MSR_RI))
        deltas |= MSR_TERI;
    if (changed & MSR_DCD)
        deltas |= MSR_DDCD;
    s->msr = (uint8_t)(levels | deltas);
}

/* Looped back, the four outputs are the four inputs: DTR is DSR, RTS is CTS, OUT1 RI, OUT2 DCD. */
static void write_mcr(struct vmm_serial *s, uint8_t value)
{
    s->mcr = value & MCR_MASK;
    uint8_t levels = MSR_CONNECTED;
    if (s->mcr & MCR_LOOP)
        levels = (uint8_t)((s->mcr & 0x01 ? MSR_DSR : 0) | (s->mcr & 0x02 ? MSR_CTS : 0) |
                           (s->mcr & 0x04 ? MSR_RI : 0) | (s->mcr & 0x08 ? MSR_DCD : 0));
    set_modem_inputs(s, levels);
}

static void clear_rx(struct vmm_serial *s)
{
    s->rx = (struct fifo){0};
    if (s->rx_stopped) {
        s->rx_stopped = false;
        if (s->chardev)
            vmm_chardev_accept(s->chardev);
    }
}

static void clear_tx(struct vmm_serial *s)
{
    s->tx = (struct fifo){0};
    s->thre_interrupt = true;
}

/* Bits other than the enable bit count only together with it; its change clears both FIFOs. */
static void write_fcr(struct vmm_serial *s, uint8_t value)
{
    bool toggled = (s->fcr ^ value) & FCR_ENABLE;
    if (toggled || (value & FCR_CLEAR_RX))
        clear_rx(s);
    if (toggled || (value & FCR_CLEAR_TX))
        clear_tx(s);
    s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
}

static void write_ier(struct vmm_serial *s, uint8_t value)
{
    /* Enabling the transmitter's interrupt while it is empty raises it (data sheet, 8.6.2). */
    if (!(s->ier & IER_THRE) && (value & IER_THRE) && s->tx.count == 0)
        s->thre_interrupt = true;
    s->ier = value & IER_MASK;
}

uint64_t vmm_serial_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_serial *s = ctx;
    (void)width;
    uint8_t value = 0;
    bool dlab = s->lcr & LCR_DLAB;
    switch ((offset >> s->shift) & 7) {
    case REG_DATA:
        value = dlab ? s->divisor[0] : read_rbr(s);
        break;
    case REG_IER:
        value = dlab ? s->divisor[1] : s->ier;
        break;
    case REG_IIR_FCR:
        value = read_iir(s);
        break;
    case REG_LCR:
        value = s->lcr;
        break;
    case REG_MCR:
        value = s->mcr;
        break;
    case REG_LSR:
        value = read_lsr(s);
        break;
    case REG_MSR:
        value = read_msr(s);
        break;
    case REG_SCR:
        value = s->scr;
        break;
    }
    update_irq(s);
    return value;
}

void vmm_serial_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value64)
{
    struct vmm_serial *s = ctx;
    (void)width;
    uint8_t value = (uint8_t)value64;
    bool dlab = s->lcr & LCR_DLAB;
    switch ((offset >> s->shift) & 7) {
    case REG_DATA:
        if (dlab)
            s->divisor[0] = value;
        else
            transmit(s, value);
        break;
    case REG_IER:
        if (dlab)
            s->divisor[1] = value;
        else
            write_ier(s, value);
        break;
    case REG_IIR_FCR:
        write_fcr(s, value);
        break;
    case REG_LCR:
        s->lcr = value;
        break;
    case REG_MCR:
        write_mcr(s, value);
        break;
    case REG_SCR:
        s->scr = value;
        break;
    default: /* LSR and MSR: writing is for factory tests */
        break;
    }
    update_irq(s);
}

/* The backend ---------------------------------------------------------------------------------- */

static size_t can_receive(void *ctx)
{
    struct vmm_serial *s = ctx;
    vmm_device_lock(s->device);
    size_t room = s->mcr & MCR_LOOP ? 0 : rx_room(s);
    s->rx_stopped = room == 0;
    vmm_device_unlock(s->device);
    return room;
}

static void receive(void *ctx, const uint8_t *data, size_t length)
{
    struct vmm_serial *s = ctx;
    vmm_device_lock(s->device);
    for (size_t i = 0; i < length; i++)
        receive_byte(s, data[i]);
    update_irq(s);
    vmm_device_unlock(s->device);
}

static void writable(void *ctx)
{
    struct vmm_serial *s = ctx;
    vmm_device_lock(s->device);
    if (s->tx.count > 0)
        drain_tx(s);
    update_irq(s);
    vmm_device_unlock(s->device);
}

static void peer_event(void *ctx, uint32_t event)
{
    if (event == VMM_CHARDEV_CLOSED)
        writable(ctx); /* the backend drops what it gets now */
}

/* Reset, save, load ---------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_serial *s = ctx;
    clear_rx(s);
    clear_tx(s);
    s->thre_interrupt = false;
    s->ier = s->fcr = s->lcr = s->mcr = s->lsr_errors = 0;
    s->divisor[0] =
        12; /* 9600 baud; the chip leaves it undefined, as it does the scratch register */
    s->divisor[1] = 0;
    s->msr = MSR_CONNECTED;
    update_irq(s);
}

static int save_fifo(struct vmm_state_writer *w, const char *name, const struct fifo *f)
{
    uint8_t data[FIFO_SIZE];
    for (uint32_t i = 0; i < f->count; i++)
        data[i] = f->data[(f->head + i) % FIFO_SIZE];
    return vmm_state_put_bytes(w, name, data, f->count);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_serial *s = ctx;
    uint8_t registers[] = {s->ier, s->fcr,        s->lcr,        s->mcr,       s->msr,
                           s->scr, s->lsr_errors, s->divisor[0], s->divisor[1]};
    (void)vmm_state_put_bytes(w, "registers", registers, sizeof(registers));
    (void)vmm_state_put_u32(w, "thre-interrupt", s->thre_interrupt);
    (void)save_fifo(w, "rx", &s->rx);
    return save_fifo(w, "tx", &s->tx);
}

static int load_fifo(struct vmm_state_reader *r, const char *name, struct fifo *f,
                     struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, name, &data, &length, err);
    if (rc)
        return rc;
    if (length > FIFO_SIZE)
        return vmm_error_set(err, -EINVAL, "%s: %zu bytes are more than the FIFO's 16", name,
                             length);
    *f = (struct fifo){.count = (uint32_t)length};
    memcpy(f->data, data, length);
    return 0;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_serial *s = ctx;
    uint8_t registers[9];
    uint32_t thre;
    struct fifo rx, tx;
    (void)version;
    int rc = vmm_state_get_bytes(r, "registers", registers, sizeof(registers), err);
    if (!rc)
        rc = vmm_state_get_u32(r, "thre-interrupt", 1, &thre, err);
    if (!rc)
        rc = load_fifo(r, "rx", &rx, err);
    if (!rc)
        rc = load_fifo(r, "tx", &tx, err);
    if (rc)
        return rc;
    s->ier = registers[0] & IER_MASK;
    s->fcr = registers[1] & FCR_ENABLE ? registers[1] & FCR_KEPT : 0;
    s->lcr = registers[2];
    s->mcr = registers[3] & MCR_MASK;
    s->msr = registers[4];
    s->scr = registers[5];
    s->lsr_errors = registers[6] & LSR_ERRORS;
    s->divisor[0] = registers[7];
    s->divisor[1] = registers[8];
    s->thre_interrupt = thre;
    s->rx = rx;
    s->tx = tx;
    drain_tx(s);
    s->thre_interrupt = thre || (tx.count > 0 && s->tx.count == 0);
    update_irq(s);
    return 0;
}

/* Making --------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct vmm_serial *s = ctx;
    vmm_chardev_unref(s->chardev);
    vmm_irq_line_free(s->irq);
    free(s);
}

int vmm_serial_new(const struct vmm_serial_options *given, struct vmm_serial **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    static const struct vmm_chardev_user user = {
        .size = sizeof(user),
        .can_receive = can_receive,
        .receive = receive,
        .writable = writable,
        .event = peer_event,
    };
    struct vmm_serial_options options;
    int rc = vmm_options_copy(&options, sizeof(options), given);
    if (rc)
        return rc;
    struct vmm_serial *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    rc = vmm_device_new(options.name, &ops, s, &s->device);
    if (rc) {
        free(s);
        return rc;
    }
    reset(s);
    if (options.chardev) {
        rc = vmm_chardev_set_user(options.chardev, &user, s);
        if (rc) {
            vmm_device_unref(s->device);
            return rc;
        }
        s->chardev = vmm_chardev_ref(options.chardev);
    }
    s->irq = options.irq;
    *out = s;
    return 0;
}

struct vmm_serial *vmm_serial_unref(struct vmm_serial *s)
{
    if (s) {
        /* No callback may find the device gone: the backend lets go of it first. */
        if (s->chardev)
            (void)vmm_chardev_set_user(s->chardev, NULL, NULL);
        vmm_device_unref(s->device);
    }
    return NULL;
}

struct vmm_device *vmm_serial_device(struct vmm_serial *s)
{
    return s->device;
}

int vmm_serial_attach(struct vmm_serial *s, struct vmm_bus *bus, uint64_t address, uint32_t shift,
                      struct vmm_error *err)
{
    /* A register is as wide as its place; only the low byte counts. */
    struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = vmm_serial_read,
        .write = vmm_serial_write,
        .min_width = 1,
        .max_width = 1u << (shift & 3),
    };
    if (shift > 3)
        return vmm_error_set(err, -EINVAL, "serial registers: a shift of %u", shift);
    s->shift = shift;
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(s->device);
    region.address = address;
    region.length = (uint64_t)8 << shift;
    region.device = s->device;
    region.ops = &ops;
    region.ctx = s;
    return vmm_bus_add(bus, &region, NULL, err);
}
