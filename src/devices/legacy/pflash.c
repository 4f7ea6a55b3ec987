/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NOR flash with Intel's command set (JESD68.01, CFI; Intel's data sheet 290606 §3, "commands" and
 * "status register"). A chip of eight bits takes wider accesses as cycles for a byte each. Two chips of 16 bits
 * side by side get the same commands at the same time, so they are one here: what it says of itself is
 * said in both halves of 32 bits.
 *
 * In the mode "read array" the chip's bytes are a ROM of the memory map, of which only writes come here.
 * In the others the ROM is switched off, and reads come by the bus.
 */
#include "base/util.h"

#include <libvmm/pflash.h>

#include <stdlib.h>
#include <sys/mman.h>

/* Commands, by the first write cycle. */
#define CMD_PROGRAM       0x10u
#define CMD_PROGRAM_OTHER 0x40u
#define CMD_ERASE         0x20u
#define CMD_CLEAR_STATUS  0x50u
#define CMD_LOCK          0x60u
#define CMD_READ_STATUS   0x70u
#define CMD_READ_ID       0x90u
#define CMD_QUERY         0x98u
#define CMD_WRITE_BUFFER  0xe8u
#define CMD_CONFIRM       0xd0u
#define CMD_READ_ARRAY    0xffu
#define LOCK_BLOCK        0x01u
#define LOCK_DOWN         0x2fu

#define STATUS_READY     0x80u
#define STATUS_ERASE     0x20u /* erase failed */
#define STATUS_PROGRAM   0x10u /* programming failed */
#define STATUS_PROTECTED 0x02u

#define BUFFER       64u /* bytes of a chip's write buffer: 2^6 in the query table */
#define BUFFER_SHIFT 6u
#define CHIPS_MAX    2u
#define BLOCK_MAX    (1u << 20)
#define QUERY_LENGTH 0x40u
#define MANUFACTURER 0x89u
#define DEVICE_ID    0x18u

enum mode { READ_ARRAY, READ_STATUS, READ_ID, READ_QUERY, MODES };
enum step { IDLE, PROGRAM, ERASE, LOCK, BUFFER_COUNT, BUFFER_DATA, BUFFER_CONFIRM, STEPS };

struct vmm_pflash {
    struct vmm_device *device;
    struct vmm_memory *memory;
    struct vmm_bus *mmio;
    struct vmm_region *region;
    struct vmm_memory_region *rom;
    uint64_t address, length;
    uint32_t width; /* bytes of a cycle: 1, or 4 for two chips */
    uint32_t chips;
    uint32_t block;
    bool read_only;
    int (*store)(void *ctx, uint64_t offset, const void *data, size_t length);
    void (*release)(void *ctx);
    void *ctx;
    uint8_t *data; /* the ROM's bytes, which its backing owns */

    uint32_t mode, step; /* what a read gives, and what the next write cycle is */
    uint8_t status;
    uint64_t buffer_offset; /* of the first byte of the write buffer, once one has come */
    uint32_t buffer_left;   /* data cycles still to come */
    uint32_t buffer_used;
    uint8_t buffer[BUFFER * CHIPS_MAX];
    bool buffer_bad; /* a byte lay outside of the buffer's aligned place */
};

