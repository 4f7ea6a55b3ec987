/* SPDX-License-Identifier: BSD-3-Clause */
/* One vCPU: modes, the exits of ports and memory, completing an instruction, and wrong calls. */
#include "guest.h"

#include <libvmm/irq.h>

GUEST(real, 16,
      "   mov $0x1234, %ax\n"
      "   out %ax, $0x50\n"
      "   mov %cs, %ax\n"
      "   out %al, $0x51\n"
      "1: hlt\n"
      "   jmp 1b\n");

GUEST(protected, 32,
      "   mov $0x12345678, %eax\n"
      "   out %eax, $0x50\n"
      "   push %eax\n"
      "   pop %ebx\n"
      "   lea 1(%ebx), %eax\n"
      "   out %eax, $0x51\n"
      "1: hlt\n"
      "   jmp 1b\n");

GUEST(longmode, 64,
      "   mov $0x123456789abcdef0, %r15\n"
      "   mov %r15, %rax\n"
      "   out %eax, $0x50\n"
      "   mov %r15, 0x8000\n"
      "   mov 0x8004, %eax\n"
      "   out %eax, $0x51\n"
      "1: hlt\n"
      "   jmp 1b\n");

/* Three writes that may wait, one that does not, one that waits. */
GUEST(collected, 32,
      "   movl $1, 0xd0000000\n"
      "   movl $2, 0xd0000004\n"
      "   movw $3, 0xd0000008\n"
      "   mov $4, %al\n"
      "   out %al, $0x50\n"
      "   movl $5, 0xd0000000\n"
      "   mov $6, %al\n"
      "   out %al, $0x51\n"
      "1: hlt\n"
      "   jmp 1b\n");

struct seen {
    struct {
        uint64_t address;
        uint32_t width, value;
    } io[32];
    uint32_t count;
};

static int see(struct seen *s, uint64_t address, const void *data, uint32_t width)
{
    assert_true(s->count < 32);
    s->io[s->count].address = address;
    s->io[s->count].width = width;
    memcpy(&s->io[s->count++].value, data, width);
    return 0;
}

static int see_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                    bool write)
{
    assert_true(write && count == 1);
    return see(ctx, port, data, width);
}

static int see_mmio(void *ctx, uint64_t address, void *data, uint32_t width, bool write)
{
    assert_true(write);
    return see(ctx, address, data, width);
}

static void collected_writes_come_in_order(void **state)
{
    static const struct vmm_io_handler handler = {
        .size = sizeof(handler), .port = see_port, .mmio = see_mmio};
    static const struct seen wanted = {{{0xd0000000, 4, 1},
                                        {0xd0000004, 4, 2},
                                        {0xd0000008, 2, 3},
                                        {0x50, 1, 4},
                                        {0xd0000000, 4, 5},
                                        {0x51, 1, 6}},
                                       6};
    struct guest g;
    struct seen seen = {.count = 0};
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, collected, 32, VMM_IRQCHIP_NONE);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &handler, &seen), 0);
    int rc = vmm_vm_coalesce_add(g.vm, VMM_SPACE_MMIO, 0xd0000000, 0x1000);
    if (rc == -ENOTSUP) {
        fprintf(stderr, "SKIP: KVM_CAP_COALESCED_MMIO is missing\n");
        guest_free(&g);
        skip();
    }
    assert_int_equal(rc, 0);
    guest_run_to(&g, VMM_EXIT_HALT, &exit);
    assert_memory_equal(&seen, &wanted, sizeof(wanted));
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_MMIO), 0); /* none was an exit */
    vmm_vcpu_drain(g.cpus[0]);
    assert_int_equal(seen.count, wanted.count);
    assert_int_equal(vmm_vm_coalesce_remove(g.vm, VMM_SPACE_MMIO, 0xd0000000, 0x1000), 0);
    assert_int_equal(vmm_vm_coalesce_add(g.vm, VMM_SPACE_MMIO, 0xd0000000, 0), -EINVAL);
    assert_int_equal(vmm_vm_coalesce_add(g.vm, VMM_SPACE_MMIO, UINT64_MAX, 2), -EINVAL);
    assert_int_equal(vmm_vm_coalesce_add(g.vm, VMM_SPACE_PORT, 0xfff0, 0x20), -EINVAL);
    assert_int_equal(vmm_vm_coalesce_add(g.vm, 7, 0, 1), -EINVAL);
    guest_free(&g);
}

