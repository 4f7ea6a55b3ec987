/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, and what open files and folders do. */
#include "backends/share/share.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The protocol's flags, which are those of most of Linux's architectures but not of all. */
#define L_ACCESS    00000003u
#define L_EXCL      00000200u
#define L_TRUNC     00001000u
#define L_APPEND    00002000u
#define L_DSYNC     00010000u
#define L_DIRECTORY 00200000u
#define L_SYNC      04000000u

#define READ_HEADER  (P9_HEADER + 4u)
#define WRITE_HEADER (P9_HEADER + 16u)

/* What is no business of the server's (O_DIRECT, O_NOATIME, …) is left out. -1: no access mode. */
static int host_flags(uint32_t flags)
{
    static const int access[] = {O_RDONLY, O_WRONLY, O_RDWR, -1};
    int host = access[flags & L_ACCESS];
    if (host < 0)
        return -1;
    host |= flags & L_TRUNC ? O_TRUNC : 0;
    host |= flags & L_APPEND ? O_APPEND : 0;
    host |= flags & L_DSYNC ? O_DSYNC : 0;
    host |= (flags & L_SYNC) == L_SYNC ? O_SYNC : 0;
    host |= flags & L_DIRECTORY ? O_DIRECTORY : 0;
    return host;
}

/* The answer to an open: what it is, and no advice on the size of transfers. */
static int answer_open(struct p9_message *m, int fd)
{
    struct stat st;
    int rc = vmm_p9_stat(fd, &st);
    if (rc)
        return rc;
    vmm_p9_put_qid(m->share, &m->out, &st);
    p9_put_u32(&m->out, 0);
    return 0;
}

int vmm_p9_lopen(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    int flags = host_flags(p9_u32(&m->in));
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    if (flags < 0 || fid->fd >= 0 || fid->kind != FID_FILE)
        return flags < 0 ? -EINVAL : -EBADF;
    if (m->share->read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
        return -EROFS;
    int fd = vmm_p9_open_node(fid->node, flags);
    rc = fd < 0 ? fd : answer_open(m, fd);
    if (rc) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    fid->fd = fd;
    fid->flags = flags & ~O_TRUNC;
    return 0;
}

/* A file that was not there. */
static int create(struct p9_message *m, const struct p9_fid *folder, const char *name, int flags,
                  uint32_t mode, uint32_t gid)
{
    struct open_how how = {
        .flags = (uint64_t)((unsigned)flags | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW),
        .mode = 0600,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, folder->node->fd, name, &how, sizeof(how));
    if (fd < 0)
        return -errno;
    int rc = vmm_p9_adopt(m->share, fd, folder->uid, gid, mode);
    if (!rc)
        return fd;
    (void)unlinkat(folder->node->fd, name, 0);
    close(fd);
    return rc;
}

/* One that was: through a node, so that nothing but a file is opened. */
static int open_existing(const struct p9_fid *folder, const char *name, int flags)
{
    struct p9_node *node;
    int fd = vmm_p9_look_up(folder->node->fd, name);
    int rc = fd < 0 ? fd : vmm_p9_node_new(fd, &node);
    if (rc)
        return rc;
    fd = vmm_p9_open_node(node, flags);
    vmm_p9_node_unref(node);
    return fd;
}

/* The fid of the folder becomes that of the open file. */
static int become(struct p9_fid *fid, int fd, int flags)
{
    struct p9_node *node;
    int path = open(vmm_p9_proc(fd).path, O_PATH | O_CLOEXEC);
    int rc = path < 0 ? -errno : vmm_p9_node_new(path, &node);
    if (rc)
        return rc;
    vmm_p9_node_unref(fid->node);
    fid->node = node;
    fid->fd = fd;
    fid->flags = flags & ~O_TRUNC;
    return 0;
}

int vmm_p9_lcreate(struct p9_message *m)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = vmm_p9_fid(m);
    int named = vmm_p9_name(m, name);
    uint32_t asked = p9_u32(&m->in), mode = p9_u32(&m->in), gid = p9_u32(&m->in);
    int flags = host_flags(asked & ~L_DIRECTORY);
    int rc = vmm_p9_end(m, fid);
    rc = rc ? rc : named;
    if (rc)
        return rc;
    if (flags < 0 || fid->fd >= 0 || fid->kind != FID_FILE)
        return flags < 0 ? -EINVAL : -EBADF;
    int fd = create(m, fid, name, flags, mode, gid);
    if (fd == -EEXIST && !(asked & L_EXCL))
        fd = open_existing(fid, name, flags);
    if (fd < 0)
        return fd;
    rc = answer_open(m, fd);
    rc = rc ? rc : become(fid, fd, flags);
    if (rc)
        close(fd);
    return rc;
}

