/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved state as a flattened device tree. Writing uses libfdt's sequential calls into a buffer that
 * grows; reading checks the whole blob first (fdt_check_full) and then walks a path of nodes.
 */
#include "base/state.h"
#include "base/util.h"

#include <libfdt.h>
#include <stdlib.h>

#define PATH_DEPTH 8
#define NAME_SIZE  32 /* of nodes and properties: Devicetree Specification 0.4, 2.2.1 and 2.2.4 */

struct vmm_state_writer {
    char *data;
    int size;
    int error; /* the first failure: sticks */
    uint32_t depth;
};

struct vmm_state_reader {
    const void *blob;
    void *copy;           /* of a blob that was not aligned */
    int path[PATH_DEPTH]; /* offsets of the nodes entered; the root is the first */
    uint32_t depth;
};

/* Writing -------------------------------------------------------------------------------------- */

static int errno_of_fdt(int code)
{
    switch (code) {
    case 0:
        return 0;
    case -FDT_ERR_NOSPACE:
        return -ENOMEM;
    case -FDT_ERR_NOTFOUND:
        return -ENOENT;
    default:
        return -EINVAL;
    }
}

static int stick(struct vmm_state_writer *w, int code)
{
    if (!w->error)
        w->error = code;
    return w->error;
}

int vmm_state_fail(struct vmm_state_writer *w, int code)
{
    return stick(w, code);
}

/* Anything else could not be found again, or would not be a device tree that dtc reads. */
static bool name_ok(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789,._+-@?#";
    size_t length = name ? strspn(name, allowed) : 0;
    return length > 0 && length < NAME_SIZE && name[length] == '\0';
}

static int grow(struct vmm_state_writer *w)
{
    if (w->size > INT32_MAX / 2)
        return -E2BIG;
    char *data = malloc((size_t)w->size * 2);
    if (!data)
        return -ENOMEM;
    int rc = fdt_resize(w->data, data, w->size * 2);
    if (rc) {
        free(data);
        return errno_of_fdt(rc);
    }
    free(w->data);
    w->data = data;
    w->size *= 2;
    return 0;
}

/* Do one of libfdt's calls again with a larger buffer until it has room. */
#define WITH_ROOM(w, call)                                                                         \
    do {                                                                                           \
        int fdt_rc_;                                                                               \
        while (!(w)->error && (fdt_rc_ = (call)) != 0) {                                           \
            if (fdt_rc_ == -FDT_ERR_NOSPACE)                                                       \
                (void)stick((w), grow(w));                                                         \
            else                                                                                   \
                (void)stick((w), errno_of_fdt(fdt_rc_));                                           \
        }                                                                                          \
    } while (0)

int vmm_state_writer_new(struct vmm_state_writer **out)
{
    if (!out)
        return -EINVAL;
    struct vmm_state_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->size = 4096;
    w->data = malloc((size_t)w->size);
    if (!w->data || fdt_create(w->data, w->size)) {
        vmm_state_writer_free(w);
        return -ENOMEM;
    }
    WITH_ROOM(w, fdt_finish_reservemap(w->data));
    WITH_ROOM(w, fdt_begin_node(w->data, ""));
    *out = w;
    return 0;
}

struct vmm_state_writer *vmm_state_writer_free(struct vmm_state_writer *w)
{
    if (w) {
        free(w->data);
        free(w);
    }
    return NULL;
}

int vmm_state_begin(struct vmm_state_writer *w, const char *node, uint32_t version)
{
    if (w->depth + 1 >= PATH_DEPTH || !name_ok(node))
        return stick(w, -EINVAL);
    w->depth++;
    WITH_ROOM(w, fdt_begin_node(w->data, node));
    return vmm_state_put_u32(w, "version", version);
}

int vmm_state_end(struct vmm_state_writer *w)
{
    if (w->depth == 0)
        return stick(w, -EINVAL);
    w->depth--;
    WITH_ROOM(w, fdt_end_node(w->data));
    return w->error;
}

