/* SPDX-License-Identifier: BSD-3-Clause */
/* Exits that only x86 has, and what an x86 vCPU needs at its making. */
#include "base/util.h"
#include "vcpu/internal.h"

#include <libvmm/x86.h>

int vmm_arch_vcpu_init(struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    (void)err;
    vcpu->can_sync =
        ((uint64_t)vmm_vm_capability(vcpu->vm, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS) != 0;
    return 0;
}

int vmm_vcpu_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context)
{
    return vmm_x86_paging_context(vcpu, context);
}

void vmm_arch_vcpu_fini(struct vmm_vcpu *vcpu)
{
    (void)vcpu;
}

static void decode_msr(struct vmm_vcpu *vcpu, struct vmm_exit *exit, uint32_t reason)
{
    exit->reason = reason;
    exit->u.msr.index = vcpu->run->msr.index;
    exit->u.msr.why = vcpu->run->msr.reason;
    exit->u.msr.data = (uint64_t *)(void *)&vcpu->run->msr.data;
    exit->u.msr.error = &vcpu->run->msr.error;
    vcpu->io_pending = true;
}

static void decode_hypercall(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    exit->reason = VMM_EXIT_HYPERCALL;
    exit->u.hypercall.number = vcpu->run->hypercall.nr;
    for (int i = 0; i < 6; i++)
        exit->u.hypercall.args[i] = vcpu->run->hypercall.args[i];
    exit->u.hypercall.result = (uint64_t *)(void *)&vcpu->run->hypercall.ret;
    vcpu->io_pending = true;
}

bool vmm_arch_decode_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    switch (run->exit_reason) {
    case KVM_EXIT_DEBUG:
        exit->reason = VMM_EXIT_DEBUG;
        exit->u.debug.exception = run->debug.arch.exception;
        exit->u.debug.pc = run->debug.arch.pc;
        exit->u.debug.dr6 = run->debug.arch.dr6;
        exit->u.debug.dr7 = run->debug.arch.dr7;
        return true;
    case KVM_EXIT_HYPERCALL:
        decode_hypercall(vcpu, exit);
        return true;
    case KVM_EXIT_X86_RDMSR:
        decode_msr(vcpu, exit, VMM_EXIT_RDMSR);
        return true;
    case KVM_EXIT_X86_WRMSR:
        decode_msr(vcpu, exit, VMM_EXIT_WRMSR);
        return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        exit->reason = VMM_EXIT_IRQ_WINDOW;
        return true;
    case KVM_EXIT_SET_TPR:
        exit->reason = VMM_EXIT_TPR;
        return true;
    case KVM_EXIT_IOAPIC_EOI:
        exit->reason = VMM_EXIT_IOAPIC_EOI;
        exit->u.eoi.vector = run->eoi.vector;
        return true;
    default:
        return false;
    }
}
