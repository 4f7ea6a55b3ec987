/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The SCSI host device (VIRTIO 1.2 §5.6): a controller whose targets have one logical unit each. Its
 * request queues carry commands, its control queue what manages them; of events there are none.
 */
#include "devices/storage/scsi.h"
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define DEVICE_SCSI  8u
#define CONFIG_SIZE  36u
#define CONTROL      0u
#define EVENTS       1u
#define REQUESTS     2u /* the first of those queues */
#define QUEUES_MAX   16u
#define QUEUE_SIZE   128u
#define SEG_MAX      126u
#define CHAIN_MAX    (SEG_MAX + 2)
#define DEPTH        64u /* commands under way in a queue */
#define SENSE_AT     20u /* in the configuration: sense_size and cdb_size, which drivers may write */
#define CDB_AT       24u
#define SENSE_BYTES  96u
#define SENSE_LIMIT  252u
#define HEAD_OUT     19u /* before the command descriptor block */
#define HEAD_IN      12u /* before the sense data */
#define CONTROL_TMF  0u
#define AN_QUERY     1u
#define AN_SUBSCRIBE 2u

#define S_OK            0u
#define S_OVERRUN       1u
#define S_BAD_TARGET    3u
#define S_SUCCEEDED     10u
#define S_REJECTED      11u
#define S_INCORRECT_LUN 12u

enum {
    ABORT_TASK,
    ABORT_TASK_SET,
    CLEAR_ACA,
    CLEAR_TASK_SET,
    NEXUS_RESET,
    UNIT_RESET,
    QUERY_TASK,
    QUERY_TASK_SET,
};

struct scsi;

struct request {
    struct vmm_scsi_command command;
    struct scsi *scsi;
    struct vmm_virtio_queue *queue;
    struct vmm_virtio_chain *chain;
    struct request *next; /* in the list of free ones */
    uint64_t id;          /* the driver's */
    uint32_t sense_size;  /* when it began */
    bool busy;
    bool inside; /* vmm_scsi_submit() has not returned: it may end right there */
    struct iovec out[SCSI_VECTOR_MAX], in[SCSI_VECTOR_MAX];
};

struct scsi_queue {
    struct request *requests; /* DEPTH of them */
    struct request *free;
    bool stalled; /* there may be chains that no request was free for */
};

struct scsi {
    struct vmm_virtio *virtio;
    struct vmm_virtio_chain *control;
    uint32_t queue_count; /* of requests */
    uint32_t unit_count;
    struct vmm_scsi_unit *units[VMM_VIRTIO_SCSI_UNITS];
    uint8_t config[CONFIG_SIZE];
    _Atomic uint32_t sense_size, cdb_size;
    struct scsi_queue queues[QUEUES_MAX];
};

/* Addresses (§5.6.6.1): a byte 1, the target, and the unit in one of two notations. */
static uint32_t find_unit(const struct scsi *s, const uint8_t lun[8], bool *absent)
{
    uint32_t unit = (uint32_t)(lun[2] & 0x3f) << 8 | lun[3];
    if (lun[0] != 1 || lun[1] >= s->unit_count)
        return UINT32_MAX;
    *absent = unit != 0 || (lun[2] & 0x80);
    return lun[1];
}

/* Commands ------------------------------------------------------------------------------------- */

static struct scsi_queue *queue_of(const struct request *r)
{
    return &r->scsi->queues[r->queue->index - REQUESTS];
}

static void give_back(struct request *r, uint64_t written)
{
    if (vmm_virtio_chain_stale(r->queue, r->chain))
        vmm_virtio_queue_drop(r->queue, r->chain);
    else
        vmm_virtio_queue_push(r->queue, r->chain, written);
    r->busy = false;
    r->next = queue_of(r)->free;
    queue_of(r)->free = r;
}