/* What the chip says of itself (JESD68.01, table 1), a byte an address. */
static uint8_t query_byte(const struct vmm_pflash *f, uint64_t offset)
{
    uint64_t blocks = f->length / f->block - 1, length = f->length / f->chips;
    uint32_t log = 63 - (uint32_t)__builtin_clzll(length), block = f->block / f->chips;
    switch (offset) {
    case 0x10:
        return 'Q';
    case 0x11:
        return 'R';
    case 0x12:
        return 'Y';
    case 0x13: /* the primary command set: Intel's extended one */
        return 1;
    case 0x15: /* its table, below */
        return 0x31;
    case 0x1b: /* supply: 4.5 to 5.5 V */
        return 0x45;
    case 0x1c:
        return 0x55;
    case 0x1f: /* typical times: 2^n us for a byte, the buffer; 2^n ms for a block */
    case 0x20:
        return 7;
    case 0x21:
        return 10;
    case 0x23: /* at most so many times that: 2^n */
    case 0x24:
    case 0x25:
        return 4;
    case 0x27: /* the size is 2^n; rounded up where it is no power of two */
        return (uint8_t)(log + ((length & (length - 1)) != 0));
    case 0x2a:
        return BUFFER_SHIFT;
    case 0x2c: /* one region of equal blocks: their number - 1, and their size / 256 */
        return 1;
    case 0x2d:
        return (uint8_t)blocks;
    case 0x2e:
        return (uint8_t)(blocks >> 8);
    case 0x2f:
        return (uint8_t)(block >> 8);
    case 0x30:
        return (uint8_t)(block >> 16);
    case 0x31:
        return 'P';
    case 0x32:
        return 'R';
    case 0x33:
        return 'I';
    case 0x34: /* version 1.0 */
        return '1';
    case 0x35:
        return '0';
    default:
        return 0;
    }
}

static uint8_t id_byte(const struct vmm_pflash *f, uint64_t offset)
{
    uint64_t place = offset % f->block / f->width;
    if (place == 0)
        return offset < f->block ? MANUFACTURER : 0;
    return place == 1 ? DEVICE_ID : 0; /* else: not locked */
}

static uint32_t buffer_size(const struct vmm_pflash *f)
{
    return BUFFER * f->chips;
}

static void set_mode(struct vmm_pflash *f, uint32_t mode)
{
    if ((mode == READ_ARRAY) != (f->mode == READ_ARRAY))
        (void)vmm_memory_set_enabled(f->memory, f->rom, mode == READ_ARRAY, NULL);
    f->mode = mode;
}

/* Change bytes: kept first, then seen. */
static int change(struct vmm_pflash *f, uint64_t offset, const uint8_t *data, size_t length)
{
    int rc = f->store ? f->store(f->ctx, offset, data, length) : 0;
    if (!rc)
        memcpy(f->data + offset, data, length);
    return rc;
}

static bool may_change(struct vmm_pflash *f, uint8_t failed)
{
    if (f->read_only)
        f->status |= failed | STATUS_PROTECTED;
    return !f->read_only;
}

/* Programming clears bits only. */
static void program(struct vmm_pflash *f, uint64_t offset, const uint8_t *data, uint32_t length)
{
    uint8_t next[BUFFER * CHIPS_MAX];
    f->status |= STATUS_READY;
    if (!may_change(f, STATUS_PROGRAM))
        return;
    for (uint32_t i = 0; i < length; i++)
        next[i] = f->data[offset + i] & data[i];
    if (memcmp(next, f->data + offset, length) != 0 && change(f, offset, next, length))
        f->status |= STATUS_PROGRAM;
}

static void erase(struct vmm_pflash *f, uint64_t offset)
{
    uint8_t next[VMM_PFLASH_BLOCK];
    f->status |= STATUS_READY;
    offset -= offset % f->block;
    if (!may_change(f, STATUS_ERASE))
        return;
    memset(next, 0xff, sizeof(next));
    for (uint64_t end = offset + f->block; offset < end; offset += sizeof(next))
        if (memcmp(next, f->data + offset, sizeof(next)) != 0 &&
            change(f, offset, next, sizeof(next)))
            f->status |= STATUS_ERASE;
}

/* Both bits: the sequence of commands was wrong. */
static void wrong_sequence(struct vmm_pflash *f)
{
    f->status |= STATUS_READY | STATUS_ERASE | STATUS_PROGRAM;
}

/* The write buffer --------------------------------------------------------------------------------- */

