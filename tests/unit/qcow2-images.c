/* SPDX-License-Identifier: BSD-3-Clause */
/* Images on the host's files: those that qemu-img makes in every layout, ours through its eyes, chains,
 * and what changes an image as a whole. */
#include "qcow2-model.h"

#define DISK (6u << 20)

static char folder[] = "/tmp/libvmm-qcow2-XXXXXX";

static struct vmm_loop *loop;

static const char *in_folder(const char *name)
{
    static char paths[4][160];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static uint8_t *contents; /* DISK bytes: data, holes, what packs well and what does not */

static void make_contents(void)
{
    uint64_t random = 4711;
    contents = calloc(1, DISK);
    for (uint64_t at = 0; at < DISK; at += 4096) {
        uint64_t kind = memory_random(&random) % 4;
        for (uint64_t i = 0; i < 4096 && kind; i++)
            contents[at + i] =
                kind == 1 ? (uint8_t)memory_random(&random) : (uint8_t)(at / 4096 + i / 100);
    }
    memset(contents + (3u << 20), 0, 1u << 20);
    save_file(in_folder("contents.raw"), contents, DISK);
}

static int try_open(const char *name, uint32_t flags, struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    o.path = in_folder(name);
    o.flags = flags;
    return vmm_block_qcow2_new(loop, &o, out, err);
}

static struct vmm_block *open_image(const char *name, uint32_t flags)
{
    struct vmm_block *block;
    struct vmm_error err = VMM_ERROR_INIT;
    if (try_open(name, flags, &block, &err))
        fail_msg("%s: %s", name, err.text);
    return block;
}

static void compare_all(struct vmm_block *block, const uint8_t *with, uint64_t length)
{
    uint8_t *data = malloc(length);
    assert_int_equal(vmm_block_read(block, 0, data, length), 0);
    assert_memory_equal(data, with, length);
    /* Piece by piece too: other paths. */
    for (uint64_t at = 0; at < length; at += 24576) {
        uint64_t n = length - at < 12800 ? length - at : 12800;
        assert_int_equal(vmm_block_read(block, at, data, n), 0);
        assert_memory_equal(data, with + at, n);
    }
    free(data);
}

static void check_clean(struct vmm_block *block)
{
    struct vmm_qcow2_check_result r = VMM_QCOW2_CHECK_RESULT_INIT;
    assert_int_equal(vmm_qcow2_check(block, 0, &r, NULL), 0);
    assert_int_equal(r.errors, 0);
    assert_int_equal(r.leaks, 0);
    assert_int_equal(r.unmarked, 0);
}

static void need_qemu_img(void)
{
    if (!have_qemu_img()) {
        fprintf(stderr, "qemu-img is missing\n");
        skip();
    }
}

/* From qemu-img -------------------------------------------------------------------------------- */

static void read_what_qemu_made(void **state)
{
    static const char *const layouts[] = {
        "-o compat=0.10",
        "-o compat=1.1",
        "-o cluster_size=512",
        "-o cluster_size=4096,refcount_bits=1",
        "-o cluster_size=2M,refcount_bits=64",
        "-o refcount_bits=8,lazy_refcounts=on",
        "-o extended_l2=on,cluster_size=16k",
        "-o extended_l2=on,cluster_size=2M",
        "-o preallocation=metadata",
        "-o preallocation=full",
        "-c -o compat=0.10",
        "-c -o cluster_size=512",
        "-c -o compression_type=zlib,cluster_size=2M",
        "-c -o compression_type=zstd",
        "-c -o compression_type=zstd,cluster_size=4096",
        "-c -o extended_l2=on,cluster_size=32k",
    };
    (void)state;
    need_qemu_img();
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        char image[160];
        strcpy(image, in_folder("made.qcow2"));
        assert_int_equal(run_command("qemu-img convert -f raw -O qcow2 %s %s %s", layouts[i],
                                     in_folder("contents.raw"), image),
                         0);
        struct vmm_error err = VMM_ERROR_INIT;
        struct vmm_block *block;
        int rc = try_open("made.qcow2", VMM_QCOW2_READ_ONLY, &block, &err);
        if (rc == -ENOTSUP)
            continue; /* built without that compression */
        if (rc)
            fail_msg("%s: %s", layouts[i], err.text);
        compare_all(block, contents, DISK);
        check_clean(block);
        vmm_block_unref(block);
        /* Write to it: over compressed clusters, into zeroes, across borders. */
        uint8_t *mine = malloc(DISK);
        memcpy(mine, contents, DISK);
        block = open_image("made.qcow2", 0);
        for (uint64_t at = 1536; at + 70000 < DISK; at += 300032) {
            memset(mine + at, (int)(at >> 9), 66048);
            assert_int_equal(vmm_block_write(block, at, mine + at, 66048), 0);
        }
        memset(mine + 1000448, 0, 500224);
        assert_int_equal(
            vmm_block_range(block, VMM_BLOCK_WRITE_ZEROES, VMM_BLOCK_MAY_UNMAP, 1000448, 500224),
            0);
        compare_all(block, mine, DISK);
        check_clean(block);
        vmm_block_unref(block);
        save_file(in_folder("mine.raw"), mine, DISK);
        assert_int_equal(run_command("qemu-img check -q %s", image), 0);
        assert_int_equal(
            run_command("qemu-img compare -q -f qcow2 -F raw %s %s", image, in_folder("mine.raw")),
            0);
        free(mine);
    }
}

