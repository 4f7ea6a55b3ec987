/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keyboard controller (IBM PS/2 hardware interface technical reference, keyboard and auxiliary
 * device controller). It has one output buffer: a byte goes into it from the controller itself, the
 * keyboard or the mouse, whoever comes first in this order, as soon as the guest has fetched the last.
 */
#include "base/util.h"
#include "devices/legacy/ps2.h"

#include <libvmm/i8042.h>

#include <linux/input-event-codes.h>
#include <stdlib.h>

#define STATUS_FULL    0x01u /* the output buffer */
#define STATUS_SYSTEM  0x04u
#define STATUS_COMMAND 0x08u /* the last write was to port 0x64 */
#define STATUS_UNLOCK  0x10u
#define STATUS_MOUSE   0x20u

#define MODE_KEYBOARD_IRQ 0x01u
#define MODE_MOUSE_IRQ    0x02u
#define MODE_SYSTEM       0x04u
#define MODE_KEYBOARD_OFF 0x10u
#define MODE_MOUSE_OFF    0x20u
#define MODE_TRANSLATE    0x40u

#define OUTPUT_RESET_N 0x01u /* low: the processor is reset */
#define OUTPUT_A20     0x02u

#define PORT92_RESET 0x01u

enum { FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };

/* All of it is plain data, saved as it is. */
struct state {
    struct vmm_ps2_keyboard keyboard;
    struct vmm_ps2_mouse mouse;
    uint8_t ram[32]; /* the first byte is the mode */
    uint8_t command; /* waits for its data byte; 0: none */
    uint8_t output;  /* A20 of the output port */
    uint8_t buffer, source;
    uint8_t own, own_source; /* the controller's answer, not yet in the buffer */
    bool full, own_full, last_was_command;
    bool broken; /* the keyboard has sent 0xf0, which translation keeps back */
};

struct vmm_i8042 {
    struct vmm_device *device;
    struct vmm_irq_line *keyboard_irq, *mouse_irq;
    void (*reset)(void *ctx);
    void (*leds)(void *ctx, uint32_t leds);
    void *ctx;
    struct state s;
};

static void update_irqs(struct vmm_i8042 *c)
{
    const struct state *s = &c->s;
    bool mouse = s->source == FROM_MOUSE;
    (void)vmm_irq_line_set(c->keyboard_irq,
                           s->full && !mouse && (s->ram[0] & MODE_KEYBOARD_IRQ) ? 1 : 0);
    (void)vmm_irq_line_set(c->mouse_irq, s->full && mouse && (s->ram[0] & MODE_MOUSE_IRQ) ? 1 : 0);
}

/* The keyboard's next byte, translated; 0xf0 becomes the high bit of the byte after it. */
static bool keyboard_byte(struct state *s, uint8_t *byte)
{
    while (vmm_ps2_keyboard_read(&s->keyboard, byte)) {
        if (!(s->ram[0] & MODE_TRANSLATE))
            return true;
        if (*byte == 0xf0) {
            s->broken = true;
            continue;
        }
        *byte = (uint8_t)(vmm_ps2_translate(*byte) | (s->broken ? 0x80 : 0));
        s->broken = false;
        return true;
    }
    return false;
}

static void fill_buffer(struct vmm_i8042 *c)
{
    struct state *s = &c->s;
    if (!s->full && s->own_full) {
        s->own_full = false;
        s->full = true;
        s->buffer = s->own;
        s->source = s->own_source;
    }
    if (!s->full && !(s->ram[0] & MODE_KEYBOARD_OFF) && keyboard_byte(s, &s->buffer)) {
        s->full = true;
        s->source = FROM_KEYBOARD;
    }
    if (!s->full && !(s->ram[0] & MODE_MOUSE_OFF) && vmm_ps2_mouse_read(&s->mouse, &s->buffer)) {
        s->full = true;
        s->source = FROM_MOUSE;
    }
    update_irqs(c);
}

/* The controller's own byte. It is sent with the input devices inhibited: before theirs. */
static void answer(struct vmm_i8042 *c, uint8_t byte, uint8_t source)
{
    c->s.own = byte;
    c->s.own_source = source;
    c->s.own_full = true;
}

static void pulse_reset(struct vmm_i8042 *c)
{
    if (c->reset)
        c->reset(c->ctx);
}

/* Registers ------------------------------------------------------------------------------------ */

static uint64_t data_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_i8042 *c = ctx;
    uint8_t byte = c->s.buffer; /* an empty buffer gives the last byte again */
    (void)offset;
    (void)width;
    if (c->s.full) {
        c->s.full = false;
        update_irqs(c); /* low in between: the next byte makes an edge */
        fill_buffer(c);
    }
    return byte;
}

