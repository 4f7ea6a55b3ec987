/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The 9P server from the inside.
 *
 * A fid (a number that the client chose) stands for a node, an O_PATH descriptor of something in the
 * folder, and after an open for a descriptor that reads and writes as well. Fids that were cloned share
 * their node. As descriptors, nodes are what they are whatever becomes of names: files that were removed
 * or renamed go on working, and between a look at one and its use nothing can be exchanged.
 */
#ifndef BACKENDS_SHARE_SHARE_H
#define BACKENDS_SHARE_SHARE_H

#include "backends/share/wire.h"

#include <libvmm/share.h>

#include <stdatomic.h>
#include <sys/stat.h>

#define P9_HEADER       7u
#define P9_NAME_MAX     255u
#define P9_REQUEST_MAX  8192u  /* bytes of any message but the data of a write */
#define P9_REPLY_MAX    65536u /* bytes of any answer but the data of a read */
#define P9_VECTOR_MAX   1024u
#define P9_BUCKETS      1024u
#define P9_XATTR_MAX    65536u    /* Linux's XATTR_SIZE_MAX */
#define P9_XATTRS_TOTAL 0x400000u /* bytes of values that are being read or written */
#define P9_PATH_MAX     4096u

struct p9_node {
    uint32_t refs;
    int fd; /* O_PATH */
};

enum {
    FID_FILE,
    FID_XATTR_READ,
    FID_XATTR_WRITE,
};

struct p9_xattr {
    char name[P9_NAME_MAX + 1];
    int flags;
    size_t size, filled;
    uint8_t data[];
};

struct p9_fid {
    struct p9_fid *next; /* in its bucket */
    uint32_t number;
    uint32_t uid; /* whose it is, by Tattach */
    uint32_t kind;
    int flags;              /* of the open */
    int fd;                 /* -1: not open */
    struct p9_node *node;   /* NULL: stale */
    struct p9_xattr *xattr; /* NULL: of kind FID_FILE */
};

struct p9_table {
    struct p9_fid *buckets[P9_BUCKETS];
    uint32_t count;
    uint32_t seed; /* so that the client cannot choose the buckets */
    size_t xattr_bytes;
};

struct vmm_share {
    _Atomic uint32_t refs;
    struct p9_node *root;
    dev_t root_device;
    bool read_only, mapped;
    uint32_t guest_uid, guest_gid, fids_max, message_max;
    uint32_t msize; /* 0: no version has been agreed on */
    struct p9_table table;
    struct iovec vector[P9_VECTOR_MAX];
    uint8_t request[P9_REQUEST_MAX];
    uint8_t reply[P9_REPLY_MAX];
};

/* A message that is being carried out. */
struct p9_message {
    struct vmm_share *share;
    struct p9_in in;
    struct p9_out out; /* begins behind the header */
    const struct iovec *request, *reply;
    size_t request_count, reply_count;
    uint64_t size;       /* of the request */
    uint64_t reply_room; /* bytes */
    uint64_t direct;     /* bytes that are in `reply` already, behind those of `out` */
};

/* Handlers return 0 or a negative errno, which is the client's. */
typedef int p9_handler(struct p9_message *m);

p9_handler vmm_p9_lopen, vmm_p9_lcreate, vmm_p9_read, vmm_p9_write, vmm_p9_readdir, vmm_p9_fsync,
    vmm_p9_lock, vmm_p9_getlock;
p9_handler vmm_p9_walk, vmm_p9_symlink, vmm_p9_mknod, vmm_p9_mkdir, vmm_p9_link, vmm_p9_rename,
    vmm_p9_renameat, vmm_p9_unlinkat, vmm_p9_remove;
p9_handler vmm_p9_getattr, vmm_p9_setattr, vmm_p9_statfs, vmm_p9_readlink;
p9_handler vmm_p9_xattrwalk, vmm_p9_xattrcreate;

/* The end of a request's fields: -EPROTO where there were too few or too many, -EBADF for a fid that
 * is none, -ESTALE for one without a file. */
