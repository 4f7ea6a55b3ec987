/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file whose length is not a multiple of 512, for reading: the last block ends in zeroes. Images
 * that qemu-img has made and nobody has written to yet are like that; a raw disk is not. One that is
 * written is made longer instead.
 */
#include "backends/block/qcow2/ragged.h"
#include "backends/block/raw.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct ragged {
    struct vmm_block *block;
    int fd;
    uint64_t length;
};

static int read_into(const struct ragged *r, uint8_t *to, size_t length, uint64_t offset)
{
    while (length) {
        ssize_t n = pread(r->fd, to, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(to, 0, length);
            return 0;
        }
        to += n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static void submit(void *ctx, struct vmm_block_request *request)
{
    struct ragged *r = ctx;
    uint64_t at = request->offset;
    int rc = 0;
    for (size_t i = 0; request->op == VMM_BLOCK_READ && i < request->vector_count && !rc; i++) {
        rc = read_into(r, request->vector[i].iov_base, request->vector[i].iov_len, at);
        at += request->vector[i].iov_len;
    }
    vmm_block_complete(r->block, request, rc);
}

static int info(void *ctx, struct vmm_block_info *out)
{
    const struct ragged *r = ctx;
    out->length = vmm_align_up(r->length, 512);
    out->block_size = 512;
    out->read_only = 1;
    memcpy(out->format, "raw", 4);
    return 0;
}

static void destroy(void *ctx)
{
    struct ragged *r = ctx;
    close(r->fd);
    free(r);
}

int vmm_q2_ragged_new(struct vmm_loop *loop, int fd, uint64_t length, struct vmm_block **out)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops), .submit = submit, .info = info, .destroy = destroy};
    struct ragged *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->length = length;
    r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int rc = r->fd < 0 ? -errno : vmm_raw_lock(r->fd, true);
    if (!rc)
        rc = vmm_block_new(loop, &ops, r, &r->block);
    if (rc) {
        if (r->fd >= 0)
            close(r->fd);
        free(r);
        return rc;
    }
    *out = r->block;
    return 0;
}
