/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest-virtual memory by way of the translation cache: bytes, integers, strings, lists. */
#include "base/util.h"
#include "memory/translator.h"

/* The part of a range that lies in the first of its pages. */
static size_t in_page(uint64_t address, size_t length)
{
    size_t room = VMM_PAGE_SIZE - (size_t)(address & (VMM_PAGE_SIZE - 1));
    return length < room ? length : room;
}

/* Translated, but not memory: MMIO or a hole. */
static int not_memory(struct vmm_translator *t, const struct vmm_cached *e)
{
    t->fault = (struct vmm_translation){.size = sizeof(t->fault),
                                        .physical = e->physical,
                                        .entry_address = UINT64_MAX,
                                        .permissions = e->permissions};
    return -EFAULT;
}

static bool bad_range(const struct vmm_translator *t, uint64_t address, const void *data,
                      size_t length, uint32_t access)
{
    return !t || (!data && length != 0) || !vmm_range_ok(address, length) ||
           !vmm_page_access_ok(access) || (access & (VMM_ACCESS_MARK));
}

int vmm_translator_read(struct vmm_translator *translator, uint64_t address, void *data,
                        size_t length, uint32_t access)
{
    uint8_t *to = data;
    if (bad_range(translator, address, data, length, access))
        return -EINVAL;
    while (length != 0) {
        struct vmm_cached *e;
        size_t part = in_page(address, length);
        int r = vmm_translator_find(translator, address, access, &e);
        if (r < 0)
            return r;
        if (!e->host)
            return not_memory(translator, e);
        memcpy(to, e->host + (address & (VMM_PAGE_SIZE - 1)), part);
        to += part;
        address += part;
        length -= part;
    }
    return 0;
}

/* One pass over the pages of a write: to check, or to write. */
static int write_pass(struct vmm_translator *t, uint64_t address, const uint8_t *from,
                      size_t length, uint32_t access, bool really)
{
    while (length != 0) {
        struct vmm_cached *e;
        size_t part = in_page(address, length);
        int r = vmm_translator_find(t, address, access, &e);
        if (r < 0)
            return r;
        uint64_t physical = e->physical | (address & (VMM_PAGE_SIZE - 1));
        if (really ? vmm_memory_write(t->memory, physical, from, part) < 0
                   : !vmm_memory_valid(t->memory, physical, part, true))
            return not_memory(t, e);
        from += part;
        address += part;
        length -= part;
    }
    return 0;
}

int vmm_translator_write(struct vmm_translator *translator, uint64_t address, const void *data,
                         size_t length, uint32_t access)
{
    if (bad_range(translator, address, data, length, access) || (access & VMM_ACCESS_EXECUTE))
        return -EINVAL;
    if (access != VMM_ACCESS_ANY)
        access |= VMM_ACCESS_WRITE;
    int r = write_pass(translator, address, data, length, access, false);
    return r < 0 ? r : write_pass(translator, address, data, length, access, true);
}

int vmm_translator_read_u32(struct vmm_translator *translator, uint64_t address, uint32_t *value)
{
    uint32_t raw;
    if (!value)
        return -EINVAL;
    int r = vmm_translator_read(translator, address, &raw, sizeof(raw), VMM_ACCESS_ANY);
    if (r == 0)
        *value = le32toh(raw);
    return r;
}

int vmm_translator_read_u64(struct vmm_translator *translator, uint64_t address, uint64_t *value)
{
    uint64_t raw;
    if (!value)
        return -EINVAL;
    int r = vmm_translator_read(translator, address, &raw, sizeof(raw), VMM_ACCESS_ANY);
    if (r == 0)
        *value = le64toh(raw);
    return r;
}

long vmm_translator_read_string(struct vmm_translator *translator, uint64_t address, char *text,
                                size_t size)
{
    size_t used = 0;
    if (!translator || !text || size == 0)
        return -EINVAL;
    text[0] = '\0';
    while (used + 1 < size) {
        struct vmm_cached *e;
        size_t part = in_page(address + used, size - 1 - used);
        if (address + used < address)
            return -EFAULT;
        int r = vmm_translator_find(translator, address + used, VMM_ACCESS_ANY, &e);
        if (r < 0)
            return r;
        if (!e->host)
            return not_memory(translator, e);
        /* Copied before it is searched: the guest may write to it. */
        memcpy(text + used, e->host + ((address + used) & (VMM_PAGE_SIZE - 1)), part);
        text[used + part] = '\0';
        size_t found = strnlen(text + used, part);
        used += found;
        if (found < part)
            return (long)used;
    }
    return -ENAMETOOLONG;
}

static int read_pointer(struct vmm_translator *t, uint64_t address, uint64_t *value)
{
    uint32_t narrow = 0;
    if (t->current->plan.pointer_size == 8)
        return vmm_translator_read_u64(t, address, value);
    int r = vmm_translator_read_u32(t, address, &narrow);
    *value = narrow;
    return r;
}

int vmm_translator_follow(struct vmm_translator *translator, uint64_t address,
                          const uint64_t *offsets, size_t count, uint64_t *result)
{
    if (!translator || !offsets || count == 0 || !result)
        return -EINVAL;
    for (size_t i = 0; i + 1 < count; i++) {
        int r = read_pointer(translator, address + offsets[i], &address);
        if (r < 0)
            return r;
    }
    *result = address + offsets[count - 1];
    return 0;
}

int vmm_translator_list(struct vmm_translator *translator, uint64_t head, uint64_t limit,
                        int (*fn)(void *ctx, uint64_t node), void *ctx)
{
    uint64_t node = head;
    if (!translator || !fn)
        return -EINVAL;
    for (uint64_t i = 0;; i++) {
        int r = read_pointer(translator, node, &node);
        if (r < 0 || node == head)
            return r;
        if (i == limit)
            return -ELOOP;
        r = fn(ctx, node);
        if (r != 0)
            return r;
    }
}

int vmm_translator_ranges(struct vmm_translator *translator,
                          const struct vmm_page_range_options *options,
                          int (*fn)(void *ctx, const struct vmm_page_range *range), void *ctx,
                          uint64_t *next)
{
    if (!translator)
        return -EINVAL;
    return vmm_paging_ranges(translator->memory, &translator->current->context, options, fn, ctx,
                             next);
}
