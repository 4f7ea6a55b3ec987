/* SPDX-License-Identifier: BSD-3-Clause */
/* Making images: header, refcount table, refcount blocks, an empty L1 table, in this order. */
#include "backends/block/qcow2/chain.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct plan {
    struct vmm_qcow2_create_options o;
    uint32_t cluster_bits, refcount_order, entry_bits;
    uint64_t cluster_size;
    uint64_t l1_entries;
    uint64_t rt_first, rt_count, block_first, block_count, l1_first, l1_count, total; /* clusters */
};

/* Requests without the loop, outside of coroutines --------------------------------------------- */

struct waiter {
    bool done;
    int result;
};

static void done(struct vmm_block_request *request, int result)
{
    struct waiter *w = request->ctx;
    w->result = result;
    w->done = true;
}

static int perform(struct vmm_block *block, uint32_t op, uint64_t offset, void *data, size_t length)
{
    struct waiter w = {.done = false};
    struct iovec v = {data, length};
    struct vmm_block_request r = {.op = op,
                                  .offset = offset,
                                  .length = length,
                                  .vector = &v,
                                  .vector_count = 1,
                                  .done = done,
                                  .ctx = &w};
    vmm_block_submit(block, &r);
    while (!w.done)
        vmm_block_drain(block);
    return w.result;
}

/* Planning ------------------------------------------------------------------------------------- */

static int bad(struct vmm_error *err, const char *what)
{
    return vmm_error_set(err, -EINVAL, "qcow2: %s", what);
}

static int check_version_2(const struct vmm_qcow2_create_options *o, struct vmm_error *err)
{
    if (o->version == 2 && (o->refcount_bits != 16 || o->compression || o->flags || o->data_file))
        return bad(err, "version 2 has refcounts of 16 bits and zlib, and no extended L2 entries, "
                        "lazy refcounts or data file");
    return 0;
}

