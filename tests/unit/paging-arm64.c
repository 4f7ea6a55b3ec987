/* SPDX-License-Identifier: BSD-3-Clause */
/* arm64 page tables: entries as the architecture writes them, and what builder, walker, iterator and cache make of them. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include <libvmm/memory.h>
#include <libvmm/translate.h>

#include "paging-random.h"

#define RAM    ((uint64_t)8 << 20)
#define TABLES ((uint64_t)1 << 20)
#define KERNEL UINT64_C(0xffff000000000000)
#define PAGE   0x403u /* AF, valid, a page */
#define BLOCK  0x401u
#define TABLE  3u
#define DBM    ((uint64_t)1 << 51)
#define PXN    ((uint64_t)1 << 53)
#define UXN    ((uint64_t)1 << 54)
#define USER   0x40u
#define RONLY  0x80u

static int setup(void **state)
{
    struct vmm_memory *memory;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, RAM, NULL, NULL), 0);
    *state = memory;
    return 0;
}

static int teardown(void **state)
{
    vmm_memory_unref(*state);
    return 0;
}

static void put(struct vmm_memory *memory, uint64_t table, uint64_t index, uint64_t entry)
{
    assert_int_equal(vmm_memory_store_u64(memory, table + index * 8, entry), 0);
}

/* 48 bits below and above, 4 KiB: 0x1000 and 0x9000 are the roots. */
static struct vmm_paging_context context4k(void)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    c.format = VMM_PAGE_FORMAT_ARM64_4K;
    c.root = 0x1000 | UINT64_C(0xabcd) << 48 | 1; /* an ASID, CnP */
    c.upper_root = 0x9000;
    c.virtual_bits = c.upper_bits = 48;
    c.address_bits = 40;
    return c;
}

/* A page at virtual address 0x12345000 (indices 0, 0, 0x91, 0x145). */
static void one_page(struct vmm_memory *memory, uint64_t entry)
{
    put(memory, 0x1000, 0, 0x2000 | TABLE);
    put(memory, 0x2000, 0, 0x3000 | TABLE);
    put(memory, 0x3000, 0x91, 0x4000 | TABLE);
    put(memory, 0x4000, 0x145, entry);
}

static struct vmm_translation walk(struct vmm_memory *memory, const struct vmm_paging_context *c,
                                   uint64_t address, uint32_t access)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    int r = vmm_paging_translate(memory, c, address, access, &t);
    assert_int_equal(r, t.reason ? -EFAULT : 0);
    return t;
}

static void entries_by_hand(void **state)
{
    struct vmm_paging_context c = context4k();
    one_page(*state, 0x7654321000 | PAGE | 2 << 2);
    struct vmm_translation t = walk(*state, &c, 0x12345678, 0);
    assert_int_equal(t.physical, 0x7654321678);
    assert_int_equal(t.page_size, 4096);
    assert_int_equal(t.level, 1);
    assert_int_equal(t.entry_address, 0x4000 + 0x145 * 8);
    assert_int_equal(t.permissions, VMM_PAGE_WRITE | VMM_PAGE_EXECUTE | VMM_PAGE_USER_EXECUTE |
                                        VMM_PAGE_GLOBAL | VMM_PAGE_ACCESSED | VMM_PAGE_CACHE(2));
    /* Blocks of 2 MiB and 1 GiB; none at the top; a "block" at the lowest level is not valid. */
    put(*state, 0x3000, 0x92, 0x40000000 | BLOCK);
    assert_int_equal(walk(*state, &c, 0x12400000 + 0x54321, 0).physical, 0x40054321);
    assert_int_equal(walk(*state, &c, 0x12400000, 0).page_size, 2 << 20);
    put(*state, 0x2000, 5, 0x80000000 | BLOCK);
    assert_int_equal(walk(*state, &c, 0x140000000 + 0x7654321, 0).physical, 0x87654321);
    put(*state, 0x1000, 1, 0x80000000 | BLOCK);
    t = walk(*state, &c, (uint64_t)1 << 39, 0);
    assert_int_equal(t.reason, VMM_FAULT_ABSENT);
    assert_int_equal(t.code, UINT32_C(0x25) << 26 | 1 << 25 | 4);
    put(*state, 0x4000, 0x146, 0x5000 | BLOCK);
    t = walk(*state, &c, 0x12346000, VMM_ACCESS_WRITE | VMM_ACCESS_USER);
    assert_int_equal(t.reason, VMM_FAULT_ABSENT);
    assert_int_equal(t.code, UINT32_C(0x24) << 26 | 1 << 25 | 0x40 | 7);
    /* Above 40 bits: an address size fault; no memory there: an external abort of the walk. */
    put(*state, 0x4000, 0x147, ((uint64_t)1 << 40) | PAGE);
    t = walk(*state, &c, 0x12347000, VMM_ACCESS_EXECUTE);
    assert_int_equal(t.reason, VMM_FAULT_RESERVED);
    assert_int_equal(t.code, UINT32_C(0x21) << 26 | 1 << 25 | 3);
    put(*state, 0x3000, 0x93, RAM | TABLE);
    t = walk(*state, &c, 0x12600000, VMM_ACCESS_EXECUTE | VMM_ACCESS_USER);
    assert_int_equal(t.reason, VMM_FAULT_TABLE);
    assert_int_equal(t.code, UINT32_C(0x20) << 26 | 1 << 25 | 0x17);
}

