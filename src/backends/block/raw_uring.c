/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Raw images by io_uring. The loop watches the ring's own descriptor, which is readable while there
 * are completions, so that no eventfd has to be read. Requests that come between plug and unplug go
 * to the kernel by one system call, and what finishes at once is taken back by the same.
 *
 * The ring has a lock because vmm_block_quiesce() may come from another thread.
 */
#include "backends/block/raw.h"
#include "base/util.h"

#include "config.h"

#ifdef HAVE_LIBURING
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

#define ENTRIES   256u
#define IN_KERNEL 512u /* the completion queue's size: it never overflows */
#define RETRY_NS  1000000u

enum stage {
    STAGE_TRANSFER,
    STAGE_FLUSH,
    STAGE_FALLOCATE,
    STAGE_ZEROES, /* written, where the file system cannot fallocate */
};

struct vmm_raw_uring {
    struct io_uring ring;
    struct vmm_source *source;
    struct vmm_timer *retry;
    bool plugged, registered;
    uint32_t in_kernel; /* begun, or in the submission queue */
};

static uint64_t done_of(const struct vmm_block_request *r)
{
    return r->reserved[VMM_RAW_WORD_DONE];
}

static struct iovec *piece_of(struct vmm_block_request *r)
{
    _Static_assert(sizeof(struct iovec) <= 2 * sizeof(r->reserved[0]), "two words hold a piece");
    return (struct iovec *)(void *)&r->reserved[VMM_RAW_WORD_PIECE];
}

/* Submission ----------------------------------------------------------------------------------- */

static void use_fd(const struct vmm_raw *raw, struct io_uring_sqe *sqe, int fd)
{
    if (!raw->uring->registered)
        return;
    sqe->fd = fd == raw->fd ? 0 : 1;
    sqe->flags |= IOSQE_FIXED_FILE;
}

static void prepare_transfer(const struct vmm_raw *raw, struct io_uring_sqe *sqe,
                             struct vmm_block_request *r)
{
    uint64_t done = done_of(r);
    struct vmm_raw_rest rest = vmm_raw_rest(r, done, piece_of(r));
    /* A transfer cut short may go on where direct I/O cannot. */
    int fd = done && raw->cached_fd >= 0 ? raw->cached_fd : vmm_raw_fd_for(raw, r);
    const struct iovec *v = rest.vector;
    uint64_t offset = r->offset + done;
    /* One entry needs no vector, which the kernel would have to copy. */
    bool single = rest.count == 1 && v->iov_len <= UINT32_MAX;
    if (r->op == VMM_BLOCK_READ && single)
        io_uring_prep_read(sqe, fd, v->iov_base, (unsigned)v->iov_len, offset);
    else if (r->op == VMM_BLOCK_READ)
        io_uring_prep_readv(sqe, fd, v, rest.count, offset);
    else if (single)
        io_uring_prep_write(sqe, fd, v->iov_base, (unsigned)v->iov_len, offset);
    else
        io_uring_prep_writev(sqe, fd, v, rest.count, offset);
    if (r->op == VMM_BLOCK_WRITE && (r->flags & VMM_BLOCK_FUA) && !raw->unsafe)
        sqe->rw_flags = RWF_DSYNC;
    use_fd(raw, sqe, fd);
}

static void prepare(const struct vmm_raw *raw, struct io_uring_sqe *sqe,
                    struct vmm_block_request *r)
{
    int fd = vmm_raw_fd_for(raw, r);
    switch (r->reserved[VMM_RAW_WORD_STAGE]) {
    case STAGE_TRANSFER:
        prepare_transfer(raw, sqe, r);
        break;
    case STAGE_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        use_fd(raw, sqe, fd);
        break;
    case STAGE_FALLOCATE:
        io_uring_prep_fallocate(sqe, fd, vmm_raw_fallocate_mode(r), (off_t)r->offset,
                                (off_t)r->length);
        use_fd(raw, sqe, fd);
        break;
    default:
        *piece_of(r) = vmm_raw_zeroes(r->length - done_of(r));
        io_uring_prep_write(sqe, fd, piece_of(r)->iov_base, (unsigned)piece_of(r)->iov_len,
                            r->offset + done_of(r));
        use_fd(raw, sqe, fd);
        break;
    }
    io_uring_sqe_set_data(sqe, r);
}

