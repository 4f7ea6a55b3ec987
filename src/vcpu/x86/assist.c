/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulation assist of a vCPU: registers in, one instruction, registers and events out. */
#include "vcpu/x86/assist.h"

#include <base/util.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vcpu/internal.h"

#define DR6_BS (1u << 14)

static int kvm(const struct vmm_assist *assist, unsigned long request, void *argument)
{
    return ioctl(vmm_vcpu_fd(assist->vcpu), request, argument) < 0 ? -errno : 0;
}

/* KVM's order of registers is not that of the encoding. */
static void load_gprs(struct vmm_assist_cpu *cpu, const struct kvm_regs *r)
{
    const uint64_t low[8] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi};
    const uint64_t high[8] = {r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    memcpy(cpu->gpr, low, sizeof(low));
    memcpy(cpu->gpr + 8, high, sizeof(high));
    cpu->rip = r->rip;
    cpu->rflags = r->rflags;
}

static void store_gprs(const struct vmm_assist_cpu *cpu, struct kvm_regs *r)
{
    __u64 *const places[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp,
                               &r->rsi, &r->rdi, &r->r8,  &r->r9,  &r->r10, &r->r11,
                               &r->r12, &r->r13, &r->r14, &r->r15};
    for (unsigned i = 0; i < 16; i++) {
        *places[i] = cpu->gpr[i];
    }
    r->rip = cpu->rip;
    r->rflags = cpu->rflags;
}

static void load_segment(struct vmm_assist_segment *to, const struct kvm_segment *from)
{
    to->base = from->base;
    to->limit = from->limit;
    to->selector = from->selector;
    to->type = from->type;
    to->usable = from->unusable == 0 && from->present != 0;
}

static void load_system(struct vmm_assist_cpu *cpu, const struct kvm_sregs *s)
{
    const struct kvm_segment *segments[SEG_COUNT] = {&s->es, &s->cs, &s->ss,
                                                     &s->ds, &s->fs, &s->gs};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        load_segment(&cpu->seg[i], segments[i]);
    }
    cpu->idt_base = s->idt.base;
    cpu->idt_limit = s->idt.limit;
    cpu->cr0 = s->cr0;
    cpu->cr4 = s->cr4;
    cpu->efer = s->efer;
    cpu->cpl = (s->cr0 & X86_CR0_PE) == 0 ? 0 : (cpu->rflags & X86_VM) != 0 ? 3 : s->ss.dpl;
    cpu->code64 = (s->efer & X86_EFER_LMA) != 0 && s->cs.l != 0;
    cpu->code32 = s->cs.db != 0;
}

/* The instruction's bytes: KVM's, and what lies behind them where KVM gave fewer than there may
 * be. */
static size_t code_bytes(struct vmm_assist *assist, const struct vmm_assist_cpu *cpu,
                         const struct vmm_exit *exit, uint8_t bytes[VMM_INSN_MAX])
{
    size_t given = exit->u.internal_error.insn_length;
    given = given < VMM_INSN_MAX ? given : VMM_INSN_MAX;
    memcpy(bytes, exit->u.internal_error.insn, given);
    if (given < VMM_INSN_MAX) {
        uint64_t linear = cpu->rip + (cpu->code64 ? 0 : cpu->seg[SEG_CS].base) + given;
        linear &= cpu->code64 ? UINT64_MAX : UINT32_MAX;
        given += vmm_assist_fetch(assist->vcpu, &assist->sregs, linear, bytes + given,
                                  VMM_INSN_MAX - given);
    }
    return given;
}

static int set_single_step(struct vmm_assist *assist)
{
    struct kvm_debugregs debug;
    int r = kvm(assist, KVM_GET_DEBUGREGS, &debug);
    if (r == 0) {
        debug.dr6 |= DR6_BS;
        r = kvm(assist, KVM_SET_DEBUGREGS, &debug);
    }
    return r;
}

