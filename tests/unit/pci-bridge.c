/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI bridges: bus numbers, windows, swizzle; and hot plug behind a root port. */
#include "pci-world.h"

#include <libvmm/loop.h>

struct fixture {
    struct world w;
    struct vmm_loop *loop;
    struct vmm_pci_bridge *bridge; /* slot 1 */
    struct vmm_pci_bridge *port;   /* slot 2 */
    uint32_t cap;                  /* the port's express capability */
    struct vmm_pci *gone;
};

static void unplugged(void *ctx, struct vmm_pci *pci)
{
    ((struct fixture *)ctx)->gone = pci;
}

static struct vmm_pci_bridge *make_bridge(struct fixture *f, const char *name, uint32_t slot,
                                          uint32_t express, struct vmm_pci_bridge *parent)
{
    struct vmm_pci_bridge_options o = VMM_PCI_BRIDGE_OPTIONS_INIT;
    struct vmm_pci_bridge *bridge;
    struct vmm_error err = VMM_ERROR_INIT;
    o.name = name;
    o.slot = slot;
    o.parent = parent;
    o.express = express;
    o.slot_number = express ? 77 : 0;
    o.loop = f->loop;
    o.unplugged = unplugged;
    o.ctx = f;
    if (vmm_pci_bridge_new(f->w.host, &o, &bridge, &err))
        fail_msg("%s", err.text);
    return bridge;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    world_open(&f->w);
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    f->bridge = make_bridge(f, "bridge", 1, 0, NULL);
    f->port = make_bridge(f, "port", 2, 1, NULL);
    f->cap = capability(&f->w, 2, 0x10);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_pci_bridge_unref(f->bridge);
    vmm_pci_bridge_unref(f->port);
    world_close(&f->w);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

/* Behind a bridge, which with its host holds it. */
static struct vmm_pci *add_behind(struct fixture *f, struct vmm_pci_bridge *bridge, uint32_t slot,
                                  uint32_t function, const struct vmm_pci_options *o)
{
    struct vmm_pci *pci;
    struct vmm_error err = VMM_ERROR_INIT;
    (void)f;
    if (vmm_pci_new(o, &pci, &err) || vmm_pci_bridge_add(bridge, pci, slot, function, &err))
        fail_msg("%s", err.text);
    vmm_pci_unref(pci);
    return pci;
}

/* By the number of its bus. */
static uint32_t cfg_at(struct fixture *f, uint32_t bus, uint32_t slot, uint32_t offset,
                       uint32_t width)
{
    uint32_t value = 0;
    (void)vmm_pci_host_config_read(f->w.host, bus << 8 | slot << 3, offset, width, &value);
    return value;
}

static void set_at(struct fixture *f, uint32_t bus, uint32_t slot, uint32_t offset, uint32_t width,
                   uint32_t value)
{
    assert_int_equal(
        vmm_pci_host_config_write(f->w.host, bus << 8 | slot << 3, offset, width, value), 0);
}

static void set_buses(struct fixture *f, uint32_t slot, uint32_t secondary, uint32_t subordinate)
{
    set_cfg(&f->w, slot, 0x18, 4, subordinate << 16 | secondary << 8);
}

/* Bridges -------------------------------------------------------------------------------------- */

static void header_of_a_bridge(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cfg(&f->w, 1, 0x0e, 1), 1);
    assert_int_equal(cfg(&f->w, 1, 0x0a, 2), 0x0604);
    assert_int_equal(cfg(&f->w, 1, 0x1c, 2), 0x00f0); /* closed */
    assert_int_equal(cfg(&f->w, 1, 0x20, 4), 0x0000fff0);
    assert_int_equal(cfg(&f->w, 1, 0x24, 4), 0x0001fff1);
    set_cfg(&f->w, 1, 0x1c, 2, 0xffff);
    set_cfg(&f->w, 1, 0x20, 4, 0xffffffff);
    set_cfg(&f->w, 1, 0x24, 4, 0xffffffff);
    assert_int_equal(cfg(&f->w, 1, 0x1c, 2), 0xf0f0);
    assert_int_equal(cfg(&f->w, 1, 0x20, 4), 0xfff0fff0);
    assert_int_equal(cfg(&f->w, 1, 0x24, 4), 0xfff1fff1);
    vmm_device_reset(vmm_pci_device(vmm_pci_bridge_function(f->bridge)));
    assert_int_equal(cfg(&f->w, 1, 0x20, 4), 0x0000fff0);
}

