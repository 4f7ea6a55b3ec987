/* SPDX-License-Identifier: BSD-3-Clause */
/* The map: wrong arguments, priorities and aliases, transactions, and random changes against a
 * model that looks at every page by itself. */
#include <libvmm/memory.h>

#include "test.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u

static struct vmm_memory *new_memory(void)
{
    struct vmm_memory *memory = NULL;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    return memory;
}

static struct vmm_memory_region *new_region(uint32_t type, const char *name, uint64_t pages)
{
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *region = NULL;
    o.type = type;
    o.name = name;
    o.length = pages * PAGE;
    assert_int_equal(vmm_memory_region_new(&o, &region, NULL), 0);
    return region;
}

static void bad_regions_are_refused_with_a_reason(void **state)
{
    (void)state;
    struct vmm_memory_region *hole = new_region(VMM_MEMORY_HOLE, "hole", 4);
    struct vmm_memory_region *ram = new_region(VMM_MEMORY_RAM, "ram", 4);
    struct vmm_backing_options bo = VMM_BACKING_OPTIONS_INIT;
    struct vmm_backing *backing;
    bo.length = 4 * PAGE;
    assert_int_equal(vmm_backing_new(&bo, &backing, NULL), 0);
    void (*write)(void *, uint64_t, uint32_t, uint64_t) =
        (void (*)(void *, uint64_t, uint32_t, uint64_t))1;
    const struct {
        struct vmm_memory_region_options o;
    } bad[] = {
        {{.type = 0, .length = PAGE}},
        {{.type = 6, .length = PAGE}},
        {{.type = VMM_MEMORY_RAM, .length = 0}},
        {{.type = VMM_MEMORY_RAM, .length = 1}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE + 1}},
        {{.type = VMM_MEMORY_RAM, .length = UINT64_MAX - PAGE + 1}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE, .target = ram}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE, .target_offset = PAGE}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE, .backing_offset = PAGE}},
        {{.type = VMM_MEMORY_RAM, .length = 5 * PAGE, .backing = backing}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE, .backing = backing, .backing_offset = 4 * PAGE}},
        {{.type = VMM_MEMORY_RAM, .length = PAGE, .backing = backing, .backing_offset = 100}},
        {{.type = VMM_MEMORY_HOLE, .length = PAGE, .backing = backing}},
        {{.type = VMM_MEMORY_HOLE, .length = PAGE, .rom_write = write}},
        {{.type = VMM_MEMORY_ALIAS, .length = PAGE}},
        {{.type = VMM_MEMORY_ALIAS, .length = PAGE, .target = hole}},
        {{.type = VMM_MEMORY_ALIAS, .length = PAGE, .target = ram, .backing = backing}},
        {{.type = VMM_MEMORY_ALIAS, .length = 5 * PAGE, .target = ram}},
        {{.type = VMM_MEMORY_ALIAS, .length = PAGE, .target = ram, .target_offset = 4 * PAGE}},
        {{.type = VMM_MEMORY_ALIAS, .length = PAGE, .target = ram, .target_offset = 8}},
        {{.type = VMM_MEMORY_ALIAS,
          .length = 2 * PAGE,
          .target = ram,
          .target_offset = UINT64_MAX - PAGE + 1}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vmm_memory_region_options o = bad[i].o;
        struct vmm_memory_region *region = NULL;
        struct vmm_error err = VMM_ERROR_INIT;
        o.size = sizeof(o);
        int rc = vmm_memory_region_new(&o, &region, &err);
        assert_true(rc == -EINVAL || rc == -ENOMEM);
        assert_int_equal(err.code, rc);
        assert_true(err.text[0] != 0);
        assert_null(region);
    }
    assert_int_equal(vmm_memory_region_new(NULL, &ram, NULL), -EINVAL);
    struct {
        struct vmm_memory_region_options o;
        uint64_t more;
    } newer = {.o = {.size = sizeof(newer), .type = VMM_MEMORY_RAM, .length = PAGE}, .more = 1};
    struct vmm_memory_region *region = NULL;
    assert_int_equal(vmm_memory_region_new(&newer.o, &region, NULL), -E2BIG);
    newer.more = 0;
    assert_int_equal(vmm_memory_region_new(&newer.o, &region, NULL), 0);
    vmm_memory_region_unref(region);
    vmm_memory_region_unref(hole);
    vmm_memory_region_unref(ram);
    vmm_backing_unref(backing);
}

