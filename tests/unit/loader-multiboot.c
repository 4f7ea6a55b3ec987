/* SPDX-License-Identifier: BSD-3-Clause */
/* Multiboot 1 and 2: headers, images by ELF and by addresses, the information they get. */
#include "loader.h"

#define FILE_SIZE 0x4000u

static uint8_t image[FILE_SIZE];

/* Multiboot 1 with addresses: header at 0x40 of the file and of the image at 1 MiB. */
static struct vmm_kernel_options sound1(void)
{
    memset(image, 0x77, sizeof(image));
    static const uint32_t header[8] = {0x1badb002, 0x10003,  0,        0x100040,
                                       0x100000,   0x103000, 0x108000, 0x100080};
    for (size_t i = 0; i < 8; i++)
        vmm_store_le32(image + 0x40 + 4 * i, header[i]);
    vmm_store_le32(image + 0x48, 0 - (0x1badb002u + 0x10003u));
    return kernel_in(image, FILE_SIZE, VMM_KERNEL_MULTIBOOT);
}

static void seal1(uint32_t flags)
{
    vmm_store_le32(image + 0x44, flags);
    vmm_store_le32(image + 0x48, 0 - (0x1badb002u + flags));
}

/* Multiboot 2: header at 0x40, tags put by put_tag(). */
static size_t tags_end;

static void seal2(void)
{
    vmm_store_le32(image + 0x48, (uint32_t)(tags_end - 0x40));
    vmm_store_le32(image + 0x4c,
                   0u - (0xe85250d6u + vmm_load_le32(image + 0x44) + (uint32_t)(tags_end - 0x40)));
}

static void put_tag(uint16_t type, uint16_t flags, const uint32_t *words, size_t count)
{
    uint8_t *t = image + tags_end;
    vmm_store_le16(t, type);
    vmm_store_le16(t + 2, flags);
    vmm_store_le32(t + 4, (uint32_t)(8 + 4 * count));
    for (size_t i = 0; i < count; i++)
        vmm_store_le32(t + 8 + 4 * i, words[i]);
    tags_end = vmm_align_up(tags_end + 8 + 4 * count, 8);
    seal2();
}

static struct vmm_kernel_options sound2(void)
{
    memset(image, 0x77, sizeof(image));
    vmm_store_le32(image + 0x40, 0xe85250d6);
    vmm_store_le32(image + 0x44, 0);
    tags_end = 0x50;
    put_tag(2, 0, (uint32_t[]){0x100040, 0x100000, 0x103000, 0x108000}, 4);
    put_tag(3, 0, (uint32_t[]){0x100200}, 1);
    return kernel_in(image, FILE_SIZE, VMM_KERNEL_MULTIBOOT);
}

static void end2(void)
{
    put_tag(0, 0, NULL, 0);
}

static void multiboot1_gets_its_information(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    assert_int_equal(vmm_memory_fill(m, 0x103000, 0xff, 0x5000), 0);
    struct vmm_kernel_options o = sound1();
    struct vmm_kernel_module modules[2] = {{buffer_file("first", 6), "one"},
                                           {buffer_file("second", 7), NULL}};
    o.format = VMM_KERNEL_AUTO;
    o.modules = modules;
    o.module_count = 2;
    o.command_line = "kernel line";
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_MULTIBOOT);
    assert_int_equal(s.protocol, 1);
    assert_int_equal(b.mode, VMM_X86_BOOT_PROTECTED);
    assert_int_equal(b.regs.rax, 0x2badb002);
    assert_int_equal(b.regs.rip, 0x100080);
    assert_guest_filled(m, 0x100060, 0x103000 - 0x100060, 0x77);
    assert_guest_filled(m, 0x103000, 0x5000, 0);
    assert_int_equal(s.kernel_length, 0x8000);
    uint64_t i = b.regs.rbx;
    assert_int_equal(guest32(m, i), 0x24d);
    assert_int_equal(guest32(m, i + 4), 640);
    assert_int_equal(guest32(m, i + 8), 15 * 1024);
    assert_guest_text(m, guest32(m, i + 16), "kernel line");
    assert_int_equal(guest32(m, i + 20), 2);
    uint32_t list = guest32(m, i + 24);
    assert_guest_text(m, guest32(m, list), "first");
    assert_int_equal(guest32(m, list) % 4096, 0);
    assert_int_equal(guest32(m, list + 4), guest32(m, list) + 6);
    assert_guest_text(m, guest32(m, list + 8), "one");
    assert_guest_text(m, guest32(m, list + 16), "second");
    assert_guest_text(m, guest32(m, list + 24), "");
    assert_int_equal(guest32(m, i + 44), 3 * 24);
    uint32_t map = guest32(m, i + 48);
    assert_int_equal(guest32(m, map + 24), 20);
    assert_int_equal(guest64(m, map + 28), 0xa0000);
    assert_int_equal(guest64(m, map + 36), 0x60000);
    assert_int_equal(guest32(m, map + 44), 2);
    assert_guest_text(m, guest32(m, i + 64), "libvmm");
    /* Without modules the flag is off. */
    o.module_count = 0;
    b = load_ok(m, &o, &s);
    assert_int_equal(guest32(m, b.regs.rbx), 0x245);
    o.load_address = 0x100000;
    load_fails(m, &o, -EINVAL, "load address");
    vmm_memory_unref(m);
}

