/* SPDX-License-Identifier: BSD-3-Clause */
/* Input devices (VIRTIO 1.2 §5.8). */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <libvmm/input.h>

#include <linux/input.h>
#include <stdlib.h>

#define DEVICE_INPUT 18u

#define QUEUE_EVENTS 0u
#define QUEUE_STATUS 1u
#define QUEUES       2u

/* Configuration (§5.8.4): what is selected, the length of the answer, the answer. */
#define CONFIG_SIZE 136u
#define ANSWER_MAX  128u

enum {
    CFG_ID_NAME = 0x01,
    CFG_ID_SERIAL = 0x02,
    CFG_ID_DEVIDS = 0x03,
    /* 0x10: CFG_PROP_BITS */
    CFG_EV_BITS = 0x11,
    CFG_ABS_INFO = 0x12,
};

#define EVENT_SIZE 8u
#define BITS_MAX   (KEY_CNT / 8)

/* Frames are popped whole before anything of them is pushed. */
#define CHAINS (VMM_INPUT_FRAME_MAX + 1)

struct input {
    struct vmm_virtio *virtio;
    struct vmm_virtio_queue *events;
    struct vmm_virtio_chain *chain[CHAINS]; /* the lock of the queue of events */
    struct vmm_virtio_chain *status;
    struct vmm_virtio_input_options options;
    char serial[ANSWER_MAX];
    uint8_t select, subsel; /* the device's lock */
};

/* What each kind of device has ------------------------------------------------------------------ */

static void set_range(uint8_t *bits, uint32_t first, uint32_t last)
{
    for (uint32_t code = first; code <= last; code++)
        bits[code / 8] |= (uint8_t)(1u << code % 8);
}

/* The keys of PC keyboards, media keys too; the buttons of pointers are not among them. */
static void key_bits(uint32_t kind, uint8_t *bits)
{
    if (kind == VMM_INPUT_KEYBOARD)
        set_range(bits, KEY_ESC, KEY_MICMUTE);
    else
        set_range(bits, BTN_LEFT, BTN_TASK);
}

/* The codes of one type of event; all zeros: there is no such type. */
static void event_bits(uint32_t kind, uint32_t type, uint8_t bits[BITS_MAX])
{
    memset(bits, 0, BITS_MAX);
    if (type == EV_KEY)
        key_bits(kind, bits);
    else if (type == EV_REL && kind == VMM_INPUT_MOUSE)
        set_range(bits, REL_X, REL_Y);
    else if (type == EV_ABS && kind == VMM_INPUT_TABLET)
        set_range(bits, ABS_X, ABS_Y);
    else if (type == EV_LED && kind == VMM_INPUT_KEYBOARD)
        set_range(bits, LED_NUML, LED_SCROLLL);
    else if (type == EV_REP && kind == VMM_INPUT_KEYBOARD)
        set_range(bits, REP_DELAY, REP_PERIOD);
    if (type == EV_REL && kind != VMM_INPUT_KEYBOARD) {
        set_range(bits, REL_WHEEL, REL_WHEEL);
        set_range(bits, REL_HWHEEL, REL_HWHEEL);
    }
}

static bool can_send(uint32_t kind, const struct vmm_input_event *e)
{
    uint8_t bits[BITS_MAX];
    if ((e->type != EV_KEY && e->type != EV_REL && e->type != EV_ABS) || e->code >= KEY_CNT)
        return false;
    event_bits(kind, e->type, bits);
    if (!(bits[e->code / 8] & 1u << e->code % 8))
        return false;
    if (e->type == EV_KEY)
        return e->value >= 0 && e->value <= 2;
    return e->type != EV_ABS || (e->value >= 0 && e->value <= (int32_t)VMM_INPUT_ABS_MAX);
}

/* Configuration -------------------------------------------------------------------------------- */

static uint32_t put_text(uint8_t *answer, const char *text)
{
    size_t length = strlen(text);
    memcpy(answer, text, length);
    return (uint32_t)length;
}

static uint32_t put_name(uint32_t kind, uint8_t *answer)
{
    static const char *const names[] = {"", "libvmm keyboard", "libvmm tablet", "libvmm mouse"};
    return put_text(answer, names[kind]);
}

static uint32_t put_ids(uint32_t kind, uint8_t *answer)
{
    vmm_store_le16(answer, BUS_VIRTUAL);
    vmm_store_le16(answer + 2, 0x1af4); /* of virtio itself */
    vmm_store_le16(answer + 4, (uint16_t)kind);
    vmm_store_le16(answer + 6, 1);
    return 8;
}

