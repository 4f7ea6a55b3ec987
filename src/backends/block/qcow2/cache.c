/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * L2 tables and refcount blocks in memory, in slices. Only sync.c writes them to the file, so that
 * their order there is in one hand. A coroutine pins two or three at a time, so a full cache always
 * has one to give.
 */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define SLICES_MIN    256u
#define BYTES_DEFAULT (UINT64_C(16) << 20)

static struct q2_slice **bucket(const struct q2_cache *c, uint64_t offset)
{
    return &c->hash[(offset >> 9) * UINT64_C(0x9e3779b97f4a7c15) >> 32 & c->hash_mask];
}

int vmm_q2_cache_init(struct qcow2 *q, uint64_t bytes)
{
    struct q2_cache *c = &q->cache;
    uint64_t limit = (bytes ? bytes : BYTES_DEFAULT) / q->slice_size;
    c->limit = (uint32_t)(limit < SLICES_MIN ? SLICES_MIN : q2_min(limit, 1u << 24));
    c->hash_mask = 255;
    while (c->hash_mask < c->limit && c->hash_mask < (1u << 16) - 1)
        c->hash_mask = c->hash_mask * 2 + 1;
    c->hash = calloc((size_t)c->hash_mask + 1, sizeof(*c->hash));
    return c->hash ? 0 : -ENOMEM;
}

/* By use --------------------------------------------------------------------------------------- */

static void unlink_use(struct q2_cache *c, struct q2_slice *s)
{
    *(s->newer ? &s->newer->older : &c->newest) = s->older;
    *(s->older ? &s->older->newer : &c->oldest) = s->newer;
}

static void link_newest(struct q2_cache *c, struct q2_slice *s)
{
    s->newer = NULL;
    s->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = s;
    c->newest = s;
}

/* Dirty ones ----------------------------------------------------------------------------------- */

void vmm_q2_cache_dirty(struct qcow2 *q, struct q2_slice *s)
{
    struct q2_cache *c = &q->cache;
    if (s->dirty)
        return;
    s->dirty = true;
    s->dirty_prev = NULL;
    s->dirty_next = c->dirty;
    if (c->dirty)
        c->dirty->dirty_prev = s;
    c->dirty = s;
    *(s->l2 ? &c->dirty_l2 : &c->dirty_refcounts) += 1;
}

void vmm_q2_cache_clean(struct qcow2 *q, struct q2_slice *s)
{
    struct q2_cache *c = &q->cache;
    if (!s->dirty)
        return;
    s->dirty = false;
    *(s->dirty_prev ? &s->dirty_prev->dirty_next : &c->dirty) = s->dirty_next;
    if (s->dirty_next)
        s->dirty_next->dirty_prev = s->dirty_prev;
    *(s->l2 ? &c->dirty_l2 : &c->dirty_refcounts) -= 1;
}

/* Coming and going ----------------------------------------------------------------------------- */

static void unlink_hash(struct q2_cache *c, struct q2_slice *s)
{
    struct q2_slice **at = bucket(c, s->offset);
    while (*at != s)
        at = &(*at)->hash_next;
    *at = s->hash_next;
}

static void link_hash(struct q2_cache *c, struct q2_slice *s)
{
    struct q2_slice **at = bucket(c, s->offset);
    s->hash_next = *at;
    *at = s;
}

static void destroy(struct qcow2 *q, struct q2_slice *s)
{
    vmm_q2_cache_clean(q, s);
    unlink_hash(&q->cache, s);
    unlink_use(&q->cache, s);
    q->cache.count--;
    free(s->data);
    free(s);
}

static struct q2_slice *find(struct q2_cache *c, uint64_t offset)
{
    struct q2_slice *s = *bucket(c, offset);
    while (s && s->offset != offset)
        s = s->hash_next;
    return s;
}

struct q2_slice *vmm_q2_cache_find(struct qcow2 *q, uint64_t offset)
{
    struct q2_slice *s = find(&q->cache, offset);
    if (!s || s->loading)
        return NULL;
    if (s != q->cache.newest) {
        unlink_use(&q->cache, s);
        link_newest(&q->cache, s);
    }
    return s;
}

