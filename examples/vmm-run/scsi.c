/* SPDX-License-Identifier: BSD-3-Clause */
/* --disk with if=scsi: units of one SCSI controller. */
#include "scsi.h"

struct units {
    struct vmm_virtio_scsi_unit unit[DISKS_MAX];
    const struct vmm_virtio_scsi_unit *list[DISKS_MAX];
    uint32_t count;
};

static int open_units(const struct run_options *options, struct disks *disks, struct vmm_loop *loop,
                      struct units *units, struct vmm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < options->disk_count && !rc; i++) {
        const struct disk_option *d = &options->disks[i];
        struct vmm_virtio_scsi_unit *u = &units->unit[units->count];
        if (d->bus != DISK_ON_SCSI)
            continue;
        *u = (struct vmm_virtio_scsi_unit)VMM_VIRTIO_SCSI_UNIT_INIT;
        u->serial = d->serial;
        u->cdrom = d->cdrom;
        u->read_only = d->read_only;
        rc = disks_open(disks, loop, d, &u->block, err);
        if (!rc)
            units->list[units->count++] = u;
    }
    return rc;
}

int scsi_add(const struct run_options *options, struct disks *disks, struct vmm_machine *machine,
             struct vmm_error *err)
{
    struct units units = {.count = 0};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_scsi_options o = VMM_VIRTIO_SCSI_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    place.name = "scsi0";
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    int rc = open_units(options, disks, place.loop, &units, err);
    o.units = units.list;
    o.unit_count = units.count;
    if (!rc && units.count) {
        rc = vmm_virtio_scsi_new(&place, &o, &virtio, err);
        if (!rc) {
            rc = vmm_machine_add_virtio(machine, virtio, err);
            vmm_virtio_unref(virtio);
        }
    }
    for (uint32_t i = 0; i < units.count; i++)
        vmm_block_unref(units.unit[i].block);
    return rc;
}
