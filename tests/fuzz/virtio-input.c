/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An input device and a driver that asks, offers and sends anything. Checked: answers stay in their
 * room, frames are sent whole or not at all, and the state saves and loads.
 */
#include "virtio-driver.h"

#include <libvmm/input.h>

#include <errno.h>
#include <string.h>

static void status(void *ctx, const struct vmm_input_event *event)
{
    *(struct vmm_input_event *)ctx = *event;
}

static uint16_t used(struct fuzz_driver *d)
{
    uint16_t index = 0;
    FUZZ_CHECK(vmm_memory_load_u16(d->memory, 0x802, &index) == 0);
    return index;
}

static void send(struct fuzz_driver *d, struct fuzz_input *in)
{
    struct vmm_input_event e[VMM_INPUT_FRAME_MAX + 1];
    size_t count = fuzz_u8(in) % (VMM_INPUT_FRAME_MAX + 2u);
    uint8_t kind = fuzz_u8(in);
    for (size_t i = 0; i < count; i++)
        e[i] = (struct vmm_input_event){kind & 3, kind & 4 ? fuzz_u8(in) : kind >> 4, 1};
    uint16_t before = used(d);
    int rc = vmm_input_send(d->virtio, e, count);
    FUZZ_CHECK(rc == 0 || rc == -EINVAL || rc == -EAGAIN);
    FUZZ_CHECK((uint16_t)(used(d) - before) == (rc ? 0 : count + 1));
}

static void step(struct fuzz_driver *d, struct fuzz_input *in)
{
    uint8_t bytes[16] = {17, 0, fuzz_u8(in), 0, 1};
    uint8_t op = fuzz_u8(in), arg = fuzz_u8(in);
    uint64_t value = 0;
    switch (op & 7) {
    case 0:
    case 1:
        fuzz_post(d, in, op & 1, bytes, 8 + (arg > 0xf0) - (arg < 0x10));
        break;
    case 2:
        fuzz_set(d, 0x100 + (arg & 4), fuzz_u32(in));
        break;
    case 3:
        FUZZ_CHECK(vmm_bus_write(d->bus, BASE + 0x100 + (arg & 1), 1, op >> 3) == 0);
        FUZZ_CHECK(vmm_bus_read(d->bus, BASE + 0x102, 1, &value) == 0 && value <= 128);
        break;
    case 4:
    case 5:
        send(d, in);
        break;
    case 6:
        fuzz_run(d);
        break;
    default:
        if (op == 0x7f)
            fuzz_save_and_load(d);
        else if (op == 0xff)
            fuzz_start(d, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_driver d;
    struct vmm_input_event last = {0};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_input_options o = VMM_VIRTIO_INPUT_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    fuzz_open(&d);
    place.name = "input0";
    place.memory = d.memory;
    place.loop = d.loop;
    o.kind = 1 + fuzz_u8(&in) % 3;
    o.status = status;
    o.ctx = &last;
    FUZZ_CHECK(vmm_virtio_input_new(&place, &o, &virtio, NULL) == 0);
    fuzz_attach(&d, virtio, 2);
    fuzz_start(&d, 0);
    while (in.left > 0)
        step(&d, &in);
    fuzz_run(&d);
    fuzz_save_and_load(&d);
    fuzz_close(&d);
    return 0;
}
