/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Does the software walker say what an arm64 processor says? A guest asks its MMU for thousands of addresses, by the AT
 * instructions, in tables filled at random; the walker is asked the same, with the context that the
 * vCPU's registers make.
 */
#include <libvmm/arm64.h>
#include <libvmm/kvm.h>

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/paging-random.h"

#define RAM       ((uint64_t)32 << 20)
#define CODE      0x10000u
#define VECTOR    0x200u   /* VBAR_EL1 is 0: an exception of the guest's own level */
#define LIST      0x20000u /* of questions */
#define IDENTITY  ((uint64_t)2 << 20)
#define POOL      ((uint64_t)4 << 20) /* random tables */
#define POOL_SIZE ((uint64_t)4 << 20)
#define DONE      0x3f000000u /* written to: the list is through */
#define QUESTIONS 64u

/* x0: the list, x1: how many. */
__asm__(".pushsection .rodata\n"
        "guest_start:\n"
        "    tlbi vmalle1\n"
        "    dsb ish\n"
        "    isb\n"
        "1:  ldp x2, x3, [x0]\n"
        "    cmp x3, #1\n"
        "    b.lo 2f\n"
        "    b.eq 3f\n"
        "    cmp x3, #3\n"
        "    b.lo 4f\n"
        "    at s1e0w, x2\n"
        "    b 5f\n"
        "2:  at s1e1r, x2\n"
        "    b 5f\n"
        "3:  at s1e1w, x2\n"
        "    b 5f\n"
        "4:  at s1e0r, x2\n"
        "5:  isb\n"
        "    mrs x4, par_el1\n"
        "    str x4, [x0, #16]\n"
        "    add x0, x0, #24\n"
        "    subs x1, x1, #1\n"
        "    b.ne 1b\n"
        "    mov x2, #0x3f000000\n"
        "    str w1, [x2]\n"
        "    b .\n"
        "guest_end:\n"
        "guest_vector:\n"
        "    mov x2, #0x3f000000\n"
        "    str w1, [x2, #4]\n"
        "    b .\n"
        ".popsection\n");
/* Hidden: the global offset table forgets where in a section a local label is. */
extern const uint8_t guest_start[] __attribute__((visibility("hidden")));
extern const uint8_t guest_end[] __attribute__((visibility("hidden")));
extern const uint8_t guest_vector[] __attribute__((visibility("hidden")));

struct question {
    uint64_t address, kind, par;
};

static const uint32_t accesses[] = {0, VMM_ACCESS_WRITE, VMM_ACCESS_USER,
                                    VMM_ACCESS_USER | VMM_ACCESS_WRITE};

struct fixture {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu;
    uint64_t mmfr1, mmfr2;
};

#define SYSTEM(op0, op1, crn, crm, op2) ARM64_SYS_REG(op0, op1, crn, crm, op2)

static uint64_t get(struct fixture *f, uint64_t id)
{
    uint64_t value = 0;
    assert_int_equal(vmm_arm64_get_reg(f->vcpu, id, &value, 8), 0);
    return value;
}

static void set(struct fixture *f, uint64_t id, uint64_t value)
{
    assert_int_equal(vmm_arm64_set_reg(f->vcpu, id, &value, 8), 0);
}

