/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All state of a vCPU: from one VM to another, register by register; registers that are special to a
 * mode; interrupts that are injected; debugging from outside.
 */
#include "guest.h"

#include <sys/ioctl.h>

#define MSR_STAR      0xc0000081u
#define MSR_LSTAR     0xc0000082u
#define MSR_TSC       0x10u
#define MSR_DEADLINE  0x6e0u
#define LAPIC_LVT_TMR 0x320u
#define LAPIC_SVR     0xf0u

/* Adds r8 to rax with each turn and tells. */
GUEST(turns, 64,
      "1: add %r8, %rax\n"
      "   out %eax, $0x50\n"
      "   jmp 1b\n");

struct blob {
    void *data;
    size_t length;
};

static struct blob save(struct guest *g)
{
    struct vmm_state_writer *w;
    struct blob b;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_vm_save(g->vm, w), 0);
    for (uint32_t i = 0; i < g->cpu_count; i++)
        assert_int_equal(vmm_vcpu_save(g->cpus[i], w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &b.data, &b.length), 0);
    vmm_state_writer_free(w);
    return b;
}

static void load(struct guest *g, struct blob b)
{
    struct vmm_state_reader *r;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_state_reader_new(b.data, b.length, &r, &err), 0);
    if (vmm_vm_load(g->vm, r, &err) != 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < g->cpu_count; i++)
        if (vmm_vcpu_load(g->cpus[i], r, &err) != 0)
            fail_msg("%s", err.text);
    vmm_state_reader_free(r);
}

/* Is a field the same in both? Its length, or 0: neither has it. */
static size_t same_field(struct blob one, struct blob two, const char *node, const char *name)
{
    const void *data[2];
    size_t length[2] = {0, 0};
    struct vmm_state_reader *r[2];
    const struct blob both[2] = {one, two};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vmm_state_reader_new(both[i].data, both[i].length, &r[i], NULL), 0);
        assert_int_equal(vmm_state_enter(r[i], node, 1, NULL, NULL), 0);
        int rc = vmm_state_get_blob(r[i], name, &data[i], &length[i], NULL);
        assert_true(rc == 0 || rc == -ENOENT);
        length[i] = rc ? 0 : length[i];
    }
    if (length[0] != length[1] || (length[0] && memcmp(data[0], data[1], length[0]) != 0))
        fail_msg("%s is not what it was", name);
    for (int i = 0; i < 2; i++)
        vmm_state_reader_free(r[i]);
    return length[0];
}

static void give_cpuid(struct guest *g)
{
    struct vmm_x86_cpuid *cpuid;
    struct vmm_x86_topology t = VMM_X86_TOPOLOGY_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    t.cpus = g->cpu_count;
    assert_int_equal(vmm_x86_cpuid_new(g->host, &cpuid), 0);
    for (uint32_t i = 0; i < g->cpu_count; i++)
        if (vmm_x86_cpuid_set(cpuid, g->cpus[i], &t, &err) != 0)
            fail_msg("%s", err.text);
    vmm_x86_cpuid_free(cpuid);
}

static uint64_t msr(struct guest *g, uint32_t index)
{
    struct vmm_x86_msr m = {.index = index};
    assert_int_equal(vmm_x86_get_msrs(g->cpus[0], &m, 1), 1);
    return m.value;
}

