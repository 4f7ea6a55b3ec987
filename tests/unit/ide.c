/* SPDX-License-Identifier: BSD-3-Clause */
/* IDE as a driver sees it: PIO, bus masters, packets, saving; and drivers that mean no good. */
#include "pci-world.h"

#include <libvmm/block-filters.h>
#include <libvmm/storage.h>

#define SECTORS 4096u
#define BM      0x1000u
#define TABLE   0x4000u
#define DATA    0x20000u
#define BSY     0x80u
#define DRQ     0x08u

struct fixture {
    struct world w;
    struct vmm_loop *loop;
    struct vmm_block *disk, *medium;
    struct vmm_ide *ide;
    uint32_t irq[2], raised[2];
};

static void irq0(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->irq[0] = level;
    f->raised[0] += level;
}
static void irq1(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->irq[1] = level;
    f->raised[1] += level;
}

static uint32_t in(struct fixture *f, uint32_t at, uint32_t width)
{
    uint64_t value = 0;
    (void)vmm_bus_read(f->w.ports, at, width, &value);
    return (uint32_t)value;
}

static void out(struct fixture *f, uint32_t at, uint32_t width, uint32_t value)
{
    (void)vmm_bus_write(f->w.ports, at, width, value);
}

static struct vmm_block *memory_block(struct fixture *f, uint64_t length)
{
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_block *block;
    o.length = length;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &block, NULL), 0);
    return block;
}

static int plug(struct fixture *f, uint32_t number, uint32_t type, struct vmm_block *block)
{
    struct vmm_drive_options o = VMM_DRIVE_OPTIONS_INIT;
    o.type = type;
    o.block = block;
    return vmm_ide_plug(f->ide, number, &o, NULL);
}

static void enable(struct fixture *f)
{
    set_cfg(&f->w, 1, 0x20, 4, BM);
    set_cfg(&f->w, 1, 4, 2, 5);
}

static void open_ide(struct fixture *f, bool drives)
{
    struct vmm_ide_options o = VMM_IDE_OPTIONS_INIT;
    world_open(&f->w);
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    o.name = "ide0";
    o.memory = f->w.memory;
    o.loop = f->loop;
    o.ports = f->w.ports;
    assert_int_equal(vmm_irq_line_new_callback(irq0, f, &o.irq[0]), 0);
    assert_int_equal(vmm_irq_line_new_callback(irq1, f, &o.irq[1]), 0);
    assert_int_equal(vmm_ide_new(&o, &f->ide, NULL), 0);
    assert_int_equal(vmm_pci_host_add(f->w.host, vmm_ide_pci(f->ide), 1, 0, NULL), 0);
    f->disk = memory_block(f, SECTORS * 512);
    f->medium = memory_block(f, 64 * 2048);
    if (drives) {
        assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, f->disk), 0);
        assert_int_equal(plug(f, 2, VMM_DRIVE_CDROM, f->medium), 0);
    }
    enable(f);
}

/* The ports' bus holds the device: it goes with it, and its disks before the loop. */
static void close_ide(struct fixture *f)
{
    vmm_ide_unref(f->ide);
    world_close(&f->w);
    vmm_block_unref(f->disk);
    vmm_block_unref(f->medium);
    vmm_loop_unref(f->loop);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    open_ide(f, true);
    return 0;
}

static int tear_down(void **state)
{
    close_ide(*state);
    free(*state);
    return 0;
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 20; i++)
        vmm_loop_dispatch(f->loop, 0);
}

/* Registers of a command; high bytes first, as 48-bit drivers write them. */
static void command(struct fixture *f, uint32_t base, uint8_t what, uint64_t lba, uint32_t count)
{
    out(f, base + 6, 1, 0xe0 | (uint8_t)(what < 0x24 || what > 0x3f ? lba >> 24 & 15 : 0));
    out(f, base + 2, 1, count >> 8 & 0xff);
    out(f, base + 2, 1, count & 0xff);
    for (uint32_t i = 0; i < 3; i++) {
        out(f, base + 3 + i, 1, (uint32_t)(lba >> (24 + 8 * i)) & 0xff);
        out(f, base + 3 + i, 1, (uint32_t)(lba >> 8 * i) & 0xff);
    }
    out(f, base + 7, 1, what);
    settle(f);
}

static uint32_t status(struct fixture *f, uint32_t base)
{
    return in(f, base + 7, 1) | in(f, base + 1, 1) << 8;
}

