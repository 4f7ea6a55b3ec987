/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Firmware configuration (QEMU's docs/specs/fw_cfg.rst). The guest selects an item and reads it byte
 * by byte, or names it in a DMA request in its memory, which is read once and then trusted no more
 * than its address and length allow.
 */
#include "base/util.h"

#include <libvmm/fwcfg.h>

#include <stdlib.h>

#define SELECTOR_ARCH  0x8000u
#define SELECTOR_WRITE 0x4000u /* of old versions; means nothing now */
#define ID_TRADITIONAL 1u
#define ID_DMA         2u

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */
#define ITEMS         (VMM_FWCFG_FILE_FIRST + VMM_FWCFG_FILES)
#define DIR_ENTRY     64u
#define REQUEST_SIZE  16u

struct item {
    uint8_t *data;
    size_t length;
    char name[VMM_FWCFG_NAME_SIZE];
    bool writable;
    void (*written)(void *ctx, const void *data, size_t length);
    void (*refresh)(void *ctx, void *data, size_t length);
    void *ctx;
};

struct vmm_fwcfg {
    struct vmm_device *device;
    struct vmm_memory *memory;
    struct item items[ITEMS], arch[VMM_FWCFG_FILE_DIR];
    uint32_t files;
    uint32_t selector;
    uint32_t offset; /* of the next byte; never beyond the item's length */
    uint32_t dma_high;
};

/* Items ---------------------------------------------------------------------------------------- */

static struct item *find(struct vmm_fwcfg *f, uint32_t key)
{
    uint32_t number = key & ~(SELECTOR_ARCH | SELECTOR_WRITE);
    if (key & SELECTOR_ARCH)
        return number < VMM_ARRAY_SIZE(f->arch) ? &f->arch[number] : NULL;
    return number < ITEMS ? &f->items[number] : NULL;
}

static struct item *find_name(struct vmm_fwcfg *f, const char *name)
{
    for (uint32_t i = 0; i < f->files; i++)
        if (strcmp(f->items[VMM_FWCFG_FILE_FIRST + i].name, name) == 0)
            return &f->items[VMM_FWCFG_FILE_FIRST + i];
    return NULL;
}

static int fill(struct item *item, const void *data, size_t length)
{
    if (length > VMM_FWCFG_FILE_MAX)
        return -EFBIG;
    uint8_t *copy = malloc(length ? length : 1);
    if (!copy)
        return -ENOMEM;
    if (length)
        memcpy(copy, data, length);
    free(item->data);
    item->data = copy;
    item->length = length;
    return 0;
}

static void put_be32(uint8_t *to, uint32_t value)
{
    value = htobe32(value);
    memcpy(to, &value, sizeof(value));
}

static uint32_t get_be32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    return be32toh(value);
}

/* The directory: how many, then size, selector and name of each. */
static int make_directory(struct vmm_fwcfg *f)
{
    uint8_t directory[4 + VMM_FWCFG_FILES * DIR_ENTRY] = {0};
    put_be32(directory, f->files);
    for (uint32_t i = 0; i < f->files; i++) {
        const struct item *item = &f->items[VMM_FWCFG_FILE_FIRST + i];
        uint8_t *entry = directory + 4 + (size_t)i * DIR_ENTRY;
        put_be32(entry, (uint32_t)item->length);
        entry[4] = (uint8_t)((VMM_FWCFG_FILE_FIRST + i) >> 8);
        entry[5] = (uint8_t)(VMM_FWCFG_FILE_FIRST + i);
        memcpy(entry + 8, item->name, sizeof(item->name));
    }
    return fill(&f->items[VMM_FWCFG_FILE_DIR], directory, 4 + (size_t)f->files * DIR_ENTRY);
}

/* The offset stays inside what is selected, whatever that has become. */
static void clamp_offset(struct vmm_fwcfg *f)
{
    const struct item *item = find(f, f->selector);
    size_t length = item ? item->length : 0;
    f->offset = f->offset < length ? f->offset : (uint32_t)length;
}

static void select_item(struct vmm_fwcfg *f, uint32_t key)
{
    struct item *item = find(f, key);
    f->selector = key & 0xffff;
    f->offset = 0;
    if (item && item->refresh)
        item->refresh(item->ctx, item->data, item->length);
}

static uint8_t next_byte(struct vmm_fwcfg *f)
{
    const struct item *item = find(f, f->selector);
    return item && f->offset < item->length ? item->data[f->offset++] : 0;
}

/* DMA ------------------------------------------------------------------------------------------ */

