/* SPDX-License-Identifier: BSD-3-Clause */
/* Packet commands of a CD-ROM drive. Sections are MMC-6's unless said otherwise. */
#include "devices/storage/mmc.h"

#include "base/util.h"
#include "devices/storage/ata.h"

#define KEY_NOT_READY 2u
#define KEY_MEDIUM    3u
#define KEY_ILLEGAL   5u
#define KEY_ATTENTION 6u

#define ASC_OPCODE      0x20u
#define ASC_RANGE       0x21u
#define ASC_FIELD       0x24u
#define ASC_NO_SAVED    0x39u
#define ASC_NO_MEDIUM   0x3au
#define ASC_REMOVAL     0x53u
#define ASC_UNRECOVERED 0x11u
#define PROFILE_CD      0x0008u
#define PROFILE_DVD     0x0010u
#define CD_SECTORS      450000u /* more than any CD: 100 minutes */
#define LEAD_OUT        0xaau

static void store_be16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static void store_be32(uint8_t *p, uint64_t v)
{
    store_be16(p, (uint32_t)(v >> 16) & 0xffff);
    store_be16(p + 2, (uint32_t)v & 0xffff);
}
static uint32_t load_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static uint32_t load_be32(const uint8_t *p)
{
    return load_be16(p) << 16 | load_be16(p + 2);
}

static bool refuse(struct vmm_mmc *m, uint8_t key, uint8_t asc, uint8_t ascq)
{
    m->key = key;
    m->asc = asc;
    m->ascq = ascq;
    return false;
}

static bool present(const struct vmm_mmc *m)
{
    return !m->open && m->sectors;
}

static bool need_medium(struct vmm_mmc *m)
{
    return present(m) || refuse(m, KEY_NOT_READY, ASC_NO_MEDIUM, m->open ? 2 : 1);
}

/* `have` bytes are in the buffer; the guest has room for `room`. */
static bool answer(struct vmm_ata_plan *plan, uint32_t have, uint32_t room)
{
    plan->kind = ATA_BUFFER_IN;
    plan->length = have < room ? have : room;
    if (!plan->length)
        plan->kind = ATA_NO_DATA;
    return true;
}

void vmm_mmc_read_failed(struct vmm_mmc *m)
{
    (void)refuse(m, KEY_MEDIUM, ASC_UNRECOVERED, 0);
}

void vmm_mmc_medium(struct vmm_mmc *m, uint64_t sectors)
{
    m->event = sectors ? MMC_EVENT_NEW : MMC_EVENT_REMOVAL;
    m->attention = MMC_ATTENTION_CHANGED;
    m->sectors = sectors;
    m->open = false;
}

/* SPC-3 §6.27 */
static bool request_sense(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint8_t *b = plan->buffer;
    if (!m->key && m->attention) {
        (void)refuse(m, KEY_ATTENTION, m->attention, 0);
        m->attention = 0;
    }
    b[0] = 0x70; /* current errors, fixed format */
    b[2] = m->key;
    b[7] = 10;
    b[12] = m->asc;
    b[13] = m->ascq;
    m->key = m->asc = m->ascq = 0;
    return answer(plan, 18, cdb[4]);
}

/* SPC-3 §6.4 */
static bool inquiry(struct vmm_mmc *m, const uint8_t *cdb, const char *model,
                    struct vmm_ata_plan *plan)
{
    uint8_t *b = plan->buffer;
    if (cdb[1] & 1) /* vital product data */
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    b[0] = 5;    /* a CD/DVD device */
    b[1] = 0x80; /* removable */
    b[3] = 0x21; /* ATAPI's transport, response data format 1 */
    b[4] = 31;
    memcpy(b + 8, "libvmm  ", 8);
    memcpy(b + 16, model, 16);
    memcpy(b + 32, "1.0 ", 4);
    return answer(plan, 36, load_be16(cdb + 3));
}

