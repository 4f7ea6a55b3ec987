/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory held in the host's address space: single mappings and lists. */
#include "base/util.h"
#include "memory/internal.h"

#include <sys/uio.h>

static bool access_ok(uint32_t access)
{
    return access != 0 && !(access & ~(VMM_MAP_READ | VMM_MAP_WRITE));
}

static bool continues(const struct vmm_flat *piece)
{
    return piece[1].backing == piece->backing &&
           piece[1].offset == piece->offset + (piece->last - piece->start) + 1;
}

/* Do pieces that follow each other follow each other in the host's memory too? */
static bool contiguous(const struct vmm_flat *piece, uint64_t last)
{
    for (; last > piece->last; piece++)
        if (!continues(piece))
            return false;
    return true;
}

int vmm_memory_map(struct vmm_memory *memory, uint64_t address, size_t length, uint32_t access,
                   struct vmm_mapping *out)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat *piece;
    if (!out || !access_ok(access))
        return -EINVAL;
    if (length == 0)
        return -EFAULT;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    uint32_t how = access & VMM_MAP_WRITE ? VMM_FOR_WRITING : VMM_FOR_READING;
    bool good = vmm_flat_covers(map, address, length, how, &piece) &&
                contiguous(piece, address + (length - 1));
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
    struct vmm_backing *backing = mapping->token;
    if (mapping->access & VMM_MAP_WRITE)
        vmm_dirty_mark(backing, (uint64_t)((uint8_t *)mapping->data - backing->data),
                       mapping->length);
    vmm_backing_unref(backing);
    *mapping = (struct vmm_mapping){0};
}

/* Lists ---------------------------------------------------------------------------------------- */

struct list {
    struct iovec *iov;
    size_t count, room;
    uint64_t length, limit;
    const struct vmm_backing *last; /* of the last entry */
};

static int append(struct list *list, const struct vmm_flat *piece, uint64_t inside, size_t length)
{
    uint8_t *data = piece->host + inside;
    struct iovec *last = list->count ? &list->iov[list->count - 1] : NULL;
    if (last && list->last == piece->backing && (uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += length;
        return 0;
    }
    if (list->count == list->room)
        return -E2BIG;
    list->iov[list->count++] = (struct iovec){.iov_base = data, .iov_len = length};
    list->last = piece->backing;
    return 0;
}

static int append_range(struct list *list, const struct vmm_flat_map *map,
                        const struct vmm_guest_range *range, uint32_t how)
{
    const struct vmm_flat *piece;
    uint64_t address = range->address, length = range->length;
    if (length == 0)
        return 0;
    if (length > SIZE_MAX || !vmm_flat_covers(map, address, length, how, &piece))
        return -EFAULT;
    if (length > list->limit - list->length)
        return -E2BIG;
    list->length += length;
    for (; length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, (size_t)length);
        int rc = append(list, piece, address - piece->start, part);
        if (rc)
            return rc;
        address += part;
        length -= part;
    }
    return 0;
}

int vmm_memory_map_list(struct vmm_memory *memory, const struct vmm_guest_range *ranges,
                        size_t count, uint32_t access, struct iovec *iov, size_t room,
                        uint64_t limit, struct vmm_scatter *out)
{
    struct list list = {.iov = iov, .room = room, .limit = limit ? limit : UINT64_MAX};
    if (!out || (!ranges && count) || (!iov && room) || !access_ok(access))
        return -EINVAL;
    uint32_t how = access & VMM_MAP_WRITE ? VMM_FOR_WRITING : VMM_FOR_READING;
    uint64_t generation;
    struct vmm_snapshot *map = vmm_snapshot_hold(&memory->cell, &generation);
    for (size_t i = 0; i < count; i++) {
        /* Read once: the list may lie where the guest can write. */
        const struct vmm_guest_range range = {
            .address = __atomic_load_n(&ranges[i].address, __ATOMIC_RELAXED),
            .length = __atomic_load_n(&ranges[i].length, __ATOMIC_RELAXED)};
        int rc = append_range(&list, (struct vmm_flat_map *)map, &range, how);
        if (rc) {
            vmm_snapshot_unref(map);
            return rc;
        }
    }
    *out = (struct vmm_scatter){
        .iov = iov, .count = list.count, .length = list.length, .token = map, .access = access};
    return 0;
}

/* Whose memory an entry is. The map that is held has it. */
static struct vmm_backing *owner(const struct vmm_flat_map *map, const uint8_t *data)
{
    for (size_t i = 0; i < map->count; i++) {
        struct vmm_backing *backing = map->pieces[i].backing;
        if (data >= backing->data && (uint64_t)(data - backing->data) < backing->length)
            return backing;
    }
    return NULL;
}

void vmm_memory_unmap_list(struct vmm_memory *memory, struct vmm_scatter *scatter, uint64_t written)
{
    (void)memory;
    if (!scatter || !scatter->token)
        return;
    const struct vmm_flat_map *map = scatter->token;
    if (!(scatter->access & VMM_MAP_WRITE))
        written = 0;
    for (size_t i = 0; i < scatter->count && written; i++) {
        const struct iovec *entry = &scatter->iov[i];
        uint64_t part = entry->iov_len < written ? entry->iov_len : written;
        struct vmm_backing *backing = owner(map, entry->iov_base);
        if (backing)
            vmm_dirty_mark(backing, (uint64_t)((uint8_t *)entry->iov_base - backing->data), part);
        written -= part;
    }
    vmm_snapshot_unref(scatter->token);
    *scatter = (struct vmm_scatter){0};
}
