/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part that filters share: a request of the filter becomes one of the device below, and some are
 * held back for a time. A filter's structure begins with this one, and its operations start from
 * VMM_FILTER_OPS.
 *
 * Held requests have a lock, because vmm_block_quiesce() may come from another thread and must be sure
 * that none of them is begun after it.
 */
#ifndef BACKENDS_BLOCK_FILTER_H
#define BACKENDS_BLOCK_FILTER_H

#include "backends/block/block-driver.h"

#include <pthread.h>

struct vmm_filter;

/* Words of a request: NEXT is a list's. */
#define VMM_FILTER_WORD_BELOW 3 /* its vmm_filter_request, while it is below */
#define VMM_FILTER_WORD_OWN   4 /* and those after it: the filter's */

struct vmm_filter_request {
    struct vmm_block_request below;
    struct vmm_filter *filter;
    struct vmm_block_request *above;
    struct vmm_filter_request *next; /* among the free ones */
    struct iovec *vector;            /* where it is not the one above's; freed at the end */
};

struct vmm_filter {
    struct vmm_block *self, *child;
    /* A request has come back. NULL: it is finished. */
    void (*ended)(struct vmm_filter *filter, struct vmm_block_request *request, int result);
    /* Time to look at the held ones. May be NULL. */
    void (*wake)(struct vmm_filter *filter);
    /* Before draining: let go of what is held. NULL: all is forwarded. */
    void (*let_go)(struct vmm_filter *filter);
    struct vmm_filter_request *free;
    struct vmm_timer *timer;
    pthread_mutex_t lock;
    struct vmm_block_list failed;        /* for lack of memory */
    struct vmm_block_list held, dropped; /* guarded by the lock */
};

/* Fill in a zeroed filter. After an error nothing is to be undone. */
int vmm_filter_init(struct vmm_filter *filter, struct vmm_block *child);
/* Make the device; frees the filter's memory (by free()) where that fails. */
int vmm_filter_publish(struct vmm_filter *filter, const struct vmm_block_ops *ops,
                       struct vmm_block **out, struct vmm_error *err);

/* Begin it below. */
void vmm_filter_forward(struct vmm_filter *filter, struct vmm_block_request *request);
/* The same for its first `length` bytes. */
void vmm_filter_forward_part(struct vmm_filter *filter, struct vmm_block_request *request,
                             uint64_t length);
void vmm_filter_hold(struct vmm_filter *filter, struct vmm_block_request *request);
/* The first held one, NULL if there is none; it stays held. */
struct vmm_block_request *vmm_filter_held(struct vmm_filter *filter);
/* Forward a held one, unless it has been dropped meanwhile. */
void vmm_filter_release(struct vmm_filter *filter, struct vmm_block_request *request);
/* End a held one, unless it has been dropped meanwhile. */
void vmm_filter_end_held(struct vmm_filter *filter, struct vmm_block_request *request, int result);
void vmm_filter_release_all(struct vmm_filter *filter);
void vmm_filter_wake_at(struct vmm_filter *filter, uint64_t deadline_ns);
uint64_t vmm_filter_now(const struct vmm_filter *filter);

int vmm_filter_info(void *ctx, struct vmm_block_info *info);
int vmm_filter_extent(void *ctx, uint64_t offset, uint64_t length, struct vmm_block_extent *extent);
int vmm_filter_resize(void *ctx, uint64_t length, struct vmm_error *err);
void vmm_filter_cancel(void *ctx, struct vmm_block_request *request);
void vmm_filter_quiesce(void *ctx);
void vmm_filter_drain(void *ctx);
void vmm_filter_plug(void *ctx, uint32_t on);
void vmm_filter_destroy(void *ctx);

#define VMM_FILTER_OPS                                                                             \
    .size = sizeof(struct vmm_block_ops), .info = vmm_filter_info, .extent = vmm_filter_extent,    \
    .resize = vmm_filter_resize, .cancel = vmm_filter_cancel, .quiesce = vmm_filter_quiesce,       \
    .drain = vmm_filter_drain, .plug = vmm_filter_plug, .destroy = vmm_filter_destroy

/* The part [offset, offset + length) of a vector into `to`, which has room for `count` entries. */
size_t vmm_block_slice(const struct iovec *from, size_t count, uint64_t offset, uint64_t length,
                       struct iovec *to);

#endif
