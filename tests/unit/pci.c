/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI configuration space and BARs: what a guest sees and what it can do to it. */
#include "pci-world.h"

static int set_up(void **state)
{
    struct world *w = malloc(sizeof(*w));
    world_open(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

/* Configuration -------------------------------------------------------------------------------- */

static void header_says_what_was_declared(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.interrupt_pin = 2;
    world_add(w, &o, 3, 0);
    assert_int_equal(cfg(w, 3, 0, 4), 0x56781234);
    assert_int_equal(cfg(w, 3, 2, 2), 0x5678);
    assert_int_equal(cfg(w, 3, 8, 4), 0x02030507);
    assert_int_equal(cfg(w, 3, 0x2c, 4), 0xdef09abc);
    assert_int_equal(cfg(w, 3, 0x0e, 1), 0);
    assert_int_equal(cfg(w, 3, 0x3c, 2), 0x0200 | 20);
    assert_int_equal(cfg(w, 3, 0x34, 1), 0);
    assert_int_equal(cfg(w, 3, 6, 2), 0);
    set_cfg(w, 3, 0, 4, 0xffffffff); /* identity stays */
    assert_int_equal(cfg(w, 3, 0, 4), 0x56781234);
    set_cfg(w, 3, 4, 2, 0xffff);
    assert_int_equal(cfg(w, 3, 4, 2), 0x0544); /* no BAR: nothing to decode */
    assert_int_equal(cfg(w, 0, 8, 4) >> 8, 0x060000);
}

static void absent_functions_read_as_ones(void **state)
{
    struct world *w = *state;
    uint32_t value = 0;
    assert_int_equal(vmm_pci_host_config_read(w->host, 5 * 8, 0, 4, &value), -ENOENT);
    assert_int_equal(value, UINT32_MAX);
    assert_int_equal(vmm_pci_host_config_read(w->host, 0x100, 0, 2, &value), -ENOENT);
    assert_int_equal(value, 0xffff);
    assert_int_equal(vmm_pci_host_config_write(w->host, 5 * 8, 0, 4, 0), -ENOENT);
    assert_int_equal(vmm_pci_host_config_read(w->host, 0, 2, 4, &value), -EINVAL);
    assert_int_equal(vmm_pci_host_config_read(w->host, 0, 4096, 4, &value), -EINVAL);
    assert_int_equal(vmm_pci_host_config_read(w->host, 0, 0, 3, &value), -EINVAL);
    assert_int_equal(vmm_pci_host_config_write(w->host, 0x10000, 0, 4, 0), -EINVAL);
}

/* Every offset and width through both mechanisms gives what the bytes give one by one. */
static void mechanisms_agree(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.msix_vectors = 3;
    o.capabilities = VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS;
    world_add(w, &o, 3, 0);
    for (uint32_t offset = 0; offset < 256; offset++) {
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < 8; i++)
            bytes |= mmio(w, ECAM + 3 * 0x8000 + offset + i, 1) << (8 * i);
        for (uint32_t width = 1; width <= 8; width *= 2) {
            uint64_t mask = UINT64_MAX >> (64 - 8 * width);
            assert_int_equal(mmio(w, ECAM + 3 * 0x8000 + offset, width), bytes & mask);
            if (width > 4 || (offset & 3) + width > 4)
                continue;
            uint64_t value = 0;
            assert_int_equal(vmm_bus_write(w->ports, 0xcf8, 4, 0x80001800 | (offset & 0xfc)), 0);
            assert_int_equal(vmm_bus_read(w->ports, 0xcfc + (offset & 3), width, &value), 0);
            assert_int_equal(value, bytes & mask);
        }
    }
}

static void mechanism_1_registers(void **state)
{
    struct world *w = *state;
    uint64_t value = 0;
    vmm_bus_write(w->ports, 0xcf8, 4, 0xffffffff);
    vmm_bus_read(w->ports, 0xcf8, 4, &value);
    assert_int_equal(value, 0x80fffffc);
    vmm_bus_write(w->ports, 0xcf8, 2, 0); /* not a register */
    vmm_bus_write(w->ports, 0xcf9, 1, 6);
    vmm_bus_read(w->ports, 0xcf8, 4, &value);
    assert_int_equal(value, 0x80fffffc);
    vmm_bus_write(w->ports, 0xcf8, 4, 0); /* the enable bit is off */
    vmm_bus_read(w->ports, 0xcfc, 4, &value);
    assert_int_equal(value, UINT32_MAX);
    vmm_bus_write(w->ports, 0xcf8, 4, 0x80000000);
    vmm_bus_read(w->ports, 0xcfc, 4, &value);
    assert_int_equal(value, 0x00081b36);
    vmm_bus_read(w->ports, 0xcfe, 2, &value);
    assert_int_equal(value, 0x0008);
    vmm_bus_read(w->ports, 0xcfe, 4, &value); /* leaves the region */
}

static void extended_space(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "old");
    world_add(w, &o, 1, 0);
    o.name = "express";
    o.capabilities = VMM_PCI_CAP_EXPRESS;
    world_add(w, &o, 2, 0);
    assert_int_equal(cfg(w, 1, 0x100, 4), UINT32_MAX);
    assert_int_equal(cfg(w, 2, 0x100, 4), 0); /* no extended capability */
    set_cfg(w, 2, 0x100, 4, 0xffffffff);
    assert_int_equal(cfg(w, 2, 0xffc, 4), 0);
    assert_int_equal(mmio(w, ECAM + 2 * 0x8000 + 0xffe, 4) & 0xffff, 0);
    uint32_t at = capability(w, 2, 0x10);
    assert_int_equal(cfg(w, 2, at + 2, 2), 0x92);
}