/* Give KVM the event to deliver, or take back the #UD that it queued before it reported. */
static int set_events(struct vmm_assist *assist, const struct vmm_assist_event *event)
{
    struct kvm_vcpu_events events;
    int r = kvm(assist, KVM_GET_VCPU_EVENTS, &events);
    if (r != 0) {
        return r;
    }
    events.exception.pending = 0;
    events.exception.injected = 0;
    events.exception_has_payload = 0;
    events.interrupt.shadow = 0;
    if (event->pending && event->software && !event->exception) {
        events.interrupt.injected = 1;
        events.interrupt.nr = event->vector;
        events.interrupt.soft = 1;
    } else if (event->pending) {
        events.exception.injected = 1;
        events.exception.nr = event->vector;
        events.exception.has_error_code = event->has_error;
        events.exception.error_code = event->error_code;
    }
    events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
    return kvm(assist, KVM_SET_VCPU_EVENTS, &events);
}

static int deliver(struct vmm_assist *assist, const struct vmm_assist_cpu *cpu)
{
    int r = 0;
    if (!cpu->event.pending && assist->reports_user) {
        return 0;
    }
    if (cpu->event.pending && cpu->event.vector == VEC_DB) {
        r = set_single_step(assist);
    }
    return r != 0 ? r : set_events(assist, &cpu->event);
}

static int store_system(struct vmm_assist *assist, const struct vmm_assist_cpu *cpu)
{
    bool fault = cpu->event.pending && cpu->event.vector == VEC_PF;
    if (!fault && !cpu->system_dirty) {
        return 0;
    }
    assist->sregs.cr2 = fault ? cpu->event.cr2 : assist->sregs.cr2;
    assist->sregs.fs.base = cpu->seg[SEG_FS].base;
    assist->sregs.gs.base = cpu->seg[SEG_GS].base;
    return kvm(assist, KVM_SET_SREGS, &assist->sregs);
}

static int finish(struct vmm_assist *assist, const struct vmm_assist_cpu *cpu)
{
    store_gprs(cpu, &assist->regs);
    int r = store_system(assist, cpu);
    r = r != 0 ? r : kvm(assist, KVM_SET_REGS, &assist->regs);
    r = r != 0 ? r : deliver(assist, cpu);
    return r != 0 ? r : ASSIST_DONE;
}

/* KVM knows the length of a soft interrupt's instruction only where it emulates its delivery too;
 * VT-x and SVM would push a wrong return address. */
static bool can_deliver(const struct vmm_assist *assist, const struct vmm_assist_event *event)
{
    return !event->pending || !event->software || assist->flavour == VMM_FLAVOUR_PVM;
}

static int execute(struct vmm_assist *assist, struct vmm_assist_cpu *cpu,
                   const struct vmm_exit *exit)
{
    uint8_t bytes[VMM_INSN_MAX];
    size_t length = code_bytes(assist, cpu, exit, bytes);
    struct vmm_assist_cpu before = *cpu;
    int r = vmm_assist_execute(cpu, bytes, length);
    if (r == ASSIST_DONE && can_deliver(assist, &cpu->event)) {
        assist->counts.finished[cpu->kind]++;
        assist->counts.exceptions += cpu->event.pending;
        return finish(assist, cpu);
    }
    if (r < 0 && r != -EFAULT) {
        return r;
    }
    assist->counts.refused++;
    if (cpu->cpl != 3) {
        return ASSIST_UNKNOWN;
    }
    /* User code must not be able to end the VM; KVM by itself would do the same. */
    *cpu = before;
    vmm_assist_raise(cpu, VEC_UD);
    return finish(assist, cpu);
}

static int built_in(struct vmm_assist *assist, const struct vmm_exit *exit)
{
    struct vmm_assist_cpu cpu = {.ops = &vmm_assist_kvm_ops, .ctx = assist};
    int r = assist->features_known ? 0 : vmm_assist_load_features(assist);
    r = r != 0 ? r : kvm(assist, KVM_GET_REGS, &assist->regs);
    r = r != 0 ? r : kvm(assist, KVM_GET_SREGS, &assist->sregs);
    if (r != 0) {
        return r;
    }
    cpu.features = assist->features;
    assist->paging_known = false;
    load_gprs(&cpu, &assist->regs);
    load_system(&cpu, &assist->sregs);
    return execute(assist, &cpu, exit);
}

