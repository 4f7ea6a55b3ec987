/* SPDX-License-Identifier: BSD-3-Clause */
/* Network backends: frames whole and in order, flow control both ways, peers that lie and leave. */
#include <libvmm/net.h>

#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct port {
    struct vmm_net *net;
    bool full, drop;
    uint8_t last[VMM_NET_FRAME_MAX];
    size_t length;
    unsigned frames, writable, downs;
};

struct fixture {
    struct vmm_loop *loop;
    struct port a, b;
    int peer;
};

static int on_frame(void *ctx, const struct vmm_net_frame *frame)
{
    const struct iovec *pieces = frame->pieces;
    size_t count = frame->count;
    struct port *p = ctx;
    if (p->full)
        return -EAGAIN;
    p->length = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(p->last + p->length, pieces[i].iov_base, pieces[i].iov_len);
        p->length += pieces[i].iov_len;
    }
    p->frames++;
    if (p->drop)
        p->net = vmm_net_unref(p->net);
    return 0;
}

static void on_writable(void *ctx)
{
    ((struct port *)ctx)->writable++;
}

static void on_link(void *ctx, bool up)
{
    assert_false(up);
    ((struct port *)ctx)->downs++;
}

static const struct vmm_net_user user = {sizeof(user), on_frame, on_writable, on_link};

static void turn(struct fixture *f)
{
    for (int i = 0; i < 200 && vmm_loop_dispatch(f->loop, 0) > 0; i++)
        ;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->peer = -1;
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vmm_net_unref(f->a.net);
    vmm_net_unref(f->b.net);
    vmm_loop_unref(f->loop);
    if (f->peer >= 0)
        close(f->peer);
    free(f);
    return 0;
}

static void make_pair(struct fixture *f)
{
    assert_int_equal(vmm_net_new_pair(f->loop, f->loop, &f->a.net, &f->b.net, NULL), 0);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    assert_int_equal(vmm_net_set_user(f->b.net, &user, &f->b), 0);
}

static void make_socket(struct fixture *f, int type)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(vmm_net_new_socket(f->loop, fds[0], &f->a.net, NULL), 0);
    close(fds[0]);
    f->peer = fds[1];
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
}

static int send_text(struct vmm_net *net, const char *text)
{
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    return vmm_net_send(net, &piece, 1);
}

static void assert_frame(const struct port *p, const char *text)
{
    assert_int_equal(p->length, strlen(text));
    assert_memory_equal(p->last, text, p->length);
}

static void pair_carries_frames_both_ways(void **state)
{
    struct fixture *f = *state;
    make_pair(f);
    struct iovec pieces[] = {{"one", 3}, {NULL, 0}, {" frame", 6}};
    assert_int_equal(vmm_net_send(f->a.net, pieces, 3), 0);
    assert_int_equal(send_text(f->b.net, "another"), 0);
    turn(f);
    assert_frame(&f->b, "one frame");
    assert_frame(&f->a, "another");
    static uint8_t largest[VMM_NET_FRAME_MAX + 1];
    struct iovec piece = {largest, VMM_NET_FRAME_MAX};
    assert_int_equal(vmm_net_send(f->a.net, &piece, 1), 0);
    turn(f);
    assert_int_equal(f->b.length, VMM_NET_FRAME_MAX);
}

static void the_other_port_gone_takes_the_link_down(void **state)
{
    struct fixture *f = *state;
    make_pair(f);
    for (int i = 0; i < 100; i++) /* more than a batch: all arrive before the end does */
        assert_int_equal(send_text(f->b.net, "last words"), 0);
    f->b.net = vmm_net_unref(f->b.net);
    turn(f);
    assert_int_equal(f->a.frames, 100);
    assert_int_equal(f->a.downs, 1);
    assert_false(vmm_net_link(f->a.net));
    assert_int_equal(send_text(f->a.net, "x"), -ENOTCONN);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0); /* and nothing spins */
}

static void messages_wait_for_a_full_user(void **state)
{
    struct fixture *f = *state;
    make_pair(f);
    f->b.full = true;
    unsigned sent = 0;
    while (sent < 100000 && send_text(f->a.net, sent == 0 ? "first" : "later") == 0)
        sent++;
    assert_in_range(sent, 1, 99999); /* nothing grows without bound */
    turn(f);
    assert_int_equal(f->b.frames, 0);
    f->b.full = false;
    vmm_net_accept(f->b.net);
    assert_int_equal(f->b.frames, 0); /* not inside of the call: the user holds its lock */
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 1);
    assert_true(f->b.frames > 0);
    turn(f);
    assert_int_equal(f->b.frames, sent);
    assert_frame(&f->b, "later");
    assert_true(f->a.writable > 0);
}

