/* SPDX-License-Identifier: BSD-3-Clause */
/* Block devices without a file and over others, on a clock of the test's own. */
#include "test.h"

#include <libvmm/block-filters.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define LENGTH (8u << 20)
#define MS     1000000u

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *memory, *faults;
    uint64_t now;
    uint32_t done, failed;
    int last;
    uint32_t stops, goes_on;
    struct vmm_block_failure failure;
};

static uint64_t now_of(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_loop_options l = VMM_LOOP_OPTIONS_INIT;
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    *state = f;
    f->now = 1000 * MS;
    l.now = now_of;
    l.now_ctx = f;
    m.length = LENGTH;
    return vmm_loop_new(&l, &f->loop) || vmm_block_memory_new(f->loop, &m, &f->memory, NULL) ||
           vmm_block_faults_new(f->memory, &f->faults, NULL);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_block_unref(f->faults);
    vmm_block_unref(f->memory);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < 50; i++)
        assert_true(vmm_loop_dispatch(f->loop, 0) >= 0);
}

static void done(struct vmm_block_request *r, int result)
{
    struct fixture *f = r->ctx;
    f->done++;
    f->failed += result != 0;
    f->last = result;
}

static uint8_t data[65536];
static struct iovec whole = {data, sizeof(data)};

static void submit(struct fixture *f, struct vmm_block *block, struct vmm_block_request *r,
                   uint32_t op, uint64_t offset, uint64_t length)
{
    static struct iovec vectors[4096];
    static uint32_t next;
    struct iovec *v = &vectors[next++ % 4096];
    *v = (struct iovec){data, length};
    *r = (struct vmm_block_request){.op = op,
                                    .offset = offset,
                                    .length = length,
                                    .vector = v,
                                    .vector_count = op <= VMM_BLOCK_WRITE,
                                    .done = done,
                                    .ctx = f};
    vmm_block_submit(block, r);
}

static void fill(uint8_t *to, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1103515245u + 12345u;
        to[i] = (uint8_t)(seed >> 16);
    }
}

/* Against a flat array: any device that is to behave as a disk. */
static void behaves_as_a_disk(struct vmm_block *block, uint8_t *model, uint64_t length)
{
    static uint8_t back[200 * 512];
    uint32_t seed = 42;
    for (int i = 0; i < 3000; i++) {
        seed = seed * 1103515245u + 12345u;
        uint64_t at = (seed >> 8) % (length / 512 - 200) * 512;
        uint64_t n = 512ull * (1 + (seed >> 4) % 200);
        if (seed & 0x10000) {
            fill(back, n, seed);
            assert_int_equal(vmm_block_write(block, at, back, n), 0);
            memcpy(model + at, back, n);
        } else if (!(seed & 0x60000)) {
            assert_int_equal(vmm_block_range(block, VMM_BLOCK_WRITE_ZEROES, 0, at, n), 0);
            memset(model + at, 0, n);
        }
        assert_int_equal(vmm_block_read(block, at, back, n), 0);
        assert_memory_equal(back, model + at, n);
    }
    for (uint64_t at = 0; at < length; at += sizeof(back)) {
        uint64_t n = length - at < sizeof(back) ? length - at : sizeof(back);
        assert_int_equal(vmm_block_read(block, at, back, n), 0);
        assert_memory_equal(back, model + at, n);
    }
    assert_int_equal(vmm_block_flush(block), 0);
}

