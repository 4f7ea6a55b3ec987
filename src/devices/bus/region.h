/* SPDX-License-Identifier: BSD-3-Clause */
/* A place on a bus, and one access to it. */
#ifndef BUS_REGION_H
#define BUS_REGION_H

#include <libvmm/bus.h>

#include <stdatomic.h>

struct vmm_region {
    _Atomic uint64_t address;
    _Atomic bool enabled; /* claims its range */
    uint64_t length;
    struct vmm_region_ops ops;
    void *ctx;
    struct vmm_device *device;
    _Atomic uint64_t reads, writes; /* accesses by the guest, before splitting */
    struct vmm_region *next_dead;
    char name[32];
};

/* The whole access lies inside the region; `width` is 1 to 8. Takes the device's lock. */
uint64_t region_read(struct vmm_region *region, uint64_t offset, uint32_t width);
void region_write(struct vmm_region *region, uint64_t offset, uint32_t width, uint64_t value);

#endif
