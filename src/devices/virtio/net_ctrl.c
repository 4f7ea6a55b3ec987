/* SPDX-License-Identifier: BSD-3-Clause */
/* The control queue of the network card (VIRTIO 1.2 §5.1.6.5), and the filter that it sets. */
#include "base/util.h"
#include "devices/virtio/net.h"

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ, CLASS_OFFLOADS };

#define ACK_OK  0u
#define ACK_ERR 1u

#define HEAD      18u /* of a frame: addresses, type and a tag */
#define VLAN_TYPE 0x8100u

/* The data of a command, read from the front. */
struct command {
    const struct vmm_virtio_chain *chain;
    uint64_t at;
};

static uint64_t left(const struct command *c)
{
    return c->chain->readable_length - c->at;
}

static bool take(struct command *c, void *to, size_t length)
{
    if (left(c) < length)
        return false;
    (void)vmm_iov_read(c->chain->readable, c->chain->readable_count, c->at, to, length);
    c->at += length;
    return true;
}

static bool has(const struct net_device *n, uint32_t feature)
{
    return n->features & VMM_VIRTIO_FEATURE(feature);
}

/* Commands: each is a bool, was it carried out. -------------------------------------------------- */

static bool set_mode(struct net_device *n, uint32_t mode, struct command *c)
{
    uint8_t on;
    if (mode >= MODES || !has(n, mode <= MODE_ALLMULTI ? F_CTRL_RX : F_CTRL_RX_EXTRA) ||
        !take(c, &on, 1) || on > 1)
        return false;
    pthread_mutex_lock(&n->lock);
    n->filter.modes[mode] = on;
    pthread_mutex_unlock(&n->lock);
    return true;
}

/* A count, and as many addresses. */
static bool take_table(struct command *c, struct net_table *table)
{
    uint8_t raw[4];
    if (!take(c, raw, sizeof(raw)))
        return false;
    uint32_t count = vmm_load_le32(raw);
    if (count > left(c) / NET_MAC_SIZE)
        return false;
    table->overflow = count > NET_TABLE_MAX;
    table->count = table->overflow ? 0 : count;
    if (table->count)
        return take(c, table->mac, count * NET_MAC_SIZE);
    c->at += (uint64_t)count * NET_MAC_SIZE;
    return true;
}

static bool set_mac(struct net_device *n, uint32_t command, struct command *c)
{
    struct net_table unicast = {0}, multicast = {0};
    uint8_t mac[NET_MAC_SIZE];
    if (command == 1) {
        if (!has(n, F_CTRL_MAC) || !take(c, mac, sizeof(mac)))
            return false;
        pthread_mutex_lock(&n->lock);
        memcpy(n->filter.mac, mac, sizeof(mac));
        pthread_mutex_unlock(&n->lock);
        return true;
    }
    if (command != 0 || !has(n, F_CTRL_RX) || !take_table(c, &unicast) ||
        !take_table(c, &multicast))
        return false;
    pthread_mutex_lock(&n->lock);
    n->filter.unicast = unicast;
    n->filter.multicast = multicast;
    pthread_mutex_unlock(&n->lock);
    return true;
}

static bool set_vlan(struct net_device *n, uint32_t command, struct command *c)
{
    uint8_t raw[2];
    if (command > 1 || !has(n, F_CTRL_VLAN) || !take(c, raw, sizeof(raw)))
        return false;
    uint32_t id = vmm_load_le16(raw);
    if (id >= 8 * NET_VLAN_BYTES)
        return false;
    uint8_t bit = (uint8_t)(1u << (id % 8));
    pthread_mutex_lock(&n->lock);
    if (command == 0)
        n->filter.vlans[id / 8] |= bit;
    else
        n->filter.vlans[id / 8] &= (uint8_t)~bit;
    pthread_mutex_unlock(&n->lock);
    return true;
}

static bool end_announce(struct net_device *n, uint32_t command)
{
    if (command != 0 || !has(n, F_ANNOUNCE))
        return false;
    atomic_fetch_and(&n->status, ~NET_STATUS_ANNOUNCE);
    return true;
}

