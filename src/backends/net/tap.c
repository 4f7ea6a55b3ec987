/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tap interface of the host (the kernel's Documentation/networking/tuntap.rst). Each frame goes after
 * a header that says what is left to do for it (linux/virtio_net.h), in the host's byte order.
 */
#include "backends/net/net.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BATCH    64u /* frames before others on the loop have their turn */
#define OFFLOADS (VMM_NET_CSUM | VMM_NET_TSO4 | VMM_NET_TSO6 | VMM_NET_ECN)

/* The kernel's header is our structure, field by field. */
_Static_assert(sizeof(struct vmm_net_offload) == 10, "the header of a tap has 10 bytes");

struct tap;

struct tap_queue {
    struct tap *tap;
    struct vmm_source *source;
    int fd;
    uint32_t events; /* guarded by the tap's lock */
    bool detached;   /* likewise */
    /* Of the loop's thread alone. */
    size_t held; /* bytes of a frame that the user has not taken */
    struct vmm_net_offload offload;
    uint8_t in[VMM_NET_FRAME_MAX];
};

struct tap {
    struct vmm_net *net; /* owns this */
    struct vmm_loop *loop;
    struct vmm_timer *again; /* the user can receive again */
    bool header;
    uint32_t count;
    char name[IFNAMSIZ];
    pthread_mutex_t lock; /* a leaf */
    struct tap_queue queues[];
};

static void watch(struct tap_queue *q, uint32_t set, uint32_t clear)
{
    pthread_mutex_lock(&q->tap->lock);
    uint32_t events = (q->events | set) & ~clear;
    if (events != q->events) {
        q->events = events;
        (void)vmm_source_set_events(q->source, events ? events : VMM_POLL_OFF);
    }
    pthread_mutex_unlock(&q->tap->lock);
}

/* Sending -------------------------------------------------------------------------------------- */

static int tap_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct tap *t = ctx;
    struct tap_queue *q = &t->queues[frame->queue];
    struct iovec all[VMM_NET_PIECES_MAX + 1];
    struct vmm_net_offload header = frame->offload;
    ssize_t n;
    all[0] = (struct iovec){&header, sizeof(header)};
    memcpy(all + 1, frame->pieces, frame->count * sizeof(*all));
    do
        n = t->header ? writev(q->fd, all, (int)frame->count + 1)
                      : writev(q->fd, all + 1, (int)frame->count);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    int ret = errno == EWOULDBLOCK ? -EAGAIN : -errno;
    if (ret == -EAGAIN)
        watch(q, VMM_POLL_OUT, 0);
    return ret;
}

/* Receiving ------------------------------------------------------------------------------------ */

static bool deliver(struct tap_queue *q)
{
    const struct iovec piece = {q->in, q->held};
    const struct vmm_net_frame frame = {.pieces = &piece,
                                        .count = 1,
                                        .queue = (uint32_t)(q - q->tap->queues),
                                        .offload = q->offload};
    if (vmm_net_deliver_frame(q->tap->net, &frame) == -EAGAIN)
        return false;
    q->held = 0;
    return true;
}

/* 1: there is a frame; 0: none now; negative: the interface has gone. */
static int read_frame(struct tap_queue *q)
{
    bool header = q->tap->header;
    struct iovec pieces[] = {{&q->offload, sizeof(q->offload)}, {q->in, sizeof(q->in)}};
    ssize_t n, extra = header ? (ssize_t)sizeof(q->offload) : 0;
    do
        n = header ? readv(q->fd, pieces, 2) : read(q->fd, q->in, sizeof(q->in));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (n <= extra)
        return 0;
    q->held = (size_t)(n - extra);
    return 1;
}

static void receive(struct tap_queue *q)
{
    int ret = 1;
    for (uint32_t i = 0; i < BATCH && ret > 0; i++) {
        if (q->held && !deliver(q)) {
            watch(q, 0, VMM_POLL_IN);
            return;
        }
        ret = read_frame(q);
    }
    if (q->held && !deliver(q))
        ret = 0;
    watch(q, q->held ? 0 : VMM_POLL_IN, q->held ? VMM_POLL_IN : 0);
    if (ret < 0) {
        watch(q, 0, VMM_POLL_IN | VMM_POLL_OUT);
        vmm_net_set_link(q->tap->net, false);
    }
}

