/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file pflash.h
 * Parallel NOR flash, as firmware keeps its variables in: one chip of eight bits, as PCs have it, or two of 16 bits
 * side by side, as Arm's boards do. The common flash interface (JESD68.01) and Intel's command set (CFI
 * vendor code 1; data sheet 290606, 28F160C3).
 *
 * While it is read as memory, guests read it without leaving the guest; each write is a command and does.
 * Commands change memory at once; what they change can be kept by a callback, which is called first, so
 * that the guest never sees what was not kept.
 *
 *     o.name = "vars";  o.memory = memory;  o.mmio = mmio;  o.address = 0xffc00000;
 *     o.length = 0x84000;  o.data = image;  o.data_length = 0x84000;  o.store = store;
 *     vmm_pflash_new(&o, &flash, err);
 */
#ifndef LIBVMM_PFLASH_H
#define LIBVMM_PFLASH_H

#include <libvmm/bus.h>
#include <libvmm/memory.h>

VMM_BEGIN_DECLS

struct vmm_pflash;

#define VMM_PFLASH_BLOCK      4096u /**< bytes that are erased together, unless said otherwise */
#define VMM_PFLASH_LENGTH_MAX (UINT64_C(256) << 20) /**< of one chip */

struct vmm_pflash_options {
    size_t size;
    const char *name;
    struct vmm_memory *memory; /**< held */
    struct vmm_bus *mmio;      /**< where commands are answered; held */
    uint64_t address;          /**< a multiple of the block's size, as is the length */
    uint64_t length;
    const void *data;   /**< what is in it; copied */
    size_t data_length; /**< up to `length`; the rest is erased, 0xff */
    uint32_t read_only; /**< non-zero: commands that change it fail as with the write-protect pin */
    int32_t priority;   /**< in the memory map, as vmm_memory_add() */
    /** Keep `length` bytes at `offset`, which are about to be the chip's. 0, or a negative errno: then the
     *  chip is as before and the guest reads of a failed command. With the device's lock held, on the
     *  vCPU's thread (or that of load). NULL: nothing is kept. */
    int (*store)(void *ctx, uint64_t offset, const void *data, size_t length);
    void (*release)(
        void *ctx); /**< the chip is gone, `store` is not called any more. May be NULL. */
    void *ctx;
    uint32_t
        bank_width; /**< bytes of a cycle: 1 (or 0), or 4: two chips, each gets half of every cycle */
    uint32_t block; /**< bytes erased together: a power of two from 4096 to 1 MiB; 0: 4096 */
};
#define VMM_PFLASH_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_pflash_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                \
    }

/** Make a chip and put it where the options say. -EINVAL: the text says which field; errors of
 *  vmm_memory_add() and vmm_bus_add(). `release` is not called when this fails. */
VMM_API int vmm_pflash_new(const struct vmm_pflash_options *options, struct vmm_pflash **out,
                           struct vmm_error *err);
/** Takes it out of the memory map and off the bus. Not from one of its callbacks. */
VMM_API struct vmm_pflash *vmm_pflash_unref(struct vmm_pflash *flash);
/** For reset, save and load: its contents are saved unless it is read-only. Reset lets it be read as
 *  memory again; the contents stay. Not a new reference. */
VMM_API struct vmm_device *vmm_pflash_device(struct vmm_pflash *flash);
/** Bytes of it. */
VMM_API uint64_t vmm_pflash_length(const struct vmm_pflash *flash);
/** Copy out of it, whatever mode it is in. -EINVAL: beyond its end. Thread-safe. */
VMM_API int vmm_pflash_read(struct vmm_pflash *flash, uint64_t offset, void *data, size_t length);

VMM_END_DECLS

#endif
