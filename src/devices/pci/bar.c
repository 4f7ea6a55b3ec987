/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Base address registers: where the guest has put them, and the buses and the memory map, which
 * follow.
 *
 * A BAR is placed when its decode bit is on, it lies in a window of the bridge and nothing else is
 * there. One that is wanted and finds its place taken waits: each time that a place becomes free, all
 * that wait are tried again. A BAR of memory also claims its range on the MMIO bus, where nothing
 * ever reaches it, so that overlaps are found the same way for all.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* Below RAM: where both are, RAM is seen. */
#define BAR_PRIORITY (-1)

uint32_t vmm_pci_bar_register(uint32_t index)
{
    return index == VMM_PCI_BAR_ROM ? PCI_ROM : PCI_BAR0 + 4 * index;
}

uint64_t vmm_pci_bar_address(const struct vmm_pci *pci, uint32_t index)
{
    const struct vmm_pci_bar *bar = &pci->bars[index].declared;
    uint32_t at = vmm_pci_bar_register(index);
    uint64_t value = vmm_load_le32(&pci->config[at]);
    if (bar->flags & VMM_PCI_BAR_64)
        value |= (uint64_t)vmm_load_le32(&pci->config[at + 4]) << 32;
    return value & ~(bar->length - 1);
}

/* Declarations --------------------------------------------------------------------------------- */

static int check_bar(const struct vmm_pci_options *o, uint32_t index, struct vmm_error *err)
{
    const struct vmm_pci_bar *bar = index == VMM_PCI_BAR_ROM ? &o->rom : &o->bars[index];
    bool port = bar->flags & VMM_PCI_BAR_PORT, wide = bar->flags & VMM_PCI_BAR_64;
    uint64_t least = port ? 4 : 16, most = port ? 256 : wide ? (uint64_t)1 << 62 : 1u << 31;
    if (index == VMM_PCI_BAR_ROM) {
        least = 2048;
        most = 16u << 20;
        wide = port = bar->flags != 0; /* none of them */
    }
    uint32_t widths = (bar->min_width ? bar->min_width : 1) | (bar->max_width ? bar->max_width : 8);
    if (!vmm_is_power_of_two(bar->length) || bar->length < least || bar->length > most ||
        (port && (bar->flags != VMM_PCI_BAR_PORT || bar->memory)) || (bar->flags & ~7u) ||
        (wide && index >= VMM_PCI_BARS - 1) || (widths & ~15u))
        return vmm_error_set(err, -EINVAL,
                             "%s: BAR %u of 0x%" PRIx64 " bytes, flags %#x: a power of two from "
                             "0x%" PRIx64 " to 0x%" PRIx64 ", and flags that go together",
                             o->name, index, bar->length, bar->flags, least, most);
    if (bar->memory && vmm_memory_region_length(bar->memory) != bar->length)
        return vmm_error_set(err, -EINVAL,
                             "%s: BAR %u of 0x%" PRIx64 " bytes has memory of 0x%" PRIx64, o->name,
                             index, bar->length, vmm_memory_region_length(bar->memory));
    return 0;
}

static bool used(const struct vmm_pci_options *o, uint32_t index)
{
    return index < VMM_PCI_BARS &&
           (o->bars[index].length || (o->msix_vectors && index == o->msix_bar));
}

int vmm_pci_check_bars(const struct vmm_pci_options *o, struct vmm_error *err)
{
    if (o->msix_vectors && (o->msix_bar >= VMM_PCI_BARS || o->bars[o->msix_bar].length))
        return vmm_error_set(err, -EINVAL, "%s: BAR %u, for MSI-X, is not free", o->name,
                             o->msix_bar);
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        const struct vmm_pci_bar *bar = i == VMM_PCI_BAR_ROM ? &o->rom : &o->bars[i];
        int rc = bar->length ? check_bar(o, i, err) : 0;
        if (rc)
            return rc;
        if (bar->length && (bar->flags & VMM_PCI_BAR_64) && used(o, i + 1))
            return vmm_error_set(err, -EINVAL, "%s: BAR %u is the upper half of BAR %u", o->name,
                                 i + 1, i);
    }
    return 0;
}

/* Accesses ------------------------------------------------------------------------------------- */

static uint64_t bar_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct pci_bar *bar = ctx;
    struct vmm_pci *pci = bar->pci;
    if (pci->msix_vectors && bar->index == pci->msix_bar)
        return vmm_pci_msix_read(pci, offset, width);
    if (bar->declared.memory || !pci->ops.bar_read)
        return 0;
    return pci->ops.bar_read(pci->ctx, bar->index, offset, width);
}

static void bar_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct pci_bar *bar = ctx;
    struct vmm_pci *pci = bar->pci;
    if (pci->msix_vectors && bar->index == pci->msix_bar)
        vmm_pci_msix_write(pci, offset, width, value);
    else if (!bar->declared.memory && pci->ops.bar_write)
        pci->ops.bar_write(pci->ctx, bar->index, offset, width, value);
}

/* Placing -------------------------------------------------------------------------------------- */

