/* SPDX-License-Identifier: BSD-3-Clause */
/* bzImages: what the kernel is handed, by each version of the protocol, and every field that lies. */
#include "loader.h"

#define SETUP_SECTS 2u
#define CODE_SIZE   0x3000u
#define FILE_SIZE   ((SETUP_SECTS + 1) * 512 + CODE_SIZE)

static uint8_t image[FILE_SIZE + 1024];

/* A sound one: version 2.15, both entries, relocatable, code bytes that can be recognized. */
static struct vmm_kernel_options sound(uint32_t format)
{
    memset(image, 0, sizeof(image));
    image[0x1f1] = SETUP_SECTS;
    vmm_store_le32(image + 0x1f4, CODE_SIZE / 16);
    vmm_store_le16(image + 0x1fe, 0xaa55);
    image[0x200] = 0xeb;
    image[0x201] = 0x6a;
    memcpy(image + 0x202, "HdrS", 4);
    vmm_store_le16(image + 0x206, 0x20f);
    image[0x211] = 0x81;
    vmm_store_le32(image + 0x214, 0x100000);
    vmm_store_le32(image + 0x22c, 0x7fffffff);
    vmm_store_le32(image + 0x230, 0x200000);
    image[0x234] = 1;
    vmm_store_le16(image + 0x236, 0x1);
    vmm_store_le32(image + 0x238, 100);
    vmm_store_le64(image + 0x258, 0x400000);
    vmm_store_le32(image + 0x260, 0x180000);
    memset(image + 3 * 512, 0x5a, CODE_SIZE);
    return kernel_in(image, FILE_SIZE, format);
}

static void the_entries_are_as_the_protocol_says(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_AUTO);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_BZIMAGE64);
    assert_int_equal(s.protocol, 0x20f);
    assert_int_equal(b.regs.rip, 0x400200);
    assert_int_equal(b.regs.rsi, s.info_address);
    assert_int_equal(b.cs.selector, 0x10);
    assert_int_equal(b.data.selector, 0x18);
    assert_int_equal(b.regs.rflags, 2);
    assert_int_equal(s.kernel_address, 0x400000);
    assert_int_equal(s.kernel_length, 0x180000);
    assert_guest_filled(m, 0x400000, CODE_SIZE, 0x5a);
    assert_int_equal(guest8(m, 0x400000 + CODE_SIZE), 0);

    o.format = VMM_KERNEL_BZIMAGE32;
    b = load_ok(m, &o, &s);
    assert_int_equal(b.regs.rip, 0x400000);
    assert_int_equal(b.mode, VMM_X86_BOOT_PROTECTED);
    assert_int_equal(b.regs.rbp | b.regs.rdi | b.regs.rbx, 0);
    assert_int_equal(b.regs.rsi, s.info_address);

    vmm_store_le16(image + 0x236, 0); /* no 64-bit entry */
    o.format = VMM_KERNEL_BZIMAGE;
    load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_BZIMAGE32);
    o.format = VMM_KERNEL_BZIMAGE64;
    load_fails(m, &o, -ENOTSUP, "xloadflags");
    vmm_memory_unref(m);
}

static void the_zero_page_is_filled_in(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    static const char initrd[5000] = "the initrd";
    o.initrd = buffer_file(initrd, sizeof(initrd));
    o.command_line = "root=/dev/vda quiet";
    o.acpi_rsdp = 0xe1234;
    load_ok(m, &o, &s);
    uint64_t z = s.info_address;
    assert_int_equal(z % 4096, 0);
    assert_int_equal(guest64(m, z + 0x70), 0xe1234);
    assert_int_equal(guest8(m, z + 0x210), 0xff);
    assert_int_equal(guest8(m, z + 0x211), 0x01); /* LOADED_HIGH, no heap */
    assert_int_equal(guest32(m, z + 0x214), 0x400000);
    assert_int_equal(guest16(m, z + 0x1fa), 0xffff);
    assert_int_equal(guest32(m, z + 0x218), 16 * MIB - 0x2000);
    assert_int_equal(guest32(m, z + 0x21c), sizeof(initrd));
    assert_int_equal(s.initrd_address, 16 * MIB - 0x2000);
    assert_guest_text(m, s.initrd_address, "the initrd");
    assert_guest_text(m, guest32(m, z + 0x228), "root=/dev/vda quiet");
    assert_int_equal(s.command_line_address, guest32(m, z + 0x228));
    assert_int_equal(guest64(m, z + 0x250), 0);
    assert_int_equal(guest32(m, z + 0x1e0), 15 * 1024);
    /* RAM, the legacy hole, RAM. */
    assert_int_equal(guest8(m, z + 0x1e8), 3);
    static const uint64_t expected[3][3] = {
        {0, 0xa0000, 1}, {0xa0000, 0x60000, 2}, {0x100000, 15 * MIB, 1}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(guest64(m, z + 0x2d0 + 20 * i), expected[i][0]);
        assert_int_equal(guest64(m, z + 0x2d8 + 20 * i), expected[i][1]);
        assert_int_equal(guest32(m, z + 0x2e0 + 20 * i), expected[i][2]);
    }
    assert_guest_filled(m, z, 2, 0);
    vmm_memory_unref(m);
}