static uint64_t status_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct vmm_i8042 *c = ctx;
    const struct state *s = &c->s;
    (void)offset;
    (void)width;
    return STATUS_UNLOCK | (s->full ? STATUS_FULL : 0) |
           (s->full && s->source == FROM_MOUSE ? STATUS_MOUSE : 0) |
           (s->ram[0] & MODE_SYSTEM ? STATUS_SYSTEM : 0) |
           (s->last_was_command ? STATUS_COMMAND : 0);
}

static void write_output_port(struct vmm_i8042 *c, uint8_t value)
{
    c->s.output = value & OUTPUT_A20;
    if (!(value & OUTPUT_RESET_N))
        pulse_reset(c);
}

/* The data byte that a command of port 0x64 waited for. */
static void command_data(struct vmm_i8042 *c, uint8_t command, uint8_t byte)
{
    struct state *s = &c->s;
    if (command >= 0x60 && command < 0x80)
        s->ram[command & 0x1f] = byte;
    else if (command == 0xd1)
        write_output_port(c, byte);
    else if (command == 0xd2)
        answer(c, byte, FROM_KEYBOARD);
    else if (command == 0xd3)
        answer(c, byte, FROM_MOUSE);
    else if (command == 0xd4)
        vmm_ps2_mouse_write(&s->mouse, byte);
}

static void data_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_i8042 *c = ctx;
    struct state *s = &c->s;
    uint8_t command = s->command, leds = s->keyboard.leds;
    (void)offset;
    (void)width;
    s->last_was_command = false;
    s->command = 0;
    if (command) {
        command_data(c, command, (uint8_t)value);
    } else {
        s->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF; /* a byte to the keyboard switches it on */
        s->broken = false;
        vmm_ps2_keyboard_write(&s->keyboard, (uint8_t)value);
        if (c->leds && leds != s->keyboard.leds)
            c->leds(c->ctx, s->keyboard.leds);
    }
    fill_buffer(c);
}

static void self_test(struct state *s)
{
    s->full = s->own_full = false;
    s->ram[0] =
        (uint8_t)((s->ram[0] & MODE_TRANSLATE) | MODE_SYSTEM | MODE_KEYBOARD_OFF | MODE_MOUSE_OFF);
}

/* Commands without an answer. */
static void simple_command(struct vmm_i8042 *c, uint8_t command)
{
    struct state *s = &c->s;
    switch (command) {
    case 0xa7:
        s->ram[0] |= MODE_MOUSE_OFF;
        break;
    case 0xa8:
        s->ram[0] &= (uint8_t)~MODE_MOUSE_OFF;
        break;
    case 0xad:
        s->ram[0] |= MODE_KEYBOARD_OFF;
        break;
    case 0xae:
        s->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF;
        break;
    case 0xdd:
        s->output = 0;
        break;
    case 0xdf:
        s->output = OUTPUT_A20;
        break;
    default: /* 0xf0 to 0xff pulse the bits that are zero; bit 0 is the reset */
        if (command >= 0xf0 && !(command & 1))
            pulse_reset(c);
        break;
    }
}

static void command_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_i8042 *c = ctx;
    struct state *s = &c->s;
    uint8_t command = (uint8_t)value;
    (void)offset;
    (void)width;
    s->last_was_command = true;
    s->command = 0;
    if (command >= 0x20 && command < 0x40) {
        answer(c, s->ram[command & 0x1f], FROM_CONTROLLER);
    } else if ((command >= 0x60 && command < 0x80) || (command >= 0xd1 && command <= 0xd4)) {
        s->command = command;
    } else if (command == 0xa4) { /* is there a password? */
        answer(c, 0xf1, FROM_CONTROLLER);
    } else if (command == 0xa9 || command == 0xab) { /* tests of the lines */
        answer(c, 0, FROM_CONTROLLER);
    } else if (command == 0xaa) {
        self_test(s);
        answer(c, 0x55, FROM_CONTROLLER);
    } else if (command == 0xc0) { /* input port: the keyboard is not locked */
        answer(c, 0x80, FROM_CONTROLLER);
    } else if (command == 0xd0) {
        uint32_t flags = s->full ? s->source == FROM_MOUSE ? 0x20 : 0x10 : 0;
        answer(c, (uint8_t)(s->output | OUTPUT_RESET_N | flags), FROM_CONTROLLER);
    } else if (command == 0xe0) { /* the clock lines */
        answer(c, 0, FROM_CONTROLLER);
    } else {
        simple_command(c, command);
    }
    fill_buffer(c);
}

static uint64_t port92_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct vmm_i8042 *c = ctx;
    (void)offset;
    (void)width;
    return c->s.output;
}

static void port92_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_i8042 *c = ctx;
    (void)offset;
    (void)width;
    c->s.output = value & OUTPUT_A20;
    if (value & PORT92_RESET)
        pulse_reset(c);
}

