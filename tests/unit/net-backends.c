/* SPDX-License-Identifier: BSD-3-Clause */
/* Unfinished frames, captures, the user-mode network, and tap interfaces. */
#include "test.h"

#include <libvmm/net.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALL (VMM_NET_CSUM | VMM_NET_TSO4 | VMM_NET_TSO6 | VMM_NET_ECN | VMM_NET_UFO)

struct port {
    struct vmm_net *net;
    bool full;
    unsigned frames, writable, refused, links;
    struct vmm_net_frame last;
    size_t length;
    uint8_t data[VMM_NET_FRAME_MAX];
    bool marked[256]; /* which of make_local()'s frames have come */
};

struct fixture {
    struct vmm_loop *loop;
    struct port a, b;
    uint32_t offloads, queues; /* as the backend was told */
    int fd;
    char path[64];
};

static size_t gather(const struct vmm_net_frame *frame, uint8_t *to)
{
    size_t length = 0;
    for (size_t i = 0; i < frame->count; i++) {
        memcpy(to + length, frame->pieces[i].iov_base, frame->pieces[i].iov_len);
        length += frame->pieces[i].iov_len;
    }
    return length;
}

static int on_frame(void *ctx, const struct vmm_net_frame *frame)
{
    struct port *p = ctx;
    if (p->full) {
        p->refused++;
        return -EAGAIN;
    }
    p->frames++;
    p->last = *frame;
    p->length = gather(frame, p->data);
    if (p->length == 64 && p->data[12] == 0x88)
        p->marked[p->data[20]] = true;
    return 0;
}

static void on_writable(void *ctx)
{
    ((struct port *)ctx)->writable++;
}

static void on_link(void *ctx, bool up)
{
    (void)up;
    ((struct port *)ctx)->links++;
}

static const struct vmm_net_user user = {sizeof(user), on_frame, on_writable, on_link};

static int own_send(void *ctx, const struct vmm_net_frame *frame)
{
    return on_frame(&((struct fixture *)ctx)->b, frame);
}

static int own_offloads(void *ctx, uint32_t offloads)
{
    ((struct fixture *)ctx)->offloads = offloads;
    return 0;
}

static int own_queues(void *ctx, uint32_t queues)
{
    ((struct fixture *)ctx)->queues = queues;
    return 0;
}

static const struct vmm_net_ops own = {.size = sizeof(own),
                                       .send = own_send,
                                       .offloads = VMM_NET_CSUM | VMM_NET_TSO4,
                                       .queues = 2,
                                       .set_offloads = own_offloads,
                                       .set_queues = own_queues};

static void turn(struct fixture *f)
{
    for (int i = 0; i < 1000 && vmm_loop_dispatch(f->loop, 0) > 0; i++)
        ;
}

