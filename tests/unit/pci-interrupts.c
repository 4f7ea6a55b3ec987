/* SPDX-License-Identifier: BSD-3-Clause */
/* Interrupts of PCI functions: the pin and its swizzle, MSI, and MSI-X with hostile tables. */
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

static struct vmm_pci *add_pin(struct world *w, const char *name, uint32_t slot, uint8_t pin)
{
    struct vmm_pci_options o = world_options(w, name);
    o.interrupt_pin = pin;
    o.msi_vectors = 1;
    return world_add(w, &o, slot, 0);
}

/* The pin ------------------------------------------------------------------------------------- */

static void pins_are_swizzled(void **state)
{
    struct world *w = *state;
    for (uint32_t slot = 1; slot < 9; slot++)
        for (uint8_t pin = 1; pin <= 4; pin++) {
            struct vmm_pci *pci = add_pin(w, "dev", slot, pin);
            uint32_t line = (slot + pin - 1) % 4;
            assert_int_equal(cfg(w, slot, 0x3c, 1), 20 + line);
            vmm_pci_set_intx(pci, 1);
            for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(w->lines[i], i == line);
            assert_int_equal(vmm_pci_host_remove(w->host, pci), 0);
            assert_int_equal(w->lines[line], 0); /* gone with the device */
        }
}

static void lines_are_shared(void **state)
{
    struct world *w = *state;
    struct vmm_pci *a = add_pin(w, "a", 1, 1), *b = add_pin(w, "b", 5, 1);
    vmm_pci_set_intx(a, 1);
    vmm_pci_set_intx(b, 1);
    vmm_pci_set_intx(a, 1);
    vmm_pci_set_intx(a, 0);
    assert_int_equal(w->lines[1], 1);
    vmm_pci_set_intx(b, 0);
    assert_int_equal(w->lines[1], 0);
}

static void drivers_switch_the_pin_off(void **state)
{
    struct world *w = *state;
    struct vmm_pci *pci = add_pin(w, "dev", 4, 1);
    uint32_t msi = capability(w, 4, 5);
    vmm_pci_set_intx(pci, 1);
    assert_int_equal(cfg(w, 4, 6, 2), 0x18);
    set_cfg(w, 4, 4, 2, 0x400);
    assert_int_equal(w->lines[0], 0);
    assert_int_equal(cfg(w, 4, 6, 2), 0x18); /* the status stays */
    set_cfg(w, 4, 4, 2, 0);
    assert_int_equal(w->lines[0], 1);
    set_cfg(w, 4, msi + 2, 2, 1);
    assert_int_equal(w->lines[0], 0);
    assert_int_equal(vmm_pci_interrupt_mode(pci), VMM_PCI_MSI);
    set_cfg(w, 4, msi + 2, 2, 0);
    assert_int_equal(w->lines[0], 1);
    vmm_device_reset(vmm_pci_device(pci));
    assert_int_equal(w->lines[0], 0);
}

/* MSI ------------------------------------------------------------------------------------------ */

static void msi_of_each_form(void **state)
{
    struct world *w = *state;
    for (uint32_t flags = 0; flags < 4; flags++) {
        struct vmm_pci_options o = world_options(w, "dev");
        bool wide = flags & VMM_PCI_MSI_64, masking = flags & VMM_PCI_MSI_MASKING;
        o.msi_vectors = 4;
        o.msi_flags = flags;
        struct vmm_pci *pci = world_add(w, &o, 2, 0);
        uint32_t msi = capability(w, 2, 5), data = msi + (wide ? 12 : 8);
        assert_int_equal(cfg(w, 2, msi + 2, 2), 4u | (wide ? 0x80 : 0) | (masking ? 0x100 : 0));
        set_cfg(w, 2, 4, 2, 4);
        set_cfg(w, 2, msi + 4, 4, 0xfee01003);
        if (wide)
            set_cfg(w, 2, msi + 8, 4, 0x11);
        set_cfg(w, 2, data, 2, 0x4047);
        w->sent_count = 0;
        assert_int_equal(vmm_pci_signal(pci, 0), 0); /* off */
        assert_int_equal(w->sent_count, 0);
        set_cfg(w, 2, msi + 2, 2, 0x21); /* on, all four */
        assert_int_equal(vmm_pci_signal(pci, 2), 1);
        assert_int_equal(w->sent[0].address, (wide ? 0x1100000000u : 0) | 0xfee01000u);
        assert_int_equal(w->sent[0].data, 0x4046);
        assert_int_equal(w->sent[0].device_id, 16);
        set_cfg(w, 2, msi + 2, 2, 0x11); /* two only: the last is shared */
        assert_int_equal(vmm_pci_signal(pci, 3), 1);
        assert_int_equal(w->sent[1].data, 0x4047);
        set_cfg(w, 2, msi + 2, 2, 0x71); /* more than there are */
        assert_int_equal(vmm_pci_signal(pci, 3), 1);
        assert_int_equal(w->sent[2].data, 0x4047);
        assert_int_equal(vmm_pci_signal(pci, 4), -EINVAL);
        vmm_pci_host_remove(w->host, pci);
    }
}

