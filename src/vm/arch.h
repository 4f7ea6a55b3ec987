/* SPDX-License-Identifier: BSD-3-Clause */
/* What the VM room asks of the processor architecture; one folder beside this file answers. */
#ifndef VM_ARCH_H
#define VM_ARCH_H

#include <libvmm/irq.h>
#include <libvmm/state.h>

/* Flavour, paging, module: filled in as far as the host tells. */
void vmm_arch_host_info(struct vmm_host_info *info);
/* Interrupt controllers, and what must come before the first vCPU. */
int vmm_arch_vm_set_up(int fd, const struct vmm_vm_options *options, struct vmm_error *err);
/* The pin routes that the in-kernel controllers have at first. */
int vmm_arch_default_routes(struct vmm_vm *vm);
/* GSIs below this are pins of the controllers; message routes are given out above. */
uint32_t vmm_arch_pin_gsis(uint32_t irqchip, uint32_t split_pins);
/* What vmm_arch_vm_set_up() and later calls left at vm->arch. */
void vmm_arch_vm_fini(struct vmm_vm *vm);
/* What KVM_IRQ_LINE calls a GSI. */
uint32_t vmm_arch_irq_number(uint32_t gsi);
/* Interrupt controllers and timers in KVM, into and out of the node that is open. */
int vmm_arch_vm_save(struct vmm_vm *vm, struct vmm_state_writer *w);
int vmm_arch_vm_load(struct vmm_vm *vm, struct vmm_state_reader *r, struct vmm_error *err);

#endif
