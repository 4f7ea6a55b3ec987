/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file net.h
 * Network backends: where the Ethernet frames of a network device go. They know nothing of guests.
 *
 * A net has one user (a device). A frame is whole, without its check sequence, in a vector of pieces
 * that nobody keeps after the call. Nothing blocks and nothing is buffered without bound: a side that
 * cannot take a frame says -EAGAIN, and tells the other when it can again.
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

/** The user's side. Callbacks run on the loop's thread without any lock of the net's; any may be NULL. */
struct vmm_net_user {
    size_t size;
    /** A frame for the user. 0: taken, or dropped; -EAGAIN: the backend keeps it, and all after it,
     *  until vmm_net_accept(). */
    int (*receive)(void *ctx, const struct iovec *pieces, size_t count);
    /** After vmm_net_send() gave -EAGAIN: try again. */
    void (*writable)(void *ctx);
    /** The link has come up or has gone down. */
    void (*link)(void *ctx, bool up);
};

/** An embedder's own backend, and the form of the built-in ones. */
struct vmm_net_ops {
    size_t size;
    /** Take a frame without blocking: 0; -EAGAIN: not now, vmm_net_writable() will follow; any other
     *  negative errno: the frame is lost. Called from any thread, one at a time. */
    int (*send)(void *ctx, const struct iovec *pieces, size_t count);
    /** The user can receive again. It may hold its locks: deliver from the loop. May be NULL. */
    void (*accept)(void *ctx);
    void (*destroy)(void *ctx); /**< may be NULL */
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
 *  -EINVAL: no pieces, or too many; -ENOTCONN: the link is down; else the backend's own. But for
 *  -EAGAIN the frame is lost. Never blocks. Thread-safe. */
VMM_API int vmm_net_send(struct vmm_net *net, const struct iovec *pieces, size_t count);
/** The user can receive again. A lock that its callbacks take may be held. Thread-safe. */
VMM_API void vmm_net_accept(struct vmm_net *net);
/** Is the link up? Thread-safe. */
VMM_API bool vmm_net_link(const struct vmm_net *net);

/* For backends: call them without a lock that ops->send takes. */
/** Hand a frame to the user: 0 (dropped, if there is no user), or -EAGAIN: keep it until ops->accept.
 *  -EINVAL, -EMSGSIZE as vmm_net_send(). */
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

VMM_END_DECLS

#endif
