/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: one epoll descriptor that holds the sources, an eventfd for wake-ups and a
 * timerfd, so that it is readable exactly when there is something to dispatch. */
#include "base/loop.h"
#include "base/util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH        64 /* events fetched at a time */
#define COOKIE_WAKE  UINT64_MAX
#define COOKIE_TIMER (UINT64_MAX - 1)
#define NO_SLOT      UINT32_MAX
#define ASKABLE      (VMM_POLL_IN | VMM_POLL_OUT)
#define ALWAYS       (VMM_POLL_ERR | VMM_POLL_HUP)

_Static_assert(VMM_POLL_IN == EPOLLIN && VMM_POLL_OUT == EPOLLOUT && VMM_POLL_ERR == EPOLLERR &&
                   VMM_POLL_HUP == EPOLLHUP,
               "the public constants are passed through to epoll");

struct vmm_source {
    struct vmm_loop *loop;
    int fd;
    uint32_t events; /* or VMM_POLL_OFF: not in the epoll set */
    uint32_t slot;
    void (*ready)(void *ctx, uint32_t events);
    void *ctx;
};

/* Life ----------------------------------------------------------------------------------------- */

static int epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t cookie)
{
    struct epoll_event event = {.events = events, .data.u64 = cookie};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

static int open_descriptors(struct vmm_loop *loop)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return -errno;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return -errno;
    int ret = epoll_add(loop->epoll_fd, loop->wake_fd, EPOLLIN, COOKIE_WAKE);
    if (ret < 0 || loop->now)
        return ret;
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->timer_fd < 0)
        return -errno;
    return epoll_add(loop->epoll_fd, loop->timer_fd, EPOLLIN, COOKIE_TIMER);
}

static void destroy(struct vmm_loop *loop)
{
    close_if_open(loop->timer_fd);
    close_if_open(loop->wake_fd);
    close_if_open(loop->epoll_fd);
    while (loop->posts) {
        struct vmm_loop_post *next = loop->posts->next;
        free(loop->posts);
        loop->posts = next;
    }
    free(loop->slots);
    free(loop->heap);
    pthread_cond_destroy(&loop->idle);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int vmm_loop_new(const struct vmm_loop_options *options, struct vmm_loop **out)
{
    struct vmm_loop_options o = VMM_LOOP_OPTIONS_INIT;
    int ret = options ? vmm_options_copy(&o, sizeof(o), options) : 0;
    if (ret < 0)
        return ret;
    if (!out)
        return -EINVAL;
    struct vmm_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    atomic_init(&loop->refs, 1);
    atomic_init(&loop->quit_code, -1);
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->idle, NULL);
    loop->now = o.now;
    loop->now_ctx = o.now_ctx;
    loop->epoll_fd = loop->wake_fd = loop->timer_fd = -1;
    loop->first_free = NO_SLOT;
    loop->posts_end = &loop->posts;
    loop->armed_for = UINT64_MAX;
    ret = open_descriptors(loop);
    if (ret < 0) {
        destroy(loop);
        return ret;
    }
    *out = loop;
    return 0;
}

struct vmm_loop *vmm_loop_ref(struct vmm_loop *loop)
{
    if (loop)
        atomic_fetch_add_explicit(&loop->refs, 1, memory_order_relaxed);
    return loop;
}

struct vmm_loop *vmm_loop_unref(struct vmm_loop *loop)
{
    if (loop && atomic_fetch_sub_explicit(&loop->refs, 1, memory_order_acq_rel) == 1)
        destroy(loop);
    return NULL;
}

int vmm_loop_fd(const struct vmm_loop *loop)
{
    return loop ? loop->epoll_fd : -EINVAL;
}

