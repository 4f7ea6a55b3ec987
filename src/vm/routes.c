/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The GSI routing table. KVM takes it whole (KVM_SET_GSI_ROUTING), so changes are gathered here and
 * handed over in one call by vmm_vm_routes_commit().
 */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <stdlib.h>

static struct kvm_irq_routing_entry *append(struct vmm_routes *routes)
{
    if (routes->count == routes->room) {
        uint32_t room = routes->room ? routes->room * 2 : 64;
        struct kvm_irq_routing_entry *entries = realloc(routes->entries, room * sizeof(*entries));
        if (!entries)
            return NULL;
        routes->entries = entries;
        routes->room = room;
    }
    struct kvm_irq_routing_entry *entry = &routes->entries[routes->count++];
    memset(entry, 0, sizeof(*entry));
    routes->changed = true;
    return entry;
}

static void clear(struct vmm_routes *routes, uint32_t gsi)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < routes->count; i++)
        if (routes->entries[i].gsi != gsi)
            routes->entries[kept++] = routes->entries[i];
    routes->changed = routes->changed || kept != routes->count;
    routes->count = kept;
}

static bool usable(const struct vmm_vm *vm, uint32_t gsi)
{
    return vm->options.irqchip != VMM_IRQCHIP_NONE && gsi < vm->routes.gsi_count;
}

int vmm_vm_gsi_alloc(struct vmm_vm *vm, uint32_t *gsi)
{
    int rc = -ENOSPC;
    pthread_mutex_lock(&vm->irq_lock);
    for (uint32_t i = vmm_arch_pin_gsis(vm->options.irqchip, vm->options.split_pins);
         rc && i < vm->routes.gsi_count; i++)
        if (!(vm->routes.used[i / 64] & (uint64_t)1 << (i % 64))) {
            vm->routes.used[i / 64] |= (uint64_t)1 << (i % 64);
            *gsi = i;
            rc = 0;
        }
    pthread_mutex_unlock(&vm->irq_lock);
    return rc;
}

void vmm_vm_gsi_free(struct vmm_vm *vm, uint32_t gsi)
{
    if (!usable(vm, gsi))
        return;
    pthread_mutex_lock(&vm->irq_lock);
    clear(&vm->routes, gsi);
    vm->routes.used[gsi / 64] &= ~((uint64_t)1 << (gsi % 64));
    pthread_mutex_unlock(&vm->irq_lock);
}

int vmm_vm_route_msi(struct vmm_vm *vm, uint32_t gsi, const struct vmm_msi *msi)
{
    if (!usable(vm, gsi))
        return -EINVAL;
    pthread_mutex_lock(&vm->irq_lock);
    clear(&vm->routes, gsi);
    struct kvm_irq_routing_entry *entry = append(&vm->routes);
    if (entry) {
        entry->gsi = gsi;
        entry->type = KVM_IRQ_ROUTING_MSI;
        entry->u.msi.address_lo = (uint32_t)msi->address;
        entry->u.msi.address_hi = (uint32_t)(msi->address >> 32);
        entry->u.msi.data = msi->data;
        if (vm->routes.requesters) {
            entry->flags = KVM_MSI_VALID_DEVID;
            entry->u.msi.devid = msi->device_id;
        }
    }
    pthread_mutex_unlock(&vm->irq_lock);
    return entry ? 0 : -ENOMEM;
}

int vmm_vm_route_pin(struct vmm_vm *vm, uint32_t gsi, uint32_t chip, uint32_t pin)
{
    if (!usable(vm, gsi) || vm->options.irqchip != VMM_IRQCHIP_KERNEL)
        return -EINVAL;
    pthread_mutex_lock(&vm->irq_lock);
    struct kvm_irq_routing_entry *entry = append(&vm->routes);
    if (entry) {
        entry->gsi = gsi;
        entry->type = KVM_IRQ_ROUTING_IRQCHIP;
        entry->u.irqchip.irqchip = chip;
        entry->u.irqchip.pin = pin;
    }
    pthread_mutex_unlock(&vm->irq_lock);
    return entry ? 0 : -ENOMEM;
}

void vmm_vm_route_clear(struct vmm_vm *vm, uint32_t gsi)
{
    if (!usable(vm, gsi))
        return;
    pthread_mutex_lock(&vm->irq_lock);
    clear(&vm->routes, gsi);
    pthread_mutex_unlock(&vm->irq_lock);
}

int vmm_vm_routes_commit(struct vmm_vm *vm)
{
    int rc = 0;
    pthread_mutex_lock(&vm->irq_lock);
    struct vmm_routes *routes = &vm->routes;
    if (routes->changed) {
        size_t bytes = routes->count * sizeof(routes->entries[0]);
        struct kvm_irq_routing *table = malloc(sizeof(*table) + bytes);
        if (table) {
            table->nr = routes->count;
            table->flags = 0;
            memcpy(table->entries, routes->entries, bytes);
            rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_SET_GSI_ROUTING, table);
            routes->changed = rc != 0;
            free(table);
        } else {
            rc = -ENOMEM;
        }
    }
    pthread_mutex_unlock(&vm->irq_lock);
    return rc;
}
