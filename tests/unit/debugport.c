/* SPDX-License-Identifier: BSD-3-Clause */
/* Debug consoles and the exit port. */
#include "base/util.h"
#include "test.h"

#include <libvmm/debugport.h>

struct sink {
    char text[64];
    size_t length;
    uint32_t exits;
    int32_t status;
};

static void take(void *ctx, const uint8_t *data, size_t length)
{
    struct sink *s = ctx;
    assert_true(s->length + length < sizeof(s->text));
    memcpy(s->text + s->length, data, length);
    s->length += length;
}

static void exited(void *ctx, int32_t status)
{
    struct sink *s = ctx;
    s->exits++;
    s->status = status;
}

static struct vmm_bus *ports(void)
{
    struct vmm_bus *bus;
    assert_int_equal(vmm_bus_new("port", 16, &bus), 0);
    return bus;
}

static void two_consoles_share_a_chardev(void **state)
{
    (void)state;
    struct sink s = {0};
    struct vmm_bus *bus = ports();
    struct vmm_chardev *chardev;
    uint64_t value = 0;
    assert_int_equal(vmm_chardev_new_callback(take, &s, &chardev), 0);
    assert_int_equal(vmm_debugcon_add(bus, 0x402, "debugcon0", chardev, NULL, NULL), 0);
    assert_int_equal(vmm_debugcon_add(bus, 0xe9, "debugcon1", chardev, NULL, NULL), 0);
    vmm_chardev_unref(chardev);
    assert_int_equal(vmm_bus_read(bus, 0x402, 1, &value), 0);
    assert_int_equal(value, 0xe9);
    assert_int_equal(vmm_bus_read(bus, 0xe9, 1, &value), 0);
    assert_int_equal(value, 0xe9);
    assert_int_equal(vmm_bus_write(bus, 0x402, 1, 'a'), 0);
    assert_int_equal(vmm_bus_write(bus, 0xe9, 1, 'b'), 0);
    assert_int_equal(vmm_bus_write(bus, 0x402, 1, 0), 0);
    assert_int_equal(s.length, 3);
    assert_memory_equal(s.text, "ab\0", 3);
    vmm_bus_unref(bus);
}

/* A backend that takes nothing holds nobody up, and keeps nothing (a flood costs no memory). */
static long take_nothing(void *ctx, const uint8_t *data, size_t length)
{
    (void)data;
    (void)length;
    ++*(uint32_t *)ctx;
    return 0;
}

static void output_that_is_not_taken_is_dropped(void **state)
{
    (void)state;
    uint32_t calls = 0;
    struct vmm_bus *bus = ports();
    struct vmm_chardev *chardev;
    struct vmm_chardev_ops ops = {.size = sizeof(ops), .write = take_nothing};
    assert_int_equal(vmm_chardev_new(&ops, &calls, &chardev), 0);
    assert_int_equal(vmm_debugcon_add(bus, 0xe9, "debugcon", chardev, NULL, NULL), 0);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(vmm_bus_write(bus, 0xe9, 1, 'x'), 0);
    assert_int_equal(calls, 100000);
    vmm_chardev_unref(chardev);
    vmm_bus_unref(bus);
}

static void a_console_without_a_chardev_is_there(void **state)
{
    (void)state;
    struct vmm_bus *bus = ports();
    struct vmm_device *device = NULL;
    uint64_t value = 0;
    assert_int_equal(vmm_debugcon_add(bus, 0xe9, "debugcon", NULL, &device, NULL), 0);
    assert_string_equal(vmm_device_name(device), "debugcon");
    assert_int_equal(vmm_bus_write(bus, 0xe9, 1, 'x'), 0);
    assert_int_equal(vmm_bus_read(bus, 0xe9, 1, &value), 0);
    assert_int_equal(value, 0xe9);
    vmm_device_unref(device);
    vmm_bus_unref(bus);
}

static void the_exit_status_is_twice_the_value_and_one(void **state)
{
    (void)state;
    static const struct {
        uint32_t width;
        uint64_t value;
        int32_t status;
    } cases[] = {{1, 0, 1},
                 {1, 0x10, 0x21},
                 {1, 0xff, 0x1ff},
                 {2, 0xffff, 0x1ffff},
                 {4, 0x3fffffff, INT32_MAX},
                 {4, 0xffffffff, INT32_MAX},
                 {4, 0x80000000, 1}};
    struct sink s = {0};
    struct vmm_bus *bus = ports();
    uint64_t value = 1;
    assert_int_equal(vmm_exitport_add(bus, 0xf4, "exit", exited, &s, NULL, NULL), 0);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(cases); i++) {
        assert_int_equal(vmm_bus_write(bus, 0xf4, cases[i].width, cases[i].value), 0);
        assert_int_equal(s.exits, i + 1);
        assert_int_equal(s.status, cases[i].status);
    }
    assert_int_equal(vmm_bus_read(bus, 0xf4, 1, &value), 0);
    assert_int_equal(value, 0);
    vmm_bus_unref(bus);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct sink s = {0};
    struct vmm_bus *bus = ports();
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_exitport_add(bus, 0xf4, "exit", NULL, NULL, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "callback"));
    assert_int_equal(vmm_exitport_add(bus, 0xf4, "Bad Name", exited, &s, NULL, &err), -EINVAL);
    assert_int_equal(vmm_exitport_add(bus, 0xf4, NULL, exited, &s, NULL, &err), -EINVAL);
    assert_int_equal(vmm_exitport_add(bus, 0xf4, "exit", exited, &s, NULL, &err), 0);
    assert_int_equal(vmm_debugcon_add(bus, 0xf6, "debugcon", NULL, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "exit"));
    assert_int_equal(vmm_debugcon_add(bus, 0x10000, "debugcon", NULL, NULL, &err), -EINVAL);
    vmm_bus_unref(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_consoles_share_a_chardev),
        cmocka_unit_test(output_that_is_not_taken_is_dropped),
        cmocka_unit_test(a_console_without_a_chardev_is_there),
        cmocka_unit_test(the_exit_status_is_twice_the_value_and_one),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
