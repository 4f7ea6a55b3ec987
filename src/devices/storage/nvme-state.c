/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saving and loading the controller. Nothing is in a backend in a saved one: all has ended. What remains
 * of commands are answers that wait for room, Asynchronous Event Requests, and deletions of queues that
 * wait for such answers; commands that were not fetched are in the guest's memory.
 */
#include "devices/storage/nvme-internal.h"

#include <stdlib.h>

#define QUEUE_BYTES   36u /* base, size, head, tail, queue or vector, flags, both doorbells */
#define REQUEST_BYTES 20u
#define COUNTERS      5u
#define ERROR_BYTES   32u
#define FEATURES      9u

#define FLAG_PHASE      1u
#define FLAG_INTERRUPTS 2u

struct loaded {
    uint32_t cc, csts, aqa, mask, shutdown;
    uint64_t asq, acq, shadow, event_index;
    struct nvme_sq sqs[NVME_QUEUES];
    struct nvme_cq cqs[NVME_QUEUES];
    uint32_t doorbells[2][NVME_QUEUES];
    struct nvme_features features;
    struct nvme_events events;
    uint8_t changed[VMM_NVME_NAMESPACES + 1];
    uint64_t counters[COUNTERS];
    struct nvme_error errors[NVME_ERRORS];
    const uint8_t *requests;
    uint32_t request_count;
};

/* Saving --------------------------------------------------------------------------------------- */

static bool busy(struct vmm_nvme *n)
{
    bool any = false;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        any = any || (n->namespaces[i] && vmm_block_in_flight(n->namespaces[i]->block));
    return any;
}

/* What ends may begin something on another namespace. */
static void drain(struct vmm_nvme *n)
{
    while (busy(n))
        for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
            if (n->namespaces[i])
                vmm_block_drain(n->namespaces[i]->block);
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    vmm_store_le32(at, value);
    return at + 4;
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
    vmm_store_le64(at, value);
    return at + 8;
}

static int save_queues(struct vmm_nvme *n, struct vmm_state_writer *w)
{
    uint8_t raw[NVME_QUEUES * 2 * QUEUE_BYTES], *at = raw;
    for (uint32_t i = 0; i <= n->queues; i++) {
        const struct nvme_sq *sq = &n->sqs[i];
        const struct nvme_cq *cq = &n->cqs[i];
        at = put32(put32(put32(put64(at, sq->base), sq->size), sq->head), sq->tail);
        at = put32(put32(put32(at, sq->cq), 0), atomic_load(&n->doorbells[0][i]));
        at = put32(at, 0);
        at = put32(put32(put32(put64(at, cq->base), cq->size), cq->head), cq->tail);
        at = put32(at, cq->vector);
        at = put32(at, (cq->phase ? FLAG_PHASE : 0) | (cq->interrupts ? FLAG_INTERRUPTS : 0));
        at = put32(put32(at, 0), atomic_load(&n->doorbells[1][i]));
    }
    return vmm_state_put_bytes(w, "queues", raw, (size_t)(at - raw));
}

static uint8_t *put_request(uint8_t *at, const struct nvme_request *r, uint32_t result)
{
    at = put32(put32(put32(at, r->state), r->sq), r->cid);
    return put32(put32(at, r->status), result);
}

static int save_requests(struct vmm_nvme *n, struct vmm_state_writer *w)
{
    uint8_t *raw = malloc((size_t)n->depth * REQUEST_BYTES), *at = raw;
    if (!raw)
        return -ENOMEM;
    for (uint32_t i = 0; i <= n->queues; i++)
        for (struct nvme_request *r = n->cqs[i].waiting; r; r = r->next)
            at = put_request(at, r, r->result);
    for (uint32_t i = 0; i < n->aer_count; i++)
        at = put_request(at, n->aers[i], 0);
    for (uint32_t i = 1; i <= n->queues; i++)
        if (n->sqs[i].deleter)
            at = put_request(at, n->sqs[i].deleter, i);
    int rc = vmm_state_put_bytes(w, "requests", raw, (size_t)(at - raw));
    free(raw);
    return rc;
}

static int save_namespaces(struct vmm_nvme *n, struct vmm_state_writer *w)
{
    uint8_t raw[VMM_NVME_NAMESPACES * 16], *at = raw;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        if (n->namespaces[i])
            at = put64(put32(put32(at, i), n->namespaces[i]->shift), n->namespaces[i]->blocks);
    return vmm_state_put_bytes(w, "namespaces", raw, (size_t)(at - raw));
}

