/* SPDX-License-Identifier: BSD-3-Clause */
/* --disk …,if=nvme: a controller for each disk, so that each has its serial number. */
#include "nvme.h"

#include <errno.h>
#include <stdio.h>

static int attach(struct vmm_machine *machine, struct vmm_nvme *nvme, const struct disk_option *d,
                  struct vmm_block *block, struct vmm_error *err)
{
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    struct vmm_pci *pci = vmm_nvme_pci(nvme);
    ns.block = block;
    ns.read_only = d->read_only;
    int rc = vmm_nvme_add(nvme, &ns, NULL, err);
    rc = rc ? rc : vmm_pci_host_add(vmm_machine_pci(machine), pci, VMM_PCI_ANY_SLOT, 0, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_device(machine, vmm_pci_device(pci));
    return rc ? vmm_error_set(err, rc, "the NVMe controller's name is taken") : 0;
}

int nvme_add(struct vmm_machine *machine, const struct disk_option *d, uint32_t number,
             struct vmm_block *block, struct boot_order *boot, struct vmm_error *err)
{
    char name[16];
    struct vmm_nvme_options o = VMM_NVME_OPTIONS_INIT;
    struct vmm_nvme *nvme = NULL;
    int rc = 0;
    (void)snprintf(name, sizeof(name), "nvme%u", number);
    o.name = name;
    o.vm = vmm_machine_vm(machine);
    o.memory = vmm_machine_memory(machine);
    o.loop = vmm_machine_loop(machine);
    o.serial = d->serial;
    o.queues = d->queues;
    if (!vmm_machine_pci(machine))
        rc = vmm_error_set(err, -ENOTSUP, "if=nvme needs a machine with PCI");
    if (!rc)
        rc = vmm_nvme_new(&o, &nvme, err);
    if (!rc)
        rc = attach(machine, nvme, d, block, err);
    if (!rc)
        boot_add(boot, d->boot_index, vmm_nvme_pci(nvme), 1);
    vmm_nvme_unref(nvme);
    vmm_block_unref(block);
    return rc;
}