static struct q2_slice *make(struct qcow2 *q)
{
    struct q2_slice *s = calloc(1, sizeof(*s));
    uint8_t *data = vmm_q2_buffer(q->slice_size);
    if (!s || !data) {
        free(s);
        free(data);
        return NULL;
    }
    s->data = data;
    q->cache.count++;
    return s;
}

/* A slice to fill, in no list. Another coroutine may have run meanwhile. */
static int take_free(struct qcow2 *q, struct q2_slice **out)
{
    struct q2_cache *c = &q->cache;
    for (int tries = 0; tries < 3; tries++) {
        if (c->count < c->limit) {
            *out = make(q);
            return *out ? 0 : -ENOMEM;
        }
        for (struct q2_slice *s = c->oldest; s; s = s->newer)
            if (s->pins == 0 && !s->dirty && !s->loading) {
                unlink_hash(c, s);
                unlink_use(c, s);
                *out = s;
                return 0;
            }
        int rc = vmm_q2_sync_all(q);
        if (rc)
            return rc;
    }
    return -ENOMEM;
}

static int load(struct qcow2 *q, struct q2_slice *s)
{
    s->loading = true;
    s->error = vmm_q2_read(q, q->file, s->offset, s->data, q->slice_size);
    s->loading = false;
    vmm_co_wake_all(&q->co, &s->waiting);
    return s->error;
}

/* Wait for who loads it; the last to go frees what could not be loaded. */
static int await(struct qcow2 *q, struct q2_slice *s)
{
    s->pins++;
    while (s->loading)
        vmm_co_wait(&q->co, &s->waiting);
    return s->error;
}

int vmm_q2_cache_get(struct qcow2 *q, uint64_t offset, bool l2, uint32_t l1_index,
                     struct q2_slice **out)
{
    struct q2_cache *c = &q->cache;
    struct q2_slice *s = find(c, offset), *fresh = NULL;
    int rc = 0;
    if (!s) {
        if (offset > q->file_length || q->slice_size > q->file_length - offset)
            return -EIO; /* a table beyond the end of the file */
        rc = take_free(q, &fresh);
        if (rc)
            return rc;
        s = find(c, offset);
    }
    if (s && fresh) { /* somebody was quicker */
        c->count--;
        free(fresh->data);
        free(fresh);
    }
    if (s) {
        if (s->l2 != l2)
            return vmm_q2_damaged(q); /* one place cannot be both */
        rc = await(q, s);
    } else {
        s = fresh;
        *s = (struct q2_slice){
            .offset = offset, .l1_index = l1_index, .l2 = l2, .pins = 1, .data = s->data};
        link_hash(c, s);
        link_newest(c, s);
        rc = load(q, s);
    }
    if (rc) {
        if (--s->pins == 0)
            destroy(q, s);
        return rc;
    }
    unlink_use(c, s);
    link_newest(c, s);
    s->l1_index = l1_index;
    *out = s;
    return 0;
}

void vmm_q2_cache_put(struct q2_slice *s)
{
    s->pins--;
}

void vmm_q2_cache_drop(struct qcow2 *q, uint64_t cluster)
{
    for (uint64_t at = 0; at < q->cluster_size; at += q->slice_size) {
        struct q2_slice *s = find(&q->cache, (cluster << q->cluster_bits) + at);
        if (s && s->pins == 0 && !s->loading)
            destroy(q, s);
    }
}

void vmm_q2_cache_drop_all(struct qcow2 *q)
{
    struct q2_slice *s = q->cache.oldest, *next;
    for (; s; s = next) {
        next = s->newer;
        if (s->pins == 0 && !s->loading)
            destroy(q, s);
    }
}

void vmm_q2_cache_free(struct qcow2 *q)
{
    while (q->cache.oldest)
        destroy(q, q->cache.oldest);
    free(q->cache.hash);
    q->cache.hash = NULL;
}
