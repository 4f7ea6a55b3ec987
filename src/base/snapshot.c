/* SPDX-License-Identifier: BSD-3-Clause */
/* Publication and reclamation of snapshots; the scheme is explained in the header. */
#include "base/snapshot.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

void vmm_snapshot_init(struct vmm_snapshot *snapshot,
                       void (*destroy)(struct vmm_snapshot *snapshot))
{
    atomic_init(&snapshot->refs, 1);
    snapshot->destroy = destroy;
    snapshot->next = NULL;
}

void vmm_snapshot_cell_init(struct vmm_snapshot_cell *cell, struct vmm_snapshot *first)
{
    memset(cell, 0, sizeof(*cell));
    pthread_mutex_init(&cell->lock, NULL);
    atomic_init(&cell->current, first);
    atomic_init(&cell->generation, 1);
}

static void release_list(struct vmm_snapshot *list)
{
    while (list) {
        struct vmm_snapshot *next = list->next;
        vmm_snapshot_unref(list);
        list = next;
    }
}

void vmm_snapshot_cell_fini(struct vmm_snapshot_cell *cell)
{
    release_list(cell->waiting);
    release_list(cell->retired);
    vmm_snapshot_unref(atomic_load(&cell->current));
    pthread_mutex_destroy(&cell->lock);
}

static bool phase_is_empty(struct vmm_snapshot_cell *cell, uint32_t phase)
{
    for (int i = 0; i < VMM_SNAPSHOT_STRIPES; i++)
        if (atomic_load(&cell->stripes[i].readers[phase & 1]) != 0)
            return false;
    return true;
}

/*
 * Move the grace period on as far as it goes without waiting; start one if `start` is set. Returns
 * what may be freed now. The lock is held.
 *
 * Stage 1 waits for stragglers of the phase that is not in use (they read the phase long ago and
 * counted themselves late), then makes it the one that new readers use; stage 2 waits for the
 * readers of the other one. A reader that counts itself after either scan loads the pointer after
 * that too, so it sees what was published before.
 */
static struct vmm_snapshot *advance(struct vmm_snapshot_cell *cell, bool start)
{
    if (cell->stage == 0) {
        if (!start)
            return NULL;
        cell->waiting = cell->retired;
        cell->retired = NULL;
        cell->stage = 1;
    }
    uint32_t phase = atomic_load(&cell->phase);
    if (cell->stage == 1) {
        if (!phase_is_empty(cell, phase + 1))
            return NULL;
        atomic_store(&cell->phase, ++phase);
        cell->stage = 2;
    }
    if (!phase_is_empty(cell, phase + 1))
        return NULL;
    struct vmm_snapshot *done = cell->waiting;
    cell->waiting = NULL;
    cell->stage = 0;
    cell->completed++;
    return done;
}

void vmm_snapshot_publish(struct vmm_snapshot_cell *cell, struct vmm_snapshot *next)
{
    pthread_mutex_lock(&cell->lock);
    struct vmm_snapshot *old = atomic_exchange(&cell->current, next);
    atomic_fetch_add(&cell->generation, 1);
    old->next = cell->retired;
    cell->retired = old;
    struct vmm_snapshot *done = advance(cell, true);
    struct vmm_snapshot *more = cell->retired ? advance(cell, true) : NULL;
    pthread_mutex_unlock(&cell->lock);
    release_list(done);
    release_list(more);
}

void vmm_snapshot_synchronize(struct vmm_snapshot_cell *cell)
{
    pthread_mutex_lock(&cell->lock);
    /* A grace period that is under way may have begun before this call: take the one after it. */
    uint64_t target = cell->completed + (cell->stage ? 2 : 1);
    long pause_ns = 1000;
    while (cell->completed < target) {
        struct vmm_snapshot *done = advance(cell, true);
        bool ready = cell->completed >= target;
        pthread_mutex_unlock(&cell->lock);
        release_list(done);
        if (!ready && !done) {
            struct timespec pause = {0, pause_ns};
            nanosleep(&pause, NULL);
            pause_ns = pause_ns < 1000000 ? pause_ns * 2 : pause_ns;
        }
        pthread_mutex_lock(&cell->lock);
    }
    pthread_mutex_unlock(&cell->lock);
}

struct vmm_snapshot *vmm_snapshot_hold(struct vmm_snapshot_cell *cell, uint64_t *generation)
{
    struct vmm_snapshot_guard guard;
    /* The generation is read first: if a publication comes between, the holder only looks again. */
    *generation = vmm_snapshot_generation(cell);
    struct vmm_snapshot *snapshot = vmm_snapshot_ref(vmm_snapshot_enter(cell, &guard));
    vmm_snapshot_exit(&guard);
    return snapshot;
}
