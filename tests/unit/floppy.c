/* SPDX-License-Identifier: BSD-3-Clause */
/* The floppy controller and the 8237s: what drivers of PCs do, and what hostile ones do. */
#include "test.h"

#include <libvmm/block-filters.h>
#include <libvmm/floppy.h>

#include <errno.h>
#include <string.h>

#define DATA 0x20000u
#define RAM  0x100000u

struct fixture {
    struct vmm_memory *memory;
    struct vmm_bus *ports;
    struct vmm_loop *loop;
    struct vmm_block *disk;
    struct vmm_dma *dma;
    struct vmm_floppy *floppy;
    uint32_t irq, raised;
};

static void set_irq(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->irq = level;
    f->raised += level;
}

static void out(struct fixture *f, uint32_t port, uint8_t value)
{
    (void)vmm_bus_write(f->ports, port, 1, value);
}

static uint8_t in(struct fixture *f, uint32_t port)
{
    uint64_t value = 0;
    (void)vmm_bus_read(f->ports, port, 1, &value);
    return (uint8_t)value;
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 20; i++)
        vmm_loop_dispatch(f->loop, 0);
}

static struct vmm_block *image(struct fixture *f, uint64_t length)
{
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_block *block;
    o.length = length;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &block, NULL), 0);
    return block;
}

static void command(struct fixture *f, const uint8_t *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        assert_int_equal(in(f, 0x3f4) & 0xc0, 0x80);
        out(f, 0x3f5, bytes[i]);
    }
    settle(f);
}

static uint32_t results(struct fixture *f, uint8_t *bytes)
{
    uint32_t n = 0;
    while ((in(f, 0x3f4) & 0xc0) == 0xc0 && n < 16)
        bytes[n++] = in(f, 0x3f5);
    return n;
}

static uint8_t sense(struct fixture *f, uint8_t *cylinder)
{
    uint8_t r[16];
    command(f, (const uint8_t[]){8}, 1);
    uint32_t n = results(f, r);
    *cylinder = n == 2 ? r[1] : 0xff;
    return r[0];
}

static void seek_to(struct fixture *f, uint8_t cylinder)
{
    uint8_t at;
    command(f, (const uint8_t[]){0x0f, 0, cylinder}, 3);
    assert_int_equal(f->irq, 1);
    assert_int_equal(sense(f, &at), 0x20);
    assert_int_equal(at, cylinder);
    assert_int_equal(f->irq, 0);
}

/* Channel 2: `length` bytes at `address`. */
static void program(struct fixture *f, uint32_t address, uint32_t length, uint8_t mode)
{
    out(f, 10, 6);
    out(f, 12, 0);
    out(f, 11, mode | 2);
    out(f, 4, (uint8_t)address);
    out(f, 4, (uint8_t)(address >> 8));
    out(f, 0x81, (uint8_t)(address >> 16));
    out(f, 5, (uint8_t)(length - 1));
    out(f, 5, (uint8_t)((length - 1) >> 8));
    out(f, 10, 2);
}

/* Read or write; gives ST0 and ST1. */
static uint32_t move(struct fixture *f, uint8_t op, uint8_t c, uint8_t h, uint8_t r)
{
    uint8_t bytes[16];
    const uint8_t cmd[9] = {op, (uint8_t)(h << 2), c, h, r, 2, 18, 0x1b, 0xff};
    command(f, cmd, 9);
    assert_int_equal(results(f, bytes), 7);
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_floppy_options o = VMM_FLOPPY_OPTIONS_INIT;
    *state = f;
    assert_int_equal(vmm_memory_new(NULL, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, RAM, NULL, NULL), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->ports), 0);
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    f->disk = image(f, VMM_FLOPPY_LENGTH);
    assert_int_equal(vmm_dma_new("dma", f->memory, &f->dma), 0);
    assert_int_equal(vmm_dma_attach(f->dma, f->ports, NULL), 0);
    o.name = "floppy";
    o.loop = f->loop;
    o.dma = f->dma;
    o.block = f->disk;
    assert_int_equal(vmm_irq_line_new_callback(set_irq, f, &o.irq), 0);
    assert_int_equal(vmm_floppy_new(&o, &f->floppy, NULL), 0);
    assert_int_equal(vmm_floppy_attach(f->floppy, f->ports, NULL), 0);
    out(f, 0x3f2, 0x1c); /* on, with the motor */
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_floppy_unref(f->floppy);
    vmm_dma_unref(f->dma);
    vmm_bus_unref(f->ports);
    vmm_block_unref(f->disk);
    vmm_memory_unref(f->memory);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

