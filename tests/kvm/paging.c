/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The walker against the host's own: KVM_TRANSLATE on random tables in every mode, and real
 * accesses of a guest in 64-bit mode under every combination of permissions.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include <libvmm/memory.h>
#include <libvmm/paging.h>

#include "../unit/paging-random.h"

#define RAM (4u << 20)

#define CR0_PE   0x1u
#define CR0_ET   0x10u
#define CR0_WP   0x10000u
#define CR0_PG   0x80000000u
#define CR4_PSE  0x10u
#define CR4_PAE  0x20u
#define CR4_57   0x1000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define CR4_PKE  0x400000u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NX  0x800u
#define FLAGS_AC 0x40000u

static int kvm_fd;

struct guest {
    int vm, vcpu;
    struct kvm_run *run;
    struct vmm_memory *memory;
    struct vmm_mapping ram;
    uint8_t *bytes;
    uint32_t address_bits;
    bool amd, has_1g, has_smep, has_smap, has_pku, has_la57;
};

/* Features as the host offers them; all are given to the guest. */
static void take_cpuid(struct guest *g)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
    c->nent = 256;
    assert_int_equal(ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c), 0);
    g->address_bits = 36;
    for (unsigned i = 0; i < c->nent; i++) {
        struct kvm_cpuid_entry2 *e = &c->entries[i];
        if (e->function == 0)
            g->amd = e->ebx == 0x68747541; /* "Auth" */
        if (e->function == 7 && e->index == 0) {
            g->has_smep = e->ebx >> 7 & 1;
            g->has_smap = e->ebx >> 20 & 1;
            g->has_pku = e->ecx >> 3 & 1;
            g->has_la57 = e->ecx >> 16 & 1;
        }
        if (e->function == 0x80000001)
            g->has_1g = e->edx >> 26 & 1;
        if (e->function == 0x80000008)
            g->address_bits = e->eax & 0xff;
    }
    assert_int_equal(ioctl(g->vcpu, KVM_SET_CPUID2, c), 0);
    free(c);
}

static int setup(void **state)
{
    struct guest *g = calloc(1, sizeof(*g));
    assert_int_equal(vmm_memory_new(NULL, &g->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(g->memory, "ram", 0, RAM, NULL, NULL), 0);
    assert_int_equal(vmm_memory_map(g->memory, 0, RAM, VMM_MAP_READ | VMM_MAP_WRITE, &g->ram), 0);
    g->bytes = g->ram.data;
    g->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    assert_true(g->vm >= 0);
    (void)ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
    struct kvm_userspace_memory_region slot = {.memory_size = RAM,
                                               .userspace_addr = (uintptr_t)g->bytes};
    assert_int_equal(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
    g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
    assert_true(g->vcpu >= 0);
    size_t size = (size_t)ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    g->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
    assert_ptr_not_equal(g->run, MAP_FAILED);
    take_cpuid(g);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct guest *g = *state;
    close(g->vcpu);
    close(g->vm);
    vmm_memory_unmap(g->memory, &g->ram);
    vmm_memory_unref(g->memory);
    free(g);
    return 0;
}

static struct vmm_paging_context context_of(const struct guest *g, uint32_t format,
                                            const struct kvm_sregs *s)
{
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    c.format = format;
    c.root = s->cr3;
    c.address_bits = g->address_bits;
    c.flags = VMM_PAGING_PSE36 | (g->amd ? VMM_PAGING_AMD : 0) |
              (g->has_1g ? VMM_PAGING_PAGES_1G : 0) | (s->cr4 & CR4_PSE ? VMM_PAGING_PSE : 0) |
              (s->efer & EFER_NX ? VMM_PAGING_NX : 0) | (s->cr0 & CR0_WP ? VMM_PAGING_WP : 0) |
              (s->cr4 & CR4_SMEP ? VMM_PAGING_SMEP : 0) |
              (s->cr4 & CR4_SMAP ? VMM_PAGING_SMAP : 0) | (s->cr4 & CR4_PKE ? VMM_PAGING_PKU : 0);
    return c;
}

/* KVM_TRANSLATE -------------------------------------------------------------------------------- */

static void set_mode(struct guest *g, uint32_t format, struct kvm_sregs *s)
{
    assert_int_equal(ioctl(g->vcpu, KVM_GET_SREGS, s), 0);
    s->cr0 = CR0_PE | CR0_ET | CR0_PG | (one_in(2) ? CR0_WP : 0);
    s->cr3 = 0x10000;
    s->cr4 = (g->has_smep && one_in(2) ? CR4_SMEP : 0) | (g->has_smap && one_in(2) ? CR4_SMAP : 0);
    s->efer = one_in(2) ? EFER_NX : 0;
    s->cs.l = 0;
    s->cs.db = 1;
    if (format == VMM_PAGE_FORMAT_X86_32) {
        s->cr4 |= one_in(4) ? 0 : CR4_PSE;
    } else {
        s->cr4 |= CR4_PAE;
    }
    if (format >= VMM_PAGE_FORMAT_X86_4LEVEL) {
        s->efer |= EFER_LME | EFER_LMA;
        s->cs.l = 1;
        s->cs.db = 0;
    }
    if (format == VMM_PAGE_FORMAT_X86_5LEVEL)
        s->cr4 |= CR4_57;
}

/* The processor takes top entries of PAE with reserved bits not at all. */
static void mend_top(struct guest *g, uint64_t root)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t e;
        memcpy(&e, g->bytes + root + i * 8, 8);
        e &= ~(0x1e6ull | UINT64_MAX << g->address_bits);
        memcpy(g->bytes + root + i * 8, &e, 8);
    }
}

