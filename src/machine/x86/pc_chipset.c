/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the chipsets of PCs have alike: the routing of PCI's interrupts to ISA's, the reset control, ACPI's
 * registers, the ports that raise SMIs.
 */
#include "base/util.h"
#include "machine/x86/pc.h"

#include <stdlib.h>

#define ROUTABLE   0xdef8u /* interrupts that a PIRQ may reach */
#define RESET_CPU  0x04u
#define RESET_BITS 0x0eu

/* Interrupts ----------------------------------------------------------------------------------- */

/* Each PIRQ on the ISA interrupt that its register names (PIIX3: 2.2.4; ICH9: 13.1.8, 13.1.10). */
void vmm_pc_apply_routes(struct pc *pc)
{
    const uint8_t *config = vmm_pci_config(pc->isa);
    uint32_t raised = 0;
    pthread_mutex_lock(&pc->route_lock);
    for (uint32_t i = 0; i < pc->kind->pirqs; i++) {
        uint8_t route = config[pc->kind->pirq_registers[i]];
        if (pc->pirq[i] && !(route & PC_PIRQ_OFF))
            raised |= 1u << (route & 0xf) & ROUTABLE;
    }
    for (uint32_t i = 0; i < PC_ISA_IRQS; i++)
        (void)vmm_irq_line_set(pc->isa_lines[i], raised >> i & 1);
    pthread_mutex_unlock(&pc->route_lock);
}

static void set_line(struct pc *pc, uint32_t line, uint32_t level)
{
    pthread_mutex_lock(&pc->route_lock);
    pc->pirq[pc->kind->line_pirqs[line]] = level;
    pthread_mutex_unlock(&pc->route_lock);
    vmm_pc_apply_routes(pc);
}

static void set_inta(void *ctx, uint32_t level)
{
    set_line(ctx, 0, level);
}
static void set_intb(void *ctx, uint32_t level)
{
    set_line(ctx, 1, level);
}
static void set_intc(void *ctx, uint32_t level)
{
    set_line(ctx, 2, level);
}
static void set_intd(void *ctx, uint32_t level)
{
    set_line(ctx, 3, level);
}

/* The host bridge ------------------------------------------------------------------------------ */

void vmm_pc_host_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    struct pc *pc = ctx;
    uint32_t pam0 = pc->kind->pam0, smram = pc->kind->smram;
    (void)value;
    if ((offset <= pam0 + 6 && offset + width > pam0) ||
        (offset <= smram && offset + width > smram))
        vmm_pc_apply_memory(pc);
}

/* Port 0xcf9, a byte inside the address register of PCI: a reset when RESET_CPU goes from 0 to 1. */
static uint64_t cf9_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct pc *pc = ctx;
    if (offset != 1 || width != 1)
        return UINT32_MAX;
    vmm_device_lock(pc->chipset);
    uint8_t value = pc->reset_control;
    vmm_device_unlock(pc->chipset);
    return value;
}

static void cf9_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct pc *pc = ctx;
    if (offset != 1 || width != 1)
        return;
    vmm_device_lock(pc->chipset);
    bool rises = !(pc->reset_control & RESET_CPU) && (value & RESET_CPU);
    pc->reset_control = (uint8_t)value & RESET_BITS;
    vmm_device_unlock(pc->chipset);
    if (rises)
        vmm_machine_end(pc->machine, VMM_END_RESET, 0);
}

int vmm_pc_add_host(struct vmm_machine *m, struct vmm_pci_host_options *o, struct vmm_error *err)
{
    static void (*const set[4])(void *ctx, uint32_t level) = {set_inta, set_intb, set_intc,
                                                              set_intd};
    uint64_t high = vmm_pc_high_window(m);
    o->name = "pci";
    o->vm = m->vm;
    o->memory = m->memory;
    o->mmio = m->mmio;
    o->ports = m->ports;
    o->buses = 256;
    o->config_port = 0xcf8;
    o->port_window = (struct vmm_pci_window){PC_PCI_PORTS, 0x10000 - PC_PCI_PORTS};
    o->window = (struct vmm_pci_window){vmm_pc_window(m), PC_WINDOW_END - vmm_pc_window(m)};
    o->high_window = (struct vmm_pci_window){high, (UINT64_C(1) << 52) - high};
    o->port_read = cf9_read;
    o->port_write = cf9_write;
    o->ops_ctx = o->port_ctx = m->board_data;
    int rc = 0;
    for (uint32_t i = 0; i < 4 && !rc; i++)
        rc = vmm_irq_line_new_callback(set[i], m->board_data, &o->intx[i]);
    rc = rc ? rc : vmm_pci_host_new(o, &m->pci, err);
    for (uint32_t i = 0; rc && i < 4; i++)
        vmm_irq_line_free(o->intx[i]);
    return rc ? rc : vmm_machine_add_device(m, vmm_pci_host_device(m->pci));
}

/* Parts of the others ---------------------------------------------------------------------------- */

int vmm_pc_save_nothing(void *ctx, struct vmm_state_writer *w)
{
    (void)ctx;
    (void)w;
    return 0;
}

int vmm_pc_new_function(struct vmm_machine *m, const struct vmm_pci_options *o,
                        struct vmm_pci **out, struct vmm_error *err)
{
    int rc = vmm_pci_new(o, out, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pci_device(*out));
}

