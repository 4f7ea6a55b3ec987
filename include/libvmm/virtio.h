/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file virtio.h
 * Virtio 1.2 devices: the part that all share (status, features, queues), the transports (MMIO,
 * PCI), and what an embedder needs to write a device of their own.
 *
 * A device does not know its transport. It gets callbacks, takes chains of buffers off its queues and
 * gives them back:
 *
 *     while (vmm_virtio_queue_pop(queue, chain) > 0) {
 *         … read chain->readable, write chain->writable …
 *         vmm_virtio_queue_push(queue, chain, bytes_written);
 *     }
 *     vmm_virtio_queue_signal(queue);
 *
 * Threads: `notify` runs on the loop's thread with that queue's lock held. All other callbacks run
 * with the device's lock held, on any thread. The device's lock is taken before a queue's, never
 * the other way round: code that holds a queue's lock must not take the device's.
 *
 * A driver that breaks the rules of the queues is told by DEVICE_NEEDS_RESET, and the embedder by
 * the VM's guest_error callback; the device then does nothing until it is reset.
 */
#ifndef LIBVMM_VIRTIO_H
#define LIBVMM_VIRTIO_H

#include <libvmm/bus.h>
#include <libvmm/irq.h>
#include <libvmm/loop.h>
#include <libvmm/memory.h>

#include <sys/uio.h>

VMM_BEGIN_DECLS

struct vmm_virtio;
struct vmm_virtio_queue;

#define VMM_VIRTIO_QUEUE_MAX 32768u /**< entries in a queue */
#define VMM_VIRTIO_CHAIN_MAX 1024u  /**< descriptors in a chain */

/* Feature bits that belong to no device (VIRTIO 1.2 §6). */
#define VMM_VIRTIO_F_INDIRECT    28u
#define VMM_VIRTIO_F_EVENT_IDX   29u
#define VMM_VIRTIO_F_VERSION_1   32u
#define VMM_VIRTIO_F_PACKED      34u
#define VMM_VIRTIO_F_QUEUE_RESET 40u

/** A mask of one feature. */
#define VMM_VIRTIO_FEATURE(bit) ((uint64_t)1 << (bit))

struct vmm_virtio_ops {
    size_t size;
    /** There may be new chains in a queue. The queue's lock is held. */
    void (*notify)(void *ctx, uint32_t queue);
    /** The driver's features have been accepted (a subset of what was offered). May be NULL. */
    void (*features)(void *ctx, uint64_t features);
    /** Configuration space; the range is inside of config_size. NULL: reads as zeros. */
    void (*config_read)(void *ctx, uint32_t offset, void *data, uint32_t length);
    void (*config_write)(void *ctx, uint32_t offset, const void *data, uint32_t length);
    /** Forget everything about a queue. When it returns, nothing reads or writes the buffers of its
     *  chains any more; chains that are still out may be pushed or dropped later: both do nothing.
     *  The queue's lock is held. May be NULL. */
    void (*queue_reset)(void *ctx, uint32_t queue);
    /** Back to power-on; every queue has been reset. May be NULL. */
    void (*reset)(void *ctx);
    /** The device's own fields, into the node that is open. No chain may stay out: finish what is
     *  under way in `save`. May be NULL. */
    int (*save)(void *ctx, struct vmm_state_writer *w);
    int (*load)(void *ctx, struct vmm_state_reader *r, struct vmm_error *err);
    /** Nothing calls any more: free `ctx`. May be NULL. */
    void (*destroy)(void *ctx);
};

struct vmm_virtio_options {
    size_t size;
    const char *name;        /**< as vmm_device_new() takes it */
    uint32_t device_id;      /**< VIRTIO 1.2 §5 */
    uint32_t queues;         /**< 1 to 1024 */
    uint32_t queue_size_max; /**< a power of two up to 32768; 0: 256 */
    uint32_t chain_max;      /**< descriptors in a chain, up to 1024; 0: 256 */
    uint64_t features;       /**< the device's own; those of the queues are added */
    uint64_t features_off;   /**< of those that would be added: not to be offered */
    uint32_t config_size;    /**< bytes; at most 256 */
    uint32_t reserved;
    struct vmm_vm *vm;         /**< held; NULL: none (tests) */
    struct vmm_memory *memory; /**< held */
    struct vmm_loop *loop;     /**< held: where queues are worked on */
    const struct vmm_virtio_ops *ops;
    void *ctx;
};
#define VMM_VIRTIO_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_virtio_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                \
    }

