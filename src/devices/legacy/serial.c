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

#define MCR_DTR  0x01u
#define MCR_RTS  0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu

#define LSR_DR   0x01u
#define LSR_OE   0x02u
#define LSR_BI   0x10u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u
#define LSR_FIFO 0x80u /* a character with an error is in the FIFO */

#define MSR_DCTS 0x01u
#define MSR_DDSR 0x02u
#define MSR_TERI 0x04u
#define MSR_DDCD 0x08u
#define MSR_CTS  VMM_SERIAL_CTS
#define MSR_DSR  VMM_SERIAL_DSR
#define MSR_RI   VMM_SERIAL_RI
#define MSR_DCD  VMM_SERIAL_DCD
/* A cable with a peer that is always there. */
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)
#define MSR_LEVELS    0xf0u
#define MSR_DELTAS    0x0fu

#define FIFO_SIZE 16u

struct fifo {
    uint8_t data[FIFO_SIZE];
    bool is_break[FIFO_SIZE]; /* received: the character stands for a break */
    uint32_t head, count;
};

struct vmm_serial {
    struct vmm_device *device;
    struct vmm_chardev *chardev;
    struct vmm_irq_line *irq;
    bool attached;
    uint32_t shift;
    struct fifo rx, tx;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t lsr_errors; /* LSR_OE, LSR_BI: cleared by reading LSR */
    uint8_t divisor[2];
    uint8_t inputs;      /* levels of the modem inputs when not looped back: MSR_CTS, … */
    bool thre_interrupt; /* the transmitter has become empty and nobody has been told */
    bool rx_stopped;     /* the backend was told that there is no room */
};

static void fifo_push(struct fifo *f, uint8_t byte, bool is_break)
{
    uint32_t tail = (f->head + f->count) % FIFO_SIZE;
    f->data[tail] = byte;
    f->is_break[tail] = is_break;
    f->count++;
}

static uint8_t fifo_pop(struct fifo *f)
{
    uint8_t byte = f->data[f->head];
    f->head = (f->head + 1) % FIFO_SIZE;
    f->count--;
    return byte;
}

static uint32_t fifo_size(const struct vmm_serial *s)
{
    return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static uint32_t rx_room(const struct vmm_serial *s)
{
    return s->rx.count < fifo_size(s) ? fifo_size(s) - s->rx.count : 0;
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
    if ((s->ier & IER_MSI) && (s->msr & MSR_DELTAS))
        return IIR_MSI;
    return IIR_NONE;
}

/* On PCs the interrupt pin reaches the controller through a gate that OUT2 opens. */
static void update_irq(struct vmm_serial *s)
{
    bool connected = s->mcr & MCR_OUT2;
    (void)vmm_irq_line_set(s->irq, connected && interrupt_cause(s) != IIR_NONE);
}

/* Receiver ------------------------------------------------------------------------------------- */

/* Whatever is wrong with a character is told when it is the next to be read (data sheet, 8.4). */
static void reveal_break(struct vmm_serial *s)
{
    if (s->rx.count > 0 && s->rx.is_break[s->rx.head]) {
        s->rx.is_break[s->rx.head] = false;
        s->lsr_errors |= LSR_BI;
    }
}

/* Overrun: the FIFO keeps what it has; without it the new character takes the old one's place. */
static void receive_byte(struct vmm_serial *s, uint8_t byte, bool is_break)
{
    if (rx_room(s) == 0) {
        s->lsr_errors |= LSR_OE;
        if (s->fcr & FCR_ENABLE)
            return;
        fifo_pop(&s->rx);
    }
    fifo_push(&s->rx, byte, is_break);
    reveal_break(s);
}

/* Tell a backend that was turned away that there is room. Only when all has been read: the next
 * sixteen bytes then cost one round through the event loop, not sixteen. */
static void resume_rx(struct vmm_serial *s)
{
    if (!s->rx_stopped || s->rx.count > 0 || (s->mcr & MCR_LOOP))
        return;
    s->rx_stopped = false;
    vmm_chardev_accept(s->chardev);
}

/* Transmitter ---------------------------------------------------------------------------------- */

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
        receive_byte(s, byte, false);
        s->thre_interrupt = true;
        return;
    }
    s->thre_interrupt = false;
    if (s->tx.count >= fifo_size(s))
        return; /* the guest did not look at THRE: the chip loses it too */
    fifo_push(&s->tx, byte, false);
    drain_tx(s);
}

