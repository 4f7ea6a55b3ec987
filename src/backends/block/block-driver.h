/* SPDX-License-Identifier: BSD-3-Clause */
/* For drivers: who is behind a block device, and requests in a row. */
#ifndef BACKENDS_BLOCK_BLOCK_DRIVER_H
#define BACKENDS_BLOCK_BLOCK_DRIVER_H

#include <libvmm/block.h>

#include <stdbool.h>

/* The driver's `ctx` if its `submit` is this one, else NULL. */
void *vmm_block_driver_of(const struct vmm_block *block,
                          void (*submit)(void *ctx, struct vmm_block_request *request));

/* Requests in a row, linked by one of their reserved words. The core's are 0 and 1. */
#define VMM_BLOCK_WORD_NEXT 2

struct vmm_block_list {
    struct vmm_block_request *first, *last;
};

static inline void vmm_block_list_append(struct vmm_block_list *list,
                                         struct vmm_block_request *request)
{
    request->reserved[VMM_BLOCK_WORD_NEXT] = 0;
    if (list->last)
        list->last->reserved[VMM_BLOCK_WORD_NEXT] = (uintptr_t)request;
    else
        list->first = request;
    list->last = request;
}

static inline struct vmm_block_request *vmm_block_list_next(const struct vmm_block_request *request)
{
    return (struct vmm_block_request *)(uintptr_t)request->reserved[VMM_BLOCK_WORD_NEXT];
}

static inline struct vmm_block_request *vmm_block_list_pop(struct vmm_block_list *list)
{
    struct vmm_block_request *request = list->first;
    if (!request)
        return NULL;
    list->first = vmm_block_list_next(request);
    if (!list->first)
        list->last = NULL;
    return request;
}

/* Take one out of the middle. false: it was not there. */
bool vmm_block_list_remove(struct vmm_block_list *list, struct vmm_block_request *request);

#endif
