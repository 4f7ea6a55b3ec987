/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI tables. They are laid out one after the other in a buffer that is an image of the guest's
 * memory from the given address on: RSDP, XSDT, DSDT, FACS where there is fixed hardware, FADT, MADT,
 * GTDT on arm64, MCFG, the embedder's own.
 */
#include "loader/acpi.h"
#include "base/util.h"

#include <libvmm/acpi.h>

#include <stdio.h>
#include <stdlib.h>

#define HEADER_SIZE   36u
#define RSDP_SIZE     36u
#define FADT_SIZE     276u /* revision 6 */
#define GTDT_SIZE     104u
#define GICC_SIZE     80u
#define TABLES_MAX    64u /* more than check() allows */
#define LAPIC_DEFAULT 0xfee00000u

struct image {
    const struct vmm_acpi_description *d;
    uint64_t base; /* of the buffer, in the guest */
    uint8_t *data;
    size_t length, room;
    uint64_t tables[TABLES_MAX]; /* that the XSDT names */
    size_t table_count;
    int error;
};

/* A cursor into the image --------------------------------------------------------------------- */

static void put(struct image *im, const void *data, size_t length)
{
    if (im->error)
        return;
    if (length > im->room - im->length) {
        im->error = -ENOSPC;
        return;
    }
    if (length)
        memcpy(im->data + im->length, data, length);
    im->length += length;
}

static void put_le(struct image *im, uint64_t value, size_t width)
{
    value = htole64(value);
    put(im, &value, width);
}

static void put_text(struct image *im, const char *text, size_t width)
{
    char field[8] = {0};
    memcpy(field, text, strnlen(text, width));
    put(im, field, width);
}

static void align(struct image *im, size_t to)
{
    static const uint8_t zeros[64];
    put(im, zeros, (to - im->length % to) % to);
}

static uint8_t checksum(const uint8_t *data, size_t length)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + data[i]);
    return (uint8_t)-sum;
}

/* The header that all tables share (5.2.6). Returns where the table begins. */
static size_t begin_table(struct image *im, const char *signature, uint8_t revision)
{
    const struct vmm_acpi_description *d = im->d;
    align(im, 16);
    size_t start = im->length;
    put_text(im, signature, 4);
    put_le(im, 0, 4); /* length, filled in at the end */
    put_le(im, revision, 1);
    put_le(im, 0, 1); /* checksum, the same */
    put_text(im, d->oem_id ? d->oem_id : "LIBVMM", 6);
    put_text(im, d->oem_table_id ? d->oem_table_id : "LIBVMM", 8);
    put_le(im, 1, 4);
    put_text(im, "LVMM", 4);
    put_le(im, 1, 4);
    return start;
}

static void end_table(struct image *im, size_t start)
{
    if (im->error)
        return;
    vmm_store_le32(im->data + start + 4, (uint32_t)(im->length - start));
    im->data[start + 9] = 0;
    im->data[start + 9] = checksum(im->data + start, im->length - start);
}

static void name_in_xsdt(struct image *im, size_t start)
{
    if (im->table_count == TABLES_MAX)
        im->error = im->error ? im->error : -E2BIG;
    else
        im->tables[im->table_count++] = im->base + start;
}

/* Tables --------------------------------------------------------------------------------------- */

static size_t put_dsdt(struct image *im)
{
    size_t start = begin_table(im, "DSDT", 2);
    put(im, im->d->dsdt, im->d->dsdt_length);
    end_table(im, start);
    return start;
}

/* Firmware control structure (5.2.10): only for the waking vector and the global lock. */
static size_t put_facs(struct image *im)
{
    static const uint8_t zeros[64];
    align(im, 64);
    size_t start = im->length;
    put_text(im, "FACS", 4);
    put_le(im, 64, 4);
    put(im, zeros, 24);
    put_le(im, 2, 1); /* version */
    put(im, zeros, 31);
    return start;
}

