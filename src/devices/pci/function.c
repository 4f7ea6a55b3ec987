/* SPDX-License-Identifier: BSD-3-Clause */
/* A function: its life, reset, save and load, and its way to guest memory. */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <stdlib.h>

/* Reset, save and load ------------------------------------------------------------------------- */

static void reset_table(struct vmm_pci *pci)
{
    for (uint32_t i = 0; i < pci->msix_vectors; i++) {
        memset(&pci->table[i * MSIX_ENTRY], 0, MSIX_ENTRY);
        pci->table[i * MSIX_ENTRY + 12] = MSIX_VECTOR_MASK;
    }
    memset(pci->pending, 0, (pci->msix_vectors + 63) / 64 * sizeof(*pci->pending));
}

void vmm_pci_reset(struct vmm_pci *pci)
{
    pthread_mutex_lock(&pci->irq_lock);
    memcpy(pci->config, pci->initial, CONFIG_SIZE);
    pci->pin_level = 0;
    vmm_pci_bus_numbers_update(pci);
    if (pci->msix_vectors)
        reset_table(pci);
    vmm_pci_messages_update(pci);
    vmm_pci_intx_update(pci);
    pthread_mutex_unlock(&pci->irq_lock);
    vmm_pci_bars_update(pci);
}

int vmm_pci_save(struct vmm_pci *pci, struct vmm_state_writer *w)
{
    pthread_mutex_lock(&pci->irq_lock);
    int rc = vmm_state_put_bytes(w, "config", pci->config, CONFIG_SIZE);
    (void)vmm_state_put_u32(w, "pin-level", pci->pin_level);
    if (!rc && pci->msix_vectors)
        rc = vmm_pci_msix_save(pci, w);
    pthread_mutex_unlock(&pci->irq_lock);
    return rc;
}

/* What neither the guest nor the device changes must be as it is here. */
static int check_config(const struct vmm_pci *pci, const uint8_t *config, struct vmm_error *err)
{
    for (uint32_t i = 0; i < CONFIG_SIZE; i++) {
        uint8_t fixed = (uint8_t) ~(pci->writable[i] | pci->changing[i]);
        if ((config[i] ^ pci->initial[i]) & fixed)
            return vmm_error_set(err, -EINVAL,
                                 "%s/config: byte 0x%x is 0x%02x, this device has 0x%02x",
                                 vmm_device_name(pci->device), i, config[i], pci->initial[i]);
    }
    return 0;
}

int vmm_pci_load(struct vmm_pci *pci, struct vmm_state_reader *r, struct vmm_error *err)
{
    uint8_t config[CONFIG_SIZE], *table = NULL;
    uint64_t *pending = NULL;
    uint32_t level;
    int rc = vmm_state_get_bytes(r, "config", config, sizeof(config), err);
    rc = rc ? rc : vmm_state_get_u32(r, "pin-level", 1, &level, err);
    rc = rc ? rc : check_config(pci, config, err);
    if (!rc && pci->msix_vectors)
        rc = vmm_pci_msix_load(pci, r, &table, &pending, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&pci->irq_lock);
    memcpy(pci->config, config, CONFIG_SIZE);
    pci->pin_level = level;
    vmm_pci_bus_numbers_update(pci);
    if (table) {
        free(pci->table);
        free(pci->pending);
        pci->table = table;
        pci->pending = pending;
    }
    vmm_pci_messages_update(pci);
    vmm_pci_intx_update(pci);
    pthread_mutex_unlock(&pci->irq_lock);
    vmm_pci_bars_update(pci);
    return 0;
}

/* As a device of its own ----------------------------------------------------------------------- */

static void device_reset(void *ctx)
{
    struct vmm_pci *pci = ctx;
    vmm_pci_reset(pci);
    if (pci->ops.reset)
        pci->ops.reset(pci->ctx);
}

/* The device's own fields first: in a device tree they stand before all nodes. */
static int device_save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pci *pci = ctx;
    int rc = pci->ops.save ? pci->ops.save(pci->ctx, w) : 0;
    if (rc)
        return rc;
    (void)vmm_state_begin(w, "pci", 1);
    (void)vmm_pci_save(pci, w);
    return vmm_state_end(w);
}

static int device_load(void *ctx, struct vmm_state_reader *r, uint32_t version,
                       struct vmm_error *err)
{
    struct vmm_pci *pci = ctx;
    int rc = vmm_state_enter(r, "pci", 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_pci_load(pci, r, err);
    (void)vmm_state_leave(r);
    return rc || !pci->ops.load ? rc : pci->ops.load(pci->ctx, r, version, err);
}

static void free_function(struct vmm_pci *pci)
{
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++)
        vmm_memory_region_unref(pci->bars[i].declared.memory);
    pthread_mutex_destroy(&pci->irq_lock);
    free(pci->table);
    free(pci->pending);
    free(pci);
}

