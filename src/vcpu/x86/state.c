/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All state of an x86 vCPU, saved as KVM's own structures, one property each.
 *
 * The orders matter, for saving as for loading (KVM API, and what each call derives from the others).
 * Saving: reading the MP state makes KVM take an INIT or SIPI that is pending, which changes other
 * registers, so it comes first; events come last, when nothing else can change them.
 * Loading: the special registers come first because the APIC base, the paging mode and EFER.SVME are in
 * them, which the local APIC and the nested state need; the TSC's rate before its count; the local
 * APIC before the MSRs because the deadline timer is one of those and belongs to it; events and the MP
 * state last.
 */
#include "base/util.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/x86.h>

#include <stdio.h>
#include <stdlib.h>

#define VCPU_STATE_VERSION 1u
#define MSRS_MAX           1024u
#define MSR_TSC_DEADLINE   0x6e0u

/* Structures of a fixed size that one call reads and another writes. */
static const struct piece {
    const char *name;
    unsigned long get, set;
    size_t size;
    uint32_t capability; /* 0: every host has it */
    bool needs_irqchip;
} pieces[] = {
    {"sregs", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs), 0, false},
    {"regs", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), 0, false},
    {"xcrs", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), KVM_CAP_XCRS, false},
    {"lapic", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state), KVM_CAP_IRQCHIP, true},
    {"debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs),
     KVM_CAP_DEBUGREGS, false},
    {"events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events),
     KVM_CAP_VCPU_EVENTS, false},
    {"mp-state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state), KVM_CAP_MP_STATE,
     true},
};
enum { SREGS, REGS, XCRS, LAPIC, DEBUGREGS, EVENTS, MP_STATE, PIECES };
#define PIECE_SIZE_MAX 1024u
_Static_assert(VMM_ARRAY_SIZE(pieces) == PIECES, "a row each");
static const uint8_t save_order[PIECES] = {MP_STATE, REGS, SREGS, XCRS, LAPIC, DEBUGREGS, EVENTS};
/* The nested state comes after the first of these; the TSC's rate, the FPU and the MSRs after
 * LAPIC. */
static const uint8_t load_order[PIECES] = {SREGS, REGS, XCRS, LAPIC, DEBUGREGS, EVENTS, MP_STATE};

_Static_assert(sizeof(struct kvm_lapic_state) <= PIECE_SIZE_MAX, "room for a piece");
_Static_assert(sizeof(struct kvm_xcrs) <= PIECE_SIZE_MAX, "room for a piece");
_Static_assert(sizeof(struct kvm_sregs) <= PIECE_SIZE_MAX, "room for a piece");

static bool has_piece(const struct vmm_vcpu *vcpu, const struct piece *piece)
{
    if (piece->needs_irqchip && vmm_vm_irqchip(vcpu->vm) == VMM_IRQCHIP_NONE)
        return false;
    return !piece->capability || vmm_vm_capability(vcpu->vm, piece->capability);
}

/* Saving --------------------------------------------------------------------------------------- */

static int save_fpu(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    size_t size = vmm_x86_xsave_size(vcpu);
    if (size == 0) {
        struct kvm_fpu fpu;
        int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_FPU, &fpu);
        return rc ? rc : vmm_state_put_bytes(w, "fpu", &fpu, sizeof(fpu));
    }
    void *area = calloc(1, size);
    if (!area)
        return -ENOMEM;
    int rc = vmm_x86_get_xsave(vcpu, area, size);
    if (!rc)
        rc = vmm_state_put_bytes(w, "xsave", area, size);
    free(area);
    return rc;
}

/* Read what the host's list names; a register that this vCPU does not have is passed over. */
static long read_msrs(struct vmm_vcpu *vcpu, struct vmm_x86_msr *msrs)
{
    uint32_t *indices = calloc(MSRS_MAX, sizeof(*indices));
    if (!indices)
        return -ENOMEM;
    long listed = vmm_x86_msr_list(vmm_vm_host(vcpu->vm), indices, MSRS_MAX);
    long count = 0, rc = listed < 0 ? listed : 0;
    if (listed > (long)MSRS_MAX)
        rc = -E2BIG;
    for (long next = 0; rc >= 0 && next < listed;) {
        long wanted = listed - next;
        for (long i = 0; i < wanted; i++)
            msrs[count + i] = (struct vmm_x86_msr){.index = indices[next + i]};
        rc = vmm_x86_get_msrs(vcpu, msrs + count, (size_t)wanted);
        if (rc < 0)
            break;
        count += rc;
        next += rc + 1; /* the one after the last that was read was refused */
    }
    free(indices);
    return rc < 0 ? rc : count;
}

