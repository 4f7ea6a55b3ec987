/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hostile qcow2 images: opened, checked, read, written, reverted, repaired. The first byte chooses what
 * is done; the rest is a list of (offset, bytes) patches to a small image of ours, or the whole image.
 * Seeds: images that qemu-img makes, behind a byte of 0x80 (tests/fuzz/qcow2-seeds).
 */
#include "fuzz.h"

#include <libvmm/qcow2.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (UINT64_C(8) << 20)
#define DISK     (1u << 20)

struct file {
    struct vmm_block *block;
    uint8_t *data;
    uint64_t length;
};

static void submit(void *ctx, struct vmm_block_request *r)
{
    struct file *f = ctx;
    uint64_t at = r->offset;
    for (size_t i = 0; r->op <= VMM_BLOCK_WRITE && i < r->vector_count; i++) {
        FUZZ_CHECK(at + r->vector[i].iov_len <= f->length);
        if (r->op == VMM_BLOCK_READ)
            memcpy(r->vector[i].iov_base, f->data + at, r->vector[i].iov_len);
        else
            memcpy(f->data + at, r->vector[i].iov_base, r->vector[i].iov_len);
        at += r->vector[i].iov_len;
    }
    vmm_block_complete(f->block, r, 0);
}

static int info(void *ctx, struct vmm_block_info *out)
{
    struct file *f = ctx;
    out->length = f->length;
    out->block_size = 512;
    return 0;
}

static int resize(void *ctx, uint64_t length, struct vmm_error *err)
{
    struct file *f = ctx;
    if (length > FILE_MAX)
        return vmm_error_set(err, -ENOSPC, "full");
    if (length > f->length)
        memset(f->data + f->length, 0, length - f->length);
    f->length = length;
    return 0;
}

static struct vmm_block *open_file(struct vmm_loop *loop, struct file *f)
{
    static const struct vmm_block_ops ops = {
        .size = sizeof(ops), .submit = submit, .info = info, .resize = resize};
    FUZZ_CHECK(vmm_block_new(loop, &ops, f, &f->block) == 0);
    return f->block;
}

/* Something to patch: data, a snapshot, a hole. */
static void make_image(struct vmm_loop *loop, struct file *f, uint32_t kind)
{
    struct vmm_qcow2_create_options c = VMM_QCOW2_CREATE_OPTIONS_INIT;
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_block *block;
    static uint8_t data[8192];
    memset(data, 0x61, sizeof(data));
    f->length = 512;
    c.file = open_file(loop, f);
    c.length = DISK;
    c.cluster_size = kind & 1 ? 512 : kind & 2 ? 16384 : 4096;
    c.version = kind & 4 ? 2 : 3;
    c.flags = (kind & 7) == 2 ? VMM_QCOW2_EXTENDED_L2 : 0;
    FUZZ_CHECK(vmm_qcow2_create(loop, NULL, &c, NULL) == 0);
    o.file = c.file;
    FUZZ_CHECK(vmm_block_qcow2_new(loop, &o, &block, NULL) == 0);
    FUZZ_CHECK(vmm_block_write(block, 0, data, sizeof(data)) == 0);
    FUZZ_CHECK(vmm_qcow2_snapshot_create(block, "s", NULL) == 0);
    FUZZ_CHECK(vmm_block_write(block, 65536, data, sizeof(data)) == 0);
    vmm_block_unref(block);
    vmm_block_unref(c.file);
}

static void patch(struct file *f, struct fuzz_input *in)
{
    while (in->left >= 4) {
        uint32_t head = fuzz_u32(in);
        uint64_t at = head >> 8;
        for (uint32_t i = 0; i < (head & 15); i++) {
            uint8_t byte = fuzz_u8(in);
            if (at + i < f->length)
                f->data[at + i] = byte;
        }
    }
}

static void use(struct vmm_block *block, uint8_t what)
{
    struct vmm_block_info i = VMM_BLOCK_INFO_INIT;
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    static uint8_t data[65536];
    (void)vmm_block_get_info(block, &i);
    for (uint64_t at = 0; at < i.length && at < 4u << 20; at += sizeof(data)) {
        uint64_t n = i.length - at < sizeof(data) ? i.length - at : sizeof(data);
        (void)vmm_block_read(block, at, data, n);
        if (what & 1)
            (void)vmm_block_write(block, at + (n > 1024 ? 512 : 0), data, n > 1024 ? 1024 : n);
        if (what & 2)
            (void)vmm_block_range(block, at & 65536 ? VMM_BLOCK_DISCARD : VMM_BLOCK_WRITE_ZEROES, 0,
                                  at, n / 1024 * 512);
    }
    if (what & 4)
        (void)vmm_qcow2_snapshot_revert(block, "1", NULL);
    if (what & 8)
        (void)vmm_qcow2_snapshot_create(block, "t", NULL);
    if (what & 16)
        (void)vmm_qcow2_snapshot_delete(block, "s", NULL);
    if (what & 32)
        (void)vmm_block_resize(block, what & 1 ? 512 : 2 * DISK, NULL);
    (void)vmm_block_flush(block);
    (void)vmm_qcow2_check(block, 0, &r, NULL);
}

/* What could be repaired is clean then. */
static void repair(struct vmm_loop *loop, struct vmm_block *file)
{
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    struct vmm_block *block;
    o.file = file;
    o.flags = VMM_QCOW2_CHECK | VMM_QCOW2_ALONE;
    if (vmm_block_qcow2_new(loop, &o, &block, NULL))
        return;
    (void)vmm_qcow2_check(block, VMM_QCOW2_REPAIR_LEAKS | VMM_QCOW2_REPAIR_ERRORS, &r, NULL);
    vmm_block_unref(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct file f = {0};
    struct vmm_loop *loop;
    struct vmm_block *block;
    uint8_t kind = fuzz_u8(&in), what = fuzz_u8(&in);
    FUZZ_CHECK(vmm_loop_new(NULL, &loop) == 0);
    f.data = calloc(1, FILE_MAX);
    FUZZ_CHECK(f.data != NULL);
    if (kind & 0x80) {
        uint64_t length = in.left < FILE_MAX / 2 ? in.left : FILE_MAX / 2;
        memcpy(f.data, in.data, length);
        f.length = (length + 511) & ~UINT64_C(511);
        f.length = f.length ? f.length : 512;
    } else {
        make_image(loop, &f, kind);
        patch(&f, &in);
    }
    struct vmm_block *file = open_file(loop, &f);
    if (kind & 0x40)
        repair(loop, file);
    o.file = file;
    o.flags = VMM_QCOW2_ALONE | (kind & 0x20 ? VMM_QCOW2_READ_ONLY : 0);
    o.snapshot = (kind & 0x30) == 0x30 ? "s" : NULL;
    int rc = vmm_block_qcow2_new(loop, &o, &block, &err);
    if (rc)
        FUZZ_CHECK(err.code == rc && err.text[0]);
    else
        use(block, what);
    if (!rc)
        vmm_block_unref(block);
    vmm_block_unref(file);
    vmm_loop_unref(loop);
    free(f.data);
    return 0;
}