/** -EINVAL: options out of range; -EMFILE, -ENOMEM. `destroy` is not called when this fails. */
VMM_API int vmm_virtio_new(const struct vmm_virtio_options *options, struct vmm_virtio **out,
                           struct vmm_error *err);
VMM_API struct vmm_virtio *vmm_virtio_ref(struct vmm_virtio *virtio);
/** Not from inside a callback of the device's loop, unless others hold it. */
VMM_API struct vmm_virtio *vmm_virtio_unref(struct vmm_virtio *virtio);
/** For reset, save and load. Not a new reference. */
VMM_API struct vmm_device *vmm_virtio_device(struct vmm_virtio *virtio);
VMM_API uint32_t vmm_virtio_id(const struct vmm_virtio *virtio);
/** What device and driver have agreed on; 0 before. Thread-safe. */
VMM_API uint64_t vmm_virtio_features(const struct vmm_virtio *virtio);
/** NULL: there is no such queue. */
VMM_API struct vmm_virtio_queue *vmm_virtio_queue(struct vmm_virtio *virtio, uint32_t index);
/** Tell the driver that the configuration has changed. The device's lock is held. */
VMM_API void vmm_virtio_config_changed(struct vmm_virtio *virtio);
/** The driver did what it must not: report it, and stop until it resets. Thread-safe. */
VMM_API void vmm_virtio_guest_error(struct vmm_virtio *virtio, const char *text);

/* Queues -------------------------------------------------------------------------------------- */

/** Buffers that the driver has made available together. Its memory is made once and used anew. */
struct vmm_virtio_chain {
    struct iovec *readable; /**< what the driver wrote */
    size_t readable_count;
    uint64_t readable_length; /**< bytes in all */
    struct iovec *writable;   /**< what the driver wants to be written */
    size_t writable_count;
    uint64_t writable_length;
    struct vmm_guest_range *ranges; /**< the same as addresses: readable ones, then writable ones */
    size_t readable_ranges;
    size_t writable_ranges;
    struct vmm_scatter held[2]; /**< the library's, as all that follows */
    uint64_t epoch;
    uint32_t id;
    uint32_t descriptors;
    uint32_t out;
    uint32_t written;
};

/** A chain for queues of this device. */
VMM_API int vmm_virtio_chain_new(const struct vmm_virtio *virtio, struct vmm_virtio_chain **out);
/** It must not be out. */
VMM_API struct vmm_virtio_chain *vmm_virtio_chain_free(struct vmm_virtio_chain *chain);

/** Taken already in `notify` and `queue_reset`; for completions that come later. */
VMM_API void vmm_virtio_queue_lock(struct vmm_virtio_queue *queue);
VMM_API void vmm_virtio_queue_unlock(struct vmm_virtio_queue *queue);

/* The following want the queue's lock. */

/** Take the next chain off: 1; 0: there is none, or it is another queue's turn (`notify` comes
 *  again); -EINVAL: the driver broke the rules; -ENOMEM. The chain is out until it is pushed. */
VMM_API int vmm_virtio_queue_pop(struct vmm_virtio_queue *queue, struct vmm_virtio_chain *chain);
/** Give it back. @param written  bytes from the beginning of the writable part that were written */
VMM_API void vmm_virtio_queue_push(struct vmm_virtio_queue *queue, struct vmm_virtio_chain *chain,
                                   uint64_t written);
/** Give several back so that the driver sees them all or none: those that one packet was put into
 *  (VIRTIO_NET_F_MRG_RXBUF). */
VMM_API void vmm_virtio_queue_push_all(struct vmm_virtio_queue *queue,
                                       struct vmm_virtio_chain *const *chains,
                                       const uint64_t *written, size_t count);
