/* SPDX-License-Identifier: BSD-3-Clause */
/* The console device (VIRTIO 1.2 §5.3): bytes between queues and character backends. */
#include "devices/virtio/console.h"
#include "base/util.h"

#include <stdlib.h>

#define DEVICE_CONSOLE 3u
#define CONFIG_SIZE    12u /* columns, rows, ports, the emergency byte */
#define EMERGENCY      8u

#define F_SIZE      0u
#define F_MULTIPORT 1u
#define F_EMERGENCY 2u

bool vmm_console_listens(const struct console_port *p)
{
    const struct console *c = p->console;
    return c->multiport ? p->guest_open : p->number == 0 && vmm_virtio_live(c->virtio);
}

static bool listens(struct console_port *p)
{
    pthread_mutex_lock(&p->console->lock);
    bool yes = vmm_console_listens(p);
    pthread_mutex_unlock(&p->console->lock);
    return yes;
}

/* To the driver -------------------------------------------------------------------------------- */

/* Into the driver's buffers, as many bytes as there is room for. The queue's lock is held. */
static size_t give(struct console_port *p, const uint8_t *data, size_t length)
{
    struct vmm_virtio_queue *q = p->to_driver;
    struct vmm_virtio_chain *chain = p->console->chain;
    size_t done = 0;
    while (done < length && vmm_virtio_queue_pop(q, chain) > 0) {
        size_t n =
            vmm_iov_write(chain->writable, chain->writable_count, 0, data + done, length - done);
        if (n == 0) {
            vmm_virtio_queue_drop(q, chain);
            vmm_virtio_guest_error(p->console->virtio, "console: a buffer without room for input");
            break;
        }
        vmm_virtio_queue_push(q, chain, n);
        done += n;
    }
    if (done)
        vmm_virtio_queue_signal(q);
    return done;
}

static void drain(struct console_port *p)
{
    while (p->used) {
        uint32_t part = CONSOLE_BUFFER - p->first;
        part = part < p->used ? part : p->used;
        uint32_t done = (uint32_t)give(p, p->bytes + p->first, part);
        p->first = (p->first + done) % CONSOLE_BUFFER;
        p->used -= done;
        if (done < part)
            break;
    }
}

/* The driver has given buffers. */
static void to_driver(struct console_port *p)
{
    drain(p);
    if (p->used < CONSOLE_BUFFER)
        vmm_chardev_accept(p->chardev);
}

static size_t can_receive(void *ctx)
{
    struct console_port *p = ctx;
    if (!listens(p))
        return 0;
    vmm_virtio_queue_lock(p->to_driver);
    size_t room = CONSOLE_BUFFER - p->used;
    vmm_virtio_queue_unlock(p->to_driver);
    return room;
}

static void receive(void *ctx, const uint8_t *data, size_t length)
{
    struct console_port *p = ctx;
    vmm_virtio_queue_lock(p->to_driver);
    vmm_virtio_queue_turn(p->to_driver);
    size_t done = p->used ? 0 : give(p, data, length);
    for (; done < length && p->used < CONSOLE_BUFFER; done++) {
        p->bytes[(p->first + p->used) % CONSOLE_BUFFER] = data[done];
        p->used++;
    }
    if (p->used)
        vmm_virtio_queue_kick(p->to_driver); /* so that the driver tells of its next buffers */
    vmm_virtio_queue_unlock(p->to_driver);
}

/* From the driver ------------------------------------------------------------------------------ */

/* What the backend takes of a chain from p->written on; true: that was all of it. */
static bool write_chain(struct console_port *p, const struct vmm_virtio_chain *chain)
{
    uint64_t skip = p->written;
    for (size_t i = 0; i < chain->readable_count; i++) {
        size_t length = chain->readable[i].iov_len;
        if (skip >= length) {
            skip -= length;
            continue;
        }
        length -= (size_t)skip;
        long n =
            vmm_chardev_write(p->chardev, (uint8_t *)chain->readable[i].iov_base + skip, length);
        if (n >= 0 && (size_t)n < length) {
            p->written += (uint64_t)n;
            return false;
        }
        p->written += length; /* after an error these bytes are lost */
        skip = 0;
    }
    return true;
}

/* A chain that the backend does not take whole stays in the ring until it is writable again. */
static void from_driver(struct console_port *p)
{
    struct vmm_virtio_queue *q = p->from_driver;
    struct vmm_virtio_chain *chain = p->console->chain_out;
    while (vmm_virtio_queue_pop(q, chain) > 0) {
        if (!write_chain(p, chain)) {
            vmm_virtio_queue_unpop(q, chain);
            break;
        }
        p->written = 0;
        vmm_virtio_queue_push(q, chain, 0);
    }
    vmm_virtio_queue_signal(q);
}

