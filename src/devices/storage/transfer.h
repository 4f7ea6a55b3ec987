/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A transfer between a block backend and guest memory, as controllers make them: a list of guest
 * ranges that the guest wrote (PRDT), carried out in pieces of a bounded number of ranges, so that a
 * list of any length costs bounded memory in the host.
 *
 * All of it happens on the loop's thread with the device's lock held, but vmm_transfer_abandon(), which
 * a vCPU's thread calls in a reset.
 */
#ifndef DEVICES_STORAGE_TRANSFER_H
#define DEVICES_STORAGE_TRANSFER_H

#include <libvmm/block.h>
#include <libvmm/device.h>
#include <libvmm/memory.h>

#define TRANSFER_RANGES                                                                            \
    256u /* of a piece; ranges have at least 2 bytes, so there is a sector in it */
#define TRANSFER_VECTOR 512u
#define TRANSFER_LIST   65536u /* ranges of a transfer */

struct vmm_transfer {
    struct vmm_block_request request;
    struct vmm_memory *memory;
    struct vmm_device *device; /* whose lock is taken when the backend is done */
    /* It has ended: 0, -EFAULT (guest memory), -ECANCELED (abandoned), or the backend's error. The lock
     * is held. */
    void (*done)(struct vmm_transfer *t, int result);
    void *ctx;

    struct vmm_guest_range *list;
    size_t count, room;
    uint64_t length; /* of the list */

    uint32_t sector; /* requests to the backend are multiples of that: 512 unless set */
    struct vmm_block *disk;
    size_t index; /* how far it is: the range, and the byte in it */
    uint64_t within;
    uint64_t left;
    struct vmm_scatter scatter;
    bool mapped;
    bool busy;  /* the backend has it */
    bool stale; /* its end is of no interest any more */
    struct iovec vector[TRANSFER_VECTOR];
};

void vmm_transfer_init(struct vmm_transfer *t, struct vmm_memory *memory, struct vmm_device *device,
                       void (*done)(struct vmm_transfer *t, int result), void *ctx);
void vmm_transfer_fini(struct vmm_transfer *t);

/* The list. */
void vmm_transfer_clear(struct vmm_transfer *t);
int vmm_transfer_add(struct vmm_transfer *t, uint64_t address, uint64_t length);
/* Copy between a buffer and the beginning of the list; bytes copied (the shorter of both), or -EFAULT. */
int64_t vmm_transfer_copy(struct vmm_transfer *t, void *buffer, uint64_t length, bool to_guest);

/* Begin; `length` is a multiple of the sector and at most the list's. An error here is no end: `done` is not
 * called. A large sector in ranges so short that a piece does not hold it is -EFAULT. */
int vmm_transfer_start(struct vmm_transfer *t, struct vmm_block *disk, uint32_t op, uint32_t flags,
                       uint64_t offset, uint64_t length);
/* The same with memory of the device's; without any (NULL) for flushes and discards. */
void vmm_transfer_start_buffer(struct vmm_transfer *t, struct vmm_block *disk, uint32_t op,
                               uint32_t flags, uint64_t offset, void *buffer, uint64_t length);
/* If it is under way, wait until nothing touches guest memory any more; its end is dropped. */
void vmm_transfer_abandon(struct vmm_transfer *t);

#endif