/* What each kind of access may do with a page: rights by AP, PXN, UXN. */
static void rights(void **state)
{
    static const struct {
        uint64_t entry;
        uint32_t flags, access, reason;
    } cases[] = {
        {0, 0, VMM_ACCESS_WRITE, VMM_FAULT_NONE},
        {0, 0, VMM_ACCESS_USER, VMM_FAULT_USER},
        {RONLY, 0, VMM_ACCESS_WRITE, VMM_FAULT_WRITE},
        {RONLY, VMM_PAGING_HD | VMM_PAGING_HA, VMM_ACCESS_WRITE, VMM_FAULT_WRITE},
        {RONLY | DBM, 0, VMM_ACCESS_WRITE, VMM_FAULT_WRITE},
        {RONLY | DBM, VMM_PAGING_HD | VMM_PAGING_HA, VMM_ACCESS_WRITE, VMM_FAULT_NONE},
        {USER, 0, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_NONE},
        {USER | RONLY, 0, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_WRITE},
        {PXN, 0, VMM_ACCESS_EXECUTE, VMM_FAULT_EXECUTE},
        {PXN, 0, VMM_ACCESS_EXECUTE | VMM_ACCESS_USER, VMM_FAULT_NONE}, /* execute only */
        {UXN, 0, VMM_ACCESS_EXECUTE, VMM_FAULT_NONE},
        {UXN, 0, VMM_ACCESS_EXECUTE | VMM_ACCESS_USER, VMM_FAULT_EXECUTE},
        {USER, 0, VMM_ACCESS_EXECUTE, VMM_FAULT_USER_EXECUTE},
        {USER | RONLY, 0, VMM_ACCESS_EXECUTE, VMM_FAULT_NONE},
        {0, VMM_PAGING_WXN, VMM_ACCESS_EXECUTE, VMM_FAULT_EXECUTE},
        {RONLY, VMM_PAGING_WXN, VMM_ACCESS_EXECUTE, VMM_FAULT_NONE},
        {0, VMM_PAGING_WXN, VMM_ACCESS_EXECUTE | VMM_ACCESS_USER, VMM_FAULT_NONE},
        {USER, VMM_PAGING_WXN, VMM_ACCESS_EXECUTE | VMM_ACCESS_USER, VMM_FAULT_EXECUTE},
        {USER, VMM_PAGING_SMAP, 0, VMM_FAULT_USER_ACCESS},
        {USER, VMM_PAGING_SMAP, VMM_ACCESS_AC, VMM_FAULT_NONE},
        {USER, VMM_PAGING_SMAP, VMM_ACCESS_USER, VMM_FAULT_NONE},
        {0, VMM_PAGING_SMAP, 0, VMM_FAULT_NONE},
        {0, VMM_PAGING_SMAP | VMM_PAGING_EPAN, 0, VMM_FAULT_USER_ACCESS},
        {UXN, VMM_PAGING_SMAP | VMM_PAGING_EPAN, 0, VMM_FAULT_NONE},
        {0, VMM_PAGING_CLOSED_LOWER, VMM_ACCESS_USER, VMM_FAULT_ADDRESS},
        {0, VMM_PAGING_CLOSED_UPPER, VMM_ACCESS_WRITE, VMM_FAULT_NONE},
    };
    struct vmm_paging_context c = context4k();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        c.flags = cases[i].flags;
        one_page(*state, 0x5000 | PAGE | cases[i].entry);
        uint32_t reason = walk(*state, &c, 0x12345000, cases[i].access).reason;
        if (reason != cases[i].reason)
            fail_msg("case %zu: %s, not %s", i, vmm_fault_name(reason),
                     vmm_fault_name(cases[i].reason));
    }
}

