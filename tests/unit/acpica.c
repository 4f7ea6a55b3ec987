/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables and AML of the library's making, judged by ACPICA. */
#include "acpica.h"

#include "loader/acpi.h"
#include <libvmm/aml.h>

#define BASE UINT64_C(0xe0000)
#define ROOM 0x20000u

static void device(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "COM1");
    vmm_aml_name_eisaid(a, "_HID", "PNP0501");
    vmm_aml_name_int(a, "_UID", 1);
    vmm_aml_method_begin(a, "_STA", 0, false);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_int(a, 0x0f);
    vmm_aml_end(a);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_io(a, 0x3f8, 8);
    vmm_aml_irq(a, 4);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

/* Every descriptor of the builder. */
static void bridge(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "PCI0");
    vmm_aml_name_eisaid(a, "_HID", "PNP0A08");
    vmm_aml_name_eisaid(a, "_CID", "PNP0A03");
    vmm_aml_name_int(a, "_BBN", 0);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_BUSES, 16, 0, 0xff, false);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, 0x1000, 0xffff, false);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 32, 0x1000, 0xffff, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, 0xc0000000, 0xfebfffff, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, 0x800000000, 0xfffffffff, true);
    vmm_aml_memory32(a, 0xfed00000, 0x1000, true);
    vmm_aml_memory32(a, 0xfed10000, 0x1000, false);
    vmm_aml_interrupt(a, 20, true, true, true);
    vmm_aml_interrupt(a, 21, false, false, false);
    vmm_aml_end(a);
    vmm_aml_name(a, "_PRT");
    vmm_aml_package_begin(a, 1);
    vmm_aml_package_begin(a, 4);
    vmm_aml_int(a, 0x1ffff);
    vmm_aml_int(a, 0);
    vmm_aml_int(a, 0);
    vmm_aml_int(a, 16);
    vmm_aml_end(a);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

/* 6 * 7 by adding, with every kind of statement: the interpreter must come to 42. */
static void multiply(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "MULT", 2, true);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_int(a, 0);
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_arg(a, 1);
    vmm_aml_local(a, 1);
    vmm_aml_while_begin(a);
    vmm_aml_op(a, VMM_AML_LGREATER);
    vmm_aml_local(a, 1);
    vmm_aml_int(a, 0);
    vmm_aml_op(a, VMM_AML_ADD);
    vmm_aml_local(a, 0);
    vmm_aml_arg(a, 0);
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_DECREMENT);
    vmm_aml_local(a, 1);
    vmm_aml_end(a);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_LEQUAL);
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_MULTIPLY);
    vmm_aml_arg(a, 0);
    vmm_aml_arg(a, 1);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
    vmm_aml_else_begin(a);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_int(a, 0);
    vmm_aml_end(a);
    vmm_aml_end(a);
    vmm_aml_method_begin(a, "SIX7", 0, true);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_call(a, "MULT", 2);
    vmm_aml_int(a, 6);
    vmm_aml_int(a, 7);
    vmm_aml_end(a);
}

/* The expressions that multiply() has not: each gives one bit of the result. */
static void operations(struct vmm_aml *a)
{
    vmm_aml_mutex(a, "MTX0");
    vmm_aml_name(a, "BYTE");
    vmm_aml_buffer(a, "\x44\x33\x22\x11", 4);
    vmm_aml_name(a, "GUID");
    vmm_aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
    vmm_aml_name_string(a, "TEXT", "four");
    vmm_aml_method_begin(a, "OPS", 0, true);
    vmm_aml_if_begin(a);
    vmm_aml_acquire(a, "MTX0", 0xffff);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_int(a, 0);
    vmm_aml_end(a);
    vmm_aml_op(a, VMM_AML_DWORD_FIELD);
    vmm_aml_path(a, "BYTE");
    vmm_aml_int(a, 0);
    vmm_aml_path(a, "DWRD");
    vmm_aml_op(a, VMM_AML_SUBTRACT);
    vmm_aml_path(a, "DWRD");
    vmm_aml_int(a, 0x11223300);
    vmm_aml_local(a, 0); /* 0x44 */
    vmm_aml_op(a, VMM_AML_OR);
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_SHIFT_LEFT);
    vmm_aml_op(a, VMM_AML_SIZE_OF);
    vmm_aml_path(a, "TEXT"); /* 4 */
    vmm_aml_int(a, 8);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_local(a, 0); /* 0x444 */
    vmm_aml_op(a, VMM_AML_XOR);
    vmm_aml_local(a, 0);
    vmm_aml_op(a, VMM_AML_DEREF);
    vmm_aml_op(a, VMM_AML_INDEX);
    vmm_aml_path(a, "BYTE");
    vmm_aml_int(a, 1);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_local(a, 0); /* 0x477 */
    vmm_aml_op(a, VMM_AML_RELEASE);
    vmm_aml_path(a, "MTX0");
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
}

