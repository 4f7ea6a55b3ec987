/* SPDX-License-Identifier: BSD-3-Clause */
/* Submission and completion queues (NVMe 1.4 §4.1, §4.6), and interrupts (§7.5). */
#include "devices/storage/nvme-internal.h"

#define BATCH 64u /* commands of one queue before it is the next one's turn */

/* Requests ------------------------------------------------------------------------------------- */

struct nvme_request *vmm_nvme_take(struct vmm_nvme *n)
{
    struct nvme_request *r = n->free;
    if (!r)
        return NULL;
    n->free = r->next;
    r->next = NULL;
    r->epoch = n->epoch;
    r->step = 0;
    r->result = 0;
    r->data_length = 0;
    r->held.token = NULL;
    return r;
}

void vmm_nvme_give_back(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    vmm_nvme_let_go(r, 0);
    r->state = REQUEST_FREE;
    r->next = n->free;
    n->free = r;
    if (n->stalled) {
        n->stalled = false;
        vmm_nvme_kick(n);
    }
}

/* Doorbells ------------------------------------------------------------------------------------ */

static uint32_t shadow_load(struct vmm_nvme *n, uint32_t index, uint32_t otherwise)
{
    uint32_t value;
    if (vmm_memory_view_load_u32(&n->view, n->shadow + UINT64_C(4) * index, &value) == 0)
        return value;
    vmm_nvme_fatal(n, "shadow doorbells that are not in memory");
    return otherwise;
}

/* "Tell me when you go beyond this." What came before it was seen is looked for once more. */
static void want_event(struct vmm_nvme *n, uint32_t index, uint32_t value)
{
    if (vmm_memory_view_store_u32(&n->view, n->event_index + UINT64_C(4) * index, value))
        vmm_nvme_fatal(n, "an event index that is not in memory");
    atomic_thread_fence(memory_order_seq_cst);
}

static bool shadowed(const struct vmm_nvme *n, uint32_t queue)
{
    return n->shadow && queue;
}

/* §5.2.1: 1 is an invalid value of a doorbell, 0 is the doorbell of no queue. */
static void bad_doorbell(struct vmm_nvme *n, uint8_t info)
{
    vmm_nvme_error(n, info ? "a doorbell's value beyond the queue" : "a doorbell of no queue");
    vmm_nvme_event(n, EVENT_ERROR, info, 1);
}

void vmm_nvme_load_head(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_cq *cq = &n->cqs[queue];
    uint32_t head = shadowed(n, queue) ? shadow_load(n, 2 * queue + 1, cq->head)
                                       : atomic_load(&n->doorbells[1][queue]);
    if (head >= cq->size) {
        bad_doorbell(n, 1);
        atomic_store(&n->doorbells[1][queue], cq->head);
        return;
    }
    cq->head = head;
}

static void load_tail(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_sq *sq = &n->sqs[queue];
    uint32_t tail = shadowed(n, queue) ? shadow_load(n, 2 * queue, sq->tail)
                                       : atomic_load(&n->doorbells[0][queue]);
    if (tail >= sq->size) {
        bad_doorbell(n, 1);
        atomic_store(&n->doorbells[0][queue], sq->tail);
        return;
    }
    sq->tail = tail;
}

/* What was written since the last turn. A bit that is set for no queue is the guest's mistake. */
static void hear(struct vmm_nvme *n)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t head = i / 2, word = i % 2;
        uint64_t bits = atomic_exchange(&n->rung[head][word], 0);
        for (; bits; bits &= bits - 1) {
            uint32_t queue = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (!(head ? n->cqs[queue].size : n->sqs[queue].size))
                bad_doorbell(n, 0);
            else if (head)
                vmm_nvme_load_head(n, queue);
            else
                load_tail(n, queue);
        }
    }
}

/* Completion ----------------------------------------------------------------------------------- */

static void push(struct nvme_cq *cq, struct nvme_request *r)
{
    r->next = NULL;
    r->state = REQUEST_POSTING;
    if (cq->last)
        cq->last->next = r;
    else
        cq->waiting = r;
    cq->last = r;
}

