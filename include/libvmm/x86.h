/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file x86.h
 * x86 processors: registers, CPUID, MSRs. Included by name.
 *
 * Calls that take a vCPU are for the running thread between runs, or for any thread while the vCPU
 * is paused or not running. After an I/O exit call vmm_vcpu_complete() before changing registers.
 *
 * Once vmm_x86_get_regs() was called, KVM leaves the general registers in struct kvm_run with each exit
 * (KVM_CAP_SYNC_REGS), and reading them again costs no system call. After setting them by a raw
 * KVM_SET_REGS of your own, read them by a raw KVM_GET_REGS too.
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

/** PAE paging: the four PDPTE registers, loaded from memory when CR3 was (SDM vol. 3, 4.4.1).
 *  -ENOTSUP: the host has no such call (Linux before 5.14); -ENODATA, and -EINVAL for the second: not
 *  in PAE paging; the first also where the processor keeps no such registers (SVM). */
VMM_API int vmm_x86_get_pdptrs(struct vmm_vcpu *vcpu, uint64_t pdptrs[4]);
VMM_API int vmm_x86_set_pdptrs(struct vmm_vcpu *vcpu, const uint64_t pdptrs[4]);

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

/* Floating point and extended state ------------------------------------------------------------- */

/** x87 and SSE registers. MXCSR is not here: KVM hands it over in the XSAVE area only. */
struct vmm_x86_fpu {
    uint8_t st[8][16];
    uint16_t fcw, fsw;
    uint8_t ftw; /**< abridged: a bit a register, 1 is valid (FXSAVE's form) */
    uint8_t reserved;
    uint16_t last_opcode;
    uint64_t last_ip, last_dp;
    uint8_t xmm[16][16];
};

VMM_API int vmm_x86_get_fpu(struct vmm_vcpu *vcpu, struct vmm_x86_fpu *fpu);
VMM_API int vmm_x86_set_fpu(struct vmm_vcpu *vcpu, const struct vmm_x86_fpu *fpu);

/** Bytes of the XSAVE area that the host gives; 0: it has none (then use the FPU calls). */
VMM_API size_t vmm_x86_xsave_size(struct vmm_vcpu *vcpu);
/** The XSAVE area in the standard format (SDM vol. 1, 13.4). -EINVAL: not that size. */
VMM_API int vmm_x86_get_xsave(struct vmm_vcpu *vcpu, void *area, size_t size);
VMM_API int vmm_x86_set_xsave(struct vmm_vcpu *vcpu, const void *area, size_t size);
/** Extended control register 0. -ENOTSUP: the host has no such call. */
VMM_API int vmm_x86_get_xcr0(struct vmm_vcpu *vcpu, uint64_t *value);
VMM_API int vmm_x86_set_xcr0(struct vmm_vcpu *vcpu, uint64_t value);

/* Interrupts and events -------------------------------------------------------------------------- */

/** What is being delivered or waits to be (KVM_GET_VCPU_EVENTS). */
struct vmm_x86_events {
    uint8_t exception_injected, exception_vector, exception_has_error, exception_pending;
    uint32_t exception_error;
    uint8_t interrupt_injected, interrupt_vector, interrupt_soft, interrupt_shadow;
    uint8_t nmi_injected, nmi_pending, nmi_masked, reserved;
    uint32_t sipi_vector;
    uint32_t flags; /**< KVM_VCPUEVENT_VALID_…: which parts count when set */
    uint8_t smi_smm, smi_pending, smi_in_nmi, smi_latched_init;
    uint8_t triple_fault_pending, reserved2[3];
    uint64_t exception_payload;
    uint8_t exception_has_payload, reserved3[7];
};

VMM_API int vmm_x86_get_events(struct vmm_vcpu *vcpu, struct vmm_x86_events *events);
VMM_API int vmm_x86_set_events(struct vmm_vcpu *vcpu, const struct vmm_x86_events *events);

