/* SPDX-License-Identifier: BSD-3-Clause */
/* ATA commands: decoding, and how they end. Sections are those of ATA8-ACS. */
#include "devices/storage/ata.h"

#include "base/util.h"

#include <stdio.h>

#define MULTIPLE_MAX 16u
#define LBA28_END    (UINT64_C(1) << 28)
#define LBA48_END    (UINT64_C(1) << 48)
#define READY        (ATA_DRDY | ATA_DSC)

/* Life ----------------------------------------------------------------------------------------- */

static int take_text(char *to, size_t room, const char *text, const char *what,
                     struct vmm_error *err)
{
    size_t length = text ? strlen(text) : 0;
    if (length > room)
        return vmm_error_set(err, -EINVAL, "a drive's %s has at most %zu characters", what, room);
    for (size_t i = 0; i < length; i++)
        if (text[i] < ' ' || text[i] > '~')
            return vmm_error_set(err, -EINVAL, "a drive's %s is of printable ASCII", what);
    memset(to, ' ', room);
    if (length)
        memcpy(to, text, length);
    return 0;
}

static int take_block(struct vmm_ata *d, const struct vmm_drive_options *o, struct vmm_error *err)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = vmm_block_get_info(o->block, &info);
    if (rc)
        return vmm_error_set(err, rc, "the drive's backend: %s", strerror(-rc));
    bool large = d->sata && o->type == VMM_DRIVE_DISK && info.block_size == 4096;
    if (info.block_size != ATA_SECTOR && !large)
        return vmm_error_set(err, -EINVAL, "this drive has sectors of 512 bytes, its backend of %u",
                             info.block_size);
    if (info.length < MMC_SECTOR || info.length / info.block_size > LBA48_END)
        return vmm_error_set(err, -EINVAL, "a drive has 2 KiB to 128 PiB");
    d->read_only = o->read_only || info.read_only;
    d->sector = info.block_size;
    d->sectors = info.length / d->sector;
    return 0;
}

int vmm_ata_init(struct vmm_ata *d, const struct vmm_drive_options *o, bool sata,
                 struct vmm_error *err)
{
    bool cd = o->type == VMM_DRIVE_CDROM;
    memset(d, 0, sizeof(*d));
    d->sata = sata;
    d->sector = ATA_SECTOR;
    if (!cd && o->type != VMM_DRIVE_DISK)
        return vmm_error_set(err, -EINVAL, "a drive is a disk or a CD-ROM drive");
    if (!cd && !o->block)
        return vmm_error_set(err, -EINVAL, "a disk needs a block backend");
    int rc = o->block ? take_block(d, o, err) : 0;
    if (!rc)
        rc = take_text(d->serial, sizeof(d->serial), o->serial, "serial number", err);
    if (!rc)
        rc = take_text(d->model, sizeof(d->model),
                       o->model ? o->model
                       : cd     ? "libvmm CD-ROM drive"
                                : "libvmm disk",
                       "model", err);
    if (rc)
        return rc;
    d->type = o->type;
    d->block = o->block ? vmm_block_ref(o->block) : NULL;
    if (cd && o->block)
        d->mmc.sectors = d->sectors / (MMC_SECTOR / ATA_SECTOR);
    vmm_ata_reset(d, true);
    return 0;
}

void vmm_ata_fini(struct vmm_ata *d)
{
    vmm_block_unref(d->block);
    memset(d, 0, sizeof(*d));
}

int vmm_ata_set_medium(struct vmm_ata *d, struct vmm_block *block, uint32_t flags,
                       struct vmm_block **old, struct vmm_error *err)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    if (d->type != VMM_DRIVE_CDROM)
        return vmm_error_set(err, -ENOTSUP, "only CD-ROM drives have media");
    if (d->mmc.locked && !d->mmc.open && !(flags & VMM_MEDIUM_FORCE)) {
        d->mmc.event = MMC_EVENT_EJECT;
        return vmm_error_set(err, -EBUSY, "the guest has locked the tray; it was told");
    }
    struct vmm_ata other = *d;
    o.block = block;
    int rc = block ? take_block(&other, &o, err) : 0;
    if (rc)
        return rc;
    *old = d->block;
    d->block = block ? vmm_block_ref(block) : NULL;
    d->sectors = block ? other.sectors : 0;
    vmm_mmc_medium(&d->mmc, d->sectors / (MMC_SECTOR / ATA_SECTOR));
    return 0;
}

