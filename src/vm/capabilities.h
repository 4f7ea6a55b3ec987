/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VM_CAPABILITIES_H
#define VM_CAPABILITIES_H

#include <stddef.h>
#include <stdint.h>

struct vmm_capability_name {
    uint32_t number;
    const char *name;
};
extern const struct vmm_capability_name vmm_capability_names[];
extern const size_t vmm_capability_name_count;

#endif
