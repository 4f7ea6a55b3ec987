/* SPDX-License-Identifier: BSD-3-Clause */
/* Where things are on the x86 `pc` board: i440FX, PIIX3, and the power management of PIIX4. */
#ifndef MACHINE_X86_PC_H
#define MACHINE_X86_PC_H

#include "machine/internal.h"

#include <libvmm/acpi-pm.h>
#include <libvmm/fwcfg.h>
#include <libvmm/i8042.h>
#include <libvmm/pci.h>
#include <libvmm/pflash.h>
#include <libvmm/rtc.h>
#include <libvmm/serial.h>
#include <libvmm/x86.h>

#define PC_LOW_MEMORY_END UINT64_C(0xc0000000) /* RAM goes on at 4 GiB */
#define PC_HIGH_MEMORY    UINT64_C(0x100000000)
#define PC_VGA_WINDOW     UINT64_C(0xa0000)
#define PC_VGA_LENGTH     UINT64_C(0x20000)
#define PC_SHADOW         UINT64_C(0xc0000) /* what the PAM registers govern */
#define PC_SHADOW_LENGTH  UINT64_C(0x40000)
#define PC_ROM_COPY       UINT64_C(0xe0000) /* the firmware's last 128 KiB */
#define PC_ROM_COPY_MAX   UINT64_C(0x20000)
#define PC_FIRMWARE_MAX   (UINT64_C(16) << 20)
#define PC_OVER_RAM       10 /* priority in the memory map */
#define PC_IOAPIC         0xfec00000u
#define PC_WINDOW_END     UINT64_C(0xfec00000)
#define PC_HIGH_WINDOW    (UINT64_C(1) << 35) /* bytes of the window above RAM */
#define PC_KVM_IDENTITY   UINT64_C(0xfeffc000)
#define PC_KVM_TSS        UINT64_C(0xfeffd000)

#define PC_RTC_PORT     0x70u
#define PC_RTC_IRQ      8u
#define PC_SCI          9u
#define PC_SMI_PORT     0xb2u
#define PC_EXIT_PORT    0xf4u
#define PC_DEBUG_PORT   0x402u
#define PC_BOCHS_PORT   0xe9u
#define PC_PM_PORT      0x600u /* where firmware puts it */
#define PC_PCI_PORTS    0x1000u
#define PC_ACPI_ENABLE  0xf1u
#define PC_ACPI_DISABLE 0xf0u
#define PC_SLEEP_S5     0u /* SLP_TYP of PIIX4: soft off */

#define PC_ISA_SLOT     1u
#define PC_PM_FUNCTION  3u
#define PC_PAM_SEGMENTS 13u
#define PC_ISA_IRQS     16u

/* A part of the shadowed area: PCI (the ROM, or nothing), and RAM that may be written to or not. */
struct pc_segment {
    struct vmm_memory_region *rom;    /* seen in the modes 0 and 2 */
    struct vmm_memory_region *shadow; /* seen in the mode 1: RAM, not writable */
    uint8_t mode;
};

struct pc {
    struct vmm_machine *machine;
    struct vmm_serial *serial[VMM_SERIAL_PORTS];
    struct vmm_rtc *rtc;
    struct vmm_i8042 *i8042;
    struct vmm_fwcfg *fwcfg;
    struct vmm_acpi_pm *pm;
    struct vmm_pflash *flash; /* NULL: no variables */
    struct vmm_x86_cpuid *cpuid;

    struct vmm_memory_region *ram, *firmware, *window; /* window: what PCI has at PC_SHADOW */
    struct vmm_memory_region *vga_hole;
    struct pc_segment segments[PC_PAM_SEGMENTS];

    struct vmm_device *chipset;
    struct vmm_pci *isa, *pm_function;
    struct vmm_region *pm_region;
    uint8_t reset_control; /* port 0xcf9 */
    uint8_t smi[2];        /* ports 0xb2 and 0xb3 */

    pthread_mutex_t route_lock; /* guards what follows */
    uint32_t pirq[4];           /* levels */
    struct vmm_irq_line *isa_lines[PC_ISA_IRQS];
};

/* pc_memory.c */
int vmm_pc_add_memory(struct vmm_machine *machine, struct vmm_error *err);
void vmm_pc_free_memory(struct pc *pc);
/* As the PAM and SMRAM registers of the host bridge say. */
void vmm_pc_apply_memory(struct pc *pc);
uint64_t vmm_pc_low_memory(const struct vmm_machine *machine);
uint64_t vmm_pc_window(const struct vmm_machine *machine);
uint64_t vmm_pc_high_window(const struct vmm_machine *machine);

/* pc_chipset.c */
int vmm_pc_add_chipset(struct vmm_machine *machine, struct vmm_error *err);
void vmm_pc_free_chipset(struct pc *pc);

/* pc_firmware.c */
int vmm_pc_add_fwcfg(struct vmm_machine *machine, struct vmm_error *err);
int vmm_pc_fill_fwcfg(struct vmm_machine *machine, struct vmm_error *err);
int vmm_pc_set_smbios(struct vmm_machine *machine, const struct vmm_smbios_options *options,
                      struct vmm_error *err);

/* pc_flash.c: the chip that ends at `end`, where the embedder has named a file for it */
int vmm_pc_add_flash(struct vmm_machine *machine, uint64_t end, struct vmm_error *err);

/* pc_tables.c */
int vmm_pc_add_tables(struct vmm_machine *machine, struct vmm_error *err);

#endif
