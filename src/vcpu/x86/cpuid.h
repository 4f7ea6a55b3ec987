/* SPDX-License-Identifier: BSD-3-Clause */
/* The CPUID table from the inside, and the names of its feature bits. */
#ifndef VCPU_X86_CPUID_H
#define VCPU_X86_CPUID_H

#include <libvmm/x86.h>

#define CPUID_ENTRIES_MAX 256u

struct vmm_x86_cpuid {
    size_t count;
    struct vmm_x86_cpuid_entry entries[CPUID_ENTRIES_MAX];
};

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* A feature bit under the name that Linux shows in /proc/cpuinfo. */
struct cpuid_feature {
    const char *name;
    uint32_t leaf, subleaf;
    enum cpuid_register reg;
    uint32_t bit;
    uint32_t level;    /* x86-64-v1 to v4 (psABI, table 3.1) need it from here on; 0: none does */
    const char *needs; /* another feature without which it must not be shown; NULL: none */
};
extern const struct cpuid_feature vmm_cpuid_features[];
extern const size_t vmm_cpuid_feature_count;

/* A feature that needs more than one other: further pairs. */
struct cpuid_need {
    const char *name, *needs;
};
extern const struct cpuid_need vmm_cpuid_needs[];
extern const size_t vmm_cpuid_need_count;

const struct cpuid_feature *vmm_cpuid_feature_by_name(const char *name, size_t length);
/* The register of an entry that a feature's bit is in. */
uint32_t *vmm_cpuid_register(struct vmm_x86_cpuid_entry *entry, enum cpuid_register reg);

/* AMD or Hygon, by the vendor string of leaf 0. */
bool vmm_cpuid_is_amd(struct vmm_x86_cpuid *c);

#endif
