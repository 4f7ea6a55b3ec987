/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: sources, timers, posts, quitting, nesting, and freeing at every moment. */
#include <libvmm/loop.h>

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000u

struct fixture {
    struct vmm_loop *loop;
    uint64_t clock;
    int pair[2];
};

static uint64_t fake_now(void *ctx)
{
    return ((struct fixture *)ctx)->clock;
}

static int open_fixture(struct fixture *f, bool fake)
{
    struct vmm_loop_options options = VMM_LOOP_OPTIONS_INIT;
    options.now = fake ? fake_now : NULL;
    options.now_ctx = f;
    f->clock = 1000;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->pair), 0);
    return vmm_loop_new(&options, &f->loop);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    return open_fixture(f, false);
}

static int set_up_fake_clock(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    return open_fixture(f, true);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close(f->pair[0]);
    close(f->pair[1]);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

static bool readable(const struct vmm_loop *loop)
{
    struct pollfd p = {.fd = vmm_loop_fd(loop), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void count_up(void *ctx)
{
    ++*(int *)ctx;
}

static uint64_t wall_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sources -------------------------------------------------------------------------------------- */

struct watcher {
    struct vmm_source *source;
    struct watcher *other;
    uint32_t seen;
    int calls;
    bool free_self, free_other;
};

static void on_ready(void *ctx, uint32_t events)
{
    struct watcher *w = ctx;
    w->seen |= events;
    w->calls++;
    if (w->free_other && w->other->source)
        w->other->source = vmm_source_free(w->other->source);
    if (w->free_self)
        w->source = vmm_source_free(w->source);
}

static void source_reports_what_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct watcher w = {0};
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_IN, on_ready, &w, &w.source), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
    assert_false(readable(f->loop));
    assert_int_equal(write(f->pair[1], "x", 1), 1);
    assert_true(readable(f->loop));
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1);
    assert_int_equal(w.seen, VMM_POLL_IN);
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1); /* level-triggered */
    assert_int_equal(vmm_source_set_events(w.source, VMM_POLL_OUT), 0);
    w.seen = 0;
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1);
    assert_int_equal(w.seen, VMM_POLL_OUT);
    assert_int_equal(vmm_source_set_events(w.source, 0), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
    close(f->pair[1]);
    w.seen = 0;
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1);
    assert_int_equal(w.seen, VMM_POLL_HUP);
    assert_int_equal(vmm_source_set_events(w.source, VMM_POLL_OFF), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
    assert_int_equal(vmm_source_set_events(w.source, VMM_POLL_IN), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    vmm_source_free(w.source);
    f->pair[1] = -1;
}

static void source_keeps_its_own_descriptor(void **state)
{
    struct fixture *f = *state;
    struct watcher w = {0};
    int fd = dup(f->pair[0]);
    assert_int_equal(vmm_source_new(f->loop, fd, VMM_POLL_IN, on_ready, &w, &w.source), 0);
    close(fd);
    assert_int_equal(write(f->pair[1], "x", 1), 1);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    /* The file stays open in pair[0]: freeing must take it out of the epoll set all the same. */
    vmm_source_free(w.source);
    assert_false(readable(f->loop));
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
}

static void source_refuses_what_cannot_be_watched(void **state)
{
    struct fixture *f = *state;
    struct vmm_source *s = NULL;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(vmm_source_new(f->loop, file, VMM_POLL_IN, on_ready, NULL, &s), -EPERM);
    close(file);
    assert_int_equal(vmm_source_new(f->loop, -1, VMM_POLL_IN, on_ready, NULL, &s), -EBADF);
    assert_int_equal(vmm_source_new(f->loop, 0, 0x2, on_ready, NULL, &s), -EINVAL);
    assert_int_equal(vmm_source_new(f->loop, 0, VMM_POLL_OFF | 1, on_ready, NULL, &s), -EINVAL);
    assert_int_equal(vmm_source_new(f->loop, 0, VMM_POLL_IN, NULL, NULL, &s), -EINVAL);
    assert_int_equal(vmm_source_new(NULL, 0, VMM_POLL_IN, on_ready, NULL, &s), -EINVAL);
    assert_null(s);
    assert_null(vmm_source_free(NULL));
    /* The slot of the refused one is used again and works. */
    struct watcher w = {0};
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_ready, &w, &w.source), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    vmm_source_free(w.source);
}

