/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM's memory slots (Documentation/virt/kvm/api.rst, KVM_SET_USER_MEMORY_REGION). A slot can be
 * made, deleted, moved in the guest's addresses and switch its dirty log on and off, but it never
 * changes its size, its host address or from RAM to ROM. A change of the map therefore keeps every
 * slot that fits, moves those that only moved, and deletes before it adds.
 */
#include "base/util.h"
#include "memory/internal.h"
#include "vm/ioctl.h"

#include <libvmm/kvm.h>

#include <inttypes.h>
#include <stdlib.h>

/* KVM_MEM_MAX_NR_PAGES is 2^31 - 1; whole huge pages of it. */
#define SLOT_PAGES_MAX (((uint64_t)1 << 31) - ((uint64_t)1 << 9))

void vmm_slots_init(struct vmm_memory *memory)
{
    memory->slots.stats.limit = (uint32_t)vmm_vm_capability(memory->vm, KVM_CAP_NR_MEMSLOTS);
    if (memory->slots.stats.limit == 0)
        memory->slots.stats.limit = 32; /* "if 0 is returned, assume 32" */
}

void vmm_slots_fini(struct vmm_memory *memory)
{
    for (uint32_t i = 0; i < memory->slots.count; i++) {
        struct kvm_userspace_memory_region gone = {.slot = i};
        if (memory->slots.table[i].length == 0)
            continue;
        /* The VM may outlive the map; KVM must not. */
        (void)vmm_kvm_ioctl_ptr(vmm_vm_fd(memory->vm), KVM_SET_USER_MEMORY_REGION, &gone);
        vmm_backing_unref(memory->slots.table[i].backing);
    }
    free(memory->slots.table);
}

/* Planning ------------------------------------------------------------------------------------- */

struct plan {
    struct vmm_memory *memory;
    struct vmm_slot *wanted; /* sorted by address */
    size_t count;
    bool *met;  /* by wanted: a slot that is there serves */
    bool *kept; /* by slot number: it stays or moves */
};

static bool follows(const struct vmm_slot *slot, const struct vmm_flat *piece, uint32_t flags,
                    uint64_t max)
{
    uint64_t length = piece->last - piece->start + 1;
    return slot->address + slot->length == piece->start && slot->backing == piece->backing &&
           slot->offset + slot->length == piece->offset && slot->flags == flags && length <= max &&
           slot->length <= max - length;
}

/* The slots that a flat map needs: pieces that continue each other share one. */
static void list_wanted(struct plan *plan, const struct vmm_flat_map *map)
{
    uint64_t max = SLOT_PAGES_MAX * plan->memory->page_size;
    for (size_t i = 0; i < map->count; i++) {
        const struct vmm_flat *piece = &map->pieces[i];
        uint32_t flags = piece->writable ? 0 : KVM_MEM_READONLY;
        if (piece->writable && vmm_dirty_wanted(plan->memory, piece->backing))
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        uint64_t length = piece->last - piece->start + 1;
        struct vmm_slot *last = plan->count ? &plan->wanted[plan->count - 1] : NULL;
        if (last && follows(last, piece, flags, max)) {
            last->length += length;
            continue;
        }
        plan->wanted[plan->count++] = (struct vmm_slot){.address = piece->start,
                                                        .length = length,
                                                        .host = piece->host,
                                                        .flags = flags,
                                                        .backing = piece->backing,
                                                        .offset = piece->offset};
    }
}

static bool same_memory(const struct vmm_slot *a, const struct vmm_slot *b)
{
    return a->length == b->length && a->host == b->host &&
           ((a->flags ^ b->flags) & KVM_MEM_READONLY) == 0;
}

static bool overlaps_a_slot(const struct vmm_slots *slots, const struct vmm_slot *wanted)
{
    for (size_t i = 0; i < slots->count; i++)
        if (slots->table[i].length &&
            vmm_ranges_overlap(slots->table[i].address, slots->table[i].length, wanted->address,
                               wanted->length))
            return true;
    return false;
}

static void push(struct vmm_slot_change *change, uint32_t number, const struct vmm_slot *before,
                 const struct vmm_slot *after)
{
    struct vmm_slot_op *op = &change->ops[change->count++];
    static const struct vmm_slot none = {0};
    op->number = number;
    op->before = before ? *before : none;
    op->after = after ? *after : none;
}

