/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU policies and topology on made-up hosts: an Intel server with AVX-512, an AMD server, and a small
 * old one. Bits are written as the manuals have them (SDM vol. 2, CPUID; APM vol. 3, appendix E).
 */
#include "vcpu/x86/cpuid.h"

#include "test.h"

#include <errno.h>
#include <string.h>

#define BIT(n) (1u << (n))

static void put(struct vmm_x86_cpuid *c, uint32_t leaf, int subleaf, uint32_t eax, uint32_t ebx,
                uint32_t ecx, uint32_t edx)
{
    const struct vmm_x86_cpuid_entry e = {.leaf = leaf,
                                          .subleaf = subleaf < 0 ? 0 : (uint32_t)subleaf,
                                          .indexed = subleaf >= 0,
                                          .eax = eax,
                                          .ebx = ebx,
                                          .ecx = ecx,
                                          .edx = edx};
    assert_int_equal(vmm_x86_cpuid_put(c, &e), 0);
}

/* What every 64-bit processor has in leaf 1 EDX, and level 3 in ECX, with the hypervisor bit. */
#define LEAF1_EDX 0x178bfbffu
#define LEAF1_ECX                                                                                  \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(21) |        \
     BIT(22) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30) | BIT(31))
#define LEAF7_EBX_V3 (BIT(3) | BIT(5) | BIT(8))
#define LEAF7_EBX_V4 (BIT(16) | BIT(17) | BIT(28) | BIT(30) | BIT(31))

static void put_kvm(struct vmm_x86_cpuid *c)
{
    put(c, 0x40000000, -1, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d); /* "KVMKVMKVM" */
    put(c, 0x40000001, -1, 0x01007efb, 0, 0, 0);
}

static void put_xsave(struct vmm_x86_cpuid *c, uint32_t features)
{
    uint32_t mask = 7u | features;
    put(c, 0xd, 0, mask, 576, (mask & 0x200) ? 2696 : (mask & 0xe0) ? 2688 : 832, 0);
    put(c, 0xd, 1, 0xf, 832, 0x1800, 0); /* XSS: the CET components */
    put(c, 0xd, 2, 256, 576, 0, 0);
    if (mask & 0xe0) {
        put(c, 0xd, 5, 64, 1088, 0, 0);
        put(c, 0xd, 6, 512, 1152, 0, 0);
        put(c, 0xd, 7, 1024, 1664, 0, 0);
    }
    if (mask & 0x200)
        put(c, 0xd, 9, 8, 2688, 0, 0);
    put(c, 0xd, 11, 16, 0, 1, 0);
    put(c, 0xd, 12, 24, 0, 1, 0);
}

static struct vmm_x86_cpuid *intel(void)
{
    struct vmm_x86_cpuid *c;
    assert_int_equal(vmm_x86_cpuid_new(NULL, &c), 0);
    put(c, 0, -1, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69); /* "GenuineIntel" */
    put(c, 1, -1, 0x50657, 0x01020800, LEAF1_ECX, LEAF1_EDX);
    put(c, 4, 0, 0x1c000121, 0x01c0003f, 63, 0);
    put(c, 4, 1, 0x1c000122, 0x01c0003f, 63, 0);
    put(c, 4, 2, 0x1c004143, 0x03c0003f, 1023, 0);
    put(c, 4, 3, 0x1c03c163, 0x0280003f, 36863, 4);
    put(c, 4, 4, 0, 0, 0, 0);
    put(c, 6, -1, 4, 0, 9, 0);
    put(c, 7, 0, 1,
        LEAF7_EBX_V3 | LEAF7_EBX_V4 | BIT(0) | BIT(7) | BIT(9) | BIT(10) | BIT(14) | BIT(20),
        BIT(1) | BIT(3) | BIT(9) | BIT(10) | BIT(12), BIT(4) | BIT(26) | BIT(29));
    put(c, 7, 1, BIT(4) | BIT(5), 1, 2, 3);
    put(c, 0xa, -1, 0x08300804, 0, 0, 0x603);
    put_xsave(c, 0x2e0 | 0x18);
    put(c, 0x80000000, -1, 0x80000008, 0, 0, 0);
    put(c, 0x80000001, -1, 0, 0, BIT(0) | BIT(5) | BIT(8),
        BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29));
    put(c, 0x80000002, -1, 0x65746e49, 0x2952286c, 0x6f655820, 0x2952286e);
    put(c, 0x80000007, -1, 0, 0, 0, BIT(8));
    put(c, 0x80000008, -1, 0x302e, 0, 0, 0);
    put_kvm(c);
    return c;
}

