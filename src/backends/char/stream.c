/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/char/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Closing -------------------------------------------------------------------------------------- */

/* The lock is held: drop output from now on, and have that reported. */
static void close_output(struct vmm_char_stream *s)
{
    if (s->closed)
        return;
    s->closed = true;
    s->closed_unheard = true;
    if (s->out_source)
        (void)vmm_source_set_events(s->out_source, VMM_POLL_OFF);
}

/* On the loop's thread, without the lock. */
static void report(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool closed = s->closed_unheard;
    s->closed_unheard = false;
    pthread_mutex_unlock(&s->lock);
    if (!closed)
        return;
    vmm_chardev_event(s->chardev, VMM_CHARDEV_CLOSED);
    vmm_chardev_writable(s->chardev); /* who waits for room need not any more: all is dropped */
    if (s->hooks->hung_up)
        s->hooks->hung_up(s->ctx);
}

/* Nothing more can be read, and where the peer is one for both directions, it has gone. */
static void hang_up(struct vmm_char_stream *s, bool drained)
{
    pthread_mutex_lock(&s->lock);
    if (s->in_source)
        (void)vmm_source_set_events(s->in_source, VMM_POLL_OFF);
    s->ended = drained;
    if (s->duplex || (s->out.fd < 0 && drained))
        close_output(s);
    pthread_mutex_unlock(&s->lock);
    report(s);
}

/* Input ---------------------------------------------------------------------------------------- */

