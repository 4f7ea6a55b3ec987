/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory maps: against a model that looks at each address, and at the ends of the address space. */
#include "base/util.h"
#include "test.h"

#include <libvmm/memmap.h>

#define RAM      VMM_MEMORY_MAP_RAM
#define RESERVED VMM_MEMORY_MAP_RESERVED
#define GIB      (UINT64_C(1) << 30)

static void expect_map(const struct vmm_memory_map_entry *got, int count,
                       const struct vmm_memory_map_entry *want, int want_count)
{
    assert_int_equal(count, want_count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(got[i].address, want[i].address);
        assert_int_equal(got[i].length, want[i].length);
        assert_int_equal(got[i].type, want[i].type);
        assert_int_equal(got[i].reserved, 0);
    }
}

static void a_pc_is_cut_and_joined(void **state)
{
    (void)state;
    struct vmm_memory_map_entry map[16] = {
        {4 * GIB, GIB, RAM, 0},   {0xe0000, 0x20000, RESERVED, 0},
        {0, 2 * GIB, RAM, 0},     {0x9fc00, 0x400, RESERVED, 0},
        {2 * GIB, GIB, RAM, 0},   {0xa0000, 0x20000, RESERVED, 0},
        {0x8000, 0, RESERVED, 0}, {3 * GIB - 0x10000, 0x10000, VMM_MEMORY_MAP_ACPI, 0},
    };
    static const struct vmm_memory_map_entry want[] = {
        {0, 0x9fc00, RAM, 0},
        {0x9fc00, 0x20400, RESERVED, 0},
        {0xc0000, 0x20000, RAM, 0},
        {0xe0000, 0x20000, RESERVED, 0},
        {0x100000, 3 * GIB - 0x110000, RAM, 0},
        {3 * GIB - 0x10000, 0x10000, VMM_MEMORY_MAP_ACPI, 0},
        {4 * GIB, GIB, RAM, 0},
    };
    int n = vmm_memory_map_build(map, 8, map, 16, NULL); /* in place */
    expect_map(map, n, want, (int)VMM_ARRAY_SIZE(want));
}

static void the_end_of_the_address_space(void **state)
{
    (void)state;
    static const struct vmm_memory_map_entry pieces[] = {{UINT64_MAX - 0xfff, 0x1000, RESERVED, 0},
                                                         {UINT64_MAX - 0x1fff, 0x2000, RAM, 0}};
    static const struct vmm_memory_map_entry want[] = {{UINT64_MAX - 0x1fff, 0x1000, RAM, 0},
                                                       {UINT64_MAX - 0xfff, 0x1000, RESERVED, 0}};
    struct vmm_memory_map_entry map[4];
    int n = vmm_memory_map_build(pieces, 2, map, 4, NULL);
    expect_map(map, n, want, 2);
    assert_int_equal(vmm_memory_map_build(NULL, 0, map, 0, NULL), 0);
}

/* What the guest may do least counts. */
static uint32_t model_at(const struct vmm_memory_map_entry *pieces, size_t count, uint64_t address)
{
    static const uint32_t order[] = {5, 2, 12, 4, 3, 7, 1};
    for (size_t k = 0; k < VMM_ARRAY_SIZE(order); k++)
        for (size_t i = 0; i < count; i++)
            if (pieces[i].type == order[k] && address >= pieces[i].address &&
                address - pieces[i].address < pieces[i].length)
                return order[k];
    return 0;
}

static void any_pieces_agree_with_the_model(void **state)
{
    (void)state;
    static const uint32_t types[] = {1, 2, 3, 4, 5, 7, 12};
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        struct vmm_memory_map_entry pieces[12], map[64];
        size_t count = (size_t)(round % 12) + 1;
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1664525 + 1013904223;
            pieces[i] = (struct vmm_memory_map_entry){seed >> 8 & 63, seed >> 16 & 31,
                                                      types[(seed >> 24) % 7], 0};
        }
        int n = vmm_memory_map_build(pieces, count, map, 64, NULL);
        assert_true(n >= 0);
        int at = 0;
        for (uint64_t address = 0; address < 100; address++) {
            while (at < n && address >= map[at].address + map[at].length)
                at++;
            uint32_t type = at < n && address >= map[at].address ? map[at].type : 0;
            assert_int_equal(type, model_at(pieces, count, address));
        }
        for (int i = 1; i < n; i++) { /* rising, and joined */
            assert_true(map[i - 1].address + map[i - 1].length <= map[i].address);
            assert_false(map[i - 1].address + map[i - 1].length == map[i].address &&
                         map[i - 1].type == map[i].type);
        }
    }
}

static void the_ram_of_a_memory(void **state)
{
    (void)state;
    struct vmm_memory *memory;
    struct vmm_memory_map_entry map[8];
    static const struct vmm_memory_map_entry hole = {0xa0000, 0x60000, RESERVED, 0};
    static const struct vmm_memory_map_entry want[] = {
        {0, 0xa0000, RAM, 0}, {0xa0000, 0x60000, RESERVED, 0}, {4 * GIB, 0x200000, RAM, 0}};
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "low", 0, 0xb0000, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "high", 4 * GIB, 0x100000, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "more", 4 * GIB + 0x100000, 0x100000, NULL, NULL),
                     0);
    int n = vmm_memory_map_of(memory, &hole, 1, map, 8, NULL);
    expect_map(map, n, want, 3);
    assert_int_equal(vmm_memory_map_of(memory, &hole, 1, map, 2, NULL), -ENOSPC);
    vmm_memory_unref(memory);
}

static void bad_pieces_are_refused(void **state)
{
    (void)state;
    struct vmm_error err = VMM_ERROR_INIT;
    static const struct vmm_memory_map_entry wraps = {UINT64_MAX, 2, RAM, 0};
    struct vmm_memory_map_entry map[2] = {{0, 1, RAM, 0}, {2, 1, RAM, 0}};
    assert_int_equal(vmm_memory_map_build(&wraps, 1, map, 2, &err), -EINVAL);
    assert_non_null(strstr(err.text, "wraps"));
    assert_int_equal(vmm_memory_map_build(NULL, 1, map, 2, &err), -EINVAL);
    assert_int_equal(vmm_memory_map_build(map, 1025, map, 2, &err), -EINVAL);
    assert_int_equal(vmm_memory_map_build(map, 2, map, 1, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "1 entries"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pc_is_cut_and_joined),
        cmocka_unit_test(the_end_of_the_address_space),
        cmocka_unit_test(any_pieces_agree_with_the_model),
        cmocka_unit_test(the_ram_of_a_memory),
        cmocka_unit_test(bad_pieces_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
