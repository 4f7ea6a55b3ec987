/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file net.h
 * Network backends: where the Ethernet frames of a network device go. They know nothing of guests.
 *
 * A net has one user (a device). A frame is whole, without its check sequence, in a vector of pieces
 * that nobody keeps after the call. Nothing blocks and nothing is buffered without bound: a side that
 * cannot take a frame says -EAGAIN, and tells the other when it can again.
 *
 * A frame may carry work that is left to do: a checksum to fill in, a segment to be cut into packets
 * (struct vmm_net_offload). A backend says which of these it can pass on (vmm_net_offloads()), and a
 * user which it takes (vmm_net_set_offloads()); without a word from either, frames are finished.
 */
#ifndef LIBVMM_NET_H
#define LIBVMM_NET_H

#include <libvmm/loop.h>

#include <sys/uio.h>

VMM_BEGIN_DECLS

struct vmm_net;

#define VMM_NET_FRAME_MAX                                                                          \
    65550u /**< bytes: 65535 of IP and an Ethernet header with room for a tag */
#define VMM_NET_PIECES_MAX 1023u /**< of one frame */

#define VMM_NET_QUEUES_MAX 256u

/* Kinds of unfinished frames, as bits. The last four want the first too. */
#define VMM_NET_CSUM 0x01u /**< a checksum that covers the pseudo-header only so far */
#define VMM_NET_TSO4 0x02u /**< TCP over IPv4, longer than a packet */
#define VMM_NET_TSO6 0x04u /**< TCP over IPv6 */
#define VMM_NET_ECN  0x08u /**< such segments with congestion notification */
#define VMM_NET_UFO  0x10u /**< UDP to be cut into IP fragments */

/* vmm_net_offload.flags */
#define VMM_NET_NEEDS_CSUM 1u /**< csum_start and csum_offset count */
#define VMM_NET_DATA_VALID 2u /**< the checksum has been verified */

/* vmm_net_offload.gso_type */
#define VMM_NET_GSO_NONE  0u
#define VMM_NET_GSO_TCPV4 1u
#define VMM_NET_GSO_UDP   3u
#define VMM_NET_GSO_TCPV6 4u
#define VMM_NET_GSO_ECN   0x80u /**< added to one of TCP */

/** What is left to do for a frame; the fields of VIRTIO 1.2 §5.1.6, in the host's byte order. All
 *  zeros: nothing. */
struct vmm_net_offload {
    uint8_t flags;        /**< VMM_NET_NEEDS_CSUM, VMM_NET_DATA_VALID */
    uint8_t gso_type;     /**< VMM_NET_GSO_… */
    uint16_t hdr_len;     /**< a hint: Ethernet, IP and TCP headers together; 0: unknown */
    uint16_t gso_size;    /**< payload of each packet */
    uint16_t csum_start;  /**< what the checksum covers, to the end of the frame */
    uint16_t csum_offset; /**< where it goes, from csum_start */
};

struct vmm_net_frame {
    const struct iovec *pieces;
    size_t count;
    uint32_t queue; /**< of a backend with several: by which it goes, or came */
    uint32_t more;  /**< non-zero: the next one of the queue follows at once, so wait for it before
                     *   the guest is told; a hint */
    struct vmm_net_offload offload;
};

/** The user's side. Callbacks run on the loop's thread without any lock of the net's; any may be NULL. */
struct vmm_net_user {
    size_t size;
    /** A frame for the user. 0: taken, or dropped; -EAGAIN: the backend keeps it, and all after it
     *  of the same queue, until vmm_net_accept(). */
    int (*receive)(void *ctx, const struct vmm_net_frame *frame);
    /** After a send gave -EAGAIN: try again. */
    void (*writable)(void *ctx);
    /** The link has come up or has gone down. */
    void (*link)(void *ctx, bool up);
};

/** An embedder's own backend, and the form of the built-in ones. */
struct vmm_net_ops {
    size_t size;
    /** Take a frame without blocking: 0; -EAGAIN: not now, vmm_net_writable() will follow; any other
     *  negative errno: the frame is lost. Called from any thread, one at a time. */
    int (*send)(void *ctx, const struct vmm_net_frame *frame);
    /** The user can receive again. It may hold its locks: deliver from the loop. May be NULL. */
    void (*accept)(void *ctx);
    void (*destroy)(void *ctx); /**< may be NULL */
    uint32_t offloads;          /**< unfinished frames that `send` takes: VMM_NET_CSUM, … */
    uint32_t queues;            /**< 0: 1 */
    /** From now on deliver such unfinished frames, and no others (a subset of `offloads`); finished
     *  ones always. At first none. May be NULL, then all that is delivered is finished. The user may
     *  hold its locks. */
    int (*set_offloads)(void *ctx, uint32_t offloads);
    /** The user receives on so many queues, the first ones; at first on all. May be NULL. As above. */
    int (*set_queues)(void *ctx, uint32_t queues);
};

