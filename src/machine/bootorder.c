/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What firmware boots first: the file "bootorder" of its configuration, a line a device, each a path as Open
 * Firmware has them (IEEE 1275; QEMU's docs/bootindex.txt). SeaBIOS and OVMF look for these forms.
 */
#include "base/util.h"
#include "devices/pci/internal.h"
#include "machine/internal.h"

#include <libvmm/fwcfg.h>

#include <stdarg.h>
#include <stdio.h>

#define PATH_SIZE    160u
#define DEVICES_MAX  64u
#define BUSES_MAX    8u /* bridges above each other */
#define VIRTIO       0x1af4u
#define VIRTIO_SCSI  0x1048u
#define VIRTIO_SCSI0 0x1004u /* transitional */

#define CLASS_SCSI     0x0100u
#define CLASS_IDE      0x0101u
#define CLASS_AHCI     0x0106u
#define CLASS_NVME     0x0108u
#define CLASS_ETHERNET 0x0200u

static int append(char *path, const char *format, ...) VMM_PRINTF(2, 3);

static int append(char *path, const char *format, ...)
{
    size_t used = strlen(path);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path + used, PATH_SIZE - used, format, args);
    va_end(args);
    return n < 0 || (size_t)n >= PATH_SIZE - used ? -ENOSPC : 0;
}

static int append_node(char *path, const char *name, const struct vmm_pci *pci)
{
    uint32_t slot = pci->address >> 3 & 31, function = pci->address & 7;
    return function ? append(path, "/%s@%x,%x", name, slot, function)
                    : append(path, "/%s@%x", name, slot);
}

/* The bridges above, from the host's on. */
static int append_bridges(char *path, const struct vmm_pci *pci)
{
    const struct vmm_pci *bridges[BUSES_MAX];
    uint32_t count = 0;
    int rc = append(path, "/pci@i0cf8");
    for (pci = pci->bus->bridge; pci && count < BUSES_MAX; pci = pci->bus->bridge)
        bridges[count++] = pci;
    while (count && !rc)
        rc = append_node(path, "pci-bridge", bridges[--count]);
    return rc;
}

static int append_scsi(char *path, const struct vmm_pci *pci, const struct vmm_boot_device *d)
{
    uint16_t vendor = vmm_load_le16(pci->config + PCI_VENDOR_ID);
    uint16_t device = vmm_load_le16(pci->config + PCI_DEVICE_ID);
    int rc = append_node(path, "scsi", pci);
    if (rc)
        return rc;
    if (vendor == VIRTIO && (device == VIRTIO_SCSI || device == VIRTIO_SCSI0))
        return append(path, "/channel@0/disk@%x,%x", d->unit, d->lun);
    return append(path, "/disk@0,0");
}

/* The names of AHCI and NVMe are what OVMF compares with. */
static int append_device(char *path, const struct vmm_pci *pci, const struct vmm_boot_device *d)
{
    int rc;
    switch (vmm_load_le16(pci->config + PCI_REVISION + 2)) {
    case CLASS_SCSI:
        return append_scsi(path, pci, d);
    case CLASS_IDE:
        rc = append_node(path, "ide", pci);
        return rc ? rc : append(path, "/drive@%x/disk@%x", d->unit / 2, d->unit % 2);
    case CLASS_AHCI:
        rc = append_node(path, "pci8086,2922", pci);
        return rc ? rc : append(path, "/drive@%x/disk@0", d->unit);
    case CLASS_NVME:
        rc = append_node(path, "pci8086,5845", pci);
        return rc ? rc : append(path, "/namespace@%x,0", d->unit ? d->unit : 1);
    case CLASS_ETHERNET:
        rc = append_node(path, "ethernet", pci);
        return rc ? rc : append(path, "/ethernet-phy@0");
    default:
        return -ENOTSUP;
    }
}

static int path_of(const struct vmm_boot_device *d, char *path)
{
    uint32_t address;
    int rc = d->pci ? vmm_pci_address(d->pci, &address) : -EINVAL;
    if (rc)
        return rc;
    path[0] = '\0';
    rc = append_bridges(path, d->pci);
    return rc ? rc : append_device(path, d->pci, d);
}

int vmm_machine_set_boot_order(struct vmm_machine *m, const struct vmm_boot_device *devices,
                               size_t count, struct vmm_error *err)
{
    char text[DEVICES_MAX * PATH_SIZE] = "";
    size_t used = 0;
    if (!m->fwcfg)
        return vmm_error_set(err, -ENOTSUP, "the board \"%s\" has no firmware that boots",
                             m->board->name);
    if (count > DEVICES_MAX || (count && !devices))
        return vmm_error_set(err, -EINVAL, "boot order: up to %u devices", DEVICES_MAX);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_SIZE];
        int rc = path_of(&devices[i], path);
        if (rc)
            return vmm_error_set(err, rc, "boot order: device %zu %s", i,
                                 rc == -ENOENT    ? "is on no bus"
                                 : rc == -ENOTSUP ? "is nothing to boot from"
                                                  : "cannot be named");
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? "\n" : "", path);
    }
    return vmm_fwcfg_set_file(m->fwcfg, "bootorder", text, used + 1, err);
}

struct vmm_fwcfg *vmm_machine_fwcfg(const struct vmm_machine *m)
{
    return m->fwcfg;
}

struct vmm_i8042 *vmm_machine_i8042(const struct vmm_machine *m)
{
    return m->i8042;
}
