/* SPDX-License-Identifier: BSD-3-Clause */
/* The adapter as a PCI function: its BARs, its place on the legacy buses, its life. */
#include "devices/vga/internal.h"

#include <stdlib.h>
#include <sys/mman.h>

#define ROM_MAX        (256u << 10)
#define REGISTERS_BAR  2u
#define REGISTERS_SIZE 4096u
/* Within BAR 2: the EDID, ports 0x3c0 to 0x3df, DISPI's registers, and how long what follows is. */
#define AT_PORTS     0x400u
#define AT_DISPI     0x500u
#define AT_EXTENDED  0x600u
#define EXTENDED_LEN 8u
#define LITTLE       0x1e1e1e1eu /* the byte order of the frame buffer */

/* Legacy buses --------------------------------------------------------------------------------- */

static bool ports_decoded(const struct vmm_vga *v)
{
    return vmm_pci_config(v->pci)[4] & 1;
}

static uint64_t port_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)width;
    return ports_decoded(ctx) ? vga_port_read(ctx, VGA_PORTS + (uint32_t)offset) : UINT64_MAX;
}

static void port_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)width;
    if (ports_decoded(ctx))
        vga_port_write(ctx, VGA_PORTS + (uint32_t)offset, (uint8_t)value);
}

/* 0x3c0 on; the printer port is before it. */
static uint64_t port_read_c0(void *ctx, uint64_t offset, uint32_t width)
{
    return port_read(ctx, offset + 0x10, width);
}

static void port_write_c0(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    port_write(ctx, offset + 0x10, width, value);
}

/* 0x1ce is the index; 0x1cf and 0x1d0 are the data. */
static uint64_t dispi_port_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_vga *v = ctx;
    if (!ports_decoded(v))
        return UINT64_MAX;
    uint16_t value = offset ? vga_dispi_read(v, v->dispi_index) : v->dispi_index;
    return width == 1 && offset == 2 ? value >> 8 : value;
}

static void dispi_port_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_vga *v = ctx;
    (void)width;
    if (!ports_decoded(v))
        return;
    if (offset)
        vga_dispi_write(v, v->dispi_index, (uint16_t)value);
    else
        v->dispi_index = (uint16_t)value;
}

static int claim(struct vmm_vga *v, struct vmm_bus *bus, uint64_t address, uint64_t length,
                 const struct vmm_region_ops *ops, struct vmm_region **out, struct vmm_error *err)
{
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    o.name = vmm_device_name(v->device);
    o.address = address;
    o.length = length;
    o.device = v->device;
    o.ops = ops;
    o.ctx = v;
    return vmm_bus_add(bus, &o, out, err);
}

static int claim_legacy(struct vmm_vga *v, struct vmm_error *err)
{
    static const struct vmm_region_ops mono = {sizeof(mono), port_read, port_write, 1, 1};
    static const struct vmm_region_ops ports = {sizeof(ports), port_read_c0, port_write_c0, 1, 1};
    static const struct vmm_region_ops dispi = {sizeof(dispi), dispi_port_read, dispi_port_write, 1,
                                                2};
    static const struct vmm_region_ops window = {sizeof(window), vga_window_read, vga_window_write,
                                                 1, 8};
    if (!v->legacy)
        return 0;
    int rc = claim(v, v->ports, 0x3b0, 12, &mono, &v->port_regions[0], err);
    rc = rc ? rc : claim(v, v->ports, 0x3c0, 0x20, &ports, &v->port_regions[1], err);
    rc = rc ? rc : claim(v, v->ports, 0x1ce, 3, &dispi, &v->port_regions[2], err);
    return rc ? rc : claim(v, v->mmio, 0xa0000, 0x20000, &window, &v->window, err);
}

/* BAR 2 ---------------------------------------------------------------------------------------- */

static uint64_t extended_read(uint64_t offset)
{
    return offset == 0 ? EXTENDED_LEN : offset == 4 ? LITTLE : 0;
}

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct vmm_vga *v = ctx;
    uint64_t value = 0;
    if (bar != REGISTERS_BAR)
        return UINT64_MAX;
    if (offset < AT_PORTS)
        for (uint32_t i = 0; i < width; i++)
            value |= offset + i < sizeof(v->edid) ? (uint64_t)v->edid[offset + i] << 8 * i : 0;
    else if (offset < AT_PORTS + 0x20)
        for (uint32_t i = 0; i < width && offset + i < AT_PORTS + 0x20; i++)
            value |= (uint64_t)vga_port_read(v, 0x3c0 + (uint32_t)(offset - AT_PORTS) + i) << 8 * i;
    else if (offset >= AT_DISPI && offset < AT_DISPI + 2 * DISPI_COUNT)
        value = vga_dispi_read(v, (uint32_t)(offset - AT_DISPI) / 2);
    else if (offset >= AT_EXTENDED)
        value = extended_read(offset - AT_EXTENDED);
    return value;
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_vga *v = ctx;
    if (bar != REGISTERS_BAR)
        return;
    if (offset >= AT_PORTS && offset < AT_PORTS + 0x20)
        for (uint32_t i = 0; i < width && offset + i < AT_PORTS + 0x20; i++)
            vga_port_write(v, 0x3c0 + (uint32_t)(offset - AT_PORTS) + i, (uint8_t)(value >> 8 * i));
    else if (offset >= AT_DISPI && offset < AT_DISPI + 2 * DISPI_COUNT && !(offset & 1))
        vga_dispi_write(v, (uint32_t)(offset - AT_DISPI) / 2, (uint16_t)value);
}