static void resets_and_tells(void **state)
{
    struct fixture *f = *state;
    uint8_t at, r[16];
    assert_int_equal(f->irq, 1);
    for (uint8_t i = 0; i < 4; i++)
        assert_int_equal(sense(f, &at), 0xc0 + i);
    assert_int_equal(f->irq, 0);
    assert_int_equal(sense(f, &at), 0x80); /* nothing more */
    command(f, (const uint8_t[]){0x10}, 1);
    assert_int_equal(results(f, r), 1);
    assert_int_equal(r[0], 0x90);
    command(f, (const uint8_t[]){0x1e}, 1);
    assert_int_equal(results(f, r), 1);
    assert_int_equal(r[0], 0x80);
    command(f, (const uint8_t[]){0x13, 0, 0x57, 7}, 4);
    command(f, (const uint8_t[]){0x94}, 1);
    assert_int_equal(results(f, r), 1);
    assert_int_equal(r[0], 0x10);
    out(f, 0x3f4, 0x80); /* a reset by DSR keeps what is locked */
    command(f, (const uint8_t[]){0x0e}, 1);
    assert_int_equal(results(f, r), 10);
    assert_int_equal(r[8], 0x57);
    command(f, (const uint8_t[]){4, 0}, 2);
    assert_int_equal(results(f, r), 1);
    assert_int_equal(r[0] & 0x30, 0x30); /* ready, at track 0 */
    command(f, (const uint8_t[]){7, 1}, 2);
    assert_int_equal(sense(f, &at) & 0x70, 0x70); /* there is no second drive */
}

static void reads_and_writes(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024], back[1024];
    for (uint32_t i = 0; i < 1024; i++)
        data[i] = (uint8_t)(i * 5 + i / 256);
    seek_to(f, 40);
    vmm_memory_write(f->memory, DATA, data, 1024);
    program(f, DATA, 1024, 0x48);
    f->raised = 0;
    assert_int_equal(move(f, 0xc5, 40, 1, 17), 0x400); /* head 1 */
    assert_int_equal(f->raised, 1);
    assert_int_equal(vmm_block_read(f->disk, ((40 * 2 + 1) * 18 + 16) * 512, back, 1024), 0);
    assert_memory_equal(back, data, 1024);
    program(f, DATA + 0x1000, 1024, 0x44);
    assert_int_equal(move(f, 0xe6, 40, 1, 17), 0x400);
    vmm_memory_read(f->memory, DATA + 0x1000, back, 1024);
    assert_memory_equal(back, data, 1024);
    assert_int_equal(in(f, 8), 4); /* terminal count of channel 2 */
    assert_int_equal(in(f, 8), 0);
    program(f, DATA, 0x10000, 0x44); /* more than there is on the cylinder */
    assert_int_equal(move(f, 0xe6, 40, 0, 1), 0x4080);
    program(f, DATA, 512, 0x44);
    assert_int_equal(move(f, 0xe6, 41, 0, 1) & 0xff, 0x04); /* not where the head is */
    assert_int_equal(move(f, 0xe6, 40, 0, 19) & 0xff, 0x04);
    assert_int_equal(move(f, 0xe6, 40, 0, 0) & 0xff, 0x04);
    program(f, DATA, 512, 0x48);
    assert_int_equal(move(f, 0xe6, 40, 0, 1) & 0xff, 0x10); /* the wrong direction */
    program(f, 0xff0000, 512, 0x44);
    assert_int_equal(move(f, 0xe6, 40, 0, 1) & 0xff, 0x10); /* no memory */
    out(f, 15, 15);
    assert_int_equal(move(f, 0xe6, 40, 0, 1) & 0xff, 0x10); /* masked */
}

