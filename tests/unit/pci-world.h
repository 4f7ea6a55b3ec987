/* SPDX-License-Identifier: BSD-3-Clause */
/* A host bridge without a VM, and what it does to the world: lines, messages, BARs. */
#ifndef TESTS_UNIT_PCI_WORLD_H
#define TESTS_UNIT_PCI_WORLD_H

#include "test.h"

#include <libvmm/pci.h>

#include <errno.h>
#include <string.h>

#define ECAM   0xe0000000u
#define WINDOW 0xc0000000u
#define HIGH   0x800000000u
#define RAM    0x100000u

struct world {
    struct vmm_memory *memory;
    struct vmm_bus *mmio, *ports;
    struct vmm_pci_host *host;
    uint32_t lines[4];
    struct vmm_msi sent[64];
    uint32_t sent_count;
    /* The device under test. */
    uint64_t bar_value;
    uint32_t bar_reads, bar_writes, last_bar, last_width;
    uint64_t last_offset, last_value;
    uint32_t placed[7]; /* bar_placed(true) minus bar_placed(false) */
    uint64_t placed_at[7];
    uint32_t resets, destroyed, config_writes;
};

static void world_line0(void *ctx, uint32_t level)
{
    ((struct world *)ctx)->lines[0] = level;
}
static void world_line1(void *ctx, uint32_t level)
{
    ((struct world *)ctx)->lines[1] = level;
}
static void world_line2(void *ctx, uint32_t level)
{
    ((struct world *)ctx)->lines[2] = level;
}
static void world_line3(void *ctx, uint32_t level)
{
    ((struct world *)ctx)->lines[3] = level;
}

static int world_msi(void *ctx, const struct vmm_msi *msi)
{
    struct world *w = ctx;
    w->sent[w->sent_count++ % 64] = *msi;
    return 1;
}

static uint64_t world_bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct world *w = ctx;
    w->bar_reads++;
    w->last_bar = bar;
    w->last_offset = offset;
    w->last_width = width;
    return w->bar_value;
}

static void world_bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width,
                            uint64_t value)
{
    struct world *w = ctx;
    w->bar_writes++;
    w->last_bar = bar;
    w->last_offset = offset;
    w->last_width = width;
    w->last_value = value;
}

static void world_bar_placed(void *ctx, uint32_t bar, bool enabled, uint64_t address)
{
    struct world *w = ctx;
    w->placed[bar] += enabled ? 1u : UINT32_MAX;
    w->placed_at[bar] = address;
}

static void world_reset(void *ctx)
{
    ((struct world *)ctx)->resets++;
}

static void world_destroy(void *ctx)
{
    ((struct world *)ctx)->destroyed++;
}

static const struct vmm_pci_ops world_ops = {
    .size = sizeof(world_ops),
    .bar_read = world_bar_read,
    .bar_write = world_bar_write,
    .bar_placed = world_bar_placed,
    .reset = world_reset,
    .destroy = world_destroy,
};

static inline struct vmm_pci_options world_options(struct world *w, const char *name)
{
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = name;
    o.vendor_id = 0x1234;
    o.device_id = 0x5678;
    o.subsystem_vendor_id = 0x9abc;
    o.subsystem_id = 0xdef0;
    o.class_code = 0x020305;
    o.revision = 7;
    o.ops = &world_ops;
    o.ctx = w;
    return o;
}

static struct vmm_pci_host_options world_host_options(struct world *w)
{
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    o.name = "pci-host";
    o.memory = w->memory;
    o.mmio = w->mmio;
    o.ports = w->ports;
    o.ecam_address = ECAM;
    o.buses = 2;
    o.config_port = 0xcf8;
    o.port_window = (struct vmm_pci_window){0x1000, 0x1000};
    o.window = (struct vmm_pci_window){WINDOW, 0x10000000};
    o.high_window = (struct vmm_pci_window){HIGH, 0x1000000000};
    o.signal_msi = world_msi;
    o.signal_msi_ctx = w;
    for (int i = 0; i < 4; i++)
        o.intx_numbers[i] = (uint8_t)(20 + i);
    return o;
}

static void world_open(struct world *w)
{
    static void (*const lines[])(void *, uint32_t) = {world_line0, world_line1, world_line2,
                                                      world_line3};
    memset(w, 0, sizeof(*w));
    assert_int_equal(vmm_memory_new(NULL, &w->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(w->memory, "ram", 0, RAM, NULL, NULL), 0);
    assert_int_equal(vmm_bus_new("memory", 64, &w->mmio), 0);
    assert_int_equal(vmm_bus_new("port", 16, &w->ports), 0);
    struct vmm_pci_host_options o = world_host_options(w);
    for (int i = 0; i < 4; i++)
        assert_int_equal(vmm_irq_line_new_callback(lines[i], w, &o.intx[i]), 0);
    assert_int_equal(vmm_pci_host_new(&o, &w->host, NULL), 0);
}

static void world_close(struct world *w)
{
    vmm_pci_host_unref(w->host);
    vmm_bus_unref(w->mmio);
    vmm_bus_unref(w->ports);
    vmm_memory_unref(w->memory);
}

/* On the bridge, which alone holds it then. */
static inline struct vmm_pci *world_add(struct world *w, const struct vmm_pci_options *o,
                                        uint32_t slot, uint32_t function)
{
    struct vmm_pci *pci;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_pci_new(o, &pci, &err) || vmm_pci_host_add(w->host, pci, slot, function, &err))
        fail_msg("%s", err.text);
    return vmm_pci_unref(pci) ? NULL : pci;
}

static inline uint32_t cfg(struct world *w, uint32_t slot, uint32_t offset, uint32_t width)
{
    uint32_t value = 0x5a5a5a5a;
    (void)vmm_pci_host_config_read(w->host, slot * 8, offset, width, &value);
    return value;
}

static inline void set_cfg(struct world *w, uint32_t slot, uint32_t offset, uint32_t width,
                           uint32_t value)
{
    assert_int_equal(vmm_pci_host_config_write(w->host, slot * 8, offset, width, value), 0);
}

static inline uint64_t mmio(struct world *w, uint64_t address, uint32_t width)
{
    uint64_t value = 0;
    (void)vmm_bus_read(w->mmio, address, width, &value);
    return value;
}

/* Does anything on the MMIO bus answer there? */
static inline bool answers(struct world *w, uint64_t address)
{
    uint64_t value;
    return vmm_bus_read(w->mmio, address, 4, &value) == 0;
}

/* Where a capability is; 0: it is not. The list is bounded, so that a loop ends. */
static inline uint32_t capability(struct world *w, uint32_t slot, uint8_t id)
{
    uint32_t at = cfg(w, slot, 0x34, 1);
    for (int i = 0; i < 48 && at; i++) {
        if (cfg(w, slot, at, 1) == id)
            return at;
        at = cfg(w, slot, at + 1, 1);
    }
    return 0;
}

#endif
