/* SPDX-License-Identifier: BSD-3-Clause */
/* The I/O spaces: claiming, look-up against a brute-force model, widths, moving while in use. */
#include "base/util.h"
#include "test.h"

#include <libvmm/bus.h>

#include <pthread.h>
#include <stdatomic.h>

/* A device that is plain bytes, and remembers the widths it was asked for. */
struct bytes {
    uint8_t data[256];
    uint32_t calls;
    uint32_t widths; /* ORed */
};

static uint64_t bytes_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct bytes *b = ctx;
    uint64_t value = 0;
    assert_true(offset + width <= sizeof(b->data));
    memcpy(&value, b->data + offset, width);
    b->calls++;
    b->widths |= width;
    return le64toh(value);
}

static void bytes_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct bytes *b = ctx;
    assert_true(offset + width <= sizeof(b->data));
    value = htole64(value);
    memcpy(b->data + offset, &value, width);
    b->calls++;
    b->widths |= width;
}

static struct vmm_region_ops ops_of(uint32_t min_width, uint32_t max_width)
{
    return (struct vmm_region_ops){sizeof(struct vmm_region_ops), bytes_read, bytes_write,
                                   min_width, max_width};
}

static int add(struct vmm_bus *bus, const char *name, uint64_t address, uint64_t length,
               const struct vmm_region_ops *ops, void *ctx, struct vmm_region **out,
               struct vmm_error *err)
{
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    o.name = name;
    o.address = address;
    o.length = length;
    o.ops = ops;
    o.ctx = ctx;
    return vmm_bus_add(bus, &o, out, err);
}

static void overlaps_are_refused_with_both_names(void **state)
{
    (void)state;
    struct vmm_bus *bus;
    struct bytes b = {0};
    struct vmm_region_ops ops = ops_of(0, 0);
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_bus_new("port", 16, &bus), 0);
    assert_int_equal(add(bus, "serial0", 0x3f8, 8, &ops, &b, NULL, &err), 0);
    assert_int_equal(add(bus, "serial1", 0x3ff, 8, &ops, &b, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "serial0"));
    assert_non_null(strstr(err.text, "serial1"));
    assert_non_null(strstr(err.text, "0x3ff"));
    assert_int_equal(add(bus, "wide", 0x300, 0x1000, &ops, &b, NULL, &err), -EEXIST);
    assert_int_equal(add(bus, "inside", 0x3f9, 1, &ops, &b, NULL, &err), -EEXIST);
    assert_int_equal(add(bus, "before", 0x3f0, 8, &ops, &b, NULL, &err), 0);
    assert_int_equal(add(bus, "after", 0x400, 8, &ops, &b, NULL, &err), 0);
    vmm_bus_unref(bus);
}

static void bad_regions_are_refused(void **state)
{
    (void)state;
    struct vmm_bus *bus;
    struct bytes b = {0};
    struct vmm_region_ops ops = ops_of(0, 0);
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_bus_new("port", 0, &bus), -EINVAL);
    assert_int_equal(vmm_bus_new("port", 65, &bus), -EINVAL);
    assert_int_equal(vmm_bus_new("port", 16, &bus), 0);
    assert_int_equal(add(bus, "empty", 0, 0, &ops, &b, NULL, &err), -EINVAL);
    assert_int_equal(add(bus, "beyond", 0xffff, 2, &ops, &b, NULL, &err), -EINVAL);
    assert_int_equal(add(bus, "wrap", UINT64_MAX, 2, &ops, &b, NULL, &err), -EINVAL);
    assert_int_equal(add(bus, "last", 0xffff, 1, &ops, &b, NULL, &err), 0);
    ops = ops_of(4, 2);
    assert_int_equal(add(bus, "widths", 0, 4, &ops, &b, NULL, &err), -EINVAL);
    ops = ops_of(3, 0);
    assert_int_equal(add(bus, "widths", 0, 4, &ops, &b, NULL, &err), -EINVAL);
    ops = ops_of(0, 16);
    assert_int_equal(add(bus, "widths", 0, 4, &ops, &b, NULL, &err), -EINVAL);
    ops = ops_of(0, 0);
    ops.read = NULL;
    assert_int_equal(add(bus, "no read", 0, 4, &ops, &b, NULL, &err), -EINVAL);
    struct {
        struct vmm_region_options o;
        uint64_t newer;
    } future = {VMM_REGION_OPTIONS_INIT, 1};
    future.o.size = sizeof(future);
    assert_int_equal(vmm_bus_add(bus, &future.o, NULL, &err), -E2BIG);
    uint64_t value;
    assert_int_equal(vmm_bus_read(bus, 0, 0, &value), -EINVAL);
    assert_int_equal(vmm_bus_read(bus, 0, 9, &value), -EINVAL);
    vmm_bus_unref(bus);

    assert_int_equal(vmm_bus_new("memory", 64, &bus), 0);
    ops = ops_of(0, 0);
    assert_int_equal(add(bus, "top", UINT64_MAX - 255, 256, &ops, &b, NULL, &err), 0);
    assert_int_equal(vmm_bus_write(bus, UINT64_MAX, 1, 0x5a), 0);
    assert_int_equal(b.data[255], 0x5a);
    vmm_bus_unref(bus);
}

