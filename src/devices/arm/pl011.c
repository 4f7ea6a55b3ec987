/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The UART PL011. Register and bit names are those of ARM DDI 0183G, chapter 3.
 *
 * Characters take no time, as in serial.c: the transmit FIFO is empty when the backend has taken it, and a
 * received character below the trigger level makes the time-out interrupt at once. The transmitter works
 * whether or not it is enabled, since there is no firmware that enables it for a kernel's early messages.
 */
#include "devices/arm/primecell.h"

#include <stdlib.h>

#define PART     0x011u
#define REVISION 2u /* r1p4: FIFOs of 16 */

#define REG_DR    0x00u
#define REG_RSR   0x04u
#define REG_FR    0x18u
#define REG_ILPR  0x20u
#define REG_IBRD  0x24u
#define REG_FBRD  0x28u
#define REG_LCR_H 0x2cu
#define REG_CR    0x30u
#define REG_IFLS  0x34u
#define REG_IMSC  0x38u
#define REG_RIS   0x3cu
#define REG_MIS   0x40u
#define REG_ICR   0x44u
#define REG_DMACR 0x48u

#define FR_CTS  0x01u
#define FR_DSR  0x02u
#define FR_DCD  0x04u
#define FR_RXFE 0x10u
#define FR_TXFF 0x20u
#define FR_RXFF 0x40u
#define FR_TXFE 0x80u

#define LCR_FEN 0x10u

#define CR_UARTEN 0x0001u
#define CR_LBE    0x0080u
#define CR_TXE    0x0100u
#define CR_RXE    0x0200u
#define CR_RESET  (CR_TXE | CR_RXE)
#define CR_MASK   0xff87u

#define INT_RX   0x010u
#define INT_TX   0x020u
#define INT_RT   0x040u
#define INT_OE   0x400u
#define INT_MASK 0x7ffu

#define RSR_OE 0x8u
#define DR_OE  0x800u

#define IFLS_RESET 0x12u
#define IFLS_MASK  0x3fu

#define FIFO_SIZE 16u

struct fifo {
    uint8_t data[FIFO_SIZE];
    uint32_t head, count;
};

