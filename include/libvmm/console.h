/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file console.h
 * The console device (VIRTIO 1.2 §5.3): consoles (hvc0 of Linux and so on) and named ports
 * (/dev/virtio-ports/NAME), each with a character backend.
 */
#ifndef LIBVMM_CONSOLE_H
#define LIBVMM_CONSOLE_H

#include <libvmm/chardev.h>
#include <libvmm/virtio.h>

VMM_BEGIN_DECLS

#define VMM_CONSOLE_PORTS_MAX 31u
#define VMM_CONSOLE_NAME_MAX  64u

struct vmm_console_port {
    size_t size;
    struct vmm_chardev *chardev; /**< held; of no other user */
    const char *name;            /**< at most 64 bytes; NULL: none */
    uint32_t console;            /**< non-zero: a console; 0: a port for programs */
    /** Non-zero: the backend has no peer yet, and will say so when one comes (VMM_CHARDEV_OPENED), as
     *  sockets that listen do. The guest sees that a port's other end is not there. */
    uint32_t closed;
    uint32_t columns, rows; /**< of a console; 0: not known */
};
#define VMM_CONSOLE_PORT_INIT                                                                      \
    {                                                                                              \
        sizeof(struct vmm_console_port), 0, 0, 0, 0, 0, 0                                          \
    }

struct vmm_virtio_console_options {
    size_t size;
    const struct vmm_console_port *const
        *ports;          /**< the first is the one that simple drivers know */
    uint32_t port_count; /**< 1 to 31 */
    /** Non-zero: RESIZE messages (for all but a single console) have the rows first, as Linux before 6.15
     *  reads them; the specification has the columns first. */
    uint32_t rows_first;
};
#define VMM_VIRTIO_CONSOLE_OPTIONS_INIT                                                            \
    {                                                                                              \
        sizeof(struct vmm_virtio_console_options), 0, 0, 0                                         \
    }

/** One console without a name is a device without the multiport feature. -EINVAL: options out of range;
 *  -EBUSY: a chardev has a user. */
VMM_API int vmm_virtio_console_new(const struct vmm_virtio_place *place,
                                   const struct vmm_virtio_console_options *options,
                                   struct vmm_virtio **out, struct vmm_error *err);

/** The window of a console has another size now. -EINVAL: no console device, no such port, or no console;
 *  a size above 65535. Thread-safe. */
VMM_API int vmm_console_resize(struct vmm_virtio *virtio, uint32_t port, uint32_t columns,
                               uint32_t rows);

VMM_END_DECLS

#endif
