/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands of AHCI: lists and tables in guest memory, FISes in both directions. */
#include "base/util.h"
#include "devices/storage/ahci.h"

#define HEADER       32u
#define HEADER_RESET 0x100u
#define TABLE_ACMD   0x40u
#define TABLE_PRDT   0x80u
#define PRD          16u
#define PRDS         64u /* read at once */

#define FIS_H2D 0x27u
#define FIS_D2H 0x34u
#define FIS_PIO 0x5fu
#define FIS_SDB 0xa1u
#define FIS_I   0x40u
#define FIS_C   0x80u
#define AT_PIO  0x20u /* of the received FIS area (§4.2.1) */
#define AT_D2H  0x40u
#define AT_SDB  0x58u
#define SRST    0x04u

/* Received FISes ------------------------------------------------------------------------------- */

static void post(struct ahci_port *p, uint32_t at, const uint8_t *fis, size_t length)
{
    if (!(p->cmd & CMD_FRE))
        return;
    if (vmm_pci_dma_write(p->hba->pci, p->fb + at, fis, length)) {
        vmm_ahci_complain(p->hba, "the area of received FISes is no memory");
        vmm_ahci_raise(p, IS_HBFS);
    }
}

static void fill_fis(uint8_t *fis, uint8_t type, uint8_t flags, const struct vmm_ata_taskfile *tf)
{
    memset(fis, 0, 20);
    fis[0] = type;
    fis[1] = flags;
    fis[2] = tf->status;
    fis[3] = tf->error;
    for (uint32_t i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(tf->lba >> 8 * i);
        fis[8 + i] = (uint8_t)(tf->lba >> (24 + 8 * i));
    }
    fis[7] = tf->device;
    vmm_store_le16(fis + 12, tf->count);
}

static void set_tfd(struct ahci_port *p, const struct vmm_ata_taskfile *tf)
{
    p->tfd = (uint32_t)tf->error << 8 | tf->status;
}

static void post_d2h(struct ahci_port *p, const struct vmm_ata_taskfile *tf, bool interrupt)
{
    uint8_t fis[20];
    fill_fis(fis, FIS_D2H, interrupt ? FIS_I : 0, tf);
    post(p, AT_D2H, fis, sizeof(fis));
    set_tfd(p, tf);
    if (interrupt)
        vmm_ahci_raise(p, IS_DHRS | (tf->status & ATA_ERR ? IS_TFES : 0));
}

/* The status before the data has DRQ; that at the end is in byte 15. */
static void post_pio(struct ahci_port *p, const struct vmm_ata_taskfile *tf, uint64_t length,
                     bool to_host)
{
    uint8_t fis[20];
    fill_fis(fis, FIS_PIO, (uint8_t)(FIS_I | (to_host ? 0x20 : 0)), tf);
    fis[2] = ATA_DRDY | ATA_DSC | ATA_DRQ;
    fis[15] = tf->status;
    vmm_store_le16(fis + 16, (uint16_t)(length < 0xfffe ? length : 0xfffe));
    post(p, AT_PIO, fis, sizeof(fis));
    set_tfd(p, tf);
    vmm_ahci_raise(p, IS_PSS);
}

static void post_sdb(struct ahci_port *p, const struct vmm_ata_taskfile *tf, uint32_t done)
{
    uint8_t fis[8] = {FIS_SDB, FIS_I, tf->status & 0x77, tf->error};
    vmm_store_le32(fis + 4, done);
    post(p, AT_SDB, fis, sizeof(fis));
    p->sact &= ~done;
    /* BSY and DRQ are not of this FIS */
    p->tfd = (p->tfd & (ATA_BSY | ATA_DRQ)) | (uint32_t)tf->error << 8 | (tf->status & 0x77u);
    vmm_ahci_raise(p, IS_SDBS | (tf->status & ATA_ERR ? IS_TFES : 0));
}

void vmm_ahci_port_signature(struct ahci_port *p)
{
    struct vmm_ata_taskfile tf;
    vmm_ata_signature(&p->drive, &tf);
    p->sig = (uint32_t)(tf.lba << 8) | tf.count;
    post_d2h(p, &tf, false);
}

/* Ends ----------------------------------------------------------------------------------------- */

static void fatal(struct ahci_port *p, const char *text)
{
    vmm_ahci_complain(p->hba, text);
    p->halted = true;
    vmm_ahci_raise(p, IS_HBFS);
}

static void leave(struct ahci_slot *s)
{
    s->active = false;
    s->port->begun &= ~(1u << s->number);
    if (!s->port->begun)
        s->port->queueing = false;
}

