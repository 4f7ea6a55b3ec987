/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk over the network, by libnbd. A request becomes one command, or several where it is longer than
 * the server takes; they go over the connections in turn. What was under way when the server was lost
 * waits, and is sent again.
 *
 * libnbd calls back from whichever thread drives the handle, which may be one that waits in quiesce():
 * so a command's end only counts down and puts the request into a list. `handles` keeps a handle from
 * being closed while that thread uses it; it is taken before `lock`.
 */
#include "backends/block/block-driver.h"
#include "base/util.h"

#include <libvmm/nbd.h>

#include "config.h"

#ifdef HAVE_LIBNBD
#include "backends/block/nbd.h"

#include <stdlib.h>

#define RETRY_MIN_NS 100000000ull
#define RETRY_MAX_NS 5000000000ull
#define QUIESCE_MS   10

/* Connections ---------------------------------------------------------------------------------- */

static struct vmm_nbd_connection *one_that_is_up(struct vmm_nbd *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        struct vmm_nbd_connection *c = &n->connections[n->next++ % n->count];
        if (c->state == VMM_NBD_UP)
            return c;
    }
    return NULL;
}

static void watch(struct vmm_nbd_connection *c)
{
    unsigned direction = c->handle ? c->nbd->lib.aio_get_direction(c->handle) : 0;
    uint32_t events = (direction & LIBNBD_AIO_DIRECTION_READ ? VMM_POLL_IN : 0) |
                      (direction & LIBNBD_AIO_DIRECTION_WRITE ? VMM_POLL_OUT : 0);
    if (c->source)
        (void)vmm_source_set_events(c->source, events);
}

static void begin(struct vmm_nbd *n, struct vmm_block_request *r)
{
    struct vmm_nbd_connection *to = one_that_is_up(n);
    struct vmm_nbd_command *c;
    uint64_t most;
    if (!to) {
        if (n->lost_since + n->reconnect_ns <= vmm_loop_now(n->loop)) {
            vmm_block_complete(n->block, r, -ENOTCONN);
            return;
        }
        pthread_mutex_lock(&n->lock);
        vmm_block_list_append(&n->waiting, r);
        pthread_mutex_unlock(&n->lock);
        return;
    }
    bool flush = r->op == VMM_BLOCK_FLUSH || r->reserved[VMM_NBD_WORD_PHASE] == VMM_NBD_FLUSH;
    c = calloc(1, sizeof(*c));
    if (c)
        *c = (struct vmm_nbd_command){.nbd = n, .request = r, .left = 1};
    if (!c || (!flush && vmm_nbd_prepare(c, &most))) {
        free(c);
        vmm_block_complete(n->block, r, -ENOMEM);
        return;
    }
    r->reserved[VMM_NBD_WORD_COMMAND] = (uintptr_t)c;
    pthread_mutex_lock(&n->lock);
    n->under_way++;
    pthread_mutex_unlock(&n->lock);
    if (flush)
        vmm_nbd_issue_flush(to->handle, c);
    else
        vmm_nbd_issue_parts(to->handle, c, most);
    vmm_nbd_part_ended(c, 0); /* our own */
    watch(to);
    pthread_mutex_lock(&n->lock);
    bool ended = n->ended.first != NULL; /* before the server has seen it */
    pthread_mutex_unlock(&n->lock);
    if (ended)
        (void)vmm_timer_set(n->timer, 0);
}

/* A request has no parts left with the server. */
static void settle(struct vmm_nbd *n, struct vmm_block_request *r)
{
    struct vmm_nbd_command *c =
        (struct vmm_nbd_command *)(uintptr_t)r->reserved[VMM_NBD_WORD_COMMAND];
    int result = c ? c->result : (int)(int64_t)r->reserved[VMM_NBD_WORD_RESULT];
    bool lost = c && c->lost && !result;
    bool flushed = r->op == VMM_BLOCK_FLUSH || r->reserved[VMM_NBD_WORD_PHASE] == VMM_NBD_FLUSH;
    if (c)
        free(c->buffer);
    free(c);
    r->reserved[VMM_NBD_WORD_COMMAND] = 0;
    if (lost) {
        begin(n, r);
        return;
    }
    if (result && flushed && result != -ECANCELED)
        n->flush_failed = true; /* see block.h */
    if (!result && !flushed && (r->flags & VMM_BLOCK_FUA) && r->op != VMM_BLOCK_READ &&
        !n->can_fua && n->can_flush) {
        r->reserved[VMM_NBD_WORD_PHASE] = VMM_NBD_FLUSH;
        begin(n, r);
        return;
    }
    vmm_block_complete(n->block, r, result);
}

