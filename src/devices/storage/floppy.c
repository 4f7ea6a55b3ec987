/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Intel 82077AA floppy controller with one 3.5" drive of 1.44 MB. Names and sections as in its data sheet.
 *
 * Commands come in bytes through the FIFO. Those that move data are carried out on the loop's thread: the
 * backend there with the lock held, DMA without it, for that is another device.
 */
#include <libvmm/floppy.h>

#include "base/util.h"
#include "devices/storage/transfer.h"

#include <stdlib.h>

#define SECTOR      512u
#define CYLINDERS   80u
#define HEADS       2u
#define SECTORS     18u
#define DMA_CHANNEL 2u
#define BUFFER      (HEADS * SECTORS * SECTOR)

#define DOR_RUN     0x04u /* not in reset */
#define DOR_DMA     0x08u /* interrupts and DMA reach the board */
#define DOR_MOTORS  0xf0u
#define MSR_RQM     0x80u
#define MSR_DIO     0x40u
#define MSR_BUSY    0x10u
#define DSR_RESET   0x80u
#define DIR_CHANGED 0x80u

#define ST0_ABNORMAL  0x40u
#define ST0_INVALID   0x80u
#define ST0_POLLING   0xc0u /* after a reset */
#define ST0_SEEK_END  0x20u
#define ST0_CHECK     0x10u
#define ST1_END       0x80u /* beyond the track's last sector */
#define ST1_DATA      0x20u
#define ST1_OVERRUN   0x10u
#define ST1_NO_DATA   0x04u
#define ST1_PROTECTED 0x02u
#define ST1_NO_MARK   0x01u

#define PHASE_COMMAND 0u
#define PHASE_RESULT  1u
#define PHASE_WORK    2u /* for the loop's thread */
#define PHASE_BACKEND 3u
#define PHASE_MOVE    4u /* what was read is to go to memory */

struct vmm_floppy {
    struct vmm_device *device;
    struct vmm_loop *loop;
    struct vmm_dma *dma;
    struct vmm_irq_line *irq;
    struct vmm_timer *kick;
    struct vmm_block *block;
    bool read_only;
    bool changed; /* the change line */

    uint8_t dor, tape, rate, config[2], perpendicular, lock, specify[2];
    uint8_t cylinder, id; /* where the head is; the sector that passes by next */
    uint8_t interrupts;   /* that SENSE INTERRUPT STATUS has to tell */
    uint8_t st0;
    uint8_t fifo[16], at, length; /* a command or its result */
    uint8_t phase;
    uint32_t generation; /* of resets: whether work is still wanted */
    uint32_t moving;     /* bytes */
    bool end;            /* DMA's terminal count was reached */
    struct vmm_transfer transfer;
    uint8_t buffer[BUFFER];
};

/* Interrupts and results ----------------------------------------------------------------------- */

static void raise(struct vmm_floppy *f)
{
    if (f->dor & DOR_DMA)
        (void)vmm_irq_line_set(f->irq, 1);
}

static void command_phase(struct vmm_floppy *f)
{
    f->phase = PHASE_COMMAND;
    f->at = 0;
    f->length = 1;
}

static void result(struct vmm_floppy *f, const uint8_t *bytes, uint8_t length)
{
    memcpy(f->fifo, bytes, length);
    f->phase = PHASE_RESULT;
    f->at = 0;
    f->length = length;
}

/* ST0 to 2, and the sector after the last one, which the command's bytes keep. */
static void end_data(struct vmm_floppy *f, uint8_t st0, uint8_t st1)
{
    const uint8_t bytes[7] = {(uint8_t)((st1 ? ST0_ABNORMAL : 0) | st0 | (f->fifo[1] & 7)),
                              st1,
                              0,
                              f->fifo[2],
                              f->fifo[3],
                              f->fifo[4],
                              f->fifo[5]};
    result(f, bytes, sizeof(bytes));
    raise(f);
}

/* Data ----------------------------------------------------------------------------------------- */

static uint8_t operation(const struct vmm_floppy *f)
{
    return f->fifo[0] & 0x1f;
}

static bool writes(const struct vmm_floppy *f)
{
    uint8_t op = operation(f);
    return op == 0x05 || op == 0x09 || op == 0x0d;
}

static bool formats(const struct vmm_floppy *f)
{
    return operation(f) == 0x0d;
}

static uint64_t offset_of(uint32_t cylinder, uint32_t head, uint32_t sector)
{
    return ((uint64_t)(cylinder * HEADS + head) * SECTORS + sector - 1) * SECTOR;
}