/* The phase bit stands in the last dword, which is written last. */
static bool put_reply(struct vmm_nvme *n, struct nvme_cq *cq, const struct nvme_request *r)
{
    uint8_t reply[NVME_REPLY] = {0};
    uint64_t at = cq->base + (uint64_t)cq->tail * NVME_REPLY;
    vmm_store_le32(reply, r->result);
    vmm_store_le16(reply + 8, (uint16_t)n->sqs[r->sq].head);
    vmm_store_le16(reply + 10, (uint16_t)r->sq);
    uint32_t last = r->cid | (r->status << 1 | cq->phase) << 16;
    if (vmm_memory_view_write(&n->view, at, reply, 12))
        return false;
    atomic_thread_fence(memory_order_release);
    return vmm_memory_view_store_u32(&n->view, at + 12, last) == 0;
}

static bool full(const struct nvme_cq *cq)
{
    return (cq->tail + 1 == cq->size ? 0 : cq->tail + 1) == cq->head;
}

/* A guest that moves a full queue's head wakes us only if it knows that we wait. */
static bool wait_for_room(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_cq *cq = &n->cqs[queue];
    if (!full(cq))
        return false;
    vmm_nvme_load_head(n, queue);
    if (!full(cq))
        return false;
    atomic_store(&n->heads_wanted, true);
    if (shadowed(n, queue))
        want_event(n, 2 * queue + 1, cq->head);
    vmm_nvme_load_head(n, queue);
    return full(cq);
}

/* A queue that waits to be deleted goes when the last of its commands has been answered. */
static void answered(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_sq *sq = &n->sqs[queue];
    sq->in_flight--;
    if (sq->in_flight || !sq->deleter)
        return;
    struct nvme_request *r = sq->deleter;
    n->cqs[sq->cq].users--;
    *sq = (struct nvme_sq){0};
    vmm_nvme_complete(r, ST_OK);
}

void vmm_nvme_post(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_cq *cq = &n->cqs[queue];
    while (cq->waiting && !(n->csts & CSTS_FATAL) && !wait_for_room(n, queue)) {
        struct nvme_request *r = cq->waiting;
        if (!put_reply(n, cq, r)) {
            vmm_nvme_fatal(n, "a completion queue that is not in memory");
            return;
        }
        cq->waiting = r->next;
        if (!cq->waiting)
            cq->last = NULL;
        cq->tail = cq->tail + 1 == cq->size ? 0 : cq->tail + 1;
        cq->phase ^= cq->tail == 0;
        cq->signal = true;
        uint32_t sq = r->sq;
        vmm_nvme_give_back(r);
        answered(n, sq);
    }
}

void vmm_nvme_complete(struct nvme_request *r, uint32_t status)
{
    struct vmm_nvme *n = r->nvme;
    r->status = status & 0x7fff;
    if (status != ST_OK)
        vmm_nvme_log_error(r, r->status);
    push(&n->cqs[r->cq], r);
    vmm_nvme_post(n, r->cq);
}

/* Interrupts ----------------------------------------------------------------------------------- */

/* The pin is high while a queue that interrupts holds what the guest has not taken. */
void vmm_nvme_update_pin(struct vmm_nvme *n)
{
    bool pin = false;
    for (uint32_t i = 0; i < NVME_QUEUES; i++) {
        const struct nvme_cq *cq = &n->cqs[i];
        pin = pin || (cq->size && cq->interrupts && cq->head != cq->tail);
    }
    pin = pin && !(n->interrupt_mask & 1);
    if (pin != n->pin)
        vmm_pci_set_intx(n->pci, pin);
    n->pin = pin;
}

