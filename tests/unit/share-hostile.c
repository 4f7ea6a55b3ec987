/* SPDX-License-Identifier: BSD-3-Clause */
/* A shared folder and clients that want out of it, break the protocol, or take too much. */
#include "share-client.h"

#include <pthread.h>
#include <stdatomic.h>

static struct client *open_with(struct vmm_share_options *o)
{
    struct client *c = client_open(o);
    begin_session(c);
    return c;
}

static int set_up(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    *state = open_with(&o);
    return 0;
}

static int tear_down(void **state)
{
    client_close(*state);
    return 0;
}

/* Requests of every kind that name something, with `name` (of `n` bytes) there: the error they get. */
static void names_get(struct client *c, const char *name, int n, int error)
{
    unsigned gid = getgid();
    assert_int_equal(clone_fid(c, ROOT, 50), 0);
    assert_int_equal(send_message(c, LCREATE, "dnddd", 50u, n, name, 0102u, 0600u, gid), error);
    assert_int_equal(send_message(c, MKDIR, "dndd", ROOT, n, name, 0700u, gid), error);
    assert_int_equal(send_message(c, MKNOD, "dndddd", ROOT, n, name, 0600u, 0u, 0u, gid), error);
    assert_int_equal(send_message(c, SYMLINK, "dnsd", ROOT, n, name, "x", gid), error);
    assert_int_equal(send_message(c, LINK, "ddn", ROOT, 60u, n, name), error);
    assert_int_equal(send_message(c, RENAMEAT, "dnds", ROOT, n, name, ROOT, "y"), error);
    assert_int_equal(send_message(c, RENAMEAT, "dsdn", ROOT, "file", ROOT, n, name), error);
    assert_int_equal(send_message(c, RENAME, "ddn", 60u, ROOT, n, name), error);
    assert_int_equal(send_message(c, UNLINKAT, "dnd", ROOT, n, name, 0u), error);
    assert_int_equal(clunk(c, 50), 0);
}

static void bad_names(void **state)
{
    struct client *c = *state;
    char longest[256];
    memset(longest, 'x', sizeof(longest));
    host_write(c, "file", "");
    assert_int_equal(walk(c, ROOT, 60, "file"), 0);
    names_get(c, "", 0, -EINVAL);
    names_get(c, ".", 1, -EINVAL);
    names_get(c, "..", 2, -EINVAL);
    names_get(c, "a/b", 3, -EINVAL);
    names_get(c, "/", 1, -EINVAL);
    names_get(c, "../x", 4, -EINVAL);
    names_get(c, "a\0b", 3, -EINVAL);
    names_get(c, "\0", 1, -EINVAL);
    names_get(c, longest, 256, -ENAMETOOLONG);
    static const char *const walked[] = {"a/b", "/etc", "../..", "/", "", "./file"};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(send_message(c, WALK, "ddws", ROOT, 2u, 1u, walked[i]), -ENOENT);
    assert_int_equal(send_message(c, WALK, "ddwn", ROOT, 2u, 1u, 5, "file\0"), -EINVAL);
    assert_int_equal(send_message(c, WALK, "ddwn", ROOT, 2u, 1u, 256, longest), -ENAMETOOLONG);
    assert_int_equal(send_message(c, SYMLINK, "dsnd", ROOT, "s", 3, "a\0b", getgid()), -EINVAL);
    static char target[4097];
    memset(target, 'y', sizeof(target));
    assert_int_equal(send_message(c, SYMLINK, "dsnd", ROOT, "s", 4097, target, getgid()),
                     -ENAMETOOLONG);
    assert_int_equal(send_message(c, XATTRWALK, "ddn", 60u, 61u, 3, "a\0b"), -EINVAL);
    assert_int_equal(send_message(c, XATTRCREATE, "dnqd", 60u, 3, "a\0b", 1ull, 0u), -EINVAL);
    assert_int_equal(vmm_share_fids(c->share), 2);
}

