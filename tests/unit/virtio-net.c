/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio network card: frames both ways, the control queue, flow control, and hostile drivers. */
#include "virtio-driver.h"

#include "devices/virtio/internal.h"

#include <libvmm/net.h>
#include <libvmm/state.h>

#define SIZE    16u /* of each queue */
#define PAIRS   2u
#define HEADER  12u
#define BUFFERS 0x80000u

enum { CSUM, GUEST_CSUM, OFFLOADS, MTU, MAC = 5, GUEST_TSO4 = 7, HOST_TSO4 = 11, MRG = 15 };
enum { STATUS = 16, CTRL_VQ, CTRL_RX, VLAN, RX_EXTRA, ANNOUNCE, MQ, CTRL_MAC, SPEED = 63 };

#define F(bit) VMM_VIRTIO_FEATURE(bit)
#define CTRL                                                                                       \
    (F(CTRL_VQ) | F(CTRL_RX) | F(RX_EXTRA) | F(VLAN) | F(CTRL_MAC) | F(ANNOUNCE) | F(STATUS))

struct buffer {
    uint64_t address;
    uint32_t length;
    uint16_t flags; /* WRITE or 0 */
};

struct vq {
    uint32_t index;
    uint16_t slot, avail, used;
    uint32_t place; /* packed: of the next used descriptor */
    uint16_t counts[SIZE];
};

struct fixture {
    struct driver d;
    struct vmm_net *net;
    struct vq rx[PAIRS], tx[PAIRS], ctrl;
    bool full; /* the backend takes nothing */
    unsigned sent, accepts;
    uint32_t offloads, queues;
    struct vmm_net_frame last;
    size_t length;
    uint8_t data[VMM_NET_FRAME_MAX];
};

static const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};

/* The backend ---------------------------------------------------------------------------------- */

static int on_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct fixture *f = ctx;
    if (f->full)
        return -EAGAIN;
    f->sent++;
    f->last = *frame;
    f->length = vmm_iov_read(frame->pieces, frame->count, 0, f->data, sizeof(f->data));
    return 0;
}

static void on_accept(void *ctx)
{
    ((struct fixture *)ctx)->accepts++;
}

static int on_offloads(void *ctx, uint32_t offloads)
{
    ((struct fixture *)ctx)->offloads = offloads;
    return 0;
}

static int on_queues(void *ctx, uint32_t queues)
{
    ((struct fixture *)ctx)->queues = queues;
    return 0;
}

static struct vmm_virtio *make_card(struct fixture *f, uint32_t mtu)
{
    const struct vmm_net_ops ops = {.size = sizeof(ops),
                                    .send = on_send,
                                    .accept = on_accept,
                                    .offloads = VMM_NET_CSUM | VMM_NET_TSO4,
                                    .queues = PAIRS,
                                    .set_offloads = on_offloads,
                                    .set_queues = on_queues};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    place.name = "net0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_net_new(&ops, f, &f->net), 0);
    o.net = f->net;
    o.mac = mac;
    o.queues = PAIRS;
    o.mtu = mtu;
    o.speed = mtu ? 10000 : 0;
    assert_int_equal(vmm_virtio_net_new(&place, &o, &virtio, NULL), 0);
    return virtio;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    *state = f;
    driver_open(&f->d);
    f->d.size = SIZE;
    driver_attach(&f->d, make_card(f, 0));
    return 0;
}

static int set_up_packed(void **state)
{
    int rc = set_up(state);
    ((struct fixture *)*state)->d.packed = true;
    return rc;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    vmm_net_unref(f->net);
    free(f);
    return 0;
}

/* The driver ----------------------------------------------------------------------------------- */

static uint64_t ring_at(const struct vq *q)
{
    return 0x20000 + q->index * 0x3000;
}

static void enable(struct fixture *f, struct vq *q, uint32_t index)
{
    struct driver *d = &f->d;
    memset(q, 0, sizeof(*q));
    q->index = index;
    vmm_memory_fill(d->memory, ring_at(q), 0, 0x3000);
    d->queue = index;
    set_queue(d, SIZE, ring_at(q), ring_at(q) + 0x1000, ring_at(q) + 0x2000);
    assert_int_equal(reg(d, 0x44), 1);
}

static void begin(struct fixture *f, uint64_t features)
{
    struct driver *d = &f->d;
    uint32_t pairs = features & F(MQ) ? PAIRS : 1;
    negotiate(d, features);
    assert_int_equal(reg(d, 0x70), 0xb);
    for (uint32_t i = 0; i < pairs; i++) {
        enable(f, &f->rx[i], 2 * i);
        enable(f, &f->tx[i], 2 * i + 1);
    }
    if (features & F(CTRL_VQ))
        enable(f, &f->ctrl, 2 * pairs);
    set_reg(d, 0x70, 0xf);
    run(d);
    assert_int_equal(reg(d, 0x70), OK_STATUS);
}

/* Make a chain available, without a notification. */
static void add(struct fixture *f, struct vq *q, const struct buffer *b, uint32_t count)
{
    struct driver *d = &f->d;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)(q->slot + i) % SIZE;
        uint32_t n = (uint32_t)q->slot + i;
        uint16_t flags = (uint16_t)(b[i].flags | (i + 1 < count ? NEXT : 0));
        if (d->packed)
            flags |= n / SIZE % 2 ? 0x8000 : 0x0080;
        put_desc(d, ring_at(q) + 16 * slot, b[i].address, b[i].length, flags,
                 (uint16_t)(d->packed ? q->slot % SIZE : (slot + 1) % SIZE));
    }
    if (!d->packed) {
        uint64_t avail = ring_at(q) + 0x1000;
        vmm_memory_store_u16(d->memory, avail + 4 + 2 * (q->avail % SIZE), q->slot % SIZE);
        vmm_memory_store_u16(d->memory, avail + 2, (uint16_t)(q->avail + 1));
    }
    q->counts[q->avail % SIZE] = (uint16_t)count;
    q->avail++;
    q->slot = (uint16_t)(q->slot + count);
}