static struct vmm_x86_cpuid *amd(void)
{
    struct vmm_x86_cpuid *c;
    assert_int_equal(vmm_x86_cpuid_new(NULL, &c), 0);
    put(c, 0, -1, 0x10, 0x68747541, 0x444d4163, 0x69746e65); /* "AuthenticAMD" */
    put(c, 1, -1, 0x830f10, 0x05400800, LEAF1_ECX, LEAF1_EDX);
    put(c, 6, -1, 4, 0, 1, 0);
    put(c, 7, 0, 0, LEAF7_EBX_V3 | BIT(0) | BIT(7) | BIT(18) | BIT(20), BIT(2) | BIT(22), 0);
    put_xsave(c, 0);
    put(c, 0x80000000, -1, 0x80000026, 0x68747541, 0x444d4163, 0x69746e65);
    put(c, 0x80000001, -1, 0x830f10, 0x40000000,
        BIT(0) | BIT(1) | BIT(2) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(22), 0x2fd3fbff);
    put(c, 0x80000007, -1, 0, 0, 0, BIT(8));
    put(c, 0x80000008, -1, 0x3030, BIT(0) | BIT(2) | BIT(12), 0x707f, 0);
    put(c, 0x8000000a, -1, 1, 8, 0, 0x119b9cff);
    put(c, 0x8000001d, 0, 0x4121, 0x01c0003f, 63, 0);
    put(c, 0x8000001d, 1, 0x4122, 0x01c0003f, 63, 0);
    put(c, 0x8000001d, 2, 0x4143, 0x01c0003f, 1023, 2);
    put(c, 0x8000001d, 3, 0x1c163, 0x03c0003f, 16383, 1);
    put(c, 0x8000001d, 4, 0, 0, 0, 0);
    put(c, 0x8000001e, -1, 5, 0x102, 0x300, 0);
    put(c, 0x80000021, -1, 0x45, 0, 0, 0);
    put(c, 0x80000026, 0, 1, 2, 0x100, 5);
    put_kvm(c);
    return c;
}

/* No AVX, no XSAVE, and its highest leaf is below 0xb. */
static struct vmm_x86_cpuid *old(void)
{
    struct vmm_x86_cpuid *c;
    assert_int_equal(vmm_x86_cpuid_new(NULL, &c), 0);
    put(c, 0, -1, 5, 0x756e6547, 0x6c65746e, 0x49656e69);
    put(c, 1, -1, 0x6f6, 0x800, BIT(0) | BIT(13) | BIT(31), LEAF1_EDX & ~BIT(24)); /* no FXSR */
    put(c, 0x80000000, -1, 0x80000008, 0, 0, 0);
    put(c, 0x80000001, -1, 0, 0, BIT(0), BIT(11) | BIT(20) | BIT(29));
    return c;
}

static struct vmm_x86_cpuid *apply(struct vmm_x86_cpuid *c, const char *text)
{
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_x86_cpuid_apply_text(c, text, &err) != 0)
        fail_msg("%s: %s", text, err.text);
    return c;
}

static uint32_t reg(struct vmm_x86_cpuid *c, uint32_t leaf, uint32_t subleaf, enum cpuid_register r)
{
    struct vmm_x86_cpuid_entry *e = vmm_x86_cpuid_find(c, leaf, subleaf);
    assert_non_null(e);
    return *vmm_cpuid_register(e, r);
}

/* The table of names ---------------------------------------------------------------------------- */