static void widths_are_split_and_widened(void **state)
{
    (void)state;
    struct vmm_bus *bus;
    struct bytes narrow = {0}, wide = {0};
    struct vmm_region_ops ops = ops_of(1, 1);
    uint64_t value;
    assert_int_equal(vmm_bus_new("memory", 64, &bus), 0);
    assert_int_equal(add(bus, "narrow", 0x1000, 256, &ops, &narrow, NULL, NULL), 0);
    ops = ops_of(4, 4);
    assert_int_equal(add(bus, "wide", 0x2000, 256, &ops, &wide, NULL, NULL), 0);

    assert_int_equal(vmm_bus_write(bus, 0x1010, 8, 0x8877665544332211), 0);
    assert_int_equal(narrow.calls, 8);
    assert_int_equal(narrow.widths, 1);
    assert_int_equal(narrow.data[0x10], 0x11);
    assert_int_equal(narrow.data[0x17], 0x88);
    assert_int_equal(vmm_bus_read(bus, 0x1012, 4, &value), 0);
    assert_int_equal(value, 0x66554433);
    assert_int_equal(vmm_bus_read(bus, 0x1011, 3, &value), 0); /* an odd width is done in bytes */
    assert_int_equal(value, 0x443322);

    assert_int_equal(vmm_bus_write(bus, 0x2000, 8, 0x8877665544332211), 0);
    assert_int_equal(wide.calls, 2);
    assert_int_equal(wide.widths, 4);
    assert_int_equal(vmm_bus_read(bus, 0x2005, 1, &value), 0);
    assert_int_equal(value, 0x66);
    assert_int_equal(vmm_bus_read(bus, 0x2006, 2, &value), 0);
    assert_int_equal(value, 0x8877);
    assert_int_equal(vmm_bus_write(bus, 0x2005, 1, 0xaa), 0); /* only those bytes, others zero */
    assert_int_equal(vmm_bus_read(bus, 0x2004, 4, &value), 0);
    assert_int_equal(value, 0xaa00);
    assert_int_equal(wide.widths, 4);
    vmm_bus_unref(bus);
}

static void unclaimed_sees(void *ctx, uint64_t address, uint32_t width, bool write, uint64_t *value)
{
    uint64_t *last = ctx;
    *last = address * 100 + width * 10 + write;
    if (!write && address == 0x50)
        *value = 0x1234;
}

static void unclaimed_accesses_are_counted_and_told(void **state)
{
    (void)state;
    struct vmm_bus *bus;
    struct bytes b = {0};
    struct vmm_region_ops ops = ops_of(0, 0);
    uint64_t value, last = 0;
    assert_int_equal(vmm_bus_new("port", 16, &bus), 0);
    assert_int_equal(vmm_bus_read(bus, 0x60, 2, &value), -ENOENT);
    assert_int_equal(value, 0xffff);
    vmm_bus_set_unclaimed(bus, unclaimed_sees, &last);
    assert_int_equal(vmm_bus_read(bus, 0x50, 2, &value), -ENOENT);
    assert_int_equal(value, 0x1234);
    assert_int_equal(last, 0x50 * 100 + 20);
    assert_int_equal(vmm_bus_read(bus, 0x50, 1, &value), -ENOENT);
    assert_int_equal(value, 0x34);
    assert_int_equal(vmm_bus_write(bus, 0xffff, 1, 7), -ENOENT);
    assert_int_equal(vmm_bus_unclaimed_count(bus), 4);

    /* An access over a region's end: the bytes inside are the device's, the others nobody's. */
    b.data[3] = 0x77;
    assert_int_equal(add(bus, "four", 0x80, 4, &ops, &b, NULL, NULL), 0);
    assert_int_equal(vmm_bus_read(bus, 0x83, 2, &value), 0);
    assert_int_equal(value, 0xff77);
    assert_int_equal(vmm_bus_unclaimed_count(bus), 5);
    /* … and over its start. */
    assert_int_equal(vmm_bus_write(bus, 0x7f, 4, 0x44332211), 0);
    assert_int_equal(b.data[0], 0x22);
    assert_int_equal(b.data[2], 0x44);
    vmm_bus_unref(bus);
}