void vmm_ata_reset(struct vmm_ata *d, bool hard)
{
    if (hard) {
        d->multiple = MULTIPLE_MAX;
        d->write_cache = d->look_ahead = d->smart = 1;
        d->udma = 1u << 5;
        d->mdma = 0;
        d->mmc.locked = false;
        d->mmc.attention = MMC_ATTENTION_RESET;
        d->mmc.key = d->mmc.asc = d->mmc.ascq = 0;
    }
    d->failed_tag = 0x80; /* none was queued */
    d->failed_status = d->failed_error = 0;
}

/* ATA/ATAPI-7 vol. 2 §9.12 */
void vmm_ata_signature(const struct vmm_ata *d, struct vmm_ata_taskfile *tf)
{
    memset(tf, 0, sizeof(*tf));
    tf->error = 1; /* diagnostics passed */
    tf->count = 1;
    tf->lba = d->type == VMM_DRIVE_CDROM ? 0xeb1401 : 1;
    tf->status = d->type == VMM_DRIVE_DISK ? READY : 0;
}

/* Ends ----------------------------------------------------------------------------------------- */

void vmm_ata_abort(struct vmm_ata_taskfile *tf, uint8_t error)
{
    tf->status = READY | ATA_ERR;
    tf->error = error;
}

static void succeed(struct vmm_ata_taskfile *tf)
{
    tf->status = READY;
    tf->error = 0;
}

static void check_condition(const struct vmm_ata *d, struct vmm_ata_taskfile *tf)
{
    vmm_ata_abort(tf, (uint8_t)((uint32_t)d->mmc.key << 4 | ATA_ABRT));
}

void vmm_ata_end(struct vmm_ata *d, struct vmm_ata_taskfile *tf, const struct vmm_ata_plan *plan,
                 int result)
{
    if (d->type == VMM_DRIVE_CDROM && tf->command == ATA_CMD_PACKET) {
        tf->count = 3; /* interrupt reason: the end */
        if (result) {
            vmm_mmc_read_failed(&d->mmc);
            check_condition(d, tf);
            return;
        }
    } else if (result) {
        vmm_ata_abort(tf, result == -EFAULT || result == -EACCES ? ATA_ABRT : ATA_UNC);
        if (plan->queued) {
            d->failed_tag = (uint8_t)plan->tag;
            d->failed_status = tf->status;
            d->failed_error = tf->error;
        }
        return;
    }
    succeed(tf);
}

/* Media ---------------------------------------------------------------------------------------- */

/* Which commands read and write, and how: */
#define M_WRITE  1u
#define M_EXT    2u
#define M_PIO    4u
#define M_MULTI  8u
#define M_FUA    16u
#define M_QUEUED 32u
#define M_VERIFY 64u

static uint32_t medium_command(uint8_t command)
{
    static const struct {
        uint8_t command, how;
    } list[] = {
        {0x20, M_PIO},
        {0x21, M_PIO},
        {0x24, M_PIO | M_EXT},
        {0x29, M_PIO | M_EXT | M_MULTI},
        {0xc4, M_PIO | M_MULTI},
        {0x30, M_PIO | M_WRITE},
        {0x31, M_PIO | M_WRITE},
        {0x34, M_PIO | M_EXT | M_WRITE},
        {0x39, M_PIO | M_EXT | M_MULTI | M_WRITE},
        {0xce, M_PIO | M_EXT | M_MULTI | M_WRITE | M_FUA},
        {0xc5, M_PIO | M_MULTI | M_WRITE},
        {0x25, M_EXT},
        {0x35, M_EXT | M_WRITE},
        {0x3d, M_EXT | M_WRITE | M_FUA},
        {0xca, M_WRITE},
        {0xcb, M_WRITE},
        {0x40, M_VERIFY},
        {0x41, M_VERIFY},
        {0x42, M_VERIFY | M_EXT},
        {ATA_CMD_READ_FPDMA, M_EXT | M_QUEUED},
        {ATA_CMD_WRITE_FPDMA, M_EXT | M_QUEUED | M_WRITE},
    };
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(list); i++)
        if (list[i].command == command)
            return list[i].how | 0x100;
    return command == 0xc8 || command == 0xc9 ? 0x100 : 0; /* READ DMA */
}

