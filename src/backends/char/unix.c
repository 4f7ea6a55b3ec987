/* SPDX-License-Identifier: BSD-3-Clause */
/* A unix stream socket: one that listens and serves a peer at a time, or a connection. */
#include "backends/char/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TRY_AGAIN_NS 200000000u

struct unix_socket {
    struct vmm_char_stream *stream;
    struct vmm_source *listener; /* NULL: this side has connected */
    struct vmm_timer *again;     /* after a shortage of descriptors */
    int listen_fd;
    bool bound; /* the path below is ours to remove */
    dev_t dev;
    ino_t ino;
    struct sockaddr_un address;
};

/* The path may be another's by now. */
static void unlink_own(const struct unix_socket *u)
{
    struct stat st;
    if (u->bound && lstat(u->address.sun_path, &st) == 0 && st.st_dev == u->dev &&
        st.st_ino == u->ino)
        unlink(u->address.sun_path);
}

static void unix_destroy(void *ctx)
{
    struct unix_socket *u = ctx;
    vmm_timer_free(u->again);
    vmm_source_free(u->listener);
    unlink_own(u);
    if (u->listen_fd >= 0)
        close(u->listen_fd);
    free(u);
}

static int attach_peer(struct unix_socket *u, int fd)
{
    struct vmm_char_end in = {fd, VMM_CHAR_SOCKET, true};
    struct vmm_char_end out = in;
    out.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (out.fd < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return vmm_char_stream_attach(u->stream, in, out, true);
}

static void on_peer(void *ctx, uint32_t events)
{
    struct unix_socket *u = ctx;
    struct vmm_chardev *chardev = u->stream->chardev;
    (void)events;
    if (!vmm_chardev_try_ref(chardev))
        return;
    /* Others wait in the backlog until this one has gone. */
    (void)vmm_source_set_events(u->listener, VMM_POLL_OFF);
    int fd = accept4(u->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && attach_peer(u, fd) == 0)
        vmm_chardev_event(chardev, VMM_CHARDEV_OPENED);
    else /* out of descriptors, mostly: the peer is still announced, so not at once */
        (void)vmm_timer_set(u->again, vmm_loop_now(u->stream->loop) + TRY_AGAIN_NS);
    vmm_chardev_unref(chardev);
}

static void on_again(void *ctx)
{
    struct unix_socket *u = ctx;
    (void)vmm_source_set_events(u->listener, VMM_POLL_IN);
}

static void unix_hung_up(void *ctx)
{
    struct unix_socket *u = ctx;
    if (u->listener)
        (void)vmm_source_set_events(u->listener, VMM_POLL_IN);
}

static int listen_on(struct unix_socket *u, int fd)
{
    struct stat st;
    /* The mode that Linux gives the file is the socket's own: no moment with another one, and the
     * process's umask is left alone. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&u->address, sizeof(u->address)) < 0)
        return -errno;
    if (lstat(u->address.sun_path, &st) == 0) {
        u->bound = true;
        u->dev = st.st_dev;
        u->ino = st.st_ino;
    }
    if (listen(fd, 1) < 0)
        return -errno;
    int ret = vmm_timer_new(u->stream->loop, on_again, u, &u->again);
    if (ret < 0)
        return ret;
    return vmm_source_new(u->stream->loop, fd, VMM_POLL_IN, on_peer, u, &u->listener);
}

static int open_socket(struct unix_socket *u, bool listening)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (listening) {
        u->listen_fd = fd;
        return listen_on(u, fd);
    }
    /* Without blocking: a listener whose backlog is full gives -EAGAIN. */
    if (connect(fd, (struct sockaddr *)&u->address, sizeof(u->address)) < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return attach_peer(u, fd);
}

static const char *advice(int code)
{
    switch (code) {
    case -EADDRINUSE:
        return "; another program listens there, or has left the file behind: remove it";
    case -ECONNREFUSED:
    case -ENOENT:
        return "; nobody listens there";
    case -EAGAIN:
        return "; the listener has not taken earlier connections yet";
    default:
        return "";
    }
}

int vmm_chardev_new_unix(struct vmm_loop *loop, const char *path, bool listening,
                         struct vmm_chardev **out, struct vmm_error *err)
{
    static const struct vmm_char_stream_hooks hooks = {.hung_up = unix_hung_up,
                                                       .destroy = unix_destroy};
    if (!loop || !path || !*path || !out)
        return vmm_error_set(err, -EINVAL, "unix socket: a loop, a path and a result are needed");
    struct unix_socket *u = calloc(1, sizeof(*u));
    if (!u)
        return vmm_error_set(err, -ENOMEM, "unix socket: out of memory");
    u->listen_fd = -1;
    u->address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(u->address.sun_path)) {
        free(u);
        return vmm_error_set(err, -ENAMETOOLONG,
                             "unix socket %s: the path is longer than %zu bytes", path,
                             sizeof(u->address.sun_path) - 1);
    }
    memcpy(u->address.sun_path, path, strlen(path) + 1);
    int ret = vmm_char_stream_new(loop, &hooks, u, &u->stream);
    if (ret < 0) {
        free(u);
        return vmm_error_set(err, ret, "unix socket: %s", strerror(-ret));
    }
    ret = open_socket(u, listening);
    if (ret < 0) {
        vmm_chardev_unref(u->stream->chardev);
        return vmm_error_set(err, ret, "unix socket %s: cannot %s: %s%s", path,
                             listening ? "listen" : "connect", strerror(-ret),
                             listening && ret == -ENOENT ? "" : advice(ret));
    }
    vmm_chardev_set_path(u->stream->chardev, u->address.sun_path);
    *out = u->stream->chardev;
    return 0;
}
