/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU at the entry of a kernel (Documentation/arm64/booting.rst, 4): EL1, MMU off, interrupts masked. */
#include "base/util.h"

#include <libvmm/arm64.h>

#define PSTATE_EL1H 0x5u
#define PSTATE_DAIF 0x3c0u

int vmm_arm64_boot_apply(struct vmm_vcpu *vcpu, const struct vmm_boot_state *state)
{
    struct vmm_arm64_regs regs = {.pstate = PSTATE_EL1H | PSTATE_DAIF};
    if (!vcpu || !state)
        return -EINVAL;
    regs.pc = state->entry;
    memcpy(regs.x, state->registers, 4 * sizeof(regs.x[0])); /* x0 to x3 mean something */
    return vmm_arm64_set_regs(vcpu, &regs);
}
