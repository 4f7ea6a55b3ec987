/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw images, the work of one request: what both engines know about it, and the blocking way. */
#include "backends/block/raw.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#define ZEROES 65536u

static const uint8_t zeroes[ZEROES];

struct vmm_raw_rest vmm_raw_rest(const struct vmm_block_request *r, uint64_t done,
                                 struct iovec *piece)
{
    size_t index = 0;
    while (index < r->vector_count && done >= r->vector[index].iov_len)
        done -= r->vector[index++].iov_len;
    if (done) {
        const struct iovec *cut = &r->vector[index];
        *piece = (struct iovec){(uint8_t *)cut->iov_base + done, cut->iov_len - (size_t)done};
        return (struct vmm_raw_rest){piece, 1};
    }
    size_t count = r->vector_count - index;
    return (struct vmm_raw_rest){&r->vector[index],
                                 count < VMM_RAW_VECTOR_MAX ? (uint32_t)count : VMM_RAW_VECTOR_MAX};
}

int vmm_raw_fd_for(const struct vmm_raw *raw, const struct vmm_block_request *r)
{
    if (raw->cached_fd < 0)
        return raw->fd;
    if (r->op > VMM_BLOCK_WRITE) /* zeroes are perhaps written by small pieces */
        return raw->cached_fd;
    uint64_t bits = (r->offset | r->length) & (raw->offset_align - 1);
    for (size_t i = 0; i < r->vector_count && !bits; i++)
        bits = ((uintptr_t)r->vector[i].iov_base & (raw->memory_align - 1)) |
               (r->vector[i].iov_len & (raw->offset_align - 1));
    return bits ? raw->cached_fd : raw->fd;
}

int vmm_raw_fallocate_mode(const struct vmm_block_request *r)
{
    bool hole = r->op == VMM_BLOCK_DISCARD || (r->flags & VMM_BLOCK_MAY_UNMAP);
    return FALLOC_FL_KEEP_SIZE | (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

bool vmm_raw_cannot_fallocate(int result)
{
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -ENODEV;
}

struct iovec vmm_raw_zeroes(uint64_t length)
{
    return (struct iovec){(void *)(uintptr_t)zeroes, length < ZEROES ? (size_t)length : ZEROES};
}

/* The fsync lesson: after a failure the kernel forgets which pages were dirty, so nothing that was
 * written can be promised any more. A write that found no room has not come so far. */
void vmm_raw_note_failure(struct vmm_raw *raw, const struct vmm_block_request *r, int result)
{
    bool durable = r->op == VMM_BLOCK_FLUSH ||
                   ((r->flags & VMM_BLOCK_FUA) && result != -ENOSPC && result != -EDQUOT);
    if (result < 0 && durable && r->op != VMM_BLOCK_READ)
        raw->flush_failed = true;
}

static ssize_t transfer_some(const struct vmm_raw *raw, const struct vmm_block_request *r,
                             uint64_t done)
{
    struct iovec piece;
    struct vmm_raw_rest rest = vmm_raw_rest(r, done, &piece);
    off_t offset = (off_t)(r->offset + done);
    /* A transfer cut short may go on where direct I/O cannot. */
    int fd = done && raw->cached_fd >= 0 ? raw->cached_fd : vmm_raw_fd_for(raw, r);
    if (r->op == VMM_BLOCK_READ)
        return preadv(fd, rest.vector, (int)rest.count, offset);
    bool durable = (r->flags & VMM_BLOCK_FUA) && !raw->unsafe;
    return pwritev2(fd, rest.vector, (int)rest.count, offset, durable ? RWF_DSYNC : 0);
}

static int transfer(const struct vmm_raw *raw, const struct vmm_block_request *r)
{
    uint64_t done = 0;
    while (done < r->length) {
        ssize_t n = transfer_some(raw, r, done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* the file is shorter than it was */
        done += (uint64_t)n;
    }
    return 0;
}

static int flush(const struct vmm_raw *raw)
{
    int rc;
    if (raw->read_only || raw->unsafe)
        return 0;
    if (raw->flush_failed)
        return -EIO;
    do
        rc = fdatasync(raw->fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int fallocate_range(const struct vmm_raw *raw, const struct vmm_block_request *r)
{
    int rc;
    do
        rc = fallocate(raw->fd, vmm_raw_fallocate_mode(r), (off_t)r->offset, (off_t)r->length);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int write_zero_bytes(const struct vmm_raw *raw, const struct vmm_block_request *r)
{
    uint64_t done = 0;
    while (done < r->length) {
        struct iovec v = vmm_raw_zeroes(r->length - done);
        ssize_t n =
            pwrite(vmm_raw_fd_for(raw, r), v.iov_base, v.iov_len, (off_t)(r->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (uint64_t)n;
    }
    return 0;
}

static int clear(const struct vmm_raw *raw, const struct vmm_block_request *r)
{
    int rc = fallocate_range(raw, r);
    if (!vmm_raw_cannot_fallocate(rc))
        return rc;
    return r->op == VMM_BLOCK_DISCARD ? 0 /* a hint */ : write_zero_bytes(raw, r);
}

int vmm_raw_carry_out(struct vmm_raw *raw, const struct vmm_block_request *r)
{
    int rc;
    if (r->op <= VMM_BLOCK_WRITE) {
        rc = transfer(raw, r);
    } else if (r->op == VMM_BLOCK_FLUSH) {
        rc = flush(raw);
    } else {
        rc = clear(raw, r);
        if (!rc && (r->flags & VMM_BLOCK_FUA))
            rc = flush(raw);
    }
    vmm_raw_note_failure(raw, r, rc);
    return rc;
}