static void data_files(void **state)
{
    (void)state;
    need_qemu_img();
    for (int raw = 0; raw < 2; raw++) {
        struct vmm_error err = VMM_ERROR_INIT;
        struct vmm_block *block;
        assert_int_equal(run_command("cd %s && rm -f data && qemu-img create -q -f qcow2 -o "
                                     "data_file=data,data_file_raw=%s with-data.qcow2 6M",
                                     folder, raw ? "on" : "off"),
                         0);
        assert_int_equal(try_open("with-data.qcow2", 0, &block, &err), -EPERM);
        assert_non_null(strstr(err.text, "\"data\""));
        block = open_image("with-data.qcow2", VMM_QCOW2_FOLLOW);
        assert_int_equal(vmm_block_write(block, 0, contents, DISK), 0);
        assert_int_equal(vmm_block_range(block, VMM_BLOCK_WRITE_ZEROES, 0, 512, 200704), 0);
        assert_int_equal(vmm_block_range(block, VMM_BLOCK_DISCARD, 0, 1u << 20, 1u << 20), 0);
        uint8_t *now = malloc(DISK);
        assert_int_equal(vmm_block_read(block, 0, now, DISK), 0);
        for (int i = 0; i < 200704; i++)
            assert_int_equal(now[512 + i], 0);
        assert_memory_equal(now + (2u << 20), contents + (2u << 20), 4u << 20);
        assert_int_equal(vmm_qcow2_snapshot_create(block, "x", NULL), -ENOTSUP);
        check_clean(block);
        vmm_block_unref(block);
        save_file(in_folder("mine.raw"), now, DISK);
        free(now);
        assert_int_equal(run_command("cd %s && qemu-img check -q with-data.qcow2 && "
                                     "qemu-img compare -q -F raw with-data.qcow2 mine.raw",
                                     folder),
                         0);
        if (raw)
            assert_int_equal(run_command("cd %s && cmp data mine.raw", folder), 0);
    }
}

/* Ours ----------------------------------------------------------------------------------------- */

static void make(const char *name, const struct vmm_qcow2_create_options *given)
{
    struct vmm_qcow2_create_options o = *given;
    struct vmm_error err = VMM_ERROR_INIT;
    o.size = sizeof(o);
    unlink(in_folder(name));
    if (vmm_qcow2_create(loop, in_folder(name), &o, &err))
        fail_msg("%s: %s", name, err.text);
}