static uint32_t xorshift(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Regions come, go and move; every address of a small space is looked up against an owner map. */
static void lookup_agrees_with_a_model(void **state)
{
    (void)state;
    enum { SPACE = 1 << 12, REGIONS = 40 };
    static uint8_t owner[SPACE];
    static struct bytes devices[REGIONS];
    struct vmm_region *regions[REGIONS] = {0};
    uint64_t at[REGIONS], length[REGIONS];
    struct vmm_bus *bus;
    struct vmm_region_ops ops = ops_of(1, 1);
    uint32_t seed = 42;
    assert_int_equal(vmm_bus_new("model", 12, &bus), 0);
    for (int step = 0; step < 3000; step++) {
        uint32_t i = xorshift(&seed) % REGIONS;
        uint64_t address = xorshift(&seed) % SPACE, size = 1 + xorshift(&seed) % 200;
        if (regions[i] && step % 3 == 0) {
            vmm_bus_remove(bus, regions[i]);
            memset(owner + at[i], 0, length[i]);
            regions[i] = NULL;
            continue;
        }
        size = regions[i] ? length[i] : size;
        bool free = address + size <= SPACE;
        for (uint64_t a = address; free && a < address + size; a++)
            free = owner[a] == 0 || owner[a] == i + 1;
        int rc = regions[i] ? vmm_bus_place(bus, regions[i], address, true, NULL)
                            : add(bus, "r", address, size, &ops, &devices[i], &regions[i], NULL);
        assert_int_equal(rc == 0, free);
        if (rc)
            continue;
        for (int a = 0; a < SPACE; a++)
            owner[a] = owner[a] == i + 1 ? 0 : owner[a];
        at[i] = address;
        length[i] = size;
        memset(owner + address, (int)i + 1, size);
        for (int probe = 0; probe < 50; probe++) {
            uint64_t a = xorshift(&seed) % SPACE;
            uint64_t value;
            uint8_t mark = (uint8_t)xorshift(&seed);
            if (owner[a])
                devices[owner[a] - 1].data[a - at[owner[a] - 1]] = mark;
            rc = vmm_bus_read(bus, a, 1, &value);
            assert_int_equal(rc, owner[a] ? 0 : -ENOENT);
            assert_int_equal(value, owner[a] ? mark : 0xff);
        }
    }
    vmm_bus_unref(bus);
}

/* A region that moves itself from inside its own callback, as a PCI BAR does. */
struct mover {
    struct vmm_bus *bus;
    struct vmm_region *region;
    int rc;
};

static uint64_t mover_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx;
    (void)width;
    return offset;
}

static void mover_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct mover *m = ctx;
    (void)offset;
    (void)width;
    m->rc = vmm_bus_place(m->bus, m->region, value & ~(uint64_t)1, value & 1, NULL);
}