/* Put something that is not the default into every kind of register. */
static void fill(struct guest *g)
{
    struct vmm_vcpu *cpu = g->cpus[0];
    struct vmm_x86_regs regs;
    struct vmm_x86_fpu fpu;
    const struct vmm_x86_msr msrs[] = {{.index = MSR_STAR, .value = 0x0023001000000000},
                                       {.index = MSR_LSTAR, .value = 0xffffffff81000000}};
    const struct vmm_x86_debug_regs debug = {
        .dr = {0x1111, 0x2222, 0x3333, 0x4444}, .dr6 = 0xffff0ff0, .dr7 = 0x400};
    uint8_t lapic[VMM_X86_LAPIC_SIZE];
    assert_int_equal(vmm_x86_get_regs(cpu, &regs), 0);
    regs.rax = 100;
    regs.r8 = 7;
    regs.r15 = 0xfedcba9876543210;
    assert_int_equal(vmm_x86_set_regs(cpu, &regs), 0);
    assert_int_equal(vmm_x86_get_fpu(cpu, &fpu), 0);
    fpu.fcw = 0x27f;
    memset(fpu.xmm[3], 0x5a, sizeof(fpu.xmm[3]));
    assert_int_equal(vmm_x86_set_fpu(cpu, &fpu), 0);
    assert_int_equal(vmm_x86_set_msrs(cpu, msrs, 2), 2);
    assert_int_equal(vmm_x86_set_debug_regs(cpu, &debug), 0);
    assert_int_equal(vmm_x86_get_lapic(cpu, lapic), 0);
    lapic[LAPIC_SVR + 1] |= 1;        /* on */
    lapic[LAPIC_LVT_TMR] = 0x40;      /* vector */
    lapic[LAPIC_LVT_TMR + 2] = 1 | 4; /* masked, TSC deadline */
    assert_int_equal(vmm_x86_set_lapic(cpu, lapic), 0);
}

static void state_moves_to_another_vm(void **state)
{
    static const char *const fields[] = {"sregs",     "regs",    "xcrs",     "lapic",
                                         "debugregs", "events",  "mp-state", "xsave",
                                         "fpu",       "tsc-khz", "nested",   "pdptrs"};
    struct guest from, to;
    (void)state;
    guest_start(&from, turns, 64, VMM_IRQCHIP_KERNEL);
    guest_add_cpu(&from);
    give_cpuid(&from);
    fill(&from);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(guest_expect_out(&from, 0x50), 100 + 7 * i);
    struct vmm_x86_msr deadline = {.index = MSR_DEADLINE,
                                   .value = msr(&from, MSR_TSC) + (1ull << 50)};
    assert_int_equal(vmm_x86_set_msrs(from.cpus[0], &deadline, 1), 1);
    uint64_t tsc = msr(&from, MSR_TSC);
    struct blob first = save(&from);

    guest_new(&to, VMM_IRQCHIP_KERNEL);
    guest_add_cpu(&to);
    guest_add_cpu(&to);
    guest_mode(&to, to.cpus[0], 16);
    give_cpuid(&to);
    uint8_t tables[0x7000];
    assert_int_equal(vmm_memory_read(from.memory, GUEST_GDT, tables, sizeof(tables)), 0);
    assert_int_equal(vmm_memory_write(to.memory, GUEST_GDT, tables, sizeof(tables)), 0);
    guest_code(&to, turns);
    load(&to, first);
    struct blob second = save(&to);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        size_t length = same_field(first, second, "cpu@0", fields[i]);
        assert_true(length > 0 || i > 6); /* those that every host has */
        (void)same_field(first, second, "cpu@1", fields[i]);
    }
    assert_int_equal(msr(&to, MSR_STAR), 0x0023001000000000);
    assert_int_equal(msr(&to, MSR_LSTAR), 0xffffffff81000000);
    assert_int_equal(msr(&to, MSR_DEADLINE), deadline.value);
    assert_true(msr(&to, MSR_TSC) >= tsc); /* it does not go back */
    uint32_t mp = 0;
    assert_int_equal(vmm_x86_get_mp_state(to.cpus[1], &mp), 0);
    assert_int_equal(mp, VMM_X86_MP_UNINITIALIZED);
    for (uint32_t i = 4; i <= 6; i++)
        assert_int_equal(guest_expect_out(&to, 0x50), 100 + 7 * i);
    free(first.data);
    free(second.data);
    guest_free(&to);
    guest_free(&from);
}

