/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop's inside, shared by its sources (loop.c) and its timers (timer.c). */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <libvmm/loop.h>

#include <pthread.h>
#include <stdatomic.h>

/* One entry of the table that turns epoll's cookie into a source. The generation tells a source
 * from a freed one whose event had been fetched already. */
struct vmm_loop_slot {
    struct vmm_source *source;
    uint32_t generation;
    uint32_t next_free;
};

struct vmm_loop_post {
    struct vmm_loop_post *next;
    void (*fn)(void *ctx);
    void *ctx;
};

/* A timer is in the heap (armed), in the list of due ones (about to run), or in neither. */
struct vmm_timer {
    struct vmm_loop *loop;
    void (*expired)(void *ctx);
    void *ctx;
    uint64_t deadline;
    uint64_t sequence; /* equal deadlines fire in the order of arming */
    size_t place;      /* 1 + index in the heap; 0: not in it */
    bool due;
    struct vmm_timer *next; /* in the list of due ones */
    struct vmm_timer *prev;
};

struct vmm_loop {
    _Atomic uint32_t refs;
    uint64_t (*now)(void *ctx); /* NULL: CLOCK_MONOTONIC */
    void *now_ctx;
    int epoll_fd;
    int wake_fd;
    int timer_fd;          /* -1 with a clock of the embedder's */
    _Atomic int quit_code; /* -1: not asked */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t idle;  /* a callback has returned and somebody waits for that */
    bool dispatching;
    pthread_t dispatcher;
    const void *running; /* the source or timer whose callback runs now */
    uint32_t waiters;

    struct vmm_loop_slot *slots;
    uint32_t slot_count;
    uint32_t first_free; /* UINT32_MAX: none */

    struct vmm_loop_post *posts;
    struct vmm_loop_post **posts_end;

    struct vmm_timer **heap;
    size_t heap_count;
    size_t heap_room;   /* at least the number of timers, so that arming never allocates */
    size_t timers;      /* that exist */
    uint64_t sequence;  /* of the last arming */
    uint64_t armed_for; /* what timer_fd is set to; UINT64_MAX: to nothing */
    struct vmm_timer *due;
};

/* Make the dispatching thread come out of its wait. Async-signal-safe. */
void vmm_loop_wake(struct vmm_loop *loop);

/* Call with the lock held around a callback; begin drops the lock, end takes it again. */
void vmm_loop_callback_begin(struct vmm_loop *loop, const void *what);
void vmm_loop_callback_end(struct vmm_loop *loop);
/* With the lock held: wait until the callback of `what` has returned, or, inside it, forget that
 * it runs because `what` is about to be freed. */
void vmm_loop_callback_wait(struct vmm_loop *loop, const void *what);

/* With the lock held: is this the thread that dispatches, in a callback? Then it comes by the queues again
 * before it waits, and need not be woken. */
bool vmm_loop_is_inside(const struct vmm_loop *loop);

/* Is a timer due? */
bool vmm_timers_pending(struct vmm_loop *loop);
/* Run what is due now; returns how many. */
int vmm_timers_run(struct vmm_loop *loop);
/* timer_fd has fired; the lock is held. */
void vmm_timers_fired(struct vmm_loop *loop);
/* Make sure that the earliest deadline will wake the loop. */
void vmm_timers_arm(struct vmm_loop *loop);

#endif
