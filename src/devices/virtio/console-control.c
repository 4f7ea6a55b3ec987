/* SPDX-License-Identifier: BSD-3-Clause */
/* Control messages of the console device (VIRTIO 1.2 §5.3.6.2). What the driver is to be told is kept as
 * one bit a message and port, so a driver that does not listen costs nothing. */
#include "base/util.h"
#include "devices/virtio/console.h"

#define HEADER 8u /* port, event, value */

enum {
    DEVICE_READY,
    DEVICE_ADD,
    DEVICE_REMOVE,
    PORT_READY,
    CONSOLE_PORT,
    RESIZE,
    PORT_OPEN,
    PORT_NAME,
};

struct message {
    uint8_t bytes[HEADER + VMM_CONSOLE_NAME_MAX];
    uint32_t length;
};

static void put_header(struct message *m, const struct console_port *p, uint16_t event,
                       uint16_t value)
{
    vmm_store_le32(m->bytes, p->number);
    vmm_store_le16(m->bytes + 4, event);
    vmm_store_le16(m->bytes + 6, value);
    m->length = HEADER;
}

static void put_message(struct message *m, const struct console_port *p, uint32_t what)
{
    bool swapped = p->console->rows_first;
    switch (what) {
    case OWES_ADD:
        put_header(m, p, DEVICE_ADD, 1);
        break;
    case OWES_CONSOLE:
        put_header(m, p, CONSOLE_PORT, 1);
        break;
    case OWES_NAME: /* without a zero behind it */
        put_header(m, p, PORT_NAME, 1);
        m->length += (uint32_t)strlen(p->name);
        memcpy(m->bytes + HEADER, p->name, strlen(p->name));
        break;
    case OWES_RESIZE:
        put_header(m, p, RESIZE, 1);
        vmm_store_le16(m->bytes + HEADER, swapped ? p->rows : p->columns);
        vmm_store_le16(m->bytes + HEADER + 2, swapped ? p->columns : p->rows);
        m->length += 4;
        break;
    default:
        put_header(m, p, PORT_OPEN, p->host_open);
        break;
    }
}

/* The next message, and no longer owed; false: there is none. */
static bool next_message(struct console *c, struct message *m)
{
    bool found = false;
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->port_count && !found; i++) {
        struct console_port *p = &c->ports[i];
        uint32_t what = p->owed & (0u - p->owed);
        found = what != 0;
        p->owed &= ~what;
        if (found)
            put_message(m, p, what);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static bool owes(struct console *c)
{
    uint32_t owed = 0;
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->port_count; i++)
        owed |= c->ports[i].owed;
    pthread_mutex_unlock(&c->lock);
    return owed != 0;
}

void vmm_console_send_control(struct console *c)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(c->virtio, CONSOLE_CONTROL_OUT);
    struct message m;
    while (owes(c) && vmm_virtio_queue_pop(q, c->chain) > 0) {
        if (!next_message(c, &m)) {
            vmm_virtio_queue_unpop(q, c->chain);
            break;
        }
        if (c->chain->writable_length < m.length) {
            vmm_virtio_queue_drop(q, c->chain);
            vmm_virtio_guest_error(c->virtio, "console: no room for a control message");
            return;
        }
        (void)vmm_iov_write(c->chain->writable, c->chain->writable_count, 0, m.bytes, m.length);
        vmm_virtio_queue_push(q, c->chain, m.length);
    }
    vmm_virtio_queue_signal(q);
}

/* From the driver ------------------------------------------------------------------------------ */

static void device_ready(struct console *c)
{
    for (uint32_t i = 0; i < c->port_count; i++)
        c->ports[i].owed |= OWES_ADD;
}

static void port_ready(struct console_port *p, bool ready)
{
    p->ready = ready;
    p->owed &= (uint32_t)OWES_ADD;
    if (!ready)
        return;
    if (p->is_console)
        p->owed |= OWES_CONSOLE;
    if (p->is_console && p->console->sizes && p->columns)
        p->owed |= OWES_RESIZE;
    if (p->name[0])
        p->owed |= OWES_NAME;
    if (p->host_open)
        p->owed |= OWES_OPEN;
}

/* The lock is held. Messages about ports that there are not, and of unknown kinds, mean nothing. */
static void take_message(struct console *c, uint32_t port, uint16_t event, uint16_t value)
{
    if (event == DEVICE_READY && value)
        device_ready(c);
    if (port >= c->port_count)
        return;
    struct console_port *p = &c->ports[port];
    if (event == PORT_READY)
        port_ready(p, value != 0);
    if (event == PORT_OPEN) {
        p->guest_open = value != 0;
        if (p->guest_open)
            vmm_chardev_accept(p->chardev);
    }
}

void vmm_console_receive_control(struct console *c)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(c->virtio, CONSOLE_CONTROL_IN);
    const struct vmm_virtio_chain *chain = c->chain;
    uint8_t raw[HEADER];
    while (vmm_virtio_queue_pop(q, c->chain) > 0) {
        if (vmm_iov_read(chain->readable, chain->readable_count, 0, raw, HEADER) != HEADER) {
            vmm_virtio_queue_drop(q, c->chain);
            vmm_virtio_guest_error(c->virtio, "console: a control message that is too short");
            return;
        }
        pthread_mutex_lock(&c->lock);
        take_message(c, vmm_load_le32(raw), vmm_load_le16(raw + 4), vmm_load_le16(raw + 6));
        pthread_mutex_unlock(&c->lock);
        vmm_virtio_queue_push(q, c->chain, 0);
    }
    vmm_virtio_queue_signal(q);
    vmm_virtio_queue_kick(vmm_virtio_queue(c->virtio, CONSOLE_CONTROL_OUT));
}
