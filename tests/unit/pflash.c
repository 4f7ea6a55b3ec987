/* SPDX-License-Identifier: BSD-3-Clause */
/* The flash chip: detection as firmware does it, commands in and out of order, failing stores, state. */
#include "base/util.h"
#include "test.h"

#include <libvmm/pflash.h>

#include <stdlib.h>

#define AT     UINT64_C(0xffc00000)
#define LENGTH UINT64_C(0x84000)

struct world {
    struct vmm_memory *memory;
    struct vmm_bus *mmio;
    struct vmm_pflash *flash;
    uint8_t kept[LENGTH];
    uint32_t stores, releases;
    int fail; /* what store returns */
};

static int store(void *ctx, uint64_t offset, const void *data, size_t length)
{
    struct world *w = ctx;
    assert_true(vmm_range_ok(offset, length) && offset + length <= LENGTH);
    w->stores++;
    if (!w->fail)
        memcpy(w->kept + offset, data, length);
    return w->fail;
}

static void release(void *ctx)
{
    ((struct world *)ctx)->releases++;
}

static struct vmm_pflash_options options(struct world *w)
{
    static const uint8_t image[] = {0x5a, 0xa5, 0xff, 0x00};
    struct vmm_pflash_options o = VMM_PFLASH_OPTIONS_INIT;
    o.name = "vars";
    o.memory = w->memory;
    o.mmio = w->mmio;
    o.address = AT;
    o.length = LENGTH;
    o.data = image;
    o.data_length = sizeof(image);
    o.store = store;
    o.release = release;
    o.ctx = w;
    return o;
}

static struct world *make(bool read_only)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vmm_error err = VMM_ERROR_INIT;
    assert_non_null(w);
    assert_int_equal(vmm_memory_new(NULL, &w->memory, &err), 0);
    assert_int_equal(vmm_bus_new("mmio", 52, &w->mmio), 0);
    struct vmm_pflash_options o = options(w);
    o.read_only = read_only;
    if (vmm_pflash_new(&o, &w->flash, &err))
        fail_msg("%s", err.text);
    return w;
}

static void drop(struct world *w)
{
    vmm_pflash_unref(w->flash);
    assert_int_equal(w->releases, 1);
    assert_true(!vmm_memory_valid(w->memory, AT, 1, false));
    vmm_memory_unref(w->memory);
    vmm_bus_unref(w->mmio);
    free(w);
}

/* As the vCPU loop asks: the memory map first, then the bus. */
static void put(struct world *w, uint64_t offset, uint32_t width, uint64_t value)
{
    if (vmm_memory_handle_write(w->memory, AT + offset, width, value) == -ENOENT)
        assert_int_equal(vmm_bus_write(w->mmio, AT + offset, width, value), 0);
}

static uint64_t get(struct world *w, uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    if (vmm_memory_handle_read(w->memory, AT + offset, width, &value) == -ENOENT)
        assert_int_equal(vmm_bus_read(w->mmio, AT + offset, width, &value), 0);
    return value;
}

static bool is_memory(struct world *w)
{
    return vmm_memory_valid(w->memory, AT, LENGTH, false);
}

/* EDK2 (OvmfPkg, QemuFlash.c): a byte that is neither of two commands; after Clear Status it is unchanged
 * to read; the status is then zero, which is neither the byte nor the command. */
static void firmware_knows_it_for_a_flash(void **state)
{
    struct world *w = make(false);
    (void)state;
    assert_true(is_memory(w));
    put(w, 0, 1, 0x50);
    assert_int_equal(get(w, 0, 1), 0x5a);
    put(w, 0, 1, 0x70);
    assert_false(is_memory(w));
    assert_int_equal(get(w, 0, 1), 0);
    put(w, 0, 1, 0xff);
    assert_true(is_memory(w));
    assert_int_equal(get(w, 0, 4), 0x00ffa55a);
    assert_int_equal(w->stores, 0);
    drop(w);
}

static void programs_and_erases(void **state)
{
    struct world *w = make(false);
    (void)state;
    put(w, 0x1000, 1, 0x10);
    put(w, 0x1000, 1, 0x3c);
    put(w, 0x1001, 1, 0x40);
    put(w, 0x1001, 1, 0x81);
    assert_int_equal(get(w, 0x1001, 1), 0x80); /* ready, no error */
    assert_int_equal(get(w, 0, 4), 0x80808080);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x1000, 2), 0x813c);
    assert_int_equal(w->kept[0x1000], 0x3c);
    assert_int_equal(w->kept[0x1001], 0x81);
    put(w, 0x1000, 1, 0x10); /* bits are only cleared */
    put(w, 0x1000, 1, 0xf0);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x1000, 1), 0x30);
    uint32_t stores = w->stores;
    put(w, 0x1000, 1, 0x10); /* nothing changes: nothing to keep */
    put(w, 0x1000, 1, 0xff);
    assert_int_equal(w->stores, stores);
    put(w, 0x1fff, 1, 0x20);
    put(w, 0x1fff, 1, 0xd0);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x1000, 2), 0xffff);
    assert_int_equal(get(w, 0, 1), 0x5a);
    assert_int_equal(w->kept[0x1000], 0xff);
    drop(w);
}