static void formats(void **state)
{
    struct fixture *f = *state;
    uint8_t r[16], back[512];
    seek_to(f, 3);
    for (uint32_t i = 0; i < 18; i++) {
        const uint8_t id[4] = {3, 1, (uint8_t)(i * 5 % 18 + 1), 2};
        vmm_memory_write(f->memory, DATA + 4 * i, id, 4);
    }
    program(f, DATA, 72, 0x48);
    command(f, (const uint8_t[]){0x4d, 4, 2, 18, 0x6c, 0xf6}, 6);
    assert_int_equal(results(f, r), 7);
    assert_int_equal(r[0] & 0xc0, 0);
    assert_int_equal(vmm_block_read(f->disk, ((3 * 2 + 1) * 18 + 17) * 512, back, 512), 0);
    assert_int_equal(back[511], 0xf6);
    assert_int_equal(vmm_block_read(f->disk, (3 * 2 * 18 + 17) * 512, back, 512), 0);
    assert_int_equal(back[511], 0);
    vmm_memory_fill(f->memory, DATA, 1, 72); /* the same sector all over, of another size */
    program(f, DATA, 72, 0x48);
    command(f, (const uint8_t[]){0x4d, 4, 2, 18, 0x6c, 0xf6}, 6);
    assert_int_equal(results(f, r), 7);
    assert_int_equal(r[1], 4);
    command(f, (const uint8_t[]){0x4a, 4}, 2);
    assert_int_equal(results(f, r), 7);
    assert_int_equal(r[3], 3);
    assert_int_equal(r[6], 2);
}

static void disks_change(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *other = image(f, VMM_FLOPPY_LENGTH), *odd = image(f, 4096);
    seek_to(f, 1);
    assert_int_equal(in(f, 0x3f7) & 0x80, 0);
    assert_int_equal(vmm_floppy_set_medium(f->floppy, odd, NULL), -EINVAL);
    assert_int_equal(vmm_floppy_set_medium(f->floppy, NULL, NULL), 0);
    assert_int_equal(in(f, 0x3f7) & 0x80, 0x80);
    assert_int_equal(move(f, 0xe6, 1, 0, 1) & 0xff, 1);
    seek_to(f, 0);
    assert_int_equal(in(f, 0x3f7) & 0x80, 0x80); /* there is still none */
    assert_int_equal(vmm_floppy_set_medium(f->floppy, other, NULL), 0);
    seek_to(f, 1);
    assert_int_equal(in(f, 0x3f7) & 0x80, 0);
    vmm_block_unref(other);
    vmm_block_unref(odd);
}

static void dma_counts(void **state)
{
    struct fixture *f = *state;
    uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8];
    bool end;
    program(f, DATA + 3, 4, 0x64); /* downwards */
    assert_int_equal(vmm_dma_move(f->dma, 2, data, 8, true, &end), 4);
    assert_true(end);
    vmm_memory_read(f->memory, DATA, back, 4);
    assert_memory_equal(back, ((const uint8_t[]){4, 3, 2, 1}), 4);
    assert_int_equal(vmm_dma_move(f->dma, 2, data, 8, true, &end), -EAGAIN); /* masked now */
    program(f, 0x2fffe, 4, 0x44); /* wraps within its 64 KiB */
    assert_int_equal(vmm_dma_move(f->dma, 2, data, 4, true, &end), 4);
    vmm_memory_read(f->memory, 0x20000, back, 2);
    assert_memory_equal(back, data + 2, 2);
    program(f, DATA, 4, 0x54); /* again and again */
    for (int i = 0; i < 3; i++)
        assert_int_equal(vmm_dma_move(f->dma, 2, data, 4, true, &end), 4);
    program(f, DATA, 4, 0x40); /* verify: no memory is touched */
    assert_int_equal(vmm_dma_move(f->dma, 2, back, 4, true, &end), 4);
    out(f, 0xd4, 1); /* words, on channel 5 */
    out(f, 0xd6, 0x45);
    out(f, 0xd8, 0);
    out(f, 0xc4, 0);
    out(f, 0xc4, 0x80);
    out(f, 0x8b, 2);
    out(f, 0xc6, 3);
    out(f, 0xc6, 0);
    assert_int_equal(vmm_dma_move(f->dma, 5, data, 8, true, &end), 8);
    vmm_memory_read(f->memory, 0x30000, back, 8);
    assert_memory_equal(back, data, 8);
    assert_int_equal(vmm_dma_move(f->dma, 5, data, 3, true, NULL), -EINVAL);
    assert_int_equal(vmm_dma_move(f->dma, 4, data, 2, true, NULL), -EINVAL);
    assert_int_equal(vmm_dma_move(f->dma, 8, data, 2, true, NULL), -EINVAL);
}

static void resets_in_flight(void **state)
{
    struct fixture *f = *state;
    static const uint8_t read[9] = {0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff};
    for (uint32_t how = 0; how < 3; how++) {
        program(f, DATA, 512, 0x44);
        for (uint32_t i = 0; i < 9; i++)
            out(f, 0x3f5, read[i]);
        vmm_loop_dispatch(f->loop, 0);
        if (how == 0)
            out(f, 0x3f2, 0);
        else if (how == 1)
            out(f, 0x3f4, 0x80);
        else
            vmm_device_reset(vmm_floppy_device(f->floppy));
        out(f, 0x3f2, 0x1c);
        settle(f);
        program(f, DATA, 512, 0x44);
        assert_int_equal(move(f, 0xe6, 0, 0, 1), 0);
    }
}