static void on_ready(void *ctx, uint32_t events)
{
    struct tap_queue *q = ctx;
    struct vmm_net *net = q->tap->net;
    if (!vmm_net_try_ref(net))
        return;
    if (events & VMM_POLL_OUT) {
        watch(q, 0, VMM_POLL_OUT);
        vmm_net_writable(net);
    }
    if (!q->held && events & (VMM_POLL_IN | VMM_POLL_ERR | VMM_POLL_HUP))
        receive(q);
    vmm_net_unref(net);
}

static void on_again(void *ctx)
{
    struct tap *t = ctx;
    struct vmm_net *net = t->net;
    if (!vmm_net_try_ref(net))
        return;
    for (uint32_t i = 0; i < t->count && vmm_net_link(net); i++)
        if (t->queues[i].held)
            receive(&t->queues[i]);
    vmm_net_unref(net);
}

/* The user may hold its locks, so the frames that wait go to it from the loop. */
static void tap_accept(void *ctx)
{
    struct tap *t = ctx;
    (void)vmm_timer_set(t->again, vmm_loop_now(t->loop));
}

/* What the user wants -------------------------------------------------------------------------- */

static int tap_set_offloads(void *ctx, uint32_t offloads)
{
    struct tap *t = ctx;
    unsigned long bits = 0;
    if (!t->header)
        return 0;
    if (offloads & VMM_NET_CSUM)
        bits = TUN_F_CSUM | (offloads & VMM_NET_TSO4 ? TUN_F_TSO4 : 0) |
               (offloads & VMM_NET_TSO6 ? TUN_F_TSO6 : 0) |
               (offloads & VMM_NET_ECN ? TUN_F_TSO_ECN : 0);
    return ioctl(t->queues[0].fd, TUNSETOFFLOAD, bits) < 0 ? -errno : 0;
}

/* Queues that nobody receives on are detached, so that the kernel chooses among the others. */
static int tap_set_queues(void *ctx, uint32_t queues)
{
    struct tap *t = ctx;
    int ret = 0;
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 1; i < t->count && !ret; i++) {
        bool detach = i >= queues;
        struct ifreq ifr = {.ifr_flags = detach ? IFF_DETACH_QUEUE : IFF_ATTACH_QUEUE};
        if (t->queues[i].detached == detach)
            continue;
        if (ioctl(t->queues[i].fd, TUNSETQUEUE, &ifr) < 0)
            ret = -errno;
        else
            t->queues[i].detached = detach;
    }
    pthread_mutex_unlock(&t->lock);
    return ret;
}

/* Making --------------------------------------------------------------------------------------- */

static void tap_destroy(void *ctx)
{
    struct tap *t = ctx;
    for (uint32_t i = 0; i < t->count; i++)
        vmm_source_free(t->queues[i].source);
    vmm_timer_free(t->again);
    vmm_loop_unref(t->loop);
    for (uint32_t i = 0; i < t->count; i++)
        if (t->queues[i].fd >= 0)
            close(t->queues[i].fd);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

const char *vmm_net_tap_name(const struct vmm_net *net)
{
    const struct tap *t = vmm_net_ctx(net, tap_destroy);
    return t ? t->name : NULL;
}

static int open_queue(struct tap_queue *q, const char *name, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)flags};
    memcpy(ifr.ifr_name, name, strlen(name));
    q->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (q->fd < 0)
        return -errno;
    if (ioctl(q->fd, TUNSETIFF, &ifr) < 0) {
        int ret = -errno;
        close(q->fd);
        q->fd = -1;
        return ret;
    }
    memcpy(q->tap->name, ifr.ifr_name, IFNAMSIZ);
    return 0;
}

/* The kernel wants the flag of several queues to be as when the interface was made: try both. */
static int open_by_name(struct tap *t, const char *name)
{
    int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (t->count > 1 ? IFF_MULTI_QUEUE : 0);
    int ret = open_queue(&t->queues[0], name, flags);
    if (ret == -EINVAL && t->count == 1)
        ret = open_queue(&t->queues[0], name, flags | IFF_MULTI_QUEUE);
    for (uint32_t i = 1; i < t->count && !ret; i++) {
        char same[IFNAMSIZ];
        memcpy(same, t->name, IFNAMSIZ); /* "%d" has become a number */
        ret = open_queue(&t->queues[i], same, flags);
    }
    t->header = true;
    return ret;
}

