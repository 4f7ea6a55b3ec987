/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that does anything to the keyboard controller, while the user types and moves the mouse. */
#include "fuzz.h"

#include <libvmm/i8042.h>

#include <linux/input-event-codes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t ports[] = {0x60, 0x64, 0x92, 0x60};
    struct fuzz_input in = {data, size};
    struct vmm_i8042_options o = VMM_I8042_OPTIONS_INIT;
    struct vmm_bus *bus;
    struct vmm_i8042 *c;
    o.name = "i8042";
    FUZZ_CHECK(vmm_i8042_new(&o, &c) == 0);
    FUZZ_CHECK(vmm_bus_new("port", 16, &bus) == 0);
    FUZZ_CHECK(vmm_i8042_attach(c, bus, NULL) == 0);
    while (in.left > 0) {
        uint8_t op = fuzz_u8(&in);
        uint64_t value = 0;
        if (op & 0x80)
            (void)vmm_bus_write(bus, ports[op & 3], 1, fuzz_u8(&in));
        else if (op & 0x40)
            (void)vmm_bus_read(bus, ports[op & 3], 1, &value);
        else if (op & 0x20)
            (void)vmm_i8042_key(c, fuzz_u8(&in), op & 1);
        else if (op & 0x10)
            vmm_i8042_mouse_move(c, (int32_t)fuzz_u32(&in), (int32_t)fuzz_u32(&in));
        else if (op & 0x08)
            vmm_i8042_mouse_wheel(c, (int32_t)fuzz_u32(&in));
        else
            (void)vmm_i8042_mouse_button(c, BTN_LEFT + (op & 7), op & 1);
        FUZZ_CHECK(value <= 0xff);
    }
    vmm_bus_unref(bus);
    vmm_i8042_unref(c);
    return 0;
}
