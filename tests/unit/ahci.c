/* SPDX-License-Identifier: BSD-3-Clause */
/* AHCI as a driver sees it: disks, queues, CD-ROMs, hot plug, saving; and drivers that mean no good. */
#include "pci-world.h"

#include <libvmm/block-filters.h>
#include <libvmm/storage.h>

#define SECTORS 4096u
#define ABAR    (WINDOW)
#define LIST    0x1000u
#define FISES   0x2000u
#define TABLES  0x4000u /* one of 0x400 bytes a slot */
#define DATA    0x20000u
#define SLOT    3u

struct fixture {
    struct world w;
    struct vmm_loop *loop;
    struct vmm_block *disk, *medium;
    struct vmm_ahci *ahci;
};

static uint32_t reg(struct fixture *f, uint32_t at)
{
    return (uint32_t)mmio(&f->w, ABAR + at, 4);
}

static void set_reg(struct fixture *f, uint32_t at, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->w.mmio, ABAR + at, 4, value), 0);
}

static uint32_t port(uint32_t number, uint32_t at)
{
    return 0x100 + number * 0x80 + at;
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
    o.serial = "SERIAL-1";
    return vmm_ahci_plug(f->ahci, number, &o, NULL);
}

static void start(struct fixture *f)
{
    set_cfg(&f->w, 1, 0x24, 4, ABAR);
    set_cfg(&f->w, 1, 4, 2, 6);
    set_reg(f, 4, 0x80000002);
    for (uint32_t i = 0; i < 2; i++) {
        set_reg(f, port(i, 0x00), LIST);
        set_reg(f, port(i, 0x08), FISES);
        set_reg(f, port(i, 0x30), UINT32_MAX);
        set_reg(f, port(i, 0x10), UINT32_MAX);
        set_reg(f, port(i, 0x14), UINT32_MAX);
        set_reg(f, port(i, 0x18), 0x11);
    }
}

static void open_hba(struct fixture *f, bool with_drives)
{
    struct vmm_ahci_options o = VMM_AHCI_OPTIONS_INIT;
    world_open(&f->w);
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    o.name = "ahci0";
    o.memory = f->w.memory;
    o.loop = f->loop;
    assert_int_equal(vmm_ahci_new(&o, &f->ahci, NULL), 0);
    assert_int_equal(vmm_pci_host_add(f->w.host, vmm_ahci_pci(f->ahci), 1, 0, NULL), 0);
    f->disk = memory_block(f, SECTORS * 512);
    f->medium = memory_block(f, 64 * 2048);
    if (!with_drives)
        return;
    assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, f->disk), 0);
    assert_int_equal(plug(f, 1, VMM_DRIVE_CDROM, f->medium), 0);
    start(f);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    open_hba(f, true);
    return 0;
}

static void close_hba(struct fixture *f)
{
    assert_int_equal(vmm_pci_host_remove(f->w.host, vmm_ahci_pci(f->ahci)), 0);
    vmm_ahci_unref(f->ahci);
    vmm_block_unref(f->disk);
    vmm_block_unref(f->medium);
    world_close(&f->w);
    vmm_loop_unref(f->loop);
}

static int tear_down(void **state)
{
    close_hba(*state);
    free(*state);
    return 0;
}

static void put8(struct fixture *f, uint64_t at, uint8_t v)
{
    assert_int_equal(vmm_memory_store_u8(f->w.memory, at, v), 0);
}
static void put32(struct fixture *f, uint64_t at, uint32_t v)
{
    assert_int_equal(vmm_memory_store_u32(f->w.memory, at, v), 0);
}
static uint32_t get32(struct fixture *f, uint64_t at)
{
    uint32_t v = 0;
    assert_int_equal(vmm_memory_load_u32(f->w.memory, at, &v), 0);
    return v;
}
static uint8_t get8(struct fixture *f, uint64_t at)
{
    return (uint8_t)get32(f, at);
}

