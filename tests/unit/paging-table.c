/* SPDX-License-Identifier: BSD-3-Clause */
/* The page-table builder and the iterator over mapped ranges. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include <libvmm/memory.h>
#include <libvmm/paging.h>

#include "paging-random.h"

#define TABLES 0x100000u
#define ROOM   0x200000u
#define RWX    (VMM_PAGE_WRITE | VMM_PAGE_EXECUTE)
#define GIB    (1ull << 30)

static int setup(void **state)
{
    struct vmm_memory *memory;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, 4 << 20, NULL, NULL), 0);
    *state = memory;
    return 0;
}

static int teardown(void **state)
{
    vmm_memory_unref(*state);
    return 0;
}

static struct vmm_page_table *make(struct vmm_memory *memory, uint32_t format, uint32_t flags,
                                   uint64_t length)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *t;
    o.format = format;
    o.flags = flags;
    o.address_bits = 48;
    o.table_start = TABLES;
    o.table_length = length;
    assert_int_equal(vmm_page_table_new(memory, &o, &t, NULL), 0);
    return t;
}

static struct vmm_translation look(struct vmm_memory *memory, struct vmm_page_table *table,
                                   uint64_t address, uint32_t access)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    assert_int_equal(vmm_page_table_context(table, &c), 0);
    int r = vmm_paging_translate(memory, &c, address, access, &t);
    assert_int_equal(r, t.reason ? -EFAULT : 0);
    return t;
}

static void identity_of_four_gib(void **state)
{
    static const struct {
        uint32_t format, flags;
        uint64_t length, page, used;
    } cases[] = {
        {VMM_PAGE_FORMAT_X86_4LEVEL, VMM_PAGING_PAGES_1G, 4 * GIB, GIB, 2 * 4096},
        {VMM_PAGE_FORMAT_X86_4LEVEL, 0, 4 * GIB, 2 << 20, 6 * 4096},
        {VMM_PAGE_FORMAT_X86_5LEVEL, 0, 4 * GIB, 2 << 20, 7 * 4096},
        {VMM_PAGE_FORMAT_X86_5LEVEL, VMM_PAGING_PAGES_1G, 1024 * GIB, GIB, 4 * 4096},
        {VMM_PAGE_FORMAT_X86_PAE, 0, 4 * GIB, 2 << 20, 5 * 4096},
        {VMM_PAGE_FORMAT_X86_32, VMM_PAGING_PSE, 4 * GIB, 4 << 20, 4096},
        {VMM_PAGE_FORMAT_X86_32, 0, 8 << 20, 4096, 3 * 4096},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* Exactly the room that is needed, and one page less. */
        struct vmm_page_table *t = make(*state, cases[i].format, cases[i].flags, cases[i].used);
        assert_int_equal(vmm_page_table_identity(t, cases[i].length, RWX, NULL), 0);
        assert_int_equal(vmm_page_table_used(t), cases[i].used);
        assert_int_equal(vmm_page_table_root(t), TABLES);
        for (unsigned n = 0; n < 100; n++) {
            uint64_t a = n == 0 ? cases[i].length - 1 : random64() % cases[i].length;
            struct vmm_translation tr = look(*state, t, a, VMM_ACCESS_WRITE);
            assert_int_equal(tr.reason, 0);
            assert_int_equal(tr.physical, a);
            assert_int_equal(tr.page_size, cases[i].page);
            assert_int_equal(look(*state, t, a, VMM_ACCESS_USER).reason, VMM_FAULT_USER);
        }
        if (cases[i].length < 4 * GIB)
            assert_int_equal(look(*state, t, cases[i].length, 0).reason, VMM_FAULT_ABSENT);
        vmm_page_table_free(t);
        if (cases[i].used == 4096)
            continue;
        t = make(*state, cases[i].format, cases[i].flags, cases[i].used - 4096);
        assert_int_equal(vmm_page_table_identity(t, cases[i].length, RWX, NULL), -ENOSPC);
        assert_int_equal(vmm_page_table_used(t), 4096);
        assert_int_equal(look(*state, t, 0, 0).reason, VMM_FAULT_ABSENT);
        vmm_page_table_free(t);
    }
}

