/* SPDX-License-Identifier: BSD-3-Clause */
/* SMBIOS: the structures walked as the specification says, and read by dmidecode where there is one. */
#include "base/util.h"
#include "test.h"

#include <libvmm/smbios.h>

#include <unistd.h>

#define GIB (UINT64_C(1) << 30)

static const struct vmm_memory_map_entry map[] = {
    {0, 0x9fc00, VMM_MEMORY_MAP_RAM, 0},
    {0xe0000, 0x20000, VMM_MEMORY_MAP_RESERVED, 0},
    {0x100000, 3 * GIB - 0x100000, VMM_MEMORY_MAP_RAM, 0},
    {4 * GIB, 5000 * GIB, VMM_MEMORY_MAP_RAM, 0},
};
static const char *const oem[] = {"io.systemd.credential:a=b", "second"};

static struct vmm_smbios_options full(void)
{
    struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
    o.bios_vendor = "Firmware Maker";
    o.bios_version = "1.2";
    o.bios_date = "11/23/2026";
    o.manufacturer = "Machine Maker";
    o.product = "Product X";
    o.version = "v7";
    o.serial = "SN-42";
    o.sku = "SKU-1";
    o.family = "Family F";
    o.chassis_asset_tag = "Tag 9";
    o.cpu_manufacturer = "CPU Maker";
    o.cpu_version = "Model Y";
    o.cpu_id = 0x0123456789abcdef;
    for (uint8_t i = 0; i < 16; i++)
        o.uuid[i] = (uint8_t)(i * 17);
    o.sockets = 2;
    o.cores_per_socket = 4;
    o.threads_per_core = 2;
    o.memory_map = map;
    o.memory_map_count = VMM_ARRAY_SIZE(map);
    o.oem_strings = oem;
    o.oem_string_count = 2;
    return o;
}

static uint8_t *build(const struct vmm_smbios_options *o, uint8_t entry[VMM_SMBIOS_ENTRY_SIZE],
                      size_t *length)
{
    struct vmm_error err = VMM_ERROR_INIT;
    void *tables;
    if (vmm_smbios_build(o, 32, entry, &tables, length, &err))
        fail_msg("%s", err.text);
    return tables;
}

/* The structure after p, with all its strings. */
static const uint8_t *next(const uint8_t *p, const uint8_t *end)
{
    p += p[1];
    while (p + 1 < end && (p[0] || p[1]))
        p++;
    assert_true(p + 2 <= end);
    return p + 2;
}

static const uint8_t *find(const uint8_t *tables, size_t length, uint8_t type, unsigned n)
{
    for (const uint8_t *p = tables, *end = tables + length; p < end; p = next(p, end))
        if (p[0] == type && n-- == 0)
            return p;
    return NULL;
}

static const char *string_of(const uint8_t *p, size_t at)
{
    const char *text = (const char *)p + p[1];
    for (uint8_t n = p[at]; n > 1; n--)
        text += strlen(text) + 1;
    return p[at] ? text : "";
}

