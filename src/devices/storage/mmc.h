/* SPDX-License-Identifier: BSD-3-Clause */
/* A CD-ROM drive's packet commands: MMC-6 (T10/1836-D), SPC-3. */
#ifndef DEVICES_STORAGE_MMC_H
#define DEVICES_STORAGE_MMC_H

#include <stdbool.h>
#include <stdint.h>

#define MMC_SECTOR 2048u
#define MMC_CDB    12u

struct vmm_ata_plan;

struct vmm_mmc {
    uint64_t sectors; /* of the medium, of 2048 bytes; 0: there is none. It stays in an open tray */
    bool open;        /* the tray */
    bool locked;      /* by PREVENT ALLOW MEDIUM REMOVAL */
    uint8_t event;    /* of GET EVENT STATUS NOTIFICATION, class media; told once */
    uint8_t attention; /* a unit attention is due: an additional sense code */
    uint8_t key, asc, ascq;
};

#define MMC_EVENT_EJECT   1u /* somebody has pressed the button */
#define MMC_EVENT_NEW     2u
#define MMC_EVENT_REMOVAL 3u

#define MMC_ATTENTION_CHANGED 0x28u
#define MMC_ATTENTION_RESET   0x29u

/* Carry out a command, or plan what data it moves. false: CHECK CONDITION; the sense is set. */
bool vmm_mmc_command(struct vmm_mmc *mmc, const uint8_t *cdb, const char *model,
                     struct vmm_ata_plan *plan);
/* The medium could not be read. */
void vmm_mmc_read_failed(struct vmm_mmc *mmc);
/* There is another medium (0 sectors: none). */
void vmm_mmc_medium(struct vmm_mmc *mmc, uint64_t sectors);

#endif
