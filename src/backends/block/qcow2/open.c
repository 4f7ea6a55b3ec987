/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 image as a block device: opening, what is asked of it as a whole, closing. */
#include "backends/block/block-driver.h"
#include "backends/block/qcow2/chain.h"

#include <stdlib.h>

/* Information ---------------------------------------------------------------------------------- */

static int info(void *ctx, struct vmm_block_info *out)
{
    struct qcow2 *q = ctx;
    struct vmm_block_info below = VMM_BLOCK_INFO_INIT;
    (void)vmm_block_get_info(q->file, &below);
    out->length = q->size;
    out->allocated = below.allocated;
    out->block_size = q->block_size;
    out->optimal_size = (uint32_t)q->cluster_size;
    out->discard_alignment = q->data_raw ? 0 : (uint32_t)q->cluster_size;
    out->read_only = q->read_only;
    out->zero_is_cheap = q->header.version >= 3 && !q->data_raw;
    memcpy(out->format, "qcow2", 6);
    return 0;
}

struct extent_call {
    uint64_t at, length;
    struct q2_extent e;
};

static int map(struct qcow2 *q, void *arg)
{
    struct extent_call *c = arg;
    return vmm_q2_map(q, c->at, c->length, &c->e);
}

static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    struct qcow2 *q = ctx;
    struct extent_call c = {.at = offset, .length = length};
    int rc = vmm_q2_map_now(q, offset, length, &c.e);
    if (rc == -EAGAIN)
        rc = vmm_q2_call(q, map, &c);
    if (rc)
        return rc;
    out->length = c.e.length;
    switch (c.e.type) {
    case Q2_DATA:
        out->state = VMM_BLOCK_DATA;
        out->host_offset = c.e.host;
        break;
    case Q2_PACKED:
        out->state = VMM_BLOCK_DATA | VMM_BLOCK_COMPRESSED;
        break;
    case Q2_ZERO:
        out->state = VMM_BLOCK_ZERO;
        break;
    default:
        out->state = q->header.backing_offset || q->backing ? VMM_BLOCK_BACKING : VMM_BLOCK_ZERO;
        break;
    }
    return 0;
}

static void plug(void *ctx, uint32_t on)
{
    struct qcow2 *q = ctx;
    (on ? vmm_block_plug : vmm_block_unplug)(q->file);
}

/* Closing -------------------------------------------------------------------------------------- */

static int write_back(struct qcow2 *q, void *arg)
{
    (void)arg;
    int rc = vmm_q2_sync_all(q);
    if (!rc)
        rc = vmm_q2_free_pending(q);
    if (!rc)
        rc = vmm_q2_sync_all(q);
    if (!rc && q->marked_dirty) {
        rc = vmm_q2_incompatible(q, 0, Q2_INCOMPATIBLE_DIRTY);
        q->marked_dirty = rc != 0;
    }
    return rc;
}

/* Where the last cluster that is used ends. */
static int find_end(struct qcow2 *q, void *arg)
{
    uint64_t *end = arg, value = 0;
    uint64_t cluster = (q->file_length + q->cluster_size - 1) >> q->cluster_bits;
    int rc = 0;
    while (cluster && !value && !rc) {
        uint64_t block = --cluster >> q->rb_bits;
        if (block >= q->rt_size || q->rt[block] == 0)
            cluster = block << q->rb_bits;
        else
            rc = vmm_q2_refcount_get(q, cluster, &value);
    }
    *end = (cluster + 1) << q->cluster_bits;
    return rc;
}

static void close_file(struct qcow2 *q)
{
    uint64_t end;
    if (vmm_q2_call(q, write_back, NULL))
        return;
    /* The file has grown in large steps. */
    if (q->grew && !vmm_q2_call(q, find_end, &end) && end < q->file_length)
        (void)vmm_block_resize(q->file, end, NULL);
}

static void destroy(void *ctx)
{
    struct qcow2 *q = ctx;
    if (q->opened && !q->read_only && !q->broken && !(q->flags & VMM_QCOW2_CHECK))
        close_file(q);
    vmm_q2_cache_free(q);
    vmm_q2_unpacked_free(q);
    vmm_q2_snapshots_free(q);
    vmm_co_end(&q->co);
    while (q->spare_parts) {
        struct q2_part *next = q->spare_parts->next;
        free(q->spare_parts);
        q->spare_parts = next;
    }
    while (q->spare_ops) {
        struct q2_op *next = q->spare_ops->next;
        free(q->spare_ops);
        q->spare_ops = next;
    }
    free(q->l1);
    free(q->l1_dirty);
    free(q->rt);
    free(q->metadata.slots);
    free(q->freed.items);
    free(q->freeable.items);
    free(q->head);
    free(q->path);
    vmm_timer_free(q->timer);
    if (q->data != q->file)
        vmm_block_unref(q->data);
    vmm_block_unref(q->backing);
    vmm_block_unref(q->file);
    vmm_loop_unref(q->loop);
    pthread_mutex_destroy(&q->vector_lock);
    free(q);
}

