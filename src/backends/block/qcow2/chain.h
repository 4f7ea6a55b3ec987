/* SPDX-License-Identifier: BSD-3-Clause */
/* The files of an image: opening them by name, and those that they name in turn. */
#ifndef BACKENDS_BLOCK_QCOW2_CHAIN_H
#define BACKENDS_BLOCK_QCOW2_CHAIN_H

#include "backends/block/qcow2/qcow2.h"

#include <sys/types.h>

/* The images above, up to the one that the caller opened. */
struct q2_chain {
    const struct q2_chain *above;
    dev_t device;
    ino_t inode;
    uint32_t limit; /* how many more images there may be, this one included */
};

/* Open a file by name; who it is goes into `chain`. -ELOOP: it is above already. */
int vmm_q2_file_open(struct vmm_loop *loop, const char *path, bool read_only, uint32_t threads,
                     struct q2_chain *chain, struct vmm_block **out, struct vmm_error *err);
/* The path of a file that an image at `from` names; to be freed. */
int vmm_q2_path_resolve(const char *from, const char *name, char **out, struct vmm_error *err);
/* The files that the image's header names. */
int vmm_q2_open_backing(struct qcow2 *q, const struct vmm_qcow2_options *o,
                        const struct q2_chain *chain, struct vmm_error *err);
int vmm_q2_open_data(struct qcow2 *q, const struct vmm_qcow2_options *o,
                     const struct q2_chain *chain, struct vmm_error *err);
/* Open an image with those above it known. */
int vmm_q2_open(struct vmm_loop *loop, const struct vmm_qcow2_options *o,
                const struct q2_chain *above, struct vmm_block **out, struct vmm_error *err);

#endif
