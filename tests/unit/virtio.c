/* SPDX-License-Identifier: BSD-3-Clause */
/* Virtio's queues and MMIO transport: what a sound driver gets, and what becomes of a hostile one.
 * The device under test copies what it reads to what it may write. Each test runs on a split and on
 * a packed queue. */
#include "virtio-driver.h"

struct fixture {
    struct driver d;
    struct vmm_virtio_chain *chain;
    uint32_t chains, resets;
    bool keep; /* the chain stays out */
    bool kept;
    uint8_t config[4];
};

static void echo(struct fixture *f)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(f->d.virtio, 0);
    uint8_t data[256];
    size_t n = vmm_iov_read(f->chain->readable, f->chain->readable_count, 0, data, sizeof(data));
    n = vmm_iov_write(f->chain->writable, f->chain->writable_count, 0, data, n);
    vmm_virtio_queue_push(q, f->chain, n);
}

static void notify(void *ctx, uint32_t queue)
{
    struct fixture *f = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(f->d.virtio, queue);
    while (!f->kept && vmm_virtio_queue_pop(q, f->chain) > 0) {
        f->chains++;
        if (f->keep)
            f->kept = true;
        else
            echo(f);
    }
    vmm_virtio_queue_signal(q);
}

static void queue_reset(void *ctx, uint32_t queue)
{
    struct fixture *f = ctx;
    (void)queue;
    f->resets++;
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct fixture *)ctx)->config + offset, length);
}

static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    memcpy(((struct fixture *)ctx)->config + offset, data, length);
}

static const struct vmm_virtio_ops ops = {
    .size = sizeof(ops),
    .notify = notify,
    .queue_reset = queue_reset,
    .config_read = config_read,
    .config_write = config_write,
};

static struct vmm_virtio_options options(struct fixture *f)
{
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    o.name = "echo";
    o.device_id = 42;
    o.queues = 1;
    o.queue_size_max = 256;
    o.chain_max = 6;
    o.config_size = 4;
    o.features = 1;
    o.memory = f->d.memory;
    o.loop = f->d.loop;
    o.ops = &ops;
    o.ctx = f;
    return o;
}

static int set_up(void **state, bool packed)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    f->d.packed = packed;
    struct vmm_virtio_options o = options(f);
    assert_int_equal(vmm_virtio_new(&o, &virtio, NULL), 0);
    assert_int_equal(vmm_virtio_chain_new(virtio, &f->chain), 0);
    driver_attach(&f->d, virtio);
    return 0;
}

static int set_up_split(void **state)
{
    return set_up(state, false);
}

static int set_up_packed(void **state)
{
    return set_up(state, true);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->kept) {
        vmm_virtio_queue_lock(vmm_virtio_queue(f->d.virtio, 0));
        vmm_virtio_queue_drop(vmm_virtio_queue(f->d.virtio, 0), f->chain);
        vmm_virtio_queue_unlock(vmm_virtio_queue(f->d.virtio, 0));
    }
    vmm_virtio_chain_free(f->chain);
    driver_close(&f->d);
    free(f);
    return 0;
}

#define EVENT_IDX     VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_EVENT_IDX)
#define WITH_INDIRECT VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_INDIRECT)

/* "hello" in one buffer, room in another; the device must copy it. */
static void hello(struct fixture *f)
{
    struct driver *d = &f->d;
    char text[6] = {0};
    vmm_memory_write(d->memory, BUFFER, "hello", 5);
    vmm_memory_fill(d->memory, BUFFER + 0x100, 0, 16);
    desc(d, 0, BUFFER, 5, NEXT);
    desc(d, 1, BUFFER + 0x100, 16, WRITE);
    offer(d, 2);
    assert_int_equal(take(d, 2), 5);
    vmm_memory_read(d->memory, BUFFER + 0x100, text, 5);
    assert_string_equal(text, "hello");
}

