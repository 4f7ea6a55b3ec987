/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What guest memory costs: a checked 4-byte read, by a view and by the map; copies of 4 KiB beside
 * memcpy; the list of a typical request; harvesting the dirty log of 1 GiB, with KVM's bitmap where
 * there is /dev/kvm. Eight regions, as a PC with holes has them.
 */
#include "bench.h"

#include <libvmm/dirty.h>

#include <sys/uio.h>

#define RAM  ((uint64_t)1 << 30)
#define PAGE ((uint64_t)4096)

#define now  bench_now
#define need bench_need

/* The shortest of a hundred rounds, in ns for each call: short ones, so that some are undisturbed. */
#define MEASURE(result, calls, body)                                                               \
    do {                                                                                           \
        result = 1e18;                                                                             \
        for (int round_ = 0; round_ < 100; round_++) {                                             \
            double start_ = now();                                                                 \
            for (uint32_t i = 0; i < (calls); i++) {                                               \
                body;                                                                              \
            }                                                                                      \
            double each_ = (now() - start_) / (calls);                                             \
            if (each_ < result)                                                                    \
                result = each_;                                                                    \
        }                                                                                          \
    } while (0)

static void add_regions(struct vmm_memory *memory)
{
    static const uint64_t holes[] = {0xc0000000,  0xd0000000,  0xe0000000, 0xf0000000,
                                     0x100000000, 0x110000000, 0x120000000};
    need(vmm_memory_add_ram(memory, "ram", 0, RAM, NULL, NULL) == 0, "adding RAM");
    for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++)
        need(vmm_memory_add_ram(memory, "more", holes[i], 16 * PAGE, NULL, NULL) == 0, "adding");
}

static void reads(struct vmm_memory *memory)
{
    struct vmm_memory_view view;
    uint32_t value;
    double by_view, by_map, store_view, store_map;
    vmm_memory_view_init(&view, memory);
    need(vmm_memory_fill(memory, 0, 1, 64 * PAGE) == 0, "filling");
    MEASURE(by_view, 200000u, (void)vmm_memory_view_load_u32(&view, i * 4 & 0xffff, &value);
            __asm__ volatile("" ::"r"(value)));
    MEASURE(by_map, 100000u, (void)vmm_memory_load_u32(memory, i * 4 & 0xffff, &value);
            __asm__ volatile("" ::"r"(value)));
    MEASURE(store_view, 100000u, (void)vmm_memory_view_store_u32(&view, i * 4 & 0xffff, i));
    MEASURE(store_map, 100000u, (void)vmm_memory_store_u32(memory, i * 4 & 0xffff, i));
    bench_value("memory", "4-byte read by a view", by_view, "ns", 5);
    bench_value("memory", "4-byte read by the map", by_map, "ns", 0);
    bench_value("memory", "4-byte write by a view", store_view, "ns", 0);
    bench_value("memory", "4-byte write by the map", store_map, "ns", 0);
    vmm_memory_view_fini(&view);
}

static void beside_memcpy(const char *name, double ours, double plain, double min_ratio)
{
    struct bench_figure f = {.group = "memory",
                             .name = name,
                             .unit = "ns",
                             .peer = "memcpy",
                             .min_ratio = min_ratio,
                             .how = "the shortest of a hundred rounds over the same 1 MiB"};
    bench_add(&f.ours, ours);
    bench_add(&f.theirs, plain);
    bench_report(&f);
}

