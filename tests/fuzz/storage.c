/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disk controllers against a driver that writes anything into registers and memory: AHCI, IDE, floppy and
 * DMA on one bus, with lists and tables at the places that they are told. Sanitizers and bounds watch;
 * checked is that a state that was saved is taken again.
 */
#include "fuzz.h"

#include <libvmm/block-filters.h>
#include <libvmm/floppy.h>
#include <libvmm/storage.h>

#include <stdlib.h>
#include <string.h>

#define ABAR 0xc0000000u
#define BM   0x1000u
#define RAM  0x10000u

struct world {
    struct vmm_memory *memory;
    struct vmm_bus *mmio, *ports;
    struct vmm_loop *loop;
    struct vmm_pci_host *host;
    struct vmm_block *disk, *floppy_image;
    struct vmm_ahci *ahci;
    struct vmm_ide *ide;
    struct vmm_dma *dma;
    struct vmm_floppy *floppy;
};

static int signal_msi(void *ctx, const struct vmm_msi *msi)
{
    (void)ctx;
    (void)msi;
    return 1;
}

static struct vmm_block *image(struct world *w, uint64_t length)
{
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_block *block;
    o.length = length;
    FUZZ_CHECK(vmm_block_memory_new(w->loop, &o, &block, NULL) == 0);
    return block;
}

static void make_controllers(struct world *w)
{
    struct vmm_ahci_options a = VMM_AHCI_OPTIONS_INIT;
    struct vmm_ide_options i = VMM_IDE_OPTIONS_INIT;
    struct vmm_floppy_options f = VMM_FLOPPY_OPTIONS_INIT;
    struct vmm_drive_options d = VMM_DRIVE_OPTIONS_INIT;
    a.name = "ahci";
    i.name = "ide";
    f.name = "floppy";
    a.memory = i.memory = w->memory;
    a.loop = i.loop = f.loop = w->loop;
    i.ports = w->ports;
    FUZZ_CHECK(vmm_ahci_new(&a, &w->ahci, NULL) == 0);
    FUZZ_CHECK(vmm_ide_new(&i, &w->ide, NULL) == 0);
    FUZZ_CHECK(vmm_dma_new("dma", w->memory, &w->dma) == 0);
    f.dma = w->dma;
    f.block = w->floppy_image;
    FUZZ_CHECK(vmm_floppy_new(&f, &w->floppy, NULL) == 0);
    FUZZ_CHECK(vmm_dma_attach(w->dma, w->ports, NULL) == 0);
    FUZZ_CHECK(vmm_floppy_attach(w->floppy, w->ports, NULL) == 0);
    d.block = w->disk;
    for (uint32_t n = 0; n < 2; n++) {
        d.type = n ? VMM_DRIVE_CDROM : VMM_DRIVE_DISK;
        FUZZ_CHECK(vmm_ahci_plug(w->ahci, n, &d, NULL) == 0);
        FUZZ_CHECK(vmm_ide_plug(w->ide, n, &d, NULL) == 0);
    }
    FUZZ_CHECK(vmm_pci_host_add(w->host, vmm_ahci_pci(w->ahci), 1, 0, NULL) == 0);
    FUZZ_CHECK(vmm_pci_host_add(w->host, vmm_ide_pci(w->ide), 2, 0, NULL) == 0);
}

static void place(struct world *w)
{
    (void)vmm_pci_host_config_write(w->host, 1 << 3, 0x24, 4, ABAR);
    (void)vmm_pci_host_config_write(w->host, 1 << 3, 4, 2, 6);
    (void)vmm_pci_host_config_write(w->host, 2 << 3, 0x20, 4, BM);
    (void)vmm_pci_host_config_write(w->host, 2 << 3, 4, 2, 5);
    for (uint32_t port = 0; port < 2; port++) {
        (void)vmm_bus_write(w->mmio, ABAR + 0x100 + 0x80 * port, 4, 0);
        (void)vmm_bus_write(w->mmio, ABAR + 0x108 + 0x80 * port, 4, 0x8000);
        (void)vmm_bus_write(w->mmio, ABAR + 0x118 + 0x80 * port, 4, 0x11);
    }
}

