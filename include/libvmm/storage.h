/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file storage.h
 * Disk controllers that every guest knows: AHCI and IDE, with disks and CD-ROM drives.
 *
 *     struct vmm_ahci_options o = VMM_AHCI_OPTIONS_INIT;
 *     o.name = "ahci0";  o.memory = memory;  o.loop = loop;
 *     vmm_ahci_new(&o, &ahci, err);
 *     struct vmm_drive_options d = VMM_DRIVE_OPTIONS_INIT;
 *     d.type = VMM_DRIVE_DISK;  d.block = block;
 *     vmm_ahci_plug(ahci, 0, &d, err);
 *     vmm_pci_host_add(vmm_machine_pci(machine), vmm_ahci_pci(ahci), VMM_PCI_ANY_SLOT, 0, err);
 *
 * Unless said otherwise the functions are called on the loop's thread, as those of block.h are.
 */
#ifndef LIBVMM_STORAGE_H
#define LIBVMM_STORAGE_H

#include <libvmm/block.h>
#include <libvmm/pci.h>

VMM_BEGIN_DECLS

/* Drives --------------------------------------------------------------------------------------- */

#define VMM_DRIVE_DISK  1u
#define VMM_DRIVE_CDROM 2u

struct vmm_drive_options {
    size_t size;
    uint32_t type;      /**< VMM_DRIVE_… */
    uint32_t read_only; /**< non-zero: writes of the guest fail; CD-ROMs always are */
    /** Held. On the controller's loop, with blocks of 512 bytes; disks on AHCI also of 4096 (4Kn).
     *  CD-ROM: NULL is an empty drive. */
    struct vmm_block *block;
    const char *serial; /**< up to 20 printable characters; NULL: none. Copied */
    const char *model;  /**< up to 40; NULL: a name of libvmm's. Copied */
};
#define VMM_DRIVE_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(struct vmm_drive_options)                                                   \
    }

/** Change a medium even where the guest has locked the tray. */
#define VMM_MEDIUM_FORCE 1u

/* AHCI ----------------------------------------------------------------------------------------- */

#define VMM_AHCI_PORTS 6u

/** AHCI 1.3 with native command queueing, as of Intel's ICH9. */
struct vmm_ahci;

struct vmm_ahci_options {
    size_t size;
    const char *name;
    struct vmm_vm *vm;         /**< for guest errors; held; NULL: they are not reported */
    struct vmm_memory *memory; /**< held */
    struct vmm_loop *loop;     /**< held; that of all its disks */
};
#define VMM_AHCI_OPTIONS_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(struct vmm_ahci_options)                                                    \
    }

VMM_API int vmm_ahci_new(const struct vmm_ahci_options *options, struct vmm_ahci **out,
                         struct vmm_error *err);
VMM_API struct vmm_ahci *vmm_ahci_ref(struct vmm_ahci *ahci);
VMM_API struct vmm_ahci *vmm_ahci_unref(struct vmm_ahci *ahci);
/** Its function, to be put on a bridge. Not a new reference. Thread-safe. */
VMM_API struct vmm_pci *vmm_ahci_pci(struct vmm_ahci *ahci);
/** Put a drive on a port; a guest that runs is told. -EEXIST: there is one; -EINVAL: the text says. */
VMM_API int vmm_ahci_plug(struct vmm_ahci *ahci, uint32_t port,
                          const struct vmm_drive_options *drive, struct vmm_error *err);
/** Take it off, as a pulled cable does: commands under way never end. -ENOENT: there is none. */
VMM_API int vmm_ahci_unplug(struct vmm_ahci *ahci, uint32_t port);
/**
 * Put another medium into a CD-ROM drive; NULL: take it out. Where the guest has locked the tray it is
 * told that somebody wants it: -EBUSY, unless VMM_MEDIUM_FORCE. -ENOTSUP: no CD-ROM drive;
 * -ENOENT: no drive at all; -EINVAL: the text says.
 */
VMM_API int vmm_ahci_set_medium(struct vmm_ahci *ahci, uint32_t port, struct vmm_block *block,
                                uint32_t flags, struct vmm_error *err);

/* IDE ------------------------------------------------------------------------------------------ */

#define VMM_IDE_DRIVES 4u /**< primary master and slave, secondary master and slave */

/** IDE as of Intel's PIIX3: two channels at their old ports (1f0 and 3f6, 170 and 376), PIO and bus-master
 *  DMA. The guest's firmware need not set it up. */
struct vmm_ide;

struct vmm_ide_options {
    size_t size;
    const char *name;
    struct vmm_vm *vm;         /**< for guest errors; held; NULL: they are not reported */
    struct vmm_memory *memory; /**< held */
    struct vmm_loop *loop;     /**< held; that of all its disks */
    struct vmm_bus *ports;     /**< where the channels answer; it holds the device */
    struct vmm_irq_line
        *irq[2]; /**< of the channels: PCs have IRQ 14 and 15. Taken over on success */
};
#define VMM_IDE_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct vmm_ide_options)                                                     \
    }

/** -EEXIST: the ports are taken; -EINVAL: the text says. */
VMM_API int vmm_ide_new(const struct vmm_ide_options *options, struct vmm_ide **out,
                        struct vmm_error *err);
VMM_API struct vmm_ide *vmm_ide_ref(struct vmm_ide *ide);
VMM_API struct vmm_ide *vmm_ide_unref(struct vmm_ide *ide);
/** Its function, to be put on a bridge (PCs: function 1 of the south bridge). Not a new reference.
 *  Thread-safe. */
VMM_API struct vmm_pci *vmm_ide_pci(struct vmm_ide *ide);
/** Put a drive on a channel; set-up only. -EEXIST: there is one; -EINVAL: the text says. */
VMM_API int vmm_ide_plug(struct vmm_ide *ide, uint32_t number,
                         const struct vmm_drive_options *drive, struct vmm_error *err);
/** As vmm_ahci_set_medium(). */
VMM_API int vmm_ide_set_medium(struct vmm_ide *ide, uint32_t number, struct vmm_block *block,
                               uint32_t flags, struct vmm_error *err);

VMM_END_DECLS

#endif
