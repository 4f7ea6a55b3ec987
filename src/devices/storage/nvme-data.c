/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a command's data is: PRP entries and lists (NVMe 1.4 §4.3), SGLs (§4.4). Lists are read once, a
 * page or a segment at a time; the transfer's length and fixed limits bound the work.
 */
#include "devices/storage/nvme-internal.h"

#define DWORD_PRP1 6u
#define DWORD_PRP2 8u

#define LIST_ENTRIES (NVME_PAGE / 8)

#define SGL_DESC     16u
#define SGL_DATA     0x0u
#define SGL_SEGMENT  0x2u
#define SGL_LAST     0x3u
#define SGL_SEGMENTS 16u /* that one command may have */
#define SGL_PER_READ (NVME_PAGE / SGL_DESC)

static uint32_t add(struct nvme_request *r, uint64_t address, uint64_t length)
{
    if (!vmm_range_ok(address, length))
        return ST_DATA_TRANSFER;
    if (r->range_count) { /* neighbours are one piece */
        struct vmm_guest_range *last = &r->ranges[r->range_count - 1];
        if (last->address + last->length == address) {
            last->length += length;
            return ST_OK;
        }
    }
    if (r->range_count == NVME_RANGES)
        return ST_SGL_COUNT;
    r->ranges[r->range_count++] = (struct vmm_guest_range){address, length};
    return ST_OK;
}

/* PRP ------------------------------------------------------------------------------------------ */

/* The last entry of a page leads to the next page of the list, where more is to come. Only the first page
 * may be entered behind its beginning, so each further one brings the end nearer. */
static uint32_t prp_list(struct nvme_request *r, uint64_t list, uint64_t left)
{
    uint64_t entries[LIST_ENTRIES];
    if (list % 8)
        return ST_PRP_OFFSET;
    while (left) {
        uint64_t first = list % NVME_PAGE / 8, pages = (left + NVME_PAGE - 1) / NVME_PAGE;
        uint64_t room = LIST_ENTRIES - first, count = pages < room ? pages : room;
        if (vmm_memory_view_read(&r->nvme->view, list, entries, 8 * count))
            return ST_DATA_TRANSFER;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t entry = vmm_load_le64(&entries[i]);
            if (entry % NVME_PAGE)
                return ST_PRP_OFFSET;
            if (i + 1 == room && left > NVME_PAGE) {
                list = entry;
                break;
            }
            uint64_t part = left < NVME_PAGE ? left : NVME_PAGE;
            uint32_t status = add(r, entry, part);
            if (status)
                return status;
            left -= part;
        }
    }
    return ST_OK;
}

static uint32_t prp(struct nvme_request *r, uint64_t length)
{
    uint64_t first = nvme_qword(r, DWORD_PRP1), second = nvme_qword(r, DWORD_PRP2);
    uint64_t part = NVME_PAGE - first % NVME_PAGE;
    if (first % 4)
        return ST_PRP_OFFSET;
    uint32_t status = add(r, first, part < length ? part : length);
    if (status || length <= part)
        return status;
    length -= part;
    if (length > NVME_PAGE)
        return prp_list(r, second, length);
    return second % NVME_PAGE ? ST_PRP_OFFSET : add(r, second, length);
}

/* SGL ------------------------------------------------------------------------------------------ */

struct sgl {
    uint64_t address;
    uint32_t length;
    uint32_t type;
};

/* The subtype is always "address"; a data block or a segment. */
static uint32_t sgl_decode(const uint8_t *raw, struct sgl *d)
{
    *d = (struct sgl){vmm_load_le64(raw), vmm_load_le32(raw + 8), raw[15] >> 4};
    if ((raw[15] & 0xf) || (d->type != SGL_DATA && d->type != SGL_SEGMENT && d->type != SGL_LAST))
        return ST_SGL_TYPE;
    return ST_OK;
}

static uint32_t sgl_data(struct nvme_request *r, const struct sgl *d, uint64_t *left)
{
    if (d->length > *left)
        return ST_SGL_LENGTH;
    *left -= d->length;
    return d->length ? add(r, d->address, d->length) : ST_OK;
}