static void information(void **state)
{
    struct vmm_qcow2_info info = VMM_QCOW2_INFO_INIT;
    struct vmm_block *block;
    struct vmm_block_extent e;
    (void)state;
    make("a.qcow2", &(struct vmm_qcow2_create_options){.length = DISK,
                                                       .cluster_size = 32768,
                                                       .refcount_bits = 2,
                                                       .compression = VMM_QCOW2_ZSTD,
                                                       .flags = VMM_QCOW2_EXTENDED_L2,
                                                       .backing = "b.qcow2",
                                                       .backing_format = "qcow2"});
    block = open_image("a.qcow2", VMM_QCOW2_ALONE);
    assert_int_equal(vmm_qcow2_get_info(block, &info), 0);
    assert_int_equal(info.length, DISK);
    assert_int_equal(info.version, 3);
    assert_int_equal(info.cluster_size, 32768);
    assert_int_equal(info.refcount_bits, 2);
    assert_int_equal(info.compression, VMM_QCOW2_ZSTD);
    assert_int_equal(info.flags, VMM_QCOW2_EXTENDED_L2);
    assert_string_equal(info.backing, "b.qcow2");
    assert_string_equal(info.backing_format, "qcow2");
    assert_int_equal(vmm_block_extent_at(block, 0, DISK, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_BACKING);
    assert_int_equal(e.length, DISK);
    uint8_t sector[512] = {1};
    assert_int_equal(vmm_block_read(block, 0, sector, 512), -ENOTSUP);
    assert_int_equal(vmm_block_write(block, 1024, contents, 1024), 0);
    assert_int_equal(vmm_block_extent_at(block, 1024, DISK - 1024, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_DATA);
    assert_int_equal(e.length, 1024);
    vmm_block_unref(block);
}

static void lengths_change(void **state)
{
    const struct vmm_qcow2_create_options *o = *state;
    struct vmm_block *block;
    uint8_t *mine = calloc(1, 4 * DISK);
    make("a.qcow2", o);
    block = open_image("a.qcow2", VMM_QCOW2_FOLLOW);
    assert_int_equal(vmm_block_write(block, 0, contents, o->length), 0);
    memcpy(mine, contents, o->length);
    static const uint64_t lengths[] = {3 * DISK + 512, DISK / 2 + 1024, DISK, 1024, 2 * DISK};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
        assert_int_equal(vmm_block_resize(block, lengths[i], NULL), 0);
        memset(mine + lengths[i], 0, 4 * DISK - lengths[i]);
        assert_int_equal(vmm_block_get_info(block, &info), 0);
        assert_int_equal(info.length, lengths[i]);
        compare_all(block, mine, lengths[i]);
        assert_int_equal(vmm_block_write(block, lengths[i] - 1024, contents + 7 * 512, 1024), 0);
        memcpy(mine + lengths[i] - 1024, contents + 7 * 512, 1024);
        check_clean(block);
    }
    assert_int_equal(vmm_block_resize(block, 0, NULL), -EINVAL);
    assert_int_equal(vmm_qcow2_snapshot_create(block, "s", NULL), 0);
    assert_int_equal(vmm_block_resize(block, DISK, NULL), -ENOTSUP);
    assert_int_equal(vmm_block_resize(block, 3 * DISK, NULL), o->version == 2 ? -ENOTSUP : 0);
    vmm_block_unref(block);
    if (have_qemu_img())
        assert_int_equal(run_command("qemu-img check -q %s", in_folder("a.qcow2")), 0);
    free(mine);
}

static void chains(void **state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_block *block;
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    (void)state;
    make("base.qcow2", &(struct vmm_qcow2_create_options){
                           .length = DISK, .backing = "contents.raw", .backing_format = "raw"});
    make("middle.qcow2", &(struct vmm_qcow2_create_options){.length = DISK + 4096,
                                                            .cluster_size = 4096,
                                                            .backing = "base.qcow2",
                                                            .backing_format = "qcow2"});
    make("top.qcow2", &(struct vmm_qcow2_create_options){
                          .length = DISK, .backing = "middle.qcow2", .backing_format = "qcow2"});
    assert_int_equal(try_open("top.qcow2", 0, &block, &err), -EPERM);
    block = open_image("top.qcow2", VMM_QCOW2_FOLLOW);
    compare_all(block, contents, DISK);
    uint8_t data[1024];
    memset(data, 0x5a, sizeof(data));
    assert_int_equal(vmm_block_write(block, 70144, data, sizeof(data)), 0);
    assert_int_equal(try_open("middle.qcow2", VMM_QCOW2_FOLLOW, &(struct vmm_block *){NULL}, NULL),
                     -EBUSY);
    vmm_block_unref(block);

    o.path = in_folder("top.qcow2");
    o.flags = VMM_QCOW2_FOLLOW;
    o.chain_limit = 2;
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, &err), -ELOOP);
    o.chain_limit = 3; /* raw files do not count: they go nowhere */
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, &err), 0);

    /* Into the middle, and the top is empty. */
    vmm_block_unref(block);
    block = open_image("top.qcow2", VMM_QCOW2_FOLLOW);
    assert_int_equal(vmm_qcow2_commit(block, NULL), -EACCES);
    vmm_block_unref(block);
    block = open_image("top.qcow2", VMM_QCOW2_FOLLOW | VMM_QCOW2_WRITE_BACKING);
    assert_int_equal(vmm_qcow2_commit(block, &err), 0);
    struct vmm_block_extent e;
    assert_int_equal(vmm_block_extent_at(block, 0, DISK, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_BACKING);
    check_clean(block);
    uint8_t *mine = malloc(DISK);
    memcpy(mine, contents, DISK);
    memcpy(mine + 70144, data, sizeof(data));
    compare_all(block, mine, DISK);
    vmm_block_unref(block);
    block = open_image("middle.qcow2", VMM_QCOW2_FOLLOW | VMM_QCOW2_READ_ONLY);
    compare_all(block, mine, DISK);
    check_clean(block);
    vmm_block_unref(block);

    /* From the middle to the base: the difference goes into the top. Then to none at all. */
    struct vmm_qcow2_rebase_options r = VMM_QCOW2_REBASE_OPTIONS_INIT;
    block = open_image("top.qcow2", VMM_QCOW2_FOLLOW);
    struct vmm_block *base = open_image("base.qcow2", VMM_QCOW2_FOLLOW | VMM_QCOW2_READ_ONLY);
    r.backing = "base.qcow2";
    assert_int_equal(vmm_qcow2_rebase(block, &r, &err), -EINVAL);
    r.backing_format = "qcow2";
    assert_int_equal(vmm_qcow2_rebase(block, &r, &err), -EINVAL);
    r.file = base;
    if (vmm_qcow2_rebase(block, &r, &err))
        fail_msg("%s", err.text);
    vmm_block_unref(base);
    compare_all(block, mine, DISK);
    check_clean(block);
    vmm_block_unref(block);
    if (have_qemu_img()) {
        save_file(in_folder("mine.raw"), mine, DISK);
        assert_int_equal(run_command("cd %s && qemu-img check -q top.qcow2 && qemu-img compare -q "
                                     "-F raw top.qcow2 mine.raw && qemu-img info top.qcow2 | "
                                     "grep -q 'backing file: base.qcow2'",
                                     folder),
                         0);
    }
    block = open_image("top.qcow2", VMM_QCOW2_FOLLOW);
    r = (struct vmm_qcow2_rebase_options)VMM_QCOW2_REBASE_OPTIONS_INIT;
    if (vmm_qcow2_rebase(block, &r, &err))
        fail_msg("%s", err.text);
    compare_all(block, mine, DISK);
    vmm_block_unref(block);
    block = open_image("top.qcow2", 0);
    compare_all(block, mine, DISK);
    check_clean(block);
    vmm_block_unref(block);
    free(mine);
}