/* A command in a slot, with one region of `length` bytes at DATA (0: none). */
static void prepare(struct fixture *f, uint32_t slot, uint8_t command, uint64_t lba, uint16_t count,
                    uint32_t length)
{
    uint64_t t = TABLES + slot * 0x400;
    vmm_memory_fill(f->w.memory, t, 0, 0x400);
    put8(f, t, 0x27);
    put8(f, t + 1, 0x80);
    put8(f, t + 2, command);
    for (uint32_t i = 0; i < 3; i++) {
        put8(f, t + 4 + i, (uint8_t)(lba >> 8 * i));
        put8(f, t + 8 + i, (uint8_t)(lba >> (24 + 8 * i)));
    }
    put8(f, t + 7, 0x40);
    put8(f, t + 12, (uint8_t)count);
    put8(f, t + 13, (uint8_t)(count >> 8));
    put32(f, t + 0x80, DATA);
    put32(f, t + 0x8c, length - 1);
    put32(f, LIST + slot * 32, 5u | (length ? 1u << 16 : 0));
    put32(f, LIST + slot * 32 + 4, 0);
    put32(f, LIST + slot * 32 + 8, (uint32_t)t);
    put32(f, LIST + slot * 32 + 12, 0);
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 50; i++)
        vmm_loop_dispatch(f->loop, 0);
}

/* Issue a slot and give the status and error at its end. */
static uint32_t issue(struct fixture *f, uint32_t number, uint32_t slot)
{
    set_reg(f, port(number, 0x10), UINT32_MAX);
    set_reg(f, port(number, 0x38), 1u << slot);
    settle(f);
    return reg(f, port(number, 0x20)) & 0xffff;
}

static uint32_t run(struct fixture *f, uint8_t command, uint64_t lba, uint16_t count,
                    uint32_t length)
{
    prepare(f, SLOT, command, lba, count, length);
    return issue(f, 0, SLOT);
}

static uint32_t packet(struct fixture *f, const uint8_t *cdb, uint32_t length)
{
    prepare(f, SLOT, 0xa0, 0, 0, length);
    put8(f, TABLES + SLOT * 0x400 + 3, 1);
    assert_int_equal(vmm_memory_write(f->w.memory, TABLES + SLOT * 0x400 + 0x40, cdb, 12), 0);
    return issue(f, 1, SLOT);
}

/* Clear the error as a driver does. */
static void recover(struct fixture *f, uint32_t number)
{
    set_reg(f, port(number, 0x18), 0x10);
    set_reg(f, port(number, 0x10), UINT32_MAX);
    set_reg(f, port(number, 0x18), 0x11);
}

/* Tests ---------------------------------------------------------------------------------------- */

static void registers_tell_what_it_is(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cfg(&f->w, 1, 0, 4), 0x29228086);
    assert_int_equal(cfg(&f->w, 1, 8, 4) >> 8, 0x010601);
    assert_int_equal(reg(f, 0) & 0x1f, VMM_AHCI_PORTS - 1);
    assert_int_equal(reg(f, 0x0c), 0x3f);
    assert_int_equal(reg(f, 0x10), 0x10300);
    assert_int_equal(reg(f, port(0, 0x28)), 0x133);
    assert_int_equal(reg(f, port(0, 0x24)), 0x101);
    assert_int_equal(reg(f, port(1, 0x24)), 0xeb140101);
    assert_int_equal(reg(f, port(2, 0x28)), 0);
    assert_int_equal(reg(f, port(2, 0x24)), 0xffffffff);
}

