/* SPDX-License-Identifier: BSD-3-Clause */
/* What all virtio devices share, whatever their transport: the life of the status register (VIRTIO
 * 1.2 §3.1), features, configuration space, reset, save and load. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <stdlib.h>

#define QUEUES_MAX 1024u
#define CONFIG_MAX 256u

#define STATUS_KNOWN                                                                               \
    (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK | STATUS_FAILED)

#define OFFERED_BY_ALL                                                                             \
    (VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_INDIRECT) | VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_EVENT_IDX) |      \
     VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1) | VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED) |        \
     VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_QUEUE_RESET))

bool vmm_virtio_live(const struct vmm_virtio *v)
{
    uint32_t status = v->status;
    return (status & STATUS_DRIVER_OK) && !(status & (STATUS_NEEDS_RESET | STATUS_FAILED));
}

static void interrupt(struct vmm_virtio *v, uint32_t what, uint32_t queue)
{
    if (v->transport)
        v->transport->interrupt(v->transport_ctx, what, queue);
}

/* §2.1.2: the driver is told only when it has said that it listens. */
bool vmm_virtio_needs_reset(struct vmm_virtio *v)
{
    uint32_t before = atomic_fetch_or(&v->status, STATUS_NEEDS_RESET);
    if (before & STATUS_NEEDS_RESET)
        return false;
    if (before & STATUS_DRIVER_OK)
        interrupt(v, INTERRUPT_CONFIG, 0);
    return true;
}

void vmm_virtio_guest_error(struct vmm_virtio *v, const char *text)
{
    if (vmm_virtio_needs_reset(v) && v->vm)
        vmm_vm_guest_error(v->vm, vmm_device_name(v->device), "%s", text);
}

/* Features ------------------------------------------------------------------------------------- */

