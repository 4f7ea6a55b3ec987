/* SPDX-License-Identifier: BSD-3-Clause */
/* Regions: what can be put into the map. */
#include "base/util.h"
#include "memory/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static const char *type_name(uint32_t type)
{
    static const char *const names[] = {"?", "ram", "rom", "device", "alias", "hole"};
    return names[type < VMM_ARRAY_SIZE(names) ? type : 0];
}

static int check_part(const char *name, const char *of, uint64_t length, uint64_t offset,
                      uint64_t room, struct vmm_error *err)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (offset % page == 0 && offset <= room && length <= room - offset)
        return 0;
    return vmm_error_set(err, -EINVAL,
                         "region \"%s\": 0x%" PRIx64 " bytes at offset 0x%" PRIx64
                         " are not a page-aligned part of its %s of 0x%" PRIx64 " bytes",
                         name, length, offset, of, room);
}

static int check(const struct vmm_memory_region_options *o, struct vmm_error *err)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const char *name = o->name ? o->name : type_name(o->type);
    bool alias = o->type == VMM_MEMORY_ALIAS, hole = o->type == VMM_MEMORY_HOLE;
    if (o->type < VMM_MEMORY_RAM || o->type > VMM_MEMORY_HOLE)
        return vmm_error_set(err, -EINVAL, "region \"%s\": type %u is none of VMM_MEMORY_…", name,
                             o->type);
    if (o->length == 0 || o->length % page != 0)
        return vmm_error_set(err, -EINVAL,
                             "region \"%s\": length 0x%" PRIx64
                             " is not a multiple of the page size %" PRIu64,
                             name, o->length, page);
    if ((o->target != NULL) != alias || (o->target_offset && !alias) ||
        (o->backing && (alias || hole)) || (o->backing_offset && !o->backing))
        return vmm_error_set(err, -EINVAL,
                             "region \"%s\": an alias has a target, a hole has nothing, the others "
                             "a backing or none",
                             name);
    if (o->rom_write && hole)
        return vmm_error_set(
            err, -EINVAL, "region \"%s\": writes to a hole go to the bus, not to a callback", name);
    if (alias && o->target->type == VMM_MEMORY_HOLE)
        return vmm_error_set(err, -EINVAL, "region \"%s\": a hole cannot be aliased", name);
    if (alias)
        return check_part(name, "target", o->length, o->target_offset, o->target->length, err);
    if (o->backing)
        return check_part(name, "backing", o->length, o->backing_offset, o->backing->length, err);
    return 0;
}

static int take_backing(struct vmm_memory_region *region, struct vmm_error *err)
{
    const struct vmm_memory_region_options *o = &region->options;
    if (o->type == VMM_MEMORY_HOLE)
        return 0;
    if (o->type == VMM_MEMORY_ALIAS) {
        region->backing = vmm_backing_ref(region->target->backing);
        region->backing_offset = region->target->backing_offset + o->target_offset;
        return 0;
    }
    region->backing_offset = o->backing_offset;
    if (o->backing) {
        region->backing = vmm_backing_ref(o->backing);
        if ((o->backing->options.flags & VMM_BACKING_READ_ONLY) && !region->read_only)
            return vmm_error_set(err, -EINVAL, "region \"%s\": a read-only backing is for ROM only",
                                 region->name);
        return 0;
    }
    struct vmm_backing_options anonymous = VMM_BACKING_OPTIONS_INIT;
    anonymous.length = o->length;
    return vmm_backing_new(&anonymous, &region->backing, err);
}

/* An alias of an alias becomes one of what that one stands for. */
static void take_target(struct vmm_memory_region *region)
{
    struct vmm_memory_region *target = region->options.target;
    region->options.target = NULL;
    if (!target)
        return;
    region->read_only = region->read_only || target->read_only;
    region->target_offset = region->options.target_offset;
    if (target->target) {
        region->target_offset += target->target_offset;
        target = target->target;
    }
    region->target = vmm_memory_region_ref(target);
}

int vmm_memory_region_new(const struct vmm_memory_region_options *options,
                          struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region_options o;
    if (!options || !out)
        return vmm_error_set(err, -EINVAL, "region: no options, or nowhere to put it");
    int rc = vmm_options_copy(&o, sizeof(o), options);
    if (rc)
        return vmm_error_set(err, rc, "region: options of another version");
    rc = check(&o, err);
    if (rc)
        return rc;
    struct vmm_memory_region *region = calloc(1, sizeof(*region));
    char *name = strdup(o.name ? o.name : type_name(o.type));
    if (!region || !name) {
        free(region);
        free(name);
        return vmm_error_set(err, -ENOMEM, "region: out of memory");
    }
    atomic_init(&region->refs, 1);
    region->name = name;
    region->type = o.type;
    region->length = o.length;
    region->options = o;
    region->options.release = NULL; /* not before it is complete */
    region->read_only = o.type == VMM_MEMORY_ROM || (o.type == VMM_MEMORY_ALIAS && o.read_only);
    take_target(region);
    rc = take_backing(region, err);
    if (rc) {
        vmm_memory_region_unref(region);
        return rc;
    }
    region->options.release = o.release;
    *out = region;
    return 0;
}

struct vmm_memory_region *vmm_memory_region_ref(struct vmm_memory_region *region)
{
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
    return region;
}

struct vmm_memory_region *vmm_memory_region_unref(struct vmm_memory_region *region)
{
    if (!region || atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    vmm_backing_unref(region->backing);
    vmm_memory_region_unref(region->target);
    if (region->options.release)
        region->options.release(region->options.ctx);
    free(region->name);
    free(region);
    return NULL;
}

const char *vmm_memory_region_name(const struct vmm_memory_region *region)
{
    return region->name;
}

uint32_t vmm_memory_region_type(const struct vmm_memory_region *region)
{
    return region->type;
}

uint64_t vmm_memory_region_length(const struct vmm_memory_region *region)
{
    return region->length;
}

struct vmm_backing *vmm_memory_region_backing(const struct vmm_memory_region *region)
{
    return region->backing;
}
