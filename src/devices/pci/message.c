/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts of a function: the pin, and messages by MSI (PCI 3.0 §6.8.1) and MSI-X (§6.8.2).
 *
 * The library sends messages itself (KVM_SIGNAL_MSI), which needs no GSI. Where others are to send
 * them, a vector gets an eventfd: attached to KVM by an irqfd while the vector may send, and else
 * left alone, so that what is written to it stays pending in the eventfd.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* MSI registers --------------------------------------------------------------------------------- */

static uint16_t msi_control(const struct vmm_pci *pci)
{
    return vmm_load_le16(&pci->config[pci->msi + 2]);
}

static bool msi_enabled(const struct vmm_pci *pci)
{
    return pci->msi && (msi_control(pci) & MSI_ENABLE);
}

/* How many the driver has been given: what it wrote, at most what there are. */
static uint32_t msi_granted(const struct vmm_pci *pci)
{
    uint32_t granted = 1u << (msi_control(pci) >> 4 & 7);
    return granted < pci->msi_vectors ? granted : pci->msi_vectors;
}

static uint32_t msi_data(const struct vmm_pci *pci)
{
    return pci->msi + (msi_control(pci) & 0x80 ? 12 : 8);
}

static bool msi_can_mask(const struct vmm_pci *pci)
{
    return msi_control(pci) & 0x100;
}

static uint8_t *msi_masks(struct vmm_pci *pci)
{
    return &pci->config[msi_data(pci) + 4];
}

static uint8_t *msi_pending(struct vmm_pci *pci)
{
    return &pci->config[msi_data(pci) + 8];
}

/* MSI-X registers ------------------------------------------------------------------------------- */

static uint16_t msix_control(const struct vmm_pci *pci)
{
    return vmm_load_le16(&pci->config[pci->msix + 2]);
}

static bool msix_enabled(const struct vmm_pci *pci)
{
    return pci->msix && (msix_control(pci) & MSIX_ENABLE);
}

/* Both kinds ------------------------------------------------------------------------------------ */

bool vmm_pci_messages_enabled(const struct vmm_pci *pci)
{
    return msix_enabled(pci) || msi_enabled(pci);
}

static uint32_t vector_count(const struct vmm_pci *pci)
{
    return msix_enabled(pci) ? pci->msix_vectors : msi_enabled(pci) ? msi_granted(pci) : 0;
}

/* What a vector sends, and may it? A function that is no bus master writes no messages. */
static bool may_send(struct vmm_pci *pci, uint32_t vector, struct vmm_msi *msi)
{
    bool master = vmm_pci_command(pci) & COMMAND_BUS_MASTER;
    *msi = (struct vmm_msi){.device_id = vmm_pci_requester(pci)};
    if (msix_enabled(pci)) {
        const uint8_t *entry = &pci->table[vector * MSIX_ENTRY];
        msi->address = vmm_load_le64(entry);
        msi->data = vmm_load_le32(entry + 8);
        return master && !(msix_control(pci) & MSIX_MASK_ALL) && !(entry[12] & MSIX_VECTOR_MASK);
    }
    msi->address = vmm_load_le32(&pci->config[pci->msi + 4]);
    if (msi_control(pci) & 0x80)
        msi->address |= (uint64_t)vmm_load_le32(&pci->config[pci->msi + 8]) << 32;
    msi->data = vmm_load_le16(&pci->config[msi_data(pci)]);
    msi->data = (msi->data & ~(msi_granted(pci) - 1)) | vector;
    return master && !(msi_can_mask(pci) && (vmm_load_le32(msi_masks(pci)) >> vector & 1));
}

static bool kept_pending(struct vmm_pci *pci, uint32_t vector)
{
    if (msix_enabled(pci))
        return pci->pending[vector / 64] >> (vector % 64) & 1;
    return msi_can_mask(pci) && (vmm_load_le32(msi_pending(pci)) >> vector & 1);
}

