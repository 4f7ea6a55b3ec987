/* SPDX-License-Identifier: BSD-3-Clause */
/* Pixels and rectangles as clients want them (RFC 6143 §7.4, §7.7). */
#include "backends/vnc/internal.h"

#include <stdlib.h>

#define TILE 16u

/* Buffers -------------------------------------------------------------------------------------- */

static bool reserve(struct vnc_buffer *b, size_t more)
{
    if (b->room - b->length >= more)
        return true;
    size_t room = (b->length + more) * 3 / 2 + 256;
    uint8_t *data = realloc(b->data, room);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->room = room;
    return true;
}

void vnc_put(struct vnc_buffer *b, const void *data, size_t length)
{
    if (length && reserve(b, length)) {
        memcpy(b->data + b->length, data, length);
        b->length += length;
    }
}

void vnc_put8(struct vnc_buffer *b, uint32_t value)
{
    const uint8_t byte = (uint8_t)value;
    vnc_put(b, &byte, 1);
}

void vnc_put16(struct vnc_buffer *b, uint32_t value)
{
    const uint16_t word = htobe16((uint16_t)value);
    vnc_put(b, &word, 2);
}

void vnc_put32(struct vnc_buffer *b, uint32_t value)
{
    const uint32_t word = htobe32(value);
    vnc_put(b, &word, 4);
}

/* Pixels --------------------------------------------------------------------------------------- */

static uint32_t convert(const struct vnc_format *f, uint32_t pixel)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < 3; i++)
        value |= ((pixel >> (16 - 8 * i) & 255) * f->max[i] + 127) / 255 << f->shift[i];
    return value;
}

static void put_pixel(struct vnc_buffer *b, const struct vnc_format *f, uint32_t pixel)
{
    uint32_t value = convert(f, pixel);
    uint8_t bytes[4];
    for (uint32_t i = 0; i < f->bytes; i++)
        bytes[i] = (uint8_t)(value >> 8 * (f->big_endian ? f->bytes - 1 - i : i));
    vnc_put(b, bytes, f->bytes);
}

/* Our own format needs no arithmetic. */
static bool is_native(const struct vnc_format *f)
{
    return f->bytes == 4 && !f->big_endian && f->max[0] == 255 && f->max[1] == 255 &&
           f->max[2] == 255 && f->shift[0] == 16 && f->shift[1] == 8 && f->shift[2] == 0 &&
           __BYTE_ORDER == __LITTLE_ENDIAN;
}

static void put_row(struct vnc_buffer *b, const struct vnc_format *f, const uint32_t *row,
                    uint32_t width)
{
    if (is_native(f)) {
        vnc_put(b, row, (size_t)width * 4);
        return;
    }
    for (uint32_t x = 0; x < width; x++)
        put_pixel(b, f, row[x]);
}

static void put_raw(struct vnc_buffer *b, const struct vnc_format *f, const struct vmm_surface *s,
                    const struct vmm_rect *r)
{
    uint32_t row[VMM_DISPLAY_MAX];
    for (uint32_t y = 0; y < r->height; y++) {
        vmm_surface_row(s, r->x, r->y + y, r->width, row);
        put_row(b, f, row, r->width);
    }
}

/* Hextile -------------------------------------------------------------------------------------- */

struct tile {
    uint32_t width, height;
    uint32_t pixels[TILE * TILE];
};

