/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `pc` board's chipset: the host bridge 82441FX (data sheet 290549), the ISA bridge of the PIIX3
 * (290550) with its interrupt routing, and the power management function of the PIIX4 (290562).
 */
#include "base/util.h"
#include "machine/x86/pc.h"

#include <stdlib.h>

#define INTEL          0x8086u
#define I440FX         0x1237u
#define PIIX3_ISA      0x7000u
#define PIIX4_PM       0x7113u
#define REG_PAM0       0x59u
#define REG_PAM6       0x5fu
#define REG_SMRAM      0x72u
#define SMRAM_DEFAULT  0x02u
#define REG_PIRQ       0x60u /* A to D */
#define PIRQ_OFF       0x80u
#define REG_PMBASE     0x40u
#define REG_DEVACTB    0x58u
#define DEVACTB_APMC   0x02u /* in its last byte: SMIs by port 0xb2 are set up */
#define REG_PMREGMISC  0x80u
#define PMREGMISC_IOSE 0x01u
#define ROUTABLE       0xdef8u /* interrupts that a PIRQ may reach */

#define RESET_CPU  0x04u
#define RESET_BITS 0x0eu

/* Interrupts ----------------------------------------------------------------------------------- */

/* The four PIRQs, each on the ISA interrupt that its register names. */
static void apply_routes(struct pc *pc)
{
    const uint8_t *config = vmm_pci_config(pc->isa);
    uint32_t raised = 0;
    pthread_mutex_lock(&pc->route_lock);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t route = config[REG_PIRQ + i];
        if (pc->pirq[i] && !(route & PIRQ_OFF))
            raised |= 1u << (route & 0xf) & ROUTABLE;
    }
    for (uint32_t i = 0; i < PC_ISA_IRQS; i++)
        (void)vmm_irq_line_set(pc->isa_lines[i], raised >> i & 1);
    pthread_mutex_unlock(&pc->route_lock);
}

static void set_pirq(struct pc *pc, uint32_t number, uint32_t level)
{
    pthread_mutex_lock(&pc->route_lock);
    pc->pirq[number] = level;
    pthread_mutex_unlock(&pc->route_lock);
    apply_routes(pc);
}

/* INTA of slot 1 is PIRQA: INTA of slot 0, which the bridge counts from, is PIRQD. */
static void set_inta(void *ctx, uint32_t level)
{
    set_pirq(ctx, 3, level);
}
static void set_intb(void *ctx, uint32_t level)
{
    set_pirq(ctx, 0, level);
}
static void set_intc(void *ctx, uint32_t level)
{
    set_pirq(ctx, 1, level);
}
static void set_intd(void *ctx, uint32_t level)
{
    set_pirq(ctx, 2, level);
}

/* The host bridge ------------------------------------------------------------------------------ */

static void host_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)value;
    if ((offset <= REG_PAM6 && offset + width > REG_PAM0) ||
        (offset <= REG_SMRAM && offset + width > REG_SMRAM))
        vmm_pc_apply_memory(ctx);
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

static int set_host_registers(struct pc *pc)
{
    struct vmm_pci *host = vmm_pci_host_function(pc->machine->pci);
    int rc = 0;
    for (uint32_t i = REG_PAM0; i <= REG_PAM6 && !rc; i++)
        rc = vmm_pci_set_register(host, i, 0, i == REG_PAM0 ? 0x30 : 0x33);
    return rc ? rc : vmm_pci_set_register(host, REG_SMRAM, SMRAM_DEFAULT, 0x58);
}

static int add_host(struct vmm_machine *m, struct vmm_error *err)
{
    static void (*const set[4])(void *ctx, uint32_t level) = {set_inta, set_intb, set_intc,
                                                              set_intd};
    static const struct vmm_pci_ops ops = {.size = sizeof(ops), .config_written = host_written};
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    uint64_t high = vmm_pc_high_window(m);
    o.name = "pci";
    o.vm = m->vm;
    o.memory = m->memory;
    o.mmio = m->mmio;
    o.ports = m->ports;
    o.buses = 256;
    o.config_port = 0xcf8;
    o.port_window = (struct vmm_pci_window){PC_PCI_PORTS, 0x10000 - PC_PCI_PORTS};
    o.window = (struct vmm_pci_window){vmm_pc_window(m), PC_WINDOW_END - vmm_pc_window(m)};
    o.high_window = (struct vmm_pci_window){high, (UINT64_C(1) << 52) - high};
    o.vendor_id = INTEL;
    o.device_id = I440FX;
    o.ops = &ops;
    o.port_read = cf9_read;
    o.port_write = cf9_write;
    o.ops_ctx = o.port_ctx = m->board_data;
    int rc = 0;
    for (uint32_t i = 0; i < 4 && !rc; i++)
        rc = vmm_irq_line_new_callback(set[i], m->board_data, &o.intx[i]);
    rc = rc ? rc : vmm_pci_host_new(&o, &m->pci, err);
    for (uint32_t i = 0; rc && i < 4; i++)
        vmm_irq_line_free(o.intx[i]);
    rc = rc ? rc : set_host_registers(m->board_data);
    return rc ? rc : vmm_machine_add_device(m, vmm_pci_host_device(m->pci));
}

/* The ISA bridge ------------------------------------------------------------------------------- */

