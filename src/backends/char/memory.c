/* SPDX-License-Identifier: BSD-3-Clause */
/* Output kept in memory, the oldest bytes giving way. */
#include "backends/char/chardev.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct memory {
    pthread_mutex_t lock;
    size_t capacity;
    size_t start; /* of the oldest byte */
    size_t count;
    uint8_t data[];
};

static void append(struct memory *m, const uint8_t *data, size_t length)
{
    size_t end = (m->start + m->count) % m->capacity;
    size_t first = m->capacity - end < length ? m->capacity - end : length;
    memcpy(m->data + end, data, first);
    memcpy(m->data, data + first, length - first);
    m->count += length;
    if (m->count > m->capacity) {
        m->start = (m->start + m->count - m->capacity) % m->capacity;
        m->count = m->capacity;
    }
}

static long memory_write(void *ctx, const uint8_t *data, size_t length)
{
    struct memory *m = ctx;
    size_t skip = length > m->capacity ? length - m->capacity : 0;
    pthread_mutex_lock(&m->lock);
    append(m, data + skip, length - skip);
    pthread_mutex_unlock(&m->lock);
    return (long)length;
}

static void memory_destroy(void *ctx)
{
    struct memory *m = ctx;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

int vmm_chardev_new_memory(size_t capacity, struct vmm_chardev **out)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), memory_write, NULL, memory_destroy};
    if (capacity == 0 || capacity > SIZE_MAX / 4)
        return -EINVAL;
    struct memory *m = calloc(1, sizeof(*m) + capacity);
    if (!m)
        return -ENOMEM;
    m->capacity = capacity;
    pthread_mutex_init(&m->lock, NULL);
    int ret = vmm_chardev_new(&ops, m, out);
    if (ret < 0)
        memory_destroy(m);
    return ret;
}

size_t vmm_chardev_memory_read(struct vmm_chardev *chardev, void *data, size_t length)
{
    struct memory *m = vmm_chardev_backend(chardev, memory_write);
    if (!m)
        return 0;
    pthread_mutex_lock(&m->lock);
    size_t n = length < m->count ? length : m->count;
    size_t first = m->capacity - m->start < n ? m->capacity - m->start : n;
    if (n > 0) {
        memcpy(data, m->data + m->start, first);
        memcpy((uint8_t *)data + first, m->data, n - first);
    }
    m->start = (m->start + n) % m->capacity;
    m->count -= n;
    pthread_mutex_unlock(&m->lock);
    return n;
}
