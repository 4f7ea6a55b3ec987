/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hot paths, one at a time, so that bench/instructions.py can count their instructions.
 *
 *   bench-hotpaths --list          the names
 *   bench-hotpaths --compiler      what made this program
 *   bench-hotpaths COUNT NAME      do it COUNT times
 *   bench-hotpaths                 the time of each
 */
#include "bench.h"

#include <libvmm/bus.h>
#include <libvmm/translate.h>
#include <libvmm/virtio.h>

#define RAM   (64ull << 20)
#define PAGE  4096ull
#define MMIO  0xd0000000ull
#define TABLE 0x1000000ull
#define HIGH  0xffff888000000000ull

/* Where the queue's parts are, and a queue's length. */
#define DESC  0x10000ull
#define AVAIL 0x20000ull
#define USED  0x30000ull
#define DATA  0x40000ull
#define QUEUE 256u
#define BURST 64u

#define F_NEXT  1u
#define F_WRITE 2u

struct world {
    struct vmm_memory *memory;
    struct vmm_memory_view view;
    struct vmm_loop *loop;
    struct vmm_bus *small, *large; /* of 10 and of 1,000 regions */
    struct vmm_device *device;
    struct vmm_translator *translator;
    struct vmm_paging_context paging;
    struct vmm_bus *bus; /* of the virtio device */
    struct vmm_virtio *virtio;
    struct vmm_virtio_chain *chain;
    bool packed;
    uint16_t avail;
};

static volatile uint64_t sink;

/* A device that takes chains and gives them back. */
static void echo(void *ctx, uint32_t index)
{
    struct world *w = ctx;
    struct vmm_virtio_queue *queue = vmm_virtio_queue(w->virtio, index);
    while (vmm_virtio_queue_pop(queue, w->chain) > 0)
        vmm_virtio_queue_push(queue, w->chain, 64);
    vmm_virtio_queue_signal(queue);
}

static uint64_t region_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx, (void)width;
    return offset;
}

static void region_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)ctx, (void)offset, (void)width;
    sink = value;
}

static struct vmm_bus *make_bus(uint64_t regions, struct vmm_device *device)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops), .read = region_read, .write = region_write};
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    struct vmm_bus *bus;
    bench_need(vmm_bus_new("MMIO", 52, &bus) == 0, "a bus");
    o.name = "bench";
    o.length = 0x1000;
    o.ops = &ops;
    o.device = device;
    for (uint64_t i = 0; i < regions; i++) {
        o.address = MMIO + i * 0x2000;
        bench_need(vmm_bus_add(bus, &o, NULL, NULL) == 0, "a region");
    }
    return bus;
}

static void make_paging(struct world *w)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_table *t;
    o.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    o.table_start = TABLE;
    o.table_length = 1 << 20;
    bench_need(vmm_page_table_new(w->memory, &o, &t, NULL) == 0, "the page table");
    bench_need(vmm_page_table_map(t, HIGH, 0, 256 * PAGE, VMM_PAGE_WRITE | VMM_PAGE_EXECUTE, PAGE,
                                  NULL) == 0,
               "mapping");
    bench_need(vmm_page_table_context(t, &c) == 0, "the context");
    vmm_page_table_free(t);
    w->paging = c;
    bench_need(vmm_translator_new(w->memory, NULL, &w->translator) == 0, "the translator");
    bench_need(vmm_translator_set_context(w->translator, &c) == 0, "its context");
}

/* The virtio device ---------------------------------------------------------------------------- */

static void set(struct world *w, uint32_t offset, uint32_t value)
{
    bench_need(vmm_bus_write(w->bus, MMIO + offset, 4, value) == 0, "a register");
}

/* VIRTIO 1.2 §3.1.1, by the registers of §4.2.2. */
static void start_queue(struct world *w)
{
    set(w, 0x70, 0);
    set(w, 0x70, 3);
    set(w, 0x24, 1);
    set(w, 0x20, 1u | (w->packed ? 1u << (VMM_VIRTIO_F_PACKED - 32) : 0));
    set(w, 0x70, 0xb);
    set(w, 0x38, QUEUE);
    set(w, 0x80, (uint32_t)DESC);
    set(w, 0x90, (uint32_t)AVAIL);
    set(w, 0xa0, (uint32_t)USED);
    set(w, 0x44, 1);
    set(w, 0x70, 0xf);
}

