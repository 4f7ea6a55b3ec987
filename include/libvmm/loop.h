/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file loop.h
 * The event loop: one pollable file descriptor, and a call that dispatches what is ready.
 *
 * Nest it: watch vmm_loop_fd() for reading in your own loop (epoll, glib, libuv, sd-event) and
 * call vmm_loop_dispatch(loop, 0) when it is readable. Or use vmm_loop_run().
 *
 * Callbacks run on the thread that dispatches, one at a time, never inside another libvmm call.
 * Adding, changing and removing sources, arming timers and posting are thread-safe.
 */
#ifndef LIBVMM_LOOP_H
#define LIBVMM_LOOP_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_loop;
struct vmm_source; /**< a watched file descriptor */
struct vmm_timer;

#define VMM_POLL_IN  0x1u
#define VMM_POLL_OUT 0x4u
#define VMM_POLL_ERR 0x8u  /**< reported always, asked for never */
#define VMM_POLL_HUP 0x10u /**< reported always, asked for never */
/** Alone, in place of the others: not watched at all, not even for errors (a peer that has hung up
 *  would be reported without end to someone who cannot take its last bytes yet). */
#define VMM_POLL_OFF 0x80000000u

struct vmm_loop_options {
    size_t size;
    /** A clock for tests and deterministic replay: nanoseconds, never going back. NULL: the host's
     *  CLOCK_MONOTONIC. With a clock of one's own, timers fire from dispatch calls only. */
    uint64_t (*now)(void *ctx);
    void *now_ctx;
};
#define VMM_LOOP_OPTIONS_INIT                                                                      \
    {                                                                                              \
        sizeof(struct vmm_loop_options), 0, 0                                                      \
    }

/** @param options NULL for the defaults. Errors: -EMFILE, -ENFILE, -ENOMEM, -E2BIG. */
VMM_API int vmm_loop_new(const struct vmm_loop_options *options, struct vmm_loop **out);
VMM_API struct vmm_loop *vmm_loop_ref(struct vmm_loop *loop);
/** The last reference must not be dropped from inside a callback of the loop. */
VMM_API struct vmm_loop *vmm_loop_unref(struct vmm_loop *loop);

/** The descriptor to watch for reading. Owned by the loop; valid as long as the loop. */
VMM_API int vmm_loop_fd(const struct vmm_loop *loop);

/**
 * Wait up to `timeout_ms` (0: not at all, -1: until something happens) and run the callbacks of
 * what is ready. One thread at a time. May block. Returns the number of callbacks run, 0 at the
 * timeout or when interrupted by a signal, or a negative errno. -EBUSY: it is being dispatched
 * already, by another thread or by the caller of this very callback.
 */
VMM_API int vmm_loop_dispatch(struct vmm_loop *loop, int timeout_ms);

/** Dispatch until vmm_loop_quit(). Returns the code given there, or a negative errno. */
VMM_API int vmm_loop_run(struct vmm_loop *loop);
/** Make the running or the next vmm_loop_run() return `code` (>= 0). Thread-safe and
 *  async-signal-safe. */
VMM_API void vmm_loop_quit(struct vmm_loop *loop, int code);

/** The loop's clock in nanoseconds. Thread-safe. */
VMM_API uint64_t vmm_loop_now(const struct vmm_loop *loop);

/**
 * Watch `fd` for `events` (VMM_POLL_IN | VMM_POLL_OUT, level-triggered; 0 watches for errors only;
 * or VMM_POLL_OFF). The descriptor is duplicated. `*out` is written before the callback can run.
 * Errors: -EPERM (a regular file cannot be watched), -EBADF, -EINVAL, -ENOMEM, -ENOSPC.
 */
VMM_API int vmm_source_new(struct vmm_loop *loop, int fd, uint32_t events,
                           void (*ready)(void *ctx, uint32_t events), void *ctx,
                           struct vmm_source **out);
/** Change what is watched. What is no longer asked for is not reported after this returns, but for a
 *  callback that runs already. Errors as vmm_source_new(). Thread-safe. */
VMM_API int vmm_source_set_events(struct vmm_source *source, uint32_t events);
/**
 * Stop watching and free. When it returns, the callback is not running and will not run again —
 * unless it is called from inside that very callback, which is allowed. May block for the length
 * of one callback when called from another thread than the dispatching one: do not hold a lock that
 * the callback takes. NULL is fine.
 */
VMM_API struct vmm_source *vmm_source_free(struct vmm_source *source);

/** A one-shot timer, made disarmed. */
VMM_API int vmm_timer_new(struct vmm_loop *loop, void (*expired)(void *ctx), void *ctx,
                          struct vmm_timer **out);
/** Arm for `deadline_ns` on the loop's clock (in the past: at the next dispatch); replaces an earlier
 *  arming. Equal deadlines fire in the order of arming. Cannot fail for lack of memory. Thread-safe. */
VMM_API int vmm_timer_set(struct vmm_timer *timer, uint64_t deadline_ns);
/** Disarm; the callback may still run once if it was about to. Thread-safe. */
VMM_API void vmm_timer_cancel(struct vmm_timer *timer);
/** As vmm_source_free(). */
VMM_API struct vmm_timer *vmm_timer_free(struct vmm_timer *timer);

/** Run `fn(ctx)` on the dispatching thread, soon. Order is kept; what is still waiting when the loop
 *  goes is dropped. -ENOMEM. Thread-safe. */
VMM_API int vmm_loop_post(struct vmm_loop *loop, void (*fn)(void *ctx), void *ctx);

VMM_END_DECLS

#endif
