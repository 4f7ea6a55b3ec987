/* SPDX-License-Identifier: BSD-3-Clause */
/* A shared folder: what each message does, and that what is there on the host is what was meant. */
#include "share-client.h"

static int set_up(void **state)
{
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    *state = client_open(&o);
    begin_session(*state);
    return 0;
}

static int tear_down(void **state)
{
    client_close(*state);
    return 0;
}

static void version_begins_anew(void **state)
{
    struct client *c = *state;
    assert_int_equal(vmm_share_fids(c->share), 1);
    assert_int_equal(send_message(c, VERSION, "ds", 0x1000000u, "9P2000.L"), 0);
    assert_int_equal(get(c, 4), 512 << 10);
    assert_int_equal(get(c, 2), 8);
    assert_memory_equal(c->r, "9P2000.L", 8);
    assert_int_equal(vmm_share_fids(c->share), 0);
    assert_int_equal(clone_fid(c, ROOT, 2), -EBADF);
    assert_int_equal(send_message(c, VERSION, "ds", 4095u, "9P2000.L"), -EMSGSIZE);
    assert_int_equal(send_message(c, VERSION, "ds", 8192u, "9P2000.u"), 0);
    assert_int_equal(get(c, 4), 8192);
    assert_int_equal(get(c, 2), 7);
    assert_memory_equal(c->r, "unknown", 7);
    assert_int_equal(send_message(c, ATTACH, "ddssd", ROOT, NO_FID, "", "", 0u), -EPROTO);
}

static void attaching(void **state)
{
    struct client *c = *state;
    assert_int_equal(send_message(c, ATTACH, "ddssd", 2u, NO_FID, "x", "/", 7u), 0);
    assert_int_equal(get(c, 1), 0x80); /* a folder */
    assert_int_equal(send_message(c, ATTACH, "ddssd", 2u, NO_FID, "x", "", 7u), -EBADF);
    assert_int_equal(send_message(c, ATTACH, "ddssd", 3u, NO_FID, "x", "etc", 7u), -ENOENT);
    assert_int_equal(send_message(c, ATTACH, "ddssd", 3u, 1u, "x", "", 7u), -EBADF);
    assert_int_equal(send_message(c, AUTH, "dssd", 3u, "x", "", 7u), -EOPNOTSUPP);
    assert_int_equal(send_message(c, FLUSH, "w", 99u), 0);
}

static void files_are_written_and_read(void **state)
{
    struct client *c = *state;
    char path[256], data[8];
    assert_int_equal(create(c, ROOT, 2, "file"), 0);
    assert_int_equal(write_at(c, 2, 0, "hello, world", 12), 12);
    assert_int_equal(write_at(c, 2, 100000, "far", 3), 3);
    assert_int_equal(read_at(c, 2, 7, 100), 100);
    assert_memory_equal(c->r, "world\0\0", 7);
    assert_int_equal(read_at(c, 2, 100001, 100), 2);
    assert_int_equal(read_at(c, 2, 100003, 100), 0);
    assert_int_equal(read_at(c, 2, 1ull << 63, 1), -EINVAL);
    assert_int_equal(write_at(c, 2, 1ull << 63, "x", 1), -EINVAL);
    assert_int_equal(send_message(c, FSYNC, "dd", 2u, 0u), 0);
    assert_int_equal(send_message(c, FSYNC, "dd", 2u, 1u), 0);
    assert_int_equal(send_message(c, FSYNC, "d", 2u), 0);
    assert_int_equal(clunk(c, 2), 0);
    assert_int_equal(clunk(c, 2), -EBADF);
    host_path(c, "file", path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, data, 5), 5);
    assert_memory_equal(data, "hello", 5);
    close(fd);
    /* Read only, write only, append, truncate. */
    assert_int_equal(walk(c, ROOT, 2, "file"), 0);
    assert_int_equal(read_at(c, 2, 0, 1), -EBADF);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), -EBADF);
    assert_int_equal(write_at(c, 2, 0, "x", 1), -EBADF);
    assert_int_equal(walk(c, ROOT, 3, "file"), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 3u, 3u), -EINVAL);
    assert_int_equal(send_message(c, LOPEN, "dd", 3u, 1u | 02000u), 0);
    assert_int_equal(read_at(c, 3, 0, 1), -EBADF);
    assert_int_equal(write_at(c, 3, 0, "end", 3), 3);
    assert_int_equal(read_at(c, 2, 100003, 10), 3);
    assert_int_equal(walk(c, ROOT, 4, "file"), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 4u, 1u | 01000u), 0);
    assert_int_equal(read_at(c, 2, 0, 10), 0);
}

