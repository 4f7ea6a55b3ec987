/* SPDX-License-Identifier: BSD-3-Clause */
/* The socket device (VIRTIO 1.2 §5.10): its queues, its listening socket, save and load. */
#include "devices/virtio/vsock.h"
#include "base/util.h"

#include <libvmm/vsock.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE_VSOCK 19u
#define F_STREAM     0u
#define CONFIG_SIZE  8u
#define CHAIN_MAX    64u
#define BACKLOG      64
#define PATH_ROOM    96u /* a port's number comes behind it */
#define RETRY_NS     100000000u

#define EVENT_TRANSPORT_RESET 0u

enum { QUEUE_TO_DRIVER, QUEUE_FROM_DRIVER, QUEUE_EVENTS, QUEUES };

/* Queues --------------------------------------------------------------------------------------- */

static void take_packets(struct vsock *v)
{
    struct vmm_virtio_queue *q = v->from_driver;
    /* A driver that gives no buffers for our refusals has to wait with what it sends. */
    while (!(v->stalled = v->refusal_count == VSOCK_REFUSALS) &&
           vmm_virtio_queue_pop(q, v->chain_from) > 0) {
        if (!vmm_vsock_receive(v, v->chain_from)) {
            vmm_virtio_queue_drop(q, v->chain_from);
            vmm_virtio_guest_error(v->virtio, "vsock: a packet shorter than it says");
            return;
        }
        vmm_virtio_queue_push(q, v->chain_from, 0);
    }
    vmm_virtio_queue_signal(q);
}

/* After a load: the connections that the driver knows are no more (§5.10.6.7). */
static void send_event(struct vsock *v)
{
    uint8_t event[4];
    if (!v->reset_due || vmm_virtio_queue_pop(v->events, v->chain_event) <= 0)
        return;
    const struct vmm_virtio_chain *c = v->chain_event;
    vmm_store_le32(event, EVENT_TRANSPORT_RESET);
    size_t n = vmm_iov_write(c->writable, c->writable_count, 0, event, sizeof(event));
    v->reset_due = false;
    vmm_virtio_queue_push(v->events, v->chain_event, n);
    vmm_virtio_queue_signal(v->events);
}

static void notify(void *ctx, uint32_t queue)
{
    struct vsock *v = ctx;
    pthread_mutex_lock(&v->lock);
    if (queue == QUEUE_TO_DRIVER)
        vmm_vsock_send(v, false);
    else if (queue == QUEUE_EVENTS)
        send_event(v);
    else
        take_packets(v);
    pthread_mutex_unlock(&v->lock);
    if (queue != QUEUE_FROM_DRIVER)
        return;
    vmm_virtio_queue_lock(v->to_driver);
    pthread_mutex_lock(&v->lock);
    vmm_vsock_send(v, true);
    pthread_mutex_unlock(&v->lock);
    vmm_virtio_queue_unlock(v->to_driver);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    uint8_t config[CONFIG_SIZE];
    vmm_store_le64(config, ((struct vsock *)ctx)->cid);
    memcpy(data, config + offset, length);
}

static void forget_all(struct vsock *v)
{
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < v->room; i++)
        if (v->all[i])
            vmm_vsock_kill(v->all[i]);
    v->refusal_count = 0;
    v->stalled = false;
    v->reset_due = false;
    pthread_mutex_unlock(&v->lock);
}

static void reset(void *ctx)
{
    forget_all(ctx);
}

/* Connections stay with the host that has their other ends. The address is the embedder's: a copy of a
 * guest gets another one, and the driver reads it again after the event. */
static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vsock *v = ctx;
    pthread_mutex_lock(&v->lock);
    uint32_t due = v->reset_due;
    pthread_mutex_unlock(&v->lock);
    return vmm_state_put_u32(w, "reset-due", due);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct vsock *v = ctx;
    uint32_t due;
    int rc = vmm_state_get_u32(r, "reset-due", 1, &due, err);
    if (rc)
        return rc;
    forget_all(v);
    pthread_mutex_lock(&v->lock);
    v->reset_due = true;
    pthread_mutex_unlock(&v->lock);
    return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void accept_ready(void *ctx, uint32_t events)
{
    struct vsock *v = ctx;
    (void)events;
    int fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    pthread_mutex_lock(&v->lock);
    if (v->ending) {
        if (fd >= 0)
            close(fd);
    } else if (fd >= 0) {
        (void)vmm_vsock_connection_new(v, fd, VSOCK_GREETING);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        /* It would be ready again at once, without end. */
        (void)vmm_source_set_events(v->listener, VMM_POLL_OFF);
        (void)vmm_timer_set(v->reaper, vmm_loop_now(v->virtio->loop) + RETRY_NS);
    }
    pthread_mutex_unlock(&v->lock);
}

static void reap(void *ctx)
{
    struct vsock *v = ctx;
    vmm_vsock_reap(v);
    (void)vmm_source_set_events(v->listener, VMM_POLL_IN);
}

