/* SPDX-License-Identifier: BSD-3-Clause */
/* Block devices: raw images with and without threads, and what is refused. */
#include "test.h"

#include <libvmm/block.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH (1u << 20)

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *block;
    char path[64];
    uint32_t engine, cache;
    bool missing;
    uint32_t done, cancelled;
    int result;
};

static int open_raw(struct fixture *f, uint32_t threads, bool read_only, struct vmm_block **out)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = f->path;
    o.threads = threads;
    o.engine = f->engine;
    o.cache = f->cache;
    o.read_only = read_only;
    return vmm_block_raw_new(f->loop, &o, out, NULL);
}

/* The images lie where direct I/O works: not on a tmpfs. */
static int set_up(void **state, uint32_t engine, uint32_t threads, uint32_t cache)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->engine = engine;
    f->cache = cache;
    strcpy(f->path, "libvmm-block-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0 || ftruncate(fd, LENGTH) < 0 || vmm_loop_new(NULL, &f->loop) < 0)
        return -1;
    close(fd);
    int rc = open_raw(f, threads, false, &f->block);
    f->missing = rc == -ENOTSUP || rc == -ENOSYS || rc == -EPERM ||
                 (cache == VMM_BLOCK_CACHE_NONE && rc == -EINVAL);
    return f->missing ? 0 : rc;
}

static int set_up_inline(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_THREADS, 0, VMM_BLOCK_CACHE_WRITEBACK);
}

static int set_up_threads(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_THREADS, 4, VMM_BLOCK_CACHE_WRITEBACK);
}

static int set_up_uring(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_IO_URING, 0, VMM_BLOCK_CACHE_WRITEBACK);
}

static int set_up_threads_direct(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_THREADS, 4, VMM_BLOCK_CACHE_NONE);
}

static int set_up_uring_direct(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_IO_URING, 0, VMM_BLOCK_CACHE_NONE);
}

static struct fixture *fixture_of(void **state)
{
    struct fixture *f = *state;
    if (f->missing)
        skip(); /* the host has no io_uring, or its file system no direct I/O */
    return f;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_block_unref(f->block);
    vmm_loop_unref(f->loop);
    unlink(f->path);
    free(f);
    return 0;
}

static void what_is_written_is_read(void **state)
{
    struct fixture *f = fixture_of(state);
    static uint8_t data[65536], back[65536];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(vmm_block_write(f->block, LENGTH - sizeof(data), data, sizeof(data)), 0);
    assert_int_equal(vmm_block_flush(f->block), 0);
    assert_int_equal(vmm_block_read(f->block, LENGTH - sizeof(back), back, sizeof(back)), 0);
    assert_memory_equal(data, back, sizeof(data));
    int fd = open(f->path, O_RDONLY | O_CLOEXEC); /* as others see it */
    memset(back, 0, sizeof(back));
    assert_int_equal(pread(fd, back, sizeof(back), LENGTH - sizeof(data)), sizeof(back));
    close(fd);
    assert_memory_equal(data, back, sizeof(data));
    for (uint32_t flags = 0; flags <= VMM_BLOCK_MAY_UNMAP; flags += VMM_BLOCK_MAY_UNMAP) {
        uint64_t at = LENGTH - 65536 + (flags ? 8192 : 512);
        assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES, flags, at, 4096), 0);
        assert_int_equal(vmm_block_read(f->block, at, back, 4608), 0);
        for (int i = 0; i < 4096; i++)
            assert_int_equal(back[i], 0);
        assert_memory_equal(back + 4096, data + (flags ? 8192 : 512) + 4096, 512);
    }
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, LENGTH), 0);
}

static void requests_out_of_range(void **state)
{
    struct fixture *f = fixture_of(state);
    uint8_t data[1024] = {0};
    assert_int_equal(vmm_block_read(f->block, 1, data, 512), -EINVAL);
    assert_int_equal(vmm_block_read(f->block, 0, data, 511), -EINVAL);
    assert_int_equal(vmm_block_read(f->block, LENGTH, data, 512), -EINVAL);
    assert_int_equal(vmm_block_write(f->block, LENGTH - 512, data, 1024), -EINVAL);
    assert_int_equal(vmm_block_read(f->block, UINT64_MAX - 511, data, 512), -EINVAL);
    assert_int_equal(vmm_block_read(f->block, LENGTH, data, 0), 0);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_READ, 0, 0, 512), -EINVAL);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, UINT64_MAX - 511), -EINVAL);
    /* A file that has been cut short under us. */
    assert_int_equal(truncate(f->path, 4096), 0);
    assert_int_equal(vmm_block_read(f->block, 8192, data, 512), -EIO);
}

