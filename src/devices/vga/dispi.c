/* SPDX-License-Identifier: BSD-3-Clause */
/* The DISPI registers: Bochs' interface for modes beyond VGA's (VBE display, version 0xb0c5). */
#include "devices/vga/internal.h"

static uint32_t bytes_of(uint32_t bits)
{
    return (bits + 7) / 8;
}

static bool is_depth(uint32_t bits)
{
    return bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32;
}

/* Bytes from a line to the next; of a planar mode in each plane. */
static uint64_t line_length(const struct vga_registers *r)
{
    uint32_t bits = r->dispi[DISPI_BPP], width = r->dispi[DISPI_VIRT_WIDTH];
    return bits == 4 ? width / 8 : (uint64_t)width * bytes_of(bits);
}

/* Every value was taken as the guest wrote it, so what is shown is cut here: lines that the memory does
 * not hold are not there. */
int vga_linear_mode(const struct vmm_vga *v, const struct vga_registers *r, struct vga_linear *out)
{
    uint32_t bits = r->dispi[DISPI_BPP];
    uint64_t memory = bits == 4 ? v->vram_size / 4 : v->vram_size, stride = line_length(r);
    uint32_t x = r->dispi[DISPI_X_OFFSET], y = r->dispi[DISPI_Y_OFFSET];
    uint64_t start = (uint64_t)y * stride + (bits == 4 ? x / 8 : (uint64_t)x * bytes_of(bits));
    uint64_t shown =
        bits == 4 ? r->dispi[DISPI_XRES] / 8 : (uint64_t)r->dispi[DISPI_XRES] * bytes_of(bits);
    if (!stride || !shown || start >= memory || memory - start < shown)
        return -EINVAL;
    uint64_t lines = (memory - start - shown) / stride + 1;
    *out = (struct vga_linear){.width = r->dispi[DISPI_XRES],
                               .height = r->dispi[DISPI_YRES],
                               .bits = bits,
                               .start = start,
                               .stride = stride};
    if (out->height > lines)
        out->height = (uint32_t)lines;
    return out->height ? 0 : -EINVAL;
}

uint16_t vga_dispi_read(struct vmm_vga *v, uint32_t index)
{
    if (index >= DISPI_COUNT)
        return 0;
    if (v->r.dispi[DISPI_ENABLE] & DISPI_GETCAPS) {
        if (index == DISPI_XRES)
            return VMM_VGA_MAX_WIDTH;
        if (index == DISPI_YRES)
            return VMM_VGA_MAX_HEIGHT;
        if (index == DISPI_BPP)
            return 32;
    }
    return v->r.dispi[index];
}

/* As many lines as the memory has for the width. */
static void set_virtual(struct vmm_vga *v, uint32_t width)
{
    v->r.dispi[DISPI_VIRT_WIDTH] = (uint16_t)width;
    uint64_t stride = line_length(&v->r);
    uint64_t memory = v->r.dispi[DISPI_BPP] == 4 ? v->vram_size / 4 : v->vram_size;
    uint64_t lines = stride ? memory / stride : 0;
    v->r.dispi[DISPI_VIRT_HEIGHT] = (uint16_t)(lines > UINT16_MAX ? UINT16_MAX : lines);
}

static void clear(struct vmm_vga *v)
{
    struct vga_linear mode;
    if (vga_linear_mode(v, &v->r, &mode))
        return;
    uint64_t length = (uint64_t)mode.height * mode.stride * (mode.bits == 4 ? 4 : 1);
    memset(v->vram, 0, length < v->vram_size ? length : v->vram_size);
}

/* A DAC that changes its width keeps what it shows. */
static void set_dac_width(struct vmm_vga *v, uint16_t old, uint16_t new)
{
    if (!((old ^ new) & DISPI_8BIT_DAC))
        return;
    for (uint32_t i = 0; i < sizeof(v->r.palette); i++)
        v->r.palette[i] =
            (uint8_t)(new &DISPI_8BIT_DAC ? v->r.palette[i] << 2 : v->r.palette[i] >> 2);
}

static void set_enable(struct vmm_vga *v, uint16_t value)
{
    uint16_t old = v->r.dispi[DISPI_ENABLE];
    v->r.dispi[DISPI_ENABLE] = value & 0xff;
    set_dac_width(v, old, value);
    if (!(value & DISPI_ENABLED) || (old & DISPI_ENABLED))
        return;
    v->r.dispi[DISPI_BANK] = 0;
    v->r.dispi[DISPI_X_OFFSET] = v->r.dispi[DISPI_Y_OFFSET] = 0;
    set_virtual(v, v->r.dispi[DISPI_XRES]);
    if (!(value & DISPI_NOCLEAR))
        clear(v);
    struct vga_linear mode;
    if (v->vm && vga_linear_mode(v, &v->r, &mode))
        vmm_vm_guest_error(v->vm, vmm_device_name(v->device),
                           "a mode of %ux%ux%u does not fit into the frame buffer",
                           v->r.dispi[DISPI_XRES], v->r.dispi[DISPI_YRES], v->r.dispi[DISPI_BPP]);
}

void vga_dispi_write(struct vmm_vga *v, uint32_t index, uint16_t value)
{
    uint16_t *d = v->r.dispi;
    switch (index) {
    case DISPI_ID:
        if (value >= 0xb0c0 && value <= 0xb0c5)
            d[index] = value;
        break;
    case DISPI_XRES:
        if (value && value <= VMM_VGA_MAX_WIDTH)
            d[index] = value;
        break;
    case DISPI_YRES:
        if (value && value <= VMM_VGA_MAX_HEIGHT)
            d[index] = value;
        break;
    case DISPI_BPP:
        if (is_depth(value ? value : 8))
            d[index] = value ? value : 8;
        break;
    case DISPI_ENABLE:
        set_enable(v, value);
        break;
    case DISPI_BANK:
        if ((uint64_t)value * 0x10000 < v->vram_size)
            d[index] = value;
        break;
    case DISPI_VIRT_WIDTH:
        if (value >= d[DISPI_XRES])
            set_virtual(v, value);
        break;
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        d[index] = value;
        break;
    default: /* the height follows from the width, the memory is what it is */
        return;
    }
    v->redraw = true;
    vga_changed(v);
}