/* Opening -------------------------------------------------------------------------------------- */

struct open_call {
    const struct vmm_qcow2_options *o;
    struct vmm_error *err;
};

static int read_header(struct qcow2 *q, void *arg)
{
    struct open_call *c = arg;
    int rc = vmm_q2_header_read(q, c->err);
    if (rc)
        return rc;
    const struct q2_header *h = &q->header;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = UINT64_C(1) << h->cluster_bits;
    q->extended = h->incompatible & Q2_INCOMPATIBLE_EXTENDED;
    q->has_data_file = h->incompatible & Q2_INCOMPATIBLE_DATA;
    q->data_raw = h->autoclear & Q2_AUTOCLEAR_RAW;
    q->entry_bits = q->extended ? 4 : 3;
    q->l2_bits = q->cluster_bits - q->entry_bits;
    q->rb_bits = q->cluster_bits + 3 - h->refcount_order;
    q->unit_bits = q->extended ? q->cluster_bits - 5 : q->cluster_bits;
    q->slice_size = (uint32_t)q2_min(q->cluster_size, q->block_size > 4096 ? q->block_size : 4096);
    q->size = h->size;
    q->lazy = h->version >= 3 && (h->compatible & Q2_COMPATIBLE_LAZY);
    q->zero_from = vmm_align_up(q->file_length, q->cluster_size);
    rc = vmm_q2_cache_init(q, c->o->cache_size);
    return rc ? vmm_error_set(c->err, rc, "out of memory") : vmm_q2_tables_read(q, c->err);
}

static int use_snapshot(struct qcow2 *q, void *arg)
{
    struct open_call *c = arg;
    struct q2_snapshot *s = vmm_q2_snapshot_find(q, c->o->snapshot);
    if (!s)
        return vmm_error_set(c->err, -ENOENT, "qcow2: there is no snapshot \"%s\"", c->o->snapshot);
    free(q->l1);
    q->l1 = NULL;
    q->l1_size = s->l1_size;
    q->size = s->disk_size;
    int rc = vmm_q2_table_read(q, s->l1_offset, s->l1_size, &q->l1);
    return rc ? vmm_error_set(c->err, rc, "qcow2: reading the snapshot's table: %s", strerror(-rc))
              : 0;
}

static int file_below(struct qcow2 *q, const struct vmm_qcow2_options *o, struct q2_chain *chain,
                      struct vmm_error *err)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = 0;
    if (o->file)
        q->file = vmm_block_ref(o->file);
    else
        rc = vmm_q2_file_open(q->loop, o->path, q->read_only, o->threads, chain, &q->file, err);
    if (rc)
        return rc;
    rc = vmm_block_get_info(q->file, &info);
    if (rc)
        return vmm_error_set(err, rc, "qcow2: %s", strerror(-rc));
    if (info.read_only && !q->read_only)
        return vmm_error_set(err, -EACCES, "qcow2: the file is read-only, and the image is not");
    q->file_length = info.length;
    q->block_size = info.block_size;
    return 0;
}

/* What the other files are like: requests to them are in their units. */
static int join(struct qcow2 *q, struct vmm_error *err)
{
    struct vmm_block_info data = VMM_BLOCK_INFO_INIT, backing = VMM_BLOCK_INFO_INIT;
    int rc = q->data ? vmm_block_get_info(q->data, &data) : 0;
    if (!rc && q->backing)
        rc = vmm_block_get_info(q->backing, &backing);
    if (rc)
        return vmm_error_set(err, rc, "qcow2: %s", strerror(-rc));
    q->data_length = data.length;
    q->backing_length = backing.length;
    if (q->has_data_file && q->data && data.read_only && !q->read_only)
        return vmm_error_set(err, -EACCES, "qcow2: the data file is read-only");
    if (data.block_size > q->block_size || backing.block_size > q->block_size)
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: the backing or data file is read in larger "
                             "blocks than the image's file");
    return 0;
}