uint64_t vmm_loop_now(const struct vmm_loop *loop)
{
    if (loop->now)
        return loop->now(loop->now_ctx);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vmm_loop_wake(struct vmm_loop *loop)
{
    int saved = errno;
    uint64_t one = 1;
    /* It fails only when the counter is full: then the loop is awake already. */
    ssize_t n = write(loop->wake_fd, &one, sizeof(one));
    (void)n;
    errno = saved;
}

/* Callbacks ------------------------------------------------------------------------------------ */

void vmm_loop_callback_begin(struct vmm_loop *loop, const void *what)
{
    loop->running = what;
    pthread_mutex_unlock(&loop->lock);
}

void vmm_loop_callback_end(struct vmm_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->running = NULL;
    if (loop->waiters)
        pthread_cond_broadcast(&loop->idle);
}

void vmm_loop_callback_wait(struct vmm_loop *loop, const void *what)
{
    if (loop->running == what && pthread_equal(loop->dispatcher, pthread_self())) {
        loop->running = NULL; /* its memory may soon be another's */
        return;
    }
    while (loop->running == what) {
        loop->waiters++;
        pthread_cond_wait(&loop->idle, &loop->lock);
        loop->waiters--;
    }
}

bool vmm_loop_is_inside(const struct vmm_loop *loop)
{
    return loop->dispatching && pthread_equal(loop->dispatcher, pthread_self());
}

/* Sources -------------------------------------------------------------------------------------- */

static uint64_t cookie_of(const struct vmm_loop *loop, uint32_t slot)
{
    return (uint64_t)loop->slots[slot].generation << 32 | slot;
}

/* The lock is held. */
static int slot_take(struct vmm_loop *loop, struct vmm_source *source)
{
    if (loop->first_free == NO_SLOT) {
        uint32_t count = loop->slot_count ? loop->slot_count * 2 : 8;
        struct vmm_loop_slot *slots = realloc(loop->slots, count * sizeof(*slots));
        if (!slots)
            return -ENOMEM;
        for (uint32_t i = loop->slot_count; i < count; i++)
            slots[i] = (struct vmm_loop_slot){.next_free = i + 1 < count ? i + 1 : NO_SLOT};
        loop->first_free = loop->slot_count;
        loop->slots = slots;
        loop->slot_count = count;
    }
    source->slot = loop->first_free;
    loop->first_free = loop->slots[source->slot].next_free;
    loop->slots[source->slot].source = source;
    return 0;
}

/* The lock is held. */
static void slot_give(struct vmm_loop *loop, uint32_t slot)
{
    loop->slots[slot].source = NULL;
    loop->slots[slot].generation++;
    loop->slots[slot].next_free = loop->first_free;
    loop->first_free = slot;
}

/* The lock is held. */
static struct vmm_source *source_of(const struct vmm_loop *loop, uint64_t cookie)
{
    uint32_t slot = (uint32_t)cookie;
    if (slot >= loop->slot_count || loop->slots[slot].generation != (uint32_t)(cookie >> 32))
        return NULL;
    return loop->slots[slot].source;
}

/* The lock is held. */
static int watch(struct vmm_source *source, uint32_t events)
{
    struct vmm_loop *loop = source->loop;
    struct epoll_event event = {.events = events, .data.u64 = cookie_of(loop, source->slot)};
    if (events == source->events)
        return 0;
    int op = events == VMM_POLL_OFF           ? EPOLL_CTL_DEL
             : source->events == VMM_POLL_OFF ? EPOLL_CTL_ADD
                                              : EPOLL_CTL_MOD;
    if (epoll_ctl(loop->epoll_fd, op, source->fd, &event) < 0)
        return -errno;
    source->events = events;
    return 0;
}

static bool events_valid(uint32_t events)
{
    return events == VMM_POLL_OFF || (events & ~ASKABLE) == 0;
}

int vmm_source_new(struct vmm_loop *loop, int fd, uint32_t events,
                   void (*ready)(void *ctx, uint32_t events), void *ctx, struct vmm_source **out)
{
    if (!loop || !ready || !out || !events_valid(events))
        return -EINVAL;
    struct vmm_source *source = calloc(1, sizeof(*source));
    if (!source)
        return -ENOMEM;
    source->loop = loop;
    source->ready = ready;
    source->ctx = ctx;
    source->events = VMM_POLL_OFF;
    source->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (source->fd < 0) {
        int ret = -errno;
        free(source);
        return ret;
    }
    pthread_mutex_lock(&loop->lock);
    int ret = slot_take(loop, source);
    if (ret == 0) {
        ret = watch(source, events);
        if (ret < 0)
            slot_give(loop, source->slot);
    }
    if (ret == 0) {
        vmm_loop_ref(loop);
        *out = source; /* before the lock goes: the callback may run at once */
    }
    pthread_mutex_unlock(&loop->lock);
    if (ret < 0) {
        close(source->fd);
        free(source);
    }
    return ret;
}

int vmm_source_set_events(struct vmm_source *source, uint32_t events)
{
    if (!source || !events_valid(events))
        return -EINVAL;
    pthread_mutex_lock(&source->loop->lock);
    int ret = watch(source, events);
    pthread_mutex_unlock(&source->loop->lock);
    return ret;
}

struct vmm_source *vmm_source_free(struct vmm_source *source)
{
    if (!source)
        return NULL;
    struct vmm_loop *loop = source->loop;
    pthread_mutex_lock(&loop->lock);
    (void)watch(source, VMM_POLL_OFF); /* closing is not enough: the caller has the file open too */
    slot_give(loop, source->slot);
    vmm_loop_callback_wait(loop, source);
    pthread_mutex_unlock(&loop->lock);
    close(source->fd);
    free(source);
    vmm_loop_unref(loop);
    return NULL;
}

/* Returns 1 if a callback ran. */
static int run_source(struct vmm_loop *loop, const struct epoll_event *event)
{
    int ran = 0;
    pthread_mutex_lock(&loop->lock);
    struct vmm_source *source = source_of(loop, event->data.u64);
    /* What is no longer asked for is not reported, though it was fetched before. */
    if (source && source->events != VMM_POLL_OFF) {
        uint32_t events = event->events & (source->events | ALWAYS);
        if (events) {
            vmm_loop_callback_begin(loop, source);
            source->ready(source->ctx, events);
            vmm_loop_callback_end(loop);
            ran = 1;
        }
    }
    pthread_mutex_unlock(&loop->lock);
    return ran;
}

/* Posts ---------------------------------------------------------------------------------------- */

int vmm_loop_post(struct vmm_loop *loop, void (*fn)(void *ctx), void *ctx)
{
    if (!loop || !fn)
        return -EINVAL;
    struct vmm_loop_post *post = malloc(sizeof(*post));
    if (!post)
        return -ENOMEM;
    *post = (struct vmm_loop_post){.fn = fn, .ctx = ctx};
    pthread_mutex_lock(&loop->lock);
    bool wake = loop->posts == NULL && !vmm_loop_is_inside(loop);
    *loop->posts_end = post;
    loop->posts_end = &post->next;
    pthread_mutex_unlock(&loop->lock);
    if (wake)
        vmm_loop_wake(loop);
    return 0;
}

/* Something was posted that nobody was woken for. */
static bool posts_left(struct vmm_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool any = loop->posts != NULL;
    pthread_mutex_unlock(&loop->lock);
    return any;
}

static int run_posts(struct vmm_loop *loop)
{
    int count = 0;
    pthread_mutex_lock(&loop->lock);
    struct vmm_loop_post *post = loop->posts;
    loop->posts = NULL;
    loop->posts_end = &loop->posts;
    pthread_mutex_unlock(&loop->lock);
    while (post) {
        struct vmm_loop_post *next = post->next;
        post->fn(post->ctx);
        free(post);
        post = next;
        count++;
    }
    return count;
}

/* Dispatching ---------------------------------------------------------------------------------- */

static void drain(int fd)
{
    uint64_t value;
    ssize_t n = read(fd, &value, sizeof(value));
    (void)n; /* -EAGAIN: nothing left, which is all that is wanted */
}

/* The wake-ups must be taken back before the queues that they announce are looked at. */
static void acknowledge(struct vmm_loop *loop, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == COOKIE_WAKE)
            drain(loop->wake_fd);
        if (events[i].data.u64 != COOKIE_TIMER)
            continue;
        pthread_mutex_lock(&loop->lock);
        drain(loop->timer_fd);
        vmm_timers_fired(loop);
        pthread_mutex_unlock(&loop->lock);
    }
}

