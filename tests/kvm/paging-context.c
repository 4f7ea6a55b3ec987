/* SPDX-License-Identifier: BSD-3-Clause */
/* The walker's context from a real vCPU: each mode set, read back, and its tables walked. */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

#include <libvmm/memory.h>
#include <libvmm/translate.h>
#include <libvmm/x86.h>

#define TABLES 0x100000u
#define VA     0x40201000u

struct fixture {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu;
    bool has_la57, has_pku;
    uint32_t address_bits, key_offset;
};

static void take_cpuid(struct fixture *f)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
    c->nent = 256;
    assert_int_equal(ioctl(vmm_host_fd(f->host), KVM_GET_SUPPORTED_CPUID, c), 0);
    for (unsigned i = 0; i < c->nent; i++) {
        if (c->entries[i].function == 7 && c->entries[i].index == 0) {
            f->has_la57 = c->entries[i].ecx >> 16 & 1;
            f->has_pku = c->entries[i].ecx >> 3 & 1;
        }
        if (c->entries[i].function == 0x80000008)
            f->address_bits = c->entries[i].eax & 0xff;
        if (c->entries[i].function == 0xd && c->entries[i].index == 9)
            f->key_offset = c->entries[i].ebx;
    }
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_SET_CPUID2, c), 0);
    free(c);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_host_open(NULL, &f->host, &err), 0);
    assert_int_equal(vmm_vm_new(f->host, NULL, &f->vm, &err), 0);
    assert_int_equal(vmm_memory_new(f->vm, &f->memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, 16 << 20, NULL, &err), 0);
    assert_int_equal(vmm_vcpu_new(f->vm, f->memory, 0, &f->vcpu, &err), 0);
    take_cpuid(f);
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

/* False: the host (PVM) takes the mode but leaves paging off. */
static bool set_mode(struct fixture *f, uint32_t format, uint64_t root, uint64_t more_cr4)
{
    struct vmm_x86_sregs s;
    assert_int_equal(vmm_x86_get_sregs(f->vcpu, &s), 0);
    s.cr0 = 0x80010011; /* PG, WP, ET, PE */
    s.cr3 = root;
    s.cr4 = (format == VMM_PAGE_FORMAT_X86_32 ? 0x10u : 0x20u) | more_cr4;
    s.efer = format >= VMM_PAGE_FORMAT_X86_4LEVEL ? 0xd00 : 0;
    s.cs.l = format >= VMM_PAGE_FORMAT_X86_4LEVEL;
    s.cs.db = !s.cs.l;
    if (format == VMM_PAGE_FORMAT_X86_5LEVEL)
        s.cr4 |= 0x1000;
    assert_int_equal(vmm_x86_set_sregs(f->vcpu, &s), 0);
    assert_int_equal(vmm_x86_get_sregs(f->vcpu, &s), 0);
    return (s.cr0 >> 31) != 0;
}

static uint64_t build(struct fixture *f, uint32_t format)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *t;
    o.format = format;
    o.flags = VMM_PAGING_PSE;
    o.table_start = TABLES;
    o.table_length = 0x10000;
    assert_int_equal(vmm_page_table_new(f->memory, &o, &t, NULL), 0);
    assert_int_equal(
        vmm_page_table_map(t, VA, 0x5000, 0x2000, VMM_PAGE_EXECUTE | VMM_PAGE_WRITE, 0, NULL), 0);
    uint64_t root = vmm_page_table_root(t);
    vmm_page_table_free(t);
    return root;
}

