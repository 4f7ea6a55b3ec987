/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory slots: what the guest reads and writes, what the host is told, saved state of all kinds. */
#include "test.h"

#include <libvmm/memplug.h>

#include <errno.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)

struct fixture {
    struct vmm_bus *bus;
    struct vmm_memplug *mp;
    uint32_t ejections;
};

static void ejected(void *ctx)
{
    ((struct fixture *)ctx)->ejections++;
}

static void begin(struct fixture *f, uint32_t slots)
{
    struct vmm_memplug_options o = VMM_MEMPLUG_OPTIONS_INIT;
    *f = (struct fixture){0};
    o.name = "memplug";
    o.slots = slots;
    o.ejected = ejected;
    o.ctx = f;
    assert_int_equal(vmm_memplug_new(&o, &f->mp), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->bus), 0);
    assert_int_equal(vmm_memplug_attach(f->mp, f->bus, 0x620, NULL), 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->bus);
    vmm_memplug_unref(f->mp);
}

static uint32_t get(struct fixture *f, uint32_t offset)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->bus, 0x620 + offset, 4, &value), 0);
    return (uint32_t)value;
}

static void put(struct fixture *f, uint32_t offset, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, 0x620 + offset, 4, value), 0);
}

static struct vmm_memplug_slot info(struct fixture *f, uint32_t slot)
{
    struct vmm_memplug_slot s = VMM_MEMPLUG_SLOT_INIT;
    assert_int_equal(vmm_memplug_get_slot(f->mp, slot, &s), 0);
    return s;
}

static void a_slot_from_insertion_to_ejection(void **state)
{
    struct fixture f;
    uint32_t slot = 99;
    (void)state;
    begin(&f, 4);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, 3 * GIB, &slot), 0);
    assert_int_equal(slot, 0);
    assert_int_equal(vmm_memplug_insert(f.mp, 8 * GIB, GIB, &slot), 0);
    assert_int_equal(slot, 1);
    put(&f, 0, 0);
    assert_int_equal(get(&f, 4), VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_INSERTED);
    assert_int_equal(get(&f, 8), 0x40000000);
    assert_int_equal(get(&f, 12), 1);
    assert_int_equal(get(&f, 16), 0xc0000000);
    assert_int_equal(get(&f, 20), 0);
    put(&f, 4, VMM_MEMPLUG_INSERTED);
    assert_int_equal(get(&f, 4), VMM_MEMPLUG_PRESENT);
    put(&f, 4, VMM_MEMPLUG_PRESENT); /* not the guest's to clear */
    assert_int_equal(get(&f, 4), VMM_MEMPLUG_PRESENT);

    put(&f, 24, 1); /* device check: */
    put(&f, 28, 0); /* success */
    assert_int_equal(info(&f, 0).ost_count, 1);
    assert_int_equal(info(&f, 0).ost_event, 1);
    assert_int_equal(info(&f, 1).ost_count, 0);

    assert_int_equal(vmm_memplug_request_removal(f.mp, 0), 0);
    assert_int_equal(get(&f, 4), VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_REMOVAL);
    put(&f, 4, VMM_MEMPLUG_REMOVAL);
    assert_int_equal(vmm_memplug_take_ejected(f.mp, &slot), -ENOENT); /* not yet */
    put(&f, 4, VMM_MEMPLUG_EJECT);
    assert_int_equal(f.ejections, 1);
    assert_int_equal(get(&f, 4), 0);
    assert_int_equal(get(&f, 16), 0);
    assert_int_equal(info(&f, 0).length, 3 * GIB); /* the host's until it is taken */
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, GIB, NULL), -EEXIST);
    assert_int_equal(vmm_memplug_take_ejected(f.mp, &slot), 0);
    assert_int_equal(slot, 0);
    assert_int_equal(vmm_memplug_take_ejected(f.mp, &slot), -ENOENT);
    assert_int_equal(info(&f, 0).length, 0);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, GIB, &slot), 0);
    assert_int_equal(slot, 0);
    end(&f);
}

static void what_a_guest_must_not_do_does_nothing(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 2);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, GIB, NULL), 0);
    static const uint32_t selects[] = {1, 2, 64, UINT32_MAX}; /* empty, beyond */
    for (size_t i = 0; i < 4; i++) {
        put(&f, 0, selects[i]);
        assert_int_equal(get(&f, 0), selects[i]);
        for (uint32_t r = 4; r < 32; r += 4) {
            put(&f, r, UINT32_MAX);
            assert_int_equal(get(&f, r), r == 24 ? UINT32_MAX : 0);
        }
    }
    put(&f, 0, 0);
    for (uint32_t r = 8; r < 24; r += 4)
        put(&f, r, 0x12345678); /* read-only */
    assert_int_equal(info(&f, 0).address, 5 * GIB);
    assert_int_equal(f.ejections, 0);
    put(&f, 4, UINT32_MAX);
    put(&f, 4, UINT32_MAX); /* a second time there is nothing to eject */
    assert_int_equal(f.ejections, 1);
    assert_int_equal(vmm_memplug_request_removal(f.mp, 0), -ENOENT);
    end(&f);
}