/* Until a port has so many frames; what comes after two seconds is not waited for. */
static void wait_frames(struct fixture *f, const struct port *p, unsigned frames)
{
    for (int i = 0; i < 200 && p->frames < frames; i++)
        (void)vmm_loop_dispatch(f->loop, 10);
    turn(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->fd = -1;
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
    if (f->fd >= 0)
        close(f->fd);
    if (f->path[0])
        unlink(f->path);
    free(f);
    return 0;
}

/* Unfinished frames ---------------------------------------------------------------------------- */

static int send_with(struct fixture *f, struct vmm_net_offload offload, uint32_t queue)
{
    static uint8_t bytes[100];
    const struct iovec piece = {bytes, sizeof(bytes)};
    const struct vmm_net_frame frame = {
        .pieces = &piece, .count = 1, .queue = queue, .offload = offload};
    return vmm_net_send_frame(f->a.net, &frame);
}

static int deliver_with(struct fixture *f, struct vmm_net_offload offload)
{
    static uint8_t bytes[100];
    const struct iovec piece = {bytes, sizeof(bytes)};
    const struct vmm_net_frame frame = {.pieces = &piece, .count = 1, .offload = offload};
    return vmm_net_deliver_frame(f->a.net, &frame);
}

static const struct vmm_net_offload csum = {.flags = 1, .csum_start = 34, .csum_offset = 16};
static const struct vmm_net_offload tso4 = {
    .flags = 1, .gso_type = 1, .gso_size = 40, .csum_start = 34, .csum_offset = 16};
static const struct vmm_net_offload tso6 = {
    .flags = 1, .gso_type = 4, .gso_size = 40, .csum_start = 54, .csum_offset = 16};

static void unfinished_frames_go_to_who_takes_them(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_net_new(&own, f, &f->a.net), 0);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    assert_int_equal(vmm_net_offloads(f->a.net), VMM_NET_CSUM | VMM_NET_TSO4);
    assert_int_equal(send_with(f, csum, 0), 0);
    assert_int_equal(f->b.last.offload.csum_start, 34);
    assert_int_equal(send_with(f, tso4, 1), 0);
    assert_int_equal(f->b.last.queue, 1);
    assert_int_equal(send_with(f, tso6, 0), -ENOTSUP);
    struct vmm_net_offload ecn = tso4;
    ecn.gso_type |= VMM_NET_GSO_ECN;
    assert_int_equal(send_with(f, ecn, 0), -ENOTSUP);
    assert_int_equal(deliver_with(f, csum), -ENOTSUP); /* not asked for yet */
    assert_int_equal(vmm_net_set_offloads(f->a.net, ALL), -ENOTSUP);
    assert_int_equal(vmm_net_set_offloads(f->a.net, VMM_NET_CSUM), 0);
    assert_int_equal(f->offloads, VMM_NET_CSUM);
    assert_int_equal(deliver_with(f, csum), 0);
    assert_int_equal(deliver_with(f, tso4), -ENOTSUP);
    assert_int_equal(f->a.frames, 1);
    assert_int_equal(vmm_net_set_user(f->a.net, NULL, NULL), 0);
    assert_int_equal(f->offloads, 0); /* the next user has not asked */
}

static void offloads_that_do_not_fit_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_net_new(&own, f, &f->a.net), 0);
    const struct vmm_net_offload bad[] = {
        {.flags = 1, .csum_start = 98, .csum_offset = 1},
        {.flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff},
        {.gso_type = 1, .gso_size = 0},
        {.gso_type = 2, .gso_size = 40},
        {.gso_type = 5, .gso_size = 40},
        {.gso_type = 0x80, .gso_size = 40},
        {.gso_type = 0x7f, .gso_size = 40},
        {.gso_type = 1, .gso_size = 40, .hdr_len = 101},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(send_with(f, bad[i], 0), -EINVAL);
    assert_int_equal(send_with(f, (struct vmm_net_offload){.flags = 1, .csum_start = 98}, 0), 0);
    assert_int_equal(send_with(f, csum, 2), -EINVAL);
    assert_int_equal(vmm_net_queues(f->a.net), 2);
    assert_int_equal(vmm_net_set_queues(f->a.net, 0), -EINVAL);
    assert_int_equal(vmm_net_set_queues(f->a.net, 3), -EINVAL);
    assert_int_equal(vmm_net_set_queues(f->a.net, 1), 0);
    assert_int_equal(f->queues, 1);
    assert_int_equal(vmm_net_send_frame(f->a.net, NULL), -EINVAL);
    assert_int_equal(vmm_net_deliver_frame(NULL, NULL), -EINVAL);
    assert_int_equal(vmm_net_set_offloads(NULL, 0), -EINVAL);
    assert_int_equal(vmm_net_offloads(NULL), 0);
    assert_int_equal(vmm_net_queues(NULL), 1);
    struct vmm_net_ops ops = own;
    ops.queues = VMM_NET_QUEUES_MAX + 1;
    assert_int_equal(vmm_net_new(&ops, f, &f->b.net), -EINVAL);
    ops.queues = 1;
    ops.offloads = 0x20;
    assert_int_equal(vmm_net_new(&ops, f, &f->b.net), -EINVAL);
}

/* Captures ------------------------------------------------------------------------------------- */

static void make_file(struct fixture *f)
{
    strcpy(f->path, "/tmp/vmm-pcap-XXXXXX");
    f->fd = mkstemp(f->path);
    assert_true(f->fd >= 0);
}

