/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI's fixed hardware: registers, the timer by a clock of the test's, interrupts, state. */
#include "base/util.h"
#include "test.h"

#include <libvmm/acpi-pm.h>

#include <stdlib.h>

#define BASE 0x600u

struct fixture {
    uint64_t now;
    uint32_t level, sleeps, type;
    struct vmm_bus *bus;
    struct vmm_acpi_pm *pm;
    struct vmm_loop *loop;
};

static uint64_t now(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static void set_level(void *ctx, uint32_t level)
{
    ((struct fixture *)ctx)->level = level;
}

static void asleep(void *ctx, uint32_t type)
{
    struct fixture *f = ctx;
    f->sleeps++;
    f->type = type;
}

static void begin(struct fixture *f)
{
    struct vmm_acpi_pm_options o = VMM_ACPI_PM_OPTIONS_INIT;
    struct vmm_loop_options l = VMM_LOOP_OPTIONS_INIT;
    *f = (struct fixture){.now = 12345};
    l.now = now;
    l.now_ctx = f;
    assert_int_equal(vmm_loop_new(&l, &f->loop), 0);
    o.name = "pm";
    o.loop = f->loop;
    o.sleep = asleep;
    o.clock = now;
    o.ctx = f;
    assert_int_equal(vmm_irq_line_new_callback(set_level, f, &o.sci), 0);
    assert_int_equal(vmm_acpi_pm_new(&o, &f->pm), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->bus), 0);
    assert_int_equal(vmm_acpi_pm_attach(f->pm, f->bus, BASE, NULL, NULL), 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->bus);
    vmm_acpi_pm_unref(f->pm);
    vmm_loop_unref(f->loop);
}

static uint32_t get(struct fixture *f, uint32_t offset, uint32_t width)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->bus, BASE + offset, width, &value), 0);
    return (uint32_t)value;
}

static void put(struct fixture *f, uint32_t offset, uint32_t width, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, BASE + offset, width, value), 0);
}

static void power_button_interrupts_in_acpi_mode(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    put(&f, 2, 2, VMM_ACPI_PM_POWER_BUTTON);
    assert_int_equal(vmm_acpi_pm_raise(f.pm, VMM_ACPI_PM_POWER_BUTTON), 0);
    assert_int_equal(get(&f, 0, 2), VMM_ACPI_PM_POWER_BUTTON);
    assert_int_equal(get(&f, 0, 4), VMM_ACPI_PM_POWER_BUTTON << 16 | VMM_ACPI_PM_POWER_BUTTON);
    assert_int_equal(f.level, 0);
    vmm_acpi_pm_set_acpi_mode(f.pm, true);
    assert_int_equal(get(&f, 4, 2), 1);
    assert_int_equal(f.level, 1);
    put(&f, 0, 2, VMM_ACPI_PM_POWER_BUTTON);
    assert_int_equal(f.level, 0);
    assert_int_equal(get(&f, 0, 2), 0);
    assert_int_equal(vmm_acpi_pm_raise(f.pm, VMM_ACPI_PM_SLEEP_BUTTON), 0); /* not enabled */
    assert_int_equal(f.level, 0);
    assert_int_equal(vmm_acpi_pm_raise(f.pm, 0x8000), -EINVAL);
    assert_int_equal(vmm_acpi_pm_raise(f.pm, VMM_ACPI_PM_TIMER_EVENT), -EINVAL);
    vmm_acpi_pm_set_acpi_mode(f.pm, false);
    assert_int_equal(get(&f, 4, 2), 0);
    end(&f);
}

static void sleep_needs_its_enable_bit(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    put(&f, 4, 2, 5u << 10);
    assert_int_equal(f.sleeps, 0);
    assert_int_equal(get(&f, 4, 2), 5u << 10);
    put(&f, 4, 2, 5u << 10 | 0x2000);
    assert_int_equal(f.sleeps, 1);
    assert_int_equal(f.type, 5);
    assert_int_equal(get(&f, 4, 2), 5u << 10); /* SLP_EN reads as zero */
    end(&f);
}

static void timer_counts_and_its_half_interrupts(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    assert_int_equal(get(&f, 8, 4), 0);
    f.now += UINT64_C(1000000000);
    assert_in_range(get(&f, 8, 4), VMM_ACPI_PM_HZ - 1, VMM_ACPI_PM_HZ + 1);
    f.now += UINT64_C(9) * 1000000000;
    uint32_t whole = get(&f, 8, 4);
    assert_int_equal(get(&f, 10, 2), whole >> 16);
    assert_int_equal(get(&f, 8, 2), whole & 0xffff);
    put(&f, 8, 4, 77); /* read-only */
    assert_int_equal(get(&f, 8, 4), whole);
    vmm_acpi_pm_set_acpi_mode(f.pm, true);
    put(&f, 2, 2, VMM_ACPI_PM_TIMER_EVENT);
    assert_int_equal(f.level, 0);
    f.now += UINT64_C(600) * 1000000000; /* 2^31 ticks are 599.9 s */
    (void)vmm_loop_dispatch(f.loop, 0);
    assert_int_equal(f.level, 1);
    put(&f, 0, 2, VMM_ACPI_PM_TIMER_EVENT);
    assert_int_equal(f.level, 0);
    end(&f);
}

