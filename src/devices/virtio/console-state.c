/* SPDX-License-Identifier: BSD-3-Clause */
/* Save and load of the console device. Whether a port's other end is there is not saved: that is so on
 * the host, and the driver is told again. */
#include "base/util.h"
#include "devices/virtio/console.h"

#include <stdio.h>
#include <stdlib.h>

struct loaded {
    uint32_t ready, guest_open, owed, columns, rows;
    uint64_t written;
    const void *bytes;
    size_t length;
};

static int save_port(struct console_port *p, struct vmm_state_writer *w)
{
    struct console *c = p->console;
    uint8_t bytes[CONSOLE_BUFFER];
    char name[16];
    vmm_virtio_queue_lock(p->to_driver);
    uint32_t used = p->used;
    for (uint32_t i = 0; i < used; i++)
        bytes[i] = p->bytes[(p->first + i) % CONSOLE_BUFFER];
    vmm_virtio_queue_unlock(p->to_driver);
    vmm_virtio_queue_lock(p->from_driver);
    uint64_t written = p->written;
    vmm_virtio_queue_unlock(p->from_driver);
    (void)snprintf(name, sizeof(name), "port%u", p->number);
    (void)vmm_state_begin(w, name, 1);
    pthread_mutex_lock(&c->lock);
    (void)vmm_state_put_u32(w, "ready", p->ready);
    (void)vmm_state_put_u32(w, "open", p->guest_open);
    (void)vmm_state_put_u32(w, "owed", p->owed);
    (void)vmm_state_put_u32(w, "columns", p->columns);
    (void)vmm_state_put_u32(w, "rows", p->rows);
    pthread_mutex_unlock(&c->lock);
    (void)vmm_state_put_u64(w, "written", written);
    (void)vmm_state_put_bytes(w, "bytes", bytes, used);
    return vmm_state_end(w);
}

int vmm_console_save(void *ctx, struct vmm_state_writer *w)
{
    struct console *c = ctx;
    int rc = vmm_state_put_u32(w, "ports", c->port_count);
    for (uint32_t i = 0; i < c->port_count && !rc; i++)
        rc = save_port(&c->ports[i], w);
    return rc;
}

static int read_port(struct vmm_state_reader *r, uint32_t number, struct loaded *l,
                     struct vmm_error *err)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "port%u", number);
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_state_get_u32(r, "ready", 1, &l->ready, err);
    rc = rc ? rc : vmm_state_get_u32(r, "open", 1, &l->guest_open, err);
    rc = rc ? rc : vmm_state_get_u32(r, "owed", OWES_ALL, &l->owed, err);
    rc = rc ? rc : vmm_state_get_u32(r, "columns", UINT16_MAX, &l->columns, err);
    rc = rc ? rc : vmm_state_get_u32(r, "rows", UINT16_MAX, &l->rows, err);
    rc = rc ? rc : vmm_state_get_u64(r, "written", UINT64_MAX, &l->written, err);
    rc = rc ? rc : vmm_state_get_blob(r, "bytes", &l->bytes, &l->length, err);
    (void)vmm_state_leave(r);
    if (!rc && l->length > CONSOLE_BUFFER)
        rc = vmm_error_set(err, -EINVAL, "console: more bytes wait than a port keeps");
    return rc;
}

static void take_port(struct console_port *p, const struct loaded *l)
{
    struct console *c = p->console;
    vmm_virtio_queue_lock(p->to_driver);
    p->first = 0;
    p->used = (uint32_t)l->length;
    memcpy(p->bytes, l->bytes, l->length);
    vmm_virtio_queue_unlock(p->to_driver);
    vmm_virtio_queue_lock(p->from_driver);
    p->written = l->written;
    vmm_virtio_queue_unlock(p->from_driver);
    pthread_mutex_lock(&c->lock);
    p->ready = l->ready;
    p->guest_open = l->guest_open;
    p->columns = (uint16_t)l->columns;
    p->rows = (uint16_t)l->rows;
    p->owed = l->owed | (l->ready ? (uint32_t)OWES_OPEN : 0);
    pthread_mutex_unlock(&c->lock);
}

int vmm_console_load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct console *c = ctx;
    uint32_t count;
    int rc = vmm_state_get_u32(r, "ports", VMM_CONSOLE_PORTS_MAX, &count, err);
    if (!rc && count != c->port_count)
        rc = vmm_error_set(err, -EINVAL, "console: %u ports were saved, it has %u", count,
                           c->port_count);
    if (rc)
        return rc;
    struct loaded *l = calloc(count, sizeof(*l));
    if (!l)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    for (uint32_t i = 0; i < count && !rc; i++)
        rc = read_port(r, i, &l[i], err);
    if (!rc && c->virtio->queue_count == 2 && (l[0].ready || l[0].owed))
        rc = vmm_error_set(err, -EINVAL, "console: control messages are owed where there are none");
    for (uint32_t i = 0; i < count && !rc; i++)
        take_port(&c->ports[i], &l[i]);
    free(l);
    return rc;
}
