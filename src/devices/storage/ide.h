/* SPDX-License-Identifier: BSD-3-Clause */
/* IDE from the inside: two channels of two drives, and a bus master for each (PIIX3). */
#ifndef DEVICES_STORAGE_IDE_H
#define DEVICES_STORAGE_IDE_H

#include "devices/storage/ata.h"
#include "devices/storage/transfer.h"

#include <libvmm/storage.h>

#define IDE_CHANNELS 2u
#define IDE_BUFFER   65536u

/* Device control */
#define CONTROL_NIEN 0x02u
#define CONTROL_SRST 0x04u
#define CONTROL_HOB  0x80u

/* Bus master (Programming Interface for Bus Master IDE Controller, 1.0) */
#define BM_START   0x01u
#define BM_READ    0x08u /* from the drive */
#define BM_ACTIVE  0x01u
#define BM_ERROR   0x02u
#define BM_INTR    0x04u
#define BM_CAPABLE 0x60u

/* What a channel waits for. */
#define IDE_IDLE    0u
#define IDE_WORK    1u /* the loop's thread: there is something for the backend */
#define IDE_BACKEND 2u
#define IDE_IN      3u /* the driver reads the buffer */
#define IDE_OUT     4u /* it fills the buffer */
#define IDE_CDB     5u /* and this is a packet */
#define IDE_DMA     6u /* the bus master is to be started */

struct ide_unit {
    struct vmm_ata ata;
    struct vmm_ata_taskfile tf; /* its registers */
};

struct ide_channel {
    struct vmm_ide *ide;
    uint32_t number;
    struct vmm_irq_line *irq;
    struct ide_unit units[2];
    uint32_t select; /* the unit */
    uint32_t control;
    uint32_t phase;
    uint32_t active; /* the unit whose command it is */
    struct vmm_ata_plan plan;
    uint64_t moved;          /* of the plan, through the buffer or by DMA */
    uint32_t at, stop, fill; /* in the buffer: here, the end of a block, the end */
    uint32_t bm_command, bm_status, bm_table;
    struct vmm_transfer transfer;
    uint8_t buffer[IDE_BUFFER];
};

struct vmm_ide {
    struct vmm_pci *pci;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_timer *kick;
    uint8_t timing[16]; /* of configuration space, from 40h on; of no effect */
    struct ide_channel channels[IDE_CHANNELS];
};

/* ide_command.c; the device's lock is held in all of these. */
void vmm_ide_command(struct ide_channel *c, uint8_t command);
uint32_t vmm_ide_data_read(struct ide_channel *c, uint32_t width);
void vmm_ide_data_write(struct ide_channel *c, uint32_t width, uint32_t value);
/* Forget what is under way. */
void vmm_ide_abandon(struct ide_channel *c);
void vmm_ide_reset_units(struct ide_channel *c, bool hard);
/* Give the backend what waits for it. On the loop's thread. */
void vmm_ide_work(struct ide_channel *c);
void vmm_ide_transfer_done(struct vmm_transfer *t, int result);
/* The end of the command. */
void vmm_ide_end(struct ide_channel *c, int result);
void vmm_ide_finish(struct ide_channel *c, bool interrupt);
void vmm_ide_want_backend(struct ide_channel *c);

/* ide_dma.c */
uint64_t vmm_ide_bm_read(const struct ide_channel *c, uint32_t offset);
void vmm_ide_bm_write(struct ide_channel *c, uint32_t offset, uint8_t value);
/* Carry out the plan by the bus master. On the loop's thread. */
void vmm_ide_dma(struct ide_channel *c);
void vmm_ide_complain(struct vmm_ide *ide, const char *text);

/* ide_state.c */
int vmm_ide_save(void *ctx, struct vmm_state_writer *w);
int vmm_ide_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);

#endif
