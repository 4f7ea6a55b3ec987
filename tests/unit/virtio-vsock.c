/* SPDX-License-Identifier: BSD-3-Clause */
/* The socket device between a hand-written driver and programs on the host. */
#include "virtio-rings.h"

#include <libvmm/vsock.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CID         7u
#define HEADER      44u
#define BUFFER_SIZE 8192u
#define CONNECTIONS 4u

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct packet {
    uint64_t source_cid, target_cid;
    uint32_t source_port, target_port, length;
    uint16_t type, op;
    uint32_t flags, allocated, forwarded;
    uint8_t data[1024];
} __attribute__((packed));

struct fixture {
    struct driver d;
    struct test_ring to, from, events; /* the driver; in this order */
    char folder[48], path[64];
};

static int unix_socket(const char *path, uint32_t port, bool listening)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval second = {5, 0};
    if (port)
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s_%u", path, port);
    else
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
    if (listening) {
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(fd, 8), 0);
    } else {
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    }
    return fd;
}

static void restart(struct fixture *f)
{
    rings_start(&f->d, 0, &f->to, 3);
    for (int i = 0; i < 8; i++)
        ring_post(&f->to, NULL, HEADER + 1024, WRITE);
    ring_kick(&f->to);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    strcpy(f->folder, "/tmp/libvmm-vsock-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/v", f->folder);
    place.name = "vsock0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    o.cid = CID;
    o.path = f->path;
    o.connections = CONNECTIONS;
    o.buffer = BUFFER_SIZE;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    restart(f);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char path[80];
    driver_close(&f->d);
    (void)snprintf(path, sizeof(path), "%s_80", f->path);
    (void)unlink(path);
    assert_int_equal(rmdir(f->folder), 0); /* the socket went with the device */
    free(f);
    return 0;
}

static struct packet packet(uint16_t op, uint32_t host_port, uint32_t guest_port)
{
    return (struct packet){.source_cid = CID,
                           .target_cid = 2,
                           .source_port = guest_port,
                           .target_port = host_port,
                           .type = 1,
                           .op = op,
                           .allocated = 65536};
}

static void send_packet(struct fixture *f, const struct packet *p, uint32_t bytes)
{
    ring_send(&f->from, p, HEADER + bytes);
    assert_int_equal(ring_take(&f->from, NULL, 0), 0);
}

static void send_op(struct fixture *f, uint16_t op, uint32_t host_port, uint32_t guest_port,
                    uint32_t flags)
{
    struct packet p = packet(op, host_port, guest_port);
    p.flags = flags;
    send_packet(f, &p, 0);
}

static void send_data(struct fixture *f, uint32_t host_port, const void *data, uint32_t length)
{
    struct packet p = packet(RW, host_port, 1000);
    p.length = length;
    memcpy(p.data, data, length);
    send_packet(f, &p, length);
}

/* The next packet that the device sent; its buffer is offered again. false: none. */
static bool next_packet(struct fixture *f, struct packet *p)
{
    memset(p, 0, sizeof(*p));
    run(&f->d);
    int64_t n = ring_take(&f->to, p, sizeof(*p));
    if (n < 0)
        return false;
    assert_int_equal(n, HEADER + p->length);
    assert_int_equal(p->source_cid, 2);
    assert_int_equal(p->target_cid, CID);
    ring_post(&f->to, NULL, HEADER + 1024, WRITE);
    ring_kick(&f->to);
    return true;
}

static struct packet expect(struct fixture *f, uint16_t op)
{
    struct packet p;
    assert_true(next_packet(f, &p));
    assert_int_equal(p.op, op);
    return p;
}

static void expect_nothing(struct fixture *f)
{
    struct packet p;
    assert_false(next_packet(f, &p));
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS);
}

static void expect_text(int fd, const char *text)
{
    char buffer[64] = {0};
    assert_int_equal(recv(fd, buffer, strlen(text), MSG_WAITALL), (ssize_t)strlen(text));
    assert_string_equal(buffer, text);
}

