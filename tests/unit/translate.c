/* SPDX-License-Identifier: BSD-3-Clause */
/* The translation cache: right after every kind of change, and its readers on bad input. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <libvmm/memory.h>
#include <libvmm/translate.h>

#include "paging-random.h"

#define RAM    (8u << 20)
#define TABLES 0x100000u
#define RW     VMM_PAGE_WRITE
#define HIGH   0xffff800000000000ull

struct fixture {
    struct vmm_memory *memory;
    struct vmm_page_table *table;
    struct vmm_translator *translator;
    struct vmm_paging_context context;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    assert_int_equal(vmm_memory_new(NULL, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, RAM, NULL, NULL), 0);
    o.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    o.flags = VMM_PAGING_NX | VMM_PAGING_WP;
    o.address_bits = 40;
    o.table_start = TABLES;
    o.table_length = 0x100000;
    assert_int_equal(vmm_page_table_new(f->memory, &o, &f->table, NULL), 0);
    assert_int_equal(vmm_page_table_map(f->table, HIGH, 0x200000, 0x10000, RW, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(f->table, HIGH + 0x200000, 0x400000, 0x200000, 0, 0, NULL),
                     0);
    f->context = (struct vmm_paging_context)VMM_PAGING_CONTEXT_INIT;
    assert_int_equal(vmm_page_table_context(f->table, &f->context), 0);
    assert_int_equal(vmm_translator_new(f->memory, NULL, &f->translator), 0);
    assert_int_equal(vmm_translator_set_context(f->translator, &f->context), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vmm_translator_free(f->translator);
    vmm_page_table_free(f->table);
    vmm_memory_unref(f->memory);
    free(f);
    return 0;
}

static void put64(struct fixture *f, uint64_t address, uint64_t value)
{
    assert_int_equal(vmm_memory_write(f->memory, address, &value, 8), 0);
}

/* The leaf entry of an address. */
static uint64_t leaf_of(struct fixture *f, uint64_t address, uint64_t *entry)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    assert_int_equal(vmm_paging_translate(f->memory, &f->context, address, VMM_ACCESS_ANY, &t), 0);
    *entry = t.entry;
    return t.entry_address;
}

static struct vmm_translator_stats stats(struct fixture *f)
{
    struct vmm_translator_stats s = VMM_TRANSLATOR_STATS_INIT;
    assert_int_equal(vmm_translator_get_stats(f->translator, &s), 0);
    return s;
}

static uint64_t where(struct fixture *f, uint64_t address)
{
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    int r = vmm_translator_lookup(f->translator, address, 0, &l);
    return r == 0 ? l.physical : UINT64_MAX;
}

static void hits_and_points(void **state)
{
    struct fixture *f = *state;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    uint64_t magic = 0x1122334455667788ull, seen;
    put64(f, 0x201234, magic);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(vmm_translator_lookup(f->translator, HIGH + 0x1234, 0, &l), 0);
        assert_int_equal(l.physical, 0x201234);
        assert_int_equal(l.length, 4096 - 0x234);
        memcpy(&seen, l.data, 8);
        assert_int_equal(seen, magic);
    }
    assert_int_equal(stats(f).misses, 1);
    assert_int_equal(stats(f).hits, 2);
    /* Accessed and dirty bits are no news. */
    uint64_t entry, at = leaf_of(f, HIGH + 0x1234, &entry);
    put64(f, at, entry | 0x60);
    assert_int_equal(where(f, HIGH + 0x1234), 0x201234);
    assert_int_equal(stats(f).hits, 3);
}