/* Slots that serve as they are, but for the dirty log. */
static void plan_kept(struct plan *plan, struct vmm_slot_change *change)
{
    const struct vmm_slots *slots = &plan->memory->slots;
    for (uint32_t n = 0; n < slots->count; n++) {
        const struct vmm_slot *slot = &slots->table[n];
        size_t low = 0, high = plan->count;
        while (slot->length && low < high) {
            size_t middle = low + (high - low) / 2;
            if (plan->wanted[middle].address < slot->address)
                low = middle + 1;
            else
                high = middle;
        }
        if (!slot->length || low == plan->count || plan->wanted[low].address != slot->address ||
            !same_memory(slot, &plan->wanted[low]))
            continue;
        plan->kept[n] = plan->met[low] = true;
        if (slot->flags != plan->wanted[low].flags)
            push(change, n, slot, &plan->wanted[low]);
    }
}

/* Slots that only moved, to where nothing is. */
static void plan_moves(struct plan *plan, struct vmm_slot_change *change)
{
    const struct vmm_slots *slots = &plan->memory->slots;
    for (uint32_t n = 0; n < slots->count; n++) {
        const struct vmm_slot *slot = &slots->table[n];
        for (size_t i = 0; slot->length && !plan->kept[n] && i < plan->count; i++) {
            const struct vmm_slot *wanted = &plan->wanted[i];
            if (plan->met[i] || !same_memory(slot, wanted) || slot->flags != wanted->flags ||
                overlaps_a_slot(slots, wanted))
                continue;
            plan->kept[n] = plan->met[i] = true;
            push(change, n, slot, wanted);
        }
    }
}

static void plan_removals(struct plan *plan, struct vmm_slot_change *change)
{
    const struct vmm_slots *slots = &plan->memory->slots;
    for (uint32_t n = 0; n < slots->count; n++) {
        const struct vmm_slot *slot = &slots->table[n];
        if (!slot->length || plan->kept[n])
            continue;
        push(change, n, slot, NULL);
        for (size_t i = 0; i < plan->count && !change->blinks; i++)
            change->blinks = vmm_ranges_overlap(slot->address, slot->length,
                                                plan->wanted[i].address, plan->wanted[i].length);
    }
    change->removals = change->count;
}

static void plan_additions(struct plan *plan, struct vmm_slot_change *change)
{
    const struct vmm_slots *slots = &plan->memory->slots;
    uint32_t n = 0;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->met[i])
            continue;
        while (n < slots->count && slots->table[n].length && plan->kept[n])
            n++;
        push(change, n++, NULL, &plan->wanted[i]);
    }
}

static int check_wanted(const struct plan *plan, struct vmm_error *err)
{
    struct vmm_memory *memory = plan->memory;
    if (plan->count > memory->slots.stats.limit)
        return vmm_error_set(err, -ENOSPC,
                             "memory: the map needs %zu slots and the host has %u: put fewer "
                             "regions beside each other, or share one backing",
                             plan->count, memory->slots.stats.limit);
    for (size_t i = 0; i < plan->count; i++) {
        const struct vmm_slot *slot = &plan->wanted[i];
        if ((slot->flags & KVM_MEM_READONLY) &&
            !vmm_vm_capability(memory->vm, KVM_CAP_READONLY_MEM))
            return vmm_error_set(err, -EOPNOTSUPP,
                                 "memory: ROM at 0x%" PRIx64 ": the host has no read-only slots",
                                 slot->address);
        if (slot->length > SLOT_PAGES_MAX * memory->page_size)
            return vmm_error_set(err, -EINVAL,
                                 "memory: 0x%" PRIx64 " bytes at 0x%" PRIx64
                                 " are more than a slot of KVM's can have: divide the region",
                                 slot->length, slot->address);
    }
    return 0;
}

/* The table must have room for every new number before anything is done. */
static int grow_table(struct vmm_slots *slots, size_t room)
{
    if (room <= slots->room)
        return 0;
    struct vmm_slot *table = realloc(slots->table, room * sizeof(*table));
    if (!table)
        return -ENOMEM;
    memset(table + slots->room, 0, (room - slots->room) * sizeof(*table));
    slots->table = table;
    slots->room = room;
    return 0;
}

int vmm_slots_plan(struct vmm_memory *memory, const struct vmm_flat_map *map,
                   struct vmm_slot_change *change, struct vmm_error *err)
{
    *change = (struct vmm_slot_change){0};
    if (!memory->vm)
        return 0;
    struct vmm_slots *slots = &memory->slots;
    size_t most = slots->count + map->count;
    struct plan plan = {.memory = memory};
    plan.wanted = calloc(map->count + 1, sizeof(*plan.wanted));
    plan.met = calloc(map->count + 1, sizeof(*plan.met));
    plan.kept = calloc(slots->count + 1, sizeof(*plan.kept));
    change->ops = calloc(most + 1, sizeof(*change->ops));
    int rc = 0;
    if (!plan.wanted || !plan.met || !plan.kept || !change->ops || grow_table(slots, most))
        rc = vmm_error_set(err, -ENOMEM, "memory: out of memory");
    if (rc == 0) {
        list_wanted(&plan, map);
        rc = check_wanted(&plan, err);
    }
    if (rc == 0) {
        struct vmm_slot_change later = {.ops = calloc(most + 1, sizeof(*change->ops))};
        if (later.ops) {
            plan_kept(&plan, &later);
            plan_moves(&plan, &later);
            plan_removals(&plan, change);
            if (later.count)
                memcpy(change->ops + change->count, later.ops, later.count * sizeof(*later.ops));
            change->count += later.count;
            plan_additions(&plan, change);
            free(later.ops);
        } else {
            rc = vmm_error_set(err, -ENOMEM, "memory: out of memory");
        }
    }
    free(plan.wanted);
    free(plan.met);
    free(plan.kept);
    if (rc)
        vmm_slots_done(change);
    return rc;
}

