/* SPDX-License-Identifier: BSD-3-Clause */
/* Hostile Multiboot kernels of both versions. The checksums are set right, else nothing gets in. */
#include "loader.h"

static uint32_t word(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v)); /* the host is little-endian as the guest */
    return v;
}

static void seal(uint8_t *p, size_t words)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < words; i++)
        sum -= word(p + 4 * i);
    memcpy(p + 4 * words, &sum, sizeof(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t formats[] = {VMM_KERNEL_MULTIBOOT, VMM_KERNEL_AUTO};
    uint8_t *copy = malloc(size + 1);
    must(copy != NULL);
    memcpy(copy, data, size);
    if (size && copy[0] & 8) /* nothing to unpack here: half the inputs would be wasted */
        copy[0] &= 0xf7;
    for (size_t at = 1; at + 16 <= size && at < 33000; at += 4)
        if (word(copy + at) == 0x1badb002)
            seal(copy + at, 2);
        else if (word(copy + at) == 0xe85250d6)
            seal(copy + at, 3);
    fuzz_load(copy, size, formats, sizeof(formats) / sizeof(formats[0]));
    free(copy);
    return 0;
}
