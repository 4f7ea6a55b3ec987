/* SPDX-License-Identifier: BSD-3-Clause */
/* The controller's registers and doorbells (NVMe 1.4 §3.1), enabling, reset and shutdown. */
#include "devices/storage/nvme-internal.h"

#include <unistd.h>

#define REG_CAP   0x00u
#define REG_VS    0x08u
#define REG_INTMS 0x0cu
#define REG_INTMC 0x10u
#define REG_CC    0x14u
#define REG_CSTS  0x1cu
#define REG_AQA   0x24u
#define REG_ASQ   0x28u
#define REG_ACQ   0x30u

/* MQES, contiguous queues, 20 s to get ready (nothing takes long), doorbells of 4 bytes, the NVM command
 * set, pages of 4 KiB. */
#define CAP_VALUE ((NVME_ENTRIES - 1) | UINT64_C(1) << 16 | UINT64_C(40) << 24 | UINT64_C(1) << 37)
#define VERSION   0x00010400u
#define CC_MASK   0x00fffff1u
#define AQA_MASK  0x0fff0fffu

/* Enabling, stopping --------------------------------------------------------------------------- */

/* Command set, memory page size and arbitration: there is one of each. */
static bool configuration_ok(const struct vmm_nvme *n)
{
    uint32_t sq = n->aqa & 0xfff, cq = n->aqa >> 16 & 0xfff;
    return !(n->cc & 0x3ff0) && sq && cq && n->asq && n->acq;
}

static void enable(struct vmm_nvme *n)
{
    if (!configuration_ok(n)) {
        vmm_nvme_fatal(n, "enabled with a configuration that there is not");
        return;
    }
    n->sqs[0] = (struct nvme_sq){.base = n->asq, .size = (n->aqa & 0xfff) + 1};
    n->cqs[0] = (struct nvme_cq){.base = n->acq,
                                 .size = (n->aqa >> 16 & 0xfff) + 1,
                                 .phase = true,
                                 .interrupts = true,
                                 .users = 1};
    n->csts = CSTS_READY;
}

/* Requests that only we know of are free again; those in the backend are when they come back. */
static void drop_requests(struct vmm_nvme *n)
{
    for (uint32_t i = 0; i < n->depth; i++) {
        struct nvme_request *r = &n->requests[i];
        if (r->state != REQUEST_FREE && r->state != REQUEST_BLOCK)
            vmm_nvme_give_back(r);
    }
    n->queued = n->queued_last = NULL;
    n->aer_count = 0;
}

void vmm_nvme_stop(struct vmm_nvme *n)
{
    n->epoch++;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        if (n->namespaces[i])
            vmm_block_quiesce(n->namespaces[i]->block);
    drop_requests(n);
    memset(n->sqs, 0, sizeof(n->sqs));
    memset(n->cqs, 0, sizeof(n->cqs));
    for (uint32_t i = 0; i < 4; i++)
        atomic_store(&n->rung[i / 2][i % 2], 0);
    for (uint32_t i = 0; i < 2 * NVME_QUEUES; i++)
        atomic_store(&n->doorbells[i / NVME_QUEUES][i % NVME_QUEUES], 0);
    vmm_nvme_want_events(n, 0);
    vmm_memory_view_drop(&n->view);
    n->shadow = n->event_index = 0;
    n->stalled = n->shutdown_wanted = false;
    memset(&n->events, 0, sizeof(n->events));
    memset(n->changed, 0, sizeof(n->changed));
    vmm_nvme_default_features(n);
    n->csts = 0;
    n->interrupt_mask = 0;
    vmm_nvme_update_pin(n);
}

static void write_cc(struct vmm_nvme *n, uint32_t value)
{
    uint32_t old = n->cc;
    n->cc = value & CC_MASK;
    if ((old & CC_ENABLE) && !(value & CC_ENABLE))
        vmm_nvme_stop(n);
    else if (!(old & CC_ENABLE) && (value & CC_ENABLE))
        enable(n);
    uint32_t notice = n->cc >> 14 & 3; /* SHN: 1 normal, 2 abrupt */
    if (notice && !(n->csts & CSTS_SHST)) {
        n->csts |= CSTS_SHUTTING;
        n->shutdown_wanted = true;
        vmm_nvme_kick(n);
    }
}

/* Shutdown (§7.6.2): what was written is durable when it is complete. -------------------------- */

static void flushed(struct vmm_block_request *block, int result);

static void flush(struct nvme_namespace *ns)
{
    ns->flushing = true;
    ns->flush = (struct vmm_block_request){.op = VMM_BLOCK_FLUSH, .done = flushed, .ctx = ns};
    vmm_block_submit(ns->block, &ns->flush);
}

static void finish_shutdown(struct vmm_nvme *n)
{
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        if (n->namespaces[i] && n->namespaces[i]->flushing)
            return;
    if (n->csts & CSTS_SHUTTING)
        n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHUT;
}

/* A flush that fails is no reason to hold up a shutdown: the guest could do nothing about it. */
static void flushed(struct vmm_block_request *block, int result)
{
    struct nvme_namespace *ns = block->ctx;
    struct vmm_nvme *n = ns->nvme;
    pthread_mutex_lock(&n->lock);
    if (result)
        vmm_nvme_error(n, "the flush of a shutdown failed");
    ns->flushing = false;
    if (ns->again) {
        ns->again = false;
        flush(ns);
    }
    finish_shutdown(n);
    pthread_mutex_unlock(&n->lock);
}

