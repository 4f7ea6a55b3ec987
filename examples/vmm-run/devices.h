/* SPDX-License-Identifier: BSD-3-Clause */
/* The devices that the command line asks for, put on the machine before it is realized. */
#ifndef VMM_RUN_DEVICES_H
#define VMM_RUN_DEVICES_H

#include "disks.h"
#include "drives.h"
#include "iothreads.h"
#include "options.h"

#include <libvmm/machine.h>

/* 0, or a negative errno with a text. The machine holds the devices; `*balloon` is the balloon among
 * them, or NULL. */
int devices_add(const struct run_options *options, struct disks *disks, struct drives *drives,
                struct iothreads *threads, struct vmm_machine *machine, struct vmm_virtio **balloon,
                struct vmm_error *err);

/* A virtio disk, on no bus yet, and on its backend's loop. */
int devices_make_disk(struct vmm_machine *machine, const char *name, const struct disk_option *disk,
                      struct vmm_block *block, struct vmm_virtio **out, struct vmm_error *err);

#endif
