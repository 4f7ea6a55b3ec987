/* SPDX-License-Identifier: BSD-3-Clause */
/* Integers in guest memory: loads, stores, and operations that are atomic for the guest too. */
#include "base/util.h"
#include "memory/internal.h"

/* The arithmetic below is done in place. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "guest integers are little-endian");

#define DEFINE_LOAD_STORE(bits)                                                                    \
    int vmm_memory_load_u##bits(struct vmm_memory *memory, uint64_t address,                       \
                                uint##bits##_t *value)                                             \
    {                                                                                              \
        return vmm_memory_read(memory, address, value, sizeof(*value));                            \
    }                                                                                              \
    int vmm_memory_store_u##bits(struct vmm_memory *memory, uint64_t address,                      \
                                 uint##bits##_t value)                                             \
    {                                                                                              \
        return vmm_memory_write(memory, address, &value, sizeof(value));                           \
    }

DEFINE_LOAD_STORE(8)
DEFINE_LOAD_STORE(16)
DEFINE_LOAD_STORE(32)
DEFINE_LOAD_STORE(64)

/* Enter a read section and find an aligned integer of `width` bytes. NULL and *rc: it is not
 * there, and the section is left. Regions are whole pages, so it lies in one piece. */
static void *enter_integer(struct vmm_memory *memory, uint64_t address, uint32_t width,
                           struct vmm_snapshot_guard *guard, const struct vmm_flat **piece, int *rc)
{
    *rc = -EINVAL;
    if (address % width != 0)
        return NULL;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, guard);
    *piece = vmm_flat_find(map, address);
    if (*piece && (*piece)->writable) {
        *rc = 0;
        return (*piece)->host + (address - (*piece)->start);
    }
    vmm_snapshot_exit(guard);
    *rc = -EFAULT;
    return NULL;
}

static void leave_integer(const struct vmm_flat *piece, uint64_t address, uint32_t width,
                          struct vmm_snapshot_guard *guard)
{
    vmm_dirty_mark_inside(piece->backing, piece->offset + (address - piece->start), width);
    vmm_snapshot_exit(guard);
}

#define DEFINE_CMPXCHG(bits)                                                                       \
    int vmm_memory_cmpxchg_u##bits(struct vmm_memory *memory, uint64_t address,                    \
                                   uint##bits##_t *expected, uint##bits##_t desired)               \
    {                                                                                              \
        struct vmm_snapshot_guard guard;                                                           \
        const struct vmm_flat *piece;                                                              \
        int rc;                                                                                    \
        uint##bits##_t *place = enter_integer(memory, address, bits / 8, &guard, &piece, &rc);     \
        if (!place)                                                                                \
            return rc;                                                                             \
        bool done = __atomic_compare_exchange_n(place, expected, desired, false, __ATOMIC_SEQ_CST, \
                                                __ATOMIC_SEQ_CST);                                 \
        leave_integer(piece, address, bits / 8, &guard);                                           \
        return done ? 0 : -EAGAIN;                                                                 \
    }

#define DEFINE_FETCH(name, bits)                                                                   \
    int vmm_memory_fetch_##name##_u##bits(struct vmm_memory *memory, uint64_t address,             \
                                          uint##bits##_t operand, uint##bits##_t *old)             \
    {                                                                                              \
        struct vmm_snapshot_guard guard;                                                           \
        const struct vmm_flat *piece;                                                              \
        int rc;                                                                                    \
        uint##bits##_t *place = enter_integer(memory, address, bits / 8, &guard, &piece, &rc);     \
        if (!place)                                                                                \
            return rc;                                                                             \
        uint##bits##_t before = __atomic_fetch_##name(place, operand, __ATOMIC_SEQ_CST);           \
        leave_integer(piece, address, bits / 8, &guard);                                           \
        if (old)                                                                                   \
            *old = before;                                                                         \
        return 0;                                                                                  \
    }

DEFINE_CMPXCHG(32)
DEFINE_CMPXCHG(64)
DEFINE_FETCH(or, 32)
DEFINE_FETCH(or, 64)
DEFINE_FETCH(and, 32)
DEFINE_FETCH(and, 64)
DEFINE_FETCH(add, 32)
DEFINE_FETCH(add, 64)