static void buffers_go_round(void **state)
{
    struct fixture *f = *state;
    start(&f->d, 0);
    for (int i = 0; i < 1000; i++) {
        hello(f);
        assert_int_equal(f->d.level, 1);
        assert_int_equal(reg(&f->d, 0x60), 1);
        set_reg(&f->d, 0x64, 1);
        assert_int_equal(f->d.level, 0);
    }
    assert_int_equal(f->chains, 1000);
}

static void indirect_tables(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    start(d, WITH_INDIRECT);
    vmm_memory_write(d->memory, BUFFER, "abcdef", 6);
    put_desc(d, TABLE, BUFFER, 3, NEXT, 1);
    put_desc(d, TABLE + 16, BUFFER + 3, 3, NEXT, 2);
    put_desc(d, TABLE + 32, BUFFER + 0x100, 16, WRITE, 0);
    desc(d, 0, TABLE, 48, INDIRECT);
    offer(d, 1);
    assert_int_equal(take(d, 1), 6);
}

static void interrupts_only_as_asked(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    start(d, 0);
    /* Not at all. */
    vmm_memory_store_u16(d->memory, d->packed ? RING_AVAIL + 2 : RING_AVAIL, 1);
    hello(f);
    assert_int_equal(d->level, 0);
    vmm_memory_store_u16(d->memory, d->packed ? RING_AVAIL + 2 : RING_AVAIL, 0);
    hello(f);
    assert_int_equal(d->level, 1);
    /* At an event: the third chain from here. */
    start(d, EVENT_IDX);
    hello(f);
    set_reg(d, 0x64, 3);
    if (d->packed) {
        vmm_memory_store_u16(d->memory, RING_AVAIL, 0x8000 | 6);
        vmm_memory_store_u16(d->memory, RING_AVAIL + 2, 2);
    } else {
        vmm_memory_store_u16(d->memory, RING_AVAIL + 4 + 2 * d->size, 3);
    }
    hello(f);
    hello(f);
    assert_int_equal(d->level, 0);
    hello(f);
    assert_int_equal(d->level, 1);
    /* The device asks for the next kick. */
    uint16_t word;
    vmm_memory_load_u16(d->memory, d->packed ? RING_USED : RING_USED + 4 + 8 * d->size, &word);
    assert_int_equal(word, d->packed ? 0 : 4); /* packed: slot 0 of the second round */
}

static void expect_broken(struct fixture *f, uint32_t descriptors)
{
    struct driver *d = &f->d;
    uint32_t chains = f->chains;
    offer(d, descriptors);
    assert_int_equal(reg(d, 0x70), OK_STATUS | NEEDS_RESET);
    assert_int_equal(reg(d, 0x60) & 2, 2); /* told by a change of configuration */
    assert_int_equal(f->chains, chains);
    assert_int_equal(take(d, descriptors), -1);
    offer(d, descriptors); /* it does nothing more */
    assert_int_equal(f->chains, chains);
    start(d, WITH_INDIRECT); /* and a reset repairs it */
    hello(f);
    start(d, WITH_INDIRECT);
}

static void chains_that_are_wrong(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    start(d, WITH_INDIRECT);
    /* Loops, or as long as the ring without an end; more than the device takes. */
    for (uint32_t i = 0; i < d->size; i++)
        put_desc(d, RING_DESC + 16 * i, BUFFER, 1, (uint16_t)(NEXT | avail_bits(d, 0)), 0);
    expect_broken(f, 1);
    for (uint32_t i = 0; i < 7; i++)
        desc(d, i, BUFFER, 1, i == 6 ? 0 : NEXT);
    expect_broken(f, 7);
    /* A readable buffer behind a writable one. */
    desc(d, 0, BUFFER, 1, NEXT | WRITE);
    desc(d, 1, BUFFER, 1, 0);
    expect_broken(f, 2);
    if (d->packed)
        return;
    put_desc(d, RING_DESC, BUFFER, 1, NEXT, 8); /* a link out of the table */
    expect_broken(f, 1);
    vmm_memory_store_u16(d->memory, RING_AVAIL + 2, 9); /* more than fit */
    d->avail = 8;
    expect_broken(f, 1);
    vmm_memory_store_u16(d->memory, RING_AVAIL + 4, 8); /* a head out of the table */
    vmm_memory_store_u16(d->memory, RING_AVAIL + 2, 1);
    set_reg(d, 0x50, 0);
    run(d);
    assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
}