/* The lock is held, in this and all up to reap(). Entries that could not be given to the kernel stay
 * in the submission queue. */
static void enter(struct vmm_raw *raw, uint32_t wait_for)
{
    struct vmm_raw_uring *u = raw->uring;
    int rc = wait_for ? io_uring_submit_and_wait(&u->ring, wait_for) : io_uring_submit(&u->ring);
    /* Out of memory for a moment, most likely: completions may not come to remind us. */
    if (rc < 0 && rc != -EINTR)
        (void)vmm_timer_set(u->retry, vmm_loop_now(vmm_block_loop(raw->block)) + RETRY_NS);
}

static void move_waiting(struct vmm_raw *raw)
{
    struct vmm_raw_uring *u = raw->uring;
    while (raw->waiting.first && u->in_kernel < IN_KERNEL) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (!sqe) {
            enter(raw, 0);
            sqe = io_uring_get_sqe(&u->ring);
        }
        if (!sqe)
            return;
        prepare(raw, sqe, vmm_block_list_pop(&raw->waiting));
        u->in_kernel++;
    }
}

static void finish(struct vmm_raw *raw, struct vmm_block_request *r, int result)
{
    vmm_raw_note_failure(raw, r, result);
    r->reserved[VMM_RAW_WORD_RESULT] = (uint64_t)(int64_t)result;
    vmm_block_list_append(&raw->finished, r);
}

static void begin(struct vmm_raw *raw, struct vmm_block_request *r, enum stage stage)
{
    r->reserved[VMM_RAW_WORD_STAGE] = stage;
    if (stage == STAGE_FLUSH && (raw->unsafe || raw->read_only))
        finish(raw, r, 0);
    else if (stage == STAGE_FLUSH && raw->flush_failed)
        finish(raw, r, -EIO);
    else
        vmm_block_list_append(&raw->waiting, r);
}

/* Completion ----------------------------------------------------------------------------------- */

static void cleared(struct vmm_raw *raw, struct vmm_block_request *r)
{
    if (r->flags & VMM_BLOCK_FUA)
        begin(raw, r, STAGE_FLUSH);
    else
        finish(raw, r, 0);
}

static void moved(struct vmm_raw *raw, struct vmm_block_request *r, int count)
{
    if (count <= 0) { /* 0: the file is shorter than it was */
        finish(raw, r, count ? count : -EIO);
        return;
    }
    r->reserved[VMM_RAW_WORD_DONE] += (uint32_t)count;
    enum stage stage = (enum stage)r->reserved[VMM_RAW_WORD_STAGE];
    if (done_of(r) < r->length)
        begin(raw, r, stage);
    else if (stage == STAGE_ZEROES)
        cleared(raw, r);
    else
        finish(raw, r, 0);
}

static void step_ended(struct vmm_raw *raw, struct vmm_block_request *r, int result)
{
    enum stage stage = (enum stage)r->reserved[VMM_RAW_WORD_STAGE];
    if (result == -EINTR || result == -EAGAIN)
        begin(raw, r, stage);
    else if (stage == STAGE_TRANSFER || stage == STAGE_ZEROES)
        moved(raw, r, result);
    else if (stage == STAGE_FALLOCATE && vmm_raw_cannot_fallocate(result))
        r->op == VMM_BLOCK_DISCARD ? finish(raw, r, 0) : begin(raw, r, STAGE_ZEROES);
    else if (stage == STAGE_FALLOCATE && result == 0)
        cleared(raw, r);
    else
        finish(raw, r, result < 0 ? result : 0);
}

