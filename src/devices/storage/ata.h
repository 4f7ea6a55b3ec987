/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ATA drives, apart from how a controller reaches them: a command is decoded into a plan (what data goes
 * where), the controller carries out the plan, and the drive says how it ended. Names are those of
 * ATA8-ACS (T13/1699-D).
 */
#ifndef DEVICES_STORAGE_ATA_H
#define DEVICES_STORAGE_ATA_H

#include "devices/storage/mmc.h"

#include <libvmm/block.h>
#include <libvmm/state.h>
#include <libvmm/storage.h>

#define ATA_SECTOR 512u

/* Status */
#define ATA_ERR  0x01u
#define ATA_DRQ  0x08u
#define ATA_DSC  0x10u
#define ATA_DF   0x20u
#define ATA_DRDY 0x40u
#define ATA_BSY  0x80u
/* Error */
#define ATA_ABRT 0x04u
#define ATA_IDNF 0x10u
#define ATA_UNC  0x40u
/* Device */
#define ATA_DEV1 0x10u
#define ATA_LBA  0x40u

#define ATA_CMD_DEVICE_RESET 0x08u
#define ATA_CMD_DIAGNOSTIC   0x90u
#define ATA_CMD_PACKET       0xa0u
#define ATA_CMD_READ_FPDMA   0x60u
#define ATA_CMD_WRITE_FPDMA  0x61u

/* The registers; with 48-bit commands the high bytes are in them too. */
struct vmm_ata_taskfile {
    uint8_t command, device, status, error;
    uint16_t feature, count;
    uint64_t lba;
};

#define ATA_NO_DATA    0u /* nothing moves, and the command has ended */
#define ATA_BUFFER_IN  1u /* plan.buffer goes to the host */
#define ATA_BUFFER_OUT 2u /* and from it; then vmm_ata_take_buffer() */
#define ATA_READ       3u /* of the medium */
#define ATA_WRITE      4u
#define ATA_FLUSH      5u
#define ATA_DISCARD    6u /* plan.offset, plan.length; then vmm_ata_next_discard() */
#define ATA_PACKET     7u /* 12 bytes come from the host; then vmm_ata_packet() */

struct vmm_ata_plan {
    uint32_t kind;
    uint32_t flags; /* VMM_BLOCK_FUA */
    uint64_t offset, length;
    bool pio;             /* by the PIO protocol */
    bool queued;          /* NCQ */
    uint32_t tag;         /* of it */
    uint32_t drq_sectors; /* of a PIO data block */
    uint32_t next;        /* the next entry of the list of discards */
    uint8_t buffer[ATA_SECTOR];
};

struct vmm_ata {
    uint32_t type; /* VMM_DRIVE_…; 0: there is no drive */
    bool sata;
    struct vmm_block *block; /* NULL: an empty tray */
    uint64_t sectors;
    uint32_t sector; /* bytes: 512, or 4096 on SATA disks */
    bool read_only;
    char serial[20], model[40];
    /* What the guest sets. */
    uint8_t multiple, write_cache, look_ahead, smart, udma, mdma;
    /* Of the command that failed last in the queue, for log 10h. */
    uint8_t failed_tag, failed_status, failed_error;
    struct vmm_mmc mmc;
};

/* Take the options over: the block is held. */
int vmm_ata_init(struct vmm_ata *drive, const struct vmm_drive_options *options, bool sata,
                 struct vmm_error *err);
void vmm_ata_fini(struct vmm_ata *drive);
/* Another medium in a CD-ROM drive, see vmm_ahci_set_medium(). `*old` is the caller's to let go of once
 * nothing is under way in it. */
int vmm_ata_set_medium(struct vmm_ata *drive, struct vmm_block *block, uint32_t flags,
                       struct vmm_block **old, struct vmm_error *err);
/* Power-on or reset by hardware; and by software, which keeps what SET FEATURES has set. */
void vmm_ata_reset(struct vmm_ata *drive, bool hard);
/* The registers after reset tell what it is. */
void vmm_ata_signature(const struct vmm_ata *drive, struct vmm_ata_taskfile *tf);

/* Decode. The task file's status and error are those of the end where the kind is ATA_NO_DATA. */
void vmm_ata_decode(struct vmm_ata *drive, struct vmm_ata_taskfile *tf, struct vmm_ata_plan *plan);
/* The 12 bytes of a packet command have come: a new plan. */
void vmm_ata_packet(struct vmm_ata *drive, const uint8_t *cdb, struct vmm_ata_taskfile *tf,
                    struct vmm_ata_plan *plan);
/* The buffer is full: what else is to be done? */
void vmm_ata_take_buffer(struct vmm_ata *drive, struct vmm_ata_taskfile *tf,
                         struct vmm_ata_plan *plan);
/* A discard was done; is there one more? */
bool vmm_ata_next_discard(struct vmm_ata *drive, struct vmm_ata_plan *plan);
/* The end of a command that moved data; `result` is the backend's. */
void vmm_ata_end(struct vmm_ata *drive, struct vmm_ata_taskfile *tf,
                 const struct vmm_ata_plan *plan, int result);
/* End with an error. */
void vmm_ata_abort(struct vmm_ata_taskfile *tf, uint8_t error);

/* ata_identify.c */
void vmm_ata_identify(const struct vmm_ata *drive, uint8_t *data);
/* SMART and logs, which answer in 512 bytes; false: there is no such page. */
bool vmm_ata_smart(struct vmm_ata *drive, struct vmm_ata_taskfile *tf, uint8_t *data, bool *in);
bool vmm_ata_log(const struct vmm_ata *drive, const struct vmm_ata_taskfile *tf, uint8_t *data);

/* In the node that is open. */
int vmm_ata_save(const struct vmm_ata *drive, struct vmm_state_writer *w);
int vmm_ata_load(struct vmm_ata *drive, struct vmm_state_reader *r, struct vmm_error *err);
/* A command that waits: its registers. */
int vmm_ata_taskfile_save(const struct vmm_ata_taskfile *tf, struct vmm_state_writer *w);
int vmm_ata_taskfile_load(struct vmm_ata_taskfile *tf, struct vmm_state_reader *r,
                          struct vmm_error *err);

#endif