static void every_feature_is_named_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < vmm_cpuid_feature_count; i++) {
        const struct cpuid_feature *f = &vmm_cpuid_features[i];
        assert_ptr_equal(vmm_cpuid_feature_by_name(f->name, strlen(f->name)), f);
        assert_true(f->bit < 32 && f->level <= 4);
        if (f->needs)
            assert_non_null(vmm_cpuid_feature_by_name(f->needs, strlen(f->needs)));
        for (size_t j = 0; j < i; j++) {
            const struct cpuid_feature *g = &vmm_cpuid_features[j];
            assert_false(f->leaf == g->leaf && f->subleaf == g->subleaf && f->reg == g->reg &&
                         f->bit == g->bit);
        }
        /* What a level has, its needs have at that level or below. */
        const struct cpuid_feature *n =
            f->needs ? vmm_cpuid_feature_by_name(f->needs, strlen(f->needs)) : NULL;
        if (f->level && n)
            assert_true(n->level && n->level <= f->level);
    }
    for (size_t i = 0; i < vmm_cpuid_need_count; i++) {
        const struct cpuid_need *n = &vmm_cpuid_needs[i];
        assert_non_null(vmm_cpuid_feature_by_name(n->name, strlen(n->name)));
        assert_non_null(vmm_cpuid_feature_by_name(n->needs, strlen(n->needs)));
    }
    assert_null(vmm_cpuid_feature_by_name("avx", 2));
    assert_null(vmm_cpuid_feature_by_name("av1", 3));
}

/* Policies ----------------------------------------------------------------------------------------- */

static void host_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"host", "", NULL, "host,", "+avx", "host,+avx,+sse"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct vmm_x86_cpuid *a = intel(), *b = intel();
        apply(a, texts[i]);
        assert_memory_equal(a, b, sizeof(*a));
        vmm_x86_cpuid_free(a);
        vmm_x86_cpuid_free(b);
    }
}

