/* SPDX-License-Identifier: BSD-3-Clause */
/* Host memory behind guest memory. */
#include "base/util.h"
#include "memory/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory is aligned so that host and guest huge pages can meet. */
#define HUGE_ALIGNMENT ((uint64_t)2 << 20)

static int reserve(struct vmm_backing *b, uint64_t guard, struct vmm_error *err)
{
    uint64_t alignment = b->length >= HUGE_ALIGNMENT ? HUGE_ALIGNMENT : b->page_size;
    if (b->length > SIZE_MAX / 2)
        return vmm_error_set(err, -ENOMEM, "backing: 0x%" PRIx64 " bytes are too many", b->length);
    b->reserved = (size_t)(b->length + 2 * guard + alignment);
    void *p =
        mmap(NULL, b->reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return vmm_error_set(err, -errno, "backing: no room for 0x%" PRIx64 " bytes: %s", b->length,
                             strerror(errno));
    b->reservation = p;
    b->data = (uint8_t *)vmm_align_up((uint64_t)(uintptr_t)p + guard, alignment);
    return 0;
}

static int map_anonymous(struct vmm_backing *b, struct vmm_error *err)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void *p = mmap(b->data, (size_t)b->length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED)
        return vmm_error_set(err, -errno, "backing: 0x%" PRIx64 " bytes: %s", b->length,
                             strerror(errno));
    return 0;
}

int vmm_backing_new(const struct vmm_backing_options *options, struct vmm_backing **out,
                    struct vmm_error *err)
{
    struct vmm_backing *b = calloc(1, sizeof(*b));
    if (!b)
        return vmm_error_set(err, -ENOMEM, "backing: out of memory");
    atomic_init(&b->refs, 1);
    b->fd = -1;
    b->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    b->options = *options;
    b->length = options->length;
    int rc = reserve(b, b->page_size, err);
    if (!rc)
        rc = map_anonymous(b, err);
    if (rc) {
        b->options.release = NULL;
        vmm_backing_unref(b);
        return rc;
    }
    *out = b;
    return 0;
}

struct vmm_backing *vmm_backing_ref(struct vmm_backing *backing)
{
    atomic_fetch_add_explicit(&backing->refs, 1, memory_order_relaxed);
    return backing;
}

struct vmm_backing *vmm_backing_unref(struct vmm_backing *backing)
{
    if (!backing || atomic_fetch_sub_explicit(&backing->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (backing->reservation)
        (void)munmap(backing->reservation, backing->reserved);
    if (backing->fd >= 0)
        close(backing->fd);
    if (backing->options.release)
        backing->options.release(backing->options.ctx);
    free(backing);
    return NULL;
}