static void source_may_be_freed_in_its_own_callback(void **state)
{
    struct fixture *f = *state;
    struct watcher w = {.free_self = true};
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_ready, &w, &w.source), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_null(w.source);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
}

static void source_freed_after_its_event_was_fetched_is_not_called(void **state)
{
    struct fixture *f = *state;
    struct watcher a = {.free_other = true}, b = {.free_other = true, .other = &a};
    a.other = &b;
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_ready, &a, &a.source), 0);
    assert_int_equal(vmm_source_new(f->loop, f->pair[1], VMM_POLL_OUT, on_ready, &b, &b.source), 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1); /* both were ready: one freed the other */
    assert_int_equal(a.calls + b.calls, 1);
    vmm_source_free(a.source);
    vmm_source_free(b.source);
}

struct replacer {
    struct fixture *f;
    struct vmm_source *victim, *successor;
    int victim_calls, successor_calls;
};

static void on_victim(void *ctx, uint32_t events)
{
    (void)events;
    ((struct replacer *)ctx)->victim_calls++;
}

static void on_successor(void *ctx, uint32_t events)
{
    (void)events;
    ((struct replacer *)ctx)->successor_calls++;
}

static void on_replace(void *ctx, uint32_t events)
{
    (void)events;
    struct replacer *r = ctx;
    if (!r->victim)
        return;
    r->victim = vmm_source_free(r->victim);
    assert_int_equal(
        vmm_source_new(r->f->loop, r->f->pair[1], VMM_POLL_OUT, on_successor, r, &r->successor), 0);
}

static void a_reused_slot_does_not_inherit_events(void **state)
{
    struct fixture *f = *state;
    struct replacer r = {.f = f};
    struct vmm_source *first;
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_replace, &r, &first), 0);
    assert_int_equal(vmm_source_new(f->loop, f->pair[1], VMM_POLL_OUT, on_victim, &r, &r.victim),
                     0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_int_equal(r.victim_calls, 0);
    assert_int_equal(r.successor_calls, 0);
    vmm_source_free(first);
    vmm_source_free(r.successor);
}

static void many_sources_are_all_served(void **state)
{
    struct fixture *f = *state;
    struct watcher w[200] = {0};
    for (int i = 0; i < 200; i++)
        assert_int_equal(
            vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_ready, &w[i], &w[i].source), 0);
    for (int i = 0; i < 8; i++) /* batches are smaller than 200 */
        assert_true(vmm_loop_dispatch(f->loop, 0) > 0);
    for (int i = 0; i < 200; i++) {
        assert_true(w[i].calls > 0);
        vmm_source_free(w[i].source);
    }
}

struct slow {
    _Atomic int entered, left;
    struct vmm_source *source;
    struct vmm_timer *timer;
};

static void slow_callback(void *ctx)
{
    struct slow *s = ctx;
    atomic_store(&s->entered, 1);
    nanosleep(&(struct timespec){.tv_nsec = 50 * MS}, NULL);
    atomic_store(&s->left, 1);
}

static void slow_ready(void *ctx, uint32_t events)
{
    (void)events;
    slow_callback(ctx);
}

static void *dispatch_thread(void *arg)
{
    vmm_loop_run(arg);
    return NULL;
}

static void wait_for(_Atomic int *flag)
{
    for (int i = 0; i < 5000 && !atomic_load(flag); i++)
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
    assert_true(atomic_load(flag));
}

