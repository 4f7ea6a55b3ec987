/* SPDX-License-Identifier: BSD-3-Clause */
/* The library's dirty log without a VM: what is marked, for whom, and that nothing is lost. */
#include <libvmm/dirty.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#define PAGE  4096u
#define PAGES 200u

struct found {
    bool pages[4096]; /* by guest page */
    uint32_t count, ranges, hidden, stop_after;
};

static int note(void *ctx, const struct vmm_dirty_range *range)
{
    struct found *found = ctx;
    assert_true(range->length >= PAGE && range->length % PAGE == 0 && range->offset % PAGE == 0);
    found->ranges++;
    if (range->address == UINT64_MAX)
        found->hidden += (uint32_t)(range->length / PAGE);
    for (uint64_t i = 0; range->address != UINT64_MAX && i < range->length / PAGE; i++) {
        uint64_t page = range->address / PAGE + i;
        assert_true(page < 4096);
        assert_false(found->pages[page]);
        found->pages[page] = true;
        found->count++;
    }
    return found->stop_after && found->ranges == found->stop_after ? 42 : 0;
}

static struct found harvest(struct vmm_dirty_consumer *c)
{
    struct found found = {0};
    assert_int_equal(vmm_dirty_harvest(c, note, &found), 0);
    return found;
}

struct fixture {
    struct vmm_memory *memory;
    struct vmm_memory_region *ram;
};

static struct fixture make(void)
{
    struct fixture f;
    assert_int_equal(vmm_memory_new(NULL, &f.memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f.memory, "ram", 0, (uint64_t)PAGES * PAGE, &f.ram, NULL),
                     0);
    return f;
}

static void drop(struct fixture *f)
{
    vmm_memory_region_unref(f->ram);
    vmm_memory_unref(f->memory);
}

static struct vmm_dirty_consumer *watch(struct vmm_memory *memory, struct vmm_memory_region *region)
{
    struct vmm_dirty_consumer *c = NULL;
    assert_int_equal(vmm_dirty_consumer_new(memory, region, &c, NULL), 0);
    return c;
}

static void every_way_to_write_is_logged(void **state)
{
    (void)state;
    struct fixture f = make();
    struct vmm_memory *m = f.memory;
    uint64_t page = PAGE;
    assert_int_equal(vmm_memory_store_u8(m, 190 * page, 1), 0); /* before: not seen */
    struct vmm_dirty_consumer *c = watch(m, NULL);
    assert_int_equal(harvest(c).count, 0);

    uint32_t value = 0;
    uint64_t wide = 0;
    assert_int_equal(vmm_memory_write(m, 1 * page, "x", 1), 0);
    assert_int_equal(vmm_memory_write(m, 4 * page - 1, "xy", 2), 0); /* 3 and 4 */
    assert_int_equal(vmm_memory_fill(m, 63 * page, 9, 3 * page), 0); /* 63 to 65 */
    assert_int_equal(vmm_memory_store_u64(m, 70 * page, 9), 0);
    assert_int_equal(vmm_memory_cmpxchg_u32(m, 72 * page, &value, 1), 0);
    assert_int_equal(vmm_memory_fetch_add_u64(m, 74 * page, 1, &wide), 0);
    assert_int_equal(vmm_memory_write_rom(m, 76 * page, "x", 1), 0);
    assert_int_equal(vmm_memory_handle_write(m, 78 * page, 1, 1), 0);
    assert_int_equal(vmm_memory_discard(m, 80 * page, page), 0);
    assert_int_equal(vmm_memory_mark_dirty(m, 82 * page, 1), 0);
    struct vmm_memory_view view;
    vmm_memory_view_init(&view, m);
    assert_int_equal(vmm_memory_view_store_u32(&view, 84 * page, 1), 0);
    assert_int_equal(vmm_memory_view_store_u32(&view, 86 * page, 1), 0);
    assert_int_equal(vmm_memory_view_write(&view, 89 * page - 1, "xy", 2), 0); /* 88 and 89 */
    vmm_memory_view_fini(&view);
    struct vmm_mapping map, read_map;
    assert_int_equal(vmm_memory_map(m, 127 * page + 8, page, VMM_MAP_WRITE, &map), 0);
    assert_int_equal(vmm_memory_map(m, 140 * page, page, VMM_MAP_READ, &read_map), 0);
    struct vmm_guest_range ranges[] = {{150 * page, 10}, {160 * page, 2 * page}, {170 * page, 1}};
    struct iovec iov[3];
    struct vmm_scatter scatter;
    assert_int_equal(vmm_memory_map_list(m, ranges, 3, VMM_MAP_WRITE, iov, 3, 0, &scatter), 0);
    vmm_memory_unmap_list(m, &scatter, 10 + page + 1); /* 150, 160, 161, not 170 */

    static const uint32_t first[] = {1,  3,  4,  63, 64, 65, 70, 72,  74,  76,
                                     78, 80, 82, 84, 86, 88, 89, 150, 160, 161};
    struct found found = harvest(c);
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
        assert_true(found.pages[first[i]]);
    assert_int_equal(found.count, sizeof(first) / sizeof(first[0]));
    vmm_memory_unmap(m, &map); /* seen when it is released: 127 and 128 */
    vmm_memory_unmap(m, &read_map);
    found = harvest(c);
    assert_true(found.pages[127] && found.pages[128]);
    assert_int_equal(found.count, 2);
    assert_int_equal(found.ranges, 1);
    assert_int_equal(harvest(c).count, 0);
    assert_int_equal(vmm_dirty_generation(c), 4);
    assert_int_equal(vmm_memory_mark_dirty(m, PAGES * page, 1), -EFAULT);
    assert_int_equal(vmm_memory_mark_dirty(m, UINT64_MAX, 2), -EFAULT);
    vmm_dirty_consumer_free(c);
    drop(&f);
}

