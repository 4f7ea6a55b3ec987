/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port and the MMIO space. The set of regions is a sorted array under the writers' lock; what
 * readers see is a tree built from it (radix.h), published whole at each change.
 */
#include "base/util.h"
#include "devices/bus/hint.h"
#include "devices/bus/radix.h"
#include "devices/bus/region.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct vmm_bus {
    _Atomic uint32_t refs;
    uint32_t bits;
    char name[16];
    struct vmm_snapshot_cell map; /* struct radix */
    pthread_mutex_t lock;         /* guards the array */
    struct vmm_region **regions;  /* enabled ones, by address */
    size_t count, room;
    uint64_t serial;         /* of the tree that was published last */
    struct vmm_region *dead; /* removed when there was no memory to publish that */
    vmm_unclaimed_fn unclaimed;
    void *unclaimed_ctx;
    _Atomic uint64_t unclaimed_count;
};

int vmm_bus_new(const char *name, uint32_t bits, struct vmm_bus **out)
{
    if (!name || bits < 1 || bits > 64)
        return -EINVAL;
    struct vmm_bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return -ENOMEM;
    struct radix *empty = radix_build(NULL, 0);
    if (!empty) {
        free(bus);
        return -ENOMEM;
    }
    atomic_init(&bus->refs, 1);
    bus->serial = empty->serial = 1;
    bus->bits = bits;
    (void)snprintf(bus->name, sizeof(bus->name), "%s", name);
    vmm_snapshot_cell_init(&bus->map, &empty->head);
    pthread_mutex_init(&bus->lock, NULL);
    *out = bus;
    return 0;
}

struct vmm_bus *vmm_bus_ref(struct vmm_bus *bus)
{
    atomic_fetch_add(&bus->refs, 1);
    return bus;
}

static void region_free(struct vmm_region *region)
{
    vmm_device_unref(region->device);
    free(region);
}

struct vmm_bus *vmm_bus_unref(struct vmm_bus *bus)
{
    if (!bus || atomic_fetch_sub(&bus->refs, 1) != 1)
        return NULL;
    vmm_snapshot_cell_fini(&bus->map);
    for (size_t i = 0; i < bus->count; i++)
        region_free(bus->regions[i]);
    while (bus->dead) {
        struct vmm_region *region = bus->dead;
        bus->dead = region->next_dead;
        region_free(region);
    }
    free(bus->regions);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
    return NULL;
}

/* Changing the set of regions ---------------------------------------------------------------- */

static int check_range(const struct vmm_bus *bus, const char *name, uint64_t address,
                       uint64_t length, struct vmm_error *err)
{
    uint64_t last = address + (length - 1);
    if (length == 0)
        return vmm_error_set(err, -EINVAL, "%s space: region \"%s\" is empty", bus->name, name);
    if (!vmm_range_ok(address, length) || (bus->bits < 64 && last >> bus->bits))
        return vmm_error_set(err, -EINVAL,
                             "%s space: region \"%s\" (0x%" PRIx64 ", length 0x%" PRIx64
                             ") reaches beyond the space's %u bits",
                             bus->name, name, address, length, bus->bits);
    return 0;
}

