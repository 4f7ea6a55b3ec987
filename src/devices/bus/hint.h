/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accesses by a vCPU: it remembers the region that it used last, because the next access mostly is to the
 * same one. Other vCPUs and threads have nothing to do with that memory.
 */
#ifndef BUS_HINT_H
#define BUS_HINT_H

#include <libvmm/bus.h>

struct bus_hint {
    uint64_t serial;           /* of the tree that has the region; 0: none */
    struct vmm_region *region; /* valid while the bus still has that tree */
};

/* As vmm_bus_read(), for widths of 1 to 8; all ones where nothing claims it. */
uint64_t vmm_bus_read_hinted(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                             uint32_t width);
/* As vmm_bus_write(); 0 also where nothing claims it. */
int vmm_bus_write_hinted(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                         uint32_t width, uint64_t value);

#endif
