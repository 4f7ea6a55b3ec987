/* SPDX-License-Identifier: BSD-3-Clause */
/* Configuration space of a function: the header, and accesses to all of it (PCI 3.0 §6.1, §6.2). */
#include "base/util.h"
#include "devices/pci/internal.h"

#define ISA_BRIDGE_COMMAND (COMMAND_PORTS | COMMAND_MEMORY | COMMAND_BUS_MASTER)
#define COMMAND_WRITABLE   (COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE)

/* A BAR's fixed bits, and the bits of the address that can be written: those above its length, which
 * is how the guest learns of it (§6.2.5.1). */
static void build_bar(struct vmm_pci *pci, uint32_t index, const struct vmm_pci_bar *bar)
{
    uint32_t at = vmm_pci_bar_register(index);
    uint64_t mask = ~(bar->length - 1);
    uint32_t fixed = bar->flags & VMM_PCI_BAR_PORT ? 1u : 0u;
    if (index == VMM_PCI_BAR_ROM) {
        vmm_store_le32(&pci->writable[at], (uint32_t)mask | 1u);
        return;
    }
    fixed |= bar->flags & VMM_PCI_BAR_64 ? 4u : 0u;
    fixed |= bar->flags & VMM_PCI_BAR_PREFETCH ? 8u : 0u;
    vmm_store_le32(&pci->config[at], fixed);
    vmm_store_le32(&pci->writable[at], (uint32_t)mask);
    if (bar->flags & VMM_PCI_BAR_64)
        vmm_store_le32(&pci->writable[at + 4], (uint32_t)(mask >> 32));
}

static void build_bars(struct vmm_pci *pci, const struct vmm_pci_options *o)
{
    /* A VGA has ports and memory at fixed addresses, which need no BAR. */
    uint16_t decode = o->class_code >> 8 == 0x0300 ? COMMAND_PORTS | COMMAND_MEMORY : 0;
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        struct pci_bar *bar = &pci->bars[i];
        bar->pci = pci;
        bar->index = i;
        bar->declared = i == VMM_PCI_BAR_ROM ? o->rom : o->bars[i];
        if (o->msix_vectors && i == o->msix_bar)
            bar->declared = (struct vmm_pci_bar){
                .length = vmm_pci_msix_bar_length(o->msix_vectors), .min_width = 1, .max_width = 8};
        if (!bar->declared.length)
            continue;
        build_bar(pci, i, &bar->declared);
        decode |= bar->declared.flags & VMM_PCI_BAR_PORT ? COMMAND_PORTS : COMMAND_MEMORY;
    }
    uint16_t writable = COMMAND_WRITABLE | decode;
    if (o->class_code >> 8 == 0x0601) {
        /* An ISA bridge always answers (PIIX3, 2.2.3; ICH9, 13.1.3); EDK2 looks for what is behind it only
         * where these bits are set. */
        vmm_store_le16(&pci->config[PCI_COMMAND], ISA_BRIDGE_COMMAND);
        writable = (uint16_t)(writable & ~ISA_BRIDGE_COMMAND);
    }
    vmm_store_le16(&pci->writable[PCI_COMMAND], writable);
}

int vmm_pci_build_header(struct vmm_pci *pci, const struct vmm_pci_options *o,
                         struct vmm_error *err)
{
    int rc = vmm_pci_check_bars(o, err);
    if (rc)
        return rc;
    uint8_t *c = pci->config;
    vmm_store_le16(c + PCI_VENDOR_ID, o->vendor_id);
    vmm_store_le16(c + PCI_DEVICE_ID, o->device_id);
    vmm_store_le32(c + PCI_REVISION, o->class_code << 8 | o->revision);
    vmm_store_le16(c + PCI_SUBSYSTEM, o->subsystem_vendor_id);
    vmm_store_le16(c + PCI_SUBSYSTEM + 2, o->subsystem_id);
    c[PCI_INTERRUPT_PIN] = o->interrupt_pin;
    pci->writable[PCI_CACHE_LINE] = 0xff;
    pci->writable[PCI_INTERRUPT_LINE] = o->interrupt_pin ? 0xff : 0;
    build_bars(pci, o);
    pci->next_capability = PCI_HEADER_END;
    return vmm_pci_add_capabilities(pci, o, err);
}

/* PCI-to-PCI bridge specification 1.2, 3.2. Its windows are closed at first: base above limit. I/O
 * addresses have 16 bits, prefetchable ones 64. */
