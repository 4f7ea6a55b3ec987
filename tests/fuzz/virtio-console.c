/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console device with three ports between a driver that sends anything and backends that take and
 * give as they like. Checked: no more is kept than a port's buffer, the loop comes to rest, and the state
 * saves and loads.
 */
#include "virtio-driver.h"

#include <libvmm/console.h>

#include <string.h>

#define PORTS 3

struct backend {
    struct vmm_chardev *chardev;
    size_t room;
    long error;
};

static long backend_write(void *ctx, const uint8_t *data, size_t length)
{
    struct backend *b = ctx;
    volatile uint8_t seen = 0;
    if (b->error)
        return b->error;
    size_t n = length < b->room ? length : b->room;
    for (size_t i = 0; i < n; i++)
        seen ^= data[i];
    (void)seen;
    b->room -= n;
    return (long)n;
}

static void deliver(struct backend *b, struct fuzz_input *in)
{
    uint8_t data[700];
    memset(data, fuzz_u8(in), sizeof(data));
    FUZZ_CHECK(vmm_chardev_can_receive(b->chardev) <= 4096);
    vmm_chardev_deliver(b->chardev, data, 1 + fuzz_u8(in) * 2u);
}

static void control(struct fuzz_driver *d, struct fuzz_input *in, uint8_t what)
{
    uint8_t m[12] = {what & 3, 0, 0, 0, what >> 2 & 7, 0, what >> 5 & 1, 0};
    if (what >= 0xc0)
        for (size_t i = 0; i < sizeof(m); i++)
            m[i] = fuzz_u8(in);
    fuzz_post(d, in, 3, m, what >= 0xf0 ? 1 + fuzz_u8(in) % 12u : 8);
}

static void step(struct fuzz_driver *d, struct backend *backends, struct fuzz_input *in)
{
    static const uint8_t bytes[300] = {1, 2, 3};
    uint8_t op = fuzz_u8(in), arg = fuzz_u8(in);
    struct backend *b = &backends[arg % PORTS];
    switch (op & 7) {
    case 0:
        control(d, in, arg);
        break;
    case 1:
    case 2:
        fuzz_post(d, in, arg % 8, bytes, 1 + fuzz_u8(in));
        break;
    case 3:
        deliver(b, in);
        break;
    case 4:
        b->room = op;
        b->error = arg > 0xf0 ? -5 : 0;
        vmm_chardev_writable(b->chardev);
        break;
    case 5:
        vmm_chardev_event(b->chardev, arg >> 4 & 3);
        (void)vmm_console_resize(d->virtio, arg % 4, arg, op);
        break;
    case 6:
        fuzz_set(d, 0x100 + (arg & 12), arg);
        break;
    default:
        if (op == 0x7f)
            fuzz_save_and_load(d);
        else if (op == 0xff)
            fuzz_start(d, arg & 7);
        break;
    }
    if (op & 0x80)
        fuzz_run(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vmm_chardev_ops ops = {.size = sizeof(ops), .write = backend_write};
    struct fuzz_input in = {data, size};
    struct fuzz_driver d;
    struct backend backends[PORTS] = {0};
    struct vmm_console_port ports[PORTS] = {VMM_CONSOLE_PORT_INIT, VMM_CONSOLE_PORT_INIT,
                                            VMM_CONSOLE_PORT_INIT};
    const struct vmm_console_port *const list[PORTS] = {&ports[0], &ports[1], &ports[2]};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_console_options o = VMM_VIRTIO_CONSOLE_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    fuzz_open(&d);
    for (int i = 0; i < PORTS; i++) {
        FUZZ_CHECK(vmm_chardev_new(&ops, &backends[i], &backends[i].chardev) == 0);
        ports[i].chardev = backends[i].chardev;
        ports[i].console = i != 1;
        ports[i].name = i ? "name" : NULL;
    }
    place.name = "console0";
    place.memory = d.memory;
    place.loop = d.loop;
    o.ports = list;
    o.port_count = PORTS;
    FUZZ_CHECK(vmm_virtio_console_new(&place, &o, &virtio, NULL) == 0);
    fuzz_attach(&d, virtio, 8);
    fuzz_start(&d, fuzz_u8(&in) & 7);
    while (in.left > 0)
        step(&d, backends, &in);
    fuzz_run(&d);
    fuzz_save_and_load(&d);
    fuzz_close(&d);
    for (int i = 0; i < PORTS; i++)
        vmm_chardev_unref(backends[i].chardev);
    return 0;
}