static void wide_accesses_are_cycles_of_a_byte(void **state)
{
    struct world *w = make(false);
    (void)state;
    put(w, 0x2000, 2, 0x7710); /* program, then its data, at the next address */
    assert_int_equal(get(w, 0x2000, 2), 0x8080);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x2000, 2), 0x77ff);
    put(w, LENGTH - 1, 8, 0x10); /* over its end */
    put(w, 0, 1, 0xff);
    put(w, 0, 1, 0xff);
    assert_true(is_memory(w));
    drop(w);
}

static void write_buffer(void **state)
{
    struct world *w = make(false);
    (void)state;
    put(w, 0x3000, 1, 0xe8);
    assert_int_equal(get(w, 0x3000, 1), 0x80);
    put(w, 0x3000, 1, 2); /* three bytes, in any order */
    put(w, 0x303f, 1, 3);
    put(w, 0x3000, 1, 1);
    put(w, 0x3020, 1, 2);
    put(w, 0x3000, 1, 0xd0);
    assert_int_equal(get(w, 0, 1), 0x80);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x3000, 1), 1);
    assert_int_equal(get(w, 0x3020, 1), 2);
    assert_int_equal(get(w, 0x303f, 1), 3);
    assert_int_equal(get(w, 0x3001, 1), 0xff);

    put(w, 0x3000, 1, 0xe8); /* more than it holds */
    put(w, 0x3000, 1, 0x40);
    assert_int_equal(get(w, 0, 1), 0xb0);
    put(w, 0, 1, 0x50);
    put(w, 0x3000, 1, 0xe8); /* a byte outside of the aligned place: nothing is written */
    put(w, 0x3000, 1, 1);
    put(w, 0x3000, 1, 0);
    put(w, 0x3040, 1, 0);
    put(w, 0x3000, 1, 0xd0);
    assert_int_equal(get(w, 0, 1), 0xb0);
    put(w, 0, 1, 0x50);
    put(w, 0x3000, 1, 0xe8); /* not confirmed */
    put(w, 0x3000, 1, 0);
    put(w, 0x3000, 1, 0);
    put(w, 0x3000, 1, 0xff);
    assert_int_equal(get(w, 0, 1), 0xb0);
    put(w, 0, 1, 0x50);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0x3000, 1), 1);
    assert_int_equal(get(w, 0x3040, 1), 0xff);
    drop(w);
}

static void wrong_sequences(void **state)
{
    struct world *w = make(false);
    (void)state;
    put(w, 0, 1, 0x20);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0, 1), 0xb0);
    put(w, 0, 1, 0x60);
    put(w, 0, 1, 0x99);
    assert_int_equal(get(w, 0, 1), 0xb0);
    put(w, 0, 1, 0x50);
    put(w, 0, 1, 0x60);
    put(w, 0, 1, 0xd0);
    assert_int_equal(get(w, 0, 1), 0x80);
    put(w, 0, 1, 0x00); /* no command */
    assert_true(is_memory(w));
    assert_int_equal(get(w, 0, 1), 0x5a);
    assert_int_equal(w->stores, 0);
    drop(w);
}

static void identifies_itself(void **state)
{
    struct world *w = make(false);
    (void)state;
    put(w, 0x55, 1, 0x98);
    assert_int_equal(get(w, 0x10, 1), 'Q');
    assert_int_equal(get(w, 0x11, 2), 'R' | 'Y' << 8);
    assert_int_equal(get(w, 0x27, 1), 20); /* 1 MiB, rounded up */
    assert_int_equal(get(w, 0x2d, 2), LENGTH / VMM_PFLASH_BLOCK - 1);
    assert_int_equal(get(w, 0x2f, 2) * 256, VMM_PFLASH_BLOCK);
    uint64_t table = get(w, 0x15, 2);
    assert_int_equal(get(w, table, 1), 'P');
    for (uint64_t at = 0; at < LENGTH; at += 37)
        (void)get(w, at, 1);
    put(w, 0, 1, 0x90);
    assert_int_equal(get(w, 0, 1), 0x89);
    assert_int_equal(get(w, 1, 1), 0x18);
    assert_int_equal(get(w, 0x1002, 1), 0); /* not locked */
    drop(w);
}

