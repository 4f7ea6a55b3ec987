/* SPDX-License-Identifier: BSD-3-Clause */
/* ELF kernels by PVH and by Linux's 64-bit entry: what they are handed, and every field that lies. */
#include "loader.h"

#define FILE_SIZE 0x2000u
#define PH(i)     (64 + 56 * (i))
#define NOTE      0x200u
#define TEXT      0x1000u

static uint8_t image[FILE_SIZE];

static void put_phdr(size_t i, uint32_t type, uint64_t offset, uint64_t paddr, uint64_t filesz,
                     uint64_t memsz)
{
    uint8_t *p = image + PH(i);
    vmm_store_le32(p, type);
    vmm_store_le64(p + 8, offset);
    vmm_store_le64(p + 16, paddr + 0xffffffff80000000);
    vmm_store_le64(p + 24, paddr);
    vmm_store_le64(p + 32, filesz);
    vmm_store_le64(p + 40, memsz);
    vmm_store_le64(p + 48, 4);
}

/* A sound one: a text segment at 2 MiB, a data segment with bss at 4 MiB, notes. */
static struct vmm_kernel_options sound(uint32_t format)
{
    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF\2\1\1", 7);
    vmm_store_le16(image + 16, 2);
    vmm_store_le16(image + 18, 62);
    vmm_store_le64(image + 24, 0x200010);
    vmm_store_le64(image + 32, 64);
    vmm_store_le16(image + 54, 56);
    vmm_store_le16(image + 56, 4);
    put_phdr(0, 1, TEXT, 0x200000, 0x800, 0x800);
    put_phdr(1, 1, TEXT + 0x800, 0x400000, 0x400, 0x3000);
    put_phdr(2, 4, NOTE, 0, 60, 60);
    put_phdr(3, 1, 0, 0, 0, 0); /* empty: nothing to load */
    uint8_t *n = image + NOTE;
    vmm_store_le32(n, 5); /* another note first, of uneven sizes */
    vmm_store_le32(n + 4, 3);
    vmm_store_le32(n + 8, 18);
    memcpy(n + 12, "Yen!", 5);
    n += 12 + 8 + 4;
    vmm_store_le32(n, 4);
    vmm_store_le32(n + 4, 8);
    vmm_store_le32(n + 8, 18);
    memcpy(n + 12, "Xen", 4);
    vmm_store_le64(n + 16, 0x200020);
    memset(image + TEXT, 0x11, 0x800);
    memset(image + TEXT + 0x800, 0x22, 0x400);
    return kernel_in(image, FILE_SIZE, format);
}

static void assert_image_loaded(struct vmm_memory *m)
{
    assert_guest_filled(m, 0x200000, 0x800, 0x11);
    assert_guest_filled(m, 0x400000, 0x400, 0x22);
    assert_guest_filled(m, 0x400400, 0x3000 - 0x400, 0);
}

static void pvh_gets_its_start_info(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    assert_int_equal(vmm_memory_fill(m, 0x400000, 0xff, 0x4000), 0); /* as after a reset */
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_AUTO);
    struct vmm_kernel_module module = {buffer_file("a module", 9), "its line"};
    o.initrd = buffer_file("an initrd", 10);
    o.modules = &module;
    o.module_count = 1;
    o.command_line = "console=ttyS0";
    o.acpi_rsdp = 0xe0000;
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_PVH);
    assert_int_equal(b.mode, VMM_X86_BOOT_PROTECTED);
    assert_int_equal(b.regs.rip, 0x200020);
    assert_int_equal(b.cr0, 0x11);
    assert_int_equal(b.cr4, 0);
    assert_int_equal(b.tr.limit, 0x67);
    assert_int_equal(b.tr.base, 0);
    assert_image_loaded(m);
    uint64_t i = b.regs.rbx;
    assert_int_equal(guest32(m, i), 0x336ec578);
    assert_int_equal(guest32(m, i + 4), 1);
    assert_int_equal(guest32(m, i + 8), 0);
    assert_int_equal(guest32(m, i + 12), 2);
    assert_guest_text(m, guest64(m, i + 24), "console=ttyS0");
    assert_int_equal(guest64(m, i + 32), 0xe0000);
    uint64_t list = guest64(m, i + 16);
    assert_guest_text(m, guest64(m, list), "an initrd");
    assert_int_equal(guest64(m, list + 8), 10);
    assert_guest_text(m, guest64(m, list + 32), "a module");
    assert_int_equal(guest64(m, list + 40), 9);
    assert_guest_text(m, guest64(m, list + 48), "its line");
    uint64_t map = guest64(m, i + 40);
    assert_int_equal(guest32(m, i + 48), 3);
    assert_int_equal(guest64(m, map + 24), 0xa0000);
    assert_int_equal(guest64(m, map + 32), 0x60000);
    assert_int_equal(guest64(m, map + 40), 2);
    assert_int_equal(s.kernel_address, 0x200000);
    assert_int_equal(s.kernel_length, 0x203000);

    o.random_seed = "x";
    o.random_seed_length = 1;
    load_ok(m, &o, &s); /* goes without */
    static const uint8_t tree[48] = {0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 48};
    o.device_tree = tree;
    o.device_tree_length = sizeof(tree);
    load_fails(m, &o, -EINVAL, "device tree");
    o.device_tree = NULL;
    module.file = (struct vmm_file)VMM_FILE_INIT;
    load_fails(m, &o, -EINVAL, "module 0");
    vmm_memory_unref(m);
}

