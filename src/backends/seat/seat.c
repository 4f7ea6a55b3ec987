/* SPDX-License-Identifier: BSD-3-Clause */
/* From those who have keys and pointers to the devices that listen. */
#include "base/util.h"

#include <libvmm/seat.h>

#include <linux/input-event-codes.h>
#include <pthread.h>
#include <stdlib.h>

struct vmm_seat {
    uint32_t refs; /* atomic */
    pthread_mutex_t lock;
    struct listener {
        struct vmm_seat_ops ops;
        void *ctx;
    } listeners[VMM_SEAT_DEVICES];
    uint32_t count;
    bool placed; /* the pointer has been somewhere */
    uint32_t x, y;
};

int vmm_seat_new(struct vmm_seat **out)
{
    struct vmm_seat *i = calloc(1, sizeof(*i));
    if (!i)
        return -ENOMEM;
    i->refs = 1;
    pthread_mutex_init(&i->lock, NULL);
    *out = i;
    return 0;
}

struct vmm_seat *vmm_seat_ref(struct vmm_seat *i)
{
    if (i)
        __atomic_fetch_add(&i->refs, 1, __ATOMIC_RELAXED);
    return i;
}

struct vmm_seat *vmm_seat_unref(struct vmm_seat *i)
{
    if (i && __atomic_sub_fetch(&i->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        pthread_mutex_destroy(&i->lock);
        free(i);
    }
    return NULL;
}

int vmm_seat_attach(struct vmm_seat *i, const struct vmm_seat_ops *given, void *ctx)
{
    struct vmm_seat_ops ops;
    int rc = vmm_options_copy(&ops, sizeof(ops), given);
    if (rc)
        return rc;
    pthread_mutex_lock(&i->lock);
    if (i->count == VMM_SEAT_DEVICES)
        rc = -ENOSPC;
    else
        i->listeners[i->count++] = (struct listener){ops, ctx};
    pthread_mutex_unlock(&i->lock);
    return rc;
}

void vmm_seat_detach(struct vmm_seat *i, const void *ctx)
{
    pthread_mutex_lock(&i->lock);
    uint32_t kept = 0;
    for (uint32_t k = 0; k < i->count; k++)
        if (i->listeners[k].ctx != ctx)
            i->listeners[kept++] = i->listeners[k];
    i->count = kept;
    pthread_mutex_unlock(&i->lock);
}

#define EACH(i, callback, ...)                                                                     \
    for (uint32_t k_ = 0; k_ < (i)->count; k_++)                                                   \
        if ((i)->listeners[k_].ops.callback)                                                       \
    (i)->listeners[k_].ops.callback((i)->listeners[k_].ctx, __VA_ARGS__)

void vmm_seat_key(struct vmm_seat *i, uint32_t code, bool down)
{
    pthread_mutex_lock(&i->lock);
    EACH(i, key, code, down);
    pthread_mutex_unlock(&i->lock);
}

void vmm_seat_absolute(struct vmm_seat *i, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
    if (!width || !height)
        return;
    x = x < width ? x : width - 1;
    y = y < height ? y : height - 1;
    uint32_t across = width > 1 ? (uint32_t)((uint64_t)x * VMM_POINTER_MAX / (width - 1)) : 0;
    uint32_t down = height > 1 ? (uint32_t)((uint64_t)y * VMM_POINTER_MAX / (height - 1)) : 0;
    pthread_mutex_lock(&i->lock);
    int32_t dx = (int32_t)(x - i->x), dy = (int32_t)(y - i->y);
    bool moved = i->placed && (dx || dy);
    i->placed = true;
    i->x = x;
    i->y = y;
    EACH(i, absolute, across, down);
    if (moved)
        EACH(i, relative, dx, dy);
    pthread_mutex_unlock(&i->lock);
}

void vmm_seat_relative(struct vmm_seat *i, int32_t dx, int32_t dy)
{
    pthread_mutex_lock(&i->lock);
    EACH(i, relative, dx, dy);
    pthread_mutex_unlock(&i->lock);
}

void vmm_seat_wheel(struct vmm_seat *i, int32_t vertical, int32_t horizontal)
{
    pthread_mutex_lock(&i->lock);
    EACH(i, wheel, vertical, horizontal);
    pthread_mutex_unlock(&i->lock);
}

/* Symbols -------------------------------------------------------------------------------------- */

/* ASCII from the blank on; with 0x80 the key needs shift. */
#define S 0x80u
static const uint8_t ascii[95] = {
    KEY_SPACE,
    S | KEY_1,
    S | KEY_APOSTROPHE,
    S | KEY_3,
    S | KEY_4,
    S | KEY_5,
    S | KEY_7,
    KEY_APOSTROPHE,
    S | KEY_9,
    S | KEY_0,
    S | KEY_8,
    S | KEY_EQUAL,
    KEY_COMMA,
    KEY_MINUS,
    KEY_DOT,
    KEY_SLASH,
    KEY_0,
    KEY_1,
    KEY_2,
    KEY_3,
    KEY_4,
    KEY_5,
    KEY_6,
    KEY_7,
    KEY_8,
    KEY_9,
    S | KEY_SEMICOLON,
    KEY_SEMICOLON,
    S | KEY_COMMA,
    KEY_EQUAL,
    S | KEY_DOT,
    S | KEY_SLASH,
    S | KEY_2,
    S | KEY_A,
    S | KEY_B,
    S | KEY_C,
    S | KEY_D,
    S | KEY_E,
    S | KEY_F,
    S | KEY_G,
    S | KEY_H,
    S | KEY_I,
    S | KEY_J,
    S | KEY_K,
    S | KEY_L,
    S | KEY_M,
    S | KEY_N,
    S | KEY_O,
    S | KEY_P,
    S | KEY_Q,
    S | KEY_R,
    S | KEY_S,
    S | KEY_T,
    S | KEY_U,
    S | KEY_V,
    S | KEY_W,
    S | KEY_X,
    S | KEY_Y,
    S | KEY_Z,
    KEY_LEFTBRACE,
    KEY_BACKSLASH,
    KEY_RIGHTBRACE,
    S | KEY_6,
    S | KEY_MINUS,
    KEY_GRAVE,
    KEY_A,
    KEY_B,
    KEY_C,
    KEY_D,
    KEY_E,
    KEY_F,
    KEY_G,
    KEY_H,
    KEY_I,
    KEY_J,
    KEY_K,
    KEY_L,
    KEY_M,
    KEY_N,
    KEY_O,
    KEY_P,
    KEY_Q,
    KEY_R,
    KEY_S,
    KEY_T,
    KEY_U,
    KEY_V,
    KEY_W,
    KEY_X,
    KEY_Y,
    KEY_Z,
    S | KEY_LEFTBRACE,
    S | KEY_BACKSLASH,
    S | KEY_RIGHTBRACE,
    S | KEY_GRAVE,
};

static const struct {
    uint16_t keysym, code;
} symbols[] = {
    {0xff08, KEY_BACKSPACE}, {0xff09, KEY_TAB},        {0xff0d, KEY_ENTER},
    {0xff13, KEY_PAUSE},     {0xff14, KEY_SCROLLLOCK}, {0xff15, KEY_SYSRQ},
    {0xff1b, KEY_ESC},       {0xff50, KEY_HOME},       {0xff51, KEY_LEFT},
    {0xff52, KEY_UP},        {0xff53, KEY_RIGHT},      {0xff54, KEY_DOWN},
    {0xff55, KEY_PAGEUP},    {0xff56, KEY_PAGEDOWN},   {0xff57, KEY_END},
    {0xff61, KEY_SYSRQ},     {0xff63, KEY_INSERT},     {0xff67, KEY_COMPOSE},
    {0xff7f, KEY_NUMLOCK},   {0xff8d, KEY_KPENTER},    {0xff95, KEY_KP7},
    {0xff96, KEY_KP4},       {0xff97, KEY_KP8},        {0xff98, KEY_KP6},
    {0xff99, KEY_KP2},       {0xff9a, KEY_KP9},        {0xff9b, KEY_KP3},
    {0xff9c, KEY_KP1},       {0xff9d, KEY_KP5},        {0xff9e, KEY_KP0},
    {0xff9f, KEY_KPDOT},     {0xffaa, KEY_KPASTERISK}, {0xffab, KEY_KPPLUS},
    {0xffad, KEY_KPMINUS},   {0xffae, KEY_KPDOT},      {0xffaf, KEY_KPSLASH},
    {0xffb0, KEY_KP0},       {0xffb1, KEY_KP1},        {0xffb2, KEY_KP2},
    {0xffb3, KEY_KP3},       {0xffb4, KEY_KP4},        {0xffb5, KEY_KP5},
    {0xffb6, KEY_KP6},       {0xffb7, KEY_KP7},        {0xffb8, KEY_KP8},
    {0xffb9, KEY_KP9},       {0xffc8, KEY_F11},        {0xffc9, KEY_F12},
    {0xffe1, KEY_LEFTSHIFT}, {0xffe2, KEY_RIGHTSHIFT}, {0xffe3, KEY_LEFTCTRL},
    {0xffe4, KEY_RIGHTCTRL}, {0xffe5, KEY_CAPSLOCK},   {0xffe7, KEY_LEFTMETA},
    {0xffe8, KEY_RIGHTMETA}, {0xffe9, KEY_LEFTALT},    {0xffea, KEY_RIGHTALT},
    {0xffeb, KEY_LEFTMETA},  {0xffec, KEY_RIGHTMETA},  {0xffff, KEY_DELETE},
    {0xfe03, KEY_RIGHTALT},  {0xfe20, KEY_TAB},
};

static uint32_t code_of(uint32_t keysym)
{
    if (keysym >= 0x20 && keysym < 0x7f)
        return ascii[keysym - 0x20] & ~S;
    if (keysym >= 0xffbe && keysym <= 0xffc7)
        return KEY_F1 + keysym - 0xffbe;
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(symbols); i++)
        if (symbols[i].keysym == keysym)
            return symbols[i].code;
    return KEY_RESERVED;
}

int vmm_seat_keysym(struct vmm_seat *i, uint32_t keysym, bool down)
{
    uint32_t code = code_of(keysym);
    if (code == KEY_RESERVED)
        return -ENOENT;
    vmm_seat_key(i, code, down);
    return 0;
}

static uint32_t key_for(char c)
{
    if (c >= 0x20 && c < 0x7f)
        return ascii[c - 0x20];
    return c == '\n' ? KEY_ENTER : c == '\t' ? KEY_TAB : KEY_RESERVED;
}

int vmm_seat_text(struct vmm_seat *i, const char *text)
{
    for (const char *p = text; *p; p++)
        if (key_for(*p) == KEY_RESERVED)
            return -EINVAL;
    for (const char *p = text; *p; p++) {
        uint32_t key = key_for(*p);
        if (key & S)
            vmm_seat_key(i, KEY_LEFTSHIFT, true);
        vmm_seat_key(i, key & ~S, true);
        vmm_seat_key(i, key & ~S, false);
        if (key & S)
            vmm_seat_key(i, KEY_LEFTSHIFT, false);
    }
    return 0;
}
