/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI for the `micro` board: hardware-reduced, everything a device of the DSDT. */
#include "base/util.h"
#include "machine/x86/micro.h"

#include <libvmm/acpi.h>
#include <libvmm/aml.h>
#include <libvmm/virtio.h>

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

static void add_serial(struct vmm_aml *a, const struct micro *micro)
{
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS; i++) {
        if (!micro->serial[i])
            continue;
        const char name[] = {'C', 'O', 'M', (char)('1' + i), 0};
        vmm_aml_device_begin(a, name);
        vmm_aml_name_eisaid(a, "_HID", "PNP0501");
        vmm_aml_name_int(a, "_UID", i);
        vmm_aml_name_int(a, "_STA", 0xf);
        vmm_aml_name(a, "_CRS");
        vmm_aml_resources_begin(a);
        vmm_aml_io(a, vmm_micro_serial_places[i].port, 8);
        vmm_aml_irq(a, vmm_micro_serial_places[i].irq);
        vmm_aml_end(a);
        vmm_aml_end(a);
    }
}

static void add_rtc(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "RTC0");
    vmm_aml_name_eisaid(a, "_HID", "PNP0B00");
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_io(a, MICRO_RTC_PORT, VMM_RTC_PORTS);
    vmm_aml_irq(a, MICRO_RTC_IRQ);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

/* Linux and others know the identifier LNRO0005: registers in memory, and an interrupt. */
static void add_virtio(struct vmm_aml *a, const struct micro *micro)
{
    for (uint32_t i = 0; i < micro->virtio_count; i++) {
        const char name[] = {'V', 'R', (char)('0' + i / 10), (char)('0' + i % 10), 0};
        uint32_t address = (uint32_t)MICRO_VIRTIO_MMIO + i * VMM_VIRTIO_MMIO_SIZE;
        vmm_aml_device_begin(a, name);
        vmm_aml_name_string(a, "_HID", "LNRO0005");
        vmm_aml_name_int(a, "_UID", i);
        vmm_aml_name_int(a, "_CCA", 1); /* DMA sees what the caches hold */
        vmm_aml_name(a, "_CRS");
        vmm_aml_resources_begin(a);
        vmm_aml_memory32(a, address, VMM_VIRTIO_MMIO_SIZE, true);
        vmm_aml_interrupt(a, vmm_micro_virtio_gsis[i], true, false, false);
        vmm_aml_end(a);
        vmm_aml_end(a);
    }
}

/* If (Local0 & event) { … */
static void if_event_begin(struct vmm_aml *a, uint32_t event)
{
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_local(a, 0);
    vmm_aml_int(a, event);
    vmm_aml_op(a, VMM_AML_NULL);
}

static void notify_if(struct vmm_aml *a, uint32_t event, const char *device)
{
    if_event_begin(a, event);
    vmm_aml_op(a, VMM_AML_NOTIFY);
    vmm_aml_path(a, device);
    vmm_aml_int(a, 0x80); /* pressed (5.6.6) */
    vmm_aml_end(a);
}

static void call_if(struct vmm_aml *a, uint32_t event, const char *method)
{
    if_event_begin(a, event);
    vmm_aml_call(a, method, 0);
    vmm_aml_end(a);
}

/* A button without resources, and the generic event device (5.6.9) that tells of it: its method
 * reads which events are pending, clears just those, and notifies. */
static void add_events(struct vmm_aml *a, bool memplug)
{
    vmm_aml_device_begin(a, "PWRB");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C0C");
    vmm_aml_end(a);

    vmm_aml_device_begin(a, "GED0");
    vmm_aml_name_string(a, "_HID", "ACPI0013");
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_interrupt(a, MICRO_PM_GSI, true, false, false);
    vmm_aml_end(a);
    vmm_aml_region(a, "EVTR", 1, MICRO_PM_PORT + VMM_PM_EVENT, 4);
    vmm_aml_field_begin(a, "EVTR", 4, false);
    vmm_aml_field_unit(a, "EVTS", 32);
    vmm_aml_end(a);
    vmm_aml_method_begin(a, "_EVT", 1, true);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_path(a, "EVTS");
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_local(a, 0);
    vmm_aml_path(a, "EVTS");
    notify_if(a, VMM_PM_POWER_BUTTON, "PWRB");
    if (memplug)
        call_if(a, MICRO_EVENT_MEMORY, "\\_SB.MEMC.MSCN");
    vmm_aml_end(a);
    vmm_aml_end(a);
}

/* \_S5: the SLP_TYP value that means soft off (7.4.2.6). */
static void add_sleep_states(struct vmm_aml *a)
{
    vmm_aml_name(a, "\\_S5");
    vmm_aml_package_begin(a, 4);
    vmm_aml_int(a, VMM_PM_TYPE_S5);
    vmm_aml_int(a, 0);
    vmm_aml_int(a, 0);
    vmm_aml_int(a, 0);
    vmm_aml_end(a);
}

static struct vmm_acpi_register port_register(uint32_t offset)
{
    return (struct vmm_acpi_register){.address = MICRO_PM_PORT + offset, .space = 1, .length = 1};
}

int vmm_micro_place_tables(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    /* The power management interrupt is level-triggered where ISA's are edges. */
    static const struct vmm_acpi_override overrides[] = {
        {.isa = MICRO_PM_GSI, .level = 1, .gsi = MICRO_PM_GSI},
    };
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    d.hardware_reduced = 1;
    d.reset = port_register(VMM_PM_RESET);
    d.reset_value = VMM_PM_RESET_VALUE;
    d.sleep_control = port_register(VMM_PM_SLEEP_CONTROL);
    d.sleep_status = port_register(VMM_PM_SLEEP_STATUS);
    d.boot_flags = 1u << 2; /* no VGA */
    d.has_rtc = 1;
    d.cpus = m->options.cpus;
    d.ioapic_address = MICRO_IOAPIC;
    d.legacy_pics = 1;
    d.overrides = overrides;
    d.override_count = VMM_ARRAY_SIZE(overrides);
    d.ecam_address = m->pci ? MICRO_ECAM : 0;
    d.ecam_last_bus = MICRO_ECAM_BUSES - 1;

    struct vmm_aml *a;
    int rc = vmm_aml_new(&a);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    vmm_aml_scope_begin(a, "\\_SB");
    add_processors(a, m->options.cpus);
    add_serial(a, micro);
    add_rtc(a);
    add_virtio(a, micro);
    if (m->memplug)
        vmm_micro_describe_memplug(a);
    add_events(a, m->memplug != NULL);
    if (m->pci)
        vmm_micro_describe_pci(a, m);
    vmm_aml_end(a);
    add_sleep_states(a);
    rc = vmm_aml_finish(a, &d.dsdt, &d.dsdt_length);
    if (rc)
        (void)vmm_error_set(err, rc, "the board's AML: %s", strerror(-rc));
    else
        rc = vmm_acpi_place(m->memory, MICRO_ACPI_ADDRESS, MICRO_ACPI_ROOM, &d, NULL, err);
    vmm_aml_free(a);
    return rc;
}
