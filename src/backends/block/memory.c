/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk in memory, by chunks that are there only when something has been written to them. */
#include "backends/block/block-driver.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define CHUNK 65536u

struct memory {
    struct vmm_block *block;
    uint64_t length, chunk_count, taken;
    uint32_t block_size;
    bool read_only;
    uint8_t **chunks; /* NULL: zeroes */
};

/* A part of a request that lies in one chunk. */
struct part {
    uint8_t **chunk;
    size_t at, length;
};

static struct part part_at(const struct memory *m, uint64_t offset, uint64_t length)
{
    struct part p = {.chunk = &m->chunks[offset / CHUNK], .at = (size_t)(offset % CHUNK)};
    p.length = length < CHUNK - p.at ? (size_t)length : CHUNK - p.at;
    return p;
}

static int read_part(struct part p, uint8_t *data)
{
    if (*p.chunk)
        memcpy(data, *p.chunk + p.at, p.length);
    else
        memset(data, 0, p.length);
    return 0;
}

static int write_part(struct memory *m, struct part p, const uint8_t *data)
{
    if (!*p.chunk) {
        *p.chunk = calloc(1, CHUNK);
        if (!*p.chunk)
            return -ENOSPC;
        m->taken += CHUNK;
    }
    memcpy(*p.chunk + p.at, data, p.length);
    return 0;
}

static int transfer(struct memory *m, const struct vmm_block_request *r)
{
    uint64_t offset = r->offset;
    for (size_t i = 0; i < r->vector_count; i++) {
        uint8_t *data = r->vector[i].iov_base;
        size_t left = r->vector[i].iov_len;
        while (left) {
            struct part p = part_at(m, offset, left);
            int rc = r->op == VMM_BLOCK_READ ? read_part(p, data) : write_part(m, p, data);
            if (rc)
                return rc;
            data += p.length;
            left -= p.length;
            offset += p.length;
        }
    }
    return 0;
}

static void clear(struct memory *m, uint64_t offset, uint64_t length)
{
    while (length) {
        struct part p = part_at(m, offset, length);
        if (*p.chunk && p.length == CHUNK) {
            free(*p.chunk);
            *p.chunk = NULL;
            m->taken -= CHUNK;
        } else if (*p.chunk) {
            memset(*p.chunk + p.at, 0, p.length);
        }
        offset += p.length;
        length -= p.length;
    }
}

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct memory *m = ctx;
    int rc = 0;
    if (r->op <= VMM_BLOCK_WRITE)
        rc = transfer(m, r);
    else if (r->op != VMM_BLOCK_FLUSH)
        clear(m, r->offset, r->length);
    vmm_block_complete(m->block, r, rc);
}

static int info(void *ctx, struct vmm_block_info *out)
{
    const struct memory *m = ctx;
    out->length = m->length;
    out->allocated = m->taken;
    out->block_size = m->block_size;
    out->optimal_size = CHUNK;
    out->discard_alignment = m->block_size;
    out->read_only = m->read_only;
    out->zero_is_cheap = 1;
    memcpy(out->format, "memory", 7);
    return 0;
}

static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    const struct memory *m = ctx;
    struct part p = part_at(m, offset, length);
    bool data = *p.chunk != NULL;
    uint64_t same = 0;
    do {
        same += p.length;
        if (same == length)
            break;
        p = part_at(m, offset + same, length - same);
    } while ((*p.chunk != NULL) == data);
    out->length = same;
    out->state = data ? VMM_BLOCK_DATA : VMM_BLOCK_ZERO;
    return 0;
}

static int resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct memory *m = ctx;
    uint64_t count = (length + CHUNK - 1) / CHUNK;
    uint8_t **chunks = m->chunks;
    if (length < m->length)
        clear(m, length, m->chunk_count * CHUNK - length); /* whole chunks are freed */
    else
        chunks = reallocarray(m->chunks, count, sizeof(*chunks));
    if (!chunks)
        return vmm_error_set(err, -ENOMEM, "out of memory for %llu bytes",
                             (unsigned long long)length);
    for (uint64_t i = m->chunk_count; i < count; i++)
        chunks[i] = NULL;
    m->chunks = chunks;
    m->chunk_count = count;
    m->length = length;
    return 0;
}

static void destroy(void *ctx)
{
    struct memory *m = ctx;
    for (uint64_t i = 0; i < m->chunk_count; i++)
        free(m->chunks[i]);
    free(m->chunks);
    free(m);
}

int vmm_block_memory_new(struct vmm_loop *loop, const struct vmm_block_memory_options *given,
                         struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = submit,
        .info = info,
        .extent = extent,
        .resize = resize,
        .destroy = destroy,
    };
    struct vmm_block_memory_options o;
    if (!loop || !out || !given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "memory disk: bad options");
    o.block_size = o.block_size ? o.block_size : 512;
    if ((o.block_size != 512 && o.block_size != 4096) || o.length == 0 || o.length % o.block_size ||
        o.length > INT64_MAX)
        return vmm_error_set(err, -EINVAL, "memory disk: %llu bytes in blocks of %u",
                             (unsigned long long)o.length, o.block_size);
    struct memory *m = calloc(1, sizeof(*m));
    if (!m)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    m->block_size = o.block_size;
    m->read_only = o.read_only != 0;
    m->length = o.length;
    m->chunk_count = (o.length + CHUNK - 1) / CHUNK;
    m->chunks = calloc(m->chunk_count, sizeof(*m->chunks));
    int rc = m->chunks ? vmm_block_new(loop, &ops, m, &m->block) : -ENOMEM;
    if (rc) {
        m->chunk_count = m->chunks ? m->chunk_count : 0;
        destroy(m);
        return vmm_error_set(err, rc, "memory disk: %s", strerror(-rc));
    }
    *out = m->block;
    return 0;
}