static void put_register(struct image *im, const struct vmm_acpi_register *r)
{
    /* Access size: 1 byte, 2, 3 dword, 4 qword. */
    uint8_t access = r->length == 1   ? 1
                     : r->length == 2 ? 2
                     : r->length == 4 ? 3
                     : r->length == 8 ? 4
                                      : 0;
    put_le(im, r->length ? r->space : 0, 1);
    put_le(im, (uint64_t)r->length * 8, 1);
    put_le(im, 0, 1);
    put_le(im, access, 1);
    put_le(im, r->length ? r->address : 0, 8);
}

static uint32_t port_of(const struct vmm_acpi_register *r)
{
    return r->length && r->space == 1 ? (uint32_t)r->address : 0;
}

#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_POWER_BUTTON  (1u << 4) /* a control method, or none */
#define FADT_SLEEP_BUTTON  (1u << 5)
#define FADT_TMR_VAL_EXT   (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED    (1u << 20)
#define BOOT_NO_CMOS_RTC   (1u << 5)
#define ARM_PSCI           (1u << 0) /* 5.2.9.4 */
#define ARM_PSCI_HVC       (1u << 1)

static uint32_t fadt_flags(const struct vmm_acpi_description *d)
{
    uint32_t flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLEEP_BUTTON;
    if (d->reset.length)
        flags |= FADT_RESET_REG_SUP;
    if (d->hardware_reduced)
        flags |= FADT_HW_REDUCED | FADT_POWER_BUTTON;
    else
        flags |= FADT_TMR_VAL_EXT | (d->power_button_control ? FADT_POWER_BUTTON : 0);
    return flags;
}

static void put_fadt_ports(struct image *im)
{
    const struct vmm_acpi_description *d = im->d;
    put_le(im, port_of(&d->pm1_event), 4);
    put_le(im, 0, 4);
    put_le(im, port_of(&d->pm1_control), 4);
    put_le(im, 0, 4);
    put_le(im, 0, 4);
    put_le(im, port_of(&d->pm_timer), 4);
    put_le(im, port_of(&d->gpe0), 4);
    put_le(im, 0, 4);
    put_le(im, d->pm1_event.length, 1);
    put_le(im, d->pm1_control.length, 1);
    put_le(im, 0, 1);
    put_le(im, d->pm_timer.length, 1);
    put_le(im, d->gpe0.length, 1);
    put_le(im, 0, 3); /* GPE1 length and base, CST_CNT */
}

static void put_fadt(struct image *im, size_t dsdt, size_t facs)
{
    const struct vmm_acpi_description *d = im->d;
    static const struct vmm_acpi_register none;
    size_t start = begin_table(im, "FACP", 6);
    bool fixed = !d->hardware_reduced;
    put_le(im, fixed ? (uint32_t)(im->base + facs) : 0, 4);
    put_le(im, (uint32_t)(im->base + dsdt), 4);
    put_le(im, 0, 1);
    put_le(im, 0, 1); /* no preferred power profile */
    put_le(im, fixed ? d->sci : 0, 2);
    put_le(im, fixed ? d->smi_command : 0, 4);
    put_le(im, d->acpi_enable, 1);
    put_le(im, d->acpi_disable, 1);
    put_le(im, 0, 2); /* S4BIOS_REQ, PSTATE_CNT */
    put_fadt_ports(im);
    put_le(im, 0x0fff, 2); /* C2 latency: not supported */
    put_le(im, 0x0fff, 2); /* C3 */
    put_le(im, 0, 8);      /* flush size and stride, duty offset and width, alarms */
    put_le(im, 0, 1);
    if (!im->error)
        im->data[im->length - 1] = d->has_rtc ? 0x32 : 0; /* the century's place in the CMOS */
    put_le(im, d->boot_flags | (d->has_rtc || d->gic ? 0 : BOOT_NO_CMOS_RTC), 2);
    put_le(im, 0, 1);
    put_le(im, fadt_flags(d), 4);
    put_register(im, &d->reset);
    put_le(im, d->reset_value, 1);
    put_le(im, d->gic ? ARM_PSCI | ARM_PSCI_HVC : 0, 2);
    put_le(im, d->gic ? 4 : 5,
           1); /* minor version; 6.5 has a longer structure for a GIC's processors */
    put_le(im, fixed ? im->base + facs : 0, 8);
    put_le(im, im->base + dsdt, 8);
    put_register(im, &d->pm1_event);
    put_register(im, &none);
    put_register(im, &d->pm1_control);
    put_register(im, &none);
    put_register(im, &none);
    put_register(im, &d->pm_timer);
    put_register(im, &d->gpe0);
    put_register(im, &none);
    put_register(im, &d->sleep_control);
    put_register(im, &d->sleep_status);
    put_text(im, "LIBVMM", 8); /* hypervisor vendor */
    if (!im->error && im->length - start != FADT_SIZE)
        im->error = -EPROTO;
    end_table(im, start);
    name_in_xsdt(im, start);
}

