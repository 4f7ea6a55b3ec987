/* SPDX-License-Identifier: BSD-3-Clause */
/* Software interrupts in protected and long mode: int3, int n, into (SDM vol. 2, INT n; vol. 3,
 * 6.12.1.2 for the privilege check). In real mode KVM's emulator does them itself, and virtual-8086
 * mode with its I/O privilege rules is left alone. */
#include "vcpu/x86/assist_core.h"

#include <errno.h>
#include <libvmm/assist.h>

#define GATE_PRESENT 0x80

static bool gate_type_ok(const struct vmm_assist_cpu *cpu, uint8_t access)
{
    uint8_t type = access & 0x1f;
    if ((cpu->efer & X86_EFER_LMA) != 0) {
        return type == 0xe || type == 0xf;
    }
    return type == 5 || type == 6 || type == 7 || type == 0xe || type == 0xf;
}

static int software_interrupt(struct vmm_assist_cpu *cpu, uint8_t vector, bool exception)
{
    if ((cpu->cr0 & X86_CR0_PE) == 0 || (cpu->rflags & X86_VM) != 0) {
        return ASSIST_UNKNOWN;
    }
    uint32_t width = (cpu->efer & X86_EFER_LMA) != 0 ? 16 : 8;
    uint32_t code = (uint32_t)vector * 8 + 2; /* the IDT bit */
    if ((uint32_t)vector * width + width - 1 > cpu->idt_limit) {
        return vmm_assist_raise_code(cpu, VEC_GP, code);
    }
    uint8_t gate[8];
    uint64_t at = cpu->idt_base + (uint64_t)vector * width;
    int r = cpu->ops->read(cpu->ctx, cpu, at, gate, sizeof(gate), true);
    if (r != 0) {
        return r > 0 ? ASSIST_DONE : r == -EFAULT ? ASSIST_UNKNOWN : r;
    }
    uint8_t access = gate[5];
    if (!gate_type_ok(cpu, access) || (access >> 5 & 3) < cpu->cpl) {
        return vmm_assist_raise_code(cpu, VEC_GP, code);
    }
    if ((access & GATE_PRESENT) == 0) {
        return vmm_assist_raise_code(cpu, VEC_NP, code);
    }
    cpu->event = (struct vmm_assist_event){
        .vector = vector, .pending = true, .software = true, .exception = exception};
    return ASSIST_DONE;
}

int vmm_assist_interrupt(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    if (insn->map != 0) {
        return ASSIST_UNKNOWN;
    }
    switch (insn->opcode) {
    case 0xcc:
        cpu->kind = VMM_X86_ASSIST_INT3;
        return software_interrupt(cpu, VEC_BP, true);
    case 0xcd:
        cpu->kind = VMM_X86_ASSIST_INT;
        return software_interrupt(cpu, insn->immediate, false);
    case 0xce:
        cpu->kind = VMM_X86_ASSIST_INTO;
        if (cpu->code64) {
            return vmm_assist_raise(cpu, VEC_UD);
        }
        return (cpu->rflags & X86_OF) == 0 ? ASSIST_DONE : software_interrupt(cpu, VEC_OF, true);
    default:
        return ASSIST_UNKNOWN;
    }
}