/* Take all data blocks; bytes taken. */
static uint32_t take(struct fixture *f, uint32_t base, uint8_t *data, uint32_t room)
{
    uint32_t n = 0;
    while ((in(f, base + 7, 1) & (BSY | DRQ)) == DRQ && n + 2 <= room) {
        uint32_t v = in(f, base, 2);
        data[n++] = (uint8_t)v;
        data[n++] = (uint8_t)(v >> 8);
        settle(f);
    }
    return n;
}

static void give(struct fixture *f, uint32_t base, const uint8_t *data, uint32_t length)
{
    for (uint32_t n = 0; n < length; n += 2) {
        assert_int_equal(in(f, base + 0x206, 1) & (BSY | DRQ), DRQ);
        out(f, base, 2, data[n] | (uint32_t)data[n + 1] << 8);
        settle(f);
    }
}

static void table(struct fixture *f, uint32_t index, uint32_t address, uint32_t count_and_end)
{
    assert_int_equal(vmm_memory_store_u32(f->w.memory, TABLE + 8 * index, address), 0);
    assert_int_equal(vmm_memory_store_u32(f->w.memory, TABLE + 8 * index + 4, count_and_end), 0);
}

static void start_dma(struct fixture *f, uint32_t channel, uint8_t direction)
{
    out(f, BM + 8 * channel + 4, 4, TABLE);
    out(f, BM + 8 * channel + 2, 1, 6);
    out(f, BM + 8 * channel, 1, direction);
    out(f, BM + 8 * channel, 1, direction | 1);
    settle(f);
}

static uint32_t stop_dma(struct fixture *f, uint32_t channel)
{
    uint32_t s = in(f, BM + 8 * channel + 2, 1);
    out(f, BM + 8 * channel, 1, 0);
    return s & 7;
}

static void packet(struct fixture *f, const uint8_t *cdb, uint32_t limit, bool dma)
{
    out(f, 0x176, 1, 0xa0);
    out(f, 0x171, 1, dma);
    out(f, 0x174, 1, limit & 0xff);
    out(f, 0x175, 1, limit >> 8);
    out(f, 0x177, 1, 0xa0);
    settle(f);
    assert_int_equal(in(f, 0x172, 1) & 3, 1);
    give(f, 0x170, cdb, 12);
    settle(f);
}

/* Tests ---------------------------------------------------------------------------------------- */

static void finds_drives(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512] = {0};
    assert_int_equal(cfg(&f->w, 1, 0, 4), 0x70108086);
    assert_int_equal(cfg(&f->w, 1, 8, 4) >> 8, 0x010180);
    assert_int_equal(cfg(&f->w, 1, 0x41, 1), 0x80);
    set_cfg(&f->w, 1, 0x40, 2, 0xa307);
    assert_int_equal(cfg(&f->w, 1, 0x40, 2), 0xa307);
    assert_int_equal(in(f, 0x1f2, 1) | in(f, 0x1f3, 1) << 8, 0x101);
    assert_int_equal(in(f, 0x174, 1) | in(f, 0x175, 1) << 8, 0xeb14);
    out(f, 0x1f6, 1, 0xb0); /* the slave is not there */
    assert_int_equal(in(f, 0x1f7, 1), 0);
    command(f, 0x1f0, 0xec, 0, 0);
    assert_int_equal(f->irq[0], 1);
    assert_int_equal(take(f, 0x1f0, data, 512), 512);
    assert_int_equal(f->irq[0], 0);
    assert_int_equal(data[120] | data[121] << 8, SECTORS);
    assert_int_equal(status(f, 0x1f0), 0x50);
    command(f, 0x170, 0xec, 0, 0);
    assert_int_equal(status(f, 0x170), 0x0451);
    command(f, 0x170, 0xa1, 0, 0);
    assert_int_equal(take(f, 0x170, data, 512), 512);
    assert_int_equal(data[0] | data[1] << 8, 0x85c0);
}

