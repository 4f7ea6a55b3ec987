/* SPDX-License-Identifier: BSD-3-Clause */
/* For drivers with calls of their own: who is behind a block device. */
#ifndef BACKENDS_BLOCK_BLOCK_DRIVER_H
#define BACKENDS_BLOCK_BLOCK_DRIVER_H

#include <libvmm/block.h>

/* The driver's `ctx` if its `submit` is this one, else NULL. */
void *vmm_block_driver_of(const struct vmm_block *block,
                          void (*submit)(void *ctx, struct vmm_block_request *request));

#endif
