/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver of the NVMe controller, on a host bridge without a VM; and a disk whose requests can be held up. */
#ifndef TESTS_UNIT_NVME_DRIVER_H
#define TESTS_UNIT_NVME_DRIVER_H

#include "pci-world.h"

#include <libvmm/block-filters.h>
#include <libvmm/nvme.h>

#include <sys/uio.h>

#define BLOCKS  2048u
#define BAR     ((uint64_t)WINDOW)
#define MSIX    (BAR + 0x10000)
#define ASQ     0x1000u
#define ACQ     0x2000u
#define IOSQ(q) (0x10000u + (q)*0x2000u)
#define IOCQ(q) (0x20000u + (q)*0x1000u)
#define SHADOW  0x30000u
#define EVENTS  0x31000u
#define LIST    0x40000u
#define DATA    0x80000u
#define ENTRIES 16u

/* The disk: performs requests at once, or holds them until it is told to go on. */
struct disk {
    struct vmm_block *block;
    uint8_t *data;
    uint64_t length;
    uint32_t block_size, read_only;
    bool hold;
    int fail; /* what all requests end with; 0: they work */
    struct vmm_block_request *held[256];
    bool performed[256];
    uint32_t held_count;
    uint32_t flushes, fua, cancels, discards, zeroes;
};

static void disk_perform(struct disk *d, const struct vmm_block_request *r)
{
    uint64_t at = r->offset;
    if (d->fail)
        return;
    for (size_t i = 0; r->op <= VMM_BLOCK_WRITE && i < r->vector_count; i++) {
        if (r->op == VMM_BLOCK_READ)
            memcpy(r->vector[i].iov_base, d->data + at, r->vector[i].iov_len);
        else
            memcpy(d->data + at, r->vector[i].iov_base, r->vector[i].iov_len);
        at += r->vector[i].iov_len;
    }
    if (r->op == VMM_BLOCK_DISCARD)
        memset(d->data + at, 0xdd, r->length);
    if (r->op == VMM_BLOCK_WRITE_ZEROES)
        memset(d->data + at, 0, r->length);
}

static void disk_submit(void *ctx, struct vmm_block_request *r)
{
    struct disk *d = ctx;
    d->flushes += r->op == VMM_BLOCK_FLUSH;
    d->discards += r->op == VMM_BLOCK_DISCARD;
    d->zeroes += r->op == VMM_BLOCK_WRITE_ZEROES;
    d->fua += (r->flags & VMM_BLOCK_FUA) != 0;
    if (d->hold) {
        assert_true(d->held_count < 256);
        d->performed[d->held_count] = false;
        d->held[d->held_count++] = r;
        return;
    }
    disk_perform(d, r);
    vmm_block_complete(d->block, r, d->fail);
}

static void disk_quiesce(void *ctx)
{
    struct disk *d = ctx;
    for (uint32_t i = 0; i < d->held_count; i++) {
        if (!d->performed[i])
            disk_perform(d, d->held[i]);
        d->performed[i] = true;
    }
}

static void disk_release(void *ctx)
{
    struct disk *d = ctx;
    disk_quiesce(d);
    uint32_t count = d->held_count;
    d->held_count = 0;
    for (uint32_t i = 0; i < count; i++)
        vmm_block_complete(d->block, d->held[i], d->fail);
}

static void disk_cancel(void *ctx, struct vmm_block_request *r)
{
    struct disk *d = ctx;
    for (uint32_t i = 0; i < d->held_count; i++) {
        if (d->held[i] != r)
            continue;
        d->held[i] = d->held[--d->held_count];
        d->performed[i] = d->performed[d->held_count];
        d->cancels++;
        vmm_block_complete(d->block, r, -ECANCELED);
        return;
    }
}

static int disk_info(void *ctx, struct vmm_block_info *info)
{
    const struct disk *d = ctx;
    info->length = d->length;
    info->block_size = d->block_size;
    info->read_only = d->read_only;
    return 0;
}

static int disk_resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct disk *d = ctx;
    (void)err;
    d->length = length;
    return 0;
}

static void disk_destroy(void *ctx)
{
    (void)ctx;
}

