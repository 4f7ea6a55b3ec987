/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked access to guest memory: the whole range is checked before a byte is touched. */
#include "base/util.h"
#include "memory/internal.h"

#include <stdlib.h>

static bool allows(const struct vmm_flat *piece, uint32_t how)
{
    if (how == VMM_FOR_LOADING)
        return !(piece->backing->options.flags & VMM_BACKING_READ_ONLY);
    return how == VMM_FOR_READING || piece->writable;
}

bool vmm_flat_covers(const struct vmm_flat_map *map, uint64_t address, uint64_t length,
                     uint32_t how, const struct vmm_flat **first)
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

void vmm_flat_read(const struct vmm_flat *piece, uint64_t address, void *data, size_t length)
{
    for (uint8_t *to = data; length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, length);
        copy(to, piece->host + (address - piece->start), part);
        to += part;
        address += part;
        length -= part;
    }
}

void vmm_flat_write(const struct vmm_flat *piece, uint64_t address, const void *data, size_t length)
{
    for (const uint8_t *from = data; length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, length);
        uint64_t inside = address - piece->start;
        copy(piece->host + inside, from, part);
        vmm_dirty_mark_inside(piece->backing, piece->offset + inside, part);
        from += part;
        address += part;
        length -= part;
    }
}

int vmm_memory_read(struct vmm_memory *memory, uint64_t address, void *data, size_t length)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = vmm_flat_covers(map, address, length, VMM_FOR_READING, &piece);
    if (good)
        vmm_flat_read(piece, address, data, length);
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
    bool good = vmm_flat_covers(map, address, length, how, &piece);
    if (good)
        vmm_flat_write(piece, address, data, length);
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

int vmm_memory_write(struct vmm_memory *memory, uint64_t address, const void *data, size_t length)
{
    return write(memory, address, data, length, VMM_FOR_WRITING);
}

int vmm_memory_write_rom(struct vmm_memory *memory, uint64_t address, const void *data,
                         size_t length)
{
    return write(memory, address, data, length, VMM_FOR_LOADING);
}

/* For what has no data: whole ranges are filled or marked, part by part. */
static int for_writing(struct vmm_memory *memory, uint64_t address, uint64_t length, bool fill,
                       uint8_t value)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    if (length > SIZE_MAX)
        return -EFAULT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    uint32_t how = fill ? VMM_FOR_WRITING : VMM_FOR_READING;
    bool good = vmm_flat_covers(map, address, length, how, &piece);
    for (; good && length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, (size_t)length);
        uint64_t inside = address - piece->start;
        if (fill)
            memset(piece->host + inside, value, part);
        vmm_dirty_mark_inside(piece->backing, piece->offset + inside, part);
        address += part;
        length -= part;
    }
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

int vmm_memory_fill(struct vmm_memory *memory, uint64_t address, uint8_t value, uint64_t length)
{
    return for_writing(memory, address, length, true, value);
}

int vmm_memory_mark_dirty(struct vmm_memory *memory, uint64_t address, uint64_t length)
{
    /* The data was stored before this call, outside of a read section. */
    atomic_thread_fence(memory_order_seq_cst);
    return for_writing(memory, address, length, false, 0);
}

int vmm_memory_compare(struct vmm_memory *memory, uint64_t address, const void *data, size_t length,
                       int *result)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    *result = 0;
    if (length == 0)
        return 0;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = vmm_flat_covers(map, address, length, VMM_FOR_READING, &piece);
    for (const uint8_t *with = data; good && length != 0 && *result == 0; piece++) {
        size_t part = vmm_flat_part(piece, address, length);
        *result = memcmp(piece->host + (address - piece->start), with, part);
        with += part;
        address += part;
        length -= part;
    }
    vmm_snapshot_exit(&guard);
    return good ? 0 : -EFAULT;
}

