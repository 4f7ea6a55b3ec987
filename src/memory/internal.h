/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory map from the inside: shared by the files of this room. */
#ifndef MEMORY_INTERNAL_H
#define MEMORY_INTERNAL_H

#include "base/snapshot.h"
#include "memory/dirty-internal.h"

#include <libvmm/memory.h>

#include <pthread.h>
#include <stdatomic.h>

/* Host memory: see backing.h. */
struct vmm_backing {
    _Atomic uint32_t refs;
    struct vmm_backing_options options; /* the strings and descriptors in it are not kept */
    uint8_t *data;
    uint64_t length;
    uint64_t page_size; /* what the host backs it with: 4 KiB pages or hugetlb */
    void *reservation;  /* the mapping with its guards; NULL: not ours */
    size_t reserved;
    int fd; /* -1: none */
    uint64_t fd_offset;
    struct vmm_dirty_log log;
};

/* What a region is by itself, never changed after it was made. Where it is, is a placement. */
struct vmm_memory_region {
    _Atomic uint32_t refs;
    char *name;
    uint32_t type; /* VMM_MEMORY_… */
    uint64_t length;
    struct vmm_backing *backing; /* NULL: hole */
    uint64_t backing_offset;
    bool read_only;
    struct vmm_memory_region_options options; /* for the callbacks */
    struct vmm_memory_region *target;         /* of an alias, itself none; held */
    uint64_t target_offset;
};

/* A region's place in the map of a VM. */
struct vmm_placement {
    struct vmm_memory_region *region; /* held */
    uint64_t address;
    int32_t priority;
    bool enabled;
    bool read_only;      /* over the region's own */
    uint64_t alias_base; /* of an alias: offset in its target */
};

struct vmm_placements {
    struct vmm_placement *items;
    size_t count, room;
};

/* A piece of the flattened map. Pieces are sorted and never overlap; holes are left out. */
struct vmm_flat {
    uint64_t start;
    uint64_t last; /* the last byte: a map may reach 2^64 - 1 */
    uint8_t *host; /* of `start` */
    struct vmm_backing *backing;
    uint64_t offset;                  /* of `start` in the backing */
    struct vmm_memory_region *placed; /* held by the flat map */
    uint64_t placed_offset;           /* of `start` in it */
    struct vmm_memory_region *region; /* an alias' target, else the same; held by `placed` */
    uint64_t region_offset;
    bool writable;
};

/* A flattened map, immutable once published. Holds the backings and regions of its pieces. */
struct vmm_flat_map {
    struct vmm_snapshot head;
    size_t count;
    struct vmm_flat pieces[];
};

/* One of KVM's memory slots. */
struct vmm_slot {
    uint64_t address;
    uint64_t length; /* 0: free */
    uint8_t *host;
    uint32_t flags;              /* KVM_MEM_… */
    struct vmm_backing *backing; /* held while the slot is in the table */
    uint64_t offset;
};

struct vmm_slots {
    struct vmm_slot *table; /* by KVM's slot number */
    size_t count, room;
    struct vmm_memory_slot_stats stats;
};

/* One call to KVM: from how a slot is to how it shall be. Never changes a size in one step. */
struct vmm_slot_op {
    uint32_t number;
    struct vmm_slot before, after;
};

/* The calls that lead from one flat map to the next. */
struct vmm_slot_change {
    struct vmm_slot_op *ops; /* removals, then everything else */
    size_t count, removals;
    bool blinks; /* memory that stays is away between its removal and its return */
};

struct vmm_gate {
    struct vmm_memory_gate functions;
    void *ctx;
};

struct vmm_memory {
    _Atomic uint32_t refs;
    struct vmm_vm *vm; /* held; NULL: memory only */
    uint64_t page_size;
    struct vmm_snapshot_cell cell;
    pthread_mutex_t lock; /* recursive; guards all below and serializes publication */
    uint32_t depth;       /* of transactions */
    int failed;           /* what an operation of the transaction failed with: commit rolls back */
    struct vmm_error failure;
    struct vmm_placements placements;
    struct vmm_placements saved; /* as the outermost begin found them */
    bool has_saved;
    bool removed; /* a region in the transaction: wait for those who may still use it */
    struct vmm_slots slots;
    struct vmm_gate *gates;
    size_t gate_count;
    struct vmm_dirty dirty;
};

