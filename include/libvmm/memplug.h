/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file memplug.h
 * Memory hot plug: the registers by which a guest's ACPI code learns of RAM that was added while it
 * runs, and gives it back. The interface is the library's own; the board's DSDT is its only driver
 * (devices PNP0C80, ACPI 6.5 §9.12; _OST, §6.3.5).
 *
 * The registers, 32 bits each, from the address that it is attached at:
 *
 *   +0   SELECT, the slot that the others are about; one that is not there reads as empty
 *   +4   STATUS (VMM_MEMPLUG_…); writing INSERTED or REMOVAL clears it, EJECT gives the slot back
 *   +8   ADDRESS, +12 its upper half   +16  LENGTH in bytes, +20 its upper half (read-only)
 *   +24  OST_EVENT, +28 OST_STATUS: what the guest reports; the second write hands it over
 *
 * It interrupts nobody: who inserts raises the board's event (vmm_pm_raise()) afterwards.
 */
#ifndef LIBVMM_MEMPLUG_H
#define LIBVMM_MEMPLUG_H

#include <libvmm/bus.h>

VMM_BEGIN_DECLS

struct vmm_memplug;

#define VMM_MEMPLUG_LENGTH    32u
#define VMM_MEMPLUG_SLOTS_MAX 64u

#define VMM_MEMPLUG_PRESENT  0x1u /**< there is RAM */
#define VMM_MEMPLUG_INSERTED 0x2u /**< … and the guest has not been told */
#define VMM_MEMPLUG_REMOVAL  0x4u /**< the guest is asked to give it back, and has not been told */
#define VMM_MEMPLUG_EJECT    0x8u /**< write-only: the guest uses it no more */

struct vmm_memplug_options {
    size_t size;
    const char *name;
    uint32_t slots; /**< 1 to VMM_MEMPLUG_SLOTS_MAX */
    uint32_t reserved;
    /** The guest has given up a slot: vmm_memplug_take_ejected() tells which. The RAM must stay until
     *  then. Called on a vCPU's thread with the device's lock held. */
    void (*ejected)(void *ctx);
    void *ctx;
};
#define VMM_MEMPLUG_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_memplug_options), 0, 0, 0, 0, 0                                          \
    }

struct vmm_memplug_slot {
    size_t size;
    uint64_t address; /**< guest-physical */
    uint64_t length;  /**< bytes; 0: the slot is empty */
    uint32_t
        status; /**< VMM_MEMPLUG_… as the guest reads it; 0 with a length: ejected, not taken */
    uint32_t ost_event;  /**< what the guest reported last (ACPI 6.5, table 6.12 and following) */
    uint32_t ost_status; /**< 0: success */
    uint32_t ost_count;  /**< reports so far */
};
#define VMM_MEMPLUG_SLOT_INIT                                                                      \
    {                                                                                              \
        sizeof(struct vmm_memplug_slot), 0, 0, 0, 0, 0, 0                                          \
    }

/** -EINVAL: options out of range; -ENOMEM. */
VMM_API int vmm_memplug_new(const struct vmm_memplug_options *options, struct vmm_memplug **out);
VMM_API struct vmm_memplug *vmm_memplug_unref(struct vmm_memplug *memplug);
VMM_API struct vmm_device *vmm_memplug_device(struct vmm_memplug *memplug);
VMM_API int vmm_memplug_attach(struct vmm_memplug *memplug, struct vmm_bus *bus, uint64_t address,
                               struct vmm_error *err);

/* Thread-safe. */

/** There is RAM at `address` now. -EINVAL: empty or wrapping; -EEXIST: overlaps a slot's; -ENOSPC: all
 *  slots are taken. @param slot  NULL, or gets its number */
VMM_API int vmm_memplug_insert(struct vmm_memplug *memplug, uint64_t address, uint64_t length,
                               uint32_t *slot);
/** Ask for a slot's RAM; the guest may refuse (see ost_status). -ENOENT: the slot is empty. */
VMM_API int vmm_memplug_request_removal(struct vmm_memplug *memplug, uint32_t slot);
/** A slot that the guest has ejected becomes empty. -ENOENT: there is none. */
VMM_API int vmm_memplug_take_ejected(struct vmm_memplug *memplug, uint32_t *slot);
/** -ENOENT: there is no slot of that number; -EINVAL: the structure's size. */
VMM_API int vmm_memplug_get_slot(struct vmm_memplug *memplug, uint32_t slot,
                                 struct vmm_memplug_slot *info);

VMM_END_DECLS

#endif
