/* SPDX-License-Identifier: BSD-3-Clause */
/* Flat binaries, the options that every format shares, and where files come from. */
#include "loader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t code[] = {0xb0, 0x41, 0xe6, 0xe9, 0xf4};

static void flat16_starts_in_real_mode_at_its_address(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT16);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(b.mode, VMM_X86_BOOT_REAL);
    assert_int_equal(b.regs.rip, 0x1000);
    assert_int_equal(b.cs.base, 0);
    assert_int_equal(b.cs.selector, 0);
    assert_int_equal(b.cr0 & 1, 0);
    assert_int_equal(b.regs.rsp, 0xfff0);
    assert_int_equal(b.data.limit, 0xffff);
    assert_int_equal(guest8(m, 0x1000), 0xb0);
    assert_int_equal(s.entry, 0x1000);
    assert_int_equal(s.kernel_length, sizeof(code));

    o.load_address = 0x23450;
    b = load_ok(m, &o, &s);
    assert_int_equal(b.cs.selector, 0x2000);
    assert_int_equal(b.cs.base, 0x20000);
    assert_int_equal(b.data.selector, 0x2000);
    assert_int_equal(b.regs.rip, 0x3450);
    assert_int_equal(guest8(m, 0x23450), 0xb0);

    /* No room above it in its segment: the stack grows down from its start. */
    static uint8_t big[0xf000];
    o = kernel_in(big, sizeof(big), VMM_KERNEL_FLAT16);
    b = load_ok(m, &o, &s);
    assert_int_equal(b.regs.rsp, 0x1000);

    o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT16);
    o.load_address = 0x100000;
    load_fails(m, &o, -EINVAL, "load address");
    vmm_memory_unref(m);
}

static void flat32_starts_in_flat_protected_mode(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT32);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(b.mode, VMM_X86_BOOT_PROTECTED);
    assert_int_equal(b.cr0, 0x11);
    assert_int_equal(b.cr4 | b.efer | b.cr3, 0);
    assert_int_equal(b.regs.rip, 0x1000);
    assert_int_equal(b.cs.db, 1);
    assert_int_equal(b.cs.limit, 0xffffffff);
    assert_int_equal(b.regs.rsp % 16, 0);
    /* The descriptors in memory say the same as the hidden parts. */
    assert_int_equal(b.gdt.limit, 0x2f);
    assert_int_equal(guest64(m, b.gdt.base), 0);
    assert_int_equal(guest64(m, b.gdt.base + b.cs.selector), 0x00cf9b000000ffff);
    assert_int_equal(guest64(m, b.gdt.base + b.data.selector), 0x00cf93000000ffff);
    assert_int_equal(guest64(m, b.gdt.base + b.tr.selector), 0x00008b0000000067);
    vmm_memory_unref(m);
}

static uint64_t translate(struct vmm_memory *m, uint64_t cr3, uint64_t address)
{
    uint64_t entry = guest64(m, cr3 + ((address >> 39) & 511) * 8);
    assert_int_equal(entry & 0x83, 3);
    entry = guest64(m, (entry & ~0xfffull) + ((address >> 30) & 511) * 8);
    assert_int_equal(entry & 0x83, 3);
    entry = guest64(m, (entry & ~0xfffull) + ((address >> 21) & 511) * 8);
    assert_int_equal(entry & 0x83, 0x83);
    return (entry & ~0x1fffffull) + (address & 0x1fffff);
}

static void flat64_starts_in_long_mode_with_4_gib_mapped(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT64);
    struct vmm_x86_boot b = load_ok(m, &o, &s);
    assert_int_equal(b.mode, VMM_X86_BOOT_LONG);
    assert_int_equal(b.cr0, 0x80000011);
    assert_int_equal(b.cr4, 0x20);
    assert_int_equal(b.efer, 0x500);
    assert_int_equal(b.cs.l, 1);
    assert_int_equal(b.cs.db, 0);
    assert_int_equal(guest64(m, b.gdt.base + b.cs.selector), 0x00af9b000000ffff);
    static const uint64_t addresses[] = {0,          0x1000,     0x1fffff,  0x200000,
                                         0x40000000, 0xfee00123, 0xffffffff};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(addresses); i++)
        assert_int_equal(translate(m, b.cr3, addresses[i]), addresses[i]);
    assert_int_equal(guest64(m, b.cr3 + 8), 0);
    vmm_memory_unref(m);
}