/* Copy what there is of the item, and zeros for the rest. */
static int dma_read(struct vmm_fwcfg *f, const struct item *item, uint64_t address, uint32_t length)
{
    size_t left = item ? item->length - f->offset : 0;
    uint32_t have = length < left ? length : (uint32_t)left;
    if (!vmm_memory_valid(f->memory, address, length, true))
        return -EFAULT;
    int rc = have ? vmm_memory_write(f->memory, address, item->data + f->offset, have) : 0;
    f->offset += rc ? 0 : have;
    return rc || have == length ? rc : vmm_memory_fill(f->memory, address + have, 0, length - have);
}

static int dma_write(struct vmm_fwcfg *f, struct item *item, uint64_t address, uint32_t length)
{
    if (!item || !item->writable || length > item->length - f->offset)
        return -EINVAL;
    int rc = vmm_memory_read(f->memory, address, item->data + f->offset, length);
    if (rc)
        return rc;
    f->offset += length;
    if (item->written)
        item->written(item->ctx, item->data, item->length);
    return 0;
}

static void dma_skip(struct vmm_fwcfg *f, const struct item *item, uint32_t length)
{
    size_t left = item ? item->length - f->offset : 0;
    f->offset += length < left ? length : (uint32_t)left;
}

static int dma_do(struct vmm_fwcfg *f, uint32_t control, uint64_t address, uint32_t length)
{
    if (control & DMA_SELECT)
        select_item(f, control >> 16);
    struct item *item = find(f, f->selector);
    if (length == 0)
        return 0;
    if (control & DMA_READ)
        return dma_read(f, item, address, length);
    if (control & DMA_WRITE)
        return dma_write(f, item, address, length);
    if (control & DMA_SKIP)
        dma_skip(f, item, length);
    return 0;
}

/* A request: control, length and address, big-endian; the answer goes where control was. */
static void dma_request(struct vmm_fwcfg *f, uint64_t where)
{
    uint8_t request[REQUEST_SIZE], answer[4];
    int rc = vmm_memory_read(f->memory, where, request, sizeof(request));
    if (!rc) {
        uint64_t address = (uint64_t)get_be32(request + 8) << 32 | get_be32(request + 12);
        rc = dma_do(f, get_be32(request), address, get_be32(request + 4));
    }
    put_be32(answer, rc ? DMA_ERROR : 0);
    (void)vmm_memory_write(f->memory, where, answer, sizeof(answer));
}

/* The address register, big-endian in its eight bytes; writing the low half starts the request. */
static void dma_address_write(struct vmm_fwcfg *f, uint64_t offset, uint32_t width, uint64_t value)
{
    if (width == 8 && offset == 0) {
        f->dma_high = 0;
        dma_request(f, htobe64(value));
    } else if (width == 4 && offset == 0) {
        f->dma_high = htobe32((uint32_t)value);
    } else if (width == 4 && offset == 4) {
        uint64_t where = (uint64_t)f->dma_high << 32 | htobe32((uint32_t)value);
        f->dma_high = 0;
        dma_request(f, where);
    }
}

static uint64_t dma_address_read(uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < width && offset + i < 8; i++)
        value |= (DMA_SIGNATURE >> (56 - 8 * (offset + i)) & 0xff) << (8 * i);
    return value;
}

/* Registers ------------------------------------------------------------------------------------ */

static uint64_t port_read(void *ctx, uint64_t offset, uint32_t width)
{
    return offset == 1 && width == 1 ? next_byte(ctx) : 0;
}

static void port_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    if (offset == 0 && width == 2)
        select_item(ctx, (uint32_t)value);
}

static uint64_t dma_port_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)ctx;
    return dma_address_read(offset, width);
}

static void dma_port_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    dma_address_write(ctx, offset, width, value);
}

#define MMIO_SELECTOR 8u
#define MMIO_DMA      16u

/* Data is a string of bytes in any width: the first is at the lowest address. */
static uint64_t mmio_read(void *ctx, uint64_t offset, uint32_t width)
{
    struct vmm_fwcfg *f = ctx;
    uint64_t value = 0;
    if (offset >= MMIO_DMA)
        return f->memory ? dma_address_read(offset - MMIO_DMA, width) : 0;
    for (uint32_t i = 0; i < width && offset == 0; i++)
        value |= (uint64_t)next_byte(f) << (8 * i);
    return value;
}

static void mmio_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_fwcfg *f = ctx;
    if (offset == MMIO_SELECTOR && width == 2)
        select_item(f, htobe16((uint16_t)value));
    else if (offset >= MMIO_DMA && f->memory)
        dma_address_write(f, offset - MMIO_DMA, width, value);
}

