/* SPDX-License-Identifier: BSD-3-Clause */
/* Power management: what each register does, byte by byte, and what it asks the board for. */
#include "base/util.h"
#include "test.h"

#include <libvmm/pm.h>

struct fixture {
    uint32_t level;
    uint32_t requests, what, type;
    struct vmm_bus *bus;
    struct vmm_pm *pm;
};

static void set_level(void *ctx, uint32_t level)
{
    ((struct fixture *)ctx)->level = level;
}

static void request(void *ctx, uint32_t what, uint32_t type)
{
    struct fixture *f = ctx;
    f->requests++;
    f->what = what;
    f->type = type;
}

static void begin(struct fixture *f)
{
    struct vmm_pm_options o = VMM_PM_OPTIONS_INIT;
    *f = (struct fixture){0};
    o.name = "pm";
    o.request = request;
    o.ctx = f;
    assert_int_equal(vmm_irq_line_new_callback(set_level, f, &o.irq), 0);
    assert_int_equal(vmm_pm_new(&o, &f->pm), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->bus), 0);
    assert_int_equal(vmm_pm_attach(f->pm, f->bus, 0x600, NULL), 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->bus);
    vmm_pm_unref(f->pm);
}

static uint64_t get(struct fixture *f, uint32_t offset, uint32_t width)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->bus, 0x600 + offset, width, &value), 0);
    return value;
}

static void put(struct fixture *f, uint32_t offset, uint32_t width, uint64_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, 0x600 + offset, width, value), 0);
}

static void sleep_control_asks_with_slp_en_only(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (uint32_t value = 0; value < 256; value++) {
        f.requests = 0;
        put(&f, VMM_PM_SLEEP_CONTROL, 1, value);
        assert_int_equal(f.requests, (value & 0x20) != 0);
        if (f.requests) {
            assert_int_equal(f.type, value >> 2 & 7);
            assert_int_equal(f.what, f.type == VMM_PM_TYPE_S5 ? VMM_PM_POWER_OFF : VMM_PM_SLEEP);
        }
        assert_int_equal(get(&f, VMM_PM_SLEEP_CONTROL, 1), 0); /* SLP_EN is write-only */
    }
    end(&f);
}

static void reset_asks_for_its_value_only(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (uint32_t value = 0; value < 256; value++) {
        f.requests = 0;
        put(&f, VMM_PM_RESET, 1, value);
        assert_int_equal(f.requests, value == VMM_PM_RESET_VALUE);
        if (f.requests)
            assert_int_equal(f.what, VMM_PM_REBOOT);
    }
    end(&f);
}

static void events_are_raised_and_cleared_by_ones(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(vmm_pm_raise(f.pm, VMM_PM_POWER_BUTTON), 0);
    assert_int_equal(f.level, 1);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 1);
    assert_int_equal(vmm_pm_raise(f.pm, VMM_PM_SLEEP_BUTTON | 0x80000100), 0);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 0x80000103);
    assert_int_equal(get(&f, VMM_PM_EVENT + 3, 1), 0x80);
    put(&f, VMM_PM_EVENT, 4, 0x80000001);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 0x102);
    assert_int_equal(f.level, 1);
    put(&f, VMM_PM_EVENT + 1, 1, 1);
    put(&f, VMM_PM_EVENT, 1, 2);
    assert_int_equal(f.level, 0);
    put(&f, VMM_PM_EVENT, 4, UINT32_MAX);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 0);
    assert_int_equal(vmm_pm_raise(f.pm, 0x4), -EINVAL);
    assert_int_equal(f.level, 0);
    assert_int_equal(f.requests, 0);
    end(&f);
}

static void wide_accesses_reach_each_register(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(vmm_pm_raise(f.pm, 0x01), 0);
    assert_int_equal(get(&f, 0, 8), UINT64_C(1) << 32);
    put(&f, 0, 4, 0x00ff00ff & ~0x20u); /* RESET of 0xff is not its value, SLP_EN is clear */
    assert_int_equal(f.requests, 0);
    put(&f, 0, 4, 0x00010000);
    assert_int_equal(f.requests, 1);
    end(&f);
}

