/* SPDX-License-Identifier: BSD-3-Clause */
/* The CPUID table: what the host can give, looked up and changed by the embedder. */
#include "vcpu/x86/cpuid.h"
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <stdlib.h>

/* KVM has at most 256 entries (KVM_MAX_CPUID_ENTRIES), and so has the table. */
static int host_table(struct vmm_host *host, struct kvm_cpuid2 **out)
{
    struct kvm_cpuid2 *table =
        calloc(1, sizeof(*table) + CPUID_ENTRIES_MAX * sizeof(table->entries[0]));
    if (!table)
        return -ENOMEM;
    table->nent = CPUID_ENTRIES_MAX;
    int rc = vmm_kvm_ioctl_ptr(vmm_host_fd(host), KVM_GET_SUPPORTED_CPUID, table);
    if (rc < 0) {
        free(table);
        return rc;
    }
    *out = table;
    return 0;
}

/* Features that are KVM's to give but that its list leaves out: the deadline timer of the local
 * APIC in the kernel, and the bit that says a hypervisor is there (KVM API, 4.46). */
static void add_kvm_features(struct vmm_x86_cpuid *c, struct vmm_host *host)
{
    struct vmm_x86_cpuid_entry *leaf1 = vmm_x86_cpuid_find(c, 1, 0);
    if (!leaf1)
        return;
    if (vmm_host_capability(host, KVM_CAP_TSC_DEADLINE_TIMER))
        leaf1->ecx |= 1u << 24;
    leaf1->ecx |= 1u << 31;
}

int vmm_x86_cpuid_new(struct vmm_host *host, struct vmm_x86_cpuid **out)
{
    struct kvm_cpuid2 *table = NULL;
    int rc = host ? host_table(host, &table) : 0;
    if (rc)
        return rc;
    struct vmm_x86_cpuid *c = calloc(1, sizeof(*c));
    if (!c) {
        free(table);
        return -ENOMEM;
    }
    for (uint32_t i = 0; table && i < table->nent && i < CPUID_ENTRIES_MAX; i++) {
        const struct kvm_cpuid_entry2 *k = &table->entries[i];
        c->entries[c->count++] = (struct vmm_x86_cpuid_entry){
            .leaf = k->function,
            .subleaf = k->index,
            .indexed = k->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            .eax = k->eax,
            .ebx = k->ebx,
            .ecx = k->ecx,
            .edx = k->edx,
        };
    }
    free(table);
    if (host)
        add_kvm_features(c, host);
    *out = c;
    return 0;
}

struct vmm_x86_cpuid *vmm_x86_cpuid_free(struct vmm_x86_cpuid *c)
{
    free(c);
    return NULL;
}

size_t vmm_x86_cpuid_count(const struct vmm_x86_cpuid *c)
{
    return c->count;
}

struct vmm_x86_cpuid_entry *vmm_x86_cpuid_entry_at(struct vmm_x86_cpuid *c, size_t index)
{
    return index < c->count ? &c->entries[index] : NULL;
}

struct vmm_x86_cpuid_entry *vmm_x86_cpuid_find(struct vmm_x86_cpuid *c, uint32_t leaf,
                                               uint32_t subleaf)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i].leaf == leaf &&
            (!c->entries[i].indexed || c->entries[i].subleaf == subleaf))
            return &c->entries[i];
    return NULL;
}

int vmm_x86_cpuid_put(struct vmm_x86_cpuid *c, const struct vmm_x86_cpuid_entry *entry)
{
    struct vmm_x86_cpuid_entry *there = vmm_x86_cpuid_find(c, entry->leaf, entry->subleaf);
    if (!there) {
        if (c->count == CPUID_ENTRIES_MAX)
            return -ENOSPC;
        there = &c->entries[c->count++];
    }
    *there = *entry;
    return 0;
}

bool vmm_cpuid_is_amd(struct vmm_x86_cpuid *c)
{
    const struct vmm_x86_cpuid_entry *e = vmm_x86_cpuid_find(c, 0, 0);
    /* "AuthenticAMD" and "HygonGenuine" */
    return e && ((e->ebx == 0x68747541 && e->ecx == 0x444d4163) ||
                 (e->ebx == 0x6f677948 && e->ecx == 0x656e6975));
}

int vmm_x86_cpuid_has(struct vmm_x86_cpuid *c, const char *name)
{
    const struct cpuid_feature *f = vmm_cpuid_feature_by_name(name, strlen(name));
    if (!f)
        return -ENOENT;
    struct vmm_x86_cpuid_entry *entry = vmm_x86_cpuid_find(c, f->leaf, f->subleaf);
    return entry && (*vmm_cpuid_register(entry, f->reg) >> f->bit & 1);
}
