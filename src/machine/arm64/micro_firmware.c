/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * UEFI on the arm64 `micro` board, as EDK2's ArmVirtQemu expects its machine (ArmVirtPkg/ArmVirtQemu.dsc): the firmware
 * at address 0, where the first processor starts; the flash of variables 64 MiB above; a device tree at the
 * beginning of RAM; and the firmware configuration, which hands over ACPI tables, and a kernel. The firmware itself reads
 * the tree; what it starts sees the tables instead.
 */
#include "base/util.h"
#include "loader/source.h"
#include "machine/arm64/micro.h"
#include "machine/firmware.h"

#include <libvmm/fwcfg.h>

#include <stdlib.h>

/* EDK2 knows these of QEMU's board (NorFlashQemuLib.c, ArmVirtQemu.fdf). */
#define FLASH_BLOCK (256u << 10)
#define FLASH_BLANK (3 * FLASH_BLOCK)

static int add_rom(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    uint8_t *data;
    size_t length;
    int rc =
        vmm_machine_read_firmware(m->options.firmware, MICRO_FIRMWARE_MAX, &data, &length, err);
    if (rc)
        return rc;
    o.name = "firmware";
    o.type = VMM_MEMORY_ROM;
    o.length = length;
    rc = vmm_memory_region_new(&o, &micro->firmware, err);
    rc = rc ? rc : vmm_memory_add(m->memory, micro->firmware, MICRO_FIRMWARE, 0, err);
    rc = rc ? rc : vmm_memory_write_rom(m->memory, MICRO_FIRMWARE, data, length);
    free(data);
    return rc;
}

static int add_fwcfg(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    o.name = "fwcfg";
    o.memory = m->memory;
    int rc = vmm_fwcfg_new(&o, &m->fwcfg);
    if (rc)
        return vmm_error_set(err, rc, "firmware configuration: %s", strerror(-rc));
    struct micro *micro = m->board_data;
    micro->fwcfg = m->fwcfg;
    rc = vmm_fwcfg_attach_mmio(m->fwcfg, m->mmio, MICRO_FWCFG, err);
    rc = rc ? rc : vmm_machine_add_device(m, vmm_fwcfg_device(m->fwcfg));
    return rc ? rc : vmm_irq_line_new(m->vm, MICRO_EVENT_GSI, &micro->event);
}

int vmm_micro_add_firmware(struct vmm_machine *m, struct vmm_error *err)
{
    static const struct vmm_machine_vars vars = {.address = MICRO_FLASH,
                                                 .room = MICRO_FLASH_MAX,
                                                 .blank = FLASH_BLANK,
                                                 .bank_width = 4,
                                                 .block = FLASH_BLOCK};
    struct micro *micro = m->board_data;
    if (!m->options.firmware)
        return m->options.firmware_vars
                   ? vmm_error_set(err, -EINVAL, "firmware_vars are of no use without firmware")
                   : 0;
    int rc = add_rom(m, err);
    rc = rc ? rc : vmm_machine_add_vars(m, &vars, &micro->flash, err);
    return rc ? rc : add_fwcfg(m, err);
}

/* A whole file into an item and its length into another; no file: length 0. */
static int set_file_item(struct vmm_machine *m, const char *name, const struct vmm_file *file,
                         uint32_t size_key, uint32_t data_key, struct vmm_error *err)
{
    struct vmm_source source = VMM_SOURCE_NONE;
    uint8_t *data = NULL;
    int rc = 0;
    if (!vmm_file_given(file))
        return vmm_fwcfg_set_u32(m->fwcfg, size_key, 0);
    rc = vmm_source_open(&source, name, file, err);
    if (rc)
        return rc;
    if (source.length > VMM_FWCFG_FILE_MAX)
        rc = vmm_error_set(err, -EFBIG, "%s: firmware takes up to %u bytes", name,
                           VMM_FWCFG_FILE_MAX);
    if (!rc) {
        data = malloc(source.length ? source.length : 1);
        rc = data ? vmm_source_read(&source, 0, data, source.length, name, err) : -ENOMEM;
    }
    rc = rc ? rc : vmm_fwcfg_set_item(m->fwcfg, data_key, data, source.length);
    rc = rc ? rc : vmm_fwcfg_set_u32(m->fwcfg, size_key, (uint32_t)source.length);
    free(data);
    vmm_source_close(&source);
    return rc;
}

/* The firmware starts a kernel that it finds here before it looks for a disk. */
static int hand_over_kernel(struct vmm_machine *m, struct vmm_error *err)
{
    const struct vmm_kernel_options *k = &m->kernel;
    const char *line = k->command_line ? k->command_line : "";
    int rc =
        set_file_item(m, "kernel", &k->kernel, VMM_FWCFG_KERNEL_SIZE, VMM_FWCFG_KERNEL_DATA, err);
    rc = rc ? rc
            : set_file_item(m, "initrd", &k->initrd, VMM_FWCFG_INITRD_SIZE, VMM_FWCFG_INITRD_DATA,
                            err);
    rc = rc ? rc : vmm_fwcfg_set_item(m->fwcfg, VMM_FWCFG_CMDLINE_DATA, line, strlen(line) + 1);
    return rc ? rc
              : vmm_fwcfg_set_u32(m->fwcfg, VMM_FWCFG_CMDLINE_SIZE, (uint32_t)strlen(line) + 1);
}

int vmm_micro_load_firmware(struct vmm_machine *m, struct vmm_error *err)
{
    void *tree = NULL;
    size_t length = 0;
    int rc = hand_over_kernel(m, err);
    rc = rc ? rc : vmm_fwcfg_set_u16(m->fwcfg, VMM_FWCFG_CPUS, (uint16_t)m->options.cpus);
    rc = rc ? rc : vmm_micro_add_tables(m, err);
    rc = rc ? rc : vmm_micro_device_tree(m, &tree, &length, err);
    if (!rc)
        rc = vmm_memory_write(m->memory, MICRO_RAM, tree, length);
    free(tree);
    return rc ? rc : vmm_vcpu_start_at(m->vcpus[0], MICRO_FIRMWARE);
}