/* Bitmaps end at their last byte that is not zero. */
static uint32_t put_events(uint32_t kind, uint32_t type, uint8_t *answer)
{
    uint8_t bits[BITS_MAX];
    uint32_t length = ANSWER_MAX < BITS_MAX ? ANSWER_MAX : BITS_MAX;
    event_bits(kind, type, bits);
    while (length && !bits[length - 1])
        length--;
    memcpy(answer, bits, length);
    return length;
}

static uint32_t put_axis(uint32_t kind, uint32_t axis, uint8_t *answer)
{
    if (kind != VMM_INPUT_TABLET || axis > ABS_Y)
        return 0;
    vmm_store_le32(answer + 4, VMM_INPUT_ABS_MAX); /* from 0, and neither fuzz, flat nor units */
    return 20;
}

/* No device has properties (CFG_PROP_BITS: touch pads and screens do), so that bitmap has no bytes. */
static uint32_t put_answer(const struct input *in, uint8_t *answer)
{
    uint32_t kind = in->options.kind;
    switch (in->select) {
    case CFG_EV_BITS:
        return put_events(kind, in->subsel, answer);
    case CFG_ABS_INFO:
        return put_axis(kind, in->subsel, answer);
    default:
        break;
    }
    if (in->subsel)
        return 0;
    switch (in->select) {
    case CFG_ID_NAME:
        return put_name(kind, answer);
    case CFG_ID_SERIAL:
        return put_text(answer, in->serial);
    case CFG_ID_DEVIDS:
        return put_ids(kind, answer);
    default:
        return 0;
    }
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    const struct input *in = ctx;
    uint8_t config[CONFIG_SIZE] = {in->select, in->subsel};
    config[2] = (uint8_t)put_answer(in, config + 8);
    memcpy(data, config + offset, length);
}

static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    struct input *in = ctx;
    const uint8_t *bytes = data;
    for (uint32_t i = 0; i < length; i++) {
        if (offset + i == 0)
            in->select = bytes[i];
        else if (offset + i == 1)
            in->subsel = bytes[i];
    }
}

/* Events --------------------------------------------------------------------------------------- */

static void put_event(struct vmm_virtio_chain *c, const struct vmm_input_event *e)
{
    uint8_t raw[EVENT_SIZE];
    vmm_store_le16(raw, e->type);
    vmm_store_le16(raw + 2, e->code);
    vmm_store_le32(raw + 4, (uint32_t)e->value);
    (void)vmm_iov_write(c->writable, c->writable_count, 0, raw, sizeof(raw));
}

/* A buffer for each event, or none. The queue's lock is held. */
static int take_buffers(struct input *in, size_t count)
{
    size_t taken = 0;
    int rc = 1;
    vmm_virtio_queue_turn(in->events);
    while (taken < count && (rc = vmm_virtio_queue_pop(in->events, in->chain[taken])) > 0) {
        taken++;
        if (in->chain[taken - 1]->writable_length < EVENT_SIZE) {
            vmm_virtio_guest_error(in->virtio, "input: a buffer too small for an event");
            rc = -EINVAL;
            break;
        }
    }
    if (taken == count && rc > 0)
        return 0;
    while (taken)
        vmm_virtio_queue_unpop(in->events, in->chain[--taken]);
    return -EAGAIN;
}

int vmm_input_send(struct vmm_virtio *virtio, const struct vmm_input_event *events, size_t count)
{
    static const struct vmm_input_event report = {EV_SYN, SYN_REPORT, 0};
    struct input *in = virtio->ctx;
    if (virtio->id != DEVICE_INPUT || !events || count == 0 || count > VMM_INPUT_FRAME_MAX)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        if (!can_send(in->options.kind, &events[i]))
            return -EINVAL;
    vmm_virtio_queue_lock(in->events);
    int rc = take_buffers(in, count + 1);
    for (size_t i = 0; i <= count && !rc; i++) {
        put_event(in->chain[i], i < count ? &events[i] : &report);
        vmm_virtio_queue_push(in->events, in->chain[i], EVENT_SIZE);
    }
    if (!rc)
        vmm_virtio_queue_signal(in->events);
    vmm_virtio_queue_unlock(in->events);
    return rc;
}

int vmm_input_key(struct vmm_virtio *virtio, uint32_t code, uint32_t value)
{
    const struct vmm_input_event e = {EV_KEY, (uint16_t)code, (int32_t)value};
    return code >= KEY_CNT || value > 2 ? -EINVAL : vmm_input_send(virtio, &e, 1);
}

int vmm_input_position(struct vmm_virtio *virtio, uint32_t x, uint32_t y)
{
    const struct vmm_input_event e[2] = {{EV_ABS, ABS_X, (int32_t)x}, {EV_ABS, ABS_Y, (int32_t)y}};
    return vmm_input_send(virtio, e, 2);
}

