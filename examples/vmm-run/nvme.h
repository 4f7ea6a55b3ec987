/* SPDX-License-Identifier: BSD-3-Clause */
/* --disk …,if=nvme */
#ifndef VMM_RUN_NVME_H
#define VMM_RUN_NVME_H

#include "disks.h"

/* An NVMe controller with the disk as its namespace 1. Takes over the reference to `block`. */
int nvme_add(struct vmm_machine *machine, const struct disk_option *option, uint32_t number,
             struct vmm_block *block, struct boot_order *boot, struct vmm_error *err);

#endif