static void runs_in_real_mode(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_regs regs;
    (void)state;
    guest_start(&g, real, 16, VMM_IRQCHIP_NONE);
    guest_run_to(&g, VMM_EXIT_PORT, &exit);
    assert_int_equal(exit.u.port.port, 0x50);
    assert_int_equal(exit.u.port.width, 2);
    assert_int_equal(exit.u.port.count, 1);
    assert_true(exit.u.port.is_write);
    assert_int_equal(guest_port_value(&exit), 0x1234);
    assert_int_equal(guest_expect_out(&g, 0x51), 0);
    guest_run_to(&g, VMM_EXIT_HALT, &exit);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_equal(regs.rip, GUEST_CODE + (uint64_t)(real_end - real_start) - 2); /* past hlt */
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT), 2);
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_HALT), 1);
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_MMIO), 0);
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], UINT32_MAX), 0);
    guest_free(&g);
}

static void runs_in_protected_mode(void **state)
{
    struct guest g;
    (void)state;
    guest_start(&g, protected, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(guest_expect_out(&g, 0x50), 0x12345678);
    assert_int_equal(guest_expect_out(&g, 0x51), 0x12345679);
    guest_free(&g);
}

static void runs_in_long_mode(void **state)
{
    struct guest g;
    (void)state;
    guest_start(&g, longmode, 64, VMM_IRQCHIP_SPLIT);
    assert_int_equal(guest_expect_out(&g, 0x50), 0x9abcdef0);
    assert_int_equal(guest_expect_out(&g, 0x51), 0x12345678);
    guest_free(&g);
}

/* String instructions --------------------------------------------------------------------------- */

GUEST(strings, 32,
      "   cld\n"
      "   mov $0x4000, %esi\n"
      "   mov $300, %ecx\n"
      "   mov $0x30, %edx\n"
      "   rep outsb\n"
      "   mov $0x5000, %edi\n"
      "   mov $100, %ecx\n"
      "   mov $0x31, %edx\n"
      "   rep insw\n"
      "   mov $7, %al\n"
      "   out %al, $0x32\n");

struct traffic {
    uint8_t out[300];
    uint32_t out_length, out_calls, in_items, in_calls, most;
    int refuse; /* what the handler returns for port 0x32 */
    uint32_t released;
};

static int traffic_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                        bool write)
{
    struct traffic *t = ctx;
    t->most = count > t->most ? count : t->most;
    if (port == 0x30 && write && width == 1) {
        assert_true(t->out_length + count <= sizeof(t->out));
        memcpy(t->out + t->out_length, data, count);
        t->out_length += count;
        t->out_calls++;
        return 0;
    }
    if (port == 0x31 && !write && width == 2) {
        for (uint32_t i = 0; i < count; i++) {
            uint16_t value = (uint16_t)(0x8000 + t->in_items++);
            memcpy((char *)data + i * 2, &value, 2);
        }
        t->in_calls++;
        return 0;
    }
    return t->refuse;
}

static void released(void *ctx)
{
    ((struct traffic *)ctx)->released++;
}

static void string_instructions_reach_the_handler_whole(void **state)
{
    struct guest g;
    struct traffic t = {.refuse = -ENOENT};
    struct vmm_io_handler handler = {
        .size = sizeof(handler), .port = traffic_port, .release = released};
    uint8_t text[300];
    uint16_t words[100];
    (void)state;
    guest_start(&g, strings, 32, VMM_IRQCHIP_NONE);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i * 7);
    assert_int_equal(vmm_memory_write(g.memory, 0x4000, text, sizeof(text)), 0);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &handler, &t), 0);
    assert_int_equal(guest_expect_out(&g, 0x32), 7); /* the handler knows no such port */
    assert_int_equal(t.out_length, sizeof(text));
    assert_memory_equal(t.out, text, sizeof(text));
    assert_int_equal(t.in_items, 100);
    assert_int_equal(vmm_memory_read(g.memory, 0x5000, words, sizeof(words)), 0);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(words[i], 0x8000 + i);
    assert_true(t.most > 1); /* not an exit each */
    assert_true(t.out_calls + t.in_calls < 400);
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT), t.out_calls + t.in_calls + 1);

    /* A handler's error comes out, and the vCPU can go on after it. */
    struct vmm_x86_regs regs;
    struct vmm_exit exit = VMM_EXIT_INIT;
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    regs.rip = GUEST_CODE;
    assert_int_equal(vmm_x86_set_regs(g.cpus[0], &regs), 0);
    t = (struct traffic){.refuse = -EIO};
    assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), -EIO);
    assert_int_equal(t.out_length, sizeof(text));
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &handler, &t), 0);
    assert_int_equal(t.released, 1);
    guest_free(&g);
    assert_int_equal(t.released, 2);
}

