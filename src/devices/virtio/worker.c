/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains in their order, by a thread or on the spot. */
#include "devices/virtio/worker.h"

#include <errno.h>

#include <signal.h>
#include <stdlib.h>

#define DEPTH 64u /* chains that wait or are under way */

/* The queue's lock is held. */
static void give_back(struct virtio_worker *w, struct virtio_work *work, uint64_t written)
{
    struct vmm_virtio_chain *c = work->chain;
    if (written || vmm_virtio_chain_stale(w->queue, c)) {
        vmm_virtio_queue_push(w->queue, c, written);
    } else {
        vmm_virtio_queue_drop(w->queue, c);
        vmm_virtio_guest_error(w->queue->virtio, w->complaint);
    }
    work->next = w->free;
    w->free = work;
}

static void hand_on(struct virtio_worker *w, struct virtio_work *work)
{
    pthread_mutex_lock(&w->lock);
    work->next = NULL;
    *w->waiting_end = work;
    w->waiting_end = &work->next;
    w->out++;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

void vmm_virtio_worker_notify(struct virtio_worker *w)
{
    while (w->free) {
        struct virtio_work *work = w->free;
        if (vmm_virtio_queue_pop(w->queue, work->chain) <= 0)
            break;
        w->free = work->next;
        if (w->threaded)
            hand_on(w, work);
        else
            give_back(w, work, w->serve(w->ctx, work->chain));
    }
    w->stalled = !w->free;
    vmm_virtio_queue_signal(w->queue);
}

static struct virtio_work *take_waiting(struct virtio_worker *w)
{
    struct virtio_work *work = w->waiting;
    if (!work)
        return NULL;
    w->waiting = work->next;
    if (!w->waiting)
        w->waiting_end = &w->waiting;
    return work;
}

static void return_work(struct virtio_worker *w, struct virtio_work *work, uint64_t written)
{
    vmm_virtio_queue_lock(w->queue);
    give_back(w, work, written);
    vmm_virtio_queue_signal(w->queue);
    if (w->stalled) {
        w->stalled = false;
        vmm_virtio_queue_kick(w->queue);
    }
    vmm_virtio_queue_unlock(w->queue);
}

static void *thread(void *ctx)
{
    struct virtio_worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        struct virtio_work *work = w->current = take_waiting(w);
        if (!work) {
            pthread_cond_wait(&w->work, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        uint64_t written = w->serve(w->ctx, work->chain);
        pthread_mutex_lock(&w->lock);
        w->current = NULL; /* a reset may go on: nothing touches the chain's memory any more */
        pthread_cond_broadcast(&w->idle);
        pthread_mutex_unlock(&w->lock);
        return_work(w, work, written);
        pthread_mutex_lock(&w->lock);
        w->out--;
        pthread_cond_broadcast(&w->idle);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* What waits is forgotten, what is under way is waited for. */
void vmm_virtio_worker_reset(struct virtio_worker *w)
{
    struct virtio_work *work;
    w->stalled = false;
    pthread_mutex_lock(&w->lock);
    while ((work = take_waiting(w))) {
        vmm_virtio_queue_drop(w->queue, work->chain);
        work->next = w->free;
        w->free = work;
        w->out--;
    }
    while (w->current)
        pthread_cond_wait(&w->idle, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void vmm_virtio_worker_drain(struct virtio_worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->out)
        pthread_cond_wait(&w->idle, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* Workers take no signals: those are the embedder's threads' business. */
static int start_thread(struct virtio_worker *w)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc)
        return -rc;
    rc = pthread_create(&w->thread, NULL, thread, w);
    w->threaded = rc == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int vmm_virtio_worker_init(struct virtio_worker *w, struct vmm_virtio_queue *queue, bool threaded)
{
    int rc = 0;
    w->queue = queue;
    w->waiting_end = &w->waiting;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->idle, NULL);
    w->works = calloc(DEPTH, sizeof(*w->works));
    if (!w->works)
        return -ENOMEM;
    for (uint32_t i = 0; i < DEPTH && !rc; i++) {
        rc = vmm_virtio_chain_new(queue->virtio, &w->works[i].chain);
        w->works[i].next = w->free;
        w->free = &w->works[i];
    }
    return rc || !threaded ? rc : start_thread(w);
}

void vmm_virtio_worker_fini(struct virtio_worker *w)
{
    if (!w->queue)
        return;
    if (w->threaded) {
        pthread_mutex_lock(&w->lock);
        w->ending = true;
        pthread_cond_signal(&w->work);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    for (struct virtio_work *work = w->waiting; work; work = work->next)
        vmm_virtio_queue_drop(w->queue, work->chain);
    for (uint32_t i = 0; w->works && i < DEPTH; i++)
        vmm_virtio_chain_free(w->works[i].chain);
    free(w->works);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->idle);
    pthread_mutex_destroy(&w->lock);
}