int vmm_state_put_bytes(struct vmm_state_writer *w, const char *name, const void *data,
                        size_t length)
{
    if (length > INT32_MAX / 4)
        return stick(w, -E2BIG);
    if (!name_ok(name) || (!data && length))
        return stick(w, -EINVAL);
    WITH_ROOM(w, fdt_property(w->data, name, length ? data : "", (int)length));
    return w->error;
}

int vmm_state_put_u32(struct vmm_state_writer *w, const char *name, uint32_t value)
{
    uint32_t cell = htobe32(value);
    return vmm_state_put_bytes(w, name, &cell, sizeof(cell));
}

int vmm_state_put_u64(struct vmm_state_writer *w, const char *name, uint64_t value)
{
    uint64_t cells = htobe64(value);
    return vmm_state_put_bytes(w, name, &cells, sizeof(cells));
}

int vmm_state_put_string(struct vmm_state_writer *w, const char *name, const char *text)
{
    return vmm_state_put_bytes(w, name, text, text ? strlen(text) + 1 : 1);
}

int vmm_state_writer_finish(struct vmm_state_writer *w, void **data, size_t *length)
{
    if (w->depth != 0 || !data || !length)
        return stick(w, -EINVAL);
    WITH_ROOM(w, fdt_end_node(w->data));
    WITH_ROOM(w, fdt_finish(w->data));
    if (w->error)
        return w->error;
    *length = fdt_totalsize(w->data);
    *data = w->data;
    w->data = NULL;
    (void)stick(w, -EINVAL); /* nothing can be written any more */
    return 0;
}

/* Reading -------------------------------------------------------------------------------------- */

static int check_blob(const void *blob, size_t length, struct vmm_error *err)
{
    int rc = fdt_check_full(blob, length);
    if (rc)
        return vmm_error_set(err, -EINVAL, "the saved state is not a sound device tree: %s",
                             fdt_strerror(rc));
    /* Older ones lack the sizes that the checks stand on. */
    if (fdt_version(blob) < 17)
        return vmm_error_set(err, -EINVAL,
                             "the saved state is a device tree of version %u; 17 is needed",
                             fdt_version(blob));
    return 0;
}

int vmm_state_reader_new(const void *data, size_t length, struct vmm_state_reader **out,
                         struct vmm_error *err)
{
    if (!data || !out)
        return vmm_error_set(err, -EINVAL, "there is no saved state");
    struct vmm_state_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    r->blob = data;
    if ((uintptr_t)data % 8 != 0) { /* libfdt asks for it */
        r->blob = r->copy = malloc(length ? length : 1);
        if (r->copy)
            memcpy(r->copy, data, length);
    }
    int rc = r->blob ? check_blob(r->blob, length, err)
                     : vmm_error_set(err, -ENOMEM, "out of memory for %zu bytes of state", length);
    if (rc)
        vmm_state_reader_free(r);
    else
        *out = r;
    return rc;
}

struct vmm_state_reader *vmm_state_reader_free(struct vmm_state_reader *r)
{
    if (r)
        free(r->copy);
    free(r);
    return NULL;
}

/* The name of the node that is open, for messages. */
static const char *node_name(const struct vmm_state_reader *r)
{
    const char *name = fdt_get_name(r->blob, r->path[r->depth], NULL);
    return name ? name : "";
}

/* By its whole name: libfdt's own search takes "disk@1" for "disk". */
static int child_node(const struct vmm_state_reader *r, const char *name)
{
    int child;
    fdt_for_each_subnode(child, r->blob, r->path[r->depth])
    {
        const char *is = fdt_get_name(r->blob, child, NULL);
        if (is && strcmp(is, name) == 0)
            return child;
    }
    return -FDT_ERR_NOTFOUND;
}

