/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues, whatever their layout: turning a driver's descriptors into vectors, giving them back,
 * notifications in both directions, and reset, save and load.
 *
 * The rings are read through the queue's view of the memory map, which remembers the translation
 * until the map changes. Every field of a ring is read once, into a local.
 */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vmm_virtio_queue_broken(struct vmm_virtio_queue *q, const char *what)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "queue %u: %s", q->index, what);
    vmm_virtio_guest_error(q->virtio, text);
    return -EINVAL;
}

/* Chains --------------------------------------------------------------------------------------- */

/* A range that crosses backings takes more than one entry of a vector: some to spare. */
#define IOV_SPARE 16u

struct chain_memory {
    struct vmm_virtio_chain chain;
    uint32_t room; /* descriptors */
    struct vmm_guest_range ranges[];
};

int vmm_virtio_chain_new(const struct vmm_virtio *v, struct vmm_virtio_chain **out)
{
    size_t room = v->chain_max;
    size_t vector = (room + IOV_SPARE) * sizeof(struct iovec);
    struct chain_memory *m =
        calloc(1, sizeof(*m) + room * sizeof(struct vmm_guest_range) + 2 * vector);
    if (!m)
        return -ENOMEM;
    m->room = v->chain_max;
    m->chain.ranges = m->ranges;
    m->chain.readable = (struct iovec *)(void *)&m->ranges[room];
    m->chain.writable = m->chain.readable + room + IOV_SPARE;
    *out = &m->chain;
    return 0;
}

struct vmm_virtio_chain *vmm_virtio_chain_free(struct vmm_virtio_chain *c)
{
    if (c)
        free(VMM_CONTAINER(c, struct chain_memory, chain));
    return NULL;
}

int vmm_virtio_chain_add(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c,
                         const struct virtio_desc *d)
{
    uint32_t used = (uint32_t)(c->readable_ranges + c->writable_ranges);
    if (used >= VMM_CONTAINER(c, struct chain_memory, chain)->room)
        return vmm_virtio_queue_broken(q, "a chain with more descriptors than the device takes");
    if (!(d->flags & DESC_WRITE) && c->writable_ranges)
        return vmm_virtio_queue_broken(q, "a readable buffer behind a writable one");
    c->ranges[used] = (struct vmm_guest_range){.address = d->address, .length = d->length};
    if (d->flags & DESC_WRITE)
        c->writable_ranges++;
    else
        c->readable_ranges++;
    return 0;
}

int vmm_virtio_desc_read(struct vmm_virtio_queue *q, uint64_t address, struct virtio_desc *d)
{
    uint8_t raw[DESC_SIZE];
    if (vmm_memory_view_read(&q->view, address, raw, sizeof(raw)))
        return vmm_virtio_queue_broken(q, "descriptors that are not in memory");
    d->address = vmm_load_le64(raw);
    d->length = vmm_load_le32(raw + 8);
    d->flags = vmm_load_le16(raw + 12);
    d->next = vmm_load_le16(raw + 14);
    return 0;
}

/* Tables (§2.7.5.3, §2.8.7). Split ones are linked, packed ones are in order, with the flags where the
 * link is in the others. However the links run, the table's size bounds the work. */
int vmm_virtio_chain_add_table(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c,
                               const struct virtio_desc *table)
{
    uint32_t count = table->length / DESC_SIZE;
    if (!q->indirect)
        return vmm_virtio_queue_broken(q, "an indirect table that was not negotiated");
    if (count == 0 || table->length % DESC_SIZE || !vmm_range_ok(table->address, table->length))
        return vmm_virtio_queue_broken(q, "an indirect table of a bad size");
    uint32_t index = 0;
    for (uint32_t seen = 1; seen <= count; seen++) {
        struct virtio_desc d;
        int rc = vmm_virtio_desc_read(q, table->address + (uint64_t)index * DESC_SIZE, &d);
        if (q->packed)
            d.flags = d.next;
        if (!rc && (d.flags & DESC_INDIRECT))
            rc = vmm_virtio_queue_broken(q, "an indirect table inside of another");
        if (!rc)
            rc = vmm_virtio_chain_add(q, c, &d);
        if (rc)
            return rc;
        if (q->packed ? seen == count : !(d.flags & DESC_NEXT))
            return 0;
        index = q->packed ? index + 1 : d.next;
        if (index >= count)
            return vmm_virtio_queue_broken(q, "a link out of an indirect table");
    }
    return vmm_virtio_queue_broken(q, "an indirect table that loops");
}

