/* SPDX-License-Identifier: BSD-3-Clause */
/* One-port consoles and the exit port. Neither has state. */
#include "base/util.h"

#include <libvmm/debugport.h>

#include <stdlib.h>

struct port {
    struct vmm_chardev *chardev;
    void (*exit)(void *ctx, int32_t status);
    void *ctx;
};

static uint64_t debugcon_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx;
    (void)offset;
    (void)width;
    return VMM_DEBUGCON_READBACK;
}

static void debugcon_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct port *port = ctx;
    uint8_t byte = (uint8_t)value;
    (void)offset;
    (void)width;
    if (port->chardev)
        (void)vmm_chardev_write(port->chardev, &byte, 1);
}

static uint64_t exitport_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx;
    (void)offset;
    (void)width;
    return 0;
}

static void exitport_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct port *port = ctx;
    (void)offset;
    (void)width;
    port->exit(port->ctx, (int32_t)((value * 2 + 1) & INT32_MAX));
}

static void destroy(void *ctx)
{
    struct port *port = ctx;
    vmm_chardev_unref(port->chardev);
    free(port);
}

/* Takes over the references in `from`. */
static int add_port(struct vmm_bus *bus, uint64_t address, uint64_t length, const char *name,
                    const struct vmm_region_ops *ops, const struct port *from,
                    struct vmm_device **out, struct vmm_error *err)
{
    static const struct vmm_device_ops device_ops = {.size = sizeof(device_ops),
                                                     .destroy = destroy};
    struct vmm_device *device;
    struct port *port = malloc(sizeof(*port));
    int rc = -ENOMEM;
    if (port) {
        *port = *from;
        rc = vmm_device_new(name, &device_ops, port, &device);
    }
    if (rc) {
        vmm_chardev_unref(from->chardev);
        free(port);
        return vmm_error_set(err, rc, "device \"%s\": %s", name ? name : "", strerror(-rc));
    }
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = name;
    region.address = address;
    region.length = length;
    region.device = device;
    region.ops = ops;
    region.ctx = port;
    rc = vmm_bus_add(bus, &region, NULL, err);
    if (!rc && out)
        *out = vmm_device_ref(device);
    vmm_device_unref(device);
    return rc;
}

int vmm_debugcon_add(struct vmm_bus *bus, uint64_t port, const char *name,
                     struct vmm_chardev *chardev, struct vmm_device **out, struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = debugcon_read,
        .write = debugcon_write,
        .max_width = 1,
    };
    struct port from = {.chardev = chardev ? vmm_chardev_ref(chardev) : NULL};
    return add_port(bus, port, 1, name, &ops, &from, out, err);
}

int vmm_exitport_add(struct vmm_bus *bus, uint64_t port, const char *name,
                     void (*exit)(void *ctx, int32_t status), void *ctx, struct vmm_device **out,
                     struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = exitport_read,
        .write = exitport_write,
        .max_width = 4,
    };
    struct port from = {.exit = exit, .ctx = ctx};
    if (!exit)
        return vmm_error_set(err, -EINVAL, "the exit port needs a callback");
    return add_port(bus, port, 4, name, &ops, &from, out, err);
}