/* §6.42 */
static bool start_stop(struct vmm_mmc *m, const uint8_t *cdb)
{
    bool load = cdb[4] & 2, start = cdb[4] & 1;
    if (cdb[4] >> 4 || !load) /* power conditions, and the spindle */
        return true;
    if (!start) {
        if (m->locked && !m->open)
            return refuse(m, present(m) ? KEY_ILLEGAL : KEY_NOT_READY, ASC_REMOVAL, 2);
        if (!m->open && m->sectors)
            m->event = MMC_EVENT_REMOVAL;
        m->open = true;
        return true;
    }
    if (m->open && m->sectors)
        vmm_mmc_medium(m, m->sectors);
    m->open = false;
    return true;
}

static bool read_medium(struct vmm_mmc *m, uint64_t lba, uint64_t count, struct vmm_ata_plan *plan)
{
    if (!need_medium(m))
        return false;
    if (lba + count > m->sectors)
        return refuse(m, KEY_ILLEGAL, ASC_RANGE, 0);
    plan->kind = count ? ATA_READ : ATA_NO_DATA;
    plan->offset = lba * MMC_SECTOR;
    plan->length = count * MMC_SECTOR;
    return true;
}

/* §6.19: user data only, as a data CD of mode 1 has it. */
static bool read_cd(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint32_t type = cdb[1] >> 2 & 7;
    uint64_t count = load_be32(cdb + 5) & 0xffffff; /* bytes 6 to 8 */
    if ((type > 2 && type != 4) || (cdb[9] & 0xf8) != 0x10 || cdb[10] & 7) {
        if (cdb[9] & 0xf8 || cdb[10] & 7)
            return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
        count = 0; /* no data is asked for: a seek */
    }
    return read_medium(m, load_be32(cdb + 2), count, plan);
}

static bool read_capacity(struct vmm_mmc *m, struct vmm_ata_plan *plan)
{
    if (!need_medium(m))
        return false;
    uint64_t last = m->sectors - 1;
    store_be32(plan->buffer, last < UINT32_MAX ? last : UINT32_MAX);
    store_be32(plan->buffer + 4, MMC_SECTOR);
    return answer(plan, 8, 8);
}

/* An address as a block number, or as minutes, seconds and frames. */
static void store_address(uint8_t *p, uint64_t lba, bool msf)
{
    if (!msf) {
        store_be32(p, lba);
        return;
    }
    lba += 150;
    p[0] = 0;
    p[1] = (uint8_t)(lba / (75 * 60));
    p[2] = (uint8_t)(lba / 75 % 60);
    p[3] = (uint8_t)(lba % 75);
}

static uint32_t toc_entry(uint8_t *b, uint8_t track, uint64_t lba, bool msf)
{
    b[1] = 0x14; /* a data track */
    b[2] = track;
    store_address(b + 4, lba, msf);
    return 8;
}

/* §6.25.3.4: the lead-in's points */
static uint32_t raw_toc(const struct vmm_mmc *m, uint8_t *b)
{
    static const uint8_t points[] = {0xa0, 0xa1, 0xa2, 1};
    for (uint32_t i = 0; i < sizeof(points); i++, b += 11) {
        b[0] = 1;
        b[1] = 0x14;
        b[3] = points[i];
        if (points[i] < 0xa2 && points[i] >= 0xa0)
            b[8] = 1; /* first and last track */
        else
            store_address(b + 7, points[i] == 1 ? 0 : m->sectors, true);
    }
    return 11 * sizeof(points);
}

static bool read_toc(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint8_t *b = plan->buffer;
    bool msf = cdb[1] & 2;
    uint32_t format = cdb[2] & 15 ? cdb[2] & 15 : cdb[9] >> 6; /* the latter in SFF-8020i */
    uint32_t have = 4;
    if (!need_medium(m))
        return false;
    b[2] = b[3] = 1; /* first and last track, or session */
    if (format == 0) {
        if (cdb[6] > 1 && cdb[6] != LEAD_OUT)
            return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
        if (cdb[6] <= 1)
            have += toc_entry(b + have, 1, 0, msf);
        have += toc_entry(b + have, LEAD_OUT, m->sectors, msf);
    } else if (format == 1) {
        have += toc_entry(b + have, 1, 0, msf);
    } else if (format == 2) {
        have += raw_toc(m, b + have);
    } else {
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    }
    store_be16(b, have - 2);
    return answer(plan, have, load_be16(cdb + 7));
}

