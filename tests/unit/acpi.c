/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI tables as a guest reads them: links, checksums, fields; and descriptions that are refused. */
#include "acpica.h"

#include <libvmm/acpi.h>

#define BASE UINT64_C(0xe0000)
#define ROOM 0x20000u

static struct vmm_acpi_register port(uint64_t address, uint8_t length)
{
    return (struct vmm_acpi_register){.address = address, .space = 1, .length = length};
}

static struct vmm_acpi_description reduced(void)
{
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    d.hardware_reduced = 1;
    d.sleep_control = port(0x600, 1);
    d.sleep_status = port(0x601, 1);
    d.reset = port(0x602, 1);
    d.reset_value = 1;
    d.cpus = 1;
    return d;
}

static struct vmm_acpi_description fixed(void)
{
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    d.pm1_event = port(0x600, 4);
    d.pm1_control = port(0x604, 2);
    d.pm_timer = port(0x608, 4);
    d.sci = 9;
    d.cpus = 1;
    d.has_rtc = 1;
    return d;
}

static struct vmm_memory *ram(void)
{
    struct vmm_memory *memory;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, 0x100000, NULL, NULL), 0);
    return memory;
}

/* Place and read back; the caller frees the image. */
static uint8_t *place(const struct vmm_acpi_description *d)
{
    struct vmm_memory *memory = ram();
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t *image = malloc(ROOM);
    uint64_t used = 0;
    assert_non_null(image);
    if (vmm_acpi_place(memory, BASE, ROOM, d, &used, &err))
        fail_msg("%s", err.text);
    assert_true(used > 0 && used < ROOM);
    assert_int_equal(vmm_memory_read(memory, BASE, image, ROOM), 0);
    vmm_memory_unref(memory);
    return image;
}

/* The n-th table of that signature that the XSDT names, or NULL. */
static const uint8_t *find(const uint8_t *image, const char *signature, unsigned n)
{
    const uint8_t *xsdt = acpica_table(image, BASE, ROOM, vmm_load_le64(image + 24));
    assert_memory_equal(xsdt, "XSDT", 4);
    for (size_t at = ACPICA_HEADER; at < vmm_load_le32(xsdt + 4); at += 8) {
        const uint8_t *table = acpica_table(image, BASE, ROOM, vmm_load_le64(xsdt + at));
        if (!memcmp(table, signature, 4) && n-- == 0)
            return table;
    }
    return NULL;
}

static void the_root_leads_to_all_tables(void **state)
{
    (void)state;
    struct vmm_acpi_description d = reduced();
    d.dsdt = "\x10\x03\\";
    d.dsdt_length = 4;
    d.oem_id = "ABCDEF";
    d.oem_table_id = "TABLE";
    uint8_t *image = place(&d);
    assert_memory_equal(image, "RSD PTR ", 8);
    assert_int_equal(acpica_sum(image, 20), 0);
    assert_int_equal(acpica_sum(image, 36), 0);
    assert_int_equal(image[15], 2);
    assert_int_equal(vmm_load_le32(image + 20), 36);
    assert_memory_equal(image + 9, "ABCDEF", 6);
    const uint8_t *fadt = find(image, "FACP", 0);
    assert_non_null(fadt);
    assert_int_equal(vmm_load_le32(fadt + 4), 276);
    assert_memory_equal(fadt + 10, "ABCDEFTABLE\0\0\0", 14);
    assert_int_equal(vmm_load_le32(fadt + 40), vmm_load_le64(fadt + 140));
    const uint8_t *dsdt = acpica_table(image, BASE, ROOM, vmm_load_le64(fadt + 140));
    assert_memory_equal(dsdt, "DSDT", 4);
    assert_int_equal(vmm_load_le32(dsdt + 4), 40);
    assert_memory_equal(dsdt + 36, "\x10\x03\\", 4);
    assert_null(find(image, "DSDT", 0));
    assert_null(find(image, "MCFG", 0));
    free(image);
}

static void reduced_hardware_has_sleep_registers(void **state)
{
    (void)state;
    struct vmm_acpi_description d = reduced();
    uint8_t *image = place(&d);
    const uint8_t *fadt = find(image, "FACP", 0);
    uint32_t flags = vmm_load_le32(fadt + 112);
    assert_true(flags & 1u << 20);
    assert_true(flags & 1u << 10);
    assert_int_equal(vmm_load_le64(fadt + 132), 0); /* no FACS */
    assert_memory_equal(fadt + 116, "\x01\x08\x00\x01\x02\x06\0\0\0\0\0\0\x01", 13);
    assert_memory_equal(fadt + 244, "\x01\x08\x00\x01\x00\x06\0\0\0\0\0\0", 12);
    assert_memory_equal(fadt + 256, "\x01\x08\x00\x01\x01\x06\0\0\0\0\0\0", 12);
    assert_true(vmm_load_le16(fadt + 109) & 1u << 5); /* no RTC */
    free(image);
}

