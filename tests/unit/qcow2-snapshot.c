/* SPDX-License-Identifier: BSD-3-Clause */
/* Internal snapshots: made, read, gone back to and deleted between random requests; qemu-img agrees. */
#include "qcow2-model.h"

#define DISK (4u << 20)

static char folder[] = "/tmp/libvmm-qcow2-XXXXXX";

struct kept {
    char name[16];
    uint8_t *data;
};

static void read_snapshot(struct model *m, const struct kept *kept)
{
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_block *block;
    uint8_t *data = malloc(DISK);
    o.file = m->file.block;
    o.backing = m->backing_block;
    o.snapshot = kept->name;
    if (vmm_block_qcow2_new(m->loop, &o, &block, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_block_read(block, 0, data, DISK), 0);
    assert_memory_equal(data, kept->data, DISK);
    assert_int_equal(vmm_block_write(block, 0, data, 512), -EACCES);
    vmm_block_unref(block);
    free(data);
}

static void check_clean(struct model *m)
{
    struct vmm_qcow2_check_result result = VMM_QCOW2_CHECK_RESULT_INIT;
    assert_int_equal(vmm_qcow2_check(m->block, 0, &result, NULL), 0);
    assert_int_equal(result.errors, 0);
    assert_int_equal(result.leaks, 0);
    assert_int_equal(result.unmarked, 0);
}

static void keep(struct model *m, struct kept *kept, int number)
{
    struct vmm_error err = VMM_ERROR_INIT;
    model_verify(m); /* what was discarded is known now */
    snprintf(kept->name, sizeof(kept->name), "point %d", number);
    kept->data = malloc(DISK);
    memcpy(kept->data, m->data, DISK);
    if (vmm_qcow2_snapshot_create(m->block, kept->name, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_qcow2_snapshot_create(m->block, kept->name, NULL), -EEXIST);
}

static void forget(struct model *m, struct kept *kept)
{
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_qcow2_snapshot_delete(m->block, kept->name, &err))
        fail_msg("%s", err.text);
    free(kept->data);
    kept->data = NULL;
    assert_int_equal(vmm_qcow2_snapshot_delete(m->block, kept->name, NULL), -ENOENT);
}

static void ask_qemu(struct model *m, const struct kept *kept)
{
    model_verify(m);
    model_close(m);
    model_check_with_qemu(m, folder);
    if (have_qemu_img()) {
        char path[128], raw[128], backing[128];
        snprintf(path, sizeof(path), "%s/image.qcow2", folder);
        snprintf(raw, sizeof(raw), "%s/snapshot.raw", folder);
        snprintf(backing, sizeof(backing), "%s/backing.raw", folder);
        save_file(path, m->file.data, m->file.length);
        save_file(raw, kept->data, DISK);
        if (m->create.backing)
            save_file(backing, m->backing.data, m->backing.length);
        assert_int_equal(run_command("qemu-img convert -l 'snapshot.name=%s' -O raw %s %s.out && "
                                     "cmp %s %s.out",
                                     kept->name, path, raw, raw, raw),
                         0);
        assert_int_equal(run_command("rm %s/*", folder), 0);
    }
    model_open(m);
}

static void made_used_and_deleted(void **state)
{
    struct kept kept[4] = {0};
    struct model m = {.create = *(const struct vmm_qcow2_create_options *)*state};
    struct vmm_qcow2_snapshot info = VMM_QCOW2_SNAPSHOT_INIT;
    model_begin(&m, DISK);
    for (int i = 0; i < 3; i++) {
        model_run(&m, 2000);
        keep(&m, &kept[i], i);
        check_clean(&m);
    }
    model_run(&m, 2000);
    for (int i = 0; i < 3; i++)
        read_snapshot(&m, &kept[i]);
    ask_qemu(&m, &kept[1]);
    assert_int_equal(vmm_qcow2_snapshot_count(m.block), 3);
    assert_int_equal(vmm_qcow2_snapshot_get(m.block, 1, &info), 0);
    assert_string_equal(info.name, "point 1");
    assert_string_equal(info.id, "2");
    assert_int_equal(info.length, DISK);
    assert_true(info.time_ns > UINT64_C(1600000000) * 1000000000);
    assert_int_equal(vmm_qcow2_snapshot_get(m.block, 3, &info), -ENOENT);

    forget(&m, &kept[1]);
    check_clean(&m);
    model_run(&m, 1000);
    assert_int_equal(vmm_qcow2_snapshot_revert(m.block, "1", NULL), 0); /* by id */
    memcpy(m.data, kept[0].data, DISK);
    memset(m.unknown, 0, DISK / SECTOR);
    check_clean(&m);
    model_verify(&m);
    model_run(&m, 2000);
    keep(&m, &kept[3], 3);
    read_snapshot(&m, &kept[0]);
    read_snapshot(&m, &kept[2]);
    ask_qemu(&m, &kept[2]);
    forget(&m, &kept[0]);
    forget(&m, &kept[2]);
    model_run(&m, 1000);
    forget(&m, &kept[3]);
    check_clean(&m);
    model_verify(&m);
    model_close(&m);
    model_check_with_qemu(&m, folder);
    model_open(&m);
    model_end(&m);
}

static void what_is_refused(void **state)
{
    struct model m = {.create = {.cluster_size = 4096, .refcount_bits = 1}};
    struct vmm_error err = VMM_ERROR_INIT;
    char name[300];
    (void)state;
    model_begin(&m, DISK);
    model_run(&m, 500);
    assert_int_equal(vmm_qcow2_snapshot_create(m.block, "a", &err), -EMLINK);
    check_clean(&m);
    model_run(&m, 500);
    model_verify(&m);
    memset(name, 'x', sizeof(name));
    name[256] = '\0';
    assert_int_equal(vmm_qcow2_snapshot_create(m.block, name, NULL), -EINVAL);
    assert_int_equal(vmm_qcow2_snapshot_create(m.block, "", NULL), -EINVAL);
    assert_int_equal(vmm_qcow2_snapshot_create(m.block, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_qcow2_snapshot_revert(m.block, "a", NULL), -ENOENT);
    assert_int_equal(vmm_qcow2_snapshot_create(m.file.block, "a", NULL), -ENOTSUP);
    assert_int_equal(vmm_qcow2_snapshot_count(m.file.block), -ENOTSUP);
    assert_int_equal(vmm_qcow2_check(m.file.block, 0, NULL, NULL), -ENOTSUP);
    model_close(&m);
    assert_int_equal(model_try_open(&m, VMM_QCOW2_READ_ONLY, NULL), 0);
    assert_int_equal(vmm_qcow2_snapshot_create(m.block, "a", NULL), -EACCES);
    model_end(&m);
}

static const struct layout {
    const char *name;
    struct vmm_qcow2_create_options create;
} layouts[] = {
    {"64 KiB", {.cluster_size = 65536}},
    {"512 bytes", {.cluster_size = 512}},
    {"version 2", {.cluster_size = 4096, .version = 2}},
    {"refcounts of 4 bits", {.cluster_size = 1024, .refcount_bits = 4}},
    {"lazy", {.cluster_size = 8192, .flags = VMM_QCOW2_LAZY_REFCOUNTS}},
    {"subclusters", {.cluster_size = 16384, .flags = VMM_QCOW2_EXTENDED_L2}},
    {"backing file", {.cluster_size = 4096, .backing = "backing.raw", .backing_format = "raw"}},
};

int main(void)
{
    enum { count = sizeof(layouts) / sizeof(layouts[0]) };
    struct CMUnitTest tests[count + 1];
    if (!mkdtemp(folder))
        return 1;
    if (!have_qemu_img())
        fprintf(stderr, "qemu-img is missing: the images are not checked by it\n");
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){layouts[i].name, made_used_and_deleted, NULL, NULL,
                                       (void *)(uintptr_t)&layouts[i].create};
    tests[count] = (struct CMUnitTest){"what is refused", what_is_refused, NULL, NULL, NULL};
    int failed = cmocka_run_group_tests_name("qcow2-snapshot", tests, NULL, NULL);
    (void)run_command("rm -rf %s", folder);
    return failed;
}
