/* SPDX-License-Identifier: BSD-3-Clause */
/* Admin commands (NVMe 1.4 §5): queues, features, Abort, shadow doorbells. */
#include "devices/storage/nvme-internal.h"

#define ADMIN_DELETE_SQ    0x00u
#define ADMIN_CREATE_SQ    0x01u
#define ADMIN_LOG_PAGE     0x02u
#define ADMIN_DELETE_CQ    0x04u
#define ADMIN_CREATE_CQ    0x05u
#define ADMIN_IDENTIFY     0x06u
#define ADMIN_ABORT        0x08u
#define ADMIN_SET_FEATURES 0x09u
#define ADMIN_GET_FEATURES 0x0au
#define ADMIN_EVENT        0x0cu
#define ADMIN_DOORBELLS    0x7cu
#define ADMIN_FORMAT       0x80u

#define FEATURE_ARBITRATION 0x01u
#define FEATURE_POWER       0x02u
#define FEATURE_TEMPERATURE 0x04u
#define FEATURE_RECOVERY    0x05u
#define FEATURE_CACHE       0x06u
#define FEATURE_QUEUES      0x07u
#define FEATURE_COALESCING  0x08u
#define FEATURE_VECTOR      0x09u
#define FEATURE_ATOMICITY   0x0au
#define FEATURE_EVENTS      0x0bu

#define SAVE_BIT  0x80000000u
#define CC_SIZES  0x00ff0000u
#define SIZES_NVM 0x00460000u /* CC.IOCQES and IOSQES: 16 and 64 bytes */

/* Queues --------------------------------------------------------------------------------------- */

static uint32_t check_new_queue(const struct nvme_request *r, bool exists)
{
    uint32_t id = nvme_dword(r, 10) & 0xffff, size = nvme_dword(r, 10) >> 16;
    if (id == 0 || id > r->nvme->queues || exists)
        return ST_QUEUE_ID;
    if (size == 0 || size >= NVME_ENTRIES || (r->nvme->cc & CC_SIZES) != SIZES_NVM)
        return ST_QUEUE_SIZE;
    if (!(nvme_dword(r, 11) & 1) || r->command[1] >> 6) /* contiguous ones only, no SGL */
        return ST_INVALID_FIELD;
    uint64_t at = nvme_qword(r, 6);
    return at % NVME_PAGE || !vmm_range_ok(at, NVME_ENTRIES * NVME_COMMAND) ? ST_PRP_OFFSET : ST_OK;
}

static uint32_t create_cq(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xffff, vector = nvme_dword(r, 11) >> 16;
    uint32_t status = check_new_queue(r, id < NVME_QUEUES && n->cqs[id].size);
    if (status)
        return status;
    if (vector > n->queues)
        return ST_INTERRUPT_VECTOR;
    atomic_store(&n->doorbells[1][id], 0);
    n->cqs[id] = (struct nvme_cq){.base = nvme_qword(r, 6),
                                  .size = (nvme_dword(r, 10) >> 16) + 1,
                                  .vector = vector,
                                  .phase = true,
                                  .interrupts = nvme_dword(r, 11) & 2};
    return ST_OK;
}

static uint32_t create_sq(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xffff, cq = nvme_dword(r, 11) >> 16;
    uint32_t status = check_new_queue(r, id < NVME_QUEUES && n->sqs[id].size);
    if (status)
        return status;
    if (cq == 0 || cq > n->queues || !n->cqs[cq].size)
        return ST_CQ_INVALID;
    atomic_store(&n->doorbells[0][id], 0);
    n->sqs[id] =
        (struct nvme_sq){.base = nvme_qword(r, 6), .size = (nvme_dword(r, 10) >> 16) + 1, .cq = cq};
    n->cqs[cq].users++;
    if (n->shadow && id > n->wanted_events)
        vmm_nvme_want_events(n, id);
    return ST_OK;
}

