/* SPDX-License-Identifier: BSD-3-Clause */
/* The entropy device (VIRTIO 1.2 §5.4): one queue of buffers to fill. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define DEVICE_RNG 4u
/* Enough for any reader, and a bound for the time that one request takes. */
#define BYTES_AT_A_TIME 65536u

struct rng {
    struct vmm_virtio *virtio;
    struct vmm_virtio_chain *chain;
};

/* Whole, unless the host has none yet: a pending signal makes getrandom() return early. */
static size_t fill_buffer(uint8_t *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = getrandom(data + done, length - done, GRND_NONBLOCK);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    return done;
}

static uint64_t fill(const struct vmm_virtio_chain *c)
{
    uint64_t done = 0;
    for (size_t i = 0; i < c->writable_count && done < BYTES_AT_A_TIME; i++) {
        size_t wanted = c->writable[i].iov_len;
        wanted = wanted < BYTES_AT_A_TIME - done ? wanted : (size_t)(BYTES_AT_A_TIME - done);
        size_t filled = fill_buffer(c->writable[i].iov_base, wanted);
        done += filled;
        if (filled < wanted)
            break;
    }
    return done;
}

static void notify(void *ctx, uint32_t queue)
{
    struct rng *rng = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(rng->virtio, queue);
    while (vmm_virtio_queue_pop(q, rng->chain) > 0)
        vmm_virtio_queue_push(q, rng->chain, fill(rng->chain));
    vmm_virtio_queue_signal(q);
}

static void destroy(void *ctx)
{
    struct rng *rng = ctx;
    vmm_virtio_chain_free(rng->chain);
    free(rng);
}

int vmm_virtio_rng_new(const struct vmm_virtio_place *given, struct vmm_virtio **out,
                       struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops), .notify = notify, .destroy = destroy};
    struct vmm_virtio_place place;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    struct rng *rng = calloc(1, sizeof(*rng));
    if (!rng)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o.device_id = DEVICE_RNG;
    o.queues = 1;
    o.chain_max = 64;
    o.ops = &ops;
    o.ctx = rng;
    rc = vmm_virtio_new(&o, &rng->virtio, err);
    if (rc) {
        free(rng);
        return rc;
    }
    rc = vmm_virtio_chain_new(rng->virtio, &rng->chain);
    if (rc) {
        vmm_virtio_unref(rng->virtio);
        return vmm_error_set(err, rc, "out of memory");
    }
    *out = rng->virtio;
    return 0;
}
