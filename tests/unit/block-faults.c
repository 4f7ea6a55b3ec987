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

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

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

#ifdef HAVE_LIBURING
/* Cut what is submitted, wait for it, and change what the kernel says of it. */
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
static int submit_with_faults(struct io_uring *ring)
{
    unsigned pending = io_uring_sq_ready(ring), before = *ring->cq.ktail;
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        struct io_uring_sqe *sqe = &ring->sq.sqes[i & *ring->sq.kring_mask];
        if ((sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE) && faults.most &&
            sqe->len > faults.most)
            sqe->len = (unsigned)faults.most;
    }
    int rc = __real_io_uring_submit_and_wait(ring, io_uring_cq_ready(ring) + pending);
    for (unsigned i = before; i != *ring->cq.ktail; i++)
        if (fails())
            ring->cq.cqes[i & *ring->cq.kring_mask].res = -faults.fail;
    return rc;
}

int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
    return submit_with_faults(ring);
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    (void)count;
    return submit_with_faults(ring);
}
#endif

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *block;
    char path[64];
    uint32_t engine;
    bool missing;
};

static void open_it(struct fixture *f)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = f->path;
    o.engine = f->engine;
    int rc = vmm_block_raw_new(f->loop, &o, &f->block, NULL);
    f->missing = rc == -ENOTSUP || rc == -ENOSYS || rc == -EPERM;
    assert_true(rc == 0 || f->missing);
}

static int set_up(void **state, uint32_t engine)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->engine = engine;
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

static int set_up_threads(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_THREADS);
}

static int set_up_uring(void **state)
{
    return set_up(state, VMM_BLOCK_ENGINE_IO_URING);
}

static struct fixture *fixture_of(void **state)
{
    struct fixture *f = *state;
    if (f->missing)
        skip(); /* no io_uring here */
    return f;
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
    struct fixture *f = fixture_of(state);
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
    struct fixture *f = fixture_of(state);
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
    struct fixture *f = fixture_of(state);
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
    struct fixture *f = fixture_of(state);
    fail_next(ENOSPC, 1);
    assert_int_equal(write_durably(f), -ENOSPC);
    assert_int_equal(vmm_block_flush(f->block), 0);
    fail_next(EIO, 1);
    assert_int_equal(write_durably(f), -EIO);
    assert_int_equal(vmm_block_flush(f->block), -EIO);
}

static void file_systems_without_holes(void **state)
{
    struct fixture *f = fixture_of(state);
    static uint8_t data[200 * 1024];
    memset(data, 1, sizeof(data));
    assert_int_equal(vmm_block_write(f->block, 0, data, sizeof(data)), 0);
    fail_next(EOPNOTSUPP, 1);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, LENGTH - 4096, 4096), 0);
    fail_next(EOPNOTSUPP, 1);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES, 0, 512, sizeof(data) - 1024),
                     0);
    assert_int_equal(vmm_block_read(f->block, 0, data, sizeof(data)), 0);
    assert_int_equal(data[511], 1);
    for (size_t i = 512; i < sizeof(data) - 512; i++)
        assert_int_equal(data[i], 0);
    assert_int_equal(data[sizeof(data) - 512], 1);
}

#define BOTH(test)                                                                                 \
    {#test " (threads)", test, set_up_threads, tear_down, NULL},                                   \
    {                                                                                              \
#test " (uring)", test, set_up_uring, tear_down, NULL                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(interrupted_and_cut_short),
        BOTH(errors_are_reported),
        BOTH(no_flush_is_believed_after_one_that_failed),
        BOTH(durable_writes_are_flushes_too),
        BOTH(file_systems_without_holes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
