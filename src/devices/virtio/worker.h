/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue whose chains are carried out one after another, by a thread of the queue's own where one was
 * asked for: so that a slow file system holds up neither the loop nor the processors. The thread gives
 * chains back itself.
 *
 * Locks: the queue's, then the worker's. A chain that is being carried out is the thread's alone.
 */
#ifndef DEVICES_VIRTIO_WORKER_H
#define DEVICES_VIRTIO_WORKER_H

#include "devices/virtio/internal.h"

struct virtio_work {
    struct vmm_virtio_chain *chain;
    struct virtio_work *next;
};

struct virtio_worker {
    struct vmm_virtio_queue *queue;
    /* Bytes that were written; 0: the driver broke the rules. On the thread, or with the queue's lock. */
    uint64_t (*serve)(void *ctx, const struct vmm_virtio_chain *chain);
    void *ctx;
    const char *complaint;     /* about a driver that broke them */
    struct virtio_work *works; /* all of them */
    struct virtio_work *free;  /* with the queue's lock, as is `stalled` */
    bool stalled;              /* there may be chains that nothing was free for */
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, idle;
    struct virtio_work *waiting, **waiting_end;
    struct virtio_work *current; /* the thread is at it */
    uint32_t out;                /* waiting, current, or on its way back */
    bool ending;
};

/* `w` is zeroed, but for serve, ctx and complaint. May be undone by _fini also when it fails. */
int vmm_virtio_worker_init(struct virtio_worker *w, struct vmm_virtio_queue *queue, bool threaded);
/* After this nothing is under way. NULL in `queue`: it was never begun. */
void vmm_virtio_worker_fini(struct virtio_worker *w);
/* For the device's callbacks of the same names. */
void vmm_virtio_worker_notify(struct virtio_worker *w);
void vmm_virtio_worker_reset(struct virtio_worker *w);
/* Wait until all has gone back. Without the queue's lock. */
void vmm_virtio_worker_drain(struct virtio_worker *w);

#endif
