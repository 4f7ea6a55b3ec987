/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/char/terminal.h"

#include <errno.h>
#include <signal.h>

/* A process in the background is stopped by SIGTTOU when it changes the terminal; with the signal
 * blocked the change is made. It must be: nobody else would do it. */
static int set_attributes(int fd, const struct termios *attributes)
{
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    int ret;
    do
        ret = tcsetattr(fd, TCSANOW, attributes) < 0 ? -errno : 0;
    while (ret == -EINTR);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ret;
}

int vmm_char_terminal_make_raw(struct vmm_char_terminal *terminal, int fd)
{
    if (tcgetattr(fd, &terminal->saved) < 0)
        return -errno;
    terminal->fd = fd;
    struct termios raw = terminal->saved;
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    /* Marked before the change: a signal between the two then restores what is still there. */
    atomic_store(&terminal->raw, true);
    int ret = set_attributes(fd, &raw);
    if (ret < 0)
        atomic_store(&terminal->raw, false);
    return ret;
}

void vmm_char_terminal_restore(struct vmm_char_terminal *terminal)
{
    int saved = errno;
    if (atomic_exchange(&terminal->raw, false))
        (void)set_attributes(terminal->fd, &terminal->saved);
    errno = saved;
}
