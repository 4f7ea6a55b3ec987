/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file rtc.h
 * The real-time clock and CMOS RAM of PCs: a Motorola MC146818A with 128 bytes behind an index port
 * and a data port (0x70 and 0x71 on PCs), with the century in byte 0x32.
 *
 * It runs on the host's wall clock (UTC), or on a clock of the embedder's. The guest may set it; the
 * difference is kept and saved. No timer is armed unless the guest has enabled an interrupt and
 * fetched the one before.
 */
#ifndef LIBVMM_RTC_H
#define LIBVMM_RTC_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/loop.h>

VMM_BEGIN_DECLS

struct vmm_rtc;

#define VMM_RTC_PORTS 2u /**< index, data */
/** Bytes of CMOS RAM; the first 14 are the clock's. */
#define VMM_RTC_CMOS_SIZE 128u
/** The century's byte; for the FADT (acpi.h). */
#define VMM_RTC_CENTURY 0x32u

struct vmm_rtc_options {
    size_t size;
    const char *name;         /**< of the device, such as "rtc" */
    struct vmm_irq_line *irq; /**< IRQ 8 on PCs; taken over. NULL: no interrupts */
    struct vmm_loop *loop;    /**< whose timers make the interrupts; held. Needed with `irq` */
    /** Nanoseconds since 1970-01-01 UTC; called with the device's lock held, on any thread. NULL: the
     *  host's CLOCK_REALTIME. */
    uint64_t (*clock)(void *ctx);
    void *clock_ctx;
    /** Seconds that the guest's clock is ahead of that at first: a time zone, or another date. */
    int64_t offset;
    /** RAM in bytes, put where firmware looks for it; 0 leaves those bytes zero. */
    uint64_t memory_below_4g;
    uint64_t memory_above_4g;
};
#define VMM_RTC_OPTIONS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_rtc_options), 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

/** -EINVAL: an irq without a loop, or an offset beyond 1000 years. On failure the line stays the
 *  caller's. */
VMM_API int vmm_rtc_new(const struct vmm_rtc_options *options, struct vmm_rtc **out);
VMM_API struct vmm_rtc *vmm_rtc_unref(struct vmm_rtc *rtc);
/** The device, for reset, save and load. Not a new reference. A reset disables interrupts and leaves
 *  time and RAM, which a battery keeps. */
VMM_API struct vmm_device *vmm_rtc_device(struct vmm_rtc *rtc);
/** Place its two ports on a bus. */
VMM_API int vmm_rtc_attach(struct vmm_rtc *rtc, struct vmm_bus *bus, uint64_t address,
                           struct vmm_error *err);

/** Read or set a byte of CMOS RAM, for boards that leave something to firmware. -EINVAL: one of the
 *  clock's 14 bytes or the century's, or beyond the end. Thread-safe. */
VMM_API int vmm_rtc_get_cmos(struct vmm_rtc *rtc, uint32_t index, uint8_t *value);
VMM_API int vmm_rtc_set_cmos(struct vmm_rtc *rtc, uint32_t index, uint8_t value);

VMM_END_DECLS

#endif
