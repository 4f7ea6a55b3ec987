/* SPDX-License-Identifier: BSD-3-Clause */
/* Hostile ELF kernels, by PVH and by the 64-bit entry. */
#include "loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t formats[] = {VMM_KERNEL_PVH, VMM_KERNEL_LINUX64, VMM_KERNEL_AUTO};
    if (size < 65)
        return 0;
    uint8_t *file = malloc(size);
    must(file != NULL);
    memcpy(file, data, size);
    if (data[0] & 8) { /* the fields that have one right value */
        memcpy(file + 1, "\177ELF\2\1\1", 7);
        memcpy(file + 1 + 16, "\2\0\76\0", 4);
        memcpy(file + 1 + 54, "\70\0", 2);
        file[0] &= 0xf7; /* it means unpacking to fuzz_load() */
    }
    fuzz_load(file, size, formats, sizeof(formats) / sizeof(formats[0]));
    free(file);
    return 0;
}
