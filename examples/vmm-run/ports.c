/* SPDX-License-Identifier: BSD-3-Clause */
#include "ports.h"

#include <libvmm/machine.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* --vsock -------------------------------------------------------------------------------------- */

const char *ports_parse_vsock(struct port_options *o, char *text)
{
    char *end;
    if (o->vsock_path)
        return "a guest has one";
    errno = 0;
    o->vsock_cid = strtoull(text, &end, 10);
    if (errno || end == text || *text == '-' || *end != ',' || !end[1])
        return "it is CID,PATH, where CID is the guest's address, from 3";
    o->vsock_path = end + 1;
    return NULL;
}

static int add_vsock(const struct port_options *options, struct vmm_machine *machine,
                     struct vmm_error *err)
{
    const struct vmm_virtio_place place = place_of(machine, "vsock0");
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    o.cid = options->vsock_cid;
    o.path = options->vsock_path;
    int rc = vmm_virtio_vsock_new(&place, &o, &virtio, err);
    return rc ? rc : hand_over(machine, virtio, err);
}

int ports_add(const struct port_options *options, struct vmm_machine *machine,
              struct vmm_error *err)
{
    return options->vsock_path ? add_vsock(options, machine, err) : 0;
}
