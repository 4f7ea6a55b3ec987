/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI's fixed hardware (ACPI 6.5, 4.8.3). The timer is the clock, converted when somebody looks. */
#include "base/util.h"

#include <libvmm/acpi-pm.h>

#include <stdlib.h>
#include <time.h>

#define EVENTS                                                                                     \
    (VMM_ACPI_PM_TIMER_EVENT | VMM_ACPI_PM_GLOBAL | VMM_ACPI_PM_POWER_BUTTON |                     \
     VMM_ACPI_PM_SLEEP_BUTTON | VMM_ACPI_PM_RTC)
#define RAISABLE (VMM_ACPI_PM_POWER_BUTTON | VMM_ACPI_PM_SLEEP_BUTTON | VMM_ACPI_PM_RTC)

#define STS            0u
#define EN             2u
#define CNT_SCI_EN     0x0001u
#define CNT_BM_RLD     0x0002u
#define CNT_SLP_TYP    0x1c00u
#define CNT_SLP_SHIFT  10u
#define CNT_SLP_EN     0x2000u
#define CNT_KEPT       (CNT_SCI_EN | CNT_BM_RLD | CNT_SLP_TYP)
#define PORTS_MIN      16u
#define TIMER_HALF_BIT 31u /* the event comes each time this bit changes */
#define NS             UINT64_C(1000000000)

struct vmm_acpi_pm {
    struct vmm_device *device;
    struct vmm_irq_line *sci;
    struct vmm_loop *loop;
    struct vmm_timer *timer;
    void (*sleep)(void *ctx, uint32_t type);
    uint64_t (*clock)(void *ctx);
    void *ctx;
    uint32_t length; /* in ports */
    uint64_t offset; /* ticks that the timer is ahead of the clock */
    uint64_t seen;   /* ticks: events up to here are in `status` */
    uint16_t status, enable, control;
};

static uint64_t clock_ticks(const struct vmm_acpi_pm *pm)
{
    uint64_t ns;
    if (pm->clock) {
        ns = pm->clock(pm->ctx);
    } else {
        struct timespec t = {0, 0};
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        ns = (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
    }
    return ns / NS * VMM_ACPI_PM_HZ + ns % NS * VMM_ACPI_PM_HZ / NS;
}

static uint64_t ticks(const struct vmm_acpi_pm *pm)
{
    return clock_ticks(pm) + pm->offset;
}

static void catch_up(struct vmm_acpi_pm *pm)
{
    uint64_t now = ticks(pm);
    if (now >> TIMER_HALF_BIT != pm->seen >> TIMER_HALF_BIT)
        pm->status |= VMM_ACPI_PM_TIMER_EVENT;
    pm->seen = now;
}

/* The level of the interrupt, and a wake-up for the timer's event only where one is wanted. */
static void update(struct vmm_acpi_pm *pm)
{
    bool pending = (pm->control & CNT_SCI_EN) && (pm->status & pm->enable & EVENTS);
    (void)vmm_irq_line_set(pm->sci, pending);
    if (!pm->timer)
        return;
    if (!(pm->enable & VMM_ACPI_PM_TIMER_EVENT) || (pm->status & VMM_ACPI_PM_TIMER_EVENT)) {
        vmm_timer_cancel(pm->timer);
        return;
    }
    uint64_t next = ((pm->seen >> TIMER_HALF_BIT) + 1) << TIMER_HALF_BIT;
    uint64_t wait = next - pm->seen; /* at most 2^31: the product fits */
    (void)vmm_timer_set(pm->timer, vmm_loop_now(pm->loop) + wait * NS / VMM_ACPI_PM_HZ + 1);
}

static void expired(void *ctx)
{
    struct vmm_acpi_pm *pm = ctx;
    vmm_device_lock(pm->device);
    catch_up(pm);
    update(pm);
    vmm_device_unlock(pm->device);
}

/* Two bytes at a time; the timer is read whole or in halves. */
static uint64_t pm_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_acpi_pm *pm = ctx;
    catch_up(pm);
    update(pm);
    switch (offset) {
    case STS:
        return pm->status | (width == 4 ? (uint32_t)pm->enable << 16 : 0);
    case EN:
        return pm->enable;
    case VMM_ACPI_PM_CONTROL:
        return pm->control;
    case VMM_ACPI_PM_TIMER:
        return pm->seen & UINT32_MAX;
    case VMM_ACPI_PM_TIMER + 2:
        return pm->seen >> 16 & 0xffff;
    default:
        return 0;
    }
}

static void write_control(struct vmm_acpi_pm *pm, uint16_t value)
{
    pm->control = value & CNT_KEPT;
    if ((value & CNT_SLP_EN) && pm->sleep)
        pm->sleep(pm->ctx, (value & CNT_SLP_TYP) >> CNT_SLP_SHIFT);
}

static void pm_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_acpi_pm *pm = ctx;
    catch_up(pm);
    if (offset == STS) {
        pm->status &= (uint16_t)~value;
        if (width == 4)
            pm->enable = (uint16_t)(value >> 16) & EVENTS;
    } else if (offset == EN) {
        pm->enable = (uint16_t)value & EVENTS;
    } else if (offset == VMM_ACPI_PM_CONTROL) {
        write_control(pm, (uint16_t)value);
    }
    update(pm);
}

