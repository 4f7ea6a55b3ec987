/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/char/end.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool can_be_polled(int fd)
{
    struct epoll_event event = {0};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return true; /* the loop will say what is wrong */
    bool ok = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 || errno != EPERM;
    close(epoll);
    return ok;
}

static enum vmm_char_kind kind_of(int fd, const struct stat *st)
{
    if (S_ISSOCK(st->st_mode))
        return VMM_CHAR_SOCKET;
    if (S_ISFIFO(st->st_mode))
        return VMM_CHAR_PIPE;
    return S_ISREG(st->st_mode) || !can_be_polled(fd) ? VMM_CHAR_PLAIN : VMM_CHAR_TTY;
}

/* A new description of the same file. Opening the master of a pseudo-terminal again would make
 * another pair, and other devices have side effects of their own. */
static int open_again(int fd, enum vmm_char_kind kind, bool for_writing)
{
    unsigned number;
    bool slave = kind == VMM_CHAR_TTY && isatty(fd) && ioctl(fd, TIOCGPTN, &number) < 0;
    if (kind != VMM_CHAR_PIPE && !slave)
        return -1;
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, (for_writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

int vmm_char_end_open(struct vmm_char_end *end, int fd, bool for_writing)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0)
        return -errno;
    int mode = flags & O_ACCMODE;
    if (mode != O_RDWR && mode != (for_writing ? O_WRONLY : O_RDONLY))
        return -EBADF;
    end->kind = kind_of(fd, &st);
    end->nonblocking = true;
    end->fd = open_again(fd, end->kind, for_writing);
    if (end->fd >= 0)
        return 0;
    end->nonblocking = (flags & O_NONBLOCK) != 0;
    end->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return end->fd < 0 ? -errno : 0;
}

void vmm_char_end_close(struct vmm_char_end *end)
{
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
}

static int guard(const struct vmm_char_end *end, short events)
{
    if (end->nonblocking || end->kind == VMM_CHAR_PLAIN)
        return 0;
    struct pollfd p = {.fd = end->fd, .events = events};
    int ready;
    do
        ready = poll(&p, 1, 0);
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return -errno;
    return ready ? 0 : -EAGAIN;
}

long vmm_char_end_read(const struct vmm_char_end *end, void *data, size_t length)
{
    for (;;) {
        ssize_t n;
        if (end->kind == VMM_CHAR_SOCKET) {
            n = recv(end->fd, data, length, MSG_DONTWAIT);
        } else {
            int ret = guard(end, POLLIN);
            if (ret < 0)
                return ret;
            n = read(end->fd, data, length);
        }
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return -errno;
    }
}

/* Pipes know no MSG_NOSIGNAL: block the signal and take it away if it was this write's. */
static ssize_t write_to_pipe(int fd, const void *data, size_t length)
{
    sigset_t sigpipe, old, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &old);
    ssize_t n = write(fd, data, length);
    int saved = errno;
    if (n < 0 && saved == EPIPE && !was_pending) {
        const struct timespec now = {0, 0};
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return n;
}

/* What a blocking description takes for sure once poll has said that it is ready. */
static size_t safe_length(const struct vmm_char_end *end, size_t length)
{
    if (end->nonblocking || end->kind == VMM_CHAR_PLAIN || end->kind == VMM_CHAR_SOCKET)
        return length;
    size_t most = end->kind == VMM_CHAR_PIPE ? PIPE_BUF : 1;
    return length < most ? length : most;
}

static ssize_t write_once(const struct vmm_char_end *end, const void *data, size_t length)
{
    if (end->kind == VMM_CHAR_SOCKET)
        return send(end->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    int ret = guard(end, POLLOUT);
    if (ret < 0) {
        errno = -ret;
        return -1;
    }
    length = safe_length(end, length);
    return end->kind == VMM_CHAR_PIPE ? write_to_pipe(end->fd, data, length)
                                      : write(end->fd, data, length);
}

long vmm_char_end_write(const struct vmm_char_end *end, const void *data, size_t length)
{
    for (;;) {
        ssize_t n = write_once(end, data, length);
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return -errno;
    }
}
