/* SPDX-License-Identifier: BSD-3-Clause */
/* System and state instructions (each: its page in SDM vol. 2): clac, stac, fwait, rdpid,
 * rdfsbase and its family, xgetbv, serialize, clwb, clflushopt, invpcid, rdrand, rdseed. */
#include "vcpu/x86/assist_core.h"

#include <base/util.h>
#include <libvmm/assist.h>
#include <sys/random.h>

#define MSR_TSC_AUX 0xc0000103u

static int smap_flag(struct vmm_assist_cpu *cpu, bool set)
{
    cpu->kind = VMM_X86_ASSIST_SMAP;
    if (cpu->cpl != 0 || !vmm_assist_has(cpu, FEAT_SMAP)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    cpu->rflags = set ? cpu->rflags | X86_AC : cpu->rflags & ~(uint64_t)X86_AC;
    return ASSIST_DONE;
}

static int xgetbv(struct vmm_assist_cpu *cpu)
{
    cpu->kind = VMM_X86_ASSIST_XGETBV;
    uint32_t index = (uint32_t)cpu->gpr[REG_CX];
    if (!vmm_assist_has(cpu, FEAT_XSAVE) || (cpu->cr4 & X86_CR4_OSXSAVE) == 0) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (index > 1 || (index == 1 && !vmm_assist_has(cpu, FEAT_XGETBV1))) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    uint64_t value;
    int r = cpu->ops->get_xcr0(cpu->ctx, &value);
    if (r != 0) {
        return r;
    }
    if (index == 1) { /* XCR0 and XINUSE (SDM vol. 1, 13.6) */
        uint8_t area[576];
        r = cpu->ops->get_xsave(cpu->ctx, area, sizeof(area));
        if (r != 0) {
            return r;
        }
        value &= vmm_load_le64(area + 512);
    }
    vmm_assist_set_gpr(cpu, REG_AX, 4, value);
    vmm_assist_set_gpr(cpu, REG_DX, 4, value >> 32);
    return ASSIST_DONE;
}

/* 0F 01 with a register form */
static int group7(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    if (insn->opsize || insn->rep != 0) {
        return ASSIST_UNKNOWN;
    }
    switch (insn->modrm) {
    case 0xca:
        return smap_flag(cpu, false);
    case 0xcb:
        return smap_flag(cpu, true);
    case 0xd0:
        return xgetbv(cpu);
    case 0xe8:
        cpu->kind = VMM_X86_ASSIST_SERIALIZE;
        return vmm_assist_has(cpu, FEAT_SERIALIZE) ? ASSIST_DONE : vmm_assist_raise(cpu, VEC_UD);
    default:
        return ASSIST_UNKNOWN;
    }
}

/* F3 0F AE /0 to /3 with a register: rdfsbase, rdgsbase, wrfsbase, wrgsbase */
static int base_register(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint8_t which = insn->modrm >> 3 & 7;
    struct vmm_assist_segment *s = &cpu->seg[(which & 1) != 0 ? SEG_GS : SEG_FS];
    cpu->kind = VMM_X86_ASSIST_FSGSBASE;
    if (!cpu->code64 || !vmm_assist_has(cpu, FEAT_FSGSBASE) || (cpu->cr4 & X86_CR4_FSGSBASE) == 0) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    uint8_t width = insn->operand == 8 ? 8 : 4;
    if (which < 2) {
        vmm_assist_set_gpr(cpu, insn->rm, width, s->base);
        return ASSIST_DONE;
    }
    uint64_t value = cpu->gpr[insn->rm] & vmm_assist_mask(width);
    if (!vmm_assist_canonical(cpu, value)) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    s->base = value;
    cpu->system_dirty = true;
    return ASSIST_DONE;
}

/* clwb and clflushopt are loads of one byte to the checks; host caches are coherent. */
static int cache_line(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn,
                      enum vmm_assist_feature feature)
{
    cpu->kind = VMM_X86_ASSIST_CACHE;
    if (!vmm_assist_has(cpu, feature)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    uint8_t byte;
    int result;
    return vmm_assist_load(cpu, insn, 0, &byte, 1, &result) ? ASSIST_DONE : result;
}

/* 0F AE apart from the XSAVE family */
static int group15(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint8_t which = insn->modrm >> 3 & 7;
    if (insn->mod == 3) {
        return insn->rep == 0xf3 && which < 4 ? base_register(cpu, insn) : ASSIST_UNKNOWN;
    }
    if (!insn->opsize || insn->rep != 0 || which < 6) {
        return ASSIST_UNKNOWN;
    }
    return cache_line(cpu, insn, which == 6 ? FEAT_CLWB : FEAT_CLFLUSHOPT);
}

static int rdpid(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint64_t value;
    cpu->kind = VMM_X86_ASSIST_RDPID;
    if (!vmm_assist_has(cpu, FEAT_RDPID)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    int r = cpu->ops->get_msr(cpu->ctx, MSR_TSC_AUX, &value);
    if (r != 0) {
        return r;
    }
    /* The operand is 64 bits in 64-bit mode; TSC_AUX has 32. */
    vmm_assist_set_gpr(cpu, insn->rm, cpu->code64 ? 8 : 4, (uint32_t)value);
    return ASSIST_DONE;
}

static int random_number(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, bool seed)
{
    uint64_t value = 0;
    cpu->kind = VMM_X86_ASSIST_RANDOM;
    if (!vmm_assist_has(cpu, seed ? FEAT_RDSEED : FEAT_RDRAND)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    /* CF clear tells the guest that there is none at the moment. */
    bool got = getrandom(&value, sizeof(value), GRND_NONBLOCK) == (ssize_t)sizeof(value);
    cpu->rflags &= ~(uint64_t)X86_ARITHMETIC;
    cpu->rflags |= got ? X86_CF : 0;
    vmm_assist_set_gpr(cpu, insn->rm, insn->operand, got ? value : 0);
    return ASSIST_DONE;
}

/* 0F C7 with a register */
static int group9(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint8_t which = insn->modrm >> 3 & 7;
    if (insn->mod != 3 || which < 6 || insn->rep == 0xf2) {
        return ASSIST_UNKNOWN;
    }
    if (insn->rep == 0xf3) {
        return which == 7 ? rdpid(cpu, insn) : ASSIST_UNKNOWN;
    }
    return random_number(cpu, insn, which == 7);
}

/* 66 0F 38 82: the descriptor's checks, then all translations go, which every type allows. */
static int invpcid(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint64_t descriptor[2];
    int result;
    cpu->kind = VMM_X86_ASSIST_INVPCID;
    if (!vmm_assist_has(cpu, FEAT_INVPCID) || insn->mod == 3) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (cpu->cpl != 0) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    uint64_t type = cpu->gpr[insn->reg] & vmm_assist_mask(cpu->code64 ? 8 : 4);
    if (type > 3) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    if (!vmm_assist_load(cpu, insn, 0, descriptor, sizeof(descriptor), &result)) {
        return result;
    }
    uint64_t pcid = descriptor[0];
    bool bad = type < 2 && (pcid >> 12 != 0 || ((cpu->cr4 & X86_CR4_PCIDE) == 0 && pcid != 0));
    if (bad || (type == 0 && !vmm_assist_canonical(cpu, descriptor[1]))) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    int r = cpu->ops->flush_tlb(cpu->ctx);
    return r != 0 ? r : ASSIST_DONE;
}

static int fwait(struct vmm_assist_cpu *cpu)
{
    uint8_t area[576];
    cpu->kind = VMM_X86_ASSIST_FWAIT;
    if ((cpu->cr0 & (X86_CR0_MP | X86_CR0_TS)) == (X86_CR0_MP | X86_CR0_TS)) {
        return vmm_assist_raise(cpu, VEC_NM);
    }
    int r = cpu->ops->get_xsave(cpu->ctx, area, sizeof(area));
    if (r != 0) {
        return r;
    }
    /* The error summary bit of the status word (SDM vol. 1, 8.1.3.3). */
    return (area[2] & 0x80) != 0 ? vmm_assist_raise(cpu, VEC_MF) : ASSIST_DONE;
}

int vmm_assist_system(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    if (insn->map == 0 && insn->opcode == 0x9b) {
        return fwait(cpu);
    }
    if (insn->vex || insn->lock) {
        return ASSIST_UNKNOWN;
    }
    if (insn->map == 1 && insn->opcode == 0x01 && insn->mod == 3) {
        return group7(cpu, insn);
    }
    if (insn->map == 1 && insn->opcode == 0xae) {
        return group15(cpu, insn);
    }
    if (insn->map == 1 && insn->opcode == 0xc7) {
        return group9(cpu, insn);
    }
    if (insn->map == 2 && insn->opcode == 0x82 && insn->opsize && insn->rep == 0) {
        return invpcid(cpu, insn);
    }
    return ASSIST_UNKNOWN;
}