static void capture_over_a_pair(struct fixture *f)
{
    struct vmm_net *below;
    assert_int_equal(vmm_net_new_pair(f->loop, f->loop, &below, &f->b.net, NULL), 0);
    assert_int_equal(vmm_net_new_pcap(below, f->fd, &f->a.net, NULL), 0);
    vmm_net_unref(below);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    assert_int_equal(vmm_net_set_user(f->b.net, &user, &f->b), 0);
    turn(f); /* new users are asked whether they take what may wait */
}

static int send_text(struct vmm_net *net, const char *text)
{
    const struct iovec pieces[] = {{(void *)(uintptr_t)text, 2},
                                   {(void *)(uintptr_t)(text + 2), strlen(text + 2)}};
    return vmm_net_send(net, pieces, 2);
}

static void captures_hold_each_frame_once(void **state)
{
    struct fixture *f = *state;
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zeros[2], length, link;
    } header;
    static const char *const wanted[] = {"out of here", "into here"};
    make_file(f);
    capture_over_a_pair(f);
    assert_int_equal(send_text(f->a.net, wanted[0]), 0);
    f->a.full = true; /* comes, is refused, and comes again */
    assert_int_equal(send_text(f->b.net, wanted[1]), 0);
    turn(f);
    assert_int_equal(f->a.refused, 1);
    f->a.full = false;
    vmm_net_accept(f->a.net);
    turn(f);
    assert_int_equal(f->a.frames, 1);
    assert_int_equal(f->b.frames, 1);
    assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
    assert_int_equal(read(f->fd, &header, sizeof(header)), 24);
    assert_int_equal(header.magic, 0xa1b23c4d);
    assert_int_equal(header.major, 2);
    assert_int_equal(header.minor, 4);
    assert_int_equal(header.link, 1);
    for (int i = 0; i < 2; i++) {
        uint32_t record[4];
        char data[64] = {0};
        assert_int_equal(read(f->fd, record, sizeof(record)), 16);
        assert_true(record[0] > 1700000000 && record[1] < 1000000000);
        assert_int_equal(record[2], strlen(wanted[i]));
        assert_int_equal(record[3], record[2]);
        assert_int_equal(read(f->fd, data, record[2]), record[2]);
        assert_string_equal(data, wanted[i]);
    }
    assert_int_equal(read(f->fd, &header, 1), 0);
    f->b.net = vmm_net_unref(f->b.net);
    turn(f);
    assert_int_equal(f->a.links, 1);
    assert_false(vmm_net_link(f->a.net));
}

static void frames_go_on_when_the_capture_cannot(void **state)
{
    struct fixture *f = *state;
    int pipe_fds[2];
    static char data[4096];
    const struct iovec piece = {data, sizeof(data)};
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK), 0);
    f->fd = pipe_fds[1];
    capture_over_a_pair(f);
    for (unsigned i = 0; i < 100; i++) { /* more than a pipe holds */
        assert_int_equal(vmm_net_send(f->a.net, &piece, 1), 0);
        turn(f);
    }
    assert_int_equal(f->b.frames, 100);
    close(pipe_fds[0]);
}

static void captures_pass_on_what_is_below(void **state)
{
    struct fixture *f = *state;
    struct vmm_net *below;
    make_file(f);
    assert_int_equal(vmm_net_new(&own, f, &below), 0);
    assert_int_equal(vmm_net_new_pcap(below, f->fd, &f->a.net, NULL), 0);
    assert_int_equal(vmm_net_new_pcap(below, f->fd, &f->b.net, NULL), -EBUSY);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    assert_int_equal(vmm_net_offloads(f->a.net), own.offloads);
    assert_int_equal(vmm_net_queues(f->a.net), 2);
    assert_int_equal(vmm_net_set_queues(f->a.net, 1), 0);
    assert_int_equal(f->queues, 1);
    assert_int_equal(vmm_net_set_offloads(f->a.net, VMM_NET_CSUM), 0);
    assert_int_equal(f->offloads, VMM_NET_CSUM);
    assert_int_equal(send_with(f, tso4, 1), 0);
    assert_int_equal(f->b.last.offload.gso_size, 40);
    assert_int_equal(f->b.last.queue, 1);
    vmm_net_writable(below);
    assert_int_equal(f->a.writable, 1);
    vmm_net_set_link(below, false);
    assert_int_equal(f->a.links, 1);
    vmm_net_unref(below);
    int full = open("/dev/full", O_WRONLY);
    assert_int_equal(vmm_net_new_pcap(f->a.net, full, &f->b.net, NULL), -ENOSPC);
    close(full);
    assert_int_equal(vmm_net_new_pcap(f->a.net, -1, &f->b.net, NULL), -EBADF);
    assert_int_equal(vmm_net_new_pcap(NULL, 0, &f->b.net, NULL), -EINVAL);
    assert_int_equal(send_with(f, csum, 0), -ENOTCONN); /* and its user is as it was */
}

