/* SPDX-License-Identifier: BSD-3-Clause */
/* Character backends: order kept, nothing blocks, nothing grows, peers that go and come back. */
#include <libvmm/chardev.h>

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000u

struct fixture {
    struct vmm_loop *loop;
    struct vmm_chardev *chardev;
    size_t room; /* SIZE_MAX: endless */
    char text[8192];
    size_t length;
    int writable, opened, closed;
    bool drop_in_receive;
    bool accept_too_early;
    char keys[8];
    char dir[32];
    char path[64];
};

static size_t can_receive(void *ctx)
{
    struct fixture *f = ctx;
    if (f->accept_too_early) { /* as if the guest read between the question and the answer */
        f->accept_too_early = false;
        vmm_chardev_accept(f->chardev);
        return 0;
    }
    return f->room;
}

static void receive(void *ctx, const uint8_t *data, size_t length)
{
    struct fixture *f = ctx;
    assert_true(length <= f->room);
    assert_true(f->length + length < sizeof(f->text));
    memcpy(f->text + f->length, data, length);
    f->length += length;
    f->text[f->length] = '\0';
    if (f->room != SIZE_MAX)
        f->room -= length;
    if (f->drop_in_receive) {
        vmm_chardev_set_user(f->chardev, NULL, NULL);
        f->chardev = vmm_chardev_unref(f->chardev);
    }
}

static void writable(void *ctx)
{
    ((struct fixture *)ctx)->writable++;
}

static void event(void *ctx, uint32_t what)
{
    struct fixture *f = ctx;
    if (what == VMM_CHARDEV_OPENED)
        f->opened++;
    else
        f->closed++;
}

static const struct vmm_chardev_user user = {sizeof(user), can_receive, receive, writable, event};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->room = SIZE_MAX;
    strcpy(f->dir, "/tmp/libvmm-chardev-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->path, sizeof(f->path), "%s/x", f->dir);
    return vmm_loop_new(NULL, &f->loop);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->chardev) {
        vmm_chardev_set_user(f->chardev, NULL, NULL);
        vmm_chardev_unref(f->chardev);
    }
    vmm_loop_unref(f->loop);
    unlink(f->path);
    int ret = rmdir(f->dir); /* fails if a socket was left behind */
    free(f);
    return ret;
}

static void take(struct fixture *f)
{
    assert_int_equal(vmm_chardev_set_user(f->chardev, &user, f), 0);
}

/* Dispatch until there is nothing to do for a little while. */
static void settle(struct fixture *f)
{
    for (int i = 0; i < 10000 && vmm_loop_dispatch(f->loop, 20) > 0; i++)
        ;
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0); /* not busy */
}

static void dispatch_until(struct fixture *f, const int *counter, int value)
{
    for (int i = 0; i < 100 && *counter < value; i++)
        vmm_loop_dispatch(f->loop, 100);
    assert_int_equal(*counter, value);
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (long)strlen(text));
}

static void expect_read(int fd, const char *text)
{
    char got[256] = "";
    size_t have = 0;
    while (have < strlen(text)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 2000), 1);
        ssize_t n = read(fd, got + have, sizeof(got) - 1 - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_string_equal(got, text);
}

static void open_fd(struct fixture *f, int in, int out)
{
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_chardev_new_fd(f->loop, in, out, &f->chardev, &err), 0);
    assert_string_equal(err.text, "");
}

/* The object ----------------------------------------------------------------------------------- */