static void events(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "PWRB");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C0C");
    vmm_aml_end(a);
    vmm_aml_device_begin(a, "GED0");
    vmm_aml_name_string(a, "_HID", "ACPI0013");
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_interrupt(a, 9, true, false, false);
    vmm_aml_end(a);
    vmm_aml_region(a, "EVTR", 1, 0x604, 4);
    vmm_aml_field_begin(a, "EVTR", 4, false);
    vmm_aml_field_unit(a, "EVTS", 16);
    vmm_aml_field_unit(a, NULL, 16);
    vmm_aml_end(a);
    vmm_aml_method_begin(a, "_EVT", 1, true);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_path(a, "EVTS");
    vmm_aml_int(a, 1);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_op(a, VMM_AML_NOTIFY);
    vmm_aml_path(a, "PWRB");
    vmm_aml_int(a, 0x80);
    vmm_aml_end(a);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

static void sleep_state(struct vmm_aml *a)
{
    vmm_aml_name(a, "\\_S5");
    vmm_aml_package_begin(a, 4);
    for (int i = 0; i < 4; i++)
        vmm_aml_int(a, i < 2 ? 5 : 0);
    vmm_aml_end(a);
}

/* Enough devices that lengths of two bytes are needed. */
static void processors(struct vmm_aml *a, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        vmm_aml_device_begin(a, name);
        vmm_aml_name_string(a, "_HID", "ACPI0007");
        vmm_aml_name_int(a, "_UID", i);
        vmm_aml_end(a);
    }
}

static struct vmm_aml *dsdt(void)
{
    struct vmm_aml *a;
    assert_int_equal(vmm_aml_new(&a), 0);
    vmm_aml_scope_begin(a, "\\_SB");
    processors(a, 300);
    device(a);
    bridge(a);
    multiply(a);
    operations(a);
    events(a);
    vmm_aml_end(a);
    sleep_state(a);
    return a;
}

static struct vmm_acpi_register port(uint64_t address, uint8_t length)
{
    return (struct vmm_acpi_register){.address = address, .space = 1, .length = length};
}

static void describe_reduced(struct vmm_acpi_description *d)
{
    d->hardware_reduced = 1;
    d->sleep_control = port(0x600, 1);
    d->sleep_status = port(0x601, 1);
    d->reset = port(0x602, 1);
    d->reset_value = 1;
    d->boot_flags = 4;
}

static void describe_fixed(struct vmm_acpi_description *d)
{
    d->pm1_event = port(0x600, 4);
    d->pm1_control = port(0x604, 2);
    d->pm_timer = port(0x608, 4);
    d->gpe0 = port(0x620, 16);
    d->sci = 9;
    d->smi_command = 0xb2;
    d->acpi_enable = 0xf1;
    d->acpi_disable = 0xf0;
    d->has_rtc = 1;
}

