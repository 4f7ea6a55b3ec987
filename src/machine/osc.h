/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MACHINE_OSC_H
#define MACHINE_OSC_H

#include <libvmm/aml.h>

/* The method _OSC of a host bridge of PCI Express: everything is the guest's. */
void vmm_machine_add_osc(struct vmm_aml *aml);

#endif