static int save_features(struct vmm_nvme *n, struct vmm_state_writer *w)
{
    const struct nvme_features *f = &n->features;
    const uint32_t values[FEATURES] = {f->arbitration, f->power,     f->over,
                                       f->under,       f->recovery,  f->write_cache,
                                       f->coalescing,  f->atomicity, f->events};
    uint8_t raw[4 * FEATURES + NVME_QUEUES], *at = raw;
    for (uint32_t i = 0; i < FEATURES; i++)
        at = put32(at, values[i]);
    memcpy(at, f->vector_coalescing, NVME_QUEUES);
    return vmm_state_put_bytes(w, "features", raw, sizeof(raw));
}

static int save_logs(struct vmm_nvme *n, struct vmm_state_writer *w)
{
    uint8_t raw[8 * COUNTERS + NVME_ERRORS * ERROR_BYTES] = {0}, *at = raw;
    at = put64(put64(put64(at, n->read_units), n->written_units), n->reads);
    at = put64(put64(at, n->writes), n->error_count);
    for (uint32_t i = 0; i < NVME_ERRORS; i++) {
        const struct nvme_error *e = &n->errors[i];
        at = put32(put64(put64(at, e->count), e->lba), e->namespace);
        at = put32(put32(put32(at, e->sq), e->cid), e->status);
    }
    (void)vmm_state_put_bytes(w, "logs", raw, sizeof(raw));
    (void)vmm_state_put_bytes(w, "changed", n->changed, sizeof(n->changed));
    uint8_t events[4 * EVENT_TYPES];
    for (uint32_t i = 0; i < EVENT_TYPES; i++) {
        events[4 * i] = n->events.pending[i];
        events[4 * i + 1] = n->events.masked[i];
        events[4 * i + 2] = n->events.info[i];
        events[4 * i + 3] = n->events.page[i];
    }
    return vmm_state_put_bytes(w, "events", events, sizeof(events));
}

int vmm_nvme_save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_nvme *n = ctx;
    drain(n);
    pthread_mutex_lock(&n->lock);
    (void)vmm_state_put_u32(w, "cc", n->cc);
    (void)vmm_state_put_u32(w, "csts", n->csts);
    (void)vmm_state_put_u32(w, "aqa", n->aqa);
    (void)vmm_state_put_u64(w, "asq", n->asq);
    (void)vmm_state_put_u64(w, "acq", n->acq);
    (void)vmm_state_put_u32(w, "interrupt-mask", n->interrupt_mask);
    (void)vmm_state_put_u32(w, "shutdown-wanted", n->shutdown_wanted);
    (void)vmm_state_put_u64(w, "shadow", n->shadow);
    (void)vmm_state_put_u64(w, "event-index", n->event_index);
    (void)save_queues(n, w);
    (void)save_namespaces(n, w);
    (void)save_features(n, w);
    int rc = save_requests(n, w);
    rc = rc ? rc : save_logs(n, w);
    pthread_mutex_unlock(&n->lock);
    return rc;
}

/* Loading: reading ------------------------------------------------------------------------------ */

static int wrong(const struct vmm_nvme *n, struct vmm_error *err, const char *what)
{
    return vmm_error_set(err, -EINVAL, "%s/%s", n->name, what);
}

static int load_registers(struct vmm_nvme *n, struct vmm_state_reader *r, struct loaded *l,
                          struct vmm_error *err)
{
    int rc = vmm_state_get_u32(r, "cc", 0x00ffffff, &l->cc, err);
    rc = rc ? rc : vmm_state_get_u32(r, "csts", 0xf, &l->csts, err);
    rc = rc ? rc : vmm_state_get_u32(r, "aqa", UINT32_MAX, &l->aqa, err);
    rc = rc ? rc : vmm_state_get_u64(r, "asq", UINT64_MAX, &l->asq, err);
    rc = rc ? rc : vmm_state_get_u64(r, "acq", UINT64_MAX, &l->acq, err);
    rc = rc ? rc : vmm_state_get_u32(r, "interrupt-mask", UINT32_MAX, &l->mask, err);
    rc = rc ? rc : vmm_state_get_u32(r, "shutdown-wanted", 1, &l->shutdown, err);
    rc = rc ? rc : vmm_state_get_u64(r, "shadow", UINT64_MAX, &l->shadow, err);
    rc = rc ? rc : vmm_state_get_u64(r, "event-index", UINT64_MAX, &l->event_index, err);
    if (!rc && ((l->shadow | l->event_index) % NVME_PAGE || !l->shadow != !l->event_index))
        rc = wrong(n, err, "shadow: not a page's address");
    return rc;
}