static void reset_clears_events(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(vmm_pm_raise(f.pm, VMM_PM_POWER_BUTTON), 0);
    vmm_device_reset(vmm_pm_device(f.pm));
    assert_int_equal(f.level, 0);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 0);
    end(&f);
}

static int load(struct vmm_pm *pm, uint32_t events, uint32_t status, struct vmm_error *err)
{
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *data;
    size_t length;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_state_begin(w, "pm", 1), 0);
    vmm_state_put_u32(w, "events", events);
    vmm_state_put_u32(w, "sleep-status", status);
    vmm_state_end(w);
    assert_int_equal(vmm_state_writer_finish(w, &data, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(vmm_state_reader_new(data, length, &r, err), 0);
    int rc = vmm_device_load(vmm_pm_device(pm), r, err);
    vmm_state_reader_free(r);
    free(data);
    return rc;
}

static void state_is_saved_and_loaded(void **state)
{
    (void)state;
    struct fixture f, g;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *data;
    size_t length;
    begin(&f);
    begin(&g);
    assert_int_equal(vmm_pm_raise(f.pm, 0x102), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_pm_device(f.pm), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(vmm_state_reader_new(data, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_pm_device(g.pm), r, NULL), 0);
    vmm_state_reader_free(r);
    free(data);
    assert_int_equal(get(&g, VMM_PM_EVENT, 4), 0x102);
    assert_int_equal(g.level, 1);
    end(&f);
    end(&g);
}

static void forged_state_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_error err = VMM_ERROR_INIT;
    begin(&f);
    assert_int_equal(vmm_pm_raise(f.pm, 1), 0);
    assert_int_equal(load(f.pm, 4, 0, &err), -EINVAL);
    assert_non_null(strstr(err.text, "events"));
    assert_int_equal(load(f.pm, 0, 1, &err), -EINVAL);
    assert_non_null(strstr(err.text, "sleep-status"));
    assert_true(load(f.pm, 0, 0x100, &err) < 0);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 1); /* as before */
    assert_int_equal(load(f.pm, 2, 0x80, &err), 0);
    assert_int_equal(get(&f, VMM_PM_EVENT, 4), 2);
    assert_int_equal(get(&f, VMM_PM_SLEEP_STATUS, 1), 0x80);
    put(&f, VMM_PM_SLEEP_STATUS, 1, 0x7f);
    assert_int_equal(get(&f, VMM_PM_SLEEP_STATUS, 1), 0x80);
    put(&f, VMM_PM_SLEEP_STATUS, 1, 0x80);
    assert_int_equal(get(&f, VMM_PM_SLEEP_STATUS, 1), 0);
    end(&f);
}

static void without_irq_and_callback(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct vmm_pm_options o = VMM_PM_OPTIONS_INIT;
    assert_int_equal(vmm_pm_new(&o, &f.pm), -EINVAL); /* no name */
    o.name = "pm";
    assert_int_equal(vmm_pm_new(&o, &f.pm), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f.bus), 0);
    assert_int_equal(vmm_pm_attach(f.pm, f.bus, 0xfffc, NULL), -EINVAL);
    assert_int_equal(vmm_pm_attach(f.pm, f.bus, 0x600, NULL), 0);
    put(&f, VMM_PM_SLEEP_CONTROL, 1, 0x34);
    put(&f, VMM_PM_RESET, 1, 1);
    assert_int_equal(vmm_pm_raise(f.pm, 1), -ENODEV);
    end(&f);
    assert_null(vmm_pm_unref(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleep_control_asks_with_slp_en_only),
        cmocka_unit_test(reset_asks_for_its_value_only),
        cmocka_unit_test(events_are_raised_and_cleared_by_ones),
        cmocka_unit_test(wide_accesses_reach_each_register),
        cmocka_unit_test(reset_clears_events),
        cmocka_unit_test(state_is_saved_and_loaded),
        cmocka_unit_test(forged_state_is_refused),
        cmocka_unit_test(without_irq_and_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