static void memory_disk(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = calloc(1, LENGTH);
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    struct vmm_block_extent e;
    assert_int_equal(vmm_block_get_info(f->memory, &info), 0);
    assert_int_equal(info.allocated, 0);
    behaves_as_a_disk(f->memory, model, LENGTH);
    assert_int_equal(vmm_block_get_info(f->memory, &info), 0);
    assert_true(info.allocated > 0);
    assert_int_equal(vmm_block_range(f->memory, VMM_BLOCK_DISCARD, 0, 0, LENGTH), 0);
    assert_int_equal(vmm_block_get_info(f->memory, &info), 0);
    assert_int_equal(info.allocated, 0);
    fill(data, sizeof(data), 1);
    assert_int_equal(vmm_block_write(f->memory, 100 * 512, data, 65536), 0);
    assert_int_equal(vmm_block_extent_at(f->memory, 0, LENGTH, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_DATA);
    assert_int_equal(e.length, 2 * 65536);
    assert_int_equal(vmm_block_extent_at(f->memory, 131072, LENGTH - 131072, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_ZERO);
    assert_int_equal(e.length, LENGTH - 131072);
    /* What was cut off does not come back. */
    assert_int_equal(vmm_block_resize(f->memory, 101 * 512, NULL), 0);
    assert_int_equal(vmm_block_resize(f->memory, 2 * LENGTH, NULL), 0);
    uint8_t back[1024];
    assert_int_equal(vmm_block_read(f->memory, 100 * 512, back, 1024), 0);
    assert_memory_equal(back, data, 512);
    for (int i = 512; i < 1024; i++)
        assert_int_equal(back[i], 0);
    free(model);
}

static void memory_disk_refuses(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *b;
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &b, NULL), -EINVAL);
    o.length = 513;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &b, NULL), -EINVAL);
    o.length = 512;
    o.block_size = 4096;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &b, NULL), -EINVAL);
    o.block_size = 1024;
    o.length = 1024;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_block_memory_new(NULL, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_block_memory_new(f->loop, NULL, &b, NULL), -EINVAL);
    o.block_size = 512;
    o.read_only = 1;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &b, NULL), 0);
    assert_int_equal(vmm_block_write(b, 0, data, 512), -EACCES);
    vmm_block_unref(b);
}

static void null_disk(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *b;
    struct vmm_block_request r[2];
    struct vmm_block_null_options o = VMM_BLOCK_NULL_OPTIONS_INIT;
    assert_int_equal(vmm_block_null_new(f->loop, &o, &b, NULL), -EINVAL);
    o.length = LENGTH;
    assert_int_equal(vmm_block_null_new(f->loop, &o, &b, NULL), 0);
    memset(data, 5, 512);
    assert_int_equal(vmm_block_write(b, 0, data, 512), 0);
    assert_int_equal(vmm_block_read(b, 0, data, 512), 0);
    assert_int_equal(data[0] | data[511], 0);
    vmm_block_unref(b);
    o.leave_reads = 1;
    o.latency_ns = 10 * MS;
    assert_int_equal(vmm_block_null_new(f->loop, &o, &b, NULL), 0);
    data[0] = 7;
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    f->now += 4 * MS;
    submit(f, b, &r[1], VMM_BLOCK_READ, 0, 512);
    f->now += 5 * MS;
    turn(f);
    assert_int_equal(f->done, 0);
    f->now += 1 * MS;
    turn(f);
    assert_int_equal(f->done, 1);
    assert_int_equal(data[0], 7);
    vmm_block_drain(b);
    assert_int_equal(f->done, 2);
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    vmm_block_cancel(b, &r[0]);
    turn(f);
    assert_int_equal(f->last, -ECANCELED);
    vmm_block_unref(b);
}

static void overlay(struct fixture *f, const char *folder)
{
    struct vmm_block_overlay_options o = VMM_BLOCK_OVERLAY_OPTIONS_INIT;
    struct vmm_block *b;
    struct vmm_block_extent e;
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t *model = malloc(LENGTH), *base = malloc(LENGTH);
    fill(model, LENGTH, 77);
    memcpy(base, model, LENGTH);
    assert_int_equal(vmm_block_write(f->memory, 0, model, LENGTH), 0);
    o.folder = folder;
    assert_int_equal(vmm_block_overlay_new(f->memory, &o, &b, &err), 0);
    assert_int_equal(vmm_block_write(b, 512, data, 1024), 0);
    memcpy(model + 512, data, 1024);
    assert_int_equal(vmm_block_extent_at(b, 0, LENGTH, &e), 0);
    assert_int_equal(e.length, 512);
    assert_int_equal(vmm_block_extent_at(b, 512, LENGTH - 512, &e), 0);
    assert_int_equal(e.length, 1024);
    assert_int_equal(vmm_block_extent_at(b, 1536, LENGTH - 1536, &e), 0);
    assert_int_equal(e.length, LENGTH - 1536);
    assert_int_equal(vmm_block_extent_at(b, 1000, 100, &e), 0);
    assert_int_equal(e.length, 100);
    behaves_as_a_disk(b, model, LENGTH);
    assert_int_equal(vmm_block_range(b, VMM_BLOCK_DISCARD, 0, 0, 4096), 0);
    assert_int_equal(vmm_block_resize(b, LENGTH / 2, NULL), -ENOTSUP);
    vmm_block_unref(b);
    assert_int_equal(vmm_block_read(f->memory, 0, model, LENGTH), 0);
    assert_memory_equal(model, base, LENGTH); /* untouched */
    free(model);
    free(base);
}

