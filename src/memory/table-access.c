/* SPDX-License-Identifier: BSD-3-Clause */
#include "memory/table-access.h"

#include "base/util.h"

bool vmm_table_load(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t *entry)
{
    uint64_t value = 0;
    if (vmm_memory_read(memory, address, &value, width) < 0)
        return false;
    *entry = le64toh(value);
    return true;
}

static bool exchange(void *place, uint32_t width, uint64_t from, uint64_t to)
{
    if (width == 4) {
        uint32_t expected = htole32((uint32_t)from);
        return __atomic_compare_exchange_n((uint32_t *)place, &expected, htole32((uint32_t)to),
                                           false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    uint64_t expected = htole64(from);
    return __atomic_compare_exchange_n((uint64_t *)place, &expected, htole64(to), false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

bool vmm_table_exchange(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t from,
                        uint64_t to)
{
    struct vmm_mapping mapping;
    if (vmm_memory_map(memory, address, width, VMM_MAP_WRITE, &mapping) < 0)
        return true;
    bool done = exchange(mapping.data, width, from, to);
    vmm_memory_unmap(memory, &mapping);
    return done;
}

int vmm_table_store(struct vmm_memory *memory, uint64_t address, uint32_t width, uint64_t entry)
{
    entry = htole64(entry);
    return vmm_memory_write(memory, address, &entry, width);
}
