/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe controller and hostile drivers, resets and unplugging at the wrong moment; save and load. */
#include "nvme-driver.h"

static void test_prp_lists(void **state)
{
    struct driver *d = *state;
    struct command c = transfer(2, 0, 1024, DATA);
    enable(d);
    open_pair(d, 1, ENTRIES);
    for (uint32_t i = 0; i < 512; i++) /* every entry is the list itself: it loops */
        vmm_memory_store_u64(d->w.memory, LIST + 8 * i, LIST);
    c.dw[8] = LIST + 0xff8;
    /* The transfer's length ends it; that it was written over itself is the guest's affair. */
    (void)status(d, 1, c);
    vmm_memory_store_u64(d->w.memory, LIST + 0xff8, LIST + 8); /* a link into a page's middle */
    assert_int_equal(status(d, 1, c), 0x13);
    c.dw[8] = LIST + 4;
    assert_int_equal(status(d, 1, c), 0x13);
    vmm_memory_store_u64(d->w.memory, LIST, DATA + 8); /* an entry with an offset */
    c.dw[8] = LIST;
    assert_int_equal(status(d, 1, c), 0x13);
    c.dw[8] = RAM; /* a list that is nowhere */
    assert_int_equal(status(d, 1, c), 0x04);
    assert_int_equal(status(d, 1, transfer(2, 0, 1025, DATA)), 2); /* more than MDTS */
    assert_int_equal(status(d, 1, transfer(2, 0, 1, DATA + 2)), 0x13);
    c = transfer(2, 0, 16, DATA);
    c.dw[8] = DATA + 0x1004;
    assert_int_equal(status(d, 1, c), 0x13);
}

/* Class 6 and 7: data in the device's own registers, in holes, across the end of memory, at the end of
 * everything. */
static void test_data_elsewhere(void **state)
{
    struct driver *d = *state;
    static const uint64_t places[] = {BAR, MSIX, ECAM, RAM, 0xfee00000, UINT64_MAX & ~0xfffull,
                                      HIGH};
    enable(d);
    open_pair(d, 1, ENTRIES);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        assert_int_equal(status(d, 1, transfer(2, 0, 1, places[i])), 0x04);
        assert_int_equal(status(d, 1, transfer(1, 0, 1, places[i])), 0x04);
        assert_int_equal(status(d, 1, transfer(5, 0, 1, places[i])), 0x04);
        struct command c = transfer(9, 0, 1, places[i]);
        assert_int_equal(status(d, 1, c), 0x04);
        c = command(6, 0);
        c.dw[6] = (uint32_t)places[i];
        c.dw[7] = (uint32_t)(places[i] >> 32);
        c.dw[10] = 1;
        assert_int_equal(status(d, 0, c), 0x04);
    }
    struct command c = transfer(2, 0, 16, RAM - 4096);
    c.dw[8] = RAM;
    assert_int_equal(status(d, 1, c), 0x04);
    for (uint64_t i = 0; i < d->disk.length; i++)
        assert_int_equal(d->disk.data[i], 0);
}

static void test_bad_enable(void **state)
{
    struct driver *d = *state;
    set_reg(d, 0x14, 0x00460001); /* no queues */
    assert_int_equal(reg(d, 0x1c) & 3, 2);
    set_reg(d, 0x14, 0);
    assert_int_equal(reg(d, 0x1c), 0);
    enable(d);
    set_reg(d, 0x14, 0);
    set_reg(d, 0x14, 0x00460081); /* pages of 8 KiB */
    assert_int_equal(reg(d, 0x1c) & 3, 2);
    set_reg(d, 0x14, 0);
    /* Queues in registers: the controller fails with the first command, and works after a reset. */
    set_reg(d, 0x28, (uint32_t)BAR);
    set_reg(d, 0x14, 0x00460001);
    assert_int_equal(reg(d, 0x1c), 1);
    set_reg(d, 0x1000, 1);
    spin(d);
    assert_int_equal(reg(d, 0x1c), 3);
    set_reg(d, 0x14, 0);
    set_reg(d, 0x28, ASQ);
    set_reg(d, 0x30, (uint32_t)BAR); /* the answers' queue */
    set_reg(d, 0x14, 0x00460001);
    set_reg(d, 0x1000, 1);
    spin(d);
    assert_int_equal(reg(d, 0x1c), 3);
    set_reg(d, 0x14, 0);
    enable(d);
    assert_int_equal(status(d, 0, command(0x55, 0)), 1);
}