/* The device ----------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_i8042 *c = ctx;
    struct vmm_ps2_mouse mouse = c->s.mouse;
    c->s = (struct state){.output = OUTPUT_A20, .mouse = mouse};
    c->s.ram[0] = MODE_KEYBOARD_OFF | MODE_MOUSE_OFF | MODE_TRANSLATE;
    vmm_ps2_keyboard_reset(&c->s.keyboard);
    vmm_ps2_mouse_reset(&c->s.mouse);
    update_irqs(c);
}

/* Each field once, for saving and for loading. */
struct field {
    const char *name;
    size_t offset, size;
    uint32_t max;
};
#define FIELD(name, member, max)                                                                   \
    {                                                                                              \
        name, offsetof(struct state, member), sizeof(((struct state *)0)->member), max             \
    }
static const struct field fields[] = {
    FIELD("keyboard-command", keyboard.command, 0xff),
    FIELD("keyboard-set", keyboard.set, 2),
    FIELD("keyboard-leds", keyboard.leds, 7),
    FIELD("keyboard-last", keyboard.last, 0xff),
    FIELD("keyboard-scanning", keyboard.scanning, 1),
    FIELD("mouse-command", mouse.command, 0xff),
    FIELD("mouse-last", mouse.last, 0xff),
    FIELD("mouse-buttons", mouse.buttons, 0x1f),
    FIELD("mouse-sent-buttons", mouse.sent_buttons, 0x1f),
    FIELD("mouse-id", mouse.id, 4),
    FIELD("mouse-resolution", mouse.resolution, 3),
    FIELD("mouse-reporting", mouse.reporting, 1),
    FIELD("mouse-remote", mouse.remote, 1),
    FIELD("mouse-wrap", mouse.wrap, 1),
    FIELD("mouse-scaling", mouse.scaling, 1),
    FIELD("command", command, 0xff),
    FIELD("output-port", output, OUTPUT_A20),
    FIELD("buffer", buffer, 0xff),
    FIELD("buffer-source", source, FROM_MOUSE),
    FIELD("buffer-full", full, 1),
    FIELD("own", own, 0xff),
    FIELD("own-source", own_source, FROM_MOUSE),
    FIELD("own-full", own_full, 1),
    FIELD("last-was-command", last_was_command, 1),
    FIELD("break", broken, 1),
};
#define QUEUE(name, member)                                                                        \
    {                                                                                              \
        name, offsetof(struct state, member), 0, 0                                                 \
    }
static const struct field queues[] = {
    QUEUE("keyboard-reply", keyboard.reply),
    QUEUE("keyboard-keys", keyboard.keys),
    QUEUE("mouse-reply", mouse.reply),
    QUEUE("mouse-packets", mouse.packets),
};

/* Motion is saved with an offset: integers of a state are not signed. */
#define MOTION 0x10000

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_i8042 *c = ctx;
    const uint8_t *base = (const uint8_t *)&c->s;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++)
        (void)vmm_state_put_u32(w, fields[i].name, base[fields[i].offset]);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(queues); i++) {
        const struct vmm_ps2_queue *q = (const void *)(base + queues[i].offset);
        (void)vmm_state_put_bytes(w, queues[i].name, q->data, q->count);
    }
    (void)vmm_state_put_u32(w, "mouse-dx", (uint32_t)(c->s.mouse.dx + MOTION));
    (void)vmm_state_put_u32(w, "mouse-dy", (uint32_t)(c->s.mouse.dy + MOTION));
    (void)vmm_state_put_u32(w, "mouse-dz", (uint32_t)(c->s.mouse.dz + MOTION));
    (void)vmm_state_put_bytes(w, "mouse-rates", c->s.mouse.rates, sizeof(c->s.mouse.rates));
    return vmm_state_put_bytes(w, "ram", c->s.ram, sizeof(c->s.ram));
}

static int load_queue(struct vmm_state_reader *r, const char *name, struct vmm_ps2_queue *q,
                      struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, name, &data, &length, err);
    if (!rc && length > PS2_QUEUE)
        rc = vmm_error_set(err, -ERANGE, "%s: %zu bytes are more than %u", name, length, PS2_QUEUE);
    if (!rc && length)
        memcpy(q->data, data, length);
    if (!rc)
        q->count = (uint32_t)length;
    return rc;
}

