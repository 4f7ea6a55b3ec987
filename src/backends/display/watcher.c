/* SPDX-License-Identifier: BSD-3-Clause */
/* Watchers: what has changed since each looked last, and when to look again. */
#include "backends/display/internal.h"

#include <stdlib.h>

#define DEFAULT_INTERVAL_MS 33u
#define PATIENCE            4u /* an idle screen is looked at every so many intervals */

/* Damage --------------------------------------------------------------------------------------- */

static struct vmm_rect join(const struct vmm_rect *a, const struct vmm_rect *b)
{
    uint32_t x = a->x < b->x ? a->x : b->x, y = a->y < b->y ? a->y : b->y;
    uint32_t right = a->x + a->width > b->x + b->width ? a->x + a->width : b->x + b->width;
    uint32_t bottom = a->y + a->height > b->y + b->height ? a->y + a->height : b->y + b->height;
    return (struct vmm_rect){x, y, right - x, bottom - y};
}

static uint64_t area(const struct vmm_rect *r)
{
    return (uint64_t)r->width * r->height;
}

/* Rectangles are joined where that wastes nothing much; when there are too many, all become one. */
void vmm_watcher_damage(struct vmm_watcher *w, const struct vmm_rect *rect)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct vmm_rect both = join(&w->rects[i], rect);
        if (area(&both) <= area(&w->rects[i]) + area(rect)) {
            w->rects[i] = both;
            return;
        }
    }
    if (w->count < VMM_WATCHER_RECTS) {
        w->rects[w->count++] = *rect;
        return;
    }
    for (uint32_t i = 1; i < w->count; i++)
        w->rects[0] = join(&w->rects[0], &w->rects[i]);
    w->rects[0] = join(&w->rects[0], rect);
    w->count = 1;
}

/* When ----------------------------------------------------------------------------------------- */

void vmm_watcher_wake(struct vmm_watcher *w)
{
    w->wait = w->interval;
    if (!w->timer || w->paused)
        return;
    w->armed = true;
    (void)vmm_timer_set(w->timer, w->last + w->interval);
}

/* An interval has passed: look, tell, and look again in a while if the device needs it. */
static void expired(void *ctx)
{
    struct vmm_watcher *w = ctx;
    struct vmm_display *d = w->display;
    pthread_mutex_lock(&d->lock);
    bool paused = w->paused;
    w->armed = false;
    w->last = vmm_loop_now(w->loop);
    pthread_mutex_unlock(&d->lock);
    if (paused)
        return;
    int again = vmm_display_ask(d);
    pthread_mutex_lock(&d->lock);
    bool changed = w->count > 0;
    w->wait = changed ? w->interval : w->wait * 2;
    if (w->wait > w->interval * PATIENCE)
        w->wait = w->interval * PATIENCE;
    if (again == VMM_REFRESH_POLL) {
        w->armed = true;
        (void)vmm_timer_set(w->timer, w->last + w->wait);
    } else if (!d->woken) {
        w->armed = false; /* its own damage has armed it */
        vmm_timer_cancel(w->timer);
    }
    pthread_mutex_unlock(&d->lock);
    if (changed && w->changed)
        w->changed(w->ctx); /* may free the watcher */
}

void vmm_watcher_pause(struct vmm_watcher *w, bool paused)
{
    pthread_mutex_lock(&w->display->lock);
    bool go_on = w->paused && !paused;
    w->paused = paused;
    if (paused && w->timer)
        vmm_timer_cancel(w->timer);
    if (go_on)
        vmm_watcher_wake(w);
    pthread_mutex_unlock(&w->display->lock);
}

/* Life ----------------------------------------------------------------------------------------- */

static void put_in(struct vmm_watcher *w)
{
    struct vmm_display *d = w->display;
    pthread_mutex_lock(&d->source_lock);
    pthread_mutex_lock(&d->lock);
    bool first = !d->watchers;
    w->next = d->watchers;
    d->watchers = w;
    if (d->pixels)
        w->rects[w->count++] = (struct vmm_rect){0, 0, d->width, d->height};
    pthread_mutex_unlock(&d->lock);
    if (first && d->ops.watched)
        d->ops.watched(d->ops_ctx, true);
    pthread_mutex_unlock(&d->source_lock);
    pthread_mutex_lock(&d->lock);
    vmm_watcher_wake(w);
    pthread_mutex_unlock(&d->lock);
}

int vmm_watcher_new(struct vmm_display *display, const struct vmm_watcher_options *given,
                    struct vmm_watcher **out)
{
    struct vmm_watcher_options o;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return rc;
    struct vmm_watcher *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->interval = (uint64_t)(o.interval_ms ? o.interval_ms : DEFAULT_INTERVAL_MS) * 1000000u;
    w->wait = w->interval;
    w->changed = o.changed;
    w->ctx = o.ctx;
    if (o.loop) {
        rc = vmm_timer_new(o.loop, expired, w, &w->timer);
        if (rc) {
            free(w);
            return rc;
        }
        w->loop = vmm_loop_ref(o.loop);
    }
    w->display = vmm_display_ref(display);
    *out = w;
    put_in(w);
    return 0;
}

struct vmm_watcher *vmm_watcher_free(struct vmm_watcher *w)
{
    if (!w)
        return NULL;
    struct vmm_display *d = w->display;
    pthread_mutex_lock(&d->source_lock);
    pthread_mutex_lock(&d->lock);
    for (struct vmm_watcher **at = &d->watchers; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    bool last = !d->watchers;
    pthread_mutex_unlock(&d->lock);
    if (last && d->ops.watched)
        d->ops.watched(d->ops_ctx, false);
    pthread_mutex_unlock(&d->source_lock);
    vmm_timer_free(w->timer);
    vmm_loop_unref(w->loop);
    vmm_display_unref(d);
    free(w);
    return NULL;
}

int vmm_watcher_take(struct vmm_watcher *w,
                     int (*fn)(void *ctx, const struct vmm_surface *surface,
                               const struct vmm_rect *rects, uint32_t count),
                     void *ctx)
{
    struct vmm_display *d = w->display;
    struct vmm_surface surface;
    int rc = 0;
    (void)vmm_display_ask(d);
    pthread_mutex_lock(&d->lock);
    if (d->pixels && w->count) {
        vmm_display_describe(d, &surface);
        rc = fn(ctx, &surface, w->rects, w->count);
        if (rc >= 0)
            w->count = 0;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}