static void moves_data_by_pio(void **state)
{
    static const uint8_t writes[] = {0x30, 0x34, 0xc5, 0x39}, reads[] = {0x20, 0x24, 0xc4, 0x29};
    struct fixture *f = *state;
    uint8_t *data = malloc(200 * 512), *back = malloc(200 * 512);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 200 * 512; k++)
            data[k] = (uint8_t)(k * 7 + k / 512 + i);
        command(f, 0x1f0, writes[i], 100, 200);
        give(f, 0x1f0, data, 200 * 512);
        assert_int_equal(status(f, 0x1f0), 0x50);
        assert_int_equal(vmm_block_read(f->disk, 100 * 512, back, 200 * 512), 0);
        assert_memory_equal(back, data, 200 * 512);
        memset(back, 0, 200 * 512);
        uint32_t before = f->raised[0];
        command(f, 0x1f0, reads[i], 100, 200);
        assert_int_equal(take(f, 0x1f0, back, 200 * 512), 200 * 512);
        assert_memory_equal(back, data, 200 * 512);
        assert_int_equal(f->raised[0] - before,
                         i < 2 ? 200 : 13); /* a block has one sector or 16 */
        assert_int_equal(status(f, 0x1f0), 0x50);
    }
    out(f, 0x1f6, 1, 0xa0 | 3); /* cylinder 1, head 3, sector 5 */
    out(f, 0x1f2, 1, 1);
    out(f, 0x1f3, 1, 5);
    out(f, 0x1f4, 1, 1);
    out(f, 0x1f5, 1, 0);
    memset(data, 0x77, 512);
    assert_int_equal(vmm_block_write(f->disk, ((16 + 3) * 63 + 4) * 512, data, 512), 0);
    out(f, 0x1f7, 1, 0x20);
    settle(f);
    assert_int_equal(in(f, 0x1f0, 4), 0x77777777);
    assert_int_equal(take(f, 0x1f0, back, 512), 508);
    free(data);
    free(back);
}

static void moves_data_by_dma(void **state)
{
    struct fixture *f = *state;
    uint8_t back[1024];
    vmm_memory_fill(f->w.memory, DATA, 0x42, 1024);
    table(f, 0, DATA, 600);
    table(f, 1, DATA + 600, 424 | 0x80000000u);
    command(f, 0x1f0, 0xca, 50, 2);
    start_dma(f, 0, 0);
    assert_int_equal(f->irq[0], 1);
    assert_int_equal(stop_dma(f, 0), 4);
    assert_int_equal(status(f, 0x1f0), 0x50);
    assert_int_equal(f->irq[0], 0);
    assert_int_equal(vmm_block_read(f->disk, 50 * 512, back, 1024), 0);
    assert_int_equal(back[1023], 0x42);
    vmm_memory_fill(f->w.memory, DATA, 0, 1024);
    start_dma(f, 0, 8); /* started before the command */
    command(f, 0x1f0, 0x25, 50, 2);
    assert_int_equal(stop_dma(f, 0), 4);
    uint8_t byte = 0;
    vmm_memory_load_u8(f->w.memory, DATA + 1023, &byte);
    assert_int_equal(byte, 0x42);
    table(f, 0, DATA, 0); /* 64 KiB, and one more: longer than the data */
    table(f, 1, DATA, 0x80000000u);
    command(f, 0x1f0, 0xc8, 50, 1);
    start_dma(f, 0, 8);
    assert_int_equal(stop_dma(f, 0), 5);
    command(f, 0x1f0, 0xe7, 0, 0);
    assert_int_equal(status(f, 0x1f0), 0x50);
}

static void hostile_tables(void **state)
{
    struct fixture *f = *state;
    static const uint32_t bad[] = {RAM, 0xfffffff0u, ECAM, RAM - 2};
    for (uint32_t i = 0; i < 4; i++) {
        table(f, 0, bad[i], 512 | 0x80000000u);
        command(f, 0x1f0, 0xc8, 0, 1);
        start_dma(f, 0, 8);
        assert_int_equal(stop_dma(f, 0), 6);
        assert_int_equal(status(f, 0x1f0), 0x0451);
        command(f, 0x1f0, 0xc8, 0, 1);
        out(f, BM + 4, 4, bad[i]);
        out(f, BM, 1, 9);
        settle(f);
        assert_int_equal(stop_dma(f, 0) & 2, 2);
        out(f, BM + 2, 1, 6);
    }
    table(f, 0, DATA, 2 | 0x80000000u); /* too short */
    command(f, 0x1f0, 0xc8, 0, 1);
    start_dma(f, 0, 8);
    assert_int_equal(stop_dma(f, 0), 6);
    for (uint32_t i = 0; i < 9000; i++) /* no end: it is not walked without end */
        table(f, i, DATA, 2);
    command(f, 0x1f0, 0x25, 0, 1024);
    start_dma(f, 0, 8);
    assert_int_equal(stop_dma(f, 0) & 2, 2);
    assert_int_equal(status(f, 0x1f0) & 1, 1);
}

