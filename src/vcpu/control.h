/* SPDX-License-Identifier: BSD-3-Clause */
/* The running thread's half of kick, pause and stop. */
#ifndef VCPU_CONTROL_H
#define VCPU_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

struct vmm_vcpu;

/* The calling thread runs the vCPU now. Waits while it is paused. false: it was told to stop while it
 * was, and the registers are still somebody else's. */
bool vmm_vcpu_enter_run(struct vmm_vcpu *vcpu);
void vmm_vcpu_leave_run(struct vmm_vcpu *vcpu);
/* KVM_RUN, entered when nobody keeps the vCPU out. 0 or an errno. */
int vmm_vcpu_enter_guest(struct vmm_vcpu *vcpu);
/* Do what is asked for. VMM_EXIT_STOPPED and VMM_EXIT_KICKED: vmm_vcpu_run() returns that;
 * VMM_EXIT_UNKNOWN: nothing is asked any more. May wait for a resume. */
uint32_t vmm_vcpu_serve_requests(struct vmm_vcpu *vcpu);

#endif