static void a_chardev_has_one_user(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_memory(4, &f->chardev), 0);
    take(f);
    assert_int_equal(vmm_chardev_set_user(f->chardev, &user, f), -EBUSY);
    vmm_chardev_deliver(f->chardev, "a", 1);
    vmm_chardev_event(f->chardev, VMM_CHARDEV_OPENED);
    vmm_chardev_writable(f->chardev);
    assert_int_equal(vmm_chardev_set_user(f->chardev, NULL, NULL), 0);
    vmm_chardev_deliver(f->chardev, "b", 1);
    vmm_chardev_event(f->chardev, VMM_CHARDEV_OPENED);
    vmm_chardev_writable(f->chardev);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    assert_string_equal(f->text, "a");
    assert_int_equal(f->opened, 1);
    assert_int_equal(f->writable, 1);
    struct vmm_chardev_user none = {.size = sizeof(none)}; /* every callback may be missing */
    assert_int_equal(vmm_chardev_set_user(f->chardev, &none, NULL), 0);
    assert_int_equal(vmm_chardev_can_receive(f->chardev), 0);
    vmm_chardev_deliver(f->chardev, "c", 1);
    vmm_chardev_event(f->chardev, VMM_CHARDEV_CLOSED);
    vmm_chardev_writable(f->chardev);
}

static long greedy_write(void *ctx, const uint8_t *data, size_t length)
{
    (void)ctx;
    (void)data;
    return (long)length + 7;
}

static void bad_arguments_are_refused(void **state)
{
    struct fixture *f = *state;
    struct vmm_chardev_ops ops = {.size = sizeof(ops)};
    struct vmm_chardev *c = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_chardev_new(&ops, NULL, &c), -EINVAL);
    assert_int_equal(vmm_chardev_new(NULL, NULL, &c), -EINVAL);
    assert_int_equal(vmm_chardev_new_callback(NULL, NULL, &c), -EINVAL);
    assert_int_equal(vmm_chardev_new_memory(0, &c), -EINVAL);
    assert_int_equal(vmm_chardev_new_memory(SIZE_MAX, &c), -EINVAL);
    assert_int_equal(vmm_chardev_new_fd(f->loop, -1, -1, &c, &err), -EBADF);
    assert_non_null(strstr(err.text, "-1"));
    assert_int_equal(err.code, -EBADF);
    assert_int_equal(vmm_chardev_new_fd(f->loop, 99999, -1, &c, &err), -EBADF);
    assert_non_null(strstr(err.text, "99999"));
    assert_int_equal(vmm_chardev_new_fd(f->loop, -7, 1, &c, &err), -EBADF);
    assert_int_equal(vmm_chardev_new_fd(NULL, 0, 1, &c, NULL), -EINVAL);
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(vmm_chardev_new_fd(f->loop, fds[1], -1, &c, &err), -EBADF); /* wrong way */
    assert_int_equal(vmm_chardev_new_fd(f->loop, -1, fds[0], &c, &err), -EBADF);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(vmm_chardev_new_pty(NULL, &c, &err), -EINVAL);
    assert_int_equal(vmm_chardev_new_unix(f->loop, "", true, &c, &err), -EINVAL);
    assert_int_equal(vmm_chardev_new_file(NULL, &c, &err), -EINVAL);
    assert_int_equal(vmm_chardev_set_user(NULL, &user, f), -EINVAL);
    assert_int_equal(vmm_chardev_write(NULL, "x", 1), -EINVAL);
    assert_null(vmm_chardev_path(NULL));
    vmm_chardev_restore_terminal(NULL);
    assert_null(vmm_chardev_unref(NULL));
    assert_null(c);
    ops.write = greedy_write;
    assert_int_equal(vmm_chardev_new(&ops, NULL, &f->chardev), 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 3), 3);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 0), 0);
    assert_int_equal(vmm_chardev_write(f->chardev, NULL, 3), -EINVAL);
    vmm_chardev_restore_terminal(f->chardev);
    assert_null(vmm_chardev_path(f->chardev));
    assert_int_equal(vmm_chardev_memory_read(f->chardev, f->text, 4), 0);
}

struct slow {
    _Atomic int entered, left;
};

static void slow_receive(void *ctx, const uint8_t *data, size_t length)
{
    struct slow *s = ctx;
    (void)data;
    (void)length;
    atomic_store(&s->entered, 1);
    nanosleep(&(struct timespec){.tv_nsec = 50 * MS}, NULL);
    atomic_store(&s->left, 1);
}