/** Put the chain that was taken last back, as if it had not been: it is popped again. Of several, the
 *  last one first. For `save`, which must leave none out. */
VMM_API void vmm_virtio_queue_unpop(struct vmm_virtio_queue *queue, struct vmm_virtio_chain *chain);
/** Let go of a chain without giving it back: after a reset of the queue. */
VMM_API void vmm_virtio_queue_drop(struct vmm_virtio_queue *queue, struct vmm_virtio_chain *chain);
/** Has the queue been reset since? Then the memory of the chain is the driver's again. */
VMM_API bool vmm_virtio_chain_stale(const struct vmm_virtio_queue *queue,
                                    const struct vmm_virtio_chain *chain);
/** Interrupt the driver if it wants to know of what was pushed. */
VMM_API void vmm_virtio_queue_signal(struct vmm_virtio_queue *queue);

/** Have `notify` called soon, as if the driver had. Thread-safe, without a lock. */
VMM_API void vmm_virtio_queue_kick(struct vmm_virtio_queue *queue);

/** Copy between a vector and a buffer from byte `offset` of the vector; how much there was. */
VMM_API size_t vmm_iov_read(const struct iovec *iov, size_t count, uint64_t offset, void *data,
                            size_t length);
VMM_API size_t vmm_iov_write(const struct iovec *iov, size_t count, uint64_t offset,
                             const void *data, size_t length);

/* The MMIO transport (VIRTIO 1.2 §4.2) --------------------------------------------------------- */

#define VMM_VIRTIO_MMIO_SIZE 0x200u

/**
 * Put a device on a bus. It must be on no transport yet (-EBUSY). Where the device has a VM,
 * notifications come by ioeventfd.
 * @param irq  level-triggered; taken over on success. NULL: none
 */
VMM_API int vmm_virtio_mmio_attach(struct vmm_virtio *virtio, struct vmm_bus *bus, uint64_t address,
                                   struct vmm_irq_line *irq, struct vmm_error *err);

/* The PCI transport (VIRTIO 1.2 §4.1) ---------------------------------------------------------- */

struct vmm_pci;
struct vmm_pci_host;
struct vmm_pci_bridge;

struct vmm_virtio_pci_options {
    size_t size;
    uint32_t slot; /**< 0: the first free one */
    uint32_t function;
    /** Non-zero: also a legacy interface in I/O ports, for drivers from before version 1. Such a driver
     *  does not accept VMM_VIRTIO_F_VERSION_1, which the device has to allow for. */
    uint32_t transitional;
    uint32_t reserved;
    /** Behind this bridge of the host bridge, also while the guest runs: a root port has slot 0 only, and
     *  vmm_pci_bridge_eject(). NULL: on bus 0. */
    struct vmm_pci_bridge *bridge;
};
#define VMM_VIRTIO_PCI_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_virtio_pci_options), 0, 0, 0, 0, 0                                       \
    }

/**
 * Put a device on a PCI bus, with an MSI-X vector for the configuration and for each queue; the bridge
 * holds it. Where the device has a VM, notifications come by ioeventfd. -EBUSY: it is on a transport;
 * -ENOTSUP: transitional, and legacy drivers know no such device; else as vmm_pci_host_add().
 * @param options  NULL: the defaults
 */
VMM_API int vmm_virtio_pci_attach(struct vmm_virtio *virtio, struct vmm_pci_host *host,
                                  const struct vmm_virtio_pci_options *options,
                                  struct vmm_error *err);
/** Its PCI function, as for vmm_pci_host_remove(); NULL: it is on another transport, or on none. */
VMM_API struct vmm_pci *vmm_virtio_pci(struct vmm_virtio *virtio);

/* Devices ------------------------------------------------------------------------------------- */

/** Where a device lives: what all of the following need. */
struct vmm_virtio_place {
    size_t size;
    const char *name;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_loop *loop;
};
#define VMM_VIRTIO_PLACE_INIT                                                                      \
    {                                                                                              \
        sizeof(struct vmm_virtio_place), 0, 0, 0, 0                                                \
    }

