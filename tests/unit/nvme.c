/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe controller as a well-behaved driver uses it. */
#include "nvme-driver.h"

static uint8_t byte_at(struct driver *d, uint64_t address)
{
    uint8_t value = 0;
    assert_int_equal(vmm_memory_load_u8(d->w.memory, address, &value), 0);
    return value;
}

static struct command identify(uint32_t what, uint32_t nsid)
{
    struct command c = command(6, nsid);
    c.dw[6] = DATA;
    c.dw[10] = what;
    return c;
}

static struct command log_page(uint32_t id, uint32_t bytes)
{
    struct command c = command(2, UINT32_MAX);
    c.dw[6] = DATA;
    c.dw[10] = id | (bytes / 4 - 1) << 16;
    return c;
}

static struct command feature(bool set, uint32_t id, uint32_t value)
{
    struct command c = command(set ? 9 : 10, 0);
    c.dw[10] = id;
    c.dw[11] = value;
    return c;
}

static void test_registers(void **state)
{
    struct driver *d = *state;
    assert_int_equal(cfg(&d->w, 1, 8, 4) >> 8, 0x010802);
    assert_int_equal(reg(d, 0) & 0xffff, 1023);
    assert_int_equal(mmio(&d->w, BAR, 8) >> 37 & 1, 1);
    assert_int_equal(reg(d, 8), 0x00010400);
    assert_int_equal(reg(d, 0x1c), 0);
    set_reg(d, 0x0c, 5);
    set_reg(d, 0x10, 4);
    assert_int_equal(reg(d, 0x0c), 1);
    enable(d);
    set_reg(d, 0x28, 0xdead000); /* not while it is enabled */
    assert_int_equal(reg(d, 0x28), ASQ);
    set_reg(d, 0x14, 0);
    assert_int_equal(reg(d, 0x1c), 0);
    enable(d);
}

static void test_identify(void **state)
{
    struct driver *d = *state;
    char text[41] = {0};
    enable(d);
    assert_int_equal(status(d, 0, identify(1, 0)), 0);
    vmm_memory_read(d->w.memory, DATA + 4, text, 20);
    assert_string_equal(text, "SERIAL              ");
    assert_int_equal(byte_at(d, DATA + 77), 7);
    assert_int_equal(status(d, 0, identify(0, 1)), 0);
    assert_int_equal(byte_at(d, DATA) | byte_at(d, DATA + 1) << 8, BLOCKS);
    assert_int_equal(byte_at(d, DATA + 130), 9);
    assert_int_equal(status(d, 0, identify(0, 2)), 0); /* not attached: zeros */
    assert_int_equal(byte_at(d, DATA + 1), 0);
    assert_int_equal(status(d, 0, identify(0, 65)), 0x0b);
    assert_int_equal(status(d, 0, identify(2, 0)), 0);
    assert_int_equal(byte_at(d, DATA), 1);
    assert_int_equal(byte_at(d, DATA + 4), 0);
    assert_int_equal(status(d, 0, identify(2, 1)), 0);
    assert_int_equal(byte_at(d, DATA), 0);
    assert_int_equal(status(d, 0, identify(3, 1)), 0);
    assert_int_equal(byte_at(d, DATA), 1); /* EUI-64 */
    assert_int_equal(byte_at(d, DATA + 11), 1);
    assert_int_equal(status(d, 0, identify(3, 9)), 0x0b);
    assert_int_equal(status(d, 0, identify(0x42, 1)), 2);
    assert_int_equal(status(d, 0, command(0x55, 0)), 1);
}

static void test_uuid_and_4096(void **state)
{
    struct driver *d = *state;
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    struct disk big = {.block_size = 4096, .read_only = 1};
    uint32_t id = 0;
    disk_open(&big, d->loop);
    memset(ns.uuid, 0xab, 16);
    ns.block = big.block;
    ns.id = 7;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, &id, NULL), 0);
    assert_int_equal(id, 7);
    enable(d);
    open_pair(d, 1, ENTRIES);
    assert_int_equal(status(d, 0, identify(3, 7)), 0);
    assert_int_equal(byte_at(d, DATA), 3);
    assert_int_equal(byte_at(d, DATA + 19), 0xab);
    assert_int_equal(status(d, 0, identify(0, 7)), 0);
    assert_int_equal(byte_at(d, DATA + 130), 12);
    assert_int_equal(byte_at(d, DATA + 99), 1);
    big.data[5 * 4096] = 0x77;
    struct command c = transfer(2, 5, 1, DATA);
    c.dw[1] = 7;
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(byte_at(d, DATA), 0x77);
    c.dw[0] = 1;
    assert_int_equal(status(d, 1, c), 0x20);
    c.dw[0] = 8;
    assert_int_equal(status(d, 1, c), 0x20);
    assert_int_equal(vmm_nvme_remove(d->nvme, 7, NULL), 0);
    disk_close(&big);
}