static void keep_pending(struct vmm_pci *pci, uint32_t vector, bool pending)
{
    if (msix_enabled(pci)) {
        uint64_t bit = (uint64_t)1 << (vector % 64);
        uint64_t *word = &pci->pending[vector / 64];
        *word = pending ? *word | bit : *word & ~bit;
    } else if (msi_can_mask(pci)) {
        uint32_t bit = 1u << vector, word = vmm_load_le32(msi_pending(pci));
        vmm_store_le32(msi_pending(pci), pending ? word | bit : word & ~bit);
    }
}

static bool same_message(const struct vmm_msi *a, const struct vmm_msi *b)
{
    return a->address == b->address && a->data == b->data && a->device_id == b->device_id;
}

static void detach(struct vmm_pci *pci, struct pci_vector_fd *v)
{
    if (v->attached)
        (void)vmm_vm_irqfd_remove(pci->vm, v->fd, v->gsi);
    v->attached = false;
}

/* KVM looks at the eventfd when it takes it: what is pending is sent at once. */
static void attach(struct vmm_pci *pci, struct pci_vector_fd *v, const struct vmm_msi *msi)
{
    if (v->attached && same_message(&v->msi, msi))
        return;
    v->msi = *msi;
    if (vmm_vm_route_msi(pci->vm, v->gsi, msi) || vmm_vm_routes_commit(pci->vm))
        detach(pci, v);
    else if (!v->attached)
        v->attached = vmm_vm_irqfd_add(pci->vm, v->fd, v->gsi, -1) == 0;
}

static struct pci_vector_fd *fd_of(struct vmm_pci *pci, uint32_t vector)
{
    return vector < pci->fd_count && pci->fds[vector].fd >= 0 ? &pci->fds[vector] : NULL;
}

void vmm_pci_vector_update(struct vmm_pci *pci, uint32_t vector)
{
    struct vmm_msi msi;
    struct pci_vector_fd *v = fd_of(pci, vector);
    bool may = vector < vector_count(pci) && may_send(pci, vector, &msi);
    if (v && may)
        attach(pci, v, &msi);
    else if (v)
        detach(pci, v);
    if (!may || !kept_pending(pci, vector))
        return;
    keep_pending(pci, vector, false);
    (void)vmm_pci_send(pci, &msi);
}

/* The work is bounded by what is pending and by the eventfds, not by the size of the table. */
void vmm_pci_messages_update(struct vmm_pci *pci)
{
    for (uint32_t i = 0; i < pci->fd_count; i++)
        vmm_pci_vector_update(pci, i);
    if (msix_enabled(pci)) {
        for (uint32_t word = 0; word <= (pci->msix_vectors - 1) / 64; word++)
            for (uint64_t bits = pci->pending[word]; bits; bits &= bits - 1)
                vmm_pci_vector_update(pci, word * 64 + (uint32_t)__builtin_ctzll(bits));
    } else if (msi_enabled(pci) && msi_can_mask(pci)) {
        for (uint32_t bits = vmm_load_le32(msi_pending(pci)); bits; bits &= bits - 1)
            vmm_pci_vector_update(pci, (uint32_t)__builtin_ctz(bits));
    }
}

bool vmm_pci_vector_pending(struct vmm_pci *pci, uint32_t vector)
{
    struct pci_vector_fd *v = fd_of(pci, vector);
    struct pollfd p = {.fd = v ? v->fd : -1, .events = POLLIN};
    if (pci->pending[vector / 64] >> (vector % 64) & 1)
        return true;
    return v && !v->attached && poll(&p, 1, 0) == 1;
}

/* For devices ----------------------------------------------------------------------------------- */

uint32_t vmm_pci_interrupt_mode(struct vmm_pci *pci)
{
    pthread_mutex_lock(&pci->irq_lock);
    uint32_t mode = msix_enabled(pci)  ? VMM_PCI_MSIX
                    : msi_enabled(pci) ? VMM_PCI_MSI
                                       : VMM_PCI_INTX;
    pthread_mutex_unlock(&pci->irq_lock);
    return mode;
}

