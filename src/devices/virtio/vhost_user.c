/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices whose queues another process works on. Everything that a driver sees of them but the rings is
 * the common part's, as with any device. A queue is handed over when its driver first notifies it (the
 * common part does so itself when the driver is ready), and taken back when it is reset. In between its
 * notifications go to the other process past the loop, and interrupts come back by an eventfd.
 *
 * Locks: a queue's, then the one here, which is the link's.
 */
#include "devices/virtio/vhost_user.h"
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <libvmm/vhost-user.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define DEVICE_NET 1u
#define DEVICE_BLK 2u
#define DEVICE_FS  26u

#define BLK_CONFIG_SIZE 60u
#define BLK_QUEUES_AT   34u
#define BLK_F_MQ        12u
/* SIZE_MAX, SEG_MAX, GEOMETRY, RO, BLK_SIZE, FLUSH, TOPOLOGY, MQ, DISCARD, WRITE_ZEROES: not those by
 * which the driver writes to the configuration, nor any whose part of it is not fetched. */
#define BLK_FEATURES 0x7676u

#define FS_CONFIG_SIZE 40u
#define FS_TAG_SIZE    36u
#define FS_QUEUES      2u

/* CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO, HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO,
 * MRG_RXBUF: what is of frames only, as there is no control queue. */
#define NET_FEATURES    0xff83u
#define NET_F_MAC       5u
#define NET_CONFIG_SIZE 8u
#define NET_MAC_SIZE    6u
#define NET_QUEUES      2u

#define RING_FEATURES                                                                              \
    (VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_INDIRECT) | VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_EVENT_IDX) |      \
     VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1))

#define QUEUES_MAX  64u
#define QUEUE_SIZE  256u
#define CONFIG_MAX  64u
#define TIMEOUT_MAX 600000u

struct vu_queue {
    struct vhost_user *device;
    uint32_t index;
    int call_fd;
    struct vmm_source *call;
    bool running; /* with the queue's lock */
};

struct vhost_user {
    struct vmm_virtio *virtio;
    struct vhost_link link;
    struct vmm_source *watch; /* whether the back end lives */
    pthread_mutex_t lock;     /* guards the link and what follows */
    struct vhost_regions regions;
    bool prepared; /* features and memory have been sent */
    _Atomic bool told;
    void (*broken)(void *ctx, const char *why);
    void *broken_ctx;
    uint32_t queue_count, config_size;
    uint64_t own_features; /* whatever the back end has */
    uint8_t config[CONFIG_MAX];
    struct vu_queue queues[QUEUES_MAX];
};

/* The end -------------------------------------------------------------------------------------- */

static void say(struct vhost_user *u, const char *what, int rc)
{
    char why[160];
    (void)snprintf(why, sizeof(why), "vhost-user back end: %s: %s", what, strerror(-rc));
    vmm_vhost_link_break(&u->link);
    if (atomic_exchange(&u->told, true))
        return;
    if (u->virtio->vm)
        vmm_log_write(vmm_vm_log(u->virtio->vm), VMM_LOG_ERROR, vmm_device_name(u->virtio->device),
                      "%s", why);
    if (u->broken)
        u->broken(u->broken_ctx, why);
}

static void fail(struct vhost_user *u, const char *what, int rc)
{
    say(u, what, rc);
    (void)vmm_virtio_needs_reset(u->virtio);
}

static void hung_up(void *ctx, uint32_t events)
{
    struct vhost_user *u = ctx;
    (void)events;
    (void)vmm_source_set_events(u->watch, VMM_POLL_OFF);
    fail(u, "its socket", -EPIPE);
}

/* Queues --------------------------------------------------------------------------------------- */

static void called(void *ctx, uint32_t events)
{
    struct vu_queue *vq = ctx;
    struct vmm_virtio *v = vq->device->virtio;
    (void)events;
    vmm_virtio_take_event(vq->call_fd);
    if (vmm_virtio_live(v) && v->transport)
        v->transport->interrupt(v->transport_ctx, INTERRUPT_QUEUE, vq->index);
}

