/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands on namespaces (NVMe 1.4 §6), and Format NVM (§5.23). */
#include "devices/storage/nvme-internal.h"

#define IO_FLUSH        0x00u
#define IO_WRITE        0x01u
#define IO_READ         0x02u
#define IO_COMPARE      0x05u
#define IO_WRITE_ZEROES 0x08u
#define IO_DATASET      0x09u

#define DW12_FUA        (1u << 30)
#define DW12_DEALLOCATE (1u << 25)
#define DATASET_DISCARD 0x4u
#define DATASET_RANGE   16u

static void done(struct vmm_block_request *block, int result);

static bool is_write(const struct nvme_request *r)
{
    return nvme_opcode(r) != IO_READ && nvme_opcode(r) != IO_COMPARE && nvme_opcode(r) != IO_FLUSH;
}

static uint32_t find(const struct nvme_request *r, struct nvme_namespace **ns)
{
    *ns = vmm_nvme_namespace(r->nvme, nvme_dword(r, 1));
    if (!*ns)
        return ST_INVALID_NAMESPACE;
    return (*ns)->read_only && is_write(r) ? ST_WRITE_PROTECTED : ST_OK;
}

static uint32_t check_blocks(const struct nvme_namespace *ns, uint64_t lba, uint64_t count)
{
    return lba >= ns->blocks || count > ns->blocks - lba ? ST_LBA_RANGE : ST_OK;
}

/* The vector is r->vector, of `count` pieces. What a turn of the queues begins is begun together. */
static uint32_t submit(struct nvme_request *r, struct nvme_namespace *ns, uint32_t op,
                       uint32_t flags, uint64_t lba, uint64_t blocks, size_t count)
{
    if (r->nvme->running && !ns->plugged) {
        ns->plugged = true;
        vmm_block_plug(ns->block);
    }
    r->state = REQUEST_BLOCK;
    r->block = (struct vmm_block_request){.op = op,
                                          .flags = flags,
                                          .offset = lba << ns->shift,
                                          .length = blocks << ns->shift,
                                          .vector = r->vector,
                                          .vector_count = count,
                                          .done = done,
                                          .ctx = r};
    vmm_block_submit(ns->block, &r->block);
    return ST_LATER;
}

/* With the write cache switched off (§5.21.1.6) every write is durable when it is done. */
static uint32_t durability(const struct nvme_request *r)
{
    bool cached = r->nvme->features.write_cache & 1;
    return !cached || (nvme_dword(r, 12) & DW12_FUA) ? VMM_BLOCK_FUA : 0;
}

static uint32_t transfer(struct nvme_request *r, struct nvme_namespace *ns, bool write)
{
    struct vmm_nvme *n = r->nvme;
    uint64_t lba = nvme_qword(r, 10), blocks = (nvme_dword(r, 12) & 0xffff) + 1;
    uint32_t status = check_blocks(ns, lba, blocks);
    status = status ? status : vmm_nvme_ranges(r, blocks << ns->shift, true);
    status = status ? status : vmm_nvme_hold(r, write ? VMM_MAP_READ : VMM_MAP_WRITE);
    if (status)
        return status;
    *(write ? &n->writes : &n->reads) += 1;
    *(write ? &n->written_units : &n->read_units) += blocks << (ns->shift - 9);
    return submit(r, ns, write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ, write ? durability(r) : 0, lba,
                  blocks, r->held.count);
}

static uint32_t write_zeroes(struct nvme_request *r, struct nvme_namespace *ns)
{
    uint64_t lba = nvme_qword(r, 10), blocks = (nvme_dword(r, 12) & 0xffff) + 1;
    uint32_t unmap = nvme_dword(r, 12) & DW12_DEALLOCATE ? VMM_BLOCK_MAY_UNMAP : 0;
    uint32_t status = check_blocks(ns, lba, blocks);
    return status ? status
                  : submit(r, ns, VMM_BLOCK_WRITE_ZEROES, unmap | durability(r), lba, blocks, 0);
}

/* User data is zeros afterwards, whichever erasure was asked for; there is one LBA format. */
uint32_t vmm_nvme_format(struct nvme_request *r)
{
    struct nvme_namespace *ns;
    uint32_t what = nvme_dword(r, 10), erase = what >> 9 & 7;
    uint32_t status = find(r, &ns);
    if (status)
        return status;
    if (what & 0xf)
        return ST_FORMAT;
    if ((what & 0x1f0) || erase > 1) /* no metadata, no protection, no encryption to forget */
        return ST_INVALID_FIELD;
    return submit(r, ns, VMM_BLOCK_WRITE_ZEROES, VMM_BLOCK_MAY_UNMAP, 0, ns->blocks, 0);
}

/* Commands that need the bounce buffer ----------------------------------------------------------- */

static uint32_t begin_compare(struct nvme_request *r, struct nvme_namespace *ns)
{
    uint64_t lba = nvme_qword(r, 10), blocks = (nvme_dword(r, 12) & 0xffff) + 1;
    uint32_t status = check_blocks(ns, lba, blocks);
    status = status ? status : vmm_nvme_ranges(r, blocks << ns->shift, true);
    if (status)
        return status;
    r->vector[0] = (struct iovec){r->nvme->bounce, (size_t)(blocks << ns->shift)};
    r->nvme->reads++;
    return submit(r, ns, VMM_BLOCK_READ, 0, lba, blocks, 1);
}

