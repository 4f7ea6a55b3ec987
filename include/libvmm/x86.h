/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file x86.h
 * x86 processors: registers, CPUID, MSRs. Included by name.
 *
 * Calls that take a vCPU are for the running thread between runs, or for any thread while the vCPU
 * is paused or not running. After an I/O exit call vmm_vcpu_complete() before changing registers.
 */
#ifndef LIBVMM_X86_H
#define LIBVMM_X86_H

#include <libvmm/vcpu.h>

VMM_BEGIN_DECLS

/* Registers ------------------------------------------------------------------------------------ */

struct vmm_x86_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
};

VMM_API int vmm_x86_get_regs(struct vmm_vcpu *vcpu, struct vmm_x86_regs *regs);
VMM_API int vmm_x86_set_regs(struct vmm_vcpu *vcpu, const struct vmm_x86_regs *regs);

/** A segment register with its hidden part (SDM vol. 3, 3.4.3). */
struct vmm_x86_segment {
    uint64_t base;
    uint32_t limit; /**< in bytes */
    uint16_t selector;
    uint8_t type; /**< descriptor type, 4 bits */
    uint8_t present, dpl, db, s, l, g, avl;
    uint8_t unusable;
    uint8_t reserved;
};

struct vmm_x86_table {
    uint64_t base;
    uint16_t limit;
    uint16_t reserved[3];
};

struct vmm_x86_sregs {
    struct vmm_x86_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct vmm_x86_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    uint64_t interrupt_bitmap[4]; /**< an external interrupt that was injected and not delivered */
};

VMM_API int vmm_x86_get_sregs(struct vmm_vcpu *vcpu, struct vmm_x86_sregs *sregs);
VMM_API int vmm_x86_set_sregs(struct vmm_vcpu *vcpu, const struct vmm_x86_sregs *sregs);

struct vmm_x86_msr {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};

/** The MSRs that the host saves and restores. Returns how many; fills in up to `max`. */
VMM_API long vmm_x86_msr_list(struct vmm_host *host, uint32_t *indices, size_t max);
/** Read the MSRs whose index is set. Returns how many were read (it stops at the first that the
 *  host refuses), or a negative errno. At most 1024. */
VMM_API long vmm_x86_get_msrs(struct vmm_vcpu *vcpu, struct vmm_x86_msr *msrs, size_t count);
VMM_API long vmm_x86_set_msrs(struct vmm_vcpu *vcpu, const struct vmm_x86_msr *msrs, size_t count);

/** KVM_TRANSLATE: the host's walk of the guest's page tables, without access checks. -EFAULT: not
 *  mapped. */
VMM_API int vmm_x86_translate(struct vmm_vcpu *vcpu, uint64_t virtual_address,
                              uint64_t *physical_address);

/* CPUID ---------------------------------------------------------------------------------------- */

struct vmm_x86_cpuid_entry {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t indexed; /**< non-zero: the subleaf counts */
    uint32_t eax, ebx, ecx, edx;
    uint32_t reserved;
};

/** A table of CPUID answers, to be looked at and changed before it is given to vCPUs. */
struct vmm_x86_cpuid;

/** What the host can give a guest (KVM_GET_SUPPORTED_CPUID). */
VMM_API int vmm_x86_cpuid_new(struct vmm_host *host, struct vmm_x86_cpuid **out);
VMM_API struct vmm_x86_cpuid *vmm_x86_cpuid_free(struct vmm_x86_cpuid *cpuid);
VMM_API size_t vmm_x86_cpuid_count(const struct vmm_x86_cpuid *cpuid);
/** The entry's memory is the table's: change it in place. NULL beyond the last. */
VMM_API struct vmm_x86_cpuid_entry *vmm_x86_cpuid_entry_at(struct vmm_x86_cpuid *cpuid,
                                                           size_t index);
/** NULL: the table has no such leaf. `subleaf` is looked at where the leaf is indexed. */
VMM_API struct vmm_x86_cpuid_entry *vmm_x86_cpuid_find(struct vmm_x86_cpuid *cpuid, uint32_t leaf,
                                                       uint32_t subleaf);
/** Add an entry, or replace the one of the same leaf and subleaf. */
VMM_API int vmm_x86_cpuid_put(struct vmm_x86_cpuid *cpuid, const struct vmm_x86_cpuid_entry *entry);

VMM_END_DECLS

#endif
