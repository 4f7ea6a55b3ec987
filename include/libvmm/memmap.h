/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file memmap.h
 * The memory map that a guest is shown (x86: e820), put together from pieces.
 */
#ifndef LIBVMM_MEMMAP_H
#define LIBVMM_MEMMAP_H

#include <libvmm/loader.h>

VMM_BEGIN_DECLS

/** A map has at most as many entries. */
#define VMM_MEMORY_MAP_MAX 1024u

/**
 * Make a map of pieces in any order: rising, without overlaps, neighbours of one type joined, empty
 * pieces dropped. Where pieces overlap, the first of these counts: UNUSABLE, RESERVED, types that
 * are not known, NVS, ACPI, PMEM, RAM.
 * @param pieces  at most 1024; they may be `out` itself
 * @param room    entries at `out`
 * @return how many entries there are, or -EINVAL (a piece wraps around; too many pieces), -ENOSPC
 *         (more entries than room), -ENOMEM, with a text
 */
VMM_API int vmm_memory_map_build(const struct vmm_memory_map_entry *pieces, size_t count,
                                 struct vmm_memory_map_entry *out, size_t room,
                                 struct vmm_error *err);

/**
 * The same, of the RAM that is in guest memory now (VMM_MEMORY_RAM, writable) and of further pieces
 * that keep parts of it from the guest, or say what else there is.
 */
VMM_API int vmm_memory_map_of(struct vmm_memory *memory, const struct vmm_memory_map_entry *pieces,
                              size_t count, struct vmm_memory_map_entry *out, size_t room,
                              struct vmm_error *err);

VMM_END_DECLS

#endif