static void msi_masking(void **state)
{
    struct world *w = *state;
    struct vmm_pci_options o = world_options(w, "dev");
    o.msi_vectors = 32;
    o.msi_flags = VMM_PCI_MSI_64 | VMM_PCI_MSI_MASKING;
    struct vmm_pci *pci = world_add(w, &o, 2, 0);
    uint32_t msi = capability(w, 2, 5);
    set_cfg(w, 2, 4, 2, 4);
    set_cfg(w, 2, msi + 2, 2, 0x51);
    set_cfg(w, 2, msi + 0x10, 4, 0xffffffff);
    assert_int_equal(vmm_pci_signal(pci, 31), 0);
    assert_int_equal(vmm_pci_signal(pci, 31), 0);
    assert_int_equal(cfg(w, 2, msi + 0x14, 4), 0x80000000);
    set_cfg(w, 2, msi + 0x14, 4, 0); /* read-only */
    assert_int_equal(cfg(w, 2, msi + 0x14, 4), 0x80000000);
    set_cfg(w, 2, msi + 0x10, 4, 0x7fffffff);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].data, 31);
    assert_int_equal(cfg(w, 2, msi + 0x14, 4), 0);
    /* Not a bus master: no message. */
    set_cfg(w, 2, 4, 2, 0);
    assert_int_equal(vmm_pci_signal(pci, 31), 0);
    set_cfg(w, 2, 4, 2, 4);
    assert_int_equal(w->sent_count, 2);
}

/* MSI-X ---------------------------------------------------------------------------------------- */

#define TABLE WINDOW

static struct vmm_pci *add_msix(struct world *w, uint32_t vectors)
{
    struct vmm_pci_options o = world_options(w, "dev");
    o.msix_vectors = vectors;
    o.msix_bar = 4;
    struct vmm_pci *pci = world_add(w, &o, 2, 0);
    set_cfg(w, 2, 0x20, 4, TABLE);
    set_cfg(w, 2, 4, 2, 6);
    return pci;
}

static void set_entry(struct world *w, uint32_t vector, uint64_t address, uint32_t data,
                      uint32_t control)
{
    vmm_bus_write(w->mmio, TABLE + 16 * vector, 8, address);
    vmm_bus_write(w->mmio, TABLE + 16 * vector + 8, 4, data);
    vmm_bus_write(w->mmio, TABLE + 16 * vector + 12, 4, control);
}

static void msix_layout(void **state)
{
    struct world *w = *state;
    static const struct {
        uint32_t vectors, pba, length;
    } sizes[] = {
        {1, 0x800, 0x1000}, {128, 0x800, 0x1000}, {129, 0x1000, 0x2000}, {2048, 0x8000, 0x10000}};
    for (size_t i = 0; i < 4; i++) {
        struct vmm_pci *pci = add_msix(w, sizes[i].vectors);
        uint32_t at = capability(w, 2, 0x11);
        assert_int_equal(cfg(w, 2, at + 2, 2), sizes[i].vectors - 1);
        assert_int_equal(cfg(w, 2, at + 4, 4), 4);
        assert_int_equal(cfg(w, 2, at + 8, 4), sizes[i].pba | 4);
        set_cfg(w, 2, 0x20, 4, 0xffffffff);
        assert_int_equal(cfg(w, 2, 0x20, 4), ~(sizes[i].length - 1));
        vmm_pci_host_remove(w->host, pci);
    }
}

