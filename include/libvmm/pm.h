/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file pm.h
 * Power management of hardware-reduced ACPI: the sleep control and status registers (ACPI 6.5
 * §4.8.3.7), the reset register (§4.8.3.6), and the status register of a generic event device
 * (§5.6.9), with an interrupt.
 *
 * The registers, from the address that it is attached at:
 *
 *   +0  SLEEP_CONTROL, 8 bits   +1  SLEEP_STATUS, 8 bits   +2  RESET, 8 bits
 *   +4  EVENT, 32 bits: events that are pending; writing a one clears it
 */
#ifndef LIBVMM_PM_H
#define LIBVMM_PM_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>

VMM_BEGIN_DECLS

struct vmm_pm;

#define VMM_PM_LENGTH        8u
#define VMM_PM_SLEEP_CONTROL 0u
#define VMM_PM_SLEEP_STATUS  1u
#define VMM_PM_RESET         2u
#define VMM_PM_EVENT         4u
/** What the FADT's RESET_VALUE must be. */
#define VMM_PM_RESET_VALUE 1u

/* What the guest asks for. */
#define VMM_PM_POWER_OFF 0u /**< S5 */
#define VMM_PM_REBOOT    1u
#define VMM_PM_SLEEP     2u /**< another sleep state: `type` says which */

/** The SLP_TYP that means S5, for the DSDT's \_S5. */
#define VMM_PM_TYPE_S5 5u

/* Events: bits of the EVENT register. */
#define VMM_PM_POWER_BUTTON 0x1u
#define VMM_PM_SLEEP_BUTTON 0x2u
/** The board's own (hot plug and the like); its DSDT says what they mean. */
#define VMM_PM_BOARD_EVENTS 0xffffff00u

struct vmm_pm_options {
    size_t size;
    const char *name;
    struct vmm_irq_line *irq; /**< level-triggered; taken over. NULL: no events */
    /** Called with the device's lock held, on the vCPU's thread. */
    void (*request)(void *ctx, uint32_t what, uint32_t type);
    void *ctx;
};
#define VMM_PM_OPTIONS_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_pm_options), 0, 0, 0, 0                                                  \
    }

/** On failure the line stays the caller's. */
VMM_API int vmm_pm_new(const struct vmm_pm_options *options, struct vmm_pm **out);
VMM_API struct vmm_pm *vmm_pm_unref(struct vmm_pm *pm);
VMM_API struct vmm_device *vmm_pm_device(struct vmm_pm *pm);
VMM_API int vmm_pm_attach(struct vmm_pm *pm, struct vmm_bus *bus, uint64_t address,
                          struct vmm_error *err);
/** Make events pending and interrupt the guest. -EINVAL: not one of the above; -ENODEV: there is no
 *  irq. Thread-safe. */
VMM_API int vmm_pm_raise(struct vmm_pm *pm, uint32_t events);

VMM_END_DECLS

#endif
