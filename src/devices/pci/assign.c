/* SPDX-License-Identifier: BSD-3-Clause */
/* What firmware does where there is none: a place for each BAR, and decoding switched on. */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define ALL_BARS (PCI_FUNCTIONS_MAX * PCI_BARS_AND_ROM)

struct want {
    struct pci_bar *bar;
    uint64_t address;
    bool failed;
};

/* Windows are used up from below. */
struct cursor {
    uint64_t next;
    uint64_t left;
};

static struct cursor cursor_of(const struct vmm_pci_window *w)
{
    /* Zero is no address for a BAR: to many guests it means that there is none. */
    bool zero = w->length && w->address == 0;
    return (struct cursor){w->address + zero, w->length - zero};
}

static bool allocate(struct cursor *c, uint64_t length, uint64_t *address)
{
    uint64_t gap = (length - (c->next & (length - 1))) & (length - 1);
    if (gap > c->left || length > c->left - gap)
        return false;
    *address = c->next + gap;
    c->next += gap + length;
    c->left -= gap + length;
    return true;
}

/* Largest first leaves no gaps; then in the order of functions, so that it is the same each time. */
static int by_length(const void *a, const void *b)
{
    const struct pci_bar *x = ((const struct want *)a)->bar, *y = ((const struct want *)b)->bar;
    if (x->declared.length != y->declared.length)
        return x->declared.length < y->declared.length ? 1 : -1;
    uint32_t left = x->pci->address * PCI_BARS_AND_ROM + x->index;
    uint32_t right = y->pci->address * PCI_BARS_AND_ROM + y->index;
    return left < right ? -1 : left > right;
}

static size_t collect(struct vmm_pci_host *host, struct want *wants)
{
    size_t count = 0;
    for (uint32_t i = 0; i < PCI_FUNCTIONS_MAX; i++)
        for (uint32_t k = 0; host->root.functions[i] && k < PCI_BARS_AND_ROM; k++)
            if (host->root.functions[i]->bars[k].declared.length)
                wants[count++] = (struct want){.bar = &host->root.functions[i]->bars[k]};
    qsort(wants, count, sizeof(*wants), by_length);
    return count;
}

/* 64-bit prefetchable BARs go up where there is a window; any 64-bit one does when below is full. */
static bool find_place(struct want *w, struct cursor *ports, struct cursor *low,
                       struct cursor *high)
{
    uint32_t flags = w->bar->declared.flags;
    uint64_t length = w->bar->declared.length;
    if (flags & VMM_PCI_BAR_PORT)
        return allocate(ports, length, &w->address);
    bool wide = flags & VMM_PCI_BAR_64, first_high = wide && (flags & VMM_PCI_BAR_PREFETCH);
    if (first_high && allocate(high, length, &w->address))
        return true;
    return allocate(low, length, &w->address) || (wide && allocate(high, length, &w->address));
}

/* The device's lock is held. */
static void store(const struct want *w)
{
    struct vmm_pci *pci = w->bar->pci;
    uint32_t at = vmm_pci_bar_register(w->bar->index);
    vmm_pci_config_put(pci, at, 4, (uint32_t)w->address);
    if (w->bar->declared.flags & VMM_PCI_BAR_64)
        vmm_pci_config_put(pci, at + 4, 4, (uint32_t)(w->address >> 32));
}

static void set_up(struct vmm_pci *pci, const struct want *wants, size_t count)
{
    uint16_t command = 0;
    bool failed = false;
    vmm_device_lock(pci->device);
    vmm_pci_config_put(pci, PCI_COMMAND, 2, 0);
    for (size_t i = 0; i < count; i++) {
        const struct want *w = &wants[i];
        if (w->bar->pci != pci)
            continue;
        failed = failed || w->failed;
        store(w);
        command |= w->bar->declared.flags & VMM_PCI_BAR_PORT ? COMMAND_PORTS : COMMAND_MEMORY;
    }
    if (vmm_load_le16(&pci->config[PCI_CLASS + 1]) == 0x0300)
        command |= COMMAND_PORTS; /* the fixed ones of a VGA */
    if (command && !failed)
        vmm_pci_config_put(pci, PCI_COMMAND, 2, command);
    vmm_device_unlock(pci->device);
}

int vmm_pci_host_assign(struct vmm_pci_host *host, struct vmm_error *err)
{
    struct cursor ports = cursor_of(&host->options.port_window);
    struct cursor low = cursor_of(&host->options.window);
    struct cursor high = cursor_of(&host->options.high_window);
    struct want *wants = calloc(ALL_BARS, sizeof(*wants));
    int rc = 0;
    if (!wants)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pthread_rwlock_rdlock(&host->tree);
    size_t count = collect(host, wants);
    for (size_t i = 0; i < count; i++) {
        wants[i].failed = !find_place(&wants[i], &ports, &low, &high);
        if (wants[i].failed)
            rc = vmm_error_set(err, -ENOSPC,
                               "%s: no window has room for BAR %u of 0x%" PRIx64 " bytes",
                               vmm_device_name(wants[i].bar->pci->device), wants[i].bar->index,
                               wants[i].bar->declared.length);
    }
    for (uint32_t i = 0; i < PCI_FUNCTIONS_MAX; i++)
        if (host->root.functions[i])
            set_up(host->root.functions[i], wants, count);
    pthread_rwlock_unlock(&host->tree);
    free(wants);
    return rc;
}
