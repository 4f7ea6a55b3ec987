/* SPDX-License-Identifier: BSD-3-Clause */
/* How a vCPU translates: from its registers to a context for the walker. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

#include <linux/kvm.h>
#include <stdlib.h>

#define CR0_WP    (1u << 16)
#define CR0_PG    (1u << 31)
#define CR4_PSE   (1u << 4)
#define CR4_PAE   (1u << 5)
#define CR4_LA57  (1u << 12)
#define CR4_SMEP  (1u << 20)
#define CR4_SMAP  (1u << 21)
#define CR4_PKE   (1u << 22)
#define CR4_PKS   (1u << 24)
#define EFER_LMA  (1u << 10)
#define EFER_NXE  (1u << 11)
#define MSR_PKRS  0x6e1u
#define XSAVE_HDR 512u /* SDM 1, 13.4.2: XSTATE_BV */
#define XSAVE_KEY 9u   /* the component of PKRU */

#define CPUID_MOST 256u

static uint32_t format_of(const struct vmm_x86_sregs *s)
{
    if (!(s->cr0 & CR0_PG))
        return VMM_PAGE_FORMAT_NONE;
    if (!(s->cr4 & CR4_PAE))
        return VMM_PAGE_FORMAT_X86_32;
    if (!(s->efer & EFER_LMA))
        return VMM_PAGE_FORMAT_X86_PAE;
    return s->cr4 & CR4_LA57 ? VMM_PAGE_FORMAT_X86_5LEVEL : VMM_PAGE_FORMAT_X86_4LEVEL;
}

int vmm_x86_paging_from_sregs(const struct vmm_x86_sregs *sregs, struct vmm_paging_context *context)
{
    if (!sregs || !context)
        return -EINVAL;
    struct vmm_paging_context c = {
        .size = sizeof(c),
        .format = format_of(sregs),
        .root = sregs->cr3,
        .flags = (sregs->cr0 & CR0_WP ? VMM_PAGING_WP : 0) |
                 (sregs->cr4 & CR4_PSE ? VMM_PAGING_PSE | VMM_PAGING_PSE36 : 0) |
                 (sregs->cr4 & CR4_SMEP ? VMM_PAGING_SMEP : 0) |
                 (sregs->cr4 & CR4_SMAP ? VMM_PAGING_SMAP : 0) |
                 (sregs->cr4 & CR4_PKE ? VMM_PAGING_PKU : 0) |
                 (sregs->cr4 & CR4_PKS ? VMM_PAGING_PKS : 0) |
                 (sregs->efer & EFER_NXE ? VMM_PAGING_NX : 0) | VMM_PAGING_PAGES_1G,
    };
    return vmm_info_copy(context, &c, sizeof(c));
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *table, uint32_t leaf,
                                           uint32_t subleaf)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &table->entries[i];
        bool indexed = (e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
        if (e->function == leaf && (!indexed || e->index == subleaf))
            return e;
    }
    return NULL;
}

/* What CPUID tells of paging: widths, page sizes, whose processor. */
static void apply_cpuid(struct vmm_paging_context *c, const struct kvm_cpuid2 *table)
{
    const struct kvm_cpuid_entry2 *e = find(table, 0, 0);
    /* "AuthenticAMD" and "HygonGenuine" by their first words. */
    if (e && (e->ebx == 0x68747541 || e->ebx == 0x6f677948))
        c->flags |= VMM_PAGING_AMD;
    e = find(table, 0x80000001, 0);
    if (!e || !(e->edx >> 26 & 1))
        c->flags &= ~VMM_PAGING_PAGES_1G;
    e = find(table, 0x80000008, 0);
    c->address_bits = e && (e->eax & 0xff) ? e->eax & 0xff : 36; /* KVM's own default */
    if (c->address_bits > 52)
        c->address_bits = 52;
}

static int read_user_keys(struct vmm_vcpu *vcpu, const struct kvm_cpuid2 *table, uint32_t *keys)
{
    const struct kvm_cpuid_entry2 *e = find(table, 0xd, XSAVE_KEY);
    struct kvm_xsave area;
    uint64_t present;
    *keys = 0;
    if (!e || e->ebx > sizeof(area.region) - sizeof(*keys))
        return 0;
    int r = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_XSAVE, &area);
    if (r < 0)
        return r;
    memcpy(&present, (char *)area.region + XSAVE_HDR, sizeof(present));
    if (present >> XSAVE_KEY & 1)
        memcpy(keys, (char *)area.region + e->ebx, sizeof(*keys));
    return 0;
}

/* PAE: VT-x and shadow paging use the PDPTE registers that CR3 loaded; a processor with SVM and
 * nested paging reads the entries from memory each time (APM 2, 15.25.10). */
static int read_top_entries(struct vmm_vcpu *vcpu, struct vmm_paging_context *c)
{
    struct vmm_host_info host = VMM_HOST_INFO_INIT;
    int r = vmm_host_get_info(vmm_vm_host(vmm_vcpu_vm(vcpu)), &host);
    if (r < 0 || (host.flavour == VMM_FLAVOUR_SVM && host.paging == VMM_PAGING_NESTED))
        return r;
#ifdef KVM_GET_SREGS2
    struct kvm_sregs2 s;
    memset(&s, 0, sizeof(s));
    if (vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_SREGS2, &s) == 0 &&
        (s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)) {
        c->flags |= VMM_PAGING_TOP_CACHED;
        memcpy(c->top_entries, s.pdptrs, sizeof(c->top_entries));
    }
#endif
    return 0;
}

static int complete(struct vmm_vcpu *vcpu, struct vmm_paging_context *c)
{
    struct kvm_cpuid2 *table =
        calloc(1, sizeof(*table) + CPUID_MOST * sizeof(struct kvm_cpuid_entry2));
    if (!table)
        return -ENOMEM;
    table->nent = CPUID_MOST;
    int r = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_CPUID2, table);
    if (r == 0)
        apply_cpuid(c, table);
    if (r == 0 && (c->flags & VMM_PAGING_PKU))
        r = read_user_keys(vcpu, table, &c->user_keys);
    free(table);
    if (r == 0 && (c->flags & VMM_PAGING_PKS)) {
        struct vmm_x86_msr pkrs = {.index = MSR_PKRS};
        if (vmm_x86_get_msrs(vcpu, &pkrs, 1) == 1)
            c->supervisor_keys = (uint32_t)pkrs.value;
    }
    if (r == 0 && c->format == VMM_PAGE_FORMAT_X86_PAE)
        r = read_top_entries(vcpu, c);
    return r;
}

int vmm_x86_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_x86_sregs sregs;
    if (!vcpu || !context)
        return -EINVAL;
    int r = vmm_x86_get_sregs(vcpu, &sregs);
    if (r == 0)
        r = vmm_x86_paging_from_sregs(&sregs, &c);
    if (r == 0)
        r = complete(vcpu, &c);
    return r < 0 ? r : vmm_info_copy(context, &c, sizeof(c));
}
