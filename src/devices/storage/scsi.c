/* SPDX-License-Identifier: BSD-3-Clause */
/* SCSI units: their life, how commands begin and end, and the commands that all kinds of unit have. */
#include "devices/storage/scsi.h"
#include "base/util.h"

#include <stdlib.h>

#define TEST_UNIT_READY 0x00u
#define REQUEST_SENSE   0x03u
#define INQUIRY         0x12u
#define MODE_SENSE_6    0x1au
#define START_STOP_UNIT 0x1bu
#define PREVENT_REMOVAL 0x1eu
#define MODE_SENSE_10   0x5au
#define REPORT_LUNS     0xa0u

#define ATTENTION_POWER_ON 0x2900u
#define ATTENTION_RESET    0x2903u
#define ATTENTION_MEDIUM   0x2800u

#define CD_BLOCK 2048u

/* Ends ----------------------------------------------------------------------------------------- */

/* Fixed format (SPC-4 §4.5.3). */
static void put_sense(uint8_t to[SCSI_SENSE_SIZE], uint32_t sense)
{
    memset(to, 0, SCSI_SENSE_SIZE);
    to[0] = 0x70;
    to[2] = (uint8_t)(sense >> 16);
    to[7] = SCSI_SENSE_SIZE - 8;
    to[12] = (uint8_t)(sense >> 8);
    to[13] = (uint8_t)sense;
}

void vmm_scsi_finish(struct vmm_scsi_command *c, uint32_t sense)
{
    free(c->pattern);
    c->pattern = NULL;
    c->status = sense ? SCSI_CHECK_CONDITION : SCSI_GOOD;
    c->sense_length = 0;
    if (sense) {
        c->transferred = 0;
        put_sense(c->sense, sense);
        c->sense_length = SCSI_SENSE_SIZE;
        c->unit->sense = sense;
    }
    c->done(c);
}

void vmm_scsi_reply(struct vmm_scsi_command *c, size_t length, uint64_t allocated)
{
    const uint8_t *from = c->data;
    uint64_t left = length < allocated ? length : allocated;
    left = left < c->in_length ? left : c->in_length;
    c->transferred = left;
    for (size_t i = 0; left; i++) {
        size_t part = left < c->in[i].iov_len ? (size_t)left : c->in[i].iov_len;
        memcpy(c->in[i].iov_base, from, part);
        from += part;
        left -= part;
    }
    vmm_scsi_finish(c, 0);
}

/* Commands of every unit ----------------------------------------------------------------------- */

static void request_sense(struct vmm_scsi_command *c)
{
    struct vmm_scsi_unit *u = c->unit;
    uint32_t sense = c->absent ? SENSE_BAD_UNIT : u->sense;
    if (!sense && u->attention)
        sense = 6u << 16 | u->attention;
    put_sense(c->data, sense);
    if (!c->absent) {
        u->sense = 0;
        u->attention = 0;
    }
    vmm_scsi_reply(c, SCSI_SENSE_SIZE, c->cdb[4]);
}

/* One logical unit a target. */
static void report_luns(struct vmm_scsi_command *c)
{
    uint32_t allocated = scsi_load32(c->cdb + 6);
    if (c->cdb[2] > 2 || allocated < 16) {
        vmm_scsi_finish(c, SENSE_BAD_CDB);
        return;
    }
    memset(c->data, 0, 16);
    uint32_t length = c->cdb[2] == 1 ? 0 : 8; /* 1: only well-known ones, of which there is none */
    scsi_store32(c->data, length);
    vmm_scsi_reply(c, 8 + length, allocated);
}

static bool ready(const struct vmm_scsi_unit *u)
{
    return !u->open;
}

/* SBC-3 §5.25, MMC-6 §6.47: only trays do anything. */
static void start_stop(struct vmm_scsi_command *c)
{
    struct vmm_scsi_unit *u = c->unit;
    bool eject = c->cdb[4] & 2, start = c->cdb[4] & 1;
    if (!u->cdrom || (c->cdb[4] & 0xf0) || !eject) {
        vmm_scsi_finish(c, 0);
        return;
    }
    if (!start && u->locked) {
        vmm_scsi_finish(c, SENSE_REMOVAL_PREVENTED);
        return;
    }
    if (u->open && start)
        u->attention = ATTENTION_MEDIUM;
    u->open = !start;
    vmm_scsi_finish(c, 0);
}

static void prevent_removal(struct vmm_scsi_command *c)
{
    if (!c->unit->cdrom) {
        vmm_scsi_finish(c, SENSE_BAD_OPCODE);
        return;
    }
    c->unit->locked = c->cdb[4] & 1;
    vmm_scsi_finish(c, 0);
}

/* Those that no unit attention holds up (SAM-5 §5.14), and that a unit that is not there has too. */
static bool always(struct vmm_scsi_command *c)
{
    switch (c->cdb[0]) {
    case INQUIRY:
        vmm_scsi_inquiry(c);
        return true;
    case REQUEST_SENSE:
        request_sense(c);
        return true;
    case REPORT_LUNS:
        report_luns(c);
        return true;
    default:
        return false;
    }
}

