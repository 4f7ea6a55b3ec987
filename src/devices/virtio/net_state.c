/* SPDX-License-Identifier: BSD-3-Clause */
/* Save and load of the network card: what the control queue has set. */
#include "base/util.h"
#include "devices/virtio/net.h"

#define OFFLOADS_ALL (VMM_NET_CSUM | VMM_NET_TSO4 | VMM_NET_TSO6 | VMM_NET_ECN | VMM_NET_UFO)

/* A saved card holds no chain: those that wait are the driver's again, and are taken anew. */
static void put_back(struct net_device *n, uint32_t pair)
{
    struct net_rx *rx = &n->all[pair].rx;
    struct net_tx *tx = &n->all[pair].tx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(n->virtio, 2 * pair);
    vmm_virtio_queue_lock(q);
    while (rx->held > 0)
        vmm_virtio_queue_unpop(q, rx->chains[--rx->held]);
    rx->room = 0;
    vmm_virtio_queue_unlock(q);
    q = vmm_virtio_queue(n->virtio, 2 * pair + 1);
    vmm_virtio_queue_lock(q);
    if (tx->pending)
        vmm_virtio_queue_unpop(q, tx->chain);
    tx->pending = false;
    vmm_virtio_queue_unlock(q);
}

static uint32_t pack_modes(const struct net_filter *f)
{
    uint32_t modes = 0;
    for (uint32_t i = 0; i < MODES; i++)
        modes |= f->modes[i] ? 1u << i : 0;
    if (f->unicast.overflow)
        modes |= 1u << MODES;
    if (f->multicast.overflow)
        modes |= 2u << MODES;
    return modes;
}

int vmm_net_save(void *ctx, struct vmm_state_writer *w)
{
    struct net_device *n = ctx;
    for (uint32_t i = 0; i < n->pair_count; i++)
        put_back(n, i);
    pthread_mutex_lock(&n->lock);
    const struct net_filter f = n->filter;
    pthread_mutex_unlock(&n->lock);
    (void)vmm_state_put_u32(w, "pairs", n->pairs);
    (void)vmm_state_put_u32(w, "offloads", n->offloads);
    (void)vmm_state_put_u32(w, "modes", pack_modes(&f));
    (void)vmm_state_put_bytes(w, "mac", f.mac, sizeof(f.mac));
    (void)vmm_state_put_bytes(w, "unicast", f.unicast.mac, f.unicast.count * NET_MAC_SIZE);
    (void)vmm_state_put_bytes(w, "multicast", f.multicast.mac, f.multicast.count * NET_MAC_SIZE);
    return vmm_state_put_bytes(w, "vlans", f.vlans, sizeof(f.vlans));
}

static int load_table(struct vmm_state_reader *r, const char *name, struct net_table *table,
                      struct vmm_error *err)
{
    const void *data;
    size_t length;
    int rc = vmm_state_get_blob(r, name, &data, &length, err);
    if (rc)
        return rc;
    if (length > sizeof(table->mac) || length % NET_MAC_SIZE)
        return vmm_error_set(err, -EINVAL, "%s: no list of addresses", name);
    memcpy(table->mac, data, length);
    table->count = (uint32_t)(length / NET_MAC_SIZE);
    return 0;
}

static int load_filter(struct vmm_state_reader *r, struct net_filter *f, struct vmm_error *err)
{
    uint32_t modes = 0;
    int rc = vmm_state_get_u32(r, "modes", (4u << MODES) - 1, &modes, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "mac", f->mac, sizeof(f->mac), err);
    rc = rc ? rc : load_table(r, "unicast", &f->unicast, err);
    rc = rc ? rc : load_table(r, "multicast", &f->multicast, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "vlans", f->vlans, sizeof(f->vlans), err);
    for (uint32_t i = 0; i < MODES; i++)
        f->modes[i] = modes >> i & 1;
    f->unicast.overflow = modes >> MODES & 1;
    f->multicast.overflow = modes >> MODES & 2;
    return rc;
}

int vmm_net_load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct net_device *n = ctx;
    struct net_filter f = {0};
    uint32_t pairs, offloads;
    int rc = vmm_state_get_u32(r, "pairs", n->pair_count, &pairs, err);
    rc = rc ? rc : vmm_state_get_u32(r, "offloads", OFFLOADS_ALL, &offloads, err);
    rc = rc ? rc : load_filter(r, &f, err);
    if (rc)
        return rc;
    if (pairs == 0 || (offloads & ~vmm_net_offloads(n->net)))
        return vmm_error_set(err, -EINVAL, "pairs or offloads that this card does not have");
    pthread_mutex_lock(&n->lock);
    n->filter = f;
    pthread_mutex_unlock(&n->lock);
    vmm_net_use_pairs(n, pairs);
    vmm_net_use_offloads(n, offloads);
    n->loaded = true;
    /* The neighbours learn where the address is now, once the machine runs. */
    (void)vmm_timer_set(n->announce_timer, vmm_loop_now(n->virtio->loop));
    return 0;
}
