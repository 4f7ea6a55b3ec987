/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed virtqueues (VIRTIO 1.2 §2.8): one ring of descriptors, which the device overwrites when it
 * has used them, and two words that suppress notifications. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#define DESC_AVAIL 0x0080u
#define DESC_USED  0x8000u

#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u
#define EVENT_WRAP    0x8000u

static const char not_in_memory[] = "the ring is not in memory";

static uint64_t slot_address(const struct virtio_ring *r, uint32_t slot)
{
    return r->desc + (uint64_t)slot * DESC_SIZE;
}

static void advance(const struct virtio_ring *r, uint16_t *place, bool *wrap, uint32_t by)
{
    uint32_t to = *place + by;
    if (to >= r->size) {
        to -= r->size;
        *wrap = !*wrap;
    }
    *place = (uint16_t)to;
}

/* 1: the descriptor at next_avail is the driver's gift, 0: it is not, negative: error. */
static int available(struct vmm_virtio_queue *q)
{
    const struct virtio_ring *r = &q->ring;
    uint16_t flags;
    if (vmm_memory_view_load_u16(&q->view, slot_address(r, r->next_avail) + 14, &flags))
        return vmm_virtio_queue_broken(q, not_in_memory);
    flags = le16toh(flags);
    bool avail = flags & DESC_AVAIL, used = flags & DESC_USED;
    return avail == r->avail_wrap && used != r->avail_wrap;
}

/* In the ring, the flags stand where a table's descriptor has its link, and the id before them. */
static int read_slot(struct vmm_virtio_queue *q, uint32_t slot, struct virtio_desc *d)
{
    struct virtio_desc raw;
    int rc = vmm_virtio_desc_read(q, slot_address(&q->ring, slot), &raw);
    *d = raw;
    d->flags = raw.next;
    d->next = raw.flags;
    return rc;
}

static int walk(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    uint32_t slot = q->ring.next_avail;
    for (uint32_t seen = 1; seen <= q->ring.size; seen++) {
        struct virtio_desc d;
        int rc = read_slot(q, slot, &d);
        if (rc)
            return rc;
        c->descriptors = seen;
        c->id = d.next; /* that of the last counts (§2.8.6) */
        if (d.flags & DESC_INDIRECT) {
            if (d.flags & DESC_NEXT)
                return vmm_virtio_queue_broken(q, "an indirect table that has a next descriptor");
            return vmm_virtio_chain_add_table(q, c, &d);
        }
        rc = vmm_virtio_chain_add(q, c, &d);
        if (rc || !(d.flags & DESC_NEXT))
            return rc;
        slot = slot + 1 == q->ring.size ? 0 : slot + 1;
    }
    return vmm_virtio_queue_broken(q, "a chain longer than the ring");
}

int vmm_virtio_packed_pop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    struct virtio_ring *r = &q->ring;
    int rc = available(q);
    if (rc <= 0)
        return rc;
    atomic_thread_fence(memory_order_acquire); /* the flags before what they tell of */
    rc = walk(q, c);
    if (rc)
        return rc;
    advance(r, &r->next_avail, &r->avail_wrap, c->descriptors);
    return 1;
}

void vmm_virtio_packed_unpop(struct virtio_ring *r, uint32_t descriptors)
{
    uint32_t place = r->next_avail;
    if (place < descriptors) {
        place += r->size;
        r->avail_wrap = !r->avail_wrap;
    }
    r->next_avail = (uint16_t)(place - descriptors);
}

static int write_body(struct vmm_virtio_queue *q, uint32_t slot, const struct vmm_virtio_chain *c)
{
    uint8_t body[6];
    vmm_store_le32(body, c->written);
    vmm_store_le16(body + 4, (uint16_t)c->id);
    return vmm_memory_view_write(&q->view, slot_address(&q->ring, slot) + 8, body, sizeof(body));
}

static int write_flags(struct vmm_virtio_queue *q, uint32_t slot, bool wrap,
                       const struct vmm_virtio_chain *c)
{
    uint16_t flags = (uint16_t)(wrap ? DESC_AVAIL | DESC_USED : 0);
    if (c->written)
        flags |= DESC_WRITE;                   /* the length is meant (§2.8.8) */
    atomic_thread_fence(memory_order_release); /* the body before the flags */
    return vmm_memory_view_store_u16(&q->view, slot_address(&q->ring, slot) + 14, htole16(flags));
}

/* The driver looks at one after the other: the first one's flags come last. */
int vmm_virtio_packed_push(struct vmm_virtio_queue *q, struct vmm_virtio_chain *const *chains,
                           size_t count)
{
    struct virtio_ring *r = &q->ring;
    const uint16_t first = r->next_used;
    const bool first_wrap = r->used_wrap;
    for (size_t i = 0; i < count; i++) {
        int rc = write_body(q, r->next_used, chains[i]);
        if (!rc && i > 0)
            rc = write_flags(q, r->next_used, r->used_wrap, chains[i]);
        if (rc)
            return rc;
        advance(r, &r->next_used, &r->used_wrap, chains[i]->descriptors);
    }
    return write_flags(q, first, first_wrap, chains[0]);
}

/* The driver's wish (§2.8.10): a place in the ring, whose wrap bit tells this round from the last. */
static bool passed_place(const struct virtio_ring *r, uint16_t word, uint16_t from)
{
    int32_t size = (int32_t)r->size, to = r->next_used;
    int32_t event = word & (EVENT_WRAP - 1);
    int32_t start = from;
    if (r->signalled_wrap != r->used_wrap)
        start -= size; /* it went over the end of the ring meanwhile */
    if (((word & EVENT_WRAP) != 0) != r->used_wrap)
        event -= size;
    return event >= start && event < to;
}

bool vmm_virtio_packed_wants_signal(struct vmm_virtio_queue *q)
{
    struct virtio_ring *r = &q->ring;
    uint16_t from = r->signalled, word, flags;
    if (from == r->next_used && r->signalled_wrap == r->used_wrap)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* what was used is out before we look */
    if (vmm_memory_view_load_u16(&q->view, r->driver + 2, &flags) ||
        vmm_memory_view_load_u16(&q->view, r->driver, &word)) {
        (void)vmm_virtio_queue_broken(q, not_in_memory);
        return false;
    }
    flags = le16toh(flags) & 3;
    bool wanted = flags != EVENT_DISABLE;
    if (flags == EVENT_DESC && q->event_idx)
        wanted = passed_place(r, le16toh(word), from);
    r->signalled = r->next_used;
    r->signalled_wrap = r->used_wrap;
    return wanted;
}

bool vmm_virtio_packed_want_kicks(struct vmm_virtio_queue *q, bool wanted)
{
    struct virtio_ring *r = &q->ring;
    uint16_t flags = wanted ? (q->event_idx ? EVENT_DESC : EVENT_ENABLE) : EVENT_DISABLE;
    uint16_t word = (uint16_t)(r->next_avail | (r->avail_wrap ? EVENT_WRAP : 0));
    int rc = 0;
    if (flags == EVENT_DESC) {
        rc = vmm_memory_view_store_u16(&q->view, r->device, htole16(word));
        atomic_thread_fence(memory_order_release);
    }
    rc = rc ? rc : vmm_memory_view_store_u16(&q->view, r->device + 2, htole16(flags));
    if (rc) {
        (void)vmm_virtio_queue_broken(q, not_in_memory);
        return false;
    }
    if (!wanted)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* the wish is out before we look */
    return available(q) > 0;
}