static void reap(void *ctx)
{
    struct vmm_nbd *n = ctx;
    struct vmm_block_request *r;
    pthread_mutex_lock(&n->lock);
    struct vmm_block_list ended = n->ended;
    n->ended = (struct vmm_block_list){0};
    pthread_mutex_unlock(&n->lock);
    while ((r = vmm_block_list_pop(&ended)))
        settle(n, r);
}

/* Connecting ----------------------------------------------------------------------------------- */

static void close_connection(struct vmm_nbd_connection *c)
{
    pthread_mutex_lock(&c->nbd->handles);
    c->source = vmm_source_free(c->source);
    c->nbd->lib.close(c->handle); /* ends what is under way: -ENOTCONN */
    c->handle = NULL;
    c->state = VMM_NBD_DOWN;
    pthread_mutex_unlock(&c->nbd->handles);
}

static bool any_up(const struct vmm_nbd *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (n->connections[i].state == VMM_NBD_UP)
            return true;
    return false;
}

static void lost(struct vmm_nbd_connection *c)
{
    struct vmm_nbd *n = c->nbd;
    uint64_t now = vmm_loop_now(n->loop);
    bool was_up = c->state == VMM_NBD_UP;
    close_connection(c);
    c->backoff = was_up ? RETRY_MIN_NS : c->backoff * 2;
    if (c->backoff > RETRY_MAX_NS)
        c->backoff = RETRY_MAX_NS;
    c->retry_at = now + c->backoff;
    if (was_up && !any_up(n))
        n->lost_since = now;
    (void)vmm_timer_set(n->timer, 0);
}

/* The same disk as before? */
static void is_up(struct vmm_nbd_connection *c)
{
    struct vmm_nbd *n = c->nbd;
    struct vmm_block_request *r;
    if (n->lib.get_size(c->handle) != (int64_t)n->length ||
        (!n->read_only && n->lib.is_read_only(c->handle) != 0)) {
        lost(c);
        return;
    }
    c->state = VMM_NBD_UP;
    pthread_mutex_lock(&n->lock);
    struct vmm_block_list waiting = n->waiting;
    n->waiting = (struct vmm_block_list){0};
    pthread_mutex_unlock(&n->lock);
    while ((r = vmm_block_list_pop(&waiting)))
        begin(n, r);
}

