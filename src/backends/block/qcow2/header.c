/* SPDX-License-Identifier: BSD-3-Clause */
/* The header and its extensions ("Header", "Header extensions"). All of it may be a lie. */
#include "backends/block/qcow2/qcow2.h"

#include <stdio.h>
#include <stdlib.h>

#define V2_LENGTH 72u
#define V3_LENGTH 104u

static int bad(struct vmm_error *err, const char *what)
{
    return vmm_error_set(err, -EINVAL, "qcow2: %s", what);
}

/* Extensions ----------------------------------------------------------------------------------- */

/* The image's own name for a feature bit that we do not know ("Feature name table"). */
static void feature_name(const uint8_t *data, size_t length, uint64_t unknown, char name[47])
{
    size_t at = 0;
    snprintf(name, 47, "incompatible bit %d", __builtin_ctzll(unknown));
    for (; length - at >= 48; at += 48)
        if (data[at] == 0 && data[at + 1] < 64 && (unknown >> data[at + 1] & 1)) {
            memcpy(name, data + at + 2, 46);
            name[46] = '\0';
            for (int i = 0; name[i]; i++)
                if (name[i] < ' ' || name[i] > '~')
                    name[i] = '?';
            return;
        }
}

static int copy_text(char *to, size_t room, const uint8_t *from, size_t length)
{
    if (length >= room || memchr(from, '\0', length))
        return -EINVAL;
    memcpy(to, from, length);
    to[length] = '\0';
    return 0;
}

static int take_extension(struct q2_header *h, uint32_t type, const uint8_t *data, size_t length,
                          struct vmm_error *err)
{
    switch (type) {
    case Q2_EXTENSION_BACKING_FORMAT:
        if (copy_text(h->backing_format, sizeof(h->backing_format), data, length))
            return bad(err, "the backing file's format has an impossible name");
        return 0;
    case Q2_EXTENSION_DATA_FILE:
        if (copy_text(h->data_name, sizeof(h->data_name), data, length))
            return bad(err, "the data file's name is longer than 1023 bytes or has a zero in it");
        return 0;
    case Q2_EXTENSION_BITMAPS:
        if (length < 24)
            return bad(err, "the bitmaps extension is too short");
        h->bitmap_count = q2_load32(data);
        h->bitmaps_size = q2_load64(data + 8);
        h->bitmaps_offset = q2_load64(data + 16);
        return 0;
    case Q2_EXTENSION_FEATURES:
        if (h->incompatible & ~(uint64_t)Q2_INCOMPATIBLE_KNOWN) {
            char name[47];
            feature_name(data, length, h->incompatible & ~(uint64_t)Q2_INCOMPATIBLE_KNOWN, name);
            return vmm_error_set(err, -ENOTSUP,
                                 "qcow2: the image needs a feature that is not "
                                 "supported here: %s",
                                 name);
        }
        return 0;
    default:
        return 0;
    }
}

static int take_extensions(struct q2_header *h, const uint8_t *data, size_t length,
                           struct vmm_error *err)
{
    size_t at = h->header_length;
    size_t end = h->backing_offset && h->backing_offset < length ? h->backing_offset : length;
    while (at + 8 <= end) {
        uint32_t type = q2_load32(data + at), size = q2_load32(data + at + 4);
        at += 8;
        if (type == 0)
            break;
        if (size > end - at)
            return bad(err, "a header extension is longer than its room");
        int rc = take_extension(h, type, data + at, size, err);
        if (rc)
            return rc;
        at += (size_t)vmm_align_up(size, 8);
    }
    h->extensions_end = at;
    return 0;
}

/* Fields --------------------------------------------------------------------------------------- */

static int take_version_3(struct q2_header *h, const uint8_t *data, size_t length,
                          struct vmm_error *err)
{
    if (length < V3_LENGTH)
        return bad(err, "the file ends in the header");
    h->incompatible = q2_load64(data + 72);
    h->compatible = q2_load64(data + 80);
    h->autoclear = q2_load64(data + 88);
    h->refcount_order = q2_load32(data + 96);
    h->header_length = q2_load32(data + 100);
    if (h->refcount_order > 6)
        return bad(err, "refcounts of more than 64 bits");
    if (h->header_length < V3_LENGTH || h->header_length % 8 || h->header_length > length)
        return bad(err, "an impossible header length");
    if (h->header_length > V3_LENGTH)
        h->compression = data[104];
    if (!(h->incompatible & Q2_INCOMPATIBLE_COMPRESSION) != (h->compression == 0))
        return bad(err, "the compression type and its feature bit disagree");
    if (h->compression > 1)
        return vmm_error_set(err, -ENOTSUP, "qcow2: compression type %u is not known",
                             h->compression);
    return 0;
}

