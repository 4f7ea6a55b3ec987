/* SPDX-License-Identifier: BSD-3-Clause */
/* Model-specific registers. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

#include <stdlib.h>

#define MSRS_AT_ONCE 1024u
#define MSRS_A_CALL  128u

long vmm_x86_msr_list(struct vmm_host *host, uint32_t *indices, size_t max)
{
    struct kvm_msr_list probe = {.nmsrs = 0};
    int rc = vmm_kvm_ioctl_ptr(vmm_host_fd(host), KVM_GET_MSR_INDEX_LIST, &probe);
    if (rc != -E2BIG)
        return rc;
    struct kvm_msr_list *list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
    if (!list)
        return -ENOMEM;
    list->nmsrs = probe.nmsrs;
    rc = vmm_kvm_ioctl_ptr(vmm_host_fd(host), KVM_GET_MSR_INDEX_LIST, list);
    for (size_t i = 0; rc == 0 && i < list->nmsrs && i < max; i++)
        indices[i] = list->indices[i];
    long result = rc ? rc : (long)list->nmsrs;
    free(list);
    return result;
}

/* KVM takes fewer than 256 with a call. Returns how many it took of the first ones. */
static long transfer(struct vmm_vcpu *vcpu, unsigned long request, struct vmm_x86_msr *msrs,
                     size_t count)
{
    uint64_t space[(sizeof(struct kvm_msrs) + MSRS_A_CALL * sizeof(struct kvm_msr_entry)) /
                   sizeof(uint64_t)] = {0};
    struct kvm_msrs *buffer = (struct kvm_msrs *)(void *)space;
    uint32_t n = (uint32_t)(count < MSRS_A_CALL ? count : MSRS_A_CALL);
    buffer->nmsrs = n;
    for (uint32_t i = 0; i < n; i++) {
        buffer->entries[i].index = msrs[i].index;
        buffer->entries[i].data = msrs[i].value;
    }
    long rc = vmm_kvm_ioctl_ptr(vcpu->fd, request, buffer);
    for (long i = 0; i < rc && request == KVM_GET_MSRS; i++)
        msrs[i].value = buffer->entries[i].data;
    return rc;
}

static long transfer_all(struct vmm_vcpu *vcpu, unsigned long request, struct vmm_x86_msr *msrs,
                         size_t count)
{
    size_t done = 0;
    if (count > MSRS_AT_ONCE)
        return -E2BIG;
    while (done < count) {
        size_t part = count - done < MSRS_A_CALL ? count - done : MSRS_A_CALL;
        long rc = transfer(vcpu, request, msrs + done, part);
        if (rc < 0)
            return rc;
        done += (size_t)rc;
        if ((size_t)rc < part)
            break;
    }
    return (long)done;
}

long vmm_x86_get_msrs(struct vmm_vcpu *vcpu, struct vmm_x86_msr *msrs, size_t count)
{
    return transfer_all(vcpu, KVM_GET_MSRS, msrs, count);
}

long vmm_x86_set_msrs(struct vmm_vcpu *vcpu, const struct vmm_x86_msr *msrs, size_t count)
{
    /* Only reading writes to the array. */
    return transfer_all(vcpu, KVM_SET_MSRS, (struct vmm_x86_msr *)(uintptr_t)msrs, count);
}
