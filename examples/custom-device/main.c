/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * custom-device: boot Linux on a machine with a PCI device of one's own (inverter.c).
 *
 *   custom-device KERNEL INITRD [COMMAND-LINE]
 *
 * One inverter is there from the start. Another can be plugged while the guest runs: Ctrl-A p puts it into
 * a slot behind a root port, Ctrl-A u asks the guest to give it back. The serial port is on the terminal;
 * Ctrl-A x leaves. Build it with
 *   cc main.c inverter.c $(pkg-config --cflags --libs libvmm)
 */
#include "inverter.h"

#include <libvmm/vmm.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct launcher {
    struct vmm_host *host;
    struct vmm_loop *loop;
    struct vmm_chardev *serial;
    struct vmm_machine *machine;
    struct vmm_pci_bridge *port;
};

static int plug(struct launcher *l, struct vmm_error *err)
{
    struct vmm_pci *pci;
    int rc = inverter_new("inverter-hot", &pci, err);
    if (rc)
        return rc;
    rc = vmm_pci_bridge_add(l->port, pci, 0, 0, err);
    if (!rc) /* for reset, save and load */
        rc = vmm_machine_add_device(l->machine, vmm_pci_device(pci));
    vmm_pci_unref(pci); /* the bridge holds it now */
    return rc;
}

static void unplugged(void *ctx, struct vmm_pci *pci)
{
    struct launcher *l = ctx;
    struct vmm_device *device = vmm_pci_device(pci);
    fprintf(stderr, "\r\ncustom-device: %s is unplugged\r\n", vmm_device_name(device));
    (void)vmm_machine_remove_device(l->machine, device);
}

static void escape_key(void *ctx, uint8_t key)
{
    struct launcher *l = ctx;
    struct vmm_error err = VMM_ERROR_INIT;
    if (key == 'x' && l->machine)
        vmm_machine_stop(l->machine);
    if (key == 'p' && plug(l, &err))
        fprintf(stderr, "\r\ncustom-device: %s\r\n", err.text);
    if (key == 'u' && vmm_pci_bridge_eject(l->port))
        fprintf(stderr, "\r\ncustom-device: the slot is empty\r\n");
}

static void guest_error(void *ctx, const char *device, const char *text)
{
    (void)ctx;
    fprintf(stderr, "custom-device: the guest misused %s: %s\n", device, text);
}

static int add_random(struct launcher *l, struct vmm_error *err)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *rng;
    place.name = "rng0";
    place.vm = vmm_machine_vm(l->machine);
    place.memory = vmm_machine_memory(l->machine);
    place.loop = l->loop;
    int rc = vmm_virtio_rng_new(&place, &rng, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_virtio(l->machine, rng, err);
    vmm_virtio_unref(rng);
    return rc;
}

/* What the bridge holds takes part in reset, save and load when the machine knows of it. */
static int add_inverter(struct launcher *l, struct vmm_error *err)
{
    struct vmm_pci *pci;
    int rc = inverter_new("inverter", &pci, err);
    if (rc)
        return rc;
    rc = vmm_pci_host_add(vmm_machine_pci(l->machine), pci, VMM_PCI_ANY_SLOT, 0, err);
    rc = rc ? rc : vmm_machine_add_device(l->machine, vmm_pci_device(pci));
    vmm_pci_unref(pci);
    return rc;
}

static int add_port(struct launcher *l, struct vmm_error *err)
{
    struct vmm_pci_bridge_options o = VMM_PCI_BRIDGE_OPTIONS_INIT;
    o.name = "port";
    o.express = 1;
    o.slot_number = 1;
    o.loop = l->loop;
    o.unplugged = unplugged;
    o.ctx = l;
    int rc = vmm_pci_bridge_new(vmm_machine_pci(l->machine), &o, &l->port, err);
    if (rc)
        return rc;
    return vmm_machine_add_device(l->machine, vmm_pci_device(vmm_pci_bridge_function(l->port)));
}

static int set_up(struct launcher *l, char **argv, struct vmm_error *err)
{
    struct vmm_machine_options m = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_kernel_options k = VMM_KERNEL_OPTIONS_INIT;
    int rc = vmm_host_open(NULL, &l->host, err);
    rc = rc ? rc : vmm_loop_new(NULL, &l->loop);
    rc = rc ? rc : vmm_kick_signal_install(SIGRTMIN);
    rc = rc ? rc : vmm_chardev_new_stdio(l->loop, 1, escape_key, l, &l->serial, err);
    if (rc)
        return rc;
    m.kick_signal = (uint32_t)SIGRTMIN;
    m.on_reset = VMM_ON_RESET_END;
    m.loop = l->loop;
    m.serial[0] = l->serial;
    m.guest_error = guest_error;
    m.pci = 1;
    rc = vmm_machine_new(l->host, &m, &l->machine, err);
    rc = rc ? rc : add_random(l, err);
    rc = rc ? rc : add_inverter(l, err);
    rc = rc ? rc : add_port(l, err);
    k.kernel.path = argv[1];
    k.initrd.path = argv[2];
    k.command_line = argv[3] ? argv[3] : "console=ttyS0";
    return rc ? rc : vmm_machine_set_kernel(l->machine, &k, err);
}

int main(int argc, char **argv)
{
    struct launcher l = {0};
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    if (argc < 3 || argc > 4) {
        fputs("usage: custom-device KERNEL INITRD [COMMAND-LINE]\n", stderr);
        return 2;
    }
    int rc = set_up(&l, argv, &err);
    rc = rc ? rc : vmm_machine_start(l.machine, &err);
    rc = rc ? rc : vmm_machine_wait(l.machine, -1, &outcome);
    if (rc)
        fprintf(stderr, "custom-device: %s\n", err.text[0] ? err.text : strerror(-rc));
    else
        fprintf(stderr, "custom-device: %s\n%s", vmm_end_name(outcome.reason),
                outcome.text ? outcome.text : "");
    vmm_pci_bridge_unref(l.port);
    vmm_machine_unref(l.machine);
    vmm_chardev_unref(l.serial);
    vmm_loop_unref(l.loop);
    vmm_host_unref(l.host);
    return rc || outcome.reason != VMM_END_POWER_OFF;
}