/* What comes before the first queue after a reset. */
static int prepare(struct vhost_user *u)
{
    if (u->prepared)
        return 0;
    vmm_vhost_regions_find(u->virtio->memory, &u->regions);
    if (u->regions.unshared || u->regions.too_many)
        return u->regions.unshared ? -EINVAL : -ENOSPC;
    uint64_t features =
        vmm_virtio_features(u->virtio) | VMM_VIRTIO_FEATURE(VHOST_F_PROTOCOL_FEATURES);
    int rc = vmm_vhost_link_set_u64(&u->link, VHOST_SET_FEATURES, features & u->link.features);
    rc = rc ? rc : vmm_vhost_link_set_regions(&u->link, &u->regions);
    u->prepared = rc == 0;
    return rc;
}

/* A back end may take its own life over a ring that is nowhere. */
static bool ring_is_shared(const struct vhost_user *u, const struct virtio_ring *r)
{
    uint64_t size = r->size;
    return vmm_vhost_regions_have(&u->regions, r->desc, size * DESC_SIZE) &&
           vmm_vhost_regions_have(&u->regions, r->driver, 6 + 2 * size) &&
           vmm_vhost_regions_have(&u->regions, r->device, 6 + 8 * size);
}

static int hand_over(struct vhost_user *u, const struct vmm_virtio_queue *q)
{
    struct vhost_link *l = &u->link;
    const struct virtio_ring *r = &q->ring;
    uint32_t i = q->index;
    int rc = vmm_vhost_link_set_state(l, VHOST_SET_VRING_NUM, i, r->size);
    rc = rc ? rc : vmm_vhost_link_set_state(l, VHOST_SET_VRING_BASE, i, r->next_avail);
    rc = rc ? rc : vmm_vhost_link_set_addresses(l, i, r->desc, r->driver, r->device);
    rc = rc ? rc : vmm_vhost_link_set_event(l, VHOST_SET_VRING_CALL, i, u->queues[i].call_fd);
    rc = rc ? rc : vmm_vhost_link_set_event(l, VHOST_SET_VRING_KICK, i, q->kick_fd);
    if (l->features & VMM_VIRTIO_FEATURE(VHOST_F_PROTOCOL_FEATURES))
        rc = rc ? rc : vmm_vhost_link_set_state(l, VHOST_SET_VRING_ENABLE, i, 1);
    return rc;
}

/* The back end is to look at the ring, so what was taken off the eventfd goes back in, and from now
 * on is not taken off here. */
static void notify(void *ctx, uint32_t index)
{
    struct vhost_user *u = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(u->virtio, index);
    if (u->queues[index].running)
        return;
    (void)vmm_source_set_events(q->source, VMM_POLL_OFF);
    vmm_virtio_queue_kick(q);
    pthread_mutex_lock(&u->lock);
    int rc = prepare(u);
    bool shared = rc || ring_is_shared(u, &q->ring);
    if (!rc && shared)
        rc = hand_over(u, q);
    pthread_mutex_unlock(&u->lock);
    u->queues[index].running = !rc && shared;
    if (rc)
        fail(u, "a queue could not be started", rc);
    else if (!shared)
        vmm_virtio_guest_error(u->virtio, "a ring that is not in memory");
}

/* The queue is the driver's again. -EPIPE and the like: nobody knows. That is seen when it is started;
 * a reset, which this is a part of most often, leaves no status behind. */
static int take_back(struct vhost_user *u, uint32_t index, uint32_t *base)
{
    pthread_mutex_lock(&u->lock);
    int rc = vmm_vhost_link_stop_queue(&u->link, index, base);
    pthread_mutex_unlock(&u->lock);
    u->queues[index].running = false;
    if (rc)
        say(u, "a queue could not be stopped", rc);
    return rc;
}

