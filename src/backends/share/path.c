/* SPDX-License-Identifier: BSD-3-Clause */
/* Names: the only ways from one file to another, all of which stay beneath the root. */
#include "backends/share/share.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct p9_proc vmm_p9_proc(int fd)
{
    struct p9_proc p;
    (void)snprintf(p.path, sizeof(p.path), "/proc/self/fd/%d", fd);
    return p;
}

static int look_up(int folder, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    long fd;
    do
        fd = syscall(SYS_openat2, folder, path, &how, sizeof(how));
    while (fd < 0 && (errno == EAGAIN || errno == EINTR)); /* a rename elsewhere in the path */
    return fd < 0 ? -errno : (int)fd;
}

int vmm_p9_look_up(int folder, const char *name)
{
    return look_up(folder, name);
}

int vmm_p9_look_up_path(const struct vmm_share *s, const char *path)
{
    return look_up(s->root->fd, *path ? path : ".");
}

static int path_of(int fd, char path[P9_PATH_MAX])
{
    ssize_t n = readlink(vmm_p9_proc(fd).path, path, P9_PATH_MAX);
    if (n < 0)
        return -errno;
    if (n >= (ssize_t)P9_PATH_MAX)
        return -ENAMETOOLONG;
    path[n] = '\0';
    return 0;
}

/* As the kernel writes it now. It is a hint, to be looked up beneath the root again. */
int vmm_p9_path(const struct vmm_share *s, const struct p9_node *node, char path[P9_PATH_MAX])
{
    char root[P9_PATH_MAX];
    int rc = path_of(s->root->fd, root);
    rc = rc ? rc : path_of(node->fd, path);
    if (rc)
        return rc;
    size_t length = strlen(root);
    if (length == 1)
        length = 0; /* "/": the slash is the one between */
    if (strncmp(path, root, length) != 0 || (path[length] && path[length] != '/'))
        return -ENOENT;
    length += path[length] == '/';
    memmove(path, path + length, strlen(path + length) + 1);
    return 0;
}

static bool same_file(int fd, int folder, const char *name)
{
    struct stat a, b;
    return vmm_p9_stat(fd, &a) == 0 && fstatat(folder, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int vmm_p9_locate(const struct vmm_share *s, const struct p9_node *node, int *folder,
                  char name[P9_NAME_MAX + 1])
{
    char path[P9_PATH_MAX];
    int rc = vmm_p9_path(s, node, path);
    if (rc || !*path)
        return rc ? rc : -EBUSY;
    char *slash = strrchr(path, '/');
    char *last = slash ? slash + 1 : path;
    if (strlen(last) > P9_NAME_MAX)
        return -ENOENT;
    memcpy(name, last, strlen(last) + 1);
    *last = '\0';
    *folder = vmm_p9_look_up_path(s, path);
    if (*folder < 0)
        return *folder;
    if (same_file(node->fd, *folder, name))
        return 0;
    close(*folder);
    return -ENOENT;
}

int vmm_p9_copy_string(struct p9_string from, char *to, size_t room)
{
    if (memchr(from.text, '\0', from.length))
        return -EINVAL;
    if (from.length >= room)
        return -ENAMETOOLONG;
    memcpy(to, from.text, from.length);
    to[from.length] = '\0';
    return 0;
}

int vmm_p9_name(struct p9_message *m, char name[P9_NAME_MAX + 1])
{
    struct p9_string text = p9_string(&m->in);
    int rc = vmm_p9_copy_string(text, name, P9_NAME_MAX + 1);
    if (rc)
        return rc;
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return 0;
}

int vmm_p9_open_node(const struct p9_node *node, int flags)
{
    struct stat st;
    int rc = vmm_p9_stat(node->fd, &st);
    if (rc)
        return rc;
    if (S_ISLNK(st.st_mode))
        return -ELOOP;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return -EPERM;
    int fd = open(vmm_p9_proc(node->fd).path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int vmm_p9_adopt(const struct vmm_share *s, int fd, uint32_t uid, uint32_t gid, uint32_t mode)
{
    struct stat st;
    int rc = vmm_p9_stat(fd, &st);
    if (rc)
        return rc;
    bool other = st.st_uid != uid || st.st_gid != gid;
    if (!s->mapped && other && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return 0;
    mode &= s->mapped ? (mode_t)01777 : (mode_t)07777;
    return chmod(vmm_p9_proc(fd).path, mode) < 0 ? -errno : 0;
}
