/* SPDX-License-Identifier: BSD-3-Clause */
/* What the processor architecture knows of KVM's shadow pages. */
#ifndef MEMORY_MMU_H
#define MEMORY_MMU_H

#include <stdint.h>

/* Set the limit of a VM's shadow pages and read it back (0: the kernel does not say). 0, a negative
 * errno; -EOPNOTSUPP: there is no such thing. */
int vmm_mmu_kvm_set_pages(int vm_fd, uint64_t pages, uint64_t *kvm_says);

#endif
