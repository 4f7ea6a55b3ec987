/* SPDX-License-Identifier: BSD-3-Clause */
/* Text for people: one instruction, and the report about an exit that ends a VM. */
#include "config.h"
#include "vcpu/x86/assist.h"

#include <base/soft.h>
#include <base/util.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#if HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

struct text {
    char *at;
    size_t size, length; /* length counts on beyond the size */
};

VMM_PRINTF(2, 3) static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = t->length < t->size ? t->size - t->length : 0;
    int n = vsnprintf(room != 0 ? t->at + t->length : NULL, room, format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

static void add_hex(struct text *t, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        add(t, i == 0 ? "%02x" : " %02x", bytes[i]);
    }
}

#if HAVE_ZYDIS
static int disassemble(const uint8_t *bytes, size_t length, uint32_t bits, uint64_t rip,
                       struct text *t)
{
    ZydisMachineMode mode = bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                            : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                         : ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisDisassembledInstruction insn;
    __typeof__(&ZydisDisassembleIntel) intel;
    const struct vmm_soft_symbol symbol = {"ZydisDisassembleIntel", (void **)(void *)&intel};
    if (vmm_soft_load("libZydis.so.4.0", "libzydis4.0", &symbol, 1, NULL) != 0 ||
        !ZYAN_SUCCESS(intel(mode, rip, bytes, length, &insn))) {
        add_hex(t, bytes, length);
        return 0;
    }
    add(t, "%s", insn.text);
    return insn.info.length;
}
#else
static int disassemble(const uint8_t *bytes, size_t length, uint32_t bits, uint64_t rip,
                       struct text *t)
{
    (void)bits;
    (void)rip;
    add_hex(t, bytes, length);
    return 0;
}
#endif

int vmm_x86_disassemble(const void *bytes, size_t length, uint32_t bits, uint64_t rip, char *text,
                        size_t size)
{
    struct text t = {text, size, 0};
    if (bytes == NULL || length == 0 || text == NULL || size == 0 ||
        (bits != 16 && bits != 32 && bits != 64)) {
        return -EINVAL;
    }
    text[0] = '\0';
    return disassemble(bytes, length < VMM_INSN_MAX ? length : VMM_INSN_MAX, bits, rip, &t);
}

static const char *internal_reason(uint32_t suberror)
{
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "KVM cannot emulate this instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "an exception came while another was delivered";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "an event could not be delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "KVM met an exit reason that it does not know";
    default:
        return "unknown";
    }
}

static void add_reason(struct text *t, const struct vmm_exit *exit)
{
    switch (exit->reason) {
    case VMM_EXIT_SHUTDOWN:
        add(t, "triple fault: an exception could not be delivered, nor the double fault\n");
        break;
    case VMM_EXIT_FAIL_ENTRY:
        add(t, "the processor refused the guest's state: hardware reason 0x%llx on host CPU %u\n",
            (unsigned long long)exit->u.fail_entry.hardware_reason, exit->u.fail_entry.cpu);
        break;
    case VMM_EXIT_INTERNAL_ERROR:
        add(t, "KVM internal error, suberror %u: %s\n", exit->u.internal_error.suberror,
            internal_reason(exit->u.internal_error.suberror));
        break;
    default:
        add(t, "exit: %s (KVM reason %u)\n", vmm_exit_name(exit->reason), exit->raw_reason);
        break;
    }
}

static void add_registers(struct text *t, const struct kvm_regs *r)
{
    const struct {
        const char *name;
        uint64_t value;
    } table[] = {{"rax", r->rax}, {"rbx", r->rbx}, {"rcx", r->rcx}, {"rdx", r->rdx},
                 {"rsi", r->rsi}, {"rdi", r->rdi}, {"rbp", r->rbp}, {"rsp", r->rsp},
                 {"r8 ", r->r8},  {"r9 ", r->r9},  {"r10", r->r10}, {"r11", r->r11},
                 {"r12", r->r12}, {"r13", r->r13}, {"r14", r->r14}, {"r15", r->r15}};
    add(t, "rip %016llx  rflags %08llx\n", (unsigned long long)r->rip,
        (unsigned long long)r->rflags);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(table); i++) {
        add(t, "%s %016llx%s", table[i].name, (unsigned long long)table[i].value,
            i % 4 == 3 ? "\n" : "  ");
    }
}

