/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bitmaps of a backing. The order that keeps writes from being lost: a writer stores its data,
 * then sets the bit with an unconditional read-modify-write (a plain look whether it is set could
 * be satisfied before the data is visible); a consumer takes bits, then reads the data.
 */
#include "base/util.h"
#include "memory/internal.h"

#include <sys/mman.h>
#include <unistd.h>

static uint64_t page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* One word more than the pages need: vmm_dirty_log_or() may shift into it. */
static size_t bitmap_size(const struct vmm_backing *b)
{
    return ((size_t)(b->length / page_size() / 64) + 2) * 8;
}

void vmm_dirty_log_fini(struct vmm_backing *backing)
{
    for (uint32_t i = 0; i < VMM_DIRTY_CONSUMERS_MAX; i++) {
        void *bits = (void *)atomic_load(&backing->log.bits[i]);
        if (bits)
            (void)munmap(bits, bitmap_size(backing));
    }
}

static int make_bits(struct vmm_backing *backing, uint32_t bit)
{
    size_t size = bitmap_size(backing);
    void *bits = (void *)atomic_load(&backing->log.bits[bit]);
    if (bits) {
        /* Used before; DONTNEED makes it zeros again and cannot fail on such a mapping. */
        (void)madvise(bits, size, MADV_DONTNEED);
        return 0;
    }
    bits = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
    if (bits == MAP_FAILED)
        return -ENOMEM;
    atomic_store(&backing->log.bits[bit], (_Atomic uint64_t *)bits);
    return 0;
}

int vmm_dirty_log_take(struct vmm_backing *backing, uint32_t *bit)
{
    struct vmm_dirty_log *log = &backing->log;
    int rc = -ENOSPC;
    pthread_mutex_lock(&log->lock);
    for (uint32_t i = 0; i < VMM_DIRTY_CONSUMERS_MAX; i++) {
        if (log->taken & (1u << i))
            continue;
        rc = make_bits(backing, i);
        if (rc == 0) {
            log->taken |= 1u << i;
            *bit = i;
            atomic_fetch_or(&log->active, 1u << i);
        }
        break;
    }
    pthread_mutex_unlock(&log->lock);
    return rc;
}

void vmm_dirty_log_give(struct vmm_backing *backing, uint32_t bit)
{
    struct vmm_dirty_log *log = &backing->log;
    pthread_mutex_lock(&log->lock);
    atomic_fetch_and(&log->active, ~(1u << bit));
    (void)madvise((void *)atomic_load(&log->bits[bit]), bitmap_size(backing), MADV_DONTNEED);
    log->taken &= ~(1u << bit);
    pthread_mutex_unlock(&log->lock);
}

static void mark_pages(_Atomic uint64_t *bits, uint64_t first, uint64_t last)
{
    for (uint64_t word = first / 64; word <= last / 64; word++) {
        uint64_t mask = UINT64_MAX;
        if (word == first / 64)
            mask &= UINT64_MAX << (first % 64);
        if (word == last / 64)
            mask &= UINT64_MAX >> (63 - last % 64);
        atomic_fetch_or_explicit(&bits[word], mask, memory_order_release);
    }
}

void vmm_dirty_log_mark(struct vmm_backing *backing, uint64_t offset, uint64_t length)
{
    uint32_t active = atomic_load(&backing->log.active);
    uint64_t page = page_size();
    for (; active && length; active &= active - 1) {
        unsigned bit = (unsigned)__builtin_ctz(active);
        mark_pages(atomic_load(&backing->log.bits[bit]), offset / page,
                   (offset + length - 1) / page);
    }
}

void vmm_dirty_log_or(struct vmm_backing *backing, uint64_t first, const uint64_t *bitmap,
                      size_t words)
{
    uint32_t active = atomic_load(&backing->log.active);
    unsigned shift = (unsigned)(first % 64);
    for (; active; active &= active - 1) {
        unsigned bit = (unsigned)__builtin_ctz(active);
        _Atomic uint64_t *to = atomic_load(&backing->log.bits[bit]) + first / 64;
        for (size_t i = 0; i < words; i++) {
            if (!bitmap[i])
                continue;
            atomic_fetch_or_explicit(&to[i], bitmap[i] << shift, memory_order_release);
            if (shift && bitmap[i] >> (64 - shift))
                atomic_fetch_or_explicit(&to[i + 1], bitmap[i] >> (64 - shift),
                                         memory_order_release);
        }
    }
}
