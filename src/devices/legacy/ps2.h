/* SPDX-License-Identifier: BSD-3-Clause */
/* What hangs on the keyboard controller: a keyboard and a mouse that take and give bytes. No locks. */
#ifndef DEVICES_LEGACY_PS2_H
#define DEVICES_LEGACY_PS2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS2_QUEUE 64u

struct vmm_ps2_queue {
    uint8_t data[PS2_QUEUE];
    uint32_t count;
};

/* Plain data: it is saved and loaded as it is, after vmm_ps2_…_ok(). */
struct vmm_ps2_keyboard {
    struct vmm_ps2_queue reply, keys;
    uint8_t command; /* waits for its argument; 0: none */
    uint8_t set;     /* 1 or 2 */
    uint8_t leds;    /* as the command has them */
    uint8_t last;    /* byte sent, for RESEND */
    bool scanning;
};

struct vmm_ps2_mouse {
    struct vmm_ps2_queue reply, packets;
    int32_t dx, dy, dz; /* not sent yet; dy upwards */
    uint8_t command;
    uint8_t last;
    uint8_t buttons, sent_buttons;
    uint8_t id;       /* 0: plain, 3: wheel, 4: five buttons */
    uint8_t rates[3]; /* the last that were set: the knock for the above */
    uint8_t resolution;
    bool reporting, remote, wrap, scaling;
};

void vmm_ps2_keyboard_reset(struct vmm_ps2_keyboard *k);
void vmm_ps2_keyboard_write(struct vmm_ps2_keyboard *k, uint8_t byte);
/* The next byte for the host; false: none. */
bool vmm_ps2_keyboard_read(struct vmm_ps2_keyboard *k, uint8_t *byte);
int vmm_ps2_keyboard_key(struct vmm_ps2_keyboard *k, uint32_t code, bool down);

void vmm_ps2_mouse_reset(struct vmm_ps2_mouse *m);
void vmm_ps2_mouse_write(struct vmm_ps2_mouse *m, uint8_t byte);
bool vmm_ps2_mouse_read(struct vmm_ps2_mouse *m, uint8_t *byte);
void vmm_ps2_mouse_move(struct vmm_ps2_mouse *m, int32_t dx, int32_t dy, int32_t dz);

/* A byte of scan code set 2 as the controller translates it to set 1. */
uint8_t vmm_ps2_translate(uint8_t byte);

#endif