static uint32_t end_compare(struct nvme_request *r)
{
    const uint8_t *data = r->nvme->bounce;
    for (uint32_t i = 0; i < r->range_count; i++) {
        const struct vmm_guest_range *g = &r->ranges[i];
        int differs;
        if (vmm_memory_compare(r->nvme->memory, g->address, data, g->length, &differs))
            return ST_DATA_TRANSFER;
        if (differs)
            return ST_COMPARE;
        data += g->length;
    }
    return ST_OK;
}

static void dataset_range(const struct nvme_request *r, uint32_t i, uint64_t *lba, uint64_t *blocks)
{
    const uint8_t *raw = r->nvme->bounce + (size_t)i * DATASET_RANGE;
    *blocks = vmm_load_le32(raw + 4);
    *lba = vmm_load_le64(raw + 8);
}

/* The next range. The namespace may have got another length since the first. */
static uint32_t discard_next(struct nvme_request *r)
{
    uint32_t count = (nvme_dword(r, 10) & 0xff) + 1;
    struct nvme_namespace *ns;
    uint32_t status = find(r, &ns);
    while (!status && r->step < count) {
        uint64_t lba, blocks;
        dataset_range(r, r->step++, &lba, &blocks);
        if (!blocks)
            continue;
        status = check_blocks(ns, lba, blocks);
        if (!status)
            return submit(r, ns, VMM_BLOCK_DISCARD, 0, lba, blocks, 0);
    }
    return status;
}

/* All ranges are looked at before anything is thrown away. */
static uint32_t begin_dataset(struct nvme_request *r, const struct nvme_namespace *ns)
{
    uint32_t count = (nvme_dword(r, 10) & 0xff) + 1;
    uint32_t status = vmm_nvme_from_guest(r, r->nvme->bounce, count * DATASET_RANGE, true);
    for (uint32_t i = 0; i < count && !status; i++) {
        uint64_t lba, blocks;
        dataset_range(r, i, &lba, &blocks);
        status = blocks ? check_blocks(ns, lba, blocks) : ST_OK;
    }
    if (status || !(nvme_dword(r, 11) & DATASET_DISCARD)) /* else hints only */
        return status;
    return discard_next(r);
}

static uint32_t begin_exclusive(struct nvme_request *r)
{
    struct nvme_namespace *ns;
    uint32_t status = find(r, &ns);
    if (status)
        return status;
    return nvme_opcode(r) == IO_COMPARE ? begin_compare(r, ns) : begin_dataset(r, ns);
}

void vmm_nvme_next_exclusive(struct vmm_nvme *n)
{
    while (!n->exclusive && n->queued) {
        struct nvme_request *r = n->queued;
        n->queued = r->next;
        if (!n->queued)
            n->queued_last = NULL;
        r->next = NULL;
        n->exclusive = r;
        uint32_t status = begin_exclusive(r);
        if (status == ST_LATER)
            return;
        n->exclusive = NULL;
        vmm_nvme_complete(r, status);
    }
}

static uint32_t queue_exclusive(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    r->state = REQUEST_QUEUED;
    r->next = NULL;
    if (n->queued_last)
        n->queued_last->next = r;
    else
        n->queued = r;
    n->queued_last = r;
    vmm_nvme_next_exclusive(n);
    return ST_LATER;
}

/* The end -------------------------------------------------------------------------------------- */

static uint32_t status_of(const struct nvme_request *r, int result)
{
    switch (result) {
    case 0:
        return ST_OK;
    case -ECANCELED:
        return ST_ABORTED;
    case -ENOSPC:
        return ST_CAPACITY;
    case -EACCES:
        return ST_WRITE_PROTECTED;
    case -ENOTSUP:
        return ST_INVALID_FIELD;
    default:
        break;
    }
    if (r->block.op == VMM_BLOCK_READ)
        return ST_READ_FAULT;
    return r->block.op == VMM_BLOCK_FLUSH ? ST_INTERNAL : ST_WRITE_FAULT;
}

static uint32_t after(struct nvme_request *r, uint32_t status)
{
    if (r->sq == 0 || status)
        return status;
    if (nvme_opcode(r) == IO_COMPARE)
        return end_compare(r);
    return nvme_opcode(r) == IO_DATASET ? discard_next(r) : ST_OK;
}

static void done(struct vmm_block_request *block, int result)
{
    struct nvme_request *r = block->ctx;
    struct vmm_nvme *n = r->nvme;
    pthread_mutex_lock(&n->lock);
    bool stale = r->epoch != n->epoch, exclusive = n->exclusive == r;
    vmm_nvme_let_go(r, block->op == VMM_BLOCK_READ ? r->data_length : 0);
    uint32_t status = stale ? ST_ABORTED : after(r, status_of(r, result));
    if (status != ST_LATER) {
        if (exclusive)
            n->exclusive = NULL;
        if (stale)
            vmm_nvme_give_back(r);
        else
            vmm_nvme_complete(r, status);
        if (exclusive)
            vmm_nvme_next_exclusive(n);
        vmm_nvme_signal(n);
    }
    pthread_mutex_unlock(&n->lock);
}

uint32_t vmm_nvme_io(struct nvme_request *r)
{
    struct nvme_namespace *ns;
    uint32_t status = find(r, &ns);
    if (status)
        return status;
    switch (nvme_opcode(r)) {
    case IO_READ:
    case IO_WRITE:
        return transfer(r, ns, nvme_opcode(r) == IO_WRITE);
    case IO_FLUSH:
        return submit(r, ns, VMM_BLOCK_FLUSH, 0, 0, 0, 0);
    case IO_WRITE_ZEROES:
        return write_zeroes(r, ns);
    case IO_COMPARE:
    case IO_DATASET:
        return queue_exclusive(r);
    default:
        return ST_INVALID_OPCODE;
    }
}