static void consumers_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct fixture f = make();
    struct vmm_memory_region *other;
    assert_int_equal(vmm_memory_add_ram(f.memory, "vram", 0x200000, 64 * PAGE, &other, NULL), 0);
    struct vmm_dirty_consumer *migration = watch(f.memory, NULL), *display = watch(f.memory, other);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0, 1), 0);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x203000, 1), 0);
    struct found found = harvest(display);
    assert_int_equal(found.count, 1);
    assert_true(found.pages[0x203]);
    assert_int_equal(harvest(display).count, 0);
    found = harvest(migration);
    assert_int_equal(found.count, 2);
    assert_true(found.pages[0] && found.pages[0x203]);
    vmm_dirty_consumer_free(migration);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x204000, 1), 0);
    assert_int_equal(harvest(display).count, 1);
    vmm_dirty_consumer_free(display);
    /* Bits of a consumer that went do not appear for the next one. */
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x205000, 1), 0);
    display = watch(f.memory, other);
    assert_int_equal(harvest(display).count, 0);
    vmm_dirty_consumer_free(display);
    vmm_memory_region_unref(other);
    drop(&f);
}

static void too_many_consumers_are_refused(void **state)
{
    (void)state;
    struct fixture f = make();
    struct vmm_dirty_consumer *c[VMM_DIRTY_CONSUMERS_MAX], *more = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    for (size_t i = 0; i < VMM_DIRTY_CONSUMERS_MAX; i++)
        c[i] = watch(f.memory, i % 2 ? f.ram : NULL);
    assert_int_equal(vmm_dirty_consumer_new(f.memory, NULL, &more, &err), -ENOSPC);
    assert_null(more);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x3000, 1), 0);
    for (size_t i = 0; i < VMM_DIRTY_CONSUMERS_MAX; i++) {
        assert_int_equal(harvest(c[i]).count, 1);
        vmm_dirty_consumer_free(c[i]);
    }
    more = watch(f.memory, NULL);
    vmm_dirty_consumer_free(more);
    assert_int_equal(vmm_dirty_consumer_new(NULL, NULL, &more, NULL), -EINVAL);
    assert_int_equal(vmm_dirty_consumer_new(f.memory, NULL, NULL, NULL), -EINVAL);
    vmm_memory_begin(f.memory);
    assert_int_equal(vmm_dirty_consumer_new(f.memory, NULL, &more, NULL), -EBUSY);
    assert_int_equal(vmm_memory_commit(f.memory, NULL), 0);
    assert_int_equal(vmm_dirty_ring_enable(f.memory, 0, NULL), -EOPNOTSUPP);
    assert_null(vmm_dirty_consumer_free(NULL));
    drop(&f);
}

static void a_harvest_that_stops_keeps_the_rest(void **state)
{
    (void)state;
    struct fixture f = make();
    struct vmm_dirty_consumer *c = watch(f.memory, NULL);
    for (uint64_t page = 0; page < PAGES; page += 3)
        assert_int_equal(vmm_memory_store_u8(f.memory, page * PAGE, 1), 0);
    struct found all = {0};
    uint32_t rounds = 0;
    for (int rc = 42; rc == 42; rounds++) {
        all.ranges = 0;
        all.stop_after = 5;
        rc = vmm_dirty_harvest(c, note, &all); /* note() fails if a page comes twice */
        assert_true(rc == 42 || rc == 0);
    }
    assert_int_equal(all.count, (PAGES + 2) / 3);
    assert_true(rounds > 10);
    assert_int_equal(vmm_dirty_harvest(c, NULL, NULL), -EINVAL);
    vmm_dirty_consumer_free(c);
    drop(&f);
}

