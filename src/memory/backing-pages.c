/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's pages of a backing: fetched in advance, given back, counted. */
#include "base/util.h"
#include "memory/internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

/* Bytes between two looks at whether to go on: about 20 ms of zeroing. */
#define CHUNK ((uint64_t)64 << 20)

#define THREADS_MAX 256u

static bool is_part(const struct vmm_backing *b, uint64_t offset, uint64_t length)
{
    return offset <= b->length && length <= b->length - offset;
}

/* Prefault ------------------------------------------------------------------------------------- */

struct prefault {
    struct vmm_backing *backing;
    uint64_t offset, length;
    _Atomic uint64_t next; /* the first byte that nobody has taken */
    _Atomic uint64_t done;
    _Atomic int failed;
};

/* Hosts before Linux 5.14: touch each page without changing it, whatever the guest does. */
static void touch(const struct vmm_backing *b, uint8_t *data, uint64_t length)
{
    for (uint64_t i = 0; i < length; i += b->page_size) {
        if (b->options.flags & VMM_BACKING_READ_ONLY)
            (void)__atomic_load_n(data + i, __ATOMIC_RELAXED);
        else
            (void)__atomic_fetch_or(data + i, 0, __ATOMIC_RELAXED);
    }
}

static int populate(const struct vmm_backing *b, uint64_t offset, uint64_t length)
{
    uint8_t *data = b->data + offset;
    int advice =
        b->options.flags & VMM_BACKING_READ_ONLY ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
    while (madvise(data, (size_t)length, advice) < 0) {
        if (errno == EINTR || errno == EAGAIN)
            continue;
        if (errno != EINVAL)
            return errno == EFAULT || errno == EHWPOISON ? -EIO : -errno;
        touch(b, data, length);
        break;
    }
    return 0;
}

/* One chunk. False: nothing is left, or it failed. */
static bool prefault_step(struct prefault *p)
{
    uint64_t chunk = CHUNK > p->backing->page_size ? CHUNK : p->backing->page_size;
    uint64_t at = atomic_fetch_add(&p->next, chunk);
    if (at >= p->length || atomic_load(&p->failed))
        return false;
    uint64_t length = p->length - at < chunk ? p->length - at : chunk;
    int rc = populate(p->backing, p->offset + at, length);
    if (rc) {
        int none = 0;
        atomic_compare_exchange_strong(&p->failed, &none, rc);
        return false;
    }
    atomic_fetch_add(&p->done, length);
    return true;
}

static void *prefault_thread(void *arg)
{
    while (prefault_step(arg))
        ;
    return NULL;
}

/* Signals are for the program's own threads. */
static uint32_t start_threads(struct prefault *p, pthread_t *threads, uint32_t count)
{
    sigset_t all, before;
    uint32_t started = 0;
    sigfillset(&all);
    if (count == 0 || pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return 0;
    while (started < count && pthread_create(&threads[started], NULL, prefault_thread, p) == 0)
        started++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

int vmm_backing_prefault(struct vmm_backing *backing, uint64_t offset, uint64_t length,
                         uint32_t threads,
                         int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    struct prefault p = {.backing = backing, .offset = offset, .length = length};
    pthread_t handles[THREADS_MAX];
    if (!is_part(backing, offset, length) || offset % backing->page_size ||
        length % backing->page_size || threads > THREADS_MAX)
        return -EINVAL;
    /* Fewer threads than asked for are no failure: the caller's own does the rest. */
    uint32_t started = start_threads(&p, handles, threads > 1 ? threads - 1 : 0);
    bool more = length != 0;
    while (more) {
        more = prefault_step(&p);
        if (progress && progress(ctx, atomic_load(&p.done), length) != 0) {
            int none = 0;
            atomic_compare_exchange_strong(&p.failed, &none, -ECANCELED);
        }
    }
    for (uint32_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
    if (started && progress && !atomic_load(&p.failed))
        (void)progress(ctx, atomic_load(&p.done), length);
    return atomic_load(&p.failed);
}

/* Discard -------------------------------------------------------------------------------------- */

static int punch(const struct vmm_backing *b, uint64_t offset, uint64_t length)
{
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (fallocate(b->fd, mode, (off_t)(b->fd_offset + offset), (off_t)length) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int drop(const struct vmm_backing *b, uint64_t offset, uint64_t length)
{
    uint8_t *data = b->data + offset;
    /* The caller's memory may be either kind; what is shared gives its pages back by REMOVE only,
     * which private memory refuses. */
    if (b->options.kind == VMM_BACKING_HOST && madvise(data, (size_t)length, MADV_REMOVE) == 0)
        return 0;
    return madvise(data, (size_t)length, MADV_DONTNEED) < 0 ? -errno : 0;
}

int vmm_backing_discard(struct vmm_backing *backing, uint64_t offset, uint64_t length)
{
    const struct vmm_backing_options *o = &backing->options;
    if (!is_part(backing, offset, length))
        return -EINVAL;
    if (o->flags & VMM_BACKING_READ_ONLY)
        return -EROFS;
    uint64_t end = (offset + length) & ~(backing->page_size - 1);
    uint64_t start = vmm_align_up(offset, backing->page_size);
    if (start >= end)
        return 0;
    bool shared = o->kind == VMM_BACKING_MEMFD || (o->flags & VMM_BACKING_SHARED);
    int rc = shared ? punch(backing, start, end - start) : drop(backing, start, end - start);
    vmm_dirty_mark(backing, start, end - start);
    return rc;
}

int vmm_backing_resident(const struct vmm_backing *backing, uint64_t *bytes)
{
    unsigned char present[4096];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), total = 0;
    for (uint64_t at = 0; at < backing->length;) {
        uint64_t length = backing->length - at;
        if (length > sizeof(present) * page)
            length = sizeof(present) * page;
        if (mincore(backing->data + at, (size_t)length, present) < 0)
            return -errno;
        for (uint64_t i = 0; i < length / page; i++)
            total += (present[i] & 1) * page;
        at += length;
    }
    *bytes = total;
    return 0;
}
