/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file acpi.h
 * ACPI tables (ACPI 6.5, chapter 5), built from a description and placed in guest memory.
 */
#ifndef LIBVMM_ACPI_H
#define LIBVMM_ACPI_H

#include <libvmm/memory.h>

VMM_BEGIN_DECLS

/** A register's place: a generic address structure (5.2.3.2). Length 0: there is none. */
struct vmm_acpi_register {
    uint64_t address;
    uint8_t space;  /**< 0: memory, 1: I/O ports */
    uint8_t length; /**< bytes */
    uint8_t reserved[6];
};

/** An override of the MADT (5.2.12.5): ISA interrupt `isa` reaches I/O APIC input `gsi`. */
struct vmm_acpi_override {
    uint8_t isa;
    uint8_t active_low;
    uint8_t level;
    uint8_t reserved;
    uint32_t gsi;
};

/** What arm64 has instead of APICs: a GIC, timers and PSCI. Interrupts are GSIVs: 16 to 31 are private to each
 *  processor, 32 and up are the GIC's shared ones. */
struct vmm_acpi_gic {
    uint32_t version; /**< 2 or 3 */
    uint32_t
        timers[4]; /**< of secure EL1, EL1, the virtual one, EL2; level, always on (GTDT, 5.2.25) */
    uint32_t performance;   /**< of the performance monitors; 0: none */
    uint64_t distributor;   /**< guest-physical, as are all addresses */
    uint64_t redistributor; /**< version 3: a range for all processors */
    uint32_t redistributor_length;
    uint32_t reserved;
    uint64_t its;               /**< translation service with number 0; 0: none */
    uint64_t cpu_interface;     /**< version 2 */
    const uint64_t *affinities; /**< MPIDR_EL1 of each of the `cpus`, affinity fields only */
};

struct vmm_acpi_table {
    const void *data; /**< a whole table, header included; length and checksum are filled in */
    size_t length;
};

struct vmm_acpi_description {
    size_t size;
    const char *oem_id;       /**< up to 6 characters; NULL: "LIBVMM" */
    const char *oem_table_id; /**< up to 8 characters; NULL: "LIBVMM" */
    const void *dsdt;         /**< AML (aml.h), without a header */
    size_t dsdt_length;

    /* FADT (5.2.9) */
    uint32_t hardware_reduced; /**< non-zero: no ACPI hardware but the registers here (3.11.1) */
    uint32_t reset_value;
    struct vmm_acpi_register reset, sleep_control, sleep_status;
    /** Fixed hardware, where not reduced. */
    struct vmm_acpi_register pm1_event, pm1_control, pm_timer, gpe0;
    uint32_t sci;                       /**< its ISA interrupt or GSI */
    uint32_t smi_command;               /**< port; 0: none, ACPI mode is always on */
    uint32_t acpi_enable, acpi_disable; /**< values for that port */
    uint32_t boot_flags; /**< IAPC_BOOT_ARCH (5.2.9.3): bit 0 legacy devices, bit 1 8042, … */
    uint32_t has_rtc;    /**< non-zero: there is a CMOS clock (bit 5 of those flags, inverted) */
    uint32_t power_button_control; /**< non-zero: the button is a device of the DSDT, not fixed */

    /* MADT (5.2.12) */
    uint32_t cpus;           /**< 1 to 65536 local APICs; those with ids from 255 on as x2APICs */
    uint32_t lapic_address;  /**< 0: 0xfee00000 */
    uint32_t ioapic_address; /**< 0: no I/O APIC */
    uint32_t ioapic_id;
    uint32_t legacy_pics; /**< non-zero: there are 8259s too */
    const struct vmm_acpi_override *overrides;
    size_t override_count;

    /* MCFG (PCI firmware specification 3.3, 4.1.2) */
    uint64_t ecam_address; /**< 0: no such table */
    uint32_t ecam_last_bus;
    uint32_t reserved;

    const struct vmm_acpi_table *extra; /**< further tables, named in the XSDT */
    size_t extra_count;                 /**< at most 32 */

    const uint32_t
        *apic_ids; /**< of the `cpus` processors, whose UIDs are 0 and up; NULL: the same */
    /** Further AML, without headers: an SSDT each. */
    const struct vmm_acpi_table *ssdts;
    size_t ssdt_count; /**< at most 16 */
    /** arm64: NULL where there are APICs. Needs hardware_reduced; says that PSCI is there, by HVC. */
    const struct vmm_acpi_gic *gic;
};
#define VMM_ACPI_DESCRIPTION_INIT                                                                  \
    {                                                                                              \
        .size = sizeof(struct vmm_acpi_description)                                                \
    }

/**
 * Build all tables and put them at `address` (a multiple of 64, below 4 GiB) and up. The root pointer
 * (RSDP) is the first, so `address` is what a kernel is told; where it lies in 0xe0000 to 0xfffff,
 * guests find it by themselves (5.2.5.1).
 * @param room  bytes that may be used
 * @param used  NULL, or how many were
 * -ENOSPC: they need more room; -EINVAL: the text says which field; -EFAULT: not RAM.
 */
VMM_API int vmm_acpi_place(struct vmm_memory *memory, uint64_t address, uint64_t room,
                           const struct vmm_acpi_description *description, uint64_t *used,
                           struct vmm_error *err);

/** Tables for firmware that puts them into memory itself, as the files of a firmware configuration
 *  device (fwcfg.h); each is malloc'ed, the caller frees them. */
struct vmm_acpi_files {
    size_t size;
    void *tables; /**< VMM_ACPI_FILE_TABLES */
    size_t tables_length;
    void *rsdp; /**< VMM_ACPI_FILE_RSDP */
    size_t rsdp_length;
    void *
        script; /**< VMM_ACPI_FILE_SCRIPT: how the loader allocates, relocates and adds checksums */
    size_t script_length;
};
#define VMM_ACPI_FILES_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_acpi_files), 0, 0, 0, 0, 0, 0                                            \
    }
#define VMM_ACPI_FILE_TABLES "etc/acpi/tables"
#define VMM_ACPI_FILE_RSDP   "etc/acpi/rsdp"
#define VMM_ACPI_FILE_SCRIPT "etc/table-loader"

/** Build the tables and the script of QEMU's table loader (its hw/acpi/bios-linker-loader.c describes
 *  the commands). Errors as vmm_acpi_place(). */
VMM_API int vmm_acpi_build_files(const struct vmm_acpi_description *description,
                                 struct vmm_acpi_files *files, struct vmm_error *err);

VMM_END_DECLS

#endif