/* What one page of each format says of every permission, read back by the walker. */
static void every_permission(void **state)
{
    const uint32_t all = 0xf3fu | VMM_PAGE_KEY(15);
    for (uint32_t format = VMM_PAGE_FORMAT_X86_32; format <= VMM_PAGE_FORMAT_X86_5LEVEL; format++) {
        struct vmm_page_table *t =
            make(*state, format, VMM_PAGING_NX | VMM_PAGING_PSE | VMM_PAGING_PAGES_1G, ROOM);
        uint64_t large = format == VMM_PAGE_FORMAT_X86_32 ? 4 << 20 : 2 << 20, at = 0;
        bool has_keys = format >= VMM_PAGE_FORMAT_X86_4LEVEL;
        for (unsigned i = 0; i < 60; i++, at += large) {
            uint32_t p = (uint32_t)random64() & (VMM_PAGE_KEY(15) | 0x73f);
            bool fine = (has_keys || !VMM_PAGE_KEY_OF(p)) &&
                        (format != VMM_PAGE_FORMAT_X86_32 || (p & VMM_PAGE_EXECUTE));
            int r = vmm_page_table_map(t, at, large, i % 2 ? large : 4096, p, 0, NULL);
            assert_int_equal(r, fine ? 0 : -EINVAL);
            struct vmm_translation tr = look(*state, t, at, VMM_ACCESS_ANY);
            assert_int_equal(tr.reason, fine ? VMM_FAULT_NONE : VMM_FAULT_ABSENT);
            if (!fine)
                continue;
            assert_int_equal(tr.permissions & all, p);
            assert_int_equal(tr.page_size, i % 2 ? large : 4096);
        }
        vmm_page_table_free(t);
    }
}

/* Page sizes: as large as alignment, max_page and neighbours allow, never beyond the range. */
static void chooses_pages(void **state)
{
    struct vmm_page_table *t =
        make(*state, VMM_PAGE_FORMAT_X86_4LEVEL, VMM_PAGING_PAGES_1G | VMM_PAGING_NX, ROOM);
    uint64_t high = 0xffffffff80000000ull;
    assert_int_equal(
        vmm_page_table_map(t, GIB - 4096, 3 * GIB - 4096, GIB + 4096 + (2 << 20), 0, 0, NULL), 0);
    assert_int_equal(look(*state, t, GIB - 4096, 0).page_size, 4096);
    assert_int_equal(look(*state, t, GIB, 0).page_size, GIB);
    assert_int_equal(look(*state, t, 2 * GIB, 0).page_size, 2 << 20);
    assert_int_equal(look(*state, t, 2 * GIB + 5, 0).physical, 4 * GIB + 5);
    assert_int_equal(look(*state, t, 2 * GIB + (2 << 20), 0).reason, VMM_FAULT_ABSENT);
    assert_int_equal(look(*state, t, GIB - 4097, 0).reason, VMM_FAULT_ABSENT);
    /* The kernel's half, up to the very last byte. */
    assert_int_equal(vmm_page_table_map(t, high, 0, 2 * GIB, RWX, 2 << 20, NULL), 0);
    assert_int_equal(look(*state, t, UINT64_MAX, 0).physical, 2 * GIB - 1);
    assert_int_equal(look(*state, t, high, 0).page_size, 2 << 20);
    /* Virtual and physical differ by less than a large page. */
    assert_int_equal(vmm_page_table_map(t, 4 * GIB, 4096, 2 << 20, RWX, 0, NULL), 0);
    assert_int_equal(look(*state, t, 4 * GIB, 0).page_size, 4096);
    assert_int_equal(vmm_page_table_map(t, 8 * GIB, 0, 4096, RWX, 4096, NULL), 0);
    vmm_page_table_free(t);
}