static void refusals(void **state)
{
    struct fixture f;
    struct vmm_memplug_options o = VMM_MEMPLUG_OPTIONS_INIT;
    struct vmm_memplug_slot s = VMM_MEMPLUG_SLOT_INIT;
    (void)state;
    begin(&f, 2);
    assert_int_equal(vmm_memplug_insert(f.mp, GIB, 0, NULL), -EINVAL);
    assert_int_equal(vmm_memplug_insert(f.mp, UINT64_MAX, 2, NULL), -EINVAL);
    assert_int_equal(vmm_memplug_insert(f.mp, UINT64_MAX, 1, NULL), 0); /* the very last byte */
    assert_int_equal(vmm_memplug_insert(f.mp, UINT64_MAX - 1, 2, NULL), -EEXIST);
    assert_int_equal(vmm_memplug_insert(f.mp, 4 * GIB, GIB, NULL), 0);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB - 1, 1, NULL), -EEXIST);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, GIB, NULL), -ENOSPC);
    assert_int_equal(vmm_memplug_request_removal(f.mp, 2), -ENOENT);
    assert_int_equal(vmm_memplug_get_slot(f.mp, 2, &s), -ENOENT);
    s.size = 0;
    assert_int_equal(vmm_memplug_get_slot(f.mp, 0, &s), -EINVAL);
    end(&f);
    struct vmm_memplug *mp;
    o.name = "memplug";
    assert_int_equal(vmm_memplug_new(&o, &mp), -EINVAL);
    o.slots = VMM_MEMPLUG_SLOTS_MAX + 1;
    assert_int_equal(vmm_memplug_new(&o, &mp), -EINVAL);
    o.slots = 1;
    o.name = "Not A Name";
    assert_int_equal(vmm_memplug_new(&o, &mp), -EINVAL);
    assert_null(vmm_memplug_unref(NULL));
}

static void reset_keeps_what_is_plugged(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 2);
    assert_int_equal(vmm_memplug_insert(f.mp, 5 * GIB, GIB, NULL), 0);
    put(&f, 0, 1);
    vmm_device_reset(vmm_memplug_device(f.mp));
    assert_int_equal(get(&f, 0), 0);
    assert_int_equal(get(&f, 4), VMM_MEMPLUG_PRESENT); /* found by _STA, not announced */
    end(&f);
}

static void *save(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_memplug_device(f->mp), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static int load(struct fixture *f, const void *blob, size_t length, struct vmm_error *err)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, err), 0);
    int rc = vmm_device_load(vmm_memplug_device(f->mp), r, err);
    vmm_state_reader_free(r);
    return rc;
}

static void state_needs_the_same_memory(void **state)
{
    struct fixture a, b;
    struct vmm_error err = VMM_ERROR_INIT;
    size_t length;
    (void)state;
    begin(&a, 3);
    assert_int_equal(vmm_memplug_insert(a.mp, 5 * GIB, GIB, NULL), 0);
    assert_int_equal(vmm_memplug_insert(a.mp, 7 * GIB, GIB, NULL), 0);
    put(&a, 0, 1);
    put(&a, 4, VMM_MEMPLUG_INSERTED);
    assert_int_equal(vmm_memplug_request_removal(a.mp, 1), 0);
    void *blob = save(&a, &length);

    begin(&b, 3);
    assert_int_equal(load(&b, blob, length, &err), -EINVAL);
    assert_non_null(strstr(err.text, "plug the same memory"));
    assert_int_equal(vmm_memplug_insert(b.mp, 5 * GIB, GIB, NULL), 0);
    assert_int_equal(vmm_memplug_insert(b.mp, 7 * GIB, GIB, NULL), 0);
    if (load(&b, blob, length, &err))
        fail_msg("%s", err.text);
    assert_int_equal(get(&b, 0), 1);
    assert_int_equal(get(&b, 4), VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_REMOVAL);
    assert_int_equal(info(&b, 0).status, VMM_MEMPLUG_PRESENT | VMM_MEMPLUG_INSERTED);
    end(&b);

    begin(&b, 4); /* another number of slots */
    assert_int_equal(load(&b, blob, length, &err), -EINVAL);
    assert_non_null(strstr(err.text, "slots"));
    end(&b);
    free(blob);
    end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_from_insertion_to_ejection),
        cmocka_unit_test(what_a_guest_must_not_do_does_nothing),
        cmocka_unit_test(refusals),
        cmocka_unit_test(reset_keeps_what_is_plugged),
        cmocka_unit_test(state_needs_the_same_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
