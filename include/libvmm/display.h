/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file display.h
 * A screen: what a graphics device draws on, and what an embedder sees of it. Nothing is linked for it.
 *
 * The embedder makes a display and gives it to a device, as a chardev is given to a UART. The device
 * draws when somebody looks: vmm_display_refresh(), a watcher, a screenshot. A display that nobody
 * watches costs the guest and the host nothing.
 *
 *     vmm_display_new(&display);
 *     vga_options.display = display;
 *     …
 *     vmm_display_screenshot(display, fd, VMM_IMAGE_PNG, err);
 *
 * Locks: reading holds the picture still; a device that draws waits. Callbacks may not call functions
 * of the same display.
 */
#ifndef LIBVMM_DISPLAY_H
#define LIBVMM_DISPLAY_H

#include <libvmm/loop.h>

VMM_BEGIN_DECLS

struct vmm_display;
struct vmm_watcher;

/** The largest picture in either direction. */
#define VMM_DISPLAY_MAX 8192u

/** 32 bits a pixel in the host's byte order: 0x00RRGGBB. The upper 8 bits mean nothing. */
#define VMM_PIXEL_XRGB8888 1u

struct vmm_rect {
    uint32_t x, y, width, height;
};

/** A mouse pointer that the guest draws by hardware. */
struct vmm_cursor {
    const uint32_t *pixels; /**< 0xAARRGGBB, premultiplied; `width` a row */
    uint32_t width, height; /**< 0: there is none; at most 256 */
    uint32_t hot_x, hot_y;  /**< the pixel that points */
    int32_t x, y;           /**< of the hot pixel on the screen */
};

/** A picture, valid during the call that it is given to. */
struct vmm_surface {
    size_t size;
    const uint8_t *data; /**< without the cursor */
    uint32_t width, height;
    uint32_t stride;            /**< bytes from a row to the next */
    uint32_t format;            /**< VMM_PIXEL_… */
    uint64_t generation;        /**< changes when width or height do */
    struct vmm_cursor cursor;   /**< lies over the picture */
    uint64_t cursor_generation; /**< changes with the cursor's pixels */
};

/** Copy a part of a row with the cursor over it, as XRGB8888. What lies outside is not copied. */
VMM_API void vmm_surface_row(const struct vmm_surface *surface, uint32_t x, uint32_t y,
                             uint32_t width, uint32_t *to);

VMM_API int vmm_display_new(struct vmm_display **out);
VMM_API struct vmm_display *vmm_display_ref(struct vmm_display *display);
VMM_API struct vmm_display *vmm_display_unref(struct vmm_display *display);

/* For whoever looks. Thread-safe; not with the lock of the device held. ------------------------- */

/** Have the device draw what has changed. Blocks while it does. */
VMM_API void vmm_display_refresh(struct vmm_display *display);
/** Call `fn` with the picture as it was drawn last; returns what it returns. -ENODATA: nothing has been
 *  drawn yet. */
VMM_API int vmm_display_read(struct vmm_display *display,
                             int (*fn)(void *ctx, const struct vmm_surface *surface), void *ctx);

#define VMM_IMAGE_PPM 1u /**< binary PPM; needs no library */
#define VMM_IMAGE_PNG 2u
/** Refresh, and write the picture to `fd`. -ENOTSUP: PNG, and the library was built without libpng;
 *  -ENODATA: the screen has no picture; -EINVAL; what the host said when writing. Blocks. */
VMM_API int vmm_display_screenshot(struct vmm_display *display, int fd, uint32_t image,
                                   struct vmm_error *err);

/** A character of a text screen. */
struct vmm_text_cell {
    uint32_t character;              /**< Unicode */
    uint32_t foreground, background; /**< 0x00RRGGBB */
};
struct vmm_text_screen {
    size_t size;
    uint32_t columns, rows;
    uint32_t cursor_column, cursor_row; /**< UINT32_MAX: it is not seen */
    struct vmm_text_cell *cells;        /**< row by row */
};
/** What a device in text mode shows, as characters. -ENODATA: it shows a picture, or there is none.
 *  Free it with vmm_text_screen_free(). */
VMM_API int vmm_display_text(struct vmm_display *display, struct vmm_text_screen **out);
VMM_API void vmm_text_screen_free(struct vmm_text_screen *screen);
/** As UTF-8, a line a row without blanks at its end. `colours`: with the escape sequences that terminals
 *  know (24-bit colours). The caller frees it. */
VMM_API int vmm_text_screen_utf8(const struct vmm_text_screen *screen, bool colours, char **out);

/* Watchers ------------------------------------------------------------------------------------- */

struct vmm_watcher_options {
    size_t size;
    struct vmm_loop *loop; /**< where `changed` runs; held. NULL: only vmm_watcher_take() */
    /** Not more often than this; 0: 33 ms. While nothing changes it looks less often, or not at all where
     *  the device says by itself that something did. */
    uint32_t interval_ms;
    uint32_t reserved;
    /** There is something for vmm_watcher_take(), which may be called inside. */
    void (*changed)(void *ctx);
    void *ctx;
};
#define VMM_WATCHER_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_watcher_options), 0, 0, 0, 0, 0                                          \
    }