static void test_read_write(void **state)
{
    struct driver *d = *state;
    enable(d);
    open_pair(d, 1, ENTRIES);
    vmm_memory_fill(d->w.memory, DATA, 0x5a, 4096);
    assert_int_equal(status(d, 1, transfer(1, 10, 8, DATA)), 0);
    assert_int_equal(d->disk.data[10 * 512], 0x5a);
    assert_int_equal(d->disk.data[18 * 512 - 1], 0x5a);
    assert_int_equal(d->disk.data[18 * 512], 0);
    assert_int_equal(d->disk.fua, 0);
    struct command c = transfer(1, 10, 8, DATA);
    c.dw[12] |= 1u << 30;
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(d->disk.fua, 1);
    /* Many, so that the rings wrap. */
    for (uint32_t i = 0; i < 100; i++) {
        memset(d->disk.data + i * 512, (int)i, 512);
        assert_int_equal(status(d, 1, transfer(2, i, 1, DATA + 0x200)), 0);
        assert_int_equal(byte_at(d, DATA + 0x200), i);
        assert_int_equal(byte_at(d, DATA + 0x3ff), i);
    }
    assert_int_equal(status(d, 1, transfer(2, BLOCKS, 1, DATA)), 0x80);
    assert_int_equal(status(d, 1, transfer(2, BLOCKS - 1, 2, DATA)), 0x80);
    assert_int_equal(status(d, 1, transfer(2, UINT64_MAX, 1, DATA)), 0x80);
    assert_int_equal(status(d, 1, transfer(2, BLOCKS - 1, 1, DATA)), 0);
    c = transfer(2, 0, 1, DATA);
    c.dw[1] = 2;
    assert_int_equal(status(d, 1, c), 0x0b);
    assert_int_equal(status(d, 1, command(0, 1)), 0);
    assert_int_equal(d->disk.flushes, 1);
    assert_int_equal(status(d, 1, command(0, UINT32_MAX)), 0x0b);
    assert_int_equal(status(d, 1, command(0x0d, 1)), 1);
    d->disk.fail = -EIO;
    assert_int_equal(status(d, 1, transfer(2, 0, 1, DATA)), 0x281);
    assert_int_equal(status(d, 1, transfer(1, 0, 1, DATA)), 0x280);
    assert_int_equal(status(d, 1, command(0, 1)), 0x06);
    d->disk.fail = -ENOSPC;
    assert_int_equal(status(d, 1, transfer(1, 0, 1, DATA)), 0x81);
}

/* Data in every page of a list, in both directions, at an offset. */
static void test_prp_list(void **state)
{
    struct driver *d = *state;
    struct command c = transfer(1, 0, 1024, DATA + 0x800);
    enable(d);
    open_pair(d, 1, ENTRIES);
    /* 512 KiB of data but less memory: pages are used over and over. Writing takes them all. */
    for (uint32_t i = 0; i < 128; i++)
        vmm_memory_store_u64(d->w.memory, LIST + 8 * i, DATA + 0x1000 * (1 + i % 64));
    for (uint32_t i = 0; i < 65; i++)
        vmm_memory_fill(d->w.memory, DATA + 0x1000 * i, (uint8_t)(i + 1), 0x1000);
    c.dw[8] = LIST;
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(d->disk.data[0], 1);
    for (uint32_t i = 0; i < 127; i++)
        assert_int_equal(d->disk.data[0x800 + 0x1000 * i], 2 + i % 64);
    assert_int_equal(d->disk.data[1024 * 512 - 1], 2 + 127 % 64);
    /* The list begins at the end of a page, and goes on in another. */
    vmm_memory_store_u64(d->w.memory, LIST + 0xff0, DATA + 0x1000);
    vmm_memory_store_u64(d->w.memory, LIST + 0xff8, LIST + 0x1000);
    vmm_memory_store_u64(d->w.memory, LIST + 0x1000, DATA + 0x5000);
    vmm_memory_store_u64(d->w.memory, LIST + 0x1008, DATA + 0x3000);
    c = transfer(2, 0, 32, DATA);
    c.dw[8] = LIST + 0xff0;
    for (uint32_t i = 0; i < 4; i++)
        memset(d->disk.data + i * 0x1000, (int)(0xa0 + i), 0x1000);
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(byte_at(d, DATA), 0xa0);
    assert_int_equal(byte_at(d, DATA + 0x1fff), 0xa1);
    assert_int_equal(byte_at(d, DATA + 0x5000), 0xa2);
    assert_int_equal(byte_at(d, DATA + 0x3fff), 0xa3);
    assert_int_equal(byte_at(d, DATA + 0x4000), 5);
}

