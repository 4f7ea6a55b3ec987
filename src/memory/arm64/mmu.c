/* SPDX-License-Identifier: BSD-3-Clause */
/* Stage 2 is always the hardware's: no shadow pages. */
#include "memory/mmu.h"

#include <errno.h>

int vmm_mmu_kvm_set_pages(int vm_fd, uint64_t pages, uint64_t *kvm_says)
{
    (void)vm_fd;
    (void)pages;
    *kvm_says = 0;
    return -EOPNOTSUPP;
}