/* A command that fails stays issued: the driver clears ST (§6.2.2). */
static void finish(struct ahci_slot *s)
{
    struct ahci_port *p = s->port;
    uint32_t bit = 1u << s->number;
    bool failed = s->tf.status & ATA_ERR;
    uint8_t moved[4];
    vmm_store_le32(moved, (uint32_t)s->moved);
    leave(s);
    if (!s->plan.queued && vmm_pci_dma_write(p->hba->pci, s->header + 4, moved, sizeof(moved))) {
        fatal(p, "a command header is no memory");
        return;
    }
    p->halted = p->halted || failed;
    if (s->plan.queued) {
        post_sdb(p, &s->tf, failed ? 0 : bit);
        return;
    }
    if (!failed)
        p->ci &= ~bit;
    bool pio_in = s->plan.pio && !failed && s->tf.command != ATA_CMD_PACKET && s->moved &&
                  (s->plan.kind == ATA_READ || s->plan.kind == ATA_BUFFER_IN);
    if (pio_in)
        post_pio(p, &s->tf, s->moved, true);
    else
        post_d2h(p, &s->tf, true);
}

static void finish_with(struct ahci_slot *s, int result)
{
    vmm_ata_end(&s->port->drive, &s->tf, &s->plan, result);
    finish(s);
}

static void begin_discard(struct ahci_slot *s)
{
    vmm_transfer_start_buffer(&s->transfer, s->port->drive.block, VMM_BLOCK_DISCARD, 0,
                              s->plan.offset, NULL, s->plan.length);
}

void vmm_ahci_transfer_done(struct vmm_transfer *t, int result)
{
    struct ahci_slot *s = t->ctx;
    struct ahci_port *p = s->port;
    if (s->active) {
        if (!result && s->plan.kind == ATA_DISCARD && vmm_ata_next_discard(&p->drive, &s->plan)) {
            begin_discard(s);
            return;
        }
        if (!result && (s->plan.kind == ATA_READ || s->plan.kind == ATA_WRITE))
            s->moved = s->plan.length;
        finish_with(s, result);
    }
    vmm_ahci_port_run(p);
}

void vmm_ahci_port_abandon(struct ahci_port *p)
{
    for (uint32_t i = 0; p->slots && i < AHCI_SLOTS; i++) {
        if (!p->slots[i].active)
            continue;
        leave(&p->slots[i]);
        vmm_transfer_abandon(&p->slots[i].transfer);
    }
    p->begun = 0;
    p->queueing = false;
}

/* Data ----------------------------------------------------------------------------------------- */

/* As much of the table of physical regions as `length` bytes need. */
static int load_prdt(struct ahci_slot *s, uint64_t length)
{
    uint8_t prds[PRDS * PRD];
    struct vmm_transfer *t = &s->transfer;
    int rc = 0;
    vmm_transfer_clear(t);
    for (uint32_t at = 0; !rc && at < s->prdtl && t->length < length; at += PRDS) {
        uint32_t count = s->prdtl - at < PRDS ? s->prdtl - at : PRDS;
        rc = vmm_pci_dma_read(s->port->hba->pci, s->table + TABLE_PRDT + (uint64_t)at * PRD, prds,
                              (size_t)count * PRD);
        for (uint32_t i = 0; i < count && !rc && t->length < length; i++)
            rc = vmm_transfer_add(
                t, vmm_load_le64(prds + (size_t)PRD * i),
                ((uint64_t)vmm_load_le32(prds + (size_t)PRD * i + 12) & 0x3fffff) + 1);
    }
    return rc;
}

static int move_buffer(struct ahci_slot *s, bool to_guest)
{
    int rc = load_prdt(s, s->plan.length);
    int64_t n = rc ? rc : vmm_transfer_copy(&s->transfer, s->plan.buffer, s->plan.length, to_guest);
    if (n >= 0 && !to_guest && (uint64_t)n < s->plan.length)
        n = -EFAULT;
    s->moved = n > 0 ? (uint64_t)n : 0;
    return n < 0 ? (int)n : 0;
}

static int move_medium(struct ahci_slot *s)
{
    bool write = s->plan.kind == ATA_WRITE;
    int rc = load_prdt(s, s->plan.length);
    if (rc)
        return rc;
    s->transfer.sector = s->port->drive.sector;
    return vmm_transfer_start(&s->transfer, s->port->drive.block,
                              write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ, s->plan.flags,
                              s->plan.offset, s->plan.length);
}

static int take_packet(struct ahci_slot *s)
{
    uint8_t cdb[MMC_CDB];
    int rc = vmm_pci_dma_read(s->port->hba->pci, s->table + TABLE_ACMD, cdb, sizeof(cdb));
    if (!rc)
        vmm_ata_packet(&s->port->drive, cdb, &s->tf, &s->plan);
    return rc;
}