struct counts {
    unsigned valid, invalid;
};

static void compare_translations(struct guest *g, uint32_t format, struct counts *n)
{
    struct kvm_sregs s;
    struct kvm_regs regs;
    set_mode(g, format, &s);
    struct random_tables t = {.format = format,
                              .address_bits = g->address_bits,
                              .base = s.cr3,
                              .pages = 32,
                              .nx = (s.efer & EFER_NX) != 0,
                              .rare = 8 + (uint32_t)(random64() % 40)};
    random_fill(&t, g->bytes + s.cr3);
    if (format == VMM_PAGE_FORMAT_X86_PAE)
        mend_top(g, s.cr3);
    assert_int_equal(ioctl(g->vcpu, KVM_GET_REGS, &regs), 0);
    regs.rflags = 2 | (one_in(2) ? FLAGS_AC : 0);
    assert_int_equal(ioctl(g->vcpu, KVM_SET_REGS, &regs), 0);
    assert_int_equal(ioctl(g->vcpu, KVM_SET_SREGS, &s), 0);
    struct vmm_paging_context c = context_of(g, format, &s);
    if (format == VMM_PAGE_FORMAT_X86_32)
        c.address_bits = 36; /* KVM's PSE-36 has 36 bits where the manual allows 40 */
    if (format == VMM_PAGE_FORMAT_X86_PAE) {
        /* KVM_SET_SREGS has loaded them; below, KVM marks what it uses as other tables too. */
        c.flags |= VMM_PAGING_TOP_CACHED;
        memcpy(c.top_entries, g->bytes + s.cr3, sizeof(c.top_entries));
    }
    for (unsigned i = 0; i < 200; i++) {
        struct kvm_translation kt = {.linear_address = random_virtual(format)};
        struct vmm_translation vt = VMM_TRANSLATION_INIT;
        int r = vmm_paging_translate(g->memory, &c, kt.linear_address,
                                     regs.rflags & FLAGS_AC ? VMM_ACCESS_AC : 0, &vt);
        assert_int_equal(ioctl(g->vcpu, KVM_TRANSLATE, &kt), 0);
        if ((r == 0) != (kt.valid != 0) || (r == 0 && vt.physical != kt.physical_address))
            fail_msg("%s: address %#llx, cr0 %#llx, cr4 %#llx, efer %#llx: library %d %#llx (%s, "
                     "level %u, entry %#llx), KVM %d %#llx",
                     vmm_page_format_name(format), kt.linear_address, s.cr0, s.cr4, s.efer, r,
                     (unsigned long long)vt.physical, vmm_fault_name(vt.reason), vt.level,
                     (unsigned long long)vt.entry, kt.valid, kt.physical_address);
        r == 0 ? n->valid++ : n->invalid++;
    }
}

/* Some hosts (PVM) have paging in 64-bit mode only: CR0.PG does not stick. */
static bool host_translates(struct guest *g, uint32_t format)
{
    struct kvm_sregs s;
    set_mode(g, format, &s);
    assert_int_equal(ioctl(g->vcpu, KVM_SET_SREGS, &s), 0);
    assert_int_equal(ioctl(g->vcpu, KVM_GET_SREGS, &s), 0);
    return (s.cr0 & CR0_PG) != 0;
}

