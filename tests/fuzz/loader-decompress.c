/* SPDX-License-Identifier: BSD-3-Clause */
/* Hostile kernel payloads. The first byte chooses the compression, the next two the size that the
 * payload claims. */
#include "loader/unpack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char magics[4][6] = {{0x1f, (char)0x8b},
                                      {(char)0xfd, '7', 'z', 'X', 'Z', 0},
                                      {0x02, 0x21, 0x4c, 0x18},
                                      {0x28, (char)0xb5, 0x2f, (char)0xfd}};
    static const size_t lengths[4] = {2, 6, 4, 4};
    if (size < 3)
        return 0;
    size_t which = data[0] & 3, length = lengths[which] + (size - 3) + 4;
    uint8_t *payload = malloc(length);
    if (!payload)
        abort();
    memcpy(payload, magics[which], lengths[which]);
    memcpy(payload + lengths[which], data + 3, size - 3);
    uint8_t claim[4] = {data[1], data[2], 0, 0};
    memcpy(payload + length - 4, claim, 4);
    uint8_t *out = NULL;
    size_t out_length = 0;
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = vmm_unpack(payload, length, &out, &out_length, &err);
    if (rc == 0 ? out_length != (size_t)(claim[0] | claim[1] << 8) : err.code != rc || !err.text[0])
        abort();
    free(out);
    free(payload);
    return 0;
}