static void expect_end(int fd)
{
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

/* A program on the host connects to guest port 1000; its descriptor, and the port it got. */
static int from_host(struct fixture *f, uint32_t *host_port)
{
    char text[32];
    int fd = unix_socket(f->path, 0, false);
    assert_int_equal(send(fd, "CONNECT 1000\nearly", 18, 0), 18);
    struct packet p = expect(f, REQUEST);
    assert_int_equal(p.target_port, 1000);
    assert_int_equal(p.type, 1);
    assert_int_equal(p.allocated, BUFFER_SIZE);
    *host_port = p.source_port;
    expect_nothing(f);
    send_op(f, RESPONSE, *host_port, 1000, 0);
    (void)snprintf(text, sizeof(text), "OK %u\n", *host_port);
    expect_text(fd, text);
    p = expect(f, RW);
    assert_memory_equal(p.data, "early", 5);
    assert_int_equal(p.length, 5);
    return fd;
}

/* The guest connects to port 80; the host's end. */
static int from_guest(struct fixture *f, int listener)
{
    send_op(f, REQUEST, 80, 1000, 0);
    struct packet p = expect(f, RESPONSE);
    assert_int_equal(p.source_port, 80);
    assert_int_equal(p.target_port, 1000);
    int fd = accept(listener, NULL, NULL);
    struct timeval second = {5, 0};
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
    return fd;
}

static void host_connects(void **state)
{
    struct fixture *f = *state;
    uint32_t port;
    assert_int_equal(reg(&f->d, 0x100), CID);
    assert_int_equal(reg(&f->d, 0x104), 0);
    int fd = from_host(f, &port);
    send_data(f, port, "to the host", 11);
    expect_text(fd, "to the host");
    assert_int_equal(send(fd, "to the guest", 12, 0), 12);
    struct packet p = expect(f, RW);
    assert_memory_equal(p.data, "to the guest", 12);
    assert_int_equal(p.forwarded, 11);
    assert_int_equal(p.target_port, 1000);
    close(fd);
    p = expect(f, SHUTDOWN);
    assert_int_equal(p.flags, 3);
    send_op(f, RST, port, 1000, 0);
    expect_nothing(f);
    send_data(f, port, "x", 1); /* it is gone */
    expect(f, RST);
}

static void guest_connects(void **state)
{
    struct fixture *f = *state;
    send_op(f, REQUEST, 80, 1000, 0); /* nobody listens */
    expect(f, RST);
    int listener = unix_socket(f->path, 80, true);
    int fd = from_guest(f, listener);
    send_data(f, 80, "question", 8);
    expect_text(fd, "question");
    assert_int_equal(send(fd, "answer", 6, 0), 6);
    struct packet p = expect(f, RW);
    assert_memory_equal(p.data, "answer", 6);
    send_op(f, SHUTDOWN, 80, 1000, 3);
    expect(f, RST);
    expect_end(fd);
    close(fd);
    fd = from_guest(f, listener); /* the same ports again */
    send_op(f, RST, 80, 1000, 0);
    expect_end(fd);
    expect_nothing(f);
    close(fd);
    close(listener);
}

static void half_closed(void **state)
{
    struct fixture *f = *state;
    uint32_t port;
    int fd = from_host(f, &port);
    shutdown(fd, SHUT_WR);
    struct packet p = expect(f, SHUTDOWN);
    assert_int_equal(p.flags, 2);
    send_data(f, port, "still", 5);
    expect_text(fd, "still");
    expect_nothing(f);
    close(fd);
    p = expect(f, SHUTDOWN);
    assert_int_equal(p.flags, 3);
    fd = from_host(f, &port);
    send_op(f, SHUTDOWN, port, 1000, 2);
    expect_end(fd);
    assert_int_equal(send(fd, "late", 4, 0), 4);
    p = expect(f, RW);
    assert_memory_equal(p.data, "late", 4);
    send_data(f, port, "x", 1); /* after it said that it would not */
    expect(f, RST);
    close(fd);
}

static void greetings(void **state)
{
    static const char *const wrong[] = {"HELLO\n",
                                        "CONNECT \n",
                                        "CONNECT -1\n",
                                        "CONNECT 4294967296\n",
                                        "CONNECT 1 2\n",
                                        "CONNECT 00000000000000000000000000001\n",
                                        "\n",
                                        "CONNECT 1\r\r\n",
                                        "connect 5\n"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int fd = unix_socket(f->path, 0, false);
        assert_true(send(fd, wrong[i], strlen(wrong[i]), 0) > 0);
        run(&f->d);
        char byte;
        assert_true(recv(fd, &byte, 1, 0) <= 0);
        close(fd);
        expect_nothing(f);
    }
    int fd = unix_socket(f->path, 0, false);
    const char *line = "CONNECT 5\r\n";
    for (size_t i = 0; line[i]; i++) { /* byte by byte */
        expect_nothing(f);
        assert_int_equal(send(fd, line + i, 1, 0), 1);
        run(&f->d);
    }
    struct packet p = expect(f, REQUEST);
    assert_int_equal(p.target_port, 5);
    send_op(f, RST, p.source_port, 5, 0); /* nobody listens in the guest */
    expect_end(fd);
    close(fd);
    fd = unix_socket(f->path, 0, false);
    assert_int_equal(send(fd, "CONNECT 6\n", 10, 0), 10);
    expect(f, REQUEST);
    close(fd); /* it does not wait for the answer */
    expect(f, RST);
    vmm_device_reset(vmm_virtio_device(f->d.virtio));
    fd = unix_socket(f->path, 0, false);
    assert_int_equal(send(fd, "CONNECT 6\n", 10, 0), 10);
    run(&f->d);
    expect_end(fd); /* no driver */
    close(fd);
}

/* The guest is ahead of a reader by its credit, and is told when there is room again. */
static void credit_of_the_guest(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024], got[1024];
    struct packet p;
    uint32_t sent = 0, forwarded = 0, updates = 0, read = 0;
    int listener = unix_socket(f->path, 80, true);
    int fd = from_guest(f, listener);
    for (int i = 0; i < 4000 && sent - forwarded + 1000 <= BUFFER_SIZE; i++, sent += 1000) {
        memset(data, (int)(sent / 1000 % 251), 1000);
        send_data(f, 80, data, 1000);
        while (next_packet(f, &p)) {
            assert_int_equal(p.op, CREDIT_UPDATE);
            forwarded = p.forwarded;
        }
    }
    assert_in_range(sent, 20000, 3999000); /* the socket's own buffer, and ours */
    for (; read < sent; read += 1000) {
        assert_int_equal(recv(fd, got, 1000, MSG_WAITALL), 1000);
        memset(data, (int)(read / 1000 % 251), 1000);
        assert_memory_equal(got, data, 1000);
        while (next_packet(f, &p)) {
            assert_int_equal(p.op, CREDIT_UPDATE);
            updates++;
        }
    }
    assert_true(updates >= 1);
    send_op(f, CREDIT_REQUEST, 80, 1000, 0);
    p = expect(f, CREDIT_UPDATE);
    assert_int_equal(p.forwarded, sent);
    assert_int_equal(p.allocated, BUFFER_SIZE);
    expect_nothing(f);
    close(fd);
    close(listener);
}