static void tables_that_are_wrong(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    static const uint32_t sizes[] = {0, 1, 15, 17, 16 * 7, UINT32_MAX, 0xfffffff0};
    start(d, WITH_INDIRECT);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint32_t n = 0; n < 7; n++)
            put_desc(d, TABLE + 16 * n, BUFFER, 1, n < 6 ? NEXT : 0, (uint16_t)(n + 1));
        desc(d, 0, TABLE, sizes[i], INDIRECT);
        expect_broken(f, 1);
    }
    put_desc(d, TABLE, TABLE, 16, INDIRECT, 0); /* inside of itself */
    desc(d, 0, TABLE, 16, INDIRECT);
    expect_broken(f, 1);
    put_desc(d, TABLE, BUFFER, 1, 0, 0);
    desc(d, 0, TABLE, 16, INDIRECT | NEXT);
    desc(d, 1, BUFFER, 1, 0);
    expect_broken(f, 2);
    static const uint64_t places[] = {RAM_SIZE, RAM_SIZE - 8, UINT64_MAX - 15, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        desc(d, 0, places[i], 16, INDIRECT);
        expect_broken(f, 1);
    }
    if (!d->packed) {
        put_desc(d, TABLE, BUFFER, 1, NEXT, 0); /* to itself */
        put_desc(d, TABLE + 16, BUFFER, 1, NEXT, 0);
        desc(d, 0, TABLE, 32, INDIRECT);
        expect_broken(f, 1);
        put_desc(d, TABLE, BUFFER, 1, NEXT, 2); /* out of the table */
        desc(d, 0, TABLE, 32, INDIRECT);
        expect_broken(f, 1);
    }
    start(d, 0); /* not negotiated */
    put_desc(d, TABLE, BUFFER, 1, 0, 0);
    desc(d, 0, TABLE, 16, INDIRECT);
    expect_broken(f, 1);
}

static void buffers_outside_of_memory(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    static const struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
        bool good;
    } cases[] = {
        {RAM_SIZE - 16, 16, 0, true},
        {RAM_SIZE - 16, 16, WRITE, true},
        {RAM_SIZE - 16, 17, 0, false},
        {RAM_SIZE - 16, 17, WRITE, false},
        {RAM_SIZE, 1, 0, false},
        {RAM_SIZE, 1, WRITE, false},
        {ROM_AT, 16, 0, true},
        {ROM_AT, 16, WRITE, false},
        {BASE, 4, 0, false},
        {BASE, 4, WRITE, false},
        {BASE + 0x50, 4, WRITE, false},
        {UINT64_MAX - 3, 4, WRITE, false},
        {UINT64_MAX - 3, 5, WRITE, false},
        {0x100, UINT32_MAX, WRITE, false},
        {UINT64_MAX, UINT32_MAX, 0, false},
        {0, 0, WRITE, true},
    };
    start(d, WITH_INDIRECT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        desc(d, 0, cases[i].address, cases[i].length, cases[i].flags);
        if (!cases[i].good) {
            expect_broken(f, 1);
            continue;
        }
        offer(d, 1);
        assert_int_equal(take(d, 1), 0);
        assert_int_equal(reg(d, 0x70), OK_STATUS);
    }
}

