/* SPDX-License-Identifier: BSD-3-Clause */
/* The XSAVE family (SDM vol. 1, chapter 13): xsave, xsaveopt, xsavec, xsaves, xrstor, xrstors.
 * The guest's state is moved as the standard-format area that KVM keeps. Supervisor components
 * (IA32_XSS) are not in it; where a guest has enabled one, nothing is claimed. */
#include "vcpu/x86/assist_core.h"

#include <base/util.h>
#include <libvmm/assist.h>

#define LEGACY_SIZE 512u
#define HEADER_END  576u
#define AREA_MAX    4096u /* struct kvm_xsave; larger components (AMX) are not handled */
#define COMPACT     (UINT64_C(1) << 63)
#define MSR_XSS     0xda0u
#define MXCSR_AT    24u

enum { X87 = 1, SSE = 2, AVX = 4 };

struct form {
    bool restore, compact, optimized, supervisor;
    enum vmm_assist_feature feature;
};

static bool find_form(const struct vmm_insn *insn, struct form *form)
{
    static const struct form saves[] = {
        {false, false, false, false, FEAT_XSAVE},   /* AE /4 xsave */
        {true, false, false, false, FEAT_XSAVE},    /* AE /5 xrstor */
        {false, false, true, false, FEAT_XSAVEOPT}, /* AE /6 xsaveopt */
        {true, true, false, true, FEAT_XSAVES},     /* C7 /3 xrstors */
        {false, true, true, false, FEAT_XSAVEC},    /* C7 /4 xsavec */
        {false, true, true, true, FEAT_XSAVES},     /* C7 /5 xsaves */
    };
    uint8_t which = insn->modrm >> 3 & 7;
    if (insn->map != 1 || insn->vex || insn->lock || insn->opsize || insn->rep != 0 ||
        insn->mod == 3) {
        return false;
    }
    if (insn->opcode == 0xae && which >= 4 && which <= 6) {
        *form = saves[which - 4];
        return true;
    }
    if (insn->opcode == 0xc7 && which >= 3 && which <= 5) {
        *form = saves[which];
        return true;
    }
    return false;
}

struct component {
    uint32_t size, standard, compact;
};

/* Where component `index` (2 and up) lies; `next` walks the compacted format. */
static bool find_component(struct vmm_assist_cpu *cpu, unsigned index, bool present, uint32_t *next,
                           struct component *c)
{
    uint32_t leaf[4] = {0};
    cpu->ops->cpuid(cpu->ctx, 0xd, index, leaf);
    c->size = leaf[0];
    c->standard = leaf[1];
    if (c->size == 0 || c->size > AREA_MAX || c->standard < HEADER_END ||
        c->standard > AREA_MAX - c->size) {
        return false;
    }
    if (present) {
        *next = (leaf[2] & 2) != 0 ? (uint32_t)vmm_align_up(*next, 64) : *next;
        c->compact = *next;
        *next += c->size;
    }
    return *next <= 2 * AREA_MAX;
}

struct transfer {
    struct vmm_assist_cpu *cpu;
    const struct vmm_insn *insn;
    int result;
};

static bool put(struct transfer *t, uint32_t at, const uint8_t *data, uint32_t length)
{
    return vmm_assist_store(t->cpu, t->insn, at, data, length, &t->result);
}

static bool get(struct transfer *t, uint32_t at, uint8_t *data, uint32_t length)
{
    return vmm_assist_load(t->cpu, t->insn, at, data, length, &t->result);
}

/* The fields of the legacy region belong to x87, but for MXCSR and XMM. */
static bool save_legacy(struct transfer *t, const uint8_t *area, uint64_t which, bool mxcsr)
{
    return ((which & X87) == 0 || (put(t, 0, area, 24) && put(t, 32, area + 32, 128))) &&
           (!mxcsr || put(t, MXCSR_AT, area + MXCSR_AT, 8)) &&
           ((which & SSE) == 0 || put(t, 160, area + 160, 256));
}