/* State of another vCPU, and state that lacks fields. */
static void unusable_state_is_refused(void **state)
{
    struct guest g;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_state_reader *r;
    (void)state;
    guest_start(&g, turns, 64, VMM_IRQCHIP_KERNEL);
    struct blob b = save(&g);
    guest_add_cpu(&g);
    assert_int_equal(vmm_state_reader_new(b.data, b.length, &r, &err), 0);
    assert_int_equal(vmm_vcpu_load(g.cpus[1], r, &err), -ENOENT); /* "cpu@1" is not there */
    assert_non_null(strstr(err.text, "cpu@1"));
    vmm_state_reader_free(r);
    free(b.data);
    /* Fields are missing: the first is named. */
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_state_begin(w, "cpu@0", 1), 0);
    assert_int_equal(vmm_state_end(w), 0);
    void *poor;
    size_t length;
    assert_int_equal(vmm_state_writer_finish(w, &poor, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(vmm_state_reader_new(poor, length, &r, &err), 0);
    assert_int_not_equal(vmm_vcpu_load(g.cpus[0], r, &err), 0);
    assert_non_null(strstr(err.text, "sregs"));
    vmm_state_reader_free(r);
    free(poor);
    guest_free(&g);
}

/* Registers ----------------------------------------------------------------------------------------- */

static void msrs_by_the_hundred(void **state)
{
    struct guest g;
    struct vmm_x86_msr msrs[600];
    (void)state;
    guest_start(&g, turns, 64, VMM_IRQCHIP_KERNEL);
    for (uint32_t i = 0; i < 600; i++)
        msrs[i] = (struct vmm_x86_msr){.index = MSR_LSTAR, .value = i};
    assert_int_equal(vmm_x86_set_msrs(g.cpus[0], msrs, 600), 600);
    assert_int_equal(msr(&g, MSR_LSTAR), 599);
    assert_int_equal(vmm_x86_get_msrs(g.cpus[0], msrs, 600), 600);
    assert_int_equal(msrs[0].value, 599);
    assert_int_equal(msrs[500].value, 599);
    msrs[300].index = 0x12345678; /* there is none */
    assert_int_equal(vmm_x86_get_msrs(g.cpus[0], msrs, 600), 300);
    assert_int_equal(vmm_x86_set_msrs(g.cpus[0], msrs, 600), 300);
    assert_int_equal(vmm_x86_get_msrs(g.cpus[0], msrs, 0), 0);
    assert_int_equal(vmm_x86_get_msrs(g.cpus[0], msrs, 1025), -E2BIG);
    guest_free(&g);
}

static void pae_has_its_four_registers(void **state)
{
    struct guest g;
    struct vmm_x86_sregs s;
    uint64_t entries[4], got[4];
    (void)state;
    guest_start(&g, turns, 32, VMM_IRQCHIP_KERNEL);
    int rc = vmm_x86_get_pdptrs(g.cpus[0], got);
    if (rc == -ENOTSUP) {
        guest_free(&g);
        skip();
    }
    assert_int_equal(rc, -ENODATA);
    for (uint64_t i = 0; i < 4; i++)
        entries[i] = (0x20000 + i * 0x1000) | 1;
    assert_int_equal(vmm_x86_set_pdptrs(g.cpus[0], entries), -EINVAL);
    assert_int_equal(vmm_memory_write(g.memory, 0x10000, entries, sizeof(entries)), 0);
    assert_int_equal(vmm_x86_get_sregs(g.cpus[0], &s), 0);
    s.cr3 = 0x10000;
    s.cr4 |= 0x20;
    s.cr0 |= 0x80000000;
    assert_int_equal(vmm_x86_set_sregs(g.cpus[0], &s), 0);
    rc = vmm_x86_get_pdptrs(g.cpus[0], got);
    if (rc != -ENODATA) { /* SVM with nested paging keeps none */
        assert_int_equal(rc, 0);
        assert_memory_equal(got, entries, sizeof(entries));
        entries[2] = 0x30001; /* memory says otherwise */
        assert_int_equal(vmm_x86_set_pdptrs(g.cpus[0], entries), 0);
        assert_int_equal(vmm_x86_get_pdptrs(g.cpus[0], got), 0);
        assert_memory_equal(got, entries, sizeof(entries));
        struct blob b = save(&g);
        load(&g, b);
        assert_int_equal(vmm_x86_get_pdptrs(g.cpus[0], got), 0);
        assert_memory_equal(got, entries, sizeof(entries));
        free(b.data);
    }
    guest_free(&g);
}

static void xsave_and_xcr0(void **state)
{
    struct guest g;
    struct vmm_x86_fpu fpu;
    uint64_t xcr0 = 0;
    (void)state;
    guest_start(&g, turns, 64, VMM_IRQCHIP_KERNEL);
    give_cpuid(&g);
    size_t size = vmm_x86_xsave_size(g.cpus[0]);
    if (size == 0) {
        guest_free(&g);
        skip();
    }
    assert_true(size >= 4096);
    uint8_t *area = calloc(1, size);
    assert_int_equal(vmm_x86_get_xsave(g.cpus[0], area, size - 1), -EINVAL);
    assert_int_equal(vmm_x86_set_xsave(g.cpus[0], area, 0), -EINVAL);
    assert_int_equal(vmm_x86_get_xsave(g.cpus[0], area, size), 0);
    memset(area + 160 + 5 * 16, 0xa5, 16); /* XMM5 (SDM vol. 1, table 13-1) */
    area[512] |= 3;                        /* XSTATE_BV: x87 and SSE */
    area[24] = 0x80;                       /* MXCSR: 0x1f80, all masked */
    area[25] = 0x1f;
    assert_int_equal(vmm_x86_set_xsave(g.cpus[0], area, size), 0);
    assert_int_equal(vmm_x86_get_fpu(g.cpus[0], &fpu), 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(fpu.xmm[5][i], 0xa5);
    free(area);
    assert_int_equal(vmm_x86_get_xcr0(g.cpus[0], &xcr0), 0);
    assert_int_equal(xcr0 & 1, 1);
    assert_int_equal(vmm_x86_set_xcr0(g.cpus[0], 0), -EINVAL); /* x87 cannot be off */
    assert_int_equal(vmm_x86_set_xcr0(g.cpus[0], 3), 0);
    assert_int_equal(vmm_x86_get_xcr0(g.cpus[0], &xcr0), 0);
    assert_int_equal(xcr0, 3);
    guest_free(&g);
}

/* What is read after an exit is what KVM has, whether it was synced or not. */
static void synced_registers_are_kvms_own(void **state)
{
    struct guest g;
    struct vmm_x86_regs regs;
    struct kvm_regs raw;
    (void)state;
    guest_start(&g, turns, 64, VMM_IRQCHIP_KERNEL);
    for (int i = 0; i < 50; i++) {
        (void)guest_expect_out(&g, 0x50);
        if (i % 3 == 1)
            assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
        assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
        assert_int_equal(ioctl(vmm_vcpu_fd(g.cpus[0]), KVM_GET_REGS, &raw), 0);
        assert_int_equal(regs.rip, raw.rip);
        assert_int_equal(regs.rax, raw.rax);
        assert_int_equal(regs.r15, raw.r15);
        assert_int_equal(regs.rflags, raw.rflags);
        if (i % 5 == 4) { /* and what is set is read, and used */
            assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
            assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
            regs.r8 = (uint64_t)i;
            regs.rax = 1000;
            assert_int_equal(vmm_x86_set_regs(g.cpus[0], &regs), 0);
            assert_int_equal(guest_expect_out(&g, 0x50), 1000 + i);
        }
    }
    guest_free(&g);
}

static void translating_by_the_hosts_walk(void **state)
{
    struct guest g;
    uint64_t physical = 0;
    (void)state;
    guest_start(&g, turns, 64, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_x86_translate(g.cpus[0], 0x1234, &physical), 0);
    assert_int_equal(physical, 0x1234);
    assert_int_equal(vmm_x86_translate(g.cpus[0], (uint64_t)5 << 30, &physical), -EFAULT);
    guest_free(&g);
}

/* Interrupts ---------------------------------------------------------------------------------------- */

/* Real mode: vector 2 (NMI) is at 0x1100, vector 0x20 at 0x1200. */
GUEST(interrupts, 16,
      "   movw $0x1100, 2 * 4\n"
      "   movw $0, 2 * 4 + 2\n"
      "   movw $0x1200, 0x20 * 4\n"
      "   movw $0, 0x20 * 4 + 2\n"
      "   out %al, $0x50\n" /* interrupts are off */
      "   out %al, $0x50\n"
      "   sti\n"
      "   mov $5000, %cx\n" /* an emulating KVM looks at the window after a few instructions only */
      "2: loop 2b\n"
      "1: hlt\n"
      "   jmp 1b\n"
      "   .org interrupts_start + 0x100\n"
      "   mov $2, %al\n"
      "   out %al, $0x51\n"
      "   iret\n"
      "   .org interrupts_start + 0x200\n"
      "   mov $0x20, %al\n"
      "   out %al, $0x51\n"
      "   iret\n");

static void interrupts_from_user_space(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, interrupts, 16, VMM_IRQCHIP_NONE);
    (void)guest_expect_out(&g, 0x50);
    assert_false(vmm_x86_interrupt_ready(g.cpus[0], false));
    assert_int_equal(vmm_x86_inject_interrupt(g.cpus[0], 256), -EINVAL);
    (void)guest_expect_out(&g, 0x50);
    assert_false(vmm_x86_interrupt_ready(g.cpus[0], true));
    guest_run_to(&g, VMM_EXIT_IRQ_WINDOW, &exit); /* after sti */
    assert_true(vmm_x86_interrupt_ready(g.cpus[0], true));
    assert_int_equal(vmm_x86_inject_interrupt(g.cpus[0], 0x20), 0);
    assert_int_equal(guest_expect_out(&g, 0x51), 0x20);
    guest_run_to(&g, VMM_EXIT_HALT, &exit);
    assert_int_equal(vmm_x86_inject_nmi(g.cpus[0]), 0);
    assert_int_equal(guest_expect_out(&g, 0x51), 2);
    guest_run_to(&g, VMM_EXIT_HALT, &exit);
    guest_free(&g);
}

/* Debugging ------------------------------------------------------------------------------------------ */

GUEST(steps, 64,
      "   nop\n"
      "   mov $1, %eax\n"
      "   mov %eax, 0x8000\n"
      "   inc %eax\n"
      "   out %al, $0x50\n");

static void stepping(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, steps, 64, VMM_IRQCHIP_NONE);
    assert_int_equal(vmm_x86_set_guest_debug(g.cpus[0], 0x100, NULL), -EINVAL);
    assert_int_equal(vmm_x86_set_guest_debug(g.cpus[0], VMM_X86_DEBUG_HARDWARE, NULL), -EINVAL);
    if (vmm_x86_set_guest_debug(g.cpus[0], VMM_X86_DEBUG_STEP, NULL) != 0) {
        guest_free(&g);
        skip();
    }
    static const uint64_t ends[] = {1, 6, 13, 15};
    for (int i = 0; i < 4; i++) {
        guest_run_to(&g, VMM_EXIT_DEBUG, &exit);
        assert_int_equal(exit.u.debug.pc, GUEST_CODE + ends[i]);
        assert_int_equal(exit.u.debug.exception, 1);
        assert_true(exit.u.debug.dr6 & 1 << 14); /* BS */
    }
    assert_int_equal(vmm_x86_set_guest_debug(g.cpus[0], 0, NULL), 0);
    assert_int_equal(guest_expect_out(&g, 0x50), 2);
    guest_free(&g);
}

