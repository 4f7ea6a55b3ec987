/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chipset of the board `pc`: the host bridge 82441FX (data sheet 290549), the ISA bridge of the PIIX3
 * (290550) and the power management function of the PIIX4 (290562).
 */
#include "base/util.h"
#include "machine/x86/pc.h"

#define INTEL          0x8086u
#define I440FX         0x1237u
#define PIIX3_ISA      0x7000u
#define PIIX4_PM       0x7113u
#define ISA_SLOT       1u
#define PM_FUNCTION    3u
#define REG_PAM0       0x59u
#define REG_PAM6       0x5fu
#define REG_SMRAM      0x72u
#define SMRAM_DEFAULT  0x02u
#define REG_PIRQ       0x60u /* A to D */
#define REG_PMBASE     0x40u
#define REG_DEVACTB    0x58u
#define DEVACTB_APMC   0x02u /* in its last byte: SMIs by port 0xb2 are set up */
#define REG_PMREGMISC  0x80u
#define PMREGMISC_IOSE 0x01u

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
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .config_written = vmm_pc_host_written};
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    o.vendor_id = INTEL;
    o.device_id = I440FX;
    o.ops = &ops;
    int rc = vmm_pc_add_host(m, &o, err);
    return rc ? rc : set_host_registers(m->board_data);
}

static void isa_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)value;
    if (offset < REG_PIRQ + 4 && offset + width > REG_PIRQ)
        vmm_pc_apply_routes(ctx);
}

static void isa_reset(void *ctx)
{
    vmm_pc_apply_routes(ctx);
}

static int isa_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    (void)r;
    (void)version;
    (void)err;
    vmm_pc_apply_routes(ctx);
    return 0;
}

static int add_isa(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .config_written = isa_written,
                                           .reset = isa_reset,
                                           .state_version = 1,
                                           .save = vmm_pc_save_nothing,
                                           .load = isa_load};
    struct pc *pc = m->board_data;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = "piix3";
    o.vendor_id = INTEL;
    o.device_id = PIIX3_ISA;
    o.class_code = 0x060100;
    o.ops = &ops;
    o.ctx = pc;
    int rc = vmm_pc_new_function(m, &o, &pc->isa, err);
    for (uint32_t i = 0; i < 4 && !rc; i++)
        rc = vmm_pci_set_register(pc->isa, REG_PIRQ + i, PC_PIRQ_OFF, 0x8f);
    return rc ? rc : vmm_pci_host_add(m->pci, pc->isa, ISA_SLOT, 0, err);
}

/* Power management ----------------------------------------------------------------------------- */

/* Its ports are where PMBASE says, once PMREGMISC has switched them on. */
static void place_pm(struct pc *pc)
{
    const uint8_t *config = vmm_pci_config(pc->pm_function);
    uint64_t base = vmm_load_le16(config + REG_PMBASE) & 0xffc0u;
    bool on = (config[REG_PMREGMISC] & PMREGMISC_IOSE) && base;
    if (on)
        pc->pm_port = (uint16_t)base;
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
                                           .save = vmm_pc_save_nothing,
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
    int rc = vmm_pc_add_pm_block(m, 0, err);
    rc = rc ? rc : vmm_pc_new_function(m, &o, &pc->pm_function, err);
    rc = rc ? rc : set_pm_registers(pc->pm_function);
    return rc ? rc : vmm_pci_host_add(m->pci, pc->pm_function, ISA_SLOT, PM_FUNCTION, err);
}

static int add(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = add_host(m, err);
    rc = rc ? rc : add_isa(m, err);
    return rc ? rc : add_pm(m, err);
}

/* INTA of slot 1 is PIRQA: INTA of slot 0 is PIRQD. */
const struct pc_kind vmm_pc_piix = {
    .low_memory_end = UINT64_C(0xc0000000),
    .pam0 = REG_PAM0,
    .smram = REG_SMRAM,
    .isa_slot = ISA_SLOT,
    .pirqs = 4,
    .pirq_registers = {REG_PIRQ, REG_PIRQ + 1, REG_PIRQ + 2, REG_PIRQ + 3},
    .line_pirqs = {3, 0, 1, 2},
    .sleep_s5 = 0,
    .add = add,
};