static void agrees_with_kvm_translate(void **state)
{
    struct guest *g = *state;
    for (uint32_t format = VMM_PAGE_FORMAT_X86_32; format <= VMM_PAGE_FORMAT_X86_5LEVEL; format++) {
        struct counts n = {0, 0};
        if (format == VMM_PAGE_FORMAT_X86_5LEVEL && !g->has_la57) {
            print_message("5-level: not tested, the host has no LA57\n");
            continue;
        }
        if (!host_translates(g, format)) {
            print_message("%s: not tested, the host has no paging in this mode\n",
                          vmm_page_format_name(format));
            assert_true(format < VMM_PAGE_FORMAT_X86_4LEVEL);
            continue;
        }
        for (unsigned table = 0; table < 100; table++)
            compare_translations(g, format, &n);
        print_message("%s: %u valid, %u invalid\n", vmm_page_format_name(format), n.valid,
                      n.invalid);
        assert_true(n.valid > 1000);
        assert_true(n.invalid > 1000);
    }
}

/* Real accesses -------------------------------------------------------------------------------- */

/* Ends in an I/O exit: port 0x10 after the access, 0x11 from the page-fault handler with the error
 * code in RAX. Position-independent; a copy is in a supervisor and in a user page. */
extern const char guest_code[], guest_code_end[], guest_read[], guest_write[], guest_execute[],
    guest_fault[], guest_key[];
__asm__(".pushsection .rodata\n"
        "guest_code:\n"
        "guest_read: mov (%rdi), %bl\n"
        "  out %al, $0x10\n"
        "guest_write: mov %bl, 8(%rdi)\n"
        "  out %al, $0x10\n"
        "guest_execute: jmp *%rdi\n"
        "guest_key: wrpkru\n"
        "  out %al, $0x10\n"
        "guest_fault: pop %rax\n"
        "  mov %cr2, %rbx\n"
        "  out %al, $0x11\n"
        "guest_code_end:\n"
        ".popsection\n");

#define GDT         0x1000u
#define IDT         0x2000u
#define TSS         0x3000u
#define STACK_TOP   0x5000u
#define KERNEL_CODE 0x5000u
#define USER_CODE   0x6000u
#define TARGET      0x8000u
#define TABLES      0x10000u
#define LEAVES      0x80000u
#define REGION      0x40000000u

static void put64(struct guest *g, uint64_t at, uint64_t value)
{
    memcpy(g->bytes + at, &value, 8);
}

static uint64_t get64(struct guest *g, uint64_t at)
{
    uint64_t value;
    memcpy(&value, g->bytes + at, 8);
    return value;
}

/* 64 leaves of every kind, below each of 8 kinds of upper entry. */
static void build_leaves(struct guest *g, uint64_t root)
{
    uint64_t pd = get64(g, (get64(g, root) & ~0xfffull) + 8) & ~0xfffull;
    for (uint64_t r = 0; r < 8; r++) {
        uint64_t table = LEAVES + r * 4096;
        put64(g, pd + r * 8, table | 1 | (r & 1) << 1 | (r & 2) << 1 | (r & 4) << 61);
        for (uint64_t i = 0; i < 64; i++) {
            uint64_t e = TARGET | (i & 1) | (i & 2) | (i & 4) | (i & 8) << 60;
            if ((i & 16) && g->address_bits < 52)
                e |= 1ull << 51;
            if (i & 32)
                e |= 5ull << 59; /* key 5 */
            put64(g, table + i * 8, e);
        }
    }
}

