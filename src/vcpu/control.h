/* SPDX-License-Identifier: BSD-3-Clause */
/* The running thread's half of kick, pause and stop. */
#ifndef VCPU_CONTROL_H
#define VCPU_CONTROL_H

#include "base/util.h"
#include "vcpu/internal.h"

#include <sys/ioctl.h>

/* The calling thread runs the vCPU now. Waits while it is paused. false: it was told to stop while it
 * was, and the registers are still somebody else's. */
bool vmm_vcpu_enter_run(struct vmm_vcpu *vcpu);
void vmm_vcpu_leave_run(struct vmm_vcpu *vcpu);
/* It is kept out: wait until it is not, with in_guest set again. */
VMM_COLD void vmm_vcpu_wait_to_enter(struct vmm_vcpu *vcpu);
/* Wake those who wait for it to be out. */
VMM_COLD void vmm_vcpu_tell_out(struct vmm_vcpu *vcpu);

static inline void vmm_vcpu_left_guest(struct vmm_vcpu *vcpu)
{
    atomic_store(&vcpu->in_guest, 0);
    if (atomic_load(&vcpu->kept_out))
        vmm_vcpu_tell_out(vcpu);
}

/* KVM_RUN, entered when nobody keeps the vCPU out. 0 or an errno. */
static inline int vmm_vcpu_enter_guest(struct vmm_vcpu *vcpu)
{
    atomic_store(&vcpu->in_guest, 1);
    if (atomic_load(&vcpu->kept_out))
        vmm_vcpu_wait_to_enter(vcpu);
    int error = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? errno : 0;
    vmm_vcpu_left_guest(vcpu);
    return error;
}

/* Do what is asked for. VMM_EXIT_STOPPED and VMM_EXIT_KICKED: vmm_vcpu_run() returns that;
 * VMM_EXIT_UNKNOWN: nothing is asked any more. May wait for a resume. */
uint32_t vmm_vcpu_serve_requests(struct vmm_vcpu *vcpu);

#endif
