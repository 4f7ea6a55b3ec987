/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IDE as of Intel's PIIX3: registers at the ports that PCs have had since the AT, and a PCI function for
 * the bus masters. Commands are decoded where the driver writes them; what needs a backend is done on
 * the loop's thread.
 */
#include "devices/storage/ide.h"

#include "base/util.h"

#include <stdlib.h>

#define BM_BAR        4u
#define TIMING_AT     0x40u
#define TIMING_ENABLE 0x80u

/* Registers ------------------------------------------------------------------------------------ */

/* What is written a second time is the low byte of a 48-bit command. */
static void write_lba(struct vmm_ata_taskfile *tf, uint32_t byte, uint8_t value)
{
    uint64_t was = tf->lba >> 8 * byte & 0xff;
    tf->lba &= ~(UINT64_C(0xff) << 8 * byte | UINT64_C(0xff) << (24 + 8 * byte));
    tf->lba |= (uint64_t)value << 8 * byte | was << (24 + 8 * byte);
}

static void write_register(struct ide_channel *c, uint32_t at, uint8_t value)
{
    c->control &= ~CONTROL_HOB;
    if (at == 7) {
        vmm_ide_command(c, value);
        return;
    }
    if (at == 6)
        c->select = value & ATA_DEV1 ? 1 : 0;
    for (uint32_t i = 0; i < 2; i++) {
        struct vmm_ata_taskfile *tf = &c->units[i].tf;
        if (at == 1)
            tf->feature = (uint16_t)(tf->feature << 8 | value);
        else if (at == 2)
            tf->count = (uint16_t)(tf->count << 8 | value);
        else if (at == 6)
            tf->device = value;
        else
            write_lba(tf, at - 3, value);
    }
}

static uint8_t read_register(struct ide_channel *c, uint32_t at)
{
    const struct ide_unit *u = &c->units[c->select];
    bool high = c->control & CONTROL_HOB;
    if (!u->ata.type)
        return 0;
    switch (at) {
    case 1:
        return u->tf.error;
    case 2:
        return (uint8_t)(high ? u->tf.count >> 8 : u->tf.count);
    case 6:
        return u->tf.device | 0xa0;
    case 7:
        (void)vmm_irq_line_set(c->irq, 0);
        return u->tf.status;
    default:
        return (uint8_t)(u->tf.lba >> ((high ? 24 : 0) + 8 * (at - 3)));
    }
}

static uint64_t command_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct ide_channel *c = ctx;
    uint64_t value = 0;
    if (offset == 0)
        return vmm_ide_data_read(c, width);
    for (uint32_t i = 0; i < width && offset + i < 8; i++)
        value |= (uint64_t)read_register(c, (uint32_t)offset + i) << 8 * i;
    return value;
}

static void command_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct ide_channel *c = ctx;
    if (offset == 0) {
        vmm_ide_data_write(c, width, (uint32_t)value);
        return;
    }
    for (uint32_t i = 0; i < width && offset + i < 8; i++)
        write_register(c, (uint32_t)offset + i, (uint8_t)(value >> 8 * i));
}

static uint64_t control_read(void *ctx, uint64_t offset, uint32_t width)
{
    const struct ide_channel *c = ctx;
    const struct ide_unit *u = &c->units[c->select];
    (void)offset;
    (void)width;
    return u->ata.type ? u->tf.status : 0;
}

static void control_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct ide_channel *c = ctx;
    uint32_t was = c->control;
    (void)offset;
    (void)width;
    c->control = (uint32_t)value & (CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB);
    if (c->control & CONTROL_NIEN)
        (void)vmm_irq_line_set(c->irq, 0);
    if (!(was & CONTROL_SRST) && c->control & CONTROL_SRST) {
        vmm_ide_abandon(c);
        for (uint32_t i = 0; i < 2; i++)
            c->units[i].tf.status = ATA_BSY;
    } else if (was & CONTROL_SRST && !(c->control & CONTROL_SRST)) {
        vmm_ide_reset_units(c, false);
    }
}

/* The function --------------------------------------------------------------------------------- */

static uint64_t bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width)
{
    struct vmm_ide *ide = ctx;
    uint64_t value = 0;
    (void)bar;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t at = (uint32_t)offset + i;
        value |= vmm_ide_bm_read(&ide->channels[at >> 3 & 1], at & 7) << 8 * i;
    }
    return value;
}