static void test_bad_queues(void **state)
{
    struct driver *d = *state;
    enable(d);
    assert_int_equal(create_cq(d, 0, 16, 0), 0x101);
    assert_int_equal(create_cq(d, 5, 16, 0), 0x101);
    assert_int_equal(create_cq(d, 0xffff, 16, 0), 0x101);
    assert_int_equal(create_cq(d, 1, 1, 0), 0x102);
    assert_int_equal(create_cq(d, 1, 1025, 0), 0x102);
    assert_int_equal(create_cq(d, 1, 16, 5), 0x108);
    assert_int_equal(create_sq(d, 1, 16, 1), 0x100);
    assert_int_equal(create_sq(d, 1, 16, 0), 0x100);
    open_pair(d, 1, ENTRIES);
    assert_int_equal(create_cq(d, 1, 16, 0), 0x101);
    assert_int_equal(create_sq(d, 1, 16, 1), 0x101);
    assert_int_equal(delete_queue(d, 4, 1), 0x10c);
    assert_int_equal(delete_queue(d, 0, 2), 0x101);
    assert_int_equal(delete_queue(d, 0, 0), 0x101);
    assert_int_equal(delete_queue(d, 4, 0xffff), 0x101);
    struct command c = command(5, 0);
    c.dw[6] = IOCQ(2);
    c.dw[10] = 2 | 15 << 16;
    assert_int_equal(status(d, 0, c), 2); /* not contiguous */
    c.dw[11] = 1;
    c.dw[6] = IOCQ(2) + 8;
    assert_int_equal(status(d, 0, c), 0x13);
    c.dw[6] = 0xfffff000;
    c.dw[7] = 0xffffffff; /* wraps */
    assert_int_equal(status(d, 0, c), 0x13);
    assert_int_equal(delete_queue(d, 0, 1), 0);
    assert_int_equal(delete_queue(d, 4, 1), 0);
    assert_int_equal(create_sq(d, 1, 16, 1), 0x100);
}

static void test_doorbells(void **state)
{
    struct driver *d = *state;
    struct reply r;
    enable(d);
    uint16_t event = send(d, 0, command(0x0c, 0));
    spin(d);
    set_reg(d, 0x1000, ENTRIES); /* beyond the queue */
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, event);
    assert_int_equal(r.result, 1 << 8 | 1 << 16);
    bell(d, 0, false, d->rings[0].tail);
    struct command log = command(2, UINT32_MAX);
    log.dw[6] = DATA;
    log.dw[10] = 1 | 15 << 16;
    assert_int_equal(status(d, 0, log), 0);
    event = send(d, 0, command(0x0c, 0));
    spin(d);
    set_reg(d, 0x1000 + 8 * 3, 1); /* of no queue */
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, event);
    assert_int_equal(r.result, 0 << 8 | 1 << 16);
    for (uint32_t i = 0; i < 0x1000; i += 4) /* all there are, and those there are not */
        set_reg(d, 0x1000 + i, i % 3 ? UINT32_MAX : i);
    spin(d);
    set_reg(d, 0x14, 0);
    enable(d);
    assert_int_equal(status(d, 0, command(0x55, 0)), 1);
    /* Odd widths. */
    for (uint32_t width = 1; width <= 8; width *= 2)
        for (uint64_t at = 0; at < 0x60; at++) {
            uint64_t value;
            (void)vmm_bus_read(d->w.mmio, BAR + at, width, &value);
        }
    (void)vmm_bus_write(d->w.mmio, BAR + 0x1ffc, 8, UINT64_MAX);
}