static void overlay_in_memory(void **state)
{
    overlay(*state, NULL);
}

static void overlay_in_a_file(void **state)
{
    overlay(*state, "/tmp");
}

static void overlay_errors(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *b;
    struct vmm_block_overlay_options o = VMM_BLOCK_OVERLAY_OPTIONS_INIT;
    struct vmm_block_fault rule = VMM_BLOCK_FAULT_INIT;
    assert_int_equal(vmm_block_overlay_new(NULL, NULL, &b, NULL), -EINVAL);
    o.folder = "/nonexistent";
    assert_int_equal(vmm_block_overlay_new(f->memory, &o, &b, NULL), -ENOENT);
    assert_int_equal(vmm_block_overlay_new(f->faults, NULL, &b, NULL), 0);
    rule.offset = 4096;
    rule.length = 512;
    rule.result = -EIO;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
    assert_int_equal(vmm_block_read(b, 0, data, 8192), -EIO);
    assert_int_equal(vmm_block_write(b, 4096, data, 512), 0);
    assert_int_equal(vmm_block_read(b, 0, data, 8192), 0); /* the bad block is covered */
    vmm_block_unref(b);
}

/* How many of `n` requests get through in `ms`. */
static uint32_t pass_in(struct fixture *f, struct vmm_block *b, struct vmm_block_request *r,
                        uint32_t n, uint64_t length, uint32_t ms)
{
    f->done = 0;
    for (uint32_t i = 0; i < n; i++)
        submit(f, b, &r[i], i % 2 ? VMM_BLOCK_READ : VMM_BLOCK_WRITE, 0, length);
    turn(f);
    for (uint32_t i = 0; i < ms; i++) {
        f->now += MS;
        turn(f);
    }
    return f->done;
}

