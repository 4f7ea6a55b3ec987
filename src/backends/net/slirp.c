/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * User-mode network by libslirp: a small TCP/IP stack that plays router, DHCP and name server, and opens
 * sockets of this process for what the guest connects to.
 *
 * libslirp knows one thread, so a lock is around all calls into it. It wants to be asked what to poll
 * for before each wait; its descriptors are kept in an epoll descriptor, which the loop watches. What it
 * sends to the guest goes into a bounded queue, and from the loop to the user: a frame may be sent from
 * inside of vmm_net_send(), where the user holds its locks. While much waits there, the sockets are not
 * read, so that their peers wait too.
 */
#include "backends/net/net.h"
#include "base/soft.h"
#include "base/util.h"
#include "config.h"

#include <stdlib.h>

#ifdef HAVE_SLIRP

#include <pthread.h>
#include <slirp/libslirp.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MTU_DEFAULT 1500u
#define MTU_MIN     576u
#define MTU_MAX     65521u
#define QUEUE_SIZE  (512u << 10) /* bytes; each frame after its length */
#define QUEUE_HIGH  (QUEUE_SIZE / 2)
#define TIMERS      4u
#define FDS_STEP    64u
#define NEVER       UINT64_MAX
#define MS          UINT64_C(1000000)
/* libslirp asks for a turn in a second at the latest also when none of its connections, fragments or packets
 * waits for anything: not armed any more once that many turns found nothing, so an idle VM sleeps. */
#define IDLE_TIMEOUT 1000u /* ms */
#define QUIET_TURNS  3u

/* libslirp, loaded when the first such network is made: it brings GLib along, whose loading would cost every
 * program milliseconds. */
/* clang-format off */
#define SLIRP_FUNCTIONS(F) \
    F(new) F(cleanup) F(input) F(pollfds_fill) F(pollfds_poll) F(add_hostfwd) F(remove_hostfwd)
/* clang-format on */
struct slirp_library {
#define F(name) __typeof__(&slirp_##name) name;
    SLIRP_FUNCTIONS(F)
#undef F
};

static int load_library(struct slirp_library *library, struct vmm_error *err)
{
    const struct vmm_soft_symbol symbols[] = {
#define F(name) {"slirp_" #name, (void **)(void *)&library->name},
        SLIRP_FUNCTIONS(F)
#undef F
    };
    return vmm_soft_load("libslirp.so.0", "libslirp0", symbols,
                         sizeof(symbols) / sizeof(symbols[0]), err);
}

struct slirp_timer {
    SlirpTimerCb expired;
    void *ctx;
    uint64_t deadline; /* NEVER: not armed */
    bool used;
};

struct polled {
    int fd;
    uint32_t wanted; /* epoll's bits, since the last question */
    uint32_t set;    /* what epoll has; 0: not in there */
    uint32_t ready;
};

struct user_net {
    struct vmm_net *net; /* owns this */
    struct vmm_loop *loop;
    struct vmm_source *source; /* the epoll descriptor */
    struct vmm_timer *timer;   /* libslirp's deadlines */
    struct vmm_timer *again;   /* frames wait for the user, or descriptors may have changed */
    int epoll_fd;
    char *hostname;
    pthread_mutex_t
        lock; /* guards all below, and is held around libslirp; taken below a device's */
    Slirp *slirp;
    struct slirp_library lib;
    struct slirp_timer timers[TIMERS];
    struct polled *fds;
    size_t fd_count, fd_room;
    bool held_back; /* sockets that could be read are not */
    uint32_t quiet; /* turns in a row that only a deadline brought about */
    /* A ring of frames for the user. */
    size_t head, used;
    uint8_t frame[VMM_NET_FRAME_MAX]; /* of the loop's thread: the one that is being delivered */
    size_t frame_length;              /* 0: none */
    uint8_t queue[QUEUE_SIZE];
};

/* The queue of frames -------------------------------------------------------------------------- */

static void queue_copy(struct user_net *u, size_t at, void *data, size_t length, bool put)
{
    at %= QUEUE_SIZE;
    size_t first = QUEUE_SIZE - at < length ? QUEUE_SIZE - at : length;
    uint8_t *d = data;
    memcpy(put ? u->queue + at : d, put ? d : u->queue + at, first);
    memcpy(put ? u->queue : d + first, put ? d + first : u->queue, length - first);
}

