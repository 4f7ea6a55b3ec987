/* SPDX-License-Identifier: BSD-3-Clause */
/* Events, interrupts, the local APIC, whether a processor runs; the guest's and our debugging. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

int vmm_x86_get_events(struct vmm_vcpu *vcpu, struct vmm_x86_events *e)
{
    struct kvm_vcpu_events k;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_VCPU_EVENTS, &k);
    if (rc < 0)
        return rc;
    *e = (struct vmm_x86_events){
        .exception_injected = k.exception.injected,
        .exception_vector = k.exception.nr,
        .exception_has_error = k.exception.has_error_code,
        .exception_pending = k.exception.pending,
        .exception_error = k.exception.error_code,
        .interrupt_injected = k.interrupt.injected,
        .interrupt_vector = k.interrupt.nr,
        .interrupt_soft = k.interrupt.soft,
        .interrupt_shadow = k.interrupt.shadow,
        .nmi_injected = k.nmi.injected,
        .nmi_pending = k.nmi.pending,
        .nmi_masked = k.nmi.masked,
        .sipi_vector = k.sipi_vector,
        .flags = k.flags,
        .smi_smm = k.smi.smm,
        .smi_pending = k.smi.pending,
        .smi_in_nmi = k.smi.smm_inside_nmi,
        .smi_latched_init = k.smi.latched_init,
        .triple_fault_pending = k.triple_fault.pending,
        .exception_has_payload = k.exception_has_payload,
        .exception_payload = k.exception_payload,
    };
    return 0;
}

int vmm_x86_set_events(struct vmm_vcpu *vcpu, const struct vmm_x86_events *e)
{
    struct kvm_vcpu_events k = {
        .exception = {.injected = e->exception_injected,
                      .nr = e->exception_vector,
                      .has_error_code = e->exception_has_error,
                      .pending = e->exception_pending,
                      .error_code = e->exception_error},
        .interrupt = {.injected = e->interrupt_injected,
                      .nr = e->interrupt_vector,
                      .soft = e->interrupt_soft,
                      .shadow = e->interrupt_shadow},
        .nmi = {.injected = e->nmi_injected, .pending = e->nmi_pending, .masked = e->nmi_masked},
        .sipi_vector = e->sipi_vector,
        .flags = e->flags,
        .smi = {.smm = e->smi_smm,
                .pending = e->smi_pending,
                .smm_inside_nmi = e->smi_in_nmi,
                .latched_init = e->smi_latched_init},
        .triple_fault = {.pending = e->triple_fault_pending},
        .exception_has_payload = e->exception_has_payload,
        .exception_payload = e->exception_payload,
    };
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_VCPU_EVENTS, &k);
}

int vmm_x86_inject_interrupt(struct vmm_vcpu *vcpu, uint32_t vector)
{
    struct kvm_interrupt k = {.irq = vector};
    if (vector > 255)
        return -EINVAL;
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_INTERRUPT, &k);
}

bool vmm_x86_interrupt_ready(struct vmm_vcpu *vcpu, bool wait)
{
    bool ready = vcpu->run->ready_for_interrupt_injection != 0;
    vcpu->run->request_interrupt_window = !ready && wait;
    return ready;
}

int vmm_x86_inject_nmi(struct vmm_vcpu *vcpu)
{
    return vmm_kvm_ioctl(vcpu->fd, KVM_NMI, 0);
}

_Static_assert(sizeof(struct kvm_lapic_state) == VMM_X86_LAPIC_SIZE, "the APIC page's used part");

int vmm_x86_get_lapic(struct vmm_vcpu *vcpu, void *registers)
{
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_LAPIC, registers);
}

int vmm_x86_set_lapic(struct vmm_vcpu *vcpu, const void *registers)
{
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_LAPIC, registers);
}

int vmm_x86_get_mp_state(struct vmm_vcpu *vcpu, uint32_t *state)
{
    struct kvm_mp_state k;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_MP_STATE, &k);
    if (rc < 0)
        return rc;
    *state = k.mp_state;
    return 0;
}

int vmm_x86_set_mp_state(struct vmm_vcpu *vcpu, uint32_t state)
{
    struct kvm_mp_state k = {.mp_state = state};
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_MP_STATE, &k);
}

int vmm_x86_get_debug_regs(struct vmm_vcpu *vcpu, struct vmm_x86_debug_regs *regs)
{
    struct kvm_debugregs k;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_DEBUGREGS, &k);
    if (rc < 0)
        return rc;
    *regs = (struct vmm_x86_debug_regs){.dr6 = k.dr6, .dr7 = k.dr7};
    for (int i = 0; i < 4; i++)
        regs->dr[i] = k.db[i];
    return 0;
}

int vmm_x86_set_debug_regs(struct vmm_vcpu *vcpu, const struct vmm_x86_debug_regs *regs)
{
    struct kvm_debugregs k = {.dr6 = regs->dr6, .dr7 = regs->dr7};
    for (int i = 0; i < 4; i++)
        k.db[i] = regs->dr[i];
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_DEBUGREGS, &k);
}

int vmm_x86_set_guest_debug(struct vmm_vcpu *vcpu, uint32_t flags,
                            const struct vmm_x86_debug_regs *hardware)
{
    struct kvm_guest_debug k = {0};
    if (flags & ~(VMM_X86_DEBUG_STEP | VMM_X86_DEBUG_SOFTWARE | VMM_X86_DEBUG_HARDWARE) ||
        ((flags & VMM_X86_DEBUG_HARDWARE) && !hardware))
        return -EINVAL;
    if (flags)
        k.control = KVM_GUESTDBG_ENABLE;
    if (flags & VMM_X86_DEBUG_STEP)
        k.control |= KVM_GUESTDBG_SINGLESTEP;
    if (flags & VMM_X86_DEBUG_SOFTWARE)
        k.control |= KVM_GUESTDBG_USE_SW_BP;
    if (flags & VMM_X86_DEBUG_HARDWARE) {
        k.control |= KVM_GUESTDBG_USE_HW_BP;
        for (int i = 0; i < 4; i++)
            k.arch.debugreg[i] = hardware->dr[i];
        k.arch.debugreg[7] = hardware->dr7;
    }
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_GUEST_DEBUG, &k);
}