static void throttle(void **state)
{
    struct fixture *f = *state;
    static struct vmm_block_request r[1000];
    struct vmm_block_throttle_options o = VMM_BLOCK_THROTTLE_OPTIONS_INIT;
    struct vmm_block *b;
    o.iops = 100;
    assert_int_equal(vmm_block_throttle_new(f->memory, &o, &b, NULL), 0);
    assert_in_range(pass_in(f, b, r, 1000, 512, 1000), 109, 111); /* 10 of burst */
    vmm_block_drain(b);                                           /* waits no longer */
    assert_int_equal(f->done, 1000);
    o.iops_burst = 300;
    assert_int_equal(vmm_block_throttle_set(b, &o), 0);
    assert_in_range(pass_in(f, b, r, 1000, 512, 1000), 399, 401);
    struct vmm_block_request flush;
    submit(f, b, &flush, VMM_BLOCK_FLUSH, 0, 0);
    turn(f);
    assert_in_range(f->done, 400, 402);
    /* Without limits the rest goes at once. */
    o = (struct vmm_block_throttle_options)VMM_BLOCK_THROTTLE_OPTIONS_INIT;
    assert_int_equal(vmm_block_throttle_set(b, &o), 0);
    turn(f);
    assert_int_equal(f->done, 1001);
    o.bandwidth = 1 << 20;
    assert_int_equal(vmm_block_throttle_set(b, &o), 0);
    /* 1 MiB a second, a burst of a tenth, requests of 64 KiB. */
    assert_in_range(pass_in(f, b, r, 200, 65536, 2000), 33, 34);
    vmm_block_drain(b);
    o.bandwidth = 1000; /* larger than the burst: one passes, the next when all has leaked */
    assert_int_equal(vmm_block_throttle_set(b, &o), 0);
    assert_int_equal(pass_in(f, b, r, 3, 65536, 0), 1);
    f->now += 66000ull * MS;
    turn(f);
    assert_int_equal(f->done, 2);
    vmm_block_cancel(b, &r[2]);
    turn(f);
    assert_int_equal(f->last, -ECANCELED);
    assert_int_equal(f->failed, 1);
    vmm_block_unref(b);
    assert_int_equal(vmm_block_throttle_set(f->memory, &o), -EINVAL);
    assert_int_equal(vmm_block_throttle_new(NULL, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_block_throttle_new(f->memory, NULL, &b, NULL), -EINVAL);
}

static void *quiesce(void *ctx)
{
    vmm_block_quiesce(ctx);
    return NULL;
}

static void held_requests_end_when_quiesced(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r[20];
    struct vmm_block_throttle_options o = VMM_BLOCK_THROTTLE_OPTIONS_INIT;
    struct vmm_block *b;
    pthread_t thread;
    o.iops = 10;
    assert_int_equal(vmm_block_throttle_new(f->memory, &o, &b, NULL), 0);
    pass_in(f, b, r, 20, 512, 0);
    assert_int_equal(f->done, 1);
    assert_int_equal(pthread_create(&thread, NULL, quiesce, b), 0);
    pthread_join(thread, NULL);
    assert_int_equal(f->done, 1);
    turn(f);
    assert_int_equal(f->done, 20);
    assert_int_equal(f->failed, 19);
    assert_int_equal(f->last, -ECANCELED);
    vmm_block_unref(b);
}

static void faults(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r[3];
    struct vmm_block_fault rule = VMM_BLOCK_FAULT_INIT;
    rule.ops = 1u << VMM_BLOCK_WRITE;
    rule.result = -EIO;
    rule.skip = 2;
    rule.count = 3;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(vmm_block_write(f->faults, 0, data, 512), i >= 2 && i < 5 ? -EIO : 0);
        assert_int_equal(vmm_block_read(f->faults, 0, data, 512), 0);
    }
    assert_int_equal(vmm_block_faults_caught(f->faults), 3);
    /* A torn write. */
    assert_int_equal(vmm_block_faults_clear(f->faults), 0);
    memset(data, 0, 4096);
    assert_int_equal(vmm_block_write(f->faults, 0, data, 4096), 0);
    rule = (struct vmm_block_fault)VMM_BLOCK_FAULT_INIT;
    rule.offset = 1024;
    rule.length = 1;
    rule.result = -EIO;
    rule.torn_after = 1024;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
    memset(data, 1, 4096);
    assert_int_equal(vmm_block_write(f->faults, 0, data, 4096), -EIO);
    assert_int_equal(vmm_block_flush(f->faults), 0);
    assert_int_equal(vmm_block_read(f->memory, 0, data, 4096), 0);
    assert_int_equal(data[1023], 1);
    assert_int_equal(data[1024], 0);
    /* A delay, which later ones overtake. */
    rule = (struct vmm_block_fault)VMM_BLOCK_FAULT_INIT;
    rule.delay_ns = 10 * MS;
    rule.offset = 512;
    rule.length = 512;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
    submit(f, f->faults, &r[0], VMM_BLOCK_READ, 512, 512);
    submit(f, f->faults, &r[1], VMM_BLOCK_READ, 0, 512);
    turn(f);
    assert_int_equal(f->done, 1);
    f->now += 10 * MS;
    turn(f);
    assert_int_equal(f->done, 2);
    submit(f, f->faults, &r[0], VMM_BLOCK_READ, 512, 512);
    vmm_block_drain(f->faults);
    assert_int_equal(f->done, 3);
    submit(f, f->faults, &r[0], VMM_BLOCK_READ, 512, 512);
    vmm_block_cancel(f->faults, &r[0]);
    turn(f);
    assert_int_equal(f->last, -ECANCELED);
}

static void faults_refused(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *b;
    struct vmm_block_fault rule = VMM_BLOCK_FAULT_INIT;
    assert_int_equal(vmm_block_faults_add(f->memory, &rule), -EINVAL);
    assert_int_equal(vmm_block_faults_add(f->faults, NULL), -EINVAL);
    rule.result = 5;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), -EINVAL);
    rule.result = -EIO;
    rule.torn_after = 100;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), -EINVAL);
    rule.torn_after = 0;
    rule.offset = UINT64_MAX;
    rule.length = 2;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), -EINVAL);
    rule.length = 0;
    for (int i = 0; i < 32; i++)
        assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), -ENOSPC);
    assert_int_equal(vmm_block_faults_clear(NULL), -EINVAL);
    assert_int_equal(vmm_block_faults_caught(f->memory), 0);
    assert_int_equal(vmm_block_faults_new(NULL, &b, NULL), -EINVAL);
}

