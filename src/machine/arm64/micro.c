/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `micro` board on arm64: a GIC and timers in KVM, PrimeCells, virtio, and PCI where it is asked for.
 * Kernels are loaded directly and read a device tree, or UEFI does it (micro_firmware.c). Power-off, reset and the other processors' start
 * are PSCI's, which KVM answers.
 */
#include "machine/arm64/micro.h"
#include "base/util.h"

#include <libvmm/pci.h>
#include <libvmm/virtio.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define KEY_PRESS_NS UINT64_C(100000000)

static void vm_options(struct vmm_vm_options *options)
{
    options->irqchip = VMM_IRQCHIP_KERNEL;
}

/* Devices -------------------------------------------------------------------------------------- */

static int check_options(const struct vmm_machine *m, struct vmm_error *err)
{
    const struct vmm_machine_options *o = &m->options;
    if (o->cpus > MICRO_CPUS_MAX)
        return vmm_error_set(err, -EINVAL, "%u processors: the board has room for %u", o->cpus,
                             (unsigned)MICRO_CPUS_MAX);
    if (o->memory_size > MICRO_RAM_MAX)
        return vmm_error_set(err, -EINVAL, "memory of %llu bytes: the board has room for %llu",
                             (unsigned long long)o->memory_size, (unsigned long long)MICRO_RAM_MAX);
    if (o->memory_max || o->debug_exit || o->debug_console)
        return vmm_error_set(err, -ENOTSUP,
                             "memory_max, debug_exit and debug_console are not of this board");
    if (o->pci == VMM_MACHINE_PCI_TRANSITIONAL)
        return vmm_error_set(err, -ENOTSUP, "transitional devices need I/O ports");
    if (o->cpu && strcmp(o->cpu, "host") != 0)
        return vmm_error_set(err, -ENOTSUP, "cpu \"%s\": KVM gives the host's", o->cpu);
    if (o->assist == VMM_ASSIST_ON)
        return vmm_error_set(err, -ENOTSUP, "assist: it is for x86 instructions");
    return 0;
}

static int add_gic(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_arm64_gic_options o = VMM_ARM64_GIC_OPTIONS_INIT;
    o.distributor = MICRO_GICD;
    o.redistributor = MICRO_GICR;
    o.its = MICRO_GITS;
    o.cpu_interface = MICRO_GICC;
    return vmm_arm64_gic_new(m->vm, &o, err);
}

static int add_serial(struct vmm_machine *m, uint32_t index, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_pl011_options o = VMM_PL011_OPTIONS_INIT;
    char name[16];
    (void)snprintf(name, sizeof(name), "serial%u", index);
    o.name = name;
    o.chardev = m->options.serial[index];
    int rc = vmm_irq_line_new(m->vm, MICRO_SERIAL_GSI + index, &o.irq);
    if (!rc) {
        rc = vmm_pl011_new(&o, &micro->serial[index]);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", name,
                             rc == -EBUSY ? "its chardev has a user already" : strerror(-rc));
    rc = vmm_pl011_attach(micro->serial[index], m->mmio, MICRO_SERIAL + index * VMM_PRIMECELL_SIZE,
                          err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pl011_device(micro->serial[index]));
}

static int add_rtc(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_pl031_options o = VMM_PL031_OPTIONS_INIT;
    o.name = "rtc";
    o.loop = m->loop;
    int rc = vmm_irq_line_new(m->vm, MICRO_RTC_GSI, &o.irq);
    if (!rc) {
        rc = vmm_pl031_new(&o, &micro->rtc);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "real-time clock: %s", strerror(-rc));
    rc = vmm_pl031_attach(micro->rtc, m->mmio, MICRO_RTC, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pl031_device(micro->rtc));
}

static void key_up(void *ctx)
{
    struct micro *micro = ctx;
    (void)vmm_pl061_set_input(micro->gpio, MICRO_POWER_PIN, 0);
}

