/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O threads: where their callbacks run, what a pause promises, and a disk on such a thread whose driver,
 * resets and snapshots come from another. For ThreadSanitizer too.
 */
#include "virtio-driver.h"

#include <libvmm/block.h>
#include <libvmm/device.h>
#include <libvmm/iothread.h>
#include <libvmm/state.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct counter {
    struct vmm_loop *loop;
    struct vmm_iothread *thread;
    pthread_t on;
    uint32_t plain; /* guarded by nothing but pauses */
    _Atomic uint32_t seen;
    _Atomic int pause_result;
};

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void wait_for(_Atomic uint32_t *seen, uint32_t value)
{
    for (int i = 0; i < 20000 && *seen < value; i++)
        sleep_ms(1);
    assert_true(*seen >= value);
}

static void count(void *ctx)
{
    struct counter *c = ctx;
    c->on = pthread_self();
    c->plain++;
    c->seen++;
}

static void again(void *ctx)
{
    struct counter *c = ctx;
    count(c);
    (void)vmm_loop_post(c->loop, again, c);
}

static void pause_from_inside(void *ctx)
{
    struct counter *c = ctx;
    c->pause_result = vmm_iothread_pause(c->thread);
    c->seen++;
}

static void callbacks_run_on_the_thread(void **state)
{
    struct vmm_iothread *t;
    struct counter c = {0};
    (void)state;
    assert_int_equal(vmm_iothread_new("io-test", &t), 0);
    c.loop = vmm_iothread_loop(t);
    c.thread = t;
    assert_int_equal(vmm_loop_post(c.loop, count, &c), 0);
    wait_for(&c.seen, 1);
    assert_int_equal(vmm_loop_post(c.loop, pause_from_inside, &c), 0);
    wait_for(&c.seen, 2);
    assert_int_equal(c.pause_result, -EDEADLK);
    assert_int_equal(vmm_iothread_pause(t), 0);
    assert_false(pthread_equal(c.on, pthread_self()));
    vmm_iothread_ref(t);
    vmm_iothread_unref(t);
    vmm_iothread_unref(t); /* while it is paused */
}

static void bad_input(void **state)
{
    struct vmm_iothread *t;
    (void)state;
    assert_int_equal(vmm_iothread_new("x", NULL), -EINVAL);
    assert_int_equal(vmm_iothread_new("", &t), -EINVAL);
    assert_int_equal(vmm_iothread_new("sixteen-letters-", &t), -EINVAL);
    assert_int_equal(vmm_iothread_pause(NULL), -EINVAL);
    assert_int_equal(vmm_iothread_resume(NULL), -EINVAL);
    assert_null(vmm_iothread_unref(NULL));
    assert_int_equal(vmm_iothread_new(NULL, &t), 0);
    assert_int_equal(vmm_iothread_resume(t), -EINVAL);
    vmm_iothread_unref(t);
}

/* Callbacks without end: between pause and resume there is none, and the caller is in their place. */
static void a_pause_excludes(void **state)
{
    struct vmm_iothread *t;
    struct counter c = {0};
    (void)state;
    assert_int_equal(vmm_iothread_new(NULL, &t), 0);
    c.loop = vmm_iothread_loop(t);
    assert_int_equal(vmm_loop_post(c.loop, again, &c), 0);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(vmm_iothread_pause(t), 0);
        assert_int_equal(vmm_iothread_pause(t), 0);
        uint32_t before = c.plain;
        c.plain++;
        assert_true(vmm_loop_dispatch(c.loop, 0) >= 0); /* not busy: it is ours */
        assert_int_equal(vmm_iothread_resume(t), 0);
        if (i % 50 == 0)
            sleep_ms(2);
        assert_true(c.plain > before);
        assert_int_equal(c.plain, c.seen + i + 1);
        assert_int_equal(vmm_iothread_resume(t), 0);
    }
    uint32_t seen = c.seen;
    wait_for(&c.seen, seen + 1);
    vmm_iothread_unref(t);
}

static void pause_and_resume(struct vmm_iothread *t)
{
    for (int i = 0; i < 500; i++) {
        assert_int_equal(vmm_iothread_pause(t), 0);
        assert_int_equal(vmm_iothread_resume(t), 0);
    }
}

static void *pauser(void *ctx)
{
    pause_and_resume(ctx);
    return NULL;
}

static void two_that_pause(void **state)
{
    struct vmm_iothread *t;
    pthread_t other;
    (void)state;
    assert_int_equal(vmm_iothread_new(NULL, &t), 0);
    assert_int_equal(pthread_create(&other, NULL, pauser, t), 0);
    pause_and_resume(t);
    pthread_join(other, NULL);
    vmm_iothread_unref(t);
}

/* A disk ---------------------------------------------------------------------------------------- */

#define SECTORS 64u
#define HEADER  (BUFFER + 0x000)
#define STATUS  (BUFFER + 0x800)
#define DATA    (BUFFER + 0x1000)

