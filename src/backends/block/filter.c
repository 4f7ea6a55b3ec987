/* SPDX-License-Identifier: BSD-3-Clause */
/* The part that filters share; see the header. */
#include "backends/block/filter.h"
#include "base/util.h"

#include <stdlib.h>

/* Requests below ------------------------------------------------------------------------------- */

static void give_back(struct vmm_filter_request *r)
{
    free(r->vector);
    r->vector = NULL;
    r->next = r->filter->free;
    r->filter->free = r;
}

static struct vmm_filter_request *take(struct vmm_filter *f)
{
    struct vmm_filter_request *r = f->free;
    if (r)
        f->free = r->next;
    else
        r = calloc(1, sizeof(*r));
    return r;
}

/* The loop calls: what is finished goes on upwards at once. */
static void below_done(struct vmm_block_request *below, int result)
{
    struct vmm_filter_request *r = below->ctx;
    struct vmm_filter *f = r->filter;
    struct vmm_block_request *above = r->above;
    give_back(r);
    above->reserved[VMM_FILTER_WORD_BELOW] = 0;
    if (f->ended)
        f->ended(f, above, result);
    else
        vmm_block_collect(f->self, above, result);
    vmm_block_deliver(f->self);
}

size_t vmm_block_slice(const struct iovec *from, size_t count, uint64_t offset, uint64_t length,
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

/* It ends later, as those do that have been below. */
static void no_memory(struct vmm_filter *f, struct vmm_block_request *above)
{
    vmm_block_list_append(&f->failed, above);
    (void)vmm_timer_set(f->timer, 0);
}

void vmm_filter_forward_part(struct vmm_filter *f, struct vmm_block_request *above, uint64_t length)
{
    struct vmm_filter_request *r = take(f);
    if (!r) {
        no_memory(f, above);
        return;
    }
    r->filter = f;
    r->above = above;
    r->below = (struct vmm_block_request){.op = above->op,
                                          .flags = above->flags,
                                          .offset = above->offset,
                                          .length = length,
                                          .vector = above->vector,
                                          .vector_count = above->vector_count,
                                          .done = below_done,
                                          .ctx = r};
    if (length < above->length && above->op <= VMM_BLOCK_WRITE) {
        r->vector = calloc(above->vector_count, sizeof(*r->vector));
        if (!r->vector) {
            give_back(r);
            no_memory(f, above);
            return;
        }
        r->below.vector = r->vector;
        r->below.vector_count =
            vmm_block_slice(above->vector, above->vector_count, 0, length, r->vector);
    }
    above->reserved[VMM_FILTER_WORD_BELOW] = (uintptr_t)r;
    vmm_block_submit(f->child, &r->below);
}

void vmm_filter_forward(struct vmm_filter *f, struct vmm_block_request *above)
{
    vmm_filter_forward_part(f, above, above->length);
}

/* Held requests -------------------------------------------------------------------------------- */

void vmm_filter_hold(struct vmm_filter *f, struct vmm_block_request *request)
{
    request->reserved[VMM_FILTER_WORD_BELOW] = 0;
    pthread_mutex_lock(&f->lock);
    vmm_block_list_append(&f->held, request);
    pthread_mutex_unlock(&f->lock);
}

struct vmm_block_request *vmm_filter_held(struct vmm_filter *f)
{
    pthread_mutex_lock(&f->lock);
    struct vmm_block_request *first = f->held.first;
    pthread_mutex_unlock(&f->lock);
    return first;
}

void vmm_filter_release(struct vmm_filter *f, struct vmm_block_request *request)
{
    pthread_mutex_lock(&f->lock);
    if (vmm_block_list_remove(&f->held, request))
        vmm_filter_forward(f, request);
    pthread_mutex_unlock(&f->lock);
}

void vmm_filter_end_held(struct vmm_filter *f, struct vmm_block_request *request, int result)
{
    pthread_mutex_lock(&f->lock);
    bool held = vmm_block_list_remove(&f->held, request);
    pthread_mutex_unlock(&f->lock);
    if (held)
        vmm_block_complete(f->self, request, result);
}

void vmm_filter_release_all(struct vmm_filter *f)
{
    struct vmm_block_request *request;
    pthread_mutex_lock(&f->lock);
    vmm_block_plug(f->child);
    while ((request = vmm_block_list_pop(&f->held)))
        vmm_filter_forward(f, request);
    vmm_block_unplug(f->child);
    pthread_mutex_unlock(&f->lock);
}

static void end_dropped(struct vmm_filter *f)
{
    struct vmm_block_request *request;
    pthread_mutex_lock(&f->lock);
    while ((request = vmm_block_list_pop(&f->dropped)))
        vmm_block_collect(f->self, request, -ECANCELED);
    pthread_mutex_unlock(&f->lock);
    struct vmm_block_list failed = f->failed;
    f->failed = (struct vmm_block_list){0};
    while ((request = vmm_block_list_pop(&failed)))
        if (f->ended)
            f->ended(f, request, -ENOMEM);
        else
            vmm_block_collect(f->self, request, -ENOMEM);
}

static void wake(void *ctx)
{
    struct vmm_filter *f = ctx;
    vmm_block_ref(f->self);
    end_dropped(f);
    if (f->wake)
        f->wake(f);
    vmm_block_deliver(f->self);
    vmm_block_unref(f->self);
}

void vmm_filter_wake_at(struct vmm_filter *f, uint64_t deadline_ns)
{
    (void)vmm_timer_set(f->timer, deadline_ns);
}

uint64_t vmm_filter_now(const struct vmm_filter *f)
{
    return vmm_loop_now(vmm_block_loop(f->child));
}

/* Operations ----------------------------------------------------------------------------------- */

int vmm_filter_info(void *ctx, struct vmm_block_info *info)
{
    return vmm_block_get_info(((struct vmm_filter *)ctx)->child, info);
}

int vmm_filter_extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *extent)
{
    return vmm_block_extent_at(((struct vmm_filter *)ctx)->child, offset, length, extent);
}

