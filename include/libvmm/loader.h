/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file loader.h
 * Booting a kernel directly: its file, initrd and command line into guest memory, and the state in
 * which the first vCPU enters it.
 *
 * The loader knows memory and processors, but no device: what a board has in its address space comes
 * by the memory map, the ACPI tables by their address. Files are hostile: every field is checked
 * against the file's size, the memory map and everything else that has been placed; an error names
 * the field. Architecture headers (x86-boot.h) say what the entry state is and apply it to a vCPU.
 */
#ifndef LIBVMM_LOADER_H
#define LIBVMM_LOADER_H

#include <libvmm/memory.h>

VMM_BEGIN_DECLS

/** A file to load: by path, else from memory, else by descriptor. Stays the caller's; a descriptor
 *  must be of a regular file or block device, and its position is not used. */
struct vmm_file {
    const char *path;   /**< NULL: not by path */
    const void *data;   /**< NULL: not from memory */
    size_t data_length; /**< bytes at `data` */
    int32_t fd;         /**< negative: not by descriptor */
    uint32_t reserved;  /**< zero */
};
#define VMM_FILE_INIT                                                                              \
    {                                                                                              \
        0, 0, 0, -1, 0                                                                             \
    }

/* Types of memory map entries: those of ACPI's address range table (ACPI 6.5, table 15.4). */
#define VMM_MEMORY_MAP_RAM      1u
#define VMM_MEMORY_MAP_RESERVED 2u
#define VMM_MEMORY_MAP_ACPI     3u /**< ACPI tables, free once the guest has read them */
#define VMM_MEMORY_MAP_NVS      4u
#define VMM_MEMORY_MAP_UNUSABLE 5u
#define VMM_MEMORY_MAP_PMEM     7u

/** What the guest is told about a stretch of its address space. Where entries overlap, the one that
 *  is not RAM counts. */
struct vmm_memory_map_entry {
    uint64_t address;
    uint64_t length;
    uint32_t type;     /**< VMM_MEMORY_MAP_… */
    uint32_t reserved; /**< zero */
};

/** A further file for kernels that take several (Multiboot, PVH). */
struct vmm_kernel_module {
    struct vmm_file file;
    const char *command_line; /**< NULL: "" */
};

/* What the kernel file is, and by which door it is entered. */
/** By the file's magic: bzImage, ELF with a PVH note, Multiboot 2 or 1, ELF vmlinux. Never flat. */
#define VMM_KERNEL_AUTO 0u
/** Linux bzImage, protocol 2.00 and later: the 64-bit entry if it has one, else the 32-bit one. */
#define VMM_KERNEL_BZIMAGE   1u
#define VMM_KERNEL_BZIMAGE32 2u /**< its 32-bit entry */
#define VMM_KERNEL_BZIMAGE64 3u /**< its 64-bit entry */
#define VMM_KERNEL_PVH       4u /**< ELF with Xen's PHYS32_ENTRY note */
#define VMM_KERNEL_LINUX64   5u /**< Linux's ELF vmlinux, entered as by the 64-bit boot protocol */
#define VMM_KERNEL_MULTIBOOT 6u /**< Multiboot 2 if there is such a header, else Multiboot 1 */
#define VMM_KERNEL_FLAT16    7u /**< bytes, entered in real mode */
#define VMM_KERNEL_FLAT32    8u /**< bytes, entered in protected mode without paging */
#define VMM_KERNEL_FLAT64                                                                          \
    9u /**< bytes, entered in long mode, the first 4 GiB mapped to themselves */

#define VMM_KERNEL_IMAGE 10u /**< Linux's arm64 Image: plain, packed by gzip, or EFI zboot */

