/* SPDX-License-Identifier: BSD-3-Clause */
/* One script of random requests, by us to one image and by qemu-io to another: the two must be equal, and both
 * clean. Reads in between are checked against a flat model on both sides. LIBVMM_QCOW2_SCRIPT sets another number
 * of requests. */
#include "qcow2-model.h"

#define LENGTH (8u << 20)
#define UNIT   512u

struct layout {
    const char *name, *qemu; /* qemu-img's options */
    struct vmm_qcow2_create_options create;
};

static const struct layout layouts[] = {
    {"64 KiB", "cluster_size=65536", {.cluster_size = 65536}},
    {"4 KiB", "cluster_size=4096", {.cluster_size = 4096}},
    {"version 2", "compat=0.10,cluster_size=512", {.cluster_size = 512, .version = 2}},
    {"subclusters",
     "cluster_size=16384,extended_l2=on",
     {.cluster_size = 16384, .flags = VMM_QCOW2_EXTENDED_L2}},
    {"lazy",
     "cluster_size=8192,lazy_refcounts=on",
     {.cluster_size = 8192, .flags = VMM_QCOW2_LAZY_REFCOUNTS}},
};

static char folder[] = "/tmp/libvmm-qemuio-XXXXXX";
static uint8_t data[LENGTH], buffer[LENGTH]; /* the model; what was read */
static uint64_t seed;

static uint64_t pick(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

/* Bytes that one pattern fills, from `at` on. */
static uint64_t same(uint64_t at, uint64_t length)
{
    uint64_t n = 1;
    while (n < length && data[at + n] == data[at])
        n++;
    return n - n % UNIT;
}

static void step(struct vmm_block *block, FILE *script)
{
    uint64_t at = pick(LENGTH / UNIT) * UNIT;
    uint64_t length = (1 + pick(pick(8) ? 32 : 512)) * UNIT, kind = pick(10);
    uint32_t pattern = (uint32_t)(1 + pick(255));
    length = length < LENGTH - at ? length : LENGTH - at;
    if (kind < 5) {
        memset(data + at, (int)pattern, length);
        fprintf(script, "write -P %u %llu %llu\n", pattern, (unsigned long long)at,
                (unsigned long long)length);
        assert_int_equal(vmm_block_write(block, at, data + at, length), 0);
    } else if (kind < 8) {
        bool unmap = kind == 7;
        memset(data + at, 0, length);
        fprintf(script, "write -z %s %llu %llu\n", unmap ? "-u" : "", (unsigned long long)at,
                (unsigned long long)length);
        assert_int_equal(vmm_block_range(block, VMM_BLOCK_WRITE_ZEROES,
                                         unmap ? VMM_BLOCK_MAY_UNMAP : 0, at, length),
                         0);
    } else if (kind < 9) {
        length = same(at, length);
        fprintf(script, "read -P %u %llu %llu\n", data[at], (unsigned long long)at,
                (unsigned long long)length);
        assert_int_equal(vmm_block_read(block, at, buffer, length), 0);
        assert_memory_equal(buffer, data + at, length);
    } else {
        fprintf(script, "flush\n");
        assert_int_equal(vmm_block_flush(block), 0);
    }
}

static void same_script(void **state)
{
    const struct layout *l = *state;
    const char *text = getenv("LIBVMM_QCOW2_SCRIPT");
    uint64_t count = text ? strtoull(text, NULL, 0) : 400;
    struct vmm_qcow2_create_options create = l->create;
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_loop *loop;
    struct vmm_block *block;
    char path[128], line[256];
    FILE *script;
    seed = 0x9e3779b97f4a7c15u + (uint64_t)(l - layouts);
    memset(data, 0, sizeof(data));
    create.size = sizeof(create);
    create.length = LENGTH;
    snprintf(path, sizeof(path), "%s/ours", folder);
    o.path = path;
    assert_int_equal(vmm_loop_new(NULL, &loop), 0);
    assert_int_equal(vmm_qcow2_create(loop, path, &create, NULL), 0);
    assert_int_equal(vmm_block_qcow2_new(loop, &o, &block, NULL), 0);
    assert_int_equal(
        run_command("qemu-img create -q -f qcow2 -o %s %s/theirs %u", l->qemu, folder, LENGTH), 0);
    snprintf(line, sizeof(line), "qemu-io -f qcow2 %s/theirs > %s/said 2>&1", folder, folder);
    script = popen(line, "w");
    assert_non_null(script);
    for (uint64_t i = 0; i < count; i++)
        step(block, script);
    fputs("quit\n", script);
    assert_int_equal(pclose(script), 0);
    vmm_block_unref(block);
    vmm_loop_unref(loop);
    assert_int_not_equal(run_command("grep -iE 'fail|error' %s/said", folder), 0);
    assert_int_equal(run_command("qemu-img check -q %s/ours", folder), 0);
    assert_int_equal(run_command("qemu-img check -q %s/theirs", folder), 0);
    assert_int_equal(
        run_command("qemu-img compare -q -f qcow2 -F qcow2 %s/ours %s/theirs", folder, folder), 0);
    (void)run_command("rm -f %s/ours %s/theirs", folder, folder);
}

int main(void)
{
    enum { count = sizeof(layouts) / sizeof(layouts[0]) };
    struct CMUnitTest tests[count];
    if (!have_qemu_img() || system("qemu-io --version > /dev/null 2>&1")) {
        puts("qemu-img or qemu-io is missing (Debian: qemu-utils)");
        return 77;
    }
    if (!mkdtemp(folder))
        return 1;
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){layouts[i].name, same_script, NULL, NULL,
                                       (void *)(uintptr_t)&layouts[i]};
    int failed = cmocka_run_group_tests_name("qcow2-qemuio", tests, NULL, NULL);
    (void)run_command("rm -rf %s", folder);
    return failed;
}
