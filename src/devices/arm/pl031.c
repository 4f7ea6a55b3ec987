/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The real-time clock PL031: seconds since 1970, and an alarm (ARM DDI 0224C, chapter 3). Nothing ticks: the time is
 * the host's plus an offset, and a timer waits for the alarm only where its interrupt is enabled.
 */
#include "devices/arm/primecell.h"

#include <stdlib.h>
#include <time.h>

#define PART     0x031u
#define REVISION 0u

#define REG_DR   0x00u
#define REG_MR   0x04u
#define REG_LR   0x08u
#define REG_CR   0x0cu
#define REG_IMSC 0x10u
#define REG_RIS  0x14u
#define REG_MIS  0x18u
#define REG_ICR  0x1cu

#define NS UINT64_C(1000000000)

struct vmm_pl031 {
    struct vmm_device *device;
    struct vmm_irq_line *irq;
    struct vmm_loop *loop;
    struct vmm_timer *timer; /* NULL: no interrupts */
    uint64_t (*clock)(void *ctx);
    void *clock_ctx;
    uint32_t offset; /* the guest's seconds less the host's, modulo 2^32 as the counter */
    uint32_t match, load, imsc, ris;
};

static uint64_t host_ns(const struct vmm_pl031 *c)
{
    if (c->clock)
        return c->clock(c->clock_ctx);
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static uint32_t guest_seconds(const struct vmm_pl031 *c)
{
    return (uint32_t)(host_ns(c) / NS) + c->offset;
}

static void update_irq(struct vmm_pl031 *c)
{
    (void)vmm_irq_line_set(c->irq, c->ris & c->imsc);
}

/* The counter reaches the match register within 2^32 seconds; a timer is set if that can be seen. */
static void arm_alarm(struct vmm_pl031 *c)
{
    if (!c->timer)
        return;
    uint32_t ahead = c->match - guest_seconds(c);
    if (!c->imsc || c->ris) {
        vmm_timer_cancel(c->timer);
        return;
    }
    uint64_t into_second = host_ns(c) % NS;
    uint64_t wait = ahead ? ahead * NS - into_second : 0;
    (void)vmm_timer_set(c->timer, vmm_loop_now(c->loop) + wait);
}

static void alarm_due(void *ctx)
{
    struct vmm_pl031 *c = ctx;
    vmm_device_lock(c->device);
    if (c->imsc && !c->ris) {
        if (guest_seconds(c) == c->match)
            c->ris = 1;
        else
            arm_alarm(c); /* a little early, or the host's clock was set */
        update_irq(c);
    }
    vmm_device_unlock(c->device);
}

static uint64_t read_page(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_pl031 *c = ctx;
    (void)width;
    switch (offset) {
    case REG_DR:
        return guest_seconds(c);
    case REG_MR:
        return c->match;
    case REG_LR:
        return c->load;
    case REG_CR:
        return 1; /* it runs */
    case REG_IMSC:
        return c->imsc;
    case REG_RIS:
        return c->ris;
    case REG_MIS:
        return c->ris & c->imsc;
    default:
        return offset >= PRIMECELL_ID_START && offset % 4 == 0
                   ? primecell_id((uint32_t)offset, PART, REVISION)
                   : 0;
    }
}

static void write_page(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pl031 *c = ctx;
    (void)width;
    switch (offset) {
    case REG_MR:
        c->match = (uint32_t)value;
        break;
    case REG_LR:
        c->load = (uint32_t)value;
        c->offset = (uint32_t)value - (uint32_t)(host_ns(c) / NS);
        break;
    case REG_IMSC:
        c->imsc = value & 1;
        break;
    case REG_ICR:
        c->ris &= ~(uint32_t)value & 1;
        break;
    default:
        return;
    }
    arm_alarm(c);
    update_irq(c);
}

static void reset(void *ctx)
{
    struct vmm_pl031 *c = ctx;
    c->match = c->load = c->imsc = c->ris = 0;
    arm_alarm(c);
    update_irq(c);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pl031 *c = ctx;
    (void)vmm_state_put_u32(w, "offset", c->offset);
    (void)vmm_state_put_u32(w, "match", c->match);
    (void)vmm_state_put_u32(w, "load", c->load);
    (void)vmm_state_put_u32(w, "imsc", c->imsc);
    return vmm_state_put_u32(w, "ris", c->ris);
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pl031 *c = ctx;
    uint32_t offset = 0, match = 0, loaded = 0, imsc = 0, ris = 0;
    (void)version;
    int rc = vmm_state_get_u32(r, "offset", UINT32_MAX, &offset, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "match", UINT32_MAX, &match, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "load", UINT32_MAX, &loaded, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "imsc", 1, &imsc, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "ris", 1, &ris, err);
    if (rc)
        return rc;
    c->offset = offset;
    c->match = match;
    c->load = loaded;
    c->imsc = imsc;
    c->ris = ris;
    arm_alarm(c);
    update_irq(c);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_pl031 *c = ctx;
    vmm_timer_free(c->timer);
    vmm_loop_unref(c->loop);
    vmm_irq_line_free(c->irq);
    free(c);
}

int vmm_pl031_new(const struct vmm_pl031_options *given, struct vmm_pl031 **out)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    struct vmm_pl031_options o;
    if (!given || !out)
        return -EINVAL;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc || (o.irq && !o.loop))
        return rc ? rc : -EINVAL;
    struct vmm_pl031 *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->clock = o.clock;
    c->clock_ctx = o.clock_ctx;
    if (o.loop) {
        c->loop = vmm_loop_ref(o.loop);
        rc = vmm_timer_new(o.loop, alarm_due, c, &c->timer);
    }
    if (!rc)
        rc = vmm_device_new(o.name, &ops, c, &c->device);
    if (rc) {
        destroy(c);
        return rc;
    }
    c->irq = o.irq;
    *out = c;
    return 0;
}

struct vmm_pl031 *vmm_pl031_unref(struct vmm_pl031 *c)
{
    if (c)
        vmm_device_unref(c->device);
    return NULL;
}

struct vmm_device *vmm_pl031_device(struct vmm_pl031 *c)
{
    return c->device;
}

int vmm_pl031_attach(struct vmm_pl031 *c, struct vmm_bus *bus, uint64_t address,
                     struct vmm_error *err)
{
    return primecell_attach(c->device, c, read_page, write_page, bus, address, err);
}