/* Both sides walk over the same 1 MiB, in turn, so that the caches are the same. */
static void copies(struct vmm_memory *memory)
{
    static uint8_t page[4096], plain_memory[1 << 20];
    struct vmm_memory_view view;
    double plain, by_map, by_view, write;
    vmm_memory_view_init(&view, memory);
    memset(plain_memory, 1, sizeof(plain_memory));
    need(vmm_memory_fill(memory, 0, 1, 1 << 20) == 0, "filling");
    MEASURE(plain, 10000u, memcpy(page, plain_memory + (i * PAGE & 0xfffff), PAGE);
            __asm__ volatile("" ::"r"(page)
                             : "memory"));
    MEASURE(by_map, 10000u, (void)vmm_memory_read(memory, i * PAGE & 0xfffff, page, PAGE));
    MEASURE(by_view, 10000u, (void)vmm_memory_view_read(&view, i * PAGE & 0xfffff, page, PAGE));
    MEASURE(write, 10000u, (void)vmm_memory_write(memory, i * PAGE & 0xfffff, page, PAGE));
    beside_memcpy("4 KiB read by a view", by_view, plain, 0.9);
    beside_memcpy("4 KiB read by the map", by_map, plain, 0);
    beside_memcpy("4 KiB write by the map", write, plain, 0);
    vmm_memory_view_fini(&view);
}

static void lists(struct vmm_memory *memory)
{
    struct vmm_guest_range ranges[8];
    struct iovec iov[8];
    double each;
    for (uint64_t i = 0; i < 8; i++)
        ranges[i] = (struct vmm_guest_range){i * 3 * PAGE, PAGE};
    MEASURE(each, 10000u, {
        struct vmm_scatter s;
        if (vmm_memory_map_list(memory, ranges, 8, VMM_MAP_WRITE, iov, 8, 0, &s) == 0)
            vmm_memory_unmap_list(memory, &s, s.length);
    });
    bench_value("memory", "list of 8 ranges, mapped and released", each, "ns", 0);
}

static int count_range(void *ctx, const struct vmm_dirty_range *range)
{
    *(uint64_t *)ctx += range->length / PAGE;
    return 0;
}

/* Every `step`th page of 1 GiB written; the writes are not measured. */
static void harvest(struct vmm_memory *memory, struct vmm_dirty_consumer *c, uint64_t step,
                    const char *what)
{
    double best = 1e18;
    uint64_t pages = 0;
    char name[96];
    for (int round = 0; round < 7; round++) {
        for (uint64_t page = 0; step && page < RAM / PAGE; page += step)
            need(vmm_memory_mark_dirty(memory, page * PAGE, 1) == 0, "marking");
        pages = 0;
        double start = now();
        need(vmm_dirty_harvest(c, count_range, &pages) == 0, "harvesting");
        double each = now() - start;
        best = each < best ? each : best;
    }
    snprintf(name, sizeof(name), "harvest 1 GiB, %s", what);
    bench_need(pages == (step ? RAM / PAGE / step : 0), "finding the pages");
    bench_value("dirty", name, best / 1000, "us", 0);
}

static void harvests(struct vmm_vm *vm, const char *log)
{
    struct vmm_memory *memory;
    struct vmm_dirty_consumer *c;
    char what[64];
    need(vmm_memory_new(vm, &memory, NULL) == 0, "making a map");
    need(vmm_memory_add_ram(memory, "ram", 0, RAM, NULL, NULL) == 0, "adding RAM");
    need(vmm_dirty_consumer_new(memory, NULL, &c, NULL) == 0, "starting the log");
    static const uint64_t steps[] = {0, 1, 2, 64, 4096};
    static const char *const names[] = {"clean", "all", "half", "1 in 64", "1 in 4096"};
    for (size_t i = 0; i < 5; i++) {
        snprintf(what, sizeof(what), "%s, %s", log, names[i]);
        harvest(memory, c, steps[i], what);
    }
    vmm_dirty_consumer_free(c);
    vmm_memory_unref(memory);
}

int main(void)
{
    struct vmm_memory *memory;
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_error err = VMM_ERROR_INIT;
    need(vmm_memory_new(NULL, &memory, NULL) == 0, "making a map");
    add_regions(memory);
    reads(memory);
    copies(memory);
    lists(memory);
    vmm_memory_unref(memory);
    harvests(NULL, "own log");
    if (vmm_host_open(NULL, &host, &err) != 0) {
        printf("without KVM's log: %s\n", err.text);
        return 0;
    }
    need(vmm_vm_new(host, NULL, &vm, &err) == 0, err.text);
    harvests(vm, "with KVM's bitmap");
    vmm_vm_unref(vm);
    vmm_host_unref(host);
    return 0;
}
