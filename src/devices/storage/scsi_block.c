/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands that reach the medium (SBC-3 §5): each becomes a request of the block backend, or several
 * one after another. */
#include "base/util.h"
#include "devices/storage/scsi.h"

#include <stdlib.h>

#define READ_6           0x08u
#define WRITE_6          0x0au
#define READ_CAPACITY_10 0x25u
#define READ_10          0x28u
#define WRITE_10         0x2au
#define VERIFY_10        0x2fu
#define SYNCHRONIZE_10   0x35u
#define WRITE_SAME_10    0x41u
#define UNMAP            0x42u
#define READ_16          0x88u
#define WRITE_16         0x8au
#define VERIFY_16        0x8fu
#define SYNCHRONIZE_16   0x91u
#define WRITE_SAME_16    0x93u
#define SERVICE_IN_16    0x9eu
#define READ_12          0xa8u
#define WRITE_12         0xaau
#define CAPACITY_16      0x10u /* service action */

#define PATTERN    65536u /* bytes of a WRITE SAME that are written at a time */
#define UNMAP_LIST 8u     /* bytes before the first range */
#define UNMAP_SIZE 16u

/* The medium --------------------------------------------------------------------------------- */

static uint32_t sense_of(uint32_t op, int result)
{
    if (result == 0)
        return 0;
    if (result == -ENOSPC || result == -EDQUOT)
        return SENSE_NO_SPACE;
    if (result == -EACCES || result == -EROFS)
        return SENSE_WRITE_PROTECTED;
    return op == VMM_BLOCK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
}

static void block_done(struct vmm_block_request *r, int result)
{
    vmm_scsi_finish(r->ctx, sense_of(r->op, result));
}

static void submit(struct vmm_scsi_command *c, uint32_t op, uint32_t flags, uint64_t lba,
                   uint64_t blocks, const struct iovec *vector, size_t vector_count)
{
    struct vmm_scsi_unit *u = c->unit;
    c->block = (struct vmm_block_request){.op = op,
                                          .flags = flags,
                                          .offset = lba * u->block_size,
                                          .length = blocks * u->block_size,
                                          .vector = vector,
                                          .vector_count = vector_count,
                                          .done = block_done,
                                          .ctx = c};
    vmm_block_submit(u->block, &c->block);
}

/* Is the range on the medium, and the medium there? Else the command has ended. */
static bool check_range(struct vmm_scsi_command *c, uint64_t lba, uint64_t blocks, bool write)
{
    const struct vmm_scsi_unit *u = c->unit;
    uint32_t sense = 0;
    if (u->open)
        sense = SENSE_NOT_READY;
    else if (write && u->read_only)
        sense = SENSE_WRITE_PROTECTED;
    else if (lba > u->blocks || blocks > u->blocks - lba)
        sense = SENSE_BAD_LBA;
    if (sense)
        vmm_scsi_finish(c, sense);
    return !sense;
}

/* The first `length` bytes of a vector. */
static size_t trim(struct iovec *vector, size_t count, uint64_t length)
{
    size_t n = 0;
    for (; n < count && length; n++) {
        if (vector[n].iov_len > length)
            vector[n].iov_len = (size_t)length;
        length -= vector[n].iov_len;
    }
    return n;
}

static void end_overrun(struct vmm_scsi_command *c)
{
    c->overrun = true;
    vmm_scsi_finish(c, 0);
}

static void read_or_write(struct vmm_scsi_command *c, bool write, uint64_t lba, uint64_t blocks)
{
    struct iovec *vector = write ? c->out : c->in;
    size_t count = write ? c->out_count : c->in_count;
    if (!check_range(c, lba, blocks, write))
        return;
    uint64_t length = blocks * c->unit->block_size;
    if (length > (write ? c->out_length : c->in_length)) {
        end_overrun(c);
        return;
    }
    if (!length) {
        vmm_scsi_finish(c, 0);
        return;
    }
    c->transferred = length;
    bool durable = write && c->cdb[0] != WRITE_6 && (c->cdb[1] & 8);
    submit(c, write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ, durable ? VMM_BLOCK_FUA : 0, lba, blocks,
           vector, trim(vector, count, length));
}

static void synchronize(struct vmm_scsi_command *c)
{
    if (c->unit->open)
        vmm_scsi_finish(c, SENSE_NOT_READY);
    else
        submit(c, VMM_BLOCK_FLUSH, 0, 0, 0, NULL, 0);
}

