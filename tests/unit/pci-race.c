/* SPDX-License-Identifier: BSD-3-Clause */
/* vCPUs that configure, move and use PCI functions while others plug them and send interrupts. Each access
 * either finds a function or not; ThreadSanitizer looks for more. */
#include "test.h"

#include <libvmm/loop.h>
#include <libvmm/pci.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define ECAM      0xe0000000u
#define WINDOW    0xc0000000u
#define FUNCTIONS 3u

struct race {
    struct vmm_memory *memory;
    struct vmm_bus *mmio;
    struct vmm_loop *loop;
    struct vmm_pci_host *host;
    struct vmm_pci_bridge *port;
    struct vmm_pci *functions[FUNCTIONS]; /* the last is plugged and unplugged */
    _Atomic bool stop;
    _Atomic uint64_t messages, reads, line_changes;
};

static int count_message(void *ctx, const struct vmm_msi *msi)
{
    struct race *r = ctx;
    (void)msi;
    r->messages++;
    return 1;
}

static void count_level(void *ctx, uint32_t level)
{
    struct race *r = ctx;
    (void)level;
    r->line_changes++;
}

static uint64_t count_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct race *r = ctx;
    (void)bar, (void)offset, (void)width;
    r->reads++;
    return 0;
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Puts BARs and windows over each other, and masks and unmasks. */
static void *configure(void *ctx)
{
    struct race *r = ctx;
    uint32_t seed = 1;
    while (!r->stop) {
        uint32_t slot = 1 + next(&seed) % 3, value = next(&seed);
        uint64_t at = ECAM + slot * 0x8000;
        if (value & 8)
            at = ECAM + (1u << 20); /* behind the port */
        vmm_bus_write(r->mmio, at + 0x10 + (value & 4), 4, WINDOW + (value >> 4 & 7) * 0x1000);
        vmm_bus_write(r->mmio, at + 4, 2, value >> 8 & 0x407);
        vmm_bus_write(r->mmio, ECAM + 3 * 0x8000 + 0x20, 4, value & 0x1000 ? 0xfff00000 : 0xfff0);
        vmm_bus_write(r->mmio, ECAM + 3 * 0x8000 + 0x18, 4, 0x010100);
        vmm_bus_write(r->mmio, ECAM + 3 * 0x8000 + 4, 2, 7);
        vmm_bus_write(r->mmio, at + 0x42, 2, value & 0xc000);
    }
    return NULL;
}

static void *use(void *ctx)
{
    struct race *r = ctx;
    uint32_t seed = 2;
    while (!r->stop) {
        uint64_t value, at = WINDOW + (next(&seed) & 0x7fff);
        (void)vmm_bus_read(r->mmio, at, 4, &value);
        (void)vmm_bus_write(r->mmio, at & ~UINT64_C(7), 8, next(&seed));
        (void)vmm_memory_load_u64(r->memory, at, &value);
    }
    return NULL;
}

static void *interrupt(void *ctx)
{
    struct race *r = ctx;
    uint32_t seed = 3;
    while (!r->stop) {
        struct vmm_pci *pci = r->functions[next(&seed) % FUNCTIONS];
        (void)vmm_pci_signal(pci, next(&seed) % 3);
        vmm_pci_set_intx(pci, next(&seed) & 1);
        if ((next(&seed) & 15) == 0)
            vmm_device_reset(vmm_pci_device(pci));
    }
    return NULL;
}

static void open_race(struct race *r)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops), .bar_read = count_read};
    static const char *const names[] = {"a", "b", "c"};
    struct vmm_pci_host_options h = VMM_PCI_HOST_OPTIONS_INIT;
    struct vmm_pci_bridge_options b = VMM_PCI_BRIDGE_OPTIONS_INIT;
    memset(r, 0, sizeof(*r));
    assert_int_equal(vmm_memory_new(NULL, &r->memory, NULL), 0);
    assert_int_equal(vmm_bus_new("memory", 64, &r->mmio), 0);
    assert_int_equal(vmm_loop_new(NULL, &r->loop), 0);
    h.name = "host";
    h.memory = r->memory;
    h.mmio = r->mmio;
    h.ecam_address = ECAM;
    h.buses = 2;
    h.window = (struct vmm_pci_window){WINDOW, 0x1000000};
    h.signal_msi = count_message;
    h.signal_msi_ctx = r;
    for (int i = 0; i < 4; i++)
        assert_int_equal(vmm_irq_line_new_callback(count_level, r, &h.intx[i]), 0);
    assert_int_equal(vmm_pci_host_new(&h, &r->host, NULL), 0);
    b.name = "port";
    b.slot = 3;
    b.express = 1;
    b.loop = r->loop;
    assert_int_equal(vmm_pci_bridge_new(r->host, &b, &r->port, NULL), 0);
    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        struct vmm_memory_region_options m = VMM_MEMORY_REGION_OPTIONS_INIT;
        struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
        m.type = VMM_MEMORY_DEVICE;
        m.length = 0x1000;
        if (i == 1)
            assert_int_equal(vmm_memory_region_new(&m, &o.bars[0].memory, NULL), 0);
        o.name = names[i];
        o.bars[0].length = 0x1000;
        o.interrupt_pin = 1;
        o.msix_vectors = 3;
        o.msix_bar = 1;
        o.ops = &ops;
        o.ctx = r;
        assert_int_equal(vmm_pci_new(&o, &r->functions[i], NULL), 0);
        vmm_memory_region_unref(o.bars[0].memory);
        if (i + 1 < FUNCTIONS)
            assert_int_equal(vmm_pci_host_add(r->host, r->functions[i], 1 + i, 0, NULL), 0);
    }
}

static void close_race(struct race *r)
{
    vmm_pci_bridge_unref(r->port);
    vmm_pci_host_unref(r->host);
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        vmm_pci_unref(r->functions[i]);
    vmm_bus_unref(r->mmio);
    vmm_memory_unref(r->memory);
    vmm_loop_unref(r->loop);
}

static void all_at_once(void **state)
{
    static void *(*const jobs[])(void *) = {configure, use, interrupt};
    struct race r;
    pthread_t threads[3];
    struct timespec start, now;
    (void)state;
    open_race(&r);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, jobs[i], &r), 0);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        assert_int_equal(vmm_pci_bridge_add(r.port, r.functions[2], 0, 0, NULL), 0);
        (void)vmm_pci_bridge_eject(r.port);
        (void)vmm_loop_dispatch(r.loop, 1);
        int rc = vmm_pci_host_remove(r.host, r.functions[2]);
        assert_true(rc == 0 || rc == -ENOENT); /* unless the guest's power switch was first */
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < 2);
    r.stop = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(r.messages > 0 && r.reads > 0 && r.line_changes > 0);
    close_race(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
