/* SPDX-License-Identifier: BSD-3-Clause */
/* The walker against a model written from the manual in another way, and on hostile tables. */
#include "test.h"

#include <errno.h>

#include <libvmm/memory.h>
#include <libvmm/paging.h>

#include "paging-random.h"

#define PAGES 24u
#define BASE  0x10000u

struct fixture {
    struct vmm_memory *memory;
    uint8_t *shadow; /* a copy of the tables for the model */
};

/* The model: a question at a time, nothing shared with the library ------------------------------ */

struct model {
    struct vmm_paging_context c;
    const uint8_t *tables;
};

struct verdict {
    bool ok;
    uint64_t physical, size;
    uint32_t code;
};

static bool flag(const struct model *m, uint32_t f)
{
    return (m->c.flags & f) != 0;
}

static bool fetch(const struct model *m, uint64_t address, unsigned width, uint64_t *e)
{
    *e = 0;
    if (address < BASE || address - BASE > PAGES * 4096 - width)
        return false;
    memcpy(e, m->tables + (address - BASE), width);
    return true;
}

static bool is_long(const struct model *m)
{
    return m->c.format >= VMM_PAGE_FORMAT_X86_4LEVEL;
}

/* Entry `e` at `depth` levels above the page table (0). */
static bool is_page(const struct model *m, uint64_t e, int depth)
{
    if (depth == 0)
        return true;
    if (!(e & 0x80))
        return false;
    switch (m->c.format) {
    case VMM_PAGE_FORMAT_X86_32:
        return depth == 1 && flag(m, VMM_PAGING_PSE);
    case VMM_PAGE_FORMAT_X86_PAE:
        return depth == 1;
    default:
        return depth == 1 || (depth == 2 && flag(m, VMM_PAGING_PAGES_1G));
    }
}

static bool reserved(const struct model *m, uint64_t e, int depth)
{
    unsigned width = m->c.address_bits;
    if (m->c.format == VMM_PAGE_FORMAT_X86_32) {
        if (!is_page(m, e, depth) || depth == 0)
            return false;
        unsigned usable = flag(m, VMM_PAGING_PSE36) ? (width > 40 ? 40 : width) : 32;
        for (unsigned bit = 13; bit <= 21; bit++)
            if ((e >> bit & 1) && (bit == 21 || bit + 19 >= usable))
                return true;
        return false;
    }
    for (unsigned bit = width; bit < 52; bit++)
        if (e >> bit & 1)
            return true;
    if (m->c.format == VMM_PAGE_FORMAT_X86_PAE) {
        for (unsigned bit = 52; bit < 63; bit++)
            if (e >> bit & 1)
                return true;
        if (depth == 2)
            return (e & 0x1e6) || e >> 63;
    }
    if (e >> 63 && !flag(m, VMM_PAGING_NX))
        return true;
    if (is_long(m)) {
        if (depth >= 3 && ((e & 0x80) || (flag(m, VMM_PAGING_AMD) && (e & 0x100))))
            return true;
        if (depth == 2 && (e & 0x80) && !flag(m, VMM_PAGING_PAGES_1G))
            return true;
    }
    if (depth == 1 && is_page(m, e, 1))
        return (e & 0x1fe000) != 0;
    if (depth == 2 && is_page(m, e, 2))
        return (e & 0x3fffe000) != 0;
    return false;
}