static void setup_data_holds_tree_seed_and_the_rest_of_a_long_map(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    static const uint8_t tree[48] = {0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 48, 7};
    struct vmm_memory_map_entry map[130] = {{0, 16 * MIB, VMM_MEMORY_MAP_RAM, 0}};
    for (size_t i = 1; i < 130; i++)
        map[i] = (struct vmm_memory_map_entry){(1ull << 40) + i * 4096, 4096,
                                               VMM_MEMORY_MAP_RESERVED, 0};
    o.memory_map = map;
    o.memory_map_count = 130;
    o.device_tree = tree;
    o.device_tree_length = sizeof(tree);
    o.random_seed = "sixteen bytes...";
    o.random_seed_length = 16;
    load_ok(m, &o, &s);
    static const uint32_t types[] = {9, 2, 1}, lengths[] = {16, 48, 40};
    uint64_t node = guest64(m, s.info_address + 0x250);
    for (size_t i = 0; i < 3; i++) {
        assert_int_not_equal(node, 0);
        assert_int_equal(guest32(m, node + 8), types[i]);
        assert_int_equal(guest32(m, node + 12), lengths[i]);
        if (types[i] == 9)
            assert_int_equal(guest64(m, node + 16), vmm_load_le64("sixteen "));
        else if (types[i] == 2)
            assert_int_equal(guest8(m, node + 16 + 8), 7);
        else
            assert_int_equal(guest64(m, node + 16), map[128].address);
        node = guest64(m, node);
    }
    assert_int_equal(node, 0);
    assert_int_equal(guest8(m, s.info_address + 0x1e8), 128);
    vmm_store_le16(image + 0x206, 0x208);
    load_fails(m, &o, -ENOTSUP, "setup_data");
    o.memory_map_count = 128;
    o.device_tree = NULL;
    load_ok(m, &o, &s); /* the seed is left out */
    assert_guest_filled(m, s.info_address + 0x250, 8, 0);
    vmm_memory_unref(m);
}

static void old_protocols_load_as_they_want(void **state)
{
    (void)state;
    for (uint16_t version = 0x200; version <= 0x20f; version++) {
        struct vmm_memory *m = ram_new(16 * MIB);
        struct vmm_boot_state s;
        struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
        o.command_line = "old";
        vmm_store_le16(image + 0x206, version);
        load_ok(m, &o, &s);
        assert_int_equal(s.protocol, version);
        bool relocatable = version >= 0x205, preferred = version >= 0x20a;
        assert_int_equal(s.kernel_address, preferred ? 0x400000 : 0x100000);
        assert_int_equal(s.kernel_length, preferred ? 0x180000 : CODE_SIZE);
        assert_int_equal(s.format, version >= 0x20c ? VMM_KERNEL_BZIMAGE64 : VMM_KERNEL_BZIMAGE32);
        if (version >= 0x202) {
            assert_int_equal(guest32(m, s.info_address + 0x228), s.command_line_address);
        } else {
            assert_int_equal(guest16(m, s.info_address + 0x20), 0xa33f);
            assert_int_equal(guest16(m, s.info_address + 0x22) + s.info_address,
                             s.command_line_address);
        }
        assert_guest_text(m, s.command_line_address, "old");
        o.load_address = 0x600000;
        if (relocatable)
            load_ok(m, &o, &s);
        else
            load_fails(m, &o, -EINVAL, "relocatable_kernel");
        vmm_memory_unref(m);
    }
}

