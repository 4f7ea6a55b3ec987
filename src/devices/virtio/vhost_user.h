/* SPDX-License-Identifier: BSD-3-Clause */
/* The messages of vhost-user, as a front end sends them. */
#ifndef DEVICES_VIRTIO_VHOST_USER_H
#define DEVICES_VIRTIO_VHOST_USER_H

#include <libvmm/memory.h>

#include <pthread.h>
#include <stdatomic.h>

#define VHOST_GET_FEATURES          1u
#define VHOST_SET_FEATURES          2u
#define VHOST_SET_OWNER             3u
#define VHOST_SET_MEM_TABLE         5u
#define VHOST_SET_VRING_NUM         8u
#define VHOST_SET_VRING_ADDR        9u
#define VHOST_SET_VRING_BASE        10u
#define VHOST_GET_VRING_BASE        11u
#define VHOST_SET_VRING_KICK        12u
#define VHOST_SET_VRING_CALL        13u
#define VHOST_GET_PROTOCOL_FEATURES 15u
#define VHOST_SET_PROTOCOL_FEATURES 16u
#define VHOST_GET_QUEUE_NUM         17u
#define VHOST_SET_VRING_ENABLE      18u
#define VHOST_GET_CONFIG            24u

#define VHOST_F_PROTOCOL_FEATURES 30u

#define VHOST_PROTOCOL_MQ        0x001u
#define VHOST_PROTOCOL_REPLY_ACK 0x008u
#define VHOST_PROTOCOL_CONFIG    0x200u

#define VHOST_REGIONS_MAX 8u
/* The front end's addresses serve only to name places in the table of memory. Ours are the guest's own,
 * moved so that none is zero, which some back ends take for "none". */
#define VHOST_ADDRESS_BASE ((uint64_t)1 << 46)

struct vhost_link {
    int fd;
    uint32_t timeout_ms;
    uint64_t features; /* the back end's */
    uint64_t protocol; /* agreed on */
    uint32_t queues;   /* that the back end has at most */
    _Atomic bool broken;
};

struct vhost_region {
    uint64_t address, length; /* the guest's */
    uint64_t offset;          /* in the descriptor */
    int fd;
};

struct vhost_regions {
    struct vhost_region region[VHOST_REGIONS_MAX];
    uint32_t count;
    bool unshared, too_many; /* RAM without a descriptor; more pieces than there is room for */
};

/* All of these block for at most the timeout. One thread at a time. An error breaks the link. */
int vmm_vhost_link_connect(struct vhost_link *link, const char *path, int fd,
                           struct vmm_error *err);
void vmm_vhost_link_close(struct vhost_link *link);
/* The other end, and whoever waits for it, learn that it is over. Thread-safe. */
void vmm_vhost_link_break(struct vhost_link *link);
/* Owner, features, protocol features and the number of queues. */
int vmm_vhost_link_negotiate(struct vhost_link *link);
int vmm_vhost_link_get_config(struct vhost_link *link, uint8_t *config, uint32_t length);
int vmm_vhost_link_set_u64(struct vhost_link *link, uint32_t request, uint64_t value);
int vmm_vhost_link_set_regions(struct vhost_link *link, const struct vhost_regions *regions);
/* SET_VRING_NUM, _BASE, _ENABLE */
int vmm_vhost_link_set_state(struct vhost_link *link, uint32_t request, uint32_t index,
                             uint32_t value);
int vmm_vhost_link_set_addresses(struct vhost_link *link, uint32_t index, uint64_t desc,
                                 uint64_t driver, uint64_t device);
/* SET_VRING_KICK, _CALL */
int vmm_vhost_link_set_event(struct vhost_link *link, uint32_t request, uint32_t index, int fd);
/* The queue ends; the index that comes next is given. */
int vmm_vhost_link_stop_queue(struct vhost_link *link, uint32_t index, uint32_t *base);

/* The guest's RAM as it is now. */
void vmm_vhost_regions_find(struct vmm_memory *memory, struct vhost_regions *regions);
bool vmm_vhost_regions_have(const struct vhost_regions *regions, uint64_t address, uint64_t length);

#endif
