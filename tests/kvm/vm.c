/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts and events of a real VM: what a line, an irqfd, a message and a resampled level do to a
 * guest, which of its writes an ioeventfd takes, and the VM's own state.
 */
#include "guest.h"

#include <libvmm/irq.h>

#include <sys/eventfd.h>
#include <unistd.h>

#define PORT_IRQ   0x50u /* the handler of interrupt 5 writes here */
#define PORT_READY 0x51u
#define PORT_MSI   0x52u
#define PORT_EOI   0x53u
#define VECTOR_MSI 0x30u

/* Vectors 0x20 to 0x2f for the PICs, IRQ 5 unmasked and level-triggered where AH says so. */
GUEST(interrupts, 16,
      "xor %bx, %bx\n mov %bx, %ds\n"
      "movw $(0x1000 + on_irq - interrupts_start), 0x25 * 4\n movw %bx, 0x25 * 4 + 2\n"
      "movw $(0x1000 + on_msi - interrupts_start), 0x30 * 4\n movw %bx, 0x30 * 4 + 2\n"
      "mov $0x11, %al\n out %al, $0x20\n out %al, $0xa0\n"
      "mov $0x20, %al\n out %al, $0x21\n mov $0x28, %al\n out %al, $0xa1\n"
      "mov $4, %al\n out %al, $0x21\n mov $2, %al\n out %al, $0xa1\n"
      "mov $1, %al\n out %al, $0x21\n out %al, $0xa1\n"
      "mov $0xdf, %al\n out %al, $0x21\n mov $0xff, %al\n out %al, $0xa1\n"
      "mov $0x4d0, %dx\n mov %ah, %al\n out %al, %dx\n"
      "out %al, $0x51\n"
      "idle: sti\n hlt\n jmp idle\n"
      "on_irq: out %al, $0x50\n mov $0x20, %al\n out %al, $0x20\n out %al, $0x53\n iret\n"
      "on_msi: out %al, $0x52\n iret\n");

/* Words 1 to 3 to port 0x500, double words 1 to 3 to 0xd0000000; then port 0x51. */
GUEST(writes, 32,
      "mov $0x500, %edx\n mov $1, %eax\n out %ax, %dx\n inc %eax\n out %ax, %dx\n"
      "inc %eax\n out %ax, %dx\n"
      "movl $1, 0xd0000000\n movl $2, 0xd0000000\n movl $3, 0xd0000000\n"
      "out %al, $0x51\n hlt\n");

static void start_interrupts(struct guest *g, bool level)
{
    struct vmm_x86_regs r;
    guest_start(g, interrupts, 16, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_x86_get_regs(g->cpus[0], &r), 0);
    r.rax = level ? 0x2000 : 0;
    assert_int_equal(vmm_x86_set_regs(g->cpus[0], &r), 0);
    (void)guest_expect_out(g, PORT_READY);
}

