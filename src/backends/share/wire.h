/* SPDX-License-Identifier: BSD-3-Clause */
/* 9P's messages in bytes: little-endian numbers, and strings with a length of 16 bits. */
#ifndef BACKENDS_SHARE_WIRE_H
#define BACKENDS_SHARE_WIRE_H

#include "base/util.h"

struct p9_in {
    const uint8_t *at;
    size_t left;
    bool bad; /* something was missing */
};

struct p9_out {
    uint8_t *data;
    size_t used, room;
    bool full; /* something had no room */
};

struct p9_string {
    const char *text; /* not terminated; any bytes */
    size_t length;
};

static inline const uint8_t *p9_take(struct p9_in *in, size_t length)
{
    static const uint8_t nothing[8];
    if (in->left < length) {
        in->bad = true;
        in->left = 0;
        return nothing;
    }
    const uint8_t *at = in->at;
    in->at += length;
    in->left -= length;
    return at;
}

static inline uint8_t p9_u8(struct p9_in *in)
{
    return *p9_take(in, 1);
}
static inline uint16_t p9_u16(struct p9_in *in)
{
    return vmm_load_le16(p9_take(in, 2));
}
static inline uint32_t p9_u32(struct p9_in *in)
{
    return vmm_load_le32(p9_take(in, 4));
}
static inline uint64_t p9_u64(struct p9_in *in)
{
    return vmm_load_le64(p9_take(in, 8));
}
static inline struct p9_string p9_string(struct p9_in *in)
{
    size_t length = p9_u16(in);
    if (length > in->left) {
        in->bad = true;
        length = in->left;
    }
    return (struct p9_string){(const char *)p9_take(in, length), length};
}

static inline uint8_t *p9_room(struct p9_out *out, size_t length)
{
    if (out->room - out->used < length) {
        out->full = true;
        return NULL;
    }
    uint8_t *at = out->data + out->used;
    out->used += length;
    return at;
}

static inline void p9_put_bytes(struct p9_out *out, const void *data, size_t length)
{
    uint8_t *at = p9_room(out, length);
    if (at && length)
        memcpy(at, data, length);
}
static inline void p9_put_u8(struct p9_out *out, uint8_t value)
{
    p9_put_bytes(out, &value, 1);
}
static inline void p9_put_u16(struct p9_out *out, uint16_t value)
{
    uint8_t *at = p9_room(out, 2);
    if (at)
        vmm_store_le16(at, value);
}
static inline void p9_put_u32(struct p9_out *out, uint32_t value)
{
    uint8_t *at = p9_room(out, 4);
    if (at)
        vmm_store_le32(at, value);
}
static inline void p9_put_u64(struct p9_out *out, uint64_t value)
{
    uint8_t *at = p9_room(out, 8);
    if (at)
        vmm_store_le64(at, value);
}
static inline void p9_put_string(struct p9_out *out, const char *text, size_t length)
{
    if (length > UINT16_MAX) {
        out->full = true;
        return;
    }
    p9_put_u16(out, (uint16_t)length);
    p9_put_bytes(out, text, length);
}

#endif
