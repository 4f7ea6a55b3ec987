/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an exit costs above the floor: the same guest in the same VM, run by the library with two buses of a
 * hundred regions each, and by nothing but KVM_RUN and a look at the exit, turn by turn.
 *
 *   bench-exits [EXITS [KIND [ours|floor]]]
 *
 * With a KIND (see kinds[]) and a side only that is run, once: for counting instructions.
 */
#include "guest.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROUNDS 11

#define EVENT_PORT 0x90
#define EVENT_MMIO (GUEST_MMIO + 0x100000)
#define COALESCED  (GUEST_MMIO + 0x2000) /* the second region */

/* Each ends by a write to port 0xf4. */
GUEST(port_write, 64, "1: outb %al, $0x80\n dec %ecx\n jnz 1b\n outb %al, $0xf4");
GUEST(port_read, 64, "1: inb $0x80, %al\n dec %ecx\n jnz 1b\n outb %al, $0xf4");
GUEST(mmio_write, 64, "1: movl %eax, (%rdi)\n dec %ecx\n jnz 1b\n outb %al, $0xf4");
GUEST(mmio_read, 64, "1: movl (%rdi), %eax\n dec %ecx\n jnz 1b\n outb %al, $0xf4");
GUEST(port_event, 64, "1: outb %al, $0x90\n dec %ecx\n jnz 1b\n outb %al, $0xf4");

struct kind {
    const char *key, *name;
    const uint8_t *start, *end;
    uint64_t address;
};

static const struct kind kinds[] = {
    {"port-write", "port write, 1 byte", port_write_start, port_write_end, 0},
    {"port-read", "port read, 1 byte", port_read_start, port_read_end, 0},
    {"mmio-write", "MMIO write, 4 bytes", mmio_write_start, mmio_write_end, GUEST_MMIO},
    {"mmio-read", "MMIO read, 4 bytes", mmio_read_start, mmio_read_end, GUEST_MMIO},
    {"port-event", "ioeventfd, port", port_event_start, port_event_end, 0},
    {"mmio-collected", "MMIO write, coalesced", mmio_write_start, mmio_write_end, COALESCED},
    {"mmio-event", "ioeventfd, MMIO", mmio_write_start, mmio_write_end, EVENT_MMIO},
};

static volatile uint64_t device_register;

static uint64_t register_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx, (void)offset, (void)width;
    return device_register;
}

static void register_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)ctx, (void)offset, (void)width;
    device_register = value;
}

static void end_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)offset, (void)width, (void)value;
    vmm_vcpu_kick(ctx);
}

static const struct vmm_region_ops register_ops = {
    .size = sizeof(register_ops), .read = register_read, .write = register_write};
static const struct vmm_region_ops end_ops = {
    .size = sizeof(end_ops), .read = register_read, .write = end_write};

static void add_region(struct vmm_bus *bus, uint64_t address, uint64_t length,
                       const struct vmm_region_ops *ops, void *ctx)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    o.name = "bench";
    o.address = address;
    o.length = length;
    o.ops = ops;
    o.ctx = ctx;
    bench_need(vmm_bus_add(bus, &o, NULL, &err) == 0, err.text);
}

static void add_buses(struct bench_guest *g)
{
    struct vmm_bus *ports, *mmio;
    bench_need(vmm_bus_new("port", 16, &ports) == 0, "the port bus");
    bench_need(vmm_bus_new("MMIO", 52, &mmio) == 0, "the MMIO bus");
    add_region(ports, 0x80, 1, &register_ops, NULL);
    add_region(ports, 0xf4, 1, &end_ops, g->vcpu);
    add_region(mmio, GUEST_MMIO, 0x1000, &register_ops, NULL);
    for (uint64_t i = 1; i < 100; i++) {
        add_region(ports, 0x1000 + i * 16, 8, &register_ops, NULL);
        add_region(mmio, GUEST_MMIO + i * 0x2000, 0x1000, &register_ops, NULL);
    }
    bench_need(vmm_bus_attach_vcpu(g->vcpu, ports, mmio) == 0, "attaching the buses");
    vmm_bus_unref(ports);
    vmm_bus_unref(mmio);
}

