/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file assist.h
 * x86: finishing instructions that KVM's emulator gives up on, disassembly, and crash reports.
 *
 * KVM executes guest code by its instruction emulator where the processor cannot: on hosts without
 * VT-x or SVM (the PVM vendor module) all code at CPL 0, elsewhere instructions that touch MMIO
 * and, on old VT-x processors, real mode. What the emulator lacks ends KVM_RUN with an internal
 * error, suberror 1. With the assist on, the library executes that one instruction on the vCPU's
 * registers and memory, delivers its exception if it has one, and runs on.
 *
 * What it executes: int3, int n and into (protected and long mode), fwait, clac, stac, popcnt, lzcnt,
 * tzcnt, BMI1, BMI2, ADX, crc32, movbe, cmpxchg16b, rdpid, rdfsbase and its family, xgetbv, the xsave
 * family, serialize, clwb, clflushopt, invpcid, rdrand, rdseed; in all modes, operand and address
 * sizes, with their faults. Linux needs no parameters with it. It is not asked about what KVM believes
 * to know: on PVM tzcnt and lzcnt run as bsf and bsr, movbe and rdpid raise #UD at CPL 0 although
 * CPUID shows them, and int n of user code raises #UD.
 */
#ifndef LIBVMM_ASSIST_H
#define LIBVMM_ASSIST_H

#include <libvmm/vcpu.h>

VMM_BEGIN_DECLS

#define VMM_X86_ASSIST_OFF 0u /**< such an instruction ends vmm_vcpu_run() */
#define VMM_X86_ASSIST_ON  1u

/** Looks at an instruction before the built-in assist; exit->reason is VMM_EXIT_INTERNAL_ERROR, and
 *  the bytes are in exit->u.internal_error. On the running thread; registers may be read and set.
 *  Returns 1 when it finished the instruction (RIP advanced too), 0 to leave it to the built-in
 *  assist, or a negative errno, which vmm_vcpu_run() returns. */
typedef int (*vmm_x86_assist_fn)(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/**
 * Choose what happens on suberror 1. A new vCPU has VMM_X86_ASSIST_OFF. On: KVM is told, for the
 * whole VM, to report failed instructions of user code too (KVM_CAP_EXIT_ON_EMULATION_FAILURE,
 * where the host has it); those that the assist cannot finish get #UD, as without the assist.
 * @param mode  VMM_X86_ASSIST_…
 * @param fn    NULL, or the embedder's callback, asked first; must be NULL for OFF
 * @return 0, -EINVAL, -ENOMEM, or an error of the host. On the running thread or while not running.
 */
VMM_API int vmm_x86_assist_set(struct vmm_vcpu *vcpu, uint32_t mode, vmm_x86_assist_fn fn,
                               void *ctx);

/** Kinds of instructions, for the counters. */
#define VMM_X86_ASSIST_INT3       0u
#define VMM_X86_ASSIST_INT        1u /**< int n */
#define VMM_X86_ASSIST_INTO       2u
#define VMM_X86_ASSIST_FWAIT      3u
#define VMM_X86_ASSIST_SMAP       4u /**< clac, stac */
#define VMM_X86_ASSIST_POPCNT     5u
#define VMM_X86_ASSIST_CMPXCHG16B 6u
#define VMM_X86_ASSIST_RDPID      7u
#define VMM_X86_ASSIST_FSGSBASE   8u
#define VMM_X86_ASSIST_XSAVE      9u /**< xsave, xrstor and their variants */
#define VMM_X86_ASSIST_XGETBV     10u
#define VMM_X86_ASSIST_MOVBE      11u
#define VMM_X86_ASSIST_BITS       12u /**< lzcnt, tzcnt, BMI1, BMI2, ADX, crc32 */
#define VMM_X86_ASSIST_CACHE      13u /**< clwb, clflushopt */
#define VMM_X86_ASSIST_SERIALIZE  14u
#define VMM_X86_ASSIST_INVPCID    15u
#define VMM_X86_ASSIST_RANDOM     16u /**< rdrand, rdseed */
#define VMM_X86_ASSIST_KINDS      17u

struct vmm_x86_assist_counts {
    size_t size;
    uint64_t finished[32]; /**< by VMM_X86_ASSIST_…; those that raised an exception included */
    uint64_t exceptions;   /**< of these, how many ended in an exception or interrupt */
    uint64_t embedder;     /**< finished by the embedder's callback */
    uint64_t refused;      /**< not finished: reported, or #UD for user code */
};
#define VMM_X86_ASSIST_COUNTS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_x86_assist_counts), {0}, 0, 0, 0                                         \
    }

/** Counters since vmm_x86_assist_set() switched on; all zero where it never was. Thread-safe as
 *  registers are. */
VMM_API int vmm_x86_assist_get_counts(const struct vmm_vcpu *vcpu,
                                      struct vmm_x86_assist_counts *counts);
/** A static name of a kind, such as "popcnt"; "unknown" beyond the last. */
VMM_API const char *vmm_x86_assist_kind_name(uint32_t kind);

/**
 * Write one instruction as text: Intel syntax where the library was built with Zydis, else the
 * bytes in hexadecimal. Always terminated with a zero byte.
 * @param bits  16, 32 or 64
 * @return the instruction's length, 0 where it is not known, -EINVAL
 */
VMM_API int vmm_x86_disassemble(const void *bytes, size_t length, uint32_t bits, uint64_t rip,
                                char *text, size_t size);

/**
 * Write a report of several lines about an exit that ends the VM: the reason, registers, the code
 * at RIP in bytes and disassembled, the top of the stack. For any exit; never fails: what cannot
 * be read is left out. Always terminated; 4096 bytes are enough.
 * @return the length of the whole report, which may be more than `size`, or -EINVAL
 */
VMM_API int vmm_x86_describe_exit(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text,
                                  size_t size);

VMM_END_DECLS

#endif
