/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM's dirty logs, taken over into the library's (Documentation/virt/kvm/api.rst:
 * KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING).
 * KVM's part is cleared, so that pages are write-protected again, before anybody is told: a write
 * after that is logged anew.
 */
#include "base/util.h"
#include "memory/internal.h"
#include "vm/ioctl.h"

#include <libvmm/kvm.h>

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#define DEFAULT_RING 4096u

/* Bitmaps -------------------------------------------------------------------------------------- */

/* With manual clearing KVM protects only the pages that were dirty, and only then takes its lock. */
void vmm_dirty_kvm_prepare(struct vmm_memory *memory)
{
    struct vmm_dirty *dirty = &memory->dirty;
    uint64_t enable = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    if (!memory->vm || dirty->asked || dirty->ring_entries)
        return;
    dirty->asked = true;
    if (vmm_vm_capability(memory->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & (int)enable)
        dirty->manual = vmm_vm_enable_capability(memory->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                                 &enable, 1) == 0;
}

static int grow_scratch(struct vmm_dirty *dirty, size_t words)
{
    if (words <= dirty->scratch_size)
        return 0;
    uint64_t *scratch = realloc(dirty->scratch, words * sizeof(*scratch));
    if (!scratch)
        return -ENOMEM;
    dirty->scratch = scratch;
    dirty->scratch_size = words;
    return 0;
}

static int sync_slot(struct vmm_memory *memory, uint32_t number)
{
    struct vmm_dirty *dirty = &memory->dirty;
    const struct vmm_slot *slot = &memory->slots.table[number];
    uint64_t pages = slot->length / memory->page_size;
    size_t words = (size_t)((pages + 63) / 64);
    int rc = grow_scratch(dirty, words);
    if (rc)
        return rc;
    memset(dirty->scratch, 0, words * sizeof(*dirty->scratch));
    struct kvm_dirty_log log = {.slot = number, .dirty_bitmap = dirty->scratch};
    rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(memory->vm), KVM_GET_DIRTY_LOG, &log);
    if (rc < 0)
        return rc;
    uint64_t found = 0;
    for (size_t i = 0; i < words; i++)
        found += (uint64_t)__builtin_popcountll(dirty->scratch[i]);
    if (found == 0)
        return 0;
    dirty->stats.kvm_pages += found;
    vmm_dirty_log_or(slot->backing, slot->offset / memory->page_size, dirty->scratch, words);
    if (!dirty->manual)
        return 0;
    struct kvm_clear_dirty_log clear = {
        .slot = number, .num_pages = (uint32_t)pages, .dirty_bitmap = dirty->scratch};
    rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(memory->vm), KVM_CLEAR_DIRTY_LOG, &clear);
    return rc < 0 ? rc : 0;
}

static int sync_bitmaps(struct vmm_memory *memory)
{
    int rc = 0;
    for (uint32_t i = 0; i < memory->slots.count && rc == 0; i++)
        if (memory->slots.table[i].length &&
            (memory->slots.table[i].flags & KVM_MEM_LOG_DIRTY_PAGES))
            rc = sync_slot(memory, i);
    return rc;
}

/* Rings ---------------------------------------------------------------------------------------- */

/* `slot` is KVM's number with the address space above it; a slot that is gone has length 0. */
static void take_entry(struct vmm_memory *memory, uint32_t slot, uint64_t page)
{
    if (slot >= memory->slots.count)
        return;
    const struct vmm_slot *s = &memory->slots.table[slot];
    if (page >= s->length / memory->page_size)
        return;
    vmm_dirty_log_mark(s->backing, s->offset + page * memory->page_size, memory->page_size);
    memory->dirty.stats.kvm_pages++;
}

static uint64_t drain(struct vmm_memory *memory, struct vmm_dirty_ring *ring)
{
    uint64_t taken = 0;
    /* A ring that the guest fills as fast as it is emptied must not keep us here. */
    while (taken < memory->dirty.ring_entries) {
        struct kvm_dirty_gfn *entry = &ring->entries[ring->next % memory->dirty.ring_entries];
        uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);
        if (!(flags & KVM_DIRTY_GFN_F_DIRTY) || (flags & KVM_DIRTY_GFN_F_RESET))
            break;
        take_entry(memory, entry->slot, entry->offset);
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        ring->next++;
        taken++;
    }
    return taken;
}

int vmm_dirty_kvm_sync_rings(struct vmm_memory *memory)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < memory->dirty.ring_count; i++)
        taken += drain(memory, &memory->dirty.rings[i]);
    memory->dirty.stats.ring_entries += taken;
    if (taken == 0)
        return 0;
    int rc = vmm_kvm_ioctl(vmm_vm_fd(memory->vm), KVM_RESET_DIRTY_RINGS, 0);
    return rc < 0 ? rc : 0;
}

