/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages about names: from one to the next, new ones, other ones, none. */
#include "backends/share/share.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define WALK_MAX      16u /* names in a message */
#define UNLINK_FOLDER 0x200u

/* Walking -------------------------------------------------------------------------------------- */

/* The folder above; above the root is the root. */
static int look_above(const struct vmm_share *s, const struct p9_node *node)
{
    char path[P9_PATH_MAX];
    int rc = vmm_p9_path(s, node, path);
    if (rc)
        return rc;
    char *slash = strrchr(path, '/');
    *(slash ? slash : path) = '\0';
    return vmm_p9_look_up_path(s, path);
}

static int step(const struct vmm_share *s, const struct p9_node *from, const char *name,
                struct p9_node **to)
{
    struct stat st;
    int rc = vmm_p9_stat(from->fd, &st);
    if (rc)
        return rc;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (!*name || strchr(name, '/'))
        return -ENOENT;
    int fd = strcmp(name, "..") == 0 ? look_above(s, from) : vmm_p9_look_up(from->fd, name);
    return fd < 0 ? fd : vmm_p9_node_new(fd, to);
}

/* As far as it goes. The node is held; its way there is in the answer. */
static int walk(struct p9_message *m, struct p9_node *from, uint16_t count, uint16_t *walked,
                struct p9_node **end)
{
    struct p9_node *at = from;
    int rc = 0;
    at->refs++;
    for (*walked = 0; *walked < count; (*walked)++) {
        char name[P9_NAME_MAX + 1];
        struct p9_node *next = NULL;
        struct stat st;
        rc = vmm_p9_copy_string(p9_string(&m->in), name, sizeof(name));
        rc = rc ? rc : step(m->share, at, name, &next);
        rc = rc ? rc : vmm_p9_stat(next->fd, &st);
        if (rc) {
            vmm_p9_node_unref(next);
            break;
        }
        vmm_p9_put_qid(m->share, &m->out, &st);
        vmm_p9_node_unref(at);
        at = next;
    }
    *end = at;
    return rc;
}

/* Nothing may be walked before it is clear that all names are there. */
static int check_walk(struct p9_message *m, const struct p9_fid *fid, uint16_t count)
{
    const struct p9_in begin = m->in;
    if (count > WALK_MAX)
        return -EINVAL;
    for (uint16_t i = 0; i < count; i++)
        (void)p9_string(&m->in);
    int rc = vmm_p9_end(m, fid);
    m->in = begin;
    if (!rc && fid->kind != FID_FILE)
        rc = -EBADF;
    return rc;
}

int vmm_p9_walk(struct p9_message *m)
{
    struct vmm_share *s = m->share;
    struct p9_fid *fid = vmm_p9_fid(m), *made = NULL;
    struct p9_node *end;
    uint32_t number = p9_u32(&m->in);
    uint16_t count = p9_u16(&m->in), walked = 0;
    int rc = check_walk(m, fid, count);
    bool same = !rc && number == fid->number;
    if (!rc && !same && vmm_p9_fid_find(s, number))
        rc = -EBADF;
    if (!rc && same && fid->fd >= 0)
        rc = -EBUSY; /* its file would be another than the one that is open */
    if (rc)
        return rc;
    p9_put_u16(&m->out, 0);
    rc = walk(m, fid->node, count, &walked, &end);
    if (rc && walked)
        rc = 0; /* the answer tells how far it went */
    else if (!rc && !same)
        rc = vmm_p9_fid_new(s, number, end, fid->uid, &made);
    if (!rc && same && walked == count) {
        struct p9_node *old = fid->node;
        fid->node = end;
        end = old;
    }
    vmm_p9_node_unref(end);
    if (!m->out.full)
        vmm_store_le16(m->out.data, walked);
    return rc;
}

/* Making --------------------------------------------------------------------------------------- */

/* Something new has its name: give it an owner, and tell what it is. */
static int made(struct p9_message *m, const struct p9_fid *folder, const char *name, uint32_t gid,
                uint32_t mode, int unlink_flags)
{
    struct stat st;
    int fd = vmm_p9_look_up(folder->node->fd, name);
    int rc = fd < 0 ? fd : vmm_p9_adopt(m->share, fd, folder->uid, gid, mode);
    rc = rc ? rc : vmm_p9_stat(fd, &st);
    if (!rc)
        vmm_p9_put_qid(m->share, &m->out, &st);
    else
        (void)unlinkat(folder->node->fd, name, unlink_flags);
    if (fd >= 0)
        close(fd);
    return rc;
}

