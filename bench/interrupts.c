/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupt latency: from the host's call to the guest's handler, which writes to a port. By an irqfd and
 * by a line set from user space, the vCPU halted and spinning; beside bare ioctls on the same VM.
 *
 * The guest is in real mode with the 8259 as power-on leaves it but for its vectors.
 */
#include "guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROUNDS  9
#define SHOTS   200
#define IRQ     5u
#define VECTOR  (0x20u + IRQ)
#define HANDLER 0x1800u

/* ICW1 to ICW4 and the mask (8259A data sheet), then wait for interrupts. */
GUEST(halting, 16,
      "movb $0x11, %al\n outb %al, $0x20\n movb $0x20, %al\n outb %al, $0x21\n"
      "movb $4, %al\n outb %al, $0x21\n movb $1, %al\n outb %al, $0x21\n"
      "movb $0xdf, %al\n outb %al, $0x21\n outb %al, $0x81\n sti\n"
      "1: hlt\n jmp 1b");
GUEST(spinning, 16,
      "movb $0x11, %al\n outb %al, $0x20\n movb $0x20, %al\n outb %al, $0x21\n"
      "movb $4, %al\n outb %al, $0x21\n movb $1, %al\n outb %al, $0x21\n"
      "movb $0xdf, %al\n outb %al, $0x21\n outb %al, $0x81\n sti\n"
      "1: jmp 1b");
GUEST(handler, 16, "outb %al, $0x80\n movb $0x20, %al\n outb %al, $0x20\n iret");

struct shot {
    struct bench_guest g;
    struct vmm_irq_line *line;
    int fd;
    _Atomic uint32_t ready, arrived;
    double at;
};

static uint64_t no_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx, (void)offset, (void)width;
    return 0;
}

static void arrive(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct shot *s = ctx;
    (void)width, (void)value;
    if (offset == 1) {
        atomic_store(&s->ready, 1);
        return;
    }
    s->at = bench_now();
    atomic_store(&s->arrived, 1);
}

static const struct vmm_region_ops ops = {.size = sizeof(ops), .read = no_read, .write = arrive};

static int exited(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error)
{
    (void)ctx, (void)vcpu, (void)error;
    return !exit;
}

static void real_mode(struct shot *s, const uint8_t *start, const uint8_t *end)
{
    struct vmm_x86_sregs sregs;
    struct vmm_x86_regs r = {.rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = 2};
    uint32_t vector = HANDLER;
    bench_need(vmm_memory_write(s->g.memory, VECTOR * 4, &vector, 4) == 0, "the vector");
    bench_need(vmm_memory_write(s->g.memory, HANDLER, handler_start,
                                (size_t)(handler_end - handler_start)) == 0,
               "the handler");
    bench_need(vmm_memory_write(s->g.memory, GUEST_CODE, start, (size_t)(end - start)) == 0, "-");
    bench_need(vmm_x86_get_sregs(s->g.vcpu, &sregs) == 0, "reading registers");
    sregs.cs.base = sregs.cs.selector = 0;
    bench_need(vmm_x86_set_sregs(s->g.vcpu, &sregs) == 0, "setting registers");
    bench_need(vmm_x86_set_regs(s->g.vcpu, &r) == 0, "setting registers");
}