/* Bytes from the command's sector to the end of the track, or of the cylinder. */
static uint32_t bytes_left(const struct vmm_floppy *f)
{
    uint32_t last = f->fifo[6] < SECTORS ? f->fifo[6] : SECTORS;
    uint32_t n = last >= f->fifo[4] ? last - f->fifo[4] + 1u : 0;
    if (n && f->fifo[0] & 0x80 && f->fifo[3] == 0) /* multi-track */
        n += last;
    return n * SECTOR;
}

/* What is wrong with the command, as ST1; 0: nothing. */
static uint8_t check_data(const struct vmm_floppy *f)
{
    uint8_t head = f->fifo[1] >> 2 & 1;
    if (!f->block || (f->fifo[1] & 3) != 0)
        return ST1_NO_MARK;
    if (writes(f) && f->read_only)
        return ST1_PROTECTED;
    if (formats(f))
        return f->fifo[2] != 2 || !f->fifo[3] || f->fifo[3] > SECTORS || f->cylinder >= CYLINDERS
                   ? ST1_NO_DATA
                   : 0;
    if (f->fifo[2] != f->cylinder || f->cylinder >= CYLINDERS || f->fifo[3] != head ||
        f->fifo[5] != 2 || !f->fifo[4] || f->fifo[4] > SECTORS)
        return ST1_NO_DATA;
    return bytes_left(f) ? 0 : ST1_END;
}

/* The sector numbers go on behind what was moved (§5.2.1, "results"). */
static void advance(struct vmm_floppy *f, uint32_t sectors)
{
    uint32_t last = f->fifo[6] < SECTORS ? f->fifo[6] : SECTORS, r = f->fifo[4] + sectors;
    if (r > last && f->fifo[0] & 0x80 && f->fifo[3] == 0) {
        r -= last;
        f->fifo[3] = 1;
    }
    if (r > last) {
        r = 1;
        f->fifo[2]++;
        f->fifo[3] = f->fifo[0] & 0x80 ? 0 : f->fifo[3];
    }
    f->fifo[4] = (uint8_t)r;
}

static void begin_data(struct vmm_floppy *f)
{
    uint8_t st1 = check_data(f);
    if (f->specify[1] & 1) /* without DMA */
        st1 = ST1_OVERRUN;
    if (st1) {
        end_data(f, 0, st1);
        return;
    }
    f->phase = PHASE_WORK;
    (void)vmm_timer_set(f->kick, 0);
}

static void finish_data(struct vmm_floppy *f, int64_t moved)
{
    if (moved < 0) {
        end_data(f, 0, ST1_OVERRUN);
        return;
    }
    if (!formats(f))
        advance(f, (uint32_t)((moved + SECTOR - 1) / SECTOR));
    end_data(f, 0, f->end || formats(f) ? 0 : ST1_END);
}

/* The fields of each sector, as DMA brings them, are those of a disk of this kind in some order. */
static bool take_format(struct vmm_floppy *f)
{
    uint32_t seen = 0, count = f->fifo[3];
    uint8_t head = f->fifo[1] >> 2 & 1, fill = f->fifo[5];
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *id = f->buffer + (size_t)4 * i;
        if (id[0] != f->cylinder || id[1] != head || !id[2] || id[2] > count || id[3] != 2)
            return false;
        seen |= 1u << id[2];
    }
    if (seen != (2u << count) - 2)
        return false;
    memset(f->buffer, fill, (size_t)count * SECTOR);
    return true;
}

/* Write what DMA has brought; `moved` bytes of it. */
static void write_out(struct vmm_floppy *f, int64_t moved)
{
    uint32_t head = f->fifo[1] >> 2 & 1, bytes = (uint32_t)moved;
    uint64_t offset;
    if (moved < 0 || (formats(f) && (bytes < 4u * f->fifo[3] || !take_format(f)))) {
        end_data(f, 0, moved < 0 ? ST1_OVERRUN : ST1_NO_DATA);
        return;
    }
    if (formats(f)) {
        bytes = f->fifo[3] * SECTOR;
        offset = offset_of(f->cylinder, head, 1);
    } else {
        uint32_t whole = (bytes + SECTOR - 1) / SECTOR * SECTOR; /* the rest of a sector is zeros */
        memset(f->buffer + bytes, 0, whole - bytes);
        bytes = whole;
        offset = offset_of(f->cylinder, head, f->fifo[4]);
    }
    f->moving = bytes;
    f->phase = PHASE_BACKEND;
    vmm_transfer_start_buffer(&f->transfer, f->block, VMM_BLOCK_WRITE, 0, offset, f->buffer, bytes);
}

