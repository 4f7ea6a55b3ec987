/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Immutable data that many threads read without a lock and few replace: the memory map, the buses.
 *
 * A reader brackets its use of the data with enter and exit: two atomic additions on a counter that
 * only threads with the same hash share. Or it keeps a cached reference and looks at the
 * generation: one plain load.
 *
 * A writer publishes a new snapshot. The old one is freed when every reader that could have seen
 * it has left; publishing never waits for that, so it may be done from inside a read section (a
 * guest's write to a BAR moves regions of the bus that is dispatching that very write). The scheme
 * is sleepable RCU with two phases: McKenney, "Sleepable Read-Copy Update", LWN 202847.
 */
#ifndef BASE_SNAPSHOT_H
#define BASE_SNAPSHOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Stands first in the data. */
struct vmm_snapshot {
    _Atomic uint32_t refs; /* one for being current or retired, one for each cached reference */
    void (*destroy)(struct vmm_snapshot *snapshot);
    struct vmm_snapshot *next; /* in a list of retired ones */
};

#define VMM_SNAPSHOT_STRIPES 8

struct vmm_snapshot_stripe {
    _Atomic uint32_t readers[2]; /* by phase */
} __attribute__((aligned(64)));

struct vmm_snapshot_cell {
    _Atomic(struct vmm_snapshot *) current;
    _Atomic uint64_t generation;  /* grows by one with each publication */
    _Atomic uint32_t phase;       /* the lowest bit chooses the counter that new readers use */
    pthread_mutex_t lock;         /* guards all below */
    struct vmm_snapshot *retired; /* not yet covered by a grace period */
    struct vmm_snapshot *waiting; /* freed when the grace period under way ends */
    int stage;                    /* 0: none under way, 1: before the flip, 2: after it */
    uint64_t completed;           /* grace periods that have ended */
    struct vmm_snapshot_stripe stripes[VMM_SNAPSHOT_STRIPES];
};

struct vmm_snapshot_guard {
    _Atomic uint32_t *counter;
};

void vmm_snapshot_init(struct vmm_snapshot *snapshot,
                       void (*destroy)(struct vmm_snapshot *snapshot));
/* `first` becomes current; the cell takes over its reference. */
void vmm_snapshot_cell_init(struct vmm_snapshot_cell *cell, struct vmm_snapshot *first);
/* No reader may be inside. */
void vmm_snapshot_cell_fini(struct vmm_snapshot_cell *cell);

/* Replace the current snapshot; takes over the reference to `next`. Never waits for readers.
 * Writers serialize among themselves by a lock of their own. */
void vmm_snapshot_publish(struct vmm_snapshot_cell *cell, struct vmm_snapshot *next);

/* Wait until every reader that was inside when this was called has left. Deadlocks inside a read
 * section. */
void vmm_snapshot_synchronize(struct vmm_snapshot_cell *cell);

/* An address in the thread's own pages: its page number spreads well. */
static inline uintptr_t vmm_thread_address(void)
{
#if __has_builtin(__builtin_thread_pointer)
    return (uintptr_t)__builtin_thread_pointer();
#else
    return (uintptr_t)pthread_self();
#endif
}

static inline struct vmm_snapshot *vmm_snapshot_enter(struct vmm_snapshot_cell *cell,
                                                      struct vmm_snapshot_guard *guard)
{
    uintptr_t self = vmm_thread_address();
    struct vmm_snapshot_stripe *stripe =
        &cell->stripes[((self >> 12) ^ (self >> 21)) % VMM_SNAPSHOT_STRIPES];
    uint32_t phase = atomic_load_explicit(&cell->phase, memory_order_relaxed);
    guard->counter = &stripe->readers[phase & 1];
    atomic_fetch_add(guard->counter, 1); /* before the load below, for the writer's scan */
    return atomic_load(&cell->current);
}

static inline void vmm_snapshot_exit(struct vmm_snapshot_guard *guard)
{
    atomic_fetch_sub_explicit(guard->counter, 1, memory_order_release);
}

static inline uint64_t vmm_snapshot_generation(const struct vmm_snapshot_cell *cell)
{
    return atomic_load_explicit(&cell->generation, memory_order_acquire);
}

static inline struct vmm_snapshot *vmm_snapshot_ref(struct vmm_snapshot *snapshot)
{
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

static inline void vmm_snapshot_unref(struct vmm_snapshot *snapshot)
{
    if (snapshot && atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) == 1)
        snapshot->destroy(snapshot);
}

/* A reference that outlives the read section, and the generation it is of (at least). */
struct vmm_snapshot *vmm_snapshot_hold(struct vmm_snapshot_cell *cell, uint64_t *generation);

#endif
