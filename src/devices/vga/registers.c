/* SPDX-License-Identifier: BSD-3-Clause */
/* The registers of a VGA, by the ports 0x3b0 to 0x3df. Reserved bits read as zeros. */
#include "devices/vga/internal.h"

#include <time.h>

#define FRAME_NS 14268000u /* 70 Hz: 449 lines at 31.469 kHz */

static const uint8_t sr_mask[8] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0};
static const uint8_t gr_mask[16] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t cr_count = 0x19;

void vga_reset_registers(struct vmm_vga *v)
{
    const uint16_t id = 0xb0c5, memory = (uint16_t)(v->vram_size >> 16);
    memset(&v->r, 0, sizeof(v->r));
    v->r.dac_mask = 0xff;
    v->r.dispi[DISPI_ID] = id;
    v->r.dispi[DISPI_MEMORY_64K] = memory;
    v->r.dispi[DISPI_XRES] = v->r.dispi[DISPI_VIRT_WIDTH] = 640;
    v->r.dispi[DISPI_YRES] = v->r.dispi[DISPI_VIRT_HEIGHT] = 480;
    v->r.dispi[DISPI_BPP] = 8;
    v->sr_index = v->gr_index = v->cr_index = v->feature = 0;
    v->ar_flip_flop = false;
    v->dac_state = v->dac_read = v->dac_write = v->dac_component = 0;
    memset(v->dac_pending, 0, sizeof(v->dac_pending));
    v->latch = 0;
    v->dispi_index = 0;
    v->redraw = true;
    vga_changed(v);
}

/* The screen may look different: whoever watches is to look, once until then. */
void vga_changed(struct vmm_vga *v)
{
    if (!v->told) {
        v->told = true;
        vmm_display_wake(v->display);
    }
}

/* Attribute controller ------------------------------------------------------------------------- */

static void ar_write(struct vmm_vga *v, uint8_t value)
{
    uint32_t index = v->r.ar_index & 0x1f;
    if (!v->ar_flip_flop)
        v->r.ar_index = value & 0x3f;
    else if (index < 0x10) { /* the palette is closed while it is used for the screen */
        if (!(v->r.ar_index & 0x20))
            v->r.ar[index] = value & 0x3f;
    } else if (index <= 0x14) {
        static const uint8_t masks[] = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
        v->r.ar[index] = value & masks[index - 0x10];
    }
    v->ar_flip_flop = !v->ar_flip_flop;
}

/* DAC ------------------------------------------------------------------------------------------ */

static uint8_t dac_width(const struct vmm_vga *v)
{
    return v->r.dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? 0xff : 0x3f;
}

static uint8_t dac_data_read(struct vmm_vga *v)
{
    uint8_t value = v->r.palette[v->dac_read * 3 + v->dac_component];
    if (++v->dac_component == 3) {
        v->dac_component = 0;
        v->dac_read++;
    }
    return value;
}

/* All three components are taken over with the last. */
static void dac_data_write(struct vmm_vga *v, uint8_t value)
{
    v->dac_pending[v->dac_component] = value & dac_width(v);
    if (++v->dac_component == 3) {
        memcpy(&v->r.palette[v->dac_write * 3], v->dac_pending, 3);
        v->dac_component = 0;
        v->dac_write++;
        vga_changed(v);
    }
}

static void dac_index(struct vmm_vga *v, uint8_t *which, uint8_t value, uint8_t state)
{
    *which = value;
    v->dac_component = 0;
    v->dac_state = state;
}

/* CRTC ----------------------------------------------------------------------------------------- */

/* CR11 bit 7 protects 0 to 7, but for the line compare bit in CR7. */
static void cr_write(struct vmm_vga *v, uint8_t value)
{
    uint32_t index = v->cr_index;
    if (index >= cr_count)
        return;
    if (index <= 7 && (v->r.cr[0x11] & 0x80)) {
        if (index == 7)
            v->r.cr[7] = (uint8_t)((v->r.cr[7] & ~0x10) | (value & 0x10));
        return;
    }
    v->r.cr[index] = value;
}

/* Status --------------------------------------------------------------------------------------- */