static void a_breakpoint_in_hardware(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_debug_regs hw = {.dr = {GUEST_CODE + 6}, .dr7 = 0x403}; /* on execution */
    (void)state;
    if (getenv("LIBVMM_NESTED")) {
        print_message("SKIP: QEMU's emulated SVM does not load DR7 for its guest\n");
        skip();
    }
    guest_start(&g, steps, 64, VMM_IRQCHIP_NONE);
    if (vmm_x86_set_guest_debug(g.cpus[0], VMM_X86_DEBUG_HARDWARE, &hw) != 0) {
        guest_free(&g);
        skip();
    }
    guest_run_to(&g, VMM_EXIT_DEBUG, &exit);
    assert_int_equal(exit.u.debug.pc, GUEST_CODE + 6);
    assert_true(exit.u.debug.dr6 & 1);
    assert_int_equal(vmm_x86_set_guest_debug(g.cpus[0], 0, NULL), 0);
    assert_int_equal(guest_expect_out(&g, 0x50), 2);
    guest_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_moves_to_another_vm),
        cmocka_unit_test(unusable_state_is_refused),
        cmocka_unit_test(msrs_by_the_hundred),
        cmocka_unit_test(pae_has_its_four_registers),
        cmocka_unit_test(xsave_and_xcr0),
        cmocka_unit_test(synced_registers_are_kvms_own),
        cmocka_unit_test(translating_by_the_hosts_walk),
        cmocka_unit_test(interrupts_from_user_space),
        cmocka_unit_test(stepping),
        cmocka_unit_test(a_breakpoint_in_hardware),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