static void packets(void **state)
{
    struct fixture *f = *state;
    static const uint8_t ready[12] = {0}, read[12] = {0x28, 0, 0, 0, 0, 5, 0, 0, 40},
                         inquiry[12] = {0x12, 0, 0, 0, 36};
    uint8_t *data = malloc(40 * 2048), *back = malloc(40 * 2048);
    for (uint32_t k = 0; k < 40 * 2048; k++)
        data[k] = (uint8_t)(k * 3 + k / 999);
    assert_int_equal(vmm_block_write(f->medium, 5 * 2048, data, 40 * 2048), 0);
    packet(f, ready, 0, false);
    assert_int_equal(status(f, 0x170), 0x6451);
    packet(f, ready, 0, false);
    assert_int_equal(status(f, 0x170), 0x50);
    assert_int_equal(in(f, 0x172, 1) & 3, 3);
    packet(f, inquiry, 20, false);
    assert_int_equal(in(f, 0x174, 1), 20);
    assert_int_equal(take(f, 0x170, back, 100), 36);
    assert_int_equal(back[0], 5);
    packet(f, read, 0x1003, false);
    assert_int_equal(in(f, 0x174, 1) | in(f, 0x175, 1) << 8, 0x1002);
    assert_int_equal(take(f, 0x170, back, 40 * 2048), 40 * 2048);
    assert_memory_equal(back, data, 40 * 2048);
    assert_int_equal(status(f, 0x170), 0x50);
    table(f, 0, 0x40000, 0);
    table(f, 1, 0x50000, (40 * 2048 - 0x10000) | 0x80000000u);
    packet(f, read, 0, true);
    start_dma(f, 1, 8);
    assert_int_equal(stop_dma(f, 1), 4);
    vmm_memory_read(f->w.memory, 0x40000, back, 40 * 2048);
    assert_memory_equal(back, data, 40 * 2048);
    assert_int_equal(vmm_ide_set_medium(f->ide, 2, NULL, 0, NULL), 0);
    packet(f, ready, 0, false);
    packet(f, ready, 0, false);
    assert_int_equal(status(f, 0x170), 0x2451);
    assert_int_equal(vmm_ide_set_medium(f->ide, 0, NULL, 0, NULL), -ENOTSUP);
    assert_int_equal(vmm_ide_set_medium(f->ide, 1, NULL, 0, NULL), -ENOENT);
    assert_int_equal(vmm_ide_set_medium(f->ide, 77, NULL, 0, NULL), -ENOENT);
    free(data);
    free(back);
}

static void resets_in_flight(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    table(f, 0, DATA, 4096 | 0x80000000u);
    for (uint32_t how = 0; how < 5; how++) {
        out(f, BM, 1, 0);
        out(f, BM + 4, 4, TABLE);
        out(f, 0x1f6, 1, 0xe0);
        out(f, 0x1f2, 1, 8);
        out(f, 0x1f7, 1, how & 1 ? 0x20 : 0xc8);
        out(f, BM, 1, 9);
        vmm_loop_dispatch(f->loop, 0); /* begun, not ended */
        if (how < 2) {
            out(f, 0x3f6, 1, 4);
            assert_int_equal(in(f, 0x3f6, 1), BSY);
            out(f, 0x3f6, 1, 0);
        } else if (how < 4) {
            vmm_device_reset(vmm_pci_device(vmm_ide_pci(f->ide)));
            enable(f);
        } else {
            out(f, BM, 1, 0); /* the bus master is stopped: the drive waits */
            assert_int_equal(in(f, 0x3f6, 1) & BSY, BSY);
            out(f, 0x3f6, 1, 4);
            out(f, 0x3f6, 1, 0);
        }
        settle(f);
        assert_int_equal(in(f, 0x1f2, 1) | in(f, 0x1f3, 1) << 8, 0x101);
        command(f, 0x1f0, 0xec, 0, 0);
        assert_int_equal(take(f, 0x1f0, data, 512), 512);
    }
}

static void no_interrupt_where_it_is_off(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    out(f, 0x3f6, 1, 2);
    command(f, 0x1f0, 0xec, 0, 0);
    assert_int_equal(f->irq[0], 0);
    assert_int_equal(take(f, 0x1f0, data, 512), 512);
    assert_int_equal(f->raised[0], 0);
}

/* Anything anywhere: no crash, and after a reset it works. */
static void random_writes(void **state)
{
    struct fixture *f = *state;
    uint64_t r = 88172645463325252u;
    uint8_t data[512];
    for (uint32_t i = 0; i < 60000; i++) {
        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        static const uint32_t places[] = {0x1f0, 0x1f0, 0x170, 0x170, 0x3f6, 0x376, BM, BM};
        uint32_t base = places[r & 7];
        uint32_t at = base == BM                   ? (uint32_t)(r >> 8 & 15)
                      : base & 0x200 && base != BM ? 0
                                                   : (uint32_t)(r >> 8 & 7);
        if (r >> 16 & 1)
            out(f, base + at, 1u << (r >> 20 & 1), (uint32_t)(r >> 32));
        else
            (void)in(f, base + at, 1u << (r >> 20 & 1));
        if (r >> 24 & 1)
            vmm_loop_dispatch(f->loop, 0);
    }
    for (uint32_t at = 0; at < 8; at++)
        for (uint32_t v = 0; v < 256; v++) {
            out(f, 0x1f0 + at, 1, v);
            out(f, 0x170 + at, 1, v);
            vmm_loop_dispatch(f->loop, 0);
        }
    vmm_device_reset(vmm_pci_device(vmm_ide_pci(f->ide)));
    settle(f);
    command(f, 0x1f0, 0xec, 0, 0);
    assert_int_equal(take(f, 0x1f0, data, 512), 512);
}

