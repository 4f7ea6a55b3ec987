/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU's I/O answered by two buses. */
#include "base/util.h"

#include "devices/bus/hint.h"

#include <stdlib.h>

struct attachment {
    struct vmm_bus *ports;
    struct vmm_bus *mmio;
    struct bus_hint port_hint, mmio_hint; /* of the running thread */
};

/* A guest's operand is little-endian. Of a known length, memcpy() is a move. */
static VMM_COLD uint64_t load_odd(const void *data, uint32_t width)
{
    uint64_t value = 0;
    memcpy(&value, data, width);
    return le64toh(value);
}

static inline uint64_t load_operand(const void *data, uint32_t width)
{
    uint32_t four;
    uint16_t two;
    if (width == 1)
        return *(const uint8_t *)data;
    if (width == 4) {
        memcpy(&four, data, 4);
        return le32toh(four);
    }
    if (width != 2)
        return load_odd(data, width);
    memcpy(&two, data, 2);
    return le16toh(two);
}

static void store_operand(void *data, uint32_t width, uint64_t value)
{
    value = htole64(value);
    if (width == 1)
        memcpy(data, &value, 1);
    else if (width == 4)
        memcpy(data, &value, 4);
    else
        memcpy(data, &value, width);
}

static __attribute__((noinline)) int read_operand(struct vmm_bus *bus, struct bus_hint *hint,
                                                  uint64_t address, void *data, uint32_t width)
{
    store_operand(data, width, vmm_bus_read_hinted(bus, hint, address, width));
    return 0;
}

/* Unclaimed is complete too: reads gave all ones. */
static inline int access(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address, void *data,
                         uint32_t width, bool write)
{
    if (!bus)
        return -ENOENT;
    if (!write)
        return read_operand(bus, hint, address, data, width);
    return vmm_bus_write_hinted(bus, hint, address, width, load_operand(data, width));
}

/* A string instruction: several items to one port. */
static VMM_COLD int handle_string(struct attachment *a, uint16_t port, void *data, uint32_t width,
                                  uint32_t count, bool write)
{
    int rc = 0;
    for (uint32_t i = 0; i < count && !rc; i++)
        rc = access(a->ports, &a->port_hint, port, (char *)data + (size_t)i * width, width, write);
    return rc;
}

static int handle_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                       bool write)
{
    struct attachment *a = ctx;
    if (count != 1)
        return handle_string(a, port, data, width, count, write);
    return access(a->ports, &a->port_hint, port, data, width, write);
}

static int handle_mmio(void *ctx, uint64_t address, void *data, uint32_t width, bool write)
{
    struct attachment *a = ctx;
    return access(a->mmio, &a->mmio_hint, address, data, width, write);
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
