/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots of hot-plugged memory, as the guest's ACPI code sees them. See memplug.h for the registers. */
#include "base/util.h"

#include <libvmm/memplug.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    REG_SELECT = 0,
    REG_STATUS = 4,
    REG_ADDRESS = 8,
    REG_ADDRESS_HIGH = 12,
    REG_LENGTH = 16,
    REG_LENGTH_HIGH = 20,
    REG_OST_EVENT = 24,
    REG_OST_STATUS = 28,
};

#define GUEST_BITS (VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_INSERTED | VMM_MEMPLUG_REMOVAL)

struct vmm_memplug {
    struct vmm_device *device;
    uint32_t slot_count;
    uint32_t select;
    uint32_t ost_event;
    void (*ejected)(void *ctx);
    void *ctx;
    struct vmm_memplug_slot slots[VMM_MEMPLUG_SLOTS_MAX];
};

static struct vmm_memplug_slot *selected(struct vmm_memplug *mp)
{
    return mp->select < mp->slot_count ? &mp->slots[mp->select] : NULL;
}

static uint64_t memplug_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_memplug *mp = ctx;
    const struct vmm_memplug_slot *slot = selected(mp);
    (void)width;
    if (offset == REG_SELECT)
        return mp->select;
    if (offset == REG_OST_EVENT)
        return mp->ost_event;
    if (!slot || !slot->status)
        return 0;
    switch (offset) {
    case REG_STATUS:
        return slot->status;
    case REG_ADDRESS:
        return slot->address & UINT32_MAX;
    case REG_ADDRESS_HIGH:
        return slot->address >> 32;
    case REG_LENGTH:
        return slot->length & UINT32_MAX;
    case REG_LENGTH_HIGH:
        return slot->length >> 32;
    default:
        return 0;
    }
}

static void write_status(struct vmm_memplug *mp, struct vmm_memplug_slot *slot, uint32_t value)
{
    slot->status &= ~(value & (VMM_MEMPLUG_INSERTED | VMM_MEMPLUG_REMOVAL));
    if (!(value & VMM_MEMPLUG_EJECT) || !(slot->status & VMM_MEMPLUG_PRESENT))
        return;
    slot->status = 0;
    if (mp->ejected)
        mp->ejected(mp->ctx);
}

static void memplug_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_memplug *mp = ctx;
    struct vmm_memplug_slot *slot = selected(mp);
    uint32_t word = (uint32_t)value;
    (void)width;
    if (offset == REG_SELECT)
        mp->select = word;
    else if (offset == REG_OST_EVENT)
        mp->ost_event = word;
    else if (!slot || !slot->length)
        return;
    else if (offset == REG_STATUS)
        write_status(mp, slot, word);
    else if (offset == REG_OST_STATUS) {
        slot->ost_event = mp->ost_event;
        slot->ost_status = word;
        slot->ost_count++;
    }
}

/* The RAM stays plugged, and what boots next finds it by its _STA. */
static void reset(void *ctx)
{
    struct vmm_memplug *mp = ctx;
    mp->select = mp->ost_event = 0;
    for (uint32_t i = 0; i < mp->slot_count; i++)
        mp->slots[i].status &= VMM_MEMPLUG_PRESENT;
}

/* State ---------------------------------------------------------------------------------------- */

static void slot_name(char name[16], uint32_t slot)
{
    (void)snprintf(name, 16, "slot-%u", slot);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_memplug *mp = ctx;
    (void)vmm_state_put_u32(w, "select", mp->select);
    (void)vmm_state_put_u32(w, "ost-event", mp->ost_event);
    int rc = vmm_state_put_u32(w, "slots", mp->slot_count);
    for (uint32_t i = 0; i < mp->slot_count; i++) {
        const struct vmm_memplug_slot *s = &mp->slots[i];
        char name[16];
        if (!s->length)
            continue;
        slot_name(name, i);
        (void)vmm_state_begin(w, name, 1);
        (void)vmm_state_put_u64(w, "address", s->address);
        (void)vmm_state_put_u64(w, "length", s->length);
        (void)vmm_state_put_u32(w, "status", s->status);
        rc = vmm_state_end(w);
    }
    return rc;
}