static void rings_outside_of_memory(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    static const uint64_t bad[] = {RAM_SIZE, BASE, UINT64_C(0x8000000000000000)};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        for (int which = 0; which < 3; which++) {
            negotiate(d, 0);
            set_queue(d, 8, which == 0 ? bad[i] : RING_DESC, which == 1 ? bad[i] : RING_AVAIL,
                      which == 2 ? bad[i] : RING_USED);
            set_reg(d, 0x70, 0xf);
            desc(d, 0, BUFFER, 1, 0);
            offer(d, 1);
            assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        }
    /* Refused at once: misaligned, wrapping, a size that there is not. */
    static const struct {
        uint32_t size;
        uint64_t desc, driver, device;
    } refused[] = {
        {0, RING_DESC, RING_AVAIL, RING_USED},     {257, RING_DESC, RING_AVAIL, RING_USED},
        {512, RING_DESC, RING_AVAIL, RING_USED},   {UINT32_MAX, RING_DESC, RING_AVAIL, RING_USED},
        {8, RING_DESC + 8, RING_AVAIL, RING_USED}, {8, RING_DESC, RING_AVAIL + 1, RING_USED},
        {8, RING_DESC, RING_AVAIL, RING_USED + 2}, {8, UINT64_MAX - 15, RING_AVAIL, RING_USED},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        negotiate(d, 0);
        set_queue(d, refused[i].size, refused[i].desc, refused[i].driver, refused[i].device);
        assert_int_equal(reg(d, 0x44), 0);
        assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
    }
    negotiate(d, 0); /* packed rings may have any size */
    set_queue(d, 7, RING_DESC, RING_AVAIL, RING_USED);
    assert_int_equal(reg(d, 0x44), d->packed);
}

static void status_goes_step_by_step(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    assert_int_equal(reg(d, 0), 0x74726976);
    assert_int_equal(reg(d, 4), 2);
    assert_int_equal(reg(d, 8), 42);
    set_reg(d, 0x70, 0xf & ~1u); /* out of turn */
    assert_int_equal(reg(d, 0x70), 2);
    set_reg(d, 0x70, 0);
    set_queue(d, 8, RING_DESC, RING_AVAIL, RING_USED); /* before the features */
    assert_int_equal(reg(d, 0x44), 0);
    negotiate(d, UINT64_C(1) << 50); /* not offered */
    assert_int_equal(reg(d, 0x70), 3);
    set_reg(d, 0x70, 7);
    assert_int_equal(reg(d, 0x70), 3);
    set_reg(d, 0x70, 0);
    set_reg(d, 0x70, 3); /* an old driver: no VERSION_1 */
    set_reg(d, 0x70, 0xb);
    assert_int_equal(reg(d, 0x70), 3);
    /* Nothing is taken before DRIVER_OK, and all of it then. */
    negotiate(d, 1);
    assert_int_equal(vmm_virtio_features(d->virtio) & 1, 1);
    set_queue(d, 8, RING_DESC, RING_AVAIL, RING_USED);
    desc(d, 0, BUFFER, 1, 0);
    offer(d, 1);
    assert_int_equal(f->chains, 0);
    set_reg(d, 0x70, 0xf);
    run(d);
    assert_int_equal(f->chains, 1);
    set_reg(d, 0x38, 4); /* its registers keep still while it is on */
    set_reg(d, 0x80, 0x5000);
    take(d, 1);
    hello(f);
    set_reg(d, 0x70, 0x8f); /* the driver has given up */
    desc(d, 0, BUFFER, 1, 0);
    offer(d, 1);
    assert_int_equal(f->chains, 2);
}

static void every_register_at_every_width(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    static const uint64_t values[] = {0, 1, 0x80000000, UINT32_MAX, UINT64_MAX};
    start(d, 0);
    for (uint32_t width = 1; width <= 8; width *= 2)
        for (uint32_t offset = 0; offset < 0x200; offset++)
            for (size_t i = 0; i < 5; i++) {
                uint64_t value;
                vmm_bus_write(d->bus, BASE + offset, width, values[i]);
                vmm_bus_read(d->bus, BASE + offset, width, &value);
                run(d);
            }
    start(d, 0);
    hello(f);
}