int vmm_memory_compare_guest(struct vmm_memory *memory, uint64_t left, uint64_t right,
                             uint64_t length, int *result)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *a, *b;
    *result = 0;
    if (length == 0)
        return 0;
    if (length > SIZE_MAX)
        return -EFAULT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    bool good = vmm_flat_covers(map, left, length, VMM_FOR_READING, &a) &&
                vmm_flat_covers(map, right, length, VMM_FOR_READING, &b);
    while (good && length != 0 && *result == 0) {
        size_t part = vmm_flat_part(b, right, vmm_flat_part(a, left, (size_t)length));
        *result = memcmp(a->host + (left - a->start), b->host + (right - b->start), part);
        length -= part;
        if (length && left + (part - 1) == a->last)
            a++;
        if (length && right + (part - 1) == b->last)
            b++;
        left += part;
        right += part;
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
    bool good =
        vmm_flat_covers(map, address, length, write ? VMM_FOR_WRITING : VMM_FOR_READING, &piece);
    vmm_snapshot_exit(&guard);
    return good;
}

int vmm_memory_discard(struct vmm_memory *memory, uint64_t address, uint64_t length)
{
    const struct vmm_flat *piece;
    uint64_t generation;
    if (length == 0)
        return 0;
    if (length > SIZE_MAX)
        return -EFAULT;
    /* The host's calls may take long: hold the map, do not stay in a read section. */
    struct vmm_snapshot *map = vmm_snapshot_hold(&memory->cell, &generation);
    int rc = vmm_flat_covers((struct vmm_flat_map *)map, address, length, VMM_FOR_WRITING, &piece)
                 ? 0
                 : -EFAULT;
    for (; rc == 0 && length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, (size_t)length);
        rc = vmm_backing_discard(piece->backing, piece->offset + (address - piece->start), part);
        address += part;
        length -= part;
    }
    vmm_snapshot_unref(map);
    return rc;
}

/* The guest's accesses that KVM hands out ------------------------------------------------------ */

static int write_to_piece(struct vmm_memory *memory, const struct vmm_flat *piece, uint64_t address,
                          uint32_t width, uint64_t value, struct vmm_memory_region **callback,
                          uint64_t *offset)
{
    uint64_t little = htole64(value);
    if (piece->last - address < width - 1)
        return vmm_memory_write(memory, address, &little, width) == 0 ? 0 : -ENOENT;
    if (piece->writable) {
        vmm_flat_write(piece, address, &little, width);
        return 0;
    }
    /* A read-only alias may have a callback of its own. */
    bool own = piece->placed->options.rom_write != NULL;
    *callback = own ? piece->placed : piece->region;
    *offset = address - piece->start + (own ? piece->placed_offset : piece->region_offset);
    if (!(*callback)->options.rom_write) {
        *callback = NULL;
        return -ENOENT;
    }
    vmm_memory_region_ref(*callback);
    return 0;
}

int vmm_memory_handle_write(struct vmm_memory *memory, uint64_t address, uint32_t width,
                            uint64_t value)
{
    struct vmm_snapshot_guard guard;
    struct vmm_memory_region *callback = NULL;
    uint64_t offset = 0;
    if (width == 0 || width > 8 || !vmm_range_ok(address, width))
        return -ENOENT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    const struct vmm_flat *piece = vmm_flat_find(map, address);
    int rc =
        piece ? write_to_piece(memory, piece, address, width, value, &callback, &offset) : -ENOENT;
    vmm_snapshot_exit(&guard);
    if (callback) {
        if (width < 8)
            value &= ((uint64_t)1 << (8 * width)) - 1;
        callback->options.rom_write(callback->options.ctx, offset, width, value);
        vmm_memory_region_unref(callback);
    }
    return rc;
}

int vmm_memory_handle_read(struct vmm_memory *memory, uint64_t address, uint32_t width,
                           uint64_t *value)
{
    uint64_t little = 0;
    if (width == 0 || width > 8 || vmm_memory_read(memory, address, &little, width) < 0)
        return -ENOENT;
    *value = le64toh(little);
    return 0;
}