struct vmm_kernel_options {
    size_t size;
    struct vmm_file kernel;
    uint32_t format; /**< VMM_KERNEL_… */
    /** Non-zero: a bzImage's payload is unpacked by the library and the ELF kernel in it is entered
     *  directly, by LINUX64 (formats AUTO, BZIMAGE, BZIMAGE64, LINUX64) or PVH. The guest saves the
     *  time; its own unpacker, which would move the kernel to a random address, does not run. */
    uint32_t unpack;
    /** Where it is loaded. 0: where the format says (flat: 0x1000). Only for flat binaries and
     *  relocatable bzImages. */
    uint64_t load_address;
    struct vmm_file initrd;   /**< may be none; for Multiboot and PVH it is the first module */
    const char *command_line; /**< NULL: "" */
    /** The guest's address space. 0 entries: RAM from address 0 as far as it reaches, without the
     *  legacy hole from 0xa0000 to 0xfffff. At most 1024; the bzImage and ELF formats show it to
     *  the guest as it is. */
    const struct vmm_memory_map_entry *memory_map;
    size_t memory_map_count;
    /** ACPI's root pointer, already in guest memory; 0: none. Not told to flat binaries or by
     *  Multiboot 1. */
    uint64_t acpi_rsdp;
    /** A device tree blob, given to Linux as setup_data; NULL: none. arm64: needed; the library adds what is in
     *  `/chosen`. */
    const void *device_tree;
    size_t device_tree_length;
    const struct vmm_kernel_module *modules;
    size_t module_count; /**< at most 256 */
    /** Random bytes for the guest's generator, given to Linux as setup_data; other formats have no
     *  way to pass them and go without. Fresh ones for each boot. At most 4096 bytes; NULL: none. */
    const void *random_seed;
    size_t random_seed_length;
};
#define VMM_KERNEL_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_kernel_options), VMM_FILE_INIT, 0, 0, 0, VMM_FILE_INIT, 0, 0, 0, 0, 0,   \
            0, 0, 0, 0, 0                                                                          \
    }

/** Where everything is, and how the first vCPU starts. */
struct vmm_boot_state {
    size_t size;
    uint32_t format;         /**< the VMM_KERNEL_… that was loaded; never AUTO or BZIMAGE */
    uint32_t protocol;       /**< bzImage: version, such as 0x20f; Multiboot: 1 or 2; else 0 */
    uint64_t entry;          /**< guest-physical address of the first instruction */
    uint64_t kernel_address; /**< the lowest byte loaded */
    uint64_t kernel_length;  /**< up to the highest one that is reserved for it */
    uint64_t initrd_address;
    uint64_t initrd_length;
    uint64_t command_line_address; /**< 0: none in guest memory */
    /** What the kernel is handed: the zero page, start-info or Multiboot information; 0: nothing. */
    uint64_t info_address;
    uint64_t registers[64]; /**< the architecture's: vmm_x86_boot_get(); arm64: x0 and up */
};
#define VMM_BOOT_STATE_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_boot_state), 0, 0, 0, 0, 0, 0, 0, 0, 0,                                  \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/**
 * Load a kernel and all that goes with it into guest memory. ACPI tables and other things that the
 * memory map speaks of are in memory already. May be called again for a reset. Blocks on the files.
 *
 * On an error guest memory may hold a part of it. The text names the field that is wrong. -ENOEXEC:
 * not such a kernel, or a damaged one; -ENOTSUP: a sound one that wants what is not there (also: the
 * library was built without that decompressor); -ENOMEM: no room for it in the guest's RAM, or none
 * on the host; -EINVAL: the options do not fit together; -E2BIG: command line or a list too long;
 * otherwise the file's own error.
 *
 * Not thread-safe for one memory; the guest must not run.
 */
VMM_API int vmm_kernel_load(struct vmm_memory *memory, const struct vmm_kernel_options *options,
                            struct vmm_boot_state *state, struct vmm_error *err);

/** A static name: "bzimage", "bzimage32", "bzimage64", "pvh", "linux64", "multiboot", "flat16",
 *  "flat32", "flat64", "image", "auto"; "unknown" for other numbers. */
VMM_API const char *vmm_kernel_format_name(uint32_t format);
/** The format of a name, or -ENOENT. */
VMM_API int vmm_kernel_format_by_name(const char *name, uint32_t *format);

/** Can this build unpack payloads of "gzip", "xz", "lz4", "zstd"? */
VMM_API bool vmm_kernel_can_unpack(const char *compression);

VMM_END_DECLS

#endif
