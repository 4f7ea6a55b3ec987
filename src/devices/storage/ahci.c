/* SPDX-License-Identifier: BSD-3-Clause */
/* AHCI: registers, ports and drives. Work is done on the loop's thread, where block backends live. */
#include "devices/storage/ahci.h"

#include "base/util.h"

#include <stdlib.h>

#define ABAR      5u
#define ABAR_SIZE 0x1000u
#define PORTS_AT  0x100u
#define PORT_SIZE 0x80u
#define GHC_HR    0x00000001u
#define GHC_IE    0x00000002u
#define GHC_AE    0x80000000u
#define CAP                                                                                        \
    (0xc1340000u | (AHCI_SLOTS - 1) << 8 | (VMM_AHCI_PORTS - 1)) /* S64A SNCQ SCLO 6Gb/s SAM */
#define VERSION   0x00010300u
#define LINK_UP   0x133u /* a drive, at 6 Gb/s, active */
#define CMD_WRITE (CMD_ST | CMD_FRE | CMD_ATAPI | CMD_DLAE)
#define CMD_FIXED (CMD_SUD | CMD_POD | CMD_HPCP)
#define SCTL_DET  0x0fu

/* Interrupts ----------------------------------------------------------------------------------- */

/* A message for everything that is new; what is still there when the driver has cleared IS is new. */
static void update_irq(struct vmm_ahci *hba)
{
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        if (hba->ports[i].is & hba->ports[i].ie)
            hba->is |= 1u << i;
    bool level = hba->is && hba->ghc & GHC_IE;
    vmm_pci_set_intx(hba->pci, level);
    if (level)
        (void)vmm_pci_signal(hba->pci, 0);
}

void vmm_ahci_raise(struct ahci_port *p, uint32_t bits)
{
    p->is |= bits;
    update_irq(p->hba);
}

void vmm_ahci_kick(struct vmm_ahci *hba)
{
    (void)vmm_timer_set(hba->kick, 0);
}

void vmm_ahci_complain(struct vmm_ahci *hba, const char *text)
{
    if (hba->vm)
        vmm_vm_guest_error(hba->vm, vmm_device_name(vmm_pci_device(hba->pci)), "%s", text);
}

static void run(void *ctx)
{
    struct vmm_ahci *hba = ctx;
    vmm_device_lock(vmm_pci_device(hba->pci));
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        vmm_ahci_port_run(&hba->ports[i]);
    vmm_device_unlock(vmm_pci_device(hba->pci));
}

/* Ports ---------------------------------------------------------------------------------------- */

static void set_serr(struct ahci_port *p, uint32_t bits)
{
    p->serr |= bits;
    vmm_ahci_raise(p, (bits & SERR_X ? IS_PCS : 0) | (bits & SERR_N ? IS_PRCS : 0));
}

/* The link comes up, or finds nobody (§10.4.2). */
static void link_reset(struct ahci_port *p)
{
    vmm_ahci_port_abandon(p);
    p->resetting = false;
    p->tfd = 0x7f;
    p->sig = 0xffffffff;
    p->ssts = 0;
    if (!p->drive.type)
        return;
    p->ssts = LINK_UP;
    vmm_ata_reset(&p->drive, true);
    vmm_ahci_port_signature(p);
    set_serr(p, SERR_X);
}

static void port_reset(struct ahci_port *p)
{
    vmm_ahci_port_abandon(p);
    p->clb = p->fb = 0;
    p->is = p->ie = p->sctl = p->serr = p->sact = p->ci = 0;
    p->cmd = CMD_FIXED;
    p->last = AHCI_SLOTS - 1;
    p->halted = p->resetting = false;
    link_reset(p);
    p->is = p->serr = 0;
}

static void hba_reset(struct vmm_ahci *hba)
{
    hba->ghc = GHC_AE;
    hba->is = 0;
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        port_reset(&hba->ports[i]);
    hba->is = 0;
    update_irq(hba);
}