static void tables_take_rights_away(void **state)
{
    static const struct {
        uint32_t bit, right;
    } cases[] = {{59, VMM_PAGE_EXECUTE},
                 {60, VMM_PAGE_USER_EXECUTE},
                 {61, VMM_PAGE_USER},
                 {62, VMM_PAGE_WRITE}};
    const uint32_t all = VMM_PAGE_EXECUTE | VMM_PAGE_USER_EXECUTE | VMM_PAGE_USER | VMM_PAGE_WRITE;
    struct vmm_paging_context c = context4k();
    one_page(*state, 0x5000 | PAGE | USER);
    for (size_t i = 0; i < 4; i++) {
        put(*state, 0x2000, 0, 0x3000 | TABLE | (uint64_t)1 << cases[i].bit);
        c.flags = 0;
        assert_int_equal(walk(*state, &c, 0x12345000, VMM_ACCESS_ANY).permissions & all,
                         all & ~cases[i].right);
        c.flags = VMM_PAGING_FLAT_UPPER;
        assert_int_equal(walk(*state, &c, 0x12345000, VMM_ACCESS_ANY).permissions & all,
                         all & ~cases[i].right);
        c.flags = VMM_PAGING_FLAT_LOWER;
        assert_int_equal(walk(*state, &c, 0x12345000, VMM_ACCESS_ANY).permissions & all, all);
    }
}

static void flags_and_dirt(void **state)
{
    struct vmm_paging_context c = context4k();
    struct vmm_translation t;
    uint64_t entry;
    one_page(*state, (0x5000 | PAGE | RONLY | DBM) & ~UINT64_C(0x400));
    t = walk(*state, &c, 0x12345000, VMM_ACCESS_USER);
    assert_int_equal(t.reason, VMM_FAULT_ACCESS_FLAG); /* before the rights */
    assert_int_equal(t.code & 0x3f, 8 + 3);
    c.flags = VMM_PAGING_HA;
    assert_int_equal(walk(*state, &c, 0x12345000, 0).permissions & VMM_PAGE_ACCESSED, 0);
    t = walk(*state, &c, 0x12345000, VMM_ACCESS_MARK);
    assert_int_equal(t.permissions & VMM_PAGE_ACCESSED, VMM_PAGE_ACCESSED);
    assert_int_equal(vmm_memory_load_u64(*state, t.entry_address, &entry), 0);
    assert_int_equal(entry, 0x5000 | PAGE | RONLY | DBM);
    assert_int_equal(t.entry, entry);
    c.flags = VMM_PAGING_HA | VMM_PAGING_HD;
    t = walk(*state, &c, 0x12345000, VMM_ACCESS_MARK);
    assert_int_equal(t.permissions & (VMM_PAGE_DIRTY | VMM_PAGE_WRITE), VMM_PAGE_WRITE);
    t = walk(*state, &c, 0x12345000, VMM_ACCESS_MARK | VMM_ACCESS_WRITE);
    assert_int_equal(t.permissions & VMM_PAGE_DIRTY, VMM_PAGE_DIRTY);
    assert_int_equal(vmm_memory_load_u64(*state, t.entry_address, &entry), 0);
    assert_int_equal(entry, 0x5000 | PAGE | DBM);
    /* The tables on the way have no such flags. */
    assert_int_equal(vmm_memory_load_u64(*state, 0x1000, &entry), 0);
    assert_int_equal(entry, 0x2000 | TABLE);
}

