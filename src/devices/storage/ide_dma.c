/* SPDX-License-Identifier: BSD-3-Clause */
/* The bus master of an IDE channel (Programming Interface for Bus Master IDE Controller, 1.0). */
#include "base/util.h"
#include "devices/storage/ide.h"

#define PRD     8u
#define PRDS    64u   /* read at once */
#define PRD_MAX 8192u /* a table of 64 KiB, which is all that the hardware can walk */
#define PRD_EOT 0x80000000u

void vmm_ide_complain(struct vmm_ide *ide, const char *text)
{
    if (ide->vm)
        vmm_vm_guest_error(ide->vm, vmm_device_name(vmm_pci_device(ide->pci)), "%s", text);
}

uint64_t vmm_ide_bm_read(const struct ide_channel *c, uint32_t offset)
{
    switch (offset) {
    case 0:
        return c->bm_command;
    case 2:
        return c->bm_status;
    case 4:
    case 5:
    case 6:
    case 7:
        return c->bm_table >> 8 * (offset - 4) & 0xff;
    default:
        return 0xff;
    }
}

static bool moves_by_dma(const struct ide_channel *c)
{
    return !c->plan.pio && (c->plan.kind == ATA_READ || c->plan.kind == ATA_WRITE ||
                            c->plan.kind == ATA_BUFFER_IN || c->plan.kind == ATA_BUFFER_OUT);
}

static void write_command(struct ide_channel *c, uint8_t value)
{
    bool was = c->bm_command & BM_START;
    c->bm_command = value & (BM_START | BM_READ);
    if (!was && value & BM_START) {
        c->bm_status |= BM_ACTIVE;
        if (c->phase == IDE_DMA)
            vmm_ide_want_backend(c);
    } else if (was && !(value & BM_START)) {
        /* Data that is under way is given up, as by hardware; the drive waits for its reset. */
        bool under_way = c->phase == IDE_BACKEND || c->phase == IDE_WORK;
        if (under_way && moves_by_dma(c)) {
            vmm_transfer_abandon(&c->transfer);
            c->phase = IDE_DMA;
        }
        c->bm_status &= ~BM_ACTIVE;
    }
}

void vmm_ide_bm_write(struct ide_channel *c, uint32_t offset, uint8_t value)
{
    uint32_t shift = 8 * (offset & 3);
    if (offset == 0) {
        write_command(c, value);
    } else if (offset == 2) {
        c->bm_status &= ~(value & (BM_ERROR | BM_INTR));
        c->bm_status = (c->bm_status & ~BM_CAPABLE) | (value & BM_CAPABLE);
    } else if (offset >= 4) {
        c->bm_table = (c->bm_table & ~(0xffu << shift)) | (uint32_t)value << shift;
        c->bm_table &= ~3u;
    }
}

/* As much of the table as `length` bytes need. `*end`: it has not more than that. */
static int load_table(struct ide_channel *c, uint64_t length, bool *end)
{
    uint8_t prds[PRDS * PRD];
    struct vmm_transfer *t = &c->transfer;
    uint32_t last = 0;
    int rc = 0;
    vmm_transfer_clear(t);
    for (uint32_t i = 0; !rc && i < PRD_MAX && t->length < length && !(last & PRD_EOT); i++) {
        if (i % PRDS == 0)
            rc = vmm_pci_dma_read(c->ide->pci, (uint64_t)c->bm_table + (uint64_t)i * PRD, prds,
                                  sizeof(prds));
        const uint8_t *prd = prds + (size_t)PRD * (i % PRDS);
        last = vmm_load_le32(prd + 4);
        if (!rc)
            rc = vmm_transfer_add(t, vmm_load_le32(prd) & ~1u,
                                  last & 0xfffe ? last & 0xfffe : 0x10000);
    }
    *end = last & PRD_EOT && t->length <= length;
    return rc ? rc : t->length < length ? -EFAULT : 0;
}

static int move(struct ide_channel *c)
{
    struct ide_unit *u = &c->units[c->active];
    struct vmm_transfer *t = &c->transfer;
    struct vmm_ata_plan *plan = &c->plan;
    switch (plan->kind) {
    case ATA_READ:
    case ATA_WRITE:
        return vmm_transfer_start(t, u->ata.block,
                                  plan->kind == ATA_WRITE ? VMM_BLOCK_WRITE : VMM_BLOCK_READ,
                                  plan->flags, plan->offset, plan->length);
    case ATA_BUFFER_IN:
        return vmm_transfer_copy(t, plan->buffer, plan->length, true) < 0 ? -EFAULT : 1;
    case ATA_BUFFER_OUT:
        if (vmm_transfer_copy(t, plan->buffer, plan->length, false) < 0)
            return -EFAULT;
        vmm_ata_take_buffer(&u->ata, &u->tf, plan);
        if (plan->kind == ATA_NO_DATA)
            return 2;
        vmm_transfer_start_buffer(t, u->ata.block, VMM_BLOCK_DISCARD, 0, plan->offset, NULL,
                                  plan->length);
        return 0;
    default:
        return -EFAULT;
    }
}

void vmm_ide_dma(struct ide_channel *c)
{
    bool end = true;
    int rc = load_table(c, c->plan.length, &end);
    if (!rc)
        rc = move(c);
    if (rc < 0) {
        vmm_ide_complain(c->ide, "a bus master's table, or what it names, is not all memory");
        c->bm_status = (c->bm_status & ~BM_ACTIVE) | BM_ERROR;
        vmm_ide_end(c, rc);
        return;
    }
    if (end)
        c->bm_status &= ~BM_ACTIVE;
    if (rc == 1)
        vmm_ide_end(c, 0);
    else if (rc == 2)
        vmm_ide_finish(c, true);
}
