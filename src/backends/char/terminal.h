/* SPDX-License-Identifier: BSD-3-Clause */
/* A terminal in raw mode, and the way back. */
#ifndef BACKENDS_CHAR_TERMINAL_H
#define BACKENDS_CHAR_TERMINAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <termios.h>

struct vmm_char_terminal {
    int fd;
    _Atomic bool raw; /* the settings below must be given back */
    struct termios saved;
};

/* Keep the settings of `fd` and make it raw: every byte passes as it is in both directions (no CR
 * to NL, no echo, no signals from keys). 0, or a negative errno; then nothing has changed. */
int vmm_char_terminal_make_raw(struct vmm_char_terminal *terminal, int fd);
/* Async-signal-safe; the second time it does nothing. */
void vmm_char_terminal_restore(struct vmm_char_terminal *terminal);

#endif
