/* SPDX-License-Identifier: BSD-3-Clause */
/* What the emulation assist's core asks for, answered by KVM and guest memory. */
#include "vcpu/x86/assist.h"

#include <base/util.h>
#include <cpuid.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define CR0_WP      (1u << 16)
#define CR0_PG      (1u << 31)
#define CR4_PSE     (1u << 4)
#define CR4_PAE     (1u << 5)
#define CR4_PGE     (1u << 7)
#define CR4_SMEP    (1u << 20)
#define CR4_SMAP    (1u << 21)
#define CR4_PKE     (1u << 22)
#define EFER_NXE    (1u << 11)
#define XSTATE_PKRU 9u
#define PAGE        4096u

static int kvm(const struct vmm_assist *assist, unsigned long request, void *argument)
{
    return ioctl(vmm_vcpu_fd(assist->vcpu), request, argument) < 0 ? -errno : 0;
}

static uint32_t page_format(const struct kvm_sregs *sregs)
{
    if ((sregs->cr0 & CR0_PG) == 0) {
        return VMM_PAGE_FORMAT_NONE;
    }
    if ((sregs->cr4 & CR4_PAE) == 0) {
        return VMM_PAGE_FORMAT_X86_32;
    }
    if ((sregs->efer & X86_EFER_LMA) == 0) {
        return VMM_PAGE_FORMAT_X86_PAE;
    }
    return (sregs->cr4 & X86_CR4_LA57) != 0 ? VMM_PAGE_FORMAT_X86_5LEVEL
                                            : VMM_PAGE_FORMAT_X86_4LEVEL;
}

void vmm_assist_paging_context(const struct kvm_sregs *sregs, struct vmm_paging_context *context)
{
    *context = (struct vmm_paging_context)VMM_PAGING_CONTEXT_INIT;
    context->format = page_format(sregs);
    context->root = sregs->cr3;
    context->flags = VMM_PAGING_PAGES_1G;
    context->flags |= (sregs->cr4 & CR4_PSE) != 0 ? VMM_PAGING_PSE | VMM_PAGING_PSE36 : 0;
    context->flags |= (sregs->efer & EFER_NXE) != 0 ? VMM_PAGING_NX : 0;
    context->flags |= (sregs->cr0 & CR0_WP) != 0 ? VMM_PAGING_WP : 0;
    context->flags |= (sregs->cr4 & CR4_SMEP) != 0 ? VMM_PAGING_SMEP : 0;
    context->flags |= (sregs->cr4 & CR4_SMAP) != 0 ? VMM_PAGING_SMAP : 0;
}

static int get_xsave(void *ctx, void *area, size_t length)
{
    struct vmm_assist *assist = ctx;
    unsigned long request =
        assist->xsave_size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    int r = kvm(assist, request, assist->xsave);
    if (r == 0) {
        memcpy(area, assist->xsave, length);
    }
    return r;
}

/* What lies beyond `length` is as get_xsave() left it. */
static int set_xsave(void *ctx, const void *area, size_t length)
{
    struct vmm_assist *assist = ctx;
    memcpy(assist->xsave, area, length);
    return kvm(assist, KVM_SET_XSAVE, assist->xsave);
}

static void get_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct vmm_assist *assist = ctx;
    for (uint32_t i = 0; assist->cpuid != NULL && i < assist->cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &assist->cpuid->entries[i];
        bool indexed = (e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
        if (e->function == leaf && (!indexed || e->index == subleaf)) {
            out[0] = e->eax;
            out[1] = e->ebx;
            out[2] = e->ecx;
            out[3] = e->edx;
            return;
        }
    }
    memset(out, 0, 4 * sizeof(*out));
}