/* Each register as three big-endian cells: its index, the high and the low half. */
static int save_msrs(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    struct vmm_x86_msr *msrs = calloc(MSRS_MAX, sizeof(*msrs));
    uint32_t *cells = calloc(MSRS_MAX, 3 * sizeof(*cells));
    long count = msrs && cells ? read_msrs(vcpu, msrs) : -ENOMEM;
    int rc = count < 0 ? (int)count : 0;
    for (long i = 0; i < count; i++) {
        cells[3 * i] = htobe32(msrs[i].index);
        cells[3 * i + 1] = htobe32((uint32_t)(msrs[i].value >> 32));
        cells[3 * i + 2] = htobe32((uint32_t)msrs[i].value);
    }
    if (!rc)
        rc = vmm_state_put_bytes(w, "msrs", cells, (size_t)count * 3 * sizeof(*cells));
    free(msrs);
    free(cells);
    return rc;
}

/* The guest's own use of virtualization, where the host offers it. */
static int save_nested(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    int most = vmm_vm_capability(vcpu->vm, KVM_CAP_NESTED_STATE);
    if (most < (int)sizeof(struct kvm_nested_state))
        return 0;
    struct kvm_nested_state *nested = calloc(1, (size_t)most);
    if (!nested)
        return -ENOMEM;
    nested->size = (uint32_t)most;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_NESTED_STATE, nested);
    if (!rc)
        rc = vmm_state_put_bytes(w, "nested", nested, nested->size);
    free(nested);
    return rc;
}

/* PAE paging: the PDPTE registers, which memory need not agree with (SDM vol. 3, 4.4.1). */
static int save_pdptrs(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    uint64_t pdptrs[4];
    int rc = vmm_x86_get_pdptrs(vcpu, pdptrs);
    if (rc == -ENOTSUP || rc == -ENODATA)
        return 0;
    return rc ? rc : vmm_state_put_bytes(w, "pdptrs", pdptrs, sizeof(pdptrs));
}

static int save_tsc(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    uint32_t khz;
    int rc = vmm_x86_get_tsc_khz(vcpu, &khz);
    return rc ? rc : vmm_state_put_u32(w, "tsc-khz", khz);
}

static int save_piece(struct vmm_vcpu *vcpu, const struct piece *piece, struct vmm_state_writer *w)
{
    uint64_t data[PIECE_SIZE_MAX / sizeof(uint64_t) + 1] = {0};
    if (!has_piece(vcpu, piece))
        return 0;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, piece->get, data);
    return rc ? rc : vmm_state_put_bytes(w, piece->name, data, piece->size);
}

static int save_all(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    int rc = vmm_vcpu_complete(vcpu);
    for (size_t i = 0; i < PIECES && !rc; i++) {
        if (save_order[i] != EVENTS) {
            rc = save_piece(vcpu, &pieces[save_order[i]], w);
            continue;
        }
        if (!rc)
            rc = save_pdptrs(vcpu, w);
        if (!rc)
            rc = save_nested(vcpu, w);
        if (!rc)
            rc = save_tsc(vcpu, w);
        if (!rc)
            rc = save_fpu(vcpu, w);
        if (!rc)
            rc = save_msrs(vcpu, w);
        if (!rc)
            rc = save_piece(vcpu, &pieces[EVENTS], w);
    }
    return rc;
}

static void node_name(const struct vmm_vcpu *vcpu, char name[16])
{
    (void)snprintf(name, 16, "cpu@%u", vcpu->id);
}

int vmm_vcpu_save(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    char name[16];
    node_name(vcpu, name);
    int rc = vmm_state_begin(w, name, VCPU_STATE_VERSION);
    if (rc)
        return rc;
    rc = save_all(vcpu, w);
    int end = vmm_state_end(w);
    return rc ? rc : end;
}

/* Loading -------------------------------------------------------------------------------------- */

struct loaded {
    uint64_t pieces[VMM_ARRAY_SIZE(pieces)][PIECE_SIZE_MAX / sizeof(uint64_t) + 1];
    bool present[VMM_ARRAY_SIZE(pieces)];
    void *fpu;
    size_t fpu_size;
    struct vmm_x86_msr *msrs;
    size_t msr_count;
    uint32_t tsc_khz;
    uint64_t pdptrs[4];
    bool has_pdptrs;
    struct kvm_nested_state *nested;
};

