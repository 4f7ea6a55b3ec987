/* SPDX-License-Identifier: BSD-3-Clause */
/* Random requests to an image, many at a time, against a flat model of the disk; and qemu-img. */
#ifndef TESTS_QCOW2_MODEL_H
#define TESTS_QCOW2_MODEL_H

#include "qcow2-memory.h"

#include <libvmm/qcow2.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH   24
#define SECTOR  512u
#define REQUEST (256u << 10) /* bytes at most */

struct model;

struct flight {
    struct model *model;
    struct vmm_block_request request;
    struct iovec vector[3];
    uint8_t *buffer;
    bool busy;
};

struct model {
    struct vmm_loop *loop;
    struct memory file;
    struct memory backing;
    struct vmm_block *block, *backing_block;
    struct vmm_qcow2_create_options create;
    uint64_t cache_size;
    const char *path; /* a file of the host's in place of one in memory; or NULL */
    uint32_t threads; /* for that */
    uint64_t length;
    uint64_t random;
    uint8_t *data;
    uint8_t *unknown; /* a sector each: was discarded, not read since */
    struct flight flights[DEPTH];
    uint32_t busy;
    uint64_t done_count;
    int expect; /* an error that requests may end with; 0: none */
    bool no_flush;
    void (*flushed)(struct model *model, const struct flight *flight); /* or NULL */
    void (*written)(struct model *model, const struct flight *flight);
};

static inline bool have_qemu_img(void)
{
    static int have = -1;
    if (have < 0)
        have = system("qemu-img --version > /dev/null 2>&1") == 0;
    return have;
}

__attribute__((format(printf, 1, 2))) static inline int run_command(const char *format, ...)
{
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    int status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void save_file(const char *path, const void *data, uint64_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    for (uint64_t at = 0; at < length;) {
        ssize_t n = write(fd, (const uint8_t *)data + at, length - at);
        assert_true(n > 0);
        at += (uint64_t)n;
    }
    close(fd);
}

static inline void load_file(const char *path, struct memory *m)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    m->length = ((uint64_t)st.st_size + 511) & ~UINT64_C(511);
    m->room = m->length;
    free(m->data);
    m->data = calloc(1, m->room);
    for (uint64_t at = 0; at < (uint64_t)st.st_size;) {
        ssize_t n = read(fd, m->data + at, (size_t)st.st_size - at);
        assert_true(n > 0);
        at += (uint64_t)n;
    }
    close(fd);
}

/* Opening -------------------------------------------------------------------------------------- */

static inline int model_try_open(struct model *m, uint32_t flags, struct vmm_error *err)
{
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    if (m->path)
        o.path = m->path;
    else
        o.file = memory_open(m->loop, &m->file);
    o.threads = m->threads;
    o.flags = flags;
    o.cache_size = m->cache_size;
    if (m->create.backing) {
        o.backing = memory_open(m->loop, &m->backing);
        m->backing_block = o.backing;
    }
    int rc = vmm_block_qcow2_new(m->loop, &o, &m->block, err);
    vmm_block_unref(o.file);
    return rc;
}

static inline void model_open(struct model *m)
{
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = model_try_open(m, 0, &err);
    if (rc)
        fail_msg("open: %s", err.text);
}

static inline void model_close(struct model *m)
{
    m->block = vmm_block_unref(m->block);
    m->backing_block = vmm_block_unref(m->backing_block);
}

static inline void model_begin(struct model *m, uint64_t length)
{
    struct vmm_error err = VMM_ERROR_INIT;
    m->length = length;
    m->data = calloc(1, length);
    m->unknown = calloc(1, length / SECTOR);
    assert_int_equal(vmm_loop_new(NULL, &m->loop), 0);
    for (int i = 0; i < DEPTH; i++) {
        m->flights[i].model = m;
        m->flights[i].buffer = malloc(REQUEST);
    }
    if (!m->random)
        m->random = 0x1234567;
    m->create.size = sizeof(m->create);
    m->create.length = length;
    if (!m->path)
        m->create.file = memory_open(m->loop, &m->file);
    if (m->create.backing) { /* shorter than the disk */
        m->backing.length = m->backing.room = length / 4 * 3 / 512 * 512;
        m->backing.data = malloc(m->backing.length);
        for (uint64_t i = 0; i < m->backing.length; i++)
            m->data[i] = m->backing.data[i] = (uint8_t)(i / 512 * 7 + i + 1);
    }
    int rc = vmm_qcow2_create(m->loop, m->path, &m->create, &err);
    if (rc)
        fail_msg("create: %s", err.text);
    vmm_block_unref(m->create.file);
    m->create.file = NULL;
    model_open(m);
}

