/* SPDX-License-Identifier: BSD-3-Clause */
/* A million random requests, many in flight, against a flat model, in images of many layouts; what is
 * left is checked and compared by qemu-img where there is one. LIBVMM_QCOW2_REQUESTS sets another
 * number. */
#include "qcow2-model.h"

struct layout {
    const char *name;
    uint64_t length;
    uint64_t cache_size;
    struct vmm_qcow2_create_options create;
};

static const struct layout layouts[] = {
    {"64 KiB", 16u << 20, 0, {.cluster_size = 65536}},
    {"512 bytes", 16u << 20, 65536, {.cluster_size = 512}}, /* more tables than the cache holds */
    {"version 2", 4u << 20, 0, {.cluster_size = 4096, .version = 2}},
    {"2 MiB", 32u << 20, 0, {.cluster_size = 2u << 20}},
    {"refcounts of 1 bit", 8u << 20, 0, {.cluster_size = 4096, .refcount_bits = 1}},
    {"refcounts of 2 bits", 2u << 20, 0, {.cluster_size = 512, .refcount_bits = 2}},
    {"refcounts of 64 bits", 2u << 20, 0, {.cluster_size = 512, .refcount_bits = 64}},
    {"lazy", 8u << 20, 0, {.cluster_size = 8192, .flags = VMM_QCOW2_LAZY_REFCOUNTS}},
    {"subclusters", 16u << 20, 0, {.cluster_size = 65536, .flags = VMM_QCOW2_EXTENDED_L2}},
    {"backing file",
     8u << 20,
     0,
     {.cluster_size = 16384, .backing = "backing.raw", .backing_format = "raw"}},
    {"backing file, version 2",
     4u << 20,
     0,
     {.cluster_size = 4096, .version = 2, .backing = "backing.raw", .backing_format = "raw"}},
    {"backing file, subclusters",
     8u << 20,
     0,
     {.cluster_size = 32768,
      .flags = VMM_QCOW2_EXTENDED_L2,
      .backing = "backing.raw",
      .backing_format = "raw"}},
};

static char folder[] = "/tmp/libvmm-qcow2-XXXXXX";

static uint64_t requests(void)
{
    const char *text = getenv("LIBVMM_QCOW2_REQUESTS");
    uint64_t total = text ? strtoull(text, NULL, 0) : 1000000;
    return total / (sizeof(layouts) / sizeof(layouts[0]) + 1);
}

static void run_all(const struct layout *l, uint64_t count, const char *path, uint32_t threads)
{
    struct model m = {
        .create = l->create, .cache_size = l->cache_size, .path = path, .threads = threads};
    model_begin(&m, l->length);
    for (int turn = 0; turn < 4; turn++) {
        model_run(&m, count / 4);
        model_verify(&m);
        model_close(&m);
        if (turn % 2)
            model_check_with_qemu(&m, folder);
        model_open(&m);
        model_verify(&m);
    }
    model_end(&m);
}

static void against_the_model(void **state)
{
    run_all(*state, requests(), NULL, 0);
}

/* By io_uring where there is one, and its threads: requests take their own time. */
static void on_a_real_file(void **state)
{
    static const struct layout layout = {"", 8u << 20, 0, {.cluster_size = 4096}};
    char path[128];
    (void)state;
    snprintf(path, sizeof(path), "%s/real.qcow2", folder);
    run_all(&layout, requests() / 16, path, 4); /* flushes take long there */
    unlink(path);
}

int main(void)
{
    enum { count = sizeof(layouts) / sizeof(layouts[0]) };
    struct CMUnitTest tests[count + 1];
    if (!mkdtemp(folder))
        return 1;
    if (!have_qemu_img())
        fprintf(stderr, "qemu-img is missing: the images are not checked by it\n");
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){layouts[i].name, against_the_model, NULL, NULL,
                                       (void *)(uintptr_t)&layouts[i]};
    tests[count] = (struct CMUnitTest){"real file", on_a_real_file, NULL, NULL, NULL};
    int failed = cmocka_run_group_tests_name("qcow2-random", tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
