/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of collected writes is one for all vCPUs of a VM: who takes from it holds this lock. */
#ifndef VM_COALESCE_H
#define VM_COALESCE_H

#include <libvmm/irq.h>

void vmm_vm_coalesce_lock(struct vmm_vm *vm);
void vmm_vm_coalesce_unlock(struct vmm_vm *vm);

#endif
