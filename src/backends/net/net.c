/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The meeting point of a network backend and its user.
 *
 * The user's callbacks run without a lock of the net's, because they take their device's lock, and
 * that same device calls vmm_net_send() with it held. A list of the calls that are under way lets
 * vmm_net_set_user(NULL) wait until the last one has left.
 */
#include "backends/net/net.h"
#include "base/util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define OFFLOADS_ALL (VMM_NET_CSUM | VMM_NET_TSO4 | VMM_NET_TSO6 | VMM_NET_ECN | VMM_NET_UFO)

struct call {
    pthread_t thread;
    struct call *next;
    struct vmm_net_user user;
    void *ctx;
};

struct vmm_net {
    _Atomic uint32_t refs;
    _Atomic bool up;
    _Atomic uint32_t accepted; /* offloads that the user takes */
    struct vmm_net_ops ops;
    void *ctx;
    pthread_mutex_t send_lock; /* around ops.send; taken below a device's lock */
    pthread_mutex_t lock;      /* guards all below; nothing is called with it held */
    pthread_cond_t idle;
    bool has_user;
    struct vmm_net_user user;
    void *user_ctx;
    struct call *calls;
};

int vmm_net_new(const struct vmm_net_ops *ops, void *ctx, struct vmm_net **out)
{
    struct vmm_net_ops copy;
    if (!ops || !out)
        return -EINVAL;
    int ret = vmm_options_copy(&copy, sizeof(copy), ops);
    if (ret < 0)
        return ret;
    if (!copy.send || (copy.offloads & ~OFFLOADS_ALL) || copy.queues > VMM_NET_QUEUES_MAX)
        return -EINVAL;
    struct vmm_net *net = calloc(1, sizeof(*net));
    if (!net)
        return -ENOMEM;
    atomic_init(&net->refs, 1);
    atomic_init(&net->up, true);
    net->ops = copy;
    net->ops.queues = copy.queues ? copy.queues : 1;
    net->ctx = ctx;
    pthread_mutex_init(&net->send_lock, NULL);
    pthread_mutex_init(&net->lock, NULL);
    pthread_cond_init(&net->idle, NULL);
    *out = net;
    return 0;
}

struct vmm_net *vmm_net_ref(struct vmm_net *net)
{
    if (net)
        atomic_fetch_add_explicit(&net->refs, 1, memory_order_relaxed);
    return net;
}

bool vmm_net_try_ref(struct vmm_net *net)
{
    uint32_t refs = atomic_load(&net->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&net->refs, &refs, refs + 1))
            return true;
    return false;
}