static void buffer_count(struct vmm_pflash *f, uint8_t value)
{
    f->step = IDLE;
    if (value >= buffer_size(f) / f->width) {
        wrong_sequence(f);
        return;
    }
    f->step = BUFFER_DATA;
    f->buffer_left = value + 1u;
    f->buffer_used = 0;
    f->buffer_bad = false;
    memset(f->buffer, 0xff, sizeof(f->buffer));
}

/* They may come in any order inside one aligned place. */
static void buffer_data(struct vmm_pflash *f, uint64_t offset, const uint8_t *data, uint32_t length)
{
    uint64_t place = offset % buffer_size(f);
    if (f->buffer_used++ == 0)
        f->buffer_offset = offset - place;
    if (offset - place != f->buffer_offset)
        f->buffer_bad = true;
    else
        memcpy(f->buffer + place, data, length);
    if (--f->buffer_left == 0)
        f->step = BUFFER_CONFIRM;
}

static void buffer_confirm(struct vmm_pflash *f, uint8_t value)
{
    f->step = IDLE;
    if (value != CMD_CONFIRM || f->buffer_bad)
        wrong_sequence(f);
    else
        program(f, f->buffer_offset, f->buffer,
                buffer_size(f)); /* bytes that did not come are 0xff: no change */
}

/* Cycles ------------------------------------------------------------------------------------------- */

static void first_cycle(struct vmm_pflash *f, uint8_t value)
{
    switch (value) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_OTHER:
        f->step = PROGRAM;
        break;
    case CMD_ERASE:
        f->step = ERASE;
        break;
    case CMD_LOCK:
        f->step = LOCK;
        break;
    case CMD_WRITE_BUFFER:
        f->step = BUFFER_COUNT;
        f->status |= STATUS_READY; /* the buffer is free */
        break;
    case CMD_CLEAR_STATUS:
        /* EDK2 knows a flash by this: the ready bit goes too, until the next command sets it. */
        f->status = 0;
        set_mode(f, READ_ARRAY);
        return;
    case CMD_READ_ID:
        set_mode(f, READ_ID);
        return;
    case CMD_QUERY:
        set_mode(f, READ_QUERY);
        return;
    case CMD_READ_STATUS:
        break;
    default: /* 0xff, and what is none */
        set_mode(f, READ_ARRAY);
        return;
    }
    set_mode(f, READ_STATUS);
}

static void second_erase(struct vmm_pflash *f, uint64_t offset, uint8_t value)
{
    f->step = IDLE;
    if (value == CMD_CONFIRM)
        erase(f, offset);
    else
        wrong_sequence(f);
}

/* Blocks have no locks: the commands are taken and do nothing. */
static void second_lock(struct vmm_pflash *f, uint8_t value)
{
    f->step = IDLE;
    f->status |= STATUS_READY;
    if (value != LOCK_BLOCK && value != CMD_CONFIRM && value != LOCK_DOWN)
        wrong_sequence(f);
}

/* One cycle of the bus: `length` bytes that do not cross a multiple of the bus's width. Commands are in the lowest. */
static void write_cycle(struct vmm_pflash *f, uint64_t offset, const uint8_t *data, uint32_t length)
{
    uint8_t value = data[0];
    switch (f->step) {
    case PROGRAM:
        f->step = IDLE;
        program(f, offset, data, length);
        break;
    case ERASE:
        second_erase(f, offset, value);
        break;
    case LOCK:
        second_lock(f, value);
        break;
    case BUFFER_COUNT:
        buffer_count(f, value);
        break;
    case BUFFER_DATA:
        buffer_data(f, offset, data, length);
        break;
    case BUFFER_CONFIRM:
        buffer_confirm(f, value);
        break;
    default:
        first_cycle(f, value);
        break;
    }
}