static uint32_t apic_id(const struct vmm_acpi_description *d, uint32_t uid)
{
    return d->apic_ids ? d->apic_ids[uid] : uid;
}

/* Local APIC structures have a byte for each, of which 255 means all. */
static bool is_x2apic(uint32_t id, uint32_t uid)
{
    return id >= 255 || uid >= 255;
}

static bool any_x2apic(const struct vmm_acpi_description *d)
{
    for (uint32_t uid = 0; uid < d->cpus; uid++)
        if (is_x2apic(apic_id(d, uid), uid))
            return true;
    return false;
}

static void put_processors(struct image *im)
{
    for (uint32_t uid = 0; uid < im->d->cpus; uid++) {
        uint32_t id = apic_id(im->d, uid);
        if (!is_x2apic(id, uid)) { /* local APIC, 5.2.12.2 */
            put_le(im, 0x0800, 2);
            put_le(im, uid, 1);
            put_le(im, id, 1);
            put_le(im, 1, 4);
        } else { /* local x2APIC, 5.2.12.12 */
            put_le(im, 0x1009, 2);
            put_le(im, 0, 2);
            put_le(im, id, 4);
            put_le(im, 1, 4);
            put_le(im, uid, 4);
        }
    }
}

static void put_overrides(struct image *im)
{
    for (size_t i = 0; i < im->d->override_count; i++) {
        const struct vmm_acpi_override *o = &im->d->overrides[i];
        put_le(im, 0x0a02, 2); /* 5.2.12.5 */
        put_le(im, 0, 1);      /* the ISA bus */
        put_le(im, o->isa, 1);
        put_le(im, o->gsi, 4);
        /* Polarity in bits 0 and 1 (1 high, 3 low), trigger in 2 and 3 (1 edge, 3 level). */
        put_le(im, (o->active_low ? 3u : 1u) | (o->level ? 3u : 1u) << 2, 2);
    }
}

/* GIC CPU interface, 5.2.12.14. */
static void put_gic_processor(struct image *im, const struct vmm_acpi_gic *g, uint32_t uid)
{
    put_le(im, 0x0b | GICC_SIZE << 8, 2);
    put_le(im, 0, 2);
    put_le(im, uid, 4); /* the interface's number, version 2 */
    put_le(im, uid, 4);
    put_le(im, 1, 4); /* enabled; the monitors' interrupt is level-triggered */
    put_le(im, 0, 4); /* no parking protocol */
    put_le(im, g->performance, 4);
    put_le(im, 0, 8);
    put_le(im, g->version == 2 ? g->cpu_interface : 0, 8);
    put_le(im, 0, 8); /* no virtualization in the guest: GICV, GICH and their interrupt */
    put_le(im, 0, 8);
    put_le(im, 0, 4);
    put_le(im, 0, 8); /* GICR: the range below */
    put_le(im, g->affinities[uid], 8);
    put_le(im, 0, 4);
}

static void put_gic(struct image *im, const struct vmm_acpi_gic *g)
{
    for (uint32_t uid = 0; uid < im->d->cpus; uid++)
        put_gic_processor(im, g, uid);
    put_le(im, 0x180c, 4); /* distributor, 5.2.12.15 */
    put_le(im, 0, 4);
    put_le(im, g->distributor, 8);
    put_le(im, 0, 4);
    put_le(im, g->version, 4);
    if (g->version < 3)
        return;
    put_le(im, 0x100e, 4); /* redistributors, 5.2.12.17 */
    put_le(im, g->redistributor, 8);
    put_le(im, g->redistributor_length, 4);
    if (!g->its)
        return;
    put_le(im, 0x140f, 4); /* translation service, 5.2.12.18 */
    put_le(im, 0, 4);
    put_le(im, g->its, 8);
    put_le(im, 0, 4);
}

