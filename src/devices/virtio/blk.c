/* SPDX-License-Identifier: BSD-3-Clause */
/* The block device (VIRTIO 1.2 §5.2): requests of its queues become those of a block backend. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <libvmm/block.h>

#include <stdlib.h>

#define DEVICE_BLK 2u

#define F_SEG_MAX      2u
#define F_RO           5u
#define F_BLK_SIZE     6u
#define F_FLUSH        9u
#define F_MQ           12u
#define F_DISCARD      13u
#define F_WRITE_ZEROES 14u

#define T_IN           0u
#define T_OUT          1u
#define T_FLUSH        4u
#define T_GET_ID       8u
#define T_DISCARD      11u
#define T_WRITE_ZEROES 13u

#define S_OK     0u
#define S_IOERR  1u
#define S_UNSUPP 2u

#define SECTOR      512u
#define HEADER      16u
#define ID_SIZE     20u
#define SEG_MAX     126u
#define CHAIN_MAX   (SEG_MAX + 2)
#define VECTOR_MAX  (CHAIN_MAX + 16)
#define CONFIG_SIZE 60u
#define QUEUES_MAX  64u
#define QUEUE_SIZE  256u
#define DEPTH       64u       /* requests under way in a queue */
#define RANGE_MAX   0x200000u /* sectors of one discard or write of zeros: 1 GiB */

struct blk;

struct request {
    struct vmm_block_request block;
    struct blk *blk;
    struct vmm_virtio_queue *queue;
    struct vmm_virtio_chain *chain;
    struct request *next; /* in the list of free ones */
    struct iovec vector[VECTOR_MAX];
};

struct blk_queue {
    struct request *requests; /* DEPTH of them */
    struct request *free;
    bool stalled; /* there may be chains that no request was free for */
};

struct blk {
    struct vmm_virtio *virtio;
    struct vmm_block *block;
    uint32_t queue_count;
    bool read_only;
    char id[ID_SIZE];
    uint8_t config[CONFIG_SIZE];
    struct blk_queue queues[QUEUES_MAX];
};

/* Requests ------------------------------------------------------------------------------------- */

static struct blk_queue *queue_of(const struct request *r)
{
    return &r->blk->queues[r->queue->index];
}

/* The last writable byte is the status. The queue's lock is held. */
static void finish(struct request *r, uint8_t status)
{
    struct vmm_virtio_chain *c = r->chain;
    if (!vmm_virtio_chain_stale(r->queue, c)) {
        (void)vmm_iov_write(c->writable, c->writable_count, c->writable_length - 1, &status, 1);
        vmm_virtio_queue_push(r->queue, c, c->writable_length);
    } else {
        vmm_virtio_queue_drop(r->queue, c);
    }
    r->next = queue_of(r)->free;
    queue_of(r)->free = r;
}

static void done(struct vmm_block_request *block, int result)
{
    struct request *r = block->ctx;
    struct vmm_virtio_queue *q = r->queue;
    struct blk_queue *bq = queue_of(r);
    vmm_virtio_queue_lock(q);
    finish(r, result == 0 ? S_OK : result == -ENOTSUP ? S_UNSUPP : S_IOERR);
    vmm_virtio_queue_signal(q);
    if (bq->stalled) {
        bq->stalled = false;
        vmm_virtio_queue_kick(q);
    }
    vmm_virtio_queue_unlock(q);
}

/* The part [offset, offset + length) of a vector, as a vector. */
static size_t slice(const struct iovec *from, size_t count, uint64_t offset, uint64_t length,
                    struct iovec *to)
{
    size_t n = 0;
    for (size_t i = 0; i < count && length; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        size_t part = from[i].iov_len - (size_t)offset;
        part = part < length ? part : (size_t)length;
        to[n++] = (struct iovec){(uint8_t *)from[i].iov_base + offset, part};
        length -= part;
        offset = 0;
    }
    return n;
}

/* Each of these returns the status, or -1 when the backend has the request. */
static int submit(struct request *r, uint32_t op, uint32_t flags, uint64_t sector, uint64_t length)
{
    if (sector > UINT64_MAX / SECTOR || length % SECTOR)
        return S_IOERR;
    r->block = (struct vmm_block_request){.op = op,
                                          .flags = flags,
                                          .offset = sector * SECTOR,
                                          .length = length,
                                          .vector = r->vector,
                                          .vector_count = r->block.vector_count,
                                          .done = done,
                                          .ctx = r};
    vmm_block_submit(r->blk->block, &r->block);
    return -1;
}

static int read_or_write(struct request *r, uint32_t type, uint64_t sector)
{
    const struct vmm_virtio_chain *c = r->chain;
    bool write = type == T_OUT;
    /* A driver that knows of no flush expects what is written to be safe (§5.2.6.2). */
    bool flushes = vmm_virtio_features(r->blk->virtio) & VMM_VIRTIO_FEATURE(F_FLUSH);
    uint64_t length = write ? c->readable_length - HEADER : c->writable_length - 1;
    r->block.vector_count = write ? slice(c->readable, c->readable_count, HEADER, length, r->vector)
                                  : slice(c->writable, c->writable_count, 0, length, r->vector);
    return submit(r, write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ,
                  write && !flushes ? VMM_BLOCK_FUA : 0, sector, length);
}

