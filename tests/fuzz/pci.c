/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI against a guest that writes anything anywhere: configuration space by both mechanisms, every BAR,
 * plugging, reset, saving and loading. Checked: BARs that answer lie in the windows and overlap neither
 * each other nor RAM, pins and lines agree, and a saved state is taken again.
 */
#include "fuzz.h"

#include <libvmm/pci.h>
#include <libvmm/virtio.h>

#include <stdlib.h>
#include <string.h>

#define FUNCTIONS     4u
#define ECAM          0xe0000000u
#define WINDOW        0xc0000000u
#define WINDOW_LENGTH 0x1000000u
#define HIGH          0x800000000u
#define RAM_AT        (WINDOW + 0x800000u) /* in the window, where it should not be */

struct function {
    struct world *world;
    struct vmm_pci *pci;
    bool plugged;
    uint64_t lengths[7], at[7];
    bool port[7], placed[7];
};

struct world {
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_bus *mmio, *ports;
    struct vmm_pci_host *host;
    struct vmm_virtio *virtio;
    struct vmm_pci_bridge *bridge, *port; /* function 3 is behind the one, 2 behind the other */
    struct function functions[FUNCTIONS];
    uint32_t messages;
};

/* Callbacks ------------------------------------------------------------------------------------ */

static int signal_msi(void *ctx, const struct vmm_msi *msi)
{
    struct world *w = ctx;
    FUZZ_CHECK(msi->device_id < 256);
    w->messages++;
    return 1;
}

static void set_line(void *ctx, uint32_t level)
{
    (void)ctx;
    FUZZ_CHECK(level <= 1);
}

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct function *f = ctx;
    FUZZ_CHECK(bar < 7 && offset + width <= f->lengths[bar]);
    return offset;
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)value;
    (void)bar_read(ctx, bar, offset, width);
}

static void bar_placed(void *ctx, uint32_t bar, bool enabled, uint64_t address)
{
    struct function *f = ctx;
    FUZZ_CHECK(f->placed[bar] != enabled);
    FUZZ_CHECK(enabled || f->at[bar] == address);
    f->placed[bar] = enabled;
    f->at[bar] = address;
}

static void unplugged(void *ctx, struct vmm_pci *pci)
{
    struct world *w = ctx;
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        if (w->functions[i].pci == pci)
            w->functions[i].plugged = false;
}

/* Invariants ----------------------------------------------------------------------------------- */

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
    return a < b + b_length && b < a + a_length;
}

static void check_bar(const struct world *w, const struct function *f, uint32_t bar)
{
    uint64_t at = f->at[bar], length = f->lengths[bar];
    bool low = at >= WINDOW && at + length <= WINDOW + WINDOW_LENGTH;
    bool high = at >= HIGH && at + length <= HIGH * 2;
    FUZZ_CHECK(f->plugged);
    FUZZ_CHECK(f->port[bar] ? at >= 0x1000 && at + length <= 0x10000 : low || high);
    FUZZ_CHECK(f->port[bar] || !overlap(at, length, RAM_AT, 0x1000));
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        for (uint32_t k = 0; k < 7; k++) {
            const struct function *other = &w->functions[i];
            bool same = other == f && k == bar;
            if (!same && other->placed[k] && other->port[k] == f->port[bar])
                FUZZ_CHECK(!overlap(at, length, other->at[k], other->lengths[k]));
        }
}

static void check_world(const struct world *w)
{
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        for (uint32_t k = 0; k < 7; k++)
            if (w->functions[i].placed[k])
                check_bar(w, &w->functions[i], k);
}

/* Building ------------------------------------------------------------------------------------- */

static void take_declared(struct function *f, const struct vmm_pci_options *o)
{
    for (uint32_t i = 0; i < 7; i++) {
        const struct vmm_pci_bar *bar = i == 6 ? &o->rom : &o->bars[i];
        f->lengths[i] = bar->length;
        f->port[i] = bar->flags & VMM_PCI_BAR_PORT;
    }
    if (o->msix_vectors)
        f->lengths[o->msix_bar] = 0x1000;
}

static void plug_in(struct world *w, uint32_t index)
{
    struct vmm_pci *pci = w->functions[index].pci;
    struct vmm_pci_bridge *above = index == 3 ? w->bridge : w->port;
    w->functions[index].plugged = true;
    int rc = index < 2 ? vmm_pci_host_add(w->host, pci, 1, index, NULL)
                       : vmm_pci_bridge_add(above, pci, 0, 0, NULL);
    FUZZ_CHECK(rc == 0);
}

