/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's side of the socket device: unix sockets, and what waits to be written to them. */
#include "base/util.h"
#include "devices/virtio/vsock.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where host ports of connections that the host begins are taken from. */
#define FIRST_PORT 0x40000000u
#define LAST_PORT  0x7fffffffu

static struct vsock_bucket *bucket_of(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
    uint32_t mixed = (host_port * 31 + guest_port) * 2654435761u;
    return &v->buckets[(mixed >> 16) % VSOCK_BUCKETS];
}

struct vsock_connection *vmm_vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
    struct vsock_connection *c;
    LIST_FOREACH(c, bucket_of(v, host_port, guest_port), bucket)
    if (c->host_port == host_port && c->guest_port == guest_port)
        return c;
    return NULL;
}

void vmm_vsock_connection_name(struct vsock_connection *c, uint32_t host_port, uint32_t guest_port)
{
    c->host_port = host_port;
    c->guest_port = guest_port;
    c->has_ports = true;
    LIST_INSERT_HEAD(bucket_of(c->vsock, host_port, guest_port), c, bucket);
}

static uint32_t free_place(const struct vsock *v)
{
    uint32_t place = 0;
    while (place < v->room && v->all[place])
        place++;
    return place;
}

bool vmm_vsock_has_room(const struct vsock *v)
{
    return free_place(v) < v->room;
}

struct vsock_connection *vmm_vsock_connection_new(struct vsock *v, int fd, enum vsock_state state)
{
    uint32_t place = free_place(v);
    struct vsock_connection *c = place < v->room ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        close(fd);
        return NULL;
    }
    c->vsock = v;
    c->state = state;
    c->fd = fd;
    c->events = VMM_POLL_IN;
    if (vmm_source_new(v->virtio->loop, fd, c->events, vmm_vsock_ready, c, &c->source)) {
        close(fd);
        free(c);
        return NULL;
    }
    v->all[place] = c;
    return c;
}

void vmm_vsock_kill(struct vsock_connection *c)
{
    struct vsock *v = c->vsock;
    if (c->state == VSOCK_DEAD)
        return;
    c->state = VSOCK_DEAD;
    c->owed = 0;
    if (c->has_ports)
        LIST_REMOVE(c, bucket);
    if (c->waits)
        TAILQ_REMOVE(&v->waiting, c, waiting);
    c->has_ports = c->waits = false;
    (void)shutdown(c->fd, SHUT_RDWR); /* its peer sees it now, the descriptor closes later */
    if (!v->ending)
        (void)vmm_timer_set(v->reaper, 0);
}

void vmm_vsock_abort(struct vsock_connection *c)
{
    if (!c->has_ports) {
        vmm_vsock_kill(c);
        return;
    }
    c->state = VSOCK_CLOSING;
    c->owed = 1u << VSOCK_RST;
    (void)shutdown(c->fd, SHUT_RDWR);
}

void vmm_vsock_reap(struct vsock *v)
{
    for (uint32_t i = 0; i < v->room; i++) {
        pthread_mutex_lock(&v->lock);
        struct vsock_connection *c = v->all[i];
        if (c && c->state != VSOCK_DEAD && !v->ending)
            c = NULL;
        pthread_mutex_unlock(&v->lock);
        if (!c)
            continue;
        vmm_source_free(c->source);
        close(c->fd);
        pthread_mutex_lock(&v->lock);
        v->all[i] = NULL;
        pthread_mutex_unlock(&v->lock);
        free(c->bytes);
        free(c);
    }
}

/* What is watched for -------------------------------------------------------------------------- */

static uint32_t wanted_events(const struct vsock_connection *c)
{
    uint32_t events = 0;
    switch (c->state) {
    case VSOCK_GREETING:
        return VMM_POLL_IN;
    case VSOCK_CONNECTING:
        return 0; /* does it go away? */
    case VSOCK_LINGERING:
        return VMM_POLL_OUT;
    case VSOCK_ESTABLISHED:
        break;
    default:
        return VMM_POLL_OFF;
    }
    if (c->used)
        events |= VMM_POLL_OUT;
    if (!c->readable && !c->ended && !(c->ends & VSOCK_NO_RECEIVE))
        events |= VMM_POLL_IN;
    /* A hang-up that cannot be dealt with yet would be reported without end. */
    return events || !(c->hung_up || c->readable) ? events : VMM_POLL_OFF;
}