/* Without comparing: is it there? */
static void verify(struct vmm_scsi_command *c, uint64_t lba, uint64_t blocks)
{
    if (c->cdb[1] & 6)
        vmm_scsi_finish(c, SENSE_BAD_CDB);
    else if (check_range(c, lba, blocks, false))
        vmm_scsi_finish(c, 0);
}

/* Capacity ----------------------------------------------------------------------------------- */

static void capacity_10(struct vmm_scsi_command *c)
{
    const struct vmm_scsi_unit *u = c->unit;
    uint64_t last = u->blocks - 1;
    if (u->open) {
        vmm_scsi_finish(c, SENSE_NOT_READY);
        return;
    }
    scsi_store32(c->data, last < UINT32_MAX ? (uint32_t)last : UINT32_MAX);
    scsi_store32(c->data + 4, u->block_size);
    vmm_scsi_reply(c, 8, 8);
}

static void capacity_16(struct vmm_scsi_command *c)
{
    const struct vmm_scsi_unit *u = c->unit;
    if ((c->cdb[1] & 0x1f) != CAPACITY_16 || u->open) {
        vmm_scsi_finish(c, u->open ? SENSE_NOT_READY : SENSE_BAD_CDB);
        return;
    }
    memset(c->data, 0, 32);
    scsi_store64(c->data, u->blocks - 1);
    scsi_store32(c->data + 8, u->block_size);
    c->data[13] = (uint8_t)u->physical_shift;
    if (!u->read_only)
        c->data[14] = 0x80; /* blocks can be unmapped; what they then read as is not said */
    vmm_scsi_reply(c, 32, scsi_load32(c->cdb + 10));
}

/* Unmapping and filling ---------------------------------------------------------------------- */

static void unmap_next(struct vmm_scsi_command *c);

static void unmap_done(struct vmm_block_request *r, int result)
{
    struct vmm_scsi_command *c = r->ctx;
    if (result)
        vmm_scsi_finish(c, sense_of(r->op, result));
    else
        unmap_next(c);
}

/* Range after range. What is unmapped is a matter of the medium's choice, so an end in between is fine. */
static void unmap_next(struct vmm_scsi_command *c)
{
    const struct vmm_scsi_unit *u = c->unit;
    while (c->next < c->count) {
        const uint8_t *range = c->data + UNMAP_LIST + UNMAP_SIZE * c->next++;
        uint64_t lba = scsi_load64(range), blocks = scsi_load32(range + 8);
        if (!blocks)
            continue;
        c->block = (struct vmm_block_request){.op = VMM_BLOCK_DISCARD,
                                              .offset = lba * u->block_size,
                                              .length = blocks * u->block_size,
                                              .done = unmap_done,
                                              .ctx = c};
        vmm_block_submit(u->block, &c->block);
        return;
    }
    vmm_scsi_finish(c, 0);
}

static size_t gather(const struct vmm_scsi_command *c, uint8_t *to, size_t length)
{
    size_t done = 0;
    for (size_t i = 0; i < c->out_count && done < length; i++) {
        size_t part = c->out[i].iov_len < length - done ? c->out[i].iov_len : length - done;
        memcpy(to + done, c->out[i].iov_base, part);
        done += part;
    }
    return done;
}

/* SBC-3 §5.28. The list is copied, so that what is checked is what is done. */
static void unmap(struct vmm_scsi_command *c)
{
    uint32_t length = scsi_load16(c->cdb + 7);
    if (length > c->out_length) {
        end_overrun(c);
        return;
    }
    if (length < UNMAP_LIST || (c->cdb[1] & 1)) {
        vmm_scsi_finish(c, length == 0           ? 0
                           : length < UNMAP_LIST ? SENSE_BAD_LIST_LENGTH
                                                 : SENSE_BAD_CDB);
        return;
    }
    length = length < SCSI_DATA_MAX ? length : SCSI_DATA_MAX;
    (void)gather(c, c->data, length);
    uint32_t ranges = scsi_load16(c->data + 2);
    if (ranges % UNMAP_SIZE || ranges > length - UNMAP_LIST) {
        vmm_scsi_finish(c, SENSE_BAD_PARAMETER);
        return;
    }
    c->transferred = length;
    c->count = ranges / UNMAP_SIZE;
    c->next = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const uint8_t *range = c->data + UNMAP_LIST + UNMAP_SIZE * i;
        if (!check_range(c, scsi_load64(range), scsi_load32(range + 8), true))
            return;
    }
    unmap_next(c);
}

