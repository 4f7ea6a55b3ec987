/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands of an IDE channel: PIO in blocks, packets, and who waits for whom. Sections are ATA/ATAPI-7's. */
#include "base/util.h"
#include "devices/storage/ide.h"

#define REASON_COMMAND 1u /* of a packet command: C/D */
#define REASON_IN      2u /* I/O */
#define READY          (ATA_DRDY | ATA_DSC)

static struct ide_unit *unit_of(struct ide_channel *c)
{
    return &c->units[c->active];
}

static void interrupt(struct ide_channel *c)
{
    c->bm_status |= BM_INTR;
    if (!(c->control & CONTROL_NIEN))
        (void)vmm_irq_line_set(c->irq, 1);
}

static bool is_packet(struct ide_channel *c)
{
    return unit_of(c)->tf.command == ATA_CMD_PACKET && unit_of(c)->ata.type == VMM_DRIVE_CDROM;
}

/* Ends ----------------------------------------------------------------------------------------- */

void vmm_ide_finish(struct ide_channel *c, bool with_interrupt)
{
    c->phase = IDE_IDLE;
    if (with_interrupt)
        interrupt(c);
}

void vmm_ide_end(struct ide_channel *c, int result)
{
    struct ide_unit *u = unit_of(c);
    vmm_ata_end(&u->ata, &u->tf, &c->plan, result);
    vmm_ide_finish(c, true);
}

void vmm_ide_want_backend(struct ide_channel *c)
{
    c->phase = IDE_WORK;
    unit_of(c)->tf.status = ATA_BSY | ATA_DRDY;
    (void)vmm_timer_set(c->ide->kick, 0);
}

void vmm_ide_abandon(struct ide_channel *c)
{
    vmm_transfer_abandon(&c->transfer);
    c->phase = IDE_IDLE;
    c->bm_status &= ~BM_ACTIVE;
    c->at = c->stop = c->fill = 0;
}

void vmm_ide_reset_units(struct ide_channel *c, bool hard)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct ide_unit *u = &c->units[i];
        if (!u->ata.type)
            continue;
        vmm_ata_reset(&u->ata, hard);
        vmm_ata_signature(&u->ata, &u->tf);
    }
    c->select = 0;
    (void)vmm_irq_line_set(c->irq, 0);
}

/* Data by PIO ---------------------------------------------------------------------------------- */

/* The bytes of a block between two interrupts. */
static uint32_t block_size(struct ide_channel *c)
{
    if (!is_packet(c))
        return c->plan.drq_sectors * ATA_SECTOR;
    uint32_t limit = (uint32_t)(unit_of(c)->tf.lba >> 8 & 0xfffe);
    return limit ? limit : 0xfffe;
}

/* The driver's byte count limit is overwritten by what a block has, so it is kept in plan.next. */
static void show_block(struct ide_channel *c, uint32_t phase)
{
    struct ide_unit *u = unit_of(c);
    uint32_t size = is_packet(c) ? c->plan.next : block_size(c);
    c->stop = c->fill - c->at < size ? c->fill : c->at + size;
    c->phase = phase;
    u->tf.status = READY | ATA_DRQ;
    if (!is_packet(c))
        return;
    u->tf.count = REASON_IN;
    u->tf.lba = (u->tf.lba & ~(uint64_t)0xffff00) | (uint64_t)(c->stop - c->at) << 8;
}

static void show_buffer(struct ide_channel *c)
{
    c->fill = (uint32_t)c->plan.length;
    c->at = 0;
    memcpy(c->buffer, c->plan.buffer, c->fill);
    c->moved = c->fill;
    show_block(c, IDE_IN);
    interrupt(c);
}

/* As much as goes into the buffer at once. */
static uint32_t next_part(const struct ide_channel *c)
{
    uint64_t left = c->plan.length - c->moved;
    return left < IDE_BUFFER ? (uint32_t)left : IDE_BUFFER;
}

static void ask_for_data(struct ide_channel *c)
{
    c->fill = next_part(c);
    c->at = 0;
    show_block(c, IDE_OUT);
}

static void take_cdb(struct ide_channel *c);

static void block_read(struct ide_channel *c)
{
    if (c->at < c->fill) {
        show_block(c, IDE_IN);
        interrupt(c);
    } else if (c->moved < c->plan.length) {
        vmm_ide_want_backend(c);
    } else {
        struct ide_unit *u = unit_of(c);
        vmm_ata_end(&u->ata, &u->tf, &c->plan, 0);
        vmm_ide_finish(c, is_packet(c));
    }
}

static void block_written(struct ide_channel *c)
{
    if (c->phase == IDE_CDB) {
        take_cdb(c);
    } else if (c->at < c->fill) {
        show_block(c, IDE_OUT);
        interrupt(c);
    } else {
        vmm_ide_want_backend(c);
    }
}

uint32_t vmm_ide_data_read(struct ide_channel *c, uint32_t width)
{
    uint32_t value = 0;
    if (c->phase != IDE_IN || c->active != c->select)
        return UINT32_MAX;
    for (uint32_t i = 0; i < width && c->at < c->stop; i++)
        value |= (uint32_t)c->buffer[c->at++] << 8 * i;
    if (c->at == c->stop)
        block_read(c);
    return value;
}

void vmm_ide_data_write(struct ide_channel *c, uint32_t width, uint32_t value)
{
    if ((c->phase != IDE_OUT && c->phase != IDE_CDB) || c->active != c->select)
        return;
    for (uint32_t i = 0; i < width && c->at < c->stop; i++)
        c->buffer[c->at++] = (uint8_t)(value >> 8 * i);
    if (c->at == c->stop)
        block_written(c);
}

