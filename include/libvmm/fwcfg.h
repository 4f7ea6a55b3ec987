/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file fwcfg.h
 * The firmware configuration device of QEMU (its docs/specs/fw_cfg.rst): named files that firmware
 * reads, such as ACPI tables, the memory map and the boot order, and a few that it writes.
 *
 *     o.name = "fwcfg";  o.memory = vmm_machine_memory(machine);
 *     vmm_fwcfg_new(&o, &fwcfg);
 *     vmm_fwcfg_attach_ports(fwcfg, ports, VMM_FWCFG_PORT, err);
 *     vmm_fwcfg_add_file(fwcfg, "opt/org.example/motto", "hello", 5, err);
 *
 * Reading and writing by DMA reaches guest RAM by the checked accessors; an address that is not RAM
 * gives the guest the error bit of the specification.
 */
#ifndef LIBVMM_FWCFG_H
#define LIBVMM_FWCFG_H

#include <libvmm/bus.h>
#include <libvmm/memory.h>

VMM_BEGIN_DECLS

struct vmm_fwcfg;

#define VMM_FWCFG_PORT        0x510u /**< where a PC has it */
#define VMM_FWCFG_MMIO_LENGTH 24u
#define VMM_FWCFG_NAME_SIZE   56u /**< of a file's name, its final zero included */
#define VMM_FWCFG_FILES       64u /**< that one device may have */
#define VMM_FWCFG_FILE_MAX    (UINT32_C(64) << 20)

/* Items with a number of their own. */
#define VMM_FWCFG_SIGNATURE    0x00u
#define VMM_FWCFG_ID           0x01u
#define VMM_FWCFG_UUID         0x02u
#define VMM_FWCFG_NOGRAPHIC    0x04u
#define VMM_FWCFG_CPUS         0x05u
#define VMM_FWCFG_KERNEL_ADDR  0x07u
#define VMM_FWCFG_KERNEL_SIZE  0x08u
#define VMM_FWCFG_INITRD_ADDR  0x0au
#define VMM_FWCFG_INITRD_SIZE  0x0bu
#define VMM_FWCFG_BOOT_MENU    0x0eu
#define VMM_FWCFG_CPUS_MAX     0x0fu
#define VMM_FWCFG_KERNEL_DATA  0x11u
#define VMM_FWCFG_INITRD_DATA  0x12u
#define VMM_FWCFG_CMDLINE_ADDR 0x13u
#define VMM_FWCFG_CMDLINE_SIZE 0x14u
#define VMM_FWCFG_CMDLINE_DATA 0x15u
#define VMM_FWCFG_SETUP_ADDR   0x16u
#define VMM_FWCFG_SETUP_SIZE   0x17u
#define VMM_FWCFG_SETUP_DATA   0x18u
#define VMM_FWCFG_FILE_DIR     0x19u
#define VMM_FWCFG_FILE_FIRST   0x20u

struct vmm_fwcfg_options {
    size_t size;
    const char *name;
    struct vmm_memory *memory; /**< held; NULL: no DMA */
};
#define VMM_FWCFG_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_fwcfg_options), 0, 0                                                     \
    }

VMM_API int vmm_fwcfg_new(const struct vmm_fwcfg_options *options, struct vmm_fwcfg **out);
VMM_API struct vmm_fwcfg *vmm_fwcfg_unref(struct vmm_fwcfg *fwcfg);
/** For reset, save and load. Not a new reference. Saved are the registers and the files that the
 *  guest may write; the rest is the embedder's. */
VMM_API struct vmm_device *vmm_fwcfg_device(struct vmm_fwcfg *fwcfg);

/** The x86 form: selector and data at `port`, DMA at `port` + 4 (where there is memory). */
VMM_API int vmm_fwcfg_attach_ports(struct vmm_fwcfg *fwcfg, struct vmm_bus *bus, uint64_t port,
                                   struct vmm_error *err);
/** The memory-mapped form of arm64: data at 0, selector at 8, DMA at 16; numbers big-endian. */
VMM_API int vmm_fwcfg_attach_mmio(struct vmm_fwcfg *fwcfg, struct vmm_bus *bus, uint64_t address,
                                  struct vmm_error *err);

/** Set an item by its number (below VMM_FWCFG_FILE_DIR, or with bit 15: of the architecture, the same
 *  range); the bytes are copied. Replaces an earlier one. -EINVAL: no such number; -EFBIG. */
VMM_API int vmm_fwcfg_set_item(struct vmm_fwcfg *fwcfg, uint32_t key, const void *data,
                               size_t length);
VMM_API int vmm_fwcfg_set_u16(struct vmm_fwcfg *fwcfg, uint32_t key, uint16_t value);
VMM_API int vmm_fwcfg_set_u32(struct vmm_fwcfg *fwcfg, uint32_t key, uint32_t value);

/**
 * Set a file's contents, which are copied; a new name is added to the directory, one that is there
 * gets the new bytes. -EINVAL: the name is empty or too long; -ENOSPC: VMM_FWCFG_FILES are there;
 * -EFBIG: above VMM_FWCFG_FILE_MAX; -EBUSY: it is one that the guest writes. Thread-safe.
 */
VMM_API int vmm_fwcfg_set_file(struct vmm_fwcfg *fwcfg, const char *name, const void *data,
                               size_t length, struct vmm_error *err);
/** A file that the guest may write, by DMA only. `written` is called after each write with the
 *  device's lock held, on the vCPU's thread; it may be NULL. Errors as above; -EEXIST. */
VMM_API int vmm_fwcfg_add_writable(struct vmm_fwcfg *fwcfg, const char *name, const void *data,
                                   size_t length,
                                   void (*written)(void *ctx, const void *data, size_t length),
                                   void *ctx, struct vmm_error *err);
/** Have a file's bytes, whose number stays, brought up to date each time the guest selects it: for tables
 *  that say where firmware has put registers. With the device's lock held, on the vCPU's thread. Such a
 *  file is saved and loaded. NULL: no longer. -ENOENT; -EBUSY: it is one that the guest writes. */
VMM_API int vmm_fwcfg_set_refresh(struct vmm_fwcfg *fwcfg, const char *name,
                                  void (*refresh)(void *ctx, void *data, size_t length), void *ctx);
/** Copy out the first bytes of a file, up to `length`; returns its whole length. -ENOENT. Thread-safe. */
VMM_API long vmm_fwcfg_get_file(struct vmm_fwcfg *fwcfg, const char *name, void *data,
                                size_t length);

VMM_END_DECLS

#endif
