/* SPDX-License-Identifier: BSD-3-Clause */
/* What a run cost, as JSON. */
#ifndef VMM_RUN_REPORT_H
#define VMM_RUN_REPORT_H

#include "options.h"

#include <libvmm/machine.h>

/* CLOCK_MONOTONIC, in nanoseconds. */
struct run_times {
    uint64_t process_start; /* when the kernel started this process */
    uint64_t machine_made;
    uint64_t realized;
    uint64_t started;
    uint64_t ended;
};

uint64_t time_now(void);
uint64_t time_of_process_start(void);

/* Write the report. Returns 0 or a negative errno. */
int report_write(const char *path, struct vmm_host *host, struct vmm_machine *machine,
                 const struct run_options *options, const struct run_times *times,
                 const struct vmm_outcome *outcome, int status);

#endif
