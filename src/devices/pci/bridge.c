/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI-to-PCI bridges, and root ports of PCI Express with a slot for hot plug (PCI Express 3.0 §6.7). */
#include "base/util.h"
#include "devices/pci/internal.h"

#include <libvmm/loop.h>

#include <stdlib.h>

/* The capability of a root port (§7.8), from its beginning. */
#define EXPRESS_FLAGS   0x02u
#define LINK_CAP        0x0cu
#define LINK_STATUS     0x12u
#define SLOT_CAP        0x14u
#define SLOT_CONTROL    0x18u
#define SLOT_STATUS     0x1au
#define ROOT_CONTROL    0x1cu
#define LINK_CAP_2      0x2cu
#define EXPRESS_LENGTH  0x3cu
#define SLOT_NUMBER_MAX 8191u

#define LINK_X1_2_5     0x0011u /* one lane, 2.5 GT/s: capability and status alike */
#define LINK_REPORTS_UP (1u << 20)
#define LINK_UP         0x2000u

/* Attention button, power controller, both indicators, surprise, hot plug; no command completed. */
#define SLOT_CAPABLE (0x7bu | 1u << 18)

#define CONTROL_WRITABLE    0x17ffu
#define CONTROL_ENABLES     0x001fu /* of the status bits of the same places */
#define CONTROL_INTERRUPT   0x0020u
#define CONTROL_POWER_OFF   0x0400u
#define CONTROL_LINK_ENABLE 0x1000u

#define STATUS_BUTTON   0x0001u
#define STATUS_PRESENCE 0x0008u /* has changed */
#define STATUS_PRESENT  0x0040u
#define STATUS_LINK     0x0100u /* has changed */
#define STATUS_EVENTS   (STATUS_BUTTON | 0x0016u | STATUS_PRESENCE | STATUS_LINK)

struct vmm_pci_bridge {
    struct vmm_pci *pci;
    struct pci_bus bus;
    bool express;
    bool interrupting, powered_off; /* as they were when last looked at */
    struct vmm_loop *loop;
    struct vmm_timer *ejector;
    void (*unplugged)(void *ctx, struct vmm_pci *pci);
    void *ctx;
};

/* Registers; the device's lock is held ---------------------------------------------------------- */

static uint16_t get(const struct vmm_pci_bridge *b, uint32_t offset)
{
    return vmm_load_le16(&b->pci->config[b->pci->pcie + offset]);
}

static void set(struct vmm_pci_bridge *b, uint32_t offset, uint32_t value)
{
    pthread_mutex_lock(&b->pci->irq_lock);
    vmm_store_le16(&b->pci->config[b->pci->pcie + offset], (uint16_t)value);
    pthread_mutex_unlock(&b->pci->irq_lock);
}

/* §6.7.3.4: the pin while there are enabled events, a message when they begin. */
static void update_interrupt(struct vmm_pci_bridge *b)
{
    uint32_t control = get(b, SLOT_CONTROL), status = get(b, SLOT_STATUS);
    bool link = (control & CONTROL_LINK_ENABLE) && (status & STATUS_LINK);
    bool events = link || (control & status & CONTROL_ENABLES);
    bool interrupting = (control & CONTROL_INTERRUPT) && events;
    vmm_pci_set_intx(b->pci, interrupting);
    if (interrupting && !b->interrupting)
        (void)vmm_pci_signal(b->pci, 0);
    b->interrupting = interrupting;
}

static void raise_events(struct vmm_pci_bridge *b, uint32_t events)
{
    set(b, SLOT_STATUS, get(b, SLOT_STATUS) | events);
    update_interrupt(b);
}

static void show_presence(struct vmm_pci_bridge *b)
{
    bool present = b->bus.occupied;
    uint32_t status = get(b, SLOT_STATUS) & ~STATUS_PRESENT;
    set(b, SLOT_STATUS, present ? status | STATUS_PRESENT : status);
    set(b, LINK_STATUS, present ? LINK_X1_2_5 | LINK_UP : 0);
}

static bool is_present(const struct vmm_pci_bridge *b)
{
    return get(b, SLOT_STATUS) & STATUS_PRESENT;
}

/* Somebody came or went; no lock is held. */
static void changed(struct vmm_pci *pci)
{
    struct vmm_pci_bridge *b = pci->ctx;
    vmm_device_lock(pci->device);
    if (b->bus.occupied != is_present(b)) {
        show_presence(b);
        raise_events(b, STATUS_PRESENCE | STATUS_LINK);
    }
    vmm_device_unlock(pci->device);
}

/* The guest ------------------------------------------------------------------------------------ */

