/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file pci.h
 * PCI: host bridges, and functions that are declared rather than programmed.
 *
 * A function says what it is (identity, BARs, capabilities) in a structure; the library keeps its
 * configuration space: sizing, relocation while running, decode bits, MSI and MSI-X. What is left to
 * the device are the callbacks of its BARs:
 *
 *     struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
 *     o.name = "adder";  o.vendor_id = 0x1234;  o.device_id = 1;  o.class_code = 0xff0000;
 *     o.bars[0].length = 0x1000;
 *     o.msix_vectors = 1;  o.msix_bar = 1;
 *     o.ops = &ops;  o.ctx = adder;
 *     vmm_pci_new(&o, &adder->pci, err);
 *     vmm_pci_host_add(vmm_machine_pci(machine), adder->pci, VMM_PCI_ANY_SLOT, 0, err);
 *
 * Where the guest puts BARs. A BAR answers where its decode bit is on and where it lies inside the
 * windows of the host bridge. Nothing ever overlaps: a BAR whose place is taken, by RAM, by a device
 * of the board or by another BAR, answers nowhere and is reported by guest_error; it answers as
 * soon as the place is free. What was there before stays as it was.
 *
 * Locks: the device's lock is held in all callbacks but `bar_placed`.
 */
#ifndef LIBVMM_PCI_H
#define LIBVMM_PCI_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/memory.h>

VMM_BEGIN_DECLS

struct vmm_pci_host;
struct vmm_pci; /**< a function */

/* Functions ------------------------------------------------------------------------------------ */

#define VMM_PCI_BARS    6u
#define VMM_PCI_BAR_ROM 6u /**< the expansion ROM, where a BAR's number is wanted */

#define VMM_PCI_BAR_PORT     1u /**< I/O ports; else memory */
#define VMM_PCI_BAR_64       2u /**< takes the next BAR's place too */
#define VMM_PCI_BAR_PREFETCH 4u /**< reads have no side effects */

/** A base address register (PCI 3.0 §6.2.5). */
struct vmm_pci_bar {
    /** Bytes: a power of two, 0: there is none. Ports: 4 to 256; memory: 16 and up (up to 2 GiB without
     *  VMM_PCI_BAR_64); the ROM: 2 KiB to 16 MiB. */
    uint64_t length;
    uint32_t flags;     /**< VMM_PCI_BAR_… */
    uint32_t min_width; /**< as in struct vmm_region_ops */
    uint32_t max_width;
    uint32_t reserved;
    /** The bytes behind the BAR, of its length: RAM, device memory, ROM or an alias; held. The guest
     *  then reads and writes without the VMM. NULL: bar_read and bar_write. */
    struct vmm_memory_region *memory;
};

struct vmm_pci_ops {
    size_t size;
    /** As in struct vmm_region_ops, for BARs without memory. NULL: reads as zeros. */
    uint64_t (*bar_read)(void *ctx, uint32_t bar, uint64_t offset, uint32_t width);
    void (*bar_write)(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value);
    /** The BAR answers at `address` from now on, or (`enabled` false) no longer does. For ioeventfds.
     *  Called with the host bridge's lock held, possibly on behalf of another function: it must not
     *  take the device's lock nor call the bridge. May be NULL. */
    void (*bar_placed)(void *ctx, uint32_t bar, bool enabled, uint64_t address);
    /** A read of configuration space from byte 64 on: return `value`, or another. May be NULL. */
    uint32_t (*config_read)(void *ctx, uint32_t offset, uint32_t width, uint32_t value);
    /** A write of configuration space was done. May be NULL. */
    void (*config_written)(void *ctx, uint32_t offset, uint32_t width, uint32_t value);

    /* As in struct vmm_device_ops, where the function has a device of its own; the configuration
     * space is reset, saved and loaded by the library. May be NULL. */
    void (*reset)(void *ctx);
    uint32_t state_version;
    uint32_t reserved;
    int (*save)(void *ctx, struct vmm_state_writer *w);
    int (*load)(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);
    void (*destroy)(void *ctx);
};

#define VMM_PCI_CAP_PM      1u /**< power management: D0 and D3hot */
#define VMM_PCI_CAP_EXPRESS 2u /**< a PCI Express endpoint integrated into the root complex */

#define VMM_PCI_MSI_64      1u /**< 64-bit message addresses */
#define VMM_PCI_MSI_MASKING 2u /**< each vector can be masked */

