/* SPDX-License-Identifier: BSD-3-Clause */
/* Another backing file: what it has differently is copied into the image; then the header names it, in
 * one write of the file's first block. */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

#define PIECE (UINT64_C(1) << 20)

struct rebase_call {
    const struct vmm_qcow2_rebase_options *o;
    uint64_t new_length; /* of the new backing file */
    struct vmm_error *err;
};

/* Contents ------------------------------------------------------------------------------------- */

static int read_new(struct qcow2 *q, const struct rebase_call *c, uint64_t at, uint8_t *data,
                    uint64_t length)
{
    uint64_t there = c->o->file && at < c->new_length ? q2_min(length, c->new_length - at) : 0;
    memset(data + there, 0, (size_t)(length - there));
    return there ? vmm_q2_read(q, c->o->file, at, data, (size_t)there) : 0;
}

/* A stretch that the backing file answers for. */
static int copy_stretch(struct qcow2 *q, const struct rebase_call *c, uint64_t at, uint64_t length,
                        uint8_t *old, uint8_t *new)
{
    int rc = vmm_q2_read_backing(q, at, old, length);
    if (!rc)
        rc = read_new(q, c, at, new, length);
    for (uint64_t done = 0; done < length && !rc;) {
        uint64_t in = (at + done) & (q->cluster_size - 1);
        uint64_t n = q2_min(q->cluster_size - in, length - done);
        if (memcmp(old + done, new + done, (size_t)n) != 0)
            rc = vmm_q2_write_guest(q, at + done, old + done, n);
        done += n;
    }
    return rc;
}

static int copy_all(struct qcow2 *q, const struct rebase_call *c)
{
    uint8_t *old = vmm_q2_buffer((size_t)PIECE), *new = vmm_q2_buffer((size_t)PIECE);
    int rc = old && new ? 0 : -ENOMEM;
    for (uint64_t at = 0; at < q->size && !rc;) {
        struct q2_extent e;
        rc = vmm_q2_map(q, at, q2_min(PIECE, q->size - at), &e);
        if (!rc && e.type == Q2_BACKING)
            rc = copy_stretch(q, c, at, e.length, old, new);
        at += e.length;
    }
    free(old);
    free(new);
    return rc ? rc : vmm_q2_sync_all(q);
}

/* The header ----------------------------------------------------------------------------------- */

static size_t put_extension(uint8_t *to, uint32_t type, const uint8_t *data, size_t length)
{
    q2_store32(to, type);
    q2_store32(to + 4, (uint32_t)length);
    memcpy(to + 8, data, length);
    memset(to + 8 + length, 0, (size_t)vmm_align_up(length, 8) - length);
    return 8 + (size_t)vmm_align_up(length, 8);
}

/* The extensions anew, with the new format; those that say what features are called may go. Returns
 * where they end, or 0: they do not fit. */
static size_t put_extensions(const struct qcow2 *q, const uint8_t *from, uint8_t *to, size_t room,
                             const char *format, bool with_names)
{
    size_t at = q->header.header_length, end = at;
    if (format)
        end += put_extension(to + end, Q2_EXTENSION_BACKING_FORMAT, (const uint8_t *)format,
                             strlen(format));
    while (at + 8 <= q->header.extensions_end) {
        uint32_t type = q2_load32(from + at), length = q2_load32(from + at + 4);
        if (type == 0)
            break;
        if (type != Q2_EXTENSION_BACKING_FORMAT && (with_names || type != Q2_EXTENSION_FEATURES)) {
            if (end + 16 + vmm_align_up(length, 8) > room)
                return 0;
            end += put_extension(to + end, type, from + at + 8, length);
        }
        at += 8 + (size_t)vmm_align_up(length, 8);
    }
    if (end + 8 > room)
        return 0;
    memset(to + end, 0, 8);
    return end + 8;
}

/* A place for the name that the old name does not use; 0: none. */
static uint64_t place_name(const struct qcow2 *q, uint64_t end, uint64_t length)
{
    uint64_t old = q->header.backing_offset, old_end = old ? old + q->header.backing_length : 0;
    if (end + length <= q->block_size)
        return end; /* all in one write */
    uint64_t at = q->block_size;
    if (old && at < old_end && old < at + length)
        at = vmm_align_up(old_end, 8);
    return at + length <= q->cluster_size ? at : 0;
}

static int write_name(struct qcow2 *q, uint8_t *first, uint64_t at, const char *name)
{
    uint64_t length = strlen(name), start = at & ~(uint64_t)(q->block_size - 1);
    memcpy(first + at, name, (size_t)length);
    if (start == 0)
        return 0; /* goes with the header */
    uint64_t end = vmm_align_up(at + length, q->block_size);
    int rc = vmm_q2_write(q, q->file, start, first + start, (size_t)(end - start));
    return rc ? rc : vmm_q2_flush(q, q->file);
}

