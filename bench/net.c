/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio network card without a guest: packets of 64 and 1500 bytes through the queues of the
 * device, in this process and without KVM, to and from a backend.
 *
 *   bench-net [PACKETS]
 *
 * "nothing" is a backend that takes and gives at once: what remains is the queue's own cost. "datagram"
 * and "stream" are unix sockets whose other end is read, or fed, by the same thread; the cost of its
 * system calls without a card in between is measured too and printed beside. Nanoseconds a packet, the
 * shortest of five rounds.
 */
#include <libvmm/net.h>
#include <libvmm/virtio.h>

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS   5
#define SIZE     256u /* of a queue */
#define BURST    64u
#define BASE     0xd0000000u
#define RAM_SIZE 0x400000u
#define RX       0x10000u /* rings */
#define TX       0x20000u
#define BUFFERS  0x100000u
#define STEP     0x800u
#define HEADER   12u

struct bench {
    struct vmm_loop *loop;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_net *net;
    struct vmm_virtio *virtio;
    uint8_t *ram;
    uint16_t avail[2], used[2]; /* of RX and TX */
    unsigned taken;             /* by the backend that does nothing */
    int fd;                     /* the other end; -1: none */
    bool stream;
    uint32_t length;
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "net: %s: %s\n", what, strerror(-rc));
    exit(1);
}

static void must(const char *what, int rc)
{
    if (rc < 0)
        die(what, rc);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The driver ----------------------------------------------------------------------------------- */

static void set_reg(struct bench *b, uint32_t offset, uint32_t value)
{
    must("register", vmm_bus_write(b->bus, BASE + offset, 4, value));
}

static void set_queue(struct bench *b, uint32_t queue, uint32_t at)
{
    set_reg(b, 0x30, queue);
    set_reg(b, 0x38, SIZE);
    set_reg(b, 0x80, at);
    set_reg(b, 0x90, at + 0x4000);
    set_reg(b, 0xa0, at + 0x8000);
    set_reg(b, 0x44, 1);
}

static void store16(struct bench *b, uint32_t at, uint32_t value)
{
    uint16_t v = htole16((uint16_t)value);
    memcpy(b->ram + at, &v, 2);
}

static uint16_t load16(struct bench *b, uint32_t at)
{
    uint16_t v;
    memcpy(&v, b->ram + at, 2);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return le16toh(v);
}

static void put_desc(struct bench *b, uint32_t ring, uint32_t slot, uint32_t address,
                     uint32_t length, uint32_t flags)
{
    uint32_t words[4] = {htole32(address), 0, htole32(length), htole32(flags)};
    memcpy(b->ram + ring + 16 * slot, words, sizeof(words));
}

/* `count` more buffers of the queue, which stand in their descriptors since the start. */
static void offer(struct bench *b, uint32_t queue, uint32_t ring, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, b->avail[queue]++)
        store16(b, ring + 0x4004 + 2 * (b->avail[queue] % SIZE), b->avail[queue] % SIZE);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store16(b, ring + 0x4002, b->avail[queue]);
}

static uint32_t collect(struct bench *b, uint32_t queue, uint32_t ring)
{
    uint16_t used = load16(b, ring + 0x8002);
    uint16_t count = (uint16_t)(used - b->used[queue]);
    b->used[queue] = used;
    return count;
}

static void start_driver(struct bench *b)
{
    uint64_t features = (uint64_t)1 << 32 | 1u << 15 | 1u << 29; /* merged buffers, event index */
    static const uint8_t statuses[] = {0, 1, 3};
    for (size_t i = 0; i < sizeof(statuses); i++)
        set_reg(b, 0x70, statuses[i]);
    for (uint32_t i = 0; i < 2; i++) {
        set_reg(b, 0x24, i);
        set_reg(b, 0x20, (uint32_t)(features >> (32 * i)));
    }
    set_reg(b, 0x70, 0xb);
    memset(b->ram, 0, BUFFERS);
    memset(b->avail, 0, sizeof(b->avail));
    memset(b->used, 0, sizeof(b->used));
    set_queue(b, 0, RX);
    set_queue(b, 1, TX);
    for (uint32_t i = 0; i < SIZE; i++) {
        uint32_t at = BUFFERS + i * STEP;
        put_desc(b, RX, i, at, 1600, 2);
        put_desc(b, TX, i, at + SIZE * STEP, HEADER + b->length, 0);
        memset(b->ram + at + SIZE * STEP, 0, HEADER);
        memset(b->ram + at + SIZE * STEP + HEADER, 0x5a, b->length);
    }
    set_reg(b, 0x70, 0xf);
    while (vmm_loop_dispatch(b->loop, 0) > 0)
        ;
}

/* Backends ------------------------------------------------------------------------------------- */

static int take(void *ctx, const struct vmm_net_frame *frame)
{
    struct bench *b = ctx;
    b->taken += (unsigned)frame->count;
    return 0;
}

static void make_backend(struct bench *b, const char *kind)
{
    const struct vmm_net_ops ops = {.size = sizeof(ops), .send = take};
    int fds[2], size = 1 << 20;
    b->fd = -1;
    b->stream = strcmp(kind, "stream") == 0;
    if (strcmp(kind, "nothing") == 0) {
        must("backend", vmm_net_new(&ops, b, &b->net));
        return;
    }
    int type = b->stream ? SOCK_STREAM : SOCK_SEQPACKET;
    must("socketpair", socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fds) ? -errno : 0);
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    must("socket", vmm_net_new_socket(b->loop, fds[0], &b->net, NULL));
    close(fds[0]);
    b->fd = fds[1];
}

