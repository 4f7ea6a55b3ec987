/* SPDX-License-Identifier: BSD-3-Clause */
#include "virtio/queue.h"

struct desc { /* split: flags, next; packed: id, flags */
    u64 address;
    u32 length;
    u16 a, b;
};

static volatile struct desc ring[QUEUE_MAX] __attribute__((aligned(4096)));
static volatile u16 driver_area[QUEUE_MAX + 4] __attribute__((aligned(4096)));
static volatile u16 device_area[QUEUE_MAX * 4 + 4] __attribute__((aligned(4096)));
static volatile struct desc tables[REQUESTS_MAX][4] __attribute__((aligned(64)));

static inline void barrier(void)
{
    __asm__ volatile("lock addl $0, (%%esp)" : : : "memory", "cc");
}

u32 device_find(u32 id)
{
    /* micro's places, and QEMU microvm's. */
    static const u32 bases[] = {0xd0000000, 0xfeb00000};
    for (u32 b = 0; b < 2; b++)
        for (u32 i = 0; i < 24; i++) {
            u32 base = bases[b] + i * 0x200;
            if (get(base, REG_MAGIC) == 0x74726976 && get(base, REG_DEVICE_ID) == id)
                return base;
        }
    return 0;
}

u64 device_negotiate(u32 base, u64 wanted)
{
    u64 offered;
    set(base, REG_STATUS, 0);
    set(base, REG_STATUS, 3);
    set(base, REG_FEATURES_SELECT, 1);
    offered = (u64)get(base, REG_FEATURES) << 32;
    set(base, REG_FEATURES_SELECT, 0);
    offered |= get(base, REG_FEATURES);
    offered &= wanted | F_VERSION_1;
    set(base, REG_DRIVER_FEATURES_SELECT, 0);
    set(base, REG_DRIVER_FEATURES, (u32)offered);
    set(base, REG_DRIVER_FEATURES_SELECT, 1);
    set(base, REG_DRIVER_FEATURES, (u32)(offered >> 32));
    set(base, REG_STATUS, 0xb);
    return get(base, REG_STATUS) & 8 ? offered : 0;
}

void device_go(u32 base)
{
    set(base, REG_STATUS, 0xf);
}

static void set_address(u32 base, u32 offset, volatile void *area)
{
    set(base, offset, (u32)area);
    set(base, offset + 4, 0);
}

int queue_make(struct queue *q, u32 base, u64 features, u16 index, u16 size)
{
    set(base, REG_QUEUE_SELECT, index);
    u32 most = get(base, REG_QUEUE_SIZE_MAX);
    if (!most)
        return 0;
    q->base = base;
    q->features = features;
    q->index = index;
    q->size = size < most ? size : (u16)most;
    q->size = q->size < QUEUE_MAX ? q->size : QUEUE_MAX;
    q->avail = q->used = q->told = 0;
    q->free = q->size;
    for (u32 i = 0; i < QUEUE_MAX; i++)
        ring[i].address = ring[i].length = ring[i].a = ring[i].b = 0;
    for (u32 i = 0; i < QUEUE_MAX + 4; i++)
        driver_area[i] = 0;
    for (u32 i = 0; i < QUEUE_MAX * 4 + 4; i++)
        device_area[i] = 0;
    driver_area[0] = 1; /* split: no interrupts (§2.7.6) */
    if (features & F_PACKED) {
        driver_area[0] = 0;
        driver_area[1] = 1; /* RING_EVENT_FLAGS_DISABLE (§2.8.10) */
    }
    set(base, REG_QUEUE_SIZE, q->size);
    set_address(base, REG_QUEUE_DESC, ring);
    set_address(base, REG_QUEUE_DRIVER, driver_area);
    set_address(base, REG_QUEUE_DEVICE, device_area);
    set(base, REG_QUEUE_READY, 1);
    return get(base, REG_QUEUE_READY) == 1;
}

/* The flags that make the packed slot of `position` available; it runs modulo twice the size. */
static u16 wrap_bits(const struct queue *q, u16 position)
{
    return position < q->size ? 0x80 : 0x8000;
}

static void fill(volatile struct desc *d, int packed, const struct part *p, u16 id, u16 flags)
{
    d->address = (u32)p->data;
    d->length = p->length;
    d->a = packed ? id : flags;
    d->b = packed ? flags : id;
}

static u16 flags_of(const struct part *p)
{
    return p->writable ? DESC_WRITE : 0;
}