static void write_cycles(struct vmm_pflash *f, uint64_t offset, uint32_t width, uint64_t value)
{
    uint8_t bytes[8];
    vmm_store_le64(bytes, value);
    for (uint32_t i = 0, part; i < width && offset + i < f->length; i += part) {
        uint32_t left = f->width - (uint32_t)((offset + i) % f->width);
        part = left < width - i ? left : width - i;
        write_cycle(f, offset + i, bytes + i, part);
    }
}

static void bus_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    write_cycles(ctx, offset, width, value);
}

/* Each chip says it in its lowest byte. */
static uint8_t read_byte(const struct vmm_pflash *f, uint64_t offset)
{
    if (f->mode == READ_ARRAY) /* another vCPU has just switched the ROM on */
        return f->data[offset];
    if (offset % f->width % 2)
        return 0;
    if (f->mode == READ_STATUS)
        return f->status;
    return f->mode == READ_ID ? id_byte(f, offset) : query_byte(f, offset / f->width);
}

static uint64_t bus_read(void *ctx, uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)read_byte(ctx, offset + i) << (8 * i);
    return value;
}

/* In the mode "read array"; without a lock, perhaps for several vCPUs at once. */
static void rom_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_pflash *f = ctx;
    vmm_device_lock(f->device);
    write_cycles(f, offset, width, value);
    vmm_device_unlock(f->device);
}

/* State -------------------------------------------------------------------------------------------- */

static void reset(void *ctx)
{
    struct vmm_pflash *f = ctx;
    f->step = IDLE;
    f->status = STATUS_READY;
    f->buffer_left = f->buffer_used = 0;
    f->buffer_bad = false;
    set_mode(f, READ_ARRAY);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_pflash *f = ctx;
    (void)vmm_state_put_u32(w, "mode", f->mode);
    (void)vmm_state_put_u32(w, "step", f->step);
    (void)vmm_state_put_u32(w, "status", f->status);
    (void)vmm_state_put_u64(w, "buffer-offset", f->buffer_offset);
    (void)vmm_state_put_u32(w, "buffer-left", f->buffer_left);
    (void)vmm_state_put_u32(w, "buffer-used", f->buffer_used);
    (void)vmm_state_put_u32(w, "buffer-bad", f->buffer_bad);
    (void)vmm_state_put_bytes(w, "buffer", f->buffer, buffer_size(f));
    return f->read_only ? 0 : vmm_state_put_bytes(w, "data", f->data, f->length);
}

/* What was read, before it is taken over. */
struct loaded {
    uint32_t mode, step, status, left, used, bad;
    uint64_t offset;
    uint8_t buffer[BUFFER * CHIPS_MAX];
    const void *data;
};

static int read_fields(struct vmm_pflash *f, struct vmm_state_reader *r, struct loaded *l,
                       struct vmm_error *err)
{
    size_t length = 0;
    int rc = vmm_state_get_u32(r, "mode", MODES - 1, &l->mode, err);
    rc = rc ? rc : vmm_state_get_u32(r, "step", STEPS - 1, &l->step, err);
    rc = rc ? rc : vmm_state_get_u32(r, "status", UINT8_MAX, &l->status, err);
    rc = rc ? rc
            : vmm_state_get_u64(r, "buffer-offset", f->length - buffer_size(f), &l->offset, err);
    rc = rc ? rc : vmm_state_get_u32(r, "buffer-left", BUFFER, &l->left, err);
    rc = rc ? rc : vmm_state_get_u32(r, "buffer-used", BUFFER, &l->used, err);
    rc = rc ? rc : vmm_state_get_u32(r, "buffer-bad", 1, &l->bad, err);
    rc = rc ? rc : vmm_state_get_bytes(r, "buffer", l->buffer, buffer_size(f), err);
    if (rc)
        return rc;
    if (l->offset % buffer_size(f) || (l->step == BUFFER_DATA) != (l->left != 0))
        return vmm_error_set(err, -EINVAL, "%s: a write buffer that cannot be",
                             vmm_device_name(f->device));
    if (f->read_only)
        return 0;
    rc = vmm_state_get_blob(r, "data", &l->data, &length, err);
    if (!rc && length != f->length)
        rc = vmm_error_set(err, -EINVAL, "%s/data: %zu bytes, the chip has %llu",
                           vmm_device_name(f->device), length, (unsigned long long)f->length);
    return rc;
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_pflash *f = ctx;
    struct loaded l = {0};
    (void)version;
    int rc = read_fields(f, r, &l, err);
    if (!rc && l.data && memcmp(l.data, f->data, f->length) != 0) {
        rc = change(f, 0, l.data, f->length);
        if (rc)
            return vmm_error_set(err, rc, "%s: its contents cannot be kept: %s",
                                 vmm_device_name(f->device), strerror(-rc));
    }
    if (rc)
        return rc;
    f->step = l.step;
    f->status = (uint8_t)l.status;
    f->buffer_offset = l.offset;
    f->buffer_left = l.left;
    f->buffer_used = l.used;
    f->buffer_bad = l.bad;
    memcpy(f->buffer, l.buffer, sizeof(f->buffer));
    set_mode(f, l.mode);
    return 0;
}

