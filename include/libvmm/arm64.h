/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file arm64.h
 * What only arm64 has: registers by number, and the GIC. Builds for other architectures lack these functions.
 *
 * A vCPU is made with PSCI 1.x (KVM answers the guest's calls) and with SVE and pointer authentication where the
 * host has them. vCPU 0 starts; the others wait for PSCI's CPU_ON.
 */
#ifndef LIBVMM_ARM64_H
#define LIBVMM_ARM64_H

#include <libvmm/loader.h>
#include <libvmm/paging.h>
#include <libvmm/vcpu.h>

VMM_BEGIN_DECLS

/* Registers ---------------------------------------------------------------------------------- */

struct vmm_arm64_regs {
    uint64_t x[31];
    uint64_t sp; /**< of the current exception level */
    uint64_t pc;
    uint64_t pstate; /**< as SPSR_EL1 has it */
};

/* On the running thread, or while the vCPU is paused or not running. */
VMM_API int vmm_arm64_get_regs(struct vmm_vcpu *vcpu, struct vmm_arm64_regs *regs);
VMM_API int vmm_arm64_set_regs(struct vmm_vcpu *vcpu, const struct vmm_arm64_regs *regs);

/** Bytes of the register that KVM names `id` (KVM_REG_ARM64 | … in <linux/kvm.h>); 0: it is no register's. */
VMM_API size_t vmm_arm64_reg_length(uint64_t id);
/** One register; `length` must be vmm_arm64_reg_length(id) (-EINVAL). -ENOENT: the vCPU has none such. */
VMM_API int vmm_arm64_get_reg(struct vmm_vcpu *vcpu, uint64_t id, void *value, size_t length);
VMM_API int vmm_arm64_set_reg(struct vmm_vcpu *vcpu, uint64_t id, const void *value, size_t length);
/** Every register that the vCPU has: up to `max` numbers into `ids`; returns how many there are, or a negative
 *  errno. */
VMM_API long vmm_arm64_reg_list(struct vmm_vcpu *vcpu, uint64_t *ids, size_t max);

/** A report of several lines about an exit: reason and registers, always terminated. Returns its whole length, as
 *  snprintf() does, or -EINVAL. */
VMM_API int vmm_arm64_describe_exit(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text,
                                    size_t size);

/** Put a vCPU at the entry of a loaded kernel: vmm_kernel_load()'s state. */
VMM_API int vmm_arm64_boot_apply(struct vmm_vcpu *vcpu, const struct vmm_boot_state *state);

/* Paging -------------------------------------------------------------------------------------- */

/** The registers that say how EL1 and EL0 translate. */
struct vmm_arm64_paging_regs {
    uint64_t sctlr, tcr, ttbr0, ttbr1; /**< SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1 */
    uint64_t pstate;                   /**< for PAN */
};
/** A context for the walker of <libvmm/paging.h>; vmm_vcpu_paging_context() asks a vCPU for the registers. With the
 *  MMU off: VMM_PAGE_FORMAT_NONE. -ENOTSUP: 52-bit addresses with a small granule (TCR_EL1.DS), two granules at
 *  once, big-endian tables. */
VMM_API int vmm_arm64_paging_from_regs(const struct vmm_arm64_paging_regs *regs,
                                       struct vmm_paging_context *context);

/* Interrupt controller ------------------------------------------------------------------------ */

#define VMM_ARM64_GIC_SPIS        96u /**< shared interrupts; GSI n is SPI n */
#define VMM_ARM64_GICD_SIZE       UINT64_C(0x10000)
#define VMM_ARM64_GICR_SIZE       UINT64_C(0x20000) /**< of each vCPU */
#define VMM_ARM64_GITS_SIZE       UINT64_C(0x20000)
#define VMM_ARM64_GICC_SIZE       UINT64_C(0x2000)
#define VMM_ARM64_GITS_TRANSLATER UINT64_C(0x10040) /**< offset that messages are written to */

struct vmm_arm64_gic_options {
    size_t size;
    uint32_t version;       /**< 3, 2, or 0: what the host has, 3 before 2 */
    uint32_t reserved;      /**< zero */
    uint64_t distributor;   /**< guest-physical address, 64 KiB */
    uint64_t redistributor; /**< version 3: 128 KiB for each vCPU */
    uint64_t its;           /**< version 3: the translation service, 128 KiB; 0: none, and no MSI */
    uint64_t cpu_interface; /**< version 2: 8 KiB */
};
#define VMM_ARM64_GIC_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_arm64_gic_options), 0, 0, 0, 0, 0, 0                                     \
    }

/** Make the VM's GIC in KVM; before the first vCPU. Call vmm_arm64_gic_init() after the last. -ENODEV: the host
 *  has none of that version; -EEXIST: there is one. Owned by the VM; saved and loaded with it (version 3). */
VMM_API int vmm_arm64_gic_new(struct vmm_vm *vm, const struct vmm_arm64_gic_options *options,
                              struct vmm_error *err);
/** All vCPUs are there: `cpus` of them, with ids 0 and up. */
VMM_API int vmm_arm64_gic_init(struct vmm_vm *vm, uint32_t cpus, struct vmm_error *err);
/** 2 or 3; 0: there is no GIC yet. */
VMM_API uint32_t vmm_arm64_gic_version(const struct vmm_vm *vm);

VMM_END_DECLS

#endif
