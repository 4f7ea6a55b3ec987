/* SPDX-License-Identifier: BSD-3-Clause */
/* Extended attributes: a fid of its own reads or writes the value of one. */
#include "backends/share/share.h"

#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#define READ_HEADER  (P9_HEADER + 4u)
#define WRITE_HEADER (P9_HEADER + 16u)

/* Those of other classes are the host's where owners are mapped: capabilities, labels, lists of
 * access rights that name the host's users. */
static bool allowed(const struct vmm_share *s, const char *name)
{
    return !s->mapped || strncmp(name, "user.", 5) == 0;
}

static int new_value(struct vmm_share *s, size_t size, struct p9_xattr **out)
{
    if (s->table.xattr_bytes + size > P9_XATTRS_TOTAL)
        return -ENOMEM;
    struct p9_xattr *x = calloc(1, sizeof(*x) + size);
    if (!x)
        return -ENOMEM;
    x->size = size;
    s->table.xattr_bytes += size;
    *out = x;
    return 0;
}

void vmm_p9_xattr_free(struct vmm_share *s, struct p9_fid *fid)
{
    if (fid->xattr)
        s->table.xattr_bytes -= fid->xattr->size;
    free(fid->xattr);
    fid->xattr = NULL;
}

/* Of a list of names, those that may be seen. */
static size_t filter(const struct vmm_share *s, char *names, size_t length)
{
    size_t kept = 0;
    for (size_t at = 0; at < length;) {
        size_t size = strlen(names + at) + 1;
        if (allowed(s, names + at)) {
            memmove(names + kept, names + at, size);
            kept += size;
        }
        at += size;
    }
    return kept;
}

/* The value, or with an empty name the list of names. How long it is. */
static ssize_t fetch(const struct vmm_share *s, int fd, const char *name, uint8_t *value)
{
    const struct p9_proc file = vmm_p9_proc(fd);
    if (*name && !allowed(s, name))
        return -ENODATA;
    ssize_t n = *name ? getxattr(file.path, name, value, P9_XATTR_MAX)
                      : listxattr(file.path, (char *)value, P9_XATTR_MAX);
    if (n < 0)
        return -errno;
    return *name ? n : (ssize_t)filter(s, (char *)value, (size_t)n);
}

int vmm_p9_xattrwalk(struct p9_message *m)
{
    struct vmm_share *s = m->share;
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = vmm_p9_fid(m), *made;
    struct p9_xattr *x = NULL;
    uint32_t number = p9_u32(&m->in);
    int named = vmm_p9_copy_string(p9_string(&m->in), name, sizeof(name));
    int rc = vmm_p9_end(m, fid);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    uint8_t *value = malloc(P9_XATTR_MAX);
    ssize_t n = value ? fetch(s, fid->node->fd, name, value) : -ENOMEM;
    rc = n < 0 ? (int)n : new_value(s, (size_t)n, &x);
    if (!rc) {
        rc = vmm_p9_fid_new(s, number, fid->node, fid->uid, &made);
        if (rc)
            s->table.xattr_bytes -= x->size;
    }
    if (!rc) {
        memcpy(x->data, value, (size_t)n);
        made->kind = FID_XATTR_READ;
        made->xattr = x;
        p9_put_u64(&m->out, (uint64_t)n);
    } else {
        free(x);
    }
    free(value);
    return rc;
}

int vmm_p9_xattrcreate(struct p9_message *m)
{
    struct vmm_share *s = m->share;
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = vmm_p9_fid(m);
    struct p9_xattr *x;
    int named = vmm_p9_copy_string(p9_string(&m->in), name, sizeof(name));
    uint64_t size = p9_u64(&m->in);
    uint32_t flags = p9_u32(&m->in);
    int rc = vmm_p9_end(m, fid);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    if (!*name || (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
        return -EINVAL;
    if (fid->kind != FID_FILE || fid->fd >= 0)
        return -EBADF;
    if (size > P9_XATTR_MAX)
        return -E2BIG;
    if (!allowed(s, name))
        return -EOPNOTSUPP;
    rc = new_value(s, (size_t)size, &x);
    if (rc)
        return rc;
    memcpy(x->name, name, sizeof(name));
    x->flags = (int)flags;
    fid->xattr = x;
    fid->kind = FID_XATTR_WRITE;
    return 0;
}

int vmm_p9_xattr_read(struct p9_message *m, const struct p9_fid *fid, uint64_t offset,
                      uint32_t count)
{
    const struct p9_xattr *x = fid->xattr;
    size_t left = offset < x->size ? x->size - (size_t)offset : 0;
    size_t n = count < left ? count : left;
    if (n)
        (void)vmm_p9_scatter(m->reply, m->reply_count, READ_HEADER, x->data + offset, n);
    p9_put_u32(&m->out, (uint32_t)n);
    m->direct = n;
    return 0;
}

/* In order, as clients write them. */
int vmm_p9_xattr_write(struct p9_message *m, struct p9_fid *fid, uint64_t offset, uint32_t count)
{
    struct p9_xattr *x = fid->xattr;
    if (offset != x->filled)
        return -EINVAL;
    if (count > x->size - x->filled)
        return -ENOSPC;
    (void)vmm_p9_gather(m->request, m->request_count, WRITE_HEADER, x->data + x->filled, count);
    x->filled += count;
    p9_put_u32(&m->out, count);
    return 0;
}

/* Linux's client removes an attribute by replacing it with nothing. */
int vmm_p9_xattr_set(struct vmm_share *s, struct p9_fid *fid)
{
    const struct p9_xattr *x = fid->xattr;
    const struct p9_proc file = vmm_p9_proc(fid->node->fd);
    int rc;
    (void)s;
    if (x->filled != x->size)
        return -EINVAL;
    if (x->size == 0 && x->flags == XATTR_REPLACE)
        rc = removexattr(file.path, x->name);
    else
        rc = setxattr(file.path, x->name, x->data, x->size, x->flags);
    return rc < 0 ? -errno : 0;
}