/* Life --------------------------------------------------------------------------------------------- */

/* The bytes belong to the backing: views of guest memory may outlive the chip. */
struct bytes {
    void *data;
    size_t length;
};

static void free_bytes(void *ctx)
{
    struct bytes *b = ctx;
    munmap(b->data, b->length);
    free(b);
}

static int new_bytes(struct vmm_pflash *f, struct vmm_backing **out, struct vmm_error *err)
{
    struct vmm_backing_options o = VMM_BACKING_OPTIONS_INIT;
    struct bytes *b = malloc(sizeof(*b));
    void *data = mmap(NULL, f->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!b || data == MAP_FAILED) {
        free(b);
        if (data != MAP_FAILED)
            munmap(data, f->length);
        return vmm_error_set(err, -ENOMEM, "out of memory");
    }
    b->data = data;
    b->length = f->length;
    o.kind = VMM_BACKING_HOST;
    o.host = data;
    o.length = f->length;
    o.release = free_bytes;
    o.ctx = b;
    int rc = vmm_backing_new(&o, out, err);
    if (rc)
        free_bytes(b);
    else
        f->data = data;
    return rc;
}

static int add_rom(struct vmm_pflash *f, const struct vmm_pflash_options *o, struct vmm_error *err)
{
    struct vmm_memory_region_options r = VMM_MEMORY_REGION_OPTIONS_INIT;
    int rc = new_bytes(f, &r.backing, err);
    if (rc)
        return rc;
    memset(f->data, 0xff, f->length);
    if (o->data_length)
        memcpy(f->data, o->data, o->data_length);
    r.name = o->name;
    r.type = VMM_MEMORY_ROM;
    r.length = f->length;
    r.rom_write = rom_write;
    r.ctx = f;
    rc = vmm_memory_region_new(&r, &f->rom, err);
    vmm_backing_unref(r.backing);
    return rc ? rc : vmm_memory_add(f->memory, f->rom, f->address, o->priority, err);
}

static int add_region(struct vmm_pflash *f, struct vmm_error *err)
{
    const struct vmm_region_ops ops = {.size = sizeof(ops),
                                       .read = bus_read,
                                       .write = bus_write,
                                       .min_width = 1,
                                       .max_width = f->width};
    struct vmm_region_options r = VMM_REGION_OPTIONS_INIT;
    r.name = vmm_device_name(f->device);
    r.address = f->address;
    r.length = f->length;
    r.device = f->device;
    r.ops = &ops;
    r.ctx = f;
    return vmm_bus_add(f->mmio, &r, &f->region, err);
}

static void destroy(void *ctx)
{
    struct vmm_pflash *f = ctx;
    vmm_memory_region_unref(f->rom);
    vmm_bus_unref(f->mmio);
    vmm_memory_unref(f->memory);
    if (f->release)
        f->release(f->ctx);
    free(f);
}

