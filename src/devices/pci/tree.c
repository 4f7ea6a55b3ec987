/* SPDX-License-Identifier: BSD-3-Clause */
/* Which functions there are: the root bus, the buses behind bridges, and who comes and goes. */
#include "base/util.h"
#include "devices/pci/internal.h"

/* Finding -------------------------------------------------------------------------------------- */

/* The bus of a number: behind the bridge that says so, found by way of bridges that say that it is
 * further behind them. Each step goes down, so wild numbers make no loop. */
static struct pci_bus *find_bus(struct vmm_pci_host *host, uint32_t number)
{
    struct pci_bus *bus = &host->root;
    while (number && bus) {
        struct pci_bus *next = NULL;
        for (uint32_t i = 0; i < PCI_FUNCTIONS_MAX; i++) {
            struct pci_bus *behind = bus->functions[i] ? bus->functions[i]->secondary : NULL;
            uint32_t numbers = behind ? behind->numbers : 0, first = numbers & 0xff;
            if (first && number == first)
                return behind;
            if (first && number > first && number <= numbers >> 8 && !next)
                next = behind;
        }
        bus = next;
    }
    return bus;
}

/* A slot is there when its function 0 is. The tree is locked. */
struct vmm_pci *vmm_pci_function_at(struct vmm_pci_host *host, uint32_t address)
{
    struct pci_bus *bus = find_bus(host, address >> 8);
    if (!bus || !bus->functions[address & 0xf8])
        return NULL;
    return bus->functions[address & 0xff];
}

uint32_t vmm_pci_requester(const struct vmm_pci *pci)
{
    uint32_t number = pci->bus && pci->bus->bridge ? pci->bus->numbers & 0xff : 0;
    return number << 8 | pci->address;
}

int vmm_pci_address(struct vmm_pci *pci, uint32_t *address)
{
    if (!address)
        return -EINVAL;
    pthread_mutex_lock(&pci->irq_lock);
    int rc = pci->host ? 0 : -ENOENT;
    if (!rc)
        *address = vmm_pci_requester(pci);
    pthread_mutex_unlock(&pci->irq_lock);
    return rc;
}

/* Which of the four lines a pin reaches: each bridge, and the host's, begins at another one for each
 * slot (PCI-to-PCI bridge specification 1.2, 9.1). */
static uint32_t line_of(const struct vmm_pci *pci)
{
    uint32_t line = pci->config[PCI_INTERRUPT_PIN] - 1u;
    for (; pci; pci = pci->bus->bridge)
        line += pci->address >> 3;
    return line % 4;
}

/* Coming and going ----------------------------------------------------------------------------- */

/* PCI Express 3.0 §7.8.2, 7.8.6, 7.8.8: on the root bus an endpoint is a part of the root complex; behind
 * a port it has a link, of one lane and the first speed. */
static void set_link(struct vmm_pci *pci)
{
    uint8_t *cap = &pci->config[pci->pcie];
    bool behind = pci->bus->bridge;
    if (!pci->pcie || pci->secondary)
        return;
    cap[2] = (uint8_t)((cap[2] & 0x0f) | (behind ? 0 : 0x90));
    vmm_store_le32(cap + 0x0c, behind ? 0x11 : 0);
    vmm_store_le16(cap + 0x12, behind ? 0x11 : 0);
    memcpy(&pci->initial[pci->pcie], cap, 0x14);
}

static void set_line(struct vmm_pci *pci, const struct vmm_pci_host *host)
{
    pci->line = line_of(pci);
    if (!pci->config[PCI_INTERRUPT_PIN])
        return;
    pci->config[PCI_INTERRUPT_LINE] = host->options.intx_numbers[pci->line];
    pci->initial[PCI_INTERRUPT_LINE] = pci->config[PCI_INTERRUPT_LINE];
}

/* Afterwards the guest sees it. The device's lock is taken, as its registers are looked at. */
static void join(struct vmm_pci_host *host, struct pci_bus *bus, struct vmm_pci *pci,
                 uint32_t address)
{
    vmm_device_lock(pci->device);
    pthread_mutex_lock(&pci->irq_lock);
    pci->host = host;
    pci->bus = bus;
    pci->address = address;
    pci->vm = host->options.vm ? vmm_vm_ref(host->options.vm) : NULL;
    pci->memory = host->options.memory ? vmm_memory_ref(host->options.memory) : NULL;
    set_line(pci, host);
    set_link(pci);
    vmm_pci_intx_update(pci);
    pthread_mutex_unlock(&pci->irq_lock);
    vmm_pci_bars_join(pci);
    vmm_device_unlock(pci->device);
}

