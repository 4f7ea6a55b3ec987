/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI transport (VIRTIO 1.2 §4.1). All structures are in one BAR, a page each, with a notification
 * address for every queue; MSI-X has a BAR of its own.
 */
#include "devices/virtio/pci.h"
#include "base/util.h"

#include <libvmm/kvm.h>
#include <stdlib.h>

#define VENDOR 0x1af4u
/* §4.1.2.1: not found by drivers that know only the legacy interface. */
#define DEVICE_BASE 0x1040u

/* §4.1.4 */
#define CAP_VENDOR 9u
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_PCI = 5 };

#define CAP_BAR    4u /* in the capability: which BAR, and where in it; without the two first bytes */
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_DATA   16u /* CFG_PCI: the window */

/* Interrupts ----------------------------------------------------------------------------------- */

static void change_isr(struct virtio_pci *p, uint32_t set, uint32_t clear)
{
    pthread_mutex_lock(&p->isr_lock);
    p->isr = (p->isr | set) & ~clear;
    vmm_pci_set_intx(p->pci, p->isr != 0);
    pthread_mutex_unlock(&p->isr_lock);
}

/* §4.1.4.5: with MSI-X the status says only that the configuration has changed. */
static void interrupt(void *ctx, uint32_t what, uint32_t queue)
{
    struct virtio_pci *p = ctx;
    bool messages = vmm_pci_interrupt_mode(p->pci) == VMM_PCI_MSIX;
    if (!messages || what == INTERRUPT_CONFIG)
        change_isr(p, what, 0);
    if (!messages)
        return;
    uint32_t vector = what == INTERRUPT_QUEUE ? p->queue_vectors[queue] : p->config_vector;
    if (vector != VIRTIO_PCI_NO_VECTOR)
        (void)vmm_pci_signal(p->pci, vector);
}

/* Reading it clears it. */
uint32_t vmm_virtio_pci_take_isr(struct virtio_pci *p)
{
    pthread_mutex_lock(&p->isr_lock);
    uint32_t isr = p->isr;
    p->isr = 0;
    vmm_pci_set_intx(p->pci, 0);
    pthread_mutex_unlock(&p->isr_lock);
    return isr;
}

/* A vector that is not there is answered by "none" (§4.1.5.1.2.1). */
uint16_t vmm_virtio_pci_vector(const struct virtio_pci *p, uint32_t value)
{
    return value < p->vectors ? (uint16_t)value : VIRTIO_PCI_NO_VECTOR;
}

/* Common configuration (§4.1.4.3) --------------------------------------------------------------- */

enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    QUEUE_NOTIFY_DATA = 0x38,
    QUEUE_RESET = 0x3a,
    COMMON_LENGTH = 0x3c,
};

static const struct {
    uint8_t offset, width;
} fields[] = {
    {DEVICE_FEATURE_SELECT, 4}, {DEVICE_FEATURE, 4},
    {DRIVER_FEATURE_SELECT, 4}, {DRIVER_FEATURE, 4},
    {CONFIG_VECTOR, 2},         {NUM_QUEUES, 2},
    {DEVICE_STATUS, 1},         {CONFIG_GENERATION, 1},
    {QUEUE_SELECT, 2},          {QUEUE_SIZE, 2},
    {QUEUE_VECTOR, 2},          {QUEUE_ENABLE, 2},
    {QUEUE_NOTIFY_OFF, 2},      {QUEUE_DESC, 8},
    {QUEUE_DRIVER, 8},          {QUEUE_DEVICE, 8},
    {QUEUE_NOTIFY_DATA, 2},     {QUEUE_RESET, 2},
};

static struct vmm_virtio_queue *selected(struct virtio_pci *p)
{
    return vmm_virtio_queue(p->virtio, p->queue_select);
}

static uint64_t read_queue_field(struct virtio_pci *p, uint32_t offset)
{
    struct vmm_virtio_queue *q = selected(p);
    if (!q)
        return 0; /* a size of zero: there is no such queue */
    switch (offset) {
    case QUEUE_SIZE:
        return q->ring.size;
    case QUEUE_VECTOR:
        return p->queue_vectors[q->index];
    case QUEUE_ENABLE:
        return q->ring.enabled;
    case QUEUE_NOTIFY_OFF:
    case QUEUE_NOTIFY_DATA:
        return q->index;
    case QUEUE_DESC:
        return q->ring.desc;
    case QUEUE_DRIVER:
        return q->ring.driver;
    case QUEUE_DEVICE:
        return q->ring.device;
    default:
        return 0; /* a reset is done when it is read */
    }
}

