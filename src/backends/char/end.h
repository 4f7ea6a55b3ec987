/* SPDX-License-Identifier: BSD-3-Clause */
/* One direction of a byte stream: a descriptor, and how to use it without ever blocking. */
#ifndef BACKENDS_CHAR_END_H
#define BACKENDS_CHAR_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vmm_char_kind {
    VMM_CHAR_SOCKET, /* asked not to block at each call */
    VMM_CHAR_PIPE,
    VMM_CHAR_TTY,   /* and other devices that can be polled */
    VMM_CHAR_PLAIN, /* a regular file, /dev/null: always ready, cannot be polled */
};

struct vmm_char_end {
    int fd; /* own; -1: this direction does not exist */
    enum vmm_char_kind kind;
    bool nonblocking; /* the open file description is; else poll guards each call */
};

#define VMM_CHAR_END_NONE                                                                          \
    (struct vmm_char_end)                                                                          \
    {                                                                                              \
        -1, VMM_CHAR_PLAIN, true                                                                   \
    }

/* Duplicate `fd` for one direction. O_NONBLOCK belongs to the open file description, which other
 * processes share (the shell, standard error), so it is set only on a new description. */
int vmm_char_end_open(struct vmm_char_end *end, int fd, bool for_writing);
void vmm_char_end_close(struct vmm_char_end *end);

/* As read and write, but a negative errno is returned, EINTR is tried again, nothing blocks
 * (-EAGAIN) and no SIGPIPE is raised (-EPIPE). */
long vmm_char_end_read(const struct vmm_char_end *end, void *data, size_t length);
long vmm_char_end_write(const struct vmm_char_end *end, const void *data, size_t length);

#endif
