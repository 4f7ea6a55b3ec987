/* SPDX-License-Identifier: BSD-3-Clause */
/* A sequence of frames: an image for each change. */
#include "backends/display/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct vmm_recorder {
    struct vmm_display *display;
    struct vmm_watcher *watcher;
    int directory;
    uint32_t image, max_frames;
    long frames; /* atomic; negative: an error */
};

/* Only that something changed is of interest: the image is of the whole screen. */
static int forget(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects,
                  uint32_t count)
{
    (void)ctx;
    (void)s;
    (void)rects;
    (void)count;
    return 0;
}

static long record(struct vmm_recorder *r, long number)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "frame-%06ld.%s", number,
                   r->image == VMM_IMAGE_PNG ? "png" : "ppm");
    int fd = openat(r->directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = vmm_display_screenshot(r->display, fd, r->image, NULL);
    if (close(fd) && !rc)
        rc = -errno;
    return rc ? rc : number + 1;
}

static void changed(void *ctx)
{
    struct vmm_recorder *r = ctx;
    long frames = r->frames;
    if (frames < 0 || (r->max_frames && frames >= (long)r->max_frames)) {
        vmm_watcher_pause(r->watcher, true);
        return;
    }
    (void)vmm_watcher_take(r->watcher, forget, NULL);
    __atomic_store_n(&r->frames, record(r, frames), __ATOMIC_RELEASE);
}

int vmm_recorder_new(struct vmm_display *display, struct vmm_loop *loop, const char *directory,
                     uint32_t image, uint32_t interval_ms, uint32_t max_frames,
                     struct vmm_recorder **out, struct vmm_error *err)
{
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    if (!loop || (image != VMM_IMAGE_PNG && image != VMM_IMAGE_PPM))
        return vmm_error_set(err, -EINVAL, "a recorder needs a loop, and an image format");
    struct vmm_recorder *r = calloc(1, sizeof(*r));
    if (!r)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    r->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->directory < 0) {
        int rc = -errno;
        free(r);
        return vmm_error_set(err, rc, "%s: %s", directory, strerror(-rc));
    }
    r->display = vmm_display_ref(display);
    r->image = image;
    r->max_frames = max_frames;
    o.loop = loop;
    o.interval_ms = interval_ms;
    o.changed = changed;
    o.ctx = r;
    int rc = vmm_watcher_new(display, &o, &r->watcher);
    if (rc) {
        vmm_recorder_free(r);
        return vmm_error_set(err, rc, "watching the screen: %s", strerror(-rc));
    }
    *out = r;
    return 0;
}

struct vmm_recorder *vmm_recorder_free(struct vmm_recorder *r)
{
    if (!r)
        return NULL;
    vmm_watcher_free(r->watcher);
    vmm_display_unref(r->display);
    close(r->directory);
    free(r);
    return NULL;
}

long vmm_recorder_frames(const struct vmm_recorder *r)
{
    return __atomic_load_n(&r->frames, __ATOMIC_ACQUIRE);
}