void vmm_virtio_set_features(struct vmm_virtio *v, uint32_t select, uint32_t value)
{
    if (select > 1 || (v->status & STATUS_FEATURES_OK))
        return;
    uint32_t shift = 32 * select;
    v->wanted = (v->wanted & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

/* §2.2, §6.1: a subset of what was offered, and no drivers from before version 1. */
static bool accept_features(struct vmm_virtio *v)
{
    if ((v->wanted & ~v->offered) || !(v->wanted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1)))
        return false;
    v->accepted = v->wanted;
    if (v->ops.features)
        v->ops.features(v->ctx, v->wanted);
    return true;
}

/* No FEATURES_OK from such drivers (§3.1.2), and none of the bits that came with version 1. */
void vmm_virtio_accept_legacy(struct vmm_virtio *v)
{
    if (v->status & STATUS_FEATURES_OK)
        return;
    v->wanted &= v->offered & UINT32_MAX;
    v->accepted = v->wanted;
    atomic_fetch_or(&v->status, STATUS_FEATURES_OK);
    if (v->ops.features)
        v->ops.features(v->ctx, v->wanted);
}

/* Status --------------------------------------------------------------------------------------- */

void vmm_virtio_reset_locked(struct vmm_virtio *v)
{
    /* No new work is begun once the status is 0; each queue then waits for what is under way. */
    v->status = 0;
    for (uint32_t i = 0; i < v->queue_count; i++)
        vmm_virtio_queue_reset(&v->queues[i]);
    v->wanted = 0;
    v->accepted = 0;
    if (v->ops.reset)
        v->ops.reset(v->ctx);
    if (v->transport)
        v->transport->reset(v->transport_ctx);
}

/* Bits are added one stage after the other; what comes out of turn is not taken. */
void vmm_virtio_set_status(struct vmm_virtio *v, uint32_t value)
{
    if (value == 0) {
        vmm_virtio_reset_locked(v);
        return;
    }
    uint32_t old = v->status, added = value & STATUS_KNOWN & ~old;
    if (!((old | added) & STATUS_DRIVER) || !((old | added) & STATUS_ACKNOWLEDGE))
        added &= ~(STATUS_FEATURES_OK | STATUS_DRIVER_OK);
    if ((added & STATUS_FEATURES_OK) && !accept_features(v))
        added &= ~STATUS_FEATURES_OK;
    if (!((old | added) & STATUS_FEATURES_OK))
        added &= ~STATUS_DRIVER_OK;
    atomic_fetch_or(&v->status, added);
    if (added & STATUS_DRIVER_OK)
        for (uint32_t i = 0; i < v->queue_count; i++)
            if (v->queues[i].ring.enabled)
                vmm_virtio_queue_kick(&v->queues[i]);
}

/* Configuration -------------------------------------------------------------------------------- */

void vmm_virtio_config_read(struct vmm_virtio *v, uint64_t offset, void *data, uint32_t length)
{
    memset(data, 0, length);
    if (v->ops.config_read && length <= v->config_size && offset <= v->config_size - length)
        v->ops.config_read(v->ctx, (uint32_t)offset, data, length);
}

void vmm_virtio_config_write(struct vmm_virtio *v, uint64_t offset, const void *data,
                             uint32_t length)
{
    if (v->ops.config_write && length <= v->config_size && offset <= v->config_size - length)
        v->ops.config_write(v->ctx, (uint32_t)offset, data, length);
}

void vmm_virtio_config_changed(struct vmm_virtio *v)
{
    v->generation++;
    if (v->status & STATUS_DRIVER_OK)
        interrupt(v, INTERRUPT_CONFIG, 0);
}

/* Reset, save and load ------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_virtio *v = ctx;
    vmm_virtio_reset_locked(v);
    if (v->transport && v->transport->power_on)
        v->transport->power_on(v->transport_ctx);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_virtio *v = ctx;
    /* The device first: it may push what was under way. */
    int rc = vmm_state_begin(w, "device", 1);
    if (!rc && v->ops.save)
        rc = v->ops.save(v->ctx, w);
    if (rc)
        return rc;
    (void)vmm_state_end(w);
    (void)vmm_state_begin(w, "common", 1);
    (void)vmm_state_put_u64(w, "offered", v->offered);
    (void)vmm_state_put_u64(w, "wanted", v->wanted);
    (void)vmm_state_put_u64(w, "accepted", v->accepted);
    (void)vmm_state_put_u32(w, "status", v->status);
    (void)vmm_state_put_u32(w, "generation", v->generation);
    (void)vmm_state_put_u32(w, "queues", v->queue_count);
    rc = vmm_state_end(w);
    for (uint32_t i = 0; i < v->queue_count && !rc; i++)
        rc = vmm_virtio_queue_save(&v->queues[i], w);
    if (!rc && v->transport) {
        (void)vmm_state_begin(w, "transport", 1);
        (void)v->transport->save(v->transport_ctx, w);
        rc = vmm_state_end(w);
    }
    return rc;
}

struct loaded {
    uint64_t offered, wanted, accepted;
    uint32_t status, generation, queues;
    struct virtio_ring *rings;
};

static int check_loaded(const struct vmm_virtio *v, const struct loaded *l, struct vmm_error *err)
{
    const char *name = vmm_device_name(v->device);
    if (l->queues != v->queue_count)
        return vmm_error_set(err, -EINVAL, "%s: %u queues were saved, it has %u", name, l->queues,
                             v->queue_count);
    if (l->accepted & ~v->offered)
        return vmm_error_set(err, -ENOTSUP, "%s: features 0x%llx were in use and are not there",
                             name, (unsigned long long)(l->accepted & ~v->offered));
    if (!(l->status & STATUS_FEATURES_OK) && l->accepted)
        return vmm_error_set(err, -EINVAL, "%s: status and features do not go together", name);
    return 0;
}

