/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two versions of Multiboot share: an image by ELF or by addresses in its header. */
#ifndef LOADER_X86_MULTIBOOT_H
#define LOADER_X86_MULTIBOOT_H

#include "loader/x86/info.h"

#define VMM_MULTIBOOT1_MAGIC  0x1badb002u
#define VMM_MULTIBOOT1_SEARCH 8192u
#define VMM_MULTIBOOT2_MAGIC  0xe85250d6u
#define VMM_MULTIBOOT2_SEARCH 32768u

struct vmm_multiboot {
    uint8_t *head;      /* the file's first bytes */
    size_t head_length; /* up to VMM_MULTIBOOT2_SEARCH */
    size_t header;      /* where the Multiboot header begins */
    uint32_t version;   /* 1 or 2 */
    bool has_addresses; /* the header says what to load where (the "a.out kludge") */
    bool has_entry;
    uint32_t header_address, load_address, load_end, bss_end, entry;
    bool relocatable; /* Multiboot 2 */
    uint32_t min_address, max_address, align, preference;
    bool wants_acpi; /* Multiboot 2: the RSDP is required, not only given if there is one */

    uint64_t low, last; /* where the image is in the end */
    uint64_t delta;     /* by how much it was moved, wrapping */
};

/* multiboot.c: load the image, fill in low, last, delta; `*entry` is where it starts. */
int vmm_multiboot_image(struct vmm_load *load, struct vmm_multiboot *mb, uint64_t *entry);

/* multiboot1.c and multiboot2.c */
bool vmm_multiboot1_find(const uint8_t *head, size_t length, size_t *at);
int vmm_multiboot1_parse(struct vmm_load *load, struct vmm_multiboot *mb);
int vmm_multiboot1_info(struct vmm_load *load, const struct vmm_x86_modules *modules);
bool vmm_multiboot2_find(const uint8_t *head, size_t length, size_t *at);
int vmm_multiboot2_parse(struct vmm_load *load, struct vmm_multiboot *mb);
int vmm_multiboot2_info(struct vmm_load *load, const struct vmm_multiboot *mb,
                        const struct vmm_x86_modules *modules);

#endif