static void make_function(struct world *w, uint32_t index)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .bar_read = bar_read,
                                           .bar_write = bar_write,
                                           .bar_placed = bar_placed};
    struct vmm_memory_region_options m = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    struct function *f = &w->functions[index];
    f->world = w;
    o.name = names[index];
    o.interrupt_pin = (uint8_t)(index + 1);
    o.bars[0].length = UINT64_C(0x1000) << index;
    o.bars[1] = (struct vmm_pci_bar){.length = 0x20, .flags = VMM_PCI_BAR_PORT};
    o.bars[2] = (struct vmm_pci_bar){.length = 0x4000, .flags = VMM_PCI_BAR_64};
    o.rom.length = 0x800;
    o.capabilities = index;
    o.msi_vectors = 1u << (2 * index % 6);
    o.msi_flags = index;
    o.msix_vectors = index & 1 ? 3 : 0;
    o.msix_bar = 4;
    if (index == 2) {
        m.type = VMM_MEMORY_DEVICE;
        m.length = o.bars[2].length;
        FUZZ_CHECK(vmm_memory_region_new(&m, &o.bars[2].memory, NULL) == 0);
    }
    o.ops = &ops;
    o.ctx = f;
    FUZZ_CHECK(vmm_pci_new(&o, &f->pci, NULL) == 0);
    vmm_memory_region_unref(o.bars[2].memory);
    take_declared(f, &o);
    plug_in(w, index);
}

static void make_bridge(struct world *w, uint32_t express, struct vmm_pci_bridge **out)
{
    struct vmm_pci_bridge_options o = VMM_PCI_BRIDGE_OPTIONS_INIT;
    o.name = express ? "port" : "bridge";
    o.slot = 4 + express;
    o.express = express;
    o.loop = w->loop;
    o.unplugged = unplugged;
    o.ctx = w;
    FUZZ_CHECK(vmm_pci_bridge_new(w->host, &o, out, NULL) == 0);
}

static void open_world(struct world *w)
{
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_pci_options p = VMM_VIRTIO_PCI_OPTIONS_INIT;
    memset(w, 0, sizeof(*w));
    FUZZ_CHECK(vmm_memory_new(NULL, &w->memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(w->memory, "ram", 0, 0x10000, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(w->memory, "odd", RAM_AT, 0x1000, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &w->mmio) == 0);
    FUZZ_CHECK(vmm_bus_new("port", 16, &w->ports) == 0);
    FUZZ_CHECK(vmm_loop_new(NULL, &w->loop) == 0);
    o.name = "host";
    o.memory = w->memory;
    o.mmio = w->mmio;
    o.ports = w->ports;
    o.ecam_address = ECAM;
    o.buses = 2;
    o.config_port = 0xcf8;
    o.port_window = (struct vmm_pci_window){0x1000, 0xf000};
    o.window = (struct vmm_pci_window){WINDOW, WINDOW_LENGTH};
    o.high_window = (struct vmm_pci_window){HIGH, HIGH};
    o.signal_msi = signal_msi;
    o.signal_msi_ctx = w;
    for (int i = 0; i < 4; i++)
        FUZZ_CHECK(vmm_irq_line_new_callback(set_line, w, &o.intx[i]) == 0);
    FUZZ_CHECK(vmm_pci_host_new(&o, &w->host, NULL) == 0);
    make_bridge(w, 0, &w->bridge);
    make_bridge(w, 1, &w->port);
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        make_function(w, i);
    place.name = "rng";
    place.memory = w->memory;
    place.loop = w->loop;
    p.slot = 3;
    p.transitional = 1;
    FUZZ_CHECK(vmm_virtio_rng_new(&place, &w->virtio, NULL) == 0);
    FUZZ_CHECK(vmm_virtio_pci_attach(w->virtio, w->host, &p, NULL) == 0);
}

static void close_world(struct world *w)
{
    vmm_pci_host_unref(w->host);
    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        for (uint32_t k = 0; k < 7; k++)
            FUZZ_CHECK(!w->functions[i].placed[k]);
        vmm_pci_unref(w->functions[i].pci);
    }
    vmm_pci_bridge_unref(w->bridge);
    vmm_pci_bridge_unref(w->port);
    vmm_virtio_unref(w->virtio);
    vmm_bus_unref(w->mmio);
    vmm_bus_unref(w->ports);
    vmm_loop_unref(w->loop);
    vmm_memory_unref(w->memory);
}

/* Steps ---------------------------------------------------------------------------------------- */

static uint32_t width_of(struct fuzz_input *in)
{
    return 1u << (fuzz_u8(in) & 3);
}

static uint64_t value_of(struct fuzz_input *in)
{
    uint64_t value = fuzz_u32(in);
    return fuzz_u8(in) & 1 ? value << 32 | value : value;
}

static void access_bus(struct vmm_bus *bus, uint64_t address, struct fuzz_input *in)
{
    uint32_t width = width_of(in);
    uint64_t value;
    if (fuzz_u8(in) & 1)
        (void)vmm_bus_write(bus, address, width, value_of(in));
    else
        (void)vmm_bus_read(bus, address, width, &value);
}

/* Functions that are there, mostly; any register. */
static void configure(struct world *w, struct fuzz_input *in)
{
    uint8_t where = fuzz_u8(in);
    uint32_t function = (where & 0x10u ? 1u << 8 : 0) + (where & 7u) % 6 * 8 + (where >> 3 & 1);
    uint32_t offset = fuzz_u8(in);
    if (where & 0x40) {
        (void)vmm_bus_write(w->ports, 0xcf8, 4, 0x80000000u | function << 8 | (offset & 0xfc));
        access_bus(w->ports, 0xcfc + (offset & 3), in);
    } else {
        access_bus(w->mmio, ECAM + function * 0x1000 + offset, in);
    }
}

/* BAR and command in one: the usual way that one gets somewhere. */
static void place_bar(struct world *w, struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in);
    static const uint32_t places[] = {1 << 3, 1 << 3 | 1, 1 << 8, 3 << 3};
    uint32_t function = places[what & 3], bar = (what >> 2 & 7) % 6;
    uint32_t address =
        WINDOW + (uint32_t)fuzz_u8(in) * 0x10000u + (uint32_t)(fuzz_u8(in) & 0xf0) * 16;
    (void)vmm_pci_host_config_write(w->host, (what & 0x20 ? 4u : 5u) << 3, 0x18, 4, 0x010100);
    (void)vmm_pci_host_config_write(w->host, (what & 0x20 ? 4u : 5u) << 3, 0x20, 4, 0xfff00000);
    (void)vmm_pci_host_config_write(w->host, (what & 0x20 ? 4u : 5u) << 3, 4, 2, 7);
    if (bar == 1)
        address = 0x1000 + (address & 0xffe0);
    (void)vmm_pci_host_config_write(w->host, function, 0x10 + 4 * bar, 4, address);
    (void)vmm_pci_host_config_write(w->host, function, 4, 2, 7);
}

