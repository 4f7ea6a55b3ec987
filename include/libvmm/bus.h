/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file bus.h
 * The port and the memory-mapped I/O space: who answers at which address.
 *
 * A bus is one address space. Regions never overlap. Lookup takes the same few steps with ten and
 * with a thousand regions and no lock; adding and removing publishes a new snapshot and may be
 * done while vCPUs run.
 */
#ifndef LIBVMM_BUS_H
#define LIBVMM_BUS_H

#include <libvmm/device.h>
#include <libvmm/vcpu.h>

VMM_BEGIN_DECLS

struct vmm_bus;
struct vmm_region; /**< a place on a bus */

struct vmm_region_ops {
    size_t size;
    /** @param offset  from the region's start; @param width  1, 2, 4 or 8 bytes. The value is the
     *  guest's little-endian one. A read returns it, the bits above the width are dropped. */
    uint64_t (*read)(void *ctx, uint64_t offset, uint32_t width);
    void (*write)(void *ctx, uint64_t offset, uint32_t width, uint64_t value);
    /** Widths the device takes. An access that is wider is split, lowest address first; one that
     *  is narrower is an aligned read of the minimum with the wanted bytes cut out (a write: only
     *  those bytes, others zero). 0 means 1 and 8. */
    uint32_t min_width;
    uint32_t max_width;
};

struct vmm_region_options {
    size_t size;
    const char *name; /**< for messages; copied */
    uint64_t address;
    uint64_t length;
    struct vmm_device *device;        /**< whose lock is taken; held by the region. NULL: no lock */
    const struct vmm_region_ops *ops; /**< copied */
    void *ctx;
};
#define VMM_REGION_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_region_options), 0, 0, 0, 0, 0, 0                                        \
    }

/** An access that no region claims. A read must fill in `*value` (it is all ones before). Called
 *  from any vCPU's thread. */
typedef void (*vmm_unclaimed_fn)(void *ctx, uint64_t address, uint32_t width, bool write,
                                 uint64_t *value);

/** @param name  for messages, such as "port"; @param bits  the space's width, 1 to 64 */
VMM_API int vmm_bus_new(const char *name, uint32_t bits, struct vmm_bus **out);
VMM_API struct vmm_bus *vmm_bus_ref(struct vmm_bus *bus);
VMM_API struct vmm_bus *vmm_bus_unref(struct vmm_bus *bus);

/**
 * Claim addresses. -EEXIST: overlaps; the text names both regions and their ranges. -EINVAL: empty,
 * wrapping or outside the space. Thread-safe.
 * @param out  NULL, or the region for vmm_bus_remove()
 */
VMM_API int vmm_bus_add(struct vmm_bus *bus, const struct vmm_region_options *options,
                        struct vmm_region **out, struct vmm_error *err);
/**
 * Move a region, or take it off the bus (`enabled` false: it claims nothing but stays the caller's).
 * Does not wait for accesses under way, so it may be called from a region's own callback, as a PCI
 * function does when the guest moves a BAR. -EEXIST and -EINVAL as above; then the region is as it
 * was. Thread-safe.
 */
VMM_API int vmm_bus_place(struct vmm_bus *bus, struct vmm_region *region, uint64_t address,
                          bool enabled, struct vmm_error *err);
/** Remove and free. When it returns, no callback of the region is running or will run; so it must
 *  not be called from one of its callbacks (-EDEADLK is not detected) nor with its device's lock
 *  held. Thread-safe. */
VMM_API void vmm_bus_remove(struct vmm_bus *bus, struct vmm_region *region);

/** One access. 0 when claimed, -ENOENT when not (reads give all ones, it is counted, the callback
 *  is called). `value` is little-endian in host order. Thread-safe. */
VMM_API int vmm_bus_read(struct vmm_bus *bus, uint64_t address, uint32_t width, uint64_t *value);
VMM_API int vmm_bus_write(struct vmm_bus *bus, uint64_t address, uint32_t width, uint64_t value);

/** Set-up only. */
VMM_API void vmm_bus_set_unclaimed(struct vmm_bus *bus, vmm_unclaimed_fn fn, void *ctx);
/** Accesses that no region claimed. Thread-safe. */
VMM_API uint64_t vmm_bus_unclaimed_count(const struct vmm_bus *bus);

/** What a region was asked; in the order of addresses. */
struct vmm_region_info {
    size_t size;
    const char *name; /**< valid during the call */
    uint64_t address;
    uint64_t length;
    uint64_t reads;
    uint64_t writes;
};
/** Call `fn` for each region. Do not change the bus inside. Thread-safe. */
VMM_API void vmm_bus_foreach(struct vmm_bus *bus,
                             void (*fn)(void *ctx, const struct vmm_region_info *info), void *ctx);

/** Let a vCPU's I/O be answered by two buses (either may be NULL). Set-up only. The vCPU holds
 *  them. Unclaimed accesses are completed (reads: all ones), never returned as exits. */
VMM_API int vmm_bus_attach_vcpu(struct vmm_vcpu *vcpu, struct vmm_bus *ports, struct vmm_bus *mmio);

VMM_END_DECLS

#endif