/* The display ---------------------------------------------------------------------------------- */

/* The dirty log is kept while somebody watches; without it everything counts as written. */
static void watched(void *ctx, bool yes)
{
    struct vmm_vga *v = ctx;
    v->consumer = vmm_dirty_consumer_free(v->consumer);
    if (yes)
        (void)vmm_dirty_consumer_new(v->memory, v->vram_region, &v->consumer, NULL);
    vmm_device_lock(v->device);
    v->redraw = true;
    vmm_device_unlock(v->device);
}

static int attach(struct vmm_vga *v, struct vmm_error *err)
{
    static const struct vmm_display_ops ops = {sizeof(ops), vga_refresh, vga_text, watched, NULL};
    int rc = vmm_display_attach(v->display, &ops, v);
    return rc ? vmm_error_set(err, rc, "the display has a device already") : 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_vga *v = ctx;
    vga_reset_registers(v);
}

static void destroy(void *ctx)
{
    struct vmm_vga *v = ctx;
    vmm_memory_region_unref(v->vram_region);
    vmm_memory_region_unref(v->rom_region);
    vmm_memory_unref(v->memory);
    vmm_vm_unref(v->vm);
    vmm_bus_unref(v->ports);
    vmm_bus_unref(v->mmio);
    vmm_display_unref(v->display);
    free(v->written);
    free(v->pages);
    free(v);
}

struct mapping {
    void *data;
    size_t length;
};

static void unmap(void *ctx)
{
    struct mapping *m = ctx;
    (void)munmap(m->data, m->length);
    free(m);
}

/* Memory that we write ourselves too: our own mapping, as a backing. */
static int make_backing(uint64_t length, uint8_t **data, struct vmm_backing **out,
                        struct vmm_error *err)
{
    struct vmm_backing_options o = {.size = sizeof(o)};
    struct mapping *m = malloc(sizeof(*m));
    if (!m)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    m->length = (size_t)length;
    m->data = mmap(NULL, m->length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->data == MAP_FAILED) {
        free(m);
        return vmm_error_set(err, -ENOMEM, "no memory for the frame buffer");
    }
    o.kind = VMM_BACKING_HOST;
    o.length = length;
    o.host = m->data;
    o.release = unmap;
    o.ctx = m;
    *data = m->data;
    int rc = vmm_backing_new(&o, out, err);
    if (rc)
        unmap(m);
    return rc;
}

static int make_region(uint32_t type, const char *name, uint64_t length, uint8_t **data,
                       struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_backing *backing;
    int rc = make_backing(length, data, &backing, err);
    if (rc)
        return rc;
    o.name = name;
    o.type = type;
    o.length = length;
    o.backing = backing;
    rc = vmm_memory_region_new(&o, out, err);
    vmm_backing_unref(backing);
    return rc;
}

static int make_memory(struct vmm_vga *v, const struct vmm_vga_options *o, struct vmm_error *err)
{
    uint8_t *rom;
    uint64_t length = 4096;
    int rc =
        make_region(VMM_MEMORY_DEVICE, "vga-memory", v->vram_size, &v->vram, &v->vram_region, err);
    if (rc || !o->rom)
        return rc;
    while (length < o->rom_length)
        length *= 2;
    rc = make_region(VMM_MEMORY_ROM, "vga-rom", length, &rom, &v->rom_region, err);
    if (!rc)
        memcpy(rom, o->rom, o->rom_length);
    return rc;
}