/* Off: nothing more of the list; what is under way is forgotten (§3.3.7). */
static void write_cmd(struct ahci_port *p, uint32_t value)
{
    uint32_t was = p->cmd;
    p->cmd = CMD_FIXED | (value & CMD_WRITE) | (value & CMD_FRE ? CMD_FR : 0) |
             (value & CMD_ST ? CMD_CR : 0);
    if (value & CMD_CLO)
        p->tfd &= ~(ATA_BSY | ATA_DRQ);
    if (was & CMD_ST && !(value & CMD_ST)) {
        vmm_ahci_port_abandon(p);
        p->ci = p->sact = 0;
        p->halted = false;
        p->last = AHCI_SLOTS - 1;
        p->tfd &= ~(ATA_BSY | ATA_DRQ);
    }
    if (!(was & CMD_FRE) && value & CMD_FRE && p->drive.type && p->sig == 0xffffffff)
        vmm_ahci_port_signature(p);
}

static void write_sctl(struct ahci_port *p, uint32_t value)
{
    uint32_t was = p->sctl & SCTL_DET, now = value & SCTL_DET;
    p->sctl = value & 0xfff;
    if (now == 1 || now == 4) { /* COMRESET is sent, or the link is off */
        vmm_ahci_port_abandon(p);
        p->ssts = now == 4 ? 4 : 0;
        p->tfd = 0x7f;
    } else if (was == 1 || was == 4) {
        link_reset(p);
    }
}

static void write_port(struct ahci_port *p, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case 0x00:
        p->clb = (p->clb & ~(uint64_t)UINT32_MAX) | (value & ~0x3ffu);
        break;
    case 0x04:
        p->clb = (p->clb & UINT32_MAX) | (uint64_t)value << 32;
        break;
    case 0x08:
        p->fb = (p->fb & ~(uint64_t)UINT32_MAX) | (value & ~0xffu);
        break;
    case 0x0c:
        p->fb = (p->fb & UINT32_MAX) | (uint64_t)value << 32;
        break;
    case 0x10:
        p->is &= ~(value & ~(IS_PCS | IS_PRCS)); /* those two follow PxSERR */
        break;
    case 0x14:
        p->ie = value & IS_ALL;
        break;
    case 0x18:
        write_cmd(p, value);
        break;
    case 0x2c:
        write_sctl(p, value);
        break;
    case 0x30:
        p->serr &= ~value;
        p->is &= ~((p->serr & SERR_X ? 0 : IS_PCS) | (p->serr & SERR_N ? 0 : IS_PRCS));
        break;
    case 0x34:
        p->sact |= p->cmd & CMD_ST ? value : 0;
        break;
    case 0x38:
        p->ci |= p->cmd & CMD_ST ? value : 0;
        vmm_ahci_kick(p->hba);
        return;
    default:
        return;
    }
    update_irq(p->hba);
}

static uint32_t read_port(const struct ahci_port *p, uint64_t offset)
{
    switch (offset) {
    case 0x00:
        return (uint32_t)p->clb;
    case 0x04:
        return (uint32_t)(p->clb >> 32);
    case 0x08:
        return (uint32_t)p->fb;
    case 0x0c:
        return (uint32_t)(p->fb >> 32);
    case 0x10:
        return p->is;
    case 0x14:
        return p->ie;
    case 0x18:
        return p->cmd | (p->cmd & CMD_ST ? p->last << 8 : 0);
    case 0x20:
        return p->tfd;
    case 0x24:
        return p->sig;
    case 0x28:
        return p->ssts;
    case 0x2c:
        return p->sctl;
    case 0x30:
        return p->serr;
    case 0x34:
        return p->sact;
    case 0x38:
        return p->ci;
    default:
        return 0;
    }
}