static void *deliver_thread(void *chardev)
{
    vmm_chardev_deliver(chardev, "x", 1);
    return NULL;
}

static void giving_up_waits_for_the_callback(void **state)
{
    struct fixture *f = *state;
    struct slow s = {0};
    struct vmm_chardev_user slow = {.size = sizeof(slow), .receive = slow_receive};
    assert_int_equal(vmm_chardev_new_memory(4, &f->chardev), 0);
    assert_int_equal(vmm_chardev_set_user(f->chardev, &slow, &s), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, deliver_thread, f->chardev), 0);
    while (!atomic_load(&s.entered))
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
    vmm_chardev_set_user(f->chardev, NULL, NULL);
    assert_int_equal(s.left, 1);
    pthread_join(thread, NULL);
}

/* Memory, callback, file ----------------------------------------------------------------------- */

static void memory_keeps_the_last_bytes(void **state)
{
    struct fixture *f = *state;
    char got[16] = "";
    assert_int_equal(vmm_chardev_new_memory(5, &f->chardev), 0);
    assert_int_equal(vmm_chardev_memory_read(f->chardev, got, 5), 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 3), 3);
    assert_int_equal(vmm_chardev_write(f->chardev, "defg", 4), 4);
    assert_int_equal(vmm_chardev_memory_read(f->chardev, got, 2), 2);
    assert_memory_equal(got, "cd", 2);
    assert_int_equal(vmm_chardev_write(f->chardev, "hi", 2), 2);
    assert_int_equal(vmm_chardev_memory_read(f->chardev, got, 16), 5);
    assert_memory_equal(got, "efghi", 5);
    assert_int_equal(vmm_chardev_write(f->chardev, "0123456789abc", 13), 13);
    assert_int_equal(vmm_chardev_memory_read(f->chardev, got, 16), 5);
    assert_memory_equal(got, "89abc", 5);
    for (int i = 0; i < 1000; i++) {
        vmm_chardev_write(f->chardev, &(char){(char)i}, 1);
        if (i % 3 == 0)
            vmm_chardev_memory_read(f->chardev, got, 1);
    }
    assert_int_equal(vmm_chardev_memory_read(f->chardev, got, 16), 5 - (999 % 3 == 0));
    assert_int_equal((unsigned char)got[3], 999 % 256);
}

static void callback_gets_output(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_callback(receive, f, &f->chardev), 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "hello", 5), 5);
    assert_string_equal(f->text, "hello");
}

static void file_is_appended_to(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vmm_chardev_new_file(f->path, &f->chardev, NULL), 0);
        assert_int_equal(vmm_chardev_write(f->chardev, "line\r\n", 6), 6);
        f->chardev = vmm_chardev_unref(f->chardev);
    }
    int fd = open(f->path, O_RDONLY);
    expect_read(fd, "line\r\nline\r\n");
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(fd);
}

static void file_that_cannot_be_written_is_named(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_chardev_new_file(f->dir, &f->chardev, &err), -EISDIR);
    assert_non_null(strstr(err.text, f->dir));
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(vmm_chardev_new_file(f->path, &f->chardev, &err), -EINVAL); /* no reader */
    int reader = open(f->path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(vmm_chardev_new_file(f->path, &f->chardev, &err), -EINVAL);
    assert_non_null(strstr(err.text, "regular file"));
    close(reader);
    assert_null(f->chardev);
    /* A full disk loses the bytes, says so, and does not end the device. */
    assert_int_equal(vmm_chardev_new_file("/dev/full", &f->chardev, &err), 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "x", 1), -ENOSPC);
    assert_int_equal(vmm_chardev_write(f->chardev, "x", 1), -ENOSPC);
}

/* Descriptors ---------------------------------------------------------------------------------- */