/* Registers ------------------------------------------------------------------------------------ */

static uint8_t read_rbr(struct vmm_serial *s)
{
    if (s->rx.count == 0)
        return 0;
    uint8_t byte = fifo_pop(&s->rx);
    reveal_break(s);
    resume_rx(s);
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

static bool break_in_fifo(const struct vmm_serial *s)
{
    for (uint32_t i = 0; i < s->rx.count; i++)
        if (s->rx.is_break[(s->rx.head + i) % FIFO_SIZE])
            return true;
    return false;
}

static uint8_t read_lsr(struct vmm_serial *s)
{
    uint8_t lsr = s->lsr_errors;
    if ((s->fcr & FCR_ENABLE) && ((lsr & LSR_BI) || break_in_fifo(s)))
        lsr |= LSR_FIFO;
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
    s->msr &= MSR_LEVELS;
    return msr;
}

/* New levels of the modem inputs, and what has changed since MSR was read. RI counts when it goes
 * from active to inactive. */
static void set_levels(struct vmm_serial *s, uint8_t levels)
{
    uint8_t changed = (uint8_t)((s->msr ^ levels) & MSR_LEVELS);
    uint8_t deltas = s->msr & MSR_DELTAS;
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
static uint8_t modem_levels(const struct vmm_serial *s)
{
    if (!(s->mcr & MCR_LOOP))
        return s->inputs;
    return (uint8_t)((s->mcr & MCR_DTR ? MSR_DSR : 0) | (s->mcr & MCR_RTS ? MSR_CTS : 0) |
                     (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct vmm_serial *s, uint8_t value)
{
    s->mcr = value & MCR_MASK;
    set_levels(s, modem_levels(s));
    resume_rx(s);
}

static void clear_rx(struct vmm_serial *s)
{
    s->rx = (struct fifo){.count = 0};
    resume_rx(s);
}

static void clear_tx(struct vmm_serial *s)
{
    s->tx = (struct fifo){0};
    s->thre_interrupt = true;
}

/* Bits other than the enable bit count only together with it; its change clears both FIFOs. */
static void write_fcr(struct vmm_serial *s, uint8_t value)
{
    bool enable = value & FCR_ENABLE;
    bool toggled = (s->fcr ^ value) & FCR_ENABLE;
    s->fcr = enable ? value & FCR_KEPT : 0;
    if (toggled || (enable && (value & FCR_CLEAR_RX)))
        clear_rx(s);
    if (toggled || (enable && (value & FCR_CLEAR_TX)))
        clear_tx(s);
}

static void write_ier(struct vmm_serial *s, uint8_t value)
{
    /* Enabling the transmitter's interrupt while it is empty raises it (data sheet, 8.6.2). */
    if (!(s->ier & IER_THRE) && (value & IER_THRE) && s->tx.count == 0)
        s->thre_interrupt = true;
    s->ier = value & IER_MASK;
}

static uint8_t read_register(struct vmm_serial *s, uint32_t number)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (number) {
    case REG_DATA:
        return dlab ? s->divisor[0] : read_rbr(s);
    case REG_IER:
        return dlab ? s->divisor[1] : s->ier;
    case REG_IIR_FCR:
        return read_iir(s);
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        return read_lsr(s);
    case REG_MSR:
        return read_msr(s);
    default:
        return s->scr;
    }
}

static void write_register(struct vmm_serial *s, uint32_t number, uint8_t value)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (number) {
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
}

/* Where registers lie apart, a byte between two of them is nobody's. */
static bool between_registers(const struct vmm_serial *s, uint64_t offset)
{
    return offset & ((1u << s->shift) - 1);
}

uint64_t vmm_serial_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_serial *s = ctx;
    (void)width;
    if (between_registers(s, offset))
        return 0;
    uint8_t value = read_register(s, (offset >> s->shift) & 7);
    update_irq(s);
    return value;
}

void vmm_serial_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_serial *s = ctx;
    (void)width;
    if (between_registers(s, offset))
        return;
    write_register(s, (offset >> s->shift) & 7, (uint8_t)value);
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
        receive_byte(s, data[i], false);
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

/* Lines that the embedder drives --------------------------------------------------------------- */

void vmm_serial_send_break(struct vmm_serial *s)
{
    vmm_device_lock(s->device);
    if (!(s->mcr & MCR_LOOP))
        receive_byte(s, 0, true);
    update_irq(s);
    vmm_device_unlock(s->device);
}

void vmm_serial_set_modem_inputs(struct vmm_serial *s, uint32_t inputs)
{
    vmm_device_lock(s->device);
    s->inputs = inputs & MSR_LEVELS;
    set_levels(s, modem_levels(s));
    update_irq(s);
    vmm_device_unlock(s->device);
}

/* Reset, save, load ---------------------------------------------------------------------------- */

/* The data sheet's table of reset states; the divisor and the scratch register have none there. */
static void reset(void *ctx)
{
    struct vmm_serial *s = ctx;
    drain_tx(s); /* a guest that reboots has said its last words before */
    s->ier = s->fcr = s->lcr = s->mcr = s->scr = s->lsr_errors = 0;
    s->divisor[0] = 12; /* 9600 baud */
    s->divisor[1] = 0;
    s->msr = s->inputs;
    clear_rx(s);
    clear_tx(s);
    s->thre_interrupt = false;
    update_irq(s);
}

static int save_fifo(struct vmm_state_writer *w, const char *name, const struct fifo *f)
{
    uint8_t data[FIFO_SIZE];
    for (uint32_t i = 0; i < f->count; i++)
        data[i] = f->data[(f->head + i) % FIFO_SIZE];
    return vmm_state_put_bytes(w, name, data, f->count);
}

static uint32_t breaks_of(const struct fifo *f)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < f->count; i++)
        bits |= (uint32_t)f->is_break[(f->head + i) % FIFO_SIZE] << i;
    return bits;
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_serial *s = ctx;
    (void)vmm_state_put_u32(w, "ier", s->ier);
    (void)vmm_state_put_u32(w, "fcr", s->fcr);
    (void)vmm_state_put_u32(w, "lcr", s->lcr);
    (void)vmm_state_put_u32(w, "mcr", s->mcr);
    (void)vmm_state_put_u32(w, "lsr-errors", s->lsr_errors);
    (void)vmm_state_put_u32(w, "msr", s->msr);
    (void)vmm_state_put_u32(w, "scr", s->scr);
    (void)vmm_state_put_u32(w, "divisor", s->divisor[0] | (uint32_t)s->divisor[1] << 8);
    (void)vmm_state_put_u32(w, "inputs", s->inputs);
    (void)vmm_state_put_u32(w, "thre-interrupt", s->thre_interrupt);
    (void)save_fifo(w, "rx", &s->rx);
    (void)vmm_state_put_u32(w, "rx-breaks", breaks_of(&s->rx));
    return save_fifo(w, "tx", &s->tx);
}