static void functions_of_a_slot(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "second");
    uint32_t value;
    world_add(w, &o, 4, 1);
    assert_int_equal(vmm_pci_host_config_read(w->host, 4 * 8 + 1, 0, 4, &value), -ENOENT);
    o.name = "first";
    struct vmm_pci *first = world_add(w, &o, 4, 0);
    assert_int_equal(vmm_pci_host_config_read(w->host, 4 * 8 + 1, 0, 4, &value), 0);
    assert_int_equal(cfg(w, 4, 0x0e, 1), 0x80);
    assert_int_equal(cfg(w, 4, 0x0c, 4) & 0xff0000, 0x800000);
    assert_int_equal(vmm_pci_host_remove(w->host, first), 0);
    assert_int_equal(vmm_pci_host_config_read(w->host, 4 * 8 + 1, 0, 4, &value), -ENOENT);
}

static void places_are_checked(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev0");
    struct vmm_pci *pci, *other;
    uint32_t address;
    assert_int_equal(vmm_pci_new(&o, &pci, NULL), 0);
    assert_int_equal(vmm_pci_address(pci, &address), -ENOENT);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 0, 0, NULL), -EINVAL);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 32, 0, NULL), -EINVAL);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 1, 8, NULL), -EINVAL);
    assert_int_equal(vmm_pci_host_remove(w->host, pci), -ENOENT);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 2, 0, NULL), 0);
    assert_int_equal(vmm_pci_address(pci, &address), 0);
    assert_int_equal(address, 16);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 3, 0, NULL), -EBUSY);
    assert_int_equal(vmm_pci_add_capability(pci, 9, NULL, NULL, 0, NULL), -EBUSY);
    assert_int_equal(vmm_pci_new(&o, &other, NULL), 0);
    assert_int_equal(vmm_pci_host_add(w->host, other, 2, 0, NULL), -EEXIST);
    vmm_pci_unref(other);
    for (int i = 0; i < 30; i++)
        world_add(w, &o, VMM_PCI_ANY_SLOT, 0);
    assert_int_equal(cfg(w, 31, 0, 2), 0x1234);
    assert_int_equal(vmm_pci_new(&o, &other, NULL), 0);
    assert_int_equal(vmm_pci_host_add(w->host, other, VMM_PCI_ANY_SLOT, 0, NULL), -ENOSPC);
    vmm_pci_unref(other);
    assert_int_equal(vmm_pci_host_remove(w->host, pci), 0);
    assert_int_equal(w->destroyed, 2);
    vmm_pci_unref(pci);
    assert_int_equal(w->destroyed, 3);
}