static bool save_extended(struct transfer *t, const struct form *form, const uint8_t *area,
                          uint64_t requested, uint64_t written)
{
    uint32_t next = HEADER_END;
    for (unsigned i = 2; i < 63; i++) {
        struct component c;
        if ((requested >> i & 1) == 0) {
            continue;
        }
        if (!find_component(t->cpu, i, true, &next, &c)) {
            t->result = ASSIST_UNKNOWN;
            return false;
        }
        uint32_t at = form->compact ? c.compact : c.standard;
        if ((written >> i & 1) != 0 && !put(t, at, area + c.standard, c.size)) {
            return false;
        }
    }
    return true;
}

static int save(struct transfer *t, const struct form *form, const uint8_t *area,
                uint64_t requested)
{
    uint64_t in_use = vmm_load_le64(area + LEGACY_SIZE);
    bool mxcsr_set = vmm_load_le32(area + MXCSR_AT) != 0x1f80;
    uint8_t header[16];
    if (form->compact && mxcsr_set) {
        in_use |= SSE; /* SDM vol. 1, 13.10 */
    }
    uint64_t written = form->optimized ? requested & in_use : requested;
    bool mxcsr = form->compact ? (written & SSE) != 0 : (requested & (SSE | AVX)) != 0;
    if (!get(t, LEGACY_SIZE, header, sizeof(header))) {
        return t->result;
    }
    uint64_t bits = requested & in_use;
    bits |= form->compact ? 0 : vmm_load_le64(header) & ~requested;
    vmm_store_le64(header, bits);
    vmm_store_le64(header + 8, requested | COMPACT);
    if (!save_extended(t, form, area, requested, written) ||
        !save_legacy(t, area, written, mxcsr) ||
        !put(t, LEGACY_SIZE, header, form->compact ? 16 : 8)) {
        return t->result;
    }
    return ASSIST_DONE;
}

static bool header_ok(const uint8_t *header, const struct form *form, uint64_t allowed)
{
    uint64_t bits = vmm_load_le64(header);
    uint64_t layout = vmm_load_le64(header + 8);
    for (unsigned i = 16; i < 64; i++) {
        if (header[i] != 0) {
            return false;
        }
    }
    if ((layout & COMPACT) == 0) {
        return layout == 0 && !form->compact && (bits & ~allowed) == 0;
    }
    return (layout & ~COMPACT & ~allowed) == 0 && (bits & ~layout) == 0;
}

/* The initial state of x87: FCW 0x37f, everything else zero (SDM vol. 1, 13.6). */
static void init_x87(uint8_t *area)
{
    memset(area, 0, 24);
    memset(area + 32, 0, 128);
    vmm_store_le16(area, 0x37f);
}

static bool restore_legacy(struct transfer *t, uint8_t *area, uint64_t requested, uint64_t bits,
                           bool mxcsr)
{
    uint8_t value[4];
    uint32_t mask = vmm_load_le32(area + 28);
    mask = mask != 0 ? mask : 0xffbf;
    if (mxcsr) {
        if (!get(t, MXCSR_AT, value, 4)) {
            return false;
        }
        if ((vmm_load_le32(value) & ~mask) != 0) {
            t->result = vmm_assist_raise(t->cpu, VEC_GP);
            return false;
        }
        memcpy(area + MXCSR_AT, value, 4);
    } else if ((requested & SSE) != 0) {
        vmm_store_le32(area + MXCSR_AT, 0x1f80);
    }
    if ((requested & X87) != 0) {
        init_x87(area);
        if ((bits & X87) != 0 && (!get(t, 0, area, 24) || !get(t, 32, area + 32, 128))) {
            return false;
        }
    }
    if ((requested & SSE) != 0) {
        memset(area + 160, 0, 256);
        return (bits & SSE) == 0 || get(t, 160, area + 160, 256);
    }
    return true;
}

