/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file debugport.h
 * The ports that firmware and test guests use: a console that is one port wide (Bochs' 0xe9,
 * firmware's 0x402), and a port that ends the VM with a status.
 */
#ifndef LIBVMM_DEBUGPORT_H
#define LIBVMM_DEBUGPORT_H

#include <libvmm/bus.h>
#include <libvmm/chardev.h>

VMM_BEGIN_DECLS

/** What a read of the port gives: firmware looks for it before it writes. */
#define VMM_DEBUGCON_READBACK 0xe9u

/**
 * Every byte written to the port goes to `chardev` (held; several ports may share one). What the
 * chardev does not take at once is dropped: debug output never holds a guest up. The bus holds the
 * device. @param out  NULL, or a reference
 */
VMM_API int vmm_debugcon_add(struct vmm_bus *bus, uint64_t port, const char *name,
                             struct vmm_chardev *chardev, struct vmm_device **out,
                             struct vmm_error *err);

/**
 * A write of the value v to the port (1, 2 or 4 bytes) calls `exit(ctx, v * 2 + 1)`, with the low
 * 31 bits of that, on the vCPU's thread with the device's lock held. The bus holds the device.
 */
VMM_API int vmm_exitport_add(struct vmm_bus *bus, uint64_t port, const char *name,
                             void (*exit)(void *ctx, int32_t status), void *ctx,
                             struct vmm_device **out, struct vmm_error *err);

VMM_END_DECLS

#endif
