/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM's statistics of a real VM and vCPU, and the pool of shadow pages. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include <libvmm/memory.h>
#include <libvmm/mmu.h>
#include <libvmm/stats.h>
#include <libvmm/x86.h>

struct fixture {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_host_open(NULL, &f->host, &err), 0);
    assert_int_equal(vmm_vm_new(f->host, NULL, &f->vm, &err), 0);
    assert_int_equal(vmm_memory_new(f->vm, &f->memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, 16 << 20, NULL, &err), 0);
    assert_int_equal(vmm_vcpu_new(f->vm, f->memory, 0, &f->vcpu, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vmm_vcpu_unref(f->vcpu);
    vmm_memory_unref(f->memory);
    vmm_vm_unref(f->vm);
    vmm_host_unref(f->host);
    free(f);
    return 0;
}

/* Real mode: out %al, $0x10 three times. */
static void run_guest(struct fixture *f)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct vmm_x86_sregs sregs;
    struct vmm_x86_regs regs = {.rip = 0x1000, .rflags = 2};
    assert_int_equal(vmm_memory_write(f->memory, 0x1000, "\xe6\x10\xe6\x10\xe6\x10", 6), 0);
    assert_int_equal(vmm_x86_get_sregs(f->vcpu, &sregs), 0);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    assert_int_equal(vmm_x86_set_sregs(f->vcpu, &sregs), 0);
    assert_int_equal(vmm_x86_set_regs(f->vcpu, &regs), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vmm_vcpu_run(f->vcpu, &exit), 0);
        assert_int_equal(exit.reason, VMM_EXIT_PORT);
    }
}

static void tables(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_stat s = VMM_STAT_INIT, before = VMM_STAT_INIT;
    const int fds[] = {vmm_vm_fd(f->vm), vmm_vcpu_fd(f->vcpu)};
    for (size_t n = 0; n < 2; n++) {
        struct vmm_stats *stats;
        unsigned mmu = 0;
        int r = vmm_stats_open(fds[n], &stats, &err);
        if (r == -EOPNOTSUPP) {
            print_message("skipped: %s\n", err.text);
            skip();
        }
        assert_int_equal(r, 0);
        assert_true(vmm_stats_count(stats) > 5);
        assert_int_equal(strncmp(vmm_stats_id(stats), "kvm-", 4), 0);
        for (size_t i = 0; i < vmm_stats_count(stats); i++) {
            assert_int_equal(vmm_stats_get(stats, i, &s), 0);
            assert_true(strlen(s.name) > 0);
            assert_true(s.count > 0);
            mmu += s.is_mmu;
        }
        assert_true(mmu > 3);
        print_message("%s: %zu statistics, %u of paging\n", vmm_stats_id(stats),
                      vmm_stats_count(stats), mmu);
        if (n == 1) {
            assert_int_equal(vmm_stats_find(stats, "exits", &before), 0);
            uint64_t exits = before.values[0];
            run_guest(f);
            assert_int_equal(vmm_stats_refresh(stats), 0);
            assert_int_equal(vmm_stats_find(stats, "exits", &s), 0);
            assert_true(s.values[0] >= exits + 3);
        }
        vmm_stats_free(stats);
    }
}

static void shadow_pool(void **state)
{
    struct fixture *f = *state;
    struct vmm_mmu_options o = VMM_MMU_OPTIONS_INIT;
    struct vmm_mmu_info info = VMM_MMU_INFO_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_mmu_setup(f->vm, NULL, &info, &err), -EINVAL);
    assert_int_equal(vmm_mmu_setup(f->vm, &o, &info, &err), -EINVAL);
    o.pages = 63;
    assert_int_equal(vmm_mmu_setup(f->vm, &o, &info, &err), -EINVAL);
    assert_non_null(strstr(err.text, "64"));
    o.pages = 0;
    o.ram_bytes = 16 << 20;
    assert_int_equal(vmm_mmu_setup(f->vm, &o, &info, &err), 0);
    assert_int_equal(info.pages, 1024);
    print_message("paging %s: %s %llu shadow pages, KVM says %llu\n", vmm_paging_name(info.paging),
                  info.set ? "set" : "not set", (unsigned long long)info.pages,
                  (unsigned long long)info.kvm_says);
    if (info.paging == VMM_PAGING_NESTED)
        assert_int_equal(info.set, 0);
    if (info.paging == VMM_PAGING_SHADOW)
        assert_int_equal(info.set, 1);
    if (info.kvm_says)
        assert_int_equal(info.kvm_says, info.pages);
    o.pages = 4096;
    assert_int_equal(vmm_mmu_setup(f->vm, &o, &info, &err), 0);
    assert_int_equal(info.pages, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables, setup, teardown),
        cmocka_unit_test_setup_teardown(shadow_pool, setup, teardown),
    };
    struct vmm_host *host;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_host_open(NULL, &host, &err) < 0)
        TEST_SKIP("%s", err.text);
    vmm_host_unref(host);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