static void two_trees_and_tags(void **state)
{
    struct vmm_paging_context c = context4k();
    one_page(*state, 0x5000 | PAGE);
    put(*state, 0x9000, 0, 0x2000 | TABLE); /* the same below another top */
    assert_int_equal(walk(*state, &c, KERNEL + 0x12345abc, 0).physical, 0x5abc);
    /* Neither all zero nor all one above the 48 bits. */
    static const uint64_t bad[] = {UINT64_C(1) << 48, UINT64_C(1) << 55, UINT64_C(1) << 63,
                                   KERNEL ^ UINT64_C(1) << 48, KERNEL ^ UINT64_C(1) << 63};
    for (size_t i = 0; i < 5; i++) {
        struct vmm_translation t = walk(*state, &c, bad[i] + 0x12345000, 0);
        assert_int_equal(t.reason, VMM_FAULT_ADDRESS);
        assert_int_equal(t.code & 0x3f, 4);
    }
    c.flags = VMM_PAGING_TAGS_LOWER;
    assert_int_equal(walk(*state, &c, UINT64_C(0x5a) << 56 | 0x12345678, 0).physical, 0x5678);
    assert_int_equal(walk(*state, &c, (KERNEL ^ UINT64_C(1) << 63) + 0x12345678, 0).reason,
                     VMM_FAULT_ADDRESS);
    c.flags = VMM_PAGING_TAGS_UPPER;
    assert_int_equal(walk(*state, &c, (KERNEL ^ UINT64_C(1) << 63) + 0x12345678, 0).physical,
                     0x5678);
    c.flags = 0;
    c.upper_bits = 0; /* EPD1 */
    assert_int_equal(walk(*state, &c, KERNEL + 0x12345000, 0).reason, VMM_FAULT_ADDRESS);
    assert_int_equal(walk(*state, &c, 0x12345000, 0).reason, VMM_FAULT_NONE);
    c.upper_bits = 39;
    c.virtual_bits = 0;
    assert_int_equal(walk(*state, &c, 0x12345000, 0).reason, VMM_FAULT_ADDRESS);
    /* 39 bits: three levels, so the root's entry 0 is for 1 GiB. */
    c.upper_root = 0x2000;
    assert_int_equal(walk(*state, &c, (UINT64_MAX << 39) + 0x12345678, 0).physical, 0x5678);
}

/* A top table of a few entries only, aligned to its size: what lies beside it is not looked at. */
static void small_top_tables(void **state)
{
    struct vmm_paging_context c = context4k();
    c.virtual_bits = 32; /* levels 1 to 3; four entries at the top, in 64 bytes */
    c.upper_bits = 0;
    c.root = 0x1040;
    put(*state, 0x1040, 3, 0x80000000 | BLOCK);
    put(*state, 0x1040, 4, 0x40000000 | BLOCK);
    assert_int_equal(walk(*state, &c, 0xc1234567, 0).physical, 0x81234567);
    assert_int_equal(walk(*state, &c, UINT64_C(0x1c1234567), 0).reason, VMM_FAULT_ADDRESS);
    c.root = 0x1047; /* low bits of the register are none of the address */
    assert_int_equal(walk(*state, &c, 0xc1234567, 0).physical, 0x81234567);
}

/* 64 KiB with 52 bits of physical address: their highest four are in bits 15 to 12. */
static void wide_addresses(void **state)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    c.format = VMM_PAGE_FORMAT_ARM64_64K;
    c.virtual_bits = 42; /* two levels */
    c.address_bits = 52;
    c.root = 0x10000;
    put(*state, 0x10000, 0, 0x20000 | TABLE);
    put(*state, 0x20000, 1, UINT64_C(0x123456780000) | 0xa000 | PAGE);
    put(*state, 0x10000, 1, UINT64_C(0x123440000000) | 0xb000 | BLOCK);
    struct vmm_translation t = walk(*state, &c, 0x1abcd, 0);
    assert_int_equal(t.physical, UINT64_C(0xa12345678abcd));
    assert_int_equal(t.page_size, 64 << 10);
    t = walk(*state, &c, 0x20000000 + 0xabcde, 0);
    assert_int_equal(t.physical, UINT64_C(0xb1234400abcde));
    assert_int_equal(t.page_size, 512 << 20);
    c.address_bits = 48; /* then they are reserved */
    assert_int_equal(walk(*state, &c, 0x1abcd, 0).physical, UINT64_C(0x12345678abcd));
}

