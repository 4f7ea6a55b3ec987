/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PS/2 keyboard and mouse (IBM PS/2 hardware interface technical reference, keyboards and mouse
 * sections; Microsoft's IntelliMouse protocol). Replies to commands go before keys and packets.
 */
#include "devices/legacy/ps2.h"
#include "base/util.h"

#include <linux/input-event-codes.h>

#define ACK    0xfau
#define RESEND 0xfeu
#define BAT_OK 0xaau
#define BREAK  0xf0u

/* Set 2 to set 1, as the controller's own table has it. The key codes of Linux up to KEY_F12 are those
 * of set 1, so this is where the keyboard's set 2 comes from too. */
static const uint8_t set2_to_set1[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};
#define SET1_F7 0x41u
#define SET2_F7 0x83u

uint8_t vmm_ps2_translate(uint8_t byte)
{
    if (byte < 128)
        return set2_to_set1[byte];
    return byte == SET2_F7 ? SET1_F7 : byte == 0x84 ? 0x54 : byte;
}

static uint8_t set2_of(uint8_t set1)
{
    for (uint32_t i = 0; i < 128; i++)
        if (set2_to_set1[i] == set1 && set1 != SET1_F7)
            return (uint8_t)i;
    return set1 == SET1_F7 ? SET2_F7 : 0;
}

/* Queues --------------------------------------------------------------------------------------- */

static void put(struct vmm_ps2_queue *q, uint8_t byte)
{
    if (q->count < PS2_QUEUE)
        q->data[q->count++] = byte;
}

static bool take(struct vmm_ps2_queue *q, uint8_t *byte)
{
    if (q->count == 0)
        return false;
    *byte = q->data[0];
    q->count--;
    memmove(q->data, q->data + 1, q->count);
    return true;
}

/* Keyboard ------------------------------------------------------------------------------------- */

/* Keys with the prefix 0xe0, and those whose code of set 1 is not Linux's. */
static const struct {
    uint8_t code, set1;
    bool extended;
} other_keys[] = {
    {KEY_RO, 0x73, false},        {KEY_HENKAN, 0x79, false},
    {KEY_MUHENKAN, 0x7b, false},  {KEY_KATAKANAHIRAGANA, 0x70, false},
    {KEY_YEN, 0x7d, false},       {KEY_KPENTER, 0x1c, true},
    {KEY_RIGHTCTRL, 0x1d, true},  {KEY_KPSLASH, 0x35, true},
    {KEY_RIGHTALT, 0x38, true},   {KEY_HOME, 0x47, true},
    {KEY_UP, 0x48, true},         {KEY_PAGEUP, 0x49, true},
    {KEY_LEFT, 0x4b, true},       {KEY_RIGHT, 0x4d, true},
    {KEY_END, 0x4f, true},        {KEY_DOWN, 0x50, true},
    {KEY_PAGEDOWN, 0x51, true},   {KEY_INSERT, 0x52, true},
    {KEY_DELETE, 0x53, true},     {KEY_MUTE, 0x20, true},
    {KEY_VOLUMEDOWN, 0x2e, true}, {KEY_VOLUMEUP, 0x30, true},
    {KEY_POWER, 0x5e, true},      {KEY_LEFTMETA, 0x5b, true},
    {KEY_RIGHTMETA, 0x5c, true},  {KEY_COMPOSE, 0x5d, true},
};

static void add_code(struct vmm_ps2_queue *q, uint8_t set, uint8_t set1, bool extended, bool down)
{
    if (extended)
        put(q, 0xe0);
    if (set == 1) {
        put(q, (uint8_t)(set1 | (down ? 0 : 0x80)));
        return;
    }
    if (!down)
        put(q, BREAK);
    put(q, set2_of(set1));
}

/* Print Screen comes with a shift key of its own; Pause has no release. */
static bool add_odd_key(struct vmm_ps2_queue *q, uint8_t set, uint32_t code, bool down)
{
    static const uint8_t pause[2][8] = {{0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5},
                                        {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77}};
    if (code == KEY_SYSRQ) {
        add_code(q, set, down ? 0x2a : 0x37, true, down);
        add_code(q, set, down ? 0x37 : 0x2a, true, down);
        return true;
    }
    for (uint32_t i = 0; code == KEY_PAUSE && down && i < (set == 1 ? 6u : 8u); i++)
        put(q, pause[set - 1][i]);
    return code == KEY_PAUSE;
}

static bool add_key(struct vmm_ps2_queue *q, uint8_t set, uint32_t code, bool down)
{
    if (add_odd_key(q, set, code, down))
        return true;
    if ((code >= KEY_ESC && code <= KEY_KPDOT) || (code >= KEY_102ND && code <= KEY_F12)) {
        add_code(q, set, (uint8_t)code, false, down);
        return true;
    }
    for (size_t i = 0; i < VMM_ARRAY_SIZE(other_keys); i++)
        if (other_keys[i].code == code) {
            add_code(q, set, other_keys[i].set1, other_keys[i].extended, down);
            return true;
        }
    return false;
}

int vmm_ps2_keyboard_key(struct vmm_ps2_keyboard *k, uint32_t code, bool down)
{
    struct vmm_ps2_queue bytes = {.count = 0};
    if (!add_key(&bytes, k->set, code, down))
        return -EINVAL;
    if (!k->scanning || bytes.count > PS2_QUEUE - k->keys.count)
        return -EAGAIN;
    for (uint32_t i = 0; i < bytes.count; i++)
        put(&k->keys, bytes.data[i]);
    return 0;
}

static void keyboard_defaults(struct vmm_ps2_keyboard *k)
{
    k->keys.count = 0;
    k->set = 2;
    k->leds = 0;
}

void vmm_ps2_keyboard_reset(struct vmm_ps2_keyboard *k)
{
    *k = (struct vmm_ps2_keyboard){.scanning = true};
    keyboard_defaults(k);
}

static void keyboard_argument(struct vmm_ps2_keyboard *k, uint8_t command, uint8_t byte)
{
    bool known = command != 0xf0 || byte <= 2;
    put(&k->reply, known ? ACK : RESEND);
    if (command == 0xed) {
        k->leds = byte & 7;
    } else if (command == 0xf0 && byte == 0) {
        put(&k->reply, k->set);
    } else if (command == 0xf0 && known) {
        k->set = byte;
        k->keys.count = 0;
    } /* 0xf3: the rate of repeating is the embedder's */
}

static void keyboard_command(struct vmm_ps2_keyboard *k, uint8_t byte)
{
    switch (byte) {
    case 0xed: /* lights */
    case 0xf0: /* scan code set */
    case 0xf3: /* repeat rate */
        k->command = byte;
        break;
    case 0xee: /* echo: itself is the answer */
        put(&k->reply, 0xee);
        return;
    case 0xf2: /* what are you? */
        put(&k->reply, ACK);
        put(&k->reply, 0xab);
        put(&k->reply, 0x83);
        return;
    case 0xf4:
        k->scanning = true;
        break;
    case 0xf5:
    case 0xf6:
        keyboard_defaults(k);
        k->scanning = byte == 0xf6;
        break;
    case 0xf7:
    case 0xf8:
    case 0xf9:
    case 0xfa: /* how keys of set 3 behave: nothing of ours */
        break;
    case 0xfe:
        put(&k->reply, k->last);
        return;
    case 0xff:
        vmm_ps2_keyboard_reset(k);
        put(&k->reply, ACK);
        put(&k->reply, BAT_OK);
        return;
    default:
        put(&k->reply, RESEND);
        return;
    }
    put(&k->reply, ACK);
}

void vmm_ps2_keyboard_write(struct vmm_ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    k->reply.count = 0;
    if (command && byte < 0xed)
        keyboard_argument(k, command, byte);
    else
        keyboard_command(k, byte);
}

bool vmm_ps2_keyboard_read(struct vmm_ps2_keyboard *k, uint8_t *byte)
{
    if (!take(&k->reply, byte) && !take(&k->keys, byte))
        return false;
    k->last = *byte;
    return true;
}

/* Mouse ---------------------------------------------------------------------------------------- */

#define MOTION_MAX 0x10000

static int32_t clamp(int64_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : (int32_t)value;
}

/* A packet of what has gathered: as much of the motion as it holds. */
static void make_packet(struct vmm_ps2_mouse *m, struct vmm_ps2_queue *q)
{
    int32_t dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255), dz = clamp(m->dz, -7, 7);
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= dz;
    m->sent_buttons = m->buttons;
    put(q, (uint8_t)((m->buttons & 7) | 8 | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
    put(q, (uint8_t)dx);
    put(q, (uint8_t)dy);
    if (m->id == 3)
        put(q, (uint8_t)dz);
    else if (m->id == 4)
        put(q, (uint8_t)((dz & 0xf) | (m->buttons & 0x18) << 1));
}

static bool has_news(const struct vmm_ps2_mouse *m)
{
    return m->dx || m->dy || m->dz || m->buttons != m->sent_buttons;
}

static void mouse_defaults(struct vmm_ps2_mouse *m)
{
    m->packets.count = 0;
    m->dx = m->dy = m->dz = 0;
    m->reporting = m->remote = m->wrap = m->scaling = false;
    m->resolution = 2;
    m->rates[2] = 100;
}

void vmm_ps2_mouse_reset(struct vmm_ps2_mouse *m)
{
    uint8_t buttons = m->buttons; /* fingers do not care */
    *m = (struct vmm_ps2_mouse){.buttons = buttons, .sent_buttons = buttons};
    mouse_defaults(m);
}

void vmm_ps2_mouse_move(struct vmm_ps2_mouse *m, int32_t dx, int32_t dy, int32_t dz)
{
    if (!m->reporting && !m->remote)
        return;
    m->dx = clamp((int64_t)m->dx + dx, -MOTION_MAX, MOTION_MAX);
    m->dy = clamp((int64_t)m->dy - dy, -MOTION_MAX, MOTION_MAX);
    m->dz = clamp((int64_t)m->dz - (m->id ? dz : 0), -MOTION_MAX, MOTION_MAX);
}

/* Three rates in a row are the knock that makes it a wheel mouse. */
static void set_rate(struct vmm_ps2_mouse *m, uint8_t rate)
{
    m->rates[0] = m->rates[1];
    m->rates[1] = m->rates[2];
    m->rates[2] = rate;
    if (m->rates[0] == 200 && m->rates[1] == 100 && rate == 80)
        m->id = m->id ? m->id : 3;
    else if (m->rates[0] == 200 && m->rates[1] == 200 && rate == 80 && m->id)
        m->id = 4;
}

static void mouse_status(struct vmm_ps2_mouse *m)
{
    put(&m->reply,
        (uint8_t)((m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1 |
                  (m->scaling ? 0x10 : 0) | (m->reporting ? 0x20 : 0) | (m->remote ? 0x40 : 0)));
    put(&m->reply, m->resolution);
    put(&m->reply, m->rates[2]);
}

static void mouse_command(struct vmm_ps2_mouse *m, uint8_t byte)
{
    static const char known[] = "\xe6\xe7\xe8\xe9\xea\xeb\xec\xee\xf0\xf2\xf3\xf4\xf5\xf6\xff";
    if (byte == 0xfe) {
        put(&m->reply, m->last);
        return;
    }
    if (!byte || !strchr(known, (char)byte)) {
        put(&m->reply, RESEND);
        return;
    }
    put(&m->reply, ACK);
    if (byte == 0xe6 || byte == 0xe7) {
        m->scaling = byte == 0xe7;
    } else if (byte == 0xe8 || byte == 0xf3) {
        m->command = byte;
    } else if (byte == 0xe9) {
        mouse_status(m);
    } else if (byte == 0xea || byte == 0xf0) {
        m->remote = byte == 0xf0;
        m->packets.count = 0;
    } else if (byte == 0xeb) {
        make_packet(m, &m->reply);
    } else if (byte == 0xee) {
        m->wrap = true;
    } else if (byte == 0xf2) {
        put(&m->reply, m->id);
    } else if (byte == 0xf4 || byte == 0xf5) {
        m->reporting = byte == 0xf4;
        m->packets.count = 0;
    } else if (byte == 0xf6) {
        mouse_defaults(m);
    } else if (byte == 0xff) {
        vmm_ps2_mouse_reset(m);
        put(&m->reply, ACK);
        put(&m->reply, BAT_OK);
        put(&m->reply, 0);
    }
}

void vmm_ps2_mouse_write(struct vmm_ps2_mouse *m, uint8_t byte)
{
    uint8_t command = m->command;
    m->command = 0;
    m->reply.count = 0;
    if (m->wrap && byte != 0xff && byte != 0xec) {
        put(&m->reply, byte);
        return;
    }
    if (m->wrap)
        m->wrap = false;
    if (command == 0xf3) {
        set_rate(m, byte);
        put(&m->reply, ACK);
    } else if (command == 0xe8) {
        m->resolution = byte & 3;
        put(&m->reply, ACK);
    } else {
        mouse_command(m, byte);
    }
}

bool vmm_ps2_mouse_read(struct vmm_ps2_mouse *m, uint8_t *byte)
{
    if (!take(&m->reply, byte)) {
        if (!m->packets.count && m->reporting && !m->remote && has_news(m))
            make_packet(m, &m->packets);
        if (!take(&m->packets, byte))
            return false;
    }
    m->last = *byte;
    return true;
}