static void save_and_load(struct vmm_device *device, uint8_t flip)
{
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    uint8_t *data;
    size_t length;
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    FUZZ_CHECK(vmm_device_save(device, writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, (void **)&data, &length) == 0);
    vmm_state_writer_free(writer);
    if (flip)
        data[(size_t)flip * 37 % length] ^= flip;
    if (vmm_state_reader_new(data, length, &reader, NULL) == 0) {
        int rc = vmm_device_load(device, reader, NULL);
        FUZZ_CHECK(flip || rc == 0);
        vmm_state_reader_free(reader);
    } else {
        FUZZ_CHECK(flip);
    }
    free(data);
}

static void plug(struct world *w, uint8_t which)
{
    struct function *f = &w->functions[which % FUNCTIONS];
    if (f->plugged) {
        FUZZ_CHECK(vmm_pci_host_remove(w->host, f->pci) == 0);
        f->plugged = false;
    } else {
        plug_in(w, which % FUNCTIONS);
    }
}

static struct vmm_device *device_of(struct world *w, uint8_t which)
{
    switch (which >> 6) {
    case 1:
        return vmm_pci_device(vmm_pci_bridge_function(w->port));
    case 2:
        return vmm_virtio_device(w->virtio);
    case 3:
        return vmm_pci_device(vmm_pci_bridge_function(w->bridge));
    default:
        return vmm_pci_device(w->functions[which % FUNCTIONS].pci);
    }
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in), arg = fuzz_u8(in);
    struct function *f = &w->functions[arg % FUNCTIONS];
    switch (what % 12) {
    case 0:
    case 1:
    case 2:
        configure(w, in);
        break;
    case 3:
        place_bar(w, in);
        break;
    case 4:
        access_bus(w->mmio, WINDOW + arg * 0x10000u + (fuzz_u32(in) & 0xffff), in);
        break;
    case 5:
        access_bus(w->ports, 0x1000 + (fuzz_u32(in) & 0xefff), in);
        break;
    case 6:
        (void)vmm_pci_signal(f->pci, arg >> 2);
        break;
    case 7:
        vmm_pci_set_intx(f->pci, arg >> 2 & 1);
        break;
    case 8:
        vmm_device_reset(device_of(w, arg));
        break;
    case 9:
        save_and_load(device_of(w, arg), fuzz_u8(in));
        break;
    case 10:
        plug(w, arg);
        break;
    default:
        if (arg & 2)
            (void)vmm_pci_bridge_eject(w->port);
        if (arg & 1)
            (void)vmm_pci_host_assign(w->host, NULL);
        (void)vmm_loop_dispatch(w->loop, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct world w;
    open_world(&w);
    while (in.left > 0) {
        step(&w, &in);
        check_world(&w);
    }
    close_world(&w);
    return 0;
}