void vmm_pci_build_bridge_header(struct vmm_pci *pci, struct pci_bus *secondary)
{
    static const uint8_t windows[] = {0xf0, 0, 0, 0, 0xf0, 0xff, 0, 0, 0xf1, 0xff, 1, 0};
    static const uint8_t writable[] = {0xf0, 0xf0, 0,    0,    0xf0, 0xff,
                                       0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff};
    uint8_t *c = pci->config, *w = pci->writable;
    c[PCI_HEADER_TYPE] = HEADER_BRIDGE;
    memset(c + PCI_SUBSYSTEM, 0, 4);
    memcpy(c + PCI_WINDOWS, windows, sizeof(windows));
    memcpy(w + PCI_WINDOWS, writable, sizeof(writable));
    memset(w + 0x28, 0xff, 8); /* the upper halves of the prefetchable window */
    memset(w + PCI_BUS_NUMBERS, 0xff, 3);
    vmm_store_le16(w + PCI_COMMAND, COMMAND_WRITABLE | COMMAND_PORTS | COMMAND_MEMORY);
    w[0x3e] = 0x03; /* parity and system errors, which never come */
    pci->secondary = secondary;
    secondary->bridge = pci;
    memcpy(pci->initial, pci->config, CONFIG_SIZE);
}

uint16_t vmm_pci_command(const struct vmm_pci *pci)
{
    return vmm_load_le16(&pci->config[PCI_COMMAND]);
}

const uint8_t *vmm_pci_config(const struct vmm_pci *pci)
{
    return pci->config;
}

/* Accesses ------------------------------------------------------------------------------------- */

static uint8_t byte_at(struct vmm_pci *pci, uint32_t offset)
{
    uint8_t value = pci->config[offset];
    if (offset == PCI_STATUS && pci->pin_level && !vmm_pci_messages_enabled(pci))
        value |= STATUS_INTERRUPT;
    return value;
}

/* Where there is no extended space all bits are set, as on a bus that has none. */
static uint32_t beyond(const struct vmm_pci *pci, uint32_t width)
{
    return pci->express ? 0 : UINT32_MAX >> (32 - 8 * width);
}

uint32_t vmm_pci_config_get(struct vmm_pci *pci, uint32_t offset, uint32_t width)
{
    uint32_t value = 0;
    if (offset > CONFIG_SIZE - width)
        return beyond(pci, width);
    pthread_mutex_lock(&pci->irq_lock);
    for (uint32_t i = 0; i < width; i++)
        value |= (uint32_t)byte_at(pci, offset + i) << (8 * i);
    pthread_mutex_unlock(&pci->irq_lock);
    if (offset >= PCI_HEADER_END && pci->ops.config_read)
        value = pci->ops.config_read(pci->ctx, offset, width, value);
    return value;
}

static bool touches(uint32_t offset, uint32_t width, uint32_t at, uint32_t length)
{
    return offset < at + length && at < offset + width;
}

static bool moves_bars(const struct vmm_pci *pci, uint32_t offset, uint32_t width)
{
    return touches(offset, width, PCI_COMMAND, 2) || touches(offset, width, PCI_BAR0, 24) ||
           touches(offset, width, PCI_ROM, 4) ||
           (pci->secondary && touches(offset, width, PCI_WINDOWS, PCI_WINDOWS_END - PCI_WINDOWS)) ||
           (pci->pm && touches(offset, width, pci->pm + 4, 1));
}

void vmm_pci_bus_numbers_update(struct vmm_pci *pci)
{
    if (pci->secondary)
        pci->secondary->numbers = vmm_load_le16(&pci->config[PCI_BUS_NUMBERS + 1]);
}

void vmm_pci_config_put(struct vmm_pci *pci, uint32_t offset, uint32_t width, uint32_t value)
{
    if (offset > CONFIG_SIZE - width)
        return;
    pthread_mutex_lock(&pci->irq_lock);
    for (uint32_t i = 0; i < width; i++) {
        uint8_t *byte = &pci->config[offset + i], mask = pci->writable[offset + i];
        uint8_t written = (uint8_t)(value >> (8 * i));
        *byte = (uint8_t)((*byte & ~mask) | (written & mask));
        *byte = (uint8_t)(*byte & ~(written & pci->clearable[offset + i]));
    }
    vmm_pci_bus_numbers_update(pci);
    vmm_pci_messages_update(pci);
    vmm_pci_intx_update(pci);
    pthread_mutex_unlock(&pci->irq_lock);
    if (moves_bars(pci, offset, width))
        vmm_pci_bars_update(pci);
    if (pci->ops.config_written)
        pci->ops.config_written(pci->ctx, offset, width, value);
}