static void kick(struct fixture *f, struct vq *q)
{
    set_reg(&f->d, 0x50, q->index);
    run(&f->d);
}

/* The length of the next chain that has come back, or -1. */
static int64_t back(struct fixture *f, struct vq *q)
{
    struct driver *d = &f->d;
    uint16_t value, count = q->counts[q->used % SIZE];
    uint32_t length;
    if (!d->packed) {
        vmm_memory_load_u16(d->memory, ring_at(q) + 0x2002, &value);
        if (value == q->used)
            return -1;
        uint64_t at = ring_at(q) + 0x2004 + 8 * (q->used % SIZE);
        vmm_memory_load_u32(d->memory, at + 4, &length);
        q->used++;
        return length;
    }
    uint64_t at = ring_at(q) + 16 * (q->place % SIZE);
    vmm_memory_load_u16(d->memory, at + 14, &value);
    bool wrap = q->place / SIZE % 2 == 0;
    if (((value & 0x8000) != 0) != wrap || ((value & 0x80) != 0) != wrap)
        return -1;
    vmm_memory_load_u32(d->memory, at + 8, &length);
    q->used++;
    q->place += count;
    return length;
}

static void add_rx(struct fixture *f, struct vq *q, uint64_t address, uint32_t length)
{
    const struct buffer b = {address, length, WRITE};
    add(f, q, &b, 1);
    kick(f, q);
}

static int deliver(struct fixture *f, const void *data, size_t length, uint32_t queue)
{
    const struct iovec pieces[] = {{(void *)(uintptr_t)data, 1},
                                   {(uint8_t *)(uintptr_t)data + 1, length - 1}};
    const struct vmm_net_frame frame = {.pieces = pieces, .count = 2, .queue = queue};
    int ret = vmm_net_deliver_frame(f->net, &frame);
    run(&f->d);
    return ret;
}

static void fill_frame(uint8_t *data, size_t length, const uint8_t *to)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    memcpy(data, to, 6);
    data[12] = 8;
    data[13] = 0;
}

static void assert_memory(struct fixture *f, uint64_t address, const void *data, size_t length)
{
    static uint8_t in[VMM_NET_FRAME_MAX];
    vmm_memory_read(f->d.memory, address, in, length);
    assert_memory_equal(in, data, length);
}

static bool broken(struct fixture *f)
{
    return reg(&f->d, 0x70) & NEEDS_RESET;
}

/* A command of `length` bytes with the class and number in front; its answer, -1: none. */
static int command(struct fixture *f, const void *data, uint32_t length)
{
    const struct buffer b[] = {
        {BUFFERS, 1, 0}, {BUFFERS + 1, length - 1, 0}, {BUFFERS + 0x800, 1, WRITE}};
    uint8_t ack = 0xee;
    vmm_memory_write(f->d.memory, BUFFERS, data, length);
    vmm_memory_store_u8(f->d.memory, BUFFERS + 0x800, ack);
    add(f, &f->ctrl, b, 3);
    kick(f, &f->ctrl);
    if (back(f, &f->ctrl) != 1)
        return -1;
    vmm_memory_load_u8(f->d.memory, BUFFERS + 0x800, &ack);
    return ack;
}

#define COMMAND(f, ...) command(f, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

/* Frames --------------------------------------------------------------------------------------- */

static void frames_come_in(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1514];
    static const uint8_t header[HEADER] = {[10] = 1};
    fill_frame(frame, sizeof(frame), mac);
    for (int merged = 0; merged < 2; merged++) {
        begin(f, merged ? F(MRG) : 0);
        for (uint32_t i = 0; i < 40; i++) { /* the ring wraps */
            const struct buffer b[] = {
                {BUFFERS, 5, WRITE}, {BUFFERS + 5, 10, WRITE}, {BUFFERS + 15, 1600, WRITE}};
            vmm_memory_fill(f->d.memory, BUFFERS, 0xaa, 1700);
            add(f, &f->rx[0], b, 3);
            kick(f, &f->rx[0]);
            assert_int_equal(deliver(f, frame, 60 + i, 0), 0);
            assert_int_equal(back(f, &f->rx[0]), 60 + i + HEADER);
            assert_memory(f, BUFFERS, header, HEADER);
            assert_memory(f, BUFFERS + HEADER, frame, 60 + i);
            assert_memory(f, BUFFERS + HEADER + 60 + i, "\xaa", 1);
        }
        assert_true(f->d.edges > 0);
    }
}

static void no_frames_before_the_driver_is_ready(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64];
    fill_frame(frame, sizeof(frame), mac);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), 0);
    begin(f, 0);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN); /* no buffer yet */
    f->accepts = 0;
    add_rx(f, &f->rx[0], BUFFERS, 2000);
    assert_true(f->accepts > 0);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), 0);
    assert_int_equal(back(f, &f->rx[0]), 64 + HEADER);
    assert_int_equal(deliver(f, frame, 13, 0), 0); /* no Ethernet header: dropped */
    assert_int_equal(back(f, &f->rx[0]), -1);
}