/* Registers ------------------------------------------------------------------------------------ */

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    const struct vmm_ahci *hba = ctx;
    (void)bar;
    (void)width;
    if (offset >= PORTS_AT) {
        uint64_t port = (offset - PORTS_AT) / PORT_SIZE;
        return port < VMM_AHCI_PORTS ? read_port(&hba->ports[port], offset % PORT_SIZE) : 0;
    }
    switch (offset) {
    case 0x00:
        return CAP;
    case 0x04:
        return hba->ghc;
    case 0x08:
        return hba->is;
    case 0x0c:
        return (1u << VMM_AHCI_PORTS) - 1;
    case 0x10:
        return VERSION;
    default:
        return 0;
    }
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_ahci *hba = ctx;
    (void)bar;
    (void)width;
    if (offset >= PORTS_AT) {
        uint64_t port = (offset - PORTS_AT) / PORT_SIZE;
        if (port < VMM_AHCI_PORTS)
            write_port(&hba->ports[port], offset % PORT_SIZE, (uint32_t)value);
    } else if (offset == 0x04 && value & GHC_HR) {
        hba_reset(hba);
    } else if (offset == 0x04) {
        hba->ghc = GHC_AE | ((uint32_t)value & GHC_IE);
        update_irq(hba);
    } else if (offset == 0x08) {
        hba->is &= ~(uint32_t)value;
        update_irq(hba);
    }
}

/* Life ----------------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    hba_reset(ctx);
}

static void free_port(struct ahci_port *p)
{
    vmm_ahci_port_abandon(p);
    if (p->drive.block)
        vmm_block_drain(p->drive.block);
    vmm_ata_fini(&p->drive);
    for (uint32_t i = 0; p->slots && i < AHCI_SLOTS; i++)
        vmm_transfer_fini(&p->slots[i].transfer);
    free(p->slots);
}

/* Abandoned transfers end here, before what they hold goes. */
static void destroy(void *ctx)
{
    struct vmm_ahci *hba = ctx;
    vmm_timer_free(hba->kick);
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++)
        free_port(&hba->ports[i]);
    vmm_loop_unref(hba->loop);
    vmm_memory_unref(hba->memory);
    vmm_vm_unref(hba->vm);
    free(hba);
}

static int make(struct vmm_ahci *hba, const char *name, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .bar_read = bar_read,
        .bar_write = bar_write,
        .reset = reset,
        .state_version = 1,
        .save = vmm_ahci_save,
        .load = vmm_ahci_load,
        .destroy = destroy,
    };
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = name;
    o.vendor_id = 0x8086;
    o.device_id = 0x2922; /* ICH9's six ports */
    o.class_code = 0x010601;
    o.revision = 2;
    o.interrupt_pin = 1;
    o.bars[ABAR] = (struct vmm_pci_bar){.length = ABAR_SIZE, .min_width = 4, .max_width = 4};
    o.msi_vectors = 1;
    o.msi_flags = VMM_PCI_MSI_64;
    o.ops = &ops;
    o.ctx = hba;
    return vmm_pci_new(&o, &hba->pci, err);
}

int vmm_ahci_new(const struct vmm_ahci_options *given, struct vmm_ahci **out, struct vmm_error *err)
{
    struct vmm_ahci_options o;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "AHCI options: a structure of another version");
    if (!o.memory || !o.loop || !o.name)
        return vmm_error_set(err, -EINVAL, "AHCI needs a name, memory and a loop");
    struct vmm_ahci *hba = calloc(1, sizeof(*hba));
    if (!hba)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    for (uint32_t i = 0; i < VMM_AHCI_PORTS; i++) {
        hba->ports[i].hba = hba;
        hba->ports[i].number = i;
    }
    int rc = vmm_timer_new(o.loop, run, hba, &hba->kick);
    if (rc)
        (void)vmm_error_set(err, rc, "AHCI: %s", strerror(-rc));
    else
        rc = make(hba, o.name, err);
    if (rc) {
        vmm_timer_free(hba->kick);
        free(hba);
        return rc;
    }
    hba->loop = vmm_loop_ref(o.loop);
    hba->memory = vmm_memory_ref(o.memory);
    hba->vm = o.vm ? vmm_vm_ref(o.vm) : NULL;
    vmm_device_reset(vmm_pci_device(hba->pci));
    *out = hba;
    return 0;
}

