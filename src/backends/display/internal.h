/* SPDX-License-Identifier: BSD-3-Clause */
/* Displays from the inside. Locks, outermost first: source_lock, the device's, lock. */
#ifndef BACKENDS_DISPLAY_INTERNAL_H
#define BACKENDS_DISPLAY_INTERNAL_H

#include "base/util.h"

#include <libvmm/display.h>

#include <pthread.h>

#define CURSOR_MAX 256u

struct vmm_display {
    uint32_t refs;               /* atomic */
    pthread_mutex_t source_lock; /* held while a callback of the source runs */
    struct vmm_display_ops ops;
    void *ops_ctx;
    bool attached;

    pthread_mutex_t lock; /* of all that follows */
    uint8_t *pixels;
    size_t room;
    uint32_t width, height, stride;
    uint64_t generation, cursor_generation;
    uint32_t *cursor_pixels;
    struct vmm_cursor cursor;
    bool drawing_fresh;
    bool woken; /* since the last refresh */
    struct vmm_watcher *watchers;
};

struct vmm_watcher {
    struct vmm_display *display;
    struct vmm_watcher *next;
    struct vmm_loop *loop;
    struct vmm_timer *timer;
    uint64_t interval, wait; /* nanoseconds */
    uint64_t last;
    void (*changed)(void *ctx);
    void *ctx;
    bool paused, armed;
    uint32_t count;
    struct vmm_rect rects[VMM_WATCHER_RECTS];
};

/* Ask the source to draw; VMM_REFRESH_…. No lock is held. */
int vmm_display_ask(struct vmm_display *display);
/* The lock is held in these. */
void vmm_display_describe(const struct vmm_display *display, struct vmm_surface *surface);
void vmm_watcher_damage(struct vmm_watcher *watcher, const struct vmm_rect *rect);
void vmm_watcher_wake(struct vmm_watcher *watcher);

#endif
