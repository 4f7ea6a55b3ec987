/* SPDX-License-Identifier: BSD-3-Clause */
/* What the loader's fuzz targets share: a guest with RAM in two pieces, and the things that must hold
 * whatever the file says. */
#ifndef TESTS_FUZZ_LOADER_H
#define TESTS_FUZZ_LOADER_H

#include <stdlib.h>
#include <string.h>

#include <libvmm/x86-boot.h>

#define RAM_LOW  0x400000ull
#define RAM_HIGH 0x400000ull /* directly behind it, another backing */

static inline void must(int ok)
{
    if (!ok)
        abort();
}

static inline struct vmm_memory *fuzz_memory(void)
{
    struct vmm_memory *memory = NULL;
    must(vmm_memory_new(NULL, &memory, NULL) == 0);
    must(vmm_memory_add_ram(memory, "low", 0, RAM_LOW, NULL, NULL) == 0);
    must(vmm_memory_add_ram(memory, "high", RAM_LOW, RAM_HIGH, NULL, NULL) == 0);
    return memory;
}

/* Load the input in one of the formats. The first byte chooses it and what comes with it. */
static inline void fuzz_load(const uint8_t *data, size_t size, const uint32_t *formats,
                             size_t count)
{
    if (size < 2)
        return;
    static uint8_t initrd[9000];
    static const uint8_t tree[48] = {0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 48};
    struct vmm_kernel_module module = {VMM_FILE_INIT, "module"};
    module.file.data = initrd;
    module.file.data_length = 5000;
    struct vmm_memory_map_entry map[] = {
        {0, 0x9f000, VMM_MEMORY_MAP_RAM, 0},
        {0x9f000, 0x61000, VMM_MEMORY_MAP_RESERVED, 0},
        {0x100000, RAM_LOW + RAM_HIGH - 0x100000, VMM_MEMORY_MAP_RAM, 0},
        {0x250000, 0x1000, VMM_MEMORY_MAP_ACPI, 0},
    };
    struct vmm_kernel_options o = VMM_KERNEL_OPTIONS_INIT;
    o.format = formats[(data[0] & 7) % count];
    o.unpack = data[0] >> 3 & 1;
    o.kernel.data = data + 1;
    o.kernel.data_length = size - 1;
    if (data[0] & 0x10) {
        o.initrd.data = initrd;
        o.initrd.data_length = sizeof(initrd);
    }
    if (data[0] & 0x20) {
        o.modules = &module;
        o.module_count = 1;
    }
    if (data[0] & 0x40) {
        o.memory_map = map;
        o.memory_map_count = 4;
        o.command_line = "console=ttyS0";
    }
    if (data[0] & 0x80) {
        o.device_tree = tree;
        o.device_tree_length = sizeof(tree);
    }
    struct vmm_memory *memory = fuzz_memory();
    if (data[0] & 0x40) /* a reserved page must stay as it is */
        must(vmm_memory_fill(memory, 0x250000, 0xee, 0x1000) == 0);
    struct vmm_boot_state state = VMM_BOOT_STATE_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = vmm_kernel_load(memory, &o, &state, &err);
    if (rc) {
        must(rc < 0 && err.code == rc && err.text[0]);
    } else {
        struct vmm_x86_boot boot;
        must(vmm_x86_boot_get(&state, &boot) == 0);
        must(state.entry < RAM_LOW + RAM_HIGH);
        must(state.entry - state.kernel_address < state.kernel_length);
        must(vmm_memory_valid(memory, state.info_address, 56, true));
        must(vmm_memory_valid(memory, boot.gdt.base, boot.gdt.limit + 1u, true));
    }
    if (data[0] & 0x40) {
        uint8_t page[0x1000];
        must(vmm_memory_read(memory, 0x250000, page, sizeof(page)) == 0);
        for (size_t i = 0; i < sizeof(page); i++)
            must(page[i] == 0xee);
    }
    vmm_memory_unref(memory);
}

#endif