static void bus_numbers(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci_options o = world_options(&f->w, "dev");
    struct vmm_pci *pci = add_behind(f, f->bridge, 5, 0, &o);
    struct vmm_pci_bridge *inner = make_bridge(f, "inner", 7, 0, f->bridge);
    uint32_t address;
    o.name = "deep";
    add_behind(f, inner, 0, 0, &o);
    assert_int_equal(cfg_at(f, 1, 5, 0, 4), UINT32_MAX);
    set_buses(f, 1, 1, 2);
    assert_int_equal(cfg_at(f, 1, 5, 0, 4), 0x56781234);
    assert_int_equal(vmm_pci_address(pci, &address), 0);
    assert_int_equal(address, 0x128);
    set_at(f, 1, 7, 0x18, 4, 0x00020201);
    assert_int_equal(cfg_at(f, 2, 0, 0, 4), 0x56781234);
    set_buses(f, 1, 1, 1); /* does not reach so far any more */
    assert_int_equal(cfg_at(f, 2, 0, 0, 4), UINT32_MAX);
    set_buses(f, 1, 9, 200);
    assert_int_equal(cfg_at(f, 1, 5, 0, 4), UINT32_MAX);
    assert_int_equal(cfg_at(f, 9, 5, 0, 4), 0x56781234);
    uint64_t value = mmio(&f->w, ECAM + (1u << 20) + 5 * 0x8000, 4);
    assert_int_equal(value, UINT32_MAX);
    /* All alike, all around: whatever is found, it ends. */
    set_at(f, 9, 7, 0x18, 4, 0x00ff0900);
    set_buses(f, 1, 0, 255);
    set_buses(f, 2, 0, 255);
    for (uint32_t bus = 0; bus < 256; bus++)
        (void)cfg_at(f, bus, 5, 0, 4);
    vmm_pci_bridge_unref(inner);
}

static void windows(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci_options o = world_options(&f->w, "dev");
    o.bars[0].length = 0x1000;
    o.bars[1] = (struct vmm_pci_bar){.length = 0x20, .flags = VMM_PCI_BAR_PORT};
    o.bars[2] = (struct vmm_pci_bar){.length = 0x1000, .flags = VMM_PCI_BAR_64};
    add_behind(f, f->bridge, 0, 0, &o);
    set_buses(f, 1, 1, 1);
    set_at(f, 1, 0, 4, 2, 3);
    set_at(f, 1, 0, 0x10, 4, WINDOW + 0x100000);
    set_at(f, 1, 0, 0x14, 4, 0x1000);
    set_at(f, 1, 0, 0x1c, 4, HIGH >> 32);
    assert_int_equal(f->w.placed[0] + f->w.placed[1] + f->w.placed[2], 0);
    set_cfg(&f->w, 1, 0x20, 4, ((WINDOW + 0x100000) >> 16) * 0x10001u);
    assert_int_equal(f->w.placed[0], 0); /* the bridge does not forward yet */
    set_cfg(&f->w, 1, 4, 2, 3);
    assert_int_equal(f->w.placed[0], 1);
    assert_true(answers(&f->w, WINDOW + 0x100000));
    set_cfg(&f->w, 1, 0x1c, 2, 0x1010);
    assert_int_equal(f->w.placed[1], 1);
    set_cfg(&f->w, 1, 0x24, 4, 0);
    set_cfg(&f->w, 1, 0x28, 4, HIGH >> 32);
    set_cfg(&f->w, 1, 0x2c, 4, HIGH >> 32);
    assert_int_equal(f->w.placed[2], 1);
    set_cfg(&f->w, 1, 0x28, 4, (HIGH >> 32) + 1); /* base above limit */
    assert_int_equal(f->w.placed[2], 0);
    set_cfg(&f->w, 1, 0x20, 4, ((WINDOW + 0x200000) >> 16) * 0x10001u);
    assert_int_equal(f->w.placed[0], 0);
    assert_false(answers(&f->w, WINDOW + 0x100000));
    set_cfg(&f->w, 1, 0x20, 4, 0xfff00000); /* everything: the host bridge's window still bounds */
    assert_int_equal(f->w.placed[0], 1);
    set_at(f, 1, 0, 0x10, 4, 0x1000);
    assert_int_equal(f->w.placed[0], 0);
    set_cfg(&f->w, 1, 4, 2, 0);
    assert_int_equal(f->w.placed[1], 0);
}