/* Features (§5) */
static uint32_t feature(uint8_t *b, uint32_t code, uint8_t bits, const uint8_t *data,
                        uint8_t length)
{
    store_be16(b, code);
    b[2] = bits;
    b[3] = length;
    memcpy(b + 4, data, length);
    return 4u + length;
}

static bool get_configuration(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    bool cd = present(m) && m->sectors <= CD_SECTORS, dvd = present(m) && !cd;
    const uint8_t profiles[8] = {0, PROFILE_DVD, dvd, 0, 0, PROFILE_CD, cd, 0};
    static const uint8_t core[8] = {0, 0, 0, 2, 1, 0, 0, 0}, removable[4] = {0x29, 0, 0, 0},
                         morphing[4] = {2, 0, 0, 0}, readable[8] = {0, 0, 8, 0, 0, 1, 0, 0},
                         nothing[4] = {0, 0, 0, 0};
    const struct {
        uint16_t code;
        uint8_t bits, length;
        const uint8_t *data;
    } list[] = {
        {0x0000, 3, 8, profiles},          {0x0001, 0xb, 8, core},
        {0x0002, 7, 4, morphing},          {0x0003, 3, 4, removable},
        {0x0010, present(m), 8, readable}, {0x001e, cd, 4, nothing},
        {0x001f, dvd, 4, nothing},
    };
    uint32_t type = cdb[1] & 3, start = load_be16(cdb + 2), have = 8;
    if (type == 3)
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(list); i++) {
        bool wanted = type == 2 ? list[i].code == start : list[i].code >= start;
        if (wanted && (type != 1 || list[i].bits & 1))
            have += feature(plan->buffer + have, list[i].code, list[i].bits, list[i].data,
                            list[i].length);
    }
    store_be32(plan->buffer, have - 4);
    store_be16(plan->buffer + 6, dvd ? PROFILE_DVD : cd ? PROFILE_CD : 0);
    return answer(plan, have, load_be16(cdb + 7));
}

/* §6.7 */
static bool get_event(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint8_t *b = plan->buffer;
    uint32_t room = load_be16(cdb + 7), have = 4;
    if (!(cdb[1] & 1)) /* asynchronous: not supported */
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    b[3] = 0x10; /* class media is all there is */
    b[2] = 0x80; /* no event available */
    if (cdb[4] & 0x10) {
        have = 8;
        b[2] = 4;
        b[4] = m->event;
        b[5] = (uint8_t)((present(m) ? 2 : 0) | (m->open ? 1 : 0));
        if (room > 4)
            m->event = 0;
    }
    store_be16(b, have - 2);
    return answer(plan, have, room);
}

static uint32_t mode_page(const struct vmm_mmc *m, uint32_t page, uint32_t control, uint8_t *b)
{
    bool values = control != 1; /* 1: what can be changed, which is nothing */
    if (page == 0x01) {         /* error recovery (§7.2.4) */
        b[0] = 0x01;
        b[1] = 0x0a;
        b[3] = values ? 0x10 : 0; /* retries */
        return 12;
    }
    b[0] = 0x2a; /* capabilities (MMC-3 §5.5.10) */
    b[1] = 0x12;
    if (values) {
        b[2] = 0x08;                                  /* reads DVD-ROM */
        b[4] = 0x70;                                  /* mode 2, multi-session */
        b[6] = (uint8_t)(0x29 | (m->locked ? 2 : 0)); /* a tray, that locks and ejects */
        store_be16(b + 8, 50 * 176);
        store_be16(b + 12, 512);
        store_be16(b + 14, 50 * 176);
    }
    return 20;
}