/** Watch. The whole picture counts as changed at first. The watcher holds the display. */
VMM_API int vmm_watcher_new(struct vmm_display *display, const struct vmm_watcher_options *options,
                            struct vmm_watcher **out);
/** Stop. When this returns, `changed` does not run any more, unless it is called from inside of it. */
VMM_API struct vmm_watcher *vmm_watcher_free(struct vmm_watcher *watcher);
/** Stop looking for a while (nobody is there to see it), or go on. */
VMM_API void vmm_watcher_pause(struct vmm_watcher *watcher, bool paused);
/**
 * Refresh, and take what has changed since the last time: `fn` gets the picture and the rectangles,
 * which lie inside of it (at most VMM_WATCHER_RECTS). 0 when there is nothing; else what `fn` returns.
 * When `fn` returns a negative number the rectangles stay for the next time.
 */
#define VMM_WATCHER_RECTS 32u
VMM_API int vmm_watcher_take(struct vmm_watcher *watcher,
                             int (*fn)(void *ctx, const struct vmm_surface *surface,
                                       const struct vmm_rect *rects, uint32_t count),
                             void *ctx);

/** Write an image a change: DIR/frame-000000.png and so on, at most one an interval and `max_frames`
 *  (0: any number) in all. Runs on the loop until vmm_recorder_free(). Errors as
 *  vmm_display_screenshot() has them; those of later frames end the recording. */
struct vmm_recorder;
VMM_API int vmm_recorder_new(struct vmm_display *display, struct vmm_loop *loop,
                             const char *directory, uint32_t image, uint32_t interval_ms,
                             uint32_t max_frames, struct vmm_recorder **out, struct vmm_error *err);
VMM_API struct vmm_recorder *vmm_recorder_free(struct vmm_recorder *recorder);
/** How many frames there are; negative: the error that ended it. Thread-safe. */
VMM_API long vmm_recorder_frames(const struct vmm_recorder *recorder);

/* For devices ---------------------------------------------------------------------------------- */

/** How soon the device wants to be asked again. */
#define VMM_REFRESH_WHEN_WOKEN 0 /**< it will call vmm_display_wake() */
#define VMM_REFRESH_POLL       1 /**< it cannot know when something changes */

struct vmm_display_ops {
    size_t size;
    /** Draw what has changed, by vmm_display_begin() and vmm_display_end(). Returns VMM_REFRESH_….
     *  NULL: the device draws by itself. */
    int (*refresh)(void *ctx);
    /** Fill in columns, rows, the cursor and `cells` (of malloc), or -ENODATA. May be NULL. */
    int (*text)(void *ctx, struct vmm_text_screen *screen);
    /** The first watcher has come, or the last has gone. May be NULL. */
    void (*watched)(void *ctx, bool watched);
    /** Somebody would like the screen to be of this size. May be NULL. */
    void (*resize)(void *ctx, uint32_t width, uint32_t height);
};

/** Become the source; one at a time (-EBUSY). `ops` is copied. Not with a lock held that they take. */
VMM_API int vmm_display_attach(struct vmm_display *display, const struct vmm_display_ops *ops,
                               void *ctx);
/** No callback runs any more when this returns. The picture stays. */
VMM_API void vmm_display_detach(struct vmm_display *display);
/** Ask the source for another size. -ENOTSUP: it cannot; -EINVAL. */
VMM_API int vmm_display_resize(struct vmm_display *display, uint32_t width, uint32_t height);

/** Where to draw. */
struct vmm_canvas {
    uint8_t *data;
    uint32_t stride;
    bool fresh; /**< the picture is a new one, all black; all of it is damaged already */
};
/**
 * Begin to draw a picture of this size; no one else reads it until vmm_display_end(). The device's lock may
 * be held. -EINVAL: 0, or more than VMM_DISPLAY_MAX; -ENOMEM: the picture is as before; then
 * vmm_display_end() is not called.
 */
VMM_API int vmm_display_begin(struct vmm_display *display, uint32_t width, uint32_t height,
                              struct vmm_canvas *canvas);
/** This part was drawn on (cut to the picture). Between begin and end. */
VMM_API void vmm_display_damage(struct vmm_display *display, uint32_t x, uint32_t y, uint32_t width,
                                uint32_t height);
VMM_API void vmm_display_end(struct vmm_display *display);
/** Something has changed or will: watchers are to ask. The device's lock may be held. Thread-safe. */
VMM_API void vmm_display_wake(struct vmm_display *display);
/** Another cursor (its pixels are copied) or place; NULL: none. -EINVAL: larger than 256; -ENOMEM.
 *  Thread-safe, the device's lock may be held. */
VMM_API int vmm_display_set_cursor(struct vmm_display *display, const struct vmm_cursor *cursor);
VMM_API void vmm_display_move_cursor(struct vmm_display *display, int32_t x, int32_t y);

VMM_END_DECLS

#endif