/** `ops` is copied; on success `ctx` belongs to the net (ops->destroy). The link is up. */
VMM_API int vmm_net_new(const struct vmm_net_ops *ops, void *ctx, struct vmm_net **out);
VMM_API struct vmm_net *vmm_net_ref(struct vmm_net *net);
VMM_API struct vmm_net *vmm_net_unref(struct vmm_net *net);

/* For users (devices) */
/** Become the user (`user` is copied); NULL for `user` gives it up: then no callback runs any more when
 *  this returns, so do not hold a lock that a callback takes, unless this is called from inside the
 *  callback. -EBUSY: it has a user. Thread-safe. */
VMM_API int vmm_net_set_user(struct vmm_net *net, const struct vmm_net_user *user, void *ctx);
/** Send a frame. 0; -EAGAIN: wait for `writable`; -EMSGSIZE: no bytes, or more than VMM_NET_FRAME_MAX;
 *  -EINVAL: no pieces, or too many, no such queue, or an offload that does not fit the frame;
 *  -ENOTSUP: an offload that the backend does not do; -ENOTCONN: the link is down; else the backend's
 *  own. But for -EAGAIN the frame is lost. Never blocks. Thread-safe. */
VMM_API int vmm_net_send_frame(struct vmm_net *net, const struct vmm_net_frame *frame);
/** The same for a finished frame, by the first queue. */
VMM_API int vmm_net_send(struct vmm_net *net, const struct iovec *pieces, size_t count);
/** Unfinished frames that the backend takes, and can be told to deliver. Thread-safe. */
VMM_API uint32_t vmm_net_offloads(const struct vmm_net *net);
/** The user takes these unfinished frames from now on; a new user takes none. Those that come
 *  nevertheless are dropped. -ENOTSUP: the backend has not offered them all. Thread-safe. */
VMM_API int vmm_net_set_offloads(struct vmm_net *net, uint32_t offloads);
/** Queues of the backend, at least 1. Thread-safe. */
VMM_API uint32_t vmm_net_queues(const struct vmm_net *net);
/** Receive on the first `queues` only. -EINVAL: none, or more than there are; else the backend's own.
 *  Thread-safe. */
VMM_API int vmm_net_set_queues(struct vmm_net *net, uint32_t queues);
/** The user can receive again. A lock that its callbacks take may be held. Thread-safe. */
VMM_API void vmm_net_accept(struct vmm_net *net);
/** Is the link up? Thread-safe. */
VMM_API bool vmm_net_link(const struct vmm_net *net);

/* For backends: call them without a lock that ops->send takes. */
/** Hand a frame to the user: 0 (dropped, if there is no user), or -EAGAIN: keep it until ops->accept.
 *  -EINVAL, -EMSGSIZE as vmm_net_send_frame(); -ENOTSUP: dropped, the user takes no such offload. */
VMM_API int vmm_net_deliver_frame(struct vmm_net *net, const struct vmm_net_frame *frame);
VMM_API int vmm_net_deliver(struct vmm_net *net, const struct iovec *pieces, size_t count);
VMM_API void vmm_net_writable(struct vmm_net *net);
/** While the link is down, frames to send are lost. The user hears of a change only. */
VMM_API void vmm_net_set_link(struct vmm_net *net, bool up);

/* Stock backends ------------------------------------------------------------------------------ */

/**
 * A connected socket, duplicated. On a stream each frame goes after its length, four bytes with the
 * highest first, as passt and QEMU's `-netdev stream` have it; on datagram and sequenced-packet sockets
 * a frame is a message. A peer that hangs up, or announces a frame that is empty or too long, takes
 * the link down for good. -ENOTSOCK, -EBADF; -EINVAL: another type of socket.
 */
VMM_API int vmm_net_new_socket(struct vmm_loop *loop, int fd, struct vmm_net **out,
                               struct vmm_error *err);
