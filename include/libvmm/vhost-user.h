/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vhost-user.h
 * Virtio devices that another process of the host carries out: the front end of vhost-user.
 *
 * The back end (qemu-storage-daemon, virtiofsd, DPDK, one of the user's own) listens on a unix socket. It gets
 * the guest's RAM by descriptors and works on the device's rings; the VMM keeps the transport. RAM must
 * be shared memory (the machine's option shared_memory), and none may be plugged in later: the back end
 * would not know of it.
 *
 * The back end is trusted with the guest's memory, and with nothing of the process. One that answers
 * wrongly, not in time, or dies breaks the device: the driver sees DEVICE_NEEDS_RESET, for good. While
 * it has to answer (when the driver starts and resets the device), the loop or a processor waits. What it
 * writes to guest memory is in no dirty log. There is no reconnection.
 */
#ifndef LIBVMM_VHOST_USER_H
#define LIBVMM_VHOST_USER_H

#include <libvmm/virtio.h>

VMM_BEGIN_DECLS

struct vmm_vhost_user_options {
    size_t size;
    const char *path;    /**< the back end's socket */
    int32_t fd;          /**< where `path` is NULL: a connected one; duplicated */
    uint32_t queues;     /**< a disk's, to 64; 0: 1. A file system has one, beside that of
                             priority; a network card one pair */
    const char *tag;     /**< a file system's: 1 to 36 bytes */
    uint32_t timeout_ms; /**< for an answer; 0: 5000 */
    uint32_t reserved;
    /** The back end is gone; called once, on any thread with locks of the device held: post to a loop.
     *  `why` is valid during the call. May be NULL. */
    void (*broken)(void *ctx, const char *why);
    void *ctx;
    const uint8_t *mac; /**< a network card's six bytes; NULL: random */
};
#define VMM_VHOST_USER_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_vhost_user_options), 0, -1, 0, 0, 0, 0, 0, 0, 0                          \
    }

/** A disk (VIRTIO 1.2 §5.2), whose size and features are the back end's. May block for the timeout.
 *  -EINVAL: options, or RAM that is not shared; -ENOTSUP: the back end lacks what is needed; -EPROTO: it
 *  answers wrongly; -ETIMEDOUT; -ECONNREFUSED and others of connecting. */
VMM_API int vmm_vhost_user_blk_new(const struct vmm_virtio_place *place,
                                   const struct vmm_vhost_user_options *options,
                                   struct vmm_virtio **out, struct vmm_error *err);
/** A file system (§5.11). It cannot be saved: files that the guest has open are the back end's. */
VMM_API int vmm_vhost_user_fs_new(const struct vmm_virtio_place *place,
                                  const struct vmm_vhost_user_options *options,
                                  struct vmm_virtio **out, struct vmm_error *err);
/** A network card (§5.1) of one pair of queues, without a control queue: the back end gets and gives every
 *  frame. */
VMM_API int vmm_vhost_user_net_new(const struct vmm_virtio_place *place,
                                   const struct vmm_vhost_user_options *options,
                                   struct vmm_virtio **out, struct vmm_error *err);

VMM_END_DECLS

#endif
