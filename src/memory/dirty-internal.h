/* SPDX-License-Identifier: BSD-3-Clause */
/* The library's dirty log, and what of KVM's feeds it. */
#ifndef MEMORY_DIRTY_INTERNAL_H
#define MEMORY_DIRTY_INTERNAL_H

#include <libvmm/dirty.h>

#include <pthread.h>
#include <stdatomic.h>

struct kvm_dirty_gfn;

/*
 * A backing's log: a bitmap of its pages for each consumer. Writers of guest memory mark all that
 * are active. A bitmap once made stays until the backing goes, so writers need not be waited for.
 */
struct vmm_dirty_log {
    _Atomic uint32_t active; /* a bit a consumer */
    _Atomic(_Atomic uint64_t *) bits[VMM_DIRTY_CONSUMERS_MAX];
    pthread_mutex_t lock; /* guards taking and giving back of bits */
    uint32_t taken;
};

/* A consumer's interest in one region. */
struct vmm_dirty_entry {
    _Atomic uint32_t refs;
    struct vmm_memory_region *region; /* held; never an alias */
    struct vmm_backing *backing;      /* held */
    uint64_t first, count;            /* pages of the backing */
    uint64_t region_page;             /* page of the region that `first` is */
    uint32_t bit;
};

struct vmm_dirty_consumer {
    struct vmm_memory *memory; /* held */
    bool all;
    uint64_t generation;
    struct vmm_dirty_entry **entries; /* guarded by the memory's lock */
    size_t count, room;
    struct vmm_dirty_consumer *next;
};

/* KVM's ring of a vCPU. */
struct vmm_dirty_ring {
    int vcpu_fd; /* only to know it again */
    struct kvm_dirty_gfn *entries;
    uint32_t next; /* of the entry to look at */
};

struct vmm_dirty {
    struct vmm_dirty_consumer *consumers;
    bool asked;  /* the host for manual clearing */
    bool manual; /* it has it */
    uint64_t *scratch;
    size_t scratch_size;
    uint32_t ring_entries;
    struct vmm_dirty_ring *rings;
    size_t ring_count;
    struct vmm_dirty_stats stats;
};

/* Bitmaps (dirty-log.c) */
void vmm_dirty_log_fini(struct vmm_backing *backing);
int vmm_dirty_log_take(struct vmm_backing *backing, uint32_t *bit);
void vmm_dirty_log_give(struct vmm_backing *backing, uint32_t bit);
void vmm_dirty_log_mark(struct vmm_backing *backing, uint64_t offset, uint64_t length);
/* Bits of a bitmap that begins at page `first` of the backing. */
void vmm_dirty_log_or(struct vmm_backing *backing, uint64_t first, const uint64_t *bitmap,
                      size_t words);

/* Consumers (dirty.c); the memory's lock is held. */
bool vmm_dirty_wanted(const struct vmm_memory *memory, const struct vmm_backing *backing);
/* Before the placements are made visible: watch what is new. */
int vmm_dirty_prepare(struct vmm_memory *memory, struct vmm_error *err);
/* After it: let go of what is no longer in the map. */
void vmm_dirty_settle(struct vmm_memory *memory);

/* KVM's log (dirty-kvm.c); the memory's lock is held. */
void vmm_dirty_kvm_prepare(struct vmm_memory *memory);
int vmm_dirty_kvm_sync(struct vmm_memory *memory);
/* Empty the rings; entries of slots that are gone are dropped. */
int vmm_dirty_kvm_sync_rings(struct vmm_memory *memory);
void vmm_dirty_kvm_fini(struct vmm_memory *memory);

#endif