struct vmm_ahci *vmm_ahci_ref(struct vmm_ahci *ahci)
{
    vmm_pci_ref(ahci->pci);
    return ahci;
}

struct vmm_ahci *vmm_ahci_unref(struct vmm_ahci *ahci)
{
    if (ahci)
        vmm_pci_unref(ahci->pci);
    return NULL;
}

struct vmm_pci *vmm_ahci_pci(struct vmm_ahci *ahci)
{
    return ahci->pci;
}

/* Drives --------------------------------------------------------------------------------------- */

static struct ahci_slot *make_slots(struct ahci_port *p)
{
    struct ahci_slot *slots = calloc(AHCI_SLOTS, sizeof(*slots));
    for (uint32_t i = 0; slots && i < AHCI_SLOTS; i++) {
        slots[i].port = p;
        slots[i].number = i;
        vmm_transfer_init(&slots[i].transfer, p->hba->memory, vmm_pci_device(p->hba->pci),
                          vmm_ahci_transfer_done, &slots[i]);
    }
    return slots;
}

int vmm_ahci_plug(struct vmm_ahci *hba, uint32_t port, const struct vmm_drive_options *given,
                  struct vmm_error *err)
{
    struct vmm_drive_options o;
    struct vmm_ata drive;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "drive options: a structure of another version");
    if (port >= VMM_AHCI_PORTS)
        return vmm_error_set(err, -EINVAL, "AHCI has %u ports", VMM_AHCI_PORTS);
    struct ahci_port *p = &hba->ports[port];
    if (p->drive.type)
        return vmm_error_set(err, -EEXIST, "port %u has a drive", port);
    if (o.block && vmm_block_loop(o.block) != hba->loop)
        return vmm_error_set(err, -EINVAL, "a controller and its drives are on the same loop");
    if (!p->slots)
        p->slots = make_slots(p);
    if (!p->slots)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = vmm_ata_init(&drive, &o, true, err);
    if (rc)
        return rc;
    vmm_device_lock(vmm_pci_device(hba->pci));
    p->drive = drive;
    if ((p->sctl & SCTL_DET) != 1 && (p->sctl & SCTL_DET) != 4) {
        link_reset(p);
        set_serr(p, SERR_N);
    }
    vmm_device_unlock(vmm_pci_device(hba->pci));
    return 0;
}

int vmm_ahci_unplug(struct vmm_ahci *hba, uint32_t port)
{
    if (port >= VMM_AHCI_PORTS || !hba->ports[port].drive.type)
        return -ENOENT;
    struct ahci_port *p = &hba->ports[port];
    vmm_device_lock(vmm_pci_device(hba->pci));
    struct vmm_ata drive = p->drive;
    vmm_ahci_port_abandon(p);
    memset(&p->drive, 0, sizeof(p->drive));
    p->ssts = 0;
    p->tfd = 0x7f;
    p->sig = 0xffffffff;
    set_serr(p, SERR_N);
    vmm_device_unlock(vmm_pci_device(hba->pci));
    if (drive.block)
        vmm_block_drain(drive.block);
    vmm_ata_fini(&drive);
    return 0;
}

int vmm_ahci_set_medium(struct vmm_ahci *hba, uint32_t port, struct vmm_block *block,
                        uint32_t flags, struct vmm_error *err)
{
    struct vmm_block *old = NULL;
    if (port >= VMM_AHCI_PORTS || !hba->ports[port].drive.type)
        return vmm_error_set(err, -ENOENT, "port %u has no drive", port);
    if (block && vmm_block_loop(block) != hba->loop)
        return vmm_error_set(err, -EINVAL, "a controller and its drives are on the same loop");
    struct ahci_port *p = &hba->ports[port];
    vmm_device_lock(vmm_pci_device(hba->pci));
    int rc = vmm_ata_set_medium(&p->drive, block, flags, &old, err);
    vmm_device_unlock(vmm_pci_device(hba->pci));
    if (old) {
        vmm_block_drain(old);
        vmm_block_unref(old);
    }
    return rc;
}
