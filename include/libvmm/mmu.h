/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file mmu.h
 * KVM's shadow page tables: how many there may be.
 *
 * A host without EPT or NPT keeps shadow page tables: for each guest table in use a page of its own.
 * When the pool is used up KVM recycles the oldest, and the guest pays with page faults. Hosts with
 * nested paging need a handful of pages and no setting. vmm_host_get_info() says which it is;
 * stats.h counts what happens. The pages of KVM's own (TSS, identity map) are placed by vm.h.
 */
#ifndef LIBVMM_MMU_H
#define LIBVMM_MMU_H

#include <libvmm/vm.h>

VMM_BEGIN_DECLS

/**
 * How many shadow pages a VM with `ram_bytes` of memory should be allowed on a host with
 * `host_bytes`: 4 per cent of the guest's pages, which is twice KVM's own limit (a set of last-level
 * tables for all of memory takes 0.2 per cent, so about 20 address spaces that each map everything
 * stay shadowed at once); at least 1024; at most a 32nd of the host's memory, but never below KVM's
 * least, 64. Pages are allocated as they are used, so the figure is a limit, not a cost.
 */
VMM_API uint64_t vmm_mmu_pages_policy(uint64_t ram_bytes, uint64_t host_bytes);

struct vmm_mmu_options {
    size_t size;
    uint64_t ram_bytes;  /**< the VM's memory, what may be added later included */
    uint64_t host_bytes; /**< 0: the host's physical memory */
    uint64_t pages;      /**< a limit of the caller's own, 64 or more; 0: the policy */
};
#define VMM_MMU_OPTIONS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_mmu_options), 0, 0, 0                                                    \
    }

struct vmm_mmu_info {
    size_t size;
    uint32_t paging;   /**< VMM_PAGING_… of the host */
    uint32_t set;      /**< 1: KVM has been given `pages`; 0: the host needs no setting */
    uint64_t pages;    /**< the caller's limit or the policy's */
    uint64_t kvm_says; /**< what KVM reads back; 0: kernels since 6.4 do not say */
};
#define VMM_MMU_INFO_INIT                                                                          \
    {                                                                                              \
        sizeof(struct vmm_mmu_info), 0, 0, 0, 0                                                    \
    }

/**
 * Set the pool's size where the host shadows (or does not say that it does not). Call it again when
 * memory was added beyond `ram_bytes`. x86 only, elsewhere nothing is set. Before the VM has
 * memory or later; may block while KVM frees pages.
 * @param info  NULL, or what was done
 * -EINVAL: no memory given, `pages` below 64; else KVM's errno.
 */
VMM_API int vmm_mmu_setup(struct vmm_vm *vm, const struct vmm_mmu_options *options,
                          struct vmm_mmu_info *info, struct vmm_error *err);

VMM_END_DECLS

#endif