static void disk_open(struct disk *d, struct vmm_loop *loop)
{
    static const struct vmm_block_ops ops = {.size = sizeof(ops),
                                             .submit = disk_submit,
                                             .info = disk_info,
                                             .resize = disk_resize,
                                             .cancel = disk_cancel,
                                             .quiesce = disk_quiesce,
                                             .drain = disk_release,
                                             .destroy = disk_destroy};
    d->block_size = d->block_size ? d->block_size : 512;
    d->length = (uint64_t)BLOCKS * d->block_size;
    d->data = calloc(1, d->length);
    assert_int_equal(vmm_block_new(loop, &ops, d, &d->block), 0);
}

static void disk_close(struct disk *d)
{
    vmm_block_unref(d->block);
    free(d->data);
}

/* The driver ----------------------------------------------------------------------------------- */

struct command {
    uint32_t dw[16];
};

struct reply {
    uint32_t result;
    uint16_t sq_head, sq, cid, status; /* without the phase */
};

struct ring {
    uint32_t size, tail, head;
    bool phase;
};

struct driver {
    struct world w;
    struct vmm_loop *loop;
    struct vmm_nvme *nvme;
    struct disk disk, second;
    struct ring rings[8];
    uint16_t cid;
    bool shadow;
};

static inline uint32_t reg(struct driver *d, uint32_t offset)
{
    return (uint32_t)mmio(&d->w, BAR + offset, 4);
}

static inline void set_reg(struct driver *d, uint32_t offset, uint32_t value)
{
    assert_int_equal(vmm_bus_write(d->w.mmio, BAR + offset, 4, value), 0);
}

/* Let everything happen that is to happen. */
static inline void spin(struct driver *d)
{
    for (int i = 0; i < 1000 && vmm_loop_dispatch(d->loop, 0) > 0; i++)
        ;
}

static inline void ring_open(struct driver *d, uint32_t q, uint32_t size)
{
    d->rings[q] = (struct ring){.size = size, .phase = true};
    (void)vmm_memory_fill(d->w.memory, q ? IOCQ(q) : ACQ, 0, size * 16);
}

static inline void enable(struct driver *d)
{
    ring_open(d, 0, ENTRIES);
    set_reg(d, 0x24, (ENTRIES - 1) | (ENTRIES - 1) << 16);
    set_reg(d, 0x28, ASQ);
    set_reg(d, 0x2c, 0);
    set_reg(d, 0x30, ACQ);
    set_reg(d, 0x34, 0);
    set_reg(d, 0x14, 0x00460001);
    assert_int_equal(reg(d, 0x1c), 1);
}

static inline struct command command(uint8_t opcode, uint32_t nsid)
{
    return (struct command){.dw = {opcode, nsid}};
}

static inline void bell(struct driver *d, uint32_t q, bool head, uint32_t value)
{
    if (d->shadow && q)
        (void)vmm_memory_store_u32(d->w.memory, SHADOW + 8 * q + 4 * head, value);
    set_reg(d, 0x1000 + 8 * q + 4 * head, value);
}

/* Put a command into a queue, without ringing. Gives its ID. */
static inline uint16_t put(struct driver *d, uint32_t q, struct command c)
{
    struct ring *r = &d->rings[q];
    uint16_t cid = ++d->cid;
    c.dw[0] = (c.dw[0] & 0xffff) | (uint32_t)cid << 16;
    assert_int_equal(vmm_memory_write(d->w.memory, (q ? IOSQ(q) : ASQ) + r->tail * 64, &c, 64), 0);
    r->tail = (r->tail + 1) % r->size;
    return cid;
}

static inline uint16_t send(struct driver *d, uint32_t q, struct command c)
{
    uint16_t cid = put(d, q, c);
    bell(d, q, false, d->rings[q].tail);
    return cid;
}

/* Take an answer; false: there is none. */
static inline bool take(struct driver *d, uint32_t q, struct reply *reply)
{
    struct ring *r = &d->rings[q];
    uint32_t raw[4];
    *reply = (struct reply){.status = 0xffff};
    assert_int_equal(vmm_memory_read(d->w.memory, (q ? IOCQ(q) : ACQ) + r->head * 16, raw, 16), 0);
    if ((raw[3] >> 16 & 1) != r->phase)
        return false;
    *reply = (struct reply){.result = raw[0],
                            .sq_head = (uint16_t)raw[2],
                            .sq = (uint16_t)(raw[2] >> 16),
                            .cid = (uint16_t)raw[3],
                            .status = (uint16_t)(raw[3] >> 17)};
    r->head = (r->head + 1) % r->size;
    r->phase ^= r->head == 0;
    bell(d, q, true, r->head);
    return true;
}

