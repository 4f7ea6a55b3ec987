/* SPDX-License-Identifier: BSD-3-Clause */
/* A text mode's screen as characters. Which shapes the guest has loaded nobody can know: code page 437. */
#include "devices/vga/internal.h"

#include <stdlib.h>

/* Code page 437: 0 to 31 and 127, then 128 to 255. */
static const uint16_t low[32] = {' ',    0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022,
                                 0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
                                 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8,
                                 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc};
static const uint16_t high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef,
    0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa,
    0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
    0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
    0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4,
    0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0};

static uint32_t unicode(uint8_t c)
{
    return c < 32 ? low[c] : c < 127 ? c : c == 127 ? 0x2302 : high[c - 128];
}

/* A row: where its counter begins. Follows the split as the drawing does. */
static void fill_row(const struct vmm_vga *v, const uint32_t colours[16], uint32_t counter,
                     uint32_t row, struct vmm_text_screen *s)
{
    const struct vga_registers *r = &v->r;
    uint32_t cursor = (uint32_t)r->cr[0xe] << 8 | r->cr[0xf];
    for (uint32_t x = 0; x < s->columns; x++, counter++) {
        uint64_t at = (uint64_t)vga_fetch_address(r, counter, 0) * 4;
        uint8_t attribute = v->vram[at + 1];
        struct vmm_text_cell *cell = &s->cells[(size_t)row * s->columns + x];
        cell->character = unicode(v->vram[at]);
        cell->foreground = colours[attribute & 0xf];
        cell->background = colours[attribute >> 4 & (r->ar[0x10] & 8 ? 7 : 15)];
        if ((counter & 0xffff) == cursor && !(r->cr[0xa] & 0x20)) {
            s->cursor_column = x;
            s->cursor_row = row;
        }
    }
}

static int fill(const struct vmm_vga *v, struct vmm_text_screen *s)
{
    struct vga_geometry g;
    uint32_t colours[16];
    vga_geometry(&v->r, &g);
    uint32_t lines = g.row_lines * g.doubling, counter = g.start;
    s->columns = g.columns;
    s->rows = g.height / lines;
    s->cursor_column = s->cursor_row = UINT32_MAX;
    if (!s->rows)
        return -ENODATA;
    s->cells = calloc((size_t)s->columns * s->rows, sizeof(*s->cells));
    if (!s->cells)
        return -ENOMEM;
    vga_attribute_colours(&v->r, colours);
    for (uint32_t row = 0; row < s->rows; row++) {
        fill_row(v, colours, counter, row, s);
        bool split = g.split >= row * lines && g.split < (row + 1) * lines;
        counter = split ? 0 : counter + g.offset;
    }
    return 0;
}

int vga_text(void *ctx, struct vmm_text_screen *screen)
{
    struct vmm_vga *v = ctx;
    int rc = -ENODATA;
    vmm_device_lock(v->device);
    if (vga_is_text(&v->r) && (v->r.ar_index & 0x20))
        rc = fill(v, screen);
    vmm_device_unlock(v->device);
    return rc;
}
