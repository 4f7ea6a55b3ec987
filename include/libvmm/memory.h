/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file memory.h
 * Guest memory: the map of guest-physical addresses, what backs it, and the only way in.
 *
 * Guest memory is reached through the checked calls below. Each checks the whole range against
 * the map, wrap-around included, before it touches a byte; a range may cross slots. Addresses and
 * lengths are in bytes. Writes through them are marked in the library's dirty log.
 */
#ifndef LIBVMM_MEMORY_H
#define LIBVMM_MEMORY_H

#include <libvmm/vm.h>

VMM_BEGIN_DECLS

struct vmm_memory;
struct vmm_memory_region;

/** The memory map of a VM; one VM has one. Without a VM (NULL) it is memory only, for tests. */
VMM_API int vmm_memory_new(struct vmm_vm *vm, struct vmm_memory **out, struct vmm_error *err);
VMM_API struct vmm_memory *vmm_memory_ref(struct vmm_memory *memory);
VMM_API struct vmm_memory *vmm_memory_unref(struct vmm_memory *memory);

/**
 * The short way to RAM: anonymous, private, not touched before the guest does (MAP_NORESERVE).
 * `address` and `length` are multiples of the host's page size. -EEXIST: overlaps another region,
 * -ENOSPC: no slot left, -ENOMEM, -EINVAL: misaligned, empty or wrapping.
 * @param out  NULL, or a reference to the region
 */
VMM_API int vmm_memory_add_ram(struct vmm_memory *memory, const char *name, uint64_t address,
                               uint64_t length, struct vmm_memory_region **out,
                               struct vmm_error *err);

/** Copy out of or into RAM and ROM that is mapped for it. -EFAULT: some of the range is not RAM
 *  (nothing was copied). Thread-safe, lock-free. */
VMM_API int vmm_memory_read(struct vmm_memory *memory, uint64_t address, void *data, size_t length);
/** -EFAULT as above; ROM is -EFAULT for a guest's device, see vmm_memory_write_rom(). */
VMM_API int vmm_memory_write(struct vmm_memory *memory, uint64_t address, const void *data,
                             size_t length);
/** As vmm_memory_write(), but ROM is written too: for loaders and firmware set-up. */
VMM_API int vmm_memory_write_rom(struct vmm_memory *memory, uint64_t address, const void *data,
                                 size_t length);
/** Fill with one byte. */
VMM_API int vmm_memory_fill(struct vmm_memory *memory, uint64_t address, uint8_t value,
                            uint64_t length);

/** Is the whole range RAM (or, where `write` is false, RAM or ROM)? Thread-safe, lock-free. */
VMM_API bool vmm_memory_valid(struct vmm_memory *memory, uint64_t address, uint64_t length,
                              bool write);

#define VMM_MAP_READ  1u
#define VMM_MAP_WRITE 2u

/** A piece of guest memory held in the host's address space; stays valid until it is released,
 *  even when the region leaves the map meanwhile. */
struct vmm_mapping {
    void *data;
    size_t length;
    void *token; /**< the library's */
    uint64_t address;
    uint32_t access; /**< VMM_MAP_… as asked for */
    uint32_t reserved;
};

/**
 * Map `length` contiguous bytes. -EFAULT: not all of it RAM (or, for reading, ROM), or it crosses
 * two backings. The guest can change the bytes at any time: copy what must be trusted.
 * A mapping for writing is marked dirty when it is released. Thread-safe.
 */
VMM_API int vmm_memory_map(struct vmm_memory *memory, uint64_t address, size_t length,
                           uint32_t access, struct vmm_mapping *out);
VMM_API void vmm_memory_unmap(struct vmm_memory *memory, struct vmm_mapping *mapping);

VMM_END_DECLS

#endif
