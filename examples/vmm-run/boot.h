/* SPDX-License-Identifier: BSD-3-Clause */
/* bootindex= of --disk: which device firmware tries first. */
#ifndef BOOT_H
#define BOOT_H

#include <libvmm/machine.h>

#define BOOT_MAX 16

struct boot_order {
    struct {
        uint32_t index;
        struct vmm_boot_device device;
    } entries[BOOT_MAX];
    uint32_t count;
};

/* Index 0: not asked for. `pci` is the function, `unit` as in struct vmm_boot_device. */
void boot_add(struct boot_order *order, uint32_t index, struct vmm_pci *pci, uint32_t unit);
/* Nothing is done where nothing was asked for. */
int boot_apply(struct boot_order *order, struct vmm_machine *machine, struct vmm_error *err);

#endif