static void multiboot1_addresses_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint32_t field; /* from the header's start */
        uint32_t value;
        int code;
        const char *words;
    } lies[] = {
        {12, 0xfffff, -ENOEXEC, "header_addr"},
        {16, 0x100041, -ENOEXEC, "header_addr"},
        {16, 0xfffff, -ENOEXEC, "load_addr"},
        {16, 0, -ENOEXEC, "load_addr"},
        {20, 0x100000, -ENOEXEC, "load_end_addr"},
        {20, 0x104001, -ENOEXEC, "load_end_addr"},
        {20, 0xffffffff, -ENOEXEC, "load_end_addr"},
        {24, 0x102fff, -ENOEXEC, "bss_end_addr"},
        {24, 0xffffffff, -ENOMEM, "bss_end_addr"},
        {28, 0xfffff, -ENOEXEC, "entry_addr"},
        {28, 0x108000, -ENOEXEC, "entry_addr"},
        {4, 0x10000, -ENOEXEC, "no Multiboot header"}, /* the checksum */
    };
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(lies); i++) {
        struct vmm_kernel_options o = sound1();
        vmm_store_le32(image + 0x40 + lies[i].field, lies[i].value);
        load_fails(m, &o, lies[i].code, lies[i].words);
    }
    struct vmm_kernel_options o = sound1();
    struct vmm_boot_state s;
    vmm_store_le32(image + 0x40 + 20, 0); /* to the end of the file, no bss */
    vmm_store_le32(image + 0x40 + 24, 0);
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_length, FILE_SIZE);
    assert_guest_filled(m, 0x103000, 0x1000, 0x77);
    seal1(0x10007);
    load_fails(m, &o, -ENOTSUP, "video");
    seal1(0x18003);
    load_fails(m, &o, -ENOTSUP, "flags");
    seal1(3);
    load_fails(m, &o, -ENOEXEC, "neither addresses in the header nor an ELF file");
    sound1();
    o.kernel.data_length = 0x40 + 12; /* the addresses are cut off */
    load_fails(m, &o, -ENOEXEC, "addresses");
    vmm_memory_unref(m);
}

static void the_header_is_found_within_its_limits(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound1();
    uint8_t header[32];
    memcpy(header, image + 0x40, 32);
    static const struct {
        uint32_t at;
        bool found;
    } places[] = {
        {0, true}, {0x42, false}, {8192 - 32, true}, {8192 - 12, true}, {8192 - 8, false}};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(places); i++) {
        memset(image, 0x77, sizeof(image));
        memcpy(image + places[i].at, header, 32);
        vmm_store_le32(image + places[i].at + 12, 0x100000 + places[i].at);
        if (places[i].found)
            load_ok(m, &o, &s);
        else
            load_fails(m, &o, -ENOEXEC, "no Multiboot header");
    }
    for (size_t n = 1; n < 0x70; n++) { /* truncated anywhere */
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        sound1();
        memcpy(copy, image, n);
        o.kernel = buffer_file(copy, n);
        load_fails(m, &o, -ENOEXEC, "");
        free(copy);
    }
    vmm_memory_unref(m);
}

