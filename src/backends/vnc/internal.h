/* SPDX-License-Identifier: BSD-3-Clause */
/* The VNC server from the inside. All of it runs on the loop's thread. */
#ifndef BACKENDS_VNC_INTERNAL_H
#define BACKENDS_VNC_INTERNAL_H

#include "base/util.h"

#include "config.h"

#include <libvmm/vnc.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#define VNC_CLIENTS 64u
#define VNC_INPUT   4096u /* larger than any message but cut text, which is skipped */

/* Encodings and pseudo-encodings. */
#define RFB_RAW      0
#define RFB_HEXTILE  5
#define RFB_ZLIB     6
#define RFB_RESIZE   (-223)
#define RFB_QEMU_KEY (-258)

/* Bytes on their way out. */
struct vnc_buffer {
    uint8_t *data;
    size_t length, room;
    bool failed; /* no memory: the client is dropped */
};
void vnc_put(struct vnc_buffer *b, const void *data, size_t length);
void vnc_put8(struct vnc_buffer *b, uint32_t value);
void vnc_put16(struct vnc_buffer *b, uint32_t value);
void vnc_put32(struct vnc_buffer *b, uint32_t value);

struct vnc_format {
    uint32_t bytes; /* a pixel */
    bool big_endian;
    uint32_t max[3], shift[3]; /* red, green, blue */
};

enum vnc_state {
    VNC_HANDSHAKE, /* of WebSocket */
    VNC_VERSION,
    VNC_SECURITY,
    VNC_PASSWORD,
    VNC_INIT,
    VNC_NORMAL,
    VNC_CLOSING, /* when all has been sent */
};

struct vnc_client {
    struct vmm_vnc *vnc;
    int fd;
    struct vmm_source *source;
    struct vmm_watcher *watcher;
    enum vnc_state state;
    uint32_t minor; /* 3, 7 or 8 */
    uint8_t challenge[16];
    uint8_t in[VNC_INPUT]; /* RFB messages */
    size_t in_length;
    uint64_t skip; /* bytes of a message that nobody reads */
    /* WebSocket */
    uint8_t raw[VNC_INPUT];
    size_t raw_length;
    uint64_t frame_left;
    uint32_t frame_mask_at;
    uint8_t frame_mask[4], frame_opcode;
    /* What it wants */
    struct vnc_format format;
    int32_t encoding;
    bool can_resize, qemu_keys, qemu_keys_told;
    bool requested, full;
    uint32_t width, height; /* as it knows them */
    uint32_t buttons;
    struct vnc_buffer message; /* RFB that is being put together */
    struct vnc_buffer out;     /* as it goes over the wire */
    size_t out_sent;
#ifdef HAVE_ZLIB
    z_stream zlib;
    bool zlib_ready;
#endif
};

struct vmm_vnc {
    struct vmm_loop *loop;
    struct vmm_display *display;
    struct vmm_seat *input;
    char password[9];
    char name[64];
    char path[108];
    bool has_password, websocket;
    uint32_t interval, clients_max, count;
    int fd;
    struct vmm_source *source;
    struct vnc_client *clients[VNC_CLIENTS];
};

/* Messages. Return how many bytes they took, 0: more are needed, negative: drop the client. */
long vnc_message(struct vnc_client *c, const uint8_t *data, size_t length);
void vnc_greet(struct vnc_client *c);
/* Send what has been put into the message. */
void vnc_send(struct vnc_client *c);
/* An update if the client has asked for one and there is something. */
void vnc_update(struct vnc_client *c);

/* One rectangle in the client's encoding. */
void vnc_encode(struct vnc_client *c, const struct vmm_surface *s, const struct vmm_rect *rect);
void vnc_encode_end(struct vnc_client *c);

/* Take bytes off the wire: -1 drops the client. */
int vnc_websocket_receive(struct vnc_client *c);
void vnc_websocket_frame(struct vnc_client *c, uint32_t opcode, const void *data, size_t length);
/* RFB bytes have come. */
int vnc_receive(struct vnc_client *c, const uint8_t *data, size_t length);
/* DES, with the password as its key. */
int vnc_encrypt(const char password[9], const uint8_t challenge[16], uint8_t answer[16]);
bool vnc_has_crypto(void);

#endif
