/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vnc.h
 * A VNC server: others see a display and type at it (RFB protocol 3.3 to 3.8, RFC 6143).
 *
 * A library's own, small: libvncserver's licence would become that of every program that links libvmm, and
 * neatvnc brings an event loop of its own. Encodings: raw, hextile and (with zlib) zlib; any true-colour
 * pixel format; keys by symbol or, with QEMU's extension, by scan code; absolute pointers; WebSocket, so
 * that noVNC in a browser connects. Passwords need libnettle (DES is part of the protocol, and weak: it
 * keeps out passers-by; listen on a local address or a unix socket).
 *
 * Everything runs on the loop's thread. A client that asks for nothing, or does not read, costs nothing.
 */
#ifndef LIBVMM_VNC_H
#define LIBVMM_VNC_H

#include <libvmm/display.h>
#include <libvmm/seat.h>

VMM_BEGIN_DECLS

struct vmm_vnc;

struct vmm_vnc_options {
    size_t size;
    struct vmm_loop *loop;       /**< held */
    struct vmm_display *display; /**< held */
    struct vmm_seat *input;      /**< held; NULL: nobody types */
    /** "ADDRESS:PORT", "[ADDRESS]:PORT" (numeric; port 0: any) or "unix:PATH" (made with mode 0600). */
    const char *address;
    const char *password; /**< up to 8 characters count; NULL: none is asked for */
    const char *name;     /**< of the desktop; NULL: "libvmm" */
    uint32_t websocket;   /**< non-zero: clients speak RFB in WebSocket frames (RFC 6455) */
    uint32_t clients_max; /**< 0: 8 */
    uint32_t interval_ms; /**< between two updates; 0: 33 */
    uint32_t reserved;
};
#define VMM_VNC_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct vmm_vnc_options)                                                     \
    }

/** -ENOTSUP: a password or WebSocket, and the library was built without libnettle; -EINVAL: the text says
 *  what; what the host said when binding. */
VMM_API int vmm_vnc_new(const struct vmm_vnc_options *options, struct vmm_vnc **out,
                        struct vmm_error *err);
/** Close all connections. On the loop's thread, or while nobody dispatches it. NULL is fine. */
VMM_API struct vmm_vnc *vmm_vnc_free(struct vmm_vnc *vnc);
/** The TCP port it listens on; 0: a unix socket. */
VMM_API uint32_t vmm_vnc_port(const struct vmm_vnc *vnc);
/** How many clients there are. On the loop's thread. */
VMM_API uint32_t vmm_vnc_clients(const struct vmm_vnc *vnc);

VMM_END_DECLS

#endif
