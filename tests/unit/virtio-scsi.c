/* SPDX-License-Identifier: BSD-3-Clause */
/* The SCSI controller: commands of its disk and its CD-ROM, by a driver's descriptors, and wrong ones. */
#include "virtio-driver.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>

#define BLOCKS    4096u
#define CD_BLOCKS 500u
#define COMMAND   BUFFER
#define ANSWER    (BUFFER + 0x400)
#define OUT       (BUFFER + 0x1000)
#define IN        (BUFFER + 0x20000)

struct fixture {
    struct driver d;
    struct vmm_block *blocks[3];
    /* Of the last answer. */
    uint8_t response, status, sense[18], data[4096];
    uint32_t residual, sense_length;
    uint8_t lun[8];
};

static struct vmm_virtio_place place_of(struct fixture *f)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = "scsi0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    return place;
}

static void make_block(struct fixture *f, int index, uint64_t length)
{
    struct vmm_block_memory_options o = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    o.length = length;
    assert_int_equal(vmm_block_memory_new(f->d.loop, &o, &f->blocks[index], NULL), 0);
}

/* Target 0 a disk, 1 a CD-ROM, 2 a disk that is only read. */
static int open_controller(struct fixture *f, struct vmm_virtio **out)
{
    struct vmm_virtio_scsi_options o = VMM_VIRTIO_SCSI_OPTIONS_INIT;
    struct vmm_virtio_scsi_unit u[3] = {VMM_VIRTIO_SCSI_UNIT_INIT, VMM_VIRTIO_SCSI_UNIT_INIT,
                                        VMM_VIRTIO_SCSI_UNIT_INIT};
    const struct vmm_virtio_scsi_unit *units[3] = {&u[0], &u[1], &u[2]};
    const struct vmm_virtio_place place = place_of(f);
    for (int i = 0; i < 3; i++)
        u[i].block = f->blocks[i];
    u[0].serial = "number-1";
    u[1].cdrom = 1;
    u[2].read_only = 1;
    o.units = units;
    o.unit_count = 3;
    return vmm_virtio_scsi_new(&place, &o, out, NULL);
}

static int scsi(struct fixture *f, const uint8_t *cdb, size_t cdb_length, uint32_t out,
                uint32_t in);

static int set_up(void **state)
{
    static const uint8_t test_ready[] = {0};
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_virtio *virtio;
    *state = f;
    driver_open(&f->d);
    make_block(f, 0, BLOCKS * 512);
    make_block(f, 1, CD_BLOCKS * 2048 + 512);
    make_block(f, 2, 1 << 20);
    assert_int_equal(open_controller(f, &virtio), 0);
    driver_attach(&f->d, virtio);
    f->d.queue = 2;
    f->lun[0] = 1;
    start(&f->d, 0);
    for (uint8_t target = 0; target < 3; target++) { /* each tells of its reset once */
        f->lun[1] = target;
        assert_int_equal(scsi(f, test_ready, 1, 0, 0), 2);
        assert_int_equal(f->sense[2], 6);
        assert_int_equal(f->sense[12], 0x29);
        assert_int_equal(scsi(f, test_ready, 1, 0, 0), 0);
    }
    f->lun[1] = 0;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    for (int i = 0; i < 3; i++)
        vmm_block_unref(f->blocks[i]);
    free(f);
    return 0;
}

static int64_t wait_for_answer(struct driver *d, uint32_t descriptors)
{
    int64_t length = take(d, descriptors);
    for (int i = 0; i < 1000 && length < 0; i++) {
        vmm_loop_dispatch(d->loop, 1);
        length = take(d, descriptors);
    }
    return length;
}

