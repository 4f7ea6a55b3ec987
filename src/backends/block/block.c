/* SPDX-License-Identifier: BSD-3-Clause */
/* Block devices, the part that all drivers share: checks, the order of completions, waiting. */
#include "backends/block/block-driver.h"
#include "base/util.h"

#include <libvmm/block.h>

#include <stdatomic.h>
#include <stdlib.h>

/* What we keep in a request while it is under way; the rest of `reserved` is the driver's. */
#define NEXT   0
#define RESULT 1

#define TURNS 16u

struct vmm_block {
    _Atomic uint32_t refs;
    struct vmm_loop *loop;
    struct vmm_timer *timer; /* wakes the loop for what is finished */
    struct vmm_block_ops ops;
    void *ctx;
    struct vmm_block_info info;
    uint32_t in_flight;
    uint32_t plugs;
    bool telling; /* tell() runs and will see what is added to the list */
    struct vmm_block_request *finished, *last;
};

/* Completion ----------------------------------------------------------------------------------- */

static struct vmm_block_request *next_of(const struct vmm_block_request *request)
{
    return (struct vmm_block_request *)(uintptr_t)request->reserved[NEXT];
}

void vmm_block_collect(struct vmm_block *b, struct vmm_block_request *request, int result)
{
    request->reserved[NEXT] = 0;
    request->reserved[RESULT] = (uint64_t)(int64_t)result;
    if (b->last)
        b->last->reserved[NEXT] = (uintptr_t)request;
    else
        b->finished = request;
    b->last = request;
}

void vmm_block_complete(struct vmm_block *b, struct vmm_block_request *request, int result)
{
    bool first = !b->last;
    vmm_block_collect(b, request, result);
    if (first && !b->telling)
        (void)vmm_timer_set(b->timer, 0);
}

static void tell_those(struct vmm_block *b)
{
    struct vmm_block_request *request = b->finished;
    b->finished = b->last = NULL;
    while (request) {
        struct vmm_block_request *next = next_of(request);
        b->in_flight--;
        request->done(request, (int)(int64_t)request->reserved[RESULT]);
        request = next;
    }
}

/* Requests submitted from `done` are begun together. Those among them that finish at once (cached
 * data) get further turns here, but not for ever: others use the loop too. */
static void tell(void *ctx)
{
    struct vmm_block *b = ctx;
    if (b->telling)
        return;
    vmm_block_ref(b);
    b->telling = true;
    for (uint32_t turn = 0; b->finished && turn < TURNS; turn++) {
        vmm_block_plug(b);
        tell_those(b);
        vmm_block_unplug(b);
    }
    b->telling = false;
    if (b->finished)
        (void)vmm_timer_set(b->timer, 0);
    vmm_block_unref(b);
}

void vmm_block_deliver(struct vmm_block *b)
{
    if (b->finished)
        tell(b);
}

/* Requests ------------------------------------------------------------------------------------- */

static bool sum_is(const struct iovec *vector, size_t count, uint64_t length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(sum, vector[i].iov_len, &sum))
            return false;
    return sum == length;
}

static int check(const struct vmm_block *b, const struct vmm_block_request *r)
{
    uint64_t unit = b->info.block_size;
    if (r->op > VMM_BLOCK_WRITE_ZEROES)
        return -ENOTSUP;
    if (r->op == VMM_BLOCK_FLUSH)
        return 0;
    if (r->op != VMM_BLOCK_READ && b->info.read_only)
        return -EACCES;
    if (r->offset % unit || r->length % unit || r->offset > b->info.length ||
        r->length > b->info.length - r->offset)
        return -EINVAL;
    if (r->op <= VMM_BLOCK_WRITE && !sum_is(r->vector, r->vector_count, r->length))
        return -EINVAL;
    return 0;
}

void vmm_block_submit(struct vmm_block *b, struct vmm_block_request *request)
{
    int rc = check(b, request);
    b->in_flight++;
    if (rc || (request->length == 0 && request->op != VMM_BLOCK_FLUSH))
        vmm_block_complete(b, request, rc);
    else
        b->ops.submit(b->ctx, request);
}

void vmm_block_plug(struct vmm_block *b)
{
    if (b->plugs++ == 0 && b->ops.plug)
        b->ops.plug(b->ctx, 1);
}

void vmm_block_unplug(struct vmm_block *b)
{
    if (b->plugs && --b->plugs == 0 && b->ops.plug)
        b->ops.plug(b->ctx, 0);
}

void vmm_block_cancel(struct vmm_block *b, struct vmm_block_request *request)
{
    if (b->ops.cancel)
        b->ops.cancel(b->ctx, request);
}

uint32_t vmm_block_in_flight(const struct vmm_block *b)
{
    return b->in_flight;
}

void vmm_block_quiesce(struct vmm_block *b)
{
    if (b->ops.quiesce)
        b->ops.quiesce(b->ctx);
}

void vmm_block_drain(struct vmm_block *b)
{
    while (b->in_flight) {
        if (b->ops.drain)
            b->ops.drain(b->ctx);
        else
            vmm_block_quiesce(b);
        if (b->ops.reap)
            b->ops.reap(b->ctx);
        tell_those(b);
    }
}

/* Information ---------------------------------------------------------------------------------- */

