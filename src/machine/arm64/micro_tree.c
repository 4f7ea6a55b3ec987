/* SPDX-License-Identifier: BSD-3-Clause */
/* The `micro` board described to kernels: Devicetree Specification 0.3 and Linux's bindings. */
#include "base/util.h"
#include "machine/arm64/micro.h"

#include <libvmm/virtio.h>

#include <stdio.h>

/* Cells of the GIC's binding (interrupt-controller/arm,gic-v3.yaml). */
#define GIC_SPI    0u
#define GIC_PPI    1u
#define LEVEL_HIGH 4u

#define CLOCK_HZ  24000000u
#define KEY_POWER 116u
#define PCI_SLOTS 32u
#define MAP_CELLS 10u

struct tree {
    struct vmm_fdt *fdt;
    const struct vmm_machine *m;
    uint32_t gic, its, clock, gpio; /* phandles */
};

static void put_spi(struct tree *t, uint32_t gsi)
{
    vmm_fdt_put_cells(t->fdt, "interrupts", (uint32_t[]){GIC_SPI, gsi, LEVEL_HIGH}, 3);
}

static void add_psci(struct tree *t)
{
    static const char *const compatible[] = {"arm,psci-1.0", "arm,psci-0.2", "arm,psci"};
    vmm_fdt_begin(t->fdt, "psci");
    vmm_fdt_put_strings(t->fdt, "compatible", compatible, 3);
    vmm_fdt_put_string(t->fdt, "method", "hvc");
    vmm_fdt_end(t->fdt);
}

/* The affinity of KVM's vCPUs: 16 in a cluster. */
static void add_cpus(struct tree *t)
{
    uint32_t ids[MICRO_CPUS_MAX];
    uint32_t count = t->m->options.cpus;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (i & 0xf) | (i >> 4) << 8;
    vmm_fdt_add_cpus(t->fdt, "arm,armv8", "psci", ids, count);
}

static void add_its(struct tree *t)
{
    vmm_fdt_begin_at(t->fdt, "msi-controller", MICRO_GITS);
    vmm_fdt_put_string(t->fdt, "compatible", "arm,gic-v3-its");
    vmm_fdt_put_reg(t->fdt, MICRO_GITS, VMM_ARM64_GITS_SIZE);
    vmm_fdt_put_empty(t->fdt, "msi-controller");
    vmm_fdt_put_u32(t->fdt, "#msi-cells", 1);
    vmm_fdt_put_u32(t->fdt, "phandle", t->its);
    vmm_fdt_end(t->fdt);
}

static void put_two_ranges(struct tree *t, uint64_t a, uint64_t a_length, uint64_t b,
                           uint64_t b_length)
{
    const uint32_t reg[] = {
        (uint32_t)(a >> 32), (uint32_t)a, (uint32_t)(a_length >> 32), (uint32_t)a_length,
        (uint32_t)(b >> 32), (uint32_t)b, (uint32_t)(b_length >> 32), (uint32_t)b_length};
    vmm_fdt_put_cells(t->fdt, "reg", reg, 8);
}

static void add_gic(struct tree *t)
{
    bool v3 = vmm_arm64_gic_version(t->m->vm) == 3;
    vmm_fdt_begin_at(t->fdt, "interrupt-controller", MICRO_GICD);
    vmm_fdt_put_string(t->fdt, "compatible", v3 ? "arm,gic-v3" : "arm,cortex-a15-gic");
    if (v3)
        put_two_ranges(t, MICRO_GICD, VMM_ARM64_GICD_SIZE, MICRO_GICR,
                       t->m->options.cpus * VMM_ARM64_GICR_SIZE);
    else
        put_two_ranges(t, MICRO_GICD, VMM_ARM64_GICD_SIZE, MICRO_GICC, VMM_ARM64_GICC_SIZE);
    vmm_fdt_put_empty(t->fdt, "interrupt-controller");
    vmm_fdt_put_u32(t->fdt, "#interrupt-cells", 3);
    vmm_fdt_put_u32(t->fdt, "#address-cells", 2);
    vmm_fdt_put_u32(t->fdt, "#size-cells", 2);
    vmm_fdt_put_empty(t->fdt, "ranges");
    vmm_fdt_put_u32(t->fdt, "phandle", t->gic);
    if (v3)
        add_its(t);
    vmm_fdt_end(t->fdt);
}

