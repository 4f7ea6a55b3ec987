/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file i8042.h
 * The PC's keyboard controller with a PS/2 keyboard and a PS/2 wheel mouse, and the "fast A20" port.
 *
 * Ports 0x60 and 0x64 (IBM PS/2 hardware interface reference, keyboard and auxiliary device
 * controller) and 0x92 (system control port A). The keyboard knows scan code sets 1 and 2, the mouse
 * the standard, the three-byte IntelliMouse and the five-button protocol.
 */
#ifndef LIBVMM_I8042_H
#define LIBVMM_I8042_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>

VMM_BEGIN_DECLS

struct vmm_i8042;

struct vmm_i8042_options {
    size_t size;
    const char *name;
    struct vmm_irq_line *keyboard_irq; /**< IRQ 1; taken over on success. NULL: none */
    struct vmm_irq_line *mouse_irq;    /**< IRQ 12, the same */
    /** The guest has pulsed the reset line. With the device's lock held, on the vCPU's thread. May be
     *  NULL. */
    void (*reset)(void *ctx);
    /** The keyboard's lights have changed: VMM_I8042_LED_…; as above. May be NULL. */
    void (*leds)(void *ctx, uint32_t leds);
    void *ctx;
};
#define VMM_I8042_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_i8042_options), 0, 0, 0, 0, 0, 0                                         \
    }

#define VMM_I8042_LED_SCROLL 1u
#define VMM_I8042_LED_NUM    2u
#define VMM_I8042_LED_CAPS   4u

VMM_API int vmm_i8042_new(const struct vmm_i8042_options *options, struct vmm_i8042 **out);
VMM_API struct vmm_i8042 *vmm_i8042_unref(struct vmm_i8042 *i8042);
/** For reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_i8042_device(struct vmm_i8042 *i8042);
/** Claim the ports 0x60, 0x64 and 0x92. */
VMM_API int vmm_i8042_attach(struct vmm_i8042 *i8042, struct vmm_bus *bus, struct vmm_error *err);

/* What the user does; from any thread. */

/** A key went down (non-zero; again: it repeats) or up. @param code  KEY_… of <linux/input-event-codes.h>.
 *  -EINVAL: PS/2 has no such key; -EAGAIN: the guest does not fetch, or has switched the keyboard off;
 *  the key is dropped as a whole. */
VMM_API int vmm_i8042_key(struct vmm_i8042 *i8042, uint32_t code, uint32_t down);
/** The mouse moved: right and down are positive. Kept and added up while the guest does not fetch. */
VMM_API void vmm_i8042_mouse_move(struct vmm_i8042 *i8042, int32_t dx, int32_t dy);
/** The wheel turned; away from the user is positive. */
VMM_API void vmm_i8042_mouse_wheel(struct vmm_i8042 *i8042, int32_t steps);
/** A button: BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE or BTN_EXTRA; else -EINVAL. */
VMM_API int vmm_i8042_mouse_button(struct vmm_i8042 *i8042, uint32_t code, uint32_t down);

VMM_END_DECLS

#endif