static bool restore_extended(struct transfer *t, uint8_t *area, uint64_t requested, uint64_t bits,
                             uint64_t layout)
{
    uint32_t next = HEADER_END;
    for (unsigned i = 2; i < 63; i++) {
        struct component c;
        bool present = (layout >> i & 1) != 0;
        if (((requested | layout) >> i & 1) == 0) {
            continue;
        }
        if (!find_component(t->cpu, i, present, &next, &c)) {
            t->result = ASSIST_UNKNOWN;
            return false;
        }
        if ((requested >> i & 1) == 0) {
            continue;
        }
        memset(area + c.standard, 0, c.size);
        uint32_t at = (layout & COMPACT) != 0 ? c.compact : c.standard;
        if ((bits >> i & 1) != 0 && !get(t, at, area + c.standard, c.size)) {
            return false;
        }
    }
    return true;
}

static int restore(struct transfer *t, const struct form *form, uint8_t *area, uint64_t requested,
                   uint64_t allowed)
{
    uint8_t header[64];
    if (!get(t, LEGACY_SIZE, header, sizeof(header))) {
        return t->result;
    }
    if (!header_ok(header, form, allowed)) {
        return vmm_assist_raise(t->cpu, VEC_GP);
    }
    uint64_t bits = vmm_load_le64(header);
    uint64_t layout = vmm_load_le64(header + 8);
    /* Standard format loads MXCSR whatever XSTATE_BV says (SDM vol. 1, 13.8.1). */
    bool mxcsr =
        (layout & COMPACT) != 0 ? (requested & bits & SSE) != 0 : (requested & (SSE | AVX)) != 0;
    if (!restore_legacy(t, area, requested, bits, mxcsr) ||
        !restore_extended(t, area, requested, bits, layout)) {
        return t->result;
    }
    uint64_t now = (vmm_load_le64(area + LEGACY_SIZE) & ~requested) | (bits & requested);
    now |= (requested & SSE) != 0 || mxcsr ? SSE : 0; /* KVM takes MXCSR with SSE only */
    vmm_store_le64(area + LEGACY_SIZE, now);
    int r = t->cpu->ops->set_xsave(t->cpu->ctx, area, AREA_MAX);
    return r != 0 ? r : ASSIST_DONE;
}

static bool supervisor_state(struct vmm_assist_cpu *cpu)
{
    uint64_t xss;
    return cpu->ops->get_msr(cpu->ctx, MSR_XSS, &xss) == 0 && xss != 0;
}

int vmm_assist_xsave(struct vmm_assist_cpu *cpu, const struct vmm_insn *insn)
{
    struct form form;
    uint64_t linear, xcr0;
    int result;
    uint8_t area[AREA_MAX];
    if (!find_form(insn, &form)) {
        return ASSIST_UNKNOWN;
    }
    cpu->kind = VMM_X86_ASSIST_XSAVE;
    if (!vmm_assist_has(cpu, form.feature) || (cpu->cr4 & X86_CR4_OSXSAVE) == 0) {
        return vmm_assist_raise(cpu, VEC_UD);
    }
    if ((cpu->cr0 & X86_CR0_TS) != 0) {
        return vmm_assist_raise(cpu, VEC_NM);
    }
    if (form.supervisor && cpu->cpl != 0) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    if (!vmm_assist_linear(cpu, insn, 0, HEADER_END, !form.restore, &linear, &result)) {
        return result;
    }
    if ((linear & 63) != 0) {
        return vmm_assist_raise(cpu, VEC_GP);
    }
    if (form.supervisor && supervisor_state(cpu)) {
        return ASSIST_UNKNOWN;
    }
    int r = cpu->ops->get_xcr0(cpu->ctx, &xcr0);
    r = r != 0 ? r : cpu->ops->get_xsave(cpu->ctx, area, sizeof(area));
    if (r != 0) {
        return r;
    }
    uint64_t mask = (uint32_t)cpu->gpr[REG_AX] | cpu->gpr[REG_DX] << 32;
    struct transfer t = {cpu, insn, ASSIST_DONE};
    return form.restore ? restore(&t, &form, area, xcr0 & mask, xcr0)
                        : save(&t, &form, area, xcr0 & mask);
}