static void each_mode(void **state)
{
    struct fixture *f = *state;
    struct vmm_translator *t;
    assert_int_equal(vmm_translator_new(f->memory, NULL, &t), 0);
    for (uint32_t format = VMM_PAGE_FORMAT_X86_32; format <= VMM_PAGE_FORMAT_X86_5LEVEL; format++) {
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        struct vmm_translation tr = VMM_TRANSLATION_INIT;
        struct vmm_lookup l = VMM_LOOKUP_INIT;
        if (format == VMM_PAGE_FORMAT_X86_5LEVEL && !f->has_la57)
            continue;
        uint64_t root = build(f, format), physical;
        if (!set_mode(f, format, root, 0)) {
            assert_true(format < VMM_PAGE_FORMAT_X86_4LEVEL);
            print_message("%s: not tested, the host has no paging in this mode\n",
                          vmm_page_format_name(format));
            continue;
        }
        assert_int_equal(vmm_x86_paging_context(f->vcpu, &c), 0);
        assert_int_equal(c.format, format);
        assert_int_equal(c.root, root);
        assert_int_equal(c.address_bits, f->address_bits);
        assert_true(c.flags & VMM_PAGING_WP);
        assert_int_equal(!!(c.flags & VMM_PAGING_NX), format >= VMM_PAGE_FORMAT_X86_4LEVEL);
        assert_int_equal(vmm_paging_translate(f->memory, &c, VA + 0x1234, 0, &tr), 0);
        assert_int_equal(tr.physical, 0x6234);
        assert_int_equal(vmm_translator_set_context(t, &c), 0);
        assert_int_equal(vmm_translator_lookup(t, VA + 0x1234, VMM_ACCESS_WRITE, &l), 0);
        assert_int_equal(l.physical, 0x6234);
        assert_int_equal(vmm_translator_lookup(t, VA + 0x3000, 0, &l), -EFAULT);
        if (format >= VMM_PAGE_FORMAT_X86_4LEVEL) {
            assert_int_equal(vmm_x86_translate(f->vcpu, VA + 0x1234, &physical), 0);
            assert_int_equal(physical, 0x6234);
        }
    }
    vmm_translator_free(t);
}

static void no_paging(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_x86_sregs s;
    assert_int_equal(vmm_x86_paging_context(f->vcpu, &c), 0);
    assert_int_equal(c.format, VMM_PAGE_FORMAT_NONE);
    assert_int_equal(vmm_x86_get_sregs(f->vcpu, &s), 0);
    assert_int_equal(vmm_x86_paging_context(NULL, &c), -EINVAL);
    assert_int_equal(vmm_x86_paging_context(f->vcpu, NULL), -EINVAL);
    assert_int_equal(vmm_x86_paging_from_sregs(NULL, &c), -EINVAL);
    assert_int_equal(vmm_x86_paging_from_sregs(&s, NULL), -EINVAL);
    c.size = 2;
    assert_int_equal(vmm_x86_paging_context(f->vcpu, &c), -EINVAL);
}

static void every_flag_of_the_registers(void **state)
{
    (void)state;
    static const struct {
        uint64_t cr0, cr4, efer;
        uint32_t flag;
    } bits[] = {
        {1u << 16, 0, 0, VMM_PAGING_WP},   {0, 1u << 4, 0, VMM_PAGING_PSE},
        {0, 1u << 20, 0, VMM_PAGING_SMEP}, {0, 1u << 21, 0, VMM_PAGING_SMAP},
        {0, 1u << 22, 0, VMM_PAGING_PKU},  {0, 1u << 24, 0, VMM_PAGING_PKS},
        {0, 0, 1u << 11, VMM_PAGING_NX},
    };
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        struct vmm_x86_sregs s = {.cr0 = bits[i].cr0, .cr4 = bits[i].cr4, .efer = bits[i].efer};
        struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
        assert_int_equal(vmm_x86_paging_from_sregs(&s, &c), 0);
        assert_int_equal(c.flags & ~(VMM_PAGING_PAGES_1G | VMM_PAGING_PSE36), bits[i].flag);
        assert_int_equal(c.format, VMM_PAGE_FORMAT_NONE);
    }
}

static void protection_keys(void **state)
{
    struct fixture *f = *state;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct kvm_xsave x;
    uint32_t keys = 0x55555554;
    uint64_t present;
    if (!f->has_pku || f->key_offset == 0) {
        print_message("not tested: the host offers no protection keys\n");
        skip();
    }
    assert_true(
        set_mode(f, VMM_PAGE_FORMAT_X86_4LEVEL, build(f, VMM_PAGE_FORMAT_X86_4LEVEL), 1u << 22));
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 0x207}}};
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_SET_XCRS, &xcrs), 0);
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_GET_XSAVE, &x), 0);
    memcpy(&present, (char *)&x + 512, 8);
    present |= 1u << 9;
    memcpy((char *)&x + 512, &present, 8);
    memcpy((char *)&x + f->key_offset, &keys, 4);
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_SET_XSAVE, &x), 0);
    assert_int_equal(vmm_x86_paging_context(f->vcpu, &c), 0);
    assert_true(c.flags & VMM_PAGING_PKU);
    assert_int_equal(c.user_keys, keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(no_paging, setup, teardown),
        cmocka_unit_test(every_flag_of_the_registers),
        cmocka_unit_test_setup_teardown(protection_keys, setup, teardown),
    };
    struct vmm_host *host;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_host_open(NULL, &host, &err) < 0)
        TEST_SKIP("%s", err.text);
    vmm_host_unref(host);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