/* PKRU lives in the XSAVE area only. */
static int load_keys(struct vmm_assist *assist)
{
    uint32_t leaf[4];
    uint8_t area[sizeof(struct kvm_xsave)];
    get_cpuid(assist, 0xd, XSTATE_PKRU, leaf);
    if (leaf[1] < 576 || leaf[1] > sizeof(area) - 4) {
        return 0;
    }
    int r = get_xsave(assist, area, sizeof(area));
    if (r == 0) {
        assist->paging.user_keys = vmm_load_le32(area + leaf[1]);
        assist->paging.flags |= VMM_PAGING_PKU;
    }
    return r;
}

static int load_paging(struct vmm_assist *assist)
{
    uint32_t leaf[4];
    if (assist->paging_known) {
        return 0;
    }
    vmm_assist_paging_context(&assist->sregs, &assist->paging);
    get_cpuid(assist, 0x80000008, 0, leaf);
    uint32_t bits = leaf[0] & 0xff;
    assist->paging.address_bits = bits >= 32 && bits <= 52 ? bits : 0;
    assist->paging_known = true;
    return (assist->sregs.cr4 & CR4_PKE) != 0 ? load_keys(assist) : 0;
}

/* Translate for the core: 0, 1 with a #PF in cpu->event, or a negative errno. */
static int translate(struct vmm_assist *assist, struct vmm_assist_cpu *cpu, uint64_t linear,
                     uint32_t access, uint64_t *physical)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    int r = load_paging(assist);
    if (r != 0) {
        return r;
    }
    r = vmm_paging_translate(vmm_vcpu_memory(assist->vcpu), &assist->paging, linear,
                             access | VMM_ACCESS_MARK, &t);
    if (r == -EFAULT && t.reason != VMM_FAULT_ADDRESS && t.reason != VMM_FAULT_TABLE) {
        cpu->event = (struct vmm_assist_event){.vector = VEC_PF,
                                               .pending = true,
                                               .has_error = true,
                                               .error_code = t.code,
                                               .cr2 = linear};
        return 1;
    }
    *physical = t.physical;
    return r == -EAGAIN ? -EFAULT : r;
}

static uint32_t access_of(const struct vmm_assist_cpu *cpu, bool write, bool system)
{
    uint32_t access = write ? VMM_ACCESS_WRITE : 0;
    if (!system && cpu->cpl == 3) {
        access |= VMM_ACCESS_USER;
    } else if (!system && (cpu->rflags & X86_AC) != 0) {
        access |= VMM_ACCESS_AC;
    }
    return access;
}

/* Every page of a range is translated before the first byte moves, so that a fault leaves nothing
 * half done. Linear addresses wrap at 4 GiB outside 64-bit mode. */