void vmm_nvme_shut_down(struct vmm_nvme *n)
{
    n->shutdown_wanted = false;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++) {
        struct nvme_namespace *ns = n->namespaces[i];
        if (ns && ns->flushing)
            ns->again = true;
        else if (ns)
            flush(ns);
    }
    finish_shutdown(n);
}

/* Doorbells ------------------------------------------------------------------------------------ */

/* No lock: what it means is looked at by the loop. */
static void ring(struct vmm_nvme *n, uint64_t offset, uint32_t value)
{
    uint64_t index = (offset - NVME_DOORBELLS) / 4;
    uint32_t queue = (uint32_t)(index / 2), head = index & 1;
    if (index / 2 >= NVME_QUEUES)
        return;
    atomic_store(&n->doorbells[head][queue], value);
    atomic_fetch_or(&n->rung[head][queue / 64], UINT64_C(1) << queue % 64);
    if (!head || value >= NVME_ENTRIES || atomic_load(&n->heads_wanted))
        vmm_nvme_kick(n);
}

/* Reading and writing --------------------------------------------------------------------------- */

uint64_t vmm_nvme_bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct vmm_nvme *n = ctx;
    uint64_t value = 0;
    (void)bar;
    (void)width; /* always 4 */
    pthread_mutex_lock(&n->lock);
    switch (offset) {
    case REG_CAP:
        value = CAP_VALUE;
        break;
    case REG_CAP + 4:
        value = CAP_VALUE >> 32;
        break;
    case REG_VS:
        value = VERSION;
        break;
    case REG_INTMS:
    case REG_INTMC:
        value = n->interrupt_mask;
        break;
    case REG_CC:
        value = n->cc;
        break;
    case REG_CSTS:
        value = n->csts;
        break;
    case REG_AQA:
        value = n->aqa;
        break;
    case REG_ASQ:
    case REG_ASQ + 4:
        value = n->asq >> 8 * (offset - REG_ASQ);
        break;
    case REG_ACQ:
    case REG_ACQ + 4:
        value = n->acq >> 8 * (offset - REG_ACQ);
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&n->lock);
    return value & UINT32_MAX;
}

static void put_half(uint64_t *reg, bool high, uint32_t value)
{
    *reg = high ? (*reg & UINT32_MAX) | (uint64_t)value << 32
                : (*reg & ~(uint64_t)UINT32_MAX) | (value & ~(NVME_PAGE - 1));
}

static void write_register(struct vmm_nvme *n, uint64_t offset, uint32_t value)
{
    bool enabled = n->cc & CC_ENABLE;
    switch (offset) {
    case REG_INTMS:
    case REG_INTMC:
        n->interrupt_mask =
            offset == REG_INTMS ? n->interrupt_mask | value : n->interrupt_mask & ~value;
        vmm_nvme_update_pin(n);
        break;
    case REG_CC:
        write_cc(n, value);
        break;
    case REG_AQA:
        if (!enabled)
            n->aqa = value & AQA_MASK;
        break;
    case REG_ASQ:
    case REG_ASQ + 4:
        if (!enabled)
            put_half(&n->asq, offset != REG_ASQ, value);
        break;
    case REG_ACQ:
    case REG_ACQ + 4:
        if (!enabled)
            put_half(&n->acq, offset != REG_ACQ, value);
        break;
    default:
        break;
    }
}

void vmm_nvme_bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_nvme *n = ctx;
    (void)bar;
    (void)width;
    if (offset >= NVME_DOORBELLS) {
        ring(n, offset, (uint32_t)value);
        return;
    }
    pthread_mutex_lock(&n->lock);
    write_register(n, offset, (uint32_t)value);
    pthread_mutex_unlock(&n->lock);
}

/* Doorbells without an exit ---------------------------------------------------------------------
 * An ioeventfd loses the value, so it serves once the guest keeps the values in memory (§5.7). One that
 * the host refuses costs time only. */

static struct vmm_ioeventfd event_of(const struct vmm_nvme *n, uint32_t queue)
{
    struct vmm_ioeventfd e = VMM_IOEVENTFD_INIT;
    e.space = VMM_SPACE_MMIO;
    e.length = 4;
    e.address = n->place + NVME_DOORBELLS + UINT64_C(8) * queue;
    e.fd = n->kick_fd;
    return e;
}

static void set_events(struct vmm_nvme *n, uint32_t count)
{
    while (n->have_events > count) {
        const struct vmm_ioeventfd e = event_of(n, n->have_events--);
        (void)vmm_vm_ioeventfd_remove(n->vm, &e);
    }
    while (n->have_events < count) {
        const struct vmm_ioeventfd e = event_of(n, n->have_events + 1);
        if (vmm_vm_ioeventfd_add(n->vm, &e))
            return;
        n->have_events++;
    }
}

void vmm_nvme_want_events(struct vmm_nvme *n, uint32_t count)
{
    if (!n->vm)
        return;
    pthread_mutex_lock(&n->place_lock);
    n->wanted_events = count;
    set_events(n, n->placed ? count : 0);
    pthread_mutex_unlock(&n->place_lock);
}

void vmm_nvme_bar_placed(void *ctx, uint32_t bar, bool enabled, uint64_t address)
{
    struct vmm_nvme *n = ctx;
    if (bar != NVME_BAR || !n->vm)
        return;
    pthread_mutex_lock(&n->place_lock);
    set_events(n, 0);
    n->place = address;
    n->placed = enabled;
    set_events(n, enabled ? n->wanted_events : 0);
    pthread_mutex_unlock(&n->place_lock);
}
