/* SPDX-License-Identifier: BSD-3-Clause */
/* Model-specific registers. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

#include <stdlib.h>

#define MSRS_AT_ONCE 1024u

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

static struct kvm_msrs *buffer_of(const struct vmm_x86_msr *msrs, size_t count)
{
    struct kvm_msrs *buffer = calloc(1, sizeof(*buffer) + count * sizeof(buffer->entries[0]));
    if (!buffer)
        return NULL;
    buffer->nmsrs = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        buffer->entries[i].index = msrs[i].index;
        buffer->entries[i].data = msrs[i].value;
    }
    return buffer;
}

long vmm_x86_get_msrs(struct vmm_vcpu *vcpu, struct vmm_x86_msr *msrs, size_t count)
{
    if (count > MSRS_AT_ONCE)
        return -E2BIG;
    struct kvm_msrs *buffer = buffer_of(msrs, count);
    if (!buffer)
        return -ENOMEM;
    long rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_MSRS, buffer);
    for (long i = 0; i < rc; i++)
        msrs[i].value = buffer->entries[i].data;
    free(buffer);
    return rc;
}

long vmm_x86_set_msrs(struct vmm_vcpu *vcpu, const struct vmm_x86_msr *msrs, size_t count)
{
    if (count > MSRS_AT_ONCE)
        return -E2BIG;
    struct kvm_msrs *buffer = buffer_of(msrs, count);
    if (!buffer)
        return -ENOMEM;
    long rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_MSRS, buffer);
    free(buffer);
    return rc;
}
