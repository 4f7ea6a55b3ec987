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

#include <libvmm/paging.h>
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

/** How the vCPU translates now, for the walker (paging.h) and the translation cache (translate.h):
 *  from CR0, CR3, CR4, EFER, its CPUID, its protection keys and, for PAE where the processor uses
 *  them, the PDPTE registers. Set context->size by its initialiser. */
VMM_API int vmm_x86_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context);
/** The part that the registers tell, with 1 GiB pages, every address width and no keys. */
VMM_API int vmm_x86_paging_from_sregs(const struct vmm_x86_sregs *sregs,
                                      struct vmm_paging_context *context);

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

/**
 * Shape a table by a text: an optional base, then features, separated by commas.
 *
 *     host                      all that the host can give (the default)
 *     x86-64-v1 … x86-64-v4     the levels of the psABI, with what every kernel needs, and no more:
 *                               the same on every host that can give it
 *     +NAME, -NAME              one feature more or fewer, by the name that Linux shows in
 *                               /proc/cpuinfo; what cannot be without it goes with it
 *
 * -EINVAL: no such base or feature; -ENOTSUP: the host cannot give it; the text names it. The table
 * is then as before. For a table fresh from vmm_x86_cpuid_new().
 */
VMM_API int vmm_x86_cpuid_apply_text(struct vmm_x86_cpuid *cpuid, const char *text,
                                     struct vmm_error *err);
/** Does the table show a feature? -ENOENT: no such name. */
VMM_API int vmm_x86_cpuid_has(struct vmm_x86_cpuid *cpuid, const char *feature);

/** How the processors of a machine are arranged; zeros: one socket of single-threaded cores. */
struct vmm_x86_topology {
    size_t size;
    uint32_t cpus;             /**< of the machine */
    uint32_t threads_per_core; /**< 0: 1 */
    uint32_t cores_per_socket; /**< 0: as many as there are */
    uint32_t reserved;
};
#define VMM_X86_TOPOLOGY_INIT                                                                      \
    {                                                                                              \
        sizeof(struct vmm_x86_topology), 1, 0, 0, 0                                                \
    }

/**
 * Give a vCPU its CPUID: the table, with its own APIC id, the topology and cache-sharing leaves
 * filled in. Before the vCPU has run. The table is not changed and may serve every vCPU.
 */
VMM_API int vmm_x86_cpuid_set(const struct vmm_x86_cpuid *cpuid, struct vmm_vcpu *vcpu,
                              const struct vmm_x86_topology *topology, struct vmm_error *err);
/** What vmm_x86_cpuid_set() would give vCPU `id`: fills in up to `max` entries, returns how many. */
VMM_API long vmm_x86_cpuid_for(const struct vmm_x86_cpuid *cpuid, uint32_t id,
                               const struct vmm_x86_topology *topology,
                               struct vmm_x86_cpuid_entry *entries, size_t max);

VMM_END_DECLS

#endif