/* Builder -------------------------------------------------------------------------------------- */

static const struct geometry {
    uint32_t format, bits;
    uint64_t page, block;
    uint64_t used; /* by four GiB of identity */
} geometries[] = {
    {VMM_PAGE_FORMAT_ARM64_4K, 48, 4096, 1 << 30, 2 * 4096},
    {VMM_PAGE_FORMAT_ARM64_4K, 36, 4096, 1 << 30, 4096},
    {VMM_PAGE_FORMAT_ARM64_16K, 48, 16384, 32 << 20, 3 * 16384},
    {VMM_PAGE_FORMAT_ARM64_16K, 36, 16384, 32 << 20, 16384},
    {VMM_PAGE_FORMAT_ARM64_64K, 48, 65536, 512 << 20, 2 * 65536},
    {VMM_PAGE_FORMAT_ARM64_64K, 42, 65536, 512 << 20, 65536},
};
#define GEOMETRIES (sizeof(geometries) / sizeof(geometries[0]))

static struct vmm_page_table *make(struct vmm_memory *memory, const struct geometry *g,
                                   uint32_t flags)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *t;
    struct vmm_error err = VMM_ERROR_INIT;
    o.format = g->format;
    o.flags = flags;
    o.virtual_bits = g->bits;
    o.table_start = TABLES;
    o.table_length = 2 << 20;
    if (vmm_page_table_new(memory, &o, &t, &err) != 0)
        fail_msg("%s", err.text);
    return t;
}

static void built_and_walked(void **state)
{
    const uint32_t rights = VMM_PAGE_WRITE | VMM_PAGE_EXECUTE;
    for (size_t i = 0; i < 2 * GEOMETRIES; i++) {
        const struct geometry *g = &geometries[i / 2];
        bool upper = i % 2;
        uint64_t base = upper ? UINT64_MAX << g->bits : 0, four = UINT64_C(4) << 30;
        struct vmm_page_table *t = make(*state, g, upper ? VMM_PAGING_UPPER : 0);
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct vmm_error err = VMM_ERROR_INIT;
        assert_int_equal(vmm_page_table_map(t, base, 0, four, rights, 0, &err), 0);
        assert_int_equal(vmm_page_table_used(t), g->used);
        assert_int_equal(vmm_page_table_context(t, &c), 0);
        for (unsigned n = 0; n < 50; n++) {
            uint64_t at = n ? random64() % four : four - 1;
            struct vmm_translation r = walk(*state, &c, base + at, VMM_ACCESS_WRITE);
            assert_int_equal(r.physical, at);
            assert_int_equal(r.page_size, g->block);
            assert_int_equal(walk(*state, &c, base + at, VMM_ACCESS_USER).reason, VMM_FAULT_USER);
        }
        assert_int_equal(walk(*state, &c, base + four, 0).reason, VMM_FAULT_ABSENT);
        /* Pages of each side of a block, then what cannot be. */
        uint64_t at = base + four + g->block - g->page;
        assert_int_equal(vmm_page_table_map(t, at, 0x10000000, 2 * g->page, rights, 0, &err), 0);
        assert_int_equal(walk(*state, &c, at + g->page + 5, 0).physical, 0x10000005 + g->page);
        assert_int_equal(vmm_page_table_map(t, at, 0, g->page, rights, 0, &err), -EEXIST);
        assert_int_equal(vmm_page_table_map(t, at + 4, 0, g->page, rights, 0, &err), -EINVAL);
        assert_int_equal(
            vmm_page_table_map(t, ~base & (UINT64_MAX << g->bits), 0, g->page, rights, 0, &err),
            -EINVAL); /* of the other tree */
        assert_int_equal(vmm_page_table_map(t, base + (UINT64_C(8) << 30), UINT64_C(1) << 48,
                                            g->page, rights, 0, &err),
                         -EINVAL);
        vmm_page_table_free(t);
    }
}