/* Rights as the table at the end of SDM 3, 4.6.1 reads; *pk is the key's word. */
static bool allowed(const struct model *m, bool w, bool u, bool x, unsigned key, uint32_t access,
                    bool *pk)
{
    bool write = access & VMM_ACCESS_WRITE, fetching = access & VMM_ACCESS_EXECUTE;
    bool user = access & VMM_ACCESS_USER, wp = flag(m, VMM_PAGING_WP);
    *pk = false;
    if (is_long(m) && !fetching) {
        uint32_t rights = (u ? m->c.user_keys : m->c.supervisor_keys) >> (key * 2) & 3;
        bool on = flag(m, u ? VMM_PAGING_PKU : VMM_PAGING_PKS);
        *pk = on && ((rights & 1) || ((rights & 2) && write && (wp || (u && user))));
    }
    if (*pk)
        return false;
    if (user) {
        if (!u)
            return false;
        return fetching ? x : write ? w : true;
    }
    if (fetching)
        return x && !(u && flag(m, VMM_PAGING_SMEP));
    if (u && flag(m, VMM_PAGING_SMAP) && !(access & VMM_ACCESS_AC))
        return false;
    return !write || w || !wp;
}

static uint32_t base_code(const struct model *m, uint32_t access)
{
    bool nxe = flag(m, VMM_PAGING_NX) && m->c.format != VMM_PAGE_FORMAT_X86_32;
    bool id = (access & VMM_ACCESS_EXECUTE) && (nxe || flag(m, VMM_PAGING_SMEP));
    return (access & VMM_ACCESS_WRITE ? 2u : 0) | (access & VMM_ACCESS_USER ? 4u : 0) |
           (id ? 16u : 0);
}

static struct verdict ask_model(const struct model *m, uint64_t va, uint32_t access)
{
    static const int depths[] = {0, 2, 3, 4, 5};
    struct verdict no = {.code = base_code(m, access)};
    bool old = m->c.format == VMM_PAGE_FORMAT_X86_32;
    unsigned width = old ? 4 : 8, index_bits = old ? 10 : 9;
    uint64_t table = m->c.root & (m->c.format == VMM_PAGE_FORMAT_X86_PAE ? ~0x1full : ~0xfffull);
    bool w = true, u = true, x = true;
    for (int depth = depths[m->c.format] - 1; depth >= 0; depth--) {
        unsigned shift = 12 + index_bits * (unsigned)depth;
        uint64_t index = va >> shift & ((1u << index_bits) - 1);
        uint64_t e;
        if (m->c.format == VMM_PAGE_FORMAT_X86_PAE && depth == 2)
            index &= 3;
        if (!fetch(m, table + index * width, width, &e) || !(e & 1))
            return no;
        if (reserved(m, e, depth)) {
            no.code |= 9;
            return no;
        }
        if (!(m->c.format == VMM_PAGE_FORMAT_X86_PAE && depth == 2)) {
            w = w && (e & 2);
            u = u && (e & 4);
            x = x && (old || !(e >> 63));
        }
        if (is_page(m, e, depth)) {
            bool pk;
            if (!(access & VMM_ACCESS_ANY) && !allowed(m, w, u, x, e >> 59 & 15, access, &pk)) {
                no.code |= 1u | (pk ? 32u : 0);
                return no;
            }
            uint64_t size = 1ull << shift;
            uint64_t frame = old ? (e & 0xffffffff) : (e & 0xffffffffff000ull);
            if (old && depth == 1)
                frame |= (e >> 13 & 0xff) << 32;
            return (struct verdict){
                .ok = true, .physical = (frame & ~(size - 1)) | (va & (size - 1)), .size = size};
        }
        table = e & (old ? 0xfffff000ull : 0xffffffffff000ull);
    }
    return no;
}

