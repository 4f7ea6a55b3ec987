/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The emulation assist's core: one instruction executed on an architectural state, with guest
 * memory and rarely needed registers behind callbacks. It knows neither KVM nor a vCPU, so it is
 * tested without them.
 *
 * "SDM" is Intel's Software Developer's Manual, "APM" AMD's Architecture Programmer's Manual.
 */
#ifndef VCPU_X86_ASSIST_CORE_H
#define VCPU_X86_ASSIST_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMM_INSN_MAX 15 /* bytes; SDM vol. 2, 2.3.11 */

/* Encoding order of the general registers (SDM vol. 2, table 2-2). */
enum { REG_AX, REG_CX, REG_DX, REG_BX, REG_SP, REG_BP, REG_SI, REG_DI };
/* Encoding order of the segment registers. */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

enum { VEC_DB = 1, VEC_BP = 3, VEC_OF = 4, VEC_UD = 6, VEC_NM = 7, VEC_NP = 11, VEC_SS = 12 };
enum { VEC_GP = 13, VEC_PF = 14, VEC_MF = 16 };

#define X86_CF         (1u << 0)
#define X86_PF         (1u << 2)
#define X86_AF         (1u << 4)
#define X86_ZF         (1u << 6)
#define X86_SF         (1u << 7)
#define X86_TF         (1u << 8)
#define X86_OF         (1u << 11)
#define X86_RF         (1u << 16)
#define X86_VM         (1u << 17)
#define X86_AC         (1u << 18)
#define X86_ARITHMETIC (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)

#define X86_CR0_PE       (1u << 0)
#define X86_CR0_MP       (1u << 1)
#define X86_CR0_TS       (1u << 3)
#define X86_CR4_FSGSBASE (1u << 16)
#define X86_CR4_PCIDE    (1u << 17)
#define X86_CR4_OSXSAVE  (1u << 18)
#define X86_CR4_LA57     (1u << 12)
#define X86_EFER_LMA     (1u << 10)

/* CPUID features that the core asks about; bits of vmm_assist_cpu.features. */
enum vmm_assist_feature {
    FEAT_POPCNT,
    FEAT_LZCNT,
    FEAT_BMI1,
    FEAT_BMI2,
    FEAT_ADX,
    FEAT_MOVBE,
    FEAT_CX16,
    FEAT_RDPID,
    FEAT_FSGSBASE,
    FEAT_SMAP,
    FEAT_XSAVE,
    FEAT_XSAVEOPT,
    FEAT_XSAVEC,
    FEAT_XSAVES,
    FEAT_XGETBV1,
    FEAT_SERIALIZE,
    FEAT_CLWB,
    FEAT_CLFLUSHOPT,
    FEAT_INVPCID,
    FEAT_RDRAND,
    FEAT_RDSEED,
    FEAT_CRC32,
    FEAT_COUNT,
};

struct vmm_assist_segment {
    uint64_t base;
    uint32_t limit; /* in bytes, granularity applied */
    uint16_t selector;
    uint8_t type; /* the descriptor's four type bits */
    bool usable;
};

/* An exception or software interrupt to deliver. */
struct vmm_assist_event {
    uint64_t cr2; /* #PF */
    uint32_t error_code;
    uint8_t vector;
    bool pending;
    bool has_error;
    bool software;  /* int n and its like: RIP is that of the next instruction */
    bool exception; /* of these, int3 and into: delivered as an exception */
};

struct vmm_assist_cpu;

/*
 * What the core needs from outside. Memory calls return 0; 1 when a #PF was filled into
 * cpu->event (nothing was then read or written); -EFAULT where the address is not RAM, so that the
 * instruction cannot be finished; or another negative errno of the host.
 */
