/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The 9P transport device (VIRTIO 1.2 has its number in §5, its configuration is what Linux's driver
 * reads): each chain is a message of the driver's and room for the answer.
 */
#include "base/util.h"
#include "devices/virtio/worker.h"

#include <libvmm/share.h>

#include <stdlib.h>

#define DEVICE_9P   9u
#define F_MOUNT_TAG 0u
#define QUEUE_SIZE  256u /* Linux's driver wants room for 128 descriptors */
#define TAG_MAX     128u

struct ninep {
    struct vmm_virtio *virtio;
    struct vmm_share *share;
    struct virtio_worker worker;
    uint8_t config[2 + TAG_MAX];
};

static uint64_t serve(void *ctx, const struct vmm_virtio_chain *c)
{
    const struct ninep *n = ctx;
    return vmm_share_serve(n->share, c->readable, c->readable_count, c->writable,
                           c->writable_count);
}

static void notify(void *ctx, uint32_t queue)
{
    (void)queue;
    vmm_virtio_worker_notify(&((struct ninep *)ctx)->worker);
}

static void queue_reset(void *ctx, uint32_t queue)
{
    (void)queue;
    vmm_virtio_worker_reset(&((struct ninep *)ctx)->worker);
}

/* The queue has been reset: the worker is out of the share. */
static void reset(void *ctx)
{
    vmm_share_reset(((struct ninep *)ctx)->share);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct ninep *)ctx)->config + offset, length);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct ninep *n = ctx;
    vmm_virtio_worker_drain(&n->worker);
    return vmm_share_save(n->share, w);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct ninep *n = ctx;
    vmm_virtio_worker_drain(&n->worker);
    return vmm_share_load(n->share, r, err);
}

static void destroy(void *ctx)
{
    struct ninep *n = ctx;
    vmm_virtio_worker_fini(&n->worker);
    vmm_share_unref(n->share);
    free(n);
}

static struct ninep *new_ninep(const struct vmm_virtio_9p_options *o)
{
    struct ninep *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->worker.serve = serve;
    n->worker.ctx = n;
    n->worker.complaint = "9P: no message, or no room for an answer";
    n->share = vmm_share_ref(o->share);
    vmm_store_le16(n->config, (uint16_t)strlen(o->tag));
    memcpy(n->config + 2, o->tag, strlen(o->tag));
    return n;
}

int vmm_virtio_9p_new(const struct vmm_virtio_place *given,
                      const struct vmm_virtio_9p_options *options, struct vmm_virtio **out,
                      struct vmm_error *err)
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
    struct vmm_virtio_place place;
    struct vmm_virtio_9p_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(&p, sizeof(p), options))
        return vmm_error_set(err, -EINVAL, "9p options: a structure of another version");
    if (!p.share || !p.tag || !*p.tag || strlen(p.tag) > TAG_MAX)
        return vmm_error_set(err, -EINVAL, "9p: a share, and a tag of 1 to %u bytes", TAG_MAX);
    struct ninep *n = new_ninep(&p);
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.device_id = DEVICE_9P;
    o.queues = 1;
    o.queue_size_max = QUEUE_SIZE;
    o.chain_max = QUEUE_SIZE;
    o.features = VMM_VIRTIO_FEATURE(F_MOUNT_TAG);
    o.config_size = 2 + (uint32_t)strlen(p.tag);
    o.ops = &ops;
    o.ctx = n;
    rc = vmm_virtio_new(&o, &n->virtio, err);
    if (rc) {
        destroy(n);
        return rc;
    }
    rc = vmm_virtio_worker_init(&n->worker, vmm_virtio_queue(n->virtio, 0), p.worker != 0);
    if (rc) {
        vmm_virtio_unref(n->virtio);
        return vmm_error_set(err, rc, "9p: %s", strerror(-rc));
    }
    *out = n->virtio;
    return 0;
}
