/* SPDX-License-Identifier: BSD-3-Clause */
/* Split virtqueues (VIRTIO 1.2 §2.7): a descriptor table, a ring of heads that the driver makes
 * available, a ring of heads that the device has used. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY     1u

static const char not_in_memory[] = "the ring is not in memory";

/* §2.7.10: has the index moved over `event` on its way from `from` to `to`? */
static bool passed(uint16_t event, uint16_t to, uint16_t from)
{
    return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

static uint64_t used_event(const struct virtio_ring *r)
{
    return r->driver + 4 + 2 * (uint64_t)r->size;
}

static uint64_t avail_event(const struct virtio_ring *r)
{
    return r->device + 4 + 8 * (uint64_t)r->size;
}

static int walk(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c, uint32_t head)
{
    uint32_t index = head;
    for (uint32_t seen = 0; seen < q->ring.size; seen++) {
        struct virtio_desc d;
        int rc = vmm_virtio_desc_read(q, q->ring.desc + (uint64_t)index * DESC_SIZE, &d);
        if (rc)
            return rc;
        if (d.flags & DESC_INDIRECT) {
            if (d.flags & DESC_NEXT)
                return vmm_virtio_queue_broken(q, "an indirect table that has a next descriptor");
            return vmm_virtio_chain_add_table(q, c, &d);
        }
        rc = vmm_virtio_chain_add(q, c, &d);
        if (rc || !(d.flags & DESC_NEXT))
            return rc;
        index = d.next;
        if (index >= q->ring.size)
            return vmm_virtio_queue_broken(q, "a link out of the descriptor table");
    }
    return vmm_virtio_queue_broken(q, "a chain that loops");
}

int vmm_virtio_split_pop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    struct virtio_ring *r = &q->ring;
    uint16_t index, head;
    if (vmm_memory_view_load_u16(&q->view, r->driver + 2, &index))
        return vmm_virtio_queue_broken(q, not_in_memory);
    uint16_t waiting = (uint16_t)(le16toh(index) - r->next_avail);
    if (waiting == 0)
        return 0;
    if (waiting > r->size)
        return vmm_virtio_queue_broken(q, "more heads available than the ring has");
    atomic_thread_fence(memory_order_acquire); /* the index before what it tells of */
    uint64_t slot = r->driver + 4 + 2 * (uint64_t)(r->next_avail & (r->size - 1));
    if (vmm_memory_view_load_u16(&q->view, slot, &head))
        return vmm_virtio_queue_broken(q, not_in_memory);
    c->id = le16toh(head);
    c->descriptors = 1;
    if (c->id >= r->size)
        return vmm_virtio_queue_broken(q, "a head outside of the descriptor table");
    int rc = walk(q, c, c->id);
    if (rc)
        return rc;
    r->next_avail++;
    return 1;
}

int vmm_virtio_split_push(struct vmm_virtio_queue *q, struct vmm_virtio_chain *const *chains,
                          size_t count)
{
    struct virtio_ring *r = &q->ring;
    for (size_t i = 0; i < count; i++) {
        uint8_t element[8];
        vmm_store_le32(element, chains[i]->id);
        vmm_store_le32(element + 4, chains[i]->written);
        uint64_t slot = r->device + 4 + 8 * (uint64_t)((r->next_used + i) & (r->size - 1));
        int rc = vmm_memory_view_write(&q->view, slot, element, sizeof(element));
        if (rc)
            return rc;
    }
    atomic_thread_fence(memory_order_release); /* the elements before the index */
    r->next_used = (uint16_t)(r->next_used + count);
    return vmm_memory_view_store_u16(&q->view, r->device + 2, htole16(r->next_used));
}

bool vmm_virtio_split_wants_signal(struct vmm_virtio_queue *q)
{
    struct virtio_ring *r = &q->ring;
    uint16_t from = r->signalled, value;
    if (from == r->next_used)
        return false; /* nothing was pushed */
    r->signalled = r->next_used;
    atomic_thread_fence(memory_order_seq_cst); /* the index is out before we look */
    uint64_t where = q->event_idx ? used_event(r) : r->driver;
    if (vmm_memory_view_load_u16(&q->view, where, &value)) {
        (void)vmm_virtio_queue_broken(q, not_in_memory);
        return false;
    }
    value = le16toh(value);
    if (q->event_idx)
        return passed(value, r->next_used, from);
    return !(value & AVAIL_NO_INTERRUPT);
}

bool vmm_virtio_split_want_kicks(struct vmm_virtio_queue *q, bool wanted)
{
    struct virtio_ring *r = &q->ring;
    uint16_t index;
    int rc = 0;
    if (!q->event_idx)
        rc = vmm_memory_view_store_u16(&q->view, r->device,
                                       htole16(wanted ? 0 : (uint16_t)USED_NO_NOTIFY));
    else if (wanted)
        rc = vmm_memory_view_store_u16(&q->view, avail_event(r), htole16(r->next_avail));
    if (!wanted && !rc)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* the wish is out before we look */
    rc = rc ? rc : vmm_memory_view_load_u16(&q->view, r->driver + 2, &index);
    if (rc) {
        (void)vmm_virtio_queue_broken(q, not_in_memory);
        return false;
    }
    return le16toh(index) != r->next_avail;
}
