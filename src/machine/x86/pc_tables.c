/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI for the `pc` board: fixed hardware, and what is not found by asking the buses. */
#include "base/util.h"
#include "machine/osc.h"
#include "machine/x86/pc.h"
#include "machine/x86/processors.h"

#include <libvmm/acpi.h>
#include <libvmm/aml.h>

#include <stdlib.h>

static void add_processors(struct vmm_aml *a, uint32_t cpus)
{
    for (uint32_t i = 0; i < cpus; i++) {
        static const char hex[] = "0123456789ABCDEF";
        const char name[] = {'C', hex[i >> 8 & 15], hex[i >> 4 & 15], hex[i & 15], 0};
        vmm_aml_device_begin(a, name);
        vmm_aml_name_string(a, "_HID", "ACPI0007");
        vmm_aml_name_int(a, "_UID", i);
        vmm_aml_end(a);
    }
}

/* A device with ports and an interrupt. */
static void add_isa_device(struct vmm_aml *a, const char *name, const char *hid, uint32_t uid,
                           uint16_t port, uint8_t ports, uint32_t irq)
{
    vmm_aml_device_begin(a, name);
    vmm_aml_name_eisaid(a, "_HID", hid);
    vmm_aml_name_int(a, "_UID", uid);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    if (ports)
        vmm_aml_io(a, port, ports);
    if (irq)
        vmm_aml_irq(a, irq);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

static void add_keyboard(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "KBD");
    vmm_aml_name_eisaid(a, "_HID", "PNP0303");
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_io(a, 0x60, 1);
    vmm_aml_io(a, 0x64, 1);
    vmm_aml_irq(a, 1);
    vmm_aml_end(a);
    vmm_aml_end(a);
    add_isa_device(a, "MOU", "PNP0F13", 0, 0, 0, 12);
}

static void add_isa(struct vmm_aml *a, const struct pc *pc)
{
    static const uint16_t ports[VMM_SERIAL_PORTS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    static const uint8_t irqs[VMM_SERIAL_PORTS] = {4, 3, 4, 3};
    vmm_aml_device_begin(a, "ISA");
    vmm_aml_name_int(a, "_ADR", (uint64_t)pc->kind->isa_slot << 16);
    add_isa_device(a, "RTC", "PNP0B00", 0, PC_RTC_PORT, VMM_RTC_PORTS, PC_RTC_IRQ);
    add_keyboard(a);
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS; i++) {
        const char name[] = {'C', 'O', 'M', (char)('1' + i), 0};
        if (pc->serial[i])
            add_isa_device(a, name, "PNP0501", i, ports[i], 8, irqs[i]);
    }
    vmm_aml_end(a);
}

/* The PIRQs that SeaBIOS and OVMF both route so: A and B, E and F to 10, the others to 11. */
static void add_routing(struct vmm_aml *a, const struct pc_kind *kind)
{
    vmm_aml_name(a, "_PRT");
    vmm_aml_package_begin(a, 31 * 4);
    for (uint32_t slot = 1; slot < 32; slot++)
        for (uint32_t pin = 0; pin < 4; pin++) {
            vmm_aml_package_begin(a, 4);
            vmm_aml_int(a, slot << 16 | 0xffffu);
            vmm_aml_int(a, pin);
            vmm_aml_int(a, 0);
            vmm_aml_int(a, kind->line_pirqs[(slot + pin) % 4] % 4 < 2 ? 10 : 11);
            vmm_aml_end(a);
        }
    vmm_aml_end(a);
}

/* Around the configuration space of PCI Express, where there is one. */
static void add_low_windows(struct vmm_aml *a, uint64_t first, uint64_t ecam)
{
    if (!ecam || ecam < first || ecam >= PC_WINDOW_END) {
        vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, first, PC_WINDOW_END - 1, false);
        return;
    }
    if (ecam > first)
        vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, first, ecam - 1, false);
    if (ecam + PC_ECAM_LENGTH < PC_WINDOW_END)
        vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, ecam + PC_ECAM_LENGTH, PC_WINDOW_END - 1,
                       false);
}

static void add_windows(struct vmm_aml *a, const struct vmm_machine *m)
{
    const struct pc *pc = m->board_data;
    uint64_t high = vmm_pc_high_window(m);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_BUSES, 16, 0, 255, false);
    vmm_aml_io(a, 0xcf8, 8);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, 0, 0xcf7, false);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, 0xd00, 0xffff, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, PC_VGA_WINDOW, PC_SHADOW - 1, false);
    add_low_windows(a, vmm_pc_window(m), pc->ecam);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, high, high + PC_HIGH_WINDOW - 1, true);
    vmm_aml_end(a);
}