static void bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_ide *ide = ctx;
    (void)bar;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t at = (uint32_t)offset + i;
        vmm_ide_bm_write(&ide->channels[at >> 3 & 1], at & 7, (uint8_t)(value >> 8 * i));
    }
}

/* Timing registers keep what is written; nothing here is slow. */
static uint32_t config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    const struct vmm_ide *ide = ctx;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t at = offset + i - TIMING_AT;
        if (at < sizeof(ide->timing))
            value = (value & ~(0xffu << 8 * i)) | (uint32_t)ide->timing[at] << 8 * i;
    }
    return value;
}

static void config_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    struct vmm_ide *ide = ctx;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t at = offset + i - TIMING_AT;
        if (at < sizeof(ide->timing))
            ide->timing[at] = (uint8_t)(value >> 8 * i);
    }
}

static void reset(void *ctx)
{
    struct vmm_ide *ide = ctx;
    memset(ide->timing, 0, sizeof(ide->timing));
    ide->timing[1] = ide->timing[3] = TIMING_ENABLE;
    for (uint32_t i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *c = &ide->channels[i];
        vmm_ide_abandon(c);
        vmm_ide_reset_units(c, true);
        c->control = c->bm_command = c->bm_status = c->bm_table = 0;
        c->active = 0;
        memset(&c->plan, 0, sizeof(c->plan));
    }
}

/* Life ----------------------------------------------------------------------------------------- */

static void run(void *ctx)
{
    struct vmm_ide *ide = ctx;
    vmm_device_lock(vmm_pci_device(ide->pci));
    for (uint32_t i = 0; i < IDE_CHANNELS; i++)
        vmm_ide_work(&ide->channels[i]);
    vmm_device_unlock(vmm_pci_device(ide->pci));
}

static void free_channel(struct ide_channel *c)
{
    vmm_ide_abandon(c);
    for (uint32_t i = 0; i < 2; i++) {
        if (c->units[i].ata.block)
            vmm_block_drain(c->units[i].ata.block);
        vmm_ata_fini(&c->units[i].ata);
    }
    vmm_transfer_fini(&c->transfer);
    vmm_irq_line_free(c->irq);
}

static void destroy(void *ctx)
{
    struct vmm_ide *ide = ctx;
    vmm_timer_free(ide->kick);
    for (uint32_t i = 0; i < IDE_CHANNELS; i++)
        free_channel(&ide->channels[i]);
    vmm_loop_unref(ide->loop);
    vmm_memory_unref(ide->memory);
    vmm_vm_unref(ide->vm);
    free(ide);
}

static int make(struct vmm_ide *ide, const char *name, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .bar_read = bar_read,
        .bar_write = bar_write,
        .config_read = config_read,
        .config_written = config_written,
        .reset = reset,
        .state_version = 1,
        .save = vmm_ide_save,
        .load = vmm_ide_load,
        .destroy = destroy,
    };
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = name;
    o.vendor_id = 0x8086;
    o.device_id = 0x7010;
    o.class_code = 0x010180; /* both channels at their old ports; bus masters */
    o.bars[BM_BAR] = (struct vmm_pci_bar){
        .length = 16, .flags = VMM_PCI_BAR_PORT, .min_width = 1, .max_width = 4};
    o.ops = &ops;
    o.ctx = ide;
    return vmm_pci_new(&o, &ide->pci, err);
}

/* The regions hold the device: they go with the bus. */
static int add_ports(struct vmm_ide *ide, struct vmm_bus *ports, struct vmm_error *err)
{
    static const struct vmm_region_ops command = {.size = sizeof(command),
                                                  .read = command_read,
                                                  .write = command_write,
                                                  .min_width = 1,
                                                  .max_width = 4},
                                       control = {.size = sizeof(control),
                                                  .read = control_read,
                                                  .write = control_write,
                                                  .min_width = 1,
                                                  .max_width = 1};
    static const uint16_t places[4] = {0x1f0, 0x3f6, 0x170, 0x376};
    struct vmm_region *added[4] = {0};
    int rc = 0;
    for (uint32_t i = 0; i < 4 && !rc; i++) {
        struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
        r.name = vmm_device_name(vmm_pci_device(ide->pci));
        r.address = places[i];
        r.length = i & 1 ? 1 : 8;
        r.device = vmm_pci_device(ide->pci);
        r.ops = i & 1 ? &control : &command;
        r.ctx = &ide->channels[i >> 1];
        rc = vmm_bus_add(ports, &r, &added[i], err);
    }
    for (uint32_t i = 0; i < 4 && rc; i++)
        if (added[i])
            vmm_bus_remove(ports, added[i]);
    return rc;
}