static int assist_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct vmm_assist *assist = vcpu->assist_data;
    if (assist->fn != NULL) {
        int r = assist->fn(assist->ctx, vcpu, exit);
        if (r != 0) {
            assist->counts.embedder += r > 0;
            return r < 0 ? r : ASSIST_DONE;
        }
    }
    return vmm_vcpu_memory(vcpu) != NULL ? built_in(assist, exit) : ASSIST_UNKNOWN;
}

static int make(struct vmm_vcpu *vcpu, struct vmm_assist **out)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    struct vmm_vm *vm = vmm_vcpu_vm(vcpu);
    struct vmm_assist *assist = calloc(1, sizeof(*assist));
    int size = vmm_vm_capability(vm, KVM_CAP_XSAVE2);
    size_t need = size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
    void *xsave = calloc(1, need);
    if (assist == NULL || xsave == NULL) {
        free(assist);
        free(xsave);
        return -ENOMEM;
    }
    if (vmm_host_get_info(vmm_vm_host(vm), &info) == 0) {
        assist->flavour = info.flavour;
    }
    assist->vcpu = vcpu;
    assist->counts.size = sizeof(assist->counts);
    assist->xsave = xsave;
    assist->xsave_size = need;
    *out = assist;
    return 0;
}

/* Tell KVM to report failures at every privilege level, and not to queue #UD first. */
static int report_user_code(struct vmm_assist *assist)
{
    struct vmm_vm *vm = vmm_vcpu_vm(assist->vcpu);
    uint64_t on = 1;
    if (vmm_vm_capability(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE) <= 0) {
        return 0;
    }
    int r = vmm_vm_enable_capability(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, &on, 1);
    assist->reports_user = r >= 0;
    return r < 0 ? r : 0;
}

int vmm_x86_assist_set(struct vmm_vcpu *vcpu, uint32_t mode, vmm_x86_assist_fn fn, void *ctx)
{
    if (vcpu == NULL || mode > VMM_X86_ASSIST_ON || (mode == VMM_X86_ASSIST_OFF && fn != NULL)) {
        return -EINVAL;
    }
    if (mode == VMM_X86_ASSIST_OFF) {
        vcpu->assist = NULL;
        return 0;
    }
    struct vmm_assist *assist = vcpu->assist_data;
    if (assist == NULL) {
        int r = make(vcpu, &assist);
        if (r != 0) {
            return r;
        }
        vcpu->assist_data = assist;
        vcpu->assist_free = vmm_assist_free;
    }
    int r = report_user_code(assist);
    if (r != 0) {
        return r;
    }
    assist->fn = fn;
    assist->ctx = ctx;
    vcpu->assist = assist_run;
    return 0;
}

int vmm_x86_assist_get_counts(const struct vmm_vcpu *vcpu, struct vmm_x86_assist_counts *counts)
{
    struct vmm_x86_assist_counts none = VMM_X86_ASSIST_COUNTS_INIT;
    if (vcpu == NULL || counts == NULL) {
        return -EINVAL;
    }
    const struct vmm_assist *assist = vcpu->assist_data;
    return vmm_info_copy(counts, assist != NULL ? &assist->counts : &none, sizeof(none));
}

const char *vmm_x86_assist_kind_name(uint32_t kind)
{
    static const char *const names[VMM_X86_ASSIST_KINDS] = {
        "int3",       "int",   "into",      "fwait",   "clac/stac", "popcnt",
        "cmpxchg16b", "rdpid", "fsgsbase",  "xsave",   "xgetbv",    "movbe",
        "bits",       "cache", "serialize", "invpcid", "random"};
    return kind < VMM_X86_ASSIST_KINDS ? names[kind] : "unknown";
}