static void begin_read(struct vmm_floppy *f)
{
    f->moving = bytes_left(f);
    f->phase = PHASE_BACKEND;
    vmm_transfer_start_buffer(&f->transfer, f->block, VMM_BLOCK_READ, 0,
                              offset_of(f->cylinder, f->fifo[1] >> 2 & 1, f->fifo[4]), f->buffer,
                              f->moving);
}

static void transfer_done(struct vmm_transfer *t, int rc)
{
    struct vmm_floppy *f = t->ctx;
    if (f->phase != PHASE_BACKEND) { /* abandoned; another may wait */
        (void)vmm_timer_set(f->kick, 0);
        return;
    }
    if (rc) {
        end_data(f, 0, ST1_DATA);
    } else if (writes(f)) {
        finish_data(f, f->moving);
    } else {
        f->phase = PHASE_MOVE;
        (void)vmm_timer_set(f->kick, 0);
    }
}

/* DMA is another device: the lock is not held while it moves. VERIFY moves nothing. */
static void work(void *ctx)
{
    struct vmm_floppy *f = ctx;
    vmm_device_lock(f->device);
    uint32_t generation = f->generation;
    bool in = f->phase == PHASE_MOVE, out = f->phase == PHASE_WORK && writes(f);
    if (f->transfer.busy || (f->phase != PHASE_WORK && !in)) {
        vmm_device_unlock(f->device);
        return;
    }
    if (!f->block) {
        end_data(f, 0, ST1_NO_MARK);
    } else if (!in && !out) {
        begin_read(f);
    } else {
        size_t length = in ? f->moving : formats(f) ? 4u * f->fifo[3] : bytes_left(f);
        bool end = false;
        vmm_device_unlock(f->device);
        int64_t moved = vmm_dma_move(f->dma, DMA_CHANNEL, f->buffer, length, in, &end);
        vmm_device_lock(f->device);
        f->end = end;
        if (f->generation == generation && in)
            finish_data(f, moved);
        else if (f->generation == generation)
            write_out(f, moved);
    }
    vmm_device_unlock(f->device);
}

/* Other commands ------------------------------------------------------------------------------- */

static void invalid(struct vmm_floppy *f)
{
    static const uint8_t bytes[1] = {ST0_INVALID};
    result(f, bytes, 1);
}

static void seek(struct vmm_floppy *f, uint8_t cylinder, uint8_t unit)
{
    command_phase(f);
    f->interrupts = 1;
    f->st0 = (uint8_t)(ST0_SEEK_END | (unit & 7));
    if (unit & 3) { /* no drive finds its track 0 */
        f->st0 |= ST0_ABNORMAL | ST0_CHECK;
    } else {
        if (f->block) /* a step finds the disk (§ "DSKCHG") */
            f->changed = false;
        f->cylinder = cylinder < CYLINDERS ? cylinder : CYLINDERS - 1;
    }
    raise(f);
}

static void sense_interrupt(struct vmm_floppy *f)
{
    if (!f->interrupts) {
        invalid(f);
        return;
    }
    uint8_t bytes[2] = {f->st0, f->cylinder};
    if (f->interrupts-- > 1 || (f->st0 & ST0_POLLING) == ST0_POLLING)
        f->st0++; /* one for each drive, after a reset */
    result(f, bytes, 2);
}

static void sense_drive(struct vmm_floppy *f)
{
    bool here = !(f->fifo[1] & 3);
    const uint8_t bytes[1] = {(uint8_t)((f->fifo[1] & 7) | 0x28 |
                                        (here && !f->cylinder ? 0x10 : 0) |
                                        (f->read_only ? 0x40 : 0))};
    result(f, bytes, 1);
}

static void read_id(struct vmm_floppy *f)
{
    if (!f->block || f->fifo[1] & 3) {
        memset(f->fifo + 2, 0, 4);
        end_data(f, 0, ST1_NO_MARK);
        return;
    }
    f->id = (uint8_t)(f->id % SECTORS + 1); /* it turns */
    f->fifo[2] = f->cylinder;
    f->fifo[3] = f->fifo[1] >> 2 & 1;
    f->fifo[4] = f->id;
    f->fifo[5] = 2;
    end_data(f, 0, 0);
}

