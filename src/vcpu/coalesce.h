/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes that KVM has collected. */
#ifndef VCPU_COALESCE_H
#define VCPU_COALESCE_H

#include "vcpu/internal.h"

/* The ring, inside of the mapping of kvm_run; NULL: the host has none. */
struct kvm_coalesced_mmio_ring *vmm_coalesce_ring(struct vmm_vcpu *vcpu);

static inline bool vmm_coalesce_waiting(const struct kvm_coalesced_mmio_ring *ring)
{
    return ring->first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
}

#endif