static uint64_t read_field(struct virtio_pci *p, uint32_t offset)
{
    const struct vmm_virtio *v = p->virtio;
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        return p->device_select;
    case DEVICE_FEATURE:
        return p->device_select < 2 ? v->offered >> (32 * p->device_select) & UINT32_MAX : 0;
    case DRIVER_FEATURE_SELECT:
        return p->driver_select;
    case DRIVER_FEATURE:
        return p->driver_select < 2 ? v->wanted >> (32 * p->driver_select) & UINT32_MAX : 0;
    case CONFIG_VECTOR:
        return p->config_vector;
    case NUM_QUEUES:
        return v->queue_count;
    case DEVICE_STATUS:
        return v->status;
    case CONFIG_GENERATION:
        return v->generation & 0xff;
    case QUEUE_SELECT:
        return p->queue_select;
    default:
        return read_queue_field(p, offset);
    }
}

static uint8_t common_byte(struct virtio_pci *p, uint64_t offset)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++)
        if (offset - fields[i].offset < fields[i].width)
            return (uint8_t)(read_field(p, fields[i].offset) >> (8 * (offset - fields[i].offset)));
    return 0;
}

static uint64_t common_read(struct virtio_pci *p, uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++)
        if (fields[i].offset == offset && fields[i].width == width)
            return read_field(p, fields[i].offset);
    for (uint32_t i = 0; i < width && offset + i < COMMON_LENGTH; i++)
        value |= (uint64_t)common_byte(p, offset + i) << (8 * i);
    return value;
}

/* The fields of a queue keep still while it is on (§4.1.4.3.2). */
static void write_queue_field(struct virtio_pci *p, uint32_t offset, uint64_t value)
{
    struct vmm_virtio_queue *q = selected(p);
    bool reset_ok = p->virtio->accepted & VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_QUEUE_RESET);
    if (!q)
        return;
    if (offset == QUEUE_VECTOR)
        p->queue_vectors[q->index] = vmm_virtio_pci_vector(p, (uint32_t)value);
    else if (offset == QUEUE_RESET && value == 1 && reset_ok)
        vmm_virtio_queue_reset(q);
    else if (q->ring.enabled)
        return;
    else if (offset == QUEUE_ENABLE && value == 1 && (p->virtio->status & STATUS_FEATURES_OK))
        vmm_virtio_queue_enable(q);
    else if (offset == QUEUE_SIZE)
        q->ring.size = (uint32_t)value;
    else if (offset == QUEUE_DESC)
        q->ring.desc = value;
    else if (offset == QUEUE_DRIVER)
        q->ring.driver = value;
    else if (offset == QUEUE_DEVICE)
        q->ring.device = value;
}

static void write_field(struct virtio_pci *p, uint32_t offset, uint64_t value)
{
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        p->device_select = (uint32_t)value;
        break;
    case DRIVER_FEATURE_SELECT:
        p->driver_select = (uint32_t)value;
        break;
    case DRIVER_FEATURE:
        vmm_virtio_set_features(p->virtio, p->driver_select, (uint32_t)value);
        break;
    case CONFIG_VECTOR:
        p->config_vector = vmm_virtio_pci_vector(p, (uint32_t)value);
        break;
    case DEVICE_STATUS:
        vmm_virtio_set_status(p->virtio, (uint32_t)value);
        break;
    case QUEUE_SELECT:
        p->queue_select = (uint32_t)value;
        break;
    default:
        write_queue_field(p, offset, value);
        break;
    }
}

/* Fields are written whole, addresses also by halves (§4.1.3.1); anything else is no field. */
static void common_write(struct virtio_pci *p, uint64_t offset, uint32_t width, uint64_t value)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(fields); i++) {
        uint32_t at = fields[i].offset;
        bool half = fields[i].width == 8 && width == 4;
        if (offset == at && fields[i].width == width) {
            write_field(p, at, value);
            return;
        }
        if (!half || (offset != at && offset != at + 4))
            continue;
        uint64_t old = read_field(p, at);
        value = offset == at ? (old & ~(uint64_t)UINT32_MAX) | (value & UINT32_MAX)
                             : (old & UINT32_MAX) | value << 32;
        write_field(p, at, value);
        return;
    }
}

