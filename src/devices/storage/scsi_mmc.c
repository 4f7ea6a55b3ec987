/* SPDX-License-Identifier: BSD-3-Clause */
/* What CD-ROMs have beside disks (MMC-6 §6): tables of contents, features, events of the tray. The disc
 * has one session with one track of data. */
#include "base/util.h"
#include "devices/storage/scsi.h"

#define READ_TOC          0x43u
#define GET_CONFIGURATION 0x46u
#define GET_EVENT_STATUS  0x4au
#define READ_DISC_INFO    0x51u
#define SET_SPEED         0xbbu
#define MECHANISM_STATUS  0xbdu

#define LEAD_OUT    0xaau
#define DATA_TRACK  0x14u /* ADR 1, data */
#define PROFILE_CD  0x0008u
#define PROFILE_DVD 0x0010u
#define CD_BLOCKS   360000u /* 80 minutes; what is longer is a DVD */
#define SPEED       7056u   /* kB/s */
#define EVENT_MEDIA 4u

static bool is_dvd(const struct vmm_scsi_unit *u)
{
    return u->blocks > CD_BLOCKS;
}

static bool has_disc(struct vmm_scsi_command *c)
{
    if (c->unit->open)
        vmm_scsi_finish(c, SENSE_NOT_READY);
    return !c->unit->open;
}

/* Table of contents (§6.25) -------------------------------------------------------------------- */

static void put_address(uint8_t *p, uint64_t lba, bool msf)
{
    if (!msf) {
        scsi_store32(p, (uint32_t)lba);
        return;
    }
    lba += 150; /* two seconds of lead-in */
    uint64_t minutes = lba / (75 * 60);
    p[0] = 0;
    p[1] = minutes < 255 ? (uint8_t)minutes : 255;
    p[2] = (uint8_t)(lba / 75 % 60);
    p[3] = (uint8_t)(lba % 75);
}

static size_t put_track(uint8_t *p, uint8_t track, uint64_t lba, bool msf)
{
    memset(p, 0, 8);
    p[1] = DATA_TRACK;
    p[2] = track;
    put_address(p + 4, lba, msf);
    return 8;
}

static void read_toc(struct vmm_scsi_command *c)
{
    const struct vmm_scsi_unit *u = c->unit;
    bool msf = c->cdb[1] & 2;
    uint8_t format = c->cdb[2] & 0xf, first = c->cdb[6];
    size_t length = 4;
    if (!has_disc(c))
        return;
    if (!format)
        format = c->cdb[9] >> 6; /* where old drivers have it */
    if (format > 1 || (format == 0 && first > 1 && first != LEAD_OUT)) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    if (format == 1 || first <= 1)
        length += put_track(c->data + length, 1, 0, msf);
    if (format == 0)
        length += put_track(c->data + length, LEAD_OUT, u->blocks, msf);
    scsi_store16(c->data, (uint32_t)length - 2);
    c->data[2] = c->data[3] = 1; /* first and last track, or session */
    vmm_scsi_reply(c, length, scsi_load16(c->cdb + 7));
}

/* Features (§5.3, §6.6) ------------------------------------------------------------------------ */

struct feature {
    uint16_t code;
    uint8_t flags; /* version, persistent, current where it always is */
    uint8_t length;
    uint8_t data[8];
};

static size_t put_feature(uint8_t *p, const struct feature *f, bool current)
{
    scsi_store16(p, f->code);
    p[2] = (uint8_t)((f->flags & ~1u) | current);
    p[3] = f->length;
    memcpy(p + 4, f->data, f->length);
    return 4u + f->length;
}

static bool is_current(const struct vmm_scsi_unit *u, const struct feature *f)
{
    if (f->flags & 1)
        return true;
    return !u->open && (f->code == 0x10 || (f->code == 0x1f) == is_dvd(u));
}