static void freeing_from_another_thread_waits_for_the_callback(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, dispatch_thread, f->loop), 0);
    struct slow s = {0}, t = {0};
    assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, slow_ready, &s, &s.source),
                     0);
    wait_for(&s.entered);
    atomic_store(&s.left, 0); /* it is ready again and again: only the last run counts */
    atomic_store(&s.entered, 0);
    wait_for(&s.entered);
    vmm_source_free(s.source);
    assert_int_equal(s.left, 1);
    atomic_store(&s.entered, 0);
    assert_int_equal(vmm_timer_new(f->loop, slow_callback, &t, &t.timer), 0);
    assert_int_equal(vmm_timer_set(t.timer, 0), 0);
    wait_for(&t.entered);
    vmm_timer_free(t.timer);
    assert_int_equal(t.left, 1);
    vmm_loop_quit(f->loop, 0);
    pthread_join(thread, NULL);
    assert_int_equal(s.entered, 0);
}

static void on_stress(void *ctx, uint32_t events)
{
    (void)events;
    atomic_fetch_add((_Atomic int *)ctx, 1);
}

static void on_stress_timer(void *ctx)
{
    atomic_fetch_add((_Atomic int *)ctx, 1);
}

/* Sources and timers come and go while another thread dispatches: for the sanitizers. */
static void adding_and_freeing_race_with_dispatching(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, dispatch_thread, f->loop), 0);
    _Atomic int *live = malloc(sizeof(*live));
    for (int i = 0; i < 2000; i++) {
        _Atomic int *calls = malloc(sizeof(*calls)); /* freed at once after the source */
        atomic_init(calls, 0);
        struct vmm_source *s;
        struct vmm_timer *t;
        assert_int_equal(vmm_source_new(f->loop, f->pair[0], VMM_POLL_OUT, on_stress, calls, &s),
                         0);
        assert_int_equal(vmm_timer_new(f->loop, on_stress_timer, calls, &t), 0);
        assert_int_equal(vmm_timer_set(t, 0), 0);
        vmm_source_set_events(s, 0);
        vmm_source_set_events(s, VMM_POLL_OUT);
        if (i % 2)
            vmm_timer_cancel(t);
        vmm_source_free(s);
        vmm_timer_free(t);
        free((void *)calls);
    }
    free((void *)live);
    vmm_loop_quit(f->loop, 0);
    pthread_join(thread, NULL);
}

/* Timers --------------------------------------------------------------------------------------- */

struct log {
    struct fixture *f;
    char text[64];
    struct vmm_timer *rearm;
    struct vmm_timer *free_first;
};

struct named {
    struct log *log;
    struct vmm_timer *timer;
    char name;
};

static void on_named(void *ctx)
{
    struct named *n = ctx;
    size_t at = strlen(n->log->text);
    n->log->text[at] = n->name;
    if (n->log->rearm == n->timer)
        vmm_timer_set(n->timer, 0);
    if (n->log->free_first)
        n->log->free_first = vmm_timer_free(n->log->free_first);
}

static void timers_fire_in_order_of_deadline_then_arming(void **state)
{
    struct fixture *f = *state;
    struct log log = {.f = f};
    struct named n[8];
    const uint64_t deadlines[8] = {50, 10, 40, 10, 30, 20, 10, 99};
    for (int i = 0; i < 8; i++) {
        n[i] = (struct named){.log = &log, .name = (char)('a' + i)};
        assert_int_equal(vmm_timer_new(f->loop, on_named, &n[i], &n[i].timer), 0);
        assert_int_equal(vmm_timer_set(n[i].timer, f->clock + deadlines[i]), 0);
    }
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
    f->clock += 10;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 3);
    assert_string_equal(log.text, "bdg");
    vmm_timer_cancel(n[5].timer);
    vmm_timer_set(n[2].timer, f->clock + 5);  /* pulled forward */
    vmm_timer_set(n[4].timer, f->clock + 70); /* put off */
    f->clock += 60;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 2);
    assert_string_equal(log.text, "bdgca");
    f->clock = UINT64_MAX;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 2);
    assert_string_equal(log.text, "bdgcaeh");
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0);
    for (int i = 0; i < 8; i++)
        assert_null(vmm_timer_free(n[i].timer));
}