static int hold_part(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c, bool writable)
{
    size_t first = writable ? c->readable_ranges : 0;
    size_t count = writable ? c->writable_ranges : c->readable_ranges;
    struct iovec *iov = writable ? c->writable : c->readable;
    struct vmm_scatter *held = &c->held[writable];
    *held = (struct vmm_scatter){.iov = iov};
    if (count == 0)
        return 0;
    return vmm_memory_map_list(q->virtio->memory, c->ranges + first, count,
                               writable ? VMM_MAP_WRITE : VMM_MAP_READ, iov,
                               q->virtio->chain_max + IOV_SPARE, 0, held);
}

static void let_go(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c, uint64_t written)
{
    if (c->held[0].token)
        vmm_memory_unmap_list(q->virtio->memory, &c->held[0], 0);
    if (c->held[1].token)
        vmm_memory_unmap_list(q->virtio->memory, &c->held[1], written);
    c->held[0].token = c->held[1].token = NULL;
    c->out = 0;
}

static int hold(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    c->held[1].token = NULL;
    int rc = hold_part(q, c, false);
    if (!rc)
        rc = hold_part(q, c, true);
    if (rc) {
        let_go(q, c, 0);
        return rc == -ENOMEM ? rc : vmm_virtio_queue_broken(q, "a buffer that is not in memory");
    }
    c->readable_count = c->held[0].count;
    c->readable_length = c->held[0].length;
    c->writable_count = c->held[1].count;
    c->writable_length = c->held[1].length;
    c->epoch = q->epoch;
    c->out = 1;
    return 1;
}

/* Pop and push --------------------------------------------------------------------------------- */

static bool active(const struct vmm_virtio_queue *q)
{
    return q->ring.enabled && vmm_virtio_live(q->virtio);
}

int vmm_virtio_queue_pop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    if (!active(q) || q->budget == 0)
        return 0;
    c->readable_ranges = c->writable_ranges = 0;
    int rc = q->packed ? vmm_virtio_packed_pop(q, c) : vmm_virtio_split_pop(q, c);
    q->saw_empty = rc == 0;
    if (rc <= 0)
        return rc;
    q->budget--;
    return hold(q, c);
}

static void end_chain(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c, uint64_t written)
{
    if (written > c->writable_length)
        written = c->writable_length;
    let_go(q, c, written);
    c->written = written > UINT32_MAX ? UINT32_MAX : (uint32_t)written;
}

void vmm_virtio_queue_push_all(struct vmm_virtio_queue *q, struct vmm_virtio_chain *const *chains,
                               const uint64_t *written, size_t count)
{
    bool stale = count == 0;
    for (size_t i = 0; i < count; i++) {
        stale = stale || chains[i]->epoch != q->epoch;
        end_chain(q, chains[i], written[i]);
    }
    if (stale || !active(q))
        return;
    int rc = q->packed ? vmm_virtio_packed_push(q, chains, count)
                       : vmm_virtio_split_push(q, chains, count);
    if (rc)
        (void)vmm_virtio_queue_broken(q, "the ring is not in memory");
}

void vmm_virtio_queue_push(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c, uint64_t written)
{
    vmm_virtio_queue_push_all(q, &c, &written, 1);
}

void vmm_virtio_queue_turn(struct vmm_virtio_queue *q)
{
    q->budget = q->ring.size;
}

void vmm_virtio_queue_unpop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    let_go(q, c, 0);
    if (c->epoch != q->epoch || !active(q))
        return;
    q->budget++;
    if (q->packed)
        vmm_virtio_packed_unpop(&q->ring, c->descriptors);
    else
        q->ring.next_avail--;
}

void vmm_virtio_queue_drop(struct vmm_virtio_queue *q, struct vmm_virtio_chain *c)
{
    let_go(q, c, 0);
}

bool vmm_virtio_chain_stale(const struct vmm_virtio_queue *q, const struct vmm_virtio_chain *c)
{
    return c->epoch != q->epoch;
}

void vmm_virtio_queue_signal(struct vmm_virtio_queue *q)
{
    if (!active(q))
        return;
    bool wanted = q->packed ? vmm_virtio_packed_wants_signal(q) : vmm_virtio_split_wants_signal(q);
    if (wanted && q->virtio->transport)
        q->virtio->transport->interrupt(q->virtio->transport_ctx, INTERRUPT_QUEUE, q->index);
}

void vmm_virtio_queue_lock(struct vmm_virtio_queue *q)
{
    pthread_mutex_lock(&q->lock);
}

void vmm_virtio_queue_unlock(struct vmm_virtio_queue *q)
{
    pthread_mutex_unlock(&q->lock);
}

/* Notifications -------------------------------------------------------------------------------- */

void vmm_virtio_queue_kick(struct vmm_virtio_queue *q)
{
    uint64_t one = 1;
    ssize_t n = write(q->kick_fd, &one, sizeof(one));
    (void)n; /* full means that one is pending */
}