static void identifies(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512], sum = 0;
    assert_int_equal(run(f, 0xec, 0, 0, 512), 0x50);
    vmm_memory_read(f->w.memory, DATA, data, sizeof(data));
    assert_memory_equal(data + 20, "ESIRLA1-", 8); /* bytes swapped */
    assert_int_equal(data[200] | data[201] << 8, SECTORS);
    for (uint32_t i = 0; i < 512; i++)
        sum = (uint8_t)(sum + data[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(get32(f, LIST + SLOT * 32 + 4), 512);
    assert_int_equal(get8(f, FISES + 0x20), 0x5f);
    assert_int_equal(get8(f, FISES + 0x2f), 0x50);
    assert_int_equal(reg(f, port(0, 0x10)) & 2, 2);
    assert_int_equal(f->w.lines[1] | f->w.lines[0] | f->w.lines[2] | f->w.lines[3], 1);
    set_reg(f, port(0, 0x10), UINT32_MAX);
    set_reg(f, 8, UINT32_MAX);
    assert_int_equal(f->w.lines[0] | f->w.lines[1] | f->w.lines[2] | f->w.lines[3], 0);
    assert_int_equal(run(f, 0xa1, 0, 0, 512) & 0xff01, 0x0401);
}

static void reads_and_writes(void **state)
{
    static const uint8_t reads[] = {0x20, 0x24, 0x25, 0x29, 0xc4, 0xc8};
    static const uint8_t writes[] = {0x30, 0x34, 0x35, 0x39, 0xc5, 0xca, 0x3d, 0xce};
    struct fixture *f = *state;
    uint8_t back[1024];
    for (uint32_t i = 0; i < sizeof(writes); i++) {
        vmm_memory_fill(f->w.memory, DATA, (uint8_t)(0x11 + i), 1024);
        assert_int_equal(run(f, writes[i], 100 + 2 * i, 2, 1024), 0x50);
        assert_int_equal(get8(f, FISES + 0x40), 0x34);
        assert_int_equal(vmm_block_read(f->disk, (100 + 2 * i) * 512, back, 1024), 0);
        assert_int_equal(back[0], 0x11 + i);
        assert_int_equal(back[1023], 0x11 + i);
    }
    for (uint32_t i = 0; i < sizeof(reads); i++) {
        vmm_memory_fill(f->w.memory, DATA, 0, 2048);
        assert_int_equal(run(f, reads[i], 100 + 2 * i, 2, 1024), 0x50);
        assert_int_equal(get8(f, DATA), 0x11 + i);
        assert_int_equal(get8(f, DATA + 1023), 0x11 + i);
        assert_int_equal(get8(f, DATA + 1024), 0);
        assert_int_equal(get32(f, LIST + SLOT * 32 + 4), 1024);
    }
    assert_int_equal(run(f, 0xe7, 0, 0, 0), 0x50);
    assert_int_equal(run(f, 0xea, 0, 0, 0), 0x50);
}

/* Ranges of odd places and lengths, in many pieces: 256 sectors in ranges of 66 bytes and fewer. */
static void long_scatter_lists(void **state)
{
    struct fixture *f = *state;
    uint32_t bytes = 128 * 512, at = 0, n = 0, table = 0x80000;
    for (uint32_t i = 0; i < bytes; i += 4)
        put32(f, DATA + i, i * 2654435761u);
    prepare(f, SLOT, 0x35, 8, 128, bytes);
    assert_int_equal(issue(f, 0, SLOT), 0x50);
    prepare(f, SLOT, 0x25, 8, 128, 512);
    vmm_memory_fill(f->w.memory, table, 0, 0x80);
    uint8_t fis[0x40];
    vmm_memory_read(f->w.memory, TABLES + SLOT * 0x400, fis, sizeof(fis));
    vmm_memory_write(f->w.memory, table, fis, sizeof(fis));
    while (at < bytes) {
        uint32_t part = 2 + 2 * (n % 33);
        part = part < bytes - at ? part : bytes - at;
        put32(f, table + 0x80 + n * 16, 0x40000 + at);
        put32(f, table + 0x84 + n * 16, 0);
        put32(f, table + 0x8c + n * 16, part - 1);
        at += part;
        n++;
    }
    put32(f, LIST + SLOT * 32, 5u | n << 16);
    put32(f, LIST + SLOT * 32 + 8, table);
    assert_true(n > 1000);
    assert_int_equal(issue(f, 0, SLOT), 0x50);
    int result = 1;
    assert_int_equal(vmm_memory_compare_guest(f->w.memory, DATA, 0x40000, bytes, &result), 0);
    assert_int_equal(result, 0);
}

static void queues_commands(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 32; i++) {
        prepare(f, i, i & 1 ? 0x61 : 0x60, 10 + i, 0, 512);
        put8(f, TABLES + i * 0x400 + 3, 1);
        put8(f, TABLES + i * 0x400 + 12, (uint8_t)(i << 3));
    }
    set_reg(f, port(0, 0x10), UINT32_MAX);
    set_reg(f, port(0, 0x34), UINT32_MAX);
    set_reg(f, port(0, 0x38), UINT32_MAX);
    settle(f);
    assert_int_equal(reg(f, port(0, 0x34)), 0);
    assert_int_equal(reg(f, port(0, 0x38)), 0);
    assert_int_equal(reg(f, port(0, 0x10)) & 8, 8);
    assert_int_equal(get8(f, FISES + 0x58), 0xa1);
    /* A tag that is not the slot's, and one that is not announced: an error, told by log 10h. */
    for (uint32_t i = 0; i < 2; i++) {
        prepare(f, SLOT, 0x60, i ? SECTORS : 0, 0, 512);
        put8(f, TABLES + SLOT * 0x400 + 3, 1);
        put8(f, TABLES + SLOT * 0x400 + 12, i ? SLOT << 3 : 5 << 3);
        set_reg(f, port(0, 0x34), 1u << SLOT);
        assert_int_equal(issue(f, 0, SLOT) & 1, 1);
        assert_int_equal(reg(f, port(0, 0x34)), 1u << SLOT);
        assert_true(reg(f, port(0, 0x10)) & 0x40000000);
        recover(f, 0);
        assert_int_equal(reg(f, port(0, 0x34)), 0);
    }
    assert_int_equal(run(f, 0x2f, 0x10, 1, 512), 0x50);
    assert_int_equal(get8(f, DATA), SLOT);
    assert_int_equal(get8(f, DATA + 3), 0x10);
}