/* The payload of an information tag, or 0. */
static uint64_t find_tag(struct vmm_memory *m, uint64_t info, uint32_t type, uint32_t *size)
{
    uint32_t total = guest32(m, info);
    assert_int_equal(info % 8, 0);
    for (uint64_t at = 8; at < total; at = vmm_align_up(at + *size, 8)) {
        *size = guest32(m, info + at + 4);
        assert_true(*size >= 8);
        assert_true(at + *size <= total);
        if (guest32(m, info + at) == type)
            return info + at + 8;
        if (guest32(m, info + at) == 0) /* the end tag is the last */
            assert_int_equal(at + 8, total);
    }
    return 0;
}

static void multiboot2_gets_its_tags(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound2();
    put_tag(1, 0, (uint32_t[]){1, 2, 3, 4, 6, 15}, 6);
    put_tag(1, 1, (uint32_t[]){8, 99}, 2); /* optional: a frame buffer, something unknown */
    put_tag(4, 0, (uint32_t[]){2}, 1);
    put_tag(5, 1, (uint32_t[]){0, 0, 32}, 3);
    put_tag(6, 0, NULL, 0);
    put_tag(77, 1, NULL, 0);
    end2();
    uint8_t rsdp[36] = "RSD PTR ";
    rsdp[15] = 2;
    rsdp[35] = 0x5c;
    assert_int_equal(vmm_memory_write(m, 0x9f000, rsdp, sizeof(rsdp)), 0);
    struct vmm_memory_map_entry map[] = {{0, 0x9f000, VMM_MEMORY_MAP_RAM, 0},
                                         {0x9f000, 0x1000, VMM_MEMORY_MAP_ACPI, 0},
                                         {MIB, 15 * MIB, VMM_MEMORY_MAP_RAM, 0}};
    struct vmm_kernel_module module = {buffer_file("the module", 11), "name"};
    o.memory_map = map;
    o.memory_map_count = 3;
    o.acpi_rsdp = 0x9f000;
    o.modules = &module;
    o.module_count = 1;
    o.command_line = "line";
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.protocol, 2);
    assert_int_equal(b.regs.rax, 0x36d76289);
    assert_int_equal(b.regs.rip, 0x100200);
    assert_guest_filled(m, 0x102000, 0x1000, 0x77);
    assert_guest_filled(m, 0x103000, 0x5000, 0);
    uint64_t i = b.regs.rbx, t;
    uint32_t size;
    t = find_tag(m, i, 1, &size);
    assert_guest_text(m, t, "line");
    assert_int_equal(size, 13);
    assert_int_equal(t, s.command_line_address);
    assert_guest_text(m, find_tag(m, i, 2, &size), "libvmm");
    t = find_tag(m, i, 3, &size);
    assert_guest_text(m, guest32(m, t), "the module");
    assert_int_equal(guest32(m, t + 4), guest32(m, t) + 11);
    assert_guest_text(m, t + 8, "name");
    t = find_tag(m, i, 4, &size);
    assert_int_equal(guest32(m, t), 0x9f000 / 1024);
    assert_int_equal(guest32(m, t + 4), 15 * 1024);
    t = find_tag(m, i, 6, &size);
    assert_int_equal(guest32(m, t), 24);
    assert_int_equal(size, 16 + 3 * 24);
    assert_int_equal(guest64(m, t + 8 + 24), 0x9f000);
    assert_int_equal(guest32(m, t + 8 + 24 + 16), 3);
    t = find_tag(m, i, 15, &size);
    assert_int_equal(size, 8 + 36);
    assert_int_equal(guest8(m, t + 35), 0x5c);
    assert_int_equal(find_tag(m, i, 21, &size), 0);

    rsdp[15] = 0; /* ACPI 1.0 */
    assert_int_equal(vmm_memory_write(m, 0x9f000, rsdp, sizeof(rsdp)), 0);
    b = load_ok(m, &o, &s);
    assert_int_not_equal(find_tag(m, b.regs.rbx, 14, &size), 0);
    assert_int_equal(size, 28);
    o.acpi_rsdp = 0x9f004;
    load_fails(m, &o, -EINVAL, "RSDP");
    o.acpi_rsdp = UINT64_MAX - 8;
    load_fails(m, &o, -EINVAL, "RSDP");
    o.acpi_rsdp = 0;
    load_fails(m, &o, -ENOTSUP, "RSDP"); /* tag 1 asked for it */
    vmm_memory_unref(m);
}

