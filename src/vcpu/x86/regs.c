/* SPDX-License-Identifier: BSD-3-Clause */
/* General and special registers: ours to KVM's and back. */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

/*
 * The synced register area (KVM API, 5, kvm_run.s.regs): once an embedder has read the registers,
 * KVM is asked to leave them in kvm_run with each exit, and reading them again costs no call.
 */
static int read_regs(struct vmm_vcpu *vcpu, struct kvm_regs *k)
{
    if (vcpu->synced) {
        *k = vcpu->run->s.regs.regs;
        return 0;
    }
    if (vcpu->can_sync) {
        vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
        vcpu->sync = true;
    }
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, k);
}

int vmm_x86_get_regs(struct vmm_vcpu *vcpu, struct vmm_x86_regs *r)
{
    struct kvm_regs k;
    int rc = read_regs(vcpu, &k);
    if (rc < 0)
        return rc;
    *r = (struct vmm_x86_regs){
        .rax = k.rax,
        .rbx = k.rbx,
        .rcx = k.rcx,
        .rdx = k.rdx,
        .rsi = k.rsi,
        .rdi = k.rdi,
        .rsp = k.rsp,
        .rbp = k.rbp,
        .r8 = k.r8,
        .r9 = k.r9,
        .r10 = k.r10,
        .r11 = k.r11,
        .r12 = k.r12,
        .r13 = k.r13,
        .r14 = k.r14,
        .r15 = k.r15,
        .rip = k.rip,
        .rflags = k.rflags,
    };
    return 0;
}

int vmm_x86_set_regs(struct vmm_vcpu *vcpu, const struct vmm_x86_regs *r)
{
    struct kvm_regs k = {
        .rax = r->rax,
        .rbx = r->rbx,
        .rcx = r->rcx,
        .rdx = r->rdx,
        .rsi = r->rsi,
        .rdi = r->rdi,
        .rsp = r->rsp,
        .rbp = r->rbp,
        .r8 = r->r8,
        .r9 = r->r9,
        .r10 = r->r10,
        .r11 = r->r11,
        .r12 = r->r12,
        .r13 = r->r13,
        .r14 = r->r14,
        .r15 = r->r15,
        .rip = r->rip,
        .rflags = r->rflags,
    };
    vcpu->synced = false;
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_REGS, &k);
}

static struct vmm_x86_segment segment_from_kvm(const struct kvm_segment *k)
{
    return (struct vmm_x86_segment){
        .base = k->base,
        .limit = k->limit,
        .selector = k->selector,
        .type = k->type,
        .present = k->present,
        .dpl = k->dpl,
        .db = k->db,
        .s = k->s,
        .l = k->l,
        .g = k->g,
        .avl = k->avl,
        .unusable = k->unusable,
    };
}

static struct kvm_segment segment_to_kvm(const struct vmm_x86_segment *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = s->type,
        .present = s->present,
        .dpl = s->dpl,
        .db = s->db,
        .s = s->s,
        .l = s->l,
        .g = s->g,
        .avl = s->avl,
        .unusable = s->unusable,
    };
}

int vmm_x86_get_sregs(struct vmm_vcpu *vcpu, struct vmm_x86_sregs *s)
{
    struct kvm_sregs k;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_SREGS, &k);
    if (rc < 0)
        return rc;
    *s = (struct vmm_x86_sregs){
        .cs = segment_from_kvm(&k.cs),
        .ds = segment_from_kvm(&k.ds),
        .es = segment_from_kvm(&k.es),
        .fs = segment_from_kvm(&k.fs),
        .gs = segment_from_kvm(&k.gs),
        .ss = segment_from_kvm(&k.ss),
        .tr = segment_from_kvm(&k.tr),
        .ldt = segment_from_kvm(&k.ldt),
        .gdt = {.base = k.gdt.base, .limit = k.gdt.limit},
        .idt = {.base = k.idt.base, .limit = k.idt.limit},
        .cr0 = k.cr0,
        .cr2 = k.cr2,
        .cr3 = k.cr3,
        .cr4 = k.cr4,
        .cr8 = k.cr8,
        .efer = k.efer,
        .apic_base = k.apic_base,
    };
    memcpy(s->interrupt_bitmap, k.interrupt_bitmap, sizeof(s->interrupt_bitmap));
    return 0;
}