static void creating(void **state)
{
    struct client *c = *state;
    struct stat st;
    char path[256];
    umask(077); /* the guest has applied its own already */
    assert_int_equal(clone_fid(c, ROOT, 2), 0);
    assert_int_equal(
        send_message(c, LCREATE, "dsddd", 2u, "a", 2u | 0100u | 0200u, 0640u, getgid()), 0);
    host_path(c, "a", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(write_at(c, 2, 0, "abc", 3), 3);
    assert_int_equal(create(c, ROOT, 3, "a"), 0); /* it is there already: opened */
    assert_int_equal(read_at(c, 3, 0, 9), 3);
    assert_int_equal(clone_fid(c, ROOT, 4), 0);
    assert_int_equal(send_message(c, LCREATE, "dsddd", 4u, "a", 0300u, 0600u, getgid()), -EEXIST);
    /* The fid is the folder's still, and not that of a file. */
    assert_int_equal(send_message(c, MKDIR, "dsdd", 4u, "d", 02750u, getgid()), 0);
    assert_int_equal(send_message(c, MKDIR, "dsdd", 2u, "e", 0700u, getgid()), -ENOTDIR);
    assert_int_equal(send_message(c, MKDIR, "dsdd", 4u, "d", 0700u, getgid()), -EEXIST);
    host_path(c, "d", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 02750);
    assert_int_equal(send_message(c, MKNOD, "dsdddd", 4u, "n", S_IFREG | 0604u, 0u, 0u, getgid()),
                     0);
    host_path(c, "n", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0604);
    umask(022);
}

static void special_files_are_not_made_or_opened(void **state)
{
    struct client *c = *state;
    static const unsigned types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK};
    char path[256];
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(
            send_message(c, MKNOD, "dsdddd", ROOT, "n", types[i] | 0600u, 1u, 3u, getgid()),
            -EPERM);
    host_path(c, "pipe", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(walk(c, ROOT, 2, "pipe"), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), -EPERM);
    assert_int_equal(create(c, ROOT, 3, "pipe"), -EPERM);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 2u, 8u, 0u, 0u, 0u, 9ull, 0ull, 0ull, 0ull, 0ull),
        -EPERM);
    assert_int_equal(send_message(c, GETATTR, "dq", 2u, 0x7ffull), 0);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", ROOT, "pipe", 0u), 0);
}

