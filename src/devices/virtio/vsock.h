/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The socket device from the inside.
 *
 * Connections are made and freed on the loop's thread only, but may die on any (a reset comes from a
 * vCPU): a dead one keeps its memory and source until the loop's `reaper` frees it.
 *
 * Locks: the queue of packets to the driver, or of those from it (in the order from, to), then the
 * device's own, which guards everything here.
 */
#ifndef DEVICES_VIRTIO_VSOCK_H
#define DEVICES_VIRTIO_VSOCK_H

#include "devices/virtio/internal.h"

#include <sys/queue.h>
#include <sys/un.h>

#define VSOCK_HEADER   44u
#define VSOCK_HOST_CID 2u
#define VSOCK_STREAM   1u

enum vsock_op { /* §5.10.6 */
                VSOCK_REQUEST = 1,
                VSOCK_RESPONSE,
                VSOCK_RST,
                VSOCK_SHUTDOWN,
                VSOCK_RW,
                VSOCK_CREDIT_UPDATE,
                VSOCK_CREDIT_REQUEST,
};

#define VSOCK_NO_RECEIVE 1u /* flags of VSOCK_SHUTDOWN: the sender will not do this any more */
#define VSOCK_NO_SEND    2u
#define VSOCK_NEITHER    3u

struct vsock_header {
    uint64_t source_cid, target_cid;
    uint32_t source_port, target_port;
    uint32_t length;
    uint16_t type, op;
    uint32_t flags, allocated, forwarded;
};

enum vsock_state {
    VSOCK_GREETING,    /* a program on the host has not yet said which port it wants */
    VSOCK_CONNECTING,  /* the guest has been asked */
    VSOCK_ESTABLISHED, /* as seen by both */
    VSOCK_CLOSING,     /* the guest is to be told of the end */
    VSOCK_LINGERING,   /* over for the guest; what it sent still goes out */
    VSOCK_DEAD,
};

#define VSOCK_LINE_MAX 32u /* of the greeting */
#define VSOCK_BUCKETS  256u

struct vsock_connection {
    struct vsock *vsock;
    enum vsock_state state;
    uint32_t host_port, guest_port;
    LIST_ENTRY(vsock_connection) bucket; /* while it has ports */
    TAILQ_ENTRY(vsock_connection) waiting;
    bool has_ports, waits; /* in which lists it is */
    uint32_t owed;         /* packets for the guest: a bit an operation */
    int fd;
    struct vmm_source *source;
    uint32_t events; /* that are watched for */
    bool readable;   /* there may be something to read */
    bool ended;      /* nothing more will be */
    bool hung_up;
    bool refuses;   /* the host's end takes no more */
    uint32_t ends;  /* what the guest has shut down, VSOCK_NO_… */
    uint32_t told;  /* what the guest was told of the host's end */
    uint8_t *bytes; /* for the host, a ring of the device's `buffer` bytes; NULL: never needed */
    uint32_t first, used;
    uint32_t forwarded, forwarded_told;
    uint32_t allocated, taken, sent; /* the guest's room, what it has taken, what was sent */
    uint32_t line_length;
    char line[VSOCK_LINE_MAX];
};

/* A refusal of a packet that belongs to no connection. */
struct vsock_refusal {
    uint32_t host_port, guest_port;
    uint16_t type;
};
#define VSOCK_REFUSALS 64u

LIST_HEAD(vsock_bucket, vsock_connection);
TAILQ_HEAD(vsock_waiting, vsock_connection);

struct vsock {
    struct vmm_virtio *virtio;
    struct vmm_virtio_queue *to_driver, *from_driver, *events;
    struct vmm_virtio_chain *chain_to, *chain_from, *chain_event;
    pthread_mutex_t lock;
    struct sockaddr_un address;
    int listen_fd;
    bool bound, ending;
    struct vmm_source *listener;
    struct vmm_timer *reaper;
    uint64_t cid;
    uint32_t buffer, room;         /* connections at most */
    struct vsock_connection **all; /* `room` places, dead ones too */
    struct vsock_bucket buckets[VSOCK_BUCKETS];
    struct vsock_waiting waiting;
    struct vsock_refusal refusals[VSOCK_REFUSALS];
    uint32_t first_refusal, refusal_count;
    uint32_t next_port;
    bool stalled;   /* packets from the driver wait until refusals have gone out */
    bool reset_due; /* the driver is to be told that all connections are gone */
};

/* vsock-connection.c: the host's side. The device's lock is held, on the loop's thread but where said. */

bool vmm_vsock_has_room(const struct vsock *v);
/* Takes `fd` over; NULL: no room for it, and it is closed. */
struct vsock_connection *vmm_vsock_connection_new(struct vsock *v, int fd, enum vsock_state state);
void vmm_vsock_connection_name(struct vsock_connection *c, uint32_t host_port, uint32_t guest_port);
struct vsock_connection *vmm_vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);
/* Over: any thread. */
void vmm_vsock_kill(struct vsock_connection *c);
/* Over for the host at once, and the guest will be told. */
void vmm_vsock_abort(struct vsock_connection *c);
/* Queue it for packets to the guest if there are any, and watch the socket for what can be used. */
void vmm_vsock_settle(struct vsock_connection *c);
/* Bytes for the host out of a chain, from `offset`. false: more than the guest may send. */
bool vmm_vsock_take(struct vsock_connection *c, const struct vmm_virtio_chain *chain,
                    uint32_t length);
/* Send what waits, and end what is to end after it. */
void vmm_vsock_flush(struct vsock_connection *c);
/* The socket is ready. */
void vmm_vsock_ready(void *ctx, uint32_t events);
/* Free the dead. Without the lock. */
void vmm_vsock_reap(struct vsock *v);

/* vsock-packets.c: the guest's side. */

bool vmm_vsock_has_packet(const struct vsock_connection *c);
/* One chain from the driver; false: no packet. The locks are held. */
bool vmm_vsock_receive(struct vsock *v, const struct vmm_virtio_chain *chain);
/* Send what waits. Both locks are held. `turn`: this is outside of `notify`. */
void vmm_vsock_send(struct vsock *v, bool turn);

#endif
