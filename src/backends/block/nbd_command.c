/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk over the network: a request as one command or several, and their ends. */
#include "config.h"

#ifdef HAVE_LIBNBD
#include "backends/block/nbd.h"
#include "base/util.h"

#include <stdlib.h>

#define ZEROES (1u << 20)

static void copy_out(const struct vmm_block_request *r, uint8_t *to)
{
    for (size_t i = 0; i < r->vector_count; to += r->vector[i++].iov_len)
        memcpy(to, r->vector[i].iov_base, r->vector[i].iov_len);
}

static void copy_in(const struct vmm_block_request *r, const uint8_t *from)
{
    for (size_t i = 0; i < r->vector_count; from += r->vector[i++].iov_len)
        memcpy(r->vector[i].iov_base, from, r->vector[i].iov_len);
}

static bool means_lost(int error)
{
    return error == ENOTCONN || error == ESHUTDOWN || error == EPIPE || error == ECONNRESET;
}

/* The last part takes the data over before anybody may think that the vector is at rest. */
void vmm_nbd_part_ended(struct vmm_nbd_command *c, int error)
{
    struct vmm_nbd *n = c->nbd;
    pthread_mutex_lock(&n->lock);
    if (error && means_lost(error))
        c->lost = true;
    else if (error)
        c->result = -error;
    if (--c->left == 0) {
        if (c->request->op == VMM_BLOCK_READ && c->buffer && !c->result && !c->lost)
            copy_in(c->request, c->buffer);
        n->under_way--;
        vmm_block_list_append(&n->ended, c->request);
    }
    pthread_mutex_unlock(&n->lock);
}

static int command_ended(void *ctx, int *error)
{
    vmm_nbd_part_ended(ctx, *error);
    return 1;
}

static int64_t issue_part(struct nbd_handle *h, struct vmm_nbd_command *c, uint64_t done,
                          uint64_t length)
{
    const struct vmm_block_request *r = c->request;
    const struct vmm_nbd *n = c->nbd;
    nbd_completion_callback end = {.callback = command_ended, .user_data = c};
    uint32_t fua = (r->flags & VMM_BLOCK_FUA) && n->can_fua ? LIBNBD_CMD_FLAG_FUA : 0;
    uint32_t keep = r->flags & VMM_BLOCK_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
    uint8_t *data = c->buffer ? c->buffer : r->vector_count ? r->vector[0].iov_base : NULL;
    uint64_t offset = r->offset + done;
    if (r->op == VMM_BLOCK_READ)
        return n->lib.aio_pread(h, data + done, length, offset, end, 0);
    if (r->op == VMM_BLOCK_WRITE)
        return n->lib.aio_pwrite(h, data + done, length, offset, end, fua);
    if (r->op == VMM_BLOCK_DISCARD)
        return n->lib.aio_trim(h, length, offset, end, 0);
    if (n->can_zero)
        return n->lib.aio_zero(h, length, offset, end, fua | keep);
    return n->lib.aio_pwrite(h, data, length, offset, end, fua); /* the same zeroes for each part */
}

void vmm_nbd_issue_parts(struct nbd_handle *h, struct vmm_nbd_command *c, uint64_t most)
{
    uint64_t length = c->request->length;
    for (uint64_t done = 0; done < length;) {
        uint64_t part = length - done < most ? length - done : most;
        pthread_mutex_lock(&c->nbd->lock);
        c->left++;
        pthread_mutex_unlock(&c->nbd->lock);
        if (issue_part(h, c, done, part) < 0) {
            int error = c->nbd->lib.get_errno();
            bool dead = c->nbd->lib.aio_is_dead(h) > 0 || c->nbd->lib.aio_is_closed(h) > 0;
            vmm_nbd_part_ended(c, dead ? ENOTCONN : error ? error : EIO);
            return;
        }
        done += part;
    }
}

void vmm_nbd_issue_flush(struct nbd_handle *h, struct vmm_nbd_command *c)
{
    nbd_completion_callback end = {.callback = command_ended, .user_data = c};
    pthread_mutex_lock(&c->nbd->lock);
    c->left++;
    pthread_mutex_unlock(&c->nbd->lock);
    if (c->nbd->lib.aio_flush(h, end, 0) < 0)
        vmm_nbd_part_ended(c, c->nbd->lib.aio_is_dead(h) > 0 ? ENOTCONN : EIO);
}

/* How much goes at a time; the buffer that it needs. -ENOMEM. */
int vmm_nbd_prepare(struct vmm_nbd_command *c, uint64_t *most)
{
    const struct vmm_block_request *r = c->request;
    *most = VMM_NBD_RANGE_PART_MAX;
    if (r->op <= VMM_BLOCK_WRITE) {
        *most = c->nbd->part_max;
        if (r->vector_count == 1)
            return 0;
        c->buffer = malloc(r->length);
        if (c->buffer && r->op == VMM_BLOCK_WRITE)
            copy_out(r, c->buffer);
    } else if (r->op == VMM_BLOCK_WRITE_ZEROES && !c->nbd->can_zero) {
        *most = ZEROES < c->nbd->part_max ? ZEROES : c->nbd->part_max;
        c->buffer = calloc(1, r->length < *most ? r->length : *most);
    } else {
        return 0;
    }
    return c->buffer ? 0 : -ENOMEM;
}

#endif
