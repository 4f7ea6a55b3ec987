/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file x86-boot.h
 * The state in which an x86 kernel is entered.
 */
#ifndef LIBVMM_X86_BOOT_H
#define LIBVMM_X86_BOOT_H

#include <libvmm/loader.h>
#include <libvmm/x86.h>

VMM_BEGIN_DECLS

#define VMM_X86_BOOT_REAL      1u /**< real mode */
#define VMM_X86_BOOT_PROTECTED 2u /**< 32-bit protected mode, paging off */
#define VMM_X86_BOOT_LONG      3u /**< 64-bit mode, identity-mapped */

/** Registers that are not here are as after reset. */
struct vmm_x86_boot {
    uint32_t mode; /**< VMM_X86_BOOT_… */
    uint32_t reserved;
    struct vmm_x86_regs regs;
    struct vmm_x86_segment cs;
    struct vmm_x86_segment data; /**< DS, ES, FS, GS and SS */
    struct vmm_x86_segment tr;
    struct vmm_x86_table gdt, idt;
    uint64_t cr0, cr3, cr4, efer;
};

/** Take the registers out of a state that vmm_kernel_load() filled in. -EINVAL: it did not. */
VMM_API int vmm_x86_boot_get(const struct vmm_boot_state *state, struct vmm_x86_boot *boot);

/** Set a vCPU's general and special registers to that state; what it does not speak of (APIC base,
 *  CR8, MSRs) stays. 0, -EINVAL or the host's error. On the running thread, or not running. */
VMM_API int vmm_x86_boot_apply(struct vmm_vcpu *vcpu, const struct vmm_boot_state *state);

VMM_END_DECLS

#endif