static void setup_sects_of_zero_means_four(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    image[0x1f1] = 0;
    memset(image + 3 * 512, 0, 2 * 512);
    o.kernel.data_length = FILE_SIZE + 1024;
    memset(image + FILE_SIZE, 0x5a, 1024);
    load_ok(m, &o, &s);
    assert_guest_filled(m, 0x400000, CODE_SIZE, 0x5a);
    vmm_memory_unref(m);
}

static void a_relocatable_kernel_goes_where_there_is_room(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(32 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    struct vmm_memory_map_entry map[] = {{0, 32 * MIB, VMM_MEMORY_MAP_RAM, 0},
                                         {0x4ff000, 0x1000, VMM_MEMORY_MAP_RESERVED, 0}};
    o.memory_map = map;
    o.memory_map_count = 2;
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_address, 0x600000);
    o.load_address = 0x800000;
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_address, 0x800000);
    assert_int_equal(s.entry, 0x800200);
    /* Below the preferred address it will move itself up: both places are taken. */
    o.load_address = 0x200000;
    load_fails(m, &o, -ENOMEM, "init_size");
    map[1].address = 0x700000;
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_length, 0x400000 + 0x180000 - 0x200000);
    o.load_address = 0x801000;
    load_fails(m, &o, -EINVAL, "kernel_alignment");
    o.load_address = 1ull << 40;
    load_fails(m, &o, -EINVAL, "above 4 GiB");
    o.load_address = 0;
    image[0x234] = 0; /* not relocatable: loaded low, unpacks itself to the preferred address */
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_address, 0x100000);
    assert_int_equal(s.kernel_length, 0x400000 + 0x180000 - 0x100000);
    vmm_memory_unref(m);
}

static void the_initrd_stays_below_its_limit_and_beside_all_else(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    static uint8_t initrd[0x100000];
    o.initrd = buffer_file(initrd, sizeof(initrd));
    vmm_store_le32(image + 0x22c, 0x7fefff); /* the last byte allowed */
    load_ok(m, &o, &s);
    assert_int_equal(s.initrd_address, 0x6ff000);
    vmm_store_le32(image + 0x22c, 0x57ffff); /* the kernel's last byte: so below the kernel */
    load_ok(m, &o, &s);
    assert_int_equal(s.initrd_address, 0x300000);
    vmm_store_le32(image + 0x22c, 0x1ffffe);
    load_fails(m, &o, -ENOMEM, "initrd");
    vmm_store_le16(image + 0x236, 3); /* it can be anywhere */
    load_ok(m, &o, &s);
    assert_int_equal(s.initrd_address, 15 * MIB);
    o.format = VMM_KERNEL_BZIMAGE32;
    load_fails(m, &o, -ENOMEM, "initrd");
    o.initrd = buffer_file(initrd, 0);
    o.initrd.data = initrd;
    load_fails(m, &o, -ENOEXEC, "initrd: the file is empty");
    vmm_memory_unref(m);
}

static void an_initrd_can_be_above_4_gib(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    assert_int_equal(vmm_memory_add_ram(m, "high", 5ull << 30, 4 * MIB, NULL, NULL), 0);
    struct vmm_memory_map_entry map[] = {{0, 16 * MIB, VMM_MEMORY_MAP_RAM, 0},
                                         {5ull << 30, 4 * MIB, VMM_MEMORY_MAP_RAM, 0}};
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    static uint8_t initrd[4 << 20];
    o.memory_map = map;
    o.memory_map_count = 2;
    o.initrd = buffer_file(initrd, sizeof(initrd));
    vmm_store_le32(image + 0x22c, 0x7fffff);
    load_fails(m, &o, -ENOMEM, "initrd");
    vmm_store_le16(image + 0x236, 3);
    load_ok(m, &o, &s);
    assert_int_equal(s.initrd_address, 5ull << 30);
    assert_int_equal(guest32(m, s.info_address + 0x218), 0x40000000);
    assert_int_equal(guest32(m, s.info_address + 0xc0), 1);
    vmm_memory_unref(m);
}

static void the_command_line_has_the_headers_limit(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    char line[300];
    memset(line, 'a', sizeof(line));
    line[100] = '\0';
    o.command_line = line;
    load_ok(m, &o, &s);
    assert_guest_text(m, s.command_line_address, line);
    line[100] = 'a';
    line[101] = '\0';
    load_fails(m, &o, -E2BIG, "command line: 101 characters, this kernel takes 100");
    vmm_store_le16(image + 0x206, 0x205); /* before the field: 255 */
    line[101] = 'a';
    line[255] = '\0';
    load_ok(m, &o, &s);
    line[255] = 'a';
    line[256] = '\0';
    load_fails(m, &o, -E2BIG, "255");
    vmm_memory_unref(m);
}