static void linux64_gets_a_zero_page(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_LINUX64);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(b.mode, VMM_X86_BOOT_LONG);
    assert_int_equal(b.regs.rip, 0x200010);
    assert_int_equal(guest32(m, b.regs.rsi + 0x202), 0x53726448);
    assert_image_loaded(m);
    /* A virtual entry. */
    vmm_store_le64(image + 24, 0xffffffff80200010);
    b = load_ok(m, &o, &s);
    assert_int_equal(b.regs.rip, 0x200010);
    /* Without the note AUTO finds this format. */
    image[NOTE + 24 + 12] = 'Z';
    o.format = VMM_KERNEL_AUTO;
    load_ok(m, &o, &s);
    assert_int_equal(s.format, VMM_KERNEL_LINUX64);
    o.format = VMM_KERNEL_PVH;
    load_fails(m, &o, -ENOEXEC, "PHYS32_ENTRY");
    o.load_address = 0x100000;
    load_fails(m, &o, -EINVAL, "load address");
    o.load_address = 0;
    o.unpack = 1;
    load_fails(m, &o, -EINVAL, "unpack");
    vmm_memory_unref(m);
}

static void a_32_bit_elf_file_loads_by_pvh(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF\1\1\1", 7);
    vmm_store_le16(image + 16, 2);
    vmm_store_le16(image + 18, 3);
    vmm_store_le32(image + 28, 52);
    vmm_store_le16(image + 42, 32);
    vmm_store_le16(image + 44, 2);
    static const uint32_t phdrs[2][8] = {{1, TEXT, 0xc0200000, 0x200000, 0x10, 0x20, 7, 0x1000},
                                         {4, NOTE, 0, 0, 20, 20, 4, 4}};
    for (size_t i = 0; i < 16; i++)
        vmm_store_le32(image + 52 + 4 * i, phdrs[i / 8][i % 8]);
    static const uint32_t note[5] = {4, 4, 18, 0x6e6558, 0x200004};
    for (size_t i = 0; i < 5; i++)
        vmm_store_le32(image + NOTE + 4 * i, note[i]);
    memset(image + TEXT, 0x33, 0x10);
    struct vmm_kernel_options o = kernel_in(image, FILE_SIZE, VMM_KERNEL_AUTO);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(b.regs.rip, 0x200004);
    assert_guest_filled(m, 0x200000, 0x10, 0x33);
    assert_guest_filled(m, 0x200010, 0x10, 0);
    o.format = VMM_KERNEL_LINUX64;
    load_fails(m, &o, -ENOTSUP, "EI_CLASS");
    image[NOTE + 12] = 'x';
    o.format = VMM_KERNEL_AUTO;
    load_fails(m, &o, -ENOEXEC, "neither a PVH note nor a Multiboot header");
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
        {0, 4, 0, -ENOEXEC, "not an ELF file"},
        {4, 1, 3, -ENOEXEC, "EI_CLASS"},
        {5, 1, 2, -ENOEXEC, "EI_DATA"},
        {6, 1, 0, -ENOEXEC, "EI_VERSION"},
        {16, 2, 1, -ENOEXEC, "e_type"},
        {18, 2, 183, -ENOTSUP, "e_machine"},
        {32, 8, FILE_SIZE - 100, -ENOEXEC, "e_phoff"},
        {32, 8, UINT64_MAX, -ENOEXEC, "e_phoff"},
        {54, 2, 32, -ENOEXEC, "e_phentsize"},
        {54, 2, 0, -ENOEXEC, "e_phentsize"},
        {56, 2, 0, -ENOEXEC, "e_phnum"},
        {56, 2, 257, -ENOEXEC, "e_phnum"},
        {56, 2, 65535, -ENOEXEC, "e_phnum"},
        {PH(0) + 8, 8, FILE_SIZE, -ENOEXEC, "p_offset"},
        {PH(0) + 8, 8, UINT64_MAX - 0x7ff, -ENOEXEC, "p_offset"},
        {PH(0) + 32, 8, 0x801, -ENOEXEC, "p_filesz"},
        {PH(1) + 32, 8, UINT64_MAX, -ENOEXEC, "p_filesz"},
        {PH(1) + 40, 8, 0x3ff, -ENOEXEC, "p_filesz"},
        {PH(1) + 40, 8, UINT64_MAX, -ENOEXEC, "p_memsz"},
        {PH(1) + 40, 8, 0xc00001, -ENOMEM, "ELF segment 1"},
        {PH(1) + 24, 8, 0x2007ff, -EEXIST, "overlap ELF segment 0"},
        {PH(1) + 24, 8, 0x1fd001, -EEXIST, "overlap ELF segment 0"},
        {PH(1) + 24, 8, 0x9f000, -ENOMEM, "ELF segment 1"},
        {PH(1) + 24, 8, 0xfff000, -ENOMEM, "ELF segment 1"},
        {PH(1) + 24, 8, 1ull << 32, -ENOEXEC, "above 4 GiB"},
        {PH(1) + 24, 8, UINT64_MAX - 0x2ffe, -ENOEXEC, "p_memsz"},
        {PH(0), 4, 0, -ENOEXEC, "in no PT_LOAD"},
        {PH(2) + 8, 8, FILE_SIZE - 59, -ENOEXEC, "p_offset"},
        {PH(2) + 32, 8, FILE_SIZE, -ENOEXEC, "p_offset"},
        {NOTE, 4, UINT32_MAX, -ENOEXEC, "n_namesz"},
        {NOTE + 4, 4, UINT32_MAX, -ENOEXEC, "n_descsz"},
        {NOTE + 24, 4, 33, -ENOEXEC, "n_namesz"},
        {NOTE + 28, 4, 21, -ENOEXEC, "n_descsz"},
        {NOTE + 28, 4, 7, -ENOEXEC, "PHYS32_ENTRY"},
        {NOTE + 40, 8, 1ull << 32, -ENOEXEC, "PHYS32_ENTRY"},
        {NOTE + 40, 8, 0x200800, -ENOEXEC, "PHYS32_ENTRY"},
        {NOTE + 40, 8, 0x1fffff, -ENOEXEC, "PHYS32_ENTRY"},
    };
    struct vmm_memory *m = ram_new(16 * MIB);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(lies); i++) {
        struct vmm_kernel_options o = sound(VMM_KERNEL_PVH);
        uint8_t raw[8];
        vmm_store_le64(raw, lies[i].value);
        memcpy(image + lies[i].offset, raw, lies[i].width);
        load_fails(m, &o, lies[i].code, lies[i].words);
    }
    struct vmm_kernel_options o = sound(VMM_KERNEL_LINUX64);
    vmm_store_le64(image + 24, 0x200800);
    load_fails(m, &o, -ENOEXEC, "e_entry");
    vmm_store_le64(image + 24, 0x1fffff);
    load_fails(m, &o, -ENOEXEC, "e_entry");
    vmm_store_le32(image + PH(0), 6);
    vmm_store_le32(image + PH(1), 6);
    load_fails(m, &o, -ENOEXEC, "PT_LOAD");
    vmm_memory_unref(m);
}

