/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that does anything to the firmware configuration's registers, DMA requests included. */
#include "fuzz.h"

#include <libvmm/fwcfg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t zeros[100];
    struct fuzz_input in = {data, size};
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_fwcfg *fwcfg;
    FUZZ_CHECK(vmm_memory_new(NULL, &memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(memory, "ram", 0, 0x4000, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("port", 16, &bus) == 0);
    o.name = "fwcfg";
    o.memory = memory;
    FUZZ_CHECK(vmm_fwcfg_new(&o, &fwcfg) == 0);
    FUZZ_CHECK(vmm_fwcfg_attach_ports(fwcfg, bus, VMM_FWCFG_PORT, NULL) == 0);
    FUZZ_CHECK(vmm_fwcfg_set_file(fwcfg, "etc/r", zeros, 33, NULL) == 0);
    FUZZ_CHECK(vmm_fwcfg_add_writable(fwcfg, "etc/w", zeros, 100, NULL, NULL, NULL) == 0);
    while (in.left > 0) {
        uint8_t op = fuzz_u8(&in);
        uint64_t value;
        if (op & 0x80) { /* a request in memory */
            uint32_t words[4] = {fuzz_u32(&in), fuzz_u32(&in), op & 1 ? fuzz_u32(&in) : 0,
                                 fuzz_u32(&in)};
            (void)vmm_memory_write(memory, 0x100, words, sizeof(words));
            (void)vmm_bus_write(bus, VMM_FWCFG_PORT + 8, 4, 0x00010000); /* 0x100, big-endian */
        } else if (op & 0x40) {
            (void)vmm_bus_write(bus, VMM_FWCFG_PORT + op % 12,
                                1u << (op >> 4 & 1 ? 2 : op >> 5 & 1), fuzz_u32(&in));
        } else {
            (void)vmm_bus_read(bus, VMM_FWCFG_PORT + op % 12, 1u << (op >> 4 & 3), &value);
        }
    }
    vmm_bus_unref(bus);
    vmm_fwcfg_unref(fwcfg);
    vmm_memory_unref(memory);
    return 0;
}