/** With VMM_IRQCHIP_NONE: deliver an external interrupt with the next run. The guest must be able to
 *  take it: see vmm_x86_interrupt_ready(). */
VMM_API int vmm_x86_inject_interrupt(struct vmm_vcpu *vcpu, uint32_t vector);
/** Can it? If not, and `wait` is set, vmm_vcpu_run() returns VMM_EXIT_IRQ_WINDOW when it can. */
VMM_API bool vmm_x86_interrupt_ready(struct vmm_vcpu *vcpu, bool wait);
VMM_API int vmm_x86_inject_nmi(struct vmm_vcpu *vcpu);

/** The local APIC's registers, 1 KiB as they lie in memory (SDM vol. 3, 11.4.1). */
#define VMM_X86_LAPIC_SIZE 1024u
VMM_API int vmm_x86_get_lapic(struct vmm_vcpu *vcpu, void *registers);
VMM_API int vmm_x86_set_lapic(struct vmm_vcpu *vcpu, const void *registers);

#define VMM_X86_MP_RUNNABLE      0u
#define VMM_X86_MP_UNINITIALIZED 1u /**< waits for INIT */
#define VMM_X86_MP_INIT_RECEIVED 2u /**< waits for SIPI */
#define VMM_X86_MP_HALTED        3u
#define VMM_X86_MP_SIPI_RECEIVED 4u
VMM_API int vmm_x86_get_mp_state(struct vmm_vcpu *vcpu, uint32_t *state);
VMM_API int vmm_x86_set_mp_state(struct vmm_vcpu *vcpu, uint32_t state);

/* Debugging -------------------------------------------------------------------------------------- */

struct vmm_x86_debug_regs {
    uint64_t dr[4];
    uint64_t dr6, dr7;
};
/** The guest's own debug registers. */
VMM_API int vmm_x86_get_debug_regs(struct vmm_vcpu *vcpu, struct vmm_x86_debug_regs *regs);
VMM_API int vmm_x86_set_debug_regs(struct vmm_vcpu *vcpu, const struct vmm_x86_debug_regs *regs);

#define VMM_X86_DEBUG_STEP     0x1u /**< VMM_EXIT_DEBUG after each instruction */
#define VMM_X86_DEBUG_SOFTWARE 0x2u /**< int3 exits */
#define VMM_X86_DEBUG_HARDWARE 0x4u /**< the breakpoints below are in force, not the guest's */

/** Debug the guest from outside. `flags` 0 ends it. `hardware` counts with VMM_X86_DEBUG_HARDWARE:
 *  its DR7 enables them. */
VMM_API int vmm_x86_set_guest_debug(struct vmm_vcpu *vcpu, uint32_t flags,
                                    const struct vmm_x86_debug_regs *hardware);

/* Time ------------------------------------------------------------------------------------------- */

/** The guest's TSC frequency in kHz. Setting needs a host that scales (-ENOTSUP, -EIO). */
VMM_API int vmm_x86_get_tsc_khz(struct vmm_vcpu *vcpu, uint32_t *khz);
VMM_API int vmm_x86_set_tsc_khz(struct vmm_vcpu *vcpu, uint32_t khz);

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

/** What the host can give a guest (KVM_GET_SUPPORTED_CPUID). `host` NULL: an empty table. */
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
 *                               the same features on every host that can give them (vendor, model,
 *                               caches, address widths and KVM's own leaves stay the host's)
 *     +NAME, -NAME              one feature more or fewer, by the name that Linux shows in
 *                               /proc/cpuinfo; + brings what it needs, and - takes what cannot be
 *                               without it; the last word counts
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

/** The APIC id, and so the vmm_vcpu_new() id, of a machine's processor `cpu`: its index where threads
 *  and cores are powers of two, else with gaps (SDM vol. 3, 9.9.1). Negative: -EINVAL, -ERANGE. */
VMM_API long vmm_x86_apic_id(const struct vmm_x86_topology *topology, uint32_t cpu);

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