/* PPIs 13, 14, 11, 10: secure, non-secure, virtual, hypervisor (timer/arm,arch_timer.yaml). For a GICv2
 * the third cell also says which processors. */
static void add_timer(struct tree *t)
{
    uint32_t flags = LEVEL_HIGH;
    if (vmm_arm64_gic_version(t->m->vm) == 2)
        flags |= ((1u << (t->m->options.cpus < 8 ? t->m->options.cpus : 8)) - 1) << 8;
    const uint32_t cells[] = {GIC_PPI, 13, flags, GIC_PPI, 14, flags,
                              GIC_PPI, 11, flags, GIC_PPI, 10, flags};
    vmm_fdt_begin(t->fdt, "timer");
    vmm_fdt_put_string(t->fdt, "compatible", "arm,armv8-timer");
    vmm_fdt_put_cells(t->fdt, "interrupts", cells, 12);
    vmm_fdt_put_empty(t->fdt, "always-on");
    vmm_fdt_end(t->fdt);
}

static void add_clock(struct tree *t)
{
    vmm_fdt_begin(t->fdt, "apb-pclk");
    vmm_fdt_put_string(t->fdt, "compatible", "fixed-clock");
    vmm_fdt_put_u32(t->fdt, "#clock-cells", 0);
    vmm_fdt_put_u32(t->fdt, "clock-frequency", CLOCK_HZ);
    vmm_fdt_put_u32(t->fdt, "phandle", t->clock);
    vmm_fdt_end(t->fdt);
}

/* Begins the node; the caller adds to it and ends it. */
static void begin_primecell(struct tree *t, const char *node, const char *kind, uint64_t address,
                            uint32_t gsi)
{
    const char *const compatible[] = {kind, "arm,primecell"};
    vmm_fdt_begin_at(t->fdt, node, address);
    vmm_fdt_put_strings(t->fdt, "compatible", compatible, 2);
    vmm_fdt_put_reg(t->fdt, address, VMM_PRIMECELL_SIZE);
    put_spi(t, gsi);
}

static void add_serial(struct tree *t, uint32_t index)
{
    static const char *const names[] = {"uartclk", "apb_pclk"};
    begin_primecell(t, "serial", "arm,pl011", MICRO_SERIAL + index * VMM_PRIMECELL_SIZE,
                    MICRO_SERIAL_GSI + index);
    vmm_fdt_put_cells(t->fdt, "clocks", (uint32_t[]){t->clock, t->clock}, 2);
    vmm_fdt_put_strings(t->fdt, "clock-names", names, 2);
    vmm_fdt_end(t->fdt);
}

static void put_bus_clock(struct tree *t)
{
    vmm_fdt_put_u32(t->fdt, "clocks", t->clock);
    vmm_fdt_put_string(t->fdt, "clock-names", "apb_pclk");
}

static void add_rtc(struct tree *t)
{
    begin_primecell(t, "rtc", "arm,pl031", MICRO_RTC, MICRO_RTC_GSI);
    put_bus_clock(t);
    vmm_fdt_end(t->fdt);
}

