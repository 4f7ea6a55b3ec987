/* SPDX-License-Identifier: BSD-3-Clause */
/* What the `pc` board's firmware reads: memory map, tables, boot order. */
#include "base/util.h"
#include "machine/x86/pc.h"

#include <libvmm/smbios.h>

#include <stdlib.h>

#define E820_RAM 1u
/* SMBIOS structures are put elsewhere by firmware, which mends the address and the checksums. */
#define SMBIOS_PLACE UINT64_C(0x1000)

int vmm_pc_add_fwcfg(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    o.name = "fwcfg";
    o.memory = m->memory;
    int rc = vmm_fwcfg_new(&o, &pc->fwcfg);
    m->fwcfg = pc->fwcfg;
    rc = rc ? rc : vmm_fwcfg_attach_ports(pc->fwcfg, m->ports, VMM_FWCFG_PORT, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_fwcfg_device(pc->fwcfg));
}

static void put_e820(uint8_t *entry, uint64_t address, uint64_t length)
{
    vmm_store_le64(entry, address);
    vmm_store_le64(entry + 8, length);
    vmm_store_le32(entry + 16, E820_RAM);
}

static int add_e820(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    uint64_t low = vmm_pc_low_memory(m), high = m->options.memory_size - low;
    uint8_t entries[40];
    put_e820(entries, 0, low);
    put_e820(entries + 20, PC_HIGH_MEMORY, high);
    return vmm_fwcfg_set_file(pc->fwcfg, "etc/e820", entries, high ? 40 : 20, err);
}

static size_t memory_map(const struct vmm_machine *m, struct vmm_memory_map_entry entries[2])
{
    uint64_t low = vmm_pc_low_memory(m), high = m->options.memory_size - low;
    entries[0] = (struct vmm_memory_map_entry){0, low, VMM_MEMORY_MAP_RAM, 0};
    entries[1] = (struct vmm_memory_map_entry){PC_HIGH_MEMORY, high, VMM_MEMORY_MAP_RAM, 0};
    return high ? 2 : 1;
}

int vmm_pc_set_smbios(struct vmm_machine *m, const struct vmm_smbios_options *given,
                      struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
    struct vmm_memory_map_entry entries[2];
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    void *tables;
    size_t length;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return vmm_error_set(err, rc, "SMBIOS options: a structure of another version");
    o.memory_map = entries;
    o.memory_map_count = memory_map(m, entries);
    o.sockets = 1;
    o.cores_per_socket = m->options.cpus;
    o.threads_per_core = 1;
    rc = vmm_smbios_build(&o, SMBIOS_PLACE, entry, &tables, &length, err);
    if (rc)
        return rc;
    rc = vmm_fwcfg_set_file(pc->fwcfg, "etc/smbios/smbios-anchor", entry, sizeof(entry), err);
    rc = rc ? rc : vmm_fwcfg_set_file(pc->fwcfg, "etc/smbios/smbios-tables", tables, length, err);
    free(tables);
    return rc;
}

/* What every board says; SMBIOS only where the embedder has not. */
int vmm_pc_fill_fwcfg(struct vmm_machine *m, struct vmm_error *err)
{
    /* Of S0 to S5: bit 7, there is one; below it the SLP_TYP. */
    struct pc *pc = m->board_data;
    const uint8_t states[6] = {0x80, 0, 0, 0, 0, 0x80 | pc->kind->sleep_s5};
    int rc = vmm_fwcfg_set_u16(pc->fwcfg, VMM_FWCFG_CPUS, (uint16_t)m->options.cpus);
    rc = rc ? rc : vmm_fwcfg_set_u16(pc->fwcfg, VMM_FWCFG_CPUS_MAX, (uint16_t)m->options.cpus);
    rc = rc ? rc : vmm_fwcfg_set_u16(pc->fwcfg, VMM_FWCFG_NOGRAPHIC, 0);
    rc = rc ? rc : vmm_fwcfg_set_u16(pc->fwcfg, VMM_FWCFG_BOOT_MENU, 0);
    rc = rc ? rc : add_e820(m, err);
    rc = rc ? rc : vmm_fwcfg_set_file(pc->fwcfg, "etc/system-states", states, sizeof(states), err);
    rc = rc ? rc : vmm_pc_add_tables(m, err);
    if (rc || vmm_fwcfg_get_file(pc->fwcfg, "etc/smbios/smbios-anchor", NULL, 0) >= 0)
        return rc;
    struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
    o.manufacturer = "libvmm";
    o.product = m->board->name;
    return vmm_pc_set_smbios(m, &o, err);
}
