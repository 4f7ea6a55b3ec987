/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hostile page tables for the walker, the iterator, the translation cache and the builder. The
 * input is a header (mode, flags, root) and table entries in a dense form, so that a short input
 * makes deep tables. The three that translate must agree, also after an entry was changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libvmm/memory.h>
#include <libvmm/translate.h>

#define RAM 0x10000u

struct header {
    uint8_t format, flags, address_bits, access;
    uint8_t virtual_bits, upper_bits;
    uint16_t more_flags;
    uint8_t root, patch_value;
    uint16_t patch_at;
    uint64_t address;
};

/* One entry: its place, the low bits, a page of memory (above it: a far address), the high bits. */
struct poke {
    uint16_t at, low;
    uint8_t page, high;
};

struct check {
    struct vmm_memory *memory;
    const struct vmm_paging_context *context;
    unsigned left;
};

static void must(int ok)
{
    if (!ok)
        abort();
}

static int compare_range(void *ctx, const struct vmm_page_range *range)
{
    struct check *c = ctx;
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    uint64_t last = range->address + (range->length - 1);
    must(range->length != 0 && last >= range->address);
    if (c->left == 0)
        return 0;
    c->left--;
    must(vmm_paging_translate(c->memory, c->context, range->address, VMM_ACCESS_ANY, &t) == 0);
    must(t.physical == range->physical);
    must(vmm_paging_translate(c->memory, c->context, last, VMM_ACCESS_ANY, &t) == 0);
    return 0;
}

static void compare(struct vmm_memory *memory, struct vmm_translator *translator,
                    const struct vmm_paging_context *context, uint64_t address, uint32_t access)
{
    struct vmm_translation t = VMM_TRANSLATION_INIT;
    struct vmm_lookup l = VMM_LOOKUP_INIT;
    int walked = vmm_paging_translate(memory, context, address, access, &t);
    must(vmm_translator_lookup(translator, address, access, &l) == walked);
    must(walked != 0 || l.physical == t.physical);
    must(walked != 0 || (l.data != NULL) == (t.physical < RAM));
}

static void poke_all(struct vmm_memory *memory, const uint8_t *data, size_t size)
{
    for (; size >= sizeof(struct poke); data += sizeof(struct poke), size -= sizeof(struct poke)) {
        struct poke p;
        memcpy(&p, data, sizeof(p));
        uint64_t entry = (p.low & 0xfffu) | (uint64_t)(p.low >> 12) << 40 |
                         (uint64_t)(p.page & 0x1f) << 12 | (uint64_t)(p.page >> 5) << 20 |
                         (uint64_t)p.high << 56;
        must(vmm_memory_write(memory, p.at % (RAM / 8) * 8, &entry, 8) == 0);
    }
}

static void build_over(struct vmm_memory *memory, const struct header *h)
{
    struct vmm_page_table_options o = VMM_PAGE_TABLE_OPTIONS_INIT;
    struct vmm_page_table *table;
    o.format = h->format % 9;
    o.flags = h->flags | (uint32_t)h->more_flags << 8;
    o.virtual_bits = h->virtual_bits;
    o.table_length = RAM;
    if (vmm_page_table_new(memory, &o, &table, NULL) != 0)
        return;
    for (unsigned i = 0; i < 4; i++)
        (void)vmm_page_table_map(table, h->address << (i * 8) & ~0xfffull, h->address & ~0xfffull,
                                 (uint64_t)(h->patch_at + 1) << (12 + i * 4), h->patch_value, 0,
                                 NULL);
    vmm_page_table_free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header h;
    struct vmm_memory *memory;
    struct vmm_translator *translator;
    if (size < sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    data += sizeof(h);
    size -= sizeof(h);
    if (vmm_memory_new(NULL, &memory, NULL) != 0)
        return 0;
    must(vmm_memory_add_ram(memory, "ram", 0, RAM, NULL, NULL) == 0);
    poke_all(memory, data, size);
    struct vmm_translator_options small = VMM_TRANSLATOR_OPTIONS_INIT;
    small.entries = 16;
    must(vmm_translator_new(memory, &small, &translator) == 0);

    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    struct vmm_page_range_options o = VMM_PAGE_RANGE_OPTIONS_INIT;
    c.format = h.format % 9;
    c.flags = (h.flags | (uint32_t)h.more_flags << 8) & ~VMM_PAGING_TOP_CACHED;
    c.virtual_bits = h.virtual_bits;
    c.upper_bits = h.upper_bits;
    c.upper_root = (uint64_t)h.root << 12;
    c.address_bits = h.address_bits % 64;
    c.root = (uint64_t)h.root << 8;
    c.user_keys = h.patch_at;
    uint32_t access = h.access & 0x1f;
    if (vmm_translator_set_context(translator, &c) == 0) {
        struct check check = {memory, &c, 64};
        uint64_t next;
        o.start = h.access & 0x80 ? h.address : 0;
        o.entry_limit = 3000;
        o.flags = h.access >> 6 & 1;
        (void)vmm_paging_ranges(memory, &c, &o, compare_range, &check, &next);
        struct vmm_translation t = VMM_TRANSLATION_INIT;
        bool sound = vmm_paging_translate(memory, &c, 0, access, &t) != -EINVAL;
        for (unsigned i = 0; i < 16 && sound; i++) {
            compare(memory, translator, &c, h.address + i * 0x1001, access);
            if (i % 4 == 3)
                must(vmm_memory_write(memory, h.patch_at, &h.patch_value, 1) == 0);
        }
        (void)vmm_paging_translate(memory, &c, h.address, VMM_ACCESS_MARK | VMM_ACCESS_WRITE, &t);
    }
    build_over(memory, &h);
    vmm_translator_free(translator);
    vmm_memory_unref(memory);
    return 0;
}