/* libslirp has a frame for the guest. What there is no room for is dropped, as on any wire. */
static ssize_t send_packet(const void *data, size_t length, void *ctx)
{
    struct user_net *u = ctx;
    uint32_t size = (uint32_t)length;
    if (length == 0 || length > VMM_NET_FRAME_MAX || length + sizeof(size) > QUEUE_SIZE - u->used)
        return (ssize_t)length;
    queue_copy(u, u->head + u->used, &size, sizeof(size), true);
    queue_copy(u, u->head + u->used + sizeof(size), (void *)(uintptr_t)data, length, true);
    u->used += sizeof(size) + length;
    return (ssize_t)length;
}

static bool take_frame(struct user_net *u)
{
    uint32_t size;
    if (u->frame_length)
        return true;
    pthread_mutex_lock(&u->lock);
    bool any = u->used > 0;
    if (any) {
        queue_copy(u, u->head, &size, sizeof(size), false);
        queue_copy(u, u->head + sizeof(size), u->frame, size, false);
        u->head = (u->head + sizeof(size) + size) % QUEUE_SIZE;
        u->used -= sizeof(size) + size;
        u->frame_length = size;
    }
    pthread_mutex_unlock(&u->lock);
    return any;
}

/* To the user, on the loop's thread and without the lock. */
static void deliver(struct user_net *u)
{
    while (take_frame(u)) {
        const struct iovec piece = {u->frame, u->frame_length};
        if (vmm_net_deliver(u->net, &piece, 1) == -EAGAIN)
            return;
        u->frame_length = 0;
    }
}

/* Descriptors ---------------------------------------------------------------------------------- */

static uint32_t to_epoll(int events)
{
    return (events & SLIRP_POLL_IN ? (uint32_t)EPOLLIN : 0) |
           (events & SLIRP_POLL_OUT ? (uint32_t)EPOLLOUT : 0) |
           (events & SLIRP_POLL_PRI ? (uint32_t)EPOLLPRI : 0);
}