/* User-mode network ---------------------------------------------------------------------------- */

static const uint8_t guest_mac[6] = {0x02, 0, 0, 0, 0, 1};

static void make_slirp(struct fixture *f, uint32_t restricted, uint32_t loopback)
{
    struct vmm_net_slirp_options o = VMM_NET_SLIRP_OPTIONS_INIT;
    o.restricted = restricted;
    o.host_loopback = loopback;
    o.hostname = "guest";
    int ret = vmm_net_new_slirp(f->loop, &o, &f->a.net, NULL);
    if (ret == -ENOTSUP) {
        print_message("built without libslirp\n");
        skip();
    }
    assert_int_equal(ret, 0);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
    turn(f);
    f->a.frames = 0; /* a router advertisement */
}

static int send_bytes(struct fixture *f, const void *data, size_t length)
{
    const struct iovec piece = {(void *)(uintptr_t)data, length};
    return vmm_net_send(f->a.net, &piece, 1);
}

/* ARP (RFC 826): who has the router? */
static size_t make_arp(uint8_t *p)
{
    static const uint8_t rest[] = {8, 6,  0, 1, 8,  0, 6, 4, 0, 1, 2, 0,  0, 0, 0,
                                   1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2};
    memset(p, 0xff, 6);
    memcpy(p + 6, guest_mac, 6);
    memcpy(p + 12, rest, sizeof(rest));
    return 12 + sizeof(rest);
}

static uint16_t ip_sum(const uint8_t *p, size_t length)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i += 2)
        sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* UDP over IPv4, without a checksum of its own. */
static size_t make_udp(uint8_t *p, uint32_t to, uint32_t from_port, uint32_t to_port,
                       const void *data, size_t length)
{
    uint32_t from = htonl(0x0a00020f), dest = htonl(to);
    memset(p, 0, 42);
    memset(p, to == UINT32_MAX ? 0xff : 0x52, 6);
    memcpy(p + 6, guest_mac, 6);
    put16(p + 12, 0x800);
    p[14] = 0x45;
    put16(p + 16, (uint32_t)length + 28);
    p[22] = 64;
    p[23] = 17;
    memcpy(p + 26, &from, 4);
    memcpy(p + 30, &dest, 4);
    put16(p + 24, ip_sum(p + 14, 20));
    put16(p + 34, from_port);
    put16(p + 36, to_port);
    put16(p + 38, (uint32_t)length + 8);
    memcpy(p + 42, data, length);
    return 42 + length;
}

static void the_router_answers(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64];
    make_slirp(f, 0, 0);
    assert_int_equal(send_bytes(f, frame, make_arp(frame)), 0);
    assert_int_equal(f->a.frames, 0); /* from the loop, not from inside of the call */
    wait_frames(f, &f->a, 1);
    assert_int_equal(f->a.frames, 1);
    assert_memory_equal(f->a.data, guest_mac, 6);
    assert_int_equal(f->a.data[21], 2); /* a reply */
    assert_memory_equal(f->a.data + 28, "\x0a\0\2\2", 4);
    static const uint8_t junk[] = {1, 2, 3};
    assert_int_equal(send_bytes(f, junk, sizeof(junk)), 0);
}

