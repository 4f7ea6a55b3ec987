/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI tables as bytes, before they are anywhere. */
#ifndef LOADER_ACPI_H
#define LOADER_ACPI_H

#include <libvmm/acpi.h>

/* An image of guest memory from `address` on, the root pointer first; the caller frees it. */
int vmm_acpi_build_image(const struct vmm_acpi_description *description, uint64_t address,
                         uint64_t room, void **data, size_t *length, struct vmm_error *err);

#endif