static inline void model_end(struct model *m)
{
    model_close(m);
    vmm_loop_unref(m->loop);
    for (int i = 0; i < DEPTH; i++)
        free(m->flights[i].buffer);
    free(m->data);
    free(m->unknown);
    memory_free(&m->file);
    memory_free(&m->backing);
}

/* Requests ------------------------------------------------------------------------------------- */

static inline void model_compare(struct model *m, uint64_t at, const uint8_t *data, uint64_t length)
{
    for (uint64_t i = 0; i < length; i += SECTOR) {
        uint64_t s = (at + i) / SECTOR;
        if (m->unknown[s]) {
            m->unknown[s] = 0;
            memcpy(m->data + at + i, data + i, SECTOR);
        } else if (memcmp(m->data + at + i, data + i, SECTOR) != 0) {
            fail_msg("sector %llu of cluster size %u is not what was written: %02x, not %02x",
                     (unsigned long long)s, m->create.cluster_size, data[i], m->data[at + i]);
        }
    }
}

static inline void flight_done(struct vmm_block_request *r, int result)
{
    struct flight *f = r->ctx;
    struct model *m = f->model;
    uint64_t first = r->offset / SECTOR, count = r->length / SECTOR;
    f->busy = false;
    m->busy--;
    m->done_count++;
    if (result) {
        if (result != m->expect)
            fail_msg("request %u at %llu: %d", r->op, (unsigned long long)r->offset, result);
        if (r->op != VMM_BLOCK_READ && r->op != VMM_BLOCK_FLUSH)
            memset(m->unknown + first, 1, count);
        return;
    }
    switch (r->op) {
    case VMM_BLOCK_READ:
        model_compare(m, r->offset, f->buffer, r->length);
        break;
    case VMM_BLOCK_WRITE:
        memcpy(m->data + r->offset, f->buffer, r->length);
        memset(m->unknown + first, 0, count);
        break;
    case VMM_BLOCK_WRITE_ZEROES:
        memset(m->data + r->offset, 0, r->length);
        memset(m->unknown + first, 0, count);
        break;
    case VMM_BLOCK_DISCARD:
        memset(m->unknown + first, 1, count);
        break;
    default:
        if (m->flushed)
            m->flushed(m, f);
        return;
    }
    if (m->written && r->op != VMM_BLOCK_READ)
        m->written(m, f);
}

static inline bool model_free_range(const struct model *m, uint64_t at, uint64_t length)
{
    for (int i = 0; i < DEPTH; i++) {
        const struct vmm_block_request *r = &m->flights[i].request;
        if (m->flights[i].busy && r->op != VMM_BLOCK_FLUSH && at < r->offset + r->length &&
            r->offset < at + length)
            return false;
    }
    return true;
}

static inline uint64_t model_random(struct model *m, uint64_t below)
{
    return memory_random(&m->random) % below;
}

static inline void flight_fill(struct flight *f, uint64_t length)
{
    uint64_t state = memory_random(&f->model->random) | 1;
    for (uint64_t i = 0; i < length; i += SECTOR) { /* each sector is its own */
        memset(f->buffer + i, (int)(state >> 32 & 0xff), SECTOR);
        memcpy(f->buffer + i, &state, sizeof(state));
        state = state * UINT64_C(6364136223846793005) + 1;
    }
}

static inline uint64_t pick_length(struct model *m)
{
    uint64_t most = m->create.cluster_size * UINT64_C(4);
    uint64_t kind = model_random(m, 10);
    most = most > REQUEST ? REQUEST : most;
    if (kind < 5)
        most = 4096;
    else if (kind < 8 && m->create.cluster_size > 4096)
        most = m->create.cluster_size > REQUEST ? REQUEST : m->create.cluster_size;
    return (model_random(m, most / SECTOR) + 1) * SECTOR;
}

