/* SPDX-License-Identifier: BSD-3-Clause */
/* The DMA controllers of PCs: two Intel 8237A in cascade, with page registers. Names as in its data sheet. */
#include <libvmm/floppy.h>

#include "base/util.h"

#include <stdlib.h>

#define MODE_TRANSFER 0x0cu
#define MODE_WRITE    0x04u /* to memory */
#define MODE_READ     0x08u
#define MODE_AUTO     0x10u
#define MODE_DOWN     0x20u
#define MODE_CASCADE  0xc0u
#define COMMAND_OFF   0x04u

struct channel {
    uint16_t base_address, base_count, address, count;
    uint8_t mode, page;
};

struct controller {
    struct channel channels[4];
    uint8_t command, status, mask,
        flip; /* status: terminal counts; flip: the next byte is the high one */
};

struct vmm_dma {
    struct vmm_device *device;
    struct vmm_memory *memory;
    struct controller controllers[2];
    uint8_t pages[16]; /* as they are read back, by port */
};

/* Which channel a page register is for; 8: none. */
static const uint8_t page_channel[16] = {8, 2, 3, 1, 8, 8, 8, 0, 8, 6, 7, 5, 8, 8, 8, 4};

/* Registers ------------------------------------------------------------------------------------ */

static void put_byte(uint16_t *to, uint8_t flip, uint8_t value)
{
    *to = (uint16_t)(flip ? (*to & 0xff) | value << 8 : (*to & 0xff00) | value);
}

static void write_channel(struct controller *c, uint32_t reg, uint8_t value)
{
    struct channel *ch = &c->channels[reg >> 1];
    put_byte(reg & 1 ? &ch->base_count : &ch->base_address, c->flip, value);
    put_byte(reg & 1 ? &ch->count : &ch->address, c->flip, value);
    c->flip ^= 1;
}

static uint8_t read_channel(struct controller *c, uint32_t reg)
{
    const struct channel *ch = &c->channels[reg >> 1];
    uint16_t value = reg & 1 ? ch->count : ch->address;
    uint8_t byte = (uint8_t)(c->flip ? value >> 8 : value);
    c->flip ^= 1;
    return byte;
}

static void clear(struct controller *c)
{
    c->command = c->status = c->flip = 0;
    c->mask = 15;
}

static void write_register(struct controller *c, uint32_t reg, uint8_t value)
{
    uint8_t bit = (uint8_t)(1u << (value & 3));
    switch (reg) {
    case 8:
        c->command = value;
        break;
    case 10: /* one mask bit */
        c->mask = (uint8_t)(value & 4 ? c->mask | bit : c->mask & ~bit);
        break;
    case 11:
        c->channels[value & 3].mode = value & 0xfc;
        break;
    case 12:
        c->flip = 0;
        break;
    case 13:
        clear(c);
        break;
    case 14:
        c->mask = 0;
        break;
    case 15:
        c->mask = value & 15;
        break;
    default: /* 9: requests by software, which only memory to memory has a use for */
        if (reg < 8)
            write_channel(c, reg, value);
        break;
    }
}

static uint8_t read_register(struct controller *c, uint32_t reg)
{
    uint8_t status = c->status;
    if (reg < 8)
        return read_channel(c, reg);
    if (reg == 8) {
        c->status = 0;
        return status;
    }
    return reg == 15 ? c->mask | 0xf0 : 0;
}

static uint64_t low_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)width;
    return read_register(&((struct vmm_dma *)ctx)->controllers[0], (uint32_t)offset);
}

static void low_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)width;
    write_register(&((struct vmm_dma *)ctx)->controllers[0], (uint32_t)offset, (uint8_t)value);
}

/* The second one's registers are at even addresses. */
static uint64_t high_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)width;
    return read_register(&((struct vmm_dma *)ctx)->controllers[1], (uint32_t)offset / 2);
}

static void high_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)width;
    write_register(&((struct vmm_dma *)ctx)->controllers[1], (uint32_t)offset / 2, (uint8_t)value);
}

static uint64_t page_read(void *ctx, uint64_t offset, uint32_t width, uint32_t first)
{
    (void)width;
    return ((struct vmm_dma *)ctx)->pages[first + offset];
}