/* What the other end has to do for a burst that was sent. */
static void drain(int fd, bool stream, uint32_t length, uint32_t count)
{
    static uint8_t in[1 << 17];
    size_t left = (size_t)(length + 4) * count;
    if (fd < 0)
        return;
    for (uint32_t i = 0; stream ? left > 0 : i < count; i++) {
        ssize_t n = recv(fd, in, stream ? sizeof(in) : 2048, 0);
        if (n <= 0)
            die("the other end", n < 0 ? -errno : -EPIPE);
        left -= (size_t)n;
    }
}

static void feed(int fd, bool stream, uint32_t length, uint32_t count)
{
    static uint8_t out[BURST * (1500 + 4)];
    uint32_t head = htobe32(length), each = stream ? length + 4 : length;
    for (uint32_t i = 0; stream && i < count; i++)
        memcpy(out + i * each, &head, sizeof(head));
    for (uint32_t i = 0; i < (stream ? 1 : count); i++)
        if (send(fd, out, stream ? (size_t)each * count : length, 0) < 0)
            die("the other end", -errno);
}

/* Rounds --------------------------------------------------------------------------------------- */

static void send_burst(struct bench *b)
{
    uint32_t done = 0;
    offer(b, 1, TX, BURST);
    set_reg(b, 0x50, 1);
    while (done < BURST) {
        must("loop", vmm_loop_dispatch(b->loop, 0));
        done += collect(b, 1, TX);
    }
    drain(b->fd, b->stream, b->length, BURST);
}

static void receive_burst(struct bench *b)
{
    static uint8_t data[1500];
    uint32_t done = 0;
    offer(b, 0, RX, BURST);
    set_reg(b, 0x50, 0);
    if (b->fd >= 0)
        feed(b->fd, b->stream, b->length, BURST);
    else
        for (uint32_t i = 0; i < BURST; i++) {
            const struct iovec piece = {data, b->length};
            const struct vmm_net_frame frame = {
                .pieces = &piece, .count = 1, .more = i + 1 < BURST};
            must("deliver", vmm_net_deliver_frame(b->net, &frame));
        }
    while (done < BURST) {
        must("loop", vmm_loop_dispatch(b->loop, 0));
        done += collect(b, 0, RX);
    }
}

static double best(void (*burst)(struct bench *), struct bench *b, uint32_t packets)
{
    double shortest = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        start_driver(b);
        double start = now();
        for (uint32_t i = 0; i < packets; i += BURST)
            burst(b);
        double time = (now() - start) / packets;
        shortest = time < shortest ? time : shortest;
    }
    return shortest;
}

/* The same frames through a pair of sockets, without a card. */
static double bare(const char *kind, uint32_t length, uint32_t packets)
{
    static uint8_t data[1504];
    bool stream = strcmp(kind, "stream") == 0;
    double shortest = 1e18;
    int fds[2], size = 1 << 20;
    if (strcmp(kind, "nothing") == 0)
        return 0;
    must("socketpair", socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_SEQPACKET, 0, fds));
    (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        for (uint32_t i = 0; i < packets; i += BURST) {
            for (uint32_t j = 0; j < BURST; j++)
                if (send(fds[0], data, stream ? length + 4 : length, 0) < 0)
                    die("send", -errno);
            drain(fds[1], stream, length, BURST);
        }
        double time = (now() - start) / packets;
        shortest = time < shortest ? time : shortest;
    }
    close(fds[0]);
    close(fds[1]);
    return shortest;
}

static void measure(const char *kind, uint32_t length, uint32_t packets)
{
    struct bench b = {.length = length};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    struct vmm_guest_range range = {.length = RAM_SIZE};
    struct vmm_scatter all;
    struct iovec iov[1];
    must("loop", vmm_loop_new(NULL, &b.loop));
    must("memory", vmm_memory_new(NULL, &b.memory, NULL));
    must("RAM", vmm_memory_add_ram(b.memory, "ram", 0, RAM_SIZE, NULL, NULL));
    must("RAM", vmm_memory_map_list(b.memory, &range, 1, VMM_MAP_WRITE, iov, 1, 0, &all));
    b.ram = iov[0].iov_base;
    make_backend(&b, kind);
    place.name = "net0";
    place.memory = b.memory;
    place.loop = b.loop;
    o.net = b.net;
    must("card", vmm_virtio_net_new(&place, &o, &b.virtio, NULL));
    must("bus", vmm_bus_new("memory", 64, &b.bus));
    must("card", vmm_virtio_mmio_attach(b.virtio, b.bus, BASE, NULL, NULL));
    double out = best(send_burst, &b, packets), in = best(receive_burst, &b, packets);
    printf("%-8s %4u bytes: sent %6.0f ns, received %6.0f ns; the sockets alone %6.0f ns\n", kind,
           length, out, in, bare(kind, length, packets));
    vmm_bus_unref(b.bus);
    vmm_virtio_unref(b.virtio);
    vmm_net_unref(b.net);
    vmm_memory_unmap_list(b.memory, &all, 0);
    vmm_memory_unref(b.memory);
    vmm_loop_unref(b.loop);
    if (b.fd >= 0)
        close(b.fd);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"nothing", "datagram", "stream"};
    uint32_t packets = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 200000;
    packets = (packets + BURST - 1) / BURST * BURST;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && packets; i++) {
        measure(kinds[i], 64, packets);
        measure(kinds[i], 1500, packets);
    }
    return 0;
}