static void ready(void *ctx, uint32_t events)
{
    struct vmm_nbd_connection *c = ctx;
    struct vmm_nbd *n = c->nbd;
    unsigned direction = n->lib.aio_get_direction(c->handle);
    vmm_block_ref(n->block);
    if ((events & VMM_POLL_OUT) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
        (void)n->lib.aio_notify_write(c->handle);
    else if (direction & LIBNBD_AIO_DIRECTION_READ)
        (void)n->lib.aio_notify_read(c->handle);
    else
        (void)n->lib.aio_notify_write(c->handle);
    if (n->lib.aio_is_dead(c->handle) > 0 || n->lib.aio_is_closed(c->handle) > 0)
        lost(c);
    else if (c->state == VMM_NBD_CONNECTING && n->lib.aio_is_ready(c->handle) > 0)
        is_up(c);
    reap(n);
    watch(c);
    vmm_block_deliver(n->block);
    vmm_block_unref(n->block);
}

static int make_handle(struct vmm_nbd_connection *c)
{
    const struct vmm_nbd *n = c->nbd;
    struct nbd_handle *h = n->lib.create();
    if (!h)
        return -ENOMEM;
    bool ok = n->lib.add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
    if (ok && n->tls_certificates)
        ok = n->lib.set_tls_certificates(h, n->tls_certificates) == 0;
    if (ok && n->tls_psk_file)
        ok = n->lib.set_tls_psk_file(h, n->tls_psk_file) == 0;
    if (!ok) {
        n->lib.close(h);
        return -EINVAL;
    }
    c->handle = h;
    return 0;
}

static int add_source(struct vmm_nbd_connection *c)
{
    int fd = c->nbd->lib.aio_get_fd(c->handle);
    return fd < 0 ? -EIO : vmm_source_new(c->nbd->loop, fd, 0, ready, c, &c->source);
}

static void connect_again(struct vmm_nbd_connection *c)
{
    int rc;
    pthread_mutex_lock(&c->nbd->handles);
    rc = make_handle(c);
    pthread_mutex_unlock(&c->nbd->handles);
    c->state = VMM_NBD_CONNECTING;
    if (!rc && c->nbd->lib.aio_connect_uri(c->handle, c->nbd->uri) < 0)
        rc = -ECONNREFUSED;
    if (!rc)
        rc = add_source(c);
    if (rc)
        lost(c);
    else if (c->nbd->lib.aio_is_ready(c->handle) > 0)
        is_up(c);
    watch(c);
}

/* Connections to be made again, requests that have waited long enough. */
static void attend(struct vmm_nbd *n)
{
    uint64_t now = vmm_loop_now(n->loop), next = UINT64_MAX;
    struct vmm_block_request *r;
    struct vmm_block_list late = {0};
    for (uint32_t i = 0; i < n->count; i++) {
        struct vmm_nbd_connection *c = &n->connections[i];
        if (c->state == VMM_NBD_DOWN && c->retry_at <= now)
            connect_again(c);
        if (c->state == VMM_NBD_DOWN && c->retry_at < next)
            next = c->retry_at;
    }
    bool expired = !any_up(n) && n->lost_since + n->reconnect_ns <= now;
    pthread_mutex_lock(&n->lock);
    if (expired) {
        late = n->waiting;
        n->waiting = (struct vmm_block_list){0};
    } else if (n->waiting.first && n->lost_since + n->reconnect_ns < next) {
        next = n->lost_since + n->reconnect_ns;
    }
    pthread_mutex_unlock(&n->lock);
    while ((r = vmm_block_list_pop(&late)))
        vmm_block_complete(n->block, r, -ENOTCONN);
    if (next != UINT64_MAX)
        (void)vmm_timer_set(n->timer, next);
}

static void time_is_up(void *ctx)
{
    struct vmm_nbd *n = ctx;
    vmm_block_ref(n->block);
    attend(n);
    reap(n);
    vmm_block_deliver(n->block);
    vmm_block_unref(n->block);
}

/* Operations ----------------------------------------------------------------------------------- */

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct vmm_nbd *n = ctx;
    r->reserved[VMM_NBD_WORD_COMMAND] = 0;
    r->reserved[VMM_NBD_WORD_PHASE] = VMM_NBD_MAIN;
    bool flush = r->op == VMM_BLOCK_FLUSH && !n->read_only;
    bool nothing = (r->op == VMM_BLOCK_FLUSH && (n->read_only || !n->can_flush)) ||
                   (r->op == VMM_BLOCK_DISCARD && !n->can_trim);
    if (flush && n->flush_failed)
        vmm_block_complete(n->block, r, -EIO);
    else if (nothing)
        vmm_block_complete(n->block, r, 0);
    else
        begin(n, r);
}

static void cancel(void *ctx, struct vmm_block_request *r)
{
    struct vmm_nbd *n = ctx;
    pthread_mutex_lock(&n->lock);
    bool waited = vmm_block_list_remove(&n->waiting, r);
    pthread_mutex_unlock(&n->lock);
    if (waited)
        vmm_block_complete(n->block, r, -ECANCELED);
}

static uint32_t under_way(struct vmm_nbd *n)
{
    pthread_mutex_lock(&n->lock);
    uint32_t count = n->under_way;
    pthread_mutex_unlock(&n->lock);
    return count;
}

/* What waits for the server, or would be sent to it again, must not be sent any more. */
static void drop_waiting(struct vmm_nbd *n)
{
    struct vmm_block_request *r;
    pthread_mutex_lock(&n->lock);
    for (r = n->ended.first; r; r = vmm_block_list_next(r)) {
        struct vmm_nbd_command *c =
            (struct vmm_nbd_command *)(uintptr_t)r->reserved[VMM_NBD_WORD_COMMAND];
        if (c && c->lost && !c->result)
            c->result = -ECANCELED;
    }
    while ((r = vmm_block_list_pop(&n->waiting))) {
        r->reserved[VMM_NBD_WORD_COMMAND] = 0;
        r->reserved[VMM_NBD_WORD_RESULT] = (uint64_t)(int64_t)-ECANCELED;
        vmm_block_list_append(&n->ended, r);
    }
    bool any = n->ended.first != NULL;
    pthread_mutex_unlock(&n->lock);
    if (any)
        (void)vmm_timer_set(n->timer, 0);
}

