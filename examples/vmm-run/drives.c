/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks and CD-ROMs on controllers. */
#include "drives.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

const char *const drives_buses[] = {"virtio", "ahci", "ide", "scsi", "nvme", NULL};

const char *cdrom_parse(struct cdrom_option *option, char *text)
{
    char *key = strchr(text, ',');
    option->bus = DISK_ON_AHCI;
    if (key) {
        *key++ = '\0';
        if (strcmp(key, "if=ide") == 0)
            option->bus = DISK_ON_IDE;
        else if (strcmp(key, "if=ahci") != 0)
            return key;
    }
    option->file = strcmp(text, "none") == 0 ? NULL : text;
    return NULL;
}

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

/* At the interrupts of PCs. */
static int need_ide(struct drives *drives, struct vmm_error *err)
{
    struct vmm_ide_options o = VMM_IDE_OPTIONS_INIT;
    struct vmm_pci_host *host = vmm_machine_pci(drives->machine);
    int rc = 0;
    if (drives->ide)
        return 0;
    if (!host)
        return vmm_error_set(err, -ENODEV, "IDE wants a machine with PCI: --transport pci");
    o.name = "ide0";
    o.vm = vmm_machine_vm(drives->machine);
    o.memory = vmm_machine_memory(drives->machine);
    o.loop = vmm_machine_loop(drives->machine);
    o.ports = vmm_machine_ports(drives->machine);
    for (uint32_t i = 0; i < 2 && !rc; i++)
        rc = vmm_irq_line_new(o.vm, 14 + i, &o.irq[i]);
    if (rc)
        (void)vmm_error_set(err, rc, "IDE's interrupts: %s", strerror(-rc));
    else
        rc = vmm_ide_new(&o, &drives->ide, err);
    if (rc) {
        vmm_irq_line_free(o.irq[0]);
        vmm_irq_line_free(o.irq[1]);
        return rc;
    }
    rc = vmm_pci_host_add(host, vmm_ide_pci(drives->ide), VMM_PCI_ANY_SLOT, 0, err);
    if (!rc)
        rc = vmm_machine_add_device(drives->machine, vmm_pci_device(vmm_ide_pci(drives->ide)));
    return rc;
}

static int plug(struct drives *drives, uint32_t bus, const struct vmm_drive_options *o,
                struct vmm_error *err)
{
    int rc = bus == DISK_ON_IDE ? need_ide(drives, err) : need_ahci(drives, err);
    if (rc)
        return rc;
    return bus == DISK_ON_IDE ? vmm_ide_plug(drives->ide, drives->ide_used++, o, err)
                              : vmm_ahci_plug(drives->ahci, drives->ahci_used++, o, err);
}

int drives_add_disk(struct drives *drives, uint32_t bus, struct vmm_block *block,
                    const char *serial, bool read_only, struct vmm_error *err)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    o.type = VMM_DRIVE_DISK;
    o.block = block;
    o.serial = serial;
    o.read_only = read_only;
    return plug(drives, bus, &o, err);
}

static int open_image(struct drives *drives, const char *file, bool read_only,
                      struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = file;
    o.read_only = read_only;
    o.threads = 2;
    return vmm_block_raw_new(vmm_machine_loop(drives->machine), &o, out, err);
}

int drives_add_cdrom(struct drives *drives, const struct cdrom_option *option,
                     struct vmm_error *err)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    int rc = 0;
    if (option->file)
        rc = open_image(drives, option->file, true, &o.block, err);
    if (rc)
        return rc;
    o.type = VMM_DRIVE_CDROM;
    drives->cdrom_bus[drives->cdroms] = option->bus;
    drives->cdrom_port[drives->cdroms++] =
        option->bus == DISK_ON_IDE ? drives->ide_used : drives->ahci_used;
    rc = plug(drives, option->bus, &o, err);
    vmm_block_unref(o.block);
    return rc;
}

/* Where firmware and Linux look for the kind of drive: 3.5", 1.44 MB. */
static void tell_cmos(struct vmm_bus *ports)
{
    (void)vmm_bus_write(ports, 0x70, 1, 0x10);
    (void)vmm_bus_write(ports, 0x71, 1, 0x40);
}

static int make_floppy(struct drives *drives, struct vmm_block *block, struct vmm_error *err)
{
    struct vmm_floppy_options o = VMM_FLOPPY_OPTIONS_INIT;
    o.name = "floppy0";
    o.loop = vmm_machine_loop(drives->machine);
    o.dma = drives->dma;
    o.block = block;
    int rc = vmm_irq_line_new(vmm_machine_vm(drives->machine), 6, &o.irq);
    if (rc)
        return vmm_error_set(err, rc, "the floppy's interrupt: %s", strerror(-rc));
    rc = vmm_floppy_new(&o, &drives->floppy, err);
    if (rc)
        vmm_irq_line_free(o.irq);
    return rc;
}

int drives_add_floppy(struct drives *drives, const char *file, struct vmm_error *err)
{
    struct vmm_bus *ports = vmm_machine_ports(drives->machine);
    struct vmm_block *block = NULL;
    if (!ports)
        return vmm_error_set(err, -ENODEV, "a floppy wants a machine with ports");
    int rc = vmm_dma_new("dma0", vmm_machine_memory(drives->machine), &drives->dma);
    if (rc)
        return vmm_error_set(err, rc, "DMA: %s", strerror(-rc));
    rc = vmm_dma_attach(drives->dma, ports, err);
    rc = rc ? rc : open_image(drives, file, false, &block, err);
    rc = rc ? rc : make_floppy(drives, block, err);
    vmm_block_unref(block);
    rc = rc ? rc : vmm_floppy_attach(drives->floppy, ports, err);
    rc = rc ? rc : vmm_machine_add_device(drives->machine, vmm_dma_device(drives->dma));
    rc = rc ? rc : vmm_machine_add_device(drives->machine, vmm_floppy_device(drives->floppy));
    if (!rc)
        tell_cmos(ports);
    return rc;
}

int drives_change(struct drives *drives, uint32_t number, const char *file, bool force)
{
    struct vmm_block *block = NULL;
    if (number >= drives->cdroms)
        return -ENOENT;
    int rc = file ? open_image(drives, file, true, &block, NULL) : 0;
    uint32_t flags = force ? VMM_MEDIUM_FORCE : 0, port = drives->cdrom_port[number];
    if (!rc && drives->cdrom_bus[number] == DISK_ON_IDE)
        rc = vmm_ide_set_medium(drives->ide, port, block, flags, NULL);
    else if (!rc)
        rc = vmm_ahci_set_medium(drives->ahci, port, block, flags, NULL);
    vmm_block_unref(block);
    return rc;
}

int drives_change_floppy(struct drives *drives, const char *file)
{
    struct vmm_block *block = NULL;
    if (!drives->floppy)
        return -ENOENT;
    int rc = file ? open_image(drives, file, false, &block, NULL) : 0;
    if (!rc)
        rc = vmm_floppy_set_medium(drives->floppy, block, NULL);
    vmm_block_unref(block);
    return rc;
}

void drives_forget(struct drives *drives)
{
    drives->ahci = vmm_ahci_unref(drives->ahci);
    drives->ide = vmm_ide_unref(drives->ide);
    drives->floppy = vmm_floppy_unref(drives->floppy);
    drives->dma = vmm_dma_unref(drives->dma);
}
