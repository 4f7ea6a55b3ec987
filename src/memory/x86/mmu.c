/* SPDX-License-Identifier: BSD-3-Clause */
#include "memory/mmu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

int vmm_mmu_kvm_set_pages(int vm_fd, uint64_t pages, uint64_t *kvm_says)
{
    *kvm_says = 0;
    if (ioctl(vm_fd, KVM_SET_NR_MMU_PAGES, pages) < 0)
        return -errno;
#ifdef KVM_GET_NR_MMU_PAGES
    /* Removed in Linux 6.4; the answer is cut to an int there is before. */
    int n = ioctl(vm_fd, KVM_GET_NR_MMU_PAGES, 0);
    if (n > 0)
        *kvm_says = (uint64_t)n;
#endif
    return 0;
}
