/* SPDX-License-Identifier: BSD-3-Clause */
/* Random page tables that point into themselves, for the walker's tests with and without KVM. */
#ifndef PAGING_RANDOM_H
#define PAGING_RANDOM_H

#include <libvmm/paging.h>

#include <string.h>

static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static inline uint64_t random64(void) /* xorshift64* */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull;
}

static inline bool one_in(unsigned n)
{
    return random64() % n == 0;
}

struct random_tables {
    uint32_t format;
    uint32_t address_bits;
    uint64_t base; /* of the pages, guest-physical */
    uint32_t pages;
    bool nx;
    uint32_t rare; /* one entry in so many has a reserved bit, is absent, … */
};

static inline uint64_t random_entry64(const struct random_tables *t)
{
    uint64_t e = t->base + (random64() % t->pages) * 4096;
    if (one_in(t->rare))
        e = random64() & ((1ull << t->address_bits) - 1) & ~0xfffull;
    e |= random64() & 0xf7e;
    if (!one_in(t->rare))
        e |= 1;
    if (!one_in(4))
        e |= 6;
    if (one_in(4)) {
        e |= 0x80;
        if (!one_in(t->rare))
            e &= ~0x3fffe000ull;
    }
    if (one_in(t->nx ? 4 : t->rare * 2))
        e |= 1ull << 63;
    if (one_in(t->format == VMM_PAGE_FORMAT_X86_PAE ? t->rare * 2 : 2))
        e |= (random64() & 0x7ff) << 52;
    if (one_in(t->rare))
        e ^= 1ull << (12 + random64() % 28);
    if (t->address_bits < 52 && one_in(t->rare))
        e |= 1ull << (t->address_bits + random64() % (52 - t->address_bits));
    return e;
}

static inline uint32_t random_entry32(const struct random_tables *t)
{
    uint64_t e = t->base + (random64() % t->pages) * 4096;
    if (one_in(t->rare))
        e = random64() & 0xfffff000;
    e |= random64() & 0xf7e;
    if (!one_in(t->rare))
        e |= 1;
    if (!one_in(4))
        e |= 6;
    if (one_in(4)) {
        e |= 0x80;
        if (!one_in(t->rare))
            e &= ~0x3fe000ull;
        if (one_in(4))
            e |= (random64() & 0xf) << 13;
    }
    if (one_in(t->rare))
        e ^= 1ull << (12 + random64() % 20);
    return (uint32_t)e;
}

/* Fill `memory`, the pages at t->base; page 0 is the top table. */
static inline void random_fill(const struct random_tables *t, void *memory)
{
    size_t bytes = (size_t)t->pages * 4096;
    for (size_t i = 0; i < bytes; i += t->format == VMM_PAGE_FORMAT_X86_32 ? 4 : 8) {
        uint64_t e64;
        if (t->format == VMM_PAGE_FORMAT_X86_32) {
            uint32_t e = random_entry32(t);
            memcpy((char *)memory + i, &e, 4);
            continue;
        }
        e64 = random_entry64(t);
        /* The top: entries that reserve most of their bits. */
        if (i < 4096 && !one_in(t->rare))
            e64 &= ~0x180ull;
        if (i < 4096 && t->format == VMM_PAGE_FORMAT_X86_PAE && !one_in(t->rare))
            e64 &= ~0xfff00000000001e6ull;
        memcpy((char *)memory + i, &e64, 8);
    }
}

static inline uint64_t random_virtual(uint32_t format)
{
    uint64_t v = random64();
    if (format <= VMM_PAGE_FORMAT_X86_PAE)
        return v & 0xffffffff;
    unsigned shift = format == VMM_PAGE_FORMAT_X86_5LEVEL ? 7 : 16;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

#endif