/* The device ----------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_fwcfg *f = ctx;
    select_item(f, VMM_FWCFG_SIGNATURE);
    f->dma_high = 0;
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_fwcfg *f = ctx;
    (void)vmm_state_put_u32(w, "selector", f->selector);
    (void)vmm_state_put_u32(w, "offset", f->offset);
    int rc = vmm_state_put_u32(w, "dma-high", f->dma_high);
    for (uint32_t i = 0; i < f->files && !rc; i++) {
        const struct item *item = &f->items[VMM_FWCFG_FILE_FIRST + i];
        char name[] = {'f', 'i', 'l', 'e', (char)('0' + i / 10), (char)('0' + i % 10), 0};
        if (item->writable || item->refresh)
            rc = vmm_state_put_bytes(w, name, item->data, item->length);
    }
    return rc;
}

/* In two rounds: everything is there and of the right length, then it is taken over. */
static int load_files(struct vmm_fwcfg *f, struct vmm_state_reader *r, bool take,
                      struct vmm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < f->files && !rc; i++) {
        struct item *item = &f->items[VMM_FWCFG_FILE_FIRST + i];
        char name[] = {'f', 'i', 'l', 'e', (char)('0' + i / 10), (char)('0' + i % 10), 0};
        const void *data;
        size_t length;
        if (!item->writable && !item->refresh)
            continue;
        rc = vmm_state_get_blob(r, name, &data, &length, err);
        if (!rc && length != item->length)
            rc = vmm_error_set(err, -EINVAL, "%s/%s: %zu bytes, the file has %zu",
                               vmm_device_name(f->device), name, length, item->length);
        if (!rc && take && length)
            memcpy(item->data, data, length);
    }
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_fwcfg *f = ctx;
    uint32_t selector, offset, high;
    (void)version;
    int rc = vmm_state_get_u32(r, "selector", UINT16_MAX, &selector, err);
    rc = rc ? rc : vmm_state_get_u32(r, "offset", VMM_FWCFG_FILE_MAX, &offset, err);
    rc = rc ? rc : vmm_state_get_u32(r, "dma-high", UINT32_MAX, &high, err);
    rc = rc ? rc : load_files(f, r, false, err);
    rc = rc ? rc : load_files(f, r, true, err);
    if (rc)
        return rc;
    f->selector = selector;
    f->offset = offset;
    f->dma_high = high;
    clamp_offset(f);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_fwcfg *f = ctx;
    for (uint32_t i = 0; i < ITEMS; i++)
        free(f->items[i].data);
    for (uint32_t i = 0; i < VMM_ARRAY_SIZE(f->arch); i++)
        free(f->arch[i].data);
    vmm_memory_unref(f->memory);
    free(f);
}

static int fill_fixed(struct vmm_fwcfg *f)
{
    uint32_t id = htole32(ID_TRADITIONAL | (f->memory ? ID_DMA : 0));
    int rc = fill(&f->items[VMM_FWCFG_SIGNATURE], "QEMU", 4);
    rc = rc ? rc : fill(&f->items[VMM_FWCFG_ID], &id, sizeof(id));
    return rc ? rc : make_directory(f);
}

int vmm_fwcfg_new(const struct vmm_fwcfg_options *given, struct vmm_fwcfg **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_fwcfg_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return rc;
    struct vmm_fwcfg *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    rc = vmm_device_new(o.name, &ops, f, &f->device);
    if (rc) {
        free(f);
        return rc;
    }
    f->memory = o.memory ? vmm_memory_ref(o.memory) : NULL;
    rc = fill_fixed(f);
    if (rc)
        vmm_device_unref(f->device);
    else
        *out = f;
    return rc;
}

struct vmm_fwcfg *vmm_fwcfg_unref(struct vmm_fwcfg *f)
{
    if (f)
        vmm_device_unref(f->device);
    return NULL;
}

struct vmm_device *vmm_fwcfg_device(struct vmm_fwcfg *f)
{
    return f->device;
}

static int attach(struct vmm_fwcfg *f, struct vmm_bus *bus, const struct vmm_region_ops *ops,
                  uint64_t address, uint64_t length, struct vmm_error *err)
{
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(f->device);
    region.address = address;
    region.length = length;
    region.device = f->device;
    region.ops = ops;
    region.ctx = f;
    return vmm_bus_add(bus, &region, NULL, err);
}

int vmm_fwcfg_attach_ports(struct vmm_fwcfg *f, struct vmm_bus *bus, uint64_t port,
                           struct vmm_error *err)
{
    static const struct vmm_region_ops ports = {.size = sizeof(ports),
                                                .read = port_read,
                                                .write = port_write,
                                                .min_width = 1,
                                                .max_width = 2};
    static const struct vmm_region_ops dma = {.size = sizeof(dma),
                                              .read = dma_port_read,
                                              .write = dma_port_write,
                                              .min_width = 1,
                                              .max_width = 8};
    int rc = attach(f, bus, &ports, port, 2, err);
    return rc || !f->memory ? rc : attach(f, bus, &dma, port + 4, 8, err);
}