static void event(void *ctx, struct vmm_block *block, uint32_t what,
                  const struct vmm_block_failure *failure)
{
    struct fixture *f = ctx;
    assert_non_null(block);
    if (what == VMM_BLOCK_STOPPED) {
        f->stops++;
        f->failure = *failure;
    } else {
        assert_null(failure);
        f->goes_on++;
    }
}

static struct vmm_block *policy_over(struct fixture *f, uint32_t on_error, uint32_t on_no_space,
                                     uint64_t retry_ns)
{
    struct vmm_block_policy_options o = VMM_BLOCK_POLICY_OPTIONS_INIT;
    struct vmm_block *b;
    o.on_error = on_error;
    o.on_no_space = on_no_space;
    o.retry_ns = retry_ns;
    o.event = event;
    o.ctx = f;
    assert_int_equal(vmm_block_policy_new(f->faults, &o, &b, NULL), 0);
    return b;
}

static void fail_with(struct fixture *f, uint32_t ops, int result, uint64_t count)
{
    struct vmm_block_fault rule = VMM_BLOCK_FAULT_INIT;
    rule.ops = ops;
    rule.result = result;
    rule.count = count;
    assert_int_equal(vmm_block_faults_add(f->faults, &rule), 0);
}

static void a_full_disk_stops_and_goes_on(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r[5];
    struct vmm_block *b =
        policy_over(f, VMM_BLOCK_ON_ERROR_REPORT, VMM_BLOCK_ON_ERROR_STOP, 100 * MS);
    fail_with(f, 1u << VMM_BLOCK_WRITE, -ENOSPC, 0);
    fill(data, 512, 3);
    for (uint32_t i = 0; i < 4; i++)
        submit(f, b, &r[i], VMM_BLOCK_WRITE, 512 * i, 512);
    submit(f, b, &r[4], VMM_BLOCK_FLUSH, 0, 0);
    turn(f);
    assert_int_equal(f->done, 1); /* the flush */
    assert_int_equal(f->stops, 1);
    assert_int_equal(f->failure.result, -ENOSPC);
    assert_int_equal(f->failure.op, VMM_BLOCK_WRITE);
    assert_int_equal(f->failure.length, 512);
    assert_int_equal(vmm_block_policy_kept(b), 4);
    f->now += 100 * MS;
    turn(f);
    assert_int_equal(vmm_block_policy_kept(b), 4); /* still full, and no second stop */
    assert_int_equal(f->stops, 1);
    assert_int_equal(f->goes_on, 0);
    vmm_block_faults_clear(f->faults);
    f->now += 100 * MS;
    turn(f);
    assert_int_equal(f->done, 5);
    assert_int_equal(f->failed, 0);
    assert_int_equal(f->goes_on, 1);
    uint8_t back[512];
    assert_int_equal(vmm_block_read(b, 1536, back, 512), 0);
    fill(data, 512, 3);
    assert_memory_equal(back, data, 512);
    /* Errors of other kinds are reported. */
    fail_with(f, 1u << VMM_BLOCK_READ, -EIO, 1);
    assert_int_equal(vmm_block_read(b, 0, back, 512), -EIO);
    vmm_block_unref(b);
}

static void a_stop_until_told(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r[2];
    struct vmm_block *b = policy_over(f, VMM_BLOCK_ON_ERROR_STOP, VMM_BLOCK_ON_ERROR_STOP, 0);
    fail_with(f, 0, -EIO, 2);
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    submit(f, b, &r[1], VMM_BLOCK_FLUSH, 0, 0);
    turn(f);
    f->now += 100000ull * MS;
    turn(f);
    assert_int_equal(f->done, 0);
    assert_int_equal(f->stops, 1);
    assert_int_equal(vmm_block_policy_kept(b), 2);
    assert_int_equal(vmm_block_policy_retry(b), 0);
    turn(f);
    assert_int_equal(f->done, 2);
    assert_int_equal(f->failed, 0);
    assert_int_equal(f->goes_on, 1);
    /* Given up: the guest hears of it. */
    fail_with(f, 0, -EIO, 1);
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    turn(f);
    assert_int_equal(f->stops, 2);
    assert_int_equal(vmm_block_policy_give_up(b), 0);
    turn(f);
    assert_int_equal(f->last, -EIO);
    assert_int_equal(f->goes_on, 2);
    /* Drained: tried once more, then reported. */
    fail_with(f, 0, -EIO, 2);
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    turn(f);
    assert_int_equal(f->stops, 3);
    vmm_block_drain(b);
    assert_int_equal(f->last, -EIO);
    assert_int_equal(f->done, 4);
    /* Quiesced: kept ones end, and nothing stays stopped. */
    fail_with(f, 0, -EIO, 1);
    submit(f, b, &r[0], VMM_BLOCK_READ, 0, 512);
    turn(f);
    vmm_block_quiesce(b);
    turn(f);
    assert_int_equal(f->last, -ECANCELED);
    assert_int_equal(f->stops, f->goes_on);
    vmm_block_unref(b);
}

