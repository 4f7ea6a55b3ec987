/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked access to guest memory: the whole range is checked before a byte is touched. */
#include "base/util.h"
#include "memory/internal.h"

#include <stdlib.h>

#define FOR_READING 0u
#define FOR_WRITING 1u
#define FOR_LOADING 2u /* writing, ROM included */

static bool allows(const struct vmm_flat *piece, uint32_t how)
{
    if (how == FOR_LOADING)
        return !(piece->backing->options.flags & VMM_BACKING_READ_ONLY);
    return how == FOR_READING || piece->writable;
}

/* Is all of it there? `first` is the piece that it begins in. */
static bool covered(const struct vmm_flat_map *map, uint64_t address, uint64_t length, uint32_t how,
                    const struct vmm_flat **first)
{
    const struct vmm_flat *end = map->pieces + map->count;
    const struct vmm_flat *piece = vmm_flat_find(map, address);
    if (!piece || !vmm_range_ok(address, length))
        return false;
    uint64_t last = address + (length - 1);
    *first = piece;
    for (;;) {
        if (!allows(piece, how))
            return false;
        if (last <= piece->last)
            return true;
        if (piece + 1 == end || piece[1].start != piece->last + 1)
            return false;
        piece++;
    }
}

/* Aligned items of a power of two are one access: page-table entries, ring indices. */
static void copy(void *to, const void *from, size_t length)
{
    uintptr_t both = (uintptr_t)to | (uintptr_t)from;
    if (length == 4 && both % 4 == 0)
        __atomic_store_n((uint32_t *)to, __atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (length == 8 && both % 8 == 0)
        __atomic_store_n((uint64_t *)to, __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (length == 2 && both % 2 == 0)
        __atomic_store_n((uint16_t *)to, __atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else
        memcpy(to, from, length);
}

static size_t part_in(const struct vmm_flat *piece, uint64_t address, size_t length)
{
    uint64_t room = piece->last - address;
    return length - 1 <= room ? length : (size_t)room + 1;
}

int vmm_memory_read(struct vmm_memory *memory, uint64_t address, void *data, size_t length)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = covered(map, address, length, FOR_READING, &piece);
    for (uint8_t *to = data; good && length != 0; piece++) {
        size_t part = part_in(piece, address, length);
        copy(to, piece->host + (address - piece->start), part);
        to += part;
        address += part;
        length -= part;
    }
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

static int write(struct vmm_memory *memory, uint64_t address, const void *data, size_t length,
                 uint32_t how)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = covered(map, address, length, how, &piece);
    for (const uint8_t *from = data; good && length != 0; piece++) {
        size_t part = part_in(piece, address, length);
        copy(piece->host + (address - piece->start), from, part);
        from += part;
        address += part;
        length -= part;
    }
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

int vmm_memory_write(struct vmm_memory *memory, uint64_t address, const void *data, size_t length)
{
    return write(memory, address, data, length, FOR_WRITING);
}

int vmm_memory_write_rom(struct vmm_memory *memory, uint64_t address, const void *data,
                         size_t length)
{
    return write(memory, address, data, length, FOR_LOADING);
}

int vmm_memory_fill(struct vmm_memory *memory, uint64_t address, uint8_t value, uint64_t length)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    if (length > SIZE_MAX)
        return -EFAULT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = covered(map, address, length, FOR_WRITING, &piece);
    for (; good && length != 0; piece++) {
        size_t part = part_in(piece, address, (size_t)length);
        memset(piece->host + (address - piece->start), value, part);
        address += part;
        length -= part;
    }
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

bool vmm_memory_valid(struct vmm_memory *memory, uint64_t address, uint64_t length, bool write)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return true;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = covered(map, address, length, write ? FOR_WRITING : FOR_READING, &piece);
    vmm_snapshot_exit(&guard);
    return good;
}

/* Do pieces that follow each other follow each other in the host's memory too? */
static bool contiguous(const struct vmm_flat *piece, uint64_t last)
{
    for (; last > piece->last; piece++)
        if (piece[1].backing != piece->backing ||
            piece[1].host != piece->host + (piece->last - piece->start) + 1)
            return false;
    return true;
}

int vmm_memory_map(struct vmm_memory *memory, uint64_t address, size_t length, uint32_t access,
                   struct vmm_mapping *out)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (!out || access == 0 || (access & ~(VMM_MAP_READ | VMM_MAP_WRITE)))
        return -EINVAL;
    if (length == 0)
        return -EFAULT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    uint32_t how = access & VMM_MAP_WRITE ? FOR_WRITING : FOR_READING;
    bool good =
        covered(map, address, length, how, &piece) && contiguous(piece, address + (length - 1));
    if (good)
        *out = (struct vmm_mapping){.data = piece->host + (address - piece->start),
                                    .length = length,
                                    .token = vmm_backing_ref(piece->backing),
                                    .address = address,
                                    .access = access};
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

void vmm_memory_unmap(struct vmm_memory *memory, struct vmm_mapping *mapping)
{
    (void)memory;
    if (!mapping || !mapping->token)
        return;
    vmm_backing_unref(mapping->token);
    *mapping = (struct vmm_mapping){0};
}