static void done(struct vmm_block_request *request, int result)
{
    struct fixture *f = request->ctx;
    f->done++;
    f->result |= result;
}

static void many_at_once(void **state)
{
    struct fixture *f = fixture_of(state);
    static struct vmm_block_request requests[200];
    static uint8_t data[200][3][512];
    static struct iovec vectors[200][3];
    for (int i = 0; i < 200; i++) {
        for (int j = 0; j < 3; j++) {
            memset(data[i][j], i + j, 512);
            vectors[i][j] = (struct iovec){data[i][j], 512};
        }
        requests[i] = (struct vmm_block_request){.op = VMM_BLOCK_WRITE,
                                                 .flags = i == 7 ? VMM_BLOCK_FUA : 0,
                                                 .offset = (uint64_t)i * 1536,
                                                 .length = 1536,
                                                 .vector = vectors[i],
                                                 .vector_count = 3,
                                                 .done = done,
                                                 .ctx = f};
        vmm_block_submit(f->block, &requests[i]);
        assert_int_equal(f->done, 0); /* never from inside */
    }
    assert_int_equal(vmm_block_in_flight(f->block), 200);
    vmm_block_drain(f->block);
    assert_int_equal(f->done, 200);
    assert_int_equal(f->result, 0);
    assert_int_equal(vmm_block_in_flight(f->block), 0);
    for (int i = 0; i < 200; i++) {
        uint8_t back[1536];
        assert_int_equal(vmm_block_read(f->block, (uint64_t)i * 1536, back, 1536), 0);
        for (int j = 0; j < 1536; j++)
            assert_int_equal(back[j], (uint8_t)(i + j / 512));
    }
}

static void vector_and_length_disagree(void **state)
{
    struct fixture *f = fixture_of(state);
    uint8_t data[512];
    struct iovec vector = {data, 512};
    struct vmm_block_request r = {.op = VMM_BLOCK_READ,
                                  .length = 1024,
                                  .vector = &vector,
                                  .vector_count = 1,
                                  .done = done,
                                  .ctx = f};
    vmm_block_submit(f->block, &r);
    vmm_block_drain(f->block);
    assert_int_equal(f->result, -EINVAL);
}

static void information_resize_and_extents(void **state)
{
    struct fixture *f = fixture_of(state);
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    struct vmm_block_extent extent;
    uint8_t data[4096] = {1};
    assert_int_equal(vmm_block_get_info(f->block, &info), 0);
    assert_int_equal(info.length, LENGTH);
    assert_string_equal(info.format, "raw");
    assert_int_equal(vmm_block_resize(f->block, 2 * LENGTH, NULL), 0);
    assert_int_equal(vmm_block_resize(f->block, 100, NULL), -EINVAL);
    assert_int_equal(vmm_block_write(f->block, LENGTH, data, sizeof(data)), 0);
    assert_int_equal(vmm_block_get_info(f->block, &info), 0);
    assert_int_equal(info.length, 2 * LENGTH);
    assert_int_equal(vmm_block_extent_at(f->block, LENGTH, 4096, &extent), 0);
    assert_int_equal(extent.state, VMM_BLOCK_DATA);
    assert_int_equal(extent.length, 4096);
    assert_int_equal(vmm_block_extent_at(f->block, 0, 4096, &extent), 0);
    assert_int_equal(extent.length, 4096);
    assert_int_equal(vmm_block_extent_at(f->block, 2 * LENGTH, 1, &extent), -EINVAL);
}

static void images_that_are_refused(void **state)
{
    struct fixture *f = fixture_of(state);
    struct vmm_block *other;
    uint8_t data[512];
    assert_int_equal(open_raw(f, 0, false, &other), -EBUSY); /* two writers */
    assert_int_equal(open_raw(f, 65, false, &other), -EINVAL);
    f->block = vmm_block_unref(f->block);
    assert_int_equal(open_raw(f, 0, true, &f->block), 0);
    assert_int_equal(open_raw(f, 0, true, &other), 0); /* readers go together */
    assert_int_equal(vmm_block_write(other, 0, data, 512), -EACCES);
    assert_int_equal(vmm_block_range(other, VMM_BLOCK_DISCARD, 0, 0, 512), -EACCES);
    assert_int_equal(vmm_block_flush(other), 0);
    assert_int_equal(vmm_block_resize(other, 512, NULL), -EACCES);
    vmm_block_unref(other);
    f->block = vmm_block_unref(f->block);
    assert_int_equal(truncate(f->path, 1000), 0);
    assert_int_equal(open_raw(f, 0, false, &other), -EINVAL);
    assert_int_equal(truncate(f->path, 0), 0);
    assert_int_equal(open_raw(f, 0, false, &other), -EINVAL);
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = "/nonexistent/disk";
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &other, NULL), -ENOENT);
    o.path = "/tmp";
    o.read_only = 1;
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &other, NULL), -EINVAL);
    assert_int_equal(vmm_block_raw_new(f->loop, NULL, &other, NULL), -EINVAL);
}