int vmm_filter_resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    return vmm_block_resize(((struct vmm_filter *)ctx)->child, length, err);
}

void vmm_filter_cancel(void *ctx, struct vmm_block_request *request)
{
    struct vmm_filter *f = ctx;
    struct vmm_filter_request *r =
        (struct vmm_filter_request *)(uintptr_t)request->reserved[VMM_FILTER_WORD_BELOW];
    if (r)
        vmm_block_cancel(f->child, &r->below);
    else
        vmm_filter_end_held(f, request, -ECANCELED);
}

void vmm_filter_quiesce(void *ctx)
{
    struct vmm_filter *f = ctx;
    struct vmm_block_request *request;
    bool any = false;
    pthread_mutex_lock(&f->lock);
    while ((request = vmm_block_list_pop(&f->held))) {
        vmm_block_list_append(&f->dropped, request);
        any = true;
    }
    pthread_mutex_unlock(&f->lock);
    if (any)
        (void)vmm_timer_set(f->timer, 0);
    vmm_block_quiesce(f->child);
}

void vmm_filter_drain(void *ctx)
{
    struct vmm_filter *f = ctx;
    if (f->let_go)
        f->let_go(f);
    else
        vmm_filter_release_all(f);
    end_dropped(f);
    vmm_block_drain(f->child);
}

void vmm_filter_plug(void *ctx, uint32_t on)
{
    struct vmm_filter *f = ctx;
    if (on)
        vmm_block_plug(f->child);
    else
        vmm_block_unplug(f->child);
}

void vmm_filter_destroy(void *ctx)
{
    struct vmm_filter *f = ctx;
    vmm_timer_free(f->timer);
    vmm_block_unref(f->child);
    pthread_mutex_destroy(&f->lock);
    while (f->free) {
        struct vmm_filter_request *next = f->free->next;
        free(f->free);
        f->free = next;
    }
    free(f);
}

int vmm_filter_init(struct vmm_filter *f, struct vmm_block *child)
{
    int rc = vmm_timer_new(vmm_block_loop(child), wake, f, &f->timer);
    if (rc)
        return rc;
    pthread_mutex_init(&f->lock, NULL);
    f->child = vmm_block_ref(child);
    return 0;
}

int vmm_filter_publish(struct vmm_filter *f, const struct vmm_block_ops *ops,
                       struct vmm_block **out, struct vmm_error *err)
{
    int rc = vmm_block_new(vmm_block_loop(f->child), ops, f, &f->self);
    if (rc) {
        vmm_filter_destroy(f);
        return vmm_error_set(err, rc, "block filter: %s", strerror(-rc));
    }
    *out = f->self;
    return 0;
}