/** Connect to a unix stream socket, such as passt's. -ENAMETOOLONG, and the errors of connect(). */
VMM_API int vmm_net_new_unix(struct vmm_loop *loop, const char *path, struct vmm_net **out,
                             struct vmm_error *err);
/** A cable between two ports, each on a loop of its own or both on one. */
VMM_API int vmm_net_new_pair(struct vmm_loop *loop_a, struct vmm_loop *loop_b, struct vmm_net **a,
                             struct vmm_net **b, struct vmm_error *err);

struct vmm_net_tap_options {
    size_t size;
    /** The interface: one that is there, or, for who may, a new one that goes with the net. Looked
     *  for in the caller's network namespace. "%d" in it stands for the first free number. */
    const char *name;
    const int
        *fds; /**< instead of a name: queues of one interface, open and attached; duplicated */
    uint32_t queues; /**< of the interface or in `fds`; 0: 1 */
    uint32_t reserved;
};
#define VMM_NET_TAP_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_net_tap_options), 0, 0, 0, 0                                             \
    }
/**
 * A tap interface of the host. All offloads, where the interface carries them (descriptors: where they
 * were attached with IFF_VNET_HDR). Descriptors become non-blocking. The interface going takes the link
 * down for good; that it is up or has an address is not this call's matter. -ENODEV: no such
 * interface; -EPERM; -EBUSY: in use; -EINVAL: another number of queues than it was made for.
 */
VMM_API int vmm_net_new_tap(struct vmm_loop *loop, const struct vmm_net_tap_options *options,
                            struct vmm_net **out, struct vmm_error *err);
/** The interface's name, at most 15 characters; valid as long as the net. NULL: not a tap. */
VMM_API const char *vmm_net_tap_name(const struct vmm_net *net);

struct vmm_net_slirp_options {
    size_t size;
    /** Non-zero: the guest reaches nothing but this net's own DHCP; forwarded ports still work. */
    uint32_t restricted;
    uint32_t host_loopback; /**< non-zero: 10.0.2.2 is the host's own 127.0.0.1 */
    const char *hostname;   /**< that DHCP gives the guest; copied; NULL: none */
    uint32_t mtu;           /**< 0: 1500; 576 to 65521 */
    uint32_t reserved;
};
#define VMM_NET_SLIRP_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_net_slirp_options), 0, 0, 0, 0, 0                                        \
    }
/**
 * User-mode network, by libslirp: no rights and no interface of the host's are needed. The guest is
 * 10.0.2.15 (by DHCP) behind the router 10.0.2.2, with a name server at 10.0.2.3; fec0::/64 likewise.
 * Its TCP and UDP become the host process's own sockets. -ENOTSUP: built without libslirp.
 */
VMM_API int vmm_net_new_slirp(struct vmm_loop *loop, const struct vmm_net_slirp_options *options,
                              struct vmm_net **out, struct vmm_error *err);

struct vmm_net_forward {
    size_t size;
    uint32_t udp;             /**< non-zero; else TCP */
    const char *host_address; /**< where the host listens; NULL: 127.0.0.1 */
    uint32_t host_port;
    const char *guest_address; /**< NULL: 10.0.2.15 */
    uint32_t guest_port;
    uint32_t reserved;
};
#define VMM_NET_FORWARD_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_net_forward), 0, 0, 0, 0, 0, 0                                           \
    }
/** Connections to a port of the host go to one of the guest. -EINVAL: not a user-mode network, or
 *  bad addresses or ports; -EADDRINUSE, -EACCES. Thread-safe. */
VMM_API int vmm_net_slirp_forward(struct vmm_net *net, const struct vmm_net_forward *forward,
                                  struct vmm_error *err);
/** -ENOENT: there is no such. Connections that are open stay. */
VMM_API int vmm_net_slirp_unforward(struct vmm_net *net, const struct vmm_net_forward *forward,
                                    struct vmm_error *err);

/**
 * Write the frames that pass between `below` and its user to a file in the pcap format (nanoseconds,
 * Ethernet). The result takes the place of `below`, which it holds and whose user it is. When the file
 * cannot be written any more, the capture ends and the frames go on.
 * @param fd  a regular file at its beginning, or what else does not block; duplicated
 */
VMM_API int vmm_net_new_pcap(struct vmm_net *below, int fd, struct vmm_net **out,
                             struct vmm_error *err);

VMM_END_DECLS

#endif
