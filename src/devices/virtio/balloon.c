/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory balloon (VIRTIO 1.2 §5.5): pages that the driver puts into it, or reports as free, go
 * back to the host. They come back as zeros when the guest touches them, so deflating takes nothing.
 */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <stdlib.h>

#define DEVICE_BALLOON 5u

#define F_STATS          1u
#define F_DEFLATE_ON_OOM 2u
#define F_REPORTING      5u

#define PAGE        4096u
#define CONFIG_SIZE 8u
#define STAT_SIZE   10u /* a tag and a value */

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUES = 4 };

struct balloon {
    struct vmm_virtio *virtio;
    struct vmm_virtio_chain *chain;
    struct vmm_virtio_chain *stats; /* the driver's buffer, kept until statistics are asked for */
    bool stats_out;
    int stats_queue, reporting_queue; /* -1: not negotiated */
    uint32_t target, actual;          /* pages; the device's lock */
    pthread_mutex_t lock;             /* guards the values; innermost */
    struct vmm_balloon_stats values;
};

/* Neighbours are given back together: drivers list pages from one end to the other. */
static void inflate(struct balloon *b)
{
    const struct vmm_virtio_chain *c = b->chain;
    uint64_t start = 0, length = 0, offset = 0;
    uint8_t raw[4];
    for (; vmm_iov_read(c->readable, c->readable_count, offset, raw, 4) == 4; offset += 4) {
        uint64_t address = (uint64_t)vmm_load_le32(raw) * PAGE;
        if (length && address == start + length) {
            length += PAGE;
        } else if (length && address + PAGE == start) {
            start = address;
            length += PAGE;
        } else {
            if (length)
                (void)vmm_memory_discard(b->virtio->memory, start, length);
            start = address;
            length = PAGE;
        }
    }
    /* A page that is not memory is not the driver's to give: nothing happens to it. */
    if (length)
        (void)vmm_memory_discard(b->virtio->memory, start, length);
}

static void report(struct balloon *b)
{
    const struct vmm_virtio_chain *c = b->chain;
    for (size_t i = 0; i < c->writable_ranges; i++) {
        const struct vmm_guest_range *r = &c->ranges[c->readable_ranges + i];
        (void)vmm_memory_discard(b->virtio->memory, r->address, r->length);
    }
}

static void take_stats(struct balloon *b)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(b->virtio, (uint32_t)b->stats_queue);
    uint8_t raw[STAT_SIZE];
    if (b->stats_out || vmm_virtio_queue_pop(q, b->stats) <= 0)
        return;
    b->stats_out = true;
    pthread_mutex_lock(&b->lock);
    for (uint64_t at = 0; at < VMM_BALLOON_STATS * STAT_SIZE; at += STAT_SIZE) {
        if (vmm_iov_read(b->stats->readable, b->stats->readable_count, at, raw, STAT_SIZE) !=
            STAT_SIZE)
            break;
        uint16_t tag = vmm_load_le16(raw);
        if (tag < VMM_BALLOON_STATS) {
            b->values.value[tag] = vmm_load_le64(raw + 2);
            b->values.known |= 1u << tag;
        }
    }
    b->values.updates++;
    pthread_mutex_unlock(&b->lock);
}

static void notify(void *ctx, uint32_t index)
{
    struct balloon *b = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(b->virtio, index);
    if ((int)index == b->stats_queue) {
        take_stats(b);
        return;
    }
    while (vmm_virtio_queue_pop(q, b->chain) > 0) {
        if (index == QUEUE_INFLATE)
            inflate(b);
        else if ((int)index == b->reporting_queue)
            report(b);
        vmm_virtio_queue_push(q, b->chain, 0);
    }
    vmm_virtio_queue_signal(q);
}

/* Queues that were not negotiated are left out of the count (as all drivers do). */
static void features(void *ctx, uint64_t accepted)
{
    struct balloon *b = ctx;
    int next = QUEUE_DEFLATE + 1;
    b->stats_queue = accepted & VMM_VIRTIO_FEATURE(F_STATS) ? next++ : -1;
    b->reporting_queue = accepted & VMM_VIRTIO_FEATURE(F_REPORTING) ? next : -1;
}

static void let_stats_go(struct balloon *b, uint32_t index)
{
    if (b->stats_out)
        vmm_virtio_queue_drop(vmm_virtio_queue(b->virtio, index), b->stats);
    b->stats_out = false;
}

static void queue_reset(void *ctx, uint32_t index)
{
    struct balloon *b = ctx;
    if ((int)index == b->stats_queue)
        let_stats_go(b, index);
}

static void reset(void *ctx)
{
    struct balloon *b = ctx;
    b->actual = 0;
    b->stats_queue = b->reporting_queue = -1;
}