/* Cylinder, head and sector of the default translation (16 heads, 63 sectors) become a number. */
static bool address_of(const struct vmm_ata_taskfile *tf, uint32_t how, uint64_t *lba)
{
    *lba = tf->lba & (LBA48_END - 1);
    if (how & M_EXT)
        return true;
    *lba = (tf->lba & 0xffffff) | (uint64_t)(tf->device & 15) << 24;
    if (tf->device & ATA_LBA)
        return true;
    uint64_t cylinder = tf->lba >> 8 & 0xffff, sector = tf->lba & 0xff;
    *lba = (cylinder * 16 + (tf->device & 15u)) * 63 + sector - 1;
    return sector >= 1 && sector <= 63;
}

static void plan_medium(struct vmm_ata *d, struct vmm_ata_taskfile *tf, uint32_t how,
                        struct vmm_ata_plan *plan)
{
    uint64_t lba, count = how & M_QUEUED ? tf->feature : tf->count;
    count = how & M_EXT ? count & 0xffff : count & 0xff;
    count = count ? count : how & M_EXT ? 65536 : 256;
    plan->queued = how & M_QUEUED;
    plan->tag = plan->queued ? tf->count >> 3 & 31u : 0;
    if ((plan->queued && !d->sata) || (how & M_MULTI && !d->multiple) ||
        (how & M_WRITE && d->read_only)) {
        vmm_ata_abort(tf, ATA_ABRT);
    } else if (!address_of(tf, how, &lba) || lba >= d->sectors || count > d->sectors - lba) {
        vmm_ata_abort(tf, ATA_IDNF);
    } else if (how & M_VERIFY) {
        succeed(tf);
    } else {
        bool fua = how & M_FUA || (plan->queued && tf->device & 0x80);
        plan->kind = how & M_WRITE ? ATA_WRITE : ATA_READ;
        plan->flags = how & M_WRITE && (fua || !d->write_cache) ? VMM_BLOCK_FUA : 0;
        plan->offset = lba * d->sector;
        plan->length = count * d->sector;
        plan->pio = how & M_PIO;
        plan->drq_sectors = how & M_MULTI ? d->multiple : 1;
        return;
    }
    if (plan->queued && tf->status & ATA_ERR) {
        d->failed_tag = (uint8_t)plan->tag;
        d->failed_status = tf->status;
        d->failed_error = tf->error;
    }
}

/* The others ----------------------------------------------------------------------------------- */

/* §7.48 */
static bool set_features(struct vmm_ata *d, const struct vmm_ata_taskfile *tf)
{
    uint32_t mode = tf->count & 7;
    bool disk = d->type == VMM_DRIVE_DISK;
    switch (tf->feature & 0xff) {
    case 0x02:
    case 0x82:
        d->write_cache = disk && !(tf->feature & 0x80);
        return disk;
    case 0x55:
    case 0xaa:
        d->look_ahead = disk && (tf->feature & 0xff) == 0xaa;
        return disk;
    case 0x66: /* keep settings over a reset, or do not */
    case 0xcc:
        return true;
    case 0x03:
        switch (tf->count >> 3 & 31) {
        case 0:
        case 1: /* PIO */
            return mode <= 4;
        case 4:
            d->mdma = (uint8_t)(mode <= 2 ? 1u << mode : d->mdma);
            d->udma = mode <= 2 ? 0 : d->udma;
            return mode <= 2;
        case 8:
            d->udma = (uint8_t)(mode <= 5 ? 1u << mode : d->udma);
            d->mdma = mode <= 5 ? 0 : d->mdma;
            return mode <= 5;
        default:
            return false;
        }
    default:
        return false;
    }
}

static bool set_multiple(struct vmm_ata *d, const struct vmm_ata_taskfile *tf)
{
    uint32_t count = tf->count & 0xff;
    if (count > MULTIPLE_MAX || (count && !vmm_is_power_of_two(count)))
        return false;
    d->multiple = (uint8_t)count;
    return true;
}

/* Commands without data that end at once: done, refused, or none of these. */
static int simple(struct vmm_ata *d, struct vmm_ata_taskfile *tf)
{
    bool disk = d->type == VMM_DRIVE_DISK;
    switch (tf->command) {
    case 0xe0: /* power: everything is always on */
    case 0xe1:
    case 0xe2:
    case 0xe3:
    case 0xe6:
        return 1;
    case 0xe5: /* CHECK POWER MODE: active */
        tf->count = 0xff;
        return 1;
    case 0xef:
        return set_features(d, tf);
    case 0xc6:
        return disk && set_multiple(d, tf);
    case 0x10: /* RECALIBRATE, SEEK, INITIALIZE DEVICE PARAMETERS of old drivers */
    case 0x70:
    case 0x91:
        return disk;
    default:
        return -1;
    }
}