static int check_features(const struct q2_header *h, struct vmm_error *err)
{
    uint64_t unknown = h->incompatible & ~(uint64_t)Q2_INCOMPATIBLE_KNOWN;
    if (unknown)
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: the image needs a feature that is not supported here: "
                             "incompatible bit %d",
                             __builtin_ctzll(unknown));
    if ((h->incompatible & Q2_INCOMPATIBLE_EXTENDED) && h->cluster_bits < 14)
        return bad(err, "extended L2 entries need clusters of 16 KiB or more");
    if ((h->incompatible & Q2_INCOMPATIBLE_DATA) && h->snapshot_count)
        return bad(err, "internal snapshots do not go with a data file");
    if ((h->autoclear & Q2_AUTOCLEAR_RAW) && !(h->incompatible & Q2_INCOMPATIBLE_DATA))
        return bad(err, "a raw data file is promised and there is no data file");
    if ((h->autoclear & Q2_AUTOCLEAR_RAW) && h->backing_offset)
        return bad(err, "a raw data file does not go with a backing file");
    return 0;
}

static int check_table(const struct q2_header *h, uint64_t offset, uint64_t length,
                       uint64_t file_length, const char *name, struct vmm_error *err)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (length && (offset == 0 || offset % cluster || offset > file_length ||
                   vmm_align_up(length, 512) > vmm_align_up(file_length, cluster) - offset))
        return vmm_error_set(err, -EINVAL,
                             "qcow2: the %s (%llu bytes at %llu) is not within the file", name,
                             (unsigned long long)length, (unsigned long long)offset);
    return 0;
}

static int check_tables(const struct q2_header *h, uint64_t file_length, struct vmm_error *err)
{
    uint64_t rt_length = (uint64_t)h->rt_clusters << h->cluster_bits;
    uint32_t entry_bits = h->incompatible & Q2_INCOMPATIBLE_EXTENDED ? 4 : 3;
    uint32_t l1_shift = 2 * h->cluster_bits - entry_bits;
    uint64_t l1_needed = (h->size >> l1_shift) + ((h->size & ((UINT64_C(1) << l1_shift) - 1)) != 0);
    if (rt_length == 0 || rt_length > Q2_RT_MAX + (UINT64_C(2) << 20))
        return bad(err, "an impossible size of the refcount table");
    if ((uint64_t)h->l1_size * 8 > Q2_L1_MAX)
        return bad(err, "the L1 table is larger than 32 MiB");
    if (h->l1_size < l1_needed)
        return bad(err, "the L1 table is too short for the disk");
    if (h->snapshot_count > Q2_SNAPSHOT_MAX)
        return bad(err, "more than 65536 snapshots");
    int rc = check_table(h, h->rt_offset, rt_length, file_length, "refcount table", err);
    if (!rc)
        rc = check_table(h, h->l1_offset, (uint64_t)h->l1_size * 8, file_length, "L1 table", err);
    if (!rc)
        rc = check_table(h, h->snapshots_offset, (uint64_t)h->snapshot_count * 40, file_length,
                         "snapshot table", err);
    return rc;
}

static int take_backing(struct q2_header *h, const uint8_t *data, size_t length,
                        struct vmm_error *err)
{
    if (h->backing_offset == 0)
        return 0;
    if (h->backing_length == 0 || h->backing_length > Q2_NAME_MAX || h->backing_offset > length ||
        h->backing_length > length - h->backing_offset)
        return bad(err, "the backing file's name is not within the first cluster");
    if (copy_text(h->backing_name, sizeof(h->backing_name), data + h->backing_offset,
                  h->backing_length))
        return bad(err, "the backing file's name has a zero in it");
    return 0;
}

