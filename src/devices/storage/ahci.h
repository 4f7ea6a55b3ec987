/* SPDX-License-Identifier: BSD-3-Clause */
/* AHCI from the inside. Registers and sections are those of Serial ATA AHCI 1.3. */
#ifndef DEVICES_STORAGE_AHCI_H
#define DEVICES_STORAGE_AHCI_H

#include "devices/storage/ata.h"
#include "devices/storage/transfer.h"

#include <libvmm/storage.h>

#define AHCI_SLOTS 32u

/* PxIS */
#define IS_DHRS 0x00000001u /* a register FIS has come */
#define IS_PSS  0x00000002u /* PIO set-up */
#define IS_SDBS 0x00000008u /* set device bits */
#define IS_PCS  0x00000040u /* PxSERR.DIAG.X */
#define IS_PRCS 0x00400000u /* PxSERR.DIAG.N */
#define IS_HBFS 0x20000000u /* the host bus: a bad address */
#define IS_TFES 0x40000000u
#define IS_ALL  0xfdc000ffu

/* PxCMD */
#define CMD_ST    0x00000001u
#define CMD_SUD   0x00000002u
#define CMD_POD   0x00000004u
#define CMD_CLO   0x00000008u
#define CMD_FRE   0x00000010u
#define CMD_FR    0x00004000u
#define CMD_CR    0x00008000u
#define CMD_HPCP  0x00040000u
#define CMD_ATAPI 0x01000000u
#define CMD_DLAE  0x02000000u

/* PxSERR */
#define SERR_N 0x00010000u
#define SERR_X 0x04000000u

struct ahci_port;

struct ahci_slot {
    struct vmm_transfer transfer;
    struct ahci_port *port;
    uint32_t number;
    bool active; /* begun, not at its end */
    uint64_t header, table;
    uint32_t prdtl;
    uint64_t moved;
    struct vmm_ata_taskfile tf;
    struct vmm_ata_plan plan;
};

struct ahci_port {
    struct vmm_ahci *hba;
    uint32_t number;
    struct vmm_ata drive;
    struct ahci_slot *slots; /* AHCI_SLOTS; NULL: there never was a drive */
    uint64_t clb, fb;
    uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    uint32_t begun; /* slots that are active */
    uint32_t last;  /* the slot that was begun last */
    bool queueing;  /* the active ones are of NCQ */
    bool halted;    /* after an error, until ST is cleared */
    bool resetting; /* SRST is set */
};

struct vmm_ahci {
    struct vmm_pci *pci;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_timer *kick; /* takes work to the loop's thread */
    uint32_t ghc, is;
    struct ahci_port ports[VMM_AHCI_PORTS];
};

/* ahci.c; the device's lock is held in all of these. */
void vmm_ahci_raise(struct ahci_port *port, uint32_t bits);
void vmm_ahci_kick(struct vmm_ahci *hba);
void vmm_ahci_complain(struct vmm_ahci *hba, const char *text);

/* ahci_command.c */
/* Begin what has been issued and can be begun. On the loop's thread. */
void vmm_ahci_port_run(struct ahci_port *port);
/* Forget what is under way; nothing of it touches guest memory any more. */
void vmm_ahci_port_abandon(struct ahci_port *port);
/* The drive tells what it is, as after a reset. */
void vmm_ahci_port_signature(struct ahci_port *port);
void vmm_ahci_transfer_done(struct vmm_transfer *t, int result);

/* ahci_state.c */
int vmm_ahci_save(void *ctx, struct vmm_state_writer *w);
int vmm_ahci_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);

#endif
