/* SPDX-License-Identifier: BSD-3-Clause */
/* A device: a name, a lock, and the calls for reset, save and load. */
#include "base/state.h"
#include "base/util.h"

#include <libvmm/device.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NAME_SIZE 32

struct vmm_device {
    _Atomic uint32_t refs;
    pthread_mutex_t lock;
    struct vmm_device_ops ops;
    void *ctx;
    char name[NAME_SIZE];
};

/* Names become nodes of a device tree, so they are kept to what those allow. */
static bool name_ok(const char *name)
{
    size_t length = name ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-@") : 0;
    return length > 0 && length < NAME_SIZE && name[length] == '\0';
}

int vmm_device_new(const char *name, const struct vmm_device_ops *ops, void *ctx,
                   struct vmm_device **out)
{
    if (!name_ok(name) || !ops || !out)
        return -EINVAL;
    struct vmm_device *device = calloc(1, sizeof(*device));
    if (!device)
        return -ENOMEM;
    int rc = vmm_options_copy(&device->ops, sizeof(device->ops), ops);
    if (!rc && !device->ops.save != !device->ops.load)
        rc = -EINVAL;
    if (!rc)
        rc = -pthread_mutex_init(&device->lock, NULL);
    if (rc) {
        free(device);
        return rc;
    }
    atomic_init(&device->refs, 1);
    device->ctx = ctx;
    memcpy(device->name, name, strlen(name) + 1);
    *out = device;
    return 0;
}

struct vmm_device *vmm_device_ref(struct vmm_device *device)
{
    atomic_fetch_add_explicit(&device->refs, 1, memory_order_relaxed);
    return device;
}

struct vmm_device *vmm_device_unref(struct vmm_device *device)
{
    if (!device || atomic_fetch_sub_explicit(&device->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (device->ops.destroy)
        device->ops.destroy(device->ctx);
    pthread_mutex_destroy(&device->lock);
    free(device);
    return NULL;
}

const char *vmm_device_name(const struct vmm_device *device)
{
    return device->name;
}

void vmm_device_lock(struct vmm_device *device)
{
    pthread_mutex_lock(&device->lock);
}

void vmm_device_unlock(struct vmm_device *device)
{
    pthread_mutex_unlock(&device->lock);
}

void vmm_device_reset(struct vmm_device *device)
{
    if (!device->ops.reset)
        return;
    vmm_device_lock(device);
    device->ops.reset(device->ctx);
    vmm_device_unlock(device);
}

int vmm_device_save(struct vmm_device *device, struct vmm_state_writer *w)
{
    if (!device->ops.save)
        return 0;
    int rc = vmm_state_begin(w, device->name, device->ops.state_version);
    if (rc)
        return rc;
    vmm_device_lock(device);
    rc = device->ops.save(device->ctx, w);
    vmm_device_unlock(device);
    if (rc)
        (void)vmm_state_fail(w, rc);
    int end = vmm_state_end(w);
    return rc ? rc : end;
}

int vmm_device_load(struct vmm_device *device, struct vmm_state_reader *r, struct vmm_error *err)
{
    if (!device->ops.load)
        return 0;
    uint32_t version;
    int rc = vmm_state_enter(r, device->name, device->ops.state_version, &version, err);
    if (rc)
        return rc;
    vmm_device_lock(device);
    rc = device->ops.load(device->ctx, r, version, err);
    vmm_device_unlock(device);
    (void)vmm_state_leave(r);
    return rc;
}
