/* SPDX-License-Identifier: BSD-3-Clause */
/* The GPIO controller PL061: eight pins (ARM DDI 0190B, chapter 3). */
#include "devices/arm/primecell.h"

#include <stdlib.h>

#define PART     0x061u
#define REVISION 0u
#define PINS     8u

#define DATA_END  0x400u /* the address's bits 2 to 9 say which pins an access is about */
#define REG_DIR   0x400u
#define REG_IS    0x404u
#define REG_IBE   0x408u
#define REG_IEV   0x40cu
#define REG_IE    0x410u
#define REG_RIS   0x414u
#define REG_MIS   0x418u
#define REG_IC    0x41cu
#define REG_AFSEL 0x420u

enum { DIR, IS, IBE, IEV, IE, EDGES, AFSEL, OUTPUT, INPUT, FIELDS };
static const char *const names[FIELDS] = {"dir",   "is",    "ibe",    "iev",  "ie",
                                          "edges", "afsel", "output", "input"};

struct vmm_pl061 {
    struct vmm_device *device;
    struct vmm_irq_line *irq;
    void (*changed)(void *ctx, uint8_t pins, uint8_t levels);
    void *ctx;
    uint8_t v[FIELDS]; /* registers; EDGES: seen and not cleared; INPUT: what comes from outside */
};

/* The levels of all pins: outputs are what the guest says. */
static uint8_t levels(const struct vmm_pl061 *g)
{
    return (uint8_t)((g->v[OUTPUT] & g->v[DIR]) | (g->v[INPUT] & ~g->v[DIR]));
}

/* Level-sensitive pins (IS) are as they are now, the others as they were seen. */
static uint8_t raw_status(const struct vmm_pl061 *g)
{
    uint8_t now = (uint8_t) ~(levels(g) ^ g->v[IEV]);
    return (uint8_t)((now & g->v[IS]) | (g->v[EDGES] & ~g->v[IS]));
}

static void update_irq(struct vmm_pl061 *g)
{
    (void)vmm_irq_line_set(g->irq, (raw_status(g) & g->v[IE]) != 0);
}

static void note_edges(struct vmm_pl061 *g, uint8_t before)
{
    uint8_t after = levels(g), change = before ^ after;
    uint8_t wanted = (uint8_t)(g->v[IBE] | ~(after ^ g->v[IEV]));
    g->v[EDGES] |= (uint8_t)(change & wanted & ~g->v[IS]);
}

static uint64_t read_page(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_pl061 *g = ctx;
    (void)width;
    if (offset % 4)
        return 0;
    if (offset < DATA_END)
        return levels(g) & (offset >> 2);
    switch (offset) {
    case REG_DIR:
        return g->v[DIR];
    case REG_IS:
        return g->v[IS];
    case REG_IBE:
        return g->v[IBE];
    case REG_IEV:
        return g->v[IEV];
    case REG_IE:
        return g->v[IE];
    case REG_RIS:
        return raw_status(g);
    case REG_MIS:
        return raw_status(g) & g->v[IE];
    case REG_AFSEL:
        return g->v[AFSEL];
    default:
        return offset >= PRIMECELL_ID_START ? primecell_id((uint32_t)offset, PART, REVISION) : 0;
    }
}

static void write_register(struct vmm_pl061 *g, uint64_t offset, uint8_t value)
{
    static const uint8_t plain[] = {DIR, IS, IBE, IEV, IE};
    if (offset < DATA_END) {
        uint8_t mask = (uint8_t)(offset >> 2);
        g->v[OUTPUT] = (uint8_t)((g->v[OUTPUT] & ~mask) | (value & mask));
    } else if (offset <= REG_IE) {
        g->v[plain[(offset - REG_DIR) / 4]] = value;
    } else if (offset == REG_IC) {
        g->v[EDGES] &= (uint8_t)~value;
    } else if (offset == REG_AFSEL) {
        g->v[AFSEL] = value;
    }
}

static void write_page(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pl061 *g = ctx;
    (void)width;
    if (offset % 4)
        return;
    uint8_t before = levels(g), driven = g->v[OUTPUT] & g->v[DIR];
    write_register(g, offset, (uint8_t)value);
    note_edges(g, before);
    if (g->changed && driven != (g->v[OUTPUT] & g->v[DIR]))
        g->changed(g->ctx, g->v[DIR], g->v[OUTPUT] & g->v[DIR]);
    update_irq(g);
}

int vmm_pl061_set_input(struct vmm_pl061 *g, uint32_t pin, uint32_t level)
{
    if (!g || pin >= PINS)
        return -EINVAL;
    vmm_device_lock(g->device);
    uint8_t before = levels(g);
    uint8_t bit = (uint8_t)(1u << pin);
    g->v[INPUT] = (uint8_t)(level ? g->v[INPUT] | bit : g->v[INPUT] & ~bit);
    note_edges(g, before);
    update_irq(g);
    vmm_device_unlock(g->device);
    return 0;
}

/* What is connected from outside stays as it is. */
static void reset(void *ctx)
{
    struct vmm_pl061 *g = ctx;
    memset(g->v, 0, INPUT);
    update_irq(g);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pl061 *g = ctx;
    int rc = 0;
    for (int i = 0; i < FIELDS; i++)
        rc = vmm_state_put_u32(w, names[i], g->v[i]);
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pl061 *g = ctx;
    uint32_t in[FIELDS] = {0};
    (void)version;
    for (int i = 0; i < FIELDS; i++) {
        int rc = vmm_state_get_u32(r, names[i], 0xff, &in[i], err);
        if (rc)
            return rc;
    }
    for (int i = 0; i < FIELDS; i++)
        g->v[i] = (uint8_t)in[i];
    update_irq(g);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_pl061 *g = ctx;
    vmm_irq_line_free(g->irq);
    free(g);
}

int vmm_pl061_new(const struct vmm_pl061_options *given, struct vmm_pl061 **out)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    struct vmm_pl061_options o;
    if (!given || !out)
        return -EINVAL;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return rc;
    struct vmm_pl061 *g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    g->changed = o.output;
    g->ctx = o.ctx;
    rc = vmm_device_new(o.name, &ops, g, &g->device);
    if (rc) {
        free(g);
        return rc;
    }
    g->irq = o.irq;
    *out = g;
    return 0;
}

struct vmm_pl061 *vmm_pl061_unref(struct vmm_pl061 *g)
{
    if (g)
        vmm_device_unref(g->device);
    return NULL;
}

struct vmm_device *vmm_pl061_device(struct vmm_pl061 *g)
{
    return g->device;
}

int vmm_pl061_attach(struct vmm_pl061 *g, struct vmm_bus *bus, uint64_t address,
                     struct vmm_error *err)
{
    return primecell_attach(g->device, g, read_page, write_page, bus, address, err);
}