/* The saved registers before anything is taken over. */
struct saved {
    uint32_t ier, fcr, lcr, mcr, lsr_errors, msr, scr, divisor, inputs, thre_interrupt, breaks;
    struct fifo rx, tx;
};

static int load_registers(struct vmm_state_reader *r, struct saved *in, struct vmm_error *err)
{
    const struct {
        const char *name;
        uint32_t mask; /* of the bits that there are */
        uint32_t *value;
    } fields[] = {
        {"ier", IER_MASK, &in->ier},
        {"fcr", FCR_KEPT, &in->fcr},
        {"lcr", 0xff, &in->lcr},
        {"mcr", MCR_MASK, &in->mcr},
        {"lsr-errors", LSR_OE | LSR_BI, &in->lsr_errors},
        {"msr", MSR_LEVELS | MSR_DELTAS, &in->msr},
        {"scr", 0xff, &in->scr},
        {"divisor", 0xffff, &in->divisor},
        {"inputs", MSR_LEVELS, &in->inputs},
        {"thre-interrupt", 1, &in->thre_interrupt},
        {"rx-breaks", 0xffff, &in->breaks},
    };
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++) {
        int rc = vmm_state_get_u32(r, fields[i].name, fields[i].mask, fields[i].value, err);
        if (rc)
            return rc;
        if (*fields[i].value & ~fields[i].mask)
            return vmm_error_set(err, -EINVAL, "serial %s: 0x%x has bits outside 0x%x",
                                 fields[i].name, *fields[i].value, fields[i].mask);
    }
    if (in->fcr && !(in->fcr & FCR_ENABLE))
        return vmm_error_set(err, -EINVAL, "serial fcr: 0x%x with the FIFOs disabled", in->fcr);
    return 0;
}