struct vmm_net *vmm_net_unref(struct vmm_net *net)
{
    if (!net || atomic_fetch_sub_explicit(&net->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (net->ops.destroy)
        net->ops.destroy(net->ctx);
    pthread_cond_destroy(&net->idle);
    pthread_mutex_destroy(&net->lock);
    pthread_mutex_destroy(&net->send_lock);
    free(net);
    return NULL;
}

/* The user's side ------------------------------------------------------------------------------ */

/* The lock is held: is a callback running on another thread than this one? */
static bool called_elsewhere(const struct vmm_net *net)
{
    for (const struct call *call = net->calls; call; call = call->next)
        if (!pthread_equal(call->thread, pthread_self()))
            return true;
    return false;
}

static int tell_offloads(struct vmm_net *net, uint32_t offloads)
{
    atomic_store(&net->accepted, offloads);
    return net->ops.set_offloads ? net->ops.set_offloads(net->ctx, offloads) : 0;
}

static void give_up_user(struct vmm_net *net)
{
    (void)tell_offloads(net, 0);
    pthread_mutex_lock(&net->lock);
    net->has_user = false;
    while (called_elsewhere(net))
        pthread_cond_wait(&net->idle, &net->lock);
    pthread_mutex_unlock(&net->lock);
}

int vmm_net_set_user(struct vmm_net *net, const struct vmm_net_user *user, void *ctx)
{
    if (!net)
        return -EINVAL;
    if (!user) {
        give_up_user(net);
        return 0;
    }
    struct vmm_net_user copy;
    int ret = vmm_options_copy(&copy, sizeof(copy), user);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&net->lock);
    ret = net->has_user ? -EBUSY : 0;
    if (ret == 0) {
        net->has_user = true;
        net->user = copy;
        net->user_ctx = ctx;
    }
    pthread_mutex_unlock(&net->lock);
    if (ret == 0)
        vmm_net_accept(net); /* a frame may wait that the user before this one did not take */
    return ret;
}

static int check_length(const struct vmm_net_frame *frame, size_t *length)
{
    if (!frame || !frame->pieces || frame->count == 0 || frame->count > VMM_NET_PIECES_MAX)
        return -EINVAL;
    *length = 0;
    for (size_t i = 0; i < frame->count; i++) {
        if (frame->pieces[i].iov_len > VMM_NET_FRAME_MAX - *length)
            return -EMSGSIZE;
        *length += frame->pieces[i].iov_len;
    }
    return *length ? 0 : -EMSGSIZE;
}

/* The kind of a frame, as bits; -EINVAL: there is no such, or it does not fit the frame. */
static int kind_of(const struct vmm_net_offload *o, size_t length)
{
    static const uint8_t gso[] = {[VMM_NET_GSO_TCPV4] = VMM_NET_TSO4,
                                  [VMM_NET_GSO_UDP] = VMM_NET_UFO,
                                  [VMM_NET_GSO_TCPV6] = VMM_NET_TSO6};
    uint32_t type = o->gso_type & ~VMM_NET_GSO_ECN, kind = 0;
    if (o->flags & VMM_NET_NEEDS_CSUM) {
        if ((size_t)o->csum_start + o->csum_offset + 2 > length)
            return -EINVAL;
        kind |= VMM_NET_CSUM;
    }
    if (o->gso_type == VMM_NET_GSO_NONE)
        return (int)kind;
    if (type >= VMM_ARRAY_SIZE(gso) || !gso[type] || !o->gso_size || o->hdr_len > length)
        return -EINVAL;
    if (o->gso_type & VMM_NET_GSO_ECN)
        kind |= VMM_NET_ECN;
    return (int)(kind | gso[type]);
}

static int check_frame(const struct vmm_net *net, const struct vmm_net_frame *frame,
                       uint32_t allowed)
{
    size_t length;
    int ret = check_length(frame, &length);
    if (ret < 0)
        return ret;
    if (frame->queue >= net->ops.queues)
        return -EINVAL;
    ret = kind_of(&frame->offload, length);
    if (ret < 0)
        return ret;
    return (uint32_t)ret & ~allowed ? -ENOTSUP : 0;
}

int vmm_net_send_frame(struct vmm_net *net, const struct vmm_net_frame *frame)
{
    if (!net)
        return -EINVAL;
    int ret = check_frame(net, frame, net->ops.offloads);
    if (ret < 0)
        return ret;
    if (!vmm_net_link(net))
        return -ENOTCONN;
    pthread_mutex_lock(&net->send_lock);
    ret = net->ops.send(net->ctx, frame);
    pthread_mutex_unlock(&net->send_lock);
    return ret;
}

int vmm_net_send(struct vmm_net *net, const struct iovec *pieces, size_t count)
{
    const struct vmm_net_frame frame = {.pieces = pieces, .count = count};
    return vmm_net_send_frame(net, &frame);
}

uint32_t vmm_net_offloads(const struct vmm_net *net)
{
    return net ? net->ops.offloads : 0;
}

int vmm_net_set_offloads(struct vmm_net *net, uint32_t offloads)
{
    if (!net)
        return -EINVAL;
    return offloads & ~net->ops.offloads ? -ENOTSUP : tell_offloads(net, offloads);
}

uint32_t vmm_net_queues(const struct vmm_net *net)
{
    return net ? net->ops.queues : 1;
}

int vmm_net_set_queues(struct vmm_net *net, uint32_t queues)
{
    if (!net || queues == 0 || queues > net->ops.queues)
        return -EINVAL;
    return net->ops.set_queues ? net->ops.set_queues(net->ctx, queues) : 0;
}

void *vmm_net_ctx(const struct vmm_net *net, void (*destroy)(void *ctx))
{
    return net && net->ops.destroy == destroy ? net->ctx : NULL;
}

void vmm_net_accept(struct vmm_net *net)
{
    if (net && net->ops.accept)
        net->ops.accept(net->ctx);
}

bool vmm_net_link(const struct vmm_net *net)
{
    return net && atomic_load(&net->up);
}

/* The backend's side --------------------------------------------------------------------------- */

/* Announce a call to the user; false when there is none. */
static bool enter_user(struct vmm_net *net, struct call *call)
{
    pthread_mutex_lock(&net->lock);
    bool has_user = net->has_user;
    if (has_user) {
        *call = (struct call){pthread_self(), net->calls, net->user, net->user_ctx};
        net->calls = call;
    }
    pthread_mutex_unlock(&net->lock);
    return has_user;
}

static void leave_user(struct vmm_net *net, struct call *call)
{
    pthread_mutex_lock(&net->lock);
    struct call **link = &net->calls;
    while (*link != call)
        link = &(*link)->next;
    *link = call->next;
    pthread_cond_broadcast(&net->idle);
    pthread_mutex_unlock(&net->lock);
}

int vmm_net_deliver_frame(struct vmm_net *net, const struct vmm_net_frame *frame)
{
    struct call call;
    if (!net)
        return -EINVAL;
    int ret = check_frame(net, frame, atomic_load(&net->accepted));
    if (ret < 0 || !enter_user(net, &call))
        return ret;
    if (call.user.receive && call.user.receive(call.ctx, frame) == -EAGAIN)
        ret = -EAGAIN;
    leave_user(net, &call);
    return ret;
}

int vmm_net_deliver(struct vmm_net *net, const struct iovec *pieces, size_t count)
{
    const struct vmm_net_frame frame = {.pieces = pieces, .count = count};
    return vmm_net_deliver_frame(net, &frame);
}

void vmm_net_writable(struct vmm_net *net)
{
    struct call call;
    if (!net || !enter_user(net, &call))
        return;
    if (call.user.writable)
        call.user.writable(call.ctx);
    leave_user(net, &call);
}

void vmm_net_set_link(struct vmm_net *net, bool up)
{
    struct call call;
    if (!net || atomic_exchange(&net->up, up) == up || !enter_user(net, &call))
        return;
    if (call.user.link)
        call.user.link(call.ctx, up);
    leave_user(net, &call);
}