static void refuses(void **state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_page_table *t = make(*state, VMM_PAGE_FORMAT_X86_4LEVEL, 0, ROOM);
    static const struct {
        uint64_t address, physical, length;
        uint32_t permissions;
        uint64_t max_page;
        int code;
    } cases[] = {
        {0, 0, 0, RWX, 0, -EINVAL},
        {1, 0, 4096, RWX, 0, -EINVAL},
        {0, 1, 4096, RWX, 0, -EINVAL},
        {0, 0, 4097, RWX, 0, -EINVAL},
        {0, 0, 4096, RWX, 4095, -EINVAL},
        {0, 0, 4096, 0, 0, -EINVAL}, /* no-execute without NX */
        {0, 0, 4096, RWX | 1u << 30, 0, -EINVAL},
        {1ull << 47, 0, 4096, RWX, 0, -EINVAL},
        {(1ull << 47) - 4096, 0, 8192, RWX, 0, -EINVAL},
        {0xffffffffffff0000ull, 0, 0x20000, RWX, 0, -EINVAL},
        {0x200000, 0xfffffffffffff000ull, 8192, RWX, 0, -EINVAL},
        {0x200000, 1ull << 48, 4096, RWX, 0, -EINVAL},
        {0x200000, (1ull << 48) - 4096, 8192, RWX, 0, -EINVAL},
        {4096, 0, 4096, RWX, 0, -EEXIST},
        {0, 0, 2 << 20, RWX, 0, -EEXIST},
        {0x40000000, 0, 4096, RWX, 0, -EEXIST}, /* inside a large page */
        {0, 0, 1ull << 46, RWX, 4096, -EEXIST},
        {0x80000000, 0, 1ull << 46, RWX, 4096, -ENOSPC},
    };
    assert_int_equal(vmm_page_table_map(t, 4096, 0, 4096, RWX, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 0x40000000, 0, 2 << 20, RWX, 0, NULL), 0);
    uint64_t used = vmm_page_table_used(t);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err.text[0] = 0;
        assert_int_equal(vmm_page_table_map(t, cases[i].address, cases[i].physical, cases[i].length,
                                            cases[i].permissions, cases[i].max_page, &err),
                         cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_true(strlen(err.text) > 20);
        assert_int_equal(vmm_page_table_used(t), used);
    }
    assert_int_equal(look(*state, t, 0, 0).reason, VMM_FAULT_ABSENT);
    assert_int_equal(vmm_page_table_map(NULL, 0, 0, 4096, RWX, 0, NULL), -EINVAL);
    assert_int_equal(vmm_page_table_context(t, NULL), -EINVAL);
    vmm_page_table_free(t);
    assert_null(vmm_page_table_free(NULL));
}

/* 4 MiB pages reach above 4 GiB, 4 KiB pages of the same format do not. */
static void wide_pages_of_the_32bit_format(void **state)
{
    struct vmm_page_table *t =
        make(*state, VMM_PAGE_FORMAT_X86_32, VMM_PAGING_PSE | VMM_PAGING_PSE36, ROOM);
    assert_int_equal(vmm_page_table_map(t, 4 << 20, 0xab00000000, 4 << 20, RWX, 0, NULL), 0);
    assert_int_equal(look(*state, t, (4 << 20) + 9, 0).physical, 0xab00000009);
    assert_int_equal(vmm_page_table_map(t, 0, 0x100000000, 4096, RWX, 0, NULL), -EINVAL);
    assert_int_equal(vmm_page_table_map(t, 8 << 20, 1ull << 40, 4 << 20, RWX, 0, NULL), -EINVAL);
    /* The same where a table is there already. */
    assert_int_equal(vmm_page_table_map(t, 0, 0, 4096, RWX, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 8192, 0x100000000, 4096, RWX, 0, NULL), -EINVAL);
    vmm_page_table_free(t);
    t = make(*state, VMM_PAGE_FORMAT_X86_32, VMM_PAGING_PSE, ROOM);
    assert_int_equal(vmm_page_table_map(t, 4 << 20, 0x100000000, 4 << 20, RWX, 0, NULL), -EINVAL);
    vmm_page_table_free(t);
}

static void bad_options(void **state)
{
    struct vmm_page_table_options good = VMM_PAGE_TABLE_OPTIONS_INIT, o;
    struct vmm_page_table *t = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    good.format = VMM_PAGE_FORMAT_X86_32;
    good.table_start = TABLES;
    good.table_length = 8192;
    assert_int_equal(vmm_page_table_new(NULL, &good, &t, NULL), -EINVAL);
    assert_int_equal(vmm_page_table_new(*state, NULL, &t, NULL), -EINVAL);
    assert_int_equal(vmm_page_table_new(*state, &good, NULL, NULL), -EINVAL);
#define REFUSED(field, value, code)                                                                \
    o = good;                                                                                      \
    o.field = value;                                                                               \
    assert_int_equal(vmm_page_table_new(*state, &o, &t, &err), code)
    REFUSED(format, VMM_PAGE_FORMAT_NONE, -EINVAL);
    REFUSED(format, 9, -EINVAL);
    REFUSED(address_bits, 60, -EINVAL);
    REFUSED(reserved, 1, -EINVAL);
    REFUSED(table_start, 8, -EINVAL);
    REFUSED(table_length, 0, -EINVAL);
    REFUSED(table_length, 4095, -EINVAL);
    REFUSED(table_start, UINT64_MAX - 4095, -EINVAL);
    REFUSED(table_start, 0xfffff000, -EINVAL); /* the second page is at 4 GiB */
    REFUSED(table_start, 0x80000000, -EFAULT); /* no memory */
    REFUSED(size, 2, -EINVAL);
    good.format = VMM_PAGE_FORMAT_X86_PAE;
    REFUSED(table_start, 1ull << 32, -EINVAL);
    good.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    good.address_bits = 36;
    REFUSED(table_start, 1ull << 36, -EINVAL);
    assert_null(t);
    /* The tables run out of memory that is there: nothing is half mapped. */
    good.table_start = (4 << 20) - 8192;
    good.table_length = 1 << 20;
    assert_int_equal(vmm_page_table_new(*state, &good, &t, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 0, 0, 4096, RWX, 0, &err), -EFAULT);
    assert_int_equal(vmm_page_table_used(t), 4096);
    vmm_page_table_free(t);
}