/* All tables there are, of a machine with fixed hardware or without. */
static void tables_pass_acpica(bool reduced)
{
    static const struct vmm_acpi_override overrides[] = {
        {.isa = 0, .gsi = 2},
        {.isa = 9, .level = 1, .gsi = 9},
    };
    struct acpica t;
    struct vmm_memory *memory;
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t *image = malloc(ROOM);
    struct vmm_aml *a = dsdt();
    acpica_begin(&t);
    assert_non_null(image);
    assert_int_equal(vmm_memory_new(NULL, &memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, 0x100000, NULL, &err), 0);
    if (vmm_aml_finish(a, &d.dsdt, &d.dsdt_length)) {
        vmm_aml_error(a, &err);
        fail_msg("%s", err.text);
    }
    if (reduced)
        describe_reduced(&d);
    else
        describe_fixed(&d);
    d.cpus = 300;
    d.ioapic_address = 0xfec00000;
    d.legacy_pics = 1;
    d.overrides = overrides;
    d.override_count = 2;
    d.ecam_address = 0xe0000000;
    d.ecam_last_bus = 255;
    if (vmm_acpi_place(memory, BASE, ROOM, &d, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_memory_read(memory, BASE, image, ROOM), 0);
    acpica_extract(&t, image, BASE, ROOM);
    assert_int_equal(t.count, 4);
    acpica_recompile(&t);
    acpica_execute(
        &t,
        "execute \\_SB.COM1._STA;execute \\_SB.SIX7;execute \\_SB.OPS;"
        "execute \\_SB.C12B._UID;execute \\_SB.PCI0._CRS;execute \\_SB.GED0._EVT 9",
        (const char *const[]){"[Integer] = 000000000000000F", "[Integer] = 000000000000002A",
                              "[Integer] = 0000000000000477", "[Integer] = 000000000000012B",
                              "[Buffer] Length AE", "No object was returned", NULL});
    vmm_aml_free(a);
    vmm_memory_unref(memory);
    free(image);
    acpica_end(&t);
}

static void tables_of_reduced_hardware(void **state)
{
    (void)state;
    tables_pass_acpica(true);
}

static void tables_of_fixed_hardware(void **state)
{
    (void)state;
    tables_pass_acpica(false);
}

/* What arm64 has: no APICs, and a device above 4 GiB. iasl knows MADT and GTDT field by field. */
static void tables_of_a_gic(uint32_t version)
{
    static const uint64_t affinities[] = {0, 1, 0x100};
    const struct vmm_acpi_gic gic = {.version = version,
                                     .timers = {29, 30, 27, 26},
                                     .performance = 23,
                                     .distributor = 0x8000000,
                                     .redistributor = 0x80a0000,
                                     .redistributor_length = 3 * 0x20000,
                                     .its = 0x8080000,
                                     .cpu_interface = 0x8010000,
                                     .affinities = affinities};
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    struct acpica t;
    struct vmm_aml *a;
    void *data;
    size_t length;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_aml_new(&a), 0);
    vmm_aml_scope_begin(a, "\\_SB");
    processors(a, 3);
    vmm_aml_device_begin(a, "ECAM");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C02");
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_memory64(a, UINT64_C(0x4010000000), 1 << 28);
    vmm_aml_end(a);
    vmm_aml_end(a);
    vmm_aml_end(a);
    assert_int_equal(vmm_aml_finish(a, &d.dsdt, &d.dsdt_length), 0);
    d.hardware_reduced = 1;
    d.cpus = 3;
    d.gic = &gic;
    acpica_begin(&t);
    if (vmm_acpi_build_image(&d, 0x100000, 0x10000, &data, &length, &err))
        fail_msg("%s", err.text);
    acpica_extract(&t, data, 0x100000, length);
    assert_int_equal(t.count, 4); /* FADT, DSDT, MADT, GTDT */
    acpica_recompile(&t);
    char *text = acpica_file(&t, "APIC2.dsl", NULL);
    assert_non_null(strstr(text, "Generic Interrupt Controller"));
    assert_true(!strstr(text, "Generic Interrupt Translator") == (version == 2));
    assert_true(!strstr(text, "Generic Interrupt Redistributor") == (version == 2));
    free(text);
    text = acpica_file(&t, "GTDT3.dsl", NULL);
    assert_non_null(strstr(text, "Virtual Timer Interrupt : 0000001B"));
    free(text);
    acpica_end(&t);
    free(data);
    d.hardware_reduced = 0;
    assert_int_equal(vmm_acpi_build_image(&d, 0, 0x10000, &data, &length, &err), -EINVAL);
    vmm_aml_free(a);
}

static void tables_of_both_gics(void **state)
{
    (void)state;
    tables_of_a_gic(3);
    tables_of_a_gic(2);
}

static void gics_that_are_none(void **state)
{
    static const uint64_t affinity = 0;
    const struct vmm_acpi_gic good = {.version = 3,
                                      .distributor = 0x8000000,
                                      .redistributor = 0x80a0000,
                                      .redistributor_length = 0x20000,
                                      .affinities = &affinity};
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    void *data;
    size_t length;
    (void)state;
    for (int i = 0; i < 7; i++) {
        struct vmm_acpi_gic g = good;
        d.hardware_reduced = 1;
        d.cpus = 1;
        d.gic = &g;
        d.ioapic_address = i == 1 ? 0xfec00000 : 0;
        g.version = i == 2 ? 4 : i == 3 ? 2 : 3;
        g.distributor = i == 4 ? 0 : g.distributor;
        g.redistributor_length = i == 5 ? 0 : g.redistributor_length;
        g.affinities = i == 6 ? NULL : &affinity;
        int rc = vmm_acpi_build_image(&d, 0, 0x10000, &data, &length, NULL);
        assert_int_equal(rc, i ? -EINVAL : 0);
        if (!rc)
            free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_of_reduced_hardware),
        cmocka_unit_test(tables_of_fixed_hardware),
        cmocka_unit_test(tables_of_both_gics),
        cmocka_unit_test(gics_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