int vmm_input_move(struct vmm_virtio *virtio, int32_t x, int32_t y)
{
    const struct vmm_input_event e[2] = {{EV_REL, REL_X, x}, {EV_REL, REL_Y, y}};
    return vmm_input_send(virtio, e, 2);
}

/* The device ----------------------------------------------------------------------------------- */

static void notify(void *ctx, uint32_t queue)
{
    struct input *in = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(in->virtio, queue);
    struct vmm_virtio_chain *c = in->status;
    uint8_t raw[EVENT_SIZE];
    if (queue == QUEUE_EVENTS)
        return; /* buffers are looked for when there is something to send */
    while (vmm_virtio_queue_pop(q, c) > 0) {
        if (vmm_iov_read(c->readable, c->readable_count, 0, raw, sizeof(raw)) != sizeof(raw)) {
            vmm_virtio_queue_drop(q, c);
            vmm_virtio_guest_error(in->virtio, "input: a status that is too short");
            return;
        }
        const struct vmm_input_event e = {vmm_load_le16(raw), vmm_load_le16(raw + 2),
                                          (int32_t)vmm_load_le32(raw + 4)};
        if (in->options.status)
            in->options.status(in->options.ctx, &e);
        vmm_virtio_queue_push(q, c, 0);
    }
    vmm_virtio_queue_signal(q);
}

static void reset(void *ctx)
{
    struct input *in = ctx;
    in->select = in->subsel = 0;
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    const struct input *in = ctx;
    (void)vmm_state_put_u32(w, "kind", in->options.kind);
    (void)vmm_state_put_u32(w, "select", in->select);
    return vmm_state_put_u32(w, "subsel", in->subsel);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct input *in = ctx;
    uint32_t kind, select = 0, subsel = 0;
    int rc = vmm_state_get_u32(r, "kind", VMM_INPUT_MOUSE, &kind, err);
    rc = rc ? rc : vmm_state_get_u32(r, "select", UINT8_MAX, &select, err);
    rc = rc ? rc : vmm_state_get_u32(r, "subsel", UINT8_MAX, &subsel, err);
    if (!rc && kind != in->options.kind)
        rc = vmm_error_set(err, -EINVAL, "input: another kind of device was saved");
    if (rc)
        return rc;
    in->select = (uint8_t)select;
    in->subsel = (uint8_t)subsel;
    return 0;
}

static void destroy(void *ctx)
{
    struct input *in = ctx;
    for (size_t i = 0; i < CHAINS; i++)
        vmm_virtio_chain_free(in->chain[i]);
    vmm_virtio_chain_free(in->status);
    free(in);
}

static struct input *new_input(const struct vmm_virtio_input_options *p)
{
    struct input *in = calloc(1, sizeof(*in));
    if (!in)
        return NULL;
    in->options = *p;
    if (p->serial)
        memcpy(in->serial, p->serial, strlen(p->serial));
    in->options.serial = NULL; /* the caller's */
    return in;
}

static int prepare(struct input *in)
{
    int rc = vmm_virtio_chain_new(in->virtio, &in->status);
    for (size_t i = 0; i < CHAINS && !rc; i++)
        rc = vmm_virtio_chain_new(in->virtio, &in->chain[i]);
    in->events = vmm_virtio_queue(in->virtio, QUEUE_EVENTS);
    return rc;
}

int vmm_virtio_input_new(const struct vmm_virtio_place *given,
                         const struct vmm_virtio_input_options *options, struct vmm_virtio **out,
                         struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .config_write = config_write,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_virtio_place place;
    struct vmm_virtio_input_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(&p, sizeof(p), options))
        return vmm_error_set(err, -EINVAL, "input options: a structure of another version");
    if (p.kind < VMM_INPUT_KEYBOARD || p.kind > VMM_INPUT_MOUSE ||
        (p.serial && strlen(p.serial) >= ANSWER_MAX))
        return vmm_error_set(err, -EINVAL,
                             "input: a keyboard, a tablet or a mouse, and a serial of at most %u "
                             "bytes",
                             ANSWER_MAX - 1);
    struct input *in = new_input(&p);
    if (!in)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.device_id = DEVICE_INPUT;
    o.queues = QUEUES;
    o.chain_max = 4;
    o.config_size = CONFIG_SIZE;
    o.ops = &ops;
    o.ctx = in;
    rc = vmm_virtio_new(&o, &in->virtio, err);
    if (rc) {
        destroy(in);
        return rc;
    }
    rc = prepare(in);
    if (rc) {
        vmm_virtio_unref(in->virtio);
        return vmm_error_set(err, rc, "input: %s", strerror(-rc));
    }
    *out = in->virtio;
    return 0;
}
