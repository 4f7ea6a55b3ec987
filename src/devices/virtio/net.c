/* SPDX-License-Identifier: BSD-3-Clause */
/* The network card (VIRTIO 1.2 §5.1): features, configuration, and frames from the driver. */
#include "devices/virtio/net.h"
#include "base/util.h"

#include <stdlib.h>
#include <sys/random.h>

#define QUEUE_SIZE     256u
#define QUEUE_SIZE_MAX 1024u
#define MTU_MIN        68u
#define DUPLEX_FULL    1u

/* Offloads ------------------------------------------------------------------------------------- */

static const struct {
    uint32_t offload, host, guest; /* VMM_NET_…; bits of features */
} offload_features[] = {
    {VMM_NET_CSUM, F_CSUM, F_GUEST_CSUM},      {VMM_NET_TSO4, F_HOST_TSO4, F_GUEST_TSO4},
    {VMM_NET_TSO6, F_HOST_TSO6, F_GUEST_TSO6}, {VMM_NET_ECN, F_HOST_ECN, F_GUEST_ECN},
    {VMM_NET_UFO, F_HOST_UFO, F_GUEST_UFO},
};

/* Segments have unfinished checksums: nothing goes without that (§5.1.3.1). */
uint32_t vmm_net_guest_offloads(uint64_t features)
{
    uint32_t offloads = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(offload_features); i++)
        if (features & VMM_VIRTIO_FEATURE(offload_features[i].guest))
            offloads |= offload_features[i].offload;
    return offloads & VMM_NET_CSUM ? offloads : 0;
}

void vmm_net_use_offloads(struct net_device *n, uint32_t offloads)
{
    offloads &= vmm_net_offloads(n->net);
    if (vmm_net_set_offloads(n->net, offloads) < 0)
        offloads = 0; /* finished frames can always be had */
    n->offloads = offloads;
}

void vmm_net_use_pairs(struct net_device *n, uint32_t pairs)
{
    uint32_t queues = vmm_net_queues(n->net);
    n->pairs = pairs;
    /* Queues that cannot be detached still deliver: such frames go to the pairs that there are. */
    (void)vmm_net_set_queues(n->net, pairs < queues ? pairs : queues);
}

/* From the driver (§5.1.6.2) ------------------------------------------------------------------- */

/* The frame of the chain, behind its header; the vector is changed in its place. */
static void make_frame(const struct net_device *n, struct net_tx *tx, uint32_t pair)
{
    struct vmm_virtio_chain *c = tx->chain;
    struct iovec *piece = c->readable;
    size_t count = c->readable_count, skip = n->header;
    uint8_t raw[NET_HEADER_LEGACY];
    (void)vmm_iov_read(piece, count, 0, raw, sizeof(raw));
    for (; count > 0 && skip >= piece->iov_len; piece++, count--)
        skip -= piece->iov_len;
    if (count > 0) {
        piece->iov_base = (uint8_t *)piece->iov_base + skip;
        piece->iov_len -= skip;
    }
    tx->frame = (struct vmm_net_frame){.pieces = piece, .count = count};
    tx->frame.queue = pair % vmm_net_queues(n->net);
    struct vmm_net_offload *o = &tx->frame.offload;
    o->flags = raw[0] & VMM_NET_NEEDS_CSUM;
    o->gso_type = raw[1];
    if (o->gso_type != VMM_NET_GSO_NONE) {
        o->hdr_len = vmm_load_le16(raw + 2);
        o->gso_size = vmm_load_le16(raw + 4);
    }
    if (o->flags) {
        o->csum_start = vmm_load_le16(raw + 6);
        o->csum_offset = vmm_load_le16(raw + 8);
    }
}

/* false: the backend does not take it yet. What it refuses is lost. */
static bool send_frame(struct net_device *n, struct net_tx *tx, struct vmm_virtio_queue *q)
{
    int ret = n->plugged ? vmm_net_send_frame(n->net, &tx->frame) : -ENOTCONN;
    tx->pending = ret == -EAGAIN;
    if (tx->pending)
        return false;
    vmm_virtio_queue_push(q, tx->chain, 0);
    return true;
}

static void notify_tx(struct net_device *n, uint32_t pair)
{
    struct net_tx *tx = &n->all[pair].tx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(n->virtio, 2 * pair + 1);
    bool on = !tx->pending || send_frame(n, tx, q);
    while (on && vmm_virtio_queue_pop(q, tx->chain) > 0) {
        if (tx->chain->readable_length < n->header) {
            vmm_virtio_queue_drop(q, tx->chain);
            vmm_virtio_guest_error(n->virtio, "a frame shorter than its header");
            return;
        }
        make_frame(n, tx, pair);
        on = send_frame(n, tx, q);
    }
    vmm_virtio_queue_signal(q);
}