static void walking(void **state)
{
    struct client *c = *state;
    char path[256];
    host_path(c, "a", path);
    assert_int_equal(mkdir(path, 0755), 0);
    host_path(c, "a/b", path);
    assert_int_equal(mkdir(path, 0755), 0);
    host_write(c, "a/b/file", "text");
    assert_int_equal(send_message(c, WALK, "ddwsss", ROOT, 2u, 3u, "a", "b", "file"), 0);
    assert_int_equal(get(c, 2), 3);
    assert_int_equal(get(c, 1), 0x80);
    c->r += 12 + 13;
    assert_int_equal(get(c, 1), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), 0);
    assert_int_equal(read_at(c, 2, 0, 9), 4);
    /* As far as it goes: there is no fid then. */
    assert_int_equal(send_message(c, WALK, "ddwsss", ROOT, 3u, 3u, "a", "x", "y"), 0);
    assert_int_equal(get(c, 2), 1);
    assert_int_equal(clunk(c, 3), -EBADF);
    assert_int_equal(send_message(c, WALK, "ddws", ROOT, 3u, 1u, "x"), -ENOENT);
    assert_int_equal(send_message(c, WALK, "ddwss", ROOT, 3u, 2u, "a", "b"), 0);
    assert_int_equal(send_message(c, WALK, "ddws", 3u, 3u, 1u, "file"), 0); /* the same fid moves */
    assert_int_equal(send_message(c, WALK, "ddws", 3u, 4u, 1u, "x"), -ENOTDIR);
    assert_int_equal(clone_fid(c, ROOT, 3), -EBADF); /* it is in use */
    assert_int_equal(clone_fid(c, ROOT, ROOT), 0);
    assert_int_equal(walk(c, 2, 2, "x"), -EBUSY); /* it is open */
    /* Up, and not above the root. */
    assert_int_equal(send_message(c, WALK, "ddwssss", ROOT, 5u, 4u, "a", "b", "..", "b"), 0);
    assert_int_equal(get(c, 2), 4);
    assert_int_equal(send_message(c, WALK, "ddwsss", ROOT, 6u, 3u, "..", "..", "a"), 0);
    assert_int_equal(get(c, 2), 3);
    assert_int_equal(send_message(c, WALK, "ddwsssssssssssssssss", ROOT, 7u, 17u, "a", "a", "a",
                                  "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a",
                                  "a"),
                     -EINVAL);
}

static void attributes(void **state)
{
    struct client *c = *state;
    struct stat st;
    char path[256];
    assert_int_equal(create(c, ROOT, 2, "f"), 0);
    assert_int_equal(send_message(c, SETATTR, "dddddqqqqq", 2u, 0x1b9u, 0600u, 0u, 0u, 4096ull,
                                  1111ull, 5ull, 2222ull, 6ull),
                     0);
    host_path(c, "f", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 4096);
    assert_int_equal(st.st_atim.tv_sec, 1111);
    assert_int_equal(st.st_mtim.tv_nsec, 6);
    assert_int_equal(send_message(c, GETATTR, "dq", 2u, 0x3fffull), 0);
    assert_int_equal(get(c, 8), 0x7ff);
    assert_int_equal(get(c, 1), 0);
    get(c, 4);
    assert_int_equal(get(c, 8), st.st_ino);
    assert_int_equal(get(c, 4), S_IFREG | 0600);
    assert_int_equal(get(c, 4), getuid());
    assert_int_equal(get(c, 4), getgid());
    assert_int_equal(get(c, 8), 1);
    get(c, 8);
    assert_int_equal(get(c, 8), 4096);
    /* The present time; nothing that the host takes for a special value. */
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 2u, 0x30u, 0u, 0u, 0u, 0ull, 0ull, 0ull, 0ull, 0ull),
        0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_atim.tv_sec > 1000000 && st.st_mtim.tv_sec > 1000000);
    assert_int_equal(send_message(c, SETATTR, "dddddqqqqq", 2u, 0x90u, 0u, 0u, 0u, 0ull, 1ull,
                                  (uint64_t)UTIME_OMIT, 0ull, 0ull),
                     -EINVAL);
    /* By a fid that is not open, and one that is only read. */
    assert_int_equal(walk(c, ROOT, 3, "f"), 0);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 3u, 8u, 0u, 0u, 0u, 1ull, 0ull, 0ull, 0ull, 0ull),
        0);
    assert_int_equal(send_message(c, LOPEN, "dd", 3u, 0u), 0);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 3u, 8u, 0u, 0u, 0u, 7ull, 0ull, 0ull, 0ull, 0ull),
        0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 7);
    assert_int_equal(send_message(c, SETATTR, "dddddqqqqq", 3u, 8u, 0u, 0u, 0u, 1ull << 63, 0ull,
                                  0ull, 0ull, 0ull),
                     -EINVAL);
    assert_int_equal(send_message(c, STATFS, "d", ROOT), 0);
    get(c, 4);
    assert_int_not_equal(get(c, 4), 0);
    c->r += 48;
    assert_int_equal(get(c, 4), 255);
}

