/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio network card against a driver that writes anything: registers, descriptors, headers and
 * commands, while frames come in, the backend fills up and the card is saved and loaded. Checked: what
 * is sent lies in guest memory and is sound, frames that come in leave the memory around their buffers
 * alone, and a saved state is taken again.
 */
#include "fuzz.h"

#include <libvmm/net.h>
#include <libvmm/state.h>
#include <libvmm/virtio.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RAM_SIZE 0x40000u
#define BASE     0xd0000000u
#define SIZE     8u
#define QUEUES   5u
#define GUARD_AT 0x30000u /* no descriptor of step_chain() points here */
#define GUARD    0x1000u

struct world {
    struct vmm_loop *loop;
    struct vmm_memory *memory;
    struct vmm_bus *bus;
    struct vmm_net *net;
    struct vmm_virtio *virtio;
    bool full, wild; /* wild: descriptors were written that may point anywhere */
    bool packed;
    uint16_t slots[QUEUES];
    uint16_t avail[QUEUES];
    uint8_t *ram;
};

/* The backend ---------------------------------------------------------------------------------- */

static int on_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct world *w = ctx;
    size_t length = 0;
    for (size_t i = 0; i < frame->count; i++) {
        const uint8_t *at = frame->pieces[i].iov_base;
        size_t piece = frame->pieces[i].iov_len;
        FUZZ_CHECK(piece == 0 || (at >= w->ram && piece <= RAM_SIZE &&
                                  (size_t)(at - w->ram) <= RAM_SIZE - piece));
        length += piece;
    }
    const struct vmm_net_offload *o = &frame->offload;
    FUZZ_CHECK(length > 0 && length <= VMM_NET_FRAME_MAX && frame->queue < 2);
    FUZZ_CHECK(!(o->flags & 1) || (size_t)o->csum_start + o->csum_offset + 2 <= length);
    FUZZ_CHECK(o->gso_type == 0 || o->gso_size > 0);
    return w->full ? -EAGAIN : 0;
}

static void make_net(struct world *w)
{
    const struct vmm_net_ops ops = {.size = sizeof(ops),
                                    .send = on_send,
                                    .offloads = VMM_NET_CSUM | VMM_NET_TSO4 | VMM_NET_TSO6 |
                                                VMM_NET_ECN | VMM_NET_UFO,
                                    .queues = 2};
    FUZZ_CHECK(vmm_net_new(&ops, w, &w->net) == 0);
}

/* The card ------------------------------------------------------------------------------------- */

static void set_reg(struct world *w, uint32_t offset, uint32_t value)
{
    FUZZ_CHECK(vmm_bus_write(w->bus, BASE + offset, 4, value) == 0);
}

static void run(struct world *w)
{
    for (int i = 0; i < 100 && vmm_loop_dispatch(w->loop, 0) > 0; i++)
        ;
}

static uint64_t ring_at(uint32_t queue)
{
    return 0x1000 + queue * 0x3000;
}

static void start(struct world *w, struct fuzz_input *in)
{
    uint64_t features = (uint64_t)fuzz_u32(in) | VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_VERSION_1);
    w->packed = fuzz_u8(in) & 1;
    if (w->packed)
        features |= VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED);
    memset(w->ram, 0, ring_at(QUEUES));
    memset(w->slots, 0, sizeof(w->slots));
    memset(w->avail, 0, sizeof(w->avail));
    w->wild = false;
    static const uint8_t statuses[] = {0, 1, 3};
    for (size_t i = 0; i < sizeof(statuses); i++)
        set_reg(w, 0x70, statuses[i]);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t offered = 0;
        set_reg(w, 0x14, i);
        FUZZ_CHECK(vmm_bus_read(w->bus, BASE + 0x10, 4, &offered) == 0);
        set_reg(w, 0x24, i);
        set_reg(w, 0x20, (uint32_t)(features >> (32 * i)) & (uint32_t)offered);
    }
    set_reg(w, 0x70, 0xb);
    for (uint32_t i = 0; i < QUEUES; i++) {
        set_reg(w, 0x30, i);
        set_reg(w, 0x38, SIZE);
        set_reg(w, 0x80, (uint32_t)ring_at(i));
        set_reg(w, 0x90, (uint32_t)ring_at(i) + 0x1000);
        set_reg(w, 0xa0, (uint32_t)ring_at(i) + 0x2000);
        set_reg(w, 0x44, 1);
    }
    set_reg(w, 0x70, 0xf);
    run(w);
}

static void put16(struct world *w, uint64_t at, uint32_t value)
{
    w->ram[at] = (uint8_t)value;
    w->ram[at + 1] = (uint8_t)(value >> 8);
}

static void put32(struct world *w, uint64_t at, uint32_t value)
{
    put16(w, at, value);
    put16(w, at + 2, value >> 16);
}