static void add_segment(struct text *t, const char *name, const struct kvm_segment *s)
{
    add(t, "%s %04x base %016llx limit %08x type %x dpl %u%s%s%s%s\n", name, s->selector,
        (unsigned long long)s->base, s->limit, s->type, s->dpl, s->l ? " 64-bit" : "",
        s->db ? " 32-bit" : "", s->present ? "" : " not present", s->unusable ? " unusable" : "");
}

static void add_system(struct text *t, const struct kvm_sregs *s)
{
    const struct kvm_segment *segments[] = {&s->cs, &s->ss, &s->ds,  &s->es,
                                            &s->fs, &s->gs, &s->ldt, &s->tr};
    static const char *const names[] = {"cs ", "ss ", "ds ", "es ", "fs ", "gs ", "ldt", "tr "};
    add(t, "cr0 %08llx  cr2 %016llx  cr3 %016llx  cr4 %08llx  efer %04llx\n",
        (unsigned long long)s->cr0, (unsigned long long)s->cr2, (unsigned long long)s->cr3,
        (unsigned long long)s->cr4, (unsigned long long)s->efer);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(segments); i++) {
        add_segment(t, names[i], segments[i]);
    }
    add(t, "gdt base %016llx limit %04x  idt base %016llx limit %04x\n",
        (unsigned long long)s->gdt.base, s->gdt.limit, (unsigned long long)s->idt.base,
        s->idt.limit);
}

static bool in_long_mode(const struct kvm_sregs *s)
{
    return (s->efer & X86_EFER_LMA) != 0 && s->cs.l != 0;
}

static void add_code(struct text *t, struct vmm_vcpu *vcpu, const struct kvm_regs *r,
                     const struct kvm_sregs *s, const struct vmm_exit *exit)
{
    uint8_t bytes[32];
    char line[128];
    bool code64 = in_long_mode(s);
    uint32_t bits = code64 ? 64 : s->cs.db != 0 ? 32 : 16;
    uint64_t linear = code64 ? r->rip : (r->rip + s->cs.base) & UINT32_MAX;
    size_t length = vmm_assist_fetch(vcpu, s, linear, bytes, sizeof(bytes));
    if (length == 0 && exit->reason == VMM_EXIT_INTERNAL_ERROR) {
        length = exit->u.internal_error.insn_length;
        length = length < VMM_INSN_MAX ? length : VMM_INSN_MAX;
        memcpy(bytes, exit->u.internal_error.insn, length);
    }
    if (length == 0) {
        add(t, "code: cannot be read\n");
        return;
    }
    add(t, "code: ");
    add_hex(t, bytes, length);
    add(t, "\n");
    int n = vmm_x86_disassemble(bytes, length, bits, r->rip, line, sizeof(line));
    add(t, "at rip: %s%s\n", line, n > 0 ? "" : " (not disassembled)");
}

static void add_stack(struct text *t, struct vmm_vcpu *vcpu, const struct kvm_regs *r,
                      const struct kvm_sregs *s)
{
    uint8_t bytes[64];
    bool code64 = in_long_mode(s);
    uint64_t linear = code64 ? r->rsp : (r->rsp + s->ss.base) & UINT32_MAX;
    size_t width = code64 ? 8 : s->ss.db != 0 ? 4 : 2;
    size_t length = vmm_assist_fetch(vcpu, s, linear, bytes, sizeof(bytes)) / width * width;
    add(t, "stack:%s", length == 0 ? " cannot be read" : "");
    for (size_t i = 0; i < length; i += width) {
        uint64_t value = 0;
        memcpy(&value, bytes + i, width);
        add(t, " %0*llx", (int)width * 2, (unsigned long long)value);
    }
    add(t, "\n");
}

int vmm_x86_describe_exit(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text,
                          size_t size)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct text t = {text, size, 0};
    if (vcpu == NULL || exit == NULL || text == NULL || size == 0) {
        return -EINVAL;
    }
    text[0] = '\0';
    add(&t, "vCPU %u: ", vmm_vcpu_id(vcpu));
    add_reason(&t, exit);
    if (ioctl(vmm_vcpu_fd(vcpu), KVM_GET_REGS, &regs) != 0 ||
        ioctl(vmm_vcpu_fd(vcpu), KVM_GET_SREGS, &sregs) != 0) {
        add(&t, "registers cannot be read\n");
        return (int)t.length;
    }
    add_code(&t, vcpu, &regs, &sregs, exit);
    add_registers(&t, &regs);
    add_system(&t, &sregs);
    add_stack(&t, vcpu, &regs, &sregs);
    return (int)t.length;
}