static void asleep(void *ctx, uint32_t type)
{
    struct pc *pc = ctx;
    if (type == pc->kind->sleep_s5)
        vmm_machine_end(pc->machine, VMM_END_POWER_OFF, 0);
    /* The DSDT has no other state; a guest that asks for one goes on awake. */
}

int vmm_pc_add_pm_block(struct vmm_machine *m, uint32_t length, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_acpi_pm_options o = VMM_ACPI_PM_OPTIONS_INIT;
    pc->pm_port = PC_PM_PORT;
    o.name = "acpi-pm";
    o.loop = m->loop;
    o.sleep = asleep;
    o.length = length;
    o.ctx = pc;
    int rc = vmm_irq_line_new(m->vm, PC_SCI, &o.sci);
    if (!rc) {
        rc = vmm_acpi_pm_new(&o, &pc->pm);
        if (rc)
            vmm_irq_line_free(o.sci);
    }
    rc = rc ? rc : vmm_machine_add_device(m, vmm_acpi_pm_device(pc->pm));
    rc = rc ? rc : vmm_acpi_pm_attach(pc->pm, m->ports, PC_PM_PORT, &pc->pm_region, err);
    return rc ? rc : vmm_bus_place(m->ports, pc->pm_region, PC_PM_PORT, false, err);
}

/* What else has state: the SMI ports and the reset control ----------------------------------------- */

static uint64_t smi_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)width;
    return ((struct pc *)ctx)->smi[offset];
}

/* The handler's work, done at once: ACPI on and off. The chipset's lock is held, the block's is another
 * and never held while the chipset's is taken. */
static void smi_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct pc *pc = ctx;
    (void)width;
    pc->smi[offset] = (uint8_t)value;
    if (offset == 0 && (value == PC_ACPI_ENABLE || value == PC_ACPI_DISABLE))
        vmm_acpi_pm_set_acpi_mode(pc->pm, value == PC_ACPI_ENABLE);
}

static void chipset_reset(void *ctx)
{
    struct pc *pc = ctx;
    pc->reset_control = pc->smi[0] = pc->smi[1] = 0;
    vmm_pc_apply_memory(pc);
}

static int chipset_save(void *ctx, struct vmm_state_writer *w)
{
    struct pc *pc = ctx;
    (void)vmm_state_put_u32(w, "reset-control", pc->reset_control);
    return vmm_state_put_bytes(w, "smi", pc->smi, sizeof(pc->smi));
}

static int chipset_load(void *ctx, struct vmm_state_reader *r, uint32_t version,
                        struct vmm_error *err)
{
    struct pc *pc = ctx;
    uint32_t control;
    uint8_t smi[2];
    (void)version;
    int rc = vmm_state_get_u32(r, "reset-control", RESET_BITS, &control, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "smi", smi, sizeof(smi), err);
    if (!rc && (control & ~RESET_BITS))
        rc = vmm_error_set(err, -EINVAL, "chipset/reset-control: 0x%x", control);
    if (rc)
        return rc;
    pc->reset_control = (uint8_t)control;
    memcpy(pc->smi, smi, sizeof(smi));
    vmm_pc_apply_memory(pc); /* the host bridge stands before */
    return 0;
}

static int add_chipset_device(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = chipset_reset,
                                              .state_version = 1,
                                              .save = chipset_save,
                                              .load = chipset_load};
    static const struct vmm_region_ops smi = {
        .size = sizeof(smi), .read = smi_read, .write = smi_write, .min_width = 1, .max_width = 1};
    struct pc *pc = m->board_data;
    struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
    int rc = vmm_device_new("chipset", &ops, pc, &pc->chipset);
    rc = rc ? rc : vmm_machine_add_device(m, pc->chipset);
    r.name = "smi";
    r.address = PC_SMI_PORT;
    r.length = 2;
    r.device = pc->chipset;
    r.ops = &smi;
    r.ctx = pc;
    return rc ? rc : vmm_bus_add(m->ports, &r, NULL, err);
}

int vmm_pc_add_chipset(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    int rc = 0;
    for (uint32_t i = 0; i < PC_ISA_IRQS && !rc; i++)
        if (ROUTABLE >> i & 1)
            rc = vmm_irq_line_new(m->vm, i, &pc->isa_lines[i]);
    rc = rc ? rc : pc->kind->add(m, err);
    rc = rc ? rc : add_chipset_device(m, err);
    if (!rc)
        vmm_pc_apply_memory(pc);
    return rc;
}

void vmm_pc_free_chipset(struct pc *pc)
{
    /* Firmware may not have placed them: then the bus does not know them. */
    if (pc->pm_region)
        vmm_bus_remove(pc->ports, pc->pm_region);
    if (pc->pm_more)
        vmm_bus_remove(pc->ports, pc->pm_more);
    vmm_bus_unref(pc->ports);
    vmm_pci_unref(pc->isa);
    vmm_pci_unref(pc->pm_function);
    vmm_acpi_pm_unref(pc->pm);
    vmm_device_unref(pc->chipset);
    for (uint32_t i = 0; i < PC_ISA_IRQS; i++)
        vmm_irq_line_free(pc->isa_lines[i]);
}