static void bad_places_are_refused_and_named(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *a = new_region(VMM_MEMORY_RAM, "first", 2);
    struct vmm_memory_region *b = new_region(VMM_MEMORY_RAM, "second", 2);
    struct vmm_error err = VMM_ERROR_INIT;
    uint64_t address;
    assert_int_equal(vmm_memory_add(m, NULL, 0, 0, NULL), -EINVAL);
    assert_int_equal(vmm_memory_add(m, a, 1, 0, NULL), -EINVAL);
    assert_int_equal(vmm_memory_add(m, a, UINT64_MAX - PAGE + 1, 0, NULL), -EINVAL);
    assert_int_equal(vmm_memory_remove(m, a, NULL), -ENOENT);
    assert_int_equal(vmm_memory_move(m, a, 0, NULL), -ENOENT);
    assert_int_equal(vmm_memory_region_address(m, a, &address), -ENOENT);
    assert_int_equal(vmm_memory_add(m, a, PAGE, 0, NULL), 0);
    assert_int_equal(vmm_memory_add(m, a, 8 * PAGE, 0, NULL), -EBUSY);
    assert_int_equal(vmm_memory_add(m, b, 2 * PAGE, 0, &err), -EEXIST);
    assert_non_null(strstr(err.text, "first"));
    assert_non_null(strstr(err.text, "second"));
    assert_non_null(strstr(err.text, "0x2000"));
    assert_int_equal(vmm_memory_add(m, b, 3 * PAGE, 0, NULL), 0);
    assert_int_equal(vmm_memory_move(m, b, 2 * PAGE, NULL), -EEXIST);
    assert_int_equal(vmm_memory_region_address(m, b, &address), 0);
    assert_int_equal(address, 3 * PAGE);
    assert_int_equal(vmm_memory_move(m, b, 3, NULL), -EINVAL);
    assert_int_equal(vmm_memory_set_priority(m, b, -1, NULL), 0);
    assert_int_equal(vmm_memory_move(m, b, 2 * PAGE, NULL), 0);
    assert_int_equal(vmm_memory_set_priority(m, b, 0, NULL), -EEXIST);
    assert_int_equal(vmm_memory_set_target_offset(m, b, 0, NULL), -EINVAL);
    assert_int_equal(vmm_memory_commit(m, NULL), -EINVAL);
    vmm_memory_region_unref(a);
    vmm_memory_region_unref(b);
    vmm_memory_unref(m);
}

static void a_failed_transaction_changes_nothing(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *a = new_region(VMM_MEMORY_RAM, "a", 2);
    struct vmm_memory_region *b = new_region(VMM_MEMORY_RAM, "b", 2);
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_memory_add(m, a, 0, 0, NULL), 0);
    vmm_memory_begin(m);
    assert_int_equal(vmm_memory_remove(m, a, NULL), 0);
    assert_int_equal(vmm_memory_add(m, b, 0, 0, NULL), 0);
    assert_true(vmm_memory_valid(m, 0, 1, true)); /* nothing is visible yet */
    assert_int_equal(vmm_memory_move(m, a, 0, NULL), -ENOENT);
    assert_int_equal(vmm_memory_set_enabled(m, b, false, NULL), -ENOENT); /* the first reason */
    assert_int_equal(vmm_memory_commit(m, &err), -ENOENT);
    assert_non_null(strstr(err.text, "\"a\""));
    uint64_t address;
    assert_int_equal(vmm_memory_region_address(m, a, &address), 0);
    assert_int_equal(vmm_memory_region_address(m, b, &address), -ENOENT);

    /* Overlaps count only at the end: an exchange of places works. */
    assert_int_equal(vmm_memory_add(m, b, 2 * PAGE, 0, NULL), 0);
    assert_int_equal(vmm_memory_store_u32(m, 0, 0xa), 0);
    assert_int_equal(vmm_memory_store_u32(m, 2 * PAGE, 0xb), 0);
    vmm_memory_begin(m);
    vmm_memory_begin(m);
    assert_int_equal(vmm_memory_move(m, a, 2 * PAGE, NULL), 0);
    assert_int_equal(vmm_memory_commit(m, NULL), 0);
    assert_int_equal(vmm_memory_move(m, b, 0, NULL), 0);
    assert_int_equal(vmm_memory_commit(m, NULL), 0);
    uint32_t value;
    assert_int_equal(vmm_memory_load_u32(m, 0, &value), 0);
    assert_int_equal(value, 0xb);
    vmm_memory_region_unref(a);
    vmm_memory_region_unref(b);
    vmm_memory_unref(m);
}

struct rom_log {
    uint64_t offset, value;
    uint32_t width, count, released;
    struct vmm_memory *memory; /* to change inside the callback */
    struct vmm_memory_region *region;
};

