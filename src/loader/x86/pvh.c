/* SPDX-License-Identifier: BSD-3-Clause */
/* PVH: an ELF kernel with a 32-bit physical entry in a note. Xen, docs/misc/pvh.pandoc and
 * xen/include/public/arch-x86/hvm/start_info.h. */
#include "base/util.h"
#include "loader/x86/info.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18u
#define START_INFO_MAGIC         0x336ec578u
#define START_INFO_SIZE          56u
#define MODULE_SIZE              32u
#define MEMMAP_SIZE              24u

int vmm_pvh_entry(const struct vmm_elf *elf, uint32_t *entry, struct vmm_error *err)
{
    uint8_t raw[8] = {0};
    size_t length = 0;
    int rc = vmm_elf_note(elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, raw, sizeof(raw), &length, err);
    if (rc == -ENOENT)
        return 0;
    if (rc)
        return rc;
    /* Four bytes by the specification, eight in 64-bit kernels that use .quad. */
    uint64_t value = vmm_load_le64(raw);
    if ((length != 4 && length != 8) || value > UINT32_MAX)
        return vmm_error_set(err, -ENOEXEC,
                             "%s: ELF note PHYS32_ENTRY: %zu bytes, value 0x%llx: not a 32-bit "
                             "address",
                             elf->source->name, length, (unsigned long long)value);
    *entry = (uint32_t)value;
    return 1;
}

static bool entry_is_loaded(const struct vmm_elf *elf, uint64_t entry)
{
    for (size_t i = 0; i < elf->segment_count; i++) {
        const struct vmm_elf_segment *s = &elf->segments[i];
        if (s->type == VMM_ELF_LOAD && entry >= s->address && entry - s->address < s->memory_size)
            return true;
    }
    return false;
}

static int load_image(struct vmm_load *load, const struct vmm_elf *elf, uint32_t *entry)
{
    if (elf->machine != VMM_ELF_MACHINE_X86_64 && elf->machine != VMM_ELF_MACHINE_386)
        return vmm_error_set(load->err, -ENOTSUP, "%s: ELF header: e_machine is %u, not x86",
                             load->kernel.name, elf->machine);
    int rc = vmm_pvh_entry(elf, entry, load->err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return vmm_error_set(load->err, -ENOEXEC,
                             "%s: ELF: no Xen note PHYS32_ENTRY: not a PVH kernel",
                             load->kernel.name);
    if (!entry_is_loaded(elf, *entry))
        return vmm_error_set(load->err, -ENOEXEC,
                             "%s: ELF note PHYS32_ENTRY: 0x%x is in no PT_LOAD segment",
                             load->kernel.name, *entry);
    if (elf->last > VMM_X86_4G_END)
        return vmm_error_set(load->err, -ENOEXEC, "%s: ELF: p_paddr + p_memsz reach above 4 GiB",
                             load->kernel.name);
    rc = vmm_elf_claim(elf, &load->layout, 0, load->err);
    return rc ? rc : vmm_elf_load(elf, load->memory, 0, load->err);
}

static void put_modules(struct vmm_x86_blob *blob, uint8_t *info,
                        const struct vmm_x86_modules *modules)
{
    if (modules->count == 0)
        return;
    uint64_t list;
    uint8_t *m = vmm_x86_blob_take(blob, modules->count * MODULE_SIZE, 8, &list);
    vmm_store_le32(info + 12, (uint32_t)modules->count);
    vmm_store_le64(info + 16, list);
    for (size_t i = 0; i < modules->count; i++, m += MODULE_SIZE) {
        vmm_store_le64(m, modules->entries[i].address);
        vmm_store_le64(m + 8, modules->entries[i].length);
        vmm_store_le64(m + 16, vmm_x86_blob_text(blob, modules->entries[i].command_line));
    }
}

static void put_memory_map(struct vmm_x86_blob *blob, uint8_t *info,
                           const struct vmm_layout *layout)
{
    uint64_t table;
    uint8_t *e = vmm_x86_blob_take(blob, layout->map_count * MEMMAP_SIZE, 8, &table);
    vmm_store_le64(info + 40, table);
    vmm_store_le32(info + 48, (uint32_t)layout->map_count);
    for (size_t i = 0; i < layout->map_count; i++, e += MEMMAP_SIZE) {
        vmm_store_le64(e, layout->map[i].address);
        vmm_store_le64(e + 8, layout->map[i].length);
        vmm_store_le32(e + 16, layout->map[i].type); /* the numbers are those of ACPI */
    }
}

static int put_start_info(struct vmm_load *load, const struct vmm_x86_modules *modules)
{
    static const char *const name = "PVH start-info";
    struct vmm_x86_blob blob;
    size_t room = START_INFO_SIZE + modules->count * MODULE_SIZE +
                  load->layout.map_count * MEMMAP_SIZE + vmm_x86_texts_size(load, modules) + 32;
    int rc = vmm_x86_blob_new(load, &blob, room, name);
    if (rc)
        return rc;
    uint8_t *info = vmm_x86_blob_take(&blob, START_INFO_SIZE, 8, &load->state.info_address);
    vmm_store_le32(info, START_INFO_MAGIC);
    vmm_store_le32(info + 4, 1); /* version */
    vmm_store_le64(info + 32, load->options.acpi_rsdp);
    put_memory_map(&blob, info, &load->layout);
    put_modules(&blob, info, modules);
    load->state.command_line_address = vmm_x86_blob_text(&blob, load->command_line);
    vmm_store_le64(info + 24, load->state.command_line_address);
    rc = vmm_x86_blob_write(load, &blob, name);
    vmm_x86_blob_free(&blob);
    return rc;
}

int vmm_pvh_load(struct vmm_load *load, const struct vmm_elf *elf)
{
    uint32_t entry;
    struct vmm_x86_modules modules;
    struct vmm_x86_boot boot;
    int rc = vmm_x86_refuse_setup_data(load);
    if (!rc)
        rc = vmm_load_check_command_line(load, VMM_KERNEL_COMMAND_LINE_MAX);
    if (!rc)
        rc = load_image(load, elf, &entry);
    if (!rc)
        rc = vmm_x86_load_modules(load, elf->last + 1, &modules);
    if (!rc)
        rc = put_start_info(load, &modules);
    if (!rc)
        rc = vmm_x86_enter_protected(load, &boot, entry, false);
    if (rc)
        return rc;
    boot.regs.rbx = load->state.info_address;
    load->state.kernel_address = elf->low;
    load->state.kernel_length = elf->last - elf->low + 1;
    vmm_x86_boot_put(load, &boot);
    return 0;
}
