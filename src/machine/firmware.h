/* SPDX-License-Identifier: BSD-3-Clause */
/* What boards with firmware share. */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include "machine/internal.h"

#include <libvmm/pflash.h>

/* Read a whole firmware file of 64 KiB to `most` bytes, a multiple of 4096. The caller frees it. */
int vmm_machine_read_firmware(const char *path, uint64_t most, uint8_t **data, size_t *length,
                              struct vmm_error *err);

/* Where the flash of variables is. */
struct vmm_machine_vars {
    uint64_t address;
    uint64_t below; /* or it ends here, where not 0 */
    uint64_t room;  /* its length at most */
    uint64_t blank; /* its length where the embedder names no file: it is erased and not kept */
    uint32_t bank_width, block;
    int32_t priority;
};

/* Make it and add it to the machine's devices; the caller has the reference. */
int vmm_machine_add_vars(struct vmm_machine *machine, const struct vmm_machine_vars *where,
                         struct vmm_pflash **out, struct vmm_error *err);

#endif
