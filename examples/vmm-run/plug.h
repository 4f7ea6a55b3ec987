/* SPDX-License-Identifier: BSD-3-Clause */
/* --plug-slots: PCI Express slots, into which disks and network cards are plugged while the guest runs. */
#ifndef VMM_RUN_PLUG_H
#define VMM_RUN_PLUG_H

#include "disks.h"

#include <libvmm/pci.h>

struct plug;

struct plug_slot {
    struct plug *plug;
    struct vmm_pci_bridge *port;
    struct vmm_virtio *virtio; /* NULL: the slot is empty */
    struct vmm_block *block;   /* a disk's */
    char *text;                /* what was asked for; options point into it */
    const char *kind;          /* "disk" or "net" */
    uint64_t free_at;          /* when the guest is ready for the next one */
};

struct plug {
    struct vmm_machine *machine;
    struct disks *disks;
    uint32_t count;
    struct plug_slot slots[PLUG_SLOTS_MAX];
};

/* Make `count` root ports, each with a slot. Before the machine is realized. */
int plug_init(struct plug *plug, uint32_t count, struct disks *disks, struct vmm_machine *machine,
              struct vmm_error *err);
/* "SLOT disk FILE,format=…" or "SLOT net user,…", as the options of the same names. */
int plug_insert(struct plug *plug, const char *argument, struct vmm_error *err);
/* "disk", "net", "leaving" or "none". */
const char *plug_state(const struct plug_slot *slot);
/* "SLOT [force]": ask the guest to let go of it; by force it is not asked. */
int plug_remove(struct plug *plug, const char *argument);
/* Before the machine goes. */
void plug_forget(struct plug *plug);

#endif
