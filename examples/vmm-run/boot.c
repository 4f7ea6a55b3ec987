/* SPDX-License-Identifier: BSD-3-Clause */
/* The lowest bootindex= first; equal ones as they were given. */
#include "boot.h"

void boot_add(struct boot_order *order, uint32_t index, struct vmm_pci *pci, uint32_t unit)
{
    uint32_t at = order->count;
    if (!index || order->count == BOOT_MAX)
        return;
    for (; at && order->entries[at - 1].index > index; at--)
        order->entries[at] = order->entries[at - 1];
    order->entries[at].index = index;
    order->entries[at].device = (struct vmm_boot_device){.pci = pci, .unit = unit};
    order->count++;
}

int boot_apply(struct boot_order *order, struct vmm_machine *machine, struct vmm_error *err)
{
    struct vmm_boot_device devices[BOOT_MAX];
    for (uint32_t i = 0; i < order->count; i++)
        devices[i] = order->entries[i].device;
    return order->count ? vmm_machine_set_boot_order(machine, devices, order->count, err) : 0;
}
