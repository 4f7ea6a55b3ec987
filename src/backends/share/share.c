/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A folder served by 9P2000.L: its life, the messages that begin and end things, and the way from a
 * message to what carries it out. What the messages mean is in the manual of diod ("protocol.md")
 * and in Linux's fs/9p; 9P itself in the Plan 9 manual, section 5.
 */
#include "backends/share/share.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    R_LERROR = 7,
    T_STATFS = 8,
    T_LOPEN = 12,
    T_LCREATE = 14,
    T_SYMLINK = 16,
    T_MKNOD = 18,
    T_RENAME = 20,
    T_READLINK = 22,
    T_GETATTR = 24,
    T_SETATTR = 26,
    T_XATTRWALK = 30,
    T_XATTRCREATE = 32,
    T_READDIR = 40,
    T_FSYNC = 50,
    T_LOCK = 52,
    T_GETLOCK = 54,
    T_LINK = 70,
    T_MKDIR = 72,
    T_RENAMEAT = 74,
    T_UNLINKAT = 76,
    T_VERSION = 100,
    T_ATTACH = 104,
    T_FLUSH = 108,
    T_WALK = 110,
    T_READ = 116,
    T_WRITE = 118,
    T_CLUNK = 120,
    T_REMOVE = 122,
    T_END,
};

#define ERROR_SIZE 11u
#define NO_FID     UINT32_MAX

int vmm_p9_end(const struct p9_message *m, const struct p9_fid *fid)
{
    if (m->in.bad || m->in.left)
        return -EPROTO;
    if (!fid)
        return -EBADF;
    return fid->node ? 0 : -ESTALE;
}

/* Sessions ------------------------------------------------------------------------------------- */

static bool is(struct p9_string s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}

/* A new session, whatever was before. */
static int version(struct p9_message *m)
{
    static const char ours[] = "9P2000.L", unknown[] = "unknown";
    struct vmm_share *s = m->share;
    uint32_t msize = p9_u32(&m->in);
    struct p9_string asked = p9_string(&m->in);
    if (m->in.bad || m->in.left)
        return -EPROTO;
    if (msize < VMM_SHARE_MESSAGE_MIN)
        return -EMSGSIZE;
    vmm_share_reset(s);
    msize = msize < s->message_max ? msize : s->message_max;
    bool known = is(asked, ours);
    if (known)
        s->msize = msize;
    p9_put_u32(&m->out, msize);
    p9_put_string(&m->out, known ? ours : unknown, strlen(known ? ours : unknown));
    return 0;
}

static int attach(struct p9_message *m)
{
    struct vmm_share *s = m->share;
    struct stat st;
    struct p9_fid *fid;
    uint32_t number = p9_u32(&m->in), auth = p9_u32(&m->in);
    (void)p9_string(&m->in); /* the user's name; the number counts */
    struct p9_string tree = p9_string(&m->in);
    uint32_t uid = p9_u32(&m->in);
    if (m->in.bad || m->in.left)
        return -EPROTO;
    if (auth != NO_FID)
        return -EBADF; /* there is no Tauth to get one by */
    if (tree.length && !is(tree, "/"))
        return -ENOENT;
    int rc = vmm_p9_stat(s->root->fd, &st);
    rc = rc ? rc : vmm_p9_fid_new(s, number, s->root, uid, &fid);
    if (!rc)
        vmm_p9_put_qid(s, &m->out, &st);
    return rc;
}

/* Messages are carried out one after another: what is to be flushed has been answered. */
static int flush(struct p9_message *m)
{
    (void)p9_u16(&m->in);
    return m->in.bad || m->in.left ? -EPROTO : 0;
}

static int clunk(struct p9_message *m)
{
    struct p9_fid *fid = vmm_p9_fid(m);
    int rc = vmm_p9_end(m, fid);
    if (rc && rc != -ESTALE)
        return rc;
    rc = fid->kind == FID_XATTR_WRITE ? vmm_p9_xattr_set(m->share, fid) : 0;
    vmm_p9_fid_free(m->share, fid);
    return rc;
}

/* Messages ------------------------------------------------------------------------------------- */

