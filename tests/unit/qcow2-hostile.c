/* SPDX-License-Identifier: BSD-3-Clause */
/* Images that lie, files that fail, requests that are called off. */
#include "qcow2-model.h"

#define DISK (1u << 20)

static void put(uint8_t *at, uint32_t bytes, uint64_t value)
{
    for (uint32_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static uint64_t get(const uint8_t *at, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

/* An image with some data and a snapshot, closed. */
static void begin(struct model *m, const struct vmm_qcow2_create_options *create)
{
    static uint8_t data[65536];
    memset(data, 0x33, sizeof(data));
    *m = (struct model){.create = *create};
    if (!m->create.cluster_size)
        m->create.cluster_size = 4096;
    model_begin(m, DISK);
    assert_int_equal(vmm_block_write(m->block, 0, data, sizeof(data)), 0);
    model_close(m);
}

/* Headers -------------------------------------------------------------------------------------- */

static void headers(void **state)
{
    static const struct {
        uint32_t at, bytes;
        uint64_t value;
        int rc;
        const char *says;
    } cases[] = {
        {0, 4, 0x514649fa, -EINVAL, "does not begin"},
        {4, 4, 1, -ENOTSUP, "version 1"},
        {4, 4, 4, -ENOTSUP, "version 4"},
        {8, 8, 4000, -EINVAL, "name"}, /* of no length */
        {20, 4, 8, -EINVAL, "clusters"},
        {20, 4, 22, -EINVAL, "clusters"},
        {20, 4, UINT32_MAX, -EINVAL, "clusters"},
        {24, 8, 511, -EINVAL, "multiple of 512"},
        {24, 8, UINT64_MAX - 511, -EINVAL, "multiple of 512"},
        {24, 8, UINT64_C(1) << 40, -EINVAL, "L1 table"},
        {32, 4, 1, -ENOTSUP, "encrypted"},
        {32, 4, 2, -ENOTSUP, "encrypted"},
        {36, 4, 0, -EINVAL, "L1 table"},
        {36, 4, 0x10000000, -EINVAL, "L1 table"},
        {36, 4, 0x100000, -EINVAL, "L1 table"},
        {40, 8, 512, -EINVAL, "L1 table"},
        {40, 8, 0, -EINVAL, "L1 table"},
        {40, 8, UINT64_MAX & ~UINT64_C(4095), -EINVAL, "L1 table"},
        {48, 8, 0, -EINVAL, "refcount table"},
        {48, 8, 100, -EINVAL, "refcount table"},
        {48, 8, UINT64_C(1) << 62, -EINVAL, "refcount table"},
        {56, 4, 0, -EINVAL, "refcount table"},
        {56, 4, UINT32_MAX, -EINVAL, "refcount table"},
        {60, 4, 65537, -EINVAL, "snapshots"},
        {60, 4, 1, -EINVAL, "snapshot table"},
        {64, 8, 4096, 0, ""}, /* none there */
        {72, 8, 0x20, -ENOTSUP, "bit 5"},
        {72, 8, UINT64_C(1) << 63, -ENOTSUP, "bit 63"},
        {72, 8, 0x02, -EROFS, "repair"},
        {72, 8, 0x08, -EINVAL, "compression"},
        {72, 8, 0x10, -EINVAL, "16 KiB"},
        {72, 8, 0x04, -EINVAL, "data file"},
        {80, 8, UINT64_C(1) << 40, 0, ""},
        {88, 8, 0x02, -EINVAL, "data file"},
        {88, 8, 0x80, 0, ""},
        {96, 4, 7, -EINVAL, "64 bits"},
        {100, 4, 96, -EINVAL, "header length"},
        {100, 4, 108, -EINVAL, "header length"},
        {100, 4, 0x7ffffff8, -EINVAL, "header length"},
        {104, 1, 1, -EINVAL, "compression"},
        {112, 8, UINT64_C(0xe2792acaffffffff), -EINVAL, "extension"},
        {112, 8, UINT64_C(0x12345678fffffff8), -EINVAL, "extension"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vmm_error err = VMM_ERROR_INIT;
        struct model m;
        begin(&m, &(struct vmm_qcow2_create_options){0});
        put(m.file.data + cases[i].at, cases[i].bytes, cases[i].value);
        int rc = model_try_open(&m, 0, &err);
        if (rc != cases[i].rc || (rc && !strstr(err.text, cases[i].says)))
            fail_msg("%u = %llx: %d \"%s\", not %d", cases[i].at,
                     (unsigned long long)cases[i].value, rc, err.text, cases[i].rc);
        model_end(&m);
    }
    /* Cut off anywhere. */
    for (uint64_t length = 512; length < 20480; length += 512) {
        struct model m;
        begin(&m, &(struct vmm_qcow2_create_options){0});
        m.file.length = length;
        int rc = model_try_open(&m, 0, NULL);
        assert_true(rc == -EINVAL || rc == 0);
        model_end(&m);
    }
}

/* A name for an unknown feature comes from the image itself. */
static void features_have_names(void **state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct model m;
    (void)state;
    begin(&m, &(struct vmm_qcow2_create_options){0});
    put(m.file.data + 72, 8, 0x40);
    put(m.file.data + 112, 4, 0x6803f857);
    put(m.file.data + 116, 4, 48);
    m.file.data[121] = 6;
    strcpy((char *)m.file.data + 122, "teleportation");
    assert_int_equal(model_try_open(&m, 0, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "teleportation"));
    model_end(&m);
}

/* Tables --------------------------------------------------------------------------------------- */

/* What the first entries of L1 and L2 are made, and what then happens. */
static void entries(void **state)
{
    static const struct {
        bool l1;
        uint64_t word;
        int open, read, write;
    } cases[] = {
        {true, UINT64_C(0x8000000000000200), 0, -EIO, -EIO},  /* not aligned */
        {true, UINT64_C(0x80fffffffffff000), 0, -EIO, -EIO},  /* beyond the file */
        {true, UINT64_C(0x8000000000001000), -EINVAL, 0, 0},  /* the refcount table */
        {true, UINT64_C(0x8000000000003000), -EINVAL, 0, 0},  /* the L1 table itself */
        {true, UINT64_C(0x8000000000000000), 0, 0, 0},        /* marked, and nothing there */
        {false, UINT64_C(0x8000000000000200), 0, -EIO, -EIO}, /* not aligned */
        {false, UINT64_C(0x8000000000001000), 0, 0, -EIO},    /* the refcount table */
        {false, UINT64_C(0x8000000000003000), 0, 0, -EIO},    /* the L1 table */
        {false, UINT64_C(0x80fffffffffff000), 0, 0, -ENOSPC}, /* far away: zeroes */
        {false, UINT64_C(0x4000000000005000), 0, -EIO, -EIO}, /* not compressed data */
        {false, UINT64_C(0x7fffffffffffffff), 0, -EIO, -EIO},
        {false, UINT64_C(0x0000000000000001), 0, 0, 0}, /* zero */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model m;
        uint8_t data[512];
        begin(&m, &(struct vmm_qcow2_create_options){0});
        uint64_t l1 = get(m.file.data + 40, 8), l2 = get(m.file.data + l1, 8) & 0xfffffffffe00;
        put(m.file.data + (cases[i].l1 ? l1 : l2), 8, cases[i].word);
        m.file.length_max = 64u << 20;
        uint8_t *before = malloc(m.file.length);
        memcpy(before, m.file.data, m.file.length);
        int rc = model_try_open(&m, 0, NULL);
        assert_int_equal(rc, cases[i].open);
        if (!rc) {
            rc = vmm_block_read(m.block, 0, data, 512);
            if (rc != cases[i].read)
                fail_msg("case %zu: reading gives %d", i, rc);
            memset(data, 0x44, sizeof(data));
            rc = vmm_block_write(m.block, 0, data, 512);
            if (rc != cases[i].write)
                fail_msg("case %zu: writing gives %d", i, rc);
            model_close(&m);
        }
        if (cases[i].write) /* the tables are as they were */
            assert_memory_equal(before, m.file.data, 0x5000);
        free(before);
        model_end(&m);
    }
}

/* Refcounts that say "free" of what is used: nothing may be overwritten. */
static void counts_that_are_too_low(void **state)
{
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    struct model m;
    uint8_t data[512] = {1};
    (void)state;
    begin(&m, &(struct vmm_qcow2_create_options){0});
    uint64_t block = get(m.file.data + get(m.file.data + 48, 8), 8);
    memset(m.file.data + block, 0, 4096);
    uint8_t tables[0x5000];
    memcpy(tables, m.file.data, sizeof(tables));
    model_open(&m);
    assert_int_equal(vmm_block_write(m.block, DISK - 512, data, 512), -EIO);
    assert_int_equal(vmm_block_write(m.block, 0, data, 512), -EIO); /* it stays so */
    assert_int_equal(vmm_block_read(m.block, 0, data, 512), 0);
    model_close(&m);
    assert_memory_equal(tables, m.file.data, sizeof(tables));
    assert_int_equal(model_try_open(&m, VMM_QCOW2_CHECK, NULL), 0);
    assert_int_equal(vmm_qcow2_check(m.block, 0, &r, NULL), 0);
    assert_true(r.errors >= 20);
    assert_int_equal(r.repaired, 0);
    assert_int_equal(vmm_block_read(m.block, 0, data, 512), -ENOTSUP);
    assert_int_equal(
        vmm_qcow2_check(m.block, VMM_QCOW2_REPAIR_ERRORS | VMM_QCOW2_REPAIR_LEAKS, &r, NULL), 0);
    assert_true(r.repaired >= 20);
    assert_int_equal(vmm_qcow2_check(m.block, 0x10, &r, NULL), -EINVAL);
    model_close(&m);
    model_open(&m);
    memset(m.data, 0x33, 65536);
    model_verify(&m);
    model_run(&m, 1000);
    assert_int_equal(vmm_qcow2_check(m.block, 0, &r, NULL), 0);
    assert_int_equal(r.errors, 0);
    assert_int_equal(r.leaks, 0);
    model_end(&m);
}

/* A refcount of 64 bits that is too high by 2^62: mended at once, not by counting down. */
static void counts_that_are_far_too_high(void **state)
{
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    struct model m;
    (void)state;
    begin(&m, &(struct vmm_qcow2_create_options){.refcount_bits = 64});
    uint64_t block = get(m.file.data + get(m.file.data + 48, 8), 8);
    put(m.file.data + block, 8, UINT64_C(1) << 62);         /* the header */
    put(m.file.data + block + 100 * 8, 8, UINT64_MAX >> 1); /* beyond the tables: leaked */
    assert_int_equal(model_try_open(&m, VMM_QCOW2_CHECK, NULL), 0);
    assert_int_equal(vmm_qcow2_check(m.block, VMM_QCOW2_REPAIR_LEAKS, &r, NULL), 0);
    assert_true(r.leaks >= 1);
    assert_int_equal(r.repaired, r.leaks);
    model_close(&m);
    assert_int_equal(get(m.file.data + block, 8), 1);
    model_open(&m);
    r = (struct vmm_qcow2_check_result)VMM_QCOW2_CHECK_RESULT_INIT;
    assert_int_equal(vmm_qcow2_check(m.block, 0, &r, NULL), 0);
    assert_int_equal(r.errors + r.leaks, 0);
    model_end(&m);
}

/* No refcount table that can be used: a new one is made. */
static void refcounts_that_are_gone(void **state)
{
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    struct model m;
    (void)state;
    begin(&m, &(struct vmm_qcow2_create_options){0});
    put(m.file.data + get(m.file.data + 48, 8), 8, UINT64_C(0x7777777777777000));
    assert_int_equal(model_try_open(&m, VMM_QCOW2_CHECK, NULL), 0);
    assert_int_equal(vmm_qcow2_check(m.block, VMM_QCOW2_REPAIR_ERRORS, &r, NULL), 0);
    assert_true(r.errors > 0);
    model_close(&m);
    model_open(&m);
    r = (struct vmm_qcow2_check_result)VMM_QCOW2_CHECK_RESULT_INIT;
    assert_int_equal(vmm_qcow2_check(m.block, 0, &r, NULL), 0);
    assert_int_equal(r.errors, 0);
    assert_int_equal(r.leaks, 0);
    memset(m.data, 0x33, 65536);
    model_run(&m, 1000);
    model_verify(&m);
    model_end(&m);
}

/* Files that fail ------------------------------------------------------------------------------ */

/* Now and then a write fails for lack of room. What failed may be there or not; all else is right, and
 * the image stays consistent. */
static void no_room(void **state)
{
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    struct model m = {.create = *(const struct vmm_qcow2_create_options *)*state};
    model_begin(&m, DISK);
    m.expect = -ENOSPC;
    uint32_t failed = 0;
    for (int i = 0; i < 400; i++) {
        m.file.fail_with = -ENOSPC;
        m.file.fail_after = 1 + (uint32_t)model_random(&m, 60);
        m.file.fail_only_data = true;
        model_run(&m, 20);
        failed += m.file.fail_after == 0;
        m.file.fail_after = 0;
    }
    assert_true(failed > 100);
    m.expect = 0;
    model_run(&m, 200);
    model_verify(&m);
    model_close(&m);
    model_open(&m);
    model_verify(&m);
    assert_int_equal(vmm_qcow2_check(m.block, 0, &r, NULL), 0);
    assert_int_equal(r.errors, 0);
    model_end(&m);
}

/* A flush that has failed is not taken back: tables that need it are not written. */
static void flushes_that_fail(void **state)
{
    struct model m = {.create = {.cluster_size = 4096}};
    uint8_t data[512] = {1};
    (void)state;
    model_begin(&m, DISK);
    m.file.flush_fails = true;
    uint64_t l1 = get(m.file.data + 40, 8);
    assert_int_equal(vmm_block_write(m.block, 0, data, 512), 0);
    assert_int_equal(vmm_block_flush(m.block), -EIO);
    assert_int_equal(vmm_block_flush(m.block), -EIO);
    assert_int_equal(get(m.file.data + l1, 8), 0);
    m.file.flush_fails = false;
    assert_int_equal(vmm_block_flush(m.block), 0);
    assert_int_not_equal(get(m.file.data + l1, 8), 0);
    model_end(&m);
}

/* Called off ----------------------------------------------------------------------------------- */

struct called {
    uint32_t done;
    int result;
};

static void called_done(struct vmm_block_request *r, int result)
{
    struct called *c = r->ctx;
    c->done++;
    c->result = result;
}

static void vectors_are_left_alone(void **state)
{
    for (int way = 0; way < 2; way++) {
        struct model m = {
            .create = {.cluster_size = 65536, .backing = "b", .backing_format = "raw"}};
        struct called c = {0};
        (void)state;
        model_begin(&m, DISK);
        uint8_t *data = malloc(1024);
        memset(data, 0x77, 1024);
        struct iovec v = {data, 1024};
        struct vmm_block_request r = {.op = VMM_BLOCK_WRITE,
                                      .offset = 1024,
                                      .length = 1024,
                                      .vector = &v,
                                      .vector_count = 1,
                                      .done = called_done,
                                      .ctx = &c};
        vmm_block_submit(m.block, &r); /* it reads around first */
        if (way == 0)
            vmm_block_quiesce(m.block);
        else
            vmm_block_cancel(m.block, &r);
        free(data); /* the sanitizer sees who touches it */
        vmm_block_drain(m.block);
        assert_int_equal(c.done, 1);
        assert_int_equal(c.result, -ECANCELED);
        model_verify(&m);
        model_run(&m, 300);
        model_end(&m);
    }
}

int main(void)
{
    static const struct vmm_qcow2_create_options full[] = {
        {.cluster_size = 4096},
        {.cluster_size = 16384, .flags = VMM_QCOW2_EXTENDED_L2},
        {.cluster_size = 4096, .backing = "b", .backing_format = "raw"},
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers),
        cmocka_unit_test(features_have_names),
        cmocka_unit_test(entries),
        cmocka_unit_test(counts_that_are_too_low),
        cmocka_unit_test(counts_that_are_far_too_high),
        cmocka_unit_test(refcounts_that_are_gone),
        cmocka_unit_test_prestate(no_room, (void *)(uintptr_t)&full[0]),
        cmocka_unit_test_prestate(no_room, (void *)(uintptr_t)&full[1]),
        cmocka_unit_test_prestate(no_room, (void *)(uintptr_t)&full[2]),
        cmocka_unit_test(flushes_that_fail),
        cmocka_unit_test(vectors_are_left_alone),
    };
    return cmocka_run_group_tests_name("qcow2-hostile", tests, NULL, NULL);
}
