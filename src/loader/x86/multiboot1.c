/* SPDX-License-Identifier: BSD-3-Clause */
/* Multiboot 1: header and information structure. "The Multiboot Specification" 0.6.96. */
#include "loader/x86/multiboot.h"

#include "base/util.h"

/* Header flags, 3.1.2. Bits 0 to 15 are requirements: an unknown one must be refused. */
#define HEADER_PAGE_ALIGN 0x1u
#define HEADER_MEMORY     0x2u
#define HEADER_VIDEO      0x4u
#define HEADER_ADDRESSES  0x10000u

/* Information flags, 3.3. */
#define INFO_MEMORY       0x1u
#define INFO_COMMAND_LINE 0x4u
#define INFO_MODULES      0x8u
#define INFO_MEMORY_MAP   0x40u
#define INFO_LOADER_NAME  0x200u
#define INFO_SIZE         120u
#define MODULE_SIZE       16u
#define MEMORY_MAP_SIZE   24u

bool vmm_multiboot1_find(const uint8_t *head, size_t length, size_t *at)
{
    if (length > VMM_MULTIBOOT1_SEARCH)
        length = VMM_MULTIBOOT1_SEARCH;
    for (size_t i = 0; length >= 12 && i <= length - 12; i += 4) {
        uint32_t magic = vmm_load_le32(head + i), flags = vmm_load_le32(head + i + 4);
        if (magic == VMM_MULTIBOOT1_MAGIC && magic + flags + vmm_load_le32(head + i + 8) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

int vmm_multiboot1_parse(struct vmm_load *load, struct vmm_multiboot *mb)
{
    const uint8_t *h = mb->head + mb->header;
    uint32_t flags = vmm_load_le32(h + 4);
    if (flags & 0xffff & ~(HEADER_PAGE_ALIGN | HEADER_MEMORY))
        return vmm_error_set(load->err, -ENOTSUP,
                             "Multiboot header: flags are 0x%x: of the required features only "
                             "page alignment (bit 0) and memory information (bit 1) are there%s",
                             flags, flags & HEADER_VIDEO ? ", not a video mode (bit 2)" : "");
    if (!(flags & HEADER_ADDRESSES))
        return 0;
    if (mb->head_length - mb->header < 32)
        return vmm_error_set(load->err, -ENOEXEC,
                             "Multiboot header: truncated: flags bit 16 promises addresses");
    mb->has_addresses = mb->has_entry = true;
    mb->header_address = vmm_load_le32(h + 12);
    mb->load_address = vmm_load_le32(h + 16);
    mb->load_end = vmm_load_le32(h + 20);
    mb->bss_end = vmm_load_le32(h + 24);
    mb->entry = vmm_load_le32(h + 28);
    return 0;
}

static void put_modules(struct vmm_x86_blob *blob, uint8_t *info,
                        const struct vmm_x86_modules *modules)
{
    if (modules->count == 0)
        return;
    uint64_t list;
    uint8_t *m = vmm_x86_blob_take(blob, modules->count * MODULE_SIZE, 4, &list);
    vmm_store_le32(info + 20, (uint32_t)modules->count);
    vmm_store_le32(info + 24, (uint32_t)list);
    for (size_t i = 0; i < modules->count; i++, m += MODULE_SIZE) {
        const struct vmm_x86_module *from = &modules->entries[i];
        vmm_store_le32(m, (uint32_t)from->address);
        vmm_store_le32(m + 4, (uint32_t)(from->address + from->length));
        vmm_store_le32(m + 8, (uint32_t)vmm_x86_blob_text(blob, from->command_line));
    }
}

/* Each entry begins with its own size, which does not count itself. */
static void put_memory_map(struct vmm_x86_blob *blob, uint8_t *info,
                           const struct vmm_layout *layout)
{
    uint64_t table;
    uint8_t *e = vmm_x86_blob_take(blob, layout->map_count * MEMORY_MAP_SIZE, 4, &table);
    vmm_store_le32(info + 44, (uint32_t)(layout->map_count * MEMORY_MAP_SIZE));
    vmm_store_le32(info + 48, (uint32_t)table);
    for (size_t i = 0; i < layout->map_count; i++, e += MEMORY_MAP_SIZE) {
        vmm_store_le32(e, MEMORY_MAP_SIZE - 4);
        vmm_store_le64(e + 4, layout->map[i].address);
        vmm_store_le64(e + 12, layout->map[i].length);
        vmm_store_le32(e + 20, layout->map[i].type);
    }
}

static uint32_t kib(uint64_t bytes)
{
    return bytes >> 10 < UINT32_MAX ? (uint32_t)(bytes >> 10) : UINT32_MAX;
}

int vmm_multiboot1_info(struct vmm_load *load, const struct vmm_x86_modules *modules)
{
    static const char *const name = "Multiboot information";
    static const char *const loader = "libvmm";
    struct vmm_x86_blob blob;
    size_t room = INFO_SIZE + modules->count * MODULE_SIZE +
                  load->layout.map_count * MEMORY_MAP_SIZE + vmm_x86_texts_size(load, modules) +
                  strlen(loader) + 1 + 32;
    int rc = vmm_x86_blob_new(load, &blob, room, name);
    if (rc)
        return rc;
    if (blob.address + room - 1 > VMM_X86_4G_END) /* 32-bit fields below */
        rc = vmm_error_set(load->err, -ENOMEM, "%s: no room below 4 GiB", name);
    uint8_t *info = vmm_x86_blob_take(&blob, INFO_SIZE, 8, &load->state.info_address);
    uint32_t flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME;
    vmm_store_le32(info, modules->count ? flags | INFO_MODULES : flags);
    uint64_t lower = vmm_layout_ram_at(&load->layout, 0);
    vmm_store_le32(info + 4, kib(lower < 0xa0000 ? lower : 0xa0000));
    vmm_store_le32(info + 8, kib(vmm_layout_ram_at(&load->layout, 0x100000)));
    put_modules(&blob, info, modules);
    put_memory_map(&blob, info, &load->layout);
    load->state.command_line_address = vmm_x86_blob_text(&blob, load->command_line);
    vmm_store_le32(info + 16, (uint32_t)load->state.command_line_address);
    vmm_store_le32(info + 64, (uint32_t)vmm_x86_blob_text(&blob, loader));
    if (!rc)
        rc = vmm_x86_blob_write(load, &blob, name);
    vmm_x86_blob_free(&blob);
    return rc;
}