static void page_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value, uint32_t first)
{
    struct vmm_dma *dma = ctx;
    uint32_t port = (uint32_t)offset + first, n = page_channel[port];
    (void)width;
    dma->pages[port] = (uint8_t)value;
    if (n < 8)
        dma->controllers[n / 4].channels[n % 4].page = (uint8_t)value;
}

#define PAGE_OPS(first)                                                                            \
    static uint64_t page_read_##first(void *ctx, uint64_t offset, uint32_t width)                  \
    {                                                                                              \
        return page_read(ctx, offset, width, first);                                               \
    }                                                                                              \
    static void page_write_##first(void *ctx, uint64_t offset, uint32_t width, uint64_t value)     \
    {                                                                                              \
        page_write(ctx, offset, width, value, first);                                              \
    }
PAGE_OPS(1)
PAGE_OPS(7)
PAGE_OPS(9)
PAGE_OPS(15)

/* Transfers ------------------------------------------------------------------------------------ */

static void count_down(struct controller *c, uint32_t n, uint32_t units, bool *end)
{
    struct channel *ch = &c->channels[n];
    *end = units > ch->count;
    ch->address = (uint16_t)(ch->mode & MODE_DOWN ? ch->address - units : ch->address + units);
    ch->count = (uint16_t)(ch->count - units);
    if (!*end)
        return;
    c->status |= (uint8_t)(1u << n);
    if (ch->mode & MODE_AUTO) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= (uint8_t)(1u << n);
    }
}

/* The address counter has 16 bits: it wraps within its page. */
static uint64_t place_of(const struct channel *ch, bool words, uint16_t address)
{
    return words ? (uint64_t)(ch->page & 0xfe) << 16 | (uint64_t)address << 1
                 : (uint64_t)ch->page << 16 | address;
}

static int move_units(struct vmm_dma *dma, const struct channel *ch, bool words, uint8_t *data,
                      uint32_t units, bool write)
{
    uint32_t size = words ? 2 : 1;
    uint16_t address = ch->address;
    for (uint32_t done = 0; done < units;) {
        uint32_t part = units - done, room = 0x10000u - address;
        part = ch->mode & MODE_DOWN ? 1 : part < room ? part : room;
        uint64_t at = place_of(ch, words, address);
        uint8_t *from = data + (size_t)done * size;
        int rc = write ? vmm_memory_write(dma->memory, at, from, (size_t)part * size)
                       : vmm_memory_read(dma->memory, at, from, (size_t)part * size);
        if (rc)
            return -EFAULT;
        address = (uint16_t)(ch->mode & MODE_DOWN ? address - part : address + part);
        done += part;
    }
    return 0;
}

int64_t vmm_dma_move(struct vmm_dma *dma, uint32_t channel, void *data, size_t length, bool write,
                     bool *end)
{
    bool words = channel > 4, over = false;
    uint32_t size = words ? 2 : 1, n = channel % 4;
    if (channel > 7 || channel == 4 || length % size)
        return -EINVAL;
    struct controller *c = &dma->controllers[channel / 4];
    struct channel *ch = &c->channels[n];
    vmm_device_lock(dma->device);
    uint32_t transfer = ch->mode & MODE_TRANSFER;
    int rc = 0;
    uint64_t units = length / size, most = (uint64_t)ch->count + 1;
    units = units < most ? units : most;
    if (c->mask >> n & 1 || c->command & COMMAND_OFF || (ch->mode & MODE_CASCADE) == MODE_CASCADE ||
        (transfer && transfer != (write ? MODE_WRITE : MODE_READ)))
        rc = -EAGAIN;
    else if (transfer) /* else it verifies: it counts, and moves nothing */
        rc = move_units(dma, ch, words, data, (uint32_t)units, write);
    if (!rc && units)
        count_down(c, n, (uint32_t)units, &over);
    vmm_device_unlock(dma->device);
    if (end)
        *end = over;
    return rc ? rc : (int64_t)(units * size);
}

