/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks and CD-ROMs on controllers. */
#include "drives.h"

#include <errno.h>
#include <string.h>

const char *const drives_buses[] = {"virtio", "ahci", NULL};

void drives_init(struct drives *drives, struct vmm_machine *machine)
{
    *drives = (struct drives){.machine = machine};
}

static int need_ahci(struct drives *drives, struct vmm_error *err)
{
    struct vmm_ahci_options o = VMM_AHCI_OPTIONS_INIT;
    struct vmm_pci_host *host = vmm_machine_pci(drives->machine);
    if (drives->ahci)
        return 0;
    if (!host)
        return vmm_error_set(err, -ENODEV, "AHCI wants a machine with PCI: --transport pci");
    o.name = "ahci0";
    o.vm = vmm_machine_vm(drives->machine);
    o.memory = vmm_machine_memory(drives->machine);
    o.loop = vmm_machine_loop(drives->machine);
    int rc = vmm_ahci_new(&o, &drives->ahci, err);
    if (!rc)
        rc = vmm_pci_host_add(host, vmm_ahci_pci(drives->ahci), VMM_PCI_ANY_SLOT, 0, err);
    if (!rc)
        rc = vmm_machine_add_device(drives->machine, vmm_pci_device(vmm_ahci_pci(drives->ahci)));
    return rc;
}

int drives_add_disk(struct drives *drives, uint32_t bus, struct vmm_block *block,
                    const char *serial, bool read_only, struct vmm_error *err)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    (void)bus;
    int rc = need_ahci(drives, err);
    o.type = VMM_DRIVE_DISK;
    o.block = block;
    o.serial = serial;
    o.read_only = read_only;
    return rc ? rc : vmm_ahci_plug(drives->ahci, drives->ahci_used++, &o, err);
}

static int open_iso(struct drives *drives, const char *file, struct vmm_block **out,
                    struct vmm_error *err)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = file;
    o.read_only = 1;
    o.threads = 2;
    return vmm_block_raw_new(vmm_machine_loop(drives->machine), &o, out, err);
}

int drives_add_cdrom(struct drives *drives, const struct cdrom_option *option,
                     struct vmm_error *err)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    int rc = need_ahci(drives, err);
    if (!rc && option->file)
        rc = open_iso(drives, option->file, &o.block, err);
    if (rc)
        return rc;
    o.type = VMM_DRIVE_CDROM;
    drives->cdrom_port[drives->cdroms++] = drives->ahci_used;
    rc = vmm_ahci_plug(drives->ahci, drives->ahci_used++, &o, err);
    vmm_block_unref(o.block);
    return rc;
}

int drives_change(struct drives *drives, uint32_t number, const char *file, bool force)
{
    struct vmm_block *block = NULL;
    if (number >= drives->cdroms)
        return -ENOENT;
    int rc = file ? open_iso(drives, file, &block, NULL) : 0;
    if (!rc)
        rc = vmm_ahci_set_medium(drives->ahci, drives->cdrom_port[number], block,
                                 force ? VMM_MEDIUM_FORCE : 0, NULL);
    vmm_block_unref(block);
    return rc;
}

void drives_forget(struct drives *drives)
{
    drives->ahci = vmm_ahci_unref(drives->ahci);
}
