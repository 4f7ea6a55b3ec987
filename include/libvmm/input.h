/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file input.h
 * Input devices (VIRTIO 1.2 §5.8): a keyboard, a tablet or a mouse. Codes are those of Linux's evdev
 * (<linux/input-event-codes.h>), which is what the device carries.
 */
#ifndef LIBVMM_INPUT_H
#define LIBVMM_INPUT_H

#include <libvmm/virtio.h>

VMM_BEGIN_DECLS

#define VMM_INPUT_KEYBOARD 1u
#define VMM_INPUT_TABLET   2u /**< a pointer with a position: 0 to VMM_INPUT_ABS_MAX on both axes */
#define VMM_INPUT_MOUSE    3u

#define VMM_INPUT_ABS_MAX   32767u
#define VMM_INPUT_FRAME_MAX 32u /**< events sent together */

/** As evdev has them. */
struct vmm_input_event {
    uint16_t type;
    uint16_t code;
    int32_t value;
};

struct vmm_virtio_input_options {
    size_t size;
    uint32_t kind; /**< VMM_INPUT_… */
    uint32_t reserved;
    const char *serial; /**< at most 127 bytes; NULL: none */
    /** What the driver sends, such as the lamps of a keyboard (EV_LED). On the loop's thread; it must
     *  not call this device. NULL: ignored. */
    void (*status)(void *ctx, const struct vmm_input_event *event);
    void *ctx;
};
#define VMM_VIRTIO_INPUT_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_virtio_input_options), 0, 0, 0, 0, 0                                     \
    }

/** -EINVAL: options out of range. */
VMM_API int vmm_virtio_input_new(const struct vmm_virtio_place *place,
                                 const struct vmm_virtio_input_options *options,
                                 struct vmm_virtio **out, struct vmm_error *err);

/**
 * Send events as one frame; the device adds the SYN_REPORT. All arrive, or none.
 * -EINVAL: no input device, no or too many events, or one that this kind of device does not have;
 * -EAGAIN: dropped, for the driver has given no room (there may be no driver). Thread-safe.
 */
VMM_API int vmm_input_send(struct vmm_virtio *virtio, const struct vmm_input_event *events,
                           size_t count);
/** A key or button. @param value  1: pressed, 0: released, 2: repeated (keyboards repeat by themselves).
 *  Errors as vmm_input_send(). Thread-safe. */
VMM_API int vmm_input_key(struct vmm_virtio *virtio, uint32_t code, uint32_t value);
/** Where a tablet points to: 0 to VMM_INPUT_ABS_MAX. */
VMM_API int vmm_input_position(struct vmm_virtio *virtio, uint32_t x, uint32_t y);
/** How far a mouse has moved. */
VMM_API int vmm_input_move(struct vmm_virtio *virtio, int32_t x, int32_t y);

VMM_END_DECLS

#endif
