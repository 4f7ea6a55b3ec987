/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file primecell.h
 * Three of ARM's PrimeCells, as arm64 boards have them: the UART PL011 (ARM DDI 0183), the real-time clock PL031
 * (ARM DDI 0224) and the GPIO controller PL061 (ARM DDI 0190). They are built on every architecture. Each takes
 * one page of memory space.
 *
 * Making and attaching are set-up only; what is marked so is thread-safe.
 */
#ifndef LIBVMM_PRIMECELL_H
#define LIBVMM_PRIMECELL_H

#include <libvmm/bus.h>
#include <libvmm/chardev.h>
#include <libvmm/irq.h>
#include <libvmm/loop.h>

VMM_BEGIN_DECLS

#define VMM_PRIMECELL_SIZE 0x1000u /**< of each one's registers */

/* UART ---------------------------------------------------------------------------------------- */

struct vmm_pl011;

struct vmm_pl011_options {
    size_t size;
    const char *name;            /**< of the device, such as "serial0" */
    struct vmm_chardev *chardev; /**< held; the UART becomes its user. NULL: output is dropped */
    struct vmm_irq_line *irq;    /**< taken over. NULL: none */
};
#define VMM_PL011_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_pl011_options), 0, 0, 0                                                  \
    }

/** -EBUSY: the chardev has a user; -EINVAL: a bad name; -ENOMEM. On failure the line stays the caller's. */
VMM_API int vmm_pl011_new(const struct vmm_pl011_options *options, struct vmm_pl011 **out);
/** The caller's reference; a region on a bus holds the device on, without input then. */
VMM_API struct vmm_pl011 *vmm_pl011_unref(struct vmm_pl011 *uart);
/** The device, for reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_pl011_device(struct vmm_pl011 *uart);
VMM_API int vmm_pl011_attach(struct vmm_pl011 *uart, struct vmm_bus *bus, uint64_t address,
                             struct vmm_error *err);

/* Real-time clock ----------------------------------------------------------------------------- */

struct vmm_pl031;

struct vmm_pl031_options {
    size_t size;
    const char *name;
    struct vmm_irq_line *irq; /**< taken over. NULL: none */
    struct vmm_loop *loop;    /**< whose timer makes the alarm; held. Needed with `irq` */
    /** Nanoseconds since 1970-01-01 UTC, from any thread, with the device's lock held. NULL: the host's
     *  CLOCK_REALTIME. */
    uint64_t (*clock)(void *ctx);
    void *clock_ctx;
};
#define VMM_PL031_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_pl031_options), 0, 0, 0, 0, 0                                            \
    }

/** -EINVAL: an irq without a loop, or a bad name. On failure the line stays the caller's. */
VMM_API int vmm_pl031_new(const struct vmm_pl031_options *options, struct vmm_pl031 **out);
VMM_API struct vmm_pl031 *vmm_pl031_unref(struct vmm_pl031 *clock);
/** The device, for reset, save and load. A reset leaves the time, which a battery keeps. */
VMM_API struct vmm_device *vmm_pl031_device(struct vmm_pl031 *clock);
VMM_API int vmm_pl031_attach(struct vmm_pl031 *clock, struct vmm_bus *bus, uint64_t address,
                             struct vmm_error *err);

/* GPIO ---------------------------------------------------------------------------------------- */

struct vmm_pl061;

struct vmm_pl061_options {
    size_t size;
    const char *name;
    struct vmm_irq_line *irq; /**< taken over. NULL: none */
    /** The guest has changed the levels of its outputs; with the device's lock held. NULL: nobody looks. */
    void (*output)(void *ctx, uint8_t pins, uint8_t levels);
    void *ctx;
};
#define VMM_PL061_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_pl061_options), 0, 0, 0, 0                                               \
    }

/** -EINVAL: a bad name. On failure the line stays the caller's. */
VMM_API int vmm_pl061_new(const struct vmm_pl061_options *options, struct vmm_pl061 **out);
VMM_API struct vmm_pl061 *vmm_pl061_unref(struct vmm_pl061 *gpio);
VMM_API struct vmm_device *vmm_pl061_device(struct vmm_pl061 *gpio);
VMM_API int vmm_pl061_attach(struct vmm_pl061 *gpio, struct vmm_bus *bus, uint64_t address,
                             struct vmm_error *err);
/** Set the level of pin 0 to 7, as a button or a sensor does. -EINVAL: there is no such pin. Thread-safe. */
VMM_API int vmm_pl061_set_input(struct vmm_pl061 *gpio, uint32_t pin, uint32_t level);

VMM_END_DECLS

#endif
