/* SPDX-License-Identifier: BSD-3-Clause */
/* arm64 Images: where everything goes (Documentation/arm64/booting.rst), and what is refused. */
#include "base/util.h"
#include "test.h"

#include <libvmm/fdt.h>

#include <libfdt.h>
#include <zlib.h>

#define MIB  UINT64_C(0x100000)
#define RAM  UINT64_C(0x40000000)
#define SIZE (64 * MIB)

struct image {
    uint8_t data[0x3000];
};

struct fixture {
    struct vmm_memory *memory;
    struct vmm_kernel_options o;
    struct vmm_boot_state state;
    struct image image;
    struct vmm_memory_map_entry map;
    void *tree;
};

static struct image image_of(uint64_t text_offset, uint64_t size)
{
    struct image i;
    memset(&i, 0x5a, sizeof(i));
    memset(i.data, 0, 64);
    vmm_store_le64(i.data + 8, text_offset);
    vmm_store_le64(i.data + 16, size);
    memcpy(i.data + 56, "ARM\x64", 4);
    return i;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_fdt *fdt;
    size_t length;
    *state = f;
    assert_int_equal(vmm_memory_new(NULL, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", RAM, SIZE, NULL, NULL), 0);
    assert_int_equal(vmm_fdt_new(&fdt), 0);
    vmm_fdt_put_root(fdt, "a model", "a,board");
    assert_int_equal(vmm_fdt_finish(fdt, &f->tree, &length, NULL), 0);
    vmm_fdt_free(fdt);
    f->image = image_of(0, 8 * MIB);
    f->o = (struct vmm_kernel_options)VMM_KERNEL_OPTIONS_INIT;
    f->state = (struct vmm_boot_state)VMM_BOOT_STATE_INIT;
    f->o.kernel.data = f->image.data;
    f->o.kernel.data_length = sizeof(f->image.data);
    f->o.device_tree = f->tree;
    f->o.device_tree_length = length;
    f->o.command_line = "console=ttyAMA0";
    f->map = (struct vmm_memory_map_entry){RAM, SIZE, VMM_MEMORY_MAP_RAM, 0};
    f->o.memory_map = &f->map;
    f->o.memory_map_count = 1;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_memory_unref(f->memory);
    free(f->tree);
    free(f);
    return 0;
}

static void load_ok(struct fixture *f)
{
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = vmm_kernel_load(f->memory, &f->o, &f->state, &err);
    if (rc)
        fail_msg("%d: %s", rc, err.text);
}

static void load_fails(struct fixture *f, int code, const char *words)
{
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = vmm_kernel_load(f->memory, &f->o, &f->state, &err);
    if (rc != code || !strstr(err.text, words))
        fail_msg("got %d \"%s\", not %d and \"%s\"", rc, err.text, code, words);
}

static void everything_has_its_place(void **state)
{
    struct fixture *f = *state;
    static const uint8_t initrd[5000] = {1, 2, 3}, seed[32] = {9};
    uint8_t back[sizeof(initrd)], tree[4096];
    int length;
    f->image = image_of(0x80000, 8 * MIB);
    f->o.initrd.data = initrd;
    f->o.initrd.data_length = sizeof(initrd);
    f->o.random_seed = seed;
    f->o.random_seed_length = sizeof(seed);
    load_ok(f);
    assert_int_equal(f->state.format, VMM_KERNEL_IMAGE);
    assert_int_equal(f->state.entry, RAM + 0x80000);
    assert_int_equal(f->state.kernel_length, 8 * MIB);
    assert_true(f->state.initrd_address >= f->state.entry + 8 * MIB);
    assert_int_equal(vmm_memory_read(f->memory, f->state.initrd_address, back, sizeof(back)), 0);
    assert_memory_equal(back, initrd, sizeof(back));
    assert_int_equal(f->state.info_address % 8, 0);
    assert_int_equal(f->state.registers[0], f->state.info_address);
    assert_int_equal(vmm_memory_read(f->memory, f->state.info_address, tree, sizeof(tree)), 0);
    int chosen = fdt_path_offset(tree, "/chosen");
    assert_true(chosen > 0);
    assert_string_equal(fdt_getprop(tree, chosen, "bootargs", &length), "console=ttyAMA0");
    const void *start = fdt_getprop(tree, chosen, "linux,initrd-start", &length);
    assert_int_equal(length, 8);
    assert_int_equal(fdt64_ld(start), f->state.initrd_address);
    start = fdt_getprop(tree, chosen, "linux,initrd-end", &length);
    assert_int_equal(fdt64_ld(start), f->state.initrd_address + sizeof(initrd));
    assert_memory_equal(fdt_getprop(tree, chosen, "rng-seed", &length), seed, sizeof(seed));
}

static void old_kernels_say_no_size(void **state)
{
    struct fixture *f = *state;
    f->image = image_of(0x1234, 0); /* the field meant nothing then */
    load_ok(f);
    assert_int_equal(f->state.entry, RAM + 0x80000);
    assert_int_equal(f->state.kernel_length, sizeof(f->image.data));
}

static void packed_kernels_are_unpacked(void **state)
{
    struct fixture *f = *state;
    uint8_t packed[0x4000] = {0}, byte;
    uint32_t random = 1;
    z_stream z = {0};
    for (size_t i = 64; i < sizeof(f->image.data) - 1;
         i++) /* like code, which is not packed away to nothing */
        f->image.data[i] = (uint8_t)((random = random * 1103515245 + 12345) >> 24);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = f->image.data;
    z.avail_in = sizeof(f->image.data);
    z.next_out = packed + 64;
    z.avail_out = sizeof(packed) - 64;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t length = z.total_out;
    deflateEnd(&z);
    f->o.kernel.data = packed + 64;
    f->o.kernel.data_length = length;
    load_ok(f);
    assert_int_equal(vmm_memory_read(f->memory, f->state.entry + 0x2fff, &byte, 1), 0);
    assert_int_equal(byte, 0x5a);
    memcpy(packed, "MZ\0\0zimg", 8); /* EFI zboot: where the payload is, and how long */
    vmm_store_le32(packed + 8, 64);
    vmm_store_le32(packed + 12, (uint32_t)length);
    f->o.kernel.data = packed;
    f->o.kernel.data_length = 64 + length;
    load_ok(f);
    vmm_store_le32(packed + 12, UINT32_MAX);
    load_fails(f, -ENOEXEC, "payload_length");
    vmm_store_le32(packed + 8, 0xfffffff0);
    vmm_store_le32(packed + 12, 100);
    load_fails(f, -ENOEXEC, "payload");
}

static void wrong_images_are_refused(void **state)
{
    struct fixture *f = *state;
    f->image.data[56] = 'X';
    load_fails(f, -ENOEXEC, "no arm64 Image");
    f->o.kernel.data_length = 10;
    load_fails(f, -ENOEXEC, "no arm64 Image");
    f->o.kernel.data_length = sizeof(f->image.data);
    f->image = image_of(2 * MIB, 8 * MIB);
    load_fails(f, -ENOEXEC, "text_offset");
    f->image = image_of(0x80001, 8 * MIB);
    load_fails(f, -ENOEXEC, "text_offset");
    f->image = image_of(0, UINT64_MAX);
    load_fails(f, -ENOEXEC, "image_size");
    f->image = image_of(0, SIZE + 1);
    load_fails(f, -ENOMEM, "kernel");
    f->image = image_of(0, 8 * MIB);
    f->image.data[24] = 1;
    load_fails(f, -ENOTSUP, "big-endian");
    f->image.data[24] = 0;
    f->o.format = VMM_KERNEL_BZIMAGE;
    load_fails(f, -ENOTSUP, "not of arm64");
}

static void wrong_options_are_refused(void **state)
{
    struct fixture *f = *state;
    f->o.load_address = RAM;
    load_fails(f, -EINVAL, "load address");
    f->o.load_address = 0;
    f->o.device_tree = NULL;
    load_fails(f, -EINVAL, "device tree");
    f->o.device_tree = f->tree;
    memset((char *)f->tree + fdt_off_dt_struct(f->tree), 0xff, 4); /* no node begins there */
    load_fails(f, -EINVAL, "device tree");
}

static void flat_binaries_begin_where_ram_does(void **state)
{
    struct fixture *f = *state;
    f->o.format = VMM_KERNEL_FLAT64;
    load_fails(f, -EINVAL, "command line");
    f->o.command_line = NULL;
    load_ok(f);
    assert_int_equal(f->state.entry, RAM);
    f->o.load_address = RAM + SIZE - 1;
    load_fails(f, -ENOMEM, "flat binary");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(everything_has_its_place),    TEST(old_kernels_say_no_size),
        TEST(packed_kernels_are_unpacked), TEST(wrong_images_are_refused),
        TEST(wrong_options_are_refused),   TEST(flat_binaries_begin_where_ram_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