static void addresses_are_given_out(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[400], body[244] = {1, 1, 6, 0, 1, 2, 3, 4};
    memcpy(body + 28, guest_mac, 6);
    memcpy(body + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8); /* DISCOVER, RFC 2131 */
    make_slirp(f, 1, 0);
    assert_int_equal(send_bytes(f, frame, make_udp(frame, UINT32_MAX, 68, 67, body, 244)), 0);
    wait_frames(f, &f->a, 1);
    assert_int_equal(f->a.frames, 1);
    assert_memory_equal(f->a.data + 42 + 16, "\x0a\0\2\x0f", 4);                  /* yours */
    assert_memory_equal(f->a.data + 42 + 236, "\x63\x82\x53\x63\x35\x01\x02", 7); /* OFFER */
}

/* A datagram to 10.0.2.2; does one of the host's sockets get it? */
static bool host_hears(struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    uint8_t frame[100], data[16];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&address, &size), 0);
    uint32_t port = ntohs(address.sin_port);
    assert_int_equal(send_bytes(f, frame, make_arp(frame)), 0); /* so that it knows where we are */
    assert_int_equal(send_bytes(f, frame, make_udp(frame, 0x0a000202, 1000, port, "ping", 4)), 0);
    turn(f);
    struct pollfd p = {f->fd, POLLIN, 0};
    if (poll(&p, 1, 200) <= 0)
        return false;
    assert_int_equal(recvfrom(f->fd, data, sizeof(data), 0, (struct sockaddr *)&address, &size), 4);
    assert_memory_equal(data, "ping", 4);
    f->a.frames = 0;
    assert_int_equal(sendto(f->fd, "pong!", 5, 0, (struct sockaddr *)&address, size), 5);
    wait_frames(f, &f->a, 1);
    assert_int_equal(f->a.frames, 1);
    assert_memory_equal(f->a.data + 42, "pong!", 5);
    return true;
}

static void the_host_is_reached_where_allowed(void **state)
{
    struct fixture *f = *state;
    make_slirp(f, 0, 1);
    assert_true(host_hears(f));
}

static void the_host_is_not_reached_by_default(void **state)
{
    struct fixture *f = *state;
    make_slirp(f, 0, 0);
    assert_false(host_hears(f));
}

static void a_restricted_guest_reaches_nobody(void **state)
{
    struct fixture *f = *state;
    make_slirp(f, 1, 1);
    assert_false(host_hears(f));
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void forwarded_ports_reach_the_guest(void **state)
{
    struct fixture *f = *state;
    struct vmm_net_forward forward = VMM_NET_FORWARD_INIT;
    struct sockaddr_in address = {.sin_family = AF_INET};
    uint8_t frame[64];
    make_slirp(f, 1, 0); /* also where the guest may not go out */
    forward.host_port = free_port();
    forward.guest_port = 22;
    assert_int_equal(vmm_net_slirp_forward(f->a.net, &forward, NULL), 0);
    assert_int_equal(vmm_net_slirp_forward(f->a.net, &forward, NULL), -EADDRINUSE);
    assert_int_equal(send_bytes(f, frame, make_arp(frame)), 0);
    wait_frames(f, &f->a, 1);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)forward.host_port);
    f->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    wait_frames(f, &f->a, 2);
    assert_int_equal(f->a.frames, 2);
    assert_int_equal(f->a.data[23], 6);               /* TCP, */
    assert_memory_equal(f->a.data + 36, "\0\x16", 2); /* port 22, */
    assert_int_equal(f->a.data[47] & 0x3f, 2);        /* SYN */
    assert_int_equal(vmm_net_slirp_unforward(f->a.net, &forward, NULL), 0);
    assert_int_equal(vmm_net_slirp_unforward(f->a.net, &forward, NULL), -ENOENT);
    int again = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(again, (struct sockaddr *)&address, sizeof(address)), -1);
    close(again);
}

/* A host that sends without end to a guest that does not take: what waits is bounded. */
static void a_full_guest_holds_its_peers_up(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64];
    make_slirp(f, 0, 1);
    f->a.full = true;
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(send_bytes(f, frame, make_arp(frame)), 0);
    turn(f);
    f->a.full = false;
    vmm_net_accept(f->a.net);
    turn(f);
    assert_in_range(f->a.frames, 1000, 20000);
}