static int load_common(struct vmm_virtio *v, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    int rc = vmm_state_enter(r, "common", 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_state_get_u64(r, "offered", UINT64_MAX, &l->offered, err);
    rc = rc ? rc : vmm_state_get_u64(r, "wanted", UINT64_MAX, &l->wanted, err);
    rc = rc ? rc : vmm_state_get_u64(r, "accepted", UINT64_MAX, &l->accepted, err);
    rc = rc ? rc
            : vmm_state_get_u32(r, "status", STATUS_KNOWN | STATUS_NEEDS_RESET, &l->status, err);
    rc = rc ? rc : vmm_state_get_u32(r, "generation", UINT32_MAX, &l->generation, err);
    rc = rc ? rc : vmm_state_get_u32(r, "queues", QUEUES_MAX, &l->queues, err);
    (void)vmm_state_leave(r);
    return rc ? rc : check_loaded(v, l, err);
}

static int load_rings(struct vmm_virtio *v, struct vmm_state_reader *r, struct loaded *l,
                      struct vmm_error *err)
{
    int rc = 0;
    bool packed = l->accepted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED);
    for (uint32_t i = 0; i < v->queue_count && !rc; i++) {
        struct virtio_ring *ring = &l->rings[i];
        rc = vmm_virtio_queue_load(&v->queues[i], r, ring, err);
        bool places_ok = !packed || !ring->enabled ||
                         (ring->next_avail < ring->size && ring->next_used < ring->size);
        if (!rc && ring->enabled && !(vmm_virtio_ring_ok(v, ring, packed) && places_ok))
            rc = vmm_error_set(err, -EINVAL, "%s: queue %u is not sound",
                               vmm_device_name(v->device), i);
    }
    return rc;
}

static int load_node(struct vmm_state_reader *r, const char *node,
                     int (*fn)(void *, struct vmm_state_reader *, struct vmm_error *), void *ctx,
                     struct vmm_error *err)
{
    int rc = vmm_state_enter(r, node, 1, NULL, err);
    if (rc)
        return rc;
    if (fn)
        rc = fn(ctx, r, err);
    (void)vmm_state_leave(r);
    return rc;
}

static void take_over(struct vmm_virtio *v, const struct loaded *l)
{
    v->wanted = l->wanted;
    v->accepted = l->accepted;
    v->generation = l->generation;
    if (l->accepted && v->ops.features)
        v->ops.features(v->ctx, l->accepted);
    for (uint32_t i = 0; i < v->queue_count; i++)
        vmm_virtio_queue_take_over(&v->queues[i], &l->rings[i]);
    v->status = l->status;
    for (uint32_t i = 0; i < v->queue_count; i++)
        if (l->rings[i].enabled)
            vmm_virtio_queue_kick(&v->queues[i]); /* one may have been pending */
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_virtio *v = ctx;
    struct loaded l = {.rings = calloc(v->queue_count, sizeof(*l.rings))};
    (void)version;
    if (!l.rings)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = load_common(v, r, &l, err);
    rc = rc ? rc : load_rings(v, r, &l, err);
    if (!rc && v->transport)
        rc = load_node(r, "transport", v->transport->load, v->transport_ctx, err);
    if (!rc)
        rc = load_node(r, "device", v->ops.load, v->ctx, err);
    if (!rc)
        take_over(v, &l);
    free(l.rings);
    return rc;
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct vmm_virtio *v = ctx;
    v->status = 0;
    for (uint32_t i = 0; v->queues && i < v->queue_count; i++)
        vmm_virtio_queue_stop(&v->queues[i]);
    /* The device waits for what is under way, which still takes queues and their locks. */
    if (v->ops.destroy)
        v->ops.destroy(v->ctx);
    if (v->transport)
        v->transport->destroy(v->transport_ctx);
    for (uint32_t i = 0; v->queues && i < v->queue_count; i++)
        vmm_virtio_queue_fini(&v->queues[i]);
    free(v->queues);
    vmm_loop_unref(v->loop);
    vmm_memory_unref(v->memory);
    vmm_vm_unref(v->vm);
    free(v);
}

