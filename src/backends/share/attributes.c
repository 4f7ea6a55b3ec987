/* SPDX-License-Identifier: BSD-3-Clause */
/* What is known of a file besides its contents. */
#include "backends/share/share.h"

#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define QID_FOLDER 0x80u
#define QID_LINK   0x02u

#define GETATTR_BASIC 0x7ffu /* mode to blocks; neither birth, generation nor data version */

#define SET_MODE     0x001u
#define SET_UID      0x002u
#define SET_GID      0x004u
#define SET_SIZE     0x008u
#define SET_ATIME    0x010u
#define SET_MTIME    0x020u
#define SET_ATIME_TO 0x080u /* the time that is given, not the present one */
#define SET_MTIME_TO 0x100u

int vmm_p9_stat(int fd, struct stat *st)
{
    return fstatat(fd, "", st, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Clients know a file again by its number, which must differ between the file systems that are mounted
 * in the folder: those beside the root's own get some of the upper bits changed. */
void vmm_p9_put_qid_of(const struct vmm_share *s, struct p9_out *out, mode_t type, dev_t device,
                       ino_t inode, uint32_t version)
{
    uint64_t other = (uint64_t)(device ^ s->root_device) * 0x9e3779b97f4a7c15u;
    p9_put_u8(out, S_ISDIR(type) ? QID_FOLDER : S_ISLNK(type) ? QID_LINK : 0);
    p9_put_u32(out, version);
    p9_put_u64(out, (uint64_t)inode ^ (other & 0xffffff0000000000u));
}

void vmm_p9_put_qid(const struct vmm_share *s, struct p9_out *out, const struct stat *st)
{
    uint64_t version =
        (uint64_t)st->st_mtim.tv_sec ^ (uint64_t)st->st_mtim.tv_nsec ^ (uint64_t)st->st_size << 8;
    vmm_p9_put_qid_of(s, out, st->st_mode, st->st_dev, st->st_ino, (uint32_t)version);
}

static void put_time(struct p9_out *out, const struct timespec *t)
{
    p9_put_u64(out, (uint64_t)t->tv_sec);
    p9_put_u64(out, (uint64_t)t->tv_nsec);
}

int vmm_p9_getattr(struct p9_message *m)
{
    const struct vmm_share *s = m->share;
    struct p9_fid *fid = vmm_p9_fid(m);
    struct stat st;
    (void)p9_u64(&m->in); /* what is asked for; all of the basic ones is always given */
    int rc = vmm_p9_end(m, fid);
    rc = rc ? rc : vmm_p9_stat(fid->node->fd, &st);
    if (rc)
        return rc;
    p9_put_u64(&m->out, GETATTR_BASIC);
    vmm_p9_put_qid(s, &m->out, &st);
    p9_put_u32(&m->out, st.st_mode);
    p9_put_u32(&m->out, s->mapped ? s->guest_uid : st.st_uid);
    p9_put_u32(&m->out, s->mapped ? s->guest_gid : st.st_gid);
    p9_put_u64(&m->out, st.st_nlink);
    /* The kernel's way of packing, which the client's unpacks. */
    p9_put_u64(&m->out, (minor(st.st_rdev) & 0xffu) | major(st.st_rdev) << 8 |
                            (uint64_t)(minor(st.st_rdev) & ~0xffu) << 12);
    p9_put_u64(&m->out, (uint64_t)st.st_size);
    p9_put_u64(&m->out, (uint64_t)st.st_blksize);
    p9_put_u64(&m->out, (uint64_t)st.st_blocks);
    put_time(&m->out, &st.st_atim);
    put_time(&m->out, &st.st_mtim);
    put_time(&m->out, &st.st_ctim);
    for (int i = 0; i < 4; i++) /* birth, generation, data version */
        p9_put_u64(&m->out, 0);
    return 0;
}

static int set_size(const struct p9_fid *fid, uint64_t size)
{
    int fd = fid->fd;
    if (size > INT64_MAX)
        return -EINVAL;
    bool writable = fd >= 0 && (fid->flags & O_ACCMODE) != O_RDONLY;
    if (!writable)
        fd = vmm_p9_open_node(fid->node, O_WRONLY);
    if (fd < 0)
        return fd;
    int rc = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
    if (!writable)
        close(fd);
    return rc;
}

static int set_owner(const struct vmm_share *s, const struct p9_fid *fid, uint32_t valid,
                     uint32_t uid, uint32_t gid)
{
    if (s->mapped)
        return 0;
    uid_t u = valid & SET_UID ? uid : (uid_t)-1;
    gid_t g = valid & SET_GID ? gid : (gid_t)-1;
    return fchownat(fid->node->fd, "", u, g, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_mode(const struct vmm_share *s, const struct p9_fid *fid, uint32_t mode)
{
    mode &= s->mapped ? 01777u : 07777u;
    return chmod(vmm_p9_proc(fid->node->fd).path, mode) < 0 ? -errno : 0;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t to, uint64_t s, uint64_t ns)
{
    if (!(valid & set))
        return (struct timespec){0, UTIME_OMIT};
    if (!(valid & to))
        return (struct timespec){0, UTIME_NOW};
    return (struct timespec){(time_t)s, (long)ns};
}

int vmm_p9_setattr(struct p9_message *m)
{
    const struct vmm_share *s = m->share;
    struct p9_fid *fid = vmm_p9_fid(m);
    uint32_t valid = p9_u32(&m->in), mode = p9_u32(&m->in);
    uint32_t uid = p9_u32(&m->in), gid = p9_u32(&m->in);
    uint64_t size = p9_u64(&m->in), t[4];
    for (int i = 0; i < 4; i++)
        t[i] = p9_u64(&m->in);
    int rc = vmm_p9_end(m, fid);
    if (!rc && (t[1] >= 1000000000u || t[3] >= 1000000000u))
        rc = -EINVAL; /* not the host's special values either */
    if (rc)
        return rc;
    if (valid & (SET_UID | SET_GID)) /* before the mode: it takes set-user-id bits away */
        rc = set_owner(s, fid, valid, uid, gid);
    if (!rc && (valid & SET_MODE))
        rc = set_mode(s, fid, mode);
    if (!rc && (valid & SET_SIZE))
        rc = set_size(fid, size);
    if (!rc && (valid & (SET_ATIME | SET_MTIME))) {
        const struct timespec times[2] = {time_of(valid, SET_ATIME, SET_ATIME_TO, t[0], t[1]),
                                          time_of(valid, SET_MTIME, SET_MTIME_TO, t[2], t[3])};
        if (utimensat(AT_FDCWD, vmm_p9_proc(fid->node->fd).path, times, 0) < 0)
            rc = -errno;
    }
    return rc;
}

int vmm_p9_statfs(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    struct statfs fs;
    uint64_t id = 0;
    int rc = vmm_p9_end(m, fid);
    if (!rc && fstatfs(fid->node->fd, &fs) < 0)
        rc = -errno;
    if (rc)
        return rc;
    memcpy(&id, &fs.f_fsid, sizeof(fs.f_fsid) < sizeof(id) ? sizeof(fs.f_fsid) : sizeof(id));
    p9_put_u32(&m->out, (uint32_t)fs.f_type);
    p9_put_u32(&m->out, (uint32_t)fs.f_bsize);
    p9_put_u64(&m->out, fs.f_blocks);
    p9_put_u64(&m->out, fs.f_bfree);
    p9_put_u64(&m->out, fs.f_bavail);
    p9_put_u64(&m->out, fs.f_files);
    p9_put_u64(&m->out, fs.f_ffree);
    p9_put_u64(&m->out, id);
    p9_put_u32(&m->out, (uint32_t)fs.f_namelen);
    return 0;
}

int vmm_p9_readlink(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    char target[P9_PATH_MAX];
    int rc = vmm_p9_end(m, fid);
    if (rc)
        return rc;
    ssize_t n = readlinkat(fid->node->fd, "", target, sizeof(target));
    if (n < 0)
        return errno == ENOENT ? -EINVAL : -errno; /* so the kernel says "no link" here */
    p9_put_string(&m->out, target, (size_t)n);
    return 0;
}