static void init_channels(struct vmm_ide *ide, const struct vmm_ide_options *o)
{
    for (uint32_t i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *c = &ide->channels[i];
        c->ide = ide;
        c->number = i;
        vmm_transfer_init(&c->transfer, o->memory, vmm_pci_device(ide->pci), vmm_ide_transfer_done,
                          c);
    }
    ide->loop = vmm_loop_ref(o->loop);
    ide->memory = vmm_memory_ref(o->memory);
    ide->vm = o->vm ? vmm_vm_ref(o->vm) : NULL;
}

int vmm_ide_new(const struct vmm_ide_options *given, struct vmm_ide **out, struct vmm_error *err)
{
    struct vmm_ide_options o;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "IDE options: a structure of another version");
    if (!o.memory || !o.loop || !o.name || !o.ports)
        return vmm_error_set(err, -EINVAL, "IDE needs a name, memory, ports and a loop");
    struct vmm_ide *ide = calloc(1, sizeof(*ide));
    if (!ide)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = vmm_timer_new(o.loop, run, ide, &ide->kick);
    if (rc)
        (void)vmm_error_set(err, rc, "IDE: %s", strerror(-rc));
    else
        rc = make(ide, o.name, err);
    if (rc) {
        vmm_timer_free(ide->kick);
        free(ide);
        return rc;
    }
    init_channels(ide, &o);
    vmm_device_reset(vmm_pci_device(ide->pci));
    rc = add_ports(ide, o.ports, err);
    if (rc) {
        vmm_pci_unref(ide->pci);
        return rc;
    }
    for (uint32_t i = 0; i < IDE_CHANNELS; i++) /* last: on failure they stay the caller's */
        ide->channels[i].irq = o.irq[i];
    *out = ide;
    return 0;
}

struct vmm_ide *vmm_ide_ref(struct vmm_ide *ide)
{
    vmm_pci_ref(ide->pci);
    return ide;
}

struct vmm_ide *vmm_ide_unref(struct vmm_ide *ide)
{
    if (ide)
        vmm_pci_unref(ide->pci);
    return NULL;
}

struct vmm_pci *vmm_ide_pci(struct vmm_ide *ide)
{
    return ide->pci;
}

/* Drives --------------------------------------------------------------------------------------- */

int vmm_ide_plug(struct vmm_ide *ide, uint32_t number, const struct vmm_drive_options *given,
                 struct vmm_error *err)
{
    struct vmm_drive_options o;
    struct vmm_ata drive;
    if (!given || vmm_options_copy(&o, sizeof(o), given))
        return vmm_error_set(err, -EINVAL, "drive options: a structure of another version");
    if (number >= VMM_IDE_DRIVES)
        return vmm_error_set(err, -EINVAL, "IDE has %u drives", VMM_IDE_DRIVES);
    struct ide_channel *c = &ide->channels[number / 2];
    if (c->units[number % 2].ata.type)
        return vmm_error_set(err, -EEXIST, "IDE has a drive %u", number);
    if (o.block && vmm_block_loop(o.block) != ide->loop)
        return vmm_error_set(err, -EINVAL, "a controller and its drives are on the same loop");
    int rc = vmm_ata_init(&drive, &o, false, err);
    if (rc)
        return rc;
    vmm_device_lock(vmm_pci_device(ide->pci));
    c->units[number % 2].ata = drive;
    vmm_ide_reset_units(c, true);
    vmm_device_unlock(vmm_pci_device(ide->pci));
    return 0;
}

int vmm_ide_set_medium(struct vmm_ide *ide, uint32_t number, struct vmm_block *block,
                       uint32_t flags, struct vmm_error *err)
{
    struct vmm_block *old = NULL;
    if (number >= VMM_IDE_DRIVES || !ide->channels[number / 2].units[number % 2].ata.type)
        return vmm_error_set(err, -ENOENT, "IDE has no drive %u", number);
    if (block && vmm_block_loop(block) != ide->loop)
        return vmm_error_set(err, -EINVAL, "a controller and its drives are on the same loop");
    vmm_device_lock(vmm_pci_device(ide->pci));
    int rc = vmm_ata_set_medium(&ide->channels[number / 2].units[number % 2].ata, block, flags,
                                &old, err);
    vmm_device_unlock(vmm_pci_device(ide->pci));
    if (old) {
        vmm_block_drain(old);
        vmm_block_unref(old);
    }
    return rc;
}