static void a_region_moves_from_its_own_callback(void **state)
{
    (void)state;
    struct mover m = {0};
    struct vmm_region_ops ops = {sizeof(ops), mover_read, mover_write, 0, 0};
    uint64_t value;
    assert_int_equal(vmm_bus_new("memory", 40, &m.bus), 0);
    assert_int_equal(add(m.bus, "mover", 0xfe000000, 0x1000, &ops, &m, &m.region, NULL), 0);
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t from = 0xfe000000 + i * 0x1000;
        assert_int_equal(vmm_bus_write(m.bus, from, 8, (from + 0x1000) | 1), 0);
        assert_int_equal(m.rc, 0);
        assert_int_equal(vmm_bus_read(m.bus, from, 4, &value), -ENOENT);
        assert_int_equal(vmm_bus_read(m.bus, from + 0x1004, 4, &value), 0);
        assert_int_equal(value, 4);
    }
    uint64_t at = UINT64_C(0xfe000000) + 10000 * 0x1000;
    assert_int_equal(vmm_bus_write(m.bus, at, 8, 0), 0); /* off the bus */
    assert_int_equal(vmm_bus_read(m.bus, at, 4, &value), -ENOENT);
    assert_int_equal(vmm_bus_place(m.bus, m.region, at, true, NULL), 0);
    assert_int_equal(vmm_bus_place(m.bus, m.region, (uint64_t)1 << 40, true, NULL), -EINVAL);
    assert_int_equal(vmm_bus_read(m.bus, at, 4, &value), 0);
    vmm_bus_remove(m.bus, m.region);
    assert_int_equal(vmm_bus_read(m.bus, at, 4, &value), -ENOENT);
    vmm_bus_unref(m.bus);
}

/* After vmm_bus_remove() no callback runs, with readers on other threads. */
struct churn {
    struct vmm_bus *bus;
    _Atomic bool stop;
    _Atomic uint32_t alive;
    _Atomic uint32_t wrong;
};

static uint64_t churn_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct churn *c = ctx;
    (void)offset;
    (void)width;
    if (!atomic_load(&c->alive))
        atomic_fetch_add(&c->wrong, 1);
    return 0;
}

static void churn_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)value;
    churn_read(ctx, offset, width);
}

static void *churn_reader(void *arg)
{
    struct churn *c = arg;
    uint64_t value;
    while (!atomic_load(&c->stop))
        (void)vmm_bus_read(c->bus, 0x1000, 4, &value);
    return NULL;
}

static void no_callback_runs_after_removal(void **state)
{
    (void)state;
    static struct churn c;
    struct vmm_region_ops ops = {sizeof(ops), churn_read, churn_write, 0, 0};
    assert_int_equal(vmm_bus_new("memory", 32, &c.bus), 0);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn_reader, &c), 0);
    for (int i = 0; i < 300; i++) {
        struct vmm_region *region;
        atomic_store(&c.alive, 1);
        assert_int_equal(add(c.bus, "churn", 0x1000, 16, &ops, &c, &region, NULL), 0);
        vmm_bus_remove(c.bus, region);
        atomic_store(&c.alive, 0);
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.wrong, 0);
    vmm_bus_unref(c.bus);
}

static void seen_region(void *ctx, const struct vmm_region_info *info)
{
    uint64_t *sum = ctx;
    assert_true(info->address > *sum >> 32);
    *sum = (info->address << 32) + (uint32_t)*sum + (uint32_t)(info->reads * 100 + info->writes);
}

static void regions_are_listed_in_order_with_their_counts(void **state)
{
    (void)state;
    struct vmm_bus *bus;
    struct bytes b = {0};
    struct vmm_region_ops ops = ops_of(0, 0);
    uint64_t value, sum = 0;
    assert_int_equal(vmm_bus_new("memory", 32, &bus), 0);
    assert_int_equal(add(bus, "c", 0x3000, 16, &ops, &b, NULL, NULL), 0);
    assert_int_equal(add(bus, "a", 0x1000, 16, &ops, &b, NULL, NULL), 0);
    assert_int_equal(add(bus, "b", 0x2000, 16, &ops, &b, NULL, NULL), 0);
    (void)vmm_bus_read(bus, 0x1000, 8, &value);
    (void)vmm_bus_read(bus, 0x3000, 4, &value);
    (void)vmm_bus_write(bus, 0x3004, 4, 0);
    vmm_bus_foreach(bus, seen_region, &sum);
    assert_int_equal((uint32_t)sum, 201);
    assert_int_equal(sum >> 32, 0x3000);
    vmm_bus_unref(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlaps_are_refused_with_both_names),
        cmocka_unit_test(bad_regions_are_refused),
        cmocka_unit_test(widths_are_split_and_widened),
        cmocka_unit_test(unclaimed_accesses_are_counted_and_told),
        cmocka_unit_test(lookup_agrees_with_a_model),
        cmocka_unit_test(a_region_moves_from_its_own_callback),
        cmocka_unit_test(no_callback_runs_after_removal),
        cmocka_unit_test(regions_are_listed_in_order_with_their_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