static void a_small_memory_is_enough_and_a_full_one_is_said_so(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(64 << 10);
    struct vmm_boot_state s;
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT64);
    load_ok(m, &o, &s);
    static uint8_t big[48 << 10];
    o = kernel_in(big, sizeof(big), VMM_KERNEL_FLAT64);
    load_fails(m, &o, -ENOMEM, "page tables");
    o.load_address = 0x8000;
    load_fails(m, &o, -ENOMEM, "flat binary");
    o.load_address = 0xffffffff;
    load_fails(m, &o, -ENOMEM, "flat binary");
    o.load_address = 1ull << 32;
    load_fails(m, &o, -EINVAL, "load address");
    o.load_address = UINT64_MAX;
    load_fails(m, &o, -EINVAL, "load address");
    vmm_memory_unref(m);
}

static void what_a_flat_binary_cannot_take_is_refused(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT64);
    o.command_line = "x";
    load_fails(m, &o, -EINVAL, "command line");
    o.command_line = "";
    o.initrd = buffer_file(code, sizeof(code));
    load_fails(m, &o, -EINVAL, "initrd");
    o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT64);
    o.unpack = 1;
    load_fails(m, &o, -EINVAL, "unpack");
    vmm_memory_unref(m);
}

static void the_memory_map_decides_what_is_free(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(4 * MIB);
    struct vmm_boot_state s;
    struct vmm_memory_map_entry map[] = {
        {0, 4 * MIB, VMM_MEMORY_MAP_RAM, 0},
        {0x1002, 1, VMM_MEMORY_MAP_RESERVED, 0},
    };
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT32);
    o.memory_map = map;
    o.memory_map_count = 2;
    load_fails(m, &o, -ENOMEM, "flat binary");
    map[1].address = 0x1005;
    load_ok(m, &o, &s);
    map[1].address = 0xfff;
    load_ok(m, &o, &s);
    /* The map promises more than there is. */
    map[0].length = 64 * MIB;
    o.load_address = 32 * MIB;
    load_fails(m, &o, -ENOMEM, "the VM has none");
    map[0].length = 0;
    load_fails(m, &o, -EINVAL, "memory map: entry 0");
    map[0].length = UINT64_MAX;
    map[0].address = 2;
    load_fails(m, &o, -EINVAL, "memory map: entry 0");
    o.memory_map = NULL;
    load_fails(m, &o, -EINVAL, "memory map");
    o.memory_map = map;
    o.memory_map_count = 1025;
    load_fails(m, &o, -E2BIG, "memory map");
    vmm_memory_unref(m);

    assert_int_equal(vmm_memory_new(NULL, &m, NULL), 0);
    o = kernel_in(code, sizeof(code), VMM_KERNEL_FLAT32);
    load_fails(m, &o, -ENOMEM, "no RAM at address 0");
    vmm_memory_unref(m);
}

static void files_come_by_path_buffer_or_descriptor(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_boot_state s;
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, code, sizeof(code)), sizeof(code));
    struct vmm_kernel_options o = VMM_KERNEL_OPTIONS_INIT;
    o.format = VMM_KERNEL_FLAT32;
    load_fails(m, &o, -EINVAL, "no file");
    o.kernel.fd = fd;
    load_ok(m, &o, &s);
    assert_int_equal(guest8(m, 0x1004), 0xf4);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), sizeof(code)); /* the position was not used */

    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    o.kernel = (struct vmm_file)VMM_FILE_INIT;
    o.kernel.path = path;
    load_ok(m, &o, &s);
    assert_int_equal(ftruncate(fd, 0), 0);
    load_fails(m, &o, -ENOEXEC, "empty");
    close(fd);
    o.kernel.path = "/nonexistent/kernel";
    load_fails(m, &o, -ENOENT, "/nonexistent/kernel");
    o.kernel.path = "/dev/null";
    load_fails(m, &o, -EINVAL, "not a regular file");
    o.kernel.path = "/";
    load_fails(m, &o, -EINVAL, "not a regular file");
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    o.kernel = (struct vmm_file)VMM_FILE_INIT;
    o.kernel.fd = pipes[0];
    load_fails(m, &o, -EINVAL, "not a regular file");
    close(pipes[0]);
    close(pipes[1]);
    load_fails(m, &o, -EBADF, "descriptor");
    vmm_memory_unref(m);
}