static void add_events(struct bench_guest *g, int fd)
{
    struct vmm_ioeventfd e = VMM_IOEVENTFD_INIT;
    e.fd = fd;
    e.space = VMM_SPACE_PORT;
    e.address = EVENT_PORT;
    e.length = 1;
    bench_need(vmm_vm_ioeventfd_add(g->vm, &e) == 0, "the port's ioeventfd");
    bench_need(vmm_vm_coalesce_add(g->vm, VMM_SPACE_MMIO, COALESCED, 0x1000) == 0, "coalescing");
    e.space = VMM_SPACE_MMIO;
    e.address = EVENT_MMIO;
    e.length = 4;
    bench_need(vmm_vm_ioeventfd_add(g->vm, &e) == 0, "the MMIO ioeventfd");
}

static void run_ours(struct bench_guest *g)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    bench_need(vmm_vcpu_run(g->vcpu, &exit) == 0 && exit.reason == VMM_EXIT_KICKED,
               "running the guest");
}

/* The least that a program does about an exit: look what it is, and store or fetch the value. */
static void run_floor(struct bench_guest *g)
{
    struct kvm_run *run = vmm_vcpu_kvm_run(g->vcpu);
    int fd = vmm_vcpu_fd(g->vcpu);
    struct kvm_coalesced_mmio_ring *ring =
        (void *)((char *)run + vmm_vm_capability(g->vm, KVM_CAP_COALESCED_MMIO) * 4096);
    uint32_t most = (4096 - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
    for (;;) {
        bench_need(ioctl(fd, KVM_RUN, 0) == 0, "KVM_RUN");
        for (; ring->first != ring->last; ring->first = (ring->first + 1) % most)
            memcpy((void *)(uintptr_t)&device_register, ring->coalesced_mmio[ring->first].data, 4);
        uint8_t *data = (uint8_t *)run + run->io.data_offset;
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0xf4)
            return;
        if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT)
            device_register = *data;
        else if (run->exit_reason == KVM_EXIT_IO)
            *data = (uint8_t)device_register;
        else if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write)
            memcpy((void *)(uintptr_t)&device_register, run->mmio.data, 4);
        else if (run->exit_reason == KVM_EXIT_MMIO)
            memcpy(run->mmio.data, (const void *)(uintptr_t)&device_register, 4);
        else
            bench_need(false, "the floor: an exit of another kind");
    }
}

/* ns an exit. */
static double measure(struct bench_guest *g, const struct kind *k, uint32_t exits, bool ours)
{
    guest_go(g, k->start, k->end, exits, k->address);
    double start = bench_now();
    (ours ? run_ours : run_floor)(g);
    return (bench_now() - start) / exits;
}

static void compare(struct bench_guest *g, const struct kind *k, uint32_t exits)
{
    struct bench_figure f = {.group = "exits",
                             .name = k->name,
                             .unit = "ns",
                             .peer = "bare KVM_RUN",
                             .how = "the same guest at CPL 3 in the same VM; time of a round trip"};
    (void)measure(g, k, exits / 10, true);
    (void)measure(g, k, exits / 10, false);
    for (int round = 0; round < ROUNDS; round++) {
        bench_add(&f.ours, measure(g, k, exits, true));
        bench_add(&f.theirs, measure(g, k, exits, false));
    }
    bench_report(&f);
}

int main(int argc, char **argv)
{
    struct bench_guest g;
    uint32_t exits = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 5000;
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    guest_make(&g);
    add_buses(&g);
    add_events(&g, event);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (argc > 3 && strcmp(argv[2], kinds[i].key) == 0)
            (void)measure(&g, &kinds[i], exits, strcmp(argv[3], "ours") == 0);
        else if (argc < 3)
            compare(&g, &kinds[i], exits);
    }
    close(event);
    guest_unmake(&g);
    return 0;
}
