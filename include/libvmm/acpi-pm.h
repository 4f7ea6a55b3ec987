/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file acpi-pm.h
 * ACPI's fixed hardware (ACPI 6.5, 4.8): PM1 event and control registers and the power management
 * timer, as chipsets have them in a block of ports.
 *
 *   +0  PM1_STS, 16 bits   +2  PM1_EN, 16 bits   +4  PM1_CNT, 16 bits   +8  PM_TMR, 32 bits
 */
#ifndef LIBVMM_ACPI_PM_H
#define LIBVMM_ACPI_PM_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/loop.h>

VMM_BEGIN_DECLS

struct vmm_acpi_pm;

#define VMM_ACPI_PM_LENGTH  64u /**< ports that the block takes; what is not above reads as zero */
#define VMM_ACPI_PM_CONTROL 4u
#define VMM_ACPI_PM_TIMER   8u
#define VMM_ACPI_PM_HZ      3579545u

/* PM1 events (4.8.4.1). */
#define VMM_ACPI_PM_TIMER_EVENT  0x0001u
#define VMM_ACPI_PM_GLOBAL       0x0020u
#define VMM_ACPI_PM_POWER_BUTTON 0x0100u
#define VMM_ACPI_PM_SLEEP_BUTTON 0x0200u
#define VMM_ACPI_PM_RTC          0x0400u

struct vmm_acpi_pm_options {
    size_t size;
    const char *name;
    struct vmm_irq_line *sci; /**< level-triggered; taken over on success. NULL: none */
    struct vmm_loop *loop;    /**< of the timer's events; held. NULL: the timer makes none */
    /** The guest has set SLP_EN with this SLP_TYP. With the device's lock held, on the vCPU's thread. */
    void (*sleep)(void *ctx, uint32_t type);
    /** Nanoseconds that never go back; NULL: CLOCK_MONOTONIC. */
    uint64_t (*clock)(void *ctx);
    void *ctx;
    uint32_t length; /**< ports that the block takes, 16 to 64; 0: VMM_ACPI_PM_LENGTH */
    uint32_t reserved;
};
#define VMM_ACPI_PM_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_acpi_pm_options), 0, 0, 0, 0, 0, 0, 0, 0                                 \
    }

VMM_API int vmm_acpi_pm_new(const struct vmm_acpi_pm_options *options, struct vmm_acpi_pm **out);
VMM_API struct vmm_acpi_pm *vmm_acpi_pm_unref(struct vmm_acpi_pm *pm);
/** For reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_acpi_pm_device(struct vmm_acpi_pm *pm);
/** @param out  NULL, or the region, for chipsets whose firmware moves it (vmm_bus_place()) */
VMM_API int vmm_acpi_pm_attach(struct vmm_acpi_pm *pm, struct vmm_bus *bus, uint64_t address,
                               struct vmm_region **out, struct vmm_error *err);
/** Make events pending; the guest is interrupted where it has enabled them. Thread-safe. -EINVAL: not
 *  one of the buttons and RTC. */
VMM_API int vmm_acpi_pm_raise(struct vmm_acpi_pm *pm, uint32_t events);
/** Set SCI_EN, as firmware's SMI handler does on ACPI_ENABLE and ACPI_DISABLE (4.7.2.5). Thread-safe. */
VMM_API void vmm_acpi_pm_set_acpi_mode(struct vmm_acpi_pm *pm, bool on);

VMM_END_DECLS

#endif
