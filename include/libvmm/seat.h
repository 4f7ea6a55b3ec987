/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file seat.h
 * Keys and pointers on their way from whoever has them (VNC, a window, a test) to the devices that the
 * guest reads: a small switch between the two.
 *
 *     vmm_seat_new(&input);
 *     vmm_seat_attach(input, &ops, keyboard);     // ops.key = a function that calls vmm_i8042_key()
 *     vnc_options.input = input;
 *
 * Keys are codes of <linux/input-event-codes.h> (KEY_…, BTN_…). All functions are thread-safe.
 */
#ifndef LIBVMM_SEAT_H
#define LIBVMM_SEAT_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_seat;

#define VMM_SEAT_DEVICES 8u      /**< that can be attached */
#define VMM_POINTER_MAX  0x7fffu /**< the right and lower edge of absolute positions */

struct vmm_seat_ops {
    size_t size;
    /** KEY_… or BTN_…, pressed or let go. May be NULL, as all of these. */
    void (*key)(void *ctx, uint32_t code, bool down);
    /** The pointer's place, 0 to VMM_POINTER_MAX in each direction. */
    void (*absolute)(void *ctx, uint32_t x, uint32_t y);
    /** How far it moved, in pixels. From a source of absolute positions too. */
    void (*relative)(void *ctx, int32_t dx, int32_t dy);
    /** Steps of the wheel, away from the user positive; and of the one that goes sideways. */
    void (*wheel)(void *ctx, int32_t vertical, int32_t horizontal);
};

VMM_API int vmm_seat_new(struct vmm_seat **out);
VMM_API struct vmm_seat *vmm_seat_ref(struct vmm_seat *input);
VMM_API struct vmm_seat *vmm_seat_unref(struct vmm_seat *input);

/** A device listens: all events go to all devices. Its callbacks may take the device's lock, but not
 *  call this object. -ENOSPC: VMM_SEAT_DEVICES do. */
VMM_API int vmm_seat_attach(struct vmm_seat *input, const struct vmm_seat_ops *ops, void *ctx);
/** By its `ctx`; when this returns no callback runs any more. */
VMM_API void vmm_seat_detach(struct vmm_seat *input, const void *ctx);

VMM_API void vmm_seat_key(struct vmm_seat *input, uint32_t code, bool down);
/** A key by its symbol of X11 (keysymdef.h), on a keyboard of the United States; what another key makes
 *  together with shift is that key. -ENOENT: no key has it. */
VMM_API int vmm_seat_keysym(struct vmm_seat *input, uint32_t keysym, bool down);
/** Type: printable ASCII, line feeds and tabs, with shift where needed. -EINVAL: another character is in
 *  it; then nothing is typed. Devices that buffer little lose what is typed at once: see their headers. */
VMM_API int vmm_seat_text(struct vmm_seat *input, const char *text);
/** The pointer is at `x`, `y` of a screen of `width` x `height` pixels. */
VMM_API void vmm_seat_absolute(struct vmm_seat *input, uint32_t x, uint32_t y, uint32_t width,
                               uint32_t height);
VMM_API void vmm_seat_relative(struct vmm_seat *input, int32_t dx, int32_t dy);
VMM_API void vmm_seat_wheel(struct vmm_seat *input, int32_t vertical, int32_t horizontal);

VMM_END_DECLS

#endif