static void notify(void *ctx, uint32_t index)
{
    struct net_device *n = ctx;
    if (index == n->ctrl_queue && (n->features & VMM_VIRTIO_FEATURE(F_CTRL_VQ)))
        vmm_net_ctrl_notify(n);
    else if (index >= 2 * n->pair_count)
        return;
    else if (index % 2)
        notify_tx(n, index / 2);
    else
        vmm_net_accept(n->net);
}

static void on_writable(void *ctx)
{
    struct net_device *n = ctx;
    for (uint32_t i = 0; i < n->pair_count; i++)
        vmm_virtio_queue_kick(vmm_virtio_queue(n->virtio, 2 * i + 1));
}

/* Link and announcement ------------------------------------------------------------------------ */

/* The device's lock is held. */
static void change_status(struct net_device *n, uint32_t set, uint32_t clear)
{
    uint32_t old = atomic_fetch_or(&n->status, set);
    (void)atomic_fetch_and(&n->status, ~clear);
    if ((old & set) != set || (old & clear))
        vmm_virtio_config_changed(n->virtio);
}

static void update_link(struct net_device *n)
{
    bool up = n->plugged && vmm_net_link(n->net);
    change_status(n, up ? NET_STATUS_LINK_UP : 0, up ? 0 : NET_STATUS_LINK_UP);
}

static void on_link(void *ctx, bool up)
{
    struct net_device *n = ctx;
    (void)up; /* another change may have come since */
    vmm_device_lock(n->virtio->device);
    update_link(n);
    vmm_device_unlock(n->virtio->device);
}

int vmm_virtio_net_set_link(struct vmm_virtio *virtio, bool up)
{
    if (!virtio || virtio->id != DEVICE_NET)
        return -EINVAL;
    struct net_device *n = virtio->ctx;
    vmm_device_lock(virtio->device);
    n->plugged = up;
    update_link(n);
    vmm_device_unlock(virtio->device);
    vmm_net_accept(n->net); /* a frame that waits is lost, or has its turn */
    on_writable(n);
    return 0;
}

static int announce(struct net_device *n)
{
    if (!(n->features & VMM_VIRTIO_FEATURE(F_ANNOUNCE)) || !vmm_virtio_live(n->virtio))
        return -ENOTSUP;
    atomic_fetch_or(&n->status, NET_STATUS_ANNOUNCE);
    vmm_virtio_config_changed(n->virtio);
    return 0;
}

int vmm_virtio_net_announce(struct vmm_virtio *virtio)
{
    if (!virtio || virtio->id != DEVICE_NET)
        return -EINVAL;
    vmm_device_lock(virtio->device);
    int ret = announce(virtio->ctx);
    vmm_device_unlock(virtio->device);
    return ret;
}

/* The link may be another than in the saved machine, too: the driver is to look. */
static void on_loaded(void *ctx)
{
    struct net_device *n = ctx;
    vmm_device_lock(n->virtio->device);
    if (announce(n) < 0)
        vmm_virtio_config_changed(n->virtio);
    vmm_device_unlock(n->virtio->device);
}

int vmm_virtio_net_mac(struct vmm_virtio *virtio, uint8_t mac[6])
{
    if (!virtio || virtio->id != DEVICE_NET || !mac)
        return -EINVAL;
    struct net_device *n = virtio->ctx;
    pthread_mutex_lock(&n->lock);
    memcpy(mac, n->filter.mac, NET_MAC_SIZE);
    pthread_mutex_unlock(&n->lock);
    return 0;
}

/* Configuration (§5.1.4) ----------------------------------------------------------------------- */

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    struct net_device *n = ctx;
    uint8_t config[NET_CONFIG_SIZE] = {0};
    (void)vmm_virtio_net_mac(n->virtio, config);
    vmm_store_le16(config + 6, (uint16_t)n->status);
    vmm_store_le16(config + 8, (uint16_t)n->pair_count);
    vmm_store_le16(config + 10, (uint16_t)n->mtu);
    vmm_store_le32(config + 12, n->speed ? n->speed : UINT32_MAX);
    config[16] = n->speed ? DUPLEX_FULL : 0xff;
    memcpy(data, config + offset, length);
}

/* Drivers from before version 1 write their address here, byte by byte; others have a command. */
static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    struct net_device *n = ctx;
    if (offset + length > NET_MAC_SIZE ||
        (n->virtio->accepted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1)))
        return;
    pthread_mutex_lock(&n->lock);
    memcpy(n->filter.mac + offset, data, length);
    pthread_mutex_unlock(&n->lock);
}

