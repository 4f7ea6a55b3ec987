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
    size_t length = header + size < 4096 ? 4096 : header + size;
    uint8_t *file = calloc(1, length + 1);
    must(file != NULL);
    file[0] = data[0];
    memcpy(file + 1 + header, data + 1, size - 1);
    memcpy(file + 1 + 0x1fe, "\x55\xaa", 2);
    memcpy(file + 1 + 0x202, "HdrS", 4);
    file[1 + 0x207] = 2;
    if (data[size - 1] & 1) { /* past the checks that random bytes hardly pass */
        uint16_t code = (uint16_t)((length - 1024) / 16);
        file[1 + header] = 1;               /* setup_sects */
        memcpy(file + 1 + 0x1f4, &code, 2); /* syssize */
        file[1 + 0x200] = 0xeb;
        file[1 + 0x201] = 0x6a;
        file[1 + 0x206] = 15;
        file[1 + 0x211] |= 1;
        memcpy(file + 1 + 0x1f6, "\0\0", 2);
        memcpy(file + 1 + 0x232, "\0\0", 2); /* kernel_alignment */
        memcpy(file + 1 + 0x24a, "\0\0", 2); /* payload_offset and payload_length */
        memcpy(file + 1 + 0x24e, "\0\0", 2);
        memcpy(file + 1 + 0x25b, "\0\0\0\0\0", 5); /* pref_address */
        file[1 + 0x262] &= 0x3f;                   /* init_size */
        file[1 + 0x263] = 0;
    }
    fuzz_load(file, length + 1, formats, sizeof(formats) / sizeof(formats[0]));
    free(file);
    return 0;
}
