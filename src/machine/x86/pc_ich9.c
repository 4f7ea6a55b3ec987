/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chipset of the board `q35`: the memory controller hub of the Intel 3 series (data sheet 316966, the
 * "MCH") with PCI Express' configuration space in memory, and the LPC bridge of the ICH9 (316972).
 */
#include "base/util.h"
#include "machine/x86/pc.h"

#define INTEL    0x8086u
#define Q35_MCH  0x29c0u
#define ICH9_LPC 0x2918u
#define LPC_SLOT 31u

/* MCH, 5.1 */
#define REG_PCIEXBAR  0x60u
#define PCIEXBAR_ON   0x01u
#define PCIEXBAR_BASE UINT64_C(0xff0000000) /* 256 MiB: the length's bits cannot be written */
#define REG_PAM0      0x90u
#define REG_SMRAM     0x9du
#define SMRAM_DEFAULT 0x02u

/* LPC bridge, 13.1 */
#define REG_PMBASE      0x40u
#define PMBASE_BITS     0xff80u
#define REG_ACPI_CNTL   0x44u
#define ACPI_CNTL_ON    0x80u
#define REG_PIRQA       0x60u
#define REG_PIRQE       0x68u
#define REG_GEN_PMCON_1 0xa0u
#define REG_RCBA        0xf0u

/* From PMBASE on, 13.8.3. ACPI's registers take the first 32 ports. */
#define PM_ACPI_PORTS 0x20u
#define PM_MORE_PORTS 0x60u
#define GPE0_EN       0x08u /* from PM_ACPI_PORTS; 64 bits */
#define SMI_EN        0x10u
#define SMI_EN_GLOBAL 0x01u
#define SMI_EN_APMC   0x20u

/* The host bridge ---------------------------------------------------------------------------------- */

static void place_ecam(struct pc *pc)
{
    const uint8_t *config = vmm_pci_config(vmm_pci_host_function(pc->machine->pci));
    uint64_t where = vmm_load_le64(config + REG_PCIEXBAR);
    uint64_t base = where & PCIEXBAR_BASE;
    bool on = (where & PCIEXBAR_ON) && base;
    if (vmm_pci_host_place_ecam(pc->machine->pci, base, on, NULL))
        on = false; /* over something else: it answers nowhere */
    if (!on)
        (void)vmm_pci_host_place_ecam(pc->machine->pci, PC_ECAM_DEFAULT, false, NULL);
    pc->ecam = on ? base : 0;
}

static void host_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    vmm_pc_host_written(ctx, offset, width, value);
    if (offset < REG_PCIEXBAR + 8 && offset + width > REG_PCIEXBAR)
        place_ecam(ctx);
}

static int set_host_registers(struct pc *pc)
{
    struct vmm_pci *host = vmm_pci_host_function(pc->machine->pci);
    int rc = vmm_pci_set_register(host, REG_PCIEXBAR, 0, PCIEXBAR_ON);
    rc = rc ? rc : vmm_pci_set_register(host, REG_PCIEXBAR + 3, PC_ECAM_DEFAULT >> 24, 0xf0);
    rc = rc ? rc : vmm_pci_set_register(host, REG_PCIEXBAR + 4, 0, 0x0f);
    for (uint32_t i = 0; i < 7 && !rc; i++)
        rc = vmm_pci_set_register(host, REG_PAM0 + i, 0, i == 0 ? 0x30 : 0x33);
    return rc ? rc : vmm_pci_set_register(host, REG_SMRAM, SMRAM_DEFAULT, 0x58);
}

static int add_host(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops), .config_written = host_written};
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    o.vendor_id = INTEL;
    o.device_id = Q35_MCH;
    o.ecam_address = PC_ECAM_DEFAULT;
    o.ops = &ops;
    int rc = vmm_pc_add_host(m, &o, err);
    rc = rc ? rc : set_host_registers(m->board_data);
    if (!rc)
        place_ecam(m->board_data);
    return rc;
}

/* Power management --------------------------------------------------------------------------------- */

static void place_pm(struct pc *pc)
{
    struct vmm_bus *ports = pc->machine->ports;
    const uint8_t *config = vmm_pci_config(pc->isa);
    uint64_t base = vmm_load_le16(config + REG_PMBASE) & PMBASE_BITS;
    bool on = (config[REG_ACPI_CNTL] & ACPI_CNTL_ON) && base;
    if (on)
        pc->pm_port = (uint16_t)base;
    if (vmm_bus_place(ports, pc->pm_region, base, on, NULL))
        (void)vmm_bus_place(ports, pc->pm_region, base, false, NULL);
    if (vmm_bus_place(ports, pc->pm_more, base + PM_ACPI_PORTS, on, NULL))
        (void)vmm_bus_place(ports, pc->pm_more, base + PM_ACPI_PORTS, false, NULL);
}

/* No event of GPE0 ever comes. SMM is none of ours: firmware finds its handler's set-up done and leaves it
 * at that. */
static uint64_t more_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct pc *pc = ctx;
    (void)width;
    switch (offset) {
    case GPE0_EN:
        return pc->gpe0_enable[0];
    case GPE0_EN + 4:
        return pc->gpe0_enable[1];
    case SMI_EN:
        return pc->smi_enable | SMI_EN_APMC | SMI_EN_GLOBAL;
    default:
        return 0;
    }
}

static void more_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct pc *pc = ctx;
    if (width != 4)
        return;
    if (offset == GPE0_EN || offset == GPE0_EN + 4)
        pc->gpe0_enable[(offset - GPE0_EN) / 4] = (uint32_t)value;
    else if (offset == SMI_EN)
        pc->smi_enable = (uint32_t)value;
}

