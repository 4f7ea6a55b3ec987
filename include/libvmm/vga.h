/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vga.h
 * A graphics adapter: standard VGA with the display interface of Bochs (PCI 1234:1111).
 *
 * What VGA BIOSes, boot loaders and kernels of all kinds know: text modes with fonts that the guest
 * loads, planar and 256-colour graphics, and by the DISPI registers linear frame buffers up to 3840x2160
 * with 8, 15, 16, 24 or 32 bits a pixel, with an EDID. BAR 0 is the frame buffer (memory: the guest writes
 * it without the VMM), BAR 2 registers, the ROM BAR a VGA BIOS.
 *
 *     struct vmm_vga_options o = VMM_VGA_OPTIONS_INIT;
 *     o.name = "vga";  o.display = display;  o.memory = …;  o.ports = …;  o.mmio = …;
 *     vmm_vga_new(&o, &vga, err);
 *     vmm_pci_host_add(host, vmm_vga_pci(vga), VMM_PCI_ANY_SLOT, 0, err);
 *
 * An idle screen costs nothing: nothing runs unless the display has a watcher, and then only in modes with
 * a linear frame buffer, where the dirty log is looked at. Text cursors and blinking characters do not
 * blink unless asked to.
 */
#ifndef LIBVMM_VGA_H
#define LIBVMM_VGA_H

#include <libvmm/display.h>
#include <libvmm/pci.h>

VMM_BEGIN_DECLS

struct vmm_vga;

struct vmm_vga_options {
    size_t size;
    const char *name;            /**< NULL: "vga" */
    struct vmm_display *display; /**< held; it has no other source */
    struct vmm_memory *memory;   /**< held; where dirty frame buffers are noted */
    /** Where the legacy ports (0x3b0 to 0x3df, 0x1ce to 0x1d0) and the window at 0xa0000 are; held. Both
     *  NULL: a device without them ("bochs-display", class 0x0380). */
    struct vmm_bus *ports;
    struct vmm_bus *mmio;
    struct vmm_vm *vm;      /**< for guest errors; held. May be NULL */
    const void *rom;        /**< a VGA BIOS, copied; NULL: none */
    size_t rom_length;      /**< at most 256 KiB */
    uint32_t memory_mib;    /**< of the frame buffer: a power of two from 1 to 256; 0: 16 */
    uint32_t width, height; /**< the EDID's preferred mode, from 320x200; 0: 1024x768 */
    uint32_t blink;         /**< non-zero: cursor and characters blink while somebody watches */
};
#define VMM_VGA_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct vmm_vga_options)                                                     \
    }

/** The largest mode of the DISPI interface. */
#define VMM_VGA_MAX_WIDTH  3840u
#define VMM_VGA_MAX_HEIGHT 2160u

/** -EINVAL: the text says which option; -EBUSY: the display has a source; -EEXIST: ports or the window are
 *  taken; -ENOMEM. */
VMM_API int vmm_vga_new(const struct vmm_vga_options *options, struct vmm_vga **out,
                        struct vmm_error *err);
/** Take it off the display and the buses. The PCI function is removed by the caller, or goes with its
 *  bridge. Not from a callback of the device. NULL is fine; returns NULL. */
VMM_API struct vmm_vga *vmm_vga_free(struct vmm_vga *vga);
/** Its function, for a bridge. Not a new reference. */
VMM_API struct vmm_pci *vmm_vga_pci(struct vmm_vga *vga);

/**
 * Make an EDID 1.4 block of 128 bytes: a screen that prefers `width` x `height` at 60 Hz, and takes the
 * usual smaller modes. -EINVAL: not from 320x200 to 4095x4095.
 */
VMM_API int vmm_edid_make(uint32_t width, uint32_t height, const char *name, uint8_t edid[128]);

VMM_END_DECLS

#endif