/* The BAR -------------------------------------------------------------------------------------- */

uint64_t vmm_virtio_pci_config_read(struct virtio_pci *p, uint64_t offset, uint32_t width)
{
    uint8_t data[8] = {0};
    vmm_virtio_config_read(p->virtio, offset, data, width);
    return vmm_load_le64(data);
}

void vmm_virtio_pci_config_write(struct virtio_pci *p, uint64_t offset, uint32_t width,
                                 uint64_t value)
{
    uint8_t data[8];
    vmm_store_le64(data, value);
    vmm_virtio_config_write(p->virtio, offset, data, width);
}

/* Where there is no ioeventfd. */
void vmm_virtio_pci_notify(struct virtio_pci *p, uint32_t queue)
{
    struct vmm_virtio_queue *q = vmm_virtio_queue(p->virtio, queue);
    if (q)
        vmm_virtio_queue_kick(q);
}

static uint64_t modern_read(struct virtio_pci *p, uint64_t offset, uint32_t width)
{
    uint64_t inside = offset % VIRTIO_PCI_PAGE;
    switch (offset - inside) {
    case VIRTIO_PCI_COMMON:
        return common_read(p, inside, width);
    case VIRTIO_PCI_ISR:
        return inside == 0 ? vmm_virtio_pci_take_isr(p) : 0;
    case VIRTIO_PCI_DEVICE:
        return vmm_virtio_pci_config_read(p, inside, width);
    default:
        return 0;
    }
}

static void modern_write(struct virtio_pci *p, uint64_t offset, uint32_t width, uint64_t value)
{
    uint64_t inside = offset % VIRTIO_PCI_PAGE;
    switch (offset - inside) {
    case VIRTIO_PCI_COMMON:
        common_write(p, inside, width, value);
        break;
    case VIRTIO_PCI_DEVICE:
        vmm_virtio_pci_config_write(p, inside, width, value);
        break;
    case VIRTIO_PCI_NOTIFY:
        vmm_virtio_pci_notify(p, (uint32_t)inside / VIRTIO_PCI_NOTIFY_STEP);
        break;
    default:
        break;
    }
}

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    return bar == VIRTIO_PCI_BAR ? modern_read(ctx, offset, width)
                                 : vmm_virtio_legacy_read(ctx, offset, width);
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    if (bar == VIRTIO_PCI_BAR)
        modern_write(ctx, offset, width, value);
    else
        vmm_virtio_legacy_write(ctx, offset, width, value);
}

/* A notification has two bytes (§4.1.5.2), but any width is one: where the host can, it then need not
 * look at the instruction. */
static struct vmm_ioeventfd notify_event(const struct virtio_pci *p, uint32_t bar, uint32_t queue)
{
    struct vmm_ioeventfd e = VMM_IOEVENTFD_INIT;
    bool legacy = bar == VIRTIO_PCI_LEGACY_BAR;
    e.space = legacy ? VMM_SPACE_PORT : VMM_SPACE_MMIO;
    e.length = legacy || !p->any_width ? 2 : 0;
    e.address = legacy ? p->places[bar].address + VIRTIO_LEGACY_NOTIFY
                       : p->places[bar].address + VIRTIO_PCI_NOTIFY +
                             (uint64_t)queue * VIRTIO_PCI_NOTIFY_STEP;
    e.match = legacy;
    e.data = legacy ? queue : 0;
    e.fd = p->virtio->queues[queue].kick_fd;
    return e;
}

