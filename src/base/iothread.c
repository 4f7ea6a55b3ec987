/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread with a loop, which can be held between two callbacks. */
#include "base/util.h"

#include <libvmm/iothread.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NAME_MAX_ 15 /* the host's limit */

struct vmm_iothread {
    _Atomic uint32_t refs;
    struct vmm_loop *loop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t pauses;
    bool parked; /* dispatches nothing until somebody says so */
    bool ending;
};

/* The thread's lock is held. */
static void park(struct vmm_iothread *t)
{
    while (t->pauses && !t->ending) {
        t->parked = true;
        pthread_cond_broadcast(&t->changed);
        pthread_cond_wait(&t->changed, &t->lock);
    }
    t->parked = false;
}

static void *thread(void *ctx)
{
    struct vmm_iothread *t = ctx;
    pthread_mutex_lock(&t->lock);
    while (!t->ending) {
        if (t->pauses) {
            park(t);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        int rc = vmm_loop_run(t->loop); /* until somebody has a word for us */
        pthread_mutex_lock(&t->lock);
        while (rc < 0 && !t->ending && !t->pauses) /* a broken loop is not tried in a circle */
            pthread_cond_wait(&t->changed, &t->lock);
    }
    t->parked = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* No signals: those are the embedder's threads' business. */
static int start(struct vmm_iothread *t)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc)
        return -rc;
    rc = pthread_create(&t->thread, NULL, thread, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int vmm_iothread_new(const char *name, struct vmm_iothread **out)
{
    if (!out || (name && (!*name || strlen(name) > NAME_MAX_)))
        return -EINVAL;
    struct vmm_iothread *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    int rc = vmm_loop_new(NULL, &t->loop);
    if (!rc)
        rc = start(t);
    if (rc) {
        vmm_loop_unref(t->loop);
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return rc;
    }
    if (name)
        (void)pthread_setname_np(t->thread, name);
    *out = t;
    return 0;
}

struct vmm_iothread *vmm_iothread_ref(struct vmm_iothread *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

struct vmm_iothread *vmm_iothread_unref(struct vmm_iothread *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    pthread_mutex_lock(&t->lock);
    t->ending = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    vmm_loop_quit(t->loop, 0);
    pthread_join(t->thread, NULL);
    vmm_loop_unref(t->loop);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

struct vmm_loop *vmm_iothread_loop(const struct vmm_iothread *t)
{
    return t->loop;
}

int vmm_iothread_pause(struct vmm_iothread *t)
{
    if (!t)
        return -EINVAL;
    if (pthread_equal(t->thread, pthread_self()))
        return -EDEADLK;
    pthread_mutex_lock(&t->lock);
    t->pauses++;
    pthread_cond_broadcast(&t->changed);
    vmm_loop_quit(t->loop, 0);
    while (!t->parked)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

int vmm_iothread_resume(struct vmm_iothread *t)
{
    if (!t)
        return -EINVAL;
    pthread_mutex_lock(&t->lock);
    int rc = t->pauses ? 0 : -EINVAL;
    if (!rc && --t->pauses == 0) {
        t->parked = false; /* whoever pauses next waits for the thread itself */
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}