static void no_link_is_followed(void **state)
{
    struct client *c = *state;
    unsigned gid = getgid();
    assert_int_equal(send_message(c, SYMLINK, "dssd", ROOT, "out", "/etc", gid), 0);
    assert_int_equal(send_message(c, SYMLINK, "dssd", ROOT, "file", "/etc/passwd", gid), 0);
    assert_int_equal(send_message(c, SYMLINK, "dssd", ROOT, "in", ".", gid), 0);
    assert_int_equal(send_message(c, WALK, "ddwss", ROOT, 2u, 2u, "out", "passwd"), 0);
    assert_int_equal(get(c, 2), 1);
    assert_int_equal(send_message(c, WALK, "ddwss", ROOT, 2u, 2u, "in", "in"), 0);
    assert_int_equal(get(c, 2), 1);
    assert_int_equal(create(c, ROOT, 3, "file"), -ELOOP);
    assert_int_equal(clunk(c, 3), 0);
    assert_int_equal(walk(c, ROOT, 2, "out"), 0);
    assert_int_equal(walk(c, 2, 3, "passwd"), -ENOTDIR);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0200000u), -ELOOP);
    assert_int_equal(send_message(c, LCREATE, "dsddd", 2u, "x", 0102u, 0600u, gid), -ENOTDIR);
    assert_int_equal(send_message(c, MKDIR, "dsdd", 2u, "x", 0700u, gid), -ENOTDIR);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", 2u, "passwd", 0u), -ENOTDIR);
    assert_int_equal(send_message(c, RENAMEAT, "dsds", 2u, "passwd", ROOT, "x"), -ENOTDIR);
    assert_int_equal(walk(c, ROOT, 3, "file"), 0);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 3u, 1u, 0777u, 0u, 0u, 0ull, 0ull, 0ull, 0ull, 0ull),
        -EOPNOTSUPP);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 3u, 8u, 0u, 0u, 0u, 0ull, 0ull, 0ull, 0ull, 0ull),
        -ELOOP);
}

/* Somebody on the host exchanges a folder for a link to another one, again and again: whatever the
 * client does below that name, it never sees what is behind the link. */
struct race {
    char a[256], b[256];
    _Atomic bool end;
};

static void *exchange_names(void *ctx)
{
    struct race *r = ctx;
    while (!r->end)
        (void)renameat2(AT_FDCWD, r->a, AT_FDCWD, r->b, RENAME_EXCHANGE);
    return NULL;
}

