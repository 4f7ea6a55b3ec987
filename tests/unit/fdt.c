/* SPDX-License-Identifier: BSD-3-Clause */
/* Device trees: read back by libfdt, and by dtc without a warning where there is one. */
#include "base/util.h"
#include "test.h"

#include <libvmm/fdt.h>

#include <libfdt.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)

static const struct vmm_memory_map_entry map[] = {
    {0, 0xa0000, VMM_MEMORY_MAP_RAM, 0},
    {0xa0000, 0x60000, VMM_MEMORY_MAP_RESERVED, 0},
    {4 * GIB, 5 * GIB, VMM_MEMORY_MAP_RAM, 0},
};

static struct vmm_fdt *begin(void)
{
    struct vmm_fdt *f;
    assert_int_equal(vmm_fdt_new(&f), 0);
    return f;
}

static char *finish(struct vmm_fdt *f, size_t *length)
{
    struct vmm_error err = VMM_ERROR_INIT;
    void *blob;
    if (vmm_fdt_finish(f, &blob, length, &err))
        fail_msg("%s", err.text);
    vmm_fdt_free(f);
    assert_int_equal(fdt_check_full(blob, *length), 0);
    return blob;
}

/* A machine with everything the helpers can write. */
static char *machine(uint32_t cpus, size_t *length)
{
    struct vmm_fdt *f = begin();
    struct vmm_fdt_chosen chosen = VMM_FDT_CHOSEN_INIT;
    struct vmm_fdt_interrupt irq = {.count = 2};
    vmm_fdt_put_root(f, "libvmm,test", "linux,dummy-virt");
    vmm_fdt_add_memory(f, map, VMM_ARRAY_SIZE(map));
    vmm_fdt_add_cpus(f, "arm,armv8", "psci", NULL, cpus);
    chosen.command_line = "console=ttyS0 quiet";
    chosen.stdout_path = "/serial@9000000";
    chosen.initrd_address = 0x48000000;
    chosen.initrd_length = 0x1234;
    chosen.random_seed = "0123456789abcdef";
    chosen.random_seed_length = 16;
    vmm_fdt_add_chosen(f, &chosen);
    irq.parent = vmm_fdt_add_interrupt_controller(f, "test,controller", 0x8000000, 0x1000, 2);
    irq.cells[0] = 5;
    irq.cells[1] = 4;
    vmm_fdt_add_serial(f, 0x9000000, 2, &irq);
    vmm_fdt_add_serial(f, 0x9001000, 0, NULL);
    for (uint32_t i = 0; i < 32; i++) {
        irq.cells[0] = 16 + i;
        vmm_fdt_add_virtio_mmio(f, 0xa000000 + i * 0x200, 0x200, &irq);
    }
    return finish(f, length);
}

static void expect_cells(const char *blob, const char *path, const char *name,
                         const uint32_t *cells, int count)
{
    int length = 0, node = fdt_path_offset(blob, path);
    if (node < 0)
        fail_msg("there is no %s", path);
    const void *value = fdt_getprop(blob, node, name, &length);
    if (!value)
        fail_msg("there is no %s in %s", name, path);
    assert_int_equal(length, count * 4);
    for (int i = 0; i < count; i++) {
        uint32_t cell;
        memcpy(&cell, (const char *)value + 4 * i, 4);
        assert_int_equal(be32toh(cell), cells[i]);
    }
}
#define CELLS(blob, path, name, ...)                                                               \
    do {                                                                                           \
        const uint32_t cells_[] = {__VA_ARGS__};                                                   \
        expect_cells(blob, path, name, cells_, (int)VMM_ARRAY_SIZE(cells_));                       \
    } while (0)

static void expect_text(const char *blob, const char *path, const char *name, const char *text)
{
    int length = 0, node = fdt_path_offset(blob, path);
    assert_true(node >= 0);
    const char *value = fdt_getprop(blob, node, name, &length);
    assert_non_null(value);
    assert_int_equal(length, strlen(text) + 1);
    assert_string_equal(value, text);
}