/* Tests ---------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(vmm_memory_new(NULL, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "tables", BASE, PAGES * 4096, NULL, NULL), 0);
    f->shadow = malloc(PAGES * 4096);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vmm_memory_unref(f->memory);
    free(f->shadow);
    free(f);
    return 0;
}

static void put64(struct fixture *f, uint64_t address, uint64_t value)
{
    assert_int_equal(vmm_memory_write(f->memory, address, &value, 8), 0);
}

static uint64_t get64(struct fixture *f, uint64_t address)
{
    uint64_t value;
    assert_int_equal(vmm_memory_read(f->memory, address, &value, 8), 0);
    return value;
}

static void random_context(struct vmm_paging_context *c, uint32_t format)
{
    static const uint32_t widths[] = {32, 36, 40, 48, 52};
    *c = (struct vmm_paging_context)VMM_PAGING_CONTEXT_INIT;
    c->format = format;
    c->flags = (uint32_t)random64() & (VMM_PAGING_TOP_CACHED - 1);
    c->root = BASE | (random64() & 0x1f);
    c->address_bits = widths[random64() % 5];
    c->user_keys = (uint32_t)random64();
    c->supervisor_keys = (uint32_t)random64();
}

static uint32_t random_access(void)
{
    if (one_in(16))
        return VMM_ACCESS_ANY;
    uint32_t a = (uint32_t)random64() & (VMM_ACCESS_USER | VMM_ACCESS_AC);
    switch (random64() % 3) {
    case 0:
        return a | VMM_ACCESS_WRITE;
    case 1:
        return a | VMM_ACCESS_EXECUTE;
    default:
        return a;
    }
}

static void agrees_with_the_model(void **state)
{
    struct fixture *f = *state;
    unsigned good = 0, bad = 0, codes = 0;
    for (unsigned round = 0; round < 400; round++) {
        struct model m = {.tables = f->shadow};
        random_context(&m.c, VMM_PAGE_FORMAT_X86_32 + round % 4);
        struct random_tables t = {.format = m.c.format,
                                  .address_bits = m.c.address_bits,
                                  .base = BASE,
                                  .pages = PAGES,
                                  .nx = (m.c.flags & VMM_PAGING_NX) != 0,
                                  .rare = 4 + (uint32_t)(random64() % 60)};
        random_fill(&t, f->shadow);
        assert_int_equal(vmm_memory_write(f->memory, BASE, f->shadow, PAGES * 4096), 0);
        for (unsigned i = 0; i < 1000; i++) {
            uint64_t va = random_virtual(m.c.format);
            uint32_t access = random_access();
            struct verdict v = ask_model(&m, va, access);
            struct vmm_translation tr = VMM_TRANSLATION_INIT;
            int r = vmm_paging_translate(f->memory, &m.c, va, access, &tr);
            assert_int_equal(r, v.ok ? 0 : -EFAULT);
            assert_int_equal(tr.code, v.ok ? 0 : v.code);
            assert_int_equal(tr.reason != VMM_FAULT_NONE, !v.ok);
            assert_int_equal(tr.physical, v.physical);
            if (v.ok)
                assert_int_equal(tr.page_size, v.size);
            codes |= 1u << v.code % 32;
            v.ok ? good++ : bad++;
        }
    }
    /* The tables must be neither all good nor all bad, or nothing was tested. */
    assert_true(good > 50000);
    assert_true(bad > 50000);
    assert_true(__builtin_popcount(codes) > 10);
}

