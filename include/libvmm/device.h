/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file device.h
 * What every emulated device is: a name, a lock, and reset, save and load.
 *
 * The built-in devices use this door, and so does an embedder's own. The bus takes the device's
 * lock around every access callback; a device takes it itself (vmm_device_lock) when a backend or
 * a timer calls it. A callback never calls another device.
 */
#ifndef LIBVMM_DEVICE_H
#define LIBVMM_DEVICE_H

#include <libvmm/state.h>

VMM_BEGIN_DECLS

struct vmm_device;

struct vmm_device_ops {
    size_t size;
    /** Back to the state after power-on. Called with the lock held. May be NULL. */
    void (*reset)(void *ctx);
    uint32_t state_version; /**< of what save writes; load gets this or an older one */
    uint32_t reserved;
    /** Write every field that reset does not give back. Called with the lock held. */
    int (*save)(void *ctx, struct vmm_state_writer *w);
    /** Check everything, then take it over. On error the device is as before. Lock held. */
    int (*load)(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);
    /** The last reference is gone: free `ctx`. May be NULL. */
    void (*destroy)(void *ctx);
};

/** @param name  unique on its machine, [a-z0-9-@], at most 31 characters; copied */
VMM_API int vmm_device_new(const char *name, const struct vmm_device_ops *ops, void *ctx,
                           struct vmm_device **out);
VMM_API struct vmm_device *vmm_device_ref(struct vmm_device *device);
VMM_API struct vmm_device *vmm_device_unref(struct vmm_device *device);
VMM_API const char *vmm_device_name(const struct vmm_device *device);
/** Not recursive. */
VMM_API void vmm_device_lock(struct vmm_device *device);
VMM_API void vmm_device_unlock(struct vmm_device *device);
/** Take the lock and reset. */
VMM_API void vmm_device_reset(struct vmm_device *device);
/** Take the lock and write the device's node (named after it). */
VMM_API int vmm_device_save(struct vmm_device *device, struct vmm_state_writer *w);
VMM_API int vmm_device_load(struct vmm_device *device, struct vmm_state_reader *r,
                            struct vmm_error *err);

VMM_END_DECLS

#endif