static void plan_buffer(struct vmm_ata_plan *plan, uint32_t kind)
{
    plan->kind = kind;
    plan->length = ATA_SECTOR;
    plan->pio = kind == ATA_BUFFER_IN;
    plan->drq_sectors = 1;
}

static void identify(struct vmm_ata *d, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan)
{
    bool packet = tf->command == 0xa1, cd = d->type == VMM_DRIVE_CDROM;
    if (packet == cd) {
        vmm_ata_identify(d, plan->buffer);
        plan_buffer(plan, ATA_BUFFER_IN);
        return;
    }
    if (cd) { /* tells drivers that know packets */
        vmm_ata_signature(d, tf);
        tf->command = 0xec;
    }
    vmm_ata_abort(tf, ATA_ABRT);
}

static void answer_buffer(struct vmm_ata *d, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan)
{
    bool in = true, good;
    if (tf->command == 0xb0)
        good = vmm_ata_smart(d, tf, plan->buffer, &in);
    else
        good = vmm_ata_log(d, tf, plan->buffer);
    if (!good)
        vmm_ata_abort(tf, ATA_ABRT);
    else if (!in)
        succeed(tf);
    else
        plan_buffer(plan, ATA_BUFFER_IN);
    plan->pio = tf->command != 0x47;
}

/* DATA SET MANAGEMENT (§7.10), and flushes. */
static void other(struct vmm_ata *d, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan)
{
    bool disk = d->type == VMM_DRIVE_DISK;
    if (disk && (tf->command == 0xe7 || tf->command == 0xea)) {
        plan->kind = ATA_FLUSH;
    } else if (disk && tf->command == 0x06 && (tf->feature & 0xff) == 1 && tf->count == 1 &&
               !d->read_only) {
        plan_buffer(plan, ATA_BUFFER_OUT);
    } else if (!disk && tf->command == ATA_CMD_PACKET && !(tf->feature & 2)) { /* not overlapped */
        plan->kind = ATA_PACKET;
        plan->pio = !(tf->feature & 1);
    } else if (tf->command == ATA_CMD_DIAGNOSTIC ||
               (!disk && tf->command == ATA_CMD_DEVICE_RESET)) {
        vmm_ata_signature(d, tf);
    } else {
        vmm_ata_abort(tf, ATA_ABRT);
    }
}

void vmm_ata_decode(struct vmm_ata *d, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan)
{
    uint32_t how = medium_command(tf->command);
    memset(plan, 0, sizeof(*plan));
    if (how && d->type == VMM_DRIVE_DISK) {
        plan_medium(d, tf, how, plan);
        return;
    }
    if (tf->command == 0xec || tf->command == 0xa1) {
        identify(d, tf, plan);
        return;
    }
    if (tf->command == 0xb0 || tf->command == 0x2f || tf->command == 0x47) {
        answer_buffer(d, tf, plan);
        return;
    }
    int rc = simple(d, tf);
    if (rc < 0)
        other(d, tf, plan);
    else if (rc)
        succeed(tf);
    else
        vmm_ata_abort(tf, ATA_ABRT);
}

void vmm_ata_packet(struct vmm_ata *d, const uint8_t *cdb, struct vmm_ata_taskfile *tf,
                    struct vmm_ata_plan *plan)
{
    bool pio = plan->pio;
    memset(plan, 0, sizeof(*plan));
    plan->pio = pio;
    if (!vmm_mmc_command(&d->mmc, cdb, d->model, plan)) {
        memset(plan, 0, sizeof(*plan));
        tf->count = 3;
        check_condition(d, tf);
    } else if (plan->kind == ATA_NO_DATA) {
        tf->count = 3;
        succeed(tf);
    }
}

/* Discards ------------------------------------------------------------------------------------- */

bool vmm_ata_next_discard(struct vmm_ata *d, struct vmm_ata_plan *plan)
{
    while (plan->next < ATA_SECTOR / 8) {
        uint64_t entry = vmm_load_le64(plan->buffer + (size_t)8 * plan->next++);
        uint64_t lba = entry & (LBA48_END - 1), count = entry >> 48;
        if (!count || lba >= d->sectors || count > d->sectors - lba)
            continue; /* checked in the beginning */
        plan->kind = ATA_DISCARD;
        plan->offset = lba * d->sector;
        plan->length = count * d->sector;
        return true;
    }
    return false;
}