static int load_blob(struct fixture *f, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_device_load(vmm_acpi_pm_device(f->pm), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void *make_state(uint32_t status, uint32_t control, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_state_begin(w, "pm", 1), 0);
    assert_int_equal(vmm_state_put_u32(w, "status", status), 0);
    assert_int_equal(vmm_state_put_u32(w, "enable", 0), 0);
    assert_int_equal(vmm_state_put_u32(w, "control", control), 0);
    assert_int_equal(vmm_state_put_u64(w, "timer", 1), 0);
    assert_int_equal(vmm_state_end(w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static void state_goes_to_another(void **state)
{
    struct fixture f, g;
    struct vmm_state_writer *w;
    void *blob;
    size_t length;
    (void)state;
    begin(&f);
    begin(&g);
    f.now += UINT64_C(5) * 1000000000;
    vmm_acpi_pm_set_acpi_mode(f.pm, true);
    put(&f, 2, 2, VMM_ACPI_PM_POWER_BUTTON);
    assert_int_equal(vmm_acpi_pm_raise(f.pm, VMM_ACPI_PM_POWER_BUTTON), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_acpi_pm_device(f.pm), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(load_blob(&g, blob, length), 0);
    assert_int_equal(g.level, 1);
    assert_int_equal(get(&g, 8, 4), get(&f, 8, 4));
    free(blob);
    vmm_device_reset(vmm_acpi_pm_device(g.pm));
    assert_int_equal(g.level, 0);
    assert_int_equal(get(&g, 8, 4), 0);
    blob = make_state(0x8000, 0, &length);
    assert_int_equal(load_blob(&g, blob, length), -EINVAL);
    free(blob);
    blob = make_state(0, 0x2000, &length);
    assert_int_equal(load_blob(&g, blob, length), -EINVAL);
    free(blob);
    end(&f);
    end(&g);
}

static void every_register_with_every_value(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    for (uint32_t value = 0; value < 0x10000; value++)
        for (uint32_t offset = 0; offset < VMM_ACPI_PM_LENGTH; offset += value & 0xff ? 2 : 1) {
            put(&f, offset, value & 1 ? 2 : 4, value << 8 | value);
            (void)get(&f, offset, 1u << (value & 1));
        }
    assert_int_equal(get(&f, 2, 2) & ~0x721u, 0);
    end(&f);
}

static void bad_options(void **state)
{
    struct vmm_acpi_pm_options o = VMM_ACPI_PM_OPTIONS_INIT;
    struct vmm_acpi_pm *pm;
    (void)state;
    assert_int_equal(vmm_acpi_pm_new(NULL, &pm), -EINVAL);
    assert_int_equal(vmm_acpi_pm_new(&o, &pm), -EINVAL); /* no name */
    o.name = "pm";
    o.length = 15;
    assert_int_equal(vmm_acpi_pm_new(&o, &pm), -EINVAL);
    o.length = VMM_ACPI_PM_LENGTH + 1;
    assert_int_equal(vmm_acpi_pm_new(&o, &pm), -EINVAL);
    assert_null(vmm_acpi_pm_unref(NULL));
}

/* What is above belongs to another. */
static void length_of_the_block(void **state)
{
    struct vmm_acpi_pm_options o = VMM_ACPI_PM_OPTIONS_INIT;
    struct vmm_acpi_pm *pm;
    struct vmm_bus *bus;
    uint64_t value;
    (void)state;
    o.name = "pm";
    o.length = 32;
    assert_int_equal(vmm_acpi_pm_new(&o, &pm), 0);
    assert_int_equal(vmm_bus_new("port", 16, &bus), 0);
    assert_int_equal(vmm_acpi_pm_attach(pm, bus, 0x600, NULL, NULL), 0);
    assert_int_equal(vmm_bus_read(bus, 0x61e, 2, &value), 0);
    assert_int_equal(vmm_bus_read(bus, 0x620, 2, &value), -ENOENT);
    vmm_bus_unref(bus);
    vmm_acpi_pm_unref(pm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_button_interrupts_in_acpi_mode),
        cmocka_unit_test(sleep_needs_its_enable_bit),
        cmocka_unit_test(timer_counts_and_its_half_interrupts),
        cmocka_unit_test(state_goes_to_another),
        cmocka_unit_test(every_register_with_every_value),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(length_of_the_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