static void dump(struct vmm_floppy *f)
{
    const uint8_t bytes[10] = {f->cylinder,
                               0,
                               0,
                               0,
                               f->specify[0],
                               f->specify[1],
                               SECTORS,
                               (uint8_t)(f->lock << 7 | f->perpendicular),
                               f->config[0],
                               f->config[1]};
    result(f, bytes, sizeof(bytes));
}

static void answer_one(struct vmm_floppy *f, uint8_t byte)
{
    result(f, &byte, 1);
}

static void carry_out(struct vmm_floppy *f)
{
    switch (operation(f)) {
    case 0x03:
        memcpy(f->specify, f->fifo + 1, 2);
        command_phase(f);
        break;
    case 0x04:
        sense_drive(f);
        break;
    case 0x05:
    case 0x06:
    case 0x09:
    case 0x0c:
    case 0x0d:
        begin_data(f);
        break;
    case 0x07:
        seek(f, 0, f->fifo[1] & 3);
        break;
    case 0x08:
        sense_interrupt(f);
        break;
    case 0x0a:
        read_id(f);
        break;
    case 0x0e:
        dump(f);
        break;
    case 0x0f:
        seek(f, f->fifo[2], f->fifo[1]);
        break;
    case 0x10: /* VERSION: an 82077 */
        answer_one(f, 0x90);
        break;
    case 0x12:
        f->perpendicular = f->fifo[1] & 0x7f;
        command_phase(f);
        break;
    case 0x13:
        memcpy(f->config, f->fifo + 2, 2);
        command_phase(f);
        break;
    case 0x14:
        f->lock = f->fifo[0] >> 7;
        answer_one(f, (uint8_t)(f->lock << 4));
        break;
    default:
        invalid(f);
        break;
    }
}

/* Bytes of a command, itself included. */
static uint8_t command_length(uint8_t command)
{
    static const uint8_t lengths[32] = {
        [0x03] = 3, [0x04] = 2, [0x05] = 9, [0x06] = 9, [0x07] = 2, [0x09] = 9,
        [0x0a] = 2, [0x0c] = 9, [0x0d] = 6, [0x0f] = 3, [0x12] = 2, [0x13] = 4};
    uint8_t length = lengths[command & 0x1f];
    return length ? length : 1;
}

/* Registers ------------------------------------------------------------------------------------ */

static void stop(struct vmm_floppy *f)
{
    f->generation++;
    command_phase(f);
    f->interrupts = 0;
    vmm_transfer_abandon(&f->transfer);
    (void)vmm_irq_line_set(f->irq, 0);
}

/* Out of reset: an interrupt, with a status for each of four drives (§ "drive polling"). */
static void polled(struct vmm_floppy *f)
{
    if (!f->lock)
        memset(f->config, 0, sizeof(f->config));
    f->interrupts = 4;
    f->st0 = ST0_POLLING;
    raise(f);
}

static void write_dor(struct vmm_floppy *f, uint8_t value)
{
    uint8_t was = f->dor;
    f->dor = value;
    if (!(value & DOR_RUN))
        stop(f);
    else if (!(was & DOR_RUN))
        polled(f);
    if (!(value & DOR_DMA))
        (void)vmm_irq_line_set(f->irq, 0);
}

static void write_fifo(struct vmm_floppy *f, uint8_t value)
{
    if (!(f->dor & DOR_RUN) || f->phase != PHASE_COMMAND)
        return;
    (void)vmm_irq_line_set(f->irq, 0);
    if (f->at == 0) {
        memset(f->fifo, 0, sizeof(f->fifo));
        f->length = command_length(value);
    }
    f->fifo[f->at++] = value;
    if (f->at == f->length)
        carry_out(f);
}

static uint8_t read_fifo(struct vmm_floppy *f)
{
    if (f->phase != PHASE_RESULT)
        return 0;
    (void)vmm_irq_line_set(f->irq, 0);
    uint8_t value = f->fifo[f->at++];
    if (f->at == f->length)
        command_phase(f);
    return value;
}

static uint8_t read_msr(const struct vmm_floppy *f)
{
    if (!(f->dor & DOR_RUN))
        return 0;
    if (f->phase == PHASE_COMMAND)
        return MSR_RQM | (f->at ? MSR_BUSY : 0);
    return MSR_BUSY | (f->phase == PHASE_RESULT ? MSR_RQM | MSR_DIO : 0);
}