/* Where a region at `address` would stand in the array. */
static size_t position_of(const struct vmm_bus *bus, uint64_t address)
{
    size_t low = 0, high = bus->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bus->regions[middle]->address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct vmm_region *overlapping(const struct vmm_bus *bus, uint64_t address,
                                            uint64_t length, const struct vmm_region *self)
{
    size_t at = position_of(bus, address);
    /* Neighbours on either side; one further where a neighbour is the region itself. */
    for (size_t i = at > 2 ? at - 2 : 0; i < bus->count && i < at + 2; i++) {
        const struct vmm_region *other = bus->regions[i];
        if (other != self && vmm_ranges_overlap(address, length, other->address, other->length))
            return other;
    }
    return NULL;
}

static int check_free(const struct vmm_bus *bus, const struct vmm_region *region, uint64_t address,
                      struct vmm_error *err)
{
    int rc = check_range(bus, region->name, address, region->length, err);
    if (rc)
        return rc;
    const struct vmm_region *other = overlapping(bus, address, region->length, region);
    if (!other)
        return 0;
    return vmm_error_set(err, -EEXIST,
                         "%s space: region \"%s\" (0x%" PRIx64 " to 0x%" PRIx64
                         ") overlaps \"%s\" (0x%" PRIx64 " to 0x%" PRIx64 ")",
                         bus->name, region->name, address, address + (region->length - 1),
                         other->name, other->address, other->address + (other->length - 1));
}

static int publish(struct vmm_bus *bus)
{
    struct radix *radix = radix_build(bus->regions, bus->count);
    if (!radix)
        return -ENOMEM;
    radix->serial = ++bus->serial;
    vmm_snapshot_publish(&bus->map, &radix->head);
    return 0;
}

static void array_insert(struct vmm_bus *bus, struct vmm_region *region)
{
    size_t at = position_of(bus, region->address);
    memmove(&bus->regions[at + 1], &bus->regions[at], (bus->count - at) * sizeof(*bus->regions));
    bus->regions[at] = region;
    bus->count++;
}

static void array_remove(struct vmm_bus *bus, struct vmm_region *region)
{
    size_t at = position_of(bus, region->address);
    bus->count--;
    memmove(&bus->regions[at], &bus->regions[at + 1], (bus->count - at) * sizeof(*bus->regions));
}

static int array_reserve(struct vmm_bus *bus, size_t room)
{
    if (room <= bus->room)
        return 0;
    struct vmm_region **regions = realloc(bus->regions, 2 * room * sizeof(*regions));
    if (!regions)
        return -ENOMEM;
    bus->regions = regions;
    bus->room = 2 * room;
    return 0;
}

/* The region is not in the array. Readers with an older tree look at both fields again. */
static void set_place(struct vmm_bus *bus, struct vmm_region *region, uint64_t address,
                      bool enabled)
{
    atomic_store_explicit(&region->address, address, memory_order_release);
    atomic_store_explicit(&region->enabled, enabled, memory_order_release);
    if (enabled)
        array_insert(bus, region);
}

/* Take the region off its place and, if `enabled`, put it at `address`. All or nothing. */
static int place(struct vmm_bus *bus, struct vmm_region *region, uint64_t address, bool enabled,
                 struct vmm_error *err)
{
    if (enabled == region->enabled && (!enabled || address == region->address))
        return 0;
    int rc = enabled ? check_free(bus, region, address, err) : 0;
    if (!rc && array_reserve(bus, bus->count + 1))
        rc = vmm_error_set(err, -ENOMEM, "%s space: out of memory", bus->name);
    if (rc)
        return rc;
    bool was_enabled = region->enabled;
    uint64_t old_address = region->address;
    if (was_enabled)
        array_remove(bus, region);
    set_place(bus, region, enabled ? address : old_address, enabled);
    rc = publish(bus);
    if (!rc)
        return 0;
    if (enabled)
        array_remove(bus, region);
    set_place(bus, region, old_address, was_enabled);
    return vmm_error_set(err, rc, "%s space: out of memory", bus->name);
}

static int copy_ops(struct vmm_region_ops *to, const struct vmm_region_ops *from,
                    struct vmm_error *err)
{
    int rc = vmm_options_copy(to, sizeof(*to), from);
    if (rc)
        return vmm_error_set(err, rc, "region operations: a structure of another version");
    to->min_width = to->min_width ? to->min_width : 1;
    to->max_width = to->max_width ? to->max_width : 8;
    if (!to->read || !to->write || !vmm_is_power_of_two(to->min_width) ||
        !vmm_is_power_of_two(to->max_width) || to->max_width > 8 || to->min_width > to->max_width)
        return vmm_error_set(err, -EINVAL,
                             "region operations: read and write are needed, and widths of 1, 2, 4 "
                             "or 8 with min_width <= max_width");
    return 0;
}

int vmm_bus_add(struct vmm_bus *bus, const struct vmm_region_options *given,
                struct vmm_region **out, struct vmm_error *err)
{
    struct vmm_region_options options;
    int rc = vmm_options_copy(&options, sizeof(options), given);
    if (rc)
        return vmm_error_set(err, rc, "region options: a structure of another version");
    if (!options.name || !options.ops)
        return vmm_error_set(err, -EINVAL, "region options: name and ops are needed");
    struct vmm_region *region = calloc(1, sizeof(*region));
    if (!region)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = copy_ops(&region->ops, options.ops, err);
    if (rc) {
        free(region);
        return rc;
    }
    region->direct = region_direct_widths(&region->ops);
    (void)snprintf(region->name, sizeof(region->name), "%s", options.name);
    region->length = options.length;
    region->ctx = options.ctx;
    region->device = options.device ? vmm_device_ref(options.device) : NULL;
    pthread_mutex_lock(&bus->lock);
    rc = place(bus, region, options.address, true, err);
    pthread_mutex_unlock(&bus->lock);
    if (rc) {
        region_free(region);
        return rc;
    }
    if (out)
        *out = region;
    return 0;
}

int vmm_bus_place(struct vmm_bus *bus, struct vmm_region *region, uint64_t address, bool enabled,
                  struct vmm_error *err)
{
    pthread_mutex_lock(&bus->lock);
    int rc = place(bus, region, address, enabled, err);
    pthread_mutex_unlock(&bus->lock);
    return rc;
}

void vmm_bus_remove(struct vmm_bus *bus, struct vmm_region *region)
{
    if (!region)
        return;
    int rc = 0;
    pthread_mutex_lock(&bus->lock);
    if (region->enabled) {
        array_remove(bus, region);
        atomic_store_explicit(&region->enabled, false, memory_order_release);
        rc = publish(bus);
    }
    if (rc) {
        /* No memory for a tree without it: the tree that is there goes on pointing at a region
         * that claims nothing, and which therefore stays until the bus goes. */
        region->next_dead = bus->dead;
        bus->dead = region;
    }
    pthread_mutex_unlock(&bus->lock);
    vmm_snapshot_synchronize(&bus->map);
    if (!rc)
        region_free(region);
}

/* Accesses ------------------------------------------------------------------------------------ */

static uint64_t unclaimed(struct vmm_bus *bus, uint64_t address, uint32_t width, bool write,
                          uint64_t value)
{
    atomic_fetch_add_explicit(&bus->unclaimed_count, 1, memory_order_relaxed);
    if (bus->unclaimed)
        bus->unclaimed(bus->unclaimed_ctx, address, width, write, &value);
    return value;
}

/* Where an access lies in a region, if the region holds all of it. It is asked for its range again: it may
 * have moved or gone since the tree was published. */
static inline bool holds(const struct vmm_region *region, uint64_t address, uint32_t width,
                         uint64_t *offset)
{
    if (!atomic_load_explicit(&region->enabled, memory_order_acquire))
        return false;
    *offset = address - atomic_load_explicit(&region->address, memory_order_acquire);
    return *offset < region->length && region->length - *offset >= width;
}

/* The region that holds all of an access. */
static inline struct vmm_region *whole(const struct radix *radix, struct bus_hint *hint,
                                       uint64_t address, uint32_t width, uint64_t *offset)
{
    if (hint && hint->serial == radix->serial && holds(hint->region, address, width, offset))
        return hint->region;
    struct vmm_region *region = radix_find(radix, address);
    if (!region || !holds(region, address, width, offset))
        return NULL;
    if (hint)
        *hint = (struct bus_hint){radix->serial, region};
    return region;
}

/* Does a region begin or end inside the access? Then it is done byte by byte. */
static bool is_split(const struct radix *radix, uint64_t address, uint32_t width)
{
    const struct vmm_region *first = radix_find(radix, address);
    for (uint32_t i = 1; i < width; i++)
        if (radix_find(radix, address + i) != first)
            return true;
    return false;
}

static bool access_byte(const struct radix *radix, uint64_t address, uint64_t *byte, bool write)
{
    uint64_t offset;
    struct vmm_region *region = whole(radix, NULL, address, 1, &offset);
    if (region && write)
        region_write(region, offset, 1, *byte);
    else if (region)
        *byte = region_read(region, offset, 1);
    return region != NULL;
}

static int access_bytes(struct vmm_bus *bus, const struct radix *radix, uint64_t address,
                        uint32_t width, uint64_t *value, bool write)
{
    int rc = -ENOENT;
    uint64_t result = 0;
    for (uint32_t i = 0; i < width; i++) {
        uint64_t byte = write ? (*value >> (i * 8)) & 0xff : 0xff;
        if (access_byte(radix, address + i, &byte, write))
            rc = 0;
        else
            byte = unclaimed(bus, address + i, 1, write, byte);
        result |= (byte & 0xff) << (i * 8);
    }
    *value = result;
    return rc;
}

/* No region holds all of it. */
static VMM_COLD int access_in_parts(struct vmm_bus *bus, const struct radix *radix,
                                    uint64_t address, uint32_t width, uint64_t *value, bool write)
{
    if (is_split(radix, address, width))
        return access_bytes(bus, radix, address, width, value, write);
    uint64_t ones = region_mask(width);
    *value = unclaimed(bus, address, width, write, write ? *value : ones) & ones;
    return -ENOENT;
}

static inline int bus_read(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                           uint32_t width, uint64_t *value)
{
    struct vmm_snapshot_guard guard;
    uint64_t offset;
    int rc = 0;
    const struct radix *radix = (const struct radix *)vmm_snapshot_enter(&bus->map, &guard);
    struct vmm_region *region = whole(radix, hint, address, width, &offset);
    if (region)
        *value = region_read(region, offset, width);
    else
        rc = access_in_parts(bus, radix, address, width, value, false);
    vmm_snapshot_exit(&guard);
    return rc;
}

static inline int bus_write(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                            uint32_t width, uint64_t value)
{
    struct vmm_snapshot_guard guard;
    uint64_t offset;
    int rc = 0;
    const struct radix *radix = (const struct radix *)vmm_snapshot_enter(&bus->map, &guard);
    struct vmm_region *region = whole(radix, hint, address, width, &offset);
    if (region)
        region_write(region, offset, width, value);
    else
        rc = access_in_parts(bus, radix, address, width, &value, true);
    vmm_snapshot_exit(&guard);
    return rc;
}

int vmm_bus_read(struct vmm_bus *bus, uint64_t address, uint32_t width, uint64_t *value)
{
    return width - 1 > 7 ? -EINVAL : bus_read(bus, NULL, address, width, value);
}

int vmm_bus_write(struct vmm_bus *bus, uint64_t address, uint32_t width, uint64_t value)
{
    return width - 1 > 7 ? -EINVAL
                         : bus_write(bus, NULL, address, width, value & region_mask(width));
}

uint64_t vmm_bus_read_hinted(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                             uint32_t width)
{
    uint64_t value;
    (void)bus_read(bus, hint, address, width, &value);
    return value;
}

int vmm_bus_write_hinted(struct vmm_bus *bus, struct bus_hint *hint, uint64_t address,
                         uint32_t width, uint64_t value)
{
    (void)bus_write(bus, hint, address, width, value);
    return 0;
}

void vmm_bus_set_unclaimed(struct vmm_bus *bus, vmm_unclaimed_fn fn, void *ctx)
{
    bus->unclaimed = fn;
    bus->unclaimed_ctx = ctx;
}

uint64_t vmm_bus_unclaimed_count(const struct vmm_bus *bus)
{
    return atomic_load_explicit(&bus->unclaimed_count, memory_order_relaxed);
}

void vmm_bus_foreach(struct vmm_bus *bus, void (*fn)(void *ctx, const struct vmm_region_info *info),
                     void *ctx)
{
    pthread_mutex_lock(&bus->lock);
    for (size_t i = 0; i < bus->count; i++) {
        struct vmm_region *region = bus->regions[i];
        struct vmm_region_info info = {
            .size = sizeof(info),
            .name = region->name,
            .address = region->address,
            .length = region->length,
            .reads = atomic_load_explicit(&region->reads, memory_order_relaxed),
            .writes = atomic_load_explicit(&region->writes, memory_order_relaxed),
        };
        fn(ctx, &info);
    }
    pthread_mutex_unlock(&bus->lock);
}