static void each_reason(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    c.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    c.flags = VMM_PAGING_NX | VMM_PAGING_WP | VMM_PAGING_SMEP | VMM_PAGING_SMAP | VMM_PAGING_PKU;
    c.root = BASE;
    c.address_bits = 40;
    put64(f, BASE, (BASE + 0x1000) | 7);
    put64(f, BASE + 0x1000, (BASE + 0x2000) | 7);
    put64(f, BASE + 0x2000, (BASE + 0x3000) | 7);
    uint64_t leaf = BASE + 0x3000;
    static const struct {
        uint64_t entry;
        uint32_t access, reason, code;
    } cases[] = {
        {0x5007, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_NONE, 0},
        {0x5006, 0, VMM_FAULT_ABSENT, 0},
        {0x5006, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_ABSENT, 6},
        {0x10000005007, VMM_ACCESS_EXECUTE, VMM_FAULT_RESERVED, 0x19},
        {0x5003, VMM_ACCESS_USER, VMM_FAULT_USER, 5},
        {0x5005, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_WRITE, 7},
        {0x5001, VMM_ACCESS_WRITE, VMM_FAULT_WRITE, 3},
        {1ull << 63 | 0x5003, VMM_ACCESS_EXECUTE, VMM_FAULT_EXECUTE, 0x11},
        {0x5007, VMM_ACCESS_EXECUTE, VMM_FAULT_USER_EXECUTE, 0x11},
        {0x5007, 0, VMM_FAULT_USER_ACCESS, 1},
        {0x5007, VMM_ACCESS_AC, VMM_FAULT_NONE, 0},
        {1ull << 59 | 0x5007, VMM_ACCESS_USER, VMM_FAULT_KEY, 0x25},
        {2ull << 59 | 0x5007, VMM_ACCESS_USER, VMM_FAULT_NONE, 0},
        {2ull << 59 | 0x5007, VMM_ACCESS_USER | VMM_ACCESS_WRITE, VMM_FAULT_KEY, 0x27},
    };
    c.user_keys = 1u << 2 | 2u << 4; /* key 1: no access, key 2: no write */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put64(f, leaf, cases[i].entry);
        int r = vmm_paging_translate(f->memory, &c, 0x123, cases[i].access, &t);
        assert_int_equal(t.reason, cases[i].reason);
        assert_int_equal(r, t.reason ? -EFAULT : 0);
        assert_int_equal(t.code, cases[i].code);
        assert_int_equal(t.physical, t.reason ? 0 : 0x5123);
        assert_int_equal(t.level, 1);
        assert_int_equal(t.entry, cases[i].entry);
        assert_int_equal(t.entry_address, leaf);
    }
    assert_int_equal(vmm_paging_translate(f->memory, &c, 1ull << 47, 0, &t), -EFAULT);
    assert_int_equal(t.reason, VMM_FAULT_ADDRESS);
    assert_int_equal(t.code, 0);
    put64(f, BASE + 0x2000, 0x7000000007);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_ANY, &t), -EFAULT);
    assert_int_equal(t.reason, VMM_FAULT_TABLE);
    assert_int_equal(t.entry_address, 0x7000000000);
}

static void marks_accessed_and_dirty(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    c.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    c.flags = VMM_PAGING_WP;
    c.root = BASE;
    uint64_t at[3] = {BASE, BASE + 0x1000, BASE + 0x2000};
    put64(f, at[0], at[1] | 3);
    put64(f, at[1], at[2] | 3);
    put64(f, at[2], 0x200083);
    /* A plain walk and a forbidden access leave no trace. */
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_WRITE, &t), 0);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_USER | VMM_ACCESS_MARK, &t),
                     -EFAULT);
    assert_int_equal(get64(f, at[0]), at[1] | 3);
    assert_int_equal(get64(f, at[2]), 0x200083);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_MARK, &t), 0);
    assert_int_equal(get64(f, at[0]), at[1] | 0x23);
    assert_int_equal(get64(f, at[1]), at[2] | 0x23);
    assert_int_equal(get64(f, at[2]), 0x2000a3);
    assert_int_equal(t.entry, 0x2000a3);
    assert_int_equal(t.permissions & (VMM_PAGE_ACCESSED | VMM_PAGE_DIRTY), VMM_PAGE_ACCESSED);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_MARK | VMM_ACCESS_WRITE, &t),
                     0);
    assert_int_equal(get64(f, at[1]), at[2] | 0x23);
    assert_int_equal(get64(f, at[2]), 0x2000e3);
    assert_true(t.permissions & VMM_PAGE_DIRTY);

    /* One entry used twice on the way down is marked once and that is no race without end. */
    put64(f, BASE, BASE | 3);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_MARK, &t), 0);
    assert_int_equal(get64(f, BASE), BASE | 0x23);
    /* PAE: the top entries have no accessed bit. */
    c.format = VMM_PAGE_FORMAT_X86_PAE;
    put64(f, at[0], at[1] | 1);
    put64(f, at[1], 0x200083);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_MARK | VMM_ACCESS_WRITE, &t),
                     0);
    assert_int_equal(get64(f, at[0]), at[1] | 1);
    assert_int_equal(get64(f, at[1]), 0x2000e3);
}