/* Power that goes off with a card in the slot is the guest's leave to take it. */
static void config_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    struct vmm_pci_bridge *b = ctx;
    (void)offset, (void)width, (void)value;
    if (!b->express)
        return;
    bool off = get(b, SLOT_CONTROL) & CONTROL_POWER_OFF;
    if (off && !b->powered_off && is_present(b))
        (void)vmm_timer_set(b->ejector, 0);
    b->powered_off = off;
    update_interrupt(b);
}

/* The bridge's bus, or NULL; no lock is held. */
static struct vmm_pci_host *host_of(struct vmm_pci_bridge *b)
{
    vmm_device_lock(b->pci->device);
    struct vmm_pci_host *host = b->pci->host;
    vmm_device_unlock(b->pci->device);
    return host;
}

/* One of the slot's functions, the first one last, with references. */
static struct vmm_pci *take_one(struct vmm_pci_bridge *b, struct vmm_pci_host *host)
{
    struct vmm_pci *found = NULL;
    pthread_rwlock_rdlock(&host->tree);
    for (uint32_t i = 8; i-- > 0 && !found;)
        found = b->bus.functions[i];
    if (found) {
        vmm_pci_ref(found);
        vmm_device_ref(found->device);
    }
    pthread_rwlock_unlock(&host->tree);
    return found;
}

/* On the loop's thread. */
static void eject(void *ctx)
{
    struct vmm_pci_bridge *b = ctx;
    struct vmm_pci_host *host = host_of(b);
    struct vmm_pci *pci;
    while (host && (pci = take_one(b, host))) {
        struct vmm_device *device = pci->device;
        if (vmm_pci_host_remove(host, pci) == 0 && b->unplugged)
            b->unplugged(b->ctx, pci);
        vmm_pci_unref(pci);
        vmm_device_unref(device);
    }
}

int vmm_pci_bridge_eject(struct vmm_pci_bridge *b)
{
    if (!b || !b->express)
        return b ? -ENOTSUP : -EINVAL;
    vmm_device_lock(b->pci->device);
    int rc = is_present(b) ? 0 : -ENODEV;
    if (!rc)
        raise_events(b, STATUS_BUTTON);
    vmm_device_unlock(b->pci->device);
    return rc;
}

/* Reset and load ------------------------------------------------------------------------------- */

/* The slot is as it is, whatever the registers said. */
static void look_again(struct vmm_pci_bridge *b)
{
    if (!b->express)
        return;
    show_presence(b);
    b->powered_off = get(b, SLOT_CONTROL) & CONTROL_POWER_OFF;
    b->interrupting = false;
    update_interrupt(b);
}

static void reset(void *ctx)
{
    look_again(ctx);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    const struct vmm_pci_bridge *b = ctx;
    return vmm_state_put_u32(w, "occupied", b->bus.occupied);
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pci_bridge *b = ctx;
    uint32_t occupied;
    (void)version;
    int rc = vmm_state_get_u32(r, "occupied", 1, &occupied, err);
    if (!rc)
        look_again(b);
    if (!rc && b->express && occupied != b->bus.occupied) /* plugged or unplugged meanwhile */
        raise_events(b, STATUS_PRESENCE | STATUS_LINK);
    return rc;
}

static void destroy(void *ctx)
{
    struct vmm_pci_bridge *b = ctx;
    vmm_timer_free(b->ejector);
    vmm_loop_unref(b->loop);
    free(b);
}

/* Making --------------------------------------------------------------------------------------- */

static int add_express(struct vmm_pci_bridge *b, uint32_t slot_number)
{
    uint8_t cap[EXPRESS_LENGTH] = {0}, writable[EXPRESS_LENGTH] = {0};
    struct vmm_pci *pci = b->pci;
    vmm_store_le16(cap + EXPRESS_FLAGS, 2u | 4u << 4 | 1u << 8); /* version 2, root port, a slot */
    vmm_store_le32(cap + 0x04, 1u << 15);                        /* role-based error reporting */
    vmm_store_le16(writable + 0x08, 0x7cff);
    vmm_store_le32(cap + LINK_CAP, LINK_X1_2_5 | LINK_REPORTS_UP);
    vmm_store_le16(writable + 0x10, 0x00c0); /* common clock, extended synch */
    vmm_store_le32(cap + SLOT_CAP, SLOT_CAPABLE | slot_number << 19);
    vmm_store_le16(writable + SLOT_CONTROL, CONTROL_WRITABLE);
    vmm_store_le16(writable + ROOT_CONTROL, 0x001f);
    vmm_store_le32(cap + LINK_CAP_2, 2);
    int rc = vmm_pci_add_capability(pci, CAP_EXPRESS, cap + 2, writable + 2, sizeof(cap) - 2,
                                    &pci->pcie);
    if (rc)
        return rc;
    vmm_store_le16(&pci->clearable[pci->pcie + SLOT_STATUS], STATUS_EVENTS);
    vmm_store_le16(&pci->changing[pci->pcie + SLOT_STATUS], UINT16_MAX);
    vmm_store_le16(&pci->changing[pci->pcie + LINK_STATUS], UINT16_MAX);
    pci->express = true;
    return 0;
}

