/* SPDX-License-Identifier: BSD-3-Clause */
/* --keys, and what viewers type: a seat with the guest's keyboards and pointers at it. */
#include "keys.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE   4096u
#define PAUSE   UINT64_C(60000000) /* between two keys, for guests that poll their keyboard */
#define CHORD   4u
#define NAME_IN 24u

struct keys {
    const struct keys_options *options;
    struct vmm_machine *machine;
    const struct ports *ports;
    struct vmm_seat *seat;
    struct vmm_loop *loop;
    struct vmm_timer *timer; /* types the next of the queue */
    char queue[QUEUE];
    size_t head, tail; /* what waits is queue[head, tail) */
    struct later {
        struct keys *keys;
        struct vmm_timer *timer;
        const char *text;
    } later[KEYS_MAX];
};

static const struct {
    const char *name;
    uint32_t code;
} names[] = {
    {"enter", KEY_ENTER},
    {"esc", KEY_ESC},
    {"tab", KEY_TAB},
    {"backspace", KEY_BACKSPACE},
    {"up", KEY_UP},
    {"down", KEY_DOWN},
    {"left", KEY_LEFT},
    {"right", KEY_RIGHT},
    {"home", KEY_HOME},
    {"end", KEY_END},
    {"delete", KEY_DELETE},
    {"insert", KEY_INSERT},
    {"pageup", KEY_PAGEUP},
    {"pagedown", KEY_PAGEDOWN},
    {"ctrl", KEY_LEFTCTRL},
    {"alt", KEY_LEFTALT},
    {"shift", KEY_LEFTSHIFT},
    {"f1", KEY_F1},
    {"f2", KEY_F2},
    {"f3", KEY_F3},
    {"f4", KEY_F4},
    {"f5", KEY_F5},
    {"f6", KEY_F6},
    {"f7", KEY_F7},
    {"f8", KEY_F8},
    {"f9", KEY_F9},
    {"f10", KEY_F10},
    {"f11", KEY_F11},
    {"f12", KEY_F12},
    {"space", KEY_SPACE},
    {"a", KEY_A},
    {"c", KEY_C},
    {"d", KEY_D},
    {"x", KEY_X},
    {"z", KEY_Z},
};

/* Text ----------------------------------------------------------------------------------------- */

static uint32_t code_of(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i].name) == length && strncmp(names[i].name, name, length) == 0)
            return names[i].code;
    return 0;
}

/* What stands between < and >: keys that are pressed together. Returns how many, 0 for none. */
static size_t chord(const char *text, size_t length, uint32_t codes[CHORD])
{
    size_t count = 0;
    while (count < CHORD) {
        size_t part = strcspn(text, "->");
        part = part < length ? part : length;
        codes[count] = code_of(text, part);
        if (!codes[count])
            return 0;
        count++;
        if (part == length)
            return count;
        text += part + 1;
        length -= part + 1;
    }
    return 0;
}

/* The length of the first key in a text: a character, or a name in brackets; 0: neither. */
static size_t first_key(const char *text, uint32_t codes[CHORD], size_t *count)
{
    const char *end = *text == '<' ? strchr(text, '>') : NULL;
    *count = end && (size_t)(end - text) <= NAME_IN
                 ? chord(text + 1, (size_t)(end - text) - 1, codes)
                 : 0;
    if (*count)
        return (size_t)(end - text) + 1;
    return (*text >= ' ' && *text < 0x7f && *text != '<') || *text == '\n' || *text == '\t';
}

static void press(struct keys *k, const uint32_t *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        vmm_seat_key(k->seat, codes[i], true);
    while (count-- > 0)
        vmm_seat_key(k->seat, codes[count], false);
}

static void type_next(void *ctx)
{
    struct keys *k = ctx;
    uint32_t codes[CHORD];
    size_t count, length = first_key(k->queue + k->head, codes, &count);
    if (count) {
        press(k, codes, count);
    } else if (length) {
        const char one[2] = {k->queue[k->head], '\0'};
        (void)vmm_seat_text(k->seat, one);
    }
    k->head += length;
    if (length && k->head < k->tail)
        (void)vmm_timer_set(k->timer, vmm_loop_now(k->loop) + PAUSE);
    else
        k->head = k->tail = 0;
}