static void rom_written(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct rom_log *log = ctx;
    log->offset = offset;
    log->width = width;
    log->value = value;
    log->count++;
    if (log->memory)
        assert_int_equal(vmm_memory_remove(log->memory, log->region, NULL), 0);
}

static void rom_released(void *ctx)
{
    ((struct rom_log *)ctx)->released++;
}

static void writes_to_rom_reach_its_callback(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct rom_log log = {0};
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *rom, *shadow, *plain = new_region(VMM_MEMORY_ROM, "plain", 1);
    o.type = VMM_MEMORY_ROM;
    o.length = 2 * PAGE;
    o.rom_write = rom_written;
    o.release = rom_released;
    o.ctx = &log;
    assert_int_equal(vmm_memory_region_new(&o, &rom, NULL), 0);
    assert_int_equal(vmm_memory_add(m, rom, 0x10000, 0, NULL), 0);
    assert_int_equal(vmm_memory_add(m, plain, 0x20000, 0, NULL), 0);

    uint32_t value = 0x11223344;
    assert_int_equal(vmm_memory_write(m, 0x10000, &value, 4), -EFAULT);
    assert_int_equal(vmm_memory_fill(m, 0x10000, 0, 4), -EFAULT);
    assert_int_equal(vmm_memory_fetch_or_u32(m, 0x10000, 1, NULL), -EFAULT);
    assert_int_equal(vmm_memory_write_rom(m, 0x10000, &value, 4), 0);
    assert_int_equal(vmm_memory_load_u32(m, 0x10000, &value), 0);
    assert_int_equal(value, 0x11223344);

    assert_int_equal(vmm_memory_handle_write(m, 0x10ffe, 2, 0xabcd1234), 0);
    assert_int_equal(log.offset, 0xffe);
    assert_int_equal(log.width, 2);
    assert_int_equal(log.value, 0x1234);
    assert_int_equal(vmm_memory_handle_write(m, 0x20000, 4, 1), -ENOENT);
    assert_int_equal(vmm_memory_handle_write(m, 0x30000, 4, 1), -ENOENT);
    assert_int_equal(vmm_memory_handle_write(m, 0x10000, 0, 1), -ENOENT);
    assert_int_equal(vmm_memory_handle_write(m, 0x10000, 9, 1), -ENOENT);
    assert_int_equal(vmm_memory_handle_write(m, UINT64_MAX, 2, 1), -ENOENT);
    assert_int_equal(vmm_memory_handle_write(m, 0x11ffe, 4, 1), -ENOENT); /* beyond its end */
    assert_int_equal(log.count, 1);
    uint64_t wide = 0;
    assert_int_equal(vmm_memory_handle_read(m, 0x10000, 4, &wide), 0);
    assert_int_equal(wide, 0x11223344);
    assert_int_equal(vmm_memory_handle_read(m, 0x11ffe, 4, &wide), -ENOENT);

    /* An alias of ROM is ROM; its writes go to the target's callback with the target's offset. */
    o = (struct vmm_memory_region_options)VMM_MEMORY_REGION_OPTIONS_INIT;
    o.type = VMM_MEMORY_ALIAS;
    o.length = PAGE;
    o.target = rom;
    o.target_offset = PAGE;
    assert_int_equal(vmm_memory_region_new(&o, &shadow, NULL), 0);
    assert_int_equal(vmm_memory_add(m, shadow, 0x40000, 0, NULL), 0);
    assert_int_equal(vmm_memory_handle_write(m, 0x40010, 8, UINT64_MAX), 0);
    assert_int_equal(log.offset, PAGE + 0x10);
    assert_true(log.value == UINT64_MAX);

    /* The callback may take its own region away. */
    log.memory = m;
    log.region = rom;
    assert_int_equal(vmm_memory_remove(m, shadow, NULL), 0);
    vmm_memory_region_unref(shadow);
    assert_int_equal(vmm_memory_handle_write(m, 0x10000, 1, 1), 0);
    assert_false(vmm_memory_valid(m, 0x10000, 1, false));
    vmm_memory_region_unref(rom);
    vmm_memory_region_unref(plain);
    vmm_memory_unref(m);
    assert_int_equal(log.released, 1);
}

static int count_piece(void *ctx, const struct vmm_memory_info *info)
{
    uint64_t *last = ctx;
    assert_true(info->address >= last[0]);
    last[0] = info->address + info->length;
    last[1]++;
    return last[1] == last[2] ? 7 : 0;
}