int vmm_p9_mkdir(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *folder = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    uint32_t mode = p9_u32(&m->in), gid = p9_u32(&m->in);
    int rc = vmm_p9_end(m, folder);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    if (mkdirat(folder->node->fd, name, 0700) < 0)
        return -errno;
    return made(m, folder, name, gid, mode, AT_REMOVEDIR);
}

int vmm_p9_symlink(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1], target[P9_PATH_MAX];
    struct p9_fid *folder = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    int aimed = vmm_p9_copy_string(p9_string(&m->in), target, sizeof(target));
    uint32_t gid = p9_u32(&m->in);
    int rc = vmm_p9_end(m, folder);
    rc = rc ? rc : named;
    rc = rc ? rc : aimed;
    if (rc)
        return rc;
    if (symlinkat(target, folder->node->fd, name) < 0)
        return -errno;
    return made(m, folder, name, gid, 0, 0);
}

/* Regular files only: a device, a pipe or a socket of the guest's would be one of the host's too. */
int vmm_p9_mknod(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *folder = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    uint32_t mode = p9_u32(&m->in);
    (void)p9_u64(&m->in); /* major and minor number */
    uint32_t gid = p9_u32(&m->in);
    int rc = vmm_p9_end(m, folder);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    if (!S_ISREG(mode) && (mode & S_IFMT))
        return -EPERM;
    if (mknodat(folder->node->fd, name, S_IFREG | 0600, 0) < 0)
        return -errno;
    return made(m, folder, name, gid, mode, 0);
}

int vmm_p9_link(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *folder = vmm_p9_fid(m), *fid = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    int rc = vmm_p9_end(m, folder);
    rc = rc ? rc : vmm_p9_end(m, fid);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    const struct p9_proc file = vmm_p9_proc(fid->node->fd);
    if (linkat(AT_FDCWD, file.path, folder->node->fd, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return 0;
}

/* Renaming and removing ------------------------------------------------------------------------ */

int vmm_p9_renameat(struct p9_message *m)
{
    char old_name[P9_NAME_MAX + 1], new_name[P9_NAME_MAX + 1];
    struct p9_fid *from = vmm_p9_fid(m);
    int old_named = vmm_p9_name(m, old_name);
    struct p9_fid *to = vmm_p9_fid(m);
    int new_named = vmm_p9_name(m, new_name);
    int rc = vmm_p9_end(m, from);
    rc = rc ? rc : vmm_p9_end(m, to);
    rc = rc ? rc : old_named;
    rc = rc ? rc : new_named;
    if (rc)
        return rc;
    return renameat(from->node->fd, old_name, to->node->fd, new_name) < 0 ? -errno : 0;
}

int vmm_p9_rename(struct p9_message *m)
{
    char old_name[P9_NAME_MAX + 1], new_name[P9_NAME_MAX + 1];
    struct p9_fid *fid = vmm_p9_fid(m), *to = vmm_p9_fid(m);
    int named = vmm_p9_name(m, new_name), folder;
    int rc = vmm_p9_end(m, fid);
    rc = rc ? rc : vmm_p9_end(m, to);
    rc = rc ? rc : named;
    rc = rc ? rc : vmm_p9_locate(m->share, fid->node, &folder, old_name);
    if (rc)
        return rc;
    rc = renameat(folder, old_name, to->node->fd, new_name) < 0 ? -errno : 0;
    close(folder);
    return rc;
}

int vmm_p9_unlinkat(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *folder = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    uint32_t flags = p9_u32(&m->in);
    int rc = vmm_p9_end(m, folder);
    rc = rc ? rc : named;
    if (!rc && (flags & ~UNLINK_FOLDER))
        rc = -EINVAL;
    if (rc)
        return rc;
    int host = flags & UNLINK_FOLDER ? AT_REMOVEDIR : 0;
    return unlinkat(folder->node->fd, name, host) < 0 ? -errno : 0;
}

static int remove_node(const struct vmm_share *s, const struct p9_node *node)
{
    char name[P9_NAME_MAX + 1];
    struct stat st;
    int folder;
    int rc = vmm_p9_stat(node->fd, &st);
    rc = rc ? rc : vmm_p9_locate(s, node, &folder, name);
    if (rc)
        return rc;
    rc = unlinkat(folder, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
    close(folder);
    return rc;
}

/* The fid is gone, whatever becomes of the file. */
int vmm_p9_remove(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    int rc = vmm_p9_end(m, fid);
    if (rc && rc != -ESTALE)
        return rc;
    rc = rc ? rc : remove_node(m->share, fid->node);
    vmm_p9_fid_free(m->share, fid);
    return rc;
}