static void destroy(void *ctx)
{
    struct vsock *v = ctx;
    pthread_mutex_lock(&v->lock);
    v->ending = true; /* nothing is made, and the timer is not set, from here on */
    pthread_mutex_unlock(&v->lock);
    vmm_timer_free(v->reaper);
    vmm_source_free(v->listener);
    forget_all(v);
    vmm_vsock_reap(v);
    if (v->listen_fd >= 0)
        close(v->listen_fd);
    if (v->bound)
        (void)unlink(v->address.sun_path);
    vmm_virtio_chain_free(v->chain_to);
    vmm_virtio_chain_free(v->chain_from);
    vmm_virtio_chain_free(v->chain_event);
    pthread_mutex_destroy(&v->lock);
    free(v->all);
    free(v);
}

/* The mode of a socket's path is that of the socket before it is bound. */
static int listen_at(struct vsock *v, struct vmm_error *err)
{
    v->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = v->listen_fd < 0 || fchmod(v->listen_fd, 0600) ? -errno : 0;
    if (!rc && bind(v->listen_fd, (struct sockaddr *)&v->address, sizeof(v->address)))
        rc = -errno;
    v->bound = !rc && v->listen_fd >= 0;
    if (!rc && listen(v->listen_fd, BACKLOG))
        rc = -errno;
    if (rc)
        return vmm_error_set(err, rc, "vsock: %s: %s", v->address.sun_path, strerror(-rc));
    return 0;
}

static int prepare(struct vsock *v, struct vmm_error *err)
{
    v->to_driver = vmm_virtio_queue(v->virtio, QUEUE_TO_DRIVER);
    v->from_driver = vmm_virtio_queue(v->virtio, QUEUE_FROM_DRIVER);
    v->events = vmm_virtio_queue(v->virtio, QUEUE_EVENTS);
    int rc = vmm_virtio_chain_new(v->virtio, &v->chain_to);
    rc = rc ? rc : vmm_virtio_chain_new(v->virtio, &v->chain_from);
    rc = rc ? rc : vmm_virtio_chain_new(v->virtio, &v->chain_event);
    rc =
        rc ? rc : vmm_timer_new(v->virtio->loop, reap, v, &v->reaper); /* set by connections only */
    if (rc)
        return vmm_error_set(err, rc, "vsock: %s", strerror(-rc));
    rc = listen_at(v, err);
    if (rc)
        return rc;
    rc = vmm_source_new(v->virtio->loop, v->listen_fd, VMM_POLL_IN, accept_ready, v, &v->listener);
    return rc ? vmm_error_set(err, rc, "vsock: %s", strerror(-rc)) : 0;
}

static int check_options(struct vmm_virtio_vsock_options *p,
                         const struct vmm_virtio_vsock_options *given, struct vmm_error *err)
{
    if (!given || vmm_options_copy(p, sizeof(*p), given))
        return vmm_error_set(err, -EINVAL, "vsock options: a structure of another version");
    p->connections = p->connections ? p->connections : 256;
    p->buffer = p->buffer ? p->buffer : 256u << 10;
    if (p->cid < 3 || p->cid >= UINT32_MAX)
        return vmm_error_set(err, -EINVAL, "vsock: the guest's CID is 3 to 4294967294");
    if (!p->path || !*p->path || p->connections > 65536 || p->buffer < 4096 ||
        p->buffer > 16u << 20)
        return vmm_error_set(err, -EINVAL,
                             "vsock: a path, up to 65536 connections, buffers of 4 KiB to 16 MiB");
    if (strlen(p->path) > PATH_ROOM)
        return vmm_error_set(err, -ENAMETOOLONG, "vsock: %s: the path is at most %u bytes", p->path,
                             PATH_ROOM);
    return 0;
}

static struct vsock *new_vsock(const struct vmm_virtio_vsock_options *p)
{
    struct vsock *v = calloc(1, sizeof(*v));
    if (!v)
        return NULL;
    pthread_mutex_init(&v->lock, NULL);
    v->listen_fd = -1;
    v->cid = p->cid;
    v->buffer = p->buffer;
    v->address.sun_family = AF_UNIX;
    memcpy(v->address.sun_path, p->path, strlen(p->path) + 1);
    TAILQ_INIT(&v->waiting);
    v->all = calloc(p->connections, sizeof(struct vsock_connection *));
    if (!v->all) {
        destroy(v);
        return NULL;
    }
    v->room = p->connections;
    return v;
}

int vmm_virtio_vsock_new(const struct vmm_virtio_place *given,
                         const struct vmm_virtio_vsock_options *options, struct vmm_virtio **out,
                         struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_virtio_place place;
    struct vmm_virtio_vsock_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    rc = rc ? rc : check_options(&p, options, err);
    if (rc)
        return rc;
    struct vsock *v = new_vsock(&p);
    if (!v)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.device_id = DEVICE_VSOCK;
    o.queues = QUEUES;
    o.chain_max = CHAIN_MAX;
    o.config_size = CONFIG_SIZE;
    o.features = VMM_VIRTIO_FEATURE(F_STREAM);
    o.ops = &ops;
    o.ctx = v;
    rc = vmm_virtio_new(&o, &v->virtio, err);
    if (rc) {
        destroy(v);
        return rc;
    }
    rc = prepare(v, err);
    if (rc) {
        vmm_virtio_unref(v->virtio);
        return rc;
    }
    *out = v->virtio;
    return 0;
}