/* Life ----------------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_dma *dma = ctx;
    memset(dma->controllers, 0, sizeof(dma->controllers));
    memset(dma->pages, 0, sizeof(dma->pages));
    clear(&dma->controllers[0]);
    clear(&dma->controllers[1]);
}

#define CHANNEL_BYTES 10u
#define STATE_BYTES   (2u * (4u * CHANNEL_BYTES + 4u))

static int save(void *ctx, struct vmm_state_writer *w)
{
    const struct vmm_dma *dma = ctx;
    uint8_t bytes[STATE_BYTES], *b = bytes;
    for (uint32_t i = 0; i < 2; i++) {
        const struct controller *c = &dma->controllers[i];
        for (uint32_t k = 0; k < 4; k++, b += CHANNEL_BYTES) {
            vmm_store_le16(b, c->channels[k].base_address);
            vmm_store_le16(b + 2, c->channels[k].base_count);
            vmm_store_le16(b + 4, c->channels[k].address);
            vmm_store_le16(b + 6, c->channels[k].count);
            b[8] = c->channels[k].mode;
            b[9] = c->channels[k].page;
        }
        *b++ = c->command;
        *b++ = c->status;
        *b++ = c->mask;
        *b++ = c->flip;
    }
    (void)vmm_state_put_bytes(w, "pages", dma->pages, sizeof(dma->pages));
    return vmm_state_put_bytes(w, "controllers", bytes, sizeof(bytes));
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_dma *dma = ctx;
    uint8_t bytes[STATE_BYTES], pages[16];
    const uint8_t *b = bytes;
    (void)version;
    int rc = vmm_state_get_bytes(r, "pages", pages, sizeof(pages), err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "controllers", bytes, sizeof(bytes), err);
    if (rc)
        return rc;
    memcpy(dma->pages, pages, sizeof(pages));
    for (uint32_t i = 0; i < 2; i++) {
        struct controller *c = &dma->controllers[i];
        for (uint32_t k = 0; k < 4; k++, b += CHANNEL_BYTES) {
            c->channels[k].base_address = vmm_load_le16(b);
            c->channels[k].base_count = vmm_load_le16(b + 2);
            c->channels[k].address = vmm_load_le16(b + 4);
            c->channels[k].count = vmm_load_le16(b + 6);
            c->channels[k].mode = b[8] & 0xfc;
            c->channels[k].page = b[9];
        }
        c->command = *b++;
        c->status = *b++ & 15;
        c->mask = *b++ & 15;
        c->flip = *b++ & 1;
    }
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_dma *dma = ctx;
    vmm_memory_unref(dma->memory);
    free(dma);
}

int vmm_dma_new(const char *name, struct vmm_memory *memory, struct vmm_dma **out)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    if (!name || !memory || !out)
        return -EINVAL;
    struct vmm_dma *dma = calloc(1, sizeof(*dma));
    if (!dma)
        return -ENOMEM;
    int rc = vmm_device_new(name, &ops, dma, &dma->device);
    if (rc) {
        free(dma);
        return rc;
    }
    dma->memory = vmm_memory_ref(memory);
    reset(dma);
    *out = dma;
    return 0;
}

struct vmm_dma *vmm_dma_unref(struct vmm_dma *dma)
{
    if (dma)
        vmm_device_unref(dma->device);
    return NULL;
}

struct vmm_device *vmm_dma_device(struct vmm_dma *dma)
{
    return dma->device;
}

int vmm_dma_attach(struct vmm_dma *dma, struct vmm_bus *ports, struct vmm_error *err)
{
#define OPS(r, w)                                                                                  \
    {                                                                                              \
        .size = sizeof(struct vmm_region_ops), .read = r, .write = w, .min_width = 1,              \
        .max_width = 1                                                                             \
    }
    static const struct {
        uint16_t port, length;
        struct vmm_region_ops ops;
    } places[] = {
        {0x00, 16, OPS(low_read, low_write)},      {0xc0, 32, OPS(high_read, high_write)},
        {0x81, 3, OPS(page_read_1, page_write_1)}, {0x87, 1, OPS(page_read_7, page_write_7)},
        {0x89, 3, OPS(page_read_9, page_write_9)}, {0x8f, 1, OPS(page_read_15, page_write_15)},
    };
#undef OPS
    struct vmm_region *added[VMM_ARRAY_SIZE(places)] = {0};
    int rc = 0;
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(places) && !rc; i++) {
        struct vmm_region_options o = VMM_REGION_OPTIONS_INIT;
        o.name = vmm_device_name(dma->device);
        o.address = places[i].port;
        o.length = places[i].length;
        o.device = dma->device;
        o.ops = &places[i].ops;
        o.ctx = dma;
        rc = vmm_bus_add(ports, &o, &added[i], err);
    }
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(places) && rc; i++)
        if (added[i])
            vmm_bus_remove(ports, added[i]);
    return rc;
}
