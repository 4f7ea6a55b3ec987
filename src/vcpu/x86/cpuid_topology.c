/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What CPUID says to one vCPU of several: its APIC id, how many there are, which share a core and a
 * cache. SDM vol. 2 (CPUID leaves 1, 4, 0xb, 0x1f) and vol. 3, 9.9; APM vol. 3, E.3 and E.4.
 */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vcpu/x86/cpuid.h"
#include "vm/ioctl.h"

#include <asm/kvm_para.h>
#include <stdlib.h>

#define HTT        (1u << 28) /* leaf 1 EDX: several logical processors */
#define CMP_LEGACY (1u << 1)  /* 0x80000001 ECX, AMD */
#define APIC       (1u << 9)

struct layout {
    uint32_t cpus, threads, cores;     /* of the machine; of a core; of a socket */
    uint32_t thread_bits, socket_bits; /* of an APIC id: below the core, below the socket */
};

static uint32_t bits_for(uint32_t count)
{
    uint32_t bits = 0;
    while (bits < 31 && (1u << bits) < count)
        bits++;
    return bits;
}

static int lay_out(const struct vmm_x86_topology *given, struct layout *l)
{
    static const struct vmm_x86_topology single = VMM_X86_TOPOLOGY_INIT;
    struct vmm_x86_topology t;
    int rc = vmm_options_copy(&t, sizeof(t), given ? given : &single);
    if (rc)
        return rc;
    l->cpus = t.cpus ? t.cpus : 1;
    l->threads = t.threads_per_core ? t.threads_per_core : 1;
    l->cores = t.cores_per_socket ? t.cores_per_socket : (l->cpus + l->threads - 1) / l->threads;
    if (l->threads > 256 || l->cores > 8192)
        return -EINVAL;
    l->thread_bits = bits_for(l->threads);
    l->socket_bits = l->thread_bits + bits_for(l->cores);
    return 0;
}

static uint32_t at_most(uint32_t value, uint32_t most)
{
    return value < most ? value : most;
}

/* EBX 16 to 23 are the APIC ids that a socket has room for (SDM), or its processors (APM). */
static void fill_leaf1(struct vmm_x86_cpuid_entry *e, uint32_t id, const struct layout *l, bool amd)
{
    uint32_t in_socket = l->threads * l->cores;
    uint32_t ids = amd ? in_socket : 1u << l->socket_bits;
    e->ebx = (e->ebx & 0xffffu) | at_most(ids, 255) << 16 | (id & 0xff) << 24;
    e->edx = in_socket > 1 ? e->edx | HTT : e->edx & ~HTT;
}

/* Leaf 4 of Intel and 0x8000001d of AMD: bits 14 to 25 of EAX say how many share the cache. The
 * first two levels are a core's, the third is the socket's. */
static void fill_cache(struct vmm_x86_cpuid_entry *e, const struct layout *l, bool intel)
{
    if ((e->eax & 0x1f) == 0)
        return;
    uint32_t level = (e->eax >> 5) & 7;
    uint32_t sharing = 1u << (level >= 3 ? l->socket_bits : l->thread_bits);
    uint32_t cores = 1u << (l->socket_bits - l->thread_bits);
    e->eax = (e->eax & 0x3fffu) | at_most(sharing - 1, 0xfff) << 14;
    if (intel)
        e->eax |= at_most(cores - 1, 0x3f) << 26;
}

static void fill_extended(struct vmm_x86_cpuid_entry *e, uint32_t id, const struct layout *l)
{
    uint32_t subleaf = e->subleaf;
    e->eax = subleaf == 0 ? l->thread_bits : subleaf == 1 ? l->socket_bits : 0;
    e->ebx = subleaf == 0 ? l->threads : subleaf == 1 ? l->threads * l->cores : 0;
    e->ecx = subleaf | (subleaf < 2 ? (subleaf + 1) << 8 : 0); /* types: 1 thread, 2 core */
    e->edx = id;
}

/* Leaf 0xb is there for every guest: x2APIC ids are read from it. */
static int put_extended(struct vmm_x86_cpuid *c)
{
    struct vmm_x86_cpuid_entry *zero = vmm_x86_cpuid_find(c, 0, 0);
    if (zero && zero->eax < 0xb)
        zero->eax = 0xb;
    int rc = 0;
    for (uint32_t i = 0; i < 3 && !rc; i++) {
        struct vmm_x86_cpuid_entry e = {.leaf = 0xb, .subleaf = i, .indexed = 1};
        rc = vmm_x86_cpuid_put(c, &e);
        e.leaf = 0x1f;
        if (!rc && zero && zero->eax >= 0x1f)
            rc = vmm_x86_cpuid_put(c, &e);
    }
    return rc;
}