/* One segment: data blocks, and in all but the last one a link at the end. */
static uint32_t sgl_segment(struct nvme_request *r, struct sgl *segment, uint64_t *left)
{
    uint8_t raw[NVME_PAGE];
    uint32_t count = segment->length / SGL_DESC;
    bool last = segment->type == SGL_LAST;
    if (count == 0 || segment->length % SGL_DESC)
        return ST_SGL_SEGMENT;
    if (count > SGL_PER_READ)
        return ST_SGL_COUNT;
    if (!vmm_range_ok(segment->address, segment->length) ||
        vmm_memory_view_read(&r->nvme->view, segment->address, raw, segment->length))
        return ST_DATA_TRANSFER;
    *segment = (struct sgl){0};
    for (uint32_t i = 0; i < count; i++) {
        struct sgl d;
        uint32_t status = sgl_decode(raw + (size_t)i * SGL_DESC, &d);
        if (!status && d.type == SGL_DATA)
            status = sgl_data(r, &d, left);
        else if (!status && (last || i + 1 != count))
            status = ST_SGL_SEGMENT;
        else
            *segment = d;
        if (status)
            return status;
    }
    return ST_OK;
}

static uint32_t sgl(struct nvme_request *r, uint64_t length)
{
    struct sgl d;
    uint64_t left = length;
    uint32_t status = sgl_decode(r->command + 4 * DWORD_PRP1, &d);
    if (!status && d.type == SGL_DATA)
        status = sgl_data(r, &d, &left);
    for (uint32_t i = 0; !status && d.type != SGL_DATA; i++)
        status = i < SGL_SEGMENTS ? sgl_segment(r, &d, &left) : ST_SGL_COUNT;
    return !status && left ? ST_SGL_LENGTH : status;
}

/* Ways to use them ----------------------------------------------------------------------------- */

uint32_t vmm_nvme_ranges(struct nvme_request *r, uint64_t length, bool sgl_allowed)
{
    uint32_t way = r->command[1] >> 6; /* PSDT; there is no metadata, so 1 and 2 are the same */
    r->range_count = 0;
    r->data_length = length;
    if (length > NVME_TRANSFER || way == 3 || (way && !sgl_allowed))
        return ST_INVALID_FIELD;
    return way ? sgl(r, length) : prp(r, length);
}

uint32_t vmm_nvme_hold(struct nvme_request *r, uint32_t access)
{
    int rc = vmm_memory_map_list(r->nvme->memory, r->ranges, r->range_count, access, r->vector,
                                 NVME_VECTOR, 0, &r->held);
    if (!rc)
        return ST_OK;
    r->held.token = NULL;
    return rc == -ENOMEM ? ST_INTERNAL : ST_DATA_TRANSFER;
}

void vmm_nvme_let_go(struct nvme_request *r, uint64_t written)
{
    if (r->held.token)
        vmm_memory_unmap_list(r->nvme->memory, &r->held, written);
    r->held.token = NULL;
}

uint32_t vmm_nvme_to_guest(struct nvme_request *r, const void *data, uint32_t length)
{
    const uint8_t *from = data;
    uint32_t status = vmm_nvme_ranges(r, length, false);
    for (uint32_t i = 0; i < r->range_count && !status; i++) {
        const struct vmm_guest_range *g = &r->ranges[i];
        if (vmm_memory_view_write(&r->nvme->view, g->address, from, g->length))
            status = ST_DATA_TRANSFER;
        from += g->length;
    }
    return status;
}

uint32_t vmm_nvme_from_guest(struct nvme_request *r, void *data, uint32_t length, bool sgl_allowed)
{
    uint8_t *to = data;
    uint32_t status = vmm_nvme_ranges(r, length, sgl_allowed);
    for (uint32_t i = 0; i < r->range_count && !status; i++) {
        const struct vmm_guest_range *g = &r->ranges[i];
        if (vmm_memory_view_read(&r->nvme->view, g->address, to, g->length))
            status = ST_DATA_TRANSFER;
        to += g->length;
    }
    return status;
}