static int signal_locked(struct vmm_pci *pci, uint32_t vector)
{
    struct vmm_msi msi;
    if (vector >= pci->msi_vectors && vector >= pci->msix_vectors)
        return -EINVAL;
    if (!vmm_pci_messages_enabled(pci))
        return 0;
    uint32_t count = vector_count(pci);
    if (vector >= count && msix_enabled(pci))
        return -EINVAL;
    vector = vector < count ? vector : count - 1;
    if (may_send(pci, vector, &msi))
        return vmm_pci_send(pci, &msi);
    keep_pending(pci, vector, true);
    return 0;
}

int vmm_pci_signal(struct vmm_pci *pci, uint32_t vector)
{
    pthread_mutex_lock(&pci->irq_lock);
    int rc = signal_locked(pci, vector);
    pthread_mutex_unlock(&pci->irq_lock);
    return rc;
}

/* The line of the pin goes up and down with the device's level, unless the driver has switched it off
 * or uses messages. */
void vmm_pci_intx_update(struct vmm_pci *pci)
{
    uint8_t pin = pci->config[PCI_INTERRUPT_PIN];
    bool raise = pin && pci->pin_level && !vmm_pci_messages_enabled(pci) &&
                 !(vmm_pci_command(pci) & COMMAND_INTX_DISABLE);
    if (!pci->host)
        raise = false;
    if (raise == pci->line_raised)
        return;
    pci->line_raised = raise;
    vmm_pci_host_set_intx(pci->host, pci->line, raise);
}

void vmm_pci_set_intx(struct vmm_pci *pci, uint32_t level)
{
    pthread_mutex_lock(&pci->irq_lock);
    pci->pin_level = level != 0;
    vmm_pci_intx_update(pci);
    pthread_mutex_unlock(&pci->irq_lock);
}

/* Eventfds -------------------------------------------------------------------------------------- */

static int grow_fds(struct vmm_pci *pci, uint32_t count)
{
    if (count <= pci->fd_count)
        return 0;
    struct pci_vector_fd *fds = realloc(pci->fds, count * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    for (uint32_t i = pci->fd_count; i < count; i++)
        fds[i] = (struct pci_vector_fd){.fd = -1};
    pci->fds = fds;
    pci->fd_count = count;
    return 0;
}

static int make_fd(struct vmm_pci *pci, uint32_t vector)
{
    int rc = grow_fds(pci, vector + 1);
    if (rc || pci->fds[vector].fd >= 0)
        return rc;
    struct pci_vector_fd v = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (v.fd < 0)
        return -errno;
    rc = vmm_vm_gsi_alloc(pci->vm, &v.gsi);
    if (rc) {
        close(v.fd);
        return rc;
    }
    pci->fds[vector] = v;
    vmm_pci_vector_update(pci, vector);
    return 0;
}

int vmm_pci_vector_fd(struct vmm_pci *pci, uint32_t vector, int *fd)
{
    if (!fd || (vector >= pci->msi_vectors && vector >= pci->msix_vectors))
        return -EINVAL;
    pthread_mutex_lock(&pci->irq_lock);
    bool can = pci->vm && pci->host && !pci->host->options.signal_msi;
    int rc = can ? make_fd(pci, vector) : -ENOTSUP;
    if (!rc)
        *fd = pci->fds[vector].fd;
    pthread_mutex_unlock(&pci->irq_lock);
    return rc;
}

void vmm_pci_vector_fds_free(struct vmm_pci *pci)
{
    for (uint32_t i = 0; i < pci->fd_count; i++) {
        struct pci_vector_fd *v = &pci->fds[i];
        if (v->fd < 0)
            continue;
        detach(pci, v);
        vmm_vm_gsi_free(pci->vm, v->gsi);
        close(v->fd);
    }
    free(pci->fds);
    pci->fds = NULL;
    pci->fd_count = 0;
}