static void fill_entry(struct vmm_x86_cpuid_entry *e, uint32_t id, const struct layout *l, bool amd)
{
    uint32_t in_socket = l->threads * l->cores;
    switch (e->leaf) {
    case 1:
        fill_leaf1(e, id, l, amd);
        break;
    case 4:
        fill_cache(e, l, true);
        break;
    case 0xb:
    case 0x1f:
        fill_extended(e, id, l);
        break;
    case 0x80000001:
        if (amd)
            e->ecx = in_socket > 1 ? e->ecx | CMP_LEGACY : e->ecx & ~CMP_LEGACY;
        break;
    case 0x80000008: /* ECX: threads in the socket less one, and the width of their ids */
        if (amd)
            e->ecx = (e->ecx & ~0xf0ffu) | at_most(in_socket - 1, 0xff) |
                     at_most(l->socket_bits, 0xf) << 12;
        break;
    case 0x8000001d:
        fill_cache(e, l, false);
        break;
    case 0x8000001e: /* the APIC id, the core's number, one node a socket */
        e->eax = id;
        e->ebx = ((id >> l->thread_bits) & 0xff) | (l->threads - 1) << 8;
        e->ecx = id >> l->socket_bits & 0xff;
        e->edx = 0;
        break;
    case 0x80000026: /* AMD's newer levels: cleared, 0xb tells all there is */
        e->eax = e->ebx = e->ecx = e->edx = 0;
        break;
    default:
        break;
    }
}

long vmm_x86_apic_id(const struct vmm_x86_topology *topology, uint32_t cpu)
{
    struct layout l;
    int rc = lay_out(topology, &l);
    if (rc)
        return rc;
    uint32_t in_socket = l.threads * l.cores;
    uint64_t id = (uint64_t)(cpu / in_socket) << l.socket_bits |
                  (cpu % in_socket / l.threads) << l.thread_bits | cpu % l.threads;
    return id < UINT32_MAX ? (long)id : -ERANGE; /* all ones is the broadcast */
}

/* A copy of the table for one vCPU. */
static int specialize(const struct vmm_x86_cpuid *from, uint32_t id,
                      const struct vmm_x86_topology *topology, struct vmm_x86_cpuid **out)
{
    struct layout l;
    int rc = lay_out(topology, &l);
    if (rc)
        return rc;
    struct vmm_x86_cpuid *c = malloc(sizeof(*c));
    if (!c)
        return -ENOMEM;
    *c = *from;
    rc = put_extended(c);
    bool amd = vmm_cpuid_is_amd(c);
    for (size_t i = 0; i < c->count && !rc; i++)
        fill_entry(&c->entries[i], id, &l, amd);
    if (rc) {
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

long vmm_x86_cpuid_for(const struct vmm_x86_cpuid *cpuid, uint32_t id,
                       const struct vmm_x86_topology *topology, struct vmm_x86_cpuid_entry *entries,
                       size_t max)
{
    struct vmm_x86_cpuid *c;
    int rc = specialize(cpuid, id, topology, &c);
    if (rc)
        return rc;
    long count = (long)c->count;
    for (size_t i = 0; i < c->count && i < max; i++)
        entries[i] = c->entries[i];
    free(c);
    return count;
}

/* KVM's own features that go through the local APIC (KVM's documentation, x86/cpuid.rst): page faults
 * that wait, EOI in memory, kicks and messages between processors, longer destinations. */
#define KVM_APIC_FEATURES                                                                          \
    (1u << KVM_FEATURE_ASYNC_PF | 1u << KVM_FEATURE_PV_EOI | 1u << KVM_FEATURE_PV_UNHALT |         \
     1u << KVM_FEATURE_ASYNC_PF_VMEXIT | 1u << KVM_FEATURE_PV_SEND_IPI |                           \
     1u << KVM_FEATURE_PV_SCHED_YIELD | 1u << KVM_FEATURE_ASYNC_PF_INT |                           \
     1u << KVM_FEATURE_MSI_EXT_DEST_ID)

/* Without a local APIC in KVM there is none at all, nor what belongs to it. */
static void drop_apic_features(struct vmm_x86_cpuid *c)
{
    struct vmm_x86_cpuid_entry *leaf1 = vmm_x86_cpuid_find(c, 1, 0);
    if (leaf1) {
        leaf1->edx &= ~APIC;
        leaf1->ecx &= ~(1u << 21 | 1u << 24); /* x2APIC, deadline timer */
    }
    struct vmm_x86_cpuid_entry *kvm = vmm_x86_cpuid_find(c, KVM_CPUID_FEATURES, 0);
    if (kvm)
        kvm->eax &= ~(uint32_t)KVM_APIC_FEATURES;
}

int vmm_x86_cpuid_set(const struct vmm_x86_cpuid *cpuid, struct vmm_vcpu *vcpu,
                      const struct vmm_x86_topology *topology, struct vmm_error *err)
{
    struct vmm_x86_cpuid *c;
    int rc = specialize(cpuid, vcpu->id, topology, &c);
    if (rc)
        return vmm_error_set(err, rc, "CPUID of vCPU %u: %s", vcpu->id, strerror(-rc));
    if (vmm_vm_irqchip(vcpu->vm) == VMM_IRQCHIP_NONE)
        drop_apic_features(c);
    struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + c->count * sizeof(table->entries[0]));
    if (table) {
        table->nent = (uint32_t)c->count;
        for (size_t i = 0; i < c->count; i++) {
            const struct vmm_x86_cpuid_entry *e = &c->entries[i];
            table->entries[i] = (struct kvm_cpuid_entry2){
                .function = e->leaf,
                .index = e->subleaf,
                .flags = e->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                .eax = e->eax,
                .ebx = e->ebx,
                .ecx = e->ecx,
                .edx = e->edx,
            };
        }
        rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_CPUID2, table);
    } else {
        rc = -ENOMEM;
    }
    free(table);
    free(c);
    return rc ? vmm_error_set(err, rc, "CPUID of vCPU %u: %s", vcpu->id, strerror(-rc)) : 0;
}