static void msix_masks(void **state)
{
    struct world *w = *state;
    struct vmm_pci *pci = add_msix(w, 70);
    uint32_t at = capability(w, 2, 0x11);
    assert_int_equal(mmio(w, TABLE + 69 * 16 + 12, 4), 1); /* masked after reset */
    set_entry(w, 69, 0x1fee00008, 0x33, 0);
    assert_int_equal(vmm_pci_signal(pci, 69), 0);
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(mmio(w, TABLE + 0x808, 8), 0); /* not enabled: nothing is kept */
    set_cfg(w, 2, at + 2, 2, 0xc000);
    assert_int_equal(vmm_pci_interrupt_mode(pci), VMM_PCI_MSIX);
    assert_int_equal(vmm_pci_signal(pci, 69), 0);
    assert_int_equal(mmio(w, TABLE + 0x808, 8), 0x20);
    vmm_bus_write(w->mmio, TABLE + 0x808, 8, 0); /* read-only */
    set_cfg(w, 2, at + 2, 2, 0x8000);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].address, 0x1fee00008);
    assert_int_equal(w->sent[0].data, 0x33);
    assert_int_equal(mmio(w, TABLE + 0x808, 8), 0);
    set_entry(w, 69, 0x1fee00008, 0x33, 1);
    assert_int_equal(vmm_pci_signal(pci, 69), 0);
    assert_int_equal(vmm_pci_signal(pci, 69), 0);
    vmm_bus_write(w->mmio, TABLE + 69 * 16 + 8, 4, 0x34); /* the new message is sent */
    vmm_bus_write(w->mmio, TABLE + 69 * 16 + 12, 4, 0);
    assert_int_equal(w->sent_count, 2);
    assert_int_equal(w->sent[1].data, 0x34);
    assert_int_equal(vmm_pci_signal(pci, 69), 1);
    assert_int_equal(vmm_pci_signal(pci, 70), -EINVAL);
}

/* Each offset and width over table, pending bits and beyond: only whole dwords of entries change, and
 * in them only the bits that are there. */
static void msix_accesses_of_all_kinds(void **state)
{
    struct world *w = *state;
    add_msix(w, 3);
    for (uint32_t offset = 0; offset < 0x1000; offset++)
        for (uint32_t width = 1; width <= 8; width *= 2) {
            uint64_t before = mmio(w, TABLE + (offset & ~7u), 8);
            vmm_bus_write(w->mmio, TABLE + offset, width, UINT64_MAX);
            uint64_t after = mmio(w, TABLE + (offset & ~7u), 8);
            if (width < 4 || offset % width || offset >= 48)
                assert_int_equal(before, after);
        }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(mmio(w, TABLE + 16 * i, 8), 0xfffffffffffffffc);
        assert_int_equal(mmio(w, TABLE + 16 * i + 8, 8), 0x1ffffffff);
        assert_int_equal(mmio(w, TABLE + 16 * i + 14, 4), i == 2 ? 0 : 0xfffc0000);
    }
    assert_int_equal(mmio(w, TABLE + 48, 8), 0);
}

static void garbage_tables_are_sent_as_they_are(void **state)
{
    struct world *w = *state;
    struct vmm_pci *pci = add_msix(w, 2);
    set_cfg(w, 2, capability(w, 2, 0x11) + 2, 2, 0x8000);
    set_entry(w, 0, UINT64_MAX, UINT32_MAX, 0);
    assert_int_equal(vmm_pci_signal(pci, 0), 1);
    assert_int_equal(w->sent[0].address, UINT64_MAX - 3);
    set_entry(w, 1, 0, 0, 0);
    assert_int_equal(vmm_pci_signal(pci, 1), 1);
    vmm_device_reset(vmm_pci_device(pci));
    assert_int_equal(vmm_pci_signal(pci, 0), 0);
    assert_int_equal(w->sent_count, 2);
}

static void pending_is_saved(void **state)
{
    struct world *w = *state;
    struct vmm_pci *pci = add_msix(w, 2);
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    uint8_t *data;
    size_t length;
    set_cfg(w, 2, capability(w, 2, 0x11) + 2, 2, 0xc000);
    set_entry(w, 1, 0xfee00000, 0x55, 0);
    vmm_pci_signal(pci, 1);
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(pci), writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, (void **)&data, &length), 0);
    vmm_state_writer_free(writer);
    vmm_device_reset(vmm_pci_device(pci));
    assert_int_equal(vmm_state_reader_new(data, length, &reader, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_pci_device(pci), reader, NULL), 0);
    assert_int_equal(mmio(w, TABLE + 0x800, 4), 2);
    set_cfg(w, 2, capability(w, 2, 0x11) + 2, 2, 0x8000);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].data, 0x55);
    vmm_state_reader_free(reader);
    free(data);
}

static void eventfds_need_a_vm(void **state)
{
    struct world *w = *state;
    struct vmm_pci *pci = add_msix(w, 2);
    int fd;
    assert_int_equal(vmm_pci_vector_fd(pci, 0, &fd), -ENOTSUP);
    assert_int_equal(vmm_pci_vector_fd(pci, 2, &fd), -EINVAL);
    assert_int_equal(vmm_pci_vector_fd(pci, 0, NULL), -EINVAL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(pins_are_swizzled),
        TEST(lines_are_shared),
        TEST(drivers_switch_the_pin_off),
        TEST(msi_of_each_form),
        TEST(msi_masking),
        TEST(msix_layout),
        TEST(msix_masks),
        TEST(msix_accesses_of_all_kinds),
        TEST(garbage_tables_are_sent_as_they_are),
        TEST(pending_is_saved),
        TEST(eventfds_need_a_vm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
