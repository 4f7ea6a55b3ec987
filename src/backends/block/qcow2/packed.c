/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters ("Compressed Clusters Descriptor"); the last few stay unpacked, since they are
 * read in pieces. */
#include "backends/block/qcow2/qcow2.h"
#include "config.h"

#include <stdlib.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#ifdef HAVE_ZLIB
/* A raw deflate stream; it may go on behind the cluster. */
static int unpack_zlib(uint8_t *to, size_t to_length, const uint8_t *from, size_t length)
{
    z_stream z;
    memset(&z, 0, sizeof(z));
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return -ENOMEM;
    z.next_in = (Bytef *)(uintptr_t)from;
    z.avail_in = (uInt)length;
    z.next_out = to;
    z.avail_out = (uInt)to_length;
    int rc = inflate(&z, Z_FINISH);
    bool full = z.avail_out == 0;
    inflateEnd(&z);
    return full && (rc == Z_STREAM_END || rc == Z_BUF_ERROR || rc == Z_OK) ? 0 : -EIO;
}
#endif

#ifdef HAVE_ZSTD
static int unpack_zstd(uint8_t *to, size_t to_length, const uint8_t *from, size_t length)
{
    size_t frame = ZSTD_findFrameCompressedSize(from, length);
    if (ZSTD_isError(frame))
        return -EIO;
    size_t n = ZSTD_decompress(to, to_length, from, frame);
    return ZSTD_isError(n) || n != to_length ? -EIO : 0;
}
#endif

bool vmm_q2_can_unpack(uint32_t compression)
{
#ifdef HAVE_ZLIB
    if (compression == 0)
        return true;
#endif
#ifdef HAVE_ZSTD
    if (compression == 1)
        return true;
#endif
    (void)compression;
    return false;
}

static int unpack(uint32_t compression, uint8_t *to, size_t to_length, const uint8_t *from,
                  size_t length)
{
#ifdef HAVE_ZLIB
    if (compression == 0)
        return unpack_zlib(to, to_length, from, length);
#endif
#ifdef HAVE_ZSTD
    if (compression == 1)
        return unpack_zstd(to, to_length, from, length);
#endif
    (void)compression, (void)to, (void)to_length, (void)from, (void)length;
    return -ENOTSUP;
}

static int load(struct qcow2 *q, uint64_t word, uint8_t *to)
{
    uint64_t offset, length, start;
    vmm_q2_packed_place(q, word, &offset, &length);
    start = offset & ~(uint64_t)(q->block_size - 1);
    if (offset >= q->file_length)
        return -EIO;
    length = q2_min(length, q->file_length - offset); /* the last sectors may be cut off */
    size_t whole = (size_t)q2_min(vmm_align_up(offset + length, q->block_size), q->file_length) -
                   (size_t)start;
    uint8_t *packed = vmm_q2_buffer(whole);
    if (!packed)
        return -ENOMEM;
    int rc = vmm_q2_read(q, q->file, start, packed, whole);
    if (!rc)
        rc = unpack(q->header.compression, to, (size_t)q->cluster_size, packed + (offset - start),
                    (size_t)length);
    free(packed);
    return rc;
}

int vmm_q2_unpack(struct qcow2 *q, uint64_t word, const uint8_t **data)
{
    size_t oldest = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(q->unpacked); i++)
        if (q->unpacked[i].word == word) {
            q->unpacked[i].used = ++q->unpack_clock;
            *data = q->unpacked[i].data;
            return 0;
        }
    uint8_t *to = malloc((size_t)q->cluster_size);
    int rc = to ? load(q, word, to) : -ENOMEM;
    if (rc) {
        free(to);
        return rc;
    }
    for (size_t i = 1; i < VMM_ARRAY_SIZE(q->unpacked); i++) /* not before the wait in load() */
        if (q->unpacked[i].used < q->unpacked[oldest].used)
            oldest = i;
    free(q->unpacked[oldest].data);
    q->unpacked[oldest].word = word;
    q->unpacked[oldest].used = ++q->unpack_clock;
    q->unpacked[oldest].data = to;
    *data = to;
    return 0;
}

void vmm_q2_unpacked_forget(struct qcow2 *q, uint64_t word)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(q->unpacked); i++)
        if (q->unpacked[i].word == word) {
            free(q->unpacked[i].data);
            q->unpacked[i].data = NULL;
            q->unpacked[i].word = q->unpacked[i].used = 0;
        }
}

void vmm_q2_unpacked_free(struct qcow2 *q)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(q->unpacked); i++)
        vmm_q2_unpacked_forget(q, q->unpacked[i].word);
}