static int from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (events & EPOLLERR ? SLIRP_POLL_ERR : 0) |
           (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static struct polled *find(struct user_net *u, int fd)
{
    for (size_t i = 0; i < u->fd_count; i++)
        if (u->fds[i].fd == fd)
            return &u->fds[i];
    return NULL;
}

static struct polled *find_or_add(struct user_net *u, int fd)
{
    struct polled *p = find(u, fd);
    if (p)
        return p;
    if (u->fd_count == u->fd_room) {
        p = realloc(u->fds, (u->fd_room + FDS_STEP) * sizeof(*p));
        if (!p)
            return NULL;
        u->fds = p;
        u->fd_room += FDS_STEP;
    }
    p = &u->fds[u->fd_count++];
    *p = (struct polled){.fd = fd};
    return p;
}

static int add_poll(int fd, int events, void *ctx)
{
    struct user_net *u = ctx;
    struct polled *p = find_or_add(u, fd);
    if (!p)
        return -1; /* get_revents() finds nothing there */
    /* While much waits for the user, no more is read. */
    if (u->used > QUEUE_HIGH) {
        events &= ~SLIRP_POLL_IN;
        u->held_back = true;
    }
    p->wanted |= to_epoll(events);
    return fd;
}

static int get_revents(int fd, void *ctx)
{
    const struct polled *p = find(ctx, fd);
    return p ? from_epoll(p->ready) : 0;
}

/* A socket is new, or about to be closed: epoll has forgotten its number, or will. */
static void forget_fd(int fd, void *ctx)
{
    struct user_net *u = ctx;
    struct polled *p = find(u, fd);
    if (!p)
        return;
    if (p->set)
        (void)epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    p->set = p->wanted = p->ready = 0;
}

static void apply_fd(struct user_net *u, struct polled *p)
{
    struct epoll_event event = {.events = p->wanted, .data.fd = p->fd};
    if (p->wanted == p->set)
        return;
    int op = !p->wanted ? EPOLL_CTL_DEL : p->set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    p->set = epoll_ctl(u->epoll_fd, op, p->fd, &event) == 0 ? p->wanted : 0;
}

/* Ask libslirp what it waits for, and wait for that. The lock is held. */
static void prepare(struct user_net *u)
{
    uint32_t timeout = UINT32_MAX;
    u->held_back = false;
    uint64_t now = vmm_loop_now(u->loop), deadline = NEVER;
    for (size_t i = 0; i < u->fd_count; i++)
        u->fds[i].wanted = 0;
    u->lib.pollfds_fill(u->slirp, &timeout, add_poll, u);
    size_t kept = 0;
    for (size_t i = 0; i < u->fd_count; i++) {
        apply_fd(u, &u->fds[i]);
        if (u->fds[i].set)
            u->fds[kept++] = u->fds[i];
    }
    u->fd_count = kept;
    if (timeout < IDLE_TIMEOUT || u->quiet < QUIET_TURNS)
        deadline = now + timeout * MS;
    for (size_t i = 0; i < TIMERS; i++)
        if (u->timers[i].used && u->timers[i].deadline < deadline)
            deadline = u->timers[i].deadline;
    if (deadline != NEVER)
        (void)vmm_timer_set(u->timer, deadline);
    else
        vmm_timer_cancel(u->timer);
}

/* Timers --------------------------------------------------------------------------------------- */

static int64_t clock_get_ns(void *ctx)
{
    return (int64_t)vmm_loop_now(((struct user_net *)ctx)->loop);
}

static void *timer_new(SlirpTimerCb expired, void *timer_ctx, void *ctx)
{
    struct user_net *u = ctx;
    for (size_t i = 0; i < TIMERS; i++)
        if (!u->timers[i].used) {
            u->timers[i] = (struct slirp_timer){expired, timer_ctx, NEVER, true};
            return &u->timers[i];
        }
    return NULL;
}

static void timer_free(void *timer, void *ctx)
{
    (void)ctx;
    if (timer)
        ((struct slirp_timer *)timer)->used = false;
}

static void timer_mod(void *timer, int64_t expire_ms, void *ctx)
{
    (void)ctx;
    if (timer)
        ((struct slirp_timer *)timer)->deadline = expire_ms > 0 ? (uint64_t)expire_ms * MS : 0;
}

static void run_timers(struct user_net *u)
{
    uint64_t now = vmm_loop_now(u->loop);
    for (size_t i = 0; i < TIMERS; i++) {
        struct slirp_timer *t = &u->timers[i];
        if (t->used && t->deadline <= now) {
            t->deadline = NEVER;
            t->expired(t->ctx);
        }
    }
}

/* Events --------------------------------------------------------------------------------------- */

static void notify(void *ctx)
{
    (void)ctx; /* prepare() follows each call into libslirp */
}

static void guest_error(const char *text, void *ctx)
{
    (void)text;
    (void)ctx; /* a packet that makes no sense is dropped */
}

/* A turn of libslirp's. Descriptors that are not polled at this moment have nothing to say. */
static void work(struct user_net *u, bool deadline)
{
    struct epoll_event events[FDS_STEP];
    pthread_mutex_lock(&u->lock);
    u->quiet = deadline ? u->quiet + 1 : 0;
    int n = epoll_wait(u->epoll_fd, events, FDS_STEP, 0);
    for (size_t i = 0; i < u->fd_count; i++)
        u->fds[i].ready = 0;
    for (int i = 0; i < n; i++) {
        struct polled *p = find(u, events[i].data.fd);
        if (p)
            p->ready = events[i].events;
    }
    run_timers(u);
    u->lib.pollfds_poll(u->slirp, 0, get_revents, u);
    prepare(u);
    pthread_mutex_unlock(&u->lock);
}

static void wake(struct user_net *u)
{
    (void)vmm_timer_set(u->again, vmm_loop_now(u->loop));
}

/* One callback for all: something is ready, a deadline has come, or the user wants frames. */
static void turn(struct user_net *u, bool deadline)
{
    struct vmm_net *net = u->net;
    if (!vmm_net_try_ref(net))
        return;
    deliver(u);
    work(u, deadline);
    deliver(u);
    pthread_mutex_lock(&u->lock);
    bool read_on = u->held_back && u->used <= QUEUE_HIGH;
    pthread_mutex_unlock(&u->lock);
    if (read_on)
        wake(u);
    vmm_net_unref(net);
}

static void on_ready(void *ctx, uint32_t events)
{
    (void)events;
    turn(ctx, false);
}

static void on_deadline(void *ctx)
{
    turn(ctx, true);
}

static void on_wake(void *ctx)
{
    turn(ctx, false);
}

static int slirp_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct user_net *u = ctx;
    uint8_t data[VMM_NET_FRAME_MAX];
    size_t length = 0;
    for (size_t i = 0; i < frame->count; i++) {
        if (frame->pieces[i].iov_len)
            memcpy(data + length, frame->pieces[i].iov_base, frame->pieces[i].iov_len);
        length += frame->pieces[i].iov_len;
    }
    pthread_mutex_lock(&u->lock);
    u->lib.input(u->slirp, data, (int)length);
    pthread_mutex_unlock(&u->lock);
    wake(u);
    return 0;
}