/** A source of random numbers (§5.4), fed by the host's getrandom(). */
VMM_API int vmm_virtio_rng_new(const struct vmm_virtio_place *place, struct vmm_virtio **out,
                               struct vmm_error *err);

/** A memory balloon (§5.5): the driver gives pages back to the host as it is asked to, and reports
 *  those that it does not use. */
VMM_API int vmm_virtio_balloon_new(const struct vmm_virtio_place *place, struct vmm_virtio **out,
                                   struct vmm_error *err);
/** How much the driver is to give back. -EINVAL: no balloon, or too much. Thread-safe. */
VMM_API int vmm_balloon_set_target(struct vmm_virtio *virtio, uint64_t bytes);

#define VMM_BALLOON_STATS 10u /**< tags of statistics that are known (§5.5.6.4) */
struct vmm_balloon_stats {
    size_t size;
    uint64_t target;  /**< bytes asked for */
    uint64_t actual;  /**< bytes that the driver says it has given back */
    uint64_t updates; /**< how often statistics have come */
    uint32_t known;   /**< a bit for each value that has come */
    uint32_t reserved;
    uint64_t value[VMM_BALLOON_STATS]; /**< by tag; memory in bytes */
};
#define VMM_BALLOON_STATS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_balloon_stats), 0, 0, 0, 0, 0,                                           \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
/** The last statistics that came; asks for new ones. -EINVAL: no balloon. Thread-safe. */
VMM_API int vmm_balloon_get_stats(struct vmm_virtio *virtio, struct vmm_balloon_stats *stats);

struct vmm_block; /* block.h */

struct vmm_virtio_blk_options {
    size_t size;
    struct vmm_block *block; /**< held; on the loop of the device */
    const char *serial;      /**< at most 20 characters; NULL: none */
    uint32_t queues;         /**< at most 64; 0: 1 */
    uint32_t read_only;      /**< non-zero: also where the backend could be written */
};
#define VMM_VIRTIO_BLK_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_virtio_blk_options), 0, 0, 0, 0                                          \
    }

/** A disk (§5.2): reads, writes, flushes, discards and writes of zeros. */
VMM_API int vmm_virtio_blk_new(const struct vmm_virtio_place *place,
                               const struct vmm_virtio_blk_options *options,
                               struct vmm_virtio **out, struct vmm_error *err);
/** Change the length of the image and tell the driver. On the loop's thread, not from a callback of
 *  the disk. Errors as vmm_block_resize(). */
VMM_API int vmm_virtio_blk_resize(struct vmm_virtio *virtio, uint64_t length,
                                  struct vmm_error *err);

struct vmm_net; /* net.h */

#define VMM_VIRTIO_NET_QUEUES_MAX 64u /**< pairs */

struct vmm_virtio_net_options {
    size_t size;
    struct vmm_net *net;   /**< held; without a user. It may be on another loop */
    const uint8_t *mac;    /**< six bytes; NULL: random, locally administered */
    uint32_t queues;       /**< pairs of them; 0: 1 */
    uint32_t queue_size;   /**< entries in each: a power of two to 1024; 0: 256 */
    uint32_t mtu;          /**< that the driver is told, 68 to 65535; 0: nothing */
    uint32_t speed;        /**< Mbit/s that the driver is told, with full duplex; 0: nothing */
    uint32_t offloads_off; /**< VMM_NET_CSUM, …: not to be offered although the backend has them */
    uint32_t reserved;
    uint64_t features_off; /**< features of the queues that are not to be offered */
};
#define VMM_VIRTIO_NET_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_virtio_net_options), 0, 0, 0, 0, 0, 0, 0, 0, 0                           \
    }

/** A network card (§5.1): several queues, merged buffers, a control queue with filters, and those
 *  checksum and segmentation offloads that the backend passes on. -EBUSY: the net has a user. */
VMM_API int vmm_virtio_net_new(const struct vmm_virtio_place *place,
                               const struct vmm_virtio_net_options *options,
                               struct vmm_virtio **out, struct vmm_error *err);
