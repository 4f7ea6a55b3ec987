/* SPDX-License-Identifier: BSD-3-Clause */
/* Saving and loading AHCI. A saved controller has nothing under way: what was begun has ended. */
#include "base/util.h"
#include "devices/storage/ahci.h"

#include <stdio.h>

/* Registers of a port, in the order of the saved array. */
#define REGISTERS 11u

static void get_registers(const struct ahci_port *p, uint32_t *r)
{
    const uint32_t all[REGISTERS] = {p->is,   p->ie,   p->cmd,  p->tfd, p->sig, p->ssts,
                                     p->sctl, p->serr, p->sact, p->ci,  p->last};
    memcpy(r, all, sizeof(all));
}

/* Ends are delivered with the lock free, as the loop does it. */
static void settle(struct vmm_ahci *hba)
{
    struct vmm_device *device = vmm_pci_device(hba->pci);
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        while (hba->ports[i].begun && hba->ports[i].drive.block) {
            vmm_device_unlock(device);
            vmm_block_drain(hba->ports[i].drive.block);
            vmm_device_lock(device);
        }
}

static int save_port(const struct ahci_port *p, struct vmm_state_writer *w)
{
    char name[16];
    uint32_t registers[REGISTERS];
    uint8_t bytes[4 * REGISTERS];
    get_registers(p, registers);
    for (uint32_t i = 0; i < REGISTERS; i++)
        vmm_store_le32(bytes + (size_t)4 * i, registers[i]);
    (void)snprintf(name, sizeof(name), "port%u", p->number);
    (void)vmm_state_begin(w, name, 1);
    (void)vmm_state_put_bytes(w, "registers", bytes, sizeof(bytes));
    (void)vmm_state_put_u64(w, "command-list", p->clb);
    (void)vmm_state_put_u64(w, "received-fis", p->fb);
    (void)vmm_state_put_u32(w, "flags", (p->halted ? 1u : 0) | (p->resetting ? 2u : 0));
    (void)vmm_ata_save(&p->drive, w);
    return vmm_state_end(w);
}

int vmm_ahci_save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_ahci *hba = ctx;
    settle(hba);
    (void)vmm_state_put_u32(w, "ghc", hba->ghc);
    int rc = vmm_state_put_u32(w, "is", hba->is);
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        rc = save_port(&hba->ports[i], w);
    return rc; /* errors stick */
}

struct port_state {
    uint32_t r[REGISTERS], flags;
    uint64_t clb, fb;
    struct vmm_ata drive;
};

static int check_port(const struct port_state *s, struct vmm_error *err)
{
    const uint32_t cmd =
        CMD_ST | CMD_SUD | CMD_POD | CMD_FRE | CMD_FR | CMD_CR | CMD_HPCP | CMD_ATAPI | CMD_DLAE;
    if (s->clb & 0x3ff || s->fb & 0xff || s->r[2] & ~cmd || s->r[10] >= AHCI_SLOTS ||
        s->r[0] & ~IS_ALL || s->r[1] & ~IS_ALL)
        return vmm_error_set(err, -EINVAL, "a saved port has bits that it cannot have");
    return 0;
}

static int load_port(const struct ahci_port *p, struct vmm_state_reader *r, struct port_state *s,
                     struct vmm_error *err)
{
    char name[16];
    uint8_t bytes[4 * REGISTERS];
    (void)snprintf(name, sizeof(name), "port%u", p->number);
    int rc = vmm_state_enter(r, name, 1, NULL, err);
    if (rc)
        return rc;
    rc = vmm_state_get_bytes(r, "registers", bytes, sizeof(bytes), err);
    if (!rc)
        rc = vmm_state_get_u64(r, "command-list", UINT64_MAX, &s->clb, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "received-fis", UINT64_MAX, &s->fb, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "flags", 3, &s->flags, err);
    s->drive = p->drive;
    if (!rc)
        rc = vmm_ata_load(&s->drive, r, err);
    for (uint32_t i = 0; i < REGISTERS && !rc; i++)
        s->r[i] = vmm_load_le32(bytes + (size_t)4 * i);
    if (!rc)
        rc = check_port(s, err);
    int left = vmm_state_leave(r);
    return rc ? rc : left;
}

static void take_port(struct ahci_port *p, const struct port_state *s)
{
    vmm_ahci_port_abandon(p);
    p->is = s->r[0];
    p->ie = s->r[1];
    p->cmd = s->r[2];
    p->tfd = s->r[3];
    p->sig = s->r[4];
    p->ssts = s->r[5];
    p->sctl = s->r[6];
    p->serr = s->r[7];
    p->sact = s->r[8];
    p->ci = s->r[9];
    p->last = s->r[10];
    p->clb = s->clb;
    p->fb = s->fb;
    p->halted = s->flags & 1;
    p->resetting = s->flags & 2;
    p->drive = s->drive;
}

int vmm_ahci_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_ahci *hba = ctx;
    struct port_state s[VMM_AHCI_PORTS];
    uint32_t ghc, is;
    (void)version;
    int rc = vmm_state_get_u32(r, "ghc", UINT32_MAX, &ghc, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "is", (1u << VMM_AHCI_PORTS) - 1, &is, err);
    for (uint32_t i = 0; i < VMM_AHCI_PORTS && !rc; i++)
        rc = load_port(&hba->ports[i], r, &s[i], err);
    if (!rc && (ghc & ~2u) != 0x80000000u)
        rc = vmm_error_set(err, -EINVAL, "the saved ghc has bits that it cannot have");
    if (rc)
        return rc;
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        take_port(&hba->ports[i], &s[i]);
    hba->ghc = ghc;
    hba->is = is;
    vmm_pci_set_intx(hba->pci, is && ghc & 2);
    vmm_ahci_kick(hba); /* what was issued and not begun */
    return 0;
}