static void sgl(struct driver *d, uint64_t at, uint64_t address, uint32_t length, uint8_t type)
{
    vmm_memory_store_u64(d->w.memory, at, address);
    vmm_memory_store_u32(d->w.memory, at + 8, length);
    vmm_memory_store_u32(d->w.memory, at + 12, (uint32_t)type << 28);
}

static struct command with_sgl(struct command c, uint64_t address, uint32_t length, uint8_t type)
{
    c.dw[0] |= 1u << 14;
    c.dw[6] = (uint32_t)address;
    c.dw[7] = (uint32_t)(address >> 32);
    c.dw[8] = length;
    c.dw[9] = (uint32_t)type << 28;
    return c;
}

static void test_sgl(void **state)
{
    struct driver *d = *state;
    enable(d);
    open_pair(d, 1, ENTRIES);
    memset(d->disk.data, 0x11, 1024);
    memset(d->disk.data + 1024, 0x22, 1024);
    const struct command read = transfer(2, 0, 4, 0);
    assert_int_equal(status(d, 1, with_sgl(read, DATA + 3, 2048, 0)), 0);
    assert_int_equal(byte_at(d, DATA + 3), 0x11);
    assert_int_equal(byte_at(d, DATA + 3 + 2047), 0x22);
    /* A segment, which leads to a last one; odd lengths, an empty block. */
    sgl(d, LIST, DATA + 0x1001, 1023, 0);
    sgl(d, LIST + 16, DATA, 0, 0);
    sgl(d, LIST + 32, LIST + 0x100, 32, 3);
    sgl(d, LIST + 0x100, DATA + 0x2000, 1, 0);
    sgl(d, LIST + 0x110, DATA + 0x3000, 1024, 0);
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 48, 2)), 0);
    assert_int_equal(byte_at(d, DATA + 0x1001 + 1022), 0x11);
    assert_int_equal(byte_at(d, DATA + 0x2000), 0x11);
    assert_int_equal(byte_at(d, DATA + 0x3000), 0x22);
    /* Each mistake has its status. */
    assert_int_equal(status(d, 1, with_sgl(read, DATA, 2047, 0)), 0x0f);
    assert_int_equal(status(d, 1, with_sgl(read, DATA, 2049, 0)), 0x0f);
    assert_int_equal(status(d, 1, with_sgl(read, DATA, 2048, 1)), 0x11);
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 40, 2)), 0x0d);
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 0, 3)), 0x0d);
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 48, 3)), 0x0d); /* a link in the last */
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 0x10000, 3)), 0x0e);
    assert_int_equal(status(d, 1, with_sgl(read, RAM, 48, 3)), 0x04);
    assert_int_equal(status(d, 1, with_sgl(read, UINT64_MAX - 15, 32, 3)), 0x04);
    sgl(d, LIST, LIST, 16, 2); /* leads to itself */
    assert_int_equal(status(d, 1, with_sgl(read, LIST, 16, 2)), 0x0e);
    struct command c = identify(1, 0);
    c.dw[0] |= 1u << 14; /* not for admin commands */
    assert_int_equal(status(d, 0, c), 2);
}