static void every_permission(void **state)
{
    const uint32_t managed = VMM_PAGING_HA | VMM_PAGING_HD;
    for (unsigned i = 0; i < 300; i++) {
        uint32_t flags = i % 3 == 0 ? 0 : i % 3 == 1 ? VMM_PAGING_HA : managed;
        struct vmm_page_table *t = make(*state, &geometries[i % GEOMETRIES], flags);
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        uint32_t p = (uint32_t)random64() & (0x77f | (i % 10 == 0 ? VMM_PAGE_KEY(15) : 0));
        bool fine = VMM_PAGE_KEY_OF(p) == 0 &&
                    (!(p & VMM_PAGE_DIRTY) || (flags == managed && (p & VMM_PAGE_WRITE)));
        assert_int_equal(vmm_page_table_map(t, 0, 0, 65536, p, 0, NULL), fine ? 0 : -EINVAL);
        assert_int_equal(vmm_page_table_context(t, &c), 0);
        struct vmm_translation r = walk(*state, &c, 0, VMM_ACCESS_ANY);
        assert_int_equal(r.reason, fine ? VMM_FAULT_NONE : VMM_FAULT_ABSENT);
        if (fine) /* without HA everything is accessed */
            assert_int_equal(r.permissions, p | (flags ? 0 : VMM_PAGE_ACCESSED));
        vmm_page_table_free(t);
    }
}

struct seen {
    struct vmm_page_range ranges[8];
    unsigned count;
};

static int see(void *ctx, const struct vmm_page_range *range)
{
    struct seen *seen = ctx;
    assert_true(seen->count < 8);
    seen->ranges[seen->count++] = *range;
    return 0;
}

