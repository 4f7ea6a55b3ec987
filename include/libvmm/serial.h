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

/** -EBUSY: the chardev has a user; -EINVAL: a bad name. On failure the line stays the caller's. */
VMM_API int vmm_serial_new(const struct vmm_serial_options *options, struct vmm_serial **out);
/** The caller's reference; regions on a bus hold the device on, without input then. */
VMM_API struct vmm_serial *vmm_serial_unref(struct vmm_serial *serial);
/** The device, for reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_serial_device(struct vmm_serial *serial);
/** Place its eight registers on a bus, each `1 << shift` (0 to 3) bytes after the one before. -EBUSY:
 *  it is on a bus with another shift. Other errors as vmm_bus_add(). Set-up only. */
VMM_API int vmm_serial_attach(struct vmm_serial *serial, struct vmm_bus *bus, uint64_t address,
                              uint32_t shift, struct vmm_error *err);

/** Receive a break (Linux: the prefix of a SysRq key). Thread-safe. */
VMM_API void vmm_serial_send_break(struct vmm_serial *serial);

/* Modem inputs, as in the modem status register (data sheet 8.8). */
#define VMM_SERIAL_CTS 0x10u
#define VMM_SERIAL_DSR 0x20u
#define VMM_SERIAL_RI  0x40u
#define VMM_SERIAL_DCD 0x80u
/** Set the levels of the modem inputs (at first CTS, DSR and DCD: a peer is there). They survive a
 *  reset of the device. Thread-safe. */
VMM_API void vmm_serial_set_modem_inputs(struct vmm_serial *serial, uint32_t inputs);

VMM_END_DECLS

#endif