static void owners(void **state)
{
    struct client *c = *state;
    struct stat st;
    char path[256];
    if (getuid() != 0)
        skip();
    assert_int_equal(send_message(c, ATTACH, "ddssd", 9u, NO_FID, "other", "", 1234u), 0);
    assert_int_equal(clone_fid(c, 9, 2), 0);
    assert_int_equal(send_message(c, LCREATE, "dsddd", 2u, "f", 1u, 04755u, 77u), 0);
    host_path(c, "f", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 77);
    assert_int_equal(st.st_mode & 07777, 04755);
    assert_int_equal(send_message(c, SYMLINK, "dssd", 9u, "l", "f", 78u), 0);
    host_path(c, "l", path);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(
        send_message(c, SETATTR, "dddddqqqqq", 2u, 6u, 0u, 5u, 6u, 0ull, 0ull, 0ull, 0ull, 0ull),
        0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 5);
    assert_int_equal(st.st_gid, 6);
}

static void links(void **state)
{
    struct client *c = *state;
    struct stat st;
    char path[256];
    host_write(c, "f", "text");
    assert_int_equal(send_message(c, SYMLINK, "dssd", ROOT, "s", "/etc/passwd", getgid()), 0);
    assert_int_equal(get(c, 1), 2);
    assert_int_equal(walk(c, ROOT, 2, "s"), 0);
    assert_int_equal(send_message(c, READLINK, "d", 2u), 0);
    assert_int_equal(get(c, 2), 11);
    assert_memory_equal(c->r, "/etc/passwd", 11);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0u), -ELOOP);
    assert_int_equal(walk(c, ROOT, 3, "f"), 0);
    assert_int_equal(send_message(c, READLINK, "d", 3u), -EINVAL);
    assert_int_equal(send_message(c, LINK, "dds", ROOT, 3u, "g"), 0);
    assert_int_equal(send_message(c, LINK, "dds", ROOT, 3u, "g"), -EEXIST);
    host_path(c, "g", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(send_message(c, LINK, "dds", ROOT, 2u, "t"), 0); /* of the link itself */
    host_path(c, "t", path);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    /* The link's time, not its target's. */
    assert_int_equal(send_message(c, SETATTR, "dddddqqqqq", 2u, 0x1b0u, 0u, 0u, 0u, 0ull, 99ull,
                                  0ull, 99ull, 0ull),
                     0);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 99);
}

static void renaming_and_removing(void **state)
{
    struct client *c = *state;
    char path[256];
    assert_int_equal(send_message(c, MKDIR, "dsdd", ROOT, "d", 0755u, getgid()), 0);
    assert_int_equal(walk(c, ROOT, 2, "d"), 0);
    assert_int_equal(create(c, 2, 3, "f"), 0);
    assert_int_equal(write_at(c, 3, 0, "text", 4), 4);
    assert_int_equal(send_message(c, RENAMEAT, "dsds", 2u, "f", ROOT, "g"), 0);
    assert_int_equal(send_message(c, RENAMEAT, "dsds", 2u, "f", ROOT, "g"), -ENOENT);
    assert_int_equal(send_message(c, RENAME, "dds", 3u, 2u, "h"), 0);
    host_path(c, "d/h", path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(send_message(c, RENAME, "dds", ROOT, 2u, "h"), -EBUSY);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", ROOT, "d", 0x200u), -ENOTEMPTY);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", ROOT, "d", 0u), -EISDIR);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", 2u, "h", 1u), -EINVAL);
    assert_int_equal(send_message(c, UNLINKAT, "dsd", 2u, "h", 0u), 0);
    /* Without a name it goes on. */
    assert_int_equal(read_at(c, 3, 0, 9), 4);
    assert_int_equal(write_at(c, 3, 4, "more", 4), 4);
    assert_int_equal(send_message(c, GETATTR, "dq", 3u, 0x7ffull), 0);
    assert_int_equal(send_message(c, RENAME, "dds", 3u, 2u, "h"), -ENOENT);
    assert_int_equal(send_message(c, REMOVE, "d", 3u), -ENOENT);
    assert_int_equal(clunk(c, 3), -EBADF); /* gone all the same */
    assert_int_equal(send_message(c, REMOVE, "d", 2u), 0);
    host_path(c, "d", path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(send_message(c, REMOVE, "d", ROOT), -EBUSY);
}