/* The status, or -1: none came; -2 - response where that is not 0. `in` bytes are in f->data. */
static int scsi(struct fixture *f, const uint8_t *cdb, size_t cdb_length, uint32_t out, uint32_t in)
{
    struct driver *d = &f->d;
    uint8_t answer[108];
    uint32_t n = 0;
    vmm_memory_fill(d->memory, COMMAND, 0, 51);
    vmm_memory_write(d->memory, COMMAND, f->lun, 8);
    vmm_memory_write(d->memory, COMMAND + 19, cdb, cdb_length);
    vmm_memory_fill(d->memory, ANSWER, 0xee, 108);
    vmm_memory_fill(d->memory, IN, 0xee, sizeof(f->data));
    desc(d, n++, COMMAND, 51, NEXT);
    if (out)
        desc(d, n++, OUT, out, NEXT);
    desc(d, n++, ANSWER, 108, (uint16_t)(WRITE | (in ? NEXT : 0)));
    if (in)
        desc(d, n++, IN, in, WRITE);
    offer(d, n);
    int64_t length = wait_for_answer(d, n);
    if (length < 0)
        return -1;
    vmm_memory_read(d->memory, ANSWER, answer, sizeof(answer));
    vmm_memory_read(d->memory, IN, f->data, sizeof(f->data));
    memcpy(&f->sense_length, answer, 4);
    memcpy(&f->residual, answer + 4, 4);
    f->status = answer[10];
    f->response = answer[11];
    memcpy(f->sense, answer + 12, 18);
    if (f->response)
        return -2 - f->response;
    if (in)
        assert_int_equal(length, 108 + in - f->residual);
    return f->status;
}

#define SCSI(f, out, in, ...)                                                                      \
    scsi(f, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), out, in)

/* A check condition: key and additional sense as one number. */
static uint32_t sense(const struct fixture *f)
{
    assert_int_equal(f->status, 2);
    assert_int_equal(f->sense_length, 18);
    assert_int_equal(f->sense[0], 0x70);
    return (uint32_t)f->sense[2] << 16 | (uint32_t)f->sense[12] << 8 | f->sense[13];
}

#define REFUSED(f, key, ...)                                                                       \
    do {                                                                                           \
        assert_int_equal(SCSI(f, __VA_ARGS__), 2);                                                 \
        assert_int_equal(sense(f), key);                                                           \
    } while (0)

static void fill_out(struct fixture *f, uint32_t length, uint8_t value)
{
    assert_int_equal(vmm_memory_fill(f->d.memory, OUT, value, length), 0);
}

static void who_is_there(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(SCSI(f, 0, 36, 0x12, 0, 0, 0, 36, 0), 0);
    assert_int_equal(f->data[0], 0);
    assert_memory_equal(f->data + 8, "libvmm  disk            0.1 ", 28);
    assert_int_equal(SCSI(f, 0, 20, 0x12, 0, 0, 0, 36, 0), 0); /* as much as there is room for */
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0, 0, 100, 0), 0);
    assert_int_equal(f->data[3], 6);
    assert_int_equal(f->residual, 90);
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0x80, 0, 100, 0), 0);
    assert_memory_equal(f->data + 4, "number-1", 8);
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0x83, 0, 100, 0), 0);
    assert_memory_equal(f->data + 8, "libvmm  number-1", 16);
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0xb0, 0, 100, 0), 0);
    assert_int_equal(f->data[3], 60);
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0xb1, 0, 100, 0), 0);
    assert_int_equal(SCSI(f, 0, 100, 0x12, 1, 0xb2, 0, 100, 0), 0);
    assert_int_equal(f->data[5], 0xe0);
    REFUSED(f, 0x52400, 0, 100, 0x12, 1, 0x99, 0, 100, 0);
    REFUSED(f, 0x52400, 0, 100, 0x12, 0, 0x80, 0, 100, 0);
    assert_int_equal(SCSI(f, 0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), 0);
    assert_int_equal(f->data[3], 8);
    REFUSED(f, 0x52400, 0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0);
    REFUSED(f, 0x52000, 0, 0, 0xff);
    assert_int_equal(SCSI(f, 0, 18, 0x03, 0, 0, 0, 18, 0), 0); /* the last error, once */
    assert_int_equal(f->data[2], 5);
    assert_int_equal(SCSI(f, 0, 18, 0x03, 0, 0, 0, 18, 0), 0);
    assert_int_equal(f->data[2], 0);
    f->lun[1] = 1;
    assert_int_equal(SCSI(f, 0, 36, 0x12, 0, 0, 0, 36, 0), 0);
    assert_int_equal(f->data[0], 5);
    assert_int_equal(f->data[1], 0x80);
    REFUSED(f, 0x52400, 0, 100, 0x12, 1, 0xb0, 0, 100, 0);
}

