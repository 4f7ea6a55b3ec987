/* SPDX-License-Identifier: BSD-3-Clause */
/* An arm64 vCPU from the inside. */
#ifndef VCPU_ARM64_ARM64_H
#define VCPU_ARM64_ARM64_H

#include "vcpu/internal.h"

#include <libvmm/arm64.h>

#include <stddef.h>

/* Numbers of registers (KVM API, 4.68). */
#define ARM64_CORE(field)                                                                          \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |                                         \
     offsetof(struct kvm_regs, field) / sizeof(uint32_t))
#define ARM64_SYSTEM(op0, op1, crn, crm, op2)                                                      \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG |                                     \
     ((op0) << KVM_REG_ARM64_SYSREG_OP0_SHIFT | (op1) << KVM_REG_ARM64_SYSREG_OP1_SHIFT |          \
      (crn) << KVM_REG_ARM64_SYSREG_CRN_SHIFT | (crm) << KVM_REG_ARM64_SYSREG_CRM_SHIFT |          \
      (op2) << KVM_REG_ARM64_SYSREG_OP2_SHIFT))
#define ARM64_PSTATE_EL1H 0x5u
#define ARM64_PSTATE_DAIF 0x3c0u /* interrupts masked */

#define ARM64_SCTLR_EL1 ARM64_SYSTEM(3, 0, 1, 0, 0)
#define ARM64_ESR_EL1   ARM64_SYSTEM(3, 0, 5, 2, 0)
#define ARM64_FAR_EL1   ARM64_SYSTEM(3, 0, 6, 0, 0)
#define ARM64_TTBR0_EL1 ARM64_SYSTEM(3, 0, 2, 0, 0)
#define ARM64_TTBR1_EL1 ARM64_SYSTEM(3, 0, 2, 0, 1)
#define ARM64_TCR_EL1   ARM64_SYSTEM(3, 0, 2, 0, 2)
#define ARM64_VBAR_EL1  ARM64_SYSTEM(3, 0, 12, 0, 0)
#define ARM64_ELR_EL1   ARM64_CORE(elr_el1)

/* Back to the state after power-on. */
int vmm_arm64_vcpu_init(struct vmm_vcpu *vcpu);

#endif