static void queue_reset(void *ctx, uint32_t index)
{
    struct vhost_user *u = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(u->virtio, index);
    uint32_t base;
    if (u->queues[index].running)
        (void)take_back(u, index, &base);
    if (q->source)
        (void)vmm_source_set_events(q->source, VMM_POLL_IN);
}

static void reset(void *ctx)
{
    struct vhost_user *u = ctx;
    pthread_mutex_lock(&u->lock);
    u->prepared = false;
    pthread_mutex_unlock(&u->lock);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct vhost_user *)ctx)->config + offset, length);
}

/* Save and load -------------------------------------------------------------------------------- */

/* All queues are taken back, with nothing under way; they start again when they are notified. */
static int stop_queues(struct vhost_user *u)
{
    int rc = 0;
    for (uint32_t i = 0; i < u->queue_count && !rc; i++) {
        struct vmm_virtio_queue *q = vmm_virtio_queue(u->virtio, i);
        uint32_t base = 0;
        vmm_virtio_queue_lock(q);
        if (u->queues[i].running) {
            rc = take_back(u, i, &base);
            q->ring.next_avail = q->ring.next_used = q->ring.signalled = (uint16_t)base;
            (void)vmm_source_set_events(q->source, VMM_POLL_IN);
            vmm_virtio_queue_kick(q);
        }
        vmm_virtio_queue_unlock(q);
    }
    reset(u); /* features may be other ones after a load */
    return rc;
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vhost_user *u = ctx;
    if (u->virtio->id == DEVICE_FS)
        return -ENOTSUP;
    int rc = stop_queues(u);
    return rc ? rc : vmm_state_put_bytes(w, "config", u->config, u->config_size);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct vhost_user *u = ctx;
    uint8_t config[CONFIG_MAX];
    int rc = vmm_state_get_bytes(r, "config", config, u->config_size, err);
    if (!rc && memcmp(config, u->config, u->config_size) != 0)
        rc = vmm_error_set(err, -EINVAL,
                           "the saved device has another size, address or other queues");
    if (!rc)
        rc = stop_queues(u);
    return rc;
}

/* Life ----------------------------------------------------------------------------------------- */

static void free_device(struct vhost_user *u)
{
    vmm_source_free(u->watch);
    for (uint32_t i = 0; i < u->queue_count; i++) {
        vmm_source_free(u->queues[i].call);
        if (u->queues[i].call_fd >= 0)
            close(u->queues[i].call_fd);
    }
    vmm_vhost_link_close(&u->link);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

static void destroy(void *ctx)
{
    struct vhost_user *u = ctx;
    uint32_t base;
    for (uint32_t i = 0; i < u->queue_count; i++)
        if (u->queues[i].running)
            (void)vmm_vhost_link_stop_queue(&u->link, i, &base);
    free_device(u);
}

static int make_queue(struct vhost_user *u, uint32_t index)
{
    struct vu_queue *vq = &u->queues[index];
    vq->device = u;
    vq->index = index;
    vq->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vq->call_fd < 0)
        return -errno;
    return vmm_source_new(u->virtio->loop, vq->call_fd, VMM_POLL_IN, called, vq, &vq->call);
}

static int make(struct vhost_user *u, struct vmm_virtio_options *o, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    const uint64_t back_end = u->link.features;
    o->queues = u->queue_count;
    o->queue_size_max = QUEUE_SIZE;
    o->features = (o->features & back_end) | u->own_features;
    o->features_off = VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED) | (RING_FEATURES & ~back_end);
    o->config_size = u->config_size;
    o->ops = &ops;
    o->ctx = u;
    int rc = vmm_virtio_new(o, &u->virtio, err);
    if (rc) {
        free_device(u);
        return rc;
    }
    u->virtio->external = true;
    for (uint32_t i = 0; i < u->queue_count && !rc; i++)
        rc = make_queue(u, i);
    if (!rc)
        rc = vmm_source_new(u->virtio->loop, u->link.fd, 0, hung_up, u, &u->watch);
    if (!rc)
        return 0;
    vmm_virtio_unref(u->virtio);
    return vmm_error_set(err, rc, "vhost-user: %s", strerror(-rc));
}

