/* SPDX-License-Identifier: BSD-3-Clause */
/* Save and load: the registers, and those pages of the frame buffer that are not all zeros. */
#include "devices/vga/internal.h"

#include <stdlib.h>

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, VGA_PAGE - 1) == 0;
}

/* A bitmap of pages, and those pages. */
static int save_memory(const struct vmm_vga *v, struct vmm_state_writer *w)
{
    uint64_t pages = v->vram_size / VGA_PAGE, used = 0;
    uint8_t *map = calloc(1, (size_t)pages / 8), *data = NULL;
    if (!map)
        return -ENOMEM;
    for (uint64_t i = 0; i < pages; i++)
        if (!is_zero(v->vram + i * VGA_PAGE)) {
            map[i / 8] |= (uint8_t)(1u << i % 8);
            used++;
        }
    data = malloc((size_t)used * VGA_PAGE + 1);
    if (!data) {
        free(map);
        return -ENOMEM;
    }
    for (uint64_t i = 0, n = 0; i < pages; i++)
        if (map[i / 8] >> i % 8 & 1)
            memcpy(data + n++ * VGA_PAGE, v->vram + i * VGA_PAGE, VGA_PAGE);
    (void)vmm_state_put_bytes(w, "memory-pages", map, (size_t)pages / 8);
    int rc = vmm_state_put_bytes(w, "memory", data, (size_t)used * VGA_PAGE);
    free(map);
    free(data);
    return rc;
}

static void small_registers(const struct vmm_vga *v, uint8_t s[16])
{
    const uint8_t all[16] = {
        v->r.misc,         v->r.ar_index,     v->r.dac_mask,     v->sr_index,
        v->gr_index,       v->cr_index,       v->feature,        v->ar_flip_flop,
        v->dac_state,      v->dac_read,       v->dac_write,      v->dac_component,
        v->dac_pending[0], v->dac_pending[1], v->dac_pending[2], 0};
    memcpy(s, all, sizeof(all));
}

int vga_save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_vga *v = ctx;
    uint8_t small[16], dispi[DISPI_COUNT * 2];
    small_registers(v, small);
    for (uint32_t i = 0; i < DISPI_COUNT; i++)
        vmm_store_le16(dispi + 2 * i, v->r.dispi[i]);
    (void)vmm_state_put_u32(w, "memory-mib", (uint32_t)(v->vram_size >> 20));
    (void)vmm_state_put_bytes(w, "registers", small, sizeof(small));
    (void)vmm_state_put_bytes(w, "sequencer", v->r.sr, sizeof(v->r.sr));
    (void)vmm_state_put_bytes(w, "graphics", v->r.gr, sizeof(v->r.gr));
    (void)vmm_state_put_bytes(w, "attribute", v->r.ar, sizeof(v->r.ar));
    (void)vmm_state_put_bytes(w, "crtc", v->r.cr, sizeof(v->r.cr));
    (void)vmm_state_put_bytes(w, "palette", v->r.palette, sizeof(v->r.palette));
    (void)vmm_state_put_bytes(w, "dispi", dispi, sizeof(dispi));
    (void)vmm_state_put_u32(w, "dispi-index", v->dispi_index);
    (void)vmm_state_put_u32(w, "latch", v->latch);
    return save_memory(v, w);
}

/* Values that the guest could not have written are refused: indices are trusted later. */
static int check(const struct vmm_vga *v, const uint8_t s[16], const uint16_t *dispi,
                 struct vmm_error *err)
{
    uint32_t bits = dispi[DISPI_BPP];
    bool depth = bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32;
    if (s[1] > 0x3f || s[3] > 7 || s[4] > 15 || s[5] > 0x3f || s[7] > 1 || s[11] > 2)
        return vmm_error_set(err, -EINVAL, "registers: an index that the VGA does not have");
    if (!dispi[DISPI_XRES] || dispi[DISPI_XRES] > VMM_VGA_MAX_WIDTH || !dispi[DISPI_YRES] ||
        dispi[DISPI_YRES] > VMM_VGA_MAX_HEIGHT || !depth)
        return vmm_error_set(err, -EINVAL, "dispi: no such mode");
    if (dispi[DISPI_BANK] * UINT64_C(0x10000) >= v->vram_size ||
        dispi[DISPI_MEMORY_64K] != v->vram_size >> 16)
        return vmm_error_set(err, -EINVAL, "dispi: not of this frame buffer");
    return 0;
}