static void refuses_what_it_must(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t command;
        uint64_t lba;
        uint16_t count;
        uint32_t length, status;
    } list[] = {
        {0x25, SECTORS, 1, 512, 0x1051}, {0x25, SECTORS - 1, 2, 1024, 0x1051},
        {0x25, 0, 0, 512, 0x1051},       {0x25, UINT64_MAX, 1, 512, 0x1051},
        {0x25, 0, 2, 512, 0x0451},       {0x35, 0, 9, 4096, 0x0451},
        {0xff, 0, 0, 0, 0x0451},         {0x00, 0, 0, 0, 0x0451},
        {0xa0, 0, 0, 512, 0x0451},       {0xb0, 0, 0, 512, 0x0451},
        {0x06, 0, 1, 0, 0x0451},         {0xef, 0, 0, 0, 0x0451},
    };
    for (uint32_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        assert_int_equal(run(f, list[i].command, list[i].lba, list[i].count, list[i].length),
                         list[i].status);
        assert_true(reg(f, port(0, 0x10)) & 0x40000000);
        assert_int_equal(reg(f, port(0, 0x38)), 1u << SLOT);
        recover(f, 0);
        assert_int_equal(reg(f, port(0, 0x38)), 0);
    }
    assert_int_equal(run(f, 0xe5, 0, 0, 0), 0x50); /* and goes on */
}

static void discards(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    memset(data, 7, sizeof(data));
    assert_int_equal(vmm_block_write(f->disk, 50 * 512, data, 512), 0);
    assert_int_equal(vmm_block_write(f->disk, 60 * 512, data, 512), 0);
    vmm_memory_fill(f->w.memory, DATA, 0, 512);
    put32(f, DATA, 50);
    put32(f, DATA + 4, 1u << 16);
    put32(f, DATA + 8, 60);
    put32(f, DATA + 12, 2u << 16);
    prepare(f, SLOT, 6, 0, 1, 512);
    put8(f, TABLES + SLOT * 0x400 + 3, 1);
    assert_int_equal(issue(f, 0, SLOT), 0x50);
    assert_int_equal(vmm_block_read(f->disk, 60 * 512, data, 512), 0);
    assert_int_equal(data[0], 0);
    assert_int_equal(vmm_block_read(f->disk, 50 * 512, data, 512), 0);
    assert_int_equal(data[0], 0);
    put32(f, DATA + 8, SECTORS - 1); /* beyond the end: nothing is done */
    assert_int_equal(issue(f, 0, SLOT), 0x1051);
}