static int check_options(const struct vmm_virtio_place *place,
                         const struct vmm_vhost_user_options *o, struct vmm_error *err)
{
    struct vhost_regions regions;
    if (!o->path && o->fd < 0)
        return vmm_error_set(err, -EINVAL, "vhost-user: neither a socket's path nor a descriptor");
    if (o->queues > QUEUES_MAX || o->timeout_ms > TIMEOUT_MAX)
        return vmm_error_set(err, -EINVAL, "vhost-user: at most %u queues, and ten minutes",
                             QUEUES_MAX);
    if (!place->memory)
        return vmm_error_set(err, -EINVAL, "vhost-user: there is no memory");
    vmm_vhost_regions_find(place->memory, &regions);
    if (regions.unshared)
        return vmm_error_set(err, -EINVAL,
                             "vhost-user: the guest's RAM has to be shared memory (the machine's "
                             "option shared_memory)");
    if (regions.too_many)
        return vmm_error_set(err, -ENOSPC, "vhost-user: the guest's RAM is in more than %u pieces",
                             VHOST_REGIONS_MAX);
    return 0;
}

/* Connected and agreed, with no device yet. */
static int open_device(const struct vmm_vhost_user_options *o, struct vhost_user **out,
                       struct vmm_error *err)
{
    struct vhost_user *u = calloc(1, sizeof(*u));
    if (!u)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&u->lock, NULL);
    for (uint32_t i = 0; i < QUEUES_MAX; i++)
        u->queues[i].call_fd = -1;
    u->link.timeout_ms = o->timeout_ms ? o->timeout_ms : 5000;
    u->broken = o->broken;
    u->broken_ctx = o->ctx;
    u->link.fd = -1;
    int rc = vmm_vhost_link_connect(&u->link, o->path, o->fd, err);
    if (!rc) {
        rc = vmm_vhost_link_negotiate(&u->link);
        if (rc)
            (void)vmm_error_set(err, rc, "the vhost-user back end does not answer as it should: %s",
                                strerror(-rc));
    }
    if (!rc && !(u->link.features & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1)))
        rc = vmm_error_set(err, -ENOTSUP, "the vhost-user back end is from before virtio 1");
    if (rc)
        free_device(u);
    else
        *out = u;
    return rc;
}

static int take_options(const struct vmm_virtio_place *given,
                        const struct vmm_vhost_user_options *options,
                        struct vmm_vhost_user_options *o, struct vmm_virtio_options *v,
                        struct vmm_error *err)
{
    struct vmm_virtio_place place;
    int rc = vmm_virtio_place_copy(&place, given, v, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(o, sizeof(*o), options))
        return vmm_error_set(err, -EINVAL, "vhost-user options: a structure of another version");
    return check_options(&place, o, err);
}