static int make_function(struct vmm_vga *v, const struct vmm_vga_options *o, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {.size = sizeof(ops),
                                           .bar_read = bar_read,
                                           .bar_write = bar_write,
                                           .reset = reset,
                                           .state_version = 1,
                                           .save = vga_save,
                                           .load = vga_load,
                                           .destroy = destroy};
    struct vmm_pci_options p = VMM_PCI_OPTIONS_INIT;
    p.name = o->name ? o->name : "vga";
    p.vendor_id = 0x1234;
    p.device_id = 0x1111;
    p.subsystem_vendor_id = 0x1af4; /* what drivers have seen until now */
    p.subsystem_id = 0x1100;
    p.class_code = v->legacy ? 0x030000 : 0x038000;
    p.revision = 2;
    p.bars[0] = (struct vmm_pci_bar){
        .length = v->vram_size, .flags = VMM_PCI_BAR_PREFETCH, .memory = v->vram_region};
    p.bars[REGISTERS_BAR] = (struct vmm_pci_bar){.length = REGISTERS_SIZE, .max_width = 4};
    if (v->rom_region)
        p.rom = (struct vmm_pci_bar){.length = vmm_memory_region_length(v->rom_region),
                                     .memory = v->rom_region};
    p.ops = &ops;
    p.ctx = v;
    int rc = vmm_pci_new(&p, &v->pci, err);
    v->device = rc ? NULL : vmm_pci_device(v->pci);
    return rc;
}

static int check_options(const struct vmm_vga_options *o, struct vmm_error *err)
{
    if (!o->display || !o->memory)
        return vmm_error_set(err, -EINVAL, "a VGA needs a display, and the memory map");
    if (!o->ports != !o->mmio)
        return vmm_error_set(err, -EINVAL, "ports, mmio: both, or none");
    if (o->memory_mib && (!vmm_is_power_of_two(o->memory_mib) || o->memory_mib > 256))
        return vmm_error_set(err, -EINVAL, "memory_mib: %u is no power of two from 1 to 256",
                             o->memory_mib);
    if (!o->rom != !o->rom_length || o->rom_length > ROM_MAX)
        return vmm_error_set(err, -EINVAL, "rom: at most 256 KiB, with its length");
    if (!o->width != !o->height || o->width > VMM_VGA_MAX_WIDTH || o->height > VMM_VGA_MAX_HEIGHT)
        return vmm_error_set(err, -EINVAL, "width, height: both, and at most 3840x2160");
    return 0;
}

static void hold(struct vmm_vga *v, const struct vmm_vga_options *o)
{
    v->legacy = o->ports != NULL;
    v->blink = o->blink;
    v->display = vmm_display_ref(o->display);
    v->memory = vmm_memory_ref(o->memory);
    v->vm = o->vm ? vmm_vm_ref(o->vm) : NULL;
    v->ports = o->ports ? vmm_bus_ref(o->ports) : NULL;
    v->mmio = o->mmio ? vmm_bus_ref(o->mmio) : NULL;
    v->vram_size = (uint64_t)(o->memory_mib ? o->memory_mib : 16) << 20;
}

static int set_up(struct vmm_vga *v, const struct vmm_vga_options *o, struct vmm_error *err)
{
    hold(v, o);
    size_t words = (size_t)(v->vram_size / VGA_PAGE / 64 + 1);
    v->written = calloc(words, 8);
    v->pages = calloc(words, 8);
    if (!v->written || !v->pages)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    if (vmm_edid_make(o->width ? o->width : 1024, o->height ? o->height : 768, "libvmm", v->edid))
        return vmm_error_set(err, -EINVAL, "width, height: at least 320x200");
    int rc = make_memory(v, o, err);
    return rc ? rc : make_function(v, o, err);
}

int vmm_vga_new(const struct vmm_vga_options *given, struct vmm_vga **out, struct vmm_error *err)
{
    struct vmm_vga_options o;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return vmm_error_set(err, rc, "options: not a structure that this version knows");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_vga *v = calloc(1, sizeof(*v));
    if (!v)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = set_up(v, &o, err);
    if (rc) {
        destroy(v);
        return rc;
    }
    vga_reset_registers(v);
    rc = claim_legacy(v, err);
    rc = rc ? rc : attach(v, err);
    if (rc) {
        v->display = vmm_display_unref(v->display); /* it is somebody else's */
        vmm_vga_free(v);
        return rc;
    }
    *out = v;
    return 0;
}

struct vmm_vga *vmm_vga_free(struct vmm_vga *v)
{
    if (!v)
        return NULL;
    if (v->display) {
        vmm_display_detach(v->display);
        v->consumer = vmm_dirty_consumer_free(v->consumer);
    }
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(v->port_regions); i++)
        if (v->port_regions[i])
            vmm_bus_remove(v->ports, v->port_regions[i]);
    if (v->window)
        vmm_bus_remove(v->mmio, v->window);
    vmm_pci_unref(v->pci); /* the rest goes with it */
    return NULL;
}

struct vmm_pci *vmm_vga_pci(struct vmm_vga *v)
{
    return v->pci;
}
