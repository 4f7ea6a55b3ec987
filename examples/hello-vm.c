/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello-vm: the smallest VMM. One page of memory at 0x1000, one vCPU, and a guest of a few instructions (in
 * hello-guest.h, each architecture has one) that writes a greeting to address 0x2000, where there is no
 * memory, a byte at a time, the terminating zero too. Build it with
 *   cc -I x86 hello-vm.c $(pkg-config --cflags --libs libvmm)
 */
#include "hello-guest.h"

#include <libvmm/vmm.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what, int rc, const struct vmm_error *err)
{
    fprintf(stderr, "hello-vm: %s: %s\n", what, err->text[0] ? err->text : strerror(-rc));
    return 3;
}

int main(void)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host = NULL;
    struct vmm_vm *vm = NULL;
    struct vmm_memory *memory = NULL;
    struct vmm_vcpu *vcpu = NULL;
    struct vmm_vm_options options = VMM_VM_OPTIONS_INIT;
    options.irqchip = VMM_IRQCHIP_NONE;
    int rc = vmm_host_open(NULL, &host, &err);
    if (!rc)
        rc = vmm_vm_new(host, &options, &vm, &err);
    if (!rc)
        rc = vmm_memory_new(vm, &memory, &err);
    if (!rc)
        rc = vmm_memory_add_ram(memory, "ram", 0x1000, 0x1000, NULL, &err);
    if (!rc)
        rc = vmm_memory_write(memory, 0x1000, guest, sizeof(guest));
    if (!rc)
        rc = vmm_vcpu_new(vm, memory, 0, &vcpu, &err);
    if (!rc)
        rc = vmm_vcpu_start_at(vcpu, 0x1000);
    struct vmm_exit exit = VMM_EXIT_INIT;
    for (int c = -1; !rc && c != 0;) {
        rc = vmm_vcpu_run(vcpu, &exit);
        if (rc)
            break;
        if (exit.reason != VMM_EXIT_MMIO || !exit.u.mmio.is_write)
            rc = vmm_error_set(&err, -EIO, "unexpected exit: %s", vmm_exit_name(exit.reason));
        else if ((c = exit.u.mmio.data[0]) != 0)
            putchar(c);
    }
    vmm_vcpu_unref(vcpu);
    vmm_memory_unref(memory);
    vmm_vm_unref(vm);
    vmm_host_unref(host);
    return rc ? fail("failed", rc, &err) : 0;
}