static void stream_has_the_length_before_the_frame(void **state)
{
    struct fixture *f = *state;
    char data[16];
    make_socket(f, SOCK_STREAM);
    assert_int_equal(send_text(f->a.net, "ping"), 0);
    assert_int_equal(recv(f->peer, data, sizeof(data), 0), 8);
    assert_memory_equal(data, "\0\0\0\4ping", 8);
    static const char in[] = "\0\0\0\2ab\0\0\0\3cde\0\0\0\1"; /* byte by byte */
    for (size_t i = 0; i + 1 < sizeof(in); i++) {
        assert_int_equal(send(f->peer, in + i, 1, 0), 1);
        turn(f);
    }
    assert_int_equal(f->a.frames, 2);
    assert_frame(&f->a, "cde");
}

static void stream_waits_for_a_full_user(void **state)
{
    struct fixture *f = *state;
    make_socket(f, SOCK_STREAM);
    f->a.full = true;
    assert_int_equal(send(f->peer, "\0\0\0\1x\0\0\0\2yz", 11, 0), 11);
    turn(f);
    assert_int_equal(f->a.frames, 0);
    f->a.full = false;
    vmm_net_accept(f->a.net);
    turn(f);
    assert_int_equal(f->a.frames, 2);
    assert_frame(&f->a, "yz");
}

static void full_stream_loses_no_part_of_a_frame(void **state)
{
    struct fixture *f = *state;
    static uint8_t frame[60001], in[1 << 20];
    make_socket(f, SOCK_STREAM);
    unsigned sent = 0;
    struct iovec piece = {frame, sizeof(frame)};
    for (memset(frame, 0x5a, sizeof(frame)); sent < 100; sent++)
        if (vmm_net_send(f->a.net, &piece, 1) == -EAGAIN)
            break;
    assert_in_range(sent, 1, 99);
    size_t length = 0;
    for (int i = 0; i < 1000; i++) {
        ssize_t n = recv(f->peer, in + length, sizeof(in) - length, 0);
        length += n > 0 ? (size_t)n : 0;
        turn(f);
    }
    assert_int_equal(length, sent * (sizeof(frame) + 4));
    for (size_t i = 0; i < length; i++)
        assert_int_equal(in[i], i % 60005 >= 4 ? 0x5a : "\0\0\xea\x61"[i % 60005] & 0xff);
    assert_true(f->a.writable > 0);
    assert_int_equal(vmm_net_send(f->a.net, &piece, 1), 0);
}

static void lying_peers_take_the_link_down(void **state)
{
    struct fixture *f = *state;
    static const char *const lies[] = {"\0\0\0\0", "\0\1\0\x0f", "\xff\xff\xff\xff"};
    for (size_t i = 0; i < 3; i++) {
        make_socket(f, SOCK_STREAM);
        assert_int_equal(send(f->peer, lies[i], 4, 0), 4);
        turn(f);
        assert_int_equal(f->a.downs, i + 1);
        assert_int_equal(f->a.frames, 0);
        assert_false(vmm_net_link(f->a.net));
        vmm_net_unref(f->a.net);
        close(f->peer);
    }
    make_socket(f, SOCK_STREAM);
    close(f->peer);
    f->peer = -1;
    turn(f);
    assert_int_equal(f->a.downs, 4);
}

static void datagrams_that_are_no_frames_are_dropped(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[VMM_NET_FRAME_MAX + 1];
    make_socket(f, SOCK_DGRAM);
    assert_int_equal(send(f->peer, data, 0, 0), 0);
    assert_int_equal(send(f->peer, data, sizeof(data), 0), sizeof(data));
    turn(f);
    assert_int_equal(f->a.frames, 0);
    assert_int_equal(send(f->peer, "frame", 5, 0), 5);
    turn(f);
    assert_frame(&f->a, "frame");
    assert_true(vmm_net_link(f->a.net));
}

static void last_reference_may_go_in_a_callback(void **state)
{
    struct fixture *f = *state;
    make_pair(f);
    f->b.drop = true;
    assert_int_equal(send_text(f->a.net, "x"), 0);
    turn(f);
    assert_null(f->b.net);
}

