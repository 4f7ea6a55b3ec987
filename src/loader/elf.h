/* SPDX-License-Identifier: BSD-3-Clause */
/* ELF executables, 32 and 64 bits, little-endian: headers checked once, segments loaded by their
 * physical addresses. System V ABI, chapters 4 and 5. */
#ifndef LOADER_ELF_H
#define LOADER_ELF_H

#include "loader/layout.h"
#include "loader/source.h"

#define VMM_ELF_SEGMENTS_MAX 256u

#define VMM_ELF_MACHINE_386    3u
#define VMM_ELF_MACHINE_X86_64 62u

#define VMM_ELF_LOAD 1u
#define VMM_ELF_NOTE 4u

struct vmm_elf_segment {
    uint32_t type;
    uint32_t index; /* in the program header table */
    uint64_t offset;
    uint64_t file_size;
    uint64_t virtual_address;
    uint64_t address; /* p_paddr */
    uint64_t memory_size;
    uint64_t align;
};

struct vmm_elf {
    const struct vmm_source *source;
    bool is64;
    uint32_t machine;
    uint64_t entry;
    struct vmm_elf_segment *segments; /* PT_LOAD (not the empty ones) and PT_NOTE */
    size_t segment_count;
    uint64_t low;  /* the lowest physical address of a PT_LOAD */
    uint64_t last; /* the highest, inclusive */
};

/* Does the file begin like an ELF file? */
bool vmm_elf_magic(const uint8_t *head, size_t length);

/* Read and check the headers. -ENOEXEC names the field. vmm_elf_close() frees. */
int vmm_elf_open(struct vmm_elf *elf, const struct vmm_source *source, struct vmm_error *err);
void vmm_elf_close(struct vmm_elf *elf);

/* The entry as a physical address: a virtual one is looked up in the segments. */
int vmm_elf_physical_entry(const struct vmm_elf *elf, uint64_t *entry, struct vmm_error *err);

/* Claim the memory of every segment, `delta` bytes above its physical address (wrapping), ... */
int vmm_elf_claim(const struct vmm_elf *elf, struct vmm_layout *layout, uint64_t delta,
                  struct vmm_error *err);
/* ... and fill it. */
int vmm_elf_load(const struct vmm_elf *elf, struct vmm_memory *memory, uint64_t delta,
                 struct vmm_error *err);

/* Copy the descriptor of the first note of this name and type; up to `room` bytes of it, `*length`
 * gets its real length. -ENOENT: there is none. -ENOEXEC: damaged notes. */
int vmm_elf_note(const struct vmm_elf *elf, const char *name, uint32_t type, uint8_t *data,
                 size_t room, size_t *length, struct vmm_error *err);

#endif
