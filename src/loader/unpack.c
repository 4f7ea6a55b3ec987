/* SPDX-License-Identifier: BSD-3-Clause */
/* The compressed kernels inside bzImages. Linux, scripts/Makefile.lib: what is appended to each. */
#include "loader/unpack.h"

#include "base/soft.h"
#include "base/util.h"
#include "config.h"

#include <libvmm/loader.h>

#include <stdlib.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LZMA
#include <lzma.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

/* One payload: `in` has no trailing size any more, `out` is exactly of the claimed size. A decoder
 * fills all of `out` from a part of `in`, or returns the text of what is wrong. */
struct payload {
    const uint8_t *in;
    size_t in_length;
    uint8_t *out;
    size_t out_length;
};

#if defined(HAVE_ZLIB) || defined(HAVE_LZMA)
static const char *const too_short = "the data unpack to another size than the payload's end says";
#endif

#ifdef HAVE_ZLIB
static const char *unpack_gzip(const struct payload *p)
{
    z_stream z;
    memset(&z, 0, sizeof(z));
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return "zlib cannot start";
    /* zlib's own types; the sizes are bounded by VMM_UNPACK_MAX. */
    z.next_in = (Bytef *)(uintptr_t)p->in;
    z.avail_in = (uInt)p->in_length;
    z.next_out = p->out;
    z.avail_out = (uInt)p->out_length;
    int rc = inflate(&z, Z_FINISH);
    bool full = z.avail_out == 0;
    inflateEnd(&z);
    if (rc != Z_STREAM_END && !(rc == Z_BUF_ERROR && full))
        return "the gzip data are damaged";
    return rc == Z_STREAM_END && full ? NULL : too_short;
}
#endif

#ifdef HAVE_LZMA
static const char *unpack_xz(const struct payload *p)
{
    lzma_stream s = LZMA_STREAM_INIT;
    __typeof__(&lzma_stream_decoder) decoder;
    __typeof__(&lzma_code) code;
    __typeof__(&lzma_end) end;
    const struct vmm_soft_symbol symbols[] = {
        {"lzma_stream_decoder", (void **)(void *)&decoder},
        {"lzma_code", (void **)(void *)&code},
        {"lzma_end", (void **)(void *)&end},
    };
    if (vmm_soft_load("liblzma.so.5", "liblzma5", symbols, VMM_ARRAY_SIZE(symbols), NULL))
        return "liblzma.so.5 cannot be loaded: install it (Debian: liblzma5)";
    /* Kernels use dictionaries of up to 128 MiB. */
    if (decoder(&s, 256u << 20, 0) != LZMA_OK)
        return "liblzma cannot start";
    s.next_in = p->in;
    s.avail_in = p->in_length;
    s.next_out = p->out;
    s.avail_out = p->out_length;
    lzma_ret rc = code(&s, LZMA_FINISH);
    /* With the output full, the end of the stream may need another call. */
    if (rc == LZMA_OK && s.avail_out == 0)
        rc = code(&s, LZMA_FINISH);
    bool full = s.avail_out == 0;
    end(&s);
    if (rc == LZMA_MEMLIMIT_ERROR)
        return "the xz data want a dictionary of more than 256 MiB";
    if (rc == LZMA_STREAM_END)
        return full ? NULL : too_short;
    return rc == LZMA_OK || (rc == LZMA_BUF_ERROR && full) ? too_short : "the xz data are damaged";
}
#endif

#ifdef HAVE_LZ4
/* The legacy frame (lz4 -l): a magic number, then blocks, each with its packed size in front and of
 * at most 8 MiB unpacked. lz4_Frame_format.md, "Legacy frame". */
#define LZ4_BLOCK_MAX ((size_t)8 << 20)
static const char *unpack_lz4(const struct payload *p)
{
    size_t in = 4, out = 0;
    __typeof__(&LZ4_decompress_safe) decompress;
    const struct vmm_soft_symbol symbol = {"LZ4_decompress_safe", (void **)(void *)&decompress};
    if (vmm_soft_load("liblz4.so.1", "liblz4-1", &symbol, 1, NULL))
        return "liblz4.so.1 cannot be loaded: install it (Debian: liblz4-1)";
    while (out < p->out_length) {
        if (p->in_length - in < 4)
            return "the lz4 data end too early";
        size_t packed = vmm_load_le32(p->in + in);
        in += 4;
        if (packed == 0x184c2102u) /* concatenated frames */
            continue;
        if (packed == 0 || packed > p->in_length - in)
            return "an lz4 block's size is beyond the payload";
        size_t room = p->out_length - out < LZ4_BLOCK_MAX ? p->out_length - out : LZ4_BLOCK_MAX;
        int n = decompress((const char *)p->in + in, (char *)p->out + out, (int)packed, (int)room);
        if (n <= 0)
            return "an lz4 block is damaged, or unpacks to more than the payload's end says";
        in += packed;
        out += (size_t)n;
    }
    return in == p->in_length ? NULL : "lz4 data follow after the size at the payload's end";
}
#endif

