/* SPDX-License-Identifier: BSD-3-Clause */
/* The PCI transport from the inside: what its modern and its legacy interface share. */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include "devices/virtio/internal.h"

#include <libvmm/pci.h>

#define VIRTIO_PCI_LEGACY_BAR 0u
#define VIRTIO_PCI_MSIX_BAR   1u
#define VIRTIO_PCI_BAR        4u

#define VIRTIO_PCI_PAGE        UINT64_C(0x1000)
#define VIRTIO_PCI_COMMON      0x0000u
#define VIRTIO_PCI_ISR         0x1000u
#define VIRTIO_PCI_DEVICE      0x2000u
#define VIRTIO_PCI_NOTIFY      0x3000u
#define VIRTIO_PCI_BAR_LENGTH  0x4000u
#define VIRTIO_PCI_NOTIFY_STEP 4u
#define VIRTIO_PCI_NO_VECTOR   0xffffu

/* The header, the vectors, and as much of the device's configuration as fits. */
#define VIRTIO_LEGACY_LENGTH 256u
#define VIRTIO_LEGACY_NOTIFY 0x10u

#define VIRTIO_PCI_QUEUES_MAX 1024u /* a page of notification addresses */

/* Where a BAR is, and how many of its ioeventfds KVM has. */
struct virtio_pci_place {
    uint64_t address;
    uint32_t ioeventfds;
};

struct virtio_pci {
    struct vmm_virtio *virtio;
    struct vmm_pci *pci;
    bool transitional, any_width;
    uint32_t vectors;
    uint32_t window_cap; /* the capability with the window in configuration space */
    uint32_t device_select, driver_select, queue_select;
    _Atomic uint16_t config_vector;
    _Atomic uint16_t *queue_vectors;
    pthread_mutex_t isr_lock; /* the status and the pin together */
    uint32_t isr;
    struct virtio_pci_place places[VIRTIO_PCI_BAR + 1]; /* guarded by the bridge's lock */
};

uint32_t vmm_virtio_pci_take_isr(struct virtio_pci *p);
uint16_t vmm_virtio_pci_vector(const struct virtio_pci *p, uint32_t value);
uint64_t vmm_virtio_pci_config_read(struct virtio_pci *p, uint64_t offset, uint32_t width);
void vmm_virtio_pci_config_write(struct virtio_pci *p, uint64_t offset, uint32_t width,
                                 uint64_t value);
void vmm_virtio_pci_notify(struct virtio_pci *p, uint32_t queue);

/* pci_legacy.c */
uint64_t vmm_virtio_legacy_read(struct virtio_pci *p, uint64_t offset, uint32_t width);
void vmm_virtio_legacy_write(struct virtio_pci *p, uint64_t offset, uint32_t width, uint64_t value);
/* The device ID that legacy drivers know; 0: they know no such device. */
uint16_t vmm_virtio_legacy_id(uint32_t id);

#endif
