/* SPDX-License-Identifier: BSD-3-Clause */
/* Small helpers that every room uses: checked arithmetic, byte order, options, bits. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Seldom called: kept out of the hot path that calls it, whose code and stack frame stay small. */
#define VMM_COLD __attribute__((noinline, cold))

#define VMM_ARRAY_SIZE(a)                (sizeof(a) / sizeof((a)[0]))
#define VMM_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Copy a caller's sized structure into ours of `size` bytes, by the kernel's copy_struct_from_user
 * rule: a shorter one is padded with zeros, a longer one must be zero beyond what we know. */
int vmm_options_copy(void *to, size_t size, const void *from);

/* Give a caller's sized output structure as much of ours as it has room for; its size stays. */
int vmm_info_copy(void *to, const void *from, size_t size);

/* Does [a, a+len) fit in 64 bits? len 0 fits. */
static inline bool vmm_range_ok(uint64_t address, uint64_t length)
{
    return length == 0 || address <= UINT64_MAX - (length - 1);
}

/* Do two non-empty, non-wrapping ranges share a byte? */
static inline bool vmm_ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a <= b + (b_len - 1) && b <= a + (a_len - 1);
}

/* Unaligned little-endian loads and stores. */
static inline uint16_t vmm_load_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return le16toh(v);
}
static inline uint32_t vmm_load_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}
static inline uint64_t vmm_load_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}
static inline void vmm_store_le16(void *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof(v));
}
static inline void vmm_store_le32(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}
static inline void vmm_store_le64(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

static inline uint64_t vmm_align_up(uint64_t v, uint64_t power_of_two)
{
    return (v + power_of_two - 1) & ~(power_of_two - 1);
}
static inline bool vmm_is_power_of_two(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

#endif