/* BARs ----------------------------------------------------------------------------------------- */

static void sizing(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.bars[0].length = 0x1000;
    o.bars[1].length = 0x20;
    o.bars[1].flags = VMM_PCI_BAR_PORT;
    o.bars[2].length = (uint64_t)1 << 33;
    o.bars[2].flags = VMM_PCI_BAR_64 | VMM_PCI_BAR_PREFETCH;
    o.bars[4].length = 16;
    o.rom.length = 0x10000;
    world_add(w, &o, 1, 0);
    static const uint32_t expected[] = {0xfffff000, 0xffffffe1, 0x0000000c,
                                        0xfffffffe, 0xfffffff0, 0};
    for (uint32_t i = 0; i < 6; i++) {
        set_cfg(w, 1, 0x10 + 4 * i, 4, 0xffffffff);
        assert_int_equal(cfg(w, 1, 0x10 + 4 * i, 4), expected[i]);
        set_cfg(w, 1, 0x10 + 4 * i, 4, 0);
        assert_int_equal(cfg(w, 1, 0x10 + 4 * i, 4), i == 3 ? 0 : expected[i] & (i == 1 ? 1 : 0xf));
    }
    set_cfg(w, 1, 0x30, 4, 0xfffffffe);
    assert_int_equal(cfg(w, 1, 0x30, 4), 0xffff0000);
    set_cfg(w, 1, 4, 2, 0xffff);
    assert_int_equal(cfg(w, 1, 4, 2), 0x0547);
}

static void decoding_and_relocation(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.bars[0].length = 0x1000;
    world_add(w, &o, 1, 0);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x5000);
    assert_false(answers(w, WINDOW + 0x5000));
    set_cfg(w, 1, 4, 2, 2);
    w->bar_value = 0x1122334455667788;
    assert_int_equal(mmio(w, WINDOW + 0x5123, 2), 0x7788);
    assert_int_equal(w->last_offset, 0x123);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x8000);
    assert_false(answers(w, WINDOW + 0x5000));
    assert_true(answers(w, WINDOW + 0x8ffc));
    vmm_bus_write(w->mmio, WINDOW + 0x8008, 8, 42);
    assert_int_equal(w->last_offset, 8);
    assert_int_equal(w->last_value, 42);
    set_cfg(w, 1, 0x11, 1, 0x90); /* one byte of the register */
    assert_false(answers(w, WINDOW + 0x8000));
    assert_true(answers(w, WINDOW + 0x9000));
    set_cfg(w, 1, 0x10, 4, 0xffffffff); /* sized while decoding: outside of the window */
    assert_false(answers(w, 0xfffff000));
    set_cfg(w, 1, 0x10, 4, WINDOW);
    assert_true(answers(w, WINDOW));
    assert_int_equal(w->placed[0], 1);
    assert_int_equal(w->placed_at[0], WINDOW);
    set_cfg(w, 1, 4, 2, 0);
    assert_false(answers(w, WINDOW));
    assert_int_equal(w->placed[0], 0);
}

static void windows_bound_bars(void **state)
{
    struct world *w = *state;
    static const uint64_t outside[] = {0,
                                       WINDOW - 0x1000,
                                       WINDOW + 0x10000000,
                                       HIGH - 0x1000,
                                       HIGH + 0x1000000000,
                                       UINT64_MAX - 0xfff,
                                       0xfee00000};
    struct vmm_pci_options o = world_options(w, "dev");
    o.bars[0].length = 0x1000;
    o.bars[0].flags = VMM_PCI_BAR_64;
    o.bars[2].length = 4;
    o.bars[2].flags = VMM_PCI_BAR_PORT;
    world_add(w, &o, 1, 0);
    set_cfg(w, 1, 4, 2, 3);
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        set_cfg(w, 1, 0x10, 4, (uint32_t)outside[i]);
        set_cfg(w, 1, 0x14, 4, (uint32_t)(outside[i] >> 32));
        assert_int_equal(w->placed[0], 0);
    }
    set_cfg(w, 1, 0x14, 4, HIGH >> 32);
    set_cfg(w, 1, 0x10, 4, 0xfffff000);
    assert_true(answers(w, HIGH + 0xfffff000));
    set_cfg(w, 1, 0x18, 4, 0x1ffc);
    assert_int_equal(w->placed[2], 1);
    set_cfg(w, 1, 0x18, 4, 0x2000);
    assert_int_equal(w->placed[2], 0);
    set_cfg(w, 1, 0x18, 4, 0x11ffc);
    assert_int_equal(w->placed[2], 0);
}