int vmm_vhost_user_blk_new(const struct vmm_virtio_place *place,
                           const struct vmm_vhost_user_options *options, struct vmm_virtio **out,
                           struct vmm_error *err)
{
    struct vmm_vhost_user_options o;
    struct vmm_virtio_options v = VMM_VIRTIO_OPTIONS_INIT;
    struct vhost_user *u;
    int rc = take_options(place, options, &o, &v, err);
    rc = rc ? rc : open_device(&o, &u, err);
    if (rc)
        return rc;
    u->queue_count = o.queues ? o.queues : 1;
    u->config_size = BLK_CONFIG_SIZE;
    if (u->queue_count > u->link.queues)
        rc = vmm_error_set(err, -ENOTSUP, "the vhost-user back end has only %u queues",
                           u->link.queues);
    else if (!(u->link.protocol & VHOST_PROTOCOL_CONFIG))
        rc = vmm_error_set(err, -ENOTSUP, "the vhost-user back end does not tell the disk's size");
    else if ((rc = vmm_vhost_link_get_config(&u->link, u->config, BLK_CONFIG_SIZE)))
        (void)vmm_error_set(err, rc, "the vhost-user back end's disk: %s", strerror(-rc));
    if (rc) {
        free_device(u);
        return rc;
    }
    vmm_store_le16(u->config + BLK_QUEUES_AT, (uint16_t)u->queue_count);
    v.device_id = DEVICE_BLK;
    v.features = BLK_FEATURES;
    if (u->queue_count == 1)
        v.features &= ~VMM_VIRTIO_FEATURE(BLK_F_MQ);
    rc = make(u, &v, err);
    if (!rc)
        *out = u->virtio;
    return rc;
}

int vmm_vhost_user_fs_new(const struct vmm_virtio_place *place,
                          const struct vmm_vhost_user_options *options, struct vmm_virtio **out,
                          struct vmm_error *err)
{
    struct vmm_vhost_user_options o;
    struct vmm_virtio_options v = VMM_VIRTIO_OPTIONS_INIT;
    struct vhost_user *u;
    int rc = take_options(place, options, &o, &v, err);
    if (!rc && (!o.tag || !*o.tag || strlen(o.tag) > FS_TAG_SIZE || o.queues > 1))
        rc = vmm_error_set(err, -EINVAL, "a file system has a tag of 1 to %u bytes, and one queue",
                           FS_TAG_SIZE);
    rc = rc ? rc : open_device(&o, &u, err);
    if (rc)
        return rc;
    u->queue_count = FS_QUEUES;
    u->config_size = FS_CONFIG_SIZE;
    memcpy(u->config, o.tag, strlen(o.tag));
    vmm_store_le32(u->config + FS_TAG_SIZE, FS_QUEUES - 1);
    v.device_id = DEVICE_FS;
    rc = make(u, &v, err);
    if (!rc)
        *out = u->virtio;
    return rc;
}

/* The caller's, or a random one that is nobody's (bit 1: locally administered; bit 0: a group). */
static int choose_mac(uint8_t *mac, const uint8_t *given)
{
    if (given) {
        memcpy(mac, given, NET_MAC_SIZE);
        return 0;
    }
    if (getrandom(mac, NET_MAC_SIZE, 0) != NET_MAC_SIZE)
        return -EIO;
    mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
    return 0;
}

int vmm_vhost_user_net_new(const struct vmm_virtio_place *place,
                           const struct vmm_vhost_user_options *options, struct vmm_virtio **out,
                           struct vmm_error *err)
{
    struct vmm_vhost_user_options o;
    struct vmm_virtio_options v = VMM_VIRTIO_OPTIONS_INIT;
    struct vhost_user *u;
    int rc = take_options(place, options, &o, &v, err);
    if (!rc && (o.queues > 1 || (o.mac && (o.mac[0] & 1))))
        rc = vmm_error_set(err, -EINVAL,
                           "a network card of vhost-user has one pair of queues, and an address "
                           "that is no group's");
    rc = rc ? rc : open_device(&o, &u, err);
    if (rc)
        return rc;
    u->queue_count = NET_QUEUES;
    u->config_size = NET_CONFIG_SIZE;
    u->own_features = VMM_VIRTIO_FEATURE(NET_F_MAC);
    rc = choose_mac(u->config, o.mac);
    if (rc) {
        free_device(u);
        return vmm_error_set(err, rc, "no random address");
    }
    v.device_id = DEVICE_NET;
    v.features = NET_FEATURES;
    rc = make(u, &v, err);
    if (!rc)
        *out = u->virtio;
    return rc;
}