static int setup(void **state)
{
    static struct fixture f;
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    o.irqchip = VMM_IRQCHIP_NONE;
    assert_int_equal(vmm_host_open(NULL, &f.host, &err), 0);
    assert_int_equal(vmm_vm_new(f.host, &o, &f.vm, &err), 0);
    assert_int_equal(vmm_memory_new(f.vm, &f.memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(f.memory, "ram", 0, RAM, NULL, &err), 0);
    assert_int_equal(vmm_vcpu_new(f.vm, f.memory, 0, &f.vcpu, &err), 0);
    assert_int_equal(
        vmm_memory_write(f.memory, CODE, guest_start, (size_t)(guest_end - guest_start)), 0);
    assert_int_equal(vmm_memory_write(f.memory, VECTOR, guest_vector, 12), 0);
    f.mmfr1 = get(&f, SYSTEM(3, 0, 0, 7, 1));
    f.mmfr2 = get(&f, SYSTEM(3, 0, 0, 7, 2));
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vmm_vcpu_unref(f->vcpu);
    vmm_memory_unref(f->memory);
    vmm_vm_unref(f->vm);
    vmm_host_unref(f->host);
    return 0;
}

/* A table's or a page's entry points into the pool, wherever in the tree it is met; a block's anywhere. */
static uint64_t random_entry(uint64_t granule)
{
    uint64_t e = POOL + random64() % (POOL_SIZE / granule) * granule;
    uint64_t kind = one_in(20) ? random64() & 3 : 3;
    if (one_in(5))
        kind = 1;
    if (kind != 3)
        e = random64() & (one_in(10) ? 0xffffc0000000 : 0xfc0000000);
    else if (one_in(20))
        e |= UINT64_C(1) << (36 + random64() % 12); /* more than TCR_EL1.IPS says */
    e |= kind | (random64() & 0xbdc);               /* AttrIndx, AP, SH, nG */
    if (!one_in(10))
        e |= 0x400;
    if (one_in(3))
        e |= random64() & UINT64_C(0x0068000000000000); /* DBM, PXN, UXN */
    if (one_in(6))
        e |= random64() & UINT64_C(0x7800000000000000);
    return e;
}

/* Identity for the guest's code below, random tables above; the registers for both. */
static void set_up_tables(struct fixture *f, uint32_t format)
{
    static const uint64_t tg0[] = {0, 2, 1}, tg1[] = {2, 1, 3};
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *lower;
    struct vmm_error err = VMM_ERROR_INIT;
    uint32_t which = format - VMM_PAGE_FORMAT_ARM64_4K;
    uint64_t granule = UINT64_C(4096) << 2 * which;
    o.format = format;
    o.virtual_bits = 36;
    o.table_start = IDENTITY;
    o.table_length = 1 << 20;
    assert_int_equal(vmm_page_table_new(f->memory, &o, &lower, &err), 0);
    assert_int_equal(vmm_page_table_map(lower, 0, 0, UINT64_C(1) << 30,
                                        VMM_PAGE_WRITE | VMM_PAGE_EXECUTE, 0, &err),
                     0);
    for (uint64_t at = 0; at < POOL_SIZE; at += 8)
        assert_int_equal(vmm_memory_store_u64(f->memory, POOL + at, random_entry(granule)), 0);
    uint64_t bits = 25 + random64() % 24;
    uint64_t tcr = (64 - 36) | UINT64_C(0x3500) | tg0[which] << 14 | (64 - bits) << 16 |
                   UINT64_C(0x35) << 24 | tg1[which] << 30 | UINT64_C(1) << 32;
    tcr |= random64() & UINT64_C(3) << 37; /* TBI */
    if (f->mmfr1 >> 12 & 15)
        tcr |= random64() & UINT64_C(1) << 42; /* HPD1; the lower half is the guest's own */
    if (f->mmfr2 >> 60 & 15)
        tcr |= one_in(4) ? UINT64_C(1) << 56 : 0; /* E0PD1 */
    set(f, SYSTEM(3, 0, 2, 0, 2), tcr);
    set(f, SYSTEM(3, 0, 2, 0, 0), vmm_page_table_root(lower));
    set(f, SYSTEM(3, 0, 2, 0, 1), POOL + random64() % (POOL_SIZE / granule) * granule);
    set(f, SYSTEM(3, 0, 10, 2, 0), UINT64_C(0xffffffffffffffff)); /* MAIR: normal memory */
    set(f, SYSTEM(3, 0, 1, 0, 0), UINT64_C(0x30d00801) | 5);      /* SCTLR: M and C */
    vmm_page_table_free(lower);
}

static void ask(struct fixture *f, struct question *list)
{
    struct vmm_arm64_regs regs;
    struct vmm_exit exit = VMM_EXIT_INIT;
    assert_int_equal(vmm_memory_write(f->memory, LIST, list, QUESTIONS * sizeof(*list)), 0);
    memset(&regs, 0, sizeof(regs));
    regs.x[0] = LIST;
    regs.x[1] = QUESTIONS;
    regs.pc = CODE;
    regs.pstate = 0x3c5;
    assert_int_equal(vmm_arm64_set_regs(f->vcpu, &regs), 0);
    assert_int_equal(vmm_vcpu_run(f->vcpu, &exit), 0);
    if (exit.reason != VMM_EXIT_MMIO || exit.u.mmio.address != DONE) {
        char text[4096];
        (void)vmm_arm64_describe_exit(f->vcpu, &exit, text, sizeof(text));
        fail_msg("not the exit that the guest ends with: %s", text);
    }
    assert_int_equal(vmm_memory_read(f->memory, LIST, list, QUESTIONS * sizeof(*list)), 0);
}

static void compare(struct fixture *f, const struct vmm_paging_context *c, const struct question *q,
                    unsigned verdicts[2])
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    int r = vmm_paging_translate(f->memory, c, q->address, accesses[q->kind], &t);
    bool fault = q->par & 1;
    assert_true(r == 0 || r == -EFAULT);
    /* QEMU's emulated processor takes blocks at levels where the architecture has none. */
    if (getenv("LIBVMM_NESTED") && t.reason == VMM_FAULT_ABSENT && t.level > 1 && t.entry & 1)
        return;
    bool same = fault == (r != 0);
    if (same && fault)
        same = (q->par >> 1 & 0x3f) == (t.code & 0x3f);
    else if (same)
        same = (q->par & UINT64_C(0xfffffffff000)) == (t.physical & ~UINT64_C(0xfff));
    if (!same)
        fail_msg("%s, %#llx, access %llu: PAR_EL1 %#llx; the walker: %d, %s, ESR %#x, physical "
                 "%#llx, entry "
                 "%#llx at level %u",
                 vmm_page_format_name(c->format), (unsigned long long)q->address,
                 (unsigned long long)q->kind, (unsigned long long)q->par, r,
                 vmm_fault_name(t.reason), t.code, (unsigned long long)t.physical,
                 (unsigned long long)t.entry, t.level);
    verdicts[fault]++;
}

