/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Raw images: a file or a block device whose bytes are the disk's. Requests are carried out by
 * io_uring (raw_uring.c), by worker threads, as many as were asked for, or on the spot. The workers
 * touch a request's vector and the file, nothing else; what is finished goes back to the loop by an
 * eventfd.
 */
#include "backends/block/raw.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Workers -------------------------------------------------------------------------------------- */

static void *worker(void *ctx)
{
    struct vmm_raw *raw = ctx;
    uint64_t one = 1;
    pthread_mutex_lock(&raw->lock);
    for (;;) {
        struct vmm_block_request *request = vmm_block_list_pop(&raw->waiting);
        if (!request && raw->ending)
            break;
        if (!request) {
            pthread_cond_wait(&raw->work, &raw->lock);
            continue;
        }
        pthread_mutex_unlock(&raw->lock);
        int result = vmm_raw_carry_out(raw, request);
        pthread_mutex_lock(&raw->lock);
        request->reserved[VMM_RAW_WORD_RESULT] = (uint64_t)(int64_t)result;
        bool first = !raw->finished.first;
        vmm_block_list_append(&raw->finished, request);
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
    struct vmm_raw *raw = ctx;
    if (raw->uring) {
        vmm_raw_uring_submit(raw, request);
        return;
    }
    if (raw->thread_count == 0) {
        vmm_block_complete(raw->block, request, vmm_raw_carry_out(raw, request));
        return;
    }
    pthread_mutex_lock(&raw->lock);
    vmm_block_list_append(&raw->waiting, request);
    raw->busy++;
    pthread_cond_signal(&raw->work);
    pthread_mutex_unlock(&raw->lock);
}

static void plug(void *ctx, uint32_t on)
{
    struct vmm_raw *raw = ctx;
    if (raw->uring)
        vmm_raw_uring_plug(raw, on != 0);
}

static void quiesce(void *ctx)
{
    struct vmm_raw *raw = ctx;
    if (raw->uring) {
        vmm_raw_uring_quiesce(raw);
        return;
    }
    pthread_mutex_lock(&raw->lock);
    while (raw->busy)
        pthread_cond_wait(&raw->idle, &raw->lock);
    pthread_mutex_unlock(&raw->lock);
}

static void reap(void *ctx)
{
    struct vmm_raw *raw = ctx;
    if (raw->uring) {
        vmm_raw_uring_reap(raw);
        return;
    }
    pthread_mutex_lock(&raw->lock);
    struct vmm_block_list finished = raw->finished;
    raw->finished = (struct vmm_block_list){0};
    pthread_mutex_unlock(&raw->lock);
    struct vmm_block_request *request;
    while ((request = vmm_block_list_pop(&finished)))
        vmm_block_collect(raw->block, request,
                          (int)(int64_t)request->reserved[VMM_RAW_WORD_RESULT]);
}

static void some_finished(void *ctx, uint32_t events)
{
    struct vmm_raw *raw = ctx;
    uint64_t count;
    (void)events;
    ssize_t n = read(raw->event_fd, &count, sizeof(count));
    (void)n;
    reap(raw);
    vmm_block_deliver(raw->block);
}

/* What a worker has begun goes on to its end. */
static void cancel(void *ctx, struct vmm_block_request *request)
{
    struct vmm_raw *raw = ctx;
    if (raw->uring) {
        vmm_raw_uring_cancel(raw, request);
        return;
    }
    pthread_mutex_lock(&raw->lock);
    bool waiting = vmm_block_list_remove(&raw->waiting, request);
    if (waiting && --raw->busy == 0)
        pthread_cond_broadcast(&raw->idle);
    pthread_mutex_unlock(&raw->lock);
    if (waiting)
        vmm_block_complete(raw->block, request, -ECANCELED);
}

/* Information ---------------------------------------------------------------------------------- */

static int info(void *ctx, struct vmm_block_info *out)
{
    struct vmm_raw *raw = ctx;
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
    struct vmm_raw *raw = ctx;
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
    struct vmm_raw *raw = ctx;
    if (raw->block_device)
        return vmm_error_set(err, -ENOTSUP, "a block device has the size it has");
    if (ftruncate(raw->fd, (off_t)length) < 0)
        return vmm_error_set(err, -errno, "changing the file's length: %s", strerror(errno));
    return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void end_threads(struct vmm_raw *raw)
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
    struct vmm_raw *raw = ctx;
    end_threads(raw);
    /* Not by closing: the kernel takes a ring, and the files it holds, apart when it likes. */
    if (raw->locked)
        vmm_raw_unlock(raw->cached_fd >= 0 ? raw->cached_fd : raw->fd);
    vmm_raw_uring_free(raw);
    vmm_source_free(raw->source);
    pthread_cond_destroy(&raw->work);
    pthread_cond_destroy(&raw->idle);
    pthread_mutex_destroy(&raw->lock);
    if (raw->event_fd >= 0)
        close(raw->event_fd);
    if (raw->fd >= 0)
        close(raw->fd);
    if (raw->cached_fd >= 0)
        close(raw->cached_fd);
    free(raw);
}

/* Workers take no signals: those are the embedder's threads' business. */
static int start_threads(struct vmm_raw *raw, uint32_t count)
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

static int check_file(struct vmm_raw *raw, const char *name, struct vmm_error *err)
{
    struct stat st;
    if (fstat(raw->fd, &st) < 0)
        return vmm_error_set(err, -errno, "%s: %s", name, strerror(errno));
    raw->block_device = S_ISBLK(st.st_mode);
    if (!S_ISREG(st.st_mode) && !raw->block_device)
        return vmm_error_set(err, -EINVAL, "%s is neither a file nor a block device", name);
    if (!raw->read_only && (fcntl(raw->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return vmm_error_set(err, -EACCES, "%s is not open for writing", name);
    if (!raw->block_device && (st.st_size == 0 || st.st_size % 512))
        return vmm_error_set(err, -EINVAL, "%s has %lld bytes: a disk has a multiple of 512", name,
                             (long long)st.st_size);
    return 0;
}

/* What direct I/O wants of memory and offsets; where the kernel does not say, what suffices for
 * every disk. */
static void learn_alignment(struct vmm_raw *raw)
{
    raw->memory_align = raw->offset_align = 4096;
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_mem_align && stx.stx_dio_offset_align) {
        raw->memory_align = stx.stx_dio_mem_align;
        raw->offset_align = stx.stx_dio_offset_align;
    }
#endif
}

/* The same file again, so that the locks and the caller's descriptor stay as they are. */
static int open_direct(struct vmm_raw *raw, const char *name, struct vmm_error *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", raw->fd);
    int fd = open(path, (raw->read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return vmm_error_set(err, -errno, "%s: no direct I/O (cache=none) on its file system: %s",
                             name, strerror(errno));
    raw->cached_fd = raw->fd;
    raw->fd = fd;
    learn_alignment(raw);
    return 0;
}

static int open_image(struct vmm_raw *raw, const struct vmm_block_raw_options *o,
                      struct vmm_error *err)
{
    const char *name = o->path ? o->path : "the descriptor";
    raw->read_only = o->read_only != 0;
    raw->unsafe = o->cache == VMM_BLOCK_CACHE_UNSAFE;
    raw->fd = o->path ? open(o->path, (raw->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC)
                      : fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
    if (raw->fd < 0)
        return vmm_error_set(err, -errno, "%s: %s", name, strerror(errno));
    int rc = check_file(raw, name, err);
    if (rc)
        return rc;
    if (!o->unlocked && vmm_raw_lock(raw->fd, raw->read_only))
        return vmm_error_set(err, -EBUSY, "%s is in use by another program or device", name);
    raw->locked = !o->unlocked;
    return o->cache == VMM_BLOCK_CACHE_NONE ? open_direct(raw, name, err) : 0;
}

static int start_engine(struct vmm_raw *raw, struct vmm_loop *loop,
                        const struct vmm_block_raw_options *o)
{
    int rc = -ENOTSUP;
    if (o->engine != VMM_BLOCK_ENGINE_THREADS)
        rc = vmm_raw_uring_new(raw, loop);
    if (!rc || o->engine == VMM_BLOCK_ENGINE_IO_URING)
        return rc;
    return start_threads(raw, o->threads);
}

static int prepare(struct vmm_raw *raw, struct vmm_loop *loop,
                   const struct vmm_block_raw_options *o, struct vmm_error *err)
{
    int rc = open_image(raw, o, err);
    if (rc)
        return rc;
    raw->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = raw->event_fd < 0 ? -errno : 0;
    if (!rc)
        rc = vmm_source_new(loop, raw->event_fd, VMM_POLL_IN, some_finished, raw, &raw->source);
    if (!rc)
        rc = start_engine(raw, loop, o);
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
        .cancel = cancel,
        .plug = plug,
    };
    struct vmm_block_raw_options o;
    if (!loop || !given || !out || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "raw image: bad options");
    if (o.threads > VMM_RAW_THREADS_MAX)
        return vmm_error_set(err, -EINVAL, "raw image: at most %u threads", VMM_RAW_THREADS_MAX);
    if (o.engine > VMM_BLOCK_ENGINE_THREADS || o.cache > VMM_BLOCK_CACHE_UNSAFE)
        return vmm_error_set(err, -EINVAL, "raw image: no such engine or cache mode");
    struct vmm_raw *raw = calloc(1, sizeof(*raw));
    if (!raw)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    raw->fd = raw->cached_fd = raw->event_fd = -1;
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

int vmm_block_raw_engine(const struct vmm_block *block)
{
    const struct vmm_raw *raw = block ? vmm_block_driver_of(block, submit) : NULL;
    if (!raw)
        return -EINVAL;
    return (int)(raw->uring ? VMM_BLOCK_ENGINE_IO_URING : VMM_BLOCK_ENGINE_THREADS);
}