static void leave(struct vmm_pci_host *host, struct vmm_pci *pci)
{
    vmm_device_lock(pci->device);
    vmm_pci_bars_take_off(pci);
    pthread_mutex_lock(&pci->irq_lock);
    if (pci->line_raised)
        vmm_pci_host_set_intx(host, pci->line, false);
    pci->line_raised = false;
    vmm_pci_vector_fds_free(pci);
    pci->host = NULL;
    pci->vm = vmm_vm_unref(pci->vm);
    pci->memory = vmm_memory_unref(pci->memory);
    pthread_mutex_unlock(&pci->irq_lock);
    vmm_device_unlock(pci->device);
    vmm_pci_bars_release(pci, host);
}

static bool slot_is_free(const struct pci_bus *bus, uint32_t slot)
{
    for (uint32_t i = 0; i < 8; i++)
        if (bus->functions[slot * 8 + i])
            return false;
    return true;
}

static uint32_t free_slot(const struct pci_bus *bus)
{
    uint32_t first = bus->bridge ? 0 : 1, end = bus->one_slot ? 1 : 32;
    for (uint32_t slot = first; slot < end; slot++)
        if (slot_is_free(bus, slot))
            return slot;
    return VMM_PCI_ANY_SLOT;
}

/* The tree is locked. */
static int take_place(struct vmm_pci_host *host, struct pci_bus *bus, struct vmm_pci *pci,
                      uint32_t slot, uint32_t function, struct vmm_error *err)
{
    const char *name = vmm_device_name(pci->device);
    if (pci->host)
        return vmm_error_set(err, -EBUSY, "%s is on a PCI bus already", name);
    if (slot == VMM_PCI_ANY_SLOT)
        slot = free_slot(bus);
    if (slot == VMM_PCI_ANY_SLOT)
        return vmm_error_set(err, -ENOSPC, "%s: the PCI bus has no free slot", name);
    uint32_t address = slot * 8 + function;
    if (bus->functions[address])
        return vmm_error_set(err, -EEXIST, "%s: PCI slot %u, function %u, has \"%s\"", name, slot,
                             function, vmm_device_name(bus->functions[address]->device));
    join(host, bus, pci, address);
    bus->functions[address] = vmm_pci_ref(pci);
    bus->occupied = bus->functions[0];
    vmm_device_ref(pci->device);
    return 0;
}

int vmm_pci_bus_add(struct vmm_pci_host *host, struct pci_bus *bus, struct vmm_pci *pci,
                    uint32_t slot, uint32_t function, struct vmm_error *err)
{
    pthread_rwlock_wrlock(&host->tree);
    int rc = take_place(host, bus, pci, slot, function, err);
    pthread_rwlock_unlock(&host->tree);
    if (!rc && bus->changed)
        bus->changed(bus->bridge);
    return rc;
}

int vmm_pci_host_add(struct vmm_pci_host *host, struct vmm_pci *pci, uint32_t slot,
                     uint32_t function, struct vmm_error *err)
{
    if (!host || !pci || (slot != VMM_PCI_ANY_SLOT && (slot < 1 || slot > 31)) || function > 7)
        return vmm_error_set(err, -EINVAL, "PCI slots are 1 to 31, functions 0 to 7");
    return vmm_pci_bus_add(host, &host->root, pci, slot, function, err);
}

static bool is_empty(const struct pci_bus *bus)
{
    for (uint32_t slot = 0; slot < 32; slot++)
        if (!slot_is_free(bus, slot))
            return false;
    return true;
}

static void set_free(struct pci_bus *bus, uint32_t address)
{
    bus->functions[address] = NULL;
    bus->occupied = bus->functions[0];
}

int vmm_pci_host_remove(struct vmm_pci_host *host, struct vmm_pci *pci)
{
    if (!host || !pci)
        return -EINVAL;
    pthread_rwlock_wrlock(&host->tree);
    int rc = pci->host == host && pci->bus->functions[pci->address] == pci ? 0 : -ENOENT;
    if (!rc && pci->secondary && !is_empty(pci->secondary))
        rc = -EBUSY;
    if (!rc)
        set_free(pci->bus, pci->address);
    pthread_rwlock_unlock(&host->tree);
    if (rc)
        return rc;
    struct vmm_device *device = pci->device;
    struct pci_bus *bus = pci->bus;
    leave(host, pci);
    if (bus->changed)
        bus->changed(bus->bridge);
    vmm_pci_unref(pci);
    vmm_device_unref(device);
    return 0;
}

/* All but the host bridge's own function, what is behind bridges first. */
void vmm_pci_bus_clear(struct vmm_pci_host *host, struct pci_bus *bus)
{
    for (uint32_t i = 0; i < PCI_FUNCTIONS_MAX; i++) {
        struct vmm_pci *pci = bus->functions[i];
        if (!pci || pci == host->self)
            continue;
        if (pci->secondary)
            vmm_pci_bus_clear(host, pci->secondary);
        (void)vmm_pci_host_remove(host, pci);
    }
}