/* The LPC bridge ----------------------------------------------------------------------------------- */

static void lpc_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)value;
    if (offset < REG_PIRQE + 4 && offset + width > REG_PIRQA)
        vmm_pc_apply_routes(ctx);
    if (offset <= REG_ACPI_CNTL && offset + width > REG_PMBASE)
        place_pm(ctx);
}

static void lpc_reset(void *ctx)
{
    struct pc *pc = ctx;
    pc->gpe0_enable[0] = pc->gpe0_enable[1] = pc->smi_enable = 0;
    vmm_pc_apply_routes(pc);
    place_pm(pc);
    place_ecam(pc); /* the host bridge stands before this one */
}

static int lpc_save(void *ctx, struct vmm_state_writer *w)
{
    struct pc *pc = ctx;
    (void)vmm_state_put_u32(w, "gpe0-enable-low", pc->gpe0_enable[0]);
    (void)vmm_state_put_u32(w, "gpe0-enable-high", pc->gpe0_enable[1]);
    return vmm_state_put_u32(w, "smi-enable", pc->smi_enable);
}

static int lpc_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct pc *pc = ctx;
    uint32_t enable[2], smi;
    (void)version;
    int rc = vmm_state_get_u32(r, "gpe0-enable-low", UINT32_MAX, &enable[0], err);
    rc = rc ? rc : vmm_state_get_u32(r, "gpe0-enable-high", UINT32_MAX, &enable[1], err);
    rc = rc ? rc : vmm_state_get_u32(r, "smi-enable", UINT32_MAX, &smi, err);
    if (rc)
        return rc;
    memcpy(pc->gpe0_enable, enable, sizeof(enable));
    pc->smi_enable = smi;
    vmm_pc_apply_routes(pc);
    place_pm(pc);
    place_ecam(pc); /* the host bridge stands before this one */
    return 0;
}

static int add_more_ports(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {.size = sizeof(ops),
                                              .read = more_read,
                                              .write = more_write,
                                              .min_width = 4,
                                              .max_width = 4};
    struct pc *pc = m->board_data;
    struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
    r.name = "ich9-pm";
    r.address = PC_PM_PORT + PM_ACPI_PORTS;
    r.length = PM_MORE_PORTS;
    r.device = vmm_pci_device(pc->isa);
    r.ops = &ops;
    r.ctx = pc;
    int rc = vmm_bus_add(m->ports, &r, &pc->pm_more, err);
    return rc ? rc : vmm_bus_place(m->ports, pc->pm_more, r.address, false, err);
}

static int set_lpc_registers(struct vmm_pci *lpc)
{
    int rc = vmm_pci_set_register(lpc, REG_PMBASE, 1, 0x80); /* bit 0: in I/O space */
    rc = rc ? rc : vmm_pci_set_register(lpc, REG_PMBASE + 1, 0, 0xff);
    rc = rc ? rc : vmm_pci_set_register(lpc, REG_ACPI_CNTL, 0, 0x87);
    for (uint32_t i = 0; i < 4 && !rc; i++) {
        rc = vmm_pci_set_register(lpc, REG_PIRQA + i, PC_PIRQ_OFF, 0x8f);
        rc = rc ? rc : vmm_pci_set_register(lpc, REG_PIRQE + i, PC_PIRQ_OFF, 0x8f);
        /* The chipset's configuration registers in memory: there is none that a guest needs. */
        rc = rc ? rc
                : vmm_pci_set_register(lpc, REG_RCBA + i, 0,
                                       i == 0   ? 1
                                       : i == 1 ? 0xc0
                                                : 0xff);
    }
    return rc ? rc : vmm_pci_set_register(lpc, REG_GEN_PMCON_1, 0, 0xff);
}

static int add_lpc(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .config_written = lpc_written,
                                           .reset = lpc_reset,
                                           .state_version = 1,
                                           .save = lpc_save,
                                           .load = lpc_load};
    struct pc *pc = m->board_data;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = "ich9-lpc";
    o.vendor_id = INTEL;
    o.device_id = ICH9_LPC;
    o.class_code = 0x060100;
    o.revision = 2;
    o.ops = &ops;
    o.ctx = pc;
    int rc = vmm_pc_new_function(m, &o, &pc->isa, err);
    rc = rc ? rc : set_lpc_registers(pc->isa);
    rc = rc ? rc : add_more_ports(m, err);
    return rc ? rc : vmm_pci_host_add(m->pci, pc->isa, LPC_SLOT, 0, err);
}

static int add(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = vmm_pc_add_pm_block(m, PM_ACPI_PORTS, err);
    rc = rc ? rc : add_host(m, err);
    return rc ? rc : add_lpc(m, err);
}

/* Slots 0 to 24 have the PIRQs E to H in turn, INTA of slot 0 being PIRQE. */
const struct pc_kind vmm_pc_ich9 = {
    .low_memory_end =
        UINT64_C(0x80000000), /* what is above is PCI's: both firmwares put ECAM there */
    .pam0 = REG_PAM0,
    .smram = REG_SMRAM,
    .isa_slot = LPC_SLOT,
    .pirqs = 8,
    .pirq_registers = {REG_PIRQA, REG_PIRQA + 1, REG_PIRQA + 2, REG_PIRQA + 3, REG_PIRQE,
                       REG_PIRQE + 1, REG_PIRQE + 2, REG_PIRQE + 3},
    .line_pirqs = {4, 5, 6, 7},
    .sleep_s5 = 0, /* what EDK2 writes (OvmfPkg, ResetSystemLib); an ICH9 has 7 (13.8.3.3) */
    .express = true,
    .add = add,
};