static void merged_buffers_come_together(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1000], header[HEADER] = {[10] = 8};
    fill_frame(frame, sizeof(frame), mac);
    begin(f, F(MRG) | F(29));
    for (uint32_t round = 0; round < 5; round++) {
        /* 1012 bytes need eight buffers of 128. */
        for (uint32_t i = 0; i < 7; i++)
            add_rx(f, &f->rx[0], BUFFERS + 0x1000 * i, 128);
        assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
        assert_int_equal(back(f, &f->rx[0]), -1);
        assert_int_equal(deliver(f, frame, 100, 0), 0); /* what fits in one goes */
        assert_int_equal(back(f, &f->rx[0]), 112);
        add_rx(f, &f->rx[0], BUFFERS + 0x7000, 128);
        assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
        f->accepts = 0;
        add_rx(f, &f->rx[0], BUFFERS + 0x8000, 200);
        assert_true(f->accepts > 0);
        assert_int_equal(deliver(f, frame, sizeof(frame), 0), 0);
        for (uint32_t i = 0; i < 8; i++) {
            size_t length = i < 7 ? 128 : 1012 - 7 * 128;
            assert_int_equal(back(f, &f->rx[0]), length);
            uint64_t at = BUFFERS + 0x1000 * (i + 1);
            if (i == 0) {
                assert_memory(f, at, header, HEADER);
                assert_memory(f, at + HEADER, frame, 128 - HEADER);
            } else {
                assert_memory(f, at, frame + 128 * i - HEADER, length);
            }
        }
        assert_int_equal(back(f, &f->rx[0]), -1);
    }
    assert_false(broken(f));
}

static void buffers_that_are_too_small(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[2000];
    fill_frame(frame, sizeof(frame), mac);
    begin(f, 0);
    add_rx(f, &f->rx[0], BUFFERS, 100);
    assert_int_equal(deliver(f, frame, 89, 0), 0); /* one byte too many: lost */
    assert_int_equal(back(f, &f->rx[0]), -1);
    assert_int_equal(deliver(f, frame, 88, 0), 0);
    assert_int_equal(back(f, &f->rx[0]), 100);
    begin(f, F(MRG)); /* more than are merged */
    f->d.size = SIZE;
    for (uint32_t i = 0; i < SIZE; i++)
        add_rx(f, &f->rx[0], BUFFERS, HEADER);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
    assert_false(broken(f));
    for (uint32_t merged = 0; merged < 2; merged++) {
        begin(f, merged ? F(MRG) : 0);
        add_rx(f, &f->rx[0], BUFFERS, HEADER - 1);
        assert_int_equal(deliver(f, frame, 64, 0), 0);
        assert_true(broken(f));
        assert_int_equal(deliver(f, frame, 64, 0), 0);
    }
    begin(f, 0); /* only readable */
    const struct buffer b = {BUFFERS, 2000, 0};
    add(f, &f->rx[0], &b, 1);
    kick(f, &f->rx[0]);
    assert_int_equal(deliver(f, frame, 64, 0), 0);
    assert_true(broken(f));
    begin(f, 0); /* not in memory: a hole, ROM, the end of the address space */
    static const uint64_t bad[] = {0x40000000, ROM_AT, UINT64_MAX - 10, BASE, RAM_SIZE - 10};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        add_rx(f, &f->rx[0], bad[i], 2000);
        assert_int_equal(deliver(f, frame, 64, 0), 0);
        assert_true(broken(f));
        begin(f, 0);
    }
}

static void frames_go_out(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[500];
    static const uint8_t header[HEADER] = {3, 0, 1, 2, 3, 4, 34, 0, 16, 0};
    fill_frame(frame, sizeof(frame), mac);
    begin(f, F(CSUM));
    for (uint32_t i = 0; i < 40; i++) {
        const struct buffer b[] = {
            {BUFFERS, 5, 0}, {BUFFERS + 5, 8, 0}, {BUFFERS + 13, 400 + i, 0}};
        vmm_memory_write(f->d.memory, BUFFERS, header, HEADER);
        vmm_memory_write(f->d.memory, BUFFERS + HEADER, frame, sizeof(frame));
        add(f, &f->tx[0], b, 3);
        kick(f, &f->tx[0]);
        assert_int_equal(back(f, &f->tx[0]), 0);
        assert_int_equal(f->sent, i + 1);
        assert_int_equal(f->length, 401 + i);
        assert_memory_equal(f->data, frame, f->length);
        assert_int_equal(f->last.offload.flags, VMM_NET_NEEDS_CSUM);
        assert_int_equal(f->last.offload.csum_start, 34);
        assert_int_equal(f->last.offload.csum_offset, 16);
        assert_int_equal(f->last.offload.gso_size, 0); /* not a segment: junk */
    }
}

static void segments_go_out(void **state)
{
    struct fixture *f = *state;
    static const uint8_t header[HEADER] = {1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0};
    const struct buffer b[] = {{BUFFERS, HEADER, 0}, {BUFFERS + HEADER, 60000, 0}};
    begin(f, F(CSUM) | F(HOST_TSO4));
    vmm_memory_write(f->d.memory, BUFFERS, header, HEADER);
    add(f, &f->tx[0], b, 2);
    kick(f, &f->tx[0]);
    assert_int_equal(f->length, 60000);
    assert_int_equal(f->last.offload.gso_type, VMM_NET_GSO_TCPV4);
    assert_int_equal(f->last.offload.gso_size, 1460);
    assert_int_equal(f->last.offload.hdr_len, 54);
}