static void bad_slirp_arguments(void **state)
{
    struct fixture *f = *state;
    struct vmm_net_slirp_options o = VMM_NET_SLIRP_OPTIONS_INIT;
    struct vmm_net_forward forward = VMM_NET_FORWARD_INIT;
    char name[65];
    make_slirp(f, 0, 0);
    assert_int_equal(vmm_net_new_slirp(NULL, &o, &f->b.net, NULL), -EINVAL);
    o.mtu = 575;
    assert_int_equal(vmm_net_new_slirp(f->loop, &o, &f->b.net, NULL), -EINVAL);
    o.mtu = 65522;
    assert_int_equal(vmm_net_new_slirp(f->loop, &o, &f->b.net, NULL), -EINVAL);
    o.mtu = 0;
    memset(name, 'x', 64);
    name[64] = '\0';
    o.hostname = name;
    assert_int_equal(vmm_net_new_slirp(f->loop, &o, &f->b.net, NULL), -EINVAL);
    assert_int_equal(vmm_net_slirp_forward(f->a.net, &forward, NULL), -EINVAL);
    forward.host_port = forward.guest_port = 65536;
    assert_int_equal(vmm_net_slirp_forward(f->a.net, &forward, NULL), -EINVAL);
    forward.host_port = forward.guest_port = 80;
    forward.guest_address = "example";
    assert_int_equal(vmm_net_slirp_forward(f->a.net, &forward, NULL), -EINVAL);
    forward.guest_address = NULL;
    assert_int_equal(vmm_net_slirp_forward(NULL, &forward, NULL), -EINVAL);
    assert_int_equal(vmm_net_new(&own, f, &f->b.net), 0);
    assert_int_equal(vmm_net_slirp_forward(f->b.net, &forward, NULL), -EINVAL);
    assert_null(vmm_net_tap_name(f->b.net));
}

/* Tap interfaces ------------------------------------------------------------------------------- */

static void make_tap(struct fixture *f, uint32_t queues)
{
    struct vmm_net_tap_options o = VMM_NET_TAP_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    o.name = "vmmtest%d";
    o.queues = queues;
    int ret = vmm_net_new_tap(f->loop, &o, &f->a.net, &err);
    if (ret == -EPERM || ret == -ENOENT || ret == -EACCES || ret == -ENODEV) {
        print_message("%s\n", err.text);
        skip();
    }
    assert_int_equal(ret, 0);
    assert_int_equal(vmm_net_set_user(f->a.net, &user, &f->a), 0);
}

/* A socket that sees all of the interface's frames. */
static void raise_tap(struct fixture *f)
{
    struct ifreq ifr = {0};
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5)};
    strcpy(ifr.ifr_name, vmm_net_tap_name(f->a.net));
    f->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x88b5));
    assert_true(f->fd >= 0);
    ifr.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(f->fd, SIOCSIFFLAGS, &ifr), 0);
    assert_int_equal(ioctl(f->fd, SIOCGIFINDEX, &ifr), 0);
    address.sll_ifindex = ifr.ifr_ifindex;
    assert_int_equal(bind(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* A frame of a type that nobody else uses (IEEE 802 local experimental). */
static size_t make_local(uint8_t *p, uint8_t mark)
{
    memset(p, 0xff, 6);
    memcpy(p + 6, guest_mac, 6);
    put16(p + 12, 0x88b5);
    memset(p + 14, mark, 50);
    return 64;
}

static bool has_mark(const struct port *p, uint8_t mark)
{
    return p->marked[mark]; /* not the last frame: the kernel sends its own between ours */
}

static void frames_pass_a_tap(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64], in[64];
    make_tap(f, 1);
    raise_tap(f);
    assert_int_equal(vmm_net_offloads(f->a.net) & VMM_NET_TSO4, VMM_NET_TSO4);
    assert_int_equal(vmm_net_set_offloads(f->a.net, vmm_net_offloads(f->a.net)), 0);
    assert_int_equal(send_bytes(f, frame, make_local(frame, 7)), 0);
    struct pollfd p = {f->fd, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 1000), 1);
    assert_int_equal(recv(f->fd, in, sizeof(in), 0), 64);
    assert_memory_equal(in, frame, 64);
    f->a.full = true;
    assert_int_equal(send(f->fd, frame, make_local(frame, 8), 0), 64);
    turn(f);
    assert_int_equal(f->a.frames, 0);
    assert_true(f->a.refused > 0);
    f->a.full = false;
    vmm_net_accept(f->a.net);
    for (int i = 0; i < 100 && !has_mark(&f->a, 8); i++) /* the kernel's own come too */
        (void)vmm_loop_dispatch(f->loop, 10);
    assert_true(has_mark(&f->a, 8));
}

