/* SPDX-License-Identifier: BSD-3-Clause */
/* Kernels that others built: every file vmlinuz* in the directory $LIBVMM_KERNELS, as bzImage by both
 * entries and unpacked. */
#include "loader.h"

#include <glob.h>

static glob_t kernels;

static struct vmm_kernel_options options_for(const char *path, uint32_t format, uint32_t unpack)
{
    static uint8_t initrd[3 * 4096 + 17] = "initrd";
    struct vmm_kernel_options o = VMM_KERNEL_OPTIONS_INIT;
    o.kernel.path = path;
    o.format = format;
    o.unpack = unpack;
    o.initrd = buffer_file(initrd, sizeof(initrd));
    o.command_line = "console=ttyS0";
    return o;
}

static void check_linux(struct vmm_memory *m, const struct vmm_boot_state *s,
                        const struct vmm_x86_boot *b)
{
    uint64_t zp = b->regs.rsi;
    assert_int_equal(zp, s->info_address);
    assert_int_equal(guest16(m, zp + 0x1fe), 0xaa55);
    assert_int_equal(guest32(m, zp + 0x202), 0x53726448);
    assert_true(guest16(m, zp + 0x206) >= 0x20c);
    assert_int_equal(guest8(m, zp + 0x210), 0xff);
    assert_guest_text(m, guest32(m, zp + 0x228), "console=ttyS0");
    assert_guest_text(m, guest32(m, zp + 0x218), "initrd");
    assert_int_equal(guest32(m, zp + 0x21c), 3 * 4096 + 17);
    /* As high as its header allows and RAM reaches. */
    assert_int_equal(guest32(m, zp + 0x218), 512 * MIB - 4 * 4096);
    assert_int_equal(guest8(m, zp + 0x1e8), 3);
    assert_int_equal(b->regs.rip, s->entry);
    assert_true(s->entry >= s->kernel_address);
    assert_true(s->entry - s->kernel_address < s->kernel_length);
}

static void bzimages_load_by_both_entries(void **state)
{
    (void)state;
    for (size_t i = 0; i < kernels.gl_pathc; i++)
        for (uint32_t format = VMM_KERNEL_AUTO; format <= VMM_KERNEL_BZIMAGE64; format++) {
            struct vmm_memory *m = ram_new(512 * MIB);
            struct vmm_boot_state s;
            struct vmm_kernel_options o = options_for(kernels.gl_pathv[i], format, 0);
            struct vmm_x86_boot b = load_ok(m, &o, &s);
            bool is32 = format == VMM_KERNEL_BZIMAGE32;
            assert_int_equal(s.format, is32 ? VMM_KERNEL_BZIMAGE32 : VMM_KERNEL_BZIMAGE64);
            assert_int_equal(b.mode, is32 ? VMM_X86_BOOT_PROTECTED : VMM_X86_BOOT_LONG);
            check_linux(m, &s, &b);
            vmm_memory_unref(m);
        }
}

static void their_payloads_unpack_into_elf_kernels(void **state)
{
    (void)state;
    static const uint32_t formats[] = {VMM_KERNEL_AUTO, VMM_KERNEL_BZIMAGE, VMM_KERNEL_BZIMAGE64,
                                       VMM_KERNEL_LINUX64, VMM_KERNEL_PVH};
    for (size_t i = 0; i < kernels.gl_pathc; i++)
        for (size_t f = 0; f < VMM_ARRAY_SIZE(formats); f++) {
            struct vmm_memory *m = ram_new(512 * MIB);
            struct vmm_boot_state s;
            struct vmm_kernel_options o = options_for(kernels.gl_pathv[i], formats[f], 1);
            struct vmm_x86_boot b = load_ok(m, &o, &s);
            if (formats[f] == VMM_KERNEL_PVH) {
                assert_int_equal(b.mode, VMM_X86_BOOT_PROTECTED);
                assert_int_equal(guest32(m, b.regs.rbx), 0x336ec578);
            } else {
                assert_int_equal(s.format, VMM_KERNEL_LINUX64);
                check_linux(m, &s, &b);
            }
            vmm_memory_unref(m);
        }
}

static void too_little_memory_is_said_so(void **state)
{
    (void)state;
    struct vmm_memory *m = ram_new(32 * MIB);
    struct vmm_kernel_options o = options_for(kernels.gl_pathv[0], VMM_KERNEL_BZIMAGE, 0);
    load_fails(m, &o, -ENOMEM, "init_size");
    o.unpack = 1;
    load_fails(m, &o, -ENOMEM, "ELF segment");
    o.unpack = 0;
    o.format = VMM_KERNEL_PVH;
    load_fails(m, &o, -ENOEXEC, "let it be unpacked");
    vmm_memory_unref(m);
}

int main(void)
{
    const char *directory = getenv("LIBVMM_KERNELS");
    if (!directory)
        TEST_SKIP("LIBVMM_KERNELS is not set to a directory with vmlinuz files");
    char pattern[4096];
    snprintf(pattern, sizeof(pattern), "%s/vmlinuz*", directory);
    if (glob(pattern, 0, NULL, &kernels) != 0)
        TEST_SKIP("there is no %s", pattern);
    if (!vmm_kernel_can_unpack("lz4"))
        TEST_SKIP("built without liblz4, which Debian's kernels need");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bzimages_load_by_both_entries),
        cmocka_unit_test(their_payloads_unpack_into_elf_kernels),
        cmocka_unit_test(too_little_memory_is_said_so),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    globfree(&kernels);
    return failed;
}