/* The psABI's table 3.1, by name: what a level adds. */
static const struct {
    const char *names[8];
} levels[] = {{{"cmov", "cx8", "fpu", "fxsr", "mmx", "sse2", "syscall", "lm"}},
              {{"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}},
              {{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}},
              {{"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}};

static void levels_show_what_they_name(void **state)
{
    (void)state;
    for (uint32_t level = 1; level <= 4; level++) {
        char text[] = "x86-64-v0";
        text[8] = (char)('0' + level);
        struct vmm_x86_cpuid *c = apply(intel(), text);
        for (uint32_t l = 1; l <= 4; l++)
            for (int i = 0; i < 8 && levels[l - 1].names[i]; i++)
                assert_int_equal(vmm_x86_cpuid_has(c, levels[l - 1].names[i]), l <= level);
        assert_int_equal(vmm_x86_cpuid_has(c, "xsave"), level >= 3);
        /* What kernels want is kept, what no level names is gone, unknown bits too. */
        assert_int_equal(vmm_x86_cpuid_has(c, "x2apic"), 1);
        assert_int_equal(vmm_x86_cpuid_has(c, "hypervisor"), 1);
        assert_int_equal(vmm_x86_cpuid_has(c, "nx"), 1);
        assert_int_equal(vmm_x86_cpuid_has(c, "aes"), 0);
        assert_int_equal(vmm_x86_cpuid_has(c, "mpx"), 0);
        assert_int_equal(vmm_x86_cpuid_has(c, "pku"), 0);
        assert_int_equal(reg(c, 7, 1, CPUID_EDX), 0);
        assert_int_equal(reg(c, 7, 1, CPUID_EBX), 0);
        assert_int_equal(reg(c, 0xa, 0, CPUID_EAX), 0);
        assert_int_equal(reg(c, 6, 0, CPUID_ECX), 0);
        /* The state components follow. */
        assert_int_equal(reg(c, 0xd, 0, CPUID_EAX), level < 3 ? 0 : level == 3 ? 7 : 0xe7);
        assert_int_equal(reg(c, 0xd, 0, CPUID_ECX), level < 3 ? 0 : level == 3 ? 832 : 2688);
        assert_int_equal(vmm_x86_cpuid_find(c, 0xd, 2) != NULL, level >= 3);
        assert_int_equal(vmm_x86_cpuid_find(c, 0xd, 5) != NULL, level >= 4);
        assert_null(vmm_x86_cpuid_find(c, 0xd, 9));
        assert_null(vmm_x86_cpuid_find(c, 0xd, 11)); /* no xsaves, no supervisor state */
        assert_int_equal(reg(c, 0xd, 1, CPUID_ECX), 0);
        vmm_x86_cpuid_free(c);
    }
}

/* A level is the same on both makers' hosts, register by register. */
static void levels_are_the_same_everywhere(void **state)
{
    static const struct {
        uint32_t leaf, subleaf;
        enum cpuid_register r;
    } words[] = {{1, 0, CPUID_ECX},         {1, 0, CPUID_EDX},          {7, 0, CPUID_EBX},
                 {7, 0, CPUID_ECX},         {7, 0, CPUID_EDX},          {0xd, 0, CPUID_EAX},
                 {0xd, 0, CPUID_ECX},       {0xd, 1, CPUID_EAX},        {6, 0, CPUID_EAX},
                 {6, 0, CPUID_ECX},         {0x80000001, 0, CPUID_ECX}, {0x80000007, 0, CPUID_EDX},
                 {0x80000008, 0, CPUID_EBX}};
    (void)state;
    struct vmm_x86_cpuid *a = apply(intel(), "x86-64-v3"), *b = apply(amd(), "x86-64-v3");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        assert_int_equal(reg(a, words[i].leaf, words[i].subleaf, words[i].r),
                         reg(b, words[i].leaf, words[i].subleaf, words[i].r));
    /* AMD repeats bits of leaf 1; nothing else differs. */
    const uint32_t repeated = 0x0183f3ff;
    assert_int_equal(reg(a, 0x80000001, 0, CPUID_EDX) & repeated, 0);
    assert_int_equal(reg(b, 0x80000001, 0, CPUID_EDX) & repeated, LEAF1_EDX & repeated);
    assert_int_equal(reg(a, 0x80000001, 0, CPUID_EDX) & ~repeated & ~BIT(27),
                     reg(b, 0x80000001, 0, CPUID_EDX) & ~repeated & ~BIT(27));
    assert_int_equal(reg(b, 0x8000000a, 0, CPUID_EDX), 0);
    assert_int_equal(reg(b, 0x80000021, 0, CPUID_EAX), 0);
    vmm_x86_cpuid_free(a);
    vmm_x86_cpuid_free(b);
}

static void fewer_features_take_others_with_them(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *c = apply(intel(), "host,-xsave");
    static const char *const gone[] = {"avx", "avx2", "fma",    "f16c", "avx512f",  "avx512vl",
                                       "pku", "mpx",  "xsaves", "vaes", "avx_vnni", "avx512_bf16"};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
        assert_int_equal(vmm_x86_cpuid_has(c, gone[i]), 0);
    assert_int_equal(vmm_x86_cpuid_has(c, "sse4_2"), 1);
    assert_int_equal(vmm_x86_cpuid_has(c, "aes"), 1);
    assert_int_equal(reg(c, 0xd, 0, CPUID_EAX), 0);
    assert_int_equal(reg(c, 0xd, 0, CPUID_EBX), 0);
    vmm_x86_cpuid_free(c);

    c = apply(intel(), "-avx512f,-aes");
    assert_int_equal(vmm_x86_cpuid_has(c, "avx512bw"), 0);
    assert_int_equal(vmm_x86_cpuid_has(c, "vaes"), 0); /* needs two */
    assert_int_equal(vmm_x86_cpuid_has(c, "vpclmulqdq"), 1);
    assert_int_equal(vmm_x86_cpuid_has(c, "avx2"), 1);
    assert_int_equal(reg(c, 0xd, 0, CPUID_EAX), 0x21f); /* the opmask and ZMM parts are gone */
    assert_int_equal(reg(c, 0xd, 0, CPUID_ECX), 2696);  /* to the end of the keys */
    assert_non_null(vmm_x86_cpuid_find(c, 0xd, 9));
    assert_null(vmm_x86_cpuid_find(c, 0xd, 6));
    assert_non_null(vmm_x86_cpuid_find(c, 0xd, 11));
    vmm_x86_cpuid_free(c);

    c = apply(amd(), "-mmx,-tsc");
    assert_int_equal(reg(c, 0x80000001, 0, CPUID_EDX) & (BIT(23) | BIT(4) | BIT(27)), 0);
    assert_int_equal(reg(c, 0x80000001, 0, CPUID_EDX) & BIT(24), BIT(24));
    vmm_x86_cpuid_free(c);

    c = apply(intel(), "-xsaves");
    assert_int_equal(reg(c, 0xd, 0, CPUID_EAX), 0x2ff);
    assert_int_equal(reg(c, 0xd, 1, CPUID_ECX), 0);
    assert_int_equal(reg(c, 0xd, 1, CPUID_EBX), 832); /* XSAVEC's */
    assert_null(vmm_x86_cpuid_find(c, 0xd, 12));
    vmm_x86_cpuid_free(c);
}

static void more_features_bring_what_they_need(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *c = apply(intel(), "x86-64-v1,+avx2,+vaes");
    static const char *const there[] = {"avx2", "avx", "xsave", "vaes", "aes"};
    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++)
        assert_int_equal(vmm_x86_cpuid_has(c, there[i]), 1);
    assert_int_equal(vmm_x86_cpuid_has(c, "fma"), 0);
    assert_int_equal(vmm_x86_cpuid_has(c, "sse4_1"), 0);
    assert_int_equal(reg(c, 0xd, 0, CPUID_EAX), 7);
    assert_int_equal(reg(c, 0xd, 0, CPUID_ECX), 832);
    vmm_x86_cpuid_free(c);
    c = apply(intel(), "-avx,+avx"); /* the last word counts */
    assert_int_equal(vmm_x86_cpuid_has(c, "avx"), 1);
    vmm_x86_cpuid_free(c);
    c = apply(intel(), "+avx,-avx");
    assert_int_equal(vmm_x86_cpuid_has(c, "avx2"), 0);
    vmm_x86_cpuid_free(c);
}

static void errors_name_the_feature(void **state)
{
    static const struct {
        const char *text, *says;
        int error;
    } wrong[] = {
        {"x86-64-v5", "x86-64-v5", -EINVAL},
        {"x86-64-v", "x86-64-v", -EINVAL},
        {"hosts", "hosts", -EINVAL},
        {",", "neither", -EINVAL},
        {"host,avx", "\"avx\"", -EINVAL},
        {"host,-avx,bogus", "bogus", -EINVAL},
        {"host,+warp", "warp", -EINVAL},
        {"host,-warp", "warp", -EINVAL},
        {"host,+", "no feature \"\"", -EINVAL},
        {"+avx512f", "avx512f", -ENOTSUP},
        {"x86-64-v4", "avx512f", -ENOTSUP},
        {"-avx,+amx_tile", "amx_tile", -ENOTSUP},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct vmm_x86_cpuid *c = amd(), *before = amd();
        struct vmm_error err = VMM_ERROR_INIT;
        assert_int_equal(vmm_x86_cpuid_apply_text(c, wrong[i].text, &err), wrong[i].error);
        assert_non_null(strstr(err.text, wrong[i].says));
        assert_memory_equal(c, before, sizeof(*c)); /* as it was */
        assert_int_equal(vmm_x86_cpuid_apply_text(c, wrong[i].text, NULL), wrong[i].error);
        vmm_x86_cpuid_free(c);
        vmm_x86_cpuid_free(before);
    }
    struct vmm_x86_cpuid *c = old();
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_x86_cpuid_apply_text(c, "x86-64-v1", &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "fxsr"));
    assert_int_equal(vmm_x86_cpuid_apply_text(c, "-pni", &err), 0); /* there is no leaf 7 or 0xd */
    assert_int_equal(vmm_x86_cpuid_has(c, "sse2"), 0);              /* for want of FXSR */
    assert_int_equal(vmm_x86_cpuid_has(c, "warp"), -ENOENT);
    vmm_x86_cpuid_free(c);
}

/* The table itself --------------------------------------------------------------------------------- */

static void entries_can_be_changed(void **state)
{
    struct vmm_x86_cpuid *c;
    (void)state;
    assert_int_equal(vmm_x86_cpuid_new(NULL, &c), 0);
    assert_int_equal(vmm_x86_cpuid_count(c), 0);
    assert_null(vmm_x86_cpuid_entry_at(c, 0));
    put(c, 4, 0, 1, 0, 0, 0);
    put(c, 4, 1, 2, 0, 0, 0);
    put(c, 1, -1, 3, 0, 0, 0);
    put(c, 4, 1, 5, 0, 0, 0); /* replaces */
    assert_int_equal(vmm_x86_cpuid_count(c), 3);
    assert_int_equal(reg(c, 4, 1, CPUID_EAX), 5);
    assert_null(vmm_x86_cpuid_find(c, 4, 2));
    assert_int_equal(reg(c, 1, 77, CPUID_EAX), 3); /* the subleaf does not count */
    vmm_x86_cpuid_entry_at(c, 2)->eax = 9;
    assert_int_equal(reg(c, 1, 0, CPUID_EAX), 9);
    for (uint32_t i = 3; i < CPUID_ENTRIES_MAX; i++)
        put(c, 0x1000 + i, -1, 0, 0, 0, 0);
    const struct vmm_x86_cpuid_entry more = {.leaf = 0x9999};
    assert_int_equal(vmm_x86_cpuid_put(c, &more), -ENOSPC);
    assert_int_equal(vmm_x86_cpuid_for(c, 0, NULL, NULL, 0), -ENOSPC); /* no room for leaf 0xb */
    vmm_x86_cpuid_free(c);
    assert_null(vmm_x86_cpuid_free(NULL));
}

/* Topology ----------------------------------------------------------------------------------------- */

static struct vmm_x86_cpuid *for_cpu(struct vmm_x86_cpuid *c, uint32_t id, uint32_t cpus,
                                     uint32_t threads, uint32_t cores)
{
    struct vmm_x86_topology t = VMM_X86_TOPOLOGY_INIT;
    struct vmm_x86_cpuid *out;
    t.cpus = cpus;
    t.threads_per_core = threads;
    t.cores_per_socket = cores;
    assert_int_equal(vmm_x86_cpuid_new(NULL, &out), 0);
    long count = vmm_x86_cpuid_for(c, id, &t, out->entries, CPUID_ENTRIES_MAX);
    assert_true(count > 0);
    out->count = (size_t)count;
    return out;
}

static void one_processor_is_alone(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *host = intel(), *c = for_cpu(host, 0, 1, 0, 0);
    assert_int_equal(reg(c, 1, 0, CPUID_EBX), 0x00010800);
    assert_int_equal(reg(c, 1, 0, CPUID_EDX) & BIT(28), 0);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EAX), 0);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EBX), 1);
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) >> 14, 0); /* nobody shares */
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

