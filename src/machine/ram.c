/* SPDX-License-Identifier: BSD-3-Clause */
/* The RAM of a machine: what it is made with, and what is plugged and given back while it runs. */
#include "base/util.h"
#include "machine/internal.h"

#include <stdio.h>

/* RAM that other processes can map: the descriptor is the backing's. */
static int make_shared(const char *name, uint64_t length, struct vmm_memory_region **out,
                       struct vmm_error *err)
{
    struct vmm_backing_options b = VMM_BACKING_OPTIONS_INIT;
    struct vmm_memory_region_options r = VMM_MEMORY_REGION_OPTIONS_INIT;
    b.kind = VMM_BACKING_MEMFD;
    b.length = length;
    b.name = name;
    int rc = vmm_backing_new(&b, &r.backing, err);
    if (rc)
        return rc;
    r.name = name;
    r.type = VMM_MEMORY_RAM;
    r.length = length;
    rc = vmm_memory_region_new(&r, out, err);
    vmm_backing_unref(r.backing);
    return rc;
}

int vmm_machine_add_ram(struct vmm_machine *m, const char *name, uint64_t address, uint64_t length,
                        struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region *region;
    if (!m->options.shared_memory)
        return vmm_memory_add_ram(m->memory, name, address, length, out, err);
    int rc = make_shared(name, length, &region, err);
    if (rc)
        return rc;
    rc = vmm_memory_add(m->memory, region, address, 0, err);
    if (rc || !out)
        vmm_memory_region_unref(region);
    else
        *out = region;
    return rc;
}

/* Hot plug ------------------------------------------------------------------------------------- */

/* On the loop's thread, after the guest has ejected: nothing of its own runs on those pages. */
static void take_ejected(void *ctx)
{
    struct vmm_machine *m = ctx;
    uint32_t slot;
    while (vmm_memplug_take_ejected(m->memplug, &slot) == 0) {
        (void)vmm_memory_remove(m->memory, m->plugged[slot], NULL);
        m->plugged[slot] = vmm_memory_region_unref(m->plugged[slot]);
    }
}

static void ejected(void *ctx)
{
    struct vmm_machine *m = ctx;
    (void)vmm_timer_set(m->eject_timer, 0);
}

int vmm_machine_make_memplug(struct vmm_machine *m, uint64_t base, struct vmm_bus *bus,
                             uint64_t address, struct vmm_error *err)
{
    struct vmm_memplug_options o = VMM_MEMPLUG_OPTIONS_INIT;
    o.name = "memplug";
    o.slots = MACHINE_PLUG_SLOTS;
    o.ejected = ejected;
    o.ctx = m;
    m->plug_base = vmm_align_up(base, VMM_MACHINE_PLUG_UNIT);
    int rc = vmm_timer_new(m->loop, take_ejected, m, &m->eject_timer);
    if (!rc)
        rc = vmm_memplug_new(&o, &m->memplug);
    if (rc)
        return vmm_error_set(err, rc, "memory hot plug: %s", strerror(-rc));
    rc = vmm_memplug_attach(m->memplug, bus, address, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_memplug_device(m->memplug));
}

void vmm_machine_free_memplug(struct vmm_machine *m)
{
    vmm_timer_free(m->eject_timer);
    for (uint32_t i = 0; i < MACHINE_PLUG_SLOTS; i++)
        vmm_memory_region_unref(m->plugged[i]);
    vmm_memplug_unref(m->memplug);
}

uint64_t vmm_machine_plug_room(const struct vmm_machine *m)
{
    return m->options.memory_max > m->options.memory_size
               ? m->options.memory_max - m->options.memory_size
               : 0;
}

/* The lowest gap that is long enough: before the first slot, or behind one. */
static int find_gap(struct vmm_machine *m, uint64_t length, uint64_t *address)
{
    uint64_t end = m->plug_base + vmm_machine_plug_room(m);
    uint64_t at = m->plug_base;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < MACHINE_PLUG_SLOTS; i++) {
            struct vmm_memplug_slot s = VMM_MEMPLUG_SLOT_INIT;
            (void)vmm_memplug_get_slot(m->memplug, i, &s);
            if (s.length && s.address < at + length && at < s.address + s.length) {
                at = s.address + s.length;
                moved = true;
            }
        }
    }
    *address = at;
    return length > end - m->plug_base || at > end - length ? -ENOSPC : 0;
}

int vmm_machine_add_memory(struct vmm_machine *m, uint64_t length, uint32_t *slot,
                           struct vmm_error *err)
{
    struct vmm_memory_region *region;
    uint64_t address;
    uint32_t number;
    char name[32];
    if (!m->memplug)
        return vmm_error_set(err, -ENOTSUP,
                             "the machine was made without room for more memory (memory_max)");
    if (!length || length % VMM_MACHINE_PLUG_UNIT)
        return vmm_error_set(err, -EINVAL, "memory is added in multiples of %u MiB",
                             (unsigned)(VMM_MACHINE_PLUG_UNIT >> 20));
    int rc = find_gap(m, length, &address);
    if (rc)
        return vmm_error_set(err, rc, "no room for %llu MiB below the machine's limit of %llu",
                             (unsigned long long)length >> 20,
                             (unsigned long long)m->options.memory_max >> 20);
    (void)snprintf(name, sizeof(name), "ram-%llx", (unsigned long long)address);
    rc = vmm_machine_add_ram(m, name, address, length, &region, err);
    if (rc)
        return rc;
    rc = vmm_memplug_insert(m->memplug, address, length, &number);
    if (rc) {
        (void)vmm_memory_remove(m->memory, region, NULL);
        vmm_memory_region_unref(region);
        return vmm_error_set(err, rc, "all %u slots for memory are taken", MACHINE_PLUG_SLOTS);
    }
    m->plugged[number] = region;
    if (slot)
        *slot = number;
    m->board->memory_event(m);
    return 0;
}

int vmm_machine_remove_memory(struct vmm_machine *m, uint32_t slot, struct vmm_error *err)
{
    int rc = m->memplug ? vmm_memplug_request_removal(m->memplug, slot) : -ENOENT;
    if (rc)
        return vmm_error_set(err, rc, "there is no plugged memory in slot %u", slot);
    m->board->memory_event(m);
    return 0;
}

int vmm_machine_get_memory_slot(struct vmm_machine *m, uint32_t slot, struct vmm_memplug_slot *info)
{
    return m->memplug ? vmm_memplug_get_slot(m->memplug, slot, info) : -ENOENT;
}