static bool sq_ok(const struct loaded *l, uint32_t queues, uint32_t i)
{
    const struct nvme_sq *sq = &l->sqs[i];
    if (!sq->size)
        return true;
    return sq->size >= 2 && sq->size <= (i ? NVME_ENTRIES : 4096) && sq->head < sq->size &&
           sq->tail < sq->size && sq->cq <= queues && !sq->cq == !i && l->cqs[sq->cq].size &&
           sq->base % NVME_PAGE == 0 && vmm_range_ok(sq->base, (uint64_t)sq->size * NVME_COMMAND);
}

static bool cq_ok(const struct nvme_cq *cq, uint32_t queues, uint32_t i)
{
    if (!cq->size)
        return true;
    return cq->size >= 2 && cq->size <= (i ? NVME_ENTRIES : 4096) && cq->head < cq->size &&
           cq->tail < cq->size && cq->vector <= queues && cq->base % NVME_PAGE == 0 &&
           vmm_range_ok(cq->base, (uint64_t)cq->size * NVME_REPLY);
}

static int check_queues(const struct vmm_nvme *n, struct loaded *l, struct vmm_error *err)
{
    for (uint32_t i = 0; i <= n->queues; i++) {
        if (!sq_ok(l, n->queues, i) || !cq_ok(&l->cqs[i], n->queues, i))
            return vmm_error_set(err, -EINVAL, "%s/queues: queue %u makes no sense", n->name, i);
        if (l->sqs[i].size)
            l->cqs[l->sqs[i].cq].users++;
    }
    bool ready = l->csts & CSTS_READY;
    if (ready != (l->sqs[0].size && l->cqs[0].size) || (ready && !(l->cc & CC_ENABLE)))
        return wrong(n, err, "queues: an admin queue and no enabled controller, or the reverse");
    return 0;
}

static int load_queues(struct vmm_nvme *n, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    uint8_t raw[NVME_QUEUES * 2 * QUEUE_BYTES];
    int rc = vmm_state_get_bytes(r, "queues", raw, (n->queues + 1) * (size_t)2 * QUEUE_BYTES, err);
    for (uint32_t i = 0; i <= n->queues && !rc; i++) {
        const uint8_t *s = raw + (size_t)i * 2 * QUEUE_BYTES, *c = s + QUEUE_BYTES;
        l->sqs[i] = (struct nvme_sq){.base = vmm_load_le64(s),
                                     .size = vmm_load_le32(s + 8),
                                     .head = vmm_load_le32(s + 12),
                                     .tail = vmm_load_le32(s + 16),
                                     .cq = vmm_load_le32(s + 20)};
        l->doorbells[0][i] = vmm_load_le32(s + 28);
        l->cqs[i] = (struct nvme_cq){.base = vmm_load_le64(c),
                                     .size = vmm_load_le32(c + 8),
                                     .head = vmm_load_le32(c + 12),
                                     .tail = vmm_load_le32(c + 16),
                                     .vector = vmm_load_le32(c + 20),
                                     .phase = vmm_load_le32(c + 24) & FLAG_PHASE,
                                     .interrupts = vmm_load_le32(c + 24) & FLAG_INTERRUPTS};
        l->doorbells[1][i] = vmm_load_le32(c + 32);
    }
    return rc ? rc : check_queues(n, l, err);
}

static int check_namespaces(struct vmm_nvme *n, struct vmm_state_reader *r, struct vmm_error *err)
{
    const void *raw;
    size_t length, at = 0;
    int rc = vmm_state_get_blob(r, "namespaces", &raw, &length, err);
    if (rc)
        return rc;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++) {
        const struct nvme_namespace *ns = n->namespaces[i];
        const uint8_t *saved = (const uint8_t *)raw + at;
        if (!ns)
            continue;
        if (length - at < 16 || vmm_load_le32(saved) != i ||
            vmm_load_le32(saved + 4) != ns->shift || vmm_load_le64(saved + 8) != ns->blocks)
            return vmm_error_set(err, -EINVAL,
                                 "%s/namespaces: number %u was not saved, or has "
                                 "another size",
                                 n->name, i);
        at += 16;
    }
    return at == length ? 0 : wrong(n, err, "namespaces: more were saved than there are");
}