static void overlaps_have_an_order(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "first");
    o.bars[0].length = 0x1000;
    o.bars[1].length = 0x1000;
    world_add(w, &o, 1, 0);
    struct world second;
    memset(&second, 0, sizeof(second));
    o.name = "second";
    o.ctx = &second;
    struct vmm_pci *other = world_add(w, &o, 2, 0);
    set_cfg(w, 1, 4, 2, 2);
    set_cfg(w, 2, 4, 2, 2);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x1000);
    set_cfg(w, 2, 0x10, 4, WINDOW + 0x1000);
    set_cfg(w, 2, 0x14, 4, WINDOW + 0x1000);
    assert_int_equal(w->placed[0], 1);
    assert_int_equal(second.placed[0] + second.placed[1], 0);
    mmio(w, WINDOW + 0x1000, 4);
    assert_int_equal(w->bar_reads, 1);
    assert_int_equal(second.bar_reads, 0);
    /* The place becomes free: one of those that wait has it. */
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x2000);
    assert_int_equal(second.placed[0], 1);
    assert_int_equal(second.placed[1], 0);
    mmio(w, WINDOW + 0x1000, 4);
    assert_int_equal(second.bar_reads, 1);
    /* Two that swap their places, one after the other. */
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x1000);
    assert_int_equal(w->placed[0], 0);
    set_cfg(w, 2, 0x10, 4, WINDOW + 0x2000);
    assert_int_equal(w->placed[0] + second.placed[1], 1);
    assert_int_equal(second.placed[0], 1);
    /* Unplugged: what waited comes. */
    set_cfg(w, 2, 0x14, 4, WINDOW + 0x7000);
    assert_int_equal(w->placed_at[0], WINDOW + 0x1000);
    set_cfg(w, 1, 0x14, 4, WINDOW + 0x2000);
    assert_int_equal(w->placed[1], 0);
    assert_int_equal(vmm_pci_host_remove(w->host, other), 0);
    assert_int_equal(w->placed[1], 1);
    assert_int_equal(second.placed[0], 0);
    assert_int_equal(second.destroyed, 1);
}

static uint64_t board_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx, (void)offset, (void)width;
    return 0xb0a2d;
}

static void board_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)ctx, (void)offset, (void)width, (void)value;
}

/* RAM that was put into a window, and a device of the board there. */
static void what_was_there_stays(void **state)
{
    struct world *w = *state;
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops), .read = board_read, .write = board_write};
    struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
    struct vmm_pci_options o = world_options(w, "dev");
    r.name = "board";
    r.address = WINDOW + 0x100800;
    r.length = 16;
    r.ops = &ops;
    assert_int_equal(vmm_bus_add(w->mmio, &r, NULL, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(w->memory, "more", WINDOW + 0x10000, 0x1000, NULL, NULL),
                     0);
    assert_int_equal(vmm_memory_store_u32(w->memory, WINDOW + 0x10000, 0x12345678), 0);
    o.bars[0].length = 0x2000;
    world_add(w, &o, 1, 0);
    set_cfg(w, 1, 4, 2, 2);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x10000);
    assert_int_equal(w->placed[0], 0);
    uint32_t value;
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x10000, &value), 0);
    assert_int_equal(value, 0x12345678);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x100000);
    assert_int_equal(w->placed[0], 0);
    assert_int_equal(mmio(w, WINDOW + 0x100800, 4), 0xb0a2d);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x12000);
    assert_int_equal(w->placed[0], 1);
}