static void reset_with_a_chain_out(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    struct vmm_virtio_queue *q = vmm_virtio_queue(d->virtio, 0);
    f->keep = true;
    start(d, VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_QUEUE_RESET));
    desc(d, 0, BUFFER, 16, WRITE);
    offer(d, 1);
    assert_true(f->kept);
    uint32_t resets = f->resets;
    set_reg(d, 0xc0, 1);
    assert_int_equal(f->resets, resets + 1);
    assert_int_equal(reg(d, 0x44), 0);
    set_queue(d, 8, RING_DESC, RING_AVAIL, RING_USED);
    vmm_virtio_queue_lock(q);
    vmm_virtio_queue_push(q, f->chain, 16); /* of the queue before: nobody gets it */
    vmm_virtio_queue_signal(q);
    vmm_virtio_queue_unlock(q);
    f->keep = f->kept = false;
    assert_int_equal(take(d, 1), -1);
}

static void configuration_and_its_interrupt(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    start(d, 0);
    uint32_t generation = reg(d, 0xfc);
    set_reg(d, 0x100, 0x12345678);
    assert_int_equal(reg(d, 0x100), 0x12345678);
    assert_int_equal(reg(d, 0x104), 0); /* beyond its end */
    vmm_device_lock(vmm_virtio_device(d->virtio));
    vmm_virtio_config_changed(d->virtio);
    vmm_device_unlock(vmm_virtio_device(d->virtio));
    assert_int_not_equal(reg(d, 0xfc), generation);
    assert_int_equal(reg(d, 0x60), 2);
    assert_int_equal(d->level, 1);
    set_reg(d, 0x64, 2);
    assert_int_equal(d->level, 0);
}

static void save_and_load(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    struct vmm_device *device = vmm_virtio_device(d->virtio);
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    start(d, EVENT_IDX);
    for (int i = 0; i < 5; i++)
        hello(f);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    vmm_device_reset(device);
    assert_int_equal(d->level, 0);
    assert_int_equal(reg(d, 0x70), 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    struct vmm_error err = VMM_ERROR_INIT;
    (void)vmm_device_load(device, r, &err);
    assert_string_equal(err.text, "");
    vmm_state_reader_free(r);
    free(blob);
    assert_int_equal(reg(d, 0x70), OK_STATUS);
    assert_int_equal(d->level, 1);
    hello(f);
}

/* The map changes under the ring: the same place shows other memory, which is then used. */
static void ring_that_leaves_the_map(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *hole;
    start(d, 0);
    hello(f);
    o.type = VMM_MEMORY_HOLE;
    o.length = 0x10000;
    assert_int_equal(vmm_memory_region_new(&o, &hole, NULL), 0);
    assert_int_equal(vmm_memory_add(d->memory, hole, 0, 1, NULL), 0);
    set_reg(d, 0x50, 0);
    run(d);
    assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
    assert_int_equal(vmm_memory_remove(d->memory, hole, NULL), 0);
    vmm_memory_region_unref(hole);
    start(d, 0);
    hello(f);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio *v;
    struct vmm_virtio_options o = options(f);
    assert_int_equal(vmm_virtio_new(NULL, &v, NULL), -EINVAL);
    o.queues = 0;
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    o = options(f);
    o.queue_size_max = 100;
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    o = options(f);
    o.queue_size_max = 65536;
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    o = options(f);
    o.chain_max = 1025;
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    o = options(f);
    o.name = "No Name";
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    o = options(f);
    o.memory = NULL;
    assert_int_equal(vmm_virtio_new(&o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_mmio_attach(f->d.virtio, f->d.bus, 0, NULL, NULL), -EBUSY);
}

#define BOTH(test)                                                                                 \
    {#test " (split)", test, set_up_split, tear_down, NULL},                                       \
    {                                                                                              \
#test " (packed)", test, set_up_packed, tear_down, NULL                                    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(buffers_go_round),
        BOTH(indirect_tables),
        BOTH(interrupts_only_as_asked),
        BOTH(chains_that_are_wrong),
        BOTH(tables_that_are_wrong),
        BOTH(buffers_outside_of_memory),
        BOTH(rings_outside_of_memory),
        BOTH(status_goes_step_by_step),
        BOTH(every_register_at_every_width),
        BOTH(reset_with_a_chain_out),
        BOTH(configuration_and_its_interrupt),
        BOTH(save_and_load),
        BOTH(ring_that_leaves_the_map),
        BOTH(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
