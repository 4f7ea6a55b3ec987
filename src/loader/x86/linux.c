/* SPDX-License-Identifier: BSD-3-Clause */
/* What a Linux kernel is handed: the zero page (struct boot_params) and what it points to. Linux,
 * Documentation/arch/x86/boot.rst and zero-page.rst. */
#include "base/util.h"
#include "loader/x86/boot.h"

/* Offsets in the zero page. */
#define EXT_MEM_K          0x002
#define CL_MAGIC           0x020
#define CL_OFFSET          0x022
#define ACPI_RSDP_ADDR     0x070
#define EXT_RAMDISK_IMAGE  0x0c0
#define EXT_RAMDISK_SIZE   0x0c4
#define ALT_MEM_K          0x1e0
#define E820_ENTRIES       0x1e8
#define VID_MODE           0x1fa
#define BOOT_FLAG          0x1fe
#define HEADER_MAGIC       0x202
#define VERSION            0x206
#define TYPE_OF_LOADER     0x210
#define LOADFLAGS          0x211
#define RAMDISK_IMAGE      0x218
#define RAMDISK_SIZE       0x21c
#define HEAP_END_PTR       0x224
#define CMD_LINE_PTR       0x228
#define INITRD_ADDR_MAX    0x22c
#define KERNEL_ALIGNMENT   0x230
#define RELOCATABLE_KERNEL 0x234
#define CMDLINE_SIZE       0x238
#define SETUP_DATA         0x250
#define E820_TABLE         0x2d0
#define E820_TABLE_ENTRIES 128u
#define E820_ENTRY_SIZE    20u

#define SETUP_DATA_VERSION 0x209u

/* Types of setup_data. */
#define SETUP_E820_EXT 1u
#define SETUP_DTB      2u
#define SETUP_RNG_SEED 9u
#define SETUP_HEADER   16u /* bytes in front of the data: next, type, len */

#define LOADED_HIGH      0x01u
#define CAN_USE_HEAP     0x80u
#define LOADER_UNDEFINED 0xffu

void vmm_linux_header_default(struct vmm_linux *lx)
{
    memset(lx, 0, sizeof(*lx));
    lx->version = 0x20f;
    lx->command_line_max = 2047; /* COMMAND_LINE_SIZE - 1 of the architecture */
    lx->initrd_last = 0x7fffffff;
    vmm_store_le16(lx->header + BOOT_FLAG, 0xaa55);
    memcpy(lx->header + HEADER_MAGIC, "HdrS", 4);
    vmm_store_le16(lx->header + VERSION, (uint16_t)lx->version);
    lx->header[LOADFLAGS] = LOADED_HIGH;
    vmm_store_le32(lx->header + INITRD_ADDR_MAX, (uint32_t)lx->initrd_last);
    vmm_store_le32(lx->header + KERNEL_ALIGNMENT, 0x200000);
    vmm_store_le32(lx->header + CMDLINE_SIZE, (uint32_t)lx->command_line_max);
}

static int load_initrd(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page)
{
    if (load->initrd.length == 0)
        return 0;
    uint64_t length = load->initrd.length, address;
    struct vmm_place place = {length, 4096, 0x100000, lx->initrd_last, true};
    int rc = vmm_layout_find(&load->layout, &place, &address,
                             lx->initrd_above_4g ? NULL : load->err, "initrd");
    if (rc == -ENOMEM && lx->initrd_above_4g) {
        place.high = UINT64_MAX;
        rc = vmm_layout_find(&load->layout, &place, &address, load->err, "initrd");
    }
    if (!rc)
        rc = vmm_source_load(&load->initrd, 0, length, load->memory, address, "initrd", load->err);
    if (rc)
        return rc;
    vmm_store_le32(page + RAMDISK_IMAGE, (uint32_t)address);
    vmm_store_le32(page + RAMDISK_SIZE, (uint32_t)length);
    vmm_store_le32(page + EXT_RAMDISK_IMAGE, (uint32_t)(address >> 32));
    vmm_store_le32(page + EXT_RAMDISK_SIZE, (uint32_t)(length >> 32));
    load->state.initrd_address = address;
    load->state.initrd_length = length;
    return 0;
}

static void encode_e820(uint8_t *to, const struct vmm_memory_map_entry *entry)
{
    vmm_store_le64(to, entry->address);
    vmm_store_le64(to + 8, entry->length);
    vmm_store_le32(to + 16, entry->type);
}