/* A chain of sound descriptors, with any bytes at their beginning. */
static void step_chain(struct world *w, struct fuzz_input *in)
{
    uint32_t queue = fuzz_u8(in) % QUEUES, count = 1 + fuzz_u8(in) % 4;
    uint8_t writable = fuzz_u8(in);
    uint16_t first = w->slots[queue];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = w->slots[queue] % SIZE, n = w->slots[queue]++;
        uint32_t at = 0x20000 + fuzz_u8(in) * 0x100u;
        uint32_t length = fuzz_u8(in);
        if (length > 0xc0)
            length = (length - 0xc0) * 0x200;
        if (length > GUARD_AT - at && at < GUARD_AT)
            length = GUARD_AT - at;
        uint32_t flags = (i + 1 < count ? 1u : 0) | (writable >> i & 1 ? 2u : 0);
        if (w->packed)
            flags |= n / SIZE % 2 ? 0x8000u : 0x80u;
        for (uint32_t b = 0; b < 12 && b < length; b++)
            w->ram[at + b] = fuzz_u8(in);
        uint64_t d = ring_at(queue) + 16 * slot;
        put32(w, d, at);
        put32(w, d + 4, 0);
        put32(w, d + 8, length);
        put16(w, d + 12, w->packed ? first % SIZE : flags);
        put16(w, d + 14, w->packed ? flags : (slot + 1) % SIZE);
    }
    if (!w->packed) {
        uint64_t avail = ring_at(queue) + 0x1000;
        put16(w, avail + 4 + 2 * (w->avail[queue] % SIZE), first % SIZE);
        put16(w, avail + 2, ++w->avail[queue]);
    }
    set_reg(w, 0x50, queue);
}

static void step_frame(struct world *w, struct fuzz_input *in)
{
    static uint8_t data[VMM_NET_FRAME_MAX];
    size_t length = 1 + fuzz_u32(in) % VMM_NET_FRAME_MAX;
    for (size_t i = 0; i < 18; i++)
        data[i] = fuzz_u8(in);
    struct iovec pieces[2] = {{data, length / 3}, {data + length / 3, length - length / 3}};
    struct vmm_net_frame frame = {.pieces = pieces, .count = 2, .queue = fuzz_u8(in) & 1};
    frame.more = fuzz_u8(in) & 1;
    frame.offload.flags = fuzz_u8(in) & 3;
    frame.offload.gso_type = fuzz_u8(in);
    frame.offload.gso_size = fuzz_u8(in);
    frame.offload.csum_start = fuzz_u8(in);
    int rc = vmm_net_deliver_frame(w->net, &frame);
    FUZZ_CHECK(rc == 0 || rc == -EAGAIN || rc == -EINVAL || rc == -ENOTSUP);
}

static void make_card(struct world *w)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    place.name = "net0";
    place.memory = w->memory;
    place.loop = w->loop;
    make_net(w);
    o.net = w->net;
    o.mac = mac;
    o.queues = 2;
    FUZZ_CHECK(vmm_virtio_net_new(&place, &o, &w->virtio, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &w->bus) == 0);
    FUZZ_CHECK(vmm_virtio_mmio_attach(w->virtio, w->bus, BASE, NULL, NULL) == 0);
}

static void drop_card(struct world *w)
{
    vmm_bus_unref(w->bus);
    vmm_virtio_unref(w->virtio);
    vmm_net_unref(w->net);
}

/* Into another card, which takes the place of this one. */
static void save_and_load(struct world *w)
{
    struct vmm_state_writer *writer;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    FUZZ_CHECK(vmm_device_save(vmm_virtio_device(w->virtio), writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, &blob, &length) == 0);
    vmm_state_writer_free(writer);
    drop_card(w);
    make_card(w);
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &r, NULL) == 0);
    FUZZ_CHECK(vmm_device_load(vmm_virtio_device(w->virtio), r, NULL) == 0);
    vmm_state_reader_free(r);
    free(blob);
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint32_t value;
    switch (fuzz_u8(in) % 10) {
    case 0:
    case 1:
    case 2:
        step_chain(w, in);
        break;
    case 3:
    case 4:
        step_frame(w, in);
        break;
    case 5:
        w->full = fuzz_u8(in) & 1;
        vmm_net_writable(w->net);
        break;
    case 6: /* anything into the rings */
        value = fuzz_u32(in) % (uint32_t)ring_at(QUEUES);
        w->wild = true;
        put32(w, value & ~3u, fuzz_u32(in));
        break;
    case 7: /* any register */
        value = fuzz_u8(in) & 0x1fcu;
        set_reg(w, value, fuzz_u32(in));
        w->wild = true;
        break;
    case 8:
        if (fuzz_u8(in) & 1)
            save_and_load(w);
        else
            (void)vmm_virtio_net_set_link(w->virtio, fuzz_u8(in) & 1);
        break;
    default:
        start(w, in);
        break;
    }
    run(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {0};
    struct fuzz_input in = {data, size};
    FUZZ_CHECK(vmm_loop_new(NULL, &w.loop) == 0);
    FUZZ_CHECK(vmm_memory_new(NULL, &w.memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(w.memory, "ram", 0, RAM_SIZE, NULL, NULL) == 0);
    struct vmm_guest_range range = {.address = 0, .length = RAM_SIZE};
    struct vmm_scatter all;
    struct iovec iov[4];
    FUZZ_CHECK(vmm_memory_map_list(w.memory, &range, 1, VMM_MAP_WRITE, iov, 4, 0, &all) == 0);
    FUZZ_CHECK(all.count == 1);
    w.ram = iov[0].iov_base;
    memset(w.ram + GUARD_AT, 0xa5, GUARD);
    make_card(&w);
    start(&w, &in);
    while (in.left > 0) {
        step(&w, &in);
        for (size_t i = 0; !w.wild && i < GUARD; i++)
            FUZZ_CHECK(w.ram[GUARD_AT + i] == 0xa5);
        if (w.wild)
            memset(w.ram + GUARD_AT, 0xa5, GUARD);
    }
    drop_card(&w);
    vmm_memory_unmap_list(w.memory, &all, 0);
    vmm_memory_unref(w.memory);
    vmm_loop_unref(w.loop);
    return 0;
}
