/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A chardev on descriptors that an event loop watches: the engine of the fd, stdio, pty and unix
 * backends.
 *
 * Everything that changes descriptors happens on the loop's thread (or before the chardev is handed
 * out). Writes come from any thread; the lock keeps them apart, and is never held around a user's
 * callback.
 */
#ifndef BACKENDS_CHAR_STREAM_H
#define BACKENDS_CHAR_STREAM_H

#include "backends/char/chardev.h"
#include "backends/char/end.h"

#include <pthread.h>

#define VMM_CHAR_HOLD 4096 /* bytes read ahead where keys are filtered */

struct vmm_char_stream_hooks {
    /* The peer has gone, CLOSED has been reported. On the loop's thread. May be NULL. */
    void (*hung_up)(void *ctx);
    /* Take keys that are not for the user out of what was read; returns what is left. May be NULL.
     * With a filter, reading goes on while the user cannot receive, until VMM_CHAR_HOLD bytes wait:
     * the key that ends a hung guest must be seen. */
    size_t (*filter)(void *ctx, uint8_t *data, size_t length);
    /* Free the backend's own part, first of all; no callback of the stream's runs any more. */
    void (*destroy)(void *ctx);
};

struct vmm_char_stream {
    struct vmm_chardev *chardev; /* whose backend this is; not held */
    struct vmm_loop *loop;       /* held by the timer */
    struct vmm_timer *later;     /* work that a write leaves to the loop's thread */
    const struct vmm_char_stream_hooks *hooks;
    void *ctx;

    pthread_mutex_t lock; /* guards all below */
    struct vmm_char_end in;
    struct vmm_char_end out;
    bool duplex; /* one peer behind both directions: when one hangs up, so has the other */
    struct vmm_source *in_source; /* NULL for a plain file */
    struct vmm_source *out_source;
    bool paused;         /* the user could not receive */
    bool ended;          /* no more input will come */
    bool closed;         /* output is dropped */
    bool closed_unheard; /* CLOSED has still to be reported */
    size_t held;
    uint8_t hold[VMM_CHAR_HOLD];
};

/* Make the stream, without descriptors and closed, and its chardev. On failure nothing is left to
 * free and hooks->destroy has not been called. */
int vmm_char_stream_new(struct vmm_loop *loop, const struct vmm_char_stream_hooks *hooks, void *ctx,
                        struct vmm_char_stream **out);
/* A peer: takes over both ends, also on failure. `duplex`: the two are one file. */
int vmm_char_stream_attach(struct vmm_char_stream *s, struct vmm_char_end in,
                           struct vmm_char_end out, bool duplex);
/* The peer of a stream that was closed is back on the same descriptors. On the loop's thread. */
void vmm_char_stream_reopen(struct vmm_char_stream *s);

#endif
