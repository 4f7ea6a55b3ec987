/* SPDX-License-Identifier: BSD-3-Clause */
/* A VM for tests on /dev/kvm: one page-sized program in real mode, as many vCPUs as asked for. */
#ifndef TESTS_SMALL_VM_H
#define TESTS_SMALL_VM_H

#include "test.h"

#include <libvmm/kvm.h>
#include <libvmm/vmm.h>
#include <libvmm/x86.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define CODE_AT 0x1000u

struct small_vm {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu[4];
};

/* Called first in main(): no usable KVM is a skip. */
static inline void need_kvm(void)
{
    if (access("/dev/kvm", R_OK | W_OK))
        TEST_SKIP("there is no usable /dev/kvm here");
}

static inline void start_at(struct vmm_vcpu *vcpu, uint64_t address)
{
    struct vmm_x86_sregs s;
    struct vmm_x86_regs r = {.rip = address, .rflags = 2, .rsp = 0x8000};
    assert_int_equal(vmm_x86_get_sregs(vcpu, &s), 0);
    s.cs.base = 0;
    s.cs.selector = 0;
    assert_int_equal(vmm_x86_set_sregs(vcpu, &s), 0);
    assert_int_equal(vmm_x86_set_regs(vcpu, &r), 0);
}

static inline void small_vm_open(struct small_vm *s, uint32_t irqchip, uint32_t vcpus,
                                 const void *code, size_t length)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    memset(s, 0, sizeof(*s));
    o.irqchip = irqchip;
    o.kick_signal = (uint32_t)SIGUSR1;
    assert_int_equal(vmm_kick_signal_install(SIGUSR1), 0);
    assert_int_equal(vmm_host_open(NULL, &s->host, &err), 0);
    assert_int_equal(vmm_vm_new(s->host, &o, &s->vm, &err), 0);
    assert_int_equal(vmm_memory_new(s->vm, &s->memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(s->memory, "ram", 0, 0x100000, NULL, &err), 0);
    assert_int_equal(vmm_memory_write(s->memory, CODE_AT, code, length), 0);
    for (uint32_t i = 0; i < vcpus; i++)
        assert_int_equal(vmm_vcpu_new(s->vm, s->memory, i, &s->vcpu[i], &err), 0);
    start_at(s->vcpu[0], CODE_AT);
}

static inline void small_vm_close(struct small_vm *s)
{
    for (int i = 0; i < 4; i++)
        vmm_vcpu_unref(s->vcpu[i]);
    vmm_memory_unref(s->memory);
    vmm_vm_unref(s->vm);
    vmm_host_unref(s->host);
}

/* Entries of a folder of /proc/self: descriptors, threads. */
static inline int proc_entries(const char *path)
{
    int count = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static inline int count_lines(const char *path)
{
    int count = 0, c;
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while ((c = fgetc(f)) != EOF)
        count += c == '\n';
    fclose(f);
    return count;
}

#endif
