/* SPDX-License-Identifier: BSD-3-Clause */
/* The window at 0xa0000: planes, latches, and chained bytes. */
#include "devices/vga/internal.h"

#define WINDOW_LENGTH 0x20000u

void vga_mark_written(struct vmm_vga *v, uint64_t offset, uint64_t length)
{
    for (uint64_t page = offset / VGA_PAGE; page <= (offset + length - 1) / VGA_PAGE; page++)
        v->written[page / 64] |= UINT64_C(1) << page % 64;
    vga_changed(v);
}

static uint32_t load_word(const struct vmm_vga *v, uint32_t word)
{
    return vmm_load_le32(v->vram + (uint64_t)word * 4);
}

/* GR6 says which part of the 128 KiB is ours: the address in it, or UINT32_MAX. */
static uint32_t in_window(const struct vmm_vga *v, uint64_t offset)
{
    static const struct {
        uint32_t start, length;
    } maps[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    uint32_t map = v->r.gr[6] >> 2 & 3;
    if (!(v->r.misc & 2) || offset < maps[map].start ||
        offset - maps[map].start >= maps[map].length)
        return UINT32_MAX;
    return (uint32_t)offset - maps[map].start;
}

/* With a packed mode of DISPI the window is a bank of bytes. */
static bool in_bank(const struct vmm_vga *v, uint32_t address, uint64_t *at)
{
    if (!vga_dispi_on(&v->r) || v->r.dispi[DISPI_BPP] == 4)
        return false;
    *at = (uint64_t)v->r.dispi[DISPI_BANK] * 0x10000 + address;
    return true;
}

/* The word of the planes for an address: 64 KiB a plane, more in planar modes of DISPI. */
static uint32_t plane_word(const struct vmm_vga *v, uint32_t address)
{
    if (!vga_dispi_on(&v->r))
        return address & 0xffff;
    uint64_t word = (uint64_t)v->r.dispi[DISPI_BANK] * 0x10000 + address;
    return (uint32_t)(word % (v->vram_size / 4));
}

/* Reading -------------------------------------------------------------------------------------- */

static uint8_t read_byte(struct vmm_vga *v, uint64_t offset)
{
    uint64_t at;
    uint32_t address = in_window(v, offset);
    if (address == UINT32_MAX)
        return 0xff;
    if (in_bank(v, address, &at))
        return at < v->vram_size ? v->vram[at] : 0xff;
    if (v->r.sr[4] & 8) { /* chained by four */
        v->latch = load_word(v, (address & 0xffff) >> 2);
        return v->vram[address & 0xffff];
    }
    bool odd_even = v->r.gr[5] & 0x10;
    v->latch = load_word(v, plane_word(v, odd_even ? address & ~1u : address));
    if (v->r.gr[5] & 8) { /* read mode 1: where do all planes that count have the colour? */
        uint32_t differs = (v->latch ^ vga_planes(v->r.gr[2])) & vga_planes(v->r.gr[7]);
        differs |= differs >> 16;
        return (uint8_t) ~(differs | differs >> 8);
    }
    uint32_t plane = odd_even ? (v->r.gr[4] & 2) | (address & 1) : v->r.gr[4] & 3u;
    return (uint8_t)(v->latch >> 8 * plane);
}

uint64_t vga_window_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_vga *v = ctx;
    uint64_t value = 0;
    if (!(vmm_pci_config(v->pci)[4] & 2))
        return UINT64_MAX;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)read_byte(v, offset + i) << 8 * i;
    return value;
}

/* Writing -------------------------------------------------------------------------------------- */

static uint32_t logic(uint32_t function, uint32_t value, uint32_t latch)
{
    switch (function) {
    case 1:
        return value & latch;
    case 2:
        return value | latch;
    case 3:
        return value ^ latch;
    default:
        return value;
    }
}

/* What the graphics controller makes of a byte, for all four planes (write modes 0 to 3). */
static uint32_t transform(const struct vmm_vga *v, uint8_t byte)
{
    const uint8_t *gr = v->r.gr;
    uint32_t turn = gr[3] & 7, bits = gr[8] * 0x01010101u, value;
    uint8_t turned = (uint8_t)(byte >> turn | byte << (8 - turn));
    switch (gr[5] & 3) {
    case 0: {
        uint32_t set = vga_planes(gr[1]);
        value = (turned * 0x01010101u & ~set) | (vga_planes(gr[0]) & set);
        break;
    }
    case 1:
        return v->latch;
    case 2:
        value = vga_planes(byte & 0xfu);
        break;
    default:
        bits &= turned * 0x01010101u;
        value = vga_planes(gr[0]);
        break;
    }
    value = logic(gr[3] >> 3 & 3, value, v->latch);
    return (value & bits) | (v->latch & ~bits);
}

static void write_planes(struct vmm_vga *v, uint32_t address, uint8_t byte)
{
    uint32_t planes = v->r.sr[2];
    if (!(v->r.sr[4] & 4)) { /* odd/even: even addresses are planes 0 and 2, odd ones 1 and 3 */
        planes &= address & 1 ? 0xau : 0x5u;
        address &= ~1u;
    }
    uint32_t word = plane_word(v, address), mask = vga_planes(planes);
    uint32_t value = (load_word(v, word) & ~mask) | (transform(v, byte) & mask);
    vmm_store_le32(v->vram + (uint64_t)word * 4, value);
    vga_mark_written(v, (uint64_t)word * 4, 4);
}

static void write_byte(struct vmm_vga *v, uint64_t offset, uint8_t byte)
{
    uint64_t at;
    uint32_t address = in_window(v, offset);
    if (address == UINT32_MAX)
        return;
    if (in_bank(v, address, &at)) {
        if (at >= v->vram_size)
            return;
        v->vram[at] = byte;
        vga_mark_written(v, at, 1);
    } else if (v->r.sr[4] & 8) {
        if (v->r.sr[2] >> (address & 3) & 1) {
            v->vram[address & 0xffff] = byte;
            vga_mark_written(v, address & 0xffff, 1);
        }
    } else {
        write_planes(v, address, byte);
    }
}

void vga_window_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_vga *v = ctx;
    if (!(vmm_pci_config(v->pci)[4] & 2))
        return;
    for (uint32_t i = 0; i < width; i++)
        write_byte(v, offset + i, (uint8_t)(value >> 8 * i));
}