static void test_other_commands(void **state)
{
    struct driver *d = *state;
    enable(d);
    open_pair(d, 1, ENTRIES);
    /* Compare. */
    memset(d->disk.data, 0x33, 4096);
    vmm_memory_fill(d->w.memory, DATA, 0x33, 4096);
    assert_int_equal(status(d, 1, transfer(5, 0, 8, DATA)), 0);
    vmm_memory_store_u8(d->w.memory, DATA + 4095, 0);
    assert_int_equal(status(d, 1, transfer(5, 0, 8, DATA)), 0x285);
    assert_int_equal(status(d, 1, transfer(5, 0, 7, DATA)), 0);
    assert_int_equal(status(d, 1, transfer(5, BLOCKS, 1, DATA)), 0x80);
    assert_int_equal(status(d, 1, transfer(5, 0, 1, RAM)), 0x04);
    /* Write zeroes. */
    assert_int_equal(status(d, 1, transfer(8, 1, 2, 0)), 0);
    assert_int_equal(d->disk.data[511], 0x33);
    assert_int_equal(d->disk.data[512], 0);
    assert_int_equal(d->disk.data[3 * 512], 0x33);
    assert_int_equal(status(d, 1, transfer(8, BLOCKS - 1, 2, 0)), 0x80);
    /* Two ranges of three are thrown away, the third is empty. */
    struct command c = command(9, 1);
    c.dw[6] = DATA;
    c.dw[10] = 2;
    c.dw[11] = 4;
    vmm_memory_fill(d->w.memory, DATA, 0, 4096);
    vmm_memory_store_u32(d->w.memory, DATA + 4, 1);
    vmm_memory_store_u64(d->w.memory, DATA + 8, 4);
    vmm_memory_store_u32(d->w.memory, DATA + 36, 1);
    vmm_memory_store_u64(d->w.memory, DATA + 40, 6);
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(d->disk.discards, 2);
    assert_int_equal(d->disk.data[4 * 512], 0xdd);
    assert_int_equal(d->disk.data[5 * 512], 0x33);
    assert_int_equal(d->disk.data[6 * 512], 0xdd);
    vmm_memory_store_u64(d->w.memory, DATA + 40, BLOCKS);
    assert_int_equal(status(d, 1, c), 0x80); /* and then nothing is thrown away */
    assert_int_equal(d->disk.discards, 2);
    c.dw[11] = 3; /* hints only */
    vmm_memory_store_u64(d->w.memory, DATA + 40, 6);
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(d->disk.discards, 2);
    /* Fused ones are not supported. */
    c = transfer(2, 0, 1, DATA);
    c.dw[0] |= 1u << 8;
    assert_int_equal(status(d, 1, c), 2);
    /* Format. */
    c = command(0x80, 1);
    assert_int_equal(status(d, 0, c), 0);
    assert_int_equal(d->disk.data[0], 0);
    assert_int_equal(d->disk.data[7 * 512], 0);
    c.dw[10] = 1;
    assert_int_equal(status(d, 0, c), 0x10a);
    c.dw[10] = 2 << 9;
    assert_int_equal(status(d, 0, c), 2);
    c.dw[1] = 2;
    assert_int_equal(status(d, 0, c), 0x0b);
}

static void test_features(void **state)
{
    struct driver *d = *state;
    enable(d);
    struct reply r = ask(d, 0, feature(true, 7, 0x00ff00ff));
    assert_int_equal(r.status, 0);
    assert_int_equal(r.result, 3 | 3 << 16);
    assert_int_equal(ask(d, 0, feature(false, 7, 0)).result, 3 | 3 << 16);
    assert_int_equal(status(d, 0, feature(true, 7, 0xffff)), 2);
    assert_int_equal(ask(d, 0, feature(false, 6, 0)).result, 1);
    assert_int_equal(status(d, 0, feature(true, 6, 0)), 0);
    assert_int_equal(ask(d, 0, feature(false, 6, 0)).result, 0);
    open_pair(d, 1, ENTRIES);
    assert_int_equal(status(d, 1, transfer(1, 0, 1, DATA)), 0);
    assert_int_equal(d->disk.fua, 1); /* no write cache */
    assert_int_equal(status(d, 0, feature(true, 9, 1u << 16 | 4)), 0);
    assert_int_equal(ask(d, 0, feature(false, 9, 4)).result, 1u << 16 | 4);
    assert_int_equal(status(d, 0, feature(true, 9, 5)), 2);
    assert_int_equal(status(d, 0, feature(false, 9, 5)), 2);
    assert_int_equal(status(d, 0, feature(true, 2, 1)), 2);
    assert_int_equal(status(d, 0, feature(true, 0x80000006, 1)), 0x10d);
    assert_int_equal(status(d, 0, feature(true, 0x7f, 1)), 2);
    assert_int_equal(status(d, 0, feature(false, 0x7f, 1)), 2);
    assert_int_equal(status(d, 0, feature(false, 0x106, 0)), 2);
    assert_int_equal(ask(d, 0, feature(false, 4, 0)).result, 343);
    assert_int_equal(status(d, 0, feature(false, 4, 1u << 16)), 2);
    /* A reset brings the defaults back. */
    set_reg(d, 0x14, 0);
    enable(d);
    assert_int_equal(ask(d, 0, feature(false, 6, 0)).result, 1);
}

