/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked access: every way a range can be wrong, ranges across regions, and mappings. */
#include <libvmm/memory.h>

#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

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

static void integers_are_little_endian_at_any_address(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_view view;
    uint8_t byte = 0, bytes[8];
    uint16_t half = 0;
    uint32_t word = 0;
    uint64_t wide = 0;
    assert_int_equal(vmm_memory_add_ram(m, "a", 0, PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(m, "b", PAGE, PAGE, NULL, NULL), 0);
    vmm_memory_view_init(&view, m);
    /* Across the two regions and at every alignment. */
    for (uint64_t at = PAGE - 9; at < PAGE + 9; at++) {
        assert_int_equal(vmm_memory_store_u64(m, at, 0x1122334455667788u), 0);
        assert_int_equal(vmm_memory_read(m, at, bytes, 8), 0);
        assert_memory_equal(bytes, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
        assert_int_equal(vmm_memory_load_u64(m, at, &wide), 0);
        assert_true(wide == 0x1122334455667788u);
        assert_int_equal(vmm_memory_load_u32(m, at + 4, &word), 0);
        assert_int_equal(word, 0x11223344);
        assert_int_equal(vmm_memory_load_u16(m, at + 1, &half), 0);
        assert_int_equal(half, 0x6677);
        assert_int_equal(vmm_memory_load_u8(m, at + 7, &byte), 0);
        assert_int_equal(byte, 0x11);
        assert_int_equal(vmm_memory_view_store_u32(&view, at + 2, 0xaabbccdd), 0);
        assert_int_equal(vmm_memory_view_store_u16(&view, at + 6, 0xeeff), 0);
        assert_int_equal(vmm_memory_view_load_u64(&view, at, &wide), 0);
        assert_true(wide == 0xeeffaabbccdd7788u);
        assert_int_equal(vmm_memory_view_load_u16(&view, at + 5, &half), 0);
        assert_int_equal(half, 0xffaa);
        assert_int_equal(vmm_memory_view_store_u64(&view, at, at), 0);
        assert_int_equal(vmm_memory_view_load_u32(&view, at, &word), 0);
        assert_int_equal(word, at);
    }
    for (uint64_t at = 2 * PAGE - 1; at < 2 * PAGE + 2; at++) {
        assert_int_equal(vmm_memory_load_u32(m, at, &word), -EFAULT);
        assert_int_equal(vmm_memory_store_u64(m, at, 0), -EFAULT);
        assert_int_equal(vmm_memory_view_load_u32(&view, at, &word), -EFAULT);
        assert_int_equal(vmm_memory_view_store_u32(&view, at, 0), -EFAULT);
        assert_int_equal(vmm_memory_view_read(&view, at, bytes, 8), -EFAULT);
    }
    assert_int_equal(vmm_memory_view_load_u64(&view, UINT64_MAX - 3, &wide), -EFAULT);
    assert_int_equal(vmm_memory_view_read(&view, 5, NULL, 0), 0);
    assert_int_equal(vmm_memory_view_write(&view, UINT64_MAX, NULL, 0), 0);
    vmm_memory_view_fini(&view);
    vmm_memory_unref(m);
}

static void a_view_follows_the_map(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_view view;
    struct vmm_memory_region *region;
    uint32_t value = 1;
    vmm_memory_view_init(&view, m);
    assert_int_equal(vmm_memory_view_load_u32(&view, 0, &value), -EFAULT);
    assert_int_equal(vmm_memory_add_ram(m, "ram", 0, PAGE, &region, NULL), 0);
    assert_int_equal(vmm_memory_view_store_u32(&view, 0, 7), 0);
    assert_int_equal(vmm_memory_set_read_only(m, region, true, NULL), 0);
    assert_int_equal(vmm_memory_view_store_u32(&view, 0, 8), -EFAULT);
    assert_int_equal(vmm_memory_view_write(&view, 0, "x", 1), -EFAULT);
    assert_int_equal(vmm_memory_view_load_u32(&view, 0, &value), 0);
    assert_int_equal(value, 7);
    assert_int_equal(vmm_memory_view_store_u32(&view, 0, 8), -EFAULT);
    assert_int_equal(vmm_memory_set_read_only(m, region, false, NULL), 0);
    assert_int_equal(vmm_memory_view_store_u32(&view, 0, 8), 0);
    assert_int_equal(vmm_memory_move(m, region, PAGE, NULL), 0);
    assert_int_equal(vmm_memory_view_load_u32(&view, 0, &value), -EFAULT);
    assert_int_equal(vmm_memory_view_load_u32(&view, PAGE, &value), 0);
    assert_int_equal(value, 8);
    vmm_memory_view_drop(&view);
    assert_int_equal(vmm_memory_view_load_u32(&view, PAGE, &value), 0);
    assert_int_equal(vmm_memory_remove(m, region, NULL), 0);
    assert_int_equal(vmm_memory_view_load_u32(&view, PAGE, &value), -EFAULT);
    vmm_memory_view_fini(&view);
    vmm_memory_region_unref(region);
    vmm_memory_unref(m);
}

static void atomics_need_aligned_ram(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *region;
    uint32_t word = 5, old = 0;
    uint64_t wide = 0, old_wide = 0;
    assert_int_equal(vmm_memory_add_ram(m, "ram", 0, PAGE, &region, NULL), 0);
    assert_int_equal(vmm_memory_cmpxchg_u32(m, 8, &word, 6), -EAGAIN);
    assert_int_equal(word, 0);
    assert_int_equal(vmm_memory_cmpxchg_u32(m, 8, &word, 6), 0);
    assert_int_equal(vmm_memory_fetch_or_u32(m, 8, 0x11, &old), 0);
    assert_int_equal(old, 6);
    assert_int_equal(vmm_memory_fetch_and_u32(m, 8, 0x13, &old), 0);
    assert_int_equal(old, 0x17);
    assert_int_equal(vmm_memory_fetch_add_u32(m, 8, 0xffffffff, NULL), 0);
    assert_int_equal(vmm_memory_load_u32(m, 8, &word), 0);
    assert_int_equal(word, 0x12);
    assert_int_equal(vmm_memory_cmpxchg_u64(m, 16, &wide, UINT64_MAX), 0);
    assert_int_equal(vmm_memory_fetch_and_u64(m, 16, ~(uint64_t)0xff, &old_wide), 0);
    assert_true(old_wide == UINT64_MAX);
    assert_int_equal(vmm_memory_fetch_or_u64(m, 16, 1, &old_wide), 0);
    assert_int_equal(vmm_memory_fetch_add_u64(m, 16, 0xff, &old_wide), 0);
    assert_true(old_wide == (~(uint64_t)0xff | 1));
    assert_int_equal(vmm_memory_load_u64(m, 16, &wide), 0);
    assert_int_equal(wide, 0);

    assert_int_equal(vmm_memory_cmpxchg_u32(m, 2, &word, 1), -EINVAL);
    assert_int_equal(vmm_memory_cmpxchg_u64(m, 4, &wide, 1), -EINVAL);
    assert_int_equal(vmm_memory_fetch_or_u32(m, PAGE - 2, 1, NULL), -EINVAL);
    assert_int_equal(vmm_memory_fetch_add_u32(m, PAGE, 1, NULL), -EFAULT);
    assert_int_equal(vmm_memory_fetch_and_u64(m, UINT64_MAX - 7, 1, NULL), -EFAULT);
    assert_int_equal(vmm_memory_set_read_only(m, region, true, NULL), 0);
    assert_int_equal(vmm_memory_cmpxchg_u32(m, 8, &word, 1), -EFAULT);
    vmm_memory_region_unref(region);
    vmm_memory_unref(m);
}

static void memory_is_compared_across_regions(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    uint8_t data[3 * PAGE];
    int result = 5;
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(vmm_memory_add_ram(m, "r", (i + i / 3) * PAGE, PAGE, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(vmm_memory_write(m, 0, data, sizeof(data)), 0);
    assert_int_equal(vmm_memory_write(m, 4 * PAGE + 100, data, 2 * PAGE), 0);
    assert_int_equal(vmm_memory_compare(m, 0, data, sizeof(data), &result), 0);
    assert_int_equal(result, 0);
    data[2 * PAGE + 1]++;
    assert_int_equal(vmm_memory_compare(m, 0, data, sizeof(data), &result), 0);
    assert_true(result < 0);
    assert_int_equal(vmm_memory_compare(m, 0, data, 2 * PAGE + 1, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(vmm_memory_compare(m, PAGE, data, 3 * PAGE, &result), -EFAULT);
    assert_int_equal(vmm_memory_compare_guest(m, 0, 4 * PAGE + 100, 2 * PAGE, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(vmm_memory_compare_guest(m, 7, 4 * PAGE + 107, 2 * PAGE - 7, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(vmm_memory_store_u8(m, 2 * PAGE - 1, 0xff), 0);
    assert_int_equal(vmm_memory_compare_guest(m, 0, 4 * PAGE + 100, 2 * PAGE, &result), 0);
    assert_true(result > 0);
    assert_int_equal(vmm_memory_compare_guest(m, 4 * PAGE + 100, 0, 2 * PAGE, &result), 0);
    assert_true(result < 0);
    assert_int_equal(vmm_memory_compare_guest(m, 0, 3 * PAGE, 1, &result), -EFAULT);
    assert_int_equal(vmm_memory_compare_guest(m, UINT64_MAX, 0, 2, &result), -EFAULT);
    assert_int_equal(vmm_memory_compare_guest(m, 0, 3 * PAGE, 0, &result), 0);
    assert_int_equal(result, 0);
    vmm_memory_unref(m);
}

static void lists_are_translated_whole_or_not_at_all(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *b;
    struct iovec iov[4];
    struct vmm_scatter s = {0};
    assert_int_equal(vmm_memory_add_ram(m, "a", 0, 4 * PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(m, "b", 4 * PAGE, 4 * PAGE, &b, NULL), 0);
    const struct vmm_guest_range ranges[] = {
        {100, 200}, {0, 0}, {300, 50}, {UINT64_MAX, 0}, {4 * PAGE - 10, 30}, {0, 8 * PAGE}};
    /* Neighbours share an entry, the third is cut at the regions' border. */
    assert_int_equal(vmm_memory_map_list(m, ranges, 5, VMM_MAP_WRITE, iov, 4, 0, &s), 0);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.length, 280);
    assert_int_equal(iov[0].iov_len, 250);
    assert_int_equal(iov[1].iov_len, 10);
    assert_int_equal(iov[2].iov_len, 20);
    memset(iov[2].iov_base, 0x77, 20);
    /* It stays valid when the memory leaves the map. */
    uint32_t value;
    assert_int_equal(vmm_memory_load_u32(m, 4 * PAGE + 16, &value), 0);
    assert_int_equal(value, 0x77777777);
    assert_int_equal(vmm_memory_remove(m, b, NULL), 0);
    vmm_memory_region_unref(b);
    memset(iov[2].iov_base, 0x78, 20);
    vmm_memory_unmap_list(m, &s, s.length);
    assert_null(s.token);
    vmm_memory_unmap_list(m, &s, 5);

    const struct vmm_guest_range bad[] = {{0, 8}, {4 * PAGE - 1, 2}, {UINT64_MAX, 2}};
    assert_int_equal(vmm_memory_map_list(m, bad, 2, VMM_MAP_READ, iov, 4, 0, &s), -EFAULT);
    assert_int_equal(vmm_memory_map_list(m, bad + 2, 1, VMM_MAP_READ, iov, 4, 0, &s), -EFAULT);
    const struct vmm_guest_range many[] = {{0, 8}, {16, 8}, {32, 8}};
    assert_int_equal(vmm_memory_map_list(m, many, 3, VMM_MAP_READ, iov, 2, 0, &s), -E2BIG);
    assert_int_equal(vmm_memory_map_list(m, many, 3, VMM_MAP_READ, iov, 3, 23, &s), -E2BIG);
    assert_int_equal(vmm_memory_map_list(m, many, 3, 0, iov, 3, 0, &s), -EINVAL);
    assert_int_equal(vmm_memory_map_list(m, NULL, 3, VMM_MAP_READ, iov, 3, 0, &s), -EINVAL);
    assert_int_equal(vmm_memory_map_list(m, many, 3, VMM_MAP_READ, iov, 3, 24, &s), 0);
    vmm_memory_unmap_list(m, &s, 0);
    assert_int_equal(vmm_memory_map_list(m, NULL, 0, VMM_MAP_READ, NULL, 0, 0, &s), 0);
    assert_int_equal(s.count, 0);
    vmm_memory_unmap_list(m, &s, 0);
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
        cmocka_unit_test(integers_are_little_endian_at_any_address),
        cmocka_unit_test(a_view_follows_the_map),
        cmocka_unit_test(atomics_need_aligned_ram),
        cmocka_unit_test(memory_is_compared_across_regions),
        cmocka_unit_test(lists_are_translated_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
