/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver of virtio-mmio devices and their queues, split and packed (VIRTIO 1.2 §2.7, §2.8, §4.2). It
 * polls, so that what is measured is the device. One queue of a device at a time.
 */
#ifndef GUEST_QUEUE_H
#define GUEST_QUEUE_H

#include "runtime/guest.h"

#define QUEUE_MAX    256
#define REQUESTS_MAX 128
#define PARTS_MAX    3

#define F_INDIRECT   (1ull << 28)
#define F_EVENT_IDX  (1ull << 29)
#define F_VERSION_1  (1ull << 32)
#define F_PACKED     (1ull << 34)
#define F_RING_RESET (1ull << 40)

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

/* §4.2.2 */
enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_FEATURES = 0x010,
    REG_FEATURES_SELECT = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SELECT = 0x024,
    REG_QUEUE_SELECT = 0x030,
    REG_QUEUE_SIZE_MAX = 0x034,
    REG_QUEUE_SIZE = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080,
    REG_QUEUE_DRIVER = 0x090,
    REG_QUEUE_DEVICE = 0x0a0,
    REG_QUEUE_RESET = 0x0c0,
    REG_CONFIG = 0x100
};

/* A piece of a request. */
struct part {
    void *data;
    u32 length;
    int writable; /* by the device */
};

struct queue {
    u32 base; /* of the device's registers */
    u64 features;
    u16 index, size;
    u16 avail, used;         /* split: free-running; packed: modulo twice the size */
    u16 told;                /* `avail` at the last notification */
    u16 free;                /* descriptors */
    u16 count[REQUESTS_MAX]; /* descriptors that a request has in the ring */
};

static inline u32 get(u32 base, u32 offset)
{
    return *(volatile u32 *)(base + offset);
}

static inline void set(u32 base, u32 offset, u32 value)
{
    *(volatile u32 *)(base + offset) = value;
}

/* The registers of the first device of a kind, or 0. */
u32 device_find(u32 id);
/* Reset it and agree on features: `wanted`, as far as they are offered. What was agreed, or 0. */
u64 device_negotiate(u32 base, u64 wanted);
void device_go(u32 base);

/* Set a queue up; `size` at most. 0: the device has no such queue. */
int queue_make(struct queue *q, u32 base, u64 features, u16 index, u16 size);
/* Put request `id` into the ring. 0: there is no room. */
int queue_put(struct queue *q, u16 id, const struct part *parts, u32 count);
/* Tell the device of what was put, if it wants to know. */
void queue_kick(struct queue *q);
/* The next request that the device gave back, or -1. */
int queue_take(struct queue *q, u32 *length);

#endif