int vmm_fwcfg_attach_mmio(struct vmm_fwcfg *f, struct vmm_bus *bus, uint64_t address,
                          struct vmm_error *err)
{
    static const struct vmm_region_ops mmio = {.size = sizeof(mmio),
                                               .read = mmio_read,
                                               .write = mmio_write,
                                               .min_width = 1,
                                               .max_width = 8};
    return attach(f, bus, &mmio, address, VMM_FWCFG_MMIO_LENGTH, err);
}

/* The embedder's side -------------------------------------------------------------------------- */

int vmm_fwcfg_set_item(struct vmm_fwcfg *f, uint32_t key, const void *data, size_t length)
{
    uint32_t number = key & ~SELECTOR_ARCH;
    if (number >= VMM_FWCFG_FILE_DIR || key == VMM_FWCFG_SIGNATURE || key == VMM_FWCFG_ID ||
        (!data && length))
        return -EINVAL;
    vmm_device_lock(f->device);
    int rc = fill(find(f, key), data, length);
    clamp_offset(f);
    vmm_device_unlock(f->device);
    return rc;
}

int vmm_fwcfg_set_u16(struct vmm_fwcfg *f, uint32_t key, uint16_t value)
{
    uint16_t le = htole16(value);
    return vmm_fwcfg_set_item(f, key, &le, sizeof(le));
}

int vmm_fwcfg_set_u32(struct vmm_fwcfg *f, uint32_t key, uint32_t value)
{
    uint32_t le = htole32(value);
    return vmm_fwcfg_set_item(f, key, &le, sizeof(le));
}

/* A new file, or the one that has the name. On failure nothing has changed. */
static int put_file(struct vmm_fwcfg *f, const char *name, const void *data, size_t length,
                    bool writable)
{
    struct item *item = find_name(f, name);
    if (item && writable)
        return -EEXIST;
    if (item && item->writable)
        return -EBUSY;
    bool fresh = !item;
    if (fresh && f->files == VMM_FWCFG_FILES)
        return -ENOSPC;
    if (fresh)
        item = &f->items[VMM_FWCFG_FILE_FIRST + f->files];
    int rc = fill(item, data, length);
    if (rc)
        return rc;
    if (fresh) {
        memset(item->name, 0, sizeof(item->name));
        memcpy(item->name, name, strlen(name));
        item->writable = writable;
        f->files++;
    }
    clamp_offset(f);
    rc = make_directory(f);
    if (rc && fresh)
        f->files--;
    return rc;
}

static int check_file(const char *name, const void *data, size_t length, struct vmm_error *err)
{
    if (!name || !*name || strlen(name) >= VMM_FWCFG_NAME_SIZE)
        return vmm_error_set(err, -EINVAL, "firmware file: a name of 1 to %u characters is needed",
                             VMM_FWCFG_NAME_SIZE - 1);
    if (!data && length)
        return vmm_error_set(err, -EINVAL, "firmware file %s: no data", name);
    return 0;
}

int vmm_fwcfg_set_file(struct vmm_fwcfg *f, const char *name, const void *data, size_t length,
                       struct vmm_error *err)
{
    int rc = check_file(name, data, length, err);
    if (rc)
        return rc;
    vmm_device_lock(f->device);
    rc = put_file(f, name, data, length, false);
    vmm_device_unlock(f->device);
    return rc ? vmm_error_set(err, rc, "firmware file %s: %s", name, strerror(-rc)) : 0;
}

int vmm_fwcfg_add_writable(struct vmm_fwcfg *f, const char *name, const void *data, size_t length,
                           void (*written)(void *ctx, const void *data, size_t length), void *ctx,
                           struct vmm_error *err)
{
    int rc = check_file(name, data, length, err);
    if (rc)
        return rc;
    vmm_device_lock(f->device);
    rc = put_file(f, name, data, length, true);
    if (!rc) {
        struct item *item = find_name(f, name);
        item->written = written;
        item->ctx = ctx;
    }
    vmm_device_unlock(f->device);
    return rc ? vmm_error_set(err, rc, "firmware file %s: %s", name, strerror(-rc)) : 0;
}

int vmm_fwcfg_set_refresh(struct vmm_fwcfg *f, const char *name,
                          void (*refresh)(void *ctx, void *data, size_t length), void *ctx)
{
    if (!name)
        return -EINVAL;
    vmm_device_lock(f->device);
    struct item *item = find_name(f, name);
    int rc = !item ? -ENOENT : item->writable ? -EBUSY : 0;
    if (!rc) {
        item->refresh = refresh;
        item->ctx = ctx;
    }
    vmm_device_unlock(f->device);
    return rc;
}

long vmm_fwcfg_get_file(struct vmm_fwcfg *f, const char *name, void *data, size_t length)
{
    vmm_device_lock(f->device);
    const struct item *item = find_name(f, name);
    long rc = item ? (long)item->length : -ENOENT;
    if (item && data && length)
        memcpy(data, item->data, length < item->length ? length : item->length);
    vmm_device_unlock(f->device);
    return rc;
}