/* A host that refuses one costs time only: the BAR does the same. */
static void bar_placed(void *ctx, uint32_t bar, bool enabled, uint64_t address)
{
    struct virtio_pci *p = ctx;
    struct virtio_pci_place *place = &p->places[bar];
    if (bar == VIRTIO_PCI_MSIX_BAR || !p->virtio->vm)
        return;
    while (!enabled && place->ioeventfds) {
        const struct vmm_ioeventfd e = notify_event(p, bar, --place->ioeventfds);
        (void)vmm_vm_ioeventfd_remove(p->virtio->vm, &e);
    }
    place->address = address;
    while (enabled && place->ioeventfds < p->virtio->queue_count) {
        const struct vmm_ioeventfd e = notify_event(p, bar, place->ioeventfds);
        if (vmm_vm_ioeventfd_add(p->virtio->vm, &e))
            return;
        place->ioeventfds++;
    }
}

/* The window in configuration space (§4.1.4.9) --------------------------------------------------- */

/* Is this an access to the window's data, and where does it lead? */
static bool window(const struct virtio_pci *p, uint32_t offset, uint32_t width, uint32_t *where)
{
    const uint8_t *cap = vmm_pci_config(p->pci) + p->window_cap;
    if (offset != p->window_cap + CAP_DATA || cap[CAP_BAR] != VIRTIO_PCI_BAR ||
        vmm_load_le32(cap + CAP_LENGTH) != width)
        return false;
    *where = vmm_load_le32(cap + CAP_OFFSET);
    return *where % width == 0 && *where <= VIRTIO_PCI_BAR_LENGTH - width;
}

static uint32_t config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    struct virtio_pci *p = ctx;
    uint32_t where;
    if (window(p, offset, width, &where))
        return (uint32_t)modern_read(p, where, width) & UINT32_MAX >> (32 - 8 * width);
    return value;
}

static void config_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    struct virtio_pci *p = ctx;
    uint32_t where;
    if (window(p, offset, width, &where))
        modern_write(p, where, width, value);
}

/* The transport's side of the device ----------------------------------------------------------- */

static void reset(void *ctx)
{
    struct virtio_pci *p = ctx;
    p->device_select = p->driver_select = p->queue_select = 0;
    p->config_vector = VIRTIO_PCI_NO_VECTOR;
    for (uint32_t i = 0; i < p->virtio->queue_count; i++)
        p->queue_vectors[i] = VIRTIO_PCI_NO_VECTOR;
    change_isr(p, 0, UINT32_MAX);
}

static void power_on(void *ctx)
{
    struct virtio_pci *p = ctx;
    vmm_pci_reset(p->pci);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct virtio_pci *p = ctx;
    uint8_t vectors[2 * VIRTIO_PCI_QUEUES_MAX];
    for (uint32_t i = 0; i < p->virtio->queue_count; i++)
        vmm_store_le16(vectors + 2 * i, p->queue_vectors[i]);
    (void)vmm_state_put_u32(w, "device-features-sel", p->device_select);
    (void)vmm_state_put_u32(w, "driver-features-sel", p->driver_select);
    (void)vmm_state_put_u32(w, "queue-sel", p->queue_select);
    (void)vmm_state_put_u32(w, "config-vector", p->config_vector);
    (void)vmm_state_put_bytes(w, "queue-vectors", vectors, 2u * p->virtio->queue_count);
    (void)vmm_state_put_u32(w, "isr", p->isr);
    return vmm_pci_save(p->pci, w);
}

struct loaded {
    uint32_t device_select, driver_select, queue_select, config_vector, isr;
    uint8_t vectors[2 * VIRTIO_PCI_QUEUES_MAX];
};

static int check_vector(const struct virtio_pci *p, uint32_t vector, struct vmm_error *err)
{
    if (vector == VIRTIO_PCI_NO_VECTOR || vector < p->vectors)
        return 0;
    return vmm_error_set(err, -EINVAL, "%s: vector %u, there are %u",
                         vmm_device_name(p->virtio->device), vector, p->vectors);
}