static uint64_t floppy_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_floppy *f = ctx;
    (void)width;
    switch (offset) {
    case 2:
        return f->dor;
    case 3:
        return f->tape;
    case 4:
        return read_msr(f);
    case 5:
        return read_fifo(f);
    default: /* SRA and SRB are of the PS/2 */
        return 0;
    }
}

static void floppy_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_floppy *f = ctx;
    (void)width;
    if (offset == 2) {
        write_dor(f, (uint8_t)value);
    } else if (offset == 3) {
        f->tape = value & 3;
    } else if (offset == 4) {
        f->rate = value & 3;
        if (value & DSR_RESET && f->dor & DOR_RUN) {
            stop(f);
            polled(f);
        }
    } else if (offset == 5) {
        write_fifo(f, (uint8_t)value);
    }
}

static uint64_t dir_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct vmm_floppy *f = ctx;
    (void)offset;
    (void)width;
    bool motor = (f->dor & 3) == 0 && f->dor & 0x10;
    return motor && (f->changed || !f->block) ? DIR_CHANGED : 0;
}

static void ccr_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)offset;
    (void)width;
    ((struct vmm_floppy *)ctx)->rate = value & 3;
}

/* Life ----------------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_floppy *f = ctx;
    f->lock = 0;
    stop(f);
    f->dor = f->tape = f->rate = f->perpendicular = f->cylinder = f->st0 = f->id = 0;
    memset(f->config, 0, sizeof(f->config));
    memset(f->specify, 0, sizeof(f->specify));
    f->changed = true;
}

#define SAVED 32u

static void pack(const struct vmm_floppy *f, uint8_t *b)
{
    const uint8_t bytes[16] = {f->dor,        f->tape,          f->rate,       f->config[0],
                               f->config[1],  f->perpendicular, f->lock,       f->specify[0],
                               f->specify[1], f->cylinder,      f->interrupts, f->st0,
                               f->at,         f->length,        f->phase,      f->changed};
    memcpy(b, bytes, 16);
    memcpy(b + 16, f->fifo, 16);
}

/* A write to the disk ends first; a read is begun anew after loading, for DMA has not moved yet. */
static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_floppy *f = ctx;
    uint8_t bytes[SAVED];
    while (f->phase == PHASE_BACKEND && f->transfer.busy) {
        vmm_device_unlock(f->device);
        vmm_block_drain(f->transfer.disk);
        vmm_device_lock(f->device);
    }
    pack(f, bytes);
    if (f->phase == PHASE_MOVE)
        bytes[14] = PHASE_WORK;
    (void)vmm_state_put_u32(w, "interrupt", vmm_irq_line_level(f->irq));
    return vmm_state_put_bytes(w, "state", bytes, sizeof(bytes));
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_floppy *f = ctx;
    uint8_t b[SAVED];
    uint32_t level;
    (void)version;
    int rc = vmm_state_get_u32(r, "interrupt", 1, &level, err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "state", b, sizeof(b), err);
    if (rc)
        return rc;
    bool data = (b[16] & 0x1f) == 5 || (b[16] & 0x1f) == 6 || (b[16] & 0x1f) == 9 ||
                (b[16] & 0x1f) == 12 || (b[16] & 0x1f) == 13;
    if (b[6] > 1 || b[9] >= CYLINDERS || b[10] > 4 || b[13] > 16 || b[12] > b[13] || !b[13] ||
        b[14] > PHASE_WORK || b[15] > 1 || (b[14] != PHASE_WORK && b[12] == b[13]) ||
        (b[14] == PHASE_COMMAND && b[13] != (b[12] ? command_length(b[16]) : 1)))
        return vmm_error_set(err, -EINVAL, "the saved floppy controller is in no possible state");
    struct vmm_floppy would = {.cylinder = b[9], .block = f->block, .read_only = f->read_only};
    memcpy(would.fifo, b + 16, 16);
    if (b[14] == PHASE_WORK && (!data || check_data(&would)))
        return vmm_error_set(err, -EINVAL, "the saved floppy command fits no disk here");
    stop(f);
    f->dor = b[0];
    f->tape = b[1] & 3;
    f->rate = b[2] & 3;
    memcpy(f->config, b + 3, 2);
    f->perpendicular = b[5];
    f->lock = b[6];
    memcpy(f->specify, b + 7, 2);
    f->cylinder = b[9];
    f->interrupts = b[10];
    f->st0 = b[11];
    f->at = b[12];
    f->length = b[13];
    f->phase = b[14];
    f->changed = b[15];
    memcpy(f->fifo, b + 16, 16);
    (void)vmm_irq_line_set(f->irq, level);
    (void)vmm_timer_set(f->kick, 0);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_floppy *f = ctx;
    vmm_timer_free(f->kick);
    if (f->block) {
        vmm_transfer_abandon(&f->transfer);
        vmm_block_drain(f->block);
    }
    vmm_block_unref(f->block);
    vmm_irq_line_free(f->irq);
    vmm_dma_unref(f->dma);
    vmm_loop_unref(f->loop);
    free(f);
}