static void a_failing_store_changes_nothing(void **state)
{
    struct world *w = make(false);
    (void)state;
    w->fail = -ENOSPC;
    put(w, 0, 1, 0x10);
    put(w, 0, 1, 0x00);
    assert_int_equal(get(w, 0, 1), 0x90);
    put(w, 0, 1, 0x20);
    put(w, 0, 1, 0xd0);
    assert_int_equal(get(w, 0, 1), 0xb0);
    w->fail = 0;
    put(w, 0, 1, 0x50);
    assert_int_equal(get(w, 0, 4), 0x00ffa55a);
    put(w, 0, 1, 0x10);
    put(w, 0, 1, 0x00);
    assert_int_equal(get(w, 0, 1), 0x80);
    drop(w);
}

static void read_only(void **state)
{
    struct world *w = make(true);
    (void)state;
    put(w, 0, 1, 0x10);
    put(w, 0, 1, 0x00);
    assert_int_equal(get(w, 0, 1), 0x92);
    put(w, 0, 1, 0x20);
    put(w, 0, 1, 0xd0);
    assert_int_equal(get(w, 0, 1), 0xb2);
    put(w, 0, 1, 0xff);
    assert_int_equal(get(w, 0, 1), 0x5a);
    assert_int_equal(w->stores, 0);
    drop(w);
}

/* Any cycles at all: never beyond the chip, and what is kept is what is read. */
static void hostile_cycles(void **state)
{
    static const uint8_t commands[] = {0x10, 0x40, 0x20, 0xd0, 0xe8, 0x50,
                                       0x60, 0x70, 0x90, 0x98, 0xff, 0x01};
    static uint8_t now[LENGTH];
    struct world *w = make(false);
    uint32_t seed = 1;
    (void)state;
    memset(w->kept, 0xff, sizeof(w->kept));
    assert_int_equal(vmm_pflash_read(w->flash, 0, w->kept, LENGTH), 0);
    for (uint32_t i = 0; i < 200000; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint64_t offset = seed >> 8 & 3 ? (seed >> 10) % 256 : (seed >> 10) % LENGTH;
        uint32_t width = 1u << (seed >> 30);
        uint8_t value = seed & 0x80 ? commands[(seed >> 4) % sizeof(commands)] : (uint8_t)seed;
        w->fail = i % 11 ? 0 : -EIO;
        if (offset + width > LENGTH)
            width = 1;
        if (i % 5 == 0)
            (void)get(w, offset, width);
        else
            put(w, offset, width, value);
    }
    vmm_device_reset(vmm_pflash_device(w->flash));
    assert_true(is_memory(w));
    assert_int_equal(vmm_memory_read(w->memory, AT, now, LENGTH), 0);
    assert_memory_equal(now, w->kept, LENGTH);
    drop(w);
}

static void save(struct world *w, void **data, size_t *length)
{
    struct vmm_state_writer *writer;
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(vmm_pflash_device(w->flash), writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, data, length), 0);
    vmm_state_writer_free(writer);
}

static int load(struct world *w, const void *data, size_t length)
{
    struct vmm_state_reader *r;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_state_reader_new(data, length, &r, &err), 0);
    int rc = vmm_device_load(vmm_pflash_device(w->flash), r, &err);
    vmm_state_reader_free(r);
    return rc;
}

/* In the middle of a buffered write. */
static void state_goes_on(void **state)
{
    struct world *a = make(false), *b = make(false);
    void *data;
    size_t length;
    (void)state;
    put(a, 0x5000, 1, 0x10);
    put(a, 0x5000, 1, 0x77);
    put(a, 0x5040, 1, 0xe8);
    put(a, 0x5040, 1, 1);
    put(a, 0x5041, 1, 0x11);
    save(a, &data, &length);
    assert_int_equal(load(b, data, length), 0);
    assert_false(is_memory(b));
    put(b, 0x5042, 1, 0x22);
    put(b, 0x5040, 1, 0xd0);
    assert_int_equal(get(b, 0, 1), 0x80);
    put(b, 0, 1, 0xff);
    assert_int_equal(get(b, 0x5000, 1), 0x77);
    assert_int_equal(get(b, 0x5041, 2), 0x2211);
    assert_int_equal(b->kept[0x5000], 0x77);
    b->fail = -EIO; /* what cannot be kept is not taken over */
    assert_int_equal(load(b, data, length), -EIO);
    assert_true(is_memory(b));
    assert_int_equal(get(b, 0x5041, 2), 0x2211);
    free(data);
    drop(a);
    drop(b);
}

