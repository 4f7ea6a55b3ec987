/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames for the driver (VIRTIO 1.2 §5.1.6.3, §5.1.6.4).
 *
 * Chains are taken until a frame fits. When they do not suffice they are kept, and the backend keeps the
 * frame, until the driver offers more. Whether it says so depends on what it was asked for last, and
 * that is asked for on the loop: so a queue that has been emptied since is kicked by ourselves.
 */
#include "base/util.h"
#include "devices/virtio/net.h"

#define VLAN_FRAME_EXTRA 18u /* beyond the MTU: an Ethernet header with a tag */

static size_t length_of(const struct vmm_net_frame *frame)
{
    size_t length = 0;
    for (size_t i = 0; i < frame->count; i++)
        length += frame->pieces[i].iov_len;
    return length;
}

static void make_header(const struct net_device *n, const struct vmm_net_offload *o,
                        uint32_t buffers, uint8_t *header)
{
    memset(header, 0, NET_HEADER);
    if (n->offloads & VMM_NET_CSUM) { /* flags only then (§5.1.6.4.1) */
        header[0] = o->flags & (VMM_NET_NEEDS_CSUM | VMM_NET_DATA_VALID);
        header[1] = o->gso_type;
        vmm_store_le16(header + 2, o->hdr_len);
        vmm_store_le16(header + 4, o->gso_size);
        vmm_store_le16(header + 6, o->csum_start);
        vmm_store_le16(header + 8, o->csum_offset);
    }
    vmm_store_le16(header + 10, (uint16_t)buffers);
}

struct cursor {
    const struct iovec *piece;
    size_t offset;
};

/* `length` bytes from the cursor to a vector, from byte `skip` of it. Both have them. */
static void copy(const struct iovec *to, size_t skip, size_t length, struct cursor *from)
{
    while (length > 0) {
        if (skip >= to->iov_len) {
            skip -= to->iov_len;
            to++;
            continue;
        }
        if (from->offset >= from->piece->iov_len) {
            from->piece++;
            from->offset = 0;
            continue;
        }
        size_t part = to->iov_len - skip, there = from->piece->iov_len - from->offset;
        part = part < there ? part : there;
        part = part < length ? part : length;
        memcpy((uint8_t *)to->iov_base + skip,
               (const uint8_t *)from->piece->iov_base + from->offset, part);
        skip += part;
        from->offset += part;
        length -= part;
    }
}

/* 0: there is room; -EAGAIN: not yet; else the frame is lost. */
static int take_chains(struct net_device *n, struct net_rx *rx, struct vmm_virtio_queue *q,
                       uint64_t needed)
{
    uint32_t most = n->mergeable ? NET_MERGE_MAX : 1;
    while (rx->room < needed) {
        if (rx->held == most)
            return -EMSGSIZE;
        struct vmm_virtio_chain *c = rx->chains[rx->held];
        int rc = vmm_virtio_queue_pop(q, c);
        if (rc == 0) {
            if (rx->fresh)
                vmm_virtio_queue_kick(q);
            rx->fresh = false;
            return -EAGAIN;
        }
        if (rc < 0)
            return rc;
        rx->fresh = true;
        if (c->writable_length < n->header) {
            vmm_virtio_queue_drop(q, c);
            vmm_virtio_guest_error(n->virtio, "a buffer shorter than the header of a frame");
            return -EINVAL;
        }
        rx->room += c->writable_length;
        rx->held++;
    }
    return 0;
}

/* The first `used` chains have gone back: those that are still held come first. */
static void shift(struct net_rx *rx, uint32_t used)
{
    struct vmm_virtio_chain *gone[NET_MERGE_MAX];
    memcpy(gone, rx->chains, used * sizeof(*gone));
    memmove(rx->chains, rx->chains + used, (rx->held - used) * sizeof(*gone));
    memcpy(rx->chains + rx->held - used, gone, used * sizeof(*gone));
    rx->held -= used;
}

static void put(struct net_device *n, struct net_rx *rx, struct vmm_virtio_queue *q,
                const struct vmm_net_frame *frame, uint64_t needed)
{
    uint64_t written[NET_MERGE_MAX], left = needed;
    uint8_t header[NET_HEADER];
    struct cursor from = {frame->pieces, 0};
    uint32_t used = 0;
    for (; left > 0; used++) {
        const struct vmm_virtio_chain *c = rx->chains[used];
        written[used] = c->writable_length < left ? c->writable_length : left;
        size_t skip = used == 0 ? n->header : 0;
        copy(c->writable, skip, (size_t)written[used] - skip, &from);
        rx->room -= c->writable_length;
        left -= written[used];
    }
    make_header(n, &frame->offload, used, header);
    (void)vmm_iov_write(rx->chains[0]->writable, rx->chains[0]->writable_count, 0, header,
                        n->header);
    vmm_virtio_queue_push_all(q, rx->chains, written, used);
    shift(rx, used);
    rx->unsaid = true;
}

static int fill(struct net_device *n, struct net_rx *rx, struct vmm_virtio_queue *q,
                const struct vmm_net_frame *frame)
{
    size_t length = length_of(frame);
    if (n->mtu && frame->offload.gso_type == VMM_NET_GSO_NONE && length > n->mtu + VLAN_FRAME_EXTRA)
        return 0;
    uint64_t needed = n->header + (uint64_t)length;
    int ret = take_chains(n, rx, q, needed);
    if (ret == 0)
        put(n, rx, q, frame, needed);
    return ret == -EAGAIN ? ret : 0;
}

/* Frames that come while no driver listens are lost, as on a cable. */
int vmm_net_receive(void *ctx, const struct vmm_net_frame *frame)
{
    struct net_device *n = ctx;
    uint32_t pair = frame->queue % n->pairs;
    struct net_rx *rx = &n->all[pair].rx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(n->virtio, 2 * pair);
    int ret = 0;
    vmm_virtio_queue_lock(q);
    if (vmm_virtio_live(n->virtio) && n->plugged && vmm_net_wants(n, frame))
        ret = fill(n, rx, q, frame);
    if (rx->unsaid && (ret || !frame->more)) {
        rx->unsaid = false;
        vmm_virtio_queue_signal(q);
    }
    vmm_virtio_queue_unlock(q);
    return ret;
}