static void fd_passes_bytes_both_ways(void **state)
{
    struct fixture *f = *state;
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    open_fd(f, in[0], out[1]);
    close(in[0]); /* it has its own */
    close(out[1]);
    take(f);
    put(in[1], "a\rb\n");
    settle(f);
    assert_string_equal(f->text, "a\rb\n");
    assert_int_equal(vmm_chardev_write(f->chardev, "x\r\n", 3), 3);
    expect_read(out[0], "x\r\n");
    close(in[1]); /* the end of input is not the end of output */
    settle(f);
    assert_int_equal(f->closed, 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "y", 1), 1);
    expect_read(out[0], "y");
    close(out[0]);
}

static void fd_leaves_the_flags_of_the_file_alone(void **state)
{
    struct fixture *f = *state;
    int fds[2], pair[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    open_fd(f, fds[0], pair[0]);
    assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
    close(pair[0]);
    close(pair[1]);
}

static void fd_reads_no_more_than_the_user_has_room_for(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_fd(f, fds[0], -1);
    put(fds[1], "abcdefgh");
    settle(f); /* nobody is there: nothing is read or lost */
    f->room = 3;
    take(f);
    settle(f);
    assert_string_equal(f->text, "abc");
    f->room = 4;
    settle(f);
    assert_string_equal(f->text, "abc"); /* not before it is asked for */
    vmm_chardev_accept(f->chardev);
    settle(f);
    assert_string_equal(f->text, "abcdefg");
    close(fds[1]); /* a hang-up while the last byte waits neither loses it nor spins */
    settle(f);
    assert_int_equal(f->closed, 0);
    f->room = 4;
    vmm_chardev_accept(f->chardev);
    settle(f);
    assert_string_equal(f->text, "abcdefgh");
    assert_int_equal(f->closed, 1); /* nothing but input: it is over */
    vmm_chardev_accept(f->chardev);
    settle(f);
    close(fds[0]);
}

static void an_accept_before_the_pause_is_not_lost(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_fd(f, fds[0], -1);
    take(f);
    f->accept_too_early = true;
    put(fds[1], "abc");
    settle(f);
    assert_string_equal(f->text, "abc");
    close(fds[0]);
    close(fds[1]);
}

/* Write until it takes no more; returns how much it took. */
static size_t fill(struct fixture *f, uint8_t *next)
{
    uint8_t block[1000];
    size_t total = 0;
    for (int i = 0; i < 100000; i++) {
        for (size_t j = 0; j < sizeof(block); j++)
            block[j] = (uint8_t)(*next + j);
        long n = vmm_chardev_write(f->chardev, block, sizeof(block));
        assert_true(n >= 0);
        total += (size_t)n;
        *next = (uint8_t)(*next + n);
        if (n < (long)sizeof(block))
            return total;
    }
    fail_msg("it takes without end");
    return 0;
}

static void check_drain(int fd, size_t length, uint8_t *next)
{
    uint8_t block[1024];
    while (length > 0) {
        ssize_t n = read(fd, block, length < sizeof(block) ? length : sizeof(block));
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(block[i], (*next)++);
        length -= (size_t)n;
    }
}

/* A pty's other side takes data over a little later, and then there is room again. */
static size_t fill_up(struct fixture *f, uint8_t *next)
{
    size_t all = 0;
    for (size_t n = 1; n > 0; all += n) {
        n = fill(f, next);
        usleep(20000);
        n += fill(f, next);
    }
    return all;
}

static void backpressure_on(struct fixture *f, int reader)
{
    uint8_t next = 0, check = 0;
    take(f);
    for (int round = 0; round < 3; round++) {
        size_t n = fill_up(f, &next);
        assert_true(n > 0);
        settle(f);
        assert_int_equal(f->writable, round);
        check_drain(reader, n, &check);
        dispatch_until(f, &f->writable, round + 1);
        settle(f);
    }
}

static void full_pipe_takes_nothing_until_writable(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_fd(f, -1, fds[1]);
    backpressure_on(f, fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void full_socket_takes_nothing_until_writable(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    open_fd(f, pair[0], pair[0]);
    backpressure_on(f, pair[1]);
    close(pair[0]);
    close(pair[1]);
}

/* A terminal that cannot be opened again is written a byte at a time, guarded by poll. */
static void full_blocking_terminal_does_not_block(void **state)
{
    struct fixture *f = *state;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios t;
    tcgetattr(slave, &t);
    cfmakeraw(&t);
    tcsetattr(slave, TCSANOW, &t);
    open_fd(f, -1, master); /* a master is never opened again: that would be another one */
    alarm(20);
    backpressure_on(f, slave);
    alarm(0);
    close(master);
    close(slave);
}

static void closed_pipe_drops_output_without_sigpipe(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_fd(f, -1, fds[1]);
    take(f);
    uint8_t next = 0;
    assert_true(fill(f, &next) > 0);
    close(fds[0]); /* SIGPIPE's default would end the test */
    dispatch_until(f, &f->closed, 1);
    assert_true(f->writable > 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 3), 3);
    settle(f);
    assert_int_equal(f->closed, 1);
    close(fds[1]);
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
}

static void write_finds_the_pipe_closed(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_fd(f, -1, fds[1]);
    take(f);
    close(fds[0]);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 3), 3);
    assert_int_equal(f->closed, 0); /* never from inside a write: the user may hold its lock */
    settle(f);
    assert_int_equal(f->closed, 1);
    close(fds[1]);
}

