/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The VGA from the inside. Register names and numbers are those of the hardware references (FreeVGA;
 * IBM VGA technical reference): SR sequencer, GR graphics controller, AR attribute controller, CR CRTC.
 *
 * Video memory holds the four planes side by side: byte `p` of the 32-bit word `n` is byte `n` of plane `p`.
 * Chained by four, and as a linear frame buffer, it is simply bytes.
 */
#ifndef DEVICES_VGA_INTERNAL_H
#define DEVICES_VGA_INTERNAL_H

#include "base/util.h"

#include <libvmm/dirty.h>
#include <libvmm/vga.h>

#define VGA_PAGE        4096u
#define VGA_PORTS       0x3b0u
#define VGA_PORTS_COUNT 0x30u

/* DISPI registers (Bochs VBE extension). */
enum {
    DISPI_ID,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_MEMORY_64K,
    DISPI_COUNT,
};
#define DISPI_ENABLED  0x01u
#define DISPI_GETCAPS  0x02u
#define DISPI_8BIT_DAC 0x20u
#define DISPI_LFB      0x40u
#define DISPI_NOCLEAR  0x80u

/* All that decides what is seen. Arrays are as large as their index register can say. */
struct vga_registers {
    uint8_t misc;
    uint8_t sr[8], gr[16], ar[32], cr[64];
    uint8_t ar_index; /* bit 5: the screen is on */
    uint8_t dac_mask;
    uint8_t palette[768];
    uint16_t dispi[DISPI_COUNT];
};

struct vmm_vga {
    struct vmm_pci *pci;
    struct vmm_device *device;
    struct vmm_display *display;
    struct vmm_memory *memory;
    struct vmm_vm *vm;
    struct vmm_bus *ports, *mmio;
    struct vmm_region *port_regions[3], *window;
    struct vmm_memory_region *vram_region, *rom_region;
    uint8_t *vram;
    uint64_t vram_size;
    bool legacy, blink;
    uint8_t edid[128];

    /* The device's lock is held. */
    struct vga_registers r;
    uint8_t sr_index, gr_index, cr_index, feature;
    bool ar_flip_flop; /* the next write to 0x3c0 is data */
    uint8_t dac_state, dac_read, dac_write, dac_component, dac_pending[3];
    uint32_t latch;
    uint16_t dispi_index;
    uint64_t *written; /* pages written by the window, a bit each */
    bool told;         /* the display has been woken since it was drawn last */
    bool redraw;       /* all of it, whatever was written */

    /* One drawer at a time: the display's source lock is held. */
    struct vmm_dirty_consumer *consumer; /* while somebody watches */
    uint64_t *pages;                     /* to be drawn */
    struct vga_registers drawn;
    bool blink_phase;
};

/* What a mode with a linear frame buffer shows, cut to what there is. */
struct vga_linear {
    uint32_t width, height, bits;
    uint64_t start, stride; /* bytes */
};

/* The bits of a nibble as bytes, for set/reset, colour compare and map mask. */
static inline uint32_t vga_planes(uint32_t nibble)
{
    return (nibble & 1) * 0xffu | (nibble >> 1 & 1) * 0xff00u | (nibble >> 2 & 1) * 0xff0000u |
           (nibble >> 3 & 1) * 0xff000000u;
}

static inline bool vga_dispi_on(const struct vga_registers *r)
{
    return r->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* The lock is held in these. */
void vga_changed(struct vmm_vga *v);
void vga_reset_registers(struct vmm_vga *v);
uint8_t vga_port_read(struct vmm_vga *v, uint32_t port);
void vga_port_write(struct vmm_vga *v, uint32_t port, uint8_t value);
uint16_t vga_dispi_read(struct vmm_vga *v, uint32_t index);
void vga_dispi_write(struct vmm_vga *v, uint32_t index, uint16_t value);
void vga_mark_written(struct vmm_vga *v, uint64_t offset, uint64_t length);
int vga_save(void *ctx, struct vmm_state_writer *w);
int vga_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);

/* Region callbacks of the window at 0xa0000. */
uint64_t vga_window_read(void *ctx, uint64_t offset, uint32_t width);
void vga_window_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value);

/* -EINVAL: there is nothing to show. */
int vga_linear_mode(const struct vmm_vga *v, const struct vga_registers *r, struct vga_linear *out);
/* 0xRRGGBB of an entry of the DAC. */
uint32_t vga_dac_colour(const struct vga_registers *r, uint8_t index);
/* The 16 colours that text and planar modes have. */
void vga_attribute_colours(const struct vga_registers *r, uint32_t colours[16]);
/* What the CRTC shows: of the text modes in characters. */
struct vga_geometry {
    uint32_t columns, height; /* characters across, scan lines */
    uint32_t dots;            /* across a character: 8 or 9, twice that at half the clock */
    uint32_t row_lines;       /* scan lines of a character row, doubled ones counted once */
    uint32_t doubling;        /* scan lines for each of these */
    uint32_t start, offset;   /* the address counter's, at the top and from row to row */
    uint32_t split;           /* the last scan line before the lower part of a split screen */
    uint32_t preset;          /* row scan at the top */
    uint32_t pan;             /* dots */
    bool pan_split;           /* the lower part is panned too */
};
void vga_geometry(const struct vga_registers *r, struct vga_geometry *g);
/* Where the CRTC fetches for a value of its address counter. */
uint32_t vga_fetch_address(const struct vga_registers *r, uint32_t counter, uint32_t row_scan);
static inline bool vga_is_text(const struct vga_registers *r)
{
    return !vga_dispi_on(r) && !(r->gr[6] & 1);
}

/* Callbacks of the display. */
int vga_refresh(void *ctx);
int vga_text(void *ctx, struct vmm_text_screen *screen);

/* Where drawn lines go: only what differs is copied, and becomes damage. */
struct vga_output {
    struct vmm_display *display;
    struct vmm_canvas canvas;
    uint32_t width;
    uint32_t top, bottom, left, right; /* of what differs so far; bottom 0: nothing */
};
void vga_put_line(struct vga_output *o, uint32_t y, const uint32_t *line);
void vga_flush(struct vga_output *o);
/* Text and planar modes, with the device's lock held. */
void vga_draw_screen(struct vmm_vga *v, const struct vga_registers *r);

#endif
