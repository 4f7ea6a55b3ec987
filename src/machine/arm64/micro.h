/* SPDX-License-Identifier: BSD-3-Clause */
/* Where things are on the arm64 `micro` board. */
#ifndef MACHINE_ARM64_MICRO_H
#define MACHINE_ARM64_MICRO_H

#include "machine/internal.h"

#include <libvmm/arm64.h>
#include <libvmm/fdt.h>
#include <libvmm/fwcfg.h>
#include <libvmm/pflash.h>
#include <libvmm/primecell.h>

#define MICRO_FIRMWARE     UINT64_C(0)
#define MICRO_FIRMWARE_MAX UINT64_C(0x04000000)
#define MICRO_FLASH        UINT64_C(0x04000000) /* of variables; up to MICRO_GICD */
#define MICRO_FLASH_MAX    UINT64_C(0x04000000)
#define MICRO_GICD         UINT64_C(0x08000000)
#define MICRO_GICC         UINT64_C(0x08010000) /* version 2 */
#define MICRO_GITS         UINT64_C(0x08080000)
#define MICRO_GICR         UINT64_C(0x080a0000) /* version 3; up to MICRO_SERIAL */
#define MICRO_SERIAL       UINT64_C(0x09000000) /* a page each */
#define MICRO_RTC          UINT64_C(0x09010000)
#define MICRO_FWCFG        UINT64_C(0x09020000)
#define MICRO_GPIO         UINT64_C(0x09030000)
#define MICRO_VIRTIO_MMIO  UINT64_C(0x0a000000)
#define MICRO_VIRTIO_MAX   32u
#define MICRO_WINDOW       UINT64_C(0x10000000)
#define MICRO_WINDOW_END   UINT64_C(0x3eff0000)
#define MICRO_PORTS        UINT64_C(0x3eff0000) /* of PCI: 64 KiB */
#define MICRO_PORTS_COUNT  UINT64_C(0x10000)
#define MICRO_RAM          UINT64_C(0x40000000)
#define MICRO_RAM_MAX      (MICRO_ECAM - MICRO_RAM)
#define MICRO_ECAM         UINT64_C(0x4010000000)
#define MICRO_ECAM_BUSES   256u
#define MICRO_HIGH_WINDOW  UINT64_C(0x8000000000)
#define MICRO_HIGH_LENGTH  UINT64_C(0x8000000000)

#define MICRO_CPUS_MAX ((MICRO_SERIAL - MICRO_GICR) / VMM_ARM64_GICR_SIZE)

/* GSIs, which are SPIs. */
#define MICRO_SERIAL_GSI 8u /* four */
#define MICRO_RTC_GSI    2u
#define MICRO_PCI_GSI    3u /* INTA; three more follow */
#define MICRO_GPIO_GSI   7u
#define MICRO_EVENT_GSI  1u  /* the power button, where ACPI describes the board */
#define MICRO_VIRTIO_GSI 16u /* 32 */

#define MICRO_POWER_PIN 3u

struct micro {
    uint32_t virtio_count;
    struct vmm_pl011 *serial[VMM_SERIAL_PORTS];
    struct vmm_pl031 *rtc;
    struct vmm_pl061 *gpio;
    struct vmm_timer *power_key; /* lets the key up again */
    struct vmm_memory_region *firmware;
    struct vmm_pflash *flash;
    struct vmm_fwcfg *fwcfg;
    struct vmm_irq_line *event; /* NULL: no ACPI */
};

/* micro_firmware.c: nothing where the options name none; load instead of a kernel. */
int vmm_micro_add_firmware(struct vmm_machine *machine, struct vmm_error *err);
int vmm_micro_load_firmware(struct vmm_machine *machine, struct vmm_error *err);

/* micro_tables.c: ACPI tables as files of the firmware configuration */
int vmm_micro_add_tables(struct vmm_machine *machine, struct vmm_error *err);

/* micro_tree.c: the device tree without what the loader adds; the caller frees it. */
int vmm_micro_device_tree(const struct vmm_machine *machine, void **data, size_t *length,
                          struct vmm_error *err);

#endif