int vmm_x86_set_sregs(struct vmm_vcpu *vcpu, const struct vmm_x86_sregs *s)
{
    struct kvm_sregs k = {
        .cs = segment_to_kvm(&s->cs),
        .ds = segment_to_kvm(&s->ds),
        .es = segment_to_kvm(&s->es),
        .fs = segment_to_kvm(&s->fs),
        .gs = segment_to_kvm(&s->gs),
        .ss = segment_to_kvm(&s->ss),
        .tr = segment_to_kvm(&s->tr),
        .ldt = segment_to_kvm(&s->ldt),
        .gdt = {.base = s->gdt.base, .limit = s->gdt.limit},
        .idt = {.base = s->idt.base, .limit = s->idt.limit},
        .cr0 = s->cr0,
        .cr2 = s->cr2,
        .cr3 = s->cr3,
        .cr4 = s->cr4,
        .cr8 = s->cr8,
        .efer = s->efer,
        .apic_base = s->apic_base,
    };
    memcpy(k.interrupt_bitmap, s->interrupt_bitmap, sizeof(k.interrupt_bitmap));
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_SREGS, &k);
    /* Without a local APIC in KVM, KVM_RUN takes CR8 from here (KVM API, 5, kvm_run.cr8). */
    if (rc == 0)
        vcpu->run->cr8 = s->cr8;
    return rc;
}

int vmm_x86_translate(struct vmm_vcpu *vcpu, uint64_t virtual_address, uint64_t *physical_address)
{
    struct kvm_translation t = {.linear_address = virtual_address};
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_TRANSLATE, &t);
    if (rc < 0)
        return rc;
    if (!t.valid)
        return -EFAULT;
    *physical_address = t.physical_address;
    return 0;
}

/* Since Linux 5.14 (KVM API, KVM_GET_SREGS2). */
static int get_sregs2(struct vmm_vcpu *vcpu, struct kvm_sregs2 *s)
{
    if (!vmm_vm_capability(vcpu->vm, KVM_CAP_SREGS2))
        return -ENOTSUP;
    memset(s, 0, sizeof(*s));
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_SREGS2, s);
}

int vmm_x86_get_pdptrs(struct vmm_vcpu *vcpu, uint64_t pdptrs[4])
{
    struct kvm_sregs2 s;
    int rc = get_sregs2(vcpu, &s);
    if (rc < 0)
        return rc;
    if (!(s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID))
        return -ENODATA;
    memcpy(pdptrs, s.pdptrs, sizeof(s.pdptrs));
    return 0;
}

int vmm_x86_set_pdptrs(struct vmm_vcpu *vcpu, const uint64_t pdptrs[4])
{
    struct kvm_sregs2 s;
    int rc = get_sregs2(vcpu, &s);
    if (rc < 0)
        return rc;
    /* KVM takes them in PAE paging only. */
    if (!(s.cr0 & 1u << 31) || !(s.cr4 & 1u << 5) || (s.efer & 1u << 10))
        return -EINVAL;
    s.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
    memcpy(s.pdptrs, pdptrs, sizeof(s.pdptrs));
    return vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_SREGS2, &s);
}

int vmm_vcpu_start_at(struct vmm_vcpu *vcpu, uint64_t address)
{
    struct vmm_x86_sregs sregs;
    struct vmm_x86_regs regs = {.rip = address, .rflags = 2};
    if (!vcpu || address > UINT16_MAX)
        return -EINVAL;
    int rc = vmm_x86_get_sregs(vcpu, &sregs);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (!rc)
        rc = vmm_x86_set_sregs(vcpu, &sregs);
    return rc ? rc : vmm_x86_set_regs(vcpu, &regs);
}