/* Put a setup_data node in front of the list. */
static int add_setup_data(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page,
                          uint32_t type, const void *data, size_t length, const char *name)
{
    if (lx->version < SETUP_DATA_VERSION)
        return vmm_error_set(load->err, -ENOTSUP,
                             "%s: the kernel's boot protocol 2.%02u has no setup_data (2.09 has)",
                             name, lx->version & 0xff);
    uint64_t address;
    int rc = vmm_x86_place(load, SETUP_HEADER + length, 16, false, &address, name);
    if (rc)
        return rc;
    uint8_t header[SETUP_HEADER];
    memcpy(header, page + SETUP_DATA, 8);
    vmm_store_le32(header + 8, type);
    vmm_store_le32(header + 12, (uint32_t)length);
    vmm_store_le64(page + SETUP_DATA, address);
    rc = vmm_load_write(load, address, header, sizeof(header), name);
    return rc ? rc : vmm_load_write(load, address + SETUP_HEADER, data, length, name);
}

/* The entries that the zero page has no room for. */
static int add_e820_rest(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page)
{
    static const char *const name = "memory map";
    const struct vmm_layout *layout = &load->layout;
    size_t count = layout->map_count - E820_TABLE_ENTRIES;
    uint8_t rest[(VMM_LAYOUT_MAP_MAX - E820_TABLE_ENTRIES) * E820_ENTRY_SIZE];
    for (size_t i = 0; i < count; i++)
        encode_e820(rest + i * E820_ENTRY_SIZE, &layout->map[E820_TABLE_ENTRIES + i]);
    return add_setup_data(load, lx, page, SETUP_E820_EXT, rest, count * E820_ENTRY_SIZE, name);
}

static int fill_memory_map(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page)
{
    const struct vmm_layout *layout = &load->layout;
    size_t n = layout->map_count < E820_TABLE_ENTRIES ? layout->map_count : E820_TABLE_ENTRIES;
    for (size_t i = 0; i < n; i++)
        encode_e820(page + E820_TABLE + i * E820_ENTRY_SIZE, &layout->map[i]);
    page[E820_ENTRIES] = (uint8_t)n;
    /* Kernels from before e820 look here. */
    uint64_t above_1m = vmm_layout_ram_at(layout, 0x100000) >> 10;
    vmm_store_le32(page + ALT_MEM_K, above_1m < UINT32_MAX ? (uint32_t)above_1m : UINT32_MAX);
    vmm_store_le16(page + EXT_MEM_K, above_1m < 0xfc00 ? (uint16_t)above_1m : 0xfc00);
    return layout->map_count > E820_TABLE_ENTRIES ? add_e820_rest(load, lx, page) : 0;
}

static int fill_command_line(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page,
                             uint64_t zero_page, uint64_t address)
{
    if (lx->version >= 0x202) {
        vmm_store_le32(page + CMD_LINE_PTR, (uint32_t)address);
    } else { /* "The old command line protocol" */
        vmm_store_le16(page + CL_MAGIC, 0xa33f);
        vmm_store_le16(page + CL_OFFSET, (uint16_t)(address - zero_page));
    }
    return vmm_load_command_line(load, address);
}

static int add_all_setup_data(struct vmm_load *load, const struct vmm_linux *lx, uint8_t *page)
{
    const struct vmm_kernel_options *o = &load->options;
    int rc = 0;
    if (o->device_tree)
        rc = add_setup_data(load, lx, page, SETUP_DTB, o->device_tree, o->device_tree_length,
                            "device tree");
    if (!rc && o->random_seed && lx->version >= SETUP_DATA_VERSION) /* else it goes without */
        rc = add_setup_data(load, lx, page, SETUP_RNG_SEED, o->random_seed, o->random_seed_length,
                            "random seed");
    return rc;
}

int vmm_linux_parameters(struct vmm_load *load, struct vmm_linux *lx, uint64_t *zero_page)
{
    if (load->options.module_count)
        return vmm_error_set(load->err, -EINVAL,
                             "modules: Linux's boot protocol has none; use an initrd, or the "
                             "formats multiboot and pvh");
    int rc = vmm_load_check_command_line(load, lx->command_line_max);
    if (rc)
        return rc;
    /* The command line follows the zero page, as the old protocol wants it within 64 KiB. */
    size_t line = strlen(load->command_line) + 1;
    rc = vmm_x86_place(load, 4096 + line, 4096, false, zero_page, "zero page and command line");
    if (rc)
        return rc;
    uint8_t page[4096] = {0};
    memcpy(page, lx->header, sizeof(lx->header));
    page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    page[LOADFLAGS] &= (uint8_t)~CAN_USE_HEAP; /* that is for the 16-bit entry */
    vmm_store_le16(page + VID_MODE, 0xffff);   /* "normal" */
    vmm_store_le64(page + ACPI_RSDP_ADDR, load->options.acpi_rsdp);
    rc = load_initrd(load, lx, page);
    if (!rc)
        rc = fill_memory_map(load, lx, page);
    if (!rc)
        rc = add_all_setup_data(load, lx, page);
    if (!rc)
        rc = fill_command_line(load, lx, page, *zero_page, *zero_page + 4096);
    if (!rc)
        rc = vmm_load_write(load, *zero_page, page, sizeof(page), "zero page");
    load->state.info_address = *zero_page;
    load->state.protocol = lx->version;
    return rc;
}
