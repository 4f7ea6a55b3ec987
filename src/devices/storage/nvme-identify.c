/* SPDX-License-Identifier: BSD-3-Clause */
/* Identify (NVMe 1.4 §5.15): what the controller and its namespaces are. */
#include "devices/storage/nvme-internal.h"

#include <stdio.h>

#define CNS_NAMESPACE   0x00u
#define CNS_CONTROLLER  0x01u
#define CNS_ACTIVE      0x02u
#define CNS_DESCRIPTORS 0x03u

#define DESCRIPTOR_EUI64 1u
#define DESCRIPTOR_UUID  3u

/* Text that is padded with spaces. */
static void put_text(uint8_t *to, size_t length, const char *text)
{
    memset(to, ' ', length);
    for (size_t i = 0; i < length && text[i]; i++)
        to[i] = (uint8_t)text[i];
}

static void identify_controller(const struct vmm_nvme *n, uint8_t *p)
{
    const uint8_t *config = vmm_pci_config(n->pci); /* the IDs never change */
    memcpy(p, config, 2);
    memcpy(p + 2, config + 0x2c, 2);
    memcpy(p + 4, n->serial, sizeof(n->serial));
    memcpy(p + 24, n->model, sizeof(n->model));
    put_text(p + 64, 8, "1.0");
    p[72] = 6; /* recommended burst: 2^6 commands */
    p[77] = NVME_MDTS;
    vmm_store_le32(p + 80, 0x00010400);
    vmm_store_le32(p + 92, 1u << 8);            /* tells of changed namespaces */
    p[111] = 1;                                 /* an I/O controller */
    vmm_store_le16(p + 256, 1u << 1 | 1u << 8); /* Format, Doorbell Buffer Config */
    p[258] = 3;                                 /* four Aborts at a time */
    p[259] = NVME_AERS - 1;
    p[260] = 0x03; /* one firmware slot, read-only */
    p[261] = 0x04; /* log pages from an offset on */
    p[262] = NVME_ERRORS - 1;
    vmm_store_le16(p + 266, 343); /* K: warning, */
    vmm_store_le16(p + 268, 353); /* critical */
    p[512] = 0x66;                /* entries of 64 bytes */
    p[513] = 0x44;                /* of 16 */
    vmm_store_le32(p + 516, VMM_NVME_NAMESPACES);
    vmm_store_le16(p + 520, 1u | 1u << 2 | 1u << 3); /* Compare, Dataset, Write Zeroes */
    p[525] = 0x05;               /* a write cache; a Flush is for one namespace */
    vmm_store_le32(p + 536, 1u); /* SGLs, of any alignment */
    (void)snprintf((char *)p + 768, 256, "nqn.2014-08.org.nvmexpress:libvmm:%.20s", n->serial);
    for (char *c = (char *)p + 768; *c; c++) /* padding of the serial number */
        if (*c == ' ')
            *c = '\0';
    vmm_store_le16(p + 2048, 2500); /* 25 W */
}

/* A made-up but constant identity: QEMU's range of addresses, a hash of the serial number, the ID. */
static void eui64(const struct nvme_namespace *ns, uint8_t *to)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof(ns->nvme->serial); i++)
        hash = (hash ^ (uint8_t)ns->nvme->serial[i]) * 16777619u;
    const uint8_t value[8] = {0x52,
                              0x54,
                              0x00,
                              (uint8_t)(hash >> 24),
                              (uint8_t)(hash >> 16),
                              (uint8_t)(hash >> 8),
                              (uint8_t)hash,
                              (uint8_t)ns->id};
    memcpy(to, value, sizeof(value));
}

static void identify_namespace(const struct nvme_namespace *ns, uint8_t *p)
{
    vmm_store_le64(p, ns->blocks);
    vmm_store_le64(p + 8, ns->blocks);
    vmm_store_le64(p + 16, ns->blocks);
    p[33] = 0x08; /* Write Zeroes may deallocate */
    p[99] = ns->read_only;
    if (!ns->has_uuid)
        eui64(ns, p + 120);
    p[130] = (uint8_t)ns->shift; /* the one LBA format: its block size */
}

static void identify_descriptors(const struct nvme_namespace *ns, uint8_t *p)
{
    p[0] = ns->has_uuid ? DESCRIPTOR_UUID : DESCRIPTOR_EUI64;
    p[1] = ns->has_uuid ? 16 : 8;
    if (ns->has_uuid)
        memcpy(p + 4, ns->uuid, 16);
    else
        eui64(ns, p + 4);
}

static void active_list(const struct vmm_nvme *n, uint32_t after, uint8_t *p)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= VMM_NVME_NAMESPACES; i++)
        if (i > after && n->namespaces[i])
            vmm_store_le32(p + (size_t)4 * count++, i);
}

uint32_t vmm_nvme_identify(struct nvme_request *r)
{
    struct vmm_nvme *n = r->nvme;
    uint8_t page[NVME_PAGE] = {0};
    uint32_t what = nvme_dword(r, 10) & 0xff, id = nvme_dword(r, 1);
    const struct nvme_namespace *ns = vmm_nvme_namespace(n, id);
    switch (what) {
    case CNS_CONTROLLER:
        identify_controller(n, page);
        break;
    case CNS_ACTIVE:
        if (id >= NVME_ALL - 1)
            return ST_INVALID_NAMESPACE;
        active_list(n, id, page);
        break;
    case CNS_NAMESPACE: /* one that is not attached reads as zeros */
        if (id == 0 || id > VMM_NVME_NAMESPACES)
            return ST_INVALID_NAMESPACE;
        if (ns)
            identify_namespace(ns, page);
        break;
    case CNS_DESCRIPTORS:
        if (!ns)
            return ST_INVALID_NAMESPACE;
        identify_descriptors(ns, page);
        break;
    default:
        return ST_INVALID_FIELD;
    }
    return vmm_nvme_to_guest(r, page, NVME_PAGE);
}