static void reset(void *ctx)
{
    struct vmm_acpi_pm *pm = ctx;
    pm->status = pm->enable = pm->control = 0;
    pm->offset = 0 - clock_ticks(pm);
    pm->seen = 0;
    update(pm);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_acpi_pm *pm = ctx;
    catch_up(pm);
    (void)vmm_state_put_u32(w, "status", pm->status);
    (void)vmm_state_put_u32(w, "enable", pm->enable);
    (void)vmm_state_put_u32(w, "control", pm->control);
    return vmm_state_put_u64(w, "timer", pm->seen);
}

static int check_bits(const struct vmm_acpi_pm *pm, const char *name, uint32_t value, uint32_t mask,
                      struct vmm_error *err)
{
    return value & ~mask ? vmm_error_set(err, -EINVAL, "%s/%s: 0x%x has bits that mean nothing",
                                         vmm_device_name(pm->device), name, value)
                         : 0;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_acpi_pm *pm = ctx;
    uint32_t status, enable, control;
    uint64_t timer;
    (void)version;
    int rc = vmm_state_get_u32(r, "status", UINT16_MAX, &status, err);
    rc = rc ? rc : vmm_state_get_u32(r, "enable", UINT16_MAX, &enable, err);
    rc = rc ? rc : vmm_state_get_u32(r, "control", UINT16_MAX, &control, err);
    rc = rc ? rc : vmm_state_get_u64(r, "timer", UINT64_MAX, &timer, err);
    rc = rc ? rc : check_bits(pm, "status", status, EVENTS, err);
    rc = rc ? rc : check_bits(pm, "enable", enable, EVENTS, err);
    rc = rc ? rc : check_bits(pm, "control", control, CNT_KEPT, err);
    if (rc)
        return rc;
    pm->status = (uint16_t)status;
    pm->enable = (uint16_t)enable;
    pm->control = (uint16_t)control;
    pm->offset = timer - clock_ticks(pm);
    pm->seen = timer;
    update(pm);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_acpi_pm *pm = ctx;
    vmm_timer_free(pm->timer);
    vmm_irq_line_free(pm->sci);
    vmm_loop_unref(pm->loop);
    free(pm);
}

int vmm_acpi_pm_new(const struct vmm_acpi_pm_options *given, struct vmm_acpi_pm **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_acpi_pm_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (!rc && o.length && (o.length < PORTS_MIN || o.length > VMM_ACPI_PM_LENGTH))
        rc = -EINVAL;
    if (rc)
        return rc;
    struct vmm_acpi_pm *pm = calloc(1, sizeof(*pm));
    if (!pm)
        return -ENOMEM;
    rc = vmm_device_new(o.name, &ops, pm, &pm->device);
    if (rc) {
        free(pm);
        return rc;
    }
    pm->sleep = o.sleep;
    pm->clock = o.clock;
    pm->ctx = o.ctx;
    pm->length = o.length ? o.length : VMM_ACPI_PM_LENGTH;
    pm->loop = o.loop ? vmm_loop_ref(o.loop) : NULL;
    rc = o.loop ? vmm_timer_new(o.loop, expired, pm, &pm->timer) : 0;
    if (rc) {
        vmm_device_unref(pm->device);
        return rc;
    }
    pm->sci = o.sci; /* on failure it stays the caller's */
    reset(pm);
    *out = pm;
    return 0;
}

struct vmm_acpi_pm *vmm_acpi_pm_unref(struct vmm_acpi_pm *pm)
{
    if (pm)
        vmm_device_unref(pm->device);
    return NULL;
}

struct vmm_device *vmm_acpi_pm_device(struct vmm_acpi_pm *pm)
{
    return pm->device;
}

int vmm_acpi_pm_attach(struct vmm_acpi_pm *pm, struct vmm_bus *bus, uint64_t address,
                       struct vmm_region **out, struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = pm_read,
        .write = pm_write,
        .min_width = 2,
        .max_width = 4,
    };
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(pm->device);
    region.address = address;
    region.length = pm->length;
    region.device = pm->device;
    region.ops = &ops;
    region.ctx = pm;
    return vmm_bus_add(bus, &region, out, err);
}

int vmm_acpi_pm_raise(struct vmm_acpi_pm *pm, uint32_t events)
{
    if (events & ~RAISABLE)
        return -EINVAL;
    vmm_device_lock(pm->device);
    pm->status |= (uint16_t)events;
    update(pm);
    vmm_device_unlock(pm->device);
    return 0;
}

void vmm_acpi_pm_set_acpi_mode(struct vmm_acpi_pm *pm, bool on)
{
    vmm_device_lock(pm->device);
    pm->control = (uint16_t)((pm->control & ~CNT_SCI_EN) | (on ? CNT_SCI_EN : 0));
    update(pm);
    vmm_device_unlock(pm->device);
}
