/* SPDX-License-Identifier: BSD-3-Clause */
/* Backing files and data files: their names come from the image, so they are opened on request only, in
 * a format that is named, and never twice. */
#include "backends/block/qcow2/chain.h"
#include "backends/block/qcow2/ragged.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files ---------------------------------------------------------------------------------------- */

static int know(int fd, const char *path, struct q2_chain *chain, struct stat *st,
                struct vmm_error *err)
{
    if (fstat(fd, st) < 0)
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return vmm_error_set(err, -EINVAL, "%s is neither a file nor a block device", path);
    chain->device = st->st_dev;
    chain->inode = st->st_ino;
    for (const struct q2_chain *c = chain->above; c; c = c->above)
        if (c->device == st->st_dev && c->inode == st->st_ino)
            return vmm_error_set(err, -ELOOP, "%s: the chain of images comes back to it", path);
    return 0;
}

static int open_known(struct vmm_loop *loop, int fd, const char *path, bool read_only,
                      uint32_t threads, const struct stat *st, struct vmm_block **out,
                      struct vmm_error *err)
{
    uint64_t length = (uint64_t)st->st_size;
    if (S_ISREG(st->st_mode) && length % 512 && read_only) {
        int rc = vmm_q2_ragged_new(loop, fd, length, out);
        return rc ? vmm_error_set(err, rc, "%s: %s", path, strerror(-rc)) : 0;
    }
    if (S_ISREG(st->st_mode) && length % 512 && ftruncate(fd, (off_t)vmm_align_up(length, 512)) < 0)
        return vmm_error_set(err, -errno, "%s: making its length a multiple of 512: %s", path,
                             strerror(errno));
    struct vmm_block_raw_options raw = VMM_BLOCK_RAW_OPTIONS_INIT;
    raw.fd = fd;
    raw.read_only = read_only;
    raw.threads = threads;
    int rc = vmm_block_raw_new(loop, &raw, out, err);
    if (rc)
        vmm_error_prefix(err, "%s", path);
    return rc;
}

int vmm_q2_file_open(struct vmm_loop *loop, const char *path, bool read_only, uint32_t threads,
                     struct q2_chain *chain, struct vmm_block **out, struct vmm_error *err)
{
    struct stat st;
    /* Not blocking on what turns out to be a pipe. */
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    int rc = know(fd, path, chain, &st, err);
    if (!rc && fcntl(fd, F_SETFL, 0) < 0)
        rc = vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!rc)
        rc = open_known(loop, fd, path, read_only, threads, &st, out, err);
    close(fd);
    return rc;
}

/* Names ---------------------------------------------------------------------------------------- */

int vmm_q2_path_resolve(const char *from, const char *name, char **out, struct vmm_error *err)
{
    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
    if (colon && (!slash || colon < slash))
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: \"%s\" is not the name of a file but of a protocol; open it "
                             "and give it as the backing file",
                             name);
    const char *end = from ? strrchr(from, '/') : NULL;
    size_t folder = name[0] == '/' || !end ? 0 : (size_t)(end - from) + 1;
    if (name[0] != '/' && !from)
        return vmm_error_set(err, -EINVAL,
                             "qcow2: \"%s\" counts from the image's folder, which is "
                             "not known: give the image's path",
                             name);
    size_t length = folder + strlen(name);
    *out = malloc(length + 1);
    if (!*out)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    if (folder)
        memcpy(*out, from, folder);
    memcpy(*out + folder, name, length - folder + 1);
    return 0;
}

/* What an image names -------------------------------------------------------------------------- */

static int may_follow(const struct qcow2 *q, const char *what, const char *name,
                      struct vmm_error *err)
{
    if (q->flags & VMM_QCOW2_FOLLOW)
        return 0;
    return vmm_error_set(err, -EPERM,
                         "qcow2: the image names a %s, \"%s\", and opening it was not allowed "
                         "(VMM_QCOW2_FOLLOW)",
                         what, name);
}

static int open_named_backing(struct qcow2 *q, const struct vmm_qcow2_options *o, const char *path,
                              const char *format, const struct q2_chain *chain,
                              struct vmm_error *err)
{
    bool writable = q->flags & VMM_QCOW2_WRITE_BACKING;
    if (strcmp(format, "raw") == 0) {
        struct q2_chain self = {.above = chain};
        return vmm_q2_file_open(q->loop, path, !writable, o->threads, &self, &q->backing, err);
    }
    if (strcmp(format, "qcow2") != 0)
        return vmm_error_set(err, -ENOTSUP,
                             "qcow2: a backing file of format \"%s\": raw and qcow2 "
                             "are known; open it and give it as the backing file",
                             format);
    if (chain->limit <= 1)
        return vmm_error_set(err, -ELOOP, "qcow2: the chain of images is too long at \"%s\"", path);
    struct vmm_qcow2_options below = VMM_QCOW2_OPTIONS_INIT;
    below.path = path;
    below.flags = VMM_QCOW2_FOLLOW | (writable ? 0 : VMM_QCOW2_READ_ONLY);
    below.threads = o->threads;
    below.cache_size = o->cache_size;
    return vmm_q2_open(q->loop, &below, chain, &q->backing, err);
}

int vmm_q2_open_backing(struct qcow2 *q, const struct vmm_qcow2_options *o,
                        const struct q2_chain *chain, struct vmm_error *err)
{
    const char *name = q->header.backing_name, *format = q->header.backing_format;
    char *path = NULL;
    if (o->backing) {
        q->backing = vmm_block_ref(o->backing);
        return 0;
    }
    if (!q->header.backing_offset || q->alone)
        return 0;
    int rc = may_follow(q, "backing file", name, err);
    if (!rc && o->backing_format)
        format = o->backing_format;
    if (!rc && !format[0])
        rc = vmm_error_set(err, -EINVAL,
                           "qcow2: the image does not say of which format its backing "
                           "file \"%s\" is, and formats are not guessed: name it",
                           name);
    if (!rc)
        rc = vmm_q2_path_resolve(q->path, name, &path, err);
    if (!rc) {
        rc = open_named_backing(q, o, path, format, chain, err);
        if (rc)
            vmm_error_prefix(err, "backing file");
    }
    free(path);
    return rc;
}

int vmm_q2_open_data(struct qcow2 *q, const struct vmm_qcow2_options *o,
                     const struct q2_chain *chain, struct vmm_error *err)
{
    char *path = NULL;
    if (!q->has_data_file) {
        q->data = q->file;
        return 0;
    }
    if (o->data_file) {
        q->data = vmm_block_ref(o->data_file);
        return 0;
    }
    if (q->alone)
        return 0;
    if (!q->header.data_name[0])
        return vmm_error_set(err, -EINVAL,
                             "qcow2: the image has a data file and does not name it: give it");
    int rc = may_follow(q, "data file", q->header.data_name, err);
    if (!rc)
        rc = vmm_q2_path_resolve(q->path, q->header.data_name, &path, err);
    if (!rc) {
        struct q2_chain self = {.above = chain};
        rc = vmm_q2_file_open(q->loop, path, q->read_only, o->threads, &self, &q->data, err);
        if (rc)
            vmm_error_prefix(err, "data file");
    }
    free(path);
    return rc;
}
