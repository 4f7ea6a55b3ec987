/* SPDX-License-Identifier: BSD-3-Clause */
/* Sized structures that cross the ABI in either direction. */
#include "base/util.h"

#include <libvmm/types.h>

int vmm_options_copy(void *to, size_t size, const void *from)
{
    size_t given;
    memcpy(&given, from, sizeof(given));
    if (given < sizeof(size_t))
        return -EINVAL;
    for (size_t i = size; i < given; i++)
        if (((const unsigned char *)from)[i] != 0)
            return -E2BIG;
    memset(to, 0, size);
    memcpy(to, from, given < size ? given : size);
    memcpy(to, &size, sizeof(size));
    return 0;
}

int vmm_info_copy(void *to, const void *from, size_t size)
{
    size_t room;
    memcpy(&room, to, sizeof(room));
    if (room < sizeof(size_t))
        return -EINVAL;
    size_t n = room < size ? room : size;
    memcpy((char *)to + sizeof(size_t), (const char *)from + sizeof(size_t), n - sizeof(size_t));
    return 0;
}