static int make_function(struct vmm_pci_bridge *b, const struct vmm_pci_bridge_options *o,
                         struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .config_written = config_written,
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
    };
    struct vmm_pci_options p = VMM_PCI_OPTIONS_INIT;
    p.name = o->name;
    p.vendor_id = 0x1b36;
    p.device_id = o->express ? 0x000c : 0x0001; /* QEMU's, which guests know */
    p.class_code = 0x060400;
    p.interrupt_pin = o->express ? 1 : 0;
    p.msi_vectors = o->express ? 1 : 0;
    p.msi_flags = VMM_PCI_MSI_64 | VMM_PCI_MSI_MASKING;
    p.ops = &ops;
    p.ctx = b;
    int rc = vmm_pci_new(&p, &b->pci, err);
    if (rc)
        return rc;
    vmm_pci_build_bridge_header(b->pci, &b->bus);
    if (!o->express)
        return 0;
    b->bus.changed = changed;
    b->bus.one_slot = true;
    rc = add_express(b, o->slot_number);
    return rc ? vmm_error_set(err, rc, "%s: capabilities: %s", o->name, strerror(-rc)) : 0;
}

static int check_options(const struct vmm_pci_bridge_options *o, struct vmm_error *err)
{
    if (!o->express || (!o->parent && o->loop && o->slot_number <= SLOT_NUMBER_MAX))
        return 0;
    return vmm_error_set(err, -EINVAL,
                         "%s: a root port is on bus 0, has a loop, and its slot a number up to %u",
                         o->name ? o->name : "", SLOT_NUMBER_MAX);
}

static int put_on_bus(struct vmm_pci_host *host, struct vmm_pci_bridge *b,
                      const struct vmm_pci_bridge_options *o, struct vmm_error *err)
{
    uint32_t slot = o->slot ? o->slot : VMM_PCI_ANY_SLOT;
    if (o->parent)
        return vmm_pci_bridge_add(o->parent, b->pci, slot, o->function, err);
    return vmm_pci_host_add(host, b->pci, slot, o->function, err);
}

static int build(struct vmm_pci_host *host, struct vmm_pci_bridge *b,
                 const struct vmm_pci_bridge_options *o, struct vmm_error *err)
{
    int rc = o->express ? vmm_timer_new(o->loop, eject, b, &b->ejector) : 0;
    if (rc)
        return vmm_error_set(err, rc, "%s: timer: %s", o->name, strerror(-rc));
    rc = make_function(b, o, err);
    if (!rc)
        rc = put_on_bus(host, b, o, err);
    return rc;
}

int vmm_pci_bridge_new(struct vmm_pci_host *host, const struct vmm_pci_bridge_options *given,
                       struct vmm_pci_bridge **out, struct vmm_error *err)
{
    struct vmm_pci_bridge_options o;
    int rc = host && given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "PCI bridge: no options, or of another version");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_pci_bridge *b = calloc(1, sizeof(*b));
    if (!b)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    b->express = o.express;
    b->unplugged = o.unplugged;
    b->ctx = o.ctx;
    b->loop = o.express ? vmm_loop_ref(o.loop) : NULL;
    rc = build(host, b, &o, err);
    if (rc) {
        vmm_pci_unref(b->pci);
        destroy(b);
        return rc;
    }
    b->pci->ops.destroy = destroy; /* it goes with its function from now on */
    *out = b;
    return 0;
}

struct vmm_pci_bridge *vmm_pci_bridge_ref(struct vmm_pci_bridge *b)
{
    vmm_pci_ref(b->pci);
    return b;
}

struct vmm_pci_bridge *vmm_pci_bridge_unref(struct vmm_pci_bridge *b)
{
    if (b)
        vmm_pci_unref(b->pci);
    return NULL;
}

struct vmm_pci *vmm_pci_bridge_function(struct vmm_pci_bridge *b)
{
    return b->pci;
}

int vmm_pci_bridge_add(struct vmm_pci_bridge *b, struct vmm_pci *pci, uint32_t slot,
                       uint32_t function, struct vmm_error *err)
{
    uint32_t last = b && b->express ? 0 : 31;
    if (!b || !pci || (slot != VMM_PCI_ANY_SLOT && slot > last) || function > 7)
        return vmm_error_set(err, -EINVAL,
                             "PCI slots are 0 to 31 (behind a root port 0), functions 0 to 7");
    struct vmm_pci_host *host = host_of(b);
    if (!host)
        return vmm_error_set(err, -ENODEV, "the bridge is on no bus");
    return vmm_pci_bus_add(host, &b->bus, pci, slot, function, err);
}
