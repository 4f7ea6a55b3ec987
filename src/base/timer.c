/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The timers of a loop: a binary heap by deadline, and one timerfd for the earliest.
 *
 * The timerfd is set again only for an earlier deadline than the one it stands at. A timer that is
 * pushed back or cancelled leaves it as it is and costs a wake-up that finds nothing, which is
 * cheaper than a system call for each change.
 */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>

static bool earlier(const struct vmm_timer *a, const struct vmm_timer *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->sequence < b->sequence;
}

static void heap_put(struct vmm_loop *loop, size_t i, struct vmm_timer *timer)
{
    loop->heap[i] = timer;
    timer->place = i + 1;
}

static void heap_up(struct vmm_loop *loop, size_t i, struct vmm_timer *timer)
{
    while (i > 0 && earlier(timer, loop->heap[(i - 1) / 2])) {
        heap_put(loop, i, loop->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(loop, i, timer);
}

static void heap_down(struct vmm_loop *loop, size_t i, struct vmm_timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= loop->heap_count)
            break;
        if (child + 1 < loop->heap_count && earlier(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!earlier(loop->heap[child], timer))
            break;
        heap_put(loop, i, loop->heap[child]);
        i = child;
    }
    heap_put(loop, i, timer);
}

static void heap_remove(struct vmm_loop *loop, struct vmm_timer *timer)
{
    size_t i = timer->place - 1;
    timer->place = 0;
    struct vmm_timer *last = loop->heap[--loop->heap_count];
    if (last == timer)
        return;
    if (i > 0 && earlier(last, loop->heap[(i - 1) / 2]))
        heap_up(loop, i, last);
    else
        heap_down(loop, i, last);
}

static void due_remove(struct vmm_loop *loop, struct vmm_timer *timer)
{
    if (timer->prev)
        timer->prev->next = timer->next;
    else
        loop->due = timer->next;
    if (timer->next)
        timer->next->prev = timer->prev;
    timer->next = timer->prev = NULL;
    timer->due = false;
}

static void disarm(struct vmm_loop *loop, struct vmm_timer *timer)
{
    if (timer->place)
        heap_remove(loop, timer);
    if (timer->due)
        due_remove(loop, timer);
}

/* The lock is held. */
static void set_timer_fd(struct vmm_loop *loop)
{
    if (loop->timer_fd < 0 || loop->heap_count == 0 || loop->heap[0]->deadline >= loop->armed_for)
        return;
    uint64_t deadline = loop->heap[0]->deadline;
    /* Zero would disarm; the kernel saturates what is beyond its own range. */
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(deadline / 1000000000u),
                     .tv_nsec = deadline ? (long)(deadline % 1000000000u) : 1},
    };
    if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        loop->armed_for = deadline;
}

int vmm_timer_new(struct vmm_loop *loop, void (*expired)(void *ctx), void *ctx,
                  struct vmm_timer **out)
{
    if (!loop || !expired || !out)
        return -EINVAL;
    struct vmm_timer *timer = calloc(1, sizeof(*timer));
    if (!timer)
        return -ENOMEM;
    timer->expired = expired;
    timer->ctx = ctx;
    pthread_mutex_lock(&loop->lock);
    if (loop->timers == loop->heap_room) {
        size_t room = loop->heap_room ? loop->heap_room * 2 : 8;
        struct vmm_timer **heap = realloc(loop->heap, room * sizeof(struct vmm_timer *));
        if (!heap) {
            pthread_mutex_unlock(&loop->lock);
            free(timer);
            return -ENOMEM;
        }
        loop->heap = heap;
        loop->heap_room = room;
    }
    loop->timers++;
    pthread_mutex_unlock(&loop->lock);
    timer->loop = vmm_loop_ref(loop);
    *out = timer;
    return 0;
}