void vmm_nvme_signal(struct vmm_nvme *n)
{
    uint32_t mode = vmm_pci_interrupt_mode(n->pci);
    for (uint32_t i = 0; i <= n->queues; i++) {
        struct nvme_cq *cq = &n->cqs[i];
        if (cq->signal && cq->interrupts && mode != VMM_PCI_INTX)
            (void)vmm_pci_signal(n->pci, cq->vector);
        cq->signal = false;
    }
    if (mode == VMM_PCI_INTX || n->pin) {
        /* Heads matter now: hear of each. */
        atomic_store(&n->heads_wanted, true);
        for (uint32_t i = 0; i <= n->queues; i++)
            if (n->cqs[i].size && n->cqs[i].head != n->cqs[i].tail)
                vmm_nvme_load_head(n, i);
        vmm_nvme_update_pin(n);
    }
}

/* Submission ----------------------------------------------------------------------------------- */

static void carry_out(struct nvme_request *r)
{
    uint8_t flags = r->command[1];
    uint32_t status;
    if (flags & 3) /* fused operations (§6.2) */
        status = ST_INVALID_FIELD;
    else
        status = r->sq ? vmm_nvme_io(r) : vmm_nvme_admin(r);
    if (status != ST_LATER)
        vmm_nvme_complete(r, status);
}

static bool fetch(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_sq *sq = &n->sqs[queue];
    struct nvme_request *r = vmm_nvme_take(n);
    if (!r) {
        n->stalled = true;
        return false;
    }
    if (vmm_memory_view_read(&n->view, sq->base + (uint64_t)sq->head * NVME_COMMAND, r->command,
                             NVME_COMMAND)) {
        vmm_nvme_give_back(r);
        vmm_nvme_fatal(n, "a submission queue that is not in memory");
        return false;
    }
    sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1;
    sq->in_flight++;
    r->sq = queue;
    r->cq = sq->cq;
    r->cid = vmm_load_le16(r->command + 2);
    carry_out(r);
    return true;
}

static bool more(struct vmm_nvme *n, uint32_t queue)
{
    struct nvme_sq *sq = &n->sqs[queue];
    if (!sq->size || sq->deleter || (n->csts & CSTS_FATAL))
        return false;
    if (sq->head == sq->tail && shadowed(n, queue)) {
        load_tail(n, queue);
        if (sq->head == sq->tail) {
            want_event(n, 2 * queue, sq->tail);
            load_tail(n, queue);
        }
    }
    return sq->size && sq->head != sq->tail && !(n->csts & CSTS_FATAL);
}

static void unplug(struct vmm_nvme *n)
{
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++) {
        struct nvme_namespace *ns = n->namespaces[i];
        if (ns && ns->plugged) {
            ns->plugged = false;
            vmm_block_unplug(ns->block);
        }
    }
}

/* Every queue has its turn, beginning with another one each time. What is left goes on in the loop's next
 * turn, when others have had theirs. */
static void run_queues(struct vmm_nvme *n)
{
    bool again = false;
    n->next_sq = n->next_sq >= n->queues ? 0 : n->next_sq + 1;
    for (uint32_t i = 0; i <= n->queues && !(n->csts & CSTS_FATAL); i++) {
        uint32_t queue = (n->next_sq + i) % (n->queues + 1), left = BATCH;
        while (left && !n->stalled && more(n, queue) && fetch(n, queue))
            left--;
        again = again || (!left && more(n, queue));
    }
    if (again && !n->stalled)
        vmm_nvme_kick(n);
}

/* A function that may not reach memory (PCI's Bus Master Enable is 0) waits until it may. */
static bool may_run(struct vmm_nvme *n)
{
    uint8_t nothing;
    return (n->csts & (CSTS_READY | CSTS_FATAL)) == CSTS_READY &&
           vmm_pci_dma_read(n->pci, 0, &nothing, 0) != -EACCES;
}

void vmm_nvme_run(struct vmm_nvme *n)
{
    atomic_store(&n->heads_wanted, false);
    if (may_run(n)) {
        hear(n);
        for (uint32_t i = 0; i <= n->queues; i++)
            if (n->cqs[i].waiting)
                vmm_nvme_post(n, i);
        n->running = true;
        run_queues(n);
        n->running = false;
        unplug(n);
        vmm_nvme_signal(n);
    }
    if (n->shutdown_wanted)
        vmm_nvme_shut_down(n);
}