static void notices_changed_entries(void **state)
{
    struct fixture *f = *state;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    uint64_t entry, at = leaf_of(f, HIGH, &entry);
    assert_int_equal(where(f, HIGH), 0x200000);
    put64(f, at, (entry & ~0xffffff000ull) | 0x300000);
    assert_int_equal(where(f, HIGH), 0x300000);
    assert_int_equal(stats(f).stale, 1);
    put64(f, at, 0);
    assert_int_equal(where(f, HIGH), UINT64_MAX);
    assert_int_equal(vmm_translator_fault(f->translator, &t), 0);
    assert_int_equal(t.reason, VMM_FAULT_ABSENT);
    put64(f, at, entry);
    assert_int_equal(where(f, HIGH), 0x200000);
    /* The top entry: everything below it is elsewhere. */
    uint64_t top, root = TABLES + 256 * 8;
    assert_int_equal(vmm_memory_read(f->memory, root, &top, 8), 0);
    put64(f, root, 0);
    assert_int_equal(where(f, HIGH), UINT64_MAX);
    put64(f, root, top);
    assert_int_equal(where(f, HIGH), 0x200000);
    /* A large page that is split. */
    assert_int_equal(where(f, HIGH + 0x201000), 0x401000);
    at = leaf_of(f, HIGH + 0x200000, &entry);
    put64(f, at, 0x600003);
    put64(f, 0x600008, 0x7000 | 3);
    assert_int_equal(where(f, HIGH + 0x201000), 0x7000);
}

static void rights_are_kept_apart(void **state)
{
    struct fixture *f = *state;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    uint64_t ro = HIGH + 0x200000;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vmm_translator_lookup(f->translator, ro, 0, &l), 0);
        assert_int_equal(vmm_translator_lookup(f->translator, ro, VMM_ACCESS_WRITE, &l), -EFAULT);
        assert_int_equal(vmm_translator_fault(f->translator, &t), 0);
        assert_int_equal(t.reason, VMM_FAULT_WRITE);
        assert_int_equal(t.code, 3);
        assert_int_equal(vmm_translator_lookup(f->translator, ro, VMM_ACCESS_USER, &l), -EFAULT);
        assert_int_equal(vmm_translator_lookup(f->translator, ro, VMM_ACCESS_EXECUTE, &l), -EFAULT);
        assert_int_equal(vmm_translator_lookup(f->translator, ro, VMM_ACCESS_ANY, &l), 0);
    }
    /* Rights that the guest takes away. */
    uint64_t entry, at = leaf_of(f, HIGH, &entry);
    assert_int_equal(vmm_translator_lookup(f->translator, HIGH, VMM_ACCESS_WRITE, &l), 0);
    put64(f, at, entry & ~2ull);
    assert_int_equal(vmm_translator_lookup(f->translator, HIGH, VMM_ACCESS_WRITE, &l), -EFAULT);
}

static void contexts(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context other = f->context;
    assert_int_equal(where(f, HIGH), 0x200000);
    /* A second address space, whose tables lie at 0x300000. */
    other.root = 0x300000;
    put64(f, 0x300000 + 256 * 8, 0x301003);
    put64(f, 0x301000, 0x302003);
    put64(f, 0x302000, 0x600083);
    assert_int_equal(vmm_translator_set_context(f->translator, &other), 0);
    assert_int_equal(where(f, HIGH), 0x600000);
    assert_int_equal(vmm_translator_set_context(f->translator, &f->context), 0);
    assert_int_equal(where(f, HIGH), 0x200000);
    uint64_t misses = stats(f).misses;
    assert_int_equal(vmm_translator_set_context(f->translator, &other), 0);
    assert_int_equal(where(f, HIGH), 0x600000);
    assert_int_equal(stats(f).misses, misses);
    /* So many that the first are forgotten, then those again. */
    for (unsigned i = 0; i < 40; i++) {
        other.user_keys = i;
        assert_int_equal(vmm_translator_set_context(f->translator, &other), 0);
        assert_int_equal(where(f, HIGH), 0x600000);
    }
    assert_int_equal(vmm_translator_set_context(f->translator, &f->context), 0);
    assert_int_equal(where(f, HIGH), 0x200000);
}