static void links_that_come_in_between(void **state)
{
    struct client *c = *state;
    struct race race = {.end = false};
    char path[256], outside[] = "/var/tmp/libvmm-outside-XXXXXX", secret[300];
    pthread_t thread;
    int reached = 0;
    assert_non_null(mkdtemp(outside));
    (void)snprintf(secret, sizeof(secret), "%s/secret", outside);
    assert_int_equal(close(open(secret, O_CREAT | O_WRONLY, 0600)), 0);
    host_path(c, "a", race.a);
    host_path(c, "b", race.b);
    assert_int_equal(mkdir(race.a, 0700), 0);
    host_path(c, "a/inside", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(symlink(outside, race.b), 0);
    assert_int_equal(pthread_create(&thread, NULL, exchange_names, &race), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        int rc = send_message(c, WALK, "ddwss", ROOT, 2u, 2u, "a", "secret");
        if (!rc)
            assert_int_equal(get(c, 2), 1);
        if (send_message(c, WALK, "ddwsss", ROOT, 2u, 3u, "a", "inside", "..") == 0 &&
            get(c, 2) == 3) {
            reached++;
            assert_true(walk(c, 2, 3, "secret") != 0);
            if (create(c, 2, 4, "made") == 0)
                assert_int_equal(send_message(c, UNLINKAT, "dsd", 2u, "made", 0u), 0);
            assert_int_equal(clunk(c, 4), 0);
            assert_int_equal(clunk(c, 2), 0);
        }
    }
    race.end = true;
    pthread_join(thread, NULL);
    assert_true(reached > 0);
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(rmdir(outside), 0); /* nothing else was put there */
}

static void folders_that_were_moved_away(void **state)
{
    struct client *c = *state;
    char path[256], outside[] = "/var/tmp/libvmm-outside-XXXXXX", there[300];
    host_path(c, "d", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(walk(c, ROOT, 2, "d"), 0);
    assert_non_null(mkdtemp(outside));
    (void)snprintf(there, sizeof(there), "%s/d", outside);
    assert_int_equal(rename(path, there), 0);
    assert_int_equal(walk(c, 2, 3, ".."), -ENOENT); /* not to where it is now */
    assert_int_equal(send_message(c, RENAME, "dds", 2u, ROOT, "e"), -ENOENT);
    assert_int_equal(send_message(c, REMOVE, "d", 2u), -ENOENT);
    assert_int_equal(rmdir(there), 0);
    assert_int_equal(rmdir(outside), 0);
}

/* Every message cut off at every length, and with a byte too many. */
static void messages_of_wrong_lengths(void **state)
{
    struct client *c = *state;
    static const struct {
        uint8_t type;
        const char *format;
    } messages[] = {
        {STATFS, "d"},      {LOPEN, "dd"},         {LCREATE, "dsddd"},
        {SYMLINK, "dssd"},  {MKNOD, "dsdddd"},     {RENAME, "dds"},
        {READLINK, "d"},    {GETATTR, "dq"},       {SETATTR, "dddddqqqqq"},
        {XATTRWALK, "dds"}, {XATTRCREATE, "dsqd"}, {READDIR, "dqd"},
        {LOCK, "dbdqqds"},  {GETLOCK, "dbqqds"},   {LINK, "dds"},
        {MKDIR, "dsdd"},    {RENAMEAT, "dsds"},    {UNLINKAT, "dsd"},
        {VERSION, "ds"},    {ATTACH, "ddssd"},     {FLUSH, "w"},
        {WALK, "ddwss"},    {READ, "dqd"},         {WRITE, "dqd"},
        {CLUNK, "d"},       {REMOVE, "d"},
    };
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        c->size = 7;
        for (const char *f = messages[i].format; *f; f++) {
            if (*f == 's')
                put_text(c, "abc", 3);
            else
                put(c, *f == 'w' ? 2 : ROOT, *f == 'b' ? 1 : *f == 'w' ? 2 : *f == 'd' ? 4 : 8);
        }
        size_t whole = c->size;
        for (size_t size = 7; size <= whole + 1; size++) {
            if (size == whole + (messages[i].type == WRITE)) /* that one has a byte of data */
                continue;
            c->size = 0;
            put(c, size, 4);
            put(c, messages[i].type, 1);
            put(c, 0x1234, 2);
            c->size = size;
            assert_int_equal(exchange(c, messages[i].type), -EPROTO);
        }
    }
    assert_int_equal(vmm_share_fids(c->share), 1);
}

static void headers_that_lie(void **state)
{
    struct client *c = *state;
    static const uint32_t sizes[] = {0, 6, 12, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < 5; i++) {
        c->size = 0;
        put(c, sizes[i], 4);
        put(c, CLUNK, 1);
        put(c, 0x1234, 2);
        put(c, ROOT, 4);
        c->size = 11;
        assert_int_equal(exchange(c, CLUNK), -EPROTO);
    }
    for (size_t size = 0; size < 7; size++) {
        c->size = size;
        assert_int_equal(exchange(c, CLUNK), -1000);
    }
    for (size_t room = 0; room < 11; room++) {
        c->room = room;
        assert_int_equal(clunk(c, ROOT), -1000);
    }
    for (c->room = 11; c->room < 20; c->room++)
        assert_int_equal(send_message(c, STATFS, "d", ROOT), -EMSGSIZE);
    c->room = sizeof(c->reply);
    for (uint32_t type = 0; type < 256; type++) { /* those that are none */
        bool known = type == STATFS || type == LOPEN || type == LCREATE || type == SYMLINK ||
                     type == MKNOD || type == RENAME || type == READLINK || type == GETATTR ||
                     type == SETATTR || type == XATTRWALK || type == XATTRCREATE ||
                     type == READDIR || type == FSYNC || type == LOCK || type == GETLOCK ||
                     type == LINK || type == MKDIR || type == RENAMEAT || type == UNLINKAT ||
                     type == VERSION || type == ATTACH || type == FLUSH || type == WALK ||
                     type == READ || type == WRITE || type == CLUNK || type == REMOVE;
        if (!known)
            assert_int_equal(send_message(c, (uint8_t)type, "d", ROOT), -EOPNOTSUPP);
    }
    /* Longer than any but a write may be, and a write of less than it says. */
    c->size = 7;
    put(c, ROOT, 4);
    memset(c->request + c->size, 'x', 20000);
    c->size = 0;
    put(c, 20000, 4);
    put(c, GETATTR, 1);
    put(c, 0x1234, 2);
    c->size = 20000;
    assert_int_equal(exchange(c, GETATTR), -EMSGSIZE);
    assert_int_equal(send_message(c, WRITE, "dqd", ROOT, 0ull, 1u), -EPROTO);
    assert_int_equal(send_message(c, WRITE, "dqdb", ROOT, 0ull, 0u, 1u), -EPROTO);
}

static void fids_that_are_none(void **state)
{
    struct client *c = *state;
    static const uint32_t wrong[] = {0, 2, 1024, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        uint32_t f = wrong[i];
        assert_int_equal(send_message(c, STATFS, "d", f), -EBADF);
        assert_int_equal(send_message(c, LOPEN, "dd", f, 0u), -EBADF);
        assert_int_equal(send_message(c, LCREATE, "dsddd", f, "a", 0u, 0u, 0u), -EBADF);
        assert_int_equal(send_message(c, RENAME, "dds", ROOT, f, "a"), -EBADF);
        assert_int_equal(send_message(c, LINK, "dds", ROOT, f, "a"), -EBADF);
        assert_int_equal(send_message(c, RENAMEAT, "dsds", ROOT, "a", f, "b"), -EBADF);
        assert_int_equal(send_message(c, GETATTR, "dq", f, 1ull), -EBADF);
        assert_int_equal(send_message(c, XATTRWALK, "dds", f, 9u, ""), -EBADF);
        assert_int_equal(send_message(c, WALK, "ddw", f, 9u, 0u), -EBADF);
        assert_int_equal(read_at(c, f, 0, 1), -EBADF);
        assert_int_equal(write_at(c, f, 0, "", 0), -EBADF);
        assert_int_equal(send_message(c, READDIR, "dqd", f, 0ull, 100u), -EBADF);
        assert_int_equal(send_message(c, FSYNC, "dd", f, 0u), -EBADF);
        assert_int_equal(send_message(c, REMOVE, "d", f), -EBADF);
        assert_int_equal(clunk(c, f), -EBADF);
    }
    assert_int_equal(send_message(c, FSYNC, "dd", ROOT, 0u), -EBADF); /* not open */
}

static uint32_t open_descriptors(void)
{
    uint32_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static void too_many_fids(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    uint32_t before = open_descriptors();
    (void)state;
    o.fids_max = 100;
    struct client *c = open_with(&o);
    host_write(c, "f", "");
    for (uint32_t i = 2; i <= 100; i++)
        assert_int_equal(i % 2 ? walk(c, ROOT, i * 1024, "f") : clone_fid(c, ROOT, i * 1024), 0);
    assert_int_equal(clone_fid(c, ROOT, 5), -ENFILE);
    assert_int_equal(walk(c, ROOT, 5, "f"), -ENFILE);
    assert_int_equal(send_message(c, XATTRWALK, "dds", ROOT, 5u, ""), -ENFILE);
    assert_int_equal(clunk(c, 1024 * 50), 0);
    assert_int_equal(clone_fid(c, ROOT, 5), 0);
    vmm_share_reset(c->share);
    assert_int_equal(open_descriptors(), before + 1); /* the root's */
    client_close(c);
    assert_int_equal(open_descriptors(), before);
}

/* Values that are being written are memory of ours. */
static void too_many_attributes(void **state)
{
    struct client *c = *state;
    uint32_t fid;
    for (fid = 100; fid < 200; fid++) {
        assert_int_equal(clone_fid(c, ROOT, fid), 0);
        if (send_message(c, XATTRCREATE, "dsqd", fid, "user.x", 65536ull, 0u))
            break;
    }
    assert_int_equal(fid, 164);
    assert_int_equal(clunk(c, 100), -EINVAL);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 164u, "user.x", 65536ull, 0u), 0);
}