static void bars_of_memory(void **state)
{
    struct world *w = *state;
    struct vmm_memory_region_options m = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_pci_options o = world_options(w, "dev");
    uint32_t value = 0;
    m.type = VMM_MEMORY_DEVICE;
    m.length = 0x4000;
    assert_int_equal(vmm_memory_region_new(&m, &o.bars[0].memory, NULL), 0);
    o.bars[0].length = 0x4000;
    o.bars[1].length = 0x1000;
    m.type = VMM_MEMORY_ROM;
    m.length = 0x1000;
    assert_int_equal(vmm_memory_region_new(&m, &o.rom.memory, NULL), 0);
    o.rom.length = 0x1000;
    world_add(w, &o, 1, 0);
    vmm_memory_region_unref(o.bars[0].memory);
    vmm_memory_region_unref(o.rom.memory);
    set_cfg(w, 1, 0x10, 4, WINDOW);
    assert_int_equal(vmm_memory_store_u32(w->memory, WINDOW, 1), -EFAULT);
    set_cfg(w, 1, 4, 2, 2);
    assert_int_equal(vmm_memory_store_u32(w->memory, WINDOW + 0x3ffc, 77), 0);
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x4000); /* its bytes go with it */
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x3ffc, &value), -EFAULT);
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x7ffc, &value), 0);
    assert_int_equal(value, 77);
    set_cfg(w, 1, 0x14, 4, WINDOW + 0x5000); /* over it: not seen */
    assert_int_equal(w->placed[1], 0);
    set_cfg(w, 1, 0x30, 4, WINDOW + 0x20000);
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x20000, &value), -EFAULT);
    set_cfg(w, 1, 0x30, 4, WINDOW + 0x20001);
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x20000, &value), 0);
    assert_int_equal(vmm_memory_store_u32(w->memory, WINDOW + 0x20000, value), -EFAULT);
    set_cfg(w, 1, 4, 2, 0);
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x7ffc, &value), -EFAULT);
    assert_int_equal(vmm_memory_load_u32(w->memory, WINDOW + 0x20000, &value), -EFAULT);
}

static void power_states(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.bars[0].length = 0x1000;
    o.capabilities = VMM_PCI_CAP_PM;
    world_add(w, &o, 1, 0);
    uint32_t pm = capability(w, 1, 1);
    set_cfg(w, 1, 0x10, 4, WINDOW);
    set_cfg(w, 1, 4, 2, 2);
    assert_true(answers(w, WINDOW));
    set_cfg(w, 1, pm + 4, 2, 3);
    assert_false(answers(w, WINDOW));
    set_cfg(w, 1, pm + 4, 2, 0);
    assert_true(answers(w, WINDOW));
}

/* Assignment ----------------------------------------------------------------------------------- */

static void assignment(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "one");
    o.bars[0].length = 0x1000;
    o.bars[1].length = 0x100;
    o.bars[1].flags = VMM_PCI_BAR_PORT;
    o.bars[2].length = 0x100000;
    o.bars[2].flags = VMM_PCI_BAR_64 | VMM_PCI_BAR_PREFETCH;
    o.rom.length = 0x800;
    world_add(w, &o, 1, 0);
    o.name = "two";
    world_add(w, &o, 2, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vmm_pci_host_assign(w->host, NULL), 0);
        assert_int_equal(cfg(w, 1, 4, 2), 3);
        assert_int_equal(cfg(w, 1, 0x10, 4), WINDOW);
        assert_int_equal(cfg(w, 2, 0x10, 4), WINDOW + 0x1000);
        assert_int_equal(cfg(w, 1, 0x30, 4), WINDOW + 0x2000);
        assert_int_equal(cfg(w, 2, 0x14, 4), 0x1101);
        assert_int_equal(cfg(w, 1, 0x18, 4), 0xc);
        assert_int_equal(cfg(w, 1, 0x1c, 4), HIGH >> 32);
        assert_int_equal(cfg(w, 2, 0x18, 4), 0x10000c);
        assert_int_equal(w->placed[0] + w->placed[1] + w->placed[2], 6);
    }
    struct vmm_pci_options large = world_options(w, "large");
    struct vmm_error err = VMM_ERROR_INIT;
    large.bars[0].length = 0x40000000;
    struct vmm_pci *pci = world_add(w, &large, 3, 0);
    assert_int_equal(vmm_pci_host_assign(w->host, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "large"));
    assert_int_equal(cfg(w, 3, 4, 2), 0);
    assert_int_equal(cfg(w, 2, 4, 2), 3);
    vmm_pci_host_remove(w->host, pci);
    assert_int_equal(vmm_pci_host_assign(w->host, NULL), 0);
}