static uint64_t build_guest(struct guest *g)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *t;
    const uint32_t rwx = VMM_PAGE_WRITE | VMM_PAGE_EXECUTE;
    o.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    o.table_start = TABLES;
    o.table_length = 0x10000;
    assert_int_equal(vmm_page_table_new(g->memory, &o, &t, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, 0x1000, 0x1000, 0x5000, rwx, 0, NULL), 0);
    assert_int_equal(
        vmm_page_table_map(t, USER_CODE, USER_CODE, 4096, rwx | VMM_PAGE_USER, 0, NULL), 0);
    assert_int_equal(vmm_page_table_map(t, REGION + 0x3fe00000, 0, 4096, rwx, 0, NULL), 0);
    uint64_t root = vmm_page_table_root(t);
    vmm_page_table_free(t);
    build_leaves(g, root);
    size_t length = (size_t)(guest_code_end - guest_code);
    memcpy(g->bytes + KERNEL_CODE, guest_code, length);
    memcpy(g->bytes + USER_CODE, guest_code, length);
    memcpy(g->bytes + TARGET, "\xe6\x10", 2);  /* out %al, $0x10 */
    put64(g, GDT + 8, 0x00af9b000000ffffull);  /* 64-bit code */
    put64(g, GDT + 16, 0x00cf93000000ffffull); /* data */
    put64(g, TSS + 4, STACK_TOP);
    /* Gate 14: a 64-bit interrupt gate (SDM 3, 6.14.1). */
    uint64_t handler = KERNEL_CODE + (uint64_t)(guest_fault - guest_code);
    put64(g, IDT + 14 * 16, (handler & 0xffff) | 8u << 16 | 0x8e00ull << 32 | handler >> 16 << 48);
    return root;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code, uint8_t dpl)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = (uint16_t)(selector | dpl),
                                .type = type,
                                .present = 1,
                                .dpl = dpl,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

static void set_state(struct guest *g, uint64_t root, uint32_t cr0, uint32_t cr4, bool user,
                      struct kvm_sregs *s)
{
    assert_int_equal(ioctl(g->vcpu, KVM_GET_SREGS, s), 0);
    s->cr0 = CR0_PE | CR0_ET | CR0_PG | cr0;
    s->cr3 = root;
    s->cr4 = CR4_PAE | cr4;
    s->efer = EFER_LME | EFER_LMA | EFER_NX;
    s->cs = segment(user ? 0x20 : 8, 11, true, user ? 3 : 0);
    s->ss = s->ds = s->es = segment(user ? 0x18 : 16, 3, false, user ? 3 : 0);
    s->gdt = (struct kvm_dtable){.base = GDT, .limit = 0x2f};
    s->idt = (struct kvm_dtable){.base = IDT, .limit = 0xfff};
    s->tr = (struct kvm_segment){
        .base = TSS, .limit = 0x67, .selector = 0x28, .type = 11, .present = 1};
    assert_int_equal(ioctl(g->vcpu, KVM_SET_SREGS, s), 0);
}

/* Run one piece of guest code; the port of the exit. */
static unsigned run(struct guest *g, const char *code, bool user, uint64_t flags, uint64_t rdi,
                    struct kvm_regs *after)
{
    struct kvm_regs regs = {.rdi = rdi,
                            .rsp = STACK_TOP,
                            .rflags = 2 | 3u << 12 | flags,
                            .rip =
                                (user ? USER_CODE : KERNEL_CODE) + (uint64_t)(code - guest_code)};
    regs.rax = after->rax;
    assert_int_equal(ioctl(g->vcpu, KVM_SET_REGS, &regs), 0);
    int r = ioctl(g->vcpu, KVM_RUN, 0);
    assert_int_equal(r, 0);
    if (g->run->exit_reason != KVM_EXIT_IO)
        fail_msg("exit reason %u, suberror %u", g->run->exit_reason, g->run->internal.suberror);
    unsigned port = g->run->io.port;
    /* Complete the instruction, so that the next registers stay. */
    g->run->immediate_exit = 1;
    (void)ioctl(g->vcpu, KVM_RUN, 0);
    g->run->immediate_exit = 0;
    assert_int_equal(ioctl(g->vcpu, KVM_GET_REGS, after), 0);
    return port;
}

