/* SPDX-License-Identifier: BSD-3-Clause */
/* CPU policies by text: a base, features more and fewer, and what follows from them. */
#include "base/util.h"
#include "vcpu/x86/cpuid.h"

#include <stdlib.h>

static bool shows(struct vmm_x86_cpuid *c, const struct cpuid_feature *f)
{
    struct vmm_x86_cpuid_entry *entry = vmm_x86_cpuid_find(c, f->leaf, f->subleaf);
    return entry && (*vmm_cpuid_register(entry, f->reg) >> f->bit & 1);
}

static void show(struct vmm_x86_cpuid *c, const struct cpuid_feature *f, bool on)
{
    struct vmm_x86_cpuid_entry *entry = vmm_x86_cpuid_find(c, f->leaf, f->subleaf);
    if (!entry)
        return;
    uint32_t *reg = vmm_cpuid_register(entry, f->reg);
    *reg = on ? *reg | 1u << f->bit : *reg & ~(1u << f->bit);
}

/* Leaves that tell of features by other means than the named bits. */
static void clear_other_features(struct vmm_x86_cpuid_entry *e)
{
    switch (e->leaf) {
    case 7: /* the words of its subleaves that no name is in */
        if (e->subleaf)
            e->eax = e->ebx = e->ecx = e->edx = 0;
        break;
    case 6: /* power: thresholds, frequency feedback */
        e->ebx = e->ecx = e->edx = 0;
        break;
    case 0x80000007:
        e->eax = e->ebx = e->ecx = 0;
        break;
    case 0xa:        /* performance counters */
    case 0x12:       /* SGX */
    case 0x14:       /* processor trace */
    case 0x19:       /* key locker */
    case 0x23:       /* more performance counters */
    case 0x24:       /* AVX10 */
    case 0x8000000a: /* SVM */
    case 0x8000001f: /* SEV */
    case 0x80000021:
    case 0x80000022: /* further features; performance counters */
        e->eax = e->ebx = e->ecx = e->edx = 0;
        break;
    default:
        break;
    }
}

/* The registers that hold nothing but feature bits: on a named level unknown bits go as well. */
static void clear_feature_words(struct vmm_x86_cpuid *c)
{
    for (size_t i = 0; i < vmm_cpuid_feature_count; i++) {
        const struct cpuid_feature *f = &vmm_cpuid_features[i];
        struct vmm_x86_cpuid_entry *entry = vmm_x86_cpuid_find(c, f->leaf, f->subleaf);
        if (entry)
            *vmm_cpuid_register(entry, f->reg) = 0;
    }
    for (size_t i = 0; i < c->count; i++)
        clear_other_features(&c->entries[i]);
}

/* The features that psABI names for level 1; the others of that level are taken where they are. */
static bool level1_must(const char *name)
{
    static const char *const names[] = {"cmov", "cx8",  "fpu",     "fxsr", "mmx",
                                        "sse",  "sse2", "syscall", "lm"};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int apply_level(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host, uint32_t level,
                       struct vmm_error *err)
{
    clear_feature_words(c);
    for (size_t i = 0; i < vmm_cpuid_feature_count; i++) {
        const struct cpuid_feature *f = &vmm_cpuid_features[i];
        if (f->level == 0 || f->level > level)
            continue;
        if (shows(host, f))
            show(c, f, true);
        else if (f->level > 1 || level1_must(f->name))
            return vmm_error_set(err, -ENOTSUP,
                                 "CPU policy: x86-64-v%u needs \"%s\", which this host cannot give",
                                 level, f->name);
    }
    return 0;
}

/* The first feature that `f` needs and the table does not show; NULL: it has all. */
static const char *missing_need(struct vmm_x86_cpuid *c, const struct cpuid_feature *f)
{
    if (f->needs && vmm_x86_cpuid_has(c, f->needs) != 1)
        return f->needs;
    for (size_t i = 0; i < vmm_cpuid_need_count; i++)
        if (strcmp(vmm_cpuid_needs[i].name, f->name) == 0 &&
            vmm_x86_cpuid_has(c, vmm_cpuid_needs[i].needs) != 1)
            return vmm_cpuid_needs[i].needs;
    return NULL;
}

/* A feature goes when what it needs has gone; what needs it goes in the next round. */
static void drop_dependents(struct vmm_x86_cpuid *c)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < vmm_cpuid_feature_count; i++) {
            const struct cpuid_feature *f = &vmm_cpuid_features[i];
            if (!shows(c, f) || !missing_need(c, f))
                continue;
            show(c, f, false);
            changed = true;
        }
    }
}