static void make(struct shot *s, const uint8_t *start, const uint8_t *end)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    struct vmm_bus *ports;
    memset(s, 0, sizeof(*s));
    s->fd = eventfd(0, EFD_CLOEXEC);
    if (vmm_host_open(NULL, &s->g.host, &err) != 0) {
        printf("not measured: %s\n", err.text);
        exit(77);
    }
    (void)vmm_kick_signal_install(SIGUSR1);
    o.kick_signal = SIGUSR1;
    bench_need(vmm_vm_new(s->g.host, &o, &s->g.vm, &err) == 0, err.text);
    bench_need(vmm_memory_new(s->g.vm, &s->g.memory, &err) == 0, err.text);
    bench_need(vmm_memory_add_ram(s->g.memory, "ram", 0, GUEST_RAM, NULL, &err) == 0, err.text);
    bench_need(vmm_vcpu_new(s->g.vm, s->g.memory, 0, &s->g.vcpu, &err) == 0, err.text);
    bench_need(vmm_bus_new("port", 16, &ports) == 0, "the bus");
    region.name = "arrival";
    region.address = 0x80;
    region.length = 2;
    region.ops = &ops;
    region.ctx = s;
    bench_need(vmm_bus_add(ports, &region, NULL, &err) == 0, err.text);
    bench_need(vmm_bus_attach_vcpu(s->g.vcpu, ports, NULL) == 0, "attaching");
    vmm_bus_unref(ports);
    bench_need(vmm_irq_line_new(s->g.vm, IRQ, &s->line) == 0, "the line");
    real_mode(s, start, end);
    bench_need(vmm_vcpu_thread_start(s->g.vcpu, exited, NULL) == 0, "the thread");
    while (!atomic_load(&s->ready))
        usleep(100);
}

static void unmake(struct shot *s)
{
    vmm_vcpu_stop(s->g.vcpu);
    bench_need(vmm_vcpu_thread_join(s->g.vcpu) == 0, "joining");
    vmm_irq_line_free(s->line);
    guest_unmake(&s->g);
    close(s->fd);
}

static void pulse_ours(struct shot *s)
{
    (void)vmm_irq_line_pulse(s->line);
}

static void pulse_bare(struct shot *s)
{
    struct kvm_irq_level level = {.irq = IRQ, .level = 1};
    (void)ioctl(vmm_vm_fd(s->g.vm), KVM_IRQ_LINE, &level);
    level.level = 0;
    (void)ioctl(vmm_vm_fd(s->g.vm), KVM_IRQ_LINE, &level);
}

static void signal_fd(struct shot *s)
{
    uint64_t one = 1;
    bench_need(write(s->fd, &one, sizeof(one)) == sizeof(one), "the eventfd");
}

/* The median of some interrupts, in microseconds. */
static double fire(struct shot *s, void (*raise_it)(struct shot *s))
{
    struct bench_samples all = {.count = 0};
    for (int i = 0; i < SHOTS; i++) {
        atomic_store(&s->arrived, 0);
        double start = bench_now();
        raise_it(s);
        while (!atomic_load(&s->arrived))
            if (bench_now() - start > 1e9)
                bench_need(false, "an interrupt: it did not arrive within a second");
        bench_add(&all, (s->at - start) / 1e3);
        usleep(100); /* the handler returns, the guest waits again */
    }
    return bench_median(&all);
}

static void compare(struct shot *s, const char *name, void (*ours)(struct shot *s),
                    const char *peer, void (*theirs)(struct shot *s))
{
    struct bench_figure f = {.group = "interrupts",
                             .name = name,
                             .unit = "us",
                             .peer = peer,
                             .how = "from the host's call to the write of the guest's handler"};
    for (int round = 0; round < ROUNDS; round++) {
        bench_add(&f.ours, fire(s, ours));
        if (theirs)
            bench_add(&f.theirs, fire(s, theirs));
    }
    bench_report(&f);
}

static void measure(const char *state, const uint8_t *start, const uint8_t *end)
{
    struct shot s;
    char name[64];
    make(&s, start, end);
    snprintf(name, sizeof(name), "line from user space, %s", state);
    compare(&s, name, pulse_ours, "bare ioctls", pulse_bare);
    bench_need(vmm_vm_irqfd_add(s.g.vm, s.fd, IRQ, -1) == 0, "the irqfd");
    snprintf(name, sizeof(name), "irqfd, %s", state);
    compare(&s, name, signal_fd, "bare ioctls", pulse_bare);
    bench_need(vmm_vm_irqfd_remove(s.g.vm, s.fd, IRQ) == 0, "removing the irqfd");
    unmake(&s);
}

int main(void)
{
    measure("vCPU halted", halting_start, halting_end);
    measure("vCPU running", spinning_start, spinning_end);
    return 0;
}
