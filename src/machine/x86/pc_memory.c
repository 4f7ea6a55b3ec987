/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of the `pc` board: RAM, the firmware below 4 GiB, and the area below 1 MiB, where the PAM
 * registers of the host bridge (82441FX: data sheet 290549, 3.2.18; Q35: 316966, 5.1.12 ff.) choose for each segment whether reads and
 * writes go to RAM or to PCI, where the firmware's copy is.
 */
#include "base/util.h"
#include "machine/firmware.h"
#include "machine/x86/pc.h"

#include <stdlib.h>

#define SMRAM_OPEN 0x40u

#define PAM_READ  1u /* from RAM */
#define PAM_WRITE 2u

uint64_t vmm_pc_low_memory(const struct vmm_machine *m)
{
    const struct pc *pc = m->board_data;
    uint64_t size = m->options.memory_size;
    return size < pc->kind->low_memory_end ? size : pc->kind->low_memory_end;
}

/* SeaBIOS begins at 2 GiB where RAM ends below; so does OVMF from RAM's end on. */
uint64_t vmm_pc_window(const struct vmm_machine *m)
{
    const struct pc *pc = m->board_data;
    return vmm_pc_low_memory(m) <= UINT64_C(0x80000000) ? UINT64_C(0x80000000)
                                                        : pc->kind->low_memory_end;
}

uint64_t vmm_pc_high_window(const struct vmm_machine *m)
{
    return vmm_align_up(PC_HIGH_MEMORY + m->options.memory_size - vmm_pc_low_memory(m),
                        PC_HIGH_WINDOW);
}

/* Segments ------------------------------------------------------------------------------------- */

/* Segment 0 is 0xf0000 to 0xfffff, by the upper half of PAM0; then 16 KiB each from 0xc0000 on, two a
 * register. */
static uint64_t segment_offset(uint32_t i)
{
    return i == 0 ? 0x30000 : (uint64_t)(i - 1) * 0x4000;
}

static uint64_t segment_length(uint32_t i)
{
    return i == 0 ? 0x10000 : 0x4000;
}

static uint8_t segment_mode(const struct pc *pc, const uint8_t *config, uint32_t i)
{
    uint8_t pam = config[pc->kind->pam0 + (i + 1) / 2];
    return (i % 2 ? pam : pam >> 4) & (PAM_READ | PAM_WRITE);
}

/* Reads from the ROM, writes to the RAM behind it: so rare that uncovering it for each is good enough. */
static void write_behind(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct pc *pc = ctx;
    struct vmm_memory *memory = pc->machine->memory;
    uint64_t little = htole64(value);
    for (uint32_t i = 0; i < PC_PAM_SEGMENTS; i++) {
        const struct pc_segment *s = &pc->segments[i];
        if (s->mode != PAM_WRITE || offset < segment_offset(i) ||
            offset >= segment_offset(i) + segment_length(i))
            continue;
        if (vmm_memory_set_enabled(memory, s->rom, false, NULL))
            return;
        (void)vmm_memory_write(memory, PC_SHADOW + offset, &little, width);
        (void)vmm_memory_set_enabled(memory, s->rom, true, NULL);
    }
}

void vmm_pc_apply_memory(struct pc *pc)
{
    struct vmm_memory *memory = pc->machine->memory;
    const uint8_t *config = vmm_pci_config(vmm_pci_host_function(pc->machine->pci));
    vmm_memory_begin(memory);
    for (uint32_t i = 0; i < PC_PAM_SEGMENTS; i++) {
        struct pc_segment *s = &pc->segments[i];
        s->mode = segment_mode(pc, config, i);
        (void)vmm_memory_set_enabled(memory, s->rom, !(s->mode & PAM_READ), NULL);
        (void)vmm_memory_set_enabled(memory, s->shadow, s->mode == PAM_READ, NULL);
    }
    (void)vmm_memory_set_enabled(memory, pc->vga_hole, !(config[pc->kind->smram] & SMRAM_OPEN),
                                 NULL);
    (void)vmm_memory_commit(memory, NULL);
}

static int new_alias(struct pc *pc, const char *name, struct vmm_memory_region *target,
                     uint64_t target_offset, int32_t priority, uint32_t i,
                     struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    o.name = name;
    o.type = VMM_MEMORY_ALIAS;
    o.read_only = 1;
    o.length = segment_length(i);
    o.target = target;
    o.target_offset = target_offset;
    int rc = vmm_memory_region_new(&o, out, err);
    return rc ? rc
              : vmm_memory_add(pc->machine->memory, *out, PC_SHADOW + segment_offset(i), priority,
                               err);
}

/* The two of a segment have one place, and are never enabled together. */
static int add_segments(struct pc *pc, struct vmm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < PC_PAM_SEGMENTS && !rc; i++) {
        struct pc_segment *s = &pc->segments[i];
        rc = new_alias(pc, "pam-shadow", pc->ram, PC_SHADOW + segment_offset(i), PC_OVER_RAM + 1, i,
                       &s->shadow, err);
        rc = rc ? rc : vmm_memory_set_enabled(pc->machine->memory, s->shadow, false, err);
        rc = rc ? rc
                : new_alias(pc, "pam-rom", pc->window, segment_offset(i), PC_OVER_RAM, i, &s->rom,
                            err);
    }
    return rc;
}