static void closed_socket_is_reported_once(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    open_fd(f, pair[0], pair[0]);
    close(pair[0]);
    take(f);
    put(pair[1], "last");
    close(pair[1]);
    assert_int_equal(vmm_chardev_write(f->chardev, "abc", 3), 3);
    settle(f);
    assert_string_equal(f->text, "last");
    assert_int_equal(f->closed, 1);
}

static void half_closed_socket_still_gets_output(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    open_fd(f, pair[0], pair[0]);
    close(pair[0]);
    take(f);
    put(pair[1], "done");
    shutdown(pair[1], SHUT_WR);
    settle(f);
    assert_string_equal(f->text, "done");
    assert_int_equal(f->closed, 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "answer", 6), 6);
    expect_read(pair[1], "answer");
    close(pair[1]);
    settle(f);
    assert_int_equal(f->closed, 1);
}

static void plain_files_are_read_to_their_end(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char text[6001];
    for (int i = 0; i < 6000; i++)
        text[i] = (char)('a' + i % 26);
    text[6000] = '\0';
    put(fd, text);
    lseek(fd, 0, SEEK_SET);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    open_fd(f, fd, null);
    close(fd);
    close(null);
    settle(f);
    f->room = 10;
    take(f);
    settle(f);
    assert_int_equal(f->length, 10);
    f->room = SIZE_MAX;
    vmm_chardev_accept(f->chardev);
    settle(f);
    assert_string_equal(f->text, text);
    assert_int_equal(vmm_chardev_write(f->chardev, "gone", 4), 4);
}

static void last_reference_may_go_in_a_callback(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    open_fd(f, pair[0], pair[0]);
    take(f);
    f->drop_in_receive = true;
    put(pair[1], "x");
    settle(f);
    assert_null(f->chardev);
    close(pair[0]);
    close(pair[1]);
}

/* Unix sockets --------------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void unix_listener_serves_one_peer_after_the_other(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    mode_t mask = umask(0);
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &f->chardev, NULL), 0);
    umask(mask);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_string_equal(vmm_chardev_path(f->chardev), f->path);
    take(f);
    assert_int_equal(vmm_chardev_write(f->chardev, "lost", 4), 4); /* nobody there: dropped */
    for (int i = 1; i <= 3; i++) {
        int peer = connect_to(f->path);
        settle(f);
        assert_int_equal(f->opened, i);
        int second = connect_to(f->path); /* waits its turn */
        settle(f);
        assert_int_equal(f->opened, i);
        close(second);
        put(peer, "in");
        settle(f);
        assert_int_equal(vmm_chardev_write(f->chardev, "out", 3), 3);
        expect_read(peer, "out");
        close(peer);
        dispatch_until(f, &f->closed, i);
        settle(f); /* the second one comes and has gone */
        f->opened = i;
        f->closed = i;
    }
    assert_string_equal(f->text, "ininin");
    vmm_chardev_set_user(f->chardev, NULL, NULL);
    f->chardev = vmm_chardev_unref(f->chardev);
    assert_int_equal(stat(f->path, &st), -1);
}

