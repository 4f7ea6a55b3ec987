/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a KiB costs in the console and the socket device, in nanoseconds: a driver in the same process fills
 * and empties rings by hand, the host's end is in memory (console) or a unix socket (vsock).
 *
 *   bench-ports [MIB]
 */
#include <libvmm/vmm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BASE      0xd0000000u
#define RAM_SIZE  0x200000u
#define RING_AT   0x10000u
#define RING_SIZE 64u
#define DATA_AT   0x100000u
#define PIECE     4096u
#define HEADER    44u /* of a vsock packet */

#define OK(call)                                                                                   \
    do {                                                                                           \
        int ok_ = (call);                                                                          \
        if (ok_ < 0) {                                                                             \
            fprintf(stderr, "bench-ports: %s: %s\n", #call, strerror(-ok_));                       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct bench {
    struct vmm_loop *loop;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_mapping mapping;
    uint8_t *ram; /* the guest's, as we see it */
    uint16_t avail[3], used[3];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void set(struct bench *b, uint32_t offset, uint32_t value)
{
    OK(vmm_bus_write(b->bus, BASE + offset, 4, value));
}

static void open_bench(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    OK(vmm_loop_new(NULL, &b->loop));
    OK(vmm_memory_new(NULL, &b->memory, NULL));
    OK(vmm_memory_add_ram(b->memory, "ram", 0, RAM_SIZE, NULL, NULL));
    OK(vmm_bus_new("memory", 64, &b->bus));
    OK(vmm_memory_map(b->memory, 0, RAM_SIZE, VMM_MAP_WRITE, &b->mapping));
    b->ram = b->mapping.data;
}

static void start(struct bench *b, struct vmm_virtio *virtio, uint32_t rings)
{
    OK(vmm_virtio_mmio_attach(virtio, b->bus, BASE, NULL, NULL));
    for (uint32_t status = 0; status < 4; status = status * 2 + 1)
        set(b, 0x70, status);
    set(b, 0x24, 1);
    set(b, 0x20, 1); /* version 1 */
    set(b, 0x70, 0xb);
    for (uint32_t i = 0; i < rings; i++) {
        uint32_t at = RING_AT * (i + 1);
        set(b, 0x30, i);
        set(b, 0x38, RING_SIZE);
        set(b, 0x80, at);
        set(b, 0x90, at + 0x1000);
        set(b, 0xa0, at + 0x2000);
        set(b, 0x44, 1);
    }
    set(b, 0x70, 0xf);
}

static uint8_t *buffer(struct bench *b, uint32_t ring, uint32_t slot)
{
    return b->ram + DATA_AT + (ring * RING_SIZE + slot) * (2 * PIECE) % 0x100000;
}

static void store(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void post(struct bench *b, uint32_t ring, uint32_t length, uint16_t flags)
{
    uint8_t *at = b->ram + RING_AT * (ring + 1);
    uint32_t slot = b->avail[ring]++ % RING_SIZE;
    store(at + 16 * slot, (uint64_t)(buffer(b, ring, slot) - b->ram), 8);
    store(at + 16 * slot + 8, length, 4);
    store(at + 16 * slot + 12, flags, 4);
    store(at + 0x1004 + 2 * slot, slot, 2);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store(at + 0x1002, b->avail[ring], 2);
}

static uint16_t used_index(const struct bench *b, uint32_t ring)
{
    const uint8_t *at = b->ram + RING_AT * (ring + 1) + 0x2002;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t used_length(const struct bench *b, uint32_t ring, uint32_t n)
{
    const uint8_t *at = b->ram + RING_AT * (ring + 1) + 0x2008 + 8 * (n % RING_SIZE);
    return (uint32_t)(at[0] | at[1] << 8 | at[2] << 16 | at[3] << 24);
}

static void turn(struct bench *b)
{
    (void)vmm_loop_dispatch(b->loop, 0);
}

static void report(const char *what, double nanoseconds, double bytes)
{
    printf("%-28s %8.1f ns a KiB  %8.0f MiB/s\n", what, nanoseconds / (bytes / 1024),
           bytes / 1048576 / (nanoseconds / 1e9));
}

/* Console --------------------------------------------------------------------------------------- */

static void swallow(void *ctx, const uint8_t *data, size_t length)
{
    (void)data;
    *(uint64_t *)ctx += length;
}

static void bench_console(uint64_t bytes)
{
    struct bench b;
    uint64_t out = 0, in = 0;
    static uint8_t text[PIECE];
    struct vmm_console_port port = VMM_CONSOLE_PORT_INIT;
    const struct vmm_console_port *const list[1] = {&port};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_console_options o = VMM_VIRTIO_CONSOLE_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    open_bench(&b);
    OK(vmm_chardev_new_callback(swallow, &out, &port.chardev));
    port.console = 1;
    place.name = "console0";
    place.memory = b.memory;
    place.loop = b.loop;
    o.ports = list;
    o.port_count = 1;
    OK(vmm_virtio_console_new(&place, &o, &virtio, NULL));
    start(&b, virtio, 2);
    double from = now();
    while (out < bytes) {
        while ((uint16_t)(b.avail[1] - used_index(&b, 1)) < RING_SIZE / 2)
            post(&b, 1, PIECE, 0);
        set(&b, 0x50, 1);
        turn(&b);
    }
    report("console, guest to host", now() - from, (double)out);
    from = now();
    while (in < bytes) {
        while ((uint16_t)(b.avail[0] - used_index(&b, 0)) < RING_SIZE / 2)
            post(&b, 0, PIECE, 2);
        set(&b, 0x50, 0);
        turn(&b);
        while (vmm_chardev_can_receive(port.chardev) == PIECE &&
               (uint16_t)(b.avail[0] - used_index(&b, 0)) > 0) {
            vmm_chardev_deliver(port.chardev, text, PIECE);
            in += PIECE;
        }
    }
    report("console, host to guest", now() - from, (double)in);
    vmm_bus_unref(b.bus);
    vmm_virtio_unref(virtio);
    vmm_chardev_unref(port.chardev);
    vmm_memory_unmap(b.memory, &b.mapping);
    vmm_memory_unref(b.memory);
    vmm_loop_unref(b.loop);
}

/* vsock ----------------------------------------------------------------------------------------- */

static void put_header(uint8_t *p, uint32_t host_port, uint32_t length, uint32_t op,
                       uint32_t received)
{
    memset(p, 0, HEADER);
    store(p, 3, 8);
    store(p + 8, 2, 8);
    store(p + 16, 1000, 4);
    store(p + 20, host_port, 4);
    store(p + 24, length, 4);
    store(p + 28, 1, 2);
    store(p + 30, op, 2);
    store(p + 36, 1u << 20, 4);
    store(p + 40, received, 4);
}

static void send_packet(struct bench *b, uint32_t host_port, uint32_t length, uint32_t op,
                        uint32_t received)
{
    put_header(buffer(b, 1, b->avail[1] % RING_SIZE), host_port, length, op, received);
    post(b, 1, HEADER + length, 0);
}

/* A connection that the guest has begun; the host's end, which does not block. */
static int connection(struct bench *b, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s_80", path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 1))
        exit(1);
    send_packet(b, 80, 0, 1, 0);
    set(b, 0x50, 1);
    turn(b);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    close(listener);
    unlink(a.sun_path);
    return fd;
}

static void take_packets(struct bench *b, uint64_t *received)
{
    while (b->used[0] != used_index(b, 0))
        *received += used_length(b, 0, b->used[0]++) - HEADER;
    while ((uint16_t)(b->avail[0] - b->used[0]) < RING_SIZE)
        post(b, 0, HEADER + PIECE, 2);
}

static void vsock_out(struct bench *b, int fd, uint64_t bytes)
{
    static uint8_t data[65536];
    uint64_t sent = 0, got = 0, received = 0;
    double from = now();
    while (got < bytes) {
        while (sent - got < 128 * 1024 &&
               (uint16_t)(b->avail[1] - used_index(b, 1)) < RING_SIZE / 2) {
            send_packet(b, 80, PIECE, 5, 0);
            sent += PIECE;
        }
        set(b, 0x50, 1);
        turn(b);
        take_packets(b, &received);
        ssize_t n;
        while ((n = recv(fd, data, sizeof(data), 0)) > 0)
            got += (uint64_t)n;
    }
    report("vsock, guest to host", now() - from, (double)got);
}

static void vsock_in(struct bench *b, int fd, uint64_t bytes)
{
    static const uint8_t data[65536];
    uint64_t received = 0, told = 0;
    double from = now();
    while (received < bytes) {
        (void)send(fd, data, sizeof(data), MSG_NOSIGNAL);
        turn(b);
        take_packets(b, &received);
        if (received - told > 1u << 19 && (uint16_t)(b->avail[1] - used_index(b, 1)) < RING_SIZE) {
            told = received;
            send_packet(b, 80, 0, 6, (uint32_t)received);
            set(b, 0x50, 1);
        }
        set(b, 0x50, 0);
    }
    report("vsock, host to guest", now() - from, (double)received);
}

static void bench_vsock(uint64_t bytes)
{
    struct bench b;
    char folder[] = "/tmp/bench-ports-XXXXXX", path[64];
    uint64_t received = 0;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    open_bench(&b);
    if (!mkdtemp(folder))
        exit(1);
    (void)snprintf(path, sizeof(path), "%s/v", folder);
    place.name = "vsock0";
    place.memory = b.memory;
    place.loop = b.loop;
    o.cid = 3;
    o.path = path;
    OK(vmm_virtio_vsock_new(&place, &o, &virtio, NULL));
    start(&b, virtio, 3);
    take_packets(&b, &received);
    int fd = connection(&b, path);
    if (fd < 0)
        exit(1);
    vsock_out(&b, fd, bytes);
    vsock_in(&b, fd, bytes);
    close(fd);
    vmm_bus_unref(b.bus);
    vmm_virtio_unref(virtio);
    vmm_memory_unmap(b.memory, &b.mapping);
    vmm_memory_unref(b.memory);
    vmm_loop_unref(b.loop);
    (void)rmdir(folder);
}

int main(int argc, char **argv)
{
    uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 256) << 20;
    bench_console(bytes);
    bench_vsock(bytes);
    return 0;
}