static void folders_are_read(void **state)
{
    struct client *c = *state;
    uint64_t offset = 0, seen = 0, rounds = 0;
    char name[300];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "%0*d", i % 3 ? 5 : 150, i);
        host_write(c, name, "");
    }
    assert_int_equal(clone_fid(c, ROOT, 2), 0);
    assert_int_equal(send_message(c, READDIR, "dqd", 2u, 0ull, 1000u), -EBADF);
    assert_int_equal(send_message(c, LOPEN, "dd", 2u, 0200000u), 0);
    assert_int_equal(send_message(c, READDIR, "dqd", 2u, 0ull, 20u), -EINVAL); /* not even one */
    for (;; rounds++) {
        assert_int_equal(send_message(c, READDIR, "dqd", 2u, offset, 4000u), 0);
        uint64_t bytes = get(c, 4);
        assert_true(bytes <= 4000);
        assert_int_equal(c->answered, 11 + bytes);
        if (!bytes)
            break;
        for (const uint8_t *end = c->r + bytes; c->r < end; seen++) {
            c->r += 13;
            offset = get(c, 8);
            get(c, 1);
            uint64_t length = get(c, 2);
            memcpy(name, c->r, length);
            name[length] = '\0';
            c->r += length;
            if (name[0] != '.')
                assert_true(length == (atoi(name) % 3 ? 5u : 150u));
        }
    }
    assert_int_equal(seen, 302);
    assert_true(rounds > 5);
    assert_int_equal(read_at(c, 2, 0, 10), -EISDIR);
    assert_int_equal(clone_fid(c, ROOT, 3), 0);
    assert_int_equal(send_message(c, LOPEN, "dd", 3u, 2u), -EISDIR);
}

static void locks_are_granted(void **state)
{
    struct client *c = *state;
    assert_int_equal(create(c, ROOT, 2, "f"), 0);
    assert_int_equal(send_message(c, LOCK, "dbdqqds", 2u, 1u, 1u, 0ull, 10ull, 5u, "me"), 0);
    assert_int_equal(get(c, 1), 0);
    assert_int_equal(send_message(c, LOCK, "dbdqqds", 2u, 3u, 1u, 0ull, 10ull, 5u, "me"), -EINVAL);
    assert_int_equal(send_message(c, LOCK, "dbdqqds", 2u, 1u, 2u, 0ull, 10ull, 5u, "me"), -EINVAL);
    assert_int_equal(send_message(c, LOCK, "dbdqqds", ROOT, 1u, 1u, 0ull, 10ull, 5u, "me"), -EBADF);
    assert_int_equal(send_message(c, GETLOCK, "dbqqds", 2u, 1u, 3ull, 4ull, 5u, "me"), 0);
    assert_int_equal(get(c, 1), 2);
    assert_int_equal(get(c, 8), 3);
    assert_int_equal(get(c, 8), 4);
    assert_int_equal(get(c, 4), 5);
    assert_int_equal(get(c, 2), 2);
    assert_int_equal(send_message(c, GETLOCK, "dbqqds", ROOT, 1u, 3ull, 4ull, 5u, "me"), -EBADF);
    assert_int_equal(send_message(c, GETLOCK, "dbqqds", 2u, 9u, 3ull, 4ull, 5u, "me"), -EINVAL);
}