static void pins_through_bridges(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci_options o = world_options(&f->w, "dev");
    o.interrupt_pin = 2;
    struct vmm_pci *pci = add_behind(f, f->bridge, 5, 0, &o);
    vmm_pci_set_intx(pci, 1);
    assert_int_equal(f->w.lines[(1 + 5 + 1) % 4], 1);
    assert_int_equal(f->w.lines[0] + f->w.lines[1] + f->w.lines[2], 0);
    assert_int_equal(vmm_pci_host_remove(f->w.host, vmm_pci_bridge_function(f->bridge)), -EBUSY);
    assert_int_equal(vmm_pci_host_remove(f->w.host, pci), 0);
    assert_int_equal(f->w.lines[3], 0);
    assert_int_equal(vmm_pci_host_remove(f->w.host, vmm_pci_bridge_function(f->bridge)), 0);
    struct vmm_pci *other;
    assert_int_equal(vmm_pci_new(&o, &other, NULL), 0);
    assert_int_equal(vmm_pci_bridge_add(f->bridge, other, 0, 0, NULL), -ENODEV);
    vmm_pci_unref(other);
}

static void bad_bridges(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci_bridge_options o = VMM_PCI_BRIDGE_OPTIONS_INIT;
    struct vmm_pci_bridge *b;
    struct vmm_pci_options p = world_options(&f->w, "dev");
    struct vmm_pci *pci;
    o.name = "third";
    o.express = 1;
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &o, &b, NULL), -EINVAL); /* no loop */
    o.loop = f->loop;
    o.slot_number = 8192;
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &o, &b, NULL), -EINVAL);
    o.slot_number = 0;
    o.parent = f->bridge;
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &o, &b, NULL), -EINVAL);
    o.parent = NULL;
    o.slot = 1;
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &o, &b, NULL), -EEXIST);
    o.name = "Bad";
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_pci_bridge_new(NULL, &o, &b, NULL), -EINVAL);
    assert_int_equal(vmm_pci_new(&p, &pci, NULL), 0);
    assert_int_equal(vmm_pci_bridge_add(f->port, pci, 1, 0, NULL), -EINVAL);
    assert_int_equal(vmm_pci_bridge_add(f->bridge, pci, 32, 0, NULL), -EINVAL);
    assert_int_equal(vmm_pci_bridge_add(f->bridge, pci, 0, 8, NULL), -EINVAL);
    assert_int_equal(vmm_pci_bridge_add(NULL, pci, 0, 0, NULL), -EINVAL);
    assert_int_equal(vmm_pci_bridge_eject(f->bridge), -ENOTSUP);
    assert_int_equal(vmm_pci_bridge_eject(f->port), -ENODEV);
    assert_int_equal(vmm_pci_bridge_eject(NULL), -EINVAL);
    vmm_pci_unref(pci);
}

/* Hot plug ------------------------------------------------------------------------------------- */

#define SLOT_CONTROL 0x18
#define SLOT_STATUS  0x1a
#define ALL_EVENTS   0x1039 /* button, presence, link; with the interrupt */