static void multiboot2_wishes_that_cannot_be_met_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint16_t type, flags;
        uint32_t words[4];
        size_t count;
        int code;
        const char *text;
    } wishes[] = {
        {1, 0, {8}, 1, -ENOTSUP, "information of type 8"},
        {2, 0, {1, 2, 3}, 3, -ENOEXEC, "tag 2"},
        {3, 0, {0}, 0, -ENOEXEC, "entry_addr"},
        {3, 0, {0x108000}, 1, -ENOEXEC, "entry_addr"},
        {4, 0, {0}, 0, -ENOEXEC, "console_flags"},
        {4, 0, {1}, 1, -ENOTSUP, "console"},
        {5, 0, {640, 480, 32}, 3, -ENOTSUP, "frame buffer"},
        {10, 0, {0, 0, 1}, 3, -ENOEXEC, "tag 10"},
        {10, 0, {0, 0x1000000, 3, 0}, 4, -ENOEXEC, "align"},
        {10, 0, {2, 1, 4096, 0}, 4, -ENOEXEC, "min_addr"},
        {10, 0, {0, 0x1000000, 4096, 3}, 4, -ENOEXEC, "preference"},
        {10, 0, {0x100000, 0x107ffe, 4096, 1}, 4, -ENOMEM, "relocatable"},
        {11, 0, {0}, 0, -ENOTSUP, "tag 11"},
    };
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(wishes); i++) {
        struct vmm_kernel_options o = sound2();
        put_tag(wishes[i].type, wishes[i].flags, wishes[i].words, wishes[i].count);
        end2();
        load_fails(m, &o, wishes[i].code, wishes[i].text);
    }
    struct vmm_kernel_options o = sound2();
    end2();
    vmm_store_le32(image + 0x54, 0xfffffff8); /* the first tag's size */
    load_fails(m, &o, -ENOEXEC, "size of the tag");
    vmm_store_le32(image + 0x54, 7);
    load_fails(m, &o, -ENOEXEC, "size of the tag");
    o = sound2();
    vmm_store_le32(image + 0x44, 4);
    seal2();
    load_fails(m, &o, -ENOTSUP, "architecture");
    o = sound2();
    tags_end = FILE_SIZE + 8;
    seal2();
    load_fails(m, &o, -ENOEXEC, "header_length");
    tags_end = 0x48;
    seal2();
    load_fails(m, &o, -ENOEXEC, "header_length");
    o = sound2();
    tags_end = 0x68; /* only the address tag */
    end2();
    load_fails(m, &o, -ENOEXEC, "no entry tag");
    vmm_memory_unref(m);
}

static void a_relocatable_kernel_goes_where_it_prefers(void **state)
{
    (void)state;
    static const struct {
        uint32_t min, max, align, preference;
        uint64_t base;
    } cases[] = {
        {0, 0xffffff, 4096, 0, 0x100000},     {0x200000, 0xffffff, 4096, 0, 0x200000},
        {0, 0xffffff, 0x400000, 0, 0x400000}, {0x180001, 0xffffff, 0x1000, 1, 0x181000},
        {0, 0xbfffff, 0x200000, 2, 0xa00000}, {0x10000, 0xffffff, 0x1000, 1, 0x10000},
    };
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(cases); i++) {
        struct vmm_kernel_options o = sound2();
        put_tag(10, 0,
                (uint32_t[]){cases[i].min, cases[i].max, cases[i].align, cases[i].preference}, 4);
        end2();
        struct vmm_boot_state s;
        struct vmm_x86_boot b = load_ok(m, &o, &s);
        assert_int_equal(s.kernel_address, cases[i].base);
        assert_int_equal(b.regs.rip, cases[i].base + 0x200);
        assert_guest_filled(m, cases[i].base + 0x2000, 0x1000, 0x77);
        uint32_t size;
        assert_int_equal(guest32(m, find_tag(m, b.regs.rbx, 21, &size)), cases[i].base);
    }
    vmm_memory_unref(m);
}

