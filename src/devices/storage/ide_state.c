/* SPDX-License-Identifier: BSD-3-Clause */
/* Saving and loading IDE. A saved channel waits for the driver or is about to ask a backend. */
#include "base/util.h"
#include "devices/storage/ide.h"

#include <stdio.h>

#define NUMBERS 14u

/* Ends are delivered with the lock free, as the loop does it. */
static void settle(struct ide_channel *c)
{
    struct vmm_device *device = vmm_pci_device(c->ide->pci);
    while (c->phase == IDE_BACKEND && c->transfer.busy) {
        struct vmm_block *block = c->transfer.disk;
        vmm_device_unlock(device);
        vmm_block_drain(block);
        vmm_device_lock(device);
    }
}

static int save_unit(const struct ide_unit *u, uint32_t number, struct vmm_state_writer *w)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "unit%u", number);
    (void)vmm_state_begin(w, name, 1);
    (void)vmm_ata_taskfile_save(&u->tf, w);
    (void)vmm_ata_save(&u->ata, w);
    return vmm_state_end(w);
}

static int save_channel(struct ide_channel *c, struct vmm_state_writer *w)
{
    const struct vmm_ata_plan *p = &c->plan;
    const uint32_t numbers[NUMBERS] = {
        c->select, c->control, c->phase, c->active,      c->at,         c->stop,      c->fill,
        p->kind,   p->flags,   p->pio,   p->drq_sectors, c->bm_command, c->bm_status, c->bm_table};
    uint8_t bytes[4 * NUMBERS];
    char name[16];
    for (uint32_t i = 0; i < NUMBERS; i++)
        vmm_store_le32(bytes + (size_t)4 * i, numbers[i]);
    (void)snprintf(name, sizeof(name), "channel%u", c->number);
    (void)vmm_state_begin(w, name, 1);
    (void)vmm_state_put_bytes(w, "numbers", bytes, sizeof(bytes));
    (void)vmm_state_put_u64(w, "offset", p->offset);
    (void)vmm_state_put_u64(w, "length", p->length);
    (void)vmm_state_put_u64(w, "moved", c->moved);
    (void)vmm_state_put_u32(w, "next", p->next);
    (void)vmm_state_put_u32(w, "interrupt", vmm_irq_line_level(c->irq));
    (void)vmm_state_put_bytes(w, "plan-buffer", p->buffer, sizeof(p->buffer));
    (void)vmm_state_put_bytes(w, "buffer", c->buffer, c->fill);
    (void)save_unit(&c->units[0], 0, w);
    (void)save_unit(&c->units[1], 1, w);
    return vmm_state_end(w);
}

int vmm_ide_save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_ide *ide = ctx;
    for (uint32_t i = 0; i < IDE_CHANNELS; i++)
        settle(&ide->channels[i]);
    (void)vmm_state_put_bytes(w, "timing", ide->timing, sizeof(ide->timing));
    int rc = 0;
    for (uint32_t i = 0; i < IDE_CHANNELS; i++)
        rc = save_channel(&ide->channels[i], w);
    return rc; /* errors stick */
}

struct channel_state {
    uint32_t n[NUMBERS], next, interrupt;
    uint64_t offset, length, moved;
    const void *buffer; /* in the reader's data */
    uint8_t plan_buffer[ATA_SECTOR];
    struct ide_unit units[2];
};

/* What no driver can have brought about would lead out of a buffer. */
static int check(const struct channel_state *s, size_t buffered, struct vmm_error *err)
{
    const uint32_t *n = s->n;
    bool data = n[2] == IDE_IN || n[2] == IDE_OUT || n[2] == IDE_CDB;
    bool medium = n[7] == ATA_READ || n[7] == ATA_WRITE;
    bool bad = n[0] > 1 || n[1] & ~(CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB) || n[2] > IDE_DMA ||
               n[2] == IDE_BACKEND || n[3] > 1 || n[6] > IDE_BUFFER || n[5] > n[6] || n[4] > n[5] ||
               n[6] != buffered || n[7] > ATA_PACKET || n[8] & ~VMM_BLOCK_FUA || n[9] > 1 ||
               n[10] > 16 || n[11] & ~(BM_START | BM_READ) ||
               n[12] & ~(BM_ACTIVE | BM_ERROR | BM_INTR | BM_CAPABLE) || n[13] & 3;
    bad = bad || (data && n[4] == n[5]) || (n[2] == IDE_CDB && n[6] != MMC_CDB);
    bad = bad || (!medium && s->length > ATA_SECTOR) || s->moved > s->length ||
          s->length % (medium ? ATA_SECTOR : 1) || n[7] == ATA_DISCARD;
    bad = bad || (n[2] && !s->units[n[3]].ata.type) || (data && n[2] != IDE_CDB && !n[9]);
    bad = bad || (n[2] == IDE_OUT && n[7] != ATA_WRITE) ||
          (n[2] == IDE_WORK && !medium && n[9] && n[7] != ATA_FLUSH) ||
          (n[2] == IDE_WORK && n[9] && medium && s->moved == s->length);
    return bad ? vmm_error_set(err, -EINVAL, "a saved channel is in no possible state") : 0;
}