/* The answer, and behind it what was read (§5.6.6.1). */
static void finish(struct request *r, uint8_t response)
{
    const struct vmm_scsi_command *c = &r->command;
    const struct vmm_virtio_chain *chain = r->chain;
    uint8_t head[HEAD_IN + SENSE_LIMIT] = {0};
    uint64_t wanted = c->in_length ? c->in_length : c->out_length;
    if (vmm_virtio_chain_stale(r->queue, chain)) {
        give_back(r, 0);
        return;
    }
    head[11] = response;
    if (response == S_OK) {
        uint32_t sense = c->sense_length < r->sense_size ? c->sense_length : r->sense_size;
        vmm_store_le32(head, sense);
        vmm_store_le32(head + 4, (uint32_t)(wanted - c->transferred));
        head[10] = c->status;
        memcpy(head + HEAD_IN, c->sense, sense);
    }
    size_t length = HEAD_IN + r->sense_size;
    (void)vmm_iov_write(chain->writable, chain->writable_count, 0, head, length);
    give_back(r, length + (c->in_length && response == S_OK ? c->transferred : 0));
}

static void done(struct vmm_scsi_command *c)
{
    struct request *r = c->ctx;
    struct vmm_virtio_queue *q = r->queue;
    struct scsi_queue *sq = queue_of(r);
    uint8_t response = c->overrun ? S_OVERRUN : S_OK;
    if (r->inside) { /* of begin(), which has the lock */
        finish(r, response);
        return;
    }
    vmm_virtio_queue_lock(q);
    finish(r, response);
    vmm_virtio_queue_signal(q);
    if (sq->stalled) {
        sq->stalled = false;
        vmm_virtio_queue_kick(q);
    }
    vmm_virtio_queue_unlock(q);
}

/* All of a vector from a byte on. */
static size_t slice(const struct iovec *from, size_t count, uint64_t offset, struct iovec *to)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        to[n++] =
            (struct iovec){(uint8_t *)from[i].iov_base + offset, from[i].iov_len - (size_t)offset};
        offset = 0;
    }
    return n;
}

static void fill_command(struct request *r, uint32_t cdb_size)
{
    const struct vmm_virtio_chain *chain = r->chain;
    struct vmm_scsi_command *c = &r->command;
    uint32_t out_at = HEAD_OUT + cdb_size, in_at = HEAD_IN + r->sense_size;
    memset(c->cdb, 0, sizeof(c->cdb));
    (void)vmm_iov_read(chain->readable, chain->readable_count, HEAD_OUT, c->cdb, cdb_size);
    c->out = r->out;
    c->in = r->in;
    c->out_length = chain->readable_length - out_at;
    c->in_length = chain->writable_length - in_at;
    c->out_count = slice(chain->readable, chain->readable_count, out_at, r->out);
    c->in_count = slice(chain->writable, chain->writable_count, in_at, r->in);
    c->done = done;
    c->ctx = r;
    c->transferred = 0;
    c->sense_length = 0;
}

/* False: the driver broke the rules. */
static bool begin(struct request *r)
{
    struct scsi *s = r->scsi;
    const struct vmm_virtio_chain *chain = r->chain;
    uint8_t head[HEAD_OUT];
    uint32_t cdb_size = s->cdb_size;
    r->sense_size = s->sense_size;
    if (chain->readable_length < HEAD_OUT + cdb_size ||
        chain->writable_length < HEAD_IN + r->sense_size)
        return false;
    (void)vmm_iov_read(chain->readable, chain->readable_count, 0, head, sizeof(head));
    r->id = vmm_load_le64(head + 8);
    fill_command(r, cdb_size);
    uint32_t unit = find_unit(s, head, &r->command.absent);
    r->busy = r->inside = true;
    if (unit == UINT32_MAX)
        finish(r, S_BAD_TARGET);
    else
        vmm_scsi_submit(s->units[unit], &r->command);
    r->inside = false;
    return true;
}

static void plug(const struct scsi *s, bool on)
{
    for (uint32_t i = 0; i < s->unit_count; i++)
        (on ? vmm_block_plug : vmm_block_unplug)(s->units[i]->block);
}

