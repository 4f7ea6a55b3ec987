/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames over a connected socket: a message each, or on a stream each after its length. */
#include "backends/net/net.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER 4u  /* a stream's: the length, highest byte first */
#define BATCH  64u /* frames before others on the loop have their turn */

struct net_socket {
    struct vmm_net *net; /* owns this */
    struct vmm_loop *loop;
    struct vmm_source *source;
    struct vmm_timer *again; /* the user can receive again */
    int fd;
    bool stream;
    pthread_mutex_t lock; /* guards what is watched and what waits to be sent; a leaf */
    uint32_t events;
    size_t unsent_at, unsent_length; /* the rest of a frame that the stream took in part */
    /* Of the loop's thread alone. */
    bool full;  /* the user does not take the frame at `at` */
    bool empty; /* there was no message to read */
    size_t at, held;
    uint8_t in[VMM_NET_FRAME_MAX + HEADER];
    uint8_t unsent[VMM_NET_FRAME_MAX + HEADER];
};

/* The lock is held. */
static void watch(struct net_socket *s, uint32_t set, uint32_t clear)
{
    uint32_t events = (s->events | set) & ~clear;
    if (events == s->events)
        return;
    s->events = events;
    /* Without anything to wait for, a hang-up must not be reported over and over. */
    (void)vmm_source_set_events(s->source, events ? events : VMM_POLL_OFF);
}

static void change_watch(struct net_socket *s, uint32_t set, uint32_t clear)
{
    pthread_mutex_lock(&s->lock);
    watch(s, set, clear);
    pthread_mutex_unlock(&s->lock);
}

static void link_down(struct net_socket *s)
{
    change_watch(s, 0, VMM_POLL_IN | VMM_POLL_OUT);
    s->at = s->held = 0;
    vmm_net_set_link(s->net, false);
}

/* Sending -------------------------------------------------------------------------------------- */

static long send_pieces(int fd, struct iovec *pieces, size_t count)
{
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? (errno == EWOULDBLOCK ? -EAGAIN : -errno) : n;
}

/* The lock is held. 0: nothing is left. */
static int send_rest(struct net_socket *s)
{
    while (s->unsent_length > 0) {
        struct iovec rest = {s->unsent + s->unsent_at, s->unsent_length};
        long n = send_pieces(s->fd, &rest, 1);
        if (n < 0)
            return (int)n;
        s->unsent_at += (size_t)n;
        s->unsent_length -= (size_t)n;
    }
    return 0;
}

/* The lock is held. Half a frame cannot be taken back, so its rest is kept. */
static void keep_rest(struct net_socket *s, const struct iovec *pieces, size_t count, size_t sent)
{
    s->unsent_at = s->unsent_length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t skip = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
        size_t length = pieces[i].iov_len - skip;
        sent -= skip;
        if (length > 0)
            memcpy(s->unsent + s->unsent_length, (const uint8_t *)pieces[i].iov_base + skip,
                   length);
        s->unsent_length += length;
    }
}

static int send_locked(struct net_socket *s, const struct iovec *pieces, size_t count)
{
    struct iovec all[VMM_NET_PIECES_MAX + 1];
    size_t length = 0;
    int ret = send_rest(s);
    if (ret < 0)
        return ret;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = pieces[i];
        length += pieces[i].iov_len;
    }
    uint32_t header = htobe32((uint32_t)length);
    all[0] = (struct iovec){&header, sizeof(header)};
    long n = s->stream ? send_pieces(s->fd, all, count + 1) : send_pieces(s->fd, all + 1, count);
    if (n < 0)
        return (int)n;
    if (s->stream && (size_t)n < length + HEADER) {
        keep_rest(s, all, count + 1, (size_t)n);
        watch(s, VMM_POLL_OUT, 0);
    }
    return 0;
}

static int socket_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct net_socket *s = ctx;
    pthread_mutex_lock(&s->lock);
    int ret = send_locked(s, frame->pieces, frame->count);
    if (ret == -EAGAIN)
        watch(s, VMM_POLL_OUT, 0);
    pthread_mutex_unlock(&s->lock);
    return ret;
}

