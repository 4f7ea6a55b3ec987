/* SPDX-License-Identifier: BSD-3-Clause */
/* Where things are on the x86 `micro` board. */
#ifndef MACHINE_X86_MICRO_H
#define MACHINE_X86_MICRO_H

#include "machine/internal.h"

#include <libvmm/aml.h>
#include <libvmm/pm.h>
#include <libvmm/rtc.h>
#include <libvmm/x86.h>

#define MICRO_LOW_MEMORY_END  UINT64_C(0xc0000000) /* RAM goes on at 4 GiB; below it devices */
#define MICRO_HIGH_MEMORY     UINT64_C(0x100000000)
#define MICRO_LEGACY_HOLE     UINT64_C(0x9fc00) /* firmware's area, the VGA window, option ROMs */
#define MICRO_LEGACY_HOLE_END UINT64_C(0x100000)
#define MICRO_ACPI_ADDRESS    UINT64_C(0xe0000) /* where guests look for the root pointer */
#define MICRO_ACPI_ROOM       UINT64_C(0x18000)
#define MICRO_SMBIOS_ADDRESS  UINT64_C(0xf8000)
#define MICRO_SMBIOS_ROOM     UINT64_C(0x7ff0)
#define MICRO_RESET_VECTOR    UINT64_C(0xffff0) /* F000:FFF0 */
#define MICRO_IOAPIC          0xfec00000u

#define MICRO_PM_PORT      0x600u
#define MICRO_PM_GSI       9u
#define MICRO_MEMPLUG_PORT 0x620u
#define MICRO_EVENT_MEMORY 0x100u /* of VMM_PM_BOARD_EVENTS */
#define MICRO_RTC_PORT     0x70u
#define MICRO_RTC_IRQ      8u
#define MICRO_EXIT_PORT    0xf4u
#define MICRO_DEBUG_PORT   0x402u
#define MICRO_BOCHS_PORT   0xe9u

#define MICRO_VIRTIO_MMIO UINT64_C(0xd0000000)
#define MICRO_VIRTIO_MAX  16u

#define MICRO_PCI_WINDOW        UINT64_C(0xc0000000)
#define MICRO_PCI_WINDOW_LENGTH UINT64_C(0x10000000)
#define MICRO_PCI_HIGH_ALIGN    UINT64_C(0x100000000) /* the high window: above all RAM */
#define MICRO_PCI_HIGH_LENGTH   UINT64_C(0x800000000)
#define MICRO_PCI_PORTS         0x1000u
#define MICRO_PCI_PORTS_LENGTH  0xf000u
#define MICRO_PCI_CONFIG_PORT   0xcf8u
#define MICRO_PCI_GSI           16u /* INTA; three more follow */
#define MICRO_ECAM              UINT64_C(0xe0000000)
#define MICRO_ECAM_BUSES        256u
#define MICRO_ECAM_LENGTH       (MICRO_ECAM_BUSES * UINT64_C(0x100000))

struct micro {
    uint32_t virtio_count;
    struct vmm_pm *pm;
    struct vmm_rtc *rtc;
    struct vmm_serial *serial[VMM_SERIAL_PORTS];
    struct vmm_x86_cpuid *cpuid;
    uint8_t smbios_entry[VMM_SMBIOS_ENTRY_SIZE];
    void *smbios; /* NULL: not set yet */
    size_t smbios_length;
};

/* The ports and interrupts of COM1 to COM4. */
struct micro_serial_place {
    uint16_t port;
    uint8_t irq;
};
extern const struct micro_serial_place vmm_micro_serial_places[VMM_SERIAL_PORTS];

/* Whose interrupt the virtio device at a place has; at most MICRO_VIRTIO_MAX. */
extern const uint8_t vmm_micro_virtio_gsis[MICRO_VIRTIO_MAX];

/* micro_pci.c */
int vmm_micro_add_pci(struct vmm_machine *machine, struct vmm_error *err);
int vmm_micro_add_virtio_pci(struct vmm_machine *machine, struct vmm_virtio *virtio,
                             struct vmm_error *err);
void vmm_micro_describe_pci(struct vmm_aml *aml, const struct vmm_machine *machine);

/* micro_memplug.c */
struct vmm_aml;
void vmm_micro_describe_memplug(struct vmm_aml *aml);
void vmm_micro_memory_event(struct vmm_machine *machine);

/* micro_tables.c */
int vmm_micro_place_tables(struct vmm_machine *machine, struct vmm_error *err);

#endif