struct vmm_assist_ops {
    int (*read)(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, void *data, size_t length,
                bool system);
    int (*write)(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, const void *data,
                 size_t length);
    /* Atomic on 16 aligned bytes. On a mismatch `expected` becomes what was there; `*equal` says. */
    int (*cmpxchg16)(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, uint64_t expected[2],
                     const uint64_t desired[2], bool *equal);
    int (*get_msr)(void *ctx, uint32_t index, uint64_t *value);
    int (*get_xcr0)(void *ctx, uint64_t *value);
    /* The standard-format XSAVE area as KVM has it, at least 576 bytes. */
    int (*get_xsave)(void *ctx, void *area, size_t length);
    int (*set_xsave)(void *ctx, const void *area, size_t length);
    /* CPUID leaf 0xd as the guest has it, for the places of components. */
    void (*cpuid)(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
    /* Drop cached translations. */
    int (*flush_tlb)(void *ctx);
};

struct vmm_assist_cpu {
    const struct vmm_assist_ops *ops;
    void *ctx;
    uint64_t features; /* 1 << FEAT_… */

    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags;

    struct vmm_assist_segment seg[SEG_COUNT];
    uint64_t idt_base;
    uint32_t idt_limit;
    uint64_t cr0, cr4, efer;
    uint8_t cpl;
    bool code64; /* CS.L and EFER.LMA */
    bool code32; /* CS.D */

    /* Outcome */
    struct vmm_assist_event event;
    bool system_dirty; /* a segment base changed */
    uint32_t kind;     /* VMM_X86_ASSIST_… */
};

struct vmm_insn {
    uint8_t length;
    uint8_t operand; /* 2, 4 or 8 bytes */
    uint8_t address; /* 2, 4 or 8 bytes */
    uint8_t rex;
    bool lock;
    uint8_t rep;     /* 0, 0xf2 or 0xf3 */
    bool opsize;     /* 0x66 */
    uint8_t segment; /* SEG_… for the memory operand */
    bool vex;
    uint8_t vvvv;
    bool vex_l;
    uint8_t map; /* 0: one byte, 1: 0f, 2: 0f38, 3: 0f3a */
    uint8_t opcode;
    uint8_t modrm;
    uint8_t mod;
    uint8_t reg; /* extended by REX.R */
    uint8_t rm;  /* extended by REX.B; a register where mod is 3 */
    bool rip_relative;
    uint64_t offset; /* of the memory operand in its segment */
    uint8_t immediate;
};

/* What happened to the instruction. */
#define ASSIST_DONE    1 /* finished, or cpu->event holds what to deliver */
#define ASSIST_UNKNOWN 0 /* nothing changed */

/* Decode an instruction of those that the core knows. False: it is not one, or it is cut short. */
bool vmm_insn_decode(const struct vmm_assist_cpu *cpu, const uint8_t *bytes, size_t length,
                     struct vmm_insn *insn);

/* Execute one instruction at cpu->rip. ASSIST_DONE, ASSIST_UNKNOWN or a negative errno. */
int vmm_assist_execute(struct vmm_assist_cpu *cpu, const uint8_t *bytes, size_t length);

/* For the instruction files. Each returns ASSIST_DONE, ASSIST_UNKNOWN or a negative errno. */
int vmm_assist_raise(struct vmm_assist_cpu *cpu, uint8_t vector);
int vmm_assist_raise_code(struct vmm_assist_cpu *cpu, uint8_t vector, uint32_t code);
/* Operands. True: go on; false: the instruction ends, with `*result` as what it returns. */
bool vmm_assist_get_rm(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                       uint64_t *value, int *result);
bool vmm_assist_set_rm(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                       uint64_t value, int *result);
bool vmm_assist_load(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                     void *data, uint32_t length, int *result);
bool vmm_assist_store(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                      const void *data, uint32_t length, int *result);
/* The linear address of the memory operand after the segment's checks. */
bool vmm_assist_linear(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                       uint32_t length, bool write, uint64_t *linear, int *result);
void vmm_assist_set_gpr(struct vmm_assist_cpu *cpu, uint8_t reg, uint8_t width, uint64_t value);
static inline uint64_t vmm_assist_mask(uint8_t width)
{
    return width == 8 ? UINT64_MAX : (UINT64_C(1) << (width * 8)) - 1;
}
static inline bool vmm_assist_has(const struct vmm_assist_cpu *cpu, enum vmm_assist_feature f)
{
    return (cpu->features >> f & 1) != 0;
}
bool vmm_assist_canonical(const struct vmm_assist_cpu *cpu, uint64_t address);

int vmm_assist_bits(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn);
int vmm_assist_interrupt(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn);
int vmm_assist_system(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn);
int vmm_assist_xsave(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn);

#endif