static void test_logs(void **state)
{
    struct driver *d = *state;
    enable(d);
    open_pair(d, 1, ENTRIES);
    assert_int_equal(status(d, 1, transfer(2, 0, 8, DATA)), 0);
    assert_int_equal(status(d, 1, transfer(2, BLOCKS + 5, 1, DATA)), 0x80);
    assert_int_equal(status(d, 0, log_page(2, 512)), 0);
    assert_int_equal(byte_at(d, DATA), 0);
    assert_int_equal(byte_at(d, DATA + 64), 1); /* one read */
    assert_int_equal(byte_at(d, DATA + 32), 1); /* of less than 1000 sectors */
    assert_int_equal(byte_at(d, DATA + 176), 1);
    assert_int_equal(status(d, 0, log_page(1, 128)), 0);
    assert_int_equal(byte_at(d, DATA), 1);
    assert_int_equal(byte_at(d, DATA + 8), 1); /* queue 1 */
    assert_int_equal(byte_at(d, DATA + 12), 0x00);
    assert_int_equal(byte_at(d, DATA + 13), 0x81); /* 0x4080 << 1 */
    assert_int_equal(byte_at(d, DATA + 16), (BLOCKS + 5) & 0xff);
    assert_int_equal(byte_at(d, DATA + 64), 0); /* there was no other */
    assert_int_equal(status(d, 0, log_page(3, 512)), 0);
    assert_int_equal(byte_at(d, DATA), 1);
    assert_int_equal(byte_at(d, DATA + 8), '1');
    assert_int_equal(status(d, 0, log_page(0x70, 512)), 0x109);
    struct command c = log_page(3, 512);
    c.dw[12] = 8; /* from an offset on */
    assert_int_equal(status(d, 0, c), 0);
    assert_int_equal(byte_at(d, DATA), '1');
    c.dw[12] = 512;
    assert_int_equal(status(d, 0, c), 2);
    c = log_page(2, 512);
    c.dw[1] = 1;
    assert_int_equal(status(d, 0, c), 2);
}