struct vmm_pci_options {
    size_t size;
    const char *name; /**< as vmm_device_new() takes it */
    uint16_t vendor_id;
    uint16_t device_id;
    uint16_t subsystem_vendor_id;
    uint16_t subsystem_id;
    uint32_t class_code; /**< class, subclass and interface: 0x020000 is an Ethernet controller */
    uint8_t revision;
    uint8_t interrupt_pin; /**< 1 to 4: INTA to INTD; 0: none */
    uint16_t reserved;
    struct vmm_pci_bar bars[VMM_PCI_BARS];
    struct vmm_pci_bar rom;
    uint32_t capabilities; /**< VMM_PCI_CAP_… */
    uint32_t msi_vectors;  /**< a power of two to 32; 0: no MSI */
    uint32_t msi_flags;    /**< VMM_PCI_MSI_… */
    uint32_t msix_vectors; /**< up to 2048; 0: no MSI-X */
    uint32_t msix_bar;     /**< a BAR that the library makes and answers; declare none there */
    uint32_t reserved2;
    /** NULL: the function makes a device of its own. Else it is a part of this one: it uses its lock,
     *  and the owner calls vmm_pci_reset(), vmm_pci_save() and vmm_pci_load(). The device is not held;
     *  it goes after the function (which a bridge, holding both, sees to). */
    struct vmm_device *device;
    const struct vmm_pci_ops *ops;
    void *ctx;
};
#define VMM_PCI_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct vmm_pci_options)                                                     \
    }

/** -EINVAL: the text says which field; -ENOSPC: the capabilities do not fit. `destroy` is not called
 *  when this fails. */
VMM_API int vmm_pci_new(const struct vmm_pci_options *options, struct vmm_pci **out,
                        struct vmm_error *err);
VMM_API struct vmm_pci *vmm_pci_ref(struct vmm_pci *pci);
VMM_API struct vmm_pci *vmm_pci_unref(struct vmm_pci *pci);
/** Its lock, reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_pci_device(struct vmm_pci *pci);

/**
 * Add a capability (PCI 3.0 §6.7), before the function is added to a bridge.
 * @param id        9: vendor-specific
 * @param data      its bytes after the two of the header; `length` of them, up to 190
 * @param writable  a bit set for each that the guest may write; NULL: none
 * @param offset    NULL, or gets where in configuration space it is
 * -ENOSPC: it does not fit; -EBUSY: the function is on a bridge.
 */
VMM_API int vmm_pci_add_capability(struct vmm_pci *pci, uint8_t id, const void *data,
                                   const void *writable, size_t length, uint32_t *offset);

/** A device-specific byte of configuration space, from 64 on and outside of capabilities: its value after
 *  a reset, and the bits that the guest may write (it is saved and loaded with the others). Before the
 *  guest runs. -EINVAL: not such a byte. */
VMM_API int vmm_pci_set_register(struct vmm_pci *pci, uint32_t offset, uint8_t value,
                                 uint8_t writable);

/** Its 256 bytes of configuration space as they are now, for what the guest wrote into a capability.
 *  The device's lock is held. */
VMM_API const uint8_t *vmm_pci_config(const struct vmm_pci *pci);

/* For functions that are a part of a device; the device's lock is held. */
VMM_API void vmm_pci_reset(struct vmm_pci *pci);
/** The fields go into the node that is open. */
VMM_API int vmm_pci_save(struct vmm_pci *pci, struct vmm_state_writer *w);
VMM_API int vmm_pci_load(struct vmm_pci *pci, struct vmm_state_reader *r, struct vmm_error *err);

/* Interrupts. Thread-safe, with or without the device's lock. */

#define VMM_PCI_INTX 0u
#define VMM_PCI_MSI  1u
#define VMM_PCI_MSIX 2u
/** Which kind the driver has enabled. */
VMM_API uint32_t vmm_pci_interrupt_mode(struct vmm_pci *pci);
/** Send a message by MSI or MSI-X; a masked vector becomes pending. 1: it was sent; 0: it was not, or
 *  the driver uses INTx; -EINVAL: no such vector (with MSI, vectors that the driver did not get share
 *  the last); negative errno of the host. */
VMM_API int vmm_pci_signal(struct vmm_pci *pci, uint32_t vector);
/** An eventfd that sends a message whenever it is written, for others than this process (vhost, another
 *  process): KVM takes it by irqfd and a GSI of its own. While the vector is masked it is pending.
 *  -ENOTSUP: the bridge has no VM or delivers messages itself; -EINVAL: no such vector; -ENOSPC: no
 *  GSI is left. The descriptor is the function's. */