static void the_usual_nodes_are_there(void **state)
{
    (void)state;
    size_t length;
    char *blob = machine(3, &length);
    CELLS(blob, "/", "#address-cells", 2);
    CELLS(blob, "/memory@0", "reg", 0, 0, 0, 0xa0000);
    CELLS(blob, "/memory@100000000", "reg", 1, 0, 1, 0x40000000);
    assert_true(fdt_path_offset(blob, "/memory@a0000") < 0);
    CELLS(blob, "/cpus/cpu@2", "reg", 2);
    expect_text(blob, "/cpus/cpu@2", "enable-method", "psci");
    assert_true(fdt_path_offset(blob, "/cpus/cpu@3") < 0);
    expect_text(blob, "/chosen", "bootargs", "console=ttyS0 quiet");
    CELLS(blob, "/chosen", "linux,initrd-start", 0, 0x48000000);
    CELLS(blob, "/chosen", "linux,initrd-end", 0, 0x48001234);
    CELLS(blob, "/serial@9000000", "reg", 0, 0x9000000, 0, 32);
    CELLS(blob, "/serial@9000000", "interrupts", 5, 4);
    CELLS(blob, "/serial@9001000", "reg", 0, 0x9001000, 0, 8);
    CELLS(blob, "/virtio_mmio@a003e00", "interrupts", 47, 4);
    CELLS(blob, "/virtio_mmio@a003e00", "interrupt-parent", 1);
    CELLS(blob, "/interrupt-controller@8000000", "phandle", 1);
    free(blob);
}

static void every_kind_of_property(void **state)
{
    (void)state;
    static const char *const list[] = {"a", "bc"};
    static const uint32_t cells[] = {1, 2, 3};
    struct vmm_fdt *f = begin();
    size_t length;
    int n;
    vmm_fdt_put_empty(f, "empty");
    vmm_fdt_put_u32(f, "u32", 0x12345678);
    vmm_fdt_put_u64(f, "u64", 0x123456789abcdef0);
    vmm_fdt_put_cells(f, "cells", cells, 3);
    vmm_fdt_put_strings(f, "list", list, 2);
    vmm_fdt_put_bytes(f, "bytes", "\1\2\3", 3);
    char *blob = finish(f, &length);
    assert_non_null(fdt_getprop(blob, 0, "empty", &n));
    assert_int_equal(n, 0);
    CELLS(blob, "/", "u32", 0x12345678);
    CELLS(blob, "/", "u64", 0x12345678, 0x9abcdef0);
    CELLS(blob, "/", "cells", 1, 2, 3);
    assert_memory_equal(fdt_getprop(blob, 0, "list", &n), "a\0bc", 5);
    assert_int_equal(n, 5);
    assert_memory_equal(fdt_getprop(blob, 0, "bytes", &n), "\1\2\3", 3);
    free(blob);
}

/* The buffer grows while nodes are open. */
static void large_trees_are_sound(void **state)
{
    (void)state;
    size_t length;
    char *blob = machine(4096, &length);
    assert_true(length > 300000);
    CELLS(blob, "/cpus/cpu@fff", "reg", 0xfff);
    CELLS(blob, "/virtio_mmio@a003e00", "reg", 0, 0xa003e00, 0, 0x200);
    free(blob);
}

static void expect_refused(struct vmm_fdt *f, const char *words)
{
    struct vmm_error err = VMM_ERROR_INIT;
    void *blob = NULL;
    size_t length;
    assert_int_equal(vmm_fdt_finish(f, &blob, &length, &err), -EINVAL);
    assert_null(blob);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" has no \"%s\"", err.text, words);
    vmm_fdt_free(f);
}
#define REFUSED(words, ...)                                                                        \
    do {                                                                                           \
        struct vmm_fdt *f = begin();                                                               \
        __VA_ARGS__;                                                                               \
        expect_refused(f, words);                                                                  \
    } while (0)