static void device_destroy(void *ctx)
{
    struct vmm_pci *pci = ctx;
    if (pci->ops.destroy)
        pci->ops.destroy(pci->ctx);
    free_function(pci);
}

/* Life ----------------------------------------------------------------------------------------- */

static int take_options(struct vmm_pci *pci, const struct vmm_pci_options *o, struct vmm_error *err)
{
    pci->msi_vectors = o->msi_vectors;
    pci->msix_vectors = o->msix_vectors;
    pci->msix_bar = o->msix_bar;
    if (o->interrupt_pin > 4)
        return vmm_error_set(err, -EINVAL, "%s: interrupt pin %u is none of 0 to 4", o->name,
                             o->interrupt_pin);
    int rc = o->ops ? vmm_options_copy(&pci->ops, sizeof(pci->ops), o->ops) : 0;
    if (rc || !pci->ops.save != !pci->ops.load)
        return vmm_error_set(err, rc ? rc : -EINVAL,
                             "%s: operations of another version, or save without load", o->name);
    rc = vmm_pci_build_header(pci, o, err);
    if (rc || !o->msix_vectors)
        return rc;
    pci->table = calloc(o->msix_vectors, MSIX_ENTRY);
    pci->pending = calloc((o->msix_vectors + 63) / 64, sizeof(*pci->pending));
    if (!pci->table || !pci->pending)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    reset_table(pci);
    return 0;
}

static int make_device(struct vmm_pci *pci, const struct vmm_pci_options *o, struct vmm_error *err)
{
    const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = device_reset,
        .state_version = pci->ops.state_version,
        .save = device_save,
        .load = device_load,
        .destroy = device_destroy,
    };
    pci->own_device = !o->device;
    pci->device = o->device;
    int rc = o->device ? 0 : vmm_device_new(o->name, &ops, pci, &pci->device);
    return rc ? vmm_error_set(err, rc, "device \"%s\": %s", o->name, strerror(-rc)) : 0;
}

int vmm_pci_new(const struct vmm_pci_options *given, struct vmm_pci **out, struct vmm_error *err)
{
    struct vmm_pci_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "PCI function: no options, or of another version");
    o.name = o.name ? o.name : o.device ? vmm_device_name(o.device) : "";
    struct vmm_pci *pci = calloc(1, sizeof(*pci));
    if (!pci)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    atomic_init(&pci->refs, 1);
    pthread_mutex_init(&pci->irq_lock, NULL);
    pci->ctx = o.ctx;
    rc = take_options(pci, &o, err);
    for (uint32_t i = 0; i < PCI_BARS_AND_ROM; i++)
        if (pci->bars[i].declared.memory)
            vmm_memory_region_ref(pci->bars[i].declared.memory);
    if (!rc)
        rc = make_device(pci, &o, err);
    if (rc)
        free_function(pci);
    else
        *out = pci;
    return rc;
}

struct vmm_pci *vmm_pci_ref(struct vmm_pci *pci)
{
    if (pci->own_device)
        vmm_device_ref(pci->device);
    else
        atomic_fetch_add(&pci->refs, 1);
    return pci;
}

struct vmm_pci *vmm_pci_unref(struct vmm_pci *pci)
{
    if (pci && pci->own_device)
        vmm_device_unref(pci->device);
    else if (pci && atomic_fetch_sub(&pci->refs, 1) == 1)
        free_function(pci);
    return NULL;
}

struct vmm_device *vmm_pci_device(struct vmm_pci *pci)
{
    return pci->device;
}

/* Guest memory --------------------------------------------------------------------------------- */

/* The memory map, if the function may reach it now; a reference. */
static struct vmm_memory *dma_memory(struct vmm_pci *pci)
{
    pthread_mutex_lock(&pci->irq_lock);
    bool master = vmm_pci_command(pci) & COMMAND_BUS_MASTER;
    struct vmm_memory *memory = master && pci->memory ? vmm_memory_ref(pci->memory) : NULL;
    pthread_mutex_unlock(&pci->irq_lock);
    return memory;
}

int vmm_pci_dma_read(struct vmm_pci *pci, uint64_t address, void *data, size_t length)
{
    struct vmm_memory *memory = dma_memory(pci);
    int rc = memory ? vmm_memory_read(memory, address, data, length) : -EACCES;
    vmm_memory_unref(memory);
    return rc;
}

int vmm_pci_dma_write(struct vmm_pci *pci, uint64_t address, const void *data, size_t length)
{
    struct vmm_memory *memory = dma_memory(pci);
    int rc = memory ? vmm_memory_write(memory, address, data, length) : -EACCES;
    vmm_memory_unref(memory);
    return rc;
}
