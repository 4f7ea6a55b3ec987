/* SPDX-License-Identifier: BSD-3-Clause */
/* What an arm64 vCPU needs at its making, and exits that only arm64 has. */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"
#include "vm/ioctl.h"

/* KVM API, 4.82: after KVM_ARM_VCPU_INIT the registers are those of a reset. */
int vmm_arm64_vcpu_init(struct vmm_vcpu *vcpu)
{
    struct kvm_vcpu_init init = {0};
    int rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(vcpu->vm), KVM_ARM_PREFERRED_TARGET, &init);
    if (rc)
        return rc;
    init.features[0] = 1u << KVM_ARM_VCPU_PSCI_0_2; /* and later: KVM's newest */
    if (vcpu->id > 0)
        init.features[0] |= 1u << KVM_ARM_VCPU_POWER_OFF;
    if (vmm_vm_capability(vcpu->vm, KVM_CAP_ARM_PTRAUTH_ADDRESS) &&
        vmm_vm_capability(vcpu->vm, KVM_CAP_ARM_PTRAUTH_GENERIC))
        init.features[0] |= 1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1u << KVM_ARM_VCPU_PTRAUTH_GENERIC;
    bool sve = vmm_vm_capability(vcpu->vm, KVM_CAP_ARM_SVE);
    if (sve)
        init.features[0] |= 1u << KVM_ARM_VCPU_SVE;
    rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_ARM_VCPU_INIT, &init);
    if (rc || !sve || vcpu->arch)
        return rc;
    int feature = KVM_ARM_VCPU_SVE; /* the vector lengths are settled, once */
    rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_ARM_VCPU_FINALIZE, &feature);
    vcpu->arch = vcpu; /* a flag: there is nothing else to keep */
    return rc;
}

int vmm_arch_vcpu_init(struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    int rc = vmm_arm64_vcpu_init(vcpu);
    return rc ? vmm_error_set(err, rc, "KVM_ARM_VCPU_INIT of vCPU %u: %s", vcpu->id, strerror(-rc))
              : 0;
}

void vmm_arch_vcpu_fini(struct vmm_vcpu *vcpu)
{
    (void)vcpu;
}

bool vmm_arch_decode_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    const struct kvm_run *run = vcpu->run;
    if (run->exit_reason != KVM_EXIT_DEBUG)
        return false;
    exit->reason = VMM_EXIT_DEBUG;
    exit->u.debug.exception = run->debug.arch.hsr; /* the syndrome */
    exit->u.debug.pc = run->debug.arch.far;
    return true;
}
