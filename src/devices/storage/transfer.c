/* SPDX-License-Identifier: BSD-3-Clause */
/* Transfers in pieces between block backends and guest memory. */
#include "devices/storage/transfer.h"

#include "base/util.h"

#include <stdlib.h>

#define SECTOR    512u
#define PIECE_MAX (UINT64_C(4) << 20)

void vmm_transfer_init(struct vmm_transfer *t, struct vmm_memory *memory, struct vmm_device *device,
                       void (*done)(struct vmm_transfer *t, int result), void *ctx)
{
    t->memory = memory;
    t->device = device;
    t->done = done;
    t->ctx = ctx;
    t->sector = SECTOR;
}

void vmm_transfer_fini(struct vmm_transfer *t)
{
    free(t->list);
    t->list = NULL;
    t->room = t->count = 0;
}

void vmm_transfer_clear(struct vmm_transfer *t)
{
    t->count = 0;
    t->length = 0;
}

int vmm_transfer_add(struct vmm_transfer *t, uint64_t address, uint64_t length)
{
    if (!length)
        return 0;
    if (t->count == TRANSFER_LIST)
        return -E2BIG;
    if (!vmm_range_ok(address, length) || t->length > UINT64_MAX - length)
        return -EFAULT;
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        struct vmm_guest_range *list = realloc(t->list, room * sizeof(*list));
        if (!list)
            return -ENOMEM;
        t->list = list;
        t->room = room;
    }
    t->list[t->count++] = (struct vmm_guest_range){address, length};
    t->length += length;
    return 0;
}

int64_t vmm_transfer_copy(struct vmm_transfer *t, void *buffer, uint64_t length, bool to_guest)
{
    uint8_t *at = buffer;
    uint64_t left = length;
    for (size_t i = 0; i < t->count && left; i++) {
        uint64_t part = t->list[i].length < left ? t->list[i].length : left;
        int rc = to_guest ? vmm_memory_write(t->memory, t->list[i].address, at, (size_t)part)
                          : vmm_memory_read(t->memory, t->list[i].address, at, (size_t)part);
        if (rc)
            return -EFAULT;
        at += part;
        left -= part;
    }
    return (int64_t)(length - left);
}

/* The next ranges, of a whole number of sectors; their count. */
static size_t take_ranges(struct vmm_transfer *t, struct vmm_guest_range *to, uint64_t *sum)
{
    size_t n = 0, index = t->index;
    uint64_t within = t->within, limit = t->left < PIECE_MAX ? t->left : PIECE_MAX;
    *sum = 0;
    while (n < TRANSFER_RANGES && *sum < limit && index < t->count) {
        const struct vmm_guest_range *r = &t->list[index++];
        uint64_t part = r->length - within;
        part = part < limit - *sum ? part : limit - *sum;
        to[n++] = (struct vmm_guest_range){r->address + within, part};
        *sum += part;
        within = 0;
    }
    for (uint64_t odd = *sum % t->sector; odd;) { /* off the end again */
        uint64_t part = to[n - 1].length < odd ? to[n - 1].length : odd;
        to[n - 1].length -= part;
        n -= to[n - 1].length == 0;
        odd -= part;
        *sum -= part;
    }
    return n;
}

static void advance(struct vmm_transfer *t, uint64_t length)
{
    t->left -= length;
    while (length) {
        uint64_t part = t->list[t->index].length - t->within;
        if (part > length) {
            t->within += length;
            return;
        }
        length -= part;
        t->within = 0;
        t->index++;
    }
}

static int next_piece(struct vmm_transfer *t)
{
    struct vmm_guest_range ranges[TRANSFER_RANGES];
    uint64_t sum;
    size_t n = take_ranges(t, ranges, &sum);
    if (!sum)
        return -EFAULT;
    int rc = vmm_memory_map_list(t->memory, ranges, n,
                                 t->request.op == VMM_BLOCK_READ ? VMM_MAP_WRITE : VMM_MAP_READ,
                                 t->vector, TRANSFER_VECTOR, 0, &t->scatter);
    if (rc)
        return -EFAULT;
    t->mapped = true;
    advance(t, sum);
    t->request.vector = t->vector;
    t->request.vector_count = t->scatter.count;
    t->request.length = sum;
    t->busy = true;
    vmm_block_submit(t->disk, &t->request);
    return 0;
}

static void piece_done(struct vmm_block_request *request, int result)
{
    struct vmm_transfer *t = request->ctx;
    struct vmm_device *device = t->device;
    vmm_device_lock(device);
    if (t->mapped)
        vmm_memory_unmap_list(t->memory, &t->scatter,
                              request->op == VMM_BLOCK_READ ? request->length : 0);
    t->mapped = false;
    if (t->stale)
        result = -ECANCELED;
    if (!result && t->left) {
        request->offset += request->length;
        result = next_piece(t);
        if (!result) {
            vmm_device_unlock(device);
            return;
        }
    }
    t->busy = false;
    t->stale = false;
    t->done(t, result);
    vmm_device_unlock(device);
}

static void prepare(struct vmm_transfer *t, struct vmm_block *disk, uint32_t op, uint32_t flags,
                    uint64_t offset)
{
    t->disk = disk;
    t->index = 0;
    t->within = 0;
    t->left = 0;
    t->request = (struct vmm_block_request){
        .op = op, .flags = flags, .offset = offset, .done = piece_done, .ctx = t};
}

int vmm_transfer_start(struct vmm_transfer *t, struct vmm_block *disk, uint32_t op, uint32_t flags,
                       uint64_t offset, uint64_t length)
{
    if (length > t->length || length % t->sector)
        return -EFAULT;
    prepare(t, disk, op, flags, offset);
    t->left = length;
    return next_piece(t);
}

void vmm_transfer_start_buffer(struct vmm_transfer *t, struct vmm_block *disk, uint32_t op,
                               uint32_t flags, uint64_t offset, void *buffer, uint64_t length)
{
    prepare(t, disk, op, flags, offset);
    t->request.length = length;
    if (buffer) {
        t->vector[0] = (struct iovec){buffer, (size_t)length};
        t->request.vector = t->vector;
        t->request.vector_count = 1;
    }
    t->busy = true;
    vmm_block_submit(disk, &t->request);
}

void vmm_transfer_abandon(struct vmm_transfer *t)
{
    if (!t->busy || t->stale)
        return;
    t->stale = true;
    vmm_block_quiesce(t->disk);
}
