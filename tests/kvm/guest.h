/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small VM for tests: 16 MiB of RAM, vCPUs in real, protected or long mode. Guest code is written
 * in assembly in the test's own file by GUEST(name, bits, text).
 */
#ifndef TESTS_KVM_GUEST_H
#define TESTS_KVM_GUEST_H

#include <libvmm/kvm.h>
#include <libvmm/x86.h>

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define GUEST(name, bits, text)                                                                    \
    extern const uint8_t name##_start[], name##_end[];                                             \
    __asm__(".pushsection .rodata\n" #name "_start:\n.code" #bits "\n" text #name                  \
            "_end:\n.code64\n.popsection\n")

#define GUEST_RAM   ((uint64_t)16 << 20)
#define GUEST_CODE  0x1000u
#define GUEST_STACK 0x9000u
#define GUEST_GDT   0xf000u
#define GUEST_PML4  0x10000u
#define GUEST_CPUS  8u

struct guest {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_memory_region *ram;
    struct vmm_vcpu *cpus[GUEST_CPUS];
    uint32_t cpu_count;
};

static inline void guest_kick_handler(int signal_number)
{
    (void)signal_number;
}

static inline void guest_new(struct guest *g, uint32_t irqchip)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    memset(g, 0, sizeof(*g));
    o.irqchip = irqchip;
    o.kick_signal = SIGUSR1;
    (void)vmm_kick_signal_install(SIGUSR1);
    if (vmm_host_open(NULL, &g->host, &err) != 0)
        TEST_SKIP("%s", err.text);
    if (vmm_vm_new(g->host, &o, &g->vm, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(vmm_memory_new(g->vm, &g->memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(g->memory, "ram", 0, GUEST_RAM, &g->ram, &err), 0);
}

static inline struct vmm_vcpu *guest_add_cpu(struct guest *g)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vcpu *cpu = NULL;
    if (vmm_vcpu_new(g->vm, g->memory, g->cpu_count, &cpu, &err) != 0)
        fail_msg("%s", err.text);
    g->cpus[g->cpu_count++] = cpu;
    return cpu;
}

static inline void guest_free(struct guest *g)
{
    while (g->cpu_count)
        vmm_vcpu_unref(g->cpus[--g->cpu_count]);
    vmm_memory_region_unref(g->ram);
    vmm_memory_unref(g->memory);
    vmm_vm_unref(g->vm);
    vmm_host_unref(g->host);
}

static inline void guest_load(struct guest *g, uint64_t address, const uint8_t *start,
                              const uint8_t *end)
{
    assert_int_equal(vmm_memory_write(g->memory, address, start, (size_t)(end - start)), 0);
}
#define guest_code(g, name) guest_load(g, GUEST_CODE, name##_start, name##_end)

/* Flat segments; long mode with the first 4 GiB mapped one to one. */
static inline void guest_mode(struct guest *g, struct vmm_vcpu *cpu, uint32_t bits)
{
    struct vmm_x86_sregs s;
    struct vmm_x86_regs r = {.rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = 2};
    struct vmm_x86_segment data = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct vmm_x86_segment code = data;
    assert_int_equal(vmm_x86_get_sregs(cpu, &s), 0);
    if (bits == 16) {
        s.cs.base = s.cs.selector = 0;
    } else {
        code.selector = 8;
        code.type = 11;
        code.db = bits == 32;
        code.l = bits == 64;
        s.cs = code;
        s.ds = s.es = s.fs = s.gs = s.ss = data;
        s.cr0 |= 1;
    }
    /* Null, code, data: for what loads a segment, such as the return from an interrupt. */
    const uint64_t gdt[3] = {0, bits == 64 ? 0xaf9b000000ffff : 0xcf9b000000ffff, 0xcf93000000ffff};
    assert_int_equal(vmm_memory_write(g->memory, GUEST_GDT, gdt, sizeof(gdt)), 0);
    s.gdt.base = GUEST_GDT;
    s.gdt.limit = sizeof(gdt) - 1;
    if (bits == 64) {
        for (uint64_t i = 0; i < 4; i++) {
            uint64_t entry = (GUEST_PML4 + 0x2000 + i * 0x1000) | 7;
            assert_int_equal(vmm_memory_write(g->memory, GUEST_PML4 + 0x1000 + i * 8, &entry, 8),
                             0);
        }
        for (uint64_t i = 0; i < 2048; i++) {
            uint64_t entry = i << 21 | 0x87;
            assert_int_equal(vmm_memory_write(g->memory, GUEST_PML4 + 0x2000 + i * 8, &entry, 8),
                             0);
        }
        uint64_t entry = (GUEST_PML4 + 0x1000) | 7;
        assert_int_equal(vmm_memory_write(g->memory, GUEST_PML4, &entry, 8), 0);
        s.cr3 = GUEST_PML4;
        s.cr4 |= 0x20;
        s.efer |= 0x500;
        s.cr0 |= 0x80000000;
    }
    assert_int_equal(vmm_x86_set_sregs(cpu, &s), 0);
    assert_int_equal(vmm_x86_set_regs(cpu, &r), 0);
}

/* A VM with one vCPU in a mode, its code loaded. */
#define guest_start(g, name, bits, irqchip)                                                        \
    do {                                                                                           \
        guest_new(g, irqchip);                                                                     \
        guest_add_cpu(g);                                                                          \
        guest_mode(g, (g)->cpus[0], bits);                                                         \
        guest_code(g, name);                                                                       \
    } while (0)

/* Run to the next exit of a reason. Kicks that are left over from a pause are passed over. */
static inline void guest_run_to(struct guest *g, uint32_t reason, struct vmm_exit *exit)
{
    int rc;
    do
        rc = vmm_vcpu_run(g->cpus[0], exit);
    while (rc == 0 && exit->reason == VMM_EXIT_KICKED && reason != VMM_EXIT_KICKED);
    if (rc)
        fail_msg("vmm_vcpu_run: %s", strerror(-rc));
    if (exit->reason != reason) {
        struct vmm_x86_regs r = {0};
        (void)vmm_x86_get_regs(g->cpus[0], &r);
        fail_msg("%s (KVM's %u) instead of %s, rip 0x%llx", vmm_exit_name(exit->reason),
                 exit->raw_reason, vmm_exit_name(reason), (unsigned long long)r.rip);
    }
}

static inline uint32_t guest_port_value(const struct vmm_exit *exit)
{
    uint32_t value = 0;
    memcpy(&value, exit->u.port.data, exit->u.port.width);
    return value;
}

/* Run to the next write to a port and return what was written. */
static inline uint32_t guest_expect_out(struct guest *g, uint16_t port)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    guest_run_to(g, VMM_EXIT_PORT, &exit);
    assert_true(exit.u.port.is_write);
    assert_int_equal(exit.u.port.port, port);
    return guest_port_value(&exit);
}

#endif