/* Send one and wait for its answer. */
static inline struct reply ask(struct driver *d, uint32_t q, struct command c)
{
    struct reply reply = {.status = 0xffff};
    uint16_t cid = send(d, q, c);
    spin(d);
    if (!take(d, q, &reply))
        fail_msg("no answer to command 0x%x", c.dw[0]);
    assert_int_equal(reply.cid, cid);
    return reply;
}

/* The status alone, without "do not retry". */
static inline uint32_t status(struct driver *d, uint32_t q, struct command c)
{
    return ask(d, q, c).status & 0x7ffu;
}

static inline uint32_t create_cq(struct driver *d, uint32_t q, uint32_t size, uint32_t vector)
{
    struct command c = command(5, 0);
    c.dw[6] = IOCQ(q);
    c.dw[10] = q | (size - 1) << 16;
    c.dw[11] = 3 | vector << 16;
    return status(d, 0, c);
}

static inline uint32_t create_sq(struct driver *d, uint32_t q, uint32_t size, uint32_t cq)
{
    struct command c = command(1, 0);
    c.dw[6] = IOSQ(q);
    c.dw[10] = q | (size - 1) << 16;
    c.dw[11] = 1 | cq << 16;
    return status(d, 0, c);
}

static inline uint32_t delete_queue(struct driver *d, uint8_t opcode, uint32_t q)
{
    struct command c = command(opcode, 0);
    c.dw[10] = q;
    return status(d, 0, c);
}

static inline void open_pair(struct driver *d, uint32_t q, uint32_t size)
{
    ring_open(d, q, size);
    assert_int_equal(create_cq(d, q, size, q), 0);
    assert_int_equal(create_sq(d, q, size, q), 0);
}

/* Read or write `blocks` from `lba` on, at one address. */
static inline struct command transfer(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t at)
{
    struct command c = command(opcode, 1);
    c.dw[6] = (uint32_t)at;
    c.dw[7] = (uint32_t)(at >> 32);
    c.dw[10] = (uint32_t)lba;
    c.dw[11] = (uint32_t)(lba >> 32);
    c.dw[12] = blocks - 1;
    return c;
}

static inline void messages_on(struct driver *d)
{
    uint32_t at = capability(&d->w, 1, 0x11);
    assert_int_not_equal(at, 0);
    for (uint32_t i = 0; i < 8; i++) {
        (void)vmm_bus_write(d->w.mmio, MSIX + 16 * i, 4, 0xfee00000);
        (void)vmm_bus_write(d->w.mmio, MSIX + 16 * i + 8, 4, 0x40 + i);
        (void)vmm_bus_write(d->w.mmio, MSIX + 16 * i + 12, 4, 0);
    }
    set_cfg(&d->w, 1, at + 2, 2, 0x8000);
}

static void driver_open(struct driver *d)
{
    struct vmm_nvme_options o = VMM_NVME_OPTIONS_INIT;
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    world_open(&d->w);
    assert_int_equal(vmm_loop_new(NULL, &d->loop), 0);
    disk_open(&d->disk, d->loop);
    disk_open(&d->second, d->loop);
    o.name = "nvme0";
    o.memory = d->w.memory;
    o.loop = d->loop;
    o.serial = "SERIAL";
    o.queues = 4;
    o.depth = 32;
    if (vmm_nvme_new(&o, &d->nvme, &err))
        fail_msg("%s", err.text);
    ns.block = d->disk.block;
    assert_int_equal(vmm_nvme_add(d->nvme, &ns, NULL, NULL), 0);
    assert_int_equal(vmm_pci_host_add(d->w.host, vmm_nvme_pci(d->nvme), 1, 0, &err), 0);
    set_cfg(&d->w, 1, 0x10, 4, (uint32_t)BAR);
    set_cfg(&d->w, 1, 0x20, 4, (uint32_t)MSIX);
    set_cfg(&d->w, 1, 4, 2, 6);
}

static void driver_close(struct driver *d)
{
    vmm_pci_host_remove(d->w.host, vmm_nvme_pci(d->nvme));
    d->nvme = vmm_nvme_unref(d->nvme);
    disk_close(&d->disk);
    disk_close(&d->second);
    world_close(&d->w);
    vmm_loop_unref(d->loop);
}

static int driver_set_up(void **state)
{
    struct driver *d = calloc(1, sizeof(*d));
    *state = d;
    driver_open(d);
    return 0;
}

static int driver_tear_down(void **state)
{
    driver_close(*state);
    free(*state);
    return 0;
}

#endif