/* What must be done before the first write. */
static int prepare_writing(struct qcow2 *q, void *arg)
{
    struct open_call *c = arg;
    struct q2_header *h = &q->header;
    uint64_t keep = h->autoclear & Q2_AUTOCLEAR_RAW;
    int rc = 0;
    if (h->incompatible & Q2_INCOMPATIBLE_DIRTY)
        rc = vmm_q2_count_anew(q, c->err);
    if (rc)
        return rc;
    if (h->version >= 3 && h->autoclear != keep) {
        q2_store64(q->head + 88, keep);
        rc = vmm_q2_head_write(q);
        h->autoclear = keep;
    }
    if (rc)
        (void)vmm_error_set(c->err, rc, "qcow2: writing the header: %s", strerror(-rc));
    return rc;
}

static int open_parts(struct qcow2 *q, const struct vmm_qcow2_options *o, struct q2_chain *chain,
                      struct vmm_error *err)
{
    struct open_call c = {o, err};
    int rc = file_below(q, o, chain, err);
    if (!rc)
        rc = vmm_q2_call(q, read_header, &c);
    if (!rc && !q->read_only && !(q->flags & VMM_QCOW2_CHECK) &&
        (q->header.incompatible & Q2_INCOMPATIBLE_CORRUPT))
        rc = vmm_error_set(err, -EROFS,
                           "qcow2: the image is marked as damaged: open it read-only, "
                           "or repair it first");
    if (!rc)
        rc = vmm_q2_open_data(q, o, chain, err);
    if (!rc)
        rc = vmm_q2_open_backing(q, o, chain, err);
    if (!rc)
        rc = join(q, err);
    if (!rc && o->snapshot)
        rc = vmm_q2_call(q, use_snapshot, &c);
    if (!rc && !q->read_only && !(q->flags & VMM_QCOW2_CHECK))
        rc = vmm_q2_call(q, prepare_writing, &c);
    return rc;
}

static const struct vmm_block_ops ops = {
    .size = sizeof(ops),
    .submit = vmm_q2_submit,
    .info = info,
    .extent = extent,
    .resize = vmm_q2_resize,
    .cancel = vmm_q2_cancel,
    .destroy = destroy,
    .quiesce = vmm_q2_quiesce,
    .drain = vmm_q2_drain,
    .plug = plug,
};

struct qcow2 *vmm_q2_of(struct vmm_block *block)
{
    return block ? vmm_block_driver_of(block, vmm_q2_submit) : NULL;
}

static int check_options(const struct vmm_qcow2_options *o, struct vmm_error *err)
{
    const uint32_t known = VMM_QCOW2_READ_ONLY | VMM_QCOW2_FOLLOW | VMM_QCOW2_ALONE |
                           VMM_QCOW2_CHECK | VMM_QCOW2_WRITE_BACKING;
    if ((!o->path && !o->file) || (o->flags & ~known) || o->reserved)
        return vmm_error_set(err, -EINVAL, "qcow2: neither a path nor a file, or unknown flags");
    return 0;
}

int vmm_q2_open(struct vmm_loop *loop, const struct vmm_qcow2_options *o,
                const struct q2_chain *above, struct vmm_block **out, struct vmm_error *err)
{
    struct q2_chain chain = {.above = above};
    chain.limit = above ? above->limit - 1 : o->chain_limit;
    if (chain.limit == 0)
        chain.limit = VMM_QCOW2_CHAIN_LIMIT;
    struct qcow2 *q = calloc(1, sizeof(*q));
    if (!q)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&q->vector_lock, NULL);
    q->epoch = 1;
    q->loop = vmm_loop_ref(loop);
    q->flags = o->flags;
    q->alone = o->flags & VMM_QCOW2_ALONE;
    q->read_only = (o->flags & VMM_QCOW2_READ_ONLY) || o->snapshot;
    q->by_snapshot = o->snapshot;
    q->path = o->path ? strdup(o->path) : NULL;
    int rc = o->path && !q->path ? -ENOMEM : vmm_timer_new(loop, vmm_q2_grow_now, q, &q->timer);
    if (rc)
        (void)vmm_error_set(err, rc, "qcow2: %s", strerror(-rc));
    else
        rc = open_parts(q, o, &chain, err);
    if (!rc) {
        rc = vmm_block_new(loop, &ops, q, &q->block);
        if (rc)
            (void)vmm_error_set(err, rc, "qcow2: %s", strerror(-rc));
    }
    if (rc) {
        destroy(q);
        return rc;
    }
    q->opened = true;
    *out = q->block;
    return 0;
}

int vmm_block_qcow2_new(struct vmm_loop *loop, const struct vmm_qcow2_options *given,
                        struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_qcow2_options o;
    if (!loop || !given || !out || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "qcow2: bad options");
    int rc = check_options(&o, err);
    return rc ? rc : vmm_q2_open(loop, &o, NULL, out, err);
}