static void entries_of_pae_that_become_reserved(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    c.format = VMM_PAGE_FORMAT_X86_PAE;
    c.root = 0x300000;
    put64(f, 0x300000, 0x301001);
    put64(f, 0x301000, 0x600083);
    assert_int_equal(vmm_translator_set_context(f->translator, &c), 0);
    assert_int_equal(where(f, 5), 0x600005);
    put64(f, 0x301000, 0x6000a3);
    assert_int_equal(where(f, 5), 0x600005);
    put64(f, 0x300000, 0x301021);
    assert_int_equal(where(f, 5), UINT64_MAX);
    /* 32-bit tables: two neighbouring entries are not one. */
    c.format = VMM_PAGE_FORMAT_X86_32;
    put64(f, 0x300000, 0x0000000000302003ull);
    put64(f, 0x302000, 0x0000500300004003ull);
    assert_int_equal(vmm_translator_set_context(f->translator, &c), 0);
    uint64_t stale = stats(f).stale;
    assert_int_equal(where(f, 0), 0x4000);
    put64(f, 0x302000, 0x0000600300004003ull);
    assert_int_equal(where(f, 0), 0x4000);
    assert_int_equal(where(f, 0x1000), 0x6000);
    assert_int_equal(stats(f).stale, stale);
}

/* Random tables that keep changing: the cache and the walker always agree. */
static void agrees_while_tables_change(void **state)
{
    struct fixture *f = *state;
    static uint8_t pages[16 * 4096];
    uint64_t hits = 0, good = 0;
    for (uint32_t format = VMM_PAGE_FORMAT_X86_32; format <= VMM_PAGE_FORMAT_X86_5LEVEL; format++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct random_tables t = {
            .format = format, .base = 0x300000, .pages = 16, .address_bits = 40, .nx = true};
        uint64_t addresses[64];
        t.rare = 40;
        random_fill(&t, pages);
        assert_int_equal(vmm_memory_write(f->memory, 0x300000, pages, sizeof(pages)), 0);
        c.format = format;
        c.flags = VMM_PAGING_NX | VMM_PAGING_PSE | VMM_PAGING_WP;
        c.address_bits = 40;
        c.root = 0x300000;
        assert_int_equal(vmm_translator_set_context(f->translator, &c), 0);
        for (unsigned i = 0; i < 64; i++)
            addresses[i] = random_virtual(format);
        for (unsigned i = 0; i < 40000; i++) {
            struct vmm_translation tr = VMM_TRANSLATION_INIT;
            struct vmm_lookup l = VMM_LOOKUP_INIT;
            uint64_t a = addresses[random64() % 64];
            uint32_t access = one_in(2) ? 0 : VMM_ACCESS_WRITE | VMM_ACCESS_USER;
            int want = vmm_paging_translate(f->memory, &c, a, access, &tr);
            assert_int_equal(vmm_translator_lookup(f->translator, a, access, &l), want);
            if (want == 0) {
                good++;
                assert_int_equal(l.physical, tr.physical);
                bool ram = tr.physical < RAM;
                assert_int_equal(l.data != NULL, ram);
            }
            if (!one_in(3))
                continue;
            /* Change an entry on somebody's way, or any. */
            uint64_t at = tr.entry_address - 0x300000 < sizeof(pages) && one_in(2)
                              ? tr.entry_address
                              : 0x300000 + random64() % sizeof(pages);
            uint64_t entry = random_entry64(&t);
            if (format == VMM_PAGE_FORMAT_X86_32)
                entry = random_entry32(&t);
            assert_int_equal(vmm_memory_write(f->memory, at & ~7ull, &entry, 8), 0);
        }
        hits += stats(f).hits;
    }
    assert_true(hits > 20000);
    assert_true(good > 20000);
}

