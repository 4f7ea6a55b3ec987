/* SPDX-License-Identifier: BSD-3-Clause */
/* One loading of a kernel: what the neutral part prepares for the architecture's. */
#ifndef LOADER_LOAD_H
#define LOADER_LOAD_H

#include "loader/elf.h"
#include "loader/layout.h"
#include "loader/source.h"

#define VMM_KERNEL_MODULES_MAX      256u
#define VMM_KERNEL_SEED_MAX         4096u
#define VMM_KERNEL_TREE_MAX         (2u << 20)
#define VMM_KERNEL_COMMAND_LINE_MAX 65535u /* where no format says less */

struct vmm_load {
    struct vmm_memory *memory;
    struct vmm_kernel_options options; /* checked copy */
    const char *command_line;          /* never NULL */
    struct vmm_source kernel;
    struct vmm_source initrd; /* length 0: none */
    struct vmm_layout layout;
    struct vmm_boot_state state; /* what the caller gets in the end */
    struct vmm_error *err;
};

/* Architecture: finish options.format AUTO, place and load everything, fill in the state. */
int vmm_arch_kernel_load(struct vmm_load *load);

/* Command line, with its terminator, into guest memory at a claimed address. */
int vmm_load_command_line(struct vmm_load *load, uint64_t address);
/* -E2BIG when it is longer than `max` characters. */
int vmm_load_check_command_line(const struct vmm_load *load, uint64_t max);

/* vmm_memory_write() with a text. */
int vmm_load_write(struct vmm_load *load, uint64_t address, const void *data, size_t length,
                   const char *what);

/* Read [offset, offset+length) of the kernel, unpack it, and let it be the kernel instead. */
int vmm_load_unpack(struct vmm_load *load, uint64_t offset, uint64_t length);

#endif