VMM_API int vmm_pci_vector_fd(struct vmm_pci *pci, uint32_t vector, int *fd);
/** The level of the interrupt pin. The line follows it while the driver uses INTx. */
VMM_API void vmm_pci_set_intx(struct vmm_pci *pci, uint32_t level);

/* Memory of the guest, as the function may reach it: -EACCES while it is not a bus master, -EFAULT as
 * vmm_memory_read(). Thread-safe. */
VMM_API int vmm_pci_dma_read(struct vmm_pci *pci, uint64_t address, void *data, size_t length);
VMM_API int vmm_pci_dma_write(struct vmm_pci *pci, uint64_t address, const void *data,
                              size_t length);

/* Host bridges --------------------------------------------------------------------------------- */

/** Addresses that a host bridge forwards to its functions. Length 0: none. */
struct vmm_pci_window {
    uint64_t address;
    uint64_t length;
};

struct vmm_pci_host_options {
    size_t size;
    const char *name;
    struct vmm_vm *vm;         /**< held; NULL: none (tests) */
    struct vmm_memory *memory; /**< held; NULL: no DMA, no BARs with memory */
    struct vmm_bus *mmio;      /**< held */
    struct vmm_bus *ports;     /**< held; NULL: no port BARs */
    uint64_t ecam_address;     /**< 1 MiB for each bus; 0: none */
    uint32_t buses;            /**< 1 to 256; 0: 1 */
    uint32_t config_port;      /**< of configuration mechanism 1, 8 ports (PC: 0xcf8); 0: none */
    struct vmm_pci_window port_window;
    struct vmm_pci_window window;      /**< of memory below 4 GiB */
    struct vmm_pci_window high_window; /**< of memory above it */
    /** INTA to INTD of device 0; others are swizzled. Taken over on success. NULL: none. */
    struct vmm_irq_line *intx[4];
    uint8_t intx_numbers[4]; /**< for the Interrupt Line registers */
    uint16_t vendor_id;      /**< of the bridge's own function 00:00.0; 0: 0x1b36 */
    uint16_t device_id;      /**< 0: 0x0008, QEMU's PCIe host bridge */
    /** Deliver a message, as vmm_vm_signal_msi() does. NULL: that. */
    int (*signal_msi)(void *ctx, const struct vmm_msi *msi);
    void *signal_msi_ctx;
    /** Of the bridge's own function; only `config_read` and `config_written`. Copied. NULL: none. */
    const struct vmm_pci_ops *ops;
    void *ops_ctx;
    /** Accesses to the address register of mechanism 1 that are not of all its 32 bits, as PCs have
     *  their reset control there; without a lock. NULL: reads are all ones, writes do nothing. */
    uint64_t (*port_read)(void *ctx, uint64_t offset, uint32_t width);
    void (*port_write)(void *ctx, uint64_t offset, uint32_t width, uint64_t value);
    void *port_ctx;
};
#define VMM_PCI_HOST_OPTIONS_INIT                                                                  \
    {                                                                                              \
        .size = sizeof(struct vmm_pci_host_options)                                                \
    }

VMM_API int vmm_pci_host_new(const struct vmm_pci_host_options *options, struct vmm_pci_host **out,
                             struct vmm_error *err);
VMM_API struct vmm_pci_host *vmm_pci_host_ref(struct vmm_pci_host *host);
/** The last reference removes all functions. Not from a callback of a device. */
VMM_API struct vmm_pci_host *vmm_pci_host_unref(struct vmm_pci_host *host);
VMM_API struct vmm_device *vmm_pci_host_device(struct vmm_pci_host *host);
/** Its own function 00:00.0, for vmm_pci_set_register() and vmm_pci_config(). Not a new reference. */
VMM_API struct vmm_pci *vmm_pci_host_function(struct vmm_pci_host *host);

/** Move the enhanced configuration space, or switch it off, as chipsets let firmware do. May be called
 *  from `config_written` of the bridge's own function. -ENODEV: it was made without; -EEXIST and -EINVAL
 *  as vmm_bus_place(). Thread-safe. */
VMM_API int vmm_pci_host_place_ecam(struct vmm_pci_host *host, uint64_t address, bool enabled,
                                    struct vmm_error *err);

#define VMM_PCI_ANY_SLOT UINT32_MAX

/**
 * Put a function on bus 0; the bridge holds it. The guest sees functions 1 to 7 of a slot only while
 * there is a function 0. Thread-safe.
 * @param slot  1 to 31, or VMM_PCI_ANY_SLOT for the first free one
 * -EEXIST: the place is taken; -ENOSPC: all slots are; -EBUSY: it is on a bridge already.
 */