static struct vmm_bus *bus_of(const struct vmm_pci_host *host, const struct pci_bar *bar)
{
    return bar->declared.flags & VMM_PCI_BAR_PORT ? host->options.ports : host->options.mmio;
}

static bool inside(const struct vmm_pci_window *w, uint64_t address, uint64_t length)
{
    return length <= w->length && address >= w->address &&
           address - w->address <= w->length - length;
}

/* By the host bridge, and by each bridge on the way. The place_lock is held. */
static bool reachable(const struct vmm_pci_host *host, const struct pci_bar *bar)
{
    const struct vmm_pci_host_options *o = &host->options;
    uint64_t address = bar->address, length = bar->declared.length;
    bool port = bar->declared.flags & VMM_PCI_BAR_PORT;
    bool ok = port
                  ? o->ports && inside(&o->port_window, address, length)
                  : inside(&o->window, address, length) || inside(&o->high_window, address, length);
    for (const struct pci_bus *bus = bar->pci->bus; ok && bus->bridge; bus = bus->bridge->bus)
        ok = port ? inside(&bus->windows[0], address, length)
                  : inside(&bus->windows[1], address, length) ||
                        inside(&bus->windows[2], address, length);
    return ok;
}

struct overlap {
    uint64_t address, length;
    char name[32]; /* of what is there */
};

static int find_overlap(void *ctx, const struct vmm_memory_info *info)
{
    struct overlap *o = ctx;
    if (!vmm_ranges_overlap(o->address, o->length, info->address, info->length))
        return 0;
    (void)snprintf(o->name, sizeof(o->name), "%s", vmm_memory_region_name(info->region));
    return 1;
}

static int check_memory(struct vmm_pci_host *host, const struct pci_bar *bar, struct vmm_error *err)
{
    struct overlap o = {.address = bar->address, .length = bar->declared.length};
    if (!host->options.memory || (bar->declared.flags & VMM_PCI_BAR_PORT) ||
        !vmm_memory_foreach(host->options.memory, find_overlap, &o))
        return 0;
    return vmm_error_set(err, -EEXIST, "it overlaps \"%s\"", o.name);
}

static int claim(struct vmm_pci_host *host, struct pci_bar *bar, struct vmm_error *err)
{
    static const char *const names[] = {"bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom"};
    char name[48];
    if (bar->region)
        return vmm_bus_place(bus_of(host, bar), bar->region, bar->address, true, err);
    const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = bar_read,
        .write = bar_write,
        .min_width = bar->declared.min_width,
        .max_width = bar->declared.max_width,
    };
    struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
    (void)snprintf(name, sizeof(name), "%s.%s", vmm_device_name(bar->pci->device),
                   names[bar->index]);
    o.name = name;
    o.address = bar->address;
    o.length = bar->declared.length;
    o.device = bar->pci->device;
    o.ops = &ops;
    o.ctx = bar;
    return vmm_bus_add(bus_of(host, bar), &o, &bar->region, err);
}

static int show_memory(struct vmm_pci_host *host, struct pci_bar *bar, struct vmm_error *err)
{
    struct vmm_memory *memory = host->options.memory;
    struct vmm_memory_region *region = bar->declared.memory;
    if (!region || !memory)
        return 0;
    if (!bar->in_memory) {
        int rc = vmm_memory_add(memory, region, bar->address, BAR_PRIORITY, err);
        bar->in_memory = rc == 0;
        return rc;
    }
    vmm_memory_begin(memory);
    (void)vmm_memory_move(memory, region, bar->address, NULL);
    (void)vmm_memory_set_enabled(memory, region, true, NULL);
    return vmm_memory_commit(memory, err);
}

static int place(struct vmm_pci_host *host, struct pci_bar *bar, struct vmm_error *err)
{
    int rc = check_memory(host, bar, err);
    if (!rc)
        rc = claim(host, bar, err);
    if (rc)
        return rc;
    rc = show_memory(host, bar, err);
    if (rc) {
        (void)vmm_bus_place(bus_of(host, bar), bar->region, 0, false, NULL);
        return rc;
    }
    bar->placed = true;
    bar->placed_at = bar->address;
    if (bar->pci->ops.bar_placed)
        bar->pci->ops.bar_placed(bar->pci->ctx, bar->index, true, bar->address);
    return 0;
}

static void unplace(struct vmm_pci_host *host, struct pci_bar *bar)
{
    if (bar->pci->ops.bar_placed)
        bar->pci->ops.bar_placed(bar->pci->ctx, bar->index, false, bar->placed_at);
    if (bar->in_memory)
        (void)vmm_memory_set_enabled(host->options.memory, bar->declared.memory, false, NULL);
    (void)vmm_bus_place(bus_of(host, bar), bar->region, 0, false, NULL);
    bar->placed = false;
}

static bool decodes(const struct vmm_pci *pci, const struct pci_bar *bar)
{
    uint32_t bit = bar->declared.flags & VMM_PCI_BAR_PORT ? COMMAND_PORTS : COMMAND_MEMORY;
    bool on = bar->declared.length && (vmm_pci_command(pci) & bit) && vmm_pci_powered(pci);
    if (bar->index == VMM_PCI_BAR_ROM)
        on = on && (pci->config[PCI_ROM] & 1);
    return on;
}