struct loaded {
    struct vga_registers r;
    uint8_t small[16];
    uint32_t dispi_index, latch;
    const uint8_t *map, *data;
};

static int get_registers(struct vmm_vga *v, struct vmm_state_reader *r, struct loaded *l,
                         struct vmm_error *err)
{
    uint8_t dispi[DISPI_COUNT * 2];
    uint32_t mib;
    int rc = vmm_state_get_u32(r, "memory-mib", UINT32_MAX, &mib, err);
    if (!rc && mib != v->vram_size >> 20)
        rc = vmm_error_set(err, -EINVAL, "memory-mib: saved with %u MiB, this has %u", mib,
                           (uint32_t)(v->vram_size >> 20));
    rc = rc ? rc : vmm_state_get_bytes(r, "registers", l->small, sizeof(l->small), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "sequencer", l->r.sr, sizeof(l->r.sr), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "graphics", l->r.gr, sizeof(l->r.gr), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "attribute", l->r.ar, sizeof(l->r.ar), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "crtc", l->r.cr, sizeof(l->r.cr), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "palette", l->r.palette, sizeof(l->r.palette), err);
    rc = rc ? rc : vmm_state_get_bytes(r, "dispi", dispi, sizeof(dispi), err);
    rc = rc ? rc : vmm_state_get_u32(r, "dispi-index", UINT16_MAX, &l->dispi_index, err);
    rc = rc ? rc : vmm_state_get_u32(r, "latch", UINT32_MAX, &l->latch, err);
    for (uint32_t i = 0; i < DISPI_COUNT && !rc; i++)
        l->r.dispi[i] = vmm_load_le16(dispi + 2 * i);
    l->r.misc = l->small[0];
    l->r.ar_index = l->small[1];
    l->r.dac_mask = l->small[2];
    return rc ? rc : check(v, l->small, l->r.dispi, err);
}

static int get_memory(const struct vmm_vga *v, struct vmm_state_reader *r, struct loaded *l,
                      struct vmm_error *err)
{
    const void *map, *data;
    size_t map_length, length;
    uint64_t used = 0;
    int rc = vmm_state_get_blob(r, "memory-pages", &map, &map_length, err);
    rc = rc ? rc : vmm_state_get_blob(r, "memory", &data, &length, err);
    if (rc)
        return rc;
    if (map_length != v->vram_size / VGA_PAGE / 8)
        return vmm_error_set(err, -EINVAL, "memory-pages: not of this frame buffer");
    for (size_t i = 0; i < map_length; i++)
        used += (uint32_t)__builtin_popcount(((const uint8_t *)map)[i]);
    if (used * VGA_PAGE != length)
        return vmm_error_set(err, -EINVAL, "memory: not as many pages as memory-pages says");
    l->map = map;
    l->data = data;
    return 0;
}

int vga_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_vga *v = ctx;
    struct loaded l = {.dispi_index = 0};
    (void)version;
    int rc = get_registers(v, r, &l, err);
    rc = rc ? rc : get_memory(v, r, &l, err);
    if (rc)
        return rc;
    const uint8_t *s = l.small;
    v->r = l.r;
    v->sr_index = s[3];
    v->gr_index = s[4];
    v->cr_index = s[5];
    v->feature = s[6];
    v->ar_flip_flop = s[7];
    v->dac_state = s[8];
    v->dac_read = s[9];
    v->dac_write = s[10];
    v->dac_component = s[11];
    memcpy(v->dac_pending, s + 12, 3);
    v->dispi_index = (uint16_t)l.dispi_index;
    v->latch = l.latch;
    for (uint64_t i = 0, n = 0; i < v->vram_size / VGA_PAGE; i++) {
        if (l.map[i / 8] >> i % 8 & 1)
            memcpy(v->vram + i * VGA_PAGE, l.data + n++ * VGA_PAGE, VGA_PAGE);
        else if (!is_zero(v->vram + i * VGA_PAGE)) /* pages never touched stay so */
            memset(v->vram + i * VGA_PAGE, 0, VGA_PAGE);
    }
    v->redraw = true;
    vga_changed(v);
    return 0;
}