static void anything_anywhere(void **state)
{
    struct fixture *f = *state;
    uint64_t r = 88172645463325252u;
    for (uint32_t i = 0; i < 100000; i++) {
        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        static const uint32_t places[] = {0x3f5, 0x3f5, 0x3f5, 0x3f5, 0x3f2, 0x3f4, 0x3f7, 0};
        uint32_t port = places[r & 7];
        port = port ? port : (uint32_t)(r >> 8 & 0xff);
        if (r >> 16 & 3)
            out(f, port, (uint8_t)(r >> 24));
        else
            (void)in(f, port);
        if (r >> 32 & 1)
            vmm_loop_dispatch(f->loop, 0);
    }
    vmm_device_reset(vmm_floppy_device(f->floppy));
    vmm_device_reset(vmm_dma_device(f->dma));
    out(f, 0x3f2, 0x1c);
    settle(f);
    program(f, DATA, 512, 0x44);
    assert_int_equal(move(f, 0xe6, 0, 0, 1), 0);
}

static void *save_device(struct vmm_device *device, size_t *length)
{
    struct vmm_state_writer *w;
    void *data;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(device, w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, length), 0);
    vmm_state_writer_free(w);
    return data;
}

static int load_device(struct vmm_device *device, const void *data, size_t length)
{
    struct vmm_state_reader *r;
    int rc = vmm_state_reader_new(data, length, &r, NULL);
    if (rc)
        return rc;
    rc = vmm_device_load(device, r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void saves_and_loads(void **state)
{
    struct fixture *f = *state;
    static const uint8_t read[9] = {0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff};
    struct vmm_device *devices[2] = {vmm_floppy_device(f->floppy), vmm_dma_device(f->dma)};
    for (uint32_t begun = 0; begun < 2; begun++) {
        uint8_t bytes[16];
        size_t lengths[2];
        void *data[2];
        program(f, DATA, 512, 0x44);
        for (uint32_t i = 0; i < 9; i++)
            out(f, 0x3f5, read[i]);
        if (begun)
            vmm_loop_dispatch(f->loop, 0);
        for (uint32_t i = 0; i < 2; i++)
            data[i] = save_device(devices[i], &lengths[i]);
        for (uint32_t i = 0; i < 2; i++) {
            vmm_device_reset(devices[i]);
            assert_int_equal(load_device(devices[i], data[i], lengths[i]), 0);
        }
        settle(f);
        assert_int_equal(results(f, bytes), 7);
        assert_int_equal(bytes[0] | bytes[1], 0);
        for (uint32_t i = 0; i < 2; i++) {
            for (size_t k = 0; k < lengths[i]; k++) { /* whatever it says: taken or refused */
                ((uint8_t *)data[i])[k] ^= 0x5a;
                (void)load_device(devices[i], data[i], lengths[i]);
                ((uint8_t *)data[i])[k] ^= 0x5a;
                vmm_loop_dispatch(f->loop, 0);
                (void)in(f, 0x3f5);
                out(f, 0x3f5, 6);
            }
            assert_int_equal(load_device(devices[i], data[i], lengths[i]), 0);
            free(data[i]);
        }
        settle(f);
        (void)results(f, bytes);
    }
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_floppy_options o = VMM_FLOPPY_OPTIONS_INIT;
    struct vmm_floppy *floppy;
    struct vmm_dma *dma;
    assert_int_equal(vmm_floppy_new(NULL, &floppy, NULL), -EINVAL);
    assert_int_equal(vmm_floppy_new(&o, &floppy, NULL), -EINVAL);
    assert_int_equal(vmm_dma_new(NULL, f->memory, &dma), -EINVAL);
    assert_int_equal(vmm_dma_new("dma", NULL, &dma), -EINVAL);
    assert_int_equal(vmm_dma_attach(f->dma, f->ports, NULL), -EEXIST);
    assert_int_equal(vmm_floppy_attach(f->floppy, f->ports, NULL), -EEXIST);
    assert_null(vmm_floppy_unref(NULL));
    assert_null(vmm_dma_unref(NULL));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(resets_and_tells),  T(reads_and_writes), T(formats),
        T(disks_change),      T(dma_counts),       T(resets_in_flight),
        T(anything_anywhere), T(saves_and_loads),  T(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
