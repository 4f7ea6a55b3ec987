/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A host bridge: configuration mechanism 1 (PCI 3.0 §3.2.2.3.2) and the enhanced one (PCI Express 3.0
 * §7.2.2), and the four interrupt lines. Who is on its buses is in tree.c.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <stdlib.h>

#define ECAM_BUS     ((uint64_t)1 << 20) /* bytes of ECAM for a bus */
#define ENABLE_BIT   0x80000000u
#define CONFIG_PORTS 8u

/* Configuration -------------------------------------------------------------------------------- */

/* §6.2.1: function 0 says whether there are others. */
static uint32_t with_multifunction(const struct vmm_pci *pci, uint32_t offset, uint32_t width,
                                   uint32_t value)
{
    bool others = false;
    if ((pci->address & 7) || offset > PCI_HEADER_TYPE || offset + width <= PCI_HEADER_TYPE)
        return value;
    for (uint32_t i = 1; i < 8; i++)
        others = others || pci->bus->functions[pci->address + i];
    return others ? value | HEADER_MULTIFUNCTION << (8 * (PCI_HEADER_TYPE - offset)) : value;
}

static bool access_ok(uint32_t address, uint32_t offset, uint32_t width)
{
    return (width == 1 || width == 2 || width == 4) && offset % width == 0 && offset < CONFIG_ALL &&
           address <= UINT16_MAX;
}

int vmm_pci_host_config_read(struct vmm_pci_host *host, uint32_t address, uint32_t offset,
                             uint32_t width, uint32_t *value)
{
    if (!access_ok(address, offset, width))
        return -EINVAL;
    *value = UINT32_MAX >> (32 - 8 * width);
    pthread_rwlock_rdlock(&host->tree);
    struct vmm_pci *pci = vmm_pci_function_at(host, address);
    if (pci) {
        vmm_device_lock(pci->device);
        *value = vmm_pci_config_get(pci, offset, width);
        vmm_device_unlock(pci->device);
        *value = with_multifunction(pci, offset, width, *value);
    }
    pthread_rwlock_unlock(&host->tree);
    return pci ? 0 : -ENOENT;
}

int vmm_pci_host_config_write(struct vmm_pci_host *host, uint32_t address, uint32_t offset,
                              uint32_t width, uint32_t value)
{
    if (!access_ok(address, offset, width))
        return -EINVAL;
    pthread_rwlock_rdlock(&host->tree);
    struct vmm_pci *pci = vmm_pci_function_at(host, address);
    if (pci) {
        vmm_device_lock(pci->device);
        vmm_pci_config_put(pci, offset, width, value);
        vmm_device_unlock(pci->device);
    }
    pthread_rwlock_unlock(&host->tree);
    return pci ? 0 : -ENOENT;
}

/* An access in any alignment, by bytes where it is not an aligned one. */
static uint64_t read_any(struct vmm_pci_host *host, uint32_t address, uint32_t offset,
                         uint32_t width)
{
    uint32_t value = 0;
    if (offset % width == 0) {
        (void)vmm_pci_host_config_read(host, address, offset, width, &value);
        return value;
    }
    for (uint32_t i = 0; i < width; i++) {
        uint32_t byte = 0xff;
        (void)vmm_pci_host_config_read(host, address, offset + i, 1, &byte);
        value |= byte << (8 * i);
    }
    return value;
}

static void write_any(struct vmm_pci_host *host, uint32_t address, uint32_t offset, uint32_t width,
                      uint64_t value)
{
    if (offset % width == 0) {
        (void)vmm_pci_host_config_write(host, address, offset, width, (uint32_t)value);
        return;
    }
    for (uint32_t i = 0; i < width; i++)
        (void)vmm_pci_host_config_write(host, address, offset + i, 1, value >> (8 * i) & 0xff);
}

static uint64_t ecam_read(void *ctx, uint64_t offset, uint32_t width)
{
    return read_any(ctx, (uint32_t)(offset / CONFIG_ALL), offset % CONFIG_ALL, width);
}

static void ecam_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    write_any(ctx, (uint32_t)(offset / CONFIG_ALL), offset % CONFIG_ALL, width, value);
}

/* The address register is one of 32 bits; only accesses of all of it reach it. The bus lets none across
 * the end of the data register. */
static uint64_t ports_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_pci_host *host = ctx;
    uint32_t where = host->config_address, nothing = UINT32_MAX >> (32 - 8 * width);
    if (offset == 0 && width == 4)
        return where;
    if (offset < 4)
        return host->options.port_read
                   ? host->options.port_read(host->options.port_ctx, offset, width)
                   : nothing;
    uint32_t byte = (uint32_t)offset & 3;
    if (!(where & ENABLE_BIT))
        return nothing;
    return read_any(host, where >> 8 & 0xffff, (where & 0xfc) + byte, width);
}

