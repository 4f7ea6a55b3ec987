/* SPDX-License-Identifier: BSD-3-Clause */
/* What all PrimeCells have: who they are, in the last 32 bytes of their page. */
#ifndef DEVICES_ARM_PRIMECELL_H
#define DEVICES_ARM_PRIMECELL_H

#include "base/util.h"

#include <libvmm/primecell.h>

#define PRIMECELL_ID_START 0xfe0u

/* The byte at an offset of PRIMECELL_ID_START or more: part number, designer (ARM), revision; then 0xb105f00d. */
static inline uint32_t primecell_id(uint32_t offset, uint32_t part, uint32_t revision)
{
    static const uint8_t cell[] = {0x0d, 0xf0, 0x05, 0xb1};
    const uint8_t peripheral[] = {(uint8_t)part, (uint8_t)(0x10 | part >> 8),
                                  (uint8_t)(revision << 4 | 4), 0};
    uint32_t i = (offset - PRIMECELL_ID_START) / 4;
    return i < 4 ? peripheral[i] : cell[i & 3];
}

/* One page of 32-bit registers on a bus; narrower accesses are cut out of them. */
static inline int primecell_attach(struct vmm_device *device, void *ctx,
                                   uint64_t (*read)(void *, uint64_t, uint32_t),
                                   void (*write)(void *, uint64_t, uint32_t, uint64_t),
                                   struct vmm_bus *bus, uint64_t address, struct vmm_error *err)
{
    struct vmm_region_ops ops = {
        .size = sizeof(ops), .read = read, .write = write, .min_width = 1, .max_width = 4};
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(device);
    region.address = address;
    region.length = VMM_PRIMECELL_SIZE;
    region.device = device;
    region.ops = &ops;
    region.ctx = ctx;
    return vmm_bus_add(bus, &region, NULL, err);
}

#endif