static int check_medium(struct vmm_block *block, const struct vmm_loop *loop, bool *read_only,
                        struct vmm_error *err)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    *read_only = true;
    if (!block)
        return 0;
    if (vmm_block_loop(block) != loop)
        return vmm_error_set(err, -EINVAL,
                             "a floppy controller and its image are on the same loop");
    int rc = vmm_block_get_info(block, &info);
    if (rc)
        return vmm_error_set(err, rc, "the floppy's image: %s", strerror(-rc));
    if (info.length != VMM_FLOPPY_LENGTH || info.block_size != SECTOR)
        return vmm_error_set(err, -EINVAL, "a floppy's image has %u bytes", VMM_FLOPPY_LENGTH);
    *read_only = info.read_only;
    return 0;
}

int vmm_floppy_new(const struct vmm_floppy_options *given, struct vmm_floppy **out,
                   struct vmm_error *err)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    struct vmm_floppy_options o;
    bool read_only;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "floppy options: a structure of another version");
    if (!o.name || !o.loop || !o.dma)
        return vmm_error_set(err, -EINVAL, "a floppy controller needs a name, a loop and DMA");
    int rc = check_medium(o.block, o.loop, &read_only, err);
    if (rc)
        return rc;
    struct vmm_floppy *f = calloc(1, sizeof(*f));
    if (!f)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = vmm_timer_new(o.loop, work, f, &f->kick);
    if (!rc)
        rc = vmm_device_new(o.name, &ops, f, &f->device);
    if (rc) {
        vmm_timer_free(f->kick);
        free(f);
        return vmm_error_set(err, rc, "floppy: %s", strerror(-rc));
    }
    f->loop = vmm_loop_ref(o.loop);
    f->dma = o.dma;
    vmm_device_ref(vmm_dma_device(o.dma));
    f->block = o.block ? vmm_block_ref(o.block) : NULL;
    f->read_only = read_only;
    f->irq = o.irq;
    vmm_transfer_init(&f->transfer, NULL, f->device, transfer_done, f);
    reset(f);
    *out = f;
    return 0;
}

struct vmm_floppy *vmm_floppy_unref(struct vmm_floppy *floppy)
{
    if (floppy)
        vmm_device_unref(floppy->device);
    return NULL;
}

struct vmm_device *vmm_floppy_device(struct vmm_floppy *floppy)
{
    return floppy->device;
}

int vmm_floppy_attach(struct vmm_floppy *f, struct vmm_bus *ports, struct vmm_error *err)
{
    static const struct vmm_region_ops low = {.size = sizeof(low),
                                              .read = floppy_read,
                                              .write = floppy_write,
                                              .min_width = 1,
                                              .max_width = 1},
                                       high = {.size = sizeof(high),
                                               .read = dir_read,
                                               .write = ccr_write,
                                               .min_width = 1,
                                               .max_width = 1};
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    struct vmm_region *first;
    o.name = vmm_device_name(f->device);
    o.address = 0x3f0;
    o.length = 6;
    o.device = f->device;
    o.ops = &low;
    o.ctx = f;
    int rc = vmm_bus_add(ports, &o, &first, err);
    if (rc)
        return rc;
    o.address = 0x3f7; /* 3f6 is IDE's */
    o.length = 1;
    o.ops = &high;
    rc = vmm_bus_add(ports, &o, NULL, err);
    if (rc)
        vmm_bus_remove(ports, first);
    return rc;
}

int vmm_floppy_set_medium(struct vmm_floppy *f, struct vmm_block *block, struct vmm_error *err)
{
    bool read_only;
    int rc = check_medium(block, f->loop, &read_only, err);
    if (rc)
        return rc;
    vmm_device_lock(f->device);
    struct vmm_block *old = f->block;
    f->block = block ? vmm_block_ref(block) : NULL;
    f->read_only = read_only;
    f->changed = true;
    vmm_device_unlock(f->device);
    if (old) {
        vmm_block_drain(old);
        vmm_block_unref(old);
    }
    return 0;
}
