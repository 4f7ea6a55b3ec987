/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A writable disk over one that is only read. A map of one bit a block says which of the two has it;
 * what is written goes to the store at the same offset, so nothing is ever copied. The map has two
 * levels and grows with what is written.
 */
#include "backends/block/block-driver.h"
#include "backends/block/filter.h"
#include "base/util.h"

#include <libvmm/block-filters.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE_BITS 32768u

struct overlay {
    struct vmm_block *block, *base, *store;
    uint64_t length, page_count;
    uint32_t unit; /* bytes that a bit stands for */
    uint64_t **pages;
};

/* A request in parts: each from one of the two. */
struct whole {
    struct overlay *overlay;
    struct vmm_block_request *above;
    uint32_t left;
    int result;
};

struct part {
    struct vmm_block_request below;
    struct whole *whole;
    struct iovec vector[];
};

/* The map -------------------------------------------------------------------------------------- */

static bool is_written(const struct overlay *o, uint64_t bit)
{
    const uint64_t *page = o->pages[bit / PAGE_BITS];
    uint64_t i = bit % PAGE_BITS;
    return page && (page[i / 64] >> (i % 64) & 1);
}

/* Bytes from `offset`, at most `length`, that are in the same place. */
static uint64_t run_at(const struct overlay *o, uint64_t offset, uint64_t length, bool *written)
{
    uint64_t bit = offset / o->unit, end = (offset + length) / o->unit, i = bit;
    *written = is_written(o, bit);
    while (i < end)
        if (i % PAGE_BITS == 0 && !o->pages[i / PAGE_BITS] && !*written)
            i += PAGE_BITS; /* a page that is not there */
        else if (is_written(o, i) == *written)
            i++;
        else
            break;
    i = i < end ? i : end;
    return (i - bit) * o->unit;
}

static int make_pages(struct overlay *o, uint64_t offset, uint64_t length)
{
    uint64_t last = (offset + length - 1) / o->unit / PAGE_BITS;
    for (uint64_t i = offset / o->unit / PAGE_BITS; i <= last; i++) {
        if (!o->pages[i])
            o->pages[i] = calloc(PAGE_BITS / 64, sizeof(uint64_t));
        if (!o->pages[i])
            return -ENOMEM;
    }
    return 0;
}

static void mark(struct overlay *o, uint64_t offset, uint64_t length)
{
    for (uint64_t bit = offset / o->unit; bit < (offset + length) / o->unit; bit++) {
        uint64_t i = bit % PAGE_BITS;
        o->pages[bit / PAGE_BITS][i / 64] |= 1ull << (i % 64);
    }
}

/* Requests ------------------------------------------------------------------------------------- */

static void end_part(struct whole *w, int result)
{
    struct overlay *o = w->overlay;
    struct vmm_block_request *above = w->above;
    if (result && !w->result)
        w->result = result;
    if (--w->left)
        return;
    if (!w->result && above->op != VMM_BLOCK_READ)
        mark(o, above->offset, above->length);
    vmm_block_complete(o->block, above, w->result);
    free(w);
}

static void part_done(struct vmm_block_request *below, int result)
{
    struct part *p = below->ctx;
    struct overlay *o = p->whole->overlay;
    end_part(p->whole, result);
    free(p);
    vmm_block_deliver(o->block);
}

static void submit_part(struct whole *w, struct vmm_block *where, uint64_t offset, uint64_t length)
{
    struct vmm_block_request *r = w->above;
    struct part *p = malloc(sizeof(*p) + r->vector_count * sizeof(p->vector[0]));
    w->left++;
    if (!p) {
        end_part(w, -ENOMEM);
        return;
    }
    p->whole = w;
    p->below = (struct vmm_block_request){.op = r->op,
                                          .flags = r->op == VMM_BLOCK_WRITE_ZEROES
                                                       ? VMM_BLOCK_MAY_UNMAP
                                                       : 0, /* nothing here is durable */
                                          .offset = offset,
                                          .length = length,
                                          .vector = p->vector,
                                          .done = part_done,
                                          .ctx = p};
    if (r->op <= VMM_BLOCK_WRITE)
        p->below.vector_count =
            vmm_block_slice(r->vector, r->vector_count, offset - r->offset, length, p->vector);
    vmm_block_submit(where, &p->below);
}

static void read_parts(struct whole *w)
{
    struct overlay *o = w->overlay;
    const struct vmm_block_request *r = w->above;
    uint64_t done = 0;
    vmm_block_plug(o->base);
    vmm_block_plug(o->store);
    while (done < r->length) {
        bool written;
        uint64_t run = run_at(o, r->offset + done, r->length - done, &written);
        submit_part(w, written ? o->store : o->base, r->offset + done, run);
        done += run;
    }
    vmm_block_unplug(o->base);
    vmm_block_unplug(o->store);
}

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct overlay *o = ctx;
    if (r->op == VMM_BLOCK_FLUSH || r->op == VMM_BLOCK_DISCARD) {
        vmm_block_complete(o->block, r, 0);
        return;
    }
    struct whole *w = calloc(1, sizeof(*w));
    int rc = w ? 0 : -ENOMEM;
    if (!rc && r->op != VMM_BLOCK_READ)
        rc = make_pages(o, r->offset, r->length);
    if (rc) {
        free(w);
        vmm_block_complete(o->block, r, rc);
        return;
    }
    *w = (struct whole){.overlay = o, .above = r, .left = 1};
    if (r->op == VMM_BLOCK_READ)
        read_parts(w);
    else
        submit_part(w, o->store, r->offset, r->length);
    end_part(w, 0); /* our own part: no other has ended the whole before */
}