/* An indirect table, and the part that stands for it. */
static struct part indirect(struct queue *q, u16 id, const struct part *parts, u32 count)
{
    int packed = (q->features & F_PACKED) != 0;
    for (u32 i = 0; i < count; i++) {
        u16 flags = flags_of(&parts[i]);
        if (!packed && i + 1 < count)
            flags |= DESC_NEXT;
        fill(&tables[id][i], packed, &parts[i], (u16)(i + 1), flags);
    }
    return (struct part){(void *)(u32)&tables[id][0], count * 16, 0};
}

static void put_split(struct queue *q, u16 id, const struct part *parts, u32 count, u16 extra)
{
    /* A request has its own descriptors, so none need be searched for. */
    u16 head = (u16)(extra ? id : id * PARTS_MAX);
    for (u32 i = 0; i < count; i++) {
        u16 flags = (u16)(flags_of(&parts[i]) | extra | (i + 1 < count ? DESC_NEXT : 0));
        fill(&ring[head + i], 0, &parts[i], (u16)(head + i + 1), flags);
    }
    driver_area[2 + q->avail % q->size] = head;
    q->avail++;
    barrier();
    driver_area[1] = q->avail;
}

static void put_packed(struct queue *q, u16 id, const struct part *parts, u32 count, u16 extra)
{
    u16 head = q->avail, head_flags = 0;
    for (u32 i = 0; i < count; i++) {
        u16 flags = (u16)(flags_of(&parts[i]) | extra | (i + 1 < count ? DESC_NEXT : 0));
        flags |= wrap_bits(q, q->avail);
        if (i == 0)
            head_flags = flags; /* last: it makes the chain visible */
        else
            ring[q->avail % q->size].b = flags;
        ring[q->avail % q->size].address = (u32)parts[i].data;
        ring[q->avail % q->size].length = parts[i].length;
        ring[q->avail % q->size].a = id;
        q->avail = (u16)((q->avail + 1) % (2 * q->size));
    }
    barrier();
    ring[head % q->size].b = head_flags;
}

int queue_put(struct queue *q, u16 id, const struct part *parts, u32 count)
{
    struct part table;
    u16 extra = 0;
    if (q->features & F_INDIRECT && count > 1) {
        table = indirect(q, id, parts, count);
        parts = &table;
        count = 1;
        extra = DESC_INDIRECT;
    }
    if (q->free < count)
        return 0;
    q->free = (u16)(q->free - count);
    q->count[id] = (u16)count;
    if (q->features & F_PACKED)
        put_packed(q, id, parts, count, extra);
    else
        put_split(q, id, parts, count, extra);
    return 1;
}

/* Did `event` pass between `old` and `now` (§2.7.10)? All free-running. */
static int passed(u16 event, u16 now, u16 old)
{
    return (u16)(now - event - 1) < (u16)(now - old);
}

static int wants_kick_packed(const struct queue *q)
{
    u16 flags = device_area[1] & 3;
    if (flags != 2)
        return flags == 0;
    /* §2.8.10.1: a place in the ring and the wrap counter that it is of. */
    u16 where = device_area[0];
    u16 event = (u16)((where & 0x7fff) + (where & 0x8000 ? 0 : q->size));
    u16 ahead = (u16)((event + 2 * q->size - q->told) % (2 * q->size));
    u16 done = (u16)((q->avail + 2 * q->size - q->told) % (2 * q->size));
    return ahead < done;
}

static int wants_kick(const struct queue *q)
{
    if (q->features & F_PACKED)
        return wants_kick_packed(q);
    if (q->features & F_EVENT_IDX)
        return passed(device_area[2 + q->size * 4], q->avail, q->told);
    return !(device_area[0] & 1);
}

void queue_kick(struct queue *q)
{
    if (q->avail == q->told)
        return;
    barrier();
    if (wants_kick(q))
        set(q->base, REG_QUEUE_NOTIFY, q->index);
    q->told = q->avail;
}

int queue_take(struct queue *q, u32 *length)
{
    u16 id;
    if (q->features & F_PACKED) {
        volatile struct desc *d = &ring[q->used % q->size];
        u16 want = q->used < q->size ? 0x8080 : 0;
        if ((d->b & 0x8080) != want)
            return -1;
        barrier();
        id = d->a;
        *length = d->length;
        q->used = (u16)((q->used + q->count[id]) % (2 * q->size));
    } else {
        if (device_area[1] == q->used)
            return -1;
        barrier();
        volatile u32 *entry = (volatile u32 *)(u32)&device_area[2 + q->used % q->size * 4];
        id = (u16)(q->features & F_INDIRECT ? entry[0] : entry[0] / PARTS_MAX);
        *length = entry[1];
        q->used++;
    }
    q->free = (u16)(q->free + q->count[id]);
    return id;
}