static inline void model_submit(struct model *m)
{
    struct flight *f = m->flights;
    while (f->busy)
        f++;
    uint64_t length = pick_length(m);
    uint64_t at = model_random(m, (m->length - length) / SECTOR + 1) * SECTOR;
    uint64_t kind = model_random(m, 100);
    if (kind >= 90 && model_random(m, 2)) { /* whole clusters */
        at &= ~(uint64_t)(m->create.cluster_size - 1);
        length = (length + m->create.cluster_size - 1) & ~(uint64_t)(m->create.cluster_size - 1);
        if (at + length > m->length)
            length = m->length - at;
    }
    if (!model_free_range(m, at, length))
        return;
    uint32_t op = kind < 40   ? VMM_BLOCK_READ
                  : kind < 88 ? VMM_BLOCK_WRITE
                  : kind < 90 ? VMM_BLOCK_FLUSH
                  : kind < 96 ? VMM_BLOCK_WRITE_ZEROES
                              : VMM_BLOCK_DISCARD;
    uint32_t flags = op == VMM_BLOCK_WRITE && kind == 40 ? VMM_BLOCK_FUA : 0;
    if (op == VMM_BLOCK_WRITE_ZEROES && kind & 1)
        flags = VMM_BLOCK_MAY_UNMAP;
    if (op == VMM_BLOCK_FLUSH) {
        if (m->no_flush)
            return;
        at = length = 0;
    }
    if (op == VMM_BLOCK_WRITE)
        flight_fill(f, length);
    uint64_t half = length / 2 & ~UINT64_C(63);
    f->vector[0] = (struct iovec){f->buffer, half};
    f->vector[1] = (struct iovec){f->buffer + half, length - half};
    f->request = (struct vmm_block_request){.op = op,
                                            .flags = flags,
                                            .offset = at,
                                            .length = length,
                                            .vector = f->vector,
                                            .vector_count = 2,
                                            .done = flight_done,
                                            .ctx = f};
    f->busy = true;
    m->busy++;
    vmm_block_submit(m->block, &f->request);
}

static inline void model_wait(struct model *m)
{
    if (model_random(m, 2))
        vmm_block_drain(m->block);
    while (m->busy)
        assert_true(vmm_loop_dispatch(m->loop, 1000) > 0);
}

static inline void model_run(struct model *m, uint64_t count)
{
    uint64_t until = m->done_count + count;
    while (m->done_count < until) {
        uint64_t depth = model_random(m, DEPTH) + 1;
        while (m->busy < depth)
            model_submit(m);
        if (model_random(m, 8)) /* quicker than a turn of the loop each */
            vmm_block_drain(m->block);
        else
            assert_true(vmm_loop_dispatch(m->loop, 1000) > 0);
        if (model_random(m, 2000) == 0)
            model_wait(m);
    }
    model_wait(m);
}

/* Everything ----------------------------------------------------------------------------------- */

static inline void model_verify(struct model *m)
{
    uint8_t *buffer = malloc(REQUEST);
    for (uint64_t at = 0; at < m->length; at += REQUEST) {
        uint64_t n = m->length - at < REQUEST ? m->length - at : REQUEST;
        assert_int_equal(vmm_block_read(m->block, at, buffer, n), 0);
        model_compare(m, at, buffer, n);
    }
    free(buffer);
}

/* The image is closed. Leaks too are an error here. */
static inline void model_check_with_qemu(struct model *m, const char *folder)
{
    if (!have_qemu_img())
        return;
    char path[128], raw[128], backing[128];
    snprintf(path, sizeof(path), "%s/image.qcow2", folder);
    snprintf(raw, sizeof(raw), "%s/model.raw", folder);
    snprintf(backing, sizeof(backing), "%s/backing.raw", folder);
    if (m->path)
        load_file(m->path, &m->file);
    save_file(path, m->file.data, m->file.length);
    save_file(raw, m->data, m->length);
    if (m->create.backing)
        save_file(backing, m->backing.data, m->backing.length);
    assert_int_equal(run_command("qemu-img check -q -f qcow2 %s", path), 0);
    assert_int_equal(run_command("qemu-img compare -q -f qcow2 -F raw %s %s", path, raw), 0);
    unlink(path);
    unlink(raw);
    unlink(backing);
}

#endif
