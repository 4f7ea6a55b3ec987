/* SPDX-License-Identifier: BSD-3-Clause */
/* Counting every reference to every cluster of an image. */
#ifndef BACKENDS_BLOCK_QCOW2_COUNT_H
#define BACKENDS_BLOCK_QCOW2_COUNT_H

#include "backends/block/qcow2/qcow2.h"

struct q2_count {
    struct qcow2 *q;
    uint32_t *counts;
    uint64_t clusters;
    uint64_t budget;    /* bytes of tables that may still be read */
    bool mend;          /* empty entries that point nowhere */
    bool refcounts_bad; /* their tables cannot be used: make new ones */
    struct vmm_qcow2_check_result result;
};

int vmm_q2_count_begin(struct qcow2 *q, struct q2_count *c);
void vmm_q2_count_end(struct q2_count *c);
/* Everything but the refcounts' own tables, then those. Coroutine. */
int vmm_q2_count_all(struct q2_count *c);
int vmm_q2_count_refcounts(struct q2_count *c);
/* One more reference to each cluster of the range; false: not all of it is in the file. */
bool vmm_q2_count_range(struct q2_count *c, uint64_t offset, uint64_t length);
/* Call `fn` for each entry of an L2 table; it may change the entry and return true. Coroutine. */
int vmm_q2_each_entry(struct qcow2 *q, uint64_t table, void *arg,
                      bool (*fn)(void *arg, uint32_t index, struct q2_entry *entry));

/* repair.c: new refcount tables behind all that is used. Coroutine. */
int vmm_q2_rebuild(struct q2_count *c);

#endif
