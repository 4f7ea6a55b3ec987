/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The floor: what start-up costs with nothing but the system calls. Makes the VM that `vmm-run
 * --machine micro` makes (interrupt controllers, PIT, RAM, one vCPU with the host's CPUID table),
 * loads a flat 64-bit guest at 0x1000 and runs it to its first write to port 0xf4.
 *
 *   bench-floor GUEST [MEBIBYTES]
 *
 * The exit status is the guest's value * 2 + 1, as vmm-run --debug-exit has it.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int check(int rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(1);
    }
    return rc;
}

/* Page tables at 0x10000: the first GiB, identity, in 2 MiB pages (SDM vol. 3, 4.5). */
static void build_tables(uint8_t *ram)
{
    uint64_t *pml4 = (uint64_t *)(void *)(ram + 0x10000);
    uint64_t *pdpt = (uint64_t *)(void *)(ram + 0x11000);
    uint64_t *pd = (uint64_t *)(void *)(ram + 0x12000);
    pml4[0] = 0x11000 | 3;
    pdpt[0] = 0x12000 | 3;
    for (uint64_t i = 0; i < 512; i++)
        pd[i] = i << 21 | 0x83;
}

static void enter_long_mode(int vcpu)
{
    struct kvm_sregs s;
    check(ioctl(vcpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
    struct kvm_segment code = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 = 0x80000011;
    s.cr3 = 0x10000;
    s.cr4 = 0x20;
    s.efer = 0x500;
    check(ioctl(vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
    struct kvm_regs r = {.rip = 0x1000, .rsp = 0x9000, .rflags = 2};
    check(ioctl(vcpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
}

static void set_cpuid(int kvm, int vcpu)
{
    struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + 256 * sizeof(table->entries[0]));
    table->nent = 256;
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table), "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, table), "KVM_SET_CPUID2");
    free(table);
}

static int run(int vcpu, struct kvm_run *state)
{
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (state->exit_reason != KVM_EXIT_IO) {
            fprintf(stderr, "bench-floor: exit reason %u\n", state->exit_reason);
            return 1;
        }
        if (state->io.port == 0xf4)
            return ((uint8_t *)state)[state->io.data_offset] * 2 + 1;
    }
}

int main(int argc, char **argv)
{
    uint64_t size = (uint64_t)(argc > 2 ? atoi(argv[2]) : 256) << 20;
    int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    check(ioctl(kvm, KVM_GET_API_VERSION, 0), "KVM_GET_API_VERSION");
    int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    uint64_t identity = 0xfffbc000;
    check(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity), "KVM_SET_IDENTITY_MAP_ADDR");
    check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    check(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
    uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram == MAP_FAILED)
        check(-1, "mmap");
    struct kvm_userspace_memory_region slot = {0, 0, 0, size, (uintptr_t)ram};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
    int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    size_t run_size =
        (size_t)check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *state = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (state == MAP_FAILED)
        check(-1, "mmap");
    set_cpuid(kvm, vcpu);

    int guest = check(open(argc > 1 ? argv[1] : "", O_RDONLY | O_CLOEXEC), "guest");
    check((int)read(guest, ram + 0x1000, 0x8000), "read");
    build_tables(ram);
    enter_long_mode(vcpu);
    return run(vcpu, state);
}
