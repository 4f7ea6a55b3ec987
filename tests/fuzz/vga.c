/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The VGA against a guest that writes any register and any part of the window, with somebody who watches.
 * Checked: damage lies inside of the picture, and a saved state is taken again.
 */
#include "fuzz.h"

#include <libvmm/vga.h>

#include <stdlib.h>

struct world {
    struct vmm_memory *memory;
    struct vmm_bus *mmio, *ports;
    struct vmm_display *display;
    struct vmm_pci_host *host;
    struct vmm_vga *vga;
    struct vmm_watcher *watcher;
};

static void open_world(struct world *w)
{
    struct vmm_vga_options o = VMM_VGA_OPTIONS_INIT;
    struct vmm_pci_host_options h = VMM_PCI_HOST_OPTIONS_INIT;
    struct vmm_watcher_options watch = VMM_WATCHER_OPTIONS_INIT;
    FUZZ_CHECK(vmm_memory_new(NULL, &w->memory, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &w->mmio) == 0);
    FUZZ_CHECK(vmm_bus_new("port", 16, &w->ports) == 0);
    FUZZ_CHECK(vmm_display_new(&w->display) == 0);
    h.name = "pci";
    h.memory = o.memory = w->memory;
    h.mmio = o.mmio = w->mmio;
    h.ports = o.ports = w->ports;
    h.config_port = 0xcf8;
    h.window = (struct vmm_pci_window){0xc0000000, 0x10000000};
    o.display = w->display;
    o.memory_mib = 1;
    FUZZ_CHECK(vmm_pci_host_new(&h, &w->host, NULL) == 0);
    FUZZ_CHECK(vmm_vga_new(&o, &w->vga, NULL) == 0);
    FUZZ_CHECK(vmm_pci_host_add(w->host, vmm_vga_pci(w->vga), 1, 0, NULL) == 0);
    FUZZ_CHECK(vmm_pci_host_assign(w->host, NULL) == 0);
    FUZZ_CHECK(vmm_watcher_new(w->display, &watch, &w->watcher) == 0);
}

static void close_world(struct world *w)
{
    vmm_watcher_free(w->watcher);
    vmm_vga_free(w->vga);
    vmm_pci_host_unref(w->host);
    vmm_display_unref(w->display);
    vmm_bus_unref(w->mmio);
    vmm_bus_unref(w->ports);
    vmm_memory_unref(w->memory);
}

static int see(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects, uint32_t count)
{
    (void)ctx;
    for (uint32_t i = 0; i < count; i++) {
        FUZZ_CHECK(rects[i].width && rects[i].x + rects[i].width <= s->width);
        FUZZ_CHECK(rects[i].height && rects[i].y + rects[i].height <= s->height);
    }
    return 0;
}

static void look(struct world *w)
{
    struct vmm_text_screen *s;
    char *text;
    (void)vmm_watcher_take(w->watcher, see, w);
    if (vmm_display_text(w->display, &s) == 0) {
        if (vmm_text_screen_utf8(s, true, &text) == 0)
            free(text);
        vmm_text_screen_free(s);
    }
}

static void save_and_load(struct world *w, uint32_t flip)
{
    struct vmm_device *device = vmm_pci_device(vmm_vga_pci(w->vga));
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    uint8_t *data;
    size_t length;
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    FUZZ_CHECK(vmm_device_save(device, writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, (void **)&data, &length) == 0);
    vmm_state_writer_free(writer);
    if (flip)
        data[flip % length] ^= (uint8_t)(flip >> 16 | 1);
    int rc = vmm_state_reader_new(data, length, &reader, NULL);
    FUZZ_CHECK(flip || rc == 0);
    if (!rc) {
        rc = vmm_device_load(device, reader, NULL);
        FUZZ_CHECK(flip || rc == 0);
        vmm_state_reader_free(reader);
    }
    free(data);
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in), arg = fuzz_u8(in);
    uint64_t value = fuzz_u32(in);
    uint32_t width = 1u << (what >> 6);
    switch (what & 7) {
    case 0:
    case 1: /* an index and its value in one */
        (void)vmm_bus_write(w->ports, arg & 1 ? 0x3d4 : arg & 2 ? 0x3ce : 0x3c4, 2, value);
        break;
    case 2:
        (void)vmm_bus_write(w->ports, 0x3b0 + arg % 0x30, width > 4 ? 4 : width, value);
        break;
    case 3:
        (void)vmm_bus_write(w->ports, 0x1ce, 2, arg % 12);
        (void)vmm_bus_write(w->ports, 0x1cf, 2, value);
        break;
    case 4:
        (void)vmm_bus_write(w->mmio, 0xa0000 + (value & 0x1ffff), width, value * arg);
        break;
    case 5:
        (void)vmm_bus_read(w->mmio, 0xa0000 + (value & 0x1ffff), width, &value);
        (void)vmm_bus_read(w->ports, 0x3b0 + arg % 0x30, 1, &value);
        break;
    case 6:
        look(w);
        break;
    default:
        if (arg < 16)
            save_and_load(w, (uint32_t)value);
        else if (arg < 20)
            vmm_device_reset(vmm_pci_device(vmm_vga_pci(w->vga)));
        else
            look(w);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct world w;
    open_world(&w);
    for (int i = 0; i < 200 && in.left > 0; i++)
        step(&w, &in);
    look(&w);
    close_world(&w);
    return 0;
}
