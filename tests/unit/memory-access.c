/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked access: every way a range can be wrong, ranges across regions, and mappings. */
#include <libvmm/memory.h>

#include "test.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u

static struct vmm_memory *new_memory(void)
{
    struct vmm_memory *memory = NULL;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    return memory;
}

static void ranges_outside_of_memory_are_refused_and_nothing_is_copied(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    assert_int_equal(vmm_memory_add_ram(m, "low", 0x1000, 2 * PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(m, "high", 0x5000, PAGE, NULL, NULL), 0);
    static const struct {
        uint64_t address;
        size_t length;
    } bad[] = {
        {0, 1},         {0xfff, 1},      {0xfff, 2},          {0x2fff, 2},
        {0x3000, 1},    {0x2ffd, 4},     {0x4fff, 2},         {0x5fff, 2},
        {0x6000, 1},    {0x1000, 12288}, {UINT64_MAX, 1},     {UINT64_MAX, 2},
        {0x1000, ~0ul}, {0x5000, ~0ul},  {0x1001, ~0ul - 15}, {UINT64_MAX - 3, 8},
    };
    static uint8_t data[12288], zero[12288];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(data, 0xa5, sizeof(data));
        assert_false(vmm_memory_valid(m, bad[i].address, bad[i].length, false));
        assert_int_equal(vmm_memory_read(m, bad[i].address, data, bad[i].length), -EFAULT);
        assert_int_equal(data[0], 0xa5);
        assert_int_equal(vmm_memory_write(m, bad[i].address, data, bad[i].length), -EFAULT);
        assert_int_equal(vmm_memory_write_rom(m, bad[i].address, data, bad[i].length), -EFAULT);
        assert_int_equal(vmm_memory_fill(m, bad[i].address, 0xa5, bad[i].length), -EFAULT);
        struct vmm_mapping mapping;
        assert_int_equal(vmm_memory_map(m, bad[i].address, bad[i].length, VMM_MAP_READ, &mapping),
                         -EFAULT);
    }
    assert_int_equal(vmm_memory_read(m, 0x1000, data, 2 * PAGE), 0);
    assert_memory_equal(data, zero, 2 * PAGE);
    vmm_memory_unref(m);
}

static void zero_length_is_fine_anywhere_but_cannot_be_mapped(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_mapping mapping;
    assert_int_equal(vmm_memory_read(m, 77, NULL, 0), 0);
    assert_int_equal(vmm_memory_write(m, UINT64_MAX, NULL, 0), 0);
    assert_int_equal(vmm_memory_fill(m, UINT64_MAX, 1, 0), 0);
    assert_true(vmm_memory_valid(m, 5, 0, true));
    assert_int_equal(vmm_memory_map(m, 0, 0, VMM_MAP_READ, &mapping), -EFAULT);
    assert_int_equal(vmm_memory_map(m, 0, 1, 0, &mapping), -EINVAL);
    assert_int_equal(vmm_memory_map(m, 0, 1, 4, &mapping), -EINVAL);
    vmm_memory_unref(m);
}

static void a_range_may_cross_regions_but_a_mapping_may_not(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    uint8_t pattern[64], back[64];
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(vmm_memory_add_ram(m, "a", 0, PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(m, "b", PAGE, PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_write(m, PAGE - 20, pattern, sizeof(pattern)), 0);
    assert_int_equal(vmm_memory_read(m, PAGE - 20, back, sizeof(back)), 0);
    assert_memory_equal(pattern, back, sizeof(back));
    struct vmm_mapping mapping;
    assert_int_equal(vmm_memory_map(m, PAGE - 20, 40, VMM_MAP_WRITE, &mapping), -EFAULT);
    assert_int_equal(vmm_memory_map(m, PAGE, 44, VMM_MAP_READ, &mapping), 0);
    assert_memory_equal(mapping.data, pattern + 20, 44);
    vmm_memory_unmap(m, &mapping);
    assert_null(mapping.token);
    vmm_memory_unmap(m, &mapping);
    assert_int_equal(vmm_memory_fill(m, PAGE - 2, 0x11, 4), 0);
    assert_int_equal(vmm_memory_read(m, PAGE - 3, back, 6), 0);
    assert_memory_equal(back, ((uint8_t[]){pattern[17], 0x11, 0x11, 0x11, 0x11, pattern[22]}), 6);
    vmm_memory_unref(m);
}

static void the_last_byte_of_the_address_space_is_memory_like_any_other(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    uint64_t top = UINT64_MAX - PAGE + 1;
    uint32_t value = 0x12345678, back = 0;
    assert_int_equal(vmm_memory_add_ram(m, "top", top, PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_write(m, UINT64_MAX - 3, &value, 4), 0);
    assert_int_equal(vmm_memory_read(m, UINT64_MAX - 3, &back, 4), 0);
    assert_int_equal(back, value);
    assert_int_equal(vmm_memory_read(m, UINT64_MAX - 2, &back, 4), -EFAULT);
    vmm_memory_unref(m);
}

static void a_mapping_outlives_its_region(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *region;
    struct vmm_mapping mapping;
    assert_int_equal(vmm_memory_add_ram(m, "ram", 0, PAGE, &region, NULL), 0);
    assert_int_equal(vmm_memory_map(m, 0, PAGE, VMM_MAP_WRITE, &mapping), 0);
    assert_int_equal(vmm_memory_remove(m, region, NULL), 0);
    vmm_memory_region_unref(region);
    memset(mapping.data, 0x77, PAGE);
    assert_false(vmm_memory_valid(m, 0, 1, false));
    vmm_memory_unmap(m, &mapping);
    vmm_memory_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_outside_of_memory_are_refused_and_nothing_is_copied),
        cmocka_unit_test(zero_length_is_fine_anywhere_but_cannot_be_mapped),
        cmocka_unit_test(a_range_may_cross_regions_but_a_mapping_may_not),
        cmocka_unit_test(the_last_byte_of_the_address_space_is_memory_like_any_other),
        cmocka_unit_test(a_mapping_outlives_its_region),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
