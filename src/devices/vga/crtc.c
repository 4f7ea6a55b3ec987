/* SPDX-License-Identifier: BSD-3-Clause */
/* What the CRTC and the attribute controller make of their registers. */
#include "devices/vga/internal.h"

/* Dots by which the picture is shifted to the left (AR13). With nine dots a character 8 means none. */
static uint32_t panning(const struct vga_registers *r, uint32_t dots)
{
    uint32_t value = r->ar[0x13] & 0xf;
    if (dots == 9 && !(r->gr[6] & 1))
        return value >= 8 ? 0 : value + 1;
    return value & 7;
}

void vga_geometry(const struct vga_registers *r, struct vga_geometry *g)
{
    const uint8_t *cr = r->cr;
    bool text = !(r->gr[6] & 1), half_clock = r->sr[1] & 8;
    uint32_t dots = text && !(r->sr[1] & 1) ? 9 : 8;
    g->columns = cr[1] + 1u;
    g->height = (cr[0x12] | (cr[7] & 2u) << 7 | (cr[7] & 0x40u) << 3) + 1;
    g->dots = half_clock ? dots * 2 : dots;
    g->row_lines = (cr[9] & 0x1fu) + 1;
    g->doubling = cr[9] & 0x80 ? 2 : 1;
    g->start = ((uint32_t)cr[0xc] << 8 | cr[0xd]) + (cr[8] >> 5 & 3);
    g->offset = cr[0x13] * 2u;
    g->split = cr[0x18] | (cr[7] & 0x10u) << 4 | (cr[9] & 0x40u) << 3;
    g->preset = cr[8] & 0x1f;
    g->pan = panning(r, dots) * (half_clock ? 2 : 1);
    g->pan_split = !(r->ar[0x10] & 0x20);
}

/* Byte, word and doubleword addressing (CR17 bit 6, CR14 bit 6), and the row scan in place of the upper
 * bits, as the modes that are compatible with the CGA and the Hercules have it (CR17 bits 0 and 1). Chained
 * memory is packed here, so its doublewords follow each other. */
uint32_t vga_fetch_address(const struct vga_registers *r, uint32_t counter, uint32_t row_scan)
{
    uint32_t mode = r->cr[0x17], address = counter;
    counter &= 0xffff;
    if (r->sr[4] & 8)
        return counter;
    if (r->cr[0x14] & 0x40)
        address = counter << 2 | counter >> 14;
    else if (!(mode & 0x40))
        address = counter << 1 | (counter >> (mode & 0x20 ? 15 : 13) & 1);
    if (!(mode & 1))
        address = (address & ~0x2000u) | (row_scan & 1) << 13;
    if (!(mode & 2))
        address = (address & ~0x4000u) | (row_scan >> 1 & 1) << 14;
    return address & 0xffff;
}

uint32_t vga_dac_colour(const struct vga_registers *r, uint8_t index)
{
    const uint8_t *p = &r->palette[(index & r->dac_mask) * 3];
    uint32_t colour = 0;
    for (int i = 0; i < 3; i++) { /* six bits fill eight: 63 is 255 */
        uint32_t c = p[i];
        if (!(r->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
            c = (c & 0x3f) << 2 | (c & 0x3f) >> 4;
        colour = colour << 8 | c;
    }
    return colour;
}

/* A colour goes through the palette, and colour select (AR14) adds the upper bits. */
void vga_attribute_colours(const struct vga_registers *r, uint32_t colours[16])
{
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t index = r->ar[i & r->ar[0x12] & 0xf] & 0x3f, select = r->ar[0x14];
        if (r->ar[0x10] & 0x80)
            index = (index & 0xf) | (select & 3) << 4;
        index |= (select & 0xc) << 4;
        colours[i] = vga_dac_colour(r, (uint8_t)index);
    }
}