void vmm_ata_take_buffer(struct vmm_ata *d, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan)
{
    for (uint32_t i = 0; i < ATA_SECTOR / 8; i++) {
        uint64_t entry = vmm_load_le64(plan->buffer + (size_t)8 * i);
        uint64_t lba = entry & (LBA48_END - 1), count = entry >> 48;
        if (count && (lba >= d->sectors || count > d->sectors - lba)) {
            plan->kind = ATA_NO_DATA;
            vmm_ata_abort(tf, ATA_IDNF);
            return;
        }
    }
    plan->next = 0;
    if (!vmm_ata_next_discard(d, plan)) {
        plan->kind = ATA_NO_DATA;
        succeed(tf);
    }
}

/* State ---------------------------------------------------------------------------------------- */

int vmm_ata_taskfile_save(const struct vmm_ata_taskfile *tf, struct vmm_state_writer *w)
{
    const uint8_t regs[4] = {tf->command, tf->device, tf->status, tf->error};
    (void)vmm_state_put_bytes(w, "registers", regs, sizeof(regs));
    (void)vmm_state_put_u32(w, "feature", tf->feature);
    (void)vmm_state_put_u32(w, "count", tf->count);
    return vmm_state_put_u64(w, "lba", tf->lba);
}

int vmm_ata_taskfile_load(struct vmm_ata_taskfile *tf, struct vmm_state_reader *r,
                          struct vmm_error *err)
{
    uint8_t regs[4];
    uint32_t feature = 0, count = 0;
    int rc = vmm_state_get_bytes(r, "registers", regs, sizeof(regs), err);
    if (!rc)
        rc = vmm_state_get_u32(r, "feature", 0xffff, &feature, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "count", 0xffff, &count, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "lba", LBA48_END - 1, &tf->lba, err);
    if (rc)
        return rc;
    tf->command = regs[0];
    tf->device = regs[1];
    tf->status = regs[2];
    tf->error = regs[3];
    tf->feature = (uint16_t)feature;
    tf->count = (uint16_t)count;
    return 0;
}

int vmm_ata_save(const struct vmm_ata *d, struct vmm_state_writer *w)
{
    const struct vmm_mmc *m = &d->mmc;
    const uint8_t set[] = {d->multiple,     d->write_cache, d->look_ahead, d->smart,
                           d->udma,         d->mdma,        d->failed_tag, d->failed_status,
                           d->failed_error, m->open,        m->locked,     m->event,
                           m->attention,    m->key,         m->asc,        m->ascq};
    (void)vmm_state_put_u32(w, "type", d->type);
    (void)vmm_state_put_u64(w, "sectors", d->sectors);
    (void)vmm_state_put_u32(w, "sector-size", d->sector);
    return vmm_state_put_bytes(w, "settings", set, sizeof(set));
}

int vmm_ata_load(struct vmm_ata *d, struct vmm_state_reader *r, struct vmm_error *err)
{
    uint8_t s[16];
    uint32_t type, sector;
    uint64_t sectors;
    int rc = vmm_state_get_u32(r, "type", VMM_DRIVE_CDROM, &type, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "sectors", LBA48_END, &sectors, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "sector-size", 4096, &sector, err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "settings", s, sizeof(s), err);
    if (rc)
        return rc;
    if (type != d->type || sectors != d->sectors || sector != d->sector)
        return vmm_error_set(err, -EINVAL, "the saved drive is of another type or size");
    if (s[0] > MULTIPLE_MAX || (s[0] && !vmm_is_power_of_two(s[0])) || s[1] > 1 || s[2] > 1 ||
        s[3] > 1 || s[4] > 0x20 || s[5] > 4 || s[9] > 1 || s[10] > 1 || s[11] > 3 || s[13] > 15)
        return vmm_error_set(err, -EINVAL, "the saved drive's settings are no such");
    d->multiple = s[0];
    d->write_cache = s[1];
    d->look_ahead = s[2];
    d->smart = s[3];
    d->udma = s[4];
    d->mdma = s[5];
    d->failed_tag = s[6];
    d->failed_status = s[7];
    d->failed_error = s[8];
    d->mmc.open = s[9];
    d->mmc.locked = s[10];
    d->mmc.event = s[11];
    d->mmc.attention = s[12];
    d->mmc.key = s[13];
    d->mmc.asc = s[14];
    d->mmc.ascq = s[15];
    return 0;
}