static int check_options(const struct vmm_qcow2_create_options *o, struct vmm_error *err)
{
    const uint32_t known =
        VMM_QCOW2_EXTENDED_L2 | VMM_QCOW2_LAZY_REFCOUNTS | VMM_QCOW2_DATA_FILE_RAW;
    if (o->version != 2 && o->version != 3)
        return bad(err, "versions 2 and 3 are known");
    if (!o->length || o->length % 512 || o->length > INT64_MAX)
        return bad(err, "the disk's length is not a multiple of 512 bytes");
    if (o->cluster_size < 512 || o->cluster_size > 2u << 20 ||
        !vmm_is_power_of_two(o->cluster_size))
        return bad(err, "clusters are of 512 bytes to 2 MiB, a power of two");
    if (o->refcount_bits > 64 || !vmm_is_power_of_two(o->refcount_bits))
        return bad(err, "refcounts are of 1 to 64 bits, a power of two");
    if ((o->flags & ~known) || o->compression > VMM_QCOW2_ZSTD || o->reserved)
        return bad(err, "unknown flags or compression");
    if ((o->flags & VMM_QCOW2_EXTENDED_L2) && o->cluster_size < 16384)
        return bad(err, "extended L2 entries need clusters of 16 KiB or more");
    if ((o->flags & VMM_QCOW2_DATA_FILE_RAW) && (!o->data_file || o->backing))
        return bad(err, "a raw data file needs a data file and no backing file");
    if (o->backing && (!o->backing_format || !o->backing_format[0]))
        return bad(err, "the backing file's format must be named");
    if ((o->backing && (!o->backing[0] || strlen(o->backing) > Q2_NAME_MAX)) ||
        (o->backing_format && strlen(o->backing_format) > 31) ||
        (o->data_file && (!o->data_file[0] || strlen(o->data_file) > Q2_NAME_MAX)))
        return bad(err, "a file's name is empty or longer than 1023 bytes");
    return check_version_2(o, err);
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static int make_plan(struct plan *p, struct vmm_error *err)
{
    p->cluster_size = p->o.cluster_size;
    p->cluster_bits = (uint32_t)__builtin_ctz(p->o.cluster_size);
    p->refcount_order = (uint32_t)__builtin_ctz(p->o.refcount_bits);
    p->entry_bits = p->o.flags & VMM_QCOW2_EXTENDED_L2 ? 4 : 3;
    p->l1_entries = divide_up(p->o.length, UINT64_C(1) << (2 * p->cluster_bits - p->entry_bits));
    if (p->l1_entries * 8 > Q2_L1_MAX)
        return vmm_error_set(err, -EFBIG,
                             "qcow2: a disk of %llu bytes needs clusters of more than "
                             "%u bytes",
                             (unsigned long long)p->o.length, p->o.cluster_size);
    uint64_t per_block = UINT64_C(1) << (p->cluster_bits + 3 - p->refcount_order);
    p->l1_count = divide_up(p->l1_entries * 8, p->cluster_size);
    p->block_count = p->rt_count = 1;
    for (int turns = 0; turns < 64; turns++) { /* what is counted counts itself */
        p->total = 1 + p->rt_count + p->block_count + p->l1_count;
        p->block_count = divide_up(p->total, per_block);
        p->rt_count = divide_up(p->block_count * 8, p->cluster_size);
        if (p->total == 1 + p->rt_count + p->block_count + p->l1_count)
            break;
    }
    p->rt_first = 1;
    p->block_first = p->rt_first + p->rt_count;
    p->l1_first = p->block_first + p->block_count;
    return 0;
}

/* Writing -------------------------------------------------------------------------------------- */

static size_t put_extension(uint8_t *to, uint32_t type, const char *text)
{
    size_t length = strlen(text);
    q2_store32(to, type);
    q2_store32(to + 4, (uint32_t)length);
    memcpy(to + 8, text, length);
    return 8 + (size_t)vmm_align_up(length, 8);
}

static void put_fields(const struct plan *p, uint8_t *h)
{
    const struct vmm_qcow2_create_options *o = &p->o;
    q2_store32(h, Q2_MAGIC);
    q2_store32(h + 4, o->version);
    q2_store32(h + 20, p->cluster_bits);
    q2_store64(h + 24, o->length);
    q2_store32(h + 36, (uint32_t)p->l1_entries);
    q2_store64(h + 40, p->l1_first << p->cluster_bits);
    q2_store64(h + 48, p->rt_first << p->cluster_bits);
    q2_store32(h + 56, (uint32_t)p->rt_count);
    if (o->version < 3)
        return;
    q2_store64(h + 72, (o->data_file ? Q2_INCOMPATIBLE_DATA : 0) |
                           (o->compression ? Q2_INCOMPATIBLE_COMPRESSION : 0) |
                           (o->flags & VMM_QCOW2_EXTENDED_L2 ? Q2_INCOMPATIBLE_EXTENDED : 0));
    q2_store64(h + 80, o->flags & VMM_QCOW2_LAZY_REFCOUNTS ? Q2_COMPATIBLE_LAZY : 0);
    q2_store64(h + 88, o->flags & VMM_QCOW2_DATA_FILE_RAW ? Q2_AUTOCLEAR_RAW : 0);
    q2_store32(h + 96, p->refcount_order);
    q2_store32(h + 100, 112);
    h[104] = (uint8_t)o->compression;
}

/* All names fit in 4 KiB; whether they fit in a cluster is seen at the end. */
static int put_header(const struct plan *p, uint8_t *h, struct vmm_error *err)
{
    const struct vmm_qcow2_create_options *o = &p->o;
    size_t at = o->version < 3 ? 72 : 112;
    put_fields(p, h);
    if (o->backing)
        at += put_extension(h + at, Q2_EXTENSION_BACKING_FORMAT, o->backing_format);
    if (o->data_file)
        at += put_extension(h + at, Q2_EXTENSION_DATA_FILE, o->data_file);
    at += 8; /* the end of the extensions: zeroes */
    if (o->backing) {
        size_t length = strlen(o->backing);
        q2_store64(h + 8, at);
        q2_store32(h + 16, (uint32_t)length);
        memcpy(h + at, o->backing, length);
        at += length;
    }
    return at > p->cluster_size ? bad(err, "the names do not fit in a cluster of that size") : 0;
}

static int write_tables(const struct plan *p, struct vmm_block *file, uint8_t *cluster)
{
    uint64_t per_block = UINT64_C(1) << (p->cluster_bits + 3 - p->refcount_order);
    uint64_t per_cluster = p->cluster_size / 8, left = p->total;
    int rc = 0;
    for (uint64_t i = 0; i < p->rt_count && !rc; i++) {
        memset(cluster, 0, (size_t)p->cluster_size);
        for (uint64_t j = i * per_cluster; j < p->block_count && j < (i + 1) * per_cluster; j++)
            q2_store64(cluster + (j - i * per_cluster) * 8, (p->block_first + j)
                                                                << p->cluster_bits);
        rc = perform(file, VMM_BLOCK_WRITE, (p->rt_first + i) << p->cluster_bits, cluster,
                     (size_t)p->cluster_size);
    }
    for (uint64_t i = 0; i < p->block_count && !rc; i++) {
        memset(cluster, 0, (size_t)p->cluster_size);
        for (uint64_t j = 0; j < per_block && left; j++, left--)
            vmm_q2_refcount_poke(cluster, p->refcount_order, j, 1);
        rc = perform(file, VMM_BLOCK_WRITE, (p->block_first + i) << p->cluster_bits, cluster,
                     (size_t)p->cluster_size);
    }
    memset(cluster, 0, (size_t)p->cluster_size);
    for (uint64_t i = 0; i < p->l1_count && !rc; i++)
        rc = perform(file, VMM_BLOCK_WRITE, (p->l1_first + i) << p->cluster_bits, cluster,
                     (size_t)p->cluster_size);
    return rc ? rc : perform(file, VMM_BLOCK_FLUSH, 0, NULL, 0);
}

/* The header last: until then it is no image. */
static int write_image(const struct plan *p, struct vmm_block *file, struct vmm_error *err)
{
    uint8_t *cluster = vmm_q2_buffer(p->cluster_size > 8192 ? (size_t)p->cluster_size : 8192);
    if (!cluster)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = write_tables(p, file, cluster);
    if (rc) {
        free(cluster);
        return vmm_error_set(err, rc, "qcow2: writing the image: %s", strerror(-rc));
    }
    memset(cluster, 0, p->cluster_size > 8192 ? (size_t)p->cluster_size : 8192);
    rc = put_header(p, cluster, err);
    if (!rc) {
        rc = perform(file, VMM_BLOCK_WRITE, 0, cluster, (size_t)p->cluster_size);
        if (!rc)
            rc = perform(file, VMM_BLOCK_FLUSH, 0, NULL, 0);
        if (rc)
            (void)vmm_error_set(err, rc, "qcow2: writing the image: %s", strerror(-rc));
    }
    free(cluster);
    return rc;
}

/* Files ---------------------------------------------------------------------------------------- */

static int make_file(const char *path, uint64_t length, bool may_exist, int *fd,
                     struct vmm_error *err)
{
    struct stat st;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (may_exist ? 0 : O_EXCL), 0666);
    if (*fd < 0)
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &st) < 0 || (S_ISREG(st.st_mode) && (uint64_t)st.st_size < length &&
                                ftruncate(*fd, (off_t)length) < 0)) {
        int rc = -errno;
        close(*fd);
        return vmm_error_set(err, rc, "%s: %s", path, strerror(-rc));
    }
    return 0;
}

