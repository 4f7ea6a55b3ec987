/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Coroutines: a request that waits for metadata is written as straight code. All belong to one image
 * and run on its loop's thread, one at a time; a switch happens only where one waits.
 */
#ifndef BACKENDS_BLOCK_QCOW2_CO_H
#define BACKENDS_BLOCK_QCOW2_CO_H

#include <stdbool.h>
#include <stdint.h>

struct vmm_co;

/* Coroutines that wait for the same thing, in the order of their coming. */
struct vmm_co_list {
    struct vmm_co *first, *last;
};

struct vmm_co_group {
    struct vmm_co *current; /* NULL: none runs */
    struct vmm_co_list ready;
    struct vmm_co *idle; /* stacks to use again */
    uint32_t live, idle_count;
};

struct vmm_co_mutex {
    bool taken;
    struct vmm_co_list waiting;
};

/* Begin `fn(arg)`; it has run to its first wait when this returns, unless another of the group runs.
 * -ENOMEM. */
int vmm_co_start(struct vmm_co_group *group, void (*fn)(void *arg), void *arg);
/* Inside a coroutine: stop until vmm_co_wake(). */
void vmm_co_sleep(struct vmm_co_group *group);
/* Let it go on: at once when called from outside, else when the running one waits. */
void vmm_co_wake(struct vmm_co_group *group, struct vmm_co *co);

void vmm_co_wait(struct vmm_co_group *group, struct vmm_co_list *list);
void vmm_co_wake_all(struct vmm_co_group *group, struct vmm_co_list *list);

void vmm_co_lock(struct vmm_co_group *group, struct vmm_co_mutex *mutex);
void vmm_co_unlock(struct vmm_co_group *group, struct vmm_co_mutex *mutex);

/* Give back the idle stacks; none is live. */
void vmm_co_end(struct vmm_co_group *group);

#endif
