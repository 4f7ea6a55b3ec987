/* SPDX-License-Identifier: BSD-3-Clause */
/* The size of KVM's pool of shadow pages. */
#include "memory/mmu.h"
#include "base/util.h"

#include <libvmm/mmu.h>

#include <unistd.h>

#define KVM_PAGE      4096u
#define KVM_LEAST     64u /* KVM_MIN_ALLOC_MMU_PAGES */
#define LEAST         1024u
#define GUEST_DIVISOR 25u /* 4 per cent */
#define HOST_DIVISOR  32u

uint64_t vmm_mmu_pages_policy(uint64_t ram_bytes, uint64_t host_bytes)
{
    uint64_t pages = ram_bytes / KVM_PAGE / GUEST_DIVISOR;
    uint64_t most = host_bytes / KVM_PAGE / HOST_DIVISOR;
    if (pages < LEAST)
        pages = LEAST;
    if (pages > most)
        pages = most;
    return pages < KVM_LEAST ? KVM_LEAST : pages;
}

static uint64_t host_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}

static int take_options(struct vmm_mmu_options *o, const struct vmm_mmu_options *given,
                        struct vmm_error *err)
{
    int r = given ? vmm_options_copy(o, sizeof(*o), given) : -EINVAL;
    if (r < 0)
        return vmm_error_set(err, r, "MMU: bad options");
    if (o->ram_bytes == 0 && o->pages == 0)
        return vmm_error_set(err, -EINVAL, "MMU: neither the memory's size nor a page count given");
    if (o->pages != 0 && o->pages < KVM_LEAST)
        return vmm_error_set(err, -EINVAL, "MMU: %llu shadow pages; KVM needs at least %u",
                             (unsigned long long)o->pages, KVM_LEAST);
    if (o->host_bytes == 0)
        o->host_bytes = host_memory();
    return 0;
}

int vmm_mmu_setup(struct vmm_vm *vm, const struct vmm_mmu_options *options,
                  struct vmm_mmu_info *info, struct vmm_error *err)
{
    struct vmm_mmu_options o;
    struct vmm_host_info host = VMM_HOST_INFO_INIT;
    struct vmm_mmu_info done = VMM_MMU_INFO_INIT;
    if (!vm)
        return vmm_error_set(err, -EINVAL, "MMU: no VM given");
    int r = take_options(&o, options, err);
    if (r == 0)
        r = vmm_host_get_info(vmm_vm_host(vm), &host);
    if (r < 0)
        return r;
    done.paging = host.paging;
    done.pages = o.pages ? o.pages : vmm_mmu_pages_policy(o.ram_bytes, o.host_bytes);
    if (host.paging != VMM_PAGING_NESTED) {
        r = vmm_mmu_kvm_set_pages(vmm_vm_fd(vm), done.pages, &done.kvm_says);
        if (r < 0 && r != -EOPNOTSUPP)
            return vmm_error_set(err, r, "MMU: KVM_SET_NR_MMU_PAGES of %llu: %s",
                                 (unsigned long long)done.pages, strerror(-r));
        done.set = r == 0;
    }
    return info ? vmm_info_copy(info, &done, sizeof(done)) : 0;
}