void vmm_slots_done(struct vmm_slot_change *change)
{
    free(change->ops);
    change->ops = NULL;
}

/* Doing ---------------------------------------------------------------------------------------- */

static void count_op(struct vmm_memory_slot_stats *stats, const struct vmm_slot *from,
                     const struct vmm_slot *to)
{
    if (!from->length) {
        stats->added++;
        stats->used++;
    } else if (!to->length) {
        stats->removed++;
        stats->used--;
    } else if (from->address != to->address) {
        stats->moved++;
    } else {
        stats->flags_changed++;
    }
}

static int set_slot(struct vmm_memory *memory, uint32_t number, const struct vmm_slot *to)
{
    struct vmm_slots *slots = &memory->slots;
    struct kvm_userspace_memory_region region = {
        .slot = number,
        .flags = to->flags,
        .guest_phys_addr = to->address,
        .memory_size = to->length,
        .userspace_addr = (uint64_t)(uintptr_t)to->host,
    };
    int rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(memory->vm), KVM_SET_USER_MEMORY_REGION, &region);
    if (rc < 0)
        return rc;
    struct vmm_slot *slot = &slots->table[number];
    struct vmm_backing *old = slot->backing;
    /* The log of a slot goes with it, and what the guest wrote at the last moment is not known. */
    if (!to->length && (slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
        vmm_dirty_mark(old, slot->offset, slot->length);
    count_op(&slots->stats, slot, to);
    *slot = *to;
    if (slot->backing)
        vmm_backing_ref(slot->backing);
    vmm_backing_unref(old);
    if (number >= slots->count)
        slots->count = number + 1;
    return 0;
}

/* Undo the first `done` calls. One that fails leaves a hole, which is reported. */
static void undo(struct vmm_memory *memory, const struct vmm_slot_change *change, size_t done)
{
    while (done-- > 0) {
        const struct vmm_slot_op *op = &change->ops[done];
        int rc = set_slot(memory, op->number, &op->before);
        if (rc < 0)
            vmm_log_write(vmm_vm_log(memory->vm), VMM_LOG_ERROR, "memory",
                          "slot %u at 0x%" PRIx64 " could not be restored: %s", op->number,
                          op->before.address, strerror(-rc));
    }
}

static int run(struct vmm_memory *memory, struct vmm_slot_change *change, size_t from, size_t to,
               struct vmm_error *err)
{
    for (size_t i = from; i < to; i++) {
        const struct vmm_slot_op *op = &change->ops[i];
        const struct vmm_slot *which = op->after.length ? &op->after : &op->before;
        int rc = set_slot(memory, op->number, &op->after);
        if (rc == 0)
            continue;
        undo(memory, change, i);
        return vmm_error_set(
            err, rc, "memory: KVM refused to %s slot %u, 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s",
            op->after.length ? "set" : "remove", op->number, which->length, which->address,
            strerror(-rc));
    }
    return 0;
}

int vmm_slots_remove(struct vmm_memory *memory, struct vmm_slot_change *change,
                     struct vmm_error *err)
{
    int rc = run(memory, change, 0, change->removals, err);
    /* Before their numbers are used again: what the rings hold of the removed slots is void. */
    if (rc == 0 && change->removals)
        (void)vmm_dirty_kvm_sync_rings(memory);
    return rc;
}

int vmm_slots_add(struct vmm_memory *memory, struct vmm_slot_change *change, struct vmm_error *err)
{
    return run(memory, change, change->removals, change->count, err);
}

int vmm_memory_get_slot_stats(struct vmm_memory *memory, struct vmm_memory_slot_stats *stats)
{
    if (!stats)
        return -EINVAL;
    pthread_mutex_lock(&memory->lock);
    struct vmm_memory_slot_stats now = memory->slots.stats;
    pthread_mutex_unlock(&memory->lock);
    now.size = sizeof(now);
    return vmm_info_copy(stats, &now, sizeof(now));
}