/* State and options ---------------------------------------------------------------------------- */

static struct vmm_pci *saved_device(struct world *w, struct vmm_pci_options *o)
{
    *o = world_options(w, "dev");
    o->bars[0].length = 0x1000;
    o->msix_vectors = 2;
    o->msix_bar = 1;
    o->msi_vectors = 4;
    o->msi_flags = VMM_PCI_MSI_64 | VMM_PCI_MSI_MASKING;
    return world_add(w, o, 1, 0);
}

static int load(struct world *w, struct vmm_pci *pci, const void *data, size_t length,
                struct vmm_error *err)
{
    struct vmm_state_reader *r;
    (void)w;
    int rc = vmm_state_reader_new(data, length, &r, err);
    if (rc)
        return rc;
    rc = vmm_device_load(vmm_pci_device(pci), r, err);
    vmm_state_reader_free(r);
    return rc;
}

static void save_and_load(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o;
    struct vmm_pci *pci = saved_device(w, &o);
    struct vmm_state_writer *writer;
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t *data;
    size_t length;
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x3000);
    set_cfg(w, 1, 0x14, 4, WINDOW + 0x4000);
    set_cfg(w, 1, 4, 2, 6);
    vmm_bus_write(w->mmio, WINDOW + 0x4008, 4, 99);
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(pci), writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, (void **)&data, &length), 0);
    vmm_state_writer_free(writer);
    vmm_device_reset(vmm_pci_device(pci));
    assert_int_equal(w->resets, 1);
    assert_int_equal(cfg(w, 1, 0x10, 4), 0);
    assert_int_equal(w->placed[0], 0);
    assert_int_equal(load(w, pci, data, length, &err), 0);
    assert_int_equal(w->placed_at[0], WINDOW + 0x3000);
    assert_int_equal(mmio(w, WINDOW + 0x4008, 4), 99);
    assert_int_equal(cfg(w, 1, 4, 2), 6);
    /* A forged identity is refused, and nothing is taken over. */
    for (size_t i = 0; i + 4 <= length; i++)
        if (memcmp(data + i, "\x34\x12\x78\x56", 4) == 0)
            data[i] = 0x35;
    set_cfg(w, 1, 0x10, 4, WINDOW + 0x6000);
    assert_int_equal(load(w, pci, data, length, &err), -EINVAL);
    assert_non_null(strstr(err.text, "config"));
    assert_int_equal(cfg(w, 1, 0x10, 4), WINDOW + 0x6000);
    free(data);
}

static void host_state(void **state)
{
    struct world *w = *state;
    struct vmm_device *device = vmm_pci_host_device(w->host);
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    uint64_t value = 0;
    void *data;
    size_t length;
    vmm_bus_write(w->ports, 0xcf8, 4, 0x80001234);
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(device, writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, &data, &length), 0);
    vmm_state_writer_free(writer);
    vmm_device_reset(device);
    vmm_bus_read(w->ports, 0xcf8, 4, &value);
    assert_int_equal(value, 0);
    assert_int_equal(vmm_state_reader_new(data, length, &reader, NULL), 0);
    assert_int_equal(vmm_device_load(device, reader, NULL), 0);
    vmm_state_reader_free(reader);
    vmm_bus_read(w->ports, 0xcf8, 4, &value);
    assert_int_equal(value, 0x80001234);
    free(data);
}

