/* SPDX-License-Identifier: BSD-3-Clause */
/* Resource descriptors of ACPI machine language (ACPI 6.5, 6.4). */
#include "base/util.h"
#include "loader/aml.h"

#define TAG_IRQ       0x22u /* small, two bytes: without flags */
#define TAG_IO        0x47u
#define TAG_MEMORY32  0x86u
#define TAG_RANGE32   0x87u
#define TAG_RANGE16   0x88u
#define TAG_INTERRUPT 0x89u
#define TAG_RANGE64   0x8au

/* Descriptors may stand in a template only. */
static bool in_template(struct vmm_aml *a)
{
    if (a->blocks[a->depth].kind != AML_RESOURCES)
        vmm_aml_fail(a, -EINVAL, "a descriptor outside of a resource template");
    return !a->error.code;
}

void vmm_aml_io(struct vmm_aml *a, uint16_t address, uint8_t length)
{
    if (length == 0 || (uint32_t)address + length > 0x10000)
        vmm_aml_fail(a, -EINVAL, "ports at %#x, length %u", address, length);
    if (!in_template(a))
        return;
    vmm_aml_put_le(a, TAG_IO | 1u << 8, 2); /* decodes 16 bits */
    vmm_aml_put_le(a, address, 2);          /* the lowest base, and the highest */
    vmm_aml_put_le(a, address, 2);
    vmm_aml_put_le(a, 1u | (uint32_t)length << 8, 2); /* aligned to 1 */
}

void vmm_aml_irq(struct vmm_aml *a, uint32_t irq)
{
    if (irq > 15)
        vmm_aml_fail(a, -EINVAL, "ISA interrupt %u", irq);
    if (!in_template(a))
        return;
    vmm_aml_put_le(a, TAG_IRQ, 1);
    vmm_aml_put_le(a, 1u << irq, 2);
}

void vmm_aml_interrupt(struct vmm_aml *a, uint32_t gsi, bool level, bool active_low, bool shared)
{
    if (!in_template(a))
        return;
    uint32_t flags = 1u | (level ? 0u : 2u) | (active_low ? 4u : 0u) | (shared ? 8u : 0u);
    vmm_aml_put_le(a, TAG_INTERRUPT, 1);
    vmm_aml_put_le(a, 6, 2);
    vmm_aml_put_le(a, flags | 1u << 8, 2); /* one interrupt */
    vmm_aml_put_le(a, gsi, 4);
}

void vmm_aml_memory32(struct vmm_aml *a, uint32_t address, uint32_t length, bool write)
{
    if (length == 0 || address > UINT32_MAX - (length - 1))
        vmm_aml_fail(a, -EINVAL, "memory at %#x, length %#x", address, length);
    if (!in_template(a))
        return;
    vmm_aml_put_le(a, TAG_MEMORY32 | 9u << 8, 3);
    vmm_aml_put_le(a, write, 1);
    vmm_aml_put_le(a, address, 4);
    vmm_aml_put_le(a, length, 4);
}

static bool window_ok(uint32_t space, uint32_t bits, uint64_t first, uint64_t last)
{
    if (space > VMM_AML_SPACE_BUSES || (bits != 16 && bits != 32 && bits != 64))
        return false;
    uint64_t max = UINT64_MAX >> (64 - bits);
    return first <= last && last <= max && last - first < max; /* the length must fit too */
}

#define FIXED    0x0cu /* both ends */
#define CONSUMER 0x01u /* else a producer, that decodes positively */

static void put_range(struct vmm_aml *a, uint32_t space, uint32_t bits, uint64_t first,
                      uint64_t last, uint32_t general, uint32_t specific)
{
    size_t width = bits / 8;
    vmm_aml_put_le(a, bits == 16 ? TAG_RANGE16 : bits == 32 ? TAG_RANGE32 : TAG_RANGE64, 1);
    vmm_aml_put_le(a, 3 + 5 * width, 2);
    vmm_aml_put_le(a, space, 1);
    vmm_aml_put_le(a, general, 1);
    vmm_aml_put_le(a, specific, 1);
    vmm_aml_put_le(a, 0, width); /* granularity: none between fixed ends */
    vmm_aml_put_le(a, first, width);
    vmm_aml_put_le(a, last, width);
    vmm_aml_put_le(a, 0, width); /* translation */
    vmm_aml_put_le(a, last - first + 1, width);
}

void vmm_aml_memory64(struct vmm_aml *a, uint64_t address, uint64_t length)
{
    if (length == 0 || !window_ok(VMM_AML_SPACE_MEMORY, 64, address, address + (length - 1))) {
        vmm_aml_fail(a, -EINVAL, "memory of %#llx bytes at %#llx", (unsigned long long)length,
                     (unsigned long long)address);
        return;
    }
    if (in_template(a))
        put_range(a, VMM_AML_SPACE_MEMORY, 64, address, address + (length - 1), FIXED | CONSUMER,
                  1);
}

void vmm_aml_window(struct vmm_aml *a, uint32_t space, uint32_t bits, uint64_t first, uint64_t last,
                    bool prefetchable)
{
    if (!window_ok(space, bits, first, last)) {
        vmm_aml_fail(a, -EINVAL, "a window of space %u, %u bits, %#llx to %#llx", space, bits,
                     (unsigned long long)first, (unsigned long long)last);
        return;
    }
    if (!in_template(a))
        return;
    /* Memory: writable, and cacheable with prefetching (6.4.3.5.5); ports: all of them. */
    uint32_t specific = space == VMM_AML_SPACE_MEMORY  ? (prefetchable ? 0x07u : 0x01u)
                        : space == VMM_AML_SPACE_PORTS ? 0x03u
                                                       : 0;
    put_range(a, space, bits, first, last, FIXED, specific);
}