static void intel_cores(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *host = intel(), *c = for_cpu(host, 5, 6, 0, 0);
    assert_int_equal(reg(c, 1, 0, CPUID_EBX), 0x05080800); /* id 5, room for 8, CLFLUSH kept */
    assert_int_equal(reg(c, 1, 0, CPUID_EDX) & BIT(28), BIT(28));
    /* Leaf 4: the first levels are a core's alone, the third is shared by eight ids. */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(reg(c, 4, i, CPUID_EAX) >> 14 & 0xfff, 0);
        assert_int_equal(reg(c, 4, i, CPUID_EAX) >> 26, 7);
    }
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) >> 14 & 0xfff, 7);
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) & 0x3fff, 0x0163 | 0x0000);
    assert_int_equal(reg(c, 4, 4, CPUID_EAX), 0);
    for (uint32_t leaf = 0xb; leaf <= 0x1f; leaf += 0x14) {
        assert_int_equal(reg(c, leaf, 0, CPUID_EAX), 0);
        assert_int_equal(reg(c, leaf, 0, CPUID_EBX), 1);
        assert_int_equal(reg(c, leaf, 0, CPUID_ECX), 0x100);
        assert_int_equal(reg(c, leaf, 1, CPUID_EAX), 3);
        assert_int_equal(reg(c, leaf, 1, CPUID_EBX), 6);
        assert_int_equal(reg(c, leaf, 1, CPUID_ECX), 0x201);
        assert_int_equal(reg(c, leaf, 2, CPUID_EAX), 0);
        assert_int_equal(reg(c, leaf, 2, CPUID_EBX), 0);
        assert_int_equal(reg(c, leaf, 2, CPUID_ECX), 2);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(reg(c, leaf, i, CPUID_EDX), 5);
    }
    /* The table for all of them is as it was. */
    assert_int_equal(reg(host, 1, 0, CPUID_EBX), 0x01020800);
    assert_null(vmm_x86_cpuid_find(host, 0xb, 0));
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

