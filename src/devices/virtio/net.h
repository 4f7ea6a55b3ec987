/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network card from the inside. Queue 2n receives and queue 2n+1 sends for pair n; the control
 * queue comes after the pairs that the driver knows of.
 *
 * Locks: a queue's guards what stands in its net_rx or net_tx; `lock` guards the filter and is
 * innermost; what the atomics hold is read on the way of each frame.
 */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include "devices/virtio/internal.h"

#include <libvmm/net.h>

#define DEVICE_NET 1u

/* VIRTIO 1.2 §5.1.3 */
#define F_CSUM           0u
#define F_GUEST_CSUM     1u
#define F_GUEST_OFFLOADS 2u
#define F_MTU            3u
#define F_MAC            5u
#define F_GUEST_TSO4     7u
#define F_GUEST_TSO6     8u
#define F_GUEST_ECN      9u
#define F_GUEST_UFO      10u
#define F_HOST_TSO4      11u
#define F_HOST_TSO6      12u
#define F_HOST_ECN       13u
#define F_HOST_UFO       14u
#define F_MRG_RXBUF      15u
#define F_STATUS         16u
#define F_CTRL_VQ        17u
#define F_CTRL_RX        18u
#define F_CTRL_VLAN      19u
#define F_CTRL_RX_EXTRA  20u
#define F_ANNOUNCE       21u
#define F_MQ             22u
#define F_CTRL_MAC       23u
#define F_SPEED_DUPLEX   63u

#define NET_HEADER_LEGACY 10u /* without num_buffers */
#define NET_HEADER        12u

#define NET_STATUS_LINK_UP  1u
#define NET_STATUS_ANNOUNCE 2u

#define NET_MAC_SIZE    6u
#define NET_CONFIG_SIZE 24u
#define NET_MERGE_MAX   64u  /* buffers of one frame */
#define NET_TABLE_MAX   64u  /* addresses of each kind; more, and all of the kind pass */
#define NET_VLAN_BYTES  512u /* a bit for each of 4096 */

struct net_rx {
    struct vmm_virtio_chain *chains[NET_MERGE_MAX];
    uint32_t held; /* of them hold a chain of the queue, the first ones */
    uint64_t room; /* bytes in those */
    bool fresh;    /* chains were taken since notifications were asked for */
    bool unsaid;   /* the driver has not been told of what was pushed */
};

struct net_tx {
    struct vmm_virtio_chain *chain;
    bool pending; /* the chain waits until the backend takes `frame` */
    struct vmm_net_frame frame;
};

struct net_table {
    uint32_t count;
    bool overflow; /* there were more */
    uint8_t mac[NET_TABLE_MAX][NET_MAC_SIZE];
};

/* Which frames the driver wants (§5.1.6.5). */
struct net_filter {
    bool modes[6]; /* by command of class 0: promiscuous, … */
    uint8_t mac[NET_MAC_SIZE];
    struct net_table unicast, multicast;
    uint8_t vlans[NET_VLAN_BYTES];
};

enum { MODE_PROMISC, MODE_ALLMULTI, MODE_ALLUNI, MODE_NOMULTI, MODE_NOUNI, MODE_NOBCAST, MODES };

struct net_pair {
    struct net_rx rx;
    struct net_tx tx;
};

struct net_device {
    struct vmm_virtio *virtio;
    struct vmm_net *net;
    bool is_user;
    uint32_t pair_count;
    uint32_t mtu, speed;
    uint8_t mac[NET_MAC_SIZE]; /* at power-on */
    struct vmm_timer *announce_timer;
    struct vmm_virtio_chain *ctrl;
    /* As negotiated; they change only while no queue is on. */
    uint32_t header;
    bool mergeable, vlan_filter;
    uint32_t ctrl_queue;
    uint32_t offloads_off;
    uint64_t features;
    _Atomic uint32_t pairs;    /* that the driver uses */
    _Atomic uint32_t offloads; /* VMM_NET_… that the driver takes now */
    _Atomic uint32_t status;   /* as in the configuration */
    _Atomic bool plugged;      /* the cable is in */
    bool loaded;               /* `offloads` comes from a saved state, not from the features */
    pthread_mutex_t lock;
    struct net_filter filter;
    struct net_pair all[];
};

/* net.c: offloads that go with these features of the driver's. */
uint32_t vmm_net_guest_offloads(uint64_t features);
/* Tell the backend; offloads that it does not do are left out. */
void vmm_net_use_offloads(struct net_device *n, uint32_t offloads);
void vmm_net_use_pairs(struct net_device *n, uint32_t pairs);

/* net_ctrl.c; the control queue's lock is held. */
void vmm_net_ctrl_notify(struct net_device *n);
/* Does the driver want this frame? */
bool vmm_net_wants(struct net_device *n, const struct vmm_net_frame *frame);

/* net_rx.c */
int vmm_net_receive(void *ctx, const struct vmm_net_frame *frame);

/* net_state.c */
int vmm_net_save(void *ctx, struct vmm_state_writer *w);
int vmm_net_load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err);

#endif
