/* SPDX-License-Identifier: BSD-3-Clause */
/* --net: network cards. */
#ifndef VMM_RUN_NET_H
#define VMM_RUN_NET_H

#include "iothreads.h"

#include <libvmm/vmm.h>

#define NETS_MAX     8
#define FORWARDS_MAX 16

enum { NET_USER, NET_TAP, NET_UNIX };

struct net_option {
    uint32_t kind;     /* NET_… */
    const char *where; /* an interface, or a path */
    const char *pcap;  /* NULL: no capture */
    bool has_mac;
    uint8_t mac[6];
    uint32_t queues, mtu; /* 0: the defaults */
    bool restricted, host, no_packed;
    struct vmm_net_forward forwards[FORWARDS_MAX];
    uint32_t forward_count;
};

struct net_options {
    struct net_option net[NETS_MAX];
    uint32_t count;
};

/* user|tap:IF|unix:PATH[,key=value]...; the argument is cut up in place. NULL, or what is wrong. */
const char *net_parse(struct net_options *options, char *text);
/* One card, not on a bus yet. */
int net_make(const struct net_option *option, const char *name, struct vmm_loop *loop,
             struct vmm_machine *machine, struct vmm_virtio **out, struct vmm_error *err);
int net_add(const struct net_options *options, struct iothreads *threads,
            struct vmm_machine *machine, struct vmm_error *err);

#endif
