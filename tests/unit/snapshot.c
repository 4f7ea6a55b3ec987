/* SPDX-License-Identifier: BSD-3-Clause */
/* Publication of snapshots: nothing is freed under a reader, everything is freed in the end. */
#include "base/snapshot.h"
#include "test.h"

struct item {
    struct vmm_snapshot head;
    uint64_t a, b; /* always equal while alive */
    _Atomic int *alive;
};

static void item_destroy(struct vmm_snapshot *s)
{
    struct item *item = (struct item *)s;
    item->a = 1;
    item->b = 2;
    atomic_fetch_sub(item->alive, 1);
    free(item);
}

static struct vmm_snapshot *item_new(_Atomic int *alive, uint64_t value)
{
    struct item *item = calloc(1, sizeof(*item));
    assert_non_null(item);
    vmm_snapshot_init(&item->head, item_destroy);
    item->a = item->b = value;
    item->alive = alive;
    atomic_fetch_add(alive, 1);
    return &item->head;
}

static void publish_inside_a_read_section_does_not_free_what_is_read(void **state)
{
    (void)state;
    _Atomic int alive = 0;
    struct vmm_snapshot_cell cell;
    vmm_snapshot_cell_init(&cell, item_new(&alive, 7));
    struct vmm_snapshot_guard guard;
    struct item *item = (struct item *)vmm_snapshot_enter(&cell, &guard);
    for (uint64_t i = 0; i < 10; i++)
        vmm_snapshot_publish(&cell, item_new(&alive, i));
    assert_int_equal(item->a, 7);
    vmm_snapshot_exit(&guard);
    vmm_snapshot_synchronize(&cell);
    vmm_snapshot_synchronize(&cell);
    assert_int_equal(alive, 1);
    vmm_snapshot_cell_fini(&cell);
    assert_int_equal(alive, 0);
}

static void publishing_from_read_sections_reclaims_as_it_goes(void **state)
{
    (void)state;
    _Atomic int alive = 0;
    struct vmm_snapshot_cell cell;
    vmm_snapshot_cell_init(&cell, item_new(&alive, 0));
    for (uint64_t i = 0; i < 1000; i++) {
        struct vmm_snapshot_guard guard;
        vmm_snapshot_enter(&cell, &guard);
        vmm_snapshot_publish(&cell, item_new(&alive, i));
        vmm_snapshot_exit(&guard);
        assert_true(alive < 8);
    }
    vmm_snapshot_cell_fini(&cell);
    assert_int_equal(alive, 0);
}

static void a_held_snapshot_outlives_its_publication(void **state)
{
    (void)state;
    _Atomic int alive = 0;
    struct vmm_snapshot_cell cell;
    vmm_snapshot_cell_init(&cell, item_new(&alive, 1));
    uint64_t generation;
    struct vmm_snapshot *held = vmm_snapshot_hold(&cell, &generation);
    assert_int_equal(generation, vmm_snapshot_generation(&cell));
    vmm_snapshot_publish(&cell, item_new(&alive, 2));
    vmm_snapshot_synchronize(&cell);
    assert_int_not_equal(generation, vmm_snapshot_generation(&cell));
    assert_int_equal(((struct item *)held)->a, 1);
    assert_int_equal(alive, 2);
    vmm_snapshot_unref(held);
    assert_int_equal(alive, 1);
    vmm_snapshot_cell_fini(&cell);
}

struct race {
    struct vmm_snapshot_cell cell;
    _Atomic int alive;
    _Atomic bool stop;
    _Atomic uint64_t wrong, reads;
};

static void *reader(void *arg)
{
    struct race *race = arg;
    while (!atomic_load(&race->stop)) {
        struct vmm_snapshot_guard guard;
        struct item *item = (struct item *)vmm_snapshot_enter(&race->cell, &guard);
        if (item->a != item->b)
            atomic_fetch_add(&race->wrong, 1);
        vmm_snapshot_exit(&guard);
        atomic_fetch_add(&race->reads, 1);
    }
    return NULL;
}

static void readers_never_see_a_freed_snapshot(void **state)
{
    (void)state;
    static struct race race;
    vmm_snapshot_cell_init(&race.cell, item_new(&race.alive, 0));
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &race), 0);
    for (uint64_t i = 0; i < 20000 || atomic_load(&race.reads) < 1000; i++) {
        vmm_snapshot_publish(&race.cell, item_new(&race.alive, i));
        if (i % 1024 == 0)
            vmm_snapshot_synchronize(&race.cell);
    }
    atomic_store(&race.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(race.wrong, 0);
    vmm_snapshot_cell_fini(&race.cell);
    assert_int_equal(race.alive, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_inside_a_read_section_does_not_free_what_is_read),
        cmocka_unit_test(publishing_from_read_sections_reclaims_as_it_goes),
        cmocka_unit_test(a_held_snapshot_outlives_its_publication),
        cmocka_unit_test(readers_never_see_a_freed_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