static void threads_and_sockets(void **state)
{
    (void)state;
    /* Two sockets of three cores of two threads: three bits below the socket. */
    struct vmm_x86_cpuid *host = intel(), *c = for_cpu(host, 0xb, 12, 2, 3);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EAX), 1);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EBX), 2);
    assert_int_equal(reg(c, 0xb, 1, CPUID_EAX), 3);
    assert_int_equal(reg(c, 0xb, 1, CPUID_EBX), 6);
    assert_int_equal(reg(c, 0xb, 1, CPUID_EDX), 0xb);
    assert_int_equal(reg(c, 4, 0, CPUID_EAX) >> 14 & 0xfff, 1);
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) >> 14 & 0xfff, 7);
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) >> 26, 3);
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

static void amd_cores(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *host = amd(), *c = for_cpu(host, 3, 8, 2, 4);
    assert_int_equal(reg(c, 1, 0, CPUID_EBX), 0x03080800);
    assert_int_equal(reg(c, 0x80000001, 0, CPUID_ECX) & BIT(1), BIT(1)); /* CmpLegacy */
    assert_int_equal(reg(c, 0x80000008, 0, CPUID_ECX), 0x3007);          /* 8 threads, 3 bits */
    assert_int_equal(reg(c, 0x8000001d, 0, CPUID_EAX) >> 14 & 0xfff, 1);
    assert_int_equal(reg(c, 0x8000001d, 3, CPUID_EAX) >> 14 & 0xfff, 7);
    assert_int_equal(reg(c, 0x8000001d, 3, CPUID_EAX) >> 26, 0); /* reserved here */
    assert_int_equal(reg(c, 0x8000001e, 0, CPUID_EAX), 3);
    assert_int_equal(reg(c, 0x8000001e, 0, CPUID_EBX), 0x101); /* core 1 of two threads */
    assert_int_equal(reg(c, 0x8000001e, 0, CPUID_ECX), 0);
    assert_int_equal(reg(c, 0x80000026, 0, CPUID_EBX), 0);
    assert_int_equal(reg(c, 0, 0, CPUID_EAX), 0x10);
    assert_int_equal(reg(c, 0xb, 1, CPUID_EBX), 8);
    assert_null(vmm_x86_cpuid_find(c, 0x1f, 0));
    vmm_x86_cpuid_free(c);
    c = for_cpu(host, 0, 1, 0, 0);
    assert_int_equal(reg(c, 0x80000001, 0, CPUID_ECX) & BIT(1), 0);
    assert_int_equal(reg(c, 0x80000008, 0, CPUID_ECX), 0);
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

/* Counts that their fields have no room for are the most that they say, never less by wrapping. */
static void many_processors_saturate(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *host = amd(), *c = for_cpu(host, 1000, 1024, 1, 1024);
    assert_int_equal(reg(c, 1, 0, CPUID_EBX), 0xe8ff0800); /* the id's low bits */
    assert_int_equal(reg(c, 0x80000008, 0, CPUID_ECX), 0xa0ff);
    assert_int_equal(reg(c, 0xb, 1, CPUID_EBX), 1024);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EDX), 1000);
    vmm_x86_cpuid_free(c);
    c = for_cpu(host, 0, 1 << 20, 256, 4096);
    assert_int_equal(reg(c, 0x80000008, 0, CPUID_ECX), 0xf0ff);
    assert_int_equal(reg(c, 0x8000001d, 3, CPUID_EAX) >> 14 & 0xfff, 0xfff);
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
    host = intel();
    c = for_cpu(host, 0, 1024, 1, 1024);
    assert_int_equal(reg(c, 4, 3, CPUID_EAX) >> 26, 63);
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

