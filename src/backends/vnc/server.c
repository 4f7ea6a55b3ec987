/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets: listening, clients, and their bytes. */
#include "backends/vnc/internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Clients -------------------------------------------------------------------------------------- */

static void drop(struct vnc_client *c)
{
    struct vmm_vnc *v = c->vnc;
    for (uint32_t i = 0; i < VNC_CLIENTS; i++)
        if (v->clients[i] == c)
            v->clients[i] = NULL;
    v->count--;
    vmm_watcher_free(c->watcher);
    vmm_source_free(c->source);
    vnc_encode_end(c);
    close(c->fd);
    free(c->message.data);
    free(c->out.data);
    free(c);
}

/* Send what the socket takes; the rest waits until it takes more. -1: the client is gone. */
static int flush(struct vnc_client *c)
{
    while (c->out_sent < c->out.length) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.length - c->out_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n <= 0)
            break;
        c->out_sent += (size_t)n;
    }
    bool all = c->out_sent == c->out.length;
    if (all)
        c->out.length = c->out_sent = 0;
    if (c->out.failed || c->message.failed || (all && c->state == VNC_CLOSING))
        return -1;
    return vmm_source_set_events(c->source, VMM_POLL_IN | (all ? 0 : VMM_POLL_OUT)) ? -1 : 0;
}

void vnc_send(struct vnc_client *c)
{
    if (c->vnc->websocket)
        vnc_websocket_frame(c, 2, c->message.data, c->message.length);
    else
        vnc_put(&c->out, c->message.data, c->message.length);
    c->message.length = 0;
}

int vnc_receive(struct vnc_client *c, const uint8_t *data, size_t length)
{
    while (length) {
        size_t n = c->skip < length ? (size_t)c->skip : length;
        c->skip -= n;
        data += n;
        length -= n;
        n = length < VNC_INPUT - c->in_length ? length : VNC_INPUT - c->in_length;
        memcpy(c->in + c->in_length, data, n);
        c->in_length += n;
        data += n;
        length -= n;
        size_t at = 0;
        while (at < c->in_length && !c->skip) {
            long taken = vnc_message(c, c->in + at, c->in_length - at);
            if (taken < 0)
                return -1;
            if (taken == 0)
                break;
            at += (size_t)taken;
        }
        size_t skipped = c->skip < c->in_length - at ? (size_t)c->skip : c->in_length - at;
        c->skip -= skipped;
        at += skipped;
        if (at == 0 && c->in_length == VNC_INPUT)
            return -1;
        c->in_length -= at;
        memmove(c->in, c->in + at, c->in_length);
        if (at && c->in_length && !length) /* what followed the skipped part */
            return vnc_receive(c, NULL, 0);
    }
    return 0;
}

