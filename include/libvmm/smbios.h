/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file smbios.h
 * SMBIOS tables (DMTF DSP0134, version 3.0, 64-bit entry point): who made the machine and what is in
 * it, for the guest's inventory and for settings that embedders hand in by strings.
 */
#ifndef LIBVMM_SMBIOS_H
#define LIBVMM_SMBIOS_H

#include <libvmm/loader.h>

VMM_BEGIN_DECLS

#define VMM_SMBIOS_ENTRY_SIZE 24u

/** Strings may be NULL (or ""): not given. At most 1023 bytes each, OEM strings 65535. */
struct vmm_smbios_options {
    size_t size;
    /* Type 0: firmware. The date is mm/dd/yyyy. */
    const char *bios_vendor, *bios_version, *bios_date;
    /* Type 1: system, and type 3: chassis. */
    const char *manufacturer, *product, *version, *serial, *sku, *family;
    const char *chassis_manufacturer, *chassis_asset_tag;
    uint8_t uuid[16]; /**< in the order of its text; all zero: not given */
    /* Type 4: a structure a socket. */
    const char *cpu_manufacturer, *cpu_version;
    uint64_t cpu_id;           /**< x86: CPUID leaf 1's EAX, and EDX in the upper half */
    uint32_t sockets;          /**< 0: 1; at most 256 */
    uint32_t cores_per_socket; /**< 0: 1; at most 65534 */
    uint32_t threads_per_core; /**< 0: 1; at most 65534 in a socket */
    uint32_t reserved;
    /** Types 16, 17 and 19: the entries that are VMM_MEMORY_MAP_RAM; others are passed over. */
    const struct vmm_memory_map_entry *memory_map;
    size_t memory_map_count; /**< at most 1024 */
    /** Type 11: strings for the guest's software. */
    const char *const *oem_strings;
    size_t oem_string_count; /**< at most 255 */
};
#define VMM_SMBIOS_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct vmm_smbios_options)                                                  \
    }

/**
 * Build the structures and the entry point that leads to them.
 * @param address  where in guest memory the structures will be
 * @param entry    gets the entry point
 * @param tables   gets the structures, which the caller frees
 * @return 0, -EINVAL with a text (a count or string that is too large), -ENOMEM
 */
VMM_API int vmm_smbios_build(const struct vmm_smbios_options *options, uint64_t address,
                             uint8_t entry[VMM_SMBIOS_ENTRY_SIZE], void **tables, size_t *length,
                             struct vmm_error *err);
/**
 * Put entry point and structures into guest memory (ROM too), the entry point first. Guests without
 * EFI look for it at multiples of 16 from 0xf0000 to 0xfffff.
 * @param address  a multiple of 16
 * @param room     bytes that may be used
 * @param used     NULL, or how many were
 * @return as vmm_smbios_build(); -ENOSPC: more room is needed; -EFAULT: there is no memory
 */
VMM_API int vmm_smbios_place(struct vmm_memory *memory, uint64_t address, uint64_t room,
                             const struct vmm_smbios_options *options, uint64_t *used,
                             struct vmm_error *err);

VMM_END_DECLS

#endif