static void cached_top_entries(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    c.format = VMM_PAGE_FORMAT_X86_PAE;
    c.flags = VMM_PAGING_TOP_CACHED;
    c.root = UINT64_MAX; /* not looked at */
    c.top_entries[2] = BASE | 1;
    put64(f, BASE + 8, 0x400083);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0x80200010, VMM_ACCESS_MARK, &t), 0);
    assert_int_equal(t.physical, 0x400010);
    assert_int_equal(get64(f, BASE + 8), 0x4000a3);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0x40200010, 0, &t), -EFAULT);
    assert_int_equal(t.reason, VMM_FAULT_ABSENT);
    assert_int_equal(t.level, 3);
    assert_int_equal(t.entry_address, UINT64_MAX);
}

static void paging_off(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0xfedcba98, VMM_ACCESS_WRITE, &t), 0);
    assert_int_equal(t.physical, 0xfedcba98);
    assert_int_equal(t.level, 0);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 1ull << 32, 0, &t), -EFAULT);
    assert_int_equal(t.reason, VMM_FAULT_ADDRESS);
}

static void bad_input(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    assert_int_equal(vmm_paging_translate(NULL, &c, 0, 0, &t), -EINVAL);
    assert_int_equal(vmm_paging_translate(f->memory, NULL, 0, 0, &t), -EINVAL);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, NULL), -EINVAL);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0x40, &t), -EINVAL);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_ANY | VMM_ACCESS_USER, &t),
                     -EINVAL);
    assert_int_equal(
        vmm_paging_translate(f->memory, &c, 0, VMM_ACCESS_WRITE | VMM_ACCESS_EXECUTE, &t), -EINVAL);
    c.format = VMM_PAGE_FORMAT_ARM64_64K + 1;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    c.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    c.address_bits = 53;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    c.address_bits = 31;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    c.address_bits = 0;
    c.reserved = 1;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    c.reserved = 0;
    c.size = 4;
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    t.size = 4;
    c.size = sizeof(c);
    assert_int_equal(vmm_paging_translate(f->memory, &c, 0, 0, &t), -EINVAL);
    assert_string_equal(vmm_fault_name(VMM_FAULT_KEY), "key");
    assert_string_equal(vmm_fault_name(VMM_FAULT_ACCESS_FLAG + 1), "unknown");
    assert_string_equal(vmm_page_format_name(VMM_PAGE_FORMAT_X86_5LEVEL), "5-level");
    assert_string_equal(vmm_page_format_name(8), "unknown");
}

/* Roots anywhere, pages of noise: every walk ends, nothing outside memory is touched. */
static void noise(void **state)
{
    struct fixture *f = *state;
    for (unsigned round = 0; round < 200; round++) {
        struct vmm_paging_context c;
        struct vmm_translation t = VMM_TRANSLATION_INIT;
        for (size_t i = 0; i < PAGES * 4096; i += 8) {
            uint64_t word = random64();
            memcpy(f->shadow + i, &word, 8);
        }
        assert_int_equal(vmm_memory_write(f->memory, BASE, f->shadow, PAGES * 4096), 0);
        random_context(&c, VMM_PAGE_FORMAT_X86_32 + round % 4);
        if (one_in(2))
            c.root = random64();
        for (unsigned i = 0; i < 100; i++) {
            int r = vmm_paging_translate(f->memory, &c, random64(),
                                         random_access() & ~VMM_ACCESS_ANY, &t);
            assert_true(r == 0 || r == -EFAULT);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(agrees_with_the_model, setup, teardown),
        cmocka_unit_test_setup_teardown(each_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(marks_accessed_and_dirty, setup, teardown),
        cmocka_unit_test_setup_teardown(cached_top_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(paging_off, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_input, setup, teardown),
        cmocka_unit_test_setup_teardown(noise, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