static int dispatch_once(struct vmm_loop *loop, int timeout_ms)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(loop->epoll_fd, events, BATCH, vmm_timers_pending(loop) ? 0 : timeout_ms);
    if (n < 0)
        return -errno;
    acknowledge(loop, events, n);
    int count = 0;
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 < COOKIE_TIMER)
            count += run_source(loop, &events[i]);
    /* After the sources: what their callbacks ask for at once costs no turn of its own. */
    count += run_posts(loop);
    count += vmm_timers_run(loop);
    if (posts_left(loop))
        vmm_loop_wake(loop);
    vmm_timers_arm(loop);
    return count;
}

static uint64_t host_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* A wake-up that ran nothing (a timer that had been cancelled) does not end the wait. */
static int dispatch_until(struct vmm_loop *loop, int timeout_ms)
{
    uint64_t end = timeout_ms > 0 ? host_ms() + (uint64_t)timeout_ms : 0;
    int left = timeout_ms;
    for (;;) {
        int ret = dispatch_once(loop, left);
        if (ret == -EINTR)
            return 0;
        if (ret != 0 || timeout_ms == 0 || atomic_load(&loop->quit_code) >= 0)
            return ret;
        if (timeout_ms < 0)
            continue;
        uint64_t now = host_ms();
        if (now >= end)
            return 0;
        left = (int)(end - now);
    }
}

int vmm_loop_dispatch(struct vmm_loop *loop, int timeout_ms)
{
    if (!loop)
        return -EINVAL;
    pthread_mutex_lock(&loop->lock);
    bool busy = loop->dispatching;
    if (!busy) {
        loop->dispatching = true;
        loop->dispatcher = pthread_self();
    }
    pthread_mutex_unlock(&loop->lock);
    if (busy)
        return -EBUSY;
    vmm_loop_ref(loop); /* a callback may free the last source that holds the loop */
    int ret = dispatch_until(loop, timeout_ms);
    pthread_mutex_lock(&loop->lock);
    loop->dispatching = false;
    pthread_mutex_unlock(&loop->lock);
    vmm_loop_unref(loop);
    return ret;
}

int vmm_loop_run(struct vmm_loop *loop)
{
    if (!loop)
        return -EINVAL;
    for (;;) {
        int code = atomic_exchange(&loop->quit_code, -1);
        if (code >= 0)
            return code;
        int ret = vmm_loop_dispatch(loop, -1);
        if (ret < 0)
            return ret;
    }
}

void vmm_loop_quit(struct vmm_loop *loop, int code)
{
    if (!loop)
        return;
    atomic_store(&loop->quit_code, code < 0 ? 0 : code);
    vmm_loop_wake(loop);
}
