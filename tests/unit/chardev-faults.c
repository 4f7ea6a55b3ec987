/* SPDX-License-Identifier: BSD-3-Clause */
/* Character backends on a host that interrupts, cuts short and fails its system calls. The linker
 * puts the functions below in front of the C library's (--wrap). */
#include <libvmm/chardev.h>

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* While on, every other call is interrupted and no transfer is longer than `most` bytes. */
static struct {
    bool on;
    size_t most;
    int fail; /* an errno for the next transfer; 0: none */
    unsigned calls, interrupted;
} faults;

static bool fault(size_t *length)
{
    if (!faults.on)
        return false;
    if (++faults.calls % 2) {
        faults.interrupted++;
        errno = EINTR;
        return true;
    }
    if (faults.fail) {
        errno = faults.fail;
        faults.fail = 0;
        return true;
    }
    if (*length > faults.most)
        *length = faults.most;
    return false;
}

ssize_t __real_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length)
{
    return fault(&length) ? -1 : __real_read(fd, data, length);
}

ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length)
{
    /* Eventfds take eight bytes or nothing. */
    return length != 8 && fault(&length) ? -1 : __real_write(fd, data, length);
}

ssize_t __real_recv(int fd, void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags)
{
    return fault(&length) ? -1 : __real_recv(fd, data, length, flags);
}

ssize_t __real_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags)
{
    return fault(&length) ? -1 : __real_send(fd, data, length, flags);
}

struct sink {
    char text[64];
    size_t length;
    int closed;
};

static size_t can_receive(void *ctx)
{
    return sizeof(((struct sink *)ctx)->text) - 1 - ((struct sink *)ctx)->length;
}

static void receive(void *ctx, const uint8_t *data, size_t length)
{
    struct sink *s = ctx;
    memcpy(s->text + s->length, data, length);
    s->length += length;
}

static void event(void *ctx, uint32_t what)
{
    ((struct sink *)ctx)->closed += what == VMM_CHARDEV_CLOSED;
}

static const struct vmm_chardev_user user = {sizeof(user), can_receive, receive, NULL, event};

static void settle(struct vmm_loop *loop)
{
    while (vmm_loop_dispatch(loop, 20) > 0)
        ;
}

static void run(int in, int feed, int out, int result)
{
    static const char text[] = "the quick brown fox jumps";
    const size_t n = sizeof(text) - 1;
    struct vmm_loop *loop;
    struct vmm_chardev *chardev;
    struct sink sink = {.length = 0};
    char got[64] = "";
    assert_int_equal(vmm_loop_new(NULL, &loop), 0);
    assert_int_equal(vmm_chardev_new_fd(loop, in, out, &chardev, NULL), 0);
    assert_int_equal(vmm_chardev_set_user(chardev, &user, &sink), 0);
    assert_int_equal(write(feed, text, n), n);
    faults.on = true;
    faults.most = 3;
    faults.interrupted = 0;
    settle(loop);
    assert_int_equal(vmm_chardev_write(chardev, text, n), n);
    faults.on = false;
    assert_true(faults.interrupted > 8);
    assert_string_equal(sink.text, text);
    assert_int_equal(read(result, got, sizeof(got)), n);
    assert_string_equal(got, text);

    /* An error other than these ends the output, once, without a word from inside the write. */
    faults = (typeof(faults)){.on = true, .most = 3, .fail = EPIPE};
    assert_int_equal(vmm_chardev_write(chardev, text, n), n);
    faults.on = false;
    assert_int_equal(sink.closed, 0);
    settle(loop);
    assert_int_equal(sink.closed, 1);
    assert_int_equal(vmm_chardev_write(chardev, text, n), n);
    vmm_chardev_set_user(chardev, NULL, NULL);
    vmm_chardev_unref(chardev);
    vmm_loop_unref(loop);
}

static void pipes(void **state)
{
    (void)state;
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
    run(in[0], in[1], out[1], out[0]);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

static void sockets(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    run(pair[0], pair[1], pair[0], pair[1]);
    close(pair[0]);
    close(pair[1]);
}

static void files(void **state)
{
    (void)state;
    char path[] = "/tmp/libvmm-faults-XXXXXX", got[16] = "";
    struct vmm_chardev *chardev;
    int fd = mkstemp(path);
    assert_int_equal(vmm_chardev_new_file(path, &chardev, NULL), 0);
    faults = (typeof(faults)){.on = true, .most = 2};
    assert_int_equal(vmm_chardev_write(chardev, "hello", 5), 5);
    faults.fail = ENOSPC;
    assert_int_equal(vmm_chardev_write(chardev, "lost!", 5), -ENOSPC);
    assert_int_equal(vmm_chardev_write(chardev, "again", 5), 5);
    faults.on = false;
    assert_int_equal(read(fd, got, sizeof(got)), 10);
    assert_string_equal(got, "helloagain");
    vmm_chardev_unref(chardev);
    unlink(path);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes),
        cmocka_unit_test(sockets),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