static void who_is_not_there(void **state)
{
    struct fixture *f = *state;
    f->lun[1] = 3;
    assert_int_equal(SCSI(f, 0, 36, 0x12, 0, 0, 0, 36, 0), -5);
    f->lun[1] = 0;
    f->lun[0] = 2;
    assert_int_equal(SCSI(f, 0, 0, 0), -5);
    f->lun[0] = 1;
    f->lun[2] = 0x40;
    f->lun[3] = 1; /* target 0 has no unit 1 */
    assert_int_equal(SCSI(f, 0, 36, 0x12, 0, 0, 0, 36, 0), 0);
    assert_int_equal(f->data[0], 0x7f);
    REFUSED(f, 0x52400, 0, 36, 0x12, 1, 0x80, 0, 36, 0);
    REFUSED(f, 0x52500, 0, 0, 0);
    assert_int_equal(SCSI(f, 0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), 0);
    f->lun[3] = 0; /* unit 0 in the other notation */
    assert_int_equal(SCSI(f, 0, 0, 0), 0);
}

static void blocks_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(SCSI(f, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(f->data[2] << 8 | f->data[3], BLOCKS - 1);
    assert_int_equal(f->data[6] << 8 | f->data[7], 512);
    assert_int_equal(SCSI(f, 0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), 0);
    assert_int_equal(f->data[6] << 8 | f->data[7], BLOCKS - 1);
    REFUSED(f, 0x52400, 0, 32, 0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    /* By each length of command; two blocks at 5, 7, 9, 11. */
    fill_out(f, 1024, 0x11);
    assert_int_equal(SCSI(f, 1024, 0, 0x0a, 0, 0, 5, 2, 0), 0);
    fill_out(f, 1024, 0x22);
    assert_int_equal(SCSI(f, 1024, 0, 0x2a, 8, 0, 0, 0, 7, 0, 0, 2, 0), 0);
    fill_out(f, 1024, 0x33);
    assert_int_equal(SCSI(f, 1024, 0, 0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0), 0);
    fill_out(f, 1024, 0x44);
    assert_int_equal(SCSI(f, 1024, 0, 0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 2, 0, 0), 0);
    assert_int_equal(f->residual, 0);
    assert_int_equal(SCSI(f, 0, 4096, 0x08, 0, 0, 5, 8, 0), 0);
    for (uint32_t i = 0; i < 4096; i++)
        assert_int_equal(f->data[i], 0x11 * (i / 1024 + 1));
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[511], 0x22);
    assert_int_equal(SCSI(f, 0, 1000, 0xa8, 0, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0), 0);
    assert_int_equal(f->data[511], 0x33);
    assert_int_equal(f->residual, 488);
    assert_int_equal(SCSI(f, 0, 512, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0), 0);
    assert_int_equal(f->data[0], 0x44);
    assert_int_equal(SCSI(f, 0, 0, 0x28, 0, 0, 0, 0, 8, 0, 0, 0, 0), 0); /* of no block */
    assert_int_equal(SCSI(f, 0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(SCSI(f, 0, 0, 0x91), 0);
    assert_int_equal(SCSI(f, 0, 0, 0x2f, 0, 0, 0, 0, 8, 0, 0, 1, 0), 0);
    REFUSED(f, 0x52400, 0, 0, 0x2f, 2, 0, 0, 0, 8, 0, 0, 1, 0);
}

static void beyond_the_limits(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 1, 0), 0);
    REFUSED(f, 0x52100, 0, 1024, 0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0);
    REFUSED(f, 0x52100, 0, 512, 0x28, 0, 0, 0, 0x10, 0, 0, 0, 1, 0);
    REFUSED(f, 0x52100, 0, 512, 0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1, 0, 0);
    REFUSED(f, 0x52100, 512, 0, 0x8a, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
            255);
    REFUSED(f, 0x52100, 0, 0, 0x2f, 0, 255, 255, 255, 255, 0, 0, 1, 0);
    /* Shorter buffers than the command wants: nothing is done. */
    assert_int_equal(SCSI(f, 0, 511, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), -3);
    assert_int_equal(SCSI(f, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), -3);
    fill_out(f, 512, 0x77);
    assert_int_equal(SCSI(f, 512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0), -3);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[0], 0);
    f->lun[1] = 2; /* the one that is only read */
    REFUSED(f, 0x72700, 512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    REFUSED(f, 0x72700, 512, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), 0);
    assert_int_equal(SCSI(f, 0, 100, 0x1a, 8, 0x3f, 0, 100, 0), 0);
    assert_int_equal(f->data[2] & 0x80, 0x80);
}