static void test_events(void **state)
{
    struct driver *d = *state;
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    struct reply r;
    uint32_t id = 0;
    ns.block = d->second.block;
    enable(d);
    assert_int_equal(status(d, 0, feature(true, 0x0b, 0x1ff)), 0);
    uint16_t first = send(d, 0, command(0x0c, 0)), second = send(d, 0, command(0x0c, 0));
    spin(d);
    assert_false(take(d, 0, &r));
    /* A namespace comes. */
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, &id, NULL), 0);
    assert_int_equal(id, 2);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, second);
    assert_int_equal(r.result, 2 | 0 << 8 | 4 << 16);
    /* A second change is told after the log was read. */
    assert_int_equal(vmm_nvme_resize(d->nvme, 1, 4096 * 512, NULL), 0);
    assert_false(take(d, 0, &r));
    uint16_t cid = send(d, 0, log_page(4, 4096));
    spin(d);
    assert_true(take(d, 0, &r)); /* the event first: the log was read before it was answered */
    assert_int_equal(r.cid, first);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, cid);
    assert_int_equal(byte_at(d, DATA), 1);
    assert_int_equal(byte_at(d, DATA + 4), 2);
    assert_int_equal(byte_at(d, DATA + 8), 0);
    assert_int_equal(status(d, 0, log_page(4, 4096)), 0);
    assert_int_equal(byte_at(d, DATA), 0);
    /* Gone; an event that nobody has asked for waits. */
    open_pair(d, 1, ENTRIES);
    struct command c = transfer(2, 0, 1, DATA);
    c.dw[1] = 2;
    assert_int_equal(status(d, 1, c), 0);
    assert_int_equal(vmm_nvme_remove(d->nvme, 2, NULL), 0);
    assert_int_equal(status(d, 1, c), 0x0b);
    assert_int_equal(vmm_nvme_remove(d->nvme, 2, NULL), -ENOENT);
    assert_int_equal(ask(d, 0, command(0x0c, 0)).result, 2 | 4 << 16);
    /* Heat: the threshold falls below what it is. */
    uint16_t event = send(d, 0, command(0x0c, 0));
    spin(d);
    cid = send(d, 0, feature(true, 4, 300));
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, event);
    assert_int_equal(r.result, 1 | 1 << 8 | 2 << 16);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, cid);
    assert_int_equal(status(d, 0, log_page(2, 512)), 0);
    assert_int_equal(byte_at(d, DATA), 2);
    /* At most eight requests wait. */
    for (int i = 0; i < 8; i++)
        send(d, 0, command(0x0c, 0));
    spin(d);
    assert_false(take(d, 0, &r));
    assert_int_equal(status(d, 0, command(0x0c, 0)), 0x105);
}

static void test_interrupts(void **state)
{
    struct driver *d = *state;
    struct reply r;
    enable(d);
    /* The pin, until the answer has been taken. */
    send(d, 0, identify(1, 0));
    spin(d);
    uint32_t line = d->w.lines[0] + d->w.lines[1] + d->w.lines[2] + d->w.lines[3];
    assert_int_equal(line, 1);
    set_reg(d, 0x0c, 1);
    assert_int_equal(d->w.lines[0] + d->w.lines[1] + d->w.lines[2] + d->w.lines[3], 0);
    set_reg(d, 0x10, 1);
    assert_int_equal(d->w.lines[0] + d->w.lines[1] + d->w.lines[2] + d->w.lines[3], 1);
    assert_true(take(d, 0, &r));
    spin(d);
    assert_int_equal(d->w.lines[0] + d->w.lines[1] + d->w.lines[2] + d->w.lines[3], 0);
    /* Messages, each queue its vector. */
    messages_on(d);
    open_pair(d, 1, ENTRIES);
    uint32_t before = d->w.sent_count;
    assert_int_equal(status(d, 1, transfer(2, 0, 1, DATA)), 0);
    assert_int_equal(d->w.sent_count, before + 1);
    assert_int_equal(d->w.sent[before % 64].data, 0x41);
    /* A queue that does not interrupt. */
    ring_open(d, 2, ENTRIES);
    struct command c = command(5, 0);
    c.dw[6] = IOCQ(2);
    c.dw[10] = 2 | (ENTRIES - 1) << 16;
    c.dw[11] = 1;
    assert_int_equal(status(d, 0, c), 0);
    assert_int_equal(create_sq(d, 2, ENTRIES, 2), 0);
    before = d->w.sent_count;
    assert_int_equal(status(d, 2, transfer(2, 0, 1, DATA)), 0);
    assert_int_equal(d->w.sent_count, before);
}

static void test_shadow_doorbells(void **state)
{
    struct driver *d = *state;
    struct command c = command(0x7c, 0);
    struct reply r;
    uint32_t value = 0;
    enable(d);
    c.dw[6] = SHADOW;
    c.dw[8] = EVENTS + 8;
    assert_int_equal(status(d, 0, c), 2);
    c.dw[8] = RAM;
    assert_int_equal(status(d, 0, c), 4);
    c.dw[8] = EVENTS;
    assert_int_equal(status(d, 0, c), 0);
    d->shadow = true;
    open_pair(d, 1, ENTRIES);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(status(d, 1, transfer(2, i, 1, DATA)), 0);
    vmm_memory_load_u32(d->w.memory, EVENTS + 8, &value);
    assert_int_equal(value, d->rings[1].tail); /* ring when you go beyond this */
    /* A value that is in memory only is seen with the next bell of any queue. */
    put(d, 1, transfer(2, 0, 1, DATA));
    vmm_memory_store_u32(d->w.memory, SHADOW + 8, d->rings[1].tail);
    assert_int_equal(status(d, 0, identify(1, 0)), 0);
    assert_true(take(d, 1, &r));
}