static void expect_bad(struct vmm_pci_options *o)
{
    struct vmm_pci *pci;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_pci_new(o, &pci, &err), -EINVAL);
    assert_true(err.text[0]);
}

static void bad_bars(void **state)
{
    struct world *w = *state;
    static const struct vmm_pci_bar bars[] = {
        {.length = 8},
        {.length = 0x1001},
        {.length = 0x3000},
        {.length = (uint64_t)1 << 32},
        {.length = 16, .flags = 8},
        {.length = 2, .flags = VMM_PCI_BAR_PORT},
        {.length = 512, .flags = VMM_PCI_BAR_PORT},
        {.length = 64, .flags = VMM_PCI_BAR_PORT | VMM_PCI_BAR_64},
        {.length = 64, .flags = VMM_PCI_BAR_PORT | VMM_PCI_BAR_PREFETCH},
        {.length = 64, .max_width = 16},
    };
    for (size_t i = 0; i < sizeof(bars) / sizeof(bars[0]); i++) {
        struct vmm_pci_options o = world_options(w, "dev");
        o.bars[0] = bars[i];
        expect_bad(&o);
    }
    struct vmm_pci_options o = world_options(w, "dev");
    o.bars[5] = (struct vmm_pci_bar){.length = 64, .flags = VMM_PCI_BAR_64};
    expect_bad(&o);
    o.bars[5].length = 0;
    o.bars[2] = (struct vmm_pci_bar){.length = 64, .flags = VMM_PCI_BAR_64};
    o.bars[3].length = 64;
    expect_bad(&o);
    o.bars[3].length = 0;
    o.msix_vectors = 1;
    o.msix_bar = 3;
    expect_bad(&o);
    o.msix_bar = 2;
    expect_bad(&o);
    o.msix_bar = 6;
    expect_bad(&o);
    o.msix_vectors = 0;
    o.rom.length = 1024;
    expect_bad(&o);
    o.rom.length = 4096;
    o.rom.flags = VMM_PCI_BAR_64;
    expect_bad(&o);
}

static void bad_options(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "Bad");
    struct vmm_pci_ops ops = world_ops;
    struct vmm_pci *pci;
    uint8_t data[200] = {0};
    uint32_t offset;
    expect_bad(&o);
    o.name = "dev";
    o.interrupt_pin = 5;
    expect_bad(&o);
    o.interrupt_pin = 0;
    o.msi_vectors = 3;
    expect_bad(&o);
    o.msi_vectors = 64;
    expect_bad(&o);
    o.msi_vectors = 0;
    o.msix_vectors = 2049;
    expect_bad(&o);
    o.msix_vectors = 0;
    o.capabilities = 4;
    expect_bad(&o);
    o.capabilities = 0;
    ops.save = (int (*)(void *, struct vmm_state_writer *))(void (*)(void))world_reset;
    o.ops = &ops;
    expect_bad(&o);
    assert_int_equal(vmm_pci_new(NULL, &pci, NULL), -EINVAL);
    assert_int_equal(w->destroyed, 0);
    o.ops = &world_ops;
    assert_int_equal(vmm_pci_new(&o, &pci, NULL), 0);
    assert_int_equal(vmm_pci_add_capability(pci, 0, data, NULL, 4, NULL), -EINVAL);
    assert_int_equal(vmm_pci_add_capability(pci, 9, NULL, NULL, 4, NULL), -EINVAL);
    assert_int_equal(vmm_pci_add_capability(pci, 9, data, NULL, 191, NULL), -ENOSPC);
    assert_int_equal(vmm_pci_add_capability(pci, 9, data, NULL, 190, &offset), 0);
    assert_int_equal(offset, 0x40);
    assert_int_equal(vmm_pci_add_capability(pci, 9, data, NULL, 0, NULL), -ENOSPC);
    vmm_pci_unref(pci);
}