static void make_virtio(struct world *w, bool packed)
{
    static const struct vmm_virtio_ops ops = {.size = sizeof(ops), .notify = echo};
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    w->packed = packed;
    o.name = "bench";
    o.device_id = 4;
    o.queues = 1;
    o.memory = w->memory;
    o.loop = w->loop;
    o.ops = &ops;
    o.ctx = w;
    bench_need(vmm_bus_new("MMIO", 52, &w->bus) == 0, "a bus");
    bench_need(vmm_virtio_new(&o, &w->virtio, NULL) == 0, "the device");
    bench_need(vmm_virtio_chain_new(w->virtio, &w->chain) == 0, "a chain");
    bench_need(vmm_virtio_mmio_attach(w->virtio, w->bus, MMIO, NULL, NULL) == 0, "attaching it");
    start_queue(w);
}

/* A request as a disk gets it: a header to read, a page to write, a byte to write. */
static void put(struct world *w, uint32_t slot, uint32_t n, uint16_t flags)
{
    static const uint32_t lengths[] = {16, 4096, 1};
    uint64_t at = DESC + 16 * slot;
    uint16_t link = (uint16_t)(slot + 1);
    if (w->packed) {
        flags |= w->avail / QUEUE % 2 ? 0x8000 : 0x0080;
        link = 0;
    }
    vmm_memory_view_store_u64(&w->view, at, DATA + n * PAGE);
    vmm_memory_view_store_u32(&w->view, at + 8, lengths[n]);
    vmm_memory_view_store_u16(&w->view, at + 12, w->packed ? link : flags);
    vmm_memory_view_store_u16(&w->view, at + 14, w->packed ? flags : link);
}

static void offer(struct world *w, uint32_t i)
{
    static const uint16_t flags[] = {F_NEXT, F_NEXT | F_WRITE, F_WRITE};
    if (!w->packed) {
        for (uint32_t n = 0; n < 3; n++)
            put(w, i * 3 + n, n, flags[n]);
        vmm_memory_view_store_u16(&w->view, AVAIL + 4 + 2 * (w->avail++ % QUEUE),
                                  (uint16_t)(i * 3));
        return;
    }
    for (uint32_t n = 0; n < 3; n++) {
        put(w, w->avail % QUEUE, n, flags[n]);
        w->avail = (uint16_t)((w->avail + 1) % (2 * QUEUE));
    }
}

/* Bursts of requests; the driver's half is counted too. */
static void queue(struct world *w, uint32_t count)
{
    for (uint32_t done = 0; done < count; done += BURST) {
        for (uint32_t i = 0; i < BURST; i++)
            offer(w, i);
        if (!w->packed)
            vmm_memory_view_store_u16(&w->view, AVAIL + 2, w->avail);
        set(w, 0x50, 0);
        while (vmm_loop_dispatch(w->loop, 0) > 0)
            ;
    }
}

/* The paths ------------------------------------------------------------------------------------ */

static void view_load(struct world *w, uint32_t count)
{
    uint32_t value;
    for (uint32_t i = 0; i < count; i++) {
        (void)vmm_memory_view_load_u32(&w->view, i * 4 & 0xffff, &value);
        sink = value;
    }
}

static void map_load(struct world *w, uint32_t count)
{
    uint32_t value;
    for (uint32_t i = 0; i < count; i++) {
        (void)vmm_memory_load_u32(w->memory, i * 4 & 0xffff, &value);
        sink = value;
    }
}

static void map_store(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)vmm_memory_store_u32(w->memory, i * 4 & 0xffff, i);
}

static void map_unmap(struct world *w, uint32_t count)
{
    struct vmm_mapping m;
    for (uint32_t i = 0; i < count; i++) {
        bench_need(vmm_memory_map(w->memory, i % 64 * PAGE, PAGE, VMM_MAP_READ, &m) == 0, "map");
        vmm_memory_unmap(w->memory, &m);
    }
}

static void bus_small(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)vmm_bus_write(w->small, MMIO + i % 10 * 0x2000, 4, i);
}

static void bus_large(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)vmm_bus_write(w->large, MMIO + i % 1000 * 0x2000, 4, i);
}