static void unread_input_does_not_keep_the_next_peer_out(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &f->chardev, NULL), 0);
    f->room = 0;
    take(f);
    int peer = connect_to(f->path);
    put(peer, "typed early");
    settle(f);
    close(peer);
    dispatch_until(f, &f->closed, 1);
    f->room = 5;
    vmm_chardev_accept(f->chardev);
    settle(f);
    assert_string_equal(f->text, "typed"); /* what was sent is still there */
    peer = connect_to(f->path);
    settle(f);
    assert_int_equal(f->opened, 2);
    f->room = SIZE_MAX;
    vmm_chardev_accept(f->chardev);
    put(peer, "!");
    settle(f);
    assert_string_equal(f->text, "typed!"); /* the first one's rest went with it */
    close(peer);
    settle(f);
}

static void full_unix_socket_whose_peer_goes_lets_the_user_go_on(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &f->chardev, NULL), 0);
    take(f);
    int peer = connect_to(f->path);
    settle(f);
    uint8_t next = 0;
    assert_true(fill(f, &next) > 0);
    settle(f);
    assert_int_equal(f->writable, 0);
    close(peer);
    dispatch_until(f, &f->closed, 1);
    assert_true(f->writable > 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "x", 1), 1);
    settle(f);
}

static void unix_connects_and_errors_have_texts(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, false, &f->chardev, &err), -ENOENT);
    assert_non_null(strstr(err.text, f->path));
    struct vmm_chardev *listener, *third = NULL;
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &listener, &err), 0);
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &third, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, "remove it"));
    assert_int_equal(access(f->path, F_OK), 0); /* and it is still the first one's */
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, false, &f->chardev, &err), 0);
    take(f);
    settle(f);
    assert_int_equal(vmm_chardev_write(listener, "hi", 2), 2);
    settle(f);
    assert_string_equal(f->text, "hi");
    vmm_chardev_unref(listener);
    settle(f);
    assert_int_equal(f->closed, 1);
    char longer[200];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(vmm_chardev_new_unix(f->loop, longer, true, &third, &err), -ENAMETOOLONG);
    assert_int_equal(vmm_chardev_new_unix(f->loop, "/nowhere/x", true, &third, &err), -ENOENT);
    assert_null(third);
}

static void a_shortage_of_descriptors_does_not_spin(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_unix(f->loop, f->path, true, &f->chardev, NULL), 0);
    take(f);
    int peer = connect_to(f->path);
    struct rlimit old, low = {3, 3};
    getrlimit(RLIMIT_NOFILE, &old);
    low.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_NOFILE, &low);
    int callbacks = 0;
    for (int i = 0; i < 50; i++)
        callbacks += vmm_loop_dispatch(f->loop, 2);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_true(callbacks < 5);
    dispatch_until(f, &f->opened, 1);
    close(peer);
    settle(f);
}

/* Pseudo-terminals ----------------------------------------------------------------------------- */

static void pty_survives_its_peers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_pty(f->loop, &f->chardev, NULL), 0);
    take(f);
    dispatch_until(f, &f->closed, 1);
    for (int i = 0; i < 100; i++) /* nobody there: never full */
        assert_int_equal(vmm_chardev_write(f->chardev, f->text, 4096), 4096);
    for (int i = 1; i <= 2; i++) {
        int peer = open(vmm_chardev_path(f->chardev), O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_true(peer >= 0);
        dispatch_until(f, &f->opened, i);
        tcflush(peer, TCIFLUSH);
        put(peer, "a\rb\n\x03"); /* raw: CR stays CR, Ctrl-C is a byte, no echo */
        settle(f);
        assert_int_equal(vmm_chardev_write(f->chardev, "x\r\n", 3), 3);
        expect_read(peer, "x\r\n");
        close(peer);
        dispatch_until(f, &f->closed, i + 1);
    }
    assert_string_equal(f->text, "a\rb\n\x03"
                                 "a\rb\n\x03");
}