static void on_room(struct net_socket *s)
{
    pthread_mutex_lock(&s->lock);
    int ret = send_rest(s);
    if (ret == 0)
        watch(s, 0, VMM_POLL_OUT);
    pthread_mutex_unlock(&s->lock);
    if (ret == 0)
        vmm_net_writable(s->net);
    else if (ret != -EAGAIN)
        link_down(s);
}

/* Receiving ------------------------------------------------------------------------------------ */

static long receive_some(struct net_socket *s, void *to, size_t length)
{
    ssize_t n;
    do
        n = recv(s->fd, to, length, MSG_DONTWAIT | (s->stream ? 0 : MSG_TRUNC));
    while (n < 0 && errno == EINTR);
    return n < 0 ? (errno == EWOULDBLOCK ? -EAGAIN : -errno) : n;
}

static bool deliver(struct net_socket *s, size_t at, size_t length, bool more)
{
    const struct iovec piece = {s->in + at, length};
    const struct vmm_net_frame frame = {.pieces = &piece, .count = 1, .more = more};
    s->full = vmm_net_deliver_frame(s->net, &frame) == -EAGAIN;
    return !s->full;
}

/* The length of the frame at `at`; 0: it is not here in whole; -EPROTO: that cannot be a length. */
static long whole_frame(const struct net_socket *s, size_t at)
{
    uint32_t length;
    if (s->held - at < HEADER)
        return 0;
    memcpy(&length, s->in + at, sizeof(length));
    length = be32toh(length);
    if (length == 0 || length > VMM_NET_FRAME_MAX)
        return -EPROTO;
    return s->held - at - HEADER < length ? 0 : (long)length;
}

/* Hand over the frames that are here in whole. */
static int deliver_stream(struct net_socket *s)
{
    long length = whole_frame(s, s->at);
    while (length > 0) {
        size_t next = s->at + HEADER + (size_t)length;
        long then = whole_frame(s, next);
        if (!deliver(s, s->at + HEADER, (size_t)length, then > 0))
            return 0;
        s->at = next;
        length = then;
    }
    if (length < 0)
        return (int)length;
    memmove(s->in, s->in + s->at, s->held - s->at);
    s->held -= s->at;
    s->at = 0;
    return 0;
}

static int read_stream(struct net_socket *s)
{
    int ret = deliver_stream(s);
    if (ret < 0 || s->full)
        return ret;
    long n = receive_some(s, s->in + s->held, sizeof(s->in) - s->held);
    if (n <= 0)
        return n == 0 ? -EPIPE : (int)n;
    s->held += (size_t)n;
    return deliver_stream(s);
}

/* A message that the user did not take stays in `in`, `held` bytes long. */
static int read_messages(struct net_socket *s)
{
    if (s->held && !deliver(s, 0, s->held, false))
        return 0;
    s->held = 0;
    s->empty = true;
    for (uint32_t i = 0; i < BATCH; i++) {
        long n = receive_some(s, s->in, sizeof(s->in));
        if (n == -ECONNREFUSED) /* the peer of a datagram socket is away, and may come back */
            continue;
        if (n < 0)
            return (int)n;
        if (n == 0 || n > (long)VMM_NET_FRAME_MAX)
            continue;
        s->empty = false;
        if (!deliver(s, 0, (size_t)n, false)) {
            s->held = (size_t)n;
            break;
        }
    }
    return 0;
}

static void receive(struct net_socket *s)
{
    int ret = s->stream ? read_stream(s) : read_messages(s);
    if (ret < 0 && ret != -EAGAIN)
        link_down(s);
    else
        change_watch(s, s->full ? 0 : VMM_POLL_IN, s->full ? VMM_POLL_IN : 0);
}

static void on_ready(void *ctx, uint32_t events)
{
    struct net_socket *s = ctx;
    struct vmm_net *net = s->net;
    if (!vmm_net_try_ref(net))
        return;
    if (events & VMM_POLL_OUT)
        on_room(s);
    if (!s->full && vmm_net_link(net) && events & (VMM_POLL_IN | VMM_POLL_ERR | VMM_POLL_HUP))
        receive(s);
    /* An empty message looks like the end of a sequenced-packet socket; only this is the end. */
    if (!s->full && !s->stream && s->empty && events & VMM_POLL_HUP)
        link_down(s);
    vmm_net_unref(net);
}

