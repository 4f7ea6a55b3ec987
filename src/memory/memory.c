/* SPDX-License-Identifier: BSD-3-Clause */
/* The map of a VM: its life, changes to it, and how they become visible. */
#include "base/util.h"
#include "memory/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

int vmm_memory_new(struct vmm_vm *vm, struct vmm_memory **out, struct vmm_error *err)
{
    struct vmm_memory *memory = aligned_alloc(64, vmm_align_up(sizeof(*memory), 64));
    struct vmm_flat_map *empty = vmm_flat_map_empty();
    if (!memory || !empty) {
        free(memory);
        free(empty);
        return vmm_error_set(err, -ENOMEM, "memory: out of memory");
    }
    memset(memory, 0, sizeof(*memory));
    atomic_init(&memory->refs, 1);
    memory->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    init_lock(&memory->lock);
    vmm_snapshot_cell_init(&memory->cell, &empty->head);
    if (vm) {
        memory->vm = vmm_vm_ref(vm);
        vmm_slots_init(memory);
    }
    *out = memory;
    return 0;
}

struct vmm_memory *vmm_memory_ref(struct vmm_memory *memory)
{
    atomic_fetch_add_explicit(&memory->refs, 1, memory_order_relaxed);
    return memory;
}

struct vmm_memory *vmm_memory_unref(struct vmm_memory *memory)
{
    if (!memory || atomic_fetch_sub_explicit(&memory->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    vmm_slots_fini(memory);
    vmm_dirty_kvm_fini(memory);
    vmm_snapshot_cell_fini(&memory->cell);
    vmm_placements_clear(&memory->placements);
    vmm_placements_clear(&memory->saved);
    free(memory->gates);
    pthread_mutex_destroy(&memory->lock);
    vmm_vm_unref(memory->vm);
    free(memory);
    return NULL;
}

/* Transactions --------------------------------------------------------------------------------- */

/* Remember the first failure of a transaction. The lock is held. */
static int fail(struct vmm_memory *memory, int code, const struct vmm_error *why)
{
    if (memory->failed == 0) {
        memory->failed = code;
        if (why)
            memory->failure = *why;
    }
    return code;
}

void vmm_memory_begin(struct vmm_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    if (memory->depth++ != 0)
        return;
    memory->failed = 0;
    memory->has_saved = vmm_placements_copy(&memory->saved, &memory->placements) == 0;
    if (!memory->has_saved) {
        struct vmm_error why;
        (void)fail(memory, vmm_error_set(&why, -ENOMEM, "memory: out of memory"), &why);
    }
}

/*
 * Make the placements visible. Memory that goes leaves the guest first and the VMM's view after it;
 * memory that comes enters the VMM's view first: what the guest can reach, its devices can too.
 */
static int apply_slots(struct vmm_memory *memory, struct vmm_slot_change *change,
                       struct vmm_flat_map *next, struct vmm_flat_map *before,
                       struct vmm_error *err)
{
    int rc = vmm_slots_remove(memory, change, err);
    if (rc) {
        vmm_snapshot_unref(&next->head);
        vmm_snapshot_unref(&before->head);
        return rc;
    }
    vmm_snapshot_publish(&memory->cell, &next->head);
    rc = vmm_slots_add(memory, change, err);
    if (rc)
        vmm_snapshot_publish(&memory->cell, &before->head);
    else
        vmm_snapshot_unref(&before->head);
    return rc;
}

static int apply(struct vmm_memory *memory, struct vmm_error *err)
{
    struct vmm_flat_map *next;
    struct vmm_slot_change change = {0};
    int rc = vmm_flatten(&memory->placements, &next, err);
    if (rc)
        return rc;
    rc = vmm_slots_plan(memory, next, &change, err);
    if (rc) {
        vmm_snapshot_unref(&next->head);
        return rc;
    }
    struct vmm_flat_map *before =
        vmm_flat_map_clone((struct vmm_flat_map *)atomic_load(&memory->cell.current));
    if (before) {
        size_t gates = change.blinks ? memory->gate_count : 0;
        for (size_t i = 0; i < gates; i++)
            memory->gates[i].functions.close(memory->gates[i].ctx);
        rc = apply_slots(memory, &change, next, before, err);
        for (size_t i = 0; i < gates; i++)
            memory->gates[i].functions.open(memory->gates[i].ctx);
    } else {
        vmm_snapshot_unref(&next->head);
        rc = vmm_error_set(err, -ENOMEM, "memory: out of memory");
    }
    vmm_slots_done(&change);
    return rc;
}

int vmm_memory_refresh(struct vmm_memory *memory, struct vmm_error *err)
{
    if (memory->depth)
        return vmm_error_set(err, -EBUSY, "memory: inside a transaction");
    return apply(memory, err);
}

int vmm_memory_add_gate(struct vmm_memory *memory, const struct vmm_memory_gate *gate, void *ctx)
{
    struct vmm_memory_gate copy;
    int rc = gate ? vmm_options_copy(&copy, sizeof(copy), gate) : -EINVAL;
    if (rc || !copy.close || !copy.open)
        return rc ? rc : -EINVAL;
    pthread_mutex_lock(&memory->lock);
    struct vmm_gate *gates =
        realloc(memory->gates, (memory->gate_count + 1) * sizeof(*memory->gates));
    if (gates) {
        memory->gates = gates;
        gates[memory->gate_count++] = (struct vmm_gate){copy, ctx};
    }
    pthread_mutex_unlock(&memory->lock);
    return gates ? 0 : -ENOMEM;
}

void vmm_memory_remove_gate(struct vmm_memory *memory, const void *ctx)
{
    pthread_mutex_lock(&memory->lock);
    for (size_t i = 0; i < memory->gate_count; i++) {
        if (memory->gates[i].ctx != ctx)
            continue;
        memory->gates[i] = memory->gates[--memory->gate_count];
        break;
    }
    pthread_mutex_unlock(&memory->lock);
}

static int commit_all(struct vmm_memory *memory, struct vmm_error *err)
{
    int rc = memory->failed;
    if (rc == 0)
        rc = vmm_dirty_prepare(memory, err);
    else if (err)
        *err = memory->failure;
    if (rc == 0)
        rc = apply(memory, err);
    if (rc && memory->has_saved) {
        vmm_placements_clear(&memory->placements);
        memory->placements = memory->saved;
        memory->saved = (struct vmm_placements){0};
    }
    vmm_placements_clear(&memory->saved);
    memory->failed = 0;
    vmm_dirty_settle(memory);
    return rc;
}

int vmm_memory_commit(struct vmm_memory *memory, struct vmm_error *err)
{
    /* Whoever is inside a transaction holds the lock; for others the depth is then 0. */
    pthread_mutex_lock(&memory->lock);
    if (memory->depth == 0) {
        pthread_mutex_unlock(&memory->lock);
        return vmm_error_set(err, -EINVAL, "memory: commit without begin");
    }
    int rc;
    if (memory->depth > 1) {
        rc = memory->failed;
        if (rc && err)
            *err = memory->failure;
    } else {
        rc = commit_all(memory, err);
    }
    bool wait = --memory->depth == 0 && memory->removed && rc == 0;
    if (memory->depth == 0)
        memory->removed = false;
    pthread_mutex_unlock(&memory->lock);
    pthread_mutex_unlock(&memory->lock);
    if (wait)
        vmm_snapshot_synchronize(&memory->cell);
    return rc;
}

/* Changes -------------------------------------------------------------------------------------- */

static int check_place(struct vmm_memory *memory, const struct vmm_memory_region *region,
                       uint64_t address, struct vmm_error *err)
{
    if (address % memory->page_size != 0 || region->length % memory->page_size != 0)
        return vmm_error_set(err, -EINVAL,
                             "memory: \"%s\" at 0x%" PRIx64 ", 0x%" PRIx64
                             " bytes: not a multiple of the page size %" PRIu64,
                             region->name, address, region->length, memory->page_size);
    if (!vmm_range_ok(address, region->length))
        return vmm_error_set(err, -EINVAL,
                             "memory: \"%s\" at 0x%" PRIx64 ", 0x%" PRIx64
                             " bytes: goes beyond the last address",
                             region->name, address, region->length);
    return 0;
}

/* What is to change of a placement. */
struct edit {
    uint64_t address, alias_base;
    int32_t priority;
    bool set_address, set_alias_base, set_priority, set_enabled, enabled, set_read_only, read_only;
};

static int edit_placement(struct vmm_memory *memory, struct vmm_memory_region *region,
                          const struct edit *edit, struct vmm_error *err)
{
    struct vmm_placement *p = vmm_placements_find(&memory->placements, region);
    if (!p)
        return vmm_error_set(err, -ENOENT, "memory: \"%s\" is not in the map", region->name);
    if (edit->set_address) {
        int rc = check_place(memory, region, edit->address, err);
        if (rc)
            return rc;
        p->address = edit->address;
    }
    if (edit->set_alias_base)
        p->alias_base = edit->alias_base;
    if (edit->set_priority)
        p->priority = edit->priority;
    if (edit->set_enabled)
        p->enabled = edit->enabled;
    if (edit->set_read_only)
        p->read_only = edit->read_only;
    return 0;
}

/* One change as a transaction of its own, or a part of the one that the thread is in. */
static int finish(struct vmm_memory *memory, int rc, struct vmm_error *why, struct vmm_error *err)
{
    if (rc)
        (void)fail(memory, rc, why);
    return vmm_memory_commit(memory, err);
}

static int change(struct vmm_memory *memory, struct vmm_memory_region *region,
                  const struct edit *edit, struct vmm_error *err)
{
    struct vmm_error why = VMM_ERROR_INIT;
    if (!region)
        return vmm_error_set(err, -EINVAL, "memory: no region");
    vmm_memory_begin(memory);
    int rc = memory->failed ? memory->failed : edit_placement(memory, region, edit, &why);
    return finish(memory, rc, &why, err);
}

int vmm_memory_add(struct vmm_memory *memory, struct vmm_memory_region *region, uint64_t address,
                   int32_t priority, struct vmm_error *err)
{
    struct vmm_error why = VMM_ERROR_INIT;
    if (!region)
        return vmm_error_set(err, -EINVAL, "memory: no region");
    vmm_memory_begin(memory);
    struct vmm_placement p = {.region = region,
                              .address = address,
                              .priority = priority,
                              .enabled = true,
                              .alias_base = region->target_offset};
    int rc = memory->failed;
    if (rc == 0 && vmm_placements_find(&memory->placements, region))
        rc = vmm_error_set(&why, -EBUSY, "memory: \"%s\" is in the map already", region->name);
    if (rc == 0)
        rc = check_place(memory, region, address, &why);
    if (rc == 0 && vmm_placements_add(&memory->placements, &p) < 0)
        rc = vmm_error_set(&why, -ENOMEM, "memory: out of memory");
    return finish(memory, rc, &why, err);
}

int vmm_memory_remove(struct vmm_memory *memory, struct vmm_memory_region *region,
                      struct vmm_error *err)
{
    struct vmm_error why = VMM_ERROR_INIT;
    if (!region)
        return vmm_error_set(err, -EINVAL, "memory: no region");
    vmm_memory_begin(memory);
    int rc = memory->failed;
    struct vmm_placement *p = vmm_placements_find(&memory->placements, region);
    if (rc == 0 && !p)
        rc = vmm_error_set(&why, -ENOENT, "memory: \"%s\" is not in the map", region->name);
    if (rc == 0) {
        vmm_placements_remove(&memory->placements, p);
        memory->removed = true;
    }
    return finish(memory, rc, &why, err);
}

int vmm_memory_move(struct vmm_memory *memory, struct vmm_memory_region *region, uint64_t address,
                    struct vmm_error *err)
{
    struct edit edit = {.set_address = true, .address = address};
    return change(memory, region, &edit, err);
}

int vmm_memory_set_enabled(struct vmm_memory *memory, struct vmm_memory_region *region,
                           bool enabled, struct vmm_error *err)
{
    struct edit edit = {.set_enabled = true, .enabled = enabled};
    return change(memory, region, &edit, err);
}

int vmm_memory_set_priority(struct vmm_memory *memory, struct vmm_memory_region *region,
                            int32_t priority, struct vmm_error *err)
{
    struct edit edit = {.set_priority = true, .priority = priority};
    return change(memory, region, &edit, err);
}

int vmm_memory_set_read_only(struct vmm_memory *memory, struct vmm_memory_region *region,
                             bool read_only, struct vmm_error *err)
{
    struct edit edit = {.set_read_only = true, .read_only = read_only};
    return change(memory, region, &edit, err);
}

int vmm_memory_set_target_offset(struct vmm_memory *memory, struct vmm_memory_region *region,
                                 uint64_t offset, struct vmm_error *err)
{
    struct edit edit = {.set_alias_base = true, .alias_base = offset};
    if (!region || !region->target)
        return vmm_error_set(err, -EINVAL, "memory: not an alias");
    uint64_t room = region->target->length;
    if (offset % memory->page_size != 0 || offset > room || region->length > room - offset)
        return vmm_error_set(err, -EINVAL,
                             "memory: \"%s\", 0x%" PRIx64 " bytes, is not a page-aligned part of "
                             "\"%s\" at offset 0x%" PRIx64,
                             region->name, region->length, region->target->name, offset);
    return change(memory, region, &edit, err);
}

int vmm_memory_region_address(struct vmm_memory *memory, const struct vmm_memory_region *region,
                              uint64_t *address)
{
    pthread_mutex_lock(&memory->lock);
    const struct vmm_placement *p = vmm_placements_find(&memory->placements, region);
    if (p)
        *address = p->address;
    pthread_mutex_unlock(&memory->lock);
    return p ? 0 : -ENOENT;
}

int vmm_memory_add_ram(struct vmm_memory *memory, const char *name, uint64_t address,
                       uint64_t length, struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region_options options = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *region;
    options.type = VMM_MEMORY_RAM;
    options.name = name;
    options.length = length;
    int rc = vmm_memory_region_new(&options, &region, err);
    if (rc)
        return rc;
    rc = vmm_memory_add(memory, region, address, 0, err);
    if (rc == 0 && out)
        *out = region;
    else
        vmm_memory_region_unref(region);
    return rc;
}

int vmm_memory_foreach(struct vmm_memory *memory,
                       int (*fn)(void *ctx, const struct vmm_memory_info *info), void *ctx)
{
    struct vmm_snapshot_guard guard;
    const struct vmm_flat_map *map = vmm_memory_enter(memory, &guard);
    int rc = 0;
    for (size_t i = 0; i < map->count && rc == 0; i++) {
        const struct vmm_flat *piece = &map->pieces[i];
        const struct vmm_memory_info info = {.size = sizeof(info),
                                             .address = piece->start,
                                             .length = piece->last - piece->start + 1,
                                             .region = piece->region,
                                             .offset = piece->region_offset,
                                             .type = piece->region->type,
                                             .writable = piece->writable};
        rc = fn(ctx, &info);
    }
    vmm_snapshot_exit(&guard);
    return rc;
}
