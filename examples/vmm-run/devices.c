/* SPDX-License-Identifier: BSD-3-Clause */
/* The devices that the command line asks for. */
#include "devices.h"
#include "scsi.h"

#include "nvme.h"

#include <stdio.h>

static struct vmm_virtio_place place_of(struct vmm_machine *machine, const char *name)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    return place;
}

/* The machine holds what it took; our own reference ends here either way. */
static int hand_over(struct vmm_machine *machine, struct vmm_virtio *virtio, struct vmm_error *err)
{
    int rc = vmm_machine_add_virtio(machine, virtio, err);
    vmm_virtio_unref(virtio);
    return rc;
}

static int add_rng(struct vmm_machine *machine, struct vmm_error *err)
{
    const struct vmm_virtio_place place = place_of(machine, "rng0");
    struct vmm_virtio *virtio;
    int rc = vmm_virtio_rng_new(&place, &virtio, err);
    return rc ? rc : hand_over(machine, virtio, err);
}

int devices_make_disk(struct vmm_machine *machine, const char *name, const struct disk_option *d,
                      struct vmm_block *block, struct vmm_virtio **out, struct vmm_error *err)
{
    struct vmm_virtio_place place = place_of(machine, name);
    struct vmm_virtio_blk_options o = VMM_VIRTIO_BLK_OPTIONS_INIT;
    place.loop = vmm_block_loop(block);
    o.block = block;
    o.serial = d->serial;
    o.queues = d->queues;
    o.read_only = d->read_only;
    return vmm_virtio_blk_new(&place, &o, out, err);
}

/* The name is the place on the board, so that it is the same in every run. */
static int add_disk(struct disks *disks, struct drives *drives, struct iothreads *threads,
                    struct vmm_machine *machine, const struct disk_option *d, uint32_t number,
                    struct vmm_error *err)
{
    char name[16];
    struct vmm_block *block;
    struct vmm_virtio *virtio;
    struct vmm_loop *loop =
        d->bus == DISK_ON_VIRTIO ? iothreads_loop(threads, machine) : vmm_machine_loop(machine);
    int rc = disks_open(disks, loop, d, &block, err);
    if (rc)
        return rc;
    if (d->bus == DISK_ON_NVME)
        return nvme_add(machine, d, number, block, &drives->boot, err);
    if (d->bus != DISK_ON_VIRTIO) {
        rc = drives_add_disk(drives, d->bus, block, d->serial, d->read_only, err);
        vmm_block_unref(block);
        if (!rc && d->bus == DISK_ON_IDE)
            boot_add(&drives->boot, d->boot_index, vmm_ide_pci(drives->ide), drives->ide_used - 1);
        else if (!rc)
            boot_add(&drives->boot, d->boot_index, vmm_ahci_pci(drives->ahci),
                     drives->ahci_used - 1);
        return rc;
    }
    (void)snprintf(name, sizeof(name), "disk%u", number);
    rc = devices_make_disk(machine, name, d, block, &virtio, err);
    vmm_block_unref(block);
    if (rc)
        return rc;
    rc = hand_over(machine, virtio, err); /* the machine holds it */
    if (!rc && d->boot_index)
        boot_add(&drives->boot, d->boot_index, vmm_virtio_pci(virtio), 0);
    return rc;
}

static int add_balloon(struct vmm_machine *machine, struct vmm_virtio **out, struct vmm_error *err)
{
    const struct vmm_virtio_place place = place_of(machine, "balloon0");
    int rc = vmm_virtio_balloon_new(&place, out, err);
    return rc ? rc : hand_over(machine, *out, err);
}

int devices_add(const struct run_options *options, struct disks *disks, struct drives *drives,
                struct iothreads *threads, struct vmm_machine *machine, struct vmm_virtio **balloon,
                struct vmm_error *err)
{
    int rc = 0;
    *balloon = NULL;
    for (uint32_t i = 0; i < options->disk_count && !rc; i++)
        if (options->disks[i].bus != DISK_ON_SCSI)
            rc = add_disk(disks, drives, threads, machine, &options->disks[i], i, err);
    for (uint32_t i = 0; i < options->cdrom_count && !rc; i++)
        rc = drives_add_cdrom(drives, &options->cdroms[i], err);
    if (!rc && options->floppy)
        rc = drives_add_floppy(drives, options->floppy, err);
    if (!rc)
        rc = scsi_add(options, disks, machine, err);
    if (!rc && options->rng)
        rc = add_rng(machine, err);
    if (!rc)
        rc = net_add(&options->nets, threads, machine, err);
    if (!rc)
        rc = share_add(&options->shares, machine, err);
    if (!rc)
        rc = vhost_user_add(&options->vhost_user, machine, err);
    if (!rc && options->balloon)
        rc = add_balloon(machine, balloon, err);
    return rc ? rc : boot_apply(&drives->boot, machine, err);
}