static void timer_armed_for_the_past_in_its_callback_runs_once_a_dispatch(void **state)
{
    struct fixture *f = *state;
    struct log log = {.f = f};
    struct named n = {.log = &log, .name = 'x'};
    assert_int_equal(vmm_timer_new(f->loop, on_named, &n, &n.timer), 0);
    log.rearm = n.timer;
    vmm_timer_set(n.timer, 0);
    for (size_t i = 1; i <= 5; i++) {
        assert_true(readable(f->loop)); /* a nested loop must learn of it */
        assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1);
        assert_int_equal(strlen(log.text), i);
    }
    vmm_timer_free(n.timer);
}

static void due_timer_freed_by_an_earlier_one_does_not_run(void **state)
{
    struct fixture *f = *state;
    struct log log = {.f = f};
    struct named n[3];
    for (int i = 0; i < 3; i++) {
        n[i] = (struct named){.log = &log, .name = (char)('a' + i)};
        assert_int_equal(vmm_timer_new(f->loop, on_named, &n[i], &n[i].timer), 0);
        vmm_timer_set(n[i].timer, 1);
    }
    log.free_first = n[1].timer;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 2);
    assert_string_equal(log.text, "ac");
    log.free_first = n[0].timer; /* from inside its own callback */
    vmm_timer_set(n[0].timer, 1);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_null(log.free_first);
    vmm_timer_free(n[2].timer);
}

static void heap_keeps_its_order_under_random_use(void **state)
{
    struct fixture *f = *state;
    enum { N = 100 };
    struct vmm_timer *timers[N];
    int fired[N] = {0};
    uint64_t deadline[N];
    unsigned seed = 12345;
    for (int i = 0; i < N; i++)
        assert_int_equal(vmm_timer_new(f->loop, count_up, &fired[i], &timers[i]), 0);
    for (int round = 0; round < 200; round++) {
        int expected = 0;
        for (int i = 0; i < N; i++) {
            fired[i] = 0;
            deadline[i] = f->clock + 1 + (uint64_t)(rand_r(&seed) % 50);
            vmm_timer_set(timers[i], deadline[i]);
            if (rand_r(&seed) % 4 == 0) {
                vmm_timer_cancel(timers[i]);
                deadline[i] = UINT64_MAX;
            }
        }
        f->clock += 25;
        for (int i = 0; i < N; i++)
            expected += deadline[i] <= f->clock;
        assert_int_equal(vmm_loop_dispatch(f->loop, 0), expected);
        for (int i = 0; i < N; i++)
            assert_int_equal(fired[i], deadline[i] <= f->clock);
    }
    for (int i = 0; i < N; i++)
        vmm_timer_free(timers[i]);
}