static bool common(struct vmm_scsi_command *c)
{
    switch (c->cdb[0]) {
    case TEST_UNIT_READY:
        vmm_scsi_finish(c, ready(c->unit) ? 0 : SENSE_NOT_READY);
        return true;
    case MODE_SENSE_6:
    case MODE_SENSE_10:
        vmm_scsi_mode_sense(c);
        return true;
    case START_STOP_UNIT:
        start_stop(c);
        return true;
    case PREVENT_REMOVAL:
        prevent_removal(c);
        return true;
    default:
        return false;
    }
}

void vmm_scsi_submit(struct vmm_scsi_unit *u, struct vmm_scsi_command *c)
{
    c->unit = u;
    c->transferred = 0;
    c->overrun = false;
    c->pattern = NULL;
    if (always(c))
        return;
    if (c->absent) {
        vmm_scsi_finish(c, SENSE_BAD_UNIT);
        return;
    }
    u->sense = 0;
    if (u->attention) {
        uint32_t sense = 6u << 16 | u->attention;
        u->attention = 0;
        vmm_scsi_finish(c, sense);
        u->sense = 0; /* it has been told */
        return;
    }
    if (common(c) || (u->cdrom && vmm_scsi_mmc_command(c)))
        return;
    if (!vmm_scsi_block_command(c))
        vmm_scsi_finish(c, SENSE_BAD_OPCODE);
}

/* Life ----------------------------------------------------------------------------------------- */

static int take_medium(struct vmm_scsi_unit *u, struct vmm_error *err)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = vmm_block_get_info(u->block, &info);
    if (rc)
        return vmm_error_set(err, rc, "a SCSI unit's backend: %s", strerror(-rc));
    u->read_only |= u->cdrom || info.read_only;
    u->block_size = u->cdrom ? CD_BLOCK : info.block_size;
    u->blocks = info.length / u->block_size;
    if (!u->blocks || (u->cdrom && CD_BLOCK % info.block_size))
        return vmm_error_set(err, -EINVAL, "a SCSI unit's medium has no block of %u bytes",
                             u->block_size);
    while (info.optimal_size && u->block_size << (u->physical_shift + 1) <= info.optimal_size &&
           u->block_size << u->physical_shift < 4096)
        u->physical_shift++;
    return 0;
}

int vmm_scsi_unit_new(struct vmm_block *block, bool cdrom, bool read_only, const char *serial,
                      struct vmm_scsi_unit **out, struct vmm_error *err)
{
    if (serial && strlen(serial) > SCSI_SERIAL_MAX)
        return vmm_error_set(err, -EINVAL, "a serial number has at most %u characters",
                             SCSI_SERIAL_MAX);
    struct vmm_scsi_unit *u = calloc(1, sizeof(*u));
    if (!u)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    u->block = vmm_block_ref(block);
    u->cdrom = cdrom;
    u->read_only = read_only;
    if (serial)
        memcpy(u->serial, serial, strlen(serial));
    int rc = take_medium(u, err);
    if (rc) {
        vmm_scsi_unit_free(u);
        return rc;
    }
    vmm_scsi_unit_reset(u, true);
    *out = u;
    return 0;
}

struct vmm_scsi_unit *vmm_scsi_unit_free(struct vmm_scsi_unit *u)
{
    if (u)
        vmm_block_unref(u->block);
    free(u);
    return NULL;
}

void vmm_scsi_unit_reset(struct vmm_scsi_unit *u, bool power_on)
{
    u->attention = power_on ? ATTENTION_POWER_ON : ATTENTION_RESET;
    u->sense = 0;
    u->locked = false;
    if (power_on)
        u->open = false;
}

#define STATE_OPEN   0x10000u
#define STATE_LOCKED 0x20000u

int vmm_scsi_unit_save(const struct vmm_scsi_unit *u, const char *name, struct vmm_state_writer *w)
{
    (void)vmm_state_begin(w, name, 1);
    (void)vmm_state_put_u64(w, "blocks", u->blocks);
    (void)vmm_state_put_u32(
        w, "state", u->attention | (u->open ? STATE_OPEN : 0) | (u->locked ? STATE_LOCKED : 0));
    return vmm_state_end(w);
}

int vmm_scsi_unit_load(const struct vmm_scsi_unit *u, const char *name, struct vmm_state_reader *r,
                       uint32_t *state, struct vmm_error *err)
{
    uint64_t blocks = 0;
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_state_get_u64(r, "blocks", UINT64_MAX, &blocks, err);
    rc = rc ? rc : vmm_state_get_u32(r, "state", STATE_OPEN | STATE_LOCKED | 0xffffu, state, err);
    (void)vmm_state_leave(r);
    if (!rc && blocks != u->blocks)
        rc = vmm_error_set(err, -EINVAL, "%s: the saved unit has another size", name);
    return rc;
}

void vmm_scsi_unit_take_over(struct vmm_scsi_unit *u, uint32_t state)
{
    u->attention = (uint16_t)state;
    u->open = u->cdrom && (state & STATE_OPEN);
    u->locked = u->cdrom && (state & STATE_LOCKED);
    u->sense = 0;
}