static int load_fields(struct virtio_pci *p, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    uint32_t queues = p->virtio->queue_count;
    int rc = vmm_state_get_u32(r, "device-features-sel", UINT32_MAX, &l->device_select, err);
    rc = rc ? rc : vmm_state_get_u32(r, "driver-features-sel", UINT32_MAX, &l->driver_select, err);
    rc = rc ? rc : vmm_state_get_u32(r, "queue-sel", UINT16_MAX, &l->queue_select, err);
    rc = rc ? rc : vmm_state_get_u32(r, "config-vector", UINT16_MAX, &l->config_vector, err);
    rc = rc ? rc : vmm_state_get_u32(r, "isr", 3, &l->isr, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "queue-vectors", l->vectors, 2u * queues, err);
    rc = rc ? rc : check_vector(p, l->config_vector, err);
    for (uint32_t i = 0; i < queues && !rc; i++)
        rc = check_vector(p, vmm_load_le16(l->vectors + 2 * i), err);
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct virtio_pci *p = ctx;
    struct loaded l;
    int rc = load_fields(p, r, &l, err);
    rc = rc ? rc : vmm_pci_load(p->pci, r, err);
    if (rc)
        return rc;
    p->device_select = l.device_select;
    p->driver_select = l.driver_select;
    p->queue_select = l.queue_select;
    p->config_vector = (uint16_t)l.config_vector;
    for (uint32_t i = 0; i < p->virtio->queue_count; i++)
        p->queue_vectors[i] = vmm_load_le16(l.vectors + 2 * i);
    change_isr(p, l.isr, ~l.isr);
    return 0;
}

static void destroy(void *ctx)
{
    struct virtio_pci *p = ctx;
    vmm_pci_unref(p->pci);
    free(p->queue_vectors);
    pthread_mutex_destroy(&p->isr_lock);
    free(p);
}

/* Attaching ------------------------------------------------------------------------------------ */

/* §4.1.4: the structures are found by vendor-specific capabilities. */
static int add_structure(struct virtio_pci *p, uint8_t type, uint32_t at, uint32_t length)
{
    uint8_t data[18] = {0}, writable[18] = {0};
    uint8_t size = type == CFG_NOTIFY || type == CFG_PCI ? 18 : 14;
    data[0] = (uint8_t)(size + 2);
    data[1] = type;
    data[CAP_BAR - 2] = VIRTIO_PCI_BAR;
    vmm_store_le32(data + CAP_OFFSET - 2, at);
    vmm_store_le32(data + CAP_LENGTH - 2, length);
    if (type == CFG_NOTIFY)
        vmm_store_le32(data + 14, VIRTIO_PCI_NOTIFY_STEP);
    if (type != CFG_PCI)
        return vmm_pci_add_capability(p->pci, CAP_VENDOR, data, NULL, size, NULL);
    data[CAP_BAR - 2] = 0;
    writable[CAP_BAR - 2] = 0xff;
    memset(writable + CAP_OFFSET - 2, 0xff, 12);
    return vmm_pci_add_capability(p->pci, CAP_VENDOR, data, writable, size, &p->window_cap);
}

static int add_structures(struct virtio_pci *p)
{
    uint32_t notify = p->virtio->queue_count * VIRTIO_PCI_NOTIFY_STEP;
    uint32_t config = p->virtio->config_size;
    int rc = add_structure(p, CFG_COMMON, VIRTIO_PCI_COMMON, COMMON_LENGTH);
    rc = rc ? rc : add_structure(p, CFG_ISR, VIRTIO_PCI_ISR, 1);
    rc = rc || !config ? rc : add_structure(p, CFG_DEVICE, VIRTIO_PCI_DEVICE, config);
    rc = rc ? rc : add_structure(p, CFG_NOTIFY, VIRTIO_PCI_NOTIFY, notify);
    return rc ? rc : add_structure(p, CFG_PCI, 0, 0);
}

/* Nothing depends on it: drivers go by the IDs. */
static uint32_t class_of(uint32_t id)
{
    switch (id) {
    case 1:
        return 0x020000; /* Ethernet */
    case 2:
        return 0x018000; /* mass storage */
    case 3:
        return 0x078000; /* communication */
    case 8:
        return 0x010000; /* SCSI */
    case 18:
        return 0x098000; /* input */
    default:
        return 0x00ff00;
    }
}

