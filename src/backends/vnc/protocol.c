/* SPDX-License-Identifier: BSD-3-Clause */
/* RFB: the handshake, what clients say, and updates (RFC 6143 §7). */
#include "backends/vnc/internal.h"

#include <linux/input-event-codes.h>
#include <sys/random.h>

#define VERSION       "RFB 003.008\n"
#define SECURITY_NONE 1u
#define SECURITY_VNC  2u
#define CUT_TEXT_MAX  (16u << 20)
#define ENCODINGS_MAX 256u

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

/* Handshake ------------------------------------------------------------------------------------ */

void vnc_greet(struct vnc_client *c)
{
    c->state = VNC_VERSION;
    vnc_put(&c->message, VERSION, 12);
    vnc_send(c);
}

static void challenge(struct vnc_client *c)
{
    c->state = VNC_PASSWORD;
    if (getrandom(c->challenge, sizeof(c->challenge), 0) != (ssize_t)sizeof(c->challenge))
        c->message.failed = true;
    vnc_put(&c->message, c->challenge, sizeof(c->challenge));
}

static long take_version(struct vnc_client *c, const uint8_t *data, size_t length)
{
    if (length < 12)
        return 0;
    if (memcmp(data, "RFB 003.00", 10) != 0 || data[11] != '\n')
        return -1;
    uint32_t type = c->vnc->has_password ? SECURITY_VNC : SECURITY_NONE;
    c->minor = data[10] >= '8' ? 8 : data[10] == '7' ? 7 : 3;
    if (c->minor == 3) { /* the server decides */
        vnc_put32(&c->message, type);
        if (type == SECURITY_VNC)
            challenge(c);
        else
            c->state = VNC_INIT;
    } else {
        vnc_put8(&c->message, 1);
        vnc_put8(&c->message, type);
        c->state = VNC_SECURITY;
    }
    vnc_send(c);
    return 12;
}

static long take_security(struct vnc_client *c, const uint8_t *data)
{
    uint32_t type = c->vnc->has_password ? SECURITY_VNC : SECURITY_NONE;
    if (data[0] != type)
        return -1;
    if (type == SECURITY_VNC) {
        challenge(c);
    } else {
        c->state = VNC_INIT;
        if (c->minor >= 8) /* §7.1.3 */
            vnc_put32(&c->message, 0);
    }
    vnc_send(c);
    return 1;
}

static long take_password(struct vnc_client *c, const uint8_t *data, size_t length)
{
    static const char text[] = "the password is another one";
    uint8_t expected[16], differs = 0;
    if (length < 16)
        return 0;
    if (vnc_encrypt(c->vnc->password, c->challenge, expected))
        return -1;
    for (uint32_t i = 0; i < 16; i++)
        differs |= expected[i] ^ data[i];
    vnc_put32(&c->message, differs ? 1 : 0);
    if (differs && c->minor >= 8) {
        vnc_put32(&c->message, sizeof(text) - 1);
        vnc_put(&c->message, text, sizeof(text) - 1);
    }
    c->state = differs ? VNC_CLOSING : VNC_INIT;
    vnc_send(c);
    return 16;
}

static int note_size(void *ctx, const struct vmm_surface *s)
{
    struct vnc_client *c = ctx;
    c->width = s->width;
    c->height = s->height;
    return 0;
}