static int load_motion(struct vmm_state_reader *r, const char *name, int32_t *value,
                       struct vmm_error *err)
{
    uint32_t raw;
    int rc = vmm_state_get_u32(r, name, 2 * MOTION, &raw, err);
    if (!rc)
        *value = (int32_t)raw - MOTION;
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_i8042 *c = ctx;
    struct state s = {.output = 0};
    uint8_t *base = (uint8_t *)&s;
    int rc = 0;
    (void)version;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields) && !rc; i++) {
        uint32_t value = 0;
        rc = vmm_state_get_u32(r, fields[i].name, fields[i].max, &value, err);
        base[fields[i].offset] = (uint8_t)value;
    }
    for (size_t i = 0; i < VMM_ARRAY_SIZE(queues) && !rc; i++)
        rc = load_queue(r, queues[i].name, (void *)(base + queues[i].offset), err);
    rc = rc ? rc : load_motion(r, "mouse-dx", &s.mouse.dx, err);
    rc = rc ? rc : load_motion(r, "mouse-dy", &s.mouse.dy, err);
    rc = rc ? rc : load_motion(r, "mouse-dz", &s.mouse.dz, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "mouse-rates", s.mouse.rates, sizeof(s.mouse.rates), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "ram", s.ram, sizeof(s.ram), err);
    if (!rc &&
        (s.keyboard.set == 0 || s.mouse.id == 1 || s.mouse.id == 2 || (s.output & ~OUTPUT_A20)))
        rc = vmm_error_set(err, -EINVAL, "%s: keyboard-set, mouse-id or output-port",
                           vmm_device_name(c->device));
    if (rc)
        return rc;
    c->s = s;
    update_irqs(c);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_i8042 *c = ctx;
    vmm_irq_line_free(c->keyboard_irq);
    vmm_irq_line_free(c->mouse_irq);
    free(c);
}

int vmm_i8042_new(const struct vmm_i8042_options *given, struct vmm_i8042 **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_i8042_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return rc;
    struct vmm_i8042 *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    rc = vmm_device_new(o.name, &ops, c, &c->device);
    if (rc) {
        free(c);
        return rc;
    }
    c->keyboard_irq = o.keyboard_irq;
    c->mouse_irq = o.mouse_irq;
    c->reset = o.reset;
    c->leds = o.leds;
    c->ctx = o.ctx;
    reset(c);
    *out = c;
    return 0;
}

struct vmm_i8042 *vmm_i8042_unref(struct vmm_i8042 *c)
{
    if (c)
        vmm_device_unref(c->device);
    return NULL;
}

struct vmm_device *vmm_i8042_device(struct vmm_i8042 *c)
{
    return c->device;
}

int vmm_i8042_attach(struct vmm_i8042 *c, struct vmm_bus *bus, struct vmm_error *err)
{
    static const struct {
        uint16_t port;
        struct vmm_region_ops ops;
    } ports[] = {
        {0x60, {sizeof(struct vmm_region_ops), data_read, data_write, 1, 1}},
        {0x64, {sizeof(struct vmm_region_ops), status_read, command_write, 1, 1}},
        {0x92, {sizeof(struct vmm_region_ops), port92_read, port92_write, 1, 1}},
    };
    int rc = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(ports) && !rc; i++) {
        struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
        region.name = vmm_device_name(c->device);
        region.address = ports[i].port;
        region.length = 1;
        region.device = c->device;
        region.ops = &ports[i].ops;
        region.ctx = c;
        rc = vmm_bus_add(bus, &region, NULL, err);
    }
    return rc;
}

/* The user's side ------------------------------------------------------------------------------ */

int vmm_i8042_key(struct vmm_i8042 *c, uint32_t code, uint32_t down)
{
    vmm_device_lock(c->device);
    int rc = vmm_ps2_keyboard_key(&c->s.keyboard, code, down != 0);
    fill_buffer(c);
    vmm_device_unlock(c->device);
    return rc;
}

static void move(struct vmm_i8042 *c, int32_t dx, int32_t dy, int32_t dz)
{
    vmm_device_lock(c->device);
    vmm_ps2_mouse_move(&c->s.mouse, dx, dy, dz);
    fill_buffer(c);
    vmm_device_unlock(c->device);
}

void vmm_i8042_mouse_move(struct vmm_i8042 *c, int32_t dx, int32_t dy)
{
    move(c, dx, dy, 0);
}

void vmm_i8042_mouse_wheel(struct vmm_i8042 *c, int32_t steps)
{
    move(c, 0, 0, steps);
}

int vmm_i8042_mouse_button(struct vmm_i8042 *c, uint32_t code, uint32_t down)
{
    if (code < BTN_LEFT || code > BTN_EXTRA)
        return -EINVAL;
    uint8_t bit = (uint8_t)(1u << (code - BTN_LEFT));
    vmm_device_lock(c->device);
    c->s.mouse.buttons = (uint8_t)((c->s.mouse.buttons & ~bit) | (down ? bit : 0));
    fill_buffer(c);
    vmm_device_unlock(c->device);
    return 0;
}
