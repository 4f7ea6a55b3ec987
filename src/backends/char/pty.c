/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pseudo-terminal. When its last user closes the slave, the master reports a hang-up until
 * somebody opens it again, and the kernel tells nobody when that is: a timer looks, five times a
 * second, for as long as there is no peer.
 */
#include "backends/char/stream.h"
#include "backends/char/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_AGAIN_NS 200000000u

struct pty {
    struct vmm_char_stream *stream;
    struct vmm_timer *look;
    int master; /* the stream's */
    char path[64];
};

static void look_later(struct pty *pty)
{
    (void)vmm_timer_set(pty->look, vmm_loop_now(pty->stream->loop) + LOOK_AGAIN_NS);
}

static void pty_look(void *ctx)
{
    struct pty *pty = ctx;
    struct vmm_chardev *chardev = pty->stream->chardev;
    struct pollfd p = {.fd = pty->master, .events = POLLIN};
    if (!vmm_chardev_try_ref(chardev))
        return;
    if (poll(&p, 1, 0) < 0 || (p.revents & POLLHUP))
        look_later(pty);
    else
        vmm_char_stream_reopen(pty->stream);
    vmm_chardev_unref(chardev);
}

static void pty_hung_up(void *ctx)
{
    look_later(ctx);
}

static void pty_destroy(void *ctx)
{
    struct pty *pty = ctx;
    vmm_timer_free(pty->look);
    free(pty);
}

/* Bytes pass unchanged even if the peer is a plain `cat`: the slave begins raw. Closing it again
 * makes the master report that nobody is there. */
static int make_slave_raw(const char *path)
{
    struct vmm_char_terminal terminal;
    int slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return -errno;
    int ret = vmm_char_terminal_make_raw(&terminal, slave);
    close(slave);
    return ret;
}

static int open_master(struct pty *pty)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0)
        return -errno;
    int ret = 0;
    if (grantpt(master) < 0 || unlockpt(master) < 0)
        ret = -errno;
    if (ret == 0)
        ret = -ptsname_r(master, pty->path, sizeof(pty->path));
    if (ret == 0)
        ret = make_slave_raw(pty->path);
    if (ret < 0) {
        close(master);
        return ret;
    }
    pty->master = master;
    return 0;
}

static int pty_attach(struct pty *pty)
{
    struct vmm_char_end in = {pty->master, VMM_CHAR_TTY, true};
    struct vmm_char_end out = in;
    out.fd = fcntl(pty->master, F_DUPFD_CLOEXEC, 0);
    if (out.fd < 0) {
        int ret = -errno;
        close(pty->master);
        return ret;
    }
    return vmm_char_stream_attach(pty->stream, in, out, true);
}

int vmm_chardev_new_pty(struct vmm_loop *loop, struct vmm_chardev **out, struct vmm_error *err)
{
    static const struct vmm_char_stream_hooks hooks = {.hung_up = pty_hung_up,
                                                       .destroy = pty_destroy};
    if (!loop || !out)
        return vmm_error_set(err, -EINVAL, "pty: a loop and a result are needed");
    struct pty *pty = calloc(1, sizeof(*pty));
    if (!pty)
        return vmm_error_set(err, -ENOMEM, "pty: out of memory");
    int ret = vmm_timer_new(loop, pty_look, pty, &pty->look);
    if (ret == 0)
        ret = vmm_char_stream_new(loop, &hooks, pty, &pty->stream);
    if (ret < 0) {
        pty_destroy(pty);
        return vmm_error_set(err, ret, "pty: %s", strerror(-ret));
    }
    ret = open_master(pty);
    if (ret == 0)
        ret = pty_attach(pty);
    if (ret < 0) {
        vmm_chardev_unref(pty->stream->chardev);
        return vmm_error_set(err, ret, "pty: cannot make a pseudo-terminal: %s", strerror(-ret));
    }
    vmm_chardev_set_path(pty->stream->chardev, pty->path);
    *out = pty->stream->chardev;
    return 0;
}