static void notify_requests(struct scsi *s, uint32_t index)
{
    struct scsi_queue *sq = &s->queues[index - REQUESTS];
    struct vmm_virtio_queue *q = vmm_virtio_queue(s->virtio, index);
    plug(s, true); /* what the driver gave together goes on together */
    while (sq->free) {
        struct request *r = sq->free;
        if (vmm_virtio_queue_pop(q, r->chain) <= 0)
            break;
        sq->free = r->next;
        if (begin(r))
            continue;
        vmm_virtio_queue_drop(q, r->chain);
        r->next = sq->free;
        sq->free = r;
        vmm_virtio_guest_error(s->virtio, "a SCSI request without room for command or answer");
        break;
    }
    plug(s, false);
    sq->stalled = !sq->free;
    vmm_virtio_queue_signal(q);
}

/* Management (§5.6.6.2) ------------------------------------------------------------------------ */

static bool is_busy(struct scsi *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->queue_count; i++)
        for (uint32_t j = 0; j < DEPTH; j++)
            if (s->queues[i].requests[j].busy && s->queues[i].requests[j].id == id)
                return true;
    return false;
}

/* What is to be aborted is waited for instead, which is as good: it is over then. */
static uint8_t manage(struct scsi *s, const uint8_t *request)
{
    bool absent;
    uint32_t subtype = vmm_load_le32(request + 4);
    uint32_t index = find_unit(s, request + 8, &absent);
    if (index == UINT32_MAX)
        return S_BAD_TARGET;
    if (absent && subtype != NEXUS_RESET)
        return S_INCORRECT_LUN;
    struct vmm_scsi_unit *u = s->units[index];
    switch (subtype) {
    case ABORT_TASK:
    case ABORT_TASK_SET:
    case CLEAR_TASK_SET:
        vmm_block_drain(u->block);
        return S_OK;
    case NEXUS_RESET:
    case UNIT_RESET:
        vmm_block_drain(u->block);
        vmm_scsi_unit_reset(u, false);
        return S_OK;
    case QUERY_TASK:
        return is_busy(s, vmm_load_le64(request + 16)) ? S_SUCCEEDED : S_OK;
    case QUERY_TASK_SET:
        return vmm_block_in_flight(u->block) ? S_SUCCEEDED : S_OK;
    default: /* CLEAR_ACA among them: there is no such state */
        return S_REJECTED;
    }
}

/* Bytes of the answer; 0: the driver broke the rules. */
static uint64_t control(struct scsi *s, const struct vmm_virtio_chain *c)
{
    uint8_t request[24] = {0}, answer[5] = {0};
    size_t got = vmm_iov_read(c->readable, c->readable_count, 0, request, sizeof(request));
    uint32_t type = vmm_load_le32(request);
    if (got < 4)
        return 0;
    if (type == CONTROL_TMF && got == sizeof(request) && c->writable_length >= 1) {
        answer[0] = manage(s, request);
        return vmm_iov_write(c->writable, c->writable_count, 0, answer, 1);
    }
    /* No event is offered, so none is subscribed to. */
    if ((type == AN_QUERY || type == AN_SUBSCRIBE) && got >= 16 && c->writable_length >= 5)
        return vmm_iov_write(c->writable, c->writable_count, 0, answer, 5);
    return 0;
}

static void notify_control(struct scsi *s)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(s->virtio, CONTROL);
    while (vmm_virtio_queue_pop(q, s->control) > 0) {
        uint64_t written = control(s, s->control);
        if (written) {
            vmm_virtio_queue_push(q, s->control, written);
            continue;
        }
        vmm_virtio_queue_drop(q, s->control);
        vmm_virtio_guest_error(s->virtio, "a SCSI control request of no known kind or length");
        break;
    }
    vmm_virtio_queue_signal(q);
}

static void notify(void *ctx, uint32_t queue)
{
    if (queue == CONTROL)
        notify_control(ctx);
    else if (queue != EVENTS)
        notify_requests(ctx, queue);
}

/* Registers ------------------------------------------------------------------------------------ */

static void default_sizes(struct scsi *s)
{
    s->sense_size = SENSE_BYTES;
    s->cdb_size = SCSI_CDB_MAX;
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    const struct scsi *s = ctx;
    uint8_t config[CONFIG_SIZE];
    memcpy(config, s->config, CONFIG_SIZE);
    vmm_store_le32(config + SENSE_AT, s->sense_size);
    vmm_store_le32(config + CDB_AT, s->cdb_size);
    memcpy(data, config + offset, length);
}

