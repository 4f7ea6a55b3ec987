/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU from the inside: shared by the files of this room. */
#ifndef VCPU_INTERNAL_H
#define VCPU_INTERNAL_H

#include <libvmm/kvm.h>

#include <pthread.h>
#include <stdatomic.h>

#define VMM_EXIT_REASONS (VMM_EXIT_TPR + 1)

/* Requests to the running thread: flags below, a count of pauses above. */
#define REQUEST_KICK  0x1u
#define REQUEST_STOP  0x2u
#define REQUEST_PAUSE 0x100u

/* Where the running thread is, and above it a count of those who keep it there: see control.c. */
#define WHERE_OUT    0u /* not in vmm_vcpu_run() */
#define WHERE_IN     1u /* in it; looks at the requests before it enters the guest */
#define WHERE_PARKED 2u /* in it, waiting for vmm_vcpu_resume() */
#define WHERE_MASK   3u
#define WHERE_HOLD   4u

struct vmm_vcpu {
    /* What the run loop touches with each exit comes first. */
    struct kvm_run *run;
    struct kvm_coalesced_mmio_ring *ring; /* NULL: the host collects no writes */
    int fd;
    _Atomic uint32_t request; /* a futex */
    struct vmm_io_handler io;
    void *io_ctx;
    bool io_pending; /* the instruction of the last exit completes with the next KVM_RUN */
    bool exit_ready; /* kvm_run holds an exit that nobody has seen yet */
    bool sync;       /* KVM leaves the general registers in kvm_run */
    bool synced;     /* there they are as they are in the vCPU */
    bool can_sync;   /* the host has such an area */
    _Atomic uint64_t exits[VMM_EXIT_REASONS];

    _Atomic uint32_t in_guest; /* a futex: 1 around KVM_RUN */
    _Atomic uint32_t kept_out; /* a futex: how many want it to stay out */
    _Atomic bool fetched_out;  /* the interruption that comes is for that, not for the caller */
    _Atomic uint32_t where;    /* a futex */
    pthread_t runner;          /* the running thread, while `where` is not WHERE_OUT */
    _Atomic uint32_t refs;
    uint32_t id;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    size_t run_size;

    /* Finish an instruction that KVM cannot: 1 done, 0 not, negative errno. NULL: off. */
    int (*assist)(struct vmm_vcpu *vcpu, struct vmm_exit *exit);
    void *assist_data;
    void (*assist_free)(void *data);

    /* vmm_vcpu_thread_start() */
    pthread_t thread;
    bool has_thread;
    int (*exited)(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error);
    void *exited_ctx;

    void *arch; /* the architecture's */
};

/* One folder beside this file answers. */
int vmm_arch_vcpu_init(struct vmm_vcpu *vcpu, struct vmm_error *err);
void vmm_arch_vcpu_fini(struct vmm_vcpu *vcpu);
/* Decode an exit that only this architecture has. false: it has none of that reason. */
bool vmm_arch_decode_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

#endif
