/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI's hardware-reduced power management, and a generic event device's register. */
#include "base/util.h"

#include <libvmm/pm.h>

#include <stdlib.h>

#define SLP_TYP_SHIFT 2u
#define SLP_TYP_MASK  7u
#define SLP_EN        0x20u
#define WAK_STS       0x80u
#define EVENTS        (VMM_PM_POWER_BUTTON | VMM_PM_SLEEP_BUTTON | VMM_PM_BOARD_EVENTS)

struct vmm_pm {
    struct vmm_device *device;
    struct vmm_irq_line *irq;
    void (*request)(void *ctx, uint32_t what, uint32_t type);
    void *ctx;
    uint32_t events;
    uint8_t sleep_status;
};

static void update_irq(struct vmm_pm *pm)
{
    (void)vmm_irq_line_set(pm->irq, pm->events != 0);
}

/* SLP_EN is write-only and always reads as zero; so does the rest, which has no effect alone. */
static uint64_t pm_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_pm *pm = ctx;
    (void)width;
    if (offset == VMM_PM_SLEEP_STATUS)
        return pm->sleep_status;
    if (offset >= VMM_PM_EVENT)
        return pm->events >> ((offset - VMM_PM_EVENT) * 8);
    return 0;
}

static void write_sleep_control(struct vmm_pm *pm, uint32_t value)
{
    uint32_t type = (value >> SLP_TYP_SHIFT) & SLP_TYP_MASK;
    if (!(value & SLP_EN) || !pm->request)
        return;
    if (type == VMM_PM_TYPE_S5)
        pm->request(pm->ctx, VMM_PM_POWER_OFF, type);
    else
        pm->request(pm->ctx, VMM_PM_SLEEP, type);
}

static void pm_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pm *pm = ctx;
    (void)width;
    if (offset == VMM_PM_SLEEP_CONTROL) {
        write_sleep_control(pm, (uint32_t)value);
    } else if (offset == VMM_PM_SLEEP_STATUS) {
        pm->sleep_status &= (uint8_t) ~(value & WAK_STS);
    } else if (offset == VMM_PM_RESET) {
        if (value == VMM_PM_RESET_VALUE && pm->request)
            pm->request(pm->ctx, VMM_PM_REBOOT, 0);
    } else if (offset >= VMM_PM_EVENT) {
        pm->events &= ~(uint32_t)((value & 0xff) << ((offset - VMM_PM_EVENT) * 8));
        update_irq(pm);
    }
}

static void reset(void *ctx)
{
    struct vmm_pm *pm = ctx;
    pm->events = 0;
    pm->sleep_status = 0;
    update_irq(pm);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pm *pm = ctx;
    (void)vmm_state_put_u32(w, "events", pm->events);
    return vmm_state_put_u32(w, "sleep-status", pm->sleep_status);
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pm *pm = ctx;
    uint32_t events, status;
    (void)version;
    int rc = vmm_state_get_u32(r, "events", UINT32_MAX, &events, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "sleep-status", WAK_STS, &status, err);
    if (!rc && (events & ~EVENTS))
        rc = vmm_error_set(err, -EINVAL, "%s/events: %#x has bits that mean nothing",
                           vmm_device_name(pm->device), events);
    if (!rc && (status & ~WAK_STS))
        rc = vmm_error_set(err, -EINVAL, "%s/sleep-status: %#x", vmm_device_name(pm->device),
                           status);
    if (rc)
        return rc;
    pm->events = events;
    pm->sleep_status = (uint8_t)status;
    update_irq(pm);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_pm *pm = ctx;
    vmm_irq_line_free(pm->irq);
    free(pm);
}

int vmm_pm_new(const struct vmm_pm_options *given, struct vmm_pm **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_pm_options options;
    int rc = vmm_options_copy(&options, sizeof(options), given);
    if (rc)
        return rc;
    struct vmm_pm *pm = calloc(1, sizeof(*pm));
    if (!pm)
        return -ENOMEM;
    rc = vmm_device_new(options.name, &ops, pm, &pm->device);
    if (rc) {
        free(pm);
        return rc;
    }
    pm->irq = options.irq;
    pm->request = options.request;
    pm->ctx = options.ctx;
    *out = pm;
    return 0;
}

struct vmm_pm *vmm_pm_unref(struct vmm_pm *pm)
{
    if (pm)
        vmm_device_unref(pm->device);
    return NULL;
}

struct vmm_device *vmm_pm_device(struct vmm_pm *pm)
{
    return pm->device;
}

int vmm_pm_attach(struct vmm_pm *pm, struct vmm_bus *bus, uint64_t address, struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = pm_read,
        .write = pm_write,
        .min_width = 1,
        .max_width = 1,
    };
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(pm->device);
    region.address = address;
    region.length = VMM_PM_LENGTH;
    region.device = pm->device;
    region.ops = &ops;
    region.ctx = pm;
    return vmm_bus_add(bus, &region, NULL, err);
}

int vmm_pm_raise(struct vmm_pm *pm, uint32_t events)
{
    if (events & ~EVENTS)
        return -EINVAL;
    if (!pm->irq)
        return -ENODEV;
    vmm_device_lock(pm->device);
    pm->events |= events;
    update_irq(pm);
    vmm_device_unlock(pm->device);
    return 0;
}