static int check_options(struct vmm_virtio_options *o, struct vmm_error *err)
{
    o->queue_size_max = o->queue_size_max ? o->queue_size_max : 256;
    o->chain_max = o->chain_max ? o->chain_max : 256;
    if (!o->memory || !o->loop || !o->ops)
        return vmm_error_set(err, -EINVAL, "a virtio device needs memory, a loop and callbacks");
    if (o->queues == 0 || o->queues > QUEUES_MAX || !vmm_is_power_of_two(o->queue_size_max) ||
        o->queue_size_max > VMM_VIRTIO_QUEUE_MAX)
        return vmm_error_set(err, -EINVAL, "virtio queues: 1 to %u, each of a power of two to %u",
                             QUEUES_MAX, VMM_VIRTIO_QUEUE_MAX);
    if (o->chain_max > VMM_VIRTIO_CHAIN_MAX || o->config_size > CONFIG_MAX)
        return vmm_error_set(err, -EINVAL,
                             "virtio: at most %u descriptors in a chain and %u bytes "
                             "of configuration",
                             VMM_VIRTIO_CHAIN_MAX, CONFIG_MAX);
    return 0;
}

static int make_queues(struct vmm_virtio *v)
{
    int rc = 0;
    v->queues = calloc(v->queue_count, sizeof(*v->queues));
    if (!v->queues)
        return -ENOMEM;
    for (uint32_t i = 0; i < v->queue_count && !rc; i++)
        rc = vmm_virtio_queue_init(v, i);
    return rc;
}

int vmm_virtio_new(const struct vmm_virtio_options *given, struct vmm_virtio **out,
                   struct vmm_error *err)
{
    static const struct vmm_device_ops device_ops = {
        .size = sizeof(device_ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_virtio_options o;
    if (!given || !out)
        return vmm_error_set(err, -EINVAL, "virtio: no options");
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return vmm_error_set(err, rc, "virtio options: a structure of another version");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_virtio *v = calloc(1, sizeof(*v));
    if (!v)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = vmm_options_copy(&v->ops, sizeof(v->ops), o.ops);
    if (!rc && !v->ops.notify)
        rc = -EINVAL;
    if (!rc)
        rc = vmm_device_new(o.name, &device_ops, v, &v->device);
    if (rc) {
        free(v);
        return vmm_error_set(err, rc, "virtio device: %s", strerror(-rc));
    }
    v->id = o.device_id;
    v->config_size = o.config_size;
    v->queue_count = o.queues;
    v->queue_size_max = o.queue_size_max;
    v->chain_max = o.chain_max;
    v->offered = (o.features | OFFERED_BY_ALL) & ~o.features_off;
    v->vm = o.vm ? vmm_vm_ref(o.vm) : NULL;
    v->memory = vmm_memory_ref(o.memory);
    v->loop = vmm_loop_ref(o.loop);
    rc = make_queues(v);
    if (rc) {
        v->ops.destroy = NULL;
        vmm_device_unref(v->device);
        return vmm_error_set(err, rc, "virtio queues: %s", strerror(-rc));
    }
    v->ctx = o.ctx;
    *out = v;
    return 0;
}

int vmm_virtio_place_copy(struct vmm_virtio_place *to, const struct vmm_virtio_place *given,
                          struct vmm_virtio_options *options, struct vmm_error *err)
{
    int rc = given ? vmm_options_copy(to, sizeof(*to), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "virtio place: a structure of another version");
    options->name = to->name;
    options->vm = to->vm;
    options->memory = to->memory;
    options->loop = to->loop;
    return 0;
}

void vmm_virtio_attach(struct vmm_virtio *v, const struct vmm_virtio_transport *transport,
                       void *ctx)
{
    v->transport_ctx = ctx;
    v->transport = transport;
}

struct vmm_virtio *vmm_virtio_ref(struct vmm_virtio *v)
{
    vmm_device_ref(v->device);
    return v;
}

struct vmm_virtio *vmm_virtio_unref(struct vmm_virtio *v)
{
    if (v)
        vmm_device_unref(v->device);
    return NULL;
}

struct vmm_device *vmm_virtio_device(struct vmm_virtio *v)
{
    return v->device;
}

uint32_t vmm_virtio_id(const struct vmm_virtio *v)
{
    return v->id;
}

uint64_t vmm_virtio_features(const struct vmm_virtio *v)
{
    return v->accepted;
}

struct vmm_virtio_queue *vmm_virtio_queue(struct vmm_virtio *v, uint32_t index)
{
    return index < v->queue_count ? &v->queues[index] : NULL;
}