static bool sizes_ok(uint32_t sense_size, uint32_t cdb_size)
{
    return sense_size <= SENSE_LIMIT && cdb_size >= 1 && cdb_size <= SCSI_CDB_MAX;
}

/* Sizes that are not possible are not taken. */
static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    struct scsi *s = ctx;
    uint32_t value = length == 4 ? vmm_load_le32(data) : UINT32_MAX;
    if (offset == SENSE_AT && sizes_ok(value, SCSI_CDB_MAX))
        s->sense_size = value;
    if (offset == CDB_AT && sizes_ok(0, value))
        s->cdb_size = value;
}

static void queue_reset(void *ctx, uint32_t queue)
{
    struct scsi *s = ctx;
    if (queue < REQUESTS)
        return;
    s->queues[queue - REQUESTS].stalled = false;
    for (uint32_t i = 0; i < s->unit_count; i++)
        vmm_block_quiesce(s->units[i]->block);
}

static void reset(void *ctx)
{
    struct scsi *s = ctx;
    default_sizes(s);
    for (uint32_t i = 0; i < s->unit_count; i++)
        vmm_scsi_unit_reset(s->units[i], false);
}

/* Life ----------------------------------------------------------------------------------------- */

static void drain(const struct scsi *s)
{
    for (uint32_t i = 0; i < s->unit_count; i++)
        vmm_block_drain(s->units[i]->block);
}

static void unit_name(uint32_t index, char name[16])
{
    (void)snprintf(name, 16, "unit%u", index);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct scsi *s = ctx;
    char name[16];
    int rc = 0;
    drain(s);
    (void)vmm_state_put_u32(w, "sense-size", s->sense_size);
    (void)vmm_state_put_u32(w, "cdb-size", s->cdb_size);
    for (uint32_t i = 0; i < s->unit_count; i++) {
        unit_name(i, name);
        rc = vmm_scsi_unit_save(s->units[i], name, w);
    }
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct scsi *s = ctx;
    char name[16];
    uint32_t sense_size = 0, cdb_size = 0, states[VMM_VIRTIO_SCSI_UNITS];
    int rc = vmm_state_get_u32(r, "sense-size", SENSE_LIMIT, &sense_size, err);
    rc = rc ? rc : vmm_state_get_u32(r, "cdb-size", SCSI_CDB_MAX, &cdb_size, err);
    if (!rc && !sizes_ok(sense_size, cdb_size))
        rc = vmm_error_set(err, -EINVAL, "the saved SCSI controller has commands of no bytes");
    for (uint32_t i = 0; i < s->unit_count && !rc; i++) {
        unit_name(i, name);
        rc = vmm_scsi_unit_load(s->units[i], name, r, &states[i], err);
    }
    if (rc)
        return rc;
    s->sense_size = sense_size;
    s->cdb_size = cdb_size;
    for (uint32_t i = 0; i < s->unit_count; i++)
        vmm_scsi_unit_take_over(s->units[i], states[i]);
    return 0;
}

static void free_scsi(struct scsi *s)
{
    for (uint32_t i = 0; i < QUEUES_MAX; i++) {
        struct request *requests = s->queues[i].requests;
        for (uint32_t j = 0; requests && j < DEPTH; j++)
            vmm_virtio_chain_free(requests[j].chain);
        free(requests);
    }
    vmm_virtio_chain_free(s->control);
    for (uint32_t i = 0; i < s->unit_count; i++)
        vmm_scsi_unit_free(s->units[i]);
    free(s);
}

static void destroy(void *ctx)
{
    drain(ctx);
    free_scsi(ctx);
}

static int make_requests(struct scsi *s, uint32_t index)
{
    struct scsi_queue *sq = &s->queues[index];
    int rc = 0;
    sq->requests = calloc(DEPTH, sizeof(*sq->requests));
    if (!sq->requests)
        return -ENOMEM;
    for (uint32_t i = 0; i < DEPTH && !rc; i++) {
        struct request *r = &sq->requests[i];
        r->scsi = s;
        r->queue = vmm_virtio_queue(s->virtio, REQUESTS + index);
        rc = vmm_virtio_chain_new(s->virtio, &r->chain);
        r->next = sq->free;
        sq->free = r;
    }
    return rc;
}

