/* SPDX-License-Identifier: BSD-3-Clause */
/* What all x86 boards do alike with their processors. */
#ifndef MACHINE_X86_PROCESSORS_H
#define MACHINE_X86_PROCESSORS_H

#include "machine/internal.h"

#include <libvmm/x86.h>

/* CPUID by the machine's policy (made at the first call, the board's to free) and emulation assist. */
int vmm_board_set_up_vcpu(struct vmm_machine *machine, struct vmm_x86_cpuid **cpuid,
                          struct vmm_vcpu *vcpu, struct vmm_error *err);
void vmm_board_describe(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text,
                        size_t size);

#endif