/* Frames that cannot be sent are lost, and the chain comes back. */
static void frames_that_make_no_sense(void **state)
{
    struct fixture *f = *state;
    static const uint8_t headers[][HEADER] = {
        {1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, /* a checksum beyond the end */
        {0, 1, 0, 0, 0, 0},                         /* segments of no size */
        {0, 1, 0xff, 0xff, 1, 0},                   /* headers beyond the end */
        {0, 0x42, 0, 0, 1, 0},                      /* no such kind */
        {0, 4, 0, 0, 1, 0},                         /* one that the backend does not do */
    };
    const struct buffer sound[] = {{BUFFERS, HEADER + 64, 0}};
    begin(f, F(CSUM) | F(HOST_TSO4));
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        vmm_memory_write(f->d.memory, BUFFERS, headers[i], HEADER);
        add(f, &f->tx[0], sound, 1);
        kick(f, &f->tx[0]);
        assert_int_equal(back(f, &f->tx[0]), 0);
    }
    vmm_memory_fill(f->d.memory, BUFFERS, 0, HEADER);
    const struct buffer empty = {BUFFERS, HEADER, 0},
                        huge[] = {{BUFFERS, HEADER, 0}, {0x10000, 0xf000, 0}, {0x10000, 0xf000, 0}};
    add(f, &f->tx[0], &empty, 1);
    kick(f, &f->tx[0]);
    assert_int_equal(back(f, &f->tx[0]), 0);
    add(f, &f->tx[0], huge, 3);
    kick(f, &f->tx[0]);
    assert_int_equal(back(f, &f->tx[0]), 0);
    assert_int_equal(f->sent, 0);
    assert_false(broken(f));
    add(f, &f->tx[0], sound, 1);
    kick(f, &f->tx[0]);
    assert_int_equal(f->sent, 1);
    const struct buffer shorter = {BUFFERS, HEADER - 1, 0}, writable = {BUFFERS, 100, WRITE};
    add(f, &f->tx[0], &shorter, 1);
    kick(f, &f->tx[0]);
    assert_true(broken(f));
    begin(f, 0);
    add(f, &f->tx[0], &writable, 1);
    kick(f, &f->tx[0]);
    assert_true(broken(f));
    assert_int_equal(f->sent, 1);
}

static void a_backend_that_is_full_loses_nothing(void **state)
{
    struct fixture *f = *state;
    begin(f, 0);
    f->full = true;
    for (uint8_t i = 0; i < 10; i++) {
        const struct buffer b = {BUFFERS + 100u * i, HEADER + 20, 0};
        vmm_memory_fill(f->d.memory, b.address, 0, HEADER);
        vmm_memory_fill(f->d.memory, b.address + HEADER, i, 20);
        add(f, &f->tx[0], &b, 1);
        kick(f, &f->tx[0]);
    }
    assert_int_equal(back(f, &f->tx[0]), -1);
    for (uint8_t i = 0; i < 10; i++) {
        f->full = false;
        vmm_net_writable(f->net);
        run(&f->d);
        if (i == 0)
            assert_int_equal(f->sent, 10); /* all of them at once */
        assert_int_equal(back(f, &f->tx[0]), 0);
    }
    assert_int_equal(f->data[0], 9);
    assert_int_equal(back(f, &f->tx[0]), -1);
}

static void reset_with_frames_that_wait(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1000];
    fill_frame(frame, sizeof(frame), mac);
    const struct buffer b = {BUFFERS, HEADER + 20, 0};
    for (int i = 0; i < 50; i++) {
        begin(f, F(MRG));
        f->full = true;
        add(f, &f->tx[0], &b, 1);
        kick(f, &f->tx[0]);
        add_rx(f, &f->rx[0], BUFFERS, 128);
        assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
        f->accepts = 0;
        set_reg(&f->d, 0x70, 0);
        assert_true(f->accepts > 0); /* so that the backend drops it */
        f->full = false;
        vmm_net_writable(f->net);
        run(&f->d);
        assert_int_equal(f->sent, 0);
        assert_int_equal(deliver(f, frame, sizeof(frame), 0), 0);
    }
    begin(f, F(MRG));
    f->full = true; /* and the card goes as it is */
    add(f, &f->tx[0], &b, 1);
    kick(f, &f->tx[0]);
    add_rx(f, &f->rx[0], BUFFERS, 128);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
}

/* A driver that notifies only when it was asked to (§2.7.10), with more frames than the ring holds. */
static bool wants_kick(struct fixture *f, const struct vq *q, uint16_t before, bool event)
{
    uint16_t value;
    if (event) {
        vmm_memory_load_u16(f->d.memory, ring_at(q) + 0x2004 + 8 * SIZE, &value);
        return (uint16_t)(q->avail - value - 1) < (uint16_t)(q->avail - before);
    }
    vmm_memory_load_u16(f->d.memory, ring_at(q) + 0x2000, &value);
    return !(value & 1);
}

static void no_wakeup_is_lost(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[3000];
    unsigned seed = 1;
    fill_frame(frame, sizeof(frame), mac);
    for (int event = 0; event < 2; event++) {
        begin(f, F(MRG) | (event ? F(29) : 0));
        struct vq *q = &f->rx[0];
        uint16_t out = 0;
        bool waits = false;
        size_t length = 60;
        unsigned delivered = 0;
        for (int i = 0; i < 20000 && delivered < 2000; i++) {
            seed = seed * 1103515245 + 12345;
            unsigned dice = seed >> 16;
            if (!waits || f->accepts) { /* the backend's part */
                f->accepts = 0;
                waits = deliver(f, frame, length, 0) == -EAGAIN;
                if (!waits) {
                    delivered++;
                    length = dice % 4 ? 60 : 60 + dice % 2000;
                }
            }
            while (back(f, q) >= 0)
                out--;
            uint16_t before = q->avail;
            for (unsigned n = dice / 8 % 8; n > 0 && out < SIZE; n--, out++) {
                const struct buffer b = {BUFFERS + 0x1000u * (dice % 16), 256, WRITE};
                add(f, q, &b, 1);
            }
            if (q->avail != before && wants_kick(f, q, before, event))
                set_reg(&f->d, 0x50, 0);
            run(&f->d);
        }
        assert_int_equal(delivered, 2000);
    }
}

