/* SPDX-License-Identifier: BSD-3-Clause */
/* Hostile bzImages, unpacked or not. The input begins with the setup header; its magic numbers are set
 * right, else nothing gets in. */
#include "loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t formats[] = {VMM_KERNEL_AUTO,      VMM_KERNEL_BZIMAGE,
                                       VMM_KERNEL_BZIMAGE32, VMM_KERNEL_BZIMAGE64,
                                       VMM_KERNEL_LINUX64,   VMM_KERNEL_PVH};
    enum { header = 0x1f1 };
    if (size < 0x80)
        return 0;
    uint8_t *file = calloc(1, header + size);
    must(file != NULL);
    file[0] = data[0];
    memcpy(file + 1 + header, data + 1, size - 1);
    memcpy(file + 1 + 0x1fe, "\x55\xaa", 2);
    memcpy(file + 1 + 0x202, "HdrS", 4);
    file[1 + 0x207] = 2;
    fuzz_load(file, header + size, formats, sizeof(formats) / sizeof(formats[0]));
    free(file);
    return 0;
}
