/* SPDX-License-Identifier: BSD-3-Clause */
/* Save and load: fids by the names that their files have at the time. */
#include "backends/share/share.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* number, uid, whether it is open, the flags of that, the path's length and the path. */
#define RECORD     18u
#define STATE_MAX  0x8000000u
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY)

#define NO_PATH 0xffffu

struct blob {
    uint8_t *data;
    size_t used, room;
};

static uint8_t *more(struct blob *b, size_t length)
{
    if (b->room - b->used < length) {
        size_t room = 2 * b->room + length + 4096;
        uint8_t *data = room <= STATE_MAX ? realloc(b->data, room) : NULL;
        if (!data)
            return NULL;
        b->data = data;
        b->room = room;
    }
    b->used += length;
    return b->data + b->used - length;
}

/* Files without a name, and attributes that are being read or written, are stale after a load. */
static int save_fid(const struct vmm_share *s, const struct p9_fid *fid, struct blob *b)
{
    char path[P9_PATH_MAX];
    bool known = fid->node && fid->kind == FID_FILE && vmm_p9_path(s, fid->node, path) == 0;
    if (known && *path) { /* is it still there? */
        char name[P9_NAME_MAX + 1];
        int folder;
        known = vmm_p9_locate(s, fid->node, &folder, name) == 0;
        if (known)
            close(folder);
    }
    size_t length = known ? strlen(path) : 0;
    uint8_t *r = more(b, RECORD + length);
    if (!r)
        return -ENOMEM;
    vmm_store_le32(r, fid->number);
    vmm_store_le32(r + 4, fid->uid);
    vmm_store_le32(r + 8, fid->fd >= 0);
    vmm_store_le32(r + 12, (uint32_t)(fid->flags & OPEN_FLAGS));
    vmm_store_le16(r + 16, known ? (uint16_t)length : (uint16_t)NO_PATH);
    memcpy(r + RECORD, path, length);
    return 0;
}

int vmm_share_save(struct vmm_share *s, struct vmm_state_writer *w)
{
    struct blob b = {0};
    int rc = 0;
    for (size_t i = 0; i < P9_BUCKETS && !rc; i++)
        for (const struct p9_fid *f = s->table.buckets[i]; f && !rc; f = f->next)
            rc = save_fid(s, f, &b);
    rc = rc ? rc : vmm_state_put_u32(w, "msize", s->msize);
    rc = rc ? rc : vmm_state_put_bytes(w, "fids", b.data ? b.data : (const uint8_t *)"", b.used);
    free(b.data);
    return rc;
}

static void find_file(struct vmm_share *s, struct p9_fid *fid, const char *path, bool open)
{
    int fd = vmm_p9_look_up_path(s, path);
    if (fd < 0 || vmm_p9_node_new(fd, &fid->node))
        return;
    if (open)
        fid->fd = vmm_p9_open_node(fid->node, fid->flags);
    if (open && fid->fd < 0) {
        vmm_p9_node_unref(fid->node);
        fid->node = NULL;
        fid->fd = -1;
    }
}

/* One record; how long it is, or a negative errno. */
static ssize_t load_fid(struct vmm_share *s, const uint8_t *r, size_t left)
{
    char path[P9_PATH_MAX];
    struct p9_fid *fid;
    size_t length = left < RECORD ? 0 : vmm_load_le16(r + 16);
    bool known = length != NO_PATH;
    length = known ? length : 0;
    if (left < RECORD || length > left - RECORD || length >= sizeof(path))
        return -EINVAL;
    uint32_t open = vmm_load_le32(r + 8), flags = vmm_load_le32(r + 12);
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (open > 1 || (flags & ~(uint32_t)OPEN_FLAGS) || (open && writes && s->read_only))
        return -EINVAL;
    memcpy(path, r + RECORD, length);
    path[length] = '\0';
    int rc = vmm_p9_fid_new(s, vmm_load_le32(r), NULL, vmm_load_le32(r + 4), &fid);
    if (rc)
        return rc;
    fid->flags = (int)flags;
    if (known)
        find_file(s, fid, path, open != 0);
    return (ssize_t)(RECORD + length);
}

int vmm_share_load(struct vmm_share *s, struct vmm_state_reader *r, struct vmm_error *err)
{
    const void *data;
    size_t length;
    uint32_t msize;
    int rc = vmm_state_get_u32(r, "msize", s->message_max, &msize, err);
    rc = rc ? rc : vmm_state_get_blob(r, "fids", &data, &length, err);
    if (rc)
        return rc;
    if (msize && msize < VMM_SHARE_MESSAGE_MIN)
        return vmm_error_set(err, -EINVAL, "the saved shared folder has too short messages");
    struct p9_table *old = malloc(sizeof(*old));
    if (!old)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    *old = s->table;
    vmm_p9_table_init(&s->table);
    for (size_t at = 0; at < length && !rc;) {
        ssize_t n = load_fid(s, (const uint8_t *)data + at, length - at);
        rc = n < 0 ? (int)n : 0;
        at += n < 0 ? 0 : (size_t)n;
    }
    if (rc) {
        vmm_p9_table_clear(s);
        s->table = *old;
    } else {
        struct p9_table loaded = s->table;
        s->table = *old;
        vmm_p9_table_clear(s);
        s->table = loaded;
        s->msize = msize;
    }
    free(old);
    return rc ? vmm_error_set(err, rc, "the saved files of a shared folder are not sound") : 0;
}