static int load_features(struct vmm_nvme *n, struct vmm_state_reader *r, struct loaded *l,
                         struct vmm_error *err)
{
    struct nvme_features *f = &l->features;
    uint32_t *const values[FEATURES] = {&f->arbitration, &f->power,     &f->over,
                                        &f->under,       &f->recovery,  &f->write_cache,
                                        &f->coalescing,  &f->atomicity, &f->events};
    uint8_t raw[4 * FEATURES + NVME_QUEUES];
    int rc = vmm_state_get_bytes(r, "features", raw, sizeof(raw), err);
    for (uint32_t i = 0; i < FEATURES && !rc; i++)
        *values[i] = vmm_load_le32(raw + 4 * i);
    for (uint32_t i = 0; i < NVME_QUEUES && !rc; i++) {
        f->vector_coalescing[i] = raw[4 * FEATURES + i];
        if (f->vector_coalescing[i] > 1)
            rc = wrong(n, err, "features: a switch that is neither on nor off");
    }
    return rc;
}

static int load_logs(struct vmm_nvme *n, struct vmm_state_reader *r, struct loaded *l,
                     struct vmm_error *err)
{
    uint8_t raw[8 * COUNTERS + NVME_ERRORS * ERROR_BYTES], events[4 * EVENT_TYPES];
    int rc = vmm_state_get_bytes(r, "logs", raw, sizeof(raw), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "changed", l->changed, sizeof(l->changed), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "events", events, sizeof(events), err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < COUNTERS; i++)
        l->counters[i] = vmm_load_le64(raw + (size_t)8 * i);
    for (uint32_t i = 0; i < NVME_ERRORS; i++) {
        const uint8_t *e = raw + 8 * COUNTERS + (size_t)i * ERROR_BYTES;
        l->errors[i] = (struct nvme_error){.count = vmm_load_le64(e),
                                           .lba = vmm_load_le64(e + 8),
                                           .namespace = vmm_load_le32(e + 16),
                                           .sq = vmm_load_le16(e + 20),
                                           .cid = vmm_load_le16(e + 24),
                                           .status = vmm_load_le16(e + 28)};
    }
    for (uint32_t i = 0; i < EVENT_TYPES; i++) {
        const uint8_t *e = events + 4 * i;
        if (e[0] > 1 || e[1] > 1)
            return wrong(n, err, "events: a switch that is neither on nor off");
        l->events.pending[i] = e[0];
        l->events.masked[i] = e[1];
        l->events.info[i] = e[2];
        l->events.page[i] = e[3];
    }
    return 0;
}

static bool request_ok(const struct vmm_nvme *n, const struct loaded *l, const uint8_t *raw,
                       uint32_t *events)
{
    uint32_t state = vmm_load_le32(raw), sq = vmm_load_le32(raw + 4);
    uint32_t result = vmm_load_le32(raw + 16);
    if (sq > n->queues || !l->sqs[sq].size || vmm_load_le32(raw + 8) > UINT16_MAX ||
        vmm_load_le32(raw + 12) > 0x7fff)
        return false;
    if (state == REQUEST_EVENT)
        return sq == 0 && (*events)++ < NVME_AERS;
    if (state == REQUEST_DELETE)
        return sq == 0 && result && result <= n->queues && l->sqs[result].size;
    return state == REQUEST_POSTING;
}

/* A deletion waits for answers: of a queue without any it would wait for ever. */
static int load_requests(struct vmm_nvme *n, struct vmm_state_reader *r, struct loaded *l,
                         struct vmm_error *err)
{
    const void *raw;
    size_t length;
    uint32_t events = 0;
    uint8_t in_flight[NVME_QUEUES] = {0}, deleted[NVME_QUEUES] = {0};
    int rc = vmm_state_get_blob(r, "requests", &raw, &length, err);
    if (rc)
        return rc;
    if (length % REQUEST_BYTES || length / REQUEST_BYTES > n->depth)
        return wrong(n, err, "requests: more than there are");
    l->requests = raw;
    l->request_count = (uint32_t)(length / REQUEST_BYTES);
    for (uint32_t i = 0; i < l->request_count && !rc; i++) {
        const uint8_t *q = l->requests + (size_t)i * REQUEST_BYTES;
        if (!request_ok(n, l, q, &events))
            rc = wrong(n, err, "requests: one that cannot be");
        else if (vmm_load_le32(q) == REQUEST_DELETE)
            rc = deleted[vmm_load_le32(q + 16)]++ || !in_flight[vmm_load_le32(q + 16)]
                     ? wrong(n, err, "requests: a deletion that waits for nothing")
                     : 0;
        else
            in_flight[vmm_load_le32(q + 4)] = 1;
    }
    return rc;
}