static void reads_and_writes(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator *t = f->translator;
    uint8_t out[3 * 4096], in[3 * 4096];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(vmm_translator_write(t, HIGH + 0x800, out, sizeof(out), 0), 0);
    assert_int_equal(vmm_translator_read(t, HIGH + 0x800, in, sizeof(in), 0), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(vmm_memory_read(f->memory, 0x200800, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    /* Over the end of what is mapped: nothing is written. */
    assert_int_equal(vmm_translator_write(t, HIGH + 0xfff0, out, 32, 0), -EFAULT);
    assert_int_equal(vmm_translator_read(t, HIGH + 0xfff0, in, 16, 0), 0);
    assert_int_equal(in[0], 0);
    assert_int_equal(vmm_translator_read(t, HIGH + 0xfff0, in, 32, 0), -EFAULT);
    /* Read-only, unless nobody asks. */
    assert_int_equal(vmm_translator_write(t, HIGH + 0x200000, out, 8, 0), -EFAULT);
    assert_int_equal(vmm_translator_write(t, HIGH + 0x200000, out, 8, VMM_ACCESS_ANY), 0);
    uint32_t v32 = 0;
    uint64_t v64 = 0;
    put64(f, 0x200ffc, 0x1122334455667788ull);
    assert_int_equal(vmm_translator_read_u64(t, HIGH + 0xffc, &v64), 0);
    assert_int_equal(v64, 0x1122334455667788ull);
    assert_int_equal(vmm_translator_read_u32(t, HIGH + 0xffe, &v32), 0);
    assert_int_equal(v32, 0x33445566);
    assert_int_equal(vmm_translator_read_u32(t, 0, &v32), -EFAULT);
    assert_int_equal(vmm_translator_read(t, 0, NULL, 0, 0), 0);
    /* Mapped, but to no memory. */
    struct vmm_translation why = VMM_TRANSLATION_INIT;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    assert_int_equal(vmm_page_table_map(f->table, HIGH + 0x400000, 0xfee00000, 4096, RW, 0, NULL),
                     0);
    assert_int_equal(vmm_translator_read(t, HIGH + 0x400000, in, 4, 0), -EFAULT);
    assert_int_equal(vmm_translator_fault(t, &why), 0);
    assert_int_equal(why.reason, VMM_FAULT_NONE);
    assert_int_equal(why.physical, 0xfee00000);
    assert_int_equal(vmm_translator_write(t, HIGH + 0x400000, in, 4, 0), -EFAULT);
    assert_int_equal(vmm_translator_lookup(t, HIGH + 0x400010, 0, &l), 0);
    assert_null(l.data);
    assert_int_equal(l.physical, 0xfee00010);
}

static void strings(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator *t = f->translator;
    char text[64];
    assert_int_equal(vmm_memory_write(f->memory, 0x200ffa, "Hello, guest", 13), 0);
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, text, sizeof(text)), 12);
    assert_string_equal(text, "Hello, guest");
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, text, 13), -ENAMETOOLONG);
    assert_string_equal(text, "Hello, guest");
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, text, 6), -ENAMETOOLONG);
    assert_string_equal(text, "Hello");
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, text, 1), -ENAMETOOLONG);
    assert_string_equal(text, "");
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, text, 0), -EINVAL);
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xffa, NULL, 8), -EINVAL);
    assert_int_equal(vmm_translator_read_string(NULL, HIGH, text, 8), -EINVAL);
    /* No end before the mapping's, nor before the last address of all. */
    assert_int_equal(vmm_memory_fill(f->memory, 0x20fff0, 'x', 16), 0);
    assert_int_equal(vmm_translator_read_string(t, HIGH + 0xfff0, text, sizeof(text)), -EFAULT);
    assert_int_equal(
        vmm_page_table_map(f->table, 0xfffffffffffff000ull, 0x20f000, 4096, RW, 0, NULL), 0);
    assert_int_equal(vmm_translator_read_string(t, 0xfffffffffffffff0ull, text, sizeof(text)),
                     -EFAULT);
}

static int count_nodes(void *ctx, uint64_t node)
{
    uint64_t *n = ctx;
    (*n)++;
    return node == HIGH + 0x999 ? 5 : 0;
}

