/* SPDX-License-Identifier: BSD-3-Clause */
/* What an ATA drive says of itself: IDENTIFY DEVICE, SMART, logs. Words are those of ATA8-ACS §7.16. */
#include "base/util.h"
#include "devices/storage/ata.h"

#define SMART_TEMPERATURE 35u

/* Strings have their bytes swapped in each word. */
static void put_text(uint8_t *data, uint32_t word, const char *text, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        data[2 * word + (i ^ 1)] = (uint8_t)text[i];
}

static void put(uint8_t *data, uint32_t word, uint32_t value)
{
    vmm_store_le16(data + (size_t)2 * word, (uint16_t)value);
}

static void put_sum(uint8_t *data)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + data[i]);
    data[ATA_SECTOR - 1] = (uint8_t)-sum;
}

static void put_names(const struct vmm_ata *d, uint8_t *data)
{
    put_text(data, 10, d->serial, 20);
    put_text(data, 23, "1.0     ", 8);
    put_text(data, 27, d->model, 40);
}

/* Transfer modes: PIO 4, multiword DMA 2, Ultra DMA 5. */
static void put_modes(const struct vmm_ata *d, uint8_t *data)
{
    put(data, 49, 0x0f00);
    put(data, 50, 0x4000);
    put(data, 53, 7);
    put(data, 63, 7u | (uint32_t)d->mdma << 8);
    put(data, 64, 3);
    for (uint32_t word = 65; word <= 68; word++)
        put(data, word, 120);
    put(data, 88, 0x3fu | (uint32_t)d->udma << 8);
    if (d->sata)
        put(data, 76, 0x000e | (d->type == VMM_DRIVE_DISK ? 0x100 : 0)); /* up to 6 Gb/s; NCQ */
    else
        put(data, 93, 0x600b); /* the cable is good */
}

static void put_geometry(const struct vmm_ata *d, uint8_t *data)
{
    uint64_t cylinders = d->sectors / (16 * 63);
    cylinders = cylinders > 16383 ? 16383 : cylinders < 1 ? 1 : cylinders;
    uint32_t chs = (uint32_t)cylinders * 16 * 63;
    for (uint32_t word = 1; word <= 54; word += 53) {
        put(data, word, (uint32_t)cylinders);
        put(data, word == 1 ? 3 : 55, 16);
        put(data, word == 1 ? 6 : 56, 63);
    }
    put(data, 57, chs & 0xffff);
    put(data, 58, chs >> 16);
    vmm_store_le32(data + 120, d->sectors < 0x0fffffff ? (uint32_t)d->sectors : 0x0fffffff);
    vmm_store_le64(data + 200, d->sectors);
}

static void identify_disk(const struct vmm_ata *d, uint8_t *data)
{
    put(data, 0, 0x0040);
    put_geometry(d, data);
    put(data, 47, 0x8010);
    put(data, 48, 0x4000);
    put(data, 59, d->multiple ? 0x100u | d->multiple : 0);
    put(data, 75, d->sata ? 31 : 0);
    put(data, 80, 0x01f0);
    put(data, 82, 0x4061); /* NOP, look-ahead, write cache, SMART */
    put(data, 83, 0x7400); /* flushes, LBA48 */
    put(data, 84, 0x4061); /* FUA, logs, SMART's error log */
    put(data, 85, 0x4000u | (d->look_ahead ? 0x40u : 0) | (d->write_cache ? 0x20u : 0) | d->smart);
    put(data, 86, 0x3400);
    put(data, 87, 0x4061);
    put(data, 105, 1);                                        /* blocks of a DSM command */
    put(data, 106, d->sector > ATA_SECTOR ? 0x5000 : 0x4000); /* longer than 256 words: */
    vmm_store_le32(data + (size_t)2 * 117, d->sector > ATA_SECTOR ? d->sector / 2 : 0);
    put(data, 169, d->read_only ? 0 : 1); /* TRIM */
    put(data, 217, 1);                    /* nothing turns */
}

static void identify_packet(uint8_t *data)
{
    put(data, 0, 0x85c0); /* a CD-ROM drive, removable, packets of 12 bytes */
    put(data, 80, 0x01f0);
    put(data, 82, 0x4210); /* NOP, DEVICE RESET, packets */
    put(data, 83, 0x4000);
    put(data, 84, 0x4000);
    put(data, 85, 0x4210);
    put(data, 87, 0x4000);
}