/* A tile of two colours: the runs of the second on the first, one line high. */
static bool put_two_colours(struct vnc_buffer *b, const struct vnc_format *f, const struct tile *t)
{
    uint32_t back = t->pixels[0], front = back, runs = 0, n = t->width * t->height;
    uint8_t at[TILE * TILE][2];
    for (uint32_t i = 0; i < n; i++) {
        if (t->pixels[i] == back)
            continue;
        if (front == back)
            front = t->pixels[i];
        if (t->pixels[i] != front)
            return false;
        uint32_t x = i % t->width, y = i / t->width;
        if (x && t->pixels[i - 1] == front) { /* the run goes on */
            at[runs - 1][1] = (uint8_t)(at[runs - 1][1] + 16);
        } else {
            at[runs][0] = (uint8_t)(x << 4 | y);
            at[runs++][1] = 0;
        }
    }
    if (runs > 255 || runs * 2 + 2 * f->bytes + 2 >= n * f->bytes)
        return false;
    vnc_put8(b, runs ? 2 | 4 | 8 : 2); /* background, foreground, any subrectangles */
    put_pixel(b, f, back);
    if (runs) {
        put_pixel(b, f, front);
        vnc_put8(b, runs);
        vnc_put(b, at, (size_t)runs * 2);
    }
    return true;
}

static void put_tile(struct vnc_buffer *b, const struct vnc_format *f, const struct tile *t)
{
    if (put_two_colours(b, f, t))
        return;
    vnc_put8(b, 1); /* raw */
    put_row(b, f, t->pixels, t->width * t->height);
}

static void put_hextile(struct vnc_client *c, const struct vmm_surface *s, const struct vmm_rect *r)
{
    struct tile t;
    for (uint32_t y = 0; y < r->height; y += TILE)
        for (uint32_t x = 0; x < r->width; x += TILE) {
            t.width = r->width - x < TILE ? r->width - x : TILE;
            t.height = r->height - y < TILE ? r->height - y : TILE;
            for (uint32_t i = 0; i < t.height; i++)
                vmm_surface_row(s, r->x + x, r->y + y + i, t.width, t.pixels + i * t.width);
            for (uint32_t i = 0; i < t.width * t.height; i++)
                t.pixels[i] &= 0xffffff;
            put_tile(&c->message, &c->format, &t);
        }
}

/* Zlib ----------------------------------------------------------------------------------------- */

#ifdef HAVE_ZLIB
/* One stream for as long as the client is there; its length goes before each piece. */
static void put_zlib(struct vnc_client *c, const struct vmm_surface *s, const struct vmm_rect *r)
{
    struct vnc_buffer raw = {0}, *b = &c->message;
    put_raw(&raw, &c->format, s, r);
    if (!c->zlib_ready && deflateInit(&c->zlib, 1) != Z_OK)
        b->failed = true;
    c->zlib_ready = !b->failed;
    size_t bound = b->failed ? 0 : deflateBound(&c->zlib, raw.length) + 64;
    size_t head = b->length;
    vnc_put32(b, 0);
    if (!raw.failed && !b->failed && reserve(b, bound)) {
        c->zlib.next_in = raw.data;
        c->zlib.avail_in = (uInt)raw.length;
        c->zlib.next_out = b->data + b->length;
        c->zlib.avail_out = (uInt)bound;
        b->failed = deflate(&c->zlib, Z_SYNC_FLUSH) != Z_OK || c->zlib.avail_in;
        size_t n = bound - c->zlib.avail_out;
        const uint32_t length = htobe32((uint32_t)n);
        memcpy(b->data + head, &length, 4);
        b->length += n;
    }
    b->failed = b->failed || raw.failed;
    free(raw.data);
}
#endif

void vnc_encode_end(struct vnc_client *c)
{
#ifdef HAVE_ZLIB
    if (c->zlib_ready)
        (void)deflateEnd(&c->zlib);
    c->zlib_ready = false;
#endif
    (void)c;
}

void vnc_encode(struct vnc_client *c, const struct vmm_surface *s, const struct vmm_rect *r)
{
    vnc_put16(&c->message, r->x);
    vnc_put16(&c->message, r->y);
    vnc_put16(&c->message, r->width);
    vnc_put16(&c->message, r->height);
    vnc_put32(&c->message, (uint32_t)c->encoding);
    if (c->encoding == RFB_HEXTILE)
        put_hextile(c, s, r);
#ifdef HAVE_ZLIB
    else if (c->encoding == RFB_ZLIB)
        put_zlib(c, s, r);
#endif
    else
        put_raw(&c->message, &c->format, s, r);
}