/* Input status 1: where the beam would be, for those who wait for a retrace. */
static uint8_t beam(const struct vmm_vga *v)
{
    struct timespec t;
    struct vga_geometry g;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t phase = ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec) % FRAME_NS;
    vga_geometry(&v->r, &g);
    uint64_t lines = (uint64_t)g.height + 49, position = phase * lines * 100 / FRAME_NS;
    uint64_t line = position / 100, column = position % 100;
    uint8_t status = line >= g.height || column >= 80 ? 1 : 0;
    if (line >= g.height + 12u && line < g.height + 14u)
        status |= 8;
    return status;
}

/* Ports ---------------------------------------------------------------------------------------- */

/* The CRTC and status 1 are at 0x3dX for colour and at 0x3bX for monochrome. */
static bool elsewhere(const struct vmm_vga *v, uint32_t port)
{
    bool colour = v->r.misc & 1;
    return (port < 0x3c0 && colour) || (port >= 0x3d0 && !colour);
}

static uint8_t common_read(struct vmm_vga *v, uint32_t port)
{
    switch (port) {
    case 0x3c0:
        return v->r.ar_index;
    case 0x3c1:
        return v->r.ar[v->r.ar_index & 0x1f];
    case 0x3c2: /* input status 0: a colour monitor is there */
        return 0x10;
    case 0x3c4:
        return v->sr_index;
    case 0x3c5:
        return v->r.sr[v->sr_index];
    case 0x3c6:
        return v->r.dac_mask;
    case 0x3c7:
        return v->dac_state;
    case 0x3c8:
        return v->dac_write;
    case 0x3c9:
        return dac_data_read(v);
    case 0x3ca:
        return v->feature;
    case 0x3cc:
        return v->r.misc;
    case 0x3ce:
        return v->gr_index;
    case 0x3cf:
        return v->r.gr[v->gr_index];
    default:
        return 0xff;
    }
}

uint8_t vga_port_read(struct vmm_vga *v, uint32_t port)
{
    if (port >= 0x3c0 && port < 0x3d0)
        return common_read(v, port);
    if (elsewhere(v, port))
        return 0xff;
    switch (port & 0xf) {
    case 4:
        return v->cr_index;
    case 5:
        return v->r.cr[v->cr_index];
    case 0xa:
        v->ar_flip_flop = false;
        return beam(v);
    default:
        return 0xff;
    }
}

static void common_write(struct vmm_vga *v, uint32_t port, uint8_t value)
{
    switch (port) {
    case 0x3c0:
        ar_write(v, value);
        break;
    case 0x3c2:
        v->r.misc = value & 0xef;
        break;
    case 0x3c4:
        v->sr_index = value & 7;
        break;
    case 0x3c5:
        v->r.sr[v->sr_index] = value & sr_mask[v->sr_index];
        break;
    case 0x3c6:
        v->r.dac_mask = value;
        break;
    case 0x3c7:
        dac_index(v, &v->dac_read, value, 3);
        break;
    case 0x3c8:
        dac_index(v, &v->dac_write, value, 0);
        break;
    case 0x3c9:
        dac_data_write(v, value);
        break;
    case 0x3ce:
        v->gr_index = value & 0xf;
        break;
    case 0x3cf:
        v->r.gr[v->gr_index] = value & gr_mask[v->gr_index];
        break;
    default:
        break;
    }
}

/* Does writing there leave the picture as it is? Indices, and the write side of the memory. */
static bool is_unseen(const struct vmm_vga *v, uint32_t port)
{
    return port == 0x3c4 || port == 0x3c6 + 1 || port == 0x3c8 || port == 0x3c9 || port == 0x3ce ||
           port == 0x3d4 || port == 0x3b4 || (port == 0x3c5 && v->sr_index == 2) ||
           (port == 0x3cf && v->gr_index != 5 && v->gr_index != 6);
}

void vga_port_write(struct vmm_vga *v, uint32_t port, uint8_t value)
{
    if (port >= 0x3c0 && port < 0x3d0)
        common_write(v, port, value);
    else if (elsewhere(v, port))
        return;
    else if ((port & 0xf) == 4)
        v->cr_index = value & 0x3f;
    else if ((port & 0xf) == 5)
        cr_write(v, value);
    else if ((port & 0xf) == 0xa)
        v->feature = value & 0x0b;
    if (!is_unseen(v, port))
        vga_changed(v);
}
