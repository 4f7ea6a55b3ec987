/* SPDX-License-Identifier: BSD-3-Clause */
/* Linear frame buffers, and when what is drawn. */
#include "devices/vga/internal.h"

#include <time.h>

#define BLINK_NS UINT64_C(266000000) /* half of a period: 16 frames of 60 Hz */

/* Pages ---------------------------------------------------------------------------------------- */

static bool any_page(const uint64_t *pages, uint64_t offset, uint64_t length)
{
    for (uint64_t page = offset / VGA_PAGE; page <= (offset + length - 1) / VGA_PAGE; page++)
        if (pages[page / 64] >> page % 64 & 1)
            return true;
    return false;
}

static int note_range(void *ctx, const struct vmm_dirty_range *range)
{
    struct vmm_vga *v = ctx;
    uint64_t end = (range->offset + range->length + VGA_PAGE - 1) / VGA_PAGE;
    for (uint64_t page = range->offset / VGA_PAGE; page < end && page < v->vram_size / VGA_PAGE;
         page++)
        v->pages[page / 64] |= UINT64_C(1) << page % 64;
    return 0;
}

static size_t bitmap_bytes(const struct vmm_vga *v)
{
    return (size_t)(v->vram_size / VGA_PAGE / 64 + 1) * 8;
}

/* What the guest wrote to the frame buffer. When the log cannot be had, all of it counts. */
static void harvest(struct vmm_vga *v)
{
    if (!v->consumer || vmm_dirty_harvest(v->consumer, note_range, v))
        memset(v->pages, 0xff, bitmap_bytes(v));
}

/* Lines ---------------------------------------------------------------------------------------- */

static uint32_t five(uint32_t value)
{
    value &= 31;
    return value << 3 | value >> 2;
}

static uint32_t six(uint32_t value)
{
    value &= 63;
    return value << 2 | value >> 4;
}

static void convert(const uint8_t *from, uint32_t width, uint32_t bits, const uint32_t *dac,
                    uint32_t *to)
{
    for (uint32_t x = 0; x < width; x++) {
        uint32_t p;
        switch (bits) {
        case 8:
            to[x] = dac[from[x]];
            break;
        case 15:
            p = vmm_load_le16(from + 2 * (size_t)x);
            to[x] = five(p >> 10) << 16 | five(p >> 5) << 8 | five(p);
            break;
        case 16:
            p = vmm_load_le16(from + 2 * (size_t)x);
            to[x] = five(p >> 11) << 16 | six(p >> 5) << 8 | five(p);
            break;
        case 24:
            to[x] = from[3 * (size_t)x] | (uint32_t)from[3 * (size_t)x + 1] << 8 |
                    (uint32_t)from[3 * (size_t)x + 2] << 16;
            break;
        default:
            to[x] = vmm_load_le32(from + 4 * (size_t)x) & 0xffffff;
            break;
        }
    }
}

/* Without the device's lock: the guest writes while we read anyway, and is seen by the next harvest. */
static void draw_linear(struct vmm_vga *v, const struct vga_registers *r,
                        const struct vga_linear *mode, bool all)
{
    struct vga_output o = {.display = v->display, .width = mode->width};
    uint32_t dac[256], line[VMM_VGA_MAX_WIDTH];
    for (uint32_t i = 0; i < 256 && mode->bits == 8; i++)
        dac[i] = vga_dac_colour(r, (uint8_t)i);
    if (vmm_display_begin(v->display, mode->width, mode->height, &o.canvas))
        return;
    all = all || o.canvas.fresh;
    uint64_t shown = (uint64_t)mode->width * ((mode->bits + 7) / 8);
    for (uint32_t y = 0; y < mode->height; y++) {
        uint64_t at = mode->start + y * mode->stride;
        if (!all && !any_page(v->pages, at, shown)) {
            vga_flush(&o);
            continue;
        }
        convert(v->vram + at, mode->width, mode->bits, dac, line);
        vga_put_line(&o, y, line);
        if (y % 16 == 15)
            vga_flush(&o);
    }
    vga_flush(&o);
    vmm_display_end(v->display);
}

/* Refreshing ----------------------------------------------------------------------------------- */

static bool next_blink_phase(struct vmm_vga *v)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    bool phase = v->blink && v->consumer && now / BLINK_NS % 2;
    bool changed = phase != v->blink_phase;
    v->blink_phase = phase;
    return changed;
}

static bool any_written(const struct vmm_vga *v)
{
    for (size_t i = 0; i < bitmap_bytes(v) / 8; i++)
        if (v->pages[i])
            return true;
    return false;
}

/* The lock is held on entry, and not when this returns. */
static int draw_locked(struct vmm_vga *v, const struct vga_registers *r, bool all)
{
    bool blinked = vga_is_text(r) && next_blink_phase(v);
    if (all || blinked || any_written(v))
        vga_draw_screen(v, r);
    vmm_device_unlock(v->device);
    return v->blink && vga_is_text(r) ? VMM_REFRESH_POLL : VMM_REFRESH_WHEN_WOKEN;
}

int vga_refresh(void *ctx)
{
    struct vmm_vga *v = ctx;
    struct vga_linear mode;
    int again = VMM_REFRESH_POLL;
    harvest(v);
    vmm_device_lock(v->device);
    struct vga_registers r = v->r;
    bool all = v->redraw || memcmp(&r, &v->drawn, sizeof(r)) != 0;
    for (size_t i = 0; i < bitmap_bytes(v) / 8; i++)
        v->pages[i] |= v->written[i];
    memset(v->written, 0, bitmap_bytes(v));
    v->redraw = v->told = false;
    v->drawn = r;
    if (vga_dispi_on(&r) && r.dispi[DISPI_BPP] != 4 && vga_linear_mode(v, &r, &mode) == 0) {
        vmm_device_unlock(v->device);
        draw_linear(v, &r, &mode, all);
    } else {
        again = draw_locked(v, &r, all);
    }
    memset(v->pages, 0, bitmap_bytes(v));
    return again;
}