/* A disk of 4 KiB sectors: it says so, and addresses count them. */
static void large_sectors(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_drive_options d = VMM_DRIVE_OPTIONS_INIT;
    struct vmm_block *block;
    uint8_t data[512], *back = malloc(8192);
    o.length = 64 * 4096;
    o.block_size = 4096;
    assert_int_equal(vmm_block_memory_new(f->loop, &o, &block, NULL), 0);
    d.type = VMM_DRIVE_CDROM;
    d.block = block;
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    assert_int_equal(vmm_ahci_unplug(f->ahci, 0), 0);
    assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, block), 0);
    start(f);
    assert_int_equal(run(f, 0xec, 0, 0, 512), 0x50);
    vmm_memory_read(f->w.memory, DATA, data, sizeof(data));
    assert_int_equal(data[200] | data[201] << 8, 64);
    assert_int_equal(data[213], 0x50);
    assert_int_equal(data[234] | data[235] << 8, 2048);
    vmm_memory_fill(f->w.memory, DATA, 0x3c, 8192);
    assert_int_equal(run(f, 0x35, 61, 2, 8192), 0x50);
    assert_int_equal(vmm_block_read(block, 61 * 4096, back, 8192), 0);
    assert_int_equal(back[0], 0x3c);
    assert_int_equal(back[8191], 0x3c);
    vmm_memory_fill(f->w.memory, DATA, 0, 8192);
    assert_int_equal(run(f, 0x25, 62, 1, 4096), 0x50);
    assert_int_equal(get8(f, DATA + 4095), 0x3c);
    assert_int_equal(get8(f, DATA + 4096), 0);
    assert_int_equal(run(f, 0x25, 63, 2, 8192), 0x1051); /* beyond the end */
    free(back);
    vmm_block_unref(block);
}

static void smart_answers(void **state)
{
    struct fixture *f = *state;
    static const uint8_t features[] = {0xd0, 0xd1, 0xd5, 0xda, 0xd9, 0xd8};
    for (uint32_t i = 0; i < sizeof(features); i++) {
        prepare(f, SLOT, 0xb0, 0xc24f01, 1, i < 3 ? 512 : 0);
        put8(f, TABLES + SLOT * 0x400 + 3, features[i]);
        assert_int_equal(issue(f, 0, SLOT), 0x50);
    }
    assert_int_equal(get8(f, FISES + 0x45), 0x4f);
    assert_int_equal(get8(f, FISES + 0x46), 0xc2);
}

