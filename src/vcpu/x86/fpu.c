/* SPDX-License-Identifier: BSD-3-Clause */
/* Floating point, extended state, XCR0, TSC frequency. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

int vmm_x86_get_fpu(struct vmm_vcpu *vcpu, struct vmm_x86_fpu *fpu)
{
    struct kvm_fpu k;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_FPU, &k);
    if (rc < 0)
        return rc;
    *fpu = (struct vmm_x86_fpu){
        .fcw = k.fcw,
        .fsw = k.fsw,
        .ftw = k.ftwx,
        .last_opcode = k.last_opcode,
        .last_ip = k.last_ip,
        .last_dp = k.last_dp,
    };
    memcpy(fpu->st, k.fpr, sizeof(fpu->st));
    memcpy(fpu->xmm, k.xmm, sizeof(fpu->xmm));
    return 0;
}

int vmm_x86_set_fpu(struct vmm_vcpu *vcpu, const struct vmm_x86_fpu *fpu)
{
    struct kvm_fpu k = {
        .fcw = fpu->fcw,
        .fsw = fpu->fsw,
        .ftwx = fpu->ftw,
        .last_opcode = fpu->last_opcode,
        .last_ip = fpu->last_ip,
        .last_dp = fpu->last_dp,
    };
    memcpy(k.fpr, fpu->st, sizeof(k.fpr));
    memcpy(k.xmm, fpu->xmm, sizeof(k.xmm));
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_FPU, &k);
}

/* KVM_CAP_XSAVE2 tells how large the area is; the older call always has 4 KiB. */
size_t vmm_x86_xsave_size(struct vmm_vcpu *vcpu)
{
    int size = vmm_vm_capability(vcpu->vm, KVM_CAP_XSAVE2);
    if (size > (int)sizeof(struct kvm_xsave))
        return (size_t)size;
    return vmm_vm_capability(vcpu->vm, KVM_CAP_XSAVE) ? sizeof(struct kvm_xsave) : 0;
}

int vmm_x86_get_xsave(struct vmm_vcpu *vcpu, void *area, size_t size)
{
    if (size == 0 || size != vmm_x86_xsave_size(vcpu))
        return -EINVAL;
    return vmm_kvm_ioctl_ptr(
        vcpu->fd, size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area);
}

int vmm_x86_set_xsave(struct vmm_vcpu *vcpu, const void *area, size_t size)
{
    if (size == 0 || size != vmm_x86_xsave_size(vcpu))
        return -EINVAL;
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_XSAVE, area);
}

int vmm_x86_get_xcr0(struct vmm_vcpu *vcpu, uint64_t *value)
{
    struct kvm_xcrs k;
    if (!vmm_vm_capability(vcpu->vm, KVM_CAP_XCRS))
        return -ENOTSUP;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_XCRS, &k);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < k.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (k.xcrs[i].xcr == 0) {
            *value = k.xcrs[i].value;
            return 0;
        }
    return -ENOENT;
}

int vmm_x86_set_xcr0(struct vmm_vcpu *vcpu, uint64_t value)
{
    struct kvm_xcrs k = {.nr_xcrs = 1};
    if (!vmm_vm_capability(vcpu->vm, KVM_CAP_XCRS))
        return -ENOTSUP;
    k.xcrs[0].value = value;
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_XCRS, &k);
}

int vmm_x86_get_tsc_khz(struct vmm_vcpu *vcpu, uint32_t *khz)
{
    int rc = vmm_kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    if (rc < 0)
        return rc;
    *khz = (uint32_t)rc;
    return 0;
}

int vmm_x86_set_tsc_khz(struct vmm_vcpu *vcpu, uint32_t khz)
{
    if (!vmm_vm_capability(vcpu->vm, KVM_CAP_TSC_CONTROL))
        return -ENOTSUP;
    return vmm_kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz);
}