static void test_same_ids(void **state)
{
    struct driver *d = *state;
    struct reply r;
    enable(d);
    open_pair(d, 1, ENTRIES);
    d->disk.hold = true;
    for (int i = 0; i < 3; i++) {
        d->cid = 0x1233;
        send(d, 1, transfer(2, 0, 1, DATA));
    }
    spin(d);
    disk_release(&d->disk);
    spin(d);
    for (int i = 0; i < 3; i++) {
        assert_true(take(d, 1, &r));
        assert_int_equal(r.cid, 0x1234);
    }
    assert_false(take(d, 1, &r));
}

/* More commands than the controller takes at a time, and a queue of answers that is full. */
static void test_overload(void **state)
{
    struct driver *d = *state;
    struct reply r;
    uint32_t seen = 0;
    enable(d);
    ring_open(d, 1, 128);
    assert_int_equal(create_cq(d, 1, 4, 1), 0); /* has room for three */
    assert_int_equal(create_sq(d, 1, 128, 1), 0);
    for (int i = 0; i < 100; i++)
        put(d, 1, transfer(2, (uint64_t)i, 1, DATA));
    bell(d, 1, false, d->rings[1].tail);
    spin(d);
    d->rings[1].size = 4;
    d->rings[1].head = 0;
    while (seen < 100) {
        spin(d);
        uint32_t before = seen;
        while (take(d, 1, &r))
            seen++;
        assert_true(seen > before && seen <= before + 3);
    }
    assert_int_equal(d->disk.held_count, 0);
}

static void test_delete_in_flight(void **state)
{
    struct driver *d = *state;
    struct reply r;
    enable(d);
    open_pair(d, 1, ENTRIES);
    d->disk.hold = true;
    for (uint32_t i = 0; i < 5; i++)
        send(d, 1, transfer(2, i, 1, DATA));
    spin(d);
    struct command c = command(0, 0);
    c.dw[10] = 1;
    uint16_t cid = send(d, 0, c);
    spin(d);
    assert_false(take(d, 0, &r)); /* not before its commands have ended */
    assert_int_equal(delete_queue(d, 4, 1), 0x10c);
    send(d, 1, transfer(2, 9, 1, DATA)); /* is not taken any more */
    spin(d);
    assert_int_equal(d->disk.held_count, 5);
    disk_release(&d->disk);
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, cid);
    assert_int_equal(r.status, 0);
    for (int i = 0; i < 5; i++)
        assert_true(take(d, 1, &r));
    assert_false(take(d, 1, &r));
    assert_int_equal(delete_queue(d, 4, 1), 0);
}

static void test_abort(void **state)
{
    struct driver *d = *state;
    struct reply r;
    struct command c = command(8, 0);
    enable(d);
    open_pair(d, 1, ENTRIES);
    d->disk.hold = true;
    uint16_t compare[2], read = send(d, 1, transfer(2, 0, 1, DATA));
    compare[0] = send(d, 1, transfer(5, 0, 1, DATA));
    compare[1] = send(d, 1, transfer(5, 0, 1, DATA)); /* waits for the first */
    spin(d);
    assert_int_equal(d->disk.held_count, 2);
    c.dw[10] = 1 | (uint32_t)compare[1] << 16;
    assert_int_equal(ask(d, 0, c).result, 0);
    assert_true(take(d, 1, &r));
    assert_int_equal(r.cid, compare[1]);
    assert_int_equal(r.status, 7);
    c.dw[10] = 1 | (uint32_t)read << 16;
    assert_int_equal(ask(d, 0, c).result, 1); /* it may end early all the same */
    spin(d);
    assert_int_equal(d->disk.cancels, 1);
    assert_true(take(d, 1, &r));
    assert_int_equal(r.cid, read);
    assert_int_equal(r.status, 7);
    c.dw[10] = 0xffff | 77u << 16;
    assert_int_equal(ask(d, 0, c).result, 1);
    uint16_t event = send(d, 0, command(0x0c, 0));
    spin(d);
    c.dw[10] = (uint32_t)event << 16;
    uint16_t cid = send(d, 0, c);
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, event);
    assert_int_equal(r.status, 7);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, cid);
    disk_release(&d->disk);
    spin(d);
    assert_true(take(d, 1, &r));
    assert_int_equal(r.cid, compare[0]);
}