/* Is no input wanted, or none left? */
static bool waits(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool waiting = s->paused || s->ended;
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

static bool plain_input(const struct vmm_char_stream *s)
{
    return s->in.fd >= 0 && !s->in_source;
}

/* The user cannot receive: look no more at input, but for a hang-up. */
static void pause_input(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->paused = true;
    if (s->in_source)
        (void)vmm_source_set_events(s->in_source, s->closed ? VMM_POLL_OFF : 0);
    pthread_mutex_unlock(&s->lock);
}

static void resume_input(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->paused && !s->ended) {
        s->paused = false;
        if (s->in_source)
            (void)vmm_source_set_events(s->in_source, VMM_POLL_IN);
        else if (s->in.fd >= 0)
            (void)vmm_timer_set(s->later, 0);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Hand over what is held back; on the loop's thread. */
static void flush_held(struct vmm_char_stream *s)
{
    uint8_t data[VMM_CHAR_HOLD];
    for (;;) {
        size_t room = vmm_chardev_can_receive(s->chardev);
        pthread_mutex_lock(&s->lock);
        size_t n = room < s->held ? room : s->held;
        memcpy(data, s->hold, n);
        s->held -= n;
        memmove(s->hold, s->hold + n, s->held);
        pthread_mutex_unlock(&s->lock);
        if (n == 0)
            return;
        vmm_chardev_deliver(s->chardev, data, n);
    }
}

static size_t room_for_input(struct vmm_char_stream *s)
{
    if (s->hooks->filter)
        return VMM_CHAR_HOLD - s->held;
    size_t room = vmm_chardev_can_receive(s->chardev);
    return room < VMM_CHAR_HOLD ? room : VMM_CHAR_HOLD;
}

static void take_input(struct vmm_char_stream *s, uint8_t *data, size_t n)
{
    if (!s->hooks->filter) {
        vmm_chardev_deliver(s->chardev, data, n);
        return;
    }
    n = s->hooks->filter(s->ctx, data, n);
    pthread_mutex_lock(&s->lock);
    memcpy(s->hold + s->held, data, n);
    s->held += n;
    pthread_mutex_unlock(&s->lock);
    flush_held(s);
}

/* The peer will send no more but may still read (shutdown of one direction): wait for the rest. */
static void half_close(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    if (s->in_source)
        (void)vmm_source_set_events(s->in_source, 0);
    pthread_mutex_unlock(&s->lock);
}

/* One read, so that a peer that sends without end does not hold up the loop. */
static void read_some(struct vmm_char_stream *s, uint32_t events)
{
    uint8_t data[VMM_CHAR_HOLD];
    size_t room = room_for_input(s);
    if (room == 0) {
        pause_input(s);
        /* It may have become ready just before the pause, when its word was not yet listened to. */
        if (room_for_input(s) > 0)
            resume_input(s);
        return;
    }
    long n = vmm_char_end_read(&s->in, data, room);
    if (n > 0)
        take_input(s, data, (size_t)n);
    else if (n == 0 && !(events & VMM_POLL_HUP) && s->in.kind == VMM_CHAR_SOCKET)
        half_close(s);
    else if (n != -EAGAIN && !(n == 0 && !(events & VMM_POLL_HUP) && s->in.kind == VMM_CHAR_TTY))
        hang_up(s, true); /* but not for Ctrl-D on a terminal that is not raw */
    if (n > 0 && plain_input(s))
        (void)vmm_timer_set(s->later, 0);
}

static void on_input(void *ctx, uint32_t events)
{
    struct vmm_char_stream *s = ctx;
    struct vmm_chardev *chardev = s->chardev;
    if (!vmm_chardev_try_ref(chardev))
        return;
    if (!(events & VMM_POLL_IN) && waits(s))
        hang_up(s, s->ended);
    else
        read_some(s, events);
    vmm_chardev_unref(chardev);
}

/* Output --------------------------------------------------------------------------------------- */

static void on_output(void *ctx, uint32_t events)
{
    struct vmm_char_stream *s = ctx;
    struct vmm_chardev *chardev = s->chardev;
    if (!vmm_chardev_try_ref(chardev))
        return;
    pthread_mutex_lock(&s->lock);
    (void)vmm_source_set_events(s->out_source, VMM_POLL_OFF);
    if (events & (VMM_POLL_ERR | VMM_POLL_HUP))
        close_output(s);
    pthread_mutex_unlock(&s->lock);
    report(s);
    vmm_chardev_writable(chardev);
    vmm_chardev_unref(chardev);
}

/* The lock is held. How many bytes are off the user's hands. */
static long write_locked(struct vmm_char_stream *s, const uint8_t *data, size_t length)
{
    size_t done = 0;
    while (done < length && !s->closed) {
        long n = vmm_char_end_write(&s->out, data + done, length - done);
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (n == 0 || n == -EAGAIN) {
            if (vmm_source_set_events(s->out_source, VMM_POLL_OUT) == 0)
                return (long)done;
            return -ENOMEM; /* nobody would tell when there is room again */
        }
        if (s->out.kind == VMM_CHAR_PLAIN)
            return n; /* a full disk may have room another time */
        close_output(s);
        (void)vmm_timer_set(s->later, 0); /* the user may hold its lock: report from the loop */
    }
    return (long)length;
}

static long stream_write(void *ctx, const uint8_t *data, size_t length)
{
    struct vmm_char_stream *s = ctx;
    pthread_mutex_lock(&s->lock);
    long n = s->closed || s->out.fd < 0 ? (long)length : write_locked(s, data, length);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void stream_accept(void *ctx)
{
    struct vmm_char_stream *s = ctx;
    pthread_mutex_lock(&s->lock);
    if (s->held)
        (void)vmm_timer_set(s->later, 0);
    pthread_mutex_unlock(&s->lock);
    resume_input(s);
}

static void on_later(void *ctx)
{
    struct vmm_char_stream *s = ctx;
    struct vmm_chardev *chardev = s->chardev;
    if (!vmm_chardev_try_ref(chardev))
        return;
    report(s);
    flush_held(s);
    if (s->hooks->filter && s->held < VMM_CHAR_HOLD)
        resume_input(s);
    if (plain_input(s) && !waits(s))
        read_some(s, 0);
    vmm_chardev_unref(chardev);
}

/* Life ----------------------------------------------------------------------------------------- */

/* On the loop's thread, or when nothing else runs. */
static void drop_ends(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    struct vmm_source *in_source = s->in_source, *out_source = s->out_source;
    struct vmm_char_end in = s->in, out = s->out;
    s->in_source = s->out_source = NULL;
    s->in = s->out = VMM_CHAR_END_NONE;
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    vmm_source_free(in_source);
    vmm_source_free(out_source);
    vmm_char_end_close(&in);
    vmm_char_end_close(&out);
}

static void stream_destroy(void *ctx)
{
    struct vmm_char_stream *s = ctx;
    if (s->hooks->destroy)
        s->hooks->destroy(s->ctx);
    vmm_timer_free(s->later);
    drop_ends(s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int vmm_char_stream_new(struct vmm_loop *loop, const struct vmm_char_stream_hooks *hooks, void *ctx,
                        struct vmm_char_stream **out)
{
    static const struct vmm_chardev_ops ops = {
        sizeof(ops),
        stream_write,
        stream_accept,
        stream_destroy,
    };
    struct vmm_char_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->loop = loop;
    s->hooks = hooks;
    s->ctx = ctx;
    s->in = s->out = VMM_CHAR_END_NONE;
    s->closed = s->paused = true;
    pthread_mutex_init(&s->lock, NULL);
    int ret = vmm_timer_new(loop, on_later, s, &s->later);
    if (ret == 0)
        ret = vmm_chardev_new(&ops, s, &s->chardev);
    if (ret < 0) {
        vmm_timer_free(s->later);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return ret;
    }
    *out = s;
    return 0;
}

int vmm_char_stream_attach(struct vmm_char_stream *s, struct vmm_char_end in,
                           struct vmm_char_end out, bool duplex)
{
    drop_ends(s);
    pthread_mutex_lock(&s->lock);
    s->in = in;
    s->out = out;
    s->duplex = duplex;
    s->paused = false;
    s->ended = in.fd < 0;
    int ret = 0;
    if (in.fd >= 0 && in.kind != VMM_CHAR_PLAIN)
        ret = vmm_source_new(s->loop, in.fd, VMM_POLL_IN, on_input, s, &s->in_source);
    if (ret == 0 && out.fd >= 0)
        ret = vmm_source_new(s->loop, out.fd, VMM_POLL_OFF, on_output, s, &s->out_source);
    if (ret == 0)
        s->closed = s->closed_unheard = false;
    if (ret == 0 && plain_input(s))
        (void)vmm_timer_set(s->later, 0);
    pthread_mutex_unlock(&s->lock);
    if (ret < 0)
        drop_ends(s);
    return ret;
}

void vmm_char_stream_reopen(struct vmm_char_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = s->closed_unheard = s->paused = s->ended = false;
    (void)vmm_source_set_events(s->in_source, VMM_POLL_IN);
    pthread_mutex_unlock(&s->lock);
    vmm_chardev_event(s->chardev, VMM_CHARDEV_OPENED);
}