static int make_function(struct virtio_pci *p, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .bar_read = bar_read,
        .bar_write = bar_write,
        .bar_placed = bar_placed,
        .config_read = config_read,
        .config_written = config_written,
    };
    struct vmm_virtio *v = p->virtio;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.vendor_id = VENDOR;
    o.device_id = (uint16_t)(DEVICE_BASE + v->id);
    o.revision = 1;
    o.subsystem_vendor_id = VENDOR;
    o.subsystem_id = (uint16_t)(DEVICE_BASE + v->id); /* at least 0x40 (§4.1.2.1) */
    if (p->transitional) {
        o.device_id = vmm_virtio_legacy_id(v->id);
        o.revision = 0;
        o.subsystem_id = (uint16_t)v->id;
        o.bars[VIRTIO_PCI_LEGACY_BAR].length = VIRTIO_LEGACY_LENGTH;
        o.bars[VIRTIO_PCI_LEGACY_BAR].flags = VMM_PCI_BAR_PORT;
    }
    o.class_code = class_of(v->id);
    o.interrupt_pin = 1;
    o.bars[VIRTIO_PCI_BAR].length = VIRTIO_PCI_BAR_LENGTH;
    o.bars[VIRTIO_PCI_BAR].flags = VMM_PCI_BAR_64; /* boards put it where 32-bit guests reach it */
    o.msix_vectors = p->vectors;
    o.msix_bar = VIRTIO_PCI_MSIX_BAR;
    o.capabilities = VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS;
    o.device = v->device;
    o.ops = &ops;
    o.ctx = p;
    int rc = vmm_pci_new(&o, &p->pci, err);
    if (rc)
        return rc;
    rc = add_structures(p);
    return rc ? vmm_error_set(err, rc, "%s: capabilities: %s", vmm_device_name(v->device),
                              strerror(-rc))
              : 0;
}

static int check_options(const struct vmm_virtio *v, const struct vmm_virtio_pci_options *o,
                         struct vmm_error *err)
{
    const char *name = vmm_device_name(v->device);
    if (v->transport)
        return vmm_error_set(err, -EBUSY, "%s is on a transport already", name);
    if (o->transitional && !vmm_virtio_legacy_id(v->id))
        return vmm_error_set(err, -ENOTSUP, "%s: legacy drivers know no device of type %u", name,
                             v->id);
    if (v->queue_count > VIRTIO_PCI_QUEUES_MAX)
        return vmm_error_set(err, -EINVAL, "%s: more than %u queues", name, VIRTIO_PCI_QUEUES_MAX);
    return 0;
}

int vmm_virtio_pci_attach(struct vmm_virtio *v, struct vmm_pci_host *host,
                          const struct vmm_virtio_pci_options *given, struct vmm_error *err)
{
    static const struct vmm_virtio_transport transport = {
        interrupt, reset, save, load, destroy, power_on,
    };
    static const struct vmm_virtio_pci_options defaults = VMM_VIRTIO_PCI_OPTIONS_INIT;
    struct vmm_virtio_pci_options o;
    int rc = v && host ? vmm_options_copy(&o, sizeof(o), given ? given : &defaults) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "virtio PCI options: none, or of another version");
    rc = check_options(v, &o, err);
    if (rc)
        return rc;
    struct virtio_pci *p = calloc(1, sizeof(*p));
    _Atomic uint16_t *queue_vectors = calloc(v->queue_count, sizeof(*queue_vectors));
    if (!p || !queue_vectors) {
        free(p);
        free(queue_vectors);
        return vmm_error_set(err, -ENOMEM, "out of memory");
    }
    p->virtio = v;
    p->transitional = o.transitional;
    p->vectors = v->queue_count + 1;
    p->any_width = v->vm && vmm_vm_capability(v->vm, KVM_CAP_IOEVENTFD_ANY_LENGTH);
    p->queue_vectors = queue_vectors;
    pthread_mutex_init(&p->isr_lock, NULL);
    rc = make_function(p, err);
    if (rc) {
        destroy(p);
        return rc;
    }
    reset(p);
    vmm_virtio_attach(v, &transport, p);
    uint32_t slot = o.slot ? o.slot : VMM_PCI_ANY_SLOT;
    rc = o.bridge ? vmm_pci_bridge_add(o.bridge, p->pci, slot, o.function, err)
                  : vmm_pci_host_add(host, p->pci, slot, o.function, err);
    if (rc) {
        vmm_virtio_attach(v, NULL, NULL);
        destroy(p);
    }
    return rc;
}

struct vmm_pci *vmm_virtio_pci(struct vmm_virtio *v)
{
    const struct virtio_pci *p = v->transport_ctx;
    return v->transport && v->transport->interrupt == interrupt ? p->pci : NULL;
}
