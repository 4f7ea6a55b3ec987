/* SPDX-License-Identifier: BSD-3-Clause */
/* The PCI host bridge of the `micro` board, and its description in ACPI. */
#include "base/util.h"
#include "machine/osc.h"
#include "machine/x86/micro.h"

#include <libvmm/pci.h>
#include <libvmm/virtio.h>

/* Above all RAM, and low enough for processors with few address bits. */
static uint64_t high_window(const struct vmm_machine *m)
{
    uint64_t size = m->options.memory_size;
    uint64_t high = size > MICRO_LOW_MEMORY_END ? size - MICRO_LOW_MEMORY_END : 0;
    uint64_t end = MICRO_HIGH_MEMORY + high;
    if (m->memplug)
        end = m->plug_base + vmm_machine_plug_room(m);
    return vmm_align_up(end, MICRO_PCI_HIGH_ALIGN);
}

static int make_lines(struct vmm_machine *m, struct vmm_pci_host_options *o)
{
    int rc = 0;
    for (uint32_t i = 0; i < 4 && !rc; i++) {
        o->intx_numbers[i] = (uint8_t)(MICRO_PCI_GSI + i);
        rc = vmm_irq_line_new(m->vm, MICRO_PCI_GSI + i, &o->intx[i]);
    }
    return rc;
}

int vmm_micro_add_pci(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    o.name = "pci";
    o.vm = m->vm;
    o.memory = m->memory;
    o.mmio = m->mmio;
    o.ports = m->ports;
    o.ecam_address = MICRO_ECAM;
    o.buses = MICRO_ECAM_BUSES;
    o.config_port = MICRO_PCI_CONFIG_PORT;
    o.port_window = (struct vmm_pci_window){MICRO_PCI_PORTS, MICRO_PCI_PORTS_LENGTH};
    o.window = (struct vmm_pci_window){MICRO_PCI_WINDOW, MICRO_PCI_WINDOW_LENGTH};
    o.high_window = (struct vmm_pci_window){high_window(m), MICRO_PCI_HIGH_LENGTH};
    int rc = make_lines(m, &o);
    if (rc)
        (void)vmm_error_set(err, rc, "PCI interrupt lines: %s", strerror(-rc));
    else
        rc = vmm_pci_host_new(&o, &m->pci, err);
    for (uint32_t i = 0; rc && i < 4; i++)
        vmm_irq_line_free(o.intx[i]);
    if (rc)
        return rc;
    rc = vmm_machine_add_device(m, vmm_pci_host_device(m->pci));
    return rc ? vmm_error_set(err, rc, "PCI host bridge: %s", strerror(-rc)) : 0;
}

/* Transitional where that was asked for and there is such a device; what came later is modern. */
int vmm_micro_add_virtio_pci(struct vmm_machine *m, struct vmm_virtio *virtio,
                             struct vmm_error *err)
{
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    o.transitional = m->options.pci == VMM_MACHINE_PCI_TRANSITIONAL;
    int rc = vmm_virtio_pci_attach(virtio, m->pci, &o, err);
    if (rc != -ENOTSUP || !o.transitional)
        return rc;
    o.transitional = 0;
    return vmm_virtio_pci_attach(virtio, m->pci, &o, err);
}

/* ACPI ----------------------------------------------------------------------------------------- */

/* What the bridge forwards, and the ports of configuration mechanism 1, which it takes itself. */
static void add_windows(struct vmm_aml *a, const struct vmm_machine *m)
{
    uint64_t high = high_window(m);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_BUSES, 16, 0, MICRO_ECAM_BUSES - 1, false);
    vmm_aml_io(a, MICRO_PCI_CONFIG_PORT, 8);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, MICRO_PCI_PORTS,
                   MICRO_PCI_PORTS + MICRO_PCI_PORTS_LENGTH - 1, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, MICRO_PCI_WINDOW,
                   MICRO_PCI_WINDOW + MICRO_PCI_WINDOW_LENGTH - 1, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, high, high + MICRO_PCI_HIGH_LENGTH - 1, true);
    vmm_aml_end(a);
}

/* ACPI 6.5, 6.2.13: each device's pins, swizzled, straight to the I/O APIC. */
static void add_routing(struct vmm_aml *a)
{
    vmm_aml_name(a, "_PRT");
    vmm_aml_package_begin(a, 32 * 4);
    for (uint32_t slot = 0; slot < 32; slot++)
        for (uint32_t pin = 0; pin < 4; pin++) {
            vmm_aml_package_begin(a, 4);
            vmm_aml_int(a, slot << 16 | 0xffffu);
            vmm_aml_int(a, pin);
            vmm_aml_int(a, 0);
            vmm_aml_int(a, MICRO_PCI_GSI + (slot + pin) % 4);
            vmm_aml_end(a);
        }
    vmm_aml_end(a);
}

/* The motherboard's own, so that nothing else is put over configuration space. */
static void reserve_ecam(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "ECAM");
    vmm_aml_name_eisaid(a, "_HID", "PNP0C02");
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_memory32(a, (uint32_t)MICRO_ECAM, (uint32_t)MICRO_ECAM_LENGTH, true);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

void vmm_micro_describe_pci(struct vmm_aml *a, const struct vmm_machine *m)
{
    vmm_aml_device_begin(a, "PCI0");
    vmm_aml_name_eisaid(a, "_HID", "PNP0A08");
    vmm_aml_name_eisaid(a, "_CID", "PNP0A03");
    vmm_aml_name_int(a, "_UID", 0);
    vmm_aml_name_int(a, "_SEG", 0);
    vmm_aml_name_int(a, "_BBN", 0);
    vmm_aml_name_int(a, "_CCA", 1);
    add_windows(a, m);
    add_routing(a);
    vmm_machine_add_osc(a);
    vmm_aml_end(a);
    reserve_ecam(a);
}