static void carry_out(struct ahci_slot *s)
{
    struct vmm_ata *drive = &s->port->drive;
    int rc = s->plan.kind == ATA_PACKET ? take_packet(s) : 0;
    if (!rc && s->plan.kind == ATA_BUFFER_OUT) {
        rc = move_buffer(s, false);
        if (!rc)
            vmm_ata_take_buffer(drive, &s->tf, &s->plan);
    }
    switch (rc ? UINT32_MAX : s->plan.kind) {
    case ATA_NO_DATA:
        finish(s);
        return;
    case ATA_BUFFER_IN:
        rc = move_buffer(s, true);
        break;
    case ATA_READ:
    case ATA_WRITE:
        rc = move_medium(s);
        if (!rc)
            return;
        break;
    case ATA_FLUSH:
        vmm_transfer_start_buffer(&s->transfer, drive->block, VMM_BLOCK_FLUSH, 0, 0, NULL, 0);
        return;
    case ATA_DISCARD:
        begin_discard(s);
        return;
    default:
        break;
    }
    if (rc)
        vmm_ahci_complain(s->port->hba, "a command's data is not all in memory");
    finish_with(s, rc);
}

/* Commands ------------------------------------------------------------------------------------- */

/* A register FIS without a command: only its reset bit matters (SATA 2.6 §11.4). */
static void take_control(struct ahci_slot *s, uint8_t control)
{
    struct ahci_port *p = s->port;
    p->ci &= ~(1u << s->number);
    if (control & SRST) {
        p->resetting = true;
        return;
    }
    if (!p->resetting)
        return;
    p->resetting = false;
    vmm_ahci_port_abandon(p);
    vmm_ata_reset(&p->drive, false);
    vmm_ahci_port_signature(p);
}

static void take_registers(struct vmm_ata_taskfile *tf, const uint8_t *fis)
{
    memset(tf, 0, sizeof(*tf));
    tf->command = fis[2];
    tf->feature = (uint16_t)(fis[3] | fis[11] << 8);
    for (uint32_t i = 0; i < 3; i++)
        tf->lba |= (uint64_t)fis[4 + i] << 8 * i | (uint64_t)fis[8 + i] << (24 + 8 * i);
    tf->device = fis[7];
    tf->count = vmm_load_le16(fis + 12);
}

static bool is_queued(const uint8_t *fis)
{
    return fis[2] == ATA_CMD_READ_FPDMA || fis[2] == ATA_CMD_WRITE_FPDMA;
}

static void begin(struct ahci_slot *s, const uint8_t *fis)
{
    struct ahci_port *p = s->port;
    uint32_t bit = 1u << s->number;
    take_registers(&s->tf, fis);
    s->moved = 0;
    s->active = true;
    p->begun |= bit;
    vmm_ata_decode(&p->drive, &s->tf, &s->plan);
    if (s->plan.queued) {
        p->queueing = true;
        if (s->plan.tag != s->number || !(p->sact & bit)) {
            vmm_ata_abort(&s->tf, ATA_ABRT);
            s->plan.kind = ATA_NO_DATA;
        }
        p->ci &= ~bit; /* it is the drive's from now on; SActive tells of its end */
    } else {
        p->tfd |= ATA_BSY;
    }
    carry_out(s);
}

/* Read what was issued. false: not now, or never. */
static bool fetch(struct ahci_slot *s, uint8_t *fis)
{
    struct ahci_port *p = s->port;
    uint8_t header[HEADER];
    s->header = p->clb + (uint64_t)HEADER * s->number;
    if (vmm_pci_dma_read(p->hba->pci, s->header, header, sizeof(header))) {
        fatal(p, "the command list is no memory");
        return false;
    }
    uint32_t flags = vmm_load_le32(header);
    s->prdtl = flags >> 16;
    s->table = vmm_load_le64(header + 8) & ~(uint64_t)0x7f;
    if ((flags & 31) < 2 || (flags & 31) > 16 || vmm_pci_dma_read(p->hba->pci, s->table, fis, 64)) {
        fatal(p, "a command table is none");
        return false;
    }
    if (fis[0] != FIS_H2D || fis[1] & 15) { /* port multipliers are not there */
        fatal(p, "a FIS of another kind than a register FIS to the drive");
        return false;
    }
    return true;
}

/* The next slot after the last one that is issued and not begun. */
static struct ahci_slot *next_slot(struct ahci_port *p)
{
    for (uint32_t i = 1; i <= AHCI_SLOTS; i++) {
        uint32_t n = (p->last + i) % AHCI_SLOTS;
        if (p->ci & ~p->begun & 1u << n && !p->slots[n].transfer.busy)
            return &p->slots[n];
    }
    return NULL;
}

static bool can_begin(const struct ahci_port *p)
{
    return p->drive.type && p->slots && p->cmd & CMD_ST && !p->halted && (!p->begun || p->queueing);
}

void vmm_ahci_port_run(struct ahci_port *p)
{
    uint8_t fis[64];
    struct ahci_slot *s;
    if (p->drive.block)
        vmm_block_plug(p->drive.block);
    struct vmm_block *plugged = p->drive.block;
    while (can_begin(p) && (s = next_slot(p)) && fetch(s, fis)) {
        if (fis[1] & FIS_C && p->queueing && !is_queued(fis))
            break; /* when the queue is empty */
        p->last = s->number;
        if (!(fis[1] & FIS_C))
            take_control(s, fis[15]);
        else
            begin(s, fis);
    }
    if (plugged)
        vmm_block_unplug(plugged);
}