/* §5.6: it is answered after all commands of the queue. */
static uint32_t delete_sq(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xffff;
    if (id == 0 || id > n->queues || !n->sqs[id].size || n->sqs[id].deleter)
        return ST_QUEUE_ID;
    struct nvme_sq *sq = &n->sqs[id];
    if (sq->in_flight) {
        sq->deleter = r;
        r->state = REQUEST_DELETE;
        return ST_LATER;
    }
    n->cqs[sq->cq].users--;
    *sq = (struct nvme_sq){0};
    return ST_OK;
}

static uint32_t delete_cq(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xffff;
    if (id == 0 || id > n->queues || !n->cqs[id].size)
        return ST_QUEUE_ID;
    if (n->cqs[id].users)
        return ST_QUEUE_DELETION;
    n->cqs[id] = (struct nvme_cq){0};
    return ST_OK;
}

static uint32_t shadow_doorbells(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint64_t shadow = nvme_qword(r, 6), event_index = nvme_qword(r, 8);
    uint32_t top = 0;
    if (!shadow || !event_index || shadow % NVME_PAGE || event_index % NVME_PAGE)
        return ST_INVALID_FIELD;
    if (!vmm_memory_valid(n->memory, shadow, NVME_PAGE, false) ||
        !vmm_memory_valid(n->memory, event_index, NVME_PAGE, true))
        return ST_DATA_TRANSFER;
    n->shadow = shadow;
    n->event_index = event_index;
    for (uint32_t i = 1; i <= n->queues; i++)
        top = n->sqs[i].size ? i : top;
    vmm_nvme_want_events(n, top);
    return ST_OK;
}

/* Abort (§5.1) --------------------------------------------------------------------------------- */

static struct nvme_request *find_command(struct vmm_nvme *n, uint32_t sq, uint16_t cid)
{
    for (uint32_t i = 0; i < n->depth; i++) {
        struct nvme_request *r = &n->requests[i];
        if (r->state != REQUEST_FREE && r->epoch == n->epoch && r->sq == sq && r->cid == cid)
            return r;
    }
    return NULL;
}

static void forget_queued(struct vmm_nvme *n, struct nvme_request *r)
{
    struct nvme_request *previous = NULL;
    for (struct nvme_request *q = n->queued; q != r; q = q->next)
        previous = q;
    if (previous)
        previous->next = r->next;
    else
        n->queued = r->next;
    if (n->queued_last == r)
        n->queued_last = previous;
}

static void forget_event(struct vmm_nvme *n, struct nvme_request *r)
{
    for (uint32_t i = 0; i < n->aer_count; i++)
        if (n->aers[i] == r)
            n->aers[i] = n->aers[--n->aer_count];
}

/* The answer's bit 0 says that the command was not aborted; it may yet end early. */
static uint32_t abort_command(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t what = nvme_dword(r, 10);
    struct nvme_request *other = find_command(n, what & 0xffff, (uint16_t)(what >> 16));
    r->result = 1;
    if (!other || other == r)
        return ST_OK;
    if (other->state == REQUEST_QUEUED)
        forget_queued(n, other);
    else if (other->state == REQUEST_EVENT)
        forget_event(n, other);
    if (other->state == REQUEST_QUEUED || other->state == REQUEST_EVENT) {
        r->result = 0;
        vmm_nvme_complete(other, ST_ABORTED);
    } else if (other->state == REQUEST_BLOCK) {
        struct nvme_namespace *ns = vmm_nvme_namespace(n, nvme_dword(other, 1));
        if (ns)
            vmm_block_cancel(ns->block, &other->block);
    }
    return ST_OK;
}

/* Features (§5.21) ----------------------------------------------------------------------------- */

void vmm_nvme_default_features(struct vmm_nvme *n)
{
    n->features = (struct nvme_features){
        .arbitration = 7, /* no limit to a burst */
        .over = 343,      /* K */
        .write_cache = 1,
    };
}

