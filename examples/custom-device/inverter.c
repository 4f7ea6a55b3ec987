/* SPDX-License-Identifier: BSD-3-Clause */
#include "inverter.h"

#include <errno.h>
#include <stdlib.h>

enum {
    REG_ID = 0x00,
    REG_SOURCE = 0x08,
    REG_DESTINATION = 0x10,
    REG_LENGTH = 0x18,
    REG_COMMAND = 0x1c,
    REG_STATUS = 0x20,
    REG_COUNT = 0x24,
};

#define ID         0x49564d56u
#define LENGTH_MAX (1u << 20)

enum { IDLE, DONE, FAILED };

struct inverter {
    struct vmm_pci *pci;
    uint64_t source, destination;
    uint32_t length, status, count;
};

/* The work, a piece at a time. The library checks every address; one that is not RAM fails, be it a
 * hole, another device or this one. */
static int invert(struct inverter *d)
{
    uint8_t buffer[4096];
    for (uint32_t done = 0; done < d->length;) {
        size_t piece = d->length - done < sizeof(buffer) ? d->length - done : sizeof(buffer);
        int rc = vmm_pci_dma_read(d->pci, d->source + done, buffer, piece);
        for (size_t i = 0; i < piece; i++)
            buffer[i] = (uint8_t)~buffer[i];
        if (!rc)
            rc = vmm_pci_dma_write(d->pci, d->destination + done, buffer, piece);
        if (rc)
            return rc;
        done += (uint32_t)piece;
    }
    return 0;
}

/* On the vCPU's thread, which waits: good for short work. Longer work belongs on the event loop. */
static void command(struct inverter *d, uint32_t value)
{
    if (value != 1)
        return;
    d->status = d->length <= LENGTH_MAX && invert(d) == 0 ? DONE : FAILED;
    d->count++;
    vmm_pci_set_intx(d->pci, 1); /* the line rises only while the driver uses it */
    (void)vmm_pci_signal(d->pci, d->status == DONE ? 0 : 1);
}

static uint32_t take_status(struct inverter *d)
{
    vmm_pci_set_intx(d->pci, 0);
    return d->status;
}

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct inverter *d = ctx;
    (void)bar, (void)width;
    switch (offset) {
    case REG_ID:
        return ID;
    case REG_SOURCE:
        return d->source;
    case REG_SOURCE + 4:
        return d->source >> 32;
    case REG_DESTINATION:
        return d->destination;
    case REG_DESTINATION + 4:
        return d->destination >> 32;
    case REG_LENGTH:
        return d->length;
    case REG_STATUS:
        return take_status(d);
    case REG_COUNT:
        return d->count;
    default:
        return 0;
    }
}

static void set_address(uint64_t *address, uint64_t offset, uint32_t width, uint64_t value)
{
    if (width == 8)
        *address = value;
    else if (offset & 4)
        *address = (*address & UINT32_MAX) | value << 32;
    else
        *address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    struct inverter *d = ctx;
    (void)bar;
    if (offset % width) /* the library has seen to widths of 4 and 8 */
        return;
    if ((offset & ~UINT64_C(7)) == REG_SOURCE)
        set_address(&d->source, offset, width, value);
    else if ((offset & ~UINT64_C(7)) == REG_DESTINATION)
        set_address(&d->destination, offset, width, value);
    else if (offset == REG_LENGTH)
        d->length = (uint32_t)value;
    else if (offset == REG_COMMAND)
        command(d, (uint32_t)value);
}

static void reset(void *ctx)
{
    struct inverter *d = ctx;
    d->source = d->destination = 0;
    d->length = d->count = 0;
    d->status = IDLE;
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct inverter *d = ctx;
    (void)vmm_state_put_u64(w, "source", d->source); /* errors stick: the last call tells */
    (void)vmm_state_put_u64(w, "destination", d->destination);
    (void)vmm_state_put_u32(w, "length", d->length);
    (void)vmm_state_put_u32(w, "status", d->status);
    return vmm_state_put_u32(w, "count", d->count);
}

/* Everything is read and checked before anything is taken over. */
static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct inverter *d = ctx, new = *d;
    (void)version;
    int rc = vmm_state_get_u64(r, "source", UINT64_MAX, &new.source, err);
    rc = rc ? rc : vmm_state_get_u64(r, "destination", UINT64_MAX, &new.destination, err);
    rc = rc ? rc : vmm_state_get_u32(r, "length", UINT32_MAX, &new.length, err);
    rc = rc ? rc : vmm_state_get_u32(r, "status", FAILED, &new.status, err);
    rc = rc ? rc : vmm_state_get_u32(r, "count", UINT32_MAX, &new.count, err);
    if (!rc)
        *d = new;
    return rc;
}

int inverter_new(const char *name, struct vmm_pci **out, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .bar_read = bar_read,
        .bar_write = bar_write,
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = free,
    };
    struct inverter *d = calloc(1, sizeof(*d));
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    if (!d)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.name = name;
    o.vendor_id = 0x1234; /* get one of your own from the PCI-SIG */
    o.device_id = 0x4956;
    o.class_code = 0xff0000; /* belongs to no class */
    o.interrupt_pin = 1;
    o.bars[0].length = 0x1000;
    o.bars[0].min_width = 4;
    o.bars[0].max_width = 8;
    o.msix_vectors = 2;
    o.msix_bar = 1;
    o.capabilities = VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS;
    o.ops = &ops;
    o.ctx = d;
    int rc = vmm_pci_new(&o, &d->pci, err);
    if (rc)
        free(d);
    else
        *out = d->pci;
    return rc;
}
