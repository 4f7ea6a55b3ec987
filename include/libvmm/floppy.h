/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file floppy.h
 * What old systems boot from: the DMA controllers of PCs (two 8237) and a floppy controller (82077AA).
 *
 *     vmm_dma_new("dma", memory, &dma);
 *     vmm_dma_attach(dma, ports, err);
 *     struct vmm_floppy_options o = VMM_FLOPPY_OPTIONS_INIT;
 *     o.name = "floppy";  o.loop = loop;  o.dma = dma;  o.irq = irq6;  o.block = image;
 *     vmm_floppy_new(&o, &floppy, err);
 *     vmm_floppy_attach(floppy, ports, err);
 */
#ifndef LIBVMM_FLOPPY_H
#define LIBVMM_FLOPPY_H

#include <libvmm/block.h>
#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/memory.h>

VMM_BEGIN_DECLS

/* DMA ------------------------------------------------------------------------------------------ */

/** Channels 0 to 3 move bytes, 5 to 7 words; 4 is the cascade. Below 16 MiB, within 64 or 128 KiB. */
struct vmm_dma;

/** @param memory  held. -EINVAL: no name or memory; -ENOMEM. */
VMM_API int vmm_dma_new(const char *name, struct vmm_memory *memory, struct vmm_dma **out);
VMM_API struct vmm_dma *vmm_dma_unref(struct vmm_dma *dma);
/** Not a new reference. */
VMM_API struct vmm_device *vmm_dma_device(struct vmm_dma *dma);
/** Put it at the ports of PCs: 00 to 0f, c0 to df, and the pages at 81 to 83, 87, 89 to 8b and
 *  8f. The bus holds it. -EEXIST: some are taken. */
VMM_API int vmm_dma_attach(struct vmm_dma *dma, struct vmm_bus *ports, struct vmm_error *err);
/**
 * A device moves data as the driver has programmed its channel: `write` to guest memory, or from it.
 * Returns how many bytes were moved, fewer than `length` at the terminal count; -EAGAIN: the channel is
 * masked or not set up for this direction; -EFAULT: what it names is no memory; -EINVAL.
 * @param end  NULL, or told whether the terminal count was reached
 * Takes the DMA device's lock: not with another device's lock held. Thread-safe.
 */
VMM_API int64_t vmm_dma_move(struct vmm_dma *dma, uint32_t channel, void *data, size_t length,
                             bool write, bool *end);

/* Floppy --------------------------------------------------------------------------------------- */

#define VMM_FLOPPY_LENGTH                                                                          \
    1474560u /**< of an image: 80 cylinders, 2 heads, 18 sectors of 512 bytes */

/** A controller with one 3.5" drive. Data moves by DMA; the non-DMA mode is refused to the guest. */
struct vmm_floppy;

struct vmm_floppy_options {
    size_t size;
    const char *name;
    struct vmm_loop *loop;    /**< held; that of the images */
    struct vmm_dma *dma;      /**< held; channel 2 is used */
    struct vmm_irq_line *irq; /**< PCs: 6. Taken over on success. NULL: none */
    struct vmm_block *block; /**< held; of VMM_FLOPPY_LENGTH bytes. NULL: no disk is in the drive */
};
#define VMM_FLOPPY_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct vmm_floppy_options)                                                  \
    }

/** -EINVAL: the text says. */
VMM_API int vmm_floppy_new(const struct vmm_floppy_options *options, struct vmm_floppy **out,
                           struct vmm_error *err);
VMM_API struct vmm_floppy *vmm_floppy_unref(struct vmm_floppy *floppy);
/** Not a new reference. */
VMM_API struct vmm_device *vmm_floppy_device(struct vmm_floppy *floppy);
/** Put it at 3f0 to 3f5 and 3f7. */
VMM_API int vmm_floppy_attach(struct vmm_floppy *floppy, struct vmm_bus *ports,
                              struct vmm_error *err);
/** Another disk, or none (NULL); the guest reads it from the change line. On the loop's thread. -EINVAL:
 *  not of VMM_FLOPPY_LENGTH bytes, or on another loop. */
VMM_API int vmm_floppy_set_medium(struct vmm_floppy *floppy, struct vmm_block *block,
                                  struct vmm_error *err);

VMM_END_DECLS

#endif