/* Class 8 and 9: after a reset nothing of before touches memory or is answered. */
static void test_reset_in_flight(void **state)
{
    struct driver *d = *state;
    struct reply r;
    memset(d->disk.data, 0x66, 4096);
    for (int round = 0; round < 3; round++) {
        enable(d);
        open_pair(d, 1, ENTRIES);
        d->disk.hold = true;
        send(d, 1, transfer(2, 0, 8, DATA));
        send(d, 1, transfer(5, 0, 8, DATA));
        send(d, 1, transfer(5, 0, 8, DATA));
        send(d, 0, command(0x0c, 0));
        spin(d);
        assert_int_equal(d->disk.held_count, 2);
        if (round == 0)
            set_reg(d, 0x14, 0);
        else
            vmm_device_reset(vmm_pci_device(vmm_nvme_pci(d->nvme)));
        vmm_memory_fill(d->w.memory, DATA, 0, 4096);
        if (round) {
            set_cfg(&d->w, 1, 0x10, 4, (uint32_t)BAR);
            set_cfg(&d->w, 1, 0x20, 4, (uint32_t)MSIX);
            set_cfg(&d->w, 1, 4, 2, 6);
        }
        assert_int_equal(reg(d, 0x1c), 0);
        enable(d);
        open_pair(d, 1, ENTRIES);
        if (round == 2) /* the one before has the buffer still */
            send(d, 1, transfer(5, 16, 8, DATA));
        spin(d);
        disk_release(&d->disk);
        spin(d);
        for (uint32_t i = 0; i < 4096; i += 8) {
            uint64_t value = 1;
            vmm_memory_load_u64(d->w.memory, DATA + i, &value);
            assert_int_equal(value, 0);
        }
        d->disk.hold = false;
        if (round == 2) {
            disk_release(&d->disk);
            spin(d);
            assert_true(take(d, 1, &r));
            assert_int_equal(r.status, 0);
        }
        assert_false(take(d, 1, &r));
        assert_false(take(d, 0, &r));
        assert_int_equal(status(d, 1, transfer(2, 0, 8, DATA)), 0);
        set_reg(d, 0x14, 0);
    }
}

/* Unplugged with commands under way; the tear-down finds it gone. */
static void test_unplug_in_flight(void **state)
{
    struct driver *d = *state;
    struct reply r;
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    enable(d);
    open_pair(d, 1, ENTRIES);
    d->disk.hold = true;
    uint16_t read = send(d, 1, transfer(2, 0, 8, DATA));
    send(d, 1, transfer(5, 0, 8, DATA));
    send(d, 1, transfer(5, 0, 8, DATA));
    spin(d);
    assert_int_equal(vmm_nvme_remove(d->nvme, 1, NULL), 0);
    assert_true(take(d, 1, &r));
    assert_int_equal(r.cid, read);
    assert_int_equal(r.status, 0);
    assert_true(take(d, 1, &r));
    assert_true(take(d, 1, &r)); /* waited, and found no namespace */
    assert_int_equal(r.status & 0x7ff, 0x0b);
    ns.block = d->disk.block;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), 0);
    send(d, 1, transfer(2, 0, 8, DATA));
    send(d, 1, transfer(5, 0, 8, DATA));
    send(d, 1, transfer(5, 0, 8, DATA));
    send(d, 0, command(0x0c, 0));
    spin(d);
    assert_int_equal(d->disk.held_count, 2);
}

/* A function that may not reach memory does nothing until it may. */
static void test_no_master(void **state)
{
    struct driver *d = *state;
    struct reply r;
    enable(d);
    set_cfg(&d->w, 1, 4, 2, 2);
    uint16_t cid = send(d, 0, command(0x55, 0));
    spin(d);
    assert_false(take(d, 0, &r));
    set_cfg(&d->w, 1, 4, 2, 6);
    spin(d);
    assert_true(take(d, 0, &r));
    assert_int_equal(r.cid, cid);
}

static void *save_state(struct driver *d, size_t *length)
{
    struct vmm_state_writer *w;
    void *data;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(vmm_nvme_pci(d->nvme)), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, length), 0);
    vmm_state_writer_free(w);
    return data;
}

