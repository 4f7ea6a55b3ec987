/* SPDX-License-Identifier: BSD-3-Clause */
/* How the vCPU translates addresses. */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"

#define SCTLR_M 1u

int vmm_vcpu_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    uint64_t sctlr;
    if (!vcpu || !context)
        return -EINVAL;
    int rc = vmm_arm64_get_reg(vcpu, ARM64_SCTLR_EL1, &sctlr, sizeof(sctlr));
    if (!rc && sctlr & SCTLR_M)
        rc = -ENOTSUP; /* the walker knows no arm64 tables */
    return rc ? rc : vmm_info_copy(context, &c, sizeof(c));
}