static void writable(void *ctx)
{
    vmm_virtio_queue_kick(((struct console_port *)ctx)->from_driver);
}

static void event(void *ctx, uint32_t what)
{
    struct console_port *p = ctx;
    struct console *c = p->console;
    if (what != VMM_CHARDEV_OPENED && what != VMM_CHARDEV_CLOSED)
        return;
    pthread_mutex_lock(&c->lock);
    p->host_open = what == VMM_CHARDEV_OPENED;
    if (p->ready)
        p->owed |= OWES_OPEN;
    bool tell = p->owed != 0;
    pthread_mutex_unlock(&c->lock);
    if (tell)
        vmm_virtio_queue_kick(vmm_virtio_queue(c->virtio, CONSOLE_CONTROL_OUT));
}

/* The device ----------------------------------------------------------------------------------- */

static uint32_t port_of(uint32_t queue)
{
    return queue < 2 ? 0 : queue / 2 - 1;
}

static bool is_control(uint32_t queue)
{
    return queue == CONSOLE_CONTROL_OUT || queue == CONSOLE_CONTROL_IN;
}

static void notify(void *ctx, uint32_t queue)
{
    struct console *c = ctx;
    if (queue == CONSOLE_CONTROL_OUT)
        vmm_console_send_control(c);
    else if (queue == CONSOLE_CONTROL_IN)
        vmm_console_receive_control(c);
    else if (queue % 2)
        from_driver(&c->ports[port_of(queue)]);
    else
        to_driver(&c->ports[port_of(queue)]);
}

static void features(void *ctx, uint64_t accepted)
{
    struct console *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->multiport = accepted & VMM_VIRTIO_FEATURE(F_MULTIPORT);
    c->sizes = accepted & VMM_VIRTIO_FEATURE(F_SIZE);
    pthread_mutex_unlock(&c->lock);
}

static void queue_reset(void *ctx, uint32_t queue)
{
    struct console *c = ctx;
    struct console_port *p = &c->ports[port_of(queue)];
    if (is_control(queue))
        return;
    if (queue % 2)
        p->written = 0;
    else
        p->used = 0;
}

static void reset(void *ctx)
{
    struct console *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->multiport = c->sizes = false;
    for (uint32_t i = 0; i < c->port_count; i++) {
        c->ports[i].ready = c->ports[i].guest_open = false;
        c->ports[i].owed = 0;
    }
    pthread_mutex_unlock(&c->lock);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    struct console *c = ctx;
    uint8_t config[CONFIG_SIZE] = {0};
    pthread_mutex_lock(&c->lock);
    vmm_store_le16(config, c->ports[0].columns);
    vmm_store_le16(config + 2, c->ports[0].rows);
    pthread_mutex_unlock(&c->lock);
    vmm_store_le32(config + 4, c->port_count);
    memcpy(data, config + offset, length);
}

/* §5.3.4: a byte that goes out even when nothing has been set up. */
static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    struct console *c = ctx;
    if (offset == EMERGENCY && length)
        (void)vmm_chardev_write(c->ports[0].chardev, data, 1);
}

/* The embedder's side -------------------------------------------------------------------------- */

int vmm_console_resize(struct vmm_virtio *virtio, uint32_t port, uint32_t columns, uint32_t rows)
{
    struct console *c = virtio->ctx;
    if (virtio->id != DEVICE_CONSOLE || port >= c->port_count || !c->ports[port].is_console ||
        columns > UINT16_MAX || rows > UINT16_MAX)
        return -EINVAL;
    vmm_device_lock(virtio->device);
    pthread_mutex_lock(&c->lock);
    struct console_port *p = &c->ports[port];
    p->columns = (uint16_t)columns;
    p->rows = (uint16_t)rows;
    if (c->sizes && p->ready)
        p->owed |= OWES_RESIZE;
    bool tell = p->owed != 0;
    pthread_mutex_unlock(&c->lock);
    if (port == 0)
        vmm_virtio_config_changed(virtio);
    vmm_device_unlock(virtio->device);
    if (tell)
        vmm_virtio_queue_kick(vmm_virtio_queue(virtio, CONSOLE_CONTROL_OUT));
    return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct console *c = ctx;
    for (uint32_t i = 0; i < c->port_count; i++) {
        struct console_port *p = &c->ports[i];
        if (p->to_driver) /* it is the user */
            (void)vmm_chardev_set_user(p->chardev, NULL, NULL);
        vmm_chardev_unref(p->chardev);
    }
    vmm_virtio_chain_free(c->chain);
    vmm_virtio_chain_free(c->chain_out);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int take_port(struct console_port *p, const struct vmm_console_port *given,
                     struct vmm_error *err)
{
    struct vmm_console_port o;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "console port: a structure of another version");
    if (!o.chardev || (o.name && strlen(o.name) > VMM_CONSOLE_NAME_MAX) || o.columns > UINT16_MAX ||
        o.rows > UINT16_MAX)
        return vmm_error_set(err, -EINVAL,
                             "console port: a chardev, a name of at most %u bytes, and a size of "
                             "at most 65535 by 65535",
                             VMM_CONSOLE_NAME_MAX);
    p->is_console = o.console != 0;
    p->host_open = !o.closed;
    p->columns = (uint16_t)o.columns;
    p->rows = (uint16_t)o.rows;
    if (o.name)
        memcpy(p->name, o.name, strlen(o.name));
    p->chardev = vmm_chardev_ref(o.chardev);
    return 0;
}

