/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A PCI device of one's own: an engine that copies guest memory and inverts every bit on the way.
 *
 * BAR 0, registers of 4 bytes, little-endian (64-bit ones are two, or one access of 8 bytes):
 *   0x00  ID           reads 0x49564d56
 *   0x08  SOURCE       guest-physical address, 64 bits
 *   0x10  DESTINATION  guest-physical address, 64 bits
 *   0x18  LENGTH       bytes, at most 1 MiB
 *   0x1c  COMMAND      a write of 1 starts
 *   0x20  STATUS       0 nothing done yet, 1 done, 2 failed; reading it lowers the interrupt pin
 *   0x24  COUNT        commands so far
 * Interrupts: MSI-X vector 0 when a command is done, vector 1 when it failed; or INTA.
 */
#ifndef INVERTER_H
#define INVERTER_H

#include <libvmm/pci.h>

/* Make one, for vmm_pci_host_add() or vmm_pci_bridge_add(). */
int inverter_new(const char *name, struct vmm_pci **out, struct vmm_error *err);

#endif