static void walk(struct world *w, uint32_t count)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    for (uint32_t i = 0; i < count; i++)
        bench_need(vmm_paging_translate(w->memory, &w->paging, HIGH + i % 256 * PAGE, 0, &t) == 0,
                   "a walk");
}

static void hit(struct world *w, uint32_t count)
{
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    for (uint32_t i = 0; i < count; i++)
        bench_need(vmm_translator_lookup(w->translator, HIGH + i % 256 * PAGE, 0, &l) == 0, "hit");
}

static const struct path {
    const char *name, *told;
    void (*run)(struct world *w, uint32_t count);
    int virtio; /* 1: split, 2: packed */
} paths[] = {
    {"view-load", "4-byte read by a view", view_load, 0},
    {"map-load", "4-byte read by the map", map_load, 0},
    {"map-store", "4-byte write by the map", map_store, 0},
    {"map-unmap", "mapping a page and letting go", map_unmap, 0},
    {"bus-10", "bus access, device of 10", bus_small, 0},
    {"bus-1000", "bus access, device of 1,000", bus_large, 0},
    {"walk", "page walk, 4 levels", walk, 0},
    {"translation-hit", "translation, cached", hit, 0},
    {"queue-split", "virtio request of 3 descriptors, split", queue, 1},
    {"queue-packed", "virtio request of 3 descriptors, packed", queue, 2},
};
#define PATHS (sizeof(paths) / sizeof(paths[0]))

static void world_make(struct world *w, int virtio)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops)};
    memset(w, 0, sizeof(*w));
    bench_need(vmm_loop_new(NULL, &w->loop) == 0, "the loop");
    bench_need(vmm_memory_new(NULL, &w->memory, NULL) == 0, "memory");
    bench_need(vmm_memory_add_ram(w->memory, "ram", 0, RAM, NULL, NULL) == 0, "RAM");
    bench_need(vmm_memory_fill(w->memory, 0, 0, 1 << 20) == 0, "filling");
    vmm_memory_view_init(&w->view, w->memory);
    bench_need(vmm_device_new("bench", &ops, NULL, &w->device) == 0, "a device");
    w->small = make_bus(10, w->device);
    w->large = make_bus(1000, w->device);
    make_paging(w);
    if (virtio)
        make_virtio(w, virtio == 2);
}

static void world_unmake(struct world *w)
{
    vmm_bus_unref(w->bus);
    if (w->chain)
        vmm_virtio_chain_free(w->chain);
    vmm_virtio_unref(w->virtio);
    vmm_translator_free(w->translator);
    vmm_bus_unref(w->small);
    vmm_bus_unref(w->large);
    vmm_device_unref(w->device);
    vmm_memory_view_fini(&w->view);
    vmm_memory_unref(w->memory);
    vmm_loop_unref(w->loop);
}

static void measure(const struct path *p)
{
    struct world w;
    struct bench_figure f = {.group = "paths",
                             .name = p->told,
                             .unit = "ns",
                             .how = "one thread, everything in the caches; median of 21 rounds"};
    world_make(&w, p->virtio);
    p->run(&w, 64000);
    for (int round = 0; round < 21; round++) {
        double start = bench_now();
        p->run(&w, 64000);
        bench_add(&f.ours, (bench_now() - start) / 64000);
    }
    bench_report(&f);
    world_unmake(&w);
}

static const char *compiler(void)
{
#ifdef __OPTIMIZE__
#define OPTIMIZED " optimized"
#else
#define OPTIMIZED " not optimized"
#endif
#ifdef __clang__
    return "clang " __clang_version__ OPTIMIZED;
#else
    return "gcc " __VERSION__ OPTIMIZED;
#endif
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--compiler") == 0) {
        puts(compiler());
        return 0;
    }
    struct world w;
    bool found = argc < 3;
    for (size_t i = 0; i < PATHS; i++) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
            puts(paths[i].name);
        } else if (argc < 3) {
            measure(&paths[i]);
        } else if (strcmp(argv[2], paths[i].name) == 0) {
            world_make(&w, paths[i].virtio);
            paths[i].run(&w, (uint32_t)strtoul(argv[1], NULL, 0));
            world_unmake(&w);
            found = true;
        }
    }
    if (!found)
        fprintf(stderr, "bench-hotpaths: no path %s\n", argv[2]);
    return !found;
}