static void filling_and_unmapping(void **state)
{
    struct fixture *f = *state;
    fill_out(f, 512, 0x5a);
    vmm_memory_store_u8(f->d.memory, OUT + 511, 0xa5);
    assert_int_equal(SCSI(f, 512, 0, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0), 0);
    assert_int_equal(SCSI(f, 0, 1024, 0x28, 0, 0, 0, 1, 0, 0, 0, 2, 0),
                     0); /* its last and one more */
    assert_int_equal(f->data[510], 0x5a);
    assert_int_equal(f->data[511], 0xa5);
    assert_int_equal(f->data[512], 0);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 200, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[511], 0xa5);
    assert_int_equal(SCSI(f, 0, 0, 0x93, 9, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 50, 0, 0), 0);
    assert_int_equal(SCSI(f, 0, 1024, 0x28, 0, 0, 0, 0, 149, 0, 0, 2, 0), 0);
    assert_int_equal(f->data[511], 0);
    assert_int_equal(f->data[512], 0x5a);
    REFUSED(f, 0x52400, 512, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* no number of blocks */
    assert_int_equal(SCSI(f, 511, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0), -3);
    /* Two ranges to unmap, and one of nothing. */
    fill_out(f, 56, 0);
    vmm_memory_store_u8(f->d.memory, OUT + 1, 54);
    vmm_memory_store_u8(f->d.memory, OUT + 3, 48);
    vmm_memory_store_u8(f->d.memory, OUT + 8 + 7, 150);
    vmm_memory_store_u8(f->d.memory, OUT + 8 + 11, 10);
    vmm_memory_store_u8(f->d.memory, OUT + 40 + 7, 200);
    vmm_memory_store_u8(f->d.memory, OUT + 40 + 11, 1);
    assert_int_equal(SCSI(f, 56, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 56, 0), 0);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 159, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[0], 0);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 200, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[0], 0);
    assert_int_equal(SCSI(f, 0, 512, 0x28, 0, 0, 0, 0, 201, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[0], 0x5a);
    assert_int_equal(SCSI(f, 55, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 56, 0), -3);
    assert_int_equal(SCSI(f, 0, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    REFUSED(f, 0x51a00, 56, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0);
    REFUSED(f, 0x52600, 56, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 55, 0); /* ranges that end beyond it */
    vmm_memory_store_u8(f->d.memory, OUT + 40 + 6, 0x10);
    REFUSED(f, 0x52100, 56, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 56, 0);
}

static void mode_pages(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(SCSI(f, 0, 100, 0x1a, 0, 0x3f, 0, 100, 0), 0);
    assert_int_equal(f->data[0], 4 + 8 + 20 + 12 - 1);
    assert_int_equal(f->data[2], 0x10);
    assert_int_equal(f->data[3], 8);
    assert_int_equal(f->data[12], 8);
    assert_int_equal(f->data[14], 4);
    assert_int_equal(SCSI(f, 0, 100, 0x5a, 8, 0x48, 0, 0, 0, 0, 0, 100, 0), 0); /* changeable */
    assert_int_equal(f->data[1], 8 + 20 - 2);
    assert_int_equal(f->data[8], 8);
    assert_int_equal(f->data[10], 0);
    REFUSED(f, 0x53900, 0, 100, 0x1a, 0, 0xc8, 0, 100, 0);
    REFUSED(f, 0x52400, 0, 100, 0x1a, 0, 0x08, 1, 100, 0);
    REFUSED(f, 0x52400, 0, 100, 0x1a, 0, 0x2a, 0, 100, 0);
    REFUSED(f, 0x52000, 0, 0, 0x1e, 0, 0, 0, 1, 0);
    assert_int_equal(SCSI(f, 0, 0, 0x1b, 0, 0, 0, 2, 0), 0); /* disks are not ejected */
    assert_int_equal(SCSI(f, 0, 0, 0), 0);
}

static void compact_discs(void **state)
{
    struct fixture *f = *state;
    static uint8_t block[2048];
    f->lun[1] = 1;
    memset(block, 0x66, sizeof(block));
    assert_int_equal(vmm_block_write(f->blocks[1], 17 * 2048, block, 2048), 0);
    assert_int_equal(SCSI(f, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(f->data[2] << 8 | f->data[3], CD_BLOCKS - 1);
    assert_int_equal(f->data[6] << 8 | f->data[7], 2048);
    assert_int_equal(SCSI(f, 0, 2048, 0x28, 0, 0, 0, 0, 17, 0, 0, 1, 0), 0);
    assert_int_equal(f->data[2047], 0x66);
    REFUSED(f, 0x52000, 2048, 0, 0x2a, 0, 0, 0, 0, 17, 0, 0, 1, 0);
    assert_int_equal(SCSI(f, 0, 100, 0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0), 0);
    assert_int_equal(f->data[1], 18);
    assert_int_equal(f->data[14], 0xaa);
    assert_int_equal(f->data[18] << 8 | f->data[19], CD_BLOCKS);
    assert_int_equal(SCSI(f, 0, 100, 0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100, 0), 0);
    assert_int_equal(f->data[10], (CD_BLOCKS + 150) / 75);
    assert_int_equal(f->data[11], (CD_BLOCKS + 150) % 75);
    assert_int_equal(SCSI(f, 0, 100, 0x43, 0, 1, 0, 0, 0, 0, 0, 100, 0), 0);
    REFUSED(f, 0x52400, 0, 100, 0x43, 0, 2, 0, 0, 0, 0, 0, 100, 0);
    REFUSED(f, 0x52400, 0, 100, 0x43, 0, 0, 0, 0, 0, 2, 0, 100, 0);
    assert_int_equal(SCSI(f, 0, 200, 0x46, 0, 0, 0, 0, 0, 0, 0, 200, 0), 0);
    assert_int_equal(f->data[7], 8);
    assert_int_equal(f->data[3], 60);
    assert_int_equal(SCSI(f, 0, 200, 0x46, 2, 0, 0x1e, 0, 0, 0, 0, 200, 0), 0);
    assert_int_equal(f->data[3], 12);
    REFUSED(f, 0x52400, 0, 200, 0x46, 3, 0, 0, 0, 0, 0, 0, 200, 0);
    assert_int_equal(SCSI(f, 0, 100, 0x51, 0, 0, 0, 0, 0, 0, 0, 100, 0), 0);
    assert_int_equal(f->data[2], 0x0e);
    assert_int_equal(SCSI(f, 0, 8, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0), 0);
    assert_int_equal(SCSI(f, 0, 100, 0x1a, 8, 0x2a, 0, 100, 0), 0);
    assert_int_equal(f->data[4], 0x2a);
    REFUSED(f, 0x52000, 0, 0, 0x42);
    REFUSED(f, 0x52000, 0, 0, 0x9e, 0x10);
}

static void trays(void **state)
{
    struct fixture *f = *state;
    f->lun[1] = 1;
    assert_int_equal(SCSI(f, 0, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0), 0);
    assert_int_equal(f->data[5], 2);
    assert_int_equal(SCSI(f, 0, 8, 0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8, 0), 0);
    assert_int_equal(f->data[2], 0x80);
    REFUSED(f, 0x52400, 0, 8, 0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0);
    assert_int_equal(SCSI(f, 0, 0, 0x1e, 0, 0, 0, 1, 0), 0);
    REFUSED(f, 0x55302, 0, 0, 0x1b, 0, 0, 0, 2, 0);
    assert_int_equal(SCSI(f, 0, 0, 0x1e, 0, 0, 0, 0, 0), 0);
    assert_int_equal(SCSI(f, 0, 0, 0x1b, 0, 0, 0, 2, 0), 0);
    REFUSED(f, 0x23a00, 0, 0, 0);
    REFUSED(f, 0x23a00, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    REFUSED(f, 0x23a00, 0, 2048, 0x28, 0, 0, 0, 0, 17, 0, 0, 1, 0);
    REFUSED(f, 0x23a00, 0, 100, 0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0);
    assert_int_equal(SCSI(f, 0, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0), 0);
    assert_int_equal(f->data[5], 1);
    assert_int_equal(SCSI(f, 0, 0, 0x1b, 0, 0, 0, 3, 0), 0);
    REFUSED(f, 0x62800, 0, 0, 0); /* the medium may be another */
    assert_int_equal(SCSI(f, 0, 0, 0), 0);
}

/* Control queue: the answer's last byte, or -1. */
static int manage(struct fixture *f, const uint8_t *request, uint32_t length, uint32_t room)
{
    struct driver *d = &f->d;
    uint8_t answer[8] = {0};
    vmm_memory_write(d->memory, COMMAND, request, length);
    vmm_memory_fill(d->memory, ANSWER, 0xee, 8);
    desc(d, 0, COMMAND, length, NEXT);
    desc(d, 1, ANSWER, room, WRITE);
    offer(d, 2);
    int64_t written = wait_for_answer(d, 2);
    vmm_memory_read(d->memory, ANSWER, answer, room);
    return written < 0 ? -1 : answer[room - 1];
}

static void management(void **state)
{
    struct fixture *f = *state;
    static const uint8_t expected[] = {0, 0, 11, 0, 0, 0, 0, 0, 11, 11};
    uint8_t request[24] = {0};
    f->d.queue = 0;
    start(&f->d, 0);
    request[8] = 1;
    for (uint8_t subtype = 0; subtype < sizeof(expected); subtype++) {
        request[4] = subtype;
        assert_int_equal(manage(f, request, 24, 1), expected[subtype]);
    }
    request[4] = 0;
    request[9] = 3;
    assert_int_equal(manage(f, request, 24, 1), 3);
    request[9] = 0;
    request[11] = 1;
    assert_int_equal(manage(f, request, 24, 1), 12);
    request[0] = 1; /* asynchronous notifications: none */
    assert_int_equal(manage(f, request, 20, 5), 0);
    static const uint8_t wrong[][3] = {{0, 23, 1}, {1, 15, 5}, {1, 20, 4}, {3, 24, 5}, {0, 3, 5}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        request[0] = wrong[i][0];
        assert_int_equal(manage(f, request, wrong[i][1], wrong[i][2]), -1);
        assert_int_equal(reg(&f->d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        start(&f->d, 0);
    }
    f->d.queue = 2; /* a reset is told of */
    start(&f->d, 0);
    REFUSED(f, 0x62903, 0, 0, 0);
}

static void requests_without_room(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    for (int i = 0; i < 2; i++) {
        desc(d, 0, COMMAND, i ? 50 : 51, NEXT);
        desc(d, 1, ANSWER, i ? 108 : 107, WRITE);
        offer(d, 2);
        assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        start(d, 0);
    }
    REFUSED(f, 0x62903, 0, 0, 0);
    assert_int_equal(SCSI(f, 0, 0, 0), 0);
}

static void sizes_can_be_changed(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    assert_int_equal(reg(d, 0x100), 1);
    assert_int_equal(reg(d, 0x100 + 20), 96);
    assert_int_equal(reg(d, 0x100 + 24), 32);
    assert_int_equal(reg(d, 0x100 + 28), 2 << 16);
    set_reg(d, 0x100 + 20, 253);
    set_reg(d, 0x100 + 24, 33);
    set_reg(d, 0x100 + 24, 0);
    set_reg(d, 0x100, 7);
    assert_int_equal(reg(d, 0x100), 1);
    assert_int_equal(reg(d, 0x100 + 20), 96);
    assert_int_equal(reg(d, 0x100 + 24), 32);
    set_reg(d, 0x100 + 20, 4);
    set_reg(d, 0x100 + 24, 6);
    desc(d, 0, COMMAND, 25, NEXT);
    desc(d, 1, ANSWER, 16, NEXT | WRITE);
    desc(d, 2, IN, 36, WRITE);
    vmm_memory_fill(d->memory, COMMAND, 0, 64);
    vmm_memory_write(d->memory, COMMAND, f->lun, 8);
    vmm_memory_store_u8(d->memory, COMMAND + 19, 0x12);
    vmm_memory_store_u8(d->memory, COMMAND + 23, 36);
    offer(d, 3);
    assert_int_equal(wait_for_answer(d, 3), 16 + 36);
    set_reg(d, 0x70, 0);
    assert_int_equal(reg(d, 0x100 + 20), 96);
}

static void state_is_saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    f->lun[1] = 1;
    assert_int_equal(SCSI(f, 0, 0, 0x1b, 0, 0, 0, 2, 0), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(d->virtio), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(SCSI(f, 0, 0, 0x1b, 0, 0, 0, 3, 0), 0);
    d->avail--;
    d->used--;
    vmm_memory_store_u16(d->memory, RING_AVAIL + 2, d->avail);
    vmm_memory_store_u16(d->memory, RING_USED + 2, d->used);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(d->virtio), r, NULL), 0);
    vmm_state_reader_free(r);
    free(blob);
    run(d);
    REFUSED(f, 0x23a00, 0, 0, 0); /* open, as it was */
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = place_of(f);
    struct vmm_virtio_scsi_options o = VMM_VIRTIO_SCSI_OPTIONS_INIT;
    struct vmm_virtio_scsi_unit u = VMM_VIRTIO_SCSI_UNIT_INIT;
    const struct vmm_virtio_scsi_unit *units[1] = {&u};
    struct vmm_virtio *v;
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL);
    o.units = units;
    o.unit_count = 1;
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL); /* no backend */
    u.block = f->blocks[0];
    o.queues = 17;
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL);
    o.queues = 16;
    o.unit_count = VMM_VIRTIO_SCSI_UNITS + 1;
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL);
    o.unit_count = 1;
    u.serial = "more than twenty characters";
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL);
    u.serial = NULL;
    assert_int_equal(vmm_virtio_scsi_new(NULL, &o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_scsi_new(&place, NULL, &v, NULL), -EINVAL);
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    struct vmm_block *small;
    m.length = 1024;
    assert_int_equal(vmm_block_memory_new(f->d.loop, &m, &small, NULL), 0);
    u.block = small;
    u.cdrom = 1; /* not one block */
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), -EINVAL);
    u.cdrom = 0;
    assert_int_equal(vmm_virtio_scsi_new(&place, &o, &v, NULL), 0);
    vmm_virtio_unref(v);
    vmm_block_unref(small);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_there),
        TEST(who_is_not_there),
        TEST(blocks_are_written_and_read),
        TEST(beyond_the_limits),
        TEST(filling_and_unmapping),
        TEST(mode_pages),
        TEST(compact_discs),
        TEST(trays),
        TEST(management),
        TEST(requests_without_room),
        TEST(sizes_can_be_changed),
        TEST(state_is_saved_and_loaded),
        TEST(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