static void an_old_processor_gets_leaf_b(void **state)
{
    (void)state;
    struct vmm_x86_cpuid *host = old(), *c = for_cpu(host, 1, 2, 0, 0);
    assert_int_equal(reg(c, 0, 0, CPUID_EAX), 0xb);
    assert_int_equal(reg(c, 0xb, 0, CPUID_EDX), 1);
    vmm_x86_cpuid_free(c);
    vmm_x86_cpuid_free(host);
}

static void wrong_topologies_are_refused(void **state)
{
    struct vmm_x86_topology t = VMM_X86_TOPOLOGY_INIT;
    (void)state;
    struct vmm_x86_cpuid *host = intel();
    t.threads_per_core = 257;
    assert_int_equal(vmm_x86_cpuid_for(host, 0, &t, NULL, 0), -EINVAL);
    t.threads_per_core = 1;
    t.cores_per_socket = 8193;
    assert_int_equal(vmm_x86_cpuid_for(host, 0, &t, NULL, 0), -EINVAL);
    assert_int_equal(vmm_x86_apic_id(&t, 0), -EINVAL);
    t.size = 4;
    assert_int_equal(vmm_x86_cpuid_for(host, 0, &t, NULL, 0), -EINVAL);
    /* How many there would be, without room for them. */
    assert_true(vmm_x86_cpuid_for(host, 0, NULL, NULL, 0) > (long)vmm_x86_cpuid_count(host));
    vmm_x86_cpuid_free(host);
}