static void plug(void *ctx, uint32_t on)
{
    struct overlay *o = ctx;
    void (*call)(struct vmm_block *) = on ? vmm_block_plug : vmm_block_unplug;
    call(o->base);
    call(o->store);
}

static void quiesce(void *ctx)
{
    struct overlay *o = ctx;
    vmm_block_quiesce(o->base);
    vmm_block_quiesce(o->store);
}

static void drain(void *ctx)
{
    struct overlay *o = ctx;
    vmm_block_drain(o->base);
    vmm_block_drain(o->store);
}

/* Information ---------------------------------------------------------------------------------- */

static int info(void *ctx, struct vmm_block_info *out)
{
    struct overlay *o = ctx;
    struct vmm_block_info store = VMM_BLOCK_INFO_INIT;
    int rc = vmm_block_get_info(o->store, &store);
    out->length = o->length;
    out->allocated = store.allocated;
    out->block_size = o->unit;
    out->zero_is_cheap = store.zero_is_cheap;
    memcpy(out->format, "overlay", 8);
    return rc;
}

static int extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *out)
{
    const struct overlay *o = ctx;
    bool written;
    offset -= offset % o->unit;
    uint64_t end = vmm_align_up(out->offset + length, o->unit);
    uint64_t run = run_at(o, offset, end - offset, &written) - (out->offset - offset);
    run = run < length ? run : length;
    out->length = run;
    return written ? 0 : vmm_block_extent_at(o->base, out->offset, run, out);
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(void *ctx)
{
    struct overlay *o = ctx;
    for (uint64_t i = 0; o->pages && i < o->page_count; i++)
        free(o->pages[i]);
    free(o->pages);
    vmm_block_unref(o->store);
    vmm_block_unref(o->base);
    free(o);
}

/* A file without a name, or with one for a moment only. */
static int open_file(const char *folder)
{
    char path[4096];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd < 0 ? -errno : fd;
    if (snprintf(path, sizeof(path), "%s/libvmm-overlay-XXXXXX", folder) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)unlink(path);
    return fd;
}

static int make_file(struct overlay *o, const struct vmm_block_overlay_options *options,
                     struct vmm_error *err)
{
    struct vmm_block_raw_options raw = VMM_BLOCK_RAW_OPTIONS_INIT;
    raw.fd = open_file(options->folder);
    if (raw.fd < 0)
        return vmm_error_set(err, raw.fd, "overlay: no temporary file in %s: %s", options->folder,
                             strerror(-raw.fd));
    raw.threads = options->threads;
    raw.cache = VMM_BLOCK_CACHE_UNSAFE;
    raw.unlocked = 1;
    int rc = ftruncate(raw.fd, (off_t)o->length) < 0 ? -errno : 0;
    if (rc)
        (void)vmm_error_set(err, rc, "overlay: %s", strerror(-rc));
    else
        rc = vmm_block_raw_new(vmm_block_loop(o->base), &raw, &o->store, err);
    close(raw.fd);
    return rc;
}

static int make_store(struct overlay *o, const struct vmm_block_overlay_options *options,
                      struct vmm_error *err)
{
    struct vmm_block_memory_options memory = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    if (options->folder)
        return make_file(o, options, err);
    memory.length = o->length;
    memory.block_size = o->unit;
    return vmm_block_memory_new(vmm_block_loop(o->base), &memory, &o->store, err);
}

static int prepare(struct overlay *o, const struct vmm_block_overlay_options *options,
                   struct vmm_error *err)
{
    struct vmm_block_info base = VMM_BLOCK_INFO_INIT;
    int rc = vmm_block_get_info(o->base, &base);
    if (rc)
        return vmm_error_set(err, rc, "overlay: %s", strerror(-rc));
    o->length = base.length;
    o->unit = base.block_size;
    o->page_count = base.length / o->unit / PAGE_BITS + 1;
    o->pages = calloc(o->page_count, sizeof(*o->pages));
    return o->pages ? make_store(o, options, err) : vmm_error_set(err, -ENOMEM, "out of memory");
}

int vmm_block_overlay_new(struct vmm_block *base, const struct vmm_block_overlay_options *given,
                          struct vmm_block **out, struct vmm_error *err)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops),
        .submit = submit,
        .info = info,
        .extent = extent,
        .destroy = destroy,
        .quiesce = quiesce,
        .drain = drain,
        .plug = plug,
    };
    struct vmm_block_overlay_options options = VMM_BLOCK_OVERLAY_OPTIONS_INIT;
    if (!base || !out || (given && vmm_options_copy(&options, sizeof(options), given)))
        return vmm_error_set(err, -EINVAL, "overlay: bad options");
    struct overlay *o = calloc(1, sizeof(*o));
    if (!o)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o->base = vmm_block_ref(base);
    int rc = prepare(o, &options, err);
    if (!rc) {
        rc = vmm_block_new(vmm_block_loop(base), &ops, o, &o->block);
        if (rc)
            (void)vmm_error_set(err, rc, "overlay: %s", strerror(-rc));
    }
    if (rc) {
        destroy(o);
        return rc;
    }
    *out = o->block;
    return 0;
}
