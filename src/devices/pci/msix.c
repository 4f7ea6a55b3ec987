/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The BAR of MSI-X (PCI 3.0 §6.8.2): the table in its first half, the pending bits in the second.
 * Software accesses whole, aligned dwords and quadwords; other reads are served, other writes ignored.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <stdlib.h>

#define VECTOR_CONTROL 12u

/* The pending bits begin here; on a page of their own where the table fills one. */
uint32_t vmm_pci_msix_pba(uint32_t vectors)
{
    uint32_t half = 2048;
    while (half < vectors * MSIX_ENTRY)
        half *= 2;
    return half;
}

uint64_t vmm_pci_msix_bar_length(uint32_t vectors)
{
    return 2 * (uint64_t)vmm_pci_msix_pba(vectors);
}

static uint8_t pending_byte(struct vmm_pci *pci, uint64_t index)
{
    uint8_t value = 0;
    for (uint32_t bit = 0; bit < 8; bit++) {
        uint64_t vector = index * 8 + bit;
        if (vector < pci->msix_vectors && vmm_pci_vector_pending(pci, (uint32_t)vector))
            value = (uint8_t)(value | 1u << bit);
    }
    return value;
}

static uint8_t read_byte(struct vmm_pci *pci, uint64_t offset)
{
    uint32_t pba = vmm_pci_msix_pba(pci->msix_vectors);
    if (offset < (uint64_t)pci->msix_vectors * MSIX_ENTRY)
        return pci->table[offset];
    return offset >= pba ? pending_byte(pci, offset - pba) : 0;
}

uint64_t vmm_pci_msix_read(struct vmm_pci *pci, uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    pthread_mutex_lock(&pci->irq_lock);
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)read_byte(pci, offset + i) << (8 * i);
    pthread_mutex_unlock(&pci->irq_lock);
    return value;
}

static void write_dword(struct vmm_pci *pci, uint32_t offset, uint32_t value)
{
    if (offset % MSIX_ENTRY == VECTOR_CONTROL)
        value &= MSIX_VECTOR_MASK;
    if (offset % MSIX_ENTRY == 0)
        value &= ~3u;
    vmm_store_le32(&pci->table[offset], value);
}

void vmm_pci_msix_write(struct vmm_pci *pci, uint64_t offset, uint32_t width, uint64_t value)
{
    if (width < 4 || offset % width || offset >= (uint64_t)pci->msix_vectors * MSIX_ENTRY)
        return;
    pthread_mutex_lock(&pci->irq_lock);
    write_dword(pci, (uint32_t)offset, (uint32_t)value);
    if (width == 8)
        write_dword(pci, (uint32_t)offset + 4, (uint32_t)(value >> 32));
    vmm_pci_vector_update(pci, (uint32_t)offset / MSIX_ENTRY);
    pthread_mutex_unlock(&pci->irq_lock);
}

/* Save and load --------------------------------------------------------------------------------- */

static size_t pending_words(const struct vmm_pci *pci)
{
    return (pci->msix_vectors + 63) / 64;
}

int vmm_pci_msix_save(struct vmm_pci *pci, struct vmm_state_writer *w)
{
    size_t words = pending_words(pci);
    uint8_t bits[MSIX_VECTORS_MAX / 8] = {0};
    for (uint32_t i = 0; i < pci->msix_vectors; i++)
        if (vmm_pci_vector_pending(pci, i))
            bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << (i % 8));
    (void)vmm_state_put_bytes(w, "msix-table", pci->table, pci->msix_vectors * (size_t)MSIX_ENTRY);
    return vmm_state_put_bytes(w, "msix-pending", bits, words * 8);
}

int vmm_pci_msix_load(struct vmm_pci *pci, struct vmm_state_reader *r, uint8_t **table,
                      uint64_t **pending, struct vmm_error *err)
{
    size_t words = pending_words(pci);
    uint8_t *entries = calloc(pci->msix_vectors, MSIX_ENTRY);
    uint64_t *bits = calloc(words, sizeof(*bits));
    int rc = entries && bits ? 0 : vmm_error_set(err, -ENOMEM, "out of memory");
    rc = rc ? rc
            : vmm_state_get_bytes(r, "msix-table", entries, pci->msix_vectors * (size_t)MSIX_ENTRY,
                                  err);
    rc = rc ? rc : vmm_state_get_bytes(r, "msix-pending", bits, words * 8, err);
    for (size_t i = 0; i < words && !rc; i++)
        bits[i] = le64toh(bits[i]);
    if (!rc && pci->msix_vectors % 64 && bits[words - 1] >> (pci->msix_vectors % 64))
        rc = vmm_error_set(err, -EINVAL, "%s/msix-pending: vectors that are not there",
                           vmm_device_name(pci->device));
    if (rc) {
        free(entries);
        free(bits);
        return rc;
    }
    *table = entries;
    *pending = bits;
    return 0;
}
