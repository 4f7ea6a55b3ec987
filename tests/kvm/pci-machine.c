/* SPDX-License-Identifier: BSD-3-Clause */
/* The `micro` board with PCI: what is placed, a guest that finds it by ports, reset, save and load. */
#include "small_vm.h"

#include <libvmm/pci.h>
#include <libvmm/virtio.h>

#define SLOT1 (1u << 3)

/* mov eax, 0x80000800; mov dx, 0xcf8; out dx, eax; mov dx, 0xcfc; in eax, dx; out 0xf4, al; hlt */
static const uint8_t find_code[] = {0x66, 0xb8, 0x00, 0x08, 0x00, 0x80, 0xba, 0xf8, 0x0c, 0x66,
                                    0xef, 0xba, 0xfc, 0x0c, 0x66, 0xed, 0xe6, 0xf4, 0xf4};

static struct vmm_machine *make(uint32_t pci)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host;
    struct vmm_machine *m;
    struct vmm_virtio *rng;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_kernel_options k = VMM_KERNEL_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    o.memory_size = 16 << 20;
    o.kick_signal = (uint32_t)SIGUSR1;
    o.debug_exit = 1;
    o.pci = pci;
    k.kernel.data = find_code;
    k.kernel.data_length = sizeof(find_code);
    k.format = VMM_KERNEL_FLAT16;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    if (vmm_machine_new(host, &o, &m, &err))
        fail_msg("%s", err.text);
    place.name = "rng0";
    place.vm = vmm_machine_vm(m);
    place.memory = vmm_machine_memory(m);
    place.loop = vmm_machine_loop(m);
    assert_int_equal(vmm_virtio_rng_new(&place, &rng, &err), 0);
    assert_int_equal(vmm_machine_add_virtio(m, rng, &err), 0);
    vmm_virtio_unref(rng);
    assert_int_equal(vmm_machine_set_kernel(m, &k, &err), 0);
    if (vmm_machine_realize(m, &err))
        fail_msg("%s", err.text);
    vmm_host_unref(host);
    return m;
}

static uint32_t cfg(struct vmm_machine *m, uint32_t offset, uint32_t width)
{
    uint32_t value = 0;
    assert_int_equal(vmm_pci_host_config_read(vmm_machine_pci(m), SLOT1, offset, width, &value), 0);
    return value;
}

static void set_cfg(struct vmm_machine *m, uint32_t offset, uint32_t width, uint32_t value)
{
    assert_int_equal(vmm_pci_host_config_write(vmm_machine_pci(m), SLOT1, offset, width, value), 0);
}