int vmm_p9_end(const struct p9_message *m, const struct p9_fid *fid);

/* fid.c */
/* The fid whose number is next in the message; NULL: there is none. */
struct p9_fid *vmm_p9_fid(struct p9_message *m);
struct p9_fid *vmm_p9_fid_find(const struct vmm_share *s, uint32_t number);
/* The node is held. -EBADF: the number is taken; -ENFILE: too many; -ENOMEM. */
int vmm_p9_fid_new(struct vmm_share *s, uint32_t number, struct p9_node *node, uint32_t uid,
                   struct p9_fid **out);
void vmm_p9_fid_free(struct vmm_share *s, struct p9_fid *fid);
void vmm_p9_table_init(struct p9_table *table);
void vmm_p9_table_clear(struct vmm_share *s);
/* The descriptor is taken over, also on error. */
int vmm_p9_node_new(int fd, struct p9_node **out);
void vmm_p9_node_unref(struct p9_node *node);

/* path.c */
struct p9_proc {
    char path[32];
};
/* The name of a descriptor's file that follows it wherever it is: /proc/self/fd/N. */
struct p9_proc vmm_p9_proc(int fd);
/* What `name` is in the folder, as an O_PATH descriptor; links are not followed. */
int vmm_p9_look_up(int folder, const char *name);
/* The same for a relative path, beneath the share's root and through no link. */
int vmm_p9_look_up_path(const struct vmm_share *s, const char *path);
/* A node's path relative to the root ("" for the root). -ENOENT: it is not beneath it any more. */
int vmm_p9_path(const struct vmm_share *s, const struct p9_node *node, char path[P9_PATH_MAX]);
/* The folder that a node is in, and its name there. -EBUSY: it is the root. */
int vmm_p9_locate(const struct vmm_share *s, const struct p9_node *node, int *folder,
                  char name[P9_NAME_MAX + 1]);
/* The next string as a name that can be made or removed: no "." or "..", no '/', no zero byte. */
int vmm_p9_name(struct p9_message *m, char name[P9_NAME_MAX + 1]);
/* Terminated; -EINVAL: with a zero byte inside, -ENAMETOOLONG. */
int vmm_p9_copy_string(struct p9_string from, char *to, size_t room);

/* What can be opened: regular files and folders. */
int vmm_p9_open_node(const struct p9_node *node, int flags);
/* Owner and mode of something new. */
int vmm_p9_adopt(const struct vmm_share *s, int fd, uint32_t uid, uint32_t gid, uint32_t mode);
int vmm_p9_stat(int fd, struct stat *st);
void vmm_p9_put_qid(const struct vmm_share *s, struct p9_out *out, const struct stat *st);
/* The same of something of which only this is known. */
void vmm_p9_put_qid_of(const struct vmm_share *s, struct p9_out *out, mode_t type, dev_t device,
                       ino_t inode, uint32_t version);

/* xattr.c */
/* The end of a fid that an attribute was written by. */
int vmm_p9_xattr_set(struct vmm_share *s, struct p9_fid *fid);
void vmm_p9_xattr_free(struct vmm_share *s, struct p9_fid *fid);
int vmm_p9_xattr_read(struct p9_message *m, const struct p9_fid *fid, uint64_t offset,
                      uint32_t count);
int vmm_p9_xattr_write(struct p9_message *m, struct p9_fid *fid, uint64_t offset, uint32_t count);

/* vector.c */
size_t vmm_p9_gather(const struct iovec *from, size_t count, uint64_t offset, void *to,
                     size_t length);
size_t vmm_p9_scatter(const struct iovec *to, size_t count, uint64_t offset, const void *from,
                      size_t length);
/* The bytes [offset, offset + length) of a vector, as one of at most P9_VECTOR_MAX entries. */
size_t vmm_p9_slice(const struct iovec *from, size_t count, uint64_t offset, uint64_t length,
                    struct iovec *to);
uint64_t vmm_p9_length(const struct iovec *vector, size_t count);

#endif
