/* SPDX-License-Identifier: BSD-3-Clause */
/* Text and planar modes: scan line by scan line, as the CRTC goes. */
#include "devices/vga/internal.h"

#define LINE_MAX_ ((256u + 1u) * 18u) /* columns and one more for panning, of doubled nine dots */

struct screen {
    const struct vmm_vga *v;
    const struct vga_registers *r;
    struct vga_geometry g;
    uint32_t colours[16];
    uint32_t dac[256]; /* of 256-colour modes */
    bool hide_blinking;
    uint32_t line[LINE_MAX_];
};

/* Output --------------------------------------------------------------------------------------- */

void vga_flush(struct vga_output *o)
{
    if (o->bottom)
        vmm_display_damage(o->display, o->left, o->top, o->right - o->left, o->bottom - o->top);
    o->bottom = 0;
}

void vga_put_line(struct vga_output *o, uint32_t y, const uint32_t *line)
{
    uint32_t *to = (uint32_t *)(void *)(o->canvas.data + (size_t)y * o->canvas.stride);
    uint32_t left = 0, right = o->width;
    if (memcmp(to, line, (size_t)o->width * 4) == 0)
        return;
    while (left < right && to[left] == line[left])
        left++;
    while (right > left && to[right - 1] == line[right - 1])
        right--;
    memcpy(to + left, line + left, (size_t)(right - left) * 4);
    if (!o->bottom) {
        o->top = y;
        o->left = left;
        o->right = right;
    }
    o->left = left < o->left ? left : o->left;
    o->right = right > o->right ? right : o->right;
    o->bottom = y + 1;
}

/* Text ----------------------------------------------------------------------------------------- */

/* Where in plane 2 a character's shape is: attribute bit 3 chooses between two fonts (SR3). */
static uint32_t font_of(const struct vga_registers *r, uint8_t attribute)
{
    uint32_t sr3 = r->sr[3];
    uint32_t font =
        attribute & 8 ? (sr3 >> 2 & 3) | (sr3 >> 5 & 1) << 2 : (sr3 & 3) | (sr3 >> 4 & 1) << 2;
    return (font & 3) * 0x4000 + (font >> 2) * 0x2000;
}

static bool cursor_covers(const struct vga_registers *r, uint32_t counter, uint32_t row)
{
    uint32_t at = (uint32_t)r->cr[0xe] << 8 | r->cr[0xf];
    return (counter & 0xffff) == at && !(r->cr[0xa] & 0x20) && row >= (r->cr[0xa] & 0x1fu) &&
           row <= (r->cr[0xb] & 0x1fu);
}

/* The dots of a row of a character: bit 8 is the leftmost of nine. */
static uint32_t shape(const struct screen *s, uint8_t character, uint8_t attribute, uint32_t row)
{
    const struct vga_registers *r = s->r;
    uint32_t word = font_of(r, attribute) + character * 32u + row;
    uint32_t bits = (uint32_t)s->v->vram[(uint64_t)word * 4 + 2] << 1;
    if ((r->ar[0x10] & 4) && character >= 0xc0 && character < 0xe0)
        bits |= bits >> 1 & 1; /* line graphics reach into the ninth dot */
    if ((r->ar[0x10] & 2) && (attribute & 7) == 1 && row == (r->cr[0x14] & 0x1fu))
        bits = 0x1ff; /* underlined, in monochrome modes */
    return bits;
}

static void text_cell(const struct screen *s, uint32_t counter, uint32_t row, uint32_t *to)
{
    const struct vga_registers *r = s->r;
    uint64_t at = (uint64_t)vga_fetch_address(r, counter, row) * 4;
    uint8_t character = s->v->vram[at], attribute = s->v->vram[at + 1];
    uint32_t bits = shape(s, character, attribute, row);
    bool blinks = r->ar[0x10] & 8;
    uint32_t front = s->colours[attribute & 0xf];
    uint32_t back = s->colours[attribute >> 4 & (blinks ? 7 : 15)];
    if (blinks && (attribute & 0x80) && s->hide_blinking)
        bits = 0;
    if (!s->hide_blinking && cursor_covers(r, counter, row))
        bits = 0x1ff;
    uint32_t twice = s->g.dots >= 16 ? 2 : 1;
    for (uint32_t i = 0; i < s->g.dots; i++)
        to[i] = bits >> (8 - i / twice) & 1 ? front : back;
}

/* Graphics ------------------------------------------------------------------------------------- */