static int compose(struct qcow2 *q, const struct vmm_qcow2_rebase_options *o, uint8_t *first,
                   uint8_t *block)
{
    uint64_t at = 0;
    const char *format = o->backing ? o->backing_format : NULL;
    memcpy(block, first, q->header.header_length);
    size_t end = put_extensions(q, first, block, q->block_size, format, true);
    if (!end)
        end = put_extensions(q, first, block, q->block_size, format, false);
    if (!end)
        return -ENOSPC;
    if (o->backing) {
        at = place_name(q, end, strlen(o->backing));
        int rc = at ? write_name(q, first, at, o->backing) : -ENOSPC;
        if (rc)
            return rc;
        if (at < q->block_size)
            memcpy(block + at, o->backing, strlen(o->backing));
    }
    q2_store64(block + 8, at);
    q2_store32(block + 16, at ? (uint32_t)strlen(o->backing) : 0);
    q->header.extensions_end = end;
    return 0;
}

static void remember(struct qcow2 *q, const struct vmm_qcow2_rebase_options *o)
{
    struct q2_header *h = &q->header;
    h->backing_offset = q2_load64(q->head + 8);
    h->backing_length = q2_load32(q->head + 16);
    memset(h->backing_name, 0, sizeof(h->backing_name));
    memset(h->backing_format, 0, sizeof(h->backing_format));
    if (o->backing) {
        memcpy(h->backing_name, o->backing, strlen(o->backing));
        memcpy(h->backing_format, o->backing_format, strlen(o->backing_format));
    }
}

static int rename_backing(struct qcow2 *q, const struct vmm_qcow2_rebase_options *o)
{
    uint8_t *first = vmm_q2_buffer((size_t)q->cluster_size);
    uint8_t *block = calloc(1, q->block_size + 4096);
    int rc = first && block ? vmm_q2_read(q, q->file, 0, first, (size_t)q->cluster_size) : -ENOMEM;
    if (!rc)
        rc = compose(q, o, first, block);
    if (!rc) {
        memcpy(q->head, block, q->block_size);
        rc = vmm_q2_head_write(q) ? vmm_q2_damaged(q) : 0;
    }
    if (!rc)
        remember(q, o);
    free(first);
    free(block);
    return rc;
}

/* All of it ------------------------------------------------------------------------------------ */

static int rebase(struct qcow2 *q, void *arg)
{
    struct rebase_call *c = arg;
    struct q2_op op;
    int rc = vmm_q2_hold_all(q, &op);
    if (!rc && !c->o->only_name)
        rc = copy_all(q, c);
    if (!rc)
        rc = rename_backing(q, c->o);
    vmm_q2_op_unlock(&op);
    return rc;
}

static int check_options(const struct qcow2 *q, const struct vmm_qcow2_rebase_options *o,
                         struct vmm_error *err)
{
    if (o->backing && (!o->backing[0] || strlen(o->backing) > Q2_NAME_MAX || !o->backing_format ||
                       !o->backing_format[0] || strlen(o->backing_format) > 31))
        return vmm_error_set(err, -EINVAL,
                             "qcow2: the backing file's name has 1 to 1023 bytes, and "
                             "its format must be named");
    if (!o->only_name && ((o->backing && !o->file) || (!o->backing && o->file)))
        return vmm_error_set(err, -EINVAL,
                             "qcow2: the new backing file must be given open, with "
                             "its name");
    if (!o->only_name && q->header.backing_offset && !q->backing)
        return vmm_error_set(err, -EINVAL,
                             "qcow2: the old backing file is not open, so that what "
                             "it has cannot be kept");
    if (o->backing && q->data_raw)
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: a raw data file does not go with a backing "
                             "file");
    if (q->read_only)
        return vmm_error_set(err, -EACCES, "qcow2: the image is read-only");
    return 0;
}

int vmm_qcow2_rebase(struct vmm_block *block, const struct vmm_qcow2_rebase_options *given,
                     struct vmm_error *err)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct vmm_qcow2_rebase_options o;
    struct rebase_call c = {.o = &o, .err = err};
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (!q || (q->flags & VMM_QCOW2_CHECK))
        return vmm_error_set(err, -ENOTSUP, "not a qcow2 image's block device, or for checking");
    if (!given || vmm_options_copy(&o, sizeof(o), given) || o.reserved)
        return vmm_error_set(err, -EINVAL, "qcow2: bad options");
    int rc = check_options(q, &o, err);
    if (!rc && o.file) {
        rc = vmm_block_get_info(o.file, &info);
        if (!rc && info.block_size > q->block_size)
            rc = -ENOTSUP;
        c.new_length = info.length;
        if (rc)
            (void)vmm_error_set(err, rc, "qcow2: the new backing file: %s", strerror(-rc));
    }
    if (rc)
        return rc;
    q->other = o.file;
    rc = vmm_q2_call(q, rebase, &c);
    q->other = NULL;
    if (rc)
        return vmm_error_set(err, rc, "qcow2: rebase: %s", strerror(-rc));
    if (o.file || !o.backing) {
        vmm_block_unref(q->backing);
        q->backing = o.file ? vmm_block_ref(o.file) : NULL;
        q->backing_length = c.new_length;
    }
    return 0;
}