static bool set_pairs(struct net_device *n, uint32_t command, struct command *c)
{
    uint8_t raw[2];
    if (command != 0 || !has(n, F_MQ) || !take(c, raw, sizeof(raw)))
        return false;
    uint32_t pairs = vmm_load_le16(raw);
    if (pairs == 0 || pairs > n->pair_count)
        return false;
    vmm_net_use_pairs(n, pairs);
    return true;
}

static bool set_offloads(struct net_device *n, uint32_t command, struct command *c)
{
    uint8_t raw[8];
    if (command != 0 || !has(n, F_GUEST_OFFLOADS) || !take(c, raw, sizeof(raw)))
        return false;
    uint64_t wanted = vmm_load_le64(raw);
    if (wanted & ~n->features)
        return false;
    vmm_net_use_offloads(n, vmm_net_guest_offloads(wanted));
    return true;
}

static bool carry_out(struct net_device *n, uint32_t class, uint32_t command, struct command *c)
{
    switch (class) {
    case CLASS_RX:
        return set_mode(n, command, c);
    case CLASS_MAC:
        return set_mac(n, command, c);
    case CLASS_VLAN:
        return set_vlan(n, command, c);
    case CLASS_ANNOUNCE:
        return end_announce(n, command);
    case CLASS_MQ:
        return set_pairs(n, command, c);
    case CLASS_OFFLOADS:
        return set_offloads(n, command, c);
    default:
        return false;
    }
}

void vmm_net_ctrl_notify(struct net_device *n)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(n->virtio, n->ctrl_queue);
    struct vmm_virtio_chain *chain = n->ctrl;
    while (vmm_virtio_queue_pop(q, chain) > 0) {
        struct command c = {chain, 0};
        uint8_t head[2];
        if (chain->writable_length < 1 || !take(&c, head, sizeof(head))) {
            vmm_virtio_queue_drop(q, chain);
            vmm_virtio_guest_error(n->virtio, "a command without room for header and answer");
            return;
        }
        const uint8_t ack = carry_out(n, head[0], head[1], &c) ? (uint8_t)ACK_OK : (uint8_t)ACK_ERR;
        (void)vmm_iov_write(chain->writable, chain->writable_count, 0, &ack, 1);
        vmm_virtio_queue_push(q, chain, 1);
    }
    vmm_virtio_queue_signal(q);
}

/* The filter ----------------------------------------------------------------------------------- */

static bool listed(const struct net_table *table, const uint8_t *mac)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (memcmp(table->mac[i], mac, NET_MAC_SIZE) == 0)
            return true;
    return table->overflow;
}

static bool wants_address(const struct net_filter *f, const uint8_t *mac)
{
    static const uint8_t broadcast[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (f->modes[MODE_PROMISC])
        return true;
    if (memcmp(mac, broadcast, NET_MAC_SIZE) == 0)
        return !f->modes[MODE_NOBCAST];
    if (mac[0] & 1)
        return !f->modes[MODE_NOMULTI] && (f->modes[MODE_ALLMULTI] || listed(&f->multicast, mac));
    return !f->modes[MODE_NOUNI] && (f->modes[MODE_ALLUNI] || listed(&f->unicast, mac) ||
                                     memcmp(mac, f->mac, NET_MAC_SIZE) == 0);
}

bool vmm_net_wants(struct net_device *n, const struct vmm_net_frame *frame)
{
    uint8_t head[HEAD] = {0};
    size_t length = vmm_iov_read(frame->pieces, frame->count, 0, head, sizeof(head));
    if (length < 14)
        return false; /* no Ethernet header */
    pthread_mutex_lock(&n->lock);
    bool wanted = wants_address(&n->filter, head);
    if (wanted && n->vlan_filter && (head[12] << 8 | head[13]) == VLAN_TYPE) {
        uint32_t id = (uint32_t)(head[14] << 8 | head[15]) % (8 * NET_VLAN_BYTES);
        wanted = n->filter.vlans[id / 8] >> (id % 8) & 1;
    }
    pthread_mutex_unlock(&n->lock);
    return wanted;
}
