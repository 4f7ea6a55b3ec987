/* SPDX-License-Identifier: BSD-3-Clause */
/* WebSocket (RFC 6455), and what needs a library of cryptography. */
#include "backends/vnc/internal.h"

#include <stdio.h>
#include <strings.h>

#ifdef HAVE_NETTLE
#include <nettle/base64.h>
#include <nettle/des.h>
#include <nettle/sha1.h>
#endif

#define OPCODE_BINARY 2u
#define OPCODE_CLOSE  8u
#define OPCODE_PING   9u
#define OPCODE_PONG   10u

bool vnc_has_crypto(void)
{
#ifdef HAVE_NETTLE
    return true;
#else
    return false;
#endif
}

/* RFC 6143 §7.2.2: the key's bits are taken in the other order. */
int vnc_encrypt(const char password[9], const uint8_t from[16], uint8_t to[16])
{
#ifdef HAVE_NETTLE
    struct des_ctx des;
    uint8_t key[8];
    for (uint32_t i = 0; i < 8; i++) {
        key[i] = 0;
        for (uint32_t bit = 0; bit < 8; bit++)
            key[i] = (uint8_t)(key[i] | ((uint8_t)password[i] >> bit & 1) << (7 - bit));
    }
    (void)des_set_key(&des, key); /* weak keys are taken too */
    des_encrypt(&des, 16, to, from);
    return 0;
#else
    (void)password;
    (void)from;
    (void)to;
    return -ENOTSUP;
#endif
}

/* Handshake (§4.2) ----------------------------------------------------------------------------- */

static bool header(const char *request, const char *name, char *to, size_t room)
{
    size_t n = strlen(name);
    for (const char *line = strstr(request, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        line += n + 1 + strspn(line + n + 1, " \t");
        size_t length = strcspn(line, "\r");
        if (length >= room)
            return false;
        memcpy(to, line, length);
        to[length] = '\0';
        return true;
    }
    return false;
}

static void accept_key(const char *key, char to[32])
{
#ifdef HAVE_NETTLE
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct sha1_ctx sha;
    uint8_t digest[SHA1_DIGEST_SIZE];
    sha1_init(&sha);
    sha1_update(&sha, strlen(key), (const uint8_t *)key);
    sha1_update(&sha, sizeof(guid) - 1, (const uint8_t *)guid);
    sha1_digest(&sha, sizeof(digest), digest);
    base64_encode_raw(to, sizeof(digest), digest);
    to[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE)] = '\0';
#else
    (void)key;
    to[0] = '\0';
#endif
}

/* Returns the request's length, 0: more is needed, -1: it is none. */
static long handshake(struct vnc_client *c)
{
    char request[VNC_INPUT + 1], key[64], protocols[128], answer[512], accepted[32];
    memcpy(request, c->raw, c->raw_length);
    request[c->raw_length] = '\0';
    const char *end = strstr(request, "\r\n\r\n");
    if (!end)
        return c->raw_length == VNC_INPUT ||
                       strncmp(request, "GET ", c->raw_length < 4 ? c->raw_length : 4) != 0
                   ? -1
                   : 0;
    if (strncmp(request, "GET ", 4) != 0 || !header(request, "Sec-WebSocket-Key", key, sizeof(key)))
        return -1;
    accept_key(key, accepted);
    bool binary = header(request, "Sec-WebSocket-Protocol", protocols, sizeof(protocols)) &&
                  strstr(protocols, "binary");
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
                     accepted, binary ? "Sec-WebSocket-Protocol: binary\r\n" : "");
    vnc_put(&c->out, answer, (size_t)n);
    vnc_greet(c);
    return end + 4 - request;
}

/* Frames (§5.2) -------------------------------------------------------------------------------- */

void vnc_websocket_frame(struct vnc_client *c, uint32_t opcode, const void *data, size_t length)
{
    vnc_put8(&c->out, 0x80 | opcode);
    if (length < 126) {
        vnc_put8(&c->out, (uint32_t)length);
    } else if (length < 65536) {
        vnc_put8(&c->out, 126);
        vnc_put16(&c->out, (uint32_t)length);
    } else {
        vnc_put8(&c->out, 127);
        vnc_put32(&c->out, (uint32_t)((uint64_t)length >> 32));
        vnc_put32(&c->out, (uint32_t)length);
    }
    vnc_put(&c->out, data, length);
}

/* A frame's head: how long it is, 0: more is needed, -1: against the rules (clients must mask). */
static long frame_head(struct vnc_client *c, const uint8_t *p, size_t length)
{
    if (length < 2)
        return 0;
    uint32_t head = 2 + ((p[1] & 127) == 126 ? 2 : (p[1] & 127) == 127 ? 8 : 0) + 4;
    if (!(p[1] & 0x80))
        return -1;
    if (length < head)
        return 0;
    uint64_t n = p[1] & 127;
    if (head > 6) {
        n = 0;
        for (uint32_t i = 2; i < head - 4; i++)
            n = n << 8 | p[i];
    }
    c->frame_opcode = p[0] & 15;
    if (n > 1u << 24 || (c->frame_opcode >= 8 && n > 125))
        return -1;
    c->frame_left = n;
    c->frame_mask_at = 0;
    memcpy(c->frame_mask, p + head - 4, 4);
    if (n == 0 && c->frame_opcode == OPCODE_CLOSE) /* nothing follows that would end it */
        return -1;
    if (n == 0 && c->frame_opcode == OPCODE_PING)
        vnc_websocket_frame(c, OPCODE_PONG, p, 0);
    return (long)head;
}

/* Control frames are taken whole, data as it comes. */
static long frame_body(struct vnc_client *c, uint8_t *p, size_t length)
{
    size_t n = length < c->frame_left ? length : (size_t)c->frame_left;
    if (c->frame_opcode >= 8 && n < c->frame_left)
        return 0;
    for (size_t i = 0; i < n; i++)
        p[i] ^= c->frame_mask[c->frame_mask_at++ & 3];
    c->frame_left -= n;
    if (c->frame_opcode == OPCODE_CLOSE)
        return -1;
    if (c->frame_opcode == OPCODE_PING)
        vnc_websocket_frame(c, OPCODE_PONG, p, n);
    else if (c->frame_opcode <= OPCODE_BINARY && vnc_receive(c, p, n))
        return -1;
    return (long)n;
}

int vnc_websocket_receive(struct vnc_client *c)
{
    size_t at = 0;
    while (at < c->raw_length) {
        long n;
        if (c->state == VNC_HANDSHAKE)
            n = handshake(c);
        else if (c->frame_left)
            n = frame_body(c, c->raw + at, c->raw_length - at);
        else
            n = frame_head(c, c->raw + at, c->raw_length - at);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        at += (size_t)n;
    }
    c->raw_length -= at;
    memmove(c->raw, c->raw + at, c->raw_length);
    return 0;
}