static void add_power_key(struct tree *t)
{
    begin_primecell(t, "gpio", "arm,pl061", MICRO_GPIO, MICRO_GPIO_GSI);
    put_bus_clock(t);
    vmm_fdt_put_empty(t->fdt, "gpio-controller");
    vmm_fdt_put_u32(t->fdt, "#gpio-cells", 2);
    vmm_fdt_put_empty(t->fdt, "interrupt-controller");
    vmm_fdt_put_u32(t->fdt, "#interrupt-cells", 2);
    vmm_fdt_put_u32(t->fdt, "#address-cells", 0);
    vmm_fdt_put_u32(t->fdt, "phandle", t->gpio);
    vmm_fdt_end(t->fdt);
    vmm_fdt_begin(t->fdt, "gpio-keys");
    vmm_fdt_put_string(t->fdt, "compatible", "gpio-keys");
    vmm_fdt_begin(t->fdt, "power");
    vmm_fdt_put_string(t->fdt, "label", "Power");
    vmm_fdt_put_u32(t->fdt, "linux,code", KEY_POWER);
    vmm_fdt_put_cells(t->fdt, "gpios", (uint32_t[]){t->gpio, MICRO_POWER_PIN, 0}, 3);
    vmm_fdt_end(t->fdt);
    vmm_fdt_end(t->fdt);
}

/* pci/host-generic-pci.yaml and the PCI bus binding: each device's pins, swizzled. */
static void put_interrupt_map(struct tree *t)
{
    uint32_t map[4 * 4 * MAP_CELLS], *cell = map;
    for (uint32_t slot = 0; slot < 4; slot++)
        for (uint32_t pin = 0; pin < 4; pin++) {
            const uint32_t entry[MAP_CELLS] = {
                slot << 11, 0, 0, pin + 1, t->gic, 0, 0, GIC_SPI, MICRO_PCI_GSI + (slot + pin) % 4,
                LEVEL_HIGH};
            memcpy(cell, entry, sizeof(entry));
            cell += MAP_CELLS;
        }
    vmm_fdt_put_cells(t->fdt, "interrupt-map", map, VMM_ARRAY_SIZE(map));
    vmm_fdt_put_cells(t->fdt, "interrupt-map-mask", (uint32_t[]){3u << 11, 0, 0, 7}, 4);
}

#define SPACE_PORTS     0x01000000u
#define SPACE_MEMORY_32 0x02000000u
#define SPACE_MEMORY_64 0x03000000u

/* `bus` is where PCI has it, `address` where the processor does. */
static void add_window(uint32_t cells[7], uint32_t space, uint64_t bus, uint64_t address,
                       uint64_t length)
{
    const uint32_t window[7] = {space,
                                (uint32_t)(bus >> 32),
                                (uint32_t)bus,
                                (uint32_t)(address >> 32),
                                (uint32_t)address,
                                (uint32_t)(length >> 32),
                                (uint32_t)length};
    memcpy(cells, window, sizeof(window));
}

static void add_pci(struct tree *t)
{
    uint32_t ranges[21];
    add_window(ranges, SPACE_PORTS, 0, MICRO_PORTS, MICRO_PORTS_COUNT);
    add_window(ranges + 7, SPACE_MEMORY_32, MICRO_WINDOW, MICRO_WINDOW,
               MICRO_WINDOW_END - MICRO_WINDOW);
    add_window(ranges + 14, SPACE_MEMORY_64, MICRO_HIGH_WINDOW, MICRO_HIGH_WINDOW,
               MICRO_HIGH_LENGTH);
    vmm_fdt_begin_at(t->fdt, "pcie", MICRO_ECAM);
    vmm_fdt_put_string(t->fdt, "compatible", "pci-host-ecam-generic");
    vmm_fdt_put_string(t->fdt, "device_type", "pci");
    vmm_fdt_put_u32(t->fdt, "#address-cells", 3);
    vmm_fdt_put_u32(t->fdt, "#size-cells", 2);
    vmm_fdt_put_u32(t->fdt, "#interrupt-cells", 1);
    vmm_fdt_put_u32(t->fdt, "linux,pci-domain", 0);
    vmm_fdt_put_cells(t->fdt, "bus-range", (uint32_t[]){0, MICRO_ECAM_BUSES - 1}, 2);
    vmm_fdt_put_empty(t->fdt, "dma-coherent");
    vmm_fdt_put_reg(t->fdt, MICRO_ECAM, MICRO_ECAM_BUSES * UINT64_C(0x100000));
    vmm_fdt_put_cells(t->fdt, "ranges", ranges, 21);
    put_interrupt_map(t);
    if (vmm_arm64_gic_version(t->m->vm) == 3)
        vmm_fdt_put_cells(t->fdt, "msi-map", (uint32_t[]){0, t->its, 0, 0x10000}, 4);
    vmm_fdt_end(t->fdt);
}