static void names_that_are_refused(void **state)
{
    static const struct {
        const char *backing, *format;
        int rc;
    } cases[] = {
        {"nbd://host/disk", "raw", -ENOTSUP}, {"json:{}", "raw", -ENOTSUP},
        {"self.qcow2", "qcow2", -ELOOP},      {"nowhere.raw", "raw", -ENOENT},
        {"contents.raw", "vmdk", -ENOTSUP},   {"contents.raw", "qcow2", -EINVAL},
        {"/dev/null", "raw", -EINVAL},        {"pipe", "raw", -EINVAL},
    };
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_block *block = NULL;
    (void)state;
    (void)run_command("mkfifo %s", in_folder("pipe"));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make("self.qcow2", &(struct vmm_qcow2_create_options){.length = DISK,
                                                              .backing = cases[i].backing,
                                                              .backing_format = cases[i].format});
        int rc = try_open("self.qcow2", VMM_QCOW2_FOLLOW, &block, &err);
        if (rc != cases[i].rc)
            fail_msg("%s: %d, %s", cases[i].backing, rc, err.text);
        assert_int_equal(err.code, rc);
    }
    if (have_qemu_img()) { /* a format that the image does not say */
        assert_int_equal(run_command("cd %s && qemu-img create -q -f qcow2 -u -o compat=1.1 -b "
                                     "contents.raw -F raw old.qcow2 6M && qemu-img rebase -u -b "
                                     "contents.raw -F '' old.qcow2 2>/dev/null || true",
                                     folder),
                         0);
        /* qemu-img measures how fast it derives keys, and gives up where the clock of its CPU time stands
         * still: so more than one try. */
        assert_int_equal(
            run_command("cd %s && for i in 1 2 3 4 5; do qemu-img create -q -f qcow2 -o "
                        "encrypt.format=luks,encrypt.iter-time=50,"
                        "encrypt.key-secret=s --object secret,id=s,data=x "
                        "locked.qcow2 1M 2>/dev/null && exit; done; exit 1",
                        folder),
            0);
        assert_int_equal(try_open("locked.qcow2", 0, &block, &err), -ENOTSUP);
        assert_non_null(strstr(err.text, "encrypted"));
    }
}

