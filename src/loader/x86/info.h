/* SPDX-License-Identifier: BSD-3-Clause */
/* Modules in guest memory, for PVH and Multiboot: the initrd first, then the caller's. */
#ifndef LOADER_X86_INFO_H
#define LOADER_X86_INFO_H

#include "loader/x86/boot.h"

struct vmm_x86_module {
    uint64_t address;
    uint64_t length;
    const char *command_line;
};

struct vmm_x86_modules {
    struct vmm_x86_module entries[VMM_KERNEL_MODULES_MAX + 1];
    size_t count;
};

/* Place all of them, on pages of their own, above `low` if there is room, else below it, but between
 * 1 MiB and 4 GiB, and load them. */
int vmm_x86_load_modules(struct vmm_load *load, uint64_t low, struct vmm_x86_modules *modules);

/* A structure of a bounded size that is built here and then written to the guest at once. */
struct vmm_x86_blob {
    uint8_t *data;
    size_t length;
    size_t room;
    uint64_t address; /* of data[0] in the guest */
};

/* Get room, on both sides. */
int vmm_x86_blob_new(struct vmm_load *load, struct vmm_x86_blob *blob, size_t room,
                     const char *name);
void vmm_x86_blob_free(struct vmm_x86_blob *blob);
/* The next `length` bytes, zeroed, at a multiple of `align`; the caller has counted the room. */
uint8_t *vmm_x86_blob_take(struct vmm_x86_blob *blob, size_t length, size_t align,
                           uint64_t *address);
/* A text with its terminator. Returns its address. */
uint64_t vmm_x86_blob_text(struct vmm_x86_blob *blob, const char *text);
int vmm_x86_blob_write(struct vmm_load *load, const struct vmm_x86_blob *blob, const char *name);

/* What the texts of all modules and the command line take. */
size_t vmm_x86_texts_size(const struct vmm_load *load, const struct vmm_x86_modules *modules);

/* No device tree and no random seed, which only Linux's zero page can pass on. */
int vmm_x86_refuse_setup_data(struct vmm_load *load);

#endif
