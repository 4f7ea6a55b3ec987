/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulation assist of one vCPU: what joins the core (assist_core.h) to KVM. */
#ifndef VCPU_X86_ASSIST_H
#define VCPU_X86_ASSIST_H

#include "vcpu/x86/assist_core.h"

#include <libvmm/assist.h>
#include <libvmm/kvm.h>
#include <libvmm/paging.h>

struct vmm_assist {
    struct vmm_vcpu *vcpu; /* which owns this */
    vmm_x86_assist_fn fn;
    void *ctx;
    uint32_t flavour;  /* VMM_FLAVOUR_… */
    bool reports_user; /* KVM reports failures instead of queueing #UD first */
    bool features_known;
    uint64_t features;
    struct kvm_cpuid2 *cpuid;
    void *xsave;
    size_t xsave_size;
    struct vmm_x86_assist_counts counts;

    /* Of the instruction at hand */
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    bool paging_known;
    struct vmm_paging_context paging;
};

extern const struct vmm_assist_ops vmm_assist_kvm_ops;

/* Copy as many bytes of code as can be read at a linear address; returns how many. */
size_t vmm_assist_fetch(struct vmm_vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t linear,
                        uint8_t *bytes, size_t length);
void vmm_assist_paging_context(const struct kvm_sregs *sregs, struct vmm_paging_context *context);
/* The features of the vCPU, from its CPUID table and, where the guest sees the processor's own,
 * from there. */
int vmm_assist_load_features(struct vmm_assist *assist);
void vmm_assist_free(void *assist);

#endif