static void ranges_of_both_trees(void **state)
{
    struct vmm_paging_context c = context4k(), none = VMM_PAGING_CONTEXT_INIT;
    struct seen seen = {.count = 0};
    one_page(*state, 0x5000 | PAGE | USER);
    put(*state, 0x4000, 0x146, 0x8000 | PAGE | USER);
    put(*state, 0x9000, 511, 0xa000 | TABLE);
    put(*state, 0xa000, 511, 0x40000000 | BLOCK); /* the last GiB there is */
    assert_int_equal(vmm_paging_ranges(*state, &c, NULL, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.ranges[0].address, 0x12345000);
    assert_int_equal(seen.ranges[0].length, 0x2000);
    assert_int_equal(seen.ranges[1].address, UINT64_MAX - 0x3fffffff);
    assert_int_equal(seen.ranges[1].length, 0x40000000);
    assert_int_equal(seen.ranges[1].physical, 0x40000000);
    /* With the MMU off all physical addresses are mapped. */
    none.virtual_bits = 52;
    seen.count = 0;
    assert_int_equal(vmm_paging_ranges(*state, &none, NULL, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.ranges[0].length, UINT64_C(1) << 52);
    assert_int_equal(walk(*state, &none, UINT64_C(1) << 51, 0).physical, UINT64_C(1) << 51);
    assert_int_equal(walk(*state, &none, UINT64_C(1) << 52, 0).reason, VMM_FAULT_ADDRESS);
}

static void cached(void **state)
{
    struct vmm_paging_context c = context4k();
    struct vmm_translator *t;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    struct vmm_translator_stats stats = VMM_TRANSLATOR_STATS_INIT;
    uint64_t value = 0;
    c.flags = VMM_PAGING_HA;
    one_page(*state, (0x5000 | PAGE) & ~UINT64_C(0x400));
    assert_int_equal(vmm_translator_new(*state, NULL, &t), 0);
    assert_int_equal(vmm_translator_set_context(t, &c), 0);
    assert_int_equal(vmm_translator_lookup(t, 0x12345678, 0, &l), 0);
    assert_int_equal(l.physical, 0x5678);
    one_page(*state, 0x5000 | PAGE); /* the access flag alone changes nothing */
    assert_int_equal(vmm_translator_lookup(t, 0x12345678, 0, &l), 0);
    assert_int_equal(vmm_translator_get_stats(t, &stats), 0);
    assert_int_equal(stats.hits, 1);
    one_page(*state, 0x6000 | PAGE);
    assert_int_equal(vmm_translator_lookup(t, 0x12345678, 0, &l), 0);
    assert_int_equal(l.physical, 0x6678);
    /* Pointers are of 8 bytes. */
    assert_int_equal(vmm_memory_store_u64(*state, 0x6008, KERNEL + 0x10), 0);
    assert_int_equal(vmm_translator_follow(t, 0x12345000, (const uint64_t[]){8, 0x20}, 2, &value),
                     0);
    assert_int_equal(value, KERNEL + 0x30);
    one_page(*state, 0);
    assert_int_equal(vmm_translator_lookup(t, 0x12345678, 0, &l), -EFAULT);
    vmm_translator_free(t);
}

static void bad_contexts(void **state)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *table;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    static const struct {
        uint32_t format, lower, upper, address_bits;
    } cases[] = {
        {VMM_PAGE_FORMAT_ARM64_4K, 15, 0, 0},   {VMM_PAGE_FORMAT_ARM64_4K, 48, 49, 0},
        {VMM_PAGE_FORMAT_ARM64_4K, 52, 0, 0},   {VMM_PAGE_FORMAT_ARM64_16K, 49, 0, 0},
        {VMM_PAGE_FORMAT_ARM64_64K, 53, 0, 0},  {VMM_PAGE_FORMAT_ARM64_64K, 16, 0, 0},
        {VMM_PAGE_FORMAT_ARM64_4K, 48, 48, 52}, {VMM_PAGE_FORMAT_ARM64_64K, 48, 48, 31},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        c.format = cases[i].format;
        c.virtual_bits = cases[i].lower;
        c.upper_bits = cases[i].upper;
        c.address_bits = cases[i].address_bits;
        assert_int_equal(vmm_paging_translate(*state, &c, 0, 0, &t), -EINVAL);
    }
    o.format = VMM_PAGE_FORMAT_ARM64_64K;
    o.table_start = TABLES + 4096;
    o.table_length = 65536;
    assert_int_equal(vmm_page_table_new(*state, &o, &table, NULL), -EINVAL);
    o.table_start = TABLES;
    o.table_length = 65536 + 4096;
    assert_int_equal(vmm_page_table_new(*state, &o, &table, NULL), -EINVAL);
}

/* Roots anywhere, noise in the tables: every walk ends and touches nothing outside memory. */
static void noise(void **state)
{
    for (unsigned round = 0; round < 60; round++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct vmm_translation t = VMM_TRANSLATION_INIT;
        for (uint64_t at = 0; at < 0x40000; at += 8)
            assert_int_equal(vmm_memory_store_u64(*state, at, random64() | (one_in(8) ? 0 : 3)), 0);
        c.format = VMM_PAGE_FORMAT_ARM64_4K + round % 3;
        c.virtual_bits = 18 + (uint32_t)(random64() % 31);
        c.upper_bits = 18 + (uint32_t)(random64() % 31);
        c.root = random64() & (one_in(4) ? UINT64_MAX : 0x3ffff);
        c.upper_root = random64() & 0x3ffff;
        c.flags = (uint32_t)random64() & 0x1fffff & ~VMM_PAGING_TOP_CACHED;
        for (unsigned i = 0; i < 200; i++) {
            uint64_t address = random64() >> random64() % 64;
            uint32_t access = (uint32_t)random64() & 0x2f;
            if (access & VMM_ACCESS_WRITE)
                access &= ~VMM_ACCESS_EXECUTE;
            int r = vmm_paging_translate(*state, &c, one_in(2) ? ~address : address, access, &t);
            assert_true(r == 0 || r == -EFAULT || r == -EAGAIN);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(rights, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_take_rights_away, setup, teardown),
        cmocka_unit_test_setup_teardown(flags_and_dirt, setup, teardown),
        cmocka_unit_test_setup_teardown(two_trees_and_tags, setup, teardown),
        cmocka_unit_test_setup_teardown(small_top_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(wide_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(built_and_walked, setup, teardown),
        cmocka_unit_test_setup_teardown(every_permission, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_of_both_trees, setup, teardown),
        cmocka_unit_test_setup_teardown(cached, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_contexts, setup, teardown),
        cmocka_unit_test_setup_teardown(noise, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
