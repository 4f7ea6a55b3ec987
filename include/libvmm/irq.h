/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file irq.h
 * Interrupts: lines, messages, the GSI routing table, irqfds and ioeventfds.
 *
 * GSI: KVM's global number of an interrupt source. With VMM_IRQCHIP_KERNEL on x86, GSIs 0 to 15
 * reach the PICs and the I/O APIC, 16 to 23 the I/O APIC only, as KVM's default table has it.
 * All functions are thread-safe unless said otherwise.
 */
#ifndef LIBVMM_IRQ_H
#define LIBVMM_IRQ_H

#include <libvmm/vm.h>

VMM_BEGIN_DECLS

/* Lines -------------------------------------------------------------------------------------- */

/**
 * One wire from one device to an interrupt input. Several lines on the same GSI are ORed, as
 * level-triggered PCI interrupts are. A device knows a line, never the controller behind it.
 */
struct vmm_irq_line;

/** A line to a GSI of the VM's interrupt controller, low at first. */
VMM_API int vmm_irq_line_new(struct vmm_vm *vm, uint32_t gsi, struct vmm_irq_line **out);
/** A line to a function of the embedder's, called on each change of level with the device's lock
 *  held (tests, interrupt controllers in user space). */
VMM_API int vmm_irq_line_new_callback(void (*set)(void *ctx, uint32_t level), void *ctx,
                                      struct vmm_irq_line **out);
/** Lowers the line first. */
VMM_API struct vmm_irq_line *vmm_irq_line_free(struct vmm_irq_line *line);
/** Set the level (0 or 1). No system call when nothing changes. NULL is fine. Negative errno when
 *  the host refuses. */
VMM_API int vmm_irq_line_set(struct vmm_irq_line *line, uint32_t level);
/** Raise and lower: an edge. */
VMM_API int vmm_irq_line_pulse(struct vmm_irq_line *line);
VMM_API uint32_t vmm_irq_line_level(const struct vmm_irq_line *line);

/* Messages ----------------------------------------------------------------------------------- */

/** A message-signalled interrupt (PCI 3.0 §6.8). */
struct vmm_msi {
    uint64_t address;
    uint32_t data;
    uint32_t device_id; /**< arm64 ITS: the requester; else 0 */
};

/** Deliver now. 1: delivered, 0: blocked by the guest, negative errno: refused. */
VMM_API int vmm_vm_signal_msi(struct vmm_vm *vm, const struct vmm_msi *msi);

/* Routing table ------------------------------------------------------------------------------ */

/** Reserve a free GSI for a message route (above the controller's pins). -ENOSPC: none left. */
VMM_API int vmm_vm_gsi_alloc(struct vmm_vm *vm, uint32_t *gsi);
/** Give it back and drop its route. */
VMM_API void vmm_vm_gsi_free(struct vmm_vm *vm, uint32_t gsi);
/** Route a GSI to a message. Takes effect at vmm_vm_routes_commit(). */
VMM_API int vmm_vm_route_msi(struct vmm_vm *vm, uint32_t gsi, const struct vmm_msi *msi);
/** Route a GSI to a pin of a controller (x86: KVM_IRQCHIP_PIC_MASTER, …_PIC_SLAVE, …_IOAPIC).
 *  A GSI may reach several chips. Takes effect at vmm_vm_routes_commit(). */
VMM_API int vmm_vm_route_pin(struct vmm_vm *vm, uint32_t gsi, uint32_t chip, uint32_t pin);
/** Drop every route of a GSI. Takes effect at vmm_vm_routes_commit(). */
VMM_API void vmm_vm_route_clear(struct vmm_vm *vm, uint32_t gsi);
/** Hand all pending changes to KVM in one call; nothing is done when there are none. */
VMM_API int vmm_vm_routes_commit(struct vmm_vm *vm);

/* irqfd and ioeventfd ------------------------------------------------------------------------ */

/** Writing to eventfd `fd` raises `gsi`. With `resample_fd` >= 0 the interrupt is level-triggered:
 *  it stays raised until the guest's EOI, which KVM reports on `resample_fd` (KVM_CAP_IRQFD_RESAMPLE).
 *  Both descriptors stay the caller's. */
VMM_API int vmm_vm_irqfd_add(struct vmm_vm *vm, int fd, uint32_t gsi, int resample_fd);
VMM_API int vmm_vm_irqfd_remove(struct vmm_vm *vm, int fd, uint32_t gsi);

#define VMM_SPACE_PORT 0u /**< x86 I/O ports */
#define VMM_SPACE_MMIO 1u /**< guest-physical memory */

/** A guest write that signals an eventfd without leaving the kernel. */
struct vmm_ioeventfd {
    size_t size;
    uint32_t space; /**< VMM_SPACE_… */
    uint32_t
        length; /**< 1, 2, 4, 8, or 0 for any width (MMIO only, KVM_CAP_IOEVENTFD_ANY_LENGTH) */
    uint64_t address;
    uint32_t match; /**< non-zero: only writes of the value `data` */
    int32_t fd;     /**< an eventfd; stays the caller's */
    uint64_t data;
};
#define VMM_IOEVENTFD_INIT                                                                         \
    {                                                                                              \
        sizeof(struct vmm_ioeventfd), 0, 0, 0, 0, -1, 0                                            \
    }

VMM_API int vmm_vm_ioeventfd_add(struct vmm_vm *vm, const struct vmm_ioeventfd *event);
/** The same description as it was added with. */
VMM_API int vmm_vm_ioeventfd_remove(struct vmm_vm *vm, const struct vmm_ioeventfd *event);

/**
 * Let KVM collect the guest's writes to a range (coalesced MMIO, and ports where the host can) instead of
 * leaving the guest for each. They reach the I/O handler in their order, before whatever a vCPU exits for next;
 * without an exit, when vmm_vcpu_drain() is called or KVM's ring is full. For registers that are
 * written much and whose effect can wait: frame buffers by window, index registers.
 * @param space  VMM_SPACE_…; @param length  bytes, up to 4 GiB
 * -ENOTSUP: the host has no such capability; -ENOSPC: it has no room for more ranges. Thread-safe.
 */
VMM_API int vmm_vm_coalesce_add(struct vmm_vm *vm, uint32_t space, uint64_t address,
                                uint64_t length);
/** Writes that were collected still arrive. */
VMM_API int vmm_vm_coalesce_remove(struct vmm_vm *vm, uint32_t space, uint64_t address,
                                   uint64_t length);

VMM_END_DECLS

#endif