static void isa_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)value;
    if (offset < REG_PIRQ + 4 && offset + width > REG_PIRQ)
        apply_routes(ctx);
}

static void isa_reset(void *ctx)
{
    apply_routes(ctx);
}

static int save_nothing(void *ctx, struct vmm_state_writer *w)
{
    (void)ctx;
    (void)w;
    return 0;
}

static int isa_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    (void)r;
    (void)version;
    (void)err;
    apply_routes(ctx);
    return 0;
}

static int new_function(struct vmm_machine *m, const struct vmm_pci_options *o,
                        struct vmm_pci **out, struct vmm_error *err)
{
    int rc = vmm_pci_new(o, out, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pci_device(*out));
}

static int add_isa(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .config_written = isa_written,
                                           .reset = isa_reset,
                                           .state_version = 1,
                                           .save = save_nothing,
                                           .load = isa_load};
    struct pc *pc = m->board_data;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = "piix3";
    o.vendor_id = INTEL;
    o.device_id = PIIX3_ISA;
    o.class_code = 0x060100;
    o.ops = &ops;
    o.ctx = pc;
    int rc = new_function(m, &o, &pc->isa, err);
    for (uint32_t i = 0; i < 4 && !rc; i++)
        rc = vmm_pci_set_register(pc->isa, REG_PIRQ + i, PIRQ_OFF, 0x8f);
    return rc ? rc : vmm_pci_host_add(m->pci, pc->isa, PC_ISA_SLOT, 0, err);
}

/* Power management ----------------------------------------------------------------------------- */

/* Its ports are where PMBASE says, once PMREGMISC has switched them on. */
static void place_pm(struct pc *pc)
{
    const uint8_t *config = vmm_pci_config(pc->pm_function);
    uint64_t base = vmm_load_le16(config + REG_PMBASE) & 0xffc0u;
    bool on = (config[REG_PMREGMISC] & PMREGMISC_IOSE) && base;
    if (vmm_bus_place(pc->machine->ports, pc->pm_region, base, on, NULL))
        (void)vmm_bus_place(pc->machine->ports, pc->pm_region, base, false, NULL);
}

static void pm_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)value;
    if ((offset < REG_PMBASE + 4 && offset + width > REG_PMBASE) ||
        (offset <= REG_PMREGMISC && offset + width > REG_PMREGMISC))
        place_pm(ctx);
}

static void pm_reset(void *ctx)
{
    place_pm(ctx);
}

static int pm_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    (void)r;
    (void)version;
    (void)err;
    place_pm(ctx);
    return 0;
}

static void asleep(void *ctx, uint32_t type)
{
    struct pc *pc = ctx;
    if (type == PC_SLEEP_S5)
        vmm_machine_end(pc->machine, VMM_END_POWER_OFF, 0);
    /* The DSDT has no other state; a guest that asks for one goes on awake. */
}

static int add_pm_block(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_acpi_pm_options o = VMM_ACPI_PM_OPTIONS_INIT;
    o.name = "acpi-pm";
    o.loop = m->loop;
    o.sleep = asleep;
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

static int set_pm_registers(struct vmm_pci *pm)
{
    int rc = vmm_pci_set_register(pm, REG_PMBASE, 1, 0xc0); /* bit 0: in I/O space */
    rc = rc ? rc : vmm_pci_set_register(pm, REG_PMBASE + 1, 0, 0xff);
    /* SMM is none of ours: firmware finds its handler's set-up done and leaves it at that. */
    rc = rc ? rc : vmm_pci_set_register(pm, REG_DEVACTB + 3, DEVACTB_APMC, 0);
    return rc ? rc : vmm_pci_set_register(pm, REG_PMREGMISC, 0, PMREGMISC_IOSE);
}

static int add_pm(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .config_written = pm_written,
                                           .reset = pm_reset,
                                           .state_version = 1,
                                           .save = save_nothing,
                                           .load = pm_load};
    struct pc *pc = m->board_data;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = "piix4-pm";
    o.vendor_id = INTEL;
    o.device_id = PIIX4_PM;
    o.class_code = 0x068000;
    o.revision = 3;
    o.interrupt_pin = 1;
    o.ops = &ops;
    o.ctx = pc;
    int rc = add_pm_block(m, err);
    rc = rc ? rc : new_function(m, &o, &pc->pm_function, err);
    rc = rc ? rc : set_pm_registers(pc->pm_function);
    return rc ? rc : vmm_pci_host_add(m->pci, pc->pm_function, PC_ISA_SLOT, PC_PM_FUNCTION, err);
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
    rc = rc ? rc : add_host(m, err);
    rc = rc ? rc : add_isa(m, err);
    rc = rc ? rc : add_pm(m, err);
    rc = rc ? rc : add_chipset_device(m, err);
    if (!rc)
        vmm_pc_apply_memory(pc);
    return rc;
}

void vmm_pc_free_chipset(struct pc *pc)
{
    vmm_pci_unref(pc->isa);
    vmm_pci_unref(pc->pm_function);
    vmm_acpi_pm_unref(pc->pm);
    vmm_device_unref(pc->chipset);
    for (uint32_t i = 0; i < PC_ISA_IRQS; i++)
        vmm_irq_line_free(pc->isa_lines[i]);
}