/* Take what the kernel has finished; begin what that allows. */
static void collect(struct vmm_raw *raw)
{
    struct vmm_raw_uring *u = raw->uring;
    struct io_uring_cqe *cqe;
    uint32_t head, count = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        struct vmm_block_request *r = io_uring_cqe_get_data(cqe);
        u->in_kernel--;
        count++;
        if (r) /* else: the answer to a cancellation */
            step_ended(raw, r, cqe->res);
    }
    io_uring_cq_advance(&u->ring, count);
    move_waiting(raw);
}

static void hand_back(struct vmm_raw *raw,
                      void (*complete)(struct vmm_block *block, struct vmm_block_request *request,
                                       int result))
{
    pthread_mutex_lock(&raw->lock);
    struct vmm_block_list finished = raw->finished;
    raw->finished = (struct vmm_block_list){0};
    pthread_mutex_unlock(&raw->lock);
    struct vmm_block_request *r;
    while ((r = vmm_block_list_pop(&finished)))
        complete(raw->block, r, (int)(int64_t)r->reserved[VMM_RAW_WORD_RESULT]);
}

static void go_on(struct vmm_raw *raw)
{
    pthread_mutex_lock(&raw->lock);
    collect(raw);
    if (io_uring_sq_ready(&raw->uring->ring))
        enter(raw, 0);
    pthread_mutex_unlock(&raw->lock);
    hand_back(raw, vmm_block_collect);
}

static void ready(void *ctx, uint32_t events)
{
    struct vmm_raw *raw = ctx;
    (void)events;
    go_on(raw);
    vmm_block_deliver(raw->block);
}

static void try_again(void *ctx)
{
    ready(ctx, 0);
}

/* What the engine offers ----------------------------------------------------------------------- */

void vmm_raw_uring_submit(struct vmm_raw *raw, struct vmm_block_request *r)
{
    static const uint8_t stages[] = {STAGE_TRANSFER, STAGE_TRANSFER, STAGE_FLUSH, STAGE_FALLOCATE,
                                     STAGE_FALLOCATE};
    r->reserved[VMM_RAW_WORD_DONE] = 0;
    pthread_mutex_lock(&raw->lock);
    begin(raw, r, stages[r->op]);
    if (!raw->uring->plugged) {
        move_waiting(raw);
        enter(raw, 0);
    }
    bool any = raw->finished.first != NULL;
    pthread_mutex_unlock(&raw->lock);
    if (any)
        hand_back(raw, vmm_block_complete);
}

void vmm_raw_uring_plug(struct vmm_raw *raw, bool on)
{
    raw->uring->plugged = on;
    if (on)
        return;
    pthread_mutex_lock(&raw->lock);
    move_waiting(raw);
    if (io_uring_sq_ready(&raw->uring->ring))
        enter(raw, 0);
    collect(raw); /* cached data is there already */
    if (io_uring_sq_ready(&raw->uring->ring))
        enter(raw, 0);
    pthread_mutex_unlock(&raw->lock);
    hand_back(raw, vmm_block_complete);
}

void vmm_raw_uring_cancel(struct vmm_raw *raw, struct vmm_block_request *r)
{
    struct vmm_raw_uring *u = raw->uring;
    pthread_mutex_lock(&raw->lock);
    if (vmm_block_list_remove(&raw->waiting, r)) {
        finish(raw, r, -ECANCELED);
    } else if (u->in_kernel < IN_KERNEL) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (sqe) {
            io_uring_prep_cancel(sqe, r, 0);
            io_uring_sqe_set_data(sqe, NULL);
            u->in_kernel++;
            enter(raw, 0);
        }
    }
    pthread_mutex_unlock(&raw->lock);
    hand_back(raw, vmm_block_complete);
}