static uint32_t port_reg(struct fixture *f, uint32_t offset, uint32_t width)
{
    return cfg(&f->w, 2, f->cap + offset, width);
}

static void set_port(struct fixture *f, uint32_t offset, uint32_t value)
{
    set_cfg(&f->w, 2, f->cap + offset, 2, value);
}

static void enable_msi(struct fixture *f)
{
    uint32_t msi = capability(&f->w, 2, 5);
    set_cfg(&f->w, 2, msi + 4, 4, 0xfee00000);
    set_cfg(&f->w, 2, msi + 0xc, 2, 0x44);
    set_cfg(&f->w, 2, msi + 2, 2, 1);
    set_cfg(&f->w, 2, 4, 2, 7);
}

static void run(struct fixture *f)
{
    while (vmm_loop_dispatch(f->loop, 0) > 0)
        ;
}

static struct vmm_pci *plug(struct fixture *f)
{
    struct vmm_pci_options o = world_options(&f->w, "card");
    o.capabilities = VMM_PCI_CAP_EXPRESS;
    o.bars[0].length = 0x1000;
    return add_behind(f, f->port, VMM_PCI_ANY_SLOT, 0, &o);
}

static void capability_of_a_port(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(port_reg(f, 2, 2), 0x0142);
    assert_int_equal(port_reg(f, 0x0c, 4), 0x00100011);
    assert_int_equal(port_reg(f, 0x14, 4), 77u << 19 | 0x4007b);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0);
    assert_int_equal(port_reg(f, 0x12, 2), 0);
    set_port(f, SLOT_STATUS, 0xffff);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0);
}

static void plugged(void **state)
{
    struct fixture *f = *state;
    enable_msi(f);
    set_buses(f, 2, 3, 3);
    set_port(f, SLOT_CONTROL, ALL_EVENTS);
    plug(f);
    assert_int_equal(f->w.sent_count, 1);
    assert_int_equal(f->w.sent[0].data, 0x44);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x148);
    assert_int_equal(port_reg(f, 0x12, 2), 0x2011);
    assert_int_equal(cfg_at(f, 3, 0, 0, 4), 0x56781234);
    assert_int_equal(cfg_at(f, 3, 1, 0, 4), UINT32_MAX);
    assert_int_equal(cfg_at(f, 3, 0, 0x42, 1), 0x02); /* an endpoint, with a link */
    set_port(f, SLOT_STATUS, 0x08);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x140);
    set_port(f, SLOT_STATUS, 0x100);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x40);
    struct vmm_pci_options o = world_options(&f->w, "second");
    struct vmm_pci *second;
    assert_int_equal(vmm_pci_new(&o, &second, NULL), 0);
    assert_int_equal(vmm_pci_bridge_add(f->port, second, VMM_PCI_ANY_SLOT, 0, NULL), -ENOSPC);
    assert_int_equal(vmm_pci_bridge_add(f->port, second, 0, 0, NULL), -EEXIST);
    vmm_pci_unref(second);
}

/* The button, then the guest switches the power off, then it is gone. */
static void ejected(void **state)
{
    struct fixture *f = *state;
    enable_msi(f);
    struct vmm_pci *pci = plug(f);
    set_port(f, SLOT_STATUS, 0x1ff);
    set_port(f, SLOT_CONTROL, ALL_EVENTS);
    assert_int_equal(f->w.sent_count, 0);
    assert_int_equal(vmm_pci_bridge_eject(f->port), 0);
    assert_int_equal(f->w.sent_count, 1);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x41);
    set_port(f, SLOT_STATUS, 1);
    run(f);
    assert_null(f->gone);
    set_port(f, SLOT_CONTROL, ALL_EVENTS | 0x400);
    assert_null(f->gone); /* not in the middle of the guest's access */
    run(f);
    assert_ptr_equal(f->gone, pci);
    assert_int_equal(f->w.destroyed, 1);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x108);
    assert_int_equal(port_reg(f, 0x12, 2), 0);
    assert_int_equal(f->w.sent_count, 2);
    /* Off with nobody there, on and off again: nothing happens; nor to a card that comes then. */
    set_port(f, SLOT_CONTROL, ALL_EVENTS);
    set_port(f, SLOT_CONTROL, ALL_EVENTS | 0x400);
    run(f);
    assert_int_equal(f->w.destroyed, 1);
    plug(f);
    uint32_t sent = f->w.sent_count;
    set_cfg(&f->w, 2, 0x0c, 1, 8); /* any other write: no message is repeated */
    assert_int_equal(f->w.sent_count, sent);
    set_port(f, SLOT_STATUS, 0x108);
    run(f);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x40);
    assert_int_equal(f->w.destroyed, 1);
}

