/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file kvm.h
 * The escape hatch: KVM's own types. The one public header that includes <linux/kvm.h>.
 *
 * The raw descriptors are vmm_host_fd(), vmm_vm_fd() and vmm_vcpu_fd(); an embedder may make any
 * call on them that the library does not make itself.
 */
#ifndef LIBVMM_KVM_H
#define LIBVMM_KVM_H

#include <libvmm/vcpu.h>

#include <linux/kvm.h>

VMM_BEGIN_DECLS

/** The mapped run structure of a vCPU. For the running thread, between runs. */
VMM_API struct kvm_run *vmm_vcpu_kvm_run(struct vmm_vcpu *vcpu);

VMM_END_DECLS

#endif