/* One access by the guest and by the walker. Returns whether it was permitted. */
static bool compare_access(struct guest *g, const struct vmm_paging_context *c, uint64_t address,
                           uint32_t access)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT, after = VMM_TRANSLATION_INIT;
    struct kvm_regs regs = {.rax = 0};
    bool user = access & VMM_ACCESS_USER;
    int want = vmm_paging_translate(g->memory, c, address, access, &t);
    const char *code = access & VMM_ACCESS_WRITE     ? guest_write
                       : access & VMM_ACCESS_EXECUTE ? guest_execute
                                                     : guest_read;
    unsigned port = run(g, code, user, access & VMM_ACCESS_AC ? FLAGS_AC : 0, address, &regs);
    /* QEMU's software processor leaves out P beside RSVD; SDM 3, 4.7: RSVD means P too. */
    if (port == 0x11 && t.reason == VMM_FAULT_RESERVED)
        regs.rax |= 1;
    if (port != (want == 0 ? 0x10 : 0x11) || (want != 0 && regs.rax != t.code))
        fail_msg("address %#llx, flags %#x, access %#x: library %s, code %#x; guest port %#x, code "
                 "%#llx",
                 (unsigned long long)address, c->flags, access, vmm_fault_name(t.reason), t.code,
                 port, regs.rax);
    if (want != 0) {
        assert_int_equal(regs.rbx & ~0xfffull, address & ~0xfffull);
        return false;
    }
    /* The processor has marked the leaf as the walker says it would. */
    assert_int_equal(vmm_paging_translate(g->memory, c, address, access | VMM_ACCESS_MARK, &after),
                     0);
    assert_int_equal(vmm_paging_translate(g->memory, c, address, VMM_ACCESS_ANY, &t), 0);
    assert_int_equal(t.entry, after.entry);
    return true;
}

/* All leaves and accesses under one setting of the control registers. */
static void compare_all(struct guest *g, uint64_t root, uint32_t cr0, uint32_t cr4, uint32_t keys,
                        unsigned *good, unsigned *bad)
{
    struct kvm_sregs s;
    for (uint32_t who = 0; who < 2; who++) {
        set_state(g, root, cr0, cr4, who, &s);
        struct vmm_paging_context c = context_of(g, VMM_PAGE_FORMAT_X86_4LEVEL, &s);
        c.user_keys = keys;
        if (cr4 & CR4_PKE) {
            struct kvm_regs regs = {.rax = keys};
            assert_int_equal(run(g, guest_key, who, 0, 0, &regs), 0x10);
        }
        for (unsigned n = 0; n < 8 * 64 * 3; n++) {
            uint64_t address = REGION + (uint64_t)(n / 3 / 64) * 0x200000 + n / 3 % 64 * 4096;
            uint32_t kind = n % 3 == 0 ? 0 : n % 3 == 1 ? VMM_ACCESS_WRITE : VMM_ACCESS_EXECUTE;
            uint32_t access = kind | (who ? VMM_ACCESS_USER : 0);
            if ((cr4 & CR4_SMAP) && (n & 64))
                access |= VMM_ACCESS_AC;
            set_state(g, root, cr0, cr4, who, &s);
            compare_access(g, &c, address, access) ? (*good)++ : (*bad)++;
        }
    }
}

static void agrees_with_real_accesses(void **state)
{
    struct guest *g = *state;
    uint64_t root = build_guest(g);
    unsigned good = 0, bad = 0;
    static const uint32_t settings[][2] = {
        {0, 0}, {CR0_WP, 0}, {CR0_WP, CR4_SMEP}, {CR0_WP, CR4_SMAP}, {0, CR4_SMEP | CR4_SMAP}};
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        uint32_t cr4 = settings[i][1];
        if ((cr4 & CR4_SMEP && !g->has_smep) || (cr4 & CR4_SMAP && !g->has_smap)) {
            print_message("not tested, the host lacks it: CR4 %#x\n", cr4);
            continue;
        }
        build_leaves(g, root);
        compare_all(g, root, settings[i][0], cr4, 0, &good, &bad);
    }
    print_message("%u accesses permitted, %u faults, error codes agree\n", good, bad);
    assert_true(good > 500);
    assert_true(bad > 500);
}

static void agrees_on_protection_keys(void **state)
{
    struct guest *g = *state;
    unsigned good = 0, bad = 0;
    if (!g->has_pku) {
        print_message("not tested: the host offers no protection keys\n");
        skip();
    }
    uint64_t root = build_guest(g);
    for (uint32_t rule = 1; rule < 4; rule++)
        for (uint32_t wp = 0; wp < 2; wp++) {
            build_leaves(g, root);
            compare_all(g, root, wp ? CR0_WP : 0, CR4_PKE, rule << 10, &good, &bad);
        }
    print_message("%u accesses permitted, %u faults, error codes agree\n", good, bad);
    assert_true(good > 500);
    assert_true(bad > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(agrees_with_kvm_translate, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_real_accesses, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_on_protection_keys, setup, teardown),
    };
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm_fd < 0)
        TEST_SKIP("/dev/kvm cannot be opened");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