static void test_shutdown(void **state)
{
    struct driver *d = *state;
    enable(d);
    d->disk.hold = true;
    set_reg(d, 0x14, 0x00464001);
    assert_int_equal(reg(d, 0x1c), 1 | 1 << 2);
    spin(d);
    assert_int_equal(d->disk.flushes, 1);
    assert_int_equal(reg(d, 0x1c), 1 | 1 << 2); /* until the flush is through */
    disk_release(&d->disk);
    spin(d);
    assert_int_equal(reg(d, 0x1c), 1 | 2 << 2);
    set_reg(d, 0x14, 0);
    assert_int_equal(reg(d, 0x1c), 0);
    /* Reset during a flush, and a shutdown again: it is flushed once more. */
    enable(d);
    set_reg(d, 0x14, 0x00464001);
    spin(d);
    set_reg(d, 0x14, 0);
    enable(d);
    set_reg(d, 0x14, 0x00464001);
    spin(d);
    disk_release(&d->disk);
    spin(d);
    assert_int_equal(reg(d, 0x1c), 1 | 1 << 2);
    disk_release(&d->disk);
    spin(d);
    assert_int_equal(reg(d, 0x1c), 1 | 2 << 2);
    assert_int_equal(d->disk.flushes, 3);
}

static void test_bad_options(void **state)
{
    struct driver *d = *state;
    struct vmm_nvme_options o = VMM_NVME_OPTIONS_INIT;
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    struct vmm_nvme *nvme;
    struct vmm_loop *other;
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    assert_int_equal(vmm_nvme_new(NULL, &nvme, NULL), -EINVAL);
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    o.name = "n";
    o.memory = d->w.memory;
    o.loop = d->loop;
    o.queues = 65;
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    o.queues = 0;
    o.depth = 8;
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    o.depth = 0;
    o.serial = "123456789012345678901";
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    o.serial = "\n";
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    o.serial = NULL;
    o.name = "NOT A NAME";
    assert_int_equal(vmm_nvme_new(&o, &nvme, NULL), -EINVAL);
    assert_int_equal(vmm_nvme_add(d->nvme, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), -EINVAL);
    ns.block = d->second.block;
    ns.id = 65;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), -EINVAL);
    ns.id = 1;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), -EEXIST);
    ns.id = 0;
    assert_int_equal(vmm_loop_new(NULL, &other), 0);
    m.length = 1 << 20;
    struct vmm_block *far;
    assert_int_equal(vmm_block_memory_new(other, &m, &far, NULL), 0);
    ns.block = far;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), -EINVAL);
    vmm_block_unref(far);
    vmm_loop_unref(other);
    ns.block = d->second.block;
    for (uint32_t i = 1; i < VMM_NVME_NAMESPACES; i++)
        assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), 0);
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), -ENOSPC);
    assert_int_equal(vmm_nvme_remove(d->nvme, 0, NULL), -ENOENT);
    assert_int_equal(vmm_nvme_remove(d->nvme, 65, NULL), -ENOENT);
    assert_int_equal(vmm_nvme_resize(d->nvme, 65, 512, NULL), -ENOENT);
    assert_int_equal(vmm_nvme_resize(d->nvme, 1, 0, NULL), -EINVAL);
    assert_null(vmm_nvme_unref(NULL));
    assert_ptr_equal(vmm_nvme_ref(d->nvme), d->nvme);
    vmm_nvme_unref(d->nvme);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, driver_set_up, driver_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_registers),      TEST(test_identify),    TEST(test_uuid_and_4096),
        TEST(test_read_write),     TEST(test_prp_list),    TEST(test_sgl),
        TEST(test_other_commands), TEST(test_features),    TEST(test_logs),
        TEST(test_events),         TEST(test_interrupts),  TEST(test_shadow_doorbells),
        TEST(test_shutdown),       TEST(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