void vmm_vsock_settle(struct vsock_connection *c)
{
    struct vsock *v = c->vsock;
    bool has = vmm_vsock_has_packet(c);
    if (has && !c->waits)
        TAILQ_INSERT_TAIL(&v->waiting, c, waiting);
    else if (!has && c->waits)
        TAILQ_REMOVE(&v->waiting, c, waiting);
    c->waits = has;
    uint32_t events = wanted_events(c);
    if (events != c->events && vmm_source_set_events(c->source, events) == 0)
        c->events = events;
}

/* To the host ---------------------------------------------------------------------------------- */

/* Bytes have left for good: tell the guest when half of the room has become free. */
static void forward(struct vsock_connection *c, uint32_t bytes)
{
    c->forwarded += bytes;
    if (c->forwarded - c->forwarded_told >= c->vsock->buffer / 2)
        c->owed |= 1u << VSOCK_CREDIT_UPDATE;
}

/* Nobody reads any more: what was sent is lost, and the guest will be told. */
static void give_up(struct vsock_connection *c)
{
    c->refuses = true;
    c->used = 0;
}

/* How much the socket takes. */
static size_t write_out(struct vsock_connection *c, struct iovec *iov, size_t count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        give_up(c);
    return n < 0 ? 0 : (size_t)n;
}

static size_t write_chain(struct vsock_connection *c, const struct vmm_virtio_chain *chain,
                          uint32_t length)
{
    struct iovec pieces[16];
    size_t count = 0, skip = VSOCK_HEADER, left = length;
    for (size_t i = 0; i < chain->readable_count && left && count < 16; i++) {
        size_t room = chain->readable[i].iov_len;
        if (skip >= room) {
            skip -= room;
            continue;
        }
        room = room - skip < left ? room - skip : left;
        pieces[count++] = (struct iovec){(uint8_t *)chain->readable[i].iov_base + skip, room};
        left -= room;
        skip = 0;
    }
    return write_out(c, pieces, count);
}

static bool keep(struct vsock_connection *c, const struct vmm_virtio_chain *chain, uint32_t from,
                 uint32_t length)
{
    uint32_t size = c->vsock->buffer;
    if (!c->bytes)
        c->bytes = malloc(size);
    if (!c->bytes)
        return false;
    while (from < length) {
        uint32_t at = (c->first + c->used) % size;
        uint32_t part = length - from < size - at ? length - from : size - at;
        (void)vmm_iov_read(chain->readable, chain->readable_count, VSOCK_HEADER + from,
                           c->bytes + at, part);
        c->used += part;
        from += part;
    }
    return true;
}

bool vmm_vsock_take(struct vsock_connection *c, const struct vmm_virtio_chain *chain,
                    uint32_t length)
{
    uint32_t done = 0;
    if (length > c->vsock->buffer - c->used)
        return false;
    if (!c->refuses && !c->used && length)
        done = (uint32_t)write_chain(c, chain, length);
    if (c->refuses)
        done = length;
    forward(c, done);
    return done == length || keep(c, chain, done, length);
}

void vmm_vsock_flush(struct vsock_connection *c)
{
    uint32_t size = c->vsock->buffer;
    uint32_t before = c->used;
    while (c->used) {
        uint32_t part = size - c->first < c->used ? size - c->first : c->used;
        struct iovec pieces[2] = {{c->bytes + c->first, part}, {c->bytes, c->used - part}};
        uint32_t done = (uint32_t)write_out(c, pieces, part < c->used ? 2 : 1);
        c->first = (c->first + done) % size;
        c->used -= c->used ? done : 0;
        if (!done)
            break;
    }
    forward(c, before - c->used);
    if (c->used)
        return;
    if (c->state == VSOCK_LINGERING)
        vmm_vsock_kill(c);
    else if (c->ends == VSOCK_NEITHER)
        vmm_vsock_abort(c); /* both directions are closed: the answer is the last packet */
    else if (c->ends & VSOCK_NO_SEND)
        (void)shutdown(c->fd, SHUT_WR);
}