/* The control queue ---------------------------------------------------------------------------- */

static void commands_of_every_length(void **state)
{
    struct fixture *f = *state;
    uint8_t data[64];
    begin(f, CTRL | F(MQ) | F(CSUM) | F(GUEST_CSUM) | F(OFFLOADS));
    for (uint32_t class = 0; class < 8; class ++)
        for (uint32_t number = 0; number < 8; number++)
            for (uint32_t length = 2; length < 24; length++) {
                static const uint8_t needed[8][8] = {
                    {3, 3, 3, 3, 3, 3}, {10, 8}, {4, 4}, {2}, {4}, {10}};
                memset(data, 0, sizeof(data));
                data[0] = (uint8_t) class;
                data[1] = (uint8_t)number;
                if (class == 4)
                    data[2] = 1;
                bool good = needed[class][number] && length >= needed[class][number];
                assert_int_equal(command(f, data, length), good ? 0 : 1);
            }
    assert_false(broken(f));
    /* Values. */
    assert_int_equal(COMMAND(f, 0, 0, 2), 1);            /* neither on nor off */
    assert_int_equal(COMMAND(f, 2, 0, 0xff, 0x0f), 0);   /* VLAN 4095 */
    assert_int_equal(COMMAND(f, 2, 0, 0, 0x10), 1);      /* and no further */
    assert_int_equal(COMMAND(f, 4, 0, 0, 0), 1);         /* no pairs */
    assert_int_equal(COMMAND(f, 4, 0, PAIRS + 1, 0), 1); /* too many */
    assert_int_equal(COMMAND(f, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(f->offloads, VMM_NET_CSUM);
    assert_int_equal(COMMAND(f, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(f->offloads, 0);
    assert_int_equal(COMMAND(f, 5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0), 1);    /* was not negotiated */
    assert_int_equal(COMMAND(f, 1, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6), 1); /* no second table */
    assert_int_equal(COMMAND(f, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), 1);
    assert_int_equal(COMMAND(f, 1, 0, 0xab, 0xaa, 0xaa, 0xaa, 0, 0, 0, 0), 1); /* *6 wraps */
}

static void commands_without_room(void **state)
{
    struct fixture *f = *state;
    const struct buffer one[] = {{BUFFERS, 1, 0}, {BUFFERS + 8, 1, WRITE}},
                        no_answer = {BUFFERS, 3, 0};
    begin(f, CTRL);
    add(f, &f->ctrl, one, 2);
    kick(f, &f->ctrl);
    assert_true(broken(f));
    begin(f, CTRL);
    add(f, &f->ctrl, &no_answer, 1);
    kick(f, &f->ctrl);
    assert_true(broken(f));
    begin(f, F(CTRL_VQ)); /* commands whose features were not accepted */
    assert_int_equal(COMMAND(f, 0, 0, 1), 1);
    assert_int_equal(COMMAND(f, 0, 2, 1), 1);
    assert_int_equal(COMMAND(f, 1, 1, 2, 0, 0, 0, 0, 0), 1);
    assert_int_equal(COMMAND(f, 2, 0, 1, 0), 1);
    assert_int_equal(COMMAND(f, 3, 0), 1);
    assert_int_equal(COMMAND(f, 4, 0, 1, 0), 1);
    begin(f, 0); /* no control queue: nothing there is looked at */
    enable(f, &f->ctrl, 2);
    assert_int_equal(COMMAND(f, 0, 0, 1), -1);
    assert_false(broken(f));
}

/* Does a frame to this address come? */
static bool comes(struct fixture *f, const uint8_t *to, int tag)
{
    uint8_t frame[64];
    fill_frame(frame, sizeof(frame), to);
    if (tag >= 0) {
        frame[12] = 0x81;
        frame[14] = (uint8_t)(0xe0 | tag >> 8); /* with a priority */
        frame[15] = (uint8_t)tag;
    }
    if (f->rx[0].avail == f->rx[0].used) /* else one is there still */
        add_rx(f, &f->rx[0], BUFFERS + 0x1000, 200);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), 0);
    return back(f, &f->rx[0]) > 0;
}

static void filters_filter(void **state)
{
    struct fixture *f = *state;
    static const uint8_t other[] = {2, 9, 9, 9, 9, 9}, group[] = {1, 0, 0x5e, 0, 0, 1};
    static const uint8_t all[] = {255, 255, 255, 255, 255, 255};
    begin(f, CTRL & ~F(VLAN));
    assert_true(comes(f, other, -1)); /* before a filter is set */
    assert_int_equal(COMMAND(f, 0, 0, 0), 0);
    assert_false(comes(f, other, -1));
    assert_false(comes(f, group, -1));
    assert_true(comes(f, mac, -1));
    assert_true(comes(f, all, -1));
    assert_true(comes(f, mac, 5));
    assert_int_equal(COMMAND(f, 0, 1, 1), 0);
    assert_true(comes(f, group, -1));
    assert_int_equal(COMMAND(f, 0, 3, 1), 0);
    assert_false(comes(f, group, -1));
    assert_int_equal(COMMAND(f, 0, 5, 1), 0);
    assert_false(comes(f, all, -1));
    assert_int_equal(COMMAND(f, 0, 2, 1), 0);
    assert_true(comes(f, other, -1));
    assert_int_equal(COMMAND(f, 0, 4, 1), 0);
    assert_false(comes(f, mac, -1));
    begin(f, CTRL & ~F(VLAN)); /* a reset forgets it all */
    assert_true(comes(f, group, -1));
    assert_int_equal(COMMAND(f, 0, 0, 0), 0);
    assert_int_equal(
        COMMAND(f, 1, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1), 0);
    assert_true(comes(f, other, -1));
    assert_true(comes(f, group, -1));
    assert_false(comes(f, (const uint8_t[]){1, 0, 0x5e, 0, 0, 2}, -1));
    assert_int_equal(COMMAND(f, 1, 1, 2, 8, 8, 8, 8, 8), 0); /* a new address */
    assert_false(comes(f, mac, -1));
    assert_true(comes(f, (const uint8_t[]){2, 8, 8, 8, 8, 8}, -1));
    assert_int_equal(reg(&f->d, 0x100), 0x08080802);
    uint8_t many[2 + 4 + 65 * 6 + 4] = {1, 0, 65}; /* more than the card lists: all pass */
    assert_int_equal(command(f, many, sizeof(many)), 0);
    assert_true(comes(f, mac, -1));
    assert_false(comes(f, group, -1));
}

static void vlans_filter(void **state)
{
    struct fixture *f = *state;
    begin(f, CTRL);
    assert_true(comes(f, mac, -1));
    assert_false(comes(f, mac, 5));
    assert_int_equal(COMMAND(f, 2, 0, 5, 0), 0);
    assert_int_equal(COMMAND(f, 2, 0, 0xff, 0xf), 0);
    assert_true(comes(f, mac, 5));
    assert_true(comes(f, mac, 4095));
    assert_false(comes(f, mac, 6));
    assert_int_equal(COMMAND(f, 2, 1, 5, 0), 0);
    assert_false(comes(f, mac, 5));
}

static void several_pairs(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64];
    fill_frame(frame, sizeof(frame), mac);
    const struct buffer out = {BUFFERS, 100, 0};
    begin(f, CTRL | F(MQ));
    assert_int_equal(reg(&f->d, 0x108) & 0xffff, PAIRS);
    assert_int_equal(f->queues, 1);
    for (uint32_t i = 0; i < PAIRS; i++)
        add_rx(f, &f->rx[i], BUFFERS + 0x1000 * (i + 1), 200);
    assert_int_equal(deliver(f, frame, 60, 1), 0); /* one pair is on */
    assert_int_equal(back(f, &f->rx[1]), -1);
    assert_int_equal(back(f, &f->rx[0]), 72);
    assert_int_equal(COMMAND(f, 4, 0, PAIRS, 0), 0);
    assert_int_equal(f->queues, PAIRS);
    assert_int_equal(deliver(f, frame, 61, 1), 0);
    assert_int_equal(back(f, &f->rx[1]), 73);
    vmm_memory_fill(f->d.memory, BUFFERS, 0, HEADER);
    add(f, &f->tx[1], &out, 1);
    kick(f, &f->tx[1]);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->last.queue, 1);
}

