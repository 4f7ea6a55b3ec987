/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `pc` board: a PC of the late nineties, which every firmware and every operating system knows; and
 * `q35`, one of ten years later, with PCI Express. They start at the reset vector, in the firmware that the embedder names.
 */
#include "machine/x86/pc.h"
#include "base/util.h"
#include "machine/x86/processors.h"

#include <libvmm/debugport.h>
#include <libvmm/virtio.h>

#include <stdlib.h>

static void vm_options(struct vmm_vm_options *options)
{
    options->irqchip = VMM_IRQCHIP_KERNEL;
    options->pit = 1;
    /* The usual places lie in the firmware's. */
    options->identity_map_address = PC_KVM_IDENTITY;
    options->tss_address = PC_KVM_TSS;
}

static int add_serial(struct vmm_machine *m, uint32_t index, struct vmm_error *err)
{
    static const uint16_t ports[VMM_SERIAL_PORTS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    static const uint8_t irqs[VMM_SERIAL_PORTS] = {4, 3, 4, 3};
    struct pc *pc = m->board_data;
    const char name[] = {'s', 'e', 'r', 'i', 'a', 'l', (char)('0' + index), 0};
    struct vmm_serial_options o = VMM_SERIAL_OPTIONS_INIT;
    o.name = name;
    o.chardev = m->options.serial[index];
    int rc = vmm_irq_line_new(m->vm, irqs[index], &o.irq);
    if (!rc) {
        rc = vmm_serial_new(&o, &pc->serial[index]);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", name,
                             rc == -EBUSY ? "its chardev has a user already" : strerror(-rc));
    rc = vmm_serial_attach(pc->serial[index], m->ports, ports[index], 0, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_serial_device(pc->serial[index]));
}

/* CMOS bytes that firmware asks for: the number of processors, and the order of booting (disk, CD). */
static int set_cmos(struct vmm_machine *m, struct vmm_rtc *rtc)
{
    int rc = vmm_rtc_set_cmos(rtc, 0x5f, (uint8_t)(m->options.cpus - 1));
    rc = rc ? rc : vmm_rtc_set_cmos(rtc, 0x3d, 0x32);
    return rc ? rc : vmm_rtc_set_cmos(rtc, 0x38, 0x01); /* no check of floppies */
}

static int add_rtc(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_rtc_options o = VMM_RTC_OPTIONS_INIT;
    o.name = "rtc";
    o.loop = m->loop;
    o.memory_below_4g = vmm_pc_low_memory(m);
    o.memory_above_4g = m->options.memory_size - o.memory_below_4g;
    int rc = vmm_irq_line_new(m->vm, PC_RTC_IRQ, &o.irq);
    if (!rc) {
        rc = vmm_rtc_new(&o, &pc->rtc);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    rc = rc ? rc : set_cmos(m, pc->rtc);
    if (rc)
        return vmm_error_set(err, rc, "real-time clock: %s", strerror(-rc));
    rc = vmm_rtc_attach(pc->rtc, m->ports, PC_RTC_PORT, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_rtc_device(pc->rtc));
}

static void reset_line(void *ctx)
{
    vmm_machine_end(ctx, VMM_END_RESET, 0);
}

static int add_i8042(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_i8042_options o = VMM_I8042_OPTIONS_INIT;
    o.name = "i8042";
    o.reset = reset_line;
    o.ctx = m;
    int rc = vmm_irq_line_new(m->vm, 1, &o.keyboard_irq);
    rc = rc ? rc : vmm_irq_line_new(m->vm, 12, &o.mouse_irq);
    rc = rc ? rc : vmm_i8042_new(&o, &pc->i8042);
    if (rc) {
        vmm_irq_line_free(o.keyboard_irq);
        vmm_irq_line_free(o.mouse_irq);
        return vmm_error_set(err, rc, "keyboard controller: %s", strerror(-rc));
    }
    m->i8042 = pc->i8042;
    rc = vmm_i8042_attach(pc->i8042, m->ports, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_i8042_device(pc->i8042));
}

static void exit_requested(void *ctx, int32_t status)
{
    vmm_machine_end(ctx, VMM_END_DEBUG_EXIT, status);
}

static int add_debug_ports(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_chardev *console = m->options.debug_console;
    int rc = 0;
    if (console)
        rc = vmm_debugcon_add(m->ports, PC_DEBUG_PORT, "debugcon", console, NULL, err);
    if (!rc && console)
        rc = vmm_debugcon_add(m->ports, PC_BOCHS_PORT, "bochscon", console, NULL, err);
    if (!rc && m->options.debug_exit)
        rc = vmm_exitport_add(m->ports, PC_EXIT_PORT, "exitport", exit_requested, m, NULL, err);
    return rc;
}

static int add_kind(struct vmm_machine *m, const struct pc_kind *kind, struct vmm_error *err)
{
    struct pc *pc = calloc(1, sizeof(*pc));
    if (!pc)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&pc->route_lock, NULL);
    pc->machine = m;
    pc->kind = kind;
    m->board_data = pc;
    int rc = vmm_bus_new("port", 16, &m->ports);
    pc->ports = rc ? NULL : vmm_bus_ref(m->ports);
    rc = rc ? rc : vmm_pc_add_memory(m, err);
    rc = rc ? rc : vmm_pc_add_chipset(m, err);
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS && !rc; i++)
        if (m->options.serial[i])
            rc = add_serial(m, i, err);
    rc = rc ? rc : add_rtc(m, err);
    rc = rc ? rc : add_i8042(m, err);
    rc = rc ? rc : vmm_pc_add_fwcfg(m, err);
    return rc ? rc : add_debug_ports(m, err);
}