static void on_again(void *ctx)
{
    struct net_socket *s = ctx;
    struct vmm_net *net = s->net;
    if (!vmm_net_try_ref(net))
        return;
    if (s->full && vmm_net_link(net))
        receive(s);
    vmm_net_unref(net);
}

/* The user may hold its locks, so the frame that waits goes to it from the loop. */
static void socket_accept(void *ctx)
{
    struct net_socket *s = ctx;
    (void)vmm_timer_set(s->again, vmm_loop_now(s->loop));
}

/* Making --------------------------------------------------------------------------------------- */

static void socket_destroy(void *ctx)
{
    struct net_socket *s = ctx;
    vmm_source_free(s->source);
    vmm_timer_free(s->again);
    vmm_loop_unref(s->loop);
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static int start(struct net_socket *s, int fd)
{
    s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (s->fd < 0)
        return -errno;
    int ret = vmm_timer_new(s->loop, on_again, s, &s->again);
    if (ret < 0)
        return ret;
    s->events = VMM_POLL_IN;
    /* Not before all else is there: from now on the callback runs. */
    return vmm_source_new(s->loop, s->fd, s->events, on_ready, s, &s->source);
}

static int type_of(int fd)
{
    int type;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return -errno;
    return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET ? type : -EINVAL;
}

int vmm_net_new_socket(struct vmm_loop *loop, int fd, struct vmm_net **out, struct vmm_error *err)
{
    static const struct vmm_net_ops ops = {.size = sizeof(ops),
                                           .send = socket_send,
                                           .accept = socket_accept,
                                           .destroy = socket_destroy};
    if (!loop || !out)
        return vmm_error_set(err, -EINVAL, "net socket: a loop and a result are needed");
    int type = type_of(fd);
    if (type < 0)
        return vmm_error_set(err, type,
                             "net socket: descriptor %d: %s; a connected stream, "
                             "datagram or sequenced-packet socket is needed",
                             fd, strerror(-type));
    struct net_socket *s = calloc(1, sizeof(*s));
    if (!s)
        return vmm_error_set(err, -ENOMEM, "net socket: out of memory");
    s->fd = -1;
    s->stream = type == SOCK_STREAM;
    int ret = vmm_net_new(&ops, s, &s->net);
    if (ret < 0) {
        free(s);
        return vmm_error_set(err, ret, "net socket: %s", strerror(-ret));
    }
    pthread_mutex_init(&s->lock, NULL);
    s->loop = vmm_loop_ref(loop);
    struct vmm_net *net = s->net;
    ret = start(s, fd);
    if (ret < 0) {
        vmm_net_unref(net);
        return vmm_error_set(err, ret, "net socket: %s", strerror(-ret));
    }
    *out = net;
    return 0;
}

int vmm_net_new_unix(struct vmm_loop *loop, const char *path, struct vmm_net **out,
                     struct vmm_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!loop || !path || !*path || !out)
        return vmm_error_set(err, -EINVAL, "net: a loop, a path and a result are needed");
    if (strlen(path) >= sizeof(address.sun_path))
        return vmm_error_set(err, -ENAMETOOLONG, "net %s: the path is longer than %zu bytes", path,
                             sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return vmm_error_set(err, -errno, "net %s: %s", path, strerror(errno));
    int ret = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (ret < 0)
        vmm_error_set(err, ret, "net %s: cannot connect: %s", path, strerror(-ret));
    else
        ret = vmm_net_new_socket(loop, fd, out, err);
    close(fd);
    return ret;
}

int vmm_net_new_pair(struct vmm_loop *loop_a, struct vmm_loop *loop_b, struct vmm_net **a,
                     struct vmm_net **b, struct vmm_error *err)
{
    int fds[2];
    struct vmm_net *first = NULL;
    if (!loop_a || !loop_b || !a || !b)
        return vmm_error_set(err, -EINVAL, "net pair: two loops and two results are needed");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return vmm_error_set(err, -errno, "net pair: %s", strerror(errno));
    int ret = vmm_net_new_socket(loop_a, fds[0], &first, err);
    if (ret == 0)
        ret = vmm_net_new_socket(loop_b, fds[1], b, err);
    close(fds[0]);
    close(fds[1]);
    if (ret == 0)
        *a = first;
    else
        vmm_net_unref(first);
    return ret;
}