/** Pull the cable (false) or put it in again; while it is out no frame passes, whatever the backend's
 *  link is. -EINVAL: no network card. Thread-safe. */
VMM_API int vmm_virtio_net_set_link(struct vmm_virtio *virtio, bool up);
/** Have the driver announce where it is (after a migration); done by itself when the state has been
 *  loaded. -EINVAL: no network card; -ENOTSUP: its driver cannot. Thread-safe. */
VMM_API int vmm_virtio_net_announce(struct vmm_virtio *virtio);
/** Its address now, which a driver may have changed. -EINVAL: no network card. Thread-safe. */
VMM_API int vmm_virtio_net_mac(struct vmm_virtio *virtio, uint8_t mac[6]);

struct vmm_share; /* share.h */

struct vmm_virtio_9p_options {
    size_t size;
    struct vmm_share *share; /**< held; of no other device */
    const char *tag;         /**< by which the driver mounts it: 1 to 128 bytes */
    /** Non-zero: a thread of its own carries the messages out, so that a slow file system holds up
     *  nothing else. 0: the loop's does. */
    uint32_t worker;
    uint32_t reserved;
};
#define VMM_VIRTIO_9P_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_virtio_9p_options), 0, 0, 0, 0                                           \
    }

/** A folder of the host, by 9P2000.L (device 9). */
VMM_API int vmm_virtio_9p_new(const struct vmm_virtio_place *place,
                              const struct vmm_virtio_9p_options *options, struct vmm_virtio **out,
                              struct vmm_error *err);

struct vmm_virtio_pmem_options {
    size_t size;
    const char *path; /**< a file whose length is a multiple of 2 MiB */
    uint64_t address; /**< where the guest finds it: free memory, a multiple of 2 MiB */
    /** Non-zero: a thread of its own carries out the driver's flushes. 0: the loop's does. */
    uint32_t worker;
    uint32_t reserved;
};
#define VMM_VIRTIO_PMEM_OPTIONS_INIT                                                               \
    {                                                                                              \
        sizeof(struct vmm_virtio_pmem_options), 0, 0, 0, 0                                         \
    }

/** A file as persistent memory (§5.19): mapped into the guest, flushed to disk when its driver says so.
 *  The file is locked as a disk image is. -EBUSY: it is in use; -EINVAL: its length, or the address;
 *  errors of vmm_backing_new() and vmm_memory_add(). */
VMM_API int vmm_virtio_pmem_new(const struct vmm_virtio_place *place,
                                const struct vmm_virtio_pmem_options *options,
                                struct vmm_virtio **out, struct vmm_error *err);

#define VMM_VIRTIO_SCSI_UNITS 64u

struct vmm_virtio_scsi_unit {
    size_t size;
    struct vmm_block *block; /**< held; on the loop of the device */
    const char *serial;      /**< at most 20 characters; NULL: none */
    uint32_t cdrom;     /**< non-zero: a CD-ROM, or a DVD if longer than one, of 2048-byte blocks */
    uint32_t read_only; /**< non-zero: also where the backend could be written */
};
#define VMM_VIRTIO_SCSI_UNIT_INIT                                                                  \
    {                                                                                              \
        sizeof(struct vmm_virtio_scsi_unit), 0, 0, 0, 0                                            \
    }

struct vmm_virtio_scsi_options {
    size_t size;
    const struct vmm_virtio_scsi_unit *const *units; /**< target 0, 1, …; each has logical unit 0 */
    uint32_t unit_count;                             /**< 1 to VMM_VIRTIO_SCSI_UNITS */
    uint32_t queues;                                 /**< of commands, at most 16; 0: 1 */
};
#define VMM_VIRTIO_SCSI_OPTIONS_INIT                                                               \
    {                                                                                              \
        sizeof(struct vmm_virtio_scsi_options), 0, 0, 0                                            \
    }

/** A SCSI controller (§5.6) with disks and CD-ROMs. */
VMM_API int vmm_virtio_scsi_new(const struct vmm_virtio_place *place,
                                const struct vmm_virtio_scsi_options *options,
                                struct vmm_virtio **out, struct vmm_error *err);

VMM_END_DECLS

#endif