/* The RAM itself is the embedder's to plug before: the saved slot must be the one that is there. */
static int load_slot(const struct vmm_memplug *mp, struct vmm_state_reader *r, uint32_t number,
                     uint32_t *status, struct vmm_error *err)
{
    const struct vmm_memplug_slot *s = &mp->slots[number];
    uint64_t address = 0, length = 0;
    char name[16];
    slot_name(name, number);
    *status = 0;
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (!rc) {
        rc = vmm_state_get_u64(r, "address", UINT64_MAX, &address, err);
        if (!rc)
            rc = vmm_state_get_u64(r, "length", UINT64_MAX, &length, err);
        if (!rc)
            rc = vmm_state_get_u32(r, "status", GUEST_BITS, status, err);
        (void)vmm_state_leave(r);
    } else if (rc == -ENOENT) {
        rc = 0;
    }
    if (!rc && (address != s->address || length != s->length))
        rc = vmm_error_set(
            err, -EINVAL,
            "%s/%s: saved with %#llx bytes at %#llx, plugged are %#llx at %#llx: plug "
            "the same memory before loading",
            vmm_device_name(mp->device), name, (unsigned long long)length,
            (unsigned long long)address, (unsigned long long)s->length,
            (unsigned long long)s->address);
    if (!rc && *status && !(*status & VMM_MEMPLUG_PRESENT))
        rc = vmm_error_set(err, -EINVAL, "%s/%s/status: %#x without being present",
                           vmm_device_name(mp->device), name, *status);
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_memplug *mp = ctx;
    uint32_t select, event, slots, status[VMM_MEMPLUG_SLOTS_MAX];
    (void)version;
    int rc = vmm_state_get_u32(r, "select", UINT32_MAX, &select, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "ost-event", UINT32_MAX, &event, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "slots", VMM_MEMPLUG_SLOTS_MAX, &slots, err);
    if (!rc && slots != mp->slot_count)
        rc = vmm_error_set(err, -EINVAL, "%s/slots: saved with %u, this one has %u",
                           vmm_device_name(mp->device), slots, mp->slot_count);
    for (uint32_t i = 0; i < mp->slot_count && !rc; i++)
        rc = load_slot(mp, r, i, &status[i], err);
    if (rc)
        return rc;
    mp->select = select;
    mp->ost_event = event;
    for (uint32_t i = 0; i < mp->slot_count; i++)
        mp->slots[i].status = status[i];
    return 0;
}

/* Making --------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    free(ctx);
}

int vmm_memplug_new(const struct vmm_memplug_options *given, struct vmm_memplug **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_memplug_options o;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return rc;
    if (!o.slots || o.slots > VMM_MEMPLUG_SLOTS_MAX)
        return -EINVAL;
    struct vmm_memplug *mp = calloc(1, sizeof(*mp));
    if (!mp)
        return -ENOMEM;
    mp->slot_count = o.slots;
    mp->ejected = o.ejected;
    mp->ctx = o.ctx;
    for (uint32_t i = 0; i < o.slots; i++)
        mp->slots[i].size = sizeof(mp->slots[i]);
    rc = vmm_device_new(o.name, &ops, mp, &mp->device);
    if (rc) {
        free(mp);
        return rc;
    }
    *out = mp;
    return 0;
}

struct vmm_memplug *vmm_memplug_unref(struct vmm_memplug *mp)
{
    if (mp)
        vmm_device_unref(mp->device);
    return NULL;
}

struct vmm_device *vmm_memplug_device(struct vmm_memplug *mp)
{
    return mp->device;
}

int vmm_memplug_attach(struct vmm_memplug *mp, struct vmm_bus *bus, uint64_t address,
                       struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = memplug_read,
        .write = memplug_write,
        .min_width = 4,
        .max_width = 4,
    };
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(mp->device);
    region.address = address;
    region.length = VMM_MEMPLUG_LENGTH;
    region.device = mp->device;
    region.ops = &ops;
    region.ctx = mp;
    return vmm_bus_add(bus, &region, NULL, err);
}

/* The host's side ------------------------------------------------------------------------------ */

static int place(struct vmm_memplug *mp, uint64_t address, uint64_t length, uint32_t *slot)
{
    uint32_t found = UINT32_MAX;
    for (uint32_t i = mp->slot_count; i-- > 0;) {
        const struct vmm_memplug_slot *s = &mp->slots[i];
        if (!s->length)
            found = i;
        else if (address <= s->address + (s->length - 1) && s->address <= address + (length - 1))
            return -EEXIST;
    }
    if (found == UINT32_MAX)
        return -ENOSPC;
    mp->slots[found] = (struct vmm_memplug_slot)VMM_MEMPLUG_SLOT_INIT;
    mp->slots[found].address = address;
    mp->slots[found].length = length;
    mp->slots[found].status = VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_INSERTED;
    if (slot)
        *slot = found;
    return 0;
}

int vmm_memplug_insert(struct vmm_memplug *mp, uint64_t address, uint64_t length, uint32_t *slot)
{
    if (!length || address + (length - 1) < address)
        return -EINVAL;
    vmm_device_lock(mp->device);
    int rc = place(mp, address, length, slot);
    vmm_device_unlock(mp->device);
    return rc;
}

int vmm_memplug_request_removal(struct vmm_memplug *mp, uint32_t slot)
{
    int rc = -ENOENT;
    vmm_device_lock(mp->device);
    if (slot < mp->slot_count && mp->slots[slot].status & VMM_MEMPLUG_PRESENT) {
        mp->slots[slot].status |= VMM_MEMPLUG_REMOVAL;
        rc = 0;
    }
    vmm_device_unlock(mp->device);
    return rc;
}

int vmm_memplug_take_ejected(struct vmm_memplug *mp, uint32_t *slot)
{
    int rc = -ENOENT;
    vmm_device_lock(mp->device);
    for (uint32_t i = 0; i < mp->slot_count && rc; i++) {
        if (!mp->slots[i].length || mp->slots[i].status)
            continue;
        mp->slots[i].length = mp->slots[i].address = 0;
        *slot = i;
        rc = 0;
    }
    vmm_device_unlock(mp->device);
    return rc;
}

int vmm_memplug_get_slot(struct vmm_memplug *mp, uint32_t slot, struct vmm_memplug_slot *info)
{
    if (slot >= mp->slot_count)
        return -ENOENT;
    vmm_device_lock(mp->device);
    int rc = vmm_info_copy(info, &mp->slots[slot], sizeof(mp->slots[slot]));
    vmm_device_unlock(mp->device);
    return rc;
}
