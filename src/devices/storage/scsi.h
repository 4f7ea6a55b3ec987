/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SCSI disks and CD-ROMs on a block backend: what is behind a transport that carries command descriptor
 * blocks (virtio-scsi; ATAPI has the same commands). Sections are those of SPC-4, SBC-3 and MMC-6.
 *
 * A unit is used on the loop's thread, but for vmm_scsi_unit_reset(); commands may be many at a time.
 */
#ifndef DEVICES_STORAGE_SCSI_H
#define DEVICES_STORAGE_SCSI_H

#include <libvmm/block.h>
#include <libvmm/state.h>

#include <stdatomic.h>

#define SCSI_CDB_MAX    32u
#define SCSI_SENSE_SIZE 18u
#define SCSI_SERIAL_MAX 20u
#define SCSI_VECTOR_MAX 160u
#define SCSI_DATA_MAX   256u /* of an answer that is not the medium's, and of a list of parameters */

/* Status codes (SAM-5 §5.3.1). */
#define SCSI_GOOD            0x00u
#define SCSI_CHECK_CONDITION 0x02u

struct vmm_scsi_unit;

struct vmm_scsi_command {
    /* The initiator's. The vectors are used up. */
    uint8_t cdb[SCSI_CDB_MAX];
    struct iovec *out, *in; /* data to the unit and from it, at most SCSI_VECTOR_MAX entries each */
    size_t out_count, in_count;
    uint64_t out_length, in_length;
    void (*done)(struct vmm_scsi_command *c);
    void *ctx;
    bool absent; /* it is for a logical unit that is not there */
    /* What came of it. */
    uint8_t status;
    bool overrun;         /* its data buffers are shorter than it wants; nothing was done */
    uint64_t transferred; /* bytes of `in` or `out` */
    uint8_t sense[SCSI_SENSE_SIZE];
    uint32_t sense_length;
    /* The unit's. */
    struct vmm_scsi_unit *unit;
    struct vmm_block_request block;
    uint8_t data[SCSI_DATA_MAX];
    uint32_t next, count; /* ranges of an UNMAP */
    void *pattern;        /* of a WRITE SAME */
    struct iovec vector[SCSI_VECTOR_MAX];
};

struct vmm_scsi_unit {
    struct vmm_block *block;
    bool cdrom, read_only;
    uint32_t block_size; /* of a logical block, bytes */
    uint64_t blocks;
    uint32_t physical_shift; /* logical blocks in a physical one, as a power of two */
    char serial[SCSI_SERIAL_MAX + 1];
    /* State. */
    _Atomic bool open, locked;  /* a CD-ROM's tray */
    _Atomic uint16_t attention; /* additional sense of a unit attention that waits; 0: none */
    _Atomic uint32_t sense;     /* key and additional sense of the last error, for REQUEST SENSE */
};

/* `block` is held. -EINVAL: no serial number, or a medium without a whole block. */
int vmm_scsi_unit_new(struct vmm_block *block, bool cdrom, bool read_only, const char *serial,
                      struct vmm_scsi_unit **out, struct vmm_error *err);
struct vmm_scsi_unit *vmm_scsi_unit_free(struct vmm_scsi_unit *unit);
/* `done` is called, now or by the loop. */
void vmm_scsi_submit(struct vmm_scsi_unit *unit, struct vmm_scsi_command *c);
/* As after power-on, for the driver's eyes as well. */
void vmm_scsi_unit_reset(struct vmm_scsi_unit *unit, bool power_on);
int vmm_scsi_unit_save(const struct vmm_scsi_unit *unit, const char *name,
                       struct vmm_state_writer *w);
/* Checked, and then taken over by vmm_scsi_unit_take_over(). */
int vmm_scsi_unit_load(const struct vmm_scsi_unit *unit, const char *name,
                       struct vmm_state_reader *r, uint32_t *state, struct vmm_error *err);
void vmm_scsi_unit_take_over(struct vmm_scsi_unit *unit, uint32_t state);

/* Between the files of this target ------------------------------------------------------------ */

/* Sense key, additional sense code and qualifier. */
#define SENSE(key, asc, ascq)   ((uint32_t)(key) << 16 | (uint32_t)(asc) << 8 | (uint32_t)(ascq))
#define SENSE_NOT_READY         SENSE(2, 0x3a, 0) /* no medium */
#define SENSE_READ_ERROR        SENSE(3, 0x11, 0)
#define SENSE_WRITE_ERROR       SENSE(3, 0x0c, 0)
#define SENSE_BAD_LIST_LENGTH   SENSE(5, 0x1a, 0)
#define SENSE_BAD_OPCODE        SENSE(5, 0x20, 0)
#define SENSE_BAD_LBA           SENSE(5, 0x21, 0)
#define SENSE_BAD_CDB           SENSE(5, 0x24, 0)
#define SENSE_BAD_UNIT          SENSE(5, 0x25, 0)
#define SENSE_BAD_PARAMETER     SENSE(5, 0x26, 0)
#define SENSE_REMOVAL_PREVENTED SENSE(5, 0x53, 2)
#define SENSE_WRITE_PROTECTED   SENSE(7, 0x27, 0)
#define SENSE_NO_SPACE          SENSE(7, 0x27, 7)

static inline uint16_t scsi_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t scsi_load32(const uint8_t *p)
{
    return (uint32_t)scsi_load16(p) << 16 | scsi_load16(p + 2);
}
static inline uint64_t scsi_load64(const uint8_t *p)
{
    return (uint64_t)scsi_load32(p) << 32 | scsi_load32(p + 4);
}
static inline void scsi_store16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}
static inline void scsi_store32(uint8_t *p, uint32_t value)
{
    scsi_store16(p, value >> 16);
    scsi_store16(p + 2, value);
}
static inline void scsi_store64(uint8_t *p, uint64_t value)
{
    scsi_store32(p, (uint32_t)(value >> 32));
    scsi_store32(p + 4, (uint32_t)value);
}

/* The command is over: well, or with a sense. */
void vmm_scsi_finish(struct vmm_scsi_command *c, uint32_t sense);
/* Give `length` bytes of c->data, at most as many as the initiator allocates, and finish. */
void vmm_scsi_reply(struct vmm_scsi_command *c, size_t length, uint64_t allocated);
/* Each carries out what it knows; false: it knows no such command. */
bool vmm_scsi_block_command(struct vmm_scsi_command *c);
bool vmm_scsi_mmc_command(struct vmm_scsi_command *c);
void vmm_scsi_inquiry(struct vmm_scsi_command *c);
void vmm_scsi_mode_sense(struct vmm_scsi_command *c);
/* MODE SENSE's page of what a CD-ROM can do; how long it is. */
size_t vmm_scsi_mmc_page(const struct vmm_scsi_unit *u, uint8_t *page);

#endif
