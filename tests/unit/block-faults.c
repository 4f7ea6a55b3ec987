/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw images on a host that interrupts, cuts short and fails its disk I/O. The linker puts the
 * functions below in front of the C library's and liburing's (--wrap). */
#include "test.h"

#include <libvmm/block.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LENGTH (1u << 20)

/* The next calls fail with `fail`, `times` of them; transfers are cut to `most` bytes. */
static struct {
    int fail;
    unsigned times, calls;
    size_t most;
} faults;

static bool fails(void)
{
    faults.calls++;
    if (!faults.times)
        return false;
    faults.times--;
    errno = faults.fail;
    return true;
}

ssize_t __real_preadv64(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *v, int count, off_t offset)
{
    if (fails())
        return -1;
    struct iovec first = v[0];
    if (!faults.most)
        return __real_preadv64(fd, v, count, offset);
    if (first.iov_len > faults.most)
        first.iov_len = faults.most;
    return __real_preadv64(fd, &first, 1, offset);
}

ssize_t __real_pwritev64v2(int fd, const struct iovec *v, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *v, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *v, int count, off_t offset, int flags)
{
    if (fails())
        return -1;
    struct iovec first = v[0];
    if (!faults.most)
        return __real_pwritev64v2(fd, v, count, offset, flags);
    if (first.iov_len > faults.most)
        first.iov_len = faults.most;
    return __real_pwritev64v2(fd, &first, 1, offset, flags);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return fails() ? -1 : __real_fdatasync(fd);
}

int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
    return fails() ? -1 : __real_fallocate64(fd, mode, offset, length);
}

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *block;
    char path[64];
};

static void open_it(struct fixture *f)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = f->path;
    o.engine = VMM_BLOCK_ENGINE_THREADS;
    assert_int_equal(vmm_block_raw_new(f->loop, &o, &f->block, NULL), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    memset(&faults, 0, sizeof(faults));
    strcpy(f->path, "/tmp/libvmm-faults-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0 || ftruncate(fd, LENGTH) < 0 || vmm_loop_new(NULL, &f->loop) < 0)
        return -1;
    close(fd);
    open_it(f);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    memset(&faults, 0, sizeof(faults));
    vmm_block_unref(f->block);
    vmm_loop_unref(f->loop);
    unlink(f->path);
    free(f);
    return 0;
}

static void fail_next(int error, unsigned times)
{
    faults.fail = error;
    faults.times = times;
}

static void interrupted_and_cut_short(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[16384], back[16384];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 13 >> 2);
    faults.most = 777;
    fail_next(EINTR, 5);
    assert_int_equal(vmm_block_write(f->block, 4096, data, sizeof(data)), 0);
    assert_true(faults.calls >= 5 + sizeof(data) / 777);
    fail_next(EINTR, 5);
    assert_int_equal(vmm_block_read(f->block, 4096, back, sizeof(back)), 0);
    assert_memory_equal(data, back, sizeof(data));
    fail_next(EINTR, 2);
    assert_int_equal(vmm_block_flush(f->block), 0);
    fail_next(EINTR, 2);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, 4096), 0);
}

static void errors_are_reported(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512] = {0};
    fail_next(EIO, 1);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), -EIO);
    fail_next(ENOSPC, 1);
    assert_int_equal(vmm_block_write(f->block, 0, data, 512), -ENOSPC);
    fail_next(EIO, 1);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, 512), -EIO);
    assert_int_equal(vmm_block_flush(f->block), 0); /* none of them was of a flush */
}

static void no_flush_is_believed_after_one_that_failed(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512] = {0};
    fail_next(EIO, 1);
    assert_int_equal(vmm_block_flush(f->block), -EIO);
    assert_int_equal(vmm_block_flush(f->block), -EIO);
    assert_int_equal(vmm_block_write(f->block, 0, data, 512), 0);
    assert_int_equal(vmm_block_flush(f->block), -EIO);
    vmm_block_unref(f->block);
    open_it(f);
    assert_int_equal(vmm_block_flush(f->block), 0);
}

static void finished(struct vmm_block_request *request, int result)
{
    *(int *)request->ctx = result;
}

static int write_durably(struct fixture *f)
{
    uint8_t data[512] = {0};
    struct iovec v = {data, 512};
    int result = 1;
    struct vmm_block_request r = {.op = VMM_BLOCK_WRITE,
                                  .flags = VMM_BLOCK_FUA,
                                  .length = 512,
                                  .vector = &v,
                                  .vector_count = 1,
                                  .done = finished,
                                  .ctx = &result};
    vmm_block_submit(f->block, &r);
    vmm_block_drain(f->block);
    return result;
}

static void durable_writes_are_flushes_too(void **state)
{
    struct fixture *f = *state;
    fail_next(ENOSPC, 1);
    assert_int_equal(write_durably(f), -ENOSPC);
    assert_int_equal(vmm_block_flush(f->block), 0);
    fail_next(EIO, 1);
    assert_int_equal(write_durably(f), -EIO);
    assert_int_equal(vmm_block_flush(f->block), -EIO);
}

static void file_systems_without_holes(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[200 * 1024];
    memset(data, 1, sizeof(data));
    assert_int_equal(vmm_block_write(f->block, 0, data, sizeof(data)), 0);
    fail_next(EOPNOTSUPP, 1);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, 4096), 0);
    fail_next(EOPNOTSUPP, 1);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES, 0, 512, sizeof(data) - 1024),
                     0);
    assert_int_equal(vmm_block_read(f->block, 0, data, sizeof(data)), 0);
    assert_int_equal(data[511], 1);
    for (size_t i = 512; i < sizeof(data) - 512; i++)
        assert_int_equal(data[i], 0);
    assert_int_equal(data[sizeof(data) - 512], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(interrupted_and_cut_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_are_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_flush_is_believed_after_one_that_failed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(durable_writes_are_flushes_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(file_systems_without_holes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