/* Apply the placements again, for slots whose flags are to change. The lock is held. -EBUSY: inside
 * a transaction, whose commit does it. */
int vmm_memory_refresh(struct vmm_memory *memory, struct vmm_error *err);

/* Placements (placement.c) */
int vmm_placements_copy(struct vmm_placements *to, const struct vmm_placements *from);
void vmm_placements_clear(struct vmm_placements *list);
struct vmm_placement *vmm_placements_find(struct vmm_placements *list,
                                          const struct vmm_memory_region *region);
int vmm_placements_add(struct vmm_placements *list, const struct vmm_placement *placement);
void vmm_placements_remove(struct vmm_placements *list, struct vmm_placement *placement);

/* Flatten (flatten.c). -EEXIST, -ENOMEM, -EINVAL with a text. */
int vmm_flatten(const struct vmm_placements *list, struct vmm_flat_map **out,
                struct vmm_error *err);
struct vmm_flat_map *vmm_flat_map_empty(void);
struct vmm_flat_map *vmm_flat_map_clone(const struct vmm_flat_map *map);

/* KVM's slots (slots.c); the memory's lock is held. Without a VM there are none. */
void vmm_slots_init(struct vmm_memory *memory);
void vmm_slots_fini(struct vmm_memory *memory);
/* What is to be done; checks the host's limits and allocates all that the next steps need. */
int vmm_slots_plan(struct vmm_memory *memory, const struct vmm_flat_map *map,
                   struct vmm_slot_change *change, struct vmm_error *err);
/* Each undoes the whole change where it fails. */
int vmm_slots_remove(struct vmm_memory *memory, struct vmm_slot_change *change,
                     struct vmm_error *err);
int vmm_slots_add(struct vmm_memory *memory, struct vmm_slot_change *change, struct vmm_error *err);
void vmm_slots_done(struct vmm_slot_change *change);

/* The piece with the address, or NULL. */
static inline const struct vmm_flat *vmm_flat_find(const struct vmm_flat_map *map, uint64_t address)
{
    size_t low = 0, high = map->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct vmm_flat *piece = &map->pieces[middle];
        if (address < piece->start)
            high = middle;
        else if (address > piece->last)
            low = middle + 1;
        else
            return piece;
    }
    return NULL;
}

/* Is all of it there, and may it be used so? `first` is the piece that it begins in; those that
 * follow continue it. `length` is not 0. */
#define VMM_FOR_READING 0u
#define VMM_FOR_WRITING 1u
#define VMM_FOR_LOADING 2u /* writing, ROM included */
bool vmm_flat_covers(const struct vmm_flat_map *map, uint64_t address, uint64_t length,
                     uint32_t how, const struct vmm_flat **first);

/* Copy what vmm_flat_covers() has found good. A write is marked: inside a read section only. */
void vmm_flat_read(const struct vmm_flat *piece, uint64_t address, void *data, size_t length);
void vmm_flat_write(const struct vmm_flat *piece, uint64_t address, const void *data,
                    size_t length);

/* How much of a range that begins in a piece lies in it. */
static inline size_t vmm_flat_part(const struct vmm_flat *piece, uint64_t address, size_t length)
{
    uint64_t room = piece->last - address;
    return length - 1 <= room ? length : (size_t)room + 1;
}

/* Note a write. The first is for the inside of a read section that was entered before the data was
 * stored: a new consumer waits for those. Others need the fence: either the log is seen to be on,
 * or the consumer sees the data. */
static inline void vmm_dirty_mark_inside(struct vmm_backing *backing, uint64_t offset,
                                         uint64_t length)
{
    if (atomic_load_explicit(&backing->log.active, memory_order_relaxed) != 0)
        vmm_dirty_log_mark(backing, offset, length);
}

static inline void vmm_dirty_mark(struct vmm_backing *backing, uint64_t offset, uint64_t length)
{
    atomic_thread_fence(memory_order_seq_cst);
    vmm_dirty_mark_inside(backing, offset, length);
}

static inline const struct vmm_flat_map *vmm_memory_enter(struct vmm_memory *memory,
                                                          struct vmm_snapshot_guard *guard)
{
    return (const struct vmm_flat_map *)vmm_snapshot_enter(&memory->cell, guard);
}

#endif