static bool want_kicks(struct vmm_virtio_queue *q, bool wanted)
{
    return q->packed ? vmm_virtio_packed_want_kicks(q, wanted)
                     : vmm_virtio_split_want_kicks(q, wanted);
}

void vmm_virtio_take_event(int fd)
{
    uint64_t count;
    struct iovec v = {&count, sizeof(count)};
    ssize_t n = preadv2(fd, &v, 1, -1, RWF_NOWAIT);
    if (n < 0 && errno == EOPNOTSUPP) /* before Linux 5.12 */
        n = read(fd, &count, sizeof(count));
    (void)n;
}

/* One turn: at most a ring's worth of chains, then others may use the loop. A device that stops
 * before the ring is empty asks for its next turn itself. */
static void kicked(void *ctx, uint32_t events)
{
    struct vmm_virtio_queue *q = ctx;
    (void)events;
    vmm_virtio_take_event(q->kick_fd);
    vmm_virtio_queue_lock(q);
    if (active(q) && q->virtio->external) {
        q->virtio->ops.notify(q->virtio->ctx, q->index);
    } else if (active(q)) {
        (void)want_kicks(q, false);
        q->budget = q->ring.size;
        q->saw_empty = false;
        q->virtio->ops.notify(q->virtio->ctx, q->index);
        bool more = active(q) && want_kicks(q, true);
        if (more && (q->saw_empty || q->budget == 0))
            vmm_virtio_queue_kick(q);
        q->budget = q->ring.size;
    } else {
        vmm_memory_view_drop(&q->view);
    }
    vmm_virtio_queue_unlock(q);
}

/* Life ----------------------------------------------------------------------------------------- */

int vmm_virtio_queue_init(struct vmm_virtio *v, uint32_t index)
{
    struct vmm_virtio_queue *q = &v->queues[index];
    q->virtio = v;
    q->index = index;
    q->ring.size = v->queue_size_max;
    q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->kick_fd < 0)
        return -errno;
    pthread_mutex_init(&q->lock, NULL);
    vmm_memory_view_init(&q->view, v->memory);
    int rc = vmm_source_new(v->loop, q->kick_fd, VMM_POLL_IN, kicked, q, &q->source);
    if (rc)
        vmm_virtio_queue_fini(q);
    return rc;
}

void vmm_virtio_queue_stop(struct vmm_virtio_queue *q)
{
    q->source = vmm_source_free(q->source);
}

void vmm_virtio_queue_fini(struct vmm_virtio_queue *q)
{
    if (!q->virtio)
        return;
    vmm_virtio_queue_stop(q);
    vmm_memory_view_fini(&q->view);
    pthread_mutex_destroy(&q->lock);
    close(q->kick_fd);
    q->virtio = NULL;
}

/* §2.7, §2.8: alignment and size. Whether it is in memory is seen when it is used. */
bool vmm_virtio_ring_ok(const struct vmm_virtio *v, const struct virtio_ring *r, bool packed)
{
    uint64_t size = r->size;
    if (size == 0 || size > v->queue_size_max || (!packed && !vmm_is_power_of_two(size)))
        return false;
    if (r->desc % 16 || r->driver % (packed ? 4 : 2) || r->device % 4)
        return false;
    return vmm_range_ok(r->desc, size * DESC_SIZE) &&
           vmm_range_ok(r->driver, packed ? 4 : 6 + 2 * size) &&
           vmm_range_ok(r->device, packed ? 4 : 6 + 8 * size);
}

static void take_features(struct vmm_virtio_queue *q)
{
    uint64_t features = q->virtio->accepted;
    q->packed = features & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED);
    q->indirect = features & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_INDIRECT);
    q->event_idx = features & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_EVENT_IDX);
}

void vmm_virtio_queue_enable(struct vmm_virtio_queue *q)
{
    struct virtio_ring *r = &q->ring;
    vmm_virtio_queue_lock(q);
    take_features(q);
    bool ok = vmm_virtio_ring_ok(q->virtio, r, q->packed);
    if (ok) {
        r->next_avail = r->next_used = r->signalled = 0;
        r->avail_wrap = r->used_wrap = r->signalled_wrap = true;
        r->enabled = true;
    }
    vmm_virtio_queue_unlock(q);
    if (!ok)
        (void)vmm_virtio_queue_broken(q, "enabled with a bad size or address");
    else
        vmm_virtio_queue_kick(q);
}

void vmm_virtio_queue_reset(struct vmm_virtio_queue *q)
{
    vmm_virtio_queue_lock(q);
    q->epoch++;
    q->ring = (struct virtio_ring){.size = q->virtio->queue_size_max};
    if (q->virtio->ops.queue_reset)
        q->virtio->ops.queue_reset(q->virtio->ctx, q->index);
    vmm_memory_view_drop(&q->view);
    vmm_virtio_queue_unlock(q);
}