static void a_range_over_two_backings_is_loaded_too(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(0x3000);
    assert_int_equal(vmm_memory_add_ram(m, "more", 0x3000, 1 * MIB, NULL, NULL), 0);
    static uint8_t data[0x30000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    struct vmm_boot_state s;
    struct vmm_kernel_options o = kernel_in(data, sizeof(data), VMM_KERNEL_FLAT32);
    load_ok(m, &o, &s);
    for (size_t i = 0; i < sizeof(data); i += 61)
        assert_int_equal(guest8(m, 0x1000 + i), data[i]);
    vmm_memory_unref(m);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(2 * MIB);
    struct vmm_boot_state s = VMM_BOOT_STATE_INIT;
    struct vmm_kernel_options o = kernel_in(code, sizeof(code), VMM_KERNEL_IMAGE + 1);
    load_fails(m, &o, -EINVAL, "format");
    o.format = VMM_KERNEL_IMAGE;
    load_fails(m, &o, -ENOTSUP, "not of x86");
    o.format = VMM_KERNEL_AUTO;
    load_fails(m, &o, -ENOEXEC, "neither a bzImage nor ELF nor Multiboot");
    o.format = VMM_KERNEL_FLAT32;
    assert_int_equal(vmm_kernel_load(NULL, &o, &s, NULL), -EINVAL);
    assert_int_equal(vmm_kernel_load(m, NULL, &s, NULL), -EINVAL);
    assert_int_equal(vmm_kernel_load(m, &o, NULL, NULL), -EINVAL);
    struct {
        struct vmm_kernel_options o;
        uint64_t more;
    } newer = {o, 0};
    newer.o.size = sizeof(newer);
    assert_int_equal(vmm_kernel_load(m, &newer.o, &s, NULL), 0);
    newer.more = 1;
    assert_int_equal(vmm_kernel_load(m, &newer.o, &s, NULL), -E2BIG);
    s.size = 0;
    assert_int_equal(vmm_kernel_load(m, &o, &s, NULL), -EINVAL);

    struct vmm_x86_boot b;
    s = (struct vmm_boot_state)VMM_BOOT_STATE_INIT;
    assert_int_equal(vmm_x86_boot_get(&s, &b), -EINVAL);
    assert_int_equal(vmm_x86_boot_get(NULL, &b), -EINVAL);
    assert_int_equal(vmm_x86_boot_apply(NULL, &s), -EINVAL);
    o.module_count = 257;
    load_fails(m, &o, -E2BIG, "modules");
    o.module_count = 1;
    load_fails(m, &o, -EINVAL, "modules");
    o.module_count = 0;
    o.random_seed = code;
    load_fails(m, &o, -EINVAL, "random seed");
    o.random_seed_length = 4097;
    load_fails(m, &o, -E2BIG, "random seed");
    o.random_seed_length = 0;
    o.random_seed = NULL;
    o.device_tree = code;
    o.device_tree_length = sizeof(code);
    load_fails(m, &o, -EINVAL, "device tree");
    static uint8_t tree[64] = {0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 65};
    o.device_tree = tree;
    o.device_tree_length = sizeof(tree);
    load_fails(m, &o, -EINVAL, "totalsize");
    vmm_memory_unref(m);
}

static void formats_have_names(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= VMM_KERNEL_IMAGE; i++) {
        uint32_t format = 99;
        assert_int_equal(vmm_kernel_format_by_name(vmm_kernel_format_name(i), &format), 0);
        assert_int_equal(format, i);
    }
    uint32_t format;
    assert_string_equal(vmm_kernel_format_name(11), "unknown");
    assert_int_equal(vmm_kernel_format_by_name("unknown", &format), -ENOENT);
    assert_int_equal(vmm_kernel_format_by_name(NULL, &format), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat16_starts_in_real_mode_at_its_address),
        cmocka_unit_test(flat32_starts_in_flat_protected_mode),
        cmocka_unit_test(flat64_starts_in_long_mode_with_4_gib_mapped),
        cmocka_unit_test(a_small_memory_is_enough_and_a_full_one_is_said_so),
        cmocka_unit_test(what_a_flat_binary_cannot_take_is_refused),
        cmocka_unit_test(the_memory_map_decides_what_is_free),
        cmocka_unit_test(files_come_by_path_buffer_or_descriptor),
        cmocka_unit_test(a_range_over_two_backings_is_loaded_too),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
