/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI from the inside.
 *
 * Locks, in the order in which they are taken: a bridge's `tree` (which functions there are; read
 * during an access to configuration space), the function's device's lock (its registers), the bridge's
 * `place_lock` (where BARs are), the function's `irq_lock`, the bridge's `intx_lock`.
 */
#ifndef DEVICES_PCI_INTERNAL_H
#define DEVICES_PCI_INTERNAL_H

#include <libvmm/pci.h>

#include <pthread.h>
#include <stdatomic.h>

/* Registers of the header (PCI 3.0 §6.1) */
#define PCI_VENDOR_ID      0x00u
#define PCI_DEVICE_ID      0x02u
#define PCI_COMMAND        0x04u
#define PCI_STATUS         0x06u
#define PCI_REVISION       0x08u
#define PCI_CLASS          0x09u
#define PCI_CACHE_LINE     0x0cu
#define PCI_HEADER_TYPE    0x0eu
#define PCI_BAR0           0x10u
#define PCI_SUBSYSTEM      0x2cu
#define PCI_ROM            0x30u
#define PCI_CAPABILITIES   0x34u
#define PCI_BUS_NUMBERS    0x18u /* of a bridge: primary, secondary, subordinate */
#define PCI_WINDOWS        0x1cu
#define PCI_WINDOWS_END    0x34u
#define PCI_INTERRUPT_LINE 0x3cu
#define PCI_INTERRUPT_PIN  0x3du
#define PCI_HEADER_END     0x40u

#define COMMAND_PORTS        0x0001u
#define COMMAND_MEMORY       0x0002u
#define COMMAND_BUS_MASTER   0x0004u
#define COMMAND_PARITY       0x0040u
#define COMMAND_SERR         0x0100u
#define COMMAND_INTX_DISABLE 0x0400u
#define STATUS_INTERRUPT     0x0008u
#define STATUS_CAPABILITIES  0x0010u

#define HEADER_BRIDGE        0x01u
#define HEADER_MULTIFUNCTION 0x80u

#define CAP_PM      0x01u
#define CAP_MSI     0x05u
#define CAP_EXPRESS 0x10u
#define CAP_MSIX    0x11u

#define MSI_ENABLE        0x0001u
#define MSIX_ENABLE       0x8000u
#define MSIX_MASK_ALL     0x4000u
#define MSIX_ENTRY        16u
#define MSIX_VECTORS_MAX  2048u
#define MSIX_VECTOR_MASK  1u
#define CONFIG_SIZE       256u
#define CONFIG_ALL        4096u /* with the extended space, which functions of this library leave empty */
#define PCI_BARS_AND_ROM  7u
#define PCI_FUNCTIONS_MAX 256u

/* A bus: the root's, or the one behind a bridge. */
struct pci_bus {
    /* By slot and function; held with their devices. */
    struct vmm_pci *functions[PCI_FUNCTIONS_MAX];
    struct vmm_pci *bridge; /* NULL: the root */
    bool one_slot;          /* behind a port of PCI Express */
    _Atomic bool occupied;  /* slot 0 has a function 0 */
    /* Somebody came or went; without locks. NULL: no matter. */
    void (*changed)(struct vmm_pci *bridge);
    _Atomic uint32_t numbers; /* secondary, subordinate: as the guest has set them */
    /* What the bridge forwards: ports, memory, prefetchable memory; guarded by place_lock. */
    struct vmm_pci_window windows[3];
};

struct pci_bar {
    struct vmm_pci *pci;
    uint32_t index;
    struct vmm_pci_bar declared;
    struct vmm_region *region; /* made when it is first placed */
    bool in_memory;            /* the memory map holds it, enabled or not */
    /* Guarded by the host bridge's place_lock. */
    bool on, placed; /* decoded; answering */
    uint64_t address, placed_at;
};

/* A vector that others signal by an eventfd. */
struct pci_vector_fd {
    int fd;
    uint32_t gsi;
    bool attached;
    struct vmm_msi msi; /* as routed */
};

struct vmm_pci {
    struct vmm_device *device;
    bool own_device;
    _Atomic uint32_t refs; /* where the device is another's */
    struct vmm_pci_ops ops;
    void *ctx;
    uint32_t msi_vectors, msix_vectors, msix_bar;
    bool express;
    struct pci_bar bars[PCI_BARS_AND_ROM];

    uint8_t config[CONFIG_SIZE];
    uint8_t initial[CONFIG_SIZE];
    uint8_t writable[CONFIG_SIZE];
    uint8_t clearable[CONFIG_SIZE]; /* bits that writing a one clears */
    uint8_t changing[CONFIG_SIZE];  /* bits that the device changes */
    uint32_t next_capability, last_capability;
    uint32_t pm, msi, msix, pcie; /* where the capabilities are; 0: none */