static void extended_attributes(void **state)
{
    struct client *c = *state;
    char path[256], value[8];
    host_write(c, "f", "");
    host_path(c, "f", path);
    if (setxattr(path, "user.one", "1", 1, 0) < 0)
        skip(); /* the file system has none */
    assert_int_equal(walk(c, ROOT, 2, "f"), 0);
    assert_int_equal(send_message(c, XATTRWALK, "dds", 2u, 3u, "user.one"), 0);
    assert_int_equal(get(c, 8), 1);
    assert_int_equal(read_at(c, 3, 0, 10), 1);
    assert_int_equal(*c->r, '1');
    assert_int_equal(read_at(c, 3, 1ull << 60, 10), 0);
    assert_int_equal(send_message(c, XATTRWALK, "dds", 2u, 3u, "user.one"), -EBADF);
    assert_int_equal(walk(c, 3, 4, "x"), -EBADF);
    assert_int_equal(clunk(c, 3), 0);
    assert_int_equal(send_message(c, XATTRWALK, "dds", 2u, 3u, "user.none"), -ENODATA);
    /* Written in two pieces; set when it is closed. */
    assert_int_equal(clone_fid(c, 2, 3), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 6ull, 0u), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 6ull, 0u), -EBADF);
    assert_int_equal(read_at(c, 3, 0, 1), -EBADF);
    assert_int_equal(write_at(c, 3, 0, "abcd", 4), 4);
    assert_int_equal(write_at(c, 3, 3, "x", 1), -EINVAL);
    assert_int_equal(write_at(c, 3, 4, "efg", 3), -ENOSPC);
    assert_int_equal(write_at(c, 3, 4, "ef", 2), 2);
    assert_int_equal(getxattr(path, "user.two", value, 8), -1);
    assert_int_equal(clunk(c, 3), 0);
    assert_int_equal(getxattr(path, "user.two", value, 8), 6);
    assert_memory_equal(value, "abcdef", 6);
    assert_int_equal(send_message(c, XATTRWALK, "dds", 2u, 3u, ""), 0);
    assert_true(get(c, 8) >= 18);
    assert_int_equal(clunk(c, 3), 0);
    /* Not all of it was written; it is there already; an empty one; removed. */
    assert_int_equal(clone_fid(c, 2, 3), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 6ull, 0u), 0);
    assert_int_equal(clunk(c, 3), -EINVAL);
    assert_int_equal(clone_fid(c, 2, 3), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 0ull, 1u), 0);
    assert_int_equal(clunk(c, 3), -EEXIST);
    assert_int_equal(clone_fid(c, 2, 3), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 0ull, 0u), 0);
    assert_int_equal(clunk(c, 3), 0);
    assert_int_equal(getxattr(path, "user.two", value, 8), 0);
    assert_int_equal(clone_fid(c, 2, 3), 0);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 3u, "user.two", 0ull, 2u), 0);
    assert_int_equal(clunk(c, 3), 0);
    assert_int_equal(getxattr(path, "user.two", value, 8), -1);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 2u, "user.x", 65537ull, 0u), -E2BIG);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 2u, "", 1ull, 0u), -EINVAL);
    assert_int_equal(send_message(c, XATTRCREATE, "dsqd", 2u, "user.x", 1ull, 4u), -EINVAL);
}

#define SHARE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARE(version_begins_anew),
        SHARE(attaching),
        SHARE(files_are_written_and_read),
        SHARE(creating),
        SHARE(special_files_are_not_made_or_opened),
        SHARE(walking),
        SHARE(attributes),
        SHARE(owners),
        SHARE(links),
        SHARE(renaming_and_removing),
        SHARE(folders_are_read),
        SHARE(locks_are_granted),
        SHARE(extended_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