/* The motherboard's own, so that nothing else is put over configuration space. */
static void reserve_ecam(struct vmm_aml *a, uint64_t ecam)
{
    vmm_aml_device_begin(a, "ECAM");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C02");
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_memory32(a, (uint32_t)ecam, (uint32_t)PC_ECAM_LENGTH, true);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

static void begin_bridge(struct vmm_aml *a, const struct pc *pc)
{
    vmm_aml_device_begin(a, "PCI0");
    vmm_aml_name_eisaid(a, "_HID", pc->kind->express ? "PNP0A08" : "PNP0A03");
    if (pc->kind->express) {
        vmm_aml_name_eisaid(a, "_CID", "PNP0A03");
        vmm_machine_add_osc(a);
    }
}

static void build_dsdt(struct vmm_aml *a, const struct vmm_machine *m)
{
    const struct pc *pc = m->board_data;
    vmm_aml_scope_begin(a, "\\_SB");
    add_processors(a, m->options.cpus);
    begin_bridge(a, pc);
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name_int(a, "_ADR", 0);
    add_windows(a, m);
    add_routing(a, pc->kind);
    add_isa(a, pc);
    vmm_aml_end(a);
    if (pc->ecam && pc->ecam < PC_HIGH_MEMORY)
        reserve_ecam(a, pc->ecam);
    vmm_aml_end(a);
    vmm_aml_name(a, "\\_S5");
    vmm_aml_package_begin(a, 4);
    for (int i = 0; i < 4; i++)
        vmm_aml_int(a, pc->kind->sleep_s5);
    vmm_aml_end(a);
}

static struct vmm_acpi_register port_register(uint32_t port, uint8_t length)
{
    return (struct vmm_acpi_register){.address = port, .space = 1, .length = length};
}

/* All tables, as the chipset's registers are now. The caller frees the files. */
static int build_files(const struct vmm_machine *m, struct vmm_acpi_files *f, struct vmm_error *err)
{
    /* Level-triggered where ISA's are edges: the SCI, and what the PIRQs reach. */
    static const struct vmm_acpi_override overrides[] = {
        {.isa = 5, .level = 1, .gsi = 5},
        {.isa = PC_SCI, .level = 1, .gsi = PC_SCI},
        {.isa = 10, .level = 1, .gsi = 10},
        {.isa = 11, .level = 1, .gsi = 11},
    };
    const struct pc *pc = m->board_data;
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    d.reset = port_register(0xcf9, 1);
    d.reset_value = 6;
    d.pm1_event = port_register(pc->pm_port, 4);
    d.pm1_control = port_register(pc->pm_port + VMM_ACPI_PM_CONTROL, 2);
    d.pm_timer = port_register(pc->pm_port + VMM_ACPI_PM_TIMER, 4);
    d.sci = PC_SCI;
    d.smi_command = PC_SMI_PORT;
    d.acpi_enable = PC_ACPI_ENABLE;
    d.acpi_disable = PC_ACPI_DISABLE;
    d.boot_flags = 3; /* legacy devices, 8042 */
    d.has_rtc = 1;
    d.cpus = m->options.cpus;
    d.ioapic_address = PC_IOAPIC;
    d.legacy_pics = 1;
    d.overrides = overrides;
    d.override_count = VMM_ARRAY_SIZE(overrides);
    /* Always there on a board that has it, so that the number of tables stays. */
    d.ecam_address = !pc->kind->express ? 0 : pc->ecam ? pc->ecam : PC_ECAM_DEFAULT;
    d.ecam_last_bus = 255;

    struct vmm_aml *a;
    int rc = vmm_aml_new(&a);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    build_dsdt(a, m);
    rc = vmm_aml_finish(a, &d.dsdt, &d.dsdt_length);
    if (rc)
        (void)vmm_error_set(err, rc, "the board's AML: %s", strerror(-rc));
    else
        rc = vmm_acpi_build_files(&d, f, err);
    vmm_aml_free(a);
    return rc;
}

static void free_files(struct vmm_acpi_files *f)
{
    free(f->tables);
    free(f->rsdp);
    free(f->script);
}

/* The guest is about to read a file. Firmware has set the chipset up by now, and its directory has said
 * how long the file is: what has become shorter is followed by zeros. */
static void refresh(const struct vmm_machine *m, uint32_t which, void *data, size_t length)
{
    struct vmm_acpi_files f = VMM_ACPI_FILES_INIT;
    if (build_files(m, &f, NULL))
        return;
    const void *from = which == 0 ? f.tables : which == 1 ? f.rsdp : f.script;
    size_t have = which == 0 ? f.tables_length : which == 1 ? f.rsdp_length : f.script_length;
    if (have <= length) {
        memcpy(data, from, have);
        memset((uint8_t *)data + have, 0, length - have);
    }
    free_files(&f);
}

static void refresh_tables(void *ctx, void *data, size_t length)
{
    refresh(ctx, 0, data, length);
}
static void refresh_rsdp(void *ctx, void *data, size_t length)
{
    refresh(ctx, 1, data, length);
}
static void refresh_script(void *ctx, void *data, size_t length)
{
    refresh(ctx, 2, data, length);
}

static int add_file(struct vmm_machine *m, const char *name, const void *data, size_t length,
                    size_t room, void (*fn)(void *ctx, void *data, size_t length),
                    struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    uint8_t *padded = calloc(1, room);
    if (!padded)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    memcpy(padded, data, length);
    int rc = vmm_fwcfg_set_file(pc->fwcfg, name, padded, room, err);
    free(padded);
    return rc ? rc : vmm_fwcfg_set_refresh(pc->fwcfg, name, fn, m);
}

int vmm_pc_add_tables(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_acpi_files f = VMM_ACPI_FILES_INIT;
    int rc = build_files(m, &f, err);
    if (rc)
        return rc;
    /* What may come: another window and its reservation. */
    size_t room = vmm_align_up(f.tables_length + 512, 4096);
    rc = add_file(m, VMM_ACPI_FILE_TABLES, f.tables, f.tables_length, room, refresh_tables, err);
    rc = rc ? rc
            : add_file(m, VMM_ACPI_FILE_RSDP, f.rsdp, f.rsdp_length, f.rsdp_length, refresh_rsdp,
                       err);
    rc = rc ? rc
            : add_file(m, VMM_ACPI_FILE_SCRIPT, f.script, f.script_length, f.script_length,
                       refresh_script, err);
    free_files(&f);
    return rc;
}