static int add_gpio(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_pl061_options o = VMM_PL061_OPTIONS_INIT;
    o.name = "gpio";
    int rc = vmm_irq_line_new(m->vm, MICRO_GPIO_GSI, &o.irq);
    if (!rc) {
        rc = vmm_pl061_new(&o, &micro->gpio);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (!rc)
        rc = vmm_timer_new(m->loop, key_up, micro, &micro->power_key);
    if (rc)
        return vmm_error_set(err, rc, "GPIO: %s", strerror(-rc));
    rc = vmm_pl061_attach(micro->gpio, m->mmio, MICRO_GPIO, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pl061_device(micro->gpio));
}

/* Arm has no ports: PCI's are in memory, a byte each. */
static uint64_t port_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct vmm_machine *m = ctx;
    uint64_t value = 0;
    (void)vmm_bus_read(m->ports, offset, width, &value);
    return value;
}

static void port_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    const struct vmm_machine *m = ctx;
    (void)vmm_bus_write(m->ports, offset, width, value);
}

static int add_ports(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {.size = sizeof(ops),
                                              .read = port_read,
                                              .write = port_write,
                                              .min_width = 1,
                                              .max_width = 4};
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    struct vmm_region *region; /* the bus's, and goes with it */
    o.name = "pci-ports";
    o.address = MICRO_PORTS;
    o.length = MICRO_PORTS_COUNT;
    o.ops = &ops;
    o.ctx = m;
    return vmm_bus_add(m->mmio, &o, &region, err);
}

static int add_pci(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    int rc = add_ports(m, err);
    if (rc)
        return rc;
    o.name = "pci";
    o.vm = m->vm;
    o.memory = m->memory;
    o.mmio = m->mmio;
    o.ports = m->ports;
    o.port_window = (struct vmm_pci_window){0x1000, MICRO_PORTS_COUNT - 0x1000};
    o.ecam_address = MICRO_ECAM;
    o.buses = MICRO_ECAM_BUSES;
    o.window = (struct vmm_pci_window){MICRO_WINDOW, MICRO_WINDOW_END - MICRO_WINDOW};
    o.high_window = (struct vmm_pci_window){MICRO_HIGH_WINDOW, MICRO_HIGH_LENGTH};
    for (uint32_t i = 0; i < 4 && !rc; i++) {
        o.intx_numbers[i] = (uint8_t)(MICRO_PCI_GSI + i);
        rc = vmm_irq_line_new(m->vm, MICRO_PCI_GSI + i, &o.intx[i]);
    }
    if (rc)
        (void)vmm_error_set(err, rc, "PCI interrupt lines: %s", strerror(-rc));
    else
        rc = vmm_pci_host_new(&o, &m->pci, err);
    for (uint32_t i = 0; rc && i < 4; i++)
        vmm_irq_line_free(o.intx[i]);
    return rc ? rc : vmm_machine_add_device(m, vmm_pci_host_device(m->pci));
}

static int add_virtio(struct vmm_machine *m, struct vmm_virtio *virtio, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_virtio_pci_options pci = VMM_VIRTIO_PCI_OPTIONS_INIT;
    uint32_t place = micro->virtio_count;
    struct vmm_irq_line *irq;
    if (m->pci)
        return vmm_virtio_pci_attach(virtio, m->pci, &pci, err);
    if (place == MICRO_VIRTIO_MAX)
        return vmm_error_set(err, -ENOSPC, "the board has room for %u virtio devices",
                             MICRO_VIRTIO_MAX);
    int rc = vmm_irq_line_new(m->vm, MICRO_VIRTIO_GSI + place, &irq);
    if (rc)
        return vmm_error_set(err, rc, "interrupt line: %s", strerror(-rc));
    rc = vmm_virtio_mmio_attach(
        virtio, m->mmio, MICRO_VIRTIO_MMIO + (uint64_t)place * VMM_VIRTIO_MMIO_SIZE, irq, err);
    if (rc)
        vmm_irq_line_free(irq);
    else
        micro->virtio_count++;
    return rc;
}

static int add_devices(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = calloc(1, sizeof(*micro));
    if (!micro)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    m->board_data = micro;
    int rc = check_options(m, err);
    if (!rc)
        rc = add_gic(m, err);
    if (!rc)
        rc = vmm_machine_add_ram(m, "ram", MICRO_RAM, m->options.memory_size, NULL, err);
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS && !rc; i++)
        if (m->options.serial[i])
            rc = add_serial(m, i, err);
    if (!rc)
        rc = add_rtc(m, err);
    if (!rc)
        rc = add_gpio(m, err);
    if (!rc)
        rc = vmm_micro_add_firmware(m, err);
    return rc || !m->options.pci ? rc : add_pci(m, err);
}