static bool all_zero(const uint8_t *data, size_t length)
{
    return !data[0] && memcmp(data, data + 1, length - 1) == 0;
}

/* One block again and again: a buffer full of them, as often as it takes. */
static void fill(struct vmm_scsi_command *c, uint64_t lba, uint64_t blocks)
{
    uint32_t size = c->unit->block_size;
    uint8_t *pattern = c->pattern;
    for (size_t at = size; at < PATTERN; at += size)
        memcpy(pattern + at, pattern, size);
    uint64_t left = blocks * size;
    size_t n = 0;
    for (; left; n++) {
        size_t part = left < PATTERN ? (size_t)left : PATTERN;
        c->vector[n] = (struct iovec){pattern, part};
        left -= part;
    }
    submit(c, VMM_BLOCK_WRITE, 0, lba, blocks, c->vector, n);
}

/* SBC-3 §5.40. */
static void write_same(struct vmm_scsi_command *c, uint64_t lba, uint64_t blocks)
{
    const struct vmm_scsi_unit *u = c->unit;
    bool no_data = c->cdb[0] == WRITE_SAME_16 && (c->cdb[1] & 1);
    bool may_unmap = c->cdb[1] & 8;
    if (!check_range(c, lba, blocks, true))
        return;
    if ((c->cdb[1] & 0x10) || !blocks ||
        blocks > (uint64_t)(SCSI_VECTOR_MAX - 32) * PATTERN / u->block_size) {
        vmm_scsi_finish(c, SENSE_BAD_CDB); /* an anchor; to the end of the medium; too much */
        return;
    }
    if (!no_data && c->out_length < u->block_size) {
        end_overrun(c);
        return;
    }
    uint8_t *pattern = c->pattern = calloc(1, PATTERN);
    if (!pattern) {
        vmm_scsi_finish(c, SENSE_WRITE_ERROR);
        return;
    }
    if (!no_data)
        c->transferred = gather(c, pattern, u->block_size);
    if (all_zero(pattern, u->block_size))
        submit(c, VMM_BLOCK_WRITE_ZEROES, may_unmap ? VMM_BLOCK_MAY_UNMAP : 0, lba, blocks, NULL,
               0);
    else
        fill(c, lba, blocks);
}

/* Command descriptor blocks ------------------------------------------------------------------ */

struct place {
    uint64_t lba, blocks;
};

/* By the length of the command, which is in the upper bits of its code (SPC-4 §4.2.5.1). */
static struct place place_of(const uint8_t *cdb)
{
    switch (cdb[0] >> 5) {
    case 0:
        return (struct place){(uint32_t)(cdb[1] & 0x1f) << 16 | scsi_load16(cdb + 2),
                              cdb[4] ? cdb[4] : 256u};
    case 4:
        return (struct place){scsi_load64(cdb + 2), scsi_load32(cdb + 10)};
    case 5:
        return (struct place){scsi_load32(cdb + 2), scsi_load32(cdb + 6)};
    default:
        return (struct place){scsi_load32(cdb + 2), scsi_load16(cdb + 7)};
    }
}

static bool disk_command(struct vmm_scsi_command *c, const struct place *p)
{
    switch (c->cdb[0]) {
    case UNMAP:
        unmap(c);
        return true;
    case WRITE_SAME_10:
    case WRITE_SAME_16:
        write_same(c, p->lba, p->blocks);
        return true;
    case READ_16:
        read_or_write(c, false, p->lba, p->blocks);
        return true;
    case WRITE_6:
    case WRITE_10:
    case WRITE_12:
    case WRITE_16:
        read_or_write(c, true, p->lba, p->blocks);
        return true;
    case SERVICE_IN_16:
        capacity_16(c);
        return true;
    case VERIFY_16:
        verify(c, p->lba, p->blocks);
        return true;
    default:
        return false;
    }
}

bool vmm_scsi_block_command(struct vmm_scsi_command *c)
{
    const struct place p = place_of(c->cdb);
    switch (c->cdb[0]) {
    case READ_6:
    case READ_10:
    case READ_12:
        read_or_write(c, false, p.lba, p.blocks);
        return true;
    case READ_CAPACITY_10:
        capacity_10(c);
        return true;
    case SYNCHRONIZE_10:
    case SYNCHRONIZE_16:
        synchronize(c);
        return true;
    case VERIFY_10:
        verify(c, p.lba, p.blocks);
        return true;
    default:
        return !c->unit->cdrom && disk_command(c, &p);
    }
}
