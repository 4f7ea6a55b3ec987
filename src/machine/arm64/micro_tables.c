/* SPDX-License-Identifier: BSD-3-Clause */
/* The `micro` board on arm64 described by ACPI, for what UEFI starts (Arm's DEN0109, Base Boot Requirements 8.5). */
#include "base/util.h"
#include "machine/arm64/micro.h"
#include "machine/osc.h"

#include <libvmm/acpi.h>
#include <libvmm/aml.h>
#include <libvmm/virtio.h>

#include <stdlib.h>

#define GSIV(spi)     (32u + (spi))
#define PPI_GSIV(ppi) (16u + (ppi))

/* The DSDT ------------------------------------------------------------------------------------- */

/* A device with a page of registers and an interrupt; the caller adds to it and ends it. */
static void begin_device(struct vmm_aml *a, const char *name, const char *hid, uint32_t uid,
                         uint64_t address, uint64_t length, uint32_t gsi)
{
    vmm_aml_device_begin(a, name);
    vmm_aml_name_string(a, "_HID", hid);
    vmm_aml_name_int(a, "_UID", uid);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_memory32(a, (uint32_t)address, (uint32_t)length, true);
    vmm_aml_interrupt(a, GSIV(gsi), true, false, false);
    vmm_aml_end(a);
}

static void numbered(char name[5], const char *prefix, uint32_t number)
{
    static const char hex[] = "0123456789ABCDEF";
    name[0] = prefix[0];
    name[1] = prefix[1];
    name[2] = hex[number >> 4 & 15];
    name[3] = hex[number & 15];
    name[4] = '\0';
}

static void add_processors(struct vmm_aml *a, uint32_t cpus)
{
    char name[5];
    for (uint32_t i = 0; i < cpus; i++) {
        numbered(name, "CP", i);
        vmm_aml_device_begin(a, name);
        vmm_aml_name_string(a, "_HID", "ACPI0007");
        vmm_aml_name_int(a, "_UID", i);
        vmm_aml_end(a);
    }
}

static void add_devices(struct vmm_aml *a, const struct micro *micro)
{
    char name[5];
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS; i++) {
        if (!micro->serial[i])
            continue;
        numbered(name, "CO", i);
        begin_device(a, name, "ARMH0011", i, MICRO_SERIAL + i * VMM_PRIMECELL_SIZE,
                     VMM_PRIMECELL_SIZE, MICRO_SERIAL_GSI + i);
        vmm_aml_end(a);
    }
    for (uint32_t i = 0; i < micro->virtio_count; i++) {
        numbered(name, "VR", i);
        begin_device(a, name, "LNRO0005", i, MICRO_VIRTIO_MMIO + i * VMM_VIRTIO_MMIO_SIZE,
                     VMM_VIRTIO_MMIO_SIZE, MICRO_VIRTIO_GSI + i);
        vmm_aml_name_int(a, "_CCA", 1);
        vmm_aml_end(a);
    }
}

/* The generic event device (5.6.9): its one event is the button. */
static void add_power_button(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "PWRB");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C0C");
    vmm_aml_end(a);
    vmm_aml_device_begin(a, "GED0");
    vmm_aml_name_string(a, "_HID", "ACPI0013");
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_interrupt(a, GSIV(MICRO_EVENT_GSI), false, false, false);
    vmm_aml_end(a);
    vmm_aml_method_begin(a, "_EVT", 1, true);
    vmm_aml_op(a, VMM_AML_NOTIFY);
    vmm_aml_path(a, "PWRB");
    vmm_aml_int(a, 0x80);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

/* Each device's pins, swizzled, straight to the GIC (6.2.13). */
static void add_routing(struct vmm_aml *a)
{
    vmm_aml_name(a, "_PRT");
    vmm_aml_package_begin(a, 32 * 4);
    for (uint32_t slot = 0; slot < 32; slot++)
        for (uint32_t pin = 0; pin < 4; pin++) {
            vmm_aml_package_begin(a, 4);
            vmm_aml_int(a, slot << 16 | 0xffffu);
            vmm_aml_int(a, pin);
            vmm_aml_int(a, 0);
            vmm_aml_int(a, GSIV(MICRO_PCI_GSI + (slot + pin) % 4));
            vmm_aml_end(a);
        }
    vmm_aml_end(a);
}

static void add_pci(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "PCI0");
    vmm_aml_name_eisaid(a, "_HID", "PNP0A08");
    vmm_aml_name_eisaid(a, "_CID", "PNP0A03");
    vmm_aml_name_int(a, "_SEG", 0);
    vmm_aml_name_int(a, "_BBN", 0);
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name_int(a, "_CCA", 1);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_BUSES, 16, 0, MICRO_ECAM_BUSES - 1, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, MICRO_WINDOW, MICRO_WINDOW_END - 1, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, MICRO_HIGH_WINDOW,
                   MICRO_HIGH_WINDOW + MICRO_HIGH_LENGTH - 1, false);
    vmm_aml_end(a);
    add_routing(a);
    vmm_machine_add_osc(a);
    vmm_aml_end(a);
}

/* The motherboard's own, so that nothing else is put over configuration space. */
static void reserve_ecam(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "ECAM");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C02");
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_memory64(a, MICRO_ECAM, MICRO_ECAM_BUSES * UINT64_C(0x100000));
    vmm_aml_end(a);
    vmm_aml_end(a);
}

static void build_dsdt(struct vmm_aml *a, const struct vmm_machine *m)
{
    vmm_aml_scope_begin(a, "\\_SB");
    add_processors(a, m->options.cpus);
    add_devices(a, m->board_data);
    add_power_button(a);
    if (m->pci) {
        add_pci(a);
        reserve_ecam(a);
    }
    vmm_aml_end(a);
}