static void offloads_are_negotiated(void **state)
{
    struct fixture *f = *state;
    const struct vmm_net_offload tso = {.flags = 1,
                                        .gso_type = 1,
                                        .hdr_len = 54,
                                        .gso_size = 1460,
                                        .csum_start = 34,
                                        .csum_offset = 16};
    static const uint8_t header[HEADER] = {1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0};
    uint8_t data[3000];
    const struct iovec piece = {data, sizeof(data)};
    const struct vmm_net_frame frame = {.pieces = &piece, .count = 1, .offload = tso};
    fill_frame(data, sizeof(data), mac);
    set_reg(&f->d, 0x14, 0);
    uint32_t offered = reg(&f->d, 0x10);
    assert_true(offered & F(CSUM) && offered & F(HOST_TSO4) && offered & F(GUEST_TSO4));
    assert_true(offered & F(OFFLOADS));
    assert_false(offered & F(12) || offered & F(8) || offered & F(MTU));
    begin(f, F(GUEST_TSO4)); /* without GUEST_CSUM: nothing */
    assert_int_equal(f->offloads, 0);
    begin(f, F(GUEST_CSUM) | F(GUEST_TSO4));
    assert_int_equal(f->offloads, VMM_NET_CSUM | VMM_NET_TSO4);
    add_rx(f, &f->rx[0], BUFFERS, 4000);
    assert_int_equal(vmm_net_deliver_frame(f->net, &frame), 0);
    assert_int_equal(back(f, &f->rx[0]), 3012);
    assert_memory(f, BUFFERS, header, HEADER);
    begin(f, 0);
    assert_int_equal(f->offloads, 0);
    add_rx(f, &f->rx[0], BUFFERS, 4000);
    assert_int_equal(vmm_net_deliver_frame(f->net, &frame), -ENOTSUP);
    const struct vmm_net_frame verified = {.pieces = &piece, .count = 1, .offload = {.flags = 2}};
    assert_int_equal(vmm_net_deliver_frame(f->net, &verified), 0);
    assert_memory(f, BUFFERS, "\0", 1); /* it has not asked to know */
}