static void unix_path_is_connected_to(void **state)
{
    struct fixture *f = *state;
    struct vmm_error err = VMM_ERROR_INIT;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/vmm-net-XXXXXX";
    assert_non_null(mkdtemp(dir));
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
    assert_int_equal(vmm_net_new_unix(f->loop, address.sun_path, &f->a.net, &err), -ENOENT);
    assert_non_null(strstr(err.text, address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(vmm_net_new_unix(f->loop, address.sun_path, &f->a.net, NULL), 0);
    f->peer = accept(fd, NULL, NULL);
    assert_int_equal(send_text(f->a.net, "hello"), 0);
    char data[16];
    assert_int_equal(recv(f->peer, data, sizeof(data), 0), 9);
    close(fd);
    unlink(address.sun_path);
    rmdir(dir);
}

static int take(void *ctx, const struct vmm_net_frame *frame)
{
    *(size_t *)ctx += frame->count;
    return 0;
}

static void a_backend_of_ones_own(void **state)
{
    struct fixture *f = *state;
    size_t count = 0;
    struct vmm_net_ops ops = {.size = sizeof(ops), .send = take};
    struct iovec piece = {"in", 2};
    assert_int_equal(vmm_net_new(&ops, &count, &f->a.net), 0);
    assert_int_equal(vmm_net_deliver(f->a.net, &piece, 1), 0); /* nobody there: dropped */
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->b), -EBUSY);
    assert_int_equal(send_text(f->a.net, "out"), 0);
    assert_int_equal(count, 1);
    assert_int_equal(vmm_net_deliver(f->a.net, &piece, 1), 0);
    assert_frame(&f->a, "in");
    f->a.full = true;
    assert_int_equal(vmm_net_deliver(f->a.net, &piece, 1), -EAGAIN);
    vmm_net_writable(f->a.net);
    vmm_net_set_link(f->a.net, false);
    vmm_net_set_link(f->a.net, false);
    assert_int_equal(f->a.writable, 1);
    assert_int_equal(f->a.downs, 1);
    assert_int_equal(vmm_net_set_user(f->a.net, NULL, NULL), 0);
    vmm_net_writable(f->a.net);
    assert_int_equal(f->a.writable, 1);
}

static void bad_arguments_are_errors(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[VMM_NET_FRAME_MAX + 1];
    static struct iovec many[VMM_NET_PIECES_MAX + 1];
    struct vmm_net_ops ops = {.size = sizeof(ops)};
    struct iovec piece = {data, sizeof(data)}, wrap[] = {{data, 1}, {data, SIZE_MAX}};
    assert_int_equal(vmm_net_new(NULL, NULL, &f->a.net), -EINVAL);
    assert_int_equal(vmm_net_new(&ops, NULL, &f->a.net), -EINVAL);
    assert_int_equal(vmm_net_set_user(NULL, &user, NULL), -EINVAL);
    assert_int_equal(vmm_net_send(NULL, &piece, 1), -EINVAL);
    assert_int_equal(vmm_net_deliver(NULL, &piece, 1), -EINVAL);
    assert_int_equal(vmm_net_new_socket(f->loop, -1, &f->a.net, NULL), -EBADF);
    assert_int_equal(vmm_net_new_socket(f->loop, 0, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_net_new_socket(f->loop, vmm_loop_fd(f->loop), &f->a.net, NULL), -ENOTSOCK);
    assert_int_equal(vmm_net_new_unix(f->loop, "", &f->a.net, NULL), -EINVAL);
    memset(data, 'x', 200);
    assert_int_equal(vmm_net_new_unix(f->loop, (char *)data, &f->a.net, NULL), -ENAMETOOLONG);
    assert_int_equal(vmm_net_new_pair(f->loop, NULL, &f->a.net, &f->b.net, NULL), -EINVAL);
    make_pair(f);
    assert_int_equal(vmm_net_send(f->a.net, &piece, 1), -EMSGSIZE);
    assert_int_equal(vmm_net_send(f->a.net, wrap, 2), -EMSGSIZE);
    assert_int_equal(vmm_net_send(f->a.net, many, 1), -EMSGSIZE);
    assert_int_equal(vmm_net_send(f->a.net, many, VMM_NET_PIECES_MAX + 1), -EINVAL);
    assert_int_equal(vmm_net_send(f->a.net, NULL, 1), -EINVAL);
    vmm_net_accept(NULL);
    vmm_net_writable(NULL);
    vmm_net_set_link(NULL, true);
    assert_false(vmm_net_link(NULL));
    assert_null(vmm_net_unref(NULL));
    assert_null(vmm_net_ref(NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pair_carries_frames_both_ways),
        TEST(the_other_port_gone_takes_the_link_down),
        TEST(messages_wait_for_a_full_user),
        TEST(stream_has_the_length_before_the_frame),
        TEST(stream_waits_for_a_full_user),
        TEST(full_stream_loses_no_part_of_a_frame),
        TEST(lying_peers_take_the_link_down),
        TEST(datagrams_that_are_no_frames_are_dropped),
        TEST(last_reference_may_go_in_a_callback),
        TEST(unix_path_is_connected_to),
        TEST(a_backend_of_ones_own),
        TEST(bad_arguments_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
