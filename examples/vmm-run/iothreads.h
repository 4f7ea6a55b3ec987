/* SPDX-License-Identifier: BSD-3-Clause */
/* --iothreads: threads that virtio disks and network cards take turns in being given to. */
#ifndef VMM_RUN_IOTHREADS_H
#define VMM_RUN_IOTHREADS_H

#include <libvmm/vmm.h>

#define IOTHREADS_MAX 16

struct iothreads {
    struct vmm_iothread *thread[IOTHREADS_MAX];
    uint32_t count, next;
};

/* Start `count` threads; the machine is told of them. */
int iothreads_init(struct iothreads *threads, uint32_t count, struct vmm_machine *machine,
                   struct vmm_error *err);
/* The loop for the next device: a thread's, or the machine's where there are none. */
struct vmm_loop *iothreads_loop(struct iothreads *threads, struct vmm_machine *machine);
/* Nothing runs on them any more. */
void iothreads_stop(struct iothreads *threads);
/* Let go of them; the machine ends them. */
void iothreads_forget(struct iothreads *threads);

#endif