static int take_fields(struct q2_header *h, const uint8_t *data, size_t length,
                       struct vmm_error *err)
{
    if (length < V2_LENGTH || q2_load32(data) != Q2_MAGIC)
        return bad(err, "the file does not begin as a qcow2 image");
    h->version = q2_load32(data + 4);
    h->backing_offset = q2_load64(data + 8);
    h->backing_length = q2_load32(data + 16);
    h->cluster_bits = q2_load32(data + 20);
    h->size = q2_load64(data + 24);
    h->l1_size = q2_load32(data + 36);
    h->l1_offset = q2_load64(data + 40);
    h->rt_offset = q2_load64(data + 48);
    h->rt_clusters = q2_load32(data + 56);
    h->snapshot_count = q2_load32(data + 60);
    h->snapshots_offset = q2_load64(data + 64);
    h->refcount_order = 4;
    h->header_length = V2_LENGTH;
    if (h->version != 2 && h->version != 3)
        return vmm_error_set(err, -ENOTSUP, "qcow2: version %u is not known, 2 and 3 are",
                             h->version);
    if (h->cluster_bits < 9 || h->cluster_bits > 21)
        return bad(err, "clusters of other than 512 bytes to 2 MiB");
    if (q2_load32(data + 32) != 0)
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: the image is encrypted, which is not supported; "
                             "convert it with qemu-img to an image that is not");
    if (h->size % 512 || h->size > INT64_MAX)
        return bad(err, "the disk's size is not a multiple of 512");
    return 0;
}

int vmm_q2_header_decode(const uint8_t *data, size_t length, uint64_t file_length,
                         struct q2_header *h, struct vmm_error *err)
{
    memset(h, 0, sizeof(*h));
    int rc = take_fields(h, data, length, err);
    if (!rc && h->version == 3)
        rc = take_version_3(h, data, length, err);
    if (rc)
        return rc;
    length = (size_t)q2_min(length, UINT64_C(1) << h->cluster_bits);
    if (h->header_length > length)
        return bad(err, "the header is longer than a cluster");
    rc = take_backing(h, data, length, err);
    if (!rc)
        rc = take_extensions(h, data, length, err);
    if (!rc)
        rc = check_features(h, err);
    if (!rc)
        rc = check_tables(h, file_length, err);
    return rc;
}

/* The file ------------------------------------------------------------------------------------- */

int vmm_q2_header_read(struct qcow2 *q, struct vmm_error *err)
{
    uint8_t *first = vmm_q2_buffer((size_t)2 << 20);
    q->head = vmm_q2_buffer(q->block_size);
    if (!first || !q->head) {
        free(first);
        return vmm_error_set(err, -ENOMEM, "out of memory");
    }
    /* The first 512 bytes say how large a cluster is. */
    size_t length = (size_t)q2_min(q->file_length, q->block_size);
    int rc = length ? vmm_q2_read(q, q->file, 0, first, length) : 0;
    uint32_t bits = length >= V2_LENGTH ? q2_load32(first + 20) : 0;
    if (!rc && bits >= 9 && bits <= 21 && UINT64_C(1) << bits > length) {
        length = (size_t)q2_min(q->file_length, UINT64_C(1) << bits);
        rc = vmm_q2_read(q, q->file, 0, first, length);
    }
    if (rc)
        (void)vmm_error_set(err, rc, "qcow2: reading the header: %s", strerror(-rc));
    else
        rc = vmm_q2_header_decode(first, length, q->file_length, &q->header, err);
    if (!rc && UINT64_C(1) << q->header.cluster_bits < q->block_size)
        rc = vmm_error_set(err, -ENOTSUP,
                           "qcow2: clusters of %u bytes on a file that is written in "
                           "blocks of %u",
                           1u << q->header.cluster_bits, q->block_size);
    if (!rc)
        memcpy(q->head, first, q->block_size);
    free(first);
    return rc;
}

int vmm_q2_head_write(struct qcow2 *q)
{
    int rc = vmm_q2_write(q, q->file, 0, q->head, q->block_size);
    return rc ? rc : vmm_q2_flush(q, q->file);
}

int vmm_q2_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear)
{
    uint64_t old = q->header.incompatible, new = (old | set) & ~clear;
    if (q->header.version < 3 || old == new)
        return 0;
    q2_store64(q->head + 72, new);
    int rc = vmm_q2_head_write(q);
    if (!rc)
        q->header.incompatible = new;
    else
        q2_store64(q->head + 72, old);
    return rc;
}