static int load_state(struct driver *d, const void *data, size_t length)
{
    struct vmm_state_reader *r;
    int rc = vmm_state_reader_new(data, length, &r, NULL);
    if (rc)
        return rc;
    rc = vmm_device_load(vmm_pci_device(vmm_nvme_pci(d->nvme)), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

/* What runs ends before it is saved, what waits goes on in another controller. */
static void test_save_and_load(void **state)
{
    struct driver *d = *state, *other = calloc(1, sizeof(*other));
    struct reply r;
    size_t length;
    uint8_t *memory = malloc(RAM);
    enable(d);
    ring_open(d, 1, 4);
    assert_int_equal(create_cq(d, 1, 4, 1), 0);
    assert_int_equal(create_sq(d, 1, 16, 1), 0);
    d->rings[1].size = 16;
    uint16_t event = send(d, 0, command(0x0c, 0));
    d->disk.hold = true;
    for (int i = 0; i < 6; i++)
        send(d, 1, transfer(2, 0, 1, DATA));
    struct command c = command(0, 0); /* delete the queue, which has answers that wait for room */
    c.dw[10] = 1;
    spin(d);
    uint16_t delete = send(d, 0, c);
    spin(d);
    void *data = save_state(d, &length);
    vmm_memory_read(d->w.memory, 0, memory, RAM);
    driver_open(other);
    vmm_memory_write(other->w.memory, 0, memory, RAM);
    assert_int_equal(load_state(other, data, length), 0);
    memcpy(other->rings, d->rings, sizeof(d->rings));
    other->rings[1].size = 4;
    other->cid = d->cid;
    spin(other);
    for (int i = 0; i < 6; i++) {
        assert_true(take(other, 1, &r));
        spin(other);
    }
    assert_false(take(other, 1, &r));
    assert_true(take(other, 0, &r));
    assert_int_equal(r.cid, delete);
    assert_int_equal(status(other, 0, command(0x55, 0)), 1);
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    ns.block = other->second.block;
    c = command(9, 0);
    c.dw[10] = 0x0b;
    c.dw[11] = 0x100;
    assert_int_equal(status(other, 0, c), 0);
    assert_int_equal(vmm_nvme_add(other->nvme, &ns, NULL, NULL), 0);
    assert_true(take(other, 0, &r));
    assert_int_equal(r.cid, event);
    assert_int_equal(load_state(other, data, length), -EINVAL); /* has a namespace more */
    assert_int_equal(status(other, 0, command(0x55, 0)), 1);
    driver_close(other);
    free(other);
    free(memory);
    free(data);
}

/* Class 21: each byte of a saved state is changed; it is refused, or taken without harm. */
static void test_forged_state(void **state)
{
    struct driver *d = *state;
    size_t length;
    uint32_t refused = 0;
    enable(d);
    open_pair(d, 1, 4);
    for (int i = 0; i < 3; i++)
        send(d, 0, command(0x0c, 0));
    spin(d);
    uint8_t *data = save_state(d, &length);
    assert_int_equal(load_state(d, data, length), 0);
    for (size_t i = 0; i < length; i++) {
        uint8_t old = data[i];
        data[i] ^= (uint8_t)(i % 2 ? 0xff : 1 << i % 8);
        refused += load_state(d, data, length) != 0;
        data[i] = old;
        if (i % 16 == 0) { /* the BAR may be elsewhere now */
            (void)vmm_bus_write(d->w.mmio, BAR + 0x1000, 4, 1);
            spin(d);
        }
    }
    assert_true(refused > 100);
    assert_int_equal(load_state(d, data, length), 0);
    free(data);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, driver_set_up, driver_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_prp_lists),       TEST(test_data_elsewhere),   TEST(test_bad_enable),
        TEST(test_bad_queues),      TEST(test_doorbells),        TEST(test_same_ids),
        TEST(test_overload),        TEST(test_delete_in_flight), TEST(test_abort),
        TEST(test_reset_in_flight), TEST(test_unplug_in_flight), TEST(test_no_master),
        TEST(test_save_and_load),   TEST(test_forged_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