static void host_clock_timers_make_the_loop_readable(void **state)
{
    struct fixture *f = *state;
    int fired = 0;
    struct vmm_timer *timer, *never;
    assert_int_equal(vmm_timer_new(f->loop, count_up, &fired, &timer), 0);
    assert_int_equal(vmm_timer_new(f->loop, count_up, &fired, &never), 0);
    assert_int_equal(vmm_timer_set(never, UINT64_MAX), 0);
    uint64_t start = wall_ns();
    assert_int_equal(vmm_timer_set(timer, vmm_loop_now(f->loop) + 20 * MS), 0);
    struct pollfd p = {.fd = vmm_loop_fd(f->loop), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_true(wall_ns() - start >= 20 * MS);
    assert_int_equal(fired, 1);
    assert_false(readable(f->loop));
    /* Put off and cancelled timers wake nothing but the loop itself. */
    vmm_timer_set(timer, vmm_loop_now(f->loop) + 5 * MS);
    vmm_timer_cancel(timer);
    start = wall_ns();
    assert_int_equal(vmm_loop_dispatch(f->loop, 30), 0);
    assert_true(wall_ns() - start >= 29 * MS);
    assert_int_equal(fired, 1);
    vmm_timer_set(timer, 0);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    vmm_timer_free(timer);
    vmm_timer_free(never);
}

static void timer_calls_with_bad_arguments_are_refused(void **state)
{
    struct fixture *f = *state;
    struct vmm_timer *t = NULL;
    assert_int_equal(vmm_timer_new(NULL, count_up, NULL, &t), -EINVAL);
    assert_int_equal(vmm_timer_new(f->loop, NULL, NULL, &t), -EINVAL);
    assert_int_equal(vmm_timer_new(f->loop, count_up, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_timer_set(NULL, 0), -EINVAL);
    vmm_timer_cancel(NULL);
    assert_null(vmm_timer_free(NULL));
    assert_null(t);
}

/* Posts and quitting --------------------------------------------------------------------------- */

struct poster {
    struct vmm_loop *loop;
    char text[16];
};

static void say_b(void *ctx)
{
    strcat(((struct poster *)ctx)->text, "b");
}

static void say_a_and_post_b(void *ctx)
{
    struct poster *p = ctx;
    strcat(p->text, "a");
    assert_int_equal(vmm_loop_post(p->loop, say_b, p), 0);
}

static void posts_run_in_order_and_may_post(void **state)
{
    struct fixture *f = *state;
    struct poster p = {.loop = f->loop};
    assert_int_equal(vmm_loop_post(f->loop, say_a_and_post_b, &p), 0);
    assert_int_equal(vmm_loop_post(f->loop, say_b, &p), 0);
    assert_true(readable(f->loop));
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 2);
    assert_string_equal(p.text, "ab");
    assert_true(readable(f->loop));
    assert_int_equal(vmm_loop_dispatch(f->loop, -1), 1);
    assert_string_equal(p.text, "abb");
    assert_false(readable(f->loop));
    assert_int_equal(vmm_loop_post(f->loop, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_loop_post(NULL, say_b, NULL), -EINVAL);
    vmm_loop_post(f->loop, say_b, &p); /* still there when the loop goes: dropped, not leaked */
}

static void dispatch_again(void *ctx)
{
    struct fixture *f = ctx;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), -EBUSY);
}

static void dispatching_inside_a_callback_is_refused(void **state)
{
    struct fixture *f = *state;
    vmm_loop_post(f->loop, dispatch_again, f);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_int_equal(vmm_loop_dispatch(NULL, 0), -EINVAL);
}

static void quit_from_callback(void *ctx)
{
    vmm_loop_quit(ctx, 42);
}

static void *quit_later(void *ctx)
{
    nanosleep(&(struct timespec){.tv_nsec = 20 * MS}, NULL);
    vmm_loop_quit(ctx, 7);
    return NULL;
}

static void quit_ends_the_running_or_the_next_run(void **state)
{
    struct fixture *f = *state;
    vmm_loop_quit(f->loop, 3);
    assert_int_equal(vmm_loop_run(f->loop), 3);
    vmm_loop_post(f->loop, quit_from_callback, f->loop);
    assert_int_equal(vmm_loop_run(f->loop), 42);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, quit_later, f->loop), 0);
    assert_int_equal(vmm_loop_run(f->loop), 7);
    pthread_join(thread, NULL);
    vmm_loop_quit(f->loop, -5);
    assert_int_equal(vmm_loop_run(f->loop), 0);
    assert_int_equal(vmm_loop_run(NULL), -EINVAL);
    vmm_loop_quit(NULL, 0);
}

static void on_alarm(int number)
{
    (void)number;
}

static void a_signal_ends_a_dispatch_with_zero(void **state)
{
    struct fixture *f = *state;
    struct sigaction action = {.sa_handler = on_alarm}, old;
    sigaction(SIGALRM, &action, &old);
    struct itimerval when = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000};
    setitimer(ITIMER_REAL, &when, NULL);
    assert_int_equal(vmm_loop_dispatch(f->loop, 5000), 0);
    when = (struct itimerval){0};
    setitimer(ITIMER_REAL, &when, NULL);
    sigaction(SIGALRM, &old, NULL);
}

/* Options and nesting -------------------------------------------------------------------------- */