static void bad_addresses_end_in_errors(void **state)
{
    struct fixture *f = *state;
    static const uint32_t bad[] = {RAM, 0xffffff00, ABAR, ECAM};
    for (uint32_t i = 0; i < 4; i++) {
        prepare(f, SLOT, 0x25, 0, 1, 512); /* the data */
        put32(f, TABLES + SLOT * 0x400 + 0x80, bad[i]);
        assert_int_equal(issue(f, 0, SLOT), 0x0451);
        recover(f, 0);
        prepare(f, SLOT, 0x25, 0, 1, 512); /* the table */
        put32(f, LIST + SLOT * 32 + 8, bad[i]);
        (void)issue(f, 0, SLOT);
        assert_true(reg(f, port(0, 0x10)) & 0x20000000);
        recover(f, 0);
        set_reg(f, port(0, 0x00), bad[i]); /* the list */
        (void)issue(f, 0, SLOT);
        assert_true(reg(f, port(0, 0x10)) & 0x20000000);
        recover(f, 0);
        set_reg(f, port(0, 0x00), LIST);
        set_reg(f, port(0, 0x08), bad[i]); /* the answers */
        prepare(f, SLOT, 0xe7, 0, 0, 0);
        (void)issue(f, 0, SLOT);
        assert_true(reg(f, port(0, 0x10)) & 0x20000000);
        recover(f, 0);
        set_reg(f, port(0, 0x08), FISES);
        set_reg(f, port(0, 0x10), UINT32_MAX);
    }
    set_cfg(&f->w, 1, 4, 2, 2); /* no bus master */
    (void)issue(f, 0, SLOT);
    assert_true(reg(f, port(0, 0x10)) & 0x20000000);
    set_cfg(&f->w, 1, 4, 2, 6);
    recover(f, 0);
    /* A table full of the largest regions, all of the same memory: only what is needed is read. */
    prepare(f, SLOT, 0x25, 0, 1, 512);
    put32(f, LIST + SLOT * 32, 5u | 0xffffu << 16);
    assert_int_equal(issue(f, 0, SLOT), 0x50);
    /* A region that wraps around the end of addresses. */
    put32(f, TABLES + SLOT * 0x400 + 0x80, 0xfffffffe);
    put32(f, TABLES + SLOT * 0x400 + 0x84, 0xffffffff);
    assert_int_equal(issue(f, 0, SLOT), 0x0451);
}

static void resets_in_flight(void **state)
{
    struct fixture *f = *state;
    for (uint32_t how = 0; how < 4; how++) {
        prepare(f, SLOT, 0x25, 0, 8, 4096);
        set_reg(f, port(0, 0x38), 1u << SLOT);
        vmm_loop_dispatch(f->loop, 0); /* begun, not ended */
        if (how == 0)
            set_reg(f, port(0, 0x18), 0x10);
        else if (how == 1)
            set_reg(f, 4, 1);
        else if (how == 2)
            vmm_device_reset(vmm_pci_device(vmm_ahci_pci(f->ahci)));
        else
            set_reg(f, port(0, 0x2c), 1);
        settle(f);
        start(f);
        set_reg(f, port(0, 0x2c), 0);
        assert_int_equal(run(f, 0x25, 0, 8, 4096), 0x50);
    }
    /* By a FIS (SRST on and off). */
    prepare(f, SLOT, 0, 0, 0, 0);
    put8(f, TABLES + SLOT * 0x400 + 1, 0);
    put8(f, TABLES + SLOT * 0x400 + 15, 4);
    (void)issue(f, 0, SLOT);
    put8(f, TABLES + SLOT * 0x400 + 15, 0);
    assert_int_equal(issue(f, 0, SLOT), 0x150);
    assert_int_equal(reg(f, port(0, 0x38)), 0);
    assert_int_equal(reg(f, port(0, 0x24)), 0x101);
}

