/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Raw images: a file or a block device whose bytes are the disk's. Requests are carried out by
 * worker threads, as many as were asked for, or on the spot. The workers touch a request's vector and
 * the file, nothing else; what is finished goes back to the loop by an eventfd.
 */
#include "base/util.h"

#include <libvmm/block.h>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define NEXT        3 /* in a request's reserved words: those below are the core's */
#define RESULT      4
#define VECTOR_MAX  1024
#define ZEROES      65536u

static const uint8_t zeroes[ZEROES];

struct list {
    struct vmm_block_request *first, *last;
};

struct raw {
    struct vmm_block *block;
    int fd;
    bool read_only, block_device;
    _Atomic bool flush_failed;
    int event_fd;
    struct vmm_source *source;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work, idle;
    struct list waiting, finished;
    uint32_t busy; /* waiting or being carried out */
    bool ending;
    uint32_t thread_count;
    pthread_t threads[THREADS_MAX];
};

static void append(struct list *list, struct vmm_block_request *request)
{
    request->reserved[NEXT] = 0;
    if (list->last)
        list->last->reserved[NEXT] = (uintptr_t)request;
    else
        list->first = request;
    list->last = request;
}

static struct vmm_block_request *pop(struct list *list)
{
    struct vmm_block_request *request = list->first;
    if (!request)
        return NULL;
    list->first = (struct vmm_block_request *)(uintptr_t)request->reserved[NEXT];
    if (!list->first)
        list->last = NULL;
    return request;
}

/* The work ------------------------------------------------------------------------------------- */

/* One call: the vector from entry `index`, whose first `skip` bytes are done. */
static ssize_t transfer_some(const struct raw *raw, const struct vmm_block_request *r, size_t index,
                             size_t skip, uint64_t offset)
{
    const struct iovec *v = &r->vector[index];
    size_t count = r->vector_count - index;
    struct iovec rest;
    if (skip) {
        rest = (struct iovec){(uint8_t *)v->iov_base + skip, v->iov_len - skip};
        v = &rest;
        count = 1;
    }
    int entries = (int)(count < VECTOR_MAX ? count : VECTOR_MAX);
    if (r->op == VMM_BLOCK_READ)
        return preadv(raw->fd, v, entries, (off_t)offset);
    return pwritev2(raw->fd, v, entries, (off_t)offset, r->flags & VMM_BLOCK_FUA ? RWF_DSYNC : 0);
}

static int transfer(const struct raw *raw, const struct vmm_block_request *r)
{
    size_t index = 0, skip = 0;
    uint64_t done = 0;
    while (done < r->length) {
        ssize_t n = transfer_some(raw, r, index, skip, r->offset + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* the file is shorter than it was */
        done += (uint64_t)n;
        skip += (size_t)n;
        while (index < r->vector_count && skip >= r->vector[index].iov_len)
            skip -= r->vector[index++].iov_len;
    }
    return 0;
}

/* The fsync lesson: after a failure the kernel forgets which pages were dirty, so nothing that was
 * written can be promised any more. */
static int flush(struct raw *raw)
{
    int rc;
    if (raw->read_only)
        return 0;
    if (raw->flush_failed)
        return -EIO;
    do
        rc = fdatasync(raw->fd);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        rc = -errno;
        raw->flush_failed = true;
    }
    return rc;
}