/* AMD repeats bits of leaf 1 EDX in 0x80000001 EDX (APM vol. 3, E.4.2). */
#define AMD_REPEATED 0x0183f3ffu
static void repeat_bits(struct vmm_x86_cpuid *c)
{
    const struct vmm_x86_cpuid_entry *leaf1 = vmm_x86_cpuid_find(c, 1, 0);
    struct vmm_x86_cpuid_entry *extended = vmm_x86_cpuid_find(c, 0x80000001, 0);
    if (leaf1 && extended && vmm_cpuid_is_amd(c))
        extended->edx = (extended->edx & ~AMD_REPEATED) | (leaf1->edx & AMD_REPEATED);
}

/* The state components of leaf 0xd follow the features (SDM vol. 1, 13.1). */
static const struct {
    uint32_t mask;
    const char *feature;
} components[] = {
    {0x00000004, "avx"}, {0x00000018, "mpx"},      {0x000000e0, "avx512f"},
    {0x00000200, "pku"}, {0x00060000, "amx_tile"},
};

static void remove_xsave_leaves(struct vmm_x86_cpuid *c, uint32_t kept)
{
    size_t out = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct vmm_x86_cpuid_entry *e = &c->entries[i];
        bool drop =
            e->leaf == 0xd && e->subleaf >= 2 && (e->subleaf > 31 || !(kept >> e->subleaf & 1));
        /* Supervisor components (bit 0 of ECX) are not in the mask and stay as the host has them. */
        if (drop && kept && (e->ecx & 1))
            drop = false;
        if (!drop)
            c->entries[out++] = *e;
    }
    c->count = out;
}

static bool taken_away(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host, const char *feature)
{
    return vmm_x86_cpuid_has(host, feature) == 1 && vmm_x86_cpuid_has(c, feature) != 1;
}

/* Supervisor components and the compacted format's size are XSAVES's own (SDM vol. 1, 13.2). */
static void fit_supervisor(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host)
{
    struct vmm_x86_cpuid_entry *e = vmm_x86_cpuid_find(c, 0xd, 1);
    if (!e || !taken_away(c, host, "xsaves"))
        return;
    e->ecx = e->edx = 0;
    if (vmm_x86_cpuid_has(c, "xsavec") != 1)
        e->ebx = 0;
    size_t out = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct vmm_x86_cpuid_entry *part = &c->entries[i];
        if (part->leaf != 0xd || part->subleaf < 2 || !(part->ecx & 1))
            c->entries[out++] = *part;
    }
    c->count = out;
}

/* Only what the policy took away goes: where KVM's table describes components without the feature
 * bits (PVM, whose guests see the processor's own bits), it knows best. */
static void fit_xsave(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host)
{
    struct vmm_x86_cpuid_entry *main_leaf = vmm_x86_cpuid_find(c, 0xd, 0);
    if (!main_leaf)
        return;
    uint32_t mask = main_leaf->eax;
    if (taken_away(c, host, "xsave"))
        mask = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(components); i++)
        if (taken_away(c, host, components[i].feature))
            mask &= ~components[i].mask;
    fit_supervisor(c, host);
    if (mask == main_leaf->eax)
        return;
    main_leaf = vmm_x86_cpuid_find(c, 0xd, 0); /* entries may have moved */
    main_leaf->eax = mask;
    uint32_t size = mask ? 576 : 0; /* the legacy area and the header */
    for (uint32_t i = 2; i < 32; i++) {
        struct vmm_x86_cpuid_entry *part = vmm_x86_cpuid_find(c, 0xd, i);
        if (part && (mask >> i & 1) && part->ebx + part->eax > size)
            size = part->ebx + part->eax;
    }
    main_leaf->ebx = main_leaf->ecx = size;
    if (!mask)
        main_leaf->edx = 0;
    remove_xsave_leaves(c, mask);
}