static void the_end_of_a_tap(void **state)
{
    struct fixture *f = *state;
    char command[64];
    make_tap(f, 1);
    (void)snprintf(command, sizeof(command), "ip link del %s", vmm_net_tap_name(f->a.net));
    if (system(command) != 0) {
        print_message("there is no program \"ip\"\n");
        skip();
    }
    for (int i = 0; i < 100 && f->a.links == 0; i++)
        (void)vmm_loop_dispatch(f->loop, 10);
    assert_int_equal(f->a.links, 1);
    assert_false(vmm_net_link(f->a.net));
    turn(f);
    assert_int_equal(vmm_loop_dispatch(f->loop, 0), 0); /* and nothing spins */
}

static void taps_with_queues(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64];
    make_tap(f, 4);
    raise_tap(f);
    assert_int_equal(vmm_net_queues(f->a.net), 4);
    assert_int_equal(vmm_net_set_queues(f->a.net, 1), 0);
    for (uint8_t i = 1; i < 20; i++) {
        assert_int_equal(send(f->fd, frame, make_local(frame, i), 0), 64);
        for (int n = 0; n < 100 && !has_mark(&f->a, i); n++)
            (void)vmm_loop_dispatch(f->loop, 10);
        assert_true(has_mark(&f->a, i));
        assert_int_equal(f->a.last.queue, 0);
    }
    assert_int_equal(vmm_net_set_queues(f->a.net, 4), 0);
    const struct iovec piece = {frame, make_local(frame, 1)};
    const struct vmm_net_frame out = {.pieces = &piece, .count = 1, .queue = 3};
    assert_int_equal(vmm_net_send_frame(f->a.net, &out), 0);
}

static void bad_tap_arguments(void **state)
{
    struct fixture *f = *state;
    struct vmm_net_tap_options o = VMM_NET_TAP_OPTIONS_INIT;
    int fds[] = {0};
    assert_int_equal(vmm_net_new_tap(f->loop, NULL, &f->a.net, NULL), -EINVAL);
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -EINVAL);
    o.name = "a-name-that-is-too-long";
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -ENAMETOOLONG);
    o.queues = VMM_NET_QUEUES_MAX + 1;
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -EINVAL);
    o.queues = 1;
    o.fds = fds;
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -EINVAL);
    o.name = NULL;
    fds[0] = open("/dev/null", O_RDWR);
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -EINVAL);
    close(fds[0]);
    fds[0] = -1;
    assert_int_equal(vmm_net_new_tap(f->loop, &o, &f->a.net, NULL), -EBADF);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unfinished_frames_go_to_who_takes_them),
        TEST(offloads_that_do_not_fit_are_refused),
        TEST(captures_hold_each_frame_once),
        TEST(frames_go_on_when_the_capture_cannot),
        TEST(captures_pass_on_what_is_below),
        TEST(the_router_answers),
        TEST(addresses_are_given_out),
        TEST(the_host_is_reached_where_allowed),
        TEST(the_host_is_not_reached_by_default),
        TEST(a_restricted_guest_reaches_nobody),
        TEST(forwarded_ports_reach_the_guest),
        TEST(a_full_guest_holds_its_peers_up),
        TEST(bad_slirp_arguments),
        TEST(frames_pass_a_tap),
        TEST(the_end_of_a_tap),
        TEST(taps_with_queues),
        TEST(bad_tap_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