/* SPC-3 §6.10 */
static bool mode_sense(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint32_t page = cdb[2] & 0x3f, control = cdb[2] >> 6, have = 8;
    if (control == 3)
        return refuse(m, KEY_ILLEGAL, ASC_NO_SAVED, 0);
    if (page != 0x01 && page != 0x2a && page != 0x3f)
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    if (page != 0x2a)
        have += mode_page(m, 0x01, control, plan->buffer + have);
    if (page != 0x01)
        have += mode_page(m, 0x2a, control, plan->buffer + have);
    store_be16(plan->buffer, have - 2);
    plan->buffer[2] = m->open ? 0x71 : present(m) ? 0x01 : 0x70;
    return answer(plan, have, load_be16(cdb + 7));
}

/* §6.21 and §6.26: one finished session of one track */
static bool disc_information(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    static const uint8_t info[9] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20, 0};
    if (!need_medium(m))
        return false;
    if (cdb[1] & 7)
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    memcpy(plan->buffer, info, sizeof(info));
    return answer(plan, 34, load_be16(cdb + 7));
}

static bool track_information(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    uint8_t *b = plan->buffer;
    if (!need_medium(m))
        return false;
    uint32_t type = cdb[1] & 3, number = load_be32(cdb + 2);
    if (type == 3 || (type == 0 ? number >= m->sectors : number != 1))
        return refuse(m, KEY_ILLEGAL, ASC_FIELD, 0);
    store_be16(b, 34);
    b[2] = b[3] = 1;
    b[5] = 4; /* a data track */
    b[6] = 1; /* of mode 1 */
    store_be32(b + 24, m->sectors);
    return answer(plan, 36, load_be16(cdb + 7));
}

static bool mechanism_status(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    plan->buffer[1] = m->open ? 0x10 : 0;
    return answer(plan, 8, load_be16(cdb + 8));
}

/* Commands of the medium, and the rest. */
static bool carry_out(struct vmm_mmc *m, const uint8_t *cdb, struct vmm_ata_plan *plan)
{
    switch (cdb[0]) {
    case 0x00: /* TEST UNIT READY */
        return need_medium(m);
    case 0x1b:
        return start_stop(m, cdb);
    case 0x1e: /* PREVENT ALLOW MEDIUM REMOVAL */
        m->locked = cdb[4] & 1;
        return true;
    case 0x25:
        return read_capacity(m, plan);
    case 0x28:
        return read_medium(m, load_be32(cdb + 2), load_be16(cdb + 7), plan);
    case 0xa8:
        return read_medium(m, load_be32(cdb + 2), load_be32(cdb + 6), plan);
    case 0xbe:
        return read_cd(m, cdb, plan);
    case 0x2b: /* SEEK */
        return read_medium(m, load_be32(cdb + 2), 0, plan);
    case 0x43:
        return read_toc(m, cdb, plan);
    case 0x51:
        return disc_information(m, cdb, plan);
    case 0x52:
        return track_information(m, cdb, plan);
    case 0x5a:
        return mode_sense(m, cdb, plan);
    case 0xbb: /* SET CD SPEED */
        return true;
    case 0xbd:
        return mechanism_status(m, cdb, plan);
    default:
        return refuse(m, KEY_ILLEGAL, ASC_OPCODE, 0);
    }
}

bool vmm_mmc_command(struct vmm_mmc *m, const uint8_t *cdb, const char *model,
                     struct vmm_ata_plan *plan)
{
    if (cdb[0] == 0x03)
        return request_sense(m, cdb, plan);
    m->key = m->asc = m->ascq = 0;
    /* These answer in spite of a unit attention (§4.1.6). */
    if (cdb[0] == 0x12)
        return inquiry(m, cdb, model, plan);
    if (cdb[0] == 0x46)
        return get_configuration(m, cdb, plan);
    if (cdb[0] == 0x4a)
        return get_event(m, cdb, plan);
    if (m->attention) {
        (void)refuse(m, KEY_ATTENTION, m->attention, 0);
        m->attention = 0;
        return false;
    }
    return carry_out(m, cdb, plan);
}
