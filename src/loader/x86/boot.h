/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside the x86 loader: the formats, and what they share. */
#ifndef LOADER_X86_BOOT_H
#define LOADER_X86_BOOT_H

#include "loader/load.h"

#include <libvmm/x86-boot.h>

#define VMM_X86_LOW_END (0xa0000ull - 1) /* conventional memory; last byte */
#define VMM_X86_4G_END  0xffffffffull

/* state.c ------------------------------------------------------------------------------------- */

/* Room for the structures that a kernel is handed: conventional memory if it has some, else below
 * 4 GiB. `top`: as high as possible there, out of the way of flat binaries. */
int vmm_x86_place(struct vmm_load *load, uint64_t length, uint64_t align, bool top,
                  uint64_t *address, const char *name);

/* Entry states. Each places a descriptor table (and page tables) in guest memory. The caller then
 * sets the general registers. */
int vmm_x86_enter_protected(struct vmm_load *load, struct vmm_x86_boot *boot, uint64_t entry,
                            bool top);
int vmm_x86_enter_long(struct vmm_load *load, struct vmm_x86_boot *boot, uint64_t entry, bool top);
void vmm_x86_enter_real(struct vmm_x86_boot *boot, uint64_t entry);

/* Put the registers into load->state. */
void vmm_x86_boot_put(struct vmm_load *load, const struct vmm_x86_boot *boot);

/* linux.c: what a Linux kernel is handed ------------------------------------------------------- */

#define VMM_LINUX_HEADER_OFFSET 0x1f1u /* of the setup header, in file and zero page */
#define VMM_LINUX_HEADER_MAX    0x28fu /* it ends here or before */

struct vmm_linux {
    uint8_t header[0x300];     /* as at offset 0 of the zero page; zero outside the setup header */
    uint32_t version;          /* of the protocol, 0x200 to 0x20f */
    uint64_t command_line_max; /* characters */
    uint64_t initrd_last;      /* the highest address of an initrd */
    bool initrd_above_4g;      /* if there is no room below that: anywhere */
};

/* A header as for a kernel that comes without one (ELF). */
void vmm_linux_header_default(struct vmm_linux *lx);
/* Initrd, command line, setup_data, zero page. The kernel is claimed already. */
int vmm_linux_parameters(struct vmm_load *load, struct vmm_linux *lx, uint64_t *zero_page);

/* The formats ---------------------------------------------------------------------------------- */

/* The setup header of the kernel file. false: it has none. */
bool vmm_bzimage_magic(const uint8_t *head, size_t length);
int vmm_bzimage_load(struct vmm_load *load);
/* Is there a note for PVH? 1, 0, or an error. */
int vmm_pvh_entry(const struct vmm_elf *elf, uint32_t *entry, struct vmm_error *err);
int vmm_pvh_load(struct vmm_load *load, const struct vmm_elf *elf);
/* `lx` has the header of the bzImage that the kernel was unpacked from; NULL: there is none. */
int vmm_linux64_load(struct vmm_load *load, const struct vmm_elf *elf, struct vmm_linux *lx);
/* 1 or 2: the version of the Multiboot header in the kernel file; 0: there is none. */
int vmm_multiboot_version(struct vmm_load *load);
int vmm_multiboot_load(struct vmm_load *load);
int vmm_flat_load(struct vmm_load *load);

#endif