/* A guest that sends more than it may is cut off, and costs no more memory than its credit. */
static void guest_without_credit(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024] = {0};
    struct packet p = {0};
    int listener = unix_socket(f->path, 80, true);
    int fd = from_guest(f, listener);
    for (int i = 0; i < 4000 && p.op != RST; i++) {
        send_data(f, 80, data, 1000);
        (void)next_packet(f, &p);
    }
    assert_int_equal(p.op, RST);
    expect_nothing(f);
    send_data(f, 80, data, 1000);
    expect(f, RST);
    close(fd);
    close(listener);
}

static void credit_of_the_host(void **state)
{
    struct fixture *f = *state;
    uint8_t data[3000] = {0};
    struct packet p = packet(REQUEST, 80, 1000);
    int listener = unix_socket(f->path, 80, true);
    p.allocated = 1500;
    p.forwarded = 0xfffffff0; /* counters wrap */
    send_packet(f, &p, 0);
    expect(f, RESPONSE);
    int fd = accept(listener, NULL, NULL);
    assert_int_equal(send(fd, data, 3000, 0), 3000);
    p = expect(f, RW);
    assert_int_equal(p.length, 1024);
    p = expect(f, RW);
    assert_int_equal(p.length, 1500 - 1024);
    expect(f, CREDIT_REQUEST);
    expect_nothing(f);
    p = packet(CREDIT_UPDATE, 80, 1000);
    p.allocated = 1500;
    p.forwarded = 0xfffffff0 + 1000;
    send_packet(f, &p, 0);
    p = expect(f, RW);
    assert_int_equal(p.length, 1000);
    expect(f, CREDIT_REQUEST);
    p = packet(CREDIT_UPDATE, 80, 1000); /* has taken more than was sent */
    p.allocated = UINT32_MAX;
    p.forwarded = 0x70000000;
    send_packet(f, &p, 0);
    p = packet(CREDIT_UPDATE, 80, 1000);
    p.allocated = 100; /* less room than is under way */
    p.forwarded = 0xfffffff0 + 1000;
    (void)next_packet(f, &p);
    close(fd);
    close(listener);
}

