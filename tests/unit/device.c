/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices: names, references, and their callbacks under the lock. */
#include <libvmm/device.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

struct thing {
    struct vmm_device *device;
    uint32_t value, version_seen;
    int destroyed, save_error;
    pthread_t thread;
    bool locked; /* another thread could not take the lock inside the last callback */
};

static void *try_to_lock(void *arg)
{
    struct thing *t = arg;
    vmm_device_lock(t->device);
    t->locked = false;
    vmm_device_unlock(t->device);
    return NULL;
}

/* With the lock held: a second thread must not get it. */
static void thing_reset(void *ctx)
{
    struct thing *t = ctx;
    t->locked = true;
    assert_int_equal(pthread_create(&t->thread, NULL, try_to_lock, t), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    t->value = t->locked ? 0 : UINT32_MAX;
}

static int thing_save(void *ctx, struct vmm_state_writer *w)
{
    struct thing *t = ctx;
    return t->save_error ? t->save_error : vmm_state_put_u32(w, "value", t->value);
}

static int thing_load(void *ctx, struct vmm_state_reader *r, uint32_t version,
                      struct vmm_error *err)
{
    struct thing *t = ctx;
    t->version_seen = version;
    return vmm_state_get_u32(r, "value", 100, &t->value, err);
}

static void thing_destroy(void *ctx)
{
    ((struct thing *)ctx)->destroyed++;
}

static const struct vmm_device_ops ops = {
    .size = sizeof(ops),
    .reset = thing_reset,
    .state_version = 2,
    .save = thing_save,
    .load = thing_load,
    .destroy = thing_destroy,
};

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "UART",        "a b",
                                      "a/b", "caf\xc3\xa9", "12345678901234567890123456789012"};
    struct thing t = {0};
    struct vmm_device *d = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(vmm_device_new(bad[i], &ops, &t, &d), -EINVAL);
    assert_int_equal(vmm_device_new(NULL, &ops, &t, &d), -EINVAL);
    assert_int_equal(vmm_device_new("x", NULL, &t, &d), -EINVAL);
    assert_int_equal(vmm_device_new("x", &ops, &t, NULL), -EINVAL);
    assert_null(d);
    assert_int_equal(t.destroyed, 0); /* what failed leaves the context to its owner */
    assert_int_equal(vmm_device_new("serial-0@3f8-1234567890123456789", &ops, &t, &d), -EINVAL);
    assert_int_equal(vmm_device_new("serial-0@3f8-123456789012345678", &ops, &t, &d), 0);
    assert_string_equal(vmm_device_name(d), "serial-0@3f8-123456789012345678");
    vmm_device_unref(d);
}

static void vtables_are_checked(void **state)
{
    (void)state;
    struct vmm_device *d = NULL;
    struct vmm_device_ops half = {.size = sizeof(half), .save = thing_save};
    assert_int_equal(vmm_device_new("x", &half, NULL, &d), -EINVAL); /* saved for ever */
    struct {
        struct vmm_device_ops known;
        uint64_t future;
    } grown = {.known = {.size = sizeof(grown)}, .future = 1};
    assert_int_equal(vmm_device_new("x", &grown.known, NULL, &d), -E2BIG);
    grown.future = 0;
    assert_int_equal(vmm_device_new("x", &grown.known, NULL, &d), 0);
    vmm_device_reset(d); /* every callback may be missing */
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(d, w), 0);
    vmm_state_writer_free(w);
    assert_null(vmm_device_unref(d));
    assert_null(vmm_device_unref(NULL));
}

static void the_last_reference_destroys(void **state)
{
    (void)state;
    struct thing t = {0};
    struct vmm_device *d;
    assert_int_equal(vmm_device_new("x", &ops, &t, &d), 0);
    assert_ptr_equal(vmm_device_ref(d), d);
    vmm_device_unref(d);
    assert_int_equal(t.destroyed, 0);
    vmm_device_unref(d);
    assert_int_equal(t.destroyed, 1);
}

static void callbacks_hold_the_lock(void **state)
{
    (void)state;
    static struct thing t;
    assert_int_equal(vmm_device_new("x", &ops, &t, &t.device), 0);
    t.value = 7;
    vmm_device_reset(t.device);
    assert_int_equal(t.value, 0);
    pthread_join(t.thread, NULL);
    assert_false(t.locked); /* and after the callback it did */
    vmm_device_unref(t.device);
}

static void *blob_of(struct vmm_device *d, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(d, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static void state_goes_into_a_node_of_its_name(void **state)
{
    (void)state;
    struct thing t = {.value = 42}, other = {0};
    struct vmm_device *d, *stranger;
    struct vmm_error err = VMM_ERROR_INIT;
    size_t length;
    assert_int_equal(vmm_device_new("thing0", &ops, &t, &d), 0);
    assert_int_equal(vmm_device_new("thing1", &ops, &other, &stranger), 0);
    void *blob = blob_of(d, &length);
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, &err), 0);
    t.value = 0;
    assert_int_equal(vmm_device_load(d, r, &err), 0);
    assert_int_equal(t.value, 42);
    assert_int_equal(t.version_seen, 2);
    assert_int_equal(vmm_device_load(stranger, r, &err), -ENOENT);
    assert_non_null(strstr(err.text, "thing1"));
    assert_int_equal(vmm_state_leave(r), -EINVAL); /* back at the root both times */
    vmm_state_reader_free(r);
    free(blob);
    vmm_device_unref(d);
    vmm_device_unref(stranger);
}

static void what_could_not_be_saved_is_no_snapshot(void **state)
{
    (void)state;
    struct thing t = {.save_error = -EIO};
    struct vmm_device *d;
    struct vmm_state_writer *w;
    void *blob;
    size_t length;
    assert_int_equal(vmm_device_new("thing0", &ops, &t, &d), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(d, w), -EIO);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), -EIO);
    vmm_state_writer_free(w);
    vmm_device_unref(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(vtables_are_checked),
        cmocka_unit_test(the_last_reference_destroys),
        cmocka_unit_test(callbacks_hold_the_lock),
        cmocka_unit_test(state_goes_into_a_node_of_its_name),
        cmocka_unit_test(what_could_not_be_saved_is_no_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