static int fallocate_range(const struct raw *raw, int mode, uint64_t offset, uint64_t length)
{
    int rc;
    do
        rc = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int write_zero_bytes(const struct raw *raw, uint64_t offset, uint64_t length)
{
    while (length) {
        size_t part = length < ZEROES ? (size_t)length : ZEROES;
        ssize_t n = pwrite(raw->fd, zeroes, part, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return 0;
}

static int write_zeroes(const struct raw *raw, const struct vmm_block_request *r)
{
    int mode = r->flags & VMM_BLOCK_MAY_UNMAP ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    int rc = fallocate_range(raw, mode, r->offset, r->length);
    if (rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL)
        rc = write_zero_bytes(raw, r->offset, r->length);
    return rc;
}

static int discard(const struct raw *raw, const struct vmm_block_request *r)
{
    int rc = fallocate_range(raw, FALLOC_FL_PUNCH_HOLE, r->offset, r->length);
    return rc == -EOPNOTSUPP || rc == -ENOSYS ? 0 : rc; /* a hint */
}

static int carry_out(struct raw *raw, const struct vmm_block_request *r)
{
    int rc;
    switch (r->op) {
    case VMM_BLOCK_READ:
    case VMM_BLOCK_WRITE:
        return transfer(raw, r);
    case VMM_BLOCK_FLUSH:
        return flush(raw);
    case VMM_BLOCK_DISCARD:
        return discard(raw, r);
    default:
        rc = write_zeroes(raw, r);
        return !rc && (r->flags & VMM_BLOCK_FUA) ? flush(raw) : rc;
    }
}

/* Workers -------------------------------------------------------------------------------------- */

static void *worker(void *ctx)
{
    struct raw *raw = ctx;
    uint64_t one = 1;
    pthread_mutex_lock(&raw->lock);
    for (;;) {
        struct vmm_block_request *request = pop(&raw->waiting);
        if (!request && raw->ending)
            break;
        if (!request) {
            pthread_cond_wait(&raw->work, &raw->lock);
            continue;
        }
        pthread_mutex_unlock(&raw->lock);
        int result = carry_out(raw, request);
        pthread_mutex_lock(&raw->lock);
        request->reserved[RESULT] = (uint64_t)(int64_t)result;
        bool first = !raw->finished.first;
        append(&raw->finished, request);
        if (first) {
            ssize_t n = write(raw->event_fd, &one, sizeof(one));
            (void)n; /* full: it is readable already */
        }
        if (--raw->busy == 0)
            pthread_cond_broadcast(&raw->idle);
    }
    pthread_mutex_unlock(&raw->lock);
    return NULL;
}

static void submit(void *ctx, struct vmm_block_request *request)
{
    struct raw *raw = ctx;
    if (raw->thread_count == 0) {
        vmm_block_complete(raw->block, request, carry_out(raw, request));
        return;
    }
    pthread_mutex_lock(&raw->lock);
    append(&raw->waiting, request);
    raw->busy++;
    pthread_cond_signal(&raw->work);
    pthread_mutex_unlock(&raw->lock);
}

static void quiesce(void *ctx)
{
    struct raw *raw = ctx;
    pthread_mutex_lock(&raw->lock);
    while (raw->busy)
        pthread_cond_wait(&raw->idle, &raw->lock);
    pthread_mutex_unlock(&raw->lock);
}

static void reap(void *ctx)
{
    struct raw *raw = ctx;
    pthread_mutex_lock(&raw->lock);
    struct list finished = raw->finished;
    raw->finished = (struct list){0};
    pthread_mutex_unlock(&raw->lock);
    struct vmm_block_request *request;
    while ((request = pop(&finished)))
        vmm_block_complete(raw->block, request, (int)(int64_t)request->reserved[RESULT]);
}

static void some_finished(void *ctx, uint32_t events)
{
    struct raw *raw = ctx;
    uint64_t count;
    (void)events;
    ssize_t n = read(raw->event_fd, &count, sizeof(count));
    (void)n;
    reap(raw);
}

/* Information ---------------------------------------------------------------------------------- */

static int info(void *ctx, struct vmm_block_info *out)
{
    struct raw *raw = ctx;
    struct stat st;
    if (fstat(raw->fd, &st) < 0)
        return -errno;
    out->length = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(raw->fd, BLKGETSIZE64, &out->length) < 0)
        return -errno;
    out->allocated = (uint64_t)st.st_blocks * 512;
    out->block_size = 512;
    out->discard_alignment = 512;
    out->read_only = raw->read_only;
    out->zero_is_cheap = 1;
    memcpy(out->format, "raw", 4);
    return 0;
}

/* Holes read as zeros; a file system that cannot tell has data everywhere. */
static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    struct raw *raw = ctx;
    off_t data = lseek(raw->fd, (off_t)offset, SEEK_DATA);
    off_t end;
    if (data < 0 && errno != ENXIO)
        return errno == EINVAL ? 0 : -errno;
    if (data < 0 || (uint64_t)data > offset) {
        out->state = VMM_BLOCK_ZERO;
        end = data;
    } else {
        out->host_offset = offset;
        end = lseek(raw->fd, (off_t)offset, SEEK_HOLE);
    }
    if (end > 0 && (uint64_t)end - offset < length)
        out->length = (uint64_t)end - offset;
    return 0;
}

static int resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct raw *raw = ctx;
    if (raw->block_device)
        return vmm_error_set(err, -ENOTSUP, "a block device has the size it has");
    if (ftruncate(raw->fd, (off_t)length) < 0)
        return vmm_error_set(err, -errno, "changing the file's length: %s", strerror(errno));
    return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void end_threads(struct raw *raw)
{
    pthread_mutex_lock(&raw->lock);
    raw->ending = true;
    pthread_cond_broadcast(&raw->work);
    pthread_mutex_unlock(&raw->lock);
    for (uint32_t i = 0; i < raw->thread_count; i++)
        pthread_join(raw->threads[i], NULL);
    raw->thread_count = 0;
}

static void destroy(void *ctx)
{
    struct raw *raw = ctx;
    end_threads(raw);
    vmm_source_free(raw->source);
    pthread_cond_destroy(&raw->work);
    pthread_cond_destroy(&raw->idle);
    pthread_mutex_destroy(&raw->lock);
    if (raw->event_fd >= 0)
        close(raw->event_fd);
    if (raw->fd >= 0)
        close(raw->fd);
    free(raw);
}

/* Workers take no signals: those are the embedder's threads' business. */
static int start_threads(struct raw *raw, uint32_t count)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < count && !rc; i++) {
        rc = pthread_create(&raw->threads[i], NULL, worker, raw);
        if (!rc)
            raw->thread_count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

/* Two that write to one image destroy it; the lock is the file description's, so it ends with us. */
static int lock_image(struct raw *raw)
{
    struct flock lock = {.l_type = (short)(raw->read_only ? F_RDLCK : F_WRLCK),
                         .l_whence = SEEK_SET};
    if (fcntl(raw->fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0; /* no locks on this file system */
}

static int open_image(struct raw *raw, const struct vmm_block_raw_options *o, struct vmm_error *err)
{
    struct stat st;
    const char *name = o->path ? o->path : "the descriptor";
    raw->read_only = o->read_only != 0;
    raw->fd = o->path ? open(o->path, (raw->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC)
                      : fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
    if (raw->fd < 0 || fstat(raw->fd, &st) < 0)
        return vmm_error_set(err, -errno, "%s: %s", name, strerror(errno));
    raw->block_device = S_ISBLK(st.st_mode);
    if (!S_ISREG(st.st_mode) && !raw->block_device)
        return vmm_error_set(err, -EINVAL, "%s is neither a file nor a block device", name);
    if (!raw->read_only && (fcntl(raw->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return vmm_error_set(err, -EACCES, "%s is not open for writing", name);
    if (!raw->block_device && (st.st_size == 0 || st.st_size % 512))
        return vmm_error_set(err, -EINVAL, "%s has %lld bytes: a disk has a multiple of 512", name,
                             (long long)st.st_size);
    if (lock_image(raw))
        return vmm_error_set(err, -EBUSY, "%s is in use by another program or device", name);
    return 0;
}

static int prepare(struct raw *raw, struct vmm_loop *loop, const struct vmm_block_raw_options *o,
                   struct vmm_error *err)
{
    int rc = open_image(raw, o, err);
    if (rc)
        return rc;
    raw->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = raw->event_fd < 0 ? -errno : 0;
    if (!rc)
        rc = vmm_source_new(loop, raw->event_fd, VMM_POLL_IN, some_finished, raw, &raw->source);
    if (!rc)
        rc = start_threads(raw, o->threads);
    return rc ? vmm_error_set(err, rc, "raw image: %s", strerror(-rc)) : 0;
}

int vmm_block_raw_new(struct vmm_loop *loop, const struct vmm_block_raw_options *given,
                      struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = submit,
        .info = info,
        .extent = extent,
        .resize = resize,
        .destroy = destroy,
        .quiesce = quiesce,
        .reap = reap,
    };
    struct vmm_block_raw_options o;
    if (!loop || !given || !out || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "raw image: bad options");
    if (o.threads > THREADS_MAX)
        return vmm_error_set(err, -EINVAL, "raw image: at most %u threads", THREADS_MAX);
    struct raw *raw = calloc(1, sizeof(*raw));
    if (!raw)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    raw->fd = raw->event_fd = -1;
    pthread_mutex_init(&raw->lock, NULL);
    pthread_cond_init(&raw->work, NULL);
    pthread_cond_init(&raw->idle, NULL);
    int rc = prepare(raw, loop, &o, err);
    if (!rc) {
        rc = vmm_block_new(loop, &ops, raw, &raw->block);
        if (rc)
            (void)vmm_error_set(err, rc, "raw image: %s", strerror(-rc));
    }
    if (rc) {
        destroy(raw);
        return rc;
    }
    *out = raw->block;
    return 0;
}
