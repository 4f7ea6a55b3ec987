/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks and CD-ROMs on controllers: --disk …,if=ahci and --cdrom, and their media while the guest runs. */
#ifndef VMM_RUN_DRIVES_H
#define VMM_RUN_DRIVES_H

#include <libvmm/storage.h>
#include <libvmm/vmm.h>

#define CDROMS_MAX 2

/* Where a disk is attached. */
enum {
    DISK_ON_VIRTIO,
    DISK_ON_AHCI,
};

struct cdrom_option {
    const char *file; /* NULL: an empty drive */
};

/* The names of the attachments, for if=; they end with NULL. */
extern const char *const drives_buses[];

struct drives {
    struct vmm_machine *machine;
    struct vmm_ahci *ahci;
    uint32_t ahci_used; /* ports */
    uint32_t cdrom_port[CDROMS_MAX];
    uint32_t cdroms;
};

void drives_init(struct drives *drives, struct vmm_machine *machine);
/* Put a disk on the controller of kind `bus`, which is made when it is first wanted. */
int drives_add_disk(struct drives *drives, uint32_t bus, struct vmm_block *block,
                    const char *serial, bool read_only, struct vmm_error *err);
int drives_add_cdrom(struct drives *drives, const struct cdrom_option *option,
                     struct vmm_error *err);
/* Another medium in CD-ROM drive `number`; a NULL file takes it out. */
int drives_change(struct drives *drives, uint32_t number, const char *file, bool force);
/* Before the machine goes. */
void drives_forget(struct drives *drives);

#endif