static int read_fpu(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct loaded *l,
                    struct vmm_error *err)
{
    size_t size = vmm_x86_xsave_size(vcpu);
    l->fpu_size = size;
    l->fpu = calloc(1, size ? size : sizeof(struct kvm_fpu));
    if (!l->fpu)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    return size ? vmm_state_get_bytes(r, "xsave", l->fpu, size, err)
                : vmm_state_get_bytes(r, "fpu", l->fpu, sizeof(struct kvm_fpu), err);
}

/* The deadline timer's register is put last: it arms the local APIC's timer. */
static int read_msr_cells(struct vmm_state_reader *r, struct loaded *l, struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, "msrs", &data, &length, err);
    if (rc)
        return rc;
    l->msr_count = length / 12;
    if (length % 12 || l->msr_count > MSRS_MAX)
        return vmm_error_set(err, -EINVAL, "msrs: %zu bytes are no list of registers", length);
    l->msrs = calloc(l->msr_count + 1, sizeof(*l->msrs));
    if (!l->msrs)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < l->msr_count; i++) {
        uint32_t cells[3];
        memcpy(cells, (const char *)data + 12 * i, 12);
        l->msrs[i].index = be32toh(cells[0]);
        l->msrs[i].value = (uint64_t)be32toh(cells[1]) << 32 | be32toh(cells[2]);
    }
    for (size_t i = 0; i + 1 < l->msr_count; i++)
        if (l->msrs[i].index == MSR_TSC_DEADLINE) {
            struct vmm_x86_msr deadline = l->msrs[i];
            l->msrs[i] = l->msrs[l->msr_count - 1];
            l->msrs[l->msr_count - 1] = deadline;
        }
    return 0;
}

/* Only a host with nested virtualization has saved it; only such a one can load it. */
static int read_nested(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, "nested", &data, &length, NULL);
    if (rc == -ENOENT)
        return 0;
    if (rc)
        return vmm_error_set(err, rc, "cpu@%u/nested: %s", vcpu->id, strerror(-rc));
    if (vmm_vm_capability(vcpu->vm, KVM_CAP_NESTED_STATE) < (int)sizeof(*l->nested))
        return vmm_error_set(err, -ENOTSUP, "cpu@%u/nested: this host has no nested virtualization",
                             vcpu->id);
    if (length < sizeof(*l->nested))
        return vmm_error_set(err, -EINVAL, "cpu@%u/nested: %zu bytes are too few", vcpu->id,
                             length);
    l->nested = malloc(length);
    if (!l->nested)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    memcpy(l->nested, data, length);
    if (l->nested->size != length)
        return vmm_error_set(err, -EINVAL, "cpu@%u/nested: it says %u bytes and has %zu", vcpu->id,
                             l->nested->size, length);
    return 0;
}

static int read_pdptrs(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, "pdptrs", &data, &length, NULL);
    if (rc == -ENOENT)
        return 0;
    if (rc || length != sizeof(l->pdptrs))
        return vmm_error_set(err, -EINVAL, "cpu@%u/pdptrs: not four registers", vcpu->id);
    memcpy(l->pdptrs, data, sizeof(l->pdptrs));
    l->has_pdptrs = true;
    return 0;
}

static int read_all(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct loaded *l,
                    struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < PIECES && !rc; i++) {
        l->present[i] = has_piece(vcpu, &pieces[i]);
        if (l->present[i])
            rc = vmm_state_get_bytes(r, pieces[i].name, l->pieces[i], pieces[i].size, err);
    }
    if (!rc)
        rc = read_pdptrs(vcpu, r, l, err);
    if (!rc)
        rc = read_nested(vcpu, r, l, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "tsc-khz", INT32_MAX, &l->tsc_khz, err);
    if (!rc)
        rc = read_fpu(vcpu, r, l, err);
    return rc ? rc : read_msr_cells(r, l, err);
}

static int refused(const struct vmm_vcpu *vcpu, const char *name, int rc, struct vmm_error *err)
{
    return vmm_error_set(err, rc, "cpu@%u/%s: KVM refused it: %s", vcpu->id, name, strerror(-rc));
}

