/* SPDX-License-Identifier: BSD-3-Clause */
/* --pmem: files as persistent memory. */
#ifndef VMM_RUN_PMEM_H
#define VMM_RUN_PMEM_H

#include <libvmm/vmm.h>

#define PMEMS_MAX 8

struct pmem_options {
    const char *file[PMEMS_MAX];
    uint32_t count;
};

/* `memory_max`: what the machine's RAM may grow to. */
int pmem_add(const struct pmem_options *options, struct vmm_host *host, struct vmm_machine *machine,
             uint64_t memory_max, struct vmm_error *err);

#endif