static void features(void *ctx, uint64_t accepted)
{
    struct net_device *n = ctx;
    bool modern = accepted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1);
    n->features = accepted;
    n->mergeable = accepted & VMM_VIRTIO_FEATURE(F_MRG_RXBUF);
    n->header = modern || n->mergeable ? NET_HEADER : NET_HEADER_LEGACY;
    n->vlan_filter = accepted & VMM_VIRTIO_FEATURE(F_CTRL_VLAN);
    /* §5.1.2: behind the pairs that the driver knows of. */
    n->ctrl_queue = accepted & VMM_VIRTIO_FEATURE(F_MQ) ? 2 * n->pair_count : 2;
    if (!n->loaded)
        vmm_net_use_offloads(n, vmm_net_guest_offloads(accepted));
    n->loaded = false;
}

/* Queues and reset ----------------------------------------------------------------------------- */

static void queue_reset(void *ctx, uint32_t index)
{
    struct net_device *n = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(n->virtio, index);
    if (index >= 2 * n->pair_count)
        return;
    struct net_pair *pair = &n->all[index / 2];
    if (index % 2) {
        if (pair->tx.pending)
            vmm_virtio_queue_drop(q, pair->tx.chain);
        pair->tx.pending = false;
        return;
    }
    while (pair->rx.held > 0)
        vmm_virtio_queue_drop(q, pair->rx.chains[--pair->rx.held]);
    pair->rx.room = 0;
    pair->rx.fresh = pair->rx.unsaid = false;
}

/* What a driver that sets no filter gets: all. */
static void reset_filter(struct net_device *n)
{
    pthread_mutex_lock(&n->lock);
    memset(&n->filter, 0, sizeof(n->filter));
    n->filter.modes[MODE_PROMISC] = true;
    memcpy(n->filter.mac, n->mac, NET_MAC_SIZE);
    pthread_mutex_unlock(&n->lock);
}

static void reset(void *ctx)
{
    struct net_device *n = ctx;
    n->features = 0;
    n->header = NET_HEADER;
    n->mergeable = n->vlan_filter = n->loaded = false;
    n->ctrl_queue = 2 * n->pair_count;
    atomic_fetch_and(&n->status, ~NET_STATUS_ANNOUNCE);
    reset_filter(n);
    vmm_net_use_pairs(n, 1);
    vmm_net_use_offloads(n, 0);
    vmm_net_accept(n->net); /* a frame that waits is lost */
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct net_device *n = ctx;
    if (n->is_user)
        (void)vmm_net_set_user(n->net, NULL, NULL);
    vmm_timer_free(n->announce_timer);
    for (uint32_t i = 0; i < n->pair_count; i++) {
        if (n->virtio) {
            queue_reset(n, 2 * i);
            queue_reset(n, 2 * i + 1);
        }
        for (uint32_t j = 0; j < NET_MERGE_MAX; j++)
            vmm_virtio_chain_free(n->all[i].rx.chains[j]);
        vmm_virtio_chain_free(n->all[i].tx.chain);
    }
    vmm_virtio_chain_free(n->ctrl);
    vmm_net_unref(n->net);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static uint64_t features_of(const struct net_device *n)
{
    static const uint8_t always[] = {F_MAC,       F_MRG_RXBUF,     F_STATUS,   F_CTRL_VQ, F_CTRL_RX,
                                     F_CTRL_VLAN, F_CTRL_RX_EXTRA, F_ANNOUNCE, F_CTRL_MAC};
    uint32_t offloads = vmm_net_offloads(n->net) & ~n->offloads_off;
    uint64_t f = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(always); i++)
        f |= VMM_VIRTIO_FEATURE(always[i]);
    if (!(offloads & VMM_NET_CSUM))
        offloads = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(offload_features); i++)
        if (offloads & offload_features[i].offload)
            f |= VMM_VIRTIO_FEATURE(offload_features[i].host) |
                 VMM_VIRTIO_FEATURE(offload_features[i].guest);
    f |= offloads ? VMM_VIRTIO_FEATURE(F_GUEST_OFFLOADS) : 0;
    f |= n->pair_count > 1 ? VMM_VIRTIO_FEATURE(F_MQ) : 0;
    f |= n->mtu ? VMM_VIRTIO_FEATURE(F_MTU) : 0;
    return f | (n->speed ? VMM_VIRTIO_FEATURE(F_SPEED_DUPLEX) : 0);
}