static void destroy(struct vmm_machine *m)
{
    struct micro *micro = m->board_data;
    vmm_timer_free(micro->power_key);
    for (int i = 0; i < VMM_SERIAL_PORTS; i++)
        vmm_pl011_unref(micro->serial[i]);
    vmm_pl031_unref(micro->rtc);
    vmm_pl061_unref(micro->gpio);
    vmm_pflash_unref(micro->flash);
    vmm_irq_line_free(micro->event);
    vmm_memory_region_unref(micro->firmware);
    vmm_fwcfg_unref(micro->fwcfg);
    free(micro);
}

/* Processors and loading ----------------------------------------------------------------------- */

/* The GIC is initialized when the last processor is there. */
static int set_up_vcpu(struct vmm_machine *m, struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    bool last = vmm_vcpu_id(vcpu) + 1 == m->options.cpus;
    return last ? vmm_arm64_gic_init(m->vm, m->options.cpus, err) : 0;
}

static int load_kernel(struct vmm_machine *m, struct vmm_boot_state *state, struct vmm_error *err)
{
    const struct vmm_memory_map_entry ram = {MICRO_RAM, m->options.memory_size, VMM_MEMORY_MAP_RAM,
                                             0};
    struct vmm_kernel_options k = m->kernel;
    uint8_t seed[64];
    void *tree = NULL;
    size_t length = 0;
    int rc = k.device_tree ? 0 : vmm_micro_device_tree(m, &tree, &length, err);
    if (rc)
        return rc;
    if (tree) {
        k.device_tree = tree;
        k.device_tree_length = length;
    }
    k.memory_map = &ram;
    k.memory_map_count = 1;
    if (!k.random_seed && getrandom(seed, sizeof(seed), GRND_NONBLOCK) == (long)sizeof(seed)) {
        k.random_seed = seed;
        k.random_seed_length = sizeof(seed);
    }
    rc = vmm_kernel_load(m->memory, &k, state, err);
    free(tree);
    return rc;
}

static int load(struct vmm_machine *m, struct vmm_error *err)
{
    const struct vmm_kernel_options *k = &m->kernel;
    struct vmm_boot_state state = VMM_BOOT_STATE_INIT;
    if (m->options.firmware)
        return vmm_micro_load_firmware(m, err); /* which gives PCI its places too */
    int rc = m->pci ? vmm_pci_host_assign(m->pci, err) : 0;
    if (rc || (!k->kernel.path && !k->kernel.data && k->kernel.fd < 0))
        return rc; /* without a kernel: the embedder sets the registers */
    rc = load_kernel(m, &state, err);
    if (rc)
        return rc;
    rc = vmm_arm64_boot_apply(m->vcpus[0], &state);
    return rc ? vmm_error_set(err, rc, "entry state of the kernel: %s", strerror(-rc)) : 0;
}

static int power_button(struct vmm_machine *m)
{
    struct micro *micro = m->board_data;
    if (micro->event)
        return vmm_irq_line_pulse(micro->event);
    int rc = vmm_pl061_set_input(micro->gpio, MICRO_POWER_PIN, 1);
    return rc ? rc : vmm_timer_set(micro->power_key, vmm_loop_now(m->loop) + KEY_PRESS_NS);
}

static void describe(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text, size_t size)
{
    if (vmm_arm64_describe_exit(vcpu, exit, text, size) < 0)
        (void)snprintf(text, size, "vCPU %u: %s\n", vmm_vcpu_id(vcpu), vmm_exit_name(exit->reason));
}

const struct vmm_board vmm_board_micro = {
    .name = "micro",
    .vm_options = vm_options,
    .add_devices = add_devices,
    .set_up_vcpu = set_up_vcpu,
    .load = load,
    .add_virtio = add_virtio,
    .power_button = power_button,
    .describe = describe,
    .destroy = destroy,
};
