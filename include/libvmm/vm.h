/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vm.h
 * A virtual machine as the kernel knows it: one KVM VM descriptor, its interrupt controller and
 * clock. It has no memory, no processor and no device until those are made.
 */
#ifndef LIBVMM_VM_H
#define LIBVMM_VM_H

#include <libvmm/host.h>
#include <libvmm/log.h>
#include <libvmm/state.h>

VMM_BEGIN_DECLS

struct vmm_vm;

/** Where the interrupt controllers are. */
#define VMM_IRQCHIP_NONE   0u /**< nowhere: interrupts by vmm_x86_inject_interrupt() only */
#define VMM_IRQCHIP_KERNEL 1u /**< PIC, I/O APIC and local APICs (arm64: GIC) in KVM */
#define VMM_IRQCHIP_SPLIT  2u /**< local APICs in KVM, the rest in user space; MSI works */

/** The guest misbehaved; the device is in its specified failed state. Called from any thread with
 *  that device's lock held: do not call the library. `text` names what was wrong. */
typedef void (*vmm_guest_error_fn)(void *ctx, const char *device, const char *text);

struct vmm_vm_options {
    size_t size;
    uint64_t type;        /**< KVM_CREATE_VM's argument; 0 is the default machine */
    uint32_t irqchip;     /**< VMM_IRQCHIP_… */
    uint32_t pit;         /**< x86, non-zero: an i8254 in KVM (needs VMM_IRQCHIP_KERNEL) */
    uint32_t split_pins;  /**< VMM_IRQCHIP_SPLIT: I/O APIC pins routed by user space; 0 means 24 */
    uint32_t kick_signal; /**< the signal that interrupts KVM_RUN; 0: none, see vcpu.h */
    uint64_t tss_address; /**< x86: three pages below 4 GiB for KVM's own use; 0: 0xfffbd000 */
    uint64_t identity_map_address;  /**< x86: one page for KVM's own use; 0: 0xfffbc000 */
    struct vmm_log log;             /**< where messages of the VM and everything made from it go */
    vmm_guest_error_fn guest_error; /**< NULL: counted only */
    void *guest_error_ctx;
};
#define VMM_VM_OPTIONS_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_vm_options), 0, VMM_IRQCHIP_KERNEL, 0, 0, 0, 0, 0, {0, 0, 0, 0}, 0, 0    \
    }

/** Make a VM. @param options NULL for the defaults. May block for milliseconds. */
VMM_API int vmm_vm_new(struct vmm_host *host, const struct vmm_vm_options *options,
                       struct vmm_vm **out, struct vmm_error *err);
VMM_API struct vmm_vm *vmm_vm_ref(struct vmm_vm *vm);
VMM_API struct vmm_vm *vmm_vm_unref(struct vmm_vm *vm);

VMM_API struct vmm_host *vmm_vm_host(const struct vmm_vm *vm);
/** The VM's descriptor; owned by the object. */
VMM_API int vmm_vm_fd(const struct vmm_vm *vm);
VMM_API uint32_t vmm_vm_irqchip(const struct vmm_vm *vm);
VMM_API uint32_t vmm_vm_kick_signal(const struct vmm_vm *vm);
VMM_API const struct vmm_log *vmm_vm_log(const struct vmm_vm *vm);
/** KVM_CHECK_EXTENSION on the VM, which may differ from the host's answer. Thread-safe. */
VMM_API int vmm_vm_capability(const struct vmm_vm *vm, uint32_t number);
/** KVM_ENABLE_CAP with up to four arguments. Negative errno on failure, else KVM's answer. */
VMM_API int vmm_vm_enable_capability(struct vmm_vm *vm, uint32_t number, const uint64_t *args,
                                     size_t count);

/** Report guest misbehaviour to the embedder's callback and count it. Thread-safe. */
VMM_API void vmm_vm_guest_error(struct vmm_vm *vm, const char *device, const char *format, ...)
    VMM_PRINTF(3, 4);
VMM_API uint64_t vmm_vm_guest_error_count(const struct vmm_vm *vm);

/* Clock (x86: kvmclock) --------------------------------------------------------------------- */

struct vmm_clock {
    size_t size;
    uint64_t clock_ns;    /**< guest time since its start */
    uint64_t realtime_ns; /**< the host's wall clock at the same instant; 0: not given */
    uint64_t host_tsc;    /**< the host's TSC at the same instant; 0: not given */
};
#define VMM_CLOCK_INIT                                                                             \
    {                                                                                              \
        sizeof(struct vmm_clock), 0, 0, 0                                                          \
    }

VMM_API int vmm_vm_get_clock(struct vmm_vm *vm, struct vmm_clock *clock);
/** With a `realtime_ns` and a host that knows it, time passed since the save is added. */
VMM_API int vmm_vm_set_clock(struct vmm_vm *vm, const struct vmm_clock *clock);

/** Write the node "vm": interrupt controllers, PIT and clock in KVM. No vCPU runs. */
VMM_API int vmm_vm_save(struct vmm_vm *vm, struct vmm_state_writer *w);
/** Read it back, into a VM made with the same options. Checked before anything is set. */
VMM_API int vmm_vm_load(struct vmm_vm *vm, struct vmm_state_reader *r, struct vmm_error *err);

VMM_END_DECLS

#endif