static void the_entry_point_leads_to_the_structures(void **state)
{
    (void)state;
    struct vmm_smbios_options o = full();
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE], sum = 0;
    size_t length;
    uint8_t *tables = build(&o, entry, &length);
    assert_memory_equal(entry, "_SM3_", 5);
    for (size_t i = 0; i < sizeof(entry); i++)
        sum = (uint8_t)(sum + entry[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(vmm_load_le32(entry + 0x0c), length);
    assert_int_equal(vmm_load_le64(entry + 0x10), 32);
    free(tables);
}

static void structures_have_unique_handles_and_an_end(void **state)
{
    (void)state;
    struct vmm_smbios_options o = full();
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    size_t length, count = 0;
    uint16_t handles[64];
    uint8_t last = 0;
    uint8_t *tables = build(&o, entry, &length);
    for (const uint8_t *p = tables; p < tables + length; p = next(p, tables + length)) {
        assert_int_not_equal(last, 127);
        last = p[0];
        handles[count] = vmm_load_le16(p + 2);
        for (size_t i = 0; i < count; i++)
            assert_int_not_equal(handles[i], handles[count]);
        count++;
    }
    assert_int_equal(last, 127);
    assert_int_equal(count, 3 + 2 + 1 + 2 + 3 + 2);
    free(tables);
}

static void fields_are_what_was_given(void **state)
{
    (void)state;
    struct vmm_smbios_options o = full();
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    size_t length;
    uint8_t *tables = build(&o, entry, &length);
    const uint8_t *p = find(tables, length, 1, 0);
    assert_string_equal(string_of(p, 4), "Machine Maker");
    assert_string_equal(string_of(p, 7), "SN-42");
    assert_string_equal(string_of(p, 0x1a), "Family F");
    assert_memory_equal(p + 8, "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99", 10);
    p = find(tables, length, 3, 0);
    assert_string_equal(string_of(p, 4), "Machine Maker");
    p = find(tables, length, 4, 1);
    assert_string_equal(string_of(p, 4), "CPU 1");
    assert_int_equal(p[0x23], 4);
    assert_int_equal(vmm_load_le16(p + 0x2e), 8);
    p = find(tables, length, 11, 0);
    assert_int_equal(p[4], 2);
    assert_string_equal((const char *)p + 5, oem[0]);
    p = find(tables, length, 17, 0); /* above what 16 bits of MiB hold */
    assert_int_equal(vmm_load_le16(p + 0x0c), 0x7fff);
    p = find(tables, length, 19, 0);
    assert_int_equal(vmm_load_le32(p + 8), 0x9fc00 / 1024 - 1);
    p = find(tables, length, 19, 2);
    assert_int_equal(vmm_load_le32(p + 4), UINT32_MAX);
    assert_int_equal(vmm_load_le64(p + 0x0f), 4 * GIB);
    assert_int_equal(vmm_load_le64(p + 0x17), 5004 * GIB - 1);
    assert_null(find(tables, length, 19, 3));
    free(tables);
}

static void sizes_of_memory(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        uint16_t field;
        uint32_t extended;
    } cases[] = {
        {1 << 20, 1, 0},
        {0x9fc00, 0x8000 | 639, 0},
        {256 << 20, 256, 0},
        {(UINT64_C(0x7ffe) << 20) + 4096, 0x7ffe, 0},
        {UINT64_C(0x7fff) << 20, 0x7fff, 0x7fff},
        {UINT64_C(1) << 60, 0x7fff, 0x7fffffff},
    };
    for (size_t i = 0; i < VMM_ARRAY_SIZE(cases); i++) {
        struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
        struct vmm_memory_map_entry ram = {0, cases[i].size, VMM_MEMORY_MAP_RAM, 0};
        uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
        size_t length;
        o.memory_map = &ram;
        o.memory_map_count = 1;
        uint8_t *tables = build(&o, entry, &length);
        const uint8_t *p = find(tables, length, 17, 0);
        assert_int_equal(vmm_load_le16(p + 0x0c), cases[i].field);
        assert_int_equal(vmm_load_le32(p + 0x1c), cases[i].extended);
        free(tables);
    }
}

static void placed_where_guests_look(void **state)
{
    (void)state;
    struct vmm_smbios_options o = full();
    struct vmm_memory *memory;
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t bytes[64];
    uint64_t used = 0;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, 0x100000, NULL, NULL), 0);
    assert_int_equal(vmm_smbios_place(memory, 0xf0000, 0x10000, &o, &used, &err), 0);
    assert_int_equal(vmm_memory_read(memory, 0xf0000, bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes, "_SM3_", 5);
    assert_int_equal(vmm_load_le64(bytes + 16), 0xf0020);
    assert_int_equal(vmm_load_le32(bytes + 12) + 32, used);
    assert_memory_equal(bytes + 32, "\0\x18\0\0\1\2", 6);
    assert_int_equal(vmm_smbios_place(memory, 0xf0000, used, &o, NULL, &err), 0);
    assert_int_equal(vmm_smbios_place(memory, 0xf0000, used - 1, &o, NULL, &err), -ENOSPC);
    assert_int_equal(vmm_smbios_place(memory, 0xf0000, 8, &o, NULL, &err), -ENOSPC);
    assert_int_equal(vmm_smbios_place(memory, 0xf0008, 0x1000, &o, NULL, &err), -EINVAL);
    assert_int_equal(vmm_smbios_place(memory, UINT64_MAX - 15, 0x1000, &o, NULL, &err), -EINVAL);
    assert_int_equal(vmm_smbios_place(memory, 0x100000, 0x1000, &o, NULL, &err), -EFAULT);
    vmm_memory_unref(memory);
}