static void cdrom_answers(void **state)
{
    struct fixture *f = *state;
    static const uint8_t ready[12] = {0}, sense[12] = {3, 0, 0, 0, 18}, capacity[12] = {0x25},
                         read[12] = {0x28, 0, 0, 0, 0, 5, 0, 0, 2},
                         beyond[12] = {0xa8, 0, 0, 0, 0, 63, 0, 0, 0, 2},
                         toc[12] = {0x43, 0, 0, 0, 0, 0, 0, 0, 20}, lock[12] = {0x1e, 0, 0, 0, 1},
                         unlock[12] = {0x1e}, eject[12] = {0x1b, 0, 0, 0, 2},
                         event[12] = {0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8};
    uint8_t data[512];
    memset(data, 9, sizeof(data));
    assert_int_equal(vmm_block_write(f->medium, 5 * 2048, data, 512), 0);
    assert_int_equal(packet(f, ready, 0), 0x6451); /* unit attention: a reset */
    recover(f, 1);
    assert_int_equal(packet(f, ready, 0), 0x50);
    assert_int_equal(packet(f, capacity, 8), 0x50);
    assert_int_equal(get32(f, DATA), 63u << 24);
    assert_int_equal(packet(f, read, 4096), 0x50);
    assert_int_equal(get8(f, DATA), 9);
    assert_int_equal(get8(f, DATA + 512), 0);
    assert_int_equal(packet(f, toc, 20), 0x50);
    assert_int_equal(get8(f, DATA + 14), 0xaa);
    assert_int_equal(packet(f, beyond, 4096), 0x5451);
    recover(f, 1);
    assert_int_equal(packet(f, sense, 18), 0x50);
    assert_int_equal(get8(f, DATA + 12), 0x21);
    assert_int_equal(packet(f, lock, 0), 0x50);
    assert_int_equal(packet(f, eject, 0), 0x5451);
    recover(f, 1);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 1, NULL, 0, NULL), -EBUSY);
    assert_int_equal(packet(f, event, 8), 0x50);
    assert_int_equal(get8(f, DATA + 4), 1); /* somebody wants it */
    assert_int_equal(packet(f, unlock, 0), 0x50);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 1, NULL, 0, NULL), 0);
    assert_int_equal(packet(f, ready, 0), 0x6451);
    recover(f, 1);
    assert_int_equal(packet(f, ready, 0), 0x2451);
    recover(f, 1);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 1, f->medium, 0, NULL), 0);
    assert_int_equal(packet(f, event, 8), 0x50);
    assert_int_equal(get8(f, DATA + 4), 2);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 0, NULL, 0, NULL), -ENOTSUP);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 4, NULL, 0, NULL), -ENOENT);
    assert_int_equal(vmm_ahci_set_medium(f->ahci, 99, NULL, 0, NULL), -ENOENT);
}

/* Every operation code, with fields of all ones and with none: an answer within its buffer. */
static void every_packet_ends(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 512; i++) {
        uint8_t cdb[12];
        memset(cdb, i & 1 ? 0xff : 0, sizeof(cdb));
        cdb[0] = (uint8_t)(i >> 1);
        uint32_t status = packet(f, cdb, 512);
        assert_int_equal(status & 0x88, 0);
        if (status & 1)
            recover(f, 1);
    }
}

static void every_register_takes_every_value(void **state)
{
    struct fixture *f = *state;
    static const uint32_t values[] = {0,          1,          0x11,       0xffffffff,
                                      0x80000000, 0x55555555, 0xaaaaaaaa, 0x0000ff00};
    for (uint32_t at = 0; at < 0x1000; at += 4)
        for (uint32_t i = 0; i < 8; i++) {
            set_reg(f, at, values[i]);
            (void)reg(f, at);
            vmm_loop_dispatch(f->loop, 0);
        }
    vmm_device_reset(vmm_pci_device(vmm_ahci_pci(f->ahci)));
    start(f);
    assert_int_equal(run(f, 0xec, 0, 0, 512), 0x50);
}

static void plugs_while_it_runs(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, f->disk), -EEXIST);
    prepare(f, SLOT, 0x25, 0, 8, 4096);
    set_reg(f, port(0, 0x38), 1u << SLOT);
    vmm_loop_dispatch(f->loop, 0);
    assert_int_equal(vmm_ahci_unplug(f->ahci, 0), 0);
    assert_int_equal(vmm_ahci_unplug(f->ahci, 0), -ENOENT);
    assert_int_equal(reg(f, port(0, 0x28)), 0);
    assert_true(reg(f, port(0, 0x30)) & 0x10000);
    assert_int_equal(reg(f, port(0, 0x10)) & 0x400000, 0x400000);
    settle(f);
    assert_int_equal(plug(f, 0, VMM_DRIVE_DISK, f->disk), 0);
    assert_int_equal(reg(f, port(0, 0x10)) & 0x40, 0x40);
    assert_int_equal(reg(f, port(0, 0x28)), 0x133);
    recover(f, 0);
    assert_int_equal(run(f, 0xec, 0, 0, 512), 0x50);
}