/* The feature's place; NULL: it is none, or not a plain number. */
static uint32_t *feature(struct vmm_nvme *n, uint32_t id, uint32_t dword11)
{
    struct nvme_features *f = &n->features;
    switch (id) {
    case FEATURE_ARBITRATION:
        return &f->arbitration;
    case FEATURE_POWER:
        return &f->power;
    case FEATURE_TEMPERATURE: /* of the composite sensor: over, under */
        if (dword11 & 0xf0000 || (dword11 >> 20 & 3) > 1)
            return NULL;
        return dword11 >> 20 & 1 ? &f->under : &f->over;
    case FEATURE_RECOVERY:
        return &f->recovery;
    case FEATURE_CACHE:
        return &f->write_cache;
    case FEATURE_COALESCING:
        return &f->coalescing;
    case FEATURE_ATOMICITY:
        return &f->atomicity;
    case FEATURE_EVENTS:
        return &f->events;
    default:
        return NULL;
    }
}

static uint32_t queues_offered(const struct vmm_nvme *n)
{
    return (n->queues - 1) | (n->queues - 1) << 16;
}

/* Bits of each that mean something. */
static uint32_t feature_mask(uint32_t id)
{
    switch (id) {
    case FEATURE_ARBITRATION:
        return 0xffffff07;
    case FEATURE_POWER:
        return 0xff;
    case FEATURE_TEMPERATURE:
    case FEATURE_RECOVERY:
    case FEATURE_COALESCING:
        return 0xffff;
    case FEATURE_EVENTS:
        return 0x1ff;
    default:
        return 1;
    }
}

static uint32_t set_features(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xff, value = nvme_dword(r, 11);
    if (nvme_dword(r, 10) & SAVE_BIT)
        return ST_FEATURE_NOT_SAVED;
    if (id == FEATURE_QUEUES) {
        r->result = queues_offered(n);
        return (value & 0xffff) == 0xffff || value >> 16 == 0xffff ? ST_INVALID_FIELD : ST_OK;
    }
    if (id == FEATURE_VECTOR) {
        if ((value & 0xffff) > n->queues)
            return ST_INVALID_FIELD;
        n->features.vector_coalescing[value & 0xffff] = value >> 16 & 1;
        return ST_OK;
    }
    uint32_t *place = feature(n, id, value);
    if (!place || (id == FEATURE_POWER && value & 0x1f)) /* there is power state 0 only */
        return ST_INVALID_FIELD;
    *place = value & feature_mask(id);
    if (id == FEATURE_TEMPERATURE || id == FEATURE_EVENTS)
        vmm_nvme_check_health(n);
    return ST_OK;
}

static uint32_t get_features(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint32_t id = nvme_dword(r, 10) & 0xff, which = nvme_dword(r, 11);
    if (nvme_dword(r, 10) >> 8 & 7) /* only current values: Select is not supported (ONCS) */
        return ST_INVALID_FIELD;
    if (id == FEATURE_QUEUES) {
        r->result = queues_offered(n);
        return ST_OK;
    }
    if (id == FEATURE_VECTOR) {
        if ((which & 0xffff) > n->queues)
            return ST_INVALID_FIELD;
        r->result = (which & 0xffff) | (uint32_t)n->features.vector_coalescing[which & 0xffff]
                                           << 16;
        return ST_OK;
    }
    const uint32_t *place = feature(n, id, which);
    if (!place)
        return ST_INVALID_FIELD;
    r->result = *place;
    return ST_OK;
}

uint32_t vmm_nvme_admin(struct nvme_request *r)
{
    switch (nvme_opcode(r)) {
    case ADMIN_DELETE_SQ:
        return delete_sq(r);
    case ADMIN_CREATE_SQ:
        return create_sq(r);
    case ADMIN_LOG_PAGE:
        return vmm_nvme_log_page(r);
    case ADMIN_DELETE_CQ:
        return delete_cq(r);
    case ADMIN_CREATE_CQ:
        return create_cq(r);
    case ADMIN_IDENTIFY:
        return vmm_nvme_identify(r);
    case ADMIN_ABORT:
        return abort_command(r);
    case ADMIN_SET_FEATURES:
        return set_features(r);
    case ADMIN_GET_FEATURES:
        return get_features(r);
    case ADMIN_EVENT:
        return vmm_nvme_event_request(r);
    case ADMIN_DOORBELLS:
        return shadow_doorbells(r);
    case ADMIN_FORMAT:
        return vmm_nvme_format(r);
    default:
        return ST_INVALID_OPCODE;
    }
}