static void quiesce(void *ctx)
{
    struct vmm_nbd *n = ctx;
    pthread_mutex_lock(&n->handles);
    while (under_way(n))
        for (uint32_t i = 0; i < n->count; i++)
            if (n->connections[i].handle && n->connections[i].state == VMM_NBD_UP)
                (void)n->lib.poll(n->connections[i].handle, QUIESCE_MS);
    drop_waiting(n);
    pthread_mutex_unlock(&n->handles);
}

static int info(void *ctx, struct vmm_block_info *out)
{
    const struct vmm_nbd *n = ctx;
    out->length = n->length;
    out->block_size = n->block_size;
    out->optimal_size = n->optimal_size;
    out->discard_alignment = n->can_trim ? n->block_size : 0;
    out->read_only = n->read_only;
    out->zero_is_cheap = n->can_zero;
    memcpy(out->format, "nbd", 4);
    return 0;
}

static int first_extent(void *ctx, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct vmm_block_extent *out = ctx;
    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || count < 2 || entries[0] == 0 ||
        offset != out->offset)
        return 0;
    if (entries[0] < out->length)
        out->length = entries[0];
    if (entries[1] & LIBNBD_STATE_ZERO)
        out->state = VMM_BLOCK_ZERO;
    return 0;
}

/* Blocks for one question to the server. */
static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    struct vmm_nbd *n = ctx;
    struct vmm_nbd_connection *c = one_that_is_up(n);
    nbd_extent_callback each = {.callback = first_extent, .user_data = out};
    if (!n->has_extents || !c)
        return n->has_extents ? -ENOTCONN : 0;
    uint64_t asked = length < VMM_NBD_RANGE_PART_MAX ? length : VMM_NBD_RANGE_PART_MAX;
    asked = vmm_align_up(offset + asked, n->block_size);
    uint64_t from = offset - offset % n->block_size;
    out->offset = from;
    out->length = asked - from;
    int rc = n->lib.block_status(c->handle, asked - from, from, each, LIBNBD_CMD_FLAG_REQ_ONE);
    out->length -= offset - from;
    out->offset = offset;
    if (out->length > length)
        out->length = length;
    (void)vmm_timer_set(n->timer, 0); /* others may have ended meanwhile */
    watch(c);
    return rc < 0 ? -EIO : 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct vmm_nbd *n = ctx;
    for (uint32_t i = 0; i < n->count; i++) {
        struct vmm_nbd_connection *c = &n->connections[i];
        if (c->state == VMM_NBD_UP)
            (void)n->lib.shutdown(c->handle, 0);
        close_connection(c);
    }
    vmm_timer_free(n->timer);
    vmm_loop_unref(n->loop);
    pthread_mutex_destroy(&n->handles);
    pthread_mutex_destroy(&n->lock);
    free(n->uri);
    free(n->tls_certificates);
    free(n->tls_psk_file);
    free(n);
}

static int connect_first(struct vmm_nbd_connection *c, struct vmm_error *err)
{
    int rc = make_handle(c);
    if (!rc && c->nbd->lib.connect_uri(c->handle, c->nbd->uri) < 0)
        rc = c->nbd->lib.get_errno() ? -c->nbd->lib.get_errno() : -ECONNREFUSED;
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", c->nbd->uri, c->nbd->lib.get_error());
    rc = add_source(c);
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", c->nbd->uri, strerror(-rc));
    c->state = VMM_NBD_UP;
    watch(c);
    return 0;
}

static uint32_t size_of_kind(const struct vmm_nbd *n, struct nbd_handle *h, int kind,
                             uint32_t least, uint32_t most)
{
    int64_t size = n->lib.get_block_size(h, kind);
    if (size < (int64_t)least)
        return size <= 0 && kind == LIBNBD_SIZE_MAXIMUM ? most : least;
    return size > (int64_t)most ? most : (uint32_t)size;
}

static int learn(struct vmm_nbd *n, struct nbd_handle *h, struct vmm_error *err)
{
    int64_t length = n->lib.get_size(h);
    n->block_size = size_of_kind(n, h, LIBNBD_SIZE_MINIMUM, 512, 65536);
    n->optimal_size = size_of_kind(n, h, LIBNBD_SIZE_PREFERRED, 4096, VMM_NBD_PART_MAX);
    n->part_max = size_of_kind(n, h, LIBNBD_SIZE_MAXIMUM, 65536, VMM_NBD_PART_MAX);
    n->part_max -= n->part_max % n->block_size;
    if (length <= 0 || length % n->block_size || !vmm_is_power_of_two(n->block_size) ||
        n->block_size > 4096)
        return vmm_error_set(err, -EINVAL, "%s has %lld bytes in blocks of %u: no disk", n->uri,
                             (long long)length, n->block_size);
    n->length = (uint64_t)length;
    n->read_only |= n->lib.is_read_only(h) != 0;
    n->can_flush = n->lib.can_flush(h) > 0;
    n->can_fua = n->lib.can_fua(h) > 0;
    n->can_trim = n->lib.can_trim(h) > 0;
    n->can_zero = n->lib.can_zero(h) > 0;
    n->has_extents = n->lib.can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
    return 0;
}