static void options_are_checked(void **state)
{
    (void)state;
    struct {
        struct vmm_loop_options known;
        uint64_t future;
    } grown = {.known = VMM_LOOP_OPTIONS_INIT};
    struct vmm_loop *loop = NULL;
    grown.known.size = sizeof(grown);
    assert_int_equal(vmm_loop_new(&grown.known, &loop), 0);
    loop = vmm_loop_unref(loop);
    grown.future = 1;
    assert_int_equal(vmm_loop_new(&grown.known, &loop), -E2BIG);
    grown.known.size = 0;
    assert_int_equal(vmm_loop_new(&grown.known, &loop), -EINVAL);
    assert_int_equal(vmm_loop_new(NULL, NULL), -EINVAL);
    assert_null(loop);
    assert_int_equal(vmm_loop_fd(NULL), -EINVAL);
    assert_null(vmm_loop_unref(NULL));
}

static void nested_ready(void *ctx, uint32_t events)
{
    (void)events;
    vmm_loop_dispatch(ctx, 0);
}

static void a_loop_nests_in_another(void **state)
{
    struct fixture *f = *state;
    struct vmm_loop *outer;
    struct vmm_source *source;
    int fired = 0;
    assert_int_equal(vmm_loop_new(NULL, &outer), 0);
    assert_int_equal(
        vmm_source_new(outer, vmm_loop_fd(f->loop), VMM_POLL_IN, nested_ready, f->loop, &source),
        0);
    struct vmm_timer *timer;
    assert_int_equal(vmm_timer_new(f->loop, count_up, &fired, &timer), 0);
    vmm_timer_set(timer, vmm_loop_now(f->loop) + 5 * MS);
    while (!fired)
        assert_true(vmm_loop_dispatch(outer, 5000) > 0);
    assert_int_equal(vmm_loop_dispatch(outer, 0), 0);
    vmm_timer_free(timer);
    vmm_source_free(source);
    vmm_loop_unref(outer);
}

static void sources_and_timers_hold_the_loop(void **state)
{
    (void)state;
    struct vmm_loop *loop;
    struct vmm_timer *timer;
    struct watcher w = {0};
    int fired = 0;
    assert_int_equal(vmm_loop_new(NULL, &loop), 0);
    assert_int_equal(vmm_timer_new(loop, count_up, &fired, &timer), 0);
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(vmm_source_new(loop, fds[1], VMM_POLL_OUT, on_ready, &w, &w.source), 0);
    vmm_loop_unref(loop);
    assert_int_equal(vmm_loop_dispatch(loop, 0), 1);
    vmm_timer_free(timer);
    w.free_self = true; /* the last thing that holds the loop goes inside the dispatch */
    assert_int_equal(vmm_loop_dispatch(loop, 0), 1);
    close(fds[0]);
    close(fds[1]);
}

#define TEST(name)      cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_FAKE(name) cmocka_unit_test_setup_teardown(name, set_up_fake_clock, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(source_reports_what_is_asked_for),
        TEST(source_keeps_its_own_descriptor),
        TEST(source_refuses_what_cannot_be_watched),
        TEST(source_may_be_freed_in_its_own_callback),
        TEST(source_freed_after_its_event_was_fetched_is_not_called),
        TEST(a_reused_slot_does_not_inherit_events),
        TEST(many_sources_are_all_served),
        TEST(freeing_from_another_thread_waits_for_the_callback),
        TEST(adding_and_freeing_race_with_dispatching),
        TEST_FAKE(timers_fire_in_order_of_deadline_then_arming),
        TEST_FAKE(timer_armed_for_the_past_in_its_callback_runs_once_a_dispatch),
        TEST(timer_armed_for_the_past_in_its_callback_runs_once_a_dispatch),
        TEST_FAKE(due_timer_freed_by_an_earlier_one_does_not_run),
        TEST_FAKE(heap_keeps_its_order_under_random_use),
        TEST(host_clock_timers_make_the_loop_readable),
        TEST(timer_calls_with_bad_arguments_are_refused),
        TEST(posts_run_in_order_and_may_post),
        TEST(dispatching_inside_a_callback_is_refused),
        TEST(quit_ends_the_running_or_the_next_run),
        TEST(a_signal_ends_a_dispatch_with_zero),
        TEST(options_are_checked),
        TEST(a_loop_nests_in_another),
        TEST(sources_and_timers_hold_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