static void the_link_goes_down_and_up(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[64], address[6];
    const struct buffer out = {BUFFERS, 100, 0};
    fill_frame(frame, sizeof(frame), mac);
    begin(f, CTRL);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 1);
    vmm_net_set_link(f->net, false);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 0);
    assert_int_equal(reg(&f->d, 0x60) & 2, 2);
    vmm_net_set_link(f->net, true);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 1);
    assert_int_equal(vmm_virtio_net_set_link(f->d.virtio, false), 0);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 0);
    add_rx(f, &f->rx[0], BUFFERS + 0x1000, 200);
    assert_int_equal(deliver(f, frame, 60, 0), 0);
    assert_int_equal(back(f, &f->rx[0]), -1);
    vmm_memory_fill(f->d.memory, BUFFERS, 0, HEADER);
    add(f, &f->tx[0], &out, 1);
    kick(f, &f->tx[0]);
    assert_int_equal(back(f, &f->tx[0]), 0);
    assert_int_equal(f->sent, 0);
    assert_int_equal(vmm_virtio_net_set_link(f->d.virtio, true), 0);
    assert_int_equal(deliver(f, frame, 60, 0), 0);
    assert_int_equal(back(f, &f->rx[0]), 72);
    assert_int_equal(vmm_virtio_net_announce(f->d.virtio), 0);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 3);
    assert_int_equal(COMMAND(f, 3, 0), 0);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 1);
    begin(f, 0);
    assert_int_equal(vmm_virtio_net_announce(f->d.virtio), -ENOTSUP);
    assert_int_equal(vmm_virtio_net_mac(f->d.virtio, address), 0);
    assert_memory_equal(address, mac, 6);
}

static void the_mtu_is_told_and_kept(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1600];
    driver_close(&f->d);
    vmm_net_unref(f->net);
    driver_open(&f->d);
    f->d.size = SIZE;
    driver_attach(&f->d, make_card(f, 1280));
    begin(f, F(MTU) | F(SPEED));
    fill_frame(frame, sizeof(frame), mac);
    assert_int_equal(reg(&f->d, 0x108) >> 16, 1280);
    assert_int_equal(reg(&f->d, 0x10c), 10000);
    assert_int_equal(reg(&f->d, 0x110) & 0xff, 1);
    add_rx(f, &f->rx[0], BUFFERS, 2000);
    assert_int_equal(deliver(f, frame, 1280 + 19, 0), 0);
    assert_int_equal(back(f, &f->rx[0]), -1);
    assert_int_equal(deliver(f, frame, 1280 + 18, 0), 0);
    assert_int_equal(back(f, &f->rx[0]), 1280 + 18 + HEADER);
}

/* Legacy drivers: no num_buffers where they do not merge, and an address that they write. */
static void headers_of_legacy_drivers(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio *v = f->d.virtio;
    uint8_t frame[64];
    fill_frame(frame, sizeof(frame), mac);
    for (uint32_t merged = 0; merged < 2; merged++) {
        uint32_t header = merged ? 12 : 10;
        set_reg(&f->d, 0x70, 0);
        set_reg(&f->d, 0x70, 3);
        vmm_device_lock(vmm_virtio_device(v));
        vmm_virtio_set_features(v, 0, merged ? (uint32_t)F(MRG) : 0);
        vmm_virtio_accept_legacy(v);
        vmm_device_unlock(vmm_virtio_device(v));
        enable(f, &f->rx[0], 0);
        enable(f, &f->tx[0], 1);
        set_reg(&f->d, 0x70, 7);
        add_rx(f, &f->rx[0], BUFFERS, 200);
        assert_int_equal(deliver(f, frame, 60, 0), 0);
        assert_int_equal(back(f, &f->rx[0]), 60 + header);
        assert_memory(f, BUFFERS + header, frame, 60);
        const struct buffer out = {BUFFERS, header + 60, 0};
        add(f, &f->tx[0], &out, 1);
        kick(f, &f->tx[0]);
        assert_int_equal(f->length, 60);
        assert_memory_equal(f->data, frame, 60);
    }
    assert_int_equal(vmm_bus_write(f->d.bus, BASE + 0x105, 1, 0x77), 0);
    assert_int_equal(reg(&f->d, 0x104) & 0xffff, 0x7704);
    begin(f, 0);
    assert_int_equal(vmm_bus_write(f->d.bus, BASE + 0x105, 1, 0x66), 0);
    assert_int_equal(reg(&f->d, 0x104) & 0xffff, 0x0504);
}

