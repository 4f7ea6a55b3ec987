/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranges whose writes KVM collects (KVM_CAP_COALESCED_MMIO, KVM_CAP_COALESCED_PIO). */
#include "vm/coalesce.h"

#include "base/util.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

static int change(struct vmm_vm *vm, unsigned long request, uint32_t space, uint64_t address,
                  uint64_t length)
{
    struct kvm_coalesced_mmio_zone zone = {.addr = address, .size = (uint32_t)length};
    uint32_t capability = space == VMM_SPACE_PORT ? KVM_CAP_COALESCED_PIO : KVM_CAP_COALESCED_MMIO;
    if (space > VMM_SPACE_MMIO || !length || length > UINT32_MAX || !vmm_range_ok(address, length))
        return -EINVAL;
    if (space == VMM_SPACE_PORT && address + length > 0x10000)
        return -EINVAL;
    if (vmm_vm_capability(vm, capability) <= 0)
        return -ENOTSUP;
    zone.pio = space == VMM_SPACE_PORT;
    return vmm_kvm_ioctl_ptr(vm->fd, request, &zone);
}

int vmm_vm_coalesce_add(struct vmm_vm *vm, uint32_t space, uint64_t address, uint64_t length)
{
    return change(vm, KVM_REGISTER_COALESCED_MMIO, space, address, length);
}

int vmm_vm_coalesce_remove(struct vmm_vm *vm, uint32_t space, uint64_t address, uint64_t length)
{
    return change(vm, KVM_UNREGISTER_COALESCED_MMIO, space, address, length);
}

void vmm_vm_coalesce_lock(struct vmm_vm *vm)
{
    pthread_mutex_lock(&vm->coalesce_lock);
}

void vmm_vm_coalesce_unlock(struct vmm_vm *vm)
{
    pthread_mutex_unlock(&vm->coalesce_lock);
}