static void options_that_are_refused(void **state)
{
    static const struct vmm_qcow2_create_options bad[] = {
        {.length = 0},
        {.length = 513},
        {.length = DISK, .version = 4},
        {.length = DISK, .cluster_size = 256},
        {.length = DISK, .cluster_size = 3000},
        {.length = DISK, .cluster_size = 4u << 20},
        {.length = DISK, .refcount_bits = 3},
        {.length = DISK, .refcount_bits = 128},
        {.length = DISK, .compression = 2},
        {.length = DISK, .flags = 0x100},
        {.length = DISK, .version = 2, .refcount_bits = 8},
        {.length = DISK, .version = 2, .flags = VMM_QCOW2_LAZY_REFCOUNTS},
        {.length = DISK, .cluster_size = 4096, .flags = VMM_QCOW2_EXTENDED_L2},
        {.length = DISK, .flags = VMM_QCOW2_DATA_FILE_RAW},
        {.length = DISK, .backing = "x"},
        {.length = DISK, .reserved = 1},
    };
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_qcow2_create_options c = VMM_QCOW2_CREATE_OPTIONS_INIT;
    struct vmm_block *block;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        c = bad[i];
        c.size = sizeof(c);
        assert_int_equal(vmm_qcow2_create(loop, in_folder("bad.qcow2"), &c, NULL), -EINVAL);
        assert_int_not_equal(access(in_folder("bad.qcow2"), F_OK), 0);
    }
    c = (struct vmm_qcow2_create_options){
        .size = sizeof(c), .length = UINT64_C(1) << 50, .cluster_size = 512};
    assert_int_equal(vmm_qcow2_create(loop, in_folder("bad.qcow2"), &c, NULL), -EFBIG);
    c.cluster_size = 65536;
    c.length = DISK;
    assert_int_equal(vmm_qcow2_create(loop, in_folder("contents.raw"), &c, NULL), -EEXIST);
    assert_int_equal(vmm_qcow2_create(loop, NULL, &c, NULL), -EINVAL);
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), -EINVAL);
    assert_int_equal(vmm_block_qcow2_new(loop, NULL, &block, NULL), -EINVAL);
    o.path = in_folder("contents.raw");
    o.flags = 0x8000;
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), -EINVAL);
    o.flags = 0;
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), -EINVAL); /* no such image */
    o.path = in_folder("nothing");
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), -ENOENT);
    make("a.qcow2", &(struct vmm_qcow2_create_options){.length = DISK});
    o.path = in_folder("a.qcow2");
    o.snapshot = "none";
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), -ENOENT);
}

int main(void)
{
    static const struct vmm_qcow2_create_options resized[] = {
        {.length = DISK},
        {.length = DISK, .cluster_size = 512},
        {.length = DISK, .cluster_size = 4096, .version = 2},
        {.length = DISK, .cluster_size = 16384, .flags = VMM_QCOW2_EXTENDED_L2},
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_what_qemu_made),
        cmocka_unit_test(data_files),
        cmocka_unit_test(information),
        cmocka_unit_test_prestate(lengths_change, (void *)(uintptr_t)&resized[0]),
        cmocka_unit_test_prestate(lengths_change, (void *)(uintptr_t)&resized[1]),
        cmocka_unit_test_prestate(lengths_change, (void *)(uintptr_t)&resized[2]),
        cmocka_unit_test_prestate(lengths_change, (void *)(uintptr_t)&resized[3]),
        cmocka_unit_test(chains),
        cmocka_unit_test(names_that_are_refused),
        cmocka_unit_test(options_that_are_refused),
    };
    if (!mkdtemp(folder) || vmm_loop_new(NULL, &loop))
        return 1;
    make_contents();
    int failed = cmocka_run_group_tests_name("qcow2-images", tests, NULL, NULL);
    vmm_loop_unref(loop);
    free(contents);
    (void)run_command("rm -rf %s", folder);
    return failed;
}