static void full_pty_takes_nothing_until_read_and_drops_when_closed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_chardev_new_pty(f->loop, &f->chardev, NULL), 0);
    int peer = open(vmm_chardev_path(f->chardev), O_RDWR | O_NOCTTY | O_CLOEXEC);
    backpressure_on(f, peer);
    uint8_t next = 0;
    assert_true(fill(f, &next) > 0);
    f->writable = 0;
    close(peer);
    dispatch_until(f, &f->closed, 1);
    assert_true(f->writable > 0);
    assert_int_equal(vmm_chardev_write(f->chardev, "x", 1), 1);
}

/* Standard input and output -------------------------------------------------------------------- */

static void on_escape(void *ctx, uint8_t key)
{
    struct fixture *f = ctx;
    f->keys[strlen(f->keys)] = (char)key;
}

struct redirected {
    int in, out;
    int master;
};

/* Put a terminal in place of standard input and output. */
static void redirect(struct redirected *r)
{
    r->in = dup(0);
    r->out = dup(1);
    r->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(grantpt(r->master), 0);
    assert_int_equal(unlockpt(r->master), 0);
    int slave = open(ptsname(r->master), O_RDWR | O_NOCTTY);
    fflush(stdout);
    dup2(slave, 0);
    dup2(slave, 1);
    close(slave);
}

static void give_back(struct redirected *r)
{
    dup2(r->in, 0);
    dup2(r->out, 1);
    close(r->in);
    close(r->out);
    close(r->master);
}

static bool same_settings(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
           a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

static void stdio_is_raw_filters_its_prefix_and_gives_the_terminal_back(void **state)
{
    struct fixture *f = *state;
    struct redirected r;
    struct termios before, during, restored, after;
    redirect(&r);
    tcgetattr(0, &before);
    int ret = vmm_chardev_new_stdio(f->loop, 1, on_escape, f, &f->chardev, NULL);
    tcgetattr(0, &during);
    int flags = fcntl(0, F_GETFL);
    f->room = 3;
    if (ret == 0) {
        vmm_chardev_set_user(f->chardev, &user, f);
        put(r.master, "ab\r\x01\x01\x01h\x03\x01x");
        for (int i = 0; i < 10; i++)
            vmm_loop_dispatch(f->loop, 10);
    }
    char keys_early[8];
    strcpy(keys_early, f->keys);
    f->room = SIZE_MAX;
    vmm_chardev_accept(f->chardev);
    for (int i = 0; i < 10; i++)
        vmm_loop_dispatch(f->loop, 10);
    long written = vmm_chardev_write(f->chardev, "o\r\n", 3);
    expect_read(r.master, "o\r\n");
    vmm_chardev_restore_terminal(f->chardev);
    tcgetattr(0, &restored);
    vmm_chardev_restore_terminal(f->chardev);
    vmm_chardev_set_user(f->chardev, NULL, NULL);
    f->chardev = vmm_chardev_unref(f->chardev);
    tcgetattr(0, &after);
    give_back(&r);
    assert_int_equal(ret, 0);
    assert_int_equal(during.c_lflag & (ICANON | ECHO | ISIG), 0);
    assert_int_equal(during.c_iflag & (ICRNL | IXON), 0);
    assert_int_equal(flags & O_NONBLOCK, 0);
    assert_int_equal(written, 3);
    assert_string_equal(keys_early, "hx"); /* seen though the guest took only three bytes */
    assert_string_equal(f->text, "ab\r\x01\x03");
    assert_true(same_settings(&before, &restored));
    assert_true(same_settings(&before, &after));
}

static void stdio_that_takes_nothing_neither_spins_nor_grows(void **state)
{
    struct fixture *f = *state;
    int saved = dup(0), fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    dup2(fds[0], 0);
    close(fds[0]);
    int ret = vmm_chardev_new_stdio(f->loop, 1, on_escape, f, &f->chardev, NULL);
    dup2(saved, 0);
    close(saved);
    assert_int_equal(ret, 0);
    f->room = 0;
    take(f);
    char block[1000];
    memset(block, 'k', sizeof(block));
    for (int i = 0; i < 6; i++) {
        put(fds[1], "kkkk");
        assert_int_equal(write(fds[1], block, sizeof(block)), 1000);
        settle(f);
    }
    assert_int_equal(f->length, 0);
    f->room = SIZE_MAX;
    vmm_chardev_accept(f->chardev);
    settle(f);
    assert_int_equal(f->length, 6 * 1004);
    close(fds[1]);
    settle(f);
}

static void closed_stdio_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    int saved = dup(0);
    close(0);
    int ret = vmm_chardev_new_stdio(f->loop, 0, NULL, NULL, &f->chardev, &err);
    dup2(saved, 0);
    close(saved);
    assert_int_equal(ret, -EBADF);
    assert_non_null(strstr(err.text, "input"));
}