static int connect_all(struct vmm_nbd *n, uint32_t wanted, struct vmm_error *err)
{
    for (uint32_t i = 0; i < VMM_BLOCK_NBD_CONNECTIONS_MAX; i++)
        n->connections[i].nbd = n;
    n->count = 1;
    int rc = connect_first(&n->connections[0], err);
    if (!rc)
        rc = learn(n, n->connections[0].handle, err);
    /* Without its promise, a flush on one would not hold for the others. */
    if (!rc && n->lib.can_multi_conn(n->connections[0].handle) <= 0)
        wanted = 1;
    for (uint32_t i = 1; i < wanted && !rc; i++) {
        n->count = i + 1;
        rc = connect_first(&n->connections[i], err);
    }
    return rc;
}

static int copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

static int fill_in(struct vmm_nbd *n, struct vmm_loop *loop, const struct vmm_block_nbd_options *o)
{
    pthread_mutex_init(&n->handles, NULL);
    pthread_mutex_init(&n->lock, NULL);
    n->loop = vmm_loop_ref(loop);
    n->reconnect_ns = o->reconnect_ns;
    n->read_only = o->read_only != 0;
    int rc = copy_text(&n->uri, o->uri);
    if (!rc)
        rc = copy_text(&n->tls_certificates, o->tls_certificates);
    if (!rc)
        rc = copy_text(&n->tls_psk_file, o->tls_psk_file);
    return rc ? rc : vmm_timer_new(loop, time_is_up, n, &n->timer);
}

static int make(struct vmm_loop *loop, const struct vmm_block_nbd_options *o,
                struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = submit,
        .info = info,
        .extent = extent,
        .cancel = cancel,
        .quiesce = quiesce,
        .reap = reap,
        .destroy = destroy,
    };
    struct vmm_nbd *n = calloc(1, sizeof(*n));
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = vmm_nbd_library_load(&n->lib, err);
    if (rc) {
        free(n);
        return rc;
    }
    rc = fill_in(n, loop, o);
    if (rc)
        (void)vmm_error_set(err, rc, "%s: %s", o->uri, strerror(-rc));
    else
        rc = connect_all(n, o->connections ? o->connections : 1, err);
    if (!rc) {
        rc = vmm_block_new(loop, &ops, n, &n->block);
        if (rc)
            (void)vmm_error_set(err, rc, "%s: %s", o->uri, strerror(-rc));
    }
    if (rc)
        destroy(n);
    else
        *out = n->block;
    return rc;
}

int vmm_block_nbd_connections(const struct vmm_block *block)
{
    const struct vmm_nbd *n = block ? vmm_block_driver_of(block, submit) : NULL;
    int up = 0;
    if (!n)
        return -EINVAL;
    for (uint32_t i = 0; i < n->count; i++)
        up += n->connections[i].state == VMM_NBD_UP;
    return up;
}

#else

int vmm_block_nbd_connections(const struct vmm_block *block)
{
    (void)block;
    return -EINVAL;
}

static int make(struct vmm_loop *loop, const struct vmm_block_nbd_options *o,
                struct vmm_block **out, struct vmm_error *err)
{
    (void)loop;
    (void)out;
    return vmm_error_set(err, -ENOTSUP, "%s: the library was built without libnbd", o->uri);
}

#endif

int vmm_block_nbd_new(struct vmm_loop *loop, const struct vmm_block_nbd_options *given,
                      struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_block_nbd_options o;
    if (!loop || !given || !out || vmm_options_copy(&o, sizeof(o), given) || !o.uri)
        return vmm_error_set(err, -EINVAL, "network disk: bad options");
    if (o.connections > VMM_BLOCK_NBD_CONNECTIONS_MAX)
        return vmm_error_set(err, -EINVAL, "network disk: at most %u connections",
                             VMM_BLOCK_NBD_CONNECTIONS_MAX);
    return make(loop, &o, out, err);
}