static void lying_fields_are_named(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, width;
        uint64_t value;
        int code;
        const char *words;
    } lies[] = {
        {0x1fe, 2, 0xaa54, -ENOEXEC, "boot_flag"},
        {0x202, 4, 0x53726447, -ENOEXEC, "HdrS"},
        {0x206, 2, 0x1ff, -ENOEXEC, "version"},
        {0x206, 2, 0x300, -ENOEXEC, "version"},
        {0x201, 1, 3, -ENOEXEC, "jump"},
        {0x1f1, 1, 255, -ENOEXEC, "setup_sects"},
        {0x1f1, 1, (FILE_SIZE / 512) - 1, -ENOEXEC, "setup_sects"},
        {0x1f4, 4, 0, -ENOEXEC, "syssize"},
        {0x1f4, 4, CODE_SIZE / 16 + 1, -ENOEXEC, "syssize"},
        {0x1f4, 4, 0xffffffff, -ENOEXEC, "syssize"},
        {0x1f4, 4, 1, -ENOEXEC, "syssize"},
        {0x211, 1, 0, -ENOTSUP, "LOADED_HIGH"},
        {0x230, 4, 0, -ENOEXEC, "kernel_alignment"},
        {0x230, 4, 3, -ENOEXEC, "kernel_alignment"},
        {0x230, 4, 0x80000000, -ENOMEM, "init_size"},
        {0x258, 8, 1ull << 32, -ENOEXEC, "pref_address"},
        {0x258, 8, UINT64_MAX, -ENOEXEC, "pref_address"},
        {0x258, 8, 0xfffff000, -ENOMEM, "pref_address"},
        {0x260, 4, 0xffffffff, -ENOMEM, "init_size"},
        {0x260, 4, 16 << 20, -ENOMEM, "init_size"},
        {0x22c, 4, 0, -ENOMEM, "initrd"},
        {0x22c, 4, 0xfffff, -ENOMEM, "initrd"},
        {0x238, 4, 0, -E2BIG, "command line"},
    };
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(lies); i++) {
        struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
        o.initrd = buffer_file("x", 1);
        o.command_line = "x";
        uint8_t raw[8];
        vmm_store_le64(raw, lies[i].value);
        memcpy(image + lies[i].offset, raw, lies[i].width);
        load_fails(m, &o, lies[i].code, lies[i].words);
    }
    vmm_memory_unref(m);
}

static void every_truncation_fails(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    for (size_t n = 1; n <= FILE_SIZE - 16; n += n < 0x300 ? 1 : 97) {
        /* A copy of exactly this size: a read beyond it is seen by the sanitizer. */
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        memcpy(copy, image, n);
        o.kernel = buffer_file(copy, n);
        load_fails(m, &o, -ENOEXEC, "");
        free(copy);
    }
    vmm_memory_unref(m);
}

static void modules_are_refused(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_kernel_options o = sound(VMM_KERNEL_BZIMAGE);
    struct vmm_kernel_module module = {buffer_file("x", 1), NULL};
    o.modules = &module;
    o.module_count = 1;
    load_fails(m, &o, -EINVAL, "modules");
    vmm_memory_unref(m);
}

/* An ELF kernel with a PVH note, in an lz4 payload of one block of literals, in the bzImage. */
static struct vmm_kernel_options packed(void)
{
    struct vmm_kernel_options o = sound(VMM_KERNEL_AUTO);
    uint8_t elf[0x400] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    vmm_store_le16(elf + 16, 2);
    vmm_store_le16(elf + 18, 62);
    vmm_store_le64(elf + 24, 0x600000);
    vmm_store_le64(elf + 32, 64);
    vmm_store_le16(elf + 54, 56);
    vmm_store_le16(elf + 56, 2);
    static const uint64_t phdrs[2][7] = {{1, 0x200, 0x600000, 0x600000, 0x200, 0x1000, 4},
                                         {4, 0x100, 0, 0, 20, 20, 4}};
    for (size_t i = 0; i < 14; i++)
        vmm_store_le64(elf + 64 + 8 * i, phdrs[i / 7][i % 7]);
    static const uint32_t note[5] = {4, 4, 18, 0x6e6558, 0x600040};
    for (size_t i = 0; i < 5; i++)
        vmm_store_le32(elf + 0x100 + 4 * i, note[i]);
    memset(elf + 0x200, 0x66, 0x200);

