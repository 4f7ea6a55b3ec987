/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vsock.h
 * Sockets between guest and host (VIRTIO 1.2 §5.10), with unix sockets at the host's end and the protocol
 * that Firecracker's users know:
 *
 * - A program on the host connects to PATH and writes "CONNECT port\n". When somebody in the guest
 *   listens at that port, it reads "OK number\n", and the stream begins; else the socket is closed.
 * - When a program in the guest connects to port P of the host (CID 2), the device connects to the unix
 *   socket PATH_P, where a program on the host listens; if none does, the guest's connection is refused.
 */
#ifndef LIBVMM_VSOCK_H
#define LIBVMM_VSOCK_H

#include <libvmm/virtio.h>

VMM_BEGIN_DECLS

struct vmm_virtio_vsock_options {
    size_t size;
    uint64_t cid;     /**< the guest's address: 3 to 0xfffffffe */
    const char *path; /**< made with mode 0600, removed when the device goes; at most 96 bytes */
    uint32_t
        connections; /**< at the same time, at most 65536; each takes two descriptors. 0: 256 */
    uint32_t buffer; /**< bytes that the guest may be ahead of a reader on the host, a connection;
                               4096 to 16 MiB; 0: 256 KiB */
};
#define VMM_VIRTIO_VSOCK_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_virtio_vsock_options), 0, 0, 0, 0                                        \
    }

/** Streams only. Connections do not outlive a reset; after a load of saved state the driver is told that
 *  all are gone. -EINVAL: options out of range; -ENAMETOOLONG; -EADDRINUSE: the path exists. */
VMM_API int vmm_virtio_vsock_new(const struct vmm_virtio_place *place,
                                 const struct vmm_virtio_vsock_options *options,
                                 struct vmm_virtio **out, struct vmm_error *err);

VMM_END_DECLS

#endif
