/* SPDX-License-Identifier: BSD-3-Clause */
/* Integer instructions on general registers (each: its page in SDM vol. 2): popcnt, lzcnt, tzcnt,
 * movbe, crc32, BMI1, BMI2, ADX, and cmpxchg16b. */
#include "vcpu/x86/assist_core.h"

#include <base/util.h>
#include <libvmm/assist.h>

static void set_flags(struct vmm_assist_cpu *cpu, uint32_t touched, uint32_t values)
{
    cpu->rflags = (cpu->rflags & ~(uint64_t)touched) | (values & touched);
}

static uint32_t zero_sign(uint64_t value, uint8_t width)
{
    uint32_t flags = value == 0 ? X86_ZF : 0;
    return flags | ((value >> (width * 8 - 1) & 1) != 0 ? X86_SF : 0);
}

/* F3 0F B8, BC, BD: popcnt, tzcnt, lzcnt. Without their features the latter two are bsf and bsr,
 * which KVM has. */
static int count_bits(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    static const enum vmm_assist_feature features[] = {FEAT_BMI1, FEAT_LZCNT};
    uint8_t width = insn->operand;
    uint64_t value;
    int result;
    bool popcnt = insn->opcode == 0xb8;
    cpu->kind = popcnt ? VMM_X86_ASSIST_POPCNT : VMM_X86_ASSIST_BITS;
    if (popcnt && !vmm_assist_has(cpu, FEAT_POPCNT)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (!popcnt && !vmm_assist_has(cpu, features[insn->opcode - 0xbc])) {
        return ASSIST_UNKNOWN;
    }
    if (!vmm_assist_get_rm(cpu, insn, width, &value, &result)) {
        return result;
    }
    unsigned bits = width * 8u;
    unsigned n;
    if (popcnt) {
        n = (unsigned)__builtin_popcountll(value);
        set_flags(cpu, X86_ARITHMETIC, value == 0 ? X86_ZF : 0);
    } else {
        bool trailing = insn->opcode == 0xbc;
        n = value == 0 ? bits
                       : (unsigned)(trailing ? __builtin_ctzll(value)
                                             : __builtin_clzll(value) - (int)(64 - bits));
        set_flags(cpu, X86_CF | X86_ZF, (value == 0 ? X86_CF : 0) | (n == 0 ? X86_ZF : 0));
    }
    vmm_assist_set_gpr(cpu, insn->reg, width, n);
    return ASSIST_DONE;
}

static uint64_t swap_bytes(uint64_t value, uint8_t width)
{
    return __builtin_bswap64(value) >> (64 - width * 8);
}

static int movbe(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint64_t value;
    int result = ASSIST_DONE;
    cpu->kind = VMM_X86_ASSIST_MOVBE;
    if (!vmm_assist_has(cpu, FEAT_MOVBE) || insn->mod == 3) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (insn->opcode == 0xf1) {
        value = swap_bytes(cpu->gpr[insn->reg] & vmm_assist_mask(insn->operand), insn->operand);
        (void)vmm_assist_set_rm(cpu, insn, insn->operand, value, &result);
        return result;
    }
    if (vmm_assist_get_rm(cpu, insn, insn->operand, &value, &result)) {
        vmm_assist_set_gpr(cpu, insn->reg, insn->operand, swap_bytes(value, insn->operand));
    }
    return result;
}

/* CRC-32C, bit-reflected polynomial 0x82f63b78 */
static int crc32(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint64_t value;
    int result;
    uint8_t width = insn->opcode == 0xf0 ? 1 : insn->operand;
    cpu->kind = VMM_X86_ASSIST_BITS;
    if (!vmm_assist_has(cpu, FEAT_CRC32)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    struct vmm_insn source = *insn;
    bool high = width == 1 && insn->mod == 3 && insn->rex == 0 && insn->rm >= 4;
    source.rm = high ? insn->rm - 4 : insn->rm; /* AH, CH, DH, BH */
    if (!vmm_assist_get_rm(cpu, &source, high ? 2 : width, &value, &result)) {
        return result;
    }
    value = high ? value >> 8 : value;
    uint32_t crc = (uint32_t)cpu->gpr[insn->reg];
    for (unsigned i = 0; i < width; i++) {
        crc ^= (uint32_t)(value >> (8 * i)) & 0xff;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        }
    }
    vmm_assist_set_gpr(cpu, insn->reg, 4, crc);
    return ASSIST_DONE;
}

/* 66 or F3 0F 38 F6: adcx (carry by CF), adox (carry by OF) */
static int add_carry(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint32_t flag = insn->rep == 0xf3 ? X86_OF : X86_CF;
    uint8_t width = insn->operand == 8 ? 8 : 4;
    uint64_t source;
    int result;
    cpu->kind = VMM_X86_ASSIST_BITS;
    if (!vmm_assist_has(cpu, FEAT_ADX)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (!vmm_assist_get_rm(cpu, insn, width, &source, &result)) {
        return result;
    }
    unsigned __int128 sum = (unsigned __int128)source +
                            (cpu->gpr[insn->reg] & vmm_assist_mask(width)) +
                            ((cpu->rflags & flag) != 0);
    set_flags(cpu, flag, (sum >> (width * 8)) != 0 ? flag : 0);
    vmm_assist_set_gpr(cpu, insn->reg, width, (uint64_t)sum);
    return ASSIST_DONE;
}

static uint64_t deposit(uint64_t source, uint64_t mask)
{
    uint64_t out = 0;
    for (; mask != 0; mask &= mask - 1, source >>= 1) {
        out |= (source & 1) != 0 ? mask & -mask : 0;
    }
    return out;
}

static uint64_t extract(uint64_t source, uint64_t mask)
{
    uint64_t out = 0;
    for (unsigned i = 0; mask != 0; mask &= mask - 1, i++) {
        out |= (source & mask & -mask) != 0 ? UINT64_C(1) << i : 0;
    }
    return out;
}

/* VEX 0F 38 F2: andn; F3: blsr, blsmsk, blsi */
static void bmi1(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                 uint64_t source)
{
    uint64_t mask = vmm_assist_mask(width);
    if (insn->opcode == 0xf2) {
        uint64_t value = ~cpu->gpr[insn->vvvv] & source & mask;
        set_flags(cpu, X86_SF | X86_ZF | X86_OF | X86_CF, zero_sign(value, width));
        vmm_assist_set_gpr(cpu, insn->reg, width, value);
        return;
    }
    uint64_t value;
    uint32_t carry = source == 0 ? X86_CF : 0;
    switch (insn->modrm >> 3 & 7) {
    case 1:
        value = source & (source - 1);
        break;
    case 2:
        value = source ^ (source - 1);
        break;
    default:
        value = source & -source;
        carry ^= X86_CF;
        break;
    }
    value &= mask;
    set_flags(cpu, X86_SF | X86_ZF | X86_OF | X86_CF, zero_sign(value, width) | carry);
    vmm_assist_set_gpr(cpu, insn->vvvv, width, value);
}

/* VEX 0F 38 F5 without prefix: bzhi */
static void bzhi(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                 uint64_t source)
{
    unsigned bits = width * 8u;
    unsigned n = (unsigned)cpu->gpr[insn->vvvv] & 0xff;
    uint64_t value = n < bits ? source & ((UINT64_C(1) << n) - 1) : source;
    set_flags(cpu, X86_SF | X86_ZF | X86_OF | X86_CF,
              zero_sign(value, width) | (n > bits - 1 ? X86_CF : 0));
    vmm_assist_set_gpr(cpu, insn->reg, width, value);
}

/* VEX 0F 38 F7 without prefix: bextr */
static void bextr(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                  uint64_t source)
{
    uint64_t control = cpu->gpr[insn->vvvv];
    unsigned start = (unsigned)control & 0xff;
    unsigned length = (unsigned)(control >> 8) & 0xff;
    uint64_t value = start < 64 ? source >> start : 0;
    value = length < 64 ? value & ((UINT64_C(1) << length) - 1) : value;
    set_flags(cpu, X86_ZF | X86_OF | X86_CF, value == 0 ? X86_ZF : 0);
    vmm_assist_set_gpr(cpu, insn->reg, width, value);
}

/* shlx (66), sarx (F3), shrx (F2) */
static uint64_t shift(const struct vmm_insn *insn, uint8_t width, uint64_t value, uint64_t count)
{
    unsigned bits = width * 8u;
    unsigned n = (unsigned)count & (bits - 1);
    if (insn->opsize) {
        return value << n;
    }
    if (insn->rep == 0xf2) {
        return value >> n;
    }
    int64_t extended = (int64_t)(value << (64 - bits)) >> (64 - bits);
    return (uint64_t)(extended >> n);
}

static uint64_t mulx(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                     uint64_t source)
{
    uint64_t other = cpu->gpr[REG_DX] & vmm_assist_mask(width);
    unsigned __int128 product = (unsigned __int128)source * other;
    vmm_assist_set_gpr(cpu, insn->vvvv, width, (uint64_t)product);
    return (uint64_t)(product >> (width * 8));
}

/* The feature that a VEX-coded integer instruction belongs to, or FEAT_COUNT. */
static enum vmm_assist_feature vex_feature(const struct vmm_insn *insn)
{
    bool plain = !insn->opsize && insn->rep == 0;
    uint8_t which = insn->modrm >> 3 & 7;
    if (insn->vex_l) {
        return FEAT_COUNT;
    }
    if (insn->map == 3) {
        return insn->opcode == 0xf0 && insn->rep == 0xf2 ? FEAT_BMI2 : FEAT_COUNT;
    }
    switch (insn->opcode) {
    case 0xf2:
        return plain ? FEAT_BMI1 : FEAT_COUNT;
    case 0xf3:
        return plain && which >= 1 && which <= 3 ? FEAT_BMI1 : FEAT_COUNT;
    case 0xf5:
        return insn->opsize ? FEAT_COUNT : FEAT_BMI2;
    case 0xf6:
        return insn->rep == 0xf2 ? FEAT_BMI2 : FEAT_COUNT;
    case 0xf7:
        return plain ? FEAT_BMI1 : FEAT_BMI2;
    default:
        return FEAT_COUNT;
    }
}

static uint64_t rotate_right(uint64_t value, uint8_t width, unsigned count)
{
    unsigned bits = width * 8u;
    unsigned n = count & (bits - 1);
    return n == 0 ? value : (value >> n | value << (bits - n)) & vmm_assist_mask(width);
}

static int vex_integer(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    enum vmm_assist_feature feature = vex_feature(insn);
    uint8_t width = insn->operand;
    uint64_t source;
    int result;
    if (feature == FEAT_COUNT) {
        return ASSIST_UNKNOWN;
    }
    cpu->kind = VMM_X86_ASSIST_BITS;
    if (!vmm_assist_has(cpu, feature)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (!vmm_assist_get_rm(cpu, insn, width, &source, &result)) {
        return result;
    }
    uint64_t other = cpu->gpr[insn->vvvv] & vmm_assist_mask(width);
    bool plain = !insn->opsize && insn->rep == 0;
    if (insn->map == 3) {
        vmm_assist_set_gpr(cpu, insn->reg, width, rotate_right(source, width, insn->immediate));
    } else if (insn->opcode == 0xf2 || insn->opcode == 0xf3) {
        bmi1(cpu, insn, width, source);
    } else if (insn->opcode == 0xf5 && plain) {
        bzhi(cpu, insn, width, source);
    } else if (insn->opcode == 0xf5) {
        uint64_t value = insn->rep == 0xf2 ? deposit(other, source) : extract(other, source);
        vmm_assist_set_gpr(cpu, insn->reg, width, value);
    } else if (insn->opcode == 0xf6) {
        /* Where both destinations are the same register it gets the high half. */
        uint64_t high = mulx(cpu, insn, width, source);
        vmm_assist_set_gpr(cpu, insn->reg, width, high);
    } else if (plain) {
        bextr(cpu, insn, width, source);
    } else {
        vmm_assist_set_gpr(cpu, insn->reg, width, shift(insn, width, source, other));
    }
    return ASSIST_DONE;
}

static int cmpxchg16b(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    uint64_t linear;
    int result;
    cpu->kind = VMM_X86_ASSIST_CMPXCHG16B;
    if (!vmm_assist_has(cpu, FEAT_CX16)) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if (!vmm_assist_linear(cpu, insn, 0, 16, true, &linear, &result)) {
        return result;
    }
    if ((linear & 15) != 0) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    uint64_t expected[2] = {cpu->gpr[REG_AX], cpu->gpr[REG_DX]};
    uint64_t desired[2] = {cpu->gpr[REG_BX], cpu->gpr[REG_CX]};
    bool equal = false;
    int r = cpu->ops->cmpxchg16(cpu->ctx, cpu, linear, expected, desired, &equal);
    if (r != 0) {
        return r > 0 ? ASSIST_DONE : r == -EFAULT ? ASSIST_UNKNOWN : r;
    }
    if (!equal) {
        cpu->gpr[REG_AX] = expected[0];
        cpu->gpr[REG_DX] = expected[1];
    }
    set_flags(cpu, X86_ZF, equal ? X86_ZF : 0);
    return ASSIST_DONE;
}

int vmm_assist_bits(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    if (insn->vex) {
        return insn->map >= 2 ? vex_integer(cpu, insn) : ASSIST_UNKNOWN;
    }
    if (insn->map == 1 && insn->opcode == 0xc7 && insn->mod != 3 && (insn->modrm >> 3 & 7) == 1) {
        return insn->operand == 8 && insn->rep == 0 ? cmpxchg16b(cpu, insn) : ASSIST_UNKNOWN;
    }
    if (insn->lock) {
        return ASSIST_UNKNOWN;
    }
    if (insn->map == 1 && insn->rep == 0xf3 &&
        (insn->opcode == 0xb8 || insn->opcode == 0xbc || insn->opcode == 0xbd)) {
        return count_bits(cpu, insn);
    }
    if (insn->map == 2 && (insn->opcode == 0xf0 || insn->opcode == 0xf1)) {
        return insn->rep == 0xf2 ? crc32(cpu, insn)
               : insn->rep == 0  ? movbe(cpu, insn)
                                 : ASSIST_UNKNOWN;
    }
    if (insn->map == 2 && insn->opcode == 0xf6 && (insn->rep == 0xf3 || insn->opsize)) {
        return add_carry(cpu, insn);
    }
    return ASSIST_UNKNOWN;
}