/* Memory-mapped I/O ------------------------------------------------------------------------------ */

GUEST(mmio, 64,
      "   mov $0xd0000000, %ebx\n"
      "   mov $0x1122334455667788, %rax\n"
      "   mov %al, 0x1(%rbx)\n"
      "   mov %ax, 0x2(%rbx)\n"
      "   mov %eax, 0x4(%rbx)\n"
      "   mov %rax, 0x8(%rbx)\n"
      "   xor %eax, %eax\n"
      "   mov 0x11(%rbx), %al\n"
      "   out %eax, $0x50\n"
      "   mov 0x12(%rbx), %ax\n"
      "   out %eax, $0x50\n"
      "   mov 0x14(%rbx), %eax\n"
      "   out %eax, $0x50\n"
      "   mov 0x18(%rbx), %rax\n"
      "   shr $32, %rax\n"
      "   out %eax, $0x50\n"
      "   mov $0x1122334455667788, %rax\n"
      "   mov %rax, 0xffc(%rbx)\n" /* crosses pages: two accesses */
      "   out %al, $0x51\n");

static void mmio_in_every_width(void **state)
{
    static const uint64_t bytes = 0x1122334455667788;
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, mmio, 64, VMM_IRQCHIP_KERNEL);
    for (uint32_t width = 1; width <= 8; width *= 2) {
        guest_run_to(&g, VMM_EXIT_MMIO, &exit);
        assert_int_equal(exit.u.mmio.address, 0xd0000000 + width);
        assert_int_equal(exit.u.mmio.width, width);
        assert_true(exit.u.mmio.is_write);
        assert_memory_equal(exit.u.mmio.data, &bytes, width);
    }
    static const uint32_t seen[] = {0x88, 0x7788, 0x55667788, 0x11223344};
    for (uint32_t i = 0, width = 1; width <= 8; width *= 2, i++) {
        guest_run_to(&g, VMM_EXIT_MMIO, &exit);
        assert_int_equal(exit.u.mmio.address, 0xd0000010 + width);
        assert_int_equal(exit.u.mmio.width, width);
        assert_false(exit.u.mmio.is_write);
        memcpy(exit.u.mmio.data, &bytes, width);
        assert_int_equal(guest_expect_out(&g, 0x50), seen[i]);
    }
    guest_free(&g);
}

/* The second half of an access that crosses pages is still to come when the first is completed. */
static void completing_shows_a_second_half(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_regs before, after;
    (void)state;
    guest_start(&g, mmio, 64, VMM_IRQCHIP_KERNEL);
    do
        assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), 0);
    while (exit.reason != VMM_EXIT_MMIO || exit.u.mmio.address < 0xd0000f00);
    assert_int_equal(exit.u.mmio.address, 0xd0000ffc);
    assert_int_equal(exit.u.mmio.width, 4);
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), -EAGAIN);
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), -EAGAIN); /* and it stays to be seen */
    guest_run_to(&g, VMM_EXIT_MMIO, &exit);
    assert_int_equal(exit.u.mmio.address, 0xd0001000);
    assert_int_equal(exit.u.mmio.width, 4);
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
    assert_int_equal(guest_expect_out(&g, 0x51), 0x88);
    /* Completing moves the instruction pointer on, and no further. */
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &before), 0);
    assert_int_equal(before.rip, GUEST_CODE + (uint64_t)(mmio_end - mmio_start));
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &after), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    guest_free(&g);
}

/* A kick while an I/O exit is not completed: completed first, then told. */
static void a_kick_finishes_the_instruction(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_regs regs;
    (void)state;
    guest_start(&g, mmio, 64, VMM_IRQCHIP_KERNEL);
    do
        assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), 0);
    while (exit.reason != VMM_EXIT_MMIO || exit.u.mmio.is_write);
    exit.u.mmio.data[0] = 0x5a;
    vmm_vcpu_kick(g.cpus[0]);
    vmm_vcpu_kick(g.cpus[0]);
    guest_run_to(&g, VMM_EXIT_KICKED, &exit);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_equal(regs.rax, 0x5a);
    assert_int_equal(guest_expect_out(&g, 0x50), 0x5a); /* the two kicks were one */
    guest_free(&g);
}

/* MSRs left to user space ------------------------------------------------------------------------ */

GUEST(msrs, 32,
      "   mov $0x12345678, %ecx\n"
      "   rdmsr\n"
      "   out %eax, $0x50\n"
      "   mov %edx, %eax\n"
      "   out %eax, $0x51\n"
      "   mov $0x11, %eax\n"
      "   mov $0x22, %edx\n"
      "   wrmsr\n"
      "   out %al, $0x52\n");