static void *save_device(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *data;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(vmm_ide_pci(f->ide)), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, length), 0);
    vmm_state_writer_free(w);
    return data;
}

static int load_device(struct fixture *f, const void *data, size_t length)
{
    struct vmm_state_reader *r;
    int rc = vmm_state_reader_new(data, length, &r, NULL);
    if (rc)
        return rc;
    rc = vmm_device_load(vmm_pci_device(vmm_ide_pci(f->ide)), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void saves_and_loads(void **state)
{
    struct fixture *f = *state, other = {0};
    uint8_t data[1024], pattern[1024];
    size_t length;
    memset(pattern, 0x3c, sizeof(pattern));
    assert_int_equal(vmm_block_write(f->disk, 0, pattern, 1024), 0);
    command(f, 0x1f0, 0x20, 0, 2);
    assert_int_equal(in(f, 0x1f0, 2), 0x3c3c); /* in the middle of a block */
    void *blob = save_device(f, &length);
    vmm_device_reset(vmm_pci_device(vmm_ide_pci(f->ide)));
    assert_int_equal(load_device(f, blob, length), 0);
    assert_int_equal(take(f, 0x1f0, data, 1024), 1022);
    assert_memory_equal(data, pattern, 1022);
    free(blob);
    enable(f);
    table(f, 0, DATA, 4096 | 0x80000000u);
    for (uint32_t begun = 0; begun < 2; begun++) { /* issued only, or with the backend */
        out(f, BM + 4, 4, TABLE);
        out(f, BM, 1, 0);
        out(f, 0x1f2, 1, 8);
        out(f, 0x1f3, 1, 0);
        out(f, 0x1f7, 1, 0xc8);
        out(f, BM, 1, 9);
        if (begun)
            vmm_loop_dispatch(f->loop, 0);
        blob = save_device(f, &length);
        assert_int_equal(load_device(f, blob, length), 0);
        settle(f);
        assert_int_equal(stop_dma(f, 0), 4);
        assert_int_equal(status(f, 0x1f0), 0x50);
        if (!begun)
            free(blob);
    }
    open_ide(&other, false);
    assert_int_equal(load_device(&other, blob, length), -EINVAL);
    close_ide(&other);
    for (size_t i = 0; i < length; i++) { /* whatever it says: taken or refused */
        ((uint8_t *)blob)[i] ^= 0x5a;
        (void)load_device(f, blob, length);
        ((uint8_t *)blob)[i] ^= 0x5a;
        if (i % 16 == 0)
            vmm_loop_dispatch(f->loop, 0);
    }
    settle(f);
    free(blob);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_ide_options o = VMM_IDE_OPTIONS_INIT;
    struct vmm_drive_options d = VMM_DRIVE_OPTIONS_INIT;
    struct vmm_ide *ide;
    assert_int_equal(vmm_ide_new(NULL, &ide, NULL), -EINVAL);
    assert_int_equal(vmm_ide_new(&o, &ide, NULL), -EINVAL);
    o.name = "ide1";
    o.memory = f->w.memory;
    o.loop = f->loop;
    o.ports = f->w.ports;
    assert_int_equal(vmm_ide_new(&o, &ide, NULL), -EEXIST);
    assert_int_equal(vmm_ide_plug(f->ide, 1, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_ide_plug(f->ide, 1, &d, NULL), -EINVAL);
    assert_int_equal(vmm_ide_plug(f->ide, VMM_IDE_DRIVES, &d, NULL), -EINVAL);
    assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, f->disk), -EEXIST);
    assert_null(vmm_ide_unref(NULL));
    vmm_ide_unref(vmm_ide_ref(f->ide));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(finds_drives),
        T(moves_data_by_pio),
        T(moves_data_by_dma),
        T(hostile_tables),
        T(packets),
        T(resets_in_flight),
        T(no_interrupt_where_it_is_off),
        T(random_writes),
        T(saves_and_loads),
        T(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