static void read_only(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    (void)state;
    o.read_only = 1;
    struct client *c = open_with(&o);
    unsigned gid = getgid();
    host_write(c, "f", "text");
    assert_int_equal(walk(c, ROOT, 2, "f"), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 2u), -EROFS);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 01000u), -EROFS);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), 0);
    assert_int_equal(read_at(c, 2, 0, 9), 4);
    assert_int_equal(write_at(c, 2, 0, "x", 1), -EROFS);
    assert_int_equal(create(c, ROOT, 3, "g"), -EROFS);
    assert_int_equal(send_message(c, MKDIR, "dsdd", ROOT, "d", 0700u, gid), -EROFS);
    assert_int_equal(send_message(c, SYMLINK, "dssd", ROOT, "s", "x", gid), -EROFS);
    assert_int_equal(send_message(c, MKNOD, "dsdddd", ROOT, "n", 0600u, 0u, 0u, gid), -EROFS);
    assert_int_equal(send_message(c, LINK, "dds", ROOT, 2u, "l"), -EROFS);
    assert_int_equal(send_message(c, RENAME, "dds", 2u, ROOT, "g"), -EROFS);
    assert_int_equal(send_message(c, RENAMEAT, "dsds", ROOT, "f", ROOT, "g"), -EROFS);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", ROOT, "f", 0u), -EROFS);
    assert_int_equal(send_message(c, REMOVE, "d", 2u), -EROFS);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 2u, 1u, 0777u, 0u, 0u, 0ull, 0ull, 0ull, 0ull, 0ull),
        -EROFS);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 2u, "user.x", 1ull, 0u), -EROFS);
    client_close(c);
}