static int load_unit(const struct ide_unit *u, uint32_t number, struct vmm_state_reader *r,
                     struct ide_unit *to, struct vmm_error *err)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "unit%u", number);
    *to = *u;
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_ata_taskfile_load(&to->tf, r, err);
    if (!rc)
        rc = vmm_ata_load(&to->ata, r, err);
    int left = vmm_state_leave(r);
    return rc ? rc : left;
}

static int load_fields(const struct ide_channel *c, struct vmm_state_reader *r,
                       struct channel_state *s, struct vmm_error *err)
{
    uint8_t bytes[4 * NUMBERS];
    size_t buffered = 0;
    int rc = vmm_state_get_bytes(r, "numbers", bytes, sizeof(bytes), err);
    if (!rc)
        rc = vmm_state_get_u64(r, "offset", UINT64_MAX / 2, &s->offset, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "length", UINT64_MAX / 2, &s->length, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "moved", UINT64_MAX / 2, &s->moved, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "next", 0xfffe, &s->next, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "interrupt", 1, &s->interrupt, err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "plan-buffer", s->plan_buffer, ATA_SECTOR, err);
    if (!rc)
        rc = vmm_state_get_blob(r, "buffer", &s->buffer, &buffered, err);
    for (uint32_t i = 0; i < 2 && !rc; i++)
        rc = load_unit(&c->units[i], i, r, &s->units[i], err);
    for (uint32_t i = 0; i < NUMBERS && !rc; i++)
        s->n[i] = vmm_load_le32(bytes + (size_t)4 * i);
    return rc ? rc : check(s, buffered, err);
}

static int load_channel(const struct ide_channel *c, struct vmm_state_reader *r,
                        struct channel_state *s, struct vmm_error *err)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "channel%u", c->number);
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = load_fields(c, r, s, err);
    int left = vmm_state_leave(r);
    return rc ? rc : left;
}

static void take(struct ide_channel *c, const struct channel_state *s)
{
    vmm_ide_abandon(c);
    c->select = s->n[0];
    c->control = s->n[1];
    c->phase = s->n[2];
    c->active = s->n[3];
    c->at = s->n[4];
    c->stop = s->n[5];
    c->fill = s->n[6];
    memset(&c->plan, 0, sizeof(c->plan));
    c->plan.kind = s->n[7];
    c->plan.flags = s->n[8];
    c->plan.pio = s->n[9];
    c->plan.drq_sectors = s->n[10];
    c->plan.offset = s->offset;
    c->plan.length = s->length;
    c->plan.next = s->next;
    memcpy(c->plan.buffer, s->plan_buffer, ATA_SECTOR);
    c->bm_command = s->n[11];
    c->bm_status = s->n[12];
    c->bm_table = s->n[13];
    c->moved = s->moved;
    memcpy(c->buffer, s->buffer, c->fill);
    c->units[0] = s->units[0];
    c->units[1] = s->units[1];
    (void)vmm_irq_line_set(c->irq, s->interrupt);
}

int vmm_ide_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_ide *ide = ctx;
    struct channel_state s[IDE_CHANNELS];
    uint8_t timing[sizeof(ide->timing)];
    (void)version;
    int rc = vmm_state_get_bytes(r, "timing", timing, sizeof(timing), err);
    for (uint32_t i = 0; i < IDE_CHANNELS && !rc; i++)
        rc = load_channel(&ide->channels[i], r, &s[i], err);
    if (rc)
        return rc;
    memcpy(ide->timing, timing, sizeof(timing));
    for (uint32_t i = 0; i < IDE_CHANNELS; i++)
        take(&ide->channels[i], &s[i]);
    (void)vmm_timer_set(ide->kick, 0);
    return 0;
}