static void wrong_packets(void **state)
{
    struct fixture *f = *state;
    static const uint16_t unknown[] = {0, RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST,
                                       8, 0xffff};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        send_op(f, unknown[i], 80, 1000, 0);
        struct packet p = expect(f, RST);
        assert_int_equal(p.source_port, 80);
        assert_int_equal(p.target_port, 1000);
    }
    send_op(f, RST, 80, 1000, 0); /* no answer to that */
    expect_nothing(f);
    struct packet p = packet(REQUEST, 80, 1000);
    p.type = 2;
    send_packet(f, &p, 0);
    p = expect(f, RST);
    assert_int_equal(p.type, 2);
    p = packet(REQUEST, 80, 1000);
    p.source_cid = CID | 1ull << 32;
    send_packet(f, &p, 0);
    p = packet(REQUEST, 80, 1000);
    p.target_cid = 3;
    send_packet(f, &p, 0);
    expect_nothing(f);
    int listener = unix_socket(f->path, 80, true);
    static const uint16_t fatal[] = {0, REQUEST, RESPONSE, 99};
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        int fd = from_guest(f, listener);
        send_op(f, fatal[i], 80, 1000, 0);
        expect(f, RST);
        expect_end(fd);
        close(fd);
    }
    close(listener);
}

static void broken_chains(void **state)
{
    struct fixture *f = *state;
    struct packet p = packet(RW, 80, 1000);
    p.length = 2;
    static const uint32_t lengths[] = {1, HEADER - 1, HEADER + 1};
    for (size_t i = 0; i < 3; i++) {
        ring_send(&f->from, &p, lengths[i]);
        assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
        restart(f);
    }
    rings_start(&f->d, 0, &f->to, 3);
    ring_post(&f->to, NULL, HEADER, WRITE); /* no room for data */
    ring_kick(&f->to);
    send_op(f, CREDIT_REQUEST, 80, 1000, 0);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
    restart(f);
    p = packet(REQUEST, 80, 1000);
    ring_post(&f->from, &p, HEADER, WRITE); /* to be written, not read */
    ring_kick(&f->from);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
}

/* Refusals wait for buffers, but not in any number. */
static void refusals_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct packet p;
    rings_start(&f->d, 0, &f->to, 3);
    uint32_t sent = 0, answered = 0;
    for (int i = 0; i < 100; i++) {
        p = packet(RW, 80, (uint32_t)i);
        if (f->from.avail - f->from.used == RING_SIZE)
            break;
        ring_send(&f->from, &p, HEADER);
        sent++;
        (void)ring_take(&f->from, NULL, 0);
    }
    assert_int_equal(sent, 64 + RING_SIZE);
    for (int i = 0; i < 8; i++)
        ring_post(&f->to, NULL, HEADER + 1024, WRITE);
    ring_kick(&f->to);
    while (next_packet(f, &p)) {
        assert_int_equal(p.op, RST);
        assert_int_equal(p.target_port, answered);
        answered++;
    }
    assert_int_equal(answered, sent);
}

