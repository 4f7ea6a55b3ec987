/* SPDX-License-Identifier: BSD-3-Clause */
/* Parts of vectors. */
#include "backends/share/share.h"

uint64_t vmm_p9_length(const struct iovec *vector, size_t count)
{
    uint64_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += vector[i].iov_len;
    return length;
}

size_t vmm_p9_slice(const struct iovec *from, size_t count, uint64_t offset, uint64_t length,
                    struct iovec *to)
{
    size_t n = 0;
    for (size_t i = 0; i < count && length && n < P9_VECTOR_MAX; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        size_t part = from[i].iov_len - (size_t)offset;
        part = part < length ? part : (size_t)length;
        to[n++] = (struct iovec){(uint8_t *)from[i].iov_base + offset, part};
        length -= part;
        offset = 0;
    }
    return n;
}

/* One direction or the other between a vector and plain memory. */
static size_t copy(const struct iovec *vector, size_t count, uint64_t offset, uint8_t *memory,
                   size_t length, bool to_vector)
{
    size_t done = 0;
    for (size_t i = 0; i < count && done < length; i++) {
        if (offset >= vector[i].iov_len) {
            offset -= vector[i].iov_len;
            continue;
        }
        uint8_t *at = (uint8_t *)vector[i].iov_base + offset;
        size_t part = vector[i].iov_len - (size_t)offset;
        part = part < length - done ? part : length - done;
        memcpy(to_vector ? at : memory + done, to_vector ? memory + done : at, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t vmm_p9_gather(const struct iovec *from, size_t count, uint64_t offset, void *to,
                     size_t length)
{
    return copy(from, count, offset, to, length, false);
}

size_t vmm_p9_scatter(const struct iovec *to, size_t count, uint64_t offset, const void *from,
                      size_t length)
{
    return copy(to, count, offset, (uint8_t *)(uintptr_t)from, length, true);
}