/* The firmware --------------------------------------------------------------------------------- */

static int new_rom(struct pc *pc, const char *name, uint64_t length,
                   void (*rom_write)(void *ctx, uint64_t offset, uint32_t width, uint64_t value),
                   struct vmm_memory_region **out, struct vmm_error *err)
{
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    o.name = name;
    o.type = VMM_MEMORY_ROM;
    o.length = length;
    o.rom_write = rom_write;
    o.ctx = pc;
    return vmm_memory_region_new(&o, out, err);
}

/* Its bytes are written where it ends up first, below 4 GiB; what PCI has below 1 MiB is filled in a
 * place of its own and only seen through the segments. */
static int add_roms(struct pc *pc, const uint8_t *data, size_t length, struct vmm_error *err)
{
    struct vmm_memory *memory = pc->machine->memory;
    uint8_t *copy = malloc(PC_SHADOW_LENGTH);
    if (!copy)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    size_t tail = length < PC_ROM_COPY_MAX ? length : PC_ROM_COPY_MAX;
    memset(copy, 0xff, PC_SHADOW_LENGTH);
    memcpy(copy + PC_SHADOW_LENGTH - tail, data + length - tail, tail);
    int rc = new_rom(pc, "firmware", length, NULL, &pc->firmware, err);
    rc = rc ? rc : vmm_memory_add(memory, pc->firmware, PC_HIGH_MEMORY - length, PC_OVER_RAM, err);
    rc = rc ? rc : vmm_memory_write_rom(memory, PC_HIGH_MEMORY - length, data, length);
    rc = rc ? rc : new_rom(pc, "pci-below-1m", PC_SHADOW_LENGTH, write_behind, &pc->window, err);
    rc = rc ? rc : vmm_memory_add(memory, pc->window, PC_SHADOW, PC_OVER_RAM, err);
    rc = rc ? rc : vmm_memory_write_rom(memory, PC_SHADOW, copy, PC_SHADOW_LENGTH);
    rc = rc ? rc : vmm_memory_remove(memory, pc->window, err);
    free(copy);
    return rc;
}

/* The flash chip below the firmware. */
static int add_vars(struct vmm_machine *m, size_t firmware_length, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    const struct vmm_machine_vars where = {.below = PC_HIGH_MEMORY - firmware_length,
                                           .room = PC_FIRMWARE_MAX - firmware_length,
                                           .block = VMM_PFLASH_BLOCK,
                                           .bank_width = 1,
                                           .priority = PC_OVER_RAM};
    return vmm_machine_add_vars(m, &where, &pc->flash, err);
}

static int add_vga_hole(struct pc *pc, struct vmm_error *err)
{
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    o.name = "vga-window";
    o.type = VMM_MEMORY_HOLE;
    o.length = PC_VGA_LENGTH;
    int rc = vmm_memory_region_new(&o, &pc->vga_hole, err);
    return rc ? rc
              : vmm_memory_add(pc->machine->memory, pc->vga_hole, PC_VGA_WINDOW, PC_OVER_RAM, err);
}

int vmm_pc_add_memory(struct vmm_machine *m, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    uint64_t low = vmm_pc_low_memory(m);
    uint8_t *data = NULL;
    size_t length = 0;
    if (m->options.memory_size < UINT64_C(8) << 20 || m->options.memory_max)
        return vmm_error_set(err, -EINVAL,
                             "this board needs 8 MiB of memory, and has no hot plug of more");
    if (!m->options.firmware)
        return vmm_error_set(err, -EINVAL, "this board needs firmware, such as SeaBIOS");
    int rc = vmm_machine_read_firmware(m->options.firmware, PC_FIRMWARE_MAX, &data, &length, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_ram(m, "ram-low", 0, low, &pc->ram, err);
    if (!rc && m->options.memory_size > low)
        rc = vmm_machine_add_ram(m, "ram-high", PC_HIGH_MEMORY, m->options.memory_size - low, NULL,
                                 err);
    rc = rc ? rc : add_roms(pc, data, length, err);
    rc = rc || !m->options.firmware_vars ? rc : add_vars(m, length, err);
    rc = rc ? rc : add_vga_hole(pc, err);
    rc = rc ? rc : add_segments(pc, err);
    free(data);
    return rc;
}

void vmm_pc_free_memory(struct pc *pc)
{
    for (uint32_t i = 0; i < PC_PAM_SEGMENTS; i++) {
        vmm_memory_region_unref(pc->segments[i].rom);
        vmm_memory_region_unref(pc->segments[i].shadow);
    }
    vmm_pflash_unref(pc->flash);
    vmm_memory_region_unref(pc->vga_hole);
    vmm_memory_region_unref(pc->window);
    vmm_memory_region_unref(pc->firmware);
    vmm_memory_region_unref(pc->ram);
}
