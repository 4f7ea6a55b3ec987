/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtio from the inside: the device as transports see it, and the two layouts of queues.
 *
 * Locks: the device's (vmm_device_lock) guards features, configuration and the registers of the
 * queues while they are off; a queue's lock guards all of the queue once it is on; a transport's own
 * lock for interrupts is the innermost. They are taken in that order.
 */
#ifndef DEVICES_VIRTIO_INTERNAL_H
#define DEVICES_VIRTIO_INTERNAL_H

#include <libvmm/virtio.h>

#include <pthread.h>
#include <stdatomic.h>

/* §2.1 */
#define STATUS_ACKNOWLEDGE 0x01u
#define STATUS_DRIVER      0x02u
#define STATUS_DRIVER_OK   0x04u
#define STATUS_FEATURES_OK 0x08u
#define STATUS_NEEDS_RESET 0x40u
#define STATUS_FAILED      0x80u

/* Descriptor flags (§2.7.5, §2.8.13). */
#define DESC_NEXT     0x1u
#define DESC_WRITE    0x2u
#define DESC_INDIRECT 0x4u
#define DESC_SIZE     16u

#define INTERRUPT_QUEUE  1u
#define INTERRUPT_CONFIG 2u

struct vmm_virtio_transport {
    /* From any thread, with any lock of the device held. */
    void (*interrupt)(void *ctx, uint32_t what, uint32_t queue);
    /* The transport's own registers. The device's lock is held. */
    void (*reset)(void *ctx);
    int (*save)(void *ctx, struct vmm_state_writer *w);
    int (*load)(void *ctx, struct vmm_state_reader *r, struct vmm_error *err);
    void (*destroy)(void *ctx);
    /* Reset of the machine, not of the device by its driver; after `reset`. May be NULL. */
    void (*power_on)(void *ctx);
};

/* A queue as its registers have it. */
struct virtio_ring {
    uint32_t size;
    bool enabled;
    uint64_t desc, driver, device; /* split: descriptor table, available ring, used ring */
    uint16_t next_avail;           /* split: the index; packed: the place in the ring */
    uint16_t next_used;
    bool avail_wrap, used_wrap; /* packed */
    uint16_t signalled;         /* next_used when the driver was last told */
    bool signalled_wrap;
};

struct vmm_virtio_queue {
    struct vmm_virtio *virtio;
    uint32_t index;
    pthread_mutex_t lock;
    int kick_fd;
    struct vmm_source *source;
    struct vmm_memory_view view;
    struct virtio_ring ring;
    bool packed, indirect, event_idx; /* as negotiated, set when it is enabled */
    uint64_t epoch;                   /* counts resets: chains of an earlier one are stale */
    uint32_t budget;                  /* chains that may still be popped in this turn */
    bool saw_empty;                   /* the last pop found nothing */
};

struct vmm_virtio {
    struct vmm_device *device;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_virtio_ops ops;
    void *ctx;
    uint32_t id, config_size, queue_count, queue_size_max, chain_max;
    uint64_t offered;
    uint64_t wanted; /* what the driver writes, until FEATURES_OK */
    _Atomic uint64_t accepted;
    _Atomic uint32_t status;
    _Atomic uint32_t generation; /* of the configuration */
    bool external;               /* another process works on the rings; `notify` hands them over */
    struct vmm_virtio_queue *queues;
    const struct vmm_virtio_transport *transport;
    void *transport_ctx;
};

/* One descriptor, copied out of the guest's memory. */
struct virtio_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next; /* packed: the buffer's id */
};

/* For transports; the device's lock is held. */
void vmm_virtio_set_status(struct vmm_virtio *v, uint32_t status);
/* A driver from before version 1 has begun to use rings: its features are what it wrote. */
void vmm_virtio_accept_legacy(struct vmm_virtio *v);
void vmm_virtio_reset_locked(struct vmm_virtio *v);
void vmm_virtio_set_features(struct vmm_virtio *v, uint32_t select, uint32_t value);
void vmm_virtio_config_read(struct vmm_virtio *v, uint64_t offset, void *data, uint32_t length);
void vmm_virtio_config_write(struct vmm_virtio *v, uint64_t offset, const void *data,
                             uint32_t length);
void vmm_virtio_attach(struct vmm_virtio *v, const struct vmm_virtio_transport *transport,
                       void *ctx);
bool vmm_virtio_live(const struct vmm_virtio *v);

/* DEVICE_NEEDS_RESET, for a reason that is not the driver's. True: it was not so before. Thread-safe. */
bool vmm_virtio_needs_reset(struct vmm_virtio *v);

/* The parts of `given` into the options of a device. */
int vmm_virtio_place_copy(struct vmm_virtio_place *to, const struct vmm_virtio_place *given,
                          struct vmm_virtio_options *options, struct vmm_error *err);

/* queue.c */
/* Empty an eventfd, never waiting: others who have it may have made it a blocking one. */
void vmm_virtio_take_event(int fd);
int vmm_virtio_queue_init(struct vmm_virtio *v, uint32_t index);
/* No notification comes any more. */
void vmm_virtio_queue_stop(struct vmm_virtio_queue *q);
void vmm_virtio_queue_fini(struct vmm_virtio_queue *q);
void vmm_virtio_queue_enable(struct vmm_virtio_queue *q);
void vmm_virtio_queue_reset(struct vmm_virtio_queue *q);
void vmm_virtio_queue_take_over(struct vmm_virtio_queue *q, const struct virtio_ring *ring);
int vmm_virtio_queue_save(struct vmm_virtio_queue *q, struct vmm_state_writer *w);
int vmm_virtio_queue_load(struct vmm_virtio_queue *q, struct vmm_state_reader *r,
                          struct virtio_ring *ring, struct vmm_error *err);
bool vmm_virtio_ring_ok(const struct vmm_virtio *v, const struct virtio_ring *ring, bool packed);
/* A turn outside of `notify`: as many chains as the ring has may be popped again. Whoever then finds the
 * ring empty kicks the queue if the driver's next buffers are to be told of. */
void vmm_virtio_queue_turn(struct vmm_virtio_queue *q);
/* Report and return -EINVAL. */
int vmm_virtio_queue_broken(struct vmm_virtio_queue *q, const char *what);
/* Add one descriptor to a chain that is being taken. */
int vmm_virtio_chain_add(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c,
                         const struct virtio_desc *d);
/* All descriptors of an indirect table. */
int vmm_virtio_chain_add_table(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c,
                               const struct virtio_desc *table);
int vmm_virtio_desc_read(struct vmm_virtio_queue *q, uint64_t address, struct virtio_desc *d);

/* split.c and packed.c: 1, 0 or a negative errno, as vmm_virtio_queue_pop(). */
int vmm_virtio_split_pop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c);
int vmm_virtio_split_push(struct vmm_virtio_queue *q, struct vmm_virtio_chain *const *chains,
                          size_t count);
bool vmm_virtio_split_wants_signal(struct vmm_virtio_queue *q);
/* Ask for notifications, or not; then, after `wanted`: is there something already? */
bool vmm_virtio_split_want_kicks(struct vmm_virtio_queue *q, bool wanted);
int vmm_virtio_packed_pop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c);
int vmm_virtio_packed_push(struct vmm_virtio_queue *q, struct vmm_virtio_chain *const *chains,
                           size_t count);
/* Go so many descriptors back. */
void vmm_virtio_packed_unpop(struct virtio_ring *r, uint32_t descriptors);
bool vmm_virtio_packed_wants_signal(struct vmm_virtio_queue *q);
bool vmm_virtio_packed_want_kicks(struct vmm_virtio_queue *q, bool wanted);

#endif