static void fixed_hardware_has_a_facs(void **state)
{
    (void)state;
    struct vmm_acpi_description d = fixed();
    uint8_t *image = place(&d);
    const uint8_t *fadt = find(image, "FACP", 0);
    uint64_t facs = vmm_load_le32(fadt + 36);
    assert_true(facs >= BASE && facs < BASE + ROOM);
    assert_int_equal(facs % 64, 0);
    assert_memory_equal(image + (facs - BASE), "FACS\x40\0\0", 8);
    assert_false(vmm_load_le32(fadt + 112) & 1u << 20);
    assert_int_equal(vmm_load_le16(fadt + 46), 9);
    assert_int_equal(vmm_load_le32(fadt + 56), 0x600);
    assert_int_equal(vmm_load_le32(fadt + 76), 0x608);
    assert_int_equal(fadt[88], 4);
    assert_int_equal(fadt[91], 4);
    assert_int_equal(fadt[108], 0x32);
    assert_memory_equal(fadt + 208, "\x01\x20\x00\x03\x08\x06\0\0\0\0\0\0", 12);
    free(image);
}

static void processors_beyond_254_are_x2apics(void **state)
{
    (void)state;
    static const uint32_t ids[] = {0, 2, 254, 255, 70000};
    struct vmm_acpi_description d = reduced();
    d.cpus = 5;
    d.apic_ids = ids;
    d.ioapic_address = 0xfec00000;
    d.ioapic_id = 7;
    uint8_t *image = place(&d);
    const uint8_t *madt = find(image, "APIC", 0);
    static const uint8_t expected[] = {
        0x00, 0x00, 0xe0, 0xfe, 0,    0,    0,    0, /* local APICs, no PICs */
        0,    8,    0,    0,    1,    0,    0,    0, /* */
        0,    8,    1,    2,    1,    0,    0,    0, /* */
        0,    8,    2,    254,  1,    0,    0,    0, /* */
        9,    16,   0,    0,    255,  0,    0,    0,    1, 0, 0, 0, 3, 0, 0, 0, /* */
        9,    16,   0,    0,    0x70, 0x11, 1,    0,    1, 0, 0, 0, 4, 0, 0, 0, /* */
        1,    12,   7,    0,    0,    0,    0xc0, 0xfe, 0, 0, 0, 0,             /* */
        4,    6,    0xff, 0,    0,    1,                                        /* */
        10,   12,   0,    0,    0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0,             /* */
    };
    assert_int_equal(vmm_load_le32(madt + 4), 36 + sizeof(expected));
    assert_memory_equal(madt + 36, expected, sizeof(expected));
    free(image);
}

static void overrides_and_ecam(void **state)
{
    (void)state;
    static const struct vmm_acpi_override overrides[] = {
        {.isa = 0, .gsi = 2},
        {.isa = 9, .level = 1, .active_low = 1, .gsi = 9},
    };
    struct vmm_acpi_description d = reduced();
    d.legacy_pics = 1;
    d.overrides = overrides;
    d.override_count = 2;
    d.ecam_address = 0xe0000000;
    d.ecam_last_bus = 31;
    uint8_t *image = place(&d);
    const uint8_t *madt = find(image, "APIC", 0), *mcfg = find(image, "MCFG", 0);
    assert_int_equal(madt[40], 1);
    assert_memory_equal(madt + 52, "\2\x0a\0\0\2\0\0\0\x05\0\2\x0a\0\x09\x09\0\0\0\x0f\0\4\6", 22);
    assert_int_equal(vmm_load_le32(mcfg + 4), 60);
    assert_memory_equal(mcfg + 44, "\0\0\0\xe0\0\0\0\0\0\0\0\x1f\0\0\0\0", 16);
    free(image);
}

static void embedders_tables_are_named_too(void **state)
{
    (void)state;
    uint8_t own[40] = "HPET";
    own[4] = 99; /* a wrong length and checksum: filled in */
    own[9] = 99;
    own[39] = 0x77;
    const struct vmm_acpi_table extra[] = {{own, sizeof(own)}};
    const struct vmm_acpi_table ssdts[] = {{"\x08TEST\x00", 6}, {NULL, 0}};
    struct vmm_acpi_description d = reduced();
    d.extra = extra;
    d.extra_count = 1;
    d.ssdts = ssdts;
    d.ssdt_count = 2;
    uint8_t *image = place(&d);
    const uint8_t *hpet = find(image, "HPET", 0);
    assert_non_null(hpet);
    assert_int_equal(vmm_load_le32(hpet + 4), 40);
    assert_int_equal(hpet[39], 0x77);
    assert_int_equal(vmm_load_le32(find(image, "SSDT", 0) + 4), 42);
    assert_int_equal(vmm_load_le32(find(image, "SSDT", 1) + 4), 36);
    assert_null(find(image, "SSDT", 2));
    free(image);
}

static void expect_refused(const struct vmm_acpi_description *d, const char *words)
{
    struct vmm_memory *memory = ram();
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_acpi_place(memory, BASE, ROOM, d, NULL, &err), -EINVAL);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" has no \"%s\"", err.text, words);
    vmm_memory_unref(memory);
}