struct forged {
    uint32_t mode, step, left;
    uint64_t offset;
    size_t data;
};

static void forge(const struct forged *f, void **data, size_t *length)
{
    static const uint8_t bytes[LENGTH];
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_state_begin(w, "vars", 1), 0);
    (void)vmm_state_put_u32(w, "mode", f->mode);
    (void)vmm_state_put_u32(w, "step", f->step);
    (void)vmm_state_put_u32(w, "status", 0x80);
    (void)vmm_state_put_u64(w, "buffer-offset", f->offset);
    (void)vmm_state_put_u32(w, "buffer-left", f->left);
    (void)vmm_state_put_u32(w, "buffer-used", 0);
    (void)vmm_state_put_u32(w, "buffer-bad", 0);
    (void)vmm_state_put_bytes(w, "buffer", bytes, 64);
    (void)vmm_state_put_bytes(w, "data", bytes, f->data);
    assert_int_equal(vmm_state_end(w), 0);
    assert_int_equal(vmm_state_writer_finish(w, data, length), 0);
    vmm_state_writer_free(w);
}

static void forged_state(void **state)
{
    static const struct forged bad[] = {
        {4, 0, 0, 0, LENGTH},
        {0, 7, 0, 0, LENGTH},
        {0, 5, 65, 0, LENGTH},
        {0, 5, 0, 0, LENGTH}, /* data cycles are awaited, but none is left */
        {0, 0, 1, 0, LENGTH},
        {0, 5, 1, LENGTH, LENGTH}, /* a buffer beyond the end */
        {0, 5, 1, LENGTH - 63, LENGTH},
        {0, 5, 1, 1, LENGTH},
        {0, 0, 0, 0, LENGTH - 1},
        {0, 0, 0, 0, 0},
    };
    static const struct forged good = {1, 5, 64, LENGTH - 64, LENGTH};
    struct world *w = make(false);
    void *data;
    size_t length;
    (void)state;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad); i++) {
        forge(&bad[i], &data, &length);
        assert_true(load(w, data, length) < 0);
        assert_true(is_memory(w));
        assert_int_equal(get(w, 0, 4), 0x00ffa55a);
        free(data);
    }
    forge(&good, &data, &length);
    assert_int_equal(load(w, data, length), 0);
    assert_false(is_memory(w));
    free(data);
    drop(w);
}

static void bad_options(void **state)
{
    struct world w = {0};
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_pflash *flash;
    uint8_t byte;
    (void)state;
    assert_int_equal(vmm_memory_new(NULL, &w.memory, &err), 0);
    assert_int_equal(vmm_bus_new("mmio", 52, &w.mmio), 0);
    struct vmm_pflash_options o = options(&w);
    assert_int_equal(vmm_pflash_new(NULL, &flash, &err), -EINVAL);
    assert_int_equal(vmm_pflash_new(&o, NULL, &err), -EINVAL);
#define BAD(field, value)                                                                          \
    do {                                                                                           \
        struct vmm_pflash_options b = options(&w);                                                 \
        b.field = value;                                                                           \
        assert_int_equal(vmm_pflash_new(&b, &flash, &err), -EINVAL);                               \
    } while (0)
    BAD(name, NULL);
    BAD(name, "no name of a device");
    BAD(memory, NULL);
    BAD(mmio, NULL);
    BAD(address, AT + 1);
    BAD(address, UINT64_MAX - 4095);
    BAD(length, 0);
    BAD(length, LENGTH - 1);
    BAD(length, VMM_PFLASH_LENGTH_MAX + VMM_PFLASH_BLOCK);
    BAD(data_length, LENGTH + 1);
    BAD(data, NULL);
    assert_int_equal(vmm_pflash_new(&o, &flash, &err), 0);
    o.name = "again";
    struct vmm_pflash *second;
    assert_int_equal(vmm_pflash_new(&o, &second, &err), -EEXIST);
    assert_int_equal(w.releases, 0);
    assert_int_equal(vmm_pflash_read(flash, LENGTH, &byte, 1), -EINVAL);
    assert_int_equal(vmm_pflash_read(flash, UINT64_MAX, &byte, 1), -EINVAL);
    assert_int_equal(vmm_pflash_read(flash, LENGTH, NULL, 0), 0);
    assert_null(vmm_pflash_unref(NULL));
    vmm_pflash_unref(flash);
    assert_int_equal(w.releases, 1);
    vmm_memory_unref(w.memory);
    vmm_bus_unref(w.mmio);
}