static void connections_are_bounded(void **state)
{
    struct fixture *f = *state;
    int listener = unix_socket(f->path, 80, true);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        send_op(f, REQUEST, 80, 1000 + i, 0);
        expect(f, RESPONSE);
    }
    send_op(f, REQUEST, 80, 2000, 0);
    expect(f, RST);
    int fd = unix_socket(f->path, 0, false);
    run(&f->d);
    expect_end(fd);
    close(fd);
    send_op(f, RST, 80, 1001, 0);
    run(&f->d);
    send_op(f, REQUEST, 80, 2000, 0);
    expect(f, RESPONSE);
    restart(f); /* a reset ends them all */
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        send_op(f, REQUEST, 80, 1000 + i, 0);
        expect(f, RESPONSE);
    }
    close(listener);
}

/* What the guest sent before it closed arrives, though it does not wait. */
static void lingering(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024] = {0};
    struct packet p;
    uint32_t sent = 0, forwarded = 0, got = 0;
    int listener = unix_socket(f->path, 80, true);
    int fd = from_guest(f, listener);
    for (; sent - forwarded + 1000 <= BUFFER_SIZE; sent += 1000) {
        send_data(f, 80, data, 1000);
        while (next_packet(f, &p))
            forwarded = p.forwarded;
    }
    send_op(f, SHUTDOWN, 80, 1000, 3);
    expect_nothing(f);
    send_op(f, RST, 80, 1000, 0);
    send_op(f, CREDIT_REQUEST, 80, 1000, 0);
    expect(f, RST); /* not known any more */
    ssize_t n;
    while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
        got += (uint32_t)n;
        run(&f->d);
    }
    assert_int_equal(n, 0);
    assert_int_equal(got, sent);
    close(fd);
    close(listener);
}

static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct vmm_device *device = vmm_virtio_device(f->d.virtio);
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    uint32_t port, event = 77;
    int fd = from_host(f, &port);
    ring_post(&f->events, NULL, 4, WRITE);
    ring_kick(&f->events);
    assert_int_equal(ring_take(&f->events, &event, 4), -1);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    send_data(f, port, "goes on", 7); /* for the one that was saved */
    expect_text(fd, "goes on");
    f->from.avail--, f->from.used--, f->from.next--;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(device, r, NULL), 0);
    vmm_state_reader_free(r);
    free(blob);
    run(&f->d);
    expect_end(fd);
    assert_int_equal(ring_take(&f->events, &event, 4), 4);
    assert_int_equal(event, 0);
    close(fd);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    struct stat st;
    char path[120];
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    place.name = "vsock1";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    (void)snprintf(path, sizeof(path), "%s/w", f->folder);
    o.path = path;
    static const uint64_t cids[] = {0, 1, 2, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        o.cid = cids[i];
        assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -EINVAL);
    }
    o.cid = 3;
    o.buffer = 1;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -EINVAL);
    o.buffer = 0;
    o.connections = 70000;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -EINVAL);
    o.connections = 0;
    o.path = f->path;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -EADDRINUSE);
    memset(path, 'x', 97);
    path[97] = '\0';
    o.path = path;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -ENAMETOOLONG);
    o.path = NULL;
    assert_int_equal(vmm_virtio_vsock_new(&place, &o, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_vsock_new(&place, NULL, &virtio, NULL), -EINVAL);
    assert_int_equal(stat(f->path, &st), 0); /* a failure removes nobody else's socket */
}

#define VSOCK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VSOCK(host_connects),
        VSOCK(guest_connects),
        VSOCK(half_closed),
        VSOCK(greetings),
        VSOCK(credit_of_the_guest),
        VSOCK(guest_without_credit),
        VSOCK(credit_of_the_host),
        VSOCK(wrong_packets),
        VSOCK(broken_chains),
        VSOCK(refusals_are_bounded),
        VSOCK(connections_are_bounded),
        VSOCK(lingering),
        VSOCK(saved_and_loaded),
        VSOCK(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
