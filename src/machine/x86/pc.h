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

#define PC_HIGH_MEMORY   UINT64_C(0x100000000)
#define PC_VGA_WINDOW    UINT64_C(0xa0000)
#define PC_VGA_LENGTH    UINT64_C(0x20000)
#define PC_SHADOW        UINT64_C(0xc0000) /* what the PAM registers govern */
#define PC_SHADOW_LENGTH UINT64_C(0x40000)
#define PC_ROM_COPY      UINT64_C(0xe0000) /* the firmware's last 128 KiB */
#define PC_ROM_COPY_MAX  UINT64_C(0x20000)
#define PC_FIRMWARE_MAX  (UINT64_C(16) << 20)
#define PC_OVER_RAM      10 /* priority in the memory map */
#define PC_IOAPIC        0xfec00000u
#define PC_WINDOW_END    UINT64_C(0xfec00000)
#define PC_HIGH_WINDOW   (UINT64_C(1) << 35) /* bytes of the window above RAM */
#define PC_ECAM_LENGTH   (UINT64_C(256) << 20)
#define PC_ECAM_DEFAULT  UINT64_C(0xe0000000)
#define PC_KVM_IDENTITY  UINT64_C(0xfeffc000)
#define PC_KVM_TSS       UINT64_C(0xfeffd000)

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

#define PC_PAM_SEGMENTS 13u
#define PC_ISA_IRQS     16u

/* A part of the shadowed area: PCI (the ROM, or nothing), and RAM that may be written to or not. */
struct pc_segment {
    struct vmm_memory_region *rom;    /* seen in the modes 0 and 2 */
    struct vmm_memory_region *shadow; /* seen in the mode 1: RAM, not writable */
    uint8_t mode;
};

#define PC_PIRQS_MAX 8u
#define PC_PIRQ_OFF  0x80u

/* What tells one chipset from another. */
struct pc_kind {
    uint64_t low_memory_end; /* RAM goes on at 4 GiB */
    uint8_t pam0, smram;     /* registers of the host bridge; the PAM registers follow each other */
    uint8_t isa_slot;
    uint8_t pirqs;
    uint8_t pirq_registers[PC_PIRQS_MAX]; /* of the ISA bridge */
    uint8_t line_pirqs[4];                /* what the lines INTA to INTD of slot 0 reach */
    uint8_t sleep_s5;                     /* SLP_TYP of soft off */
    bool express;
    int (*add)(struct vmm_machine *machine, struct vmm_error *err); /* host bridge and functions */
};

struct pc {
    struct vmm_machine *machine;
    const struct pc_kind *kind;
    struct vmm_bus *ports; /* held: regions go after the machine has let go of it */
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
    struct vmm_pci *isa, *pm_function; /* pm_function: of the PIIX4 */
    struct vmm_region *pm_region,
        *pm_more;     /* pm_more: of the ICH9, what is above ACPI's registers */
    uint16_t pm_port; /* where the registers are, or will be */
    uint64_t ecam;    /* 0: firmware has not placed it */
    uint32_t gpe0_enable[2], smi_enable;
    uint8_t reset_control; /* port 0xcf9 */
    uint8_t smi[2];        /* ports 0xb2 and 0xb3 */

    pthread_mutex_t route_lock;  /* guards what follows */
    uint32_t pirq[PC_PIRQS_MAX]; /* levels */
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
/* For the kinds: the PIRQs as the ISA bridge's registers say. */
void vmm_pc_apply_routes(struct pc *pc);
/* The host bridge; `o` has its identity, callbacks and ECAM. */
int vmm_pc_add_host(struct vmm_machine *machine, struct vmm_pci_host_options *o,
                    struct vmm_error *err);
int vmm_pc_new_function(struct vmm_machine *machine, const struct vmm_pci_options *o,
                        struct vmm_pci **out, struct vmm_error *err);
/* ACPI's registers, on no ports yet; `length` of them. */
int vmm_pc_add_pm_block(struct vmm_machine *machine, uint32_t length, struct vmm_error *err);
/* Writes to the host bridge: PAM and SMRAM. */
void vmm_pc_host_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value);
int vmm_pc_save_nothing(void *ctx, struct vmm_state_writer *w);

/* pc_piix.c, pc_ich9.c */
extern const struct pc_kind vmm_pc_piix, vmm_pc_ich9;

/* pc_firmware.c */
int vmm_pc_add_fwcfg(struct vmm_machine *machine, struct vmm_error *err);
int vmm_pc_fill_fwcfg(struct vmm_machine *machine, struct vmm_error *err);
int vmm_pc_set_smbios(struct vmm_machine *machine, const struct vmm_smbios_options *options,
                      struct vmm_error *err);

/* pc_tables.c */
int vmm_pc_add_tables(struct vmm_machine *machine, struct vmm_error *err);

#endif