static void errors_are_ignored_but_those_of_flushes(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r;
    struct vmm_block *b = policy_over(f, VMM_BLOCK_ON_ERROR_IGNORE, VMM_BLOCK_ON_ERROR_IGNORE, 0);
    fail_with(f, 0, -EIO, 4);
    memset(data, 9, 512);
    assert_int_equal(vmm_block_write(b, 0, data, 512), 0);
    assert_int_equal(vmm_block_read(b, 0, data, 512), 0);
    assert_int_equal(data[0] | data[511], 0);
    assert_int_equal(vmm_block_flush(b), -EIO);
    r = (struct vmm_block_request){.op = VMM_BLOCK_WRITE,
                                   .flags = VMM_BLOCK_FUA,
                                   .length = sizeof(data),
                                   .vector = &whole,
                                   .vector_count = 1,
                                   .done = done,
                                   .ctx = f};
    vmm_block_submit(b, &r);
    turn(f);
    assert_int_equal(f->last, -EIO);
    assert_int_equal(vmm_block_read(b, 512, data, 1), -EINVAL); /* the caller's own mistake */
    vmm_block_unref(b);
}

static void policies_refused(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *b;
    struct vmm_block_policy_options o = VMM_BLOCK_POLICY_OPTIONS_INIT;
    assert_int_equal(vmm_block_policy_new(f->memory, &o, &b, NULL), -EINVAL); /* nobody to tell */
    o.on_no_space = VMM_BLOCK_ON_ERROR_REPORT;
    o.on_error = 3;
    assert_int_equal(vmm_block_policy_new(f->memory, &o, &b, NULL), -EINVAL);
    o.on_error = 0;
    assert_int_equal(vmm_block_policy_new(NULL, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_block_policy_new(f->memory, &o, &b, NULL), 0);
    vmm_block_unref(b);
    assert_int_equal(vmm_block_policy_retry(f->memory), -EINVAL);
    assert_int_equal(vmm_block_policy_give_up(NULL), -EINVAL);
    assert_int_equal(vmm_block_policy_kept(f->memory), -EINVAL);
}

/* All of them, one over the other. */
static void a_stack(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_throttle_options o = VMM_BLOCK_THROTTLE_OPTIONS_INIT;
    struct vmm_block *b, *over, *top;
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    uint8_t *model = calloc(1, LENGTH);
    b = policy_over(f, VMM_BLOCK_ON_ERROR_STOP, VMM_BLOCK_ON_ERROR_STOP, 0);
    assert_int_equal(vmm_block_overlay_new(b, NULL, &over, NULL), 0);
    o.iops = 1000000000;
    assert_int_equal(vmm_block_throttle_new(over, &o, &top, NULL), 0);
    vmm_block_unref(b);
    vmm_block_unref(over);
    behaves_as_a_disk(top, model, LENGTH);
    assert_int_equal(vmm_block_get_info(top, &info), 0);
    assert_string_equal(info.format, "overlay");
    assert_int_equal(vmm_block_in_flight(top), 0);
    vmm_block_unref(top);
    free(model);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_disk),
        TEST(memory_disk_refuses),
        TEST(null_disk),
        TEST(overlay_in_memory),
        TEST(overlay_in_a_file),
        TEST(overlay_errors),
        TEST(throttle),
        TEST(held_requests_end_when_quiesced),
        TEST(faults),
        TEST(faults_refused),
        TEST(a_full_disk_stops_and_goes_on),
        TEST(a_stop_until_told),
        TEST(errors_are_ignored_but_those_of_flushes),
        TEST(policies_refused),
        TEST(a_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