/* Tables of Arm's own ---------------------------------------------------------------------------- */

#define HEADER      36u
#define SPCR_LENGTH 80u
#define IORT_ITS    48u /* where its first node is */
#define IORT_ROOT   (IORT_ITS + 24u)
#define IORT_LENGTH (IORT_ROOT + 56u)

static void fill_header(uint8_t *t, const char *signature, uint8_t revision)
{
    memcpy(t, signature, 4);
    t[8] = revision;
    memcpy(t + 10, "LIBVMMLIBVMM", 12); /* whose, and which */
    vmm_store_le32(t + 24, 1);
    memcpy(t + 28, "LVMM", 4);
    vmm_store_le32(t + 32, 1);
}

/* Serial port console redirection (Microsoft's, revision 2): the first UART. */
static void fill_spcr(uint8_t *t)
{
    fill_header(t, "SPCR", 2);
    t[HEADER] = 3; /* a PL011 */
    t[40] = 0;     /* its registers: in memory, 32 bits, by words */
    t[41] = 32;
    t[43] = 3;
    vmm_store_le64(t + 44, MICRO_SERIAL);
    t[52] = 8; /* a GIC's interrupt */
    vmm_store_le32(t + 54, GSIV(MICRO_SERIAL_GSI));
    t[58] = 3;                          /* 9600 baud, which means nothing here */
    t[60] = 1;                          /* stop bit */
    t[62] = 3;                          /* ANSI */
    vmm_store_le32(t + 64, 0xffffffff); /* no PCI device */
}

/* I/O remapping table (Arm's DEN0049, revision 0): messages of all PCI functions go to the one ITS by their requester. */
static void fill_iort(uint8_t *t)
{
    fill_header(t, "IORT", 0);
    vmm_store_le32(t + 36, 2); /* nodes */
    vmm_store_le32(t + 40, IORT_ITS);
    uint8_t *its = t + IORT_ITS, *root = t + IORT_ROOT, *map = root + 36;
    its[0] = 0; /* a group of ITSs */
    its[1] = IORT_ROOT - IORT_ITS;
    vmm_store_le32(its + 16, 1); /* of one, with number 0 */
    root[0] = 2;                 /* a root complex */
    root[1] = IORT_LENGTH - IORT_ROOT;
    vmm_store_le32(root + 8, 1); /* mappings */
    vmm_store_le32(root + 12, 36);
    vmm_store_le32(root + 16, 1); /* coherent, whatever attributes are said */
    root[23] = 3;
    root[32] = 64;                   /* bits of addresses */
    vmm_store_le32(map + 4, 0xffff); /* so many requesters, less one */
    vmm_store_le32(map + 12, IORT_ITS);
}

static void place_gic(const struct vmm_machine *m, struct vmm_acpi_gic *g, uint64_t *affinities)
{
    for (uint32_t i = 0; i < m->options.cpus; i++)
        affinities[i] = (i & 0xf) | (uint64_t)(i >> 4) << 8;
    *g = (struct vmm_acpi_gic){.version = vmm_arm64_gic_version(m->vm),
                               .timers = {PPI_GSIV(13), PPI_GSIV(14), PPI_GSIV(11), PPI_GSIV(10)},
                               .distributor = MICRO_GICD,
                               .redistributor = MICRO_GICR,
                               .redistributor_length =
                                   (uint32_t)(m->options.cpus * VMM_ARM64_GICR_SIZE),
                               .its = MICRO_GITS,
                               .cpu_interface = MICRO_GICC,
                               .affinities = affinities};
}

static int build_files(const struct vmm_machine *m, struct vmm_acpi_files *f, struct vmm_error *err)
{
    const struct micro *micro = m->board_data;
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    uint8_t spcr[SPCR_LENGTH] = {0}, iort[IORT_LENGTH] = {0};
    struct vmm_acpi_table extra[2];
    uint64_t affinities[MICRO_CPUS_MAX];
    struct vmm_acpi_gic gic;
    place_gic(m, &gic, affinities);
    d.gic = &gic;
    d.hardware_reduced = 1;
    d.cpus = m->options.cpus;
    d.extra = extra;
    if (micro->serial[0]) {
        fill_spcr(spcr);
        extra[d.extra_count++] = (struct vmm_acpi_table){spcr, sizeof(spcr)};
    }
    if (m->pci) {
        d.ecam_address = MICRO_ECAM;
        d.ecam_last_bus = MICRO_ECAM_BUSES - 1;
    }
    if (m->pci && gic.version == 3) {
        fill_iort(iort);
        extra[d.extra_count++] = (struct vmm_acpi_table){iort, sizeof(iort)};
    }
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

int vmm_micro_add_tables(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_acpi_files f = VMM_ACPI_FILES_INIT;
    int rc = build_files(m, &f, err);
    if (rc)
        return rc;
    rc = vmm_fwcfg_set_file(m->fwcfg, VMM_ACPI_FILE_TABLES, f.tables, f.tables_length, err);
    rc = rc ? rc : vmm_fwcfg_set_file(m->fwcfg, VMM_ACPI_FILE_RSDP, f.rsdp, f.rsdp_length, err);
    rc = rc ? rc
            : vmm_fwcfg_set_file(m->fwcfg, VMM_ACPI_FILE_SCRIPT, f.script, f.script_length, err);
    free(f.tables);
    free(f.rsdp);
    free(f.script);
    return rc;
}