/* Loading: taking over -------------------------------------------------------------------------- */

static void take_request(struct vmm_nvme *n, const uint8_t *raw)
{
    struct nvme_request *r = vmm_nvme_take(n);
    if (!r) /* one of the life before is still in a backend */
        return;
    memset(r->command, 0, sizeof(r->command));
    r->state = vmm_load_le32(raw);
    r->sq = vmm_load_le32(raw + 4);
    r->cq = n->sqs[r->sq].cq;
    r->cid = vmm_load_le16(raw + 8);
    r->status = vmm_load_le32(raw + 12);
    r->result = vmm_load_le32(raw + 16);
    n->sqs[r->sq].in_flight++;
    struct nvme_cq *cq = &n->cqs[r->cq];
    if (r->state == REQUEST_EVENT) {
        n->aers[n->aer_count++] = r;
    } else if (r->state == REQUEST_DELETE) {
        n->sqs[r->result].deleter = r;
        r->result = 0;
    } else {
        *(cq->last ? &cq->last->next : &cq->waiting) = r;
        cq->last = r;
    }
}

static void take_doorbells(struct vmm_nvme *n, const struct loaded *l)
{
    uint32_t top = 0;
    for (uint32_t i = 0; i <= n->queues; i++) {
        atomic_store(&n->doorbells[0][i], l->doorbells[0][i]);
        atomic_store(&n->doorbells[1][i], l->doorbells[1][i]);
        if (n->sqs[i].size)
            atomic_fetch_or(&n->rung[0][i / 64], UINT64_C(1) << i % 64);
        if (n->cqs[i].size)
            atomic_fetch_or(&n->rung[1][i / 64], UINT64_C(1) << i % 64);
        top = n->sqs[i].size ? i : top;
    }
    vmm_nvme_want_events(n, n->shadow ? top : 0);
}

static void take_over(struct vmm_nvme *n, const struct loaded *l)
{
    n->cc = l->cc;
    n->csts = l->csts;
    n->aqa = l->aqa;
    n->asq = l->asq;
    n->acq = l->acq;
    n->interrupt_mask = l->mask;
    n->shutdown_wanted = l->shutdown;
    n->shadow = l->shadow;
    n->event_index = l->event_index;
    memcpy(n->sqs, l->sqs, sizeof(n->sqs));
    memcpy(n->cqs, l->cqs, sizeof(n->cqs));
    n->features = l->features;
    n->events = l->events;
    memcpy(n->changed, l->changed, sizeof(n->changed));
    memcpy(n->errors, l->errors, sizeof(n->errors));
    n->read_units = l->counters[0];
    n->written_units = l->counters[1];
    n->reads = l->counters[2];
    n->writes = l->counters[3];
    n->error_count = l->counters[4];
    for (uint32_t i = 0; i < l->request_count; i++)
        take_request(n, l->requests + (size_t)i * REQUEST_BYTES);
    take_doorbells(n, l);
}

int vmm_nvme_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_nvme *n = ctx;
    struct loaded *l = calloc(1, sizeof(*l));
    (void)version; /* there is only one */
    if (!l)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = load_registers(n, r, l, err);
    rc = rc ? rc : load_queues(n, r, l, err);
    rc = rc ? rc : check_namespaces(n, r, err);
    rc = rc ? rc : load_features(n, r, l, err);
    rc = rc ? rc : load_logs(n, r, l, err);
    rc = rc ? rc : load_requests(n, r, l, err);
    if (!rc) {
        drain(n);
        pthread_mutex_lock(&n->lock);
        vmm_nvme_stop(n);
        take_over(n, l);
        pthread_mutex_unlock(&n->lock);
        vmm_nvme_kick(n);
    }
    free(l);
    return rc;
}