#ifdef HAVE_ZSTD
static const char *unpack_zstd(const struct payload *p)
{
    size_t frame = ZSTD_findFrameCompressedSize(p->in, p->in_length);
    if (ZSTD_isError(frame))
        return "the zstd frame is damaged or truncated";
    size_t n = ZSTD_decompress(p->out, p->out_length, p->in, frame);
    if (ZSTD_isError(n))
        return "the zstd data are damaged, or unpack to more than the payload's end says";
    return n == p->out_length ? NULL : "the data unpack to less than the payload's end says";
}
#endif

struct format {
    const char *name;
    uint8_t magic[6];
    uint8_t magic_length;
    bool size_is_inside; /* gzip ends in its size by itself: it belongs to the data */
    const char *(*unpack)(const struct payload *p);
    const char *library; /* NULL: the library cannot do it at all */
};

#ifndef HAVE_ZLIB
#define unpack_gzip NULL
#endif
#ifndef HAVE_LZMA
#define unpack_xz NULL
#endif
#ifndef HAVE_LZ4
#define unpack_lz4 NULL
#endif
#ifndef HAVE_ZSTD
#define unpack_zstd NULL
#endif

static const struct format formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, true, unpack_gzip, "zlib"},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, false, unpack_xz, "liblzma"},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, false, unpack_lz4, "liblz4"},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, false, unpack_zstd, "libzstd"},
    {"bzip2", {'B', 'Z', 'h'}, 3, false, NULL, NULL},
    {"lzma", {0x5d, 0, 0}, 3, false, NULL, NULL},
    {"lzo", {0x89, 'L', 'Z', 'O', 0}, 5, false, NULL, NULL},
};

bool vmm_kernel_can_unpack(const char *compression)
{
    for (size_t i = 0; compression && i < VMM_ARRAY_SIZE(formats); i++)
        if (strcmp(formats[i].name, compression) == 0)
            return formats[i].unpack != NULL;
    return false;
}

static const struct format *find_format(const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(formats); i++)
        if (length >= formats[i].magic_length &&
            memcmp(data, formats[i].magic, formats[i].magic_length) == 0)
            return &formats[i];
    return NULL;
}

static int find_unpacker(const uint8_t *data, size_t length, const struct format **out,
                         struct vmm_error *err)
{
    const struct format *f = find_format(data, length);
    if (!f)
        return vmm_error_set(err, -ENOTSUP,
                             "payload: begins with no compression's magic that is known (gzip, xz, "
                             "lz4, zstd); boot without unpacking");
    if (!f->unpack && f->library)
        return vmm_error_set(err, -ENOTSUP,
                             "payload: %s-compressed, and this libvmm was built without %s; boot "
                             "without unpacking",
                             f->name, f->library);
    if (!f->unpack)
        return vmm_error_set(err, -ENOTSUP,
                             "payload: %s-compressed, which libvmm does not unpack; boot without "
                             "unpacking",
                             f->name);
    *out = f;
    return 0;
}

int vmm_unpack(const uint8_t *data, size_t length, uint8_t **out, size_t *out_length,
               struct vmm_error *err)
{
    const struct format *f = NULL;
    int rc = find_unpacker(data, length, &f, err);
    if (rc)
        return rc;
    if (length < 16 || length > VMM_UNPACK_MAX)
        return vmm_error_set(err, -ENOEXEC, "payload: %zu bytes, not 16 to %u", length,
                             VMM_UNPACK_MAX);
    struct payload p = {data, f->size_is_inside ? length : length - 4, NULL,
                        vmm_load_le32(data + length - 4)};
    if (p.out_length == 0 || p.out_length > VMM_UNPACK_MAX ||
        p.out_length / VMM_UNPACK_RATIO > length)
        return vmm_error_set(err, -ENOEXEC,
                             "payload: its last four bytes say that %zu bytes unpack to %zu, not 1 "
                             "to %u or more than %u times as many",
                             length, p.out_length, VMM_UNPACK_MAX, VMM_UNPACK_RATIO);
    p.out = malloc(p.out_length);
    if (!p.out)
        return vmm_error_set(err, -ENOMEM, "payload: no memory for %zu bytes", p.out_length);
    const char *wrong = f->unpack(&p);
    if (wrong) {
        free(p.out);
        return vmm_error_set(err, -ENOEXEC, "payload (%s): %s", f->name, wrong);
    }
    *out = p.out;
    *out_length = p.out_length;
    return 0;
}
