/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The socket device between a driver that sends any packets and programs on the host that connect,
 * write, read and go away at any time. Checked: the loop comes to rest, whatever happens; and the state
 * saves and loads.
 */
#include "virtio-driver.h"

#include <libvmm/vsock.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER  44u
#define CLIENTS 6

struct world {
    struct fuzz_driver d;
    struct sockaddr_un path, port;
    int listener, clients[CLIENTS];
};

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* Mostly sound: from the guest to port 80 or one that the device has chosen. */
static void send_packet(struct world *w, struct fuzz_input *in)
{
    uint8_t p[HEADER + 64] = {0};
    uint8_t kind = fuzz_u8(in), ports = fuzz_u8(in);
    uint32_t length = fuzz_u8(in) % 65;
    put(p, 3, 8);
    put(p + 8, 2, 8);
    put(p + 16, 1000 + (ports & 3), 4);
    put(p + 20, ports & 4 ? 80 : 0x40000000u + (ports >> 3 & 7), 4);
    put(p + 24, kind & 0x10 ? fuzz_u32(in) : length, 4);
    put(p + 28, kind & 0x20 ? fuzz_u8(in) : 1, 2);
    put(p + 30, kind & 0xf, 2);
    put(p + 32, fuzz_u8(in), 4);
    put(p + 36, kind & 0x40 ? fuzz_u32(in) : 4096, 4);
    put(p + 40, kind & 0x80 ? fuzz_u32(in) : 0, 4);
    fuzz_post(&w->d, in, 1, p, HEADER + length);
}

static void client(struct world *w, uint8_t number, uint8_t what)
{
    static const char *const lines[] = {"CONNECT 1000\n", "CONNECT 1001\nand more", "CONNE",
                                        "CT 1002\n"};
    char data[4096];
    int *fd = &w->clients[number % CLIENTS];
    if (*fd < 0) {
        *fd = what & 1 ? accept4(w->listener, NULL, NULL, SOCK_NONBLOCK)
                       : socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (*fd >= 0 && !(what & 1))
            (void)connect(*fd, (struct sockaddr *)&w->path, sizeof(w->path));
        return;
    }
    memset(data, what, sizeof(data));
    const char *line = lines[what >> 3 & 3];
    ssize_t n = 0;
    switch (what & 7) {
    case 0:
    case 1:
        n = send(*fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 2:
    case 3:
        n = send(*fd, data, (size_t)what * 16, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 4:
    case 5:
        n = recv(*fd, data, sizeof(data), MSG_DONTWAIT);
        break;
    case 6:
        n = shutdown(*fd, what >> 3 & 1);
        break;
    default:
        close(*fd);
        *fd = -1;
        break;
    }
    (void)n;
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint8_t room[512] = {0};
    uint8_t op = fuzz_u8(in);
    switch (op & 7) {
    case 0:
    case 1:
    case 2:
        send_packet(w, in);
        break;
    case 3:
        fuzz_post(&w->d, in, op & 8 ? 0 : 2, room, 4 + fuzz_u8(in));
        break;
    case 4:
    case 5:
        client(w, op >> 3, fuzz_u8(in));
        break;
    case 6:
        fuzz_run(&w->d);
        break;
    default:
        if (op == 0x7f)
            fuzz_save_and_load(&w->d);
        else if (op == 0xff)
            fuzz_start(&w->d, 0);
        else
            fuzz_run(&w->d);
        break;
    }
}

static void set_up(struct world *w)
{
    static char folder[64];
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    if (!folder[0]) {
        strcpy(folder, "/tmp/fuzz-vsock-XXXXXX");
        FUZZ_CHECK(mkdtemp(folder));
    }
    fuzz_open(&w->d);
    w->path.sun_family = w->port.sun_family = AF_UNIX;
    (void)snprintf(w->path.sun_path, sizeof(w->path.sun_path), "%s/v", folder);
    (void)snprintf(w->port.sun_path, sizeof(w->port.sun_path), "%s/v_80", folder);
    place.name = "vsock0";
    place.memory = w->d.memory;
    place.loop = w->d.loop;
    o.cid = 3;
    o.path = w->path.sun_path;
    o.connections = 4;
    o.buffer = 4096;
    (void)unlink(w->path.sun_path);
    FUZZ_CHECK(vmm_virtio_vsock_new(&place, &o, &virtio, NULL) == 0);
    fuzz_attach(&w->d, virtio, 3);
    (void)unlink(w->port.sun_path);
    w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    FUZZ_CHECK(bind(w->listener, (struct sockaddr *)&w->port, sizeof(w->port)) == 0);
    FUZZ_CHECK(listen(w->listener, 8) == 0);
    for (int i = 0; i < CLIENTS; i++)
        w->clients[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {0};
    struct fuzz_input in = {data, size};
    set_up(&w);
    fuzz_start(&w.d, 0);
    while (in.left > 0)
        step(&w, &in);
    fuzz_run(&w.d);
    fuzz_save_and_load(&w.d);
    fuzz_close(&w.d);
    for (int i = 0; i < CLIENTS; i++)
        if (w.clients[i] >= 0)
            close(w.clients[i]);
    close(w.listener);
    FUZZ_CHECK(access(w.path.sun_path, F_OK) != 0); /* went with the device */
    return 0;
}