static void by_surprise(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci *pci = plug(f);
    set_port(f, SLOT_STATUS, 0x1ff);
    set_port(f, SLOT_CONTROL, ALL_EVENTS);
    assert_int_equal(vmm_pci_host_remove(f->w.host, pci), 0);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x108);
    assert_int_equal(f->w.lines[2], 1); /* no MSI here: the pin of slot 2 */
    set_port(f, SLOT_STATUS, 0x108);
    assert_int_equal(f->w.lines[2], 0);
    assert_null(f->gone);
}

static void masks_of_events(void **state)
{
    struct fixture *f = *state;
    plug(f);
    set_port(f, SLOT_STATUS, 0x1ff);
    set_port(f, SLOT_CONTROL, 0x21); /* the button only */
    struct vmm_pci *second;
    struct vmm_pci_options o = world_options(&f->w, "second");
    assert_int_equal(vmm_pci_new(&o, &second, NULL), 0);
    assert_int_equal(vmm_pci_bridge_add(f->port, second, 0, 1, NULL), 0);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x40); /* another function is no event */
    assert_int_equal(vmm_pci_bridge_eject(f->port), 0);
    assert_int_equal(f->w.lines[2], 1);
    set_port(f, SLOT_CONTROL, 0x01); /* no interrupt */
    assert_int_equal(f->w.lines[2], 0);
    set_port(f, SLOT_CONTROL, 0x401);
    run(f); /* both go, the first one last */
    assert_int_equal(f->w.destroyed, 1);
    assert_ptr_not_equal(f->gone, second);
    vmm_pci_unref(second);
    assert_int_equal(f->w.destroyed, 2);
}

/* With a card, saved; without it, loaded: the guest hears of it. */
static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct vmm_device *device = vmm_pci_device(vmm_pci_bridge_function(f->port));
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    void *data;
    size_t length;
    struct vmm_pci *pci = plug(f);
    set_buses(f, 2, 3, 4);
    set_port(f, SLOT_STATUS, 0x1ff);
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(device, writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, &data, &length), 0);
    vmm_state_writer_free(writer);
    vmm_device_reset(device);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x40); /* it is still there */
    assert_int_equal(cfg_at(f, 3, 0, 0, 2), 0xffff);
    assert_int_equal(vmm_state_reader_new(data, length, &reader, NULL), 0);
    assert_int_equal(vmm_device_load(device, reader, NULL), 0);
    assert_int_equal(cfg_at(f, 3, 0, 0, 2), 0x1234);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x40);
    assert_int_equal(vmm_pci_host_remove(f->w.host, pci), 0);
    assert_int_equal(vmm_device_load(device, reader, NULL), 0);
    assert_int_equal(port_reg(f, SLOT_STATUS, 2), 0x108);
    assert_int_equal(port_reg(f, 0x12, 2), 0);
    vmm_state_reader_free(reader);
    free(data);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(header_of_a_bridge),
        TEST(bus_numbers),
        TEST(windows),
        TEST(pins_through_bridges),
        TEST(bad_bridges),
        TEST(capability_of_a_port),
        TEST(plugged),
        TEST(ejected),
        TEST(by_surprise),
        TEST(masks_of_events),
        TEST(saved_and_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