static void get_configuration(struct vmm_scsi_command *c)
{
    const struct vmm_scsi_unit *u = c->unit;
    const struct feature features[] = {
        {0x00,
         0x03,
         8,
         {0, PROFILE_DVD, !u->open && is_dvd(u), 0, 0, PROFILE_CD, !u->open && !is_dvd(u), 0}},
        {0x01, 0x0b, 8, {0, 0, 0, 1, 1, 0, 0, 0}}, /* core: SCSI */
        {0x03, 0x03, 4, {0x29, 0, 0, 0}},          /* a tray that can be locked and opened */
        {0x10, 0x00, 8, {0, 0, 8, 0, 0, 1, 0, 0}}, /* reads blocks of 2048 bytes at random */
        {0x1e, 0x08, 4, {0, 0, 0, 0}},             /* reads CDs */
        {0x1f, 0x00, 0, {0}},                      /* reads DVDs */
    };
    uint8_t kind = c->cdb[1] & 3;
    uint16_t from = scsi_load16(c->cdb + 2);
    size_t length = 8;
    if (kind == 3) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    for (size_t i = 0; i < VMM_ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        bool wanted = kind == 2 ? f->code == from : f->code >= from;
        if (wanted && (kind != 1 || is_current(u, f)))
            length += put_feature(c->data + length, f, is_current(u, f));
    }
    scsi_store32(c->data, (uint32_t)length - 4);
    scsi_store16(c->data + 4, 0);
    scsi_store16(c->data + 6, u->open ? 0 : is_dvd(u) ? PROFILE_DVD : PROFILE_CD);
    vmm_scsi_reply(c, length, scsi_load16(c->cdb + 7));
}

/* The rest ------------------------------------------------------------------------------------- */

/* §6.7. Asked for by polling; drivers that want to sleep on it are told that they cannot. */
static void get_event(struct vmm_scsi_command *c)
{
    if (!(c->cdb[1] & 1)) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    bool media = c->cdb[4] & 1 << EVENT_MEDIA;
    memset(c->data, 0, 8);
    scsi_store16(c->data, media ? 6 : 2);
    c->data[2] = media ? EVENT_MEDIA : 0x80; /* none of those that were asked for */
    c->data[3] = 1 << EVENT_MEDIA;
    c->data[5] = c->unit->open ? 1 : 2;
    vmm_scsi_reply(c, media ? 8 : 4, scsi_load16(c->cdb + 7));
}

/* §6.22: one complete session. */
static void read_disc_info(struct vmm_scsi_command *c)
{
    if (!has_disc(c))
        return;
    if (c->cdb[1] & 7) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    memset(c->data, 0, 34);
    scsi_store16(c->data, 32);
    c->data[2] = 0x0e; /* the last session and the disc are complete */
    c->data[3] = c->data[4] = c->data[5] = c->data[6] = 1;
    c->data[7] = 0x20;
    memset(c->data + 16, 0xff, 8); /* nothing can be added */
    vmm_scsi_reply(c, 34, scsi_load16(c->cdb + 7));
}

static void mechanism_status(struct vmm_scsi_command *c)
{
    memset(c->data, 0, 8);
    c->data[1] = c->unit->open ? 0x10 : 0;
    vmm_scsi_reply(c, 8, scsi_load16(c->cdb + 8));
}

/* MMC-3 §6.3.11 (obsolete, and what drivers go by). */
size_t vmm_scsi_mmc_page(const struct vmm_scsi_unit *u, uint8_t *p)
{
    memset(p, 0, 22);
    p[2] = 0x0b;                                  /* reads CD-R, CD-RW and DVD-ROM */
    p[6] = (uint8_t)(0x29 | (u->locked ? 2 : 0)); /* a tray; locks, ejects */
    scsi_store16(p + 8, SPEED);
    scsi_store16(p + 12, 512); /* kB of buffer */
    scsi_store16(p + 14, SPEED);
    return 22;
}

bool vmm_scsi_mmc_command(struct vmm_scsi_command *c)
{
    switch (c->cdb[0]) {
    case READ_TOC:
        read_toc(c);
        return true;
    case GET_CONFIGURATION:
        get_configuration(c);
        return true;
    case GET_EVENT_STATUS:
        get_event(c);
        return true;
    case READ_DISC_INFO:
        read_disc_info(c);
        return true;
    case MECHANISM_STATUS:
        mechanism_status(c);
        return true;
    case SET_SPEED:
        vmm_scsi_finish(c, 0);
        return true;
    default:
        return false;
    }
}
