/* SPDX-License-Identifier: BSD-3-Clause */
/* Files whose length is no multiple of a block, for reading. */
#ifndef BACKENDS_BLOCK_QCOW2_RAGGED_H
#define BACKENDS_BLOCK_QCOW2_RAGGED_H

#include "base/util.h"

#include <libvmm/block.h>

/* `fd` is duplicated. -EBUSY: somebody writes to it. */
int vmm_q2_ragged_new(struct vmm_loop *loop, int fd, uint64_t length, struct vmm_block **out);

#endif
