/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks' host side: images, what lies over them, and what happens when the host's disk fails. */
#ifndef VMM_RUN_DISKS_H
#define VMM_RUN_DISKS_H

#include "options.h"

#include <libvmm/machine.h>

struct disks {
    struct vmm_machine *machine;
    struct vmm_block *policies[DISKS_MAX + PLUG_SLOTS_MAX];
    uint32_t count;
    uint32_t stopped; /* disks that the VM waits for: so many pauses are ours */
};

void disks_init(struct disks *disks, struct vmm_machine *machine);
/* Open what the option names. The caller gets a reference. */
int disks_open(struct disks *disks, struct vmm_loop *loop, const struct disk_option *option,
               struct vmm_block **out, struct vmm_error *err);
/* Let go of what disks_open() gave. */
void disks_close(struct disks *disks, struct vmm_block *block);
/* Does the VM wait for a disk? */
bool disks_stopped(const struct disks *disks);
/* Try again what has failed. */
void disks_retry(struct disks *disks);
/* Before the machine goes. */
void disks_forget(struct disks *disks);

#endif