/* Two chips of 16 bits: EDK2's driver for Arm boards (ArmPlatformPkg, NorFlashDxe) gives both every command. */
static void two_chips_side_by_side(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t got[8];
    (void)state;
    assert_non_null(w);
    assert_int_equal(vmm_memory_new(NULL, &w->memory, NULL), 0);
    assert_int_equal(vmm_bus_new("mmio", 52, &w->mmio), 0);
    struct vmm_pflash_options o = options(w);
    o.bank_width = 4;
    o.block = 0x4000;
    if (vmm_pflash_new(&o, &w->flash, &err))
        fail_msg("%s", err.text);
    put(w, 0x8000, 4, 0x00980098); /* what it is: each chip a half of it */
    assert_int_equal(get(w, 0x10 * 4, 4), 'Q' << 16 | 'Q');
    assert_int_equal(get(w, 0x12 * 4, 4), 'Y' << 16 | 'Y');
    assert_int_equal(get(w, 0x2d * 4, 1), LENGTH / 0x4000 - 1);
    assert_int_equal(get(w, 0x2f * 4, 2), 0x2000 >> 8);
    assert_int_equal(get(w, 0x27 * 4, 4), 0x00130013); /* 264 KiB each, rounded up */
    put(w, 0, 4, 0x00900090);
    assert_int_equal(get(w, 0, 4), 0x00890089);
    assert_int_equal(get(w, 4, 4), 0x00180018);
    assert_int_equal(get(w, 0x4008, 4), 0); /* not locked */
    put(w, 0x4000, 4, 0x00400040);
    put(w, 0x4000, 4, 0x12345678);
    assert_int_equal(get(w, 0x4000, 4), 0x00800080);
    put(w, 0x4100, 4, 0x00e800e8); /* the buffer: 32 words of 4 bytes */
    assert_int_equal(get(w, 0x4100, 4), 0x00800080);
    put(w, 0x4100, 4, 0x001f001f);
    for (uint32_t i = 0; i < 32; i++)
        put(w, 0x4100 + 4 * i, 4, 0x01010101 * i);
    put(w, 0x4100, 4, 0x00d000d0);
    assert_int_equal(get(w, 0x4100, 4), 0x00800080);
    put(w, 0x4180, 4, 0x00e800e8); /* one word more than it holds */
    put(w, 0x4180, 4, 0x00200020);
    assert_int_equal(get(w, 0x4180, 4), 0x00b000b0);
    put(w, 0, 4, 0x00500050);
    put(w, 0, 4, 0x00ff00ff);
    assert_true(is_memory(w));
    assert_int_equal(get(w, 0x4000, 4), 0x12345678);
    assert_int_equal(get(w, 0x4100 + 4 * 31, 4), 0x1f1f1f1f);
    assert_memory_equal(w->kept + 0x4000, "\x78\x56\x34\x12", 4);
    put(w, 0x7ffc, 4, 0x00200020); /* the block of 16 KiB around it, no other */
    put(w, 0x7ffc, 4, 0x00d000d0);
    put(w, 0, 4, 0x00ff00ff);
    assert_int_equal(vmm_pflash_read(w->flash, 0x4000, got, 8), 0);
    assert_memory_equal(got, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_int_equal(get(w, 0, 1), 0x5a);
    drop(w);
}

static void widths_and_blocks_that_are_none(void **state)
{
    struct world *w = make(false);
    struct vmm_pflash *flash;
    static const uint32_t bad[][2] = {{2, 4096}, {8, 4096}, {1, 2048}, {4, 12288}, {4, 2 << 20}};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct vmm_pflash_options o = options(w);
        o.address = 0x10000000;
        o.bank_width = bad[i][0];
        o.block = bad[i][1];
        assert_int_equal(vmm_pflash_new(&o, &flash, NULL), -EINVAL);
    }
    drop(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(firmware_knows_it_for_a_flash),
        cmocka_unit_test(two_chips_side_by_side),
        cmocka_unit_test(widths_and_blocks_that_are_none),
        cmocka_unit_test(programs_and_erases),
        cmocka_unit_test(wide_accesses_are_cycles_of_a_byte),
        cmocka_unit_test(write_buffer),
        cmocka_unit_test(wrong_sequences),
        cmocka_unit_test(identifies_itself),
        cmocka_unit_test(a_failing_store_changes_nothing),
        cmocka_unit_test(read_only),
        cmocka_unit_test(hostile_cycles),
        cmocka_unit_test(state_goes_on),
        cmocka_unit_test(forged_state),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
