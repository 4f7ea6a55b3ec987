/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a translation costs: a walk in software, a hit of the translation cache, KVM_TRANSLATE; and
 * reading eight bytes by each. 64-bit mode, 4 KiB pages, 256 pages in random order.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libvmm/memory.h>
#include <libvmm/translate.h>

#define RAM    (64ull << 20)
#define TABLES 0x1000000ull
#define BASE   0xffff888000000000ull
#define PAGES  256u

static uint64_t order[4096];
static volatile uint64_t sink;

#define now  bench_now
#define need bench_need

/* The shortest of five rounds, in ns for each call. */
#define MEASURE(result, calls, body)                                                               \
    do {                                                                                           \
        result = 1e18;                                                                             \
        for (int round_ = 0; round_ < 5; round_++) {                                               \
            double start_ = now();                                                                 \
            for (uint32_t i = 0; i < (calls); i++) {                                               \
                uint64_t va = order[i % 4096];                                                     \
                body;                                                                              \
            }                                                                                      \
            double each_ = (now() - start_) / (calls);                                             \
            if (each_ < result)                                                                    \
                result = each_;                                                                    \
        }                                                                                          \
    } while (0)

static struct vmm_paging_context build(struct vmm_memory *memory)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_table *t;
    o.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    o.table_start = TABLES;
    o.table_length = 1 << 20;
    need(vmm_page_table_new(memory, &o, &t, NULL) == 0, "the page table");
    need(vmm_page_table_map(t, BASE, 0, PAGES * 4096ull, VMM_PAGE_WRITE | VMM_PAGE_EXECUTE, 4096,
                            NULL) == 0,
         "mapping");
    need(vmm_page_table_context(t, &c) == 0, "the context");
    vmm_page_table_free(t);
    return c;
}

/* KVM_TRANSLATE of a vCPU that uses these tables; -1: no KVM. */
static int make_vcpu(struct vmm_memory *memory, struct vmm_mapping *ram, uint64_t root)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return -1;
    need(vmm_memory_map(memory, 0, RAM, VMM_MAP_READ, ram) == 0, "mapping RAM");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    struct kvm_userspace_memory_region slot = {.memory_size = RAM,
                                               .userspace_addr = (uintptr_t)ram->data};
    struct kvm_sregs s;
    need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0, "the memory slot");
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    need(vcpu >= 0 && ioctl(vcpu, KVM_GET_SREGS, &s) == 0, "the vCPU");
    s.cr0 = 0x80010011;
    s.cr3 = root;
    s.cr4 = 0x20;
    s.efer = 0x500;
    s.cs.l = 1;
    s.cs.db = 0;
    need(ioctl(vcpu, KVM_SET_SREGS, &s) == 0, "64-bit mode");
    return vcpu;
}

static void beside(const char *name, double ours, const char *peer, double theirs, double goal)
{
    struct bench_figure f = {.group = "translation",
                             .name = name,
                             .unit = "ns",
                             .peer = peer,
                             .min_ratio = goal,
                             .how = "256 pages in random order; the shortest of five rounds"};
    bench_add(&f.ours, ours);
    bench_add(&f.theirs, theirs);
    bench_report(&f);
}

int main(void)
{
    struct vmm_memory *memory;
    struct vmm_translator *translator;
    struct vmm_translation tr = VMM_TRANSLATION_INIT;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    struct vmm_mapping ram;
    double walk, hit, read_hit, kvm = 0;
    need(vmm_memory_new(NULL, &memory, NULL) == 0, "memory");
    need(vmm_memory_add_ram(memory, "ram", 0, RAM, NULL, NULL) == 0, "RAM");
    struct vmm_paging_context c = build(memory);
    need(vmm_translator_new(memory, NULL, &translator) == 0, "the translator");
    need(vmm_translator_set_context(translator, &c) == 0, "the translator's context");
    for (size_t i = 0; i < 4096; i++)
        order[i] = BASE + (i * 2654435761u >> 7) % PAGES * 4096 + i % 500 * 8;

    MEASURE(walk, 1000000, {
        need(vmm_paging_translate(memory, &c, va, 0, &tr) == 0, "a walk");
        sink = tr.physical;
    });
    MEASURE(hit, 4000000, {
        need(vmm_translator_lookup(translator, va, 0, &l) == 0, "a lookup");
        sink = l.physical;
    });
    MEASURE(read_hit, 4000000, {
        uint64_t value;
        need(vmm_translator_read_u64(translator, va, &value) == 0, "a read");
        sink = value;
    });
    bench_value("translation", "walk, 4 levels", walk, "ns", 0);
    beside("cached, beside a walk", hit, "walk", walk, 5);
    bench_value("translation", "read of 8 bytes, cached", read_hit, "ns", 0);
    int vcpu = make_vcpu(memory, &ram, c.root);
    if (vcpu >= 0) {
        MEASURE(kvm, 100000, {
            struct kvm_translation k = {.linear_address = va};
            need(ioctl(vcpu, KVM_TRANSLATE, &k) == 0 && k.valid, "KVM_TRANSLATE");
            sink = k.physical_address;
        });
        beside("cached, beside KVM", hit, "KVM_TRANSLATE", kvm, 20);
        beside("walk, beside KVM", walk, "KVM_TRANSLATE", kvm, 0);
        close(vcpu);
    } else {
        printf("KVM_TRANSLATE         not measured: /dev/kvm cannot be opened\n");
    }
    vmm_translator_free(translator);
    vmm_memory_unref(memory);
    return 0;
}
