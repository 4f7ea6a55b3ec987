/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file nbd.h
 * Disks over the network by the NBD protocol (libnbd): what qemu-nbd, nbdkit, qemu-storage-daemon and
 * the stores behind them export. With nbdkit's plug-ins that is also how images of other formats
 * (VMDK, VHDX, VDI) and stores such as Ceph are reached.
 */
#ifndef LIBVMM_NBD_H
#define LIBVMM_NBD_H

#include <libvmm/block.h>

VMM_BEGIN_DECLS

#define VMM_BLOCK_NBD_CONNECTIONS_MAX 16u

struct vmm_block_nbd_options {
    size_t size;
    /** nbd://HOST[:PORT][/EXPORT], nbd+unix:///[EXPORT]?socket=PATH, nbd+vsock://CID[:PORT], and the
     *  same with nbds for TLS (the NBD project's "URI specification"). */
    const char *uri;
    const char
        *tls_certificates; /**< a folder with ca-cert.pem, client-cert.pem, … NULL: the system's */
    const char *tls_psk_file; /**< NULL: certificates */
    /** When the server is lost, requests wait so long for it to come back, and are then sent again; 0:
     *  they fail (-ENOTCONN). */
    uint64_t reconnect_ns;
    uint32_t connections; /**< at most, where the server allows several; 0: 1 */
    uint32_t read_only;   /**< non-zero: never written. It is so too where the server says it */
};
#define VMM_BLOCK_NBD_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_block_nbd_options), 0, 0, 0, 0, 0, 0                                     \
    }

/**
 * Connect, which may block, to a disk on the network. It keeps the length that it has now: a server
 * that comes back with another is not used. A server that is lost and comes back must still have what
 * it has acknowledged, flushed or not.
 *
 * -ENOTSUP: built without libnbd. -ENOTCONN, -ECONNREFUSED, -EINVAL (the URI), what libnbd says else.
 */
VMM_API int vmm_block_nbd_new(struct vmm_loop *loop, const struct vmm_block_nbd_options *options,
                              struct vmm_block **out, struct vmm_error *err);
/** Connections that are up now. -EINVAL: not such a disk. */
VMM_API int vmm_block_nbd_connections(const struct vmm_block *block);

VMM_END_DECLS

#endif
