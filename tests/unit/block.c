/* SPDX-License-Identifier: BSD-3-Clause */
/* Block devices: raw images with and without threads, and what is refused. */
#include "test.h"

#include <libvmm/block.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH (1u << 20)

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *block;
    char path[64];
    uint32_t done;
    int result;
};

static int open_raw(struct fixture *f, uint32_t threads, bool read_only, struct vmm_block **out)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = f->path;
    o.threads = threads;
    o.read_only = read_only;
    return vmm_block_raw_new(f->loop, &o, out, NULL);
}

static int set_up(void **state, uint32_t threads)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    strcpy(f->path, "/tmp/libvmm-block-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0 || ftruncate(fd, LENGTH) < 0 || vmm_loop_new(NULL, &f->loop) < 0)
        return -1;
    close(fd);
    return open_raw(f, threads, false, &f->block);
}

static int set_up_inline(void **state)
{
    return set_up(state, 0);
}

static int set_up_threads(void **state)
{
    return set_up(state, 4);
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
    struct fixture *f = *state;
    static uint8_t data[65536], back[65536];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(vmm_block_write(f->block, LENGTH - sizeof(data), data, sizeof(data)), 0);
    assert_int_equal(vmm_block_flush(f->block), 0);
    assert_int_equal(vmm_block_read(f->block, LENGTH - sizeof(back), back, sizeof(back)), 0);
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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

#define BOTH(test)                                                                                 \
    {#test " (inline)", test, set_up_inline, tear_down, NULL},                                     \
    {                                                                                              \
#test " (threads)", test, set_up_threads, tear_down, NULL                                  \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_is_written_is_read),
        BOTH(requests_out_of_range),
        BOTH(many_at_once),
        BOTH(vector_and_length_disagree),
        BOTH(information_resize_and_extents),
        BOTH(images_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
