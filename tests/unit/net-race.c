/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network card whose backend lives on another thread's loop: frames come in while the driver sends,
 * commands, resets and the cable come in between. For ThreadSanitizer; on its own it shows that nothing
 * stops for ever and that frames are whole.
 */
#include "virtio-driver.h"

#include <libvmm/net.h>

#include <pthread.h>
#include <stdatomic.h>

#define SIZE   16u
#define FRAME  200u
#define ROUNDS 300

struct far {
    struct vmm_loop *loop;
    struct vmm_net *net;
    pthread_t thread;
    _Atomic unsigned frames, torn;
    _Atomic bool end;
};

struct world {
    struct driver d;
    struct far far;
    struct vmm_net *net;
    uint16_t avail[2], used[2];
};

static bool whole(const uint8_t *data, size_t length)
{
    for (size_t i = 13; i < length; i++)
        if (data[i] != data[12])
            return false;
    return length == FRAME;
}

/* The other end sends back what it gets. */
static int echo(void *ctx, const struct vmm_net_frame *frame)
{
    struct far *far = ctx;
    uint8_t data[FRAME + 1];
    size_t length = vmm_iov_read(frame->pieces, frame->count, 0, data, sizeof(data));
    const struct iovec piece = {data, length};
    far->frames++;
    far->torn += !whole(data, length);
    (void)vmm_net_send(far->net, &piece, 1);
    return 0;
}

static void *far_side(void *ctx)
{
    struct far *far = ctx;
    while (!far->end)
        (void)vmm_loop_dispatch(far->loop, 20);
    return NULL;
}

static uint64_t ring_at(uint32_t queue)
{
    return 0x20000 + queue * 0x3000;
}

static uint64_t buffer_at(uint32_t queue, uint32_t slot)
{
    return 0x80000 + 0x10000 * queue + 0x400 * slot;
}

static void begin(struct world *w)
{
    struct driver *d = &w->d;
    negotiate(d, VMM_VIRTIO_FEATURE(15)); /* merged buffers */
    memset(w->avail, 0, sizeof(w->avail));
    memset(w->used, 0, sizeof(w->used));
    for (uint32_t queue = 0; queue < 2; queue++) {
        vmm_memory_fill(d->memory, ring_at(queue), 0, 0x3000);
        for (uint32_t i = 0; i < SIZE; i++)
            put_desc(d, ring_at(queue) + 16 * i, buffer_at(queue, i), queue ? 12 + FRAME : 100,
                     queue ? 0 : WRITE, 0);
        d->queue = queue;
        set_queue(d, SIZE, ring_at(queue), ring_at(queue) + 0x1000, ring_at(queue) + 0x2000);
    }
    set_reg(d, 0x70, 0xf);
}

static uint16_t used_index(struct world *w, uint32_t queue)
{
    uint16_t value;
    vmm_memory_load_u16(w->d.memory, ring_at(queue) + 0x2002, &value);
    return value;
}

static void offer_all(struct world *w, uint32_t queue)
{
    uint64_t avail = ring_at(queue) + 0x1000;
    uint16_t before = w->avail[queue];
    w->used[queue] = used_index(w, queue);
    for (; (uint16_t)(w->avail[queue] - w->used[queue]) < SIZE; w->avail[queue]++) {
        uint32_t slot = w->avail[queue] % SIZE;
        if (queue == 1) {
            vmm_memory_fill(w->d.memory, buffer_at(1, slot), 0, 12);
            vmm_memory_fill(w->d.memory, buffer_at(1, slot) + 12, (uint8_t)slot, FRAME);
        }
        vmm_memory_store_u16(w->d.memory, avail + 4 + 2 * slot, (uint16_t)slot);
    }
    if (w->avail[queue] == before)
        return;
    vmm_memory_store_u16(w->d.memory, avail + 2, w->avail[queue]);
    set_reg(&w->d, 0x50, queue);
}

static void round_of(struct world *w, int round)
{
    begin(w);
    for (int i = 0; i < 20; i++) {
        offer_all(w, 0);
        offer_all(w, 1);
        (void)vmm_loop_dispatch(w->d.loop, 0);
        if (i == 10 && round % 3 == 0) {
            assert_int_equal(vmm_virtio_net_set_link(w->d.virtio, false), 0);
            assert_int_equal(vmm_virtio_net_set_link(w->d.virtio, true), 0);
        }
    }
}

/* After all that, frames still go round. */
static void still_alive(struct world *w)
{
    unsigned before = w->far.frames;
    begin(w);
    uint64_t end = vmm_loop_now(w->d.loop) + UINT64_C(20000000000); /* the other thread may wait */
    while (vmm_loop_now(w->d.loop) < end &&
           (w->far.frames < before + 100 || used_index(w, 0) == 0)) {
        offer_all(w, 0);
        offer_all(w, 1);
        (void)vmm_loop_dispatch(w->d.loop, 10);
    }
    assert_int_equal(reg(&w->d, 0x70), OK_STATUS);
    assert_true(w->far.frames >= before + 100);
    assert_true(used_index(w, 0) > 0);
    assert_int_equal(reg(&w->d, 0x70), OK_STATUS);
}

static void frames_from_another_thread(void **state)
{
    static const struct vmm_net_user user = {sizeof(user), echo, NULL, NULL};
    struct world *w = calloc(1, sizeof(*w));
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    (void)state;
    assert_non_null(w);
    driver_open(&w->d);
    assert_int_equal(vmm_loop_new(NULL, &w->far.loop), 0);
    /* Both ends of the cable are on the other thread: so are the card's callbacks. */
    assert_int_equal(vmm_net_new_pair(w->far.loop, w->far.loop, &w->net, &w->far.net, NULL), 0);
    assert_int_equal(vmm_net_set_user(w->far.net, &user, &w->far), 0);
    place.name = "net0";
    place.memory = w->d.memory;
    place.loop = w->d.loop;
    o.net = w->net;
    assert_int_equal(vmm_virtio_net_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&w->d, virtio);
    assert_int_equal(pthread_create(&w->far.thread, NULL, far_side, &w->far), 0);
    for (int i = 0; i < ROUNDS; i++)
        round_of(w, i);
    still_alive(w);
    driver_close(&w->d); /* the card goes while frames come */
    w->far.end = true;
    pthread_join(w->far.thread, NULL);
    assert_int_equal(w->far.torn, 0);
    vmm_net_unref(w->net);
    vmm_net_unref(w->far.net);
    vmm_loop_unref(w->far.loop);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames_from_another_thread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