static const struct handler {
    p9_handler *carry_out;
    bool changes; /* not for a folder that is only read */
} handlers[T_END] = {
    [T_STATFS] = {vmm_p9_statfs, false},
    [T_LOPEN] = {vmm_p9_lopen, false},
    [T_LCREATE] = {vmm_p9_lcreate, true},
    [T_SYMLINK] = {vmm_p9_symlink, true},
    [T_MKNOD] = {vmm_p9_mknod, true},
    [T_RENAME] = {vmm_p9_rename, true},
    [T_READLINK] = {vmm_p9_readlink, false},
    [T_GETATTR] = {vmm_p9_getattr, false},
    [T_SETATTR] = {vmm_p9_setattr, true},
    [T_XATTRWALK] = {vmm_p9_xattrwalk, false},
    [T_XATTRCREATE] = {vmm_p9_xattrcreate, true},
    [T_READDIR] = {vmm_p9_readdir, false},
    [T_FSYNC] = {vmm_p9_fsync, false},
    [T_LOCK] = {vmm_p9_lock, false},
    [T_GETLOCK] = {vmm_p9_getlock, false},
    [T_LINK] = {vmm_p9_link, true},
    [T_MKDIR] = {vmm_p9_mkdir, true},
    [T_RENAMEAT] = {vmm_p9_renameat, true},
    [T_UNLINKAT] = {vmm_p9_unlinkat, true},
    [T_VERSION] = {version, false},
    [T_ATTACH] = {attach, false},
    [T_FLUSH] = {flush, false},
    [T_WALK] = {vmm_p9_walk, false},
    [T_READ] = {vmm_p9_read, false},
    [T_WRITE] = {vmm_p9_write, true},
    [T_CLUNK] = {clunk, false},
    [T_REMOVE] = {vmm_p9_remove, true},
};

static int carry_out(struct p9_message *m, uint8_t type, uint64_t available)
{
    struct vmm_share *s = m->share;
    if (type >= T_END || !handlers[type].carry_out)
        return -EOPNOTSUPP;
    if (m->size < P9_HEADER || m->size > available)
        return -EPROTO;
    if (m->size > (type == T_WRITE && s->msize ? s->msize : P9_REQUEST_MAX))
        return -EMSGSIZE;
    if (type != T_VERSION && !s->msize)
        return -EPROTO;
    if (handlers[type].changes && s->read_only)
        return -EROFS;
    return handlers[type].carry_out(m);
}

static size_t answer(struct p9_message *m, uint8_t type, const uint8_t tag[2], int rc)
{
    uint8_t *reply = m->share->reply;
    if (rc) {
        m->out.used = m->direct = 0;
        p9_put_u32(&m->out, (uint32_t)-rc);
    }
    size_t used = P9_HEADER + m->out.used;
    vmm_store_le32(reply, (uint32_t)(used + m->direct));
    reply[4] = rc ? R_LERROR : (uint8_t)(type + 1);
    memcpy(reply + 5, tag, 2);
    (void)vmm_p9_scatter(m->reply, m->reply_count, 0, reply, used);
    return used + (size_t)m->direct;
}

size_t vmm_share_serve(struct vmm_share *s, const struct iovec *request, size_t request_count,
                       const struct iovec *reply, size_t reply_count)
{
    struct p9_message m = {.share = s,
                           .request = request,
                           .request_count = request_count,
                           .reply = reply,
                           .reply_count = reply_count};
    size_t got = vmm_p9_gather(request, request_count, 0, s->request, P9_REQUEST_MAX);
    m.reply_room = vmm_p9_length(reply, reply_count);
    if (got < P9_HEADER || m.reply_room < ERROR_SIZE)
        return 0;
    uint8_t type = s->request[4], tag[2] = {s->request[5], s->request[6]};
    m.size = vmm_load_le32(s->request);
    m.in = (struct p9_in){.at = s->request + P9_HEADER};
    if (m.size >= P9_HEADER)
        m.in.left = (m.size < got ? (size_t)m.size : got) - P9_HEADER;
    if (s->msize && m.reply_room > s->msize)
        m.reply_room = s->msize;
    size_t room = m.reply_room < P9_REPLY_MAX ? (size_t)m.reply_room : P9_REPLY_MAX;
    m.out = (struct p9_out){.data = s->reply + P9_HEADER, .room = room - P9_HEADER};
    int rc = carry_out(&m, type, vmm_p9_length(request, request_count));
    if (!rc && m.out.full)
        rc = -EMSGSIZE;
    return answer(&m, type, tag, rc);
}

