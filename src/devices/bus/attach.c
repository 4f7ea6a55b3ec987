/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU's I/O answered by two buses. */
#include "base/util.h"

#include <libvmm/bus.h>

#include <stdlib.h>

struct attachment {
    struct vmm_bus *ports;
    struct vmm_bus *mmio;
};

/* The low `width` bytes of a guest's little-endian operand. */
static uint64_t load_operand(const void *data, uint32_t width)
{
    uint64_t value = 0;
    memcpy(&value, data, width);
    return le64toh(value);
}

static void store_operand(void *data, uint32_t width, uint64_t value)
{
    value = htole64(value);
    memcpy(data, &value, width);
}

static int access(struct vmm_bus *bus, uint64_t address, void *data, uint32_t width, bool write)
{
    if (!bus)
        return -ENOENT;
    uint64_t value = write ? load_operand(data, width) : 0;
    int rc = write ? vmm_bus_write(bus, address, width, value)
                   : vmm_bus_read(bus, address, width, &value);
    if (!write)
        store_operand(data, width, value);
    return rc == -ENOENT ? 0 : rc; /* unclaimed is complete too: reads gave all ones */
}

static int handle_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                       bool write)
{
    struct attachment *a = ctx;
    int rc = 0;
    for (uint32_t i = 0; i < count && !rc; i++)
        rc = access(a->ports, port, (char *)data + (size_t)i * width, width, write);
    return rc;
}

static int handle_mmio(void *ctx, uint64_t address, void *data, uint32_t width, bool write)
{
    struct attachment *a = ctx;
    return access(a->mmio, address, data, width, write);
}

static void attachment_free(void *ctx)
{
    struct attachment *a = ctx;
    vmm_bus_unref(a->ports);
    vmm_bus_unref(a->mmio);
    free(a);
}

int vmm_bus_attach_vcpu(struct vmm_vcpu *vcpu, struct vmm_bus *ports, struct vmm_bus *mmio)
{
    static const struct vmm_io_handler handler = {
        .size = sizeof(handler),
        .port = handle_port,
        .mmio = handle_mmio,
        .release = attachment_free,
    };
    struct attachment *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->ports = ports ? vmm_bus_ref(ports) : NULL;
    a->mmio = mmio ? vmm_bus_ref(mmio) : NULL;
    int rc = vmm_vcpu_set_io(vcpu, &handler, a);
    if (rc)
        attachment_free(a);
    return rc;
}