static void engines_are_chosen(void **state)
{
    struct fixture *f = fixture_of(state);
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct vmm_block *other;
    assert_int_equal(vmm_block_raw_engine(f->block), f->engine);
    assert_int_equal(vmm_block_raw_engine(NULL), -EINVAL);
    o.path = f->path;
    o.read_only = 1;
    o.unlocked = 1;
    o.engine = VMM_BLOCK_ENGINE_THREADS + 1;
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &other, NULL), -EINVAL);
    o.engine = VMM_BLOCK_ENGINE_AUTO;
    o.cache = VMM_BLOCK_CACHE_UNSAFE + 1;
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &other, NULL), -EINVAL);
    o.cache = 0;
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &other, NULL), 0);
    if (f->engine == VMM_BLOCK_ENGINE_IO_URING) /* the best is taken where it is there */
        assert_int_equal(vmm_block_raw_engine(other), VMM_BLOCK_ENGINE_IO_URING);
    vmm_block_unref(other);
}

/* Memory and offsets that direct I/O cannot have. */
static void nothing_is_aligned(void **state)
{
    struct fixture *f = fixture_of(state);
    uint8_t *memory = malloc(16384), back[8192];
    for (int i = 0; i < 16384; i++)
        memory[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(vmm_block_write(f->block, 512, memory + 1, 4096 + 512), 0);
    assert_int_equal(vmm_block_read(f->block, 512, back + 3, 4096 + 512), 0);
    assert_memory_equal(memory + 1, back + 3, 4096 + 512);
    struct iovec v[] = {{memory + 7, 100}, {memory + 1000, 0}, {memory + 2001, 412}};
    struct vmm_block_request r = {.op = VMM_BLOCK_WRITE,
                                  .offset = 8192,
                                  .length = 512,
                                  .vector = v,
                                  .vector_count = 3,
                                  .done = done,
                                  .ctx = f};
    vmm_block_submit(f->block, &r);
    vmm_block_drain(f->block);
    assert_int_equal(f->result, 0);
    assert_int_equal(vmm_block_read(f->block, 8192, back, 512), 0);
    assert_memory_equal(back, memory + 7, 100);
    assert_memory_equal(back + 100, memory + 2001, 412);
    free(memory);
}

struct again {
    struct fixture *f;
    struct vmm_block_request request;
    struct iovec vector;
    uint32_t left;
};

static void submit_again(struct vmm_block_request *request, int result)
{
    struct again *a = request->ctx;
    a->f->done++;
    a->f->result |= result;
    if (--a->left)
        vmm_block_submit(a->f->block, request);
}

/* Requests from `done`, many more than a turn takes, at a depth above what the kernel is given. */
static void requests_from_completions(void **state)
{
    struct fixture *f = fixture_of(state);
    static uint8_t data[700][512];
    struct again *all = calloc(700, sizeof(*all));
    vmm_block_plug(f->block);
    for (int i = 0; i < 700; i++) {
        all[i] = (struct again){.f = f, .left = 50, .vector = {data[i], 512}};
        all[i].request = (struct vmm_block_request){.op = i % 3 ? VMM_BLOCK_READ : VMM_BLOCK_WRITE,
                                                    .offset = (uint64_t)i * 512,
                                                    .length = 512,
                                                    .vector = &all[i].vector,
                                                    .vector_count = 1,
                                                    .done = submit_again,
                                                    .ctx = &all[i]};
        vmm_block_submit(f->block, &all[i].request);
    }
    vmm_block_unplug(f->block);
    assert_int_equal(f->done, 0);
    while (vmm_block_in_flight(f->block))
        assert_true(vmm_loop_dispatch(f->loop, 10000) >= 0);
    assert_int_equal(f->done, 700 * 50);
    assert_int_equal(f->result, 0);
    free(all);
}

static void *quiesce_it(void *ctx)
{
    vmm_block_quiesce(ctx);
    return NULL;
}

/* A device that is reset on a vCPU's thread: the vector is free after that, the end comes later. */
static void quiesced_from_another_thread(void **state)
{
    struct fixture *f = fixture_of(state);
    static uint8_t data[64][4096];
    struct vmm_block_request r[64];
    struct iovec v[64];
    pthread_t thread;
    memset(data, 0xa5, sizeof(data));
    for (int i = 0; i < 64; i++) {
        v[i] = (struct iovec){data[i], 4096};
        r[i] = (struct vmm_block_request){.op = VMM_BLOCK_READ,
                                          .offset = (uint64_t)i * 4096,
                                          .length = 4096,
                                          .vector = &v[i],
                                          .vector_count = 1,
                                          .done = done,
                                          .ctx = f};
        vmm_block_submit(f->block, &r[i]);
    }
    assert_int_equal(pthread_create(&thread, NULL, quiesce_it, f->block), 0);
    pthread_join(thread, NULL);
    assert_int_equal(f->done, 0);
    for (int i = 0; i < 64; i++)
        assert_int_equal(data[i][4095], 0);
    while (f->done < 64)
        assert_true(vmm_loop_dispatch(f->loop, 10000) > 0);
    assert_int_equal(f->result, 0);
}

static void ended_early(struct vmm_block_request *request, int result)
{
    struct fixture *f = request->ctx;
    f->done++;
    if (result && result != -ECANCELED)
        f->result = result;
    f->cancelled += result == -ECANCELED;
}

static void requests_are_cancelled(void **state)
{
    struct fixture *f = fixture_of(state);
    static uint8_t data[100][512];
    struct vmm_block_request r[100];
    struct iovec v[100];
    vmm_block_plug(f->block); /* so that they wait for certain, where an engine collects them */
    for (int i = 0; i < 100; i++) {
        v[i] = (struct iovec){data[i], 512};
        r[i] = (struct vmm_block_request){.op = VMM_BLOCK_READ,
                                          .length = 512,
                                          .vector = &v[i],
                                          .vector_count = 1,
                                          .done = ended_early,
                                          .ctx = f};
        vmm_block_submit(f->block, &r[i]);
    }
    for (int i = 99; i >= 0; i -= 2)
        vmm_block_cancel(f->block, &r[i]);
    vmm_block_unplug(f->block);
    assert_int_equal(f->done, 0);
    vmm_block_drain(f->block);
    assert_int_equal(f->done, 100);
    assert_int_equal(f->result, 0);
    if (f->engine == VMM_BLOCK_ENGINE_IO_URING)
        assert_int_equal(f->cancelled, 50);
}

static void extents_of_a_sparse_file(void **state)
{
    struct fixture *f = fixture_of(state);
    struct vmm_block_extent e;
    uint8_t data[65536];
    memset(data, 7, sizeof(data));
    assert_int_equal(vmm_block_write(f->block, 262144, data, sizeof(data)), 0);
    assert_int_equal(vmm_block_extent_at(f->block, 0, LENGTH, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_ZERO);
    assert_int_equal(e.length, 262144);
    assert_int_equal(vmm_block_extent_at(f->block, 262144, LENGTH - 262144, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_DATA);
    assert_int_equal(e.length, 65536);
    assert_int_equal(e.host_offset, 262144);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES, VMM_BLOCK_MAY_UNMAP, 262144,
                                     sizeof(data)),
                     0);
    assert_int_equal(vmm_block_extent_at(f->block, 0, LENGTH, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_ZERO);
    assert_int_equal(e.length, LENGTH);
}

#define ENGINE(test, name)                                                                         \
    {                                                                                              \
#test " (" #name ")", test, set_up_##name, tear_down, NULL                                 \
    }
#define EACH(test)                                                                                 \
    ENGINE(test, inline), ENGINE(test, threads), ENGINE(test, uring),                              \
        ENGINE(test, threads_direct), ENGINE(test, uring_direct)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(what_is_written_is_read),
        EACH(requests_out_of_range),
        EACH(many_at_once),
        EACH(vector_and_length_disagree),
        EACH(information_resize_and_extents),
        EACH(images_that_are_refused),
        EACH(engines_are_chosen),
        EACH(nothing_is_aligned),
        EACH(requests_from_completions),
        EACH(quiesced_from_another_thread),
        EACH(requests_are_cancelled),
        EACH(extents_of_a_sparse_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