static void mapped_owners(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    struct stat st;
    char path[256];
    (void)state;
    o.owner = VMM_SHARE_OWNER_MAPPED;
    o.guest_uid = 500;
    o.guest_gid = 600;
    struct client *c = open_with(&o);
    assert_int_equal(clone_fid(c, ROOT, 2), 0);
    assert_int_equal(send_message(c, LCREATE, "dsddd", 2u, "f", 2u, 06755u, 77u), 0);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 2u, 6u, 0u, 5u, 6u, 0ull, 0ull, 0ull, 0ull, 0ull),
        0);
    assert_int_equal(send_message(c, GETATTR, "dq", 2u, 1ull), 0);
    c->r += 8 + 13 + 4;
    assert_int_equal(get(c, 4), 500);
    assert_int_equal(get(c, 4), 600);
    host_path(c, "f", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, getuid());
    assert_int_equal(st.st_gid, getgid());
    assert_int_equal(st.st_mode & 07777, 0755); /* no bits that make others' programs run as us */
    assert_int_equal(send_message(c, SETATTR, "dddddqqqqq", 2u, 1u, 06711u, 0u, 0u, 0ull, 0ull,
                                  0ull, 0ull, 0ull),
                     0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(walk(c, ROOT, 3, "f"), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "security.capability", 20ull, 0u),
                     -EOPNOTSUPP);
    assert_int_equal(send_message(c, XATTRWALK, "dds", 3u, 4u, "system.posix_acl_access"),
                     -ENODATA);
    client_close(c);
}

static void bad_options(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    struct vmm_share *share;
    struct vmm_error err = VMM_ERROR_INIT;
    (void)state;
    assert_int_equal(vmm_share_new(NULL, &share, NULL), -EINVAL);
    assert_int_equal(vmm_share_new(&o, &share, &err), -EINVAL);
    assert_true(err.text[0] != '\0');
    o.path = "/nowhere";
    assert_int_equal(vmm_share_new(&o, &share, NULL), -ENOENT);
    o.path = "/etc/passwd";
    assert_int_equal(vmm_share_new(&o, &share, NULL), -ENOTDIR);
    o.path = "/";
    o.fids_max = VMM_SHARE_FIDS_MAX + 1;
    assert_int_equal(vmm_share_new(&o, &share, NULL), -EINVAL);
    o.fids_max = 0;
    o.message_max = 4095;
    assert_int_equal(vmm_share_new(&o, &share, NULL), -EINVAL);
    o.message_max = VMM_SHARE_MESSAGE_MAX + 1;
    assert_int_equal(vmm_share_new(&o, &share, NULL), -EINVAL);
    o.message_max = 0;
    o.owner = 2;
    assert_int_equal(vmm_share_new(&o, &share, NULL), -EINVAL);
    o.owner = 0;
    assert_int_equal(vmm_share_new(&o, &share, NULL), 0);
    assert_null(vmm_share_unref(share));
    o.path = NULL;
    o.fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    assert_int_equal(vmm_share_new(&o, &share, NULL), 0);
    close(o.fd);
    assert_ptr_equal(vmm_share_ref(share), share);
    vmm_share_unref(share);
    vmm_share_unref(share);
    assert_null(vmm_share_unref(NULL));
}

