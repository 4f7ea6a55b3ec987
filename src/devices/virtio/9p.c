/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The 9P transport device (VIRTIO 1.2 has its number in §5, its configuration is what Linux's driver
 * reads): each chain is a message of the driver's and room for the answer.
 *
 * Where a worker was asked for, messages go through it in their order, so that a slow file system
 * holds up neither the loop nor the processors. The worker gives chains back itself.
 *
 * Locks: the queue's, then the worker's. A message that is being carried out is the worker's alone.
 */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <libvmm/share.h>

#include <signal.h>
#include <stdlib.h>

#define DEVICE_9P   9u
#define F_MOUNT_TAG 0u
#define QUEUE_SIZE  256u /* Linux's driver wants room for 128 descriptors */
#define DEPTH       64u  /* messages that wait or are under way */
#define TAG_MAX     128u

struct message {
    struct vmm_virtio_chain *chain;
    struct message *next;
};

struct ninep {
    struct vmm_virtio *virtio;
    struct vmm_virtio_queue *queue;
    struct vmm_share *share;
    uint8_t config[2 + TAG_MAX];
    struct message messages[DEPTH];
    struct message *free; /* with the queue's lock, as is `stalled` */
    bool stalled;         /* there may be chains that no message was free for */
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, idle;
    struct message *waiting, **waiting_end;
    struct message *current; /* the worker is in the share with it */
    uint32_t out;            /* waiting, current, or on its way back */
    bool ending;
};

/* Messages ------------------------------------------------------------------------------------- */

static uint64_t serve(const struct ninep *n, const struct vmm_virtio_chain *c)
{
    return vmm_share_serve(n->share, c->readable, c->readable_count, c->writable,
                           c->writable_count);
}

/* The queue's lock is held. */
static void give_back(struct ninep *n, struct message *message, uint64_t written)
{
    struct vmm_virtio_chain *c = message->chain;
    bool stale = vmm_virtio_chain_stale(n->queue, c);
    if (written || stale) {
        vmm_virtio_queue_push(n->queue, c, written);
    } else {
        vmm_virtio_queue_drop(n->queue, c);
        vmm_virtio_guest_error(n->virtio, "9P: no message, or no room for an answer");
    }
    message->next = n->free;
    n->free = message;
}

static void hand_on(struct ninep *n, struct message *message)
{
    pthread_mutex_lock(&n->lock);
    message->next = NULL;
    *n->waiting_end = message;
    n->waiting_end = &message->next;
    n->out++;
    pthread_cond_signal(&n->work);
    pthread_mutex_unlock(&n->lock);
}

static void notify(void *ctx, uint32_t queue)
{
    struct ninep *n = ctx;
    (void)queue;
    while (n->free) {
        struct message *message = n->free;
        if (vmm_virtio_queue_pop(n->queue, message->chain) <= 0)
            break;
        n->free = message->next;
        if (n->threaded)
            hand_on(n, message);
        else
            give_back(n, message, serve(n, message->chain));
    }
    n->stalled = !n->free;
    vmm_virtio_queue_signal(n->queue);
}

static struct message *take_waiting(struct ninep *n)
{
    struct message *message = n->waiting;
    if (!message)
        return NULL;
    n->waiting = message->next;
    if (!n->waiting)
        n->waiting_end = &n->waiting;
    return message;
}

static void return_message(struct ninep *n, struct message *message, uint64_t written)
{
    vmm_virtio_queue_lock(n->queue);
    give_back(n, message, written);
    vmm_virtio_queue_signal(n->queue);
    if (n->stalled) {
        n->stalled = false;
        vmm_virtio_queue_kick(n->queue);
    }
    vmm_virtio_queue_unlock(n->queue);
}

static void *worker(void *ctx)
{
    struct ninep *n = ctx;
    pthread_mutex_lock(&n->lock);
    while (!n->ending) {
        struct message *message = n->current = take_waiting(n);
        if (!message) {
            pthread_cond_wait(&n->work, &n->lock);
            continue;
        }
        pthread_mutex_unlock(&n->lock);
        uint64_t written = serve(n, message->chain);
        pthread_mutex_lock(&n->lock);
        n->current = NULL; /* a reset may go on: nothing touches the chain's memory any more */
        pthread_cond_broadcast(&n->idle);
        pthread_mutex_unlock(&n->lock);
        return_message(n, message, written);
        pthread_mutex_lock(&n->lock);
        n->out--;
        pthread_cond_broadcast(&n->idle);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

/* What waits is forgotten, what is under way is waited for. The queue's lock is held. */
static void queue_reset(void *ctx, uint32_t queue)
{
    struct ninep *n = ctx;
    struct message *message;
    (void)queue;
    n->stalled = false;
    pthread_mutex_lock(&n->lock);
    while ((message = take_waiting(n))) {
        vmm_virtio_queue_drop(n->queue, message->chain);
        message->next = n->free;
        n->free = message;
        n->out--;
    }
    while (n->current)
        pthread_cond_wait(&n->idle, &n->lock);
    pthread_mutex_unlock(&n->lock);
}

/* The queue has been reset: the worker is out of the share. */
static void reset(void *ctx)
{
    vmm_share_reset(((struct ninep *)ctx)->share);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct ninep *)ctx)->config + offset, length);
}