static void agrees_with_the_processor(void **state)
{
    struct fixture *f = *state;
    unsigned verdicts[2] = {0, 0};
    for (unsigned round = 0; round < 90; round++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct question list[QUESTIONS];
        set_up_tables(f, VMM_PAGE_FORMAT_ARM64_4K + round % 3);
        assert_int_equal(vmm_vcpu_paging_context(f->vcpu, &c), 0);
        assert_int_equal(c.format, VMM_PAGE_FORMAT_ARM64_4K + round % 3);
        assert_int_equal(c.address_bits, 36);
        for (unsigned i = 0; i < QUESTIONS; i++) {
            uint64_t address = random64() | UINT64_MAX << c.upper_bits;
            if (one_in(16))
                address ^= UINT64_C(1) << random64() % 64;
            list[i] = (struct question){address, random64() % 4, 0};
        }
        ask(f, list);
        for (unsigned i = 0; i < QUESTIONS; i++)
            compare(f, &c, &list[i], verdicts);
    }
    fprintf(stderr, "%u translated, %u faults\n", verdicts[0], verdicts[1]);
    assert_true(verdicts[0] > 500 && verdicts[1] > 500);
}

static void contexts_of_registers(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_arm64_paging_regs regs = {.sctlr = 0};
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), 0);
    assert_int_equal(c.format, VMM_PAGE_FORMAT_NONE);
    assert_int_equal(c.virtual_bits, 52);
    /* Linux's: 48 bits, 4 KiB both, 48 bits of physical address. */
    regs = (struct vmm_arm64_paging_regs){1, UINT64_C(0x00f5) << 32 | 0xb5103510, 0x1000, 0x2000,
                                          1 << 22};
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), 0);
    assert_int_equal(c.format, VMM_PAGE_FORMAT_ARM64_4K);
    assert_int_equal(c.virtual_bits, 48);
    assert_int_equal(c.upper_bits, 48);
    assert_int_equal(c.address_bits, 48);
    assert_int_equal(c.flags & (VMM_PAGING_HA | VMM_PAGING_SMAP | VMM_PAGING_TAGS_LOWER),
                     VMM_PAGING_HA | VMM_PAGING_SMAP | VMM_PAGING_TAGS_LOWER);
    regs.tcr |= UINT64_C(1) << 59; /* DS */
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), -ENOTSUP);
    regs.tcr = 0xb5107510; /* 64 KiB below, 4 KiB above */
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), -ENOTSUP);
    regs.tcr |= 1 << 7; /* none below */
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), 0);
    assert_int_equal(c.virtual_bits, 0);
    regs.sctlr |= 1 << 25; /* big-endian */
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, &c), -ENOTSUP);
    assert_int_equal(vmm_arm64_paging_from_regs(NULL, &c), -EINVAL);
    assert_int_equal(vmm_arm64_paging_from_regs(&regs, NULL), -EINVAL);
    assert_int_equal(vmm_vcpu_paging_context(NULL, &c), -EINVAL);
    assert_int_equal(vmm_vcpu_paging_context(f->vcpu, NULL), -EINVAL);
}

int main(void)
{
    if (access("/dev/kvm", R_OK | W_OK))
        TEST_SKIP("there is no usable /dev/kvm here");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_of_registers),
        cmocka_unit_test(agrees_with_the_processor),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
