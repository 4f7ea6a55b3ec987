/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU at the entry of a kernel. */
#include "base/util.h"

#include <libvmm/x86-boot.h>

int vmm_x86_boot_apply(struct vmm_vcpu *vcpu, const struct vmm_boot_state *state)
{
    struct vmm_x86_boot boot;
    struct vmm_x86_sregs sregs;
    if (!vcpu)
        return -EINVAL;
    int rc = vmm_x86_boot_get(state, &boot);
    if (!rc)
        rc = vmm_x86_get_sregs(vcpu, &sregs);
    if (rc)
        return rc;
    sregs.cs = boot.cs;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = boot.data;
    sregs.tr = boot.tr;
    sregs.ldt = (struct vmm_x86_segment){.unusable = 1};
    sregs.gdt = boot.gdt;
    sregs.idt = boot.idt;
    sregs.cr0 = boot.cr0;
    sregs.cr2 = 0;
    sregs.cr3 = boot.cr3;
    sregs.cr4 = boot.cr4;
    sregs.efer = boot.efer;
    memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
    rc = vmm_x86_set_sregs(vcpu, &sregs);
    return rc ? rc : vmm_x86_set_regs(vcpu, &boot.regs);
}