int keys_type(struct keys *k, const char *text)
{
    uint32_t codes[CHORD];
    size_t length = strlen(text), count;
    for (size_t at = 0, n; at < length; at += n) {
        n = first_key(text + at, codes, &count);
        if (n == 0)
            return -EINVAL;
    }
    if (length >= QUEUE - k->tail)
        return -EBUSY;
    bool idle = k->head == k->tail;
    memcpy(k->queue + k->tail, text, length + 1);
    k->tail += length;
    return idle && length ? vmm_timer_set(k->timer, vmm_loop_now(k->loop)) : 0;
}

/* Devices -------------------------------------------------------------------------------------- */

static void key(void *ctx, uint32_t code, bool down)
{
    struct keys *k = ctx;
    struct vmm_i8042 *pc = vmm_machine_i8042(k->machine);
    int rc = -ENODEV;
    for (uint32_t i = 0; i < k->ports->input_count && rc; i++)
        rc = vmm_input_key(k->ports->input[i], code, down);
    if (rc && pc && code < BTN_MISC)
        (void)vmm_i8042_key(pc, code, down);
    else if (rc && pc)
        (void)vmm_i8042_mouse_button(pc, code, down);
}

static void absolute(void *ctx, uint32_t x, uint32_t y)
{
    struct keys *k = ctx;
    for (uint32_t i = 0; i < k->ports->input_count; i++)
        (void)vmm_input_position(k->ports->input[i], x, y);
}

static void relative(void *ctx, int32_t dx, int32_t dy)
{
    struct keys *k = ctx;
    struct vmm_i8042 *pc = vmm_machine_i8042(k->machine);
    int rc = -ENODEV;
    for (uint32_t i = 0; i < k->ports->input_count && rc; i++)
        rc = vmm_input_move(k->ports->input[i], dx, dy);
    if (rc && pc)
        vmm_i8042_mouse_move(pc, dx, dy);
}

static void wheel(void *ctx, int32_t vertical, int32_t horizontal)
{
    struct keys *k = ctx;
    struct vmm_i8042 *pc = vmm_machine_i8042(k->machine);
    (void)horizontal; /* PS/2 has none */
    if (pc)
        vmm_i8042_mouse_wheel(pc, vertical);
}

/* Life ----------------------------------------------------------------------------------------- */

const char *keys_parse(struct keys_options *o, char *text)
{
    char *at = strrchr(text, '@'), end;
    if (o->count == KEYS_MAX)
        return "that is one too many";
    if (!at || sscanf(at + 1, "%u%c", &o->typed[o->count].seconds, &end) != 1)
        return "it is TEXT@SECONDS";
    *at = '\0';
    uint32_t codes[CHORD];
    size_t count;
    for (size_t i = 0, n; text[i]; i += n) {
        n = first_key(text + i, codes, &count);
        if (n == 0)
            return "a key that is not known, or a character that no key has";
    }
    o->typed[o->count++].text = text;
    return NULL;
}

static void type_later(void *ctx)
{
    struct later *l = ctx;
    int rc = keys_type(l->keys, l->text);
    if (rc)
        fprintf(stderr, "vmm-run: --keys: %s\r\n", strerror(-rc));
}

int keys_new(const struct keys_options *options, struct vmm_machine *machine,
             const struct ports *ports, struct vmm_seat *seat, struct keys **out)
{
    static const struct vmm_seat_ops ops = {sizeof(ops), key, absolute, relative, wheel};
    struct keys *k = calloc(1, sizeof(*k));
    if (!k)
        return -ENOMEM;
    k->options = options;
    k->machine = machine;
    k->ports = ports;
    k->loop = vmm_machine_loop(machine);
    int rc = 0;
    if (seat)
        k->seat = vmm_seat_ref(seat);
    else
        rc = vmm_seat_new(&k->seat);
    rc = rc ? rc : vmm_seat_attach(k->seat, &ops, k);
    rc = rc ? rc : vmm_timer_new(k->loop, type_next, k, &k->timer);
    if (rc)
        keys_free(k);
    else
        *out = k;
    return rc;
}

int keys_start(struct keys *k)
{
    int rc = 0;
    for (uint32_t i = 0; i < k->options->count && !rc; i++) {
        struct later *l = &k->later[i];
        l->keys = k;
        l->text = k->options->typed[i].text;
        rc = vmm_timer_new(k->loop, type_later, l, &l->timer);
        if (!rc)
            rc = vmm_timer_set(l->timer, vmm_loop_now(k->loop) +
                                             k->options->typed[i].seconds * UINT64_C(1000000000));
    }
    return rc;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        vmm_timer_free(k->later[i].timer);
    vmm_timer_free(k->timer);
    if (k->seat)
        vmm_seat_detach(k->seat, k);
    vmm_seat_unref(k->seat);
    free(k);
}