static void slirp_accept(void *ctx)
{
    wake(ctx);
}

/* Ports ---------------------------------------------------------------------------------------- */

struct ports {
    struct in_addr host, guest;
    int host_port, guest_port, udp;
};

static void slirp_destroy(void *ctx)
{
    struct user_net *u = ctx;
    vmm_source_free(u->source);
    vmm_timer_free(u->timer);
    vmm_timer_free(u->again);
    if (u->slirp)
        u->lib.cleanup(u->slirp);
    if (u->epoll_fd >= 0)
        close(u->epoll_fd);
    vmm_loop_unref(u->loop);
    pthread_mutex_destroy(&u->lock);
    free(u->hostname);
    free(u->fds);
    free(u);
}

static int parse_forward(const struct vmm_net_forward *given, struct ports *p,
                         struct vmm_error *err)
{
    struct vmm_net_forward f;
    if (!given || vmm_options_copy(&f, sizeof(f), given))
        return vmm_error_set(err, -EINVAL, "forward: a structure of another version");
    if (f.host_port == 0 || f.host_port > 65535 || f.guest_port == 0 || f.guest_port > 65535)
        return vmm_error_set(err, -EINVAL, "forward: ports are from 1 to 65535");
    if (inet_pton(AF_INET, f.host_address ? f.host_address : "127.0.0.1", &p->host) != 1 ||
        inet_pton(AF_INET, f.guest_address ? f.guest_address : "10.0.2.15", &p->guest) != 1)
        return vmm_error_set(err, -EINVAL, "forward: an address such as 127.0.0.1 is needed");
    p->host_port = (int)f.host_port;
    p->guest_port = (int)f.guest_port;
    p->udp = f.udp != 0;
    return 0;
}

static int change_forward(struct vmm_net *net, const struct vmm_net_forward *forward, bool add,
                          struct vmm_error *err)
{
    struct user_net *u = vmm_net_ctx(net, slirp_destroy);
    struct ports p;
    if (!u)
        return vmm_error_set(err, -EINVAL, "forward: not a user-mode network");
    int ret = parse_forward(forward, &p, err);
    if (ret)
        return ret;
    pthread_mutex_lock(&u->lock);
    errno = 0;
    ret = add ? u->lib.add_hostfwd(u->slirp, p.udp, p.host, p.host_port, p.guest, p.guest_port)
              : u->lib.remove_hostfwd(u->slirp, p.udp, p.host, p.host_port);
    if (ret < 0)
        ret = !add ? -ENOENT : errno ? -errno : -EADDRINUSE;
    else
        ret = 0;
    pthread_mutex_unlock(&u->lock);
    wake(u);
    return ret ? vmm_error_set(err, ret, "forward: %s port %d of the host: %s",
                               p.udp ? "UDP" : "TCP", p.host_port, strerror(-ret))
               : 0;
}

int vmm_net_slirp_forward(struct vmm_net *net, const struct vmm_net_forward *forward,
                          struct vmm_error *err)
{
    return change_forward(net, forward, true, err);
}

int vmm_net_slirp_unforward(struct vmm_net *net, const struct vmm_net_forward *forward,
                            struct vmm_error *err)
{
    return change_forward(net, forward, false, err);
}

/* Making --------------------------------------------------------------------------------------- */

static void configure(SlirpConfig *c, const struct vmm_net_slirp_options *o, const char *hostname)
{
    memset(c, 0, sizeof(*c));
    c->version = 1;
    c->restricted = o->restricted != 0;
    c->in_enabled = true;
    c->vnetwork.s_addr = htonl(0x0a000200);
    c->vnetmask.s_addr = htonl(0xffffff00);
    c->vhost.s_addr = htonl(0x0a000202);
    c->vdhcp_start.s_addr = htonl(0x0a00020f);
    c->vnameserver.s_addr = htonl(0x0a000203);
    c->in6_enabled = true;
    (void)inet_pton(AF_INET6, "fec0::", &c->vprefix_addr6);
    c->vprefix_len = 64;
    (void)inet_pton(AF_INET6, "fec0::2", &c->vhost6);
    (void)inet_pton(AF_INET6, "fec0::3", &c->vnameserver6);
    c->vhostname = hostname;
    c->if_mtu = c->if_mru = o->mtu ? o->mtu : MTU_DEFAULT;
    c->disable_host_loopback = !o->host_loopback;
}