static void ports_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pci_host *host = ctx;
    uint32_t where = host->config_address, byte = (uint32_t)offset & 3;
    if (offset == 0 && width == 4)
        host->config_address = (uint32_t)value & 0x80fffffcu;
    else if (offset < 4 && host->options.port_write)
        host->options.port_write(host->options.port_ctx, offset, width, value);
    else if (offset >= 4 && (where & ENABLE_BIT))
        write_any(host, where >> 8 & 0xffff, (where & 0xfc) + byte, width, value);
}

/* Interrupts ----------------------------------------------------------------------------------- */

void vmm_pci_host_set_intx(struct vmm_pci_host *host, uint32_t line, bool raise)
{
    pthread_mutex_lock(&host->intx_lock);
    host->intx_count[line] = raise ? host->intx_count[line] + 1 : host->intx_count[line] - 1;
    (void)vmm_irq_line_set(host->options.intx[line], host->intx_count[line] != 0);
    pthread_mutex_unlock(&host->intx_lock);
}

int vmm_pci_send(struct vmm_pci *pci, const struct vmm_msi *msi)
{
    const struct vmm_pci_host *host = pci->host;
    if (host && host->options.signal_msi)
        return host->options.signal_msi(host->options.signal_msi_ctx, msi);
    return host && pci->vm ? vmm_vm_signal_msi(pci->vm, msi) : 0;
}

/* The bridge's own device ---------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_pci_host *host = ctx;
    host->config_address = 0;
    if (host->self)
        vmm_pci_reset(host->self);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pci_host *host = ctx;
    (void)vmm_state_put_u32(w, "config-address", host->config_address);
    return vmm_pci_save(host->self, w);
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pci_host *host = ctx;
    uint32_t address;
    (void)version;
    int rc = vmm_state_get_u32(r, "config-address", UINT32_MAX, &address, err);
    if (!rc && (address & ~0x80fffffcu))
        rc = vmm_error_set(err, -EINVAL, "%s/config-address: 0x%x has bits that are always zero",
                           vmm_device_name(host->device), address);
    rc = rc ? rc : vmm_pci_load(host->self, r, err);
    if (!rc)
        host->config_address = address;
    return rc;
}

static void destroy(void *ctx)
{
    struct vmm_pci_host *host = ctx;
    vmm_pci_unref(host->self);
    pthread_rwlock_destroy(&host->tree);
    pthread_mutex_destroy(&host->place_lock);
    pthread_mutex_destroy(&host->intx_lock);
    free(host);
}

/* Life ----------------------------------------------------------------------------------------- */

static int check_options(struct vmm_pci_host_options *o, struct vmm_error *err)
{
    const struct vmm_pci_window *w[] = {&o->port_window, &o->window, &o->high_window};
    o->buses = o->buses ? o->buses : 1;
    if (!o->name || !o->mmio || o->buses > 256)
        return vmm_error_set(err, -EINVAL,
                             "a PCI host bridge needs a name, an MMIO bus, and 1 to 256 buses");
    if (!o->ecam_address && !o->config_port)
        return vmm_error_set(err, -EINVAL, "%s: no way to configuration space was asked for",
                             o->name);
    if (o->config_port && !o->ports)
        return vmm_error_set(err, -EINVAL, "%s: configuration ports without a port bus", o->name);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(w); i++) {
        uint64_t last = w[i]->address + (w[i]->length - 1);
        bool low = i == 2 || !w[i]->length || last <= (i ? UINT32_MAX : UINT16_MAX);
        if (!vmm_range_ok(w[i]->address, w[i]->length) || !low)
            return vmm_error_set(err, -EINVAL, "%s: window %zu reaches too high", o->name, i);
    }
    return 0;
}

static int add_region(struct vmm_bus *bus, struct vmm_region_options *o, struct vmm_region **out,
                      struct vmm_error *err)
{
    static const struct vmm_region_ops ecam = {.size = sizeof(ecam),
                                               .read = ecam_read,
                                               .write = ecam_write,
                                               .min_width = 1,
                                               .max_width = 4};
    static const struct vmm_region_ops ports = {.size = sizeof(ports),
                                                .read = ports_read,
                                                .write = ports_write,
                                                .min_width = 1,
                                                .max_width = 4};
    o->ops = o->length == CONFIG_PORTS ? &ports : &ecam;
    return vmm_bus_add(bus, o, out, err);
}

