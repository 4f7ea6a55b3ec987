/* SPDX-License-Identifier: BSD-3-Clause */
/* A VM from the inside: shared by the files of this room. */
#ifndef VM_INTERNAL_H
#define VM_INTERNAL_H

#include <libvmm/irq.h>
#include <libvmm/kvm.h>

#include <pthread.h>
#include <stdatomic.h>

struct vmm_routes {
    struct kvm_irq_routing_entry *entries;
    uint32_t count, room;
    bool changed;       /* since the last commit */
    bool requesters;    /* messages carry who sends them: an ITS wants to know */
    uint64_t *used;     /* a bit a GSI, for the message routes that were given out */
    uint32_t gsi_count; /* KVM_CAP_IRQ_ROUTING: GSIs are below this */
};

struct vmm_vm {
    _Atomic uint32_t refs;
    int fd;
    struct vmm_host *host;
    struct vmm_vm_options options;
    void *arch; /* the architecture's; NULL at first */
    _Atomic uint64_t guest_errors;
    pthread_mutex_t coalesce_lock; /* the ring of collected writes; above devices' locks */
    pthread_mutex_t irq_lock;      /* guards all below */
    uint16_t *line_levels;         /* how many lines hold each GSI high */
    struct vmm_routes routes;
};

int vmm_irq_init(struct vmm_vm *vm, struct vmm_error *err);
void vmm_irq_fini(struct vmm_vm *vm);

#endif