static int start(struct user_net *u, const struct vmm_net_slirp_options *o)
{
    static const SlirpCb callbacks = {
        .send_packet = send_packet,
        .guest_error = guest_error,
        .clock_get_ns = clock_get_ns,
        .timer_new = timer_new,
        .timer_free = timer_free,
        .timer_mod = timer_mod,
        .register_poll_fd = forget_fd,
        .unregister_poll_fd = forget_fd,
        .notify = notify,
    };
    SlirpConfig config;
    u->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (u->epoll_fd < 0)
        return -errno;
    int ret = vmm_timer_new(u->loop, on_deadline, u, &u->timer);
    ret = ret ? ret : vmm_timer_new(u->loop, on_wake, u, &u->again);
    if (ret)
        return ret;
    configure(&config, o, u->hostname);
    u->slirp = u->lib.new(&config, &callbacks, u);
    if (!u->slirp)
        return -EINVAL;
    wake(u);
    return vmm_source_new(u->loop, u->epoll_fd, VMM_POLL_IN, on_ready, u, &u->source);
}

static int make(struct user_net *u, const struct vmm_net_slirp_options *o)
{
    static const struct vmm_net_ops ops = {
        .size = sizeof(ops), .send = slirp_send, .accept = slirp_accept, .destroy = slirp_destroy};
    if (o->hostname && !(u->hostname = strdup(o->hostname)))
        return -ENOMEM;
    int ret = vmm_net_new(&ops, u, &u->net);
    return ret ? ret : start(u, o);
}

int vmm_net_new_slirp(struct vmm_loop *loop, const struct vmm_net_slirp_options *given,
                      struct vmm_net **out, struct vmm_error *err)
{
    struct vmm_net_slirp_options o = VMM_NET_SLIRP_OPTIONS_INIT;
    if (!loop || !out || (given && vmm_options_copy(&o, sizeof(o), given)))
        return vmm_error_set(err, -EINVAL, "slirp: a loop, sound options and a result are needed");
    if (o.mtu && (o.mtu < MTU_MIN || o.mtu > MTU_MAX))
        return vmm_error_set(err, -EINVAL, "slirp: an MTU is from %u to %u", MTU_MIN, MTU_MAX);
    if (o.hostname && strlen(o.hostname) > 63)
        return vmm_error_set(err, -EINVAL, "slirp: a host name has at most 63 characters");
    struct user_net *u = calloc(1, sizeof(*u));
    if (!u)
        return vmm_error_set(err, -ENOMEM, "slirp: out of memory");
    int ret = load_library(&u->lib, err);
    if (ret) {
        free(u);
        return ret;
    }
    u->epoll_fd = -1;
    u->loop = vmm_loop_ref(loop);
    pthread_mutex_init(&u->lock, NULL);
    ret = make(u, &o);
    if (ret == 0) {
        *out = u->net;
        return 0;
    }
    if (u->net)
        vmm_net_unref(u->net);
    else
        slirp_destroy(u);
    return vmm_error_set(err, ret, "slirp: %s", strerror(-ret));
}

#else

int vmm_net_new_slirp(struct vmm_loop *loop, const struct vmm_net_slirp_options *options,
                      struct vmm_net **out, struct vmm_error *err)
{
    (void)loop;
    (void)options;
    (void)out;
    return vmm_error_set(err, -ENOTSUP, "this libvmm was built without libslirp");
}

int vmm_net_slirp_forward(struct vmm_net *net, const struct vmm_net_forward *forward,
                          struct vmm_error *err)
{
    (void)net;
    (void)forward;
    return vmm_error_set(err, -EINVAL, "this libvmm was built without libslirp");
}

int vmm_net_slirp_unforward(struct vmm_net *net, const struct vmm_net_forward *forward,
                            struct vmm_error *err)
{
    return vmm_net_slirp_forward(net, forward, err);
}

#endif