int vmm_p9_read(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    uint64_t offset = p9_u64(&m->in);
    uint32_t count = p9_u32(&m->in);
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    uint64_t room = m->reply_room - READ_HEADER;
    count = count < room ? count : (uint32_t)room;
    if (fid->kind == FID_XATTR_READ)
        return vmm_p9_xattr_read(m, fid, offset, count);
    if (fid->fd < 0 || offset > INT64_MAX)
        return offset > INT64_MAX ? -EINVAL : -EBADF;
    struct iovec *v = m->share->vector;
    size_t entries = vmm_p9_slice(m->reply, m->reply_count, READ_HEADER, count, v);
    ssize_t n;
    do
        n = preadv(fid->fd, v, (int)entries, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    p9_put_u32(&m->out, (uint32_t)n);
    m->direct = (uint64_t)n;
    return 0;
}

int vmm_p9_write(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    uint64_t offset = p9_u64(&m->in);
    uint32_t count = p9_u32(&m->in);
    if (m->in.bad || m->size - WRITE_HEADER != count)
        return -EPROTO;
    m->in.left = 0; /* the data is taken from the vector */
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    if (fid->kind == FID_XATTR_WRITE)
        return vmm_p9_xattr_write(m, fid, offset, count);
    if (fid->fd < 0 || offset > INT64_MAX)
        return offset > INT64_MAX ? -EINVAL : -EBADF;
    struct iovec *v = m->share->vector;
    size_t entries = vmm_p9_slice(m->request, m->request_count, WRITE_HEADER, count, v);
    ssize_t n;
    do
        n = pwritev(fid->fd, v, (int)entries, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    p9_put_u32(&m->out, (uint32_t)n);
    return 0;
}

/* Folders -------------------------------------------------------------------------------------- */

struct kernel_entry { /* what getdents64() gives */
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

#define ENTRY_SIZE 24u /* of ours, without the name */

static mode_t entry_type(int folder, const struct kernel_entry *e)
{
    struct stat st;
    if (e->type != DT_UNKNOWN)
        return (mode_t)DTTOIF(e->type);
    return fstatat(folder, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static bool put_entry(struct p9_message *m, const struct p9_fid *fid, const struct stat *folder,
                      const struct kernel_entry *e, uint32_t count)
{
    size_t length = strlen(e->name);
    if (m->out.used + ENTRY_SIZE + length > 4u + count)
        return false;
    mode_t type = entry_type(fid->fd, e);
    ino_t inode = (ino_t)e->inode;
    if (strcmp(e->name, "..") == 0 && fid->node == m->share->root)
        inode = folder->st_ino; /* nothing is above the root */
    vmm_p9_put_qid_of(m->share, &m->out, type, folder->st_dev, inode, 0);
    p9_put_u64(&m->out, (uint64_t)e->next);
    p9_put_u8(&m->out, (uint8_t)IFTODT(type));
    p9_put_string(&m->out, e->name, length);
    return !m->out.full;
}

/* As many entries as fit; whether one did, or there was none. */
static int put_entries(struct p9_message *m, const struct p9_fid *fid, uint32_t count)
{
    uint8_t buffer[16384] __attribute__((aligned(8)));
    struct stat folder;
    int rc = vmm_p9_stat(fid->fd, &folder);
    bool more = true;
    while (!rc && more) {
        long n = syscall(SYS_getdents64, fid->fd, buffer, sizeof(buffer));
        if (n <= 0)
            return n < 0 ? -errno : 0;
        for (long at = 0; at < n && more;) {
            const struct kernel_entry *e = (const void *)(buffer + at);
            more = put_entry(m, fid, &folder, e, count);
            at += e->length;
        }
    }
    return rc ? rc : m->out.used > 4 ? 0 : -EINVAL;
}

int vmm_p9_readdir(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    uint64_t offset = p9_u64(&m->in);
    uint32_t count = p9_u32(&m->in);
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    if (fid->fd < 0 || offset > INT64_MAX)
        return offset > INT64_MAX ? -EINVAL : -EBADF;
    uint32_t room = (uint32_t)m->out.room - 4u;
    count = count < room ? count : room;
    if (lseek(fid->fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    p9_put_u32(&m->out, 0);
    rc = put_entries(m, fid, count);
    if (!rc)
        vmm_store_le32(m->out.data, (uint32_t)m->out.used - 4u);
    return rc;
}

/* The rest ------------------------------------------------------------------------------------- */

int vmm_p9_fsync(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    uint32_t data_only = m->in.left ? p9_u32(&m->in) : 0; /* older clients do not say */
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    if (fid->fd < 0)
        return -EBADF;
    do
        rc = data_only ? fdatasync(fid->fd) : fsync(fid->fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

#define LOCK_BLOCK 1u /* the only flag that is of use here */

int vmm_p9_lock(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    uint8_t type = p9_u8(&m->in);
    uint32_t flags = p9_u32(&m->in);
    (void)p9_u64(&m->in);
    (void)p9_u64(&m->in);
    (void)p9_u32(&m->in);
    (void)p9_string(&m->in);
    int rc = vmm_p9_end(m, fid);
    if (!rc && (type > 2 || (flags & ~LOCK_BLOCK)))
        rc = -EINVAL;
    if (!rc && fid->fd < 0)
        rc = -EBADF;
    if (!rc)
        p9_put_u8(&m->out, 0); /* granted */
    return rc;
}

int vmm_p9_getlock(struct p9_message *m)
{
    static const uint8_t unlocked = 2;
    struct p9_fid *fid = vmm_p9_fid(m);
    uint8_t type = p9_u8(&m->in);
    uint64_t start = p9_u64(&m->in), length = p9_u64(&m->in);
    uint32_t process = p9_u32(&m->in);
    struct p9_string client = p9_string(&m->in);
    int rc = vmm_p9_end(m, fid);
    if (!rc && type > 2)
        rc = -EINVAL;
    if (!rc && fid->fd < 0)
        rc = -EBADF;
    if (rc)
        return rc;
    p9_put_u8(&m->out, unlocked);
    p9_put_u64(&m->out, start);
    p9_put_u64(&m->out, length);
    p9_put_u32(&m->out, process);
    p9_put_string(&m->out, client.text, client.length);
    return 0;
}