void vmm_ata_identify(const struct vmm_ata *d, uint8_t *data)
{
    memset(data, 0, ATA_SECTOR);
    put_names(d, data);
    put_modes(d, data);
    if (d->type == VMM_DRIVE_CDROM)
        identify_packet(data);
    else
        identify_disk(d, data);
    data[510] = 0xa5; /* the sum follows */
    put_sum(data);
}

/* SMART (§7.52) -------------------------------------------------------------------------------- */

static void smart_data(uint8_t *data)
{
    static const struct {
        uint8_t id, flags, value, raw;
    } list[] = {
        {5, 0x33, 100, 0},  /* reallocated sectors */
        {9, 0x32, 100, 0},  /* hours */
        {12, 0x32, 100, 0}, /* power cycles */
        {194, 0x22, 65, SMART_TEMPERATURE},
    };
    vmm_store_le16(data, 1);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(list); i++) {
        uint8_t *a = data + 2 + (size_t)12 * i;
        a[0] = list[i].id;
        a[1] = list[i].flags;
        a[3] = a[4] = list[i].value; /* now, and the worst so far */
        a[5] = list[i].raw;
    }
    vmm_store_le16(data + 368, 3); /* attributes are saved */
    data[370] = 1;                 /* there is an error log */
    put_sum(data);
}

static void smart_thresholds(uint8_t *data)
{
    static const uint8_t ids[] = {5, 9, 12, 194};
    vmm_store_le16(data, 1);
    for (uint32_t i = 0; i < sizeof(ids); i++) {
        data[2 + 12 * i] = ids[i];
        data[3 + 12 * i] = ids[i] == 5 ? 36 : 0;
    }
    put_sum(data);
}

static bool smart_log(uint32_t page, uint8_t *data)
{
    switch (page) {
    case 0: /* the directory */
        data[0] = 1;
        data[2] = data[12] = 1;
        return true;
    case 1: /* errors: none */
        data[0] = 1;
        put_sum(data);
        return true;
    case 6: /* self-tests: none */
        data[0] = 1;
        put_sum(data);
        return true;
    default:
        return false;
    }
}

bool vmm_ata_smart(struct vmm_ata *d, struct vmm_ata_taskfile *tf, uint8_t *data, bool *in)
{
    uint8_t what = (uint8_t)tf->feature;
    *in = false;
    if ((tf->lba >> 8 & 0xffff) != 0xc24f || d->type != VMM_DRIVE_DISK ||
        (!d->smart && what != 0xd8))
        return false;
    switch (what) {
    case 0xd0:
    case 0xd1:
    case 0xd5:
        *in = true;
        memset(data, 0, ATA_SECTOR);
        if (what == 0xd5)
            return (tf->count & 0xff) == 1 && smart_log(tf->lba & 0xff, data);
        (what == 0xd0 ? smart_data : smart_thresholds)(data);
        return true;
    case 0xd8: /* enable, disable */
    case 0xd9:
        d->smart = what == 0xd8;
        return true;
    case 0xd2: /* autosave of attributes, which do not change */
    case 0xda: /* status: 4f and c2 stay: all is well */
        return true;
    default:
        return false;
    }
}

/* READ LOG EXT (§7.30) */
bool vmm_ata_log(const struct vmm_ata *d, const struct vmm_ata_taskfile *tf, uint8_t *data)
{
    uint32_t address = tf->lba & 0xff, page = (uint32_t)(tf->lba >> 8 & 0xff);
    memset(data, 0, ATA_SECTOR);
    if (d->type != VMM_DRIVE_DISK || tf->count != 1 || page)
        return false;
    if (address == 0) {
        data[0] = 1;
        data[0x20] = d->sata;
        return true;
    }
    if (address != 0x10 || !d->sata)
        return false;
    data[0] = d->failed_tag; /* §A.14: the queued command that failed */
    data[2] = d->failed_status;
    data[3] = d->failed_error;
    data[7] = ATA_LBA;
    put_sum(data);
    return true;
}