static int make_chains(struct net_device *n)
{
    int rc = vmm_virtio_chain_new(n->virtio, &n->ctrl);
    for (uint32_t i = 0; i < n->pair_count && !rc; i++) {
        rc = vmm_virtio_chain_new(n->virtio, &n->all[i].tx.chain);
        for (uint32_t j = 0; j < NET_MERGE_MAX && !rc; j++)
            rc = vmm_virtio_chain_new(n->virtio, &n->all[i].rx.chains[j]);
    }
    return rc;
}

static int start(struct net_device *n)
{
    static const struct vmm_net_user user = {sizeof(user), vmm_net_receive, on_writable, on_link};
    int rc = make_chains(n);
    rc = rc ? rc : vmm_timer_new(n->virtio->loop, on_loaded, n, &n->announce_timer);
    if (rc)
        return rc;
    rc = vmm_net_set_user(n->net, &user, n);
    if (rc)
        return rc;
    n->is_user = true;
    reset(n);
    on_link(n, true);
    return 0;
}

static int make(struct net_device *n, struct vmm_virtio_options *o, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .features = features,
        .config_read = config_read,
        .config_write = config_write,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = vmm_net_save,
        .load = vmm_net_load,
        .destroy = destroy,
    };
    o->device_id = DEVICE_NET;
    o->queues = 2 * n->pair_count + 1;
    o->features = features_of(n);
    o->config_size = NET_CONFIG_SIZE;
    o->ops = &ops;
    o->ctx = n;
    int rc = vmm_virtio_new(o, &n->virtio, err);
    if (rc) {
        destroy(n);
        return rc;
    }
    rc = start(n);
    if (!rc)
        return 0;
    vmm_virtio_unref(n->virtio);
    return vmm_error_set(err, rc, "network card: %s", strerror(-rc));
}

static int check_options(const struct vmm_virtio_net_options *o, struct vmm_error *err)
{
    if (!o->net)
        return vmm_error_set(err, -EINVAL, "a network card needs a backend");
    if (o->queues > VMM_VIRTIO_NET_QUEUES_MAX)
        return vmm_error_set(err, -EINVAL, "a network card has at most %u pairs of queues",
                             VMM_VIRTIO_NET_QUEUES_MAX);
    if (o->queue_size && (!vmm_is_power_of_two(o->queue_size) || o->queue_size > QUEUE_SIZE_MAX))
        return vmm_error_set(err, -EINVAL, "queues of a power of two, to %u", QUEUE_SIZE_MAX);
    if (o->mtu && (o->mtu < MTU_MIN || o->mtu > UINT16_MAX))
        return vmm_error_set(err, -EINVAL, "an MTU is from %u to %u", MTU_MIN, UINT16_MAX);
    if (o->speed > INT32_MAX)
        return vmm_error_set(err, -EINVAL, "a speed is at most %d Mbit/s", INT32_MAX);
    if (o->mac && (o->mac[0] & 1))
        return vmm_error_set(err, -EINVAL, "the address of a card is no multicast address");
    return 0;
}

static int choose_mac(struct net_device *n, const uint8_t *mac)
{
    if (mac)
        memcpy(n->mac, mac, NET_MAC_SIZE);
    else if (getrandom(n->mac, NET_MAC_SIZE, 0) != (ssize_t)NET_MAC_SIZE)
        return -errno;
    else
        n->mac[0] = (uint8_t)((n->mac[0] & 0xfc) | 2); /* one address, locally administered */
    return 0;
}

int vmm_virtio_net_new(const struct vmm_virtio_place *given,
                       const struct vmm_virtio_net_options *card, struct vmm_virtio **out,
                       struct vmm_error *err)
{
    struct vmm_virtio_place place;
    struct vmm_virtio_net_options c;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (!rc && (!card || vmm_options_copy(&c, sizeof(c), card)))
        rc = vmm_error_set(err, -EINVAL, "network card options: a structure of another version");
    rc = rc ? rc : check_options(&c, err);
    if (rc)
        return rc;
    uint32_t pairs = c.queues ? c.queues : 1;
    struct net_device *n = calloc(1, sizeof(*n) + pairs * sizeof(n->all[0]));
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&n->lock, NULL);
    n->pair_count = pairs;
    n->net = vmm_net_ref(c.net);
    n->mtu = c.mtu;
    n->speed = c.speed;
    n->offloads_off = c.offloads_off;
    n->plugged = true;
    n->pairs = 1;
    rc = choose_mac(n, c.mac);
    if (rc) {
        destroy(n);
        return vmm_error_set(err, rc, "a random address: %s", strerror(-rc));
    }
    o.features_off = c.features_off;
    o.queue_size_max = c.queue_size ? c.queue_size : QUEUE_SIZE;
    rc = make(n, &o, err);
    if (!rc)
        *out = n->virtio;
    return rc;
}
