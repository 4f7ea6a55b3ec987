/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The legacy interface of transitional devices (VIRTIO 1.2 §4.1.4.10): registers in a port BAR, rings
 * in one piece of memory, and features that the driver has when it first uses a ring.
 */
#include "base/util.h"
#include "devices/virtio/pci.h"

#define PAGE 4096u

/* Table 4.2 */
enum {
    DEVICE_FEATURES = 0x00,
    DRIVER_FEATURES = 0x04,
    QUEUE_ADDRESS = 0x08,
    QUEUE_SIZE = 0x0c,
    QUEUE_SELECT = 0x0e,
    DEVICE_STATUS = 0x12,
    ISR_STATUS = 0x13,
    CONFIG_VECTOR = 0x14, /* these two while MSI-X is on */
    QUEUE_VECTOR = 0x16,
};

/* §5, §4.1.2.3 */
uint16_t vmm_virtio_legacy_id(uint32_t id)
{
    static const uint16_t ids[] = {
        [1] = 0x1000, [2] = 0x1001, [3] = 0x1003, [4] = 0x1005,
        [5] = 0x1002, [8] = 0x1004, [9] = 0x1009,
    };
    return id < VMM_ARRAY_SIZE(ids) ? ids[id] : 0;
}

static uint32_t config_start(struct virtio_pci *p)
{
    return vmm_pci_interrupt_mode(p->pci) == VMM_PCI_MSIX ? 0x18 : 0x14;
}

static struct vmm_virtio_queue *selected(struct virtio_pci *p)
{
    return vmm_virtio_queue(p->virtio, p->queue_select);
}

/* Bits of the first 32 only; those of version 1 are for the other interface. */
static uint32_t offered(const struct vmm_virtio *v)
{
    return (uint32_t)v->offered;
}

static uint32_t read_register(struct virtio_pci *p, uint64_t offset)
{
    struct vmm_virtio *v = p->virtio;
    struct vmm_virtio_queue *q = selected(p);
    switch (offset) {
    case DEVICE_FEATURES:
        return offered(v);
    case DRIVER_FEATURES:
        return (uint32_t)v->wanted;
    case QUEUE_ADDRESS:
        return q && q->ring.enabled ? (uint32_t)(q->ring.desc / PAGE) : 0;
    case QUEUE_SIZE:
        return q ? v->queue_size_max : 0;
    case QUEUE_SELECT:
        return p->queue_select;
    case DEVICE_STATUS:
        return v->status & ~STATUS_FEATURES_OK;
    case ISR_STATUS:
        return vmm_virtio_pci_take_isr(p);
    case CONFIG_VECTOR:
        return p->config_vector;
    case QUEUE_VECTOR:
        return q ? p->queue_vectors[q->index] : VIRTIO_PCI_NO_VECTOR;
    default:
        return 0;
    }
}

/* §2.7.2: descriptors, then the available ring, then on the next page the used one. */
static void set_queue(struct virtio_pci *p, uint32_t page)
{
    struct vmm_virtio_queue *q = selected(p);
    if (!q)
        return;
    if (q->ring.enabled)
        vmm_virtio_queue_reset(q);
    if (page == 0)
        return;
    vmm_virtio_accept_legacy(p->virtio);
    uint64_t size = p->virtio->queue_size_max;
    q->ring.size = (uint32_t)size;
    q->ring.desc = (uint64_t)page * PAGE;
    q->ring.driver = q->ring.desc + size * DESC_SIZE;
    q->ring.device = vmm_align_up(q->ring.driver + 6 + 2 * size, PAGE);
    vmm_virtio_queue_enable(q);
}

static void write_register(struct virtio_pci *p, uint64_t offset, uint32_t value)
{
    struct vmm_virtio_queue *q = selected(p);
    switch (offset) {
    case DRIVER_FEATURES:
        vmm_virtio_set_features(p->virtio, 0, value & offered(p->virtio));
        break;
    case QUEUE_ADDRESS:
        set_queue(p, value);
        break;
    case QUEUE_SELECT:
        p->queue_select = value;
        break;
    case VIRTIO_LEGACY_NOTIFY:
        vmm_virtio_pci_notify(p, value);
        break;
    case DEVICE_STATUS:
        if (value & STATUS_DRIVER_OK)
            vmm_virtio_accept_legacy(p->virtio);
        vmm_virtio_set_status(p->virtio, value & ~STATUS_FEATURES_OK);
        break;
    case CONFIG_VECTOR:
        p->config_vector = vmm_virtio_pci_vector(p, value);
        break;
    case QUEUE_VECTOR:
        if (q)
            p->queue_vectors[q->index] = vmm_virtio_pci_vector(p, value);
        break;
    default:
        break;
    }
}

static uint32_t width_of(uint64_t offset)
{
    return offset < QUEUE_SIZE ? 4 : offset == DEVICE_STATUS || offset == ISR_STATUS ? 1 : 2;
}

uint64_t vmm_virtio_legacy_read(struct virtio_pci *p, uint64_t offset, uint32_t width)
{
    uint32_t start = config_start(p);
    if (offset >= start)
        return vmm_virtio_pci_config_read(p, offset - start, width);
    return width == width_of(offset) ? read_register(p, offset) : 0;
}

void vmm_virtio_legacy_write(struct virtio_pci *p, uint64_t offset, uint32_t width, uint64_t value)
{
    uint32_t start = config_start(p);
    if (offset >= start)
        vmm_virtio_pci_config_write(p, offset - start, width, value);
    else if (width == width_of(offset))
        write_register(p, offset, (uint32_t)value);
}