static long take_init(struct vnc_client *c)
{
    static const uint8_t format[16] = {32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
    c->width = 640;
    c->height = 480;
    vmm_display_refresh(c->vnc->display);
    (void)vmm_display_read(c->vnc->display, note_size, c);
    c->format = (struct vnc_format){4, false, {255, 255, 255}, {16, 8, 0}};
    c->state = VNC_NORMAL;
    vnc_put16(&c->message, c->width);
    vnc_put16(&c->message, c->height);
    vnc_put(&c->message, format, sizeof(format));
    vnc_put32(&c->message, (uint32_t)strlen(c->vnc->name));
    vnc_put(&c->message, c->vnc->name, strlen(c->vnc->name));
    vnc_send(c);
    return 1;
}

/* What clients say ----------------------------------------------------------------------------- */

/* §7.5.1. Colour maps are not offered: every client knows true colour. */
static long set_format(struct vnc_client *c, const uint8_t *p)
{
    struct vnc_format f = {.bytes = p[4] / 8u, .big_endian = p[6]};
    if ((p[4] != 8 && p[4] != 16 && p[4] != 32) || !p[7])
        return -1;
    for (uint32_t i = 0; i < 3; i++) {
        f.max[i] = be16(p + 8 + 2 * i);
        f.shift[i] = p[14 + i];
        if (f.shift[i] >= p[4] || (uint64_t)f.max[i] << f.shift[i] > UINT32_MAX >> (32 - p[4]))
            return -1;
    }
    c->format = f;
    return 20;
}

static bool is_known(int32_t encoding)
{
#ifdef HAVE_ZLIB
    if (encoding == RFB_ZLIB)
        return true;
#endif
    return encoding == RFB_RAW || encoding == RFB_HEXTILE;
}

/* The first that we know is the one. */
static long set_encodings(struct vnc_client *c, const uint8_t *p, size_t length)
{
    uint32_t count = length < 4 ? 0 : be16(p + 2);
    bool chosen = false;
    if (length < 4 || (count <= ENCODINGS_MAX && length < 4 + 4 * (size_t)count))
        return 0;
    if (count > ENCODINGS_MAX)
        return -1;
    c->encoding = RFB_RAW;
    c->can_resize = c->qemu_keys = false;
    for (uint32_t i = 0; i < count; i++) {
        int32_t encoding = (int32_t)be32(p + 4 + 4 * (size_t)i);
        c->can_resize |= encoding == RFB_RESIZE;
        c->qemu_keys |= encoding == RFB_QEMU_KEY;
        if (!chosen && is_known(encoding)) {
            c->encoding = encoding;
            chosen = true;
        }
    }
    return 4 + 4 * (long)count;
}

static long request_update(struct vnc_client *c, const uint8_t *p)
{
    c->requested = true;
    c->full = c->full || !p[1];
    vmm_watcher_pause(c->watcher, false);
    if (c->full)
        vnc_update(c);
    return 10;
}

static void press(struct vnc_client *c, uint32_t bit, uint32_t buttons, uint32_t code)
{
    if ((c->buttons ^ buttons) & bit)
        vmm_seat_key(c->vnc->input, code, buttons & bit);
}

static long pointer(struct vnc_client *c, const uint8_t *p)
{
    uint32_t buttons = p[1], pressed = buttons & ~c->buttons;
    if (!c->vnc->input)
        return 6;
    vmm_seat_absolute(c->vnc->input, be16(p + 2), be16(p + 4), c->width, c->height);
    press(c, 1, buttons, BTN_LEFT);
    press(c, 2, buttons, BTN_MIDDLE);
    press(c, 4, buttons, BTN_RIGHT);
    if (pressed & 0x78) /* buttons 4 to 7 are the wheels */
        vmm_seat_wheel(c->vnc->input, (int)(pressed >> 3 & 1) - (int)(pressed >> 4 & 1),
                       (int)(pressed >> 6 & 1) - (int)(pressed >> 5 & 1));
    c->buttons = buttons;
    return 6;
}

/* Codes of QEMU's extended key event: those of set 1, with 0x80 for the prefix e0. Linux took most of its
 * own from set 1 as it is. */
static uint32_t code_of(uint32_t scan)
{
    static const struct {
        uint8_t scan, code;
    } extended[] = {
        {0x9c, KEY_KPENTER},    {0x9d, KEY_RIGHTCTRL}, {0xb5, KEY_KPSLASH}, {0xb7, KEY_SYSRQ},
        {0xb8, KEY_RIGHTALT},   {0xc6, KEY_PAUSE},     {0xc7, KEY_HOME},    {0xc8, KEY_UP},
        {0xc9, KEY_PAGEUP},     {0xcb, KEY_LEFT},      {0xcd, KEY_RIGHT},   {0xcf, KEY_END},
        {0xd0, KEY_DOWN},       {0xd1, KEY_PAGEDOWN},  {0xd2, KEY_INSERT},  {0xd3, KEY_DELETE},
        {0xdb, KEY_LEFTMETA},   {0xdc, KEY_RIGHTMETA}, {0xdd, KEY_COMPOSE}, {0xa0, KEY_MUTE},
        {0xae, KEY_VOLUMEDOWN}, {0xb0, KEY_VOLUMEUP},  {0xde, KEY_POWER}};
    if (scan < 0x59)
        return scan;
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(extended); i++)
        if (extended[i].scan == scan)
            return extended[i].code;
    return KEY_RESERVED;
}

static long key(struct vnc_client *c, const uint8_t *p)
{
    if (c->vnc->input)
        (void)vmm_seat_keysym(c->vnc->input, be32(p + 4), p[1]);
    return 8;
}