/* A property of an exact length, or any (length < 0). */
static const void *property(struct vmm_state_reader *r, const char *name, int length, int *found,
                            struct vmm_error *err)
{
    const void *value = fdt_getprop(r->blob, r->path[r->depth], name, found);
    if (!value) {
        (void)vmm_error_set(err, -ENOENT, "%s/%s: the saved state has no such field", node_name(r),
                            name);
        return NULL;
    }
    if (length >= 0 && *found != length) {
        (void)vmm_error_set(err, -EINVAL, "%s/%s: %d bytes where there must be %d", node_name(r),
                            name, *found, length);
        return NULL;
    }
    return value;
}

/* -ENOENT or -EINVAL, for a property that was not to be had. */
static int missing(int found)
{
    return found < 0 ? -ENOENT : -EINVAL;
}

int vmm_state_enter(struct vmm_state_reader *r, const char *node, uint32_t max_version,
                    uint32_t *version, struct vmm_error *err)
{
    int offset = child_node(r, node);
    if (offset < 0)
        return vmm_error_set(err, -ENOENT, "%s/%s: the saved state has no such node", node_name(r),
                             node);
    if (r->depth + 1 >= PATH_DEPTH)
        return vmm_error_set(err, -EINVAL, "%s: nodes too deep", node);
    r->path[++r->depth] = offset;
    uint32_t found;
    int rc = vmm_state_get_u32(r, "version", UINT32_MAX, &found, err);
    if (!rc && found > max_version)
        rc = vmm_error_set(err, -ENOTSUP,
                           "%s/version: %u is newer than %u, which this library reads", node, found,
                           max_version);
    if (rc)
        r->depth--;
    else if (version)
        *version = found;
    return rc;
}

int vmm_state_leave(struct vmm_state_reader *r)
{
    if (r->depth == 0)
        return -EINVAL;
    r->depth--;
    return 0;
}

int vmm_state_get_u64(struct vmm_state_reader *r, const char *name, uint64_t max, uint64_t *value,
                      struct vmm_error *err)
{
    int found;
    uint64_t cells;
    const void *p = property(r, name, sizeof(cells), &found, err);
    if (!p)
        return missing(found);
    memcpy(&cells, p, sizeof(cells));
    cells = be64toh(cells);
    if (cells > max)
        return vmm_error_set(err, -ERANGE, "%s/%s: 0x%llx is above 0x%llx", node_name(r), name,
                             (unsigned long long)cells, (unsigned long long)max);
    *value = cells;
    return 0;
}

int vmm_state_get_u32(struct vmm_state_reader *r, const char *name, uint32_t max, uint32_t *value,
                      struct vmm_error *err)
{
    int found;
    uint32_t cell;
    const void *p = property(r, name, sizeof(cell), &found, err);
    if (!p)
        return missing(found);
    memcpy(&cell, p, sizeof(cell));
    cell = be32toh(cell);
    if (cell > max)
        return vmm_error_set(err, -ERANGE, "%s/%s: 0x%x is above 0x%x", node_name(r), name, cell,
                             max);
    *value = cell;
    return 0;
}

int vmm_state_get_bytes(struct vmm_state_reader *r, const char *name, void *data, size_t length,
                        struct vmm_error *err)
{
    int found;
    if (length > INT32_MAX)
        return vmm_error_set(err, -E2BIG, "%s/%s: too long", node_name(r), name);
    const void *p = property(r, name, (int)length, &found, err);
    if (!p)
        return missing(found);
    memcpy(data, p, length);
    return 0;
}

int vmm_state_get_blob(struct vmm_state_reader *r, const char *name, const void **data,
                       size_t *length, struct vmm_error *err)
{
    int found;
    const void *p = property(r, name, -1, &found, err);
    if (!p)
        return missing(found);
    *data = p;
    *length = (size_t)found;
    return 0;
}

int vmm_state_get_string(struct vmm_state_reader *r, const char *name, const char **text,
                         struct vmm_error *err)
{
    int found;
    const char *p = property(r, name, -1, &found, err);
    if (!p)
        return missing(found);
    if (found == 0 || p[found - 1] != '\0')
        return vmm_error_set(err, -EINVAL, "%s/%s: not a terminated string", node_name(r), name);
    *text = p;
    return 0;
}