static uint64_t count_of(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

static void signal_fd(int fd)
{
    const uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void a_line_and_an_irqfd_interrupt(void **state)
{
    struct guest g;
    struct vmm_irq_line *line;
    (void)state;
    start_interrupts(&g, false);
    assert_int_equal(vmm_irq_line_new(g.vm, 5, &line), 0);
    assert_int_equal(vmm_irq_line_pulse(line), 0);
    (void)guest_expect_out(&g, PORT_IRQ);
    (void)guest_expect_out(&g, PORT_EOI);
    vmm_irq_line_free(line);

    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(vmm_vm_irqfd_add(g.vm, fd, 5, -1), 0);
    assert_int_equal(vmm_vm_irqfd_add(g.vm, fd, 5, -1), -EBUSY); /* KVM's word */
    for (int i = 0; i < 3; i++) {
        signal_fd(fd);
        (void)guest_expect_out(&g, PORT_IRQ);
        (void)guest_expect_out(&g, PORT_EOI);
    }
    assert_int_equal(vmm_vm_irqfd_remove(g.vm, fd, 5), 0);
    signal_fd(fd);
    assert_int_equal(count_of(fd), 1); /* nobody takes it any more */
    close(fd);
    guest_free(&g);
}

static void a_resampled_level_comes_back_until_it_is_served(void **state)
{
    struct guest g;
    (void)state;
    start_interrupts(&g, true);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = vmm_vm_irqfd_add(g.vm, fd, 5, resample);
    if (rc == -ENOTSUP) {
        print_message("SKIP: this KVM has no KVM_CAP_IRQFD_RESAMPLE\n");
        guest_free(&g);
        skip();
    }
    assert_int_equal(rc, 0);
    signal_fd(fd);
    (void)guest_expect_out(&g, PORT_IRQ);
    assert_int_equal(count_of(resample), 0); /* the guest has not acknowledged it */
    (void)guest_expect_out(&g, PORT_EOI);
    assert_int_equal(count_of(resample), 1);
    signal_fd(fd); /* the device still wants service */
    (void)guest_expect_out(&g, PORT_IRQ);
    (void)guest_expect_out(&g, PORT_EOI);
    assert_int_equal(count_of(resample), 1);
    assert_int_equal(vmm_vm_irqfd_remove(g.vm, fd, 5), 0);
    close(fd);
    close(resample);
    guest_free(&g);
}

#define APIC_SVR 0xf0u

static void enable_apic(struct guest *g)
{
    uint8_t lapic[VMM_X86_LAPIC_SIZE];
    uint32_t spurious = 0x1ff;
    assert_int_equal(vmm_x86_get_lapic(g->cpus[0], lapic), 0);
    memcpy(lapic + APIC_SVR, &spurious, sizeof(spurious));
    assert_int_equal(vmm_x86_set_lapic(g->cpus[0], lapic), 0);
}

static void messages_interrupt(void **state)
{
    struct guest g;
    struct vmm_msi msi = {.address = 0xfee00000, .data = VECTOR_MSI};
    uint32_t gsi;
    (void)state;
    start_interrupts(&g, false);
    assert_int_equal(vmm_vm_signal_msi(g.vm, &msi), 0); /* the APIC is off: blocked */
    enable_apic(&g);
    assert_int_equal(vmm_vm_signal_msi(g.vm, &msi), 1);
    (void)guest_expect_out(&g, PORT_MSI);
    guest_free(&g);

    start_interrupts(&g, false);
    enable_apic(&g);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(vmm_vm_gsi_alloc(g.vm, &gsi), 0);
    assert_int_equal(vmm_vm_route_msi(g.vm, gsi, &msi), 0);
    assert_int_equal(vmm_vm_routes_commit(g.vm), 0);
    assert_int_equal(vmm_vm_irqfd_add(g.vm, fd, gsi, -1), 0);
    signal_fd(fd);
    (void)guest_expect_out(&g, PORT_MSI);
    close(fd);
    guest_free(&g);
}

static void ioeventfds_take_the_writes_they_match(void **state)
{
    struct guest g;
    struct vmm_ioeventfd port = VMM_IOEVENTFD_INIT, mmio = VMM_IOEVENTFD_INIT;
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, writes, 32, VMM_IRQCHIP_KERNEL);
    port.space = VMM_SPACE_PORT;
    port.address = 0x500;
    port.length = 2;
    port.match = 1;
    port.data = 2;
    port.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    mmio.space = VMM_SPACE_MMIO;
    mmio.address = 0xd0000000;
    mmio.length = 4;
    mmio.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(vmm_vm_ioeventfd_add(g.vm, &port), 0);
    assert_int_equal(vmm_vm_ioeventfd_add(g.vm, &port), -EEXIST);
    assert_int_equal(vmm_vm_ioeventfd_add(g.vm, &mmio), 0);
    assert_int_equal(guest_expect_out(&g, 0x500), 1);
    assert_int_equal(guest_expect_out(&g, 0x500), 3); /* 2 has been taken */
    assert_int_equal(count_of(port.fd), 1);
    (void)guest_expect_out(&g, PORT_READY); /* no exit for memory in between */
    assert_int_equal(count_of(mmio.fd), 3);
    assert_int_equal(vmm_vm_ioeventfd_remove(g.vm, &mmio), 0);
    assert_int_equal(vmm_vm_ioeventfd_remove(g.vm, &mmio), -ENOENT);

    guest_mode(&g, g.cpus[0], 32); /* once more, without the second */
    assert_int_equal(guest_expect_out(&g, 0x500), 1);
    assert_int_equal(guest_expect_out(&g, 0x500), 3);
    for (uint32_t i = 1; i <= 3; i++) {
        guest_run_to(&g, VMM_EXIT_MMIO, &exit);
        assert_int_equal(exit.u.mmio.address, 0xd0000000);
    }
    close(port.fd);
    close(mmio.fd);
    guest_free(&g);
}

static void the_clock_is_set_and_goes_on(void **state)
{
    struct guest g;
    struct vmm_clock a = VMM_CLOCK_INIT, b = VMM_CLOCK_INIT;
    (void)state;
    guest_new(&g, VMM_IRQCHIP_KERNEL);
    a.clock_ns = UINT64_C(1000000000000);
    assert_int_equal(vmm_vm_set_clock(g.vm, &a), 0);
    assert_int_equal(vmm_vm_get_clock(g.vm, &b), 0);
    assert_in_range(b.clock_ns - a.clock_ns, 0, UINT64_C(60000000000));
    guest_free(&g);
}

static struct vmm_vm *vm_with(const struct guest *g, uint32_t irqchip, uint32_t pit)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm *vm = NULL;
    o.irqchip = irqchip;
    o.pit = pit;
    if (vmm_vm_new(g->host, &o, &vm, &err))
        fail_msg("%s", err.text);
    return vm;
}

