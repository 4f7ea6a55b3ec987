/* SPDX-License-Identifier: BSD-3-Clause */
/* Log pages (NVMe 1.4 §5.14.1) and asynchronous events (§5.2). */
#include "devices/storage/nvme-internal.h"

#define LOG_ERRORS     0x01u
#define LOG_HEALTH     0x02u
#define LOG_FIRMWARE   0x03u
#define LOG_NAMESPACES 0x04u

#define RETAIN_EVENT (1u << 15)

#define ERROR_ENTRY  64u
#define TEMPERATURE  313u /* K, always */
#define HEALTH_HOT   0x02u
#define WANT_HEALTH  HEALTH_HOT /* bits of the event configuration (§5.21.1.11) */
#define WANT_CHANGES (1u << 8)

/* Events --------------------------------------------------------------------------------------- */

void vmm_nvme_tell_events(struct vmm_nvme *n)
{
    for (uint32_t type = 0; type < EVENT_TYPES && n->aer_count; type++) {
        struct nvme_events *e = &n->events;
        if (!e->pending[type] || e->masked[type])
            continue;
        struct nvme_request *r = n->aers[--n->aer_count];
        e->pending[type] = false;
        e->masked[type] = true;
        r->result = type | (uint32_t)e->info[type] << 8 | (uint32_t)e->page[type] << 16;
        vmm_nvme_complete(r, ST_OK);
    }
}

void vmm_nvme_event(struct vmm_nvme *n, uint32_t type, uint8_t info, uint8_t page)
{
    if (!(n->csts & CSTS_READY))
        return;
    n->events.pending[type] = true;
    n->events.info[type] = info;
    n->events.page[type] = page;
    vmm_nvme_tell_events(n);
}

uint32_t vmm_nvme_event_request(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    if (n->aer_count == NVME_AERS)
        return ST_AER_LIMIT;
    r->state = REQUEST_EVENT;
    n->aers[n->aer_count++] = r;
    vmm_nvme_tell_events(n);
    return ST_LATER;
}

static uint8_t health(const struct vmm_nvme *n)
{
    bool hot = TEMPERATURE >= n->features.over || TEMPERATURE <= n->features.under;
    return hot ? HEALTH_HOT : 0;
}

void vmm_nvme_check_health(struct vmm_nvme *n)
{
    if (health(n) & n->features.events & WANT_HEALTH)
        vmm_nvme_event(n, EVENT_HEALTH, 1, LOG_HEALTH);
}

void vmm_nvme_namespace_changed(struct vmm_nvme *n, uint32_t id)
{
    if (!(n->csts & CSTS_READY))
        return;
    n->changed[id] = 1;
    if (n->features.events & WANT_CHANGES)
        vmm_nvme_event(n, EVENT_NOTICE, 0, LOG_NAMESPACES);
    vmm_nvme_signal(n);
}

/* Errors --------------------------------------------------------------------------------------- */

void vmm_nvme_log_error(const struct nvme_request *r, uint32_t status)
{
    struct vmm_nvme *n = r->nvme;
    n->errors[n->error_count % NVME_ERRORS] = (struct nvme_error){
        .count = n->error_count + 1,
        .lba = r->sq ? nvme_qword(r, 10) : 0,
        .namespace = nvme_dword(r, 1),
        .sq = (uint16_t)r->sq,
        .cid = r->cid,
        .status = (uint16_t)status,
    };
    n->error_count++;
}

/* The newest first. */
static uint32_t error_page(const struct vmm_nvme *n, uint8_t *page)
{
    for (uint32_t i = 0; i < NVME_ERRORS && i < n->error_count; i++) {
        const struct nvme_error *e = &n->errors[(n->error_count - 1 - i) % NVME_ERRORS];
        uint8_t *at = page + (size_t)i * ERROR_ENTRY;
        vmm_store_le64(at, e->count);
        vmm_store_le16(at + 8, e->sq);
        vmm_store_le16(at + 10, e->cid);
        vmm_store_le16(at + 12, (uint16_t)(e->status << 1));
        vmm_store_le16(at + 14, 0xffff); /* of no particular field */
        vmm_store_le64(at + 16, e->lba);
        vmm_store_le32(at + 24, e->namespace);
    }
    return NVME_ERRORS * ERROR_ENTRY;
}

/* Other pages ---------------------------------------------------------------------------------- */

/* Units are thousands of 512 bytes, rounded up. */
static uint32_t health_page(const struct vmm_nvme *n, uint8_t *page)
{
    page[0] = health(n);
    vmm_store_le16(page + 1, TEMPERATURE);
    page[3] = 100; /* of the spare is there, */
    page[4] = 10;  /* less than this were worth a warning */
    vmm_store_le64(page + 32, (n->read_units + 999) / 1000);
    vmm_store_le64(page + 48, (n->written_units + 999) / 1000);
    vmm_store_le64(page + 64, n->reads);
    vmm_store_le64(page + 80, n->writes);
    vmm_store_le64(page + 176, n->error_count);
    return 512;
}

/* One slot, which is active. */
static uint32_t firmware_page(uint8_t *page)
{
    page[0] = 1;
    memcpy(page + 8, "1.0     ", 8);
    return 512;
}

static uint32_t namespaces_page(const struct vmm_nvme *n, uint8_t *page)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        if (n->changed[i])
            vmm_store_le32(page + (size_t)4 * count++, i);
    return NVME_PAGE;
}

/* Reading a page lets its type of event through again, and a list of changes begins anew. */
static void was_read(struct vmm_nvme *n, uint32_t id)
{
    uint32_t type = id == LOG_ERRORS ? EVENT_ERROR : id == LOG_HEALTH ? EVENT_HEALTH : EVENT_NOTICE;
    if (id == LOG_FIRMWARE)
        return;
    if (id == LOG_NAMESPACES)
        memset(n->changed, 0, sizeof(n->changed));
    n->events.masked[type] = false;
    vmm_nvme_tell_events(n);
}

uint32_t vmm_nvme_log_page(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint8_t page[NVME_PAGE] = {0};
    uint32_t id = nvme_dword(r, 10) & 0xff, have;
    uint64_t dwords = (nvme_dword(r, 10) >> 16 | (uint64_t)(nvme_dword(r, 11) & 0xffff) << 16) + 1;
    uint64_t offset = nvme_qword(r, 12);
    switch (id) {
    case LOG_ERRORS:
        have = error_page(n, page);
        break;
    case LOG_HEALTH: /* of the controller; there is none for each namespace */
        if (nvme_dword(r, 1) != NVME_ALL && nvme_dword(r, 1) != 0)
            return ST_INVALID_FIELD;
        have = health_page(n, page);
        break;
    case LOG_FIRMWARE:
        have = firmware_page(page);
        break;
    case LOG_NAMESPACES:
        have = namespaces_page(n, page);
        break;
    default:
        return ST_LOG_PAGE;
    }
    if (offset % 4 || offset >= have)
        return ST_INVALID_FIELD;
    have -= (uint32_t)offset;
    uint32_t length = dwords * 4 < have ? (uint32_t)dwords * 4 : have;
    uint32_t status = vmm_nvme_to_guest(r, page + offset, length);
    if (!status && !(nvme_dword(r, 10) & RETAIN_EVENT))
        was_read(n, id);
    return status;
}