static void unsound_trees_are_refused(void **state)
{
    (void)state;
    static const char *const bad_nodes[] = {
        "", "@1", "a@", "a b", "a/b", "a@b@c", NULL, "name-of-more-than-thirty-one-chars"};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad_nodes); i++)
        REFUSED("node's name", vmm_fdt_begin(f, bad_nodes[i]), vmm_fdt_end(f));
    static const char *const bad_properties[] = {"", "a b", "a@b", NULL,
                                                 "name-of-more-than-thirty-one-chars"};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad_properties); i++)
        REFUSED("property's name", vmm_fdt_put_empty(f, bad_properties[i]));
    REFUSED("not been ended", vmm_fdt_begin(f, "a"));
    REFUSED("no node is open", vmm_fdt_end(f));
    REFUSED("after a child", vmm_fdt_begin(f, "a"), vmm_fdt_end(f), vmm_fdt_put_u32(f, "x", 1));
    REFUSED("string is missing", vmm_fdt_put_string(f, "x", NULL));
    REFUSED("bytes", vmm_fdt_put_bytes(f, "x", NULL, 1));
    REFUSED("bytes", vmm_fdt_put_bytes(f, "x", "", SIZE_MAX));
    REFUSED("cells", vmm_fdt_put_cells(f, "x", NULL, 1));
    REFUSED("cells", vmm_fdt_put_cells(f, "x", (const uint32_t[]){1}, SIZE_MAX / 2));
    REFUSED("wraps", vmm_fdt_put_reg(f, UINT64_MAX, 2));
    REFUSED("processors", vmm_fdt_add_cpus(f, NULL, NULL, NULL, 0));
    REFUSED("processors", vmm_fdt_add_cpus(f, NULL, NULL, NULL, 4097));
    REFUSED("cells", (void)vmm_fdt_add_interrupt_controller(f, "c", 0, 1, 5));
    REFUSED("serial", vmm_fdt_add_serial(f, 0, 4, NULL));
    REFUSED("of 5 cells", vmm_fdt_add_serial(f, 0, 0, &(struct vmm_fdt_interrupt){1, 5, {0}}));
    REFUSED("inside of a node", vmm_fdt_begin(f, "a"), vmm_fdt_put_root(f, "m", "c"));
    struct vmm_fdt_chosen chosen = VMM_FDT_CHOSEN_INIT;
    chosen.initrd_address = UINT64_MAX - 1;
    chosen.initrd_length = 2;
    REFUSED("initrd", vmm_fdt_add_chosen(f, &chosen));
    struct vmm_fdt *f = begin();
    for (int i = 0; i < 17; i++)
        vmm_fdt_begin(f, "a");
    expect_refused(f, "16 nodes");
    assert_null(vmm_fdt_free(NULL));
}

static void a_finished_builder_is_used_up(void **state)
{
    (void)state;
    struct vmm_fdt *f = begin();
    void *blob;
    size_t length;
    assert_int_equal(vmm_fdt_finish(f, &blob, &length, NULL), 0);
    free(blob);
    vmm_fdt_put_u32(f, "x", 1);
    vmm_fdt_begin(f, "a");
    expect_refused(f, "finished");
}

static void dtc_reads_it_without_a_warning(void **state)
{
    (void)state;
    char path[] = "/tmp/libvmm-fdt-XXXXXX", command[160], output[32768];
    size_t length;
    if (system("command -v dtc >/dev/null"))
        skip(); /* package device-tree-compiler */
    char *blob = machine(3, &length);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, blob, length), length);
    close(fd);
    (void)snprintf(command, sizeof(command), "timeout 20 dtc -I dtb -O dts %s 2>&1", path);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(output, 1, sizeof(output) - 1, p);
    output[n] = '\0';
    assert_int_equal(pclose(p), 0);
    unlink(path);
    free(blob);
    if (strstr(output, "Warning") || strstr(output, "ERROR"))
        fail_msg("%s", output);
    assert_non_null(strstr(output, "interrupts = <0x05 0x04>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_nodes_are_there),
        cmocka_unit_test(every_kind_of_property),
        cmocka_unit_test(large_trees_are_sound),
        cmocka_unit_test(unsound_trees_are_refused),
        cmocka_unit_test(a_finished_builder_is_used_up),
        cmocka_unit_test(dtc_reads_it_without_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