static int set_piece(struct vmm_vcpu *vcpu, const struct loaded *l, size_t i, struct vmm_error *err)
{
    if (!l->present[i])
        return 0;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, pieces[i].set, l->pieces[i]);
    return rc ? refused(vcpu, pieces[i].name, rc, err) : 0;
}

/* What follows from the special registers at once. */
static int set_with_sregs(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    const struct kvm_sregs *sregs = (const void *)l->pieces[SREGS];
    vcpu->run->cr8 = sregs->cr8; /* see vmm_x86_set_sregs() */
    int rc = l->has_pdptrs ? vmm_x86_set_pdptrs(vcpu, l->pdptrs) : 0;
    /* A host without the call has loaded them from memory. */
    if (rc && rc != -ENOTSUP)
        return refused(vcpu, "pdptrs", rc, err);
    rc = l->nested ? vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_NESTED_STATE, l->nested) : 0;
    return rc ? refused(vcpu, "nested", rc, err) : 0;
}

/* A host whose own rate is as near as a clock's crystal is (250 millionths) will do as it is. */
static int set_tsc(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    uint32_t now = 0;
    int rc = vmm_x86_get_tsc_khz(vcpu, &now);
    uint32_t apart = now > l->tsc_khz ? now - l->tsc_khz : l->tsc_khz - now;
    if (rc || apart <= l->tsc_khz / 4000)
        return rc ? refused(vcpu, "tsc-khz", rc, err) : 0;
    rc = vmm_x86_set_tsc_khz(vcpu, l->tsc_khz);
    if (rc)
        return vmm_error_set(err, rc,
                             "cpu@%u/tsc-khz: the guest counts at %u kHz, and this host, at %u, "
                             "cannot scale: %s",
                             vcpu->id, l->tsc_khz, now, strerror(-rc));
    return 0;
}

static int set_fpu(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, l->fpu_size ? KVM_SET_XSAVE : KVM_SET_FPU, l->fpu);
    return rc ? refused(vcpu, l->fpu_size ? "xsave" : "fpu", rc, err) : 0;
}

/* KVM lists registers that it lets a guest read and not the host write back (some depend on CPUID).
 * One that is refused although it would not change is passed over. */
static int set_msr(struct vmm_vcpu *vcpu, const struct vmm_x86_msr *msr, struct vmm_error *err)
{
    struct vmm_x86_msr now = {.index = msr->index};
    if (vmm_x86_get_msrs(vcpu, &now, 1) == 1 && now.value == msr->value)
        return 0;
    long rc = vmm_x86_set_msrs(vcpu, msr, 1);
    if (rc < 0)
        return vmm_error_set(err, (int)rc, "cpu@%u/msrs: %s", vcpu->id, strerror((int)-rc));
    if (rc != 1)
        return vmm_error_set(err, -EINVAL, "cpu@%u/msrs: KVM refused 0x%llx for register 0x%x",
                             vcpu->id, (unsigned long long)msr->value, msr->index);
    return 0;
}

/* Only what changes is written: some registers have effects when they are, whatever the value. */
static int set_msrs(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < l->msr_count && !rc; i++)
        rc = set_msr(vcpu, &l->msrs[i], err);
    return rc;
}

static int set_all(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < PIECES && !rc; i++) {
        rc = set_piece(vcpu, l, load_order[i], err);
        if (!rc && load_order[i] == SREGS)
            rc = set_with_sregs(vcpu, l, err);
        if (rc || load_order[i] != LAPIC)
            continue;
        rc = set_tsc(vcpu, l, err);
        if (!rc)
            rc = set_fpu(vcpu, l, err);
        if (!rc)
            rc = set_msrs(vcpu, l, err);
    }
    return rc;
}

int vmm_vcpu_load(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct vmm_error *err)
{
    char name[16];
    uint32_t version;
    node_name(vcpu, name);
    int rc = vmm_state_enter(r, name, VCPU_STATE_VERSION, &version, err);
    if (rc)
        return rc;
    struct loaded *l = calloc(1, sizeof(*l));
    rc = l ? read_all(vcpu, r, l, err) : vmm_error_set(err, -ENOMEM, "out of memory");
    (void)vmm_state_leave(r);
    if (!rc)
        rc = vmm_vcpu_complete(vcpu);
    vcpu->synced = false;
    if (!rc)
        rc = set_all(vcpu, l, err);
    if (l) {
        free(l->fpu);
        free(l->msrs);
        free(l->nested);
        free(l);
    }
    return rc;
}