static void put_gic_madt(struct image *im)
{
    size_t start = begin_table(im, "APIC", 5);
    put_le(im, 0, 8);
    put_gic(im, im->d->gic);
    end_table(im, start);
    name_in_xsdt(im, start);
}

/* Generic timers, 5.2.25. */
static void put_gtdt(struct image *im)
{
    const uint32_t always_on = 4; /* and level-triggered, active high */
    size_t start = begin_table(im, "GTDT", 3);
    put_le(im, UINT64_MAX, 8); /* no counter in memory */
    put_le(im, 0, 4);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(im->d->gic->timers); i++) {
        put_le(im, im->d->gic->timers[i], 4);
        put_le(im, im->d->gic->timers[i] ? always_on : 0, 4);
    }
    put_le(im, UINT64_MAX, 8);
    put_le(im, 0, 8); /* no platform timers */
    put_le(im, 0, 8); /* no virtual timer of EL2 */
    if (!im->error && im->length - start != GTDT_SIZE)
        im->error = -EPROTO;
    end_table(im, start);
    name_in_xsdt(im, start);
}

static void put_madt(struct image *im)
{
    const struct vmm_acpi_description *d = im->d;
    if (d->gic) {
        put_gic_madt(im);
        put_gtdt(im);
        return;
    }
    size_t start = begin_table(im, "APIC", 5);
    put_le(im, d->lapic_address ? d->lapic_address : LAPIC_DEFAULT, 4);
    put_le(im, d->legacy_pics ? 1 : 0, 4);
    put_processors(im);
    if (d->ioapic_address) { /* 5.2.12.3 */
        put_le(im, 0x0c01, 2);
        put_le(im, d->ioapic_id, 1);
        put_le(im, 0, 1);
        put_le(im, d->ioapic_address, 4);
        put_le(im, 0, 4); /* its first GSI */
    }
    put_overrides(im);
    put_le(im, 0x0604, 2); /* local APIC NMI on LINT1 of all processors, 5.2.12.7 */
    put_le(im, 0xff, 1);
    put_le(im, 0, 2);
    put_le(im, 1, 1);
    if (any_x2apic(d)) { /* and of the x2APICs, 5.2.12.13 */
        put_le(im, 0x0c0a, 2);
        put_le(im, 0, 2);
        put_le(im, 0xffffffff, 4);
        put_le(im, 1, 1);
        put_le(im, 0, 3);
    }
    end_table(im, start);
    name_in_xsdt(im, start);
}

static void put_mcfg(struct image *im)
{
    size_t start = begin_table(im, "MCFG", 1);
    put_le(im, 0, 8);
    put_le(im, im->d->ecam_address, 8);
    put_le(im, 0, 2); /* segment */
    put_le(im, 0, 1); /* first bus */
    put_le(im, im->d->ecam_last_bus, 1);
    put_le(im, 0, 4);
    end_table(im, start);
    name_in_xsdt(im, start);
}

static void put_ssdts(struct image *im)
{
    for (size_t i = 0; i < im->d->ssdt_count; i++) {
        size_t start = begin_table(im, "SSDT", 2);
        put(im, im->d->ssdts[i].data, im->d->ssdts[i].length);
        end_table(im, start);
        name_in_xsdt(im, start);
    }
}

static void put_extra(struct image *im)
{
    for (size_t i = 0; i < im->d->extra_count; i++) {
        align(im, 16);
        size_t start = im->length;
        put(im, im->d->extra[i].data, im->d->extra[i].length);
        end_table(im, start);
        name_in_xsdt(im, start);
    }
}

/* The XSDT comes before the tables whose addresses it holds, so it is written last, into the room
 * that was left for it. */
static void fill_xsdt(struct image *im, size_t start, size_t count)
{
    if (im->error)
        return;
    if (im->table_count != count) {
        im->error = -EPROTO;
        return;
    }
    size_t end = im->length;
    for (size_t i = 0; i < count; i++)
        vmm_store_le64(im->data + start + HEADER_SIZE + 8 * i, im->tables[i]);
    im->length = start + HEADER_SIZE + 8 * count;
    end_table(im, start);
    im->length = end;
}