static int load_fifo(struct vmm_state_reader *r, const char *name, uint32_t size, struct fifo *f,
                     struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, name, &data, &length, err);
    if (rc)
        return rc;
    if (length > size)
        return vmm_error_set(err, -EINVAL, "serial %s: %zu bytes, but there is room for %u", name,
                             length, size);
    f->count = (uint32_t)length;
    if (length > 0)
        memcpy(f->data, data, length);
    return 0;
}

static int load_all(struct vmm_state_reader *r, struct saved *in, struct vmm_error *err)
{
    int rc = load_registers(r, in, err);
    uint32_t size = in->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
    if (!rc)
        rc = load_fifo(r, "rx", size, &in->rx, err);
    if (!rc)
        rc = load_fifo(r, "tx", size, &in->tx, err);
    if (rc)
        return rc;
    if (in->breaks >> in->rx.count)
        return vmm_error_set(err, -EINVAL, "serial rx-breaks: 0x%x for %u characters", in->breaks,
                             in->rx.count);
    for (uint32_t i = 0; i < in->rx.count; i++)
        in->rx.is_break[i] = in->breaks >> i & 1;
    return 0;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_serial *s = ctx;
    struct saved in = {0};
    (void)version;
    int rc = load_all(r, &in, err);
    if (rc)
        return rc;
    s->ier = (uint8_t)in.ier;
    s->fcr = (uint8_t)in.fcr;
    s->lcr = (uint8_t)in.lcr;
    s->mcr = (uint8_t)in.mcr;
    s->lsr_errors = (uint8_t)in.lsr_errors;
    s->msr = (uint8_t)in.msr;
    s->scr = (uint8_t)in.scr;
    s->divisor[0] = (uint8_t)in.divisor;
    s->divisor[1] = (uint8_t)(in.divisor >> 8);
    s->inputs = (uint8_t)in.inputs;
    s->rx = in.rx;
    s->tx = in.tx;
    s->thre_interrupt = in.thre_interrupt;
    if (s->tx.count > 0)
        drain_tx(s); /* its own backend may have room for what the old one had none for */
    resume_rx(s);
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
    if (!given || !out)
        return -EINVAL;
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
    s->inputs = MSR_CONNECTED;
    reset(s);
    /* All must stand before the backend knows its user: it may call at once, from its thread. */
    s->irq = options.irq;
    s->chardev = vmm_chardev_ref(options.chardev);
    rc = s->chardev ? vmm_chardev_set_user(s->chardev, &user, s) : 0;
    if (rc) {
        s->irq = NULL;
        vmm_device_unref(s->device);
        return rc;
    }
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

static int check_attach(const struct vmm_serial *s, uint32_t shift, struct vmm_error *err)
{
    const char *name = vmm_device_name(s->device);
    if (shift > 3)
        return vmm_error_set(err, -EINVAL, "%s: a register shift of %u; 0 to 3 there are", name,
                             shift);
    if (s->attached && s->shift != shift)
        return vmm_error_set(err, -EBUSY, "%s: is on a bus with a register shift of %u already",
                             name, s->shift);
    return 0;
}

int vmm_serial_attach(struct vmm_serial *s, struct vmm_bus *bus, uint64_t address, uint32_t shift,
                      struct vmm_error *err)
{
    int rc = check_attach(s, shift, err);
    if (rc)
        return rc;
    s->shift = shift;
    /* A register is as wide as its place; only the low byte counts. */
    struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = vmm_serial_read,
        .write = vmm_serial_write,
        .min_width = 1,
        .max_width = 1u << shift,
    };
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(s->device);
    region.address = address;
    region.length = (uint64_t)8 << shift;
    region.device = s->device;
    region.ops = &ops;
    region.ctx = s;
    rc = vmm_bus_add(bus, &region, NULL, err);
    s->attached = s->attached || rc == 0;
    return rc;
}