void vmm_raw_uring_quiesce(struct vmm_raw *raw)
{
    uint64_t one = 1;
    pthread_mutex_lock(&raw->lock);
    move_waiting(raw);
    while (raw->uring->in_kernel) {
        enter(raw, 1);
        collect(raw);
    }
    bool any = raw->finished.first != NULL;
    pthread_mutex_unlock(&raw->lock);
    if (!any)
        return;
    ssize_t n = write(raw->event_fd, &one, sizeof(one));
    (void)n; /* full: it is readable already */
}

void vmm_raw_uring_reap(struct vmm_raw *raw)
{
    go_on(raw);
}

/* Life ----------------------------------------------------------------------------------------- */

static bool has_operations(struct io_uring *ring)
{
    static const int needed[] = {IORING_OP_READ,        IORING_OP_WRITE, IORING_OP_READV,
                                 IORING_OP_WRITEV,      IORING_OP_FSYNC, IORING_OP_FALLOCATE,
                                 IORING_OP_ASYNC_CANCEL};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool all = probe != NULL;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(needed) && all; i++)
        all = io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return all;
}

/* Registered files spare the kernel a look-up a request; without them it works too. */
static void register_files(struct vmm_raw *raw)
{
    int fds[2] = {raw->fd, raw->cached_fd};
    unsigned count = raw->cached_fd >= 0 ? 2 : 1;
    raw->uring->registered = io_uring_register_files(&raw->uring->ring, fds, count) == 0;
}

int vmm_raw_uring_new(struct vmm_raw *raw, struct vmm_loop *loop)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                     .cq_entries = IN_KERNEL};
    struct vmm_raw_uring *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    /* Completions do not interrupt us: we come to the kernel soon anyway. Linux 5.19 has it. */
    struct io_uring_params cooperative = params;
    cooperative.flags |= IORING_SETUP_COOP_TASKRUN;
    int rc = io_uring_queue_init_params(ENTRIES, &u->ring, &cooperative);
    if (rc == 0)
        params = cooperative;
    else if (rc == -EINVAL)
        rc = io_uring_queue_init_params(ENTRIES, &u->ring, &params);
    if (rc < 0) {
        free(u);
        return rc;
    }
    raw->uring = u;
    rc = has_operations(&u->ring) && (params.features & IORING_FEAT_NODROP) ? 0 : -ENOTSUP;
    if (!rc)
        rc = vmm_timer_new(loop, try_again, raw, &u->retry);
    if (!rc)
        rc = vmm_source_new(loop, u->ring.ring_fd, VMM_POLL_IN, ready, raw, &u->source);
    if (rc)
        vmm_raw_uring_free(raw);
    else
        register_files(raw);
    return rc;
}

void vmm_raw_uring_free(struct vmm_raw *raw)
{
    struct vmm_raw_uring *u = raw->uring;
    if (!u)
        return;
    vmm_source_free(u->source);
    vmm_timer_free(u->retry);
    io_uring_queue_exit(&u->ring);
    free(u);
    raw->uring = NULL;
}

#else /* built without liburing: vmm_raw_uring_new() says so, and the others are never called */

int vmm_raw_uring_new(struct vmm_raw *raw, struct vmm_loop *loop)
{
    (void)raw;
    (void)loop;
    return -ENOTSUP;
}

void vmm_raw_uring_free(struct vmm_raw *raw)
{
    (void)raw;
}

void vmm_raw_uring_submit(struct vmm_raw *raw, struct vmm_block_request *r)
{
    vmm_block_complete(raw->block, r, -ENOTSUP);
}

void vmm_raw_uring_plug(struct vmm_raw *raw, bool on)
{
    (void)raw;
    (void)on;
}

void vmm_raw_uring_cancel(struct vmm_raw *raw, struct vmm_block_request *r)
{
    (void)raw;
    (void)r;
}

void vmm_raw_uring_quiesce(struct vmm_raw *raw)
{
    (void)raw;
}

void vmm_raw_uring_reap(struct vmm_raw *raw)
{
    (void)raw;
}
#endif