/* Root system description pointer (5.2.5.3), at the image's start. */
static void fill_rsdp(struct image *im, size_t xsdt)
{
    if (im->error)
        return;
    uint8_t *p = im->data;
    memset(p, 0, RSDP_SIZE);
    memcpy(p, "RSD PTR ", 8);
    const char *oem = im->d->oem_id ? im->d->oem_id : "LIBVMM";
    memcpy(p + 9, oem, strnlen(oem, 6));
    p[15] = 2; /* revision */
    vmm_store_le32(p + 20, RSDP_SIZE);
    vmm_store_le64(p + 24, im->base + xsdt);
    p[8] = checksum(p, 20);
    p[32] = checksum(p, RSDP_SIZE);
}

static bool register_ok(const struct vmm_acpi_register *r)
{
    return r->length <= 31 && r->space <= 127; /* bits are a byte */
}

/* What of the hardware does not fit its field or its neighbours. */
static const char *wrong_hardware(const struct vmm_acpi_description *d)
{
    if (d->oem_id && strlen(d->oem_id) > 6)
        return "oem_id is longer than 6 characters";
    if (d->oem_table_id && strlen(d->oem_table_id) > 8)
        return "oem_table_id is longer than 8 characters";
    if (!register_ok(&d->reset) || !register_ok(&d->sleep_control) ||
        !register_ok(&d->sleep_status) || !register_ok(&d->pm1_event) ||
        !register_ok(&d->pm1_control) || !register_ok(&d->pm_timer) || !register_ok(&d->gpe0))
        return "a register is longer than 31 bytes";
    if (d->hardware_reduced && !d->sleep_control.length != !d->sleep_status.length)
        return "sleep_control and sleep_status go together";
    if (d->hardware_reduced && (d->pm1_event.length || d->pm1_control.length ||
                                d->pm_timer.length || d->gpe0.length || d->smi_command))
        return "hardware_reduced has no fixed hardware beside it";
    if (!d->hardware_reduced && (d->pm1_event.length != 4 || d->pm1_control.length != 2))
        return "pm1_event (4 bytes) and pm1_control (2 bytes) are needed unless hardware_reduced";
    if (d->reset_value > 0xff || d->acpi_enable > 0xff || d->acpi_disable > 0xff)
        return "reset_value, acpi_enable or acpi_disable is above 255";
    if (d->sci > 0xffff || d->smi_command > 0xffff || d->boot_flags > 0xffff)
        return "sci, smi_command or boot_flags is above 65535";
    if (d->ecam_address % (1u << 20) || d->ecam_last_bus > 255)
        return "ecam_address is not a multiple of 1 MiB, or ecam_last_bus is above 255";
    return NULL;
}

static const char *wrong_processors(const struct vmm_acpi_description *d)
{
    if (d->cpus == 0 || d->cpus > 65536)
        return "cpus must be 1 to 65536";
    for (uint32_t uid = 0; uid < d->cpus; uid++)
        if (apic_id(d, uid) == UINT32_MAX)
            return "an APIC id is the one for all";
    if (d->ioapic_id > 0xff)
        return "ioapic_id is above 255";
    if (d->override_count > 16 || (d->override_count && !d->overrides))
        return "override_count is above 16, or overrides is missing";
    for (size_t i = 0; i < d->override_count; i++)
        if (d->overrides[i].isa > 15)
            return "an override's isa is above 15";
    return NULL;
}

static const char *wrong_gic(const struct vmm_acpi_description *d)
{
    const struct vmm_acpi_gic *g = d->gic;
    if (!g)
        return NULL;
    if (!d->hardware_reduced || d->ioapic_address || d->override_count || d->legacy_pics)
        return "a GIC goes with hardware_reduced and without an I/O APIC";
    if ((g->version != 2 && g->version != 3) || !g->distributor || !g->affinities)
        return "a GIC has version 2 or 3, a distributor and affinities";
    if (g->version == 3 ? !g->redistributor_length : !g->cpu_interface)
        return "a GIC has redistributors (version 3) or a CPU interface (version 2)";
    return NULL;
}

