/* SPDX-License-Identifier: BSD-3-Clause */
/* --disk with if=scsi: units of one SCSI controller. */
#ifndef VMM_RUN_SCSI_H
#define VMM_RUN_SCSI_H

#include "disks.h"

/* A controller with those of the disks that are for it, in their order. Nothing where none is. */
int scsi_add(const struct run_options *options, struct disks *disks, struct vmm_machine *machine,
             struct vmm_error *err);

#endif
