/* SPDX-License-Identifier: BSD-3-Clause */
/* The MMIO transport (VIRTIO 1.2 §4.2), version 2 of its registers. */
#include "base/util.h"
#include "devices/virtio/internal.h"

#include <stdlib.h>

/* Table 4.1 */
enum {
    REG_MAGIC = 0x00,
    REG_VERSION = 0x04,
    REG_DEVICE_ID = 0x08,
    REG_VENDOR_ID = 0x0c,
    REG_DEVICE_FEATURES = 0x10,
    REG_DEVICE_FEATURES_SEL = 0x14,
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SEL = 0x24,
    REG_QUEUE_SEL = 0x30,
    REG_QUEUE_NUM_MAX = 0x34,
    REG_QUEUE_NUM = 0x38,
    REG_QUEUE_READY = 0x44,
    REG_QUEUE_NOTIFY = 0x50,
    REG_INTERRUPT_STATUS = 0x60,
    REG_INTERRUPT_ACK = 0x64,
    REG_STATUS = 0x70,
    REG_QUEUE_DESC = 0x80,
    REG_QUEUE_DRIVER = 0x90,
    REG_QUEUE_DEVICE = 0xa0,
    REG_SHM_LENGTH = 0xb0,
    REG_SHM_BASE_HIGH = 0xbc,
    REG_QUEUE_RESET = 0xc0,
    REG_GENERATION = 0xfc,
    REG_CONFIG = 0x100,
};

#define MAGIC  0x74726976u /* "virt" */
#define VENDOR 0x4d4d566cu /* "lVMM" */

struct mmio {
    struct vmm_virtio *virtio;
    struct vmm_irq_line *irq;
    uint64_t address;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    pthread_mutex_t irq_lock; /* the status and the line together; innermost */
    uint32_t interrupt_status;
    uint32_t ioeventfds;
};

/* Interrupts ----------------------------------------------------------------------------------- */

static void change_interrupt(struct mmio *m, uint32_t set, uint32_t clear)
{
    pthread_mutex_lock(&m->irq_lock);
    m->interrupt_status = (m->interrupt_status | set) & ~clear;
    (void)vmm_irq_line_set(m->irq, m->interrupt_status != 0);
    pthread_mutex_unlock(&m->irq_lock);
}

static uint32_t interrupt_status(struct mmio *m)
{
    pthread_mutex_lock(&m->irq_lock);
    uint32_t status = m->interrupt_status;
    pthread_mutex_unlock(&m->irq_lock);
    return status;
}

static void interrupt(void *ctx, uint32_t what, uint32_t queue)
{
    (void)queue;
    change_interrupt(ctx, what, 0);
}

/* Registers ------------------------------------------------------------------------------------ */

static struct vmm_virtio_queue *selected(struct mmio *m)
{
    return vmm_virtio_queue(m->virtio, m->queue_sel);
}

static uint32_t read_register(struct mmio *m, uint64_t offset)
{
    struct vmm_virtio *v = m->virtio;
    struct vmm_virtio_queue *q = selected(m);
    switch (offset) {
    case REG_MAGIC:
        return MAGIC;
    case REG_VERSION:
        return 2;
    case REG_DEVICE_ID:
        return v->id;
    case REG_VENDOR_ID:
        return VENDOR;
    case REG_DEVICE_FEATURES:
        return m->device_features_sel < 2 ? (uint32_t)(v->offered >> (32 * m->device_features_sel))
                                          : 0;
    case REG_QUEUE_NUM_MAX:
        return q ? v->queue_size_max : 0;
    case REG_QUEUE_READY:
        return q && q->ring.enabled;
    case REG_INTERRUPT_STATUS:
        return interrupt_status(m);
    case REG_STATUS:
        return v->status;
    case REG_GENERATION:
        return v->generation;
    default:
        /* Shared memory regions: there is none, which is a length of all ones (§4.2.2). */
        return offset >= REG_SHM_LENGTH && offset <= REG_SHM_BASE_HIGH ? UINT32_MAX : 0;
    }
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
    *value = high ? (*value & UINT32_MAX) | (uint64_t)half << 32
                  : (*value & ~(uint64_t)UINT32_MAX) | half;
}

/* The registers of a queue keep still while it is on (§4.2.2.2). */
static void write_queue(struct mmio *m, uint64_t offset, uint32_t value)
{
    struct vmm_virtio_queue *q = selected(m);
    bool features_ok = m->virtio->status & STATUS_FEATURES_OK;
    if (!q)
        return;
    if (offset == REG_QUEUE_READY) {
        if (value == 1 && !q->ring.enabled && features_ok)
            vmm_virtio_queue_enable(q);
        else if (value == 0 && q->ring.enabled)
            vmm_virtio_queue_reset(q);
        return;
    }
    if (offset == REG_QUEUE_RESET) {
        if (value == 1 && (m->virtio->accepted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_QUEUE_RESET)))
            vmm_virtio_queue_reset(q);
        return;
    }
    if (q->ring.enabled)
        return;
    bool high = offset & 4;
    if (offset == REG_QUEUE_NUM)
        q->ring.size = value;
    else if ((offset & ~(uint64_t)4) == REG_QUEUE_DESC)
        set_half(&q->ring.desc, high, value);
    else if ((offset & ~(uint64_t)4) == REG_QUEUE_DRIVER)
        set_half(&q->ring.driver, high, value);
    else if ((offset & ~(uint64_t)4) == REG_QUEUE_DEVICE)
        set_half(&q->ring.device, high, value);
}