/* Commands ------------------------------------------------------------------------------------- */

/* By the bus master: now, if it has been started, or when it is. */
static void want_dma(struct ide_channel *c)
{
    unit_of(c)->tf.status = ATA_BSY | ATA_DRDY;
    c->phase = IDE_DMA;
    if (c->bm_status & BM_ACTIVE)
        vmm_ide_want_backend(c);
}

static void carry_out(struct ide_channel *c)
{
    bool out = c->plan.kind == ATA_WRITE;
    c->moved = 0;
    c->at = c->stop = c->fill = 0;
    switch (c->plan.kind) {
    case ATA_NO_DATA:
        vmm_ide_finish(c, true);
        return;
    case ATA_PACKET:
        unit_of(c)->tf.status = READY | ATA_DRQ;
        unit_of(c)->tf.count = REASON_COMMAND;
        c->phase = IDE_CDB;
        c->stop = c->fill = MMC_CDB;
        return;
    case ATA_FLUSH:
        vmm_ide_want_backend(c);
        return;
    default:
        break;
    }
    if (!c->plan.pio)
        want_dma(c);
    else if (c->plan.kind == ATA_BUFFER_IN)
        show_buffer(c);
    else if (out)
        ask_for_data(c);
    else
        vmm_ide_want_backend(c);
}

static void take_cdb(struct ide_channel *c)
{
    struct ide_unit *u = unit_of(c);
    uint8_t cdb[MMC_CDB];
    memcpy(cdb, c->buffer, sizeof(cdb));
    vmm_ata_packet(&u->ata, cdb, &u->tf, &c->plan);
    c->plan.next = block_size(c);
    carry_out(c);
}

/* EXECUTE DEVICE DIAGNOSTIC is for both drives, whichever is selected (§6.10). */
static void diagnose(struct ide_channel *c)
{
    vmm_ide_abandon(c);
    vmm_ide_reset_units(c, false);
    interrupt(c);
}

void vmm_ide_command(struct ide_channel *c, uint8_t command)
{
    struct ide_unit *u = &c->units[c->select];
    bool busy = c->phase == IDE_WORK || c->phase == IDE_BACKEND || c->phase == IDE_DMA;
    if (!u->ata.type)
        return;
    if (command == ATA_CMD_DEVICE_RESET && u->ata.type == VMM_DRIVE_CDROM) {
        if (c->active == c->select)
            vmm_ide_abandon(c);
        vmm_ata_signature(&u->ata, &u->tf);
        return;
    }
    if (busy)
        return; /* a drive that is busy hears nothing else */
    (void)vmm_irq_line_set(c->irq, 0);
    if (command == ATA_CMD_DIAGNOSTIC) {
        diagnose(c);
        return;
    }
    c->active = c->select;
    u->tf.command = command;
    u->tf.error = 0;
    vmm_ata_decode(&u->ata, &u->tf, &c->plan);
    carry_out(c);
}

/* The backend ---------------------------------------------------------------------------------- */

static void next_discard(struct ide_channel *c)
{
    vmm_transfer_start_buffer(&c->transfer, unit_of(c)->ata.block, VMM_BLOCK_DISCARD, 0,
                              c->plan.offset, NULL, c->plan.length);
}

static void pio_work(struct ide_channel *c)
{
    bool out = c->plan.kind == ATA_WRITE;
    c->fill = next_part(c);
    vmm_transfer_start_buffer(&c->transfer, unit_of(c)->ata.block,
                              out ? VMM_BLOCK_WRITE : VMM_BLOCK_READ, c->plan.flags,
                              c->plan.offset + c->moved, c->buffer, c->fill);
}

void vmm_ide_work(struct ide_channel *c)
{
    if (c->phase != IDE_WORK || c->transfer.busy) /* an abandoned one ends first */
        return;
    struct ide_unit *u = unit_of(c);
    if (!u->ata.block && (c->plan.kind != ATA_BUFFER_IN)) { /* the medium has gone meanwhile */
        vmm_ide_end(c, -EIO);
        return;
    }
    c->phase = IDE_BACKEND;
    if (c->plan.kind == ATA_FLUSH)
        vmm_transfer_start_buffer(&c->transfer, u->ata.block, VMM_BLOCK_FLUSH, 0, 0, NULL, 0);
    else if (!c->plan.pio)
        vmm_ide_dma(c);
    else
        pio_work(c);
}

static void pio_done(struct ide_channel *c)
{
    c->moved += c->fill;
    c->at = 0;
    if (c->plan.kind == ATA_READ) {
        show_block(c, IDE_IN);
        interrupt(c);
    } else if (c->moved < c->plan.length) {
        ask_for_data(c);
        interrupt(c);
    } else {
        vmm_ide_end(c, 0);
    }
}

void vmm_ide_transfer_done(struct vmm_transfer *t, int result)
{
    struct ide_channel *c = t->ctx;
    if (c->phase != IDE_BACKEND) { /* abandoned */
        vmm_ide_work(c);
        return;
    }
    if (!result && c->plan.kind == ATA_DISCARD &&
        vmm_ata_next_discard(&unit_of(c)->ata, &c->plan)) {
        next_discard(c);
        return;
    }
    bool medium = c->plan.kind == ATA_READ || c->plan.kind == ATA_WRITE;
    if (!result && medium && c->plan.pio) {
        pio_done(c);
        return;
    }
    if (result && !c->plan.pio)
        c->bm_status = (c->bm_status & ~BM_ACTIVE) | BM_ERROR;
    vmm_ide_end(c, result);
}