/* One segment, as max_discard_seg and max_write_zeroes_seg say. */
static int range(struct request *r, uint32_t type)
{
    const struct vmm_virtio_chain *c = r->chain;
    uint8_t segment[16];
    if (c->readable_length != HEADER + sizeof(segment))
        return S_IOERR;
    (void)vmm_iov_read(c->readable, c->readable_count, HEADER, segment, sizeof(segment));
    uint64_t sector = vmm_load_le64(segment);
    uint32_t sectors = vmm_load_le32(segment + 8), flags = vmm_load_le32(segment + 12);
    if (flags > (type == T_WRITE_ZEROES))
        return S_UNSUPP;
    if (sectors > RANGE_MAX)
        return S_IOERR;
    r->block.vector_count = 0;
    return submit(r, type == T_DISCARD ? VMM_BLOCK_DISCARD : VMM_BLOCK_WRITE_ZEROES,
                  flags ? VMM_BLOCK_MAY_UNMAP : 0, sector, (uint64_t)sectors * SECTOR);
}

static int give_id(struct request *r)
{
    const struct vmm_virtio_chain *c = r->chain;
    uint64_t room = c->writable_length - 1;
    (void)vmm_iov_write(c->writable, c->writable_count, 0, r->blk->id,
                        room < ID_SIZE ? (size_t)room : ID_SIZE);
    return S_OK;
}

static int begin(struct request *r)
{
    const struct vmm_virtio_chain *c = r->chain;
    uint8_t header[HEADER];
    (void)vmm_iov_read(c->readable, c->readable_count, 0, header, sizeof(header));
    uint32_t type = vmm_load_le32(header);
    switch (type) {
    case T_IN:
    case T_OUT:
        return read_or_write(r, type, vmm_load_le64(header + 8));
    case T_FLUSH:
        r->block.vector_count = 0;
        return submit(r, VMM_BLOCK_FLUSH, 0, 0, 0);
    case T_GET_ID:
        return give_id(r);
    case T_DISCARD:
    case T_WRITE_ZEROES:
        return range(r, type);
    default:
        return S_UNSUPP;
    }
}

static void notify(void *ctx, uint32_t index)
{
    struct blk *blk = ctx;
    struct blk_queue *bq = &blk->queues[index];
    struct vmm_virtio_queue *q = vmm_virtio_queue(blk->virtio, index);
    vmm_block_plug(blk->block); /* what the driver gave together goes on together */
    while (bq->free) {
        struct request *r = bq->free;
        if (vmm_virtio_queue_pop(q, r->chain) <= 0)
            break;
        if (r->chain->readable_length < HEADER || r->chain->writable_length < 1) {
            vmm_virtio_queue_drop(q, r->chain);
            vmm_virtio_guest_error(blk->virtio, "a request without room for header and status");
            break;
        }
        bq->free = r->next;
        int status = begin(r);
        if (status >= 0)
            finish(r, (uint8_t)status);
    }
    vmm_block_unplug(blk->block);
    bq->stalled = !bq->free;
    vmm_virtio_queue_signal(q);
}

/* Buffers of requests under way are the driver's again after this; their ends are dropped. */
static void queue_reset(void *ctx, uint32_t index)
{
    struct blk *blk = ctx;
    blk->queues[index].stalled = false;
    vmm_block_quiesce(blk->block);
}

/* Configuration -------------------------------------------------------------------------------- */

static void fill_config(struct blk *blk, const struct vmm_block_info *info)
{
    uint8_t *c = blk->config;
    memset(c, 0, CONFIG_SIZE);
    vmm_store_le64(c, info->length / SECTOR);
    vmm_store_le32(c + 12, SEG_MAX);
    vmm_store_le32(c + 20, info->block_size);
    vmm_store_le16(c + 34, (uint16_t)blk->queue_count);
    vmm_store_le32(c + 36, RANGE_MAX);
    vmm_store_le32(c + 40, 1);
    vmm_store_le32(c + 44, info->block_size / SECTOR);
    vmm_store_le32(c + 48, RANGE_MAX);
    vmm_store_le32(c + 52, 1);
    c[56] = 1; /* zeros may be holes */
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct blk *)ctx)->config + offset, length);
}

