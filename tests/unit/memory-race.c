/* SPDX-License-Identifier: BSD-3-Clause */
/* Readers and writers of guest memory beside a thread that changes the map all the time. Run under
 * ThreadSanitizer too. */
#include <libvmm/memory.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PAGE    4096u
#define READERS 3

struct race {
    struct vmm_memory *memory;
    struct vmm_memory_region *moving[2];
    _Atomic bool stop;
    _Atomic uint64_t reads, misses, wrong;
};

/* Each region is filled with its own tag: whatever is read must be one of them, whole. */
static void look(struct race *race, int rc, uint64_t value)
{
    if (rc == -EFAULT)
        atomic_fetch_add(&race->misses, 1);
    else if (rc != 0 || (value != 0x1111111111111111u && value != 0x2222222222222222u))
        atomic_fetch_add(&race->wrong, 1);
    atomic_fetch_add(&race->reads, 1);
}

static void *reader(void *arg)
{
    struct race *race = arg;
    struct vmm_memory_view view;
    vmm_memory_view_init(&view, race->memory);
    for (uint64_t i = 0; !atomic_load(&race->stop); i++) {
        uint64_t address = 0x10000 + i * 8 % 0x4000, value = 0;
        int rc = vmm_memory_load_u64(race->memory, address, &value);
        look(race, rc, value);
        rc = vmm_memory_view_load_u64(&view, address, &value);
        look(race, rc, value);
        struct vmm_mapping map;
        rc = vmm_memory_map(race->memory, address, 8, VMM_MAP_READ, &map);
        if (rc == 0) {
            value = *(volatile uint64_t *)map.data;
            vmm_memory_unmap(race->memory, &map);
        }
        look(race, rc, value);
    }
    vmm_memory_view_fini(&view);
    return NULL;
}

/* The fixed region is written to as well, by an atomic that must not lose a count. */
static void *adder(void *arg)
{
    struct race *race = arg;
    for (int i = 0; i < 50000; i++)
        if (vmm_memory_fetch_add_u32(race->memory, 0x100, 1, NULL) != 0)
            atomic_fetch_add(&race->wrong, 1);
    return NULL;
}

static void remap(struct race *race, uint32_t step)
{
    struct vmm_memory *m = race->memory;
    if (step % 3 == 0) {
        /* Exchanged in one transaction: never is the window empty. */
        vmm_memory_begin(m);
        assert_int_equal(vmm_memory_set_priority(m, race->moving[0], (int32_t)(step % 2), NULL), 0);
        assert_int_equal(
            vmm_memory_set_priority(m, race->moving[1], (int32_t)((step + 1) % 2), NULL), 0);
        assert_int_equal(vmm_memory_commit(m, NULL), 0);
    } else if (step % 3 == 1) {
        assert_int_equal(vmm_memory_set_enabled(m, race->moving[0], step % 2, NULL), 0);
    } else {
        /* New memory each time, so that reading what was freed would be found. */
        struct vmm_memory_region *region = race->moving[1];
        assert_int_equal(vmm_memory_remove(m, region, NULL), 0);
        vmm_memory_region_unref(region);
        struct vmm_memory *stage;
        assert_int_equal(vmm_memory_new(NULL, &stage, NULL), 0);
        assert_int_equal(vmm_memory_add_ram(stage, "b", 0, 0x4000, &region, NULL), 0);
        assert_int_equal(vmm_memory_fill(stage, 0, 0x22, 0x4000), 0);
        vmm_memory_unref(stage);
        assert_int_equal(vmm_memory_add(m, region, 0x10000, -1, NULL), 0);
        race->moving[1] = region;
    }
}

static void readers_beside_changes_see_old_or_new_memory(void **state)
{
    (void)state;
    static struct race race;
    struct vmm_memory *m;
    assert_int_equal(vmm_memory_new(NULL, &m, NULL), 0);
    race.memory = m;
    assert_int_equal(vmm_memory_add_ram(m, "fixed", 0, PAGE, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(m, "a", 0x10000, 0x4000, &race.moving[0], NULL), 0);
    assert_int_equal(vmm_memory_fill(m, 0x10000, 0x11, 0x4000), 0);
    assert_int_equal(vmm_memory_add_ram(m, "b", 0x20000, 0x4000, &race.moving[1], NULL), 0);
    assert_int_equal(vmm_memory_fill(m, 0x20000, 0x22, 0x4000), 0);
    assert_int_equal(vmm_memory_set_priority(m, race.moving[1], -1, NULL), 0);
    assert_int_equal(vmm_memory_move(m, race.moving[1], 0x10000, NULL), 0);
    pthread_t readers[READERS], adders[2];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &race), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&adders[i], NULL, adder, &race), 0);
    for (uint32_t step = 0; step < 3000 || atomic_load(&race.reads) < 3000; step++)
        remap(&race, step);
    atomic_store(&race.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(adders[i], NULL);
    assert_int_equal(race.wrong, 0);
    uint32_t sum;
    assert_int_equal(vmm_memory_load_u32(m, 0x100, &sum), 0);
    assert_int_equal(sum, 100000);
    vmm_memory_region_unref(race.moving[0]);
    vmm_memory_region_unref(race.moving[1]);
    vmm_memory_unref(m);
}

static void *plain_reader(void *arg)
{
    struct race *race = arg;
    uint8_t data[4096];
    while (!atomic_load(&race->stop)) {
        int rc = vmm_memory_read(race->memory, 0x10000, data, sizeof(data));
        if (rc != 0 && rc != -EFAULT)
            atomic_fetch_add(&race->wrong, 1);
        atomic_fetch_add(&race->reads, 1);
    }
    return NULL;
}

static void count_release(void *ctx)
{
    ++*(int *)ctx;
}

/* A caller who takes memory out may unmap it when the call returns: nobody is inside. */
static void removed_memory_is_free_when_the_call_returns(void **state)
{
    (void)state;
    static struct race race;
    struct vmm_memory *m;
    pthread_t readers[READERS];
    assert_int_equal(vmm_memory_new(NULL, &m, NULL), 0);
    race.memory = m;
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, plain_reader, &race), 0);
    for (int step = 0; step < 300 || atomic_load(&race.reads) < 3000; step++) {
        struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
        struct vmm_memory_region *region;
        int released = 0;
        o.type = VMM_MEMORY_RAM;
        o.length = PAGE;
        o.release = count_release;
        o.ctx = &released;
        assert_int_equal(vmm_memory_region_new(&o, &region, NULL), 0);
        assert_int_equal(vmm_memory_add(m, region, 0x10000, 0, NULL), 0);
        assert_int_equal(vmm_memory_remove(m, region, NULL), 0);
        assert_int_equal(released, 0);
        vmm_memory_region_unref(region);
        assert_int_equal(released, 1);
    }
    atomic_store(&race.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(race.wrong, 0);
    vmm_memory_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_beside_changes_see_old_or_new_memory),
        cmocka_unit_test(removed_memory_is_free_when_the_call_returns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