static void *save_device(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *data;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(vmm_ahci_pci(f->ahci)), w), 0);
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
    rc = vmm_device_load(vmm_pci_device(vmm_ahci_pci(f->ahci)), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void saves_and_loads(void **state)
{
    struct fixture *f = *state, other = {0};
    size_t length;
    prepare(f, SLOT, 0x25, 0, 8, 4096);
    set_reg(f, port(0, 0x38), 1u << SLOT); /* issued, not begun */
    void *data = save_device(f, &length);
    vmm_device_reset(vmm_pci_device(vmm_ahci_pci(f->ahci)));
    assert_int_equal(load_device(f, data, length), 0);
    assert_int_equal(reg(f, port(0, 0x38)), 1u << SLOT);
    settle(f);
    assert_int_equal(reg(f, port(0, 0x38)), 0);
    free(data);
    prepare(f, SLOT, 0x25, 0, 8, 4096);
    set_reg(f, port(0, 0x38), 1u << SLOT);
    vmm_loop_dispatch(f->loop, 0); /* begun: saving sees to its end */
    data = save_device(f, &length);
    assert_int_equal(reg(f, port(0, 0x38)), 0);
    open_hba(&other, false); /* without the drives */
    assert_int_equal(load_device(&other, data, length), -EINVAL);
    close_hba(&other);
    for (size_t i = 0; i < length; i++) { /* whatever it says: taken or refused */
        ((uint8_t *)data)[i] ^= 0x5a;
        (void)load_device(f, data, length);
        ((uint8_t *)data)[i] ^= 0x5a;
    }
    settle(f);
    free(data);
}

static void messages_are_sent(void **state)
{
    struct fixture *f = *state;
    uint32_t msi = capability(&f->w, 1, 5);
    set_cfg(&f->w, 1, msi + 4, 4, 0xfee00000);
    set_cfg(&f->w, 1, msi + 12, 2, 0x41);
    set_cfg(&f->w, 1, msi + 2, 2, 1);
    uint32_t before = f->w.sent_count;
    assert_int_equal(run(f, 0xec, 0, 0, 512), 0x50);
    assert_true(f->w.sent_count > before);
    assert_int_equal(f->w.sent[before % 64].data, 0x41);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_ahci_options o = VMM_AHCI_OPTIONS_INIT;
    struct vmm_drive_options d = VMM_DRIVE_OPTIONS_INIT;
    struct vmm_ahci *ahci;
    struct vmm_block *small = memory_block(f, 512);
    assert_int_equal(vmm_ahci_new(NULL, &ahci, NULL), -EINVAL);
    assert_int_equal(vmm_ahci_new(&o, &ahci, NULL), -EINVAL);
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    d.type = VMM_DRIVE_DISK;
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    d.block = small;
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    d.block = f->disk;
    assert_int_equal(vmm_ahci_plug(f->ahci, VMM_AHCI_PORTS, &d, NULL), -EINVAL);
    d.serial = "123456789012345678901";
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    d.serial = "\n";
    assert_int_equal(vmm_ahci_plug(f->ahci, 2, &d, NULL), -EINVAL);
    assert_int_equal(vmm_ahci_unplug(f->ahci, 99), -ENOENT);
    vmm_block_unref(small);
    assert_null(vmm_ahci_unref(NULL));
    vmm_ahci_unref(vmm_ahci_ref(f->ahci));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(registers_tell_what_it_is),
        T(identifies),
        T(reads_and_writes),
        T(long_scatter_lists),
        T(queues_commands),
        T(refuses_what_it_must),
        T(discards),
        T(large_sectors),
        T(smart_answers),
        T(bad_addresses_end_in_errors),
        T(resets_in_flight),
        T(cdrom_answers),
        T(every_packet_ends),
        T(every_register_takes_every_value),
        T(plugs_while_it_runs),
        T(saves_and_loads),
        T(messages_are_sent),
        T(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