struct vmm_pl011 {
    struct vmm_device *device;
    struct vmm_chardev *chardev;
    struct vmm_irq_line *irq;
    struct fifo rx, tx;
    uint32_t lcr, cr, ifls, imsc, ris, ilpr, ibrd, fbrd, dmacr;
    bool overrun;    /* RSR's bit, and of the next character to be read */
    bool rx_stopped; /* the backend was told that there is no room */
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

static uint32_t fifo_size(const struct vmm_pl011 *u)
{
    return u->lcr & LCR_FEN ? FIFO_SIZE : 1;
}

/* IFLS: 1/8, 1/4, 1/2, 3/4, 7/8 full. */
static uint32_t rx_trigger(const struct vmm_pl011 *u)
{
    static const uint8_t levels[] = {2, 4, 8, 12, 14, 14, 14, 14};
    return u->lcr & LCR_FEN ? levels[u->ifls >> 3 & 7] : 1;
}

static void update_irq(struct vmm_pl011 *u)
{
    (void)vmm_irq_line_set(u->irq, (u->ris & u->imsc) != 0);
}

/* Receiver ------------------------------------------------------------------------------------- */

static bool can_take(const struct vmm_pl011 *u)
{
    return (u->cr & (CR_UARTEN | CR_RXE)) == (CR_UARTEN | CR_RXE);
}

static void receive_byte(struct vmm_pl011 *u, uint8_t byte)
{
    if (!can_take(u))
        return;
    if (u->rx.count >= fifo_size(u)) { /* what is in the FIFO stays */
        u->overrun = true;
        u->ris |= INT_OE;
        return;
    }
    fifo_push(&u->rx, byte);
    u->ris |= u->rx.count >= rx_trigger(u) ? INT_RX : INT_RT;
}

/* Only when all has been read: the next characters then cost one turn of the loop, not one each. */
static void resume_rx(struct vmm_pl011 *u)
{
    if (!u->rx_stopped || u->rx.count > 0 || !can_take(u) || u->cr & CR_LBE)
        return;
    u->rx_stopped = false;
    vmm_chardev_accept(u->chardev);
}

static uint32_t read_data(struct vmm_pl011 *u)
{
    if (u->rx.count == 0)
        return 0;
    uint32_t value = fifo_pop(&u->rx) | (u->overrun ? DR_OE : 0);
    u->overrun = false;
    if (u->rx.count < rx_trigger(u))
        u->ris &= ~INT_RX;
    if (u->rx.count == 0)
        u->ris &= ~INT_RT;
    resume_rx(u);
    return value;
}

/* Transmitter ---------------------------------------------------------------------------------- */

/* Give the backend what it takes. One that fails loses the bytes, as an open cable does. */
static void drain_tx(struct vmm_pl011 *u)
{
    while (u->tx.count > 0) {
        uint32_t run = FIFO_SIZE - u->tx.head;
        run = run < u->tx.count ? run : u->tx.count;
        long taken = u->chardev ? vmm_chardev_write(u->chardev, &u->tx.data[u->tx.head], run) : run;
        if (taken == 0)
            return;
        if (taken < 0 || (unsigned long)taken > run)
            taken = (long)run;
        u->tx.head = (u->tx.head + (uint32_t)taken) % FIFO_SIZE;
        u->tx.count -= (uint32_t)taken;
    }
    u->ris |= INT_TX;
}

static void transmit(struct vmm_pl011 *u, uint8_t byte)
{
    if (u->cr & CR_LBE) {
        receive_byte(u, byte);
        u->ris |= INT_TX;
        return;
    }
    if (u->tx.count >= fifo_size(u))
        return; /* the guest did not look at TXFF */
    u->ris &= ~INT_TX;
    fifo_push(&u->tx, byte);
    drain_tx(u);
}

/* Registers ------------------------------------------------------------------------------------ */

static uint32_t flags(const struct vmm_pl011 *u)
{
    return FR_CTS | FR_DSR | FR_DCD | (u->rx.count == 0 ? FR_RXFE : 0) |
           (u->rx.count >= fifo_size(u) ? FR_RXFF : 0) | (u->tx.count == 0 ? FR_TXFE : 0) |
           (u->tx.count >= fifo_size(u) ? FR_TXFF : 0);
}

static uint32_t read_register(struct vmm_pl011 *u, uint32_t offset)
{
    switch (offset) {
    case REG_DR:
        return read_data(u);
    case REG_RSR:
        return u->overrun ? RSR_OE : 0;
    case REG_FR:
        return flags(u);
    case REG_ILPR:
        return u->ilpr;
    case REG_IBRD:
        return u->ibrd;
    case REG_FBRD:
        return u->fbrd;
    case REG_LCR_H:
        return u->lcr;
    case REG_CR:
        return u->cr;
    case REG_IFLS:
        return u->ifls;
    case REG_IMSC:
        return u->imsc;
    case REG_RIS:
        return u->ris;
    case REG_MIS:
        return u->ris & u->imsc;
    case REG_DMACR:
        return u->dmacr;
    default:
        return offset >= PRIMECELL_ID_START ? primecell_id(offset, PART, REVISION) : 0;
    }
}

static void write_register(struct vmm_pl011 *u, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case REG_DR:
        transmit(u, (uint8_t)value);
        break;
    case REG_RSR: /* ECR: any value clears */
        u->overrun = false;
        break;
    case REG_ILPR:
        u->ilpr = value & 0xff;
        break;
    case REG_IBRD:
        u->ibrd = value & 0xffff;
        break;
    case REG_FBRD:
        u->fbrd = value & 0x3f;
        break;
    case REG_LCR_H:
        if ((u->lcr ^ value) & LCR_FEN) /* the FIFOs are flushed */
            u->rx.count = u->tx.count = 0;
        u->lcr = value & 0xff;
        resume_rx(u);
        break;
    case REG_CR:
        u->cr = value & CR_MASK;
        resume_rx(u);
        break;
    case REG_IFLS:
        u->ifls = value & IFLS_MASK;
        break;
    case REG_IMSC:
        u->imsc = value & INT_MASK;
        break;
    case REG_ICR:
        u->ris &= ~value;
        break;
    case REG_DMACR:
        u->dmacr = value & 7; /* there is no DMA controller to ask */
        break;
    default:
        break;
    }
}

static uint64_t read_page(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_pl011 *u = ctx;
    (void)width;
    if (offset & 3)
        return 0;
    uint32_t value = read_register(u, (uint32_t)offset);
    update_irq(u);
    return value;
}

static void write_page(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pl011 *u = ctx;
    (void)width;
    if (offset & 3)
        return;
    write_register(u, (uint32_t)offset, (uint32_t)value);
    update_irq(u);
}

/* The backend ---------------------------------------------------------------------------------- */

static size_t can_receive(void *ctx)
{
    struct vmm_pl011 *u = ctx;
    vmm_device_lock(u->device);
    size_t room = can_take(u) && !(u->cr & CR_LBE) ? fifo_size(u) - u->rx.count : 0;
    room = u->rx.count > fifo_size(u) ? 0 : room;
    u->rx_stopped = room == 0;
    vmm_device_unlock(u->device);
    return room;
}

static void receive(void *ctx, const uint8_t *data, size_t length)
{
    struct vmm_pl011 *u = ctx;
    vmm_device_lock(u->device);
    for (size_t i = 0; i < length; i++)
        receive_byte(u, data[i]);
    update_irq(u);
    vmm_device_unlock(u->device);
}

static void writable(void *ctx)
{
    struct vmm_pl011 *u = ctx;
    vmm_device_lock(u->device);
    if (u->tx.count > 0)
        drain_tx(u);
    update_irq(u);
    vmm_device_unlock(u->device);
}

static void peer_event(void *ctx, uint32_t event)
{
    if (event == VMM_CHARDEV_CLOSED)
        writable(ctx); /* the backend drops what it gets now */
}

