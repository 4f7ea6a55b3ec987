/* SPDX-License-Identifier: BSD-3-Clause */
/* --plug-slots: each is a root port of PCI Express with a slot that the guest's own driver looks after. */
#include "plug.h"
#include "devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Linux overlooks what comes in the second after it has switched a slot off. */
#define SETTLE_NS 2000000000ull

/* Nothing of the guest's reaches the device any more. */
static void empty(struct plug_slot *s)
{
    (void)vmm_machine_remove_device(s->plug->machine, vmm_virtio_device(s->virtio));
    vmm_virtio_unref(s->virtio);
    if (s->block)
        disks_close(s->plug->disks, s->block);
    free(s->text);
    s->virtio = NULL;
    s->block = NULL;
    s->text = NULL;
}

/* The guest has switched the slot off. */
static void unplugged(void *ctx, struct vmm_pci *pci)
{
    struct plug_slot *s = ctx;
    if (!s->virtio || vmm_virtio_pci(s->virtio) != pci)
        return;
    empty(s);
    s->free_at = vmm_loop_now(vmm_machine_loop(s->plug->machine)) + SETTLE_NS;
}

const char *plug_state(const struct plug_slot *s)
{
    bool settled = vmm_loop_now(vmm_machine_loop(s->plug->machine)) >= s->free_at;
    return s->virtio ? s->kind : settled ? "none" : "leaving";
}

static int add_port(struct plug *plug, struct plug_slot *s, struct vmm_error *err)
{
    char name[16];
    struct vmm_pci_bridge_options o = VMM_PCI_BRIDGE_OPTIONS_INIT;
    uint32_t number = (uint32_t)(s - plug->slots);
    s->plug = plug;
    (void)snprintf(name, sizeof(name), "port%u", number);
    o.name = name;
    o.express = 1;
    o.slot_number = number;
    o.loop = vmm_machine_loop(plug->machine);
    o.unplugged = unplugged;
    o.ctx = s;
    int rc = vmm_pci_bridge_new(vmm_machine_pci(plug->machine), &o, &s->port, err);
    if (rc)
        return rc;
    plug->count++;
    rc = vmm_machine_add_device(plug->machine, vmm_pci_device(vmm_pci_bridge_function(s->port)));
    return rc ? vmm_error_set(err, rc, "%s: %s", name, strerror(-rc)) : 0;
}

int plug_init(struct plug *plug, uint32_t count, struct disks *disks, struct vmm_machine *machine,
              struct vmm_error *err)
{
    int rc = 0;
    *plug = (struct plug){.machine = machine, .disks = disks};
    if (count && !vmm_machine_pci(machine))
        return vmm_error_set(err, -EINVAL, "--plug-slots needs --transport pci");
    for (uint32_t i = 0; i < count && !rc; i++)
        rc = add_port(plug, &plug->slots[i], err);
    return rc;
}

static int make_disk(struct plug_slot *s, const char *name, char *text, struct vmm_error *err)
{
    struct disk_option d = {0};
    if (options_parse_disk(&d, text) >= 0 || d.bus != DISK_ON_VIRTIO)
        return vmm_error_set(err, -EINVAL, "FILE,format=raw|qcow2|nbd[,KEY=VALUE]..., if=virtio");
    int rc = disks_open(s->plug->disks, vmm_machine_loop(s->plug->machine), &d, &s->block, err);
    if (rc)
        return rc;
    rc = devices_make_disk(s->plug->machine, name, &d, s->block, &s->virtio, err);
    if (rc)
        disks_close(s->plug->disks, s->block);
    return rc;
}

static int make_net(struct plug_slot *s, const char *name, char *text, struct vmm_error *err)
{
    struct net_options nets = {0};
    const char *wrong = net_parse(&nets, text);
    if (wrong)
        return vmm_error_set(err, -EINVAL, "%s", wrong);
    return net_make(&nets.net[0], name, vmm_machine_loop(s->plug->machine), s->plug->machine,
                    &s->virtio, err);
}

static int insert(struct plug_slot *s, const char *kind, char *text, struct vmm_error *err)
{
    char name[16];
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    bool disk = strcmp(kind, "disk") == 0;
    (void)snprintf(name, sizeof(name), "slot%u", (uint32_t)(s - s->plug->slots));
    s->block = NULL;
    int rc = disk ? make_disk(s, name, text, err) : make_net(s, name, text, err);
    if (rc)
        return rc;
    s->text = text;
    s->kind = disk ? "disk" : "net";
    o.bridge = s->port;
    rc = vmm_machine_add_device(s->plug->machine, vmm_virtio_device(s->virtio));
    if (!rc)
        rc = vmm_virtio_pci_attach(s->virtio, vmm_machine_pci(s->plug->machine), &o, err);
    if (rc) {
        s->text = NULL; /* the caller's again */
        empty(s);
    }
    return rc;
}

static struct plug_slot *slot_of(struct plug *plug, const char *text, char **end)
{
    unsigned long number = strtoul(text, end, 10);
    return *end != text && number < plug->count ? &plug->slots[number] : NULL;
}

int plug_insert(struct plug *plug, const char *argument, struct vmm_error *err)
{
    char *end;
    struct plug_slot *s = slot_of(plug, argument, &end);
    const char *kind = strncmp(end, " disk ", 6) == 0  ? "disk"
                       : strncmp(end, " net ", 5) == 0 ? "net"
                                                       : NULL;
    if (!s)
        return vmm_error_set(err, -ENOENT, "there are %u slots, from 0 on: see --plug-slots",
                             plug->count);
    if (!kind)
        return vmm_error_set(err, -EINVAL, "SLOT disk FILE,... or SLOT net KIND,...");
    if (s->virtio)
        return vmm_error_set(err, -EBUSY, "the slot is taken");
    if (strcmp(plug_state(s), "none") != 0)
        return vmm_error_set(err, -EAGAIN, "the guest has just let go of the slot: in two seconds");
    char *text = strdup(strchr(end + 1, ' ') + 1);
    if (!text)
        return -ENOMEM;
    int rc = insert(s, kind, text, err);
    if (rc)
        free(text);
    return rc;
}

int plug_remove(struct plug *plug, const char *argument)
{
    char *end;
    struct plug_slot *s = slot_of(plug, argument, &end);
    bool force = strcmp(end, " force") == 0;
    if (*end && !force)
        return -EINVAL;
    if (!s)
        return -ENOENT;
    if (!s->virtio)
        return -ENODEV;
    if (!force)
        return vmm_pci_bridge_eject(s->port);
    int rc = vmm_pci_host_remove(vmm_machine_pci(plug->machine), vmm_virtio_pci(s->virtio));
    if (!rc)
        empty(s);
    return rc;
}

void plug_forget(struct plug *plug)
{
    for (uint32_t i = 0; i < plug->count; i++) {
        struct plug_slot *s = &plug->slots[i];
        if (s->virtio) {
            (void)vmm_pci_host_remove(vmm_machine_pci(plug->machine), vmm_virtio_pci(s->virtio));
            empty(s);
        }
        vmm_pci_bridge_unref(s->port);
    }
    plug->count = 0;
}
