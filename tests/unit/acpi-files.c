/* SPDX-License-Identifier: BSD-3-Clause */
/* The table loader's script, carried out as firmware does: afterwards every pointer leads to a table
 * and every checksum is right. */
#include "base/util.h"
#include "test.h"

#include <libvmm/acpi.h>

#include <stdlib.h>

#define TABLES_AT UINT64_C(0x7ff0000)
#define RSDP_AT   UINT64_C(0xf5000)

struct loader {
    struct vmm_acpi_files f;
    bool have_tables, have_rsdp;
};

static uint8_t *file(struct loader *l, const uint8_t *name, uint64_t *address, size_t *length)
{
    bool tables = strcmp((const char *)name, VMM_ACPI_FILE_TABLES) == 0;
    assert_true(tables || strcmp((const char *)name, VMM_ACPI_FILE_RSDP) == 0);
    *address = tables ? TABLES_AT : RSDP_AT;
    *length = tables ? l->f.tables_length : l->f.rsdp_length;
    return tables ? l->f.tables : l->f.rsdp;
}

static uint8_t sum(const uint8_t *data, size_t length)
{
    uint8_t total = 0;
    for (size_t i = 0; i < length; i++)
        total = (uint8_t)(total + data[i]);
    return total;
}

static void add_pointer(struct loader *l, const uint8_t *c)
{
    uint64_t to, at, value = 0;
    size_t to_length, at_length;
    uint8_t *dest = file(l, c + 4, &at, &at_length);
    (void)file(l, c + 60, &to, &to_length);
    uint32_t offset = vmm_load_le32(c + 116);
    uint8_t width = c[120];
    assert_true((width == 4 || width == 8) && offset + width <= at_length);
    memcpy(&value, dest + offset, width);
    assert_true(value < to_length);
    value += to;
    memcpy(dest + offset, &value, width);
}

static void carry_out(struct loader *l)
{
    const uint8_t *script = l->f.script;
    assert_int_equal(l->f.script_length % 128, 0);
    for (size_t i = 0; i < l->f.script_length; i += 128) {
        const uint8_t *c = script + i;
        uint64_t at;
        size_t length;
        uint8_t *data = file(l, c + 4, &at, &length);
        switch (vmm_load_le32(c)) {
        case 1:
            assert_int_equal(at % vmm_load_le32(c + 60), 0);
            assert_int_equal(c[64], at == RSDP_AT ? 2 : 1);
            *(at == RSDP_AT ? &l->have_rsdp : &l->have_tables) = true;
            break;
        case 2:
            assert_true(l->have_rsdp && l->have_tables);
            add_pointer(l, c);
            break;
        case 3: { /* where, from, how many; the byte is zero before */
            uint32_t where = vmm_load_le32(c + 60), start = vmm_load_le32(c + 64);
            uint32_t count = vmm_load_le32(c + 68);
            assert_true(where < length && start + count <= length);
            assert_int_equal(data[where], 0);
            data[where] = (uint8_t)-sum(data + start, count);
            break;
        }
        default:
            fail();
        }
    }
}

static const uint8_t *table_at(struct loader *l, uint64_t address, const char *signature)
{
    assert_in_range(address, TABLES_AT, TABLES_AT + l->f.tables_length - 36);
    const uint8_t *t = (const uint8_t *)l->f.tables + (address - TABLES_AT);
    uint32_t length = vmm_load_le32(t + 4);
    assert_memory_equal(t, signature, 4);
    assert_in_range(length, 36, l->f.tables_length - (address - TABLES_AT));
    if (strcmp(signature, "FACS") != 0)
        assert_int_equal(sum(t, length), 0);
    return t;
}

static void the_script_gives_sound_tables(void **state)
{
    static const uint8_t dsdt[] = {0x10, 0x05, '_', 'S', 'B', '_'};
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    struct loader l = {.f = VMM_ACPI_FILES_INIT};
    (void)state;
    d.cpus = 2;
    d.dsdt = dsdt;
    d.dsdt_length = sizeof(dsdt);
    d.pm1_event = (struct vmm_acpi_register){.address = 0x600, .space = 1, .length = 4};
    d.pm1_control = (struct vmm_acpi_register){.address = 0x604, .space = 1, .length = 2};
    assert_int_equal(vmm_acpi_build_files(&d, &l.f, NULL), 0);
    carry_out(&l);
    const uint8_t *rsdp = l.f.rsdp;
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    const uint8_t *xsdt = table_at(&l, vmm_load_le64(rsdp + 24), "XSDT");
    const uint8_t *fadt = table_at(&l, vmm_load_le64(xsdt + 36), "FACP");
    (void)table_at(&l, vmm_load_le64(xsdt + 44), "APIC");
    (void)table_at(&l, vmm_load_le32(fadt + 40), "DSDT");
    (void)table_at(&l, vmm_load_le64(fadt + 140), "DSDT");
    (void)table_at(&l, vmm_load_le32(fadt + 36), "FACS");
    (void)table_at(&l, vmm_load_le64(fadt + 132), "FACS");
    free(l.f.tables);
    free(l.f.rsdp);
    free(l.f.script);
}

static void bad_descriptions(void **state)
{
    struct vmm_acpi_description d = VMM_ACPI_DESCRIPTION_INIT;
    struct vmm_acpi_files f = VMM_ACPI_FILES_INIT;
    (void)state;
    assert_int_equal(vmm_acpi_build_files(&d, &f, NULL), -EINVAL); /* no processors */
    assert_int_equal(vmm_acpi_build_files(&d, NULL, NULL), -EINVAL);
    assert_null(f.tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_script_gives_sound_tables),
        cmocka_unit_test(bad_descriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