int vmm_timer_set(struct vmm_timer *timer, uint64_t deadline_ns)
{
    if (!timer)
        return -EINVAL;
    struct vmm_loop *loop = timer->loop;
    /* The embedder's clock is asked before the lock is taken: it is foreign code. */
    bool late = loop->now && deadline_ns <= loop->now(loop->now_ctx);
    pthread_mutex_lock(&loop->lock);
    disarm(loop, timer);
    timer->deadline = deadline_ns;
    timer->sequence = ++loop->sequence;
    heap_up(loop, loop->heap_count++, timer);
    /* From inside a callback: the loop looks at its timers before it waits. */
    bool inside = vmm_loop_is_inside(loop);
    if (!inside)
        set_timer_fd(loop);
    pthread_mutex_unlock(&loop->lock);
    if (late && !inside)
        vmm_loop_wake(loop);
    return 0;
}

void vmm_timer_cancel(struct vmm_timer *timer)
{
    if (!timer)
        return;
    pthread_mutex_lock(&timer->loop->lock);
    disarm(timer->loop, timer);
    pthread_mutex_unlock(&timer->loop->lock);
}

struct vmm_timer *vmm_timer_free(struct vmm_timer *timer)
{
    if (!timer)
        return NULL;
    struct vmm_loop *loop = timer->loop;
    pthread_mutex_lock(&loop->lock);
    disarm(loop, timer);
    vmm_loop_callback_wait(loop, timer);
    disarm(loop, timer); /* its last callback may have armed it again */
    loop->timers--;
    pthread_mutex_unlock(&loop->lock);
    free(timer);
    vmm_loop_unref(loop);
    return NULL;
}

/* Asking for the time can be slow (a system call and a device's register, in some machines), so it is asked
 * for only when the timerfd has fired or does not stand at the first deadline. The lock is held. */
static bool may_be_due(const struct vmm_loop *loop)
{
    if (loop->heap_count == 0)
        return false;
    uint64_t first = loop->heap[0]->deadline;
    return loop->now || first == 0 || loop->armed_for > first;
}

bool vmm_timers_pending(struct vmm_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool any = may_be_due(loop);
    pthread_mutex_unlock(&loop->lock);
    if (!any)
        return false;
    uint64_t now = vmm_loop_now(loop);
    pthread_mutex_lock(&loop->lock);
    any = loop->heap_count > 0 && loop->heap[0]->deadline <= now;
    pthread_mutex_unlock(&loop->lock);
    return any;
}

/* Take what is due out of the heap first: a callback that arms for the past again waits for the
 * next dispatch and cannot keep this one going for ever. */
static void collect(struct vmm_loop *loop, uint64_t now)
{
    struct vmm_timer *last = NULL;
    while (loop->heap_count > 0 && loop->heap[0]->deadline <= now) {
        struct vmm_timer *timer = loop->heap[0];
        heap_remove(loop, timer);
        timer->due = true;
        timer->prev = last;
        if (last)
            last->next = timer;
        else
            loop->due = timer;
        last = timer;
    }
}

int vmm_timers_run(struct vmm_loop *loop)
{
    if (!vmm_timers_pending(loop))
        return 0;
    uint64_t now = vmm_loop_now(loop);
    int count = 0;
    pthread_mutex_lock(&loop->lock);
    collect(loop, now);
    while (loop->due) {
        struct vmm_timer *timer = loop->due;
        due_remove(loop, timer);
        vmm_loop_callback_begin(loop, timer);
        timer->expired(timer->ctx);
        vmm_loop_callback_end(loop);
        count++;
    }
    pthread_mutex_unlock(&loop->lock);
    return count;
}

void vmm_timers_fired(struct vmm_loop *loop)
{
    loop->armed_for = UINT64_MAX;
}

void vmm_timers_arm(struct vmm_loop *loop)
{
    if (loop->now) {
        if (vmm_timers_pending(loop))
            vmm_loop_wake(loop);
        return;
    }
    pthread_mutex_lock(&loop->lock);
    set_timer_fd(loop);
    pthread_mutex_unlock(&loop->lock);
}