    pthread_mutex_t irq_lock; /* guards what follows, and writes to config */
    uint32_t pin_level;       /* as the device has it */
    bool line_raised;         /* as the host bridge has been told */
    uint32_t line;            /* and of which line */
    uint8_t *table;           /* MSI-X: entries of MSIX_ENTRY bytes */
    uint64_t *pending;        /* MSI-X */
    struct pci_vector_fd *fds;
    uint32_t fd_count;
    struct vmm_pci_host *host; /* NULL: on none; changed with the device's lock held too */
    struct pci_bus *bus;
    struct pci_bus *secondary; /* of a bridge */
    uint32_t address;          /* slot and function on its bus */
    struct vmm_pci *next_placing;
    struct vmm_vm *vm; /* the bridge's, held as long as the function is there */
    struct vmm_memory *memory;
};

struct vmm_pci_host {
    _Atomic uint32_t refs;
    struct vmm_device *device;
    struct vmm_pci_host_options options; /* its objects are held */
    pthread_rwlock_t tree;
    struct pci_bus root;
    struct vmm_pci *self;
    pthread_mutex_t place_lock;
    struct vmm_pci *placing; /* a list, guarded by place_lock: whose BARs it places */
    pthread_mutex_t intx_lock;
    uint32_t intx_count[4];
    _Atomic uint32_t config_address; /* of mechanism 1 */
    struct vmm_region *ecam_region, *config_region;
};

/* tree.c */
struct vmm_pci *vmm_pci_function_at(struct vmm_pci_host *host, uint32_t address);
uint32_t vmm_pci_requester(const struct vmm_pci *pci); /* its bus, slot and function */
int vmm_pci_bus_add(struct vmm_pci_host *host, struct pci_bus *bus, struct vmm_pci *pci,
                    uint32_t slot, uint32_t function, struct vmm_error *err);
void vmm_pci_bus_clear(struct vmm_pci_host *host, struct pci_bus *bus);

/* config.c; the device's lock is held. */
int vmm_pci_build_header(struct vmm_pci *pci, const struct vmm_pci_options *o,
                         struct vmm_error *err);
uint32_t vmm_pci_config_get(struct vmm_pci *pci, uint32_t offset, uint32_t width);
void vmm_pci_config_put(struct vmm_pci *pci, uint32_t offset, uint32_t width, uint32_t value);
void vmm_pci_bus_numbers_update(struct vmm_pci *pci);
/* Make it a bridge: the header of type 1. */
void vmm_pci_build_bridge_header(struct vmm_pci *pci, struct pci_bus *secondary);
uint16_t vmm_pci_command(const struct vmm_pci *pci);

/* capability.c */
int vmm_pci_add_capabilities(struct vmm_pci *pci, const struct vmm_pci_options *o,
                             struct vmm_error *err);
bool vmm_pci_powered(const struct vmm_pci *pci); /* in D0 */

/* bar.c */
int vmm_pci_check_bars(const struct vmm_pci_options *o, struct vmm_error *err);
/* What the registers say, to the buses; the device's lock is held. */
void vmm_pci_bars_update(struct vmm_pci *pci);
/* From now on they follow the registers. */
void vmm_pci_bars_join(struct vmm_pci *pci);
/* Off the buses. */
void vmm_pci_bars_take_off(struct vmm_pci *pci);
/* Free what is left of them; without locks. */
void vmm_pci_bars_release(struct vmm_pci *pci, struct vmm_pci_host *host);
uint32_t vmm_pci_bar_register(uint32_t index);
uint64_t vmm_pci_bar_address(const struct vmm_pci *pci, uint32_t index);

/* message.c; the irq_lock is held. */
bool vmm_pci_messages_enabled(const struct vmm_pci *pci);
void vmm_pci_messages_update(struct vmm_pci *pci);
void vmm_pci_vector_update(struct vmm_pci *pci, uint32_t vector);
bool vmm_pci_vector_pending(struct vmm_pci *pci, uint32_t vector);
void vmm_pci_intx_update(struct vmm_pci *pci);
void vmm_pci_vector_fds_free(struct vmm_pci *pci);

/* msix.c */
uint64_t vmm_pci_msix_bar_length(uint32_t vectors);
uint32_t vmm_pci_msix_pba(uint32_t vectors);
uint64_t vmm_pci_msix_read(struct vmm_pci *pci, uint64_t offset, uint32_t width);
void vmm_pci_msix_write(struct vmm_pci *pci, uint64_t offset, uint32_t width, uint64_t value);
int vmm_pci_msix_save(struct vmm_pci *pci, struct vmm_state_writer *w);
/* Checked copies of table and pending bits, which the caller frees or takes over. */
int vmm_pci_msix_load(struct vmm_pci *pci, struct vmm_state_reader *r, uint8_t **table,
                      uint64_t **pending, struct vmm_error *err);

/* host.c: one of the four lines, swizzled; the function's irq_lock is held. */
void vmm_pci_host_set_intx(struct vmm_pci_host *host, uint32_t line, bool raise);
int vmm_pci_send(struct vmm_pci *pci, const struct vmm_msi *msi);

#endif
