/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file share.h
 * A folder of the host, served by the protocol 9P2000.L: messages go in, answers come out. Virtio's
 * device of that name (vmm_virtio_9p_new()) carries them; any other stream of messages could.
 *
 * The client never leaves the folder: names are single ones, looked up by openat2() beneath a
 * descriptor of what was reached before, and no symbolic link is followed (that is the client's
 * business). What a process of the host moves out of the folder stays reachable for a client that
 * holds it, as an open file would. Files that are no regular files, folders or links are seen, but
 * neither opened nor made. Advisory locks are granted: they are between the client's own processes.
 *
 * Needs Linux 5.6 and /proc. A client's file takes up to two descriptors of the process.
 */
#ifndef LIBVMM_SHARE_H
#define LIBVMM_SHARE_H

#include <libvmm/state.h>

#include <sys/uio.h>

VMM_BEGIN_DECLS

struct vmm_share;

/** Owners are the host's; what the client makes gets the owner it says. Needs the privileges for it. */
#define VMM_SHARE_OWNER_PASSTHROUGH 0u
/** All that the client makes belongs to the process, and everything is shown as belonging to one user
 *  of the guest. Changing an owner does nothing; set-user-id bits are not kept; of the extended
 *  attributes only those of users (user.*) exist. */
#define VMM_SHARE_OWNER_MAPPED 1u

#define VMM_SHARE_FIDS_MAX    65536u
#define VMM_SHARE_MESSAGE_MIN 4096u
#define VMM_SHARE_MESSAGE_MAX 0x100000u

struct vmm_share_options {
    size_t size;
    const char *path;   /**< the folder */
    int32_t fd;         /**< where `path` is NULL: a descriptor of it; duplicated */
    uint32_t read_only; /**< non-zero: nothing is changed */
    uint32_t owner;     /**< VMM_SHARE_OWNER_… */
    uint32_t guest_uid; /**< MAPPED: whose everything is */
    uint32_t guest_gid;
    /** Files that the client may hold at a time, to VMM_SHARE_FIDS_MAX; 0: as many as a quarter of the
     *  descriptors that the process may have now. */
    uint32_t fids_max;
    /** Bytes of a message (msize), VMM_SHARE_MESSAGE_MIN to _MAX; 0: 512 KiB. */
    uint32_t message_max;
    uint32_t reserved;
};
#define VMM_SHARE_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct vmm_share_options), 0, -1, 0, 0, 0, 0, 0, 0, 0                               \
    }

/** -EINVAL: options out of range; -ENOTDIR; -ENOSYS: the kernel has no openat2(); what the host said. */
VMM_API int vmm_share_new(const struct vmm_share_options *options, struct vmm_share **out,
                          struct vmm_error *err);
VMM_API struct vmm_share *vmm_share_ref(struct vmm_share *share);
VMM_API struct vmm_share *vmm_share_unref(struct vmm_share *share);

/* A share has one client, and the following are called by one thread at a time. */

/**
 * Carry out one message; may block as long as the host's file system does. Data of reads and writes
 * goes straight between the files and the vectors.
 * @return bytes of the answer, which is in `reply` then. 0: the request is no message (it has under 7
 *         bytes), or `reply` has no room for the shortest answer (11 bytes)
 */
VMM_API size_t vmm_share_serve(struct vmm_share *share, const struct iovec *request,
                               size_t request_count, const struct iovec *reply, size_t reply_count);
/** The client is gone: let go of its files. */
VMM_API void vmm_share_reset(struct vmm_share *share);
/** Files that the client holds. */
VMM_API uint32_t vmm_share_fids(const struct vmm_share *share);

/** The client's state, into the node that is open: its files by name. */
VMM_API int vmm_share_save(struct vmm_share *share, struct vmm_state_writer *w);
/** Files that are not there any more are stale for the client (ESTALE), as are those that were without
 *  a name when saved. On error the share is as before. */
VMM_API int vmm_share_load(struct vmm_share *share, struct vmm_state_reader *r,
                           struct vmm_error *err);

VMM_END_DECLS

#endif
