/* SPDX-License-Identifier: BSD-3-Clause */
/* A 9P2000.L client for tests: messages by format, so also wrong ones. */
#ifndef TESTS_UNIT_SHARE_CLIENT_H
#define TESTS_UNIT_SHARE_CLIENT_H

#include "test.h"

#include <libvmm/share.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ROOT   1u
#define NO_FID UINT32_MAX

enum {
    STATFS = 8,
    LOPEN = 12,
    LCREATE = 14,
    SYMLINK = 16,
    MKNOD = 18,
    RENAME = 20,
    READLINK = 22,
    GETATTR = 24,
    SETATTR = 26,
    XATTRWALK = 30,
    XATTRCREATE = 32,
    READDIR = 40,
    FSYNC = 50,
    LOCK = 52,
    GETLOCK = 54,
    LINK = 70,
    MKDIR = 72,
    RENAMEAT = 74,
    UNLINKAT = 76,
    VERSION = 100,
    AUTH = 102,
    ATTACH = 104,
    FLUSH = 108,
    WALK = 110,
    READ = 116,
    WRITE = 118,
    CLUNK = 120,
    REMOVE = 122,
};

struct client {
    struct vmm_share *share;
    char folder[64];
    uint8_t request[0x30000], reply[0x30000];
    size_t size;      /* of the request */
    size_t room;      /* for the answer */
    size_t answered;  /* bytes */
    const uint8_t *r; /* the next byte of the answer */
};

static inline void put(struct client *c, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        c->request[c->size++] = (uint8_t)(value >> 8 * i);
}

static inline uint64_t get(struct client *c, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)*c->r++ << 8 * i;
    return value;
}

static inline void put_text(struct client *c, const char *text, size_t length)
{
    put(c, length, 2);
    memcpy(c->request + c->size, text, length);
    c->size += length;
}

/* In pieces of odd lengths, as guests may scatter them. 0, or the error; -1000: no answer. */
static inline int exchange(struct client *c, uint8_t type)
{
    struct iovec in[3] = {{c->request, c->size < 5 ? c->size : 5}}, out[3] = {{c->reply, 9}};
    in[1] = (struct iovec){c->request + in[0].iov_len, c->size > 20 ? 13 : c->size - in[0].iov_len};
    in[2] = (struct iovec){c->request + in[0].iov_len + in[1].iov_len,
                           c->size - in[0].iov_len - in[1].iov_len};
    out[0].iov_len = c->room < 9 ? c->room : 9;
    out[1] =
        (struct iovec){c->reply + out[0].iov_len, c->room > 100 ? 77 : c->room - out[0].iov_len};
    out[2] = (struct iovec){c->reply + out[0].iov_len + out[1].iov_len,
                            c->room - out[0].iov_len - out[1].iov_len};
    memset(c->reply, 0xee, sizeof(c->reply));
    c->answered = vmm_share_serve(c->share, in, 3, out, 3);
    if (!c->answered)
        return -1000;
    assert_true(c->answered <= c->room);
    c->r = c->reply;
    assert_int_equal(get(c, 4), c->answered);
    uint8_t answer = (uint8_t)get(c, 1);
    assert_int_equal(get(c, 2), 0x1234);
    if (answer == 7) {
        assert_int_equal(c->answered, 11);
        return -(int)get(c, 4);
    }
    assert_int_equal(answer, type + 1);
    return 0;
}

/* Fields: b w d q numbers of 1, 2, 4, 8 bytes; s a string; n an int and as many bytes of a string. */
static inline void compose(struct client *c, uint8_t type, const char *format, va_list list)
{
    c->size = 4;
    put(c, type, 1);
    put(c, 0x1234, 2);
    for (; *format; format++) {
        const char *text;
        int length;
        switch (*format) {
        case 'b':
            put(c, va_arg(list, unsigned), 1);
            break;
        case 'w':
            put(c, va_arg(list, unsigned), 2);
            break;
        case 'd':
            put(c, va_arg(list, unsigned), 4);
            break;
        case 'q':
            put(c, va_arg(list, uint64_t), 8);
            break;
        case 's':
            text = va_arg(list, const char *);
            put_text(c, text, strlen(text));
            break;
        default:
            length = va_arg(list, int);
            put_text(c, va_arg(list, const char *), (size_t)length);
            break;
        }
    }
    size_t size = c->size;
    c->size = 0;
    put(c, size, 4);
    c->size = size;
}

static inline int send_message(struct client *c, uint8_t type, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    compose(c, type, format, list);
    va_end(list);
    return exchange(c, type);
}

static inline int walk(struct client *c, uint32_t from, uint32_t to, const char *name)
{
    int rc = send_message(c, WALK, "ddws", from, to, 1u, name);
    if (!rc)
        assert_int_equal(get(c, 2), 1);
    return rc;
}

static inline int clone_fid(struct client *c, uint32_t from, uint32_t to)
{
    return send_message(c, WALK, "ddw", from, to, 0u);
}

static inline int clunk(struct client *c, uint32_t fid)
{
    return send_message(c, CLUNK, "d", fid);
}

static inline int write_at(struct client *c, uint32_t fid, uint64_t offset, const void *data,
                           uint32_t length)
{
    c->size = 7;
    put(c, fid, 4);
    put(c, offset, 8);
    put(c, length, 4);
    memcpy(c->request + c->size, data, length);
    size_t size = c->size + length;
    c->size = 0;
    put(c, size, 4);
    put(c, WRITE, 1);
    put(c, 0x1234, 2);
    c->size = size;
    int rc = exchange(c, WRITE);
    return rc ? rc : (int)get(c, 4);
}

/* The data is at c->r. */
static inline int read_at(struct client *c, uint32_t fid, uint64_t offset, uint32_t count)
{
    int rc = send_message(c, READ, "dqd", fid, offset, count);
    return rc ? rc : (int)get(c, 4);
}

/* A file of the client's, made and open for reading and writing as `fid`. */
static inline int create(struct client *c, uint32_t folder, uint32_t fid, const char *name)
{
    int rc = clone_fid(c, folder, fid);
    return rc ? rc : send_message(c, LCREATE, "dsddd", fid, name, 2u | 0100u, 0644u, getgid());
}

static inline void begin_session(struct client *c)
{
    assert_int_equal(send_message(c, VERSION, "ds", 0x20000u, "9P2000.L"), 0);
    assert_int_equal(send_message(c, ATTACH, "ddssd", ROOT, NO_FID, "user", "", getuid()), 0);
}

static inline void host_path(struct client *c, const char *name, char path[256])
{
    assert_true(snprintf(path, 256, "%s/%.180s", c->folder, name) < 256);
}

static inline void host_write(struct client *c, const char *name, const char *text)
{
    char path[256];
    host_path(c, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Below /var/tmp: that is a real file system more often than /tmp, and has attributes. */
static inline struct client *client_open(struct vmm_share_options *options)
{
    struct client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    strcpy(c->folder, "/var/tmp/libvmm-share-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    c->room = sizeof(c->reply);
    options->path = c->folder;
    assert_int_equal(vmm_share_new(options, &c->share, NULL), 0);
    return c;
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void client_close(struct client *c)
{
    vmm_share_unref(c->share);
    assert_int_equal(nftw(c->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(c);
}

#endif
