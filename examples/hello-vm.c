/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello-vm: the smallest VMM. One page of memory, one vCPU, and a 16-bit guest that writes a greeting
 * to port 0xe9, a byte at a time, and halts. Build it with
 *   cc hello-vm.c $(pkg-config --cflags --libs libvmm)
 */
#include <libvmm/vmm.h>
#include <libvmm/x86.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* mov si, message; mov dx, 0xe9; next: lodsb; test al, al; jz done; out dx, al; jmp next; done: hlt */
static const unsigned char guest[] = "\xbe\x0f\x10\xba\xe9\x00\xac\x84\xc0\x74\x03\xee\xeb\xf8\xf4"
                                     "Hello from a virtual machine!\n";

static int fail(const char *what, int rc, const struct vmm_error *err)
{
    fprintf(stderr, "hello-vm: %s: %s\n", what, err->text[0] ? err->text : strerror(-rc));
    return 3;
}

/* Real mode, everything at segment 0: the processor starts where the guest was put. */
static int start_at(struct vmm_vcpu *vcpu, uint64_t address)
{
    struct vmm_x86_sregs sregs;
    struct vmm_x86_regs regs = {.rip = address, .rflags = 2};
    int rc = vmm_x86_get_sregs(vcpu, &sregs);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (!rc)
        rc = vmm_x86_set_sregs(vcpu, &sregs);
    return rc ? rc : vmm_x86_set_regs(vcpu, &regs);
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
        rc = start_at(vcpu, 0x1000);
    struct vmm_exit exit = VMM_EXIT_INIT;
    while (!rc && exit.reason != VMM_EXIT_HALT) {
        rc = vmm_vcpu_run(vcpu, &exit);
        if (!rc && exit.reason == VMM_EXIT_PORT)
            putchar(*(const char *)exit.u.port.data);
        else if (!rc && exit.reason != VMM_EXIT_HALT)
            rc = vmm_error_set(&err, -EIO, "unexpected exit: %s", vmm_exit_name(exit.reason));
    }
    vmm_vcpu_unref(vcpu);
    vmm_memory_unref(memory);
    vmm_vm_unref(vm);
    vmm_host_unref(host);
    return rc ? fail("failed", rc, &err) : 0;
}