/* Iterator ------------------------------------------------------------------------------------- */

struct list {
    struct vmm_page_range ranges[64];
    size_t count, stop_at;
};

static int collect(void *ctx, const struct vmm_page_range *range)
{
    struct list *l = ctx;
    assert_true(l->count < 64);
    l->ranges[l->count++] = *range;
    return l->count == l->stop_at ? 77 : 0;
}

static void joins_ranges(void **state)
{
    struct vmm_page_table *t = make(*state, VMM_PAGE_FORMAT_X86_4LEVEL, VMM_PAGING_NX, ROOM);
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_range_options o = VMM_PAGE_RANGE_OPTIONS_INIT;
    struct list l = {.count = 0};
    uint64_t top = 0xffffffffffe00000ull;
    assert_int_equal(vmm_page_table_map(t, 0x1ff000, 0x1ff000, 0x401000, RWX, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 0x600000, 0x900000, 0x2000, RWX, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 0x602000, 0x902000, 0x1000, VMM_PAGE_USER, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, top, 0, 0x200000, RWX, 0, NULL), 0);
    assert_int_equal(vmm_page_table_context(t, &c), 0);
    assert_int_equal(vmm_paging_ranges(*state, &c, NULL, collect, &l, NULL), 0);
    assert_int_equal(l.count, 3);
    assert_int_equal(l.ranges[0].address, 0x1ff000);
    assert_int_equal(l.ranges[0].length, 0x403000);
    assert_int_equal(l.ranges[0].physical, 0x1ff000);
    assert_int_equal(l.ranges[0].page_size, 4096);
    assert_int_equal(l.ranges[0].permissions, RWX);
    assert_int_equal(l.ranges[1].address, 0x602000);
    assert_int_equal(l.ranges[1].permissions, VMM_PAGE_USER);
    assert_int_equal(l.ranges[2].address, top);
    assert_int_equal(l.ranges[2].length, 0x200000);
    assert_int_equal(l.ranges[2].page_size, 0x200000);

    l.count = 0;
    o.flags = VMM_RANGES_CONTIGUOUS;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), 0);
    assert_int_equal(l.count, 4);
    assert_int_equal(l.ranges[0].length, 0x401000);
    assert_int_equal(l.ranges[1].physical, 0x900000);

    /* Cut in the middle of large pages. */
    l.count = 0;
    o.flags = 0;
    o.start = 0x234567;
    o.last = 0x456788;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), 0);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.ranges[0].address, 0x234567);
    assert_int_equal(l.ranges[0].physical, 0x234567);
    assert_int_equal(l.ranges[0].length, 0x222222);

    l.count = 0;
    l.stop_at = 1;
    assert_int_equal(vmm_paging_ranges(*state, &c, NULL, collect, &l, NULL), 77);
    assert_int_equal(l.count, 1);
    vmm_page_table_free(t);
}

