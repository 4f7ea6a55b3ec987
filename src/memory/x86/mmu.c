/* SPDX-License-Identifier: BSD-3-Clause */
#include "memory/mmu.h"
#include "vm/ioctl.h"

#include <linux/kvm.h>

int vmm_mmu_kvm_set_pages(int vm_fd, uint64_t pages, uint64_t *kvm_says)
{
    *kvm_says = 0;
    int r = vmm_kvm_ioctl(vm_fd, KVM_SET_NR_MMU_PAGES, pages);
    if (r < 0)
        return r;
#ifdef KVM_GET_NR_MMU_PAGES
    /* Removed in Linux 6.4; the answer is cut to an int there is before. */
    int n = vmm_kvm_ioctl(vm_fd, KVM_GET_NR_MMU_PAGES, 0);
    if (n > 0)
        *kvm_says = (uint64_t)n;
#endif
    return 0;
}