static void pointers_and_lists(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator *t = f->translator;
    uint64_t offsets[] = {8, 16, 24}, result = 0, n = 0;
    put64(f, 0x200008, HIGH + 0x100);
    put64(f, 0x200110, HIGH + 0x200);
    assert_int_equal(vmm_translator_follow(t, HIGH, offsets, 3, &result), 0);
    assert_int_equal(result, HIGH + 0x218);
    assert_int_equal(vmm_translator_follow(t, HIGH, offsets, 1, &result), 0);
    assert_int_equal(result, HIGH + 8);
    assert_int_equal(vmm_translator_follow(t, HIGH, offsets, 0, &result), -EINVAL);
    assert_int_equal(vmm_translator_follow(t, HIGH, NULL, 1, &result), -EINVAL);
    assert_int_equal(vmm_translator_follow(t, HIGH, offsets, 1, NULL), -EINVAL);
    assert_int_equal(vmm_translator_follow(t, 0, offsets, 2, &result), -EFAULT);
    /* head -> 0x1000 -> 0x2000 -> head */
    put64(f, 0x200300, HIGH + 0x1000);
    put64(f, 0x201000, HIGH + 0x2000);
    put64(f, 0x202000, HIGH + 0x300);
    assert_int_equal(vmm_translator_list(t, HIGH + 0x300, 2, count_nodes, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(vmm_translator_list(t, HIGH + 0x300, 1, count_nodes, &n), -ELOOP);
    /* A list that never comes back. */
    put64(f, 0x202000, HIGH + 0x1000);
    n = 0;
    assert_int_equal(vmm_translator_list(t, HIGH + 0x300, 1000, count_nodes, &n), -ELOOP);
    assert_int_equal(n, 1000);
    put64(f, 0x202000, 0x1234);
    assert_int_equal(vmm_translator_list(t, HIGH + 0x300, 1000, count_nodes, &n), -EFAULT);
    put64(f, 0x202000, HIGH + 0x999);
    assert_int_equal(vmm_translator_list(t, HIGH + 0x300, 1000, count_nodes, &n), 5);
    assert_int_equal(vmm_translator_list(t, HIGH, 1, NULL, &n), -EINVAL);
    assert_int_equal(vmm_translator_list(NULL, HIGH, 1, count_nodes, &n), -EINVAL);
}

static int add_lengths(void *ctx, const struct vmm_page_range *range)
{
    *(uint64_t *)ctx += range->length;
    return 0;
}

static void bad_input(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator *t = f->translator, *none = NULL;
    struct vmm_translator_options o = VMM_TRANSLATOR_OPTIONS_INIT;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    struct vmm_paging_context c = f->context;
    uint64_t total = 0;
    char byte;
    assert_int_equal(vmm_translator_new(NULL, NULL, &none), -EINVAL);
    assert_int_equal(vmm_translator_new(f->memory, NULL, NULL), -EINVAL);
    o.entries = (1u << 20) + 1;
    assert_int_equal(vmm_translator_new(f->memory, &o, &none), -EINVAL);
    o.entries = 0;
    o.reserved = 1;
    assert_int_equal(vmm_translator_new(f->memory, &o, &none), -EINVAL);
    assert_null(none);
    assert_null(vmm_translator_free(NULL));
    vmm_translator_flush(NULL);
    assert_int_equal(vmm_translator_lookup(NULL, 0, 0, &l), -EINVAL);
    assert_int_equal(vmm_translator_lookup(t, 0, 0, NULL), -EINVAL);
    assert_int_equal(vmm_translator_lookup(t, 0, VMM_ACCESS_MARK, &l), -EINVAL);
    assert_int_equal(vmm_translator_lookup(t, 0, 1u << 31, &l), -EINVAL);
    assert_int_equal(vmm_translator_lookup(t, 1ull << 50, 0, &l), -EFAULT);
    l.size = 8;
    assert_int_equal(vmm_translator_lookup(t, HIGH, 0, &l), -EINVAL);
    assert_int_equal(vmm_translator_read(t, UINT64_MAX, &byte, 2, 0), -EINVAL);
    assert_int_equal(vmm_translator_read(t, HIGH, NULL, 2, 0), -EINVAL);
    assert_int_equal(vmm_translator_read(NULL, HIGH, &byte, 1, 0), -EINVAL);
    assert_int_equal(vmm_translator_write(t, HIGH, &byte, 1, VMM_ACCESS_EXECUTE), -EINVAL);
    assert_int_equal(vmm_translator_write(t, UINT64_MAX, &byte, 2, 0), -EINVAL);
    assert_int_equal(vmm_translator_set_context(NULL, &c), -EINVAL);
    assert_int_equal(vmm_translator_set_context(t, NULL), -EINVAL);
    c.format = 77;
    assert_int_equal(vmm_translator_set_context(t, &c), -EINVAL);
    /* The old one is still there. */
    assert_int_equal(where(f, HIGH), 0x200000);
    assert_int_equal(vmm_translator_fault(t, NULL), -EINVAL);
    assert_int_equal(vmm_translator_get_stats(t, NULL), -EINVAL);
    assert_int_equal(vmm_translator_read_u32(t, HIGH, NULL), -EINVAL);
    assert_int_equal(vmm_translator_read_u64(t, HIGH, NULL), -EINVAL);
    assert_int_equal(vmm_translator_ranges(NULL, NULL, add_lengths, &total, NULL), -EINVAL);
    assert_int_equal(vmm_translator_ranges(t, NULL, add_lengths, &total, NULL), 0);
    assert_int_equal(total, 0x210000);
}

/* Memory that goes and comes: the same address is another page, or none. */
static void follows_the_memory_map(void **state)
{
    struct fixture *f = *state;
    struct vmm_memory_region *first, *second;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    const uint64_t hot = 0x40000000, va = HIGH + 0x400000, one = 1, two = 2;
    uint64_t seen;
    assert_int_equal(vmm_page_table_map(f->table, va, hot, 0x2000, RW, 0, NULL), 0);
    assert_int_equal(vmm_translator_lookup(f->translator, va, 0, &l), 0);
    assert_null(l.data);
    assert_int_equal(vmm_memory_add_ram(f->memory, "hot", hot, 0x10000, &first, NULL), 0);
    put64(f, hot, one);
    assert_int_equal(vmm_translator_read_u64(f->translator, va, &seen), 0);
    assert_int_equal(seen, one);
    assert_int_equal(vmm_translator_lookup(f->translator, va, 0, &l), 0);
    assert_int_equal(vmm_memory_remove(f->memory, first, NULL), 0);
    vmm_memory_region_unref(first);
    /* The pointer from before is still good, the memory is held until the next call. */
    memcpy(&seen, l.data, 8);
    assert_int_equal(seen, one);
    assert_int_equal(vmm_translator_read_u64(f->translator, va, &seen), -EFAULT);
    assert_int_equal(vmm_memory_add_ram(f->memory, "hot", hot, 0x10000, &second, NULL), 0);
    put64(f, hot, two);
    assert_int_equal(vmm_translator_read_u64(f->translator, va, &seen), 0);
    assert_int_equal(seen, two);
    assert_true(stats(f).flushes >= 3);
    vmm_memory_region_unref(second);
}

/* A guest that changes a leaf between two pages, each full of its own number, and the owner of the
 * map that adds and removes memory meanwhile. Whatever is read is one of the two pages, whole. */
struct churn {
    struct fixture *f;
    _Atomic bool stop;
    uint64_t leaf, entries[2];
};

static void *change_tables(void *arg)
{
    struct churn *c = arg;
    for (uint64_t i = 0; !c->stop; i++)
        (void)vmm_memory_write(c->f->memory, c->leaf, &c->entries[i & 1], 8);
    return NULL;
}

static void *change_map(void *arg)
{
    struct churn *c = arg;
    while (!c->stop) {
        struct vmm_memory_region *r;
        if (vmm_memory_add_ram(c->f->memory, "hot", 0x40000000, 0x10000, &r, NULL) != 0)
            break;
        (void)vmm_memory_remove(c->f->memory, r, NULL);
        vmm_memory_region_unref(r);
        usleep(2000);
    }
    return NULL;
}

static void right_while_others_write(void **state)
{
    struct fixture *f = *state;
    struct churn c = {.f = f};
    pthread_t threads[2];
    uint64_t counts[2] = {0, 0};
    assert_int_equal(vmm_memory_fill(f->memory, 0x500000, 0x55, 4096), 0);
    assert_int_equal(vmm_memory_fill(f->memory, 0x501000, 0xaa, 4096), 0);
    c.leaf = leaf_of(f, HIGH, &c.entries[0]);
    c.entries[0] = (c.entries[0] & ~0xffffff000ull) | 0x500000;
    c.entries[1] = c.entries[0] + 0x1000;
    put64(f, c.leaf, c.entries[0]);
    assert_int_equal(pthread_create(&threads[0], NULL, change_tables, &c), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, change_map, &c), 0);
    /* Until everything has been met; the other threads may be slow to get a processor. */
    for (unsigned i = 0;
         i < 200000 || (i < 400000000 && (!counts[0] || !counts[1] || !stats(f).stale)); i++) {
        uint64_t seen;
        assert_int_equal(vmm_translator_read_u64(f->translator, HIGH + i % 512 * 8, &seen), 0);
        assert_true(seen == 0x5555555555555555ull || seen == 0xaaaaaaaaaaaaaaaaull);
        counts[seen == 0x5555555555555555ull]++;
    }
    c.stop = true;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_true(counts[0] > 0);
    assert_true(counts[1] > 0);
    assert_true(stats(f).stale > 0);
}

/* More pieces of memory than are held at once, and a cache of one entry. */
static void small_caches(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator_options o = VMM_TRANSLATOR_OPTIONS_INIT;
    struct vmm_translator *t;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    o.entries = 1;
    assert_int_equal(vmm_translator_new(f->memory, &o, &t), 0);
    assert_int_equal(vmm_translator_set_context(t, &f->context), 0);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t offset = random64() % 0x10000;
        assert_int_equal(vmm_translator_lookup(t, HIGH + offset, 0, &l), 0);
        assert_int_equal(l.physical, 0x200000 + offset);
    }
    /* Paging off: a page in each of 1500 pieces of 1 GiB that are not there. */
    struct vmm_paging_context off = VMM_PAGING_CONTEXT_INIT;
    assert_int_equal(vmm_translator_set_context(t, &off), 0);
    for (uint64_t a = 0; a < 4000; a++) {
        assert_int_equal(vmm_translator_lookup(t, a << 20, 0, &l), 0);
        assert_int_equal(l.data != NULL, a << 20 < RAM);
    }
    struct vmm_translator_stats s = VMM_TRANSLATOR_STATS_INIT;
    assert_int_equal(vmm_translator_get_stats(t, &s), 0);
    assert_true(s.flushes > 0);
    vmm_translator_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hits_and_points, setup, teardown),
        cmocka_unit_test_setup_teardown(notices_changed_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(rights_are_kept_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(contexts, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_of_pae_that_become_reserved, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_while_tables_change, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_and_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(strings, setup, teardown),
        cmocka_unit_test_setup_teardown(pointers_and_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_input, setup, teardown),
        cmocka_unit_test_setup_teardown(follows_the_memory_map, setup, teardown),
        cmocka_unit_test_setup_teardown(right_while_others_write, setup, teardown),
        cmocka_unit_test_setup_teardown(small_caches, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