static void save(struct vmm_vm *vm, void **blob, size_t *length)
{
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_vm_save(vm, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, blob, length), 0);
    vmm_state_writer_free(w);
}

static int load(struct vmm_vm *vm, const void *blob, size_t length, struct vmm_error *err)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, err), 0);
    int rc = vmm_vm_load(vm, r, err);
    vmm_state_reader_free(r);
    return rc;
}

static void each_kind_of_controller_is_saved_and_loaded(void **state)
{
    static const struct {
        uint32_t irqchip, pit;
    } kinds[] = {{VMM_IRQCHIP_KERNEL, 1},
                 {VMM_IRQCHIP_KERNEL, 0},
                 {VMM_IRQCHIP_SPLIT, 0},
                 {VMM_IRQCHIP_NONE, 0}};
    struct guest g;
    struct vmm_error err = VMM_ERROR_INIT;
    (void)state;
    guest_new(&g, VMM_IRQCHIP_KERNEL);
    for (size_t i = 0; i < 4; i++) {
        void *blob, *again;
        size_t length, length_again;
        struct vmm_vm *a = vm_with(&g, kinds[i].irqchip, kinds[i].pit);
        struct vmm_vm *b = vm_with(&g, kinds[i].irqchip, kinds[i].pit);
        struct vmm_vm *other = vm_with(&g, kinds[(i + 2) % 4].irqchip, 0);
        save(a, &blob, &length);
        if (load(b, blob, length, &err))
            fail_msg("%s", err.text);
        assert_int_equal(load(other, blob, length, &err), -EINVAL);
        assert_non_null(strstr(err.text, "irqchip"));
        save(b, &again, &length_again);
        assert_int_equal(length_again, length);
        free(blob);
        free(again);
        vmm_vm_unref(a);
        vmm_vm_unref(b);
        vmm_vm_unref(other);
    }
    guest_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_and_an_irqfd_interrupt),
        cmocka_unit_test(a_resampled_level_comes_back_until_it_is_served),
        cmocka_unit_test(messages_interrupt),
        cmocka_unit_test(ioeventfds_take_the_writes_they_match),
        cmocka_unit_test(the_clock_is_set_and_goes_on),
        cmocka_unit_test(each_kind_of_controller_is_saved_and_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