static int take(struct vnc_client *c)
{
    if (c->vnc->websocket) {
        ssize_t n = recv(c->fd, c->raw + c->raw_length, VNC_INPUT - c->raw_length, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
        c->raw_length += (size_t)n;
        return vnc_websocket_receive(c);
    }
    uint8_t data[VNC_INPUT];
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    return vnc_receive(c, data, (size_t)n);
}

static void ready(void *ctx, uint32_t events)
{
    struct vnc_client *c = ctx;
    int rc = events & (VMM_POLL_IN | VMM_POLL_HUP | VMM_POLL_ERR) ? take(c) : 0;
    if (!rc && (events & VMM_POLL_OUT)) {
        rc = flush(c);
        if (!rc && !c->out.length)
            vnc_update(c);
    }
    if (rc || flush(c))
        drop(c);
}

static void changed(void *ctx)
{
    struct vnc_client *c = ctx;
    vnc_update(c);
    if (flush(c))
        drop(c);
}

/* What it does not ask for is not drawn: the watcher sleeps until then. */
static int start(struct vnc_client *c)
{
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    o.loop = c->vnc->loop;
    o.interval_ms = c->vnc->interval;
    o.changed = changed;
    o.ctx = c;
    int rc = vmm_watcher_new(c->vnc->display, &o, &c->watcher);
    if (rc)
        return rc;
    vmm_watcher_pause(c->watcher, true);
    rc = vmm_source_new(c->vnc->loop, c->fd, VMM_POLL_IN, ready, c, &c->source);
    if (rc)
        return rc;
    if (!c->vnc->websocket)
        vnc_greet(c);
    return flush(c);
}

static void accept_one(void *ctx, uint32_t events)
{
    struct vmm_vnc *v = ctx;
    uint32_t slot = 0;
    (void)events;
    int fd = accept4(v->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    while (slot < VNC_CLIENTS && v->clients[slot])
        slot++;
    struct vnc_client *c = v->count < v->clients_max ? calloc(1, sizeof(*c)) : NULL;
    if (!c || slot == VNC_CLIENTS) {
        free(c);
        close(fd);
        return;
    }
    const int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->vnc = v;
    c->fd = fd;
    c->state = VNC_HANDSHAKE;
    v->clients[slot] = c;
    v->count++;
    if (start(c))
        drop(c);
}

/* Listening ------------------------------------------------------------------------------------ */

static int listen_unix(struct vmm_vnc *v, const char *path, struct vmm_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (!length || length >= sizeof(a.sun_path))
        return vmm_error_set(err, -EINVAL, "%s: a socket's path has 1 to %zu characters", path,
                             sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, length + 1);
    v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Nobody connects before listen(), so the mode is right in time. */
    if (v->fd < 0 || bind(v->fd, (struct sockaddr *)&a, sizeof(a)))
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    memcpy(v->path, path, length + 1);
    if (chmod(path, 0600) || listen(v->fd, 8))
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    return 0;
}

static int listen_tcp(struct vmm_vnc *v, const char *address, struct vmm_error *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char host[64];
    const char *colon = strrchr(address, ':'), *begin = address;
    size_t length = colon ? (size_t)(colon - address) : 0;
    if (length > 2 && begin[0] == '[' && begin[length - 1] == ']') {
        begin++;
        length -= 2;
    }
    if (!colon || !length || length >= sizeof(host))
        return vmm_error_set(err, -EINVAL, "\"%s\" is not ADDRESS:PORT or unix:PATH", address);
    memcpy(host, begin, length);
    host[length] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found))
        return vmm_error_set(err, -EINVAL, "\"%s\": not a numeric address and port", address);
    const int one = 1;
    v->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = v->fd < 0 || setsockopt(v->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
                     bind(v->fd, found->ai_addr, found->ai_addrlen) || listen(v->fd, 8)
                 ? -errno
                 : 0;
    freeaddrinfo(found);
    return rc ? vmm_error_set(err, rc, "%s: %s", address, strerror(-rc)) : 0;
}

static int check(const struct vmm_vnc_options *o, struct vmm_error *err)
{
    if (!o->loop || !o->display || !o->address)
        return vmm_error_set(err, -EINVAL, "VNC needs a loop, a display and an address");
    if (o->clients_max > VNC_CLIENTS)
        return vmm_error_set(err, -EINVAL, "clients_max: at most %u", VNC_CLIENTS);
    if (o->password && !*o->password)
        return vmm_error_set(err, -EINVAL, "password: an empty one keeps out nobody");
    if ((o->password || o->websocket) && !vnc_has_crypto())
        return vmm_error_set(err, -ENOTSUP, "passwords and WebSocket need libnettle");
    return 0;
}

int vmm_vnc_new(const struct vmm_vnc_options *given, struct vmm_vnc **out, struct vmm_error *err)
{
    struct vmm_vnc_options o;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return vmm_error_set(err, rc, "options: not a structure that this version knows");
    rc = check(&o, err);
    if (rc)
        return rc;
    struct vmm_vnc *v = calloc(1, sizeof(*v));
    if (!v)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    v->fd = -1;
    v->loop = vmm_loop_ref(o.loop);
    v->display = vmm_display_ref(o.display);
    v->input = vmm_seat_ref(o.input);
    v->websocket = o.websocket;
    v->has_password = o.password != NULL;
    v->interval = o.interval_ms;
    v->clients_max = o.clients_max ? o.clients_max : 8;
    (void)snprintf(v->name, sizeof(v->name), "%s", o.name ? o.name : "libvmm");
    if (o.password)
        memcpy(v->password, o.password, strnlen(o.password, 8));
    rc = strncmp(o.address, "unix:", 5) == 0 ? listen_unix(v, o.address + 5, err)
                                             : listen_tcp(v, o.address, err);
    if (!rc) {
        rc = vmm_source_new(v->loop, v->fd, VMM_POLL_IN, accept_one, v, &v->source);
        if (rc)
            (void)vmm_error_set(err, rc, "%s: %s", o.address, strerror(-rc));
    }
    if (rc)
        vmm_vnc_free(v);
    else
        *out = v;
    return rc;
}

struct vmm_vnc *vmm_vnc_free(struct vmm_vnc *v)
{
    if (!v)
        return NULL;
    vmm_source_free(v->source);
    for (uint32_t i = 0; i < VNC_CLIENTS; i++)
        if (v->clients[i])
            drop(v->clients[i]);
    if (v->fd >= 0)
        close(v->fd);
    if (v->path[0])
        (void)unlink(v->path);
    vmm_seat_unref(v->input);
    vmm_display_unref(v->display);
    vmm_loop_unref(v->loop);
    explicit_bzero(v->password, sizeof(v->password));
    free(v);
    return NULL;
}

uint32_t vmm_vnc_port(const struct vmm_vnc *v)
{
    struct sockaddr_storage a;
    socklen_t length = sizeof(a);
    if (getsockname(v->fd, (struct sockaddr *)&a, &length))
        return 0;
    if (a.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&a)->sin_port);
    return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : 0;
}

uint32_t vmm_vnc_clients(const struct vmm_vnc *v)
{
    return v->count;
}