static void map_changes_are_followed(void **state)
{
    (void)state;
    struct fixture f = make();
    struct vmm_dirty_consumer *c = watch(f.memory, NULL);
    struct vmm_memory_region *added;
    assert_int_equal(vmm_memory_add_ram(f.memory, "dimm", 0x400000, 16 * PAGE, &added, NULL), 0);
    assert_int_equal(harvest(c).count, 16); /* new memory begins as written to */
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x401000, 1), 0);
    assert_int_equal(vmm_memory_move(f.memory, added, 0x500000, NULL), 0);
    struct found found = harvest(c);
    assert_int_equal(found.count, 1);
    assert_true(found.pages[0x501]);
    /* Written through an alias: the same page, found where it is lowest. */
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *alias;
    o.type = VMM_MEMORY_ALIAS;
    o.target = added;
    o.target_offset = 8 * PAGE;
    o.length = 4 * PAGE;
    assert_int_equal(vmm_memory_region_new(&o, &alias, NULL), 0);
    assert_int_equal(vmm_memory_add(f.memory, alias, 0x600000, 0, NULL), 0);
    struct vmm_dirty_consumer *part = watch(f.memory, alias);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x602000, 1), 0);
    assert_int_equal(vmm_memory_store_u8(f.memory, 0x500000, 1), 0);
    found = harvest(c);
    assert_int_equal(found.count, 2);
    assert_true(found.pages[0x500] && found.pages[0x50a]);
    found = harvest(part);
    assert_int_equal(found.count, 1);
    assert_true(found.pages[0x50a]);
    /* Disabled, it is watched but nowhere; removed, it is forgotten by those who watch the map. */
    struct vmm_mapping map;
    assert_int_equal(vmm_memory_map(f.memory, 0x503000, 1, VMM_MAP_WRITE, &map), 0);
    assert_int_equal(vmm_memory_remove(f.memory, alias, NULL), 0);
    assert_int_equal(vmm_memory_set_enabled(f.memory, added, false, NULL), 0);
    vmm_memory_unmap(f.memory, &map);
    found = harvest(c);
    assert_int_equal(found.count, 0);
    assert_int_equal(found.hidden, 1);
    assert_int_equal(vmm_memory_remove(f.memory, added, NULL), 0);
    assert_int_equal(harvest(c).hidden, 0);
    vmm_dirty_consumer_free(part);
    vmm_dirty_consumer_free(c);
    vmm_memory_region_unref(alias);
    vmm_memory_region_unref(added);
    drop(&f);
}

/* A writer that increments counters in pages, and a consumer that copies what is reported: at the
 * end the copy must be the memory. */
struct race {
    struct vmm_memory *memory;
    _Atomic bool stop;
    uint32_t copy[PAGES];
    uint64_t harvested;
};

static void *write_pages(void *arg)
{
    struct race *race = arg;
    for (uint32_t i = 1; i < 200000; i++)
        (void)vmm_memory_store_u32(race->memory, (uint64_t)(i * 7919u % PAGES) * PAGE, i);
    atomic_store(&race->stop, true);
    return NULL;
}

static int copy_range(void *ctx, const struct vmm_dirty_range *range)
{
    struct race *race = ctx;
    for (uint64_t at = 0; at < range->length; at += PAGE) {
        uint64_t address = range->address + at;
        assert_int_equal(vmm_memory_load_u32(race->memory, address, &race->copy[address / PAGE]),
                         0);
        race->harvested++;
    }
    return 0;
}

static void no_write_is_lost_to_a_harvest_that_runs_beside(void **state)
{
    (void)state;
    struct fixture f = make();
    static struct race race;
    race.memory = f.memory;
    pthread_t thread;
    struct vmm_dirty_consumer *c = watch(f.memory, NULL);
    assert_int_equal(pthread_create(&thread, NULL, write_pages, &race), 0);
    while (!atomic_load(&race.stop))
        assert_int_equal(vmm_dirty_harvest(c, copy_range, &race), 0);
    pthread_join(thread, NULL);
    assert_int_equal(vmm_dirty_harvest(c, copy_range, &race), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        uint32_t value;
        assert_int_equal(vmm_memory_load_u32(f.memory, page * PAGE, &value), 0);
        assert_int_equal(value, race.copy[page]);
        assert_true(value > 100000);
    }
    assert_true(race.harvested >= PAGES);
    vmm_dirty_consumer_free(c);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_write_is_logged),
        cmocka_unit_test(consumers_do_not_disturb_each_other),
        cmocka_unit_test(too_many_consumers_are_refused),
        cmocka_unit_test(a_harvest_that_stops_keeps_the_rest),
        cmocka_unit_test(map_changes_are_followed),
        cmocka_unit_test(no_write_is_lost_to_a_harvest_that_runs_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