static int apply_base(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host, const char *name,
                      size_t length, struct vmm_error *err)
{
    static const char prefix[] = "x86-64-v";
    size_t n = sizeof(prefix) - 1;
    if (length == 4 && memcmp(name, "host", 4) == 0)
        return 0;
    if (length == n + 1 && memcmp(name, prefix, n) == 0 && name[n] >= '1' && name[n] <= '4')
        return apply_level(c, host, (uint32_t)(name[n] - '0'), err);
    return vmm_error_set(err, -EINVAL,
                         "CPU policy: \"%.*s\" is neither host nor x86-64-v1 to x86-64-v4, nor a "
                         "feature with + or -",
                         (int)length, name);
}

/* With all that it needs; a host that gives a feature gives these too, or its table is odd. */
static int add_feature(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host,
                       const struct cpuid_feature *wanted, struct vmm_error *err)
{
    const struct cpuid_feature *f = wanted;
    for (const char *missing; (missing = missing_need(c, f)) != NULL;) {
        const struct cpuid_feature *needed = vmm_cpuid_feature_by_name(missing, strlen(missing));
        if (!shows(host, needed))
            return vmm_error_set(err, -ENOTSUP,
                                 "CPU policy: \"%s\" needs \"%s\", which this host cannot give",
                                 wanted->name, needed->name);
        const char *deeper = missing_need(c, needed);
        if (deeper) { /* the needs of what is needed come first */
            f = needed;
            continue;
        }
        show(c, needed, true);
        f = wanted;
    }
    show(c, wanted, true);
    return 0;
}

static int apply_feature(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host, const char *token,
                         size_t length, struct vmm_error *err)
{
    const struct cpuid_feature *f = vmm_cpuid_feature_by_name(token + 1, length - 1);
    if (!f)
        return vmm_error_set(err, -EINVAL, "CPU policy: there is no feature \"%.*s\"",
                             (int)length - 1, token + 1);
    if (token[0] == '-') {
        show(c, f, false);
        return 0;
    }
    if (!shows(host, f))
        return vmm_error_set(err, -ENOTSUP, "CPU policy: this host cannot give \"%s\"", f->name);
    return add_feature(c, host, f, err);
}

static int apply_tokens(struct vmm_x86_cpuid *c, struct vmm_x86_cpuid *host, const char *text,
                        struct vmm_error *err)
{
    int rc = 0;
    for (const char *p = text; !rc && *p;) {
        size_t length = strcspn(p, ",");
        if (length > 0 && (p[0] == '+' || p[0] == '-'))
            rc = apply_feature(c, host, p, length, err);
        else if (p == text)
            rc = apply_base(c, host, p, length, err);
        else
            rc = vmm_error_set(err, -EINVAL, "CPU policy: \"%.*s\" needs a + or - before it",
                               (int)length, p);
        p += length;
        if (*p == ',')
            p++;
    }
    return rc;
}

int vmm_x86_cpuid_apply_text(struct vmm_x86_cpuid *c, const char *text, struct vmm_error *err)
{
    struct vmm_x86_cpuid *host = malloc(sizeof(*host));
    if (!host)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    *host = *c;
    int rc = apply_tokens(c, host, text ? text : "host", err);
    if (rc) {
        *c = *host;
    } else {
        drop_dependents(c);
        repeat_bits(c);
        fit_xsave(c, host);
    }
    free(host);
    return rc;
}
