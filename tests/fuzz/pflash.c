/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that writes anything to a flash chip, or to two side by side. What the embedder is told to keep must be what is in
 * it afterwards. */
#include "fuzz.h"

#include <libvmm/pflash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AT     0x100000u
#define LENGTH 0x8000u

static int store(void *ctx, uint64_t offset, const void *data, size_t length)
{
    FUZZ_CHECK(offset <= LENGTH && length <= LENGTH - offset);
    memcpy((uint8_t *)ctx + offset, data, length);
    return 0;
}

static void put(struct vmm_memory *memory, struct vmm_bus *bus, uint64_t address, uint32_t width,
                uint64_t value)
{
    if (vmm_memory_handle_write(memory, address, width, value) == -ENOENT)
        (void)vmm_bus_write(bus, address, width, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct vmm_pflash_options o = VMM_PFLASH_OPTIONS_INIT;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_pflash *flash;
    uint8_t *kept = malloc(LENGTH), *now = malloc(LENGTH);
    FUZZ_CHECK(kept && now);
    memset(kept, 0xff, LENGTH);
    FUZZ_CHECK(vmm_memory_new(NULL, &memory, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("mmio", 52, &bus) == 0);
    uint8_t kind = fuzz_u8(&in);
    o.name = "vars";
    o.memory = memory;
    o.mmio = bus;
    o.address = AT;
    o.length = LENGTH;
    o.bank_width = kind & 1 ? 4 : 1;
    o.block = kind & 2 ? 8192 : 0;
    o.read_only = kind & 4;
    o.store = store;
    o.ctx = kept;
    FUZZ_CHECK(vmm_pflash_new(&o, &flash, NULL) == 0);
    while (in.left > 0) {
        static const uint8_t commands[] = {0x10, 0x40, 0x20, 0x50, 0x60, 0x70,
                                           0x90, 0x98, 0xe8, 0xd0, 0xff, 0x01};
        uint8_t op = fuzz_u8(&in);
        uint32_t width = 1u << (op & 3), offset = (uint32_t)fuzz_u8(&in) * 127 % (LENGTH - 8);
        uint64_t value = fuzz_u8(&in);
        if (op & 0x40) /* mostly commands, in both chips' lanes */
            value = commands[value % sizeof(commands)] * UINT64_C(0x0001000100010001);
        if (op & 0x80)
            put(memory, bus, AT + offset, width, value);
        else if (vmm_memory_handle_read(memory, AT + offset, width, &value) == -ENOENT)
            (void)vmm_bus_read(bus, AT + offset, width, &value);
    }
    FUZZ_CHECK(vmm_pflash_read(flash, 0, now, LENGTH) == 0);
    FUZZ_CHECK(memcmp(now, kept, LENGTH) == 0);
    vmm_pflash_unref(flash);
    vmm_bus_unref(bus);
    vmm_memory_unref(memory);
    free(kept);
    free(now);
    return 0;
}