static const char *wrong_tables(const struct vmm_acpi_description *d)
{
    if (!d->dsdt && d->dsdt_length)
        return "dsdt_length without dsdt";
    if (d->extra_count > 32 || (d->extra_count && !d->extra))
        return "extra_count is above 32, or extra is missing";
    if (d->ssdt_count > 16 || (d->ssdt_count && !d->ssdts))
        return "ssdt_count is above 16, or ssdts is missing";
    for (size_t i = 0; i < d->extra_count; i++)
        if (!d->extra[i].data || d->extra[i].length < HEADER_SIZE)
            return "an extra table is shorter than a header";
    for (size_t i = 0; i < d->ssdt_count; i++)
        if (!d->ssdts[i].data && d->ssdts[i].length)
            return "an SSDT's data is missing";
    return NULL;
}

static int check(const struct vmm_acpi_description *d, uint64_t address, uint64_t room,
                 struct vmm_error *err)
{
    if (address % 64 || !vmm_range_ok(address, room) || room < RSDP_SIZE)
        return vmm_error_set(err, -EINVAL,
                             "ACPI tables at 0x%llx: a multiple of 64 with room is needed",
                             (unsigned long long)address);
    if (address + (room - 1) > UINT32_MAX)
        return vmm_error_set(err, -EINVAL, "ACPI tables at 0x%llx: they must be below 4 GiB",
                             (unsigned long long)address);
    const char *wrong = wrong_hardware(d);
    if (!wrong)
        wrong = wrong_processors(d);
    if (!wrong)
        wrong = wrong_gic(d);
    if (!wrong)
        wrong = wrong_tables(d);
    return wrong ? vmm_error_set(err, -EINVAL, "ACPI description: %s", wrong) : 0;
}

static void build(struct image *im)
{
    static const uint8_t zeros[RSDP_SIZE];
    const struct vmm_acpi_description *d = im->d;
    size_t count =
        2u + (d->gic ? 1u : 0u) + (d->ecam_address ? 1u : 0u) + d->ssdt_count + d->extra_count;
    put(im, zeros, RSDP_SIZE);
    size_t xsdt = begin_table(im, "XSDT", 1);
    for (size_t i = 0; i < count; i++)
        put_le(im, 0, 8);
    size_t dsdt = put_dsdt(im);
    size_t facs = d->hardware_reduced ? 0 : put_facs(im);
    put_fadt(im, dsdt, facs);
    put_madt(im);
    if (d->ecam_address)
        put_mcfg(im);
    put_ssdts(im);
    put_extra(im);
    fill_xsdt(im, xsdt, count);
    fill_rsdp(im, xsdt);
}

int vmm_acpi_build_image(const struct vmm_acpi_description *given, uint64_t address, uint64_t room,
                         void **data, size_t *length, struct vmm_error *err)
{
    struct vmm_acpi_description d;
    int rc = vmm_options_copy(&d, sizeof(d), given);
    if (rc)
        return vmm_error_set(err, rc, "ACPI description: a structure of another version");
    rc = check(&d, address, room, err);
    if (rc)
        return rc;
    struct image im = {.d = &d, .base = address, .room = (size_t)room};
    im.data = malloc(im.room);
    if (!im.data)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    build(&im);
    if (im.error) {
        free(im.data);
        return vmm_error_set(err, im.error, "ACPI tables: %s (the room is %llu bytes)",
                             im.error == -ENOSPC ? "they need more room" : strerror(-im.error),
                             (unsigned long long)room);
    }
    *data = im.data;
    *length = im.length;
    return 0;
}

int vmm_acpi_place(struct vmm_memory *memory, uint64_t address, uint64_t room,
                   const struct vmm_acpi_description *description, uint64_t *used,
                   struct vmm_error *err)
{
    void *data;
    size_t length;
    int rc = vmm_acpi_build_image(description, address, room, &data, &length, err);
    if (rc)
        return rc;
    rc = vmm_memory_write_rom(memory, address, data, length);
    if (rc)
        (void)vmm_error_set(err, rc, "ACPI tables at 0x%llx: there is no memory",
                            (unsigned long long)address);
    else if (used)
        *used = length;
    free(data);
    return rc;
}
