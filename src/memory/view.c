/* SPDX-License-Identifier: BSD-3-Clause */
/* A reader's own window on the map. */
#include "base/util.h"
#include "memory/internal.h"

void vmm_memory_view_init(struct vmm_memory_view *view, struct vmm_memory *memory)
{
    *view = (struct vmm_memory_view){.memory = vmm_memory_ref(memory)};
}

/* Generations begin at 1, so 0 never matches. */
void vmm_memory_view_drop(struct vmm_memory_view *view)
{
    vmm_snapshot_unref((struct vmm_snapshot *)(uintptr_t)view->map);
    *view = (struct vmm_memory_view){.memory = view->memory};
}

void vmm_memory_view_fini(struct vmm_memory_view *view)
{
    vmm_memory_view_drop(view);
    vmm_memory_unref(view->memory);
    view->memory = NULL;
}

static inline bool fresh(const struct vmm_memory_view *view)
{
    return view->generation == vmm_snapshot_generation(&view->memory->cell);
}

static inline bool inside(uint64_t offset, size_t length, uint64_t room)
{
    return offset < room && length <= room - offset;
}

static void refresh(struct vmm_memory_view *view)
{
    if (fresh(view))
        return;
    vmm_memory_view_drop(view);
    view->map = vmm_snapshot_hold(&view->memory->cell, &view->generation);
}

static void remember(struct vmm_memory_view *view, const struct vmm_flat *piece)
{
    view->piece = piece;
    view->start = piece->start;
    view->readable = piece->last - piece->start + 1;
    view->writable = piece->writable ? view->readable : 0;
    view->host = piece->host;
}

static __attribute__((noinline)) int slow_read(struct vmm_memory_view *view, uint64_t address,
                                               void *data, size_t length)
{
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    refresh(view);
    if (!vmm_flat_covers(view->map, address, length, VMM_FOR_READING, &piece))
        return -EFAULT;
    remember(view, piece);
    vmm_flat_read(piece, address, data, length);
    return 0;
}

/* A view is no read section: the fence takes its place. */
static void mark(const struct vmm_flat *piece, uint64_t address, size_t length)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (; length != 0; piece++) {
        size_t part = vmm_flat_part(piece, address, length);
        vmm_dirty_mark_inside(piece->backing, piece->offset + (address - piece->start), part);
        address += part;
        length -= part;
    }
}

static __attribute__((noinline)) int slow_write(struct vmm_memory_view *view, uint64_t address,
                                                const void *data, size_t length)
{
    const struct vmm_flat *piece;
    if (length == 0)
        return 0;
    refresh(view);
    if (!vmm_flat_covers(view->map, address, length, VMM_FOR_WRITING, &piece))
        return -EFAULT;
    remember(view, piece);
    vmm_flat_write(piece, address, data, length);
    mark(piece, address, length);
    return 0;
}

int vmm_memory_view_read(struct vmm_memory_view *view, uint64_t address, void *data, size_t length)
{
    uint64_t offset = address - view->start;
    if (!fresh(view) || !inside(offset, length, view->readable))
        return slow_read(view, address, data, length);
    vmm_flat_read(view->piece, address, data, length);
    return 0;
}

int vmm_memory_view_write(struct vmm_memory_view *view, uint64_t address, const void *data,
                          size_t length)
{
    return slow_write(view, address, data, length);
}

/* An aligned integer is one access, and as pieces are whole pages it lies in one if it begins
 * there. */
#define MISSES(view, offset, bits, room)                                                           \
    __builtin_expect((offset) >= (room) || ((offset) & ((bits) / 8 - 1)) || !fresh(view), 0)

#define DEFINE_VIEW(bits)                                                                          \
    int vmm_memory_view_load_u##bits(struct vmm_memory_view *view, uint64_t address,               \
                                     uint##bits##_t *value)                                        \
    {                                                                                              \
        uint64_t offset = address - view->start;                                                   \
        if (MISSES(view, offset, bits, view->readable))                                            \
            return slow_read(view, address, value, bits / 8);                                      \
        *value = __atomic_load_n((const uint##bits##_t *)(const void *)(view->host + offset),      \
                                 __ATOMIC_RELAXED);                                                \
        return 0;                                                                                  \
    }                                                                                              \
    int vmm_memory_view_store_u##bits(struct vmm_memory_view *view, uint64_t address,              \
                                      uint##bits##_t value)                                        \
    {                                                                                              \
        uint64_t offset = address - view->start;                                                   \
        if (MISSES(view, offset, bits, view->writable))                                            \
            return slow_write(view, address, &value, bits / 8);                                    \
        __atomic_store_n((uint##bits##_t *)(void *)(view->host + offset), value,                   \
                         __ATOMIC_RELAXED);                                                        \
        const struct vmm_flat *piece = view->piece;                                                \
        vmm_dirty_mark(piece->backing, piece->offset + offset, bits / 8);                          \
        return 0;                                                                                  \
    }

DEFINE_VIEW(16)
DEFINE_VIEW(32)
DEFINE_VIEW(64)
