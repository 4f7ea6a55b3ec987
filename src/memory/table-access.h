/* SPDX-License-Identifier: BSD-3-Clause */
/* How page-table entries in guest memory are read and changed: each read is one atomic fetch. */
#ifndef MEMORY_TABLE_ACCESS_H
#define MEMORY_TABLE_ACCESS_H

#include <libvmm/memory.h>

/* `width` is 4 or 8 and `address` is a multiple of it. False: no memory there. */
bool vmm_table_load(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t *entry);

/* Change `from` to `to`. False: the entry is no longer `from`. An entry in ROM is left alone, which
 * counts as done. */
bool vmm_table_exchange(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t from,
                        uint64_t to);

/* Write an entry of a table under construction. 0 or -EFAULT. */
int vmm_table_store(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t entry);

#endif