static void foreach_gives_pieces_in_order_and_stops(void **state)
{
    (void)state;
    struct vmm_memory *m = new_memory();
    struct vmm_memory_region *ram = new_region(VMM_MEMORY_RAM, "ram", 16);
    struct vmm_memory_region *hole = new_region(VMM_MEMORY_HOLE, "hole", 2);
    assert_int_equal(vmm_memory_add(m, ram, 0, 0, NULL), 0);
    assert_int_equal(vmm_memory_add(m, hole, 4 * PAGE, 1, NULL), 0);
    uint64_t seen[3] = {0, 0, 0};
    assert_int_equal(vmm_memory_foreach(m, count_piece, seen), 0);
    assert_int_equal(seen[1], 2);
    uint64_t stop[3] = {0, 0, 1};
    assert_int_equal(vmm_memory_foreach(m, count_piece, stop), 7);
    assert_false(vmm_memory_valid(m, 4 * PAGE, 1, false));
    assert_true(vmm_memory_valid(m, 6 * PAGE, PAGE, true));
    assert_false(vmm_memory_valid(m, 0, 16 * PAGE, false));
    assert_int_equal(vmm_memory_set_enabled(m, hole, false, NULL), 0);
    assert_true(vmm_memory_valid(m, 0, 16 * PAGE, true));
    vmm_memory_region_unref(ram);
    vmm_memory_region_unref(hole);
    vmm_memory_unref(m);
}

/* Random changes against the model ------------------------------------------------------------- */

#define SPACE   64u /* pages */
#define REGIONS 14u

struct model_region {
    struct vmm_memory_region *region;
    uint32_t type, pages, target, id;
    bool placed, enabled, read_only;
    uint32_t address, base;
    int32_t priority;
};

struct model {
    struct vmm_memory *memory;
    struct model_region regions[REGIONS];
    uint64_t random;
};

static uint32_t pick(struct model *model, uint32_t limit)
{
    model->random ^= model->random << 13;
    model->random ^= model->random >> 7;
    model->random ^= model->random << 17;
    return (uint32_t)((model->random >> 11) % limit);
}

static bool model_conflict(const struct model *model)
{
    for (uint32_t i = 0; i < REGIONS; i++)
        for (uint32_t j = i + 1; j < REGIONS; j++) {
            const struct model_region *a = &model->regions[i], *b = &model->regions[j];
            if (a->placed && b->placed && a->enabled && b->enabled && a->priority == b->priority &&
                a->address < b->address + b->pages && b->address < a->address + a->pages)
                return true;
        }
    return false;
}

/* What the guest should find in a page: the tag of a backing page, 0 for nothing. */
static uint64_t model_page(const struct model *model, uint32_t page, bool *writable)
{
    const struct model_region *top = NULL;
    for (uint32_t i = 0; i < REGIONS; i++) {
        const struct model_region *r = &model->regions[i];
        if (r->placed && r->enabled && page >= r->address && page < r->address + r->pages &&
            (!top || r->priority > top->priority))
            top = r;
    }
    *writable = false;
    if (!top || top->type == VMM_MEMORY_HOLE)
        return 0;
    uint32_t offset = page - top->address;
    bool rom = top->read_only || top->type == VMM_MEMORY_ROM;
    if (top->type == VMM_MEMORY_ALIAS) {
        offset += top->base;
        top = &model->regions[top->target];
        rom = rom || top->type == VMM_MEMORY_ROM;
    }
    *writable = !rom;
    return (uint64_t)(top->id + 1) << 32 | offset;
}

static void check_against_model(const struct model *model)
{
    struct vmm_memory_view view;
    vmm_memory_view_init(&view, model->memory);
    for (uint32_t page = 0; page < SPACE; page++) {
        bool writable;
        uint64_t tag = model_page(model, page, &writable), found = 0, seen = 0;
        uint64_t address = (uint64_t)page * PAGE;
        int expected = tag ? 0 : -EFAULT;
        assert_int_equal(vmm_memory_load_u64(model->memory, address + 8, &found), expected);
        assert_int_equal(vmm_memory_view_load_u64(&view, address + 8, &seen), expected);
        assert_true(found == tag && seen == tag);
        assert_int_equal(vmm_memory_valid(model->memory, address, PAGE, true), writable);
        assert_int_equal(vmm_memory_view_store_u32(&view, address, page), writable ? 0 : -EFAULT);
    }
    vmm_memory_view_fini(&view);
}