static int refresh_info(struct vmm_block *b)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = b->ops.info(b->ctx, &info);
    if (!rc && (info.block_size < 512 || !vmm_is_power_of_two(info.block_size) ||
                info.length % info.block_size))
        rc = -EINVAL;
    if (!rc)
        b->info = info;
    return rc;
}

int vmm_block_get_info(struct vmm_block *b, struct vmm_block_info *info)
{
    int rc = refresh_info(b);
    return rc ? rc : vmm_info_copy(info, &b->info, sizeof(b->info));
}

int vmm_block_extent_at(struct vmm_block *b, uint64_t offset, uint64_t length,
                        struct vmm_block_extent *extent)
{
    if (offset >= b->info.length || length == 0 || length > b->info.length - offset)
        return -EINVAL;
    *extent =
        (struct vmm_block_extent){.offset = offset, .length = length, .state = VMM_BLOCK_DATA};
    return b->ops.extent ? b->ops.extent(b->ctx, offset, length, extent) : 0;
}

int vmm_block_resize(struct vmm_block *b, uint64_t length, struct vmm_error *err)
{
    if (!b->ops.resize)
        return vmm_error_set(err, -ENOTSUP, "this image cannot change its size");
    if (b->info.read_only)
        return vmm_error_set(err, -EACCES, "the image is read-only");
    if (length % b->info.block_size || length > INT64_MAX)
        return vmm_error_set(err, -EINVAL, "a length of %llu bytes is not a multiple of %u",
                             (unsigned long long)length, b->info.block_size);
    vmm_block_drain(b);
    int rc = b->ops.resize(b->ctx, length, err);
    return rc ? rc : refresh_info(b);
}

bool vmm_block_list_remove(struct vmm_block_list *list, struct vmm_block_request *request)
{
    struct vmm_block_list rest = {0};
    struct vmm_block_request *r;
    bool found = false;
    while ((r = vmm_block_list_pop(list)))
        if (r == request)
            found = true;
        else
            vmm_block_list_append(&rest, r);
    *list = rest;
    return found;
}

/* Life ----------------------------------------------------------------------------------------- */

int vmm_block_new(struct vmm_loop *loop, const struct vmm_block_ops *ops, void *ctx,
                  struct vmm_block **out)
{
    if (!loop || !ops || !out)
        return -EINVAL;
    struct vmm_block *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    atomic_init(&b->refs, 1);
    b->ctx = ctx;
    int rc = vmm_options_copy(&b->ops, sizeof(b->ops), ops);
    if (!rc && (!b->ops.submit || !b->ops.info))
        rc = -EINVAL;
    if (!rc)
        rc = refresh_info(b);
    if (!rc)
        rc = vmm_timer_new(loop, tell, b, &b->timer);
    if (rc) {
        free(b);
        return rc;
    }
    b->loop = vmm_loop_ref(loop);
    *out = b;
    return 0;
}

struct vmm_block *vmm_block_ref(struct vmm_block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

struct vmm_block *vmm_block_unref(struct vmm_block *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    vmm_timer_free(b->timer);
    if (b->ops.destroy)
        b->ops.destroy(b->ctx);
    vmm_loop_unref(b->loop);
    free(b);
    return NULL;
}

void *vmm_block_driver_of(const struct vmm_block *b,
                          void (*submit)(void *ctx, struct vmm_block_request *request))
{
    return b->ops.submit == submit ? b->ctx : NULL;
}

struct vmm_loop *vmm_block_loop(const struct vmm_block *b)
{
    return b->loop;
}

/* One request at a time ------------------------------------------------------------------------ */

struct waiter {
    bool done;
    int result;
};

static void waited_for(struct vmm_block_request *request, int result)
{
    struct waiter *w = request->ctx;
    w->result = result;
    w->done = true;
}

static int run(struct vmm_block *b, struct vmm_block_request *request)
{
    struct waiter w = {.done = false};
    request->done = waited_for;
    request->ctx = &w;
    vmm_block_submit(b, request);
    while (!w.done) {
        int rc = vmm_loop_dispatch(b->loop, -1);
        if (rc < 0)
            vmm_block_drain(b); /* the request is on our stack: it must not outlive us */
    }
    return w.result;
}

int vmm_block_read(struct vmm_block *b, uint64_t offset, void *data, size_t length)
{
    struct iovec vector = {.iov_base = data, .iov_len = length};
    struct vmm_block_request request = {.op = VMM_BLOCK_READ,
                                        .offset = offset,
                                        .length = length,
                                        .vector = &vector,
                                        .vector_count = 1};
    return run(b, &request);
}

int vmm_block_write(struct vmm_block *b, uint64_t offset, const void *data, size_t length)
{
    struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct vmm_block_request request = {.op = VMM_BLOCK_WRITE,
                                        .offset = offset,
                                        .length = length,
                                        .vector = &vector,
                                        .vector_count = 1};
    return run(b, &request);
}

int vmm_block_flush(struct vmm_block *b)
{
    struct vmm_block_request request = {.op = VMM_BLOCK_FLUSH};
    return run(b, &request);
}

int vmm_block_range(struct vmm_block *b, uint32_t op, uint32_t flags, uint64_t offset,
                    uint64_t length)
{
    struct vmm_block_request request = {
        .op = op, .flags = flags, .offset = offset, .length = length};
    if (op != VMM_BLOCK_DISCARD && op != VMM_BLOCK_WRITE_ZEROES)
        return -EINVAL;
    return run(b, &request);
}