static void eight_dots(const struct screen *s, uint32_t word, uint32_t twice, uint32_t *to)
{
    const uint8_t *p = s->v->vram + (uint64_t)word * 4;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t dot;
        if (s->r->gr[5] & 0x40) { /* 256 colours: a byte of each plane, two dots wide */
            dot = s->dac[p[i / 2]];
        } else if (s->r->gr[5] & 0x20) { /* pairs of bits, as the CGA has them */
            uint32_t shift = 6 - 2 * (i & 3), odd = i / 4;
            dot = s->colours[(p[odd] >> shift & 3) | (p[odd + 2] >> shift & 3) << 2];
        } else {
            uint32_t shift = 7 - i;
            dot = s->colours[(p[0] >> shift & 1) | (p[1] >> shift & 1) << 1 |
                             (p[2] >> shift & 1) << 2 | (p[3] >> shift & 1) << 3];
        }
        for (uint32_t k = 0; k < twice; k++)
            *to++ = dot;
    }
}

/* Screens -------------------------------------------------------------------------------------- */

static void fetch_line(struct screen *s, uint32_t counter, uint32_t row)
{
    bool text = !(s->r->gr[6] & 1);
    for (uint32_t i = 0; i <= s->g.columns; i++) {
        uint32_t *to = s->line + (size_t)i * s->g.dots;
        if (text)
            text_cell(s, counter + i, row, to);
        else
            eight_dots(s, vga_fetch_address(s->r, counter + i, row), s->g.dots / 8, to);
    }
}

static void scan(struct screen *s, struct vga_output *o)
{
    const struct vga_geometry *g = &s->g;
    uint32_t counter = g->start, row = g->preset, repeat = 0, pan = g->pan;
    for (uint32_t y = 0; y < g->height; y++) {
        if (repeat == 0)
            fetch_line(s, counter, row);
        vga_put_line(o, y, s->line + pan);
        bool split = y == g->split;
        if (++repeat == g->doubling) {
            repeat = 0;
            row = (row + 1) & 0x1f;
        }
        if (row == g->row_lines && repeat == 0) {
            row = 0;
            counter += g->offset;
            vga_flush(o);
        }
        if (split) { /* the lower part begins at address 0 */
            counter = row = repeat = 0;
            pan = g->pan_split ? pan : 0;
        }
    }
    vga_flush(o);
}

/* A planar mode of DISPI. */
static void scan_planes(struct screen *s, const struct vga_linear *mode, struct vga_output *o)
{
    for (uint32_t y = 0; y < mode->height; y++) {
        uint32_t word = (uint32_t)(mode->start + y * mode->stride);
        for (uint32_t x = 0; x + 8 <= mode->width; x += 8)
            eight_dots(s, word + x / 8, 1, s->line + x);
        vga_put_line(o, y, s->line);
        if (y % 16 == 15)
            vga_flush(o);
    }
    vga_flush(o);
}

/* No picture: the screen is switched off, or a mode does not fit. It stays of its size, black. */
static void blank(struct vmm_vga *v, uint32_t width, uint32_t height)
{
    struct vmm_canvas c;
    if (vmm_display_begin(v->display, width, height, &c))
        return;
    for (uint32_t y = 0; y < height; y++)
        memset(c.data + (size_t)y * c.stride, 0, (size_t)width * 4);
    vmm_display_damage(v->display, 0, 0, width, height);
    vmm_display_end(v->display);
}

void vga_draw_screen(struct vmm_vga *v, const struct vga_registers *r)
{
    struct vga_linear mode = {.height = 0};
    struct screen s = {.v = v, .r = r, .hide_blinking = v->blink && v->blink_phase};
    struct vga_output o = {.display = v->display};
    bool dispi = vga_dispi_on(r);
    int rc = dispi ? vga_linear_mode(v, r, &mode) : 0;
    vga_geometry(r, &s.g);
    uint32_t height = dispi ? mode.height : s.g.height;
    o.width = dispi ? mode.width & ~7u : s.g.columns * s.g.dots;
    if (rc || !o.width || (!dispi && (!(r->ar_index & 0x20) || (r->sr[1] & 0x20)))) {
        if (rc || o.width <= 16) /* registers that nobody has set yet */
            blank(v, 640, 480);
        else
            blank(v, o.width, height);
        return;
    }
    vga_attribute_colours(r, s.colours);
    for (uint32_t i = 0; i < 256; i++)
        s.dac[i] = vga_dac_colour(r, (uint8_t)i);
    if (vmm_display_begin(v->display, o.width, height, &o.canvas))
        return;
    if (dispi)
        scan_planes(&s, &mode, &o);
    else
        scan(&s, &o);
    vmm_display_end(v->display);
}
