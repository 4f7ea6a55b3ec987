/* SPDX-License-Identifier: BSD-3-Clause */
/* The screen between a device that draws and those who look. */
#include "backends/display/internal.h"

#include <stdlib.h>

int vmm_display_new(struct vmm_display **out)
{
    struct vmm_display *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->refs = 1;
    pthread_mutex_init(&d->source_lock, NULL);
    pthread_mutex_init(&d->lock, NULL);
    *out = d;
    return 0;
}

struct vmm_display *vmm_display_ref(struct vmm_display *d)
{
    if (d)
        __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
    return d;
}

struct vmm_display *vmm_display_unref(struct vmm_display *d)
{
    if (d && __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        pthread_mutex_destroy(&d->source_lock);
        pthread_mutex_destroy(&d->lock);
        free(d->pixels);
        free(d->cursor_pixels);
        free(d);
    }
    return NULL;
}

/* The source ----------------------------------------------------------------------------------- */

int vmm_display_attach(struct vmm_display *d, const struct vmm_display_ops *given, void *ctx)
{
    struct vmm_display_ops ops;
    int rc = given ? vmm_options_copy(&ops, sizeof(ops), given) : -EINVAL;
    if (rc)
        return rc;
    pthread_mutex_lock(&d->source_lock);
    if (d->attached) {
        rc = -EBUSY;
    } else {
        d->ops = ops;
        d->ops_ctx = ctx;
        d->attached = true;
        pthread_mutex_lock(&d->lock);
        bool watched = d->watchers != NULL;
        pthread_mutex_unlock(&d->lock);
        if (watched && ops.watched)
            ops.watched(ctx, true);
    }
    pthread_mutex_unlock(&d->source_lock);
    if (!rc)
        vmm_display_wake(d);
    return rc;
}

void vmm_display_detach(struct vmm_display *d)
{
    pthread_mutex_lock(&d->source_lock);
    d->attached = false;
    d->ops = (struct vmm_display_ops){0};
    pthread_mutex_unlock(&d->source_lock);
}

int vmm_display_resize(struct vmm_display *d, uint32_t width, uint32_t height)
{
    if (!width || !height || width > VMM_DISPLAY_MAX || height > VMM_DISPLAY_MAX)
        return -EINVAL;
    int rc = -ENOTSUP;
    pthread_mutex_lock(&d->source_lock);
    if (d->ops.resize) {
        d->ops.resize(d->ops_ctx, width, height);
        rc = 0;
    }
    pthread_mutex_unlock(&d->source_lock);
    return rc;
}

int vmm_display_ask(struct vmm_display *d)
{
    int again = VMM_REFRESH_WHEN_WOKEN;
    pthread_mutex_lock(&d->source_lock);
    pthread_mutex_lock(&d->lock);
    d->woken = false;
    pthread_mutex_unlock(&d->lock);
    if (d->ops.refresh)
        again = d->ops.refresh(d->ops_ctx);
    pthread_mutex_unlock(&d->source_lock);
    return again;
}

void vmm_display_refresh(struct vmm_display *d)
{
    (void)vmm_display_ask(d);
}

/* Drawing -------------------------------------------------------------------------------------- */

static void damage(struct vmm_display *d, const struct vmm_rect *rect)
{
    for (struct vmm_watcher *w = d->watchers; w; w = w->next)
        vmm_watcher_damage(w, rect);
}

/* Another size: new memory, so that nothing of the old picture shows. */
static int change_size(struct vmm_display *d, uint32_t width, uint32_t height)
{
    size_t length = (size_t)width * height * 4;
    uint8_t *pixels = calloc(1, length);
    if (!pixels)
        return -ENOMEM;
    free(d->pixels);
    d->pixels = pixels;
    d->room = length;
    d->width = width;
    d->height = height;
    d->stride = width * 4;
    d->generation++;
    for (struct vmm_watcher *w = d->watchers; w; w = w->next)
        w->count = 0;
    const struct vmm_rect all = {0, 0, width, height};
    damage(d, &all);
    return 0;
}

int vmm_display_begin(struct vmm_display *d, uint32_t width, uint32_t height,
                      struct vmm_canvas *canvas)
{
    if (!width || !height || width > VMM_DISPLAY_MAX || height > VMM_DISPLAY_MAX)
        return -EINVAL;
    pthread_mutex_lock(&d->lock);
    bool fresh = !d->pixels || width != d->width || height != d->height;
    int rc = fresh ? change_size(d, width, height) : 0;
    if (rc) {
        pthread_mutex_unlock(&d->lock);
        return rc;
    }
    *canvas = (struct vmm_canvas){d->pixels, d->stride, fresh};
    return 0;
}

void vmm_display_damage(struct vmm_display *d, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height)
{
    if (x >= d->width || y >= d->height || !width || !height)
        return;
    const struct vmm_rect rect = {x, y, width < d->width - x ? width : d->width - x,
                                  height < d->height - y ? height : d->height - y};
    damage(d, &rect);
}