static void expect_refused(const struct vmm_smbios_options *o, const char *words)
{
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    void *tables = NULL;
    size_t length;
    assert_int_equal(vmm_smbios_build(o, 0, entry, &tables, &length, &err), -EINVAL);
    assert_null(tables);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" has no \"%s\"", err.text, words);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    static const struct vmm_memory_map_entry wraps[] = {{UINT64_MAX, 2, VMM_MEMORY_MAP_RAM, 0}};
    static const char *const empty[] = {""};
    char *huge = malloc(65537);
    assert_non_null(huge);
    memset(huge, 'x', 65536);
    huge[65536] = '\0';
    const char *const long_oem[] = {huge};
#define REFUSED(change, words)                                                                     \
    do {                                                                                           \
        struct vmm_smbios_options o = full();                                                      \
        change;                                                                                    \
        expect_refused(&o, words);                                                                 \
    } while (0)
    REFUSED(o.serial = huge, "1023");
    REFUSED(o.sockets = 257, "sockets");
    REFUSED(o.cores_per_socket = 65535, "65534");
    REFUSED((o.cores_per_socket = 60000, o.threads_per_core = 2), "65534");
    REFUSED(o.threads_per_core = UINT32_MAX, "65534");
    REFUSED(o.memory_map_count = 1025, "memory_map");
    REFUSED(o.memory_map = NULL, "memory_map");
    REFUSED((o.memory_map = wraps, o.memory_map_count = 1), "wraps");
    REFUSED(o.oem_string_count = 256, "oem_string");
    REFUSED(o.oem_strings = NULL, "oem_string");
    REFUSED((o.oem_strings = empty, o.oem_string_count = 1), "OEM string");
    REFUSED((o.oem_strings = long_oem, o.oem_string_count = 1), "OEM string");
    free(huge);
}

/* dmidecode's dump format: the entry point, with the structures at byte 32. */
static void dmidecode_reads_it(void **state)
{
    (void)state;
    static const char *const words[] = {"SMBIOS 3.0.0 present",
                                        "Vendor: Firmware Maker",
                                        "Release Date: 11/23/2026",
                                        "System is a virtual machine",
                                        "Manufacturer: Machine Maker",
                                        "Product Name: Product X",
                                        "UUID: 00112233-4455-6677-8899-aabbccddeeff",
                                        "SKU Number: SKU-1",
                                        "Asset Tag: Tag 9",
                                        "Socket Designation: CPU 1",
                                        "Core Count: 4",
                                        "Thread Count: 8",
                                        "String 1: io.systemd.credential:a=b",
                                        "Number Of Devices: 1",
                                        "Range Size: 5000 GB",
                                        "Starting Address: 0x0000000100000000",
                                        "Status: No errors detected",
                                        "End Of Table"};
    struct vmm_smbios_options o = full();
    uint8_t entry[32] = {0};
    char path[] = "/tmp/libvmm-smbios-XXXXXX", command[128], output[32768];
    size_t length;
    if (system("command -v dmidecode >/dev/null"))
        skip(); /* package dmidecode */
    uint8_t *tables = build(&o, entry, &length);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, entry, sizeof(entry)), sizeof(entry));
    assert_int_equal(write(fd, tables, length), length);
    close(fd);
    free(tables);
    (void)snprintf(command, sizeof(command), "timeout 20 dmidecode --from-dump %s 2>&1", path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof(output) - 1, f);
    output[n] = '\0';
    assert_int_equal(pclose(f), 0);
    unlink(path);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(words); i++)
        if (!strstr(output, words[i]))
            fail_msg("dmidecode does not say \"%s\":\n%s", words[i], output);
    static const char *const bad[] = {"<BAD INDEX>", "<OUT OF SPEC>", "Wrong",
                                      "broken",      "truncated",     "Invalid"};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad); i++)
        if (strstr(output, bad[i]))
            fail_msg("dmidecode says \"%s\":\n%s", bad[i], output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_entry_point_leads_to_the_structures),
        cmocka_unit_test(structures_have_unique_handles_and_an_end),
        cmocka_unit_test(fields_are_what_was_given),
        cmocka_unit_test(sizes_of_memory),
        cmocka_unit_test(placed_where_guests_look),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(dmidecode_reads_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