static void *save(struct vmm_virtio *v, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(v), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static int load(struct vmm_virtio *v, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_device_load(vmm_virtio_device(v), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1000];
    size_t length;
    const struct buffer out = {BUFFERS, 100, 0};
    fill_frame(frame, sizeof(frame), mac);
    begin(f, CTRL | F(MQ) | F(MRG) | F(CSUM) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(OFFLOADS));
    assert_int_equal(COMMAND(f, 4, 0, PAIRS, 0), 0);
    assert_int_equal(COMMAND(f, 0, 0, 0), 0);
    assert_int_equal(COMMAND(f, 1, 1, 2, 8, 8, 8, 8, 8), 0);
    assert_int_equal(COMMAND(f, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6), 0);
    assert_int_equal(COMMAND(f, 2, 0, 9, 0), 0);
    assert_int_equal(COMMAND(f, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0), 0); /* checksums, no segments */
    f->full = true; /* a frame that waits for the backend, and three buffers that do not suffice */
    vmm_memory_fill(f->d.memory, BUFFERS, 0, HEADER);
    add(f, &f->tx[1], &out, 1);
    kick(f, &f->tx[1]);
    for (uint32_t i = 0; i < 3; i++)
        add_rx(f, &f->rx[0], BUFFERS + 0x1000 * (i + 1), 128);
    memcpy(frame, "\2\10\10\10\10\10", 6);
    assert_int_equal(deliver(f, frame, sizeof(frame), 0), -EAGAIN);
    void *blob = save(f->d.virtio, &length);

    /* Into another card, over the same memory. */
    struct vmm_memory *memory = f->d.memory;
    struct vmm_loop *loop = f->d.loop;
    vmm_bus_unref(f->d.bus);
    vmm_virtio_unref(f->d.virtio);
    vmm_net_unref(f->net);
    f->sent = 0;
    f->full = false;
    f->offloads = f->queues = 0;
    struct vmm_virtio *card = make_card(f, 0);
    assert_int_equal(vmm_bus_new("memory", 64, &f->d.bus), 0);
    assert_int_equal(vmm_irq_line_new_callback(driver_level, &f->d, &f->d.line), 0);
    driver_attach(&f->d, card);
    assert_int_equal(load(card, blob, length), 0);
    assert_int_equal(f->queues, PAIRS);
    assert_int_equal(f->offloads, VMM_NET_CSUM);
    run(&f->d);
    assert_int_equal(f->sent, 1); /* it was not lost */
    assert_int_equal(back(f, &f->tx[1]), 0);
    assert_int_equal(reg(&f->d, 0x104) >> 16, 3);   /* to be announced */
    assert_int_equal(deliver(f, frame, 300, 0), 0); /* the three buffers are there */
    assert_int_equal(back(f, &f->rx[0]), 128);
    assert_int_equal(back(f, &f->rx[0]), 128);
    assert_int_equal(back(f, &f->rx[0]), 312 - 256);
    assert_false(comes(f, mac, -1));
    assert_true(comes(f, (const uint8_t[]){2, 8, 8, 8, 8, 8}, -1));
    assert_true(comes(f, (const uint8_t[]){1, 2, 3, 4, 5, 6}, -1));
    assert_true(comes(f, (const uint8_t[]){1, 2, 3, 4, 5, 6}, 9));
    assert_false(comes(f, (const uint8_t[]){1, 2, 3, 4, 5, 6}, 10));
    assert_ptr_equal(memory, f->d.memory);
    assert_ptr_equal(loop, f->d.loop);
    free(blob);
}

/* Each byte of a state changed: refused, or a card that works. */
static void forged_states(void **state)
{
    struct fixture *f = *state;
    size_t length;
    begin(f, CTRL | F(MQ) | F(CSUM) | F(GUEST_CSUM));
    uint8_t *blob = save(f->d.virtio, &length);
    unsigned loaded = 0;
    for (size_t i = 0; i < length; i++) {
        struct vmm_state_reader *r;
        blob[i] ^= 0x55;
        if (vmm_state_reader_new(blob, length, &r, NULL) == 0) {
            if (vmm_device_load(vmm_virtio_device(f->d.virtio), r, NULL) == 0) {
                uint8_t frame[64];
                loaded++;
                fill_frame(frame, sizeof(frame), mac);
                (void)deliver(f, frame, sizeof(frame), 1);
                kick(f, &f->tx[0]);
                kick(f, &f->ctrl);
            }
            vmm_state_reader_free(r);
        }
        blob[i] ^= 0x55;
        set_reg(&f->d, 0x70, 0);
    }
    assert_true(loaded > 10 && loaded < length);
    free(blob);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    struct vmm_virtio *v;
    static const uint8_t group[6] = {1};
    place.name = "net1";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_virtio_net_new(&place, &o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_net_new(&place, NULL, &v, NULL), -EINVAL);
    o.net = f->net;
    assert_int_equal(vmm_virtio_net_new(NULL, &o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_net_new(&place, &o, &v, NULL), -EBUSY);
    const struct {
        uint32_t queues, queue_size, mtu, speed;
    } bad[] = {{65, 0, 0, 0}, {1, 100, 0, 0},   {1, 2048, 0, 0},
               {1, 0, 67, 0}, {1, 0, 65536, 0}, {1, 0, 0, 1u << 31}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        o.queues = bad[i].queues;
        o.queue_size = bad[i].queue_size;
        o.mtu = bad[i].mtu;
        o.speed = bad[i].speed;
        assert_int_equal(vmm_virtio_net_new(&place, &o, &v, NULL), -EINVAL);
    }
    o = (struct vmm_virtio_net_options)VMM_VIRTIO_NET_OPTIONS_INIT;
    o.net = f->net;
    o.mac = group;
    assert_int_equal(vmm_virtio_net_new(&place, &o, &v, NULL), -EINVAL);
    begin(f, 0); /* and the card that has the net still works */
    add_rx(f, &f->rx[0], BUFFERS, 200);
    assert_true(comes(f, mac, -1));
    struct vmm_virtio *rng;
    uint8_t address[6];
    assert_int_equal(vmm_virtio_rng_new(&place, &rng, NULL), 0);
    assert_int_equal(vmm_virtio_net_set_link(rng, true), -EINVAL);
    assert_int_equal(vmm_virtio_net_announce(rng), -EINVAL);
    assert_int_equal(vmm_virtio_net_mac(rng, address), -EINVAL);
    assert_int_equal(vmm_virtio_net_mac(f->d.virtio, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_net_announce(NULL), -EINVAL);
    vmm_virtio_unref(rng);
}

#define BOTH(f)                                                                                    \
    {#f " (split)", f, set_up, tear_down, NULL},                                                   \
    {                                                                                              \
#f " (packed)", f, set_up_packed, tear_down, NULL                                          \
    }
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(frames_come_in),
        TEST(no_frames_before_the_driver_is_ready),
        BOTH(merged_buffers_come_together),
        TEST(buffers_that_are_too_small),
        BOTH(frames_go_out),
        TEST(segments_go_out),
        TEST(frames_that_make_no_sense),
        BOTH(a_backend_that_is_full_loses_nothing),
        BOTH(reset_with_frames_that_wait),
        TEST(no_wakeup_is_lost),
        TEST(commands_of_every_length),
        TEST(commands_without_room),
        TEST(filters_filter),
        TEST(vlans_filter),
        TEST(several_pairs),
        TEST(offloads_are_negotiated),
        TEST(the_link_goes_down_and_up),
        TEST(the_mtu_is_told_and_kept),
        TEST(headers_of_legacy_drivers),
        BOTH(saved_and_loaded),
        TEST(forged_states),
        TEST(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
