/* SPDX-License-Identifier: BSD-3-Clause */
/* What a unit says of itself: INQUIRY (SPC-4 §6.6, §7.8; SBC-3 §6.6) and MODE SENSE (SPC-4 §6.13). */
#include "base/util.h"
#include "devices/storage/scsi.h"

#include <stdio.h>

#define TYPE_DISK 0x00u
#define TYPE_CD   0x05u

#define WRITE_SAME_BYTES 0x800000u
#define UNMAP_RANGES     15u /* that fit in the data of a command */

static uint8_t type_of(const struct vmm_scsi_unit *u)
{
    return u->cdrom ? TYPE_CD : TYPE_DISK;
}

/* Text in a field, filled up with blanks. */
static void put_text(uint8_t *to, const char *text, size_t size)
{
    size_t length = strlen(text);
    memset(to, ' ', size);
    memcpy(to, text, length < size ? length : size);
}

static size_t standard_inquiry(const struct vmm_scsi_command *c, uint8_t *d)
{
    const struct vmm_scsi_unit *u = c->unit;
    memset(d, 0, 36);
    d[0] = c->absent ? 0x7f : type_of(u);
    d[1] = u->cdrom && !c->absent ? 0x80 : 0; /* removable */
    d[2] = 6;                                 /* SPC-4 */
    d[3] = 0x02;
    d[4] = 36 - 5;
    d[7] = 0x02; /* commands may be queued */
    put_text(d + 8, "libvmm", 8);
    put_text(d + 16, u->cdrom ? "CD-ROM" : "disk", 16);
    put_text(d + 32, "0.1", 4);
    return 36;
}

static size_t supported_pages(const struct vmm_scsi_unit *u, uint8_t *d)
{
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
    size_t count = u->cdrom ? 3 : sizeof(pages);
    memcpy(d + 4, pages, count);
    return count;
}

/* By the serial number, with the vendor's name (SPC-4 §7.8.6.4). */
static size_t designation(const struct vmm_scsi_unit *u, uint8_t *d)
{
    size_t length = strlen(u->serial);
    if (!length)
        return 0;
    d[4] = 2; /* text */
    d[5] = 1; /* vendor and what it calls the unit */
    d[7] = (uint8_t)(8 + length);
    put_text(d + 8, "libvmm", 8);
    memcpy(d + 16, u->serial, length);
    return 12 + length;
}

static size_t block_limits(const struct vmm_scsi_unit *u, uint8_t *d)
{
    d[4] = 1;                           /* no WRITE SAME to the end of the medium */
    scsi_store32(d + 20, UINT32_MAX);   /* blocks of an UNMAP */
    scsi_store32(d + 24, UNMAP_RANGES); /* its ranges */
    scsi_store32(d + 28, 1u << u->physical_shift);
    scsi_store64(d + 36, WRITE_SAME_BYTES / u->block_size);
    return 60;
}

/* -1: there is no such page. */
static int vital_page(const struct vmm_scsi_unit *u, uint8_t page, uint8_t *d)
{
    memset(d, 0, 68);
    d[0] = type_of(u);
    d[1] = page;
    switch (page) {
    case 0x00:
        return (int)supported_pages(u, d);
    case 0x80:
        memcpy(d + 4, u->serial, strlen(u->serial));
        return (int)strlen(u->serial);
    case 0x83:
        return (int)designation(u, d);
    default:
        break;
    }
    if (u->cdrom)
        return -1;
    switch (page) {
    case 0xb0:
        return (int)block_limits(u, d);
    case 0xb1:
        d[5] = 1; /* nothing rotates */
        return 60;
    case 0xb2:
        d[5] = 0xe0; /* UNMAP, WRITE SAME 16 and 10 give space back */
        d[6] = 2;    /* thin */
        return 4;
    default:
        return -1;
    }
}

void vmm_scsi_inquiry(struct vmm_scsi_command *c)
{
    uint32_t allocated = scsi_load16(c->cdb + 3);
    if (!(c->cdb[1] & 1)) {
        if (c->cdb[2])
            vmm_scsi_finish(c, SENSE_BAD_CDB);
        else
            vmm_scsi_reply(c, standard_inquiry(c, c->data), allocated);
        return;
    }
    int length = c->absent ? -1 : vital_page(c->unit, c->cdb[2], c->data);
    if (length < 0) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    scsi_store16(c->data + 2, (uint32_t)length);
    vmm_scsi_reply(c, 4 + (size_t)length, allocated);
}

/* Mode pages --------------------------------------------------------------------------------- */

/* `changeable`: the mask of what could be set by MODE SELECT, which is nothing. */
static size_t put_page(const struct vmm_scsi_unit *u, uint8_t code, bool changeable, uint8_t *p)
{
    size_t length = 0;
    switch (code) {
    case 0x08: /* caching */
        length = 20;
        memset(p, 0, length);
        p[2] = u->read_only ? 0 : 4; /* writes are cached */
        break;
    case 0x0a: /* control */
        length = 12;
        memset(p, 0, length);
        p[3] = 0x10; /* in any order */
        break;
    case 0x2a:
        length = u->cdrom ? vmm_scsi_mmc_page(u, p) : 0;
        break;
    default:
        return 0;
    }
    if (length) {
        if (changeable)
            memset(p, 0, length);
        p[0] = code;
        p[1] = (uint8_t)(length - 2);
    }
    return length;
}

static size_t put_descriptor(const struct vmm_scsi_unit *u, bool wanted, uint8_t *p)
{
    if (!wanted || u->cdrom)
        return 0;
    memset(p, 0, 8);
    if (u->blocks <= 0xffffff)
        scsi_store32(p, (uint32_t)u->blocks);
    else
        scsi_store32(p, 0xffffff);
    scsi_store32(p + 4, u->block_size);
    return 8;
}

void vmm_scsi_mode_sense(struct vmm_scsi_command *c)
{
    static const uint8_t all[] = {0x08, 0x0a, 0x2a};
    const struct vmm_scsi_unit *u = c->unit;
    bool ten = c->cdb[0] == 0x5a;
    uint8_t page = c->cdb[2] & 0x3f, which = c->cdb[2] >> 6;
    size_t header = ten ? 8 : 4, at = header;
    if (which == 3 || c->cdb[3]) { /* saved values; sub-pages */
        vmm_scsi_finish(c, which == 3 ? SENSE(5, 0x39, 0) : SENSE_BAD_CDB);
        return;
    }
    memset(c->data, 0, header);
    size_t descriptor = put_descriptor(u, !(c->cdb[1] & 8), c->data + at);
    at += descriptor;
    size_t before = at;
    for (size_t i = 0; i < sizeof(all); i++)
        if (page == 0x3f || page == all[i])
            at += put_page(u, all[i], which == 1, c->data + at);
    if (at == before) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    uint8_t specific = (u->read_only && !u->cdrom ? 0x80 : 0) | (u->cdrom ? 0 : 0x10); /* FUA */
    if (ten) {
        scsi_store16(c->data, (uint32_t)at - 2);
        c->data[3] = specific;
        scsi_store16(c->data + 6, (uint32_t)descriptor);
    } else {
        c->data[0] = (uint8_t)(at - 1);
        c->data[2] = specific;
        c->data[3] = (uint8_t)descriptor;
    }
    vmm_scsi_reply(c, at, ten ? scsi_load16(c->cdb + 7) : c->cdb[4]);
}