/* Every entry of one page points to that page: 2^36 pages are mapped. */
static void bounded_on_self_maps(void **state)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_range_options o = VMM_PAGE_RANGE_OPTIONS_INIT;
    struct list l = {.count = 0};
    uint64_t next = 0;
    for (uint64_t i = 0; i < 4096; i += 8) {
        uint64_t entry = TABLES | 7;
        assert_int_equal(vmm_memory_write(*state, TABLES + i, &entry, 8), 0);
    }
    c.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    c.root = TABLES;
    o.entry_limit = 100000;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, &next), -EOVERFLOW);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.ranges[0].address, 0);
    assert_int_equal(l.ranges[0].length, next);
    assert_in_range(next, 90000ull * 4096, 100000ull * 4096);
    /* Taken up again, with the smallest limit, it gets on. */
    o.start = next;
    o.entry_limit = 5;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t before = o.start;
        l.count = 0;
        assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, &o.start), -EOVERFLOW);
        assert_int_equal(l.ranges[0].address, before);
        assert_int_equal(l.ranges[0].length, o.start - before);
        assert_true(o.start > before);
    }
}

static int sum(void *ctx, const struct vmm_page_range *range)
{
    *(uint64_t *)ctx += range->length;
    return 0;
}

/* On random tables the iterator and the walker see the same. */
static int agrees_with_walker(void *ctx, const struct vmm_page_range *range)
{
    void **args = ctx;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    assert_int_equal(vmm_paging_translate(args[0], args[1], range->address, VMM_ACCESS_ANY, &t), 0);
    assert_int_equal(t.physical, range->physical);
    assert_int_equal(t.permissions, range->permissions);
    uint64_t end = range->address + range->length - 1;
    assert_int_equal(vmm_paging_translate(args[0], args[1], end, VMM_ACCESS_ANY, &t), 0);
    assert_int_equal((t.permissions ^ range->permissions) & 7, 0);
    return 0;
}

static void random_tables(void **state)
{
    static uint8_t pages[16 * 4096];
    for (unsigned round = 0; round < 40; round++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct vmm_page_range_options o = VMM_PAGE_RANGE_OPTIONS_INIT;
        struct random_tables t = {.format = 1 + round % 4,
                                  .base = TABLES,
                                  .pages = 16,
                                  .address_bits = 40,
                                  .nx = true,
                                  .rare = 8};
        uint64_t total = 0, mapped = 0;
        void *args[] = {*state, &c};
        random_fill(&t, pages);
        assert_int_equal(vmm_memory_write(*state, TABLES, pages, sizeof(pages)), 0);
        c.format = t.format;
        c.flags = VMM_PAGING_NX | VMM_PAGING_PSE;
        c.address_bits = 40;
        c.root = TABLES;
        o.start = random_virtual(t.format) & ~0xfffull;
        o.last = o.start + 0x3fffff;
        assert_int_equal(vmm_paging_ranges(*state, &c, &o, sum, &total, NULL), 0);
        assert_int_equal(vmm_paging_ranges(*state, &c, &o, agrees_with_walker, args, NULL), 0);
        for (uint64_t a = o.start; a - o.start < 0x400000; a += 4096) {
            struct vmm_translation tr = VMM_TRANSLATION_INIT;
            if (vmm_paging_translate(*state, &c, a, VMM_ACCESS_ANY, &tr) == 0)
                mapped += 4096;
        }
        assert_int_equal(total, mapped);
    }
}

static void bad_ranges(void **state)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_range_options o = VMM_PAGE_RANGE_OPTIONS_INIT;
    struct list l = {.count = 0};
    assert_int_equal(vmm_paging_ranges(NULL, &c, NULL, collect, &l, NULL), -EINVAL);
    assert_int_equal(vmm_paging_ranges(*state, NULL, NULL, collect, &l, NULL), -EINVAL);
    assert_int_equal(vmm_paging_ranges(*state, &c, NULL, NULL, &l, NULL), -EINVAL);
    o.start = 2;
    o.last = 1;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), -EINVAL);
    o.last = 3;
    o.flags = 2;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), -EINVAL);
    o.flags = 0;
    o.entry_limit = 4;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), -EINVAL);
    /* Paging off: 4 GiB, and nothing above. */
    assert_int_equal(vmm_paging_ranges(*state, &c, NULL, collect, &l, NULL), 0);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.ranges[0].length, 1ull << 32);
    o.start = 1ull << 32;
    o.last = 0;
    o.entry_limit = 0;
    assert_int_equal(vmm_paging_ranges(*state, &c, &o, collect, &l, NULL), 0);
    assert_int_equal(l.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(identity_of_four_gib, setup, teardown),
        cmocka_unit_test_setup_teardown(every_permission, setup, teardown),
        cmocka_unit_test_setup_teardown(chooses_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(wide_pages_of_the_32bit_format, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(joins_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(bounded_on_self_maps, setup, teardown),
        cmocka_unit_test_setup_teardown(random_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_ranges, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