int vmm_virtio_blk_resize(struct vmm_virtio *virtio, uint64_t length, struct vmm_error *err)
{
    struct blk *blk = virtio->ctx;
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (virtio->id != DEVICE_BLK)
        return vmm_error_set(err, -EINVAL, "%s is no disk", vmm_device_name(virtio->device));
    int rc = vmm_block_resize(blk->block, length, err);
    if (rc)
        return rc;
    rc = vmm_block_get_info(blk->block, &info);
    if (rc)
        return vmm_error_set(err, rc, "the disk's new length: %s", strerror(-rc));
    vmm_device_lock(virtio->device);
    fill_config(blk, &info);
    vmm_virtio_config_changed(virtio);
    vmm_device_unlock(virtio->device);
    return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

/* Nothing is under way in a saved disk: all has ended, and its chains have gone back. */
static int save(void *ctx, struct vmm_state_writer *w)
{
    struct blk *blk = ctx;
    vmm_block_drain(blk->block);
    return vmm_state_put_bytes(w, "config", blk->config, CONFIG_SIZE);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct blk *blk = ctx;
    uint8_t config[CONFIG_SIZE];
    int rc = vmm_state_get_bytes(r, "config", config, sizeof(config), err);
    if (!rc && memcmp(config, blk->config, CONFIG_SIZE) != 0)
        rc = vmm_error_set(err, -EINVAL, "the saved disk has another size or other queues");
    return rc;
}

static void free_blk(struct blk *blk)
{
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        for (uint32_t j = 0; blk->queues[i].requests && j < DEPTH; j++)
            vmm_virtio_chain_free(blk->queues[i].requests[j].chain);
        free(blk->queues[i].requests);
    }
    vmm_block_unref(blk->block);
    free(blk);
}

static void destroy(void *ctx)
{
    struct blk *blk = ctx;
    vmm_block_drain(blk->block);
    free_blk(blk);
}

static int make_requests(struct blk *blk, uint32_t index)
{
    struct blk_queue *bq = &blk->queues[index];
    int rc = 0;
    bq->requests = calloc(DEPTH, sizeof(*bq->requests));
    if (!bq->requests)
        return -ENOMEM;
    for (uint32_t i = 0; i < DEPTH && !rc; i++) {
        struct request *r = &bq->requests[i];
        r->blk = blk;
        r->queue = vmm_virtio_queue(blk->virtio, index);
        rc = vmm_virtio_chain_new(blk->virtio, &r->chain);
        r->next = bq->free;
        bq->free = r;
    }
    return rc;
}

static int check_options(const struct vmm_virtio_blk_options *o, struct vmm_error *err)
{
    if (!o->block)
        return vmm_error_set(err, -EINVAL, "a disk needs a block backend");
    if (o->queues > QUEUES_MAX)
        return vmm_error_set(err, -EINVAL, "a disk has at most %u queues", QUEUES_MAX);
    if (o->serial && strlen(o->serial) > ID_SIZE)
        return vmm_error_set(err, -EINVAL, "a serial number has at most %u characters", ID_SIZE);
    return 0;
}

static uint64_t features_of(const struct blk *blk)
{
    uint64_t f = VMM_VIRTIO_FEATURE(F_SEG_MAX) | VMM_VIRTIO_FEATURE(F_BLK_SIZE) |
                 VMM_VIRTIO_FEATURE(F_FLUSH);
    if (blk->queue_count > 1)
        f |= VMM_VIRTIO_FEATURE(F_MQ);
    if (blk->read_only)
        return f | VMM_VIRTIO_FEATURE(F_RO);
    return f | VMM_VIRTIO_FEATURE(F_DISCARD) | VMM_VIRTIO_FEATURE(F_WRITE_ZEROES);
}

static int make(struct blk *blk, struct vmm_virtio_options *o, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .queue_reset = queue_reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    o->device_id = DEVICE_BLK;
    o->queues = blk->queue_count;
    o->queue_size_max = QUEUE_SIZE;
    o->chain_max = CHAIN_MAX;
    o->features = features_of(blk);
    o->config_size = CONFIG_SIZE;
    o->ops = &ops;
    o->ctx = blk;
    int rc = vmm_virtio_new(o, &blk->virtio, err);
    if (rc) {
        free_blk(blk);
        return rc;
    }
    for (uint32_t i = 0; i < blk->queue_count && !rc; i++)
        rc = make_requests(blk, i);
    if (!rc)
        return 0;
    vmm_virtio_unref(blk->virtio);
    return vmm_error_set(err, rc, "out of memory");
}

int vmm_virtio_blk_new(const struct vmm_virtio_place *given,
                       const struct vmm_virtio_blk_options *disk, struct vmm_virtio **out,
                       struct vmm_error *err)
{
    struct vmm_virtio_place place;
    struct vmm_virtio_blk_options b;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (!rc && (!disk || vmm_options_copy(&b, sizeof(b), disk)))
        rc = vmm_error_set(err, -EINVAL, "disk options: a structure of another version");
    if (!rc)
        rc = check_options(&b, err);
    if (rc)
        return rc;
    if (vmm_block_loop(b.block) != place.loop)
        return vmm_error_set(err, -EINVAL, "a disk and its backend are on the same loop");
    rc = vmm_block_get_info(b.block, &info);
    if (rc)
        return vmm_error_set(err, rc, "the disk's backend: %s", strerror(-rc));
    struct blk *blk = calloc(1, sizeof(*blk));
    if (!blk)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    blk->block = vmm_block_ref(b.block);
    blk->queue_count = b.queues ? b.queues : 1;
    blk->read_only = b.read_only || info.read_only;
    if (b.serial)
        memcpy(blk->id, b.serial, strlen(b.serial));
    fill_config(blk, &info);
    rc = make(blk, &o, err);
    if (!rc)
        *out = blk->virtio;
    return rc;
}