/* Life ----------------------------------------------------------------------------------------- */

void vmm_share_reset(struct vmm_share *s)
{
    vmm_p9_table_clear(s);
    s->msize = 0;
}

uint32_t vmm_share_fids(const struct vmm_share *s)
{
    return s->table.count;
}

static uint32_t default_fids(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 256;
    uint64_t fids = limit.rlim_cur / 4;
    return fids < VMM_SHARE_FIDS_MAX ? (uint32_t)fids : VMM_SHARE_FIDS_MAX;
}

static int check_options(struct vmm_share_options *o, struct vmm_error *err)
{
    o->fids_max = o->fids_max ? o->fids_max : default_fids();
    o->message_max = o->message_max ? o->message_max : 0x80000u;
    if (o->fids_max > VMM_SHARE_FIDS_MAX)
        return vmm_error_set(err, -EINVAL, "shared folder: at most %u files at a time",
                             VMM_SHARE_FIDS_MAX);
    if (o->message_max < VMM_SHARE_MESSAGE_MIN || o->message_max > VMM_SHARE_MESSAGE_MAX)
        return vmm_error_set(err, -EINVAL, "shared folder: messages of %u to %u bytes",
                             VMM_SHARE_MESSAGE_MIN, VMM_SHARE_MESSAGE_MAX);
    if (o->owner > VMM_SHARE_OWNER_MAPPED)
        return vmm_error_set(err, -EINVAL, "shared folder: there is no such rule for owners");
    if (!o->path && o->fd < 0)
        return vmm_error_set(err, -EINVAL, "shared folder: neither a path nor a descriptor");
    return 0;
}

/* The folder, and whether this kernel and its /proc are enough. */
static int open_root(struct vmm_share *s, const struct vmm_share_options *o, struct vmm_error *err)
{
    const char *name = o->path ? o->path : "the descriptor";
    int fd = o->path ? open(o->path, O_PATH | O_DIRECTORY | O_CLOEXEC)
                     : openat(o->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return vmm_error_set(err, -errno, "%s cannot be shared: %s", name, strerror(errno));
    struct stat st;
    int rc = vmm_p9_stat(fd, &st);
    s->root_device = st.st_dev;
    rc = rc ? rc : vmm_p9_node_new(fd, &s->root);
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", name, strerror(-rc));
    int probe = vmm_p9_look_up_path(s, "");
    if (probe < 0)
        return vmm_error_set(err, probe, "shared folders need openat2() (Linux 5.6): %s",
                             strerror(-probe));
    close(probe);
    if (access(vmm_p9_proc(s->root->fd).path, F_OK) < 0)
        return vmm_error_set(err, -errno, "shared folders need /proc: %s", strerror(errno));
    return 0;
}

int vmm_share_new(const struct vmm_share_options *given, struct vmm_share **out,
                  struct vmm_error *err)
{
    struct vmm_share_options o;
    if (!given || !out || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "shared folder: a structure of another version");
    int rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_share *s = calloc(1, sizeof(*s));
    if (!s)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    s->refs = 1;
    s->read_only = o.read_only != 0;
    s->mapped = o.owner == VMM_SHARE_OWNER_MAPPED;
    s->guest_uid = o.guest_uid;
    s->guest_gid = o.guest_gid;
    s->fids_max = o.fids_max;
    s->message_max = o.message_max;
    vmm_p9_table_init(&s->table);
    rc = open_root(s, &o, err);
    if (rc) {
        vmm_share_unref(s);
        return rc;
    }
    *out = s;
    return 0;
}

struct vmm_share *vmm_share_ref(struct vmm_share *s)
{
    s->refs++;
    return s;
}

struct vmm_share *vmm_share_unref(struct vmm_share *s)
{
    if (!s || --s->refs)
        return NULL;
    vmm_p9_table_clear(s);
    vmm_p9_node_unref(s->root);
    free(s);
    return NULL;
}
