/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulation assist's core: operands, faults, and the dispatch to the instruction files. */
#include "vcpu/x86/assist_core.h"

#include <base/util.h>
#include <libvmm/assist.h>

int vmm_assist_raise_code(struct vmm_assist_cpu *cpu, uint8_t vector, uint32_t code)
{
    cpu->event = (struct vmm_assist_event){
        .vector = vector, .pending = true, .has_error = true, .error_code = code};
    return ASSIST_DONE;
}

int vmm_assist_raise(struct vmm_assist_cpu *cpu, uint8_t vector)
{
    if (vector == VEC_GP || vector == VEC_SS) {
        return vmm_assist_raise_code(cpu, vector, 0);
    }
    cpu->event = (struct vmm_assist_event){.vector = vector, .pending = true};
    return ASSIST_DONE;
}

bool vmm_assist_canonical(const struct vmm_assist_cpu *cpu, uint64_t address)
{
    unsigned shift = (cpu->cr4 & X86_CR4_LA57) != 0 ? 7 : 16;
    return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

/* The checks of a segment outside 64-bit mode (SDM vol. 3, 5.3 to 5.5). */
static bool segment_allows(const struct vmm_assist_segment *s, uint64_t offset, uint32_t length,
                           bool write, bool protected_mode)
{
    if (!s->usable || length == 0) {
        return false;
    }
    uint64_t last = offset + length - 1;
    bool code = (s->type & 8) != 0;
    if (protected_mode && (write ? code || (s->type & 2) == 0 : code && (s->type & 2) == 0)) {
        return false;
    }
    if (!code && (s->type & 4) != 0) { /* expand-down */
        return offset > s->limit && last <= UINT32_MAX;
    }
    return last <= s->limit;
}

bool vmm_assist_linear(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                       uint32_t length, bool write, uint64_t *linear, int *result)
{
    const struct vmm_assist_segment *s = &cpu->seg[insn->segment];
    uint64_t offset = (insn->offset + displace) & vmm_assist_mask(insn->address);
    uint8_t vector = insn->segment == SEG_SS ? VEC_SS : VEC_GP;
    if (cpu->code64) {
        *linear = offset + (insn->segment >= SEG_FS ? s->base : 0);
        if (vmm_assist_canonical(cpu, *linear) &&
            vmm_assist_canonical(cpu, *linear + (length != 0 ? length - 1 : 0))) {
            return true;
        }
    } else {
        *linear = (offset + s->base) & UINT32_MAX;
        if (segment_allows(s, offset, length, write, (cpu->cr0 & X86_CR0_PE) != 0)) {
            return true;
        }
    }
    *result = vmm_assist_raise_code(cpu, vector, 0);
    return false;
}

/* A memory callback's answer: false ends the instruction. */
static bool memory_result(int r, int *result)
{
    if (r == 0) {
        return true;
    }
    *result = r > 0 ? ASSIST_DONE : r == -EFAULT ? ASSIST_UNKNOWN : r;
    return false;
}

bool vmm_assist_load(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                     void *data, uint32_t length, int *result)
{
    uint64_t linear;
    return vmm_assist_linear(cpu, insn, displace, length, false, &linear, result) &&
           memory_result(cpu->ops->read(cpu->ctx, cpu, linear, data, length, false), result);
}

bool vmm_assist_store(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint32_t displace,
                      const void *data, uint32_t length, int *result)
{
    uint64_t linear;
    return vmm_assist_linear(cpu, insn, displace, length, true, &linear, result) &&
           memory_result(cpu->ops->write(cpu->ctx, cpu, linear, data, length), result);
}

bool vmm_assist_get_rm(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                       uint64_t *value, int *result)
{
    if (insn->mod == 3) {
        *value = cpu->gpr[insn->rm] & vmm_assist_mask(width);
        return true;
    }
    uint8_t bytes[8] = {0};
    if (!vmm_assist_load(cpu, insn, 0, bytes, width, result)) {
        return false;
    }
    *value = vmm_load_le64(bytes);
    return true;
}

void vmm_assist_set_gpr(struct vmm_assist_cpu *cpu, uint8_t reg, uint8_t width, uint64_t value)
{
    uint64_t mask = vmm_assist_mask(width);
    if (width >= 4) { /* a 32-bit result clears the upper half (SDM vol. 1, 3.4.1.1) */
        cpu->gpr[reg] = value & mask;
    } else {
        cpu->gpr[reg] = (cpu->gpr[reg] & ~mask) | (value & mask);
    }
}

bool vmm_assist_set_rm(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn, uint8_t width,
                       uint64_t value, int *result)
{
    if (insn->mod == 3) {
        vmm_assist_set_gpr(cpu, insn->rm, width, value);
        return true;
    }
    uint8_t bytes[8];
    vmm_store_le64(bytes, value);
    return vmm_assist_store(cpu, insn, 0, bytes, width, result);
}

static int dispatch(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    typedef int (*handler)(struct vmm_assist_cpu *, const struct vmm_insn *);
    static const handler handlers[] = {vmm_assist_system, vmm_assist_bits, vmm_assist_xsave,
                                       vmm_assist_interrupt};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(handlers); i++) {
        int r = handlers[i](cpu, insn);
        if (r != ASSIST_UNKNOWN) {
            return r;
        }
    }
    return ASSIST_UNKNOWN;
}

/* RIP after the instruction: as wide as the code segment's addresses. */
static uint64_t next_rip(const struct vmm_assist_cpu *cpu, uint8_t length)
{
    uint64_t rip = cpu->rip + length;
    return cpu->code64 ? rip : cpu->code32 ? rip & UINT32_MAX : rip & UINT16_MAX;
}

int vmm_assist_execute(struct vmm_assist_cpu *cpu, const uint8_t *bytes, size_t length)
{
    struct vmm_insn insn;
    cpu->event.pending = false;
    cpu->system_dirty = false;
    if (!vmm_insn_decode(cpu, bytes, length, &insn)) {
        return ASSIST_UNKNOWN;
    }
    bool trap = (cpu->rflags & X86_TF) != 0;
    int r = dispatch(cpu, &insn);
    if (r != ASSIST_DONE) {
        return r;
    }
    /* Faults leave RIP at the instruction; software interrupts and traps are after it. */
    bool after = !cpu->event.pending || cpu->event.software;
    if (after) {
        cpu->rip = next_rip(cpu, insn.length);
        cpu->rflags &= ~(uint64_t)X86_RF;
    }
    if (trap && !cpu->event.pending) {
        vmm_assist_raise(cpu, VEC_DB);
    }
    return ASSIST_DONE;
}
