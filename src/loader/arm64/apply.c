/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU at the entry of a kernel (Documentation/arm64/booting.rst, 4): EL1, MMU off, interrupts masked. */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"

int vmm_arm64_boot_apply(struct vmm_vcpu *vcpu, const struct vmm_boot_state *state)
{
    struct vmm_arm64_regs regs = {.pstate = ARM64_PSTATE_EL1H | ARM64_PSTATE_DAIF};
    if (!vcpu || !state)
        return -EINVAL;
    regs.pc = state->entry;
    memcpy(regs.x, state->registers, 4 * sizeof(regs.x[0])); /* x0 to x3 mean something */
    return vmm_arm64_set_regs(vcpu, &regs);
}