/* Reset, save, load ---------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_pl011 *u = ctx;
    drain_tx(u); /* a guest that reboots has said its last words before */
    u->rx = u->tx = (struct fifo){.count = 0};
    u->lcr = u->imsc = u->ris = u->ilpr = u->ibrd = u->fbrd = u->dmacr = 0;
    u->cr = CR_RESET;
    u->ifls = IFLS_RESET;
    u->overrun = false;
    update_irq(u);
}

/* Registers as they are saved, and their bits. */
static const struct {
    const char *name;
    size_t offset;
    uint32_t mask;
} fields[] = {
    {"lcr", offsetof(struct vmm_pl011, lcr), 0xff},
    {"cr", offsetof(struct vmm_pl011, cr), CR_MASK},
    {"ifls", offsetof(struct vmm_pl011, ifls), IFLS_MASK},
    {"imsc", offsetof(struct vmm_pl011, imsc), INT_MASK},
    {"ris", offsetof(struct vmm_pl011, ris), INT_MASK},
    {"ilpr", offsetof(struct vmm_pl011, ilpr), 0xff},
    {"ibrd", offsetof(struct vmm_pl011, ibrd), 0xffff},
    {"fbrd", offsetof(struct vmm_pl011, fbrd), 0x3f},
    {"dmacr", offsetof(struct vmm_pl011, dmacr), 7},
};

static uint32_t *field(struct vmm_pl011 *u, size_t i)
{
    return (uint32_t *)(void *)((char *)u + fields[i].offset);
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
    struct vmm_pl011 *u = ctx;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++)
        (void)vmm_state_put_u32(w, fields[i].name, *field(u, i));
    (void)vmm_state_put_u32(w, "overrun", u->overrun);
    (void)save_fifo(w, "rx", &u->rx);
    return save_fifo(w, "tx", &u->tx);
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
        return vmm_error_set(err, -EINVAL, "pl011 %s: %zu bytes, but there is room for %u", name,
                             length, size);
    *f = (struct fifo){.count = (uint32_t)length};
    if (length > 0)
        memcpy(f->data, data, length);
    return 0;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pl011 *u = ctx, in = {0};
    uint32_t overrun = 0;
    int rc = 0;
    (void)version;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields) && !rc; i++) {
        rc = vmm_state_get_u32(r, fields[i].name, fields[i].mask, field(&in, i), err);
        if (!rc && *field(&in, i) & ~fields[i].mask)
            rc = vmm_error_set(err, -EINVAL, "pl011 %s: 0x%x has bits outside 0x%x", fields[i].name,
                               *field(&in, i), fields[i].mask);
    }
    if (!rc)
        rc = vmm_state_get_u32(r, "overrun", 1, &overrun, err);
    if (!rc)
        rc = load_fifo(r, "rx", fifo_size(&in), &in.rx, err);
    if (!rc)
        rc = load_fifo(r, "tx", fifo_size(&in), &in.tx, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++)
        *field(u, i) = *field(&in, i);
    u->overrun = overrun;
    u->rx = in.rx;
    u->tx = in.tx;
    if (u->tx.count > 0)
        drain_tx(u);
    resume_rx(u);
    update_irq(u);
    return 0;
}

/* Making --------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct vmm_pl011 *u = ctx;
    vmm_chardev_unref(u->chardev);
    vmm_irq_line_free(u->irq);
    free(u);
}

int vmm_pl011_new(const struct vmm_pl011_options *given, struct vmm_pl011 **out)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    static const struct vmm_chardev_user user = {.size = sizeof(user),
                                                 .can_receive = can_receive,
                                                 .receive = receive,
                                                 .writable = writable,
                                                 .event = peer_event};
    struct vmm_pl011_options o;
    if (!given || !out)
        return -EINVAL;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return rc;
    struct vmm_pl011 *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    rc = vmm_device_new(o.name, &ops, u, &u->device);
    if (rc) {
        free(u);
        return rc;
    }
    reset(u);
    u->irq = o.irq; /* all stands before the backend knows its user: it may call at once */
    u->chardev = vmm_chardev_ref(o.chardev);
    rc = u->chardev ? vmm_chardev_set_user(u->chardev, &user, u) : 0;
    if (rc) {
        u->irq = NULL;
        vmm_device_unref(u->device);
        return rc;
    }
    *out = u;
    return 0;
}

struct vmm_pl011 *vmm_pl011_unref(struct vmm_pl011 *u)
{
    if (u) {
        if (u->chardev)
            (void)vmm_chardev_set_user(u->chardev, NULL, NULL);
        vmm_device_unref(u->device);
    }
    return NULL;
}

struct vmm_device *vmm_pl011_device(struct vmm_pl011 *u)
{
    return u->device;
}

int vmm_pl011_attach(struct vmm_pl011 *u, struct vmm_bus *bus, uint64_t address,
                     struct vmm_error *err)
{
    return primecell_attach(u->device, u, read_page, write_page, bus, address, err);
}