/* Without a device: the lock is that of the function that is looked at. */
static int add_regions(struct vmm_pci_host *host, struct vmm_error *err)
{
    const struct vmm_pci_host_options *o = &host->options;
    struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
    int rc = 0;
    r.ctx = host;
    if (o->ecam_address) {
        r.name = "pci-ecam";
        r.address = o->ecam_address;
        r.length = o->buses * ECAM_BUS;
        rc = add_region(o->mmio, &r, &host->ecam_region, err);
    }
    if (!rc && o->config_port) {
        r.name = "pci-config";
        r.address = o->config_port;
        r.length = CONFIG_PORTS;
        rc = add_region(o->ports, &r, &host->config_region, err);
    }
    return rc;
}

static int add_self(struct vmm_pci_host *host, struct vmm_error *err)
{
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.vendor_id = host->options.vendor_id ? host->options.vendor_id : 0x1b36;
    o.device_id = host->options.device_id ? host->options.device_id : 0x0008;
    o.class_code = 0x060000;
    o.device = host->device;
    o.ops = host->options.ops;
    o.ctx = host->options.ops_ctx;
    int rc = vmm_pci_new(&o, &host->self, err);
    if (!rc) {
        host->self->host = host;
        host->self->bus = &host->root;
        host->root.functions[0] = host->self;
    }
    return rc;
}

static void hold(struct vmm_pci_host_options *o)
{
    vmm_bus_ref(o->mmio);
    if (o->ports)
        vmm_bus_ref(o->ports);
    if (o->vm)
        vmm_vm_ref(o->vm);
    if (o->memory)
        vmm_memory_ref(o->memory);
}

int vmm_pci_host_new(const struct vmm_pci_host_options *given, struct vmm_pci_host **out,
                     struct vmm_error *err)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    struct vmm_pci_host_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "PCI host bridge: no options, or of another version");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_pci_host *host = calloc(1, sizeof(*host));
    if (!host)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = vmm_device_new(o.name, &ops, host, &host->device);
    if (rc) {
        free(host);
        return vmm_error_set(err, rc, "device \"%s\": %s", o.name, strerror(-rc));
    }
    atomic_init(&host->refs, 1);
    pthread_rwlock_init(&host->tree, NULL);
    pthread_mutex_init(&host->place_lock, NULL);
    pthread_mutex_init(&host->intx_lock, NULL);
    host->options = o;
    hold(&host->options);
    memset(host->options.intx, 0, sizeof(host->options.intx)); /* ours on success only */
    rc = add_self(host, err);
    rc = rc ? rc : add_regions(host, err);
    if (rc) {
        vmm_pci_host_unref(host);
        return rc;
    }
    memcpy(host->options.intx, o.intx, sizeof(o.intx));
    *out = host;
    return 0;
}

int vmm_pci_host_place_ecam(struct vmm_pci_host *host, uint64_t address, bool enabled,
                            struct vmm_error *err)
{
    if (!host->ecam_region)
        return vmm_error_set(err, -ENODEV, "%s has no enhanced configuration space",
                             vmm_device_name(host->device));
    return vmm_bus_place(host->options.mmio, host->ecam_region, address, enabled, err);
}

struct vmm_pci_host *vmm_pci_host_ref(struct vmm_pci_host *host)
{
    atomic_fetch_add(&host->refs, 1);
    return host;
}

/* The bridge's device may live on, held by others, with nothing to reset but its own function. */
struct vmm_pci_host *vmm_pci_host_unref(struct vmm_pci_host *host)
{
    if (!host || atomic_fetch_sub(&host->refs, 1) != 1)
        return NULL;
    struct vmm_pci_host_options *o = &host->options;
    vmm_pci_bus_clear(host, &host->root);
    vmm_bus_remove(o->mmio, host->ecam_region);
    if (o->ports)
        vmm_bus_remove(o->ports, host->config_region);
    if (host->self)
        host->self->host = NULL;
    for (int i = 0; i < 4; i++)
        vmm_irq_line_free(o->intx[i]);
    vmm_bus_unref(o->mmio);
    vmm_bus_unref(o->ports);
    vmm_memory_unref(o->memory);
    vmm_vm_unref(o->vm);
    vmm_device_unref(host->device);
    return NULL;
}

struct vmm_device *vmm_pci_host_device(struct vmm_pci_host *host)
{
    return host->device;
}

struct vmm_pci *vmm_pci_host_function(struct vmm_pci_host *host)
{
    return host->self;
}
