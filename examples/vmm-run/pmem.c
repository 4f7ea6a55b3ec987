/* SPDX-License-Identifier: BSD-3-Clause */
/* --pmem: files as persistent memory. */
#include "pmem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define GIB  (UINT64_C(1) << 30)
#define UNIT (UINT64_C(2) << 20)

/* Above RAM, which has its end at most 4 GiB higher than its size, and the PCI windows on top of it. */
static uint64_t first_place(uint64_t memory_max)
{
    return (memory_max / (4 * GIB) + 1) * 4 * GIB + 68 * GIB;
}

static int check_place(const struct vmm_host *host, uint64_t end, struct vmm_error *err)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    int rc = vmm_host_get_info(host, &info);
    if (rc ||
        (info.address_bits && info.address_bits < 64 && end > UINT64_C(1) << info.address_bits))
        return vmm_error_set(err, rc ? rc : -ENOSPC,
                             "--pmem: the processor's addresses end at 2^%u", info.address_bits);
    return 0;
}

static int add_one(const char *file, uint32_t number, uint64_t address, struct vmm_machine *machine,
                   struct vmm_error *err)
{
    char name[16];
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_pmem_options o = VMM_VIRTIO_PMEM_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    (void)snprintf(name, sizeof(name), "pmem%u", number);
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    o.path = file;
    o.address = address;
    o.worker = 1;
    int rc = vmm_virtio_pmem_new(&place, &o, &virtio, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_virtio(machine, virtio, err);
    vmm_virtio_unref(virtio);
    return rc;
}

int pmem_add(const struct pmem_options *options, struct vmm_host *host, struct vmm_machine *machine,
             uint64_t memory_max, struct vmm_error *err)
{
    uint64_t address = first_place(memory_max);
    for (uint32_t i = 0; i < options->count; i++) {
        struct stat st;
        if (stat(options->file[i], &st) < 0)
            return vmm_error_set(err, -errno, "--pmem %s cannot be opened", options->file[i]);
        uint64_t length = ((uint64_t)st.st_size + UNIT - 1) / UNIT * UNIT;
        int rc = check_place(host, address + length, err);
        rc = rc ? rc : add_one(options->file[i], i, address, machine, err);
        if (rc)
            return rc;
        /* Linux takes memory in sections of 128 MiB: let two never share one. */
        address += (length / GIB + 1) * GIB;
    }
    return 0;
}
