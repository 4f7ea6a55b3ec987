/* SPDX-License-Identifier: BSD-3-Clause */
/* A pair of descriptors, and standard input and output. */
#include "backends/char/stream.h"
#include "backends/char/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One terminal or socket behind both? */
static bool same_peer(const struct vmm_char_end *in, const struct vmm_char_end *out)
{
    struct stat a, b;
    if (in->fd < 0 || out->fd < 0 || in->kind != out->kind ||
        (in->kind != VMM_CHAR_SOCKET && in->kind != VMM_CHAR_TTY))
        return false;
    return fstat(in->fd, &a) == 0 && fstat(out->fd, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int open_ends(int in_fd, int out_fd, struct vmm_char_end *in, struct vmm_char_end *out,
                     struct vmm_error *err)
{
    *in = *out = VMM_CHAR_END_NONE;
    int ret = in_fd >= 0 ? vmm_char_end_open(in, in_fd, false) : 0;
    if (ret < 0)
        return vmm_error_set(err, ret, "character device: cannot read from descriptor %d: %s",
                             in_fd, strerror(-ret));
    ret = out_fd >= 0 ? vmm_char_end_open(out, out_fd, true) : 0;
    if (ret < 0) {
        vmm_char_end_close(in);
        return vmm_error_set(err, ret, "character device: cannot write to descriptor %d: %s",
                             out_fd, strerror(-ret));
    }
    return 0;
}

static int attach_fds(struct vmm_char_stream *s, int in_fd, int out_fd, struct vmm_error *err)
{
    struct vmm_char_end in, out;
    int ret = open_ends(in_fd, out_fd, &in, &out, err);
    if (ret < 0)
        return ret;
    ret = vmm_char_stream_attach(s, in, out, same_peer(&in, &out));
    return ret < 0 ? vmm_error_set(err, ret, "character device: cannot watch its descriptors: %s",
                                   strerror(-ret))
                   : 0;
}

int vmm_chardev_new_fd(struct vmm_loop *loop, int in_fd, int out_fd, struct vmm_chardev **out,
                       struct vmm_error *err)
{
    static const struct vmm_char_stream_hooks hooks;
    if (!loop || !out)
        return vmm_error_set(err, -EINVAL, "character device: a loop and a result are needed");
    if (in_fd < 0 && out_fd < 0)
        return vmm_error_set(err, -EBADF,
                             "character device: descriptors %d and %d: give at least one that is "
                             "open",
                             in_fd, out_fd);
    if (in_fd < -1 || out_fd < -1)
        return vmm_error_set(err, -EBADF, "character device: descriptor %d: none is -1",
                             in_fd < -1 ? in_fd : out_fd);
    struct vmm_char_stream *s;
    int ret = vmm_char_stream_new(loop, &hooks, NULL, &s);
    if (ret < 0)
        return vmm_error_set(err, ret, "character device: %s", strerror(-ret));
    ret = attach_fds(s, in_fd, out_fd, err);
    if (ret < 0)
        vmm_chardev_unref(s->chardev);
    else
        *out = s->chardev;
    return ret;
}

/* Standard input and output -------------------------------------------------------------------- */

struct stdio {
    struct vmm_char_terminal terminal;
    int terminal_fd; /* own */
    uint8_t escape;
    bool escaped; /* the last byte was the prefix */
    void (*on_escape)(void *ctx, uint8_t key);
    void *ctx;
};

static size_t stdio_filter(void *ctx, uint8_t *data, size_t length)
{
    struct stdio *stdio = ctx;
    size_t kept = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t key = data[i];
        if (!stdio->escaped && key == stdio->escape) {
            stdio->escaped = true;
        } else if (stdio->escaped && key != stdio->escape) {
            stdio->escaped = false;
            if (stdio->on_escape)
                stdio->on_escape(stdio->ctx, key);
        } else {
            stdio->escaped = false;
            data[kept++] = key;
        }
    }
    return kept;
}

static void stdio_destroy(void *ctx)
{
    struct stdio *stdio = ctx;
    vmm_char_terminal_restore(&stdio->terminal);
    if (stdio->terminal_fd >= 0)
        close(stdio->terminal_fd);
    free(stdio);
}

/* In the background, reading would stop the process (SIGTTIN) and so would raw mode: the terminal
 * is somebody else's then. */
static bool owns_terminal(int fd)
{
    pid_t foreground = tcgetpgrp(fd);
    return foreground < 0 || foreground == getpgrp();
}

static int stdio_raw(struct stdio *stdio)
{
    if (!isatty(STDIN_FILENO))
        return 0;
    stdio->terminal_fd = dup(STDIN_FILENO);
    if (stdio->terminal_fd < 0)
        return -errno;
    return vmm_char_terminal_make_raw(&stdio->terminal, stdio->terminal_fd);
}

static int check_open(struct vmm_error *err)
{
    static const char *const names[] = {"input", "output"};
    struct stat st;
    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
        if (fstat(fd, &st) < 0)
            return vmm_error_set(err, -EBADF,
                                 "standard %s is closed; connect it, to /dev/null if nothing else",
                                 names[fd]);
    return 0;
}

int vmm_chardev_new_stdio(struct vmm_loop *loop, uint8_t escape,
                          void (*on_escape)(void *ctx, uint8_t key), void *ctx,
                          struct vmm_chardev **out, struct vmm_error *err)
{
    static const struct vmm_char_stream_hooks plain = {.destroy = stdio_destroy};
    static const struct vmm_char_stream_hooks escaping = {.filter = stdio_filter,
                                                          .destroy = stdio_destroy};
    if (!loop || !out)
        return vmm_error_set(err, -EINVAL, "stdio: a loop and a result are needed");
    int ret = check_open(err);
    if (ret < 0)
        return ret;
    struct stdio *stdio = calloc(1, sizeof(*stdio));
    if (!stdio)
        return vmm_error_set(err, -ENOMEM, "stdio: out of memory");
    *stdio =
        (struct stdio){.terminal_fd = -1, .escape = escape, .on_escape = on_escape, .ctx = ctx};
    struct vmm_char_stream *s;
    ret = vmm_char_stream_new(loop, escape ? &escaping : &plain, stdio, &s);
    if (ret < 0) {
        free(stdio);
        return vmm_error_set(err, ret, "stdio: %s", strerror(-ret));
    }
    vmm_chardev_set_terminal(s->chardev, &stdio->terminal);
    bool background = isatty(STDIN_FILENO) && !owns_terminal(STDIN_FILENO);
    ret = background ? 0 : stdio_raw(stdio);
    if (ret < 0)
        (void)vmm_error_set(err, ret, "stdio: cannot put the terminal into raw mode: %s",
                            strerror(-ret));
    if (ret == 0)
        ret = attach_fds(s, background ? -1 : STDIN_FILENO, STDOUT_FILENO, err);
    if (ret < 0)
        vmm_chardev_unref(s->chardev);
    else
        *out = s->chardev;
    return ret;
}