/* Also called from within a refresh: watchers whose timer is armed already are left alone. */
void vmm_display_end(struct vmm_display *d)
{
    for (struct vmm_watcher *w = d->watchers; w; w = w->next)
        if (w->count)
            vmm_watcher_wake(w);
    pthread_mutex_unlock(&d->lock);
}

void vmm_display_wake(struct vmm_display *d)
{
    pthread_mutex_lock(&d->lock);
    if (!d->woken) {
        d->woken = true;
        for (struct vmm_watcher *w = d->watchers; w; w = w->next)
            vmm_watcher_wake(w);
    }
    pthread_mutex_unlock(&d->lock);
}

/* The cursor ----------------------------------------------------------------------------------- */

/* What it covers was or will be changed. */
static void damage_cursor(struct vmm_display *d)
{
    const struct vmm_cursor *c = &d->cursor;
    int64_t left = (int64_t)c->x - c->hot_x, top = (int64_t)c->y - c->hot_y;
    int64_t right = left + c->width, bottom = top + c->height;
    left = left < 0 ? 0 : left;
    top = top < 0 ? 0 : top;
    right = right > d->width ? d->width : right;
    bottom = bottom > d->height ? d->height : bottom;
    if (left >= right || top >= bottom)
        return;
    const struct vmm_rect rect = {(uint32_t)left, (uint32_t)top, (uint32_t)(right - left),
                                  (uint32_t)(bottom - top)};
    damage(d, &rect);
    for (struct vmm_watcher *w = d->watchers; w; w = w->next)
        vmm_watcher_wake(w);
}

int vmm_display_set_cursor(struct vmm_display *d, const struct vmm_cursor *cursor)
{
    struct vmm_cursor next = {0};
    uint32_t *pixels = NULL;
    if (cursor && cursor->width && cursor->height) {
        if (cursor->width > CURSOR_MAX || cursor->height > CURSOR_MAX || !cursor->pixels)
            return -EINVAL;
        size_t length = (size_t)cursor->width * cursor->height * 4;
        pixels = malloc(length);
        if (!pixels)
            return -ENOMEM;
        memcpy(pixels, cursor->pixels, length);
        next = *cursor;
    }
    pthread_mutex_lock(&d->lock);
    damage_cursor(d);
    uint32_t *old = d->cursor_pixels;
    d->cursor_pixels = pixels;
    d->cursor = next;
    d->cursor.pixels = pixels;
    d->cursor_generation++;
    damage_cursor(d);
    pthread_mutex_unlock(&d->lock);
    free(old);
    return 0;
}

void vmm_display_move_cursor(struct vmm_display *d, int32_t x, int32_t y)
{
    pthread_mutex_lock(&d->lock);
    if (d->cursor.x != x || d->cursor.y != y) {
        damage_cursor(d);
        d->cursor.x = x;
        d->cursor.y = y;
        damage_cursor(d);
    }
    pthread_mutex_unlock(&d->lock);
}

/* Reading -------------------------------------------------------------------------------------- */

void vmm_display_describe(const struct vmm_display *d, struct vmm_surface *s)
{
    *s = (struct vmm_surface){.size = sizeof(*s),
                              .data = d->pixels,
                              .width = d->width,
                              .height = d->height,
                              .stride = d->stride,
                              .format = VMM_PIXEL_XRGB8888,
                              .generation = d->generation,
                              .cursor = d->cursor,
                              .cursor_generation = d->cursor_generation};
}

int vmm_display_read(struct vmm_display *d, int (*fn)(void *ctx, const struct vmm_surface *surface),
                     void *ctx)
{
    struct vmm_surface surface;
    int rc = -ENODATA;
    pthread_mutex_lock(&d->lock);
    if (d->pixels) {
        vmm_display_describe(d, &surface);
        rc = fn(ctx, &surface);
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

/* Premultiplied alpha over an opaque picture. */
static uint32_t blend(uint32_t below, uint32_t above)
{
    uint32_t rest = 255 - (above >> 24), result = 0;
    for (uint32_t shift = 0; shift < 24; shift += 8) {
        uint32_t value = (above >> shift & 255) + ((below >> shift & 255) * rest + 127) / 255;
        result |= (value > 255 ? 255 : value) << shift;
    }
    return result;
}

void vmm_surface_row(const struct vmm_surface *s, uint32_t x, uint32_t y, uint32_t width,
                     uint32_t *to)
{
    if (x >= s->width || y >= s->height)
        return;
    width = width < s->width - x ? width : s->width - x;
    memcpy(to, s->data + (size_t)y * s->stride + (size_t)x * 4, (size_t)width * 4);
    const struct vmm_cursor *c = &s->cursor;
    int64_t row = (int64_t)y - ((int64_t)c->y - c->hot_y);
    if (!c->pixels || row < 0 || row >= c->height)
        return;
    int64_t left = (int64_t)c->x - c->hot_x;
    for (int64_t i = 0; i < c->width; i++) {
        int64_t at = left + i - x;
        if (at >= 0 && at < width)
            to[at] = blend(to[at], c->pixels[row * c->width + i]);
    }
}