#define REFUSED(base, change, words)                                                               \
    do {                                                                                           \
        struct vmm_acpi_description d = base();                                                    \
        change;                                                                                    \
        expect_refused(&d, words);                                                                 \
    } while (0)

static void descriptions_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const uint32_t all[] = {UINT32_MAX};
    static const struct vmm_acpi_override isa16[] = {{.isa = 16}};
    static const struct vmm_acpi_table none[] = {{NULL, 36}}, tiny[] = {{"HPET", 4}};
    REFUSED(reduced, d.cpus = 0, "cpus");
    REFUSED(reduced, d.cpus = 65537, "cpus");
    REFUSED(reduced, d.apic_ids = all, "APIC id");
    REFUSED(reduced, d.oem_id = "SEVENTH", "oem_id");
    REFUSED(reduced, d.oem_table_id = "NINECHARS", "oem_table_id");
    REFUSED(reduced, d.sleep_status.length = 0, "go together");
    REFUSED(reduced, d.reset.length = 32, "register");
    REFUSED(reduced, d.gpe0 = port(0x620, 8), "fixed hardware");
    REFUSED(reduced, d.smi_command = 0xb2, "fixed hardware");
    REFUSED(reduced, d.reset_value = 256, "reset_value");
    REFUSED(reduced, d.boot_flags = 0x10000, "boot_flags");
    REFUSED(reduced, d.ioapic_id = 256, "ioapic_id");
    REFUSED(reduced, d.override_count = 1, "override");
    REFUSED(reduced, (d.overrides = isa16, d.override_count = 1), "override");
    REFUSED(reduced, d.override_count = 17, "override");
    REFUSED(reduced, d.ecam_address = 0xe0001000, "ecam");
    REFUSED(reduced, d.ecam_last_bus = 256, "ecam");
    REFUSED(reduced, d.dsdt_length = 1, "dsdt");
    REFUSED(reduced, d.extra_count = 1, "extra");
    REFUSED(reduced, d.extra_count = 33, "extra");
    REFUSED(reduced, (d.extra = none, d.extra_count = 1), "extra");
    REFUSED(reduced, (d.extra = tiny, d.extra_count = 1), "extra");
    REFUSED(reduced, d.ssdt_count = 17, "ssdt");
    REFUSED(reduced, d.ssdt_count = 1, "ssdt");
    REFUSED(reduced, (d.ssdts = none, d.ssdt_count = 1), "SSDT");
    REFUSED(fixed, d.pm1_event.length = 0, "pm1_event");
    REFUSED(fixed, d.pm1_control.length = 4, "pm1_control");
    REFUSED(fixed, d.sci = 0x10000, "sci");
    REFUSED(fixed, d.acpi_enable = 256, "acpi_enable");
}

static void places_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct vmm_memory *memory = ram();
    struct vmm_acpi_description d = reduced();
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_acpi_place(memory, BASE + 16, ROOM, &d, NULL, &err), -EINVAL);
    assert_int_equal(vmm_acpi_place(memory, BASE, 35, &d, NULL, &err), -EINVAL);
    assert_int_equal(vmm_acpi_place(memory, UINT64_C(0x100000000), ROOM, &d, NULL, &err), -EINVAL);
    assert_int_equal(vmm_acpi_place(memory, 0xffff0000, 0x10001, &d, NULL, &err), -EINVAL);
    assert_int_equal(vmm_acpi_place(memory, UINT64_MAX - 63, 128, &d, NULL, &err), -EINVAL);
    assert_int_equal(vmm_acpi_place(memory, 0x100000, ROOM, &d, NULL, &err), -EFAULT);
    assert_non_null(strstr(err.text, "0x100000"));
    /* Every room that is too small is refused, and the first that is not is enough. */
    uint64_t used = 0;
    int rc = -ENOSPC;
    for (uint64_t room = 36; room < 4096 && rc == -ENOSPC; room++)
        rc = vmm_acpi_place(memory, BASE, room, &d, &used, &err);
    assert_int_equal(rc, 0);
    assert_int_equal(vmm_acpi_place(memory, BASE, used, &d, NULL, &err), 0);
    assert_int_equal(vmm_acpi_place(memory, BASE, used - 1, &d, NULL, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "room"));
    d.size = sizeof(d) + 8;
    struct {
        struct vmm_acpi_description d;
        uint64_t unknown;
    } newer = {d, 1};
    assert_int_equal(vmm_acpi_place(memory, BASE, ROOM, &newer.d, NULL, &err), -E2BIG);
    vmm_memory_unref(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_leads_to_all_tables),
        cmocka_unit_test(reduced_hardware_has_sleep_registers),
        cmocka_unit_test(fixed_hardware_has_a_facs),
        cmocka_unit_test(processors_beyond_254_are_x2apics),
        cmocka_unit_test(overrides_and_ecam),
        cmocka_unit_test(embedders_tables_are_named_too),
        cmocka_unit_test(descriptions_that_do_not_fit_are_refused),
        cmocka_unit_test(places_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
