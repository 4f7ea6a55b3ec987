/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks and CD-ROMs on controllers: --disk …,if=ahci|ide and --cdrom, and their media while the guest runs. */
#ifndef VMM_RUN_DRIVES_H
#define VMM_RUN_DRIVES_H

#include "boot.h"

#include <libvmm/floppy.h>
#include <libvmm/storage.h>
#include <libvmm/vmm.h>

#define CDROMS_MAX 2

/* Where a disk is attached. */
enum {
    DISK_ON_VIRTIO,
    DISK_ON_AHCI,
    DISK_ON_IDE,
    DISK_ON_SCSI,
    DISK_ON_NVME,
};

struct cdrom_option {
    const char *file; /* NULL: an empty drive */
    uint32_t bus;     /* DISK_ON_AHCI or DISK_ON_IDE */
};

/* The names of the attachments, for if=; they end with NULL. */
extern const char *const drives_buses[];

struct drives {
    struct vmm_machine *machine;
    struct vmm_ahci *ahci;
    struct vmm_ide *ide;
    struct vmm_dma *dma;
    struct vmm_floppy *floppy;
    uint32_t ahci_used; /* ports */
    uint32_t ide_used;  /* drives */
    uint32_t cdrom_port[CDROMS_MAX], cdrom_bus[CDROMS_MAX];
    uint32_t cdroms;
    struct boot_order boot; /* of virtio's and NVMe disks, too */
};

/* FILE[,if=ahci|ide], cut up in place; NULL, or what is wrong. FILE may be "none". */
const char *cdrom_parse(struct cdrom_option *option, char *text);

void drives_init(struct drives *drives, struct vmm_machine *machine);
/* Put a disk on the controller of kind `bus`, which is made when it is first wanted. */
int drives_add_disk(struct drives *drives, uint32_t bus, struct vmm_block *block,
                    const char *serial, bool read_only, struct vmm_error *err);
int drives_add_cdrom(struct drives *drives, const struct cdrom_option *option,
                     struct vmm_error *err);
/* A floppy controller, with the DMA controllers that it needs, on a board with ports. */
int drives_add_floppy(struct drives *drives, const char *file, struct vmm_error *err);
/* Another medium in CD-ROM drive `number`; a NULL file takes it out. */
int drives_change(struct drives *drives, uint32_t number, const char *file, bool force);
/* Another floppy; a NULL file takes it out. */
int drives_change_floppy(struct drives *drives, const char *file);
/* Before the machine goes. */
void drives_forget(struct drives *drives);

#endif