static void run(struct vmm_machine *m)
{
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_machine_start(m, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
    assert_int_equal(outcome.reason, VMM_END_DEBUG_EXIT);
    assert_int_equal(outcome.status, 0xf4 * 2 + 1); /* the low byte of 0x1af4 */
}

static void a_guest_finds_it(void **state)
{
    (void)state;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine *m = make(VMM_MACHINE_PCI_MODERN);
    uint64_t value;
    assert_int_equal(cfg(m, 4, 2), 2); /* placed, and decoding */
    uint32_t bar = cfg(m, 0x20, 4) & ~15u;
    assert_in_range(bar, 0xc0000000, 0xcfffffff);
    assert_int_equal(vmm_bus_read(vmm_machine_mmio(m), bar + 0x12, 2, &value), 0);
    assert_int_equal(value, 1); /* its queue */
    run(m);
    set_cfg(m, 0x20, 4, 0xc8000000);
    assert_int_equal(vmm_machine_reset(m, &err), 0);
    assert_int_equal(cfg(m, 0x20, 4) & ~15u, bar);
    run(m);
    vmm_machine_unref(m);
}

static void transitional(void **state)
{
    (void)state;
    struct vmm_machine *m = make(VMM_MACHINE_PCI_TRANSITIONAL);
    uint64_t value;
    assert_int_equal(cfg(m, 2, 2), 0x1005);
    assert_int_equal(cfg(m, 4, 2), 3);
    assert_int_equal(vmm_bus_read(vmm_machine_ports(m), (cfg(m, 0x10, 4) & ~3u) + 0xc, 2, &value),
                     0);
    assert_int_equal(value, 256); /* the size of its queue */
    vmm_machine_unref(m);
}

static void save_and_load(void **state)
{
    (void)state;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine *m = make(VMM_MACHINE_PCI_MODERN), *other = make(VMM_MACHINE_PCI_MODERN);
    uint64_t value;
    void *blob;
    size_t length;
    set_cfg(m, 0x20, 4, 0xc8000000);
    vmm_bus_write(vmm_machine_ports(m), 0xcf8, 4, 0x80001234);
    if (vmm_machine_save(m, &blob, &length, &err))
        fail_msg("%s", err.text);
    if (vmm_machine_load(other, blob, length, &err))
        fail_msg("%s", err.text);
    assert_int_equal(cfg(other, 0x20, 4), 0xc8000004);
    assert_int_equal(vmm_bus_read(vmm_machine_mmio(other), 0xc8000012, 2, &value), 0);
    vmm_bus_read(vmm_machine_ports(other), 0xcf8, 4, &value);
    assert_int_equal(value, 0x80001234);
    free(blob);
    vmm_machine_unref(m);
    vmm_machine_unref(other);
}

/* A function that comes and goes, with the machine knowing of it. */
static void devices_come_and_go(void **state)
{
    (void)state;
    struct vmm_machine *m = make(VMM_MACHINE_PCI_MODERN);
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_pci *pci;
    o.name = "card";
    o.bars[0].length = 0x1000;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vmm_pci_new(&o, &pci, NULL), 0);
        assert_int_equal(vmm_machine_remove_device(m, vmm_pci_device(pci)), -ENOENT);
        assert_int_equal(vmm_pci_host_add(vmm_machine_pci(m), pci, 9, 0, NULL), 0);
        assert_int_equal(vmm_machine_add_device(m, vmm_pci_device(pci)), 0);
        assert_int_equal(vmm_machine_reset(m, &err), 0);
        assert_int_equal(vmm_pci_config(pci)[4], 2); /* placed with the others */
        assert_int_equal(vmm_pci_host_remove(vmm_machine_pci(m), pci), 0);
        assert_int_equal(vmm_machine_remove_device(m, vmm_pci_device(pci)), 0);
        vmm_pci_unref(pci);
    }
    assert_int_equal(vmm_machine_reset(m, &err), 0);
    vmm_machine_unref(m);
}

static void nothing_is_left(void **state)
{
    (void)state;
    vmm_machine_unref(make(1));
    int fds = proc_entries("/proc/self/fd");
    int mappings = count_lines("/proc/self/maps");
    for (int i = 0; i < 20; i++)
        vmm_machine_unref(make(1 + i % 2u));
    assert_int_equal(proc_entries("/proc/self/fd"), fds);
    assert_in_range(count_lines("/proc/self/maps"), 1, mappings + 3); /* malloc's own may vary */
}

static void without_it(void **state)
{
    (void)state;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_machine *m = make(VMM_MACHINE_PCI_NONE), *none;
    struct vmm_host *host;
    assert_null(vmm_machine_pci(m));
    vmm_machine_unref(m);
    o.pci = VMM_MACHINE_PCI_TRANSITIONAL + 1;
    assert_int_equal(vmm_host_open(NULL, &host, NULL), 0);
    assert_int_equal(vmm_machine_new(host, &o, &none, NULL), -EINVAL);
    vmm_host_unref(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_finds_it), cmocka_unit_test(transitional),
        cmocka_unit_test(save_and_load),    cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(without_it),       cmocka_unit_test(devices_come_and_go),
    };
    need_kvm();
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
