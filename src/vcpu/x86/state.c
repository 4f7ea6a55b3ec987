/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All state of an x86 vCPU, saved as KVM's own structures, one property each.
 *
 * The order of loading matters (KVM API, and what each call derives from the others): the special
 * registers come first because the APIC base and the paging mode are in them, the local APIC before
 * the MSRs because the deadline timer is one of those and belongs to it, events and the MP state last.
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
#define PIECE_SIZE_MAX 1024u
#define PIECE_LAPIC    3u /* MSRs and FPU state go between this one and the next */

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

static int save_all(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    int rc = vmm_vcpu_complete(vcpu);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(pieces) && !rc; i++) {
        uint64_t data[PIECE_SIZE_MAX / sizeof(uint64_t) + 1] = {0};
        if (!has_piece(vcpu, &pieces[i]))
            continue;
        rc = vmm_kvm_ioctl_ptr(vcpu->fd, pieces[i].get, data);
        if (!rc)
            rc = vmm_state_put_bytes(w, pieces[i].name, data, pieces[i].size);
    }
    if (!rc)
        rc = save_fpu(vcpu, w);
    return rc ? rc : save_msrs(vcpu, w);
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

static int read_all(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct loaded *l,
                    struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(pieces) && !rc; i++) {
        l->present[i] = has_piece(vcpu, &pieces[i]);
        if (l->present[i])
            rc = vmm_state_get_bytes(r, pieces[i].name, l->pieces[i], pieces[i].size, err);
    }
    if (!rc)
        rc = read_fpu(vcpu, r, l, err);
    return rc ? rc : read_msr_cells(r, l, err);
}

static int set_piece(struct vmm_vcpu *vcpu, const struct loaded *l, size_t i, struct vmm_error *err)
{
    if (!l->present[i])
        return 0;
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, pieces[i].set, l->pieces[i]);
    if (rc)
        return vmm_error_set(err, rc, "cpu@%u/%s: KVM refused it: %s", vcpu->id, pieces[i].name,
                             strerror(-rc));
    return 0;
}

static int set_fpu(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    int rc = vmm_kvm_ioctl_ptr(vcpu->fd, l->fpu_size ? KVM_SET_XSAVE : KVM_SET_FPU, l->fpu);
    if (rc)
        return vmm_error_set(err, rc, "cpu@%u/%s: KVM refused it: %s", vcpu->id,
                             l->fpu_size ? "xsave" : "fpu", strerror(-rc));
    return 0;
}

/* KVM lists registers that it lets a guest read and not the host write back (some depend on CPUID).
 * One that is refused although it would not change is passed over. */
static int set_msrs(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    for (size_t next = 0; next < l->msr_count;) {
        long rc = vmm_x86_set_msrs(vcpu, l->msrs + next, l->msr_count - next);
        if (rc < 0)
            return vmm_error_set(err, (int)rc, "cpu@%u/msrs: %s", vcpu->id, strerror((int)-rc));
        next += (size_t)rc;
        if (next == l->msr_count)
            break;
        struct vmm_x86_msr now = {.index = l->msrs[next].index};
        if (vmm_x86_get_msrs(vcpu, &now, 1) != 1 || now.value != l->msrs[next].value)
            return vmm_error_set(err, -EINVAL, "cpu@%u/msrs: KVM refused 0x%llx for register 0x%x",
                                 vcpu->id, (unsigned long long)l->msrs[next].value,
                                 l->msrs[next].index);
        next++;
    }
    return 0;
}

static int set_all(struct vmm_vcpu *vcpu, const struct loaded *l, struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i <= PIECE_LAPIC && !rc; i++)
        rc = set_piece(vcpu, l, i, err);
    if (!rc)
        rc = set_fpu(vcpu, l, err);
    if (!rc)
        rc = set_msrs(vcpu, l, err);
    for (size_t i = PIECE_LAPIC + 1; i < VMM_ARRAY_SIZE(pieces) && !rc; i++)
        rc = set_piece(vcpu, l, i, err);
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
        free(l);
    }
    return rc;
}