/* mtd/mtd-physmap.yaml; UEFI's driver looks for it too. */
static void add_flash(struct tree *t, const struct micro *micro)
{
    uint64_t length = vmm_pflash_length(micro->flash);
    vmm_fdt_begin_at(t->fdt, "flash", MICRO_FLASH);
    vmm_fdt_put_string(t->fdt, "compatible", "cfi-flash");
    vmm_fdt_put_reg(t->fdt, MICRO_FLASH, length);
    vmm_fdt_put_u32(t->fdt, "bank-width", 4);
    vmm_fdt_end(t->fdt);
    vmm_fdt_begin_at(t->fdt, "fw-cfg", MICRO_FWCFG);
    vmm_fdt_put_string(t->fdt, "compatible", "qemu,fw-cfg-mmio");
    vmm_fdt_put_reg(t->fdt, MICRO_FWCFG, VMM_FWCFG_MMIO_LENGTH);
    vmm_fdt_put_empty(t->fdt, "dma-coherent");
    vmm_fdt_end(t->fdt);
}

static void add_virtio(struct tree *t, uint32_t index)
{
    vmm_fdt_begin_at(t->fdt, "virtio_mmio", MICRO_VIRTIO_MMIO + index * VMM_VIRTIO_MMIO_SIZE);
    vmm_fdt_put_string(t->fdt, "compatible", "virtio,mmio");
    vmm_fdt_put_reg(t->fdt, MICRO_VIRTIO_MMIO + index * VMM_VIRTIO_MMIO_SIZE, VMM_VIRTIO_MMIO_SIZE);
    vmm_fdt_put_empty(t->fdt, "dma-coherent");
    put_spi(t, MICRO_VIRTIO_GSI + index);
    vmm_fdt_end(t->fdt);
}

static void add_all(struct tree *t)
{
    const struct micro *micro = t->m->board_data;
    const struct vmm_memory_map_entry ram = {MICRO_RAM, t->m->options.memory_size,
                                             VMM_MEMORY_MAP_RAM, 0};
    struct vmm_fdt_chosen chosen = VMM_FDT_CHOSEN_INIT;
    char path[40];
    (void)snprintf(path, sizeof(path), "/serial@%llx", (unsigned long long)MICRO_SERIAL);
    chosen.stdout_path = micro->serial[0] ? path : NULL;
    vmm_fdt_put_root(t->fdt, "libvmm micro", "linux,dummy-virt");
    vmm_fdt_put_u32(t->fdt, "interrupt-parent", t->gic);
    vmm_fdt_add_chosen(t->fdt, &chosen);
    vmm_fdt_add_memory(t->fdt, &ram, 1);
    add_cpus(t);
    add_psci(t);
    add_gic(t);
    add_timer(t);
    add_clock(t);
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS; i++)
        if (micro->serial[i])
            add_serial(t, i);
    add_rtc(t);
    add_power_key(t);
    if (micro->flash)
        add_flash(t, micro);
    if (t->m->pci)
        add_pci(t);
    for (uint32_t i = 0; i < micro->virtio_count; i++)
        add_virtio(t, i);
}

int vmm_micro_device_tree(const struct vmm_machine *m, void **data, size_t *length,
                          struct vmm_error *err)
{
    struct tree t = {.m = m};
    int rc = vmm_fdt_new(&t.fdt);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    t.gic = vmm_fdt_new_phandle(t.fdt);
    t.its = vmm_fdt_new_phandle(t.fdt);
    t.clock = vmm_fdt_new_phandle(t.fdt);
    t.gpio = vmm_fdt_new_phandle(t.fdt);
    add_all(&t);
    rc = vmm_fdt_finish(t.fdt, data, length, err);
    vmm_fdt_free(t.fdt);
    return rc;
}