static void msrs_in_user_space(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    const uint64_t why = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
    (void)state;
    guest_start(&g, msrs, 32, VMM_IRQCHIP_KERNEL);
    if (vmm_vm_enable_capability(g.vm, KVM_CAP_X86_USER_SPACE_MSR, &why, 1) != 0)
        skip();
    guest_run_to(&g, VMM_EXIT_RDMSR, &exit);
    assert_int_equal(exit.u.msr.index, 0x12345678);
    assert_int_equal(exit.u.msr.why, KVM_MSR_EXIT_REASON_UNKNOWN);
    *exit.u.msr.data = 0xaaaabbbbccccdddd;
    *exit.u.msr.error = 0;
    assert_int_equal(guest_expect_out(&g, 0x50), 0xccccdddd);
    assert_int_equal(guest_expect_out(&g, 0x51), 0xaaaabbbb);
    guest_run_to(&g, VMM_EXIT_WRMSR, &exit);
    assert_int_equal(exit.u.msr.index, 0x12345678);
    assert_int_equal(*exit.u.msr.data, 0x2200000011);
    *exit.u.msr.error = 0;
    assert_int_equal(guest_expect_out(&g, 0x52), 0x11);
    guest_free(&g);
}

/* The end, and wrong calls ------------------------------------------------------------------------ */

GUEST(triple, 32, "   ud2\n");

static void a_triple_fault_is_a_shutdown(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_sregs sregs;
    (void)state;
    guest_start(&g, triple, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_x86_get_sregs(g.cpus[0], &sregs), 0);
    sregs.idt.limit = 0;
    assert_int_equal(vmm_x86_set_sregs(g.cpus[0], &sregs), 0);
    guest_run_to(&g, VMM_EXIT_SHUTDOWN, &exit);
    assert_int_equal(exit.raw_reason, KVM_EXIT_SHUTDOWN);
    guest_free(&g);
}

static void wrong_calls_are_refused(void **state)
{
    struct guest g;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_vcpu *other = NULL;
    struct vmm_io_handler handler = {.size = 0};
    (void)state;
    guest_start(&g, real, 16, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_new(g.vm, g.memory, 0, &other, &err), -EEXIST);
    assert_non_null(strstr(err.text, "KVM_CREATE_VCPU 0"));
    assert_int_equal(vmm_vcpu_new(g.vm, g.memory, UINT32_MAX, &other, &err), -EINVAL);
    assert_null(other);
    exit.size = 8;
    assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), -EINVAL);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), -EINVAL);
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), -ESRCH);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], NULL, NULL), -EINVAL);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &handler, NULL), -EINVAL);
    assert_int_equal(vmm_kick_signal_install(SIGKILL), -EINVAL);
    assert_int_equal(vmm_kick_signal_install(SIGSEGV), -EINVAL);
    assert_int_equal(vmm_kick_signal_install(SIGUSR1), 0); /* ours already */
    signal(SIGUSR2, guest_kick_handler);
    assert_int_equal(vmm_kick_signal_install(SIGUSR2), -EBUSY);
    assert_null(vmm_vcpu_unref(NULL));
    assert_int_equal(vmm_vcpu_id(g.cpus[0]), 0);
    assert_ptr_equal(vmm_vcpu_vm(g.cpus[0]), g.vm);
    assert_ptr_equal(vmm_vcpu_memory(g.cpus[0]), g.memory);
    assert_true(vmm_vcpu_fd(g.cpus[0]) >= 0);
    guest_free(&g);
}

static void every_exit_has_a_name(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= VMM_EXIT_TPR; i++) {
        assert_string_not_equal(vmm_exit_name(i), "unknown");
        for (uint32_t j = 1; j < i; j++)
            assert_string_not_equal(vmm_exit_name(i), vmm_exit_name(j));
    }
    assert_string_equal(vmm_exit_name(VMM_EXIT_UNKNOWN), "unknown");
    assert_string_equal(vmm_exit_name(VMM_EXIT_TPR + 1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collected_writes_come_in_order),
        cmocka_unit_test(runs_in_real_mode),
        cmocka_unit_test(runs_in_protected_mode),
        cmocka_unit_test(runs_in_long_mode),
        cmocka_unit_test(string_instructions_reach_the_handler_whole),
        cmocka_unit_test(mmio_in_every_width),
        cmocka_unit_test(completing_shows_a_second_half),
        cmocka_unit_test(a_kick_finishes_the_instruction),
        cmocka_unit_test(msrs_in_user_space),
        cmocka_unit_test(a_triple_fault_is_a_shutdown),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(every_exit_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