static void apic_ids_leave_gaps(void **state)
{
    struct vmm_x86_topology t = VMM_X86_TOPOLOGY_INIT;
    (void)state;
    t.cpus = 12;
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(vmm_x86_apic_id(&t, i), i);
    t.threads_per_core = 2;
    t.cores_per_socket = 3;
    static const long ids[12] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(vmm_x86_apic_id(&t, i), ids[i]);
    assert_int_equal(vmm_x86_apic_id(NULL, 0), 0);
    t.threads_per_core = 3;
    t.cores_per_socket = 1;
    assert_int_equal(vmm_x86_apic_id(&t, 3), 4);
    assert_int_equal(vmm_x86_apic_id(&t, UINT32_MAX), -ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feature_is_named_once),
        cmocka_unit_test(host_changes_nothing),
        cmocka_unit_test(levels_show_what_they_name),
        cmocka_unit_test(levels_are_the_same_everywhere),
        cmocka_unit_test(fewer_features_take_others_with_them),
        cmocka_unit_test(more_features_bring_what_they_need),
        cmocka_unit_test(errors_name_the_feature),
        cmocka_unit_test(entries_can_be_changed),
        cmocka_unit_test(one_processor_is_alone),
        cmocka_unit_test(intel_cores),
        cmocka_unit_test(threads_and_sockets),
        cmocka_unit_test(amd_cores),
        cmocka_unit_test(many_processors_saturate),
        cmocka_unit_test(an_old_processor_gets_leaf_b),
        cmocka_unit_test(wrong_topologies_are_refused),
        cmocka_unit_test(apic_ids_leave_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
