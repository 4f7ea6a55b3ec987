/* SPDX-License-Identifier: BSD-3-Clause */
/* Registers of an arm64 vCPU, one at a time as KVM has them (KVM API, 4.68 and 4.69). */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"
#include "vm/ioctl.h"

#include <stdlib.h>

#define LENGTH_MAX 256u /* of a scalable vector register's slice */

size_t vmm_arm64_reg_length(uint64_t id)
{
    size_t length = (size_t)1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
    return (id & KVM_REG_ARCH_MASK) == KVM_REG_ARM64 && length <= LENGTH_MAX ? length : 0;
}

static int transfer(struct vmm_vcpu *vcpu, unsigned long request, uint64_t id, const void *value,
                    size_t length)
{
    struct kvm_one_reg reg = {.id = id, .addr = (uint64_t)(uintptr_t)value};
    if (!vcpu || !value || length == 0 || length != vmm_arm64_reg_length(id))
        return -EINVAL;
    return vmm_kvm_ioctl_ptr(vcpu->fd, request, &reg);
}

int vmm_arm64_get_reg(struct vmm_vcpu *vcpu, uint64_t id, void *value, size_t length)
{
    return transfer(vcpu, KVM_GET_ONE_REG, id, value, length);
}

int vmm_arm64_set_reg(struct vmm_vcpu *vcpu, uint64_t id, const void *value, size_t length)
{
    return transfer(vcpu, KVM_SET_ONE_REG, id, value, length);
}

long vmm_arm64_reg_list(struct vmm_vcpu *vcpu, uint64_t *ids, size_t max)
{
    struct kvm_reg_list count = {0};
    if (!vcpu || (max && !ids))
        return -EINVAL;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_REG_LIST, &count);
    if (rc != -E2BIG)
        return rc; /* 0: the vCPU has no registers at all */
    struct kvm_reg_list *list = malloc(sizeof(*list) + count.n * sizeof(list->reg[0]));
    if (!list)
        return -ENOMEM;
    list->n = count.n;
    rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_REG_LIST, list);
    if (!rc && max)
        memcpy(ids, list->reg, (list->n < max ? (size_t)list->n : max) * sizeof(ids[0]));
    long n = rc ? rc : (long)list->n;
    free(list);
    return n;
}

/* In the order of the structure: x0 to x30, sp, pc, pstate, as KVM numbers them too. */
static uint64_t core_id(size_t i)
{
    return KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
           (offsetof(struct kvm_regs, regs) / sizeof(uint32_t) + 2 * i);
}

#define CORE_COUNT (sizeof(struct vmm_arm64_regs) / sizeof(uint64_t))
_Static_assert(sizeof(struct vmm_arm64_regs) == sizeof(struct user_pt_regs), "the same order");

int vmm_arm64_get_regs(struct vmm_vcpu *vcpu, struct vmm_arm64_regs *regs)
{
    uint64_t values[CORE_COUNT];
    int rc = regs ? 0 : -EINVAL;
    for (size_t i = 0; i < CORE_COUNT && !rc; i++)
        rc = vmm_arm64_get_reg(vcpu, core_id(i), &values[i], sizeof(values[i]));
    if (!rc)
        memcpy(regs, values, sizeof(*regs));
    return rc;
}

int vmm_arm64_set_regs(struct vmm_vcpu *vcpu, const struct vmm_arm64_regs *regs)
{
    uint64_t values[CORE_COUNT];
    if (!regs)
        return -EINVAL;
    memcpy(values, regs, sizeof(values));
    int rc = 0;
    for (size_t i = 0; i < CORE_COUNT && !rc; i++)
        rc = vmm_arm64_set_reg(vcpu, core_id(i), &values[i], sizeof(values[i]));
    return rc;
}

int vmm_vcpu_start_at(struct vmm_vcpu *vcpu, uint64_t address)
{
    struct vmm_arm64_regs regs = {.pc = address, .pstate = ARM64_PSTATE_EL1H | ARM64_PSTATE_DAIF};
    if (!vcpu || address % 4)
        return -EINVAL;
    return vmm_arm64_set_regs(vcpu, &regs);
}
