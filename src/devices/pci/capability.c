/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of capabilities (PCI 3.0 §6.7), and those that the library keeps itself. */
#include "base/util.h"
#include "devices/pci/internal.h"

#define HEADER_SIZE 2u

int vmm_pci_add_capability(struct vmm_pci *pci, uint8_t id, const void *data, const void *writable,
                           size_t length, uint32_t *offset)
{
    uint32_t at = pci->next_capability;
    if (pci->host)
        return -EBUSY;
    if (!id || (length && !data))
        return -EINVAL;
    if (length + HEADER_SIZE > CONFIG_SIZE - at)
        return -ENOSPC;
    uint8_t *link =
        &pci->config[pci->last_capability ? pci->last_capability + 1 : PCI_CAPABILITIES];
    *link = (uint8_t)at;
    pci->config[PCI_STATUS] |= STATUS_CAPABILITIES;
    pci->config[at] = id;
    pci->config[at + 1] = 0;
    if (length)
        memcpy(&pci->config[at + HEADER_SIZE], data, length);
    if (writable)
        memcpy(&pci->writable[at + HEADER_SIZE], writable, length);
    pci->last_capability = at;
    pci->next_capability = (uint32_t)vmm_align_up(at + HEADER_SIZE + length, 4);
    memcpy(pci->initial, pci->config, CONFIG_SIZE);
    if (offset)
        *offset = at;
    return 0;
}

/* PCI power management 1.2 §3.2: version 3, no PME, and no reset on the way from D3hot to D0. */
static int add_pm(struct vmm_pci *pci)
{
    uint8_t data[6] = {3, 0, 8}, writable[6] = {0, 0, 3};
    return vmm_pci_add_capability(pci, CAP_PM, data, writable, sizeof(data), &pci->pm);
}

bool vmm_pci_powered(const struct vmm_pci *pci)
{
    return !pci->pm || (pci->config[pci->pm + 4] & 3) == 0;
}

/* §6.8.1 */
static int add_msi(struct vmm_pci *pci, uint32_t vectors, uint32_t flags)
{
    uint8_t data[22] = {0}, writable[22] = {0};
    bool wide = flags & VMM_PCI_MSI_64, masking = flags & VMM_PCI_MSI_MASKING;
    uint32_t log = (uint32_t)__builtin_ctz(vectors), message = wide ? 10 : 6, masks = message + 4;
    vmm_store_le16(data, (uint16_t)(log << 1 | (wide ? 0x80u : 0u) | (masking ? 0x100u : 0u)));
    vmm_store_le16(writable, 0x71);
    vmm_store_le32(writable + 2, 0xfffffffcu);
    if (wide)
        vmm_store_le32(writable + 6, UINT32_MAX);
    vmm_store_le16(writable + message, UINT16_MAX);
    if (masking)
        vmm_store_le32(writable + masks, UINT32_MAX >> (32 - vectors));
    size_t length = masking ? masks + 8 : message + 2;
    int rc = vmm_pci_add_capability(pci, CAP_MSI, data, writable, length, &pci->msi);
    if (!rc && masking) /* the pending bits */
        memcpy(&pci->changing[pci->msi + HEADER_SIZE + masks + 4], writable + masks, 4);
    return rc;
}

/* §6.8.2 */
static int add_msix(struct vmm_pci *pci, uint32_t vectors, uint32_t bar)
{
    uint8_t data[10] = {0}, writable[10] = {0};
    vmm_store_le16(data, (uint16_t)(vectors - 1));
    vmm_store_le32(data + 2, bar);
    vmm_store_le32(data + 6, vmm_pci_msix_pba(vectors) | bar);
    vmm_store_le16(writable, MSIX_ENABLE | MSIX_MASK_ALL);
    return vmm_pci_add_capability(pci, CAP_MSIX, data, writable, sizeof(data), &pci->msix);
}

/* PCI Express 3.0 §7.8: version 2, an endpoint of the root complex, which has no link. */
static int add_express(struct vmm_pci *pci)
{
    uint8_t data[0x3a] = {0}, writable[0x3a] = {0};
    vmm_store_le16(data, 2u | 9u << 4);
    vmm_store_le32(data + 2, 1u << 15); /* role-based error reporting, payloads of 128 bytes */
    vmm_store_le16(data + 6, 0x2810);   /* relaxed ordering, no snoop, read requests of 512 bytes */
    vmm_store_le16(writable + 6, 0x7cff);
    return vmm_pci_add_capability(pci, CAP_EXPRESS, data, writable, sizeof(data), &pci->pcie);
}

static int check(const struct vmm_pci_options *o, struct vmm_error *err)
{
    if (o->msi_vectors > 32 || (o->msi_vectors && !vmm_is_power_of_two(o->msi_vectors)) ||
        (o->msi_flags & ~(VMM_PCI_MSI_64 | VMM_PCI_MSI_MASKING)))
        return vmm_error_set(err, -EINVAL, "%s: %u MSI vectors, flags %#x: a power of two to 32",
                             o->name, o->msi_vectors, o->msi_flags);
    if (o->msix_vectors > MSIX_VECTORS_MAX)
        return vmm_error_set(err, -EINVAL, "%s: %u MSI-X vectors are more than %u", o->name,
                             o->msix_vectors, MSIX_VECTORS_MAX);
    if (o->capabilities & ~(VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS))
        return vmm_error_set(err, -EINVAL, "%s: capabilities %#x are not known", o->name,
                             o->capabilities);
    return 0;
}

int vmm_pci_add_capabilities(struct vmm_pci *pci, const struct vmm_pci_options *o,
                             struct vmm_error *err)
{
    int rc = check(o, err);
    if (rc)
        return rc;
    memcpy(pci->initial, pci->config, CONFIG_SIZE);
    if (o->capabilities & VMM_PCI_CAP_PM)
        rc = add_pm(pci);
    if (!rc && o->msi_vectors)
        rc = add_msi(pci, o->msi_vectors, o->msi_flags);
    if (!rc && o->msix_vectors)
        rc = add_msix(pci, o->msix_vectors, o->msix_bar);
    pci->express = o->capabilities & VMM_PCI_CAP_EXPRESS;
    if (!rc && pci->express)
        rc = add_express(pci);
    return rc ? vmm_error_set(err, rc, "%s: the capabilities do not fit", o->name) : 0;
}

int vmm_pci_set_register(struct vmm_pci *pci, uint32_t offset, uint8_t value, uint8_t writable)
{
    bool taken = pci->last_capability && offset < pci->next_capability;
    if (offset < PCI_HEADER_END || offset >= CONFIG_SIZE || taken)
        return -EINVAL;
    pci->config[offset] = pci->initial[offset] = value;
    pci->writable[offset] = writable;
    return 0;
}