/* Save and load -------------------------------------------------------------------------------- */

static void *save(struct client *c, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_share_save(c->share, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static int load(struct vmm_share *share, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_share_load(share, r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void files_are_found_again(void **state)
{
    struct client *c = *state;
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    struct vmm_share *before = c->share;
    size_t length;
    assert_int_equal(send_message(c, MKDIR, "dsdd", ROOT, "d", 0700u, getgid()), 0);
    assert_int_equal(walk(c, ROOT, 2, "d"), 0);
    assert_int_equal(create(c, 2, 3, "f"), 0);
    assert_int_equal(write_at(c, 3, 0, "text", 4), 4);
    assert_int_equal(create(c, 2, 4, "gone"), 0);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", 2u, "gone", 0u), 0);
    assert_int_equal(send_message(c, RENAMEAT, "dsds", ROOT, "d", ROOT, "e"), 0);
    assert_int_equal(create(c, ROOT, 5, "later"), 0);
    void *blob = save(c, &length);
    char path[256];
    host_path(c, "later", path);
    assert_int_equal(unlink(path), 0);
    o.path = c->folder;
    assert_int_equal(vmm_share_new(&o, &c->share, NULL), 0);
    assert_int_equal(load(c->share, blob, length), 0);
    assert_int_equal(vmm_share_fids(c->share), 5);
    assert_int_equal(read_at(c, 3, 0, 9), 4);
    assert_int_equal(write_at(c, 3, 4, "more", 4), 4);
    assert_int_equal(walk(c, 2, 6, "f"), 0);
    assert_int_equal(read_at(c, 4, 0, 9), -ESTALE);
    assert_int_equal(send_message(c, GETATTR, "dq", 5u, 1ull), -ESTALE);
    assert_int_equal(clunk(c, 4), 0);
    assert_int_equal(send_message(c, REMOVE, "d", 5u), -ESTALE);
    assert_int_equal(vmm_share_fids(c->share), 4);
    /* What is not sound changes nothing. */
    o.read_only = 1;
    struct vmm_share *reader;
    assert_int_equal(vmm_share_new(&o, &reader, NULL), 0);
    assert_int_equal(load(reader, blob, length), -EINVAL);
    assert_int_equal(vmm_share_fids(reader), 0);
    vmm_share_unref(reader);
    uint8_t *fids = memmem(blob, length, "e/f", 3);
    assert_non_null(fids);
    memcpy(fids, "../", 3); /* a name that leads out: stale */
    assert_int_equal(load(c->share, blob, length), 0);
    assert_int_equal(read_at(c, 3, 0, 9), -ESTALE);
    fids[-2] = 0xf0; /* longer than the blob */
    fids[-1] = 0x0f;
    assert_int_equal(load(c->share, blob, length), -EINVAL);
    assert_int_equal(vmm_share_fids(c->share), 5);
    vmm_share_unref(c->share);
    c->share = before;
    free(blob);
}

#define SHARE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARE(bad_names),
        SHARE(no_link_is_followed),
        SHARE(links_that_come_in_between),
        SHARE(folders_that_were_moved_away),
        SHARE(messages_of_wrong_lengths),
        SHARE(headers_that_lie),
        SHARE(fids_that_are_none),
        cmocka_unit_test(too_many_fids),
        SHARE(too_many_attributes),
        cmocka_unit_test(read_only),
        cmocka_unit_test(mapped_owners),
        cmocka_unit_test(bad_options),
        SHARE(files_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