static int random_change(struct model *model, struct model_region *r)
{
    struct vmm_memory *m = model->memory;
    if (!r->placed) {
        r->placed = r->enabled = true;
        r->read_only = false;
        r->address = pick(model, SPACE - r->pages);
        r->priority = (int32_t)pick(model, 5) - 2;
        r->base = 0;
        return vmm_memory_add(m, r->region, (uint64_t)r->address * PAGE, r->priority, NULL);
    }
    switch (pick(model, r->type == VMM_MEMORY_ALIAS ? 6 : 5)) {
    case 0:
        r->placed = false;
        return vmm_memory_remove(m, r->region, NULL);
    case 1:
        r->address = pick(model, SPACE - r->pages);
        return vmm_memory_move(m, r->region, (uint64_t)r->address * PAGE, NULL);
    case 2:
        r->enabled = !r->enabled;
        return vmm_memory_set_enabled(m, r->region, r->enabled, NULL);
    case 3:
        r->priority = (int32_t)pick(model, 5) - 2;
        return vmm_memory_set_priority(m, r->region, r->priority, NULL);
    case 4:
        r->read_only = !r->read_only;
        return vmm_memory_set_read_only(m, r->region, r->read_only, NULL);
    default:
        r->base = pick(model, model->regions[r->target].pages - r->pages + 1);
        return vmm_memory_set_target_offset(m, r->region, (uint64_t)r->base * PAGE, NULL);
    }
}

static void make_model(struct model *model)
{
    static const uint32_t types[REGIONS] = {
        VMM_MEMORY_RAM,   VMM_MEMORY_RAM,    VMM_MEMORY_RAM,    VMM_MEMORY_ROM,  VMM_MEMORY_ROM,
        VMM_MEMORY_RAM,   VMM_MEMORY_DEVICE, VMM_MEMORY_DEVICE, VMM_MEMORY_HOLE, VMM_MEMORY_HOLE,
        VMM_MEMORY_ALIAS, VMM_MEMORY_ALIAS,  VMM_MEMORY_ALIAS,  VMM_MEMORY_ALIAS};
    for (uint32_t i = 0; i < REGIONS; i++) {
        struct model_region *r = &model->regions[i];
        struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
        *r = (struct model_region){.type = types[i], .id = i};
        r->pages = 1 + pick(model, 20);
        if (r->type == VMM_MEMORY_ALIAS) {
            r->target = pick(model, 8);
            r->pages = 1 + pick(model, model->regions[r->target].pages);
            o.target = model->regions[r->target].region;
        }
        o.type = r->type;
        o.length = (uint64_t)r->pages * PAGE;
        assert_int_equal(vmm_memory_region_new(&o, &r->region, NULL), 0);
        if (i >= 8)
            continue;
        /* Tag each page by way of a map of its own. */
        struct vmm_memory *m = new_memory();
        assert_int_equal(vmm_memory_add(m, r->region, 0, 0, NULL), 0);
        for (uint64_t page = 0; page < r->pages; page++) {
            uint64_t tag = (uint64_t)(i + 1) << 32 | page;
            assert_int_equal(vmm_memory_write_rom(m, page * PAGE + 8, &tag, 8), 0);
        }
        vmm_memory_unref(m);
    }
}

static void random_changes_agree_with_a_model(void **state)
{
    (void)state;
    struct model *model = calloc(1, sizeof(*model)), *before = calloc(1, sizeof(*before));
    assert_true(model && before);
    uint32_t failures = 0, successes = 0;
    for (uint64_t round = 1; round <= 8; round++) {
        model->memory = new_memory();
        model->random = round * 0x9e3779b97f4a7c15u;
        make_model(model);
        for (int step = 0; step < 400; step++) {
            uint32_t changes = pick(model, 4) == 0 ? 2 + pick(model, 4) : 1;
            memcpy(before->regions, model->regions, sizeof(model->regions));
            int rc = 0;
            if (changes > 1)
                vmm_memory_begin(model->memory);
            for (uint32_t i = 0; i < changes; i++)
                rc = random_change(model, &model->regions[pick(model, REGIONS)]);
            if (changes > 1)
                rc = vmm_memory_commit(model->memory, NULL);
            bool conflict = model_conflict(model);
            assert_int_equal(rc, conflict ? -EEXIST : 0);
            if (conflict)
                memcpy(model->regions, before->regions, sizeof(model->regions));
            *(conflict ? &failures : &successes) += 1;
            check_against_model(model);
        }
        for (uint32_t i = 0; i < REGIONS; i++)
            vmm_memory_region_unref(model->regions[i].region);
        vmm_memory_unref(model->memory);
    }
    assert_true(failures > 100 && successes > 1000);
    free(model);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_regions_are_refused_with_a_reason),
        cmocka_unit_test(bad_places_are_refused_and_named),
        cmocka_unit_test(a_failed_transaction_changes_nothing),
        cmocka_unit_test(writes_to_rom_reach_its_callback),
        cmocka_unit_test(foreach_gives_pieces_in_order_and_stops),
        cmocka_unit_test(random_changes_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
