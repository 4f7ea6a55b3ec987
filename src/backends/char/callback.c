/* SPDX-License-Identifier: BSD-3-Clause */
/* Output handed to a function of the embedder's. */
#include "backends/char/chardev.h"

#include <errno.h>
#include <stdlib.h>

struct callback {
    void (*write)(void *ctx, const uint8_t *data, size_t length);
    void *ctx;
};

static long callback_write(void *ctx, const uint8_t *data, size_t length)
{
    const struct callback *c = ctx;
    c->write(c->ctx, data, length);
    return (long)length;
}

int vmm_chardev_new_callback(void (*write)(void *ctx, const uint8_t *data, size_t length),
                             void *ctx, struct vmm_chardev **out)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), callback_write, NULL, free};
    if (!write)
        return -EINVAL;
    struct callback *c = malloc(sizeof(*c));
    if (!c)
        return -ENOMEM;
    *c = (struct callback){write, ctx};
    int ret = vmm_chardev_new(&ops, c, out);
    if (ret < 0)
        free(c);
    return ret;
}