void vmm_virtio_queue_take_over(struct vmm_virtio_queue *q, const struct virtio_ring *ring)
{
    vmm_virtio_queue_lock(q);
    q->epoch++;
    take_features(q);
    q->ring = *ring;
    vmm_virtio_queue_unlock(q);
}

/* Save and load -------------------------------------------------------------------------------- */

#define FLAG_ENABLED        0x01u
#define FLAG_AVAIL_WRAP     0x02u
#define FLAG_USED_WRAP      0x04u
#define FLAG_SIGNALLED_WRAP 0x08u
#define FLAG_ALL            0x0fu

int vmm_virtio_queue_save(struct vmm_virtio_queue *q, struct vmm_state_writer *w)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "queue%u", q->index);
    vmm_virtio_queue_lock(q);
    const struct virtio_ring r = q->ring;
    vmm_virtio_queue_unlock(q);
    (void)vmm_state_begin(w, name, 1);
    (void)vmm_state_put_u32(w, "size", r.size);
    (void)vmm_state_put_u64(w, "desc", r.desc);
    (void)vmm_state_put_u64(w, "driver", r.driver);
    (void)vmm_state_put_u64(w, "device", r.device);
    (void)vmm_state_put_u32(w, "next-avail", r.next_avail);
    (void)vmm_state_put_u32(w, "next-used", r.next_used);
    (void)vmm_state_put_u32(w, "signalled", r.signalled);
    (void)vmm_state_put_u32(w, "flags",
                            (r.enabled ? FLAG_ENABLED : 0) | (r.avail_wrap ? FLAG_AVAIL_WRAP : 0) |
                                (r.used_wrap ? FLAG_USED_WRAP : 0) |
                                (r.signalled_wrap ? FLAG_SIGNALLED_WRAP : 0));
    return vmm_state_end(w);
}

int vmm_virtio_queue_load(struct vmm_virtio_queue *q, struct vmm_state_reader *r,
                          struct virtio_ring *ring, struct vmm_error *err)
{
    char name[24];
    uint32_t avail = 0, used = 0, signalled = 0, flags = 0;
    (void)snprintf(name, sizeof(name), "queue%u", q->index);
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_state_get_u32(r, "size", VMM_VIRTIO_QUEUE_MAX, &ring->size, err);
    rc = rc ? rc : vmm_state_get_u64(r, "desc", UINT64_MAX, &ring->desc, err);
    rc = rc ? rc : vmm_state_get_u64(r, "driver", UINT64_MAX, &ring->driver, err);
    rc = rc ? rc : vmm_state_get_u64(r, "device", UINT64_MAX, &ring->device, err);
    rc = rc ? rc : vmm_state_get_u32(r, "next-avail", UINT16_MAX, &avail, err);
    rc = rc ? rc : vmm_state_get_u32(r, "next-used", UINT16_MAX, &used, err);
    rc = rc ? rc : vmm_state_get_u32(r, "signalled", UINT16_MAX, &signalled, err);
    rc = rc ? rc : vmm_state_get_u32(r, "flags", FLAG_ALL, &flags, err);
    (void)vmm_state_leave(r);
    ring->next_avail = (uint16_t)avail;
    ring->next_used = (uint16_t)used;
    ring->signalled = (uint16_t)signalled;
    ring->enabled = flags & FLAG_ENABLED;
    ring->avail_wrap = flags & FLAG_AVAIL_WRAP;
    ring->used_wrap = flags & FLAG_USED_WRAP;
    ring->signalled_wrap = flags & FLAG_SIGNALLED_WRAP;
    return rc;
}

/* Vectors -------------------------------------------------------------------------------------- */

static size_t iov_copy(const struct iovec *iov, size_t count, uint64_t offset, uint8_t *data,
                       size_t length, bool to_vector)
{
    size_t done = 0;
    for (size_t i = 0; i < count && done < length; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        uint8_t *at = (uint8_t *)iov[i].iov_base + offset;
        size_t part = iov[i].iov_len - (size_t)offset;
        part = part < length - done ? part : length - done;
        memcpy(to_vector ? at : data + done, to_vector ? data + done : at, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t vmm_iov_read(const struct iovec *iov, size_t count, uint64_t offset, void *data,
                    size_t length)
{
    return iov_copy(iov, count, offset, data, length, false);
}

size_t vmm_iov_write(const struct iovec *iov, size_t count, uint64_t offset, const void *data,
                     size_t length)
{
    return iov_copy(iov, count, offset, (uint8_t *)(uintptr_t)data, length, true);
}