/* Life ----------------------------------------------------------------------------------------- */

static void drain(struct ninep *n)
{
    pthread_mutex_lock(&n->lock);
    while (n->out)
        pthread_cond_wait(&n->idle, &n->lock);
    pthread_mutex_unlock(&n->lock);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct ninep *n = ctx;
    drain(n);
    return vmm_share_save(n->share, w);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct ninep *n = ctx;
    drain(n);
    return vmm_share_load(n->share, r, err);
}

static void end_worker(struct ninep *n)
{
    pthread_mutex_lock(&n->lock);
    n->ending = true;
    pthread_cond_signal(&n->work);
    pthread_mutex_unlock(&n->lock);
    pthread_join(n->thread, NULL);
}

static void free_ninep(struct ninep *n)
{
    for (uint32_t i = 0; i < DEPTH; i++)
        vmm_virtio_chain_free(n->messages[i].chain);
    pthread_cond_destroy(&n->work);
    pthread_cond_destroy(&n->idle);
    pthread_mutex_destroy(&n->lock);
    vmm_share_unref(n->share);
    free(n);
}

static void destroy(void *ctx)
{
    struct ninep *n = ctx;
    if (n->threaded)
        end_worker(n);
    for (struct message *m = n->waiting; m; m = m->next)
        vmm_virtio_queue_drop(n->queue, m->chain);
    free_ninep(n);
}

/* Workers take no signals: those are the embedder's threads' business. */
static int start_worker(struct ninep *n)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc)
        return -rc;
    rc = pthread_create(&n->thread, NULL, worker, n);
    n->threaded = rc == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

static int prepare(struct ninep *n, bool threaded)
{
    int rc = 0;
    n->queue = vmm_virtio_queue(n->virtio, 0);
    for (uint32_t i = 0; i < DEPTH && !rc; i++) {
        rc = vmm_virtio_chain_new(n->virtio, &n->messages[i].chain);
        n->messages[i].next = n->free;
        n->free = &n->messages[i];
    }
    return rc || !threaded ? rc : start_worker(n);
}

static struct ninep *new_ninep(const struct vmm_virtio_9p_options *o)
{
    struct ninep *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->work, NULL);
    pthread_cond_init(&n->idle, NULL);
    n->waiting_end = &n->waiting;
    n->share = vmm_share_ref(o->share);
    vmm_store_le16(n->config, (uint16_t)strlen(o->tag));
    memcpy(n->config + 2, o->tag, strlen(o->tag));
    return n;
}

int vmm_virtio_9p_new(const struct vmm_virtio_place *given,
                      const struct vmm_virtio_9p_options *options, struct vmm_virtio **out,
                      struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_virtio_place place;
    struct vmm_virtio_9p_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(&p, sizeof(p), options))
        return vmm_error_set(err, -EINVAL, "9p options: a structure of another version");
    if (!p.share || !p.tag || !*p.tag || strlen(p.tag) > TAG_MAX)
        return vmm_error_set(err, -EINVAL, "9p: a share, and a tag of 1 to %u bytes", TAG_MAX);
    struct ninep *n = new_ninep(&p);
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.device_id = DEVICE_9P;
    o.queues = 1;
    o.queue_size_max = QUEUE_SIZE;
    o.chain_max = QUEUE_SIZE;
    o.features = VMM_VIRTIO_FEATURE(F_MOUNT_TAG);
    o.config_size = 2 + (uint32_t)strlen(p.tag);
    o.ops = &ops;
    o.ctx = n;
    rc = vmm_virtio_new(&o, &n->virtio, err);
    if (rc) {
        free_ninep(n);
        return rc;
    }
    rc = prepare(n, p.worker != 0);
    if (rc) {
        vmm_virtio_unref(n->virtio);
        return vmm_error_set(err, rc, "9p: %s", strerror(-rc));
    }
    *out = n->virtio;
    return 0;
}