/* From the host -------------------------------------------------------------------------------- */

/* "CONNECT port", with or without a carriage return. */
static bool parse_greeting(const char *line, uint32_t *port)
{
    static const char word[] = "CONNECT ";
    if (strncmp(line, word, sizeof(word) - 1) != 0 || !isdigit((unsigned char)line[8]))
        return false;
    char *end;
    unsigned long long number = strtoull(line + 8, &end, 10);
    *port = (uint32_t)number;
    return (!*end || strcmp(end, "\r") == 0) && number <= UINT32_MAX;
}

static uint32_t free_port(struct vsock *v, uint32_t guest_port)
{
    uint32_t port;
    do { /* ends: there are more ports than connections */
        port = v->next_port < FIRST_PORT ? FIRST_PORT : v->next_port;
        v->next_port = port == LAST_PORT ? FIRST_PORT : port + 1;
    } while (vmm_vsock_find(v, port, guest_port));
    return port;
}

static void ask_guest(struct vsock_connection *c)
{
    uint32_t port;
    if (!parse_greeting(c->line, &port) || !vmm_virtio_live(c->vsock->virtio)) {
        vmm_vsock_kill(c);
        return;
    }
    vmm_vsock_connection_name(c, free_port(c->vsock, port), port);
    c->state = VSOCK_CONNECTING;
    c->owed = 1u << VSOCK_REQUEST;
}

/* Nothing behind the line is taken off the socket: that is the guest's. */
static void greet(struct vsock_connection *c)
{
    uint32_t room = VSOCK_LINE_MAX - c->line_length;
    char *at = c->line + c->line_length;
    ssize_t n = recv(c->fd, at, room, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    const char *end = n > 0 ? memchr(at, '\n', (size_t)n) : NULL;
    size_t take = end ? (size_t)(end - at) + 1 : (size_t)(n > 0 ? n : 0);
    if (take == 0 || recv(c->fd, at, take, MSG_DONTWAIT) != (ssize_t)take ||
        (!end && take == room)) {
        vmm_vsock_kill(c);
        return;
    }
    c->line_length += (uint32_t)take;
    if (!end)
        return;
    c->line[c->line_length - 1] = '\0';
    ask_guest(c);
}

static void established(struct vsock_connection *c, uint32_t events)
{
    if (!c->ended && (events & (VMM_POLL_IN | VMM_POLL_HUP | VMM_POLL_ERR)))
        c->readable = true;
    if (c->hung_up) {
        c->ended |= (c->ends & VSOCK_NO_RECEIVE) != 0; /* nobody will read what is left */
        give_up(c);
    }
    if (events & (VMM_POLL_OUT | VMM_POLL_HUP | VMM_POLL_ERR))
        vmm_vsock_flush(c);
}

static void ready_locked(struct vsock_connection *c, uint32_t events)
{
    if (events & (VMM_POLL_HUP | VMM_POLL_ERR))
        c->hung_up = true;
    if (c->state == VSOCK_GREETING)
        greet(c);
    else if (c->state == VSOCK_CONNECTING && c->hung_up)
        vmm_vsock_abort(c);
    else if (c->state == VSOCK_ESTABLISHED)
        established(c, events);
    else if (c->state == VSOCK_LINGERING)
        vmm_vsock_flush(c);
    if (c->state != VSOCK_DEAD)
        vmm_vsock_settle(c);
}

void vmm_vsock_ready(void *ctx, uint32_t events)
{
    struct vsock_connection *c = ctx;
    struct vsock *v = c->vsock;
    vmm_virtio_queue_lock(v->to_driver);
    pthread_mutex_lock(&v->lock);
    if (c->state != VSOCK_DEAD) {
        ready_locked(c, events);
        vmm_vsock_send(v, true);
    }
    pthread_mutex_unlock(&v->lock);
    vmm_virtio_queue_unlock(v->to_driver);
}