static int take_fds(struct tap *t, const int *fds)
{
    for (uint32_t i = 0; i < t->count; i++) {
        struct ifreq ifr = {0};
        if (ioctl(fds[i], TUNGETIFF, &ifr) < 0)
            return errno == ENOTTY ? -EINVAL : -errno;
        bool header = ifr.ifr_flags & IFF_VNET_HDR;
        if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI) ||
            (i > 0 && (header != t->header || strncmp(t->name, ifr.ifr_name, IFNAMSIZ) != 0)))
            return -EINVAL;
        t->header = header;
        memcpy(t->name, ifr.ifr_name, IFNAMSIZ);
        t->queues[i].fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (t->queues[i].fd < 0 || fcntl(t->queues[i].fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
            return -errno;
    }
    return 0;
}

static int start(struct tap *t)
{
    int size = sizeof(struct vmm_net_offload);
    if (t->header && ioctl(t->queues[0].fd, TUNSETVNETHDRSZ, &size) < 0)
        return -errno;
    int ret = tap_set_offloads(t, 0);
    if (!ret)
        ret = vmm_timer_new(t->loop, on_again, t, &t->again);
    for (uint32_t i = 0; i < t->count && !ret; i++) {
        t->queues[i].events = VMM_POLL_IN;
        ret = vmm_source_new(t->loop, t->queues[i].fd, VMM_POLL_IN, on_ready, &t->queues[i],
                             &t->queues[i].source);
    }
    return ret;
}

static int describe(int ret, const char *what, struct vmm_error *err)
{
    const char *hint = "";
    if (ret == -EPERM)
        hint = "; it belongs to another user, or is to be made, which needs CAP_NET_ADMIN";
    else if (ret == -EINVAL)
        hint = "; it is no tap interface, or was made for another number of queues";
    else if (ret == -ENOENT)
        hint = " (/dev/net/tun); load the module tun";
    return vmm_error_set(err, ret, "tap %s: %s%s", what, strerror(-ret), hint);
}

static int check_options(const struct vmm_net_tap_options *o, struct vmm_error *err)
{
    if (!o->name == !o->fds)
        return vmm_error_set(err, -EINVAL, "tap: either a name or descriptors are needed");
    if (o->queues > VMM_NET_QUEUES_MAX)
        return vmm_error_set(err, -EINVAL, "tap: at most %u queues", VMM_NET_QUEUES_MAX);
    if (o->name && strlen(o->name) >= IFNAMSIZ)
        return vmm_error_set(err, -ENAMETOOLONG, "tap %s: a name has at most %d characters",
                             o->name, IFNAMSIZ - 1);
    return 0;
}

static struct tap *tap_new(struct vmm_loop *loop, uint32_t count)
{
    struct tap *t = calloc(1, sizeof(*t) + count * sizeof(t->queues[0]));
    if (!t)
        return NULL;
    pthread_mutex_init(&t->lock, NULL);
    t->loop = vmm_loop_ref(loop);
    t->count = count;
    for (uint32_t i = 0; i < count; i++) {
        t->queues[i].tap = t;
        t->queues[i].fd = -1;
    }
    return t;
}

int vmm_net_new_tap(struct vmm_loop *loop, const struct vmm_net_tap_options *given,
                    struct vmm_net **out, struct vmm_error *err)
{
    struct vmm_net_tap_options o;
    if (!loop || !out || !given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "tap: a loop, sound options and a result are needed");
    int ret = check_options(&o, err);
    if (ret < 0)
        return ret;
    const char *what = o.name ? o.name : "descriptors";
    struct tap *t = tap_new(loop, o.queues ? o.queues : 1);
    if (!t)
        return vmm_error_set(err, -ENOMEM, "tap: out of memory");
    ret = o.name ? open_by_name(t, o.name) : take_fds(t, o.fds);
    const struct vmm_net_ops ops = {.size = sizeof(ops),
                                    .send = tap_send,
                                    .accept = tap_accept,
                                    .destroy = tap_destroy,
                                    .offloads = t->header ? OFFLOADS : 0,
                                    .queues = t->count,
                                    .set_offloads = tap_set_offloads,
                                    .set_queues = tap_set_queues};
    if (!ret)
        ret = vmm_net_new(&ops, t, &t->net);
    if (ret < 0) {
        tap_destroy(t);
        return describe(ret, what, err);
    }
    struct vmm_net *net = t->net;
    ret = start(t);
    if (ret < 0) {
        vmm_net_unref(net);
        return describe(ret, what, err);
    }
    *out = net;
    return 0;
}