struct disk {
    struct driver d;
    struct vmm_iothread *thread;
    struct vmm_block *block;
    char path[64];
};

static void open_disk(struct disk *f, uint32_t engine)
{
    struct vmm_block_raw_options raw = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct vmm_virtio_blk_options o = VMM_VIRTIO_BLK_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    driver_open(&f->d);
    assert_int_equal(vmm_iothread_new("io-disk", &f->thread), 0);
    strcpy(f->path, "/tmp/libvmm-iothread-XXXXXX");
    int fd = mkstemp(f->path);
    assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
    close(fd);
    raw.path = f->path;
    raw.threads = 2;
    raw.engine = engine;
    assert_int_equal(vmm_block_raw_new(vmm_iothread_loop(f->thread), &raw, &f->block, NULL), 0);
    place.name = "disk0";
    place.memory = f->d.memory;
    place.loop = vmm_iothread_loop(f->thread);
    o.block = f->block;
    assert_int_equal(vmm_virtio_blk_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    start(&f->d, VMM_VIRTIO_FEATURE(9));
}

static void close_disk(struct disk *f)
{
    assert_int_equal(vmm_iothread_pause(f->thread), 0);
    driver_close(&f->d);
    vmm_block_unref(f->block);
    vmm_iothread_unref(f->thread);
    unlink(f->path);
}

/* A driver needs no lock; ThreadSanitizer does not see how rings order what is done to memory. */
static struct vmm_virtio_queue *lock(struct disk *f)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(f->d.virtio, 0);
    vmm_virtio_queue_lock(q);
    return q;
}

static void put_request(struct disk *f, uint32_t type, uint64_t sector)
{
    struct driver *d = &f->d;
    struct vmm_virtio_queue *q = lock(f);
    vmm_memory_store_u32(d->memory, HEADER, type);
    vmm_memory_store_u64(d->memory, HEADER + 8, sector);
    desc(d, 0, HEADER, 16, NEXT);
    desc(d, 1, DATA, 512, (uint16_t)(NEXT | (type ? 0 : WRITE)));
    desc(d, 2, STATUS, 1, WRITE);
    vmm_memory_store_u16(d->memory, RING_AVAIL + 4 + 2 * (d->avail % d->size), 0);
    vmm_memory_store_u16(d->memory, RING_AVAIL + 2, ++d->avail);
    vmm_virtio_queue_unlock(q);
    set_reg(d, 0x50, 0);
}

static void finish_request(struct disk *f)
{
    uint8_t status = 0xee;
    int64_t length = -1;
    for (int i = 0; i < 20000 && length < 0; i++) {
        struct vmm_virtio_queue *q = lock(f);
        length = take(&f->d, 3);
        vmm_virtio_queue_unlock(q);
        if (length < 0)
            sleep_ms(1);
    }
    assert_true(length >= 1);
    vmm_memory_load_u8(f->d.memory, STATUS, &status);
    assert_int_equal(status, 0);
}

static void check_sector(struct disk *f, uint8_t value)
{
    uint8_t data[512];
    assert_int_equal(vmm_memory_read(f->d.memory, DATA, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], value);
}

static void save_disk(struct disk *f)
{
    struct vmm_state_writer *w;
    assert_int_equal(vmm_iothread_pause(f->thread), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(f->d.virtio), w), 0);
    assert_int_equal(vmm_block_in_flight(f->block), 0);
    vmm_state_writer_free(w);
    assert_int_equal(vmm_iothread_resume(f->thread), 0);
}

static void disk_on_a_thread(uint32_t engine)
{
    struct disk f;
    open_disk(&f, engine);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t sector = i % SECTORS;
        vmm_memory_fill(f.d.memory, DATA, (uint8_t)(i + 1), 512);
        put_request(&f, 1, sector);
        if (i % 5 == 1)
            save_disk(&f); /* the request comes to its end in there */
        finish_request(&f);
        vmm_memory_fill(f.d.memory, DATA, 0, 512);
        put_request(&f, 0, sector);
        finish_request(&f);
        check_sector(&f, (uint8_t)(i + 1));
        if (i % 7 == 0) { /* a reset while one is under way */
            put_request(&f, 0, sector);
            start(&f.d, VMM_VIRTIO_FEATURE(9));
        }
    }
    put_request(&f, 0, 0); /* and the end */
    close_disk(&f);
}

static void disk_with_threads(void **state)
{
    (void)state;
    disk_on_a_thread(VMM_BLOCK_ENGINE_THREADS);
}

static void disk_with_any_engine(void **state)
{
    (void)state;
    disk_on_a_thread(VMM_BLOCK_ENGINE_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_run_on_the_thread),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(a_pause_excludes),
        cmocka_unit_test(two_that_pause),
        cmocka_unit_test(disk_with_threads),
        cmocka_unit_test(disk_with_any_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