static void modules_go_below_a_kernel_at_the_top_of_memory(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound2();
    put_tag(10, 0, (uint32_t[]){0, UINT32_MAX, 4096, 2}, 4);
    end2();
    static uint8_t initrd[2 << 20];
    o.initrd = buffer_file(initrd, sizeof(initrd));
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_address, 16 * MIB - 0x8000);
    assert_int_equal(s.initrd_address, MIB);
    vmm_memory_unref(m);
}

static void an_address_tag_of_all_ones_loads_the_whole_file(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound2();
    tags_end = 0x50;
    put_tag(2, 0, (uint32_t[]){0x200040, 0xffffffff, 0, 0}, 4);
    put_tag(3, 0, (uint32_t[]){0x200200}, 1);
    end2();
    load_ok(m, &o, &s);
    assert_int_equal(s.kernel_address, 0x200000);
    assert_int_equal(s.kernel_length, FILE_SIZE);
    vmm_store_le32(image + 0x58, 0x3f);
    load_fails(m, &o, -ENOEXEC, "header_addr");
    vmm_memory_unref(m);
}

static void elf_images_load_by_their_segments(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF\1\1\1", 7);
    vmm_store_le16(image + 16, 2);
    vmm_store_le16(image + 18, 3);
    vmm_store_le32(image + 24, 0x300010);
    vmm_store_le32(image + 28, 52);
    vmm_store_le16(image + 42, 32);
    vmm_store_le16(image + 44, 1);
    static const uint32_t phdr[8] = {1, 0x1000, 0x300000, 0x300000, 0x100, 0x200, 7, 0x1000};
    for (size_t i = 0; i < 8; i++)
        vmm_store_le32(image + 52 + 4 * i, phdr[i]);
    memset(image + 0x1000, 0x44, 0x100);
    uint8_t *h = image + 0x80;
    vmm_store_le32(h, 0x1badb002);
    vmm_store_le32(h + 8, 0 - 0x1badb002u);
    struct vmm_kernel_options o = kernel_in(image, FILE_SIZE, VMM_KERNEL_AUTO);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.protocol, 1);
    assert_int_equal(b.regs.rip, 0x300010);
    assert_guest_filled(m, 0x300000, 0x100, 0x44);
    vmm_store_le16(image + 18, 40);
    o.format = VMM_KERNEL_MULTIBOOT;
    load_fails(m, &o, -ENOTSUP, "e_machine");
    vmm_store_le16(image + 18, 3);
    vmm_store_le32(image + 24, 0x300200);
    load_fails(m, &o, -ENOEXEC, "e_entry");
    /* Multiboot 2 wins when both are there; here it moves the ELF image. */
    memset(h, 0, 12);
    vmm_store_le32(image + 0xa0, 0xe85250d6);
    uint8_t *t = image + 0xb0;
    vmm_store_le16(t, 10);
    vmm_store_le32(t + 4, 24);
    vmm_store_le32(t + 8, 0x800000);
    vmm_store_le32(t + 12, 0xffffff);
    vmm_store_le32(t + 16, 0x1000);
    vmm_store_le32(t + 24 + 4, 8); /* end */
    vmm_store_le32(image + 0xa8, 48);
    vmm_store_le32(image + 0xac, 0u - (0xe85250d6u + 48));
    vmm_store_le32(image + 24, 0x300010);
    b = load_ok(m, &o, &s);
    assert_int_equal(s.protocol, 2);
    assert_int_equal(b.regs.rip, 0x800010);
    assert_guest_filled(m, 0x800000, 0x100, 0x44);
    vmm_memory_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiboot1_gets_its_information),
        cmocka_unit_test(multiboot1_addresses_are_checked),
        cmocka_unit_test(the_header_is_found_within_its_limits),
        cmocka_unit_test(multiboot2_gets_its_tags),
        cmocka_unit_test(multiboot2_wishes_that_cannot_be_met_are_refused),
        cmocka_unit_test(a_relocatable_kernel_goes_where_it_prefers),
        cmocka_unit_test(modules_go_below_a_kernel_at_the_top_of_memory),
        cmocka_unit_test(an_address_tag_of_all_ones_loads_the_whole_file),
        cmocka_unit_test(elf_images_load_by_their_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