static int transfer(struct vmm_assist *assist, struct vmm_assist_cpu *cpu, uint64_t linear,
                    uint8_t *data, size_t length, uint32_t access)
{
    struct {
        uint64_t physical;
        size_t length;
    } pieces[4];
    struct vmm_memory *memory = vmm_vcpu_memory(assist->vcpu);
    size_t count = 0;
    bool write = (access & VMM_ACCESS_WRITE) != 0;
    for (size_t done = 0; done < length; count++) {
        uint64_t at = (linear + done) & (cpu->code64 ? UINT64_MAX : UINT32_MAX);
        size_t piece = PAGE - (at & (PAGE - 1));
        piece = piece < length - done ? piece : length - done;
        if (count == VMM_ARRAY_SIZE(pieces)) {
            return -EFAULT;
        }
        int r = translate(assist, cpu, at, access, &pieces[count].physical);
        if (r != 0) {
            return r;
        }
        if (!vmm_memory_valid(memory, pieces[count].physical, piece, write)) {
            return -EFAULT;
        }
        pieces[count].length = piece;
        done += piece;
    }
    for (size_t i = 0; i < count; data += pieces[i].length, i++) {
        int r = write ? vmm_memory_write(memory, pieces[i].physical, data, pieces[i].length)
                      : vmm_memory_read(memory, pieces[i].physical, data, pieces[i].length);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int read_linear(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, void *data,
                       size_t length, bool system)
{
    return transfer(ctx, cpu, linear, data, length, access_of(cpu, false, system));
}

static int write_linear(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, const void *data,
                        size_t length)
{
    /* transfer() only reads from it when writing to the guest */
    return transfer(ctx, cpu, linear, (uint8_t *)(uintptr_t)data, length,
                    access_of(cpu, true, false));
}

#ifdef __x86_64__
static bool host_cmpxchg16(void *at, uint64_t expected[2], const uint64_t desired[2])
{
    bool equal;
    __asm__ volatile("lock cmpxchg16b %0"
                     : "+m"(*(unsigned __int128 *)at), "=@ccz"(equal), "+a"(expected[0]),
                       "+d"(expected[1])
                     : "b"(desired[0]), "c"(desired[1])
                     : "memory");
    return equal;
}
#endif

static int cmpxchg16(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, uint64_t expected[2],
                     const uint64_t desired[2], bool *equal)
{
    struct vmm_assist *assist = ctx;
    struct vmm_memory *memory = vmm_vcpu_memory(assist->vcpu);
    struct vmm_mapping mapping;
    uint64_t physical;
    int r = translate(assist, cpu, linear, access_of(cpu, true, false), &physical);
    r = r != 0 ? r : vmm_memory_map(memory, physical, 16, VMM_MAP_READ | VMM_MAP_WRITE, &mapping);
    if (r != 0) {
        return r;
    }
    if (((uintptr_t)mapping.data & 15) == 0) {
        *equal = host_cmpxchg16(mapping.data, expected, desired);
    } else {
        r = -EFAULT; /* a backing that is not page-aligned */
    }
    vmm_memory_unmap(memory, &mapping);
    return r;
}

static int get_msr(void *ctx, uint32_t index, uint64_t *value)
{
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } one = {.head = {.nmsrs = 1}};
    struct vmm_assist *assist = ctx;
    one.head.entries[0].index = index;
    int r = ioctl(vmm_vcpu_fd(assist->vcpu), KVM_GET_MSRS, &one);
    if (r != 1) {
        return r < 0 ? -errno : -EFAULT; /* KVM has it not: nothing the assist can finish */
    }
    *value = one.head.entries[0].data;
    return 0;
}

static int get_xcr0(void *ctx, uint64_t *value)
{
    struct kvm_xcrs xcrs;
    int r = kvm(ctx, KVM_GET_XCRS, &xcrs);
    *value = 1;
    for (uint32_t i = 0; r == 0 && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++) {
        if (xcrs.xcrs[i].xcr == 0) {
            *value = xcrs.xcrs[i].value;
        }
    }
    return r;
}

/* KVM drops translations when a paging bit of a control register changes. */
static int flush_tlb(void *ctx)
{
    struct vmm_assist *assist = ctx;
    struct kvm_sregs changed = assist->sregs;
    changed.cr4 ^= CR4_PGE;
    int r = kvm(assist, KVM_SET_SREGS, &changed);
    return r != 0 ? r : kvm(assist, KVM_SET_SREGS, &assist->sregs);
}

const struct vmm_assist_ops vmm_assist_kvm_ops = {
    .read = read_linear,
    .write = write_linear,
    .cmpxchg16 = cmpxchg16,
    .get_msr = get_msr,
    .get_xcr0 = get_xcr0,
    .get_xsave = get_xsave,
    .set_xsave = set_xsave,
    .cpuid = get_cpuid,
    .flush_tlb = flush_tlb,
};

size_t vmm_assist_fetch(struct vmm_vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t linear,
                        uint8_t *bytes, size_t length)
{
    struct vmm_memory *memory = vmm_vcpu_memory(vcpu);
    struct vmm_paging_context context;
    size_t done = 0;
    vmm_assist_paging_context(sregs, &context);
    while (memory != NULL && done < length) {
        struct vmm_translation t = VMM_TRANSLATION_INIT;
        uint64_t at = linear + done;
        size_t piece = PAGE - (at & (PAGE - 1));
        piece = piece < length - done ? piece : length - done;
        if (vmm_paging_translate(memory, &context, at, VMM_ACCESS_ANY, &t) != 0 ||
            vmm_memory_read(memory, t.physical, bytes + done, piece) != 0) {
            break;
        }
        done += piece;
    }
    return done;
}

/* Where CPUID reports each feature. */
static const struct {
    uint32_t leaf, subleaf;
    uint8_t reg, bit; /* EAX 0, EBX 1, ECX 2, EDX 3 */
} feature_bits[FEAT_COUNT] = {
    [FEAT_POPCNT] = {1, 0, 2, 23},   [FEAT_LZCNT] = {0x80000001, 0, 2, 5},
    [FEAT_BMI1] = {7, 0, 1, 3},      [FEAT_BMI2] = {7, 0, 1, 8},
    [FEAT_ADX] = {7, 0, 1, 19},      [FEAT_MOVBE] = {1, 0, 2, 22},
    [FEAT_CX16] = {1, 0, 2, 13},     [FEAT_RDPID] = {7, 0, 2, 22},
    [FEAT_FSGSBASE] = {7, 0, 1, 0},  [FEAT_SMAP] = {7, 0, 1, 20},
    [FEAT_XSAVE] = {1, 0, 2, 26},    [FEAT_XSAVEOPT] = {0xd, 1, 0, 0},
    [FEAT_XSAVEC] = {0xd, 1, 0, 1},  [FEAT_XSAVES] = {0xd, 1, 0, 3},
    [FEAT_XGETBV1] = {0xd, 1, 0, 2}, [FEAT_SERIALIZE] = {7, 0, 3, 14},
    [FEAT_CLWB] = {7, 0, 1, 24},     [FEAT_CLFLUSHOPT] = {7, 0, 1, 23},
    [FEAT_INVPCID] = {7, 0, 1, 10},  [FEAT_RDRAND] = {1, 0, 2, 30},
    [FEAT_RDSEED] = {7, 0, 1, 18},   [FEAT_CRC32] = {1, 0, 2, 20},
};

static int load_cpuid(struct vmm_assist *assist)
{
    for (uint32_t room = 64; room <= 4096; room *= 2) {
        struct kvm_cpuid2 *table =
            calloc(1, sizeof(*table) + room * sizeof(struct kvm_cpuid_entry2));
        if (table == NULL) {
            return -ENOMEM;
        }
        table->nent = room;
        int r = kvm(assist, KVM_GET_CPUID2, table);
        if (r == 0) {
            assist->cpuid = table;
            return 0;
        }
        free(table);
        if (r != -E2BIG) {
            return r;
        }
    }
    return -E2BIG;
}

int vmm_assist_load_features(struct vmm_assist *assist)
{
    int r = load_cpuid(assist);
    if (r != 0) {
        return r;
    }
    /* On PVM the guest is shown the processor's own feature words whatever table was set. */
    bool processor = assist->flavour == VMM_FLAVOUR_PVM;
    assist->features = 0;
    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        uint32_t leaf = feature_bits[i].leaf;
        uint32_t words[4], host[4] = {0};
        get_cpuid(assist, leaf, feature_bits[i].subleaf, words);
        if (processor) {
            __get_cpuid_count(leaf, feature_bits[i].subleaf, &host[0], &host[1], &host[2],
                              &host[3]);
        }
        uint32_t word = words[feature_bits[i].reg] | host[feature_bits[i].reg];
        assist->features |= (uint64_t)(word >> feature_bits[i].bit & 1) << i;
    }
    assist->features_known = true;
    return 0;
}

void vmm_assist_free(void *data)
{
    struct vmm_assist *assist = data;
    if (assist != NULL) {
        free(assist->cpuid);
        free(assist->xsave);
        free(assist);
    }
}