static void open_world(struct world *w)
{
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    memset(w, 0, sizeof(*w));
    FUZZ_CHECK(vmm_memory_new(NULL, &w->memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(w->memory, "ram", 0, RAM, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &w->mmio) == 0);
    FUZZ_CHECK(vmm_bus_new("port", 16, &w->ports) == 0);
    FUZZ_CHECK(vmm_loop_new(NULL, &w->loop) == 0);
    o.name = "host";
    o.memory = w->memory;
    o.mmio = w->mmio;
    o.ports = w->ports;
    o.config_port = 0xcf8;
    o.port_window = (struct vmm_pci_window){0x1000, 0xf000};
    o.window = (struct vmm_pci_window){ABAR, 0x1000000};
    o.signal_msi = signal_msi;
    FUZZ_CHECK(vmm_pci_host_new(&o, &w->host, NULL) == 0);
    w->disk = image(w, 1u << 20);
    w->floppy_image = image(w, VMM_FLOPPY_LENGTH);
    make_controllers(w);
    place(w);
}

static void close_world(struct world *w)
{
    vmm_floppy_unref(w->floppy);
    vmm_dma_unref(w->dma);
    vmm_ide_unref(w->ide);
    vmm_ahci_unref(w->ahci);
    vmm_pci_host_unref(w->host);
    vmm_bus_unref(w->mmio);
    vmm_bus_unref(w->ports);
    vmm_block_unref(w->disk);
    vmm_block_unref(w->floppy_image);
    vmm_memory_unref(w->memory);
    vmm_loop_unref(w->loop);
}

static void access_bus(struct vmm_bus *bus, uint64_t address, uint8_t how, uint32_t value)
{
    uint64_t got;
    uint32_t width = 1u << (how >> 1 & 1) << (how >> 2 & 1);
    if (how & 1)
        (void)vmm_bus_write(bus, address, width, value);
    else
        (void)vmm_bus_read(bus, address, width, &got);
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
    }
    free(data);
}

static struct vmm_device *device_of(struct world *w, uint8_t which)
{
    switch (which & 3) {
    case 0:
        return vmm_pci_device(vmm_ahci_pci(w->ahci));
    case 1:
        return vmm_pci_device(vmm_ide_pci(w->ide));
    case 2:
        return vmm_floppy_device(w->floppy);
    default:
        return vmm_dma_device(w->dma);
    }
}

static void step(struct world *w, struct fuzz_input *in)
{
    static const uint16_t bases[] = {0x1f0, 0x170, 0x3f0, 0x370, 0x000, 0x80, BM, BM + 8};
    uint8_t what = fuzz_u8(in), arg = fuzz_u8(in);
    switch (what % 8) {
    case 0:
    case 1:
        access_bus(w->ports, bases[arg & 7] + (arg >> 3 & 15u), fuzz_u8(in), fuzz_u32(in));
        break;
    case 2:
        access_bus(w->mmio, ABAR + (what & 0x80 ? 0 : 0x100) + arg * 4u % 0x100, 7, fuzz_u32(in));
        break;
    case 3: /* memory that lists and tables are in */
        (void)vmm_memory_store_u32(w->memory, (uint64_t)(arg | (what & 0x30u) << 4) * 4,
                                   fuzz_u32(in));
        break;
    case 4: /* a command of AHCI: a header in slot 0, a FIS, a region */
        (void)vmm_memory_store_u32(w->memory, 0, 5u | 2u << 16);
        (void)vmm_memory_store_u32(w->memory, 8, 0x1000);
        (void)vmm_memory_store_u32(w->memory, 0x1000, 0x8027u | (uint32_t)arg << 16);
        (void)vmm_memory_store_u32(w->memory, 0x1080, fuzz_u32(in) & 0x1ffff);
        (void)vmm_memory_store_u32(w->memory, 0x108c, fuzz_u32(in) & 0xffff);
        (void)vmm_bus_write(w->mmio, ABAR + (what & 0x80 ? 0x1b8 : 0x138), 4, 1);
        break;
    case 5:
        save_and_load(device_of(w, arg), fuzz_u8(in));
        break;
    case 6:
        if (arg & 0x80)
            (void)vmm_ahci_set_medium(w->ahci, 1, arg & 1 ? w->disk : NULL, arg >> 1 & 1, NULL);
        else if (arg & 0x40)
            (void)vmm_ide_set_medium(w->ide, 1, arg & 1 ? w->disk : NULL, arg >> 1 & 1, NULL);
        else if (arg & 0x20)
            vmm_device_reset(device_of(w, arg));
        else
            place(w);
        break;
    default:
        (void)vmm_loop_dispatch(w->loop, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct world w;
    open_world(&w);
    while (in.left > 0)
        step(&w, &in);
    close_world(&w);
    return 0;
}
