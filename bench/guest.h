/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for benchmarks: one vCPU in 64-bit mode at CPL 3 with IOPL 3, the first 4 GiB mapped one to one.
 * At CPL 3 code runs natively on each kind of KVM, also where KVM emulates what is at CPL 0.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include "bench.h"

#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/kvm.h>
#include <libvmm/x86.h>

#include <errno.h>
#include <signal.h>

#define GUEST(name, bits, text)                                                                    \
    extern const uint8_t name##_start[], name##_end[];                                             \
    __asm__(".pushsection .rodata\n" #name "_start:\n.code" #bits "\n" text "\n" #name             \
            "_end:\n.code64\n.popsection\n")

#define GUEST_CODE   0x1000ull
#define GUEST_STACK  0x9000ull
#define GUEST_TABLES 0x10000ull
#define GUEST_RAM    (16ull << 20)
#define GUEST_MMIO   0xd0000000ull

struct bench_guest {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu;
};

static inline void guest_tables(struct vmm_memory *memory)
{
    uint64_t entry = (GUEST_TABLES + 0x1000) | 7;
    bench_need(vmm_memory_write(memory, GUEST_TABLES, &entry, 8) == 0, "the page tables");
    for (uint64_t i = 0; i < 4; i++) {
        entry = (GUEST_TABLES + 0x2000 + i * 0x1000) | 7;
        bench_need(vmm_memory_write(memory, GUEST_TABLES + 0x1000 + i * 8, &entry, 8) == 0, "-");
    }
    for (uint64_t i = 0; i < 2048; i++) {
        entry = i << 21 | 0x87;
        bench_need(vmm_memory_write(memory, GUEST_TABLES + 0x2000 + i * 8, &entry, 8) == 0, "-");
    }
}

static inline void guest_user_mode(struct vmm_vcpu *vcpu)
{
    struct vmm_x86_sregs s;
    struct vmm_x86_segment data = {.limit = 0xffffffff,
                                   .selector = 0x13,
                                   .type = 3,
                                   .present = 1,
                                   .db = 1,
                                   .s = 1,
                                   .dpl = 3,
                                   .g = 1};
    bench_need(vmm_x86_get_sregs(vcpu, &s) == 0, "reading registers");
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    data.selector = 0xb;
    data.type = 11;
    data.db = 0;
    data.l = 1;
    s.cs = data;
    s.cr0 = 0x80000011;
    s.cr3 = GUEST_TABLES;
    s.cr4 = 0x20;
    s.efer = 0x500;
    bench_need(vmm_x86_set_sregs(vcpu, &s) == 0, "64-bit mode");
}

/* `ecx` and `rdi` are the code's arguments. */
static inline void guest_go(struct bench_guest *g, const uint8_t *start, const uint8_t *end,
                            uint64_t ecx, uint64_t rdi)
{
    struct vmm_x86_regs r = {
        .rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = 0x3002, .rcx = ecx, .rdi = rdi};
    bench_need(vmm_memory_write(g->memory, GUEST_CODE, start, (size_t)(end - start)) == 0, "code");
    bench_need(vmm_x86_set_regs(g->vcpu, &r) == 0, "setting registers");
}

/* Ends the program with status 77 where there is no KVM. */
static inline void guest_make(struct bench_guest *g)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    if (vmm_host_open(NULL, &g->host, &err) != 0) {
        printf("not measured: %s\n", err.text);
        exit(77);
    }
    bench_need(vmm_kick_signal_install(SIGUSR1) == 0, "the kick signal");
    o.kick_signal = SIGUSR1;
    bench_need(vmm_vm_new(g->host, &o, &g->vm, &err) == 0, err.text);
    bench_need(vmm_memory_new(g->vm, &g->memory, &err) == 0, err.text);
    bench_need(vmm_memory_add_ram(g->memory, "ram", 0, GUEST_RAM, NULL, &err) == 0, err.text);
    bench_need(vmm_vcpu_new(g->vm, g->memory, 0, &g->vcpu, &err) == 0, err.text);
    guest_tables(g->memory);
    guest_user_mode(g->vcpu);
}

static inline void guest_unmake(struct bench_guest *g)
{
    vmm_vcpu_unref(g->vcpu);
    vmm_memory_unref(g->memory);
    vmm_vm_unref(g->vm);
    vmm_host_unref(g->host);
}

#endif