static int add_pc(struct vmm_machine *m, struct vmm_error *err)
{
    return add_kind(m, &vmm_pc_piix, err);
}

static int add_q35(struct vmm_machine *m, struct vmm_error *err)
{
    return add_kind(m, &vmm_pc_ich9, err);
}

static void destroy(struct vmm_machine *m)
{
    struct pc *pc = m->board_data;
    for (int i = 0; i < VMM_SERIAL_PORTS; i++)
        vmm_serial_unref(pc->serial[i]);
    vmm_rtc_unref(pc->rtc);
    vmm_i8042_unref(pc->i8042);
    vmm_fwcfg_unref(pc->fwcfg);
    vmm_pc_free_chipset(pc);
    vmm_pc_free_memory(pc);
    vmm_x86_cpuid_free(pc->cpuid);
    pthread_mutex_destroy(&pc->route_lock);
    free(pc);
}

static int set_up_vcpu(struct vmm_machine *m, struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    return vmm_board_set_up_vcpu(m, &pc->cpuid, vcpu, err);
}

/* The first processor stands at the reset vector already; the firmware does the rest. */
static int load(struct vmm_machine *m, struct vmm_error *err)
{
    if (m->kernel.kernel.path || m->kernel.kernel.data || m->kernel.kernel.fd >= 0)
        return vmm_error_set(err, -ENOTSUP,
                             "the board \"%s\" boots from its disks by firmware, not a kernel",
                             m->board->name);
    return vmm_pc_fill_fwcfg(m, err);
}

/* Always on PCI, the one bus there is. */
static int add_virtio(struct vmm_machine *m, struct vmm_virtio *virtio, struct vmm_error *err)
{
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    o.transitional = m->options.pci == VMM_MACHINE_PCI_TRANSITIONAL;
    int rc = vmm_virtio_pci_attach(virtio, m->pci, &o, err);
    if (rc != -ENOTSUP || !o.transitional)
        return rc;
    o.transitional = 0;
    return vmm_virtio_pci_attach(virtio, m->pci, &o, err);
}

static int power_button(struct vmm_machine *m)
{
    struct pc *pc = m->board_data;
    return vmm_acpi_pm_raise(pc->pm, VMM_ACPI_PM_POWER_BUTTON);
}

const struct vmm_board vmm_board_pc = {
    .name = "pc",
    .vm_options = vm_options,
    .add_devices = add_pc,
    .set_up_vcpu = set_up_vcpu,
    .load = load,
    .add_virtio = add_virtio,
    .power_button = power_button,
    .set_smbios = vmm_pc_set_smbios,
    .describe = vmm_board_describe,
    .destroy = destroy,
};

const struct vmm_board vmm_board_q35 = {
    .name = "q35",
    .vm_options = vm_options,
    .add_devices = add_q35,
    .set_up_vcpu = set_up_vcpu,
    .load = load,
    .add_virtio = add_virtio,
    .power_button = power_button,
    .set_smbios = vmm_pc_set_smbios,
    .describe = vmm_board_describe,
    .destroy = destroy,
};