static void write_register(struct mmio *m, uint64_t offset, uint32_t value)
{
    struct vmm_virtio_queue *q;
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL:
        m->device_features_sel = value;
        break;
    case REG_DRIVER_FEATURES:
        vmm_virtio_set_features(m->virtio, m->driver_features_sel, value);
        break;
    case REG_DRIVER_FEATURES_SEL:
        m->driver_features_sel = value;
        break;
    case REG_QUEUE_SEL:
        m->queue_sel = value;
        break;
    case REG_QUEUE_NOTIFY: /* where there is no ioeventfd */
        q = vmm_virtio_queue(m->virtio, value);
        if (q)
            vmm_virtio_queue_kick(q);
        break;
    case REG_INTERRUPT_ACK:
        change_interrupt(m, 0, value);
        break;
    case REG_STATUS:
        vmm_virtio_set_status(m->virtio, value);
        break;
    default:
        write_queue(m, offset, value);
        break;
    }
}

/* Registers are 32 bits wide and accessed so (§4.2.2.2); configuration space is what it is. */
static uint64_t mmio_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct mmio *m = ctx;
    uint8_t data[8] = {0};
    if (offset >= REG_CONFIG)
        vmm_virtio_config_read(m->virtio, offset - REG_CONFIG, data, width);
    else if (width == 4 && offset % 4 == 0)
        vmm_store_le32(data, read_register(m, offset));
    return vmm_load_le64(data);
}

static void mmio_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct mmio *m = ctx;
    uint8_t data[8];
    vmm_store_le64(data, value);
    if (offset >= REG_CONFIG)
        vmm_virtio_config_write(m->virtio, offset - REG_CONFIG, data, width);
    else if (width == 4 && offset % 4 == 0)
        write_register(m, offset, (uint32_t)value);
}

/* The transport's side of the device ----------------------------------------------------------- */

static void reset(void *ctx)
{
    struct mmio *m = ctx;
    m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
    change_interrupt(m, 0, UINT32_MAX);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct mmio *m = ctx;
    (void)vmm_state_put_u32(w, "device-features-sel", m->device_features_sel);
    (void)vmm_state_put_u32(w, "driver-features-sel", m->driver_features_sel);
    (void)vmm_state_put_u32(w, "queue-sel", m->queue_sel);
    return vmm_state_put_u32(w, "interrupt-status", interrupt_status(m));
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct mmio *m = ctx;
    uint32_t device_sel, driver_sel, queue_sel, status;
    int rc = vmm_state_get_u32(r, "device-features-sel", UINT32_MAX, &device_sel, err);
    rc = rc ? rc : vmm_state_get_u32(r, "driver-features-sel", UINT32_MAX, &driver_sel, err);
    rc = rc ? rc : vmm_state_get_u32(r, "queue-sel", UINT32_MAX, &queue_sel, err);
    rc = rc ? rc : vmm_state_get_u32(r, "interrupt-status", 3, &status, err);
    if (rc)
        return rc;
    m->device_features_sel = device_sel;
    m->driver_features_sel = driver_sel;
    m->queue_sel = queue_sel;
    change_interrupt(m, status, ~status);
    return 0;
}

static struct vmm_ioeventfd notify_event(const struct mmio *m, uint32_t queue)
{
    struct vmm_ioeventfd e = VMM_IOEVENTFD_INIT;
    e.space = VMM_SPACE_MMIO;
    e.length = 4;
    e.address = m->address + REG_QUEUE_NOTIFY;
    e.match = 1;
    e.data = queue;
    e.fd = m->virtio->queues[queue].kick_fd;
    return e;
}

static void destroy(void *ctx)
{
    struct mmio *m = ctx;
    for (uint32_t i = 0; i < m->ioeventfds; i++) {
        const struct vmm_ioeventfd e = notify_event(m, i);
        (void)vmm_vm_ioeventfd_remove(m->virtio->vm, &e);
    }
    vmm_irq_line_free(m->irq);
    pthread_mutex_destroy(&m->irq_lock);
    free(m);
}

/* A host that refuses one costs time only: the register does the same. */
static void add_ioeventfds(struct mmio *m)
{
    for (uint32_t i = 0; m->virtio->vm && i < m->virtio->queue_count; i++) {
        const struct vmm_ioeventfd e = notify_event(m, i);
        if (vmm_vm_ioeventfd_add(m->virtio->vm, &e))
            return;
        m->ioeventfds++;
    }
}

int vmm_virtio_mmio_attach(struct vmm_virtio *v, struct vmm_bus *bus, uint64_t address,
                           struct vmm_irq_line *irq, struct vmm_error *err)
{
    static const struct vmm_virtio_transport transport = {interrupt, reset,   save,
                                                          load,      destroy, NULL};
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = mmio_read,
        .write = mmio_write,
        .min_width = 1,
        .max_width = 8,
    };
    if (v->transport)
        return vmm_error_set(err, -EBUSY, "%s is on a transport already",
                             vmm_device_name(v->device));
    struct mmio *m = calloc(1, sizeof(*m));
    if (!m)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    m->virtio = v;
    m->address = address;
    pthread_mutex_init(&m->irq_lock, NULL);
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(v->device);
    region.address = address;
    region.length = VMM_VIRTIO_MMIO_SIZE;
    region.device = v->device;
    region.ops = &ops;
    region.ctx = m;
    int rc = vmm_bus_add(bus, &region, NULL, err);
    if (rc) {
        destroy(m);
        return rc;
    }
    m->irq = irq;
    vmm_virtio_attach(v, &transport, m);
    add_ioeventfds(m);
    return 0;
}