static int check_options(struct vmm_pflash_options *o, struct vmm_error *err)
{
    o->bank_width = o->bank_width ? o->bank_width : 1;
    o->block = o->block ? o->block : VMM_PFLASH_BLOCK;
    if ((o->bank_width != 1 && o->bank_width != 4) || o->block < VMM_PFLASH_BLOCK ||
        o->block > BLOCK_MAX || (o->block & (o->block - 1)))
        return vmm_error_set(err, -EINVAL,
                             "flash chip: a bus of 1 or 4 bytes and blocks of a power of two from "
                             "4096 bytes to 1 MiB are needed");
    if (!o->memory || !o->mmio)
        return vmm_error_set(err, -EINVAL, "a flash chip needs a memory map and an MMIO bus");
    if (!o->length || o->length > VMM_PFLASH_LENGTH_MAX || o->length % o->block ||
        o->address % o->block)
        return vmm_error_set(err, -EINVAL,
                             "flash chip: address and length are multiples of %u, the length at "
                             "most 256 MiB",
                             o->block);
    if (o->data_length > o->length || (o->data_length && !o->data))
        return vmm_error_set(err, -EINVAL, "flash chip: %zu bytes do not fit into it",
                             o->data_length);
    return 0;
}

static int put_in_place(struct vmm_pflash *f, const struct vmm_pflash_options *o,
                        struct vmm_error *err)
{
    int rc = add_rom(f, o, err);
    rc = rc ? rc : add_region(f, err);
    if (rc) {
        vmm_pflash_unref(f);
        return rc;
    }
    f->store = o->store; /* from now on the embedder's `release` is called */
    f->release = o->release;
    f->ctx = o->ctx;
    return 0;
}

int vmm_pflash_new(const struct vmm_pflash_options *given, struct vmm_pflash **out,
                   struct vmm_error *err)
{
    static const struct vmm_device_ops ops = {.size = sizeof(ops),
                                              .reset = reset,
                                              .state_version = 1,
                                              .save = save,
                                              .load = load,
                                              .destroy = destroy};
    struct vmm_pflash_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "flash chip: no options, or of another version");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_pflash *f = calloc(1, sizeof(*f));
    if (!f)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    rc = vmm_device_new(o.name, &ops, f, &f->device);
    if (rc) {
        free(f);
        return vmm_error_set(err, rc, "device \"%s\": %s", o.name ? o.name : "", strerror(-rc));
    }
    f->memory = vmm_memory_ref(o.memory);
    f->mmio = vmm_bus_ref(o.mmio);
    f->address = o.address;
    f->length = o.length;
    f->width = o.bank_width;
    f->chips = o.bank_width == 4 ? 2 : 1;
    f->block = o.block;
    f->read_only = o.read_only != 0;
    f->status = STATUS_READY;
    rc = put_in_place(f, &o, err);
    if (!rc)
        *out = f;
    return rc;
}

struct vmm_pflash *vmm_pflash_unref(struct vmm_pflash *f)
{
    if (!f)
        return NULL;
    if (f->rom)
        (void)vmm_memory_remove(f->memory, f->rom, NULL);
    if (f->region)
        vmm_bus_remove(f->mmio, f->region);
    f->region = NULL;
    vmm_device_unref(f->device);
    return NULL;
}

struct vmm_device *vmm_pflash_device(struct vmm_pflash *f)
{
    return f->device;
}

uint64_t vmm_pflash_length(const struct vmm_pflash *f)
{
    return f->length;
}

int vmm_pflash_read(struct vmm_pflash *f, uint64_t offset, void *data, size_t length)
{
    if (offset > f->length || length > f->length - offset)
        return -EINVAL;
    vmm_device_lock(f->device);
    if (length)
        memcpy(data, f->data + offset, length);
    vmm_device_unlock(f->device);
    return 0;
}