static void every_truncation_fails(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    for (uint32_t format = VMM_KERNEL_PVH; format <= VMM_KERNEL_LINUX64; format++) {
        struct vmm_kernel_options o = sound(format);
        for (size_t n = 1; n < TEXT + 0xc00; n += n < 0x300 ? 1 : 61) {
            uint8_t *copy = malloc(n);
            assert_non_null(copy);
            memcpy(copy, image, n);
            o.kernel = buffer_file(copy, n);
            load_fails(m, &o, -ENOEXEC, "");
            free(copy);
        }
    }
    vmm_memory_unref(m);
}

static void boot_structures_are_never_on_the_kernel(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(16 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = sound(VMM_KERNEL_PVH);
    /* A kernel that takes all of conventional memory but the first pages. */
    put_phdr(1, 1, TEXT + 0x800, 0x2000, 0x400, 0x9e000);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_true(b.gdt.base < 0x2000 || b.gdt.base >= 0x100000);
    assert_true(s.info_address < 0x2000 || s.info_address >= 0x100000);
    assert_guest_filled(m, 0x2000 + 0x400, 0x9e000 - 0x400, 0);
    assert_guest_filled(m, 0x200000, 0x800, 0x11);
    vmm_memory_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pvh_gets_its_start_info),
        cmocka_unit_test(linux64_gets_a_zero_page),
        cmocka_unit_test(a_32_bit_elf_file_loads_by_pvh),
        cmocka_unit_test(lying_fields_are_named),
        cmocka_unit_test(every_truncation_fails),
        cmocka_unit_test(boot_structures_are_never_on_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