static long qemu_key(struct vnc_client *c, const uint8_t *p)
{
    uint32_t code = code_of(be32(p + 8));
    if (p[1] != 0)
        return -1;
    if (!c->vnc->input)
        return 12;
    if (code != KEY_RESERVED)
        vmm_seat_key(c->vnc->input, code, be16(p + 2));
    else
        (void)vmm_seat_keysym(c->vnc->input, be32(p + 4), be16(p + 2));
    return 12;
}

static long cut_text(struct vnc_client *c, const uint8_t *p)
{
    if (be32(p + 4) > CUT_TEXT_MAX)
        return -1;
    c->skip = be32(p + 4);
    return 8;
}

static long normal(struct vnc_client *c, const uint8_t *p, size_t length)
{
    static const struct {
        uint8_t type, length;
        long (*take)(struct vnc_client *c, const uint8_t *p);
    } messages[] = {{0, 20, set_format}, {3, 10, request_update}, {4, 8, key},
                    {5, 6, pointer},     {6, 8, cut_text},        {255, 12, qemu_key}};
    if (p[0] == 2)
        return set_encodings(c, p, length);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(messages); i++)
        if (messages[i].type == p[0])
            return length < messages[i].length ? 0 : messages[i].take(c, p);
    return -1;
}

long vnc_message(struct vnc_client *c, const uint8_t *data, size_t length)
{
    switch (c->state) {
    case VNC_VERSION:
        return take_version(c, data, length);
    case VNC_SECURITY:
        return take_security(c, data);
    case VNC_PASSWORD:
        return take_password(c, data, length);
    case VNC_INIT:
        return take_init(c);
    case VNC_NORMAL:
        return normal(c, data, length);
    default:
        return (long)length;
    }
}

/* Updates -------------------------------------------------------------------------------------- */

static void put_head(struct vnc_client *c, uint32_t count)
{
    vnc_put16(&c->message, 0); /* FramebufferUpdate */
    vnc_put16(&c->message, count);
}

static void put_pseudo(struct vnc_client *c, uint32_t width, uint32_t height, int32_t encoding)
{
    vnc_put32(&c->message, 0);
    vnc_put16(&c->message, width);
    vnc_put16(&c->message, height);
    vnc_put32(&c->message, (uint32_t)encoding);
}

/* Clients that cannot change their size see the part that fits. */
static uint32_t cut(const struct vnc_client *c, const struct vmm_rect *rects, uint32_t count,
                    struct vmm_rect *to)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct vmm_rect r = rects[i];
        if (r.x >= c->width || r.y >= c->height)
            continue;
        r.width = r.width < c->width - r.x ? r.width : c->width - r.x;
        r.height = r.height < c->height - r.y ? r.height : c->height - r.y;
        to[kept++] = r;
    }
    return kept;
}

static int put_update(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects,
                      uint32_t count)
{
    struct vnc_client *c = ctx;
    struct vmm_rect kept[VMM_WATCHER_RECTS];
    bool resized = c->can_resize && (s->width != c->width || s->height != c->height);
    bool tell = c->qemu_keys && !c->qemu_keys_told;
    if (resized) {
        c->width = s->width;
        c->height = s->height;
    }
    count = cut(c, rects, count, kept);
    if (!count && !resized && !tell)
        return 0;
    put_head(c, count + resized + tell);
    if (resized)
        put_pseudo(c, s->width, s->height, RFB_RESIZE);
    if (tell)
        put_pseudo(c, 0, 0, RFB_QEMU_KEY);
    c->qemu_keys_told |= tell;
    for (uint32_t i = 0; i < count; i++)
        vnc_encode(c, s, &kept[i]);
    return 0;
}

static int forget(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects,
                  uint32_t count)
{
    (void)ctx;
    (void)s;
    (void)rects;
    (void)count;
    return 0;
}

static int put_all(void *ctx, const struct vmm_surface *s)
{
    const struct vmm_rect all = {0, 0, s->width, s->height};
    return put_update(ctx, s, &all, 1);
}

/* Nothing new is put together while the last update is still on its way. */
void vnc_update(struct vnc_client *c)
{
    if (!c->requested || c->out.length)
        return;
    if (c->full) {
        (void)vmm_watcher_take(c->watcher, forget, NULL);
        (void)vmm_display_read(c->vnc->display, put_all, c);
    } else {
        (void)vmm_watcher_take(c->watcher, put_update, c);
    }
    if (!c->message.length)
        return;
    c->requested = c->full = false;
    vmm_watcher_pause(c->watcher, true);
    vnc_send(c);
}