static void bad_host_options(void **state)
{
    struct world *w = *state;
    struct vmm_pci_host_options o = world_host_options(w);
    struct vmm_pci_host *host;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EEXIST); /* the other has the addresses */
    o.mmio = NULL;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    o = world_host_options(w);
    o.buses = 257;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    o = world_host_options(w);
    o.window.length = 0x80000000;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    o = world_host_options(w);
    o.port_window.length = 0x10000;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    o = world_host_options(w);
    o.ports = NULL;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    o = world_host_options(w);
    o.ecam_address = 0;
    o.config_port = 0;
    assert_int_equal(vmm_pci_host_new(&o, &host, NULL), -EINVAL);
    assert_int_equal(vmm_pci_host_new(NULL, &host, NULL), -EINVAL);
}

static void capabilities_are_linked(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    static const uint8_t data[] = {5, 1, 2, 3}, writable[] = {0, 0, 0xf0, 0xff};
    struct vmm_pci *pci;
    uint32_t offset;
    o.capabilities = VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS;
    o.msi_vectors = 1;
    o.msix_vectors = 1;
    assert_int_equal(vmm_pci_new(&o, &pci, NULL), 0);
    assert_int_equal(vmm_pci_add_capability(pci, 9, data, writable, 4, &offset), 0);
    assert_int_equal(vmm_pci_host_add(w->host, pci, 1, 0, NULL), 0);
    static const uint8_t ids[] = {1, 5, 0x11, 0x10, 9};
    uint32_t at = cfg(w, 1, 0x34, 1);
    for (size_t i = 0; i < sizeof(ids); i++) {
        assert_int_equal(cfg(w, 1, at, 1), ids[i]);
        if (i == 4)
            assert_int_equal(at, offset);
        at = cfg(w, 1, at + 1, 1);
    }
    assert_int_equal(at, 0);
    assert_int_equal(cfg(w, 1, 6, 2), 0x10);
    set_cfg(w, 1, offset, 4, 0xffffffff);
    assert_int_equal(cfg(w, 1, offset + 2, 2), 0x0105);
    set_cfg(w, 1, offset + 4, 2, 0xffff);
    assert_int_equal(cfg(w, 1, offset + 4, 2), 0xfff2);
    vmm_device_reset(vmm_pci_device(pci));
    assert_int_equal(cfg(w, 1, offset + 4, 2), 0x0302);
    vmm_pci_unref(pci);
}

static void dma_needs_the_bus(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    uint32_t value = 0x12345678;
    struct vmm_pci *pci = world_add(w, &o, 1, 0);
    assert_int_equal(vmm_pci_dma_write(pci, 0x1000, &value, 4), -EACCES);
    assert_int_equal(vmm_pci_dma_read(pci, 0x1000, &value, 4), -EACCES);
    set_cfg(w, 1, 4, 2, 4);
    assert_int_equal(vmm_pci_dma_write(pci, 0x1000, &value, 4), 0);
    value = 0;
    assert_int_equal(vmm_pci_dma_read(pci, 0x1000, &value, 4), 0);
    assert_int_equal(value, 0x12345678);
    assert_int_equal(vmm_pci_dma_read(pci, RAM - 2, &value, 4), -EFAULT);
    assert_int_equal(vmm_pci_dma_write(pci, UINT64_MAX, &value, 4), -EFAULT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(header_says_what_was_declared),
        TEST(absent_functions_read_as_ones),
        TEST(mechanisms_agree),
        TEST(mechanism_1_registers),
        TEST(extended_space),
        TEST(functions_of_a_slot),
        TEST(places_are_checked),
        TEST(sizing),
        TEST(decoding_and_relocation),
        TEST(windows_bound_bars),
        TEST(overlaps_have_an_order),
        TEST(what_was_there_stays),
        TEST(bars_of_memory),
        TEST(power_states),
        TEST(assignment),
        TEST(save_and_load),
        TEST(host_state),
        TEST(bad_bars),
        TEST(bad_options),
        TEST(bad_host_options),
        TEST(capabilities_are_linked),
        TEST(dma_needs_the_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
