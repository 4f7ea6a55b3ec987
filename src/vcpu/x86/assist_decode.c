/* SPDX-License-Identifier: BSD-3-Clause */
/* Decoding for the emulation assist: prefixes, REX and VEX, the opcode maps, and the effective
 * address of ModRM and SIB (SDM vol. 2, chapter 2). Only the instructions that the assist executes
 * are known; of any other nothing is claimed. */
#include "vcpu/x86/assist_core.h"

#include <base/util.h>

struct cursor {
    const uint8_t *bytes;
    size_t length;
    size_t at;
    bool bad;
};

static uint64_t take(struct cursor *c, size_t count)
{
    uint64_t value = 0;
    if (count > c->length - c->at) {
        c->bad = true;
        c->at = c->length;
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        value |= (uint64_t)c->bytes[c->at + i] << (8 * i);
    }
    c->at += count;
    return value;
}

static uint64_t take_signed(struct cursor *c, size_t count)
{
    uint64_t value = take(c, count);
    unsigned shift = (unsigned)(64 - 8 * count);
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

#define NO_SEGMENT 0xff

static bool legacy_prefix(const struct vmm_assist_cpu *cpu, struct vmm_insn *insn, uint8_t byte,
                          bool *adsize)
{
    static const uint8_t overrides[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    for (uint8_t i = 0; i < VMM_ARRAY_SIZE(overrides); i++) {
        if (byte == overrides[i]) {
            /* In 64-bit mode only FS and GS can be chosen (SDM vol. 1, 3.4.2.1). */
            if (!cpu->code64 || i >= SEG_FS) {
                insn->segment = i;
            }
            return true;
        }
    }
    switch (byte) {
    case 0x66:
        insn->opsize = true;
        return true;
    case 0x67:
        *adsize = true;
        return true;
    case 0xf0:
        insn->lock = true;
        return true;
    case 0xf2:
    case 0xf3:
        insn->rep = byte;
        return true;
    default:
        return false;
    }
}

static void prefixes(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn)
{
    bool adsize = false;
    while (c->at < c->length && legacy_prefix(cpu, insn, c->bytes[c->at], &adsize)) {
        c->at++;
    }
    if (cpu->code64 && c->at < c->length && (c->bytes[c->at] & 0xf0) == 0x40) {
        insn->rex = c->bytes[c->at++];
    }
    if (cpu->code64) {
        insn->address = adsize ? 4 : 8;
        insn->operand = (insn->rex & 8) != 0 ? 8 : insn->opsize ? 2 : 4;
    } else {
        insn->address = cpu->code32 != adsize ? 4 : 2;
        insn->operand = cpu->code32 != insn->opsize ? 4 : 2;
    }
}

/* VEX (SDM vol. 2, 2.3.5). The prefix byte is already taken. */
static bool vex_prefix(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn,
                       uint8_t first)
{
    static const uint8_t implied[] = {0, 0x66, 0xf3, 0xf2};
    if (insn->rex != 0 || insn->opsize || insn->rep != 0 || insn->lock) {
        return false; /* #UD on hardware too */
    }
    uint8_t one = (uint8_t)take(c, 1);
    uint8_t two = one;
    insn->map = 1;
    uint8_t rex = 0x40;
    rex |= (one & 0x80) != 0 ? 0 : 4;
    if (first == 0xc4) {
        two = (uint8_t)take(c, 1);
        rex |= (one & 0x40) != 0 ? 0 : 2;
        rex |= (one & 0x20) != 0 ? 0 : 1;
        rex |= (two & 0x80) != 0 ? 8 : 0;
        insn->map = one & 0x1f;
    }
    insn->vex = true;
    insn->vvvv = (uint8_t)(~two >> 3 & 15);
    insn->vex_l = (two & 4) != 0;
    uint8_t pp = implied[two & 3];
    insn->opsize = pp == 0x66;
    insn->rep = pp == 0x66 ? 0 : pp;
    if (cpu->code64) {
        insn->rex = rex;
    } else {
        insn->vvvv &= 7;
    }
    insn->operand = cpu->code64 && (rex & 8) != 0 ? 8 : 4;
    return insn->map >= 1 && insn->map <= 3;
}

/* Outside 64-bit mode C4 and C5 are LES and LDS where the next byte's mod is not 3, and VEX does
 * not exist in real and virtual-8086 mode. */
static bool is_vex(const struct vmm_assist_cpu *cpu, const struct cursor *c, uint8_t byte)
{
    if (byte != 0xc4 && byte != 0xc5) {
        return false;
    }
    if (cpu->code64) {
        return true;
    }
    return (cpu->cr0 & X86_CR0_PE) != 0 && (cpu->rflags & X86_VM) == 0 && c->at < c->length &&
           (c->bytes[c->at] & 0xc0) == 0xc0;
}

static bool opcode(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn)
{
    uint8_t byte = (uint8_t)take(c, 1);
    if (is_vex(cpu, c, byte)) {
        if (!vex_prefix(cpu, c, insn, byte)) {
            return false;
        }
        byte = (uint8_t)take(c, 1);
    } else if (byte == 0x0f) {
        insn->map = 1;
        byte = (uint8_t)take(c, 1);
        if (byte == 0x38 || byte == 0x3a) {
            insn->map = byte == 0x38 ? 2 : 3;
            byte = (uint8_t)take(c, 1);
        }
    }
    insn->opcode = byte;
    return !c->bad;
}

/* Does a known opcode have a ModRM byte, and how many bytes of immediate? -1: not known. Every
 * known one of the longer maps has a ModRM byte. */
static int shape(const struct vmm_insn *insn, bool *has_modrm)
{
    *has_modrm = insn->map != 0;
    if (insn->map != 0) {
        return insn->map == 3 ? 1 : 0;
    }
    switch (insn->opcode) {
    case 0xcd:
        return 1;
    case 0x9b:
    case 0xcc:
    case 0xce:
        return 0;
    default:
        return -1;
    }
}

static void default_segment(struct vmm_insn *insn, bool stack)
{
    if (insn->segment == NO_SEGMENT) {
        insn->segment = stack ? SEG_SS : SEG_DS;
    }
}

/* SDM vol. 2, table 2-1 */
static void address16(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn)
{
    static const struct {
        uint8_t base, index;
    } forms[8] = {{REG_BX, REG_SI}, {REG_BX, REG_DI}, {REG_BP, REG_SI}, {REG_BP, REG_DI},
                  {REG_SI, 0xff},   {REG_DI, 0xff},   {REG_BP, 0xff},   {REG_BX, 0xff}};
    uint8_t rm = insn->modrm & 7;
    uint64_t offset = 0;
    if (insn->mod == 0 && rm == 6) {
        offset = take(c, 2);
        default_segment(insn, false);
    } else {
        offset = cpu->gpr[forms[rm].base];
        offset += forms[rm].index != 0xff ? cpu->gpr[forms[rm].index] : 0;
        offset += insn->mod == 1 ? take_signed(c, 1) : insn->mod == 2 ? take_signed(c, 2) : 0;
        default_segment(insn, forms[rm].base == REG_BP);
    }
    insn->offset = offset & 0xffff;
}

/* SDM vol. 2, tables 2-2 and 2-3 */
static void address32(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn)
{
    uint8_t rm = insn->modrm & 7;
    uint8_t rex = insn->rex;
    uint64_t offset = 0;
    bool stack = false;
    if (rm == 4) {
        uint8_t sib = (uint8_t)take(c, 1);
        uint8_t base = (uint8_t)((sib & 7) | (rex & 1) << 3);
        uint8_t index = (uint8_t)((sib >> 3 & 7) | (rex & 2) << 2);
        if (index != REG_SP) {
            offset = cpu->gpr[index] << (sib >> 6);
        }
        if ((sib & 7) == REG_BP && insn->mod == 0) {
            offset += take_signed(c, 4);
        } else {
            offset += cpu->gpr[base];
            stack = base == REG_SP || base == REG_BP;
        }
    } else if (rm == REG_BP && insn->mod == 0) {
        offset = take_signed(c, 4);
        insn->rip_relative = cpu->code64;
    } else {
        offset = cpu->gpr[insn->rm];
        stack = insn->rm == REG_BP;
    }
    offset += insn->mod == 1 ? take_signed(c, 1) : insn->mod == 2 ? take_signed(c, 4) : 0;
    default_segment(insn, stack);
    insn->offset = offset;
}

static void modrm(const struct vmm_assist_cpu *cpu, struct cursor *c, struct vmm_insn *insn)
{
    insn->modrm = (uint8_t)take(c, 1);
    insn->mod = insn->modrm >> 6;
    insn->reg = (uint8_t)((insn->modrm >> 3 & 7) | (insn->rex & 4) << 1);
    insn->rm = (uint8_t)((insn->modrm & 7) | (insn->rex & 1) << 3);
    if (insn->mod == 3) {
        return;
    }
    if (insn->address == 2) {
        address16(cpu, c, insn);
    } else {
        address32(cpu, c, insn);
    }
}

bool vmm_insn_decode(const struct vmm_assist_cpu *cpu, const uint8_t *bytes, size_t length,
                     struct vmm_insn *insn)
{
    struct cursor c = {bytes, length < VMM_INSN_MAX ? length : VMM_INSN_MAX, 0, false};
    memset(insn, 0, sizeof(*insn));
    insn->segment = NO_SEGMENT;
    prefixes(cpu, &c, insn);
    if (!opcode(cpu, &c, insn)) {
        return false;
    }
    bool has_modrm;
    int immediate = shape(insn, &has_modrm);
    if (immediate < 0) {
        return false;
    }
    if (has_modrm) {
        modrm(cpu, &c, insn);
    }
    insn->immediate = (uint8_t)take(&c, (size_t)immediate);
    if (c.bad) {
        return false;
    }
    insn->length = (uint8_t)c.at;
    if (insn->rip_relative) {
        insn->offset += cpu->rip + insn->length;
    }
    insn->offset &= vmm_assist_mask(insn->address);
    return true;
}