int vmm_dirty_kvm_sync(struct vmm_memory *memory)
{
    if (!memory->vm)
        return 0;
    memory->dirty.stats.syncs++;
    return memory->dirty.ring_entries ? vmm_dirty_kvm_sync_rings(memory) : sync_bitmaps(memory);
}

static int enable_ring(struct vmm_memory *memory, uint32_t entries, struct vmm_error *err)
{
    uint32_t cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
    int most = vmm_vm_capability(memory->vm, cap);
    if (most <= 0) {
        cap = KVM_CAP_DIRTY_LOG_RING; /* x86 before 6.1: stores are ordered there anyway */
        most = vmm_vm_capability(memory->vm, cap);
    }
    if (most <= 0)
        return vmm_error_set(err, -EOPNOTSUPP, "dirty ring: the host has none");
    uint64_t bytes = (uint64_t)entries * sizeof(struct kvm_dirty_gfn);
    if (!vmm_is_power_of_two(entries) || bytes > (uint64_t)most || bytes < memory->page_size)
        return vmm_error_set(
            err, -EINVAL, "dirty ring: %u entries; it takes a power of two from %" PRIu64 " to %zu",
            entries, memory->page_size / sizeof(struct kvm_dirty_gfn),
            (size_t)most / sizeof(struct kvm_dirty_gfn));
    int rc = vmm_vm_enable_capability(memory->vm, cap, &bytes, 1);
    if (rc < 0)
        return vmm_error_set(err, rc == -EINVAL ? -EBUSY : rc,
                             "dirty ring of %u entries: %s (there must be no vCPU yet)", entries,
                             strerror(-rc));
    memory->dirty.ring_entries = entries;
    return 0;
}

int vmm_dirty_ring_enable(struct vmm_memory *memory, uint32_t entries, struct vmm_error *err)
{
    if (!memory->vm)
        return vmm_error_set(err, -EOPNOTSUPP, "dirty ring: there is no VM");
    pthread_mutex_lock(&memory->lock);
    int rc;
    if (memory->dirty.ring_entries || memory->dirty.asked)
        rc = vmm_error_set(err, -EBUSY, "dirty ring: enabled already, or there was a consumer");
    else
        rc = enable_ring(memory, entries ? entries : DEFAULT_RING, err);
    pthread_mutex_unlock(&memory->lock);
    return rc;
}

uint32_t vmm_dirty_ring_entries(const struct vmm_memory *memory)
{
    return memory->dirty.ring_entries;
}

static size_t ring_size(const struct vmm_memory *memory)
{
    return memory->dirty.ring_entries * sizeof(struct kvm_dirty_gfn);
}

static int attach(struct vmm_memory *memory, int vcpu_fd, struct vmm_error *err)
{
    struct vmm_dirty *dirty = &memory->dirty;
    struct vmm_dirty_ring *rings =
        realloc(dirty->rings, (dirty->ring_count + 1) * sizeof(*dirty->rings));
    if (!rings)
        return vmm_error_set(err, -ENOMEM, "dirty ring: out of memory");
    dirty->rings = rings;
    void *entries = mmap(NULL, ring_size(memory), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
                         (off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * memory->page_size));
    if (entries == MAP_FAILED)
        return vmm_error_set(err, -errno, "dirty ring: mapping it: %s", strerror(errno));
    rings[dirty->ring_count++] = (struct vmm_dirty_ring){.vcpu_fd = vcpu_fd, .entries = entries};
    return 0;
}

int vmm_dirty_ring_attach(struct vmm_memory *memory, int vcpu_fd, struct vmm_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&memory->lock);
    if (memory->dirty.ring_entries)
        rc = attach(memory, vcpu_fd, err);
    pthread_mutex_unlock(&memory->lock);
    return rc;
}

void vmm_dirty_ring_detach(struct vmm_memory *memory, int vcpu_fd)
{
    struct vmm_dirty *dirty = &memory->dirty;
    pthread_mutex_lock(&memory->lock);
    for (size_t i = 0; i < dirty->ring_count; i++) {
        if (dirty->rings[i].vcpu_fd != vcpu_fd)
            continue;
        (void)vmm_dirty_kvm_sync_rings(memory);
        (void)munmap(dirty->rings[i].entries, ring_size(memory));
        dirty->rings[i] = dirty->rings[--dirty->ring_count];
        break;
    }
    pthread_mutex_unlock(&memory->lock);
}

void vmm_dirty_kvm_fini(struct vmm_memory *memory)
{
    for (size_t i = 0; i < memory->dirty.ring_count; i++)
        (void)munmap(memory->dirty.rings[i].entries, ring_size(memory));
    free(memory->dirty.rings);
    free(memory->dirty.scratch);
}