    uint8_t *p = image + 3 * 512 + 0x1000;
    size_t extra = sizeof(elf) - 15, n = 8;
    p[n++] = 0xf0; /* literals: 15 and ... */
    for (; extra >= 255; extra -= 255)
        p[n++] = 255;
    p[n++] = (uint8_t)extra;
    memcpy(p + n, elf, sizeof(elf));
    n += sizeof(elf);
    vmm_store_le32(p, 0x184c2102);
    vmm_store_le32(p + 4, (uint32_t)(n - 8));
    vmm_store_le32(p + n, sizeof(elf));
    vmm_store_le32(image + 0x248, 0x1000);
    vmm_store_le32(image + 0x24c, (uint32_t)n + 4);
    o.unpack = 1;
    return o;
}

static void payloads_are_unpacked_and_entered(void **state)
{
    (void)state;
    if (!vmm_kernel_can_unpack("lz4"))
        skip();
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = packed();
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_LINUX64);
    assert_int_equal(b.regs.rip, 0x600000);
    assert_guest_filled(m, 0x600000, 0x200, 0x66);
    /* The bzImage's own header is handed on. */
    assert_int_equal(guest32(m, s.info_address + 0x260), 0x180000);
    o.format = VMM_KERNEL_PVH;
    b = load_ok(m, &o, &s);
    assert_int_equal(b.regs.rip, 0x600040);
    o.format = VMM_KERNEL_BZIMAGE32;
    load_fails(m, &o, -EINVAL, "unpack");
    o.format = VMM_KERNEL_MULTIBOOT;
    load_fails(m, &o, -EINVAL, "unpack");
    o.format = VMM_KERNEL_AUTO;
    o.load_address = 0x800000;
    load_fails(m, &o, -EINVAL, "load address");
    vmm_memory_unref(m);
}

static void lying_payloads_are_named(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset;
        uint32_t value;
        int code;
        const char *words;
    } lies[] = {
        {0x248, 0x2fff, -ENOEXEC, "payload_offset"},
        {0x248, UINT32_MAX, -ENOEXEC, "payload_offset"},
        {0x24c, UINT32_MAX, -ENOEXEC, "payload_length"},
        {0x24c, 0x2001, -ENOEXEC, "payload_length"},
        {0x24c, 0, -ENOTSUP, "payload_length"},
        {0x24c, 3, -ENOTSUP, "payload"},
        {0x206, 0x53720207, -ENOTSUP, "2.08"}, /* the version; behind it nothing that matters */
        {3 * 512 + 0x1000, 0, -ENOTSUP, "magic"},
        {3 * 512 + 0x1004, UINT32_MAX, -ENOEXEC, "block"},
        {3 * 512 + 0x100e, 0, -ENOEXEC, "not an ELF file"},
    };
    if (!vmm_kernel_can_unpack("lz4"))
        skip();
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(lies); i++) {
        struct vmm_kernel_options o = packed();
        vmm_store_le32(image + lies[i].offset, lies[i].value);
        load_fails(m, &o, lies[i].code, lies[i].words);
    }
    vmm_memory_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_entries_are_as_the_protocol_says),
        cmocka_unit_test(the_zero_page_is_filled_in),
        cmocka_unit_test(setup_data_holds_tree_seed_and_the_rest_of_a_long_map),
        cmocka_unit_test(old_protocols_load_as_they_want),
        cmocka_unit_test(setup_sects_of_zero_means_four),
        cmocka_unit_test(a_relocatable_kernel_goes_where_there_is_room),
        cmocka_unit_test(the_initrd_stays_below_its_limit_and_beside_all_else),
        cmocka_unit_test(an_initrd_can_be_above_4_gib),
        cmocka_unit_test(the_command_line_has_the_headers_limit),
        cmocka_unit_test(lying_fields_are_named),
        cmocka_unit_test(every_truncation_fails),
        cmocka_unit_test(modules_are_refused),
        cmocka_unit_test(payloads_are_unpacked_and_entered),
        cmocka_unit_test(lying_payloads_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