/* In a child that dies by a signal, as a launcher would do it. */
static struct vmm_chardev *child_chardev;

static void on_term(int number)
{
    (void)number;
    vmm_chardev_restore_terminal(child_chardev);
    _exit(9);
}

static void terminal_is_restored_from_a_signal_handler(void **state)
{
    struct fixture *f = *state;
    struct redirected r;
    struct termios before, after;
    redirect(&r);
    tcgetattr(0, &before);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGTERM, on_term);
        if (vmm_chardev_new_stdio(f->loop, 1, NULL, NULL, &child_chardev, NULL) == 0)
            raise(SIGTERM);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    tcgetattr(0, &after);
    give_back(&r);
    assert_int_equal(WEXITSTATUS(status), 9);
    assert_true(same_settings(&before, &after));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chardev_has_one_user),
        TEST(bad_arguments_are_refused),
        TEST(giving_up_waits_for_the_callback),
        TEST(memory_keeps_the_last_bytes),
        TEST(callback_gets_output),
        TEST(file_is_appended_to),
        TEST(file_that_cannot_be_written_is_named),
        TEST(fd_passes_bytes_both_ways),
        TEST(fd_leaves_the_flags_of_the_file_alone),
        TEST(fd_reads_no_more_than_the_user_has_room_for),
        TEST(an_accept_before_the_pause_is_not_lost),
        TEST(full_pipe_takes_nothing_until_writable),
        TEST(full_socket_takes_nothing_until_writable),
        TEST(full_blocking_terminal_does_not_block),
        TEST(closed_pipe_drops_output_without_sigpipe),
        TEST(write_finds_the_pipe_closed),
        TEST(closed_socket_is_reported_once),
        TEST(half_closed_socket_still_gets_output),
        TEST(plain_files_are_read_to_their_end),
        TEST(last_reference_may_go_in_a_callback),
        TEST(unix_listener_serves_one_peer_after_the_other),
        TEST(unread_input_does_not_keep_the_next_peer_out),
        TEST(full_unix_socket_whose_peer_goes_lets_the_user_go_on),
        TEST(unix_connects_and_errors_have_texts),
        TEST(a_shortage_of_descriptors_does_not_spin),
        TEST(pty_survives_its_peers),
        TEST(full_pty_takes_nothing_until_read_and_drops_when_closed),
        TEST(stdio_is_raw_filters_its_prefix_and_gives_the_terminal_back),
        TEST(stdio_that_takes_nothing_neither_spins_nor_grows),
        TEST(closed_stdio_is_an_error),
        TEST(terminal_is_restored_from_a_signal_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