/* §5.6.4 */
static void fill_config(struct scsi *s)
{
    uint8_t *c = s->config;
    vmm_store_le32(c, s->queue_count);
    vmm_store_le32(c + 4, SEG_MAX);
    vmm_store_le32(c + 8, 0xffff); /* sectors of a transfer */
    vmm_store_le32(c + 12, DEPTH); /* commands at a time for a unit */
    vmm_store_le32(c + 16, 16);    /* bytes of an event */
    vmm_store_le16(c + 30,
                   (uint16_t)(s->unit_count - 1)); /* the last target; channel and unit: 0 */
    default_sizes(s);
}

static int make(struct scsi *s, struct vmm_virtio_options *o, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .config_write = config_write,
        .queue_reset = queue_reset,
        .reset = reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    o->device_id = DEVICE_SCSI;
    o->queues = REQUESTS + s->queue_count;
    o->queue_size_max = QUEUE_SIZE;
    o->chain_max = CHAIN_MAX;
    o->config_size = CONFIG_SIZE;
    o->ops = &ops;
    o->ctx = s;
    int rc = vmm_virtio_new(o, &s->virtio, err);
    if (rc) {
        free_scsi(s);
        return rc;
    }
    rc = vmm_virtio_chain_new(s->virtio, &s->control);
    for (uint32_t i = 0; i < s->queue_count && !rc; i++)
        rc = make_requests(s, i);
    if (!rc)
        return 0;
    vmm_virtio_unref(s->virtio);
    return vmm_error_set(err, rc, "out of memory");
}

static int add_unit(struct scsi *s, const struct vmm_virtio_scsi_unit *given,
                    const struct vmm_loop *loop, struct vmm_error *err)
{
    struct vmm_virtio_scsi_unit u;
    if (!given || vmm_options_copy(&u, sizeof(u), given) || !u.block)
        return vmm_error_set(err, -EINVAL, "a SCSI unit has a block backend");
    if (vmm_block_loop(u.block) != loop)
        return vmm_error_set(err, -EINVAL, "a disk and its backend are on the same loop");
    int rc = vmm_scsi_unit_new(u.block, u.cdrom != 0, u.read_only != 0, u.serial,
                               &s->units[s->unit_count], err);
    s->unit_count += rc == 0;
    return rc;
}

static int check_options(const struct vmm_virtio_scsi_options *o, struct vmm_error *err)
{
    if (!o->units || o->unit_count == 0 || o->unit_count > VMM_VIRTIO_SCSI_UNITS)
        return vmm_error_set(err, -EINVAL, "a SCSI controller has 1 to %u units",
                             VMM_VIRTIO_SCSI_UNITS);
    if (o->queues > QUEUES_MAX)
        return vmm_error_set(err, -EINVAL, "a SCSI controller has at most %u queues", QUEUES_MAX);
    return 0;
}

int vmm_virtio_scsi_new(const struct vmm_virtio_place *given,
                        const struct vmm_virtio_scsi_options *options, struct vmm_virtio **out,
                        struct vmm_error *err)
{
    struct vmm_virtio_place place;
    struct vmm_virtio_scsi_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (!rc && (!options || vmm_options_copy(&p, sizeof(p), options)))
        rc = vmm_error_set(err, -EINVAL, "SCSI options: a structure of another version");
    if (!rc)
        rc = check_options(&p, err);
    if (rc)
        return rc;
    struct scsi *s = calloc(1, sizeof(*s));
    if (!s)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    s->queue_count = p.queues ? p.queues : 1;
    for (uint32_t i = 0; i < p.unit_count && !rc; i++)
        rc = add_unit(s, p.units[i], place.loop, err);
    if (rc) {
        free_scsi(s);
        return rc;
    }
    fill_config(s);
    rc = make(s, &o, err);
    if (!rc)
        *out = s->virtio;
    return rc;
}