static int make_data_file(const struct plan *p, const char *path, struct vmm_error *err)
{
    char *name;
    int fd, rc = vmm_q2_path_resolve(path, p->o.data_file, &name, err);
    if (rc)
        return rc;
    rc = make_file(name, p->o.length, true, &fd, err);
    if (!rc)
        close(fd);
    free(name);
    return rc;
}

static int create_file(struct vmm_loop *loop, const char *path, const struct plan *p,
                       struct vmm_error *err)
{
    struct vmm_block_raw_options raw = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct vmm_block *file;
    int rc = make_file(path, p->total << p->cluster_bits, false, &raw.fd, err);
    if (rc)
        return rc;
    rc = vmm_block_raw_new(loop, &raw, &file, err);
    close(raw.fd);
    if (!rc) {
        rc = write_image(p, file, err);
        vmm_block_unref(file);
    }
    if (rc)
        (void)unlink(path); /* we made it */
    return rc;
}

int vmm_qcow2_create(struct vmm_loop *loop, const char *path,
                     const struct vmm_qcow2_create_options *given, struct vmm_error *err)
{
    struct plan p = {0};
    if (!loop || !given || vmm_options_copy(&p.o, sizeof(p.o), given) || (!path && !p.o.file))
        return vmm_error_set(err, -EINVAL, "qcow2: bad options");
    p.o.version = p.o.version ? p.o.version : 3;
    p.o.cluster_size = p.o.cluster_size ? p.o.cluster_size : 65536;
    p.o.refcount_bits = p.o.refcount_bits ? p.o.refcount_bits : 16;
    int rc = check_options(&p.o, err);
    if (!rc)
        rc = make_plan(&p, err);
    if (!rc && p.o.data_file && path)
        rc = make_data_file(&p, path, err);
    if (rc)
        return rc;
    if (!p.o.file)
        return create_file(loop, path, &p, err);
    rc = vmm_block_resize(p.o.file, p.total << p.cluster_bits, err);
    return rc ? rc : write_image(&p, p.o.file, err);
}
