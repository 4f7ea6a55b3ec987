/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file serial.h
 * A 16550A UART (National PC16550D), as PCs have it at 0x3f8 and elsewhere.
 */
#ifndef LIBVMM_SERIAL_H
#define LIBVMM_SERIAL_H

#include <libvmm/bus.h>
#include <libvmm/chardev.h>
#include <libvmm/irq.h>

VMM_BEGIN_DECLS

struct vmm_serial;

struct vmm_serial_options {
    size_t size;
    const char *name;            /**< of the device, such as "serial0" */
    struct vmm_chardev *chardev; /**< held; the UART becomes its user. NULL: output is dropped */
    struct vmm_irq_line *irq;    /**< taken over. NULL: none */
};
#define VMM_SERIAL_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_serial_options), 0, 0, 0                                                 \
    }

/** -EBUSY: the chardev has a user. On failure the line stays the caller's. */
VMM_API int vmm_serial_new(const struct vmm_serial_options *options, struct vmm_serial **out);
VMM_API struct vmm_serial *vmm_serial_unref(struct vmm_serial *serial);
/** The device, for reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_serial_device(struct vmm_serial *serial);
/** Place its eight registers on a bus, each `1 << shift` bytes after the one before. */
VMM_API int vmm_serial_attach(struct vmm_serial *serial, struct vmm_bus *bus, uint64_t address,
                              uint32_t shift, struct vmm_error *err);

VMM_END_DECLS

#endif