static int new_console(const struct vmm_virtio_console_options *o, struct console **out,
                       struct vmm_error *err)
{
    struct console *c = calloc(1, sizeof(*c) + o->port_count * sizeof(c->ports[0]));
    if (!c)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&c->lock, NULL);
    c->rows_first = o->rows_first != 0;
    int rc = 0;
    while (c->port_count < o->port_count && !rc) {
        struct console_port *p = &c->ports[c->port_count];
        p->console = c;
        p->number = c->port_count;
        rc = take_port(p, o->ports[p->number], err);
        c->port_count += !rc;
    }
    if (rc)
        destroy(c);
    else
        *out = c;
    return rc;
}

static int prepare(struct console *c, struct vmm_error *err)
{
    static const struct vmm_chardev_user user = {
        .size = sizeof(user),
        .can_receive = can_receive,
        .receive = receive,
        .writable = writable,
        .event = event,
    };
    int rc = vmm_virtio_chain_new(c->virtio, &c->chain);
    rc = rc ? rc : vmm_virtio_chain_new(c->virtio, &c->chain_out);
    for (uint32_t i = 0; i < c->port_count && !rc; i++) {
        struct console_port *p = &c->ports[i];
        p->from_driver = vmm_virtio_queue(c->virtio, i ? 2 * i + 3 : 1);
        p->to_driver = vmm_virtio_queue(c->virtio, i ? 2 * i + 2 : 0);
        rc = vmm_chardev_set_user(p->chardev, &user, p);
        if (rc)
            p->to_driver = NULL;
    }
    return rc ? vmm_error_set(err, rc, "console: %s", strerror(-rc)) : 0;
}

static bool is_simple(const struct console *c)
{
    return c->port_count == 1 && c->ports[0].is_console && !c->ports[0].name[0];
}

int vmm_virtio_console_new(const struct vmm_virtio_place *given,
                           const struct vmm_virtio_console_options *options,
                           struct vmm_virtio **out, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .features = features,
        .config_read = config_read,
        .config_write = config_write,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = vmm_console_save,
        .load = vmm_console_load,
        .destroy = destroy,
    };
    struct vmm_virtio_place place;
    struct vmm_virtio_console_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    struct console *c = NULL;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(&p, sizeof(p), options))
        return vmm_error_set(err, -EINVAL, "console options: a structure of another version");
    if (!p.ports || p.port_count == 0 || p.port_count > VMM_CONSOLE_PORTS_MAX)
        return vmm_error_set(err, -EINVAL, "console: 1 to %u ports", VMM_CONSOLE_PORTS_MAX);
    rc = new_console(&p, &c, err);
    if (rc)
        return rc;
    o.device_id = DEVICE_CONSOLE;
    o.queues = is_simple(c) ? 2 : 2 * (c->port_count + 1);
    o.config_size = CONFIG_SIZE;
    o.features = VMM_VIRTIO_FEATURE(F_SIZE) | VMM_VIRTIO_FEATURE(F_EMERGENCY) |
                 (is_simple(c) ? 0 : VMM_VIRTIO_FEATURE(F_MULTIPORT));
    o.ops = &ops;
    o.ctx = c;
    rc = vmm_virtio_new(&o, &c->virtio, err);
    if (rc) {
        destroy(c);
        return rc;
    }
    rc = prepare(c, err);
    if (rc) {
        vmm_virtio_unref(c->virtio);
        return rc;
    }
    *out = c->virtio;
    return 0;
}
