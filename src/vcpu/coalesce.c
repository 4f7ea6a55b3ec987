/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking collected writes from KVM's ring, and handing them to the I/O handler in the guest's order. Whatever
 * else a vCPU exits for comes after them, so no device sees its registers written in another order.
 */
#include "vcpu/coalesce.h"

#include "vm/coalesce.h"

#include <unistd.h>

struct kvm_coalesced_mmio_ring *vmm_coalesce_ring(struct vmm_vcpu *vcpu)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int pages = vmm_vm_capability(vcpu->vm, KVM_CAP_COALESCED_MMIO);
    if (pages <= 0 || ((size_t)pages + 1) * page > vcpu->run_size)
        return NULL;
    return (void *)((char *)vcpu->run + (size_t)pages * page);
}

static void hand_over(struct vmm_vcpu *vcpu, struct kvm_coalesced_mmio *write)
{
    if (write->len > sizeof(write->data))
        return;
    if (write->pio && vcpu->io.port)
        (void)vcpu->io.port(vcpu->io_ctx, (uint16_t)write->phys_addr, write->data, write->len, 1,
                            true);
    else if (!write->pio && vcpu->io.mmio)
        (void)vcpu->io.mmio(vcpu->io_ctx, write->phys_addr, write->data, write->len, true);
}

/* Linux, Documentation/virt/kvm/api.rst, 4.116: `first` is the reader's index, `last` the kernel's. */
void vmm_vcpu_drain(struct vmm_vcpu *vcpu)
{
    struct kvm_coalesced_mmio_ring *ring = vcpu->ring;
    if (!ring)
        return;
    uint32_t most = ((uint32_t)sysconf(_SC_PAGESIZE) - (uint32_t)sizeof(*ring)) /
                    (uint32_t)sizeof(ring->coalesced_mmio[0]);
    vmm_vm_coalesce_lock(vcpu->vm);
    for (uint32_t left = most; left && vmm_coalesce_waiting(ring); left--) {
        uint32_t first = ring->first < most ? ring->first : 0;
        struct kvm_coalesced_mmio write = ring->coalesced_mmio[first];
        __atomic_store_n(&ring->first, (first + 1) % most, __ATOMIC_RELEASE);
        hand_over(vcpu, &write);
    }
    vmm_vm_coalesce_unlock(vcpu->vm);
}