/* num_pages is ours, actual the driver's (§5.5.4). */
static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    const struct balloon *b = ctx;
    uint8_t config[CONFIG_SIZE];
    vmm_store_le32(config, b->target);
    vmm_store_le32(config + 4, b->actual);
    memcpy(data, config + offset, length);
}

static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    struct balloon *b = ctx;
    uint8_t actual[4];
    if (offset < 4) /* num_pages is not the driver's */
        return;
    vmm_store_le32(actual, b->actual);
    memcpy(actual + (offset - 4), data, length); /* legacy drivers write byte by byte */
    b->actual = vmm_load_le32(actual);
}

/* The embedder's side -------------------------------------------------------------------------- */

/* Give the driver's buffer back, which asks for new statistics. */
static void return_stats(struct balloon *b, int queue)
{
    if (queue < 0)
        return;
    struct vmm_virtio_queue *q = vmm_virtio_queue(b->virtio, (uint32_t)queue);
    vmm_virtio_queue_lock(q);
    if (b->stats_out) {
        b->stats_out = false;
        vmm_virtio_queue_push(q, b->stats, 0);
        vmm_virtio_queue_signal(q);
    }
    vmm_virtio_queue_unlock(q);
}

int vmm_balloon_set_target(struct vmm_virtio *virtio, uint64_t bytes)
{
    struct balloon *b = virtio->ctx;
    if (virtio->id != DEVICE_BALLOON || bytes / PAGE > UINT32_MAX)
        return -EINVAL;
    vmm_device_lock(virtio->device);
    b->target = (uint32_t)(bytes / PAGE);
    vmm_virtio_config_changed(virtio);
    vmm_device_unlock(virtio->device);
    return 0;
}

int vmm_balloon_get_stats(struct vmm_virtio *virtio, struct vmm_balloon_stats *stats)
{
    struct balloon *b = virtio->ctx;
    struct vmm_balloon_stats s;
    if (virtio->id != DEVICE_BALLOON)
        return -EINVAL;
    vmm_device_lock(virtio->device);
    pthread_mutex_lock(&b->lock);
    s = b->values;
    pthread_mutex_unlock(&b->lock);
    s.target = (uint64_t)b->target * PAGE;
    s.actual = (uint64_t)b->actual * PAGE;
    int queue = b->stats_queue;
    vmm_device_unlock(virtio->device);
    return_stats(b, queue);
    return vmm_info_copy(stats, &s, sizeof(s));
}

/* Life ----------------------------------------------------------------------------------------- */

/* The driver's statistics buffer goes back: a saved device holds no chain. */
static int save(void *ctx, struct vmm_state_writer *w)
{
    struct balloon *b = ctx;
    return_stats(b, b->stats_queue);
    (void)vmm_state_put_u32(w, "target", b->target);
    return vmm_state_put_u32(w, "actual", b->actual);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct balloon *b = ctx;
    uint32_t target, actual;
    int rc = vmm_state_get_u32(r, "target", UINT32_MAX, &target, err);
    rc = rc ? rc : vmm_state_get_u32(r, "actual", UINT32_MAX, &actual, err);
    if (rc)
        return rc;
    b->target = target;
    b->actual = actual;
    return 0;
}

static void destroy(void *ctx)
{
    struct balloon *b = ctx;
    if (b->stats_queue >= 0)
        let_stats_go(b, (uint32_t)b->stats_queue);
    vmm_virtio_chain_free(b->chain);
    vmm_virtio_chain_free(b->stats);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

int vmm_virtio_balloon_new(const struct vmm_virtio_place *given, struct vmm_virtio **out,
                           struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .features = features,
        .config_read = config_read,
        .config_write = config_write,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_virtio_place place;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    struct balloon *b = calloc(1, sizeof(*b));
    if (!b)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&b->lock, NULL);
    b->stats_queue = b->reporting_queue = -1;
    o.device_id = DEVICE_BALLOON;
    o.queues = QUEUES;
    o.config_size = CONFIG_SIZE;
    o.features = VMM_VIRTIO_FEATURE(F_STATS) | VMM_VIRTIO_FEATURE(F_DEFLATE_ON_OOM) |
                 VMM_VIRTIO_FEATURE(F_REPORTING);
    o.ops = &ops;
    o.ctx = b;
    rc = vmm_virtio_new(&o, &b->virtio, err);
    if (rc) {
        destroy(b);
        return rc;
    }
    rc = vmm_virtio_chain_new(b->virtio, &b->chain);
    rc = rc ? rc : vmm_virtio_chain_new(b->virtio, &b->stats);
    if (rc) {
        vmm_virtio_unref(b->virtio);
        return vmm_error_set(err, rc, "out of memory");
    }
    *out = b->virtio;
    return 0;
}
