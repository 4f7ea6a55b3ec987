/* SPDX-License-Identifier: BSD-3-Clause */
/* The devices that the command line asks for. */
#include "devices.h"

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

int devices_add(const struct run_options *options, struct vmm_machine *machine,
                struct vmm_error *err)
{
    int rc = 0;
    if (options->rng)
        rc = add_rng(machine, err);
    return rc;
}