VMM_API int vmm_pci_host_add(struct vmm_pci_host *host, struct vmm_pci *pci, uint32_t slot,
                             uint32_t function, struct vmm_error *err);
/** Take it off. When it returns, none of its callbacks runs or will run on behalf of the guest. Not
 *  from a callback of a device, nor with a device's lock held. Also for functions behind bridges: from a
 *  slot with hot plug it is a surprise to the guest, see vmm_pci_bridge_eject(). -ENOENT: it is not
 *  there; -EBUSY: it is a bridge with functions behind it. */
VMM_API int vmm_pci_host_remove(struct vmm_pci_host *host, struct vmm_pci *pci);
/** Bus, device and function as configuration addresses have them (8, 5 and 3 bits). -ENOENT: it is on
 *  no bridge. */
VMM_API int vmm_pci_address(struct vmm_pci *pci, uint32_t *address);

/**
 * Give every BAR a place in the windows, largest first, set the interrupt lines, and enable decoding:
 * what firmware does, for boards that have none. -ENOSPC: a window is too small; the BAR has no place
 * and its function is not enabled, the others are. Bridges and what is behind them are left to the guest.
 * Thread-safe, not while the guest runs.
 */
VMM_API int vmm_pci_host_assign(struct vmm_pci_host *host, struct vmm_error *err);

/* Bridges -------------------------------------------------------------------------------------- */

struct vmm_pci_bridge;
struct vmm_loop;

struct vmm_pci_bridge_options {
    size_t size;
    const char *name;
    uint32_t slot; /**< on the bus above: as vmm_pci_host_add(); 0: the first free one */
    uint32_t function;
    struct vmm_pci_bridge *parent; /**< the bridge above; NULL: bus 0 */
    /** Non-zero: a root port of PCI Express, on bus 0, with one slot that can be plugged while the guest
     *  runs (PCI Express 3.0 §6.7). Zero: a PCI-to-PCI bridge with 32 slots. */
    uint32_t express;
    uint32_t slot_number;  /**< express: what the guest calls the slot, up to 8191 */
    struct vmm_loop *loop; /**< express: where functions are removed; held */
    /** The guest has let go of the slot, and the function is off; on the loop's thread. May be NULL. */
    void (*unplugged)(void *ctx, struct vmm_pci *pci);
    void *ctx;
};
#define VMM_PCI_BRIDGE_OPTIONS_INIT                                                                \
    {                                                                                              \
        .size = sizeof(struct vmm_pci_bridge_options)                                              \
    }

/** Make a bridge and put it on a bus; the host bridge holds it. Bus numbers and windows are the guest's
 *  to set. Errors as vmm_pci_host_add(). */
VMM_API int vmm_pci_bridge_new(struct vmm_pci_host *host,
                               const struct vmm_pci_bridge_options *options,
                               struct vmm_pci_bridge **out, struct vmm_error *err);
VMM_API struct vmm_pci_bridge *vmm_pci_bridge_ref(struct vmm_pci_bridge *bridge);
VMM_API struct vmm_pci_bridge *vmm_pci_bridge_unref(struct vmm_pci_bridge *bridge);
/** Its own function. Not a new reference. */
VMM_API struct vmm_pci *vmm_pci_bridge_function(struct vmm_pci_bridge *bridge);
/**
 * Put a function behind it, also while the guest runs. Behind a root port there is slot 0 only; the guest
 * is told when function 0 comes, so that one is the last of several. -ENODEV: the bridge is on no bus;
 * else as vmm_pci_host_add(). Thread-safe.
 */
VMM_API int vmm_pci_bridge_add(struct vmm_pci_bridge *bridge, struct vmm_pci *pci, uint32_t slot,
                               uint32_t function, struct vmm_error *err);
/** Press the slot's attention button: a guest that agrees switches the slot off after some seconds, and
 *  then the functions are removed. -ENODEV: the slot is empty; -ENOTSUP: no hot plug. Thread-safe. */
VMM_API int vmm_pci_bridge_eject(struct vmm_pci_bridge *bridge);

/** Access configuration space as the guest does; `width` is 1, 2 or 4, `offset` aligned to it and below
 *  4096. -ENOENT: no function is there (a read gives all ones); -EINVAL. Thread-safe. */
VMM_API int vmm_pci_host_config_read(struct vmm_pci_host *host, uint32_t address, uint32_t offset,
                                     uint32_t width, uint32_t *value);
VMM_API int vmm_pci_host_config_write(struct vmm_pci_host *host, uint32_t address, uint32_t offset,
                                      uint32_t width, uint32_t value);

VMM_END_DECLS

#endif
