/* SPDX-License-Identifier: BSD-3-Clause */
/* The UART's registers, for tests and fuzzing without a bus. The caller holds the device's lock. */
#ifndef LEGACY_SERIAL_H
#define LEGACY_SERIAL_H

#include <stdint.h>

uint64_t vmm_serial_read(void *serial, uint64_t offset, uint32_t width);
void vmm_serial_write(void *serial, uint64_t offset, uint32_t width, uint64_t value);

#endif