/* A window of a bridge: base and limit have the upper bits of the first and the last granule. */
static struct vmm_pci_window bridge_window(uint64_t base, uint64_t limit, uint64_t granule, bool on)
{
    if (!on || base > limit)
        return (struct vmm_pci_window){0};
    return (struct vmm_pci_window){base, limit - base + granule};
}

/* PCI-to-PCI bridge specification 1.2, 3.2.5.6 to 3.2.5.10 */
static void read_windows(struct vmm_pci *pci, bool on)
{
    const uint8_t *c = pci->config;
    struct vmm_pci_window *w = pci->secondary->windows;
    bool ports = on && (vmm_pci_command(pci) & COMMAND_PORTS);
    bool memory = on && (vmm_pci_command(pci) & COMMAND_MEMORY);
    uint64_t high_base = (uint64_t)vmm_load_le32(c + 0x28) << 32;
    uint64_t high_limit = (uint64_t)vmm_load_le32(c + 0x2c) << 32;
    w[0] = bridge_window((c[0x1c] & 0xf0u) << 8, (c[0x1d] & 0xf0u) << 8, 0x1000, ports);
    w[1] = bridge_window((uint64_t)(vmm_load_le16(c + 0x20) & 0xfff0u) << 16,
                         (uint64_t)(vmm_load_le16(c + 0x22) & 0xfff0u) << 16, 0x100000, memory);
    w[2] = bridge_window(high_base | (uint64_t)(vmm_load_le16(c + 0x24) & 0xfff0u) << 16,
                         high_limit | (uint64_t)(vmm_load_le16(c + 0x26) & 0xfff0u) << 16, 0x100000,
                         memory);
}

/* What the registers of one function say; its device's lock and the place_lock are held. */
static void read_registers(struct vmm_pci *pci, bool on)
{
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        struct pci_bar *bar = &pci->bars[i];
        bar->on = on && decodes(pci, bar);
        bar->address = bar->declared.length ? vmm_pci_bar_address(pci, i) : 0;
    }
    if (pci->secondary)
        read_windows(pci, on && vmm_pci_powered(pci));
}

static void take_off_moved(struct vmm_pci_host *host, struct vmm_pci *pci)
{
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        struct pci_bar *bar = &pci->bars[i];
        bool stays = bar->on && bar->address == bar->placed_at && reachable(host, bar);
        if (bar->placed && !stays)
            unplace(host, bar);
    }
}

/* Those of one function that wait; `report` where it is the guest's doing. */
static void try_waiting(struct vmm_pci_host *host, struct vmm_pci *pci, bool report)
{
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        struct pci_bar *bar = &pci->bars[i];
        struct vmm_error err = VMM_ERROR_INIT;
        if (!bar->on || bar->placed || !reachable(host, bar))
            continue;
        if (place(host, bar, &err) && report && pci->vm)
            vmm_vm_guest_error(pci->vm, vmm_device_name(pci->device), "BAR %u at 0x%" PRIx64 ": %s",
                               i, bar->address, err.text);
    }
}

/* All functions: a bridge's windows move what is behind it, and what goes makes room for others. */
static void settle(struct vmm_pci_host *host, struct vmm_pci *first)
{
    for (struct vmm_pci *p = host->placing; p; p = p->next_placing)
        take_off_moved(host, p);
    try_waiting(host, first, true);
    for (struct vmm_pci *p = host->placing; p; p = p->next_placing)
        if (p != first)
            try_waiting(host, p, false);
}

void vmm_pci_bars_update(struct vmm_pci *pci)
{
    struct vmm_pci_host *host = pci->host;
    if (!host)
        return;
    pthread_mutex_lock(&host->place_lock);
    read_registers(pci, true);
    settle(host, pci);
    pthread_mutex_unlock(&host->place_lock);
}

void vmm_pci_bars_join(struct vmm_pci *pci)
{
    pthread_mutex_lock(&pci->host->place_lock);
    pci->next_placing = pci->host->placing;
    pci->host->placing = pci;
    pthread_mutex_unlock(&pci->host->place_lock);
    vmm_pci_bars_update(pci);
}

void vmm_pci_bars_take_off(struct vmm_pci *pci)
{
    struct vmm_pci_host *host = pci->host;
    pthread_mutex_lock(&host->place_lock);
    read_registers(pci, false);
    settle(host, pci);
    for (struct vmm_pci **p = &host->placing; *p; p = &(*p)->next_placing)
        if (*p == pci) {
            *p = pci->next_placing;
            break;
        }
    pthread_mutex_unlock(&host->place_lock);
}

void vmm_pci_bars_release(struct vmm_pci *pci, struct vmm_pci_host *host)
{
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++) {
        struct pci_bar *bar = &pci->bars[i];
        if (bar->in_memory)
            (void)vmm_memory_remove(host->options.memory, bar->declared.memory, NULL);
        bar->in_memory = false;
        if (bar->region)
            vmm_bus_remove(bus_of(host, bar), bar->region);
        bar->region = NULL;
    }
}
